//! Protocols that a check can speak over a line of its own: from the settings of a check to the dialogue that is held.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::dialogue::Dialogue;
use super::line::Opening;
use super::mongodb::Mongodb;
use super::mysql::Mysql;
use super::postgres::{Postgres, Remembered};
use crate::base64;
use crate::config::settings::{Check, Health, SendProxy, Tls, TlsTerms};
use crate::proxy_protocol::{self, Transport};

/// One server's line, as a check like this one opens it.
#[derive(Debug)]
pub(super) struct Spoken {
    health: Arc<Health>,
    remembered: Arc<Remembered>,
    /// The server was found to lack functions of the whole question.
    is_plain: Arc<AtomicBool>,
}

impl Spoken {
    /// `None`: a check of this kind keeps no line.
    pub(super) fn by(health: &Arc<Health>, remembered: &Arc<Remembered>) -> Option<Box<dyn Opening>> {
        match health.check {
            Check::Postgres(_) | Check::Mysql(_) | Check::Mongodb(_) => {
                let (health, remembered) = (Arc::clone(health), Arc::clone(remembered));
                Some(Box::new(Self { health, remembered, is_plain: Arc::default() }))
            }
            Check::Off
            | Check::Tcp
            | Check::TcpTalk { .. }
            | Check::TcpRoles { .. }
            | Check::Patroni
            // It is asked with others.
            | Check::Redis(_)
            | Check::Udp { .. }
            | Check::Dns { .. } => None,
        }
    }

    fn tls(&self) -> &Tls {
        match &self.health.check {
            Check::Postgres(postgres) => &postgres.tls,
            Check::Mysql(mysql) => &mysql.tls,
            Check::Mongodb(mongodb) => &mongodb.tls,
            _ => &Tls::Off,
        }
    }
}

impl Opening for Spoken {
    fn dialogue(&self) -> Option<Box<dyn Dialogue>> {
        match &self.health.check {
            Check::Postgres(check) => {
                let (remembered, is_plain) = (Arc::clone(&self.remembered), Arc::clone(&self.is_plain));
                Some(Box::new(Postgres::new(check.clone(), nonce()?, remembered, is_plain)))
            }
            Check::Mysql(check) => Some(Box::new(Mysql::new(check.clone()))),
            Check::Mongodb(check) => Some(Box::new(Mongodb::new(check.tls != Tls::Off))),
            _ => None,
        }
    }

    fn header(&self) -> Vec<u8> {
        header(self.health.send_proxy, Transport::Stream)
    }

    fn terms(&self) -> Arc<TlsTerms> {
        match self.tls() {
            Tls::On(terms) => Arc::clone(terms),
            Tls::Off | Tls::Try => Arc::new(TlsTerms::ANYBODY),
        }
    }

    fn keep(&self) -> Option<Duration> {
        self.health.keep
    }
}

/// The PROXY header in front of a check: nobody is handed on.
pub(super) fn header(send_proxy: SendProxy, transport: Transport) -> Vec<u8> {
    match send_proxy {
        SendProxy::Off => Vec::new(),
        SendProxy::V1 => proxy_protocol::encode_v1(None),
        SendProxy::V2 => proxy_protocol::encode_v2(None, transport, &[]),
    }
}

/// Eighteen bytes that nobody can guess, as text. `None`: the kernel gives none.
fn nonce() -> Option<String> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(base64::encode(&bytes))
}
