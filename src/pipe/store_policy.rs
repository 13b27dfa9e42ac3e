//! Which stores a sender uses for large payloads: into the cache, or past it.
//!
//! Two cores that share a fast path move lines between their caches at tens of GiB/s. Stores past
//! the cache would cost a third of that. Two cores that are far apart move lines eight times slower
//! than memory does. A process cannot ask which of the two it runs on, because a hypervisor moves
//! CPUs about. So the sender measures it: now and then it sends a window of messages the other way,
//! and the faster way wins. docs/decisions/0002-non-temporal-stores.md has the measurements.

use std::time::{Duration, Instant};

use crate::raw::spsc::value_ring::StoreKind;

/// Below this many bytes a message stays in the cache.
pub(crate) const LARGE: usize = 4096;

/// A trial must beat its neighbours by a quarter. Noise does not.
const MIN_GAIN: f64 = 1.25;

/// Windows between two trials. The number doubles from the minimum with each trial that fails.
const MIN_INTERVAL: u32 = 16;
const MAX_INTERVAL: u32 = 512;

pub(crate) struct StorePolicy {
    current: StoreKind,
    /// Half the bytes of a window. During the first half the old content of the ring passes, the
    /// second half is measured.
    half: usize,
    sent: usize,
    started: Option<Instant>,
    /// How long the last window of the current kind took.
    before: Option<Duration>,
    /// How long a trial just took. The next window of the current kind has to confirm it.
    trial: Trial,
    windows: u32,
    interval: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Trial {
    None,
    Running,
    Took(Duration),
}

impl StorePolicy {
    pub(crate) fn new(ring_bytes: usize) -> Self {
        Self {
            current: StoreKind::Temporal,
            half: ring_bytes.max(1 << 20),
            sent: 0,
            started: None,
            before: None,
            trial: Trial::None,
            windows: 0,
            interval: MIN_INTERVAL,
        }
    }

    /// The kind of stores for a message of this many bytes.
    #[inline]
    pub(crate) fn choose(&mut self, bytes: usize) -> StoreKind {
        if bytes < LARGE { StoreKind::Temporal } else { self.choose_large(bytes) }
    }

    fn choose_large(&mut self, bytes: usize) -> StoreKind {
        self.sent += bytes;
        if self.started.is_none() && self.sent >= self.half {
            self.started = Some(Instant::now());
        }
        if let (true, Some(started)) = (self.sent >= 2 * self.half, self.started) {
            self.record_window(started.elapsed());
            (self.sent, self.started) = (0, None);
        }
        match self.trial {
            Trial::Running => other(self.current),
            _ => self.current,
        }
    }

    /// A trial counts only between two windows of the current kind. It must beat both.
    fn record_window(&mut self, took: Duration) {
        match self.trial {
            Trial::Running => self.trial = Trial::Took(took),
            Trial::Took(trial) => {
                let beats = |rival: Duration| rival.as_secs_f64() > MIN_GAIN * trial.as_secs_f64();
                if beats(took) && self.before.is_some_and(beats) {
                    self.current = other(self.current);
                    self.interval = MIN_INTERVAL;
                } else {
                    self.interval = (self.interval * 2).min(MAX_INTERVAL);
                }
                (self.trial, self.before, self.windows) = (Trial::None, None, 0);
            }
            Trial::None => {
                self.before = Some(took);
                self.windows += 1;
                if self.windows >= self.interval {
                    self.trial = Trial::Running;
                }
            }
        }
    }
}

fn other(stores: StoreKind) -> StoreKind {
    match stores {
        StoreKind::Temporal => StoreKind::NonTemporal,
        StoreKind::NonTemporal => StoreKind::Temporal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records windows whose duration depends on the stores in use. Returns the kind in the end.
    fn settle(policy: &mut StorePolicy, cached: u64, streamed: u64, windows: usize) -> StoreKind {
        for _ in 0..windows {
            let now = if policy.trial == Trial::Running { other(policy.current) } else { policy.current };
            policy.record_window(Duration::from_micros(if now == StoreKind::Temporal { cached } else { streamed }));
        }
        policy.current
    }

    #[test]
    fn store_policy_machine_changes_faster_kind_wins_again() {
        let mut policy = StorePolicy::new(1 << 20);
        assert_eq!(settle(&mut policy, 100, 300, 5000), StoreKind::Temporal);
        assert_eq!(settle(&mut policy, 800, 100, 5000), StoreKind::NonTemporal);
        assert_eq!(settle(&mut policy, 100, 300, 5000), StoreKind::Temporal);
        assert_eq!(settle(&mut policy, 110, 100, 5000), StoreKind::Temporal, "a tenth is noise");
    }

    #[test]
    fn store_policy_small_message_is_cached_and_not_counted() {
        let mut policy = StorePolicy::new(0);
        policy.current = StoreKind::NonTemporal;
        assert_eq!(policy.choose(LARGE - 1), StoreKind::Temporal);
        assert_eq!(policy.sent, 0);
        assert_eq!(policy.choose(LARGE), StoreKind::NonTemporal);
    }
}
