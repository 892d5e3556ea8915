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
    /// When it lists once more after an event: the daemon tells of a change before its lists have it, and writes to a disk between.
    again_at: Option<Instant>,
    /// It has listed, and waits for an event.
    rests: bool,
}

impl DockerWatch {
    /// One that has not asked yet.
    pub(super) fn new(source: &DockerSource, asker: Asker) -> Self {
        Self {
            asker,
            source: source.clone(),
            events: None,
            stopping: HashMap::new(),
            again_at: None,
            rests: false,
        }
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
        let until = self.again_at.take().unwrap_or_else(|| Instant::now() + EVERY);
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
            self.again_at = Some(Instant::now() + AGAIN);
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
/// From an event to the list that has what the first one lacked.
const AGAIN: Duration = Duration::from_secs(1);
/// A container that goes on after a signal has meant something else by it.
const STOPPING: Duration = Duration::from_secs(60);
/// Containers that stop at once.
const STOPPING_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;
    use tokio::time::timeout;

    use super::*;
    use crate::config;
    use crate::config::settings::{HttpAt, HttpServer};

    /// A daemon as dockerd is on a slow disk: it tells that a container is paused once it was asked for a list, of which the third
    /// one has it.
    async fn lags(door: UnixListener) {
        let lists = Arc::<AtomicUsize>::default();
        loop {
            let (mut stream, _) = door.accept().await.unwrap();
            let lists = Arc::clone(&lists);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                if head.starts_with(b"GET /events") {
                    let begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
                    stream.write_all(begin).await.unwrap();
                    while lists.load(Ordering::SeqCst) == 0 {
                        sleep(Duration::from_millis(5)).await;
                    }
                    let event = "{\"Type\":\"container\",\"Action\":\"pause\",\"Actor\":{\"ID\":\"a\"}}\n";
                    let chunk = format!("{:x}\r\n{event}\r\n", event.len());
                    stream.write_all(chunk.as_bytes()).await.unwrap();
                    std::future::pending::<()>().await;
                }
                let state = if lists.fetch_add(1, Ordering::SeqCst) < 2 { "running" } else { "paused" };
                let body = format!(
                    r#"[{{"Id":"a","Names":["/pg"],"State":"{state}","NetworkSettings":{{"Networks":{{"n":{{"IPAddress":"10.0.0.1"}}}}}}}}]"#
                );
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
        }
    }

    #[tokio::test]
    async fn a_list_that_lags_behind_its_event_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        tokio::spawn(lags(UnixListener::bind(&path).unwrap()));
        let server = HttpServer { at: HttpAt::Socket(path.display().to_string()), tls: None };
        let source = DockerSource { server, label: "l".to_owned(), port: Some(1), network: None };
        let settings = config::read("test.yaml", b"listeners: { door: { bind: 1, backends: [10.0.0.1] } }");
        let mut watch = DockerWatch::new(&source, Asker::new(&settings.unwrap().dns));
        let hurry = Notify::new();
        for expected in [None, None, Some("paused (docker)")] {
            // Without an event it is asked every ten seconds.
            let answer = timeout(Duration::from_secs(8), watch.next(&hurry)).await.unwrap();
            let Answer::Listed(listed) = answer else { panic!("{answer:?}") };
            assert_eq!(listed[0].drains.as_deref(), expected);
        }
    }
}
