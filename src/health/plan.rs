//! Health check schedule: who is asked next, and what the answers mean, without a socket or a timer.
//!
//! Pure: the time is an argument, the jitter comes from a seed. What must stay true: one check per target at a time;
//! never more in flight than there are slots; targets that answer at once are never kept waiting by silent ones; a
//! local error leaves a target's liveness as it was; a pause of this process brings no burst of missed checks.
//!
//! A silent target holds a slot for its whole timeout. So targets are of two classes, by their last answer: quick and
//! slow. Each has a queue and a quarter of the slots that the other cannot take. While more quick ones are due than
//! there are slots, each gets only a glance, a check with a share of its timeout: a target silent that long is not
//! judged, but moves to the slow ones and waits there for a check of full length. A silence of most targets is so
//! sorted out in about one timeout, whatever the number of slots.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcome::{Cause, Outcome};
use super::target::{Checked, Haste, Target, TargetId, Verdict};
use crate::config::settings::{Check, Health};
use crate::liveness::{Liveness, State};
use crate::random::Random;
use crate::roles::Claim;
use crate::sys::probe::Route;

/// One check to be made. Exactly one [`Plan::answered`] must follow, or its slot is lost.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    ticket: Ticket,
    target: TargetId,
    pace: Pace,
    /// Whom, and from where.
    pub route: Route,
    /// What and how.
    pub health: Arc<Health>,
    haste: Haste,
    /// How long the answer may take; at most `health.timeout`.
    pub limit: Duration,
}

impl Ask {
    /// Which target this is, and which of those that had its name.
    pub(super) fn whom(&self) -> (TargetId, u64) {
        (self.target, self.ticket.0)
    }
}

/// How an [`Ask`] went.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub began: Instant,
    pub took: Duration,
    pub outcome: Outcome,
}

/// The targets, when each is due, and who is being asked.
#[derive(Debug)]
pub(super) struct Plan {
    entries: HashMap<TargetId, Entry>,
    /// Those not yet due. Each entry is in exactly one place: here, in a queue, or in flight. One whose time differs from
    /// what its entry says was brought forward, and means nothing.
    later: BinaryHeap<Reverse<(Instant, Ticket, TargetId)>>,
    quick: Lane,
    slow: Lane,
    slots: usize,
    /// So many more are held by connections that are kept.
    held: usize,
    /// Tickets given out; tells an entry from a later one with the same id.
    tickets: u64,
    random: Random,
}

#[derive(Debug)]
struct Entry {
    ticket: Ticket,
    route: Route,
    health: Arc<Health>,
    haste: Haste,
    liveness: Liveness,
    pace: Pace,
    /// When it is due, while it is among those not yet due.
    due: Option<Instant>,
    /// When the last check began.
    began: Option<Instant>,
    /// The word of the last outcome that was the server's.
    said: Option<&'static str>,
}

/// The targets of one pace: those due, first come first served, and how many are being asked.
#[derive(Debug, Default)]
struct Lane {
    due: VecDeque<(Ticket, TargetId)>,
    in_flight: usize,
}

/// Whether a target may keep others waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    Quick,
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

impl Plan {
    /// An empty plan with `slots` (at least 1) checks in flight at most.
    pub(super) fn new(slots: usize, seed: u64) -> Self {
        Self {
            entries: HashMap::new(),
            later: BinaryHeap::new(),
            quick: Lane::default(),
            slow: Lane::default(),
            slots: slots.max(1),
            held: 0,
            tickets: 0,
            random: Random::new(seed),
        }
    }

    /// So many descriptors are held by connections that are kept between two checks: as many fewer are begun at once.
    pub(super) fn note_held(&mut self, held: usize) {
        self.held = held;
    }

    /// Makes `targets` the list. One with id, peer and health as before keeps its schedule and liveness; others
    /// begin untested and due at once; those not named are forgotten, and so are answers still on their way.
    pub(super) fn set_targets(&mut self, targets: &[Target], now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        for target in targets.iter().filter(|target| target.health.check != Check::Off) {
            let entry = match before.remove(&target.id) {
                Some(entry) if entry.route.to == target.route.to && entry.health == target.health => {
                    Entry { route: target.route.clone(), haste: target.haste.clone(), ..entry }
                }
                other => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    self.later.push(Reverse((now, ticket, target.id)));
                    let (rise, fall) = (target.health.rise, target.health.fall);
                    Entry {
                        ticket,
                        route: target.route.clone(),
                        health: Arc::clone(&target.health),
                        haste: target.haste.clone(),
                        liveness: match (other, target.known) {
                            // It is asked anew with another password, and is what it was until it answers.
                            (Some(entry), _) if asks_as(&entry, target) => entry.liveness,
                            (_, Some(up)) => Liveness::known(rise, fall, up),
                            (_, None) => Liveness::new(rise, fall),
                        },
                        pace: Pace::Quick,
                        due: Some(now),
                        began: None,
                        said: None,
                    }
                }
            };
            let twin = self.entries.insert(target.id, entry);
            debug_assert!(twin.is_none(), "two targets have the id {:?}", target.id);
        }
        let entries = &self.entries;
        let stays = |ticket, id| entries.get(&id).is_some_and(|entry| entry.ticket == ticket);
        let is_due = |id, due| entries.get(&id).is_some_and(|entry| entry.due == Some(due));
        self.later.retain(|&Reverse((due, ticket, id))| stays(ticket, id) && is_due(id, due));
        self.quick.due.retain(|&(ticket, id)| stays(ticket, id));
        self.slow.due.retain(|&(ticket, id)| stays(ticket, id));
    }

    /// Brings the next check of this one forward, to a quarter of an interval after the last began at the soonest: something
    /// happened there.
    pub(super) fn hurry(&mut self, target: TargetId, now: Instant) {
        let Some(entry) = self.entries.get_mut(&target) else { return };
        let soonest = entry.began.map_or(now, |began| now.max(began + entry.health.interval / 4));
        if entry.due.is_some_and(|due| soonest < due) {
            entry.due = Some(soonest);
            self.later.push(Reverse((soonest, entry.ticket, target)));
        }
    }

    /// A server has another role, or none: the others of its pool may have another one as well.
    fn hurry_others(&mut self, ask: &Ask, now: Instant) {
        let others =
            self.entries.iter().filter(|(id, entry)| **id != ask.target && entry.haste.is_as(&ask.haste));
        let others: Vec<TargetId> = others.map(|(id, _)| *id).collect();
        others.into_iter().for_each(|target| self.hurry(target, now));
    }

    /// Whether this is still on the list, as [`Ask::whom`] named it.
    pub(super) fn has(&self, target: TargetId, incarnation: u64) -> bool {
        self.entries.get(&target).is_some_and(|entry| entry.ticket.0 == incarnation)
    }

    /// When [`Plan::next_ask`] has something new to say, if no answer comes before. May be in the past.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.later.peek().map(|Reverse((due, ..))| *due)
    }

    /// The next check to begin now, or `None` until time passes or an answer comes.
    pub(super) fn next_ask(&mut self, now: Instant) -> Option<Ask> {
        self.queue_due(now);
        let slots = self.slots.saturating_sub(self.held).max(1);
        let reserved = slots / 4;
        let total = self.quick.in_flight + self.slow.in_flight;
        if total >= slots {
            return None;
        }
        let may_quick = self.quick.in_flight < slots - reserved || self.slow.due.is_empty();
        let may_slow = self.slow.in_flight < slots - reserved;
        let free = slots - total;
        // Quick first: none of them keeps the slot for long.
        let (pace, (_, target)) = if may_quick && !self.quick.due.is_empty() {
            (Pace::Quick, self.quick.due.pop_front()?)
        } else if may_slow {
            (Pace::Slow, self.slow.due.pop_front()?)
        } else {
            return None;
        };
        let is_pressed = self.quick.due.len() >= free;
        // Always there: who leaves the list leaves the queues.
        let entry = self.entries.get(&target)?;
        let (ticket, route, health) = (entry.ticket, entry.route.clone(), Arc::clone(&entry.health));
        let haste = entry.haste.clone();
        let limit = match pace {
            Pace::Quick if is_pressed => glance(health.timeout, self.slots, self.entries.len()),
            _ => health.timeout,
        };
        self.lane(pace).in_flight += 1;
        Some(Ask { ticket, target, pace, route, health, haste, limit })
    }

    /// Takes the answer to `ask` and sets the next check. `None`: nobody is to be told, since the target is gone or
    /// was only glanced at.
    pub(super) fn answered(&mut self, ask: &Ask, answer: Answer, now: Instant) -> Option<Checked> {
        self.lane(ask.pace).in_flight -= 1;
        let quick_max = glance(ask.health.timeout, self.slots, self.entries.len());
        let entry = self.entries.get_mut(&ask.target).filter(|entry| entry.ticket == ask.ticket)?;
        let Answer { began, took, outcome } = answer;
        if outcome == Outcome::Bad(Cause::Timeout) && ask.limit < ask.health.timeout {
            entry.pace = Pace::Slow;
            self.slow.due.push_back((ask.ticket, ask.target));
            return None;
        }
        let change = match &outcome {
            Outcome::Good => entry.liveness.observe(true),
            // A promotion counts at the word: `rise` is for what may have been luck.
            Outcome::Role(said) if said.claim == Claim::Primary => entry.liveness.settle_up(),
            Outcome::Role(_) | Outcome::Unconfirmed { .. } => entry.liveness.observe(true),
            // Who has no room for a check has sessions.
            Outcome::Bad(Cause::Full { .. }) => entry.liveness.observe(true),
            Outcome::Bad(_) => entry.liveness.observe(false),
            Outcome::Local(_) => None,
        };
        let mut is_news = false;
        if !matches!(outcome, Outcome::Local(_)) {
            let said = entry.said.replace(outcome.word());
            is_news = ask.health.check.tells_roles() && said.is_some_and(|said| said != outcome.word());
            entry.pace = if took < quick_max { Pace::Quick } else { Pace::Slow };
        }
        let (state, progress) = (entry.liveness.state(), entry.liveness.progress());
        let is_open = state == State::Untested || entry.liveness.is_changing() || ask.haste.is_asked_for();
        let pause = if is_open { ask.health.interval / 4 } else { ask.health.interval };
        // Counted from the beginning, so that the answer's time does not stretch the interval; never in the past.
        let due = (began + jittered(pause, self.random.bits())).max(now);
        (entry.due, entry.began) = (Some(due), Some(began));
        self.later.push(Reverse((due, ask.ticket, ask.target)));
        if is_news {
            self.hurry_others(ask, now);
        }
        Some(Checked {
            target: ask.target,
            began,
            took,
            outcome,
            verdict: Verdict { state, change, progress },
        })
    }

    /// Moves what is due to the queues.
    fn queue_due(&mut self, now: Instant) {
        while let Some(&Reverse((due, ticket, target))) = self.later.peek() {
            if due > now {
                return;
            }
            self.later.pop();
            let Some(entry) = self.entries.get_mut(&target) else { continue };
            if entry.ticket != ticket || entry.due != Some(due) {
                continue;
            }
            entry.due = None;
            let interval = entry.health.interval;
            if now.duration_since(due) > interval && entry.liveness.state() != State::Untested {
                // This process or machine was paused and everything is due: spread it over an interval.
                let later = now + share(interval, self.random.bits());
                entry.due = Some(later);
                self.later.push(Reverse((later, ticket, target)));
                continue;
            }
            let pace = entry.pace;
            self.lane(pace).due.push_back((ticket, target));
        }
    }

    fn lane(&mut self, pace: Pace) -> &mut Lane {
        match pace {
            Pace::Quick => &mut self.quick,
            Pace::Slow => &mut self.slow,
        }
    }
}

/// The same server is asked the same, but for passwords.
fn asks_as(entry: &Entry, target: &Target) -> bool {
    let (before, now) = (&entry.health, &target.health);
    let asks = Health { check: now.check.clone(), ..Health::clone(before) };
    entry.route.to == target.route.to && before.check.asks_as(&now.check) && asks == **now
}

/// The length of a glance: short enough that all targets get theirs within about one timeout.
fn glance(timeout: Duration, slots: usize, targets: usize) -> Duration {
    let share = slots as f64 / targets.max(1) as f64;
    timeout.mul_f64(share.min(1.0)).max(GLANCE_MIN).min(timeout)
}

/// `pause` give or take up to 10 %, evenly spread by `random`.
fn jittered(pause: Duration, random: u64) -> Duration {
    pause * 9 / 10 + share(pause / 5, random)
}

/// An even share of `whole`, from nothing to just below all of it.
fn share(whole: Duration, random: u64) -> Duration {
    // The upper 53 bits are what an f64 holds exactly.
    whole.mul_f64((random >> 11) as f64 / (1u64 << 53) as f64)
}

/// Enough for a round trip within a continent. Who is farther away is asked at full length, among the slow ones.
const GLANCE_MIN: Duration = Duration::from_millis(50);

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
