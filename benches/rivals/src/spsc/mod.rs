//! Queues with one producer and one consumer.

mod run;

use crate::case::{Area, Case, Transfer, Wait, Work};
use crate::sample::Sample;
use crate::suite::Suite;

pub use run::{Rx, Tx, processes, threads};

/// Slots of a queue for small messages.
const SLOTS: usize = 1024;

/// Bytes of a queue for large messages.
const RING: usize = 8 << 20;

pub struct Spsc;

impl Suite for Spsc {
    fn about(&self) -> &'static str {
        "Compares SPSC queues on the same work: every message is written in full, read in full and \
         checked.\n\n\
         The producer is pinned to CPU 0 and the consumer to CPU 1. Subjects take turns. The \
         distance between the CPUs is probed before and after each turn, and results are kept apart \
         by that regime. The baseline is rtrb, or futex."
    }

    fn baselines(&self) -> &'static [&'static str] {
        &["rtrb", "futex"]
    }

    fn cases(&self) -> Vec<Case> {
        let base = Case {
            area: Area::Spsc,
            work: Work::Throughput,
            size: 64,
            slots: SLOTS,
            transfer: Transfer::One,
            wait: Wait::Spin,
            writers: 1,
            readers: 1,
        };
        let small = [8, 64, 256, 1024, 4096].map(|size| (size, SLOTS));
        let large = [4096, 64 << 10, 1 << 20].map(|size| (size, RING / size));
        let mut cases = Vec::new();
        for (size, slots) in small.into_iter().chain(large) {
            for transfer in [Transfer::One, Transfer::Batch, Transfer::InPlace, Transfer::InPlaceBatch] {
                let case = Case { size, slots, transfer, ..base };
                // Two batches must fit, or the sides cannot overlap.
                if slots >= 2 * case.batch() {
                    cases.push(case);
                }
            }
        }
        cases.extend([
            Case { work: Work::PingPong, ..base },
            Case { work: Work::PingPong, wait: Wait::Block, ..base },
            Case { work: Work::Parked, wait: Wait::Block, ..base },
        ]);
        cases
    }

    fn first_count(&self, case: &Case) -> u64 {
        64 * case.batch() as u64
    }

    fn units(&self, case: &Case) -> [&'static str; 2] {
        if case.is_throughput() { ["M msg/s", "GB/s"] } else { ["p50 ns", "p99 ns"] }
    }

    fn results(&self, case: &Case, sample: &Sample) -> [f64; 2] {
        match sample.latency {
            None => [sample.speed() * 1e3, sample.speed() * case.size as f64],
            Some(quantiles) => quantiles.map(|nanos| nanos as f64),
        }
    }

    fn speed(&self, _: &Case, sample: &Sample) -> f64 {
        sample.speed()
    }
}
