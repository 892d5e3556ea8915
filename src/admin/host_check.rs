//! Host check (DNS rebinding): whether a browser that asks the HTTP door meant this machine.
//!
//! A page of a stranger can point a name of its own at 127.0.0.1 and then read, with the browser of whoever looks at it, what
//! answers there. The name it was asked by gives it away: only addresses, `localhost`, and the names of `admin.hosts` are
//! answered. Who sends no name at all is no browser.

use std::net::{Ipv4Addr, Ipv6Addr};

use hyper::header::HOST;
use hyper::{Request, http::uri::Authority};

/// The name that this request asks for and that is not one of ours.
pub(super) fn stranger<B>(request: &Request<B>, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let in_target = request.uri().host().map(str::to_owned);
    let in_header = request.headers().get(HOST).map(|host| {
        let authority = host.to_str().ok().and_then(|text| text.parse::<Authority>().ok());
        // What is no host at all is nobody's.
        authority
            .map_or_else(|| String::from_utf8_lossy(host.as_bytes()).into_owned(), |of| of.host().to_owned())
    });
    in_target.into_iter().chain(in_header).find(|host| {
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        !(is_address(&name) || name == "localhost" || is_ours(&name))
    })
}

fn is_address(name: &str) -> bool {
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside {
        // With a zone behind it: `[fe80::1%25eth0]`.
        Some(ip) => ip.split('%').next().is_some_and(|ip| ip.parse::<Ipv6Addr>().is_ok()),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(target: &str, host: Option<&str>) -> Option<String> {
        let request = Request::builder().uri(target);
        let request = host.into_iter().fold(request, |request, host| request.header(HOST, host));
        stranger(&request.body(()).unwrap(), |name| name == "lb.example.net")
    }

    #[test]
    fn addresses_localhost_and_listed_names_are_ours_and_no_other() {
        let ours = [
            "127.0.0.1:9900",
            "10.0.0.5",
            "[::1]:9900",
            "[2001:db8::1]",
            "localhost:9900",
            "LOCALHOST.",
            "lb.example.net:80",
            "LB.Example.Net",
            "lb.example.net.",
        ];
        for host in ours {
            assert_eq!(asked("/status", Some(host)), None, "{host}");
        }
        assert_eq!(asked("/status", None), None, "HTTP/1.0 needs no name");
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:9900",
            "localhost.evil",
            "",
            "[::1",
            "2130706433",
            "0x7f.1",
        ] {
            assert!(asked("/status", Some(host)).is_some(), "{host}");
        }
        assert_eq!(asked("http://evil.example/status", Some("127.0.0.1")).as_deref(), Some("evil.example"));
        assert_eq!(asked("http://127.0.0.1/status", Some("evil.example")).as_deref(), Some("evil.example"));
    }
}
