//! Under load, every frame is compared with a fold of `/v1/log` at that frame's position.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::fold::Fold;
use super::load::{Seen, Size, run};

/// The findings of the checker.
#[derive(Debug, Default)]
struct Figures {
    /// Counters and snapshot frames.
    frames: usize,
    /// Counters frames whose `previous` isn't the position of the counts frame before.
    gaps: usize,
    /// Frames with a lower position than the one before.
    backward: usize,
    /// Counts that differ from the log's at their position.
    differences: usize,
    /// Tasks in `tasks` frames.
    items: usize,
    wrong_items: usize,
    /// Changes that were not sent to a subscriber.
    missed: usize,
    polls: usize,
    /// Polls with the same position as a frame.
    same_position: usize,
    wrong_polls: usize,
    /// The findings in words.
    notes: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushed_counts_and_tasks_are_those_of_the_log() {
    let full = std::env::var_os("TASKBELL_FULL").is_some();
    let size = if full {
        Size { sockets: 50, tasks: 2000, cancels: 200, frames: 10_000 }
    } else {
        Size { sockets: 12, tasks: 160, cancels: 16, frames: 400 }
    };
    let begun = std::time::Instant::now();
    let seen = run(size).await;
    let fold = Fold::of(&seen.log, "local");
    let figures = check(&seen, &fold);
    let (events, took) = (fold.head(), begun.elapsed().as_secs_f64());
    println!("{} sockets, {} tasks, {events} events in {took:.1} s: {figures:?}", size.sockets, fold.tasks.len());
    let Figures { frames, gaps, backward, differences, wrong_items, missed, wrong_polls, .. } = figures;
    assert!(frames >= size.frames);
    assert_eq!((gaps, backward, differences, wrong_items, missed, wrong_polls), (0, 0, 0, 0, 0, 0));
    let requests = fold.events.iter().filter(|event| event["type"] == "CancelRequested").count();
    assert!(requests >= size.cancels / 2, "{requests} cancels took effect");
    assert!(figures.same_position > 0, "no poll had the position of a frame");
    planted(seen, &fold);
}

/// The checker finds planted faults.
fn planted(mut seen: Seen, fold: &Fold) {
    let queued = |filter: &Option<Value>| *filter == Some(json!({"status": ["queued"]}));
    let (_, frames) = seen.sockets.iter_mut().find(|(filter, _)| queued(filter)).unwrap();
    let mut counters = (0..frames.len()).filter(|n| frames[*n]["type"] == "counters");
    let (lost, wrong) = (counters.next().unwrap(), counters.next_back().unwrap());
    frames[wrong]["counts"]["queued"] = json!(number(&frames[wrong]["counts"], "queued") + 1);
    frames.remove(lost);
    let without_last = frames.iter().rposition(|frame| frame["type"] == "tasks").unwrap();
    frames.truncate(without_last);
    let figures = check(&seen, fold);
    assert_eq!((figures.gaps, figures.missed > 0), (1, true), "{figures:?}");
    assert!(figures.differences <= 1);
}

fn check(seen: &Seen, fold: &Fold) -> Figures {
    let mut figures = Figures::default();
    let mut positions = HashSet::new();
    for (filter, frames) in &seen.sockets {
        check_counts(frames, fold, &mut positions, &mut figures);
        check_items(frames, fold, &mut figures);
        if let Some(filter) = filter {
            check_none_missed(filter, frames, fold, &mut figures);
        }
    }
    for poll in &seen.polls {
        figures.polls += 1;
        figures.same_position += usize::from(positions.contains(&number(poll, "position")));
        if bell_of(poll) != *fold.bell(number(poll, "position")) {
            figures.wrong_polls += 1;
            figures.notes.push(format!("polled {poll}"));
        }
    }
    figures
}

fn check_counts(frames: &[Value], fold: &Fold, positions: &mut HashSet<u64>, figures: &mut Figures) {
    assert_eq!((&frames[0]["type"], &frames[1]["type"]), (&json!("hello"), &json!("snapshot")));
    assert_eq!(frames[0]["position"], frames[1]["position"]);
    let mut at = 0;
    for frame in frames.iter().filter(|frame| frame["type"] == "counters" || frame["type"] == "snapshot") {
        let position = number(frame, "position");
        let counters = frame["type"] == "counters";
        figures.frames += 1;
        figures.gaps += usize::from(counters && frame["previous"] != at);
        figures.backward += usize::from(position < at || counters && position == at);
        let wanted = fold.bell(position);
        if bell_of(frame) != *wanted {
            figures.differences += 1;
            figures.notes.push(format!("pushed {frame}, should be {wanted}"));
        }
        at = position;
        positions.insert(position);
    }
}

fn check_items(frames: &[Value], fold: &Fold, figures: &mut Figures) {
    for frame in frames.iter().filter(|frame| frame["type"] == "tasks") {
        for item in frame["items"].as_array().unwrap() {
            figures.items += 1;
            let late = number(item, "position") > number(frame, "position");
            let difference = fold.difference(item);
            if late || difference.is_some() {
                figures.wrong_items += 1;
                figures.notes.push(format!("{difference:?} (late: {late}) in {item}"));
            }
        }
    }
}

/// A task is sent if it matches before or after a change. So the subscriber has got the last such change of every task, or
/// later a `tasks_changed` frame.
fn check_none_missed(filter: &Value, frames: &[Value], fold: &Fold, figures: &mut Figures) {
    let subscribed = frames.iter().find(|frame| frame["type"] == "subscribed").map(|frame| number(frame, "position"));
    let reread = frames.iter().filter(|frame| frame["type"] == "tasks_changed").map(|frame| number(frame, "position"));
    let known = reread.max().max(subscribed).expect("it subscribed");
    let mut sent: HashMap<&str, u64> = HashMap::new();
    for item in frames.iter().filter(|frame| frame["type"] == "tasks").flat_map(|f| f["items"].as_array().unwrap()) {
        let revision = sent.entry(item["id"].as_str().unwrap()).or_default();
        *revision = number(item, "revision").max(*revision);
    }
    for (id, docs) in &fold.tasks {
        let matching = |n: usize| matches(filter, &docs[n]);
        let Some(last) = (0..docs.len()).rev().find(|n| matching(*n) || *n > 0 && matching(n - 1)) else { continue };
        let reached = sent.get(id.as_str()).is_some_and(|revision| *revision >= last as u64);
        if number(&docs[last], "position") > known && !reached {
            figures.missed += 1;
            figures.notes.push(format!("{filter} never got {id} at revision {last}"));
        }
    }
}

fn matches(filter: &Value, doc: &Value) -> bool {
    filter.as_object().unwrap().iter().all(|(field, wanted)| {
        wanted.as_array().unwrap().iter().any(|wanted| match field.as_str() {
            "label" => {
                let (key, value) = wanted.as_str().unwrap().split_once(':').unwrap();
                doc["labels"][key] == value
            }
            _ => doc[field.as_str()] == *wanted,
        })
    })
}

fn number(frame: &Value, field: &str) -> u64 {
    frame[field].as_u64().unwrap_or_else(|| panic!("no {field} in {frame}"))
}

fn bell_of(frame: &Value) -> Value {
    json!({"counts": frame["counts"], "unseen": frame["unseen"], "seen": frame["seen"]})
}
