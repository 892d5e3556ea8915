//! Clients, and bytes that can be told from each other.

use std::collections::BTreeMap;
use std::hash::Hasher;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use siphasher::sip::SipHasher13;
use socket2::SockRef;

use super::DEADLINE;

/// A client whose calls all have a deadline.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, DEADLINE).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    End,
    Reset,
}

/// Reads until the stream ends, one way or the other.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Outcome) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, Outcome::End),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, Outcome::Reset),
        Err(error) => panic!("reading failed: {error}, after {} bytes", bytes.len()),
    }
}

/// A client that says nothing: is it reset without a byte? The connect itself may already meet the reset.
#[track_caller]
pub fn is_turned_away(to: SocketAddr) -> bool {
    let mut stream = match TcpStream::connect_timeout(&to, DEADLINE) {
        Ok(stream) => stream,
        Err(error) => return error.kind() == ErrorKind::ConnectionReset,
    };
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    read_to_end(&mut stream) == (Vec::new(), Outcome::Reset)
}

/// Sends a byte and reads the answer to the end.
pub fn short_session(to: SocketAddr) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect_timeout(&to, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"x")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How often each answer came in `count` short sessions.
#[track_caller]
pub fn names_reached(to: SocketAddr, count: usize) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for _ in 0..count {
        *names.entry(short_session(to).unwrap()).or_default() += 1;
    }
    names
}

/// Sends bytes and reads as many back.
#[track_caller]
pub fn exchange(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, bytes);
}

/// Bytes that do not repeat within any buffer of the balancer.
pub fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut bytes = Vec::with_capacity(length + 4);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A checksum over a stream.
pub fn sum_of(stream: &mut impl Read) -> (u64, u64) {
    let (mut hasher, mut length) = (SipHasher13::new(), 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return (length, hasher.finish()),
            read => {
                hasher.write(&buffer[..read]);
                length += read as u64;
            }
        }
    }
}
