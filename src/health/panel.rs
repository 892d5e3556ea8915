//! Panel of a Redis check: the server and the Sentinels beside it (quorum) are asked together, each over a line of its own, and one
//! outcome is made of what they say.
//!
//! Whoever is no primary is not confirmed by anybody. Of the Sentinels, those that answer after more than half of them have are
//! waited for only a little: one that is dead must not make every check as long as its timeout.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::dialogue::Dialogue;
use super::line::Opening;
use super::lines::{Lines, Seat};
use super::outcome::Outcome;
use super::protocols::header;
use super::redis::{self, Server, Talk};
use super::resp::Reply;
use super::sentinel::{self, Named, Said};
use super::target::TargetId;
use crate::config::settings::{Check, Health, RedisCheck, Tls, TlsTerms};
use crate::proxy_protocol::Transport;
use crate::roles::Claim;
use crate::sys::probe::Route;

/// The panels of one checker.
#[derive(Debug, Default)]
pub(super) struct Panels {
    open: HashMap<TargetId, (u64, Arc<Heard>)>,
}

/// What was said last.
#[derive(Debug)]
struct Heard {
    health: Arc<Health>,
    server: Mutex<Option<Server>>,
    named: Vec<Mutex<Option<Named>>>,
}

impl Panels {
    /// Asks once; `None`: it is no such check.
    pub(super) fn ask(
        &mut self,
        lines: &mut Lines,
        (target, incarnation): (TargetId, u64),
        route: &Route,
        health: &Arc<Health>,
        limit: Duration,
    ) -> Option<impl Future<Output = Outcome> + Send + use<>> {
        let Check::Redis(check) = &health.check else { return None };
        let addresses = check.sentinels.as_ref().map_or(&[][..], |sentinels| &sentinels.addresses);
        let heard = match self.open.get(&target) {
            Some((of, heard)) if *of == incarnation => Arc::clone(heard),
            _ => {
                let named = addresses.iter().map(|_| Mutex::default()).collect();
                let heard = Arc::new(Heard { health: Arc::clone(health), server: Mutex::default(), named });
                self.open.insert(target, (incarnation, Arc::clone(&heard)));
                heard
            }
        };
        let mut ask = |seat: Seat, whom: &Route| {
            let opening = Box::new(Place { heard: Arc::clone(&heard), seat });
            lines.ask((target, incarnation), seat, opening, whom.clone(), limit)
        };
        let server = ask(Seat::Server, route);
        let mut sentinels = JoinSet::new();
        let mut asked = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            let whom = Route { to: *address, from: Arc::clone(&route.from) };
            asked.push((at, ask(Seat::Beside(at), &whom)));
        }
        let address = route.to;
        Some(async move {
            for (at, ask) in asked {
                sentinels.spawn(async move { (at, ask.await) });
            }
            heard.together(server.await, sentinels, address).await
        })
    }

    /// Only those stay.
    pub(super) fn retain(&mut self, stays: impl Fn(TargetId, u64) -> bool) {
        self.open.retain(|target, (incarnation, _)| stays(*target, *incarnation));
    }
}

impl Heard {
    /// Makes one outcome of all. The Sentinels were asked at the same time as the server.
    async fn together(
        &self,
        outcome: Outcome,
        mut asked: JoinSet<(usize, Outcome)>,
        address: SocketAddr,
    ) -> Outcome {
        let Check::Redis(RedisCheck { sentinels: Some(sentinels), .. }) = &self.health.check else {
            return outcome;
        };
        match &outcome {
            Outcome::Role(answer) if answer.claim == Claim::Primary => {}
            _ => return outcome,
        }
        let Some(server) = take(&self.server) else { return outcome };
        let mut said: Vec<Said> = self.named.iter().map(|_| Said::Nothing).collect();
        let mut until = None;
        loop {
            let next = match until {
                None => asked.join_next().await,
                Some(until) => timeout_at(until, asked.join_next()).await.unwrap_or(None),
            };
            let Some(ended) = next else { break };
            // Only a fault of our own makes an error.
            let Ok((at, outcome)) = ended else { continue };
            said[at] = match (outcome, self.named.get(at).and_then(take)) {
                (Outcome::Good, Some(named)) => Said::Named(named),
                (Outcome::Bad(cause), _) => Said::Trouble(format!("{}: {cause}", sentinels.addresses[at])),
                _ => Said::Nothing,
            };
            let heard = said.iter().filter(|said| matches!(said, Said::Named(_))).count();
            if until.is_none() && heard * 2 > said.len() {
                until = Some(Instant::now() + STRAGGLERS);
            }
        }
        sentinel::judge(&server, (address, self.health.port.is_some()), &said, &sentinels.name)
    }
}

fn take<T>(slot: &Mutex<Option<T>>) -> Option<T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

fn put<T>(slot: &Mutex<Option<T>>, value: T) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
}

/// Who sits where.
#[derive(Debug)]
struct Place {
    heard: Arc<Heard>,
    seat: Seat,
}

impl Place {
    fn check(&self) -> Option<&RedisCheck> {
        match &self.heard.health.check {
            Check::Redis(check) => Some(check),
            _ => None,
        }
    }
}

impl Opening for Place {
    fn dialogue(&self) -> Option<Box<dyn Dialogue>> {
        let (check, heard) = (self.check()?, Arc::clone(&self.heard));
        let with_tls = check.tls != Tls::Off;
        match self.seat {
            Seat::Server => {
                let judge = move |replies: &[Reply<'_>]| {
                    let said = redis::server(replies)?;
                    let outcome = Outcome::Role(said.answer.clone());
                    put(&heard.server, said);
                    Ok(outcome)
                };
                let login = (check.user.as_bytes(), check.password.expose());
                Some(Box::new(Talk::new(login, with_tls, &redis::QUESTIONS, Box::new(judge))))
            }
            Seat::Beside(at) => {
                let sentinels = check.sentinels.as_ref()?;
                let judge = move |replies: &[Reply<'_>]| {
                    let named = sentinel::named(replies)?;
                    if let Some(slot) = heard.named.get(at) {
                        put(slot, named);
                    }
                    Ok(Outcome::Good)
                };
                let question: &[&[u8]] = &[b"SENTINEL", b"MASTER", sentinels.name.as_bytes()];
                let login = (&b""[..], sentinels.password.expose());
                Some(Box::new(Talk::new(login, with_tls, &[question], Box::new(judge))))
            }
        }
    }

    fn header(&self) -> Vec<u8> {
        match self.seat {
            Seat::Server => header(self.heard.health.send_proxy, Transport::Stream),
            Seat::Beside(_) => Vec::new(),
        }
    }

    fn terms(&self) -> Arc<TlsTerms> {
        match self.check().map(|check| &check.tls) {
            Some(Tls::On(terms)) => Arc::clone(terms),
            _ => Arc::new(TlsTerms::ANYBODY),
        }
    }

    fn keep(&self) -> Option<Duration> {
        self.heard.health.keep
    }
}

/// How long the others are waited for when more than half have answered.
const STRAGGLERS: Duration = Duration::from_millis(50);
