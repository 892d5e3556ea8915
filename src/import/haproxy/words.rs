//! Words of a line of HAProxy: quotes, escapes, comments, variables.

use std::collections::HashMap;

/// A line with its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) words: Vec<String>,
}

/// All lines that say something. `variables` are those that the file itself sets; others stay as `${NAME}`.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let mut variables = HashMap::new();
    let mut all = Vec::new();
    let mut carried: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        // A line may go on in the next one.
        let (number, whole) = match carried.take() {
            Some((number, before)) => (number, before + line),
            None => (at + 1, line.to_owned()),
        };
        let backslashes = whole.len() - whole.trim_end_matches('\\').len();
        if backslashes % 2 == 1 && whole.len() < LINE_MAX {
            carried = Some((number, whole[..whole.len() - 1].to_owned()));
            continue;
        }
        let words = words(&whole, &variables);
        if let [verb, name, value, ..] = &*words
            && matches!(verb.as_str(), "setenv" | "presetenv")
        {
            variables.insert(name.clone(), value.clone());
        }
        if !words.is_empty() {
            all.push(Line { number, words });
        }
    }
    all
}

fn words(line: &str, variables: &HashMap<String, String>) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (None, '#') => break,
            (None, ' ' | '\t' | '\r') => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => word.get_or_insert_default().push(letter),
            (_, '\\') => {
                let word = word.get_or_insert_default();
                match letters.next() {
                    Some('n') => word.push('\n'),
                    Some('r') => word.push('\r'),
                    Some('t') => word.push('\t'),
                    Some('x') => {
                        let digits: String =
                            std::iter::from_fn(|| letters.next_if(char::is_ascii_hexdigit)).take(2).collect();
                        word.extend(u8::from_str_radix(&digits, 16).ok().map(char::from));
                    }
                    Some(other) => word.push(other),
                    None => {}
                }
            }
            // Variables are such between double quotes only.
            (Some('"'), '$') => {
                let word = word.get_or_insert_default();
                let is_braced = letters.next_if_eq(&'{').is_some();
                let is_name = |one: &char| one.is_ascii_alphanumeric() || *one == '_';
                let name: String = std::iter::from_fn(|| letters.next_if(is_name)).collect();
                let more: String = if is_braced {
                    let more = std::iter::from_fn(|| letters.next_if(|one| *one != '}')).collect();
                    letters.next();
                    more
                } else {
                    String::new()
                };
                let default = more.strip_prefix('-');
                match (variables.get(&name), default) {
                    (Some(value), _) => word.push_str(value),
                    (None, Some(default)) => word.push_str(&format!("${{{name}:-{default}}}")),
                    (None, None) => word.push_str(&format!("${{{name}}}")),
                }
            }
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// HAProxy's own is 2,048 words of a line.
const LINE_MAX: usize = 64 * 1_024;
