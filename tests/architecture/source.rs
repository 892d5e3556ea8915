//! Rust source as `syn` reads it: the paths, functions and tokens of each file, with line numbers, and what only tests see
//! left out.

use std::path::Path;

use proc_macro2::{LineColumn, Spacing, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

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
    /// Files of modules that only tests see, as the beginnings of their places.
    test_modules: Vec<String>,
    named: Vec<Named>,
    functions: Vec<Function>,
}

/// A word, `::`, a lifetime, a literal as it is written, or one character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub text: String,
    pub line: usize,
    column: usize,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }

    fn place(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

/// A path as it is written, `use` trees taken apart.
#[derive(Debug, Clone)]
pub struct Named {
    pub segments: Vec<String>,
    pub line: usize,
    /// Passed on to others by `pub use`, and nothing else.
    pub passed_on: bool,
}

/// A function with a body.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    pub line: usize,
    pub last_line: usize,
}

impl Source {
    /// Text that is no Rust is a fault of the test, and says so.
    #[track_caller]
    pub fn new(path: &str, raw: &str) -> Self {
        let file = syn::parse_file(raw).unwrap_or_else(|error| panic!("{path}: {error}: {raw}"));
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let stem = match path.strip_suffix(".rs").unwrap_or(path) {
            stem if stem.ends_with("/mod") || stem.ends_with("/lib") || stem.ends_with("/main") => folder,
            stem => stem,
        };
        let mut reader = Reader::default();
        reader.visit_file(&file);
        let mut tokens = Vec::new();
        flatten(raw.parse().unwrap(), &mut tokens);
        let is_live = |place: (usize, usize)| {
            !reader.tests.iter().any(|(first, last)| place >= *first && place < *last)
        };
        let live = tokens.iter().filter(|token| is_live(token.place())).cloned().collect();
        let test_modules = reader.test_modules.into_iter().map(|(name, file)| match file {
            Some(file) => format!("{folder}/{file}"),
            None => format!("{stem}/{name}"),
        });
        Self {
            path: path.into(),
            raw: raw.into(),
            live,
            tokens,
            test_modules: test_modules.collect(),
            named: reader.named,
            functions: reader.functions,
        }
    }

    /// The folder or file below `src` it belongs to; `main` and `lib` are their own.
    pub fn room(&self) -> &str {
        let inner = self.inner();
        inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs")
    }

    /// Its place below `src`.
    pub fn inner(&self) -> &str {
        self.path.strip_prefix("src/").unwrap_or(&self.path)
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
    pub fn named(&self) -> &[Named] {
        if self.live.is_empty() { &[] } else { &self.named }
    }

    /// Every function with a body, those of tests included.
    pub fn functions(&self) -> &[Function] {
        &self.functions
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

/// What a walk through the syntax finds.
#[derive(Default)]
struct Reader {
    named: Vec<Named>,
    functions: Vec<Function>,
    /// From where to where only tests see.
    tests: Vec<((usize, usize), (usize, usize))>,
    /// Modules of tests with files of their own: their names, and the files where `#[path]` says.
    test_modules: Vec<(String, Option<String>)>,
    /// Inside of what only tests see.
    in_test: bool,
}

impl Reader {
    fn name(&mut self, segments: Vec<String>, line: usize, passed_on: bool) {
        if !self.in_test && segments.len() > 1 {
            self.named.push(Named { segments, line, passed_on });
        }
    }

    fn take_tree(&mut self, tree: &syn::UseTree, prefix: &[String], passed_on: bool) {
        let mut segments = prefix.to_vec();
        let (last, line) = match tree {
            syn::UseTree::Path(path) => {
                segments.push(path.ident.to_string());
                return self.take_tree(&path.tree, &segments, passed_on);
            }
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.take_tree(tree, prefix, passed_on));
            }
            syn::UseTree::Name(name) => (name.ident.to_string(), name.ident.span()),
            syn::UseTree::Rename(rename) => (rename.ident.to_string(), rename.ident.span()),
            syn::UseTree::Glob(glob) => ("*".to_owned(), glob.star_token.span()),
        };
        segments.push(last);
        self.name(segments, line.start().line, passed_on);
    }

    fn name_all_in(&mut self, stream: TokenStream) {
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        for (segments, line) in paths_in(&tokens) {
            self.name(segments, line, false);
        }
    }

    fn function(&mut self, name: &syn::Ident, function: proc_macro2::Span) {
        let (line, last_line) = (name.span().start().line, function.end().line);
        self.functions.push(Function { name: name.to_string(), line, last_line });
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let before = self.in_test;
        let attributes = attributes_of(item);
        if !before && attributes.iter().any(is_for_tests) {
            let place = |at: LineColumn| (at.line, at.column);
            self.tests.push((place(item.span().start()), place(item.span().end())));
            self.in_test = true;
            if let syn::Item::Mod(module) = item
                && module.content.is_none()
            {
                let file = attributes.iter().find_map(file_of);
                self.test_modules.push((module.ident.to_string(), file));
            }
        }
        visit::visit_item(self, item);
        self.in_test = before;
    }

    /// `pub(in path)` says who may see, and imports nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let passed_on = !matches!(item.vis, syn::Visibility::Inherited);
        self.take_tree(&item.tree, &[], passed_on);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.name(segments, path.span().start().line, false);
        visit::visit_path(self, path);
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        visit::visit_meta_list(self, list);
        self.name_all_in(list.tokens.clone());
    }

    fn visit_macro(&mut self, one: &'ast syn::Macro) {
        visit::visit_macro(self, one);
        // What is inside of a macro is whatever that makes of it: every path in it counts.
        self.name_all_in(one.tokens.clone());
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig.ident, function.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig.ident, function.span());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if function.default.is_some() {
            self.function(&function.sig.ident, function.span());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

fn attributes_of(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attribute: &syn::Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
}

/// The file that `#[path = "..."]` names.
fn file_of(attribute: &syn::Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    match &pair.value {
        syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) if pair.path.is_ident("path") => {
            Some(text.value())
        }
        _ => None,
    }
}

/// Tokens in their order, groups opened, doc comments left out.
fn flatten(stream: TokenStream, into: &mut Vec<Token>) {
    let push = |into: &mut Vec<Token>, text: String, at: LineColumn| {
        into.push(Token { text, line: at.line, column: at.column });
    };
    let mut trees = stream.into_iter().peekable();
    while let Some(tree) = trees.next() {
        let at = tree.span().start();
        match tree {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                let first = group.stream().into_iter().next();
                if matches!(first, Some(TokenTree::Ident(word)) if word == "doc")
                    && matches!(into.last().map(|token| &*token.text), Some("#" | "!"))
                {
                    // `#[doc = "..."]`: prose.
                    while into.last().is_some_and(|token| matches!(&*token.text, "#" | "!")) {
                        into.pop();
                    }
                    continue;
                }
                push(into, open.to_owned(), group.span_open().start());
                flatten(group.stream(), into);
                push(into, close.to_owned(), group.span_close().start());
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' && punct.spacing() == Spacing::Joint => {
                let twice = trees.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == ':'));
                push(into, if twice.is_some() { "::" } else { ":" }.to_owned(), at);
            }
            TokenTree::Punct(quote) if quote.as_char() == '\'' => {
                let name = trees.next_if(|next| matches!(next, TokenTree::Ident(_)));
                push(into, format!("'{}", name.map_or(String::new(), |name| name.to_string())), at);
            }
            other => push(into, other.to_string(), at),
        }
    }
}

/// Paths of more than one word among tokens.
fn paths_in(tokens: &[Token]) -> Vec<(Vec<String>, usize)> {
    let word = |place: usize| tokens.get(place).map_or("", |token| &*token.text);
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let line = tokens[place].line;
        if !tokens[place].is_word() || place.checked_sub(1).is_some_and(|before| word(before) == ".") {
            place += 1;
            continue;
        }
        let mut segments = vec![word(place).to_owned()];
        place += 1;
        while word(place) == "::" && tokens.get(place + 1).is_some_and(Token::is_word) {
            segments.push(word(place + 1).to_owned());
            place += 2;
        }
        found.push((segments, line));
    }
    found
}

#[test]
fn literals_and_comments_are_not_code() {
    let source = Source::new(
        "src/a.rs",
        "/// k::l\nfn a() { let b = \"x::y \\\" // no\"; /* /* m */ c */ let d = r#\"e\"f\"#; let g: &'static u8 = &b'\\''; // h\nlet i = 'j'; }",
    );
    let words: Vec<_> =
        source.tokens.iter().filter(|token| token.is_word()).map(|token| &*token.text).collect();
    let literals = ["r#\"e\"f\"#", "b'\\''"];
    let words: Vec<_> = words.into_iter().filter(|word| !literals.contains(word)).collect();
    assert_eq!(words, ["fn", "a", "let", "b", "let", "d", "let", "g", "u8", "let", "i"]);
    assert_eq!(source.tokens.last().unwrap().line, 3);
    assert!(source.named().is_empty());
}

#[test]
fn trees_are_taken_apart() {
    let source = Source::new(
        "src/a.rs",
        "use crate::{b::{self, C as D}, e}; pub use f::*; pub(in crate::u) struct V; fn g() -> impl H { i::j(); ::k::l(); m.n(); Vec::<o::P>::q(); r!(s::t, u) }",
    );
    let mut named: Vec<_> = source.named().iter().map(|named| named.segments.join("::")).collect();
    named.sort();
    assert_eq!(
        named,
        ["Vec::q", "crate::b::C", "crate::b::self", "crate::e", "f::*", "i::j", "k::l", "o::P", "s::t"]
    );
    assert!(source.named().iter().all(|named| named.passed_on == (named.segments[0] == "f")));
}

#[test]
fn tests_are_left_out() {
    let text = "fn a() {} #[cfg(test)] #[path = \"b_tests.rs\"] mod b; #[cfg(test)] mod c; \
        #[cfg(test)] mod d { fn e() { x::y(); } } fn f() { z::y(); }";
    let mut sources = vec![
        Source::new("src/g/mod.rs", text),
        Source::new("src/g/b_tests.rs", "fn a() { x::y(); }"),
        Source::new("src/g/c/h.rs", "fn a() { x::y(); }"),
        Source::new("src/g/i.rs", "fn a() { x::y(); }"),
    ];
    leave_out_test_modules(&mut sources);
    let named: Vec<_> = sources.iter().map(|source| source.named().len()).collect();
    assert_eq!(named, [1, 0, 0, 1]);
    assert!(!sources[0].live.iter().any(|token| token.text == "x"));
    assert_eq!(sources[0].functions().len(), 3);
}
