//! Tests of the PostgreSQL dialogue: recorded exchanges of version 15, in pieces of any size, and whatever else a server may say.

use proptest::prelude::*;

use super::*;
use crate::config::settings::{Secret, SecretSource, TlsTerms};

const NONCE: &str = "oSOCIinU4ABbQISUsl3TMHBU";

fn dialogue(password: &str, tls: Tls) -> Postgres {
    let password = match password {
        "" => Secret::none(),
        text => Secret::new(SecretSource::Here, text.as_bytes()),
    };
    let check = PostgresCheck { user: "check".into(), password, database: "postgres".into(), tls };
    Postgres::new(check, NONCE.into(), Arc::default(), Arc::default())
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    messages::message(kind, body)
}

fn auth(kind: u32, rest: &[u8]) -> Vec<u8> {
    frame(b'R', &[&kind.to_be_bytes()[..], rest].concat())
}

fn error(severity: &str, code: &str, text: &str) -> Vec<u8> {
    frame(b'E', format!("S{severity}\0V{severity}\0C{code}\0M{text}\0\0").as_bytes())
}

fn row(columns: &[Option<&str>]) -> Vec<u8> {
    let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for column in columns {
        let length = column.map_or(u32::MAX, |text| u32::try_from(text.len()).unwrap());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(column.unwrap_or("").as_bytes());
    }
    frame(b'D', &body)
}

fn ready() -> Vec<u8> {
    frame(b'Z', b"I")
}

/// A whole answer to the question.
fn answer(columns: &[Option<&str>]) -> Vec<u8> {
    [frame(b'T', b"\0\x05"), row(columns), frame(b'C', b"SELECT 1\0"), ready()].concat()
}

const PRIMARY: [Option<&str>; 5] =
    [Some("f"), Some("off"), Some("2"), Some("67108864"), Some("7712581671981205738")];
const REPLICA: [Option<&str>; 5] =
    [Some("t"), Some("off"), Some("1"), Some("67108863"), Some("7712581671981205738")];

fn said(step: Step) -> Vec<u8> {
    match step {
        Step::Send(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn outcome(step: Step) -> Outcome {
    match step {
        Step::Done(outcome) => outcome,
        other => panic!("{other:?}"),
    }
}

fn cause(step: Step) -> (&'static str, String) {
    match step {
        Step::Bad(cause) => (cause.word(), cause.to_string()),
        other => panic!("{other:?}"),
    }
}

/// Byte by byte: the last step is the one that counts.
fn piecemeal(dialogue: &mut Postgres, bytes: &[u8]) -> Step {
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        let step = dialogue.heard(&[*byte]);
        assert!(matches!(step, Step::More), "{step:?}");
    }
    dialogue.heard(&[*last])
}

/// As far as the first question.
fn logged_in() -> Postgres {
    let mut dialogue = dialogue("", Tls::Off);
    said(dialogue.begin());
    let question = said(dialogue.heard(&[auth(0, b""), ready()].concat()));
    assert!(question.starts_with(b"Q"));
    dialogue
}

#[test]
fn scram_as_it_was_recorded() {
    let mut dialogue = dialogue("secret", Tls::Off);
    let startup = b"\0\0\0\x40\0\x03\0\0user\0check\0database\0postgres\0application_name\0evenkeel\0\0";
    assert_eq!(said(dialogue.begin()), startup);
    let first = said(piecemeal(&mut dialogue, &auth(10, b"SCRAM-SHA-256\0\0")));
    assert_eq!(first, b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=oSOCIinU4ABbQISUsl3TMHBU");
    let challenge = b"r=oSOCIinU4ABbQISUsl3TMHBUUWn6brVVRFl/2aFz8wPefnoT,s=gy8JLh40841xDlitc4U2NQ==,i=4096";
    let Step::Work(work) = piecemeal(&mut dialogue, &auth(11, challenge)) else { panic!() };
    let proof = said(dialogue.worked(work()));
    let expected = "c=biws,r=oSOCIinU4ABbQISUsl3TMHBUUWn6brVVRFl/2aFz8wPefnoT,\
        p=dN6KZFBmffDhqT8z5V5xszjHgW8oyqiZssN9FTDX/I4=";
    assert_eq!(&proof[5..], expected.as_bytes());
    let signature = auth(12, b"v=4//9BFBS9HadLDfd9aFpITnc3FcbNEUnC4q8l3W3QV8=");
    let key = frame(b'K', &[0; 8]);
    let parameter = frame(b'S', b"in_hot_standby\0on\0");
    let all = [signature.clone(), auth(0, b""), parameter, key, ready()].concat();
    assert_eq!(dialogue.farewell(), b"", "before it is ready that would be logged");
    said(piecemeal(&mut dialogue, &all));
    assert_eq!(dialogue.farewell(), b"X\0\0\0\x04");
    let Outcome::Role(replica) = outcome(piecemeal(&mut dialogue, &answer(&REPLICA))) else { panic!() };
    assert_eq!((replica.claim, replica.position), (Claim::Replica, Some(67_108_863)));
    let generation = replica.generation.unwrap();
    assert_eq!((generation.number, &*generation.lineage), (1, "7712581671981205738"));

    // The next connection to such a server needs no work.
    let mut next = Postgres::new(
        dialogue.check.clone(),
        NONCE.into(),
        Arc::clone(&dialogue.remembered),
        Arc::clone(&dialogue.is_plain),
    );
    said(next.begin());
    said(next.heard(&auth(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")));
    assert_eq!(said(next.heard(&auth(11, challenge))), proof);
    assert_eq!(cause(next.heard(&auth(12, b"v=5//9BFBS9HadLDfd9aFpITnc3FcbNEUnC4q8l3W3QV8="))).0, "auth");
    assert_eq!(cause(next.heard(&auth(0, b""))).0, "protocol", "who has shown no proof lets nobody in");
}

#[test]
fn the_other_logins() {
    let mut md5 = dialogue("secret", Tls::Off);
    md5.check.user = "md5user".into();
    said(md5.begin());
    let answer = said(md5.heard(&auth(5, b"\x07\xe7\x47\xc2")));
    assert_eq!(answer, b"p\0\0\0\x28md51ad3ba7f4efc6606ac7cd993ce4e8bb1\0");

    let mut clear = dialogue("secret", Tls::Off);
    said(clear.begin());
    assert_eq!(said(clear.heard(&auth(3, b""))), b"p\0\0\0\x0bsecret\0");

    for kind in [3, 5, 10] {
        let mut nothing = dialogue("", Tls::Off);
        said(nothing.begin());
        let (word, why) = cause(nothing.heard(&auth(kind, b"SCRAM-SHA-256\0\0")));
        assert!(word == "auth" && why.contains("the check has none"), "{why}");
    }
    for (kind, rest) in [(7, &b""[..]), (9, b""), (10, b"SCRAM-SHA-256-PLUS\0\0"), (10, b"OAUTHBEARER\0\0")] {
        let mut other = dialogue("secret", Tls::Off);
        said(other.begin());
        assert_eq!(cause(other.heard(&auth(kind, rest))).0, "auth", "{kind}");
    }
}

#[test]
fn tls_is_asked_for_first() {
    let on = || Tls::On(Arc::new(TlsTerms::ANYBODY));
    for tls in [Tls::Try, on()] {
        let mut dialogue = dialogue("", tls);
        assert_eq!(said(dialogue.begin()), messages::SSL_REQUEST);
        assert!(matches!(dialogue.heard(b"S"), Step::StartTls));
        assert!(said(dialogue.secured()).starts_with(&[0, 0, 0]));
    }
    let mut forgiving = dialogue("", Tls::Try);
    forgiving.begin();
    assert!(said(forgiving.heard(b"N")).starts_with(&[0, 0, 0]));
    let mut strict = dialogue("", on());
    strict.begin();
    assert_eq!(cause(strict.heard(b"N")).0, "tls");
    // Somebody in between says it, before anything is encrypted.
    let mut early = dialogue("", on());
    early.begin();
    assert_eq!(cause(early.heard(&[b"S", &auth(0, b"")[..]].concat())).0, "protocol");
    let mut busy = dialogue("", on());
    busy.begin();
    let step = busy.heard(&error("FATAL", "53300", "sorry, too many clients already"));
    assert_eq!(cause(step).0, "full");
}

#[test]
fn what_the_row_says() {
    let claim = |columns: &[Option<&str>]| match outcome(logged_in().heard(&answer(columns))) {
        Outcome::Role(said) => (said.claim.word(), said.generation.map(|one| one.number), said.position),
        other => panic!("{other:?}"),
    };
    assert_eq!(claim(&PRIMARY), ("primary", Some(2), Some(67_108_864)));
    assert_eq!(claim(&REPLICA), ("replica", Some(1), Some(67_108_863)));
    let read_only = [Some("f"), Some("on"), PRIMARY[2], PRIMARY[3], PRIMARY[4]];
    assert_eq!(claim(&read_only).0, "replica", "it takes no writes");
    let fresh = [Some("t"), Some("off"), None, None, REPLICA[4]];
    assert_eq!(claim(&fresh), ("replica", Some(0), None));
    for wrong in [
        &PRIMARY[..4],
        &[],
        &[None, Some("off"), None, None, None],
        &[Some("x"), Some("off"), None, None, None],
    ] {
        assert_eq!(cause(logged_in().heard(&answer(wrong))).0, "protocol", "{wrong:?}");
    }
    let twice = [row(&PRIMARY), row(&PRIMARY)].concat();
    assert_eq!(cause(logged_in().heard(&twice)).0, "protocol");
}

#[test]
fn a_kept_connection_is_asked_again_and_its_end_means_nothing() {
    let mut dialogue = logged_in();
    outcome(dialogue.heard(&answer(&PRIMARY)));
    assert!(said(dialogue.again()).starts_with(b"Q"));
    outcome(dialogue.heard(&answer(&REPLICA)));
    // Between two checks.
    assert!(matches!(dialogue.heard(&frame(b'S', b"in_hot_standby\0off\0")), Step::More));
    for code in ["57P01", "57P02", "57P05"] {
        let mut dialogue = logged_in();
        assert!(matches!(dialogue.heard(&error("FATAL", code, "terminating connection")), Step::Gone(_)));
    }
    assert_eq!(cause(dialogue.heard(&row(&PRIMARY))).0, "protocol", "nobody asked");
}

#[test]
fn a_question_between_two_roles_is_asked_again_and_one_too_many_for_the_server_is_asked_plainly() {
    let mut dialogue = logged_in();
    let straddled = [error("ERROR", "55000", "recovery is in progress"), ready()].concat();
    for _ in 0..3 {
        assert!(said(dialogue.heard(&straddled)).starts_with(b"Q"));
    }
    assert_eq!(cause(dialogue.heard(&straddled)).0, "protocol", "not for ever");

    let mut dialogue = logged_in();
    let lacking = [error("ERROR", "42883", "function pg_control_system() does not exist"), ready()].concat();
    let plain = said(dialogue.heard(&lacking));
    assert!(!String::from_utf8_lossy(&plain).contains("pg_control_system"));
    let Outcome::Role(said) = outcome(dialogue.heard(&answer(&[Some("t"), Some("off")]))) else { panic!() };
    assert_eq!((said.claim, said.generation, said.position), (Claim::Replica, None, None));
    assert!(dialogue.is_plain.load(Ordering::Relaxed), "the next connection knows");
    dialogue.again();
    assert_eq!(cause(dialogue.heard(&lacking)).0, "wrong_answer");
}

#[test]
fn servers_that_are_none() {
    let begun = || {
        let mut dialogue = dialogue("secret", Tls::Off);
        said(dialogue.begin());
        dialogue
    };
    for said in [
        &b"HTTP/1.1 400 Bad Request\r\n"[..],
        b"R\0\0\0\x03",
        b"R\xff\xff\xff\xff",
        b"\0\0\0\0\0\0",
        b"5.5.5-10.11",
    ] {
        assert_eq!(cause(begun().heard(said)).0, "protocol", "{:?}", said.escape_ascii().to_string());
    }
    let mut hoarder = begun();
    assert!(matches!(hoarder.heard(b"S\0\0\xff\xf0"), Step::More));
    assert!(matches!(hoarder.heard(&[b'x'; 32 * 1024]), Step::More));
    assert_eq!(cause(hoarder.heard(&[b'x'; 33 * 1024])).0, "protocol");
}

#[test]
fn nothing_shows_the_password() {
    let dialogue = dialogue("hunter2", Tls::Off);
    let shown = format!("{dialogue:?} {:?}", Step::Send(messages::password(b"hunter2")));
    assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
}

proptest! {
    #[test]
    fn whatever_is_said_in_whatever_pieces_is_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        pieces in prop::collection::vec((0u8..12, 0usize..400), 0..20),
    ) {
        let kinds = [
            auth(0, b""), auth(3, b""), auth(5, b"salt"), auth(10, b"SCRAM-SHA-256\0\0"),
            auth(11, format!("r={NONCE}x,s=W22Z,i=1").as_bytes()), auth(12, b"v=abcd"), ready(),
            answer(&PRIMARY), error("ERROR", "55000", "x"), error("FATAL", "57P03", "x"), row(&REPLICA), bytes,
        ];
        for tls in [Tls::Off, Tls::Try] {
            let mut dialogue = dialogue("secret", tls);
            let mut step = dialogue.begin();
            for (kind, cut) in &pieces {
                let said = &kinds[usize::from(*kind)];
                step = match step {
                    Step::Work(work) => dialogue.worked(work()),
                    Step::SendThenTls(_) => panic!("it waits for an answer first"),
                    Step::StartTls => dialogue.secured(),
                    Step::Done(_) => dialogue.again(),
                    Step::Bad(_) | Step::Gone(_) => break,
                    Step::More | Step::Send(_) => {
                        let (one, other) = said.split_at((*cut).min(said.len()));
                        match dialogue.heard(one) {
                            Step::More => dialogue.heard(other),
                            other => other,
                        }
                    }
                };
                let _ = dialogue.farewell();
            }
        }
    }
}
