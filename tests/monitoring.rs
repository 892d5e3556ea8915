//! The alerts and the dashboard ask for metrics that the program exports.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

const ALERTS: &str = include_str!("../conf/prometheus/alerts.yml");
const DASHBOARD: &str = include_str!("../conf/grafana/dashboard.json");
const METRICS: &str = include_str!("../docs/metrics.md");

/// Every word of the text that begins so.
fn words<'a>(text: &'a str, beginning: &str) -> BTreeSet<&'a str> {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c: char| !of_a_name(c)).filter(|word| word.starts_with(beginning)).collect()
}

#[test]
fn every_metric_that_is_asked_for_is_documented_and_so_exported() {
    // tests/architecture holds docs/metrics.md to what the program exports.
    let exported: BTreeSet<&str> = &words(METRICS, "evenkeel_") | &words(METRICS, "process_");
    for (what, text) in [("the alerts", ALERTS), ("the dashboard", DASHBOARD)] {
        let asked: BTreeSet<&str> = &words(text, "evenkeel_") | &words(text, "process_");
        assert!(asked.len() >= 8, "{what} ask for {asked:?} only");
        for name in asked {
            let base = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(exported.contains(base), "{what} ask for {name}, which nobody exports");
        }
    }
}

#[test]
fn every_reason_in_the_alerts_is_one() {
    let reasons: BTreeSet<&str> = evenkeel::reason::Reason::ALL.iter().map(|reason| reason.word()).collect();
    let list = ALERTS.split("reason=~\"").nth(1).unwrap().split('"').next().unwrap();
    for word in list.split('|') {
        assert!(reasons.contains(word), "{word}");
    }
}

#[test]
fn the_dashboard_is_json_with_panels() {
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    assert!(dashboard["panels"].as_array().unwrap().len() >= 15);
}
