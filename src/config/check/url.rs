//! URLs of servers that are asked: `http://HOST[:PORT][/PATH]`, `https://…`, and `unix:///PATH` where a socket may stand.
//!
//! Pure.

use super::address::{parse_address, parse_ports};
use super::hosts::is_host_name;
use crate::config::mistake::quoted;
use crate::config::settings::HttpAt;
use crate::config::spec::SOCKET_BYTES_MAX;

/// What a URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) struct Url {
    pub(in crate::config) is_tls: bool,
    pub(in crate::config) at: HttpAt,
    /// Path and query; never empty.
    pub(in crate::config) path: String,
}

/// Reads one; the error is the end of a message that begins with the text.
pub(in crate::config) fn parse(text: &str) -> Result<Url, String> {
    let shown = quoted(text);
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with('/') || path.contains('\0') || path.len() > SOCKET_BYTES_MAX {
            return Err(format!(
                "{shown}: a socket is `unix:///PATH`, a path from the root of at most {SOCKET_BYTES_MAX} bytes"
            ));
        }
        return Ok(Url { is_tls: false, at: HttpAt::Socket(path.to_owned()), path: "/".to_owned() });
    }
    let (is_tls, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => {
            let with_scheme = format!("http://{text}");
            let hint = match parse(&with_scheme) {
                Ok(_) if !text.contains("://") => format!("; did you mean {}?", quoted(&with_scheme)),
                _ => String::new(),
            };
            return Err(format!("{shown} is no URL; one begins with http:// or https://{hint}"));
        }
    };
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{shown}: a URL has no spaces and no letters beyond ASCII; write them as %XX"));
    }
    if text.contains('#') {
        return Err(format!("{shown}: what follows `#` is never sent to a server"));
    }
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        // Not shown: it may be a password.
        return Err(
            "a URL here has no user and no password; a token stands in a file, `token_file`".to_owned()
        );
    }
    let path = match path.chars().next() {
        None => "/".to_owned(),
        Some('/') => path.to_owned(),
        Some(_) => format!("/{path}"),
    };
    let usual = if is_tls { 443 } else { 80 };
    Ok(Url {
        is_tls,
        at: at(authority, usual).ok_or_else(|| {
            format!("{shown}: `{authority}` is no host; it is NAME, NAME:PORT, ADDRESS or ADDRESS:PORT")
        })?,
        path,
    })
}

fn at(authority: &str, usual: u16) -> Option<HttpAt> {
    if let Ok((ip, ports)) = parse_address(authority) {
        let port =
            ports.map_or(Some(usual), |ports| (ports.start() == ports.end()).then(|| *ports.start()))?;
        return (!ip.is_unspecified() && !ip.is_multicast()).then_some(HttpAt::Ip(ip, port));
    }
    let (name, port) = match authority.split_once(':') {
        Some((name, port)) => {
            let ports = parse_ports(port).ok().filter(|ports| ports.start() == ports.end())?;
            (name, *ports.start())
        }
        None => (authority, usual),
    };
    let bare = name.strip_suffix('.').unwrap_or(name);
    let is_name = is_host_name(bare) && bare.chars().any(char::is_alphabetic);
    is_name.then(|| HttpAt::Name(name.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_where_and_for_what() {
        let read = |text: &str| parse(text).unwrap();
        let name = |name: &str, port| HttpAt::Name(name.to_owned(), port);
        assert_eq!(read("http://Consul.example.org:8500").at, name("consul.example.org", 8_500));
        assert_eq!(read("https://a.test/pg?x=1").path, "/pg?x=1");
        assert_eq!((read("https://a.test").at, read("https://a.test").is_tls), (name("a.test", 443), true));
        assert_eq!(read("http://a.test?x=1").path, "/?x=1");
        assert_eq!(read("http://10.0.0.1/").at, HttpAt::Ip("10.0.0.1".parse().unwrap(), 80));
        assert_eq!(read("http://[::1]:81").at, HttpAt::Ip("::1".parse().unwrap(), 81));
        assert_eq!(read("unix:///run/a.sock").at, HttpAt::Socket("/run/a.sock".to_owned()));
    }

    #[test]
    fn what_is_none_is_told_and_passwords_are_not() {
        for (text, expected) in [
            ("10.0.0.1:8500", "begins with http://"),
            ("ftp://a.test", "begins with http://"),
            ("http://", "is no host"),
            ("http://a.test:0", "is no host"),
            ("http://a.test:80-90", "is no host"),
            ("http://0.0.0.0", "is no host"),
            ("http://a_b!/", "is no host"),
            ("http://a.test/ä", "write them as %XX"),
            ("http://a.test/#x", "never sent"),
            ("unix://run/a.sock", "a path from the root"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(expected), "{text}: {told}");
        }
        let told = parse("http://root:s3cr3t@a.test/").unwrap_err();
        assert!(told.contains("token_file") && !told.contains("s3cr3t"), "{told}");
    }
}
