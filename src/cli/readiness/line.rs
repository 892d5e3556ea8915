//! Line to the balancer: `/follow` at the socket of the commands, a word a line.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::judgement::Heard;
use crate::cli::client::escaped;

/// An open one.
pub(super) struct Line {
    stream: BufReader<UnixStream>,
    /// What came of a line that is not whole yet.
    text: Vec<u8>,
    is_past_head: bool,
    /// What answers does not let anybody follow.
    is_refused: bool,
}

impl Line {
    /// To the balancer at this socket.
    pub(super) async fn open(socket: &Path, listener: Option<&str>) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket).await?;
        let query = listener.map_or(String::new(), |name| format!("?listener={}", escaped(name)));
        // Of an answer to HTTP/1.0 the end is the end of the connection, and it comes without chunks.
        let request = format!("GET /follow{query} HTTP/1.0\r\nHost: evenkeel\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(Self { stream: BufReader::new(stream), text: Vec::new(), is_past_head: false, is_refused: false })
    }

    /// The next line, into `text`. May be dropped without loss. An error: what to say of the end.
    pub(super) async fn next<'a>(&mut self, text: &'a mut String) -> Result<Option<Heard<'a>>, String> {
        let left = LINE_BYTES_MAX.saturating_sub(self.text.len() as u64);
        let read = (&mut self.stream).take(left).read_until(b'\n', &mut self.text).await;
        if let Err(error) = read {
            return Err(format!("the line to the balancer broke: {error}"));
        }
        if self.text.last() != Some(&b'\n') {
            let why = if left == 0 || self.text.len() as u64 >= LINE_BYTES_MAX {
                "what answers there is no balancer"
            } else {
                "the balancer ended"
            };
            return Err(why.to_owned());
        }
        *text = String::from_utf8_lossy(&self.text).trim_end().to_owned();
        self.text.clear();
        if !self.is_past_head {
            if let Some(status) = text.strip_prefix("HTTP/1.") {
                self.is_refused = !status.get(1..).is_some_and(|rest| rest.starts_with(" 200"));
            }
            self.is_past_head = text.is_empty();
            return Ok(None);
        }
        if self.is_refused {
            return Err(format!("the balancer does not let anybody follow it: {text}"));
        }
        let (word, why) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match word {
            "ready" => Some(Heard::Ready(why)),
            "unready" => Some(Heard::Unready(why)),
            "goes" => Some(Heard::GoesOn),
            // It is alive, or says what only a later program knows.
            _ => None,
        })
    }
}

const LINE_BYTES_MAX: u64 = 4_096;
