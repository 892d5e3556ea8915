//! The task of discovery: asks each source when it is due, takes what comes to its ledgers, and sends whole lists on.
//!
//! It ends when nobody can reach it any more. What must stay true: no source keeps another waiting for longer than its own questions
//! take; one that is asked is heard of, whatever becomes of the question; a list goes out at most ten times a second for a pool, and only
//! when it is another.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::absent::Absents;
use super::ask::Asker;
use super::before::Before;
use super::board::{Board, Changes};
use super::choice::Taken;
use super::files::Files;
use super::ledger::Heard;
use super::names::{Looked, Told};
use super::pool_sources::{PoolSources, Slot, taken};
use super::resolver::{Ids, Resolver};
use super::services::LookedServices;
use super::source::{Came, Entry, Question};
use super::watches::{Said, Watches, Watching};
use crate::config::settings::{Backend, Pool, Settings};
use crate::random::Random;

/// The backends that the sources of a pool have found.
#[derive(Debug, Clone)]
pub struct FoundSet {
    /// Its name.
    pub pool: String,
    /// A later one has a larger number.
    pub number: u64,
    /// In an order that is theirs.
    pub backends: Vec<Backend>,
    /// Each source has answered, or failed to.
    pub is_heard: bool,
}

/// What is asked of the task.
#[derive(Debug)]
pub enum Request {
    /// The file says this now.
    Follow(Arc<Settings>, oneshot::Sender<Vec<FoundSet>>),
    /// Ask these at once: those of a pool, or all. Tells whether there are any.
    Refresh(Option<String>, oneshot::Sender<bool>),
    /// A backend of this pool went down: its sources may know better.
    Hurry(String),
}

/// How the task is reached.
#[derive(Debug, Clone)]
pub struct Handle {
    /// What it is asked.
    pub requests: mpsc::Sender<Request>,
    /// How the sources stand.
    pub board: Arc<Board>,
}

/// The task, before it runs.
pub struct Service {
    settings: Arc<Settings>,
    pools: Vec<PoolSources>,
    board: Arc<Board>,
    files: Option<Files>,
    looked_ms: u64,
    ids: Arc<Ids>,
    /// How servers are asked over HTTP.
    asker: Asker,
    epoch: std::time::Instant,
    random: Random,
    /// Lists and entries numbered so far.
    numbered: u64,
    /// Who waits for first answers after a reload, and until when.
    waits: Option<(oneshot::Sender<Vec<FoundSet>>, u64)>,
}

/// The settings with these found behind the backends of the file.
pub fn with_found(settings: &Settings, sets: &[FoundSet]) -> Settings {
    let mut settings = settings.clone();
    for set in sets {
        let pool = settings.pools.iter_mut().find(|pool| pool.name == set.pool);
        if let Some(pool) = pool {
            pool.backends.extend(set.backends.iter().cloned());
        }
    }
    settings
}

impl Service {
    /// One of these settings, which knows what the process before had found.
    pub fn new(settings: &Arc<Settings>, before: &Before, epoch: std::time::Instant, seed: u64) -> Self {
        let mut service = Self {
            settings: Arc::clone(settings),
            pools: Vec::new(),
            board: Arc::default(),
            files: None,
            looked_ms: 0,
            ids: Arc::default(),
            asker: Asker::new(&settings.dns),
            epoch,
            random: Random::new(seed.rotate_left(23)),
            numbered: 0,
            waits: None,
        };
        service.follow(settings);
        let now_ms = service.now_ms();
        for pool in &mut service.pools {
            let own = &settings.pools[pool.at];
            for Slot { entry, .. } in &mut pool.slots {
                let known = before.of(&pool.name, &entry.source.text);
                // A crash is outlived where the file says so, a handover always.
                if let Some(known) = known.filter(|known| known.age_s.is_none() || own.discovery.remembers) {
                    entry.remember(known, taken(own, &pool.doors), now_ms);
                }
            }
        }
        service
    }

    /// How it is reached, and what is to be given to [`Self::run`].
    pub fn handle(&self) -> (Handle, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        (Handle { requests, board: Arc::clone(&self.board) }, inbox)
    }

    /// What is found now, of every pool that has sources.
    pub fn found(&mut self) -> Vec<FoundSet> {
        let sets = (0..self.pools.len()).map(|at| self.list(at)).collect();
        (0..self.pools.len()).for_each(|at| self.show(at));
        sets
    }

    /// Runs until nobody can ask it anything, or take its lists.
    pub async fn run(mut self, mut inbox: mpsc::Receiver<Request>, lists: mpsc::Sender<FoundSet>) {
        let mut asking = JoinSet::new();
        let mut asked: HashMap<Id, u64> = HashMap::new();
        let mut watches = Watches::default();
        loop {
            let now_ms = self.now_ms();
            self.look_at_files(now_ms);
            self.ask_due(now_ms, &mut asking, &mut asked);
            self.ask_watches(now_ms, &mut watches);
            self.reply_when_heard(now_ms);
            for list in self.due_lists(now_ms) {
                if lists.send(list).await.is_err() {
                    return;
                }
            }
            let wake_at =
                Instant::from_std(self.epoch + Duration::from_millis(self.next_ms(now_ms, asking.len())));
            // Each arm is cancel-safe: a request is either taken or stays, a question that is over waits.
            tokio::select! {
                request = inbox.recv() => {
                    let Some(request) = request else { return };
                    self.obey(request);
                }
                Some(over) = asking.join_next_with_id(), if !asking.is_empty() => {
                    let (id, looked) = match over {
                        Ok((id, looked)) => (id, Some(looked)),
                        Err(error) => (error.id(), None),
                    };
                    if let Some(number) = asked.remove(&id) {
                        self.hear(number, looked);
                    }
                }
                (number, over) = watches.next() => {
                    let slots = self.pools.iter_mut().flat_map(|pool| &mut pool.slots);
                    // The file may have left it out meanwhile.
                    let said = slots.into_iter().find(|slot| slot.number == number).map(|slot| slot.watching.take(over));
                    if let Some(said) = said {
                        self.hear_whole(number, said);
                    }
                }
                () = sleep_until(wake_at) => {}
            }
        }
    }

    fn obey(&mut self, request: Request) {
        let now_ms = self.now_ms();
        // Who asked may have gone.
        match request {
            Request::Follow(settings, reply) => {
                self.follow(&settings);
                if let Some((before, _)) = self.waits.replace((reply, now_ms + FIRST_MS)) {
                    let _ = before.send(self.found());
                }
            }
            Request::Refresh(name, reply) => {
                let is_it = |pool: &&mut PoolSources| name.as_ref().is_none_or(|name| pool.name == *name);
                let mut any = false;
                for pool in self.pools.iter_mut().filter(is_it) {
                    any = true;
                    pool.slots.iter_mut().for_each(|slot| slot.entry.hurry(now_ms));
                }
                let _ = reply.send(any);
            }
            Request::Hurry(name) => {
                for pool in self.pools.iter_mut().filter(|pool| pool.name == name) {
                    pool.slots.iter_mut().for_each(|slot| slot.entry.hurry(now_ms));
                }
            }
        }
    }

    /// Whoever reloads is told what is found when each entry has found somebody or been heard, so that no pool is without
    /// backends between its old list and its new source; and in any case when its time is over.
    fn reply_when_heard(&mut self, now_ms: u64) {
        let Some((reply, until_ms)) = self.waits.take() else { return };
        let is_known = |slot: &Slot| slot.entry.is_heard() || slot.entry.found() > 0;
        let all_known = self.pools.iter().flat_map(|pool| &pool.slots).all(is_known);
        if !all_known && now_ms < until_ms {
            self.waits = Some((reply, until_ms));
            return;
        }
        // Who asked may have gone.
        let _ = reply.send(self.found());
    }

    /// Takes over what the file says; an entry that says the same keeps what it has found without asking.
    fn follow(&mut self, settings: &Arc<Settings>) {
        let now_ms = self.now_ms();
        let asks_others = self.settings.dns != settings.dns;
        if asks_others {
            self.files = None;
            self.asker = self.asker.by(&settings.dns);
        }
        self.settings = Arc::clone(settings);
        let mut before = std::mem::take(&mut self.pools);
        for (at, pool) in settings.pools.iter().enumerate().filter(|(_, pool)| !pool.sources.is_empty()) {
            let known = before.iter().position(|known| known.name == pool.name);
            let mut known = known.map(|at| before.swap_remove(at));
            let mut slots = Vec::with_capacity(pool.sources.len());
            for source in &pool.sources {
                let had = known.as_mut().and_then(|known| {
                    let at = known.slots.iter().position(|slot| slot.entry.is_same(source))?;
                    Some(known.slots.remove(at))
                });
                slots.push(match had {
                    Some(mut slot) => {
                        // Asked in another way, it is asked anew.
                        let is_other = asks_others || slot.entry.source.from != source.from;
                        if is_other && slot.entry.question().is_none() {
                            (slot.watching, slot.entry.is_asked) = (Watching::default(), false);
                        }
                        slot.entry.follow(source, &pool.discovery, &settings.dns);
                        slot
                    }
                    None => {
                        self.numbered += 1;
                        let entry = Entry::new(source, &pool.discovery, &settings.dns, now_ms);
                        Slot { number: self.numbered, entry, watching: Watching::default() }
                    }
                });
            }
            let users = settings.listeners.iter().filter(|listener| listener.pool == at);
            self.pools.push(PoolSources {
                name: pool.name.clone(),
                at,
                slots,
                doors: users.flat_map(|listener| listener.bind.iter().copied()).collect(),
                changes: known.as_ref().map_or_else(Changes::default, |known| known.changes),
                absent: known
                    .as_mut()
                    .map_or_else(Absents::default, |known| std::mem::take(&mut known.absent)),
                is_full: false,
                is_remembered: pool.discovery.remembers,
                published: known.map_or_else(Vec::new, |known| known.published),
                published_ms: None,
                is_heard: false,
                is_changed: true,
            });
        }
        let pools = &self.pools;
        self.board.retain(|name| pools.iter().any(|pool| pool.name == name));
    }

    fn look_at_files(&mut self, now_ms: u64) {
        if self.pools.is_empty() || self.files.is_some() && now_ms < self.looked_ms + LOOK_MS {
            return;
        }
        self.looked_ms = now_ms;
        match &mut self.files {
            None => self.files = Some(Files::new(&self.settings.dns)),
            Some(files) => {
                if files.look() {
                    let slots = self.pools.iter_mut().flat_map(|pool| &mut pool.slots);
                    let names = slots.filter(|slot| slot.entry.question().is_some());
                    names.for_each(|slot| slot.entry.hurry(now_ms));
                }
            }
        }
        for at in 0..self.pools.len() {
            for index in 0..self.pools[at].slots.len() {
                let told = self.pools[at].slots[index].entry.on_time(now_ms);
                if !told.left.is_empty() {
                    self.pools[at].note(index, &told, now_ms);
                }
            }
        }
    }

    fn ask_due(&mut self, now_ms: u64, asking: &mut JoinSet<Came>, asked: &mut HashMap<Id, u64>) {
        let is_due = |slot: &&mut Slot| {
            slot.entry.question().is_some() && slot.entry.due_ms().is_some_and(|due_ms| due_ms <= now_ms)
        };
        while asking.len() < ASKING_MAX {
            let slots = self.pools.iter_mut().flat_map(|pool| &mut pool.slots);
            let Some(slot) = slots.filter(is_due).min_by_key(|slot| slot.entry.due_ms()) else { return };
            let Some(question) = slot.entry.question() else { return };
            slot.entry.note_asked(now_ms);
            let number = slot.number;
            let resolver = Resolver::by(&self.settings.dns, self.files.as_ref(), &self.ids);
            let look = resolver.answer(question.clone());
            let handle = asking.spawn(async move {
                timeout(LOOK_MAX, look).await.unwrap_or_else(|_| failed(&question, "no answer for a minute"))
            });
            asked.insert(handle.id(), number);
        }
    }

    /// Asks those that tell the whole and say nothing at this moment, and hurries those that are to.
    fn ask_watches(&mut self, now_ms: u64, watches: &mut Watches) {
        for slot in self.pools.iter_mut().flat_map(|pool| &mut pool.slots) {
            let is_due = slot.entry.due_ms().is_some_and(|due_ms| due_ms <= now_ms);
            if !is_due || slot.entry.question().is_some() {
                continue;
            }
            if slot.entry.is_asked {
                slot.watching.hurry();
            } else {
                watches.ask(slot.number, &mut slot.watching, (&slot.entry.source, &self.asker));
            }
            slot.entry.note_asked(now_ms);
        }
    }

    /// What came of a question of this number; nothing, if it came to no end.
    fn hear(&mut self, number: u64, came: Option<Came>) {
        self.note(number, |entry, taken, now_ms, random| {
            let lost = || entry.question().map(|question| failed(&question, "the question came to no end"));
            match came.or_else(lost) {
                Some(came) => entry.hear(came, taken, now_ms, random),
                None => Told::default(),
            }
        });
    }

    /// What one of this number said that tells the whole.
    fn hear_whole(&mut self, number: u64, said: Said) {
        let pause_ms = said.pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        let said = (said.answer, said.may_be_loopback, pause_ms);
        self.note(number, |entry, taken, now_ms, random| entry.hear_whole(said, taken, now_ms, random));
    }

    /// Gives an entry what was heard of it, and notes what changed. The file may have left it out meanwhile.
    fn note(&mut self, number: u64, hear: impl FnOnce(&mut Entry, Taken<'_>, u64, u64) -> Told) {
        let now_ms = self.now_ms();
        let random = self.random.bits();
        let settings = Arc::clone(&self.settings);
        let place = self.pools.iter_mut().find_map(|pool| {
            let index = pool.slots.iter().position(|slot| slot.number == number)?;
            Some((pool, index))
        });
        let Some((pool, index)) = place else { return };
        let entry = &mut pool.slots[index].entry;
        let (before, since_ms, _) = entry.standing();
        let told = hear(entry, taken(&settings.pools[pool.at], &pool.doors), now_ms, random);
        pool.note_standing(index, before, now_ms.saturating_sub(since_ms) / 1_000);
        pool.note(index, &told, now_ms);
    }

    /// The lists that are others than those that were sent last.
    fn due_lists(&mut self, now_ms: u64) -> Vec<FoundSet> {
        let mut lists = Vec::new();
        if self.waits.is_some() {
            // Until then pools are as the file before has them.
            return lists;
        }
        for at in 0..self.pools.len() {
            let pool = &self.pools[at];
            let is_due = pool.published_ms.is_none_or(|sent_ms| now_ms >= sent_ms + PAUSE_MS);
            if !(pool.is_changed && is_due) {
                continue;
            }
            let (before, was_heard) = (pool.published.clone(), pool.is_heard);
            let list = self.list(at);
            if list.backends != before || list.is_heard != was_heard {
                let pool = &mut self.pools[at];
                pool.published_ms = Some(now_ms);
                pool.changes.changed += u64::from(list.backends != before);
                lists.push(list);
            }
            self.show(at);
        }
        lists
    }

    /// The backends that a pool has found, each name once.
    fn list(&mut self, at: usize) -> FoundSet {
        let others: usize = self.pools.iter().map(|pool| pool.published.len()).sum::<usize>()
            - self.pools[at].published.len();
        self.numbered += 1;
        let settings = Arc::clone(&self.settings);
        let pool = &mut self.pools[at];
        let own: &Pool = &settings.pools[pool.at];
        let backends = pool.list(own, &settings.hash_seed, FOUND_MAX.saturating_sub(others));
        FoundSet { pool: pool.name.clone(), number: self.numbered, backends, is_heard: pool.is_heard }
    }

    /// Tells the board how the sources of a pool stand.
    fn show(&mut self, at: usize) {
        let now_ms = self.now_ms();
        let row = self.pools[at].row(&self.settings.hash_seed, now_ms);
        self.board.set(&self.pools[at].name, row);
    }

    fn next_ms(&self, now_ms: u64, asking: usize) -> u64 {
        if self.pools.is_empty() && self.waits.is_none() {
            return now_ms + QUIET_MS;
        }
        let slots = self.pools.iter().flat_map(|pool| &pool.slots);
        // Names wait for each other, the others for nobody.
        let asks = slots.filter(|slot| asking < ASKING_MAX || slot.entry.question().is_none());
        let asks = asks.filter_map(|slot| slot.entry.due_ms()).min();
        let lists = self.pools.iter().filter(|pool| pool.is_changed);
        let lists = lists.map(|pool| pool.published_ms.map_or(now_ms, |sent_ms| sent_ms + PAUSE_MS)).min();
        let waits = self.waits.as_ref().map(|(_, until_ms)| *until_ms);
        // A list that waits for that wakes nobody.
        let lists = lists.filter(|_| waits.is_none());
        [asks, lists, waits].into_iter().flatten().fold(self.looked_ms + LOOK_MS, u64::min)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn failed(question: &Question, why: &str) -> Came {
    match question {
        Question::Addresses(_, families) => {
            let heard = families.map(|wanted| wanted.then(|| Heard::Failure(why.to_owned())));
            Came::Addresses(Looked { heard, may_be_loopback: false })
        }
        Question::Services(_) => Came::Services(LookedServices {
            heard: Heard::Failure(why.to_owned()),
            offers: Vec::new(),
            addresses: Vec::new(),
        }),
    }
}

/// Names that are asked for at once, with two questions each.
const ASKING_MAX: usize = 8;
/// For all questions of one name.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// For first answers after a reload.
const FIRST_MS: u64 = 2_000;
/// Between two lists of one pool.
const PAUSE_MS: u64 = 100;
/// Between two looks at the files.
const LOOK_MS: u64 = 1_000;
/// While there is nothing to do.
const QUIET_MS: u64 = 3_600_000;
/// Found in all pools together.
const FOUND_MAX: usize = 10_000;
/// Requests on their way here.
const REQUESTS_MAX: usize = 64;
