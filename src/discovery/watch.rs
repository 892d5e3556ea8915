//! Watch: a source that tells the whole list (a file, a URL, a registry): what it says, and how it is asked for the next thing to say.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::Notify;

/// Who a source names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Its own name, if it has one; characters that no name may have are replaced. Otherwise it is called by its address.
    pub(super) name: Option<String>,
    /// Where it answers.
    pub(super) ip: IpAddr,
    /// `None`: at the port the client came to.
    pub(super) port: Option<u16>,
    /// 0 to 256; `None`: what the file says of all.
    pub(super) weight: Option<u16>,
    /// Likewise.
    pub(super) tier: Option<u8>,
    /// Likewise; never 0.
    pub(super) max_sessions: Option<u32>,
    /// Why it gets nothing new, e.g. `terminating (kubernetes)`; what is there stays.
    pub(super) drains: Option<String>,
}

/// What a source said. An empty list: that there is nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These, and nobody else.
    Listed(Vec<Listed>),
    /// No answer, and why, in the words of people.
    Failure(String),
}

/// A source that tells the whole. Each call ends when there is something to say (a change, the first answer, a failure); it
/// keeps what it must know for the next one (an index, a tag, a token's age). Whoever calls may drop a call before it ends: the
/// next one must begin well all the same.
pub(super) trait Watch: Send {
    /// What there is to say next. `hurry` is notified when it shall ask at once: such a call ends with an answer (or a failure)
    /// even when nothing has changed.
    fn next<'a>(&'a mut self, hurry: &'a Notify) -> Pin<Box<dyn Future<Output = Answer> + Send + 'a>>;

    /// For how long it is left alone after a failure; `None`: for 1 s, doubling to 30 s.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// Who says it may speak of this host's own loopback.
    fn may_name_loopback(&self) -> bool {
        false
    }
}
