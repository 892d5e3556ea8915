//! Refusals in the language of the client: what a server of its protocol says when it cannot serve, so that drivers try another
//! and people can read why.
//!
//! Pure.

use crate::config::settings::Speaks;
use crate::reason::Reason;

/// The message for a client that is refused for this reason; `text` is what its pool says to players. `None`: it is not told.
pub fn refusal(speaks: Speaks, reason: Reason, text: Option<&str>, is_status: bool) -> Option<Vec<u8>> {
    let (sqlstate, told) = told(reason)?;
    let told = format!("{told} ({})", reason.word());
    Some(match speaks {
        Speaks::Postgres => postgres(sqlstate, &told),
        Speaks::Mysql => mysql(&told),
        Speaks::Redis => format!("-ERR {told}\r\n").into_bytes(),
        Speaks::Minecraft if is_status => minecraft(&status(text.unwrap_or(&told))),
        Speaks::Minecraft => minecraft(&chat(text.unwrap_or(&told))),
    })
}

/// What is said for a reason, and by which state of SQL. Who is denied, or broke the rules, hears nothing.
fn told(reason: Reason) -> Option<(&'static str, &'static str)> {
    Some(match reason {
        Reason::NoBackend | Reason::QueueTimeout => {
            (CANNOT_CONNECT_NOW, "no server is available at the moment")
        }
        Reason::ConnectFailed | Reason::NoSourcePort => (CANNOT_CONNECT_NOW, "no server could be reached"),
        Reason::BackendsFull | Reason::QueueFull => (TOO_MANY_CONNECTIONS, "every server is full"),
        Reason::LimitSessions
        | Reason::LimitSessionsPerSource
        | Reason::LimitRate
        | Reason::LimitRatePerSource => (TOO_MANY_CONNECTIONS, "too many connections"),
        Reason::NoRoute => (INVALID_CATALOG_NAME, "no server is here by that name"),
        _ => return None,
    })
}

/// ErrorResponse: severity twice (as it is shown, and as programs read it), state, message.
fn postgres(sqlstate: &str, told: &str) -> Vec<u8> {
    let fields = format!("SFATAL\0VFATAL\0C{sqlstate}\0Mevenkeel: {told}\0\0");
    let length = u32::try_from(4 + fields.len()).unwrap_or(u32::MAX);
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}

/// ERR_Packet in place of the greeting: without a state of SQL, since no capabilities are agreed on.
fn mysql(told: &str) -> Vec<u8> {
    let text = format!("evenkeel: {told}");
    let length = u32::try_from(3 + text.len()).unwrap_or(u32::MAX).to_le_bytes();
    [&length[..3], &[0, 0xff], &TOO_MANY_OF_MYSQL.to_le_bytes(), text.as_bytes()].concat()
}

/// A packet of kind 0: what a client that logs in is told, or one that asks for the status.
fn minecraft(json: &str) -> Vec<u8> {
    let text = var_int(json.len());
    let mut packet = var_int(1 + text.len() + json.len());
    packet.push(0);
    packet.extend(text);
    packet.extend_from_slice(json.as_bytes());
    packet
}

fn chat(text: &str) -> String {
    format!("{{\"text\":{}}}", quoted(text))
}

fn status(text: &str) -> String {
    format!(
        "{{\"version\":{{\"name\":\"evenkeel\",\"protocol\":-1}},\"players\":{{\"max\":0,\"online\":0}},\"description\":{}}}",
        chat(text)
    )
}

/// A string of JSON.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn var_int(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(3);
    loop {
        // Seven bits fit.
        let low = u8::try_from(value & 0x7f).unwrap_or(0);
        value >>= 7;
        if value == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

/// Drivers of PostgreSQL try their next host for this one.
const CANNOT_CONNECT_NOW: &str = "57P03";
const TOO_MANY_CONNECTIONS: &str = "53300";
const INVALID_CATALOG_NAME: &str = "3D000";
/// ER_CON_COUNT_ERROR.
const TOO_MANY_OF_MYSQL: u16 = 1_040;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(speaks: Speaks, text: Option<&str>, is_status: bool) -> Vec<u8> {
        refusal(speaks, Reason::NoBackend, text, is_status).unwrap()
    }

    #[test]
    fn each_is_what_a_server_would_say() {
        let told = "no server is available at the moment (no_backend)";
        assert_eq!(
            of(Speaks::Postgres, None, false),
            [&b"E\0\0\0\x57SFATAL\0VFATAL\0C57P03\0Mevenkeel: "[..], told.as_bytes(), b"\0\0"].concat()
        );
        assert_eq!(
            of(Speaks::Mysql, None, false),
            [&[62, 0, 0, 0, 0xff, 0x10, 4][..], b"evenkeel: ", told.as_bytes()].concat()
        );
        assert_eq!(of(Speaks::Redis, None, false), format!("-ERR {told}\r\n").into_bytes());
        assert_eq!(
            of(Speaks::Minecraft, Some("Say \"hi\""), false),
            b"\x17\0\x15{\"text\":\"Say \\\"hi\\\"\"}"
        );
        assert!(of(Speaks::Minecraft, Some("x"), true).ends_with(b",\"description\":{\"text\":\"x\"}}"));
        let long = "x".repeat(300);
        assert!(of(Speaks::Minecraft, Some(&long), false).starts_with(&[0xba, 2, 0, 0xb7, 2]));
    }

    #[test]
    fn who_is_denied_or_broke_the_rules_hears_nothing() {
        for reason in [
            Reason::Denied,
            Reason::BadProxyHeader,
            Reason::BadFirstMessage,
            Reason::NoFirstMessage,
            Reason::ClientReset,
            Reason::Shutdown,
        ] {
            assert_eq!(refusal(Speaks::Redis, reason, None, false), None);
        }
    }
}
