//! `upstream` of nginx: a pool.

use super::super::notes::Notes;
use super::super::plan::{ITEMS_MAX, Part, Plan};
use super::super::units::{self, host_and_port, joined, milliseconds};
use super::super::yaml::Yaml;
use super::words::Directive;

/// Reads one into the plan.
pub(super) fn read(directive: &Directive, plan: &mut Plan, notes: &mut Notes) {
    let name = directive.word(1).unwrap_or_default();
    let mut pool = Part::new(&units::name(name), format!("upstream {name}, line {}", directive.line));
    notes.enter(&pool.of);
    pool.set(&["backends"], Yaml::List(Vec::new()));
    for one in directive.block.iter().flatten() {
        line(one, &mut pool, notes);
    }
    not_checked(&mut pool);
    notes.leave();
    plan.pools.push(pool);
}

/// nginx without its paid part asks nobody: real traffic tells, as `passive` does here.
fn not_checked(pool: &mut Part) {
    pool.word(&["health", "check"], "off");
    if pool.body.get(&["passive"]) == Some(&Yaml::word("off")) {
        return;
    }
    if !pool.has(&["passive", "failures"]) {
        pool.word(&["passive", "failures"], "1");
    }
    if !pool.has(&["passive", "eject"]) {
        pool.word(&["passive", "eject"], "10s");
    }
}

fn line(one: &Directive, pool: &mut Part, notes: &mut Notes) {
    let at = one.at();
    let whole = one.words.join(" ");
    match one.name() {
        "server" => server(one, pool, notes),
        "least_conn" => pool.word(&["balance"], "least_connections"),
        "random" => match one.words.get(1..).unwrap_or_default() {
            [] => pool.word(&["balance"], "random"),
            [two, ..] if two == "two" => pool.word(&["balance"], "two_choices"),
            _ => notes.unknown(&at, "random", &whole),
        },
        "least_time" => {
            pool.word(&["balance"], "least_latency");
            notes
                .different(&at, format!("`{whole}` is `least_latency`: connects and first answers together"));
        }
        "hash" => match one.word(1) {
            Some("$remote_addr" | "$binary_remote_addr") => {
                pool.word(&["balance"], "source_hash");
                notes.different(&at, format!("`{whole}` is `source_hash`: a client stays with its backend, which is another one than nginx gives; when a backend goes, only its own clients move"));
            }
            Some(
                "$remote_addr$remote_port" | "$remote_addr:$remote_port" | "${remote_addr}${remote_port}",
            ) => {
                pool.word(&["balance", "source_hash", "key"], "source_ip_port");
                notes.different(&at, format!("`{whole}` is `source_hash` by address and port"));
            }
            _ => notes
                .lost(&at, format!("`{whole}`: only a client's address is hashed here; backends take turns")),
        },
        "zone" | "state" | "resolver" | "resolver_timeout" | "keepalive" => {
            let text = format!("`{whole}`: all threads know the same here without being asked to");
            notes.tell(&at, super::super::notes::Standing::NotNeeded, text);
        }
        name => notes.unknown(&at, name, &whole),
    }
}

// long because: each arm is a word of the other balancer
fn server(one: &Directive, pool: &mut Part, notes: &mut Notes) {
    let at = one.at();
    let Some(text) = one.word(1) else { return };
    let Some(address) = address(text) else {
        notes.lost(
            &at,
            format!(
                "`server {text}`: a backend is an address or a host name here, with a port: no Unix sockets"
            ),
        );
        return;
    };
    let mut entries = vec![("address".to_owned(), Yaml::word(&*address))];
    let mut put = |key: &str, value: &str| {
        let is_down = key == "weight" && entries.contains(&("weight".to_owned(), Yaml::word("0")));
        if !is_down {
            entries.retain(|(known, _)| known != key);
            entries.push((key.to_owned(), Yaml::word(value)));
        }
    };
    for word in one.words.iter().skip(2) {
        match word.split_once('=').unwrap_or((word, "")) {
            ("weight", weight) => {
                let weight: u32 = weight.parse().unwrap_or(1);
                if weight > 256 {
                    notes.different(&at, format!("`{word}`: the most is 256 here"));
                }
                put("weight", &weight.clamp(1, 256).to_string());
            }
            ("max_conns", most) if most.parse::<u32>().is_ok_and(|most| most > 0) => {
                put("max_sessions", most);
            }
            ("backup", _) => put("tier", "1"),
            ("down", _) => {
                put("weight", "0");
                notes.different(&at, "`down` is weight 0: `evenkeel weight POOL/BACKEND N` brings it in");
            }
            ("max_fails", "0") if pool.has(&["passive", "failures"]) => {
                notes.different(
                    &at,
                    "`max_fails=0` is one for the whole pool here (`passive`): the first word is taken",
                );
            }
            ("max_fails", "0") => pool.word(&["passive"], "off"),
            ("max_fails", _) if pool.body.get(&["passive"]) == Some(&Yaml::word("off")) => {
                notes.different(
                    &at,
                    format!("`{word}` is one for the whole pool here (`passive`): the first word is taken"),
                );
            }
            ("max_fails", count) if count.parse::<u32>().is_ok() => {
                of_pool(pool, "failures", count, word, &at, notes);
            }
            ("fail_timeout", time) => {
                if let Some(ms) = milliseconds(time, 1_000) {
                    let time = units::duration(ms, units::EJECT);
                    of_pool(pool, "eject", &time, word, &at, notes);
                }
            }
            ("slow_start", time) => {
                if let Some(ms) = milliseconds(time, 1_000) {
                    pool.word(&["slow_start"], units::duration(ms, units::SLOW_START));
                }
            }
            // A name is asked for again by itself.
            ("resolve", _) => {}
            _ => notes.unknown(&at, word, &format!("server … {word}")),
        }
    }
    let item = match &entries[..] {
        [(_, address)] => address.clone(),
        _ => Yaml::Map(entries),
    };
    if matches!(pool.body.get(&["backends"]), Some(Yaml::List(items)) if items.len() >= ITEMS_MAX) {
        notes.lost(&at, format!("more than {ITEMS_MAX} of `backends`"));
        return;
    }
    let own = Yaml::word(&*address);
    let is_there = |known: &Yaml| *known.get(&["address"]).unwrap_or(known) == own;
    if matches!(pool.body.get(&["backends"]), Some(Yaml::List(items)) if items.iter().any(is_there)) {
        notes.different(&at, format!("`server {text}` is there already: its first line is taken"));
        return;
    }
    pool.push("backends", item, &at, notes);
}

/// One for the whole pool.
fn of_pool(
    pool: &mut Part,
    key: &str,
    value: &str,
    word: &str,
    at: &super::super::notes::At,
    notes: &mut Notes,
) {
    let new = Yaml::word(value);
    match pool.body.get(&["passive", key]) {
        _ if pool.body.get(&["passive"]) == Some(&Yaml::word("off")) => {}
        None => pool.set(&["passive", key], new),
        Some(known) if *known == new => {}
        Some(_) => {
            notes.different(
                at,
                format!("`{word}` is one for the whole pool here (`passive`): the first one is taken"),
            );
        }
    }
}

/// As ours are written; `None`: a Unix socket, or something with a variable.
pub(super) fn address(text: &str) -> Option<String> {
    if text.starts_with("unix:") || text.contains('$') {
        return None;
    }
    let (host, port) = host_and_port(text);
    units::is_backend(&host, port.as_deref()).then(|| joined(&host, port.as_deref()))
}
