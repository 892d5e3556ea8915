//! BSON, as far as an answer of MongoDB is looked at: the elements of a document, one after the other.
//!
//! Pure. Must stay true: nothing that is said makes this read outside of what came.

/// What an element holds, if anybody asks for such.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    /// A string.
    Text(&'a str),
    /// A document, to be read by [`elements`].
    Document(&'a [u8]),
    /// Twelve bytes.
    Id([u8; 12]),
    /// True or false.
    Is(bool),
    /// A whole number, of any width, or the float that is one.
    Number(i64),
    /// Seconds since 1970 in the upper half, a count in the lower.
    Timestamp(u64),
    /// Anything else.
    Other,
}

/// The elements of a document by name; it ends where it is broken.
pub(super) fn elements(document: &[u8]) -> impl Iterator<Item = (&str, Value<'_>)> {
    let length = document.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    let mut rest = document.get(4..length).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, after) = rest.split_first()?;
        let (name, after) = text(after)?;
        let (value, after) = value(*kind, after)?;
        rest = after;
        Some((name, value))
    })
}

/// The value of this name.
pub(super) fn find<'a>(document: &'a [u8], name: &str) -> Option<Value<'a>> {
    elements(document).find(|(own, _)| *own == name).map(|(_, value)| value)
}

fn value(kind: u8, rest: &[u8]) -> Option<(Value<'_>, &[u8])> {
    Some(match kind {
        0x01 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            // `ok`, which is all that is looked at, is one or none.
            let is_one = *bytes == 1.0_f64.to_le_bytes();
            (if is_one { Value::Number(1) } else { Value::Other }, rest)
        }
        0x02 | 0x0d | 0x0e => {
            let (length, rest) = rest.split_first_chunk()?;
            let (bytes, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let bytes = bytes.strip_suffix(b"\0")?;
            (std::str::from_utf8(bytes).map_or(Value::Other, Value::Text), rest)
        }
        0x03 | 0x04 => {
            let length = u32::from_le_bytes(*rest.first_chunk()?) as usize;
            // Shorter than its own length and end there is none.
            let (bytes, rest) = rest.split_at_checked(length.max(5))?;
            (Value::Document(bytes), rest)
        }
        0x05 => {
            let (length, rest) = rest.split_first_chunk()?;
            (Value::Other, rest.get((u32::from_le_bytes(*length) as usize).checked_add(1)?..)?)
        }
        0x07 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (Value::Id(*bytes), rest)
        }
        0x08 => {
            let (byte, rest) = rest.split_first()?;
            (Value::Is(*byte != 0), rest)
        }
        0x10 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (Value::Number(i32::from_le_bytes(*bytes).into()), rest)
        }
        0x11 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (Value::Timestamp(u64::from_le_bytes(*bytes)), rest)
        }
        0x12 => {
            let (bytes, rest) = rest.split_first_chunk()?;
            (Value::Number(i64::from_le_bytes(*bytes)), rest)
        }
        0x09 => (Value::Other, rest.get(8..)?),
        0x13 => (Value::Other, rest.get(16..)?),
        0x06 | 0x0a | 0x7f | 0xff => (Value::Other, rest),
        0x0b => (Value::Other, text(text(rest)?.1)?.1),
        _ => return None,
    })
}

/// Up to a zero.
fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let length = bytes.iter().position(|byte| *byte == 0)?;
    Some((std::str::from_utf8(&bytes[..length]).ok()?, &bytes[length + 1..]))
}
