//! Sources of backends as JSON and as metrics: how each stands, since when, what it found, and why not.

use serde_json::{Value, json};

use super::openmetrics::OpenMetrics;
use crate::discovery::{Absent, Board, PoolRow, Row};
use crate::durations::age;
use crate::pool::PoolView;

/// The sources of one pool; nothing of one without.
pub(super) fn of_pool(board: &Board, pool: &str, now_ms: u64) -> Option<Value> {
    let row = board.pool(pool)?;
    Some(row.sources.iter().map(|source| short(source, &row, now_ms)).collect())
}

/// Every source with what it found, for `evenkeel sources`.
pub(super) fn whole(board: &Board, pool: Option<&str>, now_ms: u64) -> Option<Value> {
    let pools = board.pools();
    if pool.is_some_and(|pool| !pools.contains_key(pool)) {
        return None;
    }
    let wanted = pools.iter().filter(|(name, _)| pool.is_none_or(|pool| pool == **name));
    let rows = wanted.flat_map(|(name, row)| {
        row.sources.iter().map(move |source| {
            let mut value = short(source, row, now_ms);
            value["pool"] = name.as_str().into();
            let found =
                source.found.iter().map(|(name, address)| json!({ "name": name, "address": address }));
            value["backends"] = found.collect();
            value["answers"] =
                json!({ "ok": source.answers[0], "empty": source.answers[1], "error": source.answers[2] });
            value
        })
    });
    Some(json!({ "sources": rows.collect::<Vec<_>>() }))
}

/// Who is not among the backends of a pool, and why: those that left or were refused lately, or the one that is asked for.
pub(super) fn absent(board: &Board, view: &PoolView, asked: Option<&str>, now_ms: u64) -> Vec<Value> {
    let is_there = |name: &str| view.backends.iter().any(|backend| *backend.name == *name);
    let row = board.pool(&view.live.name).unwrap_or_default();
    absent_of(&row, asked.filter(|name| !is_there(name)), is_there, now_ms)
}

fn absent_of(row: &PoolRow, asked: Option<&str>, is_there: impl Fn(&str) -> bool, now_ms: u64) -> Vec<Value> {
    let told = |name: &str, why: String| json!({ "name": name, "why": why });
    let known = row.absent.iter().filter(|one| asked.map_or(!is_there(&one.name), |asked| asked == one.name));
    let why = |one: &Absent| {
        let (source, ago) = (&one.source, age(now_ms.saturating_sub(one.since_ms) / 1_000));
        match one.refused {
            Some(why) => format!("{source} named it {ago} ago, and it cannot be a backend: {why}"),
            None => format!("left {source} {ago} ago"),
        }
    };
    let all: Vec<Value> = known.map(|one| told(&one.name, why(one))).collect();
    let Some(asked) = asked.filter(|_| all.is_empty()) else { return all };
    let sources =
        row.sources.iter().map(|source| format!("the {} that {} names", source.found.len(), source.source));
    let sources: Vec<String> = sources.collect();
    let why = match &*sources {
        [] => "is no backend of the file, and the pool has no source".to_owned(),
        sources => format!("is no backend of the file, and not among {}", sources.join(", ")),
    };
    vec![told(asked, why)]
}

fn short(source: &Row, pool: &PoolRow, now_ms: u64) -> Value {
    let state = state_of(source, pool);
    json!({
        "source": source.source,
        "state": state,
        "since_s": now_ms.saturating_sub(source.since_ms) / 1_000,
        "found": source.found.len(),
        "next_s": source.next_ms.map(|at_ms| at_ms.saturating_sub(now_ms).div_ceil(1_000)),
        "answered_s": source.answered_ms.map(|at_ms| now_ms.saturating_sub(at_ms) / 1_000),
        "why": why(source, state),
    })
}

fn state_of(source: &Row, pool: &PoolRow) -> &'static str {
    if pool.is_full && source.state == "ok" { "full" } else { source.state }
}

fn why(source: &Row, state: &str) -> String {
    let found = source.found.len();
    let why = source.why.as_deref().unwrap_or("");
    match state {
        "full" => "more was found than `max_backends`".to_owned(),
        "waiting" => "it has not answered yet".to_owned(),
        "remembered" if why.is_empty() => format!("{found} found by the process before"),
        "failing" | "nobody" if found > 0 => format!("{why}; the {found} found before stay"),
        _ => why.to_owned(),
    }
}

/// Teller of one source and its labels.
type TellSource<'a> = dyn FnMut(&Row, [(&str, &str); 2]) + 'a;

/// The metrics of all sources.
pub(super) fn metrics(out: &mut OpenMetrics, board: &Board, now_ms: u64) {
    let pools = board.pools();
    let each = |tell: &mut TellSource<'_>| {
        for (pool, row) in &pools {
            row.sources.iter().for_each(|source| tell(source, [("pool", pool), ("source", &source.source)]));
        }
    };
    out.gauge("evenkeel_discovery_source_up", "1: the source answers.");
    each(&mut |source, labels| {
        let up = !matches!(source.state, "failing" | "waiting");
        out.sample("evenkeel_discovery_source_up", &labels, u8::from(up));
    });
    out.gauge("evenkeel_discovery_found", "Backends that the source has found.");
    each(&mut |source, labels| out.sample("evenkeel_discovery_found", &labels, source.found.len()));
    out.gauge("evenkeel_discovery_age_seconds", "Time since the source last answered.");
    each(&mut |source, labels| {
        if let Some(at_ms) = source.answered_ms {
            let age_s = now_ms.saturating_sub(at_ms) as f64 / 1_000.0;
            out.sample("evenkeel_discovery_age_seconds", &labels, age_s);
        }
    });
    out.counter("evenkeel_discovery_answers", "Answers of the source: somebody, nobody, or a failure.");
    each(&mut |source, [pool, name]| {
        for (result, count) in ["ok", "empty", "error"].into_iter().zip(source.answers) {
            out.sample("evenkeel_discovery_answers_total", &[pool, name, ("result", result)], count);
        }
    });
    out.counter("evenkeel_discovery_changes", "What changed by what was found.");
    for (pool, row) in &pools {
        let changes = &row.changes;
        let all = [
            ("found", changes.found),
            ("left", changes.left),
            ("changed", changes.changed),
            ("held", changes.held),
            ("refused", changes.refused),
        ];
        for (change, count) in all {
            out.sample("evenkeel_discovery_changes_total", &[("pool", pool), ("change", change)], count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_there_is_told_with_the_reason() {
        let absent = |name: &str, refused| Absent {
            name: name.to_owned(),
            source: "db.test:1".to_owned(),
            since_ms: 1_000,
            refused,
        };
        let row = PoolRow {
            absent: vec![absent("10.0.0.1:1", None), absent("127.0.0.1:1", Some("it is loopback"))],
            ..PoolRow::default()
        };
        let shown = |row: &PoolRow, asked| {
            let all = absent_of(row, asked, |name| name == "10.0.0.9:1", 13_000);
            all.iter().map(|one| one["why"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let refused = "db.test:1 named it 12s ago, and it cannot be a backend: it is loopback";
        assert_eq!(shown(&row, None), ["left db.test:1 12s ago", refused]);
        assert_eq!(shown(&row, Some("127.0.0.1:1")), [refused]);
        let nowhere = "is no backend of the file, and the pool has no source";
        assert_eq!(shown(&PoolRow::default(), Some("b")), [nowhere]);
    }

    #[test]
    fn what_stays_is_told_beside_why() {
        let row = |state, found: usize, why: Option<&str>| Row {
            source: "db.test:1".into(),
            state,
            since_ms: 1_000,
            why: why.map(str::to_owned),
            found: vec![("a".into(), "a".into()); found],
            next_ms: Some(4_500),
            answered_ms: None,
            answers: [1, 2, 3],
            told: crate::manifest::Source {
                text: String::new(),
                found: Vec::new(),
                current: None,
                answered_ms: None,
                failing_since_ms: None,
                listed: Vec::new(),
            },
        };
        let shown = |row: &Row, is_full| {
            let value = short(row, &PoolRow { is_full, ..PoolRow::default() }, 3_000);
            format!("{} {} {} {}", value["state"], value["since_s"], value["next_s"], value["why"])
        };
        assert_eq!(shown(&row("ok", 2, None), false), r#""ok" 2 2 """#);
        assert_eq!(shown(&row("ok", 2, None), true), r#""full" 2 2 "more was found than `max_backends`""#);
        let failing = shown(&row("failing", 3, Some("SERVFAIL")), false);
        assert_eq!(failing, r#""failing" 2 2 "SERVFAIL; the 3 found before stay""#);
        assert_eq!(shown(&row("failing", 0, Some("SERVFAIL")), false), r#""failing" 2 2 "SERVFAIL""#);
    }
}
