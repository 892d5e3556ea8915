//! `evenkeel import`: reads the configuration of another balancer, writes one of ours, and tells what is different and what is lost.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::exit_code::{BAD_CONFIGURATION, FAILED};
use super::output::{Mood, Paint, complain, failed};
use crate::config;
use crate::import::{Imported, Standing, Whose, guess, import};

#[derive(Debug, Args)]
pub(super) struct Importing {
    /// The file of the other balancer; -: standard input
    file: PathBuf,
    /// Whose it is, where the text does not tell
    #[arg(long, value_enum, value_name = "BALANCER")]
    from: Option<From>,
    /// Where to write to; it must not be there yet [default: standard output]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Tell of what nothing is lost without, too
    #[arg(long, short)]
    verbose: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum From {
    Haproxy,
    Nginx,
    Traefik,
}

/// Translates, writes and tells.
pub(super) fn run(importing: &Importing) -> ExitCode {
    let (name, text) = match read(&importing.file) {
        Ok(read) => read,
        Err(why) => return failed(&why),
    };
    let whose = importing.from.map(|from| match from {
        From::Haproxy => Whose::HAProxy,
        From::Nginx => Whose::Nginx,
        From::Traefik => Whose::Traefik,
    });
    let Some(whose) = whose.or_else(|| guess(&text)) else {
        return failed(&format_args!(
            "{name} looks like no configuration of HAProxy, nginx or Traefik; --from says whose it is"
        ));
    };
    let folder = importing.file.parent().unwrap_or(Path::new("")).to_owned();
    let include = |pattern: &str| included(&folder, pattern);
    let imported = import(whose, &name, &text, &include);
    // A file that holds no listener would only be in the way of the next try.
    let is_worth_a_file = imported.counts.0 > 0 || importing.output.is_none();
    if is_worth_a_file && let Err(why) = write(importing.output.as_deref(), &imported.yaml) {
        return failed(&why);
    }
    tell(&imported, importing, &name)
}

fn read(file: &Path) -> Result<(String, String), String> {
    let mut bytes = Vec::new();
    let most = BYTES_MAX as u64 + 1;
    let (name, read) = if file == Path::new("-") {
        ("standard input".to_owned(), std::io::stdin().lock().take(most).read_to_end(&mut bytes))
    } else {
        let opened = std::fs::File::open(file);
        (file.display().to_string(), opened.and_then(|file| file.take(most).read_to_end(&mut bytes)))
    };
    read.map_err(|error| format!("cannot read {name}: {error}"))?;
    if bytes.len() > BYTES_MAX {
        return Err(format!("{name} has more than {} MiB", BYTES_MAX >> 20));
    }
    // What is no UTF-8 stands in comments, mostly.
    Ok((name, String::from_utf8_lossy(&bytes).into_owned()))
}

/// The files of an `include`; relative ones lie beside the file that was named.
fn included(folder: &Path, pattern: &str) -> Result<Vec<(String, String)>, String> {
    let mut found = vec![PathBuf::new()];
    for part in folder.join(pattern).components() {
        let part = part.as_os_str().to_string_lossy().into_owned();
        if !part.contains(['*', '?']) {
            found.iter_mut().for_each(|path| path.push(&part));
            continue;
        }
        let mut next = Vec::new();
        for path in &found {
            let here = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let names = std::fs::read_dir(here).into_iter().flatten().flatten();
            let mut names: Vec<String> = names
                .take(NAMES_MAX)
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| !name.starts_with('.') && fits(part.as_bytes(), name.as_bytes()))
                .collect();
            names.sort();
            next.extend(names.into_iter().map(|name| path.join(name)));
        }
        found = next;
    }
    let is_pattern = pattern.contains(['*', '?']);
    let files = found.iter().filter(|path| !is_pattern || path.is_file());
    files.map(|path| read(path)).collect()
}

/// A name fits a pattern of `*` and `?`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut place) = (0, 0);
    // Where the last star stood, and what it took so far.
    let mut star = None;
    while place < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, place));
                at += 1;
            }
            Some(one) if *one == b'?' || *one == name[place] => (at, place) = (at + 1, place + 1),
            _ => match star {
                Some((stood, took)) => {
                    star = Some((stood, took + 1));
                    (at, place) = (stood + 1, took + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at.min(pattern.len())..].iter().all(|one| *one == b'*')
}

fn write(output: Option<&Path>, yaml: &str) -> Result<(), String> {
    let Some(path) = output else {
        let written = std::io::stdout().lock().write_all(yaml.as_bytes());
        return written.map_err(|error| format!("cannot write: {error}"));
    };
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    made.and_then(|mut file| file.write_all(yaml.as_bytes())).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => {
            format!("{} is there already; nothing was written", path.display())
        }
        _ => format!("cannot write {}: {error}", path.display()),
    })
}

fn tell(imported: &Imported, importing: &Importing, name: &str) -> ExitCode {
    let paint = Paint::for_errors();
    let (listeners, pools) = imported.counts;
    let of = |standing| imported.notes.iter().filter(move |note| note.standing == standing);
    complain(format_args!(
        "{name}: {listeners} listener{}, {pools} pool{}; {} lost, {} different, {} of HTTP, {} not needed",
        if listeners == 1 { "" } else { "s" },
        if pools == 1 { "" } else { "s" },
        of(Standing::Lost).count(),
        of(Standing::Different).count(),
        of(Standing::Http).count(),
        of(Standing::NotNeeded).count(),
    ));
    for standing in Standing::ALL {
        if standing == Standing::NotNeeded && !importing.verbose {
            continue;
        }
        let mood = match standing {
            Standing::Lost => Mood::Bad,
            Standing::Different => Mood::Doubtful,
            Standing::Http | Standing::NotNeeded => Mood::Head,
        };
        let mut notes = of(standing).peekable();
        if notes.peek().is_some() {
            complain(format_args!("\n{}:", paint.paint(mood, standing.word().to_owned())));
        }
        notes.for_each(|note| complain(format_args!("  {note}")));
    }
    if imported.counts.0 == 0 {
        let unwritten = importing.output.as_ref().map(|path| format!("; {} was not written", path.display()));
        complain(format_args!("\nnothing came of it that could be served{}", unwritten.unwrap_or_default()));
        return ExitCode::from(FAILED);
    }
    let file = importing.output.as_deref().map_or("the new file".into(), |path| path.display().to_string());
    match config::read(&file, imported.yaml.as_bytes()) {
        Ok(_) => {
            complain(format_args!("\nLook through it, then: evenkeel check {file}"));
            ExitCode::SUCCESS
        }
        Err(mistakes) => {
            complain(format_args!("\nWhat came of it must be mended by hand:\n\n{mistakes}"));
            ExitCode::from(BAD_CONFIGURATION)
        }
    }
}

const BYTES_MAX: usize = 8 << 20;
/// Of a folder.
const NAMES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_names() {
        for (pattern, name, expected) in [
            ("*.conf", "a.conf", true),
            ("*.conf", "a.conf.bak", false),
            ("*", "", true),
            ("a?c*e", "abcde", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b", "aXc", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn includes_lie_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("d")).unwrap();
        for name in ["d/b.conf", "d/a.conf", "d/c.txt"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let names = |pattern: &str| {
            included(folder.path(), pattern)
                .map(|files| files.into_iter().map(|(_, text)| text).collect::<Vec<_>>())
        };
        assert_eq!(names("d/*.conf").unwrap(), ["d/a.conf", "d/b.conf"]);
        assert_eq!(names("d/c.txt").unwrap(), ["d/c.txt"]);
        assert!(names("d/none").unwrap_err().contains("cannot read"));
        assert!(names("e/*").unwrap().is_empty());
    }
}
