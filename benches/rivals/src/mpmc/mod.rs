//! Queues with any number of producers and consumers.

mod run;
mod side;
mod start_line;

use crate::case::{Area, Case, Transfer, Wait, Work};
use crate::sample::Sample;
use crate::suite::Suite;

pub use run::{alone, processes, threads};
pub use side::{Backoff, Reader, Rx, Tx};

/// Messages that a queue holds.
const SLOTS: usize = 1024;

/// Bytes that large messages in a queue may take up.
const RING: usize = 64 << 20;

pub struct Mpmc;

impl Suite for Mpmc {
    fn about(&self) -> &'static str {
        "Compares queues with several producers and consumers: every message is written in full, \
         read in full and checked, over all consumers together.\n\n\
         Participants are spread over the CPUs. Subjects take turns. The distance between CPUs 0 and \
         1 is probed before and after each turn, and results are kept apart by that regime. The \
         baseline is array-queue, or crossbeam-channel."
    }

    fn baselines(&self) -> &'static [&'static str] {
        &["array-queue", "crossbeam-channel"]
    }

    fn cases(&self) -> Vec<Case> {
        let alone = Case {
            area: Area::Mpmc,
            work: Work::Alone,
            size: 8,
            slots: SLOTS,
            transfer: Transfer::One,
            wait: Wait::Spin,
            writers: 1,
            readers: 1,
        };
        let mut cases = [8, 64].map(|size| Case { size, ..alone }).to_vec();
        for (writers, readers) in [(1, 1), (2, 2), (4, 4), (8, 1), (1, 8)] {
            for wait in [Wait::Spin, Wait::Block] {
                for transfer in [Transfer::One, Transfer::Batch] {
                    let case = Case { work: Work::Throughput, writers, readers, transfer, wait, ..alone };
                    cases.extend([8, 64].map(|size| Case { size, ..case }));
                }
            }
        }
        let sizes = [16, 64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
        cases.extend(sizes.map(|size| {
            let slots = SLOTS.min(RING / size);
            Case { work: Work::Bytes, wait: Wait::Block, size, slots, ..alone }
        }));
        cases
    }

    fn first_count(&self, case: &Case) -> u64 {
        // Large messages need no long run to be timed.
        let batches = (RING / case.size).clamp(1, 64 * case.writers);
        (batches * case.batch()) as u64
    }

    fn units(&self, case: &Case) -> [&'static str; 2] {
        match case.work {
            Work::Alone => ["ns per pair", "M pairs/s"],
            _ => ["M msg/s", "GB/s"],
        }
    }

    fn results(&self, case: &Case, sample: &Sample) -> [f64; 2] {
        let speed = sample.speed();
        match case.work {
            Work::Alone => [1.0 / speed, speed * 1e3],
            _ => [speed * 1e3, speed * case.size as f64],
        }
    }

    fn speed(&self, _: &Case, sample: &Sample) -> f64 {
        sample.speed()
    }
}
