//! Words of HAProxy.

use super::row::Row;

pub(super) const KEYS: &[Row] = &[
    Row { words: &["frontend", "frontends"], here: "is one of the `listeners` here" },
    Row { words: &["listen"], here: "is one of the `listeners` here, with `backends` of its own" },
    Row {
        words: &["backend", "backends"],
        here: "is one of the `pools` here; a listener may have `backends` of its own",
    },
    Row {
        words: &["global"],
        here: "needs no section: `workers`, `log`, `limits` and `admin` stand on the first level",
    },
    Row { words: &["default_backend"], here: "is `pool: NAME` of the listener" },
    Row {
        words: &["use_backend", "use-server"],
        here: "is `routes: [{ sni: NAME, pool: NAME }]` of the listener; also by `from`, `port`, `alpn`",
    },
    Row {
        words: &["server", "servers", "server-template"],
        here: "is an item of `backends`: `backends: [10.0.0.1:5432]`",
    },
    Row {
        words: &["default-server"],
        here: "is what the pool says for all its backends; for all pools `defaults: { pool: ... }`",
    },
    Row {
        words: &["mode"],
        here: "is left out: everything is passed on as it is (mode tcp), and HTTP is not read",
    },
    Row {
        words: &["maxconn"],
        here: "is `max_sessions` of a pool or of a backend, and `limits: { sessions: N }` of a listener",
    },
    Row { words: &["fullconn", "minconn"], here: "has no counterpart: `max_sessions` is one fixed number" },
    Row { words: &["maxqueue"], here: "is `queue: { sessions: N }` of the pool" },
    Row {
        words: &["maxconnrate", "maxsessrate", "rate-limit", "rate-limit sessions"],
        here: "is `limits: { rate: 500/s }` of the listener",
    },
    Row { words: &["ulimit-n"], here: "is `LimitNOFILE=` of the unit; evenkeel takes what it may" },
    Row { words: &["nbthread", "nbproc", "thread-groups"], here: "is `workers`, which is right by itself" },
    Row {
        words: &["cpu-map", "cpu-policy"],
        here: "has no counterpart; `CPUAffinity=` of the unit pins all threads",
    },
    Row {
        words: &["daemon", "pidfile", "user", "group", "chroot", "master-worker"],
        here: "is left out: the unit (systemctl cat evenkeel) sees to that",
    },
    Row {
        words: &["stats", "stats socket", "stats enable", "stats uri"],
        here: "is `admin: { http: 127.0.0.1:9900 }` for a page, and `evenkeel status` for a terminal",
    },
    Row { words: &["hard-stop-after"], here: "is `shutdown: { grace: 30s }`" },
    Row {
        words: &["log-format", "log-tag", "option tcplog", "tcplog", "option httplog", "httplog"],
        here: "is left out: each ended session is one line with all of it; `log: { sessions: all }` for every session",
    },
    Row {
        words: &["option dontlognull", "dontlognull", "option dontlog-normal", "dontlog-normal"],
        here: "is `log: { sessions: failed }`, the default",
    },
    Row {
        words: &["option log-health-checks", "log-health-checks"],
        here: "is left out: every change of a backend is a line",
    },
    Row {
        words: &[
            "timeout client",
            "timeout server",
            "clitimeout",
            "srvtimeout",
            "client",
            "timeout tunnel",
            "tunnel",
        ],
        here: "is one for both sides here: `timeouts: { idle: 1h }` of the listener",
    },
    Row { words: &["timeout connect", "contimeout"], here: "is `connect: { timeout: 5s }` of the pool" },
    Row { words: &["timeout check"], here: "is `health: { timeout: 1s }` of the pool" },
    Row { words: &["timeout queue"], here: "is `queue: { timeout: 5s }` of the pool" },
    Row {
        words: &["timeout client-fin", "timeout server-fin", "client-fin", "server-fin"],
        here: "is `timeouts: { half_closed: 5m }` of the listener",
    },
    Row {
        words: &[
            "timeout http-request",
            "timeout http-keep-alive",
            "http-request",
            "http-response",
            "http-check",
            "redirect",
            "rspadd",
            "reqadd",
            "compression",
            "cache",
            "capture",
            "errorfile",
            "errorloc",
        ],
        here: "is about HTTP, which is not read here",
    },
    Row { words: &["retries"], here: "is `connect: { attempts: 3 }` of the pool, all attempts together" },
    Row {
        words: &["option redispatch", "redispatch"],
        here: "is left out: each attempt goes to another backend while there is one",
    },
    Row { words: &["backup"], here: "is `tier: 1` of the backend: it serves while nobody of tier 0 can" },
    Row {
        words: &["option allbackups", "allbackups"],
        here: "is left out: all backends of a `tier` serve together",
    },
    Row {
        words: &["disabled"],
        here: "is `weight: 0` of the backend, or `evenkeel down POOL/BACKEND` while it runs",
    },
    Row { words: &["slowstart"], here: "is `slow_start: 30s` of the pool" },
    Row {
        words: &["cookie", "appsession"],
        here: "needs HTTP; by the client's address it is `sticky: {}` or `balance: source_hash` of the pool",
    },
    Row {
        words: &["stick-table", "stick", "stick on", "stick match", "stick store-request"],
        here: "is `sticky: { for: 30m }` of the pool",
    },
    Row {
        words: &["hash-type", "hash-balance-factor"],
        here: "is left out: `source_hash` is consistent; its `bounded_load` is the factor",
    },
    Row { words: &["inter"], here: "is `health: { interval: 2s }` of the pool" },
    Row {
        words: &["fastinter", "downinter", "spread-checks"],
        here: "is left out: a backend that is changing is asked at a quarter of the `interval`, each at its own moment",
    },
    Row {
        words: &["option tcp-check", "tcp-check"],
        here: "is `health: { check: { tcp: { send: '...', expect: '...' } } }` of the pool",
    },
    Row {
        words: &["option httpchk", "httpchk"],
        here: "has no counterpart; `health: { check: { tcp: { send: '...', expect: ' 200 ' } } }` asks and listens",
    },
    Row {
        words: &["option pgsql-check", "pgsql-check"],
        here: "is `health: { check: { postgres: { user: NAME } } }` of the pool, which looks further",
    },
    Row {
        words: &["option redis-check", "redis-check"],
        here: "is `health: { check: { redis: {} } }` of the pool, which tells the primary from its replicas",
    },
    Row {
        words: &["option mysql-check", "mysql-check"],
        here: "is `health: { check: { mysql: { user: NAME } } }` of the pool, which tells the primary from its replicas",
    },
    Row {
        words: &[
            "option smtpchk",
            "smtpchk",
            "option ldap-check",
            "ldap-check",
            "option ssl-hello-chk",
            "ssl-hello-chk",
        ],
        here: "is `health: { check: { tcp: { send: '...', expect: '...' } } }` of the pool",
    },
    Row {
        words: &["external-check", "option external-check", "agent-check", "agent-port"],
        here: "has no counterpart; `health: { check: { tcp: { send: '...', expect: '...' } } }` can ask a small server of your own at `health: { port: N }`",
    },
    Row { words: &["observe", "error-limit", "on-error"], here: "is `passive: { failures: 5 }` of the pool" },
    Row { words: &["on-marked-down"], here: "is `on_down: close` of the pool" },
    Row {
        words: &["on-marked-up"],
        here: "has no counterpart: sessions stay where they are when a backend comes back",
    },
    Row {
        words: &["check-send-proxy"],
        here: "is left out: with `send_proxy` the checks have a header as well",
    },
    Row {
        words: &["send-proxy-v2", "send-proxy-v2-ssl", "send-proxy-v2-ssl-cn"],
        here: "is `send_proxy: v2` of the pool",
    },
    Row { words: &["source", "usesrc"], here: "is `connect_from` of the pool" },
    Row { words: &["transparent"], here: "is `freebind: on` of the listener" },
    Row {
        words: &["option clitcpka", "clitcpka", "option srvtcpka", "srvtcpka", "option tcpka", "tcpka"],
        here: "is `keepalive`, which is on for both sides",
    },
    Row {
        words: &[
            "option splice-auto",
            "splice-auto",
            "option splice-request",
            "option splice-response",
            "option tcp-smart-accept",
            "option tcp-smart-connect",
            "nolinger",
            "option nolinger",
        ],
        here: "is left out: that is done by itself where it helps",
    },
    Row {
        words: &["acl", "tcp-request", "tcp-request connection", "tcp-request content", "block"],
        here: "is `allow` and `deny` for addresses, and `limits` for how many, of the listener",
    },
    Row { words: &["tcp-response"], here: "has no counterpart: what a backend says is passed on as it is" },
    Row {
        words: &["peers", "peer"],
        here: "has no counterpart: machines with the same file and `balance: source_hash` send a client the same way without talking to each other",
    },
    Row {
        words: &["ssl", "crt", "ca-file", "verify", "ssl-default-bind-options", "ssl-default-bind-ciphers"],
        here: "is left out: TLS passes through unopened, between client and backend",
    },
    Row {
        words: &["sni", "alpn", "req.ssl_sni", "req_ssl_sni", "req.ssl_alpn"],
        here: "is `sni` and `alpn` of a route of the listener: `routes`",
    },
    Row {
        words: &["resolvers", "nameserver", "resolve-prefer"],
        here: "is `dns: { servers: [10.0.0.53] }`, which is /etc/resolv.conf by itself; a backend's address may be a name",
    },
    Row {
        words: &["init-addr"],
        here: "is left out: a name that is not known yet holds nobody up, and an answer that fails changes nothing",
    },
    Row {
        words: &["tune", "tune.bufsize", "tune.maxaccept", "tune.pipesize"],
        here: "has no counterpart: nothing of that kind needs to be set",
    },
    Row {
        words: &["email-alert", "mailers"],
        here: "has no counterpart; the alerts for Prometheus are in conf/prometheus",
    },
    Row { words: &["interface", "namespace", "mss", "tfo", "defer-accept"], here: "has no counterpart" },
];
