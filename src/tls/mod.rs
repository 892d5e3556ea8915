//! TLS client, for health checks and for sources of backends: whom a server must be to be believed, and the handshake. Clients' own
//! traffic is never looked into.
//!
//! Files with authorities and certificates are read when they are first needed and anew when they have changed; those that this
//! host trusts, every ten minutes. All reading is done away from the thread that asks.

mod unverified;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::config::settings::{Pem, TlsTerms, Verify};
use unverified::{AnyName, Anybody};

/// Whom each `tls` believes, as it was read last.
#[derive(Debug, Default)]
pub struct Trust {
    known: Mutex<HashMap<Arc<TlsTerms>, Known>>,
}

#[derive(Debug, Clone)]
struct Known {
    config: Arc<ClientConfig>,
    stamps: Vec<Option<Stamp>>,
    read: Instant,
}

/// What a file looks like from outside: another one is another content.
type Stamp = (SystemTime, u64);

impl Trust {
    /// A handshake with a server at this address. The error is for people.
    pub async fn handshake(
        &self,
        terms: &Arc<TlsTerms>,
        address: IpAddr,
        socket: TcpStream,
    ) -> Result<TlsStream<TcpStream>, String> {
        let config = self.config(terms).await?;
        let name = match &terms.name {
            Some(name) => {
                ServerName::try_from(String::from(&**name)).map_err(|_| format!("`{name}` is no name"))?
            }
            None => ServerName::IpAddress(address.into()),
        };
        TlsConnector::from(config).connect(name, socket).await.map_err(|error| error.to_string())
    }

    async fn config(&self, terms: &Arc<TlsTerms>) -> Result<Arc<ClientConfig>, String> {
        let (stamps, now) = (stamps(terms), Instant::now());
        let is_fresh =
            |known: &&Known| known.stamps == stamps && (terms.ca.is_some() || now - known.read < SYSTEM_ANEW);
        if let Some(known) = self.lock().get(terms).filter(is_fresh) {
            return Ok(Arc::clone(&known.config));
        }
        let wanted = Arc::clone(terms);
        let read = tokio::task::spawn_blocking(move || config(&wanted)).await;
        let config = Arc::new(read.map_err(|error| error.to_string())??);
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            // Files that are written no more.
            known.clear();
        }
        known.insert(Arc::clone(terms), Known { config: Arc::clone(&config), stamps, read: now });
        Ok(config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<TlsTerms>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(terms: &TlsTerms) -> Vec<Option<Stamp>> {
    let own = terms.own.iter().flat_map(|(certificate, key)| [certificate, key]);
    let stamp = |pem: &Pem| {
        let Pem::File(path) = pem else { return None };
        let about = std::fs::metadata(&**path).ok()?;
        Some((about.modified().ok()?, about.len()))
    };
    terms.ca.iter().chain(own).map(stamp).collect()
}

/// Reads what is needed.
fn config(terms: &TlsTerms) -> Result<ClientConfig, String> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match terms.verify {
        Verify::Off => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody(Arc::clone(&provider))))
        }
        Verify::Full | Verify::Ca => {
            let roots = Arc::new(roots(terms.ca.as_ref())?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
            let verifier = verifier.map_err(|error| error.to_string())?;
            if terms.verify == Verify::Full {
                builder.with_webpki_verifier(verifier)
            } else {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName(verifier)))
            }
        }
    };
    let Some((certificate, key)) = &terms.own else { return Ok(builder.with_no_client_auth()) };
    let key_text = read(key)?;
    let key = PrivateKeyDer::from_pem_slice(&key_text).map_err(|error| format!("{}: {error}", shown(key)))?;
    builder.with_client_auth_cert(certificates(certificate)?, key).map_err(|error| error.to_string())
}

fn roots(ca: Option<&Pem>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (place, found) = match ca {
        Some(pem) => (shown(pem), certificates(pem)?),
        None => ("the system's store", rustls_native_certs::load_native_certs().certs),
    };
    let (added, _) = roots.add_parsable_certificates(found);
    if added == 0 {
        return Err(format!("no certificate authority is in {place}"));
    }
    Ok(roots)
}

fn certificates(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = read(pem)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| format!("{}: {error}", shown(pem)))?;
    if all.is_empty() { Err(format!("{} holds no certificate", shown(pem))) } else { Ok(all) }
}

/// Where it stands, for people.
fn shown(pem: &Pem) -> &str {
    match pem {
        Pem::File(path) => path,
        Pem::Text(_) => "what the kubeconfig holds",
    }
}

/// Reads no more than a file of certificates is long: it may be a device.
fn read(pem: &Pem) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let path = match pem {
        Pem::File(path) => &**path,
        Pem::Text(text) => return Ok(text.to_vec()),
    };
    let mut text = Vec::new();
    let read =
        std::fs::File::open(Path::new(path)).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut text));
    read.map(|_| text).map_err(|error| format!("{path}: {error}"))
}

/// How long what this host trusts is believed to be as it was.
const SYSTEM_ANEW: Duration = Duration::from_secs(600);
/// The system's store has 200 KiB.
const PEM_BYTES_MAX: u64 = 4 << 20;
/// Different `tls` sections in one file, and some that left it.
const KNOWN_MAX: usize = 1024;
