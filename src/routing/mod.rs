//! Routes by name: what a client's first message says (TLS SNI and ALPN, the database and user of PostgreSQL, the host of a
//! Minecraft handshake), and which pool that leads to, before any backend is dialled.
//!
//! Pure. Must stay true: a message is read, never changed or answered; a reader that needs more says how many bytes at
//! least, so that whoever waits looks again no sooner; nothing is read beyond [`FIRST_BYTES_MAX`]; the first route that
//! fits is taken, in the order of the file.

mod client_hello;
mod cursor;
mod hello;
mod minecraft;
mod opening;
mod postgres;
mod refusal;
mod table;

pub use hello::ClientHello;
pub use opening::{FIRST_BYTES_MAX, Malformed, Opening, Seen};
pub use postgres::{CANCEL_BYTES_MAX, NO, SSL_REQUEST, YES};
pub use refusal::refusal;
pub use table::{Choice, Facts, First, Table};

/// Reads the first message of a client that begins with TLS, or with anything.
pub fn read_tls(bytes: &[u8]) -> Seen<Opening> {
    match client_hello::read(bytes) {
        Seen::Incomplete { missing } => Seen::Incomplete { missing },
        Seen::Malformed(malformed) => Seen::Malformed(malformed),
        Seen::Whole(hello) => Seen::Whole(hello.map_or(Opening::Other, Opening::Tls)),
    }
}

/// Reads the first message of a client of PostgreSQL. Since version 17 that may be TLS at once.
pub fn read_postgres(bytes: &[u8]) -> Seen<Opening> {
    if bytes.first() == Some(&client_hello::HANDSHAKE) { read_tls(bytes) } else { postgres::read(bytes) }
}

/// Reads the first message of a client of Minecraft.
pub fn read_minecraft(bytes: &[u8]) -> Seen<Opening> {
    minecraft::read(bytes)
}
