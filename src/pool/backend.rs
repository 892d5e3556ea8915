//! One backend: who it is, and the live numbers that outlast every snapshot.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::balance::load::Load;
use crate::config::settings;
use crate::metrics::{BackendShard, CheckCounts, PerWorker};

/// Identity is pool + name: a new weight, tier or limit changes nothing of what is here.
#[derive(Debug)]
pub struct Backend {
    /// The pool it belongs to.
    pub pool: Arc<str>,
    /// Its name, unique in the pool.
    pub name: Arc<str>,
    ip: IpAddr,
    port: Option<u16>,
    /// What the algorithms see of it.
    pub load: Arc<Load>,
    /// What is counted of it.
    pub shards: PerWorker<BackendShard>,
    /// The health verdict, for those that have a place here already; snapshots are for those that look for one.
    down: AtomicBool,
    /// How often it was asked for its health.
    pub checks: CheckCounts,
}

impl Backend {
    /// A backend without sessions.
    pub fn new(pool: &Arc<str>, settings: &settings::Backend, workers: usize) -> Self {
        Self {
            pool: Arc::clone(pool),
            name: settings.name.as_str().into(),
            ip: settings.ip,
            port: settings.port,
            load: Arc::new(Load::new(settings.max_sessions)),
            shards: PerWorker::new(workers),
            down: AtomicBool::new(false),
            checks: CheckCounts::default(),
        }
    }

    /// Its checks say that it is down.
    pub fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Notes the verdict. Only the publisher calls this.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Relaxed);
    }

    /// Where a client that came to `client_port` is sent.
    pub fn address(&self, client_port: u16) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.unwrap_or(client_port))
    }
}
