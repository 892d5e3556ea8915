//! `use_backend` of HAProxy as routes: by the name in TLS, the client's network, or the port it came to.

use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units;
use super::super::yaml::Yaml;
use super::access;
use super::sections::Section;

/// Reads the rules of a proxy into the listener.
pub(super) fn read(section: &Section, listener: &mut Part, notes: &mut Notes) {
    let mut routes = Vec::new();
    let rules = section.lines.iter().filter(|line| line.words[0] == "use_backend");
    for (number, line) in rules.enumerate() {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let read = match &*words {
            _ if number >= access::RULES_MAX => None,
            [_, pool] => Some((*pool, vec![Vec::new()])),
            [_, pool, "if", rest @ ..] => alternatives(section, rest).map(|all| (*pool, all)),
            _ => None,
        };
        let at = notes.at(line.number);
        match read {
            Some((pool, all)) if routes.len() + all.len() <= ROUTES_MAX && !pool.contains('%') => {
                for mut keys in all {
                    keys.push(("pool".to_owned(), Yaml::Word(units::name(pool))));
                    routes.push(Yaml::Map(keys));
                }
            }
            _ => notes.lost(
                &at,
                format!(
                    "`{}`: a route goes by the name in TLS (`sni`), the client's network (`from`) or the port it came to (`port`)",
                    words.join(" ")
                ),
            ),
        }
    }
    if !routes.is_empty() {
        listener.set(&["routes"], Yaml::List(routes));
    }
}

type Keys = Vec<(String, Yaml)>;

/// What may hold: of each alternative all keys.
fn alternatives(section: &Section, words: &[&str]) -> Option<Vec<Keys>> {
    let mut all = Vec::new();
    for part in words.split(|word| matches!(*word, "or" | "||")) {
        let mut here: Vec<Keys> = vec![Vec::new()];
        for term in terms(part)? {
            let values = match term {
                Term::Inline(words) => test(words)?,
                Term::Named(name) => named(section, name)?,
            };
            // What only waits for the hello of TLS says nothing of itself.
            if values.is_empty() {
                continue;
            }
            let mut next = Vec::new();
            for keys in &here {
                for (key, value) in &values {
                    if keys.iter().any(|(known, _)| known == key) {
                        return None;
                    }
                    next.push([keys.clone(), vec![(key.clone(), value.clone())]].concat());
                }
            }
            if next.len() > ROUTES_MAX {
                return None;
            }
            here = next;
        }
        if here.iter().any(Vec::is_empty) {
            return None;
        }
        all.extend(here);
    }
    (!all.is_empty()).then_some(all)
}

enum Term<'a> {
    Inline(&'a [&'a str]),
    Named(&'a str),
}

fn terms<'a>(words: &'a [&'a str]) -> Option<Vec<Term<'a>>> {
    let (mut all, mut rest) = (Vec::new(), words);
    while let [first, after @ ..] = rest {
        if *first == "{" {
            let end = after.iter().position(|word| *word == "}")?;
            all.push(Term::Inline(&after[..end]));
            rest = &after[end + 1..];
        } else if first.starts_with('!') {
            return None;
        } else {
            all.push(Term::Named(first));
            rest = after;
        }
    }
    Some(all)
}

/// Lines of one name are alternatives.
fn named(section: &Section, name: &str) -> Option<Vec<(String, Yaml)>> {
    let is_of = |line: &&super::words::Line| {
        line.words[0] == "acl" && line.words.get(1).is_some_and(|one| one == name)
    };
    let mut all = Vec::new();
    let mut found = false;
    for line in section.lines.iter().filter(is_of) {
        let words: Vec<&str> = line.words.iter().skip(2).map(String::as_str).collect();
        all.extend(test(&words)?);
        if all.len() > ROUTES_MAX {
            return None;
        }
        found = true;
    }
    found.then_some(all)
}

/// What one test asks for, each alternative a key with its value.
fn test(words: &[&str]) -> Option<Vec<(String, Yaml)>> {
    let [what, rest @ ..] = words else { return None };
    match *what {
        "req.ssl_hello_type" | "req_ssl_hello_type" => Some(Vec::new()),
        "src" => Some(vec![("from".to_owned(), Yaml::List(access::source(words)?))]),
        "dst_port" => {
            let is_port = |text: &&str| {
                let (first, last) = text.split_once(':').unwrap_or((text, text));
                first.parse::<u16>().is_ok_and(|port| port > 0) && last.parse::<u16>().is_ok()
            };
            let all: Vec<_> = rest.iter().filter(|word| !word.starts_with('-')).collect();
            let ports = all.iter().map(|port| ("port".to_owned(), Yaml::Word(port.replace(':', "-"))));
            (all.iter().all(|port| is_port(port)) && !all.is_empty()).then(|| ports.collect())
        }
        "req.ssl_sni" | "req_ssl_sni" | "ssl_fc_sni" | "req.ssl_sni,lower" => names(rest),
        _ => None,
    }
}

fn names(words: &[&str]) -> Option<Vec<(String, Yaml)>> {
    let (mut all, mut is_end) = (Vec::new(), false);
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        match *word {
            "-i" | "--" => {}
            "-m" => match *rest.next()? {
                "str" => {}
                "end" | "dom" => is_end = true,
                _ => return None,
            },
            word if word.starts_with('-') => return None,
            name => {
                let bare = name.trim_start_matches('.');
                let name = if is_end { format!("*.{bare}") } else { bare.to_owned() };
                if !units::is_name(bare) {
                    return None;
                }
                all.push(("sni".to_owned(), Yaml::Word(name)));
                // With a dot before it, it is what ends so; without, the name itself does too.
                if is_end && !word.starts_with('.') {
                    all.push(("sni".to_owned(), Yaml::word(bare)));
                }
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

/// As many as our file takes at a listener, and more than people write.
const ROUTES_MAX: usize = 100;
