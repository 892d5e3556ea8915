//! `least_connections`: the member with the smallest `(active + 1) / weight`, by an exact scan of all.
//!
//! Exact because a member that has just become idle must be found at once; a heap would need a lock or a writer for each
//! session that ends. Equals take turns: a scan begins behind the member that was picked last.

use std::sync::atomic::Ordering;

use super::ask::{Ask, Pick};
use super::candidates::{Candidate, Candidates, LoadRatio};
use super::cursor::Cursor;

pub(super) fn pick(candidates: &Candidates, cursor: &Cursor, ask: &Ask<'_>) -> Pick {
    // After a rebuild the list may be shorter than the cursor.
    let from = cursor.scan_from.load(Ordering::Relaxed) as usize % candidates.len();
    match candidates.find_best(from, ask.tried, Candidate::load_ratio, LoadRatio::is_less) {
        Some(place) => {
            cursor.scan_behind(place);
            candidates.member(place)
        }
        None => candidates.closed(ask.tried),
    }
}
