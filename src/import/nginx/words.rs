//! Directives of nginx: words, blocks, quotes, comments.

use super::super::notes::At;

/// A directive with its arguments, and what stands in its block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) file: String,
    /// Counted from 1.
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) block: Option<Vec<Self>>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn at(&self) -> At {
        At { file: self.file.clone(), line: self.line }
    }

    /// The argument at this place, from 1.
    pub(super) fn word(&self, at: usize) -> Option<&str> {
        self.words.get(at).map(String::as_str)
    }
}

enum Token {
    Word(String),
    End,
    Open,
    Close,
}

/// All directives of a text; what is not closed ends with it.
pub(super) fn directives(file: &str, text: &str) -> Vec<Directive> {
    let mut open: Vec<(Option<Directive>, Vec<Directive>)> = vec![(None, Vec::new())];
    let (mut words, mut began) = (Vec::new(), 1);
    let new = |line, words, block| Directive { file: file.to_owned(), line, words, block };
    for (line, token) in tokens(text) {
        match token {
            Token::Word(word) => {
                if words.is_empty() {
                    began = line;
                }
                words.push(word);
            }
            Token::End if words.is_empty() => {}
            Token::End => {
                if let Some((_, list)) = open.last_mut() {
                    list.push(new(began, std::mem::take(&mut words), None));
                }
            }
            // Deeper than any file of people: passed over as a directive without a block.
            Token::Open if open.len() >= DEPTH_MAX => words.clear(),
            Token::Open => open.push((Some(new(began, std::mem::take(&mut words), None)), Vec::new())),
            Token::Close => close(&mut open),
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().map(|(_, list)| list).unwrap_or_default()
}

fn close(open: &mut Vec<(Option<Directive>, Vec<Directive>)>) {
    if open.len() < 2 {
        return;
    }
    if let Some((Some(directive), block)) = open.pop()
        && let Some((_, list)) = open.last_mut()
    {
        list.push(Directive { block: Some(block), ..directive });
    }
}

fn tokens(text: &str) -> Vec<(usize, Token)> {
    let mut all = Vec::new();
    let mut letters = text.chars().peekable();
    let (mut line, mut word): (usize, Option<String>) = (1, None);
    let mut quote = None;
    while let Some(letter) = letters.next() {
        let at = line;
        if letter == '\n' {
            line += 1;
        }
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (_, '\\') => {
                let word = word.get_or_insert_default();
                match letters.next() {
                    Some(escaped @ ('"' | '\'' | '\\' | ' ' | ';' | '{' | '}')) => word.push(escaped),
                    Some('n') => word.push('\n'),
                    Some('r') => word.push('\r'),
                    Some('t') => word.push('\t'),
                    Some(other) => {
                        if other == '\n' {
                            line += 1;
                        }
                        word.push('\\');
                        word.push(other);
                    }
                    None => {}
                }
            }
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') if word.is_none() => {
                quote = Some(letter);
                word = Some(String::new());
            }
            (None, '#') if word.is_none() => while letters.next_if(|one| *one != '\n').is_some() {},
            // A variable: its braces are none of a block.
            (None, '$') if letters.peek() == Some(&'{') => {
                let word = word.get_or_insert_default();
                word.push('$');
                while let Some(one) = letters.next_if(|one| !one.is_whitespace()) {
                    word.push(one);
                    if one == '}' {
                        break;
                    }
                }
            }
            (None, letter) if letter.is_whitespace() => {
                all.extend(word.take().map(|word| (at, Token::Word(word))));
            }
            (None, ';' | '{' | '}') => {
                all.extend(word.take().map(|word| (at, Token::Word(word))));
                let token = match letter {
                    ';' => Token::End,
                    '{' => Token::Open,
                    _ => Token::Close,
                };
                all.push((at, token));
            }
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    all.extend(word.map(|word| (line, Token::Word(word))));
    all.push((line, Token::End));
    all
}

const DEPTH_MAX: usize = 50;
