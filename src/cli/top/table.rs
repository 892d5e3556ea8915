//! Pools and backends as lines of a given width.
//!
//! Pure: a picture and a view in, lines out. Must stay true: no line is wider than asked for.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use super::ink::Ink;
use super::picture::{Picture, PoolRates, Rates};
use super::reading::{Backend, Pool};
use super::view::{Sort, View, Whom};
use crate::cli::commands::shown::bytes;
use crate::durations::{age, latency};

/// A line, and the backend it tells of.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) line: Line<'static>,
    pub(super) whom: Option<Whom>,
}

/// Everything below the curves.
pub(super) fn rows(picture: &Picture, view: &View, ink: Ink, width: usize) -> Vec<Row> {
    let columns = Columns::of(width);
    let mut rows = Vec::new();
    for group in view.groups(picture) {
        let (Some(pool), Some(rates)) =
            (picture.reading.pools.get(group.pool), picture.pools.get(group.pool))
        else {
            continue;
        };
        if !rows.is_empty() {
            rows.push(Row { line: Line::default(), whom: None });
        }
        rows.push(Row { line: pool_line(picture, pool, rates, ink, width), whom: None });
        rows.push(Row { line: columns.head(view.sort), whom: None });
        for (backend, rate) in group.backends.iter().map(|&at| (&pool.backends[at], rates.backends[at])) {
            let whom = Whom { pool: pool.name.clone(), backend: backend.name.clone() };
            let is_selected = view.selected.as_ref() == Some(&whom);
            let row = columns.backend(backend, rate, ink, is_selected);
            rows.push(Row { line: row, whom: Some(whom.clone()) });
            if columns.why == 0 && !backend.cause.is_empty() {
                for piece in wrapped(&backend.cause, width.saturating_sub(4)) {
                    let line = Line::styled(format!("    {piece}"), Style::new().add_modifier(Modifier::DIM));
                    rows.push(Row { line, whom: Some(whom.clone()) });
                }
            }
        }
    }
    rows
}

fn pool_line(picture: &Picture, pool: &Pool, rates: &PoolRates, ink: Ink, width: usize) -> Line<'static> {
    let listed = pool.backends.iter().filter(|backend| backend.state != "leaving").count();
    let mut told = vec![format!("{}/{listed} eligible", pool.eligible)];
    told.push(format!("{} active", pool.traffic().active));
    if pool.waiting > 0 {
        told.push(format!("{} waiting", pool.waiting));
    }
    let all = rates.all;
    told.push(format!("{}/s", all.map_or_else(|| "-".into(), |all| rate(all.begun))));
    told.push(format!("{}/s", all.map_or_else(|| "-".into(), |all| size(all.bytes))));
    told.extend(rates.dial_us.map(|us| format!("dial {}", latency(us))));
    told.extend(rates.check_us.map(|us| format!("check {}", latency(us))));
    let kind = format!("{} {}", pool.protocols, pool.balance);
    let name_room = (width / 3).max(8);
    let mut line = vec![Span::styled(cut(&pool.name, name_room), Style::new().add_modifier(Modifier::BOLD))];
    let mut left = width.saturating_sub(line[0].width());
    // What there is no room for is left out whole, the last first; the kind of the pool before anything else.
    let needed: usize = told.iter().map(|part| part.chars().count() + 2).sum();
    let with_kind = needed + kind.chars().count() + 2 <= left;
    for part in with_kind.then_some(kind).into_iter().chain(told) {
        let length = part.chars().count() + 2;
        if length > left {
            break;
        }
        left -= length;
        line.push(Span::raw(format!("  {part}")));
    }
    if left >= 2 + CURVE_MIN {
        let curve = spark(&picture.pool_curve(&pool.name, (left - 2).min(CURVE_MAX), |point| point.begun));
        line.push(Span::styled(format!("  {curve}"), ink.of(Color::Cyan)));
    }
    if pool.eligible == 0 && listed > 0 {
        line[0].style = ink.of(Color::Red).add_modifier(Modifier::BOLD);
    }
    Line::from(line)
}

/// How wide each column is; 0: there is no room for it.
#[derive(Debug, Clone, Copy)]
struct Columns {
    name: usize,
    since: usize,
    active: usize,
    begun: usize,
    bytes: usize,
    latency: usize,
    why: usize,
}

impl Columns {
    fn of(width: usize) -> Self {
        let none = Self { name: 0, since: 0, active: 0, begun: 0, bytes: 0, latency: 0, why: 0 };
        let all = Self { since: 4, active: 9, begun: 8, bytes: 9, latency: 8, ..none };
        match width {
            110.. => {
                let room = width - 2 - all.fixed();
                let name = (room / 2).min(24);
                Self { name, why: room - name - GAP, ..all }
            }
            76.. => Self { name: width - 2 - all.fixed(), ..all },
            50.. => {
                let some = Self { bytes: 0, latency: 0, ..all };
                Self { name: width - 2 - some.fixed(), ..some }
            }
            _ => {
                let few = Self { active: 6, ..none };
                Self { name: width.saturating_sub(2 + few.fixed()).max(6), ..few }
            }
        }
    }

    /// Everything but the name, the reason and the mark of the selection.
    fn fixed(&self) -> usize {
        [STATE, self.since, self.active, self.begun, self.bytes, self.latency]
            .into_iter()
            .filter(|width| *width > 0)
            .map(|width| width + GAP)
            .sum()
    }

    fn head(&self, sort: Sort) -> Line<'static> {
        let marked = |text: &str, by: Sort| if sort == by { format!("{text}*") } else { text.to_owned() };
        let cells = [
            marked("BACKEND", Sort::Name),
            marked("STATE", Sort::State),
            "FOR".to_owned(),
            marked("ACTIVE", Sort::Active),
            marked("NEW/S", Sort::Begun),
            marked("BYTES/S", Sort::Bytes),
            marked("LATENCY", Sort::Latency),
            "WHY".to_owned(),
        ];
        Line::from(self.placed("  ", cells).join("")).style(Style::new().add_modifier(Modifier::UNDERLINED))
    }

    fn backend(&self, backend: &Backend, rates: Option<Rates>, ink: Ink, is_selected: bool) -> Line<'static> {
        let traffic = backend.traffic;
        let cells = [
            backend.name.clone(),
            backend.state_and_role(),
            backend.since_s.map_or_else(String::new, age),
            backend
                .max_sessions
                .map_or_else(|| traffic.active.to_string(), |max| format!("{}/{max}", traffic.active)),
            rates.map_or_else(|| "-".into(), |rates| rate(rates.begun)),
            rates.map_or_else(|| "-".into(), |rates| size(rates.bytes)),
            backend.latency_us.map_or_else(|| "-".into(), latency),
            backend.cause.clone(),
        ];
        let spans = self.placed(if is_selected { "> " } else { "  " }, cells).into_iter().enumerate();
        Line::from_iter(spans.map(|(at, cell)| match at {
            // The mark of the selection is the first.
            2 => Span::styled(cell, ink.state(&backend.state)),
            _ => Span::raw(cell),
        }))
    }

    /// The cells at their widths; numbers to the right.
    fn placed(&self, mark: &str, cells: [String; 8]) -> Vec<String> {
        let widths =
            [self.name, STATE, self.since, self.active, self.begun, self.bytes, self.latency, self.why];
        let mut line = vec![mark.to_owned()];
        for (at, (cell, width)) in cells.into_iter().zip(widths).enumerate() {
            if width == 0 {
                line.push(String::new());
                continue;
            }
            let cell = cut(&cell, width);
            let padding = " ".repeat(width.saturating_sub(Span::raw(&*cell).width()));
            let gap = if at == 0 { "" } else { "  " };
            let is_number = (2..=6).contains(&at);
            line.push(if is_number {
                format!("{gap}{padding}{cell}")
            } else {
                format!("{gap}{cell}{padding}")
            });
        }
        line
    }
}

/// `12.3`, `4.1k`: how many in a second.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        r if r >= 99_950.0 => format!("{:.0}k", r / 1_000.0),
        r if r >= 9_950.0 => format!("{:.1}k", r / 1_000.0),
        r if r >= 99.5 => format!("{r:.0}"),
        r => format!("{r:.1}"),
    }
}

/// `3.4 MB`.
pub(super) fn size(of: f64) -> String {
    // A cast of a float saturates.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    bytes(of.round() as u64)
}

/// A curve in one line.
fn spark(heights: &[u64]) -> String {
    let most = heights.iter().copied().max().unwrap_or(0).max(1);
    let level = |height: u64| (height.saturating_mul(7)).div_ceil(most).min(7);
    let level = |height: u64| usize::try_from(level(height)).unwrap_or(0);
    heights.iter().map(|&height| LEVELS[level(height)]).collect()
}

/// At most so many columns of it.
fn cut(text: &str, width: usize) -> String {
    let plain: String = text.chars().filter(|c| !c.is_control()).collect();
    if Span::raw(&*plain).width() <= width {
        return plain;
    }
    let mut short = String::new();
    for c in plain.chars() {
        short.push(c);
        if Span::raw(&*short).width() > width.saturating_sub(1) {
            short.pop();
            break;
        }
    }
    if width > 0 {
        short.push('~');
    }
    short
}

/// The text in lines of at most so many columns, at its spaces where it has some.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if Span::raw(&**line).width() + 1 + Span::raw(word).width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, width)),
        }
        if lines.len() >= CAUSE_LINES_MAX {
            break;
        }
    }
    lines
}

const GAP: usize = 2;
/// `marked down`.
const STATE: usize = 11;
const CURVE_MIN: usize = 8;
const CURVE_MAX: usize = 60;
const CAUSE_LINES_MAX: usize = 8;
const LEVELS: [char; 8] =
    ['\u{2581}', '\u{2582}', '\u{2583}', '\u{2584}', '\u{2585}', '\u{2586}', '\u{2587}', '\u{2588}'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_their_columns() {
        let rates = [0.0, 0.25, 9.96, 99.4, 99.6, 9_949.0, 12_345.0, 1_234_567.0].map(rate);
        assert_eq!(rates, ["0.0", "0.2", "10.0", "99.4", "100", "9949", "12.3k", "1235k"]);
        assert_eq!([-1.0, 1e30].map(size)[0], "0 B");
        assert_eq!(spark(&[0, 1, 50, 100]), "\u{2581}\u{2582}\u{2585}\u{2588}");
        assert_eq!(spark(&[0, 0]), "\u{2581}\u{2581}");
        assert_eq!(spark(&[u64::MAX]).chars().count(), 1);
    }

    #[test]
    fn texts_are_cut_and_wrapped_by_what_they_take_on_the_screen() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abcde~");
        assert_eq!(cut("\u{6f22}\u{5b57}\u{6f22}", 4), "\u{6f22}~");
        assert_eq!(cut("a\x1b[31m\n", 9), "a[31m");
        assert_eq!(cut("abc", 0), "");
        assert_eq!(
            wrapped("connection refused, 3 of 3 checks", 20),
            ["connection refused,", "3 of 3 checks"]
        );
        assert_eq!(wrapped("", 20), [""; 0]);
        assert!(wrapped(&"word ".repeat(1_000), 10).len() <= CAUSE_LINES_MAX);
    }

    #[test]
    fn columns_fill_every_width_and_no_more() {
        for width in 0..300 {
            let columns = Columns::of(width);
            let head = columns.head(Sort::Latency);
            assert!(head.width() <= width.max(29), "{width}: {head:?}");
            let long = Backend {
                name: "n".repeat(200),
                state: "marked down".into(),
                cause: "c".repeat(500),
                ..Backend::default()
            };
            let line = columns.backend(&long, None, Ink { has_colours: true }, true);
            assert!(line.width() <= width.max(29), "{width}: {line:?}");
        }
    }
}
