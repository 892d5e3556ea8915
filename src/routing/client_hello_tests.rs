//! Hellos of every make, whole, in pieces, bent and contradicting themselves.

use proptest::prelude::*;

use super::*;

/// An extension of this kind.
fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length16(content), content].concat()
}

fn length16(bytes: &[u8]) -> [u8; 2] {
    u16::try_from(bytes.len()).unwrap().to_be_bytes()
}

fn sni(name: &[u8]) -> Vec<u8> {
    let entry = [&[HOST_NAME][..], &length16(name), name].concat();
    extension(0, &[&length16(&entry)[..], &entry].concat())
}

fn alpn(names: &[&str]) -> Vec<u8> {
    let list: Vec<u8> = names
        .iter()
        .flat_map(|name| [&[u8::try_from(name.len()).unwrap()][..], name.as_bytes()].concat())
        .collect();
    extension(16, &[&length16(&list)[..], &list].concat())
}

/// A handshake message with these extensions.
fn hello(extensions: &[u8]) -> Vec<u8> {
    let body = [
        &[3, 3][..],
        &[9; 32],
        &[32],
        &[8; 32],
        &[0, 4, 0x0a, 0x0a, 0x13, 0x01],
        &[1, 0],
        &length16(extensions),
        extensions,
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[CLIENT_HELLO][..], &length[1..], &body].concat()
}

/// The message in records of so many bytes.
fn records(message: &[u8], each: usize) -> Vec<u8> {
    message
        .chunks(each)
        .flat_map(|piece| [&[HANDSHAKE, 3, 1][..], &length16(piece), piece].concat())
        .collect()
}

fn usual() -> Vec<u8> {
    // GREASE in front and behind, a large key share between.
    hello(
        &[
            extension(0x1a1a, &[]),
            extension(51, &[7; 1_300]),
            sni(b"Db.example.org"),
            alpn(&["h2", "http/1.1"]),
            extension(0x2a2a, &[0]),
        ]
        .concat(),
    )
}

fn is_malformed(bytes: &[u8]) -> bool {
    matches!(read(bytes), Seen::Malformed(_))
}

#[test]
fn name_and_protocols_are_found() {
    let Seen::Whole(Some(found)) = read(&records(&usual(), 16_384)) else { panic!() };
    assert_eq!(found.sni.as_deref(), Some("db.example.org"));
    assert!(found.offers("h2") && found.offers("http/1.1") && !found.offers("h") && !found.offers(""));
    assert_eq!(found, ClientHello::named("db.example.org").offering("h2").offering("http/1.1"));
    // Without extensions, as TLS 1.0 may be.
    let bare = [&[CLIENT_HELLO, 0, 0, 41][..], &[3, 1], &[0; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    assert_eq!(read(&records(&bare, 99)), Seen::Whole(Some(ClientHello::default())));
    assert_eq!(read(&records(&hello(&[]), 99)), Seen::Whole(Some(ClientHello::default())));
}

#[test]
fn what_is_not_tls_is_told_from_what_is_broken() {
    for bytes in [&b"SSH-2.0-x"[..], b"GET / HTTP/1.1", &[0], &[21, 3, 1, 0, 2, 1, 0]] {
        assert_eq!(read(bytes), Seen::Whole(None), "{bytes:?}");
    }
    assert_eq!(read(&[0x80, 0x2e, 1, 3, 1]), Seen::Malformed(Malformed::SslV2));
    assert_eq!(read(&[0x80, 0x2e]), Seen::Incomplete { missing: 1 });
    assert_eq!(read(&[0x80, 0x2e, 4]), Seen::Whole(None));
}

#[test]
fn contradictions_are_refused() {
    let twice = hello(&[sni(b"a.b"), sni(b"c.d")].concat());
    let two_names = {
        let entry = [&[HOST_NAME][..], &length16(b"a.b"), b"a.b"].concat();
        let list = [&entry[..], &entry].concat();
        hello(&extension(0, &[&length16(&list)[..], &list].concat()))
    };
    let mut behind = hello(&sni(b"a.b"));
    behind.push(0);
    behind[3] += 1;
    let mut too_large = usual();
    too_large[1] = 2;
    for (what, message) in [
        ("twice", twice),
        ("two names", two_names),
        ("no name", hello(&extension(0, &[0, 0]))),
        ("empty name", hello(&sni(b""))),
        ("a name with a line end", hello(&sni(b"a.b\n"))),
        ("a name with a zero", hello(&sni(b"a.b\0"))),
        ("empty alpn", hello(&alpn(&[""]))),
        ("no alpn", hello(&alpn(&[]))),
        ("bytes behind", behind),
        ("too large", too_large),
        ("another message", vec![2, 0, 0, 1, 0]),
        ("nothing in it", vec![CLIENT_HELLO, 0, 0, 0]),
    ] {
        assert!(is_malformed(&records(&message, 16_384)), "{what}");
    }
    for (what, bytes) in [
        ("an empty record", vec![HANDSHAKE, 3, 1, 0, 0]),
        ("a record too long", vec![HANDSHAKE, 3, 1, 0x40, 1]),
        ("another version", vec![HANDSHAKE, 2, 0, 0, 9]),
        ("an alert in between", [&records(&usual(), 500)[..505], &[21, 3, 1, 0, 2, 1, 0]].concat()),
    ] {
        assert!(is_malformed(&bytes), "{what}");
    }
}

#[test]
fn a_long_hello_of_tiny_records_takes_few_looks() {
    // As long as any may be, in records of one byte: six bytes each.
    let long = [&[CLIENT_HELLO, 0, 0xff, 0xff][..], &[0; 0xffff]].concat();
    let bytes = records(&long, 1);
    let (mut have, mut looks) = (0, 0);
    let outcome = loop {
        looks += 1;
        match read(&bytes[..have]) {
            Seen::Incomplete { missing } => have += missing,
            other => break other,
        }
    };
    assert_eq!(outcome, Seen::Malformed(Malformed::TooLong));
    assert!(looks < 80, "{looks}");
}

proptest! {
    #[test]
    fn however_it_is_cut_it_says_the_same(each in 1_usize..2_000, tail in proptest::collection::vec(any::<u8>(), 0..40)) {
        let whole = records(&usual(), each);
        let expected = read(&records(&usual(), 16_384));
        prop_assert_eq!(&read(&[&whole[..], &tail].concat()), &expected);
        let (mut have, mut looks) = (0, 0);
        while have < whole.len() {
            let Seen::Incomplete { missing } = read(&whole[..have]) else { panic!("whole at {have} of {}", whole.len()) };
            prop_assert!(missing > 0 && have + missing <= whole.len(), "{} of {}", have + missing, whole.len());
            (have, looks) = (have + missing, looks + 1);
        }
        prop_assert_eq!(&read(&whole), &expected);
        prop_assert!(looks < 100);
    }

    #[test]
    fn nothing_breaks_it(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in 0_usize..1_500, byte: u8) {
        let _ = read(&bytes);
        let _ = read(&[&[HANDSHAKE, 3, 1, 0, 200, 1, 0, 0, 196][..], &bytes].concat());
        let mut bent = records(&usual(), 700);
        if let Some(place) = bent.get_mut(at) {
            *place = byte;
        }
        let _ = read(&bent);
    }
}
