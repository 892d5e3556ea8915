//! A data thread's tools and one pool, for unit tests of what a thread does.

// Tests say what they expect.
#![allow(clippy::unwrap_used)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use super::{PipePool, Random, SCRATCH_BYTES, ThreadContext};
use crate::backend_state::{BackendState, Health};
use crate::config;
use crate::config::settings::Settings;
use crate::metrics::ListenerCounters;
use crate::pool::{Backend, Lends, LivePool, PoolHooks, PoolSlot, PoolView, Snapshot, SnapshotCell};
use crate::sys::poller::Poller;
use crate::sys::rlimits::raise_open_files;

/// One listener with a pool of its own, as the file says.
pub(crate) struct Trial {
    pub(crate) settings: Settings,
    pub(crate) snapshots: Arc<SnapshotCell>,
    pub(crate) live: Arc<LivePool>,
    pub(crate) backends: Vec<Arc<Backend>>,
    pub(crate) counters: Arc<ListenerCounters>,
}

impl Trial {
    /// Of a listener with these keys.
    pub(crate) fn new(listener: &str) -> Self {
        raise_open_files();
        let text = format!("listeners: {{ door: {{ bind: '127.0.0.1:1', {listener} }} }}");
        let settings = config::read("trial.yaml", text.as_bytes()).unwrap();
        let pool = Arc::new(settings.pools[0].clone());
        let hooks = PoolHooks {
            snapshots: std::sync::Weak::new(),
            deliver: Box::new(|_, _| {}),
            alarm: Box::new(|| {}),
        };
        let live = Arc::new(LivePool::new(&pool, PoolSlot(0), [0; 16], 1, hooks));
        let made = (1..).zip(&pool.backends).map(|(number, one)| Backend::new(number, &live, one, 1));
        let backends: Vec<Arc<Backend>> = made.map(Arc::new).collect();
        let standings = backends.iter().map(|_| BackendState::new(Health::Unchecked, 0)).collect();
        let view = PoolView::new(
            Arc::clone(&live),
            pool,
            backends.clone(),
            standings,
            "seed",
            None,
            Lends::default(),
        );
        let snapshots = Arc::new(SnapshotCell::new(Snapshot { generation: 1, pools: vec![Arc::new(view)] }));
        let proto = settings.listeners[0].protocol.word();
        let counters = Arc::new(ListenerCounters::new("door", proto, 0, 1));
        Self { settings, snapshots, live, backends, counters }
    }

    /// A new snapshot, as the publisher makes one when something changed.
    pub(crate) fn publish(&self) {
        let before = self.snapshots.load();
        let view = &before.pools[0];
        let view = view.with_states("seed", view.states.clone(), None);
        let generation = before.generation + 1;
        self.snapshots.store(Snapshot { generation, pools: vec![Arc::new(view)] });
    }

    /// The tools of one thread.
    pub(crate) fn cx(&self) -> ThreadContext {
        ThreadContext {
            worker: 0,
            poller: Arc::new(Poller::new().unwrap()),
            scratch: vec![0; SCRATCH_BYTES].into(),
            pipes: PipePool::new(0),
            snapshots: Arc::clone(&self.snapshots),
            now_us: 1_000_000,
            random: Random::new(7),
            shortage: None,
            give_permit_back: Box::new(|| {}),
            send_cancel: crate::thread_context::SendCancel::new(|_| false),
        }
    }
}

/// A socket where nothing ever comes.
pub(crate) fn quiet() -> OwnedFd {
    let socket = UnixDatagram::unbound().unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.into()
}
