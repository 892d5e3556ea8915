//! `map $ssl_preread_server_name` of nginx with `proxy_pass $name`: routes by the name in TLS.

use super::super::notes::Notes;
use super::super::plan::{Part, Plan};
use super::super::units;
use super::super::yaml::Yaml;
use super::upstream;
use super::words::Directive;

/// What the map of a variable says, as routes of the listener; false: there is no such map, or it asks for something else.
pub(super) fn read(
    variable: &str,
    outer: &[&Directive],
    listener: &mut Part,
    plan: &mut Plan,
    notes: &mut Notes,
) -> bool {
    let is_it = |one: &&&Directive| {
        one.name() == "map"
            && one.word(1) == Some("$ssl_preread_server_name")
            && one.word(2).is_some_and(|name| {
                name.trim_matches(['$', '{', '}']) == variable.trim_matches(['$', '{', '}'])
            })
    };
    let Some(map) = outer.iter().find(is_it) else { return false };
    let mut routes = Vec::new();
    for one in map.block.iter().flatten() {
        let at = one.at();
        let (name, target) = (one.name(), one.word(1).unwrap_or_default());
        if routes.len() >= ROUTES_MAX {
            notes.lost(&at, format!("a `map` of more than {ROUTES_MAX} names: the rest is left out"));
            break;
        }
        match name {
            "hostnames" | "volatile" => {}
            "include" => notes.lost(&at, "`include` in a `map` is not read"),
            _ if target.is_empty() => {}
            "default" => listener.word(&["pool"], pool(target, one, plan)),
            name => match names(name) {
                Some(names) => {
                    let pool = pool(target, one, plan);
                    for name in names {
                        let keys = [("sni", name), ("pool", pool.clone())];
                        routes.push(Yaml::Map(
                            keys.map(|(key, value)| (key.to_owned(), Yaml::Word(value))).into(),
                        ));
                    }
                }
                None => notes
                    .lost(&at, format!("`{name}` in a `map`: a route is for a name, or for all below one")),
            },
        }
    }
    if !routes.is_empty() {
        listener.set(&["routes"], Yaml::List(routes));
    }
    listener.has(&["routes"]) || listener.has(&["pool"])
}

/// Of a listener.
const ROUTES_MAX: usize = 1_000;

fn names(name: &str) -> Option<Vec<String>> {
    if let Some(bare) = name.strip_prefix("*.") {
        return units::is_name(bare).then(|| vec![name.to_owned()]);
    }
    if let Some(bare) = name.strip_prefix('.') {
        return units::is_name(bare).then(|| vec![bare.to_owned(), format!("*.{bare}")]);
    }
    units::is_name(name).then(|| vec![name.to_owned()])
}

/// The pool of this name; one of its own for an address.
fn pool(target: &str, at: &Directive, plan: &mut Plan) -> String {
    let name = units::name(target);
    if !plan.pools.iter().any(|pool| pool.name == name) {
        let mut pool = Part::new(&name, format!("map to {target}, line {}", at.line));
        let backends = upstream::address(target).map_or_else(Vec::new, |address| vec![Yaml::Word(address)]);
        pool.set(&["backends"], Yaml::List(backends));
        pool.word(&["health", "check"], "off");
        plan.pools.push(pool);
    }
    name
}
