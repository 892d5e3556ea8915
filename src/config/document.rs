//! YAML parser: the file as a tree of our own, every node with its place. The only file that knows the YAML crate.
//!
//! Pure. Must stay true: any bytes end in a tree or in mistakes, in bounded time and memory. Size, nesting, nodes and
//! text have a limit, and what aliases repeat counts against them each time. Aliases share what they repeat.

use std::collections::BTreeMap;
use std::rc::Rc;

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span};

use super::mistake::{Place, Report, harmless, quoted};
use super::variables;

/// A value in the file. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where it stands; an alias stands where it is used, its content where the anchor is.
    pub(super) place: Place,
    /// What it is.
    pub(super) value: Value,
}

/// What a value can be. Scalars are text; what they mean is the checker's business.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Empty,
    /// What the report tells already; readers say nothing more about it.
    Told,
    /// A scalar, quoted or not.
    Text(Rc<str>),
    /// A list.
    List(Rc<[Node]>),
    /// A map; no key stands in it twice.
    Map(Rc<[Entry]>),
}

/// A key of a map and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub(super) key: Rc<str>,
    /// Where the key stands.
    pub(super) place: Place,
    /// The value.
    pub(super) value: Node,
    /// It stands in `defaults`, and here for want of another.
    pub(super) is_default: bool,
}

/// The tree of the text of a file. `None`: the report says why. With a tree, the report may still have got mistakes.
pub(super) fn parse(text: &str, file: usize, report: &mut Report) -> Option<Node> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        emit_comments: false,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let place = |span| place(span, file);
    let mut builder =
        Builder { report, open: Vec::new(), anchors: BTreeMap::new(), root: None, spent: Spent::default() };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(text, options) {
        let stop = match event {
            Err(error) => Err(syntax_mistake(&error, text, file)),
            Ok((Event::DocumentStart(..), span)) => {
                documents += 1;
                let second =
                    || (place(span), "a second document; a configuration is one document".to_owned(), None);
                if documents > 1 { Err(second()) } else { Ok(()) }
            }
            Ok((event, span)) => builder.take(event, place(span)),
        };
        if let Err((place, message, hint)) = stop {
            match hint {
                Some(hint) => report.tell_with_hint(place, message, hint),
                None => report.tell(place, message),
            }
            return None;
        }
    }
    let place = Place { file, line: 1, column: 1, width: 1 };
    Some(builder.root.unwrap_or(Node { place, value: Value::Empty }))
}

/// A mistake after which the rest of the file means nothing.
type Stop = (Place, String, Option<String>);

/// What the file has cost so far, aliases written out.
#[derive(Clone, Copy, Default)]
struct Spent {
    nodes: usize,
    text_bytes: usize,
}

struct Builder<'r> {
    report: &'r mut Report,
    open: Vec<Frame>,
    anchors: BTreeMap<usize, Anchored>,
    root: Option<Node>,
    spent: Spent,
}

/// A list or map that is not finished.
struct Frame {
    place: Place,
    anchor: usize,
    /// What was spent when it began.
    before: Spent,
    /// Levels below it.
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: BTreeMap<Rc<str>, Place>,
        merge: Option<Node>,
        key: Option<Key>,
        /// One of its keys was none.
        odd: bool,
    },
}

/// A key whose value has not come.
enum Key {
    Plain(Rc<str>, Place),
    Merge(Place),
    /// Told already; its value is dropped.
    Refused,
}

struct Anchored {
    place: Place,
    value: Value,
    spent: Spent,
    height: usize,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Stop> {
        if let Some(tag) = event.tag() {
            self.report.tell(place, format!("tags like {} are not used here", quoted(&tag.original())));
        }
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let plain = style == ScalarStyle::Plain;
                let (value, text_bytes) = if variables::concerns(&text) {
                    self.filled(&text, plain, place)
                } else {
                    (scalar(&text, plain), text.len())
                };
                self.spend(Spent { nodes: 1, text_bytes }, place)?;
                self.finish(Node { place, value }, anchor, Spent { nodes: 1, text_bytes }, 0, plain);
            }
            Event::SequenceStart(_, anchor, _) => self.begin(place, anchor, Content::List(Vec::new()))?,
            Event::MappingStart(_, anchor, _) => {
                let seen = BTreeMap::new();
                self.begin(
                    place,
                    anchor,
                    Content::Map { entries: Vec::new(), seen, merge: None, key: None, odd: false },
                )?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place)?,
            Event::UnresolvedAlias(name) => {
                self.report.tell(place, format!("no anchor `&{name}` before this alias"));
                self.spend(Spent { nodes: 1, text_bytes: 0 }, place)?;
                self.finish(Node { place, value: Value::Told }, 0, Spent::default(), 0, false);
            }
            _ => {}
        }
        Ok(())
    }

    /// The scalar with its variables put in, and its length.
    fn filled(&mut self, text: &str, plain: bool, place: Place) -> (Value, usize) {
        if matches!(self.open.last(), Some(Frame { content: Content::Map { key: None, .. }, .. })) {
            let told = format!("{} stands in a key; variables are put into values only", quoted(text));
            self.report.tell(place, told);
            return (Value::Told, 0);
        }
        match self.report.fill(text, place) {
            Some(filled) => (scalar(&filled, plain), filled.len()),
            None => (Value::Told, 0),
        }
    }

    fn begin(&mut self, place: Place, anchor: usize, content: Content) -> Result<(), Stop> {
        let before = self.spent;
        self.spend(Spent { nodes: 1, text_bytes: 0 }, place)?;
        if self.open.len() >= DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.open.push(Frame { place, anchor, before, height: 1, content });
        Ok(())
    }

    fn end(&mut self) {
        let Some(frame) = self.open.pop() else { return };
        let value = match frame.content {
            Content::List(items) => Value::List(items.into()),
            // What is odd altogether is told, and no use for a checker.
            Content::Map { entries, odd: true, .. } if entries.is_empty() => Value::Told,
            Content::Map { mut entries, mut seen, merge, .. } => {
                if let Some(merge) = merge {
                    self.merge(&merge, &mut entries, &mut seen);
                }
                Value::Map(entries.into())
            }
        };
        let spent = Spent {
            nodes: self.spent.nodes - frame.before.nodes,
            text_bytes: self.spent.text_bytes - frame.before.text_bytes,
        };
        self.finish(Node { place: frame.place, value }, frame.anchor, spent, frame.height, false);
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        let Some(known) = self.anchors.get(&anchor) else {
            return Err((place, "this alias stands inside its own anchor".to_owned(), None));
        };
        let (value, spent, height) = (known.value.clone(), known.spent, known.height);
        self.report.is_filled_as(known.place, place);
        if self.open.len() + height > DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.spend(spent, place)?;
        self.finish(Node { place, value }, 0, spent, height, false);
        Ok(())
    }

    fn spend(&mut self, more: Spent, place: Place) -> Result<(), Stop> {
        self.spent.nodes += more.nodes;
        self.spent.text_bytes += more.text_bytes;
        if self.spent.nodes <= NODES_MAX && self.spent.text_bytes <= TEXT_BYTES_MAX {
            return Ok(());
        }
        let message = format!(
            "the file holds more than {NODES_MAX} values or {} MiB of text, counting what aliases repeat",
            TEXT_BYTES_MAX >> 20
        );
        Err((place, message, None))
    }

    /// A value is complete: it goes into the list or map it stands in.
    fn finish(&mut self, node: Node, anchor: usize, spent: Spent, height: usize, plain: bool) {
        if anchor != 0 {
            let Node { place, value } = node.clone();
            self.anchors.insert(anchor, Anchored { place, value, spent, height });
        }
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        frame.height = frame.height.max(height + 1);
        let (entries, seen, merge, key, odd) = match &mut frame.content {
            Content::List(items) => return items.push(node),
            Content::Map { entries, seen, merge, key, odd } => (entries, seen, merge, key, odd),
        };
        match key.take() {
            None => {
                *odd |= !matches!(node.value, Value::Text(_));
                *key = Some(take_key(node, plain, seen, self.report));
            }
            Some(Key::Plain(key, place)) => {
                // Nothing has no place of its own that a reader would look at.
                let at = if matches!(node.value, Value::Empty) { place } else { node.place };
                let value = Node { place: at, ..node };
                entries.push(Entry { key, place, value, is_default: false });
            }
            Some(Key::Merge(place)) => *merge = Some(Node { place, ..node }),
            Some(Key::Refused) => {}
        }
    }

    /// `<<: *base` or `<<: [*one, *two]`: keys the map does not have itself; the first to bring a key wins.
    fn merge(&mut self, from: &Node, entries: &mut Vec<Entry>, seen: &mut BTreeMap<Rc<str>, Place>) {
        let maps = match &from.value {
            Value::List(maps) => maps,
            _ => std::slice::from_ref(from),
        };
        for map in maps {
            let Value::Map(more) = &map.value else {
                if matches!(map.value, Value::Told) {
                    continue;
                }
                self.report.tell(from.place, "`<<` needs an alias of a map, or a list of them");
                continue;
            };
            for entry in more.iter() {
                if !seen.contains_key(&entry.key) {
                    seen.insert(entry.key.clone(), entry.place);
                    entries.push(entry.clone());
                }
            }
        }
    }
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        "" | "~" | "null" if plain => Value::Empty,
        text => Value::Text(text.into()),
    }
}

fn take_key(node: Node, plain: bool, seen: &mut BTreeMap<Rc<str>, Place>, report: &mut Report) -> Key {
    if matches!(node.value, Value::Told) {
        return Key::Refused;
    }
    let Value::Text(key) = node.value else {
        match node.value {
            Value::List(_) => {
                report.tell_with_hint(node.place, "a key must be a word, not a list", IPV6_HINT);
            }
            _ => report.tell(node.place, "a key must be a word"),
        }
        return Key::Refused;
    };
    if let Some(first) = seen.insert(key.clone(), node.place) {
        let first_spot = report.spot(first);
        let message = format!("the key {} is given twice in this map; first on {first_spot}", quoted(&key));
        report.tell(node.place, message);
        seen.insert(key, first);
        return Key::Refused;
    }
    if plain && &*key == "<<" { Key::Merge(node.place) } else { Key::Plain(key, node.place) }
}

fn too_deep(place: Place) -> Stop {
    (place, format!("nested deeper than {DEPTH_MAX} levels"), None)
}

fn syntax_mistake(error: &ScanError, text: &str, file: usize) -> Stop {
    let mark = error.marker();
    let place = Place { file, line: mark.line().max(1), column: mark.col() + 1, width: 1 };
    let message = match error.kind() {
        ErrorKind::RecursionLimitExceeded => return too_deep(place),
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => "a tab; YAML is indented with spaces".to_owned(),
        ErrorKind::SimpleKeyExpected => {
            "a word alone where a key must stand; a key ends with `:` and a space".to_owned()
        }
        ErrorKind::MappingValueNotAllowed => {
            "a `:` where no key can be; does the line above lack one, or is the indentation wrong?".to_owned()
        }
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
            "a quote is opened before this place and not closed".to_owned()
        }
        ErrorKind::UnclosedFlowCollection { open } => format!("`{open}` is not closed"),
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry => {
            "this does not fit what stands before it; is the indentation right?".to_owned()
        }
        kind => format!("not valid YAML: {}", harmless(&kind.to_string())),
    };
    // The parser may notice an unquoted `[::1]:80` only on the next line.
    let near = text.split('\n').skip(place.line.saturating_sub(2)).take(2);
    let looks_ipv6 = near.into_iter().any(|line| line.contains("]:") && line.contains("::"));
    let looks_filled = text.split('\n').nth(place.line - 1).is_some_and(|line| line.contains("${"));
    let hint = if looks_filled { Some(VARIABLE_HINT) } else { looks_ipv6.then_some(IPV6_HINT) };
    (place, message, hint.map(str::to_owned))
}

fn place(span: Span, file: usize) -> Place {
    let (start, end) = (span.start, span.end);
    let width = if start.line() == end.line() { end.col().saturating_sub(start.col()) } else { 1 };
    Place { file, line: start.line().max(1), column: start.col() + 1, width: width.max(1) }
}

/// What a writer of an unquoted `[::]:80` must know.
pub(super) const IPV6_HINT: &str =
    "an IPv6 address needs quotes in YAML, with its brackets inside: \"[::1]:5432\"";

/// What a writer of `[${HOST}]` must know.
const VARIABLE_HINT: &str =
    "inside `[ ]` and `{ }` a variable needs quotes, or YAML takes its `{` for a map: '${NAME}'";

/// The deepest key of a good file is seven levels down.
const DEPTH_MAX: usize = 16;
/// A file of 10,000 backends with every key has 110,000, one with two lists of 100,000 networks twice as many.
const NODES_MAX: usize = 250_000;
const TEXT_BYTES_MAX: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line: places of scalars as `@line:column`.
    fn show(node: &Node) -> String {
        match &node.value {
            Value::Empty => "empty".to_owned(),
            Value::Told => "told".to_owned(),
            Value::Text(text) => format!("{text}@{}:{}", node.place.line, node.place.column),
            Value::List(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
            Value::Map(entries) => {
                let entry = |entry: &Entry| format!("{}={}", entry.key, show(&entry.value));
                format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[test]
    fn trees_keep_order_and_places() {
        let cases = [
            ("", "empty"),
            ("a: 1\nb: [x, 'y z']", "{a=1@1:4 b=[x@2:5 y z@2:8]}"),
            ("a:\nb: ~\nc: null\nd: '~'\ne: ''", "{a=empty b=empty c=empty d=~@4:4 e=@5:4}"),
            ("ä: ö\n", "{ä=ö@1:4}"),
            ("a: |\n  x\n  y\n", "{a=x\ny\n@2:3}"),
            ("%YAML 1.2\n---\na: 1\n...\n", "{a=1@3:4}"),
            // The alias stands where it is used, what is in it where the anchor is.
            ("a: &x 1\nb: *x", "{a=1@1:7 b=1@2:4}"),
            ("a: &x [1]\nb: *x", "{a=[1@1:8] b=[1@1:8]}"),
            ("a: &x 1\nb: &x 2\nc: *x", "{a=1@1:7 b=2@2:7 c=2@3:4}"),
            // A key of the map itself wins, wherever it stands; then the first map that has it.
            (
                "- &x {a: 1, b: 2}\n- {b: 3, <<: *x}\n- {<<: *x, b: 3}",
                "[{a=1@1:10 b=2@1:16} {b=3@2:7 a=1@1:10} {b=3@3:15 a=1@1:10}]",
            ),
            ("<<: [{a: 1}, {a: 2, b: 2}]", "{a=1@1:10 b=2@1:24}"),
            ("'<<': 1", "{<<=1@1:7}"),
        ];
        for (text, expected) in cases {
            let mut report = Report::default();
            let tree = parse(text, 0, &mut report).map(|node| show(&node));
            assert_eq!(tree.as_deref(), Some(expected), "{text}");
            assert!(report.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_told_is_not_told_again() {
        for (text, expected) in [
            ("a: *x", "{a=told}"),
            ("a: [[1]: 2]", "{a=[told]}"),
            ("a: 1\n? [b]\n: 2", "{a=1@1:4}"),
            ("a: 1\na: 2", "{a=1@1:4}"),
            ("*x : 1", "told"),
        ] {
            let mut report = Report::default();
            let tree = parse(text, 0, &mut report).map(|node| show(&node));
            assert_eq!(tree.as_deref(), Some(expected), "{text}");
            assert_eq!(report.into_mistakes(&[text.to_owned()]).count(), 1, "{text}");
        }
    }

    #[test]
    fn sixteen_levels_are_read_and_one_more_is_not() {
        for (levels, good) in [(DEPTH_MAX, true), (DEPTH_MAX + 1, false)] {
            let text = "[".repeat(levels) + &"]".repeat(levels);
            assert_eq!(parse(&text, 0, &mut Report::default()).is_some(), good);
            // One level fewer below an alias, which stands a level down itself.
            let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
            let text = format!("a: &x {open}{close}\nb: *x");
            assert_eq!(parse(&text, 0, &mut Report::default()).is_some(), good);
        }
    }
}
