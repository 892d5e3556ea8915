//! Backend state: health, outlier ejection, slow start, mark and weight of one backend, and what follows: may it be
//! picked, and with which part of its weight.
//!
//! Pure: the clock is an argument (milliseconds, any beginning). Verdicts, failures and the passing of time come in;
//! whoever publishes snapshots asks afterwards. What must stay true: after [`BackendState::next_wake_ms`] has passed and
//! [`BackendState::on_time`] was called, nothing changes by itself until the next one.

mod ejected_for;
mod ejection;
mod export;

use std::sync::Arc;

pub use ejected_for::EjectedFor;
use ejection::Ejection;

/// The settings of a pool that decide here. `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The first ejection in a row lasts so long.
    pub eject_ms: Option<u64>,
    /// The weight of a backend that came back grows for so long.
    pub slow_start_ms: Option<u64>,
}

/// What is known of its health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nobody asks: it counts as up.
    Unchecked,
    /// Not asked yet. One that was there from the start counts as up; one that was added gets nothing until it answers.
    Untested {
        /// It was added later.
        added: bool,
    },
    /// Its checks say so.
    Up,
    /// Its checks say so.
    Down,
}

/// What an operator said of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing new; what is there stays.
    Drain,
    /// As if its checks had failed.
    Down,
}

impl Mark {
    /// Its word in commands, logs and answers.
    pub fn word(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Down => "down",
        }
    }
}

/// A [`Mark`], and whose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// What was said.
    pub mark: Mark,
    /// By whom, for people.
    pub by: Arc<str>,
    /// When.
    pub since_ms: u64,
}

/// State of one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendState {
    health: Health,
    /// Why it is down, for people.
    cause: Option<Arc<str>>,
    /// Since when its health is as it is.
    since_ms: u64,
    ejection: Ejection,
    /// It came back, and its weight still grows.
    rising: Option<Rising>,
    marked: Option<Marked>,
    /// Set at run time instead of the file's.
    weight: Option<u16>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rising {
    since_ms: u64,
    /// Of its weight; below [`TENTHS`].
    tenths: u16,
}

impl BackendState {
    /// Nothing is known but its health.
    pub fn new(health: Health, now_ms: u64) -> Self {
        Self {
            health,
            cause: None,
            since_ms: now_ms,
            ejection: Ejection::default(),
            rising: None,
            marked: None,
            weight: None,
        }
    }

    /// What is known of its health.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Why it is down.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// Its checks say so, or nothing else is known of one that was there from the start.
    pub fn is_up(&self) -> bool {
        match self.health {
            Health::Unchecked | Health::Up | Health::Untested { added: false } => true,
            Health::Down | Health::Untested { added: true } => false,
        }
    }

    /// Since when its health is as it is.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Up and not ejected.
    pub fn serves(&self) -> bool {
        self.is_up() && !self.is_ejected()
    }

    /// What an operator said of it.
    pub fn marked(&self) -> Option<&Marked> {
        self.marked.as_ref()
    }

    /// Says something of it, or takes back what was said; one that comes back begins with little of its weight.
    pub fn mark(&mut self, marked: Option<Marked>, rules: &Rules, now_ms: u64) {
        if self.marked.is_some() && marked.is_none() && self.serves() {
            self.rise(rules, now_ms);
        }
        self.marked = marked;
    }

    /// Its weight, where the file says `file`.
    pub fn weight(&self, file: u16) -> u16 {
        self.weight.unwrap_or(file)
    }

    /// Sets the weight until that is undone (`None`).
    pub fn set_weight(&mut self, weight: Option<u16>) {
        self.weight = weight;
    }

    /// The weight is not the file's.
    pub fn has_own_weight(&self) -> bool {
        self.weight.is_some()
    }

    /// Clients that have it may stay no longer: its checks failed, or an operator said so.
    pub fn is_down(&self) -> bool {
        self.health == Health::Down || self.marked.as_ref().is_some_and(|marked| marked.mark == Mark::Down)
    }

    /// When the ejection that lasts began.
    pub fn ejected_since_ms(&self) -> Option<u64> {
        self.ejection.since_ms()
    }

    /// When the ejection that lasts ends.
    pub fn ejected_until_ms(&self) -> Option<u64> {
        self.ejection.until_ms()
    }

    /// What the ejection that lasts is for.
    pub fn ejected_for(&self) -> Option<EjectedFor> {
        self.is_ejected().then_some(self.ejection.cause)
    }

    /// Real traffic failed there too often.
    pub fn is_ejected(&self) -> bool {
        self.ejection.until_ms().is_some()
    }

    /// Another state of knowledge that is no verdict: checks began, or nobody asks any more.
    pub fn set_health(&mut self, health: Health, now_ms: u64) {
        (self.health, self.since_ms, self.cause) = (health, now_ms, None);
    }

    /// The state of the same backend at another address: only what was said of it stays.
    pub fn at_new_address(&self, health: Health, now_ms: u64) -> Self {
        Self { marked: self.marked.clone(), weight: self.weight, ..Self::new(health, now_ms) }
    }

    /// Takes a verdict of its checks: it is up, or down for this cause. Failures of real traffic before it say nothing of the
    /// time after: an ejection ends with it, whoever was asked, unless nothing was known before.
    pub fn on_verdict(&mut self, verdict: Result<(), &str>, rules: &Rules, now_ms: u64) {
        let was =
            std::mem::replace(&mut self.health, if verdict.is_ok() { Health::Up } else { Health::Down });
        self.since_ms = now_ms;
        self.cause = verdict.err().map(Arc::from);
        if verdict.is_err() || was == Health::Down {
            self.end_ejection(now_ms);
        }
        match verdict {
            Ok(()) if was == Health::Down => self.rise(rules, now_ms),
            Ok(()) => {}
            Err(_) => self.rising = None,
        }
    }

    /// Takes it out for a while, the longer the more often in a row; tells for how long. Nothing if it is out already or
    /// the rules know no ejection.
    pub fn eject(&mut self, cause: EjectedFor, rules: &Rules, now_ms: u64) -> Option<u64> {
        let first_ms = rules.eject_ms?;
        let for_ms = self.ejection.begin(cause, first_ms, now_ms)?;
        self.rising = None;
        Some(for_ms)
    }

    /// Ends an ejection before its time, with the whole weight. True: one lasted.
    pub fn end_ejection(&mut self, now_ms: u64) -> bool {
        let lasted = self.is_ejected();
        if lasted {
            self.ejection.end(now_ms);
        }
        lasted
    }

    /// A good check that began at `asked_ms` ends an ejection that began before it. True: it did. `clears` says what such an
    /// answer is worth.
    pub fn on_good_check(
        &mut self,
        asked_ms: u64,
        clears: impl Fn(EjectedFor) -> bool,
        rules: &Rules,
        now_ms: u64,
    ) -> bool {
        let ends = self.ejection.began_before(asked_ms) && clears(self.ejection.cause);
        if ends {
            self.ejection.end(now_ms);
            self.rise(rules, now_ms);
        }
        ends
    }

    /// Does what time has brought: ends an ejection, forgets earlier ones, lets a weight grow. `failed_ms` is when real
    /// traffic last failed there. True: an ejection is over.
    pub fn on_time(&mut self, failed_ms: Option<u64>, rules: &Rules, now_ms: u64) -> bool {
        if self.ejection.until_ms().is_some_and(|until_ms| now_ms >= until_ms) {
            self.ejection.end(now_ms);
            self.rise(rules, now_ms);
            return true;
        }
        if let Some(quiet_ms) = rules.eject_ms {
            self.ejection.forgive(quiet_ms, failed_ms, now_ms);
        }
        self.rising = self.rising.zip(rules.slow_start_ms).and_then(|(rising, whole_ms)| {
            let risen = now_ms.saturating_sub(rising.since_ms).saturating_mul(RISES) / whole_ms.max(1);
            // At most RISES.
            let tenths = 1 + u16::try_from(risen.min(RISES)).unwrap_or(TENTHS);
            (tenths < TENTHS).then_some(Rising { tenths, ..rising })
        });
        false
    }

    /// How many tenths of its weight count.
    pub fn tenths(&self) -> u16 {
        self.rising.map_or(TENTHS, |rising| rising.tenths)
    }

    /// When [`Self::on_time`] is to be called.
    pub fn next_wake_ms(&self, rules: &Rules) -> Option<u64> {
        let rise_ms = self.rising.map(|rising| {
            let whole_ms = rules.slow_start_ms.unwrap_or(0);
            rising.since_ms.saturating_add((u64::from(rising.tenths) * whole_ms).div_ceil(RISES))
        });
        [rise_ms, self.ejection.next_wake_ms(rules.eject_ms)].into_iter().flatten().min()
    }

    fn rise(&mut self, rules: &Rules, now_ms: u64) {
        self.rising = rules.slow_start_ms.map(|_| Rising { since_ms: now_ms, tenths: 1 });
    }
}

/// The whole weight.
pub const TENTHS: u16 = 10;
/// From one tenth to the whole.
const RISES: u64 = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { eject_ms: Some(10_000), slow_start_ms: Some(9_000) };

    /// Calls `on_time` whenever it is asked for, until nothing is left to do; tells when, and the tenths then.
    fn live(state: &mut BackendState, failed_ms: Option<u64>, from_ms: u64) -> Vec<(u64, bool, u16)> {
        let mut seen = Vec::new();
        let mut now_ms = from_ms;
        while let Some(at_ms) = state.next_wake_ms(&RULES) {
            assert!(at_ms > now_ms || seen.is_empty(), "woken at {at_ms} again: {state:?}");
            now_ms = at_ms.max(now_ms);
            let back = state.on_time(failed_ms, &RULES, now_ms);
            seen.push((now_ms, back, state.tenths()));
            assert!(seen.len() < 100, "{seen:?}");
        }
        seen
    }

    #[test]
    fn a_backend_that_came_back_grows_from_a_tenth_to_the_whole() {
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        assert_eq!(state.tenths(), TENTHS, "the first verdict is no return");
        state.on_verdict(Ok(()), &RULES, 5);
        assert_eq!((state.tenths(), state.next_wake_ms(&RULES)), (TENTHS, None));
        state.on_verdict(Err("refused"), &RULES, 100);
        assert!(!state.serves());
        state.on_verdict(Ok(()), &RULES, 1_000);
        assert!(state.serves());
        assert_eq!(state.tenths(), 1);
        let steps: Vec<_> =
            live(&mut state, None, 1_000).iter().map(|(at, _, tenths)| (*at, *tenths)).collect();
        let expected: Vec<_> = (2..=10).map(|tenths| (u64::from(tenths) * 1_000, tenths)).collect();
        assert_eq!(steps, expected);
        assert_eq!(state.since_ms(), 1_000);
    }

    #[test]
    fn ejections_in_a_row_double_up_to_five_minutes() {
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        let mut lasted = Vec::new();
        let mut now_ms = 0;
        for _ in 0..7 {
            let for_ms = state.eject(EjectedFor::Failures, &RULES, now_ms).unwrap();
            assert!(!state.serves() && state.is_ejected());
            assert_eq!(state.eject(EjectedFor::Failures, &RULES, now_ms), None, "it is out already");
            lasted.push(for_ms / 1_000);
            now_ms += for_ms;
            assert!(state.on_time(Some(0), &RULES, now_ms));
            assert!(state.serves());
        }
        assert_eq!(lasted, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn one_quiet_time_makes_the_next_ejection_a_first_one() {
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        state.eject(EjectedFor::Failures, &RULES, 0);
        assert!(state.on_time(Some(0), &RULES, 10_000));
        // A failure 5 s after its return: the quiet time begins there.
        let seen = live(&mut state, Some(15_000), 10_000);
        assert_eq!(seen.last().unwrap().0, 25_000, "{seen:?}");
        assert_eq!(state.eject(EjectedFor::Failures, &RULES, 26_000), Some(10_000));

        assert!(state.on_time(Some(26_000), &RULES, 36_000));
        assert_eq!(
            state.eject(EjectedFor::Failures, &RULES, 45_999),
            Some(20_000),
            "not quiet for long enough"
        );
    }

    #[test]
    fn a_good_check_that_began_later_ends_an_ejection_early() {
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        state.eject(EjectedFor::Failures, &RULES, 1_000);
        assert!(!state.on_good_check(999, |_| true, &RULES, 1_100), "asked before it began");
        assert!(!state.serves());
        assert!(state.on_good_check(1_001, |_| true, &RULES, 1_100));
        assert_eq!((state.serves(), state.tenths()), (true, 1));
        assert!(!state.on_good_check(2_000, |_| true, &RULES, 2_000), "there is none any more");
        assert_eq!(state.eject(EjectedFor::Failures, &RULES, 3_000), Some(20_000), "it was one all the same");
    }

    #[test]
    fn a_verdict_ends_an_ejection_for_what_failed_was_before_it() {
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        state.eject(EjectedFor::Failures, &RULES, 0);
        state.on_verdict(Ok(()), &RULES, 50);
        assert!(state.is_ejected(), "that it was up all the time is no news");
        state.on_verdict(Err("refused"), &RULES, 100);
        assert!(!state.is_ejected() && !state.serves());
        state.on_verdict(Ok(()), &RULES, 200);
        assert_eq!((state.serves(), state.tenths()), (true, 1));
        assert_eq!(state.eject(EjectedFor::Failures, &RULES, 300), Some(20_000), "it was one all the same");
        assert!(state.end_ejection(400) && !state.end_ejection(400));
        assert!(state.serves());
    }

    #[test]
    fn one_that_was_added_gets_nothing_until_it_answers() {
        let mut state = BackendState::new(Health::Untested { added: true }, 0);
        assert!(!state.is_up() && !state.serves() && !state.is_down());
        state.on_verdict(Ok(()), &RULES, 10);
        assert!(state.serves());
        assert_eq!(state.tenths(), TENTHS, "it did not come back: it came");
    }

    #[test]
    fn marks_last_until_they_are_taken_back_and_say_whose_they_are() {
        let mut state = BackendState::new(Health::Up, 0);
        let marked = Marked { mark: Mark::Down, by: "root".into(), since_ms: 5 };
        state.mark(Some(marked.clone()), &RULES, 5);
        assert!(state.is_down() && state.is_up(), "its health is another matter");
        state.mark(Some(Marked { mark: Mark::Drain, ..marked }), &RULES, 6);
        assert!(!state.is_down());
        assert_eq!(state.marked().map(|marked| &*marked.by), Some("root"));
        state.mark(None, &RULES, 7);
        assert_eq!((state.marked(), state.tenths()), (None, 1));
        assert_eq!(state.weight(7), 7);
        state.set_weight(Some(0));
        assert_eq!((state.weight(7), state.has_own_weight()), (0, true));
    }

    #[test]
    fn without_the_rules_nothing_of_it_happens() {
        let off = Rules { eject_ms: None, slow_start_ms: None };
        let mut state = BackendState::new(Health::Untested { added: false }, 0);
        assert_eq!(state.eject(EjectedFor::Failures, &off, 0), None);
        state.on_verdict(Err("refused"), &off, 1);
        state.on_verdict(Ok(()), &off, 2);
        assert_eq!((state.tenths(), state.next_wake_ms(&off)), (TENTHS, None));
    }
}
