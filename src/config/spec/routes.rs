//! Keys of a route.
//!
//! Pure. A table of rows.

use super::{Default, Key, Kind, NAME, Section, Text, spelt};
use crate::config::settings::{Role, Word};

pub(in crate::config) const ROUTE: Section = Section::new(
    "a route",
    &[
        Key::new(
            "pool",
            Kind::Text(Text { form: "the name of a pool", most: usize::MAX, ..NAME }),
            Default::Required,
            "where clients go for whom it is",
        ),
        Key::new(
            "role",
            Kind::Words(&ROLES),
            Default::Told("that of the listener"),
            "which backends of that pool they get; needs a check that tells roles",
        )
        .tcp(),
        Key::new(
            "from",
            Kind::List(NETWORK, 1_000),
            Default::Absent,
            "for clients of these networks; behind accept_proxy, those that the header names",
        ),
        Key::new(
            "port",
            Kind::List(PORT, 100),
            Default::Absent,
            "for those who came to one of these ports of the listener",
        ),
        Key::new(
            "sni",
            Kind::Text(HOST),
            Default::Absent,
            "for those whose TLS says this name of the server (SNI); *.example.org is every name below",
        )
        .tcp(),
        Key::new(
            "database",
            Kind::Text(NAME_OF_POSTGRES),
            Default::Absent,
            "for those who want this database, where the listener speaks postgres",
        )
        .tcp(),
        Key::new(
            "user",
            Kind::Text(NAME_OF_POSTGRES),
            Default::Absent,
            "for those who log in as this user, where the listener speaks postgres",
        )
        .tcp(),
        Key::new(
            "host",
            Kind::Text(HOST),
            Default::Absent,
            "for players who typed this host name, where the listener speaks minecraft; * is every one",
        )
        .tcp(),
        Key::new(
            "alpn",
            Kind::Text(PROTOCOL),
            Default::Absent,
            "for those whose TLS offers this protocol (ALPN), among others",
        )
        .tcp(),
    ],
);

pub(super) const ROLES: [&str; 4] = spelt(Role::WORDS);
pub(super) const NETWORK: Text = Text::new("a network like 10.0.0.0/8 or 2001:db8::/32, or an address");
const PORT: Text = Text {
    numbers: Some((1, 65_535)),
    ..Text::new("a port, a port range like 27015-27020, or a list of them")
};
const HOST: Text = Text::new("a host name, *.NAME for every name below it, or *");
const NAME_OF_POSTGRES: Text = Text::new("a name of 1 to 63 bytes").at_most(63);
const PROTOCOL: Text = Text::new("the name of a protocol like h2, 1 to 255 characters").at_most(255);
