//! What is measured.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::contest;
use crate::harness::rounds::Spread;
use crate::play::Sample;

const SIZES: [usize; 5] = [8, 64, 256, 1024, 4096];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Readers load a value that nobody stores.
    Load,
    /// Readers load a value that a writer stores as fast as it can.
    LoadBusy,
    /// A writer stores a value; the readers load it as fast as they can.
    Store,
    /// Everybody adds to one number.
    Add,
    /// Everybody takes a lock, and gives it back.
    Lock(Section),
    /// Everybody takes the only permit, and gives it back.
    Permit,
    /// One gives a permit, another answers with one.
    PingPong,
}

/// What is done under a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Section {
    Nothing,
    /// Counts in the value that the lock protects.
    Add,
    /// Computes for 100 ns, and for as long before the next time.
    Compute,
    /// Nothing, with a lock that could be taken again.
    Reentrant,
    /// Reads the value, among other readers.
    Read,
    /// Counts in the value of a lock that readers could share.
    Write,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Case {
    pub work: Work,
    /// Bytes of the value, 0 where there is none to speak of.
    pub size: usize,
    /// Those who load, where somebody stores; else everybody.
    pub parties: usize,
}

impl Case {
    pub fn words(&self) -> usize {
        self.size / size_of::<u64>()
    }

    pub fn has_value(&self) -> bool {
        matches!(self.work, Work::Load | Work::LoadBusy | Work::Store)
    }

    /// Whether participant 0 stores.
    fn has_writer(&self) -> bool {
        matches!(self.work, Work::LoadBusy | Work::Store)
    }

    pub fn participants(&self) -> usize {
        self.parties + usize::from(self.has_writer())
    }

    pub fn is_alone(&self) -> bool {
        self.participants() == 1
    }

    pub fn stores(&self, participant: usize) -> bool {
        self.has_writer() && participant == 0
    }

    /// Whether each operation counts one up.
    pub fn counts(&self) -> bool {
        matches!(self.work, Work::Add | Work::Lock(Section::Add | Section::Write))
    }

    /// Operations of those whom the case is about.
    fn ops(&self, sample: &Sample) -> u64 {
        match self.work {
            Work::Store => sample.ops[0],
            Work::PingPong => sample.ops[0],
            _ => self.shares(sample).iter().sum(),
        }
    }

    /// What those had who do the same.
    fn shares<'a>(&self, sample: &'a Sample) -> &'a [u64] {
        &sample.ops[usize::from(self.has_writer())..]
    }

    /// What the slowest had, of an equal share.
    fn slowest(&self, sample: &Sample) -> f64 {
        let shares = self.shares(sample);
        let least = shares.iter().min().copied().unwrap_or(0);
        (least * shares.len() as u64) as f64 / shares.iter().sum::<u64>().max(1) as f64
    }

    /// Nanoseconds for an operation.
    fn nanos(&self, sample: &Sample) -> f64 {
        sample.block.unwrap_or_else(|| sample.elapsed.as_nanos() as f64 / self.ops(sample).max(1) as f64)
    }
}

impl contest::Case for Case {
    type Sample = Sample;

    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        let mut values = |work, parties| cases.extend(SIZES.map(|size| Self { work, size, parties }));
        values(Work::Load, 1);
        values(Work::Store, 0);
        values(Work::Store, 1);
        values(Work::Store, 7);
        values(Work::Load, 7);
        values(Work::LoadBusy, 1);
        values(Work::LoadBusy, 7);
        for parties in [1, 2, 4] {
            let sections =
                [Section::Nothing, Section::Add, Section::Compute, Section::Reentrant, Section::Read, Section::Write];
            let works = sections.map(Work::Lock).into_iter().chain([Work::Permit, Work::Add]);
            // Alone, a computation would only hide the lock.
            let works = works.filter(|&work| parties > 1 || work != Work::Lock(Section::Compute));
            cases.extend(works.map(|work| Self { work, size: 0, parties }));
        }
        cases.push(Self { work: Work::PingPong, size: 0, parties: 2 });
        cases
    }

    fn size(&self) -> usize {
        self.size
    }

    /// Counts are nanoseconds here: everybody works for as long.
    fn first_count(&self) -> u64 {
        4_000_000
    }

    fn elapsed(sample: &Sample) -> Duration {
        sample.turn
    }

    fn units(&self) -> [&'static str; 2] {
        match self.work {
            Work::PingPong => ["p50 ns", "k trips/s"],
            Work::Store if !self.is_alone() => ["ns per store", "M loads/s"],
            _ if self.is_alone() => ["ns", "M op/s"],
            Work::Load | Work::LoadBusy => ["M loads/s", "slowest"],
            _ => ["M op/s", "slowest"],
        }
    }

    fn results(&self, sample: &Sample) -> [f64; 2] {
        let nanos = self.nanos(sample);
        let elapsed = sample.elapsed.as_nanos() as f64;
        match self.work {
            Work::PingPong => [sample.trip.unwrap_or(0) as f64, 1e6 / nanos],
            Work::Store if !self.is_alone() => [nanos, self.shares(sample).iter().sum::<u64>() as f64 / elapsed * 1e3],
            _ if self.is_alone() => [nanos, 1e3 / nanos],
            _ => [1e3 / nanos, self.slowest(sample)],
        }
    }

    /// Operations in a nanosecond; of round trips, by the median one.
    fn speed(&self, sample: &Sample) -> f64 {
        1.0 / sample.trip.map_or_else(|| self.nanos(sample), |trip| trip as f64)
    }

    fn details(&self, sample: &Sample) -> Value {
        json!({
            "work": self.work.to_string(),
            "participants": self.participants(),
            "elapsed_ns": sample.elapsed.as_nanos() as u64,
            "ops": sample.ops,
            "quiet": sample.quiet,
            "block_ns": sample.block,
            "p50_ns": sample.trip,
            "refused": sample.refused,
            "torn": sample.torn,
        })
    }

    fn remark(&self, samples: &[&Sample]) -> Option<String> {
        let sum = |number: fn(&Sample) -> u64| samples.iter().map(|sample| number(sample)).sum::<u64>();
        let mut parts = Vec::new();
        if self.work == Work::LoadBusy {
            let speed = |sample: &Sample| sample.ops[0] as f64 / sample.elapsed.as_micros() as f64;
            let stores = Spread::of(samples.iter().map(|sample| speed(sample)))?;
            let slowest = Spread::of(samples.iter().map(|sample| self.slowest(sample)))?;
            parts.push(format!("{:.3} M stores/s meanwhile, slowest share at worst {:.2}", stores.median, slowest.min));
        }
        for (what, count) in [("loads refused", sum(|s| s.refused)), ("values torn", sum(|s| s.torn))] {
            if count > 0 || (self.work == Work::LoadBusy && what == "loads refused") {
                parts.push(format!("{count} {what}"));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { work, size, parties } = self;
        if self.has_value() { write!(f, "{work}/{size}-{parties}r") } else { write!(f, "{work}/{parties}p") }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Load => "load",
            Self::LoadBusy => "load-busy",
            Self::Store => "store",
            Self::Add => "add",
            Self::Lock(Section::Nothing) => "lock",
            Self::Lock(Section::Add) => "lock-add",
            Self::Lock(Section::Compute) => "lock-compute",
            Self::Lock(Section::Reentrant) => "lock-again",
            Self::Lock(Section::Read) => "read",
            Self::Lock(Section::Write) => "write",
            Self::Permit => "permit",
            Self::PingPong => "ping-pong",
        })
    }
}
