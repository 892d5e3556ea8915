//! Search through the sessions of a thread for an operator, a little in each turn: a table of a million must not hold
//! up the sessions in it.

use crate::reason::Reason;
use crate::session_query::{Filter, SessionRow};
use crate::tcp::Sessions;
use crate::thread_context::{Slice, Sought, ThreadContext, Walk};
use crate::udp::Pump;

/// What is to be looked for, and who waits for it.
pub struct Search {
    /// Which sessions.
    pub filter: Filter,
    /// They are to be closed for this; otherwise they are told.
    pub close: Option<Reason>,
    /// How many are told at most; the others are counted.
    pub rows_max: usize,
    /// Takes the answer. Called by the data thread: posts and returns.
    pub reply: Box<dyn FnOnce(Answer) + Send>,
}

/// What was found on one thread.
#[derive(Debug, Default)]
pub struct Answer {
    /// The first ones.
    pub rows: Vec<SessionRow>,
    /// How many in all.
    pub count: u64,
}

impl std::fmt::Debug for Search {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Search({:?})", self.filter)
    }
}

/// A search under way.
pub(super) struct Searching {
    search: Search,
    answer: Answer,
    /// When it began.
    began_us: u64,
}

impl Searching {
    pub(super) fn new(search: Search, began_us: u64) -> Self {
        Self { search, answer: Answer::default(), began_us }
    }

    /// Looks at some more.
    pub(super) fn look(
        &mut self,
        (tcp, udp): (&mut Walk, &mut Walk),
        slice: &mut Slice,
        sessions: &mut Sessions,
        pump: &mut Pump,
        cx: &mut ThreadContext,
    ) {
        let Search { filter, close, rows_max, .. } = &self.search;
        let sought = Sought { filter, until_us: self.began_us, close: *close };
        let answer = &mut self.answer;
        let mut found = |row: &dyn Fn() -> SessionRow| {
            answer.count += 1;
            if close.is_none() && answer.rows.len() < *rows_max {
                answer.rows.push(row());
            }
        };
        sessions.search(sought, tcp, slice, &mut found, cx);
        pump.search(sought, udp, slice, &mut found, cx);
    }

    /// That was all.
    pub(super) fn reply(self) {
        (self.search.reply)(self.answer);
    }
}
