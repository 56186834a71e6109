//! `taskbell watch`, and `--wait` of other commands.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Answer, Client, Connect};
use super::failure::Failure;
use super::live::Reconnecting;
use super::out::{self, text};
use taskbell::{Status, TaskId};

/// Watches one task until it ends (0 where it succeeded, 1 where it did not), or all that goes on until Ctrl-C.
#[derive(Debug, Args)]
pub struct Watch {
    /// Which task; all where none is named
    id: Option<TaskId>,
    #[arg(skip)]
    pub(super) connect: Connect,
}

/// The states that `--json` prints.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Each state that is pushed, and the last as `GET /v1/tasks/{id}` shows it.
    Each,
    /// The last state only.
    Last,
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        match self.id {
            Some(id) => wait_and_print(&client, id, self.connect.json, Show::Each).await,
            None => watch_all(&client, self.connect.json).await,
        }
    }
}

/// The id of the task in an answer.
pub(super) fn id_of(answer: &Answer) -> Result<TaskId, Failure> {
    let id = answer.body["id"].as_str().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::failed("the server's answer holds no task"))
}

fn status(task: &Value) -> Option<Status> {
    task["status"].as_str().and_then(Status::from_name)
}

fn is_final(task: &Value) -> bool {
    status(task).is_some_and(Status::is_final)
}

/// Waits for the task's end and prints its states. A failure if it did not succeed.
pub(super) async fn wait_and_print(client: &Client, id: TaskId, json: bool, show: Show) -> Result<(), Failure> {
    let mut printer = Printer::new(json);
    let end = wait_for_end(client, id, |task| match (json, show) {
        (false, _) => printer.show(task),
        (true, Show::Each) => out::json(&task.to_string()),
        (true, Show::Last) => Ok(()),
    })
    .await?;
    printer.finish();
    let task = &end.body;
    if json {
        out::json(&end.text)?;
    } else {
        let took = out::millis(task, "duration_ms");
        let took = if took.is_empty() { took } else { format!(" after {took}") };
        let summary = out::summary(task);
        let summary = if summary.is_empty() { summary } else { format!(": {summary}") };
        out::line(&format!("{}{took}  {}{summary}", text(task, "status"), text(task, "title")))?;
    }
    if status(task) == Some(Status::Succeeded) { Ok(()) } else { Err(Failure::printed()) }
}

/// Waits for the task's end, and connects again when the connection is lost. Calls `on_state` with each state before the
/// end.
pub(super) async fn wait_for_end(
    client: &Client,
    id: TaskId,
    mut on_state: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    // A task that doesn't exist is refused here, before a socket is opened.
    let first = client.task(id, 0).await?;
    if is_final(&first.body) {
        return Ok(first);
    }
    on_state(&first.body)?;
    let mut live = Reconnecting::new(client, json!({"ids": [id]}), Some(Instant::now()));
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
            on_state(task)?;
            continue;
        }
        match client.task(id, frame.position()).await {
            Ok(end) if is_final(&end.body) => return Ok(end),
            Ok(now) => on_state(&now.body)?,
            Err(failure) if failure.exit() == 5 => live.reconnect_later(failure).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// The states of one task: a bar on a terminal; else a line for each change, for the progress at most one a second.
struct Printer {
    bar: Option<ProgressBar>,
    last: Option<(Instant, String, String)>,
}

impl Printer {
    fn new(json: bool) -> Self {
        let terminal = !json && std::io::stdout().is_terminal();
        let bar = terminal.then(|| bar(ProgressBar::with_draw_target(Some(SCALE), ProgressDrawTarget::stdout())));
        Self { bar, last: None }
    }

    fn show(&mut self, task: &Value) -> Result<(), Failure> {
        if let Some(bar) = &self.bar {
            draw(bar, task);
            return Ok(());
        }
        let (status, summary) = (text(task, "status"), out::summary(task));
        let is_news = self.last.as_ref().is_none_or(|(at, before, words)| {
            *before != status || (*words != summary && at.elapsed() >= Duration::from_secs(1))
        });
        if is_news {
            out::line(format!("{status:<10} {summary}").trim_end())?;
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

/// Steps of a bar.
const SCALE: u64 = 1000;

fn bar(bar: ProgressBar) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:20} {percent:>3} % {wide_msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn draw(bar: &ProgressBar, task: &Value) {
    let fraction = task["progress"]["fraction"].as_f64().unwrap_or_default().clamp(0.0, 1.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // 0 to 1000
    bar.set_position((fraction * SCALE as f64) as u64);
    let words = match status(task) {
        Some(Status::Running) => text(&task["progress"], "message"),
        _ => out::summary(task),
    };
    bar.set_message(format!("{}  {}  {words}", text(task, "status"), text(task, "title")));
}

/// Prints the counters and the tasks that run now, until Ctrl-C.
async fn watch_all(client: &Client, json: bool) -> Result<(), Failure> {
    let mut live = Reconnecting::new(client, json!({"status": CURRENT}), None);
    let mut board = Board::new(json);
    loop {
        let frame = live.next().await?;
        if json {
            out::json(&frame.text)?;
            continue;
        }
        match frame.kind() {
            "snapshot" | "counters" => board.counters(&frame.body)?,
            "tasks" => frame.items().iter().try_for_each(|task| board.task(task))?,
            "subscribed" | "tasks_changed" => {
                let query = [
                    ("status", CURRENT.to_owned()),
                    ("limit", "200".to_owned()),
                    ("min_position", frame.position().to_string()),
                ];
                match client.get("/v1/tasks", &query).await {
                    Ok(page) => board.page(page.body["items"].as_array().map(Vec::as_slice).unwrap_or_default())?,
                    Err(failure) if failure.exit() == 5 => live.reconnect_later(failure).await,
                    Err(failure) => return Err(failure),
                }
            }
            _ => {}
        }
    }
}

/// The statuses of a task that is under way.
const CURRENT: &str = "running,cancelling,retrying";
/// The most bars at once; more would fill the screen.
const BARS: usize = 12;

/// On a terminal: the counters and a bar for each current task, and above them a line for each task that has ended. Else:
/// lines.
struct Board {
    screen: Option<(MultiProgress, ProgressBar)>,
    bars: HashMap<String, ProgressBar>,
    /// The last status that was printed, by task.
    printed: HashMap<String, String>,
}

impl Board {
    fn new(json: bool) -> Self {
        let screen = (!json && std::io::stdout().is_terminal()).then(|| {
            let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let head = screen.add(ProgressBar::new(SCALE).with_style(style));
            (screen, head)
        });
        Self { screen, bars: HashMap::new(), printed: HashMap::new() }
    }

    fn counters(&mut self, frame: &Value) -> Result<(), Failure> {
        let counts = Status::ALL.iter().filter_map(|status| {
            let n = frame["counts"][status.name()].as_u64().filter(|n| *n > 0)?;
            Some(format!("{} {}", out::thousands(n), status.name()))
        });
        let mut words: Vec<String> = counts.collect();
        if words.is_empty() {
            words.push("no tasks".into());
        }
        let unseen: u64 = frame["unseen"].as_object().into_iter().flatten().filter_map(|(_, n)| n.as_u64()).sum();
        words.push(format!("{} unseen", out::thousands(unseen)));
        let line = words.join(" · ");
        match &self.screen {
            Some((_, head)) => head.set_message(line),
            None => out::line(&line)?,
        }
        Ok(())
    }

    /// Takes the list of all current tasks: a task that is not in it has ended while the connection was lost.
    fn page(&mut self, tasks: &[Value]) -> Result<(), Failure> {
        let gone = |id: &String| !tasks.iter().any(|task| task["id"] == **id);
        self.printed.retain(|id, _| !gone(id));
        self.bars.retain(|id, bar| {
            let gone = gone(id);
            if gone {
                bar.finish_and_clear();
            }
            !gone
        });
        tasks.iter().try_for_each(|task| self.task(task))
    }

    fn task(&mut self, task: &Value) -> Result<(), Failure> {
        let id = text(task, "id");
        let state = text(task, "status");
        let current = matches!(status(task), Some(Status::Running | Status::Cancelling | Status::Retrying));
        let line = format!("{state:<10}  {}  {}  {id}", text(task, "title"), out::summary(task));
        let Some((screen, _)) = &self.screen else {
            // One line for each change of status; progress is shown on a terminal only.
            let before = if current { self.printed.insert(id, state.clone()) } else { self.printed.remove(&id) };
            return if before.as_ref() == Some(&state) { Ok(()) } else { out::line(&line) };
        };
        if !current {
            if let Some(bar) = self.bars.remove(&id) {
                bar.finish_and_clear();
                screen.remove(&bar);
            }
            screen.println(line)?;
        } else if let Some(bar) = self.bars.get(&id) {
            draw(bar, task);
        } else if self.bars.len() < BARS {
            let bar = screen.add(bar(ProgressBar::new(SCALE)));
            draw(&bar, task);
            self.bars.insert(id, bar);
        }
        Ok(())
    }
}
