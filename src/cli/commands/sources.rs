//! `sources` and `refresh`: where backends are found, and how that stands.

use serde_json::Value;

use super::shown::{list, number, text};
use super::whose::Whose;
use crate::cli::client::Told;
use crate::config::explained;
use crate::durations::age;

/// Each source with its last answer.
pub(super) fn sources(whose: Whose, pool: Option<&str>) -> Result<(), Told> {
    let client = whose.client()?;
    let query: Vec<_> = pool.iter().map(|pool| ("pool", *pool)).collect();
    let answer = client.ask("GET", "/sources", &query)?;
    client.show(&answer, picture)
}

/// Asks at once.
pub(super) fn refresh(whose: Whose, pool: Option<&str>) -> Result<(), Told> {
    let client = whose.client()?;
    let query: Vec<_> = pool.iter().map(|pool| ("pool", *pool)).collect();
    let answer = client.ask("POST", "/refresh", &query)?;
    client.show(&answer, |_| "asked: evenkeel sources shows what comes of it".to_owned())
}

/// The table of some sources, as a part of another picture.
pub(super) fn table(sources: &[Value]) -> String {
    let mut rows = vec![["SOURCE", "STATE", "FOR", "FOUND", "NEXT", "WHY"].map(str::to_owned)];
    rows.extend(sources.iter().map(|source| {
        [
            text(source, "source").to_owned(),
            text(source, "state").to_owned(),
            age(number(source, "since_s")),
            number(source, "found").to_string(),
            source.get("next_s").and_then(Value::as_u64).map_or("-".to_owned(), age),
            text(source, "why").to_owned(),
        ]
    }));
    explained(&rows, |_, _, cell| cell)
}

fn picture(answer: &Value) -> String {
    let sources = list(answer, "sources");
    if sources.is_empty() {
        return "no pool has backends that are found".to_owned();
    }
    let mut out = String::new();
    for source in sources {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!("pool {}\n", text(source, "pool")));
        out.push_str(&table(std::slice::from_ref(source)));
        for backend in list(source, "backends") {
            let (name, address) = (text(backend, "name"), text(backend, "address"));
            let line = if name == address { name.to_owned() } else { format!("{name} at {address}") };
            out.push_str(&format!("  {line}\n"));
        }
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_source_is_a_table_with_its_backends_below() {
        let answer = json!({ "sources": [{
            "pool": "pg", "source": "db.test:5432", "state": "failing", "since_s": 720, "found": 1, "next_s": 30,
            "why": "SERVFAIL; the 1 found before stay", "backends": [{ "name": "db", "address": "10.0.0.1:5432" }],
        }] });
        let shown = picture(&answer);
        assert!(shown.starts_with("pool pg\nSOURCE"), "{shown}");
        assert!(shown.contains("failing  12m  1      30s   SERVFAIL; the 1 found before stay"), "{shown}");
        assert!(shown.ends_with("\n  db at 10.0.0.1:5432"), "{shown}");
        assert_eq!(picture(&json!({ "sources": [] })), "no pool has backends that are found");
    }
}
