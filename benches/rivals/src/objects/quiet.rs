//! Which parts of a turn nobody else disturbed.
//!
//! A participant that another process keeps from its CPU says nothing about the object, and a turn in which one
//! holds a lock meanwhile says less than nothing. The kernel counts how long each thread was ready to run and did not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Length of a part.
pub const PART: Duration = Duration::from_millis(1);

/// For so small a share of a part anybody may have waited for a CPU.
const TOLERATED: f64 = 0.05;

/// One part of a turn.
pub struct Part {
    pub elapsed: Duration,
    /// What each participant has done in it.
    pub ops: Vec<u64>,
    /// How long each had waited for a CPU, in nanoseconds, when it last got one in this part.
    pub delays: Vec<u64>,
}

/// Reads how long a thread has waited for a CPU so far.
pub struct Delay(Option<File>);

impl Delay {
    pub fn of(thread: u32) -> Self {
        Self(File::open(format!("/proc/{thread}/schedstat")).ok())
    }

    /// Zero where the kernel does not say.
    pub fn nanos(&self) -> u64 {
        let mut text = [0; 64];
        let length = self.0.as_ref().and_then(|file| file.read_at(&mut text, 0).ok()).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        text.split_ascii_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// Which parts were undisturbed.
pub fn are_quiet(parts: &[Part]) -> Vec<bool> {
    let mut quiet = vec![true; parts.len()];
    let participants = parts.first().map_or(0, |part| part.delays.len());
    for participant in 0..participants {
        // A wait is known when it is over, and may have begun parts before.
        let mut earlier = 0;
        for (part, quiet) in parts.iter().zip(&mut quiet).rev() {
            let waited = earlier + part.delays[participant];
            let elapsed = part.elapsed.as_nanos() as u64;
            *quiet &= waited as f64 <= TOLERATED * elapsed as f64;
            earlier = waited.saturating_sub(elapsed);
        }
    }
    quiet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_spoils_the_parts_that_it_went_on_in() {
        let part = |millis: f64| {
            let delays = vec![0, (millis * 1e6) as u64];
            Part { elapsed: PART, ops: vec![1, 1], delays }
        };
        assert_eq!(are_quiet(&[part(0.0), part(0.0), part(0.01)]), [true, true, true]);
        assert_eq!(are_quiet(&[part(0.0), part(0.5), part(0.0)]), [true, false, true]);
        assert_eq!(are_quiet(&[part(0.0), part(0.0), part(1.5)]), [true, false, false]);
    }
}
