//! Rust text as tokens with line numbers: just enough to see paths, calls and functions, and to leave tests out.
//!
//! Comments and the insides of literals never look like code. What is not understood is one token a character.

use std::path::Path;

/// One file.
#[derive(Debug)]
pub struct Source {
    /// Its place, `src/...`.
    pub path: String,
    pub raw: String,
    /// All of its code.
    pub tokens: Vec<Token>,
    /// Its code without what only tests see.
    pub live: Vec<Token>,
    pub comments: Vec<Token>,
    /// Files of modules that only tests see, as the beginnings of their places.
    test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// A word, `::`, a lifetime, a string with its opening quote, or one character.
    pub text: String,
    pub line: usize,
}

impl Token {
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// A path as it is written, `use` trees taken apart.
#[derive(Debug)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
}

/// A function with a body.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub last_line: usize,
}

impl Source {
    pub fn new(path: &str, raw: &str) -> Self {
        let (tokens, comments) = tokens_of(raw);
        let (live, modules) = without_tests(&tokens);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = match path.strip_suffix(".rs").unwrap_or(path) {
            stem if stem.ends_with("/mod") || stem.ends_with("/lib") || stem.ends_with("/main") => folder,
            stem => stem,
        };
        let test_modules = modules
            .into_iter()
            .map(|(name, file)| match file {
                Some(file) => format!("{folder}/{file}"),
                None => format!("{stem}/{name}"),
            })
            .collect();
        Self { path: path.into(), raw: raw.into(), tokens, live, comments, test_modules }
    }

    /// The folder or file below `src` it belongs to; `main` and `lib` are their own.
    pub fn room(&self) -> &str {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// How many `super` lead to the root of the crate.
    pub fn depth(&self) -> usize {
        let parts = self.path.split('/').count() - 1;
        match self.path.rsplit('/').next() {
            Some("mod.rs" | "lib.rs" | "main.rs") => parts - 1,
            _ => parts,
        }
    }

    /// The paths named in its live code.
    pub fn named(&self) -> Vec<Named> {
        named_in(&self.live)
    }

    /// Every function with a body, those of tests included.
    pub fn functions(&self) -> Vec<Function> {
        functions_in(&self.tokens)
    }
}

/// Every file below `src`, those that only tests see with no live code.
pub fn read(root: &Path) -> Vec<Source> {
    let mut sources = Vec::new();
    for path in files_below(&root.join("src")) {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".rs") {
            sources.push(Source::new(&name, &std::fs::read_to_string(&path).unwrap()));
        }
    }
    leave_out_test_modules(&mut sources);
    sources
}

/// Files below a folder, in order.
pub fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            found.extend(files_below(&entry));
        } else {
            found.push(entry);
        }
    }
    found
}

pub fn leave_out_test_modules(sources: &mut [Source]) {
    let places: Vec<String> = sources.iter().flat_map(|source| source.test_modules.clone()).collect();
    for source in sources {
        let is_test = |place: &String| {
            source.path == *place
                || source.path == format!("{place}.rs")
                || source.path.starts_with(&format!("{place}/"))
        };
        if places.iter().any(is_test) {
            source.live.clear();
        }
    }
}

fn tokens_of(raw: &str) -> (Vec<Token>, Vec<Token>) {
    let text: Vec<char> = raw.chars().collect();
    let at = |place: usize| text.get(place).copied().unwrap_or('\0');
    let (mut tokens, mut comments) = (Vec::new(), Vec::new());
    let (mut place, mut line) = (0, 1);
    while place < text.len() {
        let begin = place;
        let c = text[place];
        let mut comment = false;
        if c == '/' && at(place + 1) == '/' {
            while place < text.len() && text[place] != '\n' {
                place += 1;
            }
            comment = true;
        } else if c == '/' && at(place + 1) == '*' {
            place = end_of_block_comment(&text, place);
            comment = true;
        } else if let Some(end) = end_of_literal(&text, place) {
            place = end;
        } else if c == '\'' {
            place += 1;
            while at(place).is_alphanumeric() || at(place) == '_' {
                place += 1;
            }
        } else if c.is_alphanumeric() || c == '_' {
            while at(place).is_alphanumeric() || at(place) == '_' {
                place += 1;
            }
        } else if c == ':' && at(place + 1) == ':' {
            place += 2;
        } else {
            place += 1;
        }
        let piece: String = text[begin..place].iter().collect();
        let lines = piece.matches('\n').count();
        if comment {
            comments.push(Token { text: piece, line });
        } else if !c.is_whitespace() {
            tokens.push(Token { text: piece.trim_start_matches(['b', 'r', 'c', '#']).to_owned(), line });
            // Words keep their first letters: only literals lose the marks in front of the quote.
            if let Some(last) = tokens.last_mut()
                && !last.text.starts_with(['"', '\''])
            {
                last.text = text[begin..place].iter().collect();
            }
        }
        line += lines;
    }
    (tokens, comments)
}

fn end_of_block_comment(text: &[char], mut place: usize) -> usize {
    let mut depth = 0;
    while place < text.len() {
        match (text[place], text.get(place + 1)) {
            ('/', Some('*')) => (depth, place) = (depth + 1, place + 2),
            ('*', Some('/')) => (depth, place) = (depth - 1, place + 2),
            _ => place += 1,
        }
        if depth == 0 {
            break;
        }
    }
    place
}

/// The end of a string, byte string, raw string or character that begins here.
fn end_of_literal(text: &[char], begin: usize) -> Option<usize> {
    let at = |place: usize| text.get(place).copied().unwrap_or('\0');
    let mut place = begin;
    if matches!(at(place), 'b' | 'c') && matches!(at(place + 1), '"' | '\'' | 'r') {
        place += 1;
    }
    let mut hashes = 0;
    if at(place) == 'r' && matches!(at(place + 1), '"' | '#') {
        place += 1;
        while at(place) == '#' {
            (hashes, place) = (hashes + 1, place + 1);
        }
        if at(place) != '"' {
            return None;
        }
        place += 1;
        while place < text.len() {
            if text[place] == '"' && (0..hashes).all(|hash| at(place + 1 + hash) == '#') {
                return Some(place + 1 + hashes);
            }
            place += 1;
        }
        return Some(place);
    }
    let quote = at(place);
    // 'x' and '\n' are characters; 'x without a second quote is a lifetime.
    if quote == '\'' && at(place + 1) != '\\' && at(place + 2) != '\'' || !matches!(quote, '"' | '\'') {
        return None;
    }
    place += 1;
    while place < text.len() && text[place] != quote {
        place += if text[place] == '\\' { 2 } else { 1 };
    }
    Some((place + 1).min(text.len()))
}

type TestModule = (String, Option<String>);

/// The tokens outside of `#[cfg(test)]` items, and the test modules that have files of their own.
fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<TestModule>) {
    let word = |place: usize| tokens.get(place).map_or("", |token| &*token.text);
    let (mut live, mut modules) = (Vec::new(), Vec::new());
    let mut place = 0;
    while place < tokens.len() {
        let is_test = ["#", "[", "cfg", "(", "test", ")", "]"]
            .iter()
            .enumerate()
            .all(|(i, text)| word(place + i) == *text);
        if !is_test {
            live.push(tokens[place].clone());
            place += 1;
            continue;
        }
        let mut file = None;
        place += 7;
        while word(place) == "#" {
            if word(place + 2) == "path" {
                file = Some(word(place + 4).trim_matches('"').to_owned());
            }
            place = end_of_group(tokens, place + 1);
        }
        while !matches!(word(place), "{" | ";" | "") {
            if word(place) == "mod" && word(place + 2) == ";" {
                modules.push((word(place + 1).to_owned(), file.take()));
            }
            place = if word(place) == "(" { end_of_group(tokens, place) } else { place + 1 };
        }
        place = if word(place) == "{" { end_of_group(tokens, place) } else { place + 1 };
    }
    (live, modules)
}

/// Behind the bracket that closes the one at `open`.
fn end_of_group(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (place, token) in tokens.iter().enumerate().skip(open) {
        match &*token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return place + 1;
        }
    }
    tokens.len()
}

fn named_in(tokens: &[Token]) -> Vec<Named> {
    let word = |place: usize| tokens.get(place).map_or("", |token| &*token.text);
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let before = place.checked_sub(1).map_or("", word);
        // `::name` continues a path, unless nothing stands in front of it.
        let continues = before == "::"
            && place.checked_sub(2).is_some_and(|place| tokens[place].is_word() || tokens[place].text == ">");
        if word(place) == "use" && word(place + 1) != "<" {
            place += 1;
            take_tree(tokens, &mut place, &[], &mut found);
        } else if tokens[place].is_word() && !continues && before != "." {
            let line = tokens[place].line;
            let mut segments = vec![word(place).to_owned()];
            place += 1;
            while word(place) == "::" && tokens.get(place + 1).is_some_and(Token::is_word) {
                segments.push(word(place + 1).to_owned());
                place += 2;
            }
            if segments.len() > 1 {
                found.push(Named { segments, line });
            }
        } else {
            place += 1;
        }
    }
    found
}

fn take_tree(tokens: &[Token], place: &mut usize, prefix: &[String], found: &mut Vec<Named>) {
    let word = |place: usize| tokens.get(place).map_or("", |token| &*token.text);
    let mut segments = prefix.to_vec();
    while let Some(token) = tokens.get(*place) {
        *place += 1;
        match &*token.text {
            "::" => {}
            "{" => {
                while !matches!(word(*place), "}" | "") {
                    take_tree(tokens, place, &segments, found);
                    if word(*place) == "," {
                        *place += 1;
                    }
                }
                *place += 1;
                return;
            }
            text => {
                segments.push(text.to_owned());
                if word(*place) != "::" {
                    if word(*place) == "as" {
                        *place += 2;
                    }
                    found.push(Named { segments, line: token.line });
                    return;
                }
            }
        }
    }
}

fn functions_in(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for (place, pair) in tokens.windows(2).enumerate() {
        if pair[0].text != "fn" || !pair[1].is_word() {
            continue;
        }
        let mut body = place + 2;
        while body < tokens.len() && !matches!(&*tokens[body].text, "{" | ";") {
            body =
                if matches!(&*tokens[body].text, "(" | "[") { end_of_group(tokens, body) } else { body + 1 };
        }
        if tokens.get(body).is_some_and(|token| token.text == "{") {
            let last = end_of_group(tokens, body) - 1;
            let (name, line) = (pair[1].text.clone(), pair[0].line);
            found.push(Function { name, line, last_line: tokens[last].line });
        }
    }
    found
}

#[test]
fn literals_and_comments_are_not_code() {
    let source = Source::new(
        "src/a.rs",
        "let a = \"x::y \\\" // no\"; /* /* b */ c */ let d = r#\"e\"f\"#; let g: &'static u8 = &b'\\''; // h\nlet i = 'j';",
    );
    let words: Vec<_> =
        source.tokens.iter().filter(|token| token.is_word()).map(|token| &*token.text).collect();
    assert_eq!(words, ["let", "a", "let", "d", "let", "g", "u8", "let", "i"]);
    assert_eq!(source.tokens.last().unwrap().line, 2);
    assert_eq!(source.comments.len(), 2);
}

#[test]
fn trees_are_taken_apart() {
    let source = Source::new(
        "src/a.rs",
        "use crate::{b::{self, C as D}, e}; use f::*; fn g() -> impl H + use<> { i::j(); ::k::l(); m.n(); Vec::<o::P>::q() }",
    );
    let named: Vec<_> = source.named().iter().map(|named| named.segments.join("::")).collect();
    assert_eq!(named, ["crate::b::self", "crate::b::C", "crate::e", "f::*", "i::j", "k::l", "o::P"]);
}

#[test]
fn tests_are_left_out() {
    let text = "fn a() {} #[cfg(test)] #[path = \"b_tests.rs\"] mod b; #[cfg(test)] mod c; \
        #[cfg(test)] mod d { fn e() { x::y(); } } fn f() {}";
    let mut sources = vec![
        Source::new("src/g/mod.rs", text),
        Source::new("src/g/b_tests.rs", "x::y();"),
        Source::new("src/g/c/h.rs", "x::y();"),
        Source::new("src/g/i.rs", "x::y();"),
    ];
    leave_out_test_modules(&mut sources);
    let named: Vec<_> = sources.iter().map(|source| source.named().len()).collect();
    assert_eq!(named, [0, 0, 0, 1]);
    assert_eq!(sources[0].functions().len(), 3);
}
