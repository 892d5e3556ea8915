//! The same hellos through evenkeel, nginx (`ssl_preread`) and HAProxy (`req.ssl_sni`): all three send each to the same pool.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::ports::free_port;
use super::rig::{Backend, Balancer, connect, echo, eventually};
use super::routes::{hellos, rustls_hello};

/// A program of others, ended with the value.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, arguments: &[&str], file: &Path, text: &str, port: u16) -> Peer {
    fs::write(file, text).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let peer = Peer(command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")));
    eventually("it listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    peer
}

/// The name of the backend that answers.
fn goes(to: SocketAddr, hello: &[u8]) -> String {
    let mut stream = connect(to);
    stream.write_all(hello).unwrap();
    let mut name = [0];
    match stream.read_exact(&mut name) {
        Ok(()) => char::from(name[0]).to_string(),
        Err(_) => "refused".to_owned(),
    }
}

#[test]
#[ignore = "needs HAProxy and nginx"]
fn hellos_go_where_nginx_and_haproxy_send_them() {
    let named = |name: &'static str| {
        Backend::start(move |mut stream| {
            let _ = stream.write_all(name.as_bytes());
            echo(stream);
        })
    };
    let (a, b, c) = (named("a"), named("b"), named("c"));
    let folder = tempfile::tempdir().unwrap();
    let (of_nginx, of_haproxy) = (free_port(), free_port());
    let nginx = format!(
        "load_module /usr/lib/nginx/modules/ngx_stream_module.so; daemon off; master_process off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
events {{ }}
stream {{ map $ssl_preread_server_name $to {{ hostnames; name.example.org {a}; *.example.org {b}; default {c}; }}
server {{ listen 127.0.0.1:{of_nginx}; ssl_preread on; proxy_pass $to; }} }}",
        folder = folder.path().display(),
        a = a.address,
        b = b.address,
        c = c.address
    );
    let haproxy = format!(
        "defaults
  mode tcp
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend f
  bind 127.0.0.1:{of_haproxy}
  tcp-request inspect-delay 5s
  tcp-request content accept if {{ req.ssl_hello_type 1 }}
  use_backend a if {{ req.ssl_sni -i name.example.org }}
  use_backend b if {{ req.ssl_sni,lower -m end .example.org }}
  default_backend c
backend a
  server s {}
backend b
  server s {}
backend c
  server s {}\n",
        a.address, b.address, c.address
    );
    let _nginx = start("/usr/sbin/nginx", &["-c"], &folder.path().join("nginx.conf"), &nginx, of_nginx);
    let _haproxy =
        start("/usr/sbin/haproxy", &["-db", "-f"], &folder.path().join("haproxy.cfg"), &haproxy, of_haproxy);
    let pools = [("a", &a), ("b", &b), ("c", &c)].map(|(name, backend)| {
        format!("{name}: {{ backends: ['{}'], health: {{ check: off }} }}", backend.address)
    });
    let balancer = Balancer::start(&format!(
        "listeners: {{ tls: {{ bind: '127.0.0.1:80', routes: [{{ sni: name.example.org, pool: a }}, {{ sni: '*.example.org', pool: b }}], pool: c }} }}\npools: {{ {} }}",
        pools.join(", ")
    ));
    let mut all = hellos();
    for name in ["a.example.org", "b.a.Example.ORG", "example.org", "name.example.org.uk", "xexample.org"] {
        all.push((name.to_owned(), rustls_hello(name)));
    }
    let doors = [
        balancer.address(),
        SocketAddr::from(([127, 0, 0, 1], of_nginx)),
        SocketAddr::from(([127, 0, 0, 1], of_haproxy)),
    ];
    for (program, hello) in &all {
        let [ours, nginx, haproxy] = doors.map(|door| goes(door, hello));
        eprintln!("{program}: {ours} {nginx} {haproxy}");
        assert_eq!((&ours, &ours), (&nginx, &haproxy), "{program}");
    }
}
