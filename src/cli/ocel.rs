//! The log as OCEL 2.0 (object-centric event log), in its JSON form, for tools of process mining.
//!
//! Objects are tasks, owners, queues, workers and schedules. Each event is related to the objects that it is about: an event of a
//! task to the task, its owner, its queue, the worker of its attempt, its parent and its schedule.
//!
//! Events are written as they are read. Of the objects, only their ids, a few attributes and relations are kept until the end.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use serde_json::{Value, json};

use super::console::text_field;

/// The attributes of events, with the place of the value in the event.
const EVENT_ATTRIBUTES: [(&str, &str, &str); 12] = [
    ("position", "integer", "/position"),
    ("actor", "string", "/meta/actor"),
    ("via", "string", "/meta/via"),
    ("attempt", "integer", "/data/attempt"),
    ("outcome", "string", "/data/outcome"),
    ("reason", "string", "/data/reason"),
    ("message", "string", "/data/message"),
    ("error_code", "string", "/data/error/code"),
    ("rung", "string", "/data/rung"),
    ("stopping_after", "string", "/data/stopping_after"),
    ("forced", "boolean", "/data/forced"),
    ("retry_at", "time", "/data/retry_at"),
];
/// The attributes of tasks, with the place of the value in the event `Created`.
const TASK_ATTRIBUTES: [(&str, &str, &str); 4] = [
    ("kind", "string", "/data/kind"),
    ("title", "string", "/data/title"),
    ("priority", "integer", "/data/priority"),
    ("max_attempts", "integer", "/data/max_attempts"),
];
/// The types of the objects other than tasks; they have no attributes.
const OTHER_OBJECTS: [&str; 5] = ["owner", "queue", "worker", "schedule", "credential"];

/// Writes events as OCEL 2.0.
pub(super) struct OcelWriter<W> {
    out: W,
    events: u64,
    /// For each type of events: the attributes that one of them has.
    event_types: BTreeMap<String, BTreeSet<usize>>,
    tasks: BTreeMap<String, Task>,
    /// The ids of the other objects, each with its type.
    others: BTreeMap<String, &'static str>,
}

/// What the events of a task have in common.
struct Task {
    attributes: Vec<Value>,
    /// The ids of other objects, each with what it is for the task.
    relations: Vec<(String, &'static str)>,
    worker: Option<String>,
}

impl<W: Write> OcelWriter<W> {
    /// Begins the document.
    pub(super) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(b"{\"events\":[")?;
        let (event_types, tasks, others) = <_>::default();
        Ok(Self { out, events: 0, event_types, tasks, others })
    }

    /// Writes the next event, as the log has it.
    pub(super) fn write(&mut self, event: &Value) -> io::Result<()> {
        let relationships: Vec<Value> = self
            .relations(event)
            .into_iter()
            .map(|(id, qualifier)| json!({"objectId": id, "qualifier": qualifier}))
            .collect();
        let present = EVENT_ATTRIBUTES.iter().enumerate().filter_map(|(index, attribute)| {
            Some((index, json!({"name": attribute.0, "value": text_of(event.pointer(attribute.2)?)?})))
        });
        let (indexes, attributes): (Vec<usize>, Vec<Value>) = present.unzip();
        let name = text_field(event, "type");
        let written = json!({"id": event["id"], "type": name, "time": event["time"], "attributes": attributes,
            "relationships": relationships});
        self.event_types.entry(name).or_default().extend(indexes);
        if self.events > 0 {
            self.out.write_all(b",")?;
        }
        self.events += 1;
        write!(self.out, "\n{written}")
    }

    /// The objects of an event, each with what it is for the event.
    fn relations(&mut self, event: &Value) -> Vec<(String, &'static str)> {
        let stream = text_field(event, "stream");
        let Some((kind, key)) = stream.split_once('-') else { return Vec::new() };
        match kind {
            "task" => self.task_relations(key, event),
            "bell" => vec![(self.other("owner", key), "owner")],
            "queue" => vec![(self.other("queue", key), "queue")],
            "schedule" => vec![(self.other("schedule", key), "schedule")],
            _ => vec![(self.other("credential", key), "credential")],
        }
    }

    fn task_relations(&mut self, key: &str, event: &Value) -> Vec<(String, &'static str)> {
        let id = format!("task:{key}");
        if !self.tasks.contains_key(&id) {
            let task = self.new_task(event);
            self.tasks.insert(id.clone(), task);
        }
        let worker = event.pointer("/data/worker").and_then(Value::as_str).map(|worker| self.other("worker", worker));
        let Some(task) = self.tasks.get_mut(&id) else { return Vec::new() };
        task.worker = worker.or(task.worker.take());
        let mut relations = vec![(id, "task")];
        relations.extend(task.relations.iter().cloned());
        let has_attempt = event.pointer("/data/attempt").is_some_and(Value::is_number);
        relations.extend(task.worker.clone().filter(|_| has_attempt).map(|worker| (worker, "worker")));
        relations
    }

    /// The task of this event, which is its `Created` unless the export begins later.
    fn new_task(&mut self, event: &Value) -> Task {
        let at = |path: &str| event.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let mut relations = Vec::new();
        relations.extend(at("/data/owner").map(|owner| (self.other("owner", &owner), "owner")));
        relations.extend(at("/data/queue").map(|queue| (self.other("queue", &queue), "queue")));
        relations.extend(at("/data/schedule").map(|schedule| (self.other("schedule", &schedule), "schedule")));
        relations.extend(at("/data/parent").map(|parent| (format!("task:{parent}"), "parent")));
        let attribute = |attribute: &(&str, &str, &str)| {
            let value = text_of(event.pointer(attribute.2)?)?;
            Some(json!({"name": attribute.0, "time": event["time"], "value": value}))
        };
        Task { attributes: TASK_ATTRIBUTES.iter().filter_map(attribute).collect(), relations, worker: None }
    }

    fn other(&mut self, kind: &'static str, name: &str) -> String {
        let id = format!("{kind}:{name}");
        self.others.insert(id.clone(), kind);
        id
    }

    /// Writes the objects and the types, and ends the document.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.out.write_all(b"],\n\"objects\":[")?;
        // A relation may name a task that was created before the first exported event.
        let known: BTreeSet<&String> = self.tasks.keys().chain(self.others.keys()).collect();
        let tasks = self.tasks.iter().map(|(id, task)| {
            let relations = task.relations.iter().filter(|(other, _)| known.contains(other));
            let relationships: Vec<Value> =
                relations.map(|(other, qualifier)| json!({"objectId": other, "qualifier": qualifier})).collect();
            json!({"id": id, "type": "task", "attributes": task.attributes, "relationships": relationships})
        });
        let others =
            self.others.iter().map(|(id, kind)| json!({"id": id, "type": kind, "attributes": [], "relationships": []}));
        let mut separator = "";
        for object in tasks.chain(others) {
            write!(self.out, "{separator}\n{object}")?;
            separator = ",";
        }
        let attributes = |attributes: &mut dyn Iterator<Item = &(&str, &str, &str)>| -> Vec<Value> {
            attributes.map(|attribute| json!({"name": attribute.0, "type": attribute.1})).collect()
        };
        let event_types: Vec<Value> = self
            .event_types
            .iter()
            .map(|(name, indexes)| {
                let mut used = indexes.iter().filter_map(|index| EVENT_ATTRIBUTES.get(*index));
                json!({"name": name, "attributes": attributes(&mut used)})
            })
            .collect();
        let mut object_types = vec![json!({"name": "task", "attributes": attributes(&mut TASK_ATTRIBUTES.iter())})];
        object_types.extend(OTHER_OBJECTS.map(|name| json!({"name": name, "attributes": []})));
        write!(
            self.out,
            "],\n\"eventTypes\":{},\n\"objectTypes\":{}}}\n",
            Value::from(event_types),
            Value::from(object_types)
        )?;
        Ok(self.out)
    }
}

/// The value as text; `None` if it is null, a list or an object.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
