//! Kernel limits of sockets (somaxconn, rmem_max, wmem_max): what was asked for the doors, and what is granted: told
//! once for all of them, with what to set.

use crate::config::settings::{Listener, Protocol};
use crate::config::units::show_size;
use crate::sys::rlimits as system;

/// Warns of queues that are shorter than the file asks for. `receive_buffers` and `send_buffers` are what the doors got.
pub(super) fn warn<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
    receive_buffers: impl Iterator<Item = usize>,
    send_buffers: impl Iterator<Item = usize>,
) {
    let (mut backlog, mut receive, mut send) = (None, None, None);
    for listener in listeners {
        backlog = backlog.max(listener.backlog);
        if listener.protocol == Protocol::Udp {
            receive = receive.max(Some(listener.udp.receive_buffer));
            send = send.max(Some(listener.udp.send_buffer));
        }
    }
    if let Some((asked, granted)) = backlog.zip(system::backlog_max()).filter(|(asked, most)| asked > most) {
        tracing::warn!(
            target: "evenkeel", asked, granted,
            "backlog: the kernel queues fewer connections than asked for; `sysctl net.core.somaxconn={asked}` allows them"
        );
    }
    for (key, limit, buffer, granted, lost) in [
        ("receive_buffer", "rmem_max", receive, largest(receive_buffers), "bursts of datagrams"),
        ("send_buffer", "wmem_max", send, largest(send_buffers), "bursts of answers"),
    ] {
        let Some((asked, granted)) = buffer.zip(granted) else { continue };
        if granted < usize::try_from(asked).unwrap_or(usize::MAX) {
            let (shown, granted) = (show_size(asked.into()), show_size(granted as u64));
            tracing::warn!(
                target: "evenkeel", asked = shown, granted,
                "udp.{key}: the kernel grants less, so {lost} may be lost (`{key}` in evenkeel_udp_dropped_total); \
                 `sysctl net.core.{limit}={asked}` or CAP_NET_ADMIN allows it"
            );
        }
    }
}

/// What the largest wish was cut to: the least that any door got is at most that.
fn largest(granted: impl Iterator<Item = usize>) -> Option<usize> {
    granted.filter(|bytes| *bytes != usize::MAX).max()
}
