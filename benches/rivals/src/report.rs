//! Tables for people, raw samples for tools.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::contest::Case;
use crate::harness::probe::Regime;
use crate::harness::rounds::{Turn, against, reached};

/// The finished turns of one case.
pub struct Outcome<C: Case> {
    pub case: C,
    pub contenders: Vec<&'static str>,
    /// Index of the one that the others are compared with.
    pub base: Option<usize>,
    pub turns: Vec<Turn<C::Sample>>,
}

pub fn header([unit, extra]: [&str; 2]) -> String {
    let names = row(["case", "contender", "regime", "n"], [unit, "min", "max", extra, "speed"]);
    format!("{names}\n|:--|:--|:--|--:|--:|--:|--:|--:|--:|")
}

fn row([case, contender, regime, n]: [&str; 4], results: [&str; 5]) -> String {
    let results = results.map(|result| format!("{result:>12} |")).join(" ");
    format!("| {case:24} | {contender:17} | {regime:7} | {n:>2} | {results}")
}

impl<C: Case> Outcome<C> {
    pub fn rows(&self) -> Vec<String> {
        let regimes: BTreeSet<_> = self.turns.iter().map(|turn| turn.measured.regime).collect();
        let entrants = 0..self.contenders.len();
        regimes.into_iter().flat_map(|regime| entrants.clone().filter_map(move |i| self.row(i, regime))).collect()
    }

    fn row(&self, entrant: usize, regime: Regime) -> Option<String> {
        let shown = reached(&self.turns, entrant, regime, |sample| self.case.results(sample)[0])?;
        let extra = reached(&self.turns, entrant, regime, |sample| self.case.results(sample)[1])?;
        let speed = self.base.and_then(|base| {
            let ratio = against(&self.turns, [entrant, base], regime, |sample| self.case.speed(sample))?;
            Some(format!("{:.2} x {}", ratio.median, self.contenders[base]))
        });
        Some(row(
            [&self.case.to_string(), self.contenders[entrant], &regime.to_string(), &shown.count.to_string()],
            [
                &number(shown.median),
                &number(shown.min),
                &number(shown.max),
                &number(extra.median),
                &speed.unwrap_or_default(),
            ],
        ))
    }

    pub fn remarks(&self) -> impl Iterator<Item = String> {
        self.contenders.iter().enumerate().filter_map(|(entrant, name)| {
            let own = self.turns.iter().filter(|turn| turn.entrant == entrant);
            let samples: Vec<_> = own.map(|turn| &turn.measured.value).collect();
            let remark = self.case.remark(&samples)?;
            Some(format!("- {}, {name}: {remark}", self.case))
        })
    }

    pub fn samples(&self) -> impl Iterator<Item = Value> {
        self.turns.iter().map(|turn| {
            let mut sample = json!({
                "case": self.case.to_string(),
                "size": self.case.size(),
                "contender": self.contenders[turn.entrant],
                "round": turn.round,
                "regime": turn.measured.regime.to_string(),
                "probes_ns": turn.measured.probes,
            });
            let details = self.case.details(&turn.measured.value);
            if let (Value::Object(sample), Value::Object(mut details)) = (&mut sample, details) {
                sample.append(&mut details);
            }
            sample
        })
    }
}

/// At least three digits that mean something.
fn number(value: f64) -> String {
    let precision = (2.0 - value.log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{value:.precision$}")
}
