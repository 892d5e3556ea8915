//! Query parameters of an admin command: the part of a request behind `?`.
//!
//! Must stay true: what is not understood is refused, never passed over: a filter that is misspelt would close more sessions
//! than was meant.

use super::answer::unescaped;

/// What was asked, each parameter once and known to its path.
#[derive(Debug)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// The parameters of a request for this path, which takes `known`; else what is wrong with them, for people.
    pub(super) fn read(path: &str, raw: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let plain = |text: &str| String::from_utf8_lossy(&unescaped(text)).into_owned();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = plain(name);
            if !known.contains(&&*name) {
                let there_are = if known.is_empty() { "it takes none".to_owned() } else { known.join(", ") };
                return Err(format!("{path} has no parameter `{name}`: {there_are}"));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(format!("`{name}` is there twice"));
            }
            let value = plain(value);
            if value.is_empty() {
                return Err(format!("`{name}` says nothing"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// What a parameter says.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// What a parameter says that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("`{name}` is missing"))
    }
}

/// Any parameters, for the fuzzer.
#[cfg(fuzzing)]
pub fn fuzz(raw: &str) {
    let known = ["all", "listener", "source"];
    if let Ok(query) = Query::read("/close", Some(raw), &known) {
        assert!(
            query.0.len() <= known.len()
                && query.0.iter().all(|(name, value)| known.contains(&&**name) && !value.is_empty())
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_and_its_escapes_are_undone() {
        let query =
            Query::read("/close", Some("listener=a%20b&client=%3A%3A1"), &["listener", "client"]).unwrap();
        assert_eq!(
            (query.get("listener"), query.get("client"), query.get("all")),
            (Some("a b"), Some("::1"), None)
        );
        assert!(
            Query::read("/reload", None, &[]).unwrap().needed("x").unwrap_err().contains("`x` is missing")
        );
        assert!(Query::read("/reload", Some(""), &[]).is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (raw, why) in [
            ("listner=a", "no parameter `listner`: listener, all"),
            ("listener=a&listener=b", "twice"),
            ("listener=", "says nothing"),
            ("listener", "says nothing"),
            ("listener=a&x=1", "`x`"),
            ("%6cistener=a&listener=b", "twice"),
        ] {
            let refused = Query::read("/close", Some(raw), &["listener", "all"]).unwrap_err();
            assert!(refused.contains(why), "{raw}: {refused}");
        }
        assert!(Query::read("/reload", Some("now=1"), &[]).unwrap_err().contains("it takes none"));
    }
}
