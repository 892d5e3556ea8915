//! A command worked into the changes that there are.

use std::sync::Arc;

use super::super::document::{Node, parse};
use super::super::mistake::{Report, quoted};
use super::super::written::node_text;
use super::{RunTimeChange, RunTimeHow, address_of, backends_of, items, name_of, same};

/// What somebody wants changed, and who.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunTimeCommand {
    /// The name of the pool.
    pub pool: String,
    /// What becomes of its backends.
    pub wish: RunTimeWish,
    /// Who wants it, for people.
    pub by: Arc<str>,
    /// Now, in seconds since 1970.
    pub now_s: u64,
}

/// What is wanted of the backends of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunTimeWish {
    /// More of them.
    Add {
        /// Where they answer.
        addresses: Vec<String>,
        /// What else the file would say of each.
        keys: Vec<(String, String)>,
    },
    /// One fewer.
    Remove {
        /// Its name.
        backend: String,
    },
    /// Other values.
    Set {
        /// Its name.
        backend: String,
        /// By their keys.
        keys: Vec<(String, String)>,
    },
    /// What the file says.
    Reset {
        /// Its name; `None`: of the whole pool.
        backend: Option<String>,
    },
}

/// Why a command cannot be carried out, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunTimeError {
    /// What it names is not there.
    #[error("{0}")]
    NoSuch(String),
    /// It is, and this cannot be done with it.
    #[error("{0}")]
    NotPossible(String),
}

impl From<String> for RunTimeError {
    fn from(why: String) -> Self {
        Self::NotPossible(why)
    }
}

/// The changes that there are with this command; or why it cannot be. `base`: the file as it is served, without changes.
pub fn edited(
    before: &[RunTimeChange],
    command: &RunTimeCommand,
    base: &str,
) -> Result<Vec<RunTimeChange>, RunTimeError> {
    let tree = parse(base, 0, &mut Report::default());
    let list = tree.as_ref().and_then(|tree| backends_of(tree, &command.pool));
    let list =
        list.ok_or_else(|| RunTimeError::NoSuch(format!("there is no pool {}", quoted(&command.pool))))?;
    let mut edit = Edit { changes: before.to_vec(), command, in_file: items(list) };
    match &command.wish {
        RunTimeWish::Add { addresses, keys } => {
            if addresses.len() > 1 && keys.iter().any(|(key, _)| key == "name") {
                return Err("`name` is of one backend, and several addresses are given".to_owned().into());
            }
            addresses.iter().try_for_each(|address| edit.add(address, keys))?;
        }
        RunTimeWish::Remove { backend } => edit.remove(backend)?,
        RunTimeWish::Set { backend, keys } => edit.set(backend, keys)?,
        RunTimeWish::Reset { backend } => edit.reset(backend.as_deref())?,
    }
    if edit.changes.len() > CHANGES_MAX {
        return Err(format!(
            "{CHANGES_MAX} backends are changed at run time already; write what is to stay into the file and reload, or `evenkeel reset` some"
        ).into());
    }
    Ok(edit.changes)
}

struct Edit<'a> {
    changes: Vec<RunTimeChange>,
    command: &'a RunTimeCommand,
    in_file: &'a [Node],
}

impl Edit<'_> {
    fn add(&mut self, address: &str, keys: &[(String, String)]) -> Result<(), RunTimeError> {
        let name = keys.iter().find(|(key, _)| key == "name").map_or(address, |(_, name)| name);
        if let Some(at) = self.position(name)
            && matches!(self.changes[at].how, RunTimeHow::Removed { .. })
        {
            // It is there again, as the file has it.
            self.changes.remove(at);
            let mut others: Vec<_> =
                keys.iter().filter(|(key, value)| !(key == "name" && value == name)).cloned().collect();
            let in_file = self.in_file.iter().find(|item| name_of(item) == Some(name));
            if in_file
                .and_then(address_of)
                .is_some_and(|there| !same(there, address) && there != address && name != address)
            {
                others.push(("address".to_owned(), address.to_owned()));
            }
            return if others.is_empty() { Ok(()) } else { self.set(name, &others) };
        }
        if self.position(name).is_some() || self.of_file(name).is_some() {
            let whole = self.whole(name);
            return Err(
                format!("{whole} is there already; `evenkeel set {whole} KEY=VALUE` changes it").into()
            );
        }
        let there = self.in_file.iter().find(|item| address_of(item).is_some_and(|one| same(one, address)));
        if let Some(there) = there.and_then(name_of) {
            let whole = self.whole(there);
            let is_removed = self
                .position(there)
                .is_some_and(|at| matches!(self.changes[at].how, RunTimeHow::Removed { .. }));
            if is_removed {
                return Err(format!(
                    "{} was removed at run time as {whole}; `evenkeel reset {whole}` brings it back",
                    quoted(address)
                )
                .into());
            }
            return Err(format!("{} is there already, as {whole}", quoted(address)).into());
        }
        let how = RunTimeHow::Added { address: address.to_owned(), keys: keys.to_vec() };
        self.push(name, how);
        Ok(())
    }

    fn remove(&mut self, name: &str) -> Result<(), RunTimeError> {
        let known = self.position(name);
        if let Some(at) = known {
            match &self.changes[at].how {
                RunTimeHow::Added { .. } => {
                    self.is_not_the_last()?;
                    self.changes.remove(at);
                    return Ok(());
                }
                RunTimeHow::Removed { .. } => {
                    let whole = self.whole(name);
                    return Err(format!(
                        "{whole} is removed already; `evenkeel reset {whole}` brings it back"
                    )
                    .into());
                }
                RunTimeHow::Set { .. } => {}
            }
        }
        let was = self.of_file(name).ok_or_else(|| self.nobody(name))?;
        self.is_not_the_last()?;
        if let Some(at) = known {
            self.changes.remove(at);
        }
        self.push(name, RunTimeHow::Removed { was });
        Ok(())
    }

    fn set(&mut self, name: &str, keys: &[(String, String)]) -> Result<(), RunTimeError> {
        if keys.iter().any(|(key, _)| key == "name") {
            return Err("a backend is known by its name: add one of another name, and remove this one"
                .to_owned()
                .into());
        }
        let Some(at) = self.position(name) else {
            let was = self.of_file(name).ok_or_else(|| self.nobody(name))?;
            self.push(name, RunTimeHow::Set { keys: keys.to_vec(), was });
            return Ok(());
        };
        let Self { changes, command, .. } = self;
        let change = &mut changes[at];
        match &mut change.how {
            RunTimeHow::Added { address, keys: known } => {
                for (key, value) in keys {
                    if key == "address" { address.clone_from(value) } else { put(known, key, value) }
                }
            }
            RunTimeHow::Set { keys: known, .. } => {
                keys.iter().for_each(|(key, value)| put(known, key, value));
            }
            RunTimeHow::Removed { .. } => {
                let whole = self.whole(name);
                return Err(format!(
                    "{whole} was removed at run time; `evenkeel reset {whole}` brings it back"
                )
                .into());
            }
        }
        change.by = Arc::clone(&command.by);
        change.since_s = command.now_s;
        Ok(())
    }

    fn reset(&mut self, backend: Option<&str>) -> Result<(), RunTimeError> {
        let pool = &self.command.pool;
        let is_meant = |change: &RunTimeChange| {
            change.pool == *pool && backend.is_none_or(|backend| change.backend == *backend)
        };
        let stays = |change: &RunTimeChange| !is_meant(change);
        let before = self.changes.len();
        self.changes.retain(stays);
        match backend {
            Some(backend) if before == self.changes.len() && self.of_file(backend).is_none() => {
                Err(self.nobody(backend))
            }
            _ if self.left() == 0 => Err("it would leave the pool without a backend".to_owned().into()),
            _ => Ok(()),
        }
    }

    fn push(&mut self, name: &str, how: RunTimeHow) {
        let RunTimeCommand { pool, by, now_s, .. } = self.command;
        let (pool, backend, by) = (pool.clone(), name.to_owned(), Arc::clone(by));
        self.changes.push(RunTimeChange { pool, backend, how, by, since_s: *now_s });
    }

    /// Where the change of this backend stands.
    fn position(&self, name: &str) -> Option<usize> {
        self.changes.iter().position(|one| one.pool == self.command.pool && one.backend == name)
    }

    /// What the file says of it.
    fn of_file(&self, name: &str) -> Option<String> {
        self.in_file.iter().find(|item| name_of(item) == Some(name)).map(node_text)
    }

    /// How many the pool has with these changes, sources included.
    fn left(&self) -> usize {
        let of_pool = self.changes.iter().filter(|one| one.pool == self.command.pool);
        of_pool.fold(self.in_file.len(), |count, one| match one.how {
            RunTimeHow::Added { .. } => count + 1,
            RunTimeHow::Removed { .. } => count.saturating_sub(1),
            RunTimeHow::Set { .. } => count,
        })
    }

    fn is_not_the_last(&self) -> Result<(), RunTimeError> {
        if self.left() > 1 {
            return Ok(());
        }
        let pool = &self.command.pool;
        Err(format!(
            "it is the last of pool {}; add another one first, or have it out of service with `evenkeel down {pool}/*`",
            quoted(pool)
        ).into())
    }

    fn whole(&self, name: &str) -> String {
        format!("{}/{name}", self.command.pool)
    }

    fn nobody(&self, name: &str) -> RunTimeError {
        RunTimeError::NoSuch(format!(
            "neither the file nor a command has a backend {} in the pool {}; what a source found is changed there, or with drain, down and weight",
            quoted(name),
            quoted(&self.command.pool)
        ))
    }
}

fn put(keys: &mut Vec<(String, String)>, key: &str, value: &str) {
    match keys.iter_mut().find(|(known, _)| known == key) {
        Some((_, known)) => value.clone_into(known),
        None => keys.push((key.to_owned(), value.to_owned())),
    }
}

/// As many as a pool may find.
const CHANGES_MAX: usize = 1_000;
