//! How far apart the two CPUs are right now.
//!
//! A virtual machine's CPUs move between cores that share a cache and cores that do not. Numbers
//! of different regimes cannot be compared, so a probe runs before and after each measurement.

use std::fmt;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::thread;
use std::time::Instant;

use super::pin::{CONSUMER, PRODUCER, pin};
use super::stats::Spread;

const BLOCKS: u64 = 64;
const TRIPS: u64 = 64;
const TRIES: usize = 3;

/// How far apart the CPUs are, by the round trip of a cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkRegime {
    /// Round trip below 170 ns.
    Near,
    /// 170 to 250 ns.
    Between,
    /// Above 250 ns.
    Far,
    /// The regime changed in every try.
    Mixed,
}

impl LinkRegime {
    fn of(round_trip: f64) -> Self {
        match round_trip {
            ..170.0 => Self::Near,
            ..=250.0 => Self::Between,
            _ => Self::Far,
        }
    }
}

impl fmt::Display for LinkRegime {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Self::Near => "near",
            Self::Between => "between",
            Self::Far => "far",
            Self::Mixed => "mixed",
        })
    }
}

#[repr(align(128))]
struct Line(AtomicU64);

impl Line {
    fn wait_for(&self, turn: u64) {
        while self.0.load(Acquire) != turn {
            spin_loop();
        }
    }
}

/// Returns the nanoseconds that a cache line takes to the other CPU and back.
pub fn round_trip() -> f64 {
    let line = Line(AtomicU64::new(0));
    let turns = 2 * BLOCKS * TRIPS;
    let blocks = thread::scope(|s| {
        s.spawn(|| {
            pin(CONSUMER);
            for turn in (1..turns).step_by(2) {
                line.wait_for(turn);
                line.0.store(turn + 1, Release);
            }
        });
        let pinger = s.spawn(|| {
            pin(PRODUCER);
            let mut turn = 0;
            let mut block = || {
                let start = Instant::now();
                for _ in 0..TRIPS {
                    line.0.store(turn + 1, Release);
                    turn += 2;
                    line.wait_for(turn);
                }
                start.elapsed().as_nanos() as f64 / TRIPS as f64
            };
            (0..BLOCKS).map(|_| block()).collect::<Vec<_>>()
        });
        pinger.join().expect("the probe does not panic")
    });
    Spread::of(blocks).expect("blocks were timed").median
}

/// A measurement, its regime, and the round trips before and after it in nanoseconds.
pub struct Probed<T> {
    pub value: T,
    pub regime: LinkRegime,
    pub probes: [f64; 2],
}

/// Probes, measures and probes again; repeats that while the probes disagree.
pub fn with_probe<T, E>(mut measure: impl FnMut() -> Result<T, E>) -> Result<Probed<T>, E> {
    let mut tries = 1..=TRIES;
    loop {
        let last = tries.next() == Some(TRIES);
        let before = round_trip();
        let value = measure()?;
        let probes = [before, round_trip()];
        let [before, after] = probes.map(LinkRegime::of);
        if before == after || last {
            let regime = if before == after { before } else { LinkRegime::Mixed };
            return Ok(Probed { value, regime, probes });
        }
    }
}
