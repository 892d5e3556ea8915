//! Passwords of checks: where they are read from, what is told when they cannot be, and that no text of ours holds one.

use std::ffi::OsString;

use evenkeel::config::settings::{Check, SecretSource};
use evenkeel::config::{Configuration, Reads, difference, read, read_with};

const READS: Reads = Reads { secret: password, variable, networks: |_| Ok(Vec::new()) };

fn variable(name: &str) -> Option<OsString> {
    (name == "PG_PASSWORD").then(|| "squeamish".into())
}

fn password(source: &SecretSource) -> Result<Vec<u8>, String> {
    match source {
        SecretSource::File(path) if &**path == "/pw" => Ok(b"hunter2\nnothing\n".to_vec()),
        SecretSource::Credential(name) if &**name == "pg" => Ok(b"swordfish".to_vec()),
        SecretSource::File(path) if &**path == "/empty" => Ok(b"\n".to_vec()),
        SecretSource::File(path) if &**path == "/long" => Ok(vec![b'x'; 2000]),
        other => Err(format!("{other:?}: no such thing")),
    }
}

fn file(password: &str) -> String {
    format!(
        "listeners: {{ l: {{ bind: 5432, pool: p }} }}\npools:\n  p:\n    backends: [10.0.0.1:5432]\n    health:\n      \
         check: {{ postgres: {{ user: u, password: {password} }} }}\n"
    )
}

#[test]
fn a_password_is_read_where_the_file_says() {
    for (written, password, source) in [
        ("{ file: /pw }", "hunter2", SecretSource::File("/pw".into())),
        ("{ credential: pg }", "swordfish", SecretSource::Credential("pg".into())),
        ("'it''s'", "it's", SecretSource::Here),
        ("'${PG_PASSWORD}'", "squeamish", SecretSource::Variable("PG_PASSWORD".into())),
        ("'a ${PG_PASSWORD}'", "a squeamish", SecretSource::Here),
        ("12345", "12345", SecretSource::Here),
        ("''", "", SecretSource::Nowhere),
    ] {
        let Configuration { settings, text, .. } = read_with("f", file(written).as_bytes(), READS).unwrap();
        let Check::Postgres(check) = &settings.pools[0].health.check else { panic!() };
        assert_eq!((check.password.expose(), check.password.source()), (password.as_bytes(), &source));
        let shown = format!("{settings:?}{text}");
        assert!(password.is_empty() || !shown.contains(password), "{shown}");
        // The text without it still means the same, but for the password.
        assert!(read("f", text.as_bytes()).is_ok(), "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_a_mistake_with_its_place_and_no_mistake_shows_a_password() {
    for (written, told) in [
        ("{ file: /nowhere }", "no such thing"),
        ("{ credential: mysql }", "no such thing"),
        ("{ file: /empty }", "is empty"),
        ("{ file: /long }", "more than 1024 bytes"),
    ] {
        let mistakes = read_with("f", file(written).as_bytes(), READS).unwrap_err();
        assert_eq!((mistakes.count(), mistakes.list()[0].line), (1, 6));
        assert!(mistakes.to_string().contains(told), "{mistakes}");
    }
    let wrong = [
        file("hunter2").replace("user: u", "usr: u"),
        file("hunter2").replace("password:", "pasword:"),
        file("'hunter2'").replace("password:", "Password:"),
        file("'hunter2'").replace("} }", "}, tls: off }"),
        file("hunter2 }, postgres: { user: u"),
        file("'hunter2"),
        file("\"hunter2\\q\""),
        file("| hunter2"),
        file("&a hunter2").replace("user: u", "user: ''"),
    ];
    for text in wrong {
        let mistakes = read("f", text.as_bytes()).unwrap_err().to_string();
        assert!(!mistakes.contains("hunter"), "{mistakes}");
    }
}

#[test]
fn another_password_is_a_difference_that_is_told_without_it() {
    let other = Reads { secret: |_| Ok(b"swordfish".to_vec()), variable, ..READS };
    let text = file("{ file: /pw }");
    let before = read_with("f", text.as_bytes(), READS).unwrap().settings;
    let after = read_with("f", text.as_bytes(), other).unwrap().settings;
    assert_eq!(difference(&before, &after), ["pool p has another password"]);
    assert_eq!(difference(&before, &before), [""; 0]);
    let slower = read_with("f", text.replace("user: u", "user: w").as_bytes(), other).unwrap().settings;
    assert_eq!(difference(&before, &slower), ["pool p changed"]);
}

#[test]
fn a_password_that_cannot_be_read_is_the_only_mistake() {
    for example in ["postgresql", "mysql", "redis"] {
        let path = format!("{}/conf/{example}.yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read(&path).unwrap();
        let mistakes = read_with(&path, &text, READS).unwrap_err();
        assert_eq!(mistakes.count(), 1, "{mistakes}");
        assert!(mistakes.to_string().contains("no such thing"), "{mistakes}");
    }
}
