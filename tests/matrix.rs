//! The access matrix: every way into a server, tried by a caller of each role, by one without a credential and by one with a
//! wrong credential, on what is its own, on what is another's and on what doesn't exist.
//!
//! The tables say what each of them must get. They are written by hand and know nothing of the code. A route, a message of a
//! websocket or a command that has no row fails a test, and so does a row whose route is gone.
//!
//! `row` (the words of the tables), `things` (what a request names), `world` (the server, the callers and their tasks),
//! `ways` (the credentials of the callers), `table` (the routes), `cells` (runs them), `checks` (what a response must contain), `bulk` (bulk cancels), `sockets` (the
//! websocket), `commands` (the command line), `log_port` (the log over gRPC).

mod bulk;
mod cells;
mod checks;
mod commands;
#[cfg(feature = "eventstore")]
mod log_port;
mod row;
mod sockets;
mod table;
mod things;
mod ways;
mod world;

use std::collections::BTreeSet;

use world::World;

/// The least number of cells that the tables must have.
const CELLS_MIN: usize = 500;

#[track_caller]
fn assert_no_faults((faults, count): (Vec<String>, usize)) {
    assert!(faults.is_empty(), "{} faults in {count} cells:\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn every_route_has_a_row_and_every_row_a_route() {
    let routes: BTreeSet<String> =
        taskbell::http::route_table().into_iter().map(|(method, path)| format!("{method} {path}")).collect();
    let rows: BTreeSet<String> = table::rows().into_iter().map(|row| row.route.to_owned()).collect();
    let without_row: Vec<_> = routes.difference(&rows).collect();
    let without_route: Vec<_> = rows.difference(&routes).collect();
    assert!(without_row.is_empty() && without_route.is_empty(), "no row: {without_row:?}\nno route: {without_route:?}");
}

#[test]
fn the_tables_have_at_least_500_cells_and_each_route_is_tried_by_each_role() {
    let rows = table::rows();
    let count = rows.iter().map(|row| row.cells().len()).sum::<usize>();
    assert!(count >= CELLS_MIN, "{count} cells");
    for row in &rows {
        for who in row::Who::ROLES.into_iter().chain(row::Who::STRANGERS) {
            assert!(row.cells().iter().any(|(of, _, _)| *of == who), "{} isn't tried by the {}", row.route, who.name());
        }
    }
}

#[tokio::test]
async fn every_route_answers_each_role_as_the_table_says() {
    let world = World::start().await;
    let rows = table::rows();
    assert_no_faults((cells::run(&world, &rows).await, cells::cells(&rows).len()));
}

#[tokio::test]
async fn a_bulk_cancel_reaches_exactly_the_tasks_that_its_caller_may_cancel() {
    assert_no_faults(bulk::run(&World::start().await).await);
}

#[tokio::test]
async fn every_message_of_a_socket_is_answered_for_each_role_as_the_table_says() {
    let world = World::start().await;
    let rows: BTreeSet<String> =
        sockets::rows().iter().map(|row| row.message.to_owned()).filter(|message| !message.is_empty()).collect();
    assert_eq!(rows, sockets::known_messages(&world).await, "the messages with a row, and those of the server");
    assert_no_faults(sockets::run(&world).await);
}

#[tokio::test]
async fn every_command_ends_for_each_role_as_the_table_says() {
    let rows: BTreeSet<String> = commands::rows().iter().map(|row| row.command.to_owned()).collect();
    let known: BTreeSet<String> = commands::known_commands();
    let without = commands::WITHOUT_ROWS.map(str::to_owned).into();
    assert_eq!(
        rows.union(&without).cloned().collect::<BTreeSet<_>>(),
        known,
        "the commands with a row, and those of the help"
    );
    assert_no_faults(commands::run(&World::start().await).await);
}

#[cfg(feature = "eventstore")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_port_lets_only_those_read_who_may_read_the_log() {
    assert_no_faults(log_port::run(&World::with(["--log-listen", "127.0.0.1:0"]).await).await);
}
