//! A handle of an object, and waiting for one: for a lock, a permit, a meeting, news.
//!
//! Fairness: a newcomer may take what is free before those who wait, which is quick, but only until one of them has waited for a millisecond:
//! then it bars the object. Newcomers stand back until the bar is lifted by whoever gets it, or until the object was free for a millisecond
//! and nobody came; or they lie down to sleep among the others, whom the kernel wakes in that order. Who polls is quicker than
//! all who sleep, so it leaves them one chance before its own. Thus nobody starves; and a waiter that was killed or stopped delays
//! the others by no more than that millisecond, and those whose calls do not wait for as long by 20 ms.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Result, SyncError};
use crate::object::member::{Local, Membership};
use crate::object::table::{EVENT, Entry, ObjectSpec};
use crate::primitive::{Ordering, spin_loop};
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::{History, RobustLock};
use crate::region::words::{Mapped, Word, Words};
use crate::sys::{clock::Deadline, membarrier, process};
use crate::wait::{Timeout, WaitEnd, WaitState, WaitStrategy, Waiter};

/// An object of a namespace, as this process holds on to it.
#[derive(Clone)]
pub struct Handle {
    pub(crate) member: Arc<Membership>,
    /// Number of the object.
    pub(crate) object: usize,
    /// Its first word.
    at: usize,
    pub(crate) plan: ObjectSpec,
    pub(crate) wait: WaitStrategy,
}

impl Handle {
    pub(crate) fn new(member: Arc<Membership>, object: usize, entry: &Entry, wait: WaitStrategy) -> Self {
        let (at, plan) = (entry.at, entry.plan);
        Self { member, object, at, plan, wait }
    }

    /// None: no such object, which whoever made the handle has seen to.
    pub(crate) fn entry(&self) -> Option<&Entry> {
        self.member.table().entries.get(self.object)
    }

    pub(crate) fn word(&self, at: usize) -> Word {
        self.member.region().word(self.at + at)
    }

    pub(crate) fn words(&self, at: usize, length: usize) -> Words {
        self.member.region().words(self.at + at, length)
    }

    /// Something to sleep on.
    pub(crate) fn event(&self, at: usize) -> EventCount<Mapped> {
        let event = EventCount::new(self.member.region().futex(self.at + at));
        if !membarrier::register() {
            event.require_fences();
        }
        event
    }

    pub(crate) fn lanes(&self) -> usize {
        self.member.region().layout().participants()
    }

    #[inline(always)]
    pub(crate) fn check_ours(&self) -> Result<(), SyncError> {
        if self.member.is_from_this_process() { Ok(()) } else { Err(SyncError::Forked) }
    }

    /// Attempts until it works, `until` passes, or nothing can come of it. `ask` asks the kernel about those who are waited for.
    pub(crate) fn attempt<T>(
        &self,
        ear: &EventCount<Mapped>,
        until: Timeout,
        ask: impl FnMut() -> Option<WaitEnd>,
        attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        self.attempt_at(&FairTurn::default(), ear, until, ask, attempt)
    }

    fn attempt_at<T>(
        &self,
        turn: &FairTurn,
        ear: &EventCount<Mapped>,
        until: Timeout,
        mut ask: impl FnMut() -> Option<WaitEnd>,
        mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        let outcome = match until {
            Timeout::NonBlocking => attempt()?.ok_or(SyncError::WouldBlock),
            Timeout::At(deadline) => {
                let mut waiting = ObjectWaiter { ear, pace: WaitState::for_one_wait(self.wait), ask: &mut ask, turn };
                waiting.wait_for(0, deadline, |_| attempt())
            }
        };
        // Too short a wait to have asked about anybody, or to have come before newcomers: both is done now and then, and one more attempt.
        match outcome {
            Err(error @ (SyncError::WouldBlock | SyncError::TimedOut)) if self.member.is_time_to_ask(self.object) => {
                turn.comes_first.set(true);
                match ask() {
                    Some(stop) => Err(stop.into()),
                    None => attempt()?.ok_or(error),
                }
            }
            outcome => outcome,
        }
    }

    /// As [`attempt`](Self::attempt) for what only so many can have, in fairness to those who have waited longer: they bar `gate`, on which
    /// they sleep. Who sleeps elsewhere bars nobody. `is_free` says whether there is something to be had.
    #[cold]
    pub(crate) fn attempt_in_turn<T>(
        &self,
        ear: &EventCount<Mapped>,
        gate: &EventCount<Mapped>,
        until: Timeout,
        is_free: impl Fn() -> bool,
        ask: impl FnMut() -> Option<WaitEnd>,
        mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        let began = Instant::now();
        let turn = FairTurn::default();
        let mut pause = 1_u32;
        let in_turn = || {
            let barred = gate.no_barging();
            if !turn.may_attempt(barred, gate, &is_free) {
                return Ok(None);
            }
            let got = attempt()?;
            let bars = ptr::eq(ear, gate);
            // A bar that keeps from others what is of no use here may be nobody's.
            if barred && (got.is_some() || !bars && is_free()) {
                gate.set_no_barging(false);
            }
            if got.is_some() {
                return Ok(got);
            }
            if !turn.comes_first.get() {
                for _ in 0..pause {
                    spin_loop();
                }
                pause = (2 * pause).min(PAUSE_MOST);
            }
            if !barred && bars && began.elapsed() >= OVERTAKEN {
                gate.set_no_barging(true);
                turn.has_barred.set(true);
            }
            Ok(None)
        };
        let outcome = self.attempt_at(&turn, ear, until, ask, in_turn);
        if outcome.is_err() && turn.has_barred.get() {
            gate.set_no_barging(false);
        }
        outcome
    }
}

const PAUSE_MOST: u32 = 32;

/// How long newcomers may overtake.
const OVERTAKEN: Duration = Duration::from_millis(1);

/// How far one who waits has got.
#[derive(Default)]
struct FairTurn {
    /// It is a newcomer no more: it has slept among the others.
    comes_first: Cell<bool>,
    /// It has barred the gate. One that polls is quicker than all who sleep, and leaves them one chance before its own.
    has_barred: Cell<bool>,
    has_left_one: Cell<bool>,
    /// Since when it has left to others what there is.
    stands_back: Cell<Option<Instant>>,
}

impl FairTurn {
    /// False: others come first. Only time counts in which they could have had it, and did not come.
    fn may_attempt(&self, barred: bool, gate: &EventCount<Mapped>, is_free: impl Fn() -> bool) -> bool {
        let has_barred = || self.has_barred.get() && (self.has_left_one.get() || !gate.has_waiters());
        let free = !barred || is_free();
        if !barred || !free {
            let left = self.stands_back.take().is_some();
            self.has_left_one.set(left || self.has_left_one.get());
        }
        if !barred || self.comes_first.get() || has_barred() {
            return true;
        }
        if !free {
            return false;
        }
        let since = self.stands_back.get().unwrap_or_else(Instant::now);
        self.stands_back.set(Some(since));
        since.elapsed() >= OVERTAKEN
    }
}

/// One who waits for an object.
struct ObjectWaiter<'a> {
    ear: &'a EventCount<Mapped>,
    pace: WaitState,
    ask: &'a mut dyn FnMut() -> Option<WaitEnd>,
    turn: &'a FairTurn,
}

impl Waiter for ObjectWaiter<'_> {
    type End = WaitEnd;

    fn peer_end(&mut self) -> Option<WaitEnd> {
        None
    }

    fn check_liveness(&mut self, _: Deadline) -> Option<WaitEnd> {
        (self.ask)()
    }

    fn report_end(&mut self, end: WaitEnd) -> WaitEnd {
        end
    }

    fn event(&self) -> &EventCount<Mapped> {
        self.ear
    }

    fn wait_state(&mut self) -> &mut WaitState {
        &mut self.pace
    }

    fn standby(&self) -> Option<Duration> {
        self.turn.stands_back.get().map(|_| OVERTAKEN)
    }

    fn on_wake(&mut self) {
        self.turn.comes_first.set(true);
    }
}

/// An object's lock, as this process's threads take it.
#[derive(Clone)]
pub(crate) struct ObjectLock {
    pub(crate) handle: Handle,
    lock: Arc<(RobustLock<Mapped>, EventCount<Mapped>)>,
}

impl ObjectLock {
    /// The lock whose words begin at `at`.
    pub(crate) fn new(handle: Handle, at: usize) -> Self {
        let lock = Arc::new((RobustLock::new(handle.word(at)), handle.event(at + EVENT)));
        Self { handle, lock }
    }

    fn lane(&self) -> usize {
        self.handle.member.lane()
    }

    pub(crate) fn lock(&self) -> &RobustLock<Mapped> {
        &self.lock.0
    }

    #[inline]
    fn event(&self) -> &EventCount<Mapped> {
        &self.lock.1
    }

    #[inline]
    fn local(&self) -> Option<&Local> {
        self.handle.member.local(self.handle.object)
    }

    /// Whether this thread has it. Relaxed: only its own store is of interest.
    #[inline]
    pub(crate) fn is_held_here(&self) -> bool {
        self.local().is_some_and(|local| local.holder.load(Ordering::Relaxed) == process::thread_token())
            && self.lock().owner() == Some(self.lane())
    }

    #[inline(always)]
    fn hold(&self) {
        if let Some(local) = self.local() {
            local.holder.store(process::thread_token(), Ordering::Relaxed); // read by this thread only
        }
    }

    /// Takes the lock; says what became of earlier owners.
    #[inline(always)]
    pub(crate) fn acquire(&self, until: Timeout) -> Result<History, SyncError> {
        self.handle.check_ours()?;
        // The CAS comes first: a look at the event before it would fetch the line twice.
        let past = match self.lock().try_lock(self.lane())? {
            Some(past) if !self.event().no_barging() => past,
            Some(past) => {
                self.let_go(past);
                self.acquire_slowly(until)?
            }
            None => self.acquire_slowly(until)?,
        };
        self.hold();
        Ok(past)
    }

    #[cold]
    fn acquire_slowly(&self, until: Timeout) -> Result<History, SyncError> {
        if self.is_held_here() {
            return Err(SyncError::WouldDeadlock);
        }
        // A look before the CAS, which would take the line away from the owner.
        let attempt = || match self.lock().owner() {
            None => Ok(self.lock().try_lock(self.lane())?),
            Some(_) => Ok(None),
        };
        let is_free = || self.lock().owner().is_none();
        self.handle.attempt_in_turn(self.event(), self.event(), until, is_free, || self.ask(), attempt)
    }

    /// What the kernel says of the owner.
    fn ask(&self) -> Option<WaitEnd> {
        let owner = self.lock().owner();
        let stop = self.handle.member.ask(owner);
        // Of one who has unlocked and left meanwhile there is nothing to say.
        stop.filter(|_| self.lock().owner() == owner && self.handle.member.ask(owner) == stop)
    }

    /// Gives the lock back, and says what the next owner is to know. For its holder.
    #[inline(always)]
    pub(crate) fn release(&self, past: History) {
        // A forked child holds nothing of its parent's.
        if self.handle.member.is_from_this_process() {
            if let Some(local) = self.local() {
                local.holder.store(0, Ordering::Relaxed); // read by this thread only
            }
            self.let_go(past);
        }
    }

    /// The lock's guard goes, the lock stays.
    pub(crate) fn leak(&self, past: History) {
        // A forked child holds nothing of its parent's, which may have given it back by now.
        if !self.handle.member.is_from_this_process() {
            return;
        }
        self.lock().set_history(self.lane(), past);
        if let Some(local) = self.local() {
            local.leaked.fetch_add(1, Ordering::Relaxed); // read by this thread only
        }
    }

    /// Whether this thread has the lock, and a guard of it was leaked; that one is then taken off.
    pub(crate) fn reclaim(&self) -> Result<bool, SyncError> {
        self.handle.check_ours()?;
        let fewer = |leaked: u64| leaked.checked_sub(1);
        Ok(self.is_held_here()
            && self.local().is_some_and(|local| {
                local.leaked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer).is_ok() // as above
            }))
    }

    #[inline(always)]
    fn let_go(&self, past: History) {
        self.lock().unlock(self.lane(), past);
        self.event().notify(1);
    }
}

/// A lock that is held, until dropped.
pub(crate) struct Held<'a> {
    pub(crate) latch: &'a ObjectLock,
    /// What the next owner is to know.
    pub(crate) past: History,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<'a> Held<'a> {
    #[inline(always)]
    pub(crate) fn acquire(latch: &'a ObjectLock, until: Timeout) -> Result<Self, SyncError> {
        let past = latch.acquire(until)?;
        Ok(Self { latch, past, thread: PhantomData })
    }

    /// Acquires, and does what can fail next; then the lock is given back. (Nothing is built before it is complete: a guard that
    /// moves through memory in pieces costs as much as the lock.)
    #[inline(always)]
    pub(crate) fn acquire_and<R>(
        latch: &'a ObjectLock,
        until: Timeout,
        next: impl FnOnce() -> Result<R, SyncError>,
    ) -> Result<(Self, History, R), SyncError> {
        let past = latch.acquire(until)?;
        match next() {
            // Who is told of a death has been told.
            Ok(done) => Ok((Self { latch, past: History { died: false, ..past }, thread: PhantomData }, past, done)),
            Err(error) => {
                latch.release(past);
                Err(error)
            }
        }
    }
}

impl Drop for Held<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.latch.release(self.past);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.entry().map(|entry| entry.name.as_str());
        f.debug_struct("Handle").field("kind", &self.plan.kind).field("name", &name).finish_non_exhaustive()
    }
}
