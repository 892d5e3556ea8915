//! `evenkeel keys`: what may stand in the file, and where.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::exit_code::FAILED;
use super::output::{complain, said, say};
use crate::config::spec::{Asked, Default, Found, all, ask, blocks, table_of_all};

/// All keys, or those that a word asks for.
pub(super) fn keys(word: Option<&str>, as_json: bool) -> ExitCode {
    let (keys, others) = match word.map(ask) {
        None => (all(), Vec::new()),
        Some(Asked::Keys(keys, others)) => (keys, others),
        Some(Asked::Foreign(here)) if as_json => {
            return said(say(format_args!("{:#}", json!([{ "foreign": here }]))));
        }
        Some(Asked::Foreign(here)) => return said(say(here)),
        Some(Asked::Nothing(why)) => {
            complain(format_args!("evenkeel: {why}"));
            return ExitCode::from(FAILED);
        }
    };
    if as_json {
        let rows: Vec<Value> = keys.iter().map(row).collect();
        return said(say(format_args!("{:#}", Value::Array(rows))));
    }
    let mut text = if word.is_some() { blocks(&keys) } else { table_of_all() };
    if !others.is_empty() {
        text.push_str("\nAlso there: ");
        text.push_str(&others.join("\n            "));
    }
    said(say(text.trim_end()))
}

/// A key for programs.
fn row(found: &Found) -> Value {
    let key = found.key;
    json!({
        "path": found.path,
        "section": found.section,
        "name": key.name,
        "kind": key.kind.name(),
        "range": key.kind.range(),
        "bounds": key.kind.bounds(),
        "words": key.kind.words(),
        "default": if let Default::Is(text) = key.default { Some(text) } else { None },
        "required": key.default == Default::Required,
        "protocols": found.protocols(),
        "since": key.since,
        "also": found.also(),
        "doc": key.doc,
    })
}
