//! `taskbell watch`, and what `--wait` does elsewhere.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::client::{Answer, Client, Connect};
use super::failure::Failure;
use super::live::Lasting;
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

/// What `--json` prints on the way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Show {
    /// Each state that was pushed, and the last as the task's own page shows it.
    Each,
    /// Only the last.
    Last,
}

impl Watch {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let client = self.connect.client()?;
        match self.id {
            Some(id) => to_the_end(&client, id, self.connect.json, Show::Each).await,
            None => all(&client, self.connect.json).await,
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

/// Waits for the task's end and shows the way there; a failure where it did not succeed.
pub(super) async fn to_the_end(client: &Client, id: TaskId, json: bool, show: Show) -> Result<(), Failure> {
    let mut printer = Printer::new(json);
    let end = end_of(client, id, |task| match (json, show) {
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
        let story = out::story(task);
        let story = if story.is_empty() { story } else { format!(": {story}") };
        out::line(&format!("{}{took}  {}{story}", text(task, "status"), text(task, "title")))?;
    }
    if status(task) == Some(Status::Succeeded) { Ok(()) } else { Err(Failure::said()) }
}

/// Waits for the task's end, through losses of the connection; `seen` is told each state before it.
pub(super) async fn end_of(
    client: &Client,
    id: TaskId,
    mut seen: impl FnMut(&Value) -> Result<(), Failure>,
) -> Result<Answer, Failure> {
    // Asked first: what isn't there is said before a socket is opened.
    let first = client.task(id, 0).await?;
    if is_final(&first.body) {
        return Ok(first);
    }
    seen(&first.body)?;
    let mut live = Lasting::new(client, json!({"ids": [id]}), Some(Instant::now()));
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
            seen(task)?;
            continue;
        }
        match client.task(id, frame.position()).await {
            Ok(end) if is_final(&end.body) => return Ok(end),
            Ok(now) => seen(&now.body)?,
            Err(failure) if failure.exit() == 5 => live.lose(failure).await,
            Err(failure) => return Err(failure),
        }
    }
}

/// One task's way: a bar on a terminal, else a line where something changed, at most one a second.
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
        let (status, story) = (text(task, "status"), out::story(task));
        let news = self.last.as_ref().is_none_or(|(at, before, words)| {
            *before != status || (*words != story && at.elapsed() >= Duration::from_secs(1))
        });
        if news {
            out::line(format!("{status:<10} {story}").trim_end())?;
            self.last = Some((Instant::now(), status, story));
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
        _ => out::story(task),
    };
    bar.set_message(format!("{}  {}  {words}", text(task, "status"), text(task, "title")));
}

/// Counters and what runs now, until Ctrl-C.
async fn all(client: &Client, json: bool) -> Result<(), Failure> {
    let mut live = Lasting::new(client, json!({"status": CURRENT}), None);
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
                    Err(failure) if failure.exit() == 5 => live.lose(failure).await,
                    Err(failure) => return Err(failure),
                }
            }
            _ => {}
        }
    }
}

/// What goes on now.
const CURRENT: &str = "running,cancelling,retrying";
/// Bars at once; more would fill the screen.
const BARS: usize = 12;

/// On a terminal the counters and a bar for each current task, with what ended running away above; else lines.
struct Board {
    screen: Option<(MultiProgress, ProgressBar)>,
    bars: HashMap<String, ProgressBar>,
    said: HashMap<String, String>,
}

impl Board {
    fn new(json: bool) -> Self {
        let screen = (!json && std::io::stdout().is_terminal()).then(|| {
            let screen = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            let head = screen.add(ProgressBar::new(SCALE).with_style(style));
            (screen, head)
        });
        Self { screen, bars: HashMap::new(), said: HashMap::new() }
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

    /// What is current now, all of it: what isn't among it has ended unseen.
    fn page(&mut self, tasks: &[Value]) -> Result<(), Failure> {
        let gone = |id: &String| !tasks.iter().any(|task| task["id"] == **id);
        self.said.retain(|id, _| !gone(id));
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
        let line = format!("{state:<10}  {}  {}  {id}", text(task, "title"), out::story(task));
        let Some((screen, _)) = &self.screen else {
            // A line for each change of status; the way in between is for a terminal.
            let before = if current { self.said.insert(id, state.clone()) } else { self.said.remove(&id) };
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
