//! The dashboard's page and its stream, as a client meets them without a browser: who may watch, for how long, at what cost.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::rig::*;

fn ask(at: SocketAddr, method: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn answer(at: SocketAddr, method: &str, path: &str) -> String {
    let mut text = String::new();
    ask(at, method, path).read_to_string(&mut text).unwrap();
    text
}

/// Reads until what came holds this so often.
fn read_until(stream: &mut TcpStream, part: &str, times: usize) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 65_536];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        assert!(length > 0, "it ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..length]);
        let so_far = String::from_utf8_lossy(&text);
        if so_far.matches(part).count() >= times && so_far.ends_with("\n\n\r\n") {
            return so_far.into_owned();
        }
    }
}

/// The JSON of each event of this name; none is broken across chunks here, since each is one chunk.
fn events(text: &str, name: &str) -> Vec<Value> {
    let beginning = format!("event: {name}\ndata: ");
    let found = text.split(&beginning).skip(1);
    found.map(|rest| serde_json::from_str(rest.split("\n\n").next().unwrap()).unwrap()).collect()
}

fn program(backends: usize) -> Program {
    let address = closed_address();
    let list: String = (0..backends).map(|at| format!("{{ address: '{address}', name: b{at} }}, ")).collect();
    Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', health: {{ check: off }}, backends: [{list}] }} }}"
    ))
}

#[test]
fn the_page_is_one_file_that_a_browser_runs_without_anything_else() {
    let program = program(1);
    let page = answer(program.admin(), "GET", "/");
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/html"), "{head}");
    assert!(head.contains("content-security-policy: default-src 'none'; connect-src 'self'"), "{head}");
    assert!(head.contains("x-content-type-options: nosniff") && !head.contains("unsafe-inline"), "{head}");
    assert!(body.starts_with("<!doctype html>") && body.trim_end().ends_with("</html>"));
    for (method, path) in
        [("POST", "/"), ("POST", "/events"), ("DELETE", "/"), ("POST", "/mark?backend=door/b0&mark=drain")]
    {
        assert!(answer(program.admin(), method, path).starts_with("HTTP/1.1 405"), "{method} {path}");
    }
    let head = answer(program.admin(), "HEAD", "/");
    assert!(head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(program.status()["limits"]["watchers"]["used"], 0, "nobody watches");
}

#[test]
fn the_stream_begins_with_the_history_and_goes_on_every_second() {
    let backend = Backend::start(echo);
    let program = Program::start(&format!(
        "listeners: {{ door: {{ bind: '127.0.0.1:PORT', backends: [{{ address: '{}', name: b }}] }} }}",
        backend.address
    ));
    let mut first = ask(program.admin(), "GET", "/events");
    let text = read_until(&mut first, "event: status", 3);
    assert!(text.to_lowercase().contains("content-type: text/event-stream"), "{text}");
    assert_eq!(events(&text, "history").len(), 1);
    let told = events(&text, "status");
    assert_eq!(told[0]["pools"][0]["backends"][0]["name"], "b");
    let times: Vec<u64> = told.iter().map(|status| status["uptime_ms"].as_u64().unwrap()).collect();
    assert!(times.is_sorted(), "{times:?}");
    let mut client = connect(program.address());
    exchange(&mut client, b"hello");
    let text = read_until(&mut first, "event: status", 2);
    assert_eq!(events(&text, "status").last().unwrap()["listeners"][0]["active"], 1);
    // One who comes now is told what was before.
    let text = read_until(&mut ask(program.admin(), "GET", "/events"), "event: status", 1);
    let history = &events(&text, "history")[0];
    let moments = history["at_ms"].as_array().unwrap().len();
    assert!(moments >= 3, "{history}");
    assert_eq!(history["all"]["active"].as_array().unwrap().len(), moments);
    assert_eq!(history["pools"]["door"]["bytes"].as_array().unwrap().len(), moments);
    eventually("who went is counted no more", || program.status()["limits"]["watchers"]["used"] == 1);
}

#[test]
fn who_finds_no_place_is_told_so_and_counted() {
    let program = program(1);
    let watching: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = ask(program.admin(), "GET", "/events");
            read_until(&mut stream, "event: status", 1);
            stream
        })
        .collect();
    let refused = answer(program.admin(), "GET", "/events");
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("as many watch as may"), "{refused}");
    assert_eq!(program.metric("evenkeel_watchers_refused_total{reason=\"limit\"}"), 1.0);
    assert_eq!(program.metric("evenkeel_limit_in_use_ratio{limit=\"watchers\"}"), 1.0);
    // They take none of the places of those who ask once.
    let asking: Vec<TcpStream> = (0..70).map(|_| TcpStream::connect(program.admin()).unwrap()).collect();
    assert!(answer(program.admin(), "GET", "/healthz").contains("alive"));
    drop(asking);
    assert_eq!(program.status()["limits"]["watchers"]["used"], 16);
    drop(watching);
    eventually("they are gone", || program.status()["limits"]["watchers"]["used"] == 0);
    read_until(&mut ask(program.admin(), "GET", "/events"), "event: status", 1);
}

#[test]
fn who_does_not_read_is_cut_and_holds_no_memory() {
    // Some 700 KB a second for each.
    let program = program(1_000);
    // What a status takes to make is there already.
    for _ in 0..3 {
        program.status();
    }
    let before = program.private_kib();
    let mut silent: Vec<TcpStream> = (0..16).map(|_| ask(program.admin(), "GET", "/events")).collect();
    eventually("they watch", || program.status()["limits"]["watchers"]["used"] == 16);
    let mut most = 0;
    eventually("they are cut", || {
        most = most.max(program.private_kib());
        program.metric("evenkeel_watchers_refused_total{reason=\"slow\"}") == 16.0
    });
    // They are counted as cut before they have left.
    eventually("nobody watches", || program.status()["limits"]["watchers"]["used"] == 0);
    // Two texts each would be 22 MB, were they not shared; all of ten seconds would be 112 MB.
    assert!(most < before + 40 * 1_024, "{before} KiB became {most} KiB");
    for stream in &mut silent {
        let mut buffer = [0; 65_536];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
                    break;
                }
            }
        }
    }
}

#[test]
fn watchers_hold_up_no_stop() {
    let mut program = program(1);
    let mut watching = ask(program.admin(), "GET", "/events");
    read_until(&mut watching, "event: status", 1);
    let began = Instant::now();
    program.signal(Signal::TERM);
    assert!(program.wait().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let mut rest = Vec::new();
    let _ = watching.read_to_end(&mut rest);
}
