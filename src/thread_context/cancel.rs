//! Request to cancel (PostgreSQL CancelRequest) on its way from a data thread, which waits for nothing, to whoever brings it to
//! backends.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::metrics::ListenerCounters;
use crate::sys::tcp::Origin;

/// A request, and everybody who is to have it.
#[derive(Debug)]
pub struct Cancel {
    /// The client's socket, which is closed when it was delivered: that is the only answer there is. `None`: no descriptor was
    /// left to wait with.
    pub client: Option<OwnedFd>,
    /// The whole of it.
    pub request: Arc<[u8]>,
    /// Whom to bring it to; those that serve come first.
    pub to: Vec<CancelTo>,
    /// Where it is counted.
    pub counters: Arc<ListenerCounters>,
    /// By which thread.
    pub worker: usize,
}

/// One backend that is to have a request.
#[derive(Debug)]
pub struct CancelTo {
    /// Where it is.
    pub address: SocketAddr,
    /// Where it is dialled from.
    pub from: Origin,
    /// The PROXY header that it wants in front; empty: none.
    pub header: Box<[u8]>,
    /// It is up, as far as is known, and not ejected.
    pub serves: bool,
}

/// Takes requests on their way.
#[derive(Clone)]
pub struct SendCancel(Arc<dyn Fn(Cancel) -> bool + Send + Sync>);

impl SendCancel {
    /// By this, which never waits, and says whether there was room.
    pub fn new(send: impl Fn(Cancel) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(send))
    }

    /// False: too many are on their way.
    pub fn send(&self, cancel: Cancel) -> bool {
        (self.0)(cancel)
    }
}

impl fmt::Debug for SendCancel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SendCancel")
    }
}
