//! Broadcasts: each message goes from one publisher to each of several subscribers. The code that
//! runs a turn is that of `mpmc`, with one producer.

use crate::case::{Area, Case, Transfer, Wait, Work};
use crate::sample::Sample;
use crate::suite::Suite;

/// Messages that a broadcast holds.
const SLOTS: usize = 1024;

const SIZES: [usize; 3] = [8, 64, 1024];

pub struct Broadcast;

impl Suite for Broadcast {
    fn about(&self) -> &'static str {
        "Compares broadcasts: every message is written in full, read in full by each subscriber and \
         checked.\n\n\
         The publisher is on the first CPU, the subscribers are spread over the others and then over \
         all. Subjects take turns. The distance between CPUs 0 and 1 is probed before and after each \
         turn, and results are kept apart by that regime. The baseline is tombolo-pipe, or iceoryx2, \
         or bus, or tokio."
    }

    fn baselines(&self) -> &'static [&'static str] {
        &["tombolo-pipe", "iceoryx2", "bus", "tokio"]
    }

    fn cases(&self) -> Vec<Case> {
        let base = Case {
            area: Area::Broadcast,
            work: Work::Throughput,
            size: 8,
            slots: SLOTS,
            transfer: Transfer::One,
            wait: Wait::Spin,
            writers: 1,
            readers: 1,
        };
        let mut cases = Vec::new();
        for readers in 1..=4 {
            for work in [Work::Throughput, Work::Lossy] {
                for transfer in [Transfer::One, Transfer::Batch] {
                    cases.extend(SIZES.map(|size| Case { work, transfer, readers, size, ..base }));
                }
            }
        }
        let publish = Case { work: Work::Publish, size: 64, ..base };
        for wait in [Wait::Spin, Wait::Block] {
            // Subscribers that spin where the publisher runs would be measured instead of it.
            let readers = if wait == Wait::Spin { 1..=1 } else { 1..=4 };
            cases.extend(readers.map(|readers| Case { wait, readers, ..publish }));
        }
        cases
    }

    fn first_count(&self, case: &Case) -> u64 {
        match case.work {
            Work::Publish => 8,
            _ => 64 * case.batch() as u64,
        }
    }

    fn units(&self, case: &Case) -> [&'static str; 2] {
        match case.work {
            Work::Publish => ["p50 ns", "p99 ns"],
            _ => ["M msg/s", "GB/s"],
        }
    }

    /// Messages count once, however many subscribers receive them.
    fn results(&self, case: &Case, sample: &Sample) -> [f64; 2] {
        match sample.latency {
            Some(latency) => latency.map(|nanos| nanos as f64),
            None => [sample.speed() * 1e3, sample.speed() * case.size as f64],
        }
    }

    fn speed(&self, _: &Case, sample: &Sample) -> f64 {
        sample.speed()
    }

    fn note(&self, case: &Case, samples: &[&Sample]) -> Option<String> {
        let published: u64 = samples.iter().flat_map(|sample| &sample.ops).sum();
        let missed: u64 = samples.iter().map(|sample| sample.failed).sum();
        let share = missed as f64 / (published * case.readers as u64).max(1) as f64;
        (case.work == Work::Lossy).then(|| format!("subscribers missed {:.0} % of the messages", 100.0 * share))
    }
}
