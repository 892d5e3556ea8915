//! The files in `conf/`: each is read without a mistake, and the reference says what leaving things out means.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use evenkeel::config::settings::{
    Balance, Bind, Check, Cidr, ConnectFrom, HashKey, LogSessions, OnDown, Passive, Queue, Rate, SendProxy,
    ShareLimit, SourceHash, Sticky, Workers,
};
use evenkeel::config::{describe, read};

#[test]
fn every_file_we_ship_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let mut found = 0;
    let of = |folder: &Path| fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in of(&folder).chain(of(&folder.join("ha"))).chain(of(&folder.join("containers/evenkeel"))) {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let name = path.display().to_string();
        if let Err(mistakes) = read(&name, &fs::read(&path).unwrap()) {
            panic!("{mistakes}");
        }
        found += 1;
    }
    assert!(found >= 10, "only {found} files in {}", folder.display());
}

#[test]
fn the_file_in_what_we_ship_for_kubernetes_is_read() {
    let text = include_str!("../../conf/kubernetes/evenkeel.yaml");
    let lines = text.lines().skip_while(|line| !line.starts_with("  evenkeel.yaml: |")).skip(1);
    let file: String = lines.take_while(|line| *line != "---").map(|line| format!("{line}\n")).collect();
    if let Err(mistakes) = read("evenkeel.yaml", file.as_bytes()) {
        panic!("{mistakes}");
    }
    assert!(file.contains("kubernetes:"), "{file}");
}

#[test]
fn leaving_out_every_optional_key_equals_writing_all_of_them() {
    let short = "
        listeners: { databases: { bind: 5432, pool: postgres }, dns: { bind: 53, protocol: udp, backends: [10.0.0.13] } }
        pools: { postgres: { backends: [10.0.0.11:5432, { address: 10.0.0.12:5432 }, db.example.org:5432] } }";
    assert_eq!(read("short", short.as_bytes()).unwrap(), read("reference", REFERENCE.as_bytes()).unwrap());
}

#[test]
fn the_reference_and_the_schema_have_every_key() {
    const POOL: &str = "/$defs/pool/properties";
    const LISTENER: &str = "/$defs/listener/properties";
    // What an unknown key is answered with lists the keys of its section; where the schema has that section.
    let probes: [(&str, &str, String); 24] = [
        ("zzz: 1", "the file", "/properties".into()),
        ("log: { zzz: 1 }", "`log`", "/properties/log/properties".into()),
        ("admin: { zzz: 1 }", "`admin`", "/properties/admin/properties".into()),
        ("shutdown: { zzz: 1 }", "`shutdown`", "/properties/shutdown/properties".into()),
        ("limits: { zzz: 1 }", "`limits`", "/properties/limits/properties".into()),
        ("defaults: { zzz: 1 }", "`defaults`", "/properties/defaults/properties".into()),
        ("listeners: { l: { zzz: 1 } }", "a listener", LISTENER.into()),
        (
            "listeners: { l: { timeouts: { zzz: 1 } } }",
            "`timeouts`",
            format!("{LISTENER}/timeouts/properties"),
        ),
        (
            "listeners: { l: { protocol: udp, limits: { zzz: 1 } } }",
            "the `limits` of a listener",
            format!("{LISTENER}/limits/properties"),
        ),
        (
            "listeners: { l: { protocol: udp, udp: { zzz: 1 } } }",
            "`udp`",
            format!("{LISTENER}/udp/properties"),
        ),
        (
            "listeners: { l: { keepalive: { zzz: 1 } } }",
            "`keepalive`",
            format!("{LISTENER}/keepalive/anyOf/0/properties"),
        ),
        ("pools: { p: { zzz: 1 } }", "a pool", POOL.into()),
        ("pools: { p: { balance: { zzz: 1 } } }", "`balance`", format!("{POOL}/balance/anyOf/1/properties")),
        (
            "pools: { p: { balance: { source_hash: { zzz: 1 } } } }",
            "`source_hash`",
            format!("{POOL}/balance/anyOf/1/properties/source_hash/properties"),
        ),
        (
            "pools: { p: { backends: [{ zzz: 1 }] } }",
            "a backend",
            format!("{POOL}/backends/items/anyOf/1/properties"),
        ),
        ("pools: { p: { sticky: { zzz: 1 } } }", "`sticky`", format!("{POOL}/sticky/anyOf/0/properties")),
        ("pools: { p: { passive: { zzz: 1 } } }", "`passive`", format!("{POOL}/passive/anyOf/0/properties")),
        ("pools: { p: { queue: { zzz: 1 } } }", "`queue`", format!("{POOL}/queue/anyOf/0/properties")),
        ("pools: { p: { connect: { zzz: 1 } } }", "`connect`", format!("{POOL}/connect/properties")),
        ("pools: { p: { health: { zzz: 1 } } }", "`health`", format!("{POOL}/health/properties")),
        (
            "pools: { p: { health: { check: { zzz: 1 } } } }",
            "`check`",
            format!("{POOL}/health/properties/check/anyOf/1/properties"),
        ),
        (
            "pools: { p: { health: { check: { tcp: { zzz: 1 } } } } }",
            "`tcp`",
            format!("{POOL}/health/properties/check/anyOf/1/properties/tcp/properties"),
        ),
        (
            "pools: { p: { health: { check: { udp: { zzz: 1 } } } } }",
            "the `udp` of `check`",
            format!("{POOL}/health/properties/check/anyOf/1/properties/udp/properties"),
        ),
        (
            "pools: { p: { health: { check: { dns: { zzz: 1 } } } } }",
            "`dns`",
            format!("{POOL}/health/properties/check/anyOf/1/properties/dns/properties"),
        ),
    ];
    let schema: serde_json::Value = serde_json::from_str(&evenkeel::config::schema()).unwrap();
    for (text, section, pointer) in probes {
        let mistakes = read("probe", text.as_bytes()).unwrap_err();
        let start = format!("unknown key `zzz` in {section}; its keys are ");
        let keys = mistakes.list().iter().find_map(|mistake| mistake.message.strip_prefix(&start));
        let keys = keys.unwrap_or_else(|| panic!("{section}: {mistakes}"));
        let keys: BTreeSet<&str> = keys.split(", ").collect();
        for key in &keys {
            assert!(REFERENCE.contains(&format!("{key}:")), "`{key}` of {section} is not in the reference");
        }
        let known = schema.pointer(&pointer).unwrap_or_else(|| panic!("the schema has no {pointer}"));
        let known: BTreeSet<&str> = known.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(known, keys, "the schema of {section}");
    }
}

#[test]
fn every_form_of_every_key_is_understood() {
    let settings = read("all", ALL_FORMS.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!(settings.workers, Workers::Count(4.try_into().unwrap()));
    assert_eq!(settings.admin.http, Some("[::1]:9900".parse().unwrap()));
    let names: Vec<&str> = settings.pools.iter().map(|pool| &*pool.name).collect();
    assert_eq!(names, ["waiting", "shared", "a"], "pools come in the order of the file");
    let [a, b, c] = &settings.listeners[..] else { panic!("three listeners") };
    assert_eq!((a.pool, b.pool, c.pool), (2, 1, 1));
    let bind = |ip: &str, port| Bind { ip: Some(ip.parse().unwrap()), port };
    let expected =
        [bind("10.0.0.5", 80), bind("::", 81), Bind { ip: None, port: 90 }, Bind { ip: None, port: 91 }];
    assert_eq!(a.bind, expected);
    assert_eq!(a.timeouts.idle, Some(Duration::from_millis(250)));
    assert_eq!(a.timeouts.half_closed, None);
    assert_eq!(a.timeouts.header, Duration::from_secs(60));
    assert_eq!(a.keepalive, None);
    let cidr = |ip: &str, bits| Cidr { ip: ip.parse().unwrap(), bits };
    let expected =
        [cidr("10.0.0.0", 8), cidr("192.0.2.1", 32), cidr("2001:db8::", 32), cidr("198.51.100.0", 24)];
    assert_eq!(a.accept_proxy, expected);
    assert_eq!(b.accept_proxy, [cidr("0.0.0.0", 0)]);
    let sent = settings.pools.iter().map(|pool| (pool.send_proxy, pool.health.send_proxy));
    let each = [SendProxy::Off, SendProxy::V2, SendProxy::V1].map(|word| (word, word));
    assert_eq!(sent.collect::<Vec<_>>(), each);
    assert_eq!(b.keepalive.unwrap().idle, Duration::from_secs(60));
    assert_eq!((c.timeouts, c.keepalive), (b.timeouts, b.keepalive), "the merge key brings them");
    let talk = Check::TcpTalk { send: b"PING\r\n".to_vec(), expect: vec![0xff, b'+'] };
    assert_eq!(settings.pools[2].health.check, talk);
    assert_eq!(settings.pools[2].health.port, Some(8008));
    let hash = SourceHash { key: HashKey::SourceIpPort, bounded_load: Some(1.25), mask_v4: 24, mask_v6: 64 };
    assert_eq!(settings.pools[1].balance, Balance::SourceHash(hash));
    let [one, two] = &settings.pools[1].backends[..] else { panic!("two backends") };
    assert_eq!((&*one.name, one.weight, one.tier, one.max_sessions), ("one", 0, 255, Some(5)));
    assert_eq!((two.port, two.ip), (None, "fd00::1".parse().unwrap()));
    assert_eq!(settings.pools[0].health.check, Check::Off);
    let from = ["10.0.0.5", "fd00::5"].map(|ip| ip.parse().unwrap());
    assert_eq!(settings.pools[1].connect_from, ConnectFrom::Addresses(from.to_vec()));
    assert_eq!(settings.pools[0].connect_from, ConnectFrom::Any);
    let pool = &settings.pools[1];
    assert_eq!((pool.max_sessions, pool.on_down, pool.slow_start), (Some(9), OnDown::Close, None));
    assert_eq!(pool.sticky, Some(Sticky { lasts: Duration::from_secs(3_600), entries: 5 }));
    assert_eq!(
        pool.passive,
        Some(Passive {
            failures: 7,
            empty: None,
            silent: Some(Duration::from_secs(20)),
            slow: Some(5.0),
            eject: Duration::from_secs(60),
            max_ejected_percent: 100
        })
    );
    assert_eq!(pool.queue, Some(Queue { sessions: 8, timeout: Duration::from_secs(2) }));
    let pool = &settings.pools[0];
    assert_eq!((pool.max_sessions, pool.sticky, pool.queue), (None, None, None));
    assert_eq!(
        pool.passive,
        Some(Passive {
            failures: 5,
            empty: Some(5),
            silent: None,
            slow: None,
            eject: Duration::from_secs(10),
            max_ejected_percent: 50
        })
    );
}

#[test]
fn defaults_lie_below_what_each_says_itself() {
    let settings = read("defaults", WITH_DEFAULTS.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let [a, b, dns] = &settings.listeners[..] else { panic!("three listeners") };
    let hour = Some(Duration::from_secs(3_600));
    assert_eq!((a.timeouts.idle, a.timeouts.half_closed), (hour, Some(Duration::from_secs(9))));
    assert_eq!((b.timeouts.idle, b.timeouts.half_closed), (None, None), "a key of a section at a time");
    // What is for tcp alone is passed over, `idle: off` included.
    assert_eq!((dns.timeouts.idle, dns.timeouts.lifetime), (hour, Some(Duration::from_secs(5))));
    assert_eq!((a.backlog, b.backlog, a.freebind, b.freebind), (Some(5), Some(6), true, false));
    assert_eq!((a.keepalive, b.keepalive.unwrap().count), (None, 9));
    assert_eq!(dns.udp.responses, Some(1));
    assert_eq!((a.log_sessions, b.log_sessions), (Some(LogSessions::All), None));
    assert_eq!((a.deny.len(), b.deny.len()), (2, 0));
    let rate = Rate { count: 60, per: Duration::from_secs(60) };
    assert_eq!((a.limits.rate_per_source, a.limits.sessions), (Some(rate), ShareLimit::Off));
    // A default that no longer fits what a listener says itself is no mistake.
    assert_eq!((b.limits.rate, b.limits.rate_per_source), (Some(Rate { count: 1, ..rate }), Some(rate)));
    let pools: Vec<_> =
        settings.pools.iter().map(|pool| (&*pool.name, &pool.balance, &pool.health)).collect();
    let hash = SourceHash { key: HashKey::SourceIpPort, bounded_load: None, mask_v4: 32, mask_v6: 64 };
    let [("a", a, a_health), ("dns", _, dns_health), ("shared", shared, shared_health)] = &pools[..] else {
        panic!("three pools: {pools:?}")
    };
    assert_eq!((*a, *shared), (&Balance::SourceHash(hash), &Balance::First));
    assert_eq!((a_health.rise, a_health.fall), (7, 8));
    assert_eq!((shared_health.rise, shared_health.fall), (7, 1));
    assert_eq!(dns_health.check, Check::Off, "no check was written");
    let on_down: Vec<OnDown> = settings.pools.iter().map(|pool| pool.on_down).collect();
    assert_eq!(on_down, [OnDown::Keep, OnDown::Rehome, OnDown::Keep], "`rehome` is for flows");
}

#[test]
fn a_default_that_costs_much_for_each_listener_is_refused() {
    let networks: String = (0..2_000).map(|n| format!("10.0.{}.{},", n / 256, n % 256)).collect();
    let listeners: String =
        (0..500).map(|n| format!("  l{n}: {{ bind: {}, backends: [10.0.0.1:1] }}\n", 1_000 + n)).collect();
    let text = format!("defaults: {{ listener: {{ deny: [{networks}] }} }}\nlisteners:\n{listeners}");
    let mistakes = read("costly", text.as_bytes()).unwrap_err();
    assert_eq!(mistakes.count(), 1);
    assert!(mistakes.list()[0].message.contains("for each of 500 listeners"), "{mistakes}");
}

#[test]
fn a_description_fits_the_screen() {
    let settings = read("all", ALL_FORMS.as_bytes()).unwrap();
    assert_eq!(describe(&settings), ALL_FORMS_DESCRIBED);
    let name = "n".repeat(128);
    let wide = format!(
        "listeners: {{ {name}: {{ bind: 1000-1999, pool: p{name2} }} }}\n\
         pools: {{ p{name2}: {{ backends: [{{ address: 10.0.0.1:1, name: {name} }}] }} }}",
        name2 = &name[1..]
    );
    let settings = read("wide", wide.as_bytes()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let text = describe(&settings);
    assert!(text.contains("1000-1999"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

const REFERENCE: &str = include_str!("../../conf/reference.yaml");

const WITH_DEFAULTS: &str = "
defaults:
  listener:
    timeouts: { idle: 1h, half_closed: 9s, lifetime: 5s }
    backlog: 5
    freebind: on
    keepalive: { count: 9 }
    deny: [10.0.0.1, 10.0.0.2]
    limits: { rate_per_source: 60/m }
    udp: { responses: 1 }
    log_sessions: all
  pool: { balance: { source_hash: { key: source_ip_port } }, health: { rise: 7, fall: 8 }, on_down: rehome }
listeners:
  a: { bind: 80, backends: [10.0.0.3:80], keepalive: off }
  b:
    bind: 81
    pool: shared
    timeouts: { idle: off, half_closed: off }
    deny: []
    backlog: 6
    freebind: off
    limits: { rate: 1/m }
    log_sessions: inherit
  dns: { bind: 53, protocol: udp, backends: [10.0.0.4] }
pools:
  shared: { backends: [10.0.0.5:81], balance: first, health: { fall: 1 } }
";

const ALL_FORMS: &str = r#"
pools:
  waiting: { backends: [10.0.0.9], health: { check: false }, balance: first }
  shared:
    balance: { source_hash: { key: source_ip_port, bounded_load: 1.25, mask_v4: 24 } }
    backends:
      - { address: 10.0.0.7:5432, name: one, weight: 0, tier: 255, max_sessions: 5 }
      - "[fd00::1]"
    connect: { timeout: 10ms, attempts: 16 }
    connect_from: [10.0.0.5, fd00::5]
    health: { port: 5432, interval: 1h, timeout: 1m, rise: 255, fall: 1 }
    send_proxy: v2
    when_none: try_all
    max_sessions: 9
    sticky: { for: 1h, entries: 5 }
    passive: { failures: 7, empty: off, silent: 20s, slow: 5, eject: 1m, max_ejected: 100% }
    queue: { sessions: 8, timeout: 2s }
    on_down: close
workers: 4
log:
admin: { http: "[::1]:9900" }
listeners:
  a:
    bind: [10.0.0.5:80, "[::]:81", 90-91]
    backends: [10.0.0.1]
    accept_proxy: [10.0.0.0/8, 192.0.2.1, 2001:db8::/32, "::ffff:198.51.100.0/120"]
    send_proxy: v1
    health: { check: { tcp: { send: 'PING\r\n', expect: '\xff+' } }, port: 8008 }
    timeouts: { header: 1m, idle: 250ms, half_closed: off }
    keepalive: off
  b: &b
    bind: "5432"
    pool: shared
    allow: 10.0.0.0/8
    limits: { sessions: 90, sessions_per_source: 9, rate: 500/s, rate_per_source: 60/m }
    accept_proxy: 0.0.0.0/0
    keepalive: true
    timeouts: { lifetime: 8760h }
  c:
    <<: *b
    bind: 5433
"#;

const ALL_FORMS_DESCRIBED: &str = "\
LISTENER  PROTOCOL           BIND                         POOL    BALANCE
a         tcp, accept_proxy  10.0.0.5:80, [::]:81, 90-91  a       round_robin
b         tcp, accept_proxy  5432                         shared  source_hash (source_ip_port, 1.25)
c         tcp, accept_proxy  5433                         shared  source_hash (source_ip_port, 1.25)

LISTENER  ALLOW       DENY  LIMITS
b         10.0.0.0/8  none  90 sessions, 9 sessions per source, 500/s, 60/m per source
c         10.0.0.0/8  none  90 sessions, 9 sessions per source, 500/s, 60/m per source

POOL     BACKEND    ADDRESS        WEIGHT  TIER  MAX_SESSIONS
waiting  10.0.0.9   10.0.0.9       1       0     off
shared   one        10.0.0.7:5432  0       255   5
         [fd00::1]  [fd00::1]      1       0     off
a        10.0.0.1   10.0.0.1       1       0     off

POOL     BALANCE                             PROXY  HEALTH
waiting  first                               off    off
shared   source_hash (source_ip_port, 1.25)  v2     tcp every 1h, rise 255, fall 1, port 5432
a        round_robin                         v1     tcp talk every 2s, rise 2, fall 3, port 8008

POOL    CONNECT_FROM
shared  10.0.0.5, fd00::5
";
