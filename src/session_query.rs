//! Session query: how operators look for sessions: what a filter asks, and the row of each one found.
//!
//! Pure. Shared by whoever holds sessions and whoever shows them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Which sessions. What is `None` does not matter; all of them: every session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this listener.
    pub listener: Option<String>,
    /// At this backend: pool and name.
    pub backend: Option<(String, String)>,
    /// Of this client.
    pub client: Option<IpAddr>,
    /// That came in at this address of ours.
    pub local: Option<IpAddr>,
}

/// One session that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRow {
    /// `tcp` or `udp`.
    pub proto: &'static str,
    /// What it is doing.
    pub state: &'static str,
    /// The listener it came to.
    pub listener: Arc<str>,
    /// Who it is.
    pub client: SocketAddr,
    /// Where it came in; `None`: the socket does not say any more.
    pub local: Option<SocketAddr>,
    /// What it asked for by name, where a route goes by that.
    pub name: Option<String>,
    /// The pool and the name of its backend, once it has one.
    pub backend: Option<(Arc<str>, Arc<str>)>,
    /// How old it is.
    pub age_ms: u64,
    /// Bytes delivered to the backend.
    pub to_backend: u64,
    /// Bytes delivered to the client.
    pub to_client: u64,
}

impl Filter {
    /// It asks for nothing: every session fits.
    pub fn is_open(&self) -> bool {
        *self == Self::default()
    }

    /// Does a session of this listener, client and backend (pool, name) fit?
    pub fn fits(&self, listener: &str, client: IpAddr, backend: Option<(&str, &str)>) -> bool {
        self.listener.as_deref().is_none_or(|wanted| wanted == listener)
            && self.client.is_none_or(|wanted| wanted.to_canonical() == client.to_canonical())
            && self.backend.as_ref().is_none_or(|(pool, name)| backend == Some((pool, name)))
    }

    /// Does one that came in there fit? Only asked where it matters.
    pub fn fits_local(&self, local: impl FnOnce() -> Option<SocketAddr>) -> bool {
        let is_it =
            |wanted: IpAddr| local().is_some_and(|at| at.ip().to_canonical() == wanted.to_canonical());
        self.local.is_none_or(is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_asks_for_all_of_what_it_names() {
        let client: IpAddr = "10.0.0.1".parse().unwrap();
        let backend = Some(("p", "b"));
        assert!(Filter::default().is_open() && Filter::default().fits("l", client, None));
        let listener = Filter { listener: Some("l".into()), ..Filter::default() };
        assert!(listener.fits("l", client, backend) && !listener.fits("m", client, backend));
        let of = Filter { client: Some("::ffff:10.0.0.1".parse().unwrap()), ..Filter::default() };
        assert!(of.fits("l", client, None) && !of.fits("l", "10.0.0.2".parse().unwrap(), None));
        let at = Filter {
            backend: Some(("p".into(), "b".into())),
            listener: Some("l".into()),
            ..Filter::default()
        };
        assert!(at.fits("l", client, backend) && !at.fits("m", client, backend));
        assert!(!at.fits("l", client, Some(("q", "b"))) && !at.fits("l", client, None));
        assert!(!at.is_open());
        let local = Filter { local: Some("192.0.2.1".parse().unwrap()), ..Filter::default() };
        assert!(local.fits_local(|| "[::ffff:192.0.2.1]:5".parse().ok()));
        assert!(!local.fits_local(|| "192.0.2.2:5".parse().ok()) && !local.fits_local(|| None));
        assert!(!local.is_open() && at.fits_local(|| panic!("nobody asks")));
    }
}
