//! `server` of nginx: a listener, and a pool of its own where `proxy_pass` names an address.

use super::super::first_match::{Rules, everybody};
use super::super::notes::{Notes, Standing};
use super::super::plan::{Part, Plan};
use super::super::units::{self, milliseconds, network};
use super::super::yaml::Yaml;
use super::words::Directive;
use super::{routes, upstream};

/// Directives that a server has, or inherits of `stream`.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Reads one into the plan; `outer`: what stands in `stream`.
pub(super) fn read(
    server: &Directive,
    outer: &[&Directive],
    number: usize,
    plan: &mut Plan,
    notes: &mut Notes,
) {
    let own: Vec<&Directive> = server.block.iter().flatten().collect();
    let inherited = outer
        .iter()
        .copied()
        .filter(|one| is_known(one.name()) && !own.iter().any(|mine| of_one_kind(mine.name(), one.name())));
    let all: Vec<&Directive> = inherited.chain(own.iter().copied()).collect();
    let pass = all.iter().rev().find(|one| one.name() == "proxy_pass");
    let target = pass.and_then(|pass| pass.word(1)).unwrap_or_default();
    let name = units::name(if target.is_empty() || target.contains('$') { "server" } else { target });
    let mut listener = Part::new(&name, format!("server {number}, line {}", server.line));
    notes.enter(&listener.of);
    let is_udp = binds(&all, &mut listener, notes);
    if is_udp {
        listener.word(&["protocol"], "udp");
    }
    access(&all, &mut listener, notes);
    for one in &all {
        line(one, is_udp, &mut listener, notes);
    }
    match pass {
        None if all.iter().any(|one| one.name() == "return" || one.name() == "pass") => {
            notes.lost(
                &server.at(),
                "a `server` that answers by itself: clients are handed to backends here, and nothing else",
            );
        }
        None => notes.lost(&server.at(), "a `server` without `proxy_pass`"),
        Some(_) if target.contains('$') && routes::read(target, outer, &mut listener, plan, notes) => {
            let names = listener.pools();
            for pool in plan.pools.iter_mut().filter(|pool| names.contains(&pool.name)) {
                settle(&all, pool, server, notes);
            }
        }
        Some(pass) if target.contains('$') => {
            notes.lost(
                &pass.at(),
                format!("`proxy_pass {target}`: there are no variables here, and a listener has one pool"),
            );
        }
        Some(pass) => {
            let known = plan.pools.iter().position(|pool| pool.name == name);
            let place = known.unwrap_or_else(|| {
                let mut pool = Part::new(&name, format!("proxy_pass {target}, line {}", pass.line));
                let address = upstream::address(target);
                let backends = address.map_or_else(Vec::new, |address| vec![Yaml::Word(address)]);
                if backends.is_empty() {
                    notes.lost(
                        &pass.at(),
                        format!("`proxy_pass {target}`: a backend is an address with a port here"),
                    );
                }
                pool.set(&["backends"], Yaml::List(backends));
                pool.word(&["health", "check"], "off");
                plan.pools.push(pool);
                plan.pools.len() - 1
            });
            listener.word(&["pool"], name.as_str());
            settle(&all, &mut plan.pools[place], server, notes);
        }
    }
    notes.leave();
    plan.listeners.push(listener);
}

/// `allow` and `deny` are inherited together.
fn of_one_kind(one: &str, other: &str) -> bool {
    let access = ["allow", "deny"];
    one == other || (access.contains(&one) && access.contains(&other))
}

/// True: its datagrams are balanced, not its connections.
fn binds(all: &[&Directive], listener: &mut Part, notes: &mut Notes) -> bool {
    let listens: Vec<_> = all.iter().filter(|one| one.name() == "listen").collect();
    let is_udp = listens.first().is_some_and(|one| one.words.iter().any(|word| word == "udp"));
    let mut list = Vec::new();
    for one in listens.into_iter().take(BINDS_MAX) {
        let at = one.at();
        let text = one.word(1).unwrap_or_default();
        if one.words.iter().any(|word| word == "udp") != is_udp {
            notes.lost(&at, format!("`listen {text}`: a listener is of tcp or of udp here; write another one with the same pool"));
            continue;
        }
        let (host, port) = match text.parse::<u16>() {
            Ok(port) => (String::new(), Some(port.to_string())),
            Err(_) => units::host_and_port(text),
        };
        let bind = match (&*host, port) {
            ("::", Some(port)) if one.words.iter().any(|word| word == "ipv6only=off") => Some(port),
            ("" | "*", Some(port)) => Some(format!("0.0.0.0:{port}")),
            (host, Some(port)) if host.parse::<std::net::IpAddr>().is_ok() => {
                Some(units::joined(host, Some(&port)))
            }
            _ => None,
        };
        match bind {
            Some(bind) => {
                let bind = Yaml::Word(bind);
                if !list.contains(&bind) {
                    list.push(bind);
                }
            }
            None => notes.lost(&at, format!("`listen {text}`: only addresses with ports are bound here")),
        }
        for word in one.words.iter().skip(2) {
            option_of_listen(word, listener, &at, notes);
        }
    }
    if !list.is_empty() {
        listener.set(&["bind"], Yaml::List(list));
    }
    is_udp
}

fn option_of_listen(word: &str, listener: &mut Part, at: &super::super::notes::At, notes: &mut Notes) {
    match word.split_once('=').unwrap_or((word, "")) {
        ("udp" | "reuseport" | "bind" | "ipv6only" | "fastopen" | "multipath" | "default_server", _) => {}
        ("ssl", _) => notes.lost(at, "TLS ends here no more: the bytes are passed on as they come, so the backends must speak TLS themselves"),
        ("proxy_protocol", _) => {
            let any = ["0.0.0.0/0", "::/0"].map(Yaml::word);
            if !listener.has(&["accept_proxy"]) {
                listener.set(&["accept_proxy"], Yaml::List(any.into()));
                notes.different(at, "`proxy_protocol` of `listen` believes everybody: name your proxies in `accept_proxy`");
            }
        }
        ("backlog", count) if count.parse::<u32>().is_ok_and(|count| count > 0) => {
            let count = count.parse::<u32>().unwrap_or(511).min(65_535);
            listener.word(&["backlog"], count.to_string());
        }
        ("so_keepalive", _) => notes.tell(at, Standing::NotNeeded, "`so_keepalive`: connections are probed here anyway (`keepalive`)"),
        ("rcvbuf" | "sndbuf" | "setfib" | "accept_filter" | "deferred", _) => {
            notes.tell(at, Standing::NotNeeded, format!("`{word}`: nothing here is tuned by it"));
        }
        _ => notes.unknown(at, word, &format!("listen … {word}")),
    }
}

/// What a listener says.
// long because: each arm is a word of the other balancer
fn line(one: &Directive, is_udp: bool, listener: &mut Part, notes: &mut Notes) {
    let at = one.at();
    let whole = one.words.join(" ");
    match (one.name(), one.word(1).unwrap_or_default()) {
        ("proxy_timeout", time) => {
            if let Some(ms) = milliseconds(time, 1_000) {
                listener.word(&["timeouts", "idle"], units::duration(ms, units::IDLE));
            }
        }
        ("proxy_responses" | "proxy_requests", count) if is_udp => match count.parse::<u32>() {
            Ok(0) => notes.lost(
                &at,
                format!("`{whole}`: no answer is waited for there; here a flow ends when it is idle"),
            ),
            Ok(_) => listener.word(&["udp", &one.name()["proxy_".len()..]], count),
            Err(_) => {}
        },
        ("allow" | "deny", _) => {}
        ("set_real_ip_from", _) if !listener.has(&["accept_proxy"]) => {
            notes.tell(
                &at,
                Standing::NotNeeded,
                format!("`{whole}`: no `listen` of this server has `proxy_protocol`"),
            );
        }
        ("set_real_ip_from", who) => match network(who) {
            Some(network) => {
                let known = listener.body.get(&["accept_proxy"]).cloned();
                let mut all = match known {
                    Some(Yaml::List(items)) if items != ["0.0.0.0/0", "::/0"].map(Yaml::word) => items,
                    _ => Vec::new(),
                };
                all.push(Yaml::Word(network));
                listener.set(&["accept_proxy"], Yaml::List(all));
            }
            None => notes.lost(&at, format!("`{whole}`: a proxy is known by its network")),
        },
        ("limit_conn", _) => {
            let most = one.word(2).unwrap_or_default();
            if !units::is_count(most) {
                notes.lost(&at, format!("`{whole}`: a number is wanted"));
                return;
            }
            listener.word(&["limits", "sessions_per_source"], most);
            notes.different(&at, format!("`{whole}`: counted by the client's address"));
        }
        ("access_log", "off") => listener.word(&["log_sessions"], "off"),
        (
            "ssl_preread"
            | "listen"
            | "proxy_pass"
            | "proxy_connect_timeout"
            | "proxy_protocol"
            | "proxy_bind"
            | "proxy_next_upstream"
            | "proxy_next_upstream_tries"
            | "proxy_next_upstream_timeout"
            | "proxy_ssl",
            _,
        ) => {}
        ("access_log" | "error_log", _) => {
            notes.tell(
                &at,
                Standing::NotNeeded,
                format!("`{}`: a log is written here without being asked for", one.name()),
            );
        }
        (
            "tcp_nodelay"
            | "proxy_buffer_size"
            | "preread_buffer_size"
            | "preread_timeout"
            | "proxy_socket_keepalive"
            | "variables_hash_max_size"
            | "resolver"
            | "resolver_timeout"
            | "server_name"
            | "proxy_half_close"
            | "proxy_session_drop",
            _,
        ) => {
            notes.tell(
                &at,
                Standing::NotNeeded,
                format!("`{}`: it is so here, or nothing is tuned by it", one.name()),
            );
        }
        (name, _) if name.starts_with("ssl_") => {
            notes.lost(&at, format!("`{name}`: TLS ends at the backends here"));
        }
        (name, _) => notes.unknown(&at, name, &whole),
    }
}

/// The first that fits decides there, the longest here.
fn access(all: &[&Directive], listener: &mut Part, notes: &mut Notes) {
    let mut rules = Rules::default();
    for one in all.iter().filter(|one| matches!(one.name(), "allow" | "deny")) {
        let (allows, who) = (one.name() == "allow", one.word(1).unwrap_or_default());
        match network(who).filter(|_| who != "all") {
            _ if who == "all" => rules.all(allows),
            Some(network) => rules.add(allows, &[network], false),
            None => {
                notes.lost(&one.at(), format!("`{} {who}`: a client is known by its network", one.name()));
            }
        }
    }
    let (allow, deny) = rules.lists().unwrap_or_else(|| {
        let at = all.iter().find(|one| matches!(one.name(), "allow" | "deny")).map(|one| one.at());
        if let Some(at) = at {
            notes.lost(&at, "nobody is let in: so many rules of both kinds are not worked out; write `allow` and `deny` by hand");
        }
        (Vec::new(), everybody())
    });
    for (key, list) in [("allow", allow), ("deny", deny)] {
        if !list.is_empty() {
            listener.set(&[key], Yaml::List(list.into_iter().map(Yaml::Word).collect()));
        }
    }
}

/// What a server says of its pool, which other servers may use, too.
fn settle(all: &[&Directive], pool: &mut Part, server: &Directive, notes: &mut Notes) {
    let wants_header = all.iter().any(|one| one.name() == "proxy_protocol" && one.word(1) == Some("on"));
    if pool.users > 0 && pool.has(&["send_proxy"]) != wants_header {
        let text = format!(
            "`proxy_protocol` of some servers that use `{}`: here all sessions of a pool have the header or none; make two pools",
            pool.name
        );
        notes.lost(&server.at(), text);
    }
    pool.users += 1;
    for one in all {
        of_pool(one, pool, notes);
    }
}

/// What stands at a server there, and in a pool here.
fn of_pool(one: &Directive, pool: &mut Part, notes: &mut Notes) {
    let at = one.at();
    let value = one.word(1).unwrap_or_default();
    let mut put = |way: &[&str], value: String| {
        let new = Yaml::Word(value);
        match pool.body.get(way) {
            None => pool.set(way, new),
            Some(known) if *known == new => {}
            Some(_) => {
                let text = format!(
                    "`{}` is one for the whole pool here: the first one is taken",
                    one.words.join(" ")
                );
                notes.different(&at, text);
            }
        }
    };
    match (one.name(), value) {
        ("proxy_connect_timeout", time) => {
            if let Some(ms) = milliseconds(time, 1_000) {
                put(&["connect", "timeout"], units::duration(ms, units::CONNECT));
            }
        }
        ("proxy_protocol", "on") => put(&["send_proxy"], "v1".to_owned()),
        ("proxy_bind", "$remote_addr") => put(&["connect_from"], "client".to_owned()),
        ("proxy_bind", address) if address.parse::<std::net::IpAddr>().is_ok() => {
            put(&["connect_from"], address.to_owned());
        }
        ("proxy_bind", other) if other != "off" => notes.lost(&at, format!("`proxy_bind {other}`")),
        ("proxy_next_upstream", "off") => put(&["connect", "attempts"], "1".to_owned()),
        ("proxy_next_upstream_tries", count) if count.parse::<u32>().is_ok_and(|count| count > 0) => {
            let count: u32 = count.parse().unwrap_or(3);
            put(&["connect", "attempts"], count.min(16).to_string());
        }
        ("proxy_ssl", "on") => {
            let text = "`proxy_ssl`: the bytes are passed on as they come, and TLS is not begun here";
            notes.lost(&at, text);
        }
        _ => {}
    }
}

/// Of a listener.
const BINDS_MAX: usize = 1_024;
const KNOWN: [&str; 47] = [
    "listen",
    "proxy_pass",
    "proxy_timeout",
    "proxy_connect_timeout",
    "proxy_responses",
    "proxy_requests",
    "proxy_protocol",
    "proxy_bind",
    "proxy_next_upstream",
    "proxy_next_upstream_tries",
    "proxy_next_upstream_timeout",
    "proxy_ssl",
    "proxy_buffer_size",
    "proxy_socket_keepalive",
    "proxy_half_close",
    "proxy_session_drop",
    "proxy_upload_rate",
    "proxy_download_rate",
    "allow",
    "deny",
    "set_real_ip_from",
    "limit_conn",
    "access_log",
    "error_log",
    "ssl_preread",
    "preread_timeout",
    "preread_buffer_size",
    "tcp_nodelay",
    "resolver",
    "resolver_timeout",
    "server_name",
    "ssl_certificate",
    "ssl_certificate_key",
    "ssl_protocols",
    "ssl_ciphers",
    "ssl_session_cache",
    "ssl_session_timeout",
    "ssl_handshake_timeout",
    "ssl_verify_client",
    "ssl_client_certificate",
    "ssl_prefer_server_ciphers",
    "ssl_dhparam",
    "ssl_trusted_certificate",
    "ssl_session_tickets",
    "limit_conn_log_level",
    "proxy_ssl_verify",
    "proxy_ssl_name",
];
