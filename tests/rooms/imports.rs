//! Who may name whom.

use super::Found;
use super::source::{ROOMS, Source};

/// Where actors live.
const MOVING: [&str; 9] =
    ["streams/", "projection/", "dispatch/", "reactions/", "push/", "work/", "http/", "app", "cli/"];

/// Crates that are the business of these rooms or files alone, by how their path begins.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("actix_web_actors", &["http/live.rs", "http/live/"]),
    ("actix_web", &["http/", "app", "cli/"]),
    ("actix_rt", &MOVING),
    ("actix", &MOVING),
    ("rusqlite", &["store/sqlite"]),
    ("eventstore", &["store/eventstoredb"]),
    (
        "tokio",
        &["store/", "streams/", "projection/", "dispatch/", "reactions/", "push/", "work/", "http/", "app", "cli/"],
    ),
    ("reqwest", &["work/", "cli/"]),
    ("hyper", &["cli/bench/"]),
    ("prometheus", &["projection/metrics.rs"]),
];

/// What the pure rooms may not name. A snapshot is the one file that views may touch.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "std::time::SystemTime",
    "std::time::Instant",
    "jiff::Zoned",
];
const IMPURE_CALLS: [&str; 7] =
    ["SystemTime::now", "Instant::now", "Timestamp::now", "Uuid::now_v7", "Uuid::new_v4", "clock::now", "store::now"];

/// What `work` may name of `store`: what the actors' messages carry, and the one reading of the clock. The log itself is
/// not its business.
const CARRIED: [&str; 5] = ["Meta", "Via", "AppendError", "ReadError", "now"];

/// Imports run downhill; nobody imports the settings from below.
pub(crate) fn downhill(source: &Source) -> Found {
    let Some(room) = source.room() else { return Vec::new() };
    let may = |other: &str| match (room, other) {
        ("lib", _) => true,
        ("main", other) => matches!(other, "app" | "cli" | "config"),
        (room, other) if room == other => true,
        ("cli" | "app", "config") | ("cli", "app") => true,
        (_, "config") | ("config", "app" | "cli") | ("work", "store") => false,
        ("config", _) => true,
        (room, other) => height(other) < height(room),
    };
    let mut found = Found::new();
    for word in source.paths() {
        let named = ["crate::", "taskbell::"].iter().find_map(|root| word.path.strip_prefix(root));
        let Some(other) = named.and_then(|rest| rest.split("::").next()) else { continue };
        let carried = room == "work" && CARRIED.iter().any(|name| named == Some(&format!("store::{name}")));
        if is_room(other) && !may(other) && !carried {
            found.push(source.at(word.line, &format!("{room} names {other}: {}", word.path)));
        }
    }
    found
}

fn is_room(name: &str) -> bool {
    name == "config" || ROOMS.contains(&name)
}

fn height(room: &str) -> Option<usize> {
    ROOMS.iter().position(|other| *other == room)
}

/// Crates whose business is one room's.
pub(crate) fn crates(source: &Source) -> Found {
    let mut found = Found::new();
    for word in source.paths() {
        let first = word.path.split("::").next().unwrap_or_default();
        let Some((name, places)) = ALLOWED.iter().find(|(name, _)| *name == first) else { continue };
        let is_path = word.path.contains("::");
        if is_path && !places.iter().any(|place| source.path.starts_with(place)) {
            found.push(source.at(word.line, &format!("{name} has no business here: {}", word.path)));
        }
    }
    found
}

/// No clock, no IO, nothing that waits, in `task/` and `views/`.
pub(crate) fn pure(source: &Source) -> Found {
    if !matches!(source.room(), Some("task" | "views")) {
        return Found::new();
    }
    let snapshot = source.path.starts_with("views/snapshot");
    let mut found = Found::new();
    for word in source.paths() {
        let waits = matches!(word.path.as_str(), "async" | "await");
        let touches = IMPURE.iter().any(|bad| word.path == *bad || word.path.starts_with(&format!("{bad}::")));
        let calls = IMPURE_CALLS.iter().any(|bad| word.path == *bad || word.path.ends_with(&format!("::{bad}")));
        if waits || calls || (touches && !snapshot) {
            found.push(source.at(word.line, &format!("a pure room names {}", word.path)));
        }
    }
    found
}
