//! The clients of the demo: connect, say a line, see who answers, close.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Who answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) by_backend: BTreeMap<String, usize>,
    /// Connections without the answer they should have had.
    pub(super) failed: usize,
}

impl Answers {
    pub(super) fn add(&mut self, other: Self) {
        for (backend, count) in other.by_backend {
            *self.by_backend.entry(backend).or_default() += count;
        }
        self.failed += other.failed;
    }

    /// Connections that were made, answered or not.
    pub(super) fn made(&self) -> usize {
        self.by_backend.values().sum::<usize>() + self.failed
    }
}

/// Makes this many connections, a few at a time.
pub(super) async fn send_through(door: SocketAddr, connections: usize) -> Answers {
    let mut answers = Answers::default();
    let mut clients = JoinSet::new();
    for number in 0..connections {
        if clients.len() >= AT_ONCE {
            note(&mut answers, clients.join_next().await);
        }
        clients.spawn(ask(door, number));
    }
    while let Some(answered) = clients.join_next().await {
        note(&mut answers, Some(answered));
    }
    answers
}

fn note(answers: &mut Answers, answered: Option<Result<Option<String>, tokio::task::JoinError>>) {
    match answered {
        Some(Ok(Some(backend))) => *answers.by_backend.entry(backend).or_default() += 1,
        _ => answers.failed += 1,
    }
}

/// One connection. `None`: no answer, or not the one to this question.
async fn ask(door: SocketAddr, number: usize) -> Option<String> {
    let question = format!("hello {number}\n");
    let conversation = async {
        let mut stream = TcpStream::connect(door).await?;
        stream.write_all(question.as_bytes()).await?;
        stream.shutdown().await?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(ANSWER_MAX, conversation).await.ok()?.ok()?;
    let (backend, echoed) = answer.split_once(": ")?;
    (echoed == question).then(|| backend.to_owned())
}

const AT_ONCE: usize = 8;
const ANSWER_BYTES_MAX: u64 = 1_024;
const ANSWER_MAX: Duration = Duration::from_secs(10);
