//! `acl` and `tcp-request` of HAProxy as `allow` and `deny`, as far as they ask for the client's address.

use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units::network;
use super::super::yaml::Yaml;
use super::sections::Section;
use super::words::Line;

/// What the lists of the listener are.
#[derive(Default)]
struct Lists {
    allow: Vec<Yaml>,
    deny: Vec<Yaml>,
    /// Let in before anything else is asked.
    accepted: Vec<Yaml>,
    /// Everybody who was not let in is refused.
    closed: bool,
}

/// Reads the rules of a proxy into the listener.
pub(super) fn read(section: &Section, listener: &mut Part, notes: &mut Notes) {
    let mut lists = Lists::default();
    for line in &section.lines {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let rule = match &*words {
            [
                "tcp-request",
                "connection" | "content" | "session",
                verdict @ ("accept" | "reject"),
                rest @ ..,
            ] => (*verdict, rest),
            ["block" | "deny", rest @ ..] => ("reject", rest),
            _ => continue,
        };
        if !apply(section, rule, &mut lists) {
            let at = notes.at(line.number);
            notes.lost(
                &at,
                format!(
                    "`{}`: only the client's address is asked here, with `allow` and `deny`",
                    words.join(" ")
                ),
            );
        }
    }
    let Lists { mut allow, deny, accepted, closed } = lists;
    if closed {
        allow.extend(accepted);
    } else if !deny.is_empty() && !accepted.is_empty() && allow.is_empty() {
        // Who is in neither list is let in there.
        allow.extend(accepted);
        allow.extend(["0.0.0.0/0", "::/0"].map(Yaml::word));
    }
    for (key, list) in [("allow", allow), ("deny", deny)] {
        if !list.is_empty() {
            listener.set(&[key], Yaml::List(list));
        }
    }
}

/// False: it asks for something else.
fn apply(section: &Section, (verdict, condition): (&str, &[&str]), lists: &mut Lists) -> bool {
    if lists.closed {
        return true;
    }
    let (whom, is_negated) = match condition {
        [] => {
            lists.closed = verdict == "reject";
            return true;
        }
        [word @ ("if" | "unless"), rest @ ..] => match networks(section, rest) {
            Some((whom, negated)) => (whom, negated != (*word == "unless")),
            // The hello of TLS is awaited for a rule that is lost itself.
            None => return verdict == "accept" && rest.iter().any(|word| word.contains("ssl_hello_type")),
        },
        _ => return false,
    };
    match (verdict, is_negated) {
        ("reject", false) => lists.deny.extend(whom),
        ("reject", true) => lists.allow.extend(whom),
        (_, false) => lists.accepted.extend(whom),
        (_, true) => return false,
    }
    true
}

/// The networks that a condition means, and whether it means all others.
fn networks(section: &Section, words: &[&str]) -> Option<(Vec<Yaml>, bool)> {
    let mut all = Vec::new();
    let mut negated = None;
    let mut rest = words;
    loop {
        let (term, is_negated, after) = match rest {
            ["{", inside @ ..] => {
                let end = inside.iter().position(|word| *word == "}")?;
                (source(&inside[..end])?, false, &inside[end + 1..])
            }
            ["!{", inside @ ..] | ["!", "{", inside @ ..] => {
                let end = inside.iter().position(|word| *word == "}")?;
                (source(&inside[..end])?, true, &inside[end + 1..])
            }
            [name, after @ ..] => {
                let bare = name.strip_prefix('!');
                (named(section, bare.unwrap_or(name))?, bare.is_some(), after)
            }
            [] => return None,
        };
        all.extend(term);
        // Two that are not any of these are another thing than one of them.
        if negated.replace(is_negated).is_some_and(|before| before || is_negated) {
            return None;
        }
        match after {
            [] => return Some((all, is_negated)),
            ["or" | "||", more @ ..] => rest = more,
            _ => return None,
        }
    }
}

/// Of all lines that say what a name means.
fn named(section: &Section, name: &str) -> Option<Vec<Yaml>> {
    let is_of = |line: &&Line| line.words[0] == "acl" && line.words.get(1).is_some_and(|one| one == name);
    let mut all = Vec::new();
    for line in section.lines.iter().filter(is_of) {
        let words: Vec<&str> = line.words.iter().skip(2).map(String::as_str).collect();
        all.extend(source(&words)?);
    }
    (!all.is_empty()).then_some(all)
}

/// `src NETWORK…` and `src -f FILE`.
pub(super) fn source(words: &[&str]) -> Option<Vec<Yaml>> {
    let ["src", rest @ ..] = words else { return None };
    let mut all = Vec::new();
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match *word {
            "-f" => all.push(Yaml::Map(vec![("file".to_owned(), Yaml::word(*rest.next()?))])),
            "-n" | "--" | "-i" => {}
            "-m" => drop(rest.next()),
            word => all.push(Yaml::Word(network(word)?)),
        }
    }
    Some(all)
}
