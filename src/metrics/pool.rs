//! Pool and backend metrics: what is counted of each.

use super::counter::Kept;
use super::{Counter, Direction, Histogram, Named};
use crate::backend_state::EjectedFor;
use crate::manifest::Count;

/// One worker's counters of one pool.
#[derive(Debug, Default)]
pub struct PoolShard {
    /// How long successful connects took.
    pub connect: Histogram,
    /// Attempts after the first of a session.
    pub retries: Counter,
    /// Which of `connect_from` comes next.
    pub source_turn: Counter,
    /// Connects and flows that found no port free at one of `connect_from`.
    pub source_full: Counter,
    /// Flows that got another backend because theirs was gone.
    pub rehomed: Counter,
    /// Sessions that were answered, by who had spoken first: the backend, the client.
    pub first_words: [Counter; 2],
    /// Sessions whose first message was said again to another backend.
    pub replays: Counter,
    /// Those that it was not said again for: it was too long to be kept, or the thread had no memory left for it.
    pub replays_forgone: Counter,
}

/// One worker's counters of one backend.
#[derive(Debug, Default)]
pub struct BackendShard {
    /// Sessions that reached it.
    pub sessions: Counter,
    /// Attempts at it that failed.
    pub connect_failures: Counter,
    /// Sessions that it ended without a byte, those that another served then included.
    pub empty_ends: Counter,
    bytes: [Counter; 2],
}

/// What the publisher counts of one backend. It alone writes.
#[derive(Debug, Default)]
pub struct CheckCounts {
    /// Good answers.
    pub good: Counter,
    /// Bad ones, and silence.
    pub bad: Counter,
    /// Checks that this machine could not make.
    pub local: Counter,
    /// Answers in a row that speak for the other of up and down, and how many change it.
    progress: [Counter; 2],
    /// Times it was taken out, by what for.
    ejections: [Counter; EjectedFor::COUNT],
    /// Times it became the primary, and a replica.
    role_changes: [Counter; 2],
    kept: Kept,
}

impl PoolShard {
    /// What is counted, by its words.
    pub fn counters(&self) -> Vec<Named<'_>> {
        let [by_backend, by_client] = &self.first_words;
        let counts = [
            Named::new("retries", "", &self.retries),
            Named::new("source_turn", "", &self.source_turn),
            Named::new("source_full", "", &self.source_full),
            Named::new("rehomed", "", &self.rehomed),
            Named::new("first_words", "backend", by_backend),
            Named::new("first_words", "client", by_client),
            Named::new("replays", "", &self.replays),
            Named::new("replays", "forgone", &self.replays_forgone),
        ];
        self.connect.counters("connect").chain(counts).collect()
    }
}

impl CheckCounts {
    /// What is counted, by its words, and what is kept beside it.
    pub fn totals(&self) -> Vec<Count> {
        let own = self.counters().into_iter().map(|named| named.count(named.counter.value()));
        own.chain(self.kept.all()).collect()
    }

    /// Begins with these totals.
    pub fn begin_with(&self, totals: &[Count]) {
        self.kept.resume(&self.counters(), totals);
    }

    /// Catches up with totals that grew to `now` after they were told as `before`.
    pub fn catch_up(&self, before: &[Count], now: &[Count]) {
        self.kept.catch_up(&self.counters(), before, now);
    }

    /// By their words.
    pub fn counters(&self) -> Vec<Named<'_>> {
        let [primary, replica] = &self.role_changes;
        let ejections = EjectedFor::WORDS.iter().map(|(word, cause)| {
            // What was counted when there was but one cause.
            let word = if *cause == EjectedFor::Failures { "" } else { *word };
            Named::new("ejections", word, self.ejections(*cause))
        });
        let mut all = vec![
            Named::new("checks", "good", &self.good),
            Named::new("checks", "bad", &self.bad),
            Named::new("checks", "local", &self.local),
            Named::new("role_changes", "primary", primary),
            Named::new("role_changes", "replica", replica),
        ];
        all.splice(3..3, ejections);
        all
    }

    /// Times it was taken out for this.
    pub fn ejections(&self, cause: EjectedFor) -> &Counter {
        &self.ejections[cause as usize]
    }

    /// Times it was taken out.
    pub fn all_ejections(&self) -> u64 {
        self.ejections.iter().map(Counter::value).sum()
    }

    /// Times it became that.
    pub fn became(&self, primary: bool) -> &Counter {
        &self.role_changes[usize::from(!primary)]
    }

    /// Notes how far it is on its way to the other of up and down.
    pub fn note_progress(&self, done: u8, of: u8) {
        self.progress[0].set(done.into());
        self.progress[1].set(of.into());
    }

    /// How far that is: so many answers of so many. `None`: its last answer agreed with its state.
    pub fn progress(&self) -> Option<(u8, u8)> {
        let [done, of] = [0, 1].map(|at| u8::try_from(self.progress[at].value()).unwrap_or(u8::MAX));
        (done > 0).then_some((done, of))
    }
}

impl BackendShard {
    /// What is counted, by its words.
    pub fn counters(&self) -> Vec<Named<'_>> {
        let mut all = vec![
            Named::new("sessions", "", &self.sessions),
            Named::new("connect_failures", "", &self.connect_failures),
            Named::new("empty_ends", "", &self.empty_ends),
        ];
        let bytes =
            Direction::ALL.map(|direction| Named::new("bytes", direction.word(), self.bytes(direction)));
        all.extend(bytes);
        all
    }

    /// The bytes that were delivered in this direction.
    pub fn bytes(&self, direction: Direction) -> &Counter {
        &self.bytes[direction as usize]
    }
}
