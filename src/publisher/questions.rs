//! Questions of the health checks: for each backend of a file, whom to ask, from where, and what.
//!
//! Pure.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::config::settings::{self, Check, ConnectFrom, Health, Pool, SendProxy, Settings};
use crate::sys::probe::Route;

/// One backend that is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Which pool of the settings.
    pub pool: usize,
    /// Which of its backends.
    pub backend: usize,
    /// Whom, `health.port` being applied already, and from where.
    pub route: Route,
    /// What, how often, how long.
    pub health: Arc<Health>,
}

/// Every backend whose pool is checked and whose port is known, in the order of the file.
pub fn questions(settings: &Settings) -> Vec<Question> {
    let mut all = Vec::new();
    for (at, pool) in settings.pools.iter().enumerate() {
        let Some(questions) = PoolQuestions::of(settings, at, pool) else { continue };
        for (backend, there) in pool.backends.iter().enumerate() {
            if let Some((route, health)) = questions.of_backend(there.ip, there.port) {
                all.push(Question { pool: at, backend, route, health });
            }
        }
    }
    all
}

/// How the backends of one pool are asked.
pub(super) struct PoolQuestions<'a> {
    pool: &'a Pool,
    health: Arc<Health>,
    bare: Arc<Health>,
    /// A backend without a port is reached at its listener's; several make `health.port` a must, as does none.
    client_port: Option<u16>,
}

impl<'a> PoolQuestions<'a> {
    /// `None`: its check is off.
    pub(super) fn of(settings: &Settings, at: usize, pool: &'a Pool) -> Option<Self> {
        (pool.health.check != Check::Off).then(|| Self {
            pool,
            health: Arc::new(pool.health.clone()),
            // Behind another port is another program, which knows nothing of the headers.
            bare: Arc::new(Health { send_proxy: SendProxy::Off, ..pool.health.clone() }),
            client_port: users(settings, at).next().map(|listener| listener.bind[0].port),
        })
    }

    /// Whom to ask, and what, of a backend there.
    pub(super) fn of_backend(&self, ip: IpAddr, port: Option<u16>) -> Option<(Route, Arc<Health>)> {
        let serving_port = port.or(self.client_port);
        let port = self.pool.health.port.or(serving_port)?;
        let health = if serving_port == Some(port) { &self.health } else { &self.bare };
        // A firewall may let these through and no other.
        let from = match &self.pool.connect_from {
            ConnectFrom::Addresses(all) => {
                all.iter().copied().filter(|own| own.is_ipv4() == ip.is_ipv4()).collect()
            }
            ConnectFrom::Any | ConnectFrom::Client => Arc::default(),
        };
        Some((Route { to: SocketAddr::new(ip, port), from }, Arc::clone(health)))
    }
}

/// The listeners that lead to a pool.
pub(super) fn users(settings: &Settings, pool: usize) -> impl Iterator<Item = &settings::Listener> {
    settings.listeners.iter().filter(move |listener| listener.leads_to(pool))
}
