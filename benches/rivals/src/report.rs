//! Tables for people, raw samples for tools.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::case::Case;
use crate::duel::Sample;
use crate::harness::probe::Regime;
use crate::harness::rounds::{Turn, against, reached};

/// The finished turns of one case.
pub struct Outcome {
    pub case: Case,
    pub contenders: Vec<&'static str>,
    /// Index of the one that the others are compared with.
    pub base: Option<usize>,
    pub turns: Vec<Turn<Sample>>,
}

pub fn header(case: &Case) -> String {
    let [unit, extra] = if case.is_throughput() { ["M msg/s", "GB/s"] } else { ["p50 ns", "p99 ns"] };
    let names = row(["case", "contender", "regime", "n"], [unit, "min", "max", extra, "speed"]);
    format!("{names}\n|:--|:--|:--|--:|--:|--:|--:|--:|--:|")
}

fn row([case, contender, regime, n]: [&str; 4], results: [&str; 5]) -> String {
    let results = results.map(|result| format!("{result:>12} |")).join(" ");
    format!("| {case:24} | {contender:17} | {regime:7} | {n:>2} | {results}")
}

impl Outcome {
    pub fn rows(&self) -> Vec<String> {
        let regimes: BTreeSet<_> = self.turns.iter().map(|turn| turn.measured.regime).collect();
        let entrants = 0..self.contenders.len();
        regimes.into_iter().flat_map(|regime| entrants.clone().filter_map(move |i| self.row(i, regime))).collect()
    }

    fn row(&self, entrant: usize, regime: Regime) -> Option<String> {
        let shown = reached(&self.turns, entrant, regime, |s| self.shown(s))?;
        let extra = reached(&self.turns, entrant, regime, |s| self.extra(s))?;
        let speed = self.base.and_then(|base| {
            let ratio = against(&self.turns, [entrant, base], regime, Sample::speed)?;
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

    pub fn samples(&self) -> impl Iterator<Item = Value> {
        self.turns.iter().map(|turn| {
            let Sample { count, elapsed, latency } = turn.measured.value;
            json!({
                "case": self.case.to_string(),
                "work": self.case.work.to_string(),
                "size": self.case.size,
                "slots": self.case.slots,
                "contender": self.contenders[turn.entrant],
                "round": turn.round,
                "regime": turn.measured.regime.to_string(),
                "probes_ns": turn.measured.probes,
                "count": count,
                "elapsed_ns": elapsed.as_nanos() as u64,
                "p50_ns": latency.map(|[p50, _]| p50),
                "p99_ns": latency.map(|[_, p99]| p99),
            })
        })
    }

    fn shown(&self, sample: &Sample) -> f64 {
        match sample.latency {
            None => sample.speed() * 1e3,
            Some([p50, _]) => p50 as f64,
        }
    }

    fn extra(&self, sample: &Sample) -> f64 {
        match sample.latency {
            None => sample.speed() * self.case.size as f64,
            Some([_, p99]) => p99 as f64,
        }
    }
}

/// At least three digits that mean something.
fn number(value: f64) -> String {
    let precision = (2.0 - value.log10().floor()).clamp(0.0, 5.0) as usize;
    format!("{value:.precision$}")
}
