//! From bytes to text: UTF-8 of bounded size, without characters that have no business in a configuration.
//!
//! Pure. Must stay true: a file that is too big is refused before anything looks at it.

use super::mistake::{Place, Report};

/// What tells a text from others, on whichever machine (FNV-1a, both halves of it): for people and alerts, and nothing depends on it.
pub fn number(text: &str) -> u32 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    // Both halves.
    #[allow(clippy::cast_possible_truncation)]
    let halves = (hash >> 32) as u32 ^ hash as u32;
    halves
}

/// The text of a file: UTF-8 without a byte order mark and control characters, of bounded size.
/// The error is the text as far as it can be shown. `file` is its number, `room` what the files before left of the size.
pub(super) fn decode(bytes: &[u8], file: usize, room: usize, report: &mut Report) -> Result<String, String> {
    if bytes.len() > room {
        let of_all = if file == 0 { "the longest allowed is" } else { "all files together may have" };
        report.tell(Place::whole(file), format!("the file is too long; {of_all} {} MiB", BYTES_MAX >> 20));
        return Err(String::new());
    }
    decoded(bytes, file, report)
}

/// The same of a text by itself that may be of this length.
pub(super) fn decode_up_to(bytes: &[u8], most: usize, report: &mut Report) -> Result<String, String> {
    if bytes.len() > most {
        let message = format!("the file is too long; the longest allowed is {} MiB", most >> 20);
        report.tell(Place::FILE, message);
        return Err(String::new());
    }
    decoded(bytes, 0, report)
}

fn decoded(bytes: &[u8], file: usize, report: &mut Report) -> Result<String, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        report.tell(Place::whole(file), "the file is UTF-16; save it as UTF-8");
        return Err(String::new());
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let (text, bad_at) = match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), if may_be_forbidden(bytes) { text.find(is_forbidden) } else { None }),
        Err(error) => (String::from_utf8_lossy(bytes).into_owned(), Some(error.valid_up_to())),
    };
    let Some(bad_at) = bad_at else { return Ok(text) };
    let bad = text[bad_at..].chars().next().unwrap_or_default();
    let message = match bytes.get(bad_at) {
        Some(byte) if bad == char::REPLACEMENT_CHARACTER => format!("byte 0x{byte:02x} is not UTF-8"),
        _ => format!("control character U+{:04X} in the file", u32::from(bad)),
    };
    report.tell_with_hint(place_of(&text, bad_at, file), message, "a configuration is UTF-8 text");
    Err(text)
}

/// The place of a byte of the text.
fn place_of(text: &str, at: usize, file: usize) -> Place {
    let before = &text[..at];
    let ends = before.replace("\r\n", "\n").matches(['\n', '\r']).count();
    let line_start = before.rfind(['\n', '\r']).map_or(0, |end| end + 1);
    Place { file, line: ends + 1, column: before[line_start..].chars().count() + 1, width: 1 }
}

fn is_forbidden(c: char) -> bool {
    c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}')
}

/// Some byte of it may belong to such a character. Most files have none, and to look at bytes costs a tenth.
fn may_be_forbidden(bytes: &[u8]) -> bool {
    // U+0080 to U+009F begin with 0xc2.
    let is =
        |byte: u8| (byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f || byte == 0xc2;
    // Without a way out in the middle, which the compiler needs to take many at once.
    bytes.iter().fold(false, |found, byte| found | is(*byte))
}

/// The most bytes that all files have. Holds 10,000 backends with a name, a weight and a limit each, and two lists of 100,000
/// networks.
pub const BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_text_is_told_with_its_place() {
        let cases: [(&[u8], &str); 8] = [
            (b"a: 1\n\xffb", "2:1 byte 0xff is not UTF-8"),
            ("ä: \u{1}".as_bytes(), "1:4 control character U+0001 in the file"),
            (b"a\r\nb\rc\0", "3:2 control character U+0000 in the file"),
            (b"\xef\xbb\xbfa\x7f", "1:2 control character U+007F in the file"),
            ("\u{e4}\u{9f}".as_bytes(), "1:2 control character U+009F in the file"),
            (b"\xc3", "1:1 byte 0xc3 is not UTF-8"),
            (b"\xff\xfea\0", "0:0 the file is UTF-16; save it as UTF-8"),
            (&[b'a'; BYTES_MAX + 1], "0:0 the file is too long; the longest allowed is 8 MiB"),
        ];
        for (bytes, expected) in cases {
            let mut report = Report::default();
            let shown = decode(bytes, 0, BYTES_MAX, &mut report).unwrap_err();
            let mistakes = report.into_mistakes(&[shown]);
            let [mistake] = mistakes.list() else { panic!("{mistakes}") };
            assert_eq!(format!("{}:{} {}", mistake.line, mistake.column, mistake.message), expected);
        }
    }

    #[test]
    fn text_stays_as_it_is_but_for_its_mark() {
        for text in ["", "a: 1\n", "a\r\n\tb\rc", "ä日\u{fffd}\u{85}", "\u{a0}"] {
            let marked = format!("\u{feff}{text}");
            assert_eq!(decode(text.as_bytes(), 0, BYTES_MAX, &mut Report::default()).as_deref(), Ok(text));
            assert_eq!(decode(marked.as_bytes(), 0, BYTES_MAX, &mut Report::default()).as_deref(), Ok(text));
        }
        assert!(decode(&[b'a'; BYTES_MAX], 0, BYTES_MAX, &mut Report::default()).is_ok());
    }
}
