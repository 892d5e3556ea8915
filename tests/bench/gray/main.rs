//! Backends that fail without dying, in virtual time: ten scenes, six ways to pick, TCP and UDP.
//!
//! `round_robin`, `least_connections` and `least_busy` are the program's own code (`balance::Picker`); peak-EWMA, C3 and Prequal
//! are in `rivals`, and get every signal that `least_busy` has, of the moment and of all backends: more than they would have
//! elsewhere. 10 backends of 4 servers each, exponential times of 5 ms, open arrivals; a client gives up after 2 s, which counts
//! as 2 s. A TCP session stays idle for a while after its last answer; a UDP flow for 5 s, and nobody tells when its client gave up.
//!
//! Usage: gray [--short]. Holds the bar: `least_busy` has the best p99, or is within 5 % of it, in every scene. The last line is
//! `N passed, N failed`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)]

mod engine;
mod rivals;
mod scenes;

use engine::Outcome;
use rivals::{New, POLICIES};
use scenes::SCENES;

fn main() {
    let short = std::env::args().any(|word| word == "--short");
    let seeds: &[u64] = if short { &[1] } else { &[1, 2, 3, 4, 5] };
    let (mut passed, mut failed) = (0, 0);
    for udp in [false, true] {
        println!("{}: p50 / p99 in ms, share of failed in %", if udp { "UDP" } else { "TCP" });
        println!("{:22}{}", "", POLICIES.map(|(word, _)| format!("{word:>24}")).concat());
        for scene in &SCENES {
            let of = |policy: New| {
                Outcome::mean(seeds.iter().map(|seed| engine::run(scene, udp, &mut *policy(), *seed)))
            };
            let all = POLICIES.map(|(_, policy)| of(policy));
            let cells = all.map(|one| {
                let cell = format!("{:.1} / {:.1} {:6.2}", one.p50_ms, one.p99_ms, one.failed_percent);
                format!("{cell:>24}")
            });
            let own = all[POLICIES.len() - 1].p99_ms;
            let best = all.iter().map(|one| one.p99_ms).fold(f64::INFINITY, f64::min);
            let holds = own <= best * 1.05;
            passed += u32::from(holds);
            failed += u32::from(!holds);
            println!("{:22}{} {}", scene.name, cells.concat(), if holds { "" } else { "FAILED" });
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed > 0 {
        std::process::exit(1);
    }
}
