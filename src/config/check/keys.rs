//! What to say about a key that is not known, and which one was probably meant.
//!
//! Pure. Which keys there are stands in `spec`.

use crate::config::foreign;
use crate::config::mistake::quoted;
use crate::config::nearest::nearest;
use crate::config::spec::{Section, sections};

/// What to tell about a key that `section` does not have.
pub(super) fn unknown_key(key: &str, section: &Section) -> String {
    let what = section.what;
    let key_shown = quoted(key);
    let near = nearest(key, section.all_keys());
    // A word that others have means what it means there, if it is not the beginning of one of our own.
    let begins = near.is_some_and(|near| near.starts_with(&key.to_lowercase().replace('-', "_")));
    let here = match section.choice {
        true => foreign::value(what.trim_matches('`'), key).map(str::to_owned),
        false => foreign::key(key),
    };
    match (here, near) {
        (Some(here), _) if !begins => return format!("unknown key {key_shown} in {what}; {here}"),
        (_, Some(near)) => return format!("unknown key {key_shown} in {what}; did you mean `{near}`?"),
        _ => {}
    }
    let elsewhere = elsewhere(key);
    if !elsewhere.is_empty() && !section.choice {
        return format!("unknown key {key_shown} in {what}; it is a key of {}", elsewhere.join(" and of "));
    }
    let keys: Vec<&str> = section.all_keys().collect();
    format!("unknown key {key_shown} in {what}; its keys are {}", keys.join(", "))
}

/// The sections that have this key.
fn elsewhere(key: &str) -> Vec<&'static str> {
    let has_key = |other: &&Section| other.keys.iter().any(|row| row.name == key);
    let mut elsewhere: Vec<&str> = sections().into_iter().filter(has_key).map(|other| other.what).collect();
    // Sources have many words that mean something else elsewhere.
    let is_of_source = |what: &str| what.ends_with("of `from`");
    if elsewhere.iter().any(|what| !is_of_source(what)) {
        elsewhere.retain(|what| !is_of_source(what));
    }
    elsewhere
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::spec::{BACKEND, POOL};

    #[test]
    fn a_key_of_another_section_is_sent_there() {
        assert_eq!(
            unknown_key("interval", &POOL),
            "unknown key `interval` in a pool; it is a key of `keepalive` and of `health`"
        );
        assert_eq!(
            unknown_key("zzz", &BACKEND),
            "unknown key `zzz` in a backend; its keys are address, name, weight, tier, max_sessions, addresses, family, from, ignore"
        );
    }
}
