//! Admission of a client: a session's client is known: may it come in (ACL, limits)?
//!
//! Asked once for each session, before any backend is looked at. What was taken here is held by the session until its
//! end. A listener without lists and limits has no entry, and its sessions pay nothing for it.

use std::net::IpAddr;
use std::sync::Arc;

use super::session::{Next, Session};
use super::{ThreadContext, Token, first_message};
use crate::access::SharedAccess;
use crate::limits::{Permit, SessionLimits};
use crate::reason::Reason;

/// What stands between a client and a backend.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Who may come in; `None`: everyone.
    access: Option<Arc<SharedAccess>>,
    /// How many, and how fast; `None`: any number.
    limits: Option<SessionLimits>,
}

impl Admission {
    /// `None`: there is nothing to ask.
    pub fn new(access: Option<Arc<SharedAccess>>, limits: Option<SessionLimits>) -> Option<Self> {
        (access.is_some() || limits.is_some()).then_some(Self { access, limits })
    }

    /// Who may come in; `None`: everyone.
    pub fn access(&self) -> Option<&Arc<SharedAccess>> {
        self.access.as_ref()
    }

    /// What limits the sessions.
    pub fn limits(&self) -> Option<&SessionLimits> {
        self.limits.as_ref()
    }

    /// The place of a client that may come in; why it may not. `judged`: only the limits are left to be asked.
    fn judge(&self, client: IpAddr, judged: bool, now_ns: u64) -> Result<Option<Permit>, Reason> {
        if !judged && self.access.as_ref().is_some_and(|access| !access.allows(client)) {
            return Err(Reason::Denied);
        }
        self.limits.as_ref().map(|limits| limits.take(client, now_ns)).transpose()
    }

    /// The place of a session that was there before this process.
    pub(super) fn import(&self, client: IpAddr) -> Option<Permit> {
        self.limits.as_ref().map(|limits| limits.import(client))
    }

    fn give_back(&self, permit: Permit) {
        if let Some(limits) = &self.limits {
            limits.give_back(permit);
        }
    }
}

/// Lets the session's client in, and picks and dials; or ends the session.
pub(super) fn begin(session: &mut Session, backend_token: Token, cx: &mut ThreadContext) -> Next {
    if let Some(admission) = &session.terms.admission {
        // A proxy that speaks for itself passes as what it is.
        let judged = session.proxied.as_ref().is_some_and(|proxied| proxied.is_the_client());
        match admission.judge(session.client_address.ip(), judged, cx.now_us * 1_000) {
            Ok(permit) => session.permit = permit,
            Err(reason) => return Next::End(reason),
        }
    }
    first_message::begin(session, backend_token, cx)
}

/// Gives back what the session was let in with.
pub(super) fn leave(session: &mut Session) {
    if let (Some(admission), Some(permit)) = (&session.terms.admission, session.permit.take()) {
        admission.give_back(permit);
    }
}
