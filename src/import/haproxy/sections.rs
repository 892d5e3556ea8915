//! Sections of a configuration of HAProxy, each proxy with what it inherits of `defaults`.

use super::super::notes::Notes;
use super::words::Line;

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) kind: String,
    pub(super) name: String,
    /// Where it begins.
    pub(super) number: usize,
    /// Of a proxy: those of its defaults, and then its own.
    pub(super) lines: Vec<Line>,
    /// How many of them are inherited.
    pub(super) inherited: usize,
}

impl Section {
    /// The last word on something, which the lines may say several times.
    pub(super) fn last(&self, words: &[&str]) -> Option<&Line> {
        let begins = |line: &&Line| {
            line.words.len() >= words.len() && words.iter().zip(&line.words).all(|(one, other)| one == other)
        };
        self.lines.iter().rev().find(begins)
    }

    /// How many milliseconds one of its timeouts is.
    pub(super) fn timeout(&self, which: &str) -> Option<u64> {
        let line = self.last(&["timeout", which])?;
        super::super::units::milliseconds(line.words.get(2)?, 1)
    }

    /// `option NAME` holds, and no later `no option NAME`.
    pub(super) fn has_option(&self, name: &str) -> bool {
        let said = |line: &&Line| {
            matches!(&*line.words, [option, word, ..] if option == "option" && word == name)
                || matches!(&*line.words, [no, option, word, ..] if no == "no" && option == "option" && word == name)
        };
        self.lines.iter().rev().find(said).is_some_and(|line| line.words[0] == "option")
    }

    /// The last of these options that holds.
    pub(super) fn last_option<'a>(&self, names: &[&'a str]) -> Option<&'a str> {
        let said = |line: &Line| {
            let word = line.words.get(1).filter(|_| line.words[0] == "option")?;
            names.iter().copied().find(|name| name == word)
        };
        self.lines.iter().rev().find_map(said).filter(|name| self.has_option(name))
    }

    /// `mode`, which is tcp where nothing is said.
    pub(super) fn is_http(&self) -> bool {
        self.last(&["mode"]).is_some_and(|line| line.words.get(1).is_some_and(|mode| mode == "http"))
    }
}

/// The sections of these lines.
pub(super) fn sections(lines: Vec<Line>, notes: &mut Notes) -> Vec<Section> {
    let mut all: Vec<Section> = Vec::new();
    // Of each `.if` that is open: whether its lines are read.
    let mut branches: Vec<bool> = Vec::new();
    for line in lines {
        let first = line.words[0].as_str();
        match first {
            ".if" => {
                let at = notes.at(line.number);
                notes.different(&at, "`.if` is not looked at: its first branch is taken");
                branches.push(true);
            }
            ".else" | ".elif" => {
                if let Some(branch) = branches.last_mut() {
                    *branch = false;
                }
                let at = notes.at(line.number);
                notes.lost(&at, format!("what stands below `{first}` is not read"));
            }
            ".endif" => drop(branches.pop()),
            ".notice" | ".warning" | ".alert" | ".diag" => {}
            _ if branches.contains(&false) => {}
            _ if KINDS.contains(&first) => all.push(Section {
                kind: first.to_owned(),
                name: line.words.get(1).cloned().unwrap_or_default(),
                number: line.number,
                inherited: 0,
                lines: vec![line],
            }),
            _ => match all.last_mut() {
                Some(section) => section.lines.push(line),
                None => {
                    let at = notes.at(line.number);
                    notes.unknown(&at, first, &line.words.join(" "));
                }
            },
        }
    }
    inherit(&mut all, notes);
    all
}

/// Each proxy has the lines of the `defaults` that it names, or of the last above it.
fn inherit(all: &mut [Section], notes: &mut Notes) {
    let mut defaults: Vec<(String, Vec<Line>)> = Vec::new();
    let mut left = INHERITED_MAX;
    for section in all {
        let head = section.lines.remove(0);
        let from = head.words.iter().position(|word| word == "from").and_then(|at| head.words.get(at + 1));
        let named = from.and_then(|from| defaults.iter().rev().find(|(name, _)| name == from));
        let is_proxy = PROXIES.contains(&&*section.kind);
        // One that says `from` inherits of another one; without, `defaults` begin anew.
        let inherited: &[Line] = match (named, section.kind == "defaults") {
            (Some((_, lines)), _) => lines,
            (None, false) if is_proxy => defaults.last().map_or(&[], |(_, lines)| lines),
            (None, _) => &[],
        };
        if inherited.len() > left {
            let at = notes.at(section.number);
            notes.lost(&at, "so many sections inherit so much that this one has only what it says itself");
            continue;
        }
        left -= inherited.len();
        section.inherited = inherited.len();
        section.lines.splice(0..0, inherited.iter().cloned());
        if section.kind == "defaults" && defaults.len() < DEFAULTS_MAX && section.lines.len() < LINES_MAX {
            defaults.push((section.name.clone(), section.lines.clone()));
        }
    }
}

pub(super) const PROXIES: [&str; 3] = ["frontend", "backend", "listen"];
const KINDS: [&str; 22] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "cache",
    "ring",
    "http-errors",
    "program",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
    "log-profile",
    "table",
    "namespace_list",
    "scope",
];
/// Each proxy holds a copy of its own.
const LINES_MAX: usize = 2_000;
const DEFAULTS_MAX: usize = 200;
/// Lines that all of them inherit together.
const INHERITED_MAX: usize = 1_000_000;
