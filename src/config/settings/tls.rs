//! TLS of health checks, as the program uses it.

use std::sync::Arc;

/// The `tls` of a check.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tls {
    /// None.
    Off,
    /// Where the server has it, and whoever it is.
    Try,
    /// Without it there is no answer.
    On(Arc<TlsTerms>),
}

/// Whom to believe.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    /// What is looked at.
    pub verify: Verify,
    /// The file with the certificate authorities; `None`: those that this host trusts.
    pub ca: Option<Box<str>>,
    /// The name that the certificate must bear; `None`: the backend's address.
    pub name: Option<Box<str>>,
    /// The files with our certificate and its key.
    pub own: Option<(Box<str>, Box<str>)>,
}

impl TlsTerms {
    /// Whoever it is.
    pub const ANYBODY: Self = Self { verify: Verify::Off, ca: None, name: None, own: None };
}

/// The `verify` of `tls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verify {
    /// Who signed the certificate, and the name in it.
    Full,
    /// Who signed it.
    Ca,
    /// Nothing.
    Off,
}

impl Verify {
    /// Its word in the file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Ca => "ca",
            Self::Off => "off",
        }
    }

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        [Self::Full, Self::Ca, Self::Off].into_iter().find(|one| one.word() == word)
    }
}
