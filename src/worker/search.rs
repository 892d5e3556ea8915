//! Search through the sessions of a thread for an operator, a little in each turn: a table of a million must not hold
//! up the sessions in it.

use crate::reason::Reason;
use crate::session_query::{Filter, SessionRow};
use crate::tcp::Sessions;
use crate::thread_context::ThreadContext;
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
    /// Where the next turn begins: in the table of sessions, then in that of flows.
    tcp_from: Option<usize>,
    udp_from: Option<usize>,
}

impl Searching {
    pub(super) fn new(search: Search) -> Self {
        Self { search, answer: Answer::default(), tcp_from: Some(0), udp_from: Some(0) }
    }

    /// Looks at some more; `None`: that was all, and the answer is given.
    pub(super) fn go_on(
        mut self,
        sessions: &mut Sessions,
        pump: &mut Pump,
        cx: &mut ThreadContext,
    ) -> Option<Self> {
        let Search { filter, close, rows_max, .. } = &self.search;
        let (close, rows_max) = (*close, *rows_max);
        let most = if close.is_some() { CLOSED_MAX } else { LOOKED_AT_MAX };
        let answer = &mut self.answer;
        let mut found = |row: &dyn Fn() -> SessionRow| {
            answer.count += 1;
            if close.is_none() && answer.rows.len() < rows_max {
                answer.rows.push(row());
            }
        };
        if let Some(from) = self.tcp_from {
            self.tcp_from = sessions.search(from, most, filter, close, &mut found, cx);
            return Some(self);
        }
        if let Some(from) = self.udp_from {
            self.udp_from = pump.search(from, most, filter, close, &mut found, cx);
            return Some(self);
        }
        (self.search.reply)(self.answer);
        None
    }
}

/// Entries of a table that one turn looks at: some 50 us.
const LOOKED_AT_MAX: usize = 2_048;
/// Sessions that one turn ends: two sockets each, some 20 us.
const CLOSED_MAX: usize = 64;
