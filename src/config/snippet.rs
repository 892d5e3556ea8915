//! Snippet of a file for a mistake: the line, cut to what fits, and where its caret stands.
//!
//! Pure.

use super::shown::harmless_char;

/// The line of a mistake, made harmless, and where its caret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snippet {
    pub(super) line: String,
    pub(super) indent: usize,
    pub(super) width: usize,
}

/// Around this column, counted from 1, with so many characters marked.
pub(super) fn snippet(line: &str, column: usize, width: usize) -> Snippet {
    let length = line.chars().count();
    let column = column.saturating_sub(1).min(length);
    let start = if length <= SNIPPET_MAX { 0 } else { column.saturating_sub(SNIPPET_MAX / 2) };
    let mut shown: String = line.chars().skip(start).take(SNIPPET_MAX).map(harmless_char).collect();
    if start + SNIPPET_MAX < length {
        shown.push('…');
    }
    shown.truncate(shown.trim_end().len());
    let mut indent = column - start;
    if start > 0 {
        shown.insert(0, '…');
        indent += 1;
    }
    let room = shown.chars().count().saturating_sub(indent).max(1);
    Snippet { indent, width: width.clamp(1, room), line: shown }
}

/// The lines of a text by number; asked in rising order, so that all of them cost one walk.
pub(super) struct Lines<'a> {
    rest: &'a str,
    number: usize,
    line: Option<&'a str>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, number: 0, line: None }
    }

    /// The line of this number, counted from 1.
    pub(super) fn get(&mut self, number: usize) -> Option<&'a str> {
        while self.number < number {
            // YAML ends a line at `\n`, `\r\n` or a lone `\r`; the positions count in those.
            let end = self.rest.find(['\n', '\r']);
            let line = &self.rest[..end.unwrap_or(self.rest.len())];
            let after = &self.rest[line.len()..];
            self.rest = after.strip_prefix("\r\n").or_else(|| after.get(1..)).unwrap_or("");
            self.line = (end.is_some() || !line.is_empty()).then_some(line);
            self.number += 1;
        }
        self.line.filter(|_| number > 0)
    }
}

/// Characters of a line that are shown: with the gutter it fits 100 columns.
const SNIPPET_MAX: usize = 88;
