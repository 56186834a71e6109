//! The log over gRPC, with the official client of the database: an auditor's or an admin's token is the password.

use eventstore::{
    AppendToStreamOptions, Client, Error, EventData, ReadAllOptions, ReadStreamOptions, RecordedEvent, StreamPosition,
    SubscribeToAllOptions, SubscribeToStreamOptions, SubscriptionEvent,
};
use futures_util::future::BoxFuture;
use serde_json::Value;

use super::checks::redact;
use super::row::{STRANGER, Target, Who, words};
use super::things::State;
use super::world::World;
use crate::support::TEST_TIMEOUT;

/// A call on the log or on the stream of this name, and the events that it returns.
type Call = fn(Client, String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>>;

/// One call, and its end for each role: `events`, `denied`, or `absent` for a stream without events.
struct CallRow {
    name: &'static str,
    call: Call,
    lines: Vec<(Target, [&'static str; 5])>,
}

impl CallRow {
    fn on(mut self, target: Target, line: &'static str) -> Self {
        self.lines.push((target, words(line)));
        self
    }
}

fn call(name: &'static str, call: Call) -> CallRow {
    CallRow { name, call, lines: Vec::new() }
}

/// A client that may not read the log gets the same refusal for each stream that the call names.
fn rows() -> Vec<CallRow> {
    use Target::{Absent, Other, Own, Unnamed};
    vec![
        //                user   operator auditor worker admin
        call("read $all", read_all).on(Unnamed, "denied denied   events  denied events"),
        call("read a stream", read_stream)
            .on(Own, "    denied denied   events  denied events")
            .on(Other, "  denied denied   events  denied events")
            .on(Absent, " denied denied   absent  denied absent"),
        call("subscribe to $all", subscribe_to_all).on(Unnamed, "denied denied   events  denied events"),
        call("subscribe to a stream", subscribe_to_stream)
            .on(Own, "    denied denied   events  denied events")
            .on(Other, "  denied denied   events  denied events"),
        // The port is read-only, for an admin too.
        call("append", append).on(Own, "    denied denied   denied  denied denied"),
    ]
}

fn read_all(client: Client, _: String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>> {
    Box::pin(async move {
        let mut events = Vec::new();
        let mut all = client.read_all(&ReadAllOptions::default()).await?;
        while let Some(event) = all.next().await? {
            events.extend(event.event);
        }
        Ok(events)
    })
}

fn read_stream(client: Client, stream: String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>> {
    Box::pin(async move {
        let mut events = Vec::new();
        let mut all = client.read_stream(stream, &ReadStreamOptions::default()).await?;
        while let Some(event) = all.next().await? {
            events.extend(event.event);
        }
        Ok(events)
    })
}

/// The events up to the one with which the subscription has caught up.
async fn caught_up(mut subscription: eventstore::Subscription) -> Result<Vec<RecordedEvent>, Error> {
    let mut events = Vec::new();
    loop {
        match subscription.next_subscription_event().await? {
            SubscriptionEvent::EventAppeared(event) => events.extend(event.event),
            SubscriptionEvent::CaughtUp => return Ok(events),
            _ => {}
        }
    }
}

fn subscribe_to_all(client: Client, _: String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>> {
    Box::pin(async move { caught_up(client.subscribe_to_all(&SubscribeToAllOptions::default()).await).await })
}

fn subscribe_to_stream(client: Client, stream: String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>> {
    Box::pin(async move {
        caught_up(
            client
                .subscribe_to_stream(stream, &SubscribeToStreamOptions::default().start_from(StreamPosition::Start))
                .await,
        )
        .await
    })
}

fn append(client: Client, stream: String) -> BoxFuture<'static, Result<Vec<RecordedEvent>, Error>> {
    Box::pin(async move {
        let event = EventData::json("Created", &serde_json::json!({})).expect("an event");
        client.append_to_stream(stream, &AppendToStreamOptions::default(), event).await.map(|_| Vec::new())
    })
}

/// Runs the cells and returns what is wrong, and how many they were.
pub async fn run(world: &World) -> (Vec<String>, usize) {
    let (mut faults, mut count) = (Vec::new(), 0);
    for row in rows() {
        for (target, line) in &row.lines {
            let cells = Who::ROLES.into_iter().zip(*line).chain(Who::STRANGERS.map(|who| (who, "denied")));
            for (who, expected) in cells {
                count += 1;
                if let Err(fault) = run_one(world, &row, who, *target, expected).await {
                    faults.push(format!("{}, {} by {}: {fault}", row.name, target.name(), who.name()));
                }
            }
        }
    }
    (faults, count)
}

async fn run_one(world: &World, row: &CallRow, who: Who, target: Target, expected: &str) -> Result<(), String> {
    let owner = if target == Target::Other { STRANGER } else { who.subject() };
    let id = if target == Target::Absent {
        taskbell::store::new_id().to_string()
    } else {
        world.fixed(owner, State::Ended).id.clone()
    };
    let stream = format!("task-{id}");
    let ended = tokio::time::timeout(TEST_TIMEOUT, (row.call)(client(world, who), stream.clone())).await;
    let ended = ended.map_err(|_| "no answer".to_owned())?;
    match (ended, expected) {
        (Err(Error::AccessDenied), "denied") | (Err(Error::ResourceNotFound), "absent") => Ok(()),
        (Ok(events), "events") => {
            let whole = target == Target::Unnamed;
            let wanted = world.log.iter().filter(|event| whole || event["stream"] == *stream);
            check_events(who, &events, &wanted.collect::<Vec<_>>())
        }
        (Ok(events), _) => Err(format!("{} events instead of {expected}", events.len())),
        (Err(error), _) => Err(format!("{error:?} instead of {expected}")),
    }
}

fn check_events(who: Who, found: &[RecordedEvent], wanted: &[&Value]) -> Result<(), String> {
    if found.len() != wanted.len() {
        return Err(format!("{} events instead of {}", found.len(), wanted.len()));
    }
    for (found, stored) in found.iter().zip(wanted) {
        let wanted = if who == Who::Auditor { redact(stored) } else { (*stored).clone() };
        let data: Value = serde_json::from_slice(&found.data).map_err(|error| error.to_string())?;
        let metadata: Value = serde_json::from_slice(&found.custom_metadata).map_err(|error| error.to_string())?;
        if data != wanted["data"] {
            return Err(format!("the data {data} instead of {}", wanted["data"]));
        }
        // The data is an event's own, so what belongs beside it is in the metadata.
        if metadata.get("redacted") != wanted.get("redacted") {
            return Err(format!("the metadata {metadata} without redacted {:?}", wanted.get("redacted")));
        }
    }
    Ok(())
}

fn client(world: &World, who: Who) -> Client {
    let stderr = world.server.stderr();
    let line = stderr.lines().find(|line| line.contains("the log is served read-only on")).expect("a line");
    let url = line.split_whitespace().find(|expected| expected.starts_with("esdb://")).expect("its address");
    let url = match world.token(who) {
        Some(token) => url.replacen("esdb://", &format!("esdb://{}:{token}@", who.subject()), 1),
        None => url.to_owned(),
    };
    Client::new(format!("{url}&discoveryInterval=10").parse().expect("an address")).expect("a client")
}
