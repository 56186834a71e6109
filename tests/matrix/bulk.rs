//! Bulk cancels that aren't dry: which tasks they reach.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::checks::scope;
use super::row::{STRANGER, Target, Want, Who, words};
use super::world::{World, canary};

/// What each role must get, as in the tables.
const LINES: [(Target, &str); 5] = [
    //                   user operator auditor worker admin
    (Target::Unnamed, "  202  202      403     202    202"),
    (Target::Own, "      202  202      403     202    202"),
    (Target::Other, "    404  202      403     404    202"),
    (Target::Absent, "   404  202      403     404    202"),
    (Target::Everyone, " 404  202      403     404    202"),
];

/// Runs the cells and returns what is wrong, and how many they were.
pub async fn run(world: &World) -> (Vec<String>, usize) {
    let (mut faults, mut count) = (Vec::new(), 0);
    for (target, line) in LINES {
        for (who, word) in Who::ROLES.into_iter().zip(words(line)) {
            count += 1;
            if let Err(fault) = run_one(world, who, target, &Want::parse(word)).await {
                faults.push(format!("a bulk cancel of {} tasks by {}: {fault}", target.name(), who.name()));
            }
        }
    }
    (faults, count)
}

async fn run_one(world: &World, who: Who, target: Target, want: &Want) -> Result<(), String> {
    let n = world.number();
    let mut tasks = Vec::new();
    for owner in [who.subject(), STRANGER] {
        tasks.push((owner, world.labelled_task(owner, &format!("bulk{n}")).await));
    }
    let mut filter = json!({"label": format!("set:bulk{n}")});
    if target != Target::Unnamed {
        filter["owner"] = json!(target.owner(who, n));
    }
    let response = world.send(who, Method::POST, "/v1/tasks/cancel", Some(json!({"filter": filter}).to_string())).await;
    if response.status != want.status {
        return Err(format!("{} instead of {want}: {}", response.status, response.text));
    }
    let reached = scope(who, target);
    let wanted: BTreeSet<&str> = if want.status == 202 {
        tasks.iter().filter(|(owner, _)| reached.contains(owner)).map(|(_, id)| id.as_str()).collect()
    } else {
        BTreeSet::new()
    };
    if want.status == 202 {
        if response.body["matched"] != wanted.len() {
            return Err(format!("{} matched instead of {wanted:?}", response.body["matched"]));
        }
        world.wait_for_end(response.body["task"]["id"].as_str().expect("the id of the bulk cancel")).await;
    }
    let mut cancelled = BTreeSet::new();
    for (_, id) in &tasks {
        let task = world.admin(Method::GET, &format!("/v1/tasks/{id}"), &Value::Null).await;
        if task["status"] == "cancelled" {
            cancelled.insert(id.as_str());
            if task["cancel"]["requested_by"] != who.subject() {
                return Err(format!("the cancel names another subject: {}", task["cancel"]));
            }
        }
    }
    if cancelled == wanted { Ok(()) } else { Err(format!("{cancelled:?} were cancelled instead of {wanted:?}")) }
}

impl World {
    /// Waits until this task is final.
    pub async fn wait_for_end(&self, id: &str) {
        let mut live = self.socket(Who::Admin, "").await.expect("a socket of the admin");
        live.send(&json!({"type": "subscribe", "filter": {"ids": [id]}})).await;
        live.next_of_type("subscribed").await;
        loop {
            let task = self.admin(Method::GET, &format!("/v1/tasks/{id}"), &Value::Null).await;
            if crate::support::is_final(&task) {
                return;
            }
            while !["tasks", "tasks_changed"].map(Some).contains(&live.next().await["type"].as_str()) {}
        }
    }

    /// Creates a queued task of this owner with this label, and returns its id.
    pub async fn labelled_task(&self, owner: &str, label: &str) -> String {
        let new = json!({
            "kind": "m.idle", "title": format!("report of {owner}"), "owner": owner, "input": canary(owner),
            "labels": {"set": label},
        });
        let task = self.admin(Method::POST, "/v1/tasks", &new).await;
        task["id"].as_str().expect("an id").to_owned()
    }
}
