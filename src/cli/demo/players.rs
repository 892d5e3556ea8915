//! The other clients of the demo: players who send datagrams and go on when their server dies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Players, each with a socket of its own.
pub(super) struct Players {
    sockets: Vec<UdpSocket>,
    asked: usize,
}

/// What came of a round of questions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Round {
    /// Players that were answered each time, by who answered last.
    pub(super) by_backend: BTreeMap<String, usize>,
    /// Players that were not.
    pub(super) failed: usize,
}

impl Players {
    /// This many, at this door.
    pub(super) async fn join(door: SocketAddr, count: usize) -> std::io::Result<Self> {
        let mut sockets = Vec::with_capacity(count);
        for _ in 0..count {
            let socket = UdpSocket::bind((door.ip(), 0)).await?;
            socket.connect(door).await?;
            sockets.push(socket);
        }
        Ok(Self { sockets, asked: 0 })
    }

    /// Each asks so often. A datagram that is lost is sent again, as games do.
    pub(super) async fn ask(&mut self, questions: usize) -> Round {
        let mut round = Round::default();
        for socket in &self.sockets {
            let mut answered = None;
            for _ in 0..questions {
                self.asked += 1;
                answered = ask(socket, &format!("move {}", self.asked)).await;
                if answered.is_none() {
                    break;
                }
            }
            match answered {
                Some(backend) => *round.by_backend.entry(backend).or_default() += 1,
                None => round.failed += 1,
            }
        }
        round
    }
}

/// Who answered this question; `None`: nobody, however often it was asked.
async fn ask(socket: &UdpSocket, question: &str) -> Option<String> {
    let mut answer = [0; 256];
    for _ in 0..TRIES {
        // A refusal of the balancer would show here; the next try tells whether it stays.
        let _ = socket.send(question.as_bytes()).await;
        while let Ok(Ok(length)) = timeout(ANSWER_MAX, socket.recv(&mut answer)).await {
            let text = String::from_utf8_lossy(&answer[..length]);
            // An answer to an earlier try may still come.
            if let Some((backend, echoed)) = text.split_once(": ")
                && echoed == question
            {
                return Some(backend.to_owned());
            }
        }
    }
    None
}

const TRIES: usize = 20;
const ANSWER_MAX: Duration = Duration::from_millis(250);
