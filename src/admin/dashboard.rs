//! Dashboard: the page for people at `/`, and its stream at `/events`. One file, nothing from elsewhere, nothing that
//! changes anything.

use http_body_util::{Either, Full};
use hyper::body::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};

use super::answer::text;
use super::event_stream::Events;

/// The page. A browser runs its own script and style and nothing else, and speaks to this door only.
pub(super) fn page() -> Response<Full<Bytes>> {
    let mut page = Response::new(Full::new(Bytes::from_static(PAGE.as_bytes())));
    for (name, value) in [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
    ] {
        set(&mut page, name, value);
    }
    page
}

/// The stream of one who watches, or that there is no place.
pub(super) fn events(events: Option<Events>) -> Response<Either<Full<Bytes>, Events>> {
    let Some(events) = events else {
        let mut full = text(
            StatusCode::SERVICE_UNAVAILABLE,
            "as many watch as may; close another page, or ask /status\n".into(),
        );
        set(&mut full, RETRY_AFTER, "10");
        return full.map(Either::Left);
    };
    let mut stream = Response::new(Either::Right(events));
    set(&mut stream, CONTENT_TYPE, "text/event-stream");
    set(&mut stream, CACHE_CONTROL, "no-store");
    stream
}

fn set<B>(response: &mut Response<B>, name: HeaderName, value: &'static str) {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
}

const PAGE: &str = include_str!("dashboard.html");
/// The digests are those of what stands between `<style>` and `</style>`, `<script>` and `</script>`: the test tells them.
const POLICY: &str = "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    style-src 'sha256-3O5Ok6RzB7VFngGipn2PbY551RU9CtCj6479LQ4iW9c='; script-src 'sha256-v1g+/XB7vAInC6dYx/Yr8OfNuEhIMeO4nlk1gZYXzrw='";

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn between<'a>(begin: &str, end: &str) -> &'a str {
        let mut parts = PAGE.split(begin);
        assert_eq!(parts.clone().count(), 2, "{begin} stands there once");
        parts.nth(1).and_then(|rest| rest.split(end).next()).unwrap()
    }

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let bits =
                three.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
            for letter in 0..4 {
                let six = (bits >> (18 - 6 * letter)) as usize & 63;
                text.push(if letter <= three.len() { char::from(LETTERS[six]) } else { '=' });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_just_the_script_and_the_style_of_the_page() {
        assert_eq!(base64(b"Man") + &base64(b"Ma") + &base64(b"M"), "TWFuTWE=TQ==");
        for (what, begin, end) in [("style", "<style>", "</style>"), ("script", "<script>", "</script>")] {
            let digest = base64(&Sha256::digest(between(begin, end)));
            assert!(
                POLICY.contains(&format!("{what}-src 'sha256-{digest}'")),
                "POLICY: the {what} is sha256-{digest}"
            );
        }
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        for elsewhere in ["http:", "https:", "src=", "@import", "url(", "//cdn", "<link", "<iframe"] {
            assert!(!PAGE.replace("http://www.w3.org/2000/svg", "").contains(elsewhere), "{elsewhere}");
        }
        for unescaped in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
            assert!(!PAGE.contains(unescaped), "{unescaped} would make text of the file into markup");
        }
    }
}
