//! What evenkeel is measured against: accept, connect, `tokio::io::copy_bidirectional`.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};

/// Serves until it is killed.
pub(crate) fn run(backend: SocketAddr) {
    let door: SocketAddr = std::env::var(super::DOOR_VARIABLE).expect("a door").parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind(door).await.expect("binding the door");
        loop {
            let Ok((mut client, _)) = listener.accept().await else { continue };
            tokio::spawn(async move {
                let _ = client.set_nodelay(true);
                let Ok(mut upstream) = TcpStream::connect(backend).await else { return };
                let _ = upstream.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
            });
        }
    });
}
