//! An HTTP server of a test's own that answers every question with what it was told to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

/// What it says next, and what it was asked so far.
#[derive(Default)]
struct Script {
    answer: Vec<u8>,
    tag: Option<String>,
    asked: Vec<String>,
}

/// The server; its thread goes with the test.
#[derive(Clone)]
pub struct HttpList {
    script: Arc<Mutex<Script>>,
    pub port: u16,
}

impl HttpList {
    pub fn start() -> Self {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = door.local_addr().unwrap().port();
        let script = Arc::<Mutex<Script>>::default();
        let shared = Arc::clone(&script);
        thread::spawn(move || {
            for stream in door.incoming() {
                let Ok(mut stream) = stream else { return };
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let head = head.join("\n").to_lowercase();
                let mut script = shared.lock().unwrap();
                let is_known =
                    script.tag.as_ref().is_some_and(|tag| head.contains(&format!("if-none-match: {tag}")));
                script.asked.push(head);
                let answer = if is_known {
                    b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec()
                } else {
                    script.answer.clone()
                };
                drop(script);
                // Who asked may have gone.
                let _ = stream.write_all(&answer);
            }
        });
        Self { script, port }
    }

    /// From now on a 200 with this list, by this tag.
    pub fn lists(&self, text: &str, tag: Option<&str>) {
        let header = tag.map(|tag| format!("ETag: {tag}\r\n")).unwrap_or_default();
        let length = text.len();
        self.says(&format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{header}\r\n{text}"));
        self.script.lock().unwrap().tag = tag.map(str::to_owned);
    }

    /// From now on these bytes.
    pub fn says(&self, answer: &str) {
        let mut script = self.script.lock().unwrap();
        (script.answer, script.tag) = (answer.as_bytes().to_vec(), None);
    }

    /// How many questions there were, and the last one.
    pub fn asked(&self) -> (usize, String) {
        let script = self.script.lock().unwrap();
        (script.asked.len(), script.asked.last().cloned().unwrap_or_default())
    }
}
