//! The wall clock is set back and forward while a server runs. The clock is that of a whole process, so each test runs in a
//! process of its own.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use actix_http::Request;
use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, Error};
use serde_json::{Value, json};
use taskbell::clock::{now, shift};
use taskbell::event::{CancelLadder, Event};
use taskbell::{KindPolicies, KindPolicy, LogEvent, LogSubscription, Options, Position, Taskbell, Timestamp};

use crate::support::TEST_TIMEOUT;

const HOUR: i64 = 3600;

#[test]
fn timers_keep_their_time_when_the_clock_is_set_and_run_at_and_schedules_follow_it() {
    let test = "clocks::timers_while_the_clock_is_set";
    let mut command = Command::new(std::env::current_exe().unwrap());
    let run = command.args(["--exact", test, "--ignored", "--nocapture"]).output().unwrap();
    let stdout = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && stdout.contains("1 passed"), "{stdout}\n{}", String::from_utf8_lossy(&run.stderr));
}

/// Sends a POST request and returns the body of the response.
async fn post<S, B>(app: &S, path: &str, body: Value) -> Value
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    let request = TestRequest::post().uri(path).insert_header(("host", "127.0.0.1")).set_json(&body);
    let response = call_service(app, request.to_request()).await;
    let status = response.status();
    let body = read_body(response).await;
    assert!(status.is_success(), "{path}: {status} {}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap_or(Value::Null)
}

async fn create<S, B>(app: &S, task: Value) -> String
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody,
{
    post(app, "/v1/tasks", task).await["id"].as_str().unwrap().to_owned()
}

/// The events of the log, as they arrive.
struct Arrivals {
    events: LogSubscription,
    /// The stream, the name and the time of arrival of each event so far.
    arrived: Vec<(String, &'static str, Instant)>,
}

impl Arrivals {
    /// Waits until the log has this event of the task, and returns when it has arrived.
    async fn wait_for(&mut self, task: &str, name: &str) -> Instant {
        let stream = format!("task-{task}");
        loop {
            if let Some(at) = self.find(&stream, name) {
                return at;
            }
            let next = tokio::time::timeout(TEST_TIMEOUT, self.events.next()).await;
            let next = next.unwrap_or_else(|_| panic!("no {name} of {task}: {:?}", self.arrived)).unwrap();
            self.add(&next);
        }
    }

    fn find(&self, stream: &str, name: &str) -> Option<Instant> {
        self.arrived.iter().find(|(of, known, _)| of == stream && *known == name).map(|(_, _, at)| *at)
    }

    fn add(&mut self, events: &[std::sync::Arc<taskbell::Recorded>]) {
        let at = Instant::now();
        for event in events {
            let name = match &event.event {
                LogEvent::Task(Event::Queued(_)) => "Queued",
                LogEvent::Task(Event::AttemptFailed(_)) => "AttemptFailed",
                LogEvent::Task(Event::Completed(_)) => "Completed",
                LogEvent::Task(Event::Created(created)) if created.kind == "hourly" => "hourly",
                _ => "other",
            };
            self.arrived.push((event.stream.to_string(), name, at));
        }
    }
}

fn kinds() -> KindPolicies {
    let ladder = CancelLadder { ask_for_ms: Some(1000), interrupt_for_ms: Some(1000) };
    let ladder = KindPolicy { cancel: Some(ladder), ..KindPolicy::default() };
    let lease = KindPolicy { lease: Some(Duration::from_secs(2)), ..KindPolicy::default() };
    KindPolicies::new(HashMap::from([("ladder".to_owned(), ladder), ("lease".to_owned(), lease)]))
}

fn seconds_after(at: Timestamp, seconds: i64) -> String {
    Timestamp::from_micros(at.as_micros() + seconds * 1_000_000).to_string()
}

#[actix_rt::test]
#[ignore = "runs in a process of its own: see timers_keep_their_time_when_the_clock_is_set_and_run_at_and_schedules_follow_it"]
async fn timers_while_the_clock_is_set() {
    let options = Options { data: None, kind_policies: kinds(), ..Options::default() };
    let taskbell = Taskbell::start(options).await.unwrap();
    let app = init_service(App::new().configure(taskbell.routes())).await;
    let mut arrivals = Arrivals { events: taskbell.events(Position(0)), arrived: Vec::new() };
    let half_an_hour = create(&app, json!({"kind": "x", "run_at": seconds_after(now(), 1800)})).await;
    let mut last_shift = Instant::now();
    // The clock is set back, forward to the real time again, and once more forward.
    for shift_s in [-HOUR, 0, HOUR] {
        // The next attempts of former tasks wait in the queue, so these have kinds of their own.
        let [first_kind, second_kind] = ["first", "second"].map(|name| format!("{name}{shift_s}"));
        let retry = create(&app, json!({"kind": first_kind, "max_attempts": 2})).await;
        let slow = create(&app, json!({"kind": "slow", "timeout_s": 2})).await;
        let dead = create(&app, json!({"kind": "lease"})).await;
        let deaf = create(&app, json!({"kind": "ladder"})).await;
        let taken = json!({"worker": "w", "max": 4, "wait_s": 5, "kinds": [first_kind, "slow", "lease", "ladder"]});
        let leases = post(&app, "/v1/leases", taken).await["leases"].as_array().unwrap().clone();
        assert_eq!(leases.len(), 4);
        let begun = Instant::now();
        let fail = |lease: &Value| {
            let error = json!({"code": "broken", "message": "m"});
            json!({"items": [{"lease": lease, "outcome": "failed", "error": error}]})
        };
        let of_retry = leases.iter().find(|lease| lease["kind"] == first_kind).unwrap();
        post(&app, "/v1/leases/finish", fail(&of_retry["lease"])).await;
        post(&app, &format!("/v1/tasks/{deaf}/cancel"), json!({})).await;
        if shift_s == HOUR {
            post(&app, "/v1/schedules", json!({"cron": "0 * * * *", "task": {"kind": "hourly"}})).await;
        }
        shift::set(shift_s);
        last_shift = Instant::now();
        // This one fails by the new clock.
        let after = create(&app, json!({"kind": second_kind, "max_attempts": 2})).await;
        let lease = post(&app, "/v1/leases", json!({"worker": "w", "kinds": [second_kind], "wait_s": 5})).await;
        post(&app, "/v1/leases/finish", fail(&lease["leases"][0]["lease"])).await;
        for (task, event, shortest_ms) in [
            (&retry, "Queued", 750),
            (&after, "Queued", 750),
            (&slow, "Completed", 1900),
            (&dead, "Completed", 1900),
            (&deaf, "Completed", 1900),
        ] {
            let took = arrivals.wait_for(task, event).await - begun;
            println!("{shift_s}: {event} after {took:?}");
            let range = Duration::from_millis(shortest_ms)..Duration::from_secs(12);
            assert!(range.contains(&took), "{shift_s} s: {event} came after {took:?}");
        }
        let is_ready = arrivals.find(&format!("task-{half_an_hour}"), "Queued").is_some();
        assert!(shift_s == HOUR || !is_ready, "its time has not come by a clock at {shift_s} s");
    }
    let took = arrivals.wait_for(&half_an_hour, "Queued").await - last_shift;
    assert!(took < Duration::from_secs(12), "the clock is read again soon: {took:?}");
    while !arrivals.arrived.iter().any(|(_, name, _)| *name == "hourly") {
        let next = tokio::time::timeout(TEST_TIMEOUT, arrivals.events.next()).await.expect("an hour has passed");
        arrivals.add(&next.unwrap());
    }
    taskbell.stop().await;
}
