//! The messages of a websocket: who may send which, and which changes the socket gets.

use std::collections::BTreeSet;

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::checks::{counters_are, leak, scope};
use super::row::{STRANGER, Target, Who, words};
use super::world::World;
use crate::support::LiveSocket;

/// One kind of handshake, or one kind of message, and the answer to each role:
///
/// - `open`: the socket is open, and its snapshot counts the tasks of the target;
/// - `all`: the subscription is accepted, and every change of a task of the target is pushed;
/// - `none`: the subscription is accepted, and nothing is pushed;
/// - `snapshot`, `seen`, `quiet`: a snapshot, the counters with the new position, no answer;
/// - a status: the handshake, or the message, is refused.
pub struct SocketRow {
    /// The `type` of the message; empty for the handshake.
    pub message: &'static str,
    pub case: &'static str,
    /// The query of the handshake, or the message. Placeholders are as in the tables of the routes.
    pub text: &'static str,
    pub lines: Vec<(Target, [&'static str; 5])>,
}

fn socket_row(message: &'static str, case: &'static str, text: &'static str) -> SocketRow {
    SocketRow { message, case, text, lines: Vec::new() }
}

impl SocketRow {
    fn on(mut self, target: Target, line: &'static str) -> Self {
        self.lines.push((target, words(line)));
        self
    }
}

/// What doesn't come before this many beats, which come every 10 s, doesn't come.
const BEATS_MAX: usize = 2;

const FILTER: &str = r#"{"type": "subscribe", "filter": {"label": "set:{n}"}}"#;
const FILTER_OF: &str = r#"{"type": "subscribe", "filter": {"label": "set:{n}", "owner": "{owner}"}}"#;
const FILTER_OF_TWO: &str = r#"{"type": "subscribe", "filter": {"label": "set:{n}", "owner": ["{self}", "{owner}"]}}"#;
const IDS: &str = r#"{"type": "subscribe", "filter": {"ids": ["{id}"]}}"#;

/// The handshakes and the messages.
pub fn rows() -> Vec<SocketRow> {
    use Target::{Absent, Everyone, Other, Own, Unnamed};
    vec![
        //                      user     operator auditor  worker   admin
        socket_row("", "", "").on(Unnamed, "open open open open open"),
        socket_row("", "for an owner", "?owner={owner}")
            .on(Own, "          open     open     open     open     open")
            .on(Other, "        404      open     open     404      open")
            .on(Absent, "       404      open     open     404      open")
            .on(Everyone, "     404      open     open     404      open"),
        // A browser can send no header with a handshake.
        socket_row("", "with a ticket", "?ticket={ticket}").on(Unnamed, "open open open open open"),
        socket_row("", "with a ticket, for an owner", "?ticket={ticket}&owner={owner}")
            .on(Own, "          open     open     open     open     open")
            .on(Other, "        404      open     open     404      open")
            .on(Absent, "       404      open     open     404      open")
            .on(Everyone, "     404      open     open     404      open"),
        socket_row("subscribe", "by a filter without an owner", FILTER)
            .on(Unnamed, "      all      all      all      all      all"),
        socket_row("subscribe", "by owner", FILTER_OF)
            .on(Own, "          all      all      all      all      all")
            .on(Other, "        404      all      all      404      all")
            .on(Absent, "       404      none     none     404      none")
            .on(Everyone, "     404      all      all      404      all"),
        socket_row("subscribe", "by two owners, one of them the caller", FILTER_OF_TWO)
            .on(Other, "        404      all      all      404      all"),
        // An id says nothing about a task that the caller may not see: it is accepted like the id of no task.
        socket_row("subscribe", "by id", IDS)
            .on(Own, "          all      all      all      all      all")
            .on(Other, "        none     all      all      none     all")
            .on(Absent, "       none     none     none     none     none"),
        socket_row("unsubscribe", "", r#"{"type": "unsubscribe"}"#)
            .on(Unnamed, "      quiet    quiet    quiet    quiet    quiet"),
        socket_row("resync", "", r#"{"type": "resync"}"#)
            .on(Unnamed, "      snapshot snapshot snapshot snapshot snapshot"),
        socket_row("seen", "a position of the log", r#"{"type": "seen", "position": 3}"#)
            .on(Unnamed, "      seen     seen     403      seen     seen"),
        socket_row("seen", "a position after the end of the log", r#"{"type": "seen", "position": 123456789}"#)
            .on(Unnamed, "      422      422      403      422      422"),
    ]
}

/// Runs the cells and returns what is wrong, and how many they were.
pub async fn run(world: &World) -> (Vec<String>, usize) {
    let rows = rows();
    // The counts of a handshake are known as long as nobody changes them, so the handshakes come first.
    let (handshakes, messages): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.message.is_empty());
    let mut faults = Vec::new();
    let mut count = 0;
    for rows in [handshakes, messages] {
        let cells = rows.into_iter().flat_map(cells);
        let runs = cells.map(|(row, who, target, expected)| async move {
            let result = run_one(world, row, who, target, expected).await;
            let SocketRow { message, case, .. } = row;
            result.map_err(|fault| {
                format!("socket {message} {case}, {} by {}, {expected}: {fault}", target.name(), who.name())
            })
        });
        let results: Vec<_> = stream::iter(runs).buffer_unordered(8).collect().await;
        count += results.len();
        faults.extend(results.into_iter().filter_map(Result::err));
    }
    (faults, count)
}

fn cells(row: &SocketRow) -> Vec<(&SocketRow, Who, Target, &'static str)> {
    let mut cells = Vec::new();
    for (target, line) in &row.lines {
        cells.extend(Who::ROLES.into_iter().zip(line).map(|(who, expected)| (row, who, *target, *expected)));
        if row.message.is_empty() {
            cells.extend(Who::STRANGERS.map(|who| (row, who, *target, "401")));
        }
    }
    cells
}

async fn run_one(world: &World, row: &SocketRow, who: Who, target: Target, expected: &str) -> Result<(), String> {
    let n = world.number();
    if row.message.is_empty() {
        return handshake(world, row, who, target, expected, n).await;
    }
    let mut talk = Talk::open(world, who, target, n).await?;
    talk.live.send_text(&talk.fill(row.text)).await;
    match expected {
        "all" | "none" => {
            talk.next_of(&["subscribed", "problem"], "subscribed").await?;
            let wanted = if expected == "all" { talk.wanted(row) } else { BTreeSet::new() };
            talk.pushes(&wanted).await
        }
        "quiet" => talk.pushes(&BTreeSet::new()).await,
        "snapshot" => talk.next_of(&["snapshot", "problem"], "snapshot").await.map(drop),
        "seen" => loop {
            // Other changes of the caller's tasks may be counted first.
            let counters = talk.next_of(&["counters", "problem"], "counters").await?;
            if counters["seen"] == 3 {
                return Ok(());
            }
        },
        status => {
            let problem = talk.next_of(&["subscribed", "problem"], "problem").await?;
            if problem["status"].as_u64() != status.parse().ok() {
                return Err(format!("{problem}"));
            }
            talk.pushes(&BTreeSet::new()).await
        }
    }
}

async fn handshake(
    world: &World,
    row: &SocketRow,
    who: Who,
    target: Target,
    expected: &str,
    n: u64,
) -> Result<(), String> {
    let query = row.text.replace("{owner}", &target.owner(who, n));
    let opened = if query.contains("{ticket}") {
        let query = query.replace("{ticket}", &world.ticket(who).await);
        LiveSocket::try_connect(&world.server.url(), &query, None).await
    } else {
        world.socket(who, &query).await
    };
    let mut live = match (opened, expected) {
        (Ok(live), "open") => live,
        (Ok(_), _) => return Err("the socket is open".to_owned()),
        (Err((status, _)), expected) if status.to_string() == expected => return Ok(()),
        (Err((status, body)), _) => return Err(format!("{status}: {body}")),
    };
    live.next_of_type("hello").await;
    counters_are(world, &scope(who, target), &live.next_of_type("snapshot").await)
}

/// A socket, and a task of its caller and one of another subject, whose changes it may get.
struct Talk<'a> {
    world: &'a World,
    live: LiveSocket,
    who: Who,
    target: Target,
    n: u64,
    own: String,
    other: String,
}

impl<'a> Talk<'a> {
    async fn open(world: &'a World, who: Who, target: Target, n: u64) -> Result<Self, String> {
        let own = world.labelled_task(who.subject(), &n.to_string()).await;
        let other = world.labelled_task(STRANGER, &n.to_string()).await;
        let live = world.socket(who, "").await.map_err(|(status, body)| format!("no socket: {status} {body}"))?;
        let mut talk = Self { world, live, who, target, n, own, other };
        talk.next_of(&["snapshot"], "snapshot").await?;
        Ok(talk)
    }

    fn fill(&self, text: &str) -> String {
        let id = match self.target {
            Target::Other => self.other.clone(),
            Target::Absent => taskbell::store::new_id().to_string(),
            _ => self.own.clone(),
        };
        let text = text.replace("{n}", &self.n.to_string()).replace("{id}", &id);
        text.replace("{owner}", &self.target.owner(self.who, self.n)).replace("{self}", self.who.subject())
    }

    /// The tasks whose changes a subscription for the target gets.
    fn wanted(&self, row: &SocketRow) -> BTreeSet<String> {
        let mut scope = scope(self.who, self.target);
        if row.text == FILTER_OF_TWO {
            scope.push(self.who.subject());
        }
        let tasks = [(self.who.subject(), &self.own), (STRANGER, &self.other)];
        tasks.into_iter().filter(|(owner, _)| scope.contains(owner)).map(|(_, id)| id.clone()).collect()
    }

    /// The next frame of one of these types, which must be of the type `wanted`.
    async fn next_of(&mut self, types: &[&str], wanted: &str) -> Result<Value, String> {
        let mut beats = 0;
        while beats < BEATS_MAX {
            let frame = self.next_frame().await?;
            let kind = frame["type"].as_str().unwrap_or_default();
            if types.contains(&kind) {
                return if kind == wanted { Ok(frame) } else { Err(format!("{frame} instead of a frame {wanted}")) };
            }
            beats += usize::from(kind == "beat");
        }
        Err(format!("no frame {wanted}"))
    }

    /// Cancels both tasks, and checks that exactly these changes are pushed. The caller's own is changed last: when the counters
    /// of the caller show it, the other change has been pushed or never will be.
    async fn pushes(&mut self, wanted: &BTreeSet<String>) -> Result<(), String> {
        let mut position = 0;
        for id in [&self.other, &self.own] {
            let path = format!("/v1/tasks/{id}/cancel");
            let task = self.world.admin(Method::POST, &path, &json!({})).await;
            position = task["position"].as_u64().unwrap_or_default();
        }
        let (mut pushed, mut is_shown, mut beats) = (BTreeSet::new(), false, 0);
        while !(is_shown && pushed.is_superset(wanted)) && beats < BEATS_MAX {
            let frame = self.next_frame().await?;
            let items = frame["items"].as_array().into_iter().flatten();
            pushed.extend(items.filter_map(|task| task["id"].as_str()).map(str::to_owned));
            is_shown |= frame["type"] == "counters" && frame["position"].as_u64() >= Some(position);
            beats += usize::from(frame["type"] == "beat");
        }
        // One more answer, after the frames that belong to these counters.
        self.live.send(&json!({"type": "resync"})).await;
        loop {
            let frame = self.next_frame().await?;
            let items = frame["items"].as_array().into_iter().flatten();
            pushed.extend(items.filter_map(|task| task["id"].as_str()).map(str::to_owned));
            if frame["type"] == "snapshot" {
                break;
            }
        }
        if pushed == *wanted { Ok(()) } else { Err(format!("{pushed:?} were pushed instead of {wanted:?}")) }
    }

    /// The next frame. None shows what the caller must not read.
    async fn next_frame(&mut self) -> Result<Value, String> {
        let frame = self.live.next_or_close().await.map_err(|close| format!("the socket is closed: {close:?}"))?;
        leak(self.who, &frame.to_string(), false)?;
        Ok(frame)
    }
}

impl World {
    /// A ticket of this caller. A stranger has none and makes one up.
    async fn ticket(&self, who: Who) -> String {
        if Who::STRANGERS.contains(&who) {
            return "0".repeat(64);
        }
        let ticket = self.granted(who, Method::POST, "/v1/tickets", &json!({})).await;
        ticket["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// Opens a socket of this caller. The error is the status and the body of the refusal.
    pub async fn socket(&self, who: Who, query: &str) -> Result<LiveSocket, (u16, String)> {
        LiveSocket::try_connect(&self.server.url(), query, self.token(who).as_deref()).await
    }
}

/// The types of messages that the server names when it gets another one.
pub async fn known_messages(world: &World) -> BTreeSet<String> {
    let mut live = world.socket(Who::Admin, "").await.expect("a socket of the admin");
    live.send(&json!({"type": "no such type"})).await;
    let detail = live.next_of_type("problem").await["detail"].as_str().unwrap_or_default().to_owned();
    let names = detail.split_once("expected").expect("the known types").1;
    names.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
