//! RESP, the protocol of Redis, Valkey and Sentinel: commands out, replies in.
//!
//! Pure. Must stay true: nothing that a server says makes this read deeper than [`DEPTH_MAX`] or keep more than came.

/// What was answered to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply<'a> {
    /// A simple string or a bulk string.
    Text(&'a [u8]),
    /// An error, with its word in front: `NOAUTH Authentication required.`
    Error(&'a [u8]),
    /// An integer.
    Number(i64),
    /// A null.
    Nothing,
    /// Replies within a reply.
    Array(Vec<Self>),
}

impl<'a> Reply<'a> {
    /// The text of it, if it is one.
    pub(super) fn text(&self) -> Option<&'a [u8]> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What is in it, if it is an array.
    pub(super) fn array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(replies) => Some(replies),
            _ => None,
        }
    }
}

/// What came is no RESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Garbage;

/// A command as servers read it.
pub(super) fn command(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The first reply, and how many bytes it takes; `None`: it is not whole yet.
pub(super) fn first(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Garbage> {
    let mut reading = Reading { bytes, at: 0 };
    match reading.reply(0) {
        Ok(reply) => Ok(Some((reply, reading.at))),
        Err(Stop::NotWhole) => Ok(None),
        Err(Stop::Garbage) => Err(Garbage),
    }
}

struct Reading<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Stop {
    NotWhole,
    Garbage,
}

impl<'a> Reading<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply<'a>, Stop> {
        let kind = *self.bytes.get(self.at).ok_or(Stop::NotWhole)?;
        if !b"+-:$*".contains(&kind) || depth > DEPTH_MAX {
            return Err(Stop::Garbage);
        }
        self.at += 1;
        let line = self.line()?;
        match kind {
            b'+' => Ok(Reply::Text(line)),
            b'-' => Ok(Reply::Error(line)),
            b':' => Ok(Reply::Number(number(line)?)),
            b'$' => match number(line)? {
                -1 => Ok(Reply::Nothing),
                length => Ok(Reply::Text(self.bulk(usize::try_from(length).map_err(|_| Stop::Garbage)?)?)),
            },
            _ => {
                let count = number(line)?;
                if count < 0 {
                    return if count == -1 { Ok(Reply::Nothing) } else { Err(Stop::Garbage) };
                }
                // No room is made for what is only announced.
                let mut replies = Vec::new();
                for _ in 0..count {
                    replies.push(self.reply(depth + 1)?);
                }
                Ok(Reply::Array(replies))
            }
        }
    }

    /// Up to the next CRLF.
    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let length = rest.windows(2).position(|two| two == b"\r\n").ok_or(Stop::NotWhole)?;
        self.at += length + 2;
        Ok(&rest[..length])
    }

    fn bulk(&mut self, length: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let text = rest.get(..length).ok_or(Stop::NotWhole)?;
        match rest.get(length..length + 2) {
            Some(b"\r\n") => {
                self.at += length + 2;
                Ok(text)
            }
            Some(_) => Err(Stop::Garbage),
            None => Err(Stop::NotWhole),
        }
    }
}

fn number(line: &[u8]) -> Result<i64, Stop> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(Stop::Garbage)
}

/// ROLE has lists in a list; nothing that is asked has more.
const DEPTH_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_servers_say_is_read() {
        let cases: [(&[u8], Reply<'_>); 7] = [
            (b"+PONG\r\n", Reply::Text(b"PONG")),
            (b"-NOAUTH Authentication required.\r\n", Reply::Error(b"NOAUTH Authentication required.")),
            (b":-7\r\n", Reply::Number(-7)),
            (b"$-1\r\n", Reply::Nothing),
            (b"$0\r\n\r\n", Reply::Text(b"")),
            (b"$4\r\n\r\n\r\n\r\n", Reply::Text(b"\r\n\r\n")),
            (
                b"*3\r\n$6\r\nmaster\r\n:1407\r\n*1\r\n*0\r\n",
                Reply::Array(vec![
                    Reply::Text(b"master"),
                    Reply::Number(1407),
                    Reply::Array(vec![Reply::Array(Vec::new())]),
                ]),
            ),
        ];
        for (bytes, reply) in cases {
            let more = [bytes, b"+rest"].concat();
            assert_eq!(first(&more), Ok(Some((reply, bytes.len()))), "{}", bytes.escape_ascii());
            for length in 0..bytes.len() {
                assert_eq!(first(&bytes[..length]), Ok(None), "{length} of {}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_reply_is_no_reply() {
        let deep = b"*1\r\n".repeat(9);
        let cases: [&[u8]; 9] = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b":seven\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"$1\r\nabc",
            b"*-3\r\n",
            &deep,
        ];
        for bytes in cases {
            assert_eq!(first(bytes), Err(Garbage), "{}", bytes.escape_ascii());
        }
        assert_eq!(first(b"*2147483647\r\n"), Ok(None), "nothing is kept ready for it");
        assert_eq!(first(b"$4294967296\r\nabc"), Ok(None));
    }

    #[test]
    fn a_command_is_written_by_lengths() {
        assert_eq!(command(&[b"AUTH", b"p\r\nPING"]), b"*2\r\n$4\r\nAUTH\r\n$7\r\np\r\nPING\r\n");
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_harms(bytes in prop::collection::vec(any::<u8>(), 0..200), lead in "[-+:$*][0-9]{0,3}\r\n") {
            let _ = first(&bytes);
            let _ = first(&[lead.as_bytes(), &bytes].concat());
        }
    }
}
