//! Explanation of a pick: which backend a client would get at this moment, and why none of the others: for people.
//! Changes nothing.

use std::net::SocketAddr;

use super::PoolView;
use crate::balance::{Ask, Preview};
use crate::config::settings::{Balance, Role, WhenNone};
use crate::sticky::Source;

/// What a client would get.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The answer.
    pub outcome: Outcome,
    /// One for each backend, in the order of the file.
    pub backends: Vec<Why>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This backend, by its place in the list.
    Backend(usize),
    /// Chance decides.
    ByChance,
    /// Each eligible backend is full, or the pool is, and nobody may wait.
    Full,
    /// The same, and the session would wait in line.
    Waits,
    /// The same, and as many wait as may.
    QueueFull,
    /// None is eligible.
    NoBackend,
}

/// Why a backend would get this client, or not.
#[derive(Debug, Clone, PartialEq)]
pub enum Why {
    /// It would, by the pool's algorithm.
    Chosen,
    /// It would: this source was here last.
    Sticky,
    /// It would, with this chance in thousandths.
    Odds(u32),
    /// It could, but the algorithm's word for it is another's.
    NotChosen(&'static str),
    /// It cannot: its state says why.
    State,
    /// It cannot: its weight is 0.
    Weight,
    /// It cannot: as many sessions as it may have.
    Full {
        /// Sessions it has.
        active: u32,
    },
    /// It could, but its pool has as many sessions as it may.
    PoolFull {
        /// Sessions of the pool.
        active: u32,
    },
    /// It has not the role that is asked for: why.
    Role(String),
    /// A lower tier serves.
    Tier {
        /// Its own.
        own: u8,
        /// The one that serves.
        serving: u8,
    },
}

impl PoolView {
    /// What would come of a new session of this client. The clock is the shared one.
    pub fn explain(&self, role: Role, client: SocketAddr, random: u64, now_ns: u64) -> Explanation {
        let ask = Ask { client, random, now_ns, tried: &[] };
        let sticky = self.settings.sticky.and_then(|sticky| {
            let (source, now_ms) = (Source::from(client.ip()), now_ns / 1_000_000);
            let index =
                self.live.recall(source, role, &sticky, now_ms, |name| self.eligible_index(name, role))?;
            let index = index as usize;
            (!self.backends.get(index)?.load.is_full()).then_some(index)
        });
        let pool_full = self.settings.max_sessions.is_some_and(|most| self.live.sessions() >= most);
        let foreseen = if self.eligible(role).is_empty() {
            Preview::NoneEligible
        } else if pool_full || self.live.waiting() > 0 {
            Preview::Full
        } else if let Some(index) = sticky {
            // An index of the list, which is shorter than 2^32.
            Preview::Member(u32::try_from(index).unwrap_or(u32::MAX))
        } else {
            self.picker_for(role).map_or(Preview::NoneEligible, |picker| picker.preview(&ask))
        };
        let outcome = match &foreseen {
            Preview::Member(index) => Outcome::Backend(*index as usize),
            Preview::Odds(_) => Outcome::ByChance,
            Preview::Full => match self.settings.queue {
                None => Outcome::Full,
                Some(queue) if self.live.waiting() >= queue.sessions => Outcome::QueueFull,
                Some(_) => Outcome::Waits,
            },
            Preview::NoneEligible if self.settings.when_none != WhenNone::Wait => Outcome::NoBackend,
            Preview::NoneEligible => match self.settings.queue {
                None => Outcome::NoBackend,
                Some(queue) if self.live.waiting() >= queue.sessions => Outcome::QueueFull,
                Some(_) => Outcome::Waits,
            },
        };
        let why = |index: usize| match &foreseen {
            Preview::Member(chosen) if *chosen as usize == index => {
                if sticky == Some(index) {
                    Why::Sticky
                } else {
                    Why::Chosen
                }
            }
            Preview::Odds(odds) => {
                let own = odds.binary_search_by_key(&index, |(member, _)| *member as usize);
                own.map_or_else(|_| self.why_not(index, role), |place| Why::Odds(odds[place].1))
            }
            _ => self.why_not(index, role),
        };
        Explanation { outcome, backends: (0..self.backends.len()).map(why).collect() }
    }

    fn why_not(&self, index: usize, role: Role) -> Why {
        let (state, settings) = (&self.states[index], &self.settings.backends[index]);
        let eligible = self.eligible(role);
        if self.is_eligible(index, role) {
            let load = &self.backends[index].load;
            if load.is_full() {
                return Why::Full { active: load.active() };
            }
            let active = self.live.sessions();
            if self.settings.max_sessions.is_some_and(|most| active >= most) {
                return Why::PoolFull { active };
            }
            return Why::NotChosen(match self.settings.balance {
                Balance::RoundRobin => "it is another's turn",
                Balance::LeastConnections => "another has fewer sessions for its weight",
                Balance::LeastBusy => "another owes fewer answers for its speed",
                Balance::First => "another stands before it in the list",
                Balance::SourceHash(_) => "the client's hash is another's",
                Balance::Random | Balance::TwoChoices | Balance::LeastLatency => "others are drawn",
            });
        }
        if state.marked().is_some() || settings.drains.is_some() || !state.serves() {
            return Why::State;
        }
        if state.weight(settings.weight) == 0 {
            return Why::Weight;
        }
        if let Some(roles) = &self.roles
            && !roles.fits(index, role)
        {
            return Why::Role(roles.why(
                index,
                self.backends[index].lag(),
                self.settings.health.check.tells_bytes(),
            ));
        }
        let serving = eligible.first().and_then(|member| self.settings.backends.get(*member as usize));
        Why::Tier { own: settings.tier, serving: serving.map_or(0, |backend| backend.tier) }
    }
}
