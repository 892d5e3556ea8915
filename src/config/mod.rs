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
mod shown;
pub mod spec;
mod table;
mod text;
pub mod units;
mod variables;
mod written;

pub use check::Listed;
pub use describe::describe;
pub use difference::difference;
pub use listing::{LISTING_BYTES_MAX, read_listing};
pub use mistake::{Mistake, Mistakes, Reads, Variable};
pub use schema::schema;
pub use table::{explained, table};

use mistake::{Place, Report};
use settings::Settings;

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What it means.
    pub settings: Settings,
    /// What it says, without its passwords, and with what its variables stand for: read anywhere, it means the same.
    pub text: String,
    /// The variables of the environment that it uses, in the order of the file.
    pub variables: Vec<Variable>,
}

/// Reads a whole file. `file_name` is only for the text of the mistakes. What stands outside of it (passwords, the
/// environment) is not read.
pub fn read(file_name: &str, text: &[u8]) -> Result<Settings, Mistakes> {
    whole(file_name, text, Report::default()).map(|read| read.settings)
}

/// The same with what stands outside of it.
pub fn read_with(file_name: &str, text: &[u8], reads: Reads) -> Result<Configuration, Mistakes> {
    whole(file_name, text, Report::reading(reads))
}

fn whole(file_name: &str, text: &[u8], mut report: Report) -> Result<Configuration, Mistakes> {
    let text = match text::decode(text, &mut report) {
        Ok(text) => text,
        Err(shown) => return Err(report.into_mistakes(file_name, &shown)),
    };
    let document = document::parse(&text, &mut report);
    let settings = document.as_ref().and_then(|document| check::check(document, &mut report));
    if !report.is_empty()
        && let Some(told) = foreign::file(&text)
    {
        report.tell_only(Place::FILE, told);
    }
    let text = hidden::blank(&text, &mut report);
    match (settings, document) {
        (Some(settings), Some(document)) if report.is_empty() => {
            let variables = report.variables();
            // Elsewhere they stand for something else, or for nothing.
            let text = if variables.is_empty() { text } else { written::written(&document, report.hidden()) };
            Ok(Configuration { settings, text, variables })
        }
        _ => Err(report.into_mistakes(file_name, &text)),
    }
}
