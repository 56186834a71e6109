//! A file of `src/`, parsed.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;

/// The rooms from the ground up; the last are the composition root and the commands.
pub(crate) const ROOMS: [&str; 8] = ["task", "store", "views", "actors", "work", "http", "app", "cli"];

pub(crate) struct Source {
    /// Below `src/`, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
}

/// One word of the code, outside comments, docs and strings, with what stands around it.
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) line: usize,
}

impl Source {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self { path: path.to_owned(), text: text.to_owned(), syntax }
    }

    /// The room that it stands in: a folder, or the one file of that name. `config` stands with `app`.
    pub(crate) fn room(&self) -> Option<&str> {
        let name = self.path.split('/').next().unwrap_or_default();
        let name = name.strip_suffix(".rs").unwrap_or(name);
        [&ROOMS[..], &["config", "main", "lib"]].concat().into_iter().find(|room| *room == name)
    }

    pub(crate) fn at(&self, span: Span, what: &str) -> String {
        format!("src/{}:{}: {what}", self.path, span.start().line)
    }

    pub(crate) fn line(&self, line: usize, what: &str) -> String {
        format!("src/{}:{line}: {what}", self.path)
    }

    /// What is not for tests alone.
    pub(crate) fn code(&self) -> impl Iterator<Item = &syn::Item> {
        self.syntax.items.iter().filter(|item| !is_test(item))
    }

    /// Every path, also inside macros: words joined by `::`. Comments are no tokens, docs and strings no words.
    pub(crate) fn paths(&self) -> Vec<Word> {
        let mut words = Vec::new();
        self.code().for_each(|item| walk(item.to_token_stream(), "", &mut words));
        words
    }
}

/// Every file of `src/`.
pub(crate) fn sources() -> &'static [Source] {
    // The syntax trees hold spans of their own thread, so what is shared is the text.
    thread_local!(static SOURCES: &'static [Source] = Vec::leak(read()));
    fn read() -> Vec<Source> {
        static TEXTS: OnceLock<Vec<(String, String)>> = OnceLock::new();
        let texts = TEXTS.get_or_init(|| {
            let mut texts = Vec::new();
            collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut texts);
            texts.sort();
            texts
        });
        texts.iter().map(|(path, text)| Source::parse(path, text)).collect()
    }
    SOURCES.with(|sources| *sources)
}

fn collect(folder: &Path, prefix: &str, texts: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            collect(&entry.path(), &format!("{path}/"), texts);
        } else if path.ends_with(".rs") {
            texts.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

fn is_test(item: &syn::Item) -> bool {
    let syn::Item::Mod(module) = item else { return false };
    module.attrs.iter().any(|attribute| attribute.path().is_ident("cfg"))
        && module.attrs.iter().any(|a| a.to_token_stream().to_string().contains("test"))
}

/// Paths with their braces opened: `use a::{b, c::d}` is `a::b` and `a::c::d`.
fn walk(tokens: TokenStream, prefix: &str, words: &mut Vec<Word>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let is_colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            TokenTree::Ident(first) => {
                let line = first.span().start().line;
                let mut path = format!("{prefix}{first}");
                at += 1;
                while is_colon(at) && is_colon(at + 1) {
                    match tokens.get(at + 2) {
                        Some(TokenTree::Ident(next)) => {
                            path = format!("{path}::{next}");
                            at += 3;
                        }
                        Some(TokenTree::Group(group)) => {
                            walk(group.stream(), &format!("{path}::"), words);
                            at += 3;
                        }
                        _ => at += 2,
                    }
                }
                words.push(Word { text: path, line });
            }
            TokenTree::Group(group) => {
                walk(group.stream(), "", words);
                at += 1;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => at += 1,
        }
    }
}
