//! Close of a flow: logged once. Also what is logged of a flow that moves.

use std::net::SocketAddr;

use super::Terms;
use super::pump::Side;
use crate::flow::Ended;
use crate::pool::Backend;
use crate::proxy_protocol::Malformed;
use crate::reason::Reason;
use crate::sys::tcp as socket;
use crate::thread_context::ThreadContext;

/// The line of a flow that had a backend.
pub(super) fn log(side: &Side, ended: &Ended, cx: &ThreadContext) {
    if !side.terms.logs(ended.reason) {
        return;
    }
    let backend = side.upstream.lease().backend();
    let (flow, client) = (&ended.flow, side.origin());
    tracing::info!(
        target: "session",
        listener = &*side.terms.listener,
        proto = "udp",
        client = %client,
        peer = Some(flow.key.client).filter(|peer| *peer != client).map(tracing::field::display),
        local = %flow.key.local,
        backend = &*backend.name,
        via = socket::local_address(side.upstream.fd()).map(tracing::field::display),
        pool = &*backend.pool.name,
        reason = ended.reason.word(),
        to_backend = flow.to_backend.bytes,
        to_client = flow.to_client.bytes,
        datagrams_to_backend = flow.to_backend.datagrams,
        datagrams_to_client = flow.to_client.datagrams,
        rehomed = flow.rehomed,
        ms = cx.now_ms().saturating_sub(flow.began_ms),
        "flow ended"
    );
}

/// A flow that found no backend: counted and logged at once.
pub(super) fn without_backend(
    terms: &Terms,
    client: SocketAddr,
    local: SocketAddr,
    reason: Reason,
    cx: &ThreadContext,
) {
    let counts = terms.counters.shards.of(cx.worker);
    counts.active.sub(1);
    counts.ended(reason).add(1);
    let now_s = u32::try_from(cx.now_us / 1_000_000).unwrap_or(u32::MAX);
    if terms.logs(reason) && (!reason.is_refusal() || terms.counters.refusals.may_log(reason, now_s)) {
        tracing::info!(
            target: "session",
            listener = &*terms.listener,
            proto = "udp",
            client = %client,
            local = %local,
            reason = reason.word(),
            to_backend = 0,
            to_client = 0,
            datagrams_to_backend = 0,
            datagrams_to_client = 0,
            rehomed = 0,
            ms = 0,
            "flow refused"
        );
    }
}

/// A datagram that may not begin a flow: at most ten lines a second for each reason, and their number in a summary.
pub(super) fn log_shed(
    terms: &Terms,
    client: SocketAddr,
    local: SocketAddr,
    reason: Reason,
    cx: &ThreadContext,
) {
    let now_s = u32::try_from(cx.now_us / 1_000_000).unwrap_or(u32::MAX);
    if terms.logs(reason) && terms.counters.refusals.may_log(reason, now_s) {
        let (listener, reason) = (&*terms.listener, reason.word());
        tracing::info!(target: "session", listener, proto = "udp", %client, %local, reason, "datagram refused");
    }
}

/// A datagram with a broken header: likewise.
pub(super) fn log_bad_header(
    terms: &Terms,
    client: SocketAddr,
    local: SocketAddr,
    error: Malformed,
    cx: &ThreadContext,
) {
    let now_s = u32::try_from(cx.now_us / 1_000_000).unwrap_or(u32::MAX);
    let reason = Reason::BadProxyHeader;
    if terms.logs(reason) && terms.counters.refusals.may_log(reason, now_s) {
        let (listener, reason) = (&*terms.listener, reason.word());
        tracing::info!(target: "session", listener, proto = "udp", %client, %local, reason, %error, "datagram refused");
    }
}

/// A flow has another backend now. Not an end, and with many flows many lines: detail.
pub(super) fn log_rehomed(terms: &Terms, client: SocketAddr, from: &Backend, to: &Backend) {
    let (listener, from, to) = (&*terms.listener, &*from.name, &*to.name);
    tracing::debug!(target: "session", listener, proto = "udp", %client, from, to, "flow has a new backend");
}
