//! Keys that all checks share that log in, or speak TLS: user, password, certificate.
//!
//! Pure. Tables of rows.

use super::{ANY_NUMBER, Default, Key, Kind, Section, Text};

pub(in crate::config) const SECRET: Section = Section::choice(
    "`password`",
    &[
        Key::new(
            "file",
            Kind::Text(PATH),
            Default::Absent,
            "its first line, read at the start and at each reload",
        ),
        Key::new(
            "credential",
            Kind::Text(PATH),
            Default::Absent,
            "the name of one that the service manager lends (LoadCredential=)",
        ),
    ],
);

pub(in crate::config) const TLS: Section = Section::new(
    "the `tls` of a check",
    &[
        Key::new(
            "verify",
            Kind::Words(&VERIFY),
            Default::Is("full"),
            "what is looked at in the server's certificate: full (signature and name), ca (signature), off",
        ),
        Key::new(
            "ca",
            Kind::Text(PATH),
            Default::Is("system"),
            "a PEM file of authorities, read anew when it changes; system: those that this host trusts",
        ),
        Key::new(
            "name",
            Kind::Text(HOST),
            Default::Told("the backend's address"),
            "the name that the certificate must bear",
        ),
        Key::new("certificate", Kind::Text(PATH), Default::Absent, "a PEM file with our own certificate"),
        Key::new("key", Kind::Text(PATH), Default::Absent, "a PEM file with its key"),
    ],
);

/// Of every check that logs in.
pub(super) const PASSWORD: Key =
    Key::new("password", PASSWORD_KIND, Default::Is(""), "a text, or where it is read from; empty: none");

pub(super) const PASSWORD_KIND: Kind =
    Kind::TextOr(Text { numbers: ANY_NUMBER, ..Text::new("text").at_most(1_024) }, &SECRET);
pub(super) const LOGIN: Kind =
    Kind::Text(Text { numbers: ANY_NUMBER, ..Text::new("1 to 63 bytes").at_most(63) });
const PATH: Text = Text { numbers: ANY_NUMBER, ..Text::new("text").at_most(4_096) };
const HOST: Text = Text { numbers: ANY_NUMBER, ..Text::new("text").at_most(253) };
pub(super) const TLS_WORDS: [&str; 3] = ["off", "try", "on"];
pub(super) const TLS_DOC: &str =
    "off; try: where the server has it; on: or no answer; both whoever it is, a map looks at who";
const VERIFY: [&str; 3] = ["full", "ca", "off"];
