//! Outlier of a pool (passive health): who owes answers for too long, and who answers far more slowly than the others, look by
//! look.
//!
//! What must stay true: one that answers is not silent, however long others wait (a long poll, a long query); a backend is slow
//! by many turns and not by one; one that is quick enough for anybody is never slow, however quick the others are.

use std::time::Duration;

use crate::backend_state::EjectedFor;
use crate::balance::load::Load;
use crate::config::settings::Passive;

/// What is remembered of a backend from one look to the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Watched {
    /// Turns that had been measured.
    turns: u32,
    /// Of those since the look before.
    measured: u32,
    /// When there last were any.
    turned_ms: Option<u64>,
    /// Turns since it is slow.
    slow_turns: u32,
    /// When it was last out.
    out_ms: u64,
    /// What it is to be ejected for.
    pub(super) cause: Option<EjectedFor>,
}

impl Watched {
    /// Notes what was measured since the last time. One that gets no sessions begins anew when it is back.
    pub(super) fn note(&mut self, load: &Load, is_out: bool, now_ms: u64) {
        if is_out {
            load.forget_turns();
            *self = Self { out_ms: now_ms, ..Self::default() };
            return;
        }
        let turns = load.turns();
        self.measured = turns.wrapping_sub(self.turns);
        self.turns = turns;
        if self.measured > 0 {
            self.turned_ms = Some(now_ms);
        }
    }

    /// Looks at it, beside the others.
    pub(super) fn look(&mut self, passive: &Passive, load: &Load, usual_ns: Option<f32>, now_ms: u64) {
        let takes_ns = load.usual_ns().filter(|_| self.turns >= TURNS_MIN);
        let is_slow = match (passive.slow, usual_ns, takes_ns) {
            (Some(factor), Some(usual_ns), Some(takes_ns)) => {
                takes_ns > FLOOR_NS && f64::from(takes_ns) > f64::from(usual_ns) * factor
            }
            _ => false,
        };
        self.slow_turns = if is_slow { self.slow_turns.saturating_add(self.measured) } else { 0 };
        self.cause = if passive.silent.is_some_and(|silent| self.is_silent(silent, load, now_ms)) {
            Some(EjectedFor::Silent)
        } else {
            (self.slow_turns >= SLOW_TURNS).then_some(EjectedFor::Slow)
        };
    }

    /// What its turns take, where that says how quick one can be at this moment.
    fn yardstick_ns(&self, load: &Load, now_ms: u64) -> Option<f32> {
        let is_busy = self.turned_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) <= BUSY_MS);
        load.usual_ns().filter(|_| is_busy && self.turns >= TURNS_MIN)
    }

    /// It owes answers for so long, and gave none in all that time.
    fn is_silent(&self, silent: Duration, load: &Load, now_ms: u64) -> bool {
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        let owed_ms = load.owed_for_us(now_ms.saturating_mul(1_000)).map_or(0, |us| us / 1_000);
        let spoke_ms = load.answered_ms().max(self.out_ms);
        owed_ms >= silent_ms && now_ms.saturating_sub(spoke_ms) >= silent_ms
    }
}

/// The median of those that answer sessions in these seconds, and of which enough is known; of two, the quicker.
pub(super) fn usual_ns<'a>(all: impl Iterator<Item = (&'a Watched, &'a Load)>, now_ms: u64) -> Option<f32> {
    let mut known: Vec<f32> = all.filter_map(|(watched, load)| watched.yardstick_ns(load, now_ms)).collect();
    known.sort_by(f32::total_cmp);
    (known.len() > 1).then(|| known[(known.len() - 1) / 2])
}

/// Turns of a backend that must have been measured before anything is said of its speed.
const TURNS_MIN: u32 = 20;
/// One that measured no turn for so long is no yardstick: what the others are asked may take longer since.
const BUSY_MS: u64 = 10_000;
/// Turns in a row, as far as they are measured, until it is ejected.
const SLOW_TURNS: u32 = 20;
/// Whoever answers within this is not slow.
const FLOOR_NS: f32 = 10_000_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const PASSIVE: Passive = Passive {
        failures: 5,
        empty: None,
        silent: Some(Duration::from_secs(3)),
        slow: Some(5.0),
        eject: Duration::from_secs(10),
        max_ejected_percent: 50,
    };

    /// A backend of which so many turns were measured.
    fn load(turns: u32, takes_ms: u64) -> Load {
        let load = Load::new(None);
        (0..turns).for_each(|_| load.observe_answer(1_000_000_000, takes_ms * 1_000_000));
        load
    }

    fn look(watched: &mut Watched, load: &Load, usual_ms: u64, now_ms: u64) -> Option<EjectedFor> {
        watched.note(load, false, now_ms);
        watched.look(&PASSIVE, load, Some(usual_ms as f32 * 1e6), now_ms);
        watched.cause
    }

    fn noted(load: &Load, now_ms: u64) -> Watched {
        let mut watched = Watched::default();
        watched.note(load, false, now_ms);
        watched
    }

    #[test]
    fn the_median_is_of_those_that_are_known() {
        let all = [load(20, 4), load(20, 9), load(20, 900), load(19, 1)];
        let watched = all.each_ref().map(|load| noted(load, 1_000));
        let median = |count: usize, now_ms| {
            usual_ns(watched.iter().zip(&all).take(count), now_ms).map(|ns| (ns / 1e6).round())
        };
        assert_eq!(median(4, 1_000), Some(9.0));
        assert_eq!(median(2, 1_000), Some(4.0));
        assert_eq!(median(1, 1_000), None, "nobody to compare it with");
    }

    /// Its average fades with time, and made every other one slow beside it.
    #[test]
    fn one_that_is_idle_or_out_is_no_yardstick() {
        let (busy, idle) = (load(600, 20), load(600, 20));
        let (mut own, mut others) = (noted(&busy, 1_000), noted(&idle, 1_000));
        let usual = |own: &Watched, others: &Watched, now_ms| {
            usual_ns([(own, &busy), (others, &idle)].into_iter(), now_ms)
        };
        assert_eq!(usual(&own, &others, 11_000).map(|ns| (ns / 1e6).round()), Some(20.0));
        busy.observe_answer(61_000_000_000, 20_000_000);
        own.note(&busy, false, 61_000);
        others.note(&idle, false, 61_000);
        assert_eq!(usual(&own, &others, 61_000), None, "it is idle for a minute");
        (0..30).for_each(|_| idle.observe_answer(61_000_000_000, 1_000_000));
        others.note(&idle, true, 62_000);
        assert_eq!((usual(&own, &others, 62_000), idle.turns()), (None, 0), "it is out");
    }

    #[test]
    fn one_slow_turn_among_many_makes_nobody_slow() {
        let (mut watched, busy) = (Watched::default(), load(530, 1));
        assert_eq!(look(&mut watched, &busy, 1, 1_000), None);
        busy.observe_answer(2_000_000_000, 5_000_000_000);
        (0..30).for_each(|_| busy.observe_answer(2_000_000_000, 1_000_000));
        assert_eq!(look(&mut watched, &busy, 1, 2_000), None);
    }

    #[test]
    fn slow_is_who_is_slow_for_many_turns_by_much_and_not_below_the_floor() {
        let mut watched = Watched::default();
        assert_eq!(look(&mut watched, &load(19, 500), 10, 1_000), None, "too little is known");
        let slow = load(25, 500);
        assert_eq!(look(&mut Watched::default(), &slow, 10, 1_000), Some(EjectedFor::Slow));
        assert_eq!(look(&mut Watched::default(), &slow, 101, 1_000), None, "less than five times");
        assert_eq!(look(&mut Watched::default(), &load(25, 9), 1, 1_000), None, "quick enough for anybody");
        // It was quick in between.
        let mut watched = Watched { turns: 15, ..Watched::default() };
        assert_eq!(look(&mut watched, &slow, 10, 1_000), None, "10 turns");
        assert_eq!(look(&mut watched, &slow, 400, 2_000), None);
        (0..15).for_each(|_| slow.observe_answer(1_000_000_000, 500_000_000));
        assert_eq!(look(&mut watched, &slow, 10, 3_000), None, "15 since");
        (0..5).for_each(|_| slow.observe_answer(1_000_000_000, 500_000_000));
        assert_eq!(look(&mut watched, &slow, 10, 4_000), Some(EjectedFor::Slow));
    }

    #[test]
    fn silent_is_who_owes_for_long_and_says_nothing_to_anybody() {
        let load = Load::new(None);
        let mut watched = Watched::default();
        assert_eq!(look(&mut watched, &load, 1, 60_000), None, "it owes nothing");
        load.ask(60_000_000);
        assert_eq!(look(&mut watched, &load, 1, 62_999), None);
        assert_eq!(look(&mut watched, &load, 1, 63_000), Some(EjectedFor::Silent));
        // Somebody else is answered meanwhile: the first one has asked for something that takes long.
        load.note_answered(62_000_000);
        assert_eq!(look(&mut watched, &load, 1, 63_000), None);
        assert_eq!(look(&mut watched, &load, 1, 65_000), Some(EjectedFor::Silent));
        watched.note(&load, true, 75_000);
        assert_eq!(
            look(&mut watched, &load, 1, 77_000),
            None,
            "it is back, and has a while to show what it can"
        );
        assert_eq!(look(&mut watched, &load, 1, 78_000), Some(EjectedFor::Silent));
    }
}
