//! What a file holds, as a table for people: the body of `evenkeel check`.
//!
//! Pure. Must stay true: no line is wider than 100 columns, whatever names the file gives.

use super::check::show_ip;
use super::settings::{
    Addresses, Backend, Balance, Bind, Check, Cidr, ConnectFrom, Health, HostName, Listener, NetworkFile,
    NetworkFiles, Pool, Rate, Role, Settings, ShareLimit, Source, SourceHash, SourceKind, Word,
};
use super::table::table;
use crate::durations::exact;

/// The listeners and pools of a configuration, in the order of the file.
pub fn describe(settings: &Settings) -> String {
    let mut rows = vec![["LISTENER", "PROTOCOL", "BIND", "POOL", "BALANCE"].map(str::to_owned)];
    rows.extend(settings.listeners.iter().map(|listener| listener_row(listener, &settings.pools)));
    let mut text = table(&rows);
    let rows: Vec<[String; 4]> = settings.listeners.iter().filter_map(entry_row).collect();
    if !rows.is_empty() {
        let head = ["LISTENER", "ALLOW", "DENY", "LIMITS"].map(str::to_owned);
        text.push('\n');
        text.push_str(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    let routes = settings
        .listeners
        .iter()
        .flat_map(|listener| (0..listener.routes.len()).map(|at| route_row(listener, at, &settings.pools)));
    let rows: Vec<[String; 3]> = routes.collect();
    if !rows.is_empty() {
        let head = ["LISTENER", "ROUTE", "POOL"].map(str::to_owned);
        text.push('\n');
        text.push_str(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    let mut rows = vec![["POOL", "BACKEND", "ADDRESS", "WEIGHT", "TIER", "MAX_SESSIONS"].map(str::to_owned)];
    for pool in &settings.pools {
        let name = |at| if at == 0 { pool.name.clone() } else { String::new() };
        rows.extend(pool.backends.iter().enumerate().map(|(at, backend)| backend_row(name(at), backend)));
        let listed = pool.backends.len();
        let sources = pool.sources.iter().enumerate();
        rows.extend(sources.map(|(at, source)| source_row(name(listed + at), source)));
    }
    text.push('\n');
    text.push_str(&table(&rows));
    let mut rows = vec![["POOL", "BALANCE", "PROXY", "HEALTH"].map(str::to_owned)];
    rows.extend(settings.pools.iter().map(|pool| {
        [pool.name.clone(), balance(&pool.balance), pool.send_proxy.word().to_owned(), health(&pool.health)]
    }));
    text.push('\n');
    text.push_str(&table(&rows));
    let rows: Vec<[String; 2]> = settings.pools.iter().filter_map(origin_row).collect();
    if !rows.is_empty() {
        let head = ["POOL", "CONNECT_FROM"].map(str::to_owned);
        text.push('\n');
        text.push_str(&table(&std::iter::once(head).chain(rows).collect::<Vec<_>>()));
    }
    text
}

fn listener_row(listener: &Listener, pools: &[Pool]) -> [String; 5] {
    let pool = pools.get(listener.pool);
    [
        listener.name.clone(),
        {
            let proxies = if listener.accept_proxy.is_empty() { "" } else { ", accept_proxy" };
            let speaks = listener.speaks.map_or(String::new(), |speaks| format!(", {}", speaks.word()));
            format!("{}{speaks}{proxies}", listener.protocol.word())
        },
        binds(&listener.bind),
        match pool {
            Some(_) if listener.needs_route => "by its routes".to_owned(),
            Some(pool) => pool_and_role(pool, listener.role),
            None => String::new(),
        },
        pool.filter(|_| !listener.needs_route).map_or(String::new(), |pool| balance(&pool.balance)),
    ]
}

fn pool_and_role(pool: &Pool, role: Role) -> String {
    match role {
        Role::Any => pool.name.clone(),
        role => format!("{}: {}", pool.name, role.word()),
    }
}

/// Which clients go to which pool.
fn route_row(listener: &Listener, at: usize, pools: &[Pool]) -> [String; 3] {
    let route = &listener.routes[at];
    let name = if at == 0 { listener.name.clone() } else { String::new() };
    let networks = |list: &[Cidr]| match list {
        [only] => format!("{}/{}", only.ip, only.bits),
        list => format!("{} networks", list.len()),
    };
    let ports = route
        .ports
        .iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let wants: Vec<String> = [
        (!route.from.is_empty()).then(|| format!("from {}", networks(&route.from))),
        (!route.ports.is_empty()).then(|| format!("port {}", ports.collect::<Vec<_>>().join(" "))),
        route.sni.as_ref().map(|name| format!("sni {name}")),
        route.alpn.as_ref().map(|name| format!("alpn {name}")),
        route.database.as_ref().map(|name| format!("database {name}")),
        route.user.as_ref().map(|name| format!("user {name}")),
        route.host.as_ref().map(|name| format!("host {name}")),
    ]
    .into_iter()
    .flatten()
    .collect();
    let pool = pools.get(route.pool).map_or(String::new(), |pool| pool_and_role(pool, route.role));
    [name, wants.join(", "), pool]
}

/// Who may come in, and how many; nothing of a listener that says neither.
fn entry_row(listener: &Listener) -> Option<[String; 4]> {
    let networks = |list: &[Cidr], files: &[NetworkFile], none: &str| match (list, files) {
        ([], []) => none.to_owned(),
        ([only], []) => format!("{}/{}", only.ip, only.bits),
        (list, []) => format!("{} networks", list.len()),
        (list, files) => {
            let all = list.len() + files.iter().map(|file| file.list.len()).sum::<usize>();
            format!("{all} networks ({} file{})", files.len(), if files.len() == 1 { "" } else { "s" })
        }
    };
    let limits = &listener.limits;
    let count = |limit, of: &str| match limit {
        ShareLimit::Count(count) => Some(format!("{count} sessions{of}")),
        ShareLimit::Auto | ShareLimit::Off => None,
    };
    let rate = |rate: Option<Rate>, of: &str| {
        let time = |rate: Rate| if rate.per.as_secs() == 60 { "m" } else { "s" };
        rate.map(|rate| format!("{}/{}{of}", rate.count, time(rate)))
    };
    let limits: Vec<String> = [
        count(limits.sessions, ""),
        count(limits.sessions_per_source, " per source"),
        rate(limits.rate, ""),
        rate(limits.rate_per_source, " per source"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let NetworkFiles { allow, deny, .. } = &listener.files;
    let (allows, denies) =
        (!(listener.allow.is_empty() && allow.is_empty()), !(listener.deny.is_empty() && deny.is_empty()));
    let says_something = allows || denies || !limits.is_empty();
    let allow = networks(&listener.allow, allow, if denies { "all others" } else { "all" });
    let row = [listener.name.clone(), allow, networks(&listener.deny, deny, "none"), limits.join(", ")];
    says_something.then_some(row)
}

/// Where a pool connects from, when that is not left to the kernel.
fn origin_row(pool: &Pool) -> Option<[String; 2]> {
    let from = match &pool.connect_from {
        ConnectFrom::Any => return None,
        ConnectFrom::Client => "client".to_owned(),
        ConnectFrom::Addresses(addresses) => {
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        }
    };
    Some([pool.name.clone(), from])
}

fn backend_row(pool: String, backend: &Backend) -> [String; 6] {
    let address = match backend.port {
        Some(port) => format!("{}:{port}", show_ip(backend.ip)),
        None => show_ip(backend.ip),
    };
    let max_sessions = backend.max_sessions.map_or("off".to_owned(), |max| max.to_string());
    [pool, backend.name.clone(), address, backend.weight.to_string(), backend.tier.to_string(), max_sessions]
}

fn source_row(pool: String, source: &Source) -> [String; 6] {
    let address = match &source.from {
        SourceKind::Name(HostName { addresses: Addresses::All, .. }) => "looked up: each address",
        SourceKind::Name(HostName { addresses: Addresses::One, .. }) => "looked up: one address",
        SourceKind::File(_) | SourceKind::Http(_) => "whom it lists",
        SourceKind::Consul(_) => "the service's instances",
        SourceKind::Docker(_) => "containers",
        SourceKind::Kubernetes(_) => "the service's pods",
        SourceKind::Services(_) => "looked up: each service",
    };
    let name = match &source.from {
        SourceKind::Name(HostName { name: Some(name), .. }) => name.clone(),
        _ => source.text.clone(),
    };
    let max_sessions = source.max_sessions.map_or("off".to_owned(), |max| max.to_string());
    [pool, name, address.to_owned(), source.weight.to_string(), source.tier.to_string(), max_sessions]
}

/// The binds as a file would say them: consecutive ports of one address are a range again.
fn binds(binds: &[Bind]) -> String {
    let mut runs: Vec<(Bind, u16)> = Vec::new();
    for bind in binds {
        match runs.last_mut() {
            Some((first, last)) if first.ip == bind.ip && last.checked_add(1) == Some(bind.port) => {
                *last = bind.port;
            }
            _ => runs.push((*bind, bind.port)),
        }
    }
    let shown = runs.iter().map(|(first, last)| {
        let address = first.ip.map_or(String::new(), |ip| format!("{}:", show_ip(ip)));
        let range = if first.port == *last { String::new() } else { format!("-{last}") };
        format!("{address}{}{range}", first.port)
    });
    shown.collect::<Vec<_>>().join(", ")
}

fn balance(balance: &Balance) -> String {
    let word = balance.word();
    match balance {
        Balance::SourceHash(SourceHash { key, bounded_load, .. }) => {
            let bound = bounded_load.map_or(String::new(), |bound| format!(", {bound}"));
            format!("{word} ({}{bound})", key.word())
        }
        _ => word.to_owned(),
    }
}

fn health(health: &Health) -> String {
    let what = match health.check {
        Check::Off => return "off".to_owned(),
        Check::Tcp => "tcp",
        Check::TcpTalk { .. } => "tcp talk",
        Check::TcpRoles { .. } => "tcp roles",
        Check::Patroni => "patroni",
        Check::Postgres(_) => "postgres",
        Check::Mongodb(_) => "mongodb",
        Check::Mysql(_) => "mysql",
        Check::Redis(_) => "redis",
        Check::Udp { .. } => "udp talk",
        Check::Dns { .. } => "dns",
    };
    let port = health.port.map_or(String::new(), |port| format!(", port {port}"));
    let interval = exact(health.interval);
    format!("{what} every {interval}, rise {}, fall {}{port}", health.rise, health.fall)
}
