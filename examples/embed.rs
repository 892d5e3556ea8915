//! A balancer inside another program: no file, no service manager, no socket; two echo backends, one client, and a stop.
//!
//! `cargo run --example embed`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use evenkeel::config;
use evenkeel::server::{Environment, Server};
use evenkeel::sys::udp_probe;

fn main() -> Result<(), Box<dyn Error>> {
    let backends = [echo("first")?, echo("second")?];
    // A port that was free a moment ago: a file names its ports.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let text = format!(
        "listeners: {{ demo: {{ bind: \"127.0.0.1:{port}\", backends: [127.0.0.1:{}, 127.0.0.1:{}] }} }}",
        backends[0], backends[1]
    );
    // Every mistake at once, with line and column: what `evenkeel check` prints.
    let settings = config::read("embedded", text.as_bytes()).map_err(|mistakes| mistakes.to_string())?;

    // The control work runs on this runtime; bytes are moved, and backends asked, by threads of the server's own.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let environment = Environment::embedded(42, udp_probe::probe());
        let server = Server::start(&settings, &environment).await?;
        let (name, address) = server.addresses().remove(0);
        println!("listener {name} accepts at {address}");
        for _ in 0..4 {
            let answer = tokio::task::spawn_blocking(move || ask(address)).await??;
            println!("answered by {answer}");
        }
        let active =
            server.counters("demo").map(|counters| counters.shards.sum(|shard| shard.active.value()));
        println!("{active:?} sessions are open");
        let drained = server.stop(tokio::time::sleep(Duration::from_secs(1))).await;
        println!("stopped: {} sessions were there, {} were cut", drained.sessions, drained.cut);
        Ok(())
    })
}

/// A backend that answers with its name.
fn echo(name: &'static str) -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut client = client;
            // A client that has gone needs no answer.
            let _ = client.write_all(name.as_bytes());
        }
    });
    Ok(port)
}

fn ask(address: std::net::SocketAddr) -> std::io::Result<String> {
    let mut answer = String::new();
    TcpStream::connect(address)?.read_to_string(&mut answer)?;
    Ok(answer)
}
