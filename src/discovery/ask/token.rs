//! Token that a source's server wants: read from its file for each question, so that one that was replaced is used at once. It is shown
//! nowhere.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::error::AskError;

/// A token. `Debug` tells nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::discovery) struct Token(String);

impl Token {
    /// This one, which was not read from a file of its own.
    pub(in crate::discovery) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The token itself, for whoever has to say it to a server.
    pub(in crate::discovery) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Who else may read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::discovery) enum Readers {
    /// Nobody but its owner and its group.
    Few,
    /// Whoever is in the container: Kubernetes mounts tokens so.
    Anybody,
}

/// Reads one, away from the thread that asks.
pub(in crate::discovery) async fn read(path: &str, readers: Readers) -> Result<Token, AskError> {
    let text = read_text(path, "token_file", readers).await?;
    token_of(path, &text).map_err(AskError::Token)
}

/// Reads a file that may hold secrets, away from the thread that asks. `what` it is stands in what is told.
pub(in crate::discovery) async fn read_text(
    path: &str,
    what: &'static str,
    readers: Readers,
) -> Result<String, AskError> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_now(Path::new(&path), what, readers)).await;
    read.unwrap_or_else(|error| Err(error.to_string())).map_err(AskError::Token)
}

fn token_of(path: &str, text: &str) -> Result<Token, String> {
    let token = text.lines().next().unwrap_or_default().trim();
    if token.is_empty() {
        return Err(format!("token_file {path} is empty"));
    }
    if token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("token_file {path}: its first line is no token"));
    }
    Ok(Token(token.to_owned()))
}

fn read_now(path: &Path, what: &str, readers: Readers) -> Result<String, String> {
    let at = path.display();
    let told = |error: std::io::Error| match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("{what} {at}: {error}; the user that evenkeel runs as must be able to read it")
        }
        ErrorKind::InvalidData => format!("{what} {at} is no text"),
        _ => format!("{what} {at}: {error}"),
    };
    let about = std::fs::metadata(path).map_err(told)?;
    // Opening a FIFO waits for whoever writes it, which may be nobody.
    if !about.is_file() {
        return Err(format!("{what} {at} is no file"));
    }
    if readers == Readers::Few && about.permissions().mode() & 0o004 != 0 {
        return Err(format!(
            "everybody on this machine can read {what} {at}; take the right away (chmod o-r)"
        ));
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(told)?;
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(told)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{what} {at} has more than 1 MiB"));
    }
    Ok(text)
}

/// Those of Kubernetes have 1 to 2 KiB.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// As the configuration itself.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &[u8], mode: u32) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let place = file.path().display().to_string();
        let read = read_now(file.path(), "token_file", Readers::Few);
        let token = read.and_then(|text| token_of(&place, &text));
        token.map(|token| token.expose().to_owned()).map_err(|why| why.replace(&place, "FILE"))
    }

    #[test]
    fn a_token_is_the_first_line_of_a_file_that_few_can_read() {
        assert_eq!(told(b"s3cr3t\r\nmore\n", 0o640).as_deref(), Ok("s3cr3t"));
        assert_eq!(format!("{:?}", Token::new("s3cr3t")), "Token", "it is not shown");
    }

    #[test]
    fn what_is_no_token_is_told_without_showing_it() {
        let told = |text: &[u8], mode| told(text, mode).unwrap_err();
        assert_eq!(
            told(b"s3cr3t", 0o644),
            "everybody on this machine can read token_file FILE; take the right away (chmod o-r)"
        );
        assert_eq!(told(b"\n", 0o600), "token_file FILE is empty");
        assert_eq!(told(b"a b", 0o600), "token_file FILE: its first line is no token");
        assert_eq!(told(b"\xff\xfe", 0o600), "token_file FILE is no text");
        assert_eq!(told(&[b'a'; 20_000], 0o600), "token_file FILE: its first line is no token");
        assert_eq!(told(&[b'a'; (1 << 20) + 1], 0o600), "token_file FILE has more than 1 MiB");
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path| read_now(path, "token_file", Readers::Few).unwrap_err();
        assert!(read(folder.path()).ends_with(" is no file"));
        assert!(read(&folder.path().join("gone")).contains("No such file"));
    }
}
