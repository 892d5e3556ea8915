//! Keys of sources that are asked over HTTP: `http`, `consul`, `docker` and `kubernetes` of `from`.
//!
//! Pure. Tables of rows.

use super::{ANY_NUMBER, Default, Key, Kind, Section, Text, hours, seconds};

pub(in crate::config) const HTTP: Section = Section::new(
    "the `http` of `from`",
    &[
        Key::new(
            "url",
            Kind::Text(URL),
            Default::Required,
            "what is asked for the list, with GET; the forms are those of a file",
        ),
        Key::new("every", Kind::Duration(seconds(1), hours(1), &[]), Default::Is("10s"), "how often"),
        TOKEN_FILE,
        TLS_KEY,
    ],
);

pub(in crate::config) const CONSUL: Section = Section::new(
    "the `consul` of `from`",
    &[
        Key::new("service", Kind::Text(WORD), Default::Required, "the name of the service"),
        Key::new(
            "agent",
            Kind::Text(AGENT),
            Default::Is("http://127.0.0.1:8500"),
            "who is asked: a URL without a path, or unix:///PATH",
        ),
        Key::new("tag", Kind::Text(WORD), Default::Absent, "only instances that have it"),
        Key::new("datacenter", Kind::Text(WORD), Default::Absent, "another one than the agent's"),
        Key::new(
            "stale",
            Kind::Words(&["on", "off"]),
            Default::Is("on"),
            "any server may answer, which goes on without a leader; off: the leader alone",
        ),
        Key::new(
            "filter",
            Kind::Text(Text { numbers: ANY_NUMBER, ..Text::new("1 to 1024 bytes").at_most(1_024) }),
            Default::Absent,
            "an expression of Consul's that instances must fulfil",
        ),
        TOKEN_FILE,
        TLS_KEY,
    ],
);

pub(in crate::config) const DOCKER: Section = Section::new(
    "the `docker` of `from`",
    &[
        Key::new("label", Kind::Text(LABEL), Default::Required, "which containers: KEY or KEY=VALUE"),
        Key::new(
            "port",
            Kind::Whole(1, u16::MAX as u64, &[]),
            Default::Told("the container's label evenkeel.port"),
            "where they listen, inside",
        ),
        Key::new(
            "network",
            Kind::Text(WORD),
            Default::Told("the only one that they are in"),
            "in which network of theirs they are reached",
        ),
        Key::new(
            "socket",
            Kind::Text(Text::new("an absolute path").at_most(SOCKET_BYTES_MAX)),
            Default::Is("/var/run/docker.sock"),
            "the daemon's socket; Podman's is /run/podman/podman.sock",
        ),
    ],
);

pub(in crate::config) const KUBERNETES: Section = Section::new(
    "the `kubernetes` of `from`",
    &[
        Key::new(
            "namespace",
            Kind::Text(LOWER),
            Default::Told("the pod's, or the kubeconfig's"),
            "where the service is",
        ),
        Key::new("service", Kind::Text(LOWER), Default::Required, "its name"),
        Key::new(
            "port",
            Kind::Text(Text {
                numbers: Some((1, u16::MAX as u64)),
                ..Text::new("the name of a port, or its number at the pods").at_most(63)
            }),
            Default::Told("the only one"),
            "which port; needed where there are several",
        ),
        Key::new(
            "kubeconfig",
            Kind::Text(PATH),
            Default::Told("as a pod is let in by its cluster"),
            "a file that says who is asked and as whom",
        ),
    ],
);

/// As that of a check, but for whose name is looked for.
pub(in crate::config) const TLS_OF_SOURCE: Section = Section::new(
    "the `tls` of a source",
    &[
        Key::new(
            "verify",
            Kind::Words(&["full", "ca", "off"]),
            Default::Is("full"),
            "what is looked at in the server's certificate: full (signature and name), ca (signature), off",
        ),
        Key::new(
            "ca",
            Kind::Text(FILE),
            Default::Is("system"),
            "a PEM file of authorities, read anew when it changes; system: those that this host trusts",
        ),
        Key::new(
            "name",
            Kind::Text(Text { numbers: ANY_NUMBER, ..Text::new("text").at_most(253) }),
            Default::Told("the host of the URL"),
            "the name that the certificate must bear",
        ),
        Key::new("certificate", Kind::Text(FILE), Default::Absent, "a PEM file with our own certificate"),
        Key::new("key", Kind::Text(FILE), Default::Absent, "a PEM file with its key"),
    ],
);

const TOKEN_FILE: Key = Key::new(
    "token_file",
    Kind::Text(PATH),
    Default::Absent,
    "a file with the token, which others cannot read; read anew for each question",
);
const TLS_KEY: Key =
    Key::new("tls", Kind::Section(&TLS_OF_SOURCE), Default::Absent, "with https: whom to believe");

pub(super) const URL: Text = Text::new("a URL, http:// or https://").at_most(2_048);
const AGENT: Text = Text::new("a URL without a path, or unix:///PATH");
pub(super) const WORD: Text = Text { numbers: ANY_NUMBER, ..Text::new("1 to 128 bytes").at_most(128) };
pub(super) const LABEL: Text = Text { numbers: ANY_NUMBER, ..Text::new("KEY or KEY=VALUE").at_most(512) };
pub(super) const LOWER: Text = Text {
    numbers: ANY_NUMBER,
    ..Text::new("letters in lower case, digits and `-`, at most 63 of them").at_most(63)
};
/// What the kernel takes for the path of a socket.
pub(in crate::config) const SOCKET_BYTES_MAX: usize = 107;
const PATH: Text = Text::new("an absolute path").at_most(4_096);
const FILE: Text = Text { numbers: ANY_NUMBER, ..Text::new("text").at_most(4_096) };
