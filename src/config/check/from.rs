//! `from`, an entry of `backends` that is found: who is asked, and what of the answer is taken.
//!
//! Pure. Nobody is asked here.

use std::time::Duration;

use super::asked;
use super::choice::{needed, open};
use super::hosts::is_host_name;
use super::section::Fields;
use super::values::{is_word, scalar};
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::settings::{Ignored, ListFile, ServiceName, Source, SourceKind, Word};
use crate::config::spec::FROM;

/// The source of an entry with `from`.
pub(super) fn read(entry: &Entry, fields: &Fields<'_>, report: &mut Report) -> Option<Source> {
    for stranger in ["address", "name", "addresses", "family"].iter().filter_map(|key| fields.get(key)) {
        let why = match &*stranger.key {
            "address" => "`from` stands instead of `address`: an entry has one of them",
            "name" => "what `from` finds has names of its own; take `name` away",
            _ => "this is for a host name in `address`, not for `from`",
        };
        report.tell(stranger.place, why);
    }
    let ignore = ignored(fields, report);
    let (weight, tier) = (fields.whole("weight", report), fields.whole("tier", report));
    let max_sessions = fields.whole_or("max_sessions", report);
    let kinds: Vec<&str> = FROM.all_keys().collect();
    let kinds = kinds.join(", ");
    if let Value::Text(text) = &entry.value.value {
        let message = format!("`from` is a map of one key, of {kinds}, not {}", quoted(text));
        report.tell_with_hint(entry.value.place, message, "`from: { file: /etc/evenkeel/backends.yaml }`");
        return None;
    }
    let choices = Fields::open(&entry.value, &FROM, report)?;
    let [choice] = choices.entries() else {
        let message = if choices.is_empty() {
            format!("`from` says nothing; it is one of {kinds}")
        } else {
            format!("`from` is one of {kinds}; others are entries of their own")
        };
        report.tell(entry.value.place, message);
        return None;
    };
    let (text, from) = match &*choice.key {
        "srv" => services(choice, &choices, report)?,
        "file" => file(choice, &choices, report)?,
        "http" => asked::http(choice, &choices, report)?,
        "consul" => asked::consul(choice, &choices, report)?,
        "docker" => asked::docker(choice, &choices, report)?,
        "kubernetes" => asked::kubernetes(choice, &choices, report)?,
        // An unknown key was told.
        _ => return None,
    };
    Some(Source { text, from, weight, tier, max_sessions, ignore })
}

/// The keys that mean something beside `from` alone.
pub(super) fn tell_without(fields: &Fields<'_>, report: &mut Report) {
    if let Some(entry) = fields.get("ignore") {
        report.tell(entry.place, "`ignore` is for what `from` finds; this backend is an address");
    }
}

/// The services of a name, by the name alone or with more.
fn services(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Option<(String, SourceKind)> {
    let (entry, fields, port) = match &choice.value.value {
        Value::Map(_) => {
            let fields = open(choice, choices, report)?;
            let port = fields.whole_or("port", report);
            (needed("name", choice, &fields, report)?, fields, port)
        }
        _ => (choice, *choices, None),
    };
    let kind = fields.kind(&entry.key);
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.len() > kind.most() || !is_host_name(bare) {
        report.tell(
            entry.value.place,
            format!("`{}` must be {}, not {}", entry.key, kind.expected(), quoted(text)),
        );
        return None;
    }
    let name = text.to_ascii_lowercase();
    Some((format!("srv {name}"), SourceKind::Services(ServiceName { name, port })))
}

/// A file, by its path alone or with more.
fn file(choice: &Entry, choices: &Fields<'_>, report: &mut Report) -> Option<(String, SourceKind)> {
    let (path, every) = match &choice.value.value {
        Value::Map(_) => {
            let fields = open(choice, choices, report)?;
            let every = fields.duration("every", report);
            (absolute_path(needed("path", choice, &fields, report)?, &fields, report)?, every)
        }
        _ => (absolute_path(choice, choices, report)?, Duration::from_secs(1)),
    };
    Some((format!("file {path}"), SourceKind::File(ListFile { path, every })))
}

fn absolute_path(entry: &Entry, fields: &Fields<'_>, report: &mut Report) -> Option<String> {
    let kind = fields.kind(&entry.key);
    let path = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    if !path.starts_with('/') || path.len() > kind.most() {
        let most = kind.most();
        let message =
            format!("`{}` must be an absolute path of at most {most} bytes, not {}", entry.key, quoted(path));
        report.tell(entry.value.place, message);
        return None;
    }
    Some(path.to_owned())
}

/// What of the answer is not taken.
fn ignored(fields: &Fields<'_>, report: &mut Report) -> Vec<Ignored> {
    let Some(entry) = fields.get("ignore") else { return Vec::new() };
    let kind = fields.kind("ignore");
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    if items.len() > kind.most() {
        report.tell(entry.value.place, format!("`ignore` has at most {} words", kind.most()));
        return Vec::new();
    }
    let word = |node: &crate::config::document::Node, report: &mut Report| {
        let text = scalar("ignore", node, kind.expected(), report)?;
        let found =
            kind.words().iter().find(|word| is_word(node, word)).and_then(|word| Ignored::of_word(word));
        if found.is_none() {
            let message = format!("`ignore` must be {}, not {}", kind.expected(), quoted(text));
            report.tell(node.place, message);
        }
        found
    };
    items.iter().filter_map(|item| word(item, report)).collect()
}
