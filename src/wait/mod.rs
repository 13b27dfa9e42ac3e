//! How a blocking call spends its time: polling, then yielding, then asleep in slices, at the end of each of which it asks
//! whether there is anybody left to wait for.

pub(crate) mod poll_backoff;

use std::thread;
use std::time::{Duration, Instant};

use crate::error::{RecvError, SendError, SyncError};
use crate::primitive::{AtomicU32, Ordering, spin_loop};
use crate::raw::Corrupt;
use crate::raw::event_count::EventCount;
use crate::region::Region;
use crate::region::words::Mapped;
use crate::sys::process::online_cores;
use crate::sys::{Deadline, deadline_after};
use crate::wait::poll_backoff::PollBackoff;

/// What a blocking call does while there is nothing to do.
///
/// While there is a lot to do, in a stream without a gap, either side of a pipe or queue may pause for some microseconds now and then,
/// whatever it does otherwise and in `try_` calls, too, so that the two do not work on the same cache lines. Where a look now and then
/// finds nothing, as in a dialogue, nobody does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum WaitStrategy {
    /// Polls without end: the lowest latency, at the price of a core.
    Spin,
    /// Polls for about 2 µs, offers the core to others until about 50 µs, then sleeps. On a machine with one core it
    /// does not poll.
    #[default]
    SpinThenPark,
    /// Sleeps at once: the lowest load, at the price of a wake-up for each wait.
    Park,
}

const SPIN: Duration = Duration::from_micros(2);
const YIELD: Duration = Duration::from_micros(50);

/// Nobody sleeps longer without looking around: it bounds the harm of a wake-up that died with its waker. Nor does who does not sleep ask
/// the kernel more often.
pub(crate) const SLICE: Duration = Duration::from_millis(20);

/// After [`PATIENT`] slices in vain they get longer: a wake-up from a timer can cost 0.1 ms of a virtual machine's time.
const LONG_SLICE: Duration = Duration::from_millis(90);
const PATIENT: u32 = 16;

/// As good as for ever.
const ENDLESS: Duration = Duration::from_secs(1 << 30);

/// 1: see [`make_slices_endless`].
static ARE_ENDLESS: AtomicU32 = AtomicU32::new(0);

/// For tests of wake-ups: from here on no slice ends a sleep of this process. So a wake-up that does not come is a sleep that does not
/// end, instead of one that is a little longer. Nor are deaths heard of any more, but through others.
pub(crate) fn make_slices_endless() {
    ARE_ENDLESS.store(1, Ordering::Relaxed); // nothing is ordered by it
}

/// How long the next sleep is at most, after so many. Asked on the way to sleep only.
fn slice(slices: u32) -> Duration {
    match slices {
        _ if ARE_ENDLESS.load(Ordering::Relaxed) == 1 => ENDLESS,
        ..PATIENT => SLICE,
        _ => LONG_SLICE,
    }
}

/// Glances before a full attempt, and between two looks at the clock.
const POLLS: u32 = 16;

/// Fruitless `try_` calls between two looks at the clock, for a question to the kernel.
const TRIES: u32 = 32;

/// How long an operation may take.
#[derive(Clone, Copy)]
pub(crate) enum Timeout {
    NonBlocking,
    At(Deadline),
}

impl Timeout {
    pub(crate) const NEVER: Self = Self::At(None);

    pub(crate) fn after(timeout: Duration) -> Self {
        Self::At(deadline_after(timeout))
    }

    pub(crate) fn is_past(self) -> bool {
        match self {
            Self::NonBlocking => true,
            Self::At(deadline) => deadline.is_some_and(|deadline| Instant::now() >= deadline),
        }
    }
}

/// How closely an attempt is to look at what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// In passing, while polling: fruitless for any reason, whenever that makes it quicker.
    Probe,
    /// So that who finds nothing may go to sleep.
    Full,
}

impl Attempt {
    /// Whether to go on after a `glance`, which is taken only where it may decide.
    #[inline(always)]
    pub(crate) fn is_worth_it(self, glance: impl FnOnce() -> bool) -> bool {
        self == Self::Full || glance()
    }
}

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Closed,
    PeerDied,
    LockLost,
    TimedOut,
    Corrupt,
}

impl From<WaitEnd> for SendError {
    fn from(stop: WaitEnd) -> Self {
        match stop {
            WaitEnd::Closed => Self::Closed,
            WaitEnd::PeerDied => Self::PeerDied,
            WaitEnd::LockLost => Self::LockLost,
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Corrupt => Self::Corrupt,
        }
    }
}

impl From<WaitEnd> for RecvError {
    fn from(stop: WaitEnd) -> Self {
        match stop {
            WaitEnd::Closed => Self::Closed,
            WaitEnd::PeerDied => Self::PeerDied,
            WaitEnd::LockLost => Self::LockLost,
            WaitEnd::TimedOut => Self::TimedOut,
            WaitEnd::Corrupt => Self::Corrupt,
        }
    }
}

impl From<WaitEnd> for SyncError {
    fn from(stop: WaitEnd) -> Self {
        match stop {
            WaitEnd::LockLost => Self::LockLost,
            WaitEnd::TimedOut => Self::TimedOut,
            // The objects that answer with this have no ends that could be closed.
            WaitEnd::Corrupt | WaitEnd::Closed | WaitEnd::PeerDied => Self::Corrupt,
        }
    }
}

impl From<Corrupt> for SyncError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl From<Corrupt> for SendError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl From<Corrupt> for RecvError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// How a handle waits, and when it last asked.
#[derive(Debug)]
pub(crate) struct WaitState {
    wait: WaitStrategy,
    patience: PollBackoff,
    /// When the kernel was last asked about the others.
    asked: Instant,
    tries: u32,
}

impl WaitState {
    pub(crate) fn new(wait: WaitStrategy, region: &Region) -> Self {
        Self { wait, patience: PollBackoff::new(region), asked: Instant::now(), tries: 0 }
    }

    /// For who waits once, and for no stream of anything.
    pub(crate) fn once(wait: WaitStrategy) -> Self {
        Self { wait, patience: PollBackoff::none(), asked: Instant::now(), tries: 0 }
    }

    pub(crate) fn wait(&self) -> WaitStrategy {
        self.wait
    }

    /// After a fruitless attempt that is not to wait, if it was the first one after a success.
    pub(crate) fn pause_after_run(&mut self, position: u64) {
        if self.patience.has_moved(position) && self.polls() {
            self.patience.had_to_wait = false;
            self.patience.pause(position);
        }
    }

    /// A slice has passed since the last question.
    fn is_time_to_ask(&mut self, now: Instant) -> bool {
        let is_time = now.duration_since(self.asked) >= SLICE;
        if is_time {
            self.asked = now;
        }
        is_time
    }

    /// Whether to begin by polling. On one core the others cannot do anything while we poll.
    fn polls(&self) -> bool {
        self.wait != WaitStrategy::Park && online_cores() > 1
    }
}

/// One who waits for others.
pub(crate) trait Waiter {
    /// The end of those who are waited for, as first seen.
    type End;

    /// What they have written about themselves. It comes before the kernel's word: who closed is not dead.
    fn look(&mut self) -> Option<Self::End>;

    /// What the kernel says about them, as far as it can be found out by the deadline.
    fn ask(&mut self, deadline: Deadline) -> Option<Self::End>;

    /// Whether that end still is one, after an attempt that found nothing.
    fn is_final(&mut self, _end: &Self::End) -> bool {
        true
    }

    /// The caller is being told of this end now.
    fn report(&mut self, end: Self::End) -> WaitEnd;

    /// What to sleep on.
    fn ear(&self) -> &EventCount<Mapped>;

    fn pace(&mut self) -> &mut WaitState;

    /// For how long it only waits for others to come, whose wake-ups it must not take; none: it may sleep among them.
    fn pause(&self) -> Option<Duration> {
        None
    }

    /// It has slept among the others.
    fn slept(&mut self) {}

    /// After a fruitless attempt that was not to wait: why it will stay fruitless, if so.
    #[cold]
    fn stop(&mut self) -> Option<Self::End> {
        let end = self.look();
        if end.is_some() {
            return end;
        }
        let pace = self.pace();
        pace.tries = pace.tries.wrapping_add(1);
        if !pace.tries.is_multiple_of(TRIES) || !pace.is_time_to_ask(Instant::now()) {
            return None;
        }
        self.ask(None)
    }

    /// Tries until it works, the deadline passes, or the others are gone and a last try was fruitless too. `position` is how
    /// many messages this side has dealt with so far.
    #[inline(always)]
    fn wait_for<T, E: From<WaitEnd>>(
        &mut self,
        position: u64,
        deadline: Deadline,
        mut attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        if self.pace().polls() {
            self.pace().patience.pause(position);
            for poll in 0..POLLS {
                if let Some(done) = attempt(Attempt::Probe)? {
                    self.pace().patience.had_to_wait = poll > 0;
                    return Ok(done);
                }
                spin_loop();
            }
            self.pace().patience.had_to_wait = true;
        }
        self.wait_on(deadline, attempt)
    }

    /// The rest of [`wait_for`](Self::wait_for).
    #[cold]
    #[inline(never)]
    fn wait_on<T, E: From<WaitEnd>>(
        &mut self,
        deadline: Deadline,
        mut attempt: impl FnMut(Attempt) -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        let mut started = None;
        let mut polls = 0_u32;
        let mut slices = 0_u32;
        let mut polling = self.pace().polls();
        let wait = self.pace().wait;
        loop {
            let effort = if polling && !polls.is_multiple_of(POLLS) { Attempt::Probe } else { Attempt::Full };
            polls = polls.wrapping_add(1);
            if let Some(done) = attempt(effort)? {
                return Ok(done);
            }
            if effort == Attempt::Probe {
                spin_loop();
                continue;
            }
            let mut end = self.look();
            let mut now = Instant::now();
            if end.is_none() && self.pace().is_time_to_ask(now) {
                end = self.ask(deadline);
                now = Instant::now();
            }
            if let Some(end) = end {
                if let Some(done) = attempt(Attempt::Full)? {
                    return Ok(done);
                }
                if self.is_final(&end) {
                    return Err(self.report(end).into());
                }
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(WaitEnd::TimedOut.into());
            }
            let waited = now.duration_since(*started.get_or_insert(now));
            match wait {
                WaitStrategy::Spin if polling => spin_loop(),
                WaitStrategy::Spin => thread::yield_now(),
                WaitStrategy::SpinThenPark if polling && waited < SPIN => spin_loop(),
                WaitStrategy::SpinThenPark if waited < YIELD => {
                    polling = false;
                    thread::yield_now();
                }
                WaitStrategy::SpinThenPark | WaitStrategy::Park => {
                    polling = false;
                    let rest =
                        |slice: Duration| deadline.map_or(slice, |deadline| slice.min(deadline.duration_since(now)));
                    if let Some(pause) = self.pause() {
                        thread::sleep(rest(pause));
                        continue;
                    }
                    let ticket = self.ear().listen();
                    if let Some(done) = attempt(Attempt::Full)? {
                        return Ok(done);
                    }
                    if self.pause().is_none() && self.look().is_none() {
                        self.ear().wait(ticket, rest(slice(slices)));
                        slices = slices.saturating_add(1);
                        self.slept();
                    }
                }
            }
        }
    }
}
