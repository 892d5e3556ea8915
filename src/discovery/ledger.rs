//! Ledger of one question (what is believed of a source's answers): answers and failures go in, a set and the moment of the next
//! question come out.
//!
//! Pure: the clock (milliseconds) and chance are arguments. What must stay true: no failure takes anybody out, nor an answer of
//! nobody where that is to mean nothing; who an answer lacks leaves after three more answers, a second apart, have lacked him too (and
//! as many more as somebody was lacked for who came back: such a server gives parts), and where that takes away much at once, not within five seconds; who comes, comes at once; the same answers in another order make the
//! same set in the same order; a ledger never has more than [`MEMBERS_MAX`].

use std::collections::{BTreeMap, BTreeSet};

use super::standing::{Standing, Stands, jittered};

/// What is taken how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Nobody means that those found before stay.
    pub(super) keeps_on_empty: bool,
    /// What a source that fails had found is given up after so long.
    pub(super) keep_for_ms: Option<u64>,
    /// More of a hundred at once is much.
    pub(super) max_removed_percent: u8,
    /// A question is asked again no sooner.
    pub(super) refresh_min_ms: u64,
    /// And no later.
    pub(super) refresh_max_ms: u64,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Heard<K> {
    /// These, and nobody else; for so long.
    Members(BTreeSet<K>, u64),
    /// There is nobody; for so long, where that is said.
    Nobody(String, Option<u64>),
    /// No answer.
    Failure(String),
}

/// What a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change<K> {
    /// Who came.
    pub(super) found: Vec<K>,
    /// Who left.
    pub(super) left: Vec<K>,
}

/// The ledger of one question.
#[derive(Debug, Clone)]
pub(super) struct Ledger<K> {
    rules: Rules,
    members: BTreeMap<K, Lacks>,
    stands: Stands,
    next_ms: u64,
    /// For how many answers somebody was lacked who came back, and when that was seen last.
    gap: (u32, u64),
}

/// Answers in a row that lacked somebody.
#[derive(Debug, Clone, Copy, Default)]
struct Lacks {
    answers: u32,
    since_ms: u64,
    last_ms: u64,
}

impl<K: Ord + Clone> Ledger<K> {
    /// One that has heard nothing, and asks at once.
    pub(super) fn new(rules: Rules, now_ms: u64) -> Self {
        Self {
            rules,
            members: BTreeMap::new(),
            stands: Stands::new(now_ms),
            next_ms: now_ms,
            gap: (0, now_ms),
        }
    }

    /// What a process before had heard last, and when.
    pub(super) fn remember(
        &mut self,
        members: impl IntoIterator<Item = K>,
        (answered_ms, why): (Option<u64>, Option<String>),
    ) {
        self.members =
            members.into_iter().take(MEMBERS_MAX).map(|member| (member, Lacks::default())).collect();
        if !self.members.is_empty() {
            self.stands.remember(answered_ms, why);
        }
    }

    /// Other rules, from the next answer on.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes what came of a question.
    pub(super) fn hear(&mut self, heard: Heard<K>, now_ms: u64, random: u64) -> Change<K> {
        match heard {
            Heard::Failure(why) => {
                self.next_ms = now_ms + self.stands.fail(why, now_ms, random);
                self.give_up(now_ms)
            }
            Heard::Nobody(why, ttl_ms) => {
                self.stands.note_answer(now_ms);
                let ttl_ms = ttl_ms.unwrap_or(NOBODY_MS);
                if self.rules.keeps_on_empty {
                    self.next_ms = now_ms + self.refresh_ms(ttl_ms, random);
                    self.stands.stand(Standing::Nobody, Some(why), now_ms);
                    return Change { found: Vec::new(), left: Vec::new() };
                }
                self.take(&BTreeSet::new(), ttl_ms, (Standing::Nobody, Some(why)), now_ms, random)
            }
            Heard::Members(members, ttl_ms) => {
                self.stands.note_answer(now_ms);
                self.take(&members, ttl_ms, (Standing::Ok, None), now_ms, random)
            }
        }
    }

    /// What time alone brings: what a source that fails had found is given up.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Change<K> {
        self.give_up(now_ms)
    }

    /// It is asked at once, but no oftener than once a second.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        let answered_ms = self.answered_ms().map_or(0, |at_ms| at_ms + CONFIRM_MS);
        self.next_ms = self.next_ms.min(now_ms.max(answered_ms));
    }

    /// When it is to be asked.
    pub(super) fn next_ms(&self) -> u64 {
        self.next_ms
    }

    /// A question is under way.
    pub(super) fn note_asked(&mut self, until_ms: u64) {
        self.next_ms = until_ms;
    }

    /// Who is found, in an order that is theirs.
    pub(super) fn members(&self) -> impl Iterator<Item = &K> {
        self.members.keys()
    }

    /// How it stands, since when, and why.
    pub(super) fn standing(&self) -> (Standing, u64, Option<&str>) {
        self.stands.get()
    }

    /// When it answered last.
    pub(super) fn answered_ms(&self) -> Option<u64> {
        self.stands.answered_ms()
    }

    /// An answer or a failure has come.
    pub(super) fn is_heard(&self) -> bool {
        self.stands.is_heard()
    }

    fn take(
        &mut self,
        members: &BTreeSet<K>,
        ttl_ms: u64,
        (standing, why): (Standing, Option<String>),
        now_ms: u64,
        random: u64,
    ) -> Change<K> {
        let mut found = Vec::new();
        if now_ms >= self.gap.1 + GAP_MS {
            self.gap.0 = 0;
        }
        for member in members {
            if let Some(lacks) = self.members.get_mut(member) {
                if lacks.answers > 0 {
                    self.gap = (self.gap.0.max(lacks.answers).min(GAP_MAX), now_ms);
                }
                *lacks = Lacks::default();
            } else if self.members.len() < MEMBERS_MAX {
                self.members.insert(member.clone(), Lacks::default());
                found.push(member.clone());
            }
        }
        for (_, lacks) in self.members.iter_mut().filter(|(member, _)| !members.contains(*member)) {
            if lacks.answers == 0 {
                *lacks = Lacks { answers: 1, since_ms: now_ms, last_ms: now_ms };
            } else if now_ms >= lacks.last_ms + CONFIRM_MS {
                (lacks.answers, lacks.last_ms) = (lacks.answers.saturating_add(1), now_ms);
            }
        }
        let due: Vec<(K, u64)> = self
            .members
            .iter()
            .filter(|(_, lacks)| lacks.answers > CONFIRMATIONS + self.gap.0)
            .map(|(member, lacks)| (member.clone(), lacks.since_ms))
            .collect();
        let is_much = due.len() >= 2
            && due.len() * 100 > usize::from(self.rules.max_removed_percent) * self.members.len();
        let all = self.members.len();
        let may_go = |since_ms: u64| !is_much || now_ms >= since_ms + MUCH_MS;
        let held = due.iter().filter(|(_, since_ms)| !may_go(*since_ms)).count();
        let left: Vec<K> =
            due.into_iter().filter(|(_, since)| may_go(*since)).map(|(member, _)| member).collect();
        for member in &left {
            self.members.remove(member);
        }
        if held > 0 {
            let why = format!("the answer lacks {held} of {all}; asked again");
            self.stands.stand(Standing::Held, Some(why), now_ms);
        } else {
            self.stands.stand(standing, why, now_ms);
        }
        let lacks_some = self.members.values().any(|lacks| lacks.answers > 0);
        self.next_ms = now_ms + if lacks_some { CONFIRM_MS } else { self.refresh_ms(ttl_ms, random) };
        Change { found, left }
    }

    fn give_up(&mut self, now_ms: u64) -> Change<K> {
        let gives_up = self.stands.gives_up(self.rules.keep_for_ms, now_ms);
        let left =
            if gives_up { std::mem::take(&mut self.members).into_keys().collect() } else { Vec::new() };
        Change { found: Vec::new(), left }
    }

    fn refresh_ms(&self, ttl_ms: u64, random: u64) -> u64 {
        let least_ms = self.rules.refresh_min_ms;
        jittered(ttl_ms.clamp(least_ms, self.rules.refresh_max_ms.max(least_ms)), random)
    }
}

/// What one ledger holds at most: more than a DNS message has room for.
pub(super) const MEMBERS_MAX: usize = 10_000;
/// Answers after the first that must lack somebody.
const CONFIRMATIONS: u32 = 3;
/// More for one that gives parts: a minute of answers at most, and for so long after that was seen.
const GAP_MAX: u32 = 60;
const GAP_MS: u64 = 10 * 60 * 1_000;
/// So long apart at least.
pub(super) const CONFIRM_MS: u64 = 1_000;
/// Much leaves at once no sooner.
pub(super) const MUCH_MS: u64 = 5_000;
/// For how long there is nobody, where no answer says it.
const NOBODY_MS: u64 = 5_000;

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
