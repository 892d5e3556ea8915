//! Domain name: as text and on the wire, with compression. Compared without regard to case.

use std::fmt;

/// A name without its final dot, in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Vec<u8>);

/// Why a text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is nothing, or nothing between two dots.
    #[error("there is a part without a character")]
    Empty,
    /// A part is too long.
    #[error("a part has more than 63 characters")]
    LabelTooLong,
    /// All is too long.
    #[error("it has more than 253 characters")]
    TooLong,
    /// What no name has.
    #[error("it has characters other than letters, digits, `-`, `_` and dots")]
    Characters,
}

impl Name {
    /// The name of a text, which may end in a dot.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.len() > TEXT_MAX {
            return Err(NameError::TooLong);
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let bytes = label.as_bytes();
            let length = u8::try_from(bytes.len()).ok().filter(|length| *length <= LABEL_MAX);
            match length {
                Some(0) => return Err(NameError::Empty),
                None => return Err(NameError::LabelTooLong),
                Some(length) => wire.push(length),
            }
            if !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
                return Err(NameError::Characters);
            }
            wire.extend(bytes.iter().map(u8::to_ascii_lowercase));
        }
        wire.push(0);
        Ok(Self(wire))
    }

    /// The name of a text that was checked to be one; nothing, or a dot, is the root.
    pub fn of_checked(text: &str) -> Self {
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.').filter(|label| !label.is_empty()) {
            let label = &label.as_bytes()[..label.len().min(LABEL_MAX.into())];
            // At most 63, as cut.
            wire.push(u8::try_from(label.len()).unwrap_or(LABEL_MAX));
            wire.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        wire.truncate(WIRE_MAX - 1);
        wire.push(0);
        Self(wire)
    }

    /// The one that stands in a message, and where what follows it begins. Compression points backwards only, so this ends.
    pub(super) fn take(message: &[u8], at: usize) -> Option<(Self, usize)> {
        let (mut wire, mut at, mut after, mut floor) = (Vec::new(), at, None, at);
        loop {
            let length = *message.get(at)?;
            match length {
                0 => {
                    wire.push(0);
                    return Some((Self(wire), after.unwrap_or(at + 1)));
                }
                1..=LABEL_MAX => {
                    let label = message.get(at..=at + usize::from(length))?;
                    wire.extend(label.iter().map(u8::to_ascii_lowercase));
                    if wire.len() >= WIRE_MAX {
                        return None;
                    }
                    at += 1 + usize::from(length);
                }
                0xc0.. => {
                    let low = *message.get(at + 1)?;
                    after = after.or(Some(at + 2));
                    at = usize::from(length & 0x3f) << 8 | usize::from(low);
                    if at >= floor {
                        return None;
                    }
                    floor = at;
                }
                _ => return None,
            }
        }
    }

    /// As a question has it.
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The name of no parts.
    pub fn is_root(&self) -> bool {
        self.0.len() == 1
    }

    /// How many dots are in it.
    pub fn dots(&self) -> usize {
        self.labels().count().saturating_sub(1)
    }

    /// This name below another; `None`: that is too long.
    pub fn below(&self, other: &Self) -> Option<Self> {
        let wire = [&self.0[..self.0.len() - 1], &other.0[..]].concat();
        (wire.len() <= WIRE_MAX).then_some(Self(wire))
    }

    fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let length = usize::from(*self.0.get(at)?);
            let label = self.0.get(at + 1..at + 1 + length).filter(|label| !label.is_empty())?;
            at += 1 + length;
            Some(label)
        })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return out.write_str(".");
        }
        for (number, label) in self.labels().enumerate() {
            if number > 0 {
                out.write_str(".")?;
            }
            for &byte in label {
                // Whatever a server sends goes to terminals and logs.
                let is_plain = byte.is_ascii_graphic() && !matches!(byte, b'.' | b'\\');
                if is_plain { write!(out, "{}", char::from(byte))? } else { write!(out, "\\{byte:03}")? }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Name({self})")
    }
}

const LABEL_MAX: u8 = 63;
const TEXT_MAX: usize = 253;
const WIRE_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_and_shown() {
        let name = Name::parse("Db-1.Example.ORG.").unwrap();
        assert_eq!((name.to_string(), name.dots()), ("db-1.example.org".into(), 2));
        assert_eq!(name.wire(), b"\x04db-1\x07example\x03org\0");
        for (text, error) in [
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::Empty),
            (".a", NameError::Empty),
            ("a b", NameError::Characters),
            ("ä", NameError::Characters),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text:?}");
        }
        assert_eq!(Name::parse(&"a".repeat(64)), Err(NameError::LabelTooLong));
        assert_eq!(Name::parse(&"a.".repeat(200)), Err(NameError::TooLong));
        assert_eq!(Name::of_checked("Example.org.").wire(), b"\x07example\x03org\0");
        assert!(Name::of_checked("").is_root() && Name::of_checked(".").is_root());
        let domain = Name::parse("lan").unwrap();
        assert_eq!(Name::parse("db").unwrap().below(&domain).unwrap().to_string(), "db.lan");
    }

    #[test]
    fn compression_is_followed_backwards_and_no_further() {
        let message = b"\x03org\0\x07example\xc0\x00\x02db\xc0\x05";
        let (name, after) = Name::take(message, 15).unwrap();
        assert_eq!((name.to_string(), after), ("db.example.org".into(), message.len()));
        assert_eq!(Name::take(b"\xc0\x00", 0), None, "itself");
        assert_eq!(Name::take(b"\x01a\xc0\x04\x01b\xc0\x00", 4), None, "forwards after backwards");
        assert_eq!(Name::take(b"\x80a", 0), None, "no such form");
        assert_eq!(Name::take(b"\x05abc", 0), None, "cut off");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(labels in prop::collection::vec("[a-z0-9_-]{1,20}", 1..8)) {
            let text = labels.join(".");
            let name = Name::parse(&text).unwrap();
            prop_assert_eq!(name.to_string(), text);
            prop_assert_eq!(Name::take(name.wire(), 0), Some((name.clone(), name.wire().len())));
        }

        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>, at in 0_usize..80) {
            if let Some((name, after)) = Name::take(&bytes, at) {
                prop_assert!(after <= bytes.len() && name.wire().len() <= WIRE_MAX);
                let _ = name.to_string();
            }
        }
    }
}
