//! What becomes of configurations.

use super::*;
use crate::config;
use crate::config::settings::{Settings, Word};

const NOTHING: Include<'_> = &|pattern| Err(format!("{pattern} is not here"));

fn imported(whose: Whose, text: &str) -> Imported {
    import(whose, "f", text, NOTHING)
}

/// What is served by it; it must be right.
#[track_caller]
fn served(imported: &Imported) -> Settings {
    config::read("f", imported.yaml.as_bytes()).unwrap_or_else(|told| panic!("{told}\n{}", imported.yaml))
}

fn told(imported: &Imported, standing: Standing) -> Vec<String> {
    imported.notes.iter().filter(|note| note.standing == standing).map(ToString::to_string).collect()
}

#[track_caller]
fn has(lines: &[String], part: &str) {
    assert!(lines.iter().any(|line| line.contains(part)), "{part:?} is not among {lines:#?}");
}

#[test]
fn a_tcp_proxy_of_haproxy_is_one_of_ours() {
    let text = r#"
global
    maxconn 4000
    nbthread 2
    user haproxy
defaults
    mode tcp
    timeout connect 5s
    timeout client 30m
    timeout server 1h
    option redispatch
    retries 2
frontend pg
    bind *:5432,10.0.0.1:5433 backlog 100
    maxconn 500
    acl inside src 10.0.0.0/8 192.168.1.7
    tcp-request connection reject unless inside
    default_backend db
backend db
    balance leastconn
    default-server inter 3s fall 2 rise 3
    server a 10.0.0.11:5432 check maxconn 100 weight 10 on-marked-down shutdown-sessions
    server b 10.0.0.12:5432 check maxconn 100
    server c 10.0.0.13:5432 check backup
"#;
    let imported = imported(Whose::HAProxy, text);
    let settings = served(&imported);
    assert_eq!(imported.counts, (1, 1));
    let (listener, pool) = (&settings.listeners[0], &settings.pools[0]);
    assert_eq!((&*listener.name, listener.bind.len(), listener.backlog), ("pg", 2, Some(100)));
    assert_eq!(listener.allow.len(), 2);
    assert_eq!(listener.timeouts.idle.map(|idle| idle.as_secs()), Some(1_800));
    assert_eq!((&*pool.name, pool.balance.word()), ("db", "least_connections"));
    let backends: Vec<_> =
        pool.backends.iter().map(|one| (&*one.name, one.weight, one.tier, one.max_sessions)).collect();
    assert_eq!(backends, [("a", 10, 0, Some(100)), ("b", 1, 0, Some(100)), ("c", 1, 1, None)]);
    assert_eq!((pool.health.fall, pool.health.rise, pool.connect.attempts), (2, 3, 3));
    assert!(pool.queue.is_some(), "who finds all of them full waits there");
    assert_eq!(told(&imported, Standing::Lost), [""; 0]);
    assert!(imported.yaml.contains("# frontend pg, line 13"), "{}", imported.yaml);
}

#[test]
fn what_haproxy_has_and_we_have_not_is_told_with_its_line() {
    let text = r#"
listen web
    mode http
    bind :80
    server a 10.0.0.1:80
listen tls
    mode tcp
    bind :443 ssl crt /etc/site.pem
    balance url_param id
    stick-table type ip size 100k expire 30m peers p
    stick on src
    tcp-request content reject if { dst_port 81 }
    use_backend other if { path /x }
    option httpchk GET /up
    server a 10.0.0.1:80 check ssl verify none
    server b db.example.org:80 check resolvers d
    server u unix@/run/x.sock
"#;
    let imported = imported(Whose::HAProxy, text);
    let settings = served(&imported);
    assert!(settings.pools[0].sticky.is_some());
    has(&told(&imported, Standing::Http), "f:2: `listen web` is of mode http");
    let lost = told(&imported, Standing::Lost);
    for part in [
        "f:8: TLS ends here no more",
        "f:9: `balance url_param id`",
        "f:10: `peers`",
        "f:12: `tcp-request content reject if { dst_port 81 }`",
        "f:13: `use_backend other",
        "f:14: `option httpchk` for /up",
        "f:15: `ssl` to the server",
        "f:17: `unix@/run/x.sock`",
    ] {
        has(&lost, part);
    }
    // A name is one backend there.
    assert!(imported.yaml.contains("addresses: one"), "{}", imported.yaml);
    // All of it stands in the file, too.
    assert!(imported.yaml.contains("# lost, line 8: TLS ends here no more"), "{}", imported.yaml);
}

#[test]
fn the_recipes_of_patroni_and_of_sentinel_become_roles() {
    let text = r#"
defaults
    mode tcp
listen primary
    bind *:5000
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 3s fall 3 rise 2 on-marked-down shutdown-sessions
    server pg1 10.0.0.1:5432 maxconn 100 check port 8008
    server pg2 10.0.0.2:5432 maxconn 100 check port 8008
listen redis
    bind *:6379
    option tcp-check
    tcp-check send AUTH\ secret\r\n
    tcp-check send PING\r\n
    tcp-check expect string +PONG
    tcp-check send info\ replication\r\n
    tcp-check expect string role:master
    server r1 10.0.0.1:6379 check inter 1s
"#;
    let imported = imported(Whose::HAProxy, text);
    let settings = served(&imported);
    assert_eq!(settings.listeners.iter().map(|one| one.role.word()).collect::<Vec<_>>(), ["primary"; 2]);
    assert!(
        imported.yaml.contains("check: patroni") && imported.yaml.contains("redis: { password: secret }"),
        "{}",
        imported.yaml
    );
}

#[test]
fn clients_go_by_name_where_they_did() {
    let text = r#"
frontend tls
    bind :443-444
    tcp-request inspect-delay 5s
    tcp-request content accept if { req.ssl_hello_type 1 }
    acl old req.ssl_sni -i old.example.org
    acl old req.ssl_sni -i older.example.org
    use_backend db if { req.ssl_sni -i db.example.org }
    use_backend db if old { src 10.0.0.0/8 }
    use_backend web if { req.ssl_sni -m end .web.example.org } or { dst_port 444 }
    use_backend gone if { req.ssl_sni gone.example.org }
    default_backend web
backend db
    server a 10.0.0.1:443
backend web
    server a 10.0.0.2:443
"#;
    let imported = imported(Whose::HAProxy, text);
    served(&imported);
    for part in [
        "{ sni: db.example.org, pool: db }",
        "{ sni: older.example.org, from: [10.0.0.0/8], pool: db }",
        "{ sni: '*.web.example.org', pool: web }",
        "{ port: 444, pool: web }",
    ] {
        assert!(imported.yaml.contains(part), "{part}: {}", imported.yaml);
    }
    has(&told(&imported, Standing::Lost), "a route to `gone` is left out");
    let text = r#"
stream {
    upstream db { server 10.0.0.1:443; }
    map $ssl_preread_server_name $to { hostnames; db.example.org db; .web.example.org 10.0.0.2:443; ~^x lost; default db; }
    server { listen 443; ssl_preread on; proxy_pass $to; }
}
"#;
    let imported = self::imported(Whose::Nginx, text);
    served(&imported);
    for part in
        ["{ sni: db.example.org, pool: db }", "{ sni: '*.web.example.org', pool: 10.0.0.2:443 }", "pool: db"]
    {
        assert!(imported.yaml.contains(part), "{part}: {}", imported.yaml);
    }
    has(&told(&imported, Standing::Lost), "`~^x` in a `map`");
}

#[test]
fn lists_decide_as_the_rules_did() {
    let list = |rules: &str| {
        let text = format!(
            "listen x\n bind :1\n acl a src 10.0.0.0/8\n acl b src 10.1.0.0/16\n{rules}\n server s 192.0.2.1:1"
        );
        let settings = served(&imported(Whose::HAProxy, &text));
        (settings.listeners[0].allow.len(), settings.listeners[0].deny.len())
    };
    assert_eq!(list(" tcp-request connection reject if a"), (0, 1));
    assert_eq!(list(" tcp-request connection reject if a or b"), (0, 2));
    assert_eq!(list(" tcp-request connection reject if !a"), (1, 0));
    assert_eq!(list(" tcp-request connection accept if a\n tcp-request connection reject"), (1, 0));
    // All but these of a network: who is in neither list is let in still.
    assert_eq!(list(" tcp-request connection accept if b\n tcp-request connection reject if a"), (3, 1));
    // The first that fits decides: the longer one behind it is never asked.
    let first = " tcp-request connection reject if a\n tcp-request connection accept if b\n tcp-request connection reject";
    assert_eq!(list(first), (0, 2));
    assert_eq!(list(" tcp-request connection reject"), (0, 2));
    assert_eq!(list(" tcp-request connection accept if { path /x }\n tcp-request connection reject"), (0, 2));
    assert_eq!(
        list(" tcp-request content accept if { req.ssl_hello_type 1 }\n tcp-request content reject"),
        (0, 0)
    );
    assert_eq!(list(" tcp-request connection reject if a b"), (0, 0));
    assert_eq!(list(" tcp-request connection reject if { src 1.2.3.4 }"), (0, 1));
}

#[test]
fn a_stream_of_nginx_is_listeners_and_pools() {
    let text = r#"
worker_processes 4;
events { worker_connections 1024; }
http { server { listen 80; location / { return 200; } } }
stream {
    proxy_timeout 10m;
    upstream db {
        least_conn;
        server 10.0.0.1:5432 weight=5 max_fails=3 fail_timeout=30s;
        server 10.0.0.2:5432 max_conns=100;
        server 10.0.0.3:5432 backup;
    }
    upstream dns { hash $remote_addr consistent; server 10.0.0.1:53; server 10.0.0.2:53; }
    server { listen 5432 so_keepalive=on; proxy_pass db; proxy_connect_timeout 2s; allow 10.0.0.0/8; deny all; }
    server { listen 53 udp reuseport; proxy_pass dns; proxy_responses 1; proxy_timeout 5s; }
    server { listen 127.0.0.1:6379; proxy_pass 10.0.0.9:6379; proxy_protocol on; }
    map $remote_addr $name { default db; }
    server { listen 443; ssl_preread on; proxy_pass $name; }
}
"#;
    let imported = imported(Whose::Nginx, text);
    let settings = served(&imported);
    assert_eq!(imported.counts, (3, 3));
    let db = &settings.pools[0];
    assert_eq!((db.balance.word(), db.backends[0].weight, db.backends[2].tier), ("least_connections", 5, 1));
    let passive = db.passive.unwrap();
    assert_eq!((passive.failures, passive.eject.as_secs()), (3, 30));
    assert_eq!(settings.listeners[0].timeouts.idle.map(|idle| idle.as_secs()), Some(600));
    assert_eq!(settings.listeners[1].udp.responses, Some(1));
    assert_eq!(settings.pools[1].balance.word(), "source_hash");
    has(&told(&imported, Standing::Http), "f:4: `http`");
    let lost = told(&imported, Standing::Lost);
    has(&lost, "f:17: `map $remote_addr $name`");
    has(&lost, "f:18: `proxy_pass $name`");
}

#[test]
fn files_that_are_included_are_read_and_named() {
    let include: Include<'_> = &|pattern| match pattern {
        "d/*.conf" => Ok(vec![(
            "d/a.conf".to_owned(),
            "server { listen 1; proxy_pass 10.0.0.1:1; oddity on; }".to_owned(),
        )]),
        "loop" => Ok(vec![("loop".to_owned(), "include loop;".to_owned())]),
        _ => Err("cannot be read".to_owned()),
    };
    let text = "stream { include d/*.conf; include loop; include none; }";
    let imported = import(Whose::Nginx, "f", text, include);
    assert_eq!(imported.counts, (1, 1));
    let lost = told(&imported, Standing::Lost);
    has(&lost, "d/a.conf:1: `oddity on`");
    has(&lost, "loop:1: `include loop`: files include each other too deep");
    has(&lost, "f:1: `include none`: cannot be read");
}

#[test]
fn routers_of_traefik_are_listeners() {
    let text = r#"
entryPoints:
  pg: { address: ":5432", proxyProtocol: { trustedIPs: [10.0.0.0/8] } }
  game: { address: ":27015/udp", udp: { timeout: 10s } }
tcp:
  routers:
    db: { entryPoints: [pg], rule: "HostSNI(`*`)", service: db, middlewares: [inside] }
    named: { entryPoints: [pg], rule: "HostSNI(`a.example.org`)", service: db }
  middlewares: { inside: { ipAllowList: { sourceRange: [10.0.0.0/8] } } }
  services:
    db: { loadBalancer: { proxyProtocol: { version: 2 }, servers: [{ address: "10.0.0.1:5432" }, { address: "10.0.0.2:5432" }] } }
udp:
  routers: { g: { entryPoints: [game], service: db } }
  services: { db: { loadBalancer: { servers: [{ address: "10.0.0.1:27015" }] } } }
"#;
    let imported = imported(Whose::Traefik, text);
    // Two routers of one entry point bind the same address: that is told by the check of the file.
    let yaml = imported.yaml.replacen("  named:", "  ignored:", 1);
    assert!(config::read("f", yaml.as_bytes()).is_err());
    has(&told(&imported, Standing::Lost), "HostSNI(`a.example.org`)");
    assert!(
        imported.yaml.contains("allow: [10.0.0.0/8]") && imported.yaml.contains("send_proxy: v2"),
        "{}",
        imported.yaml
    );
    assert_eq!(imported.counts, (3, 2));
}

#[test]
fn whose_it_is_shows() {
    assert_eq!(guess("global\n daemon\n"), Some(Whose::HAProxy));
    assert_eq!(guess("# x\nstream {\n}\n"), Some(Whose::Nginx));
    assert_eq!(guess("tcp:\n  routers: {}\n"), Some(Whose::Traefik));
    assert_eq!(guess("listeners: { a: { bind: 1 } }\n"), None);
}
