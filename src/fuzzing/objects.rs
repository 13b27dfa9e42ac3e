//! A real namespace with an object of every kind, used by two members who come, leave and die; any word of it may change between
//! operations and in the middle of them. Of an object about which nobody lied a plain model says what must come out; of the others
//! only bounds and an end are promised.

use std::rc::Rc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::error::{LockError, SendError, SyncError};
use crate::inspect::describe_objects;
use crate::namespace::Namespace;
use crate::object::array::Array;
use crate::object::atomic::AtomicValue;
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::event::Event;
use crate::object::kind::{EVENT, ObjectKind, STATE};
use crate::object::member::Membership;
use crate::object::mutex::{LockResult, Mutex as SharedMutex};
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::repair::Repair;
use crate::object::rw_lock::RwLock;
use crate::object::sealed::Sealed;
use crate::object::semaphore::Semaphore;
use crate::object::table::{Entry, Table};
use crate::object::value::Value;
use crate::object::{once, rw_lock, semaphore, value as valued};
use crate::queue::Queue;
use crate::raw::robust_lock::History;
use crate::region::layout::queue::QueueLayout;
use crate::region::participant::participant_byte;
use crate::sys::file_lock as kernel;
use crate::wait::WaitStrategy;

/// Far more than any operation takes, whatever it is told.
const SOON: Duration = Duration::from_secs(10);
/// How deep one operation is within another.
const DEPTH: u32 = 4;
const LENGTH: usize = 11;
const PERMITS: u32 = 2;
const MOST: u64 = i32::MAX as u64;
const BOUND: u32 = 3;
const SLOTS: usize = 2;
const OWNER: u64 = 0xFFFF;
/// Bits of a pid that a barrier has room for.
const PID: u64 = (1 << 23) - 1;

/// Words of a namespace's objects, or the algorithms on the heap.
pub fn objects(data: &[u8]) {
    let mut input = Input(data);
    match input.byte() % 4 {
        0 => raw_objects::drive(&mut input),
        1 => World::<u64, u16>::drive(&mut input),
        2 => World::<[u8; 3], [u8; 12]>::drive(&mut input),
        _ => World::<[u64; 9], u64>::drive(&mut input),
    }
}

/// What this process is in the namespace, as one of its members.
struct Party<T, E> {
    member: Arc<Membership>,
    value: Value<T>,
    atomic: AtomicValue<i16>,
    array: Array<E>,
    mutex: SharedMutex<T>,
    again: ReentrantMutex<T>,
    rw: RwLock<T>,
    shared: Semaphore,
    owned: BoundedSemaphore,
    news: Condvar,
    flag: Event,
    gate: Barrier,
    first: Once,
}

/// A lock, as it must be. Parties are 0 and 1.
#[derive(Clone, Copy, Debug, Default)]
struct LockModel {
    owner: Option<usize>,
    died: bool,
    poisoned: bool,
}

struct Model<T, E> {
    value: T,
    version: u64,
    seen: [u64; 2],
    writer: LockModel,
    atomic: i16,
    elements: Vec<E>,
    section: LockModel,
    kept: T,
    mutex: LockModel,
    again_kept: T,
    again: LockModel,
    /// How often beyond once.
    depth: u32,
    rw_kept: T,
    rw: LockModel,
    readers: [u32; 2],
    shared: u64,
    owned: [u32; 2],
    flag: bool,
    broken: Option<u64>,
    done: bool,
    doing: Option<usize>,
    queue: VecDeque<u64>,
}

struct World<T, E> {
    model: Model<T, E>,
    parties: [Option<Rc<Party<T, E>>>; 2],
    /// How many things each is at that a death would not end.
    busy: [u32; 2],
    queue: Queue<u64>,
    region: Region,
    table: Table,
    /// The names of objects about which somebody lied.
    lied: Vec<String>,
    /// Whether the members' records, the table and the header are as they were.
    is_sound: bool,
    number: u64,
    naps: [u32; 2],
    meetings: u32,
    /// Handles of the dead, until all is over: dropping them is leaving.
    dead: Vec<Rc<Party<T, E>>>,
    /// In which the queue is; a third member.
    _host: Namespace,
}

/// Whose turn it is, and what it is to do.
struct At<'a, T, E> {
    side: usize,
    party: &'a Rc<Party<T, E>>,
    how: u8,
}

/// What is done while something is held.
type Meanwhile<'a, T, E> = dyn FnMut(&mut World<T, E>, &mut Input) + 'a;

trait Content: Pod + PartialEq + Debug + Send + Sync {}
impl<T: Pod + PartialEq + Debug + Send + Sync> Content for T {}

fn outcome<G>(result: LockResult<G>) -> (Result<History, SyncError>, Option<G>) {
    match result {
        Ok(guard) => (Ok(History::default()), Some(guard)),
        Err(LockError::OwnerDied(guard)) => (Ok(History { died: true, poisoned: false }), Some(guard)),
        Err(LockError::Poisoned(guard)) => (Ok(History { died: false, poisoned: true }), Some(guard)),
        Err(LockError::Failed(error)) => (Err(error), None),
    }
}

/// What a call answers that cannot have what it wants.
fn busy(patience: Option<Duration>) -> SyncError {
    if patience.is_some() { SyncError::TimedOut } else { SyncError::WouldBlock }
}

impl LockModel {
    fn told(&self) -> History {
        History { died: self.died && !self.poisoned, poisoned: self.poisoned }
    }

    fn take(&mut self, side: usize, patience: Option<Duration>) -> Result<History, SyncError> {
        match self.owner {
            Some(owner) if owner == side => Err(SyncError::WouldDeadlock),
            Some(_) => Err(busy(patience)),
            None => {
                self.owner = Some(side);
                Ok(self.told())
            }
        }
    }

    fn give_back(&mut self, poisoned: bool) {
        *self = Self { owner: None, died: false, poisoned };
    }

    fn release_dead(&mut self, side: usize) {
        if self.owner == Some(side) {
            self.owner = None;
            self.died = true;
        }
    }
}

impl<T: Content, E: Content> World<T, E> {
    fn drive(input: &mut Input) {
        let setup = input.byte();
        let lanes = [3, 5, 70][usize::from(setup % 3)];
        let wait = [WaitStrategy::SpinThenPark, WaitStrategy::Park, WaitStrategy::Spin][usize::from(setup / 3 % 3)];
        let (kept, elements) = (value::<T>(0), (0..LENGTH as u64).map(value).collect::<Vec<E>>());
        let host = Namespace::builder()
            .max_participants(lanes)
            .value("value", kept)
            .atomic("atomic", -7_i16)
            .array("array", &elements)
            .mutex("mutex", kept)
            .reentrant_mutex("again", kept)
            .rw_lock("rw", kept)
            .semaphore("shared", PERMITS)
            .bounded_semaphore("owned", BOUND)
            .condvar("news")
            .event("flag")
            .barrier("gate", 2)
            .once("first")
            .queue::<u64>("queue", SLOTS)
            .wait(wait)
            .create()
            .expect("memory for a small namespace");
        let event = host.event("flag").expect("just made");
        let region = event.handle().membership.region().reopen().expect("a descriptor");
        let table = Table::parse(&region).expect("what we write we read");
        let queue = host.queue("queue").expect("lanes for one");
        let model = Model {
            value: kept,
            version: 0,
            seen: [0; 2],
            writer: LockModel::default(),
            atomic: -7,
            elements,
            section: LockModel::default(),
            kept,
            mutex: LockModel::default(),
            again_kept: kept,
            again: LockModel::default(),
            depth: 0,
            rw_kept: kept,
            rw: LockModel::default(),
            readers: [0; 2],
            shared: PERMITS.into(),
            owned: [0; 2],
            flag: false,
            broken: None,
            done: false,
            doing: None,
            queue: VecDeque::new(),
        };
        let mut world = Self {
            model,
            parties: [None, None],
            busy: [0; 2],
            queue,
            region,
            table,
            lied: Vec::new(),
            is_sound: true,
            number: 0,
            naps: [4, 1],
            meetings: 1,
            dead: Vec::new(),
            _host: host,
        };
        world.come(0);
        world.come(1);
        while !input.0.is_empty() {
            world.step(input, 0);
        }
        world.finish();
    }

    /// Comes, as a process does that opens the namespace.
    fn come(&mut self, side: usize) {
        let region = self.region.reopen().expect("a descriptor");
        let arrive = || -> crate::error::Result<Party<T, E>> {
            let member = Arc::new(crate::options::expect_joined(Membership::join(region)?)?);
            let namespace = Namespace::new(Arc::clone(&member), self._host.value::<T>("value")?.handle().wait);
            Ok(Party {
                member,
                value: namespace.value("value")?,
                atomic: namespace.atomic("atomic")?,
                array: namespace.array("array")?,
                mutex: namespace.mutex("mutex")?,
                again: namespace.reentrant_mutex("again")?,
                rw: namespace.rw_lock("rw")?,
                shared: namespace.semaphore("shared")?,
                owned: namespace.bounded_semaphore("owned")?,
                news: namespace.condvar("news")?,
                flag: namespace.event("flag")?,
                gate: namespace.barrier("gate")?,
                first: namespace.once("first")?,
            })
        };
        match arrive() {
            Ok(party) => {
                self.parties[side] = Some(Rc::new(party));
                self.model.seen[side] = self.model.version;
            }
            Err(error) => assert!(!self.is_sound, "{error}"),
        }
        if !self.is_sound {
            // It may have been told of other lengths than the first ones were.
            self.lied.extend(self.table.entries.iter().map(|entry| entry.name.clone()));
        }
    }

    /// Leaves, unless it is in the middle of something: then it dies there. What it held is put right before anything else happens.
    fn go(&mut self, side: usize) {
        let Some(party) = self.parties[side].take() else { return self.come(side) };
        match Rc::try_unwrap(party) {
            Ok(party) => drop(party),
            Err(party) if self.busy[side] > 0 => {
                self.parties[side] = Some(party);
                return;
            }
            Err(party) => {
                let (region, lane) = (party.member.region(), party.member.participant());
                region.word(region.layout().participant(lane) + participant::PID).store(0, Relaxed);
                kernel::unlock(region.file(), participant_byte(lane)).expect("a descriptor");
                self.dead.push(party);
                let repaired = Repair { region: &self.region, table: &self.table }.all(None);
                assert!(!self.is_sound || repaired == 1, "{repaired} repaired");
            }
        }
        let model = &mut self.model;
        for lock in [&mut model.writer, &mut model.section, &mut model.mutex, &mut model.again, &mut model.rw] {
            lock.release_dead(side);
        }
        model.depth = if model.again.owner.is_none() { 0 } else { model.depth };
        (model.readers[side], model.owned[side]) = (0, 0);
        if !self.is_sound {
            self.lied.extend(self.table.entries.iter().map(|entry| entry.name.clone()));
        }
    }

    fn is_honest(&self, name: &str) -> bool {
        !self.lied.iter().any(|lied| lied == name)
    }

    #[track_caller]
    fn agree<R: PartialEq + Debug>(&self, name: &str, found: R, expected: R) {
        assert!(!self.is_honest(name) || found == expected, "{name}: {found:?}, not {expected:?}");
    }

    fn is_here(&self, side: usize, party: &Rc<Party<T, E>>) -> bool {
        self.parties[side].as_ref().is_some_and(|present| Rc::ptr_eq(present, party))
    }

    fn entry(&self, name: &str) -> &Entry {
        self.table.find(name).expect("one of ours").1
    }

    /// The lower half of a lock's word.
    fn owner(&self, name: &str, at: usize) -> u64 {
        self.region.word(self.entry(name).start + at).load(Relaxed) & OWNER
    }

    fn content<C: Content>(&mut self) -> C {
        self.number += 1;
        value(self.number)
    }

    /// For how long to wait; none: not at all. Naps cost time, so they are few, and those long enough to ask the kernel fewer.
    fn patience(&mut self, how: u8) -> Option<Duration> {
        let (which, nap) = match how % 8 {
            0..=4 => return None,
            5 => return Some(Duration::ZERO),
            6 => (0, Duration::from_millis(1)),
            _ => (1, Duration::from_millis(25)),
        };
        let left = &mut self.naps[which];
        *left = left.checked_sub(1)?;
        Some(nap)
    }

    fn step(&mut self, input: &mut Input, depth: u32) {
        let Some(op) = input.op() else { return };
        let side = usize::from(op >> 7);
        let started = Instant::now();
        match op % 32 {
            0 => self.go(side),
            1 => self.look(input),
            2..=12 => self.lie(input),
            code => {
                // How many operations are done meanwhile.
                let meanwhile = if depth < DEPTH { op >> 5 & 3 } else { 0 };
                let Some(party) = self.parties[side].clone() else { return };
                let mut meanwhile =
                    |world: &mut Self, input: &mut Input| (0..meanwhile).for_each(|_| world.step(input, depth + 1));
                let how = input.byte();
                let at = At { side, party: &party, how };
                match code {
                    13 => self.atomic(at, input),
                    14 => self.value(at, input, &mut meanwhile),
                    15 => self.write(at, input, &mut meanwhile),
                    16 => self.array(at, input),
                    17 => self.section(at, input, &mut meanwhile),
                    18..=19 => self.mutex(at, input, &mut meanwhile),
                    20 => self.again(at, input, &mut meanwhile),
                    21..=22 => self.read_locked(at, input, &mut meanwhile),
                    23 => self.write_locked(at, input, &mut meanwhile),
                    24..=25 => self.shared(at, input, &mut meanwhile),
                    26..=27 => self.owned(at, input, &mut meanwhile),
                    28 => self.flag(at),
                    29 => self.gate(at),
                    30 => self.first(at, input, &mut meanwhile),
                    _ => self.queue(how),
                }
            }
        }
        assert!(started.elapsed() < SOON, "operation {op:#04x} took {:?}", started.elapsed());
    }

    fn look(&mut self, input: &mut Input) {
        let choice = input.byte();
        let lane = usize::from(choice >> 2) % self.region.layout().participants();
        match choice % 4 {
            0 => {
                let shown = describe_objects(&self.region, &self.table);
                assert_eq!(shown.len(), self.table.entries.len());
                let number =
                    shown.iter().find(|object| object.name == "atomic").and_then(|object| object.value.clone());
                self.agree("atomic", number, Some(self.model.atomic.to_string()));
            }
            1 => assert!(
                !self.is_sound || Repair { region: &self.region, table: &self.table }.all(None) == 0,
                "nobody died"
            ),
            2 => drop((
                self.region.participants().status(lane),
                self.region.participants().pid(lane),
                self.region.participants().joins(lane),
            )),
            _ => {
                let Some(party) = &self.parties[usize::from(choice >> 7)] else { return };
                self.agree("mutex", party.mutex.is_locked(), self.model.mutex.owner.is_some());
                self.agree("value", party.value.version(), self.model.version);
                self.agree("gate", party.gate.is_broken(), self.model.broken.is_some());
                assert!(party.gate.waiting() <= 1 << 13 && party.gate.parties() == 2);
            }
        }
    }

    /// Changes a word: of an object, mostly one that matters; of the members' records, the table, the header.
    fn lie(&mut self, input: &mut Input) {
        let layout = *crate::object::table::layout_of(&self.region);
        let how = input.byte();
        let (start, count) = match how % 16 {
            0 => (0, self.region.layout().mapped() as usize / WORD),
            1 | 2 => (self.region.layout().participant(0), layout.participants() * own::WORDS),
            3 | 4 => (layout.entry(0), layout.first_object() - layout.entry(0)),
            _ => {
                let entry = &self.table.entries[usize::from(input.byte()) % self.table.entries.len()];
                let part = match how >> 4 & 3 {
                    0 | 1 => (0, 4),
                    2 => (16, 24),
                    _ => (0, entry.length),
                };
                (entry.start + part.0, part.1)
            }
        };
        let index = start + input.short() as usize % count;
        let word = |index: usize| self.region.word(index);
        let entry = self.table.entries.iter().find(|entry| (entry.start..entry.start + entry.length).contains(&index));
        let is_event = entry.is_some_and(|entry| is_event(entry, index - entry.start));
        let now = if is_event { self.region.futex(index).load(Relaxed).into() } else { word(index).load(Relaxed) };
        let some_lane = u64::from(input.byte()) % (layout.participants() as u64 + 2);
        let value = match input.byte() % 8 {
            0 => input.word(),
            1 => some_lane + 1,
            2 => u64::from(input.byte()) << 16 | (some_lane + 1),
            3 => u64::from(input.byte() % 4),
            // A barrier's.
            4 => input.short() | u64::from(input.byte()) << 35 | u64::from(input.byte()) << 43,
            5 => !0,
            _ => input.lie(now),
        };
        match is_event {
            true => self.region.futex(index).store(value as u32, Relaxed),
            false => word(index).store(value, Relaxed),
        }
        // A queue's header counts as part of the table.
        let is_header = |entry: &Entry| entry.spec.kind == ObjectKind::Queue && index - entry.start < header::WORDS;
        self.is_sound &= entry.is_some_and(|entry| !is_header(entry));
        self.lied.extend(entry.map(|entry| entry.name.clone()));
    }

    fn atomic(&mut self, at: At<T, E>, input: &mut Input) {
        let (atomic, operand) = (&at.party.atomic, input.short() as i16);
        let before = self.model.atomic;
        let (found, expected, after) = match at.how % 12 {
            0 => (atomic.load(), before, before),
            1 => (operand, operand, {
                atomic.store(operand);
                operand
            }),
            2 => (atomic.swap(operand), before, operand),
            3 => (atomic.fetch_add(operand), before, before.wrapping_add(operand)),
            4 => (atomic.fetch_sub(operand), before, before.wrapping_sub(operand)),
            5 => (atomic.fetch_max(operand), before, before.max(operand)),
            6 => (atomic.fetch_min(operand), before, before.min(operand)),
            7 => (atomic.fetch_and(operand), before, before & operand),
            8 => (atomic.fetch_or(operand), before, before | operand),
            9 => (atomic.fetch_xor(operand), before, before ^ operand),
            10 => (atomic.compare_exchange(before, operand).unwrap_or_else(|seen| seen), before, operand),
            _ => {
                let found = atomic.compare_exchange(operand, 5).unwrap_or_else(|seen| seen);
                (found, before, if operand == before { 5 } else { before })
            }
        };
        self.agree("atomic", found, expected);
        self.model.atomic = after;
    }

    fn value(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let (value, side) = (&at.party.value, at.side);
        let patience = self.patience(at.how >> 3);
        match at.how % 8 {
            0..=2 => {
                self.agree("value", value.load(), Ok(self.model.value));
                self.model.seen[side] = self.model.version;
            }
            3 | 4 => {
                let content = self.content();
                let mut lock = self.model.writer;
                let expected = lock.take(side, patience).map(drop);
                let found = match patience {
                    None => value.try_store(&content),
                    Some(patience) => value.store_timeout(&content, patience),
                };
                self.agree("value", found, expected);
                if expected.is_ok() {
                    self.stored(side, content);
                }
            }
            5 | 6 => {
                let content: T = self.content();
                let expected = self.model.writer.take(side, patience).map(|_| content);
                let before = self.model.value;
                self.busy[side] += 1;
                let change = |kept: &mut T| {
                    self.agree("value", *kept, before);
                    *kept = content;
                    meanwhile(self, input);
                };
                let found = match patience {
                    None => value.try_update(change),
                    Some(patience) => value.update_timeout(change, patience),
                };
                self.busy[side] -= 1;
                self.agree("value", found, expected);
                if expected.is_ok() {
                    self.model.writer.give_back(false);
                    self.stored(side, content);
                }
            }
            _ => {
                let expected = if self.model.seen[side] == self.model.version {
                    Err(SyncError::TimedOut)
                } else {
                    Ok(self.model.value)
                };
                self.agree("value", value.wait_for_change(patience.unwrap_or_default()), expected);
                self.model.seen[side] = self.model.version;
            }
        }
    }

    fn stored(&mut self, side: usize, content: T) {
        self.model.value = content;
        self.model.version += 1;
        self.model.seen[side] = self.model.version;
    }

    fn write(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let expected = self.model.writer.take(at.side, None).map(drop);
        let writer = at.party.value.try_writer();
        let found = writer.as_ref().map(drop).map_err(|error| *error);
        self.agree("value", found, expected);
        let Ok(mut writer) = writer else { return };
        for _ in 0..=at.how % 4 {
            meanwhile(self, input);
            if !self.is_here(at.side, at.party) {
                return std::mem::forget(writer);
            }
            let content = self.content();
            match at.how & 0x10 {
                0 => self.agree("value", writer.store(&content), Ok(())),
                _ => self.agree("value", writer.update(|kept| *kept = content), Ok(content)),
            }
            self.stored(at.side, content);
        }
        self.model.writer.give_back(false);
    }

    /// Whether what takes an object's lock for a moment, and would wait for it without end, can be asked for.
    fn is_brief(&self, name: &str, model: &LockModel, side: usize) -> bool {
        self.owner(name, STATE) == 0 || self.is_honest(name) && model.owner == Some(side)
    }

    fn array(&mut self, at: At<T, E>, input: &mut Input) {
        let (array, model) = (&at.party.array, &self.model);
        let start = usize::from(input.byte()) % (LENGTH + 2);
        let count = usize::from(input.byte()) % (LENGTH + 2);
        let start = if at.how >= 0xF0 { usize::MAX - start } else { start };
        let end = start.saturating_add(count);
        let outside = |index: usize| SyncError::OutOfBounds { index, length: LENGTH };
        let range = if end <= LENGTH { Ok(()) } else { Err(outside(end)) };
        let is_short = matches!(size_of::<E>(), 1 | 2 | 4 | 8);
        let is_brief = self.is_brief("array", &model.section, at.side);
        let section = if model.section.owner.is_some() { Err(SyncError::WouldDeadlock) } else { Ok(()) };
        match at.how % 8 {
            0 => self.agree("array", array.get(start), model.elements.get(start).copied().ok_or(outside(start))),
            1 if is_short || is_brief => {
                let content = self.content();
                let index = if start < LENGTH { Ok(()) } else { Err(outside(start)) };
                let expected = if is_short { index } else { index.and(section) };
                self.agree("array", array.set(start, content), expected);
                expected.into_iter().for_each(|()| self.model.elements[start] = content);
            }
            2 | 3 if is_brief => {
                let contents: Vec<E> = (0..count).map(|_| self.content()).collect();
                let expected = range.and(section);
                self.agree("array", array.store_from(start, &contents), expected);
                expected.into_iter().for_each(|()| self.model.elements[start..end].copy_from_slice(&contents));
            }
            4 | 5 => {
                let mut contents = vec![E::zeroed(); count];
                let found = array.load_into(start, &mut contents).map(|()| contents);
                self.agree("array", found, range.map(|()| model.elements[start..end].to_vec()));
            }
            6 if is_brief => self.agree("array", array.snapshot(), section.map(|()| model.elements.clone())),
            _ => {
                self.agree("array", array.to_vec(), Ok(model.elements.clone()));
                self.agree("array", array.iter().collect(), model.elements.clone());
            }
        }
    }

    fn section(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let patience = self.patience(at.how);
        let expected = self.model.section.take(at.side, patience);
        let (found, guard) = outcome(match patience {
            None => at.party.array.try_lock(),
            Some(patience) => at.party.array.lock_timeout(patience),
        });
        self.agree("array", found, expected);
        let Some(mut guard) = guard else { return };
        let start = usize::from(at.how >> 3) % LENGTH;
        let contents: Vec<E> = (start..LENGTH).map(|_| self.content()).collect();
        self.agree("array", guard.store_from(start, &contents), Ok(()));
        self.model.elements[start..].copy_from_slice(&contents);
        meanwhile(self, input);
        if !self.is_here(at.side, at.party) {
            return std::mem::forget(guard);
        }
        let content = self.content();
        self.agree("array", guard.set(start, content), Ok(()));
        self.model.elements[start] = content;
        self.agree("array", guard.to_vec(), Ok(self.model.elements.clone()));
        self.model.section.give_back(false);
    }

    fn mutex(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let patience = self.patience(at.how);
        let expected = self.model.mutex.take(at.side, patience);
        let (found, guard) = outcome(match patience {
            None => at.party.mutex.try_lock(),
            Some(patience) => at.party.mutex.lock_timeout(patience),
        });
        self.agree("mutex", found, expected);
        let Some(mut guard) = guard else { return };
        self.agree("mutex", *guard, self.model.kept);
        let mut poisoned = self.model.mutex.poisoned;
        let content = self.content();
        let action = at.how >> 3 & 7;
        match action {
            0..=2 => *guard = content,
            3 => {
                guard.poison();
                poisoned = true;
            }
            4 => {
                guard.clear_poison();
                poisoned = false;
            }
            _ => {}
        }
        meanwhile(self, input);
        if !self.is_here(at.side, at.party) {
            return std::mem::forget(guard);
        }
        if action <= 1 {
            self.model.kept = content;
        }
        let lane = at.party.member.participant() as u64;
        if action == 2 {
            guard.rollback();
        } else if action >= 6 && self.owner("mutex", STATE) == lane + 1 {
            // It takes the mutex again without a deadline, so that must be free then.
            let nap = self.patience(6).unwrap_or_default();
            let (again, guard) = outcome(at.party.news.wait_timeout(guard, nap));
            self.agree("mutex", again, Ok(History { died: false, poisoned }));
            if self.is_honest("mutex") {
                self.agree(
                    "news",
                    guard.map(|(guard, result)| (*guard, result.timed_out())),
                    Some((self.model.kept, true)),
                );
            }
        } else {
            drop(guard);
        }
        self.model.mutex.give_back(poisoned);
        self.agree("news", at.party.news.notify_one(), Ok(()));
    }

    fn again(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let patience = self.patience(at.how);
        let is_held = self.model.again.owner == Some(at.side);
        let expected = if is_held { Ok(History::default()) } else { self.model.again.take(at.side, patience) };
        self.model.depth += u32::from(is_held);
        let (found, guard) = outcome(match patience {
            None => at.party.again.try_lock(),
            Some(patience) => at.party.again.lock_timeout(patience),
        });
        self.agree("again", found, expected);
        let Some(guard) = guard else { return };
        self.agree("again", guard.get(), Ok(self.model.again_kept));
        meanwhile(self, input);
        if !self.is_here(at.side, at.party) {
            return std::mem::forget(guard);
        }
        let content = self.content();
        self.agree("again", guard.set(&content), Ok(()));
        self.model.again_kept = content;
        match self.model.depth.checked_sub(1) {
            Some(depth) => self.model.depth = depth,
            None => self.model.again.give_back(false),
        }
        match at.how & 0x80 {
            0 => drop(guard),
            _ => {
                guard.keep_locked();
                self.agree("again", at.party.again.unlock(), Ok(()));
            }
        }
    }

    fn read_locked(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let patience = self.patience(at.how);
        let mut lock = self.model.rw;
        let expected = match self.model.readers[at.side] {
            0 => lock.take(at.side, patience),
            _ => Ok(History { died: false, poisoned: lock.poisoned }),
        };
        let (found, guard) = outcome(match patience {
            None => at.party.rw.try_read(),
            Some(patience) => at.party.rw.read_timeout(patience),
        });
        self.agree("rw", found, expected);
        let Some(guard) = guard else { return };
        self.model.readers[at.side] += 1;
        self.agree("rw", *guard, self.model.rw_kept);
        let kept = *guard;
        meanwhile(self, input);
        if !self.is_here(at.side, at.party) {
            return std::mem::forget(guard);
        }
        assert!(*guard == kept, "a copy");
        self.model.readers[at.side] -= 1;
    }

    fn write_locked(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let patience = self.patience(at.how);
        let before = self.model.rw;
        let expected = match self.model.readers {
            readers if readers[at.side] > 0 => Err(SyncError::WouldDeadlock),
            _ => self.model.rw.take(at.side, patience),
        };
        let is_read = expected.is_ok() && self.model.readers != [0; 2];
        let expected = if is_read { Err(busy(patience)) } else { expected };
        let (found, guard) = outcome(match patience {
            None => at.party.rw.try_write(),
            Some(patience) => at.party.rw.write_timeout(patience),
        });
        self.agree("rw", found, expected);
        let Some(mut guard) = guard else {
            self.model.rw = before;
            return;
        };
        self.agree("rw", *guard, self.model.rw_kept);
        let mut poisoned = before.poisoned;
        let content = self.content();
        match at.how >> 3 & 7 {
            0..=2 => *guard = content,
            3 => {
                guard.poison();
                poisoned = true;
            }
            4 => {
                guard.clear_poison();
                poisoned = false;
            }
            _ => {}
        }
        meanwhile(self, input);
        if !self.is_here(at.side, at.party) {
            return std::mem::forget(guard);
        }
        match at.how >> 3 & 7 {
            0 | 1 => self.model.rw_kept = content,
            2 => guard.rollback(),
            _ => {}
        }
        self.model.rw.give_back(poisoned);
    }

    fn shared(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let permits = &at.party.shared;
        let patience = self.patience(at.how);
        let count = [1, 1, 2, 3, 0, MOST as u32, 1 << 31, u32::MAX][usize::from(input.byte()) % 8];
        let wanted = u64::from(count);
        match at.how >> 3 & 3 {
            0 => {
                let expected = match wanted {
                    _ if wanted <= self.model.shared => Ok(()),
                    count @ 0x8000_0000.. => Err(SyncError::LimitExceeded { count, limit: MOST }),
                    _ => Err(busy(patience)),
                };
                let found = match patience {
                    None => permits.try_acquire_many(count).map(|permit| permit.forget()),
                    Some(patience) => permits.acquire_many_timeout(count, patience).map(|permit| permit.forget()),
                };
                self.agree("shared", found, expected);
                self.model.shared -= if expected.is_ok() { wanted } else { 0 };
            }
            1 => {
                let sum = self.model.shared + wanted;
                let expected =
                    if sum <= MOST { Ok(()) } else { Err(SyncError::LimitExceeded { count: sum, limit: MOST }) };
                self.agree("shared", permits.release(count), expected);
                self.model.shared = if expected.is_ok() { sum } else { self.model.shared };
            }
            2 => {
                let expected = if self.model.shared > 0 { Ok(()) } else { Err(SyncError::WouldBlock) };
                let permit = permits.try_acquire();
                let found = permit.as_ref().map(drop).map_err(|error| *error);
                self.agree("shared", found, expected);
                self.model.shared -= u64::from(expected.is_ok());
                let Ok(permit) = permit else { return };
                meanwhile(self, input);
                if !self.is_here(at.side, at.party) {
                    return std::mem::forget(permit);
                }
                self.model.shared += u64::from(expected.is_ok() && self.model.shared < MOST);
            }
            _ => self.agree("shared", permits.available(), Ok(self.model.shared as u32)),
        }
    }

    fn owned(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let (permits, side) = (&at.party.owned, at.side);
        let patience = self.patience(at.how);
        let count = [1, 1, 2, 3, 0, BOUND + 1, 1 << 31, u32::MAX][usize::from(input.byte()) % 8];
        let left = BOUND.saturating_sub(self.model.owned.iter().sum());
        match at.how >> 3 & 3 {
            0 => {
                let expected = match count {
                    _ if count <= left => Ok(()),
                    _ if count > BOUND => Err(SyncError::LimitExceeded { count: count.into(), limit: BOUND.into() }),
                    _ => Err(busy(patience)),
                };
                let found = match patience {
                    None => permits.try_acquire_many(count).map(|permit| permit.forget()),
                    Some(patience) => permits.acquire_many_timeout(count, patience).map(|permit| permit.forget()),
                };
                self.agree("owned", found, expected);
                self.model.owned[side] += if expected.is_ok() { count } else { 0 };
            }
            1 => {
                let expected = if count <= self.model.owned[side] { Ok(()) } else { Err(SyncError::NotOwner) };
                self.agree("owned", permits.release(count), expected);
                self.model.owned[side] -= if expected.is_ok() { count } else { 0 };
            }
            2 => {
                let expected = if left > 0 { Ok(()) } else { Err(SyncError::WouldBlock) };
                let permit = permits.try_acquire();
                let found = permit.as_ref().map(drop).map_err(|error| *error);
                self.agree("owned", found, expected);
                self.model.owned[side] += u32::from(expected.is_ok());
                let Ok(permit) = permit else { return };
                meanwhile(self, input);
                if !self.is_here(side, at.party) {
                    return std::mem::forget(permit);
                }
                // Or somebody gave it back in between.
                self.model.owned[side] = self.model.owned[side].saturating_sub(1);
            }
            _ => {
                self.agree("owned", permits.available(), left);
                assert!(permits.available() <= permits.bound());
            }
        }
    }

    fn flag(&mut self, at: At<T, E>) {
        let flag = &at.party.flag;
        match at.how % 4 {
            0 => {
                self.agree("flag", flag.set(), Ok(()));
                self.model.flag = true;
            }
            1 => {
                self.agree("flag", flag.clear(), Ok(()));
                self.model.flag = false;
            }
            2 => self.agree("flag", flag.is_set(), self.model.flag),
            _ => {
                let patience = self.patience(at.how >> 2).unwrap_or_default();
                let expected = if self.model.flag { Ok(()) } else { Err(SyncError::TimedOut) };
                self.agree("flag", flag.wait_timeout(patience), expected);
            }
        }
    }

    fn gate(&mut self, at: At<T, E>) {
        let gate = &at.party.gate;
        let own = u64::from(std::process::id()) & PID;
        let broken = self.model.broken.map(|pid| SyncError::BarrierBroken { pid });
        match at.how % 8 {
            0 | 1 => {
                let patience = self.patience(at.how >> 3).unwrap_or_default();
                let found = gate.wait_timeout(patience).map(drop);
                self.agree("gate", found, Err(broken.unwrap_or(SyncError::TimedOut)));
                self.model.broken.get_or_insert(own);
            }
            2 => {
                self.agree("gate", gate.abort(), Ok(()));
                self.model.broken.get_or_insert(own);
            }
            3 | 4 => {
                self.agree("gate", gate.reset(), Ok(()));
                self.model.broken = None;
            }
            _ if self.meetings > 0 => {
                self.meetings -= 1;
                let patience = Duration::from_millis(if self.is_honest("gate") { 5000 } else { 1 });
                let other = self.parties[1 - at.side].as_ref().unwrap_or(at.party).gate.clone();
                let (one, another) = thread::scope(|scope| {
                    let other = scope.spawn(move || other.wait_timeout(patience));
                    (gate.wait_timeout(patience), other.join().expect("no panic"))
                });
                match broken {
                    Some(broken) => self.agree("gate", (one, another), (Err(broken), Err(broken))),
                    None => {
                        let of = |result: Result<crate::object::barrier::BarrierWaitResult, _>| {
                            result.map(|met| (met.index(), met.is_leader()))
                        };
                        let mut both = [of(one), of(another)];
                        both.sort_by_key(|met| met.unwrap_or_default());
                        self.agree("gate", both, [Ok((0, false)), Ok((1, true))]);
                    }
                }
            }
            _ => {}
        }
    }

    fn first(&mut self, at: At<T, E>, input: &mut Input, meanwhile: &mut Meanwhile<T, E>) {
        let first = &at.party.first;
        let done = self.model.done;
        match at.how % 4 {
            0 => self.agree("first", first.is_completed(), done),
            1 => {
                let patience = self.patience(at.how >> 2).unwrap_or_default();
                self.agree("first", first.wait_timeout(patience), if done { Ok(()) } else { Err(SyncError::TimedOut) });
            }
            _ => {
                let is_ours = self.is_honest("first") && self.model.doing == Some(at.side);
                if !done && !is_ours && self.owner("first", STATE) != 0 {
                    return; // it would wait without end
                }
                let doing = self.model.doing;
                let expected = if !done && is_ours { Err(SyncError::WouldDeadlock) } else { Ok(()) };
                let mut times = 0;
                self.busy[at.side] += 1;
                let found = first.call_once(|| {
                    times += 1;
                    self.model.doing = Some(at.side);
                    meanwhile(self, input);
                });
                self.busy[at.side] -= 1;
                self.agree("first", (found, times), (expected, u32::from(!done && !is_ours)));
                self.model.doing = doing;
                self.model.done |= found.is_ok();
            }
        }
    }

    fn queue(&mut self, how: u8) {
        match how % 4 {
            0 | 1 => {
                self.number += 1;
                let expected = if self.model.queue.len() < SLOTS { Ok(()) } else { Err(SendError::Full) };
                let found = self.queue.try_send(self.number);
                self.agree("queue", found, expected);
                if expected.is_ok() {
                    self.model.queue.push_back(self.number);
                }
            }
            2 => {
                let expected = self.model.queue.pop_front().ok_or(RecvError::Empty);
                let found = self.queue.try_recv();
                self.agree("queue", found, expected);
            }
            _ => self.agree("queue", self.queue.len(), self.model.queue.len()),
        }
    }

    /// Everything once more, by who comes last.
    fn finish(mut self) {
        self.parties = [None, None];
        (self.model.readers, self.model.owned) = ([0; 2], [0; 2]);
        self.come(0);
        let Some(party) = self.parties[0].clone() else { return };
        let model = &self.model;
        self.agree("value", (party.value.load(), party.value.version()), (Ok(model.value), model.version));
        self.agree("atomic", party.atomic.load(), model.atomic);
        self.agree("array", party.array.to_vec(), Ok(model.elements.clone()));
        let locked = party.mutex.try_lock().or_else(LockError::into_guard).map(|guard| *guard);
        self.agree("mutex", locked, Ok(model.kept));
        let again = party.again.try_lock().or_else(LockError::into_guard).and_then(|guard| guard.get());
        self.agree("again", again, Ok(model.again_kept));
        let written = party.rw.try_write().or_else(LockError::into_guard).map(|guard| *guard);
        self.agree("rw", written, Ok(model.rw_kept));
        self.agree("shared", party.shared.available(), Ok(model.shared as u32));
        self.agree("owned", party.owned.available(), BOUND);
        self.agree("flag", party.flag.is_set(), model.flag);
        self.agree("first", party.first.is_completed(), model.done);
        self.agree("queue", self.queue.len(), model.queue.len());
    }
}

/// The futex words.
fn is_event(entry: &Entry, index: usize) -> bool {
    match entry.spec.kind {
        ObjectKind::Value => index == valued::words::LOCK + EVENT || index == valued::words::CHANGED,
        ObjectKind::RwLock => index == EVENT || index == rw_lock::words::READERS_GONE,
        ObjectKind::Semaphore | ObjectKind::BoundedSemaphore => {
            index == EVENT || index == semaphore::words::MULTI_PERMIT_EVENT
        }
        ObjectKind::Atomic => false,
        ObjectKind::Once => index == EVENT || index == once::words::COMPLETED,
        ObjectKind::Queue => {
            let at = entry.spec.queue.as_ref().map_or(0, |_| QueueLayout::CONTROL);
            [control::READABLE, control::WRITABLE, control::BLOCKS_FREED, control::TASKS_DONE]
                .iter()
                .any(|word| at + word == index)
        }
        _ => index == EVENT,
    }
}
