//! What fuzzers call: any bytes as the answer of a source.

use super::consul::read_instances;
use super::docker::{event, read_containers};
use super::kubernetes::Slices;
use crate::config::read_kubeconfig;
use crate::config::settings::{DockerSource, HttpAt, HttpServer};

/// An answer of Consul.
pub fn fuzz_consul(bytes: &[u8]) {
    if let Ok(listed) = read_instances("pg", bytes) {
        assert!(listed.iter().all(|one| one.weight.is_none_or(|weight| weight <= 256)));
    }
}

/// An answer of Docker, or one of its events.
pub fn fuzz_docker(bytes: &[u8]) {
    let _ = event(bytes);
    for (port, network) in [(None, None), (Some(1), Some("n".to_owned()))] {
        let server = HttpServer { at: HttpAt::Socket("/s".to_owned()), tls: None };
        let source = DockerSource { server, label: "l".to_owned(), port, network };
        let _ = read_containers(&source, bytes);
    }
}

/// A list of slices and the lines of a watch that follow it, one a line; or a kubeconfig.
pub fn fuzz_kubernetes(bytes: &[u8]) {
    let _ = read_kubeconfig("/k/config", bytes);
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Some(Ok(mut slices)) = lines.next().map(Slices::of_list) else { return };
    for line in lines {
        let _ = slices.apply(line);
        let _ = slices.listed("pg", None);
    }
}
