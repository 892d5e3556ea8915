//! Configuration errors: one mistake in a file, and how all of them are told: message, file, line, column, the line
//! itself, a caret, a hint.
//!
//! Pure. What a file contains may be hostile: control characters and direction marks never reach the terminal, long
//! lines are cut, and however many mistakes there are, memory and output stay bounded.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use super::known_networks::KnownNetworks;
use super::settings::SecretSource;
pub(super) use super::shown::{harmless, listed, quoted};
use super::snippet::{Lines, Snippet, snippet};
use super::variables::{self, Used};

/// What the words of a command are called, among the files.
pub(super) const AT_RUN_TIME: &str = "at run time";

/// Where something stands. Line 0: nowhere in particular (the file as a whole).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Which of the files, counted from 0.
    pub(super) file: usize,
    /// Counted from 1.
    pub(super) line: usize,
    /// In characters, counted from 1.
    pub(super) column: usize,
    /// Characters to underline; at least 1.
    pub(super) width: usize,
}

impl Place {
    /// The file as a whole.
    pub(super) const FILE: Self = Self::whole(0);

    /// This file as a whole.
    pub(super) const fn whole(file: usize) -> Self {
        Self { file, line: 0, column: 0, width: 1 }
    }
}

/// One mistake of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The file it stands in.
    pub file: Arc<str>,
    /// Line in the file, counted from 1; 0 when the mistake is not at one place (a file that is too big).
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
    /// What is wrong and what would be right, in one line.
    pub message: String,
    /// More advice, when there is some.
    pub hint: Option<String>,
    /// What the variables of the environment at this place stand for.
    pub note: Option<String>,
    snippet: Option<Snippet>,
}

/// Every mistake of the files, in their order. Its `Display` is what an operator reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    files: Vec<Arc<str>>,
    list: Vec<Mistake>,
    untold: usize,
}

impl Mistakes {
    /// The first mistakes, at most 50, in the order of the file. Never empty.
    pub fn list(&self) -> &[Mistake] {
        &self.list
    }

    /// How many mistakes there are, those beyond the list included.
    pub fn count(&self) -> usize {
        self.list.len() + self.untold
    }

    /// The first of them in a line, with its place, and how many more there are.
    pub fn in_a_line(&self) -> String {
        let more = match self.count().saturating_sub(1) {
            0 => String::new(),
            more => format!(" (and {more} more)"),
        };
        self.list.first().map_or_else(String::new, |first| {
            let place =
                if first.line == 0 { String::new() } else { format!(":{}:{}", first.line, first.column) };
            format!("{}{place}: {}{more}", first.file, first.message)
        })
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for mistake in &self.list {
            write_mistake(f, mistake)?;
            writeln!(f)?;
        }
        let count = self.count();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        let first = self.files.first().map_or("", |name| name);
        let files = self.files.iter().filter(|name| ***name != *AT_RUN_TIME).count();
        let (more, were) = match files {
            0 | 1 => (String::new(), "the file was"),
            2 => (" and 1 more file".to_owned(), "the files were"),
            all => (format!(" and {} more files", all - 1), "the files were"),
        };
        write!(f, "{first}{more}: {count} {noun}")?;
        if self.untold > 0 {
            write!(f, " (the first {} are shown)", self.list.len())?;
        }
        write!(f, "; {were} not used")
    }
}

/// Gathers mistakes while a file is checked. Holds the first ones by position, and the number of the others.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// What the files are called.
    names: Vec<Arc<str>>,
    found: Vec<(Place, String, Option<String>)>,
    dropped: usize,
    /// How what stands outside of the file is read.
    reads: Option<Reads>,
    /// Where passwords stand.
    hidden: Vec<Place>,
    /// Where variables of the environment stand, and what for.
    filled: BTreeMap<Place, Vec<Used>>,
    /// How many of them the file uses.
    uses: usize,
    /// Files of networks.
    pub(super) networks: KnownNetworks,
    /// The text of those of them that are wrong, whose names stand behind those of the configuration.
    more_texts: Vec<String>,
}

/// How what stands outside of the file is read.
#[derive(Debug, Clone, Copy)]
pub struct Reads {
    /// A password, or why it cannot be read.
    pub secret: fn(&SecretSource) -> Result<Vec<u8>, String>,
    /// A variable of the environment, if it is set.
    pub variable: fn(&str) -> Option<OsString>,
    /// A file of networks, or why it cannot be read.
    pub networks: fn(&str) -> Result<Vec<u8>, String>,
}

/// A variable of the environment that a file uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// The file that uses it.
    pub file: Arc<str>,
    /// What it stands for; `None`: nobody is shown it.
    pub value: Option<String>,
    /// It is not set, and this is what the file says for that.
    pub is_default: bool,
    /// Line in the file, counted from 1.
    pub line: usize,
    /// Column in characters, counted from 1.
    pub column: usize,
}

impl Report {
    /// An empty one, for a file whose passwords are read so. Without it each of them is a word that nobody takes for one.
    pub(super) fn reading(reads: Reads) -> Self {
        Self { reads: Some(reads), ..Self::default() }
    }

    /// What the files are called whose mistakes are gathered.
    pub(super) fn set_names(&mut self, names: &[&str]) {
        self.names = names.iter().map(|name| (*name).into()).collect();
    }

    fn name_of(&self, place: Place) -> Arc<str> {
        self.names.get(place.file).cloned().unwrap_or_default()
    }

    /// The place of something else in a message: its line, and which file's where there are several.
    pub(super) fn spot(&self, place: Place) -> String {
        match self.names.get(place.file) {
            Some(name) if self.names.len() > 1 => format!("line {} of {}", place.line, harmless(name)),
            _ => format!("line {}", place.line),
        }
    }

    /// Files that hold passwords as they are, by their numbers.
    pub(super) fn with_passwords(&self) -> Vec<usize> {
        let mut files: Vec<usize> = self
            .hidden
            .iter()
            .filter(|place| !self.filled.contains_key(place))
            .map(|place| place.file)
            .collect();
        files.sort_unstable();
        files.dedup();
        files
    }

    /// Reads a password.
    pub(super) fn secret(&self, source: &SecretSource) -> Result<Vec<u8>, String> {
        self.reads.map_or_else(|| Ok(b"(unread)".to_vec()), |reads| (reads.secret)(source))
    }

    /// Reads a file of networks.
    pub(super) fn read_networks(&self, path: &str) -> Result<Vec<u8>, String> {
        self.reads.map_or_else(|| Ok(b"# unread".to_vec()), |reads| (reads.networks)(path))
    }

    /// The number that one more file has.
    pub(super) fn next_file(&self) -> usize {
        self.names.len()
    }

    /// One more file, in which mistakes are told.
    pub(super) fn add_file(&mut self, name: &str, text: String) {
        self.names.push(name.into());
        self.more_texts.push(text);
    }

    /// The scalar with its variables put in; `None`: what is wrong with them is told.
    pub(super) fn fill(&mut self, text: &str, place: Place) -> Option<String> {
        let look = |name: &str| self.reads.and_then(|reads| (reads.variable)(name));
        let filled = match variables::fill(text, look) {
            Ok(filled) => filled,
            Err(problem) => {
                self.tell_with_hint(place, problem.told, problem.advice);
                return None;
            }
        };
        let before = self.uses;
        self.uses += filled.uses.len();
        if self.uses > variables::USES_MAX {
            if before <= variables::USES_MAX {
                let most = variables::USES_MAX;
                self.tell(place, format!("more than {most} variables of the environment in this file"));
            }
            return None;
        }
        if !filled.uses.is_empty() {
            self.filled.insert(place, filled.uses);
        }
        Some(filled.text)
    }

    /// What stands at one place is repeated at another.
    pub(super) fn is_filled_as(&mut self, first: Place, place: Place) {
        if let Some(uses) = self.filled.get(&first) {
            self.filled.insert(place, uses.clone());
        }
    }

    /// The name of the one variable that is all that a value says.
    pub(super) fn only_variable(&self, place: Place, value: &str) -> Option<&str> {
        match self.filled.get(&place).map(Vec::as_slice) {
            Some([only]) if !only.is_default && only.value == value => Some(&only.name),
            _ => None,
        }
    }

    /// The variables that the file uses, in its order.
    pub(super) fn variables(&self) -> Vec<Variable> {
        let one = |place: &Place, used: &Used| Variable {
            name: used.name.clone(),
            file: self.name_of(*place),
            value: (!self.hidden.contains(place) && (used.is_default || !variables::is_secret(&used.name)))
                .then(|| variables::shown(&used.value)),
            is_default: used.is_default,
            line: place.line,
            column: place.column,
        };
        let all = self.filled.iter().flat_map(|(place, uses)| uses.iter().map(move |used| one(place, used)));
        all.collect()
    }

    /// A password stands there: nobody is shown it.
    pub(super) fn hide(&mut self, place: Place) {
        self.hidden.push(place);
    }

    /// Where passwords stand, in the order of the file.
    pub(super) fn hidden(&mut self) -> &[Place] {
        self.hidden.sort();
        self.hidden.dedup();
        &self.hidden
    }

    /// One more mistake.
    pub(super) fn tell(&mut self, place: Place, message: impl Into<String>) {
        self.push(place, message.into(), None);
    }

    /// One more mistake, with advice.
    pub(super) fn tell_with_hint(
        &mut self,
        place: Place,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(place, message.into(), Some(hint.into()));
    }

    /// This, instead of everything that was told so far.
    pub(super) fn tell_only(&mut self, place: Place, message: impl Into<String>) {
        self.found.clear();
        self.dropped = 0;
        self.tell(place, message);
    }

    /// Everything that another one was told.
    pub(super) fn absorb(&mut self, other: Self) {
        self.dropped += other.dropped;
        self.hidden.extend(other.hidden);
        for (place, message, hint) in other.found {
            self.push(place, message, hint);
        }
    }

    /// How much was told so far.
    pub(super) fn count(&self) -> usize {
        self.found.len() + self.dropped
    }

    /// Whether nothing was told so far.
    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Everything told, with the lines of `texts` it is about: one for each file, in which its places count.
    pub(super) fn into_mistakes(mut self, texts: &[String]) -> Mistakes {
        self.keep_first();
        let texts = texts.iter().chain(&self.more_texts);
        let mut lines: Vec<Lines<'_>> = texts.map(|text| Lines::new(text)).collect();
        let files: Vec<Arc<str>> = self.names.iter().map(|name| harmless(name).into()).collect();
        let (filled, hidden) = (self.filled, self.hidden);
        let list = self.found.into_iter().map(|(place, message, hint)| {
            let uses = filled.get(&place).map_or(&[][..], Vec::as_slice);
            let (message, hint) = unseen(message, hint, uses);
            let note = (!uses.is_empty() && !hidden.contains(&place)).then(|| variables::explained(uses));
            let line = lines.get_mut(place.file).and_then(|lines| lines.get(place.line));
            let snippet = line.map(|line| snippet(line, place.column, place.width));
            let file = files.get(place.file).cloned().unwrap_or_default();
            Mistake { file, line: place.line, column: place.column, message, hint, note, snippet }
        });
        let list = list.collect();
        Mistakes { list, files, untold: self.dropped }
    }

    fn push(&mut self, place: Place, message: String, hint: Option<String>) {
        self.found.push((place, message, hint));
        // Twice the number kept, so that sorting costs a constant per mistake.
        if self.found.len() >= 2 * TOLD_MAX {
            self.keep_first();
        }
    }

    fn keep_first(&mut self) {
        self.found.sort();
        // What an alias brings in twice is one mistake of the file.
        self.found.dedup();
        self.dropped += self.found.len().saturating_sub(TOLD_MAX);
        self.found.truncate(TOLD_MAX);
    }
}

/// The message, without what stands in a variable whose name says that it is secret.
fn unseen(message: String, hint: Option<String>, uses: &[Used]) -> (String, Option<String>) {
    let mut secret = uses.iter().filter(|used| !used.is_default && variables::is_secret(&used.name));
    match secret.next() {
        None => (message, hint),
        Some(used) => {
            let message = format!(
                "what `${{{}}}` stands for cannot stand here; by its name it is secret, so it is not shown",
                used.name
            );
            (message, None)
        }
    }
}

fn write_mistake(f: &mut fmt::Formatter<'_>, mistake: &Mistake) -> fmt::Result {
    let file_name = &mistake.file;
    writeln!(f, "error: {}", mistake.message)?;
    let number = mistake.line.to_string();
    let gutter = number.len();
    if mistake.line == 0 {
        writeln!(f, " --> {file_name}")?;
    } else {
        writeln!(f, "{:gutter$}--> {file_name}:{number}:{}", "", mistake.column)?;
    }
    if let Some(snippet) = &mistake.snippet {
        writeln!(f, "{number} | {}", snippet.line)?;
        writeln!(f, "{:gutter$} | {:indent$}{}", "", "", "^".repeat(snippet.width), indent = snippet.indent)?;
    }
    if let Some(hint) = &mistake.hint {
        writeln!(f, "{:gutter$} = hint: {hint}", "")?;
    }
    if let Some(note) = &mistake.note {
        writeln!(f, "{:gutter$} = note: {note}", "")?;
    }
    Ok(())
}

/// More than a reader corrects in one go.
const TOLD_MAX: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn place(line: usize, column: usize, width: usize) -> Place {
        Place { file: 0, line, column, width }
    }

    fn mistakes(mut report: Report, text: &str) -> Mistakes {
        report.set_names(&["f.yaml"]);
        report.into_mistakes(&[text.to_owned()])
    }

    fn told(text: &str, place: Place) -> String {
        let mut report = Report::default();
        report.tell(place, "wrong");
        mistakes(report, text).to_string()
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_a_caret() {
        let mut report = Report::default();
        report.tell_with_hint(place(2, 3, 4), "wrong", "do this");
        report.tell(place(1, 1, 1), "also wrong");
        assert_eq!(
            mistakes(report, "a: 1\n  word: 2\n").to_string(),
            "error: also wrong\n --> f.yaml:1:1\n1 | a: 1\n  | ^\n\n\
             error: wrong\n --> f.yaml:2:3\n2 |   word: 2\n  |   ^^^^\n  = hint: do this\n\n\
             f.yaml: 2 mistakes; the file was not used"
        );
    }

    #[test]
    fn every_kind_of_line_end_counts_once() {
        for text in ["a\nb\nc", "a\r\nb\r\nc", "a\rb\rc", "a\n\nc"] {
            assert!(told(text, place(3, 1, 1)).contains("3 | c\n"), "{text:?}");
        }
        assert!(!told("a\n", place(9, 1, 1)).contains(" | "));
    }

    #[test]
    fn long_lines_are_cut_around_the_place() {
        let text = format!("{}HERE{}", "x".repeat(5000), "y".repeat(5000));
        let told = told(&text, place(1, 5001, 4));
        assert!(told.lines().all(|line| line.chars().count() <= 100), "{told}");
        let lines: Vec<&str> = told.lines().collect();
        let caret = lines[3].find('^').unwrap();
        let shown: String = lines[2].chars().skip(caret).take(4).collect();
        assert_eq!(shown, "HERE");
    }

    #[test]
    fn nothing_of_the_file_acts_on_the_terminal() {
        let told = told("a\t\x1b[31m\u{202e}b", place(1, 1, 1));
        assert!(!told.contains(['\x1b', '\t', '\u{202e}']), "{told:?}");
    }

    #[test]
    fn however_many_there_are_the_first_are_told_and_the_others_counted() {
        let mut report = Report::default();
        for line in (1..=100_000).rev() {
            report.tell(place(line, 1, 1), "wrong");
        }
        let mistakes = mistakes(report, "a\nb\n");
        assert_eq!(mistakes.count(), 100_000);
        assert_eq!(mistakes.list().len(), TOLD_MAX);
        assert_eq!(mistakes.list()[0].line, 1);
        assert_eq!(mistakes.list()[49].line, 50);
        assert!(
            mistakes
                .to_string()
                .ends_with("f.yaml: 100000 mistakes (the first 50 are shown); the file was not used")
        );
    }
}
