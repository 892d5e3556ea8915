//! Secret of a check: a password, and where it is read from. It is shown nowhere.

use std::fmt;
use std::sync::Arc;

/// A password. `Debug` tells nothing of it; where it is shown, its place is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret {
    source: SecretSource,
    text: Arc<[u8]>,
}

/// Where a password stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SecretSource {
    /// Nowhere: there is none.
    Nowhere,
    /// In the file of the settings itself.
    Here,
    /// In a file of its own; a line end behind it is none of it.
    File(Box<str>),
    /// In a variable of the environment, by this name.
    Variable(Box<str>),
    /// With the service manager (`LoadCredential=`), by this name.
    Credential(Box<str>),
}

impl Secret {
    /// No password.
    pub fn none() -> Self {
        Self { source: SecretSource::Nowhere, text: Arc::default() }
    }

    /// This one, from there. What a file holds behind its first line end is no part of it.
    pub fn new(source: SecretSource, text: &[u8]) -> Self {
        let text = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        Self { source, text: text.strip_suffix(b"\r").unwrap_or(text).into() }
    }

    /// The password itself, for whoever has to say it to a server.
    pub fn expose(&self) -> &[u8] {
        &self.text
    }

    /// Where it stands.
    pub fn source(&self) -> &SecretSource {
        &self.source
    }

    /// There is none.
    pub fn is_none(&self) -> bool {
        self.text.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({:?})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_secret_is_where_it_stands() {
        let secret = Secret::new(SecretSource::File("/etc/evenkeel/pg".into()), b"hunter2\r\nmore\n");
        assert_eq!(secret.expose(), b"hunter2");
        let shown = format!("{secret:?} {:#?}", Some(&secret));
        assert!(!shown.contains("hunter") && shown.contains("/etc/evenkeel/pg"), "{shown}");
        assert!(!shown.contains("104"), "not by its bytes either: {shown}");
    }
}
