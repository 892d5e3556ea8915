//! Row of a table of words.

/// A word of another balancer, and what stands for it here.
pub(super) struct Row {
    /// As it is written there; `_`, `-`, spaces and capitals make no difference.
    pub(super) words: &'static [&'static str],
    /// A sentence without its beginning: "`maxconn` of HAProxy " and then this.
    pub(super) here: &'static str,
}
