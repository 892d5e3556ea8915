//! HTTP client (HTTP/1.1, GET alone) of sources: one question on a connection of its own, and an answer that is whole, or lines of one
//! that goes on.
//!
//! What must stay true: every wait has an end, every answer a limit; what was cut off is no answer; no redirect is followed; of
//! a body that is no answer nobody shows more than the server's own short message, and never a token.

mod error;
mod reach;
mod token;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

pub(super) use error::{AskError, short};
pub(super) use reach::Asker;
pub(super) use token::{Readers, Token, read as read_token, read_text};

use crate::config::settings::HttpServer;

/// What is asked, of whom, and as whom.
#[derive(Debug)]
pub(super) struct Question<'a> {
    /// Who is asked.
    pub(super) server: &'a HttpServer,
    /// Path and query, as they are sent.
    pub(super) path: &'a str,
    /// Besides those that every question has.
    pub(super) headers: &'a [(&'static str, &'a str)],
    /// As whom.
    pub(super) token: Option<(TokenHeader, &'a Token)>,
    /// How long until an answer begins.
    pub(super) answer_within: Duration,
}

/// How a token is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenHeader {
    /// `Authorization: Bearer`.
    Bearer,
    /// `X-Consul-Token`.
    Consul,
}

/// An answer that is whole.
#[derive(Debug)]
pub(super) struct Reply {
    /// 200 or 304.
    pub(super) status: u16,
    headers: HeaderMap,
    /// All of it.
    pub(super) body: Vec<u8>,
    /// The end of the body was told; otherwise it is where the connection ended, and may be anywhere.
    pub(super) has_end: bool,
    /// Who said it is on this host.
    pub(super) is_local: bool,
}

impl Reply {
    /// What a header says.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An answer that goes on, a line at a time.
pub(super) struct Lines {
    talk: Talk,
    body: Incoming,
    read: Vec<u8>,
    /// So far no end of a line is in it.
    looked: usize,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("read", &self.read.len()).finish_non_exhaustive()
    }
}

impl Asker {
    /// Asks, and hears all of the answer; another one than 200 or 304 is an error, of which `message` finds the server's words.
    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        message: fn(&[u8]) -> Option<String>,
    ) -> Result<Reply, AskError> {
        let (mut talk, response) = self.begin(question, message).await?;
        let (parts, mut body) = response.into_parts();
        let has_end = [header::CONTENT_LENGTH, header::TRANSFER_ENCODING]
            .iter()
            .any(|name| parts.headers.contains_key(name));
        let whole = talk.whole(&mut body, ANSWER_BYTES_MAX);
        let silent = AskError::Silent { what: "end of the answer", within_s: BODY_MAX.as_secs() };
        let body = timeout(BODY_MAX, whole).await.unwrap_or(Err(silent))?;
        Ok(Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
            has_end,
            is_local: talk.is_local,
        })
    }

    /// Asks for an answer that goes on.
    pub(super) async fn open(
        &self,
        question: &Question<'_>,
        message: fn(&[u8]) -> Option<String>,
    ) -> Result<Lines, AskError> {
        let (talk, response) = self.begin(question, message).await?;
        Ok(Lines { talk, body: response.into_body(), read: Vec::new(), looked: 0 })
    }

    async fn begin(
        &self,
        question: &Question<'_>,
        message: fn(&[u8]) -> Option<String>,
    ) -> Result<(Talk, Response<Incoming>), AskError> {
        let by_tls = question.server.tls.is_some();
        let reached = self.reach(question.server).await?;
        let builder = http1::Builder::new().max_buf_size(HEADER_BYTES_MAX).clone();
        let (mut sender, connection) = builder
            .handshake::<_, Empty<Bytes>>(TokioIo::new(reached.io))
            .await
            .map_err(|error| AskError::of_hyper(&error, by_tls))?;
        let connection = Some(Mutex::new(Box::pin(connection) as Connection));
        let mut talk = Talk { connection, by_tls, is_local: reached.is_local };
        let request = request(question)?;
        let sent = timeout(question.answer_within, talk.beside(sender.send_request(request))).await;
        let within_s = question.answer_within.as_secs();
        let mut response = match sent {
            Ok(response) => response.map_err(|error| AskError::of_hyper(&error, by_tls))?,
            Err(_) => return Err(AskError::Silent { what: "answer", within_s }),
        };
        let status = response.status().as_u16();
        if status != 200 && status != 304 {
            let body = talk.whole(response.body_mut(), MESSAGE_BYTES_MAX);
            // Without its words the status alone is told.
            let body = timeout(MESSAGE_MAX, body).await.ok().and_then(Result::ok).unwrap_or_default();
            let token = question.token.map(|(_, token)| token.expose());
            let message = message(&body).and_then(|message| short(&message, token));
            let location = response.headers().get(header::LOCATION);
            let location = location.map(|location| String::from_utf8_lossy(location.as_bytes()));
            return Err(AskError::of_status(status, (location.as_deref(), token), message));
        }
        match response.headers().get(header::CONTENT_ENCODING) {
            Some(coding) if coding.as_bytes() != b"identity" => {
                Err(AskError::Io("its answer is compressed, which was not asked for".to_owned()))
            }
            _ => Ok((talk, response)),
        }
    }
}

impl Lines {
    /// The next line that is not empty; `None`: the answer has ended as it should. It loses nothing when it is given up.
    pub(super) async fn next(&mut self, within: Duration) -> Result<Option<Vec<u8>>, AskError> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(Some(line));
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(AskError::TooLarge("1 MiB of a line"));
            }
            let silent = AskError::Silent { what: "sign of life", within_s: within.as_secs() };
            match timeout(within, self.talk.beside(self.body.frame())).await {
                Err(_) => return Err(silent),
                Ok(None) => {
                    // A last line without its end.
                    let rest = std::mem::take(&mut self.read);
                    self.looked = 0;
                    return Ok(Some(rest).filter(|rest| !rest.trim_ascii().is_empty()));
                }
                Ok(Some(Err(error))) => return Err(AskError::of_hyper(&error, self.talk.by_tls)),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    fn take_line(&mut self) -> Option<Vec<u8>> {
        loop {
            let Some(at) = self.read[self.looked..].iter().position(|byte| *byte == b'\n') else {
                self.looked = self.read.len();
                return None;
            };
            let rest = self.read.split_off(self.looked + at + 1);
            let line = std::mem::replace(&mut self.read, rest);
            self.looked = 0;
            if !line.trim_ascii().is_empty() {
                return Some(line);
            }
        }
    }
}

type Connection = Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>;

/// A connection while it is talked over: it does its work whenever somebody waits for what comes by it.
struct Talk {
    /// Locked by nobody: it makes what is watched over fit to be looked at by several threads, as tasks must be.
    connection: Option<Mutex<Connection>>,
    by_tls: bool,
    is_local: bool,
}

impl Talk {
    async fn beside<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            // How it ended is heard by whoever waits for its answer.
            if let Some(connection) = &mut self.connection
                && connection
                    .get_mut()
                    .unwrap_or_else(PoisonError::into_inner)
                    .as_mut()
                    .poll(context)
                    .is_ready()
            {
                self.connection = None;
            }
            wait.as_mut().poll(context)
        })
        .await
    }

    async fn whole(&mut self, body: &mut Incoming, most: usize) -> Result<Vec<u8>, AskError> {
        let mut whole = Vec::new();
        while let Some(frame) = self.beside(body.frame()).await {
            let frame = frame.map_err(|error| AskError::of_hyper(&error, self.by_tls))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > most {
                return Err(AskError::TooLarge("8 MiB"));
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole)
    }
}

fn request(question: &Question<'_>) -> Result<Request<Empty<Bytes>>, AskError> {
    let mut request = Request::get(question.path)
        .header(header::HOST, question.server.authority())
        .header(header::USER_AGENT, concat!("evenkeel/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    for (name, value) in question.headers {
        request = request.header(*name, *value);
    }
    if let Some((how, token)) = question.token {
        let (name, text) = match how {
            TokenHeader::Bearer => ("authorization", format!("Bearer {}", token.expose())),
            TokenHeader::Consul => ("x-consul-token", token.expose().to_owned()),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| AskError::Token("the token holds characters that cannot be sent".to_owned()))?;
        value.set_sensitive(true);
        request = request.header(name, value);
    }
    let built = request.body(Empty::new());
    built.map_err(|error| AskError::Io(format!("the question cannot be sent: {error}")))
}

/// A text as part of a path or a query.
pub(super) fn encoded(text: &str) -> String {
    use std::fmt::Write;
    let mut all = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(all, "%{byte:02X}");
        }
    }
    all
}

/// The words of an API whose errors are plain text.
pub(super) fn plain(body: &[u8]) -> Option<String> {
    Some(String::from_utf8_lossy(body).into_owned())
}

/// The words of an API whose errors are `{"message": …}`.
pub(super) fn message_of_json(body: &[u8]) -> Option<String> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    Some(value.get("message")?.as_str()?.to_owned())
}

/// Nobody's words are shown.
pub(super) fn nothing(_: &[u8]) -> Option<String> {
    None
}

const ANSWER_BYTES_MAX: usize = 8 << 20;
const LINE_BYTES_MAX: usize = 1 << 20;
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Of an answer that is an error.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// For that.
const MESSAGE_MAX: Duration = Duration::from_secs(2);
/// From the beginning of an answer to its end.
const BODY_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
