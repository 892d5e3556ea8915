//! A client of PostgreSQL in a few lines: it logs in where nobody asks for a password, and sends one query after the other.

use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// One session.
pub struct Session {
    stream: TcpStream,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// The server says so: its code.
    Refused(String),
    /// The connection is over.
    Lost(ErrorKind),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Lost(error.kind())
    }
}

impl Session {
    /// Waits at most so long for each answer.
    pub fn open(address: SocketAddr, user: &str, patience: Duration) -> Result<Self, Failure> {
        let stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        let mut session = Self { stream };
        let mut body = vec![0, 3, 0, 0];
        for text in ["user", user, "database", "postgres", ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        session.stream.write_all(&[&length[..], &body].concat())?;
        session.answer().map(|_| session)
    }

    /// The first column of the first row.
    pub fn query(&mut self, sql: &str) -> Result<String, Failure> {
        let length = u32::try_from(sql.len() + 5).unwrap().to_be_bytes();
        self.stream.write_all(&[b"Q", &length[..], sql.as_bytes(), &[0]].concat())?;
        self.answer()
    }

    /// Until it is ready again.
    fn answer(&mut self) -> Result<String, Failure> {
        let (mut value, mut refused) = (String::new(), None);
        loop {
            let mut head = [0; 5];
            if let Err(error) = self.stream.read_exact(&mut head) {
                return Err(refused.map_or(Failure::from(error), Failure::Refused));
            }
            let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let mut body = vec![0; length as usize - 4];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                b'D' if body.len() > 6 && value.is_empty() => {
                    let length = u32::from_be_bytes([body[2], body[3], body[4], body[5]]) as usize;
                    value = String::from_utf8_lossy(body.get(6..6 + length).unwrap_or_default()).into_owned();
                }
                b'E' => {
                    let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                    refused = Some(String::from_utf8_lossy(code.unwrap_or_default()).into_owned());
                }
                b'Z' => return refused.map_or(Ok(value), |code| Err(Failure::Refused(code))),
                _ => {}
            }
        }
    }
}
