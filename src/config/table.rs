//! Rows as a table for people.
//!
//! Pure. Must stay true: no line is wider than 100 columns, whatever the cells hold.

use super::mistake::harmless;

/// Rows in columns two spaces apart; when they do not fit, the widest columns are cut.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    painted(rows, |_, _, cell| cell)
}

/// The same where the last column tells why: what does not fit there goes on below it. `paint` is given the row, the column
/// and a cell that has its width.
pub fn explained<const N: usize>(
    rows: &[[String; N]],
    paint: impl Fn(usize, usize, String) -> String,
) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let others: usize = (0..N.saturating_sub(1)).map(|column| width(column) + GAP).sum();
    let room = COLUMNS.saturating_sub(others).max(WHY_MIN);
    let (mut lines, mut row_of) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for (at, row) in rows.iter().enumerate() {
        for (piece, text) in pieces(row.last().map_or("", String::as_str), room).into_iter().enumerate() {
            let mut line = if piece == 0 { row.clone() } else { [const { String::new() }; N] };
            if let Some(last) = line.last_mut() {
                *last = text;
            }
            lines.push(line);
            row_of.push(at);
        }
    }
    painted(&lines, |line, column, cell| paint(row_of[line], column, cell))
}

fn painted<const N: usize>(rows: &[[String; N]], paint: impl Fn(usize, usize, String) -> String) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|cell| harmless(cell))).collect();
    let mut widths: [usize; N] = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let room = COLUMNS - GAP * N.saturating_sub(1);
    while widths.iter().sum::<usize>() > room {
        let Some(widest) = widths.iter_mut().max() else { break };
        *widest -= 1;
    }
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let last = row.iter().rposition(|cell| !cell.is_empty()).unwrap_or(0);
        for (column, (cell, width)) in row.iter().zip(widths).take(last + 1).enumerate() {
            let cell = cut(cell, width);
            let padding = if column == last { 0 } else { width - cell.chars().count() + GAP };
            text.push_str(&paint(at, column, cell));
            text.extend(std::iter::repeat_n(' ', padding));
        }
        text.push('\n');
    }
    text
}

/// The text in pieces of at most so many characters where its words allow it; at least one piece.
fn pieces(text: &str, room: usize) -> Vec<String> {
    let mut all = vec![String::new()];
    for word in text.split(' ') {
        match all.last_mut() {
            Some(piece) if piece.is_empty() => piece.push_str(word),
            Some(piece) if piece.chars().count() + 1 + word.chars().count() <= room => {
                piece.push(' ');
                piece.push_str(word);
            }
            _ => all.push(word.to_owned()),
        }
    }
    all
}

fn cut(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

const COLUMNS: usize = 100;
const GAP: usize = 2;
/// What the last column of [`explained`] has at least.
const WHY_MIN: usize = 36;

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(cells: &[[&str; 2]]) -> Vec<[String; 2]> {
        cells.iter().map(|row| row.map(str::to_owned)).collect()
    }

    #[test]
    fn columns_line_up_and_the_widest_is_cut() {
        let wide = "x".repeat(200);
        let text = table(&rows(&[["A", "B"], ["long", &wide]]));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "A     B");
        assert!(lines[1].chars().count() == COLUMNS && lines[1].ends_with("x…"));
    }

    #[test]
    fn what_the_last_column_says_is_never_cut_between_words() {
        let (name, why) = ("n".repeat(80), "one two three four ".repeat(4));
        let text = explained(&rows(&[["A", "WHY"], [&name, &why]]), |_, _, cell| cell);
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert_eq!(text.matches("three").count(), 4, "{text}");
        assert!(text.lines().nth(2).unwrap().starts_with("   "), "{text}");
    }

    #[test]
    fn colours_take_no_room_and_nothing_of_a_cell_moves_a_terminal() {
        let paint =
            |_, column, cell: String| if column == 0 { format!("\x1b[1m{cell}\x1b[0m") } else { cell };
        let text = explained(&rows(&[["a\x1b[31m", "b"], ["a", "b"]]), paint);
        assert_eq!(text, "\x1b[1ma\u{fffd}[31m\x1b[0m  b\n\x1b[1ma\x1b[0m       b\n");
    }
}
