//! Under load, compares every frame with a fold of `/v1/log` up to the frame's position.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::fold::Fold;
use super::load::{LoadSize, Observations, run};

/// What the checker has counted and found.
#[derive(Debug, Default)]
struct Findings {
    /// Frames of the types `counters` and `snapshot`.
    frames: usize,
    /// `counters` frames whose `previous` isn't the position of the previous frame with counts.
    gaps: usize,
    /// Frames whose position is lower than that of the previous frame.
    backward: usize,
    /// Frames whose counts differ from those of the log at the same position.
    differences: usize,
    /// Tasks in `tasks` frames.
    items: usize,
    /// Tasks in `tasks` frames that differ from the log.
    wrong_items: usize,
    /// Changes that a subscriber did not receive.
    missed: usize,
    /// Responses of `GET /v1/counters`.
    polls: usize,
    /// Polls with the same position as a frame.
    same_position: usize,
    /// Polls whose counts differ from those of the log.
    wrong_polls: usize,
    /// A description of each fault.
    notes: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_counts_and_tasks_are_those_of_the_log() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let size = if full {
        LoadSize { sockets: 50, tasks: 2000, cancels: 200, frames: 10_000 }
    } else {
        LoadSize { sockets: 12, tasks: 160, cancels: 16, frames: 400 }
    };
    let begun = std::time::Instant::now();
    let observations = run(size).await;
    let (fold, of_local) = (Fold::of_everyone(&observations.log, "local"), Fold::of(&observations.log, "local"));
    assert_ne!(fold.bell(fold.head()), of_local.bell(of_local.head()), "another owner has tasks too");
    let findings = check(&observations, &fold, &of_local);
    let (events, took) = (fold.head(), begun.elapsed().as_secs_f64());
    println!("{} sockets, {} tasks, {events} events in {took:.1} s: {findings:?}", size.sockets, fold.tasks.len());
    let Findings { frames, gaps, backward, differences, wrong_items, missed, wrong_polls, .. } = findings;
    assert!(frames >= size.frames);
    assert_eq!((gaps, backward, differences, wrong_items, missed, wrong_polls), (0, 0, 0, 0, 0, 0));
    let requests = fold.events.iter().filter(|event| event["type"] == "CancelRequested").count();
    assert!(requests >= size.cancels / 2, "{requests} cancels took effect");
    assert!(findings.same_position > 0, "no poll had the position of a frame");
    check_planted_faults(observations, &fold, &of_local);
}

/// Removes and changes frames, and asserts that the checker finds these faults.
fn check_planted_faults(mut observations: Observations, fold: &Fold, of_local: &Fold) {
    let queued = |filter: &Option<Value>| *filter == Some(json!({"status": ["queued"]}));
    let (_, _, frames) = observations.sockets.iter_mut().find(|(_, filter, _)| queued(filter)).unwrap();
    let mut counters = (0..frames.len()).filter(|n| frames[*n]["type"] == "counters");
    let (removed, changed) = (counters.next().unwrap(), counters.next_back().unwrap());
    frames[changed]["counts"]["queued"] = json!(number(&frames[changed]["counts"], "queued") + 1);
    frames.remove(removed);
    let without_last = frames.iter().rposition(|frame| frame["type"] == "tasks").unwrap();
    frames.truncate(without_last);
    let findings = check(&observations, fold, of_local);
    assert_eq!((findings.gaps, findings.missed > 0), (1, true), "{findings:?}");
    assert!(findings.differences <= 1);
}

/// Compares all frames and polls with the folds of the log. `fold` has the bell of everyone, `of_local` that of the caller.
fn check(observations: &Observations, fold: &Fold, of_local: &Fold) -> Findings {
    let mut findings = Findings::default();
    let mut positions = HashSet::new();
    for (bell, filter, frames) in &observations.sockets {
        let bell = if *bell == "?owner=local" { of_local } else { fold };
        check_counts(frames, bell, &mut positions, &mut findings);
        check_items(frames, fold, &mut findings);
        if let Some(filter) = filter {
            check_none_missed(filter, frames, fold, &mut findings);
        }
    }
    for poll in &observations.polls {
        findings.polls += 1;
        findings.same_position += usize::from(positions.contains(&number(poll, "position")));
        if bell_of(poll) != *fold.bell(number(poll, "position")) {
            findings.wrong_polls += 1;
            findings.notes.push(format!("polled {poll}"));
        }
    }
    findings
}

fn check_counts(frames: &[Value], fold: &Fold, positions: &mut HashSet<u64>, findings: &mut Findings) {
    assert_eq!((&frames[0]["type"], &frames[1]["type"]), (&json!("hello"), &json!("snapshot")));
    assert_eq!(frames[0]["position"], frames[1]["position"]);
    let mut last_position = 0;
    for frame in frames.iter().filter(|frame| frame["type"] == "counters" || frame["type"] == "snapshot") {
        let position = number(frame, "position");
        let is_counters = frame["type"] == "counters";
        findings.frames += 1;
        findings.gaps += usize::from(is_counters && frame["previous"] != last_position);
        findings.backward += usize::from(position < last_position || is_counters && position == last_position);
        let expected = fold.bell(position);
        if bell_of(frame) != *expected {
            findings.differences += 1;
            findings.notes.push(format!("pushed {frame}, should be {expected}"));
        }
        last_position = position;
        positions.insert(position);
    }
}

fn check_items(frames: &[Value], fold: &Fold, findings: &mut Findings) {
    for frame in frames.iter().filter(|frame| frame["type"] == "tasks") {
        for item in frame["items"].as_array().unwrap() {
            findings.items += 1;
            let is_late = number(item, "position") > number(frame, "position");
            let difference = fold.difference(item);
            if is_late || difference.is_some() {
                findings.wrong_items += 1;
                findings.notes.push(format!("{difference:?} (late: {is_late}) in {item}"));
            }
        }
    }
}

/// The server sends a task to a subscriber if the task matches the filter before or after a change. So the subscriber
/// must have received the last such change of every task, or a later `tasks_changed` frame.
fn check_none_missed(filter: &Value, frames: &[Value], fold: &Fold, findings: &mut Findings) {
    let subscribed = frames.iter().find(|frame| frame["type"] == "subscribed").map(|frame| number(frame, "position"));
    let reread = frames.iter().filter(|frame| frame["type"] == "tasks_changed").map(|frame| number(frame, "position"));
    let known_position = reread.max().max(subscribed).expect("it subscribed");
    let mut sent: HashMap<&str, u64> = HashMap::new();
    for item in frames.iter().filter(|frame| frame["type"] == "tasks").flat_map(|f| f["items"].as_array().unwrap()) {
        let revision = sent.entry(item["id"].as_str().unwrap()).or_default();
        *revision = number(item, "revision").max(*revision);
    }
    for (id, docs) in &fold.tasks {
        let matching = |n: usize| matches(filter, &docs[n]);
        let Some(last) = (0..docs.len()).rev().find(|n| matching(*n) || *n > 0 && matching(n - 1)) else { continue };
        let was_sent = sent.get(id.as_str()).is_some_and(|revision| *revision >= last as u64);
        if number(&docs[last], "position") > known_position && !was_sent {
            findings.missed += 1;
            findings.notes.push(format!("{filter} never got {id} at revision {last}"));
        }
    }
}

/// Whether the task matches the filter.
fn matches(filter: &Value, doc: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(field, values)| {
        values.as_array().unwrap().iter().any(|value| match field.as_str() {
            "label" => {
                let (key, label) = value.as_str().unwrap().split_once(':').unwrap();
                doc["labels"][key] == label
            }
            _ => doc[field.as_str()] == *value,
        })
    })
}

fn number(frame: &Value, field: &str) -> u64 {
    frame[field].as_u64().unwrap_or_else(|| panic!("no {field} in {frame}"))
}

fn bell_of(frame: &Value) -> Value {
    json!({"counts": frame["counts"], "unseen": frame["unseen"], "seen": frame["seen"]})
}
