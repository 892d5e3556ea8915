//! Predecessor: whom this process follows: nobody, the process that started it to hand everything over, or one that has
//! gone and left everything with the service manager. Finds it, reads what is to be served, and takes everything over.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::giver::Giver;
use super::receive::Inherited;
use super::spawn::HANDOVER_VARIABLE;
use crate::config::{self, RunTimeChange, settings::Settings};
use crate::publisher::{Pickers, build_ahead};
use crate::server::Server;
use crate::server::config_file::{read_changed, read_document};
use crate::server::environment::{Document, Environment};
use crate::server::error::Refused;
use crate::server::{network_files, run_time, secrets};
use crate::sys::process;
use crate::transfer::{Bundle, BundleError, Channel, First, Stash};

/// Where everything comes from.
pub enum Predecessor {
    /// Nowhere.
    Nobody,
    /// The process at the other end of a channel.
    Process(Channel),
    /// A process that has gone.
    Gone(Stashed),
}

/// What a process that has gone left with the service manager.
pub struct Stashed {
    bundle: Box<Bundle>,
    stash: Arc<Stash>,
}

/// What this process begins with.
#[derive(Debug)]
pub struct Beginning {
    /// The file, or what was served before where the file is refused.
    pub document: Document,
    /// Why the file is not served.
    pub refused: Option<Refused>,
}

/// What is taken over.
struct Taken {
    /// What was served.
    served: Document,
    /// Everything live.
    inherited: Inherited,
    /// Waits to hear that it is served.
    giver: Option<Arc<Channel>>,
}

impl Stashed {
    /// What is in the stash, which stays there until it is gone on with. On an error the stash is empty.
    pub fn look(stash: &Arc<Stash>) -> Result<Option<Self>, BundleError> {
        let bundle = stash.look().inspect_err(|_| stash.clear())?;
        Ok(bundle.map(|bundle| Self { bundle: Box::new(bundle), stash: Arc::clone(stash) }))
    }
}

impl Predecessor {
    /// Whom the environment of the process names.
    pub fn find(stashed: Option<Stashed>) -> std::io::Result<Self> {
        if let Ok(descriptors) = std::env::var(HANDOVER_VARIABLE) {
            process::make_room(descriptors.parse().unwrap_or(0));
            return Ok(Self::Process(process::take_standard_input().and_then(Channel::new)?));
        }
        Ok(stashed.map_or(Self::Nobody, Self::Gone))
    }

    /// Reads the file. Where it is refused, what a process that has gone had served does as well.
    /// Where there is nobody, `kept` is where is written what was changed at run time.
    pub fn read(&self, paths: &[PathBuf], kept: Option<&Path>) -> Result<Beginning, Refused> {
        let changes = match self {
            Self::Nobody => kept.map(run_time::read).unwrap_or_default(),
            Self::Process(_) | Self::Gone(_) => Vec::new(),
        };
        let refused = match with_changes(paths, &changes) {
            Ok(document) => return Ok(Beginning { document, refused: None }),
            Err(refused) => refused,
        };
        if let Self::Gone(Stashed { bundle, .. }) = self
            && let Some(document) = carried(bundle)
        {
            return Ok(Beginning { document, refused: Some(refused) });
        }
        Err(refused)
    }

    /// A process before that is still there hears why it cannot be followed, and goes on.
    pub async fn refuse(&self, refused: &Refused) {
        if let Self::Process(channel) = self {
            // It notices anyhow when this process ends.
            let _ = channel.say_refused(&format!("the configuration is refused: {refused}")).await;
        }
    }

    /// Starts a balancer that begins, or goes on with what the predecessor had; then the file as it is now is served.
    pub async fn start(self, beginning: Beginning, mut with: Environment) -> Result<Server, String> {
        let Beginning { document, refused } = beginning;
        document.warn();
        let Some(Taken { served, inherited, giver }) = self.take(&document).await? else {
            let server = Server::start(&document.settings, &with).await.map_err(|error| error.to_string())?;
            for over in &document.over {
                tracing::info!(target: "evenkeel", "a change at run time ends: {over}");
            }
            // What ended, or does not go together with the file, is not to come back.
            server.keep_changes().await;
            return Ok(server);
        };
        with.file.text = Arc::clone(&served.text);
        with.file.names = Arc::clone(&served.files);
        with.file.base = Arc::clone(&served.base);
        with.file.changes = Arc::clone(&served.changes);
        let server = Server::take_over(&served.settings, &with, inherited).await;
        let server = server.map_err(|error| error.to_string())?;
        match refused {
            Some(refused) => server.note_refused(&refused),
            // What came of it is in the log; a file that cannot be served leaves what was served before.
            None if served.base != document.base => drop(server.reload_file().await),
            // The same from other files.
            None => server.now_from(document.files),
        }
        server.keep_changes().await;
        server.drain_orphans();
        if let Some(giver) = giver {
            giver.say_serving().await;
        }
        Ok(server)
    }

    /// Takes everything, and with it the settings it was served with, as far as this process can take those over. `None`:
    /// there is nobody.
    async fn take(self, document: &Document) -> Result<Option<Taken>, String> {
        let (bundle, giver, pickers) = match self {
            Self::Nobody => return Ok(None),
            Self::Process(channel) => {
                // Before it says that it is ready: where the process before does not know of preparing, sessions stand still for it
                // from then on.
                let pickers = build_ahead(&document.settings);
                let first = async {
                    channel.say_ready().await?;
                    channel.receive_first().await
                };
                let first = first.await.map_err(|error| format!("nothing is taken over: {error}"))?;
                let channel = Arc::new(channel);
                match first {
                    First::Prepare { bundle, precopies } => {
                        (bundle, Giver::Serving { channel, precopies }, pickers)
                    }
                    First::All(bundle) => (bundle, Giver::Standing(channel), pickers),
                }
            }
            Self::Gone(Stashed { bundle, stash }) => (*bundle, Giver::Manager(stash), Pickers::new()),
        };
        let (carried, waits) = (carried(&bundle), giver.process());
        let inherited = Inherited::new(bundle, giver, pickers);
        let mut served = carried.unwrap_or_else(|| document.clone());
        begin_anew(&mut served.settings, &document.settings);
        Ok(Some(Taken { served, inherited, giver: waits }))
    }
}

/// The file with what was changed at run time. Where the two do not go together, the file alone.
fn with_changes(paths: &[PathBuf], changes: &[RunTimeChange]) -> Result<Document, Refused> {
    match read_changed(paths, changes) {
        Err(why) if !changes.is_empty() => {
            let mut document = read_document(paths)?;
            let told = "what was changed at run time does not go together with the file, and is forgotten";
            document.warnings.push(format!("{told}: {why}"));
            Ok(document)
        }
        read => read,
    }
}

/// What was served before. `None`: this program does not understand it; then the file has to do.
fn carried(bundle: &Bundle) -> Option<Document> {
    let manifest = &bundle.manifest;
    // What cannot be read any more is no reason to serve nobody.
    let secret = |source: &_| Ok(secrets::read(source).unwrap_or_else(|_| b"(unread)".to_vec()));
    // What they stood for then is in the text.
    // Of a file of networks that is wrong now, what can be read: `allow` lets those in.
    let networks = |path: &_| Ok(config::good_networks(&network_files::read(path).unwrap_or_default()));
    let reads = config::Reads { secret, variable: |_| None, networks };
    let text = manifest.head.config.as_bytes();
    let settings = config::read_with(&manifest.head.config_path, text, reads).ok()?.settings;
    let text: Arc<str> = manifest.head.config.as_str().into();
    let files = manifest.head.config_path.split(", ").map(str::to_owned).collect();
    let changes = manifest.head.run_time.as_deref().and_then(run_time::decode).unwrap_or_default();
    let base = manifest.head.base.as_deref().map_or_else(|| Arc::clone(&text), Arc::from);
    Some(Document {
        settings,
        text,
        base,
        changes: changes.into(),
        over: Vec::new(),
        files,
        variables: Vec::new(),
        ignored: Vec::new(),
        warnings: Vec::new(),
    })
}

/// What a reload cannot change comes from the new file at once.
fn begin_anew(before: &mut Settings, new: &Settings) {
    before.workers = new.workers;
    before.log.format = new.log.format;
    // Passwords are not handed over.
    for pool in &mut before.pools {
        if let Some(now) = new.pools.iter().find(|now| now.name == pool.name) {
            pool.health.check.take_secrets(&now.health.check);
        }
    }
}
