//! Redaction: the text of the file with its passwords blanked, for whoever shows it or hands it on.
//!
//! Pure. What is blanked keeps its width, so that places after it stay where they are.

use super::mistake::{Place, Report};

/// The text without what the report was told to hide. A password that cannot be blanked is a mistake.
pub(super) fn blank(text: &str, file: usize, report: &mut Report) -> String {
    let places: Vec<Place> = report.hidden().iter().copied().filter(|place| place.file == file).collect();
    if places.is_empty() {
        // Where the file cannot be read as a whole, nobody knows where one stands.
        return if report.is_empty() { text.to_owned() } else { guessed(text) };
    }
    let mut shown = String::with_capacity(text.len());
    let (mut line, mut column) = (1, 1);
    let mut next = places.iter().copied().peekable();
    let mut left = 0;
    let mut refused = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        while let Some(place) = next.next_if(|place| (place.line, place.column) <= (line, column)) {
            if (place.line, place.column) == (line, column) {
                left = place.width;
                if matches!(letter, '*' | '&' | '|' | '>') {
                    refused.push(place);
                }
            }
        }
        // A lone `\r` ends a line as well, and one before `\n` is part of its end.
        let ends = letter == '\n' || letter == '\r' && letters.peek() != Some(&'\n');
        if ends {
            (line, column) = (line + 1, 1);
        } else {
            column += 1;
        }
        let is_hidden = left > 0 && !ends;
        left = left.saturating_sub(usize::from(is_hidden));
        shown.push(if is_hidden { BLANK } else { letter });
    }
    for place in refused {
        report.tell(
            place,
            "a `password` stands where it is used, on one line; or write `{ file: PATH }`, which is better",
        );
    }
    shown
}

/// The text without what follows a key that is a password's, to the end of the line.
fn guessed(text: &str) -> String {
    let line = |line: &str| {
        let found = KEYS.iter().filter_map(|key| line.find(key).map(|at| at + key.len())).min();
        let (shown, hidden) = line.split_at(found.unwrap_or(line.len()));
        if hidden.trim_start().starts_with('{') {
            return line.to_owned();
        }
        let blank = |letter: char| if letter.is_whitespace() { letter } else { BLANK };
        format!("{shown}{}", hidden.chars().map(blank).collect::<String>())
    };
    text.split_inclusive(['\n', '\r']).map(line).collect()
}

const KEYS: [&str; 2] = ["password:", "password\":"];

/// YAML takes it for text wherever a scalar may stand.
const BLANK: char = '_';

#[cfg(test)]
mod tests {
    use super::*;

    fn blanked(text: &str, places: &[(usize, usize, usize)]) -> (String, bool) {
        let mut report = Report::default();
        for (line, column, width) in places {
            report.hide(Place { file: 0, line: *line, column: *column, width: *width });
        }
        let text = blank(text, 0, &mut report);
        (text, report.is_empty())
    }

    #[test]
    fn passwords_are_blanked_where_they_stand() {
        let cases = [
            ("a: 'b'", &[(1, 4, 3)][..], "a: ___"),
            ("x: 1\r\na: \"b\\\"\", c: d\n", &[(2, 4, 5), (2, 14, 1)], "x: 1\r\na: _____, c: _\n"),
            ("\ra: \u{e9}\u{e9} # b", &[(2, 4, 2)], "\ra: __ # b"),
            ("a: b", &[], "a: b"),
            ("a: bc", &[(1, 4, 99)], "a: __"),
        ];
        for (text, places, shown) in cases {
            assert_eq!(blanked(text, places), (shown.to_owned(), true), "{text}");
        }
        let mut report = Report::default();
        report.tell(Place::FILE, "an open quote");
        let shown =
            blank("a: { password: 'b c\n  password: { file: /d }\n\"password\": e\r\n", 0, &mut report);
        assert_eq!(shown, "a: { password: __ _\n  password: { file: /d }\n\"password\": _\r\n");
        // What is shown there is not what it stands for.
        assert!(!blanked("a: *b", &[(1, 4, 2)]).1);
    }
}
