//! Judgement of a follower (failover, health of a peer): whether clients may be sent to this machine, out of what was heard of
//! the balancer and when. Pure: the time is an argument, in milliseconds.
//!
//! Must stay true: a process that another one follows (restart, upgrade) is no change; one that died is one at once.

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard<'a> {
    /// Clients may be sent here.
    Ready(&'a str),
    /// They may not.
    Unready(&'a str),
    /// This process ends, and another one goes on.
    GoesOn,
    /// The line broke off, or nothing came for too long.
    Ended(&'a str),
    /// Nobody listens at the socket.
    Nobody(&'a str),
    /// Somebody might, and gave no answer.
    NoAnswer(&'a str),
}

/// Whether clients may be sent here, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) is_ready: bool,
    pub(super) why: String,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Judgement {
    state: Option<State>,
    patience: Option<Patience>,
}

/// Something is waited for before anything is concluded.
#[derive(Debug, Clone)]
struct Patience {
    until_ms: u64,
    /// The next process was announced.
    is_announced: bool,
    why: String,
}

impl Judgement {
    /// What is known; `None`: nothing yet.
    pub(super) fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// When [`Self::pass`] has something to conclude.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.patience.as_ref().map(|patience| patience.until_ms)
    }

    /// This was heard.
    pub(super) fn hear(&mut self, heard: Heard<'_>, now_ms: u64) {
        let is_announced = self.patience.as_ref().is_some_and(|patience| patience.is_announced);
        match heard {
            Heard::Ready(why) => self.conclude(true, why),
            // The one that was announced begins with that.
            Heard::Unready("starting") if is_announced => {}
            Heard::Unready(why) => self.conclude(false, why),
            Heard::GoesOn if self.is_ready() => {
                let why = "the process that was to go on has not answered".to_owned();
                self.patience =
                    Some(Patience { until_ms: now_ms + NEXT_PROCESS_MAX_MS, is_announced: true, why });
            }
            Heard::GoesOn => {}
            // A process that could not say so any more may have left its socket to the next one: that answers at once.
            Heard::Ended(why) if self.is_ready() && self.patience.is_none() => {
                self.patience = Some(Patience {
                    until_ms: now_ms + LAST_ANSWER_MAX_MS,
                    is_announced: false,
                    why: why.to_owned(),
                });
            }
            Heard::Ended(_) | Heard::NoAnswer(_) if self.patience.is_some() => {}
            Heard::Nobody(_) if is_announced => {}
            Heard::Ended(why) | Heard::NoAnswer(why) | Heard::Nobody(why) => self.conclude(false, why),
        }
    }

    /// It is so late now.
    pub(super) fn pass(&mut self, now_ms: u64) {
        if let Some(patience) = self.patience.take_if(|patience| patience.until_ms <= now_ms) {
            self.conclude(false, &patience.why);
        }
    }

    fn is_ready(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.is_ready)
    }

    fn conclude(&mut self, is_ready: bool, why: &str) {
        self.patience = None;
        self.state = Some(State { is_ready, why: why.to_owned() });
    }
}

/// A restart takes tenths of a second, with a hundred thousand sessions some seconds; a program that cannot be started is tried
/// once a second.
const NEXT_PROCESS_MAX_MS: u64 = 10_000;
/// For an answer where somebody listens.
const LAST_ANSWER_MAX_MS: u64 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    /// Hears these at these times; what is known after each.
    fn told(heard: &[(u64, Heard<'_>)]) -> Vec<Option<bool>> {
        let mut judgement = Judgement::default();
        heard
            .iter()
            .map(|(now_ms, heard)| {
                judgement.pass(*now_ms);
                judgement.hear(*heard, *now_ms);
                judgement.state().map(|state| state.is_ready)
            })
            .collect()
    }

    #[test]
    fn what_is_said_is_so() {
        let all = told(&[
            (0, Heard::Unready("starting")),
            (1, Heard::Ready("accepting")),
            (2, Heard::Unready("leaving")),
            (3, Heard::Ended("")),
        ]);
        assert_eq!(all, [Some(false), Some(true), Some(false), Some(false)]);
        assert_eq!(told(&[(0, Heard::Nobody(""))]), [Some(false)]);
        assert_eq!(told(&[(0, Heard::NoAnswer(""))]), [Some(false)]);
    }

    #[test]
    fn a_process_that_died_is_told_at_once_and_one_that_hangs_soon() {
        let died = told(&[(0, Heard::Ready("")), (5, Heard::Ended("")), (6, Heard::Nobody("refused"))]);
        assert_eq!(died, [Some(true), Some(true), Some(false)]);
        let hangs = [
            (0, Heard::Ready("")),
            (5_000, Heard::Ended("silent")),
            (5_100, Heard::NoAnswer("")),
            (5_499, Heard::NoAnswer("")),
            (5_500, Heard::NoAnswer("")),
        ];
        assert_eq!(told(&hangs), [Some(true), Some(true), Some(true), Some(true), Some(false)]);
    }

    #[test]
    fn one_that_goes_on_in_another_process_is_no_change() {
        let restart = [
            (0, Heard::Ready("")),
            (1, Heard::GoesOn),
            (2, Heard::Ended("")),
            (3, Heard::Nobody("")),
            (4, Heard::Unready("starting")),
            (2_000, Heard::Ready("")),
            (20_000, Heard::Ready("")),
        ];
        assert!(told(&restart).iter().all(|state| *state == Some(true)));
        // One that had no time to say so.
        let cut = [(0, Heard::Ready("")), (1, Heard::Ended("")), (490, Heard::Ready(""))];
        assert!(told(&cut).iter().all(|state| *state == Some(true)));
        assert_eq!(told(&[(0, Heard::Unready("withdrawn")), (1, Heard::GoesOn)])[1], Some(false));
    }

    #[test]
    fn the_next_one_has_ten_seconds_and_its_word_counts() {
        let never = [
            (0, Heard::Ready("")),
            (1, Heard::GoesOn),
            (10_000, Heard::Nobody("")),
            (10_001, Heard::Nobody("")),
        ];
        assert_eq!(told(&never), [Some(true), Some(true), Some(true), Some(false)]);
        let withdrawn = [(0, Heard::Ready("")), (1, Heard::GoesOn), (2, Heard::Unready("withdrawn by root"))];
        assert_eq!(told(&withdrawn)[2], Some(false));
        let mut judgement = Judgement::default();
        judgement.hear(Heard::Ready(""), 0);
        judgement.hear(Heard::GoesOn, 7);
        assert_eq!(judgement.due_ms(), Some(10_007));
    }
}
