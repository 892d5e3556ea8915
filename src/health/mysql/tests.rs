//! The dialogue against what real servers said, and against what none would.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::config::settings::{Donors, Secret, SecretSource, TlsTerms};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|two| u8::try_from(two[0] * 16 + two[1]).unwrap()).collect()
}

fn mysql(password: &str, tls: Tls) -> Mysql {
    let password = Secret::new(SecretSource::Here, password.as_bytes());
    Mysql::new(MysqlCheck { user: "check".into(), password, tls, donors: Donors::Out })
}

fn sent(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) | Step::SendThenTls(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

/// MariaDB 10.11.19 and MySQL 9.7.4, as they greeted.
const MARIADB: &str = "680000000a352e352e352d31302e31312e31392d4d6172696144422d302b646562313275312d6c6f6700080000002e4d78374535792400fef7080200ff81150000000000001d000000425f3a442836792135245665006d7973716c5f6e61746976655f70617373776f726400";
const MYSQL: &str = "4b0000000a392e372e342d320011000000 1c690b3a5b10036900ffffff0200ffdf15000000000000000000003762100f3e4d731a5b3f65740063616368696e675f736861325f70617373776f726400";
const OK: &str = "0700000200000002000000";

fn text(value: &str) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_le_bytes();
    [&[0xfc, length[0], length[1]], value.as_bytes()].concat()
}

/// A result of these rows.
fn result(rows: &[&[&str]]) -> Vec<u8> {
    let columns = u8::try_from(rows.first().map_or(2, |row| row.len())).unwrap();
    let end: &[u8] = &[0xfe, 0, 0, 2, 0];
    let mut bodies = vec![vec![columns]];
    bodies.extend((0..columns).map(|_| b"\x03def\0\0\0\x01a\0\x0c".to_vec()));
    bodies.push(end.to_vec());
    bodies.extend(rows.iter().map(|row| row.iter().flat_map(|value| text(value)).collect()));
    bodies.push(end.to_vec());
    let numbered = (1_u8..).zip(bodies).flat_map(|(sequence, body)| packets::packet(sequence, &body));
    numbered.collect()
}

fn error(sequence: u8, number: u16, state: &str, text: &str) -> Vec<u8> {
    let number = number.to_le_bytes();
    packets::packet(sequence, &[&[0xff, number[0], number[1]], state.as_bytes(), text.as_bytes()].concat())
}

fn told(step: &Step) -> String {
    match step {
        Step::Done(Outcome::Role(answer)) => {
            let number = answer.generation.as_ref().map(|generation| generation.number);
            format!("{} {number:?} {:?}", answer.claim.word(), answer.position)
        }
        Step::Done(Outcome::Bad(cause)) | Step::Bad(cause) => format!("{}: {cause}", cause.word()),
        other => format!("{other:?}"),
    }
}

/// Logged in, with the first question asked.
fn ready() -> Mysql {
    let mut mysql = mysql("secret", Tls::Off);
    assert!(matches!(mysql.begin(), Step::More));
    sent(mysql.heard(&hex(MARIADB)));
    let question = sent(mysql.heard(&hex(OK)));
    assert!(question[4..].starts_with(b"\x03SHOW GLOBAL VARIABLES"));
    mysql
}

/// What comes of these answers, one to each question.
fn asked(answers: &[Vec<u8>]) -> String {
    let mut mysql = ready();
    let (last, first) = answers.split_last().unwrap();
    for answer in first {
        sent(mysql.heard(answer));
    }
    let step = mysql.heard(last);
    assert_eq!(mysql.farewell(), b"\x01\0\0\0\x01");
    told(&step)
}

#[test]
fn proofs_are_those_that_real_servers_took() {
    let mut mysql = mysql("secret", Tls::Try);
    // Its greeting has no TLS.
    let login = sent(mysql.heard(&hex(MARIADB)));
    assert!(
        login.windows(20).any(|part| part == hex("a99a0625cc84d0db3ca4e3a7a9bd8d639cdc385a")),
        "{login:02x?}"
    );
    assert!(login.ends_with(b"mysql_native_password\0") && login[3] == 1);

    let mut mysql = self::mysql("secret", Tls::Off);
    let login = sent(mysql.heard(&hex(MYSQL)));
    let proof = hex("7954d82afbdd3f5674d9dc9a09a8be3a9d5f20a9cfd7a71733e5baa42c7466c7");
    assert!(login.windows(32).any(|part| part == proof), "{login:02x?}");
    // Fast: it remembers the account.
    assert!(matches!(mysql.heard(&hex("020000020103")), Step::More));
    let question = sent(mysql.heard(&hex("0700000300000002000000")));
    assert_eq!(question[3], 0, "a command begins a new count");
}

#[test]
fn a_server_that_wants_the_password_itself_gets_it_over_tls_only() {
    let full = "020000030104";
    for tls in [Tls::Try, Tls::On(Arc::new(TlsTerms::ANYBODY))] {
        let mut mysql = mysql("secret", tls);
        let request = sent(mysql.heard(&hex(MYSQL)));
        assert_eq!((request.len(), request[3], request[5] & 8), (36, 1, 8));
        let login = sent(mysql.secured());
        assert_eq!((login[3], login[5] & 8), (2, 8), "counted on, and with the same word of TLS");
        assert_eq!(sent(mysql.heard(&hex(full))), b"\x07\0\0\x04secret\0");
        sent(mysql.heard(&hex("0700000500000002000000")));
    }
    let mut mysql = mysql("secret", Tls::Off);
    sent(mysql.heard(&hex(MYSQL)));
    assert_eq!(mysql.farewell(), b"", "whoever says good-bye now is counted as a failure");
    // It goes on until the server refuses: whoever leaves in the middle gets this host blocked.
    assert_eq!(sent(mysql.heard(&hex("020000020104"))), b"\x01\0\0\x03\0");
    let step = mysql.heard(&error(
        4,
        1045,
        "#28000",
        "Access denied for user 'check'@'localhost' (using password: YES)",
    ));
    let told = told(&step);
    assert!(told.starts_with("auth: ") && told.contains("`tls: try`") && !told.contains("Access"), "{told}");
}

#[test]
fn a_plugin_that_is_not_spoken_ends_with_the_servers_refusal() {
    let mut mysql = mysql("secret", Tls::Off);
    sent(mysql.heard(&hex(MYSQL)));
    let switch =
        |plugin: &str| packets::packet(2, &[b"\xfe", plugin.as_bytes(), b"\0", &[7; 20], b"\0"].concat());
    assert_eq!(sent(mysql.heard(&switch("client_ed25519"))), b"\x01\0\0\x03\0");
    let told_ = told(&mysql.heard(&error(4, 1045, "#28000", "Access denied")));
    assert!(told_.contains("client_ed25519"), "{told_}");
    let mut mysql = self::mysql("secret", Tls::Off);
    sent(mysql.heard(&hex(MYSQL)));
    assert_eq!(sent(mysql.heard(&switch("mysql_native_password"))).len(), 24);
    // Without a password there is nothing to prove.
    let mut mysql = self::mysql("", Tls::Off);
    sent(mysql.heard(&hex(MARIADB)));
    assert_eq!(sent(mysql.heard(&switch("caching_sha2_password"))).len(), 4);
}

#[test]
fn errors_are_told_apart() {
    let full = error(0, 1040, "", "Too many connections");
    assert!(told(&mysql("x", Tls::Off).heard(&full)).starts_with("full: "), "instead of a greeting");
    let blocked = error(0, 1129, "", "Host 'lb' is blocked because of many connection errors");
    assert!(told(&mysql("x", Tls::Off).heard(&blocked)).contains("FLUSH HOSTS"));
    for (number, word) in [
        (1045, "auth"),
        (1040, "full"),
        (1226, "full"),
        (1053, "starting"),
        (3032, "starting"),
        (3159, "tls"),
        (1064, "wrong_answer"),
    ] {
        let mut mysql = mysql("x", Tls::Off);
        sent(mysql.heard(&hex(MARIADB)));
        let told = told(&mysql.heard(&error(2, number, "#HY000", "it said so")));
        assert!(told.starts_with(&format!("{word}: ")) && told.contains("it said so"), "{told}");
    }
    let no_tls = Tls::On(Arc::new(TlsTerms::ANYBODY));
    let mut mysql = mysql("secret", no_tls);
    let login = sent(mysql.heard(&hex(MARIADB)));
    assert!(!login.windows(8).any(|part| part == hex("a99a0625cc84d0db")), "no proof goes over a plain line");
    assert!(told(&mysql.heard(&error(2, 1045, "#28000", "Access denied"))).starts_with("tls: "));
    let mut later = ready();
    assert!(told(&later.heard(&error(1, 1227, "#42000", "Access denied; you need"))).starts_with("auth: "));
    let ssh = b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n";
    assert!(told(&self::mysql("x", Tls::Off).heard(ssh)).starts_with("protocol: "), "told by the length");
    assert!(told(&self::mysql("x", Tls::Off).heard(b"\x03\0\0\0HI\n")).starts_with("protocol: "));
}

#[test]
fn a_server_alone_is_what_read_only_says() {
    let mariadb =
        |read_only| asked(&[result(&[&["gtid_current_pos", "0-1-9,1-2-7"], &["read_only", read_only]])]);
    assert_eq!(mariadb("OFF"), "primary None Some(16)");
    assert_eq!(mariadb("ON"), "replica None Some(16)");
    assert_eq!(mariadb("NO_LOCK_NO_ADMIN"), "replica None Some(16)");
    let mysql = |super_read_only, set| {
        let variables = result(&[
            &["gtid_mode", "ON"],
            &["read_only", "OFF"],
            &["super_read_only", super_read_only],
            &["offline_mode", "OFF"],
        ]);
        asked(&[variables, result(&[&[set]])])
    };
    assert_eq!(
        mysql(
            "OFF",
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7,\n4e11fa47-71ca-11e1-9e33-c80aa9429562:tag:1-3"
        ),
        "primary None Some(9)"
    );
    assert_eq!(mysql("ON", ""), "replica None None");
    let long = format!("3e11fa47:{}", "1-2:".repeat(4_096));
    assert_eq!(mysql("ON", &long), "replica None None", "it is not all of it");
    let offline = result(&[&["gtid_mode", "ON"], &["offline_mode", "ON"]]);
    assert!(asked(&[offline, result(&[&[""]])]).starts_with("starting: "));
    assert_eq!(asked(&[result(&[&["read_only", "OFF"]])]), "primary None None", "MySQL 5.5");
}

#[test]
fn a_member_of_a_group_is_what_the_group_says() {
    let variables = |read_only| {
        result(&[
            &["gtid_mode", "ON"],
            &["group_replication_group_name", "aaaaaaaa-0000"],
            &["super_read_only", read_only],
            &["read_only", read_only],
        ])
    };
    let group = |read_only, rows: &[&[&str]]| asked(&[variables(read_only), result(rows)]);
    let own = ["1", "ONLINE", "PRIMARY", "1764302:6", "u:1-9"];
    let other: &[&str] = &["0", "ONLINE", "SECONDARY", "1764302:6", ""];
    let lost: &[&str] = &["0", "UNREACHABLE", "SECONDARY", "1764302:6", ""];
    assert_eq!(group("OFF", &[other, &own, other]), "primary Some(6) Some(9)");
    assert_eq!(group("OFF", &[&own, other, lost]), "primary Some(6) Some(9)", "two of three");
    assert_eq!(group("ON", &[&own, other, other]), "replica Some(6) Some(9)", "it takes over what is left");
    assert_eq!(
        group("ON", &[&["1", "ONLINE", "SECONDARY", "1764302:6", "u:1-8"], other]),
        "replica Some(6) Some(8)"
    );
    assert_eq!(group("OFF", &[&own, &["0", "ONLINE", "PRIMARY", "1764302:6", ""]]), "writer None Some(9)");
    for rows in [
        vec![&own[..], lost, lost],
        vec![&["1", "RECOVERING", "SECONDARY", "1764302:6", ""][..], other, other],
        vec![&["1", "OFFLINE", "", "", ""][..]],
        vec![other, other],
    ] {
        let told = group("OFF", &rows);
        assert!(told.starts_with("starting: "), "{told}");
    }
    let mut mysql = ready();
    sent(mysql.heard(&variables("OFF")));
    let denied = error(
        1,
        1142,
        "#42000",
        "SELECT command denied to user 'check'@'localhost' for table 'replication_group_members'",
    );
    assert!(told(&mysql.heard(&denied)).contains("replication_group_members"));
}

#[test]
fn a_galera_node_takes_part_when_it_is_synced_and_lets_itself_be_asked() {
    let variables = |more: &[&[&'static str]]| {
        let all: &[&[&str]] = &[
            &["wsrep_on", "ON"],
            &["wsrep_provider", "/usr/lib/libgalera_smm.so"],
            &["gtid_current_pos", "0-1-2"],
        ];
        result(&[all, more].concat())
    };
    let status = |ready, state, cluster| {
        result(&[
            &["wsrep_ready", ready],
            &["wsrep_connected", "ON"],
            &["wsrep_local_state", state],
            &["wsrep_local_state_comment", "Word"],
            &["wsrep_cluster_status", cluster],
            &["wsrep_last_committed", "77"],
        ])
    };
    let synced = || status("ON", "4", "Primary");
    let quiet = || variables(&[&["wsrep_reject_queries", "NONE"], &["read_only", "OFF"]]);
    assert_eq!(asked(&[quiet(), synced()]), "writer None Some(77)");
    assert_eq!(asked(&[variables(&[&["read_only", "ON"]]), synced()]), "replica None Some(77)");
    for (variables, status) in [
        (variables(&[&["wsrep_reject_queries", "ALL"]]), synced()),
        (variables(&[&["pxc_maint_mode", "MAINTENANCE"]]), synced()),
        (quiet(), status("ON", "2", "Primary")),
        (quiet(), status("OFF", "3", "Primary")),
        (quiet(), status("OFF", "0", "non-Primary")),
    ] {
        let told = asked(&[variables, status]);
        assert!(told.starts_with("starting: "), "{told}");
    }
    let mut donors = ready();
    donors.check.donors = Donors::In;
    sent(donors.heard(&quiet()));
    assert_eq!(told(&donors.heard(&status("ON", "2", "Primary"))), "writer None Some(77)");
    let off = result(&[
        &["wsrep_on", "OFF"],
        &["wsrep_provider", "none"],
        &["gtid_current_pos", ""],
        &["read_only", "OFF"],
    ]);
    assert_eq!(asked(&[off]), "primary None None", "MariaDB without it");
}

#[test]
fn a_kept_connection_is_asked_again_and_ends_when_the_server_speaks_unasked() {
    let mut mysql = ready();
    let answer = result(&[&["gtid_current_pos", "0-1-9"], &["read_only", "OFF"]]);
    assert!(matches!(mysql.heard(&answer), Step::Done(_)));
    sent(mysql.again());
    for piece in answer.chunks(1).take(answer.len() - 1) {
        assert!(matches!(mysql.heard(piece), Step::More));
    }
    assert!(matches!(mysql.heard(&answer[answer.len() - 1..]), Step::Done(_)));
    assert!(matches!(mysql.heard(&error(0, 4031, "#HY000", "The client was disconnected")), Step::Gone(_)));
}

proptest! {
    #[test]
    fn nothing_that_is_said_harms(
        pieces in prop::collection::vec((0u8..9, any::<u16>(), prop::collection::vec(any::<u8>(), 0..40)), 1..8)
    ) {
        for tls in [Tls::Off, Tls::Try] {
            let mut mysql = mysql("secret", tls);
            let mut step = mysql.begin();
            for (kind, cut, bytes) in &pieces {
                let said = match kind {
                    0 => hex(MARIADB),
                    1 => hex(MYSQL),
                    2 => hex(OK),
                    3 => hex("020000020104"),
                    4 => result(&[&["gtid_mode", "ON"], &["group_replication_group_name", "a"]]),
                    5 => result(&[&["1", "ONLINE", "PRIMARY", "1:6", "u:1-9"]]),
                    6 => packets::packet(1, bytes),
                    7 => result(&[&["wsrep_provider", "x"]]),
                    _ => bytes.clone(),
                };
                step = match step {
                    Step::SendThenTls(_) | Step::StartTls => mysql.secured(),
                    Step::Done(_) => mysql.again(),
                    Step::Bad(_) | Step::Gone(_) => break,
                    Step::Work(_) => unreachable!(),
                    Step::More | Step::Send(_) => {
                        let (one, other) = said.split_at(usize::from(*cut).min(said.len()));
                        match mysql.heard(one) {
                            Step::More => mysql.heard(other),
                            other => other,
                        }
                    }
                };
            }
        }
    }
}
