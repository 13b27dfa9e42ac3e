//! The cost of checking the other participants is bounded, whatever a peer has written. It is
//! counted in questions to the kernel and in shared words, not in time.

mod support;

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use support::{TestDir, alone, fork};
use tombolo::Namespace;
use tombolo::queue;
use tombolo::test_hooks::liveness_effort;

const NAME: &str = "crowd";
const CAPACITY: usize = 32;

/// Positions in words, as docs/layout.md has them: of a queue and of a namespace.
const RECORDS_AT: usize = 0x580 / 8;
const MEMBERS_AT: usize = 0x200 / 8;
const RECORD_WORDS: usize = 16;
const STATE: usize = 3;
const PART: usize = 5;
const INTENT: usize = 8;
const PRESENT: u64 = 1;
const REPAIRED: u64 = 3;
/// Bytes of the file that belong to one participant.
const LOCKS: usize = 2;

/// Questions to the kernel for one check of all participants: two for each of 64 that may be dead,
/// one more for each that is repaired, one more for the peer that the caller waits for, and some
/// locks.
const QUESTIONS: u64 = 3 * 2 * 64 + 8;

/// Shared words for one check, besides some for each participant.
const WORDS: u64 = 64 * 64 * 4;

/// A waiting call checks the participants once in 20 ms.
const SLICE: Duration = Duration::from_millis(20);

/// A region that a hostile peer writes.
struct Hostile {
    words: MmapRaw,
    file: File,
    records_at: usize,
    participants: usize,
}

impl Hostile {
    fn at(path: &Path, records_at: usize, participants: usize) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self { words: MmapOptions::new().map_raw(&file).unwrap(), file, records_at, participants }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words.len() / 8);
        // SAFETY: in the mapping, aligned, and used as an atomic only.
        unsafe { &*self.words.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn record(&self, participant: usize, word: usize) -> &AtomicU64 {
        self.word(self.records_at + participant * RECORD_WORDS + word)
    }

    fn states(&self, state: u64) -> usize {
        (0..self.participants)
            .filter(|&participant| self.record(participant, STATE).load(Ordering::SeqCst) == state)
            .count()
    }

    /// Each of these records belongs to a dead process with the largest possible claim.
    fn add_dead(&self, participants: impl IntoIterator<Item = usize>) {
        for participant in participants {
            for (word, value) in [(0, 1), (1, 1), (PART, 1), (INTENT, 1 << 6 | 63), (STATE, PRESENT)] {
                self.record(participant, word).store(value, Ordering::SeqCst);
            }
        }
    }

    /// All slots are quarantined, for their producers are away.
    fn quarantine_all(&self) {
        let marks = RECORDS_AT + self.participants * RECORD_WORDS; // a queue of values has no pool
        for slot in 0..CAPACITY as u64 {
            self.word(marks + slot as usize).store((2 * slot + 3) << 2 | 2, Ordering::SeqCst);
        }
        self.word(0x200 / 8).store(CAPACITY as u64, Ordering::SeqCst);
    }

    /// All of these records belong to a live process.
    fn add_living(&self, participants: std::ops::Range<usize>) {
        // SAFETY: zeros are a valid flock; the descriptor is ours.
        unsafe {
            let mut lock: libc::flock = std::mem::zeroed();
            lock.l_type = libc::F_WRLCK as _;
            (lock.l_start, lock.l_len) = ((LOCKS * participants.start) as i64, (LOCKS * participants.len()) as i64);
            assert_eq!(libc::fcntl(self.file.as_raw_fd(), libc::F_OFD_SETLK, &lock), 0);
        }
        for participant in participants {
            for (word, value) in [(0, u64::from(process::id())), (PART, 1), (STATE, PRESENT)] {
                self.record(participant, word).store(value, Ordering::SeqCst);
            }
        }
    }
}

fn options(test_dir: &TestDir, participants: usize) -> queue::Options<u64> {
    queue::Options::<u64>::new().capacity(CAPACITY).max_participants(participants).directory(test_dir.names())
}

fn ends(test_dir: &TestDir, participants: usize) -> (queue::Sender<u64>, queue::Receiver<u64>, Hostile) {
    let options = options(test_dir, participants);
    let ends = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    (ends.0, ends.1, Hostile::at(&test_dir.names().join(NAME), RECORDS_AT, participants))
}

/// The cost of an action: questions, words, and an upper bound on the number of checks.
fn cost<R>(action: impl FnOnce() -> R) -> (u64, u64, u64) {
    let (before, began) = (liveness_effort(), Instant::now());
    action();
    let after = liveness_effort();
    let checks = began.elapsed().as_nanos() / SLICE.as_nanos() + 1;
    (after.0 - before.0, after.1 - before.1, checks as u64)
}

#[test]
fn wait_beside_hostile_records_has_bounded_cost() {
    for participants in [64, 1024] {
        let test_dir = TestDir::new();
        let (tx, mut rx, hostile) = ends(&test_dir, participants);
        hostile.quarantine_all();
        hostile.add_dead(2..participants - 1);
        // Even a live participant claims every slot.
        hostile.record(0, INTENT).store(1 << 6 | 63, Ordering::SeqCst);
        for _ in 0..3 {
            let (questions, words, checks) = cost(|| rx.recv_timeout(Duration::from_millis(50)));
            assert!(questions > 0, "nobody was asked about");
            assert!(
                questions <= checks * QUESTIONS,
                "{questions} questions in {checks} checks at {participants} participants"
            );
            let most = checks * (WORDS + 4 * participants as u64);
            assert!(words <= most, "{words} words in {checks} checks at {participants} participants");
        }
        let (questions, words, _) = cost(|| drop(rx));
        assert!(
            questions <= QUESTIONS && words <= WORDS + 4 * participants as u64,
            "{questions} questions, {words} words"
        );
        drop(tx);
    }
}

#[test]
fn repair_of_hostile_records_checks_each_once() {
    let participants = 1024;
    let test_dir = TestDir::new();
    let (tx, mut rx, hostile) = ends(&test_dir, participants);
    hostile.quarantine_all();
    hostile.add_dead(2..participants);
    let mut questions = 0;
    let mut waits = 0;
    while hostile.states(REPAIRED) < participants - 2 {
        questions += cost(|| rx.recv_timeout(Duration::from_millis(25))).0;
        waits += 1;
        assert!(waits < 1000, "{} of {participants} participants repaired", hostile.states(REPAIRED));
    }
    // Two for each dead participant, and for each wait some for the peer it waits for, for itself
    // and for the right to repair.
    let most = 2 * participants as u64 + 16 * waits;
    assert!(questions <= most, "{questions} questions in {waits} waits");
    assert_eq!((tx.stats().quarantined, tx.stats().senders), (0, 1));
}

#[test]
fn repair_of_dead_behind_many_living_completes() {
    let participants = 512;
    let test_dir = TestDir::new();
    let (tx, mut rx, hostile) = ends(&test_dir, participants);
    hostile.add_living(2..400);
    hostile.add_dead(400..420);
    for wait in 0.. {
        if hostile.states(REPAIRED) == 20 {
            break;
        }
        assert!(wait < 200, "{} of 20 participants repaired", hostile.states(REPAIRED));
        let _ = rx.recv_timeout(Duration::from_millis(25));
    }
    drop(tx);
}

#[test]
fn wait_past_deadline_makes_progress_with_repair() {
    let participants = 256;
    let test_dir = TestDir::new();
    let (_tx, mut rx, hostile) = ends(&test_dir, participants);
    hostile.quarantine_all();
    hostile.add_dead(2..participants);
    let mut calls = 0;
    while hostile.states(REPAIRED) < participants - 2 {
        let _ = rx.recv_timeout(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(2));
        calls += 1;
        assert!(calls < 20_000, "{} of {participants} participants repaired", hostile.states(REPAIRED));
    }
}

#[test]
fn queue_join_and_leave_make_constant_number_of_checks() {
    let participants = 4096;
    let test_dir = TestDir::new();
    let (tx, rx, hostile) = ends(&test_dir, participants);
    hostile.add_living(2..participants - 4);
    let mut joined = None;
    let (joining, ..) = cost(|| joined = Some(options(&test_dir, participants).sender(NAME).unwrap()));
    assert!(joining <= 64 + 16, "{joining} questions to join");
    let (leaving, ..) = cost(|| drop(joined));
    assert!(leaving <= 16, "{leaving} questions to leave");
    drop((tx, rx));
}

#[test]
fn queue_last_one_leaves_many_dead_has_bounded_cost() {
    let participants = 4096;
    let test_dir = TestDir::new();
    let (tx, rx, hostile) = ends(&test_dir, participants);
    hostile.add_dead(2..participants);
    drop(rx);
    let (questions, words, _) = cost(|| drop(tx));
    // Processes that may run without a lock are checked for a millisecond.
    let bound = QUESTIONS + 2 * participants as u64;
    assert!(questions <= bound && words <= WORDS + 4 * participants as u64, "{questions} questions, {words} words");
}

#[test]
fn namespace_join_many_dead_costs_one_pass_over_objects() {
    let (participants, objects) = (4096, 300);
    let test_dir = TestDir::new();
    let mut builder = Namespace::builder().max_participants(participants).directory(test_dir.names());
    for object in 0..objects {
        builder = builder.mutex(&format!("object {object}"), 0_u64);
    }
    let first = builder.open(NAME).unwrap();
    let hostile = Hostile::at(&test_dir.names().join(NAME), MEMBERS_AT, participants);
    hostile.add_dead(1..participants - 1);
    let alone = alone();
    let newcomer = fork(&alone, || {
        let open = || Namespace::builder().directory(test_dir.names()).open(NAME).unwrap();
        let (questions, words, _) = cost(open);
        assert!(questions > 64 && questions <= 2 * QUESTIONS, "{questions} questions");
        assert!(words > objects && words <= 64 * objects + 2 * participants as u64, "{words} words");
    });
    newcomer.finish();
    drop(first);
}
