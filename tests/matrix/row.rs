//! The words of the tables: who calls, on what, and what the caller must get.

use std::fmt;

use super::checks::Check;
use super::things::On;

/// Who sends a request. Each role has one caller; two callers have no valid credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    User,
    Operator,
    Auditor,
    Worker,
    Admin,
    /// Without a credential.
    Nobody,
    /// With the id of an existing token and another secret.
    Impostor,
}

impl Who {
    /// The callers with a valid credential, in the order of the columns of the tables.
    pub const ROLES: [Self; 5] = [Self::User, Self::Operator, Self::Auditor, Self::Worker, Self::Admin];
    /// The callers without a valid credential.
    pub const STRANGERS: [Self; 2] = [Self::Nobody, Self::Impostor];

    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Worker => "worker",
            Self::Admin => "admin",
            Self::Nobody => "nobody",
            Self::Impostor => "impostor",
        }
    }

    /// The subject of the caller. Strangers have none; the tasks that they try to reach are those of the user.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::User | Self::Nobody | Self::Impostor => "una",
            Self::Operator => "olaf",
            Self::Auditor => "aida",
            Self::Worker => "walt",
            Self::Admin => "adam",
        }
    }

    /// Whether the role sees no more than its own tasks.
    pub const fn sees_only_its_own(self) -> bool {
        !matches!(self, Self::Operator | Self::Auditor | Self::Admin)
    }
}

/// A subject with tasks, whom none of the callers is.
pub const STRANGER: &str = "otto";

/// Whose the thing is that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The caller's. For a lease: one of the kinds of the worker.
    Own,
    /// Another subject's. For a lease: one of a kind that the worker may not take.
    Other,
    /// Nobody's: it doesn't exist.
    Absent,
    /// `owner=*`.
    Everyone,
    /// The request names no owner.
    Unnamed,
    /// The thing exists, and belongs to no subject.
    Present,
}

impl Target {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Other => "other's",
            Self::Absent => "absent",
            Self::Everyone => "everyone's",
            Self::Unnamed => "unnamed",
            Self::Present => "present",
        }
    }

    /// The owner that a request of this caller names; `n` makes the name of an absent owner unique.
    pub fn owner(self, who: Who, n: u64) -> String {
        match self {
            Self::Own | Self::Unnamed | Self::Present => who.subject().to_owned(),
            Self::Other => STRANGER.to_owned(),
            Self::Absent => format!("absent-{n}"),
            Self::Everyone => "*".to_owned(),
        }
    }
}

/// What a caller must get: `404`, `409:not_final` (with the code), `200/403` (a refused item in a successful response),
/// `200/none` (a successful response with this content).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    pub status: u16,
    pub code: Option<&'static str>,
    pub part: Option<&'static str>,
}

impl Want {
    pub fn parse(text: &'static str) -> Self {
        let (whole, part) = text.split_once('/').map_or((text, None), |(whole, part)| (whole, Some(part)));
        let (status, code) = whole.split_once(':').map_or((whole, None), |(status, code)| (status, Some(code)));
        let status = status.parse().unwrap_or_else(|_| panic!("{text:?} has no status"));
        Self { status, code: code.or_else(|| usual_code(status)), part }
    }

    /// The callers without a valid credential get this on every route that needs one.
    pub fn unauthenticated() -> Self {
        Self::parse("401")
    }

    /// Whether nothing may be recorded.
    pub fn is_refusal(&self) -> bool {
        self.status >= 400 || self.part.is_some_and(|part| part.starts_with('4') || part == "lost" || part == "none")
    }
}

impl fmt::Display for Want {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.code.unwrap_or_default())?;
        self.part.map_or(Ok(()), |part| write!(f, " with {part}"))
    }
}

/// The code of the problem with this status, where a table names none.
pub fn usual_code(status: u16) -> Option<&'static str> {
    match status {
        401 => Some("unauthenticated"),
        403 => Some("forbidden"),
        404 => Some("not_found"),
        422 => Some("invalid_request"),
        _ => None,
    }
}

/// The texts of one line of a table: the words for each role, in the order of [`Who::ROLES`].
pub fn words(line: &'static str) -> [&'static str; 5] {
    let words: Vec<&str> = line.split_whitespace().collect();
    words.try_into().unwrap_or_else(|words| panic!("a line has a word for each role: {words:?}"))
}

/// How often the same request of a subject has its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    OfEachRequest,
    /// A second request changes nothing, so each caller tries it with one credential.
    OnceForASubject,
}

/// A request to one route, and what each caller must get for each target.
pub struct Row {
    /// The method and the path of the route table.
    pub route: &'static str,
    /// What the request does, where a route has several rows.
    pub case: &'static str,
    /// What the request names.
    pub on: On,
    pub query: &'static str,
    pub body: Option<&'static str>,
    /// `Idempotency-Key`.
    pub key: Option<&'static str>,
    /// Checks the body of a successful response.
    pub check: Option<Check>,
    /// The event that a successful request records.
    pub records: Option<&'static str>,
    /// The request changes nothing, although its method is not GET.
    pub is_read: bool,
    pub effect: Effect,
    /// Everybody gets the same, also without a credential.
    pub is_public: bool,
    /// The response may hold what another subject has written: the input of a task that a worker has taken.
    pub shows_others: bool,
    pub lines: Vec<(Target, [&'static str; 5])>,
}

pub fn row(route: &'static str) -> Row {
    Row {
        route,
        case: "",
        on: On::Nothing,
        query: "",
        body: None,
        key: None,
        check: None,
        records: None,
        is_read: route.starts_with("GET "),
        effect: Effect::OfEachRequest,
        is_public: false,
        shows_others: false,
        lines: Vec::new(),
    }
}

impl Row {
    pub fn case(self, case: &'static str) -> Self {
        Self { case, ..self }
    }

    pub fn on(self, on: On) -> Self {
        Self { on, ..self }
    }

    pub fn query(self, query: &'static str) -> Self {
        Self { query, ..self }
    }

    pub fn body(self, body: &'static str) -> Self {
        Self { body: Some(body), ..self }
    }

    pub fn key(self, key: &'static str) -> Self {
        Self { key: Some(key), ..self }
    }

    pub fn check(self, check: Check) -> Self {
        Self { check: Some(check), ..self }
    }

    pub fn records(self, event: &'static str) -> Self {
        Self { records: Some(event), ..self }
    }

    pub fn changes_nothing(self) -> Self {
        Self { is_read: true, ..self }
    }

    pub fn once(self) -> Self {
        Self { effect: Effect::OnceForASubject, ..self }
    }

    pub fn shows_others(self) -> Self {
        Self { shows_others: true, ..self }
    }

    /// Everybody gets this, also without a credential and with a wrong one.
    pub fn public(mut self, line: &'static str) -> Self {
        self.is_public = true;
        self.line(Target::Unnamed, line)
    }

    pub fn own(self, line: &'static str) -> Self {
        self.line(Target::Own, line)
    }

    pub fn other(self, line: &'static str) -> Self {
        self.line(Target::Other, line)
    }

    pub fn absent(self, line: &'static str) -> Self {
        self.line(Target::Absent, line)
    }

    pub fn everyone(self, line: &'static str) -> Self {
        self.line(Target::Everyone, line)
    }

    pub fn unnamed(self, line: &'static str) -> Self {
        self.line(Target::Unnamed, line)
    }

    pub fn present(self, line: &'static str) -> Self {
        self.line(Target::Present, line)
    }

    fn line(mut self, target: Target, line: &'static str) -> Self {
        self.lines.push((target, words(line)));
        self
    }

    /// What this caller must get for this target.
    pub fn want(&self, who: Who, target: Target) -> Want {
        let of_cell = |(of, on, want): (Who, Target, Want)| (of == who && on == target).then_some(want);
        self.cells().into_iter().find_map(of_cell).expect("a cell for each caller and target")
    }

    /// The cells of this row: who asks for what, and what the caller must get.
    pub fn cells(&self) -> Vec<(Who, Target, Want)> {
        let mut cells = Vec::new();
        for (target, line) in &self.lines {
            cells.extend(Who::ROLES.into_iter().zip(line).map(|(who, word)| (who, *target, Want::parse(word))));
            let stranger = if self.is_public { Want::parse(line[0]) } else { Want::unauthenticated() };
            cells.extend(Who::STRANGERS.map(|who| (who, *target, stranger.clone())));
        }
        cells
    }
}
