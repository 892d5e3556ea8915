//! Words of other balancers (HAProxy, nginx stream, Traefik, Envoy): what somebody meant who brought them along.
//!
//! Pure: tables and a look-up. A word stands here where it has a counterpart, or where it is worth saying that it needs none;
//! what is close to a word of our own by spelling alone is left to `nearest`. Each row is told in `tests/config/foreign.txt`.

mod haproxy;
mod others;
mod row;

use super::mistake::quoted;
use row::Row;

/// A value of another balancer for a key of our own.
struct ValueRow {
    key: &'static str,
    words: &'static [&'static str],
    /// What it must be; a sentence of its own.
    here: &'static str,
}

/// What a key of another balancer is here.
pub(super) fn key(word: &str) -> Option<String> {
    let bare = bare(word);
    let found = TABLES.iter().find_map(|(whose, rows)| {
        let row = rows.iter().find(|row| row.words.iter().any(|one| same(one, &bare)))?;
        Some((*whose, row.here))
    });
    found.map(|(whose, here)| format!("{} of {whose} {here}", quoted(word)))
}

/// What a key of this balancer (`HAProxy`, `nginx`, `Traefik`) is here.
pub(super) fn key_of(whose: &str, word: &str) -> Option<String> {
    let bare = bare(word);
    let (_, rows) = TABLES.iter().find(|(known, _)| *known == whose)?;
    let row = rows.iter().find(|row| row.words.iter().any(|one| same(one, &bare)))?;
    Some(format!("{} {}", quoted(word), row.here))
}

/// What a value of another balancer for this key is here.
pub(super) fn value(key: &str, text: &str) -> Option<&'static str> {
    let bare = bare(text);
    let row = VALUES.iter().find(|row| row.key == key && row.words.iter().any(|one| same(one, &bare)))?;
    Some(row.here)
}

/// Whose configuration this is, where it is none of ours, and what to do.
pub(super) fn file(text: &str) -> Option<String> {
    let lines = || text.lines().map(|line| line.split(['#', ';']).next().unwrap_or_default());
    let begins = |words: &[&str]| {
        lines().any(|line| {
            let mut own = line.split_whitespace();
            let (first, second) = (own.next().unwrap_or_default(), own.next());
            words.contains(&first)
                && line.starts_with(first)
                && (second.is_some() || first == "global" || first == "defaults")
        })
    };
    let sections = ["frontend", "listen", "backend"];
    let is_plain = lines().all(|line| !line.trim_end().ends_with(':'));
    if is_plain && begins(&sections) {
        return Some(told("HAProxy", "a `frontend` is a listener and a `backend` a pool"));
    }
    let opens = |words: &[&str]| {
        lines().any(|line| {
            let mut own = line.split_whitespace();
            own.next().is_some_and(|first| words.contains(&first)) && line.trim_end().ends_with('{')
        })
    };
    if opens(&["stream", "upstream", "server"]) && text.contains('}') {
        return Some(told("nginx", "a `server` is a listener and an `upstream` a pool"));
    }
    None
}

fn told(whose: &str, what: &str) -> String {
    format!(
        "this is a configuration of {whose}; evenkeel's is YAML, where {what}. The smallest one: \
         `listeners: {{ redis: {{ bind: 6379, backends: [10.0.0.1:6379, 10.0.0.2:6379] }} }}`; \
         `evenkeel keys WORD` says what a word of {whose} is called"
    )
}

/// The backend that a `server` line of HAProxy or nginx names, as an item of our own list.
pub(super) fn server_line(text: &str) -> Option<String> {
    let mut words = text.trim_end_matches(';').split_whitespace();
    if words.next() != Some("server") {
        return None;
    }
    let (first, second) = (words.next()?, words.next());
    let is_address = |word: &&str| word.contains([':', '.']) && !word.contains('=');
    Some(match second.filter(is_address) {
        Some(address) => format!("`- {{ name: {first}, address: {address} }}`"),
        None => format!("`- {first}`"),
    })
}

fn bare(word: &str) -> String {
    word.to_lowercase().replace(['_', '-', ' '], "")
}

/// Without a copy of each: a file may have very many words that are not known.
fn same(word: &str, bare_word: &str) -> bool {
    let letters = word.bytes().filter(|byte| !matches!(byte, b'_' | b'-' | b' '));
    letters.map(|byte| byte.to_ascii_lowercase()).eq(bare_word.bytes())
}

const TABLES: [(&str, &[Row]); 4] = [
    ("HAProxy", haproxy::KEYS),
    ("nginx", others::NGINX),
    ("Traefik", others::TRAEFIK),
    ("Envoy", others::ENVOY),
];

/// How other balancers call what a key of ours may be.
const VALUES: &[ValueRow] = &[
    ValueRow {
        key: "balance",
        words: &["roundrobin", "rr", "static-rr", "wrr", "weighted"],
        here: "write `round_robin`, which heeds weights",
    },
    ValueRow {
        key: "balance",
        words: &["leastconn", "least_conn", "leastconnection", "least_request", "lc", "wlc"],
        here: "write `least_connections`",
    },
    ValueRow {
        key: "balance",
        words: &[
            "source",
            "ip_hash",
            "iphash",
            "sourceip",
            "source_ip",
            "src",
            "sh",
            "hash",
            "consistent",
            "ring_hash",
            "maglev",
            "p2c_hash",
        ],
        here: "write `source_hash`: a client keeps its backend, and few move when the list changes (Maglev)",
    },
    ValueRow {
        key: "balance",
        words: &["random(2)", "random two", "p2c", "power_of_two", "power_of_two_choices"],
        here: "write `two_choices`: the less busy of two by chance",
    },
    ValueRow {
        key: "balance",
        words: &["least_time", "leasttime", "fastest", "ewma", "peak_ewma"],
        here: "write `least_latency`",
    },
    ValueRow {
        key: "balance",
        words: &["failover", "backup", "active_backup", "active-passive"],
        here: "write `first`; or give the spare ones `tier: 1`",
    },
    ValueRow {
        key: "balance",
        words: &["uri", "url_param", "hdr", "rdp-cookie", "cookie"],
        here: "that needs to read HTTP; by the client it is `source_hash`",
    },
    ValueRow {
        key: "protocol",
        words: &["http", "https", "h2", "grpc", "ws"],
        here: "write `tcp`: bytes pass as they are, whatever they say",
    },
    ValueRow { key: "protocol", words: &["dns", "quic", "wireguard", "syslog"], here: "write `udp`" },
    ValueRow {
        key: "check",
        words: &["on", "yes", "true", "connect", "l4", "tcp-check"],
        here: "write `tcp`: a handshake that the server's program never sees",
    },
    ValueRow {
        key: "check",
        words: &["http", "https", "httpchk", "h2", "grpc"],
        here: "there is no check that speaks HTTP; `{ tcp: { send: 'GET / HTTP/1.0\\r\\n\\r\\n', expect: ' 200 ' } }` asks and listens",
    },
    ValueRow {
        key: "check",
        words: &["pgsql-check", "pgsql", "postgresql"],
        here: "write `{ postgres: { user: NAME } }`, which tells the primary from its replicas",
    },
    ValueRow {
        key: "check",
        words: &["redis-check", "redis", "valkey"],
        here: "write `{ redis: {} }`, which tells the primary from its replicas",
    },
    ValueRow {
        key: "check",
        words: &["mysql-check", "mysql", "mariadb"],
        here: "write `{ mysql: { user: NAME } }`, which tells the primary from its replicas",
    },
    ValueRow { key: "check", words: &["none", "no", "disabled"], here: "write `off`" },
    ValueRow {
        key: "send_proxy",
        words: &["on", "true", "yes", "proxy_protocol"],
        here: "say which version: `v2`, or `v1` where the backend wants text",
    },
    ValueRow {
        key: "on_down",
        words: &["shutdown-sessions", "shutdown_sessions", "kill", "reset"],
        here: "write `close`",
    },
    ValueRow {
        key: "when_none",
        words: &["503", "fail", "refuse", "drop", "close"],
        here: "write `reject`: the client is reset",
    },
    ValueRow { key: "when_none", words: &["panic", "all", "any"], here: "write `try_all`" },
    ValueRow { key: "when_none", words: &["queue", "hold", "pause"], here: "write `wait`, with a `queue`" },
    ValueRow { key: "level", words: &["notice", "informational"], here: "write `info`" },
    ValueRow { key: "level", words: &["warning"], here: "write `warn`" },
    ValueRow {
        key: "level",
        words: &["crit", "critical", "alert", "emerg", "err", "fatal"],
        here: "write `error`",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::sections;

    #[test]
    fn there_are_many_words_and_none_is_told_twice_by_one_balancer() {
        let mut count = 0;
        for (whose, rows) in TABLES {
            let mut seen = std::collections::BTreeSet::new();
            for word in rows.iter().flat_map(|row| row.words) {
                assert!(seen.insert(bare(word)), "{word} of {whose} stands there twice");
                count += 1;
            }
        }
        assert!(count >= 120, "{count}");
        for row in VALUES {
            assert!(sections().iter().any(|one| one.all_keys().any(|key| key == row.key)), "{}", row.key);
        }
    }

    #[test]
    fn what_is_named_here_is_there() {
        let known: Vec<&str> = sections()
            .into_iter()
            .flat_map(|one| one.keys)
            .flat_map(|key| std::iter::once(key.name).chain(key.kind.words().iter().copied()))
            .collect();
        let answers = TABLES.iter().flat_map(|(_, rows)| *rows).map(|row| row.here);
        for answer in answers.chain(VALUES.iter().map(|row| row.here)) {
            // Every other part stands between backticks; the first word of each is one of ours.
            for code in answer.split('`').skip(1).step_by(2) {
                for word in
                    code.split(|c: char| !(c.is_ascii_lowercase() || c == '_')).filter(|word| word.len() > 3)
                {
                    let is_value = ["evenkeel", "systemctl", "keys", "import", "name", "eject"]
                        .contains(&word)
                        || code.contains('=')
                        || code.contains('\'')
                        || code.starts_with("evenkeel");
                    assert!(is_value || known.contains(&word), "`{word}` in `{code}` of {answer:?}");
                }
            }
        }
    }

    #[test]
    fn a_server_line_is_shown_as_an_item() {
        for (line, item) in [
            ("server pg1 10.0.0.1:5432 check maxconn 100", Some("`- { name: pg1, address: 10.0.0.1:5432 }`")),
            ("server 10.0.0.1:5432 weight=5;", Some("`- 10.0.0.1:5432`")),
            ("server 10.0.0.1:5432;", Some("`- 10.0.0.1:5432`")),
            ("server", None),
            ("servers are fine", None),
        ] {
            assert_eq!(server_line(line).as_deref(), item, "{line}");
        }
    }

    #[test]
    fn files_of_others_are_known_and_ours_are_not_taken_for_one() {
        let haproxy =
            "global\n    log /dev/log local0\n\ndefaults\n    mode tcp\n\nfrontend pg\n    bind :5432\n";
        assert!(file(haproxy).unwrap().contains("HAProxy"));
        let nginx = "stream {\n    upstream pg {\n        server 10.0.0.1:5432;\n    }\n}\n";
        assert!(file(nginx).unwrap().contains("nginx"));
        for ours in [
            "listeners:\n  listen: { bind: 80 }\n",
            "# frontend of the shop\nlisteners: {\n  backend: { bind: 80 } }",
            "listeners: { server: {\n bind: 80 } }",
            "",
            "backend\n",
        ] {
            assert_eq!(file(ours), None, "{ours}");
        }
    }
}
