//! TCP health check, `check: tcp`: is the backend's kernel there and something listening? Its program is not troubled.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::outcome::Outcome;
use crate::sys::probe::{self, Fault, Route};

/// Begins a handshake with the peer and resets it once it is answered. Takes `limit` at most, unless this thread is kept
/// from running; then an answer that has come meanwhile still counts. Cancel safe.
pub(super) async fn ask(route: &Route, limit: Duration) -> Outcome {
    let began = Instant::now();
    let socket = match probe::touch(route) {
        Ok(socket) => socket,
        Err(fault) => return Outcome::before_asking(fault),
    };
    let socket = match TcpStream::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => return Outcome::before_asking(Fault::of(&error)),
    };
    let result = match timeout(limit, socket.writable()).await {
        Ok(Ok(())) => probe::connected(&socket),
        Ok(Err(error)) => return Outcome::before_asking(Fault::of(&error)),
        // The timer may have been served before the socket, when both were due.
        Err(_) => match probe::look(&socket) {
            Some(result) => result,
            None => return Outcome::silent(began.elapsed(), limit),
        },
    };
    match result {
        Ok(()) => Outcome::Good,
        Err(fault) => Outcome::under_way(fault),
    }
}
