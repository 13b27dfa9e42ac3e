//! Who is alive: seats, and the kernel's locks that prove them.
//!
//! A region has a fixed number of seats, one for each part that a process can play. Each has two
//! bytes of the region's file that can be locked, [`seat_byte`] and the one after it. Whoever sits
//! in a seat holds the lock of its first byte through an open file description of its own; the
//! kernel frees it when the process is gone, whatever killed it, and no peer can forge that. The
//! seat's record in shared memory says who it was, for messages and for telling a death from a lock
//! that somebody else closed.
//!
//! Joining, leaving and removing are serialised by one more byte, [`ADMISSION`], and repairs by another, [`REPAIR`].
//!
//! What: an end that is passed on travels by a descriptor, which may be copied on the way: a shell
//! inherits it together with the program that it starts, a fork copies it. A lock belongs to all
//! copies of a descriptor. So what travels is a description made for the journey, which holds the
//! second byte, and gives that up on arrival; copies hold nothing from then on.
//!
//! Bytes: seat i has bytes 2i and 2i + 1 (docs/layout.md); the descriptor's position says i + 1.
//!
//! Invariants
//! - I1: a seat is taken if either of its bytes is locked, which the kernel answers for both at one
//!   moment.
//! - I2: the second byte is locked from (T2) to (A3), while an end is on its way, and at (J2).
//! - I3: at every instant between the join of one and the leaving, or the death, of the last to
//!   whom an end was passed on, either byte is locked.
//! - I4: only a description that holds the second byte lets anybody take the first while the second
//!   is locked.
//!
//! Edges: the kernel's. It serialises all of these locks for a file.
//!
//! Crash, by step
//! - join: (J1) admission locked, (J2) both bytes of the seat locked, then the second freed, (J3)
//!   record written, (J4) role taken (`raw/role.rs`), (J5) admission freed. Death frees the locks;
//!   before J4 the peer sees nobody, after it a death.
//! - leave: (L1) roles closed, (L2) peers woken, (L3) record LEFT, (L4) region RETIRED, (L5) name removed, (L6) locks freed.
//!   Before L1 the peer sees a death, after it an end of stream. Between L4 and L5 the name leads to a
//!   retired region that nobody holds: whoever opens it finishes the removal.
//! - end of the process: as L1 to L5, with the record of a lane LEAVING instead of LEFT, and no
//!   lock freed until the process is gone. A lane that is LEAVING is repaired as that of a dead
//!   one, who had left.
//! - pass on: (T1) a description opened, (T2) the second byte locked through it, (T3) nobody
//!   recorded, (T4) the first byte freed. Death before the descriptor was given to anybody frees
//!   both: a death. After that it is on its way, alive as long as any copy is open.
//! - arrive: (A1) a description opened, (A2) the first byte locked through it, (A3) the second
//!   freed through the one that arrived, (A4) record written. Death before A3 leaves it on its way,
//!   for another who has a copy; after A3 it is a death, whatever copies there are. Of two who
//!   arrive at once one gets through A2; the other is refused. So is a copy that comes after A3.
//!
//! Source: our own.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::{AtomicU32, Ordering, fence};
use crate::raw::mpmc::Now;
use crate::region::held::{self, Leaver, Ticket};
use crate::region::layout::{RETIRED, RegionKind, header, queue, ring, seat};
use crate::region::{Region, shown, unlink};
use crate::sys::file_lock;
use crate::sys::fork::ForkGuardedFd;
use crate::sys::memory;
use crate::sys::process::Identity;

/// The byte that serialises joining, leaving and removing.
pub(crate) const ADMISSION: u64 = 1 << 30;

/// The first of the two bytes of a seat. The second one is locked while the seat's end is on its
/// way to another process.
pub(crate) const fn seat_byte(index: usize) -> u64 {
    2 * index as u64
}

const fn journey_byte(index: usize) -> u64 {
    seat_byte(index) + 1
}

/// The byte that serialises repairs. Nobody waits for it.
const REPAIR: u64 = ADMISSION + 1;

/// Those sections are short; who waits longer has met a stopped process.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const VACANT: u64 = 0;
pub(crate) const PRESENT: u64 = 1;
pub(crate) const LEFT: u64 = 2;
/// Died, and what it left behind is put right.
pub(crate) const REPAIRED: u64 = 3;
/// Left by a process that is about to end. It may still be in the middle of something, and is
/// repaired when it is gone.
pub(crate) const LEAVING: u64 = 4;

/// The parts in a queue.
pub(crate) const SENDER: u64 = 1;
pub(crate) const RECEIVER: u64 = 2;
/// The part of all in a namespace.
pub(crate) const MEMBER: u64 = 3;

/// How long one who leaves looks for somebody who runs without a lock.
const FAREWELL: Duration = Duration::from_millis(1);
const FAREWELL_QUESTIONS: usize = 8;

/// Times that who wants a seat waits for somebody else's repair.
const PATIENT: u32 = 50;

/// What the kernel and the records say of a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ParticipantStatus {
    /// Nobody has ever sat here.
    Vacant,
    /// A process holds it.
    Alive,
    /// Its last holder left cleanly.
    Left,
    /// Its last holder is gone without having left.
    Dead,
    /// Its last holder runs, yet the lock is free: somebody closed the descriptor.
    LockLost,
}

/// The record of a seat.
#[derive(Clone, Copy, Debug)]
struct Record {
    identity: Identity,
    state: u64,
}

impl Region {
    fn record(&self, index: usize) -> Record {
        let words = self.words(self.layout().seat(index), seat::WORDS);
        let word = |at: usize| words.get(at).map_or(0, |word| word.load(Ordering::Acquire));
        let place = word(seat::NAMESPACE);
        let identity = Identity {
            pid: word(seat::PID),
            started: word(seat::STARTED),
            namespace: place as u32,
            page: (place >> u32::BITS) as u32,
        };
        Record { identity, state: word(seat::STATE) }
    }

    fn write_identity(&self, index: usize, identity: Identity) {
        let at = self.layout().seat(index);
        let place = u64::from(identity.page) << u32::BITS | u64::from(identity.namespace);
        self.word(at + seat::PID).store(identity.pid, Ordering::Relaxed);
        self.word(at + seat::STARTED).store(identity.started, Ordering::Relaxed);
        self.word(at + seat::NAMESPACE).store(place, Ordering::Release);
    }

    /// The process recorded in a seat; 0 for none.
    pub(crate) fn pid(&self, index: usize) -> u64 {
        self.record(index).identity.pid
    }

    /// What the record of a seat says, which may be a lie.
    pub(crate) fn state(&self, index: usize) -> u64 {
        self.word(self.layout().seat(index) + seat::STATE).load(Ordering::Acquire)
    }

    pub(crate) fn set_state(&self, index: usize, state: u64) {
        self.word(self.layout().seat(index) + seat::STATE).store(state, Ordering::Release);
    }

    /// How many have sat in a seat so far.
    pub(crate) fn joins(&self, index: usize) -> u64 {
        self.word(self.layout().seat(index) + seat::JOINS).load(Ordering::Relaxed)
    }

    fn is_taken(&self, index: usize) -> io::Result<bool> {
        file_lock::is_locked_elsewhere_in(self.file(), self.lock_byte(seat_byte(index)), 2) // I1
    }

    /// Takes a seat that nobody holds, and that is not on its way to anybody.
    fn try_sit_down(&self, index: usize) -> io::Result<bool> {
        let sits = file_lock::try_lock_all(self.file(), self.lock_byte(seat_byte(index)), 2)?;
        if sits {
            self.unlock(journey_byte(index))?;
        }
        Ok(sits)
    }

    fn try_lock(&self, byte: u64) -> io::Result<bool> {
        file_lock::try_lock(self.file(), self.lock_byte(byte))
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        file_lock::unlock(self.file(), self.lock_byte(byte))
    }

    /// Asks the kernel about a seat, through a description that does not hold it itself.
    pub(crate) fn standing(&self, index: usize) -> ParticipantStatus {
        match self.is_taken(index) {
            // If the kernel will not say, nobody is declared dead.
            Ok(true) | Err(_) => return ParticipantStatus::Alive,
            Ok(false) => {}
        }
        fence(Ordering::SeqCst); // what the holder wrote before it let go is visible after the kernel's answer
        let record = self.record(index);
        match record.state {
            VACANT => ParticipantStatus::Vacant,
            LEFT => ParticipantStatus::Left,
            // Again: the record may be a successor's, who has just come.
            _ => match self.is_taken(index) {
                Ok(true) | Err(_) => ParticipantStatus::Alive,
                Ok(false) if self.was_robbed(index, record.identity) => ParticipantStatus::LockLost,
                Ok(false) => ParticipantStatus::Dead,
            },
        }
    }

    /// Whether one who is recorded in a seat whose lock is free may still be at work there:
    /// somebody closed its descriptor.
    fn was_robbed(&self, index: usize, identity: Identity) -> bool {
        if identity.pid == u64::from(std::process::id()) && identity == self.own_identity() {
            return held::holds(self.seat_key(index)); // else it is from before an exec
        }
        held::may_write(identity, self.id(), self.address())
    }

    fn own_identity(&self) -> Identity {
        Identity::of_self(self.address())
    }

    fn seat_key(&self, index: usize) -> held::Key {
        (self.id(), self.lock_byte(seat_byte(index)))
    }

    /// Whether a seat was taken and not given up, or is being given up by a process that ends.
    pub(crate) fn is_occupied(&self, index: usize) -> bool {
        matches!(self.state(index), PRESENT | LEAVING)
    }

    /// Whether the name is to stay though the last one leaves: docs/failure.md, "How long a name
    /// lives".
    fn is_owed(&self, leaver: usize) -> bool {
        match self.layout().kind {
            RegionKind::Pipe => {
                let other = 1 - leaver.min(1);
                self.state(other) != LEFT && self.queued_for(other) > 0
            }
            RegionKind::Queue => {
                let word = |index| self.word(self.layout().queue_at() + index);
                Now::read(&word(queue::TAIL)).position() != word(queue::HEAD).load(Ordering::Acquire)
            }
            RegionKind::Namespace => self.layout().persistent,
        }
    }

    /// Positions published towards a seat of a pipe and not yet released by it: slots, or words of records.
    pub(crate) fn queued_for(&self, index: usize) -> u64 {
        // Ring 0 leads from seat 0 to seat 1, ring 1 back; a one-way pipe has no ring 1.
        let ring = 1 - index.min(1);
        if ring as u64 >= self.layout().directions {
            return 0;
        }
        let ring = self.layout().ring(ring);
        let head = self.word(ring + ring::HEAD).load(Ordering::Acquire);
        self.word(ring + ring::TAIL).load(Ordering::Acquire).wrapping_sub(head)
    }

    /// The seats that were taken and not given up, dead or alive.
    pub(crate) fn present(&self) -> impl Iterator<Item = usize> {
        (0..self.layout().seats()).filter(|&index| self.state(index) == PRESENT)
    }

    /// Whether somebody sat there, and is gone without having left, and nobody has repaired it. `own` is the seat that this
    /// description holds, about which the kernel would not tell us.
    pub(crate) fn is_dead(&self, index: usize, own: Option<usize>) -> bool {
        Some(index) != own && self.is_occupied(index) && self.standing(index) == ParticipantStatus::Dead
    }

    /// Seats for a newcomer. Only if there is none is everybody asked about, and the dead are repaired.
    pub(crate) fn free_seats(&self, repair: impl Fn()) -> Vec<usize> {
        let seats = || 0..self.layout().seats();
        let free = || seats().filter(|&index| !self.is_occupied(index)).collect::<Vec<_>>();
        for _ in 0..PATIENT {
            let found = free();
            if !found.is_empty() {
                return found;
            }
            repair();
            let found = free();
            if !found.is_empty() || !seats().any(|index| self.standing(index) == ParticipantStatus::Dead) {
                return found;
            }
            thread::sleep(Duration::from_millis(1)); // somebody else is repairing
        }
        Vec::new()
    }

    /// A seat whose lock somebody else holds; of several, any. One question, however many seats there are.
    fn held_elsewhere(&self) -> io::Result<Option<usize>> {
        let start = self.lock_byte(seat_byte(0));
        let byte = file_lock::locked_elsewhere_in(self.file(), start, seat_byte(self.layout().seats()))?;
        Ok(byte.map(|byte| (byte - start) as usize / 2))
    }

    /// Whether anybody is here besides the holder of a seat, who asks through that seat's description.
    pub(crate) fn has_others(&self, own: usize) -> bool {
        match self.held_elsewhere() {
            Err(_) => return true, // if the kernel will not say, nobody is declared dead
            Ok(Some(index)) if self.state(index) == PRESENT => return true,
            // One who comes or goes at this moment hides the others: one after another, then.
            Ok(_) => {}
        }
        // Or nobody holds anything, and somebody who runs has lost a lock. Some are asked about in any
        // case, so that a pause of this thread changes nothing; of many, those that there is no time
        // for are believed.
        let (mut asked, since) = (0, Instant::now());
        self.present().filter(|&index| index != own).any(|index| {
            asked += 1;
            let is_late = asked > FAREWELL_QUESTIONS && since.elapsed() > FAREWELL;
            is_late || matches!(self.standing(index), ParticipantStatus::Alive | ParticipantStatus::LockLost)
        })
    }

    /// The right to repair, unless somebody else has it.
    pub(crate) fn try_repairing(&self) -> Option<Held<'_>> {
        matches!(self.try_lock(REPAIR), Ok(true)).then_some(Held { region: self, byte: REPAIR })
    }

    /// Enters the section that joining, leaving and removing share.
    fn admission(&self, patience: Duration) -> Result<Held<'_>> {
        let started = Instant::now();
        while !self.try_lock(ADMISSION).map_err(|error| self.lock_error(error))? {
            if started.elapsed() >= patience {
                return Err(Error::new(
                    ErrorKind::Busy,
                    format_args!("join or leave {}", shown(self.place())),
                    format_args!("another process in the middle of that for {patience:?}"),
                    "microseconds",
                    "find and continue, or kill, the stopped one among its participants (`tombolo inspect`)",
                ));
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(Held { region: self, byte: ADMISSION })
    }

    fn lock_error(&self, error: io::Error) -> Error {
        let remedy = "use a file system with open-file-description locks (tmpfs, ext4, xfs, btrfs)";
        Error::io(format_args!("lock {}", shown(self.place())), error, remedy)
    }

    /// What the owner of a seat does there.
    pub(crate) fn part_name(&self, index: usize) -> &'static str {
        let part = self.word(self.layout().seat(index) + seat::PART).load(Ordering::Relaxed);
        match (self.layout().kind, self.layout().directions, index, part) {
            (RegionKind::Pipe, 1, 0, _) | (RegionKind::Queue, _, _, SENDER) => "sender",
            (RegionKind::Pipe, 1, _, _) | (RegionKind::Queue, _, _, RECEIVER) => "receiver",
            (RegionKind::Pipe, _, 0, _) => "end 0",
            (RegionKind::Pipe, _, _, _) => "end 1",
            (RegionKind::Namespace, _, _, MEMBER) => "member",
            (RegionKind::Queue | RegionKind::Namespace, ..) => "nobody",
        }
    }

    fn no_seat(&self, candidates: &[usize]) -> Error {
        let doing = format!("join {}", shown(self.place()));
        if self.layout().kind != RegionKind::Pipe {
            let mut pids: Vec<u64> = (0..self.layout().seats()).map(|index| self.pid(index)).collect();
            let seats = pids.len();
            pids.sort_unstable();
            pids.dedup();
            let pids: Vec<String> = pids.iter().map(u64::to_string).collect();
            return Error::new(
                ErrorKind::TooManyParticipants,
                doing,
                format_args!("all {seats} lanes held, by process {}", pids.join(", ")),
                "a free one",
                "wait until one leaves, end one, or make it with more participants",
            );
        }
        let pid = candidates.last().map_or(0, |&index| self.pid(index));
        Error::new(
            ErrorKind::EndpointInUse { pid },
            doing,
            format_args!("that end held by process {pid}"),
            "a free one",
            "wait until it leaves, end it, or use another name",
        )
    }

    /// The first seat that somebody else holds, or ought to.
    fn occupant(&self) -> Option<usize> {
        match self.held_elsewhere() {
            Ok(None) => {}
            Ok(Some(index)) => return Some(index),
            Err(_) => return Some(0), // if the kernel will not say, nobody is declared dead
        }
        // Those that there is no time for are believed.
        let since = Instant::now();
        self.present().find(|&index| {
            matches!(self.standing(index), ParticipantStatus::Alive | ParticipantStatus::LockLost)
                || since.elapsed() > PATIENCE / 10
        })
    }

    /// Takes the name away, if it still means this region; the caller is in the admission section, or forces it.
    fn retire(&self) -> Result<()> {
        self.word(header::LIFE).store(RETIRED, Ordering::Release);
        match self.place() {
            Some(place) if !self.is_within() => unlink(&place.path, self.id()).map(drop),
            _ => Ok(()),
        }
    }

    /// Removes the region's name. Unless forced, only if nobody uses it.
    pub(crate) fn remove(&self, force: bool) -> Result<()> {
        let _admission = self.admission(if force { PATIENCE / 10 } else { PATIENCE }).or_else(|error| {
            // Forced, and the section is held by a stopped process: the name goes all the same.
            if force { Ok(Held { region: self, byte: ADMISSION }) } else { Err(error) }
        })?;
        if let (false, Some(index)) = (force, self.occupant()) {
            let pid = self.pid(index);
            return Err(Error::new(
                ErrorKind::InUse { pid },
                format_args!("remove {}", shown(self.place())),
                format_args!("process {pid} using it"),
                "no participant alive",
                "end that process first, or force the removal: it keeps the memory, the name is free",
            ));
        }
        self.retire()
    }

    /// Removes the region's name if all of its participants are gone, and it was not to stay; says whether.
    pub(crate) fn remove_if_abandoned(&self) -> Result<bool> {
        let _admission = self.admission(PATIENCE)?;
        // A name that was to stay is not abandoned by anybody.
        let abandoned = !self.layout().persistent && self.occupant().is_none();
        if abandoned {
            self.retire()?;
        }
        Ok(abandoned)
    }
}

/// A byte of the region's, locked until dropped.
pub(crate) struct Held<'a> {
    region: &'a Region,
    byte: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // Fails only if the descriptor is gone, and the lock with it.
        let _ = self.region.unlock(self.byte);
    }
}

/// Announces the end of a seat whose process ends.
pub(crate) type Farewell = fn(&Registration);

/// A part in a region, held by this process until dropped.
pub struct Registration {
    region: Region,
    index: usize,
    /// [`HELD`], [`PASSED_ON`] or [`ENDING`].
    stage: AtomicU32,
    farewell: Farewell,
    /// 1: this handle has two of the region's seats.
    paired: AtomicU32,
    ticket: Ticket,
}

const HELD: u32 = 0;
/// Passed on to another process, which will do the leaving.
const PASSED_ON: u32 = 1;
/// The process ends, and has said so.
const ENDING: u32 = 2;

impl Registration {
    /// Takes the first free of `candidates`, to play `part`; `take_roles` runs while nobody else can join or leave. None: the region
    /// is losing its name, look the name up again.
    pub(crate) fn join(
        region: Region,
        candidates: impl FnOnce(&Region) -> Vec<usize>,
        part: u64,
        farewell: Farewell,
        take_roles: impl FnOnce(&Region, usize) -> Result<()>,
    ) -> Result<Option<Self>> {
        let admission = region.admission(PATIENCE)?; // J1
        if !region.is_active() && !region.is_kept() {
            region.retire()?; // its remover died half-way
            return Ok(None);
        }
        let candidates = candidates(&region);
        let mut taken = None;
        for &index in &candidates {
            // J2
            if region.try_sit_down(index).map_err(|error| region.lock_error(error))? {
                taken = Some(index);
                break;
            }
        }
        let Some(index) = taken else { return Err(region.no_seat(&candidates)) };
        let record = region.record(index);
        if record.state == PRESENT && region.was_robbed(index, record.identity) {
            let pid = record.identity.pid;
            return Err(Error::new(
                ErrorKind::LockLost { pid },
                format_args!("join {}", shown(region.place())),
                format_args!("process {pid} running without its lock"),
                "its seat locked or the process gone",
                "that process closed descriptors that were not its own; end it",
            ));
        }
        let ticket = Ticket::new(region.seat_key(index));
        let at = region.layout().seat(index);
        region.write_identity(index, region.own_identity()); // J3
        region.word(at + seat::PART).store(part, Ordering::Relaxed);
        region.word(at + seat::JOINS).fetch_add(1, Ordering::Relaxed);
        region.word(at + seat::STATE).store(PRESENT, Ordering::Release);
        take_roles(&region, index)?; // J4
        drop(admission); // J5
        Ok(Some(Self::new(region, index, farewell, ticket)))
    }

    fn new(region: Region, index: usize, farewell: Farewell, ticket: Ticket) -> Self {
        let (stage, paired) = (AtomicU32::new(HELD), AtomicU32::new(0));
        Self { region, index, stage, farewell, paired, ticket }
    }

    /// Takes over the seat of a description that is on its way.
    pub(crate) fn adopt(arrived: Region, candidates: &[usize], farewell: Farewell) -> Result<Self> {
        let position = memory::position(arrived.file()).map_err(|error| arrived.lock_error(error))?;
        let index = position.wrapping_sub(1);
        let refuse = |found: &str| {
            Err(Error::new(
                ErrorKind::InvalidOptions,
                "pick up an end from a descriptor",
                found,
                "the descriptor that an end was turned into, for the first time",
                "pass the very descriptor on, by inheritance or over a socket, and pick it up once; do not open its file again",
            ))
        };
        if index >= arrived.layout().seats() as u64 {
            return refuse("a description without a part in its region");
        }
        let index = index as usize;
        if !candidates.contains(&index) {
            return Err(Error::new(
                ErrorKind::WrongType,
                "pick up an end",
                arrived.part_name(index),
                "the other part",
                "pick it up as what it is",
            ));
        }
        let region = arrived.reopen()?; // A1
        // Locked, and not by another description: by the one that arrived.
        let is_on_its_way = || {
            let byte = region.lock_byte(journey_byte(index));
            let is_locked = file_lock::is_locked_elsewhere(region.file(), byte)?;
            Ok(is_locked && !file_lock::is_locked_elsewhere(arrived.file(), byte)?)
        };
        let failed = |error: io::Error| arrived.lock_error(error);
        if !is_on_its_way().map_err(failed)? {
            return refuse("an end that was picked up already");
        }
        if !region.try_lock(seat_byte(index)).map_err(failed)? {
            return refuse("an end that another process is picking up");
        }
        // A2. Again: that process may have come and gone.
        if !is_on_its_way().map_err(failed)? {
            return refuse("an end that was picked up already");
        }
        let ticket = Ticket::new(region.seat_key(index));
        arrived.unlock(journey_byte(index)).map_err(failed)?; // A3
        region.write_identity(index, region.own_identity()); // A4
        Ok(Self::new(region, index, farewell, ticket))
    }

    /// Puts the seat's end on its way: a description of its own, for another process to
    /// [`adopt`](Self::adopt). From here on nobody is recorded in the seat, so that its loss on the
    /// way is a death, whoever runs; and dropping this handle is not leaving.
    pub(crate) fn send_off(&self) -> Result<ForkGuardedFd> {
        if !self.region.is_ours() {
            return Err(Error::forked("pass on an end"));
        }
        if self.region.is_within() {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "pass on this end",
                "the end of a queue in a namespace",
                "one of a region of its own",
                "share the namespace, and open the queue there",
            ));
        }
        if !self.change_stage(HELD, PASSED_ON) {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "pass on this end",
                "a process that is about to end, and has left",
                "one that goes on",
                "pass ends on before `main` returns",
            ));
        }
        let open = || {
            let file = ForkGuardedFd::new(|| memory::reopen(self.region.file()))?; // T1
            memory::set_position(&file, self.index as u64 + 1)?;
            let locked = file_lock::try_lock(&file, self.region.lock_byte(journey_byte(self.index)))?; // T2
            if locked { Ok(file) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        let file = open().map_err(|error| {
            self.change_stage(PASSED_ON, HELD);
            Error::io("pass on an end", error, "mount /proc; see what else locks this file")
        })?;
        self.region.write_identity(self.index, Identity::NOBODY); // T3
        // T4. If it fails, the description is gone, and the lock with it.
        let _ = self.region.unlock(seat_byte(self.index));
        Ok(file)
    }

    /// Takes back an end that did not get away. As [`adopt`](Self::adopt), by the description that
    /// it was sent off from.
    pub(crate) fn take_back(&self, file: &ForkGuardedFd) {
        if self.region.is_ours()
            && self.is_passed_on()
            && matches!(self.region.try_lock(seat_byte(self.index)), Ok(true))
        {
            let _ = file_lock::unlock(file, self.region.lock_byte(journey_byte(self.index)));
            self.region.write_identity(self.index, self.region.own_identity());
            self.change_stage(PASSED_ON, HELD);
        }
    }

    /// Gives the seat up without leaving it: that is a death, though the process runs.
    pub(crate) fn abandon(&self) -> Result<()> {
        if !self.region.is_ours() {
            return Err(Error::forked("abandon an end"));
        }
        self.region.write_identity(self.index, Identity::NOBODY);
        self.stage.store(PASSED_ON, Ordering::Relaxed);
        Ok(())
    }

    fn change_stage(&self, from: u32, to: u32) -> bool {
        self.stage.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Another process does the leaving.
    pub(crate) fn is_passed_on(&self) -> bool {
        self.stage.load(Ordering::Relaxed) == PASSED_ON
    }

    /// From now on the seat is left when the process ends.
    pub(crate) fn attend(self: &Arc<Self>) {
        self.attend_by(Arc::downgrade(self) as Weak<dyn Leaver>);
    }

    /// As [`attend`](Self::attend), by the owner of this seat.
    pub(crate) fn attend_by(&self, leaver: Weak<dyn Leaver>) {
        self.ticket.attend(leaver);
    }

    pub(crate) fn pair(&self, is_paired: bool) {
        self.paired.store(u32::from(is_paired), Ordering::Relaxed);
    }

    /// Whether its handle has another seat, too.
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
        // L3, before anything that can fail: a running process in a seat without its lock would look robbed.
        self.region.set_state(self.index, LEFT);
        let admission = self.region.admission(PATIENCE / 10)?;
        let retired = if self.region.is_named() && self.is_last() {
            self.region.retire() // L4, L5
        } else {
            Ok(())
        };
        // L6, while still admitted: whoever leaves next must find the seat free, and see that it is the last.
        let freed = self.region.unlock(seat_byte(self.index));
        drop(admission);
        retired.and(freed.map_err(|error| self.region.lock_error(error)))
    }

    /// Nobody else is here, and nothing is left for anybody who might still come.
    fn is_last(&self) -> bool {
        !self.region.has_others(self.index) && !self.region.is_owed(self.index)
    }
}

impl Leaver for Registration {
    fn announce(&self) -> bool {
        let leaves = self.region.is_ours() && self.change_stage(HELD, ENDING);
        if leaves {
            (self.farewell)(self);
        }
        leaves
    }

    fn give_up_name(&self) {
        // As in `leave`, but that the lock stays.
        let leave = || -> Result<()> {
            let _admission = self.region.admission(PATIENCE / 10)?;
            if self.region.is_named() && self.is_last() { self.region.retire() } else { Ok(()) }
        };
        let _ = leave();
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.region.is_ours() && !self.is_passed_on() {
            // If leaving fails, the next user or `tombolo doctor` finds a region without participants.
            let _ = self.leave();
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("region", &self.region).field("index", &self.index).finish()
    }
}
