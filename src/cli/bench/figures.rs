//! The measured figures of all runs, as a table or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Map, Value, json};

/// One figure, with a value for each run.
#[derive(Clone, Debug)]
struct Figure {
    name: String,
    label: String,
    values: Vec<f64>,
}

/// All figures, in the order in which they were first added.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    figures: Vec<Figure>,
}

impl Figures {
    /// Adds the value of one run to a figure. `name` is for programs and ends with the unit; `label` is for people.
    pub(super) fn add(&mut self, name: &str, label: &str, value: f64) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name: name.into(), label: label.into(), values: vec![value] }),
        }
    }

    /// Adds the figures p50 and p99 of these durations, in milliseconds.
    pub(super) fn add_durations(&mut self, name: &str, label: &str, mut durations: Vec<Duration>) {
        durations.sort_unstable();
        for (rank, percent) in [("p50", 50), ("p99", 99)] {
            if let Some(duration) = percentile(&durations, percent) {
                self.add(&format!("{name}_{rank}_ms"), &format!("{label}, {rank}, ms"), duration.as_secs_f64() * 1e3);
            }
        }
    }

    /// The value of a figure in the last run that has it.
    pub(super) fn last(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name)?.values.last().copied()
    }

    /// The median of a figure over all runs; `None` if the figure was not measured.
    pub(super) fn median(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| median_min_max(&figure.values).0)
    }

    /// All figures as `{name: {median, min, max, values}}`.
    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        for Figure { name, values, .. } in &self.figures {
            let (median, min, max) = median_min_max(values);
            all.insert(name.clone(), json!({"median": median, "min": min, "max": max, "values": values}));
        }
        Value::Object(all)
    }

    /// A table with one line for each figure.
    pub(super) fn table(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.label.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for Figure { label, values, .. } in &self.figures {
            let (median, min, max) = median_min_max(values);
            let range = if values.len() > 1 {
                format!("  [{} – {}]", format_value(min), format_value(max))
            } else {
                String::new()
            };
            // Writing to a string never fails.
            let _ = writeln!(text, "{label:<width$}  {:>10}{range}", format_value(median));
        }
        text
    }
}

/// The percentile of sorted values, with the same rule for the index as in `benches/peers`; `None` without values.
pub(super) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last.min(sorted.len() * percent / 100)])
}

/// Median, minimum and maximum.
fn median_min_max(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return (f64::NAN, f64::NAN, f64::NAN) };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    (median, *min, *max)
}

/// The value with three digits, or with all digits before the decimal point if it has more.
fn format_value(value: f64) -> String {
    match value.abs() {
        0.0..10.0 => format!("{value:.2}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => {
            let digits = format!("{:.0}", value.abs());
            let mut text = String::from(if value < 0.0 { "-" } else { "" });
            for (index, digit) in digits.chars().enumerate() {
                if index > 0 && (digits.len() - index) % 3 == 0 {
                    text.push(',');
                }
                text.push(digit);
            }
            text
        }
    }
}
