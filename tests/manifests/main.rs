//! Every format in which sessions were ever handed over, kept as bytes: this build reads all of them, and writes the last.
//!
//! Whoever changes what is written raises `VERSION` (src/manifest/version.rs), writes the new file by
//! `EVENKEEL_KEEP_MANIFEST=1 cargo test --test manifests`, and says in `expected` what the files before it mean now. A kept
//! file never changes.
#![cfg(not(feature = "manifest-next"))]
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used)]

mod specimen;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use evenkeel::config::settings::{Role, Word as _};
use evenkeel::manifest::{Count, Manifest, OLDEST_READ, VERSION};
use specimen::specimen;

/// What the kept file of this format says, as this build understands it: the specimen as it was, with what came later as it
/// is where it is not there.
fn expected(format: u32) -> Manifest {
    match format {
        // It knew nothing of ports that nobody else can have, and of send buffers.
        3 => {
            let mut manifest = without(&["send_buffer", "cut_bytes"]);
            for flow in &mut manifest.flows {
                (flow.refusals, flow.is_exclusive) = (0, false);
            }
            manifest
        }
        // It did not count what ends of its own threw away.
        4 => without(&["cut_bytes"]),
        5 => without(&[]),
        6 => all_along(before_departures(specimen())),
        7 => before_departures(specimen()),
        8 => before_sources(specimen()),
        9 => before_role_changes(specimen()),
        10 => before_lists(specimen()),
        11 => before_rates(specimen()),
        12 => before_withdrawals(specimen()),
        13 => before_run_time_changes(specimen()),
        14 => before_empty_ends(specimen()),
        15 => before_routes(specimen()),
        16 => specimen(),
        other => panic!("say here what a manifest of format {other} means"),
    }
}

/// Words of counters that were written once and are written no more, each with the last format that had it.
const RETIRED: [(u32, &str, &str); 0] = [];

/// The specimen of a build that knew no routes.
fn before_routes(mut manifest: Manifest) -> Manifest {
    let later =
        ["no_route", "no_first_message", "bad_first_message", "tls_refused", "cancel", "told", "cancels"];
    for listener in &mut manifest.listeners {
        let is_known = |count: &Count| {
            !later.iter().any(|one| [count.family.as_str(), count.word.as_str()].contains(one))
        };
        listener.counts.retain(is_known);
        // The specimen counts them through.
        (1_u64..).zip(&mut listener.counts).for_each(|(number, count)| count.value = number * 1_001);
    }
    manifest.terms.iter_mut().for_each(|terms| terms.role = "".into());
    manifest.sessions.truncate(6);
    for session in &mut manifest.sessions {
        (session.name, session.promised_tls) = (String::new(), false);
    }
    manifest
}

/// The same of a build that did not know backends that end sessions without a byte.
fn before_empty_ends(manifest: Manifest) -> Manifest {
    let mut manifest = before_routes(manifest);
    let is_new = |count: &Count| match count.family.as_str() {
        "first_words" | "empty_ends" | "replays" => true,
        "ejections" => !count.word.as_str().is_empty(),
        "sessions" => count.word.as_str() == "backend_empty",
        _ => false,
    };
    // The specimen counts them through.
    let renumber = |counts: &mut Vec<Count>| {
        counts.retain(|count| !is_new(count));
        (1_u64..).zip(counts).for_each(|(number, count)| count.value = number * 1_001);
    };
    manifest.listeners.iter_mut().for_each(|listener| renumber(&mut listener.counts));
    for pool in &mut manifest.pools {
        pool.counts.retain(|count| !is_new(count));
        for backend in &mut pool.backends {
            renumber(&mut backend.counts);
            renumber(&mut backend.checks);
            backend.empty_in_a_row = 0;
            backend.state.iter_mut().for_each(|state| state.ejection.cause = "failures".into());
        }
    }
    manifest.sessions.iter_mut().for_each(|session| (session.met_empty, session.owed_since_us) = (false, 0));
    manifest
}

/// The same of a build whose backends were those of the file.
fn before_run_time_changes(manifest: Manifest) -> Manifest {
    let mut manifest = before_empty_ends(manifest);
    (manifest.head.base, manifest.head.run_time) = (None, None);
    manifest
}

/// The same of a build that nobody could withdraw, and that had one HTTP door.
fn before_withdrawals(manifest: Manifest) -> Manifest {
    let mut manifest = before_run_time_changes(manifest);
    (manifest.head.ready, manifest.head.withdrawn) = (None, None);
    manifest
}

/// The same of one that did not tell what rates owe.
fn before_rates(manifest: Manifest) -> Manifest {
    let mut manifest = before_withdrawals(manifest);
    manifest.listeners.iter_mut().for_each(|listener| listener.rates = None);
    manifest
}

/// The same of one whose sources told nothing but addresses.
fn before_lists(manifest: Manifest) -> Manifest {
    let mut manifest = before_rates(manifest);
    let sources = manifest.pools.iter_mut().flat_map(|pool| &mut pool.sources);
    sources.for_each(|source| source.listed = Vec::new());
    manifest
}

/// The same of one that did not count who became what.
fn before_role_changes(manifest: Manifest) -> Manifest {
    let mut manifest = before_lists(manifest);
    let backends = manifest.pools.iter_mut().flat_map(|pool| &mut pool.backends);
    backends.for_each(|backend| backend.checks.retain(|count| count.family.as_str() != "role_changes"));
    manifest
}

/// The same of one that looked no names up.
fn before_sources(manifest: Manifest) -> Manifest {
    let mut manifest = before_role_changes(manifest);
    manifest.pools.iter_mut().for_each(|pool| pool.sources = Vec::new());
    manifest
}

/// The same of a build that did not note when backends had left, and ended no session for that.
fn before_departures(manifest: Manifest) -> Manifest {
    let mut manifest = before_sources(manifest);
    for listener in &mut manifest.listeners {
        listener.counts.retain(|count| count.word.as_str() != "removed");
        // The specimen counts them through.
        (1_u64..).zip(&mut listener.counts).for_each(|(number, count)| count.value = number * 1_001);
    }
    let backends = manifest.pools.iter_mut().flat_map(|pool| &mut pool.backends);
    backends.for_each(|backend| backend.left_ms = None);
    manifest
}

/// The specimen of a build that did not count these, and knew no roles.
fn without(counts: &[&str]) -> Manifest {
    let mut manifest = all_along(before_departures(specimen()));
    for listener in &mut manifest.listeners {
        listener.counts.retain(|count| count.word.as_str() != "role_changed");
        // The specimen counts them through.
        (1_u64..).zip(&mut listener.counts).for_each(|(number, count)| count.value = number * 1_001);
    }
    for pool in &mut manifest.pools {
        pool.roles = None;
        pool.backends.iter_mut().for_each(|backend| backend.role = None);
        pool.remembered.iter_mut().for_each(|entry| entry.role = Role::Any.word().into());
    }
    manifest.sessions.iter_mut().for_each(|session| session.ends_for = "".into());
    let known =
        |count: &Count| !counts.iter().any(|one| [count.family.as_str(), count.word.as_str()].contains(one));
    manifest.listeners.iter_mut().for_each(|listener| listener.counts.retain(known));
    manifest
}

/// Of a build that sent no sockets ahead.
fn all_along(mut manifest: Manifest) -> Manifest {
    manifest.sessions.iter_mut().for_each(|session| session.precopied = 0);
    manifest
}

fn path(format: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/manifests/{format}.manifest"))
}

fn kept(format: u32) -> Vec<u8> {
    let path = path(format);
    if format == VERSION && !path.exists() && std::env::var_os("EVENKEEL_KEEP_MANIFEST").is_some() {
        fs::write(&path, specimen().encode()).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn what_is_written_is_the_newest_kept_file() {
    assert!(
        kept(VERSION) == specimen().encode(),
        "what is written is not what {} holds: raise VERSION, and keep the new format by \
         EVENKEEL_KEEP_MANIFEST=1 cargo test --test manifests",
        path(VERSION).display()
    );
}

#[test]
fn every_kept_file_is_read_and_means_what_it_meant() {
    for format in OLDEST_READ..=VERSION {
        let (manifest, descriptors) = Manifest::decode(&kept(format))
            .unwrap_or_else(|_| panic!("format {format} is not read any more"));
        assert!(manifest == expected(format), "format {format} says {manifest:#?}");
        assert_eq!(descriptors, manifest.descriptors(), "format {format}");
    }
}

#[test]
fn a_word_that_was_written_is_a_word_still() {
    let now = words(&specimen());
    assert!(now.len() >= 90, "{} words", now.len());
    for format in OLDEST_READ..=VERSION {
        let (manifest, _) = Manifest::decode(&kept(format)).unwrap();
        let is_lost = |(family, word): &&(String, String)| {
            !RETIRED.iter().any(|(last, a, b)| format <= *last && family == a && word == b)
        };
        let lost: Vec<_> = words(&manifest).difference(&now).filter(is_lost).cloned().collect();
        assert!(lost.is_empty(), "format {format} counts under {lost:?}, and nobody takes that up");
    }
}

#[test]
fn the_specimen_has_everything_and_names_each_descriptor_once() {
    let specimen = specimen();
    assert_eq!(specimen::kinds(&specimen), [8, 3, 3]);
    let mut descriptors = specimen.descriptors();
    // Those of the commands, metrics and readiness, doors, clients, a pipe, flows; the one with a pipe has its sockets ahead.
    assert_eq!(descriptors.len(), 3 + 2 + 7 + 2 + 2);
    descriptors.sort_unstable();
    descriptors.dedup();
    assert_eq!(descriptors.len(), 3 + 2 + 7 + 2 + 2);
}

/// Everything that is counted.
fn words(manifest: &Manifest) -> BTreeSet<(String, String)> {
    let listeners = manifest.listeners.iter().map(|one| ("listener", &one.counts));
    let pools = manifest.pools.iter().map(|one| ("pool", &one.counts));
    let backends = manifest.pools.iter().flat_map(|one| &one.backends);
    let backends = backends.flat_map(|one| [("backend", &one.counts), ("checks", &one.checks)]);
    let named = |(what, counts): (&str, &Vec<Count>)| {
        let what = what.to_owned();
        let named = move |count: &Count| (format!("{what}/{}", count.family), count.word.to_string());
        counts.iter().map(named).collect::<Vec<_>>()
    };
    listeners.chain(pools).chain(backends).flat_map(named).collect()
}
