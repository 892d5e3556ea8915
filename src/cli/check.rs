//! `evenkeel check`: the file as every command reads it, and what is wrong with it, for people.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::ask::ask;
use super::client::{Client, Told};
use super::commands::diff;
use super::exit_code::BAD_CONFIGURATION;
use super::output::{complain, said, say};
use super::resolve;
use crate::config::{self, Variable};
use crate::discovery;
use crate::pool::picker_when_all_serve;
use crate::server::{Document, Refused, read_document, read_standard_input};

/// Prints what the file holds, or every mistake; looks the names in it up, or asks every backend.
pub(super) fn check(paths: &[PathBuf], resolves: bool, asks: bool) -> ExitCode {
    let Document { settings, text, variables, files, ignored, .. } = match load(paths) {
        Ok(document) => document,
        Err(code) => return code,
    };
    let mut words = Ok(());
    if !asks {
        words = say(config::describe(&settings));
        if !variables.is_empty() {
            words = words.and_then(|()| say(table_of(&variables)));
        }
        let named: Vec<String> = ignored
            .iter()
            .take(IGNORED_MAX)
            .map(|name| format!("{name}: not read, its name is hidden or does not end in .yaml"))
            .collect();
        for line in &named {
            words = words.and_then(|()| say(line));
        }
        if ignored.len() > named.len() {
            words = words.and_then(|()| {
                say(format_args!("and {} more that are not read", ignored.len() - named.len()))
            });
        }
        // Whom sources find decides as well.
        for pool in settings.pools.iter().filter(|pool| pool.sources.is_empty()) {
            let picker = picker_when_all_serve(pool, &settings.hash_seed);
            if let Some(table) = picker.and_then(|picker| picker.table_number()) {
                let name = &pool.name;
                words = words.and_then(|()| {
                    say(format_args!("pool {name}: table {table:08x} when all its backends serve"))
                });
            }
        }
        words = words.and_then(|()| say(format_args!("file {:08x}", config::number(&text))));
        for file in files.iter() {
            words = words.and_then(|()| say(format_args!("{file}: no mistakes")));
        }
    }
    // Whoever is found is asked as well.
    let looks = resolves || asks && settings.pools.iter().any(|pool| !pool.sources.is_empty());
    if words.is_err() || !looks {
        return if asks { ask(&settings) } else { said(words) };
    }
    let looked = match resolve::look_up(&settings) {
        Ok(looked) => looked,
        Err(code) => return code,
    };
    let code = resolve::show(&looked, resolves, asks);
    if !asks {
        return code;
    }
    let all = ask(&discovery::with_resolved(&settings, &looked));
    if code == ExitCode::SUCCESS { all } else { code }
}

/// What a reload of the balancer at this socket would do.
pub(super) fn against_running(socket: Option<PathBuf>) -> ExitCode {
    let asked = Client::new(socket, false).and_then(|client| diff::against_running(&client));
    asked.map_or_else(|Told(code)| code, |()| ExitCode::SUCCESS)
}

/// What the variables of the environment stand for, and where. A service may see others than a shell does.
fn table_of(variables: &[Variable]) -> String {
    let row = |one: &Variable| {
        let value = match (&one.value, one.is_default) {
            (Some(value), true) => format!("{value} (not set: the default)"),
            (Some(value), false) => value.clone(),
            (None, true) => "not shown (not set: the default)".to_owned(),
            (None, false) => "not shown".to_owned(),
        };
        [one.name.clone(), value, format!("{}:{}:{}", one.file, one.line, one.column)]
    };
    let head = ["VARIABLE", "STANDS FOR", "WHERE"].map(str::to_owned);
    config::table(&std::iter::once(head).chain(variables.iter().map(row)).collect::<Vec<_>>())
}

/// Reads the file, or tells on standard error why that is none.
fn load(paths: &[PathBuf]) -> Result<Document, ExitCode> {
    let read = if paths == [Path::new("-")] { read_standard_input() } else { read_document(paths) };
    let document = read.inspect(|document| {
        document.warnings.iter().for_each(|warning| complain(format_args!("evenkeel: {warning}")));
    });
    document.map_err(|refused| {
        tell_refused(&refused);
        // A file that is not there or not readable is a configuration to mend, like a wrong one.
        ExitCode::from(BAD_CONFIGURATION)
    })
}

/// Why a file is not served, on standard error.
pub(super) fn tell_refused(refused: &Refused) {
    match refused {
        Refused::Unreadable(why) => complain(format_args!("evenkeel: {why}")),
        other => complain(other),
    }
}

/// Names that are told of a folder which is full of others.
const IGNORED_MAX: usize = 10;
