//! TLS ClientHello: the server name (SNI) and the protocols (ALPN) that a client offers, however its hello is cut into
//! records.
//!
//! Pure. Of an encrypted hello (ECH) the outer name is what there is to be read. What is not understood (GREASE, unknown
//! extensions and versions) is passed over; what contradicts its own lengths, or says a name twice, is refused: another
//! reader might see another name in it.

use std::borrow::Cow;

use super::cursor::Cursor;
use super::hello::{ClientHello, plain_name};
use super::opening::{FIRST_BYTES_MAX, Malformed, Seen};

/// Reads the hello that a stream begins with. Whole and nothing: the stream is not TLS.
pub(super) fn read(bytes: &[u8]) -> Seen<Option<ClientHello>> {
    match bytes {
        [] => return Seen::Incomplete { missing: 1 },
        [HANDSHAKE, ..] => {}
        // A record header of SSLv2: its length with the high bit set, and the type of its hello.
        [length, _, CLIENT_HELLO, ..] if length & 0x80 != 0 => return Seen::Malformed(Malformed::SslV2),
        [length, ..] if length & 0x80 != 0 && bytes.len() < 3 => {
            return Seen::Incomplete { missing: 3 - bytes.len() };
        }
        _ => return Seen::Whole(None),
    }
    match message(bytes) {
        Ok(message) => body(&message).map_or_else(Seen::Malformed, |hello| Seen::Whole(Some(hello))),
        Err(Stop::Missing(missing)) if bytes.len() + missing <= FIRST_BYTES_MAX => {
            Seen::Incomplete { missing }
        }
        Err(Stop::Missing(_)) => Seen::Malformed(Malformed::TooLong),
        Err(Stop::Malformed(malformed)) => Seen::Malformed(malformed),
    }
}

/// Why there is no message yet, or none at all.
enum Stop {
    Missing(usize),
    Malformed(Malformed),
}

/// The handshake message, put together of its records where it is in several.
fn message(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Stop> {
    let mut joined: Option<Vec<u8>> = None;
    let mut at = 0;
    loop {
        let have = joined.as_deref().unwrap_or_default();
        let Some((header, rest)) = bytes[at..].split_at_checked(RECORD_HEADER_BYTES) else {
            // Each byte of the message that is still missing has to come, and what is left of a header.
            let missing = RECORD_HEADER_BYTES - (bytes.len() - at);
            return Err(Stop::Missing(missing + missing_of(have)));
        };
        if header[0] != HANDSHAKE || header[1] != 3 {
            return Err(broken("a record of its hello is no handshake record of TLS"));
        }
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > RECORD_BYTES_MAX {
            return Err(broken("a record of its hello is empty, or longer than 16 KiB"));
        }
        let piece = &rest[..rest.len().min(length)];
        let whole_record = piece.len() == length;
        let message = match &mut joined {
            None => piece,
            Some(joined) => {
                joined.extend_from_slice(piece);
                &joined[..]
            }
        };
        if let Some(bytes) = wanted(message)?
            && message.len() >= bytes
        {
            let Some(joined) = joined else { return Ok(Cow::Borrowed(&piece[HEADER_BYTES..bytes])) };
            return Ok(Cow::Owned(joined[HEADER_BYTES..bytes].to_vec()));
        }
        if !whole_record {
            let of_record = length - piece.len();
            return Err(Stop::Missing(of_record.max(missing_of(message).min(FIRST_BYTES_MAX))));
        }
        if joined.is_none() {
            joined = Some(piece.to_vec());
        }
        at += RECORD_HEADER_BYTES + length;
    }
}

/// How long the message is with its header, if that is known yet.
fn wanted(message: &[u8]) -> Result<Option<usize>, Stop> {
    let Some(kind) = message.first() else { return Ok(None) };
    if *kind != CLIENT_HELLO {
        return Err(broken("its first handshake message is no ClientHello"));
    }
    let [_, high, middle, low, ..] = message else { return Ok(None) };
    let length = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
    if length > FIRST_BYTES_MAX {
        return Err(Stop::Malformed(Malformed::TooLong));
    }
    Ok(Some(HEADER_BYTES + length))
}

/// At least so many bytes of the message are missing; 1 where its length is not known yet.
fn missing_of(message: &[u8]) -> usize {
    match wanted(message) {
        Ok(Some(wanted)) => wanted.saturating_sub(message.len()),
        _ => HEADER_BYTES.saturating_sub(message.len()).max(1),
    }
}

fn body(message: &[u8]) -> Result<ClientHello, Malformed> {
    let short = Malformed::Broken("its ClientHello contradicts its own lengths");
    let mut from = Cursor::new(message);
    // Version and random.
    from.take(2 + 32).ok_or(short)?;
    let session_id = from.vector8().ok_or(short)?;
    let suites = from.vector16().ok_or(short)?;
    let compression = from.vector8().ok_or(short)?;
    if session_id.len() > 32 || suites.is_empty() || suites.len() % 2 != 0 || compression.is_empty() {
        return Err(Malformed::Broken("its ClientHello is none of TLS"));
    }
    let mut hello = ClientHello::default();
    if from.is_empty() {
        return Ok(hello);
    }
    let mut extensions = Cursor::new(from.vector16().ok_or(short)?);
    if !from.is_empty() {
        return Err(short);
    }
    let (mut named, mut offered) = (false, false);
    while !extensions.is_empty() {
        let kind = extensions.short().ok_or(short)?;
        let content = extensions.vector16().ok_or(short)?;
        let seen = match kind {
            SERVER_NAME => &mut named,
            ALPN => &mut offered,
            _ => continue,
        };
        if std::mem::replace(seen, true) {
            return Err(Malformed::Broken("its ClientHello has an extension twice"));
        }
        if kind == SERVER_NAME {
            hello.sni = Some(server_name(content)?);
        } else {
            hello = hello.with_protocols(protocols(content)?);
        }
    }
    Ok(hello)
}

/// RFC 6066, 3: one name of the one kind there is.
fn server_name(content: &[u8]) -> Result<String, Malformed> {
    let bad = Malformed::Broken("the server name of its ClientHello is none");
    let mut from = Cursor::new(content);
    let mut list = Cursor::new(from.vector16().ok_or(bad)?);
    let mut name = None;
    while !list.is_empty() {
        let kind = list.byte().ok_or(bad)?;
        let entry = list.vector16().ok_or(bad)?;
        if kind == HOST_NAME && name.replace(entry).is_some() {
            return Err(Malformed::Broken("its ClientHello has two server names"));
        }
    }
    let name = name.filter(|_| from.is_empty()).ok_or(bad)?;
    // It goes into the log and to backends.
    let is_fit =
        |name: &&[u8]| (1..=NAME_BYTES_MAX).contains(&name.len()) && name.iter().all(u8::is_ascii_graphic);
    let name = Some(name).filter(is_fit).and_then(|name| std::str::from_utf8(name).ok()).ok_or(bad)?;
    Ok(plain_name(name))
}

/// RFC 7301, 3.1.
fn protocols(content: &[u8]) -> Result<&[u8], Malformed> {
    let bad = Malformed::Broken("the ALPN of its ClientHello contradicts its own lengths");
    let mut from = Cursor::new(content);
    let list = from.vector16().filter(|list| !list.is_empty()).ok_or(bad)?;
    let mut names = Cursor::new(list);
    while !names.is_empty() {
        names.vector8().filter(|name| !name.is_empty()).ok_or(bad)?;
    }
    if from.is_empty() { Ok(list) } else { Err(bad) }
}

fn broken(what: &'static str) -> Stop {
    Stop::Malformed(Malformed::Broken(what))
}

/// Record type and first byte of a stream of TLS.
pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER_BYTES: usize = 5;
/// RFC 8446, 5.1: the length MUST NOT exceed 2^14.
const RECORD_BYTES_MAX: usize = 1 << 14;
/// Of a handshake message.
const HEADER_BYTES: usize = 4;
const SERVER_NAME: usize = 0;
const HOST_NAME: u8 = 0;
const ALPN: usize = 16;
/// RFC 1035, 2.3.4, and a final dot.
const NAME_BYTES_MAX: usize = 254;

#[cfg(test)]
#[path = "client_hello_tests.rs"]
mod tests;
