//! Ports for the programs of a test.

use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that nobody has, with TCP or UDP, at any address: each is given once, out of those below what the kernel gives to clients.
/// One of theirs could be taken by a client of another test before its server binds it, or be given twice.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(97).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(10_000 + number % 20_000).unwrap_or_default();
        let any = [("0.0.0.0", port), ("::1", port)];
        if any.iter().all(|at| TcpListener::bind(at).is_ok() && UdpSocket::bind(at).is_ok()) {
            return port;
        }
    }
}
