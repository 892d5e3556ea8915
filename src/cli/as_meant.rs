//! Command lines of other balancers: what was meant by whoever types them out of habit.
//!
//! Pure. Only a line that begins with an option is looked at, and `check` with an option in front of its file; whatever is not
//! understood whole is left as it is, for the usual complaint.

use std::ffi::OsString;

/// The same line in our own words.
pub(super) fn as_meant(typed: Vec<OsString>) -> Vec<OsString> {
    let mut words = typed.iter().skip(1);
    let Some(first) = words.next() else { return typed };
    let meant = if first == "check" {
        after_check(words)
    } else if first.to_string_lossy().starts_with('-') {
        options(typed.iter().skip(1))
    } else {
        None
    };
    match (meant, typed.first()) {
        (Some(meant), Some(program)) => std::iter::once(program.clone()).chain(meant).collect(),
        _ => typed,
    }
}

/// `check -f PATH`: the file stands there without an option.
fn after_check<'a>(words: impl Iterator<Item = &'a OsString>) -> Option<Vec<OsString>> {
    let mut meant = vec![OsString::from("check")];
    let mut words = words.peekable();
    let mut is_changed = false;
    while let Some(word) = words.next() {
        let names_file = ["-f", "-c", "--config"].iter().any(|option| word == option);
        if names_file && words.peek().is_some_and(|next| !is_option(next)) {
            is_changed = true;
        } else {
            meant.push(word.clone());
        }
    }
    is_changed.then_some(meant)
}

/// `-c -f PATH` (HAProxy) and `-t -c PATH` (nginx) check, `-f PATH` and `-c PATH` serve, `-s reload` reloads.
fn options<'a>(words: impl Iterator<Item = &'a OsString>) -> Option<Vec<OsString>> {
    let (mut checks, mut files) = (false, Vec::<OsString>::new());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        let value = words.peek().filter(|next| !is_option(next));
        match (word.to_str()?, value) {
            ("-v" | "-vv", None) => return Some(vec!["--version".into()]),
            ("-s", Some(signal)) if *signal == "reload" => return Some(vec!["reload".into()]),
            ("-f" | "-c" | "--config", Some(path)) => {
                files.push((*path).clone());
                words.next();
            }
            ("-tc" | "-cf", Some(path)) => {
                checks = true;
                files.push((*path).clone());
                words.next();
            }
            ("-c" | "-t" | "-T", _) => checks = true,
            // In front, in the background, with a supervisor: that is the unit's work.
            ("-D" | "-W" | "-Ws" | "-db" | "-q", None) => {}
            _ => return None,
        }
    }
    if checks {
        return Some(std::iter::once("check".into()).chain(files).collect());
    }
    let named = files.into_iter().flat_map(|path| ["--config".into(), path]);
    let meant: Vec<OsString> = std::iter::once("run".into()).chain(named).collect();
    (meant.len() > 1).then_some(meant)
}

/// A single `-` is a file: standard input.
fn is_option(word: &OsString) -> bool {
    word != "-" && word.to_string_lossy().starts_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_others_do_what_was_meant_and_our_own_stay() {
        let cases = [
            ("-c -f /x.yaml", "check /x.yaml"),
            ("-f /x.yaml -c", "check /x.yaml"),
            ("-cf /x.yaml", "check /x.yaml"),
            ("-t -c /x.yaml", "check /x.yaml"),
            ("-tc /x.yaml", "check /x.yaml"),
            ("-t", "check"),
            ("-c -f -", "check -"),
            ("-f /x.yaml", "run --config /x.yaml"),
            ("-f /x.yaml -f /y", "run --config /x.yaml --config /y"),
            ("-c -f /x.yaml -f /y", "check /x.yaml /y"),
            ("-c /x.yaml", "run --config /x.yaml"),
            ("-W -db -f /x.yaml", "run --config /x.yaml"),
            ("-s reload", "reload"),
            ("-v", "--version"),
            ("-vv", "--version"),
            ("check -f /x.yaml", "check /x.yaml"),
            ("check --ask -c /x.yaml", "check --ask /x.yaml"),
            // As they are.
            ("-s stop", "-s stop"),
            ("-h", "-h"),
            ("-V", "-V"),
            ("--help", "--help"),
            ("-x", "-x"),
            ("-D", "-D"),
            ("check /x.yaml", "check /x.yaml"),
            ("check -", "check -"),
            ("check -f", "check -f"),
            ("run -f /x.yaml", "run -f /x.yaml"),
            ("", ""),
        ];
        for (typed, meant) in cases {
            let words = |line: &str| -> Vec<OsString> {
                std::iter::once("evenkeel").chain(line.split_whitespace()).map(OsString::from).collect()
            };
            assert_eq!(as_meant(words(typed)), words(meant), "{typed}");
        }
    }
}
