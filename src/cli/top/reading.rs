//! One answer of `/status`, as far as `top` shows it.
//!
//! Pure. Must stay true: whatever the answer holds or lacks, there is a reading of it.

use serde_json::Value;

use crate::cli::commands::shown::{list, number, text};

/// The balancer at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Reading {
    pub(super) version: String,
    pub(super) pid: u64,
    pub(super) phase: String,
    pub(super) withdrawn_by: Option<String>,
    /// The clock for rates.
    pub(super) uptime_ms: u64,
    pub(super) generation: u64,
    /// How long ago the last reload was refused, if it was.
    pub(super) refused_s: Option<u64>,
    /// Limits by name, and how much of each is in use: 0 to 1.
    pub(super) limits: Vec<(&'static str, f64)>,
    /// Sources of backends that are not as they should be: pool, source, state.
    pub(super) sources: Vec<[String; 3]>,
    pub(super) listeners: Vec<Listener>,
    pub(super) pools: Vec<Pool>,
}

/// A door.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) pool: String,
    /// The pools of its routes.
    pub(super) routes: Vec<String>,
    pub(super) is_ready: bool,
    pub(super) traffic: Traffic,
}

/// What is counted of sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Traffic {
    pub(super) active: u64,
    /// Sessions so far.
    pub(super) begun: u64,
    /// Bytes so far, both ways.
    pub(super) bytes: u64,
}

/// A pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) balance: String,
    /// Of the listeners that use it: `tcp`, `udp`, `tcp udp`.
    pub(super) protocols: String,
    pub(super) eligible: u64,
    pub(super) waiting: u64,
    /// Successful connects.
    pub(super) dials: Timed,
    /// Health checks.
    pub(super) checks: Timed,
    pub(super) backends: Vec<Backend>,
}

/// How many, and how long all of them together took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Timed {
    pub(super) count: u64,
    pub(super) sum_us: u64,
}

/// A backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Backend {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) state: String,
    /// What it is, where its check tells; empty elsewhere.
    pub(super) role: String,
    pub(super) cause: String,
    pub(super) since_s: Option<u64>,
    pub(super) weight: u64,
    pub(super) max_sessions: Option<u64>,
    pub(super) connect_failures: u64,
    pub(super) empty_ends: u64,
    pub(super) owed: u64,
    pub(super) latency_us: Option<f64>,
    pub(super) traffic: Traffic,
}

impl Reading {
    /// What an answer says.
    pub(super) fn of(status: &Value) -> Self {
        let config = &status["config"];
        let last = &config["last_reload"];
        let listeners: Vec<Listener> = list(status, "listeners").iter().map(listener).collect();
        Self {
            version: text(status, "version").to_owned(),
            pid: number(status, "pid"),
            phase: text(status, "phase").to_owned(),
            withdrawn_by: status["withdrawn"]["by"].as_str().map(str::to_owned),
            uptime_ms: number(status, "uptime_ms"),
            generation: number(config, "generation"),
            refused_s: (text(last, "result") == "refused").then(|| number(last, "seconds_ago")),
            limits: limits(&status["limits"]),
            sources: list(status, "pools").iter().flat_map(odd_sources).collect(),
            pools: list(status, "pools").iter().map(|value| pool(value, &listeners)).collect(),
            listeners,
        }
    }

    /// Of all listeners together.
    pub(super) fn traffic(&self) -> Traffic {
        self.listeners.iter().fold(Traffic::default(), |sum, listener| sum.and(listener.traffic))
    }
}

fn odd_sources(pool: &Value) -> impl Iterator<Item = [String; 3]> {
    let odd = list(pool, "sources").iter().filter(|source| text(source, "state") != "ok");
    odd.map(|source| [text(pool, "name"), text(source, "source"), text(source, "state")].map(str::to_owned))
}

impl Traffic {
    fn and(self, other: Self) -> Self {
        Self {
            active: self.active.saturating_add(other.active),
            begun: self.begun.saturating_add(other.begun),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

impl Backend {
    /// Its state, and its role where it serves: of one that does not the state says more.
    pub(super) fn state_and_role(&self) -> String {
        if self.role.is_empty() || self.state != "up" {
            self.state.clone()
        } else {
            format!("up {}", self.role)
        }
    }
}

impl Pool {
    /// Of all its backends together.
    pub(super) fn traffic(&self) -> Traffic {
        self.backends.iter().fold(Traffic::default(), |sum, backend| sum.and(backend.traffic))
    }
}

fn limits(value: &Value) -> Vec<(&'static str, f64)> {
    let ratio = |key: &str| {
        let most = value[key].get("most").and_then(Value::as_f64).filter(|most| *most > 0.0)?;
        Some(value[key].get("used").and_then(Value::as_f64)? / most)
    };
    let ports = value.get("source_ports").and_then(Value::as_f64);
    let all = [
        ("tcp_sessions", ratio("tcp_sessions")),
        ("udp_sessions", ratio("udp_sessions")),
        ("open_files", ratio("open_files")),
        ("source_ports", ports),
    ];
    all.into_iter().filter_map(|(name, ratio)| Some((name, ratio?))).collect()
}

fn listener(value: &Value) -> Listener {
    Listener {
        name: text(value, "name").to_owned(),
        protocol: text(value, "protocol").to_owned(),
        pool: text(value, "pool").to_owned(),
        routes: list(value, "routes").iter().map(|route| text(route, "pool").to_owned()).collect(),
        is_ready: value.get("ready").and_then(Value::as_bool).unwrap_or(false),
        traffic: traffic(value, "begun"),
    }
}

fn pool(value: &Value, listeners: &[Listener]) -> Pool {
    let name = text(value, "name");
    let used = |protocol: &str| {
        listeners.iter().any(|by| {
            (by.pool == name || by.routes.iter().any(|pool| pool == name)) && by.protocol == protocol
        })
    };
    let protocols: Vec<&str> = ["tcp", "udp"].into_iter().filter(|protocol| used(protocol)).collect();
    let timed = |count: &str, sum: &str| Timed { count: number(value, count), sum_us: number(value, sum) };
    let leaving = list(value, "leaving").iter().map(|backend| Backend {
        name: text(backend, "name").to_owned(),
        address: text(backend, "address").to_owned(),
        state: "leaving".to_owned(),
        cause: text(backend, "cause").to_owned(),
        traffic: Traffic { active: number(backend, "active"), ..Traffic::default() },
        ..Backend::default()
    });
    Pool {
        name: name.to_owned(),
        balance: text(value, "balance").to_owned(),
        protocols: protocols.join(" "),
        eligible: number(value, "eligible"),
        waiting: number(value, "waiting"),
        dials: timed("connects", "connects_us"),
        checks: timed("checks", "checks_us"),
        backends: list(value, "backends").iter().map(backend).chain(leaving).collect(),
    }
}

fn backend(value: &Value) -> Backend {
    Backend {
        name: text(value, "name").to_owned(),
        address: text(value, "address").to_owned(),
        state: text(value, "state").to_owned(),
        role: text(value, "role").to_owned(),
        cause: text(value, "cause").to_owned(),
        since_s: value.get("since_s").and_then(Value::as_u64),
        weight: number(value, "weight"),
        max_sessions: value.get("max_sessions").and_then(Value::as_u64),
        connect_failures: number(value, "connect_failures"),
        empty_ends: number(value, "empty_ends"),
        owed: number(value, "owed"),
        latency_us: value.get("latency_us").and_then(Value::as_f64),
        traffic: traffic(value, "sessions"),
    }
}

fn traffic(value: &Value, begun: &str) -> Traffic {
    Traffic {
        active: number(value, "active"),
        begun: number(value, begun),
        bytes: number(value, "to_backend").saturating_add(number(value, "to_client")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_is_read_and_what_is_missing_is_nothing() {
        let status = json!({
            "version": "1.2.3", "phase": "running", "uptime_ms": 5_000,
            "config": { "generation": 2, "last_reload": { "result": "refused", "seconds_ago": 7 } },
            "limits": { "tcp_sessions": { "used": 1, "most": 4 }, "udp_sessions": { "used": 1, "most": null }, "source_ports": 0.5 },
            "listeners": [
                { "name": "a", "protocol": "udp", "pool": "p", "ready": true, "active": 1, "begun": 2, "to_backend": 3, "to_client": 4 },
                { "name": "b", "protocol": "tcp", "pool": "q", "active": 10 },
            ],
            "pools": [{
                "name": "r", "backends": [
                    { "name": "a", "state": "up", "role": "primary" }, { "name": "b", "state": "up", "role": "replica" },
                    { "name": "c", "state": "stale primary", "role": null }, { "name": "d", "state": "down", "role": "replica" },
                ],
            }, {
                "name": "p", "balance": "first", "connects": 2, "connects_us": 30,
                "backends": [{ "name": "x", "state": "down", "cause": "refused", "since_s": 4, "sessions": 9, "to_client": 5, "latency_us": 250.0 }],
                "leaving": [{ "name": "y", "address": "1.2.3.4:5", "active": 3 }],
            }],
        });
        let reading = Reading::of(&status);
        assert_eq!((reading.refused_s, reading.generation), (Some(7), 2));
        assert_eq!(reading.limits, [("tcp_sessions", 0.25), ("source_ports", 0.5)]);
        assert_eq!(reading.traffic(), Traffic { active: 11, begun: 2, bytes: 7 });
        let shown: Vec<String> = reading.pools[0].backends.iter().map(Backend::state_and_role).collect();
        assert_eq!(shown, ["up primary", "up replica", "stale primary", "down"]);
        let pool = &reading.pools[1];
        assert_eq!((&*pool.protocols, pool.dials), ("udp", Timed { count: 2, sum_us: 30 }));
        assert_eq!(pool.traffic(), Traffic { active: 3, begun: 9, bytes: 5 });
        assert_eq!(
            pool.backends.iter().map(|backend| &*backend.state).collect::<Vec<_>>(),
            ["down", "leaving"]
        );
        for nothing in [json!(null), json!([]), json!("x"), json!({ "pools": 3, "listeners": [1] })] {
            assert_eq!(Reading::of(&nothing).pools, []);
        }
    }
}
