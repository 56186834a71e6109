//! What the body of a successful response must contain: exactly the things that the caller may see, and of them exactly what
//! it may read.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::row::{STRANGER, Target, Who};
use super::things::{FixedTask, State, Thing};
use super::world::{OTHER_KIND, WORKERS_KIND, World, canary, owners};
use crate::support::HttpResponse;

/// A response, and what was asked for.
pub struct Seen<'a> {
    pub world: &'a World,
    pub who: Who,
    /// Whose column of the tables says what the caller must get.
    pub column: Who,
    pub target: Target,
    pub thing: &'a Thing,
    pub response: &'a HttpResponse,
}

/// Checks a successful response. The error says what is wrong.
pub type Check = fn(&Seen<'_>) -> Result<(), String>;

fn require(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, wanted: &T) -> Result<(), String> {
    require(found == wanted, || format!("{what}: {found:?} instead of {wanted:?}"))
}

impl Seen<'_> {
    fn body(&self) -> &Value {
        &self.response.body
    }

    /// The owners whose tasks the response is about.
    fn scope(&self) -> Vec<&'static str> {
        scope(self.who, self.target)
    }

    /// The fixed tasks that the response is about.
    fn fixed(&self) -> impl Iterator<Item = &FixedTask> {
        let scope = self.scope();
        self.world.tasks.iter().filter(move |task| scope.contains(&task.owner.as_str()))
    }

    fn is_redacted(&self) -> bool {
        self.who == Who::Auditor
    }
}

/// The owners whose tasks a request for this target is about.
pub fn scope(who: Who, target: Target) -> Vec<&'static str> {
    match target {
        Target::Unnamed | Target::Own | Target::Present => vec![who.subject()],
        Target::Other => vec![STRANGER],
        Target::Absent => Vec::new(),
        Target::Everyone => owners().collect(),
    }
}

/// The ids of the items of a list.
pub fn ids(list: &Value) -> BTreeSet<&str> {
    list["items"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str()).collect()
}

fn list_has(seen: &Seen<'_>, wanted: &BTreeSet<&str>) -> Result<(), String> {
    equal("the tasks", &ids(seen.body()), wanted)?;
    equal("total", &seen.body()["total"], &json!(wanted.len()))
}

/// `GET /v1/tasks` with the label of the fixed tasks.
pub fn list(seen: &Seen<'_>) -> Result<(), String> {
    list_has(seen, &seen.fixed().map(|task| task.id.as_str()).collect())
}

/// As [`list`], with the caller as a second owner.
pub fn list_of_two(seen: &Seen<'_>) -> Result<(), String> {
    let own = seen.world.tasks_of(seen.who.subject());
    list_has(seen, &seen.fixed().chain(own).map(|task| task.id.as_str()).collect())
}

pub fn empty_list(seen: &Seen<'_>) -> Result<(), String> {
    list_has(seen, &BTreeSet::new())
}

/// The page of one task. An auditor gets no input, result or output, and is told so.
pub fn task_page(seen: &Seen<'_>) -> Result<(), String> {
    let page = seen.body();
    equal("id", &page["id"], &json!(seen.thing.id))?;
    equal("owner", &page["owner"], &json!(seen.thing.owner))?;
    if seen.is_redacted() {
        for member in ["input", "result", "output"] {
            require(page.get(member) == Some(&Value::Null), || format!("{member} is not null: {page}"))?;
        }
        return equal("redacted", &page["redacted"], &json!(["/input", "/result", "/output"]));
    }
    require(page.get("redacted").is_none(), || format!("redacted for a caller who may read all: {page}"))?;
    equal("input", &page["input"], &canary(&seen.thing.owner))?;
    if page["status"] == State::Ended.status() {
        equal("result", &page["result"], &canary(&seen.thing.owner))?;
        let tail = page["output"]["tail"].as_str().unwrap_or_default();
        require(tail.contains(&seen.thing.owner), || format!("the output is {tail:?}"))?;
    }
    Ok(())
}

/// A new task for the owner that the request names.
pub fn created(seen: &Seen<'_>) -> Result<(), String> {
    equal("owner", &seen.body()["owner"], &json!(seen.thing.owner))
}

/// A new task of the caller, whatever the target.
pub fn created_for_caller(seen: &Seen<'_>) -> Result<(), String> {
    equal("owner", &seen.body()["owner"], &json!(seen.who.subject()))
}

/// The pointer to the member of this event's data that an auditor must not read.
fn secret_of(event: &Value) -> Option<&'static str> {
    match event["type"].as_str().unwrap_or_default() {
        "Created" => Some("/data/input"),
        "Completed" => Some("/data/result"),
        "OutputKept" => Some("/data/tail"),
        "ScheduleCreated" => Some("/data/task/input"),
        _ => None,
    }
}

/// The event as an auditor reads it: the member is null and named, also where it was null before. Otherwise the event would say
/// which tasks have a result. The hash is that of the stored form.
pub fn redact(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(pointer) = secret_of(&event) {
        *event.pointer_mut(pointer).expect("the member") = Value::Null;
        event["redacted"] = json!([pointer]);
    }
    event
}

/// Checks that these are the events of the log for which `is_wanted` holds, in the form for this caller.
fn events_are(seen: &Seen<'_>, found: &[Value], is_wanted: impl Fn(&Value) -> bool) -> Result<(), String> {
    let stored = seen.world.log.iter().filter(|event| is_wanted(event));
    let wanted: Vec<Value> = if seen.is_redacted() { stored.map(redact).collect() } else { stored.cloned().collect() };
    equal("the number of events", &found.len(), &wanted.len())?;
    found.iter().zip(&wanted).try_for_each(|(found, wanted)| equal("an event", found, wanted))
}

/// `GET /v1/tasks/{id}/events`.
pub fn events(seen: &Seen<'_>) -> Result<(), String> {
    let stream = format!("task-{}", seen.thing.id);
    let items = seen.body()["items"].as_array().cloned().unwrap_or_default();
    require(!items.is_empty(), || "no events".to_owned())?;
    events_are(seen, &items, |event| event["stream"] == *stream)
}

fn lines(seen: &Seen<'_>) -> Vec<Value> {
    seen.response.text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect()
}

/// `GET /v1/log`, all of it.
pub fn log(seen: &Seen<'_>) -> Result<(), String> {
    events_are(seen, &lines(seen), |_| true)
}

/// `GET /v1/log?stream=task-…`.
pub fn log_of_task(seen: &Seen<'_>) -> Result<(), String> {
    let stream = format!("task-{}", seen.thing.id);
    events_are(seen, &lines(seen), |event| event["stream"] == *stream)
}

/// The numbers that counters, a snapshot and a list of these owners all say.
pub fn counters_are(world: &World, scope: &[&str], found: &Value) -> Result<(), String> {
    let mut wanted: BTreeMap<String, u64> = BTreeMap::new();
    for task in world.tasks.iter().filter(|task| scope.contains(&task.owner.as_str())) {
        *wanted.entry(task.state.status().to_owned()).or_default() += 1;
    }
    let counts = found["counts"].as_object().ok_or_else(|| format!("no counts in {found}"))?;
    let counted = counts.iter().map(|(status, count)| (status.clone(), count.as_u64().unwrap_or_default()));
    equal("counts", &counted.filter(|(_, count)| *count > 0).collect(), &wanted)?;
    let ended = wanted.get(State::Ended.status()).copied().unwrap_or_default();
    equal("unseen", &found["unseen"], &json!({"succeeded": ended, "failed": 0, "cancelled": 0}))
}

/// `GET /v1/counters`.
pub fn counters(seen: &Seen<'_>) -> Result<(), String> {
    counters_are(seen.world, &seen.scope(), seen.body())
}

/// A dry run of a bulk cancel: how many of the fixed tasks it would cancel.
pub fn matched(seen: &Seen<'_>) -> Result<(), String> {
    let open = seen.fixed().filter(|task| task.state != State::Ended).count();
    equal("matched", &seen.body()["matched"], &json!(open))?;
    equal("task", &seen.body()["task"], &Value::Null)
}

/// Taken leases: only of the queue, and for a worker only of its kinds.
pub fn leases(seen: &Seen<'_>) -> Result<(), String> {
    let kinds: BTreeSet<&str> =
        seen.body()["leases"].as_array().into_iter().flatten().filter_map(|lease| lease["kind"].as_str()).collect();
    let both = BTreeSet::from([WORKERS_KIND, OTHER_KIND]);
    let wanted = match (seen.target, seen.column) {
        (Target::Present, Who::Worker) | (Target::Own, _) => BTreeSet::from([WORKERS_KIND]),
        (Target::Present, _) => both,
        (Target::Other, Who::Admin) => BTreeSet::from([OTHER_KIND]),
        _ => BTreeSet::new(),
    };
    equal("the kinds of the leases", &kinds, &wanted)
}

/// `GET /v1/queues`.
pub fn queues(seen: &Seen<'_>) -> Result<(), String> {
    let found: BTreeSet<&str> =
        seen.body()["items"].as_array().into_iter().flatten().filter_map(|item| item["name"].as_str()).collect();
    let created = seen.world.log.iter().filter(|event| event["type"] == "Created");
    let wanted = created.filter_map(|event| event["data"]["queue"].as_str()).collect();
    equal("the queues", &found, &wanted)
}

fn schedule_is(seen: &Seen<'_>, schedule: &Value) -> Result<(), String> {
    equal("id", &schedule["id"], &json!(seen.world.schedule))?;
    if seen.is_redacted() {
        require(schedule["task"].get("input") == Some(&Value::Null), || format!("the input is not null: {schedule}"))?;
        return equal("redacted", &schedule["redacted"], &json!(["/task/input"]));
    }
    require(schedule.get("redacted").is_none(), || format!("redacted for a caller who may read all: {schedule}"))?;
    equal("input", &schedule["task"]["input"], &canary(STRANGER))
}

/// `GET /v1/schedules/{id}`.
pub fn schedule(seen: &Seen<'_>) -> Result<(), String> {
    schedule_is(seen, seen.body())
}

/// `GET /v1/schedules`.
pub fn schedules(seen: &Seen<'_>) -> Result<(), String> {
    let items = seen.body()["items"].as_array().cloned().unwrap_or_default();
    equal("the number of schedules", &items.len(), &1)?;
    schedule_is(seen, &items[0])
}

/// `GET /v1/tokens`: who has one, and neither a token nor its hash.
pub fn tokens(seen: &Seen<'_>) -> Result<(), String> {
    let items = seen.body()["items"].as_array().cloned().unwrap_or_default();
    let subjects: BTreeSet<&str> = items.iter().filter_map(|item| item["subject"].as_str()).collect();
    equal("the subjects", &subjects, &owners().collect())?;
    let secrets = seen.world.log.iter().filter_map(|event| event["data"]["hash"].as_str());
    let mut secrets = secrets.chain(seen.world.tokens.values().map(|token| token.text.as_str()));
    require(secrets.all(|secret| !seen.response.text.contains(secret)), || "a token or a hash is shown".to_owned())
}

/// A session says who the caller is.
pub fn session(seen: &Seen<'_>) -> Result<(), String> {
    equal("subject", &seen.body()["subject"], &json!(seen.who.subject()))?;
    equal("role", &seen.body()["role"], &json!(seen.who.name()))
}

/// A bearer for a subject of an embedding page, who is a user.
pub fn bearer(seen: &Seen<'_>) -> Result<(), String> {
    equal("subject", &seen.body()["subject"], &json!(seen.thing.owner))?;
    equal("role", &seen.body()["role"], &json!("user"))?;
    require(seen.body()["token"].is_string(), || "no token".to_owned())?;
    require(seen.response.header("set-cookie").is_empty(), || {
        "the bearer of another subject is set as a cookie".to_owned()
    })
}

/// How many sessions of a subject have ended.
pub fn ended(seen: &Seen<'_>) -> Result<(), String> {
    let (ended, is_absent) = (seen.body()["ended"].as_u64(), seen.target == Target::Absent);
    require(ended.is_some() && (!is_absent || ended == Some(0)), || format!("no number of sessions: {}", seen.body()))
}

/// What no response may say, whatever its route: to an auditor what a task works on or has written; to a user or a worker
/// anything about the tasks of another subject.
pub fn leak(who: Who, text: &str, shows_others: bool) -> Result<(), String> {
    let forbidden = match who {
        Who::Auditor => "canary",
        who if who.sees_only_its_own() && !shows_others => "of otto",
        _ => return Ok(()),
    };
    require(!text.contains(forbidden), || format!("the response shows {forbidden:?}: {text}"))
}
