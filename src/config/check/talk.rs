//! The bytes of `send` and `expect`: ASCII with escapes of our own.
//!
//! Pure. Must stay true: what is written is what goes over the wire, byte for byte, whatever quotes YAML saw.

/// Why a text does not stand for bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TalkError {
    #[error("`{0}` is not ASCII; write bytes above 0x7f as \\xNN, in single quotes")]
    NotAscii(char),
    #[error("`\\{0}` is not an escape; there are \\r \\n \\t \\\\ \\xNN")]
    UnknownEscape(char),
    #[error("it ends in the middle of an escape; a backslash itself is \\\\")]
    Unfinished,
    #[error("`\\x` needs two hex digits")]
    HexDigits,
    #[error("it is longer than {0} bytes")]
    TooLong(usize),
}

/// Reads ASCII with `\r \n \t \\ \xNN`, at most so many bytes.
pub(super) fn parse_bytes(text: &str, most: usize) -> Result<Vec<u8>, TalkError> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let byte = match u8::try_from(c) {
            Ok(b'\\') => escaped(&mut chars)?,
            Ok(byte) if byte.is_ascii() => byte,
            _ => return Err(TalkError::NotAscii(c)),
        };
        if bytes.len() == most {
            return Err(TalkError::TooLong(most));
        }
        bytes.push(byte);
    }
    Ok(bytes)
}

fn escaped(chars: &mut std::str::Chars<'_>) -> Result<u8, TalkError> {
    match chars.next().ok_or(TalkError::Unfinished)? {
        'r' => Ok(b'\r'),
        'n' => Ok(b'\n'),
        't' => Ok(b'\t'),
        '\\' => Ok(b'\\'),
        'x' => {
            let mut digit = || chars.next().and_then(|c| c.to_digit(16)).and_then(|d| u8::try_from(d).ok());
            let (high, low) = (digit(), digit());
            high.zip(low).map(|(high, low)| high * 16 + low).ok_or(TalkError::HexDigits)
        }
        other => Err(TalkError::UnknownEscape(other)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 64;

    #[test]
    fn escapes_become_bytes() {
        let cases: [(&str, Result<&[u8], TalkError>); 12] = [
            ("", Ok(b"")),
            ("PING\\r\\n", Ok(b"PING\r\n")),
            ("\\xff\\x00\\xAb", Ok(&[0xff, 0, 0xab])),
            ("a\\\\n\\t", Ok(b"a\\n\t")),
            ("\r\n", Ok(b"\r\n")),
            ("\u{ff}", Err(TalkError::NotAscii('\u{ff}'))),
            ("é", Err(TalkError::NotAscii('é'))),
            ("\\", Err(TalkError::Unfinished)),
            ("\\x", Err(TalkError::HexDigits)),
            ("\\x1", Err(TalkError::HexDigits)),
            ("\\xg0", Err(TalkError::HexDigits)),
            ("\\0", Err(TalkError::UnknownEscape('0'))),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_bytes(text, MOST), expected.map(<[u8]>::to_vec), "{text}");
        }
        assert_eq!(parse_bytes(&"a".repeat(MOST), MOST).unwrap().len(), MOST);
        assert_eq!(parse_bytes(&"a".repeat(MOST + 1), MOST), Err(TalkError::TooLong(MOST)));
    }

    proptest! {
        #[test]
        fn every_byte_can_be_written(bytes: Vec<u8>) {
            let text: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
            prop_assert_eq!(parse_bytes(&text, bytes.len()), Ok(bytes));
        }

        #[test]
        fn any_text_is_answered(text in ".*") {
            let _ = parse_bytes(&text, MOST);
        }
    }
}
