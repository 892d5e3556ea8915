//! Keys of a listener.
//!
//! Pure. Tables of rows. Those that each listener has of its own come first: `defaults` has the others.

use std::time::Duration;

use super::pool::POOL;
use super::routes::{NETWORK, ROLES, ROUTE};
use super::{
    Default, Key, Kind, NAME, OFF, SESSIONS_MAX, Section, Text, hours, minutes, ms, seconds, spelt,
    spelt_between,
};
use crate::config::settings::{LogSessions, Protocol, Speaks, Word};

pub(in crate::config) const LISTENER: Section =
    Section { what: "a listener", keys: &KEYS, inline: Some(&POOL), choice: false, one_of: &[] };

pub(in crate::config) const DEFAULTS_LISTENER: Section =
    Section::new("the `listener` of `defaults`", KEYS.split_at(4).1);

const KEYS: [Key; 16] = [
    Key::new(
        "bind",
        Kind::List(
            Text {
                numbers: Some((1, 65_535)),
                ..Text::new("a port, ADDRESS:PORT, a port range like 27015-27030, or a list of them")
            },
            1_024,
        ),
        Default::Required,
        "where clients come to; a port alone: at every address, IPv4 and IPv6",
    ),
    Key::new(
        "pool",
        Kind::Text(Text { form: "the name of a pool", most: usize::MAX, ..NAME }),
        Default::Told("the keys of a pool right here"),
        "which pool it uses; a pool of its own keys has the name of the listener",
    ),
    Key::new(
        "routes",
        Kind::Maps(&ROUTE, 1_000),
        Default::Is("[]"),
        "which clients go to which pool, the first that fits; for whom none is, go to `pool`, or are refused without one",
    ),
    Key::new(
        "speaks",
        Kind::Words(&SPEAKS),
        Default::Is("off"),
        "what its clients speak: who is refused is told why in that, cancels of PostgreSQL reach every backend, routes may go by what is said",
    )
    .tcp(),
    Key::new("protocol", Kind::Words(&PROTOCOLS), Default::Is("tcp"), "connections or flows of datagrams"),
    Key::new(
        "role",
        Kind::Words(&ROLES),
        Default::Is("any"),
        "which backends of its pool it wants; needs a check that tells roles",
    )
    .tcp(),
    Key::new(
        "allow",
        Kind::ListOr(NETWORK, NETWORKS_MAX, &NETWORK_FILE),
        Default::Is("[]"),
        "clients that may come in; with it, who is in neither list is refused; { file: PATH } is a file of them",
    ),
    Key::new(
        "deny",
        Kind::ListOr(NETWORK, NETWORKS_MAX, &NETWORK_FILE),
        Default::Is("[]"),
        "clients that may not come in; the longest match of both lists decides, a tie is deny; { file: PATH } as well",
    ),
    Key::new(
        "limits",
        Kind::Section(&LIMITS),
        Default::Parts,
        "how many sessions, and how fast they may begin",
    ),
    Key::new(
        "accept_proxy",
        // Proxies are few.
        Kind::ListOr(NETWORK, 256, &NETWORK_FILE),
        Default::Is("[]"),
        "proxies whose connections begin with a PROXY header (udp: whose datagrams may); the address in it is the client",
    ),
    Key::new("timeouts", Kind::Section(&TIMEOUTS), Default::Parts, "when a session is ended"),
    Key::new(
        "keepalive",
        Kind::SectionOr(&KEEPALIVE, &["on", "off"]),
        Default::Is("{}"),
        "TCP keepalive probes, on both sides",
    )
    .tcp(),
    Key::new(
        "backlog",
        Kind::Whole(1, 65_535, &["auto"]),
        Default::Is("auto"),
        "connections that may wait to be accepted, on each data thread; auto: what net.core.somaxconn allows",
    )
    .tcp(),
    Key::new(
        "freebind",
        Kind::Words(&["on", "off"]),
        Default::Is("off"),
        "bind an address that this host does not have yet: a virtual one on a standby",
    ),
    Key::new(
        "log_sessions",
        Kind::Words(&SESSIONS),
        Default::Is("inherit"),
        "which ended sessions of this listener get a line; inherit: as log.sessions says",
    ),
    Key::new("udp", Kind::Section(&UDP), Default::Parts, "what only flows have").udp(),
];

pub(in crate::config) const NETWORK_FILE: Section = Section::new(
    "a file of networks",
    &[Key::new(
        "file",
        Kind::Text(Text::new("an absolute path").at_most(4_096)),
        Default::Required,
        "a file of networks: ADDRESS or ADDRESS/BITS in each line, # begins a comment; read again when it changes",
    )],
);

const LIMITS: Section = Section::new(
    "the `limits` of a listener",
    &[
        Key::new(
            "sessions",
            Kind::Whole(1, SESSIONS_MAX, SHARE),
            Default::Is("off"),
            "at once on this listener; auto is off",
        )
        .tcp(),
        Key::new(
            "sessions",
            Kind::Whole(1, SESSIONS_MAX, SHARE),
            Default::Is("auto"),
            "flows at once on this listener; auto: a quarter of udp_sessions",
        )
        .udp(),
        Key::new(
            "sessions_per_source",
            Kind::Whole(1, SESSIONS_MAX, SHARE),
            Default::Is("off"),
            "at once of one source (an IPv4 address, an IPv6 /64); auto is off",
        )
        .tcp(),
        Key::new(
            "sessions_per_source",
            Kind::Whole(1, SESSIONS_MAX, SHARE),
            Default::Is("auto"),
            "flows at once of one source (an IPv4 address, an IPv6 /64); auto: a sixteenth of the listener's",
        )
        .udp(),
        Key::new(
            "rate",
            Kind::Rate(RATE_MAX, OFF),
            Default::Is("off"),
            "sessions that begin, e.g. 500/s or 600/m; one second's worth, at least one, may begin at once",
        ),
        Key::new(
            "rate_per_source",
            Kind::Rate(RATE_MAX, OFF),
            Default::Is("off"),
            "sessions of one source that begin, e.g. 20/s",
        ),
    ],
);

const TIMEOUTS: Section = Section::new(
    "`timeouts`",
    &[
        Key::new(
            "header",
            Kind::Duration(QUIET_MIN, minutes(1), &[]),
            Default::Is("5s"),
            "for the whole PROXY header of a connection, where one is due",
        )
        .tcp(),
        Key::new(
            "first",
            Kind::Duration(QUIET_MIN, minutes(1), &[]),
            Default::Is("5s"),
            "for the whole first message of a client, where a route asks for it",
        )
        .tcp(),
        Key::new(
            "idle",
            Kind::Duration(QUIET_MIN, QUIET_MAX, OFF),
            Default::Is("off"),
            "end a session when neither side sent anything for this long",
        )
        .tcp(),
        // Silence is the only end every flow has: it cannot be off.
        Key::new(
            "idle",
            Kind::Duration(QUIET_MIN, QUIET_MAX, &[]),
            Default::Is("60s"),
            "end a flow when neither side sent anything for this long",
        )
        .udp(),
        Key::new(
            "half_closed",
            Kind::Duration(QUIET_MIN, QUIET_MAX, OFF),
            Default::Is("5m"),
            "end a session when one side is done and the other silent for this long",
        )
        .tcp(),
        Key::new(
            "lifetime",
            Kind::Duration(seconds(1), hours(8_760), OFF),
            Default::Is("off"),
            "end a session when it is this old, spread over +-10 %",
        ),
        Key::new(
            "unacknowledged",
            Kind::Duration(seconds(1), hours(24), OFF),
            Default::Is("off"),
            "end a session when a peer leaves data unacknowledged, or its window shut, for this long (TCP_USER_TIMEOUT)",
        )
        .tcp(),
    ],
);

const KEEPALIVE: Section = Section::new(
    "`keepalive`",
    &[
        Key::new(
            "idle",
            Kind::Seconds(seconds(1), PROBES_MAX),
            Default::Is("60s"),
            "silence before the first probe",
        ),
        Key::new("interval", Kind::Seconds(seconds(1), PROBES_MAX), Default::Is("15s"), "between two probes"),
        Key::new(
            "count",
            Kind::Whole(1, 127, &[]),
            Default::Is("4"),
            "probes without an answer until the peer is given up",
        ),
    ],
);

const UDP: Section = Section::new(
    "`udp`",
    &[
        Key::new(
            "responses",
            Kind::Whole(1, DATAGRAMS_MAX, OFF),
            Default::Is("off"),
            "replies to each datagram of the client; the flow ends when all have come (1 suits DNS)",
        ),
        Key::new(
            "requests",
            Kind::Whole(1, DATAGRAMS_MAX, OFF),
            Default::Is("off"),
            "a new pick after this many datagrams of the client (syslog behind one NAT)",
        ),
        // From what holds a burst of one client (SOCK_MIN_RCVBUF is smaller still) to what the kernel's int can double.
        Key::new(
            "receive_buffer",
            Kind::Size(64 << 10, 512 << 20, &[]),
            Default::Is("4MiB"),
            "datagrams that may wait at a door, on each data thread",
        ),
        Key::new(
            "send_buffer",
            Kind::Size(64 << 10, 512 << 20, &[]),
            Default::Is("4MiB"),
            "answers that may wait to leave by a door, on each data thread",
        ),
    ],
);

const SPEAKS: [&str; 5] = spelt_between(&["off"], Speaks::WORDS, &[]);
const PROTOCOLS: [&str; 2] = spelt(Protocol::WORDS);
const SESSIONS: [&str; 4] = spelt_between(&["inherit"], LogSessions::WORDS, &[]);
const SHARE: &[&str] = &["auto", "off"];
const NETWORKS_MAX: usize = 100_000;
/// Between two of them is a microsecond: what the clock tells apart.
const RATE_MAX: u64 = 1_000_000;
const DATAGRAMS_MAX: u64 = 1_000_000;
/// The kernel's own limit (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL).
const PROBES_MAX: Duration = seconds(32_767);
const QUIET_MIN: Duration = ms(100);
/// Thirty days.
const QUIET_MAX: Duration = hours(720);
