//! Keys of what finds backends: `dns`, and the `discovery` of a pool.
//!
//! Pure. Tables of rows.

use super::asked::{CONSUL, DOCKER, HTTP, KUBERNETES, LABEL, LOWER, URL, WORD};
use super::{Default, Key, Kind, NAME, OFF, Section, Text, hours, minutes, ms, seconds, spelt};
use crate::config::settings::{OnEmpty, Word};

pub(in crate::config) const DNS_ASKED: Section = Section::new(
    "`dns`",
    &[
        Key::new(
            "servers",
            Kind::List(
                Text { words: AUTO, ..Text::new("ADDRESS or ADDRESS:PORT of a server, or `auto`") },
                SERVERS_MAX,
            ),
            Default::Is("auto"),
            "whom to ask for names; auto: whom /etc/resolv.conf names, looked at every second",
        ),
        Key::new(
            "hosts",
            Kind::Text(Text { words: OFF, ..Text::new("an absolute path, or `off`").at_most(4_096) }),
            Default::Is("/etc/hosts"),
            "names that are known without asking anybody",
        ),
        Key::new(
            "search",
            Kind::List(Text { words: AUTO, ..Text::new("a domain, or `auto`").at_most(253) }, DOMAINS_MAX),
            Default::Is("auto"),
            "domains of short names; auto: those of /etc/resolv.conf; a name with a final dot is never extended",
        ),
        Key::new(
            "timeout",
            Kind::Duration(ms(50), seconds(30), &[]),
            Default::Is("2s"),
            "how long one server may take for one question",
        ),
        Key::new("attempts", Kind::Whole(1, 10, &[]), Default::Is("2"), "rounds over all servers"),
        Key::new(
            "refresh",
            Kind::Section(&REFRESH),
            Default::Parts,
            "a name is asked for again when its time is over, within these",
        ),
    ],
);

const REFRESH: Section = Section::new(
    "`refresh`",
    &[
        Key::new("min", Kind::Duration(ms(100), minutes(1), &[]), Default::Is("1s"), "no sooner"),
        Key::new("max", Kind::Duration(seconds(1), hours(24), &[]), Default::Is("1m"), "no later"),
    ],
);

/// Who says which backends there are.
pub(in crate::config) const FROM: Section = Section::choice(
    "`from`",
    &[
        Key::new(
            "srv",
            Kind::TextOr(SERVICE, &SERVICES),
            Default::Absent,
            "a name whose services (SRV) are looked up: host, port, weight, and the priority as tier",
        ),
        Key::new(
            "file",
            Kind::TextOr(PATH, &FILE),
            Default::Absent,
            "the path of a file that lists backends: a list like `backends`, one of Prometheus, or a line for each",
        ),
        Key::new(
            "http",
            Kind::TextOr(URL, &HTTP),
            Default::Absent,
            "a URL that lists backends as such a file does, asked every so often",
        ),
        Key::new(
            "consul",
            Kind::TextOr(WORD, &CONSUL),
            Default::Absent,
            "the instances of a service of Consul, told when they change",
        ),
        Key::new(
            "docker",
            Kind::TextOr(LABEL, &DOCKER),
            Default::Absent,
            "the containers of Docker or Podman that have a label",
        ),
        Key::new(
            "kubernetes",
            Kind::TextOr(LOWER, &KUBERNETES),
            Default::Absent,
            "the pods of a service of Kubernetes (EndpointSlices), told when they change",
        ),
    ],
);

const SERVICES: Section = Section::new(
    "the `srv` of `from`",
    &[
        Key::new("name", Kind::Text(SERVICE), Default::Required, "it, e.g. _pg._tcp.example.org"),
        Key::new(
            "port",
            Kind::Whole(1, 65_535, &[]),
            Default::Told("the one that each service says"),
            "instead of the one that each service says",
        ),
    ],
);

pub(in crate::config) const FILE: Section = Section::new(
    "the `file` of `from`",
    &[
        Key::new("path", Kind::Text(PATH), Default::Required, "where it is"),
        Key::new(
            "every",
            Kind::Duration(ms(100), hours(1), &[]),
            Default::Is("1s"),
            "how often it is looked at; it is read when it is another",
        ),
    ],
);

/// What an entry of such a file may have.
pub(in crate::config) const LISTED: Section = Section::new(
    "a backend that a source lists",
    &[
        Key::new(
            "address",
            Kind::Text(Text::new("ADDRESS or ADDRESS:PORT")),
            Default::Required,
            "where it is dialled",
        ),
        Key::new("name", Kind::Text(NAME), Default::Told("the address"), "what it is called"),
        Key::new("weight", Kind::Whole(0, 256, &[]), Default::Absent, "its share of what is new"),
        Key::new("tier", Kind::Whole(0, 255, &[]), Default::Absent, "its tier"),
        Key::new(
            "max_sessions",
            Kind::Whole(1, u32::MAX as u64, OFF),
            Default::Absent,
            "its sessions at once",
        ),
    ],
);

/// A list of Prometheus.
pub(in crate::config) const TARGETS: Section = Section::new(
    "a group of `targets`",
    &[
        Key::new(
            "targets",
            Kind::List(Text::new("ADDRESS:PORT"), LISTED_MAX),
            Default::Required,
            "addresses",
        ),
        Key::new("labels", Kind::Section(&LISTED), Default::Absent, "what holds for all of them"),
    ],
);

pub(in crate::config) const DISCOVERY: Section = Section::new(
    "`discovery`",
    &[
        Key::new(
            "on_empty",
            Kind::Words(&ON_EMPTY),
            Default::Is("keep"),
            "what it means that a source says there is nobody: those found before stay, or leave",
        ),
        Key::new(
            "keep_for",
            Kind::Duration(seconds(1), hours(24 * 7), OFF),
            Default::Is("off"),
            "how long the last answer of a source that fails serves; off: for ever",
        ),
        Key::new(
            "max_removed",
            Kind::Percent(100),
            Default::Is("50%"),
            "an answer that takes away more than this, and two at least, must be confirmed for 5 s",
        ),
        Key::new(
            "max_backends",
            Kind::Whole(1, 10_000, &[]),
            Default::Is("1000"),
            "found ones of the pool; of more, those that a hash of their names puts first",
        ),
        Key::new(
            "networks",
            Kind::List(Text::new("ADDRESS or ADDRESS/BITS"), 1_000),
            Default::Is("[]"),
            "found addresses must lie in one of these; none: any that can be a backend",
        ),
        Key::new(
            "remember",
            Kind::Words(&["on", "off"]),
            Default::Is("on"),
            "what is found is kept for a start at which a source does not answer (found.json of the service's state folder)",
        ),
    ],
);

const SERVICE: Text = Text::new("the name of a service, as _pg._tcp.example.org").at_most(253);
const PATH: Text = Text::new("an absolute path").at_most(4_096);
/// Entries of a list.
pub(in crate::config) const LISTED_MAX: usize = 10_000;
const AUTO: &[&str] = &["auto"];
const ON_EMPTY: [&str; 2] = spelt(OnEmpty::WORDS);
const SERVERS_MAX: usize = 8;
const DOMAINS_MAX: usize = 32;
