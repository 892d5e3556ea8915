//! Every name of a file, asked for once: what `evenkeel check --resolve` shows. Nothing serves because of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::ask::Asker;
use super::files::Files;
use super::pool_sources::taken;
use super::resolver::{Ids, Resolver};
use super::source::Entry;
use super::watch::Answer;
use super::watches::begin;
use super::whole::shown;
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
    let asker = Asker::new(&settings.dns);
    let mut all = Vec::new();
    for pool in &settings.pools {
        for source in &pool.sources {
            let mut entry = Entry::new(source, &pool.discovery, &settings.dns, 0);
            let users =
                settings.listeners.iter().filter(|listener| settings.pools[listener.pool].name == pool.name);
            let doors: Vec<_> = users.flat_map(|listener| listener.bind.iter().copied()).collect();
            let taken = taken(pool, &doors);
            let told = match (entry.question(), begin(source, &asker)) {
                (Some(question), _) => {
                    let resolver = Resolver::by(&settings.dns, Some(&files), &ids);
                    entry.hear(resolver.answer(question).await, taken, 0, 0)
                }
                (None, Some(mut watch)) => {
                    let answer = timeout(ANSWER_MAX, watch.next(&Notify::new())).await;
                    let answer = answer.unwrap_or_else(|_| Answer::Failure("no answer for 10 s".to_owned()));
                    entry.hear_whole((answer, watch.may_name_loopback(), None), taken, 0, 0)
                }
                (None, None) => continue,
            };
            let refused = told.refused.iter().map(|(one, why)| format!("{one} is left out: {why}"));
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

/// For what one says that tells the whole.
const ANSWER_MAX: Duration = Duration::from_secs(10);

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
