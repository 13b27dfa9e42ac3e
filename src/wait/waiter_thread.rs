//! One thread that sleeps for everything in this process that does not sleep on futexes itself: it
//! wakes tasks, and makes descriptors readable: those of endpoints, and of selectors in `poll`.
//!
//! The thread starts with the first registration, and ends when there was none for IDLE_TIME. It
//! sleeps on the words of all registrations at once, and on a word of its own by which it learns of
//! new ones. The kernel takes 128 words, so there is another thread for each 127 registrations.
//!
//! - W1: a registration fires once, when its word is no longer what its key says, or when it is
//!   time for a liveness check. Then it is removed.
//! - W2: the kernel may spend a wake-up on this thread at any word that it sleeps on, and at
//!   several at once. Each advances its word first. So the thread compares all words after each
//!   sleep, however that ended. What it finds changed it hands on: to the registrations with that
//!   word, or if the one that it slept for was taken back, to another sleeper.
//! - W3: a registration that has fired owes its wake-up to the others until its owner has tried to
//!   take what it waited for. If the owner ends without, it notifies another (`listener.rs`).
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

const STACK_BYTES: usize = 64 << 10;

/// How long a thread without registrations stays.
const IDLE_TIME: Duration = Duration::from_millis(500);

/// How often the words are compared where the kernel cannot sleep on several.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Liveness checks of all registrations together: at most one in this time, on average.
const TIME_PER_CHECK: Duration = Duration::from_millis(10);

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    /// It is time for a liveness check.
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
}

/// What a registration does when it fires.
#[derive(Clone, Debug, Default)]
pub(super) struct Actions {
    pub(super) waker: Option<Waker>,
    pub(super) readiness: Weak<ReadinessFd>,
}

struct Entry {
    id: u64,
    event: Arc<EventCount<Mapped>>,
    key: Key,
    actions: Actions,
    status: SharedStatus,
    /// None: the owner makes its own.
    check_due: Option<Instant>,
}

impl Entry {
    /// Fires, if it is time to. Returns whether it did.
    fn try_fire(&self, now: Instant) -> bool {
        let status = match self.check_due {
            _ if !self.event.is_at(self.key) => Status::Notified,
            Some(due) if now >= due => Status::CheckDue,
            _ => return false,
        };
        // First: the owner must find it when its task runs.
        self.status.set(status);
        true
    }

    /// Runs the actions of a registration that has fired.
    fn run(self) {
        if let Some(readiness) = self.actions.readiness.upgrade() {
            let owes = self.status.get() == Status::Notified;
            readiness.signal(owes.then_some(self.event));
        }
        if let Some(waker) = self.actions.waker {
            // A waker is the caller's code, and a panic of it must not end the others' wake-ups.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
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
    /// Registrations that are due for a check at some time.
    checked: usize,
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
            registry.checked = 0;
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
                let builder = thread::Builder::new().name("tombolo-wait".to_string()).stack_size(STACK_BYTES);
                without_signals(|| builder.spawn(move || thread.run()))?;
                self.groups.push(Group { id, control, is_asleep: false, entries: Vec::new(), idle_since: None });
                self.groups.len() - 1
            }
        };
        self.groups.get_mut(index).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// When a registration that found nothing `checks` times is due for the next check.
    fn check_due(&mut self, checks: u32) -> Option<Instant> {
        let interval = liveness_interval(checks)?.max(TIME_PER_CHECK * self.checked as u32);
        let now = Instant::now();
        let base = *self.base.get_or_insert(now);
        let intervals = now.duration_since(base).as_nanos() / interval.as_nanos().max(1);
        base.checked_add(interval.saturating_mul(u32::try_from(intervals + 2).ok()?))
    }

    /// Adds a registration. Also returns the word to wake its thread by, if that sleeps.
    fn add(
        &mut self,
        event: &Arc<EventCount<Mapped>>,
        key: Key,
        actions: Actions,
        status: &SharedStatus,
        check_due: Option<Instant>,
    ) -> io::Result<(Registration, Option<Arc<AtomicU32>>)> {
        let id = self.next_id();
        let group = self.group_with_room()?;
        let (event, status) = (Arc::clone(event), status.clone());
        group.entries.push(Entry { id, event, key, actions, status, check_due });
        let added = (Registration { group: group.id, id }, group.interrupt());
        self.checked += usize::from(check_due.is_some());
        Ok(added)
    }

    /// Removes a registration, if it has not fired. Also returns the word to wake its thread by, if
    /// that sleeps: it need not sleep on that event any more.
    fn remove(&mut self, registration: &Registration) -> Option<(Entry, Option<Arc<AtomicU32>>)> {
        let group = self.groups.iter_mut().find(|group| group.id == registration.group)?;
        let index = group.entries.iter().position(|entry| entry.id == registration.id)?;
        let removed = (group.entries.swap_remove(index), group.interrupt());
        self.checked -= usize::from(removed.0.check_due.is_some());
        Some(removed)
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
    /// Registers for a change of the event since the key. `checks`: how many liveness checks in
    /// sequence have found nothing.
    pub(super) fn new(
        event: &Arc<EventCount<Mapped>>,
        key: Key,
        actions: Actions,
        status: &SharedStatus,
        checks: u32,
    ) -> io::Result<Self> {
        status.set(Status::Pending);
        let (registration, control) = with_registry(|registry| {
            let check_due = registry.check_due(checks);
            registry.add(event, key, actions, status, check_due)
        })?;
        wake(control);
        Ok(registration)
    }

    #[cfg(feature = "async")]
    /// Changes what it does. Returns false if it has fired.
    pub(super) fn set_actions(&self, mut actions: Actions) -> bool {
        // What it did before is dropped out of the section: that may be the caller's code.
        with_registry(|registry| {
            let entry = registry.entry_mut(self)?;
            mem::swap(&mut entry.actions, &mut actions);
            Some(())
        })
        .is_some()
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
                let (registration, control) = registry.add(event, *key, actions.clone(), &status, None)?;
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

struct Thread {
    group: u64,
    control: Arc<AtomicU32>,
    words: Vec<SleptOn>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let mut fired = Vec::new();
            let mut unclaimed = Vec::new();
            let next = with_registry(|registry| self.look(registry, &mut fired, &mut unclaimed));
            for event in unclaimed {
                event.notify(1); // W2
            }
            fired.into_iter().for_each(Entry::run);
            match next {
                Next::Sleep { control, limit } => self.sleep(control, limit),
                Next::End => return,
            }
        }
    }

    /// Fires what is to fire, and chooses what to sleep on.
    fn look(
        &mut self,
        registry: &mut Registry,
        fired: &mut Vec<Entry>,
        unclaimed: &mut Vec<Arc<EventCount<Mapped>>>,
    ) -> Next {
        let Some(index) = registry.groups.iter().position(|group| group.id == self.group) else { return Next::End };
        let Some(group) = registry.groups.get_mut(index) else { return Next::End };
        let now = Instant::now();
        for SleptOn { id, event, key } in self.words.drain(..) {
            if !event.is_at(key) && !group.entries.iter().any(|entry| entry.id == id) {
                unclaimed.push(event); // W2
            }
        }
        let mut limit = IDLE_TIME;
        for entry in mem::take(&mut group.entries) {
            if entry.try_fire(now) {
                registry.checked -= usize::from(entry.check_due.is_some());
                fired.push(entry);
                continue;
            }
            if let Some(due) = entry.check_due {
                limit = limit.min(due.duration_since(now));
            }
            let Entry { id, event, key, .. } = &entry;
            self.words.push(SleptOn { id: *id, event: Arc::clone(event), key: *key });
            group.entries.push(entry);
        }
        if !group.entries.is_empty() || !fired.is_empty() {
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
