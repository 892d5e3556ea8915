//! Keys of the health checks of a pool.
//!
//! Pure. Tables of rows.

use super::databases::{MONGODB, MYSQL, REDIS};
use super::logins::{LOGIN, PASSWORD, TLS, TLS_DOC, TLS_WORDS};
use super::{ANY_NUMBER, Default, Key, Kind, OFF, Section, Text, hours, minutes, ms, seconds, spelt};
use crate::config::settings::RECORD_TYPES;

pub(super) const HEALTH: Section = Section::new(
    "`health`",
    &[
        Key::new(
            "check",
            Kind::Choice(&CHECKS, &CHECK),
            Default::Is("tcp"),
            "what is asked; tcp: a handshake that the server's program never sees; patroni: its REST API; off: every backend counts as up",
        )
        .tcp(),
        Key::new(
            "check",
            Kind::Choice(&CHECKS, &CHECK),
            Default::Is("off"),
            "what is asked, in a pool that only udp listeners use: there ICMP refusals tell",
        )
        .udp(),
        Key::new(
            "interval",
            Kind::Duration(ms(100), hours(1), &[]),
            Default::Is("2s"),
            "between two checks of a backend, +-10 %",
        ),
        Key::new(
            "timeout",
            Kind::Duration(ms(10), minutes(1), &[]),
            Default::Is("1s"),
            "for an answer; may be longer than interval: one check at a time",
        ),
        Key::new("rise", Kind::Whole(1, 255, &[]), Default::Is("2"), "good answers in a row until up"),
        Key::new("fall", Kind::Whole(1, 255, &[]), Default::Is("3"), "bad answers in a row until down"),
        Key::new(
            "port",
            Kind::Whole(1, 65_535, &["same"]),
            Default::Is("same"),
            "check another port than the one that serves; with `check: patroni` 8008 where none is written",
        ),
        Key::new(
            "keep",
            Kind::Duration(seconds(1), hours(1), OFF),
            Default::Is("30s"),
            "how long one connection serves for checks that log in, +-10 %; off: a new one each time",
        ),
    ],
);

pub(in crate::config) const CHECK: Section = Section::choice(
    "`check`",
    &[
        Key::new("tcp", Kind::Section(&TALK), Default::Absent, "a conversation over TCP"),
        Key::new(
            "postgres",
            Kind::Section(&POSTGRES),
            Default::Absent,
            "a login and a question to PostgreSQL: role, timeline, position",
        ),
        Key::new(
            "redis",
            Kind::Section(&REDIS),
            Default::Absent,
            "a question to Redis or Valkey, and to their Sentinels: role, epoch, offset",
        ),
        Key::new(
            "mysql",
            Kind::Section(&MYSQL),
            Default::Absent,
            "a login and a question to MySQL or MariaDB, alone, in a group or in a Galera cluster",
        ),
        Key::new(
            "mongodb",
            Kind::Section(&MONGODB),
            Default::Absent,
            "a question to a member of a replica set: role, election, position",
        ),
        Key::new("udp", Kind::Section(&UDP_TALK), Default::Absent, "a datagram, and one that answers it"),
        Key::new(
            "dns",
            Kind::Section(&DNS),
            Default::Absent,
            "a DNS question over UDP; any answer but a failure or a refusal is good",
        ),
    ],
);

pub(in crate::config) const TALK: Section = Section::new(
    "`tcp`",
    &[
        Key::new("send", BYTES, Default::Is(""), "what is sent after the connect"),
        Key::new(
            "expect",
            Kind::TextOr(BYTES_TEXT, &EXPECT),
            Default::Is(""),
            "what must appear in the first 64 KiB of the answer; a map tells roles: what is found first",
        ),
    ],
);

pub(in crate::config) const EXPECT: Section = Section::new(
    "`expect`",
    &[
        Key::new("primary", BYTES, Default::Required, "what a server says that takes writes"),
        Key::new("replica", BYTES, Default::Required, "what a server says that follows another"),
    ],
);

pub(in crate::config) const POSTGRES: Section = Section::new(
    "`postgres`",
    &[
        Key::new("user", LOGIN, Default::Required, "as whom; a role that may log in, and needs no more"),
        PASSWORD,
        Key::new("database", LOGIN, Default::Is("postgres"), "which one is logged in to; not template1"),
        Key::new("tls", Kind::SectionOr(&TLS, &TLS_WORDS), Default::Is("try"), TLS_DOC),
    ],
);

pub(in crate::config) const UDP_TALK: Section = Section::new(
    "the `udp` of `check`",
    &[
        Key::new("send", BYTES, Default::Is(""), "the datagram that asks"),
        Key::new("expect", BYTES, Default::Is(""), "what must appear in the answer; empty: any answer"),
    ],
);

pub(in crate::config) const DNS: Section = Section::new(
    "`dns`",
    &[
        Key::new(
            "name",
            Kind::Text(Text {
                numbers: ANY_NUMBER,
                ..Text::new("a domain name of at most 253 characters, e.g. `example.org`, or `.`")
                    .at_most(253)
            }),
            Default::Required,
            "what is asked for",
        ),
        Key::new("type", Kind::Words(&TYPES), Default::Is("A"), "the type of record that is asked for"),
    ],
);

const CHECKS: [&str; 3] = ["off", "tcp", "patroni"];
const TYPES: [&str; 8] = spelt(&RECORD_TYPES);
/// A health check is a line or two.
const BYTES_TEXT: Text = Text { numbers: ANY_NUMBER, ..Text::new("text, e.g. 'PING\\r\\n'").at_most(4_096) };
const BYTES: Kind = Kind::Text(BYTES_TEXT);
