//! What is measured.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::contest;
use crate::play::Sample;

/// Messages in one batch.
const BATCH: usize = 32;

/// Messages that a queue holds.
const SLOTS: usize = 1024;

/// What large messages in a queue may take up, in bytes.
const RING: usize = 64 << 20;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// As many values as possible, all at it together.
    Crowd,
    /// One thread puts a value in and takes it out again.
    Alone,
    /// As many byte messages as possible, in a queue where their length is free.
    Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    One,
    /// `BATCH` at a time.
    Batch,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    Spin,
    Block,
}

#[derive(Clone, Copy)]
pub struct Case {
    pub work: Work,
    pub producers: usize,
    pub consumers: usize,
    pub way: Way,
    pub wait: Wait,
    /// Bytes in a message.
    pub size: usize,
    /// Messages that the queue holds.
    pub slots: usize,
}

impl Case {
    pub fn words(&self) -> usize {
        self.size / size_of::<u64>()
    }

    /// Messages that are handed over at once.
    pub fn lot(&self) -> usize {
        match self.way {
            Way::One => 1,
            Way::Batch => BATCH,
        }
    }

    pub fn blocks(&self) -> bool {
        self.wait == Wait::Block
    }

    pub fn participants(&self) -> usize {
        self.producers + self.consumers
    }
}

impl contest::Case for Case {
    type Sample = Sample;

    fn all() -> Vec<Self> {
        let alone = Self {
            work: Work::Alone,
            producers: 1,
            consumers: 1,
            way: Way::One,
            wait: Wait::Spin,
            size: 8,
            slots: SLOTS,
        };
        let mut cases = [8, 64].map(|size| Self { size, ..alone }).to_vec();
        for (producers, consumers) in [(1, 1), (2, 2), (4, 4), (8, 1), (1, 8)] {
            for (way, wait) in
                [(Way::One, Wait::Spin), (Way::Batch, Wait::Spin), (Way::One, Wait::Block), (Way::Batch, Wait::Block)]
            {
                cases.extend([8, 64].map(|size| Self {
                    work: Work::Crowd,
                    producers,
                    consumers,
                    way,
                    wait,
                    size,
                    ..alone
                }));
            }
        }
        let sizes = [16, 64, 256, 1 << 10, 4 << 10, 64 << 10, 1 << 20, 16 << 20];
        cases.extend(sizes.map(|size| {
            let slots = SLOTS.min(RING / size);
            Self { work: Work::Bytes, wait: Wait::Block, size, slots, ..alone }
        }));
        cases
    }

    fn size(&self) -> usize {
        self.size
    }

    fn first_count(&self) -> u64 {
        // Large ones need no long run to be timed.
        let lots = (RING / self.size).clamp(1, 64 * self.producers);
        (lots * self.lot()) as u64
    }

    fn elapsed(sample: &Sample) -> Duration {
        sample.elapsed
    }

    fn units(&self) -> [&'static str; 2] {
        match self.work {
            Work::Alone => ["ns per pair", "M pairs/s"],
            _ => ["M msg/s", "GB/s"],
        }
    }

    fn results(&self, sample: &Sample) -> [f64; 2] {
        let speed = self.speed(sample);
        match self.work {
            Work::Alone => [1.0 / speed, speed * 1e3],
            _ => [speed * 1e3, speed * self.size as f64],
        }
    }

    /// Messages per nanosecond.
    fn speed(&self, sample: &Sample) -> f64 {
        sample.count as f64 / sample.elapsed.as_nanos() as f64
    }

    fn details(&self, sample: &Sample) -> Value {
        json!({
            "work": self.work.to_string(),
            "producers": self.producers,
            "consumers": self.consumers,
            "lot": self.lot(),
            "wait": self.wait.to_string(),
            "slots": self.slots,
            "count": sample.count,
            "elapsed_ns": sample.elapsed.as_nanos() as u64,
        })
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { work, producers, consumers, way, wait, size, slots } = self;
        match work {
            Work::Crowd => write!(f, "{producers}P{consumers}C-{way}-{wait}/{size}"),
            Work::Alone => write!(f, "{work}/{size}"),
            Work::Bytes => write!(f, "{work}/{size}x{slots}"),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Crowd => "crowd",
            Self::Alone => "alone",
            Self::Bytes => "bytes",
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one",
            Self::Batch => "batch",
        })
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Spin => "spin",
            Self::Block => "block",
        })
    }
}
