//! Much through one session.

use std::hash::Hasher;
use std::io::Write;
use std::time::Instant;

use evenkeel::access::TrustedProxies;
use evenkeel::metrics::Direction;
use evenkeel::reason::Reason;
use siphasher::sip::SipHasher13;

use crate::rig::*;

const GIB: u64 = 1 << 30;

/// Sends `length` bytes of a repeated block and tells their checksum.
fn send(stream: &mut impl Write, length: u64, shift: usize) -> u64 {
    // An odd length, so that the block never lines up with a buffer.
    let block = &pattern((1 << 20) + 13)[shift..];
    let mut hasher = SipHasher13::new();
    let mut left = length;
    while left > 0 {
        let part = &block[..block.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        stream.write_all(part).unwrap();
        hasher.write(part);
        left -= part.len() as u64;
    }
    hasher.finish()
}

/// `up` bytes to the backend and `down` bytes back at the same time, each with its checksum.
fn carry(balancer_of: impl Fn(&Backend) -> std::net::SocketAddr, up: u64, down: u64) {
    let (sums, summed) = std::sync::mpsc::channel();
    let backend = Backend::start(move |mut stream| {
        let mut reader = stream.try_clone().unwrap();
        let reading = std::thread::spawn(move || sum_of(&mut reader));
        let sent = send(&mut stream, down, 3);
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        sums.send((reading.join().unwrap(), sent)).unwrap();
    });
    let mut client = connect(balancer_of(&backend));
    let mut reader = client.try_clone().unwrap();
    let reading = std::thread::spawn(move || sum_of(&mut reader));
    let sent = send(&mut client, up, 0);
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let got_down = reading.join().unwrap();
    let (got_up, sent_down) = summed.recv_timeout(DEADLINE).unwrap();
    assert_eq!(got_up, (up, sent));
    assert_eq!(got_down, (down, sent_down));
}

#[test]
fn a_gib_each_way_through_one_session() {
    let running = std::cell::RefCell::new(None);
    carry(
        |backend| {
            let balancer = Balancer::start(&format!(
                "workers: 1\nlisteners: {{ door: {{ bind: '127.0.0.1:1', backends: ['{}'], health: {{ check: off }} }} }}",
                backend.address
            ));
            let address = balancer.address();
            *running.borrow_mut() = Some(balancer);
            address
        },
        GIB,
        GIB,
    );
    let balancer = running.into_inner().unwrap();
    eventually("the session ends", || balancer.active() == 0);
    assert_eq!(balancer.bytes(Direction::ToBackend), GIB);
    assert_eq!(balancer.bytes(Direction::ToClient), GIB);
    assert_eq!(balancer.ended(Reason::ClientClosed) + balancer.ended(Reason::BackendClosed), 1);
}

/// Without a pipe the relay copies: for a user whose pipe pages are used up.
#[test]
fn bulk_without_pipes_is_copied() {
    use std::sync::Arc;

    use evenkeel::backend_state::{BackendState, Health};
    use evenkeel::listener::{self, Wanted};
    use evenkeel::pool::{Lends, LivePool, PoolHooks, PoolSlot, PoolView, Snapshot, SnapshotCell};
    use evenkeel::tcp::Terms;
    use evenkeel::worker::{self, Message, Plan, Workers};

    let mut thread = None;
    let thread_at = std::cell::RefCell::new(&mut thread);
    carry(
        |backend| {
            let settings = settings(&format!(
                "listeners: {{ door: {{ bind: '127.0.0.1:1', backends: ['{}'], health: {{ check: off }} }} }}",
                backend.address
            ));
            let pool = Arc::new(settings.pools[0].clone());
            let hooks = PoolHooks {
                snapshots: std::sync::Weak::new(),
                deliver: Box::new(|_, _| {}),
                alarm: Box::new(|| {}),
            };
            let live = Arc::new(LivePool::new(&pool, PoolSlot(0), [0; 16], 1, hooks));
            let backends = vec![Arc::new(evenkeel::pool::Backend::new(1, &live, &pool.backends[0], 1))];
            let states = vec![BackendState::new(Health::Unchecked, 0)];
            let view =
                PoolView::new(Arc::clone(&live), pool, backends, states, "seed", None, Lends::default());
            let snapshots =
                Arc::new(SnapshotCell::new(Snapshot { generation: 1, pools: vec![Arc::new(view)] }));
            let workers =
                Arc::new(Workers::new(1, 100, Arc::new(evenkeel::limits::Permits::new(None))).unwrap());
            let plan = Plan {
                worker: 0,
                workers: Arc::clone(&workers),
                snapshots,
                epoch: Instant::now(),
                seed: 1,
                pipe_budget_bytes: 0,
                pipes_max: 0,
                flow_hash_key: [0; 16],
                ports: Arc::new(evenkeel::udp::SharedPorts::new((40_000, 40_009), 1)),
                send_cancel: evenkeel::thread_context::SendCancel::new(|_| false),
                offloads: evenkeel::sys::udp_probe::probe(),
            };
            let counters = Arc::new(evenkeel::metrics::ListenerCounters::new("copying", "tcp", 0, 1));
            let listener = &settings.listeners[0];
            let terms = Terms::new(
                listener,
                &live,
                settings.log.sessions,
                (None, TrustedProxies::new(&[], &[])),
                counters,
            );
            let running = worker::spawn(plan, ()).unwrap();
            let wanted = Wanted { id: 1, listener, at: listener.bind[0], beside_own: false };
            let door = listener::bind(&[wanted], 1).unwrap().remove(0);
            let address = door.address;
            listener::open(door, &listener::Terms::Tcp(Arc::new(terms)), &workers);
            **thread_at.borrow_mut() = Some((workers, running));
            address
        },
        GIB / 4,
        GIB / 4,
    );
    let (workers, running) = thread.unwrap();
    workers.mailbox(0).post(Message::CloseDoors);
    workers.mailbox(0).post(Message::Leave);
    running.join().unwrap();
}
