//! Backends by the services of a name (SRV): who they are, and that no answer that is none takes anybody away.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::names::{Names, Says};
use crate::ports::free_port;
use crate::resolvers::Resolvers;
use crate::rig::*;

fn yaml(server: SocketAddr, door: u16, from: &str) -> String {
    format!(
        "workers: 2\ndns: {{ servers: '{server}', hosts: off, search: [], timeout: 300ms, refresh: {{ min: 100ms }} }}\n\
         listeners: {{ door: {{ bind: '127.0.0.1:{door}', health: {{ check: off }}, backends: [{{ from: {from} }}] }} }}"
    )
}

/// Name, address, weight and tier of each backend.
fn found(balancer: &Balancer) -> Vec<String> {
    let snapshot = balancer.server().snapshots().load();
    let all = &snapshot.pools[0].settings.backends;
    all.iter().map(|one| format!("{} {} {} {}", one.name, one.ip, one.weight, one.tier)).collect()
}

fn state(balancer: &Balancer) -> &'static str {
    balancer.server().discovery().pool("door").unwrap().sources[0].state
}

#[test]
fn services_are_backends_with_their_port_weight_and_tier() {
    let names = Names::start();
    let (one, other) = (Backend::start(answer_with("one")), Backend::start(answer_with("other")));
    let ports = [one.address.port(), other.address.port()];
    names.has("a.test", &["127.0.0.1"]);
    names.has("b.test", &["127.0.0.1"]);
    names
        .set("_pg._tcp.test", Says::Services(vec![(1, 600, ports[0], "a.test"), (2, 0, ports[1], "b.test")]));
    let balancer = Balancer::start(&yaml(names.address, free_port(), "{ srv: _pg._tcp.test }"));
    let expected =
        [format!("a.test:{} 127.0.0.1 150 0", ports[0]), format!("b.test:{} 127.0.0.1 1 1", ports[1])];
    assert_eq!(found(&balancer), expected, "found before the door opens");
    assert_eq!(names_reached(balancer.address(), 10)["one"], 10);
    let generation = || balancer.server().snapshots().load().generation;
    let before = generation();
    for says in [
        Says::Code(2),
        Says::Code(3),
        Says::Nothing,
        Says::Silence,
        Says::Garbage,
        Says::Services(vec![(0, 0, 0, ".")]),
    ] {
        let is_nobody = matches!(says, Says::Code(3) | Says::Nothing | Says::Services(_));
        names.set("_pg._tcp.test", says.clone());
        becomes(&format!("{says:?}"), if is_nobody { "nobody" } else { "failing" }, || state(&balancer));
        assert_eq!((found(&balancer), generation()), (expected.to_vec(), before), "{says:?}");
    }
    // One that is not asked for by the name it had is asked for by its own.
    names.set("_pg._tcp.test", Says::Services(vec![(5, 1, ports[1], "b.test"), (5, 3, ports[0], "a.test")]));
    let expected =
        vec![format!("a.test:{} 127.0.0.1 3 0", ports[0]), format!("b.test:{} 127.0.0.1 1 0", ports[1])];
    becomes("weights", expected, || found(&balancer));
    becomes("state", "ok", || state(&balancer));
    names.set("b.test", Says::Code(2));
    becomes("a host that is not found", "failing", || state(&balancer));
    assert_eq!(found(&balancer).len(), 2);
}

#[test]
fn a_port_of_the_file_stands_instead_of_the_services_own() {
    let names = Names::start();
    names.has("a.test", &["127.0.0.1"]);
    names.set("_pg._tcp.test", Says::Services(vec![(1, 1, 389, "a.test")]));
    let from = "{ srv: { name: _pg._tcp.test., port: 636 } }, tier: 3, ignore: [weight], weight: 9";
    let balancer = Balancer::start(&yaml(names.address, free_port(), from));
    assert_eq!(found(&balancer), ["a.test:636 127.0.0.1 9 3"]);
}

#[test]
#[ignore = "needs knot, unbound and dnsmasq"]
fn real_servers_tell_all_of_sixty_services_and_one_that_leaves_cuts_nobody() {
    let services = |count: u16| {
        let one = |at: u16| format!("_pg._tcp SRV {} {} 5432 h{at}\nh{at} A 127.0.2.{at}\n", at % 2, at * 10);
        (1..=count).map(one).collect::<String>()
    };
    let resolvers = Resolvers::start([free_port(), free_port(), free_port()], &services(60));
    let door = free_port();
    let from = "{ srv: _pg._tcp.example.test }";
    let balancer = Balancer::start(&yaml(resolvers.addresses[0], door, from));
    let mut before = None;
    for server in resolvers.addresses {
        balancer.reload(&yaml(server, door, from)).unwrap();
        balancer.refresh();
        becomes(&format!("services by {server}"), 60, || found(&balancer).len());
        becomes("state", "ok", || state(&balancer));
        let now = found(&balancer);
        assert!(now.contains(&"h60.example.test:5432 127.0.2.60 150 0".to_owned()), "{now:?}");
        assert_eq!(*before.get_or_insert(now.clone()), now, "the same by each of them");
    }
    balancer.reload(&yaml(resolvers.addresses[0], door, from)).unwrap();
    resolvers.change(2, &services(59));
    let changed = Instant::now();
    becomes("services", 59, || found(&balancer).len());
    eprintln!("a service that left is gone after {:?}", changed.elapsed());
    assert!(changed.elapsed() > Duration::from_secs(3), "a removal is confirmed");
    balancer.reload(&yaml(resolvers.addresses[2], door, "{ srv: _nobody._tcp.example.test }")).unwrap();
    becomes("a name that is not there", "nobody", || state(&balancer));
}
