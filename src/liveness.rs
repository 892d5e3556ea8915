//! Rise and fall (hysteresis of health checks) of one backend, as one counter.
//!
//! Pure. The counter runs from 0 to `rise + fall - 1`; below `rise` the backend is down. An answer that agrees with the
//! state moves the counter to its end, so only answers in a row change a state.

use std::fmt;

/// What is known of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No answer yet. The first one decides alone.
    Untested,
    /// The last `rise` answers were good, and no `fall` bad ones in a row have come since.
    Up,
    /// The last `fall` answers were bad, and no `rise` good ones in a row have come since.
    Down,
}

impl State {
    /// Its word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Untested => "untested",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What an answer changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Down or untested before, up now.
    CameUp,
    /// Up or untested before, down now.
    WentDown,
}

/// How far a backend is on its way to the other state: `2 of 3 checks`. `done` is always below `of`, and 0 when the
/// last answer agreed with the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Answers in a row that speak for the other state.
    pub done: u8,
    /// How many in a row change the state.
    pub of: u8,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} checks", self.done, self.of)
    }
}

impl Progress {
    /// How many more change the state. At least 1.
    pub fn missing(self) -> u8 {
        self.of - self.done
    }
}

/// The health of one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    rise: u8,
    fall: u8,
    /// `None` until the first answer.
    counter: Option<u16>,
}

impl Liveness {
    /// An untested backend. A `rise` or `fall` of 0 counts as 1.
    pub fn new(rise: u8, fall: u8) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), counter: None }
    }

    /// A backend that is known to be up or down from before.
    pub fn known(rise: u8, fall: u8, up: bool) -> Self {
        let mut liveness = Self::new(rise, fall);
        liveness.observe(up);
        liveness
    }

    /// Takes one answer. Returns a change exactly when `state` differs before and after.
    pub fn observe(&mut self, good: bool) -> Option<Change> {
        let before = self.state();
        let rise = u16::from(self.rise);
        self.counter = Some(match (before, good) {
            (State::Up | State::Untested, true) => self.top(),
            (State::Down | State::Untested, false) => 0,
            (State::Up, false) => self.counter.map_or(0, |n| if n > rise { n - 1 } else { 0 }),
            (State::Down, true) => self.counter.map_or(0, |n| if n + 1 < rise { n + 1 } else { self.top() }),
        });
        match (before, self.state()) {
            (State::Untested | State::Down, State::Up) => Some(Change::CameUp),
            (State::Untested | State::Up, State::Down) => Some(Change::WentDown),
            _ => None,
        }
    }

    /// Takes an answer that decides alone, as the first one does.
    pub fn settle_up(&mut self) -> Option<Change> {
        let before = self.state();
        self.counter = Some(self.top());
        (before != State::Up).then_some(Change::CameUp)
    }

    /// Up, down, or not known.
    pub fn state(&self) -> State {
        match self.counter {
            None => State::Untested,
            Some(n) if n >= u16::from(self.rise) => State::Up,
            Some(_) => State::Down,
        }
    }

    /// Some, but not all, of the answers towards the other state have come.
    pub fn is_changing(&self) -> bool {
        self.progress().done > 0
    }

    /// How far the other state is. An untested backend counts as 0 of 1.
    pub fn progress(&self) -> Progress {
        let (done, of) = match (self.state(), self.counter) {
            (State::Untested, _) | (_, None) => (0, 1),
            (State::Up, Some(n)) => (self.top() - n, self.fall),
            (State::Down, Some(n)) => (n, self.rise),
        };
        // Both are at most 254: the counter stops one short of `rise` from below and `fall` from above.
        Progress { done: u8::try_from(done).unwrap_or(u8::MAX), of }
    }

    /// The counter of a backend that is fully up.
    fn top(&self) -> u16 {
        u16::from(self.rise) + u16::from(self.fall) - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays `answers` (`+` good, `-` bad) and writes each step: state letter, then `!` for a change or the progress.
    fn play(rise: u8, fall: u8, answers: &str) -> String {
        let mut liveness = Liveness::new(rise, fall);
        let mut steps = Vec::new();
        for answer in answers.chars() {
            let change = liveness.observe(answer == '+');
            let letter = if liveness.state() == State::Up { 'U' } else { 'D' };
            let progress = liveness.progress();
            steps.push(match change {
                Some(_) => format!("{letter}!"),
                None if liveness.is_changing() => format!("{letter}{}/{}", progress.done, progress.of),
                None => letter.to_string(),
            });
        }
        steps.join(" ")
    }

    #[test]
    fn sequences() {
        let table = [
            (2, 3, "+", "U!"),
            (2, 3, "-", "D!"),
            (2, 3, "++", "U! U"),
            (2, 3, "+---", "U! U1/3 U2/3 D!"),
            (2, 3, "+--+---", "U! U1/3 U2/3 U U1/3 U2/3 D!"),
            (2, 3, "-++", "D! D1/2 U!"),
            (2, 3, "-+-++-", "D! D1/2 D D1/2 U! U1/3"),
            (1, 1, "+-+-", "U! D! U! D!"),
            (1, 3, "-+--+---", "D! U! U1/3 U2/3 U U1/3 U2/3 D!"),
            (3, 1, "+-++-+++", "U! D! D1/3 D2/3 D D1/3 D2/3 U!"),
        ];
        for (rise, fall, answers, expected) in table {
            assert_eq!(play(rise, fall, answers), expected, "rise {rise} fall {fall} {answers}");
        }
    }

    #[test]
    fn progress_reads_as_in_messages() {
        let mut liveness = Liveness::new(2, 3);
        for good in [true, false, false] {
            liveness.observe(good);
        }
        assert_eq!(liveness.progress().to_string(), "2 of 3 checks");
    }

    #[test]
    fn an_answer_that_decides_alone_waits_for_no_other() {
        let mut liveness = Liveness::known(200, 2, false);
        assert_eq!(liveness.settle_up(), Some(Change::CameUp));
        assert_eq!((liveness.settle_up(), liveness.state()), (None, State::Up));
        assert_eq!((liveness.observe(false), liveness.observe(false)), (None, Some(Change::WentDown)));
    }

    #[test]
    fn untested_needs_one_answer() {
        let liveness = Liveness::new(200, 200);
        assert_eq!(liveness.state(), State::Untested);
        assert!(!liveness.is_changing());
        assert_eq!(liveness.progress().missing(), 1);
    }

    proptest! {
        /// The counter against the rule in words: the state flips when the last `rise` (`fall`) answers in a row
        /// contradict it, and at no other time.
        #[test]
        fn agrees_with_counting_answers_in_a_row(
            rise in 0u8..=255,
            fall in 0u8..=255,
            runs in prop::collection::vec((any::<bool>(), 1usize..300), 1..12),
        ) {
            let mut liveness = Liveness::new(rise, fall);
            let (rise, fall) = (usize::from(rise.max(1)), usize::from(fall.max(1)));
            let mut up = None;
            let mut in_a_row = 0;
            for good in runs.iter().flat_map(|&(good, length)| std::iter::repeat_n(good, length)) {
                let missing = usize::from(liveness.progress().missing());
                let change = liveness.observe(good);
                let flips = match up {
                    None => true,
                    Some(up) if up == good => { in_a_row = 0; false }
                    Some(up) => {
                        prop_assert_eq!(missing, if up { fall } else { rise } - in_a_row);
                        in_a_row += 1;
                        in_a_row == if up { fall } else { rise }
                    }
                };
                if flips {
                    up = Some(good);
                    in_a_row = 0;
                }
                let expected = flips.then_some(if good { Change::CameUp } else { Change::WentDown });
                prop_assert_eq!(change, expected);
                prop_assert_eq!(liveness.state(), if up == Some(true) { State::Up } else { State::Down });
                prop_assert_eq!(usize::from(liveness.progress().done), in_a_row);
                prop_assert_eq!(liveness.is_changing(), in_a_row > 0);
            }
        }
    }
}
