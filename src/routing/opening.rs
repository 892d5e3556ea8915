//! Opening of a session: what a client's first message is, or what is missing or wrong of it.
//!
//! Pure.

use super::hello::ClientHello;

/// What a message that has come so far is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// At least so many bytes more belong to it.
    Incomplete {
        /// Never 0.
        missing: usize,
    },
    /// It breaks the rules of its protocol.
    Malformed(Malformed),
    /// All of it.
    Whole(T),
}

/// What is wrong with a first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An offer of SSLv2, which nobody may take (RFC 6176).
    #[error("it begins with a hello of SSLv2")]
    SslV2,
    /// More than [`FIRST_BYTES_MAX`].
    #[error("the first message is longer than 64 KiB")]
    TooLong,
    /// A record or message that is none of its protocol.
    #[error("{0}")]
    Broken(&'static str),
}

/// What a first message begins a session of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// TLS.
    Tls(ClientHello),
    /// A PostgreSQL client asks whether the server takes TLS, or GSSAPI encryption.
    PostgresAsks {
        /// For TLS.
        tls: bool,
    },
    /// A PostgreSQL client wants to log in.
    PostgresStartup {
        /// As whom.
        user: String,
        /// Where; that of the user's name unless it says so.
        database: String,
    },
    /// A PostgreSQL client wants what another session of it does to be stopped: so many bytes.
    PostgresCancel {
        /// All of the message.
        bytes: usize,
    },
    /// A Minecraft client.
    Minecraft {
        /// The name it was given for the server.
        host: String,
        /// It wants to play, and does not only ask how the server is.
        login: bool,
    },
    /// Something else, which no route by name is for.
    Other,
}

/// The most bytes of a first message. A hello with post-quantum keys has some 1.8 KiB.
pub const FIRST_BYTES_MAX: usize = 64 * 1024;
