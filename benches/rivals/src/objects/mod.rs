//! Values, atomics, locks and semaphores that participants share.

mod operations;
mod preemption;
mod run;

use crate::case::{Area, Case, Section, Transfer, Wait, Work};
use crate::harness::stats::Spread;
use crate::sample::Sample;
use crate::suite::Suite;

pub use operations::{UncheckedCell, check_value, first, load_all, lock_all, store_all};
pub use run::{Link, Object, Participant, processes, threads};

const SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];

pub struct Objects;

impl Suite for Objects {
    fn about(&self) -> &'static str {
        "Compares values, atomics, locks and semaphores in shared memory: every value is written in \
         full, read in full and checked, and what is counted under a lock is compared with the count \
         at the end.\n\n\
         Participants are spread over the CPUs. Subjects take turns. The distance between CPUs 0 and \
         1 is probed before and after each turn, and results are kept apart by that regime. The \
         baseline is mmap-sync, pthread, sem_t or xadd."
    }

    fn baselines(&self) -> &'static [&'static str] {
        &["mmap-sync", "pthread", "sem_t", "xadd"]
    }

    fn cases(&self) -> Vec<Case> {
        let base = Case {
            area: Area::Objects,
            work: Work::PingPong,
            size: 0,
            slots: 0,
            transfer: Transfer::One,
            wait: Wait::Block,
            writers: 0,
            readers: 2,
        };
        let mut cases = Vec::new();
        let mut values =
            |work, writers, readers| cases.extend(SIZES.map(|size| Case { work, size, writers, readers, ..base }));
        values(Work::Load, 0, 1);
        values(Work::Store, 1, 0);
        values(Work::Store, 1, 1);
        values(Work::Store, 1, 7);
        values(Work::Load, 0, 7);
        values(Work::LoadBusy, 1, 1);
        values(Work::LoadBusy, 1, 7);
        for readers in [1, 2, 4] {
            let sections =
                [Section::Nothing, Section::Add, Section::Compute, Section::Reentrant, Section::Read, Section::Write];
            let works = sections.map(Work::Lock).into_iter().chain([Work::Permit, Work::Add]);
            // With one participant a computation would only hide the lock.
            let works = works.filter(|&work| readers > 1 || work != Work::Lock(Section::Compute));
            cases.extend(works.map(|work| Case { work, readers, ..base }));
        }
        cases.push(base);
        cases
    }

    /// Counts are nanoseconds here: all participants work for as long.
    fn first_count(&self, _: &Case) -> u64 {
        4_000_000
    }

    fn units(&self, case: &Case) -> [&'static str; 2] {
        match case.work {
            Work::PingPong => ["p50 ns", "k trips/s"],
            Work::Store if !case.is_alone() => ["ns per store", "M loads/s"],
            _ if case.is_alone() => ["ns", "M op/s"],
            Work::Load | Work::LoadBusy => ["M loads/s", "slowest"],
            _ => ["M op/s", "slowest"],
        }
    }

    fn results(&self, case: &Case, sample: &Sample) -> [f64; 2] {
        let nanos = nanos(case, sample);
        let elapsed = sample.elapsed.as_nanos() as f64;
        match case.work {
            Work::PingPong => [sample.latency.map_or(0, |[p50, _]| p50) as f64, 1e6 / nanos],
            Work::Store if !case.is_alone() => [nanos, shares(case, sample).iter().sum::<u64>() as f64 / elapsed * 1e3],
            _ if case.is_alone() => [nanos, 1e3 / nanos],
            _ => [1e3 / nanos, slowest(case, sample)],
        }
    }

    /// Operations per nanosecond; of round trips, by the median one.
    fn speed(&self, case: &Case, sample: &Sample) -> f64 {
        1.0 / sample.latency.map_or_else(|| nanos(case, sample), |[p50, _]| p50 as f64)
    }

    fn note(&self, case: &Case, samples: &[&Sample]) -> Option<String> {
        let sum = |number: fn(&Sample) -> u64| samples.iter().map(|sample| number(sample)).sum::<u64>();
        let mut parts = Vec::new();
        if case.work == Work::LoadBusy {
            let speed = |sample: &Sample| sample.ops[0] as f64 / sample.elapsed.as_micros() as f64;
            let stores = Spread::of(samples.iter().map(|sample| speed(sample)))?;
            let slowest = Spread::of(samples.iter().map(|sample| slowest(case, sample)))?;
            parts.push(format!("{:.3} M stores/s meanwhile, slowest share at worst {:.2}", stores.median, slowest.min));
        }
        for (what, count) in [("loads failed", sum(|s| s.failed)), ("values torn", sum(|s| s.torn))] {
            if count > 0 || (case.work == Work::LoadBusy && what == "loads failed") {
                parts.push(format!("{count} {what}"));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Operations of the participants that the case is about.
fn ops(case: &Case, sample: &Sample) -> u64 {
    match case.work {
        Work::Store | Work::PingPong => sample.ops[0],
        _ => shares(case, sample).iter().sum(),
    }
}

/// The operations of each participant that is no writer.
fn shares<'a>(case: &Case, sample: &'a Sample) -> &'a [u64] {
    &sample.ops[case.writers..]
}

/// Operations of the slowest participant, relative to an equal share.
fn slowest(case: &Case, sample: &Sample) -> f64 {
    let shares = shares(case, sample);
    let least = shares.iter().min().copied().unwrap_or(0);
    (least * shares.len() as u64) as f64 / shares.iter().sum::<u64>().max(1) as f64
}

/// Nanoseconds of an operation.
fn nanos(case: &Case, sample: &Sample) -> f64 {
    sample.batch_nanos.unwrap_or_else(|| sample.elapsed.as_nanos() as f64 / ops(case, sample).max(1) as f64)
}
