//! What is known of one backend, and what follows: may it be picked, and with which part of its weight.
//!
//! Pure: the clock is an argument (milliseconds, any beginning). Verdicts, failures and the passing of time come in;
//! whoever publishes snapshots asks afterwards. What must stay true: after [`Standing::next_wake_ms`] has passed and
//! [`Standing::on_time`] was called, nothing changes by itself until the next one.

mod ejection;

use ejection::Ejection;

/// The settings of a pool that decide here. `None` is `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The first ejection in a row lasts so long.
    pub eject_ms: Option<u64>,
    /// The weight of a backend that came back grows for so long.
    pub slow_start_ms: Option<u64>,
}

/// One backend's standing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    up: bool,
    /// Since when it is up, or down.
    since_ms: u64,
    ejection: Ejection,
    /// It came back, and its weight still grows.
    rising: Option<Rising>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rising {
    since_ms: u64,
    /// Of its weight; below [`TENTHS`].
    tenths: u16,
}

impl Standing {
    /// Counts as up until it was asked.
    pub fn new(now_ms: u64) -> Self {
        Self { up: true, since_ms: now_ms, ejection: Ejection::default(), rising: None }
    }

    /// Its checks say so, or nobody asks.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Since when it is as [`Self::is_up`] says.
    pub fn since_ms(&self) -> u64 {
        self.since_ms
    }

    /// Up and not ejected.
    pub fn serves(&self) -> bool {
        self.up && !self.is_ejected()
    }

    /// Real traffic failed there too often.
    pub fn is_ejected(&self) -> bool {
        self.ejection.until_ms().is_some()
    }

    /// Takes a verdict of its checks.
    pub fn on_verdict(&mut self, up: bool, rules: &Rules, now_ms: u64) {
        let came_back = up && !self.up;
        self.up = up;
        self.since_ms = now_ms;
        if came_back {
            self.rise(rules, now_ms);
        } else if !up {
            self.rising = None;
        }
    }

    /// Takes it out for a while, the longer the more often in a row; tells for how long. Nothing if it is out already or
    /// the rules know no ejection.
    pub fn eject(&mut self, rules: &Rules, now_ms: u64) -> Option<u64> {
        let first_ms = rules.eject_ms?;
        let for_ms = self.ejection.begin(first_ms, now_ms)?;
        self.rising = None;
        Some(for_ms)
    }

    /// A good check that began at `asked_ms` ends an ejection that began before it. True: it did.
    pub fn on_good_check(&mut self, asked_ms: u64, rules: &Rules, now_ms: u64) -> bool {
        let ends = self.ejection.began_before(asked_ms);
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
    fn live(standing: &mut Standing, failed_ms: Option<u64>, from_ms: u64) -> Vec<(u64, bool, u16)> {
        let mut seen = Vec::new();
        let mut now_ms = from_ms;
        while let Some(at_ms) = standing.next_wake_ms(&RULES) {
            assert!(at_ms > now_ms || seen.is_empty(), "woken at {at_ms} again: {standing:?}");
            now_ms = at_ms.max(now_ms);
            let back = standing.on_time(failed_ms, &RULES, now_ms);
            seen.push((now_ms, back, standing.tenths()));
            assert!(seen.len() < 100, "{seen:?}");
        }
        seen
    }

    #[test]
    fn a_backend_that_came_back_grows_from_a_tenth_to_the_whole() {
        let mut standing = Standing::new(0);
        assert_eq!(standing.tenths(), TENTHS, "the first verdict is no return");
        standing.on_verdict(true, &RULES, 5);
        assert_eq!((standing.tenths(), standing.next_wake_ms(&RULES)), (TENTHS, None));
        standing.on_verdict(false, &RULES, 100);
        assert!(!standing.serves());
        standing.on_verdict(true, &RULES, 1_000);
        assert!(standing.serves());
        assert_eq!(standing.tenths(), 1);
        let steps: Vec<_> =
            live(&mut standing, None, 1_000).iter().map(|(at, _, tenths)| (*at, *tenths)).collect();
        let expected: Vec<_> = (2..=10).map(|tenths| (u64::from(tenths) * 1_000, tenths)).collect();
        assert_eq!(steps, expected);
        assert_eq!(standing.since_ms(), 1_000);
    }

    #[test]
    fn ejections_in_a_row_double_up_to_five_minutes() {
        let mut standing = Standing::new(0);
        let mut lasted = Vec::new();
        let mut now_ms = 0;
        for _ in 0..7 {
            let for_ms = standing.eject(&RULES, now_ms).unwrap();
            assert!(!standing.serves() && standing.is_ejected());
            assert_eq!(standing.eject(&RULES, now_ms), None, "it is out already");
            lasted.push(for_ms / 1_000);
            now_ms += for_ms;
            assert!(standing.on_time(Some(0), &RULES, now_ms));
            assert!(standing.serves());
        }
        assert_eq!(lasted, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn one_quiet_time_makes_the_next_ejection_a_first_one() {
        let mut standing = Standing::new(0);
        standing.eject(&RULES, 0);
        assert!(standing.on_time(Some(0), &RULES, 10_000));
        // A failure 5 s after its return: the quiet time begins there.
        let seen = live(&mut standing, Some(15_000), 10_000);
        assert_eq!(seen.last().unwrap().0, 25_000, "{seen:?}");
        assert_eq!(standing.eject(&RULES, 26_000), Some(10_000));

        assert!(standing.on_time(Some(26_000), &RULES, 36_000));
        assert_eq!(standing.eject(&RULES, 45_999), Some(20_000), "not quiet for long enough");
    }

    #[test]
    fn a_good_check_that_began_later_ends_an_ejection_early() {
        let mut standing = Standing::new(0);
        standing.eject(&RULES, 1_000);
        assert!(!standing.on_good_check(999, &RULES, 1_100), "asked before it began");
        assert!(!standing.serves());
        assert!(standing.on_good_check(1_001, &RULES, 1_100));
        assert_eq!((standing.serves(), standing.tenths()), (true, 1));
        assert!(!standing.on_good_check(2_000, &RULES, 2_000), "there is none any more");
        assert_eq!(standing.eject(&RULES, 3_000), Some(20_000), "it was one all the same");
    }

    #[test]
    fn down_and_ejected_must_both_pass() {
        let mut standing = Standing::new(0);
        standing.eject(&RULES, 0);
        standing.on_verdict(false, &RULES, 100);
        standing.on_time(None, &RULES, 10_000);
        assert!(!standing.is_ejected() && !standing.serves());
        standing.on_verdict(true, &RULES, 20_000);
        assert!(standing.serves());
    }

    #[test]
    fn without_the_rules_nothing_of_it_happens() {
        let off = Rules { eject_ms: None, slow_start_ms: None };
        let mut standing = Standing::new(0);
        assert_eq!(standing.eject(&off, 0), None);
        standing.on_verdict(false, &off, 1);
        standing.on_verdict(true, &off, 2);
        assert_eq!((standing.tenths(), standing.next_wake_ms(&off)), (TENTHS, None));
    }
}
