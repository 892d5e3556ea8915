//! Configuration file: from paths to a document that is right, or why there is none.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::config_paths::find;
use super::environment::Document;
use super::error::Refused;
use super::secrets;
use crate::config::{self, Configuration, RunTimeChange, Text};

/// Reads and checks the files that these paths stand for.
pub fn read_document(paths: &[PathBuf]) -> Result<Document, Refused> {
    read_changed(paths, &[])
}

/// The same with what was changed at run time.
pub fn read_changed(paths: &[PathBuf], changes: &[RunTimeChange]) -> Result<Document, Refused> {
    let found = find(paths).map_err(Refused::Unreadable)?;
    let names = |paths: &[PathBuf]| paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
    let (files, ignored) = (names(&found.files), names(&found.ignored));
    let (mut texts, mut wrong) = (Vec::with_capacity(files.len()), Vec::new());
    let mut room = config::BYTES_MAX as u64;
    for path in &found.files {
        match read(path, room) {
            Ok(text) => {
                room = room.saturating_sub(text.len() as u64);
                texts.push(text);
            }
            Err(error) => wrong.push(unreadable(path, &error)),
        }
    }
    if !wrong.is_empty() {
        return Err(Refused::Unreadable(wrong.join("\n")));
    }
    let texts: Vec<Text<'_>> = files.iter().zip(&texts).map(|(name, bytes)| Text { name, bytes }).collect();
    let read = config::read_files(&texts, changes, secrets::OUTSIDE)?;
    let with_passwords: Vec<&Path> =
        read.with_passwords.iter().filter_map(|at| found.files.get(*at)).map(PathBuf::as_path).collect();
    let warnings = secrets::exposed(&with_passwords, &read.settings);
    Ok(document(read, files, ignored, warnings))
}

fn unreadable(path: &Path, error: &std::io::Error) -> String {
    let advice = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "; name another file (`check PATH`, `run --config PATH`), or begin with conf/minimal.yaml"
        }
        _ => "",
    };
    format!("cannot read {}: {error}{advice}", path.display())
}

/// Reads and checks what comes on standard input.
pub fn read_standard_input() -> Result<Document, Refused> {
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .take(config::BYTES_MAX as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|error| Refused::Unreadable(format!("cannot read standard input: {error}")))?;
    let read = config::read_with("standard input", &text, secrets::OUTSIDE)?;
    // Nobody else can read it there, but for files that it names.
    let warnings = secrets::exposed(&[], &read.settings);
    Ok(document(read, vec!["standard input".to_owned()], Vec::new(), warnings))
}

fn document(
    read: Configuration,
    files: Vec<String>,
    ignored: Vec<String>,
    warnings: Vec<String>,
) -> Document {
    let Configuration { settings, text, base, changes, over, variables, .. } = read;
    let (text, base, changes) = (text.into(), base.into(), changes.into());
    Document { settings, text, base, changes, over, variables, files: files.into(), ignored, warnings }
}

/// Reads no more than is needed to see that it is more than there is room for: it may be a device.
fn read(path: &Path, room: u64) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(room + 1).read_to_end(&mut text)?;
    Ok(text)
}
