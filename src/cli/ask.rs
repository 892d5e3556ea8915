//! `evenkeel check --ask`: every backend is asked once with the checks of the file, before anything is served, and what each
//! answered is a table for people.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::mpsc;

use super::exit_code::FAILED;
use super::output::{complain, said, say};
use crate::config::settings::{Pool, Role, Settings};
use crate::config::{explained, settings};
use crate::health::{Checked, Checker, Haste, Outcome, Target, TargetId};
use crate::publisher::{Question, believed, questions};
use crate::roles::{Claim, Roles};
use crate::sys::rlimits;

/// Asks, and prints. Exit code 1: somebody did not answer as it should, or what they say does not fit together.
pub(super) fn ask(settings: &Settings) -> ExitCode {
    rlimits::raise_open_files();
    let asked = questions(settings);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(format_args!("evenkeel: nobody can be asked: {error}"));
            return ExitCode::from(FAILED);
        }
    };
    let answers = runtime.block_on(answers(&asked));
    let (rows, all_good) = rows(settings, &asked, &answers);
    let notes: Vec<String> = settings
        .pools
        .iter()
        .enumerate()
        .flat_map(|(at, pool)| notes(settings, at, pool, &of_pool(at, pool, &asked, &answers)))
        .collect();
    let mut spoken = say(explained(&rows, |_, _, cell| cell).trim_end());
    for note in &notes {
        spoken = spoken.and_then(|()| say(note));
    }
    let code = said(spoken);
    if all_good && notes.is_empty() { code } else { ExitCode::from(FAILED) }
}

/// What each answered first, as [`questions`] has them.
async fn answers(asked: &[Question]) -> HashMap<u64, Checked> {
    let target = |(at, question): (usize, &Question)| Target {
        id: TargetId(at as u64),
        route: question.route.clone(),
        // Nobody is asked twice.
        health: settings::Health { interval: LONG, keep: None, ..(*question.health).clone() }.into(),
        haste: Haste::default(),
        known: None,
    };
    let targets: Vec<Target> = asked.iter().enumerate().map(target).collect();
    let (sender, mut events) = mpsc::channel(64);
    let checker = Checker::start(targets, ASKED_TOGETHER, 1, sender);
    let mut answers = HashMap::new();
    while answers.len() < asked.len() {
        let Some(checked) = events.recv().await else { break };
        answers.entry(checked.target.0).or_insert(checked);
    }
    checker.stop().await;
    answers
}

/// A row for each backend, and whether all is well.
fn rows(
    settings: &Settings,
    asked: &[Question],
    answers: &HashMap<u64, Checked>,
) -> (Vec<[String; 6]>, bool) {
    let mut rows = vec![["POOL", "BACKEND", "ASKED AT", "TOOK", "ANSWER", "WHICH IS"].map(str::to_owned)];
    let mut all_good = true;
    for (at, pool) in settings.pools.iter().enumerate() {
        for (index, backend) in pool.backends.iter().enumerate() {
            let here = |(_, one): &(usize, &Question)| (one.pool, one.backend) == (at, index);
            let found = asked.iter().enumerate().find(here);
            let answer =
                found.and_then(|(number, question)| Some((question, answers.get(&(number as u64))?)));
            let name = [pool.name.clone(), backend.name.clone()];
            let rest = match answer {
                None => ["-", "-", "-", "nobody asks it: the check is off"].map(str::to_owned),
                Some((question, checked)) => {
                    all_good &= checked.outcome.is_good();
                    let took = format!("{:.1} ms", checked.took.as_secs_f64() * 1e3);
                    let (word, meaning) = (checked.outcome.word(), meaning(&checked.outcome));
                    [question.route.to.to_string(), took, word.to_owned(), meaning]
                }
            };
            let [pool, backend] = name;
            let [address, took, word, meaning] = rest;
            rows.push([pool, backend, address, took, word, meaning]);
        }
    }
    (rows, all_good)
}

fn meaning(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Good => "up".to_owned(),
        Outcome::Role(answer) => {
            let generation = match (answer.claim, &answer.generation) {
                (Claim::Former, Some(one)) => {
                    format!(
                        "up; it says it is the primary, and another is since {} of {}",
                        one.number, one.lineage
                    )
                }
                (_, Some(one)) => format!("up, timeline {} of cluster {}", one.number, one.lineage),
                (Claim::Primary | Claim::Former, None) => {
                    "up; no timeline is told, so two primaries could not be told apart".to_owned()
                }
                (Claim::Writer, None) => "up; it takes writes, as others of its cluster do".to_owned(),
                (Claim::Replica, None) => "up".to_owned(),
            };
            let position = answer.position.map_or(String::new(), |position| format!(", at {position}"));
            format!("{generation}{position}")
        }
        Outcome::Unconfirmed { excerpt } => format!("up; {excerpt}"),
        Outcome::Bad(cause) => cause.to_string(),
        Outcome::Local(error) => error.to_string(),
    }
}

/// What the backends of this pool answered, in their order.
fn of_pool<'a>(
    at: usize,
    pool: &Pool,
    asked: &[Question],
    answers: &'a HashMap<u64, Checked>,
) -> Vec<Option<&'a Outcome>> {
    let answer = |index| {
        let number = asked.iter().position(|one| (one.pool, one.backend) == (at, index))?;
        Some(&answers.get(&(number as u64))?.outcome)
    };
    (0..pool.backends.len()).map(answer).collect()
}

/// What does not fit together, a line each.
fn notes(settings: &Settings, at: usize, pool: &Pool, outcomes: &[Option<&Outcome>]) -> Vec<String> {
    let Some(roles) = believed(pool, outcomes) else { return Vec::new() };
    let name = &pool.name;
    let mut notes = Vec::new();
    let mut clusters: Vec<(&str, Vec<&str>)> = Vec::new();
    for (outcome, backend) in outcomes.iter().zip(&pool.backends) {
        let Some(Outcome::Role(answer)) = outcome else { continue };
        let Some(generation) = &answer.generation else { continue };
        match clusters.iter_mut().find(|(lineage, _)| *lineage == &*generation.lineage) {
            Some((_, names)) => names.push(&backend.name),
            None => clusters.push((&generation.lineage, vec![&backend.name])),
        }
    }
    if clusters.len() > 1 {
        let each: Vec<String> =
            clusters.iter().map(|(lineage, names)| format!("{} of {lineage}", names.join(", "))).collect();
        notes.push(format!(
            "pool {name}: its backends are not of one cluster: {}. Writes would be lost between them",
            each.join("; ")
        ));
    }
    let claims = |claim: Claim| {
        let is_it = |(at, _): &(usize, &settings::Backend)| roles.claim(*at) == Some(claim);
        pool.backends.iter().enumerate().filter(is_it).map(|(_, one)| one.name.as_str()).collect::<Vec<_>>()
    };
    let wants = |role: &[Role]| {
        settings
            .listeners
            .iter()
            .flat_map(settings::Listener::pools)
            .any(|(pool, wanted)| pool == at && role.contains(&wanted))
    };
    let primaries = claims(Claim::Primary);
    if primaries.len() > 1 {
        // Of several clusters the one that answers first would be believed: nobody knows which that is.
        let believed = match primary(&roles, pool).filter(|_| clusters.len() < 2) {
            Some(believed) => format!("; believed would be {believed}"),
            None => String::new(),
        };
        notes.push(format!("pool {name}: {} say they are the primary{believed}", primaries.join(" and ")));
    } else if primaries.is_empty() && claims(Claim::Writer).is_empty() && wants(&[Role::Primary]) {
        notes.push(format!("pool {name}: nobody says it is the primary, and a listener wants one"));
    }
    if claims(Claim::Replica).is_empty() && claims(Claim::Writer).len() < 2 && wants(&[Role::Replica]) {
        notes.push(format!("pool {name}: nobody says it is a replica, and a listener wants one"));
    }
    notes
}

fn primary<'a>(roles: &Roles, pool: &'a Pool) -> Option<&'a str> {
    Some(&pool.backends.get(roles.primary()?)?.name)
}

/// Each holds a descriptor.
const ASKED_TOGETHER: usize = 256;
/// Until the next time, which never comes.
const LONG: Duration = Duration::from_secs(3_600);
