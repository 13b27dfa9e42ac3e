//! A handle of an object, and waiting for one: for a lock, a permit, a meeting, news.
//!
//! Fairness: a newcomer may take what is free before those who sleep, which is quick, but for no longer than a millisecond at the cost of
//! one who waits: after that the waiter bars the object. Then newcomers stand back until somebody who has waited gets it, or until it
//! was free for a millisecond and nobody came. The kernel wakes sleepers in the order in which they lay down. So nobody starves; and
//! a waiter that was killed or stopped delays the others by no more than that, or those whose calls do not wait as long by 20 ms.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable)]

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Result, SyncError};
use crate::members::{Local, Member};
use crate::raw::event::Event;
use crate::raw::lock::{Lock, Past};
use crate::region::{Mapped, Word, Words};
use crate::sync::{Ordering, spin_loop};
use crate::sys::{barrier, process};
use crate::table::{EVENT, Entry, Plan};
use crate::wait::{Pace, Stop, Until, Wait, Waiter};

/// An object of a namespace, as this process holds on to it.
#[derive(Clone)]
pub struct Handle {
    pub(crate) member: Arc<Member>,
    /// Number of the object.
    pub(crate) object: usize,
    /// Its first word.
    at: usize,
    pub(crate) plan: Plan,
    pub(crate) wait: Wait,
}

impl Handle {
    pub(crate) fn new(member: Arc<Member>, object: usize, entry: &Entry, wait: Wait) -> Self {
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
    pub(crate) fn event(&self, at: usize) -> Event<Mapped> {
        let event = Event::new(self.member.region().futex(self.at + at));
        if !barrier::register() {
            event.require_fences();
        }
        event
    }

    pub(crate) fn lanes(&self) -> usize {
        self.member.region().layout().seats()
    }

    #[inline(always)]
    pub(crate) fn check_ours(&self) -> Result<(), SyncError> {
        if self.member.is_ours() { Ok(()) } else { Err(SyncError::Forked) }
    }

    /// Attempts until it works, `until` passes, or nothing can come of it. `ask` asks the kernel about those who are waited for.
    pub(crate) fn attempt<T>(
        &self,
        ear: &Event<Mapped>,
        until: Until,
        ask: impl FnMut() -> Option<Stop>,
        attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        self.attempt_at(&Turn::default(), ear, until, ask, attempt)
    }

    fn attempt_at<T>(
        &self,
        turn: &Turn,
        ear: &Event<Mapped>,
        until: Until,
        mut ask: impl FnMut() -> Option<Stop>,
        mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        match until {
            Until::Now => match attempt()? {
                Some(done) => Ok(done),
                None => self.last_attempt(ask, attempt).map_err(not_waited),
            },
            Until::Deadline(deadline) => {
                let mut waiting = Waiting { ear, pace: Pace::once(self.wait), ask: &mut ask, turn };
                match waiting.wait_for(0, deadline, &mut attempt) {
                    Err(SyncError::TimedOut) => self.last_attempt(ask, attempt),
                    outcome => outcome,
                }
            }
        }
    }

    /// Too short a wait to have asked about anybody: asks now and then, and attempts once more.
    fn last_attempt<T>(
        &self,
        mut ask: impl FnMut() -> Option<Stop>,
        mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        if !self.member.is_time_to_ask(self.object) {
            return Err(SyncError::TimedOut);
        }
        match ask() {
            Some(stop) => Err(stop.into()),
            None => attempt()?.ok_or(SyncError::TimedOut),
        }
    }

    /// As [`attempt`](Self::attempt) for what only so many can have, in fairness to those who have waited longer: they bar `gate`, on which
    /// they sleep. Who sleeps elsewhere bars nobody. `is_free` says whether there is something to be had.
    #[cold]
    pub(crate) fn attempt_in_turn<T>(
        &self,
        ear: &Event<Mapped>,
        gate: &Event<Mapped>,
        until: Until,
        is_free: impl Fn() -> bool,
        mut ask: impl FnMut() -> Option<Stop>,
        mut attempt: impl FnMut() -> Result<Option<T>, SyncError>,
    ) -> Result<T, SyncError> {
        let began = Instant::now();
        let turn = Turn::default();
        let mut pause = 1_u32;
        let mut has_barred = false;
        let in_turn = || {
            let barred = gate.is_barred();
            if barred && turn.must_stand_back(&is_free, gate) {
                return Ok(None);
            }
            let got = attempt()?;
            if got.is_some() {
                if barred {
                    gate.bar(false);
                }
                return Ok(got);
            }
            if !turn.has_waited.get() {
                for _ in 0..pause {
                    spin_loop();
                }
                pause = (2 * pause).min(PAUSE_MOST);
            }
            if !barred && ptr::eq(ear, gate) && began.elapsed() >= OVERTAKEN {
                gate.bar(true);
                has_barred = true;
                turn.has_waited.set(true);
            }
            Ok(None)
        };
        let ask = || {
            // A slice has passed, or a call that waits for less comes for the first time in one.
            turn.has_waited.set(true);
            ask()
        };
        let outcome = self.attempt_at(&turn, ear, until, ask, in_turn);
        if outcome.is_err() && has_barred {
            gate.bar(false);
        }
        outcome
    }
}

const PAUSE_MOST: u32 = 32;

/// How long newcomers may overtake.
const OVERTAKEN: Duration = Duration::from_millis(1);

/// What a call says that did not wait.
fn not_waited(error: SyncError) -> SyncError {
    match error {
        SyncError::TimedOut => SyncError::WouldBlock,
        error => error,
    }
}

/// How far one who waits has got.
#[derive(Default)]
struct Turn {
    /// It is a newcomer no more.
    has_waited: Cell<bool>,
    /// Since when it has left to others what there is.
    stands_back: Cell<Option<Instant>>,
}

impl Turn {
    /// Whether others come first, of a barred gate. Only time counts in which they could have had it, and did not come.
    fn must_stand_back(&self, is_free: impl Fn() -> bool, gate: &Event<Mapped>) -> bool {
        if self.has_waited.get() || !is_free() {
            self.stands_back.set(None);
            return !self.has_waited.get();
        }
        let since = self.stands_back.get().unwrap_or_else(|| {
            // This one may have been woken in their place.
            gate.notify(1);
            Instant::now()
        });
        self.stands_back.set(Some(since));
        since.elapsed() < OVERTAKEN
    }
}

/// One who waits for an object.
struct Waiting<'a> {
    ear: &'a Event<Mapped>,
    pace: Pace,
    ask: &'a mut dyn FnMut() -> Option<Stop>,
    turn: &'a Turn,
}

impl Waiter for Waiting<'_> {
    type End = Stop;

    fn look(&mut self) -> Option<Stop> {
        None
    }

    fn ask(&mut self) -> Option<Stop> {
        (self.ask)()
    }

    fn report(&mut self, end: Stop) -> Stop {
        end
    }

    fn ear(&self) -> &Event<Mapped> {
        self.ear
    }

    fn pace(&mut self) -> &mut Pace {
        &mut self.pace
    }

    fn nap(&self, slice: Duration) -> Duration {
        if self.turn.stands_back.get().is_some() { slice.min(OVERTAKEN) } else { slice }
    }

    fn slept(&mut self) {
        // Who stood back has slept for others.
        if self.turn.stands_back.get().is_none() {
            self.turn.has_waited.set(true);
        }
    }
}

/// An object's lock, as this process's threads take it.
#[derive(Clone)]
pub(crate) struct Latch {
    pub(crate) handle: Handle,
    lock: Arc<(Lock<Mapped>, Event<Mapped>)>,
}

impl Latch {
    /// The lock whose words begin at `at`.
    pub(crate) fn new(handle: Handle, at: usize) -> Self {
        let lock = Arc::new((Lock::new(handle.word(at)), handle.event(at + EVENT)));
        Self { handle, lock }
    }

    fn lane(&self) -> usize {
        self.handle.member.lane()
    }

    pub(crate) fn lock(&self) -> &Lock<Mapped> {
        &self.lock.0
    }

    #[inline]
    fn ear(&self) -> &Event<Mapped> {
        &self.lock.1
    }

    #[inline]
    fn local(&self) -> Option<&Local> {
        self.handle.member.local(self.handle.object)
    }

    /// Whether this thread has it. Relaxed: only its own store is of interest.
    #[inline]
    pub(crate) fn is_held_here(&self) -> bool {
        self.local().is_some_and(|local| local.holder.load(Ordering::Relaxed) == process::thread())
            && self.lock().owner() == Some(self.lane())
    }

    #[inline(always)]
    fn hold(&self) {
        if let Some(local) = self.local() {
            local.holder.store(process::thread(), Ordering::Relaxed); // read by this thread only
        }
    }

    /// Takes the lock; says what became of earlier owners.
    #[inline(always)]
    pub(crate) fn acquire(&self, until: Until) -> Result<Past, SyncError> {
        self.handle.check_ours()?;
        // The CAS comes first: a look at the event before it would fetch the line twice.
        let past = match self.lock().try_lock(self.lane())? {
            Some(past) if !self.ear().is_barred() => past,
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
    fn acquire_slowly(&self, until: Until) -> Result<Past, SyncError> {
        if self.is_held_here() {
            return Err(SyncError::Relocked);
        }
        // A look before the CAS, which would take the line away from the owner.
        let attempt = || match self.lock().owner() {
            None => Ok(self.lock().try_lock(self.lane())?),
            Some(_) => Ok(None),
        };
        let is_free = || self.lock().owner().is_none();
        self.handle.attempt_in_turn(self.ear(), self.ear(), until, is_free, || self.ask(), attempt)
    }

    /// What the kernel says of the owner.
    fn ask(&self) -> Option<Stop> {
        let owner = self.lock().owner();
        let stop = self.handle.member.ask(owner);
        // Of one who has unlocked and left meanwhile there is nothing to say.
        stop.filter(|_| self.lock().owner() == owner && self.handle.member.ask(owner) == stop)
    }

    /// Gives the lock back, and says what the next owner is to know. For its holder.
    #[inline(always)]
    pub(crate) fn release(&self, past: Past) {
        // A forked child holds nothing of its parent's.
        if self.handle.member.is_ours() {
            if let Some(local) = self.local() {
                local.holder.store(0, Ordering::Relaxed); // read by this thread only
            }
            self.let_go(past);
        }
    }

    /// The lock's guard goes, the lock stays.
    pub(crate) fn leak(&self, past: Past) {
        self.lock().note(self.lane(), past);
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
    fn let_go(&self, past: Past) {
        self.lock().unlock(self.lane(), past);
        self.ear().notify(1);
    }
}

/// A lock that is held, until dropped.
pub(crate) struct Held<'a> {
    pub(crate) latch: &'a Latch,
    /// What the next owner is to know.
    pub(crate) past: Past,
    /// The lock is the thread's.
    thread: PhantomData<*const ()>,
}

impl<'a> Held<'a> {
    #[inline(always)]
    pub(crate) fn acquire(latch: &'a Latch, until: Until) -> Result<Self, SyncError> {
        let past = latch.acquire(until)?;
        Ok(Self { latch, past, thread: PhantomData })
    }

    /// Acquires, and does what can fail next; then the lock is given back. (Nothing is built before it is complete: a guard that
    /// moves through memory in pieces costs as much as the lock.)
    #[inline(always)]
    pub(crate) fn acquire_and<R>(
        latch: &'a Latch,
        until: Until,
        next: impl FnOnce() -> Result<R, SyncError>,
    ) -> Result<(Self, Past, R), SyncError> {
        let past = latch.acquire(until)?;
        match next() {
            // Who is told of a death has been told.
            Ok(done) => Ok((Self { latch, past: Past { died: false, ..past }, thread: PhantomData }, past, done)),
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
