//! What 1,000 backends asked once a second cost: CPU time of the asking process, its listener being another process.
//!
//! `cargo bench --bench health`: prints the share of one core and fails above 5 %. `HEALTH_BENCH_SECONDS` sets the
//! length (default 10). The backends are 1,000 loopback addresses of one listener; nothing is accepted.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use evenkeel::config::settings::{Check, Health, SendProxy};
use evenkeel::health::{Checker, Haste, Outcome, Target, TargetId};
use evenkeel::sys::probe::Route;

fn main() {
    if std::env::var_os("HEALTH_BENCH_LISTENER").is_some() {
        return listen();
    }
    let seconds = std::env::var("HEALTH_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut listener = Command::new(std::env::current_exe().unwrap())
        .env("HEALTH_BENCH_LISTENER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut port = String::new();
    BufReader::new(listener.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let share = measure(port.trim().parse().unwrap(), Duration::from_secs(seconds));
    drop(listener.stdin.take());
    listener.wait().unwrap();
    assert!(share < 0.05, "1,000 checks a second cost {:.2} % of a core, more than 5 %", share * 100.0);
}

/// Holds a listener open until the parent closes our standard input.
fn listen() {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn measure(port: u16, span: Duration) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let second = Duration::from_secs(1);
        let health = Arc::new(Health {
            check: Check::Tcp,
            interval: second,
            timeout: second,
            rise: 2,
            fall: 3,
            port: None,
            send_proxy: SendProxy::Off,
            keep: None,
        });
        let target = |n: u16| Target {
            id: TargetId(n.into()),
            route: Route::to(SocketAddr::from(([127, 1, (n / 250) as u8, (n % 250) as u8 + 1], port))),
            health: Arc::clone(&health),
            haste: Haste::default(),
            known: None,
        };
        let (sender, mut events) = tokio::sync::mpsc::channel(64);
        let checker = Checker::start((0..1000).map(target).collect::<Vec<_>>(), 1024, 1, sender);
        // The first second holds the start-up.
        let begin = Instant::now() + second;
        let (mut checks, mut cpu_before) = (0u32, None);
        while begin + span > Instant::now() {
            let checked = events.recv().await.unwrap();
            assert_eq!(checked.outcome, Outcome::Good);
            if Instant::now() >= begin {
                cpu_before.get_or_insert_with(cpu_seconds);
                checks += 1;
            }
        }
        let cpu = cpu_seconds() - cpu_before.unwrap();
        checker.stop().await;
        let share = cpu / span.as_secs_f64();
        println!(
            "{checks} checks in {span:?}: {:.2} % of a core, {:.1} us a check",
            share * 100.0,
            cpu * 1e6 / f64::from(checks)
        );
        share
    })
}

/// User and system time of this process so far, to the microsecond of the kernel's accounting.
fn cpu_seconds() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/self/schedstat").unwrap();
    schedstat.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}
