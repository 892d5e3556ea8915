//! Configuration as one text again: the tree written as YAML, with what variables stand for and what several files say
//! together, and without passwords. It is what the next process is told was served.
//!
//! Pure. Must stay true: reading it gives the tree it was made of, places aside.

use std::fmt::Write;

use super::document::{Entry, Node, Value};
use super::mistake::Place;

/// The text of a tree. `hidden`: where passwords stand, in order.
pub(super) fn written(tree: &Node, hidden: &[Place]) -> String {
    let mut text = String::new();
    match &tree.value {
        Value::Map(entries) => entries.iter().for_each(|entry| {
            write_entry(entry, hidden, &mut text);
            text.push('\n');
        }),
        _ => write_node(tree, hidden, &mut text),
    }
    text
}

/// The text of a part of a tree in which no password stands.
pub(super) fn node_text(node: &Node) -> String {
    let mut text = String::new();
    write_node(node, &[], &mut text);
    text
}

fn write_node(node: &Node, hidden: &[Place], text: &mut String) {
    match &node.value {
        Value::Empty | Value::Told => text.push('~'),
        Value::Text(_) if hidden.binary_search(&node.place).is_ok() => text.push('_'),
        Value::Text(scalar) => write_scalar(scalar, text),
        Value::List(items) => {
            text.push('[');
            for item in items.iter() {
                write_node(item, hidden, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Map(entries) => {
            text.push('{');
            for entry in entries.iter() {
                write_entry(entry, hidden, text);
                text.push(',');
            }
            text.push('}');
        }
    }
}

fn write_entry(entry: &Entry, hidden: &[Place], text: &mut String) {
    write_scalar(&entry.key, text);
    text.push_str(": ");
    write_node(&entry.value, hidden, text);
}

/// In double quotes, which hold everything; plain where nothing in it could be taken for something else.
fn write_scalar(scalar: &str, text: &mut String) {
    let is_plain = !scalar.is_empty()
        && scalar.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'/'))
        && scalar != "null";
    if is_plain {
        text.push_str(scalar);
        return;
    }
    text.push('"');
    for letter in scalar.replace("${", "$${").chars() {
        match letter {
            '"' | '\\' => {
                text.push('\\');
                text.push(letter);
            }
            // What stands for the end of a line, or for nothing that is seen, is spelt.
            letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                let _ = write!(text, "\\u{:04X}", u32::from(letter));
            }
            letter => text.push(letter),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::document::parse;
    use crate::config::mistake::Report;

    /// The tree without its places.
    fn bare(node: &Node) -> String {
        match &node.value {
            Value::Empty => "~".to_owned(),
            Value::Told => "told".to_owned(),
            Value::Text(text) => format!("{text:?}"),
            Value::List(items) => format!("{:?}", items.iter().map(bare).collect::<Vec<_>>()),
            Value::Map(entries) => {
                let entry = |entry: &Entry| format!("{:?}={}", entry.key, bare(&entry.value));
                format!("{:?}", entries.iter().map(entry).collect::<Vec<_>>())
            }
        }
    }

    fn tree(text: &str) -> Option<Node> {
        let mut report = Report::default();
        let tree = parse(text, 0, &mut report)?;
        report.is_empty().then_some(tree)
    }

    fn same(text: &str) {
        let Some(first) = tree(text) else { return };
        let again = written(&first, &[]);
        let second = tree(&again).unwrap_or_else(|| panic!("{text:?} became {again:?}"));
        assert_eq!(bare(&first), bare(&second), "{again:?}");
    }

    #[test]
    fn what_is_written_reads_as_the_same_tree() {
        same(include_str!("../../conf/reference.yaml"));
        for text in [
            "a: {b: [1, ~, '', 'null', null, \"~\"], c: {}}\nd: []",
            "a: 'x\\r\\n'\nb: \"\\u0085\\u2028\\u2029\\t\\n\"\nc: |\n  one\n  two\n",
            "a: &x {b: 1}\nc: {<<: *x, d: '# no'}\n'<<': '*x'",
            "a: '$${A}'\nb: 'é日😀'\nc: '- x: y'\nd: \"'\"",
            "a: '${A:-b: [c}'",
            "",
            "[a]",
        ] {
            same(text);
        }
    }

    #[test]
    fn passwords_are_left_out() {
        let first = tree("a: hunter2\nb: ok").unwrap();
        let Value::Map(entries) = &first.value else { panic!() };
        assert_eq!(written(&first, &[entries[0].value.place]), "a: _\nb: ok\n");
    }

    proptest! {
        #[test]
        fn any_scalar_comes_back(scalar in "\\PC{0,20}|[\\[\\]{}:,&*!|>'\"%@`# \n\t\\\\-]{0,12}") {
            let mut text = String::new();
            write_scalar(&scalar, &mut text);
            let read = tree(&format!("a: {text}")).unwrap();
            let Value::Map(entries) = &read.value else { panic!() };
            let Value::Text(back) = &entries[0].value.value else { panic!("{text}") };
            prop_assert_eq!(&**back, &*scalar);
        }
    }
}
