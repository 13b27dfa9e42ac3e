//! One thread that sleeps for everything in this process that does not sleep on futexes itself: it
//! wakes tasks, and makes descriptors readable: those of endpoints, and of selectors in `poll`.
//!
//! The thread starts with the first registration, and ends when there was none for IDLE_TIME. It
//! sleeps on the words of all registrations at once, and on a word of its own by which it learns of
//! new ones. The kernel takes 128 words, so there is another thread for each 127 registrations.
//!
//! - W1: a registration fires once, when its word is no longer what its key says. Then it is
//!   removed.
//! - W2: the kernel may spend a wake-up on this thread at any word that it sleeps on, and at
//!   several at once. Each advances its word first. So the thread compares all words after each
//!   sleep, however that ended. What it finds changed it hands on: to the registrations with that
//!   word, or if the one that it slept for was taken back, to another sleeper.
//! - W3: a registration that has fired owes its wake-up to the others until its owner has tried to
//!   take what it waited for. If the owner ends without, it notifies another (`listener.rs`). If
//!   nobody waits for the owner's handle any more, the thread does.
//! - W4: when it is time for a liveness check, the owner is woken, and the registration stays. The
//!   owner is not woken for another one before it has tried. All checks of a thread become due
//!   together, so that a program that only waits is woken seldom, and for nothing else.
//!
//! A forked child has no such thread, and none of the registrations: it begins anew. What they
//! refer to is leaked there, because a waker's `drop` may be of a runtime that the child has not.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread;
use std::time::{Duration, Instant};

use super::readiness::ReadinessFd;
use super::strategy::liveness_interval;
use crate::primitive::{AtomicU32, Ordering};
use crate::raw::event_count::{EventCount, Key};
use crate::region::words::Mapped;
use crate::sys::fork::{ForkSafe, Generation};
use crate::sys::futex::{self, AnyWait, MAX_WORDS};
use crate::sys::signals::without_signals;

/// One word is the thread's own.
const REGISTRATIONS_PER_THREAD: usize = MAX_WORDS - 1;

/// How long a thread without registrations stays.
const IDLE_TIME: Duration = Duration::from_millis(500);

/// How long it sleeps for registrations that nothing is due for.
const LONG_SLEEP: Duration = Duration::from_secs(60);

/// How often the words are compared where the kernel cannot sleep on several.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Liveness checks of all registrations of a thread: at most one in this time, on average.
const TIME_PER_CHECK: Duration = Duration::from_millis(10);

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    /// As pending, but its owner was woken for a liveness check.
    CheckDue,
    /// A wake-up was spent on it, or will be.
    Notified,
}

/// A [`Status`] that the owner of a registration shares with the thread.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedStatus(Arc<AtomicU32>);

impl SharedStatus {
    pub(super) fn get(&self) -> Status {
        let status = self.0.load(Ordering::Acquire); // edge: registration-fired
        match status {
            0 => Status::Pending,
            1 => Status::CheckDue,
            _ => Status::Notified,
        }
    }

    fn set(&self, status: Status) {
        self.0.store(status as u32, Ordering::Release); // edge: registration-fired
    }

    /// Notes that the owner has tried, and need not be woken for a check that was due.
    pub(super) fn note_try(&self) {
        // Relaxed: only the owner does this, and it comes to know of a wake-up by `get`.
        let (due, pending) = (Status::CheckDue as u32, Status::Pending as u32);
        let _ = self.0.compare_exchange(due, pending, Ordering::Relaxed, Ordering::Relaxed);
    }
}

/// What a registration does when it fires, and for a liveness check. Shared, because a waker's
/// `clone` is the caller's code, which does not run while the registry is locked.
#[derive(Clone, Debug, Default)]
pub(super) struct Actions {
    pub(super) waker: Option<Arc<Waker>>,
    pub(super) readiness: Weak<ReadinessFd>,
}

impl Actions {
    /// Whether nobody waits any more. The endpoint may stay, and never try again.
    pub(super) fn are_in_vain(&self) -> bool {
        self.waker.is_none() && self.readiness.strong_count() == 0
    }

    /// `owed`: a wake-up of this event was spent on it.
    fn run(self, owed: Option<Arc<EventCount<Mapped>>>) {
        let readiness = self.readiness.upgrade();
        match (&readiness, owed) {
            (Some(readiness), owed) => readiness.signal(owed),
            (None, Some(event)) if self.waker.is_none() => event.notify(1), // W3
            (None, _) => {}
        }
        if let Some(waker) = self.waker {
            run_isolated(|| waker.wake_by_ref());
            run_isolated(|| drop(waker));
        }
    }
}

/// Runs the caller's code, a panic of which must not end the others' wake-ups.
pub(crate) fn run_isolated(action: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(action)) {
        mem::forget(payload); // to drop it is the caller's code, too
    }
}

struct Entry {
    id: u64,
    event: Arc<EventCount<Mapped>>,
    key: Key,
    actions: Actions,
    status: SharedStatus,
    /// Liveness checks that have been due.
    checks: u32,
    /// None: the owner makes its own.
    check_due: Option<Instant>,
}

impl Entry {
    /// Whether it is to fire: its word has changed, or nobody would notice if it did.
    fn is_over(&self) -> bool {
        !self.event.is_at(self.key) || self.actions.are_in_vain()
    }

    /// When it is time for a check: chooses the time of the next one, and returns the actions of an
    /// owner that is to make it (W4).
    fn take_check(&mut self, now: Instant, base: Instant, registrations: usize) -> Option<Actions> {
        if self.check_due.is_none_or(|due| now < due) {
            return None;
        }
        self.checks = self.checks.saturating_add(1);
        self.check_due = check_due(now, base, self.checks, registrations);
        if self.status.get() != Status::Pending {
            return None;
        }
        self.status.set(Status::CheckDue);
        Some(self.actions.clone())
    }
}

/// When a registration for which there were `checks` is due for the next one: at a multiple of an
/// interval since `base` that is a power of two times the shortest, so that the short intervals end
/// together with the long ones.
fn check_due(now: Instant, base: Instant, checks: u32, registrations: usize) -> Option<Instant> {
    let shortest = liveness_interval(0)?;
    let at_least = liveness_interval(checks)?.max(TIME_PER_CHECK.saturating_mul(registrations as u32));
    let times = at_least.as_nanos().div_ceil(shortest.as_nanos().max(1));
    let interval = shortest.saturating_mul(u32::try_from(times).ok()?.checked_next_power_of_two()?);
    // Half an interval from now at least.
    let elapsed = now.duration_since(base) + interval + interval / 2;
    let intervals = elapsed.as_nanos() / interval.as_nanos().max(1);
    base.checked_add(interval.saturating_mul(u32::try_from(intervals).ok()?))
}

/// A word that the thread sleeps on.
struct SleptOn {
    id: u64,
    event: Arc<EventCount<Mapped>>,
    key: Key,
}

/// What one thread sleeps for.
struct Group {
    id: u64,
    /// Advances when the thread must look again.
    control: Arc<AtomicU32>,
    /// The thread sleeps, or is about to, and nobody has told it to look again.
    is_asleep: bool,
    entries: Vec<Entry>,
    idle_since: Option<Instant>,
}

impl Group {
    /// How many registrations are due for a check at some time.
    fn checked(&self) -> usize {
        self.entries.iter().filter(|entry| entry.check_due.is_some()).count()
    }

    /// Makes the thread look again. Returns the word to wake it by, if it sleeps.
    fn interrupt(&mut self) -> Option<Arc<AtomicU32>> {
        if !mem::take(&mut self.is_asleep) {
            return None;
        }
        // Relaxed: the thread compares the word only, and sees the rest in the section.
        self.control.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&self.control))
    }
}

#[derive(Default)]
struct Registry {
    generation: Option<Generation>,
    /// What liveness checks are aligned to, so that many come due at once.
    base: Option<Instant>,
    groups: Vec<Group>,
    last_id: u64,
}

static REGISTRY: ForkSafe<Registry> = ForkSafe::new();

/// Runs `action` on the registrations of this process.
fn with_registry<R>(action: impl FnOnce(&mut Registry) -> R) -> R {
    REGISTRY.with(|registry| {
        let own = Generation::current();
        if registry.generation != Some(own) {
            registry.generation = Some(own);
            mem::forget(mem::take(&mut registry.groups)); // the parent's
        }
        action(registry)
    })
}

impl Registry {
    fn next_id(&mut self) -> u64 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Returns a group that has room for one more registration.
    fn group_with_room(&mut self) -> io::Result<&mut Group> {
        let has_room = |group: &Group| group.entries.len() < REGISTRATIONS_PER_THREAD;
        let index = match self.groups.iter().position(has_room) {
            Some(index) => index,
            None => {
                let id = self.next_id();
                let control = Arc::new(AtomicU32::new(0));
                let thread = Thread { group: id, control: Arc::clone(&control), words: Vec::new() };
                let builder = thread::Builder::new().name("tombolo-wait".to_string());
                without_signals(|| builder.spawn(move || thread.run()))?;
                self.groups.push(Group { id, control, is_asleep: false, entries: Vec::new(), idle_since: None });
                self.groups.len() - 1
            }
        };
        self.groups.get_mut(index).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Adds a registration. Also returns the word to wake its thread by, if that sleeps.
    fn add(
        &mut self,
        event: &Arc<EventCount<Mapped>>,
        key: Key,
        actions: Actions,
        status: &SharedStatus,
        is_checked: bool,
    ) -> io::Result<(Registration, Option<Arc<AtomicU32>>)> {
        let (id, now) = (self.next_id(), Instant::now());
        let base = *self.base.get_or_insert(now);
        let group = self.group_with_room()?;
        let check_due = if is_checked { check_due(now, base, 0, group.checked() + 1) } else { None };
        let (event, status) = (Arc::clone(event), status.clone());
        group.entries.push(Entry { id, event, key, actions, status, checks: 0, check_due });
        Ok((Registration { group: group.id, id }, group.interrupt()))
    }

    /// Removes a registration, if it has not fired. Also returns the word to wake its thread by, if
    /// that sleeps: it need not sleep on that event any more.
    fn remove(&mut self, registration: &Registration) -> Option<(Entry, Option<Arc<AtomicU32>>)> {
        let group = self.groups.iter_mut().find(|group| group.id == registration.group)?;
        let index = group.entries.iter().position(|entry| entry.id == registration.id)?;
        Some((group.entries.swap_remove(index), group.interrupt()))
    }

    #[cfg(feature = "async")]
    fn entry_mut(&mut self, registration: &Registration) -> Option<&mut Entry> {
        let group = self.groups.iter_mut().find(|group| group.id == registration.group)?;
        group.entries.iter_mut().find(|entry| entry.id == registration.id)
    }
}

/// A registration of this process. Take it back before its owner ends.
#[derive(Debug)]
pub(super) struct Registration {
    group: u64,
    id: u64,
}

impl Registration {
    /// Registers for a change of the event since the key.
    pub(super) fn new(
        event: &Arc<EventCount<Mapped>>,
        key: Key,
        actions: Actions,
        status: &SharedStatus,
    ) -> io::Result<Self> {
        status.set(Status::Pending);
        let (registration, control) = with_registry(|registry| registry.add(event, key, actions, status, true))?;
        wake(control);
        Ok(registration)
    }

    /// Changes what it does, unless it has fired.
    #[cfg(feature = "async")]
    pub(super) fn set_actions(&self, mut actions: Actions) {
        // What it did before is dropped out of the section: that may be the caller's code.
        with_registry(|registry| {
            if let Some(entry) = registry.entry_mut(self) {
                mem::swap(&mut entry.actions, &mut actions);
            }
        });
    }

    /// Takes it back, if it has not fired.
    pub(super) fn take_back(self) {
        if let Some((entry, control)) = with_registry(|registry| registry.remove(&self)) {
            wake(control);
            drop(entry);
        }
    }
}

/// Several registrations of one owner, which makes its own liveness checks. Dropping them takes
/// them back.
pub(crate) struct Registrations(Vec<Registration>);

impl Registrations {
    /// Registers for changes of all these events since their keys. The actions are cloned in the
    /// section, so they must not be the caller's.
    pub(super) fn new(events: &[(Arc<EventCount<Mapped>>, Key)], actions: &Actions) -> io::Result<Self> {
        let status = SharedStatus::default();
        let (mut registrations, mut controls) = (Self(Vec::new()), Vec::new());
        let outcome = with_registry(|registry| {
            events.iter().try_for_each(|(event, key)| {
                let (registration, control) = registry.add(event, *key, actions.clone(), &status, false)?;
                registrations.0.push(registration);
                controls.push(control);
                Ok(())
            })
        });
        controls.into_iter().for_each(wake);
        outcome.map(|()| registrations)
    }
}

impl Drop for Registrations {
    fn drop(&mut self) {
        let remove = |registry: &mut Registry| self.0.iter().filter_map(|each| registry.remove(each)).collect();
        let removed: Vec<_> = with_registry(remove);
        for (entry, control) in removed {
            wake(control);
            drop(entry);
        }
    }
}

fn wake(control: Option<Arc<AtomicU32>>) {
    if let Some(control) = control {
        futex::wake(&control, 1);
    }
}

/// What to do after a look at the registrations.
enum Next {
    /// Sleep while the control word is this, and no longer.
    Sleep {
        control: u32,
        limit: Duration,
    },
    End,
}

/// What a look finds, to be done when the registry is not locked.
#[derive(Default)]
struct Found {
    fired: Vec<Entry>,
    /// Of owners that are to make a liveness check.
    checks: Vec<Actions>,
    /// Events whose wake-ups were spent on registrations that are no more.
    unclaimed: Vec<Arc<EventCount<Mapped>>>,
}

struct Thread {
    group: u64,
    control: Arc<AtomicU32>,
    words: Vec<SleptOn>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let mut found = Found::default();
            let next = with_registry(|registry| self.look(registry, &mut found));
            for event in found.unclaimed {
                event.notify(1); // W2
            }
            for Entry { actions, event, .. } in found.fired {
                actions.run(Some(event));
            }
            for actions in found.checks {
                actions.run(None);
            }
            match next {
                Next::Sleep { control, limit } => self.sleep(control, limit),
                Next::End => return,
            }
        }
    }

    /// Fires what is to fire, and chooses what to sleep on.
    fn look(&mut self, registry: &mut Registry, found: &mut Found) -> Next {
        let Some(index) = registry.groups.iter().position(|group| group.id == self.group) else { return Next::End };
        let Some(group) = registry.groups.get_mut(index) else { return Next::End };
        let now = Instant::now();
        let base = registry.base.unwrap_or(now);
        for SleptOn { id, event, key } in self.words.drain(..) {
            if !event.is_at(key) && !group.entries.iter().any(|entry| entry.id == id) {
                found.unclaimed.push(event); // W2
            }
        }
        let mut limit = LONG_SLEEP;
        let registrations = group.checked();
        for mut entry in mem::take(&mut group.entries) {
            if entry.is_over() {
                entry.status.set(Status::Notified); // first: the owner must find it when its task runs
                found.fired.push(entry);
                continue;
            }
            found.checks.extend(entry.take_check(now, base, registrations));
            if let Some(due) = entry.check_due {
                limit = limit.min(due.duration_since(now));
            }
            let Entry { id, event, key, .. } = &entry;
            self.words.push(SleptOn { id: *id, event: Arc::clone(event), key: *key });
            group.entries.push(entry);
        }
        if group.entries.is_empty() {
            limit = IDLE_TIME;
        }
        if !group.entries.is_empty() || !found.fired.is_empty() {
            group.idle_since = None;
        } else if now.duration_since(*group.idle_since.get_or_insert(now)) >= IDLE_TIME {
            registry.groups.swap_remove(index);
            return Next::End;
        }
        group.is_asleep = true;
        Next::Sleep { control: group.control.load(Ordering::Relaxed), limit } // Relaxed: see `interrupt`
    }

    fn sleep(&self, control: u32, limit: Duration) {
        let registered = self.words.iter().map(|slept_on| (&**slept_on.event.word(), slept_on.key.value()));
        if futex::wait_any(std::iter::once((&*self.control, control)).chain(registered), limit) == AnyWait::Unsupported
        {
            self.poll(control, limit);
        }
    }

    /// As a sleep, where the kernel cannot sleep on several words.
    #[cold]
    fn poll(&self, control: u32, limit: Duration) {
        if self.words.is_empty() {
            return futex::wait(&self.control, control, limit);
        }
        let started = Instant::now();
        let is_changed = |slept_on: &SleptOn| !slept_on.event.is_at(slept_on.key);
        while started.elapsed() < limit && !self.words.iter().any(is_changed) {
            if self.control.load(Ordering::Relaxed) != control {
                return;
            }
            futex::wait(&self.control, control, POLL_INTERVAL);
        }
    }
}
