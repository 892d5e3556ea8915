//! Plan: what our file is going to say, and how it is written.

use std::collections::HashSet;

use super::notes::{At, Note, Notes, Standing};
use super::yaml::Yaml;

/// The file.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// What stands on the first level beside listeners and pools.
    pub(super) top: Vec<(String, Yaml)>,
    pub(super) listeners: Vec<Part>,
    pub(super) pools: Vec<Part>,
}

/// A listener or a pool.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) name: String,
    /// What it was made of, for people.
    pub(super) of: String,
    pub(super) body: Yaml,
    /// How many use it so far.
    pub(super) users: u32,
}

impl Part {
    pub(super) fn new(name: &str, of: String) -> Self {
        Self { name: name.to_owned(), of, body: Yaml::Map(Vec::new()), users: 0 }
    }

    pub(super) fn set(&mut self, way: &[&str], value: Yaml) {
        self.body.set(way, value);
    }

    pub(super) fn word(&mut self, way: &[&str], value: impl Into<String>) {
        self.set(way, Yaml::word(value));
    }

    /// Adds to a list what is not there yet. False: there is no more room, which is told.
    pub(super) fn push(&mut self, key: &str, item: Yaml, at: &At, notes: &mut Notes) -> bool {
        if !self.has(&[key]) {
            self.set(&[key], Yaml::List(Vec::new()));
        }
        let Yaml::Map(entries) = &mut self.body else { return false };
        let Some((_, Yaml::List(items))) = entries.iter_mut().find(|(known, _)| known == key) else {
            return false;
        };
        if items.len() >= ITEMS_MAX {
            notes.lost(at, format!("more than {ITEMS_MAX} of `{key}`"));
            return false;
        }
        if items.contains(&item) {
            return true;
        }
        items.push(item);
        true
    }

    pub(super) fn has(&self, way: &[&str]) -> bool {
        self.body.get(way).is_some()
    }

    /// The pools that it uses.
    pub(super) fn pools(&self) -> HashSet<String> {
        let routes = self.routes().iter().filter_map(pool_of_route);
        routes.chain(self.word_of(&["pool"])).map(str::to_owned).collect()
    }

    /// Where its clients go by what they say.
    fn routes(&self) -> &[Yaml] {
        match self.body.get(&["routes"]) {
            Some(Yaml::List(routes)) => routes,
            _ => &[],
        }
    }

    pub(super) fn each_route(&mut self, change: impl Fn(&mut Yaml)) {
        let Yaml::Map(entries) = &mut self.body else { return };
        if let Some((_, Yaml::List(routes))) = entries.iter_mut().find(|(key, _)| key == "routes") {
            routes.iter_mut().for_each(change);
        }
    }

    /// Routes to pools that are not there are told.
    fn keep_routes(&mut self, is_there: impl Fn(&str) -> bool, notes: &mut Notes) {
        let (stay, go): (Vec<Yaml>, Vec<Yaml>) =
            self.routes().iter().cloned().partition(|route| pool_of_route(route).is_some_and(&is_there));
        for route in &go {
            let pool = pool_of_route(route).unwrap_or_default();
            let text = format!("{}: a route to `{pool}` is left out: it has no backend", self.of);
            notes.tell(&notes.at(0), Standing::Lost, text);
        }
        if let (false, Yaml::Map(entries)) = (go.is_empty(), &mut self.body) {
            entries.retain(|(key, _)| key != "routes");
            if !stay.is_empty() {
                self.set(&["routes"], Yaml::List(stay));
            }
        }
    }

    fn word_of(&self, way: &[&str]) -> Option<&str> {
        match self.body.get(way) {
            Some(Yaml::Word(word)) => Some(word),
            _ => None,
        }
    }
}

impl Plan {
    pub(super) fn set_top(&mut self, way: &[&str], value: Yaml) {
        let mut whole = Yaml::Map(std::mem::take(&mut self.top));
        whole.set(way, value);
        if let Yaml::Map(entries) = whole {
            self.top = entries;
        }
    }

    /// Another listener or pool has room: our file takes a thousand of each.
    pub(super) fn has_room(&self, of: &str, at: &At, notes: &mut Notes) -> bool {
        let has_room = self.listeners.len() < PARTS_MAX && self.pools.len() < PARTS_MAX;
        if !has_room {
            notes.lost(at, format!("{of}: a file has at most 1,000 listeners and 1,000 pools"));
        }
        has_room
    }

    /// Takes out what our file would not take: listeners without a pool, pools that nobody uses or that have nobody.
    pub(super) fn tidy(&mut self, notes: &mut Notes) {
        let has_backends = |pool: &Part| matches!(pool.body.get(&["backends"]), Some(Yaml::List(items)) if !items.is_empty());
        let whole = notes.at(0);
        let pools: HashSet<String> =
            self.pools.iter().filter(|pool| has_backends(pool)).map(|pool| pool.name.clone()).collect();
        for one in &mut self.listeners {
            one.keep_routes(|pool| pools.contains(pool), notes);
        }
        self.listeners.retain(|one| {
            let pool = one.word_of(&["pool"]).map(str::to_owned);
            let why = match &pool {
                None if one.has(&["routes"]) && one.has(&["bind"]) => return true,
                None => "no pool came of its directives".to_owned(),
                Some(pool) if !pools.contains(pool) => format!("its pool `{pool}` has no backend"),
                Some(_) if !one.has(&["bind"]) => "no address came of its directives".to_owned(),
                Some(_) => return true,
            };
            notes.tell(&whole, Standing::Lost, format!("{} is left out: {why}", one.of));
            false
        });
        let used: HashSet<String> = self.listeners.iter().flat_map(Part::pools).collect();
        let mut names = HashSet::new();
        self.pools.retain(|pool| {
            let stays = used.contains(&pool.name) && has_backends(pool);
            if stays && !names.insert(pool.name.clone()) {
                let text = format!("{} is left out: there is another pool of its name", pool.of);
                notes.tell(&whole, Standing::Lost, text);
                return false;
            }
            if !stays {
                notes.tell(
                    &whole,
                    Standing::NotNeeded,
                    format!("{} is left out: no listener uses it", pool.of),
                );
            }
            stays
        });
        self.names_differ(notes);
    }

    /// Names that were made of others may meet.
    fn names_differ(&mut self, notes: &mut Notes) {
        let mut names = HashSet::new();
        for one in &mut self.listeners {
            let mut name = one.name.clone();
            let mut number = 2;
            while !names.insert(name.clone()) {
                name = format!("{}-{number}", one.name);
                number += 1;
            }
            if name != one.name {
                let text = format!("{} is called `{name}`: there is another `{}`", one.of, one.name);
                notes.tell(&notes.at(0), Standing::Different, text);
                one.name = name;
            }
        }
    }

    /// The text of the file.
    pub(super) fn written(&self, name: &str, notes: &[Note]) -> String {
        let mut out = format!(
            "# Made of {} by evenkeel import. Look through it, and say: evenkeel check\n",
            plain(name)
        );
        let count = |standing| notes.iter().filter(|note| note.standing == standing).count();
        let (lost, different) = (count(Standing::Lost), count(Standing::Different));
        if lost + different > 0 {
            out.push_str(&format!(
                "# {lost} lost, {different} different: told below where they were, by their lines.\n"
            ));
        }
        comments(&mut out, "", notes, None);
        Yaml::Map(self.top.clone()).lines(0, &mut out);
        for (title, parts) in [("listeners", &self.listeners), ("pools", &self.pools)] {
            if parts.is_empty() {
                continue;
            }
            out.push_str(&format!("\n{title}:\n"));
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    out.push('\n');
                }
                out.push_str(&format!("  # {}\n", plain(&part.of)));
                comments(&mut out, "  ", notes, Some(&part.of));
                // Always below each other: this is what people edit.
                let whole = Yaml::Map(vec![(part.name.clone(), Yaml::Map(Vec::new()))]);
                let mut head = String::new();
                whole.lines(2, &mut head);
                out.push_str(head.trim_end().trim_end_matches("{  }").trim_end());
                out.push('\n');
                part.body.lines(4, &mut out);
            }
        }
        out
    }
}

/// Backends of a pool, networks of a list.
pub(super) const ITEMS_MAX: usize = 10_000;
/// Some are left out yet.
const PARTS_MAX: usize = 2_000;

fn pool_of_route(route: &Yaml) -> Option<&str> {
    match route.get(&["pool"]) {
        Some(Yaml::Word(pool)) => Some(pool),
        _ => None,
    }
}

/// The notes of a part, or those of none.
fn comments(out: &mut String, space: &str, notes: &[Note], part: Option<&str>) {
    let of = |note: &&Note| note.part.as_deref() == part && note.standing < Standing::NotNeeded;
    for note in notes.iter().filter(of) {
        let line = if note.line == 0 { String::new() } else { format!("line {}: ", note.line) };
        out.push_str(&format!("{space}# {}, {line}{}\n", note.standing.word(), plain(&note.text)));
    }
}

fn plain(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect()
}
