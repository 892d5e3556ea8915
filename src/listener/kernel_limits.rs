//! Kernel limits of sockets (somaxconn, rmem_max): what was asked for the doors, and what is granted: told once for all
//! of them, with what to set.

use crate::config::settings::{Listener, Protocol};
use crate::config::units::show_size;
use crate::sys::rlimits as system;

/// Warns of queues that are shorter than the file asks for. `receive_buffers` are what the doors got.
pub(super) fn warn<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    receive_buffers: impl Iterator<Item = usize>,
) {
    let (mut backlog, mut buffer) = (None, None);
    for listener in listeners {
        backlog = backlog.max(listener.backlog);
        if listener.protocol == Protocol::Udp {
            buffer = buffer.max(Some(listener.udp.receive_buffer));
        }
    }
    if let Some((asked, granted)) = backlog.zip(system::backlog_max()).filter(|(asked, most)| asked > most) {
        tracing::warn!(
            target: "evenkeel", asked, granted,
            "backlog: the kernel queues fewer connections than asked for; `sysctl net.core.somaxconn={asked}` allows them"
        );
    }
    // The least that any door got is at most what the largest wish was cut to.
    let granted = receive_buffers.filter(|bytes| *bytes != usize::MAX).max();
    if let Some((asked, granted)) = buffer.zip(granted)
        && granted < usize::try_from(asked).unwrap_or(usize::MAX)
    {
        let (shown, granted) = (show_size(asked.into()), show_size(granted as u64));
        tracing::warn!(
            target: "evenkeel", asked = shown, granted,
            "udp.receive_buffer: the kernel grants less, so bursts of datagrams may be lost (`receive_buffer` in \
             evenkeel_udp_dropped_total); `sysctl net.core.rmem_max={asked}` or CAP_NET_ADMIN allows it"
        );
    }
}
