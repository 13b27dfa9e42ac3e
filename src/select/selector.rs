//! The wait for any of several sources.
//!
//! A wake-up can be spent on a selector which then returns another source. Then the selector passes
//! it on: invariant I6 of `raw/event_count.rs`.

use std::time::{Duration, Instant};

use crate::error::SelectError;
use crate::interrupt::Interrupts;
use crate::raw::event_count::{EventCount, Key};
use crate::region::words::Mapped;
use crate::sys::clock::Deadline;
use crate::sys::futex::MAX_WORDS;
use crate::sys::poll::{PollFd, PollFlags, Polled, poll};
use crate::wait::source::Source;
use crate::wait::{Attempt, LIVENESS_INTERVAL, Phases, Timeout, WaitStrategy, WakeFd, until};

/// Event counts on which a sleep can be at once. One word is for interrupts.
const MAX_EVENTS: usize = MAX_WORDS - 1;

/// How long a sleep may last that not every source can end.
const SHORT_SLEEP: Duration = Duration::from_millis(1);

/// Sources about whose peers the kernel is asked in one liveness interval.
const MAX_CHECKS: usize = 32;

/// Calls between two readings of the clock, for a liveness check.
const CALLS_PER_CHECK: u32 = 256;

/// Waits until one of several sources is ready. See the [module](crate::select).
///
/// Each wait is given its sources, and returns an index into that list. The next wait may have
/// others, in another order. A selector keeps none of them: it remembers only whose turn it is.
#[derive(Debug)]
pub struct Selector {
    wait: WaitStrategy,
    is_fair: bool,
    /// The source to look at first.
    first: usize,
    /// The source that gets a full attempt while the others get probes.
    full: usize,
    /// The source to check next, when the last check was, and calls so far.
    next_check: usize,
    last_check: Instant,
    calls: u32,
    /// Of the event counts of all sources.
    keys: Vec<Key>,
    /// Whether the last sleep may have got a wake-up.
    has_slept: bool,
    /// Ends sleeps beside descriptors. Made when it is needed.
    wake_fd: Option<WakeFd>,
}

type Sources<'a, 'b> = [&'a mut (dyn Source + 'b)];

impl Selector {
    /// Makes a selector that lets all sources take turns: each wait checks first the source behind
    /// the one that it returned last.
    pub fn new() -> Self {
        Self {
            wait: WaitStrategy::default(),
            is_fair: true,
            first: 0,
            full: 0,
            next_check: 0,
            last_check: Instant::now(),
            calls: 0,
            keys: Vec::new(),
            has_slept: false,
            wake_fd: None,
        }
    }

    /// Makes a selector that prefers earlier sources: it returns the first one that is ready. While
    /// that one stays ready, the later ones are never returned.
    pub fn in_order() -> Self {
        Self { is_fair: false, ..Self::new() }
    }

    /// Chooses what a wait does while nothing is ready. The strategies of the sources do not
    /// matter.
    #[must_use]
    pub fn wait_strategy(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Waits until a source is ready. Returns its index.
    ///
    /// # Blocking
    /// Blocks while no source is ready. If one is, it makes no system call.
    ///
    /// # Errors
    /// - [`NoSources`](SelectError::NoSources): the list is empty.
    /// - [`Interrupted`](SelectError::Interrupted): the [handle](crate::InterruptHandle) of this
    ///   thread ended the wait.
    ///
    /// The end of a source is no error here: the source is ready, and its `try_` call returns why.
    ///
    /// # Examples
    /// ```
    /// use tombolo::select::Selector;
    /// use tombolo::{RecvError, pipe};
    ///
    /// let (tx, mut rx) = pipe::Options::<u64>::new().create()?;
    /// let (mut other_tx, mut other_rx) = pipe::Options::<u64>::new().create()?;
    /// other_tx.send(1)?;
    /// let mut selector = Selector::in_order();
    /// assert_eq!(selector.wait(&mut [&mut rx, &mut other_rx]), Ok(1));
    /// drop(tx); // or its process dies
    /// assert_eq!(selector.wait(&mut [&mut rx, &mut other_rx]), Ok(0));
    /// assert_eq!(rx.try_recv(), Err(RecvError::Closed));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn wait(&mut self, sources: &mut Sources<'_, '_>) -> Result<usize, SelectError> {
        self.wait_within(sources, || Timeout::UNLIMITED)
    }

    /// Like [`wait`](Self::wait), but returns [`NotReady`](SelectError::NotReady) instead of
    /// blocking.
    #[inline]
    pub fn try_wait(&mut self, sources: &mut Sources<'_, '_>) -> Result<usize, SelectError> {
        self.wait_within(sources, || Timeout::NonBlocking)
    }

    /// Like [`wait`](Self::wait), but returns [`TimedOut`](SelectError::TimedOut) after `timeout`.
    #[inline]
    pub fn wait_timeout(&mut self, sources: &mut Sources<'_, '_>, timeout: Duration) -> Result<usize, SelectError> {
        self.wait_within(sources, || Timeout::after(timeout))
    }

    /// Like [`wait`](Self::wait), but returns [`TimedOut`](SelectError::TimedOut) at `deadline`.
    /// With `None` it never does.
    #[inline]
    pub fn wait_deadline(
        &mut self,
        sources: &mut Sources<'_, '_>,
        deadline: Option<Instant>,
    ) -> Result<usize, SelectError> {
        self.wait_within(sources, || Timeout::At(deadline))
    }

    #[inline]
    fn wait_within(
        &mut self,
        sources: &mut Sources<'_, '_>,
        timeout: impl FnOnce() -> Timeout,
    ) -> Result<usize, SelectError> {
        self.calls = self.calls.wrapping_add(1);
        if self.calls.is_multiple_of(CALLS_PER_CHECK) {
            self.check_while_busy(sources);
        }
        if let Some(found) = self.find(sources, Attempt::Probe) {
            return Ok(found);
        }
        if sources.is_empty() {
            return Err(SelectError::NoSources);
        }
        match timeout() {
            Timeout::NonBlocking => self.try_slow(sources),
            Timeout::At(deadline) => self.wait_slow(sources, deadline),
        }
    }

    /// Returns a source that is ready.
    #[inline]
    fn find(&mut self, sources: &mut Sources<'_, '_>, attempt: Attempt) -> Option<usize> {
        let count = sources.len();
        let first = if self.first < count { self.first } else { 0 };
        let full = if self.full < count { self.full } else { 0 };
        self.full = full + 1;
        for offset in 0..count {
            let index = if first + offset < count { first + offset } else { first + offset - count };
            let source = sources.get_mut(index)?;
            // However busy the others are, each source gets a full attempt now and then. In order,
            // an earlier one must not be missed.
            let is_full = attempt == Attempt::Full || !self.is_fair || offset == 0 || index == full;
            if (is_full || source.is_ready(Attempt::Probe)) && source.is_ready(Attempt::Full) {
                if self.is_fair {
                    self.first = index + 1;
                }
                return Some(index);
            }
        }
        None
    }

    /// Some sources may be so busy that no call ever waits. A death is noticed all the same.
    #[cold]
    fn check_while_busy(&mut self, sources: &mut Sources<'_, '_>) {
        if self.is_check_due(Instant::now()) {
            self.check_liveness(sources, None);
        }
    }

    #[cold]
    fn try_slow(&mut self, sources: &mut Sources<'_, '_>) -> Result<usize, SelectError> {
        self.find(sources, Attempt::Full).ok_or(SelectError::NotReady)
    }

    #[cold]
    #[inline(never)]
    fn wait_slow(&mut self, sources: &mut Sources<'_, '_>, deadline: Deadline) -> Result<usize, SelectError> {
        self.has_slept = false;
        let outcome = self.wait_on(sources, deadline);
        if self.has_slept {
            self.pass_on(sources, outcome.ok());
        }
        outcome
    }

    fn wait_on(&mut self, sources: &mut Sources<'_, '_>, deadline: Deadline) -> Result<usize, SelectError> {
        let mut phases = Phases::new(self.wait);
        let interrupts = Interrupts::of_this_thread();
        loop {
            let kind = phases.next_attempt();
            if let Some(found) = self.find(sources, kind) {
                return Ok(found);
            }
            if kind == Attempt::Probe {
                std::hint::spin_loop();
                continue;
            }
            let mut now = Instant::now();
            if self.is_check_due(now) {
                self.check_liveness(sources, deadline);
                if let Some(found) = self.find(sources, Attempt::Full) {
                    return Ok(found);
                }
                now = Instant::now();
            }
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(SelectError::TimedOut);
            }
            if interrupts.take() {
                return Err(SelectError::Interrupted);
            }
            if phases.pause(now) {
                continue;
            }
            sources.iter_mut().for_each(|source| source.before_sleep());
            let due = sources.iter().filter_map(|source| source.due()).min();
            let limit = until(due, now, phases.sleep_limit(now, deadline));
            self.has_slept = false;
            EventCount::listen_to_all(events(sources), &mut self.keys);
            if let Some(found) = self.find(sources, Attempt::Full) {
                return Ok(found);
            }
            self.sleep(sources, &interrupts, limit);
            phases.count_sleep();
            sources.iter_mut().for_each(|source| source.on_wake());
        }
    }

    /// Sleeps until an event of a source is notified, or a descriptor of one is ready.
    fn sleep(&mut self, sources: &Sources<'_, '_>, interrupts: &Interrupts, limit: Duration) {
        self.has_slept = true;
        let descriptors: Vec<_> = sources.iter().filter_map(|source| source.descriptor()).collect();
        if !descriptors.is_empty() {
            return self.poll(sources, descriptors, interrupts, limit);
        }
        let events = events(sources).zip(self.keys.iter().copied());
        match self.keys.len() {
            0 => interrupts.sleep(limit),
            1 => events.for_each(|(event, key)| interrupts.wait(event, key, limit)),
            count => {
                // The others end none of the sleeps that follow. Each has its turn.
                let skip = if count > MAX_EVENTS { self.full % count } else { 0 };
                let limit = if count > MAX_EVENTS { limit.min(SHORT_SLEEP) } else { limit };
                let is_supported = interrupts.wait_any(events.clone().skip(skip).take(MAX_EVENTS), limit);
                if !is_supported && let Some((event, key)) = events.clone().nth(self.full % count) {
                    interrupts.wait(event, key, limit.min(SHORT_SLEEP));
                }
            }
        }
    }

    /// Sleeps as [`sleep`](Self::sleep) does, with descriptors among the sources. The kernel cannot
    /// sleep on those and on words at once, so the waiter thread sleeps on the words, and makes one
    /// more descriptor readable.
    fn poll<'a>(
        &'a mut self,
        sources: &'a Sources<'_, '_>,
        mut descriptors: Vec<PollFd<'a>>,
        interrupts: &Interrupts,
        limit: Duration,
    ) {
        let mut limit = until(interrupts.soon(None), Instant::now(), limit);
        let mut registrations = None;
        if !self.keys.is_empty() {
            self.wake_fd = self.wake_fd.take().filter(WakeFd::is_from_this_process).or_else(|| WakeFd::new().ok());
            if let Some(wake_fd) = self.wake_fd.as_ref().filter(|_| self.keys.len() <= MAX_EVENTS) {
                registrations = wake_fd.register(events(sources).zip(self.keys.iter().copied())).ok();
                descriptors.push(PollFd::new(wake_fd, PollFlags::IN));
            }
            if registrations.is_none() {
                limit = limit.min(SHORT_SLEEP);
            }
        }
        match poll(&mut descriptors, limit) {
            Polled::Looked => {}
            Polled::Interrupted => interrupts.note_signal(),
            Polled::Refused => interrupts.sleep(limit.min(SHORT_SLEEP)), // each is looked at by itself
        }
        // Before wake-ups are passed on: the waiter thread passes on what it gets from here on.
        drop(registrations);
    }

    /// Wakes others by the wake-ups that this selector may have got and does not use: of all
    /// sources but the one that was found, and of that one if its attempt lets waiters go first.
    fn pass_on(&self, sources: &Sources<'_, '_>, found: Option<usize>) {
        let mut keys = self.keys.iter();
        for (index, source) in sources.iter().enumerate() {
            for (event, key) in events_of(&**source).zip(&mut keys) {
                if Some(index) != found || event.no_barging() {
                    event.pass_on(*key);
                }
            }
        }
    }

    fn is_check_due(&mut self, now: Instant) -> bool {
        let is_due = now.duration_since(self.last_check) >= LIVENESS_INTERVAL;
        if is_due {
            self.last_check = now;
        }
        is_due
    }

    /// Asks the kernel about the peers of some sources, in turn. Those without any are ready then.
    fn check_liveness(&mut self, sources: &mut Sources<'_, '_>, deadline: Deadline) {
        for _ in 0..sources.len().min(MAX_CHECKS) {
            let index = if self.next_check < sources.len() { self.next_check } else { 0 };
            self.next_check = index + 1;
            let Some(source) = sources.get_mut(index) else { return };
            source.check_liveness(deadline);
            if Timeout::At(deadline).is_past() {
                return; // the next call goes on
            }
        }
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::new()
    }
}

/// The event counts of all sources, in order.
fn events<'a>(sources: &'a Sources<'_, '_>) -> impl Iterator<Item = &'a EventCount<Mapped>> + Clone {
    sources.iter().flat_map(|source| events_of(&**source))
}

fn events_of<'a>(source: &'a (dyn Source + '_)) -> impl Iterator<Item = &'a EventCount<Mapped>> + Clone {
    (0..).map_while(move |index| source.event(index))
}
