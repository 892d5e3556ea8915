//! `admin.hosts`: host names that browsers and scrapers may call this machine by.
//!
//! Pure.

use super::values::scalar;
use crate::config::document::{Entry, Value};
use crate::config::mistake::{Report, quoted};
use crate::config::spec::Kind;

/// What `hosts` says: each name once, in lower case, without a dot at its end.
pub(super) fn read(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Vec<String>> {
    let items = match &entry.value.value {
        Value::List(items) => items,
        _ => std::slice::from_ref(&entry.value),
    };
    if items.len() > kind.most() {
        report.tell(entry.value.place, format!("`hosts` has at most {} names", kind.most()));
        return None;
    }
    let mut hosts: Vec<String> = Vec::new();
    for item in items {
        let Some(text) = scalar(&entry.key, item, kind.expected(), report) else { continue };
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if !is_host_name(&name) {
            let message = format!("`hosts` must be {}, not {}", kind.expected(), quoted(text));
            report.tell_with_hint(item.place, message, "a name alone, without scheme, port and path");
        } else if hosts.contains(&name) {
            report.tell(item.place, format!("{} is in `hosts` already", quoted(text)));
        }
        hosts.push(name);
    }
    Some(hosts)
}

/// Labels and dots, without a final one.
pub(super) fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_is_labels_and_dots() {
        let long = "a".repeat(63);
        for good in ["lb", "lb1.example.net", "x_y", "xn--bcher-kva.example", "1.2.example", &long] {
            assert!(is_host_name(good), "{good}");
        }
        let long = "a".repeat(64);
        let longer = ["abcdefg"; 40].join(".");
        for bad in ["", ".", "a..b", "a b", "a:80", "http://a", "*.a", "[::1]", "bücher", &long, &longer] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
