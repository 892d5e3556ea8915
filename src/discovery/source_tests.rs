//! Scenes of sources: what is heard of them, and the backends that come of it.

use super::super::ledger::Heard;
use super::*;
use crate::config;

fn pool(entry: &str) -> (config::settings::Pool, Dns) {
    let file = format!("listeners: {{ door: {{ bind: 5432, backends: [{entry}] }} }}");
    let settings = config::read("test.yaml", file.as_bytes()).unwrap();
    (settings.pools[0].clone(), settings.dns)
}

fn came(v4: &[&str], v6: Option<&str>) -> Came {
    let v4 = Heard::Members(v4.iter().map(|ip| ip.parse().unwrap()).collect(), 1_000);
    let v6 = match v6 {
        None => Heard::Nobody("NODATA".into(), None),
        Some("") => Heard::Failure("SERVFAIL".into()),
        Some(ip) => Heard::Members([ip.parse().unwrap()].into(), 1_000),
    };
    Came::Addresses(Looked { heard: [Some(v4), Some(v6)], may_be_loopback: false })
}

#[test]
fn backends_of_a_name_are_named_as_a_list_of_addresses_would_name_them() {
    let (pool, dns) = pool("{ address: 'db.example.org:5432', weight: 7, tier: 1, max_sessions: 9 }");
    let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
    let taken = Taken { networks: &[], needs_port: false, doors: &[], from: &pool.connect_from };
    assert_eq!(entry.standing().0, Standing::Waiting);
    entry.hear(came(&["10.0.0.2", "10.0.0.1"], Some("2001:db8::1")), taken, 0, 0);
    let (list, _) = self::pool(
        "{ address: '10.0.0.1:5432', weight: 7, tier: 1, max_sessions: 9 }, \
         { address: '10.0.0.2:5432', weight: 7, tier: 1, max_sessions: 9 }, \
         { address: '[2001:db8::1]:5432', weight: 7, tier: 1, max_sessions: 9 }",
    );
    assert_eq!(entry.backends("seed"), list.backends);
    // One question that fails keeps its own last answer, and is told.
    entry.hear(came(&["10.0.0.1", "10.0.0.2"], Some("")), taken, 1_000, 0);
    assert_eq!(entry.backends("seed").len(), 3);
    assert_eq!(entry.standing(), (Standing::Failing, 1_000, Some("SERVFAIL")));
    let told = entry.export();
    let mut next = Entry::new(&pool.sources[0], &pool.discovery, &dns, 5_000);
    next.remember(&Remembered { source: told, age_s: None }, taken, 5_000);
    assert_eq!(next.backends("seed"), list.backends);
}

#[test]
fn a_name_that_is_one_backend_moves_when_its_address_is_gone_for_good() {
    let (pool, dns) = pool("{ address: 'db.example.org', addresses: one, name: db }");
    let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
    let taken = Taken { networks: &[], needs_port: false, doors: &[], from: &pool.connect_from };
    entry.hear(came(&["10.0.0.1"], None), taken, 0, 0);
    let at = |entry: &mut Entry| {
        entry.backends("seed").iter().map(|one| (one.name.clone(), one.ip.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(at(&mut entry), [("db".to_owned(), "10.0.0.1".to_owned())]);
    assert_eq!(entry.standing().0, Standing::Ok, "of one kind alone is as it should be");
    for now_s in 1..=3 {
        entry.hear(came(&["10.0.0.2"], None), taken, now_s * 1_000, 0);
        assert_eq!(at(&mut entry)[0].1, "10.0.0.1");
    }
    entry.hear(came(&["10.0.0.2"], None), taken, 4_000, 0);
    assert_eq!(at(&mut entry), [("db".to_owned(), "10.0.0.2".to_owned())]);
}

#[test]
fn what_cannot_be_a_backend_is_left_out_and_told_once() {
    let (pool, dns) = pool("db.example.org");
    let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
    let taken = Taken { networks: &[], needs_port: false, doors: &[], from: &pool.connect_from };
    let told = entry.hear(came(&["169.254.169.254", "10.0.0.1", "127.0.0.1"], None), taken, 0, 0);
    assert_eq!((told.refused.len(), entry.backends("seed").len()), (2, 1));
    let told = entry.hear(came(&["169.254.169.254", "10.0.0.1", "127.0.0.1"], None), taken, 1_000, 0);
    assert!(told.refused.is_empty());
    let told = entry.hear(came(&["0.0.0.0"], None), taken, 2_000, 0);
    assert_eq!(
        (told.refused.len(), entry.backends("seed").len()),
        (1, 1),
        "nobody is left: those found before stay"
    );
}

fn of_file(keys: &str) -> (config::settings::Pool, Dns) {
    pool(&format!("{{ from: {{ file: /pg.yaml }}, weight: 7, tier: 1, max_sessions: 9{keys} }}"))
}

fn listing(text: &str) -> (Answer, bool, Option<u64>) {
    (Answer::Listed(super::super::listing::read("l", text.as_bytes()).unwrap()), true, None)
}

#[test]
fn what_a_list_says_wins_over_the_entry_unless_it_is_ignored() {
    let text = "- 10.0.0.1:1\n- { address: 10.0.0.2:2, name: b, weight: 3, tier: 0, max_sessions: 4 }\n";
    let made = |keys: &str| {
        let (pool, dns) = of_file(keys);
        let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
        let from = &pool.connect_from;
        entry.hear_whole(listing(text), Taken { networks: &[], needs_port: false, doors: &[], from }, 0, 0);
        entry.backends("seed")
    };
    let list = |entries: &str| pool(entries).0.backends;
    assert_eq!(
        made(""),
        list(
            "{ address: 10.0.0.1:1, weight: 7, tier: 1, max_sessions: 9 }, \
             { address: 10.0.0.2:2, name: b, weight: 3, tier: 0, max_sessions: 4 }"
        )
    );
    assert_eq!(
        made(", ignore: [weight, tier, max_sessions, port]"),
        list(
            "{ address: 10.0.0.1, weight: 7, tier: 1, max_sessions: 9 }, \
             { address: 10.0.0.2, name: b, weight: 7, tier: 1, max_sessions: 9 }"
        )
    );
}

#[test]
fn what_a_whole_list_has_found_goes_from_process_to_process() {
    let (pool, dns) = of_file("");
    let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
    let taken = Taken { networks: &[], needs_port: false, doors: &[], from: &pool.connect_from };
    let drained = Listed {
        name: Some("default/pg 3".into()),
        ip: "10.0.0.3".parse().unwrap(),
        port: Some(1),
        weight: None,
        tier: None,
        max_sessions: None,
        drains: Some("terminating (kubernetes)".into()),
    };
    let told = entry.hear_whole((Answer::Listed(vec![drained]), false, None), taken, 10, 0);
    assert_eq!((told.found.len(), entry.answers), (1, [1, 0, 0]));
    let backends = entry.backends("seed");
    assert_eq!(backends[0].name, "default-pg-3", "it stands in commands as POOL/BACKEND");
    assert_eq!(backends[0].drains.as_deref(), Some("terminating (kubernetes)"));
    let mut next = Entry::new(&pool.sources[0], &pool.discovery, &dns, 50);
    next.remember(&Remembered { source: entry.export(), age_s: None }, taken, 50);
    assert_eq!((next.backends("seed"), next.standing().0), (backends, Standing::Remembered));
}

#[test]
fn of_a_whole_list_too_not_everything_may_be_a_backend() {
    let (pool, dns) = of_file("");
    let mut entry = Entry::new(&pool.sources[0], &pool.discovery, &dns, 0);
    let taken = Taken { networks: &[], needs_port: true, doors: &[], from: &pool.connect_from };
    let told = entry.hear_whole(listing("[169.254.169.254:1, 10.0.0.1, 127.0.0.1:1]"), taken, 0, 0);
    assert_eq!((told.refused.len(), told.found), (2, vec!["127.0.0.1:1".to_owned()]));
    let told = entry.hear_whole(listing("[169.254.169.254:1]"), taken, 100, 0);
    assert!(told.refused.is_empty() && told.left.is_empty());
    assert_eq!(entry.standing(), (Standing::Nobody, 100, Some(NONE_FIT)));
    entry.hear_whole((Answer::Failure("gone".into()), true, Some(700)), taken, 200, 0);
    assert_eq!((entry.next_ms(), entry.answers), (Some(900), [1, 1, 1]));
}
