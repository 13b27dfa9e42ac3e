//! A real namespace with an object of every kind. Two processes use it: they join, leave and die.
//! Any word of it can change between operations and in the middle of them. An object whose words
//! are intact must show what a plain model says. Of the others only bounds and an end are promised.
//!
//! There is one file for each kind of object: what is expected of it, and the operations on it.

mod array;
mod atomic;
mod barrier;
mod bounded_semaphore;
mod corruption;
mod event;
mod lock;
mod mutex;
mod once;
mod queue;
mod reentrant_mutex;
mod rw_lock;
mod semaphore;
mod value;

use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytemuck::Pod;

use self::array::ExpectedArray;
use self::lock::ExpectedLock;
use self::mutex::ExpectedMutex;
use self::once::ExpectedOnce;
use self::reentrant_mutex::ExpectedReentrantMutex;
use self::rw_lock::ExpectedRwLock;
use self::value::ExpectedValue;
use super::input::{self, Input};
use super::raw_objects;
use crate::error::{LockError, Result};
use crate::inspect::describe_objects;
use crate::namespace::Namespace;
use crate::object::array::Array;
use crate::object::atomic::AtomicValue;
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::event::Event;
use crate::object::member::Membership;
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::repair::Repair;
use crate::object::rw_lock::RwLock;
use crate::object::sealed::Sealed;
use crate::object::semaphore::Semaphore;
use crate::object::table::{Entry, Table};
use crate::object::value::Value;
use crate::options::expect_joined;
use crate::primitive::Ordering::Relaxed;
use crate::queue::Queue;
use crate::region::Region;
use crate::region::layout::participant as participant_words;
use crate::region::participant::participant_byte;
use crate::sys::file_lock;
use crate::types::Shareable;
use crate::wait::WaitStrategy;

/// Far more than any operation takes, whatever words it reads.
const MAX_STEP_TIME: Duration = Duration::from_secs(10);
/// Operations within operations.
const MAX_DEPTH: u32 = 4;
const LENGTH: usize = 11;
const PERMITS: u32 = 2;
const BOUND: u32 = 3;
const SLOTS: usize = 2;
/// The bits of a lock's word that name its owner.
const OWNER_BITS: u64 = 0xFFFF;

/// Drives the objects of a namespace, or their algorithms on the heap.
pub fn objects(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => raw_objects::drive(&mut input),
        1 => Harness::<u64, u16>::drive(&mut input),
        2 => Harness::<[u8; 3], [u8; 12]>::drive(&mut input),
        _ => Harness::<[u64; 9], u64>::drive(&mut input),
    }
}

trait Content: Pod + Shareable + PartialEq + Debug + Send + Sync {}
impl<T: Pod + Shareable + PartialEq + Debug + Send + Sync> Content for T {}

/// What a process that joined the namespace has of it.
struct Process<T, E> {
    member: Arc<Membership>,
    value: Value<T>,
    atomic: AtomicValue<i16>,
    array: Array<E>,
    mutex: Mutex<T>,
    reentrant_mutex: ReentrantMutex<T>,
    rw_lock: RwLock<T>,
    semaphore: Semaphore,
    bounded_semaphore: BoundedSemaphore,
    condvar: Condvar,
    event: Event,
    barrier: Barrier,
    once: Once,
}

/// What the objects must show while their words are intact.
struct Expected<T, E> {
    value: ExpectedValue<T>,
    atomic: i16,
    array: ExpectedArray<E>,
    mutex: ExpectedMutex<T>,
    reentrant_mutex: ExpectedReentrantMutex<T>,
    rw_lock: ExpectedRwLock<T>,
    /// Permits that are available.
    semaphore: u64,
    /// Permits that each process has.
    bounded_semaphore: [u32; 2],
    event: bool,
    barrier_broken_by: Option<u64>,
    once: ExpectedOnce,
    queue: VecDeque<u64>,
}

impl<T, E> Expected<T, E> {
    /// Gives up what a process had when it left or died.
    fn release_dead(&mut self, side: usize) {
        for lock in [
            &mut self.value.writer,
            &mut self.array.lock,
            &mut self.mutex.lock,
            &mut self.reentrant_mutex.lock,
            &mut self.rw_lock.lock,
        ] {
            lock.release_dead(side);
        }
        if self.reentrant_mutex.lock.owner.is_none() {
            self.reentrant_mutex.depth = 0;
        }
        (self.rw_lock.readers[side], self.bounded_semaphore[side]) = (0, 0);
    }
}

struct Harness<T, E> {
    expected: Expected<T, E>,
    processes: [Option<Rc<Process<T, E>>>; 2],
    /// Calls of each process that run a closure now. A death does not end these.
    calls_running: [u32; 2],
    queue: Queue<u64>,
    region: Region,
    table: Table,
    /// The names of objects that have a changed word.
    corrupted: Vec<String>,
    /// Whether the participants' records, the table and the header are unchanged.
    structure_intact: bool,
    number: u64,
    sleeps_left: [u32; 2],
    barrier_waits_left: u32,
    /// Handles of dead processes. They are kept to the end, because to drop them is to leave.
    dead: Vec<Rc<Process<T, E>>>,
    /// A third participant, which has the queue.
    host: Namespace,
}

/// The process that does an operation, and the variant of the operation.
struct Turn<'a, T, E> {
    side: usize,
    process: &'a Rc<Process<T, E>>,
    variant: u8,
}

/// The operations that are done in the middle of another.
type Nested<'a, T, E> = dyn FnMut(&mut Harness<T, E>, &mut Input) + 'a;

impl<T: Content, E: Content> Harness<T, E> {
    fn drive(input: &mut Input) {
        let setup = input.byte();
        let participants = [3, 5, 70][usize::from(setup % 3)];
        let wait = [WaitStrategy::SpinThenPark, WaitStrategy::Park, WaitStrategy::Spin][usize::from(setup / 3 % 3)];
        let (content, elements) = (input::value::<T>(0), (0..LENGTH as u64).map(input::value).collect::<Vec<E>>());
        let host = Namespace::builder()
            .max_participants(participants)
            .value("value", content)
            .atomic("atomic", -7_i16)
            .array("array", &elements)
            .mutex("mutex", content)
            .reentrant_mutex("reentrant_mutex", content)
            .rw_lock("rw_lock", content)
            .semaphore("semaphore", PERMITS)
            .bounded_semaphore("bounded_semaphore", BOUND)
            .condvar("condvar")
            .event("event")
            .barrier("barrier", 2)
            .once("once")
            .queue::<u64>("queue", SLOTS)
            .wait(wait)
            .create()
            .expect("memory for a small namespace");
        let event = host.event("event").expect("just created");
        let region = event.handle().membership.region().reopen().expect("a descriptor");
        let table = Table::parse(&region).expect("a written table is valid");
        let queue = host.queue("queue").expect("room for a participant");
        let lock = ExpectedLock::default();
        let mut harness = Self {
            expected: Expected {
                value: ExpectedValue { content, version: 0, seen: [0; 2], writer: lock },
                atomic: -7,
                array: ExpectedArray { elements, lock },
                mutex: ExpectedMutex { content, lock },
                reentrant_mutex: ExpectedReentrantMutex { content, lock, depth: 0 },
                rw_lock: ExpectedRwLock { content, lock, readers: [0; 2] },
                semaphore: PERMITS.into(),
                bounded_semaphore: [0; 2],
                event: false,
                barrier_broken_by: None,
                once: ExpectedOnce { is_completed: false, running: None },
                queue: VecDeque::new(),
            },
            processes: [None, None],
            calls_running: [0; 2],
            queue,
            region,
            table,
            corrupted: Vec::new(),
            structure_intact: true,
            number: 0,
            sleeps_left: [4, 1],
            barrier_waits_left: 1,
            dead: Vec::new(),
            host,
        };
        harness.join(0);
        harness.join(1);
        while !input.is_empty() {
            harness.step(input, 0);
        }
        harness.finish();
    }

    /// Joins as a process that opens the namespace.
    fn join(&mut self, side: usize) {
        let region = self.region.reopen().expect("a descriptor");
        let open = || -> Result<Process<T, E>> {
            let member = Arc::new(expect_joined(Membership::join(region, None)?)?);
            let namespace =
                Namespace::new(Arc::clone(&member), self.host.value::<T>("value")?.handle().wait, Default::default());
            Ok(Process {
                member,
                value: namespace.value("value")?,
                atomic: namespace.atomic("atomic")?,
                array: namespace.array("array")?,
                mutex: namespace.mutex("mutex")?,
                reentrant_mutex: namespace.reentrant_mutex("reentrant_mutex")?,
                rw_lock: namespace.rw_lock("rw_lock")?,
                semaphore: namespace.semaphore("semaphore")?,
                bounded_semaphore: namespace.bounded_semaphore("bounded_semaphore")?,
                condvar: namespace.condvar("condvar")?,
                event: namespace.event("event")?,
                barrier: namespace.barrier("barrier")?,
                once: namespace.once("once")?,
            })
        };
        match open() {
            Ok(process) => {
                self.processes[side] = Some(Rc::new(process));
                self.expected.value.seen[side] = self.expected.value.version;
            }
            Err(error) => assert!(!self.structure_intact, "{error}"),
        }
        if !self.structure_intact {
            // The new handles can have read other lengths than the first ones.
            self.distrust_all();
        }
    }

    /// Makes a process leave, or die if it is in the middle of an operation. A process that is
    /// absent joins. While a call runs a closure, nothing happens. What a dead process held is
    /// repaired at once.
    fn leave_or_die(&mut self, side: usize) {
        let Some(process) = self.processes[side].take() else { return self.join(side) };
        match Rc::try_unwrap(process) {
            Ok(process) => drop(process),
            Err(process) if self.calls_running[side] > 0 => {
                self.processes[side] = Some(process);
                return;
            }
            Err(process) => {
                let (region, participant) = (process.member.region(), process.member.participant());
                region.word(region.layout().participant(participant) + participant_words::PID).store(0, Relaxed);
                file_lock::unlock(region.file(), participant_byte(participant)).expect("a descriptor");
                self.dead.push(process);
                let repaired = Repair { region: &self.region, table: &self.table }.all(None);
                assert!(!self.structure_intact || repaired == 1, "{repaired} repaired");
            }
        }
        self.expected.release_dead(side);
        if !self.structure_intact {
            self.distrust_all();
        }
    }

    /// Checks no object from now on.
    fn distrust_all(&mut self) {
        self.corrupted.extend(self.table.entries.iter().map(|entry| entry.name.clone()));
    }

    /// Whether no word of the object was changed.
    fn is_intact(&self, name: &str) -> bool {
        !self.corrupted.iter().any(|corrupted| corrupted == name)
    }

    /// Asserts that an intact object shows what it must.
    #[track_caller]
    fn check<R: PartialEq + Debug>(&self, name: &str, found: R, expected: R) {
        assert!(!self.is_intact(name) || found == expected, "{name}: {found:?}, not {expected:?}");
    }

    fn is_present(&self, side: usize, process: &Rc<Process<T, E>>) -> bool {
        self.processes[side].as_ref().is_some_and(|present| Rc::ptr_eq(present, process))
    }

    fn entry(&self, name: &str) -> &Entry {
        self.table.find(name).expect("a name of the namespace").1
    }

    /// The owner's bits of a lock's word.
    fn owner(&self, name: &str, offset: usize) -> u64 {
        self.region.word(self.entry(name).start + offset).load(Relaxed) & OWNER_BITS
    }

    fn next_content<C: Content>(&mut self) -> C {
        self.number += 1;
        input::value(self.number)
    }

    /// The time to wait, or `None` for a call that does not block. Sleeps cost time, so there are
    /// few, and fewer that are long enough for a liveness check.
    fn timeout(&mut self, variant: u8) -> Option<Duration> {
        let (which, sleep) = match variant % 8 {
            0..=4 => return None,
            5 => return Some(Duration::ZERO),
            6 => (0, Duration::from_millis(1)),
            _ => (1, Duration::from_millis(25)),
        };
        let left = &mut self.sleeps_left[which];
        *left = left.checked_sub(1)?;
        Some(sleep)
    }

    fn step(&mut self, input: &mut Input, depth: u32) {
        let Some(op) = input.next_op() else { return };
        let side = usize::from(op >> 7);
        let started = Instant::now();
        match op % 32 {
            0 => self.leave_or_die(side),
            1 => self.inspect(input),
            2..=12 => self.corrupt_word(input),
            code => {
                // The number of operations that are done in the middle of this one.
                let count = if depth < MAX_DEPTH { op >> 5 & 3 } else { 0 };
                let Some(process) = self.processes[side].clone() else { return };
                let mut nested =
                    |harness: &mut Self, input: &mut Input| (0..count).for_each(|_| harness.step(input, depth + 1));
                let variant = input.byte();
                let turn = Turn { side, process: &process, variant };
                match code {
                    13 => self.use_atomic(turn, input),
                    14 => self.use_value(turn, input, &mut nested),
                    15 => self.hold_writer(turn, input, &mut nested),
                    16 => self.use_array(turn, input),
                    17 => self.hold_array_lock(turn, input, &mut nested),
                    18..=19 => self.use_mutex(turn, input, &mut nested),
                    20 => self.use_reentrant_mutex(turn, input, &mut nested),
                    21..=22 => self.read_rw_lock(turn, input, &mut nested),
                    23 => self.write_rw_lock(turn, input, &mut nested),
                    24..=25 => self.use_semaphore(turn, input, &mut nested),
                    26..=27 => self.use_bounded_semaphore(turn, input, &mut nested),
                    28 => self.use_event(turn),
                    29 => self.use_barrier(turn),
                    30 => self.use_once(turn, input, &mut nested),
                    _ => self.use_queue(variant),
                }
            }
        }
        assert!(started.elapsed() < MAX_STEP_TIME, "operation {op:#04x} took {:?}", started.elapsed());
    }

    fn inspect(&mut self, input: &mut Input) {
        let choice = input.byte();
        let participant = usize::from(choice >> 2) % self.region.layout().participants();
        match choice % 4 {
            0 => {
                let shown = describe_objects(&self.region, &self.table);
                assert_eq!(shown.len(), self.table.entries.len());
                let number =
                    shown.iter().find(|object| object.name == "atomic").and_then(|object| object.value.clone());
                self.check("atomic", number, Some(self.expected.atomic.to_string()));
            }
            1 => assert!(
                !self.structure_intact || Repair { region: &self.region, table: &self.table }.all(None) == 0,
                "no process died"
            ),
            2 => drop((
                self.region.participants().status(participant),
                self.region.participants().pid(participant),
                self.region.participants().joins(participant),
            )),
            _ => {
                let Some(process) = &self.processes[usize::from(choice >> 7)] else { return };
                self.check("mutex", process.mutex.is_locked(), self.expected.mutex.lock.owner.is_some());
                self.check("value", process.value.version(), self.expected.value.version);
                self.check("barrier", process.barrier.is_broken(), self.expected.barrier_broken_by.is_some());
                assert!(process.barrier.waiting() <= 1 << 13 && process.barrier.parties() == 2);
            }
        }
    }

    /// Looks at everything once more, as a process that joins last.
    fn finish(mut self) {
        self.processes = [None, None];
        (self.expected.rw_lock.readers, self.expected.bounded_semaphore) = ([0; 2], [0; 2]);
        self.join(0);
        let Some(process) = self.processes[0].clone() else { return };
        let expected = &self.expected;
        self.check(
            "value",
            (process.value.load(), process.value.version()),
            (Ok(expected.value.content), expected.value.version),
        );
        self.check("atomic", process.atomic.load(), expected.atomic);
        self.check("array", process.array.to_vec(), Ok(expected.array.elements.clone()));
        let locked = process.mutex.try_lock().or_else(LockError::into_guard).map(|guard| *guard);
        self.check("mutex", locked, Ok(expected.mutex.content));
        let reentrant = process.reentrant_mutex.try_lock().or_else(LockError::into_guard).and_then(|guard| guard.get());
        self.check("reentrant_mutex", reentrant, Ok(expected.reentrant_mutex.content));
        let written = process.rw_lock.try_write().or_else(LockError::into_guard).map(|guard| *guard);
        self.check("rw_lock", written, Ok(expected.rw_lock.content));
        self.check("semaphore", process.semaphore.available(), Ok(expected.semaphore as u32));
        self.check("bounded_semaphore", process.bounded_semaphore.available(), BOUND);
        self.check("event", process.event.is_set(), expected.event);
        self.check("once", process.once.is_completed(), expected.once.is_completed);
        self.check("queue", self.queue.len(), expected.queue.len());
    }
}
