//! Which route a client takes.

use super::*;
use crate::config::settings::{Cidr, Role};

fn route() -> Route {
    Route {
        from: Vec::new(),
        ports: Vec::new(),
        sni: None,
        alpn: None,
        database: None,
        user: None,
        host: None,
        pool: 0,
        role: Role::Any,
    }
}

fn sni(pattern: &str) -> Route {
    Route { sni: Some(NamePattern::parse(pattern).unwrap()), ..route() }
}

fn inside() -> Route {
    Route { from: vec![Cidr { ip: "10.0.0.0".parse().unwrap(), bits: 8 }], ..route() }
}

fn choose(table: &Table, client: &str, port: u16, first: First<'_>) -> Choice {
    table.choose(&Facts { client: client.parse().unwrap(), port, first })
}

fn tls(name: &str) -> Opening {
    Opening::Tls(ClientHello::named(name))
}

#[test]
fn the_first_that_fits_is_taken() {
    let table = Table::new(&[
        sni("db.example.org"),
        Route { alpn: Some("h2".into()), ..sni("*.example.org") },
        sni("*.example.org"),
        inside(),
    ]);
    let h2 = Opening::Tls(ClientHello::named("www.example.org").offering("h2"));
    for (opening, route) in [
        (tls("db.example.org"), Choice::Route(0)),
        (h2, Choice::Route(1)),
        (tls("www.example.org"), Choice::Route(2)),
        (tls("example.org"), Choice::None),
        (Opening::Other, Choice::None),
        (Opening::Tls(ClientHello::default()), Choice::None),
    ] {
        assert_eq!(choose(&table, "192.0.2.7", 443, First::Is(&opening)), route, "{opening:?}");
    }
    assert_eq!(choose(&table, "10.1.1.1", 443, First::Is(&Opening::Other)), Choice::Route(3));
    assert_eq!(choose(&table, "::ffff:10.1.1.1", 443, First::Is(&Opening::Other)), Choice::Route(3));
    assert!(table.reads_tls() && !table.reads_only_startup());
}

#[test]
fn nobody_waits_for_a_message_that_decides_nothing() {
    let first = Table::new(&[inside(), sni("a.b")]);
    assert_eq!(choose(&first, "10.1.1.1", 443, First::Unread), Choice::Route(0));
    assert_eq!(choose(&first, "192.0.2.7", 443, First::Unread), Choice::AsksFirst);
    let last = Table::new(&[sni("a.b"), inside()]);
    assert_eq!(choose(&last, "10.1.1.1", 443, First::Unread), Choice::AsksFirst);
    // A name that only clients of a port are asked for.
    let of_port = Table::new(&[Route { ports: vec![(27_015, 27_020), (443, 443)], ..sni("a.b") }]);
    assert_eq!(choose(&of_port, "192.0.2.7", 80, First::Unread), Choice::None);
    for port in [443, 27_015, 27_020] {
        assert_eq!(choose(&of_port, "192.0.2.7", port, First::Unread), Choice::AsksFirst);
    }
    let ports = Table::new(&[Route { ports: vec![(1, 10)], ..route() }]);
    assert_eq!(choose(&ports, "192.0.2.7", 10, First::Unread), Choice::Route(0));
    assert_eq!(choose(&ports, "192.0.2.7", 11, First::Unread), Choice::None);
}

#[test]
fn database_user_and_host_are_compared_as_they_are() {
    let table = Table::new(&[
        Route { database: Some("billing".into()), user: Some("ann".into()), ..route() },
        Route { database: Some("billing".into()), ..route() },
        Route { user: Some("report".into()), ..route() },
        Route { host: Some(NamePattern::Any), ..route() },
    ]);
    let startup = |user: &str, database: &str| Opening::PostgresStartup {
        user: user.into(),
        database: database.into(),
    };
    let host = Opening::Minecraft { host: "x".into(), login: true };
    for (opening, route) in [
        (startup("ann", "billing"), Choice::Route(0)),
        (startup("bob", "billing"), Choice::Route(1)),
        (startup("report", "other"), Choice::Route(2)),
        (startup("Report", "Billing"), Choice::None),
        (host, Choice::Route(3)),
        (tls("billing"), Choice::None),
    ] {
        assert_eq!(choose(&table, "192.0.2.7", 5432, First::Is(&opening)), route, "{opening:?}");
    }
    assert!(table.reads_only_startup() && !table.reads_tls());
}
