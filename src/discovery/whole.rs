//! Ledger of a source that tells the whole (a file, a URL, a registry): answers and failures go in, a set and the moment at which it
//! is to be asked come out.
//!
//! Pure: the clock (milliseconds) and chance are arguments. What must stay true: no failure takes anybody out, nor an answer of
//! nobody where that is to mean nothing; who is not in an answer leaves at once, but where that takes away much, not before an answer
//! five seconds later says it too; who comes, comes at once; the same answers in another order make the same set; there are never
//! more than [`MEMBERS_MAX`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::ledger::{CONFIRM_MS, Change, MEMBERS_MAX, MUCH_MS, Rules};
use super::standing::{Standing, Stands};
use super::watch::Listed;

/// The ledger of one source.
#[derive(Debug, Clone)]
pub(super) struct Whole {
    rules: Rules,
    members: BTreeMap<String, Member>,
    stands: Stands,
    /// When something was heard last.
    heard_ms: Option<u64>,
    /// It is left alone until then.
    rests_ms: u64,
    /// When it is to say at once what it knows; `None`: it tells by itself.
    hurry_ms: Option<u64>,
}

/// Who is found, and since when the answers lack it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    listed: Listed,
    lacked_ms: Option<u64>,
}

impl Whole {
    /// One that has heard nothing.
    pub(super) fn new(rules: Rules, now_ms: u64) -> Self {
        Self {
            rules,
            members: BTreeMap::new(),
            stands: Stands::new(now_ms),
            heard_ms: None,
            rests_ms: 0,
            hurry_ms: None,
        }
    }

    /// What a process before had heard last, and when.
    pub(super) fn remember(
        &mut self,
        all: impl IntoIterator<Item = Listed>,
        (answered_ms, why): (Option<u64>, Option<String>),
    ) {
        let member = |listed: Listed| (key(&listed), Member { listed, lacked_ms: None });
        self.members = all.into_iter().take(MEMBERS_MAX).map(member).collect();
        if !self.members.is_empty() {
            self.stands.remember(answered_ms, why);
        }
    }

    /// Other rules, from the next answer on.
    pub(super) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    /// Takes a list; `nobody` says why, where it is empty.
    pub(super) fn hear(&mut self, all: Vec<Listed>, nobody: &str, now_ms: u64) -> Change<String> {
        (self.heard_ms, self.rests_ms, self.hurry_ms) = (Some(now_ms), 0, None);
        self.stands.note_answer(now_ms);
        if all.is_empty() {
            let why = Some(nobody.to_owned());
            if self.rules.keeps_on_empty {
                // The verdict is set aside, also where it would confirm another.
                self.members.values_mut().for_each(|member| member.lacked_ms = None);
                self.stands.stand(Standing::Nobody, why, now_ms);
                return Change { found: Vec::new(), left: Vec::new() };
            }
            return self.take(BTreeMap::new(), (Standing::Nobody, why), now_ms);
        }
        let mut listed: BTreeMap<String, Listed> = BTreeMap::new();
        for one in all {
            // Of two of one name the order of the answer does not decide.
            let key = key(&one);
            let is_before = |there: &Listed| (one.ip, one.port) < (there.ip, there.port);
            if listed.get(&key).is_none_or(is_before) {
                listed.insert(key, one);
            }
        }
        self.take(listed, (Standing::Ok, None), now_ms)
    }

    /// There was no answer; it is left alone for `pause_ms`, or as others are.
    pub(super) fn fail(
        &mut self,
        why: String,
        (now_ms, pause_ms): (u64, Option<u64>),
        random: u64,
    ) -> Change<String> {
        self.heard_ms = Some(now_ms);
        let usual_ms = self.stands.fail(why, now_ms, random);
        self.rests_ms = now_ms + pause_ms.unwrap_or(usual_ms);
        // What was held back is still to be confirmed.
        let first_ms = self.members.values().filter_map(|member| member.lacked_ms).min();
        self.hurry_ms = first_ms.map(|first_ms| (first_ms + MUCH_MS).max(self.rests_ms));
        self.on_time(now_ms)
    }

    /// What time alone brings: what a source that fails had found is given up.
    pub(super) fn on_time(&mut self, now_ms: u64) -> Change<String> {
        let gives_up = self.stands.gives_up(self.rules.keep_for_ms, now_ms);
        let left =
            if gives_up { std::mem::take(&mut self.members).into_keys().collect() } else { Vec::new() };
        Change { found: Vec::new(), left }
    }

    /// It is asked at once, but no oftener than once a second.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        let at_ms = now_ms.max(self.heard_ms.map_or(0, |heard_ms| heard_ms + CONFIRM_MS));
        self.hurry_ms = Some(self.hurry_ms.map_or(at_ms, |hurry_ms| hurry_ms.min(at_ms)));
        self.rests_ms = self.rests_ms.min(at_ms);
    }

    /// When it is to be asked, where it is not. A source that never stops talking has its turns all the same.
    pub(super) fn ask_ms(&self) -> u64 {
        self.rests_ms.max(self.heard_ms.map_or(0, |heard_ms| heard_ms + APART_MS))
    }

    /// When it is to be told to hurry, while it is asked; `None`: it tells by itself.
    pub(super) fn hurry_ms(&self) -> Option<u64> {
        self.hurry_ms
    }

    /// It was told to hurry.
    pub(super) fn note_hurried(&mut self) {
        self.hurry_ms = None;
    }

    /// When it is asked next, for people.
    pub(super) fn next_ms(&self) -> Option<u64> {
        Some(self.rests_ms).filter(|rests_ms| *rests_ms > 0).or(self.hurry_ms)
    }

    /// Who is found, in an order that is theirs.
    pub(super) fn members(&self) -> impl Iterator<Item = &Listed> {
        self.members.values().map(|member| &member.listed)
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
        listed: BTreeMap<String, Listed>,
        (standing, why): (Standing, Option<String>),
        now_ms: u64,
    ) -> Change<String> {
        let all = self.members.len();
        for (_, member) in self.members.iter_mut().filter(|(key, _)| !listed.contains_key(*key)) {
            member.lacked_ms.get_or_insert(now_ms);
        }
        let mut found = Vec::new();
        for (key, listed) in listed {
            let is_known = self.members.contains_key(&key);
            if is_known || self.members.len() < MEMBERS_MAX {
                if !is_known {
                    found.push(key.clone());
                }
                self.members.insert(key, Member { listed, lacked_ms: None });
            }
        }
        let lacked = self.members.iter().filter_map(|(key, member)| Some((key.clone(), member.lacked_ms?)));
        let lacked: Vec<(String, u64)> = lacked.collect();
        let is_much =
            lacked.len() >= 2 && lacked.len() * 100 > usize::from(self.rules.max_removed_percent) * all;
        let may_go = |since_ms: u64| !is_much || now_ms >= since_ms + MUCH_MS;
        let held = lacked.iter().filter(|(_, since_ms)| !may_go(*since_ms));
        let first_ms = held.clone().map(|(_, since_ms)| *since_ms).min();
        let held = held.count();
        let left: BTreeSet<String> =
            lacked.into_iter().filter(|(_, since_ms)| may_go(*since_ms)).map(|(key, _)| key).collect();
        self.members.retain(|key, _| !left.contains(key));
        match first_ms {
            Some(first_ms) => {
                self.hurry_ms = Some(first_ms + MUCH_MS);
                let why = format!("the answer lacks {held} of {all}; asked again");
                self.stands.stand(Standing::Held, Some(why), now_ms);
            }
            None => self.stands.stand(standing, why, now_ms),
        }
        Change { found, left: left.into_iter().collect() }
    }
}

/// By what one is known: its name, or its address.
fn key(listed: &Listed) -> String {
    listed.name.clone().unwrap_or_else(|| shown(listed.ip, listed.port))
}

/// As a file would have it, so that a list of addresses and a name for them are the same backends.
pub(super) fn shown(ip: IpAddr, port: Option<u16>) -> String {
    match (ip, port) {
        (ip, Some(port)) => std::net::SocketAddr::new(ip, port).to_string(),
        (IpAddr::V6(ip), None) => format!("[{ip}]"),
        (ip, None) => ip.to_string(),
    }
}

/// Answers of one source.
const APART_MS: u64 = 50;

#[cfg(test)]
#[path = "whole_tests.rs"]
mod tests;
