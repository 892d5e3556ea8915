//! `server` and `server-template` of HAProxy: backends, and what the pool says for all of them.

use super::super::notes::{At, Notes};
use super::super::plan::Part;
use super::super::units::{self, host_and_port, is_of_another_kind, joined, milliseconds};
use super::super::yaml::Yaml;
use super::words::Line;

/// What servers say that is one for the whole pool here: the first word counts, and another one is told.
#[derive(Debug, Default)]
pub(super) struct OfServers {
    pub(super) checked: usize,
    pub(super) unchecked: usize,
    pub(super) has_maxconn: bool,
    /// Those that are told of clients by a PROXY header.
    pub(super) with_header: usize,
    pub(super) backups: usize,
    pub(super) check_ssl: bool,
    pub(super) check_port: Option<String>,
    pub(super) agent: bool,
}

/// Reads one; `before`: the words of `default-server`.
pub(super) fn read(line: &Line, before: &[String], pool: &mut Part, of: &mut OfServers, notes: &mut Notes) {
    let at = notes.at(line.number);
    let is_template = line.words[0] == "server-template";
    let skip = if is_template { 4 } else { 3 };
    let (Some(name), Some(address)) = (line.words.get(1), line.words.get(skip - 1)) else {
        notes.lost(&at, format!("`{}`: an address is missing", line.words.join(" ")));
        return;
    };
    let Some(address) = address_of(address, &at, notes) else { return };
    let own = line.words.get(skip..).unwrap_or_default();
    let mut entries: Vec<(String, Yaml)> = vec![("address".to_owned(), Yaml::word(&*address))];
    let is_name = is_host_name(&address);
    if !is_template && *name != address {
        entries.push(("name".to_owned(), Yaml::word(units::name(name))));
    }
    if is_name && !is_template {
        entries.push(("addresses".to_owned(), Yaml::word("one")));
    }
    if is_template && !is_name {
        notes.lost(&at, "a `server-template` of an address is one backend here");
    }
    let words: Vec<&str> = before.iter().chain(own).map(String::as_str).collect();
    let mut backend = Backend { entries, pool, of, at, check: false, fastest: None };
    backend.words(&words, notes);
    let Backend { entries, of, check, .. } = backend;
    if check {
        of.checked += 1;
    } else {
        of.unchecked += 1;
    }
    let item = match &entries[..] {
        [(_, address)] => address.clone(),
        _ => Yaml::Map(entries),
    };
    let at = notes.at(line.number);
    pool.push("backends", item, &at, notes);
}

/// A name that must be looked up, with or without a port.
pub(super) fn is_host_name(address: &str) -> bool {
    let (host, _) = host_and_port(address);
    host.parse::<std::net::IpAddr>().is_err() && !host.contains('$')
}

fn address_of(text: &str, at: &At, notes: &mut Notes) -> Option<String> {
    let bare = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().find_map(|one| text.strip_prefix(one));
    let bare = bare.unwrap_or(text);
    if is_of_another_kind(bare) || bare.contains('/') {
        notes.lost(
            at,
            format!(
                "`{text}`: a backend is an address with a port here: no Unix sockets, descriptors or QUIC"
            ),
        );
        return None;
    }
    if bare.contains('$') {
        return Some(bare.to_owned());
    }
    let (host, port) = host_and_port(bare);
    if host.is_empty() || matches!(host.as_str(), "*" | "0.0.0.0" | "::") {
        // HAProxy sends to the address that the client came to.
        notes.lost(at, format!("`{text}`: a backend needs an address of its own here"));
        return None;
    }
    if port.as_ref().is_some_and(|port| port.starts_with(['+', '-'])) {
        notes.lost(at, format!("`{text}`: a port is one number here, or none: the port the client came to"));
        return None;
    }
    let port = port.filter(|port| port != "0");
    if !units::is_backend(&host, port.as_deref()) {
        notes.lost(at, format!("`{text}`: no backend can be there"));
        return None;
    }
    Some(joined(&host, port.as_deref()))
}

struct Backend<'a> {
    entries: Vec<(String, Yaml)>,
    pool: &'a mut Part,
    of: &'a mut OfServers,
    at: At,
    check: bool,
    fastest: Option<u64>,
}

impl Backend<'_> {
    fn put(&mut self, key: &str, value: String) {
        self.entries.retain(|(known, _)| known != key);
        self.entries.push((key.to_owned(), Yaml::Word(value)));
    }

    /// One for the whole pool.
    fn of_pool(&mut self, way: &[&str], value: String, word: &str, notes: &mut Notes) {
        let new = Yaml::Word(value);
        match self.pool.body.get(way) {
            None => self.pool.set(way, new),
            Some(known) if *known == new => {}
            Some(_) => notes.different(
                &self.at,
                format!(
                    "`{word}` is one for the whole pool here (`{}`): the first one is taken",
                    way.join(".")
                ),
            ),
        }
    }

    // long because: each arm is a word of the other balancer
    fn words(&mut self, words: &[&str], notes: &mut Notes) {
        let mut rest = words.iter().copied();
        let (mut is_tls, mut is_disabled, mut counts_header) = (false, false, false);
        while let Some(word) = rest.next() {
            let mut next = || rest.next().unwrap_or_default();
            match word {
                "check" => self.check = true,
                "no-check" => self.check = false,
                "weight" => {
                    let weight = next();
                    if let Ok(weight) = weight.parse::<u32>() {
                        self.put("weight", weight.min(256).to_string());
                    }
                }
                "maxconn" => {
                    let most = next();
                    if most.parse::<u32>().is_ok_and(|most| most > 0) {
                        self.put("max_sessions", most.to_owned());
                        self.of.has_maxconn = true;
                    }
                }
                "backup" => {
                    self.of.backups += 1;
                    self.put("tier", "1".to_owned());
                }
                "disabled" => {
                    is_disabled = true;
                    notes.different(
                        &self.at,
                        "`disabled` is weight 0: `evenkeel weight POOL/BACKEND N` brings it in",
                    );
                }
                "inter" | "fall" | "rise" | "slowstart" => self.numbers(word, next(), notes),
                "fastinter" | "downinter" => {
                    let ms = milliseconds(next(), 1);
                    self.fastest = self.fastest.or(ms);
                    notes.unknown(&self.at, word, word);
                }
                "port" => {
                    let port = next().to_owned();
                    if self.of.check_port.as_ref().is_some_and(|known| *known != port) {
                        notes.lost(
                            &self.at,
                            format!("`port {port}` of the check: one port is asked of the whole pool"),
                        );
                    } else {
                        self.of.check_port = Some(port);
                    }
                }
                "check-ssl" => self.of.check_ssl = true,
                "send-proxy" | "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn"
                    if !counts_header =>
                {
                    counts_header = true;
                    self.of.with_header += 1;
                    if word == "send-proxy" {
                        self.of_pool(&["send_proxy"], "v1".to_owned(), word, notes);
                    } else {
                        if word != "send-proxy-v2" {
                            notes.different(
                                &self.at,
                                format!("`{word}` is `send_proxy: v2`, without what TLS told"),
                            );
                        }
                        self.of_pool(&["send_proxy"], "v2".to_owned(), word, notes);
                    }
                }
                "send-proxy" => self.of_pool(&["send_proxy"], "v1".to_owned(), word, notes),
                "send-proxy-v2" | "send-proxy-v2-ssl" | "send-proxy-v2-ssl-cn" => {
                    if word != "send-proxy-v2" {
                        notes.different(
                            &self.at,
                            format!("`{word}` is `send_proxy: v2`, without what TLS told"),
                        );
                    }
                    self.of_pool(&["send_proxy"], "v2".to_owned(), word, notes);
                }
                "check-send-proxy" => self.of_pool(&["health", "send_proxy"], "on".to_owned(), word, notes),
                "on-marked-down" => {
                    if next() == "shutdown-sessions" {
                        self.of_pool(&["on_down"], "close".to_owned(), word, notes);
                    }
                }
                "observe" => drop(next()),
                "error-limit" => {
                    let count = next();
                    if count.parse::<u32>().is_ok_and(|count| count > 0) {
                        self.of_pool(&["passive", "failures"], count.to_owned(), word, notes);
                    }
                }
                "ssl" | "verify" | "ca-file" | "crt" | "sni" | "alpn" | "ciphers" | "ciphersuites"
                | "crl-file" | "verifyhost" | "ssl-min-ver" | "ssl-max-ver" | "check-sni" | "check-alpn" => {
                    if !is_tls && word == "ssl" {
                        notes.lost(
                            &self.at,
                            "`ssl` to the server: the bytes are passed on as they come, and TLS is not begun here; a client that speaks TLS to the server is passed through",
                        );
                        is_tls = true;
                    }
                    if word != "ssl" {
                        next();
                    }
                }
                "agent-check" => self.of.agent = true,
                "resolvers"
                | "resolve-prefer"
                | "resolve-net"
                | "resolve-opts"
                | "init-addr"
                | "id"
                | "guid"
                | "cookie"
                | "agent-port"
                | "agent-addr"
                | "agent-inter"
                | "agent-send"
                | "on-error"
                | "proto"
                | "check-proto"
                | "pool-max-conn"
                | "pool-purge-delay"
                | "pool-low-conn"
                | "minconn"
                | "max-reuse"
                | "log-proto"
                | "on-marked-up"
                | "track"
                | "redir"
                | "source"
                | "usesrc"
                | "interface"
                | "maxqueue"
                | "tcp-ut"
                | "namespace"
                | "ws"
                | "set-proxy-v2-tlv-fmt"
                | "proxy-v2-options"
                | "shard"
                | "addr"
                | "socks4"
                | "hash-key"
                | "log-bufsize"
                | "init-state" => {
                    let value = next().to_owned();
                    self.others(word, &value, notes);
                }
                "enabled" => is_disabled = false,
                _ => notes.unknown(&self.at, word, &format!("server … {word}")),
            }
        }
        if is_disabled {
            // Whatever weight stands behind it.
            self.put("weight", "0".to_owned());
        }
    }

    fn numbers(&mut self, word: &str, value: &str, notes: &mut Notes) {
        match word {
            "inter" => {
                let inter = milliseconds(value, 1).map(|ms| units::duration(ms, units::INTERVAL));
                if let Some(inter) = inter {
                    self.of_pool(&["health", "interval"], inter, word, notes);
                }
            }
            "slowstart" => {
                let slow = milliseconds(value, 1).map(|ms| units::duration(ms, units::SLOW_START));
                if let Some(slow) = slow {
                    self.of_pool(&["slow_start"], slow, word, notes);
                }
            }
            _ => {
                if let Ok(count) = value.parse::<u32>() {
                    self.of_pool(&["health", word], count.clamp(1, 255).to_string(), word, notes);
                }
            }
        }
    }

    fn others(&mut self, word: &str, value: &str, notes: &mut Notes) {
        match word {
            "maxqueue" if value != "0" => self.of_pool(&["queue", "sessions"], value.to_owned(), word, notes),
            // How names are looked up is told at `resolvers`.
            "resolvers" | "resolve-prefer" | "resolve-opts" | "init-addr" | "id" | "guid" | "maxqueue" => {}
            "cookie" | "proto" | "check-proto" | "pool-max-conn" | "pool-purge-delay" | "pool-low-conn"
            | "max-reuse" | "ws" | "redir" => {
                let text = format!("`{word} {value}` is of HTTP");
                notes.tell(&self.at, super::super::notes::Standing::Http, text);
            }
            "source" if value.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) => {
                self.of_pool(&["connect_from"], value.to_owned(), word, notes);
            }
            "usesrc" if matches!(value, "client" | "clientip") => {
                self.of_pool(&["connect_from"], "client".to_owned(), word, notes);
            }
            "source" => {
                let (host, ports) = host_and_port(value);
                if host.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_unspecified()) {
                    notes.different(&self.at, format!("`source {value}`: ports are the system's choice"));
                    self.of_pool(&["connect_from"], host, word, notes);
                } else if ports.is_some() {
                    notes.lost(
                        &self.at,
                        format!("`source {value}`: `connect_from` of the pool is an address"),
                    );
                }
            }
            _ => notes.unknown(&self.at, word, &format!("server … {word} {value}")),
        }
    }
}
