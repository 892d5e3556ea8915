//! Keys of the checks of databases that log in or tell roles: Redis, MySQL, MongoDB. PostgreSQL's are in `checks`.
//!
//! Pure. Tables of rows.

use super::logins::{LOGIN, PASSWORD, PASSWORD_KIND, TLS, TLS_DOC, TLS_WORDS};
use super::{ANY_NUMBER, Default, Key, Kind, Section, Text, spelt};
use crate::config::settings::{Donors, Word};

pub(in crate::config) const REDIS: Section = Section::new(
    "`redis`",
    &[
        Key::new(
            "user",
            LOGIN,
            Default::Told("the default user"),
            "as whom, where there is a password; needs +ping +role +info",
        ),
        PASSWORD,
        IMPLICIT_TLS,
        Key::new(
            "sentinels",
            Kind::List(
                Text::new(
                    "ADDRESS or ADDRESS:PORT of a Sentinel (port 26379 where none is written), or a list of them",
                ),
                15,
            ),
            Default::Is("[]"),
            "all of them; a server is believed to be the primary when more than half name it; none: its own word is enough",
        ),
        Key::new(
            "name",
            Kind::Text(Text {
                numbers: ANY_NUMBER,
                ..Text::new("what the Sentinels call the set").at_most(255)
            }),
            Default::Absent,
            "what the Sentinels call the set; needed with them",
        ),
        Key::new(
            "sentinel_password",
            PASSWORD_KIND,
            Default::Is(""),
            "of the Sentinels themselves; empty: none",
        ),
    ],
);

pub(in crate::config) const MYSQL: Section = Section::new(
    "`mysql`",
    &[
        Key::new(
            "user",
            LOGIN,
            Default::Required,
            "as whom; an account that may log in, and needs no more but in a group",
        ),
        PASSWORD,
        Key::new("tls", Kind::SectionOr(&TLS, &TLS_WORDS), Default::Is("try"), TLS_DOC),
        Key::new(
            "donors",
            Kind::Words(&DONORS),
            Default::Is("out"),
            "Galera nodes that give their data to another, or are desynced: they serve, or do not",
        ),
    ],
);

pub(in crate::config) const MONGODB: Section = Section::new("`mongodb`", &[IMPLICIT_TLS]);

/// Where there is nothing to ask for TLS: it is spoken from the first byte, or not at all.
const IMPLICIT_TLS: Key = Key::new(
    "tls",
    Kind::SectionOr(&TLS, &["off", "on"]),
    Default::Is("off"),
    "off; on: whoever it is; a map looks at who",
);
const DONORS: [&str; 2] = spelt(Donors::WORDS);
