//! Consul source (service discovery): the instances of a service, by questions that are answered when something has changed
//! (blocking queries).
//!
//! What must stay true: an index is taken from a 200 alone, and one that goes back is forgotten; each wait has an end of our own; a
//! service that changes without end is asked as often as answers are listened to (twenty times a second).

mod instances;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::ask::{AskError, Asker, Question, Readers, Reply, TokenHeader, encoded, plain, read_token};
use super::watch::{Answer, Listed, Watch};
use crate::config::settings::ConsulSource;

#[cfg(fuzzing)]
pub(super) use instances::read as read_instances;

/// The watch over one service.
#[derive(Debug)]
pub(super) struct ConsulWatch {
    asker: Asker,
    source: ConsulSource,
    /// What the last answer was the state at; 0: ask for what is there now.
    index: u64,
    /// How long until the next question, where it is not answered when something changes.
    pause: Option<Duration>,
    is_local: bool,
}

impl ConsulWatch {
    /// One that has not asked yet.
    pub(super) fn new(source: &ConsulSource, asker: Asker) -> Self {
        Self { asker, source: source.clone(), index: 0, pause: None, is_local: false }
    }

    /// Asks for what is otherwise than at the index, or for what is there.
    async fn ask(&mut self) -> Result<Vec<Listed>, String> {
        let before = self.index;
        // Whatever becomes of this question: the next one is not to wait for a change of what nobody heard.
        self.index = 0;
        let reply = self.fetch(before).await.map_err(|error| error.to_string())?;
        self.is_local = reply.is_local;
        let is_filtered = reply.header("x-consul-results-filtered-by-acls") == Some("true");
        let listed = instances::read(&self.source.service, &reply.body)?;
        if listed.is_empty() && is_filtered {
            return Err("Consul hides what there is: the token needs service:read for the service and node:read for its nodes"
                .to_owned());
        }
        self.index = next_index(before, reply.header("x-consul-index"));
        self.pause = (self.index == 0).then_some(POLL);
        Ok(listed)
    }

    async fn fetch(&self, index: u64) -> Result<Reply, AskError> {
        let token = match &self.source.token_file {
            Some(path) => Some(read_token(path, Readers::Few).await?),
            None => None,
        };
        let question = Question {
            server: &self.source.server,
            path: &path(&self.source, index),
            headers: &[("accept", "application/json")],
            token: token.as_ref().map(|token| (TokenHeader::Consul, token)),
            // Consul waits up to a sixteenth longer, so that not all come back at once.
            answer_within: if index == 0 { SLACK } else { WAIT + WAIT / 16 + SLACK },
        };
        self.asker.ask(&question, plain).await
    }
}

impl Watch for ConsulWatch {
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            if let Some(pause) = self.pause.take() {
                tokio::select! {
                    () = hurry.notified() => self.index = 0,
                    () = sleep(pause) => {}
                }
            }
            if self.index > 0 {
                tokio::select! {
                    answer = self.ask() => return said(answer),
                    // What waits for a change is given up, and what is there now is asked for.
                    () = hurry.notified() => {}
                }
            }
            said(self.ask().await)
        })
    }

    fn may_name_loopback(&self) -> bool {
        self.is_local
    }
}

fn said(answer: Result<Vec<Listed>, String>) -> Answer {
    answer.map_or_else(Answer::Failure, Answer::Listed)
}

fn path(source: &ConsulSource, index: u64) -> String {
    let mut query = Vec::new();
    if index > 0 {
        query.push(format!("index={index}&wait={}s", WAIT.as_secs()));
    }
    let said = [("tag", &source.tag), ("dc", &source.datacenter), ("filter", &source.filter)];
    let said =
        said.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", encoded(value.as_ref()?))));
    query.extend(said);
    if source.stale {
        query.push("stale".to_owned());
    }
    format!("/v1/health/service/{}?{}", encoded(&source.service), query.join("&"))
}

/// The index to wait behind: 0 where there is none, or where it went back, as that of an agent that lost its state does.
fn next_index(before: u64, told: Option<&str>) -> u64 {
    let index = told.and_then(|text| text.parse().ok()).unwrap_or(0);
    if index < before { 0 } else { index }
}

/// How long an answer may wait for a change. An index from the future is waited out in full.
const WAIT: Duration = Duration::from_secs(30);
/// Until an answer begins for which nothing is waited.
const SLACK: Duration = Duration::from_secs(5);
/// Between an answer and the next question where there is no index to wait behind.
const POLL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{HttpAt, HttpServer};

    #[test]
    fn an_index_that_goes_back_or_is_none_is_forgotten() {
        assert_eq!(next_index(0, Some("27")), 27);
        assert_eq!(next_index(27, Some("27")), 27, "nothing has changed");
        assert_eq!(next_index(27, Some("12")), 0, "an agent that lost its state");
        assert_eq!(next_index(27, None), 0);
        assert_eq!(next_index(27, Some("x")), 0);
        assert_eq!(next_index(27, Some("0")), 0);
    }

    #[test]
    fn a_question_says_what_the_file_says() {
        let server = HttpServer { at: HttpAt::Name("localhost".into(), 8_500), tls: None };
        let mut source = ConsulSource {
            server,
            service: "pg main".into(),
            tag: None,
            datacenter: None,
            stale: true,
            filter: None,
            token_file: None,
        };
        assert_eq!(path(&source, 0), "/v1/health/service/pg%20main?stale");
        source.tag = Some("a&b".into());
        source.datacenter = Some("west".into());
        source.filter = Some("Service.Port == 5432".into());
        source.stale = false;
        assert_eq!(
            path(&source, 7),
            "/v1/health/service/pg%20main?index=7&wait=30s&tag=a%26b&dc=west&\
             filter=Service.Port%20%3D%3D%205432"
        );
    }
}
