//! evenkeel beside its peers: the same work through each proxy in turn, in rounds, so that a machine that drifts hits all alike.
//! `scripts/bench` builds and runs it; what is measured is the CPU time of the proxy's processes for each unit of work, and what
//! the clients see.

// A bench that cannot go on has nothing to measure.
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    unreachable_pub
)]

mod backends;
mod baseline;
mod beside;
mod bursts;
mod latency;
mod load;
mod peers;
mod programs;
mod report;
mod rows;

#[path = "../../servers/knot.rs"]
mod knot;
#[path = "../../ports/mod.rs"]
mod ports;
#[path = "../../servers/postgres.rs"]
mod postgres;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use backends::Backends;
use peers::{Peer, Proxy};
use report::{Line, Machine};
use rows::{ROWS, Row, Size};

fn main() -> ExitCode {
    if let Ok(backend) = std::env::var(BASELINE_FLAG) {
        baseline::run(backend.parse().expect("an address"));
        return ExitCode::SUCCESS;
    }
    let asked = match Asked::of(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(why) => {
            println!("{why}; scripts/bench --help");
            return ExitCode::from(64);
        }
    };
    if asked.list {
        ROWS.iter().for_each(|row| println!("{}{}", if row.headline { "* " } else { "  " }, row.name));
        return ExitCode::SUCCESS;
    }
    evenkeel::sys::rlimits::raise_open_files();
    pin_self();
    let (peers, missing) = Peer::found();
    missing.iter().for_each(|name| println!("left out: {name} (not installed)"));
    if !peers::as_nobody() {
        println!("all proxies run as this user: it is not root, or `nobody` may not read this folder");
    }
    let versions = peers.iter().filter_map(|peer| Some((peer.name().to_owned(), peer.version()?)));
    let machine = Machine::here(&versions.collect::<Vec<_>>());
    let backends = Backends::start();
    let mut lines = Vec::new();
    let chosen: Vec<&Row> = ROWS.iter().filter(|row| asked.wants(row)).collect();
    for (number, row) in chosen.iter().enumerate() {
        println!("[{}/{}] {}, each {}", number + 1, chosen.len(), row.name, row.unit);
        match backends.address(row.setup.to) {
            Ok(backend) => lines.extend(measure(row, &peers, backend, &asked)),
            Err(wanted) => println!("left out: {wanted} must be installed"),
        }
    }
    println!("\n{}", report::table(&lines, &machine));
    if let Err(error) = report::write(&asked.output, &lines, &machine) {
        println!("{}: {error}", asked.output.display());
        return ExitCode::FAILURE;
    }
    println!("table.txt, table.md, result.json and chart.svg are in {}", asked.output.display());
    match asked.compare {
        Some(before) => compared(&before, &lines, &machine),
        None => ExitCode::SUCCESS,
    }
}

/// One row: every proxy once to warm up, then rounds.
fn measure(row: &Row, peers: &[Peer], backend: SocketAddr, asked: &Asked) -> Vec<Line> {
    let peers: Vec<&Peer> = peers.iter().filter(|peer| peer.does(&row.setup)).collect();
    let proxies: Vec<Proxy> = peers.iter().map(|peer| peer.start(backend, &row.setup)).collect();
    let line = |peer: &&Peer| Line {
        row: row.name,
        unit: row.unit,
        peer: peer.name().to_owned(),
        cpu_us: Vec::new(),
        per_s: Vec::new(),
        figures: Vec::new(),
        ratios: Vec::new(),
        lost: 0,
    };
    let mut lines: Vec<Line> = peers.iter().map(line).collect();
    let work = |proxy: &Proxy, peer: &str, size| {
        // A wrong or missing answer ends the run: whose it was must be known.
        std::panic::catch_unwind(AssertUnwindSafe(|| (row.work)(proxy, size))).unwrap_or_else(|cause| {
            println!("the run ends here: {}, through {peer}", row.name);
            std::panic::resume_unwind(cause)
        })
    };
    if asked.size != Size::Smoke {
        proxies.iter().zip(&peers).for_each(|(proxy, peer)| drop(work(proxy, peer.name(), Size::Quick)));
    }
    for _ in 0..asked.rounds {
        for (proxy, line) in proxies.iter().zip(&mut lines) {
            let before = proxy.cpu();
            let found = work(proxy, &line.peer, asked.size);
            let cpu = found.cpu.unwrap_or_else(|| proxy.cpu() - before);
            if found.units == 0.0 {
                line.lost += 1;
                continue;
            }
            if !cpu.is_zero() {
                line.cpu_us.push(cpu.as_secs_f64() * 1e6 / found.units);
            }
            line.per_s.push(found.units / found.took_s);
            for (name, value) in found.figures {
                match line.figures.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, values)) => values.push(value),
                    None => line.figures.push((name, vec![value])),
                }
            }
        }
    }
    assert_eq!(lines[0].lost, 0, "{}: most was lost through evenkeel", row.name);
    for lost in lines.iter().filter(|line| line.lost > 0) {
        println!("      no figure for {}, which lost most of it", lost.peer);
    }
    lines.retain(|line| line.lost == 0);
    let ours = lines[0].cpu_us.clone();
    for line in lines.iter_mut().skip(1) {
        line.ratios = ours.iter().zip(&line.cpu_us).map(|(ours, theirs)| ours / theirs).collect();
    }
    lines
}

fn compared(before: &Path, lines: &[Line], machine: &Machine) -> ExitCode {
    let read = std::fs::read(before).map_err(|error| error.to_string());
    let before = read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    match before {
        Ok(before) => {
            println!("\n{}", report::compare(&report::json(lines, machine), &before));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("the earlier result cannot be read: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line.
struct Asked {
    size: Size,
    rounds: usize,
    full: bool,
    rows: Vec<String>,
    output: PathBuf,
    compare: Option<PathBuf>,
    list: bool,
}

impl Asked {
    fn of(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut asked = Self {
            size: Size::Whole,
            rounds: 5,
            full: false,
            rows: Vec::new(),
            output: "target/bench".into(),
            compare: None,
            list: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                // cargo's own.
                "--bench" => {}
                "--quick" => (asked.size, asked.rounds) = (Size::Quick, 3),
                "--full" => asked.full = true,
                "--smoke" => (asked.size, asked.rounds, asked.full) = (Size::Smoke, 1, true),
                "--list" => asked.list = true,
                "--rows" => asked.rows.push(value()?),
                "--rounds" => {
                    asked.rounds = value()?.parse().map_err(|_| "--rounds wants a number".to_owned())?;
                }
                "--output" => asked.output = value()?.into(),
                "--compare" => asked.compare = Some(value()?.into()),
                other => return Err(format!("unknown argument `{other}`")),
            }
        }
        if asked.rounds == 0 { Err("--rounds 0 measures nothing".to_owned()) } else { Ok(asked) }
    }

    fn wants(&self, row: &Row) -> bool {
        if self.rows.is_empty() {
            row.headline || self.full
        } else {
            self.rows.iter().any(|wanted| row.name.contains(wanted.as_str()))
        }
    }
}

/// Load and backends on the first core; the proxies have the second.
fn pin_self() {
    if !peers::has_two_cores() {
        println!("one core, or no taskset: load and proxy share their cores, read the ratios with care");
        return;
    }
    let me = std::process::id().to_string();
    // Without it the table says nothing wrong, only less exactly.
    let _ = Command::new("taskset").args(["-a", "-cp", "0", &me]).stdout(Stdio::null()).status();
}

const BASELINE_FLAG: &str = "EVENKEEL_BENCH_BASELINE";
const DOOR_VARIABLE: &str = "EVENKEEL_BENCH_DOOR";
