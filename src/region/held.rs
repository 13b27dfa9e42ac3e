//! The seats that this process holds: which ones, and how it leaves them at its ordinary end.
//!
//! A seat whose record names this process, and that is not listed here, is from before an `execve`.
//!
//! At the process's ordinary end (`main` returns, or something calls `exit`) every seat that
//! somebody attends is left: its end is announced, and a name goes with its last user. The locks
//! stay: other threads may go on until the process is gone, so nobody may come into their places
//! before. A forked child leaves nothing of its parent's.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

use crate::sys;
use crate::sys::fork::{self, ForkSafe};
use crate::sys::memory::FileId;
use crate::sys::process::{self, Identity, Mappings};

/// The file, and the lock that is the seat's.
pub(crate) type Key = (FileId, u64);

/// What leaves a seat at the process's end.
pub(crate) trait Leaver: Send + Sync {
    /// Tells the others that the seat is given up. False: it was given up already, or is on its way
    /// to another process.
    fn announce(&self) -> bool;

    /// Takes the region's name away, if it serves nobody any more.
    fn give_up_name(&self);
}

struct Entry {
    number: u64,
    leaver: Option<Weak<dyn Leaver>>,
}

#[derive(Default)]
struct Held {
    entries: BTreeMap<Key, Entry>,
    /// The fork generation of the process whose they are.
    generation: u32,
    next: u64,
    leaves_at_exit: bool,
    /// The last looks at other processes, the latest first.
    looks: Vec<Look>,
}

/// What a process had mapped of a file. A peer can name it in any number of seats, and its list of
/// mappings can be long.
struct Look {
    process: (Identity, FileId),
    mappings: Option<Mappings>,
    at: u64,
}

const LOOKS: usize = 16;

static HELD: ForkSafe<Held> = ForkSafe::new();

fn with<R>(action: impl FnOnce(&mut Held) -> R) -> R {
    HELD.with(|held| {
        if held.generation != fork::generation() {
            held.generation = fork::generation();
            held.entries.clear(); // the parent's
            held.looks.clear();
        }
        action(held)
    })
}

/// Keeps a seat on the list until dropped.
pub(crate) struct Ticket {
    key: Key,
    number: u64,
}

impl Ticket {
    pub(crate) fn new(key: Key) -> Self {
        with(|held| {
            held.next += 1;
            let number = held.next;
            held.entries.insert(key, Entry { number, leaver: None });
            held.leaves_at_exit = held.leaves_at_exit || process::at_exit(leave_all);
            Self { key, number }
        })
    }

    /// From now on `leaver` leaves the seat at the process's end.
    pub(crate) fn attend(&self, leaver: Weak<dyn Leaver>) {
        with(|held| {
            if let Some(entry) = held.entries.get_mut(&self.key).filter(|entry| entry.number == self.number) {
                entry.leaver = Some(leaver);
            }
        });
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        with(|held| {
            // The same seat may have been taken anew.
            if held.entries.get(&self.key).is_some_and(|entry| entry.number == self.number) {
                held.entries.remove(&self.key);
            }
        });
    }
}

/// Whether this process holds that seat, or believes that it does.
pub(crate) fn holds(key: Key) -> bool {
    with(|held| held.entries.contains_key(&key))
}

/// Whether the process that a record names may still write to the file that this one has mapped at
/// `address`. It may if it provably runs, and has the file mapped where its record says, or does not
/// show what it has mapped.
pub(crate) fn may_write(identity: Identity, file: FileId, address: usize) -> bool {
    let process = (Identity { page: 0, ..identity }, file);
    let now = sys::now();
    let known = with(|held| {
        held.looks.retain(|look| now.saturating_sub(look.at) < look.valid());
        held.looks.iter().find(|look| look.process == process).map(|look| look.shows(identity.page))
    });
    known.unwrap_or_else(|| {
        let look = Look { process, mappings: identity.mappings_of(address), at: now };
        let shows = look.shows(identity.page);
        // That a process is gone is found out quickly.
        if look.mappings.is_some() {
            with(|held| {
                held.looks.truncate(LOOKS - 1);
                held.looks.insert(0, look);
            });
        }
        shows
    })
}

impl Look {
    fn shows(&self, page: u32) -> bool {
        match &self.mappings {
            None => false,
            Some(Mappings::NotShown) => true,
            Some(Mappings::At(pages)) => pages.contains(&page),
        }
    }

    /// Nanoseconds for which a look need not be taken again. For less if the file was not there: the
    /// process may be about to map it.
    fn valid(&self) -> u64 {
        match &self.mappings {
            Some(Mappings::At(pages)) if pages.is_empty() => 2_000_000,
            _ => 10_000_000,
        }
    }
}

extern "C" fn leave_all() {
    // A panic must not turn a good end into an abort.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let leavers: Vec<(FileId, Arc<dyn Leaver>)> = with(|held| {
            held.entries
                .iter()
                .filter_map(|((file, _), entry)| Some((*file, entry.leaver.as_ref()?.upgrade()?)))
                .collect()
        });
        let mut left: Vec<_> = leavers.iter().filter(|(_, leaver)| leaver.announce()).collect();
        // Once for each file, by the first of its seats; those of a region that lies in another
        // come after the other's own.
        left.dedup_by_key(|(file, _)| *file);
        left.iter().for_each(|(_, leaver)| leaver.give_up_name());
    }));
}
