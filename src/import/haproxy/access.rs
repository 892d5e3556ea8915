//! `acl` and `tcp-request` of HAProxy as `allow` and `deny`, as far as they ask for the client's address.

use super::super::first_match::{Rules, everybody};
use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units::network;
use super::super::yaml::Yaml;
use super::sections::Section;
use super::words::Line;

/// Reads the rules of a proxy into the listener.
pub(super) fn read(section: &Section, listener: &mut Part, notes: &mut Notes) {
    let (mut rules, mut files, mut asked) = (Rules::default(), Vec::new(), 0);
    let (mut is_any_lost, mut named) = (false, 0);
    for line in &section.lines {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let (allows, condition) = match &*words {
            ["tcp-request", "connection" | "content" | "session", "accept", rest @ ..] => (true, rest),
            ["tcp-request", "connection" | "content" | "session", "reject", rest @ ..] => (false, rest),
            ["block", rest @ ..] => (false, rest),
            _ => continue,
        };
        asked += 1;
        let at = notes.at(line.number);
        let whom =
            if asked > RULES_MAX || named > NETWORKS_MAX { None } else { read_one(section, condition) };
        if let Some(Whom::Networks(networks, _)) = &whom {
            named += networks.len();
        }
        match whom {
            Some(Whom::All) => rules.all(allows),
            Some(Whom::Tls) if allows => {
                notes.different(
                    &at,
                    "what is no TLS is let in, too; `routes` with `sni: '*'` and no `pool` keep it out",
                );
                rules.all(true);
            }
            Some(Whom::Networks(networks, is_negated)) => rules.add(allows, &networks, is_negated),
            Some(Whom::File(path, is_negated)) => files.push((allows != is_negated, path)),
            _ => {
                is_any_lost = true;
                notes.lost(
                    &at,
                    format!(
                        "`{}`: only the client's address is asked here, with `allow` and `deny`",
                        words.join(" ")
                    ),
                );
            }
        }
    }
    let here = notes.at(section.number);
    let lists = match &*files {
        [] => rules.lists(),
        // One list that a file has, and at most everybody besides.
        [(allows, path)] if rules.is_at_most_everybody() => {
            let file = Yaml::Map(vec![("file".to_owned(), Yaml::word(path.as_str()))]);
            listener.set(&[if *allows { "allow" } else { "deny" }], Yaml::List(vec![file]));
            return;
        }
        _ => None,
    };
    let Some((allow, deny)) = lists else {
        notes.lost(
            &here,
            "nobody is let in: what these rules say together cannot be said with `allow` and `deny`",
        );
        set(listener, "deny", everybody());
        return;
    };
    if is_any_lost && deny == everybody() {
        notes.lost(&here, "nobody is let in: those who were are known by something else than their address");
    }
    set(listener, "allow", allow);
    set(listener, "deny", deny);
}

fn set(listener: &mut Part, key: &str, list: Vec<String>) {
    if !list.is_empty() {
        listener.set(&[key], Yaml::List(list.into_iter().map(Yaml::Word).collect()));
    }
}

/// Of one section; more are told as lost.
pub(super) const RULES_MAX: usize = 1_000;
/// That all rules of a section name together.
const NETWORKS_MAX: usize = 20_000;

/// Whom a condition means.
enum Whom {
    All,
    /// Those who begin with the hello of TLS.
    Tls,
    /// These, or all others.
    Networks(Vec<String>, bool),
    File(String, bool),
}

/// `None`: it asks for something else.
fn read_one(section: &Section, condition: &[&str]) -> Option<Whom> {
    let (word, rest) = match condition {
        [] => return Some(Whom::All),
        [word @ ("if" | "unless"), rest @ ..] => (*word, rest),
        _ => return None,
    };
    let is_hello = |word: &&&str| word.contains("ssl_hello_type");
    if word == "if"
        && rest.len() <= 4
        && rest.first() == Some(&"{")
        && rest.iter().any(|word| is_hello(&word))
    {
        return Some(Whom::Tls);
    }
    let (whom, negated) = networks(section, rest)?;
    let is_negated = negated != (word == "unless");
    let texts: Vec<String> = whom
        .iter()
        .filter_map(|one| match one {
            Yaml::Word(text) => Some(text.clone()),
            _ => None,
        })
        .collect();
    match &*whom {
        [Yaml::Map(entries)] => match entries.first() {
            Some((_, Yaml::Word(path))) => Some(Whom::File(path.clone(), is_negated)),
            _ => None,
        },
        _ if texts.len() == whom.len() => Some(Whom::Networks(texts, is_negated)),
        _ => None,
    }
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
        if all.len() > NETWORKS_MAX {
            return None;
        }
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
