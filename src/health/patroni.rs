//! Patroni health check (PostgreSQL failover), `check: patroni`: the leader lock, the timeline and the position in the WAL, out
//! of one `GET /` of its REST API.
//!
//! Pure: bytes in, an outcome out. The status tells who holds the leader lock, and the body the rest. A server that says it is
//! a primary without the lock is none: it was one, or is about to give up.

use serde_json::Value;

use super::outcome::{Cause, Excerpt, Outcome};
use crate::roles::{Answer, Claim, Generation};

/// What is sent. It answers by HTTP/1.0 and closes.
pub(super) const QUESTION: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What comes of an answer; `None`: it is not whole yet.
pub(super) fn judge(heard: &[u8]) -> Option<Outcome> {
    let head_ends = heard.windows(4).position(|part| part == b"\r\n\r\n")? + 4;
    let status = status(heard);
    // It does not say how long it is: it is whole when it can be read.
    let said: Value = serde_json::from_slice(&heard[head_ends..]).ok()?;
    let text = |key: &str| said.get(key).and_then(Value::as_str);
    let (role, state) = (text("role").unwrap_or("unknown"), text("state").unwrap_or("unknown"));
    let runs = ["running", "streaming", "in archive recovery"].contains(&state);
    let is_for_readers = said.pointer("/tags/noloadbalance").and_then(Value::as_bool) != Some(true);
    let claim = match role {
        // `master` until Patroni 4.
        "primary" | "master" if status == Some(200) && runs => Claim::Primary,
        "replica" | "standby_leader" if runs && is_for_readers => Claim::Replica,
        _ => {
            let tag = if is_for_readers { "" } else { ", noloadbalance" };
            let why = format!("role {role}, state {state}{tag}, status {}", status.unwrap_or(0));
            return Some(Outcome::Bad(Cause::Unready { excerpt: Excerpt::of(why.as_bytes()) }));
        }
    };
    let number = said.get("timeline").and_then(Value::as_u64);
    let generation = number.zip(text("database_system_identifier"));
    let place = if claim == Claim::Primary { "/xlog/location" } else { "/xlog/replayed_location" };
    Some(Outcome::Role(Answer {
        claim,
        generation: generation.map(|(number, lineage)| Generation { lineage: lineage.into(), number }),
        position: said.pointer(place).and_then(Value::as_u64),
    }))
}

/// The status of `HTTP/1.0 503 Service Unavailable`.
fn status(heard: &[u8]) -> Option<u16> {
    let rest = heard.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As version 4.1.5 answers, but for what other members do.
    fn answer(status: &str, body: &str) -> Vec<u8> {
        let head = "Server: BaseHTTP/0.6 Python/3.11.2\r\nContent-Type: application/json";
        format!("HTTP/1.0 {status}\r\n{head}\r\n\r\n{body}").into_bytes()
    }

    const PRIMARY: &str = r#"{"state": "running", "postmaster_start_time": "2026-11-27 15:14:19.844594+00:00", "role": "primary", "server_version": 150018, "xlog": {"location": 67108864}, "timeline": 2, "replication": [{"usename": "repl", "application_name": "n3", "state": "streaming"}], "dcs_last_seen": 1795792473, "database_system_identifier": "7712869869695711884", "patroni": {"version": "4.1.5", "scope": "lab", "name": "n1"}}"#;
    const REPLICA: &str = r#"{"state": "running", "role": "replica", "server_version": 150018, "xlog": {"received_location": 67111936, "replayed_location": 67111935, "replayed_timestamp": null, "paused": false}, "timeline": 1, "replication_state": "streaming", "database_system_identifier": "7712869869695711884"}"#;

    fn said(answer: &[u8]) -> (Claim, Option<u64>, Option<u64>) {
        match judge(answer) {
            Some(Outcome::Role(said)) => {
                (said.claim, said.generation.map(|generation| generation.number), said.position)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_status_tells_the_lock_and_the_body_the_rest() {
        let primary = answer("200 OK", PRIMARY);
        assert_eq!(said(&primary), (Claim::Primary, Some(2), Some(67_108_864)));
        let replica = answer("503 Service Unavailable", REPLICA);
        assert_eq!(said(&replica), (Claim::Replica, Some(1), Some(67_111_935)));
        let before_four = answer("200 OK", &PRIMARY.replace("\"primary\"", "\"master\""));
        assert_eq!(said(&before_four).0, Claim::Primary);
        for whole in [&primary, &replica] {
            for length in 0..whole.len() {
                assert_eq!(judge(&whole[..length]), None, "{length} bytes of it");
            }
        }
    }

    #[test]
    fn who_serves_nobody_says_why() {
        let cases = [
            (answer("503 x", PRIMARY), "role primary, state running, status 503"),
            (
                answer("503 x", &REPLICA.replace("running", "starting")),
                "role replica, state starting, status 503",
            ),
            (answer("503 x", "{}"), "role unknown, state unknown, status 503"),
            (
                answer(
                    "503 x",
                    &REPLICA.replace("\"timeline\"", "\"tags\": {\"noloadbalance\": true}, \"timeline\""),
                ),
                "role replica, state running, noloadbalance, status 503",
            ),
        ];
        for (answer, why) in cases {
            match judge(&answer) {
                Some(Outcome::Bad(cause)) => assert!(cause.to_string().contains(why), "{cause}"),
                other => panic!("{other:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_said_harms(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..600) {
            let _ = judge(&bytes);
            let mut answer = answer("200 OK", PRIMARY);
            answer.splice(cut.min(answer.len()).., bytes);
            let _ = judge(&answer);
        }
    }
}
