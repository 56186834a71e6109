//! `taskbell watch`, and the flag `--wait` of other commands.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::client::{ApiResponse, Client, ConnectionArgs};
use super::command_error::CommandError;
use super::console::{self, text_field};
use super::live::ReconnectingClient;
use taskbell::{Status, TaskId};

/// Watches one task until it ends, or all running tasks until Ctrl-C. Exit code 0 if the task succeeded, otherwise 1.
#[derive(Debug, Args)]
pub struct Watch {
    /// Id of the task [default: all running tasks]
    id: Option<TaskId>,
    /// Whose tasks to watch and to count: the name of an owner, or `*` for everyone [default: the caller's own; everyone's if the server has no authentication]
    #[arg(long, value_name = "NAME", conflicts_with = "id")]
    owner: Option<String>,
    #[arg(skip)]
    pub(super) connection: ConnectionArgs,
}

/// Which states of the task `--json` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PrintedStates {
    /// Each state that the server pushes, and then the last state as `GET /v1/tasks/{id}` returns it.
    Each,
    /// Only the last state.
    Last,
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let client = self.connection.client()?;
        match self.id {
            Some(id) => wait_and_print(&client, id, self.connection.json, PrintedStates::Each).await,
            None => watch_all(&client, self.owner, self.connection.json).await,
        }
    }
}

/// The id of the task in the response.
pub(super) fn task_id(response: &ApiResponse) -> Result<TaskId, CommandError> {
    let id = response.body["id"].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| CommandError::failed("the server's response contains no task"))
}

fn status(task: &Value) -> Option<Status> {
    task["status"].as_str().and_then(Status::from_name)
}

fn is_final(task: &Value) -> bool {
    status(task).is_some_and(Status::is_final)
}

/// Waits for the task's end and prints its states. Fails if the task did not succeed.
pub(super) async fn wait_and_print(
    client: &Client,
    id: TaskId,
    json: bool,
    states: PrintedStates,
) -> Result<(), CommandError> {
    let mut printer = StatePrinter::new(json);
    let end = wait_for_end(client, id, |task, text| match (json, states) {
        (false, _) => printer.print(task),
        (true, PrintedStates::Each) => text.map_or_else(|| console::print_json(&task.to_string()), console::print_json),
        (true, PrintedStates::Last) => Ok(()),
    })
    .await?;
    printer.finish();
    let task = &end.body;
    if json {
        console::print_json(&end.text)?;
    } else {
        let took = console::duration_field(task, "duration_ms");
        let took = if took.is_empty() { took } else { format!(" after {took}") };
        let summary = console::task_summary(task);
        let summary = if summary.is_empty() { summary } else { format!(": {summary}") };
        console::print_line(&format!("{}{took}  {}{summary}", text_field(task, "status"), text_field(task, "title")))?;
    }
    if status(task) == Some(Status::Succeeded) { Ok(()) } else { Err(CommandError::already_printed()) }
}

/// Waits for the task's end and returns the response with the final task. Calls `on_state` with each earlier state, and with
/// its text if it came in a response of its own: then it holds the input, whose numbers the parsed state may have rounded.
/// Connects again when the connection is lost.
pub(super) async fn wait_for_end(
    client: &Client,
    id: TaskId,
    mut on_state: impl FnMut(&Value, Option<&str>) -> Result<(), CommandError>,
) -> Result<ApiResponse, CommandError> {
    // If the task doesn't exist, this request fails, and no websocket is opened.
    let first = client.task(id, 0).await?;
    if is_final(&first.body) {
        return Ok(first);
    }
    on_state(&first.body, Some(&first.text))?;
    let mut live = ReconnectingClient::new(client, json!({"ids": [id]}), Some(Instant::now()));
    loop {
        let frame = live.next().await?;
        let pushed = match frame.kind() {
            "subscribed" | "tasks_changed" => None,
            "tasks" => match frame.items().iter().find(|task| task["id"] == id.to_string()) {
                Some(task) => Some(task),
                None => continue,
            },
            _ => continue,
        };
        if let Some(task) = pushed.filter(|task| !is_final(task)) {
            on_state(task, None)?;
            continue;
        }
        match client.task(id, frame.position()).await {
            Ok(end) if is_final(&end.body) => return Ok(end),
            Ok(now) => on_state(&now.body, Some(&now.text))?,
            Err(failure) if failure.exit_code() == 5 => live.reconnect_later(failure).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// Prints the states of one task. On a terminal it draws a progress bar. Otherwise it prints a line for each new
/// status, and at most one line a second for new progress.
struct StatePrinter {
    bar: Option<ProgressBar>,
    /// When the last line was printed, with its status and summary.
    last: Option<(Instant, String, String)>,
}

impl StatePrinter {
    fn new(json: bool) -> Self {
        let is_terminal = !json && std::io::stdout().is_terminal();
        let bar = is_terminal
            .then(|| with_bar_style(ProgressBar::with_draw_target(Some(BAR_STEPS), ProgressDrawTarget::stdout())));
        Self { bar, last: None }
    }

    fn print(&mut self, task: &Value) -> Result<(), CommandError> {
        if let Some(bar) = &self.bar {
            update_bar(bar, task);
            return Ok(());
        }
        let (status, summary) = (text_field(task, "status"), console::task_summary(task));
        let has_changed = self.last.as_ref().is_none_or(|(at, old_status, old_summary)| {
            *old_status != status || (*old_summary != summary && at.elapsed() >= Duration::from_secs(1))
        });
        if has_changed {
            console::print_line(format!("{status:<10} {summary}").trim_end())?;
            self.last = Some((Instant::now(), status, summary));
        }
        Ok(())
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The number of steps of a progress bar.
const BAR_STEPS: u64 = 1000;

fn with_bar_style(bar: ProgressBar) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:20} {percent:>3} % {wide_msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn update_bar(bar: &ProgressBar, task: &Value) {
    let fraction = task["progress"]["fraction"].as_f64().unwrap_or_default().clamp(0.0, 1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 1000
    bar.set_position((fraction * BAR_STEPS as f64) as u64);
    let description = match status(task) {
        Some(Status::Running) => text_field(&task["progress"], "message"),
        _ => console::task_summary(task),
    };
    bar.set_message(format!("{}  {}  {description}", text_field(task, "status"), text_field(task, "title")));
}

/// Prints the counters and the tasks that run now, of this owner, until Ctrl-C.
async fn watch_all(client: &Client, owner: Option<String>, json: bool) -> Result<(), CommandError> {
    let mut filter = json!({"status": WATCHED_STATUSES});
    if let Some(owner) = &owner {
        filter["owner"] = json!(owner);
    }
    let mut live = ReconnectingClient::new(client, filter, None).with_owner(owner.clone());
    let mut board = TaskBoard::new(json);
    loop {
        let frame = live.next().await?;
        if json {
            console::print_json(&frame.text)?;
            continue;
        }
        match frame.kind() {
            "snapshot" | "counters" => board.show_counters(&frame.body)?,
            "tasks" => frame.items().iter().try_for_each(|task| board.show_task(task))?,
            "subscribed" | "tasks_changed" => {
                let mut query = vec![
                    ("status", WATCHED_STATUSES.to_owned()),
                    ("limit", "200".to_owned()),
                    ("min_position", frame.position().to_string()),
                ];
                query.extend(owner.clone().map(|owner| ("owner", owner)));
                match client.get("/v1/tasks", &query).await {
                    Ok(page) => board.show_all(page.body["items"].as_array().map(Vec::as_slice).unwrap_or_default())?,
                    Err(failure) if failure.exit_code() == 5 => live.reconnect_later(failure).await,
                    Err(failure) => return Err(failure),
                }
            }
            _ => {}
        }
    }
}

/// The statuses of the tasks that `watch` shows.
const WATCHED_STATUSES: &str = "running,cancelling,retrying";
/// The most progress bars on the screen at the same time.
const BARS_MAX: usize = 12;

/// Shows the counters and the tasks with a watched status. On a terminal it draws the counters and a progress bar for
/// each of these tasks, and prints a line above them for each task that has ended. Otherwise it prints lines only.
struct TaskBoard {
    /// The bars on the terminal, and the first of them, which shows the counters; `None` without a terminal.
    screen: Option<(MultiProgress, ProgressBar)>,
    /// The progress bar of each task, by id.
    bars: HashMap<String, ProgressBar>,
    /// The last printed status of each task, by id.
    printed: HashMap<String, String>,
}

impl TaskBoard {
    fn new(json: bool) -> Self {
        let screen = (!json && std::io::stdout().is_terminal()).then(|| {
            let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let counters = screen.add(ProgressBar::new(BAR_STEPS).with_style(style));
            (screen, counters)
        });
        Self { screen, bars: HashMap::new(), printed: HashMap::new() }
    }

    fn show_counters(&mut self, frame: &Value) -> Result<(), CommandError> {
        let counts = Status::ALL.iter().filter_map(|status| {
            let n = frame["counts"][status.name()].as_u64().filter(|n| *n > 0)?;
            Some(format!("{} {}", console::format_count(n), status.name()))
        });
        let mut parts: Vec<String> = counts.collect();
        if parts.is_empty() {
            parts.push("no tasks".into());
        }
        let unseen: u64 = frame["unseen"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        parts.push(format!("{} unseen", console::format_count(unseen)));
        let line = parts.join(" · ");
        match &self.screen {
            Some((_, counters)) => counters.set_message(line),
            None => console::print_line(&line)?,
        }
        Ok(())
    }

    /// Shows the given tasks and removes all others, which have ended while the connection was lost. `tasks` are all
    /// tasks with a watched status.
    fn show_all(&mut self, tasks: &[Value]) -> Result<(), CommandError> {
        let has_ended = |id: &String| !tasks.iter().any(|task| task["id"] == **id);
        self.printed.retain(|id, _| !has_ended(id));
        self.bars.retain(|id, bar| {
            let has_ended = has_ended(id);
            if has_ended {
                bar.finish_and_clear();
            }
            !has_ended
        });
        tasks.iter().try_for_each(|task| self.show_task(task))
    }

    /// Shows the new state of one task.
    fn show_task(&mut self, task: &Value) -> Result<(), CommandError> {
        let id = text_field(task, "id");
        let status_name = text_field(task, "status");
        let is_watched = matches!(status(task), Some(Status::Running | Status::Cancelling | Status::Retrying));
        let line = format!("{status_name:<10}  {}  {}  {id}", text_field(task, "title"), console::task_summary(task));
        let Some((screen, _)) = &self.screen else {
            // Without a terminal, only a change of the status is printed, not the progress.
            let old_status =
                if is_watched { self.printed.insert(id, status_name.clone()) } else { self.printed.remove(&id) };
            return if old_status.as_ref() == Some(&status_name) { Ok(()) } else { console::print_line(&line) };
        };
        if !is_watched {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
                screen.remove(&bar);
            }
            screen.println(line)?;
        } else if let Some(bar) = self.bars.get(&id) {
            update_bar(bar, task);
        } else if self.bars.len() < BARS_MAX {
            let bar = screen.add(with_bar_style(ProgressBar::new(BAR_STEPS)));
            update_bar(&bar, task);
            self.bars.insert(id, bar);
        }
        Ok(())
    }
}
