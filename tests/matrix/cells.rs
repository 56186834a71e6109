//! Runs the cells of the routes: one request for each, and what it has answered and recorded.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::{Value, json};

use super::checks::{self, Seen};
use super::row::{Row, STRANGER, Target, Want, Who};
use super::things::{On, State, Thing};
use super::ways::Way;
use super::world::{ABSENT_KIND, OTHER_KIND, WORKERS_KIND, World, canary, fixed_queue};
use crate::support::HttpResponse;

/// How many requests run at the same time.
const CONCURRENT: usize = 12;

/// One request: who asks for what, and what the caller must get.
pub struct Cell<'a> {
    row: &'a Row,
    method: Method,
    way: Way,
    who: Who,
    target: Target,
    want: Want,
}

/// A cell that has run.
struct Ran<'a> {
    cell: Cell<'a>,
    request_id: String,
    /// The response without what differs from request to request: ids, names, positions.
    impersonal: String,
    faults: Vec<String>,
}

/// The cells of these rows. Each GET is also sent as HEAD, and each request with each credential that the caller can have. All
/// must be decided alike.
pub fn cells(rows: &[Row]) -> Vec<Cell<'_>> {
    rows.iter().flat_map(cells_of).collect()
}

fn cells_of(row: &Row) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    let method: Method = row.route.split(' ').next().expect("a method").parse().expect("a method");
    for (who, target, want) in row.cells() {
        let cell = |method: &Method, way, want: &Want| {
            let (method, want) = (method.clone(), want.clone());
            Cell { row, method, way, who, target, want }
        };
        if method == Method::GET && row.route != "GET /v1/live" {
            cells.push(cell(&Method::HEAD, Way::Token, &want));
        }
        let is_quiet = row.is_read || want.status >= 400;
        for way in [Way::Token, Way::Session, Way::Jwt, Way::Proxy] {
            if way.tries(row, who, is_quiet) {
                cells.push(cell(&method, way, &row.want(way.column(row, who), target)));
            }
        }
    }
    cells
}

/// Runs all cells and returns what is wrong.
///
/// First those that may change nothing run, and the log must not grow: reads, and requests that must be refused. Then those
/// that change something, each on a thing of its own.
pub async fn run(world: &World, rows: &[Row]) -> Vec<String> {
    let (quiet, changing): (Vec<_>, Vec<_>) =
        cells(rows).into_iter().partition(|cell| cell.row.is_read || cell.want.status >= 400);
    let head = world.head().await;
    let mut ran = run_all(world, quiet, true).await;
    let mut faults = Vec::new();
    if world.head().await != head {
        let new = world.read_log().await;
        let new = new[world.log.len()..].iter().map(|event| format!("{} {}", event["type"], event["meta"]));
        faults.push(format!("reads and refused requests have recorded: {}", new.collect::<Vec<_>>().join("; ")));
    }
    ran.extend(run_all(world, changing, false).await);
    faults.extend(ran.iter_mut().flat_map(|ran| std::mem::take(&mut ran.faults)));
    faults.extend(check_events(world, &ran).await);
    faults.extend(check_hidden(&ran));
    faults
}

async fn run_all<'a>(world: &World, cells: Vec<Cell<'a>>, uses_fixed: bool) -> Vec<Ran<'a>> {
    let runs = cells.into_iter().map(|cell| cell.run(world, uses_fixed));
    stream::iter(runs).buffer_unordered(CONCURRENT).collect().await
}

impl<'a> Cell<'a> {
    async fn run(self, world: &World, uses_fixed: bool) -> Ran<'a> {
        let n = world.number();
        let thing = if uses_fixed { self.fixed_thing(world, n) } else { self.new_thing(world, n).await };
        let fill = |text: &str| self.fill(text, &thing, n);
        let path = self.row.route.split_once(' ').expect("a path").1;
        let query = if self.row.query.is_empty() { String::new() } else { format!("?{}", self.row.query) };
        let request_id = format!("cell-{n}");
        let mut headers = vec![("x-request-id", request_id.clone())];
        headers.extend(self.row.key.map(|key| ("idempotency-key", fill(key))));
        let (token, of_caller) = world.credential(self.way, self.who);
        headers.extend(of_caller);
        let body = self.row.body.map(fill);
        let path = fill(&(path.to_owned() + &query));
        let response = world.send_with(token, self.method.clone(), &path, body, &headers).await;
        let faults = self.check(world, &thing, &response).err().map(|fault| self.describe(&fault));
        let impersonal = self.impersonal(&thing, n, &response);
        Ran { cell: self, request_id, impersonal, faults: faults.into_iter().collect() }
    }

    fn describe(&self, fault: &str) -> String {
        let Row { route, case, .. } = self.row;
        let path = route.split_once(' ').expect("a path").1;
        let case = if case.is_empty() { String::new() } else { format!(" ({case})") };
        let (target, who, way) = (self.target.name(), self.who.name(), self.way.name());
        format!("{} {path}{case}, {target} by {who}{way}: {fault}", self.method)
    }

    fn check(&self, world: &World, thing: &Thing, response: &HttpResponse) -> Result<(), String> {
        let Self { row, who, target, want, .. } = self;
        let found = Want { status: response.status, code: None, part: None };
        if response.status != want.status {
            return Err(format!("{found}instead of {want}: {}", response.text));
        }
        checks::leak(*who, &response.text, row.shows_others)?;
        if response.status == 401 && response.header("www-authenticate") != "Bearer" {
            return Err("a 401 names no way to authenticate".to_owned());
        }
        if self.method == Method::HEAD {
            return Ok(());
        }
        if response.status >= 400 {
            let code = response.body["code"].as_str();
            return if code == want.code { Ok(()) } else { Err(format!("{code:?} instead of {want}")) };
        }
        if let Some(part) = want.part
            && part != part_of(&response.body)
        {
            return Err(format!("{} instead of {want}: {}", part_of(&response.body), response.text));
        }
        let column = self.way.column(row, *who);
        let seen = Seen { world, who: *who, column, target: *target, thing, response };
        row.check.map_or(Ok(()), |check| check(&seen))
    }

    /// Replaces the placeholders of the tables.
    fn fill(&self, text: &str, thing: &Thing, n: u64) -> String {
        let n = n.to_string();
        let values = [
            ("{id}", thing.id.as_str()),
            ("{owner}", &thing.owner),
            ("{self}", self.who.subject()),
            ("{lease}", &thing.lease),
            ("{worker}", &thing.worker),
            ("{queue}", &thing.queue),
            ("{kind}", self.kind()),
            ("{file}", "app.js"),
            ("{n}", &n),
        ];
        values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    /// The kind whose leases the request asks for.
    const fn kind(&self) -> &'static str {
        match self.target {
            Target::Own => WORKERS_KIND,
            Target::Other => OTHER_KIND,
            Target::Absent | Target::Everyone | Target::Unnamed | Target::Present => ABSENT_KIND,
        }
    }

    /// The response without the values of this request.
    fn impersonal(&self, thing: &Thing, n: u64, response: &HttpResponse) -> String {
        // `connection` says only whether the body of the request had arrived before the refusal.
        let names = response.headers.keys().filter(|name| name.as_str() != "connection");
        let mut headers: Vec<&str> = names.map(reqwest::header::HeaderName::as_str).collect();
        headers.sort_unstable();
        let request_id = format!("\"cell-{n}\"");
        let mut text = response.text.replace(&request_id, "REQUEST");
        let values = [thing.lease.as_str(), &thing.id, &thing.owner, &thing.queue, self.kind()];
        for value in values.into_iter().filter(|value| !value.is_empty()) {
            text = text.replace(value, "…");
        }
        let text = text.split("\"position\":").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit()));
        format!("{} {headers:?} {}", response.status, text.collect::<Vec<_>>().join("position "))
    }

    fn blank_thing(&self, n: u64) -> Thing {
        let id = taskbell::store::new_id().to_string();
        Thing {
            lease: format!("{id}.1.{}", "0".repeat(64)),
            id,
            owner: self.target.owner(self.who, n),
            queue: if self.target == Target::Present { "NOT.A.QUEUE".to_owned() } else { format!("q{n}") },
            worker: format!("w{n}"),
        }
    }

    /// The thing for a request that must change nothing.
    fn fixed_thing(&self, world: &World, n: u64) -> Thing {
        let thing = self.blank_thing(n);
        if self.target == Target::Absent {
            return thing;
        }
        match self.row.on {
            On::Nothing => thing,
            On::Task(state) => Thing { id: world.fixed(&thing.owner, state).id.clone(), ..thing },
            On::Lease(state) => {
                let task = world.fixed(STRANGER, state);
                Thing { id: task.id.clone(), lease: task.lease.clone(), worker: "fixed".to_owned(), ..thing }
            }
            On::Waiting => Thing { queue: fixed_queue(STRANGER, State::Queued), ..thing },
            On::Schedule => Thing { id: world.schedule.clone(), ..thing },
            On::Token => Thing { id: world.tokens[STRANGER].id.clone(), ..thing },
        }
    }

    /// A thing for a request that changes it.
    async fn new_thing(&self, world: &World, n: u64) -> Thing {
        let mut thing = self.blank_thing(n);
        if self.target == Target::Absent {
            return thing;
        }
        match self.row.on {
            On::Nothing => {}
            On::Task(state) => world.new_task(&mut thing, OTHER_KIND, state, Who::Admin).await,
            On::Lease(state) => {
                let (kind, taker) = match (self.target, self.who) {
                    (Target::Own, Who::Worker) => (WORKERS_KIND, Who::Worker),
                    (Target::Own, _) => (WORKERS_KIND, Who::Admin),
                    _ => (OTHER_KIND, Who::Admin),
                };
                STRANGER.clone_into(&mut thing.owner);
                world.new_task(&mut thing, kind, state, taker).await;
            }
            On::Waiting => {
                thing = Thing { queue: format!("q{n}"), owner: STRANGER.to_owned(), ..thing };
                let kinds = [(WORKERS_KIND, Target::Own), (OTHER_KIND, Target::Other)];
                for (kind, _) in kinds.into_iter().filter(|(_, of)| [*of, Target::Present].contains(&self.target)) {
                    world.new_task(&mut thing, kind, State::Queued, Who::Admin).await;
                }
            }
            On::Schedule => {
                let schedule = json!({"cron": "0 4 29 2 *", "task": {"kind": "m.idle", "owner": STRANGER}});
                thing.id = id_of(&world.admin(Method::POST, "/v1/schedules", &schedule).await);
            }
            On::Token => {
                let token = json!({"subject": format!("new-{n}"), "role": "user"});
                thing.id = id_of(&world.admin(Method::POST, "/v1/tokens", &token).await);
            }
        }
        thing
    }
}

fn id_of(body: &Value) -> String {
    body["id"].as_str().unwrap_or_else(|| panic!("no id in {body}")).to_owned()
}

impl World {
    /// Creates a task of this thing's owner in this thing's queue, brings it into this state, and keeps its id and lease.
    pub async fn new_task(&self, thing: &mut Thing, kind: &str, state: State, taker: Who) {
        let Thing { owner, queue, worker, .. } = thing.clone();
        let new = json!({
            "kind": kind, "title": format!("report of {owner}"), "owner": owner, "input": canary(&owner), "queue": queue,
        });
        thing.id = id_of(&self.admin(Method::POST, "/v1/tasks", &new).await);
        if state == State::Queued {
            return;
        }
        let take = json!({"worker": worker, "kinds": [kind], "queues": [queue], "wait_s": 5});
        let answer = self.granted(taker, Method::POST, "/v1/leases", &take).await;
        let Some(lease) = answer["leases"][0]["lease"].as_str() else {
            panic!("no lease for the {}: {answer}", taker.name());
        };
        lease.clone_into(&mut thing.lease);
        if state == State::Cancelling {
            self.admin(Method::POST, &format!("/v1/tasks/{}/cancel", thing.id), &json!({})).await;
        } else if state == State::Ended {
            self.finish(&thing.lease, &thing.owner).await;
        }
    }
}

/// What a successful response with several parts says about the first of them.
fn part_of(body: &Value) -> String {
    let item = &body["items"][0];
    if let Some(status) = item["problem"]["status"].as_u64() {
        return status.to_string();
    }
    if let Some(status) = item["status"].as_str() {
        return status.to_owned();
    }
    if item["id"].is_string() {
        return "id".to_owned();
    }
    if let Some(leases) = body["leases"].as_array() {
        return if leases.is_empty() { "none" } else { "leases" }.to_owned();
    }
    let is_lost = |directive: &Value| directive["directive"] == "lost";
    match body["directives"].as_array() {
        Some(directives) if directives.iter().any(is_lost) => "lost".to_owned(),
        Some(_) if !body["deadline"].is_null() => "renewed".to_owned(),
        _ => format!("{body}"),
    }
}

/// Checks what each request has recorded. A refused one has recorded nothing. The events of the others name their caller.
async fn check_events(world: &World, ran: &[Ran<'_>]) -> Vec<String> {
    let log = world.read_log().await;
    let mut by_request: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in &log {
        by_request.entry(event["meta"]["request_id"].as_str().unwrap_or_default()).or_default().push(event);
    }
    let mut faults = Vec::new();
    for Ran { cell, request_id, .. } in ran {
        let events = by_request.get(request_id.as_str()).map(Vec::as_slice).unwrap_or_default();
        let types: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
        let must_not_record = cell.row.is_read || cell.want.is_refusal();
        if must_not_record && !types.is_empty() {
            faults.push(cell.describe(&format!("it has recorded {types:?}")));
        }
        if !must_not_record && cell.row.records.is_some_and(|wanted| !types.contains(&wanted)) {
            faults.push(cell.describe(&format!("it has recorded {types:?} and not {:?}", cell.row.records)));
        }
        // An event after an event, like the end of a task whose children go on, names the same caller.
        let strangers = events.iter().filter(|event| event["meta"]["actor"] != cell.who.subject());
        faults.extend(strangers.map(|event| cell.describe(&format!("another actor is recorded: {event}"))));
    }
    faults
}

/// Checks that what a caller may not see is refused with the same words as what doesn't exist.
fn check_hidden(ran: &[Ran<'_>]) -> Vec<String> {
    let same = |one: &&Ran<'_>, other: &Ran<'_>| {
        std::ptr::eq(one.cell.row, other.cell.row)
            && one.cell.who == other.cell.who
            && one.cell.method == other.cell.method
            && one.cell.way == other.cell.way
    };
    let mut faults = Vec::new();
    for hidden in ran.iter().filter(|ran| ran.cell.target == Target::Other && ran.cell.want.is_refusal()) {
        let absent = ran.iter().filter(|ran| ran.cell.target == Target::Absent && ran.cell.want == hidden.cell.want);
        for absent in absent.filter(|absent| same(absent, hidden) && absent.impersonal != hidden.impersonal) {
            let (hidden_text, absent_text) = (&hidden.impersonal, &absent.impersonal);
            faults.push(hidden.cell.describe(&format!("{hidden_text} differs from the absent: {absent_text}")));
        }
    }
    faults
}
