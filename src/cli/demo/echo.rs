//! A backend of the demo: says every line, and every datagram, back with its own name in front.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A running backend.
pub(super) struct Echo {
    address: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Echo {
    /// Listens; port 0 takes any free port.
    pub(super) async fn start(name: &'static str, address: SocketAddr) -> std::io::Result<Self> {
        let (listener, datagrams) = bind(address).await?;
        let echo = Self {
            address: listener.local_addr()?,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        echo.tasks.spawn(serve(name, listener, echo.tasks.clone(), echo.stop.clone()));
        let stop = echo.stop.clone();
        echo.tasks.spawn(async move {
            // Both arms may be dropped without loss.
            tokio::select! {
                () = answer_datagrams(name, datagrams) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(echo)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it with all its connections, as a crash would.
    pub(super) async fn kill(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The same port for both; of free ports one whose datagrams are free too.
async fn bind(address: SocketAddr) -> std::io::Result<(TcpListener, UdpSocket)> {
    let mut tries = 0;
    loop {
        tries += 1;
        let socket = TcpSocket::new_v4()?;
        // To come back to the port it had, past connections that are still in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1_024)?;
        match UdpSocket::bind(listener.local_addr()?).await {
            Ok(datagrams) => return Ok((listener, datagrams)),
            Err(error) if tries >= TRIES || address.port() != 0 => return Err(error),
            Err(_) => {}
        }
    }
}

async fn answer_datagrams(name: &str, socket: UdpSocket) {
    let mut datagram = [0; 1_024];
    loop {
        // An error is that of a client that has gone: its answer met nobody.
        let Ok((length, from)) = socket.recv_from(&mut datagram).await else { continue };
        let answer = [name.as_bytes(), b": ", &datagram[..length]].concat();
        let _ = socket.send_to(&answer, from).await;
    }
}

async fn serve(name: &'static str, listener: TcpListener, tasks: TaskTracker, stop: CancellationToken) {
    loop {
        // Both arms may be dropped without loss.
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let stop = stop.clone();
                tasks.spawn(async move {
                    tokio::select! {
                        _ = converse(name, stream) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            () = stop.cancelled() => return,
        }
    }
}

async fn converse(name: &str, stream: TcpStream) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader);
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line).await? > 0 {
        let answer = [name.as_bytes(), b": ", &line].concat();
        writer.write_all(&answer).await?;
        line.clear();
    }
    Ok(())
}

const TRIES: usize = 20;
