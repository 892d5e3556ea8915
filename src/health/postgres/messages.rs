//! Messages of PostgreSQL's protocol 3.0: what is said, and frames out of what is heard.
//!
//! Pure. All lengths are big-endian and count themselves.

use super::super::dialogue::HEARD_BYTES_MAX;

/// Whether TLS is there.
pub(super) const SSL_REQUEST: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Good-bye.
pub(super) const TERMINATE: &[u8] = b"X\0\0\0\x04";

/// One message of the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: u8,
    pub body: Vec<u8>,
}

/// No message begins so.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Takes the first message off, if it is whole.
pub(super) fn next(heard: &mut Vec<u8>) -> Result<Option<Frame>, Unreadable> {
    let Some((head, rest)) = heard.split_first_chunk::<5>() else { return Ok(None) };
    let [kind, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| Unreadable)?;
    if !(4..HEARD_BYTES_MAX).contains(&length) {
        return Err(Unreadable);
    }
    let Some(body) = rest.get(..length - 4) else { return Ok(None) };
    let frame = Frame { kind, body: body.to_vec() };
    heard.drain(..=length);
    Ok(Some(frame))
}

/// Who we are. Poolers refuse any parameter but these.
pub(super) fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = vec![0, 3, 0, 0];
    for text in ["user", user, "database", database, "application_name", "evenkeel", ""] {
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    [&length(&body)[..], &body].concat()
}

/// A question.
pub(super) fn query(text: &str) -> Vec<u8> {
    message(b'Q', &[text.as_bytes(), &[0]].concat())
}

/// A password, or what stands for it.
pub(super) fn password(text: &[u8]) -> Vec<u8> {
    message(b'p', &[text, &[0]].concat())
}

/// The first message of a SASL mechanism.
pub(super) fn sasl_first(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let count = u32::try_from(first.len()).unwrap_or(0).to_be_bytes();
    message(b'p', &[mechanism.as_bytes(), &[0], &count, first].concat())
}

/// One message of ours.
pub(super) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind][..], &length(body), body].concat()
}

/// Of what is ours: far below 4 GiB.
fn length(body: &[u8]) -> [u8; 4] {
    u32::try_from(body.len() + 4).unwrap_or(0).to_be_bytes()
}

/// The number in front, and the rest.
pub(super) fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_be_bytes(*number), rest))
}

/// Texts that end with a zero each.
pub(super) fn strings(bytes: &[u8]) -> Vec<&str> {
    bytes.split(|byte| *byte == 0).filter_map(|text| std::str::from_utf8(text).ok()).collect()
}

/// The columns of a row; `None` in it is NULL.
pub(super) fn columns(body: &[u8]) -> Option<Vec<Option<&str>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count).min(COLUMNS_MAX) {
        let (length, after) = number(rest)?;
        if length == u32::MAX {
            columns.push(None);
            rest = after;
            continue;
        }
        let (text, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
        columns.push(Some(std::str::from_utf8(text).ok()?));
        rest = after;
    }
    Some(columns)
}

/// What an error says.
#[derive(Debug, Default)]
pub(super) struct ServerError {
    /// SQLSTATE.
    pub code: String,
    pub text: String,
    /// The connection ends with it.
    pub is_fatal: bool,
}

/// Reads an error: fields by a letter.
pub(super) fn error(body: &[u8]) -> ServerError {
    let mut error = ServerError::default();
    let mut severity = None;
    for field in body.split(|byte| *byte == 0) {
        let Some((letter, text)) = field.split_first() else { break };
        let text = String::from_utf8_lossy(text);
        match letter {
            b'C' => error.code = text.into_owned(),
            b'M' => error.text = text.into_owned(),
            // `S` is in the language of the server.
            b'V' => severity = Some(text.into_owned()),
            b'S' if severity.is_none() => severity = Some(text.into_owned()),
            _ => {}
        }
    }
    error.is_fatal = severity.is_some_and(|severity| severity == "FATAL" || severity == "PANIC");
    error
}

/// The question has five.
const COLUMNS_MAX: u16 = 16;
