//! Which stores carry large payloads: into the cache or past it.
//!
//! Two cores that share a fast path move lines between their caches at tens of GiB/s, and stores past the
//! cache would cost a third of that. Two cores that sit far apart move lines eight times slower than memory does. Which of the
//! two this machine is, now, cannot be asked (a hypervisor moves CPUs about), so it is measured while
//! sending: now and then a window of messages goes the other way, and the faster way wins.
//! docs/decisions/0002-non-temporal-stores.md has the figures.

use std::time::{Duration, Instant};

use crate::raw::spsc::value_ring::StoreKind;

/// Below this many bytes a message stays in the cache.
const LARGE: usize = 4096;

/// A trial must beat its neighbours by a quarter; noise does not.
const CLEARLY: f64 = 1.25;

/// Windows between two trials.
const SELDOM: u32 = 512;
const OFTEN: u32 = 16;

pub(crate) struct StorePolicy {
    favourite: StoreKind,
    /// Bytes in a window: half for the ring's old content to pass, half to measure.
    half: usize,
    sent: usize,
    started: Option<Instant>,
    /// Time that the favourite took for its last window.
    before: Option<Duration>,
    /// Time that a trial just took, to be confirmed by the favourite's next window.
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
            favourite: StoreKind::Temporal,
            half: ring_bytes.max(1 << 20),
            sent: 0,
            started: None,
            before: None,
            trial: Trial::None,
            windows: 0,
            interval: OFTEN,
        }
    }

    /// How to store a message of so many bytes.
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
            self.window_took(started.elapsed());
            (self.sent, self.started) = (0, None);
        }
        match self.trial {
            Trial::Running => other(self.favourite),
            _ => self.favourite,
        }
    }

    /// A trial counts only between two windows of the favourite, each of which it must beat.
    fn window_took(&mut self, took: Duration) {
        match self.trial {
            Trial::Running => self.trial = Trial::Took(took),
            Trial::Took(trial) => {
                let beats = |rival: Duration| rival.as_secs_f64() > CLEARLY * trial.as_secs_f64();
                if beats(took) && self.before.is_some_and(beats) {
                    self.favourite = other(self.favourite);
                    self.interval = OFTEN;
                } else {
                    self.interval = (self.interval * 2).min(SELDOM);
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

    /// Feeds windows whose duration depends on the stores in use; says which are the favourite in the end.
    fn settle(chooser: &mut StorePolicy, cached: u64, streamed: u64, windows: usize) -> StoreKind {
        for _ in 0..windows {
            let now = if chooser.trial == Trial::Running { other(chooser.favourite) } else { chooser.favourite };
            chooser.window_took(Duration::from_micros(if now == StoreKind::Temporal { cached } else { streamed }));
        }
        chooser.favourite
    }

    #[test]
    fn the_faster_way_wins_and_wins_again_when_the_machine_changes() {
        let mut chooser = StorePolicy::new(1 << 20);
        assert_eq!(settle(&mut chooser, 100, 300, 5000), StoreKind::Temporal);
        assert_eq!(settle(&mut chooser, 800, 100, 5000), StoreKind::NonTemporal);
        assert_eq!(settle(&mut chooser, 100, 300, 5000), StoreKind::Temporal);
        assert_eq!(settle(&mut chooser, 110, 100, 5000), StoreKind::Temporal, "a tenth is noise");
    }

    #[test]
    fn small_messages_are_never_streamed_nor_counted() {
        let mut chooser = StorePolicy::new(0);
        chooser.favourite = StoreKind::NonTemporal;
        assert_eq!(chooser.choose(LARGE - 1), StoreKind::Temporal);
        assert_eq!(chooser.sent, 0);
        assert_eq!(chooser.choose(LARGE), StoreKind::NonTemporal);
    }
}
