//! Docker source (and Podman, which speaks the same): the containers of a label, listed, and listed anew when an event says so, and
//! every ten seconds in any case: the stream of events may go quiet without a word.
//!
//! What must stay true: events say when to ask and never who is there; who asks first listens and then lists, so that nothing
//! falls between the two.

mod containers;

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use super::ask::{Asker, Lines, Question, encoded, message_of_json};
use super::watch::{Answer, Listed, Watch};
use crate::config::settings::DockerSource;
use containers::Event;
#[cfg(fuzzing)]
pub(super) use containers::{event, read as read_containers};

/// The watch over the containers of one label.
#[derive(Debug)]
pub(super) struct DockerWatch {
    asker: Asker,
    source: DockerSource,
    /// What tells of changes.
    events: Option<Lines>,
    /// Containers that were told to stop, and until when that is believed.
    stopping: HashMap<String, Instant>,
    /// It has listed, and waits for an event.
    rests: bool,
}

impl DockerWatch {
    /// One that has not asked yet.
    pub(super) fn new(source: &DockerSource, asker: Asker) -> Self {
        Self { asker, source: source.clone(), events: None, stopping: HashMap::new(), rests: false }
    }

    fn question<'a>(&'a self, path: &'a str) -> Question<'a> {
        Question { server: &self.source.server, path, headers: &[], token: None, answer_within: ANSWER_MAX }
    }

    async fn list(&mut self) -> Result<Vec<Listed>, String> {
        if self.events.is_none() {
            let path = format!("/events?filters={}", encoded(r#"{"type":["container","network"]}"#));
            let opened = self.asker.open(&self.question(&path), message_of_json).await;
            self.events = Some(opened.map_err(|error| error.to_string())?);
        }
        let filters = serde_json::json!({ "label": [self.source.label] }).to_string();
        let path = format!("/containers/json?filters={}", encoded(&filters));
        let reply = self.asker.ask(&self.question(&path), message_of_json).await;
        let reply = reply.map_err(|error| error.to_string())?;
        let listed = containers::read(&self.source, &reply.body)?;
        let now = Instant::now();
        self.stopping.retain(|id, until| *until > now && listed.iter().any(|(own, _)| own == id));
        let drained = listed.into_iter().map(|(id, one)| match self.stopping.contains_key(&id) {
            true => Listed { drains: Some("being stopped (docker)".to_owned()), ..one },
            false => one,
        });
        Ok(drained.collect())
    }

    /// Ends when there is something to ask for.
    async fn listen(&mut self) {
        let until = Instant::now() + EVERY;
        loop {
            let Some(events) = &mut self.events else { return };
            let line = tokio::select! {
                line = events.next(EVERY) => line,
                () = sleep_until(until) => return,
            };
            let Ok(Some(line)) = line else {
                // It ended, or broke: the next list begins another.
                self.events = None;
                return;
            };
            match containers::event(&line) {
                Ok(Event::Nothing) => continue,
                Ok(Event::Changed) => {}
                Ok(Event::Starts(id)) => drop(self.stopping.remove(&id)),
                Ok(Event::Stops(id)) => {
                    if self.stopping.len() < STOPPING_MAX {
                        self.stopping.insert(id, Instant::now() + STOPPING);
                    }
                }
                Err(_) => self.events = None,
            }
            // What else comes with it is asked for with it.
            sleep(PAUSE).await;
            return;
        }
    }
}

impl Watch for DockerWatch {
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            if self.rests {
                tokio::select! {
                    () = hurry.notified() => {}
                    () = self.listen() => {}
                }
            }
            self.rests = false;
            match self.list().await {
                Ok(listed) => {
                    self.rests = true;
                    Answer::Listed(listed)
                }
                Err(why) => {
                    self.events = None;
                    Answer::Failure(why)
                }
            }
        })
    }

    /// Whoever may speak at that socket is root here.
    fn may_name_loopback(&self) -> bool {
        true
    }
}

/// Until an answer begins.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two lists without an event.
const EVERY: Duration = Duration::from_secs(10);
/// From an event to the list.
const PAUSE: Duration = Duration::from_millis(50);
/// A container that goes on after a signal has meant something else by it.
const STOPPING: Duration = Duration::from_secs(60);
/// Containers that stop at once.
const STOPPING_MAX: usize = 10_000;
