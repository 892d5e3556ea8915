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
mod known_networks;
mod kubeconfig;
mod listing;
mod mistake;
mod nearest;
mod plain;
mod run_time;
mod schema;
pub mod settings;
mod shown;
mod snippet;
pub mod spec;
mod table;
mod text;
mod unified;
pub mod units;
mod variables;
mod written;

use std::sync::Arc;

pub use check::{Listed, NETWORKS_BYTES_MAX};
pub use describe::describe;
pub use difference::difference;
pub use kubeconfig::{Kubeconfig, read_kubeconfig};
pub use listing::{LISTING_BYTES_MAX, read_listing};
pub use mistake::{Mistake, Mistakes, Reads, Variable};
pub use plain::{Plain, plain};
pub use run_time::{RunTimeChange, RunTimeCommand, RunTimeError, RunTimeHow, RunTimeWish, edited};
pub use schema::schema;
pub use table::{explained, table};
pub use text::BYTES_MAX;
pub use text::number;
pub use unified::unified;

use mistake::{AT_RUN_TIME, Place, Report};
use run_time::Laid;
use settings::{NetworkList, Settings};

/// A configuration that was read.
#[derive(Debug, Clone)]
pub struct Configuration {
    /// What it means.
    pub settings: Settings,
    /// What it says, without its passwords: one text, with what its variables stand for. Read anywhere, it means the same.
    pub text: String,
    /// The same without what was changed at run time.
    pub base: String,
    /// What was changed at run time and stays so.
    pub changes: Vec<RunTimeChange>,
    /// What was, and ends with what the files say now, for people.
    pub over: Vec<String>,
    /// The variables of the environment that it uses, in the order of the files.
    pub variables: Vec<Variable>,
    /// Which of the files hold passwords as they are.
    pub with_passwords: Vec<usize>,
}

/// A file that is read: what it is called in mistakes, and what it says.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    /// Its path.
    pub name: &'a str,
    /// Its bytes.
    pub bytes: &'a [u8],
}

/// Reads a whole file. `file_name` is only for the text of the mistakes. What stands outside of it (passwords, the
/// environment) is not read.
pub fn read(file_name: &str, text: &[u8]) -> Result<Settings, Mistakes> {
    whole(&[Text { name: file_name, bytes: text }], &[], Report::default()).map(|read| read.settings)
}

/// The same with what stands outside of it.
pub fn read_with(file_name: &str, text: &[u8], reads: Reads) -> Result<Configuration, Mistakes> {
    read_files(&[Text { name: file_name, bytes: text }], &[], reads)
}

/// What a key of this balancer (`HAProxy`, `nginx`, `Traefik`) is here, for people; `None`: it has none that is known.
pub fn foreign_key(whose: &str, word: &str) -> Option<String> {
    foreign::key_of(whose, word)
}

/// Reads a file of networks.
pub fn read_networks(path: &str, bytes: &[u8]) -> Result<Arc<NetworkList>, Mistakes> {
    let mut report = Report::default();
    check::networks(path, bytes, &mut report).ok_or_else(|| report.into_mistakes(&[]))
}

/// What of a file of networks can be read, as such a file: for who must go on with it whatever it says now.
pub fn good_networks(bytes: &[u8]) -> Vec<u8> {
    check::good_lines(bytes).into_bytes()
}

/// Reads several files as one configuration, with what was changed at run time.
pub fn read_files(
    files: &[Text<'_>],
    changes: &[RunTimeChange],
    reads: Reads,
) -> Result<Configuration, Mistakes> {
    whole(files, changes, Report::reading(reads))
}

fn whole(
    files: &[Text<'_>],
    changes: &[RunTimeChange],
    mut report: Report,
) -> Result<Configuration, Mistakes> {
    let names = files.iter().map(|file| file.name).chain(changes.iter().map(|_| AT_RUN_TIME));
    report.set_names(&names.collect::<Vec<_>>());
    let (mut texts, mut trees) = (Vec::with_capacity(files.len()), Vec::with_capacity(files.len()));
    let mut room = text::BYTES_MAX;
    for (file, Text { bytes, .. }) in files.iter().enumerate() {
        let text = match text::decode(bytes, file, room, &mut report) {
            Ok(text) => text,
            Err(shown) => {
                room = room.saturating_sub(bytes.len());
                texts.push(shown);
                continue;
            }
        };
        room -= bytes.len();
        // One that is being written may have nothing in it yet; and what is not there would go in silence.
        if files.len() > 1 && text.trim().is_empty() {
            report.tell_with_hint(Place::whole(file), "the file is empty", EMPTY_HINT);
        }
        trees.extend(document::parse(&text, file, &mut report));
        texts.push(text);
    }
    // What a file that cannot be read says would be missed in the others.
    let document = (trees.len() == files.len()).then(|| check::joined(trees, &mut report));
    let laid = document.as_ref().map(|document| run_time::laid_over(document, changes, files.len()));
    texts.extend(changes.iter().map(RunTimeChange::command));
    let settings = laid.as_ref().and_then(|laid| check::check(&laid.tree, &mut report));
    if !report.is_empty()
        && let Some((file, told)) = texts
            .iter()
            .enumerate()
            .take(files.len())
            .find_map(|(file, text)| Some((file, foreign::file(text)?)))
    {
        report.tell_only(Place::whole(file), told);
    }
    let texts: Vec<String> =
        texts.iter().enumerate().map(|(file, text)| hidden::blank(text, file, &mut report)).collect();
    match (settings, document.zip(laid)) {
        (Some(settings), Some((document, Laid { tree, stay, over }))) if report.is_empty() => {
            let (variables, with_passwords) = (report.variables(), report.with_passwords());
            let base = match &texts[..files.len()] {
                // Elsewhere variables stand for something else, or for nothing.
                [text] if variables.is_empty() => text.clone(),
                _ => written::written(&document, report.hidden()),
            };
            let text = match &*stay {
                [] => base.clone(),
                _ => written::written(&tree, report.hidden()),
            };
            Ok(Configuration { settings, text, base, changes: stay, over, variables, with_passwords })
        }
        _ => Err(report.into_mistakes(&texts)),
    }
}

const EMPTY_HINT: &str = "a file that is meant to say nothing holds a comment, or is removed";
