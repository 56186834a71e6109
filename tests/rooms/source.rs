//! Parses a file of `src/` into tokens: words, punctuation ("marks"), and groups in brackets. The lexer is written here
//! because a
//! parser crate among the dev-dependencies would make cargo build every dependency twice.

use std::fs;
use std::path::Path;

/// The rooms, lowest first: a room imports only those before it. The last two are the composition root and the commands.
pub(crate) const ROOMS: [&str; 17] = [
    "task",
    "clock",
    "repeats",
    "secret",
    "tls",
    "store",
    "views",
    "streams",
    "projection",
    "dispatch",
    "reactions",
    "push",
    "work",
    "wire",
    "http",
    "app",
    "cli",
];

pub(crate) struct Source {
    /// Relative to `src/`, separated by `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
}

pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// The line number, which starts at 1.
    pub(crate) line: usize,
}

pub(crate) enum TokenKind {
    Word(String),
    Mark(char),
    /// A string, a character, a number, a lifetime.
    Literal,
    /// The opening bracket, the tokens inside, and the line of the closing bracket.
    Group(char, Vec<Token>, usize),
}

/// A path in the code, and its line.
pub(crate) struct NamedPath {
    pub(crate) path: String,
    pub(crate) line: usize,
}

/// One name that a `use` brings into a file.
pub(crate) struct Import {
    /// The name in this file: `C` for `use a::{b as C}`.
    pub(crate) name: String,
    /// The imported path: `a::b`.
    pub(crate) path: String,
    /// `pub use`, `pub(crate) use`: a re-export.
    pub(crate) is_public: bool,
}

impl Token {
    pub(crate) fn word(&self) -> Option<&str> {
        if let TokenKind::Word(word) = &self.kind { Some(word) } else { None }
    }

    pub(crate) fn is_mark(&self, mark: char) -> bool {
        matches!(self.kind, TokenKind::Mark(it) if it == mark)
    }

    /// The tokens inside brackets of this kind.
    pub(crate) fn group(&self, open: char) -> Option<&[Token]> {
        if let TokenKind::Group(it, inner, _) = &self.kind { (*it == open).then_some(inner) } else { None }
    }
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut lexer = Lexer { rest: text.chars().collect(), at: 0, line: 1 };
        Self { path: path.to_owned(), text: text.to_owned(), tokens: without_tests(lexer.tokens()) }
    }

    /// The file's room: a folder, or the one file of that name.
    pub(crate) fn room(&self) -> Option<&str> {
        let name = self.path.split('/').next().unwrap_or_default();
        let name = name.strip_suffix(".rs").unwrap_or(name);
        [&ROOMS[..], &["config", "main", "lib"]].concat().into_iter().find(|room| *room == name)
    }

    pub(crate) fn at(&self, line: usize, what: &str) -> String {
        format!("src/{}:{line}: {what}", self.path)
    }

    /// Every path, also inside macros. Braces are expanded: `use a::{b, c::d}` gives `a::b` and `a::c::d`.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        paths(&self.tokens, "", &mut found);
        found
    }

    /// The paths outside of `use`: neither declarations (`mod name`, `fn name`) nor fields and methods.
    pub(crate) fn code_paths(&self) -> Vec<NamedPath> {
        let mut found = Vec::new();
        code_paths(&self.tokens, &mut found);
        found
    }

    /// What every `use` of the file imports. A glob has no name and is left out.
    pub(crate) fn uses(&self) -> Vec<Import> {
        let mut found = Vec::new();
        uses(&self.tokens, &mut found);
        found
    }
}

/// Adds the path that begins with the word at `at`, with braces expanded. Returns the index of the first token after it.
fn path_at(tokens: &[Token], at: usize, prefix: &str, found: &mut Vec<NamedPath>) -> usize {
    let colons = |at: usize| tokens.get(at..at + 2).is_some_and(|two| two.iter().all(|token| token.is_mark(':')));
    let (first, line) = (tokens[at].word().unwrap_or_default(), tokens[at].line);
    let mut path = format!("{prefix}{first}");
    let mut after = at + 1;
    while colons(after) {
        after += 2;
        let Some(next) = tokens.get(after) else { break };
        if let Some(word) = next.word() {
            path = format!("{path}::{word}");
            after += 1;
        } else if let Some(inner) = next.group('{') {
            paths(inner, &format!("{path}::"), found);
            return after + 1;
        }
    }
    found.push(NamedPath { path, line });
    after
}

fn paths(tokens: &[Token], prefix: &str, found: &mut Vec<NamedPath>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let TokenKind::Group(_, inner, _) = &token.kind {
            paths(inner, "", found);
        }
        at = if token.word().is_some() { path_at(tokens, at, prefix, found) } else { at + 1 };
    }
}

fn code_paths(tokens: &[Token], found: &mut Vec<NamedPath>) {
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let TokenKind::Group(_, inner, _) = &token.kind {
            code_paths(inner, found);
        }
        at = match token.word() {
            Some("use") => end_of_item(tokens, at),
            Some("mod" | "fn") => at + 2,
            Some(_) => path_at(tokens, at, "", found),
            None if token.is_mark('.') && tokens.get(at + 1).is_some_and(|next| next.word().is_some()) => at + 2,
            None => at + 1,
        };
    }
}

fn end_of_item(tokens: &[Token], at: usize) -> usize {
    at + tokens[at..].iter().take_while(|token| !token.is_mark(';')).count()
}

fn uses(tokens: &[Token], found: &mut Vec<Import>) {
    for (at, token) in tokens.iter().enumerate() {
        if let TokenKind::Group(_, inner, _) = &token.kind {
            uses(inner, found);
        }
        if token.word() == Some("use") {
            let before = |back: usize| at.checked_sub(back).map(|at| &tokens[at]);
            let is_pub = |token: Option<&Token>| token.and_then(Token::word) == Some("pub");
            let is_restricted = before(1).is_some_and(|token| token.group('(').is_some());
            let is_public = is_pub(before(1)) || is_restricted && is_pub(before(2));
            use_tree(&tokens[at + 1..end_of_item(tokens, at)], "", is_public, found);
        }
    }
}

/// `a::{b, c as d}` below a prefix.
fn use_tree(tokens: &[Token], prefix: &str, is_public: bool, found: &mut Vec<Import>) {
    for tree in tokens.split(|token| token.is_mark(',')) {
        let words: Vec<&str> = tree.iter().filter_map(Token::word).collect();
        let (words, renamed) = match words[..] {
            [.., "as", name] => (&words[..words.len() - 2], Some(name)),
            _ => (&words[..], None),
        };
        let words =
            words.strip_suffix(&["self"]).filter(|left| !left.is_empty() || !prefix.is_empty()).unwrap_or(words);
        let path = [&[prefix][..], words].concat().join("::").trim_matches(':').to_owned();
        if let Some(inner) = tree.last().and_then(|last| last.group('{')) {
            use_tree(inner, &path, is_public, found);
        } else if !tree.last().is_none_or(|last| last.is_mark('*')) {
            let name = renamed.or_else(|| path.rsplit("::").next()).unwrap_or_default().to_owned();
            found.push(Import { name, path, is_public });
        }
    }
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::new();
    let mut skipping = false;
    for token in tokens {
        if skipping {
            skipping = !(token.is_mark(';') || token.group('{').is_some());
            continue;
        }
        let is_cfg = |inner: &[Token]| {
            inner.first().and_then(Token::word) == Some("cfg")
                && inner
                    .get(1)
                    .and_then(|t| t.group('('))
                    .is_some_and(|words| words.iter().any(|w| w.word() == Some("test")))
        };
        if token.group('[').is_some_and(is_cfg) && kept.last().is_some_and(|last| last.is_mark('#')) {
            kept.pop();
            skipping = true;
            continue;
        }
        kept.push(token);
    }
    kept
}

struct Lexer {
    rest: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, unvisited: usize) -> char {
        self.rest.get(self.at + unvisited).copied().unwrap_or('\0')
    }

    fn next(&mut self) -> char {
        let next = self.peek(0);
        self.line += usize::from(next == '\n');
        self.at += 1;
        next
    }

    fn skip_while(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let mut skipped = String::new();
        while self.at < self.rest.len() && wanted(self.peek(0)) {
            skipped.push(self.next());
        }
        skipped
    }

    /// Up to the closing bracket of this group, or the end.
    fn tokens(&mut self) -> Vec<Token> {
        let mut tokens = Vec::new();
        while self.at < self.rest.len() {
            let line = self.line;
            let kind = match (self.peek(0), self.peek(1)) {
                (')' | ']' | '}', _) => break,
                (space, _) if space.is_whitespace() => {
                    self.next();
                    continue;
                }
                ('/', '/') => {
                    self.skip_while(|letter| letter != '\n');
                    continue;
                }
                ('/', '*') => {
                    self.comment();
                    continue;
                }
                (open @ ('(' | '[' | '{'), _) => {
                    self.next();
                    let inner = self.tokens();
                    let end = self.line;
                    self.next();
                    TokenKind::Group(open, inner, end)
                }
                ('"', _) => self.string(),
                ('\'', _) => self.character(),
                (letter, _) if letter == '_' || letter.is_alphabetic() => self.word(),
                (digit, _) if digit.is_ascii_digit() => {
                    self.skip_while(|letter| letter == '_' || letter.is_alphanumeric());
                    TokenKind::Literal
                }
                _ => TokenKind::Mark(self.next()),
            };
            tokens.push(Token { kind, line });
        }
        tokens
    }

    fn comment(&mut self) {
        let mut depth = 0;
        while self.at < self.rest.len() {
            match (self.next(), self.peek(0)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                _ => continue,
            }
            self.next();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) -> TokenKind {
        self.next();
        while self.at < self.rest.len() {
            match self.next() {
                '\\' => drop(self.next()),
                '"' => break,
                _ => {}
            }
        }
        TokenKind::Literal
    }

    /// A character or a lifetime.
    fn character(&mut self) -> TokenKind {
        self.next();
        if self.peek(0) == '\\' {
            self.next();
            self.next();
            self.skip_while(|letter| letter != '\'');
            self.next();
        } else if self.peek(1) == '\'' {
            self.next();
            self.next();
        } else {
            self.skip_while(|letter| letter == '_' || letter.is_alphanumeric());
        }
        TokenKind::Literal
    }

    /// A word, or a literal with a prefix: `r"…"`, `br#"…"#`, `b'…'`.
    fn word(&mut self) -> TokenKind {
        let word = self.skip_while(|letter| letter == '_' || letter.is_alphanumeric());
        let is_raw = matches!(word.as_str(), "r" | "br" | "cr");
        let hashes = self.rest[self.at..].iter().take_while(|letter| **letter == '#').count();
        if is_raw && self.peek(hashes) == '"' {
            self.at += hashes + 1;
            while self.at < self.rest.len() {
                if self.next() == '"' && (0..hashes).all(|unvisited| self.peek(unvisited) == '#') {
                    self.at += hashes;
                    break;
                }
            }
            return TokenKind::Literal;
        }
        match self.peek(0) {
            '"' if matches!(word.as_str(), "b" | "c") => self.string(),
            '\'' if word == "b" => self.character(),
            '#' if word == "r" => {
                self.next();
                self.word()
            }
            _ => TokenKind::Word(word),
        }
    }
}

/// Every file of `src/`.
pub(crate) fn sources() -> Vec<Source> {
    let mut texts = Vec::new();
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut texts);
    texts.sort();
    texts.iter().map(|(path, text)| Source::parse(path, text)).collect()
}

fn collect(folder: &Path, prefix: &str, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), texts);
        } else if Path::new(&path).extension().is_some_and(|ending| ending == "rs") {
            texts.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}
