//! Client of the admin socket: one request to a running balancer, one answer.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::exit_code::{BAD_CONFIGURATION, FAILED, NO_BALANCER, WRONG_COMMAND_LINE};
use super::output::{complain, said, say};
use crate::sys::unix::own_uid;

/// Where the socket is when nothing else is said; `None`: there is no usual place on this machine.
pub(super) fn usual_socket() -> Option<PathBuf> {
    let system = Path::new(USUAL);
    if system.is_dir() {
        return Some(system.join("admin.sock"));
    }
    let own = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty())?)
        .join("evenkeel");
    // A folder that cannot be made shows when the socket is bound, or looked for.
    let _ = std::fs::create_dir_all(&own);
    Some(own.join("admin.sock"))
}

/// This one, that of the environment, or the usual one.
pub(super) fn socket_path(named: Option<PathBuf>) -> Option<PathBuf> {
    let of_environment =
        || std::env::var_os("EVENKEEL_SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(of_environment).or_else(usual_socket)
}

/// Makes the usual place where nobody did and this process may: root starts it by hand, or in a container.
pub(super) fn make_usual_place() {
    if own_uid() == 0 && !Path::new(USUAL).exists() {
        // Where /run cannot be written there is none, as before.
        let _ = std::fs::create_dir(USUAL);
    }
}

const USUAL: &str = "/run/evenkeel";

/// The socket of a balancer, and how its answers are shown.
#[derive(Debug)]
pub(super) struct Client {
    path: PathBuf,
    json: bool,
    patience: Duration,
}

/// Why there is no answer, and the exit code that says so.
#[derive(Debug)]
pub(super) struct NoAnswer {
    pub(super) why: String,
    pub(super) code: u8,
    is_of_the_file: bool,
}

/// Why there is no answer to show; told already.
pub(super) struct Told(pub(super) ExitCode);

impl Client {
    /// At this socket, or at the usual one.
    pub(super) fn new(path: Option<PathBuf>, json: bool) -> Result<Self, Told> {
        match socket_path(path) {
            Some(path) => Ok(Self { path, json, patience: PATIENCE }),
            None => {
                complain(
                    "evenkeel: this machine has no usual place for the socket: name it with --socket PATH",
                );
                Err(Told(ExitCode::from(NO_BALANCER)))
            }
        }
    }

    /// The same, for somebody who does not wait so long for an answer.
    pub(super) fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Asks; the answer as JSON. What went wrong is told.
    pub(super) fn ask(&self, method: &str, path: &str, query: &[(&str, &str)]) -> Result<Value, Told> {
        self.request(method, path, query).map_err(|NoAnswer { why, code, is_of_the_file }| {
            if is_of_the_file && !self.json {
                // A file with mistakes is told as `check` tells it.
                complain(why);
            } else {
                self.complain(&why);
            }
            Told(ExitCode::from(code))
        })
    }

    /// Asks; the answer as JSON. Nothing is told.
    pub(super) fn request(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Value, NoAnswer> {
        let (status, body) = self.exchange(method, path, query).map_err(|error| {
            let path = self.path.display();
            let (advice, code) = match error.kind() {
                ErrorKind::PermissionDenied => {
                    ("root and the members of its group may use it".to_owned(), FAILED)
                }
                // It was there, and what it said broke off.
                ErrorKind::InvalidData | ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    ("try again, and look at its log".to_owned(), FAILED)
                }
                _ => ("is it running? --socket PATH names another".to_owned(), NO_BALANCER),
            };
            let what = if code == NO_BALANCER { "no balancer answers at" } else { "no answer from" };
            NoAnswer { why: format!("{what} {path}: {error}; {advice}"), code, is_of_the_file: false }
        })?;
        let value: Value = serde_json::from_str(&body).unwrap_or_else(|_| Value::String(body.clone()));
        if status == 200 {
            return Ok(value);
        }
        let why = value.get("error").and_then(Value::as_str).unwrap_or(body.trim()).to_owned();
        let code = match status {
            422 => BAD_CONFIGURATION,
            400 => WRONG_COMMAND_LINE,
            _ => FAILED,
        };
        Err(NoAnswer { why, code, is_of_the_file: status == 422 })
    }

    /// Tells what went wrong, to a program as to people.
    pub(super) fn complain(&self, why: &str) {
        if self.json {
            // Whether anybody hears it changes nothing of the failure.
            let _ = say(format_args!("{:#}", serde_json::json!({ "error": why })));
        } else {
            complain(format_args!("evenkeel: {why}"));
        }
    }

    /// The answers are for a program.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Shows an answer: as it is for `--json`, otherwise as `text` puts it.
    pub(super) fn show(&self, answer: &Value, text: impl FnOnce(&Value) -> String) -> Result<(), Told> {
        let words = if self.json { say(format_args!("{answer:#}")) } else { say(text(answer).trim_end()) };
        match said(words) {
            ExitCode::SUCCESS => Ok(()),
            code => Err(Told(code)),
        }
    }

    fn exchange(&self, method: &str, path: &str, query: &[(&str, &str)]) -> std::io::Result<(u16, String)> {
        let mut target = path.to_owned();
        for (at, (key, value)) in query.iter().enumerate() {
            let _ = write!(target, "{}{key}={}", if at == 0 { '?' } else { '&' }, escaped(value));
        }
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: evenkeel\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
        parse(&String::from_utf8_lossy(&answer)).ok_or_else(|| {
            std::io::Error::new(ErrorKind::InvalidData, "what answers there is no balancer, or broke off")
        })
    }
}

/// Status and body; nothing of an answer that broke off.
fn parse(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    })?;
    (body.len() == length).then(|| (code, body.to_owned()))
}

/// A value as a query has it.
pub(super) fn escaped(value: &str) -> String {
    value.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'/') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

/// A reload of a large file takes some seconds on a slow disk.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_and_answers_taken_apart() {
        assert_eq!(escaped("p/[::1]:80 ä"), "p/%5B%3A%3A1%5D%3A80%20%C3%A4");
        let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(parse(answer), Some((404, "{}".into())));
        assert_eq!(parse(&answer[..answer.len() - 1]), None, "it broke off");
        assert_eq!(parse("HTTP/1.1 200 OK\r\na: b\r\n\r\n{}"), None);
        assert_eq!(parse("SSH-2.0-OpenSSH"), None);
    }
}
