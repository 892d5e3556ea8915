//! Kubernetes source: the endpoints of a service, by a list of its EndpointSlices and a watch over them.
//!
//! What must stay true: a watch that ends goes on from its last version, and whatever is wrong with it the list is asked for anew, with
//! nothing emptied in between; the last slice that goes is no empty list before a list says so too; a silent watch ends.

mod access;
mod slices;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::ask::{AskError, Asker, Lines, Question, Reply, TokenHeader, encoded, message_of_json};
use super::watch::{Answer, Listed, Watch};
use crate::config::settings::KubernetesSource;
use access::Access;

pub(super) use slices::{Event as SliceEvent, Slices};

/// The watch over one service.
#[derive(Debug)]
pub(super) struct KubernetesWatch {
    asker: Asker,
    source: KubernetesSource,
    /// As they are known; `None`: they are to be listed.
    slices: Option<Slices>,
    lines: Option<Lines>,
    /// The cluster is older than 1.21.
    is_beta: bool,
    is_local: bool,
}

/// What became of listening.
enum Heard {
    /// This is to be said.
    Listed(Vec<Listed>),
    /// The list has to be asked for.
    ListAnew,
}

impl KubernetesWatch {
    /// One that has not asked yet.
    pub(super) fn new(source: &KubernetesSource, asker: Asker) -> Self {
        Self { asker, source: source.clone(), slices: None, lines: None, is_beta: false, is_local: false }
    }

    async fn list(&mut self) -> Result<Vec<Listed>, String> {
        (self.slices, self.lines) = (None, None);
        let mut reply = self.fetch().await;
        if matches!(reply, Err(AskError::Status { status: NOT_FOUND, .. })) {
            // A cluster before 1.21 has it under another name, and one that was upgraded no longer.
            self.is_beta = !self.is_beta;
            reply = self.fetch().await;
        }
        let reply = reply.map_err(|error| error.to_string())?;
        self.is_local = reply.is_local;
        let slices = Slices::of_list(&reply.body)?;
        let listed = self.listed(&slices)?;
        self.slices = Some(slices);
        Ok(listed)
    }

    /// Asks for the list; where the token is refused, once more with the one that its file has by then.
    async fn fetch(&self) -> Result<Reply, AskError> {
        let access = Access::of(&self.source).await?;
        let first = self.ask(&access).await;
        match &first {
            Err(error) if error.is_about_token() => {
                let anew = Access::of(&self.source).await?;
                if anew == access { first } else { self.ask(&anew).await }
            }
            _ => first,
        }
    }

    async fn ask(&self, access: &Access) -> Result<Reply, AskError> {
        let path = self.path(access);
        self.asker.ask(&question(access, &path), message_of_json).await
    }

    async fn open(&self, version: &str) -> Result<Lines, AskError> {
        let access = Access::of(&self.source).await?;
        let path = format!(
            "{}&watch=true&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            self.path(&access),
            WATCH.as_secs(),
            encoded(version)
        );
        self.asker.open(&question(&access, &path), message_of_json).await
    }

    fn path(&self, access: &Access) -> String {
        let version = if self.is_beta { "v1beta1" } else { "v1" };
        let namespace = self.source.namespace.as_deref().or(access.namespace.as_deref()).unwrap_or("default");
        format!(
            "/apis/discovery.k8s.io/{version}/namespaces/{}/endpointslices?labelSelector={}",
            encoded(namespace),
            encoded(&format!("kubernetes.io/service-name={}", self.source.service))
        )
    }

    fn listed(&self, slices: &Slices) -> Result<Vec<Listed>, String> {
        slices.listed(&self.source.service, self.source.port.as_ref())
    }

    /// Ends when the watch has said something.
    async fn listen(&mut self) -> Result<Heard, String> {
        loop {
            let Some(slices) = &mut self.slices else { return Ok(Heard::ListAnew) };
            let Some(lines) = &mut self.lines else {
                let version = slices.version().to_owned();
                match self.open(&version).await {
                    Ok(lines) => self.lines = Some(lines),
                    Err(AskError::Status { status: GONE, .. }) => return list_anew().await,
                    Err(error) => return Err(format!("its watch: {error}")),
                }
                continue;
            };
            match lines.next(SILENCE).await {
                Ok(Some(line)) => match slices.apply(&line) {
                    Ok(SliceEvent::Changed) => {}
                    Ok(SliceEvent::Same) => continue,
                    Ok(SliceEvent::Expired) => return list_anew().await,
                    Err(why) => return Err(why),
                },
                Ok(None) => {
                    // As it was asked to. What nothing has changed in says so, and goes on from where it is.
                    self.lines = None;
                    let slices = slices.clone();
                    sleep(PAUSE).await;
                    return self.listed(&slices).map(Heard::Listed);
                }
                Err(_) => return list_anew().await,
            }
            self.hear_more().await;
            let Some(slices) = &self.slices else { return Ok(Heard::ListAnew) };
            if slices.is_empty() {
                // Slices are replaced by others: the last one that goes means nothing yet.
                sleep(SETTLE).await;
                return Ok(Heard::ListAnew);
            }
            return self.listed(slices).map(Heard::Listed);
        }
    }

    /// What comes together: a pod that moves from one slice to another leaves the one first.
    async fn hear_more(&mut self) {
        let more = async {
            while let (Some(lines), Some(slices)) = (&mut self.lines, &mut self.slices) {
                match lines.next(SILENCE).await {
                    Ok(Some(line)) if slices.apply(&line).is_ok_and(|event| event != SliceEvent::Expired) => {
                    }
                    _ => {
                        (self.lines, self.slices) = (None, None);
                        return;
                    }
                }
            }
        };
        let _ = tokio::time::timeout(TOGETHER, more).await;
    }
}

impl Watch for KubernetesWatch {
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            if self.slices.is_some() {
                let heard = tokio::select! {
                    heard = self.listen() => heard,
                    () = hurry.notified() => Ok(Heard::ListAnew),
                };
                match heard {
                    Ok(Heard::Listed(listed)) => return Answer::Listed(listed),
                    Ok(Heard::ListAnew) => {}
                    Err(why) => {
                        self.slices = None;
                        return Answer::Failure(why);
                    }
                }
            }
            self.list().await.map_or_else(Answer::Failure, Answer::Listed)
        })
    }

    fn may_name_loopback(&self) -> bool {
        self.is_local
    }
}

/// Not at once: what is wrong with a watch may be so with the next one.
async fn list_anew() -> Result<Heard, String> {
    sleep(PAUSE).await;
    Ok(Heard::ListAnew)
}

fn question<'a>(access: &'a Access, path: &'a str) -> Question<'a> {
    Question {
        server: &access.server,
        path,
        headers: &[("accept", "application/json")],
        token: access.token.as_ref().map(|token| (TokenHeader::Bearer, token)),
        answer_within: ANSWER_MAX,
    }
}

const NOT_FOUND: u16 = 404;
/// The version to watch from is too old.
const GONE: u16 = 410;
/// Until an answer begins.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How long a watch goes on. Each end of one tells that the other side still lives.
const WATCH: Duration = Duration::from_secs(60);
/// A watch that should have ended has gone silent.
const SILENCE: Duration = Duration::from_secs(75);
/// Events so near to each other are one.
const TOGETHER: Duration = Duration::from_millis(50);
/// Between a watch that ended and the next.
const PAUSE: Duration = Duration::from_millis(200);
/// How long a service without any endpoint is not believed.
const SETTLE: Duration = Duration::from_secs(2);
