//! Environment variables in values: `${NAME}`, `${NAME:-default}`, and `$${` for a `${` that is meant as such.
//!
//! Pure: who looks a name up is given. Must stay true: what a variable holds never brings structure, since it is put into
//! scalars that the parser has taken apart already; names, uses and lengths have limits; a default is text and nothing else.

use std::ffi::OsString;

use super::shown::{harmless, quoted};

/// A scalar with its variables put in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filled {
    /// What it says now.
    pub(super) text: String,
    /// What was put in, in order.
    pub(super) uses: Vec<Used>,
}

/// A variable where it is used, and what it stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) name: String,
    pub(super) value: String,
    /// It is not set, or set to nothing, and the file says what then.
    pub(super) is_default: bool,
}

/// Why a scalar cannot be filled: what is wrong, and what to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) told: String,
    pub(super) advice: String,
}

/// Whether something in it is to be put in, or is kept from that.
pub(super) fn concerns(text: &str) -> bool {
    text.contains("${")
}

/// The text with its variables put in. `look` gives what a name is set to.
pub(super) fn fill(text: &str, look: impl Fn(&str) -> Option<OsString>) -> Result<Filled, Problem> {
    let mut filled = Filled { text: String::with_capacity(text.len()), uses: Vec::new() };
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.text.push_str(before);
            filled.text.push_str("${");
            rest = &from[2..];
            continue;
        }
        filled.text.push_str(before);
        let Some(end) = from.find('}') else {
            return Err(problem("`${` is not closed by `}`".to_owned(), ESCAPE));
        };
        let used = one(&from[2..end], &look)?;
        filled.text.push_str(&used.value);
        filled.uses.push(used);
        rest = &from[end + 1..];
    }
    filled.text.push_str(rest);
    Ok(filled)
}

/// What stands between the braces.
fn one(inner: &str, look: impl Fn(&str) -> Option<OsString>) -> Result<Used, Problem> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.len() <= NAME_MAX;
    if !is_name {
        let told = format!(
            "{} is no variable: `${{NAME}}` or `${{NAME:-default}}`",
            quoted(&format!("${{{inner}}}"))
        );
        return Err(problem(told, ESCAPE));
    }
    if default.is_some_and(concerns) {
        let told = format!("the default of `${{{name}}}` cannot hold another variable");
        return Err(problem(told, "write the value itself behind `:-`"));
    }
    let set = match look(name).map(OsString::into_string) {
        Some(Ok(value)) => Some(value),
        Some(Err(_)) => return Err(problem(format!("what `${{{name}}}` is set to is not UTF-8"), SET)),
        None => None,
    };
    let used = match (set, default) {
        // As a shell does: what is set to nothing has its default too.
        (Some(value), None) => Used { name: name.to_owned(), value, is_default: false },
        (Some(value), Some(_)) if !value.is_empty() => {
            Used { name: name.to_owned(), value, is_default: false }
        }
        (_, Some(default)) => Used { name: name.to_owned(), value: default.to_owned(), is_default: true },
        (None, None) => {
            let told =
                format!("`${{{name}}}` is not set in the environment of this process, and has no default");
            return Err(problem(told, &format!("write `${{{name}:-VALUE}}`, or set it: {SET}")));
        }
    };
    if used.value.len() > VALUE_BYTES_MAX {
        let told = format!(
            "`${{{name}}}` is set to {} bytes; a variable may hold {} KiB",
            used.value.len(),
            VALUE_BYTES_MAX >> 10
        );
        return Err(problem(told, "what is longer stands in the file"));
    }
    if let Some(bad) = used.value.chars().find(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r')) {
        let told =
            format!("what `${{{name}}}` is set to holds the control character U+{:04X}", u32::from(bad));
        return Err(problem(told, SET));
    }
    Ok(used)
}

fn problem(told: String, advice: &str) -> Problem {
    Problem { told, advice: advice.to_owned() }
}

/// What these stand for, for people. Of those that are secret by their name, only that they are set.
pub(super) fn explained(uses: &[Used]) -> String {
    let one = |used: &Used| {
        let name = &used.name;
        match (used.is_default, is_secret(name)) {
            (true, _) => format!("`${{{name}}}` is not set, and its default is {}", quoted(&used.value)),
            (false, true) => format!("`${{{name}}}` is set in the environment"),
            (false, false) => format!("`${{{name}}}` is {} in the environment", quoted(&used.value)),
        }
    };
    uses.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Whether the name says that what it holds is for nobody's eyes.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// The value for a table, in a few characters.
pub(super) fn shown(value: &str) -> String {
    match value {
        "" => "(empty)".to_owned(),
        value => harmless(value),
    }
}

/// More than that a file says better itself.
pub(super) const USES_MAX: usize = 1_000;
const VALUE_BYTES_MAX: usize = 4 << 10;
const NAME_MAX: usize = 128;
const SECRET_WORDS: [&str; 6] = ["PASS", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "KEY"];
const ESCAPE: &str = "a `${` that is meant as such is written `$${`";
const SET: &str =
    "`Environment=` or `EnvironmentFile=` of the unit, and a restart: a process that runs sees no new ones";

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use proptest::prelude::*;

    use super::*;

    fn look(name: &str) -> Option<OsString> {
        Some(match name {
            "PORT" => "5432".into(),
            "EMPTY" => "".into(),
            "ODD" => "a: [1]\n- ${PORT}".into(),
            "BYTES" => OsString::from_vec(vec![0xff]),
            "LONG" => "x".repeat(VALUE_BYTES_MAX).into(),
            "LONGER" => "x".repeat(VALUE_BYTES_MAX + 1).into(),
            "BELL" => "\u{7}".into(),
            _ => return None,
        })
    }

    #[test]
    fn variables_are_put_in_and_escapes_are_not() {
        let long = "x".repeat(VALUE_BYTES_MAX);
        let cases = [
            ("10.0.0.1:${PORT}", "10.0.0.1:5432"),
            ("${PORT}-${PORT:-1}", "5432-5432"),
            ("${NONE:-7}${NONE:-}", "7"),
            ("${EMPTY:-7}", "7"),
            ("${EMPTY}", ""),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${PORT}", "${PORT}"),
            ("$$${PORT} $PORT $ }", "$${PORT} $PORT $ }"),
            // What a variable holds is not looked at again.
            ("${ODD}", "a: [1]\n- ${PORT}"),
            ("${LONG}", long.as_str()),
        ];
        for (text, expected) in cases {
            assert_eq!(fill(text, look).unwrap().text, expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_put_in_says_why() {
        let cases = [
            ("${PORT", "not closed"),
            ("${}", "is no variable"),
            ("${A B}", "is no variable"),
            ("${1}", "is no variable"),
            ("${PORT:?x}", "is no variable"),
            ("${NONE}", "is not set in the environment of this process"),
            ("${NONE:-${PORT}}", "cannot hold another variable"),
            ("${BYTES}", "not UTF-8"),
            ("${LONGER}", "4097 bytes; a variable may hold 4 KiB"),
            ("${BELL}", "control character U+0007"),
        ];
        for (text, expected) in cases {
            let problem = fill(text, look).unwrap_err();
            assert!(problem.told.contains(expected), "{text}: {problem:?}");
            assert!(!problem.told.contains('\u{7}') && !problem.advice.is_empty(), "{problem:?}");
        }
    }

    #[test]
    fn names_that_say_so_are_secret() {
        for (name, expected) in
            [("DB_PASSWORD", true), ("api_token", true), ("PORT", false), ("HOST_A", false)]
        {
            assert_eq!(is_secret(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered_and_an_escaped_one_is_itself(text in ".{0,40}|[${}:A-Z-]{0,30}") {
            let _ = fill(&text, look);
            // Two `$` in front of a brace are no escape of ours: they are left out.
            prop_assume!(!text.contains("$$"));
            prop_assert_eq!(fill(&text.replace("${", "$${"), look).unwrap().text, text);
        }
    }
}
