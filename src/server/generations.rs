//! File of the generations (crash recovery of failover state): the highest timeline that was ever believed of each pool's primary, so
//! that a process that begins after a crash believes no earlier one.
//!
//! In the folder that the service manager keeps for the service (`StateDirectory=`); without one nothing outlives a crash. A file
//! that cannot be read or written is told, and holds nobody up. It is written away from every thread that serves, as a new file that
//! takes the place of the old one.

use std::io::Read;
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use super::state_file;
use crate::publisher::Memories;
use crate::roles::{Generation, Memory};

/// What was kept by a process before; nothing where there is no file.
pub(super) fn read(path: &Path) -> Memories {
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text));
    match read {
        Ok(_) => parse(&text),
        Err(error) => {
            if error.kind() != std::io::ErrorKind::NotFound {
                let path = path.display();
                tracing::warn!(target: "evenkeel", %path, %error, "what was believed of primaries cannot be read: it is forgotten");
            }
            Memories::default()
        }
    }
}

/// Keeps what comes, until nobody sends any more.
pub(super) fn keep(path: PathBuf, mut memories: watch::Receiver<Memories>, tasks: &TaskTracker) {
    tasks.spawn(async move {
        let mut was_well = true;
        while memories.changed().await.is_ok() {
            let text = told(&memories.borrow_and_update());
            let place = path.clone();
            let written = tokio::task::spawn_blocking(move || state_file::write(&place, text.as_bytes())).await;
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            };
            if let (Some(error), true) = (&error, was_well) {
                let path = path.display();
                tracing::warn!(target: "evenkeel", %path, %error, "what is believed of primaries cannot be kept: a crash forgets it");
            }
            was_well = error.is_none();
        }
    });
}

fn told(memories: &Memories) -> String {
    let mut text = HEAD.to_owned();
    for (pool, memory) in memories.iter() {
        for one in memory.entries().iter().filter(|one| is_plain(&one.lineage)) {
            text.push_str(&format!("{pool}\t{}\t{}\n", one.lineage, one.number));
        }
    }
    text
}

/// Lines that mean nothing are passed over: better some of it than none.
fn parse(text: &str) -> Memories {
    let Some(lines) = text.strip_prefix(HEAD) else { return Memories::default() };
    let mut all: Vec<(String, Vec<Generation>)> = Vec::new();
    for line in lines.lines() {
        let mut fields = line.split('\t');
        let (Some(pool), Some(lineage), Some(number)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(number) = number.parse() else { continue };
        let generation = Generation { lineage: lineage.into(), number };
        match all.iter_mut().find(|(name, _)| name == pool) {
            Some((_, generations)) => generations.push(generation),
            None => all.push((pool.to_owned(), vec![generation])),
        }
    }
    all.into_iter().map(|(pool, generations)| (pool, Memory::of(generations))).collect()
}

/// A server may call its cluster anything.
fn is_plain(lineage: &str) -> bool {
    !lineage.is_empty() && lineage.len() <= 128 && lineage.bytes().all(|byte| byte.is_ascii_graphic())
}

const HEAD: &str = "evenkeel generations 1\n";
/// A line for each of at most eight clusters of each pool.
const BYTES_MAX: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn memories(all: &[(&str, &[(&str, u64)])]) -> Memories {
        let generation =
            |(lineage, number): &(&str, u64)| Generation { lineage: (*lineage).into(), number: *number };
        let memory = |one: &[(&str, u64)]| Memory::of(one.iter().map(generation).collect());
        all.iter().map(|(pool, one)| ((*pool).to_owned(), memory(one))).collect()
    }

    #[test]
    fn what_is_kept_is_read_and_what_is_broken_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("generations");
        assert!(read(&path).is_empty());
        let all = memories(&[("pg", &[("77", 3), ("78", 5)]), ("other", &[("79", 1)])]);
        state_file::write(&path, told(&all).as_bytes()).unwrap();
        assert_eq!(read(&path), all);
        let odd = memories(&[("pg", &[("a\tb\n", 3), ("77", 5)])]);
        state_file::write(&path, told(&odd).as_bytes()).unwrap();
        assert_eq!(read(&path), memories(&[("pg", &[("77", 5)])]));
        for text in
            ["", "evenkeel generations 2\npg\t77\t5\n", "evenkeel generations 1\npg\t77\npg\t77\tx\n\n\t"]
        {
            std::fs::write(&path, text).unwrap();
            assert!(read(&path).is_empty(), "{text}");
        }
    }
}
