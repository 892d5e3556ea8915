//! Every name of a file, asked for once: what `evenkeel check --resolve` shows. Nothing serves because of it.

use std::sync::Arc;

use super::choice::Taken;
use super::files::Files;
use super::resolver::{Ids, Resolver};
use super::source::{Entry, shown};
use crate::config::settings::{Backend, Settings};

/// What came of one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The name of its pool.
    pub pool: String,
    /// The entry of the file.
    pub source: String,
    /// The backends, each with its address for people.
    pub backends: Vec<(String, Backend)>,
    /// How it stands, by its word, and why.
    pub state: (&'static str, Option<String>),
}

/// Asks for all names, one after the other.
pub async fn resolve_once(settings: &Settings) -> Vec<Resolved> {
    let files = Files::new(&settings.dns);
    let ids = Arc::<Ids>::default();
    let mut all = Vec::new();
    for pool in &settings.pools {
        for source in &pool.sources {
            let mut entry = Entry::new(source, &pool.discovery, &settings.dns, 0);
            let resolver = Resolver::by(&settings.dns, Some(&files), &ids);
            let looked = resolver.look(source.host.clone(), entry.families()).await;
            let users =
                settings.listeners.iter().filter(|listener| settings.pools[listener.pool].name == pool.name);
            let doors: Vec<_> = users.flat_map(|listener| listener.bind.iter().copied()).collect();
            let (networks, from) = (&*pool.discovery.networks, &pool.connect_from);
            let taken = Taken { networks, doors: &doors, from };
            let told = entry.hear(looked, taken, 0, 0);
            let refused = told.refused.iter().map(|(ip, why)| format!("{ip} is left out: {why}"));
            let found = entry.backends(&settings.hash_seed);
            let (standing, _, why) = entry.standing();
            let whys: Vec<String> = why.map(str::to_owned).into_iter().chain(refused).collect();
            all.push(Resolved {
                pool: pool.name.clone(),
                source: source.text.clone(),
                state: (standing.word(), (!whys.is_empty()).then(|| whys.join("; "))),
                backends: found.into_iter().map(|one| (shown(one.ip, one.port), one)).collect(),
            });
        }
    }
    all
}

/// The settings with what was found behind the backends of the file, each name once.
pub fn with_resolved(settings: &Settings, looked: &[Resolved]) -> Settings {
    let mut settings = settings.clone();
    for one in looked {
        let Some(pool) = settings.pools.iter_mut().find(|pool| pool.name == one.pool) else { continue };
        for (_, backend) in &one.backends {
            if !pool.backends.iter().any(|there| there.name == backend.name) {
                pool.backends.push(backend.clone());
            }
        }
    }
    settings
}
