//! Many names for long: shuffled answers make no change, whatever a server does for whatever time takes nobody away, and all of
//! them are right soon after. `EVENKEEL_DISCOVERY_ROUNDS` makes it longer; `scripts/soak discovery` does.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evenkeel::config::settings::Role;

use crate::names::{Names, Says};
use crate::rig::*;

fn rounds() -> usize {
    std::env::var("EVENKEEL_DISCOVERY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// A pool that serves by one name, and one of fifty names of ten addresses each.
fn crowd(names: &Names, port: u16) -> String {
    let all: Vec<String> = (0..CROWD).map(|at| format!("'n{at}.test:{port}'")).collect();
    format!(
        "dns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms, refresh: {{ min: 100ms, max: 1s }} }}\n\
         listeners: {{ door: {{ bind: '127.0.0.1:PORT', pool: main }} }}\n\
         pools: {{ main: {{ health: {{ check: off }}, backends: ['db.test:{port}'] }}, \
         crowd: {{ health: {{ check: off }}, backends: [{}] }} }}",
        names.address,
        all.join(", ")
    )
}

fn addresses(at: usize) -> Vec<IpAddr> {
    let at = u8::try_from(at).unwrap();
    (1..=10).map(|last| IpAddr::from([127, 1, at, last])).collect()
}

fn changed(program: &Program) -> f64 {
    program.metric("evenkeel_discovery_changes_total{pool=\"crowd\",change=\"changed\"}")
}

/// How many sources of the crowd stand so.
fn standing(program: &Program, state: &str) -> usize {
    let status = program.status();
    let pools = status["pools"].as_array().unwrap();
    let crowd = pools.iter().find(|pool| pool["name"] == "crowd").unwrap();
    crowd["sources"].as_array().unwrap().iter().filter(|source| source["state"] == state).count()
}

#[test]
fn shuffled_answers_and_bad_ones_change_nothing_and_all_is_right_soon_after() {
    let names = Names::start();
    let backend = Backend::start(answer_with("here"));
    names.has("db.test", &["127.0.0.1"]);
    let good = |at: usize| names.set(&format!("n{at}.test"), Says::Shuffled(addresses(at)));
    (0..CROWD).for_each(good);
    let program = Program::start(&crowd(&names, backend.address.port()));
    becomes("names", CROWD, || standing(&program, "ok"));
    let lines = || program.json_log().iter().filter(|line| line["target"] == "discovery").count();
    let (before, kib, told) = (changed(&program), program.private_kib(), lines());

    let wanted = names.asked() + 300 * rounds();
    eventually("answers", || names.asked() >= wanted);
    assert_eq!(standing(&program, "ok"), CROWD);
    assert!((changed(&program) - before).abs() < f64::EPSILON, "another order is no change");
    assert_eq!(lines(), told);
    println!(
        "{} shuffled answers: 0 changes, {} KiB before, {} KiB after",
        300 * rounds(),
        kib,
        program.private_kib()
    );

    let stop = AtomicBool::new(false);
    let sessions = AtomicUsize::new(0);
    let to = program.address();
    std::thread::scope(|scope| {
        let clients = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(short_session(to).expect("nobody is refused"), "here");
                sessions.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let evil: IpAddr = "127.66.66.66".parse().unwrap();
        let all = [
            Says::Code(2),
            Says::Code(5),
            Says::Silence,
            Says::Garbage,
            Says::Code(3),
            Says::Nothing,
            Says::OtherNumber(evil),
            Says::NoTcp,
        ];
        for says in all {
            let is_nobody = matches!(says, Says::Code(3) | Says::Nothing);
            let crowd = (0..CROWD).map(|at| format!("n{at}.test"));
            crowd.chain(["db.test".to_owned()]).for_each(|name| names.set(&name, says.clone()));
            let state = if is_nobody { "nobody" } else { "failing" };
            becomes(&format!("{says:?}"), CROWD, || standing(&program, state));
            let until = Instant::now() + Duration::from_millis(300) * u32::try_from(rounds()).unwrap();
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(50));
            }
            assert!((changed(&program) - before).abs() < f64::EPSILON, "{says:?}");
            names.has("db.test", &["127.0.0.1"]);
            (0..CROWD).for_each(good);
            let ended = Instant::now();
            becomes(&format!("after {says:?}"), CROWD, || standing(&program, "ok"));
            println!("after {says:?}: {CROWD} of {CROWD} names right after {:?}", ended.elapsed());
            assert!(ended.elapsed() < Duration::from_secs(35), "{says:?}: {:?}", ended.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        clients.join().unwrap();
    });
    assert!((changed(&program) - before).abs() < f64::EPSILON);
    println!("0 of {} connects failed, 0 changes", sessions.into_inner());
}

#[test]
fn when_one_of_three_names_moves_no_client_changes_its_backend() {
    let names = Names::start();
    for (at, name) in ["a.test", "b.test", "c.test"].into_iter().enumerate() {
        names.set(name, Says::Addresses(vec![IpAddr::from([127, 2, 0, u8::try_from(at).unwrap() + 1])]));
    }
    let entries: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| format!("{{ address: '{name}.test:1', addresses: one }}"))
        .collect();
    let yaml = format!(
        "dns: {{ servers: '{}', hosts: off, search: [], timeout: 300ms, refresh: {{ min: 100ms }} }}\n\
         listeners: {{ door: {{ bind: '127.0.0.1:{}', balance: source_hash, health: {{ check: off }}, backends: [{}] }} }}",
        names.address,
        crate::ports::free_port(),
        entries.join(", ")
    );
    let balancer = Balancer::start(&yaml);
    let chosen = || {
        let snapshot = balancer.server().snapshots().load();
        let pool = &snapshot.pools[0];
        let client = |at: u32| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 + at * 77), 4_000));
        let of = |at: u32| match pool.explain(Role::Any, client(at), 0, 0).outcome {
            evenkeel::pool::Outcome::Backend(index) => pool.backends[index].name.to_string(),
            other => panic!("{other:?}"),
        };
        (0..1_000).map(of).collect::<Vec<_>>()
    };
    let before = chosen();
    names.has("b.test", &["127.2.0.99"]);
    let at = || balancer.server().snapshots().load().pools[0].settings.backends[1].ip;
    becomes("address", "127.2.0.99".parse::<IpAddr>().unwrap(), at);
    let moved = chosen().iter().zip(&before).filter(|(now, before)| now != before).count();
    println!("{moved} of 1,000 clients change their backend when one of three names moves");
    assert_eq!(moved, 0);
}

const CROWD: usize = 50;
