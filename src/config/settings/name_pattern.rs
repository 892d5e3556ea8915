//! Name patterns of routes: `db.example.org`, `*.example.org` (any name below it, however deep), `*`.
//!
//! Pure. Names are compared as clients send them: ASCII, case does not matter; what is not ASCII has its own form on the
//! wire (`xn--...`), which is what has to stand in the file.

/// Which names a route is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamePattern {
    /// This one, in lower case.
    Exact(String),
    /// Those that end so: a dot and a name, in lower case.
    Below(String),
    /// Every name.
    Any,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// `bücher.example`.
    #[error("clients send such a name in its ASCII form (xn--...)")]
    NotAscii,
    /// `*foo.example.org`, `a.*.org`.
    #[error("a `*` stands alone, or for whole labels in front: `*.example.org`")]
    Star,
    /// Empty, too long, a label without a letter.
    #[error("it is no host name")]
    NoName,
}

impl NamePattern {
    /// The pattern of a text.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if !text.is_ascii() {
            return Err(NameError::NotAscii);
        }
        if text == "*" {
            return Ok(Self::Any);
        }
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let (name, below) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (&*text, false),
        };
        if name.contains('*') {
            return Err(NameError::Star);
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(is_label) {
            return Err(NameError::NoName);
        }
        Ok(if below { Self::Below(format!(".{name}")) } else { Self::Exact(name.to_owned()) })
    }

    /// Is this name, in lower case, one of them?
    pub fn fits(&self, name: &str) -> bool {
        match self {
            Self::Exact(own) => own == name,
            Self::Below(end) => name.len() > end.len() && name.ends_with(&**end),
            Self::Any => true,
        }
    }
}

impl std::fmt::Display for NamePattern {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => out.write_str(name),
            Self::Below(end) => write!(out, "*{end}"),
            Self::Any => out.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_for_all_below_and_not_for_the_name_itself() {
        let below = NamePattern::parse("*.Example.org.").unwrap();
        for (name, fits) in [
            ("a.example.org", true),
            ("b.a.example.org", true),
            ("example.org", false),
            (".example.org", false),
            ("aexample.org", false),
            ("a.example.org.evil", false),
        ] {
            assert_eq!(below.fits(name), fits, "{name}");
        }
        assert!(NamePattern::parse("*").unwrap().fits("whatever"));
        assert!(NamePattern::parse("DB.example.org").unwrap().fits("db.example.org"));
    }

    #[test]
    fn what_is_no_pattern_is_told_apart() {
        for (text, error) in [
            ("bücher.example", NameError::NotAscii),
            ("*b.example", NameError::Star),
            ("a.*.example", NameError::Star),
            ("", NameError::NoName),
            ("a..b", NameError::NoName),
            ("a b", NameError::NoName),
            ("https://a.b", NameError::NoName),
            ("a.b:443", NameError::NoName),
        ] {
            assert_eq!(NamePattern::parse(text), Err(error), "{text}");
        }
    }
}
