//! PostgreSQL startup packet: what a client says first: a request for encryption, its user and database, or the request to
//! cancel what another session does (protocol 3, 53.2).
//!
//! Pure.

use super::opening::{Malformed, Opening, Seen};

/// Reads the packet that a connection begins with.
pub(super) fn read(bytes: &[u8]) -> Seen<Opening> {
    let Some(([a, b, c, d], rest)) = bytes.split_first_chunk() else {
        return Seen::Incomplete { missing: 8 - bytes.len() };
    };
    let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Seen::Malformed(Malformed::Broken(
            "its first packet has a length that no startup packet has",
        ));
    }
    let Some(([a, b, c, d], _)) = rest.split_first_chunk() else {
        return Seen::Incomplete { missing: 8 - bytes.len() };
    };
    let code = u32::from_be_bytes([*a, *b, *c, *d]);
    let fits = match code {
        SSL_CODE | GSS_CODE => length == 8,
        // The key has 4 bytes, since version 18 up to 256.
        CANCEL_CODE => (16..=CANCEL_BYTES_MAX).contains(&length),
        code => code >> 16 == 3,
    };
    if !fits {
        return Seen::Malformed(Malformed::Broken("its first packet is none of PostgreSQL's protocol 3"));
    }
    let Some(packet) = bytes.get(8..length) else {
        return Seen::Incomplete { missing: length - bytes.len() };
    };
    match code {
        SSL_CODE => Seen::Whole(Opening::PostgresAsks { tls: true }),
        GSS_CODE => Seen::Whole(Opening::PostgresAsks { tls: false }),
        CANCEL_CODE => Seen::Whole(Opening::PostgresCancel { bytes: length }),
        _ => startup(packet).map_or_else(Seen::Malformed, Seen::Whole),
    }
}

fn startup(packet: &[u8]) -> Result<Opening, Malformed> {
    let bad = Malformed::Broken("its startup packet is not a list of names and values");
    // Pairs of texts that end with a zero, and a zero behind all of them.
    let mut texts = packet.strip_suffix(&[0]).ok_or(bad)?.split_inclusive(|byte| *byte == 0);
    let (mut user, mut database) = (None, None);
    while let Some(name) = texts.next() {
        let value = texts.next().ok_or(bad)?;
        let (Some(name), Some(value)) = (name.strip_suffix(&[0]), value.strip_suffix(&[0])) else {
            return Err(bad);
        };
        let known = match name {
            b"user" => &mut user,
            b"database" => &mut database,
            _ => continue,
        };
        let value = std::str::from_utf8(value).map_err(|_| bad)?;
        // Of a name that comes twice the server takes the last.
        *known = Some(value.to_owned());
    }
    let user = user.ok_or(Malformed::Broken("its startup packet names no user"))?;
    let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
    Ok(Opening::PostgresStartup { user, database })
}

/// The request for TLS.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
/// The answer of a server that takes it.
pub const YES: u8 = b'S';
/// The answer of one that does not.
pub const NO: u8 = b'N';
/// The longest request to cancel: four numbers and a key of 256 bytes.
pub const CANCEL_BYTES_MAX: usize = 12 + 256;

const SSL_CODE: u32 = 80_877_103;
const GSS_CODE: u32 = 80_877_104;
const CANCEL_CODE: u32 = 80_877_102;
/// MAX_STARTUP_PACKET_LENGTH, and the length itself.
const STARTUP_BYTES_MAX: usize = 10_000 + 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, rest: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + rest.len()).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), rest].concat()
    }

    fn is_malformed(bytes: &[u8]) -> bool {
        matches!(read(bytes), Seen::Malformed(_))
    }

    #[test]
    fn each_packet_is_known_when_it_is_whole_and_not_before() {
        let startup = |user: &str, database: &str| Opening::PostgresStartup {
            user: user.into(),
            database: database.into(),
        };
        for (bytes, opening) in [
            (SSL_REQUEST.to_vec(), Opening::PostgresAsks { tls: true }),
            (packet(GSS_CODE, &[]), Opening::PostgresAsks { tls: false }),
            (packet(CANCEL_CODE, &[7; 8]), Opening::PostgresCancel { bytes: 16 }),
            (packet(CANCEL_CODE, &[7; 36]), Opening::PostgresCancel { bytes: 44 }),
            (packet(3 << 16, b"user\0ann\0\0"), startup("ann", "ann")),
            (packet(3 << 16 | 2, b"user\0ann\0database\0b\0options\0\0\0"), startup("ann", "b")),
        ] {
            for cut in 0..bytes.len() {
                let Seen::Incomplete { missing } = read(&bytes[..cut]) else { panic!("{cut} of {bytes:?}") };
                assert!(missing > 0 && cut + missing <= bytes.len());
            }
            assert_eq!(read(&bytes), Seen::Whole(opening.clone()));
            assert_eq!(read(&[&bytes[..], b"more"].concat()), Seen::Whole(opening));
        }
    }

    #[test]
    fn what_no_client_says_is_malformed() {
        for bytes in [
            b"GET / HTTP/1.1\r\n".to_vec(),
            packet(2 << 16, b"user\0ann\0\0"),
            packet(SSL_CODE, b"more"),
            packet(CANCEL_CODE, &[7; 4]),
            packet(CANCEL_CODE, &[7; 261]),
            packet(3 << 16, b"user\0ann\0"),
            packet(3 << 16, b"user\0\0"),
            packet(3 << 16, b"database\0b\0\0"),
            packet(3 << 16, b"user\0\xff\0\0"),
            vec![0, 0, 0, 7],
            vec![0, 1, 0, 0],
        ] {
            assert!(is_malformed(&bytes), "{bytes:?}");
        }
    }
}
