//! The measured figures of all runs, printed as a table or as JSON.

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

/// In the order in which they were measured.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    figures: Vec<Figure>,
}

impl Figures {
    /// Adds a value of a figure. `name` is for programs and ends in its unit, `label` is for people.
    pub(super) fn keep(&mut self, name: &str, label: &str, value: f64) {
        match self.figures.iter_mut().find(|figure| figure.name == name) {
            Some(figure) => figure.values.push(value),
            None => self.figures.push(Figure { name: name.into(), label: label.into(), values: vec![value] }),
        }
    }

    /// Adds p50 and p99 of these durations, in milliseconds.
    pub(super) fn keep_waits(&mut self, name: &str, label: &str, mut waits: Vec<Duration>) {
        waits.sort_unstable();
        for (rank, percent) in [("p50", 50), ("p99", 99)] {
            if let Some(wait) = percentile(&waits, percent) {
                self.keep(&format!("{name}_{rank}_ms"), &format!("{label}, {rank}, ms"), wait.as_secs_f64() * 1e3);
            }
        }
    }

    /// The median of a figure.
    pub(super) fn median(&self, name: &str) -> Option<f64> {
        self.figures.iter().find(|figure| figure.name == name).map(|figure| spread(&figure.values).0)
    }

    /// `{name: {median, min, max, values}}`
    pub(super) fn json(&self) -> Value {
        let mut all = Map::new();
        for Figure { name, values, .. } in &self.figures {
            let (median, min, max) = spread(values);
            all.insert(name.clone(), json!({"median": median, "min": min, "max": max, "values": values}));
        }
        Value::Object(all)
    }

    /// One line for each figure.
    pub(super) fn table(&self) -> String {
        let width = self.figures.iter().map(|figure| figure.label.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for Figure { label, values, .. } in &self.figures {
            let (median, min, max) = spread(values);
            let range = if values.len() > 1 { format!("  [{} – {}]", plain(min), plain(max)) } else { String::new() };
            // Writing to a string never fails.
            let _ = writeln!(text, "{label:<width$}  {:>10}{range}", plain(median));
        }
        text
    }
}

/// The value below which this many per cent of the values lie, counted as the harness of `benches/peers` does.
pub(super) fn percentile<T: Copy>(sorted: &[T], percent: usize) -> Option<T> {
    let last = sorted.len().checked_sub(1)?;
    Some(sorted[last.min(sorted.len() * percent / 100)])
}

/// Median, minimum and maximum.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(min), Some(max)) = (sorted.first(), sorted.last()) else { return (f64::NAN, f64::NAN, f64::NAN) };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
    (median, *min, *max)
}

/// A figure with three digits, or all digits before the point if there are more.
fn plain(value: f64) -> String {
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
