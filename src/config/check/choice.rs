//! A choice (one key of a map that says which kind a thing is), and the map behind it.
//!
//! Pure.

use super::section::Fields;
use crate::config::document::Entry;
use crate::config::mistake::Report;
use crate::config::spec::Section;

/// The map of one kind.
pub(super) fn open<'a>(choice: &'a Entry, choices: &Fields<'_>, report: &mut Report) -> Option<Fields<'a>> {
    let section: &'static Section = choices.kind(&choice.key).section()?;
    Fields::open(&choice.value, section, report)
}

/// A key without which its map means nothing.
pub(super) fn needed<'a>(
    key: &str,
    choice: &Entry,
    fields: &Fields<'a>,
    report: &mut Report,
) -> Option<&'a Entry> {
    let entry = fields.get(key);
    if entry.is_none() {
        report.tell(choice.place, format!("`{}` needs `{key}`", choice.key));
    }
    entry
}
