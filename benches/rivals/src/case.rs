//! What is measured.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::contest;
use crate::duel::Sample;

/// Messages in one batch.
pub const BATCH: usize = 32;

/// Ring of the small messages, in slots.
const SLOTS: usize = 1024;

/// Ring of the large messages, in bytes.
const RING: usize = 8 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// As many messages as possible.
    Throughput(Way),
    /// One message there and back again, over two queues.
    PingPong(Wait),
    /// One way to a receiver that has gone to sleep.
    Parked,
}

/// How messages enter and leave the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By value, one at a time.
    One,
    /// By value, `BATCH` at a time.
    Batch,
    /// Written and read in the queue's own memory, one at a time.
    InPlace,
    /// In the queue's own memory, `BATCH` at a time.
    InPlaceBatch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Spin,
    /// Blocks; the answer comes too soon for the receiver to stay parked long.
    Block,
}

#[derive(Clone, Copy)]
pub struct Case {
    pub work: Work,
    /// Bytes in a message.
    pub size: usize,
    /// Messages that the ring holds.
    pub slots: usize,
}

impl Case {
    pub fn words(&self) -> usize {
        self.size / size_of::<u64>()
    }

    /// Messages that are handed over at once.
    pub fn lot(&self) -> usize {
        match self.work {
            Work::Throughput(Way::Batch | Way::InPlaceBatch) => BATCH,
            _ => 1,
        }
    }

    pub fn way(&self) -> Way {
        match self.work {
            Work::Throughput(way) => way,
            _ => Way::One,
        }
    }

    /// Whether messages are copied in from a value on the stack.
    pub fn is_by_value(&self) -> bool {
        matches!(self.way(), Way::One | Way::Batch)
    }

    /// Whether a message is too large for the stack.
    pub fn is_large(&self) -> bool {
        self.size > 4096
    }

    /// Whether the receiver may go to sleep.
    pub fn blocks(&self) -> bool {
        matches!(self.work, Work::PingPong(Wait::Block) | Work::Parked)
    }

    pub fn is_throughput(&self) -> bool {
        matches!(self.work, Work::Throughput(_))
    }
}

impl contest::Case for Case {
    type Sample = Sample;

    fn all() -> Vec<Self> {
        let small = [8, 64, 256, 1024, 4096].map(|size| (size, SLOTS));
        let large = [4096, 64 << 10, 1 << 20].map(|size| (size, RING / size));
        let mut cases = Vec::new();
        for (size, slots) in small.into_iter().chain(large) {
            for way in [Way::One, Way::Batch, Way::InPlace, Way::InPlaceBatch] {
                let case = Self { work: Work::Throughput(way), size, slots };
                // Two batches must fit, or the sides cannot overlap.
                if slots >= 2 * case.lot() {
                    cases.push(case);
                }
            }
        }
        let works = [Work::PingPong(Wait::Spin), Work::PingPong(Wait::Block), Work::Parked];
        cases.extend(works.map(|work| Self { work, size: 64, slots: SLOTS }));
        cases
    }

    fn size(&self) -> usize {
        self.size
    }

    fn first_count(&self) -> u64 {
        64 * self.lot() as u64
    }

    fn elapsed(sample: &Sample) -> Duration {
        sample.elapsed
    }

    fn units(&self) -> [&'static str; 2] {
        if self.is_throughput() { ["M msg/s", "GB/s"] } else { ["p50 ns", "p99 ns"] }
    }

    fn results(&self, sample: &Sample) -> [f64; 2] {
        match sample.latency {
            None => [sample.speed() * 1e3, sample.speed() * self.size as f64],
            Some(quantiles) => quantiles.map(|nanos| nanos as f64),
        }
    }

    fn speed(&self, sample: &Sample) -> f64 {
        sample.speed()
    }

    fn details(&self, sample: &Sample) -> Value {
        let Sample { count, elapsed, latency } = *sample;
        json!({
            "work": self.work.to_string(),
            "slots": self.slots,
            "count": count,
            "elapsed_ns": elapsed.as_nanos() as u64,
            "p50_ns": latency.map(|[p50, _]| p50),
            "p99_ns": latency.map(|[_, p99]| p99),
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}/{}x{}", self.work, self.size, self.slots)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Throughput(Way::One) => "one",
            Self::Throughput(Way::Batch) => "batch",
            Self::Throughput(Way::InPlace) => "in-place",
            Self::Throughput(Way::InPlaceBatch) => "in-place-batch",
            Self::PingPong(Wait::Spin) => "ping-pong-spin",
            Self::PingPong(Wait::Block) => "ping-pong-block",
            Self::Parked => "parked",
        })
    }
}
