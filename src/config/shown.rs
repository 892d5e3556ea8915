//! Text of a file inside a message: harmless on a terminal, and of a readable length.
//!
//! Pure. Must stay true: no control character and no direction mark of a file comes out of here.

/// The text in backticks, harmless on a terminal and cut to a readable length.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_MAX).map(harmless_char).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

/// The words as a reader lists them: `a`, `b` or `c`.
pub(super) fn listed(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [first @ .., last] => format!("`{}` or `{last}`", first.join("`, `")),
    }
}

/// The text without characters that a terminal would act on.
pub(super) fn harmless(text: &str) -> String {
    text.chars().map(harmless_char).collect()
}

/// The character, or one that shows nothing and does nothing.
pub(super) fn harmless_char(c: char) -> char {
    match c {
        '\t' => ' ',
        // Direction marks and invisible characters show a line other than what it is.
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => {
            '\u{fffd}'
        }
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

/// Characters of the file repeated inside a message.
const QUOTED_MAX: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_is_short_and_acts_on_no_terminal() {
        assert!(!quoted("\x1b[2J\u{9b}").contains(['\x1b', '\u{9b}']));
        assert_eq!(quoted(&"a".repeat(200)).chars().count(), QUOTED_MAX + 3);
    }
}
