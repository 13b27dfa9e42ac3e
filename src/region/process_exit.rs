//! The registrations of this process: which there are, and how it leaves at its ordinary exit.
//!
//! A record that names this process and is not listed here is from before an `execve`.
//!
//! At an ordinary exit (`main` returns, or something calls `exit`) every region is left: the end is
//! announced, and a name goes with its last user. The locks stay until the process is gone, because
//! other threads may still run, so no other process may join in their place before. A forked child
//! leaves nothing of its parent's.

use std::collections::BTreeMap;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use crate::sys;
use crate::sys::file::FileId;
use crate::sys::fork::{ForkSafe, Generation};
use crate::sys::process::{self, Identity, Mappings};

/// The file, and the participant's lock in it.
pub(crate) type RegistrationKey = (FileId, u64);

/// Leaves a region when the process exits.
pub(crate) trait LeaveAtExit: Send + Sync {
    /// Tells the other participants. False: it has left already, or is being passed to another
    /// process.
    fn announce(&self) -> bool;

    /// Removes the region's name, if it is of no use to any process.
    fn remove_name(&self);
}

struct Entry {
    number: u64,
    leaver: Option<Weak<dyn LeaveAtExit>>,
}

#[derive(Default)]
struct Registry {
    entries: BTreeMap<RegistrationKey, Entry>,
    /// The process that they belong to.
    generation: Option<Generation>,
    next: u64,
    leaves_at_exit: bool,
    /// The last checks of other processes, the latest first.
    checks: Vec<MappingsCheck>,
}

/// What a process had mapped of a file. A hostile peer can name the same process in any number of
/// records, and its list of mappings can be long.
struct MappingsCheck {
    process: (Identity, FileId),
    mappings: Option<Mappings>,
    at: u64,
}

const MAX_CHECKS: usize = 16;

static REGISTRY: ForkSafe<Registry> = ForkSafe::new();

fn with<R>(action: impl FnOnce(&mut Registry) -> R) -> R {
    REGISTRY.with(|registry| {
        let current = Some(Generation::current());
        if mem::replace(&mut registry.generation, current) != current {
            registry.entries.clear(); // the parent's
            registry.checks.clear();
        }
        action(registry)
    })
}

/// Keeps a registration on the list until dropped.
pub(crate) struct Ticket {
    key: RegistrationKey,
    number: u64,
}

impl Ticket {
    pub(crate) fn new(key: RegistrationKey) -> Self {
        with(|registry| {
            registry.next += 1;
            let number = registry.next;
            registry.entries.insert(key, Entry { number, leaver: None });
            registry.leaves_at_exit = registry.leaves_at_exit || process::at_exit(leave_all);
            Self { key, number }
        })
    }

    /// From now on `leaver` leaves the region when the process exits.
    pub(crate) fn leave_at_exit_by(&self, leaver: Weak<dyn LeaveAtExit>) {
        with(|registry| {
            if let Some(entry) = registry.entries.get_mut(&self.key).filter(|entry| entry.number == self.number) {
                entry.leaver = Some(leaver);
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        with(|registry| {
            // The process may have joined again in the same place.
            if registry.entries.get(&self.key).is_some_and(|entry| entry.number == self.number) {
                registry.entries.remove(&self.key);
            }
        });
    }
}

/// Whether this process takes part there, as far as it knows.
pub(crate) fn is_registered(key: RegistrationKey) -> bool {
    with(|registry| registry.entries.contains_key(&key))
}

/// Whether the process that a record names may still write to the file that this process has mapped
/// at `address`. It may if it provably runs, and has the file mapped where its record says, or does
/// not show its mappings.
pub(crate) fn may_write(identity: Identity, file: FileId, address: usize) -> bool {
    let process = (Identity { page: 0, ..identity }, file);
    let now = sys::clock::now();
    let known = with(|registry| {
        registry.checks.retain(|check| now.saturating_sub(check.at) < check.valid());
        registry.checks.iter().find(|check| check.process == process).map(|check| check.shows(identity.page))
    });
    known.unwrap_or_else(|| {
        let check = MappingsCheck { process, mappings: identity.mappings_of(address), at: now };
        let shows = check.shows(identity.page);
        // Finding out that a process is gone is quick.
        if check.mappings.is_some() {
            with(|registry| {
                registry.checks.truncate(MAX_CHECKS - 1);
                registry.checks.insert(0, check);
            });
        }
        shows
    })
}

impl MappingsCheck {
    fn shows(&self, page: u32) -> bool {
        match &self.mappings {
            None => false,
            Some(Mappings::Unknown) => true,
            Some(Mappings::At(pages)) => pages.contains(&page),
        }
    }

    /// How long a check stays valid, in nanoseconds. Shorter if the file was not mapped: the
    /// process may be about to map it.
    fn valid(&self) -> u64 {
        match &self.mappings {
            Some(Mappings::At(pages)) if pages.is_empty() => 2_000_000,
            _ => 10_000_000,
        }
    }
}

extern "C" fn leave_all() {
    // A panic must not turn an ordinary exit into an abort.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let leavers: Vec<(FileId, Arc<dyn LeaveAtExit>)> = with(|registry| {
            registry
                .entries
                .iter()
                .filter_map(|((file, _), entry)| Some((*file, entry.leaver.as_ref()?.upgrade()?)))
                .collect()
        });
        let mut left: Vec<_> = leavers.iter().filter(|(_, leaver)| leaver.announce()).collect();
        // Once for each file, by its first registration. Those of a nested region come after the
        // outer one's.
        left.dedup_by_key(|(file, _)| *file);
        left.iter().for_each(|(_, leaver)| leaver.remove_name());
    }));
}
