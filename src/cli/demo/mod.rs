//! `evenkeel demo`: the main job with nothing to install or edit. Three built-in backends behind a real listener, real
//! connections and datagrams through it, one backend killed and brought back on the way, and a table of where they went.

mod echo;
mod players;
mod traffic;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::output::{Unheard, failed, said, say};
use super::run::{Stop, control_runtime, fresh_seed};
use crate::config::{self, settings::Settings};
use crate::server::{Environment, Server, StartError};
use crate::sys::udp_probe;
use echo::Echo;
use players::{Players, Round};
use traffic::{Answers, send_through};

/// Runs the demo; with `stay` it serves on until Ctrl-C.
pub(super) fn demo(stay: bool) -> ExitCode {
    let runtime = match control_runtime() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let outcome = runtime.block_on(async {
        let mut stop = Stop::new()?;
        // What is dropped half way closes its sockets.
        tokio::select! {
            shown = show(stay) => shown,
            () = stop.asked() => Ok(ExitCode::SUCCESS),
        }
    });
    match outcome {
        Ok(code) => code,
        Err(Trouble::Unheard(unheard)) => said(Err(unheard)),
        Err(Trouble::Other(error)) => failed(&format_args!("the demo broke off: {error}")),
    }
}

/// Why a demo does not come to its end.
enum Trouble {
    /// Nobody reads it.
    Unheard(Unheard),
    Other(Box<dyn std::error::Error>),
}

impl From<Unheard> for Trouble {
    fn from(unheard: Unheard) -> Self {
        Self::Unheard(unheard)
    }
}

impl From<Box<dyn std::error::Error>> for Trouble {
    fn from(error: Box<dyn std::error::Error>) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<StartError> for Trouble {
    fn from(error: StartError) -> Self {
        Self::Other(error.into())
    }
}

impl From<config::Mistakes> for Trouble {
    fn from(error: config::Mistakes) -> Self {
        Self::Other(error.into())
    }
}

impl From<String> for Trouble {
    fn from(error: String) -> Self {
        Self::Other(error.into())
    }
}

async fn show(stay: bool) -> Result<ExitCode, Trouble> {
    let mut echoes = Vec::new();
    for (name, _) in BACKENDS {
        echoes.push(Echo::start(name, SocketAddr::new(LOOPBACK, 0)).await?);
    }
    let settings = settings(&echoes)?;
    let with = Environment::embedded(fresh_seed(), udp_probe::probe());
    let server = Server::start(&settings, &with).await?;
    let (door, games) = (server.addresses()[0].1, server.addresses()[1].1);
    say(format_args!(
        "three echo backends, weights 1, 2 and 3, behind {door} (round_robin, asked every {INTERVAL:?})"
    ))?;

    let before = send_through(door, CONNECTIONS).await;
    told(&format!("{CONNECTIONS} connections made"), &before)?;
    let mut players = Players::join(games, PLAYERS).await?;
    let at_first = players.ask(MOVES).await;
    say(format_args!(
        "  {PLAYERS} players sent {MOVES} datagrams each to {games} (udp); {}",
        placed(&at_first)
    ))?;

    let killed_at = Instant::now();
    let gone = echoes.remove(KILLED);
    let address = gone.address();
    gone.kill().await;
    say(format_args!("backend {} killed", BACKENDS[KILLED].0))?;
    let (while_down, noticed_down) = meanwhile(&server, door, false, killed_at).await?;
    told(
        &format!(
            "health noticed after {noticed_down:?}; {} connections until then and after",
            while_down.made()
        ),
        &while_down,
    )?;

    let later = players.ask(MOVES).await;
    say(format_args!(
        "  the same players go on, those of {} elsewhere; {}",
        BACKENDS[KILLED].0,
        placed(&later)
    ))?;

    let back_at = Instant::now();
    echoes.insert(KILLED, Echo::start(BACKENDS[KILLED].0, address).await?);
    say(format_args!("backend {} brought back", BACKENDS[KILLED].0))?;
    let (returning, noticed_up) = meanwhile(&server, door, true, back_at).await?;
    let mut after = send_through(door, CONNECTIONS).await;
    // Who failed while it came back has failed too.
    after.failed += returning.failed;
    told(&format!("health noticed after {noticed_up:?}; {CONNECTIONS} connections made"), &after)?;

    say(format_args!("\n{}", table(&before, &while_down, &after)))?;
    let lost = before.failed + while_down.failed + after.failed + at_first.failed + later.failed;
    if stay {
        say(format_args!("still serving; try:  nc {} {}\nCtrl-C ends it", door.ip(), door.port()))?;
        // Until the caller hears a signal.
        std::future::pending::<()>().await;
    }
    server.stop(std::future::pending()).await;
    end(echoes).await;
    Ok(if lost == 0 { ExitCode::SUCCESS } else { ExitCode::from(super::exit_code::FAILED) })
}

/// Keeps connecting until health has noticed, and one more round; tells how long it took.
async fn meanwhile(
    server: &Server,
    door: SocketAddr,
    up: bool,
    since: Instant,
) -> Result<(Answers, Duration), String> {
    let mut answers = Answers::default();
    loop {
        let seen = server.snapshots().load().pools[0].states[KILLED].is_up() == up;
        let took = since.elapsed();
        answers.add(send_through(door, ROUND).await);
        if seen {
            let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
            return Ok((answers, Duration::from_millis(ms)));
        }
        if took > NOTICE_MAX {
            return Err(format!("health has not noticed within {NOTICE_MAX:?}"));
        }
    }
}

async fn end(echoes: Vec<Echo>) {
    for echo in echoes {
        echo.kill().await;
    }
}

/// `a 5, b 10, c 15, 0 failed`.
fn placed(round: &Round) -> String {
    let counts: Vec<String> =
        round.by_backend.iter().map(|(backend, players)| format!("{backend} {players}")).collect();
    format!("{}, {} failed", counts.join(", "), round.failed)
}

fn told(what: &str, answers: &Answers) -> Result<(), Unheard> {
    say(format_args!("  {what}, {} failed", answers.failed))
}

fn table(before: &Answers, while_down: &Answers, after: &Answers) -> String {
    use std::fmt::Write;
    let mut text =
        format!("{:<8} {:>6} {:>10} {:>12} {:>10}\n", "BACKEND", "WEIGHT", "BEFORE", "b KILLED", "AFTER");
    for (name, weight) in BACKENDS {
        let count = |answers: &Answers| answers.by_backend.get(name).copied().unwrap_or(0);
        let (first, second, third) = (count(before), count(while_down), count(after));
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<8} {weight:>6} {first:>10} {second:>12} {third:>10}");
    }
    let failed = (before.failed, while_down.failed, after.failed);
    let _ = writeln!(text, "{:<8} {:>6} {:>10} {:>12} {:>10}", "failed", "", failed.0, failed.1, failed.2);
    text
}

/// What a file for this demo says, but for the port: any free one.
fn settings(echoes: &[Echo]) -> Result<Settings, config::Mistakes> {
    let backends: String = echoes
        .iter()
        .zip(BACKENDS)
        .map(|(echo, (name, weight))| {
            format!("      - {{ address: {}, name: {name}, weight: {weight} }}\n", echo.address())
        })
        .collect();
    let interval = INTERVAL.as_millis();
    let text = format!(
        "shutdown: {{ grace: 1s }}\nlog: {{ sessions: off }}\nlisteners:\n  demo:\n    bind: {LOOPBACK}:1\n    backends:\n{backends}    \
         connect: {{ timeout: 1s }}\n    health: {{ interval: {interval}ms, timeout: {interval}ms }}\n  \
         games:\n    bind: {LOOPBACK}:1\n    protocol: udp\n    limits: {{ sessions_per_source: off }}\n    backends:\n{backends}"
    );
    let mut settings = config::read("demo", text.as_bytes())?;
    settings.listeners.iter_mut().for_each(|listener| listener.bind[0].port = 0);
    Ok(settings)
}

/// Names and weights.
const BACKENDS: [(&str, u16); 3] = [("a", 1), ("b", 2), ("c", 3)];
/// Which of them is killed.
const KILLED: usize = 1;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const INTERVAL: Duration = Duration::from_millis(300);
const CONNECTIONS: usize = 600;
const PLAYERS: usize = 30;
/// Datagrams of each, one after the other's answer.
const MOVES: usize = 10;
/// Connections between two looks at the verdict.
const ROUND: usize = 60;
const NOTICE_MAX: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_table_shows_every_backend_and_every_failure() {
        let mut before = Answers::default();
        before.by_backend.extend([("a".to_owned(), 100), ("b".to_owned(), 200), ("c".to_owned(), 300)]);
        let down = Answers { by_backend: BTreeMap::from([("a".to_owned(), 15)]), failed: 2 };
        let expected = "BACKEND  WEIGHT     BEFORE     b KILLED      AFTER\n\
                        a             1        100           15          0\n\
                        b             2        200            0          0\n\
                        c             3        300            0          0\n\
                        failed                   0            2          0\n";
        assert_eq!(table(&before, &down, &Answers::default()), expected);
    }
}
