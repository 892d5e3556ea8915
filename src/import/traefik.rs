//! Traefik: entry points, routers and services of TCP and UDP, in YAML, of one file or of several in one text.

use super::first_match::{Rules, everybody};
use super::notes::{At, Notes, Standing};
use super::plan::{Part, Plan};
use super::units::{self, milliseconds, network};
use super::yaml::Yaml;
use crate::config::{Plain, plain};

/// Reads the text into the plan.
pub(super) fn translate(text: &str, plan: &mut Plan, notes: &mut Notes) {
    let Some(tree) = plain(text) else {
        let at = notes.at(0);
        notes.lost(&at, "this is no YAML; of TOML and of labels nothing is read");
        return;
    };
    for (key, line, value) in tree.entries() {
        let at = notes.at(*line);
        match key.as_str() {
            "entryPoints" => {}
            "tcp" | "udp" => section(key, value, tree.get("entryPoints"), plan, notes),
            "http" | "certificatesResolvers" | "metrics" | "accessLog" | "tracing" | "ping" | "api" | "log" | "global" => {
                let standing = if key == "http" { Standing::Http } else { Standing::NotNeeded };
                notes.tell(&at, standing, format!("`{key}`: not of what is balanced here"));
            }
            "tls" => notes.lost(&at, "`tls`: TLS ends at the backends here"),
            "providers" => notes.lost(&at, "`providers`: backends come from the file, or `from` a source (docker, kubernetes, consul, file, http)"),
            other => notes.unknown(&at, other, other),
        }
    }
}

fn section(protocol: &str, section: &Plain, entries: &Plain, plan: &mut Plan, notes: &mut Notes) {
    for (key, line, value) in section.entries() {
        let at = notes.at(*line);
        match key.as_str() {
            "services" => value.entries().iter().for_each(|(name, line, service)| {
                pool(protocol, name, &notes.at(*line), service, plan, notes);
            }),
            "routers" | "middlewares" | "serversTransports" => {}
            other => notes.unknown(&at, other, other),
        }
    }
    for (name, line, router) in section.get("routers").entries() {
        listener(protocol, name, *line, router, (section, entries), plan, notes);
    }
}

fn pool(protocol: &str, name: &str, at: &At, service: &Plain, plan: &mut Plan, notes: &mut Notes) {
    let mut pool =
        Part::new(&pool_name(protocol, name), format!("{protocol} service {name}, line {}", at.line));
    notes.enter(&pool.of);
    let mut backends = Vec::new();
    for (key, line, value) in service.entries() {
        let at = notes.at(*line);
        match key.as_str() {
            "loadBalancer" => balanced(value, &mut backends, &mut pool, notes),
            "weighted" => notes
                .lost(&at, "`weighted`: services of services; give the servers of one pool their weights"),
            other => notes.unknown(&at, other, other),
        }
    }
    pool.set(&["backends"], Yaml::List(backends));
    if !pool.has(&["health"]) {
        pool.word(&["health", "check"], "off");
    }
    notes.leave();
    plan.pools.push(pool);
}

fn balanced(load_balancer: &Plain, backends: &mut Vec<Yaml>, pool: &mut Part, notes: &mut Notes) {
    for (key, line, value) in load_balancer.entries() {
        let at = notes.at(*line);
        match key.as_str() {
            "servers" => {
                for server in value.items() {
                    let address = server.get("address").text().unwrap_or_default();
                    let (host, port) = units::host_and_port(address);
                    if !units::is_backend(&host, port.as_deref()) {
                        notes.lost(&at, format!("`{address}`: no backend can be there"));
                        continue;
                    }
                    if server.get("tls").text() == Some("true") {
                        notes.lost(&at, format!("`tls` to {address}: the bytes are passed on as they come"));
                    }
                    let item = Yaml::Word(units::joined(&host, port.as_deref()));
                    if !backends.contains(&item) {
                        backends.push(item);
                    }
                }
            }
            "proxyProtocol" => {
                let version = if value.get("version").text() == Some("1") { "v1" } else { "v2" };
                pool.word(&["send_proxy"], version);
            }
            "healthCheck" => {
                for (key, line, _) in value
                    .entries()
                    .iter()
                    .filter(|(key, _, _)| !matches!(key.as_str(), "interval" | "timeout"))
                {
                    notes.lost(
                        &notes.at(*line),
                        format!(
                            "`{key}` of a `healthCheck`: the check is whether the port takes connections"
                        ),
                    );
                }
                pool.word(&["health", "check"], "tcp");
                for (key, bounds) in [("interval", units::INTERVAL), ("timeout", units::CHECK_TIMEOUT)] {
                    if let Some(ms) = value.get(key).text().and_then(|text| milliseconds(text, 1_000)) {
                        pool.word(&["health", key], units::duration(ms, bounds));
                    }
                }
            }
            "terminationDelay" => notes.tell(
                &at,
                Standing::NotNeeded,
                "`terminationDelay` is `timeouts: { half_closed: 5m }` of the listener",
            ),
            "serversTransport" => {
                notes.lost(&at, "`serversTransport`: `connect` and `send_proxy` of the pool");
            }
            other => notes.unknown(&at, other, other),
        }
    }
}

// long because: each arm is a word of the other balancer
fn listener(
    protocol: &str,
    name: &str,
    line: usize,
    router: &Plain,
    (section, entries): (&Plain, &Plain),
    plan: &mut Plan,
    notes: &mut Notes,
) {
    let mut listener = Part::new(&units::name(name), format!("{protocol} router {name}, line {line}"));
    notes.enter(&listener.of);
    if protocol == "udp" {
        listener.word(&["protocol"], "udp");
    }
    let at = notes.at(line);
    let mut binds = Vec::new();
    let names = router.get("entryPoints");
    if names.items().is_empty() {
        notes.lost(&at, "a router without `entryPoints`: name the addresses in `bind`");
    }
    for entry in names.items().iter().filter_map(Plain::text) {
        match entries.get(entry).get("address").text() {
            Some(address) => binds.extend(bind(address)),
            None => notes.lost(
                &at,
                format!("the entry point `{entry}` is not in this file: name its address in `bind`"),
            ),
        }
        for (key, line, _) in entries.get(entry).entries() {
            if !matches!(key.as_str(), "address" | "proxyProtocol" | "udp") {
                notes.lost(&notes.at(*line), format!("`{key}` of an entry point"));
            }
        }
        if entries.get(entry).get("proxyProtocol").get("insecure").text() == Some("true") {
            notes.lost(
                &at,
                "`insecure`: name your proxies in `accept_proxy`; no header is taken of anybody else",
            );
        }
        let trusted = entries.get(entry).get("proxyProtocol").get("trustedIPs").items();
        let trusted: Vec<Yaml> =
            trusted.iter().filter_map(Plain::text).filter_map(network).map(Yaml::Word).collect();
        if !trusted.is_empty() {
            listener.set(&["accept_proxy"], Yaml::List(trusted));
        }
        let idle =
            entries.get(entry).get("udp").get("timeout").text().and_then(|text| milliseconds(text, 1_000));
        if let Some(ms) = idle.filter(|_| protocol == "udp") {
            listener.word(&["timeouts", "idle"], units::duration(ms, units::IDLE));
        }
    }
    if !binds.is_empty() {
        listener.set(&["bind"], Yaml::List(binds));
    }
    let mut rules = Rules::default();
    for (key, line, value) in router.entries() {
        let at = notes.at(*line);
        match (key.as_str(), value.text()) {
            ("entryPoints", _) => {}
            ("service", Some(service)) => {
                let bare = service.split('@').next().unwrap_or_default();
                listener.word(&["pool"], pool_name(protocol, bare));
            }
            ("rule", Some(rule)) => of_rule(rule, &at, &mut rules, notes),
            ("middlewares", _) => {
                middlewares(value, section.get("middlewares"), &at, (&mut listener, &mut rules), notes);
            }
            ("tls", _) => notes.lost(
                &at,
                "`tls`: the bytes are passed on as they come; with `passthrough: true` nothing is lost",
            ),
            (other, _) => notes.unknown(&at, other, other),
        }
    }
    // Each of them must let a client in.
    let (allow, deny) = rules.lists().unwrap_or_else(|| {
        notes.lost(&at, "nobody is let in: what its lists say together is not worked out");
        (Vec::new(), everybody())
    });
    for (key, list) in [("allow", allow), ("deny", deny)] {
        if !list.is_empty() {
            listener.set(&[key], Yaml::List(list.into_iter().map(Yaml::Word).collect()));
        }
    }
    notes.leave();
    plan.listeners.push(listener);
}

/// TCP and UDP services may have the same name.
fn pool_name(protocol: &str, name: &str) -> String {
    if protocol == "udp" { format!("{}-udp", units::name(name)) } else { units::name(name) }
}

fn bind(address: &str) -> Option<Yaml> {
    let bare = address.split('/').next().unwrap_or_default();
    let (host, port) = units::host_and_port(bare);
    let port = port?;
    Some(Yaml::Word(if host.is_empty() { port } else { units::joined(&host, Some(&port)) }))
}

fn of_rule(rule: &str, at: &At, rules: &mut Rules, notes: &mut Notes) {
    let quotes = ['`', '\'', '"'];
    let inner = |name: &str| {
        let rest = rule.trim().strip_prefix(name)?.strip_prefix('(')?.strip_suffix(')')?;
        (!rest.contains(['(', ')'])).then_some(rest)
    };
    match (inner("HostSNI"), inner("ClientIP")) {
        (Some(name), _) if name.trim_matches(quotes) == "*" => {}
        (_, Some(clients)) => {
            let all = clients.split(',').map(|one| one.trim().trim_matches(quotes));
            let networks: Option<Vec<String>> = all.map(network).collect();
            match networks {
                Some(networks) => rules.add(false, &networks, true),
                None => notes.lost(at, format!("`rule: {rule}`: a client is known by its network")),
            }
        }
        _ => notes.lost(at, format!("`rule: {rule}`: every client of the listener goes to its one pool")),
    }
}

fn middlewares(
    names: &Plain,
    known: &Plain,
    at: &At,
    (listener, rules): (&mut Part, &mut Rules),
    notes: &mut Notes,
) {
    for name in names.items().iter().filter_map(Plain::text) {
        let of = known.get(name.split('@').next().unwrap_or_default());
        let list = ["ipAllowList", "ipWhiteList"].iter().map(|key| of.get(key).get("sourceRange").items());
        let networks: Vec<String> = list.flatten().filter_map(Plain::text).filter_map(network).collect();
        if let Some(most) = of.get("inFlightConn").get("amount").text().filter(|text| units::is_count(text)) {
            listener.word(&["limits", "sessions_per_source"], most);
        } else if networks.is_empty() {
            notes.lost(at, format!("the middleware `{name}`"));
        } else {
            rules.add(false, &networks, true);
        }
    }
}
