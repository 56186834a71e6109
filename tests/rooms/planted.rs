//! Each rule finds a planted violation and accepts similar code that is allowed. The code is in strings.

use super::source::Source;
use super::{Violations, circles, imports, shape};

#[track_caller]
fn red(rule: fn(&Source) -> Violations, path: &str, text: &str) {
    assert!(!rule(&Source::parse(path, text)).is_empty(), "the rule should refuse in {path}: {text}");
}

#[track_caller]
fn green(rule: fn(&Source) -> Violations, path: &str, text: &str) {
    let found = rule(&Source::parse(path, text));
    assert!(found.is_empty(), "the rule should allow in {path}: {text}\n{found:?}");
}

type Files<'a> = &'a [(&'a str, &'a str)];

#[track_caller]
fn red_together(rule: fn(&[Source]) -> Violations, files: Files) {
    assert!(!found_in(rule, files).is_empty(), "the rule should refuse {files:?}");
}

#[track_caller]
fn green_together(rule: fn(&[Source]) -> Violations, files: Files) {
    let found = found_in(rule, files);
    assert!(found.is_empty(), "the rule should allow {files:?}\n{}", found.join("\n"));
}

fn found_in(rule: fn(&[Source]) -> Violations, files: Files) -> Violations {
    let sources: Vec<Source> = files.iter().map(|(path, text)| Source::parse(path, text)).collect();
    rule(&sources)
}

#[test]
fn an_import_uphill() {
    let rule = imports::downhill;
    red(rule, "task/decide.rs", "use crate::store::Recorded;");
    red(rule, "store/mod.rs", "use crate::views::Views;");
    red(rule, "views/page.rs", "fn f() -> taskbell::streams::messages::Execute { todo!() }");
    red(rule, "streams/actor.rs", "use crate::{store::Meta, http::error::Problem};");
    red(rule, "dispatch/dispatcher/mod.rs", "use crate::reactions::cascade::Cascade;");
    red(rule, "dispatch/dispatcher/mod.rs", "use crate::push::hub::Hub;");
    red(rule, "reactions/cascade.rs", "use crate::push::hub::Hub;");
    red(rule, "projection/projector.rs", "use crate::dispatch::messages::Grant;");
    red(rule, "work/distribute.rs", "use crate::store::EventStore;");
    red(rule, "work/report.rs", "use crate::store::{Meta, chain};");
    green(rule, "work/report.rs", "use crate::store::{AppendError, Meta, Via};");
    red(rule, "http/tasks.rs", "use crate::app::App;");
    red(rule, "app.rs", "fn f() { println!(\"{}\", crate::cli::name()); }");
    red(rule, "http/mod.rs", "use crate::config::Config;");
    red(rule, "wire/log.rs", "use crate::views::Views;");
    red(rule, "http/mod.rs", "use crate::wire::WireServer;");
    green(rule, "wire/log.rs", "use crate::{clock::now, store::EventStore, task::Position};");
    green(rule, "store/mod.rs", "use crate::task::Event; use super::chain;");
    green(rule, "push/hub.rs", "use crate::{dispatch::capacity::Capacity, projection::reader::ViewsReader};");
    green(rule, "reactions/cascade.rs", "use crate::{dispatch::policies, projection::reader, streams::registry};");
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
    red(rule, "store/mod.rs", "use tonic::Status;");
    red(rule, "wire/log.rs", "use actix::Actor;");
    green(rule, "wire/refusal.rs", "use tonic::Status;");
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
fn functions_that_are_long_together() {
    let rule = shape::function_figures;
    let function = |lines: &usize| format!("fn f() {{\n{}}}\n", "// a line\n".repeat(lines - 2));
    let functions = |lengths: &[usize]| lengths.iter().map(function).collect::<Vec<String>>().concat();
    let red = |lengths: &[usize]| red_together(rule, &[("task/mod.rs", &functions(lengths))]);
    let green = |lengths: &[usize]| green_together(rule, &[("task/mod.rs", &functions(lengths))]);
    red(&[2, 8, 8]);
    green(&[2, 7, 25]);
    red(&[3, 3, 3, 3, 3, 3, 3, 3, 26, 26]);
    green(&[3, 3, 3, 3, 3, 3, 3, 3, 25, 60]);
    let short = functions(&[3]);
    red_together(rule, &[("task/mod.rs", &functions(&[8])), ("task/state.rs", &functions(&[8])), ("app.rs", &short)]);
    let figures = found_in(rule, &[("task/mod.rs", &functions(&[8, 9, 60]))]).concat();
    assert!(figures.contains("3 functions: median 9 lines") && figures.contains("longest 60"), "{figures}");
}

#[test]
fn a_circle_of_imports() {
    let rule = circles::circles;
    let red = |files: Files| red_together(rule, files);
    let green = |files: Files| green_together(rule, files);
    red(&[("views/row.rs", "use super::page::Page;"), ("views/page.rs", "fn f(row: &crate::views::row::Row) {}")]);
    red(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::{self, C};"), ("c.rs", "use crate::{a::A, d};")]);
    green(&[("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::d::D;"), ("d.rs", "")]);
    // By way of a re-export, under another name or two of them too.
    let (row, page) = (("views/row.rs", "use super::Page;"), ("views/page.rs", "use super::row::Row;"));
    red(&[row, page, ("views/mod.rs", "mod page; mod row; pub use page::Page;")]);
    red(&[row, page, ("views/mod.rs", "mod page; mod row; pub(crate) use self::page::Sheet as Page;")]);
    let (outer, inner) = ("pub use inner::{Other, Page};", "pub use super::page::Page;");
    red(&[row, page, ("views/mod.rs", outer), ("views/inner/mod.rs", inner)]);
    // A re-export by itself imports nothing, and what mod.rs defines is not its children's.
    green(&[row, ("views/page.rs", ""), ("views/mod.rs", "mod page; mod row; pub use page::Page; pub use row::Row;")]);
    green(&[("views/row.rs", "use super::Views;"), ("views/mod.rs", "mod row; pub struct Views(row::Row);")]);
    // A module and its own children are no circle; with a file beside them they may be one.
    let (parent, child) = (("a/mod.rs", "mod child; use child::f; pub struct A;"), ("a/child.rs", "use super::A;"));
    green(&[parent, child]);
    red(&[("a/mod.rs", "use crate::b::B; pub struct A;"), child, ("b.rs", "use crate::a::child::f;")]);
    // Neither docs nor tests import, and a field or a method is no path.
    green(&[
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "//! See [`crate::a`].\n#[cfg(test)] mod tests { use crate::a::A; }"),
    ]);
    green(&[("a/mod.rs", "pub use b::b;"), ("a/b.rs", "use super::c::C;"), ("a/c.rs", "fn b() { x.b(); }")]);
}

#[test]
fn a_second_writer() {
    let rule = shape::one_append;
    let writer =
        ("streams/collector.rs", "async fn f(s: &S) { s.store.append(a).await; s.store.append_many(b).await; }");
    let red = |path: &str, text: &str| red_together(rule, &[writer, (path, text)]);
    let green = |path: &str, text: &str| green_together(rule, &[writer, (path, text)]);
    red("streams/actor.rs", "async fn f(s: &S) { s.store.append(a).await; }");
    red("http/batch.rs", "async fn f(log: &L) { log\n.append_many(all).await; }");
    red("app.rs", "fn f() { join!(store.append(a)); }");
    red_together(rule, &[("http/batch.rs", writer.1)]);
    red_together(rule, &[("streams/collector.rs", "fn f() {}")]);
    green("streams/actor.rs", "fn f() {}");
    green("store/memory.rs", "fn f(log: &L) { log.append_many(all); }");
    green("cli/log_import.rs", "async fn f(s: &S) { s.store.append(a).await; }");
    green("http/error.rs", "fn f() { headers.append(name, value); }");
}

#[test]
fn a_second_writer_beside_the_log() {
    let call = "async fn f(s: &S) { s.store.append_auxiliary(stream, expected, event).await; }";
    let rule = shape::append_auxiliary;
    green_together(rule, &[("dispatch/records.rs", call), ("streams/claims.rs", call), ("cli/log_import.rs", call)]);
    red_together(rule, &[("dispatch/records.rs", call), ("dispatch/dispatcher/mod.rs", call)]);
    red_together(rule, &[("http/create.rs", call)]);
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
