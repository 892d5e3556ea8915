//! The watch that each kind of source has, and the task that it runs in.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{AbortHandle, Id, JoinSet};

use super::ask::Asker;
use super::consul::ConsulWatch;
use super::docker::DockerWatch;
use super::http::HttpWatch;
use super::kubernetes::KubernetesWatch;
use super::list_file::FileWatch;
use super::watch::{Answer, Watch};
use crate::config::settings::{Source, SourceKind};

/// The watch of a source; `None`: it is asked by questions of DNS.
pub(super) fn begin(source: &Source, asker: &Asker) -> Option<Box<dyn Watch>> {
    let asker = || asker.clone();
    match &source.from {
        SourceKind::Name(_) | SourceKind::Services(_) => None,
        SourceKind::File(file) => Some(Box::new(FileWatch::new(file))),
        SourceKind::Http(http) => Some(Box::new(HttpWatch::new(http, asker()))),
        SourceKind::Consul(consul) => Some(Box::new(ConsulWatch::new(consul, asker()))),
        SourceKind::Docker(docker) => Some(Box::new(DockerWatch::new(docker, asker()))),
        SourceKind::Kubernetes(kubernetes) => Some(Box::new(KubernetesWatch::new(kubernetes, asker()))),
    }
}

/// What a watch said, and what it says of itself.
#[derive(Debug)]
pub(super) struct Said {
    /// The answer.
    pub(super) answer: Answer,
    /// This host's own loopback may be among it.
    pub(super) may_be_loopback: bool,
    /// For how long it is left alone after a failure, where it says so.
    pub(super) pause: Option<Duration>,
}

/// The watch of one entry. It ends with this.
#[derive(Default)]
pub(super) struct Watching {
    hurry: Arc<Notify>,
    running: Option<AbortHandle>,
    resting: Option<Box<dyn Watch>>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

impl Watching {
    /// It shall say something at once.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }
}

/// The tasks of all watches: each asks one for what it says next.
#[derive(Default)]
pub(super) struct Watches {
    running: JoinSet<(Box<dyn Watch>, Answer)>,
    numbers: HashMap<Id, u64>,
}

impl Watches {
    /// Asks the watch of this source, which is made where there is none (at first, and when one broke).
    pub(super) fn ask(&mut self, number: u64, watching: &mut Watching, (source, asker): (&Source, &Asker)) {
        let Some(mut watch) = watching.resting.take().or_else(|| begin(source, asker)) else { return };
        let hurry = Arc::clone(&watching.hurry);
        let task = self.running.spawn(async move {
            let answer = watch.next(&hurry).await;
            (watch, answer)
        });
        self.numbers.insert(task.id(), number);
        watching.running = Some(task);
    }

    /// The next that one of them says, and which: for ever nothing while none is asked.
    pub(super) async fn next(&mut self) -> (u64, Result<(Box<dyn Watch>, Answer), ()>) {
        loop {
            let (id, over) = match self.running.join_next_with_id().await {
                Some(Ok((id, over))) => (id, Ok(over)),
                Some(Err(error)) => (error.id(), Err(error)),
                None => std::future::pending().await,
            };
            let number = self.numbers.remove(&id);
            match (number, over) {
                (Some(number), Ok(over)) => return (number, Ok(over)),
                // Who let it go needs no answer.
                (Some(number), Err(error)) if !error.is_cancelled() => return (number, Err(())),
                _ => {}
            }
        }
    }
}

impl Watching {
    /// One has said something, or it broke: then it begins anew.
    pub(super) fn take(&mut self, over: Result<(Box<dyn Watch>, Answer), ()>) -> Said {
        self.running = None;
        match over {
            Ok((watch, answer)) => {
                let said = Said { answer, may_be_loopback: watch.may_name_loopback(), pause: watch.pause() };
                self.resting = Some(watch);
                said
            }
            Err(()) => Said {
                answer: Answer::Failure(
                    "its watch broke, which is a defect of evenkeel; it begins anew".to_owned(),
                ),
                may_be_loopback: false,
                pause: None,
            },
        }
    }
}
