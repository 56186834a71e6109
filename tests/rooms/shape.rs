//! Sizes, and what may be called where.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::Found;
use super::source::Source;

const FILE_LINES: usize = 400;
const FUNCTION_LINES: usize = 60;

pub(crate) fn file_length(source: &Source) -> Found {
    let lines = source.text.lines().count();
    if lines > FILE_LINES { vec![source.line(lines, &format!("{lines} lines in one file"))] } else { Found::new() }
}

pub(crate) fn function_length(source: &Source) -> Found {
    let mut visitor = Functions { source, found: Found::new() };
    visitor.visit_file(&source.syntax);
    visitor.found
}

struct Functions<'a> {
    source: &'a Source,
    found: Found,
}

impl Functions<'_> {
    /// From `fn` to the closing brace: attributes and docs don't count.
    fn check(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        if lines > FUNCTION_LINES {
            let what = format!("{} has {lines} lines", signature.ident);
            self.found.push(self.source.at(signature.span(), &what));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.check(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.check(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

/// `log.append(…)` and `log.append_many(…)` of the store stand in `actors/commit.rs` alone, and in `log import`.
pub(crate) fn one_append(source: &Source) -> Found {
    if source.path.starts_with("store/") || matches!(source.path.as_str(), "actors/commit.rs" | "cli/log_import.rs") {
        return Found::new();
    }
    calls(source, |name, receiver| match name {
        "append_many" => true,
        // Headers, vectors and the like have an `append` too.
        "append" => ["store", "log", "events"].contains(&receiver),
        _ => false,
    })
}

/// What is unwrapped can be influenced by others sooner or later; `expect` on a lock or a constant has other words.
pub(crate) fn unwraps(source: &Source) -> Found {
    calls(source, |name, _| matches!(name, "unwrap" | "expect" | "unwrap_err" | "expect_err"))
}

/// The method calls that `is_wanted`, by name and by the last word of what they are called on; also inside macros.
fn calls(source: &Source, is_wanted: fn(&str, &str) -> bool) -> Found {
    fn walk(tokens: TokenStream, is_wanted: fn(&str, &str) -> bool, hit: &mut dyn FnMut(Span, &str)) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut last = String::new();
        for at in 0..tokens.len() {
            match (&tokens[at], tokens.get(at + 1), tokens.get(at + 2)) {
                (TokenTree::Punct(dot), Some(TokenTree::Ident(name)), Some(TokenTree::Group(_)))
                    if dot.as_char() == '.' && is_wanted(&name.to_string(), &last) =>
                {
                    hit(name.span(), &format!("{last}.{name}(…)"));
                }
                (TokenTree::Ident(word), ..) => last = word.to_string(),
                (TokenTree::Group(group), ..) => walk(group.stream(), is_wanted, hit),
                (TokenTree::Punct(_) | TokenTree::Literal(_), ..) => {}
            }
        }
    }
    let mut found = Found::new();
    for item in source.code() {
        walk(item.to_token_stream(), is_wanted, &mut |span, what| found.push(source.at(span, what)));
    }
    found
}

/// clippy finds the arms; this finds that clippy was asked to, that nobody told it otherwise further down,
/// and the tuples of wildcards that it doesn't look into.
pub(crate) fn wildcards(source: &Source) -> Found {
    let mut found = Found::new();
    if !matches!(source.room(), Some("task" | "views")) {
        return found;
    }
    let says = |attribute: &syn::Attribute, level: &str| {
        attribute.path().is_ident(level) && attribute.to_token_stream().to_string().contains("wildcard_enum_match_arm")
    };
    let is_door = source.path.ends_with("/mod.rs") && source.path.matches('/').count() == 1;
    if is_door && !source.syntax.attrs.iter().any(|attribute| says(attribute, "deny")) {
        found.push(source.line(1, "#![deny(clippy::wildcard_enum_match_arm)] is missing"));
    }
    let mut visitor = Wildcards { source, says: &says, found };
    visitor.visit_file(&source.syntax);
    visitor.found
}

struct Wildcards<'a> {
    source: &'a Source,
    says: &'a dyn Fn(&syn::Attribute, &str) -> bool,
    found: Found,
}

impl<'ast> Visit<'ast> for Wildcards<'_> {
    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if ["allow", "expect", "warn"].iter().any(|level| (self.says)(attribute, level)) {
            self.found.push(self.source.at(attribute.span(), "the lint against wildcard arms is switched off"));
        }
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let syn::Pat::Tuple(tuple) = &arm.pat {
            if tuple.elems.iter().all(|element| matches!(element, syn::Pat::Wild(_))) {
                self.found.push(self.source.at(arm.span(), "an arm of wildcards alone"));
            }
        }
        visit::visit_arm(self, arm);
    }
}
