//! Files of networks: a line each, ADDRESS or ADDRESS/BITS, `#` and `;` begin a comment.
//!
//! Pure: the bytes come from whoever reads. Must stay true: a line that is wrong is told with its place; a file that has nothing
//! in it is one that is being written, and a mistake.

use std::sync::Arc;

use super::network::{CidrError, parse_cidr};
use super::section::Fields;
use super::values::scalar;
use crate::config::document::{Entry, Node};
use crate::config::mistake::{Place, Report, quoted};
use crate::config::settings::{NetworkFile, NetworkList};
use crate::config::spec::NETWORK_FILE;
use crate::config::text;
use crate::config::units::show_whole;

/// The file that a map in a list of networks names. `None`: what is wrong is told.
pub(super) fn read(entry: &Entry, item: &Node, report: &mut Report) -> Option<NetworkFile> {
    let fields = Fields::open(item, &NETWORK_FILE, report)?;
    let Some(choice) = fields.get("file") else {
        // Another key was told.
        if fields.is_empty() {
            report.tell(item.place, format!("`{}`: a map is `{{ file: PATH }}`", entry.key));
        }
        return None;
    };
    let kind = fields.kind("file");
    let path = scalar("file", &choice.value, kind.expected(), report)?;
    if !path.starts_with('/') || path.len() > kind.most() || path.contains('\0') {
        report.tell(choice.value.place, format!("`file` must be a path from the root, not {}", quoted(path)));
        return None;
    }
    let path: Arc<str> = path.into();
    if let Some(known) = report.networks.get(&path) {
        return known.map(|list| NetworkFile { path, list });
    }
    let list = match report.read_networks(&path) {
        Ok(bytes) => from_bytes(&path, &bytes, report),
        Err(why) => {
            report.tell(choice.value.place, format!("`{}`: {path} cannot be read: {why}", entry.key));
            None
        }
    };
    report.networks.insert(&path, list.clone());
    let list = list?;
    if report.networks.count() > ENTRIES_MAX {
        let most = show_whole(ENTRIES_MAX as u64);
        report.tell(choice.value.place, format!("the files of networks hold more than {most} in all"));
    }
    Some(NetworkFile { path, list })
}

/// The networks of a file; what is wrong with it is told, in that file.
pub(in crate::config) fn from_bytes(
    path: &str,
    bytes: &[u8],
    report: &mut Report,
) -> Option<Arc<NetworkList>> {
    let file = report.next_file();
    let mut own = Report::default();
    let (text, list) = if bytes.len() > BYTES_MAX {
        own.tell(Place::whole(file), format!("a file of networks has at most {} MiB", BYTES_MAX >> 20));
        (String::new(), NetworkList::default())
    } else {
        match text::decode(bytes, file, usize::MAX, &mut own) {
            Ok(text) => {
                let list = parsed(&text, file, &mut own);
                (text, list)
            }
            Err(shown) => (shown, NetworkList::default()),
        }
    };
    if own.is_empty() {
        return Some(Arc::new(list));
    }
    report.add_file(path, text);
    report.absorb(own);
    None
}

fn parsed(text: &str, file: usize, report: &mut Report) -> NetworkList {
    let mut list = NetworkList::default();
    if text.is_empty() {
        let hint = "a list that is meant to be empty holds a comment: `# nobody`";
        report.tell_with_hint(Place::whole(file), "the file is empty", hint);
    }
    for (line, whole) in (1..).zip(text.lines()) {
        let written = network_of(whole);
        if written.is_empty() {
            continue;
        }
        match parse_cidr(written) {
            Ok(cidr) => list.push(cidr, u32::try_from(line).unwrap_or(u32::MAX)),
            Err(error) => {
                let column = whole.chars().take_while(|letter| letter.is_whitespace()).count() + 1;
                let place = Place { file, line, column, width: written.chars().count() };
                match &error {
                    CidrError::HostBits { network, address, .. } => {
                        let hint = format!("write {network} for the network, {address} for the one address");
                        report.tell_with_hint(place, error.to_string(), hint);
                    }
                    _ => report
                        .tell(place, format!("a line is a network like 10.0.0.0/8, or an address; {error}")),
                }
            }
        }
        if list.len() > ENTRIES_EACH_MAX {
            let most = show_whole(ENTRIES_EACH_MAX as u64);
            let place = Place { file, line, column: 1, width: 1 };
            report.tell(place, format!("more than {most} networks in this file"));
            break;
        }
    }
    list.close();
    list
}

/// The line without its comment.
fn network_of(line: &str) -> &str {
    line.split(['#', ';']).next().unwrap_or_default().trim()
}

/// What of a file can be read, line by line: for who has to go on with it, whatever it says now.
pub(in crate::config) fn good_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let good = |line: &&str| parse_cidr(network_of(line)).is_ok();
    let lines: Vec<&str> = text.lines().filter(good).take(ENTRIES_EACH_MAX).collect();
    format!("# what could be read\n{}", lines.join("\n"))
}

/// Networks of one file, and of all.
const ENTRIES_EACH_MAX: usize = 1_000_000;
const ENTRIES_MAX: usize = 2_000_000;
/// A line of a long address, its bits and a comment, for each.
pub(in crate::config) const BYTES_MAX: usize = 64 << 20;
