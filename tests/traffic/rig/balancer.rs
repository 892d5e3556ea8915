//! A balancer inside this process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use evenkeel::config;
use evenkeel::config::settings::{LogSessions, Settings};
use evenkeel::metrics::{Direction, ListenerCounters};
use evenkeel::reason::Reason;
use evenkeel::server::{Changes, Environment, ReloadError, Server};
use evenkeel::sys::udp_probe::{self, Offloads};
use tokio::sync::oneshot;

use super::becomes;

/// Settings from a file's text. Ports below 100 become 0: any free one.
pub fn settings(yaml: &str) -> Settings {
    let mut settings = match config::read("test.yaml", yaml.as_bytes()) {
        Ok(settings) => settings,
        Err(mistakes) => panic!("{mistakes}"),
    };
    for bind in settings.listeners.iter_mut().flat_map(|listener| &mut listener.bind) {
        if bind.port < 100 {
            bind.port = 0;
        }
    }
    settings.log.sessions = LogSessions::Off;
    settings
}

/// A running balancer, stopped when dropped.
pub struct Balancer {
    server: Option<Arc<Server>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    runtime: tokio::runtime::Handle,
}

impl Balancer {
    pub fn start(yaml: &str) -> Self {
        Self::start_with(settings(yaml))
    }

    pub fn start_with(settings: Settings) -> Self {
        Self::start_on(settings, udp_probe::probe())
    }

    /// On a kernel that does so with datagrams.
    pub fn start_on(settings: Settings, offloads: Offloads) -> Self {
        let (started, has_started) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let with = Environment::embedded(7, offloads);
                let server = Server::start(&settings, &with).await.unwrap();
                let server = Arc::new(server);
                started.send((Arc::clone(&server), tokio::runtime::Handle::current())).unwrap();
                let _ = stopped.await;
                let server = Arc::into_inner(server).expect("the test holds no copy of the server");
                server.stop(std::future::pending()).await;
            });
        });
        let (server, runtime) = has_started.recv().expect("the server starts");
        Self { server: Some(server), stop: Some(stop), thread: Some(thread), runtime }
    }

    /// Serves another file from now on.
    pub fn reload(&self, yaml: &str) -> Result<Changes, ReloadError> {
        self.runtime.block_on(self.server().reload(settings(yaml)))
    }

    /// Runs something of the server's on its runtime.
    pub fn wait_for<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(what)
    }

    /// Asks the sources of all pools at once.
    pub fn refresh(&self) {
        self.runtime.block_on(self.server().refresh(None));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Where the first listener accepts.
    pub fn address(&self) -> SocketAddr {
        self.server().addresses()[0].1
    }

    /// The counters of the first listener.
    pub fn counters(&self) -> Arc<ListenerCounters> {
        let name = &self.server().addresses()[0].0;
        self.server().counters(name).unwrap()
    }

    pub fn ended(&self, reason: Reason) -> u64 {
        self.counters().shards.sum(|shard| shard.ended(reason).value())
    }

    pub fn begun(&self) -> u64 {
        self.counters().shards.sum(|shard| shard.begun.value())
    }

    pub fn active(&self) -> u64 {
        self.counters().shards.sum(|shard| shard.active.value())
    }

    pub fn bytes(&self, direction: Direction) -> u64 {
        self.counters().shards.sum(|shard| shard.bytes(direction).value())
    }

    pub fn retries(&self) -> u64 {
        self.server().snapshots().load().pools[0].live.shards.sum(|shard| shard.retries.value())
    }

    /// Of the first pool: what a backend's counters say.
    pub fn backend<T>(&self, index: usize, look: impl Fn(&evenkeel::pool::Backend) -> T) -> T {
        look(&self.server().snapshots().load().pools[0].backends[index])
    }

    /// Of the first pool: which backends are up.
    pub fn ups(&self) -> Vec<bool> {
        let snapshot = self.server().snapshots().load();
        snapshot.pools[0].states.iter().map(evenkeel::backend_state::BackendState::is_up).collect()
    }

    /// Of the first pool: which backends are ejected.
    pub fn ejected(&self) -> Vec<bool> {
        let snapshot = self.server().snapshots().load();
        snapshot.pools[0].states.iter().map(evenkeel::backend_state::BackendState::is_ejected).collect()
    }

    /// Sessions in line at the first pool.
    pub fn waiting(&self) -> u32 {
        self.server().snapshots().load().pools[0].live.waiting()
    }

    /// Every reason that counted something, as one text: what a failed assertion shows.
    pub fn reasons(&self) -> Vec<(&'static str, u64)> {
        let counted = Reason::ALL.into_iter().map(|reason| (reason.word(), self.ended(reason)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Waits until `count` sessions have ended for this reason, and nothing else has.
    #[track_caller]
    pub fn ends(&self, reason: Reason, count: u64) {
        becomes("reasons of the ended sessions", vec![(reason.word(), count)], || self.reasons());
        self.settles();
    }

    /// Waits until no session is left, and begun = sum over reasons, and every place has been given back.
    #[track_caller]
    pub fn settles(&self) {
        let ended = || Reason::ALL.into_iter().map(|reason| self.ended(reason)).sum::<u64>();
        becomes("active sessions", 0, || self.active());
        becomes("begun less ended", 0, || self.begun() as i64 - ended() as i64);
        becomes("places taken", 0, || self.server().workers().tcp_sessions());
        for pool in &self.server().snapshots().load().pools {
            becomes("places taken in the pool", 0, || pool.live.sessions());
            becomes("sessions in line", 0, || pool.live.waiting());
            for backend in &pool.backends {
                becomes("places taken at a backend", 0, || backend.load.active());
            }
        }
    }

    fn end(&mut self) {
        self.server = None;
        let _ = self.stop.take().unwrap().send(());
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.end();
        }
    }
}
