//! Events for subscribers of `tracing`, behind the feature of that name. Without it all this is
//! nothing.
//!
//! The region that a process makes has no name yet when that process joins.
//!
//! No event is made on a path that does not wait, join or repair, nor in a signal handler, while a
//! process exits, or for a forked child's copy of a handle.

#[cfg(not(feature = "tracing"))]
pub(crate) use disabled::*;
#[cfg(feature = "tracing")]
pub(crate) use enabled::*;

#[cfg(feature = "tracing")]
mod enabled {
    use std::ops::Range;
    use std::time::{Duration, Instant};

    use crate::region::Region;
    use crate::region::participant::ParticipantStatus;

    const TARGET: &str = "tombolo";

    /// A wait that sleeps for longer than this is worth an event.
    const LONG_WAIT: Duration = Duration::from_secs(1);

    /// An event about a participant. The process is the one that the record names.
    macro_rules! participant_event {
        ($level:ident, $region:expr, $index:expr, $($rest:tt)+) => {
            tracing::$level!(
                target: TARGET,
                region = %$region.display_name(),
                kind = ?$region.layout().kind(),
                participant = $index,
                pid = $region.participants().pid($index),
                $($rest)+
            )
        };
    }

    pub(crate) fn joined(region: &Region, index: usize, role: u64) {
        participant_event!(debug, region, index, role, "joined");
    }

    pub(crate) fn left(region: &Region, index: usize) {
        participant_event!(debug, region, index, "left");
    }

    /// A call is about to report it.
    pub(crate) fn peer_died(region: &Region, index: usize) {
        participant_event!(warn, region, index, "the process of the peer died");
    }

    /// All peers of a call are gone, and some of them died: those of `peers` that the kernel calls
    /// dead.
    pub(crate) fn peers_died(region: &Region, peers: Range<usize>) {
        let participants = region.participants();
        let is_dead = |&index: &usize| participants.status(index) == ParticipantStatus::Dead;
        peers.filter(is_dead).for_each(|index| peer_died(region, index));
    }

    /// What a participant had is released that died, or exited in the middle of something.
    pub(crate) fn repaired(region: &Region, index: usize) {
        participant_event!(warn, region, index, "a process is gone, and what it held is released");
    }

    /// A call is about to report it. It does not know the region.
    pub(crate) fn corrupt() {
        tracing::warn!(target: TARGET, "another process wrote invalid data into the region");
    }

    /// One wait, with an event when it has been long, and another one at its end then.
    pub(crate) struct LongWait {
        since: Option<Instant>,
        is_reported: bool,
    }

    impl LongWait {
        pub(crate) fn new() -> Self {
            Self { since: None, is_reported: false }
        }

        /// Call after each sleep, with the time when the wait began.
        pub(crate) fn note_sleep(&mut self, began: Option<Instant>) {
            self.since = began;
            if !self.is_reported && self.time() >= LONG_WAIT {
                self.is_reported = true;
                tracing::debug!(target: TARGET, waited_ms = self.time().as_millis() as u64, "waits long");
            }
        }

        fn time(&self) -> Duration {
            self.since.map_or(Duration::ZERO, |since| since.elapsed())
        }
    }

    impl Drop for LongWait {
        fn drop(&mut self) {
            if self.is_reported {
                tracing::debug!(target: TARGET, waited_ms = self.time().as_millis() as u64, "a long wait ended");
            }
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod disabled {
    use std::ops::Range;
    use std::time::Instant;

    use crate::region::Region;

    #[inline(always)]
    pub(crate) fn joined(_: &Region, _: usize, _: u64) {}

    #[inline(always)]
    pub(crate) fn left(_: &Region, _: usize) {}

    #[inline(always)]
    pub(crate) fn peer_died(_: &Region, _: usize) {}

    #[inline(always)]
    pub(crate) fn peers_died(_: &Region, _: Range<usize>) {}

    #[inline(always)]
    pub(crate) fn repaired(_: &Region, _: usize) {}

    #[inline(always)]
    pub(crate) fn corrupt() {}

    pub(crate) struct LongWait;

    impl LongWait {
        #[inline(always)]
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) fn note_sleep(&mut self, _: Option<Instant>) {}
    }
}
