//! Keys of the file's first level, and of what concerns the whole process.
//!
//! Pure. A table of rows.

use super::discovery::DNS_ASKED;
use super::listener::{DEFAULTS_LISTENER, LISTENER};
use super::pool::{DEFAULTS_POOL, POOL};
use super::{ANY_NUMBER, Default, Key, Kind, OFF, SESSIONS_MAX, Section, Text, hours, seconds, spelt};
use crate::config::settings::{Level, LogFormat, LogSessions, Word};

pub(in crate::config) const TOP: Section = Section::new(
    "the file",
    &[
        Key::new(
            "workers",
            Kind::Whole(1, 1_024, AUTO),
            Default::Is("auto"),
            "data threads; auto: the CPUs this process may use",
        ),
        Key::new(
            "hash_seed",
            Kind::Text(Text { numbers: ANY_NUMBER, ..Text::new("1 to 256 characters").at_most(256) }),
            Default::Is("evenkeel"),
            "balancers that share it send a client to the same backend",
        ),
        Key::new("log", Kind::Section(&LOG), Default::Parts, "what is logged and how"),
        Key::new("admin", Kind::Section(&ADMIN), Default::Parts, "where operators and scrapers ask"),
        Key::new("shutdown", Kind::Section(&SHUTDOWN), Default::Parts, "how sessions end after a stop"),
        Key::new("limits", Kind::Section(&LIMITS), Default::Parts, "limits of the whole process"),
        Key::new(
            "dns",
            Kind::Section(&DNS_ASKED),
            Default::Parts,
            "how host names of backends are looked up",
        ),
        Key::new(
            "defaults",
            Kind::Section(&DEFAULTS),
            Default::Parts,
            "for every listener and pool that does not say otherwise",
        ),
        Key::new(
            "listeners",
            Kind::Named(&LISTENER, 1_000),
            Default::Required,
            "where clients come in, by name",
        ),
        Key::new(
            "pools",
            Kind::Named(&POOL, 1_000),
            Default::Absent,
            "backends that can replace each other, by name",
        ),
    ],
);

const LOG: Section = Section::new(
    "`log`",
    &[
        Key::new(
            "level",
            Kind::Words(&LEVELS),
            Default::Is("info"),
            "the least serious level that is written",
        ),
        Key::new(
            "format",
            Kind::Words(&FORMATS),
            Default::Is("auto"),
            "the form of log lines; auto: text on a terminal, json otherwise",
        ),
        Key::new(
            "sessions",
            Kind::Words(&SESSIONS),
            Default::Is("failed"),
            "which ended sessions get a line; failed: those that did not end in an ordinary way",
        ),
    ],
);

const ADMIN: Section = Section::new(
    "`admin`",
    &[
        Key::new(
            "socket",
            Kind::Text(Text {
                words: OFF,
                ..Text::new("an absolute path, or `off`").at_most(SOCKET_PATH_MAX)
            }),
            Default::Told("/run/evenkeel/admin.sock"),
            "the socket of the commands, mode 0660; without its folder $XDG_RUNTIME_DIR/evenkeel/admin.sock, else none",
        ),
        Key::new(
            "http",
            Kind::Text(Text {
                words: OFF,
                numbers: Some((1, 65_535)),
                ..Text::new("ADDRESS:PORT, e.g. `127.0.0.1:9900`, a port of 127.0.0.1, or `off`")
            }),
            Default::Is("off"),
            "the read-only HTTP door: a dashboard at /, and /metrics, /status, /healthz, /readyz",
        ),
        Key::new(
            "ready",
            Kind::Text(Text {
                words: OFF,
                numbers: Some((1, 65_535)),
                ..Text::new("ADDRESS:PORT, e.g. `10.0.0.5:9901`, a port of 127.0.0.1, or `off`")
            }),
            Default::Is("off"),
            "a door that answers /readyz and /healthz and nothing else, for whoever sends clients here and is on another host",
        ),
        Key::new(
            "hosts",
            Kind::List(Text::new("a host name, e.g. `lb1.example.net`").at_most(253), HOSTS_MAX),
            Default::Is("[]"),
            "names by which `http` may be asked besides addresses and localhost; others are refused (DNS rebinding)",
        ),
    ],
);

/// Names of one machine.
const HOSTS_MAX: usize = 64;

const SHUTDOWN: Section = Section::new(
    "`shutdown`",
    &[
        Key::new(
            "delay",
            Kind::Duration(seconds(0), hours(1), &[]),
            Default::Is("0s"),
            "how long everything goes on after a stop while /readyz says `leaving`: 2s for keepalived and BGP, 15s for a cloud balancer in front; not at a restart",
        ),
        Key::new(
            "grace",
            Kind::Duration(seconds(0), hours(24), &[]),
            Default::Is("30s"),
            "how long sessions may finish after a stop, before they are cut",
        ),
    ],
);

const LIMITS: Section = Section::new(
    "`limits`",
    &[
        Key::new(
            "tcp_sessions",
            Kind::Whole(1, SESSIONS_MAX, AUTO),
            Default::Is("auto"),
            "TCP sessions at once; auto: what the open-file limit allows",
        ),
        Key::new(
            "udp_sessions",
            Kind::Whole(1, SESSIONS_MAX, AUTO),
            Default::Is("auto"),
            "UDP flows at once; auto: what the open-file limit allows",
        ),
    ],
);

const DEFAULTS: Section = Section::new(
    "`defaults`",
    &[
        Key::new(
            "listener",
            Kind::Section(&DEFAULTS_LISTENER),
            Default::Parts,
            "the keys of a listener but for bind and pool; what is for the other protocol is passed over",
        ),
        Key::new(
            "pool",
            Kind::Section(&DEFAULTS_POOL),
            Default::Parts,
            "the keys of a pool but for backends; a choice (balance, check) is taken as a whole",
        ),
    ],
);

const AUTO: &[&str] = &["auto"];
const LEVELS: [&str; 5] = spelt(Level::WORDS);
const FORMATS: [&str; 3] = spelt(LogFormat::WORDS);
const SESSIONS: [&str; 3] = spelt(LogSessions::WORDS);
/// The kernel takes 107 bytes.
const SOCKET_PATH_MAX: usize = 107;
