//! The `health` of a pool: what is asked, how often, and how many answers count.
//!
//! Pure. `timeout` may be longer than `interval`: a backend is asked by one check at a time.

use super::databases::{mongodb, mysql, redis};
use super::login::postgres;
use super::section::Fields;
use super::talk::parse_bytes;
use super::values::{is_word, scalar, word};
use crate::config::document::{Entry, Value};
use crate::config::foreign;
use crate::config::mistake::{Report, quoted};
use crate::config::nearest::nearest;
use crate::config::settings::{Check, Health, RECORD_TYPES, SendProxy};
use crate::config::spec::{CHECK, DNS, EXPECT, Kind, Section, TALK, UDP_TALK};

/// The health settings that these fields describe, in a pool with this `send_proxy`.
pub(super) fn read(fields: &Fields<'_>, send_proxy: SendProxy, report: &mut Report) -> Health {
    let kind = fields.kind("check");
    let check = fields.read("check", report, |entry, report| check(&kind, entry, report));
    let check = check.unwrap_or(Check::Off);
    let is_apart = check == Check::Patroni && fields.get("port").is_none();
    Health {
        interval: fields.duration("interval", report),
        timeout: fields.duration("timeout", report),
        rise: fields.whole("rise", report),
        fall: fields.whole("fall", report),
        port: if is_apart { Some(PATRONI_PORT) } else { fields.whole_or("port", report) },
        check,
        send_proxy,
        keep: fields.duration_or("keep", report),
    }
}

fn check(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Check> {
    if is_word(&entry.value, "off") {
        return Some(Check::Off);
    }
    if is_word(&entry.value, "tcp") {
        return Some(Check::Tcp);
    }
    if is_word(&entry.value, "patroni") {
        return Some(Check::Patroni);
    }
    if !matches!(entry.value.value, Value::Map(_)) {
        let text = scalar("check", &entry.value, EXPECTED, report)?;
        let message = match (foreign::value("check", text), nearest(text, kind.words().iter().copied())) {
            (Some(here), _) => format!("`check` cannot be {}; {here}", quoted(text)),
            (None, Some(near)) => format!("`check` cannot be {}; did you mean `{near}`?", quoted(text)),
            (None, None) => format!("`check` must be {EXPECTED}, not {}", quoted(text)),
        };
        report.tell(entry.value.place, message);
        return None;
    }
    let fields = Fields::open(&entry.value, &CHECK, report)?;
    let [choice] = fields.entries() else {
        let message = if fields.is_empty() {
            format!("`check` is an empty map; it must be {EXPECTED}")
        } else {
            format!("`check` is one thing: {EXPECTED}")
        };
        report.tell(entry.value.place, message);
        return None;
    };
    match &*choice.key {
        "tcp" => tcp_talk(choice, report),
        "postgres" => postgres(choice, report),
        "redis" => redis(choice, report),
        "mysql" => mysql(choice, report),
        "mongodb" => mongodb(choice, report),
        "udp" => {
            let (send, expect) = talk(choice, &UDP_TALK, report)?;
            Some(Check::Udp { send, expect })
        }
        "dns" => dns(choice, report),
        // An unknown key was told.
        _ => None,
    }
}

fn tcp_talk(choice: &Entry, report: &mut Report) -> Option<Check> {
    if let Some(roles) = tcp_roles(choice, report) {
        return roles;
    }
    let (send, expect) = talk(choice, &TALK, report)?;
    if send.is_empty() && expect.is_empty() {
        report.tell(
            choice.place,
            "a `tcp` conversation needs `send`, `expect` or both; without them write `check: tcp`",
        );
    }
    Some(Check::TcpTalk { send, expect })
}

/// A conversation whose `expect` is a text for each role. `None`: it is none.
fn tcp_roles(choice: &Entry, report: &mut Report) -> Option<Option<Check>> {
    let talk = Fields::open(&choice.value, &TALK, &mut Report::default())?;
    let expect = talk.get("expect").filter(|entry| matches!(entry.value.value, Value::Map(_)))?;
    // Opened once more, so that unknown keys are told.
    Fields::open(&choice.value, &TALK, report)?;
    let texts = Fields::open(&expect.value, &EXPECT, report)?;
    let mut said = |fields: &Fields<'_>, key| {
        let kind = fields.kind(key);
        let read = |entry: &Entry, report: &mut Report| Some(bytes_of(&kind, entry, report));
        fields.read(key, report, read).flatten()
    };
    let (send, primary, replica) = (said(&talk, "send"), said(&texts, "primary"), said(&texts, "replica"));
    for (key, bytes) in [("primary", &primary), ("replica", &replica)] {
        if bytes.as_ref().is_some_and(Vec::is_empty) || texts.get(key).is_none() {
            report.tell(expect.place, format!("`expect` needs `{key}`: what such a server says"));
        }
    }
    if primary.is_some() && primary == replica {
        report.tell(expect.place, "`expect`: a primary and a replica that say the same cannot be told apart");
    }
    Some(send.zip(primary).zip(replica).map(|((send, primary), replica)| Check::TcpRoles {
        send,
        primary,
        replica,
    }))
}

/// `name` and `type` of a DNS question.
fn dns(choice: &Entry, report: &mut Report) -> Option<Check> {
    let fields = Fields::open(&choice.value, &DNS, report)?;
    let kind = fields.kind("type");
    let record_type = fields.read("type", report, |entry, report| word(&kind, entry, report));
    let Some(entry) = fields.get("name") else {
        report.tell(choice.place, "`dns` needs `name`: what is asked for");
        return None;
    };
    let kind = fields.kind("name");
    let expected = kind.expected();
    let name = scalar("name", &entry.value, expected, report)?;
    let bare = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_graphic());
    if name != "." && (bare.len() > kind.most() || !bare.split('.').all(label)) {
        report.tell(entry.value.place, format!("`name` must be {expected}, not {}", quoted(name)));
    }
    let record_type = RECORD_TYPES.iter().find(|(word, _)| Some(*word) == record_type)?.1;
    Some(Check::Dns { name: bare.to_owned(), record_type })
}

/// `send` and `expect` of a conversation.
fn talk(choice: &Entry, section: &'static Section, report: &mut Report) -> Option<(Vec<u8>, Vec<u8>)> {
    let talk = Fields::open(&choice.value, section, report)?;
    let mut bytes = |key| {
        let kind = talk.kind(key);
        // A wrong one is no empty one: nothing more is told about it.
        let read = |entry: &Entry, report: &mut Report| Some(bytes_of(&kind, entry, report));
        talk.read(key, report, read).flatten()
    };
    // Both are read before either is given up, so that both are told.
    let (send, expect) = (bytes("send"), bytes("expect"));
    Some((send?, expect?))
}

fn bytes_of(kind: &Kind, entry: &Entry, report: &mut Report) -> Option<Vec<u8>> {
    let text = scalar(&entry.key, &entry.value, kind.expected(), report)?;
    let bytes = parse_bytes(text, kind.most());
    if let Err(error) = &bytes {
        report.tell(entry.value.place, format!("`{}`: {error}", entry.key));
    }
    bytes.ok()
}

/// Where its REST API usually is.
const PATRONI_PORT: u16 = 8008;
const EXPECTED: &str = "`off`, `tcp`, `patroni`, `{ postgres: { user: NAME } }`, `{ redis: {} }`, \
     `{ mysql: { user: NAME } }`, `{ mongodb: {} }`, \
     `{ tcp: { send: '...', expect: '...' } }`, `{ udp: { send: '...', expect: '...' } }` or `{ dns: { name: example.org, type: A } }`";
