//! Taking a backend, and giving it back: the place in its session count is held exactly as long as the [`Lease`] lives.

use std::sync::Arc;

use super::{Backend, PoolView};
use crate::balance::{Ask, Pick};

/// A place at a backend. Dropping it gives the place back.
#[derive(Debug)]
pub struct Lease {
    backend: Arc<Backend>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// None is eligible.
    NoBackend,
    /// Each eligible one is full.
    Full,
    /// Those that are not full were all tried by this session.
    AllTried,
}

impl Lease {
    /// Picks and takes a place, in one step as far as anyone else can see: `max_sessions` is never exceeded. Also tells
    /// the index of the backend in the view, for `Ask::tried`.
    pub fn take(view: &PoolView, ask: &Ask<'_>) -> Result<(Self, u32), Refusal> {
        // A pick that lost the last place to another worker asks again; the loser of as many races as there are
        // backends has seen each of them full.
        for _ in 0..=view.backends.len() {
            match view.picker.pick(ask) {
                Pick::Member(index) => {
                    let Some(backend) = view.backends.get(index as usize) else {
                        return Err(Refusal::NoBackend);
                    };
                    if backend.load.try_take() {
                        return Ok((Self { backend: Arc::clone(backend) }, index));
                    }
                }
                Pick::Full => return Err(Refusal::Full),
                Pick::Tried => return Err(Refusal::AllTried),
                Pick::NoneEligible => return Err(Refusal::NoBackend),
            }
        }
        Err(Refusal::Full)
    }

    /// Where the place is.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.load.give_back();
    }
}
