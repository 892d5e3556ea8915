//! `bind` of HAProxy: addresses, port ranges, and what is said behind them.

use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units::{host_and_port, is_count, is_of_another_kind, joined};
use super::super::yaml::Yaml;
use super::words::Line;

/// Adds what one line binds to the listener.
// long because: each arm is a word of the other balancer
pub(super) fn read(line: &Line, listener: &mut Part, notes: &mut Notes) {
    let at = notes.at(line.number);
    let Some(addresses) = line.words.get(1) else { return };
    for address in addresses.split(',') {
        let is_v6only = line.words.iter().any(|word| word == "v6only");
        let read = one(address).map(|bind| {
            let is_port = bind.bytes().all(|one| one.is_ascii_digit() || one == b'-');
            if is_v6only && is_port { format!("[::]:{bind}") } else { bind }
        });
        match read {
            Ok(bind) => {
                listener.push("bind", Yaml::word(bind), &at, notes);
            }
            Err(why) => notes.lost(&at, format!("`bind {address}`: {why}")),
        }
    }
    let mut words = line.words.iter().skip(2).map(String::as_str);
    let mut ssl = false;
    while let Some(word) = words.next() {
        match word {
            "accept-proxy" => {
                let any = ["0.0.0.0/0", "::/0"].map(Yaml::word);
                listener.set(&["accept_proxy"], Yaml::List(any.into()));
                notes
                    .different(&at, "`accept-proxy` believes everybody: name your proxies in `accept_proxy`");
            }
            "ssl" => ssl = true,
            "crt" | "crt-list" | "ca-file" | "verify" | "alpn" | "ciphers" | "ciphersuites" | "curves"
            | "npn" | "ssl-min-ver" | "ssl-max-ver" | "crl-file" | "ca-verify-file" | "ecdhe"
            | "default-crt" | "tls-ticket-keys" | "ca-ignore-err" | "crt-ignore-err" | "sigalgs"
            | "client-sigalgs" => {
                ssl = true;
                words.next();
            }
            "backlog" => {
                if let Some(count) = words.next().and_then(|word| word.parse::<u32>().ok()) {
                    listener.word(&["backlog"], count.clamp(1, 65_535).to_string());
                }
            }
            "maxconn" => {
                if let Some(count) = words.next().filter(|word| is_count(word)) {
                    listener.word(&["limits", "sessions"], count);
                }
            }
            "transparent" => listener.word(&["freebind"], "on"),
            // The usual here.
            "v4v6" | "name" | "id" | "process" | "thread" | "nice" | "level" | "user" | "group" | "mode"
            | "uid" | "gid" | "guid-prefix" | "shards" | "severity-output" | "idle-ping" => {
                if word != "v4v6" {
                    words.next();
                }
            }
            "v6only" => {}
            "defer-accept"
            | "tfo"
            | "prefer-client-ciphers"
            | "strict-sni"
            | "allow-0rtt"
            | "generate-certificates"
            | "no-sslv3"
            | "no-tlsv10"
            | "no-tlsv11"
            | "no-tlsv12"
            | "no-tlsv13"
            | "no-tls-tickets"
            | "force-tlsv12"
            | "force-tlsv13"
            | "expose-fd" => {
                notes.unknown(&at, word, &format!("bind … {word}"));
            }
            _ => {
                let value = words.next().unwrap_or_default();
                notes.unknown(&at, word, format!("bind … {word} {value}").trim_end());
            }
        }
    }
    if ssl {
        notes.lost(
            &at,
            "TLS ends here no more: the bytes are passed on as they come, so the backends must speak TLS themselves",
        );
    }
}

fn one(address: &str) -> Result<String, &'static str> {
    let bare = ["ipv4@", "ipv6@", "tcp@", "tcp4@", "tcp6@"].iter().find_map(|one| address.strip_prefix(one));
    let bare = bare.unwrap_or(address);
    if is_of_another_kind(bare) || bare.contains('/') {
        return Err("only addresses with ports are bound here: no Unix sockets, descriptors or QUIC");
    }
    if bare.contains('$') {
        return Ok(bare.to_owned());
    }
    let (host, port) = host_and_port(bare);
    let port = port.ok_or("a port is missing")?;
    let (first, last) = port.split_once('-').unwrap_or((&port, &port));
    let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    if !is_port(first) || !is_port(last) {
        return Err("that is no port");
    }
    match host.as_str() {
        // Both families, unless it says `v6only`.
        "::" => Ok(port),
        "" | "*" | "0.0.0.0" => Ok(format!("0.0.0.0:{port}")),
        host if host.parse::<std::net::IpAddr>().is_ok() => Ok(joined(host, Some(&port))),
        _ => Err("a listener binds addresses, and this is a name"),
    }
}
