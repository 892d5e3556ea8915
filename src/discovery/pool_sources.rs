//! The sources of one pool, and the list that comes of all of them: each name once, so many at most.

use std::collections::HashSet;

use super::absent::{Absent, Absents};
use super::board::{Changes, PoolRow, Row};
use super::choice::{self, Taken};
use super::names::Told;
use super::source::Entry;
use super::standing::Standing;
use super::watches::Watching;
use super::whole::shown;
use crate::config::settings::{Backend, Bind, Check, Pool};

/// The sources of one pool.
pub(super) struct PoolSources {
    pub(super) name: String,
    /// Its place in the settings.
    pub(super) at: usize,
    pub(super) slots: Vec<Slot>,
    pub(super) doors: Vec<Bind>,
    pub(super) changes: Changes,
    pub(super) absent: Absents,
    pub(super) is_full: bool,
    /// What is found outlives a crash.
    pub(super) is_remembered: bool,
    pub(super) published: Vec<Backend>,
    pub(super) published_ms: Option<u64>,
    pub(super) is_heard: bool,
    pub(super) is_changed: bool,
}

/// One source, by a number that no other ever has.
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) entry: Entry,
    pub(super) watching: Watching,
}

/// What a pool takes of what is found, by its settings and where its clients come in.
pub(super) fn taken<'a>(own: &'a Pool, doors: &'a [Bind]) -> Taken<'a> {
    let ports: HashSet<u16> = doors.iter().map(|door| door.port).collect();
    let is_checked = own.health.check != Check::Off && own.health.port.is_none();
    Taken {
        networks: &own.discovery.networks,
        needs_port: is_checked && ports.len() != 1,
        doors,
        from: &own.connect_from,
    }
}

impl PoolSources {
    /// The backends that are found, each name once, the file's own before all, then the entries in their order.
    pub(super) fn list(&mut self, own: &Pool, hash_seed: &str, most: usize) -> Vec<Backend> {
        let mut names: HashSet<String> = own.backends.iter().map(|backend| backend.name.clone()).collect();
        let mut backends = Vec::new();
        for slot in &mut self.slots {
            let found = slot.entry.backends(hash_seed);
            backends.extend(found.into_iter().filter(|backend| names.insert(backend.name.clone())));
        }
        let most = usize::try_from(own.discovery.max_backends).unwrap_or(most).min(most);
        self.is_full = backends.len() > most;
        choice::first_by_name(&mut backends, most, hash_seed, |backend| &backend.name);
        self.published.clone_from(&backends);
        self.is_heard = self.slots.iter().all(|slot| slot.entry.is_heard());
        self.is_changed = false;
        backends
    }

    /// How its sources stand, for whoever looks.
    pub(super) fn row(&mut self, hash_seed: &str, now_ms: u64) -> PoolRow {
        let row = |slot: &mut Slot| {
            let entry = &mut slot.entry;
            let found = entry.backends(hash_seed);
            let (standing, since_ms, why) = entry.standing();
            Row {
                source: entry.source.text.clone(),
                state: standing.word(),
                since_ms,
                why: why.map(str::to_owned),
                found: found.into_iter().map(|one| (one.name, shown(one.ip, one.port))).collect(),
                next_ms: entry.next_ms(),
                answered_ms: entry.answered_ms(),
                answers: entry.answers,
                told: entry.export(),
            }
        };
        let sources = self.slots.iter_mut().map(row).collect();
        let (changes, is_full, is_remembered) = (self.changes, self.is_full, self.is_remembered);
        PoolRow { sources, changes, is_full, is_remembered, absent: self.absent.known(now_ms) }
    }

    /// What an answer changed in how a source stands.
    pub(super) fn note_standing(&mut self, index: usize, before: Standing, for_s: u64) {
        let entry = &self.slots[index].entry;
        self.changes.held += u64::from(before != Standing::Held && entry.standing().0 == Standing::Held);
        tell_standing(&self.name, entry, before, for_s);
    }

    fn note_absent(&mut self, index: usize, told: &Told, now_ms: u64) {
        let entry = &self.slots[index].entry;
        let left = told.left.iter().map(|one| (one, None));
        let refused = told.refused.iter().map(|(one, why)| (one, Some(*why)));
        for (one, refused) in left.chain(refused) {
            if let Some(name) = entry.called(one) {
                let source = entry.source.text.clone();
                self.absent.note(Absent { name, source, since_ms: now_ms, refused });
            }
        }
        for name in told.found.iter().filter_map(|one| entry.called(one)) {
            self.absent.forget(&name);
        }
    }

    /// What changed with an answer of one source: counted and told.
    pub(super) fn note(&mut self, index: usize, told: &Told, now_ms: u64) {
        self.is_changed = true;
        self.note_absent(index, told, now_ms);
        let (pool, source) = (&*self.name, &*self.slots[index].entry.source.text);
        self.changes.found += told.found.len() as u64;
        self.changes.left += told.left.len() as u64;
        self.changes.refused += told.refused.len() as u64;
        for address in told.found.iter().take(LINES_MAX) {
            tracing::info!(target: "discovery", pool, source, %address, "backend found");
        }
        for address in told.left.iter().take(LINES_MAX) {
            tracing::info!(target: "discovery", pool, source, %address, "backend left");
        }
        for (address, why) in told.refused.iter().take(LINES_MAX) {
            tracing::warn!(target: "discovery", pool, source, %address, why, "an address that was found cannot be a backend");
        }
        if told.found.len().max(told.left.len()) > LINES_MAX {
            let (found, left) = (told.found.len(), told.left.len());
            tracing::info!(target: "discovery", pool, source, found, left, "backends found and left, of which ten were told each");
        }
    }
}

/// A line when a source begins to fail, to hold back or to name nobody, and when that is over.
fn tell_standing(pool: &str, entry: &Entry, before: Standing, for_s: u64) {
    let (standing, _, why) = entry.standing();
    let source = &*entry.source.text;
    let found = entry.found();
    let why = why.unwrap_or("");
    match (before, standing) {
        (before, now) if before == now => {}
        (_, Standing::Failing) => {
            tracing::warn!(target: "discovery", pool, source, why, found, "source fails; what it had found stays");
        }
        (_, Standing::Held) => {
            tracing::warn!(target: "discovery", pool, source, why, found, "source takes away much at once; it is asked again first");
        }
        (_, Standing::Nobody) => {
            tracing::warn!(target: "discovery", pool, source, why, found, "source says that there is nobody");
        }
        (Standing::Failing | Standing::Nobody | Standing::Held, Standing::Ok) => {
            let was = before.word();
            tracing::info!(target: "discovery", pool, source, was, for_s, found, "source answers again");
        }
        _ => {}
    }
}

/// Lines of one kind about one answer.
const LINES_MAX: usize = 10;
