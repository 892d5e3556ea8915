//! The other proxies, where their programs are installed: one process, one thread, session logging off, what a user would
//! otherwise have.

use std::net::SocketAddr;
use std::process::Command;

use crate::{Proxy, free_address, pinned};

/// A proxy's name and how to start it in front of a backend.
type Peer = (&'static str, fn(SocketAddr) -> Proxy);

/// evenkeel first, then the baseline, then who is there.
pub(crate) fn found() -> Vec<Peer> {
    let mut peers: Vec<Peer> =
        vec![("evenkeel", Proxy::evenkeel), ("tokio copy_bidirectional", Proxy::baseline)];
    if is_there("haproxy") {
        peers.push(("haproxy", |backend| haproxy(backend, "")));
        peers.push(("haproxy, splice", |backend| haproxy(backend, "  option splice-auto\n")));
    }
    if is_there("nginx") && std::path::Path::new(STREAM_MODULE).exists() {
        peers.push(("nginx stream", |backend| nginx(backend, false)));
    }
    peers
}

/// Those that forward datagrams.
pub(crate) fn found_udp() -> Vec<Peer> {
    let mut peers: Vec<Peer> = vec![("evenkeel", Proxy::evenkeel_udp)];
    if crate::other().is_some() {
        peers.push(("evenkeel, other build", Proxy::other_udp));
    }
    if is_there("nginx") && std::path::Path::new(STREAM_MODULE).exists() {
        peers.push(("nginx stream", |backend| nginx(backend, true)));
    }
    peers
}

fn haproxy(backend: SocketAddr, options: &str) -> Proxy {
    let door = free_address();
    let text = format!(
        "global\n  nbthread 1\n  maxconn 8000\n  maxpipes 1000\ndefaults\n  mode tcp\n{options}  timeout connect 5s\n  \
         timeout client 1h\n  timeout server 1h\nlisten bench\n  bind {door}\n  server one {backend}\n"
    );
    let mut command = pinned("haproxy");
    command.args(["-db", "-f"]);
    Proxy::of_config(command, door, &text)
}

fn nginx(backend: SocketAddr, udp: bool) -> Proxy {
    let door = free_address();
    // nginx removes this file when it ends.
    let pid = std::env::temp_dir().join(format!("evenkeel-bench-nginx-{}.pid", door.port()));
    let pid = pid.display();
    let datagrams =
        if udp { format!("server {{ listen {door} udp; proxy_pass {backend}; }}") } else { String::new() };
    let text = format!(
        "load_module {STREAM_MODULE};\ndaemon off;\nmaster_process off;\nworker_processes 1;\nerror_log stderr crit;\n\
         pid {pid};\nevents {{ worker_connections 8192; }}\n\
         stream {{ {datagrams} server {{ listen {door}; proxy_pass {backend}; proxy_half_close on; }} }}\n"
    );
    let mut command = pinned("nginx");
    command.arg("-c");
    Proxy::of_config(command, door, &text)
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("-v").output().is_ok()
}

/// Where Debian puts it.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
