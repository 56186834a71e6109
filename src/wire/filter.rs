//! Filters of `$all` by the name of the stream or the type of the event.

use fancy_regex::{Regex, RegexBuilder};

use super::event::WireEvent;
use super::proto::streams::read_req::options::FilterOptions;
use super::proto::streams::read_req::options::filter_options::{Expression, Filter, Window};
use super::refusal::Refusal;

/// The number of events between two checkpoints if the client's request doesn't set it.
const DEFAULT_WINDOW: u32 = 32;
/// The longest regular expression, in bytes.
const PATTERN_MAX: usize = 2048;
/// The largest number of backtracking steps of a regular expression on one name, so that a client's filter can't block the
/// server.
const STEPS_MAX: usize = 20_000;
/// The largest compiled pattern, in instructions of the backtracking engine: a short pattern can compile to a very large one.
const COMPILED_PATTERN_MAX: usize = 1000;
/// The largest compiled part of a pattern that needs no backtracking, in bytes.
const COMPILED_PART_MAX: usize = 1 << 20;
/// The maximum number of prefixes in one filter.
const PREFIXES_MAX: usize = 1000;

/// The filter of a client's read or subscription.
#[derive(Debug)]
pub(super) struct EventFilter {
    field: FilterField,
    pattern: FilterPattern,
    /// A subscription gets a checkpoint after this number of events, whether they match the filter or not.
    pub(super) checkpoint_interval: u64,
}

#[derive(Clone, Copy, Debug)]
enum FilterField {
    Stream,
    EventType,
}

#[derive(Debug)]
enum FilterPattern {
    Prefixes(Vec<String>),
    Regex(Box<Regex>),
}

impl EventFilter {
    pub(super) fn parse(options: FilterOptions) -> Result<Self, Refusal> {
        let (field, expression) = match options.filter {
            Some(Filter::StreamIdentifier(expression)) => (FilterField::Stream, expression),
            Some(Filter::EventType(expression)) => (FilterField::EventType, expression),
            None => return Err(Refusal::Invalid("the filter has no expression".to_owned())),
        };
        let window = match options.window {
            Some(Window::Max(0)) => {
                return Err(Refusal::Invalid("the window of the filter is 0 (at least 1)".to_owned()));
            }
            Some(Window::Max(max)) => max,
            Some(Window::Count(_)) | None => DEFAULT_WINDOW,
        };
        if options.checkpoint_interval_multiplier == 0 {
            return Err(Refusal::Invalid("checkpointIntervalMultiplier is 0 (at least 1)".to_owned()));
        }
        let checkpoint_interval = u64::from(window) * u64::from(options.checkpoint_interval_multiplier);
        Ok(Self { field, pattern: FilterPattern::parse(expression)?, checkpoint_interval })
    }

    pub(super) fn matches(&self, event: &WireEvent) -> Result<bool, Refusal> {
        let text = match self.field {
            FilterField::Stream => &event.stream,
            FilterField::EventType => &event.event_type,
        };
        match &self.pattern {
            FilterPattern::Prefixes(prefixes) => Ok(prefixes.iter().any(|prefix| text.starts_with(prefix.as_str()))),
            FilterPattern::Regex(regex) => regex.is_match(text.as_ref()).map_err(|error| invalid_pattern(&error)),
        }
    }
}

impl FilterPattern {
    fn parse(expression: Expression) -> Result<Self, Refusal> {
        if expression.prefix.len() > PREFIXES_MAX {
            return Err(Refusal::Invalid(format!("the filter has too many prefixes (at most {PREFIXES_MAX})")));
        }
        if expression.regex.is_empty() {
            return Ok(Self::Prefixes(expression.prefix));
        }
        if expression.regex.len() > PATTERN_MAX {
            return Err(Refusal::Invalid(format!("the pattern is too long (at most {PATTERN_MAX} bytes)")));
        }
        let repetitions = repetitions(&expression.regex);
        if repetitions > STEPS_MAX {
            return Err(Refusal::Invalid(format!("the pattern has too many repetitions (at most {STEPS_MAX})")));
        }
        let mut regex = RegexBuilder::new(&expression.regex);
        regex
            .backtrack_limit((STEPS_MAX / repetitions).max(100))
            .max_prog_size(COMPILED_PATTERN_MAX)
            .delegate_size_limit(COMPILED_PART_MAX);
        regex.build().map(|regex| Self::Regex(Box::new(regex))).map_err(|error| invalid_pattern(&error))
    }
}

/// An upper bound for how often the nested repetitions of a pattern like `(a{3}){5}` run: the product of their largest counts.
/// The library's step limit ignores these repetitions, so the limit is divided by this number.
fn repetitions(pattern: &str) -> usize {
    let counts = pattern.split('{').skip(1).map(|after_brace| {
        let counts = after_brace.split('}').next().unwrap_or_default().split(',').map(str::trim);
        let counts = counts.filter(|count| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit()));
        counts.map(|count| count.parse().unwrap_or(usize::MAX)).max().unwrap_or(1).max(1)
    });
    counts.fold(1, usize::saturating_mul)
}

fn invalid_pattern(error: &fancy_regex::Error) -> Refusal {
    Refusal::Invalid(format!("the pattern can't be used: {error}"))
}
