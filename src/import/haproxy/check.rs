//! Checks of HAProxy (`option …-check`, `tcp-check`, `option httpchk`) as checks of ours; a role where one asks for it.

use super::super::notes::Notes;
use super::super::plan::Part;
use super::super::units;
use super::super::yaml::Yaml;
use super::sections::Section;
use super::server::OfServers;
use super::words::Line;

/// What the pool says of health; the role that its check was made for.
pub(super) fn read(
    section: &Section,
    of: &OfServers,
    pool: &mut Part,
    notes: &mut Notes,
) -> Option<&'static str> {
    if of.checked == 0 {
        pool.word(&["health", "check"], "off");
        return None;
    }
    let here = notes.at(section.number);
    if of.unchecked > 0 {
        notes.different(&here, "some servers are checked and some are not: here all of a pool are");
    }
    if let Some(ms) = section.timeout("check") {
        pool.word(&["health", "timeout"], units::duration(ms, units::CHECK_TIMEOUT));
    }
    let port = of.check_port.as_deref().filter(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    if let Some(port) = port {
        pool.word(&["health", "port"], port);
    }
    if of.check_ssl {
        notes.lost(
            &here,
            "`check-ssl`: this check does not begin TLS; it sees whether the port takes connections",
        );
    }
    if of.agent {
        notes.lost(&here, "`agent-check`: no agent is asked");
    }
    for (name, told) in NAMED {
        if let Some(line) = section.last(&["option", name]).filter(|_| section.has_option(name)) {
            let at = notes.at(line.number);
            let whole = line.words.join(" ");
            notes.different(
                &at,
                format!("`{whole}`: the check is whether the port takes connections. {told}"),
            );
        }
    }
    // The last one that is said is the one that is made.
    match section.last_option(&[
        "redis-check",
        "httpchk",
        "tcp-check",
        "pgsql-check",
        "mysql-check",
        "ldap-check",
        "smtpchk",
    ]) {
        Some("redis-check") => pool.set(&["health", "check", "tcp"], conversation("PING\r\n", "+PONG")),
        Some("httpchk") => return http(section, port, pool, notes),
        Some("tcp-check") => return steps(section, pool, notes),
        _ => {}
    }
    None
}

fn conversation(send: &str, expect: &str) -> Yaml {
    let mut both = Yaml::Map(Vec::new());
    for (key, text) in [("send", send), ("expect", expect)] {
        if !text.is_empty() {
            both.set(&[key], Yaml::Word(escaped(text)));
        }
    }
    both
}

/// As our file spells what cannot be seen.
fn escaped(text: &str) -> String {
    let one = |letter: char| match letter {
        '\\' => "\\\\".to_owned(),
        '\r' => "\\r".to_owned(),
        '\n' => "\\n".to_owned(),
        '\t' => "\\t".to_owned(),
        // One byte each, as HAProxy has it.
        letter if !(' '..='~').contains(&letter) => format!("\\x{:02X}", u32::from(letter) & 0xff),
        letter => letter.to_string(),
    };
    text.chars().map(one).collect()
}

/// Patroni's REST API is known by what it is asked; of others only the port is looked at.
fn http(section: &Section, port: Option<&str>, pool: &mut Part, notes: &mut Notes) -> Option<&'static str> {
    let asks = |line: &Line| {
        let sends = matches!(&*line.words, [check, send, ..] if check == "http-check" && send == "send");
        let option = matches!(&*line.words, [option, check, ..] if option == "option" && check == "httpchk");
        option || sends
    };
    let mut words = section.lines.iter().filter(|line| asks(line)).flat_map(|line| line.words.iter());
    let path = words.rfind(|word| word.starts_with('/'));
    if let Some((_, query)) = path.and_then(|path| path.split_once('?')) {
        let at = notes.at(section.number);
        notes.lost(&at, format!("`?{query}` of the check: `roles: {{ max_lag, max_lag_bytes }}` of the pool say how far a replica may be behind"));
    }
    let path = path.map_or("/", |path| path.split('?').next().unwrap_or_default());
    let at = notes.at(section.last(&["option", "httpchk"]).map_or(section.number, |line| line.number));
    let role = match path {
        "/master" | "/primary" | "/leader" | "/read-write" => Some("primary"),
        "/replica" | "/asynchronous" | "/async" | "/read-only-sync" | "/sync" | "/synchronous" => {
            Some("replica")
        }
        "/read-only" => Some("any"),
        _ => None,
    };
    match role {
        Some(role) if path != "/" && (port == Some("8008") || path != "/master") => {
            pool.word(&["health", "check"], "patroni");
            notes.different(
                &at,
                format!("Patroni is asked what each server is (`check: patroni`), and the listener has `role: {role}`; listeners of several roles may share one pool"),
            );
            Some(role)
        }
        _ => {
            notes.lost(
                &at,
                format!("`option httpchk` for {path}: an HTTP answer is not looked at; the check is whether the port takes connections"),
            );
            None
        }
    }
}

/// `tcp-check` in steps: what is sent in one go and what is expected then is a conversation of ours; Redis is known by its words.
// long because: each arm is a word of the other balancer
fn steps(section: &Section, pool: &mut Part, notes: &mut Notes) -> Option<&'static str> {
    let (mut sent, mut expected, mut odd) = (String::new(), Vec::new(), None);
    let mut password = None;
    for line in section.lines.iter().filter(|line| line.words[0] == "tcp-check") {
        let words: Vec<&str> = line.words.iter().skip(1).map(String::as_str).collect();
        match &*words {
            ["connect"] => {}
            ["comment", ..] => {}
            ["send", text, ..] => {
                if expected.is_empty() {
                    sent.push_str(text);
                }
                if let Some(one) = text.trim_end().strip_prefix("AUTH ") {
                    password = Some(one.trim_matches('"').to_owned());
                }
            }
            ["send-binary", digits, ..] if expected.is_empty() => match binary(digits) {
                Some(text) => sent.push_str(&text),
                None => odd = odd.or(Some(line.number)),
            },
            ["expect", rest @ ..] if rest.contains(&"!") => odd = odd.or(Some(line.number)),
            ["expect", rest @ ..] => {
                let text = match rest {
                    [.., "string", text] => Some((*text).to_owned()),
                    [.., "binary", digits] => binary(digits),
                    _ => None,
                };
                match text {
                    Some(text) => expected.push(text),
                    None => odd = odd.or(Some(line.number)),
                }
            }
            _ => odd = odd.or(Some(line.number)),
        }
    }
    let first = section
        .lines
        .iter()
        .find(|line| line.words[0] == "tcp-check")
        .map_or(section.number, |line| line.number);
    let at = notes.at(odd.unwrap_or(first));
    if expected.iter().any(|text| text.contains("role:master")) {
        let mut redis = Yaml::Map(Vec::new());
        if let Some(password) = password {
            redis.set(&["password"], Yaml::Word(password));
            notes.different(
                &at,
                "the password stands in the file: `password: { file: PATH }` keeps it out of it",
            );
        }
        let words = Yaml::Map(vec![("redis".to_owned(), redis)]);
        pool.set(&["health", "check"], words);
        notes.different(
            &at,
            "Redis is asked what it is (`check: redis`), and the listener has `role: primary`; with `sentinels` an old master is known at once",
        );
        return Some("primary");
    }
    if sent.is_empty() && expected.first().is_none_or(String::is_empty) {
        notes.different(&at, "`tcp-check` in steps: the check is whether the port takes connections");
        return None;
    }
    let is_short = expected.len() <= 1 && odd.is_none();
    if sent.is_empty() && expected.is_empty() && odd.is_none() {
        return None;
    }
    pool.set(&["health", "check", "tcp"], conversation(&sent, expected.first().map_or("", String::as_str)));
    if !is_short {
        notes.different(
            &at,
            "`tcp-check` in steps: the check says what is sent before the first `expect`, and wants that answer; later steps are left out",
        );
    }
    None
}

fn binary(digits: &str) -> Option<String> {
    let bytes = digits.as_bytes();
    if !bytes.len().is_multiple_of(2) || bytes.len() > 4_096 {
        return None;
    }
    let pair = |pair: &[u8]| {
        let digit = |one: u8| char::from(one).to_digit(16);
        char::from_u32(digit(pair[0])? * 16 + digit(pair[1])?)
    };
    bytes.chunks_exact(2).map(pair).collect()
}

/// Checks that ask more than a port, and what asks as much here.
const NAMED: [(&str, &str); 7] = [
    (
        "pgsql-check",
        "`check: { postgres: { user: …, password: { file: … } } }` logs in and tells a primary from a replica",
    ),
    (
        "mysql-check",
        "`check: { mysql: { user: …, password: { file: … } } }` logs in and tells a primary from a replica",
    ),
    ("ldap-check", "`check: { tcp: { send: …, expect: … } }` may say more"),
    ("smtpchk", "`check: { tcp: { expect: '220 ' } }` waits for the greeting"),
    ("ssl-hello-chk", "TLS is not begun by it"),
    ("external-check", "No program is run for it"),
    ("spop-check", "It is of HTTP's filters"),
];
