//! The part of a turn in which no participant waited for its CPU.
//!
//! A participant that another process keeps from its CPU says nothing about the object, and the
//! owner of a lock that is preempted measures the scheduler. The kernel counts how long each thread
//! was ready to run but did not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Length of an interval.
pub const INTERVAL: Duration = Duration::from_millis(1);

/// Share of an interval that a participant may wait for its CPU.
const TOLERATED: f64 = 0.05;

/// One interval of a turn.
pub struct Interval {
    pub elapsed: Duration,
    /// What each participant has done in it.
    pub ops: Vec<u64>,
    /// How long each had waited for a CPU, in nanoseconds, when it last got one in this interval.
    pub delays: Vec<u64>,
}

/// Reads how long a thread has waited for a CPU so far.
pub struct Delay(Option<File>);

impl Delay {
    pub fn of(thread: u32) -> Self {
        Self(File::open(format!("/proc/{thread}/schedstat")).ok())
    }

    /// Returns 0 where the kernel does not say.
    pub fn nanos(&self) -> u64 {
        let mut text = [0; 64];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// Returns for each interval whether it was undisturbed.
pub fn undisturbed(intervals: &[Interval]) -> Vec<bool> {
    let mut undisturbed = vec![true; intervals.len()];
    let participants = intervals.first().map_or(0, |interval| interval.delays.len());
    for participant in 0..participants {
        // A wait is known when it is over, and may have begun some intervals before.
        let mut earlier = 0;
        for (interval, undisturbed) in intervals.iter().zip(&mut undisturbed).rev() {
            let waited = earlier + interval.delays[participant];
            let elapsed = interval.elapsed.as_nanos() as u64;
            *undisturbed &= waited as f64 <= TOLERATED * elapsed as f64;
            earlier = waited.saturating_sub(elapsed);
        }
    }
    undisturbed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_over_several_intervals_disturbs_all_of_them() {
        let interval = |millis: f64| {
            let delays = vec![0, (millis * 1e6) as u64];
            Interval { elapsed: INTERVAL, ops: vec![1, 1], delays }
        };
        assert_eq!(undisturbed(&[interval(0.0), interval(0.0), interval(0.01)]), [true, true, true]);
        assert_eq!(undisturbed(&[interval(0.0), interval(0.5), interval(0.0)]), [true, false, true]);
        assert_eq!(undisturbed(&[interval(0.0), interval(0.0), interval(1.5)]), [true, false, false]);
    }
}
