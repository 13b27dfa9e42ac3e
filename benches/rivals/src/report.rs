//! Tables to read, and raw samples for tools.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::case::Case;
use crate::harness::probe::LinkRegime;
use crate::rounds::{Turn, ratios, scores};
use crate::sample::Sample;
use crate::suite::Suite;

/// The finished turns of one case.
pub struct Outcome<'a> {
    pub suite: &'a dyn Suite,
    pub case: Case,
    pub subjects: Vec<&'static str>,
    /// Index of the subject that the others are compared with.
    pub base: Option<usize>,
    pub turns: Vec<Turn<Sample>>,
}

pub fn header([unit, extra]: [&str; 2]) -> String {
    let names = row(["case", "subject", "regime", "n"], [unit, "min", "max", extra, "speed"]);
    format!("{names}\n|:--|:--|:--|--:|--:|--:|--:|--:|--:|")
}

fn row([case, subject, regime, n]: [&str; 4], results: [&str; 5]) -> String {
    let results = results.map(|result| format!("{result:>12} |")).join(" ");
    format!("| {case:24} | {subject:17} | {regime:7} | {n:>2} | {results}")
}

impl Outcome<'_> {
    pub fn rows(&self) -> Vec<String> {
        let regimes: BTreeSet<_> = self.turns.iter().map(|turn| turn.measured.regime).collect();
        let subjects = 0..self.subjects.len();
        regimes.into_iter().flat_map(|regime| subjects.clone().filter_map(move |i| self.row(i, regime))).collect()
    }

    fn row(&self, subject: usize, regime: LinkRegime) -> Option<String> {
        let result =
            |index: usize| scores(&self.turns, subject, regime, |sample| self.suite.results(&self.case, sample)[index]);
        let (shown, extra) = (result(0)?, result(1)?);
        let speed = self.base.and_then(|base| {
            let speed = |sample: &Sample| self.suite.speed(&self.case, sample);
            let ratio = ratios(&self.turns, [subject, base], regime, speed)?;
            Some(format!("{:.2} x {}", ratio.median, self.subjects[base]))
        });
        Some(row(
            [&self.case.to_string(), self.subjects[subject], &regime.to_string(), &shown.count.to_string()],
            [
                &number(shown.median),
                &number(shown.min),
                &number(shown.max),
                &number(extra.median),
                &speed.unwrap_or_default(),
            ],
        ))
    }

    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.subjects.iter().enumerate().filter_map(|(subject, name)| {
            let own = self.turns.iter().filter(|turn| turn.subject == subject);
            let samples: Vec<_> = own.map(|turn| &turn.measured.value).collect();
            let note = self.suite.note(&self.case, &samples)?;
            Some(format!("- {}, {name}: {note}", self.case))
        })
    }

    pub fn samples(&self) -> impl Iterator<Item = Value> {
        self.turns.iter().map(|turn| {
            let mut fields = json!({
                "case": self.case.to_string(),
                "size": self.case.size,
                "slots": self.case.slots,
                "subject": self.subjects[turn.subject],
                "round": turn.round,
                "regime": turn.measured.regime.to_string(),
                "probes_ns": turn.measured.probes,
            });
            if let (Value::Object(fields), Value::Object(mut sample)) = (&mut fields, turn.measured.value.json()) {
                fields.append(&mut sample);
            }
            fields
        })
    }
}

/// Formats with at least three significant digits.
fn number(value: f64) -> String {
    let precision = (2.0 - value.log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{value:.precision$}")
}
