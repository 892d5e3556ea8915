//! Words of nginx (stream), Traefik and Envoy.

use super::row::Row;

pub(super) const NGINX: &[Row] = &[
    Row {
        words: &["stream", "http", "events"],
        here: "needs no section: `listeners` and `pools` stand on the first level",
    },
    Row { words: &["upstream", "upstreams"], here: "is one of the `pools` here" },
    Row { words: &["proxy_pass"], here: "is `pool: NAME` of the listener, or `backends` of its own" },
    Row { words: &["worker_processes"], here: "is `workers`, which is right by itself" },
    Row {
        words: &["worker_connections"],
        here: "is `limits: { tcp_sessions: N }` of the process, which is right by itself",
    },
    Row {
        words: &["worker_rlimit_nofile"],
        here: "is `LimitNOFILE=` of the unit; evenkeel takes what it may",
    },
    Row { words: &["proxy_timeout"], here: "is `timeouts: { idle: 1h }` of the listener" },
    Row { words: &["proxy_connect_timeout"], here: "is `connect: { timeout: 5s }` of the pool" },
    Row {
        words: &["proxy_next_upstream", "proxy_next_upstream_tries"],
        here: "is `connect: { attempts: 3 }` of the pool, each at another backend",
    },
    Row {
        words: &["proxy_next_upstream_timeout"],
        here: "has no counterpart: `connect` has a timeout for each attempt, and attempts",
    },
    Row {
        words: &["proxy_protocol"],
        here: "is `send_proxy: v2` of the pool; to read it from a proxy, `accept_proxy: [NETWORK]` of the listener",
    },
    Row { words: &["set_real_ip_from"], here: "is `accept_proxy: [10.0.0.0/8]` of the listener" },
    Row { words: &["proxy_bind"], here: "is `connect_from` of the pool" },
    Row { words: &["proxy_responses"], here: "is `udp: { responses: 1 }` of the listener" },
    Row { words: &["proxy_requests"], here: "is `udp: { requests: 1 }` of the listener" },
    Row {
        words: &["proxy_socket_keepalive", "so_keepalive"],
        here: "is `keepalive`, which is on for both sides",
    },
    Row {
        words: &["proxy_half_close"],
        here: "is left out: half-closes always pass through; `timeouts: { half_closed: 5m }` bounds them",
    },
    Row {
        words: &["proxy_buffer_size", "proxy_buffering"],
        here: "has no counterpart: nothing of that kind needs to be set",
    },
    Row {
        words: &["proxy_upload_rate", "proxy_download_rate"],
        here: "has no counterpart: bytes are not held back",
    },
    Row { words: &["max_fails"], here: "is `passive: { failures: 5 }` of the pool" },
    Row { words: &["fail_timeout"], here: "is `passive: { eject: 10s }` of the pool" },
    Row { words: &["max_conns"], here: "is `max_sessions` of the backend" },
    Row { words: &["least_conn"], here: "is `balance: least_connections` of the pool" },
    Row { words: &["ip_hash", "hash"], here: "is `balance: source_hash` of the pool" },
    Row { words: &["least_time"], here: "is `balance: least_latency` of the pool" },
    Row {
        words: &["random"],
        here: "is `balance: random` of the pool; `random two` is `balance: two_choices`",
    },
    Row {
        words: &["zone", "state", "reuseport", "multi_accept", "accept_mutex", "tcp_nodelay", "use"],
        here: "is left out: that is done by itself",
    },
    Row {
        words: &["resolver", "resolve"],
        here: "is `dns: { servers: [10.0.0.53] }`, which is /etc/resolv.conf by itself; a backend's address may be a name",
    },
    Row {
        words: &["ssl_certificate", "ssl_certificate_key", "ssl_protocols", "proxy_ssl"],
        here: "is left out: TLS passes through unopened, between client and backend",
    },
    Row {
        words: &["ssl_preread", "ssl_preread_server_name", "ssl_preread_alpn_protocols"],
        here: "is `routes: [{ sni: NAME, pool: NAME }]` of the listener",
    },
    Row { words: &["access_log"], here: "is `log: { sessions: all }`; lines go to the journal" },
    Row { words: &["error_log"], here: "is `log: { level: info }`; lines go to the journal" },
    Row { words: &["limit_conn"], here: "is `limits: { sessions_per_source: N }` of the listener" },
    Row { words: &["limit_conn_zone", "limit_req_zone"], here: "is left out: `limits` keep their own count" },
    Row {
        words: &["limit_req"],
        here: "is `limits: { rate_per_source: 20/s }` of the listener, for sessions",
    },
    Row { words: &["health_check", "match"], here: "is `health` of the pool" },
    Row {
        words: &["preread_timeout", "proxy_protocol_timeout"],
        here: "is `timeouts: { header: 5s }` of the listener",
    },
    Row {
        words: &["location", "server_name", "root", "rewrite"],
        here: "is about HTTP, which is not read here",
    },
    Row {
        words: &["map", "split_clients", "geo"],
        here: "has no counterpart; `allow` and `deny` of a listener are networks",
    },
    Row { words: &["include"], here: "has no counterpart: the file is one" },
    Row { words: &["worker_shutdown_timeout"], here: "is `shutdown: { grace: 30s }`" },
];

pub(super) const TRAEFIK: &[Row] = &[
    Row { words: &["entryPoints", "entryPoint"], here: "is one of the `listeners` here" },
    Row { words: &["routers", "router"], here: "is `pool: NAME` of the listener" },
    Row { words: &["services", "service"], here: "is one of the `pools` here" },
    Row { words: &["loadBalancer"], here: "is a pool: its servers are `backends`, and `balance` says how" },
    Row { words: &["url"], here: "is `address: 10.0.0.1:5432` of a backend" },
    Row {
        words: &["rule", "HostSNI", "HostSNIRegexp"],
        here: "is `routes: [{ sni: NAME, pool: NAME }]` of the listener",
    },
    Row { words: &["middlewares", "middleware"], here: "is `allow`, `deny` and `limits` of the listener" },
    Row {
        words: &["ipAllowList", "ipWhiteList", "sourceRange"],
        here: "is `allow: [10.0.0.0/8]` of the listener",
    },
    Row { words: &["inFlightConn"], here: "is `limits: { sessions_per_source: N }` of the listener" },
    Row { words: &["terminationDelay"], here: "is `timeouts: { half_closed: 5m }` of the listener" },
    Row {
        words: &["trustedIPs", "proxyProtocol"],
        here: "is `accept_proxy: [10.0.0.0/8]` of the listener; towards backends `send_proxy: v2` of the pool",
    },
    Row {
        words: &["dialTimeout", "serversTransport", "serversTransports"],
        here: "is `connect: { timeout: 5s }` of the pool",
    },
    Row { words: &["dialKeepAlive"], here: "is `keepalive`, which is on for both sides" },
    Row { words: &["healthCheck"], here: "is `health` of the pool" },
    Row {
        words: &["idleTimeout", "respondingTimeouts", "readTimeout", "writeTimeout"],
        here: "is `timeouts: { idle: 1h }` of the listener",
    },
    Row {
        words: &["lifeCycle", "graceTimeOut", "requestAcceptGraceTimeout"],
        here: "is `shutdown: { grace: 30s }`",
    },
    Row {
        words: &["api", "dashboard", "ping", "metrics", "prometheus"],
        here: "is `admin: { http: 127.0.0.1:9900 }`",
    },
    Row { words: &["accessLog"], here: "is `log: { sessions: all }`" },
    Row {
        words: &["certificatesResolvers", "tls", "certResolver", "passthrough"],
        here: "is left out: TLS passes through unopened, between client and backend",
    },
    Row { words: &["providers"], here: "has no counterpart: the file is read again by `evenkeel reload`" },
    Row { words: &["tcp", "udp"], here: "needs no section: a listener has `protocol: udp`, or is tcp" },
];

pub(super) const ENVOY: &[Row] = &[
    Row {
        words: &["static_resources", "dynamic_resources", "node", "layered_runtime"],
        here: "needs no section: `listeners` and `pools` stand on the first level",
    },
    Row { words: &["clusters", "cluster"], here: "is one of the `pools` here" },
    Row {
        words: &["filter_chains", "filters", "listener_filters", "typed_config", "tcp_proxy"],
        here: "is left out: a listener passes bytes on to its `pool`",
    },
    Row {
        words: &[
            "load_assignment",
            "lb_endpoints",
            "endpoints",
            "endpoint",
            "locality_lb_endpoints",
            "hosts",
        ],
        here: "is `backends` of the pool",
    },
    Row {
        words: &["socket_address", "port_value"],
        here: "is `bind: ADDRESS:PORT` of a listener, and `address: ADDRESS:PORT` of a backend",
    },
    Row { words: &["lb_policy", "load_balancing_policy"], here: "is `balance` of the pool" },
    Row { words: &["load_balancing_weight"], here: "is `weight` of the backend" },
    Row { words: &["priority"], here: "is `tier` of the backend; 0 is first" },
    Row { words: &["connect_timeout"], here: "is `connect: { timeout: 5s }` of the pool" },
    Row { words: &["idle_timeout"], here: "is `timeouts: { idle: 1h }` of the listener" },
    Row { words: &["max_connect_attempts"], here: "is `connect: { attempts: 3 }` of the pool" },
    Row {
        words: &["max_downstream_connection_duration", "max_connection_duration"],
        here: "is `timeouts: { lifetime: 24h }` of the listener",
    },
    Row { words: &["health_checks", "health_checker"], here: "is `health` of the pool" },
    Row { words: &["healthy_threshold"], here: "is `health: { rise: 2 }` of the pool" },
    Row { words: &["unhealthy_threshold"], here: "is `health: { fall: 3 }` of the pool" },
    Row { words: &["outlier_detection"], here: "is `passive` of the pool" },
    Row {
        words: &["consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure"],
        here: "is `passive: { failures: 5 }` of the pool",
    },
    Row { words: &["base_ejection_time"], here: "is `passive: { eject: 10s }` of the pool" },
    Row { words: &["max_ejection_percent"], here: "is `passive: { max_ejected: 50% }` of the pool" },
    Row {
        words: &["circuit_breakers", "max_connections"],
        here: "is `max_sessions` of the pool or of a backend",
    },
    Row { words: &["max_pending_requests"], here: "is `queue: { sessions: N }` of the pool" },
    Row {
        words: &["tcp_keepalive", "upstream_connection_options"],
        here: "is `keepalive`, which is on for both sides",
    },
    Row { words: &["drain_timeout", "drain_time"], here: "is `shutdown: { grace: 30s }`" },
    Row { words: &["access_log_path", "access_logs"], here: "is `log: { sessions: all }`" },
    Row { words: &["concurrency"], here: "is `workers`, which is right by itself" },
    Row { words: &["slow_start_config", "slow_start_window"], here: "is `slow_start: 30s` of the pool" },
    Row {
        words: &["transport_socket", "common_tls_context"],
        here: "is left out: TLS passes through unopened, between client and backend",
    },
    Row {
        words: &["upstream_proxy_protocol", "proxy_protocol_config"],
        here: "is `send_proxy: v2` of the pool",
    },
    Row {
        words: &["per_connection_buffer_limit_bytes", "reuse_port", "enable_reuse_port"],
        here: "has no counterpart: nothing of that kind needs to be set",
    },
];
