//! Which rooms a room may import, and in which rooms a crate may be imported.

use super::Found;
use super::source::{ROOMS, Source};

/// Rooms with actors.
const ACTOR_ROOMS: [&str; 9] =
    ["streams/", "projection/", "dispatch/", "reactions/", "push/", "work/", "http/", "app", "cli/"];

/// Crates that only these rooms or files may import, given as the beginnings of their paths.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("actix_web_actors", &["http/live.rs", "http/live/"]),
    ("actix_web", &["http/", "app", "cli/"]),
    ("actix_rt", &ACTOR_ROOMS),
    ("actix", &ACTOR_ROOMS),
    ("rusqlite", &["store/sqlite"]),
    ("eventstore", &["store/cluster/"]),
    (
        "tokio",
        &[
            "store/",
            "streams/",
            "projection/",
            "dispatch/",
            "reactions/",
            "push/",
            "work/",
            "wire/",
            "http/",
            "app",
            "cli/",
        ],
    ),
    ("reqwest", &["work/", "cli/"]),
    ("hyper", &["cli/bench/"]),
    ("prometheus", &["projection/metrics.rs"]),
    ("tonic", &["wire/"]),
    ("prost", &["wire/"]),
    ("prost_types", &["wire/"]),
    ("fancy_regex", &["wire/"]),
];

/// What the pure rooms may not name. Only `views/snapshot` may use files.
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

/// What `work` may import of `store`: the types in the actors' messages, and the clock. It never reads or writes the log
/// itself.
const CARRIED: [&str; 5] = ["Meta", "Via", "AppendError", "ReadError", "now"];

/// A room imports only lower rooms; only `app` and `cli` import the settings and `wire`, which imports the log alone.
pub(crate) fn downhill(source: &Source) -> Found {
    let Some(room) = source.room() else { return Vec::new() };
    let may = |other: &str| match (room, other) {
        ("lib", _) => true,
        ("main", other) => matches!(other, "app" | "cli" | "config"),
        (room, other) if room == other => true,
        ("cli" | "app", "config") | ("cli", "app") => true,
        ("wire", other) => matches!(other, "task" | "clock" | "store"),
        (room, "wire") => matches!(room, "app" | "cli"),
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

/// A crate of `ALLOWED` is imported only there.
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

/// No clock, no IO and no `async` in `task/` and `views/`.
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
