//! Minecraft handshake (Java edition): the host name that a player typed, with what mods and proxies hang on to it taken
//! off; also in the old ping of versions before 1.7.
//!
//! Pure.

use super::cursor::Cursor;
use super::opening::{Malformed, Opening, Seen};

/// Reads the packet that a connection begins with.
pub(super) fn read(bytes: &[u8]) -> Seen<Opening> {
    match bytes {
        [] => return Seen::Incomplete { missing: 1 },
        // Those of before 1.6 wait for an answer to as much. A handshake that is as long as these bytes say goes on otherwise.
        [LEGACY_PING] | [LEGACY_PING, 1] => {
            return Seen::Whole(Opening::Minecraft { host: String::new(), login: false });
        }
        [LEGACY_PING, 1, PLUGIN_MESSAGE, ..] => return legacy(bytes),
        _ => {}
    }
    let mut from = Cursor::new(bytes);
    let length = match var_int(&mut from) {
        VarInt::Is(length) if (1..=HANDSHAKE_BYTES_MAX).contains(&length) => length,
        VarInt::Cut => return Seen::Incomplete { missing: 1 },
        _ => {
            return Seen::Malformed(Malformed::Broken("its first packet has a length that no handshake has"));
        }
    };
    let have = from.len();
    let Some(packet) = from.take(length) else { return Seen::Incomplete { missing: length - have } };
    handshake(packet)
        .map_or(Seen::Malformed(Malformed::Broken("its first packet is no Minecraft handshake")), Seen::Whole)
}

fn handshake(packet: &[u8]) -> Option<Opening> {
    let mut from = Cursor::new(packet);
    let number = |from: &mut Cursor<'_>| match var_int(from) {
        VarInt::Is(value) => Some(value),
        _ => None,
    };
    if number(&mut from)? != HANDSHAKE {
        return None;
    }
    let _version = number(&mut from)?;
    let length = number(&mut from)?;
    let host = from.take(length)?;
    let _port = from.short()?;
    // Status, login, and login after a transfer.
    let next = number(&mut from).filter(|next| (1..=3).contains(next))?;
    let host = host_of(std::str::from_utf8(host).ok()?);
    from.is_empty().then_some(Opening::Minecraft { host, login: next > 1 })
}

/// The ping of 1.6: "MC|PingHost" in UTF-16 with its length, the length of the rest, version, the host, the port.
fn legacy(bytes: &[u8]) -> Seen<Opening> {
    let Some(rest) = bytes.get(LEGACY_FIXED_BYTES..) else {
        return Seen::Incomplete { missing: LEGACY_FIXED_BYTES + 2 - bytes.len() };
    };
    let mut from = Cursor::new(rest);
    let Some(length) = from.short() else { return Seen::Incomplete { missing: 2 - rest.len() } };
    if length > HANDSHAKE_BYTES_MAX {
        return Seen::Malformed(Malformed::Broken("its ping is longer than any"));
    }
    let Some(data) = from.take(length) else {
        return Seen::Incomplete { missing: length + 2 - rest.len() };
    };
    let mut data = Cursor::new(data);
    let host = (|| {
        data.byte()?;
        let length = data.short()?;
        let units: Vec<u16> =
            data.take(2 * length)?.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]])).collect();
        String::from_utf16(&units).ok()
    })();
    host.map_or(Seen::Malformed(Malformed::Broken("its ping names no host")), |host| {
        Seen::Whole(Opening::Minecraft { host: host_of(&host), login: false })
    })
}

/// Without what Forge (`\0FML\0`), BungeeCord (`\0` and addresses) and TCPShield (`///`) put behind it, and a final dot.
fn host_of(text: &str) -> String {
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.split("///").next().unwrap_or_default();
    text.strip_suffix('.').unwrap_or(text).to_lowercase()
}

enum VarInt {
    Is(usize),
    /// More of it is to come.
    Cut,
    Malformed,
}

/// Seven bits a byte, the lowest first, at most five bytes.
fn var_int(from: &mut Cursor<'_>) -> VarInt {
    let mut value = 0_u32;
    for at in 0..5 {
        let Some(byte) = from.byte() else { return VarInt::Cut };
        if at == 4 && byte > 0x0f {
            return VarInt::Malformed;
        }
        value |= u32::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return VarInt::Is(value as usize);
        }
    }
    VarInt::Malformed
}

const HANDSHAKE: usize = 0;
const LEGACY_PING: u8 = 0xfe;
const PLUGIN_MESSAGE: u8 = 0xfa;
const LEGACY_FIXED_BYTES: usize = 3 + 2 + 22;
/// A host of 255 characters, four bytes each; BungeeCord hangs a whole profile on it.
const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(host: &str, next: u8) -> Vec<u8> {
        let mut packet = vec![0, 0xfd, 0x05];
        packet.push(u8::try_from(host.len()).unwrap());
        packet.extend_from_slice(host.as_bytes());
        packet.extend_from_slice(&[0x63, 0xdd, next]);
        let mut whole = vec![u8::try_from(packet.len()).unwrap()];
        whole.extend(packet);
        whole
    }

    fn host_of(bytes: &[u8]) -> Option<(String, bool)> {
        match read(bytes) {
            Seen::Whole(Opening::Minecraft { host, login }) => Some((host, login)),
            _ => None,
        }
    }

    #[test]
    fn the_host_is_what_was_typed() {
        for (sent, host) in [
            ("creative.example.org", "creative.example.org"),
            ("Creative.Example.org.", "creative.example.org"),
            ("lobby\0FML\0", "lobby"),
            ("lobby\0FML2\0", "lobby"),
            ("lobby\x0010.0.0.1\x00uuid", "lobby"),
            ("lobby///10.0.0.1:4///12", "lobby"),
        ] {
            let whole = handshake(sent, 2);
            for cut in 0..whole.len() {
                let Seen::Incomplete { missing } = read(&whole[..cut]) else { panic!("{cut} of {sent}") };
                assert!(missing > 0 && cut + missing <= whole.len());
            }
            assert_eq!(host_of(&whole), Some((host.to_owned(), true)));
        }
        assert_eq!(host_of(&handshake("a.b", 1)), Some(("a.b".to_owned(), false)));
    }

    #[test]
    fn an_old_ping_says_its_host_since_it_can() {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>();
        let host = utf16("old.example.org");
        let data = [&[78][..], &[0, 15], &host, &[0, 0, 0x63, 0xdd]].concat();
        let length = u16::try_from(data.len()).unwrap().to_be_bytes();
        let whole = [&[0xfe, 1, 0xfa, 0, 11][..], &utf16("MC|PingHost"), &length, &data].concat();
        for cut in 3..whole.len() {
            let Seen::Incomplete { missing } = read(&whole[..cut]) else { panic!("{cut}") };
            assert!(missing > 0 && cut + missing <= whole.len());
        }
        assert_eq!(host_of(&whole), Some(("old.example.org".to_owned(), false)));
        assert_eq!(host_of(&[0xfe]), Some((String::new(), false)));
        assert_eq!(host_of(&[0xfe, 1]), Some((String::new(), false)));
    }

    #[test]
    fn what_is_no_handshake_is_malformed() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789"
                [..],
            &[3, 1, 2, 3],
            &[0xff, 0xff, 0xff, 0xff, 0xff],
            &[0],
        ] {
            assert!(matches!(read(bytes), Seen::Malformed(_)), "{bytes:?}");
        }
    }
}
