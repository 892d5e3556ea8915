//! JSON Schema of the file, for editors: made of the rows of `spec`.
//!
//! Pure. Must stay true: what the program reads, the schema takes. What needs more than one look at a value (how long a
//! duration is, which keys go together) it leaves to `evenkeel check`.

use serde_json::{Map, Value, json};

use super::spec::{Default, Key, Kind, LISTENER, POOL, Protocols, Section, TOP, Text};

/// The JSON Schema of the file.
pub fn schema() -> String {
    let mut root = object(&TOP);
    root.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".into(), json!("evenkeel.yaml"));
    root.insert("description".into(), json!("The configuration of evenkeel, a layer-4 balancer"));
    let named = [&LISTENER, &POOL].map(|section| (defined(section).to_owned(), object(section).into()));
    let variable = json!({
        "type": "string",
        "pattern": "\\$\\{",
        "description": "${NAME} or ${NAME:-default}: a variable of the environment",
    });
    let named = named.into_iter().chain([("variable".to_owned(), variable)]);
    root.insert("$defs".into(), Value::Object(named.collect()));
    format!("{:#}", Value::Object(root))
}

/// The name of a map that is described once, for all who refer to it.
fn defined(section: &Section) -> &str {
    section.what.trim_start_matches("a ")
}

/// A map of keys and nothing else.
fn object(section: &'static Section) -> Map<String, Value> {
    let mut properties = Map::new();
    for name in section.all_keys() {
        // Rows of one name: the first takes what the others take.
        if let Some(key) = section.row(name, None) {
            let others = section.keys.iter().filter(|other| other.name == name && !std::ptr::eq(*other, key));
            properties.insert(name.to_owned(), property(key, others));
        }
    }
    let needed = section.keys.iter().filter(|key| key.default == Default::Required);
    let needed: Vec<&str> = needed.map(|key| key.name).collect();
    let mut object = Map::new();
    object.insert("type".into(), json!("object"));
    object.insert("properties".into(), Value::Object(properties));
    object.insert("additionalProperties".into(), json!(false));
    if !needed.is_empty() {
        object.insert("required".into(), json!(needed));
    }
    if !section.one_of.is_empty() {
        let needed = section.one_of.iter().map(|key| json!({ "required": [key] }));
        object.insert("oneOf".into(), needed.collect());
    }
    if section.choice {
        object.insert("minProperties".into(), json!(1));
        object.insert("maxProperties".into(), json!(1));
    }
    object
}

/// One key: what it does, what it may be, and its default.
fn property(key: &'static Key, others: impl Iterator<Item = &'static Key>) -> Value {
    let mut property = value(key);
    let mut told = capital(key.doc);
    // Whole numbers and words are said in a form that an editor understands.
    if matches!(key.kind, Kind::Duration(..) | Kind::Seconds(..) | Kind::Size(..) | Kind::Rate(..)) {
        told.push_str(&format!(": {}", key.kind.range()));
    }
    let others: Vec<&Key> = others.collect();
    if let Default::Told(default) = key.default {
        told.push_str(&format!(" (default: {default})"));
    } else if !others.is_empty() {
        told.push_str(&format!(" (default: {})", key.default));
    } else if let Default::Is(text) = key.default {
        property.insert("default".into(), default(&key.kind, text));
    }
    for other in &others {
        told.push_str(&format!("; udp: {} (default: {})", other.doc, other.default));
    }
    match key.protocols {
        Protocols::Tcp if others.is_empty() => told.push_str("; tcp only"),
        Protocols::Udp => told.push_str("; udp only"),
        _ => {}
    }
    property.insert("description".into(), json!(told));
    Value::Object(property)
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().into_iter().flat_map(char::to_uppercase).chain(chars.clone()).collect()
}

fn default(kind: &Kind, text: &str) -> Value {
    match (text, kind) {
        ("[]", _) => json!([]),
        ("{}", _) => json!({}),
        (_, Kind::Whole(..)) => text.parse::<u64>().map_or(json!(text), |number| json!(number)),
        _ => json!(text),
    }
}

/// What the value of a key may be.
fn value(key: &Key) -> Map<String, Value> {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    let plain = match &key.kind {
        Kind::Section(section) => Value::Object(object(section)),
        Kind::Named(section, most) => json!({
            "type": "object",
            "maxProperties": most,
            "additionalProperties": { "$ref": format!("#/$defs/{}", defined(section)) },
        }),
        Kind::Backends(section, most) => json!({
            "type": "array",
            "minItems": 1,
            "maxItems": most,
            "items": { "anyOf": [{ "type": "string" }, object(section)] },
        }),
        Kind::Maps(section, most) => {
            json!({ "type": "array", "maxItems": most, "items": object(section) })
        }
        Kind::SectionOr(section, words) => any_of(&[Value::Object(object(section)), word(words)]),
        Kind::Choice(words, section) => any_of(&[word(words), Value::Object(object(section))]),
        Kind::Whole(min, max, words) => {
            either(json!({ "type": "integer", "minimum": min, "maximum": max }), words)
        }
        Kind::Factor(min, max, words) => {
            either(json!({ "type": "number", "minimum": min, "maximum": max }), words)
        }
        Kind::Duration(_, _, words) => either(pattern(DURATION), words),
        Kind::Seconds(..) => pattern(DURATION),
        Kind::Size(_, _, words) => either(pattern("^[0-9]+(B|KiB|MiB|GiB)$"), words),
        Kind::Rate(_, words) => either(pattern("^[0-9]+/[sm]$"), words),
        Kind::Percent(_) => pattern("^(100|[0-9]{1,2})%$"),
        Kind::Words(words) => word(words),
        Kind::Text(text) => either(self::text(text), text.words),
        Kind::TextOr(text, section) => {
            any_of(&[either(self::text(text), text.words), Value::Object(object(section))])
        }
        Kind::List(of, most) => list(of, text(of), usize::from(key.default == Default::Required), *most),
        Kind::ListOr(of, most, section) => {
            let one = any_of(&[text(of), Value::Object(object(section))]);
            list(of, one, usize::from(key.default == Default::Required), *most)
        }
    };
    // Those that take any text take that one as well.
    let plain = match key.kind {
        Kind::Whole(..)
        | Kind::Factor(..)
        | Kind::Duration(..)
        | Kind::Seconds(..)
        | Kind::Size(..)
        | Kind::Rate(..)
        | Kind::Percent(_)
        | Kind::Words(_)
        | Kind::Choice(..)
        | Kind::SectionOr(..) => or_variable(plain),
        _ => plain,
    };
    match plain {
        Value::Object(map) => map,
        other => Map::from_iter([("const".to_owned(), other)]),
    }
}

fn text(text: &Text) -> Value {
    match text.numbers {
        None => json!({ "type": "string" }),
        Some((0, _)) => json!({ "type": ["string", "integer"] }),
        Some((min, max)) => any_of(&[
            json!({ "type": "integer", "minimum": min, "maximum": max }),
            json!({ "type": "string" }),
        ]),
    }
}

fn list(of: &Text, one: Value, least: usize, most: usize) -> Value {
    let list = json!({ "type": "array", "minItems": least, "maxItems": most, "items": one });
    either(any_of(&[one, list]), of.words)
}

fn either(plain: Value, words: &[&str]) -> Value {
    if words.is_empty() { plain } else { any_of(&[plain, word(words)]) }
}

fn any_of(choices: &[Value; 2]) -> Value {
    json!({ "anyOf": choices })
}

/// This, or a variable of the environment that stands for it.
fn or_variable(mut plain: Value) -> Value {
    let variable = json!({ "$ref": "#/$defs/variable" });
    if let Some(Value::Array(choices)) = plain.get_mut("anyOf") {
        choices.push(variable);
        return plain;
    }
    any_of(&[plain, variable])
}

/// These words; YAML takes `off` and `on` for false and true.
fn word(words: &[&str]) -> Value {
    let truths = [("off", false), ("on", true)].into_iter().filter(|(word, _)| words.contains(word));
    let truths = truths.map(|(_, truth)| json!(truth));
    let words: Vec<Value> = words.iter().map(|word| json!(word)).chain(truths).collect();
    json!({ "enum": words })
}

const DURATION: &str = "^[0-9]+(ms|s|m|h|d)$";
