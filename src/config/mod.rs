//! Configuration file (YAML): `text` (UTF-8 of bounded size) -> `document` (its shape) -> `check` (every rule, all
//! mistakes at once) -> `settings` (what the program uses). `spec` has a row for each key, from which the rules have their
//! ranges and defaults.
//!
//! Pure: bytes in, settings or mistakes out. Reading the file is `server`'s work. Must stay true: any bytes are answered
//! in bounded time and memory, never with a panic.

mod check;
mod describe;
mod difference;
mod document;
mod foreign;
mod hidden;
mod listing;
mod mistake;
mod nearest;
mod schema;
pub mod settings;
pub mod spec;
mod table;
mod text;
pub mod units;

pub use check::Listed;
pub use describe::describe;
pub use difference::difference;
pub use listing::{LISTING_BYTES_MAX, read_listing};
pub use mistake::{Mistake, Mistakes, Reads};
pub use schema::schema;
pub use table::{explained, table};

use mistake::{Place, Report};
use settings::Settings;

/// Reads a whole file. `file_name` is only for the text of the mistakes. Passwords that stand outside of it are not read.
pub fn read(file_name: &str, text: &[u8]) -> Result<Settings, Mistakes> {
    whole(file_name, text, Report::default()).map(|(settings, _)| settings)
}

/// The same with the passwords, and the text of the file without any.
pub fn read_with(file_name: &str, text: &[u8], reads: Reads) -> Result<(Settings, String), Mistakes> {
    whole(file_name, text, Report::reading(reads))
}

fn whole(file_name: &str, text: &[u8], mut report: Report) -> Result<(Settings, String), Mistakes> {
    let text = match text::decode(text, &mut report) {
        Ok(text) => text,
        Err(shown) => return Err(report.into_mistakes(file_name, &shown)),
    };
    let settings =
        document::parse(&text, &mut report).and_then(|document| check::check(&document, &mut report));
    if !report.is_empty()
        && let Some(told) = foreign::file(&text)
    {
        report.tell_only(Place::FILE, told);
    }
    let text = hidden::blank(&text, &mut report);
    match settings {
        Some(settings) if report.is_empty() => Ok((settings, text)),
        _ => Err(report.into_mistakes(file_name, &text)),
    }
}
