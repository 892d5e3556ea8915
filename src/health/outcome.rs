//! Health check outcomes: the closed list of answers, and which failures are a backend's and which are ours.
//!
//! Pure. Nothing here may count a failure of this machine against a backend.

use std::fmt;
use std::time::Duration;

use crate::roles::Answer;
use crate::sys::probe::Fault;

/// What came of one check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The backend answered as it should.
    Good,
    /// It said what it is, whatever that is: it lives.
    Role(Answer),
    /// It lives and says that it is the primary, and there is nobody to confirm it: it is what it was.
    Unconfirmed {
        /// Who is missing.
        excerpt: Excerpt,
    },
    /// It did not.
    Bad(Cause),
    /// It could not be asked. Says nothing about the backend and leaves its liveness as it was.
    Local(LocalError),
}

/// Why an answer is bad. The text is for logs: what the backend did.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// Refused: nothing listens there.
    #[error("connection refused")]
    Refused,
    /// Nothing came within the timeout.
    #[error("no answer within the timeout")]
    Timeout,
    /// The network knows no way there.
    #[error("unreachable")]
    Unreachable,
    /// The backend reset the connection.
    #[error("connection reset")]
    Reset,
    /// The backend closed before it had said anything.
    #[error("closed before it answered")]
    Closed,
    /// It said something, and what is expected was not in it when it ended, the timeout came, or 64 KiB were full.
    #[error("wrong answer: \"{excerpt}\"")]
    WrongAnswer {
        /// How it began, escaped and short.
        excerpt: Excerpt,
    },
    /// It said that it serves nobody: it starts, stops, or gave its role up.
    #[error("serves nobody: {excerpt}")]
    Unready {
        /// What it said, short.
        excerpt: Excerpt,
    },
    /// It lives, and has no room for one more connection.
    #[error("full: {excerpt}")]
    Full {
        /// What it said, short.
        excerpt: Excerpt,
    },
    /// It does not let the check in, or not ask: that is a matter of our configuration, or of its.
    #[error("not let in: {excerpt}")]
    Auth {
        /// What it said, and what to do.
        excerpt: Excerpt,
    },
    /// There is no TLS as it was asked for.
    #[error("TLS: {excerpt}")]
    Tls {
        /// What is wrong, short.
        excerpt: Excerpt,
    },
    /// What came is not what this protocol says, or more than a check listens to.
    #[error("not the protocol: {excerpt}")]
    Protocol {
        /// What came, escaped and short.
        excerpt: Excerpt,
    },
    /// Anything else the kernel reports of the connection, by its number.
    #[error("connection failed (error {0})")]
    Other(i32),
}

impl Cause {
    /// Its word in logs and metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::WrongAnswer { .. } => "wrong_answer",
            Self::Unready { .. } => "starting",
            Self::Full { .. } => "full",
            Self::Auth { .. } => "auth",
            Self::Tls { .. } => "tls",
            Self::Protocol { .. } => "protocol",
            Self::Other(_) => "other",
        }
    }
}

/// Why a backend could not be asked: a shortage or a rule of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocalError {
    /// Out of file descriptors.
    #[error("no file descriptor is free for a check; raise the open-file limit (LimitNOFILE)")]
    NoFiles,
    /// No local port or address is free towards the backend.
    #[error(
        "no local address and port is free towards the backend; look at `connect_from` and net.ipv4.ip_local_port_range"
    )]
    NoPort,
    /// Out of kernel memory.
    #[error("the kernel has no memory for a check")]
    NoMemory,
    /// A local firewall or sandbox forbids it.
    #[error("this machine forbids the connection; look at its firewall and the service's sandbox")]
    Denied,
    /// This process was kept from running for so long that a silence means nothing.
    #[error("the checker was kept from running; the machine is overloaded or was paused")]
    Late,
    /// Anything else, by its number; 0 is a fault of our own.
    #[error("a check could not be made (error {0})")]
    Other(i32),
}

impl LocalError {
    /// Its word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::NoFiles => "no_files",
            Self::NoPort => "no_port",
            Self::NoMemory => "no_memory",
            Self::Denied => "denied",
            Self::Late => "late",
            Self::Other(_) => "other",
        }
    }
}

impl Outcome {
    /// The backend lives and serves, by what it said.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Good | Self::Role(_) | Self::Unconfirmed { .. })
    }

    /// Its word in logs and metrics: `good`, a role, or the word of what was wrong.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Role(answer) => answer.claim.word(),
            Self::Unconfirmed { .. } => "unconfirmed",
            Self::Bad(cause) => cause.word(),
            Self::Local(error) => error.word(),
        }
    }

    /// Of a call that failed before anything could come back from the backend.
    pub(super) fn before_asking(fault: Fault) -> Self {
        match local(fault) {
            Some(error) => Self::Local(error),
            // A route that says "unreachable" is about the backend: it may lead there for the others.
            None => match fault {
                Fault::Denied => Self::Local(LocalError::Denied),
                Fault::Other(number) => Self::Local(LocalError::Other(number)),
                _ => Self::Bad(cause(fault)),
            },
        }
    }

    /// Of a connection that was under way.
    pub(super) fn under_way(fault: Fault) -> Self {
        local(fault).map_or_else(|| Self::Bad(cause(fault)), Self::Local)
    }

    /// Of a backend that was silent when `took` of the allowed `limit` were over. A wake-up that comes a quarter too
    /// late is our own trouble: while we slept we may have failed to ask, or to listen.
    pub(super) fn silent(took: Duration, limit: Duration) -> Self {
        if took > limit + limit / 4 { Self::Local(LocalError::Late) } else { Self::Bad(Cause::Timeout) }
    }
}

/// The start of an answer, fit for a log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// Escapes the first bytes of `answer`.
    pub(super) fn of(answer: &[u8]) -> Self {
        let shown = &answer[..answer.len().min(EXCERPT_BYTES_MAX)];
        let more = if shown.len() < answer.len() { "..." } else { "" };
        Self(format!("{}{more}", shown.escape_ascii()))
    }

    /// The beginning of what was said in words.
    pub(super) fn text(said: &str) -> Self {
        let shown = said.chars().take(TEXT_CHARS_MAX).map(|c| if c.is_control() { ' ' } else { c });
        let more = if said.chars().nth(TEXT_CHARS_MAX).is_some() { "..." } else { "" };
        Self(format!("{}{more}", shown.collect::<String>()))
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Shortages are ours whenever they show.
fn local(fault: Fault) -> Option<LocalError> {
    match fault {
        Fault::NoFiles => Some(LocalError::NoFiles),
        Fault::NoPort => Some(LocalError::NoPort),
        Fault::NoMemory => Some(LocalError::NoMemory),
        _ => None,
    }
}

fn cause(fault: Fault) -> Cause {
    match fault {
        Fault::Refused => Cause::Refused,
        Fault::TimedOut => Cause::Timeout,
        // ICMPv6 "administratively prohibited" comes back from the network as EACCES.
        Fault::Unreachable | Fault::Denied => Cause::Unreachable,
        Fault::Reset => Cause::Reset,
        Fault::Other(number) => Cause::Other(number),
        Fault::NoFiles | Fault::NoPort | Fault::NoMemory => Cause::Other(0),
    }
}

/// How much of a wrong answer a log line shows.
const EXCERPT_BYTES_MAX: usize = 64;

/// How much of what is said in words: messages of servers, and what to do about them.
const TEXT_CHARS_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shortages_are_never_the_backends() {
        for fault in [Fault::NoFiles, Fault::NoPort, Fault::NoMemory] {
            assert!(matches!(Outcome::before_asking(fault), Outcome::Local(_)), "{fault:?}");
            assert!(matches!(Outcome::under_way(fault), Outcome::Local(_)), "{fault:?}");
        }
        assert_eq!(Outcome::before_asking(Fault::Denied), Outcome::Local(LocalError::Denied));
        assert_eq!(Outcome::before_asking(Fault::Other(22)), Outcome::Local(LocalError::Other(22)));
    }

    #[test]
    fn what_the_network_says_is_the_backends() {
        let table = [
            (Fault::Refused, "refused"),
            (Fault::TimedOut, "timeout"),
            (Fault::Unreachable, "unreachable"),
            (Fault::Denied, "unreachable"),
            (Fault::Reset, "reset"),
            (Fault::Other(71), "other"),
        ];
        for (fault, word) in table {
            let outcome = Outcome::under_way(fault);
            assert!(matches!(outcome, Outcome::Bad(_)), "{fault:?}");
            assert_eq!(outcome.word(), word);
        }
        assert_eq!(Outcome::before_asking(Fault::Unreachable), Outcome::Bad(Cause::Unreachable));
    }

    #[test]
    fn a_late_wake_up_blames_nobody() {
        let limit = Duration::from_secs(1);
        assert_eq!(Outcome::silent(Duration::from_millis(1250), limit), Outcome::Bad(Cause::Timeout));
        assert_eq!(Outcome::silent(Duration::from_millis(1251), limit), Outcome::Local(LocalError::Late));
    }

    #[test]
    fn an_excerpt_is_short_and_printable() {
        assert_eq!(Excerpt::of(b"-ERR\r\n\x1b\"").to_string(), "-ERR\\r\\n\\x1b\\\"");
        let long = Excerpt::of(&[0xff; 65536]).to_string();
        assert_eq!(long, format!("{}...", "\\xff".repeat(64)));
    }
}
