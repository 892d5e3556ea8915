//! Why there is no answer, in words for `status` and the log. Nothing of a body stands in them but a server's own short message.

use std::io;

/// What came instead of an answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::discovery) enum AskError {
    /// The name of the server has no address.
    #[error("{0}")]
    Lookup(String),
    /// Nobody is there.
    #[error("cannot connect to {at}: {source}")]
    Connect {
        at: String,
        #[source]
        source: io::Error,
    },
    /// Whoever is there is not the one who should be, or does not speak TLS.
    #[error("TLS with {at}: {why}")]
    Tls { at: String, why: String },
    /// Silence.
    #[error("no {what} within {within_s} s")]
    Silent { what: &'static str, within_s: u64 },
    /// The connection ended too early.
    #[error("its answer was cut off")]
    CutOff,
    /// More than is read.
    #[error("its answer is too large: at most {0} are read")]
    TooLarge(&'static str),
    /// The answer stands elsewhere.
    #[error("HTTP {status}: it points to {to}; redirects are not followed, write that place")]
    Redirect { status: u16, to: String },
    /// Another answer than 200.
    #[error("HTTP {status}{}", .message.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Status { status: u16, message: Option<String> },
    /// Something else speaks there.
    #[error("what answers does not speak HTTP/1.1{}", if *.by_tls { "" } else { " (is it https?)" })]
    NotHttp { by_tls: bool },
    /// The token that is to be sent.
    #[error("{0}")]
    Token(String),
    /// The connection broke.
    #[error("{0}")]
    Io(String),
}

impl AskError {
    /// A redirect or another answer that is none.
    pub(super) fn of_status(
        status: u16,
        (location, token): (Option<&str>, Option<&str>),
        message: Option<String>,
    ) -> Self {
        match location {
            // Its query may hold what nobody else should see.
            Some(to) if (300..400).contains(&status) => {
                let to = to.split(['?', '#']).next().unwrap_or_default();
                Self::Redirect { status, to: short(to, token).unwrap_or_else(|| "another place".to_owned()) }
            }
            _ => Self::Status { status, message },
        }
    }

    /// The server does not know who asks, or does not let him.
    pub(in crate::discovery) fn is_about_token(&self) -> bool {
        matches!(self, Self::Status { status: 401 | 403, .. })
    }

    pub(super) fn of_hyper(error: &hyper::Error, by_tls: bool) -> Self {
        if error.is_parse_too_large() {
            return Self::TooLarge("64 KiB of headers");
        }
        if error.is_parse() {
            return Self::NotHttp { by_tls };
        }
        let io = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
        match io {
            _ if error.is_incomplete_message() || error.is_closed() || error.is_canceled() => Self::CutOff,
            Some(io) if io.kind() == io::ErrorKind::UnexpectedEof => Self::CutOff,
            Some(io) => Self::Io(io.to_string()),
            None => Self::CutOff,
        }
    }
}

/// The first line of a server's message, as far as it may be shown: not HTML, and without the token that it was asked with.
pub(in crate::discovery) fn short(text: &str, token: Option<&str>) -> Option<String> {
    let line = text.lines().next().unwrap_or_default().trim();
    let is_markup = line.starts_with('<');
    let has_token = token.is_some_and(|token| !token.is_empty() && text.contains(token));
    if line.is_empty() || is_markup || has_token {
        return None;
    }
    let printable = line.chars().filter(|c| !c.is_control() && *c != '\u{fffd}' && !is_invisible(*c));
    Some(printable.take(MESSAGE_CHARS_MAX).collect()).filter(|text: &String| !text.is_empty())
}

/// What turns a line around on a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Of a server's message.
const MESSAGE_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_line_without_markup_and_without_the_token() {
        assert_eq!(short("ACL not found\nmore", None).unwrap(), "ACL not found");
        assert_eq!(short("<html><body>secret</body>", None), None);
        assert_eq!(short(" \n", None), None);
        assert_eq!(short("no such token: s3cr3t", Some("s3cr3t")), None);
        assert_eq!(short("a\u{1b}[31mb\u{202e}c", None).unwrap(), "a[31mbc");
        assert_eq!(short(&"x".repeat(1_000), None).unwrap().len(), 200);
    }

    #[test]
    fn a_redirect_says_where_to_without_its_query() {
        let told = AskError::of_status(302, (Some("https://sso.example.org/login?state=s3cr3t"), None), None);
        assert_eq!(
            told.to_string(),
            "HTTP 302: it points to https://sso.example.org/login; redirects are not followed, write that place"
        );
        assert_eq!(AskError::of_status(404, (None, None), None).to_string(), "HTTP 404");
        let told = AskError::of_status(403, (Some("/elsewhere"), None), Some("ACL not found".into()));
        assert_eq!(told.to_string(), "HTTP 403: ACL not found");
        assert!(told.is_about_token());
        let told = AskError::of_status(307, (Some("/s3cr3t/x"), Some("s3cr3t")), None).to_string();
        assert!(told.starts_with("HTTP 307: it points to another place;"), "{told}");
    }
}
