//! HAProxy: sections become listeners and pools, as far as they are of mode tcp.

mod access;
mod balance;
mod bind;
mod check;
mod global;
mod routes;
mod sections;
mod server;
mod words;

use std::collections::HashMap;

use super::notes::{Notes, Standing};
use super::plan::{Part, Plan};
use super::units;
use super::yaml::Yaml;
use sections::{PROXIES, Section, sections};
use words::Line;

/// Reads the text into the plan.
pub(super) fn translate(text: &str, plan: &mut Plan, notes: &mut Notes) {
    let all = sections(words::lines(text), notes);
    let mut roles = HashMap::new();
    for section in &all {
        match &*section.kind {
            "global" => global::read(section, plan, notes),
            "resolvers" => global::resolvers(section, plan, notes),
            "defaults" => {}
            kind if !PROXIES.contains(&kind) => {
                let at = notes.at(section.number);
                let whole = format!("{kind} {}", section.name);
                notes.unknown(&at, kind, whole.trim_end());
            }
            _ if section.is_http() && is_statistics(section) => statistics(section, plan, notes),
            kind if section.is_http() => {
                let at = notes.at(section.number);
                let text = format!("`{kind} {}` is of mode http: that is not balanced here", section.name);
                notes.tell(&at, Standing::Http, text);
            }
            kind => {
                let at = notes.at(section.number);
                if !plan.has_room(&of(section), &at, notes) {
                    continue;
                }
                if kind != "frontend" {
                    pool(section, plan, &mut roles, notes);
                }
                if kind != "backend" {
                    listener(section, &all, plan, notes);
                }
            }
        }
        notes.leave();
    }
    for listener in &mut plan.listeners {
        let role_of = |pool: &str| roles.get(pool).copied().unwrap_or("any");
        let of_listener = match listener.body.get(&["pool"]) {
            Some(Yaml::Word(pool)) => role_of(pool),
            _ => "any",
        };
        if of_listener != "any" {
            listener.word(&["role"], of_listener);
        }
        listener.each_route(|route| {
            let role = match route.get(&["pool"]) {
                Some(Yaml::Word(pool)) => role_of(pool),
                _ => "any",
            };
            if role != of_listener {
                route.set(&["role"], Yaml::word(role));
            }
        });
    }
}

fn is_statistics(section: &Section) -> bool {
    section.lines[section.inherited..].iter().any(|line| line.words[0] == "stats")
        && !section.lines[section.inherited..]
            .iter()
            .any(|line| matches!(&*line.words[0], "server" | "default_backend" | "use_backend"))
}

/// A page of numbers is one of ours.
fn statistics(section: &Section, plan: &mut Plan, notes: &mut Notes) {
    let mut door = Part::new(&section.name, String::new());
    let own = &section.lines[section.inherited..];
    own.iter().filter(|line| line.words[0] == "bind").for_each(|line| bind::read(line, &mut door, notes));
    let at = notes.at(section.number);
    let first = match door.body.get(&["bind"]) {
        Some(Yaml::List(items)) => items.first().cloned(),
        _ => None,
    };
    let Some(Yaml::Word(address)) = first else { return };
    // A port alone is one of loopback there.
    plan.set_top(&["admin", "http"], Yaml::word(address));
    notes.different(
        &at,
        "the page of statistics is `admin: { http: ADDRESS:PORT }`: it shows and changes nothing, knows no passwords, and a port alone is one of 127.0.0.1",
    );
}

/// What a proxy is called where it is told of.
fn of(section: &Section) -> String {
    format!("{} {}, line {}", section.kind, section.name, section.number)
}

fn pool(section: &Section, plan: &mut Plan, roles: &mut HashMap<String, &'static str>, notes: &mut Notes) {
    let mut pool = Part::new(&units::name(&section.name), of(section));
    notes.enter(&pool.of);
    pool.set(&["backends"], Yaml::List(Vec::new()));
    balance::read(section, &mut pool, notes);
    let mut of_servers = server::OfServers::default();
    let mut default_server: Vec<String> = Vec::new();
    for line in &section.lines {
        match &*line.words[0] {
            "default-server" if default_server.len() < DEFAULTS_MAX => {
                default_server.extend(line.words.iter().skip(1).take(DEFAULTS_MAX).cloned());
            }
            "server" | "server-template" => {
                server::read(line, &default_server, &mut pool, &mut of_servers, notes);
            }
            _ => {}
        }
    }
    if of_servers.with_header > 0 && of_servers.with_header < of_servers.checked + of_servers.unchecked {
        let at = notes.at(section.number);
        notes.lost(&at, "`send-proxy` of some servers: here all of a pool get the header, also those that do not expect one; make two pools");
    }
    if of_servers.backups > 1 && !section.has_option("allbackups") {
        one_backup_after_the_other(&mut pool);
    }
    let connect = section.timeout("connect");
    if let Some(ms) = connect {
        pool.word(&["connect", "timeout"], units::duration(ms, units::CONNECT));
    }
    if let Some(retries) = number(section, "retries") {
        pool.word(&["connect", "attempts"], retries.saturating_add(1).clamp(1, 16).to_string());
    }
    if of_servers.has_maxconn {
        // Who finds all of them full waits there, as long as `timeout queue` says.
        let ms = section.timeout("queue").or(connect).unwrap_or(5_000);
        pool.word(&["queue", "timeout"], units::duration(ms, units::QUEUE));
    }
    if let Some(role) = check::read(section, &of_servers, &mut pool, notes) {
        roles.insert(pool.name.clone(), role);
    }
    rest(section, section.kind == "listen", notes);
    notes.leave();
    plan.pools.push(pool);
}

/// Only the first that is well serves: a tier each.
fn one_backup_after_the_other(pool: &mut Part) {
    let Some(Yaml::List(items)) = pool.body.get(&["backends"]).cloned() else { return };
    let mut tier = 0;
    let mut items = items;
    for item in &mut items {
        if item.get(&["tier"]).is_some() {
            tier = (tier + 1).min(255);
            item.set(&["tier"], Yaml::word(tier.to_string()));
        }
    }
    pool.set(&["backends"], Yaml::List(items));
}

fn number(section: &Section, word: &str) -> Option<u32> {
    section.last(&[word])?.words.get(1)?.parse().ok()
}

fn listener(section: &Section, all: &[Section], plan: &mut Plan, notes: &mut Notes) {
    let mut listener = Part::new(&units::name(&section.name), of(section));
    notes.enter(&listener.of);
    let own_address = section.lines.iter().filter(|line| line.words[0] == "bind");
    own_address.for_each(|line| bind::read(line, &mut listener, notes));
    let default = section.last(&["default_backend"]).and_then(|line| line.words.get(1));
    let pool = match (&*section.kind, default) {
        ("listen", _) => Some(section.name.clone()),
        (_, default) => default.cloned(),
    };
    if let ("listen", Some(default)) = (&*section.kind, default) {
        let at = notes.at(section.number);
        notes.lost(&at, format!("`default_backend {default}` of a `listen`: its own servers are its pool"));
    }
    if let Some(pool) = &pool {
        listener.word(&["pool"], units::name(pool));
    }
    if let Some(count) = number(section, "maxconn").filter(|count| (1..=10_000_000).contains(count)) {
        listener.word(&["limits", "sessions"], count.to_string());
    }
    if let Some(rate) = section.last(&["rate-limit", "sessions"]).and_then(|line| line.words.get(2))
        && rate.parse::<u32>().is_ok_and(|rate| (1..=1_000_000).contains(&rate))
    {
        listener.word(&["limits", "rate"], format!("{rate}/s"));
    }
    // Times of the server's side stand at its backend.
    let backend = all.iter().find(|one| one.kind == "backend" && Some(&one.name) == pool.as_ref());
    let of_server = |which: &str| backend.unwrap_or(section).timeout(which);
    // 0 is none.
    let shorter =
        |one: Option<u64>, other: Option<u64>| [one, other].into_iter().flatten().filter(|ms| *ms > 0).min();
    let tunnel = section.timeout("tunnel").or_else(|| of_server("tunnel")).filter(|ms| *ms > 0);
    let idle = tunnel.or_else(|| shorter(section.timeout("client"), of_server("server")));
    if let Some(ms) = idle.filter(|ms| *ms > 0) {
        listener.word(&["timeouts", "idle"], units::duration(ms, units::IDLE));
    }
    let half = shorter(section.timeout("client-fin"), of_server("server-fin"));
    if let Some(ms) = half.filter(|ms| *ms > 0) {
        listener.word(&["timeouts", "half_closed"], units::duration(ms, units::IDLE));
    }
    if section.has_option("tcplog") && !section.has_option("dontlog-normal") {
        listener.word(&["log_sessions"], "all");
    }
    access::read(section, &mut listener, notes);
    routes::read(section, &mut listener, notes);
    rest(section, true, notes);
    notes.leave();
    plan.listeners.push(listener);
}

/// What nobody has read yet: told, or known to need no counterpart.
fn rest(section: &Section, is_listener: bool, notes: &mut Notes) {
    for line in &section.lines {
        let words: Vec<&str> = line.words.iter().map(String::as_str).collect();
        let at = notes.at(line.number);
        let whole = shown(line);
        match &*words {
            [
                "server"
                | "server-template"
                | "default-server"
                | "bind"
                | "default_backend"
                | "mode"
                | "balance"
                | "hash-type"
                | "hash-balance-factor"
                | "retries"
                | "maxconn"
                | "acl"
                | "tcp-check"
                | "block"
                | "use_backend",
                ..,
            ] => {}
            ["stick-table" | "stick" | "hash-preserve-affinity", ..] => {}
            ["rate-limit", "sessions", ..] => {}
            ["tcp-request", "connection" | "content" | "session", "accept" | "reject", ..] if is_listener => {
            }
            ["tcp-request", "inspect-delay", ..] => {}
            ["timeout", which, ..] if TIMEOUTS.contains(which) => {}
            ["timeout", which @ ("http-request" | "http-keep-alive"), ..] => {
                notes.tell(&at, Standing::Http, format!("`timeout {which}` is of HTTP"));
            }
            ["option", "httpchk", ..] | ["http-check", ..] => {}
            ["option", name, ..] | ["no", "option", name, ..] if OPTIONS.contains(name) => {}
            ["option", name, ..]
                if HTTP_OPTIONS.contains(name) || name.starts_with("http") || name.starts_with("h1-") =>
            {
                notes.tell(&at, Standing::Http, format!("`option {name}` is of HTTP"));
            }
            ["no", ..] | ["enabled", ..] | ["description", ..] | ["id", ..] | ["guid", ..] => {}
            [
                "log" | "log-format" | "log-tag" | "log-steps" | "error-log-format" | "unique-id-format",
                ..,
            ] => {
                let text = "a log is written here without being asked for: one line for each session that did not end in an ordinary way, to the journal";
                notes.tell(&at, Standing::NotNeeded, format!("`{}`: {text}", words[0]));
            }
            ["source", address, rest @ ..] => source(&at, address, rest, notes),
            [word, ..] if word.starts_with("http-") || HTTP.contains(word) => {
                notes.tell(&at, Standing::Http, format!("`{whole}` is of HTTP"));
            }
            ["option", name, ..] => notes.unknown(&at, name, &whole),
            ["timeout", ..] => notes.unknown(&at, "timeout", &whole),
            [word, ..] => notes.unknown(&at, word, &whole),
            [] => {}
        }
    }
}

fn source(at: &super::notes::At, address: &str, rest: &[&str], notes: &mut Notes) {
    let whole = format!("source {address} {}", rest.join(" "));
    notes.lost(
        at,
        format!("`{}`: `connect_from: ADDRESS` of the pool, or `connect_from: client`", whole.trim_end()),
    );
}

/// Without what may be a password.
fn shown(line: &Line) -> String {
    let most = if line.words[0] == "stats" { 2 } else { line.words.len() };
    line.words[..most.min(line.words.len())].join(" ")
}

/// Words of all `default-server` lines of a section.
const DEFAULTS_MAX: usize = 1_000;
/// Those that are looked at.
const TIMEOUTS: [&str; 9] =
    ["client", "server", "connect", "queue", "check", "tunnel", "client-fin", "server-fin", "tarpit"];
/// Options that are read, or that ask for what is so here anyway.
const OPTIONS: [&str; 33] = [
    "tcplog",
    "dontlognull",
    "dontlog-normal",
    "log-health-checks",
    "log-separate-errors",
    "logasap",
    "tcp-check",
    "redis-check",
    "pgsql-check",
    "mysql-check",
    "ldap-check",
    "smtpchk",
    "ssl-hello-chk",
    "external-check",
    "spop-check",
    "allbackups",
    "redispatch",
    "tcpka",
    "clitcpka",
    "srvtcpka",
    "splice-auto",
    "splice-request",
    "splice-response",
    "tcp-smart-accept",
    "tcp-smart-connect",
    "nolinger",
    "socket-stats",
    "contstats",
    "abortonclose",
    "independent-streams",
    "transparent",
    "log-host-info",
    "persist",
];
const HTTP_OPTIONS: [&str; 12] = [
    "forwardfor",
    "forwarded",
    "originalto",
    "accept-invalid-http-request",
    "accept-invalid-http-response",
    "accept-unsafe-violations-in-http-request",
    "accept-unsafe-violations-in-http-response",
    "prefer-last-server",
    "disable-h2-upgrade",
    "checkcache",
    "idle-close-on-response",
    "dontlog-http",
];
/// What only means something in mode http.
const HTTP: [&str; 16] = [
    "cookie",
    "redirect",
    "errorfile",
    "errorfiles",
    "errorloc",
    "errorloc302",
    "errorloc303",
    "capture",
    "compression",
    "monitor-uri",
    "use-fcgi-app",
    "reqadd",
    "rspadd",
    "reqrep",
    "dispatch",
    "stats",
];
