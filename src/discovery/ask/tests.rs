//! Tests of the client against servers of hand-made bytes, on real sockets.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::config;
use crate::config::settings::HttpAt;

/// A server that answers one question with these bytes, piece by piece, and then ends the connection; it tells what it was asked.
async fn server(pieces: Vec<Vec<u8>>) -> (HttpServer, tokio::task::JoinHandle<String>) {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = door.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut stream, _) = door.accept().await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let byte = stream.read_u8().await.unwrap();
            asked.push(byte);
        }
        for piece in pieces {
            if stream.write_all(&piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        String::from_utf8(asked).unwrap()
    });
    (HttpServer { at: HttpAt::Ip(Ipv4Addr::LOCALHOST.into(), port), tls: None }, task)
}

fn asker() -> Asker {
    let settings = config::read("test.yaml", b"listeners: { door: { bind: 1, backends: [10.0.0.1] } }");
    Asker::new(&settings.unwrap().dns)
}

fn question<'a>(server: &'a HttpServer, token: Option<&'a Token>) -> Question<'a> {
    Question {
        server,
        path: "/pg?x=1",
        headers: &[("accept", "application/json")],
        token: token.map(|token| (TokenHeader::Bearer, token)),
        answer_within: Duration::from_secs(20),
    }
}

async fn asked(answer: &[u8]) -> Result<Reply, String> {
    let (server, _task) = server(vec![answer.to_vec()]).await;
    let token = Token::new("s3cr3t");
    let asked = asker().ask(&question(&server, Some(&token)), plain).await;
    asked.map_err(|error| error.to_string())
}

#[tokio::test]
async fn an_answer_is_whole_or_none() {
    let reply = asked(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: \"a\"\r\n\r\n[]").await.unwrap();
    assert_eq!((reply.body.as_slice(), reply.header("etag")), (&b"[]"[..], Some("\"a\"")));
    assert!(reply.has_end && reply.is_local);
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1\r\n]\r\n0\r\n\r\n";
    assert_eq!(asked(chunked).await.unwrap().body, b"[]");
    assert!(!asked(b"HTTP/1.0 200 OK\r\n\r\n[]").await.unwrap().has_end);
    for cut in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[]"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n[\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ] {
        assert_eq!(
            asked(cut).await.unwrap_err(),
            "its answer was cut off",
            "{}",
            String::from_utf8_lossy(cut)
        );
    }
}

#[tokio::test]
async fn what_is_no_answer_is_told_without_bodies_and_tokens() {
    let told = |status: &str, body: &str| {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        async move { asked(answer.as_bytes()).await.unwrap_err() }
    };
    assert_eq!(told("403 Forbidden", "ACL not found").await, "HTTP 403: ACL not found");
    assert_eq!(told("500 Oops", "<html>s3cr3t</html>").await, "HTTP 500");
    assert_eq!(told("401 No", "unknown token s3cr3t").await, "HTTP 401");
    assert_eq!(told("204 No Content", "").await, "HTTP 204");
    assert_eq!(told("206 Partial Content", "[").await, "HTTP 206: [");
    let moved =
        asked(b"HTTP/1.1 301 Moved\r\nLocation: https://b.test/pg?k=s3cr3t\r\nContent-Length: 0\r\n\r\n");
    let moved = moved.await.unwrap_err();
    assert_eq!(
        moved,
        "HTTP 301: it points to https://b.test/pg; redirects are not followed, write that place"
    );
    let ssh = asked(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap_err();
    assert_eq!(ssh, "what answers does not speak HTTP/1.1 (is it https?)");
    let gzip = asked(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx").await;
    assert_eq!(gzip.unwrap_err(), "its answer is compressed, which was not asked for");
}

#[tokio::test]
async fn answers_and_headers_have_a_limit() {
    let large = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", (8 << 20) + 1);
    let (server, _task) = server(vec![large.into_bytes(), vec![b' '; (8 << 20) + 1]]).await;
    let told = asker().ask(&question(&server, None), plain).await.unwrap_err().to_string();
    assert_eq!(told, "its answer is too large: at most 8 MiB are read");
    let headers = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    let told = asked(headers.as_bytes()).await.unwrap_err();
    assert_eq!(told, "its answer is too large: at most 64 KiB of headers are read");
}

#[tokio::test]
async fn a_question_says_who_asks_for_what() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec();
    let (server, task) = server(vec![answer]).await;
    let token = Token::new("s3cr3t");
    asker().ask(&question(&server, Some(&token)), plain).await.unwrap();
    let asked = task.await.unwrap().to_lowercase();
    assert!(asked.starts_with("get /pg?x=1 http/1.1\r\n"), "{asked}");
    let HttpAt::Ip(ip, port) = server.at else { panic!("it is at an address") };
    for line in [
        &format!("host: {ip}:{port}"),
        "authorization: bearer s3cr3t",
        "accept: application/json",
        "connection: close",
        &format!("user-agent: evenkeel/{}", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(asked.contains(&format!("{line}\r\n")), "{line} in {asked}");
    }
}

#[tokio::test]
async fn lines_come_as_they_are_said_and_one_has_a_limit() {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let within = Duration::from_secs(20);
    let pieces = vec![head.clone(), chunk("{\"a\":"), chunk("1}\n\n{\"b\":2}\n{"), chunk("}"), chunk("")];
    let (good, _task) = server(pieces).await;
    let mut lines = asker().open(&question(&good, None), plain).await.unwrap();
    for expected in ["{\"a\":1}\n", "{\"b\":2}\n", "{}"] {
        assert_eq!(lines.next(within).await.unwrap().as_deref(), Some(expected.as_bytes()));
    }
    assert!(lines.next(within).await.unwrap().is_none(), "it ended as it should");

    let (cut, _task) = server(vec![head.clone(), chunk("{}\n{"), b"5\r\n".to_vec()]).await;
    let mut lines = asker().open(&question(&cut, None), plain).await.unwrap();
    assert!(lines.next(within).await.unwrap().is_some());
    assert_eq!(lines.next(within).await.unwrap_err().to_string(), "its answer was cut off");

    let (long, _task) = server(vec![head, chunk(&"x".repeat((1 << 20) + 1)), chunk("\n")]).await;
    let mut lines = asker().open(&question(&long, None), plain).await.unwrap();
    let told = lines.next(within).await.unwrap_err().to_string();
    assert_eq!(told, "its answer is too large: at most 1 MiB of a line are read");
}

#[tokio::test(start_paused = true)]
async fn silence_has_an_end() {
    let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = door.local_addr().unwrap().port();
    let server = HttpServer { at: HttpAt::Ip(Ipv4Addr::LOCALHOST.into(), port), tls: None };
    let told = asker().ask(&question(&server, None), plain).await.unwrap_err().to_string();
    assert_eq!(told, "no answer within 20 s");
}

#[test]
fn texts_are_encoded_for_a_query() {
    assert_eq!(encoded("a-b.c_d~e F/ä%"), "a-b.c_d~e%20F%2F%C3%A4%25");
}
