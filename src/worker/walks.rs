//! What a thread looks through its tables for: one walk takes one slice in each turn, and then the sessions have theirs.
//!
//! What must stay true: a turn gives no more than one slice, however many walks there are and however large the tables; no
//! walk waits for the end of another; what happens again while it is looked for makes no second walk, but the one there
//! goes round once more.

use std::collections::VecDeque;

use super::freeze::PrecopyAsked;
use super::search::{Search, Searching};
use crate::reason::Reason;
use crate::tcp::{Precopied, Precopy, Sessions};
use crate::thread_context::{Slice, ThreadContext, Walk};
use crate::udp::Pump;

/// The walks under way.
#[derive(Default)]
pub(super) struct Walks(VecDeque<Round>);

/// One walk over both tables.
struct Round {
    errand: Errand,
    tcp: Walk,
    udp: Walk,
}

/// What is looked for.
enum Errand {
    /// What an operator asked.
    Search(Searching),
    /// Whose backend went down.
    Fallen,
    /// Flows of doors that were closed.
    ClosedDoors,
    /// Everybody: they end for this.
    Cut(Reason),
    /// Those whose sockets can go ahead of a freeze.
    Precopy(Precopy, Box<dyn FnOnce(Vec<Precopied>) + Send>),
}

impl Walks {
    /// None is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for sessions on behalf of an operator.
    pub(super) fn search(&mut self, search: Search, sessions: &Sessions, pump: &Pump, cx: &ThreadContext) {
        self.0.push_back(Round::new(Errand::Search(Searching::new(search, cx.now_us)), sessions, pump));
    }

    /// Looks for those whose backend went down.
    pub(super) fn close_fallen(&mut self, sessions: &Sessions, pump: &Pump) {
        self.begin_or_anew(Errand::Fallen, sessions, pump);
    }

    /// Looks for flows of doors that were closed.
    pub(super) fn leave_doors(&mut self, sessions: &Sessions, pump: &Pump) {
        self.begin_or_anew(Errand::ClosedDoors, sessions, pump);
    }

    /// Ends everybody.
    pub(super) fn cut(&mut self, reason: Reason, sessions: &Sessions, pump: &Pump) {
        self.begin_or_anew(Errand::Cut(reason), sessions, pump);
    }

    /// Gives the sockets of sessions ahead of a freeze.
    pub(super) fn precopy(&mut self, asked: PrecopyAsked, sessions: &Sessions, pump: &Pump) {
        let PrecopyAsked { give, reply } = asked;
        self.0.push_back(Round::new(Errand::Precopy(Precopy::new(give), reply), sessions, pump));
    }

    /// One slice of the walk whose turn it is.
    pub(super) fn go_on(&mut self, sessions: &mut Sessions, pump: &mut Pump, cx: &mut ThreadContext) {
        if let Some(round) = self.0.pop_front() {
            let more = round.go_on(&mut Slice::of_a_turn(), sessions, pump, cx);
            self.0.extend(more);
        }
    }

    /// All of them to their ends, if that takes no longer than some turns give: nothing may be half done in a thread that
    /// another process takes over. False: it takes longer, and they are where they came to.
    pub(super) fn finish(
        &mut self,
        sessions: &mut Sessions,
        pump: &mut Pump,
        cx: &mut ThreadContext,
    ) -> bool {
        for _ in 0..SLICES_STANDING_MAX {
            if self.is_empty() {
                break;
            }
            self.go_on(sessions, pump, cx);
        }
        self.is_empty()
    }

    fn begin_or_anew(&mut self, errand: Errand, sessions: &Sessions, pump: &Pump) {
        let same = |round: &&mut Round| {
            matches!(
                (&round.errand, &errand),
                (Errand::Fallen, Errand::Fallen)
                    | (Errand::ClosedDoors, Errand::ClosedDoors)
                    | (Errand::Cut(_), Errand::Cut(_))
            )
        };
        match self.0.iter_mut().find(same) {
            Some(round) => {
                round.tcp.begin_anew(errand.tcp_places(sessions));
                round.udp.begin_anew(pump.places());
                round.errand = errand;
            }
            None => self.0.push_back(Round::new(errand, sessions, pump)),
        }
    }
}

impl Errand {
    fn tcp_places(&self, sessions: &Sessions) -> usize {
        match self {
            // Those are doors of datagrams.
            Self::ClosedDoors => 0,
            Self::Search(_) | Self::Fallen | Self::Cut(_) | Self::Precopy(..) => sessions.places(),
        }
    }

    fn udp_places(&self, pump: &Pump) -> usize {
        match self {
            // Flows go along with everything else.
            Self::Precopy(..) => 0,
            Self::Search(_) | Self::Fallen | Self::Cut(_) | Self::ClosedDoors => pump.places(),
        }
    }
}

impl Round {
    fn new(errand: Errand, sessions: &Sessions, pump: &Pump) -> Self {
        let (tcp, udp) = (Walk::over(errand.tcp_places(sessions)), Walk::over(errand.udp_places(pump)));
        Self { errand, tcp, udp }
    }

    /// Goes on until the slice is spent; `None`: it is over.
    fn go_on(
        mut self,
        slice: &mut Slice,
        sessions: &mut Sessions,
        pump: &mut Pump,
        cx: &mut ThreadContext,
    ) -> Option<Self> {
        let Self { errand, tcp, udp } = &mut self;
        match errand {
            Errand::Search(searching) => searching.look((tcp, udp), slice, sessions, pump, cx),
            Errand::Fallen => {
                sessions.close_fallen(tcp, slice, cx);
                pump.close_fallen(udp, slice, cx);
            }
            Errand::ClosedDoors => pump.leave_doors(udp, slice, cx),
            Errand::Precopy(precopy, _) => sessions.precopy(precopy, tcp, slice),
            Errand::Cut(reason) => {
                sessions.cut(*reason, tcp, slice, cx);
                pump.cut(*reason, udp, slice, cx);
            }
        }
        if !(self.tcp.is_over() && self.udp.is_over()) {
            return Some(self);
        }
        match self.errand {
            Errand::Search(searching) => searching.reply(),
            Errand::ClosedDoors => pump.doors_are_left(),
            Errand::Precopy(precopy, reply) => reply(precopy.given()),
            Errand::Fallen | Errand::Cut(_) => {}
        }
        None
    }
}

/// Slices of walks that a thread finishes while it stands: some 4 ms where each is full of sessions that end.
const SLICES_STANDING_MAX: usize = 8;
