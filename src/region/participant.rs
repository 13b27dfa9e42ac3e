//! Participants: the processes that take part in a region, and the kernel's locks that prove it.
//!
//! A region has a fixed number of participants. Each has a record in shared memory and two bytes of
//! the region's file that can be locked, [`participant_byte`] and the one after it. A process that
//! takes part holds the lock of the first byte through an open file description of its own. The
//! kernel frees it when the process is gone, whatever killed it, and no peer can forge that. The
//! record says which process it was, for messages, and to tell a death from a lock that was lost
//! because something closed its descriptor.
//!
//! One more byte, [`MEMBERSHIP_LOCK`], serialises joining, leaving and removing; another,
//! [`REPAIR_LOCK`], serialises repairs. `lifecycle.rs` has the steps.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::{Ordering, fence};
use crate::region::Region;
use crate::region::layout::participant as word;
use crate::region::process_exit::{self, RegistrationKey};
use crate::sys::file_lock;
use crate::sys::process::{self, Identity};

/// The byte that serialises joining, leaving and removing.
pub(crate) const MEMBERSHIP_LOCK: u64 = 1 << 30;

/// The byte that serialises repairs. Nobody waits for it.
const REPAIR_LOCK: u64 = MEMBERSHIP_LOCK + 1;

/// The first of a participant's two bytes.
pub(crate) const fn participant_byte(index: usize) -> u64 {
    2 * index as u64
}

/// The second byte. It is locked while the participant is being passed to another process.
pub(super) const fn transfer_byte(index: usize) -> u64 {
    participant_byte(index) + 1
}

/// The membership section takes microseconds. A process that waits longer has met a stopped one.
pub(crate) const MEMBERSHIP_TIMEOUT: Duration = Duration::from_secs(5);

// The states of a record.
pub(crate) const VACANT: u64 = 0;
pub(crate) const JOINED: u64 = 1;
pub(crate) const LEFT: u64 = 2;
/// Died, and what it left behind is repaired.
pub(crate) const REPAIRED: u64 = 3;
/// Left by a process that is about to exit. It may still be in the middle of a call. It is repaired
/// when the process is gone.
pub(crate) const LEAVING: u64 = 4;

/// How long a process that leaves searches for a running one without a lock.
const LAST_CHECK_TIME: Duration = Duration::from_millis(1);
const LAST_CHECKS: usize = 8;

/// Times that a process that wants to join waits for another one's repair.
const REPAIR_WAITS: u32 = 50;

/// What the kernel and the record say of a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParticipantStatus {
    /// No process has ever joined here.
    Vacant,
    /// A process takes part.
    Alive,
    /// The last process left.
    Left,
    /// The last process is gone without having left.
    Dead,
    /// The last process runs, yet its lock is free: something closed the descriptor.
    LockLost,
}

/// A participant's record, as read. It may be invalid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) identity: Identity,
    pub(super) state: u64,
}

/// The participants of a region.
#[derive(Clone, Copy)]
pub(crate) struct Participants<'a> {
    region: &'a Region,
}

impl<'a> Participants<'a> {
    pub(super) fn new(region: &'a Region) -> Self {
        Self { region }
    }

    /// How many there can be.
    pub(crate) fn len(self) -> usize {
        self.region.layout().participants()
    }

    /// First word of a record.
    fn at(self, index: usize) -> usize {
        self.region.layout().participant(index)
    }

    pub(super) fn record(self, index: usize) -> Record {
        let words = self.region.words(self.at(index), word::WORDS);
        // edge: participant-record
        let load = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        let namespace = load(word::PID_NAMESPACE);
        let identity = Identity {
            pid: load(word::PID),
            started: load(word::STARTED),
            namespace: namespace as u32,
            page: (namespace >> u32::BITS) as u32,
        };
        Record { identity, state: load(word::STATE) }
    }

    pub(super) fn store_identity(self, index: usize, identity: Identity) {
        let at = self.at(index);
        let namespace = u64::from(identity.page) << u32::BITS | u64::from(identity.namespace);
        // Relaxed: published by the store of the namespace.
        self.region.word(at + word::PID).store(identity.pid, Ordering::Relaxed);
        self.region.word(at + word::STARTED).store(identity.started, Ordering::Relaxed);
        self.region.word(at + word::PID_NAMESPACE).store(namespace, Ordering::Release); // edge: participant-record
    }

    /// Completes a record whose identity is stored. From here on the others see the participant.
    pub(super) fn store_joined(self, index: usize, role: u64) {
        let at = self.at(index);
        // Relaxed: published by the state.
        self.region.word(at + word::ROLE).store(role, Ordering::Relaxed);
        self.region.word(at + word::JOINS).fetch_add(1, Ordering::Relaxed);
        self.region.word(at + word::STATE).store(JOINED, Ordering::Release); // edge: participant-record
    }

    /// The PID in a record. 0: none.
    pub(crate) fn pid(self, index: usize) -> u64 {
        self.record(index).identity.pid
    }

    /// The PID namespace of a participant's process, if it is another one than ours: there its
    /// number means that process, here it may mean another.
    pub(crate) fn other_pid_namespace(self, index: usize) -> Option<u32> {
        let own = process::pid_namespace();
        let found = self.record(index).identity.namespace;
        (found != own && found != 0 && own != 0).then_some(found)
    }

    /// What messages call a participant's process, and how to get rid of it.
    pub(super) fn describe_process(self, index: usize) -> (String, &'static str) {
        match (self.pid(index), self.other_pid_namespace(index)) {
            (0, _) => ("an endpoint on its way to another process".into(), "wait until that has taken it and leaves"),
            (pid, None) => (format!("process {pid}"), "wait until it leaves, end it"),
            (pid, Some(namespace)) => (
                format!("process {pid} of another PID namespace ({namespace})"),
                "wait until it leaves, end it from within that namespace (`lsns -t pid` finds it)",
            ),
        }
    }

    /// The state in a record. It may be invalid.
    pub(crate) fn state(self, index: usize) -> u64 {
        // edge: participant-record
        self.region.word(self.at(index) + word::STATE).load(Ordering::Acquire)
    }

    pub(crate) fn set_state(self, index: usize, state: u64) {
        // edge: participant-record
        self.region.word(self.at(index) + word::STATE).store(state, Ordering::Release);
    }

    /// How many processes have joined as this participant so far.
    pub(crate) fn joins(self, index: usize) -> u64 {
        self.region.word(self.at(index) + word::JOINS).load(Ordering::Relaxed) // only compared
    }

    fn is_locked(self, index: usize) -> io::Result<bool> {
        let byte = self.region.lock_byte(participant_byte(index));
        file_lock::is_locked_elsewhere_in(self.region.file(), byte, 2) // I1
    }

    /// Takes the lock of a participant that no process holds, and that is not being passed on.
    pub(super) fn try_acquire(self, index: usize) -> io::Result<bool> {
        let byte = self.region.lock_byte(participant_byte(index));
        let acquired = file_lock::try_lock_all(self.region.file(), byte, 2)?;
        if acquired {
            self.unlock(transfer_byte(index))?;
        }
        Ok(acquired)
    }

    /// Calls `action` if no process takes part here, or can take part before `action` returns: this
    /// description holds the participant's lock meanwhile. It must not hold it already. Returns
    /// whether it was called.
    pub(crate) fn while_vacant(self, index: usize, action: impl FnOnce()) -> bool {
        let is_vacant = || !matches!(self.status(index), ParticipantStatus::Alive | ParticipantStatus::LockLost);
        if !is_vacant() || !matches!(self.try_acquire(index), Ok(true)) {
            return false;
        }
        // Again: another process may have joined, and lost its lock, meanwhile. About its own lock
        // this description is told nothing.
        let is_called = is_vacant();
        if is_called {
            action();
        }
        // Fails only if the descriptor is gone, and the lock with it.
        let _ = self.unlock(participant_byte(index));
        is_called
    }

    pub(super) fn try_lock(self, byte: u64) -> io::Result<bool> {
        file_lock::try_lock(self.region.file(), self.region.lock_byte(byte))
    }

    pub(super) fn unlock(self, byte: u64) -> io::Result<()> {
        file_lock::unlock(self.region.file(), self.region.lock_byte(byte))
    }

    /// Asks the kernel, through a description that does not hold the participant's lock itself.
    pub(crate) fn status(self, index: usize) -> ParticipantStatus {
        match self.is_locked(index) {
            // If the kernel does not answer, no process is declared dead.
            Ok(true) | Err(_) => return ParticipantStatus::Alive,
            Ok(false) => {}
        }
        // What the process wrote before its lock was freed is visible after the answer.
        fence(Ordering::SeqCst); // edge: kernel-lock
        let record = self.record(index);
        match record.state {
            VACANT => ParticipantStatus::Vacant,
            LEFT => ParticipantStatus::Left,
            // Again: the record may be that of a successor, which has just joined.
            _ => match self.is_locked(index) {
                Ok(true) | Err(_) => ParticipantStatus::Alive,
                Ok(false) if self.has_lost_lock(index, record.identity) => ParticipantStatus::LockLost,
                Ok(false) => ParticipantStatus::Dead,
            },
        }
    }

    /// Whether the process in the record of a participant whose lock is free may still run:
    /// something closed its descriptor.
    pub(super) fn has_lost_lock(self, index: usize, identity: Identity) -> bool {
        if identity.pid == u64::from(std::process::id()) && identity == self.own_identity() {
            return process_exit::is_registered(self.key(index)); // else it is from before an exec
        }
        process_exit::may_write(identity, self.region.id(), self.region.address())
    }

    pub(super) fn own_identity(self) -> Identity {
        Identity::of_self(self.region.address())
    }

    pub(super) fn key(self, index: usize) -> RegistrationKey {
        (self.region.id(), self.region.lock_byte(participant_byte(index)))
    }

    /// Whether a process has joined and not left, or is leaving because it exits.
    pub(crate) fn is_occupied(self, index: usize) -> bool {
        matches!(self.state(index), JOINED | LEAVING)
    }

    /// Those that have joined and not left, dead or alive.
    pub(crate) fn registered(self) -> impl Iterator<Item = usize> + use<'a> {
        (0..self.len()).filter(move |&index| self.state(index) == JOINED)
    }

    /// Whether a participant is dead and not yet repaired. `own` is the participant that this
    /// description holds, about which the kernel would not tell.
    pub(crate) fn is_dead(self, index: usize, own: Option<usize>) -> bool {
        Some(index) != own && self.is_occupied(index) && self.status(index) == ParticipantStatus::Dead
    }

    /// Where a process can join.
    pub(crate) fn free(self) -> Vec<usize> {
        (0..self.len()).filter(|&index| !self.is_occupied(index)).collect()
    }

    /// Repairs the dead if there is no free participant, and waits for another process that repairs
    /// them.
    pub(crate) fn make_room(self, repair: impl Fn()) {
        let is_full = || (0..self.len()).all(|index| self.is_occupied(index));
        for _ in 0..REPAIR_WAITS {
            if !is_full() {
                return;
            }
            repair();
            if !is_full() || !(0..self.len()).any(|index| self.status(index) == ParticipantStatus::Dead) {
                return;
            }
            thread::sleep(Duration::from_millis(1)); // another process is repairing
        }
    }

    /// A participant whose lock another description holds. One system call, however many there are.
    fn locked_elsewhere(self) -> io::Result<Option<usize>> {
        let start = self.region.lock_byte(participant_byte(0));
        let byte = file_lock::locked_elsewhere_in(self.region.file(), start, participant_byte(self.len()))?;
        Ok(byte.map(|byte| (byte - start) as usize / 2))
    }

    /// Whether any process takes part besides the one of `own`, through whose description this
    /// asks.
    pub(crate) fn has_others(self, own: usize) -> bool {
        match self.locked_elsewhere() {
            Err(_) => return true, // if the kernel does not answer, no process is declared dead
            Ok(Some(index)) if self.state(index) == JOINED => return true,
            // One that joins or leaves at this moment hides the others: check them one by one.
            Ok(_) => {}
        }
        // Or no lock is held, and a running process has lost its own. The first few are checked in
        // any case, so that a pause of this thread changes nothing. The rest count as running when
        // the time is up.
        let (mut checked, since) = (0, Instant::now());
        self.registered().filter(|&index| index != own).any(|index| {
            checked += 1;
            let is_late = checked > LAST_CHECKS && since.elapsed() > LAST_CHECK_TIME;
            is_late || matches!(self.status(index), ParticipantStatus::Alive | ParticipantStatus::LockLost)
        })
    }

    /// The first participant that a process holds, or ought to hold.
    pub(super) fn first_live(self) -> Option<usize> {
        match self.locked_elsewhere() {
            Ok(None) => {}
            Ok(Some(index)) => return Some(index),
            Err(_) => return Some(0), // if the kernel does not answer, no process is declared dead
        }
        // Those that there is no time to check count as running.
        let since = Instant::now();
        self.registered().find(|&index| {
            matches!(self.status(index), ParticipantStatus::Alive | ParticipantStatus::LockLost)
                || since.elapsed() > MEMBERSHIP_TIMEOUT / 10
        })
    }

    /// The right to repair, unless another process has it.
    pub(crate) fn try_lock_repair(self) -> Option<FileLockGuard<'a>> {
        matches!(self.try_lock(REPAIR_LOCK), Ok(true)).then(|| FileLockGuard::new(self.region, REPAIR_LOCK))
    }

    /// Enters the section that joining, leaving and removing share.
    pub(super) fn lock_membership(self, timeout: Duration) -> Result<FileLockGuard<'a>> {
        let started = Instant::now();
        while !self.try_lock(MEMBERSHIP_LOCK).map_err(|error| self.lock_error(error))? {
            if started.elapsed() >= timeout {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format_args!("join or leave {}", self.region.display_name()),
                    format_args!("another process in the middle of that for {timeout:?}"),
                    "microseconds",
                    "find and continue, or kill, the stopped one among its participants (`tombolo inspect`)",
                ));
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(FileLockGuard::new(self.region, MEMBERSHIP_LOCK))
    }

    pub(super) fn lock_error(self, error: io::Error) -> Error {
        let remedy = "use a file system with open-file-description locks (tmpfs, ext4, xfs, btrfs)";
        Error::io(format_args!("lock {}", self.region.display_name()), error, remedy)
    }
}

/// One of the region's bytes, locked until dropped.
pub(crate) struct FileLockGuard<'a> {
    region: &'a Region,
    byte: u64,
}

impl<'a> FileLockGuard<'a> {
    pub(super) fn new(region: &'a Region, byte: u64) -> Self {
        Self { region, byte }
    }
}

impl Drop for FileLockGuard<'_> {
    fn drop(&mut self) {
        // Fails only if the descriptor is gone, and the lock with it.
        let _ = self.region.participants().unlock(self.byte);
    }
}
