//! What only several parts together can get wrong: pools that are not there, doors that collide, backends without a
//! port to ask, loops.
//!
//! Pure. Must stay true: each rule costs about as much as the file is long, whatever the file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use super::address::show_ip;
use super::draft::{DraftListener, DraftPool, PoolChoice};
use super::policy::ROLES_HINT;
use crate::config::mistake::{Place, Report, quoted};
use crate::config::nearest::nearest;
use crate::config::settings::{
    Bind, Check, Listener, OnDown, OnRemoved, Pool, Protocol, Role, SendProxy, Source, WhenNone, Word,
};
use crate::config::spec::{POOL, Section, TOP};
use crate::config::units::show_whole;

/// Gives each listener the index of its pool, and tells what does not go together.
pub(super) fn join(
    mut listeners: Vec<DraftListener>,
    mut pools: Vec<DraftPool>,
    report: &mut Report,
) -> (Vec<Listener>, Vec<Pool>) {
    // The order of the file: own pools stand where their listener does.
    pools.sort_by_key(|pool| pool.place);
    check_sizes(&listeners, &pools, report);
    check_binds(&listeners, report);
    let mut users: Vec<Vec<usize>> = pools.iter().map(|_| Vec::new()).collect();
    let found_pools = find_pools(&listeners, &pools, report);
    // Beside a listener whose pool is a mistake, no pool is surely unused.
    let all_found =
        found_pools.iter().all(|found| found.own.is_some() && found.routes.iter().all(Option::is_some));
    for (at, found) in found_pools.into_iter().enumerate() {
        let listener = &mut listeners[at];
        for (number, pool) in found.routes.iter().enumerate() {
            let Some(pool) = *pool else { continue };
            listener.settings.routes[number].pool = pool;
            users[pool].push(at);
            check_route_role(listener, number, &pools[pool].settings, report);
        }
        if let Some(pool) = found.own {
            listener.settings.pool = pool;
            users[pool].push(at);
            if !listener.settings.needs_route {
                check_role(listener, &pools[pool].settings, report);
            }
        }
    }
    users.iter_mut().for_each(Vec::dedup);
    for (pool, users) in pools.iter_mut().zip(&users) {
        let doors: BTreeSet<(Option<IpAddr>, u16)> =
            users.iter().flat_map(|at| &listeners[*at].settings.bind).map(door).collect();
        let ports: BTreeSet<u16> = doors.iter().map(|(_, port)| *port).collect();
        let protocols: Vec<Protocol> = users.iter().map(|at| listeners[*at].settings.protocol).collect();
        suit_protocols(pool, &protocols, report);
        if all_found {
            check_health_port(pool, users.is_empty(), ports.len(), report);
        }
        check_loops(pool, &doors, report);
    }
    (
        listeners.into_iter().map(|listener| listener.settings).collect(),
        pools.into_iter().map(|pool| pool.settings).collect(),
    )
}

/// The admin address must not be one a listener takes: it would hide the listener, or not open.
pub(super) fn admin_apart(
    key: &str,
    admin: SocketAddr,
    place: Place,
    listeners: &[DraftListener],
    report: &mut Report,
) {
    let ip = admin.ip().to_canonical();
    let takes = |bind: &Bind| {
        let other = bind.ip.map(|ip| ip.to_canonical());
        bind.port == admin.port()
            && (ip.is_unspecified() || other.is_none_or(|other| other.is_unspecified() || other == ip))
    };
    let mut doors = listeners.iter().filter(|listener| listener.settings.protocol == Protocol::Tcp);
    if let Some(listener) = doors.find(|listener| listener.settings.bind.iter().any(takes)) {
        let name = quoted(&listener.settings.name);
        report.tell(place, format!("`{key}`: port {} is taken by the listener {name}", admin.port()));
    }
}

/// A role that nobody tells, and one that `try_all` would give to anybody.
fn check_role(listener: &mut DraftListener, pool: &Pool, report: &mut Report) {
    let role = listener.settings.role;
    // That a role is for tcp was told.
    if role == Role::Any || listener.role_place.is_some() && listener.settings.protocol == Protocol::Udp {
        return;
    }
    let Some(place) = listener.role_place else {
        if !pool.health.check.tells_roles() || listener.settings.protocol == Protocol::Udp {
            listener.settings.role = Role::Any;
        }
        return;
    };
    tell_role(role, place, pool, report);
}

/// The same of a route, whose role may be its own or that of its listener.
fn check_route_role(listener: &mut DraftListener, number: usize, pool: &Pool, report: &mut Report) {
    let (route, draft) = (&mut listener.settings.routes[number], &listener.routes[number]);
    if route.role == Role::Any || listener.settings.protocol == Protocol::Udp {
        return;
    }
    match draft.role_place.or(listener.role_place) {
        Some(place) => tell_role(route.role, place, pool, report),
        // A default, which is for those it is for.
        None if !pool.health.check.tells_roles() => route.role = Role::Any,
        None => {}
    }
}

fn tell_role(role: Role, place: Place, pool: &Pool, report: &mut Report) {
    let (role, name) = (role.word(), quoted(&pool.name));
    if !pool.health.check.tells_roles() {
        let message = format!("`role: {role}`: the check of the pool {name} tells no roles");
        report.tell_with_hint(place, message, ROLES_HINT);
    } else if pool.when_none == WhenNone::TryAll {
        let message = format!(
            "`role: {role}`: with `when_none: try_all` the pool {name} would give its clients to anybody"
        );
        report.tell(place, message);
    }
}

fn check_sizes(listeners: &[DraftListener], pools: &[DraftPool], report: &mut Report) {
    let most = |section: &Section, key| section.row(key, None).map_or(0, |row| row.kind.most());
    let (listeners_max, pools_max) = (most(&TOP, "listeners"), most(&TOP, "pools"));
    let last = listeners.last().map_or(Place::FILE, |listener| listener.place);
    if listeners.len() > listeners_max {
        report.tell(last, format!("more than {} listeners", show_whole(listeners_max as u64)));
    }
    let binds: usize = listeners.iter().map(|listener| listener.settings.bind.len()).sum();
    if binds > BINDS_MAX {
        let most = show_whole(BINDS_MAX as u64);
        report.tell(last, format!("{binds} addresses and ports to bind in all; the most is {most}"));
    }
    let last = pools.last().map_or(Place::FILE, |pool| pool.place);
    if pools.len() > pools_max {
        report.tell(last, format!("more than {} pools", show_whole(pools_max as u64)));
    }
    let of = |pool: &DraftPool| pool.settings.backends.len() + pool.settings.sources.len();
    let backends: usize = pools.iter().map(of).sum();
    let backends_max = most(&POOL, "backends");
    if backends > backends_max {
        let most = show_whole(backends_max as u64);
        report.tell(last, format!("{backends} backends in all; the most is {most}"));
    }
}

/// The defaults that depend on who uses a pool, and what does not fit its users.
fn suit_protocols(pool: &mut DraftPool, protocols: &[Protocol], report: &mut Report) {
    let has_tcp = protocols.contains(&Protocol::Tcp);
    let has_udp = protocols.contains(&Protocol::Udp);
    // There ICMP refusals tell, and what answers a check over TCP is another program.
    if !pool.check_written && has_udp && !has_tcp {
        pool.settings.health.check = Check::Off;
    }
    pool.settings.on_down = if has_udp && !has_tcp { OnDown::Rehome } else { OnDown::Keep };
    for (key, place) in pool.for_tcp.iter().filter(|_| has_udp && !has_tcp) {
        let why = if *key == "queue" { ": a datagram does not wait" } else { "" };
        report.tell(*place, format!("`{key}` is for tcp{why}; only udp listeners use this pool"));
    }
    if let Some(written) = pool.send_proxy_v1.filter(|_| has_udp) {
        if written.is_none() && !has_tcp {
            // A default for the others.
            pool.settings.send_proxy = SendProxy::Off;
            pool.settings.health.send_proxy = SendProxy::Off;
        } else {
            report.tell_with_hint(
                written.unwrap_or(pool.place),
                "`send_proxy: v1` is a line in front of a stream; a udp listener uses this pool",
                "`v2` has a form for datagrams",
            );
        }
    }
    suit_departure(pool, has_tcp, report);
    let Some((on_down, place)) = pool.on_down else { return };
    let Some(place) = place else {
        if !has_tcp || on_down != OnDown::Rehome {
            pool.settings.on_down = on_down;
        }
        return;
    };
    pool.settings.on_down = on_down;
    if has_tcp && on_down == OnDown::Rehome {
        report.tell(place, "`on_down: rehome` is for flows; a tcp listener uses this pool");
    }
}

/// No session of tcp can go elsewhere.
fn suit_departure(pool: &mut DraftPool, has_tcp: bool, report: &mut Report) {
    if !has_tcp || pool.settings.on_removed != OnRemoved::Rehome {
        return;
    }
    match pool.on_removed {
        Some(place) => {
            report.tell(place, "`on_removed: rehome` is for flows; a tcp listener uses this pool");
        }
        // A default for the others.
        None => pool.settings.on_removed = OnRemoved::Auto,
    }
}

/// The indices of a listener's pools.
struct FoundPools {
    /// Its own; where there is none beside its routes, that of the first of them.
    own: Option<usize>,
    /// One for each route.
    routes: Vec<Option<usize>>,
}

/// The indices of each listener's pools.
fn find_pools(listeners: &[DraftListener], pools: &[DraftPool], report: &mut Report) -> Vec<FoundPools> {
    let with_index = |own| pools.iter().enumerate().filter(move |(_, pool)| pool.own == own);
    let by_name = |own| -> BTreeMap<&str, usize> {
        with_index(own).map(|(at, pool)| (&*pool.settings.name, at)).collect()
    };
    let (own, shared) = (by_name(true), by_name(false));
    for (name, at) in &own {
        if let Some(other) = shared.get(name) {
            let message = format!(
                "the pool {} has the name of a listener with a pool of its own, on {}",
                quoted(name),
                report.spot(pools[*at].place)
            );
            report.tell(pools[*other].place, message);
        }
    }
    let mut suggestions_left = SUGGESTIONS_MAX;
    let mut find = |listener: &str, name: &String, place: Place| {
        if let Some(at) = shared.get(&**name) {
            return Some(*at);
        }
        if listener == name && own.contains_key(&**name) {
            return own.get(&**name).copied();
        }
        if own.contains_key(&**name) {
            let name = quoted(name);
            let message = format!("the pool {name} belongs to the listener {name} alone");
            report.tell_with_hint(place, message, "move it to `pools`, and both can name it");
            return None;
        }
        suggestions_left = usize::saturating_sub(suggestions_left, 1);
        let candidates = shared.keys().copied().take(if suggestions_left > 0 { CANDIDATES_MAX } else { 0 });
        let message = match nearest(name, candidates) {
            Some(near) => format!("there is no pool {}; did you mean {}?", quoted(name), quoted(near)),
            None => format!("there is no pool {} in `pools`", quoted(name)),
        };
        report.tell(place, message);
        None
    };
    let all = listeners.iter().map(|listener| {
        let name = &*listener.settings.name;
        let mut routes = Vec::with_capacity(listener.routes.len());
        for route in &listener.routes {
            routes.push(route.pool.as_ref().and_then(|(pool, place)| find(name, pool, *place)));
        }
        let own = match &listener.pool {
            PoolChoice::Own => own.get(name).copied(),
            PoolChoice::Named(pool, place) => find(name, pool, *place),
            PoolChoice::Routes => routes.first().copied().flatten(),
            PoolChoice::Unknown => None,
        };
        FoundPools { own, routes }
    });
    all.collect()
}

/// The same door twice. A specific address beside a wildcard is fine: the kernel prefers the specific one.
fn check_binds(listeners: &[DraftListener], report: &mut Report) {
    let mut taken: BTreeMap<(bool, Option<IpAddr>, u16), (&str, Place)> = BTreeMap::new();
    let mut told = BTreeSet::new();
    for listener in listeners {
        let name = &*listener.settings.name;
        for (bind, place) in listener.settings.bind.iter().zip(&listener.bind_places) {
            let (ip, port) = door(bind);
            // The ports of tcp and udp have nothing to do with each other.
            let udp = listener.settings.protocol == Protocol::Udp;
            let same = colliding(ip).into_iter().find_map(|ip| taken.get(&(udp, ip, port)));
            // One mistake for a range, not one for each of its ports.
            if let Some((other, first)) = same
                && told.insert(*place)
            {
                let (shown, first) = (show_bind(bind), report.spot(*first));
                let message = if *other == name {
                    format!("{shown} is bound twice by this listener; first on {first}")
                } else {
                    format!("{shown} is bound by the listener {} already, on {first}", quoted(other))
                };
                report.tell(*place, message);
            }
            taken.entry((udp, ip, port)).or_insert((name, *place));
        }
    }
}

/// The addresses at which the same port is the same door.
fn colliding(ip: Option<IpAddr>) -> Vec<Option<IpAddr>> {
    match ip {
        None => vec![None, Some(IpAddr::from([0_u8; 4])), Some(IpAddr::from([0_u16; 8]))],
        Some(ip) if ip.is_unspecified() => vec![None, Some(ip)],
        ip => vec![ip],
    }
}

fn check_health_port(pool: &DraftPool, unused: bool, ports: usize, report: &mut Report) {
    let health = &pool.settings.health;
    if health.check == Check::Off || health.port.is_some() || (ports == 1 && !unused) {
        return;
    }
    let listed = pool.settings.backends.iter().map(|backend| (&backend.name, backend.port));
    let listed = listed.zip(&pool.backend_places);
    let port = |source: &Source| (!source.finds_no_port()).then_some(0);
    let sources = pool.settings.sources.iter().map(|source| (&source.text, port(source)));
    let mut places = listed.chain(sources.zip(&pool.source_places));
    let Some(((name, _), place)) = places.find(|((_, port), _)| port.is_none()) else { return };
    let why = if unused {
        "no listener uses this pool".to_owned()
    } else if ports == 0 {
        return;
    } else {
        format!("clients come to {ports} ports")
    };
    let message =
        format!("the backend {} has no port and {why}, so checks do not know which to ask", quoted(name));
    report.tell_with_hint(
        *place,
        message,
        "give the backend a port, or the pool `health: { port: N }` or `health: { check: off }`",
    );
}

/// A backend that is a door of a listener which uses its pool would be dialled by us for ever.
fn check_loops(pool: &DraftPool, doors: &BTreeSet<(Option<IpAddr>, u16)>, report: &mut Report) {
    let by_ip: BTreeSet<Option<IpAddr>> = doors.iter().map(|(ip, _)| *ip).collect();
    for (backend, place) in pool.settings.backends.iter().zip(&pool.backend_places) {
        let ip = backend.ip.to_canonical();
        // Whatever is bound to every address answers on loopback too.
        let mut at = vec![Some(ip)];
        if ip.is_loopback() {
            at.extend([None, Some(IpAddr::from([0_u16; 8]))]);
            at.extend(ip.is_ipv4().then_some(Some(IpAddr::from([0_u8; 4]))));
        }
        let is_door = at.into_iter().any(|ip| match backend.port {
            Some(port) => doors.contains(&(ip, port)),
            None => by_ip.contains(&ip),
        });
        if is_door {
            let message = format!(
                "the backend {} is the listener itself: its connections would come back to it",
                quoted(&backend.name)
            );
            report.tell(*place, message);
        }
    }
}

fn door(bind: &Bind) -> (Option<IpAddr>, u16) {
    (bind.ip.map(|ip| ip.to_canonical()), bind.port)
}

fn show_bind(bind: &Bind) -> String {
    match bind.ip {
        Some(ip) => format!("{}:{}", show_ip(ip), bind.port),
        None => format!("port {}", bind.port),
    }
}

/// Sockets, for each data thread.
const BINDS_MAX: usize = 4_096;
/// Looking for a near name costs as much as there are pools.
const SUGGESTIONS_MAX: usize = 100;
/// A file with more pools is refused for that.
const CANDIDATES_MAX: usize = 1_000;
