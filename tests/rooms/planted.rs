//! Each rule turns red: a violation planted in a string, and beside it what is allowed.

use super::source::Source;
use super::{Found, imports, shape};

#[track_caller]
fn red(rule: fn(&Source) -> Found, path: &str, text: &str) {
    assert!(!rule(&Source::parse(path, text)).is_empty(), "the rule should refuse in {path}: {text}");
}

#[track_caller]
fn green(rule: fn(&Source) -> Found, path: &str, text: &str) {
    let found = rule(&Source::parse(path, text));
    assert!(found.is_empty(), "the rule should allow in {path}: {text}\n{found:?}");
}

#[test]
fn an_import_uphill() {
    let rule = imports::downhill;
    red(rule, "task/decide.rs", "use crate::store::Recorded;");
    red(rule, "store/mod.rs", "use crate::views::Views;");
    red(rule, "views/page.rs", "fn f() -> taskbell::streams::messages::Execute { todo!() }");
    red(rule, "streams/actor.rs", "use crate::{store::Meta, http::error::Problem};");
    red(rule, "work/distribute.rs", "use crate::store::EventStore;");
    red(rule, "work/report.rs", "use crate::store::{Meta, chain};");
    green(rule, "work/report.rs", "use crate::store::{AppendError, Meta, Via};");
    red(rule, "http/tasks.rs", "use crate::app::App;");
    red(rule, "app.rs", "fn f() { println!(\"{}\", crate::cli::name()); }");
    red(rule, "http/mod.rs", "use crate::config::Config;");
    green(rule, "store/mod.rs", "use crate::task::Event; use super::chain;");
    green(rule, "http/tasks.rs", "use crate::{task::Event, views::Views, store::Meta, streams::messages, work};");
    green(rule, "cli/serve.rs", "use crate::{app, config::Config};");
    green(
        rule,
        "task/decide.rs",
        "//! See [`crate::store`].\n/// And crate::http.\nfn f() { let _ = \"crate::store\"; }",
    );
}

#[test]
fn a_crate_in_the_wrong_room() {
    let rule = imports::crates;
    red(rule, "task/mod.rs", "use tokio::sync::watch;");
    red(rule, "views/mod.rs", "use actix::Addr;");
    red(rule, "store/mod.rs", "use actix::prelude::*;");
    red(rule, "store/codec.rs", "fn f() -> rusqlite::Result<()> { Ok(()) }");
    red(rule, "push/hub.rs", "use actix_web::HttpResponse;");
    red(rule, "work/local.rs", "async fn f() { actix_web::rt::spawn(async {}); }");
    red(rule, "http/tasks.rs", "use actix_web_actors::ws;");
    green(rule, "store/sqlite.rs", "use rusqlite::Connection;");
    green(rule, "store/sqlite/writer.rs", "use rusqlite::Connection;");
    green(rule, "http/live.rs", "use actix_web_actors::ws; use actix::Actor;");
    green(rule, "work/local.rs", "use actix::Actor;");
}

#[test]
fn a_clock_a_file_or_an_await_in_a_pure_room() {
    let rule = imports::pure;
    red(rule, "task/time.rs", "fn now() { std::time::SystemTime::now(); }");
    red(rule, "task/time.rs", "use std::time::{Duration, Instant};");
    red(rule, "task/ids.rs", "fn fresh() -> Uuid { Uuid::now_v7() }");
    red(rule, "views/mod.rs", "fn f() { jiff::Timestamp::now(); }");
    red(rule, "views/mod.rs", "use std::fs::File;");
    red(rule, "views/query.rs", "async fn f() {}");
    red(rule, "task/mod.rs", "use std::net::TcpStream;");
    green(rule, "task/time.rs", "use std::time::Duration;");
    green(rule, "views/snapshot.rs", "use std::fs::File;");
    green(rule, "store/mod.rs", "pub async fn f() { jiff::Timestamp::now(); }");
}

#[test]
fn a_long_file_and_a_long_function() {
    let lines = |n: usize| "// a line\n".repeat(n);
    red(shape::file_length, "task/mod.rs", &lines(401));
    green(shape::file_length, "task/mod.rs", &lines(400));
    let function = |n: usize| format!("/// Docs\n/// more\nfn f() {{\n{}}}\n", lines(n));
    red(shape::function_length, "task/mod.rs", &function(59));
    green(shape::function_length, "task/mod.rs", &function(58));
    red(shape::function_length, "task/mod.rs", &format!("struct S;\nimpl S {{ {} }}", function(59)));
    red(shape::function_length, "task/mod.rs", &format!("trait T {{ {} }}", function(59)));
}

#[test]
fn a_second_writer() {
    let rule = shape::one_append;
    red(rule, "streams/actor.rs", "async fn f(s: &S) { s.store.append(a).await; }");
    red(rule, "http/batch.rs", "async fn f(log: &L) { log\n.append_many(all).await; }");
    red(rule, "app.rs", "fn f() { join!(store.append(a)); }");
    green(rule, "streams/collector.rs", "async fn f(s: &S) { s.store.append(a).await; }");
    green(rule, "store/memory.rs", "fn f(log: &L) { log.append_many(all); }");
    green(rule, "http/error.rs", "fn f() { headers.append(name, value); }");
}

#[test]
fn a_wildcard_arm() {
    let rule = shape::wildcards;
    red(rule, "task/mod.rs", "pub mod event;");
    red(rule, "views/mod.rs", "#![allow(clippy::wildcard_enum_match_arm)]");
    red(rule, "views/row.rs", "#[allow(clippy::wildcard_enum_match_arm)] fn f() {}");
    red(rule, "task/state.rs", "fn f() { match (a, b) { (A, B) => 1, (_, _) => 2 } }");
    green(rule, "task/mod.rs", "#![deny(clippy::wildcard_enum_match_arm)]");
    green(rule, "http/mod.rs", "fn f() { match a { A => 1, _ => 2 } }");
}

#[test]
fn an_unwrap() {
    let rule = shape::unwraps;
    red(rule, "http/tasks.rs", "fn f() { a().unwrap(); }");
    red(rule, "http/tasks.rs", "fn f() { a()\n.expect(\"there\"); }");
    red(rule, "http/tasks.rs", "fn f() { format!(\"{}\", a.unwrap()); }");
    green(
        rule,
        "http/tasks.rs",
        "/// a.unwrap()\nfn f() { a.unwrap_or_default(); let _ = \"b.unwrap()\"; } // c.unwrap()",
    );
    green(rule, "work/context.rs", "fn f() { self.attempt.expect(id, at); }");
    green(rule, "store/mod.rs", "#[cfg(test)] mod tests { fn f() { a().unwrap(); } }");
}
