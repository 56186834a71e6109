//! The command line: who may run which command. The exit code says what the server has answered: 0 done, 3 not found, 4
//! refused.

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::checks::{leak, scope};
use super::row::{STRANGER, Target, Who, words};
use super::things::{State, Thing};
use super::world::{OTHER_KIND, WORKERS_KIND, World};
use crate::support::{TEST_TIMEOUT, signal, taskbell};

/// How many commands run at the same time.
const CONCURRENT: usize = 4;

/// What a command names.
#[derive(Clone, Copy)]
enum Names {
    Nothing,
    /// A task in this state.
    Task(State),
    /// A queue with one task of a kind that the worker may take.
    Queue,
    Token,
}

/// One command, and its exit code for each role.
pub struct CommandRow {
    pub command: &'static str,
    names: Names,
    args: &'static str,
    lists: bool,
    lines: Vec<(Target, [&'static str; 5])>,
}

fn command(command: &'static str, args: &'static str) -> CommandRow {
    CommandRow { command, names: Names::Nothing, args, lists: false, lines: Vec::new() }
}

impl CommandRow {
    fn names(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// The output must have exactly the fixed tasks of the target.
    fn lists(self) -> Self {
        Self { lists: true, ..self }
    }

    fn on(mut self, target: Target, line: &'static str) -> Self {
        self.lines.push((target, words(line)));
        self
    }
}

/// The commands that aren't a client of a server; and `bench`, `log sign` and `log prove`, whose requests are those of the other
/// commands.
pub const WITHOUT_ROWS: [&str; 12] = [
    "serve",
    "demo",
    "bench",
    "backup",
    "store check",
    "log verify",
    "log import",
    "log upgrade",
    "log sign",
    "log prove",
    "log check",
    "views rebuild",
];

/// The commands with a row.
pub fn rows() -> Vec<CommandRow> {
    use Target::{Absent, Everyone, Other, Own, Present, Unnamed};
    vec![
        //                 user operator auditor worker admin
        command("list", "--json --limit 200 --label set:fixed").lists().on(Unnamed, " 0    0        0       0      0"),
        command("list", "--json --limit 200 --label set:fixed --owner {owner}")
            .lists()
            .on(Own, "     0    0        0       0      0")
            .on(Other, "   3    0        0       3      0")
            .on(Absent, "  3    0        0       3      0")
            .on(Everyone, "3    0        0       3      0"),
        command("show", "{id}")
            .names(Names::Task(State::Ended))
            .on(Own, "     0    0        0       0      0")
            .on(Other, "   3    0        0       3      0")
            .on(Absent, "  3    3        3       3      3"),
        command("watch", "{id}")
            .names(Names::Task(State::Ended))
            .on(Own, "     0    0        0       0      0")
            .on(Other, "   3    0        0       3      0")
            .on(Absent, "  3    3        3       3      3"),
        command("log tail", "").on(Unnamed, " 4    4        0       4      0"),
        command("log tail", "--after 0").on(Unnamed, " 4    4        0       4      0"),
        command("log head", "").on(Unnamed, " 4    4        0       4      0"),
        command("log export", "--to 1").on(Unnamed, "4   4        0       4      0"),
        command("views verify", "").on(Unnamed, " 4   4        1       4      0"),
        command("token list", "").on(Unnamed, " 4    4        4       4      0"),
        command("token create", "--role admin --subject new-{n}").on(Unnamed, " 4    4        4       4      0"),
        command("token revoke", "{id}")
            .names(Names::Token)
            .on(Present, " 4    4        4       4      0")
            .on(Absent, "  4    4        4       4      3"),
        command("submit", "m.idle").on(Unnamed, " 0    0        4       0      0"),
        command("submit", "m.idle --owner {owner}")
            .on(Own, "     0    0        4       0      0")
            .on(Other, "   4    0        4       4      0"),
        command("cancel", "{id}")
            .names(Names::Task(State::Queued))
            .on(Own, "     0    0        4       0      0")
            .on(Other, "   3    0        4       3      0")
            .on(Absent, "  3    3        3       3      3"),
        command("retry", "{id}")
            .names(Names::Task(State::Ended))
            .on(Own, "     0    0        4       0      0")
            .on(Other, "   3    0        4       3      0")
            .on(Absent, "  3    3        3       3      3"),
        // A worker that may take the kind runs until it gets a signal, and then ends with 0.
        command("work", "--kind m.walt --queue {queue} -- true")
            .names(Names::Queue)
            .on(Own, "     4    4        4       0      0"),
    ]
}

/// Runs the cells and returns what is wrong, and how many they were.
pub async fn run(world: &World) -> (Vec<String>, usize) {
    let rows = rows();
    let mut cells = Vec::new();
    for row in &rows {
        for (target, line) in &row.lines {
            cells.extend(Who::ROLES.into_iter().zip(line).map(|(who, code)| (row, who, *target, *code)));
            cells.extend(Who::STRANGERS.map(|who| (row, who, *target, "4")));
        }
    }
    let runs = cells.into_iter().map(|(row, who, target, code)| async move {
        let result = run_one(world, row, who, target, code).await;
        let CommandRow { command, args, .. } = row;
        result.map_err(|fault| format!("taskbell {command} {args}, {} by {}: {fault}", target.name(), who.name()))
    });
    let results: Vec<_> = stream::iter(runs).buffer_unordered(CONCURRENT).collect().await;
    let count = results.len();
    (results.into_iter().filter_map(Result::err).collect(), count)
}

async fn run_one(world: &World, row: &CommandRow, who: Who, target: Target, code: &str) -> Result<(), String> {
    let n = world.number();
    let thing = new_thing(world, row, who, target, n).await;
    let values = [("{id}", &thing.id), ("{owner}", &thing.owner), ("{queue}", &thing.queue), ("{n}", &n.to_string())];
    let args = values.iter().fold(row.args.to_owned(), |args, (name, value)| args.replace(name, value));
    let mut command = tokio::process::Command::from(taskbell());
    command.args(["--server", &world.server.url()]).stdin(Stdio::null()).kill_on_drop(true);
    if let Some(file) = world.token_file(who) {
        command.arg("--token-file").arg(file);
    }
    command.args(row.command.split(' ')).args(args.split_whitespace());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command runs");
    if row.command == "work" && code == "0" {
        tokio::select! {
            () = world.wait_for_end(&thing.id) => child.id().into_iter().for_each(|pid| signal(pid, "TERM")),
            _ = child.wait() => {}
        }
    }
    let output = tokio::time::timeout(TEST_TIMEOUT, child.wait_with_output()).await;
    check(world, row, who, target, code, &output.map_err(|_| "it doesn't end".to_owned())?.expect("its output"))
}

fn check(world: &World, row: &CommandRow, who: Who, target: Target, code: &str, output: &Output) -> Result<(), String> {
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let found = output.status.code().map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    if found != code {
        return Err(format!("exit code {found} instead of {code}: {text}"));
    }
    // A worker shows the title of the task that it has taken.
    leak(who, &text, row.command == "work")?;
    if row.lists && code == "0" {
        let list: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {text}"))?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let found: BTreeSet<&str> = items.iter().filter_map(|task| task["id"].as_str()).collect();
        let scope = scope(who, target);
        let wanted = world.tasks.iter().filter(|task| scope.contains(&task.owner.as_str()));
        let wanted: BTreeSet<&str> = wanted.map(|task| task.id.as_str()).collect();
        if found != wanted {
            return Err(format!("{found:?} instead of {wanted:?}"));
        }
    }
    Ok(())
}

async fn new_thing(world: &World, row: &CommandRow, who: Who, target: Target, n: u64) -> Thing {
    let mut thing = Thing {
        id: taskbell::store::new_id().to_string(),
        owner: target.owner(who, n),
        queue: format!("q{n}"),
        worker: format!("w{n}"),
        ..Thing::default()
    };
    if target == Target::Absent {
        return thing;
    }
    match row.names {
        Names::Nothing => {}
        Names::Task(state) => world.new_task(&mut thing, OTHER_KIND, state, Who::Admin).await,
        Names::Queue => {
            STRANGER.clone_into(&mut thing.owner);
            world.new_task(&mut thing, WORKERS_KIND, State::Queued, Who::Admin).await;
        }
        Names::Token => {
            let token = json!({"subject": format!("new-{n}"), "role": "user"});
            let token = world.admin(Method::POST, "/v1/tokens", &token).await;
            token["id"].as_str().expect("an id").clone_into(&mut thing.id);
        }
    }
    thing
}

/// The commands that the program's help names; `log tail` for a command of a command.
pub fn known_commands() -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    for name in commands_in_help(&[]) {
        let inner = commands_in_help(&[&name]);
        if inner.is_empty() {
            commands.insert(name);
        } else {
            commands.extend(inner.iter().map(|inner| format!("{name} {inner}")));
        }
    }
    commands
}

fn commands_in_help(command: &[&str]) -> Vec<String> {
    let output = taskbell().args(command).arg("--help").output().expect("the help");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let Some((_, list)) = text.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.trim().is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").map(str::to_owned).collect()
}
