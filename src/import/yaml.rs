//! YAML as a person would write it: short maps and lists in a line, long ones below each other.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Yaml {
    Word(String),
    List(Vec<Self>),
    Map(Vec<(String, Self)>),
}

impl Yaml {
    pub(super) fn word(text: impl Into<String>) -> Self {
        Self::Word(text.into())
    }

    /// Sets what stands at the end of a way through maps.
    pub(super) fn set(&mut self, way: &[&str], value: Self) {
        let Self::Map(entries) = self else { return };
        let [key, rest @ ..] = way else { return };
        let at = entries.iter().position(|(known, _)| known == key).unwrap_or_else(|| {
            entries.push(((*key).to_owned(), Self::Map(Vec::new())));
            entries.len() - 1
        });
        let there = &mut entries[at].1;
        if rest.is_empty() {
            *there = value;
        } else {
            if !matches!(there, Self::Map(_)) {
                *there = Self::Map(Vec::new());
            }
            there.set(rest, value);
        }
    }

    pub(super) fn get(&self, way: &[&str]) -> Option<&Self> {
        let [key, rest @ ..] = way else { return Some(self) };
        let Self::Map(entries) = self else { return None };
        entries.iter().find(|(known, _)| known == key)?.1.get(rest)
    }

    /// The lines of a map, each with this many spaces before it.
    pub(super) fn lines(&self, indent: usize, out: &mut String) {
        let Self::Map(entries) = self else { return };
        let space = " ".repeat(indent);
        for (key, value) in entries {
            let line = format!("{space}{}: {}", scalar(key), value.inline());
            // Bounded: what is too long for a line is not measured to its end.
            if line.chars().count() <= WIDTH || matches!(value, Self::Word(_)) {
                out.push_str(&line);
                out.push('\n');
                continue;
            }
            out.push_str(&format!("{space}{}:\n", scalar(key)));
            match value {
                Self::List(items) => {
                    for item in items {
                        out.push_str(&format!("{space}  - {}\n", item.inline()));
                    }
                }
                map => map.lines(indent + 2, out),
            }
        }
    }

    fn inline(&self) -> String {
        match self {
            Self::Word(text) => scalar(text),
            Self::List(items) => {
                format!("[{}]", items.iter().map(Self::inline).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Self)| format!("{}: {}", scalar(key), value.inline());
                format!("{{ {} }}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn scalar(text: &str) -> String {
    let is_plain = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric() || first == b'/')
        && text.bytes().all(|one| one.is_ascii_alphanumeric() || b"._/:+-%".contains(&one))
        && !text.ends_with(':')
        && !matches!(text, "null" | "y" | "n" | "yes" | "no");
    if is_plain {
        return text.to_owned();
    }
    if text
        .chars()
        .any(|letter| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}'))
    {
        let spelt = |letter: char| match letter {
            '"' | '\\' => format!("\\{letter}"),
            '\r' => "\\r".to_owned(),
            '\n' => "\\n".to_owned(),
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                format!("\\u{:04X}", u32::from(letter))
            }
            letter => letter.to_string(),
        };
        return format!("\"{}\"", text.chars().map(spelt).collect::<String>());
    }
    format!("'{}'", text.replace('\'', "''"))
}

const WIDTH: usize = 110;
