//! Hostile peers of namespaces and their objects.

use std::cell::Cell;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::queue::Queue;
use tombolo::sync::{
    Array, AtomicValue, Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, ReentrantMutex, RwLock,
};
use tombolo::sync::{LockError, Semaphore, SyncError, Value};
use tombolo::{Directory, Namespace, NamespaceBuilder};
use tombolo::{ErrorKind, RecvError, WaitStrategy};

use crate::support::{self, Process, Random, TestDir, start};
use crate::{Intruder, NAME, REGION_STATE, SHORT, soon, under_attack};

// ---- invalid words --------------------------------------------------------------------------------------------------

/// Positions of words in a namespace for [`words::PARTICIPANTS`] participants, as docs/layout.md
/// has them.
mod words {
    pub const PARTICIPANTS: usize = 4;
    pub const FIRST_RECORD: usize = 64;
    pub const RECORD_WORDS: usize = 16;
    /// Words of a participant's record.
    pub const PID: usize = 0;
    pub const STARTED: usize = 1;
    pub const NAMESPACE: usize = 2;
    pub const STATE: usize = 3;
    pub const PRESENT: u64 = 1;
    pub const TABLE: usize = FIRST_RECORD + PARTICIPANTS * RECORD_WORDS;
    pub const ENTRY: usize = 16;
    /// A word of an entry.
    pub const AT: usize = 5;

    /// The objects in the order of the table, with the event words on which processes sleep.
    pub const OBJECTS: [(&str, &[usize]); 16] = [
        ("short", &[17, 32]),
        ("long", &[17, 32]),
        ("number", &[]),
        ("real", &[]),
        ("narrow", &[1]),
        ("wide", &[1]),
        ("mutex", &[1]),
        ("again", &[1]),
        ("rw", &[1, 16]),
        ("permits", &[1, 2]),
        ("owned", &[1, 2]),
        ("news", &[1]),
        ("flag", &[1]),
        ("gate", &[1]),
        ("first", &[1]),
        ("queue", &[96, 112, 128, 144]),
    ];

    /// Words of a mutex and most other objects; of a value.
    pub const LOCK: usize = 0;
    pub const LOCK_EVENT: usize = 1;
    pub const VALUE_LOCK: usize = 16;
    /// The two words of a seqlock: of a value, of a mutex, of the first long element of an array,
    /// which has two words.
    pub const VALUE_CELL: usize = 0;
    pub const VALUE_BACKOFF: usize = 33;
    pub const ARRAY_BACKOFF: usize = 2;
    pub const MUTEX_CELL: usize = 2;
    pub const ELEMENT_CELL: usize = 16;
    pub const READERS: usize = 32;
    pub const OWNERS: usize = 16;
    pub const MARKS: usize = 16;
    pub const DIED: u64 = 1 << 16;

    /// A word of a participant's record.
    pub fn record(index: usize, word: usize) -> usize {
        FIRST_RECORD + index * RECORD_WORDS + word
    }
}

const PERMITS: u32 = 2;
const BOUND: u32 = 3;
const NARROW: [u16; 11] = [3; 11];
const WIDE: [[u8; 12]; 3] = [[4; 12]; 3];

fn builder(test_dir: &TestDir) -> NamespaceBuilder {
    Namespace::builder()
        .max_participants(words::PARTICIPANTS)
        .directory(test_dir.names())
        .value("short", 1_u64)
        .value("long", [2_u64; 9])
        .atomic("number", 7_i16)
        .atomic("real", 0.5_f64)
        .array("narrow", &NARROW)
        .array("wide", &WIDE)
        .mutex("mutex", 5_u64)
        .reentrant_mutex("again", [6_u64; 9])
        .rw_lock("rw", [8_u64; 2])
        .semaphore("permits", PERMITS)
        .bounded_semaphore("owned", BOUND)
        .condvar("news")
        .event("flag")
        .barrier("gate", 2)
        .once("first")
        .queue::<u64>("queue", 4)
}

/// This process's handles, and the attacker's words.
struct Objects {
    short: Value<u64>,
    long: Value<[u64; 9]>,
    number: AtomicValue<i16>,
    real: AtomicValue<f64>,
    narrow: Array<u16>,
    wide: Array<[u8; 12]>,
    mutex: Mutex<u64>,
    again: ReentrantMutex<[u64; 9]>,
    rw: RwLock<[u64; 2]>,
    permits: Semaphore,
    owned: BoundedSemaphore,
    news: Condvar,
    flag: Event,
    gate: Barrier,
    first: Once,
    queue: Queue<u64>,
    intruder: Intruder,
    /// First word of each object, in the order of the table.
    places: [usize; words::OBJECTS.len()],
}

impl Objects {
    /// As participant 0.
    fn new(test_dir: &TestDir) -> Self {
        let namespace = builder(test_dir).open(NAME).unwrap();
        let intruder = Intruder::at(&test_dir.names().join(NAME));
        Self::of(&namespace, intruder).unwrap()
    }

    fn of(namespace: &Namespace, intruder: Intruder) -> tombolo::Result<Self> {
        Ok(Self {
            short: namespace.value("short")?,
            long: namespace.value("long")?,
            number: namespace.atomic("number")?,
            real: namespace.atomic("real")?,
            narrow: namespace.array("narrow")?,
            wide: namespace.array("wide")?,
            mutex: namespace.mutex("mutex")?,
            again: namespace.reentrant_mutex("again")?,
            rw: namespace.rw_lock("rw")?,
            permits: namespace.semaphore("permits")?,
            owned: namespace.bounded_semaphore("owned")?,
            news: namespace.condvar("news")?,
            flag: namespace.event("flag")?,
            gate: namespace.barrier("gate")?,
            first: namespace.once("first")?,
            queue: namespace.queue("queue")?,
            places: places(&intruder),
            intruder,
        })
    }

    fn word(&self, object: &str, word: usize) -> usize {
        let index = words::OBJECTS.iter().position(|(name, _)| *name == object).unwrap();
        self.places[index] + word
    }

    fn set(&self, object: &str, word: usize, value: u64) {
        self.intruder.set(self.word(object, word), value);
    }

    /// Tries each lock once, for no longer than `timeout`, and unlocks it at once.
    fn try_locks(&self, timeout: Duration) -> [(&'static str, usize, Result<(), SyncError>); 7] {
        let lock = words::LOCK;
        [
            ("short", words::VALUE_LOCK, soon(|| self.short.store_timeout(&1, timeout))),
            ("narrow", lock, soon(|| taken(self.narrow.lock_timeout(timeout)))),
            ("wide", lock, soon(|| taken(self.wide.lock_timeout(timeout)))),
            ("mutex", lock, soon(|| taken(self.mutex.lock_timeout(timeout)))),
            ("again", lock, soon(|| taken(self.again.lock_timeout(timeout)))),
            ("rw", lock, soon(|| taken(self.rw.write_timeout(timeout)))),
            ("rw", lock, soon(|| taken(self.rw.read_timeout(timeout)))),
        ]
    }
}

fn places(intruder: &Intruder) -> [usize; words::OBJECTS.len()] {
    std::array::from_fn(|index| intruder.get(words::TABLE + index * words::ENTRY + words::AT) as usize)
}

/// Whether the lock was acquired, whatever happened to earlier owners.
fn taken<G>(result: Result<G, LockError<G>>) -> Result<(), SyncError> {
    result.map(drop).or_else(|error| error.into_guard().map(drop))
}

/// Opens the namespace and leaves it.
pub fn open_and_leave(arguments: &[String]) {
    Namespace::builder().directory(&arguments[0]).must_exist().open(NAME).unwrap();
}

/// Long enough for a liveness check.
const CHECK_TIMEOUT: Duration = Duration::from_millis(60);
/// Longer than a test may take.
const LONG_TIMEOUT: Duration = Duration::from_secs(1000);

#[test]
fn lock_owner_impossible_returns_corrupt() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    start("open_and_leave", &[test_dir.names().to_str().unwrap()]).finish(); // participant 1 has left
    let participants = words::PARTICIPANTS as u64;
    let [own, left, vacant] = [1, 2, 3];
    for owner in [left, vacant, participants + 1, 100, 0xFFFE, 0xFFFF] {
        for word in [owner, owner | words::DIED, owner | !0 << 16] {
            for (object, lock, _) in objects.try_locks(SHORT) {
                objects.set(object, lock, word);
            }
            assert!(objects.mutex.is_locked());
            for (object, _, answer) in objects.try_locks(SHORT) {
                // `Corrupt` if there was time for a liveness check, on a busy machine.
                assert!(matches!(answer, Err(SyncError::TimedOut | SyncError::Corrupt)), "{object}: {answer:?}");
            }
            for (object, _, answer) in objects.try_locks(LONG_TIMEOUT) {
                assert_eq!(answer, Err(SyncError::Corrupt), "{object} of {word:#x}");
            }
            objects.set("first", words::LOCK, word);
            assert_eq!(soon(|| objects.first.call_once(|| panic!("not ours"))), Err(SyncError::Corrupt));
            objects.set("first", words::LOCK, 0);
            for (object, lock, _) in objects.try_locks(Duration::ZERO) {
                objects.set(object, lock, 0);
            }
            assert!(objects.try_locks(SHORT).iter().all(|(_, _, answer)| *answer == Ok(())));
        }
    }
    // This process, though none of its threads has locked it.
    for (object, lock, _) in objects.try_locks(SHORT) {
        objects.set(object, lock, own);
    }
    assert!(objects.try_locks(CHECK_TIMEOUT).iter().all(|(_, _, answer)| *answer == Err(SyncError::TimedOut)));
    assert_eq!(objects.mutex.unlock(), Err(SyncError::NotOwner));
    // No owner, with bits that no process sets.
    for word in [1 << 18, 1 << 63, !0 << 16] {
        for (object, lock, _) in objects.try_locks(Duration::ZERO) {
            objects.set(object, lock, word);
        }
        for (object, _, answer) in objects.try_locks(LONG_TIMEOUT) {
            assert_eq!(answer, Err(SyncError::Corrupt), "{object}: {word:#x}");
        }
    }
}

/// Arrays are never poisoned, so nobody could clear it.
#[test]
fn array_poison_bit_is_ignored() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    objects.set("narrow", words::LOCK, words::DIED << 1);
    assert!(objects.narrow.lock().is_ok());
    assert!(objects.narrow.lock().is_ok());
}

/// Starts a process that has the namespace mapped and does nothing. Returns the process and its
/// index.
fn start_onlooker(test_dir: &TestDir, intruder: &Intruder, participant: usize) -> (Process, usize) {
    let process = start("stay_in_namespace", &[test_dir.names().to_str().unwrap()]);
    support::until(|| intruder.get(words::record(participant, words::STATE)) == words::PRESENT);
    (process, participant)
}

pub fn stay_in_namespace(arguments: &[String]) {
    let _namespace = Namespace::builder().directory(&arguments[0]).must_exist().open(NAME).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A record names a process, but nobody holds the file lock.
#[test]
fn lock_owner_without_file_lock_returns_lock_lost() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    let onlooker = start_onlooker(&test_dir, &objects.intruder, 1);
    let identity = [words::PID, words::STARTED, words::NAMESPACE].map(|word| (word, words::record(onlooker.1, word)));
    for runs in [true, false] {
        for (object, lock, _) in objects.try_locks(Duration::ZERO) {
            objects.set(object, lock, 4);
        }
        for (word, own) in identity {
            objects.intruder.set(words::record(3, word), if runs { objects.intruder.get(own) } else { u64::MAX - 7 });
        }
        objects.intruder.set(words::record(3, words::STATE), words::PRESENT);
        for (object, _, answer) in objects.try_locks(LONG_TIMEOUT) {
            let expected = if runs { Err(SyncError::LockLost) } else { Ok(()) };
            assert_eq!(answer, expected, "{object}: a process that runs without its lock, or has died");
        }
    }
    assert_ne!(objects.intruder.get(words::record(3, words::STATE)), words::PRESENT, "repaired");
}

/// The lock word changes while its owner holds the lock.
#[test]
fn lock_taken_from_owner_calls_return() {
    for word in [0, 2, words::DIED, 0xFFFF, u64::MAX, 1 | !0 << 18] {
        let test_dir = TestDir::new();
        let objects = Objects::new(&test_dir);
        let mut guard = objects.mutex.lock().unwrap();
        let (outer, inner) = (objects.again.lock().unwrap(), objects.again.lock().unwrap());
        let mut section = objects.wide.lock().unwrap();
        let mut writer = objects.short.try_writer().unwrap();
        let mut written = objects.rw.try_write().unwrap();
        for object in ["mutex", "again", "wide", "rw"] {
            objects.set(object, words::LOCK, word);
        }
        objects.set("short", words::VALUE_LOCK, word);
        (*guard, *written) = (6, [9; 2]);
        let _ = (inner.set(&[1; 9]), outer.get(), section.set(0, [7; 12]), writer.store(&3));
        let _ = (taken(objects.again.lock_timeout(SHORT)), objects.again.unlock(), objects.mutex.unlock());
        drop((guard, inner, outer, section, writer, written));
        let _ = objects.try_locks(SHORT);
    }
}

#[test]
fn value_versions_invalid_return_corrupt() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    for committed in [0, 1, 7, 1 << 40, u64::MAX] {
        for ahead in [4, 5, 1 << 40, u64::MAX - 1, u64::MAX] {
            let cells = [
                ("short", words::VALUE_CELL),
                ("long", words::VALUE_CELL),
                ("mutex", words::MUTEX_CELL),
                ("again", words::MUTEX_CELL),
                ("rw", words::MUTEX_CELL),
                ("wide", words::ELEMENT_CELL),
            ];
            for (object, cell) in cells {
                objects.set(object, cell, committed);
                objects.set(object, cell + 1, committed.wrapping_add(ahead));
            }
            assert_eq!((objects.short.load(), objects.long.load()), (Err(SyncError::Corrupt), Err(SyncError::Corrupt)));
            assert_eq!(objects.short.try_update(|_| ()), Err(SyncError::Corrupt));
            assert_eq!(taken(objects.mutex.try_lock()), Err(SyncError::Corrupt));
            assert_eq!(taken(objects.rw.try_read()), Err(SyncError::Corrupt));
            assert_eq!(taken(objects.rw.try_write()), Err(SyncError::Corrupt));
            assert_eq!(objects.again.try_lock().unwrap().get(), Err(SyncError::Corrupt));
            assert_eq!((objects.wide.get(0), objects.wide.get(1)), (Err(SyncError::Corrupt), Ok([4; 12])));
            assert_eq!(objects.wide.snapshot(), Err(SyncError::Corrupt));
            assert_eq!(objects.wide.iter().count(), 0);
            assert!(!objects.mutex.is_locked(), "what could not be read was not kept");
            // A store without a look at the old value repairs it.
            objects.short.try_store(&11).unwrap();
            objects.long.try_store(&[12; 9]).unwrap();
            objects.wide.set(0, [13; 12]).unwrap();
            objects.again.try_lock().unwrap().set(&[14; 9]).unwrap();
            assert_eq!((objects.short.load(), objects.long.load()), (Ok(11), Ok([12; 9])));
            assert_eq!((objects.wide.get(0), objects.again.try_lock().unwrap().get()), (Ok([13; 12]), Ok([14; 9])));
        }
    }
}

/// Versions at their limits, with any content in the buffers.
#[test]
fn value_versions_extreme_are_read() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    for (committed, ahead) in [(u64::MAX, 0), (u64::MAX, 1), (u64::MAX, 3), (1 << 63, 2), (5, 0)] {
        objects.set("short", words::VALUE_CELL, committed);
        objects.set("short", words::VALUE_CELL + 1, committed.wrapping_add(ahead));
        let _ = objects.short.load().unwrap();
        assert_eq!(objects.short.version(), committed);
        objects.short.try_store(&9).unwrap();
        assert_eq!((objects.short.load(), objects.short.version()), (Ok(9), committed.wrapping_add(1)));
    }
}

#[test]
fn barrier_state_invalid_calls_return() {
    const BY: u64 = 5 << 13;
    const BROKEN: u64 = 1 << 36;
    for generation in [0, 1, (1 << 21) - 1] {
        for word in [0, 1, 2, 3, 0x1FFF, BY, BY | 1, BROKEN, BROKEN | BY | 1, 63 << 37, !0 >> 21, BY | 7 << 37 | 2] {
            let test_dir = TestDir::new();
            let objects = Objects::new(&test_dir);
            objects.set("gate", 0, generation << 43 | word);
            for mark in 0..words::PARTICIPANTS {
                objects.set("gate", words::MARKS + mark, if mark == 2 { u64::MAX } else { generation + 1 });
            }
            let gate = &objects.gate;
            let _ = (soon(|| gate.wait_timeout(SHORT)), gate.waiting(), gate.is_broken());
            let _ = (soon(|| gate.wait_timeout(CHECK_TIMEOUT)), soon(|| gate.abort()));
            assert!(gate.is_broken());
            soon(|| gate.reset()).unwrap();
            assert!(!gate.is_broken());
            objects.set("gate", 0, generation << 43 | word);
            soon(|| drop(objects)); // leaving checks whether it has arrived
        }
    }
}

#[test]
fn semaphore_permits_invalid_return_corrupt() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    for invalid in [1 << 31, 1 << 32, u64::MAX] {
        objects.set("permits", 0, invalid);
        assert_eq!(objects.permits.try_acquire().unwrap_err(), SyncError::Corrupt);
        assert_eq!(
            soon(|| objects.permits.acquire_timeout(LONG_TIMEOUT).map(|permit| permit.forget())),
            Err(SyncError::Corrupt)
        );
        assert_eq!(objects.permits.release(1), Err(SyncError::Corrupt));
        assert_eq!(objects.permits.available(), Err(SyncError::Corrupt));
    }
    objects.set("permits", 0, 3);
    assert_eq!(
        objects.permits.try_acquire_many(3).map(|permit| permit.forget()),
        Ok(()),
        "more than there were, and none that could not be"
    );

    objects.owned.try_acquire_many(2).unwrap().forget();
    for owner in [2, 3, 5, 0xFFFF, u64::MAX, 1 << 16 | 2] {
        for permit in 0..BOUND as usize {
            objects.set("owned", words::OWNERS + permit, owner);
        }
        assert_eq!(objects.owned.available(), 0);
        assert_eq!(objects.owned.try_acquire().unwrap_err(), SyncError::WouldBlock);
        assert_eq!(
            soon(|| objects.owned.acquire_timeout(CHECK_TIMEOUT).map(|permit| permit.forget())),
            Err(SyncError::TimedOut)
        );
    }
    assert_eq!([1, 2, 3].map(|count| objects.owned.release(count)), [Err(SyncError::NotOwner); 3]);
    // This process owns all of them, with generations at their limit.
    for permit in 0..BOUND as usize {
        objects.set("owned", words::OWNERS + permit, !0 << 16 | 1);
    }
    assert_eq!([4, 3, 1].map(|count| objects.owned.release(count).is_ok()), [false, true, false]);
    for permit in 0..BOUND as usize {
        objects.set("owned", words::OWNERS + permit, !0 << 16);
    }
    assert_eq!(
        (objects.owned.try_acquire_many(3).map(|permit| permit.forget()), objects.owned.release(3)),
        (Ok(()), Ok(()))
    );
}

/// A process that waits for a permit checks the owners. There can be many of both.
#[test]
fn bounded_semaphore_many_owners_invalid_calls_return() {
    let test_dir = TestDir::new();
    let (participants, permits) = (4096, 1 << 16);
    let plan = Namespace::builder().max_participants(participants).bounded_semaphore("owned", permits);
    let namespace = plan.directory(test_dir.names()).open(NAME).unwrap();
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let _onlooker = start_onlooker(&test_dir, &intruder, 1);
    for participant in 2..participants {
        // Live participants, as far as the kernel can tell.
        (0..words::RECORD_WORDS)
            .for_each(|word| intruder.set(words::record(participant, word), intruder.get(words::record(1, word))));
    }
    let table = words::FIRST_RECORD + participants * words::RECORD_WORDS;
    let owners = intruder.get(table + words::AT) as usize + words::OWNERS;
    (0..permits as usize).for_each(|permit| intruder.set(owners + permit, 0xFFFF));
    let owned = namespace.bounded_semaphore("owned").unwrap();
    assert_eq!(soon(|| owned.acquire_timeout(CHECK_TIMEOUT).map(|permit| permit.forget())), Err(SyncError::TimedOut));
    (0..permits as usize).for_each(|permit| intruder.set(owners + permit, (permit % participants + 1) as u64));
    assert_eq!(soon(|| owned.acquire_timeout(CHECK_TIMEOUT).map(|permit| permit.forget())), Err(SyncError::TimedOut));
    let seen = soon(|| Directory::at(test_dir.names()).inspect(NAME)).unwrap();
    assert_eq!(seen.objects[0].users.len(), permits as usize);
}

#[test]
fn rw_lock_readers_invalid_writer_fails() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    for (bits, answer) in [
        (1 << 32, SyncError::Corrupt), // a participant that never joined
        (1 << 63, SyncError::Corrupt),
        (u64::MAX, SyncError::Corrupt),
        (1, SyncError::TimedOut), // this process, which does not read
        (0xFFFF, SyncError::TimedOut),
    ] {
        objects.set("rw", words::READERS, bits);
        assert!(matches!(taken(objects.rw.try_write()), Err(SyncError::WouldBlock | SyncError::Corrupt)));
        let timeout = if answer == SyncError::TimedOut { CHECK_TIMEOUT } else { LONG_TIMEOUT };
        assert_eq!(soon(|| taken(objects.rw.write_timeout(timeout))), Err(answer), "{bits:#x}");
        let answer = match bits & 0xFFFF {
            0xFFFF => Err(SyncError::LimitExceeded { count: 1 << 15, limit: (1 << 15) - 1 }),
            _ => Ok(()),
        };
        assert_eq!(taken(objects.rw.try_read()), answer, "a failed writer is not in the way");
    }
    // The count of readers is removed while one reads.
    objects.set("rw", words::READERS, 0);
    let reading = objects.rw.try_read().unwrap();
    objects.set("rw", words::READERS, 0);
    assert_eq!(
        taken(objects.rw.try_write()),
        Err(SyncError::WouldDeadlock),
        "this thread reads, whatever the bits are"
    );
    let kept = *reading;
    drop(reading);
    assert_eq!(kept, [8; 2]);
    assert_eq!(soon(|| taken(objects.rw.write_timeout(LONG_TIMEOUT))), Err(SyncError::Corrupt), "one less than none");
}

/// Whether a call gets what is free. It may yield to others that seem to wait, but not for ever.
fn at_last(mut call: impl FnMut() -> Result<(), SyncError>) -> bool {
    (0..1000).any(|_| {
        thread::sleep(SHORT / 10);
        soon(&mut call).is_ok()
    })
}

/// Event words can hold anything; what is free can be acquired.
#[test]
fn object_event_words_invalid_free_ones_are_obtained() {
    let bits = (0..16).chain([0xFFFF_FFFF, 0x8000_0000, !0, 1 << 32, 0xFFFF_FFF0]);
    for invalid in bits {
        let test_dir = TestDir::new();
        let mut objects = Objects::new(&test_dir);
        for (object, events) in words::OBJECTS {
            events.iter().for_each(|event| objects.set(object, *event, invalid));
        }
        assert!(at_last(|| taken(objects.mutex.try_lock())), "{invalid:#x}");
        assert!(at_last(|| objects.permits.try_acquire_many(PERMITS).map(|permit| permit.forget())), "{invalid:#x}");
        assert!(at_last(|| objects.owned.try_acquire_many(BOUND).map(|permit| permit.forget())), "{invalid:#x}");
        assert_eq!((objects.permits.release(PERMITS), objects.owned.release(BOUND)), (Ok(()), Ok(())));
        assert!(at_last(|| objects.short.try_store(&4)) && objects.short.load() == Ok(4));
        for (object, events) in words::OBJECTS {
            events.iter().for_each(|event| objects.set(object, *event, invalid));
        }
        for timeout in [Duration::ZERO, SHORT] {
            for index in 0..objects.try_locks(timeout).len() {
                assert!(at_last(|| objects.try_locks(timeout)[index].2), "{index} with {invalid:#x}, {timeout:?}");
            }
            assert!(
                at_last(|| objects.permits.acquire_timeout(timeout).map(|permit| permit.forget())),
                "{invalid:#x}, {timeout:?}"
            );
            assert!(
                at_last(|| objects.owned.acquire_timeout(timeout).map(|permit| permit.forget())),
                "{invalid:#x}, {timeout:?}"
            );
        }
        assert_eq!(soon(|| objects.flag.wait_timeout(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.first.wait_timeout(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.short.wait_for_change(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.gate.wait_timeout(SHORT)).map(drop), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.queue.recv_timeout(SHORT)), Err(RecvError::TimedOut));
        let guard = objects.mutex.lock().unwrap();
        let _ = soon(|| objects.news.wait_timeout(guard, SHORT)).unwrap();
        let _ = (objects.news.notify_all(), objects.flag.set(), objects.queue.try_send(1));
        assert_eq!((objects.flag.wait_timeout(SHORT), objects.queue.recv()), (Ok(()), Ok(1)));
    }
}

/// A newcomer yields where the no-barging bit is set, but for no longer than a millisecond.
#[test]
fn lock_no_barging_bit_set_newcomer_yields() {
    let test_dir = TestDir::new();
    let objects = Objects::new(&test_dir);
    let barred = |object: &str| objects.set(object, words::LOCK_EVENT, 8);
    let is_refused = |object: &str, attempt: &dyn Fn() -> Result<(), SyncError>| {
        (0..100).any(|_| {
            barred(object);
            let refused = attempt() == Err(SyncError::WouldBlock);
            let barred = objects.intruder.get(objects.word(object, words::LOCK_EVENT)) & 8 != 0;
            assert_eq!(refused, barred, "acquiring clears the bit");
            refused
        })
    };
    assert!(is_refused("mutex", &|| taken(objects.mutex.try_lock())));
    for count in [1, 2] {
        let attempt = || {
            objects
                .permits
                .try_acquire_many(count)
                .map(|permit| permit.forget())
                .and_then(|()| objects.permits.release(count))
        };
        assert!(is_refused("permits", &attempt), "{count} permits");
        let attempt = || {
            objects
                .owned
                .try_acquire_many(count)
                .map(|permit| permit.forget())
                .and_then(|()| objects.owned.release(count))
        };
        assert!(is_refused("owned", &attempt), "{count} of a fixed number");
    }
    // Nothing is left to others while nothing is free: the millisecond begins with the unlock.
    let polling = objects.mutex.clone().with_wait(WaitStrategy::Spin);
    let patient = (0..20).filter(|_| {
        let guard = objects.mutex.lock().unwrap();
        barred("mutex");
        thread::scope(|scope| {
            let newcomer = scope.spawn(|| {
                drop(polling.lock().unwrap());
                Instant::now()
            });
            thread::sleep(3 * SHORT);
            let free = Instant::now();
            drop(guard);
            newcomer.join().unwrap().duration_since(free) >= Duration::from_millis(1)
        })
    });
    assert!(patient.count() > 10);
}

/// The table is read once. Whatever it says later, the objects stay the same.
#[test]
fn namespace_table_corrupted_after_open_objects_work() {
    for invalid in [0, 1, 1 << 20, 1 << 62, u64::MAX] {
        let test_dir = TestDir::new();
        let namespace = builder(&test_dir).open(NAME).unwrap();
        let intruder = Intruder::at(&test_dir.names().join(NAME));
        let places = places(&intruder);
        let end = words::TABLE + words::OBJECTS.len() * words::ENTRY;
        (words::TABLE..end).for_each(|word| intruder.set(word, invalid));
        // The header of the queue was read then, too.
        (0..64).for_each(|word| intruder.set(places[15] + word, invalid));
        let mut objects = Objects::of(&namespace, intruder).unwrap();
        assert_eq!(namespace.objects().count(), words::OBJECTS.len());
        assert_eq!((objects.short.load(), objects.long.load()), (Ok(1), Ok([2; 9])));
        assert_eq!((objects.number.load(), objects.real.load()), (7, 0.5));
        assert_eq!((objects.narrow.to_vec().unwrap(), objects.wide.to_vec().unwrap()), (NARROW.into(), WIDE.into()));
        assert_eq!((*objects.mutex.lock().unwrap(), *objects.rw.read().unwrap()), (5, [8; 2]));
        assert_eq!(
            (objects.owned.try_acquire_many(BOUND).map(|permit| permit.forget()), objects.permits.available()),
            (Ok(()), Ok(PERMITS))
        );
        assert_eq!((objects.queue.send(1), objects.queue.recv()), (Ok(()), Ok(1)));
        let error = Directory::at(test_dir.names()).inspect(NAME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

// ---- an attacker that does not stop ---------------------------------------------------------------------------------

/// Writes anything anywhere in a namespace, mostly where it matters.
pub fn corrupt_namespace(arguments: &[String]) {
    corrupt_words_from(REGION_STATE, arguments);
}

/// Likewise, but not where opening the namespace reads.
pub fn corrupt_objects(arguments: &[String]) {
    corrupt_words_from(words::TABLE + words::OBJECTS.len() * words::ENTRY, arguments);
}

fn corrupt_words_from(first: usize, arguments: &[String]) -> ! {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let queue = places[15];
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let object = places[random.below(places.len() as u64) as usize];
        let at = match random.below(12) {
            0 => random.below((intruder.words() - REGION_STATE) as u64) as usize + REGION_STATE,
            1 => words::FIRST_RECORD + random.below((words::PARTICIPANTS * words::RECORD_WORDS) as u64) as usize,
            2 => words::TABLE + random.below((words::ENTRY * places.len()) as u64) as usize,
            3..=7 => object + random.below(4) as usize,
            8 | 9 => object + 16 + random.below(4) as usize,
            _ => object + random.below(64) as usize,
        };
        let is_record = (words::FIRST_RECORD..words::TABLE).contains(&at);
        if at < first && !is_record || first > REGION_STATE && (queue..queue + 64).contains(&at) {
            continue;
        }
        let value = match random.below(8) {
            0 => random.next(),
            1 => 0,
            2 | 3 => random.below(words::PARTICIPANTS as u64 + 3),
            4 => random.below(words::PARTICIPANTS as u64 + 3) | random.below(8) << 16,
            5 => random.below(4) | random.below(4) << 13 | random.below(1 << 16) << 36,
            6 => u64::MAX,
            _ => intruder.get(at).wrapping_add(random.below(9)).wrapping_sub(4),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Begins new versions of all seqlocks faster than any reader, and commits none.
pub fn overwrite_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let cells = [0, 1, 5, 6, 7, 8].map(|object| {
        places[object]
            + match object {
                0 | 1 => words::VALUE_CELL,
                5 => words::ELEMENT_CELL,
                _ => words::MUTEX_CELL,
            }
    });
    let mut version = 0_u64;
    loop {
        version = version.wrapping_add(4);
        cells.iter().for_each(|cell| intruder.set(cell + 1, version));
        if version.is_multiple_of(1 << 12) {
            cells.iter().for_each(|cell| intruder.set(*cell, version));
        }
    }
}

/// Changes every word on which other processes retry until they succeed.
pub fn change_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let mut number = 0_u64;
    loop {
        number += 1;
        places[2..5].iter().chain(&places[6..14]).for_each(|place| intruder.set(*place, number % 4));
        // Elements of an array that share a word; a barrier at which one has arrived.
        intruder.set(places[4] + 16, number);
        intruder.set(places[13], (number % 64) << 43 | (number & 1));
    }
}

/// Every call on an object that does not block for ever.
fn use_objects(objects: &mut Objects, random: &mut Random) {
    let timeout = [Duration::ZERO, SHORT, SHORT, Duration::from_millis(25)][random.below(4) as usize];
    let index = random.below(13) as usize;
    match random.below(16) {
        0 => drop((soon(|| objects.short.load()), soon(|| objects.long.load()), objects.short.version())),
        1 => drop((soon(|| objects.short.store_timeout(&1, timeout)), soon(|| objects.long.try_store(&[1; 9])))),
        2 => {
            let _ = soon(|| objects.long.update_timeout(timeout, |value| value[0] ^= 1));
            let _ = objects.short.try_writer().map(|mut writer| (writer.store(&2), writer.update(|value| *value ^= 3)));
        }
        3 => drop((soon(|| objects.short.wait_for_change(timeout)), soon(|| objects.flag.wait_timeout(timeout)))),
        4 => {
            let _ = (objects.number.fetch_add(1), objects.number.fetch_max(7), objects.number.compare_exchange(1, 2));
            let _ = (soon(|| objects.real.fetch_add(0.5)), soon(|| objects.real.fetch_update(|real| Some(real * 2.0))));
        }
        5 => {
            let _ = (objects.narrow.get(index), soon(|| objects.narrow.set(index, 5)), objects.narrow.to_vec());
            let _ = (soon(|| objects.wide.get(index % 4)), soon(|| objects.wide.to_vec()), objects.wide.iter().count());
        }
        6 => {
            let _ = soon(|| objects.wide.lock_timeout(timeout)).map(|mut section| {
                let _ = (section.set(index, [1; 12]), section.store_from(index % 4, &[[2; 12]; 2]), section.to_vec());
            });
            let _ = soon(|| objects.narrow.try_lock()).map(|mut section| section.store_from(1, &[9; 9]));
        }
        7 => drop(soon(|| objects.mutex.lock_timeout(timeout)).map(|mut value| *value ^= 1)),
        8 => {
            let _ = soon(|| objects.again.lock_timeout(timeout)).map(|outer| {
                let inner = soon(|| objects.again.try_lock());
                let _ = (outer.get(), outer.set(&[1; 9]), inner.map(|inner| inner.get()));
            });
        }
        9 => {
            let one = soon(|| objects.rw.read_timeout(timeout));
            let another = soon(|| objects.rw.try_read());
            let _ = soon(|| taken(objects.rw.try_write()));
            drop((one, another));
        }
        10 => drop(soon(|| objects.rw.write_timeout(timeout)).map(|mut value| value[1] ^= 1)),
        11 => {
            let _ =
                soon(|| objects.permits.acquire_many_timeout(index as u32 % 3, timeout).map(|permit| permit.forget()));
            let _ = (
                soon(|| objects.permits.try_acquire().map(|permit| permit.forget())),
                soon(|| objects.permits.release(index as u32 % 3)),
            );
            let _ = (soon(|| objects.permits.try_acquire().map(drop)), objects.permits.available());
        }
        12 => {
            let _ =
                soon(|| objects.owned.acquire_many_timeout(index as u32 % 4, timeout).map(|permit| permit.forget()));
            let _ = (
                soon(|| objects.owned.try_acquire().map(|permit| permit.forget())),
                soon(|| objects.owned.release(index as u32 % 4)),
            );
            assert!(objects.owned.available() <= BOUND);
        }
        13 => {
            let _ = (soon(|| objects.gate.wait_timeout(timeout)), objects.gate.waiting(), objects.gate.is_broken());
            let _ = (soon(|| objects.gate.abort()), soon(|| objects.gate.reset()));
        }
        14 => {
            let _ = (objects.flag.set(), objects.flag.clear(), objects.news.notify_all(), objects.flag.is_set());
            let _ = (soon(|| objects.first.wait_timeout(timeout)), objects.first.is_completed());
        }
        _ => {
            let queue = &mut objects.queue;
            let _ = (soon(|| queue.try_send(1)), soon(|| queue.send_timeout(2, timeout)));
            let _ = (soon(|| queue.try_recv()), soon(|| queue.recv_timeout(timeout)), queue.len());
        }
    }
}

#[test]
fn namespace_corrupted_constantly_calls_return() {
    under_attack("corrupt_namespace", Objects::new, use_objects);
}

/// A process that joins meanwhile is refused or admitted, and can leave again. So can `inspect`.
fn join_and_leave(names: &Path, random: &mut Random) -> bool {
    let directory = Directory::at(names);
    let _ = (soon(|| directory.inspect(NAME)), soon(|| directory.repair(NAME)));
    let intruder = Intruder::at(&names.join(NAME));
    let namespace = soon(|| Namespace::builder().directory(names).must_exist().open(NAME));
    let objects = namespace.and_then(|namespace| soon(|| Objects::of(&namespace, intruder)));
    objects.is_ok_and(|mut objects| {
        use_objects(&mut objects, random);
        soon(|| drop(objects));
        true
    })
}

#[test]
fn namespace_corrupted_while_others_join_and_leave_calls_return() {
    for role in ["corrupt_namespace", "corrupt_objects"] {
        let joined = Cell::new(0);
        under_attack(
            role,
            |test_dir| builder(test_dir).persistent().open(NAME).map(|_| test_dir.names()).unwrap(),
            |names, random| joined.set(joined.get() + u32::from(join_and_leave(names, random))),
        );
        assert!(role == "corrupt_namespace" || joined.get() > 0, "no process was ever admitted");
    }
}

/// A reader gets a value or `Corrupt`, and does not read for ever.
#[test]
fn value_written_endlessly_readers_return() {
    let requests = [("short", words::VALUE_BACKOFF), ("long", words::VALUE_BACKOFF), ("wide", words::ARRAY_BACKOFF)];
    let asked = Cell::new([false; 3]);
    // On a busy machine the attacker may not run meanwhile.
    for _ in 0..50 {
        under_attack("overwrite_endlessly", Objects::new, |objects, _| {
            let _ = (soon(|| objects.short.load()), soon(|| objects.long.load()), soon(|| objects.wide.get(0)));
            let _ = soon(|| taken(objects.mutex.lock_timeout(SHORT)));
            let _ = soon(|| taken(objects.rw.read_timeout(SHORT)));
            let _ = soon(|| objects.again.lock_timeout(SHORT)).map(|again| soon(|| again.get()));
            let _ = soon(|| objects.short.wait_for_change(SHORT));
            let requested = requests.map(|(object, word)| objects.intruder.get(objects.word(object, word)) == 1);
            asked.set(std::array::from_fn(|index| asked.get()[index] || requested[index]));
        });
        if asked.get() == [true; 3] {
            return;
        }
    }
    panic!("readers that are overtaken do not ask for a pause");
}

#[test]
fn object_words_changed_endlessly_calls_return() {
    under_attack("change_endlessly", Objects::new, use_objects);
}
