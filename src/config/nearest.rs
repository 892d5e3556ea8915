//! Spelling: the word that somebody probably meant who wrote another.
//!
//! Pure. Must stay true: whatever is written, an answer costs little.

/// The candidate a writer of `word` probably meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > WORD_MAX {
        return None;
    }
    let bare = |text: &str| text.to_lowercase().replace(['_', '-', ' '], "");
    let word = bare(word);
    let misses_max = word.chars().count().div_ceil(4).min(3);
    let misses = |candidate: &str| {
        let candidate = bare(candidate);
        // `leastconn`, `round`: the beginning of a longer word is no slip of the finger, but clear enough.
        if word.len() >= 4 && candidate.starts_with(&word) {
            return Some(0);
        }
        let misses = strsim::osa_distance(&word, &candidate);
        (misses <= misses_max).then_some(misses)
    };
    let near = candidates.filter(|candidate| candidate.len() <= WORD_MAX);
    near.filter_map(|candidate| Some((misses(candidate)?, candidate))).min().map(|(_, candidate)| candidate)
}

/// Longer words are not compared: the cost is the product of the lengths.
const WORD_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::{BACKEND, LISTENER, TOP};

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let cases = [
            ("wieght", &BACKEND, Some("weight")),
            ("max-sessions", &BACKEND, Some("max_sessions")),
            ("maxSessions", &BACKEND, Some("max_sessions")),
            ("adress", &BACKEND, Some("address")),
            ("backend", &LISTENER, Some("backends")),
            ("timeout", &LISTENER, Some("timeouts")),
            ("listener", &TOP, Some("listeners")),
            ("zone", &BACKEND, None),
            ("x", &BACKEND, None),
            ("", &BACKEND, None),
        ];
        for (word, section, expected) in cases {
            assert_eq!(nearest(word, section.all_keys()), expected, "{word}");
        }
    }
}
