//! Import: a configuration of HAProxy, nginx (`stream`) or Traefik as one of ours, and a list of what is different and what is lost.
//!
//! Pure: texts in, YAML and notes out; files that a file includes are asked for. Must stay true: nothing is passed over in silence.
//! Each directive is translated, or is named with the reason why not, or is named as HTTP; any bytes are answered in bounded time
//! and memory.

#[cfg(test)]
mod chance_tests;
mod first_match;
mod haproxy;
mod nginx;
mod notes;
mod plan;
#[cfg(test)]
mod tests;
mod traefik;
mod units;
mod yaml;

pub use nginx::Include;
pub use notes::{Note, Standing};

use notes::Notes;
use plan::Plan;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// HAProxy, 1.8 to 3.x.
    HAProxy,
    /// nginx with `stream`.
    Nginx,
    /// Traefik, in YAML.
    Traefik,
}

impl Whose {
    fn name(self) -> &'static str {
        match self {
            Self::HAProxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Traefik => "Traefik",
        }
    }
}

/// What came of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// The file for evenkeel, with comments.
    pub yaml: String,
    /// What is different or lost, in the order of the file.
    pub notes: Vec<Note>,
    /// Listeners and pools that came of it.
    pub counts: (usize, usize),
}

/// Whose configuration a text looks like.
pub fn guess(text: &str) -> Option<Whose> {
    let words = || text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let begins = |wanted: &[&str]| {
        words().any(|line| wanted.contains(&line.split_whitespace().next().unwrap_or_default()))
    };
    // A section; `listen 443;` is nginx's.
    let is_section = |line: &str| {
        let first = line.split_whitespace().next().unwrap_or_default();
        ["frontend", "listen", "backend", "defaults", "global"].contains(&first)
            && !line.trim_end().ends_with([';', '{'])
    };
    if words().any(is_section) {
        return Some(Whose::HAProxy);
    }
    if text.contains('{') && begins(&["stream", "upstream", "server", "http", "events"]) {
        return Some(Whose::Nginx);
    }
    let is_traefik = ["entryPoints:", "tcp:", "udp:", "providers:"];
    words().any(|line| is_traefik.contains(&line.trim_end())).then_some(Whose::Traefik)
}

/// Translates. `name`: of the file, for people.
pub fn import(whose: Whose, name: &str, text: &str, include: Include<'_>) -> Imported {
    let (mut plan, mut notes) = (Plan::default(), Notes::new(name, whose.name()));
    match whose {
        Whose::HAProxy => haproxy::translate(text, &mut plan, &mut notes),
        Whose::Nginx => nginx::translate(name, text, include, &mut plan, &mut notes),
        Whose::Traefik => traefik::translate(text, &mut plan, &mut notes),
    }
    plan.tidy(&mut notes);
    let notes = notes.into_list();
    let counts = (plan.listeners.len(), plan.pools.len());
    Imported { yaml: plan.written(name, &notes), notes, counts }
}
