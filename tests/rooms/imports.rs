//! Which rooms a room may import, and in which rooms a crate may be imported.

use super::Violations;
use super::source::{ROOMS, Source};

/// Rooms with actors.
const ACTOR_ROOMS: [&str; 9] =
    ["streams/", "projection/", "dispatch/", "reactions/", "push/", "work/", "http/", "app", "cli/"];

/// The crates with restrictions, each with the beginnings of the paths of the files that may import it.
const ALLOWED: [(&str, &[&str]); 19] = [
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
    ("rustls", &["tls/"]),
    ("tokio_rustls", &["http/plumbing/http1/", "http/identity/jwt/", "wire/", "cli/"]),
    ("hyper", &["http/identity/jwt/", "cli/bench/"]),
    ("hyper_util", &["http/identity/jwt/", "cli/bench/"]),
    ("aws_lc_rs", &["cli/checkpoint.rs", "http/identity/jwt/key.rs", "tls/"]),
    ("governor", &["http/identity/rate_limit.rs"]),
    ("prometheus", &["projection/metrics.rs"]),
    ("tonic", &["wire/"]),
    ("prost", &["wire/"]),
    ("prost_types", &["wire/"]),
    ("fancy_regex", &["wire/"]),
];

/// Paths that the pure rooms must not use. Only `views/snapshot` may use files.
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

/// The names that `work` may import from `store`: types in the messages of actors, and the clock. `work` never reads or
/// writes the log itself.
const STORE_NAMES_IN_WORK: [&str; 5] = ["Meta", "Via", "AppendError", "ReadError", "now"];

/// A room may import only lower rooms. Only `app` and `cli` may import `config` and `wire`. `wire` may import only
/// `task`, `clock`, `tls` and `store`.
pub(crate) fn downhill(source: &Source) -> Violations {
    let Some(room) = source.room() else { return Vec::new() };
    let may = |other: &str| match (room, other) {
        ("lib", _) => true,
        ("main", other) => matches!(other, "app" | "cli" | "config"),
        (room, other) if room == other => true,
        ("cli" | "app", "config") | ("cli", "app") => true,
        ("wire", other) => matches!(other, "task" | "clock" | "tls" | "store"),
        (room, "wire") => matches!(room, "app" | "cli"),
        (_, "config") | ("config", "app" | "cli") | ("work", "store") => false,
        ("config", _) => true,
        (room, other) => height(other) < height(room),
    };
    let mut found = Violations::new();
    for word in source.paths() {
        let named = ["crate::", "taskbell::"].iter().find_map(|root| word.path.strip_prefix(root));
        let Some(other) = named.and_then(|rest| rest.split("::").next()) else { continue };
        let carried = room == "work" && STORE_NAMES_IN_WORK.iter().any(|name| named == Some(&format!("store::{name}")));
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

/// A crate in `ALLOWED` may be imported only in the files listed there.
pub(crate) fn crates(source: &Source) -> Violations {
    let mut found = Violations::new();
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
pub(crate) fn pure(source: &Source) -> Violations {
    if !matches!(source.room(), Some("task" | "views")) {
        return Violations::new();
    }
    let snapshot = source.path.starts_with("views/snapshot");
    let mut found = Violations::new();
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
