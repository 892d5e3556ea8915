//! HTTP source (http_sd of Prometheus): a URL that lists backends, asked every so often. The forms are those of a file.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::ask::{AskError, Asker, Question, Readers, Reply, TokenHeader, nothing, read_token};
use super::listing;
use super::watch::{Answer, Listed, Watch};
use crate::config::settings::HttpSource;

/// The watch over one URL.
#[derive(Debug)]
pub(super) struct HttpWatch {
    asker: Asker,
    source: HttpSource,
    /// What the URL is called in what is told.
    name: String,
    /// What it listed last, and by what tag the server knows that.
    last: Option<(Option<String>, Vec<Listed>)>,
    /// It has answered, and is left alone for a while.
    rests: bool,
    is_local: bool,
}

impl HttpWatch {
    /// One that has not asked yet.
    pub(super) fn new(source: &HttpSource, asker: Asker) -> Self {
        let name = source.path.split('?').next().unwrap_or_default();
        let name = format!("{}{name}", source.server.authority());
        Self { asker, source: source.clone(), name, last: None, rests: false, is_local: false }
    }

    async fn ask(&mut self) -> Result<Vec<Listed>, String> {
        let reply = self.fetch().await.map_err(|error| error.to_string())?;
        self.is_local = reply.is_local;
        if reply.status == NOT_MODIFIED {
            // Only who has sent a tag is answered so.
            let known = self.last.as_ref().map(|(_, listed)| listed.clone());
            return known.ok_or_else(|| "HTTP 304, though nothing was known yet".to_owned());
        }
        // What says where it ends cannot have been cut unnoticed.
        let has_brackets = matches!(reply.body.trim_ascii_start().first(), Some(b'[' | b'{'));
        if !(reply.has_end || has_brackets) {
            return Err(
                "its answer says neither its length nor its end, so that nobody knows whether it is whole; \
                 send Content-Length, or a JSON list"
                    .to_owned(),
            );
        }
        let tag = reply.header("etag").filter(|tag| tag.len() <= TAG_BYTES_MAX).map(str::to_owned);
        if reply.body.trim_ascii_start().starts_with(b"<") {
            // Such as where to log in: nothing of it is anybody's business.
            return Err("its answer is a page of HTML and no list".to_owned());
        }
        let name = self.name.clone();
        // YAML of 8 MiB takes a while, in which others would wait.
        let read = tokio::task::spawn_blocking(move || listing::read(&name, &reply.body)).await;
        let listed = read.map_err(|_| "its answer could not be read".to_owned())??;
        self.last = Some((tag, listed.clone()));
        Ok(listed)
    }

    async fn fetch(&self) -> Result<Reply, AskError> {
        let token = match &self.source.token_file {
            Some(path) => Some(read_token(path, Readers::Few).await?),
            None => None,
        };
        let every = self.source.every.as_secs().max(1).to_string();
        let mut headers =
            vec![("accept", "application/json"), ("x-prometheus-refresh-interval-seconds", &every)];
        if let Some((Some(tag), _)) = &self.last {
            headers.push(("if-none-match", tag));
        }
        let question = Question {
            server: &self.source.server,
            path: &self.source.path,
            headers: &headers,
            token: token.as_ref().map(|token| (TokenHeader::Bearer, token)),
            answer_within: ANSWER_MAX,
        };
        self.asker.ask(&question, nothing).await
    }
}

impl Watch for HttpWatch {
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>> {
        Box::pin(async move {
            if self.rests {
                tokio::select! {
                    () = hurry.notified() => {}
                    () = sleep(self.source.every) => {}
                }
            }
            self.rests = false;
            match self.ask().await {
                Ok(listed) => {
                    self.rests = true;
                    Answer::Listed(listed)
                }
                Err(why) => Answer::Failure(why),
            }
        })
    }

    fn may_name_loopback(&self) -> bool {
        self.is_local
    }
}

const NOT_MODIFIED: u16 = 304;
/// Until an answer begins.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Longer tags are not sent back.
const TAG_BYTES_MAX: usize = 1_024;
