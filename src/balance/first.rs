//! `first`: the first in the list that is not full. Fills one backend up to its `max_sessions` before the next.

use super::ask::{Ask, Pick};
use super::candidates::Candidates;

pub(super) fn pick(candidates: &Candidates, ask: &Ask<'_>) -> Pick {
    candidates.first_open(0, ask.tried)
}
