//! Admin doors, HTTP listener and Unix socket: bound before anything is served, replaced when the file gives them
//! another address.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::control::{Control, ServedHttp, ServedSocket, lock};
use super::error::{HttpError, SocketError};
use super::terms::{access_of, foresee, route_of};
use crate::admin::{self, Entry, Offers, Socket, Sources};
use crate::config::settings::{AdminSocket, Settings};
use crate::reason::Reason;

/// A bound HTTP door, and what ends it.
#[derive(Debug)]
pub(super) struct HttpDoor {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) stop: CancellationToken,
}

impl HttpDoor {
    /// The door that the file asks for; `None`: it asks for none.
    pub(super) async fn bind(settings: &Settings, offers: Offers) -> Result<Option<Self>, HttpError> {
        let Some(address) = http_address_of(settings, offers) else { return Ok(None) };
        let failed = |source| HttpError { key: offers.key(), address, source };
        let listener = admin::bind(address, offers).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Some(Self { listener, address, stop: CancellationToken::new() }))
    }

    /// The door that another process had.
    pub(super) fn import(fd: OwnedFd) -> std::io::Result<Self> {
        let listener = TcpListener::from(fd);
        let address = listener.local_addr()?;
        Ok(Self { listener, address, stop: CancellationToken::new() })
    }
}

/// Where the file wants it.
pub(super) fn http_address_of(settings: &Settings, offers: Offers) -> Option<SocketAddr> {
    match offers {
        Offers::Everything => settings.admin.http,
        Offers::Readiness => settings.admin.ready,
    }
}

/// A bound socket of the commands.
pub(super) struct SocketDoor {
    pub(super) socket: Socket,
    pub(super) path: PathBuf,
}

impl SocketDoor {
    /// The socket that another process had.
    pub(super) fn import(fd: OwnedFd, path: PathBuf) -> std::io::Result<Self> {
        Ok(Self { socket: admin::adopt_socket(fd, &path)?, path })
    }

    /// The socket that the file asks for, `usual` where it leaves that open. One that was not asked for by name may fail
    /// with a warning.
    pub(super) fn bind(settings: &Settings, usual: Option<&Path>) -> Result<Option<Self>, SocketError> {
        let (path, asked) = match &settings.admin.socket {
            AdminSocket::Off => return Ok(None),
            AdminSocket::Path(path) => (PathBuf::from(path), true),
            AdminSocket::Auto => match usual {
                Some(path) => (path.to_owned(), false),
                None => {
                    tracing::warn!(target: "evenkeel", "no admin socket: there is neither /run/evenkeel nor XDG_RUNTIME_DIR; admin.socket names a place for it, or `off`");
                    return Ok(None);
                }
            },
        };
        match admin::bind_socket(&path) {
            Ok(socket) => Ok(Some(Self { socket, path })),
            Err(source) if asked => Err(SocketError { path, source }),
            Err(error) => {
                let path = path.display();
                tracing::warn!(target: "evenkeel", %path, %error, "the commands cannot reach this balancer: no admin socket; admin.socket names another place, or `off`");
                Ok(None)
            }
        }
    }
}

impl Control {
    pub(super) fn http_address(&self, offers: Offers) -> Option<SocketAddr> {
        lock(&self.http)[offers as usize].as_ref().map(|http| http.address)
    }

    /// The listening socket of an HTTP door.
    pub(super) fn http_socket(&self, offers: Offers) -> Option<RawFd> {
        lock(&self.http)[offers as usize].as_ref().map(|http| http.fd)
    }

    /// Another process answers the commands now: its socket's file stays.
    pub(super) fn leave_socket_file(&self) {
        if let Some(socket) = &*lock(&self.socket) {
            socket.stays.set();
        }
    }

    /// Answers at no HTTP door any more.
    pub(super) fn end_http(&self) {
        Offers::ALL.into_iter().for_each(|offers| self.serve_http(offers, None));
    }

    /// Answers at this HTTP door from now on, and at no other that offers the same.
    pub(super) fn serve_http(&self, offers: Offers, door: Option<HttpDoor>) {
        let now = door.as_ref().map(|door| ServedHttp {
            address: door.address,
            fd: door.listener.as_raw_fd(),
            stop: door.stop.clone(),
        });
        if let Some(before) = std::mem::replace(&mut lock(&self.http)[offers as usize], now) {
            before.stop.cancel();
        }
        let Some(HttpDoor { listener, stop, .. }) = door else { return };
        self.tasks.spawn_on(admin::serve(listener, offers, Arc::new(self.sources()), stop), &self.admin);
    }

    /// What the admin doors tell.
    pub(super) fn sources(&self) -> Sources {
        let [served, doors, named, routed] = [(); 4].map(|()| Arc::clone(&self.served));
        let (withdrawal, file_number) = (Arc::clone(&self.withdrawal), Arc::clone(&self.file_number));
        let (files, run_time) = (Arc::clone(&self.network_files), Arc::clone(&self.run_time));
        Sources {
            snapshots: Arc::clone(&self.snapshots),
            discovery: Arc::clone(&self.discovery.board),
            listeners: Arc::clone(&self.listeners),
            workers: Arc::clone(&self.workers),
            phase: self.phase.subscribe(),
            gate: Arc::clone(&self.gate),
            texts: Arc::clone(&self.texts),
            log_lines_dropped: Arc::clone(&self.log_lines_dropped),
            reloads: Arc::clone(&self.reloads),
            watchers: Arc::clone(&self.watchers),
            epoch: self.epoch,
            last_numbers: self.last_numbers,
            addresses: Box::new(move || lock(&served).addresses()),
            refuses: Box::new(move |name, client, now_ns| {
                let Some(terms) = lock(&doors).terms.get(name).cloned() else { return Entry::default() };
                let access = access_of(&terms);
                let denied = access.is_some_and(|access| !access.allows(client)).then_some(Reason::Denied);
                let why = access.map(|access| access.why(client));
                Entry { refused: denied.or_else(|| foresee(&terms, client, now_ns)), why }
            }),
            run_time: Box::new(move || run_time.current().changes),
            route: Box::new(move |name, facts| {
                let terms = lock(&routed).terms.get(name).cloned()?;
                Some(route_of(&terms, facts))
            }),
            withdrawn: Box::new(move || withdrawal.current()),
            network_files: Box::new(move || files.rows()),
            file_number: Box::new(move || file_number.load(Ordering::Relaxed)),
            has_host: Box::new(move |name| lock(&named).settings.admin.hosts.iter().any(|host| host == name)),
        }
    }

    /// Answers at this socket from now on, and at no other.
    pub(super) fn serve_socket(self: &Arc<Self>, door: Option<SocketDoor>) {
        let stop = CancellationToken::new();
        let now = door.as_ref().map(|door| ServedSocket {
            path: door.path.clone(),
            fd: door.socket.number(),
            stays: door.socket.stays(),
            stop: stop.clone(),
        });
        if let Some(before) = std::mem::replace(&mut *lock(&self.socket), now) {
            before.stop.cancel();
        }
        let Some(SocketDoor { socket, path }) = door else { return };
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let serving = admin::serve_socket(socket, Arc::new(self.sources()), requests, stop);
        self.tasks.spawn_on(serving, &self.admin);
        self.tasks.spawn(Arc::clone(self).obey(inbox));
        tracing::info!(target: "evenkeel", path = %path.display(), "admin.socket is ready: evenkeel status");
    }

    /// The socket of the new file is the one there is, perhaps said in another way.
    pub(super) fn has_socket_of(&self, before: &Settings, settings: &Settings) -> bool {
        let place = |settings: &Settings| match &settings.admin.socket {
            AdminSocket::Off => None,
            AdminSocket::Auto => self.usual_socket.clone(),
            AdminSocket::Path(path) => Some(PathBuf::from(path)),
        };
        let asked = place(settings);
        before.admin.socket == settings.admin.socket || (asked.is_some() && asked == self.socket_path())
    }

    /// Where the commands reach it.
    pub(super) fn socket_path(&self) -> Option<PathBuf> {
        lock(&self.socket).as_ref().map(|socket| socket.path.clone())
    }

    /// The socket of the commands, and where it is.
    pub(super) fn admin_socket(&self) -> Option<(RawFd, String)> {
        let socket = lock(&self.socket);
        let socket = socket.as_ref()?;
        Some((socket.fd, socket.path.to_str()?.to_owned()))
    }
}

/// Orders on their way; whoever gives one waits.
const REQUESTS_MAX: usize = 64;
