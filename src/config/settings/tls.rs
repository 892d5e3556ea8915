//! TLS of health checks and of sources, as the program uses it.

use std::fmt;
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
    /// The certificate authorities; `None`: those that this host trusts.
    pub ca: Option<Pem>,
    /// The name that the certificate must bear; `None`: the address.
    pub name: Option<Box<str>>,
    /// Our certificate and its key.
    pub own: Option<(Pem, Pem)>,
}

/// Certificates or a key in PEM form. `Debug` tells nothing of a text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Pem {
    /// The text of this file.
    File(Box<str>),
    /// This text, which a kubeconfig held.
    Text(Arc<[u8]>),
}

impl From<String> for Pem {
    fn from(path: String) -> Self {
        Self::File(path.into())
    }
}

impl From<Box<str>> for Pem {
    fn from(path: Box<str>) -> Self {
        Self::File(path)
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({path})"),
            Self::Text(_) => f.write_str("Text"),
        }
    }
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
