//! Configuration file: from a path to a document that is right, or why there is none.

use std::io::Read;
use std::path::Path;

use super::environment::Document;
use super::error::Refused;
use super::secrets;
use crate::config;

/// Reads and checks the file.
pub fn read_document(path: &Path) -> Result<Document, Refused> {
    let text = read(path).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound => {
                "; name another file (`check PATH`, `run --config PATH`), or begin with conf/minimal.yaml"
            }
            _ => "",
        };
        Refused::Unreadable(format!("cannot read {}: {error}{advice}", path.display()))
    })?;
    let read = config::read_with(&path.display().to_string(), &text, secrets::OUTSIDE)?;
    let warnings = secrets::exposed(path, &read.settings);
    Ok(document(read, warnings))
}

/// Reads and checks what comes on standard input.
pub fn read_standard_input() -> Result<Document, Refused> {
    let mut text = Vec::new();
    std::io::stdin()
        .lock()
        .take(READ_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| Refused::Unreadable(format!("cannot read standard input: {error}")))?;
    let read = config::read_with("standard input", &text, secrets::OUTSIDE)?;
    // Nobody else can read it there, but for files that it names.
    let warnings = secrets::exposed(Path::new("-"), &read.settings);
    Ok(document(read, warnings))
}

fn document(read: config::Configuration, warnings: Vec<String>) -> Document {
    let config::Configuration { settings, text, variables } = read;
    Document { settings, text: text.into(), variables, warnings }
}

/// Reads no more than is needed to see that a file is too large: it may be a device.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(READ_BYTES_MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Above the 1 MiB that the check allows.
const READ_BYTES_MAX: u64 = (1 << 20) + 1;
