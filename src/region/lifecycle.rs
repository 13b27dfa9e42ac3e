//! How a process joins a region, leaves it, passes its place to another process, and how a name
//! goes with the last one.
//!
//! What: an endpoint that is passed travels as a descriptor, which may be copied on the way: a
//! shell inherits it together with the program that it starts, a fork copies it. A lock belongs to
//! all copies of a descriptor. So a description of its own travels. It holds the second byte, and
//! gives that up on arrival. Copies hold nothing from then on.
//!
//! Bytes: participant i has the bytes 2i and 2i + 1 (docs/layout.md). The offset of the description
//! that travels is i + 1.
//!
//! Invariants
//! - I1: a participant is taken if either of its bytes is locked. The kernel answers for both at
//!   once.
//! - I2: the second byte is locked from pass-2 to take-3, while an endpoint travels, and at join-2.
//! - I3: either byte is locked at every instant between the join of one process and the leaving, or
//!   the death, of the last process to which the endpoint was passed.
//! - I4: while the second byte is locked, only a description that holds it lets a process take the
//!   first.
//!
//! Edges: the kernel's. It serialises all locks of a file.
//!
//! Crash, by step
//! - join-1 membership locked, join-2 both bytes locked, then the second freed, join-3 record
//!   written, join-4 sides of rings acquired (`raw/owner.rs`), join-5 membership unlocked. Death
//!   frees the locks. Before join-4 the peer sees nobody, after it a death.
//! - leave-1 sides closed, leave-2 peers woken, leave-3 record LEFT, leave-4 region RETIRED,
//!   leave-5 name removed, leave-6 lock freed. Before leave-1 the peer sees a death, after it an
//!   end of stream. Between leave-4 and leave-5 the name leads to a retired region that nobody
//!   holds. The next process that opens it finishes the removal.
//! - exit: as leave-1 to leave-5, with the record LEAVING instead of LEFT in a queue and a
//!   namespace, and no lock freed until the process is gone. A participant that is LEAVING is
//!   repaired as a dead one is, but it has left.
//! - pass-1 a description opened, pass-2 the second byte locked through it, pass-3 the identity
//!   cleared, pass-4 the first byte freed. Death before the descriptor was given away frees both: a
//!   death. After that it travels, alive as long as any copy is open.
//! - take-1 a description opened, take-2 the first byte locked through it, take-3 the second freed
//!   through the one that arrived, take-4 the identity written. Death before take-3 leaves it
//!   travelling, for another process that has a copy. After take-3 it is a death, whatever copies
//!   there are. Of two processes that take it at once, one gets through take-2. The other is
//!   refused, and so is one that comes after take-3.
//!
//! Source: our own.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::mem;
use std::ops::Range;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, NotHere, Result};
use crate::interrupt::Interrupts;
use crate::primitive::{AtomicU32, Ordering};
use crate::region::Region;
use crate::region::directory::unlink;
use crate::region::layout::header;
use crate::region::layout::header::RegionKind;
use crate::region::participant::{
    FileLockGuard, JOINED, LEFT, MEMBERSHIP_LOCK, MEMBERSHIP_TIMEOUT, participant_byte, transfer_byte,
};
use crate::region::process_exit::{LeaveAtExit, Ticket};
use crate::region::trace;
use crate::sys::file;
use crate::sys::file_lock;
use crate::sys::fork::{ForkGuardedFd, PassableGeneration};
use crate::sys::process::Identity;

impl Region {
    /// Removes the name, if it still leads to this region. The caller has locked membership, or
    /// forces it.
    fn retire(&self) -> Result<()> {
        self.word(header::REGION_STATE).store(header::RETIRED, Ordering::Release); // edge: region-state
        match self.path() {
            Some(named) if !self.is_nested() => {
                self.remove_dependents();
                unlink(&named.path, self.id()).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Whether all of its participants are gone. The caller has locked membership.
    fn is_stale(&self) -> bool {
        // A name that was to stay is never stale.
        !self.layout().is_persistent() && self.participants().first_live().is_none()
    }

    /// Removes the region's name. Unless forced, only if no process uses it.
    pub(crate) fn remove(&self, force: bool) -> Result<()> {
        let participants = self.participants();
        let timeout = if force { MEMBERSHIP_TIMEOUT / 10 } else { MEMBERSHIP_TIMEOUT };
        let _membership = participants.lock_membership(timeout).or_else(|error| {
            // Forced, and a stopped process holds the section: the name goes all the same.
            if force { Ok(FileLockGuard::new(self, MEMBERSHIP_LOCK)) } else { Err(error) }
        })?;
        if let (false, Some(index)) = (force, participants.first_live()) {
            let (user, remedy) = participants.describe_process(index);
            return Err(Error::new(
                ErrorKind::InUse { pid: participants.pid(index) },
                format_args!("remove {}", self.display_name()),
                format_args!("{user} using it"),
                "no participant alive",
                format_args!("{remedy}, or force the removal: the process keeps the memory, and the name is free"),
            ));
        }
        self.retire()
    }

    /// Removes the region's name if all of its participants are gone and it was not to stay.
    /// Returns whether it did.
    pub(crate) fn remove_if_stale(&self) -> Result<bool> {
        let participants = self.participants();
        let _membership = participants.lock_membership(MEMBERSHIP_TIMEOUT)?;
        let is_stale = self.is_stale();
        if is_stale {
            self.retire()?;
        }
        Ok(is_stale)
    }
}

/// What a kind of region does when a participant joins or leaves.
pub(crate) struct LifecycleHooks {
    /// Tells the others that a participant leaves because its process exits.
    pub(crate) announce_exit: fn(&Registration),
    /// Whether the name is to stay though the last participant, this one, leaves: docs/failure.md,
    /// "How long a name lives".
    pub(crate) has_undelivered: fn(&Region, usize) -> bool,
    /// What a participant does, in a word.
    pub(crate) role_name: fn(&Region, usize) -> &'static str,
}

/// This process as a participant of a region, until dropped.
pub struct Registration {
    region: Region,
    index: usize,
    /// [`HELD`], [`TRANSFERRED`] or [`EXITING`].
    stage: AtomicU32,
    hooks: &'static LifecycleHooks,
    /// 1: this handle has two of the region's participants.
    paired: AtomicU32,
    ticket: Ticket,
}

const HELD: u32 = 0;
/// Passed to another process, which will do the leaving.
const TRANSFERRED: u32 = 1;
/// The process exits, and has announced it.
const EXITING: u32 = 2;

impl Registration {
    /// Joins as the first free participant of `candidates`, which are some of `places`. Waits for
    /// one whose process is ending, or as long as the options say. `make_room` may repair the dead,
    /// or look for them, if none is free.
    /// `take_roles` runs while no other process can join or leave, and so does `candidates`.
    /// None: the region is losing its name. Look the name up again.
    pub(crate) fn join(
        region: Region,
        places: Range<usize>,
        candidates: impl Fn(&Region) -> Vec<usize>,
        make_room: impl Fn(&Region),
        role: u64,
        hooks: &'static LifecycleHooks,
        take_roles: impl FnOnce(&Region, usize) -> Result<()>,
    ) -> Result<Option<Self>> {
        let participants = region.participants();
        let (started, mut pause) = (Instant::now(), FIRST_PAUSE);
        let interrupts = Interrupts::of_this_thread();
        let mut has_made_room = false;
        let (membership, index) = loop {
            let membership = participants.lock_membership(MEMBERSHIP_TIMEOUT)?; // join-1
            let is_retired = !region.is_active(); // the process that was removing it died half-way
            let is_replaced = pause > FIRST_PAUSE && region.join.recreate_stale && region.is_stale();
            if (is_retired || is_replaced) && !region.is_reopened() {
                region.retire()?;
                return Ok(None);
            }
            let candidates = candidates(&region);
            let mut acquired = None;
            for &index in &candidates {
                // join-2
                if participants.try_acquire(index).map_err(|error| participants.lock_error(error))? {
                    acquired = Some(index);
                    break;
                }
            }
            match acquired {
                Some(index) => break (membership, index),
                // Others that join or leave need it, and making room takes long if there are many.
                None => drop(membership),
            }
            if !mem::replace(&mut has_made_room, true) {
                make_room(&region);
                continue;
            }
            has_made_room = false;
            let rest = time_to_wait(&region, &places, &candidates).saturating_sub(started.elapsed());
            if rest.is_zero() {
                return Err(no_free_participant(&region, &places, &candidates, started.elapsed()));
            }
            if interrupts.take() {
                return Err(Error::interrupted(format_args!("join {}", region.display_name())));
            }
            interrupts.sleep(pause.min(rest));
            pause = MAX_PAUSE.min(2 * pause);
        };
        let record = participants.record(index);
        if record.state == JOINED && participants.has_lost_lock(index, record.identity) {
            let pid = record.identity.pid;
            return Err(Error::new(
                ErrorKind::LockLost { pid },
                format_args!("join {}", region.display_name()),
                format_args!("process {pid} running without its lock"),
                "its lock held or the process gone",
                "that process closed descriptors that were not its own; end it",
            ));
        }
        let ticket = Ticket::new(participants.key(index));
        participants.store_identity(index, participants.own_identity()); // join-3
        participants.store_joined(index, role);
        take_roles(&region, index)?; // join-4
        drop(membership); // join-5
        trace::joined(&region, index, role);
        Ok(Some(Self::new(region, index, hooks, ticket)))
    }

    fn new(region: Region, index: usize, hooks: &'static LifecycleHooks, ticket: Ticket) -> Self {
        let (stage, paired) = (AtomicU32::new(HELD), AtomicU32::new(0));
        Self { region, index, stage, hooks, paired, ticket }
    }

    /// Takes over the participant that a description carries here.
    pub(crate) fn from_fd(arrived: Region, candidates: &[usize], hooks: &'static LifecycleHooks) -> Result<Self> {
        let failed = |error: io::Error| arrived.participants().lock_error(error);
        let offset = file::fd_offset(arrived.file()).map_err(failed)?;
        let index = offset.wrapping_sub(1);
        let refuse = |found: &str| {
            Err(Error::new(
                ErrorKind::InvalidOptions,
                "take an endpoint from a descriptor",
                found,
                "the descriptor that an endpoint was turned into, for the first time",
                "pass the descriptor itself, by inheritance or over a socket, and take it once; do not open its file again",
            ))
        };
        if index >= arrived.participants().len() as u64 {
            return refuse("a description of no participant of its region");
        }
        let index = index as usize;
        if !candidates.contains(&index) {
            return Err(Error::new(
                ErrorKind::WrongType,
                "take an endpoint",
                format_args!("one of the role {}", (hooks.role_name)(&arrived, index)),
                "one of the other role",
                "take it as what it is",
            ));
        }
        let region = arrived.reopen()?; // take-1
        let participants = region.participants();
        // Locked, and not by another description: by the one that arrived.
        let is_travelling = || {
            let byte = region.lock_byte(transfer_byte(index));
            let is_locked = file_lock::is_locked_elsewhere(region.file(), byte)?;
            Ok(is_locked && !file_lock::is_locked_elsewhere(arrived.file(), byte)?)
        };
        if !is_travelling().map_err(failed)? {
            return refuse("an endpoint that was taken already");
        }
        if !participants.try_lock(participant_byte(index)).map_err(failed)? {
            return refuse("an endpoint that another process is taking");
        }
        // take-2. Again: that process may have come and gone.
        if !is_travelling().map_err(failed)? {
            return refuse("an endpoint that was taken already");
        }
        let ticket = Ticket::new(participants.key(index));
        arrived.participants().unlock(transfer_byte(index)).map_err(failed)?; // take-3
        participants.store_identity(index, participants.own_identity()); // take-4
        Ok(Self::new(region, index, hooks, ticket))
    }

    /// Opens a description that carries the participant to another process, for
    /// [`from_fd`](Self::from_fd). From here on its record names no process, so that its loss on
    /// the way is a death, whatever runs. Dropping this handle is not leaving.
    pub(crate) fn export_fd(&self) -> Result<ForkGuardedFd> {
        if !self.region.is_from_this_process() {
            return Err(Error::forked("pass an endpoint"));
        }
        if self.region.is_nested() {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "pass this endpoint",
                "an endpoint of a queue in a namespace",
                "one of a region of its own",
                "share the namespace, and open the queue there",
            ));
        }
        if !self.change_stage(HELD, TRANSFERRED) {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "pass this endpoint",
                "a process that is exiting, and has left",
                "one that goes on",
                "pass endpoints before `main` returns",
            ));
        }
        let open = || {
            let file = ForkGuardedFd::new(|| file::reopen(self.region.file()))?; // pass-1
            file::set_fd_offset(&file, self.index as u64 + 1)?;
            let locked = file_lock::try_lock(&file, self.region.lock_byte(transfer_byte(self.index)))?; // pass-2
            if locked { Ok(file) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        let file = open().map_err(|error| {
            self.change_stage(TRANSFERRED, HELD);
            Error::io("pass an endpoint", error, "see what else locks this file")
        })?;
        let participants = self.region.participants();
        participants.store_identity(self.index, Identity::NOBODY); // pass-3
        // pass-4. If it fails, the description is gone, and the lock with it.
        let _ = participants.unlock(participant_byte(self.index));
        Ok(file)
    }

    /// Takes back what [`export_fd`](Self::export_fd) gave and was not passed after all.
    pub(crate) fn take_back(&self, file: &ForkGuardedFd) {
        let participants = self.region.participants();
        if self.region.is_from_this_process()
            && self.is_transferred()
            && matches!(participants.try_lock(participant_byte(self.index)), Ok(true))
        {
            let _ = file_lock::unlock(file, self.region.lock_byte(transfer_byte(self.index)));
            participants.store_identity(self.index, participants.own_identity());
            self.change_stage(TRANSFERRED, HELD);
        }
    }

    /// Gives up the participant without leaving: to the others that is a death, though the process
    /// runs.
    pub(crate) fn mark_dead(&self) -> Result<()> {
        if !self.region.is_from_this_process() {
            return Err(Error::forked("abandon an endpoint"));
        }
        self.region.participants().store_identity(self.index, Identity::NOBODY);
        self.stage.store(TRANSFERRED, Ordering::Relaxed); // private to this process
        Ok(())
    }

    fn change_stage(&self, from: u32, to: u32) -> bool {
        // edge: registration-stage
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether another process does the leaving.
    pub(crate) fn is_transferred(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == TRANSFERRED
    }

    /// From now on the region is left when the process exits.
    pub(crate) fn leave_at_exit(self: &Arc<Self>) {
        self.leave_at_exit_by(Arc::downgrade(self) as Weak<dyn LeaveAtExit>);
    }

    /// Like [`leave_at_exit`](Self::leave_at_exit), by the owner of this registration.
    pub(crate) fn leave_at_exit_by(&self, leaver: Weak<dyn LeaveAtExit>) {
        self.ticket.leave_at_exit_by(leaver);
    }

    pub(crate) fn set_paired(&self, is_paired: bool) {
        self.paired.store(u32::from(is_paired), Ordering::Relaxed); // read at exit, by this process
    }

    /// Whether its handle has another participant, too.
    pub(crate) fn is_paired(&self) -> bool {
        self.paired.load(Ordering::Relaxed) == 1
    }

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn region_mut(&mut self) -> &mut Region {
        &mut self.region
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    fn leave(&self) -> Result<()> {
        let participants = self.region.participants();
        // leave-3, before anything that can fail: a running process that has joined, and holds no
        // lock, would look as if it had lost it.
        participants.set_state(self.index, LEFT);
        let membership = participants.lock_membership(MEMBERSHIP_TIMEOUT / 10)?;
        let retired = if self.region.is_named() && self.is_last() {
            self.region.retire() // leave-4, leave-5
        } else {
            Ok(())
        };
        // leave-6, before membership is unlocked: the next one that leaves must find the lock free,
        // to see that it is the last.
        let freed = participants.unlock(participant_byte(self.index));
        drop(membership);
        retired.and(freed.map_err(|error| participants.lock_error(error)))
    }

    /// No other process takes part, and nothing waits for one that might still join.
    fn is_last(&self) -> bool {
        !self.region.participants().has_others(self.index) && !(self.hooks.has_undelivered)(&self.region, self.index)
    }
}

/// How long to wait for a place whose process is ending. A process that was killed gives up its
/// memory first, and a large one takes a while.
const ENDING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long to wait if none seems to be ending. A process that leaves tells its peers before it
/// marks its record.
const LEAVING_TIMEOUT: Duration = Duration::from_millis(5);

/// The processes that one attempt looks up, at most.
const MAX_LOOK_UPS: usize = 64;

/// Between two attempts to join.
const FIRST_PAUSE: Duration = Duration::from_micros(200);
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// How long an attempt to join that found no place may take in all.
fn time_to_wait(region: &Region, places: &Range<usize>, candidates: &[usize]) -> Duration {
    let participants = region.participants();
    let is_ending = |index| {
        let record = participants.record(index);
        record.state != JOINED || record.identity.is_ending()
    };
    region.join.timeout.unwrap_or_else(|| {
        // No candidates: each place has a participant, dead or alive.
        let all = if candidates.is_empty() { places.clone() } else { 0..0 };
        let is_any_ending = candidates.iter().copied().chain(all).take(MAX_LOOK_UPS).any(is_ending);
        if is_any_ending { ENDING_TIMEOUT } else { LEAVING_TIMEOUT }
    })
}

/// Why no candidate could be acquired in that time.
fn no_free_participant(region: &Region, places: &Range<usize>, candidates: &[usize], waited: Duration) -> Error {
    let participants = region.participants();
    let action = format!("join {}", region.display_name());
    let after = if waited < ENDING_TIMEOUT { String::new() } else { format!(", after {waited:.1?}") };
    if let RegionKind::Broadcast | RegionKind::Rpc = region.layout().kind() {
        let users = places.clone().map(|index| participants.describe_process(index).0);
        let users = users.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>().join(", ");
        let is_first = places.contains(&0);
        let (role, option) = match (region.layout().kind(), is_first) {
            (RegionKind::Rpc, true) => ("caller", "max_callers"),
            (RegionKind::Rpc, false) => ("responder", "max_responders"),
            (_, true) => ("publisher", "max_publishers"),
            (_, false) => ("subscriber", "max_subscribers"),
        };
        return Error::new(
            ErrorKind::TooManyParticipants,
            action,
            format_args!("every place of a {role} ({}) taken, by {users}{after}", places.len()),
            "a free one",
            format_args!("wait until one leaves (`open_timeout`), end one, or make it with more (`{option}`)"),
        );
    }
    if region.layout().kind() != RegionKind::Pipe {
        let users = (0..participants.len()).map(|index| participants.describe_process(index).0);
        let users = users.collect::<BTreeSet<String>>().into_iter().collect::<Vec<_>>();
        return Error::new(
            ErrorKind::TooManyParticipants,
            action,
            format_args!("all of its participants ({}) taken, by {}{after}", participants.len(), users.join(", ")),
            "a free one",
            "wait until one leaves (`open_timeout`), end one, or make it with more participants",
        );
    }
    let index = candidates.last().copied().unwrap_or_default();
    let (_, remedy) = participants.describe_process(index);
    let holders: Vec<_> = candidates.iter().map(|&index| participants.describe_process(index).0).collect();
    Error::new(
        ErrorKind::EndpointInUse { pid: participants.pid(index) },
        action,
        format_args!("that endpoint held by {}{after}", holders.join(" and ")),
        "a free one",
        format_args!("{remedy}, or use another name; `open_timeout` waits for it"),
    )
}

/// The process that has an endpoint. It is in the endpoint: each call looks there first.
#[derive(Debug)]
pub(crate) struct Holder(PassableGeneration);

impl Holder {
    pub(crate) fn this_process() -> Self {
        Self(PassableGeneration::current())
    }

    /// Whether this process has the endpoint: false in a forked child, and after it was passed on.
    #[inline]
    pub(crate) fn is_here(&self, registration: &Arc<Registration>) -> bool {
        self.0.is_current() || self.is_back(registration)
    }

    /// Refuses in a process that does not have the endpoint.
    #[inline]
    pub(crate) fn check<E: NotHere>(&self, registration: &Arc<Registration>) -> Result<(), E> {
        if self.is_here(registration) { Ok(()) } else { Err(self.refusal()) }
    }

    /// See [`check`](Self::check).
    pub(crate) fn check_for(&self, registration: &Arc<Registration>, action: &str) -> Result<()> {
        if self.is_here(registration) {
            Ok(())
        } else if self.0.is_passed() {
            Err(Error::passed(action))
        } else {
            Err(Error::forked(action))
        }
    }

    /// The endpoint was passed on: the other process uses the same positions from now on.
    pub(crate) fn pass(&self) {
        self.0.pass();
    }

    /// Whether it was passed on and [taken back](Registration::take_back) since.
    #[cold]
    fn is_back(&self, registration: &Registration) -> bool {
        let is_back = self.0.is_passed() && !registration.is_transferred();
        if is_back {
            self.0.take_back();
        }
        is_back
    }

    #[cold]
    fn refusal<E: NotHere>(&self) -> E {
        if self.0.is_passed() { E::PASSED } else { E::FORKED }
    }
}

impl LeaveAtExit for Registration {
    fn announce(&self) -> bool {
        let leaves = self.region.is_from_this_process() && self.change_stage(HELD, EXITING);
        if leaves {
            (self.hooks.announce_exit)(self);
        }
        leaves
    }

    fn remove_name(&self) {
        // As in `leave`, but the lock stays.
        let leave = || -> Result<()> {
            let _membership = self.region.participants().lock_membership(MEMBERSHIP_TIMEOUT / 10)?;
            if self.region.is_named() && self.is_last() { self.region.retire() } else { Ok(()) }
        };
        let _ = leave();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.region.is_from_this_process() && !self.is_transferred() {
            // If leaving fails, the next user or `tombolo doctor` finds a region without
            // participants.
            let _ = self.leave();
            trace::left(&self.region, self.index);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("region", &self.region).field("index", &self.index).finish()
    }
}
