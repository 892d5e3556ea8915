//! ClientHello as routes see it: the server's name (SNI) and the protocols (ALPN) that it offers.
//!
//! Pure.

use super::cursor::Cursor;

/// What a hello says that routes go by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The server's name, in lower case, without a final dot.
    pub sni: Option<String>,
    /// The protocols it offers, each with its length in front.
    alpn: Vec<u8>,
}

impl ClientHello {
    /// One of a client that says this name and no protocols.
    pub fn named(sni: &str) -> Self {
        Self { sni: Some(plain_name(sni)), alpn: Vec::new() }
    }

    /// The same offering this protocol as well.
    #[must_use]
    pub fn offering(mut self, protocol: &str) -> Self {
        if let Ok(length) = u8::try_from(protocol.len()) {
            self.alpn.push(length);
            self.alpn.extend_from_slice(protocol.as_bytes());
        }
        self
    }

    /// The same offering these, each with its length in front.
    pub(super) fn with_protocols(self, list: &[u8]) -> Self {
        Self { alpn: list.to_vec(), ..self }
    }

    /// Does it offer this protocol?
    pub fn offers(&self, protocol: &str) -> bool {
        let mut rest = Cursor::new(&self.alpn);
        while let Some(offered) = rest.vector8() {
            if offered == protocol.as_bytes() {
                return true;
            }
        }
        false
    }
}

/// As names are compared.
pub(super) fn plain_name(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
