//! Reasons why sessions end (termination states): the closed list. The same words are in the log line and in the
//! metric's `reason` label.

/// Why a session ended. Every session that began ends with exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Reason {
    /// The client finished first and all was delivered.
    ClientClosed,
    /// The backend finished first and all was delivered.
    BackendClosed,
    /// The client reset the connection.
    ClientReset,
    /// The backend reset the connection.
    BackendReset,
    /// The client is gone without a word (keepalive or unacknowledged data).
    ClientLost,
    /// The backend is gone without a word.
    BackendLost,
    /// Neither side sent anything for `timeouts.idle`.
    Idle,
    /// One side was done and the other silent for `timeouts.half_closed`.
    HalfClosed,
    /// The session reached `timeouts.lifetime`.
    Lifetime,
    /// No attempt at a backend succeeded.
    ConnectFailed,
    /// No backend of the pool is eligible.
    NoBackend,
    /// Every eligible backend is at its `max_sessions`.
    BackendsFull,
    /// As many sessions as `queue.sessions` allows wait for a place already.
    QueueFull,
    /// No place was free within `queue.timeout`.
    QueueTimeout,
    /// The source is on the listener's `deny` list, or not on its `allow` list.
    Denied,
    /// The listener is at its `limits.sessions`.
    LimitSessions,
    /// The source is at the listener's `limits.sessions_per_source`.
    LimitSessionsPerSource,
    /// The listener is at its `limits.rate`.
    LimitRate,
    /// The source is at the listener's `limits.rate_per_source`.
    LimitRatePerSource,
    /// The process is at `limits.tcp_sessions` or `limits.udp_sessions`, or out of file descriptors.
    LimitProcess,
    /// No local port was free towards the backend.
    NoSourcePort,
    /// The PROXY header of a peer that must send one was broken, late or cut off.
    BadProxyHeader,
    /// Its backend went down, and `on_down` is `close`.
    BackendDown,
    /// Its backend lost the role that its listener asks for, and `roles.leave` is `close`.
    RoleChanged,
    /// It came to a listener, or wanted to stay, while nothing new is taken.
    Drained,
    /// An operator closed it.
    Closed,
    /// Every reply that `udp.responses` expects has come.
    Responses,
    /// Cut when `shutdown.grace` had passed.
    Shutdown,
    /// Another process gave it to this one, which could not go on with it.
    HandoverFailed,
    /// A fault of our own or a system call that must not fail.
    InternalError,
    /// Its backend left the list, and `on_removed` is `close`, or `removed_grace` is over.
    Removed,
    /// The backend took the connection and ended it, or reset it, without a byte.
    BackendEmpty,
    /// No route of the listener is for it, and it has no other pool.
    NoRoute,
    /// The first message, by which a route goes, was not whole within `timeouts.first`.
    NoFirstMessage,
    /// It was broken.
    BadFirstMessage,
    /// The client was told that it may begin with TLS, as its route wants it, and no backend would have it.
    TlsRefused,
    /// It wanted a query of another session cancelled, and that went to the backends.
    Cancel,
    /// What only a later build might say: an operator closed it there.
    #[cfg(feature = "manifest-next")]
    Next,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 37 + cfg!(feature = "manifest-next") as usize] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::ClientReset,
        Self::BackendReset,
        Self::ClientLost,
        Self::BackendLost,
        Self::Idle,
        Self::HalfClosed,
        Self::Lifetime,
        Self::ConnectFailed,
        Self::NoBackend,
        Self::BackendsFull,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Denied,
        Self::LimitSessions,
        Self::LimitSessionsPerSource,
        Self::LimitRate,
        Self::LimitRatePerSource,
        Self::LimitProcess,
        Self::NoSourcePort,
        Self::BadProxyHeader,
        Self::BackendDown,
        Self::RoleChanged,
        Self::Drained,
        Self::Closed,
        Self::Responses,
        Self::Shutdown,
        Self::HandoverFailed,
        Self::InternalError,
        Self::Removed,
        Self::BackendEmpty,
        Self::NoRoute,
        Self::NoFirstMessage,
        Self::BadFirstMessage,
        Self::TlsRefused,
        Self::Cancel,
        #[cfg(feature = "manifest-next")]
        Self::Next,
    ];

    /// The one of this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.word() == word)
    }

    /// Its word in logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::ClientLost => "client_lost",
            Self::BackendLost => "backend_lost",
            Self::Idle => "idle",
            Self::HalfClosed => "half_closed",
            Self::Lifetime => "lifetime",
            Self::ConnectFailed => "connect_failed",
            Self::NoBackend => "no_backend",
            Self::BackendsFull => "backends_full",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Denied => "denied",
            Self::LimitSessions => "limit_sessions",
            Self::LimitSessionsPerSource => "limit_sessions_per_source",
            Self::LimitRate => "limit_rate",
            Self::LimitRatePerSource => "limit_rate_per_source",
            Self::LimitProcess => "limit_process",
            Self::NoSourcePort => "no_source_port",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::BackendDown => "backend_down",
            Self::RoleChanged => "role_changed",
            Self::Drained => "drained",
            Self::Closed => "closed",
            Self::Responses => "responses",
            Self::Shutdown => "shutdown",
            Self::HandoverFailed => "handover_failed",
            Self::InternalError => "internal_error",
            Self::Removed => "removed",
            Self::BackendEmpty => "backend_empty",
            Self::NoRoute => "no_route",
            Self::NoFirstMessage => "no_first_message",
            Self::BadFirstMessage => "bad_first_message",
            Self::TlsRefused => "tls_refused",
            Self::Cancel => "cancel",
            #[cfg(feature = "manifest-next")]
            Self::Next => "closed_next",
        }
    }

    /// The client was turned away without a word to any backend: floods of these share their log lines.
    pub fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::NoBackend
                | Self::BackendsFull
                | Self::QueueFull
                | Self::QueueTimeout
                | Self::Denied
                | Self::LimitSessions
                | Self::LimitSessionsPerSource
                | Self::LimitRate
                | Self::LimitRatePerSource
                | Self::LimitProcess
                | Self::BadProxyHeader
                | Self::NoRoute
                | Self::NoFirstMessage
                | Self::BadFirstMessage
        )
    }

    /// We ended it while both sides might have gone on: what they had sent and not got yet is lost.
    pub fn is_cut(self) -> bool {
        matches!(
            self,
            Self::Idle
                | Self::HalfClosed
                | Self::Lifetime
                | Self::BackendDown
                | Self::RoleChanged
                | Self::Removed
                | Self::Drained
                | Self::Closed
                | Self::Shutdown
                | Self::HandoverFailed
                | Self::InternalError
        )
    }

    /// An ordinary end is not logged under `log.sessions: failed`.
    pub fn is_ordinary(self) -> bool {
        matches!(
            self,
            Self::ClientClosed
                | Self::BackendClosed
                | Self::Idle
                | Self::Lifetime
                | Self::Drained
                | Self::Closed
                | Self::Responses
                | Self::Shutdown
                | Self::Cancel
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_list_and_words_are_distinct() {
        let mut words = std::collections::HashSet::new();
        for (number, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
            assert!(words.insert(reason.word()));
        }
    }
}
