//! What one turn has shown.

use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Default)]
pub struct Sample {
    /// How long the turn lasted, or was meant to last if that is known before.
    pub turn: Duration,
    /// How long it took to do `ops`.
    pub elapsed: Duration,
    /// Messages that a queue passed on; of an object, the operations of each participant.
    pub ops: Vec<u64>,
    /// p50 and p99 in nanoseconds, if single operations were timed.
    pub latency: Option<[u64; 2]>,
    /// Nanoseconds of an operation in the median short batch, if one participant was alone.
    pub batch_nanos: Option<f64>,
    /// Share of the turn in which no participant waited for its CPU, if only that share counts.
    pub undisturbed: Option<f64>,
    /// Loads that failed.
    pub failed: u64,
    /// Loads that gave parts of two values.
    pub torn: u64,
}

impl Sample {
    pub fn of_messages(count: u64, elapsed: Duration) -> Self {
        Self { turn: elapsed, elapsed, ops: vec![count], ..Self::default() }
    }

    /// Operations per nanosecond, by the median one if single operations were timed.
    pub fn speed(&self) -> f64 {
        match self.latency {
            None => self.ops.iter().sum::<u64>() as f64 / self.elapsed.as_nanos() as f64,
            Some([p50, _]) => 1.0 / p50 as f64,
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "elapsed_ns": self.elapsed.as_nanos() as u64,
            "ops": self.ops,
            "p50_ns": self.latency.map(|[p50, _]| p50),
            "p99_ns": self.latency.map(|[_, p99]| p99),
            "batch_ns": self.batch_nanos,
            "undisturbed": self.undisturbed,
            "failed": self.failed,
            "torn": self.torn,
        })
    }
}
