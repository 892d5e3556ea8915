//! The task of discovery: asks each source when it is due, takes what comes to its ledgers, and sends whole lists on.
//!
//! It ends when nobody can reach it any more. What must stay true: no source keeps another waiting for longer than its own questions
//! take; one that is asked is heard of, whatever becomes of the question; a list goes out at most ten times a second for a pool, and only
//! when it is another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::board::{Board, Changes, PoolRow, Row};
use super::choice::{self, Taken};
use super::files::Files;
use super::ledger::{Heard, Standing};
use super::resolver::{Ids, Resolver};
use super::source::{Entry, Looked, Told, shown};
use crate::config::settings::{Backend, Bind, Pool, Settings};
use crate::manifest;
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
#[derive(Debug)]
pub struct Service {
    settings: Arc<Settings>,
    pools: Vec<PoolSources>,
    board: Arc<Board>,
    files: Option<Files>,
    looked_ms: u64,
    ids: Arc<Ids>,
    epoch: std::time::Instant,
    random: Random,
    /// Lists and entries numbered so far.
    numbered: u64,
}

/// The sources of one pool.
#[derive(Debug)]
struct PoolSources {
    name: String,
    /// Its place in the settings.
    at: usize,
    entries: Vec<(u64, Entry)>,
    doors: Vec<Bind>,
    changes: Changes,
    is_full: bool,
    published: Vec<Backend>,
    published_ms: Option<u64>,
    is_heard: bool,
    is_changed: bool,
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
    pub fn new(
        settings: &Arc<Settings>,
        before: &[manifest::Pool],
        epoch: std::time::Instant,
        seed: u64,
    ) -> Self {
        let mut service = Self {
            settings: Arc::clone(settings),
            pools: Vec::new(),
            board: Arc::default(),
            files: None,
            looked_ms: 0,
            ids: Arc::default(),
            epoch,
            random: Random::new(seed.rotate_left(23)),
            numbered: 0,
        };
        service.follow(settings);
        for pool in &mut service.pools {
            let Some(before) = before.iter().find(|before| before.name == pool.name) else { continue };
            for (_, entry) in &mut pool.entries {
                if let Some(before) = before.sources.iter().find(|before| before.text == entry.source.text) {
                    entry.remember(before);
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
        loop {
            let now_ms = self.now_ms();
            self.look_at_files(now_ms);
            self.ask_due(now_ms, &mut asking, &mut asked);
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
                let _ = reply.send(self.found());
            }
            Request::Refresh(name, reply) => {
                let is_it = |pool: &&mut PoolSources| name.as_ref().is_none_or(|name| pool.name == *name);
                let mut any = false;
                for pool in self.pools.iter_mut().filter(is_it) {
                    any = true;
                    pool.entries.iter_mut().for_each(|(_, entry)| entry.hurry(now_ms));
                }
                let _ = reply.send(any);
            }
            Request::Hurry(name) => {
                for pool in self.pools.iter_mut().filter(|pool| pool.name == name) {
                    pool.entries.iter_mut().for_each(|(_, entry)| entry.hurry(now_ms));
                }
            }
        }
    }

    /// Takes over what the file says; an entry that says the same keeps what it has found without asking.
    fn follow(&mut self, settings: &Arc<Settings>) {
        let now_ms = self.now_ms();
        if self.settings.dns != settings.dns {
            self.files = None;
        }
        self.settings = Arc::clone(settings);
        let mut before = std::mem::take(&mut self.pools);
        for (at, pool) in settings.pools.iter().enumerate().filter(|(_, pool)| !pool.sources.is_empty()) {
            let known = before.iter().position(|known| known.name == pool.name);
            let mut known = known.map(|at| before.swap_remove(at));
            let mut entries = Vec::with_capacity(pool.sources.len());
            for source in &pool.sources {
                let had = known.as_mut().and_then(|known| {
                    let at = known.entries.iter().position(|(_, entry)| entry.is_same(source))?;
                    Some(known.entries.remove(at))
                });
                entries.push(match had {
                    Some((number, mut entry)) => {
                        entry.follow(source, &pool.discovery, &settings.dns);
                        (number, entry)
                    }
                    None => {
                        self.numbered += 1;
                        (self.numbered, Entry::new(source, &pool.discovery, &settings.dns, now_ms))
                    }
                });
            }
            let users = settings.listeners.iter().filter(|listener| listener.pool == at);
            self.pools.push(PoolSources {
                name: pool.name.clone(),
                at,
                entries,
                doors: users.flat_map(|listener| listener.bind.iter().copied()).collect(),
                changes: known.as_ref().map_or_else(Changes::default, |known| known.changes),
                is_full: false,
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
                    let entries = self.pools.iter_mut().flat_map(|pool| &mut pool.entries);
                    entries.for_each(|(_, entry)| entry.hurry(now_ms));
                }
            }
        }
        for at in 0..self.pools.len() {
            for index in 0..self.pools[at].entries.len() {
                let told = self.pools[at].entries[index].1.on_time(now_ms);
                if !told.left.is_empty() {
                    self.pools[at].note(index, &told);
                }
            }
        }
    }

    fn ask_due(&mut self, now_ms: u64, asking: &mut JoinSet<Looked>, asked: &mut HashMap<Id, u64>) {
        let is_due = |entry: &Entry| !entry.is_asked && entry.next_ms() <= now_ms;
        while asking.len() < ASKING_MAX {
            let entries = self.pools.iter_mut().flat_map(|pool| &mut pool.entries);
            let Some((number, entry)) =
                entries.filter(|(_, entry)| is_due(entry)).min_by_key(|(_, entry)| entry.next_ms())
            else {
                return;
            };
            entry.note_asked(now_ms);
            let (host, families, number) = (entry.source.host.clone(), entry.families(), *number);
            let resolver = Resolver::by(&self.settings.dns, self.files.as_ref(), &self.ids);
            let look = resolver.look(host, families);
            let handle = asking.spawn(async move {
                timeout(LOOK_MAX, look).await.unwrap_or_else(|_| failed(families, "no answer for a minute"))
            });
            asked.insert(handle.id(), number);
        }
    }

    /// What came of a question of this number; nothing, if it came to no end.
    fn hear(&mut self, number: u64, looked: Option<Looked>) {
        let now_ms = self.now_ms();
        let random = self.random.bits();
        let settings = Arc::clone(&self.settings);
        for pool in &mut self.pools {
            // The file may have left it out meanwhile.
            let Some(index) = pool.entries.iter().position(|(own, _)| *own == number) else { continue };
            let entry = &mut pool.entries[index].1;
            let looked = looked.unwrap_or_else(|| failed(entry.families(), "the question came to no end"));
            let (before, since_ms) = (entry.standing().0, entry.standing().1);
            let own = &settings.pools[pool.at];
            let (networks, from) = (&*own.discovery.networks, &own.connect_from);
            let taken = Taken { networks, doors: &pool.doors, from };
            let told = entry.hear(looked, taken, now_ms, random);
            tell_standing(&pool.name, entry, before, now_ms.saturating_sub(since_ms) / 1_000);
            pool.changes.held += u64::from(before != Standing::Held && entry.standing().0 == Standing::Held);
            pool.note(index, &told);
            return;
        }
    }

    /// The lists that are others than those that were sent last.
    fn due_lists(&mut self, now_ms: u64) -> Vec<FoundSet> {
        let mut lists = Vec::new();
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
        // The file's own come first, then the entries in their order.
        let mut names: HashSet<String> = own.backends.iter().map(|backend| backend.name.clone()).collect();
        let mut backends = Vec::new();
        for (_, entry) in &mut pool.entries {
            let found = entry.backends(&settings.hash_seed);
            backends.extend(found.into_iter().filter(|backend| names.insert(backend.name.clone())));
        }
        let most = usize::try_from(own.discovery.max_backends).unwrap_or(FOUND_MAX);
        let most = most.min(FOUND_MAX.saturating_sub(others));
        pool.is_full = backends.len() > most;
        choice::first_by_name(&mut backends, most, &settings.hash_seed, |backend| &backend.name);
        pool.published.clone_from(&backends);
        pool.is_heard = pool.entries.iter().all(|(_, entry)| entry.is_heard());
        pool.is_changed = false;
        FoundSet { pool: pool.name.clone(), number: self.numbered, backends, is_heard: pool.is_heard }
    }

    /// Tells the board how the sources of a pool stand.
    fn show(&mut self, at: usize) {
        let hash_seed = self.settings.hash_seed.clone();
        let pool = &mut self.pools[at];
        let row = |(_, entry): &mut (u64, Entry)| {
            let found = entry.backends(&hash_seed);
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
        let sources = pool.entries.iter_mut().map(row).collect();
        self.board.set(&pool.name, PoolRow { sources, changes: pool.changes, is_full: pool.is_full });
    }

    fn next_ms(&self, now_ms: u64, asking: usize) -> u64 {
        if self.pools.is_empty() {
            return now_ms + QUIET_MS;
        }
        let entries =
            || self.pools.iter().flat_map(|pool| &pool.entries).filter(|(_, entry)| !entry.is_asked);
        let asks = entries().map(|(_, entry)| entry.next_ms()).min().filter(|_| asking < ASKING_MAX);
        let lists = self.pools.iter().filter(|pool| pool.is_changed);
        let lists = lists.map(|pool| pool.published_ms.map_or(now_ms, |sent_ms| sent_ms + PAUSE_MS)).min();
        [asks, lists].into_iter().flatten().fold(self.looked_ms + LOOK_MS, u64::min)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl PoolSources {
    /// What changed with an answer of one source: counted and told.
    fn note(&mut self, index: usize, told: &Told) {
        self.is_changed = true;
        let (pool, source) = (&*self.name, &*self.entries[index].1.source.text);
        self.changes.found += told.found.len() as u64;
        self.changes.left += told.left.len() as u64;
        self.changes.refused += told.refused.len() as u64;
        for ip in told.found.iter().take(LINES_MAX) {
            tracing::info!(target: "discovery", pool, source, address = %ip, "backend found");
        }
        for ip in told.left.iter().take(LINES_MAX) {
            tracing::info!(target: "discovery", pool, source, address = %ip, "backend left");
        }
        for (ip, why) in told.refused.iter().take(LINES_MAX) {
            tracing::warn!(target: "discovery", pool, source, address = %ip, why, "an address that was found cannot be a backend");
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
    let found = entry.export().found.len();
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

fn failed(families: [bool; 2], why: &str) -> Looked {
    let heard = families.map(|wanted| wanted.then(|| Heard::Failure(why.to_owned())));
    Looked { heard, may_be_loopback: false }
}

/// Names that are asked for at once, with two questions each.
const ASKING_MAX: usize = 8;
/// For all questions of one name.
const LOOK_MAX: Duration = Duration::from_secs(60);
/// Between two lists of one pool.
const PAUSE_MS: u64 = 100;
/// Between two looks at the files.
const LOOK_MS: u64 = 1_000;
/// While there is nothing to do.
const QUIET_MS: u64 = 3_600_000;
/// Found in all pools together.
const FOUND_MAX: usize = 10_000;
/// Lines of one kind about one answer.
const LINES_MAX: usize = 10;
/// Requests on their way here.
const REQUESTS_MAX: usize = 64;
