//! Whatever stands in a configuration gives a file that is right.

use proptest::prelude::*;

use super::*;
use crate::config;

const NOTHING: Include<'_> = &|pattern| Err(format!("{pattern} is not here"));

fn imported(whose: Whose, text: &str) -> Imported {
    import(whose, "f", text, NOTHING)
}

/// Each is as long as a file may be, and asks for much.
#[test]
// long because: each case is a line
fn eight_mebibytes_are_answered_in_bounded_time() {
    let filled = |line: &dyn Fn(usize) -> String| {
        let mut text = String::new();
        for at in 0.. {
            if text.len() > BYTES {
                break;
            }
            text.push_str(&line(at));
        }
        text
    };
    let numbered = |at: usize| format!("10.{}.{}.{}", at >> 16 & 255, at >> 8 & 255, at & 255);
    let cases: Vec<(Whose, String)> = vec![
        (
            Whose::HAProxy,
            format!("listen x\n bind :1\n{}", filled(&|at| format!(" server s{at} {}:1\n", numbered(at)))),
        ),
        (
            Whose::HAProxy,
            format!(
                "defaults\n{}{}",
                " timeout client 1s\n".repeat(1_900),
                filled(&|at| format!("listen l{at}\n"))
            ),
        ),
        (
            Whose::HAProxy,
            format!(
                "listen x\n{}",
                filled(&|at| format!(" acl a src {}\n tcp-request connection reject if a\n", numbered(at)))
            ),
        ),
        (
            Whose::HAProxy,
            format!(
                "frontend x\n{}",
                filled(&|at| format!(" use_backend b if {{ req.ssl_sni n{at}.example.org }}\n"))
            ),
        ),
        (
            Whose::HAProxy,
            filled(&|at| format!("listen l{at}\n bind :1\n default-server weight 1\n server a 10.0.0.1:1\n")),
        ),
        (Whose::HAProxy, filled(&|at| format!(" oddity{at}\n"))),
        (Whose::HAProxy, "\\\n".repeat(BYTES / 2)),
        (
            Whose::Nginx,
            format!(
                "stream {{ {} }}",
                filled(&|at| format!(
                    "server {{ listen {}:1; proxy_pass {}:1; }}\n",
                    numbered(at),
                    numbered(at + 7)
                ))
            ),
        ),
        (
            Whose::Nginx,
            format!(
                "stream {{ upstream u {{ {} }} }}",
                filled(&|at| format!("server {}:1;\n", numbered(at)))
            ),
        ),
        (
            Whose::Nginx,
            format!(
                "stream {{ server {{ listen 1; proxy_pass 10.0.0.1:1; {} }} }}",
                filled(&|at| format!("deny {};\n", numbered(at)))
            ),
        ),
        (
            Whose::Nginx,
            format!(
                "stream {{ map $ssl_preread_server_name $x {{ {} }} {} }}",
                filled(&|at| format!("n{at} u;\n")),
                "server { listen 1; ssl_preread on; proxy_pass $x; }".repeat(1_000)
            ),
        ),
        (Whose::Nginx, "{".repeat(BYTES)),
        (Whose::Nginx, "a {".repeat(BYTES / 3)),
        (Whose::Traefik, format!("tcp:\n  services:\n{}", filled(&|at| format!("    s{at}: {{}}\n")))),
    ];
    for (number, (whose, text)) in cases.iter().enumerate() {
        let began = std::time::Instant::now();
        let imported = imported(*whose, text);
        assert!(imported.notes.len() <= 6_000, "{number}");
        // Some tenths of a second where it is quiet and optimised; quadratic would be minutes.
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{number} took {:?}", began.elapsed());
        println!("{number}: {:?}", began.elapsed());
    }
}

const BYTES: usize = 8 << 20;

/// Words that may stand in a line.
fn words(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(all).prop_map(str::to_owned)
}

const HAPROXY: &[&str] = &[
    "\nfrontend",
    "\nbackend",
    "\nlisten",
    "\ndefaults",
    "\nglobal",
    "\nresolvers",
    "\n bind",
    "\n server",
    "\n server-template",
    "\n default-server",
    "\n balance",
    "\n timeout",
    "\n option",
    "\n tcp-check",
    "\n stick",
    "\n stick-table",
    "\n acl",
    "\n tcp-request",
    "\n use_backend",
    "\n default_backend",
    "\n mode",
    "\n maxconn",
    "\n retries",
    "\n rate-limit",
    "\n hard-stop-after",
    "\n nbthread",
    "\n nameserver",
    "\n resolve_retries",
    "\n.if",
    "\n.else",
    "\n.endif",
    "a",
    "b",
    "db",
    ":80",
    "*:5432",
    "10.0.0.1:80",
    "[::1]:80",
    ":::81",
    "db.example.org:5432",
    "10.0.0.1",
    "unix@/x",
    "check",
    "backup",
    "weight",
    "0",
    "1",
    "7",
    "300",
    "5s",
    "10d",
    "1us",
    "99999999999999",
    "maxconn",
    "inter",
    "fall",
    "rise",
    "port",
    "slowstart",
    "send-proxy",
    "send-proxy-v2",
    "on-marked-down",
    "shutdown-sessions",
    "roundrobin",
    "leastconn",
    "source",
    "hash",
    "src",
    "first",
    "random(2)",
    "tcp",
    "http",
    "client",
    "server",
    "connect",
    "queue",
    "tunnel",
    "httpchk",
    "tcp-check",
    "redis-check",
    "pgsql-check",
    "/primary",
    "/replica",
    "send",
    "expect",
    "string",
    "role:master",
    "PING\\r\\n",
    "connection",
    "content",
    "accept",
    "reject",
    "if",
    "unless",
    "!a",
    "{",
    "}",
    "10.0.0.0/8",
    "-f",
    "/etc/list",
    "or",
    "on",
    "type",
    "ip",
    "size",
    "100k",
    "expire",
    "req.ssl_sni",
    "-i",
    "-m",
    "end",
    "dst_port",
    "db.example.org",
    "ssl",
    "crt",
    "accept-proxy",
    "interface",
    "'",
    "\"",
    "#",
    "\\",
    "${X}",
    "\"${X-1}\"",
    "disabled",
    "observe",
    "layer4",
    "error-limit",
    "usesrc",
    "clientip",
    "0.0.0.0",
    "sessions",
];

const NGINX: &[&str] = &[
    "stream {",
    "upstream",
    "server",
    "{",
    "}",
    ";",
    "server {",
    "listen",
    "proxy_pass",
    "db",
    "udp",
    "53",
    "5432",
    "127.0.0.1:80",
    "[::]:80",
    "10.0.0.1:5432",
    "unix:/x",
    "weight=5",
    "weight=0",
    "weight=999",
    "max_fails=0",
    "max_fails=2",
    "fail_timeout=1m",
    "max_conns=5",
    "backup",
    "down",
    "least_conn;",
    "random two;",
    "hash",
    "$remote_addr",
    "consistent",
    "$x",
    "proxy_timeout",
    "10m",
    "0",
    "proxy_responses",
    "1",
    "proxy_bind",
    "transparent",
    "allow",
    "deny",
    "all;",
    "10.0.0.0/8",
    "10.0.0.1",
    "limit_conn",
    "zone",
    "5",
    "proxy_protocol",
    "on",
    "off",
    "ssl",
    "set_real_ip_from",
    "include",
    "x",
    "map",
    "#",
    "\"",
    "'",
    "\\",
    "\n",
    "proxy_next_upstream",
    "proxy_connect_timeout",
    "return",
    "so_keepalive=on",
    "backlog=7",
    "slow_start=3s",
    "access_log",
    "upstream db {",
    "server 10.0.0.1:1;",
    "server 10.0.0.2:1;",
    "proxy_pass db;",
    "listen 80;",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn whatever_haproxy_may_say_gives_a_file_that_is_right_or_says_what_is_to_be_mended(
        parts in prop::collection::vec(words(HAPROXY), 0..120)
    ) {
        let imported = imported(Whose::HAProxy, &parts.join(" "));
        right(&imported);
    }

    #[test]
    fn whatever_nginx_may_say_likewise(parts in prop::collection::vec(words(NGINX), 0..120)) {
        right(&imported(Whose::Nginx, &parts.join(" ")));
    }

    #[test]
    fn any_text_is_answered(text in ".{0,400}") {
        for whose in [Whose::HAProxy, Whose::Nginx, Whose::Traefik] {
            let imported = imported(whose, &text);
            prop_assert!(imported.yaml.starts_with("# Made of f"));
        }
    }
}

/// The file is accepted; but for what no translation can decide: the same address bound twice, and what two servers of one pool share.
#[track_caller]
fn right(imported: &Imported) {
    // What a variable stands for shows where it is set.
    if imported.counts.0 == 0 || imported.yaml.contains("${") {
        return;
    }
    if let Err(mistakes) = config::read("f", imported.yaml.as_bytes()) {
        for mistake in mistakes.list() {
            let is_known = BY_HAND.iter().any(|known| mistake.message.contains(known));
            assert!(is_known, "{mistakes}\n{}", imported.yaml);
        }
    }
}

const BY_HAND: &[&str] = &["already, on line", "nobody comes to", "two backends of this pool are named"];
