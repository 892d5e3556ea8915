//! The `mysql` check against real MariaDB servers: replication and its switches, Galera in all its states, what is wrong and how it is
//! called, and that no server counts or logs a failure for it.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[path = "servers/mariadb.rs"]
mod mariadb;
mod ports;
#[path = "servers/program.rs"]
mod program;

use std::time::{Duration, Instant};

use mariadb::{Node, Set};
use ports::free_port;
use program::{Balancer, eventually};

/// A pool of these servers with a door for writing and one for reading.
fn start(nodes: &[Node], check: &str, more: &str) -> Balancer {
    let backends: Vec<String> = nodes.iter().map(|node| format!("'127.0.0.1:{}'", node.port)).collect();
    Balancer::start(&format!(
        "listeners:\n  write: {{ bind: '127.0.0.1:{}', pool: p, role: primary }}\n  read: {{ bind: '127.0.0.1:{}', pool: p, \
         role: replica }}\npools:\n  p:\n    backends: [{}]\n    health: {{ check: {{ mysql: {check} }}, interval: 200ms, \
         timeout: 1s, fall: 2, keep: 2s }}\n{more}",
        free_port(),
        free_port(),
        backends.join(", ")
    ))
}

const CHECK: &str = "{ user: check, password: secret }";

/// State and role of each, e.g. `up primary`.
fn stands(balancer: &Balancer, at: usize) -> String {
    let backend = balancer.pool()["backends"][at].clone();
    format!("{} {}", backend["state"].as_str().unwrap_or("-"), backend["role"].as_str().unwrap_or("-"))
}

#[track_caller]
fn becomes(balancer: &Balancer, expected: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let last: Vec<String> = (0..expected.len()).map(|at| stands(balancer, at)).collect();
        if last == expected {
            return;
        }
        assert!(Instant::now() < deadline, "{last:?} never became {expected:?}: {}", balancer.pool());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn counted(node: &Node, name: &str) -> u64 {
    let answer = node.sql(&format!("show global status like '{name}'"));
    answer.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs mariadb-server"]
fn replication_is_what_read_only_says_and_nobody_counts_a_failure() {
    let set = Set::replication(2);
    let [one, other] = &set.nodes[..] else { unreachable!() };
    let balancer = start(&set.nodes, CHECK, "    roles: { max_lag: 2s }\n");
    becomes(&balancer, &["up primary", "up replica"]);

    // A planned switch, as people do it.
    one.sql("set global read_only = 1");
    becomes(&balancer, &["up replica", "up replica"]);
    other.sql("stop slave; reset slave all; set global read_only = 0");
    becomes(&balancer, &["up replica", "up primary"]);
    // The old one comes back as a primary: it tells no generation.
    one.sql("set global read_only = 0");
    becomes(&balancer, &["contested -", "contested -"]);
    one.sql("set global read_only = 1");
    becomes(&balancer, &["up replica", "up primary"]);

    // It follows nobody: what it has not is seen by the positions of both.
    other.sql("insert into app.t (a) values ('x')");
    becomes(&balancer, &["lagging replica", "up primary"]);
    let port = other.port;
    one.sql(&format!(
        "change master to master_host = '127.0.0.1', master_port = {port}, master_user = 'repl', master_password = 'repl', \
         master_use_gtid = slave_pos; start slave"
    ));
    becomes(&balancer, &["up replica", "up primary"]);

    let checks = || balancer.said(&["backend was asked"]);
    eventually("fifty checks", || checks() > 50);
    // Connections are renewed all the time, and the last ones are ended with the program.
    balancer.stop();
    for node in &set.nodes {
        // The server notices a moment later who has left, and how.
        node.wait_for("select count(*) from information_schema.processlist where user = 'check'", "0");
        assert_eq!(counted(node, "Aborted_connects"), 0);
        let log = std::fs::read_to_string(node.log()).unwrap();
        let aborted =
            log.lines().find(|line| line.contains("Aborted connection") && line.contains("'check'"));
        assert_eq!(aborted, None);
    }
}

#[test]
#[ignore = "needs mariadb-server"]
fn what_is_wrong_has_its_word_and_a_full_server_lives() {
    let set = Set::replication(1);
    let node = &set.nodes[0];
    for (check, word, why) in [
        ("{ user: check, password: wrong }", "auth", "Access denied"),
        ("{ user: nobody, password: secret }", "auth", "Access denied"),
        ("{ user: check, password: secret, tls: on }", "tls", "the server has none"),
        (CHECK, "primary", ""),
    ] {
        let balancer = start(&set.nodes, check, "");
        let answer = format!("\"answer\":\"{word}\"");
        eventually(check, || balancer.said(&["backend was asked", &answer]) > 0);
        assert!(balancer.log().contains(why), "{}", balancer.log());
        assert!(!balancer.log().contains("secret\""), "{}", balancer.log());
    }
    node.sql("alter user `check`@'%' with max_user_connections 1");
    let balancer = start(&set.nodes, &format!("{CHECK} "), "");
    becomes(&balancer, &["up primary"]);
    // The kept connection is one; the next one finds no room but while that is renewed.
    let tight = start(&set.nodes, CHECK, "");
    eventually("it is full", || tight.said(&["\"answer\":\"full\""]) > 2);
    assert_eq!(balancer.pool()["eligible"], 1, "{}", balancer.pool());
}

#[test]
#[ignore = "needs mariadb-server, galera-4"]
fn galera_nodes_serve_when_they_are_synced_and_the_writer_does_not_move() {
    let mut set = Set::galera(3);
    let balancer = start(&set.nodes, CHECK, "");
    let all =
        start(&set.nodes, "{ user: check, password: secret, donors: in }", "    roles: { writers: all }\n");
    becomes(&balancer, &["up primary", "up replica", "up replica"]);
    becomes(&all, &["up primary", "up primary", "up primary"]);

    // Each state in which `SELECT 1` is answered and writes are not, or are.
    let states = [
        ("set global wsrep_reject_queries = ALL", "set global wsrep_reject_queries = NONE", false),
        ("set global wsrep_desync = ON", "set global wsrep_desync = OFF", true),
        ("set global read_only = ON", "set global read_only = OFF", false),
    ];
    for (begin, end, is_donor) in states {
        // Those who reject all queries listen on the socket as well: `root` is let in by what is set with it.
        set.nodes[0].sql(begin);
        eventually(begin, || stands(&balancer, 1) == "up primary");
        assert_ne!(stands(&balancer, 0), "up primary", "{begin}");
        if is_donor {
            assert_eq!(stands(&all, 0), "up primary", "`donors: in`");
        } else {
            eventually(begin, || stands(&all, 0) != "up primary");
        }
        if begin.contains("read_only") {
            becomes(&balancer, &["up replica", "up primary", "up replica"]);
        }
        // Where nothing is let in any more that could take it back, it starts anew.
        if !set.nodes[0].try_sql(end).status.success() {
            set.nodes[0].down();
            set.nodes[0].up(&[]);
        }
        becomes(&balancer, &["up replica", "up primary", "up replica"]);
        // Back to the first for the next state, once two of its answers were heard since: before that it may still be the replica
        // that it was, and the third would rightly become the writer.
        let heard = || balancer.pool()["backends"][0]["checks"]["good"].as_u64().unwrap();
        let before = heard();
        eventually("the first was heard again", || heard() >= before + 2);
        set.nodes[1].sql("set global read_only = ON");
        becomes(&balancer, &["up primary", "up replica", "up replica"]);
        set.nodes[1].sql("set global read_only = OFF");
        becomes(&all, &["up primary", "up primary", "up primary"]);
        becomes(&balancer, &["up primary", "up replica", "up replica"]);
    }

    // The majority is lost: the last one answers, and serves nobody.
    set.nodes[1].signal("-STOP");
    set.nodes[2].signal("-STOP");
    eventually("nobody is primary", || balancer.pool()["primary"].is_null());
    eventually("it says so", || balancer.log().contains("its cluster is"));
    set.nodes[1].signal("-CONT");
    set.nodes[2].signal("-CONT");
    eventually("somebody is again", || !balancer.pool()["primary"].is_null());
}

#[test]
#[ignore = "needs mariadb-server"]
fn the_example_leads_to_the_primary_of_real_servers() {
    let set = Set::replication(3);
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "secret\n").unwrap();
    let example = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/mysql.yaml")).unwrap();
    let doors = [free_port(), free_port()];
    let mut yaml = example
        .replace("admin:\n  http: 127.0.0.1:9900\n", "")
        .replace("user: evenkeel", "user: check")
        .replace("/etc/evenkeel/mysql.password", password.to_str().unwrap())
        .replace("bind: 3306", &format!("bind: 127.0.0.1:{}", doors[0]))
        .replace("bind: 3307", &format!("bind: 127.0.0.1:{}", doors[1]));
    for (at, node) in set.nodes.iter().enumerate() {
        yaml = yaml.replace(&format!("10.0.0.4{}:3306", at + 1), &format!("127.0.0.1:{}", node.port));
    }
    let balancer = Balancer::start(&yaml);
    becomes(&balancer, &["up primary", "up replica", "up replica"]);
    let ask = |door: u16| {
        let mut client = std::process::Command::new(program::find("mariadb", "mariadb-client"));
        client.args([
            "--no-defaults",
            "-h",
            "127.0.0.1",
            "-P",
            &door.to_string(),
            "-u",
            "app",
            "-papp",
            "-NBe",
        ]);
        let output = client.arg("select @@read_only, @@port").output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(ask(doors[0]), format!("0\t{}\n", set.nodes[0].port));
    assert!(ask(doors[1]).starts_with("1\t"), "{}", ask(doors[1]));
}
