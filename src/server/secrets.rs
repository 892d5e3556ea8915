//! Passwords that stand outside of the configuration file: files of their own, and credentials of the service manager
//! (LoadCredential=). The one place where a secret is read.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::network_files;
use crate::config::Reads;
use crate::config::settings::{SecretSource, Settings};

/// What stands outside of the file.
pub(super) const OUTSIDE: Reads =
    Reads { secret: read, variable: |name| std::env::var_os(name), networks: network_files::read };

/// Reads one, or says why not.
pub(super) fn read(source: &SecretSource) -> Result<Vec<u8>, String> {
    let path = match source {
        SecretSource::Nowhere | SecretSource::Here | SecretSource::Variable(_) => return Ok(Vec::new()),
        SecretSource::File(path) => PathBuf::from(&**path),
        SecretSource::Credential(name) => match std::env::var_os("CREDENTIALS_DIRECTORY") {
            Some(folder) => PathBuf::from(folder).join(&**name),
            None => {
                return Err("the service manager lends no credentials; the unit needs LoadCredential=".into());
            }
        },
    };
    let mut text = Vec::new();
    // No more than is needed to see that it is too long: it may be a device.
    let read = std::fs::File::open(&path).and_then(|file| file.take(READ_BYTES_MAX).read_to_end(&mut text));
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(format!(
            "{}: {error}; the user that evenkeel runs as must be able to read it",
            path.display()
        )),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// What of it everybody on this machine can read. `files` are those of the configuration that hold passwords.
pub(super) fn exposed(files: &[&Path], settings: &Settings) -> Vec<String> {
    let is_open = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o004 != 0)
    };
    const AWAY: &str = "; take the right away (chmod o-r)";
    const HERE: &str = "; write `password: { file: PATH }`, or take the right away (chmod o-r)";
    let sources = settings.pools.iter().flat_map(|pool| pool.health.check.secrets()).map(|one| one.source());
    let outside = sources.filter_map(|source| match source {
        SecretSource::File(file) => Some((Path::new(&**file), AWAY)),
        SecretSource::Nowhere
        | SecretSource::Here
        | SecretSource::Variable(_)
        | SecretSource::Credential(_) => None,
    });
    let mut told = Vec::new();
    for (place, advice) in files.iter().map(|file| (*file, HERE)).chain(outside) {
        let words = format!("everybody on this machine can read the password in {}{advice}", place.display());
        if is_open(place) && !told.contains(&words) {
            told.push(words);
        }
    }
    told
}

/// A password has one line.
const READ_BYTES_MAX: u64 = 16 * 1024;
