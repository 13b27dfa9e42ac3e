//! A peer that writes what it likes, when it likes: every call still ends by its deadline with some answer, nothing panics,
//! and other regions of the process do not notice.

mod support;

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use support::{Process, Random, Sandbox, parts, start};
use tombolo::{Array, AtomicValue, Barrier, BoundedSemaphore, Condvar, Event, Mutex, Once, ReentrantMutex, RwLock};
use tombolo::{Directory, LockError, Namespace, NamespaceBuilder, Queue, Semaphore, SyncError, Value};
use tombolo::{End, ErrorKind, Message, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender};
use tombolo::{QueueOptions, QueueReceiver, QueueSender, Wait};

parts!(
    scribble,
    feed_without_end,
    succeed_without_end,
    scribble_queue,
    feed_queue_without_end,
    visit,
    look_on,
    stay_in,
    scribble_space,
    scribble_objects,
    lap_without_end,
    change_without_end,
);

const NAME: &str = "target";

/// Positions of words in a one-way region, as docs/layout.md has them.
const LIFE: usize = 10;
const TAIL: usize = 128;
const PRODUCER_ROLE: usize = 129;
const PRODUCER_FROM: usize = 130;
const HEAD: usize = 144;
const CONSUMER_ROLE: usize = 145;
const CONTROL: std::ops::Range<usize> = LIFE..192;
const DATA: usize = 192;

const MESSAGE: u64 = 1 << 56;
const LARGE: u64 = 2 << 56;
const PART: u64 = 3 << 56;
const SKIP: u64 = 4 << 56;

/// The region's words in hostile hands.
struct Intruder(MmapRaw);

impl Intruder {
    fn at(path: &Path) -> Self {
        let file = File::options().read(true).write(true).open(path).unwrap();
        Self(MmapOptions::new().map_raw(&file).unwrap())
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < self.words());
        // SAFETY: in the mapping, aligned, and used as an atomic only.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn words(&self) -> usize {
        self.0.len() / 8
    }

    fn set(&self, index: usize, value: u64) {
        self.word(index).store(value, Ordering::SeqCst);
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }
}

/// A ring of 16 words.
fn bytes(sandbox: &Sandbox) -> PipeOptions<[u8]> {
    PipeOptions::bytes().capacity_len(128).max_message_len(1000).directory(sandbox.names())
}

fn values(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(sandbox.names())
}

fn one_way<M: Message + ?Sized>(options: &PipeOptions<M>, sandbox: &Sandbox) -> (Sender<M>, Receiver<M>, Intruder) {
    let (tx, rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    (tx, rx, Intruder::at(&sandbox.names().join(NAME)))
}

fn attack(sandbox: &Sandbox, part: &str, seed: u64) -> Process {
    start(part, &[sandbox.names().join(NAME).to_str().unwrap(), &seed.to_string()])
}

// ---- one lie at a time -----------------------------------------------------------------------------------------------

const SHORT: Duration = Duration::from_millis(1);

#[test]
fn a_tail_out_of_bounds_is_corrupt() {
    for lie in [5, 1 << 40, u64::MAX, 1] {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = one_way(&values(&sandbox), &sandbox);
        tx.send_many(&[1, 2]).unwrap();
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
        intruder.set(TAIL, if lie == 5 { 2 + 5 } else { lie });
        for _ in 0..3 {
            assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::Corrupt));
            assert_eq!(rx.poll(SHORT), Err(RecvError::Corrupt));
            assert_eq!(rx.try_recv_many(&mut [0; 100]), Err(RecvError::Corrupt));
        }
    }
}

#[test]
fn a_head_out_of_bounds_is_corrupt() {
    for lie in [0, 1, 7, 1 << 40, u64::MAX] {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = one_way(&values(&sandbox), &sandbox);
        tx.send_many(&[1, 2, 3, 4]).unwrap();
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Ok(2)));
        tx.send_many(&[5, 6]).unwrap();
        intruder.set(HEAD, lie);
        for _ in 0..3 {
            assert_eq!(tx.send_timeout(&7, SHORT), Err(SendError::Corrupt));
            assert_eq!(tx.try_send_many(&[7, 8]), Err(SendError::Corrupt));
        }
    }
}

#[test]
fn records_that_no_sender_writes_are_corrupt() {
    for (records, published) in [
        (&[MESSAGE | 1 << 40, 0][..], 2),
        (&[MESSAGE | 8, 0], 1),     // longer than what is published
        (&[MESSAGE | 128, 0], 16),  // longer than the ring
        (&[MESSAGE | 1001, 0], 16), // longer than the limit
        (&[0, 0], 2),
        (&[9 << 56, 0], 2),
        (&[u64::MAX, 0], 2),
        (&[SKIP, 0], 2),
        (&[SKIP | 1, MESSAGE], 2), // not to the end of the ring
        (&[SKIP | 16, 0], 15),     // not published
        (&[PART, 0], 2),           // empty
        (&[LARGE | 1001, 0], 2),
        (&[LARGE | 1 << 50, 0], 2),
        (&[LARGE | 8, PART | 9, 0, 0], 4), // more than announced
    ] {
        let sandbox = Sandbox::new();
        let (_tx, mut rx, intruder) = one_way(&bytes(&sandbox), &sandbox);
        records.iter().zip(DATA..).for_each(|(record, at)| intruder.set(at, *record));
        intruder.set(TAIL, published);
        assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::Corrupt), "{records:x?}");
        assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::Corrupt), "{records:x?}");
    }
}

#[test]
fn skips_in_a_row_lead_nowhere() {
    let sandbox = Sandbox::new();
    let (_tx, mut rx, intruder) = one_way(&bytes(&sandbox), &sandbox);
    intruder.set(DATA, SKIP | 16);
    for lap in 1..100 {
        intruder.set(TAIL, lap * 16);
        assert_eq!(rx.try_recv(&mut Vec::new()), Err(RecvError::Empty));
    }
}

#[test]
fn a_large_message_takes_no_more_memory_than_has_come() {
    let sandbox = Sandbox::new();
    let options = bytes(&sandbox).max_message_len(1 << 55);
    let (_tx, mut rx, intruder) = one_way(&options, &sandbox);
    intruder.set(DATA, LARGE | 1 << 55);
    intruder.set(DATA + 1, PART | 8);
    intruder.set(TAIL, 3);
    assert_eq!(rx.recv_timeout(&mut Vec::new(), SHORT), Err(RecvError::TimedOut));
}

#[test]
fn parts_of_nothing_are_passed_over_but_not_for_ever() {
    let sandbox = Sandbox::new();
    let (_tx, mut rx, intruder) = one_way(&bytes(&sandbox), &sandbox);
    (0..16).step_by(2).for_each(|at| intruder.set(DATA + at, PART | 8));
    let corrupt = (1..1000).find(|lap| {
        intruder.set(TAIL, lap * 16);
        match rx.try_recv(&mut Vec::new()) {
            Err(RecvError::Empty | RecvError::Lost) => false,
            Err(RecvError::Corrupt) => true,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(corrupt, Some(1000 / 64 + 1));
}

#[test]
fn roles_and_boundaries_that_lie() {
    let sandbox = Sandbox::new();
    let (_tx, mut rx, intruder) = one_way(&values(&sandbox), &sandbox);
    intruder.set(PRODUCER_FROM, 1000);
    intruder.set(PRODUCER_FROM + 1, 1000);
    intruder.set(PRODUCER_ROLE, 7 << 3 | 1);
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::Corrupt));

    let sandbox = Sandbox::new();
    let (mut tx, mut rx, intruder) = one_way(&values(&sandbox), &sandbox);
    for role in [u64::MAX, 0, 3, u64::MAX << 3, 1 << 3 | 2, 5 << 3 | 7] {
        intruder.set(PRODUCER_ROLE, role);
        intruder.set(CONSUMER_ROLE, role);
        let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.try_recv());
        let _ = (0..5).map(|number| tx.send_timeout(&number, SHORT)).collect::<Vec<_>>();
    }
}

// ---- a peer that does not stop ---------------------------------------------------------------------------------------

/// Writes anything anywhere, mostly where it matters.
fn scribble(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let at = match random.below(4) {
            0 => random.below((intruder.words() - LIFE) as u64) as usize + LIFE,
            1 => random.below(CONTROL.len() as u64) as usize + CONTROL.start,
            2 => [TAIL, HEAD, PRODUCER_ROLE, PRODUCER_FROM, CONSUMER_ROLE][random.below(5) as usize],
            _ => random.below((intruder.words() - DATA) as u64) as usize + DATA,
        };
        let value = match random.below(5) {
            0 => random.next(),
            1 => random.below(64),
            2 => random.below(6) << 56 | random.below(64),
            3 => intruder.get(at).wrapping_add(random.below(8)),
            _ => intruder.get(if at < HEAD { HEAD } else { TAIL }).wrapping_add(random.below(5)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Publishes announcements as fast as they are read.
fn feed_without_end(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    (DATA..DATA + 16).for_each(|at| intruder.set(at, LARGE | 1));
    loop {
        intruder.set(TAIL, intruder.get(HEAD) + 16);
    }
}

/// Comes again and again, each time as another.
fn succeed_without_end(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    loop {
        let epoch = intruder.get(PRODUCER_ROLE) >> 3;
        intruder.set(PRODUCER_FROM, intruder.get(TAIL));
        intruder.set(PRODUCER_ROLE, if epoch == 0 { 5 << 3 | 1 } else { 1 });
    }
}

/// Runs `use_target` again and again for a while on regions that are under attack. Another region must not notice.
fn under_attack<T>(part: &str, make: impl Fn(&Sandbox) -> T, use_target: impl Fn(&mut T, &mut Random)) {
    let (mut tx, mut rx) = PipeOptions::values::<u64>().capacity(8).one_way().unwrap();
    let mut random = Random(7);
    for seed in 1..=8 {
        let sandbox = Sandbox::new();
        let mut target = make(&sandbox);
        let attacker = attack(&sandbox, part, seed);
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(60) {
            use_target(&mut target, &mut random);
            let number = random.next();
            tx.send(&number).unwrap();
            assert_eq!(rx.recv(), Ok(number));
        }
        drop(target); // while it goes on
        attacker.kill();
    }
}

fn send_and_receive(tx: &mut Sender, rx: &mut Receiver, random: &mut Random) {
    let mut received = Vec::new();
    let sent = vec![0xAB; random.below(200) as usize];
    let _ = tx.send_timeout(&sent, SHORT);
    let _ = tx.try_send(&sent);
    let _ = rx.recv_timeout(&mut received, SHORT);
    assert!(received.len() <= 1000, "the limit holds");
    let _ = (rx.poll(SHORT), rx.try_recv(&mut received), rx.try_recv_into(&mut [0; 10]));
}

fn send_and_receive_values(tx: &mut Sender<u64>, rx: &mut Receiver<u64>) {
    let _ = (tx.send_timeout(&1, SHORT), tx.try_send(&2), tx.try_send_many(&[3; 10]));
    let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.try_recv(), rx.try_recv_many(&mut [0; 10]));
}

#[test]
fn scribbling_over_byte_messages() {
    under_attack(
        "scribble",
        |sandbox| one_way(&bytes(sandbox), sandbox),
        |(tx, rx, _), random| send_and_receive(tx, rx, random),
    );
}

#[test]
fn scribbling_over_values() {
    under_attack(
        "scribble",
        |sandbox| one_way(&values(sandbox), sandbox),
        |(tx, rx, _), _| send_and_receive_values(tx, rx),
    );
}

#[test]
fn scribbling_over_a_duplex_pipe() {
    under_attack(
        "scribble",
        |sandbox| [(); 2].map(|()| bytes(sandbox).end(NAME).unwrap()),
        |[ours, theirs]: &mut [Pipe; 2], random| {
            send_and_receive(&mut ours.tx, &mut theirs.rx, random);
            send_and_receive(&mut theirs.tx, &mut ours.rx, random);
        },
    );
}

/// Whoever joins meanwhile is refused or let in, and can leave again.
#[test]
fn scribbling_while_others_come_and_go() {
    under_attack(
        "scribble",
        |sandbox| (one_way(&values(sandbox), sandbox), values(sandbox).open_existing()),
        |((_, rx, _), options), _| {
            let _ = rx.try_recv();
            let _ = options.receiver(NAME).map(|mut rx| rx.recv_timeout(SHORT));
            let _ = options.sender(NAME).map(|mut tx| tx.send_timeout(&1, SHORT));
        },
    );
}

#[test]
fn a_sender_without_end_does_not_keep_a_receiver() {
    under_attack(
        "feed_without_end",
        |sandbox| one_way(&bytes(sandbox), sandbox),
        |(_, rx, intruder), _| {
            let mut received = Vec::new();
            let _ = (rx.recv_timeout(&mut received, SHORT), rx.poll(SHORT));
            let before = intruder.get(HEAD);
            let _ = rx.try_recv(&mut received);
            let read = intruder.get(HEAD) - before;
            assert!(read <= 2048, "one call that does not wait read {read} words of a ring of 16");
        },
    );
}

#[test]
fn successors_without_end_do_not_keep_a_receiver() {
    under_attack(
        "succeed_without_end",
        |sandbox| one_way(&values(sandbox), sandbox),
        |(_, rx, _), _| {
            let _ = (rx.recv_timeout(SHORT), rx.poll(SHORT), rx.poll(Duration::ZERO), rx.try_recv());
        },
    );
}

// ---- queues: one lie at a time ---------------------------------------------------------------------------------------

/// Positions of words in the region of a queue with so many [`queue::LANES`], as docs/layout.md has them.
mod queue {
    pub const TAIL: usize = 64;
    pub const HEAD: usize = 80;
    pub const EVENTS: [usize; 4] = [96, 112, 128, 144];
    pub const LOST: usize = 160;
    pub const VERDICT: usize = 161;
    pub const REPORTED: usize = 163;
    pub const CHANGES: usize = 165;
    pub const SENDERS_CAME: usize = 166;
    pub const SENDERS_ENDED: usize = 168;
    pub const FIRST_LANE: usize = 176;
    pub const LANE: usize = 16;
    pub const STATE: usize = 3;
    pub const PART: usize = 5;
    pub const LANE_RUN: usize = 6;
    pub const SINCE: usize = 7;
    pub const INTENT: usize = 8;
    pub const OPEN: usize = 9;
    pub const LANES: usize = 4;
    pub const OWNERS: usize = FIRST_LANE + LANES * LANE;

    /// Words of the marks of four slots.
    pub const MARKS: usize = 16;

    /// States of slots; no slot has the other two.
    pub const FREE: u64 = 0;
    pub const READY: u64 = 1;
    pub const STATES: [u64; 4] = [FREE, READY, 2, 3];
    /// States of marks: passing, unread, unsent, clear.
    pub const MARK_STATES: [u64; 4] = [0, 1, 2, 3];
    pub const CLOSED: u64 = 1 << 63;
    pub const RUN: u64 = 1 << 55;

    /// A lane's word.
    pub fn lane(index: usize, word: usize) -> usize {
        FIRST_LANE + index * LANE + word
    }
}

/// Four slots of two words, without a pool: the slots come right behind the lanes.
fn queue_of_values(sandbox: &Sandbox) -> QueueOptions<u64> {
    QueueOptions::values().capacity(4).max_participants(queue::LANES).directory(sandbox.names())
}

const VALUE_MARKS: usize = queue::OWNERS;
const VALUE_SLOTS: usize = VALUE_MARKS + queue::MARKS;
const VALUE_STRIDE: usize = 2;

/// Four slots of four words (control, label, 16 bytes), a block of 64 bytes and an extent.
fn queue_of_bytes(sandbox: &Sandbox) -> QueueOptions<[u8]> {
    let options = QueueOptions::bytes().capacity(4).max_participants(queue::LANES).max_message_len(1000);
    options.inline_len(16).blocks(1, 64).extents(1).directory(sandbox.names())
}

const BYTE_SLOTS: usize = queue::OWNERS + 16 + queue::MARKS;
const BYTE_STRIDE: usize = 4;

/// Far more than any call takes that does not wait, on a machine that has other things to do.
const SOON: Duration = Duration::from_secs(5);

/// The answer to a call that must not wait much longer than [`SHORT`].
fn soon<T>(call: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = call();
    assert!(started.elapsed() < SOON, "it took {:?}", started.elapsed());
    answer
}

/// Lanes 0 and 1.
fn many<M: Message + ?Sized>(
    options: &QueueOptions<M>,
    sandbox: &Sandbox,
) -> (QueueSender<M>, QueueReceiver<M>, Intruder) {
    let (tx, rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    (tx, rx, Intruder::at(&sandbox.names().join(NAME)))
}

/// Whatever a queue of values can be asked to do without waiting for ever.
fn use_value_queue(tx: &mut QueueSender<u64>, rx: &mut QueueReceiver<u64>) {
    let _ = (soon(|| tx.send_timeout(&1, SHORT)), soon(|| tx.try_send(&2)), soon(|| tx.try_send_many(&[3; 10])));
    let _ = (soon(|| rx.recv_timeout(SHORT)), soon(|| rx.try_recv()), soon(|| rx.try_recv_many(&mut [0; 10])));
    use_any_queue(tx, rx);
}

/// Likewise, of bytes.
fn use_byte_queue(tx: &mut QueueSender, rx: &mut QueueReceiver, random: &mut Random) {
    let sent = vec![0xAB; random.below(1000) as usize];
    let mut received = Vec::new();
    for length in [10, 60, sent.len()] {
        let _ = (soon(|| tx.send_timeout(&sent[..length.min(sent.len())], SHORT)), soon(|| tx.try_send(b"short")));
        let _ = (soon(|| rx.recv_timeout(&mut received, SHORT)), soon(|| rx.try_recv(&mut received)));
        assert!(received.len() <= 1000, "the limit holds");
    }
    use_any_queue(tx, rx);
}

fn use_any_queue<M: Message + ?Sized>(tx: &mut QueueSender<M>, rx: &mut QueueReceiver<M>) {
    let _ = (soon(|| rx.task_done()), soon(|| tx.join_timeout(SHORT)));
    let stats = soon(|| tx.stats());
    assert!(stats.queued.max(stats.quarantined) <= stats.capacity && stats.pooled <= 2, "{stats:?}");
    assert!(rx.len() <= rx.capacity());
    // They find room, or do not.
    let _ = (soon(|| tx.try_clone()), soon(|| rx.try_clone()));
}

#[test]
fn indices_of_a_queue_that_lie() {
    for (index, lies) in [
        (
            queue::TAIL,
            [
                0,
                1,
                1 << 40,
                queue::RUN - 1,
                queue::RUN,
                queue::CLOSED - 1,
                queue::CLOSED,
                queue::CLOSED | 1 << 40,
                u64::MAX,
            ],
        ),
        (queue::HEAD, [0, 1, 7, 100, 1 << 40, 1 << 62, queue::CLOSED - 1, queue::CLOSED, u64::MAX]),
    ] {
        for lie in lies {
            let sandbox = Sandbox::new();
            let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
            assert_eq!((tx.try_send_many(&[1, 2, 3]), rx.recv(), rx.recv()), (Ok(3), Ok(1), Ok(2)));
            intruder.set(index, lie);
            for _ in 0..3 {
                use_value_queue(&mut tx, &mut rx);
            }
            let _ = soon(|| rx.close_now());
            use_value_queue(&mut tx, &mut rx);

            let sandbox = Sandbox::new();
            let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox), &sandbox);
            for length in [0, 10, 60, 100] {
                tx.try_send(&vec![1; length]).unwrap();
            }
            intruder.set(index, lie);
            for _ in 0..3 {
                use_byte_queue(&mut tx, &mut rx, &mut Random(lie | 1));
            }
            let _ = soon(|| rx.close_now());
        }
    }
}

#[test]
fn slots_of_other_positions() {
    let state_of = |position: u64, state: u64| position << 2 | state;
    for state in queue::STATES {
        // Too early, of another slot, too late, absurd.
        for shift in [-4_i64, -1, 1, 4, 400, i64::MAX >> 2] {
            for sent in [0, 2, 4_u64] {
                let sandbox = Sandbox::new();
                let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
                let warm_up = [1; 4];
                assert_eq!((tx.try_send_many(&warm_up), rx.recv_many(&mut [0; 4])), (Ok(4), Ok(4)));
                assert_eq!(tx.send_many(&warm_up[..sent as usize]).unwrap_or(0), sent as usize);
                for slot in 0..4 {
                    let lie = state_of((4 + slot as u64).wrapping_add_signed(shift), state);
                    intruder.set(VALUE_SLOTS + slot * VALUE_STRIDE, lie);
                }
                use_value_queue(&mut tx, &mut rx);
                let _ = soon(|| rx.close_now());
                use_value_queue(&mut tx, &mut rx);
            }
        }
    }
}

#[test]
fn marks_that_nobody_made() {
    for state in queue::MARK_STATES {
        for key in [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 18, 19, 1000, 1 << 40, (1 << 62) - 1] {
            for which in 0..5 {
                for sent in [0, 2, 4_u64] {
                    let sandbox = Sandbox::new();
                    let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
                    let warm_up = [1; 4];
                    assert_eq!((tx.try_send_many(&warm_up), rx.recv_many(&mut [0; 4])), (Ok(4), Ok(4)));
                    assert_eq!(tx.send_many(&warm_up[..sent as usize]).unwrap_or(0), sent as usize);
                    for slot in (0..4).filter(|slot| which == 4 || which == *slot) {
                        intruder.set(VALUE_MARKS + slot, key << 2 | state);
                    }
                    use_value_queue(&mut tx, &mut rx);
                    let _ = soon(|| rx.close_now());
                    use_value_queue(&mut tx, &mut rx);
                }
            }
        }
    }
}

#[test]
fn a_slot_of_the_past_is_corrupt() {
    let sandbox = Sandbox::new();
    let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
    assert_eq!((tx.try_send_many(&[1, 2]), rx.recv()), (Ok(2), Ok(1)));
    intruder.set(VALUE_SLOTS + VALUE_STRIDE, queue::FREE); // position 0 in the place of 1
    for _ in 0..3 {
        assert_eq!(soon(|| rx.recv_timeout(SHORT)), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.try_recv()), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.try_recv_many(&mut [0; 10])), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.close_now()), Err(RecvError::Corrupt));
    }
}

#[test]
fn labels_that_no_sender_writes_are_corrupt() {
    const POOLED: u64 = 1;
    let label = |length: u64| length << 1;
    for (label, place) in [
        (label(17), 0), // longer than the slot
        (label(1 << 40), 0),
        (u64::MAX - 1, 0),
        (label(65) | POOLED, 0),   // longer than the block
        (label(1001) | POOLED, 1), // longer than the limit
        (label(1 << 62) | POOLED, 1),
        (u64::MAX, 0),
        (label(10) | POOLED, 2), // no such place
        (label(10) | POOLED, 1 << 32),
        (label(10) | POOLED, u64::MAX),
        (label(10) | POOLED, u64::MAX / 8),
    ] {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox), &sandbox);
        tx.send(b"before").unwrap();
        tx.send(b"behind").unwrap();
        intruder.set(BYTE_SLOTS + 1, label);
        intruder.set(BYTE_SLOTS + 2, place);
        intruder.set(BYTE_SLOTS + 3, 1);
        let mut message = Vec::new();
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvError::Corrupt), "{label:x} {place}");
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Ok(6), "what follows is whole");
        assert_eq!(message, b"behind");
        assert_eq!(rx.stats().dropped, 1);
    }
}

/// Room in a slot or a block does not make the longest message longer.
#[test]
fn a_label_within_its_place_and_beyond_the_limit_is_corrupt() {
    for (length, pooled) in [(9, 0), (16, 0), (9, 1), (64, 1)] {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox).max_message_len(8).extents(0), &sandbox);
        tx.send(b"8 bytes.").unwrap();
        intruder.set(BYTE_SLOTS + 1, length << 1 | pooled);
        intruder.set(BYTE_SLOTS + 2, 0);
        let mut message = Vec::new();
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvError::Corrupt), "{length}");
        assert_eq!(message.capacity(), 0, "nothing was taken for it");
    }
}

#[test]
fn a_pool_that_is_taken_by_nobody_is_full() {
    for owner in [1, 4, 0xFFFF, u64::MAX] {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox), &sandbox);
        intruder.set(queue::OWNERS, owner);
        intruder.set(queue::OWNERS + 1, owner);
        assert_eq!(tx.try_send(&[1; 100]), Err(SendError::Full));
        assert_eq!(soon(|| tx.send_timeout(&[1; 17], SHORT)), Err(SendError::TimedOut));
        assert_eq!(tx.try_send(&[1; 16]), Ok(()), "short ones need no place");
        assert_eq!(rx.stats().pooled, 2);
        use_byte_queue(&mut tx, &mut rx, &mut Random(1));
    }
}

/// The same place in every slot, given back once; generations at their end.
#[test]
fn places_that_are_named_twice() {
    let sandbox = Sandbox::new();
    let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox), &sandbox);
    intruder.set(queue::OWNERS, u64::MAX << 16);
    intruder.set(queue::OWNERS + 1, u64::MAX << 16);
    for length in [60, 700, 10, 10] {
        tx.send(&vec![0x11; length]).unwrap();
    }
    for word in 1..BYTE_STRIDE {
        for slot in 2..4 {
            intruder.set(
                BYTE_SLOTS + slot * BYTE_STRIDE + word,
                intruder.get(BYTE_SLOTS + (slot - 2) * BYTE_STRIDE + word),
            );
        }
    }
    let mut message = Vec::new();
    for length in [60, 700, 60, 700] {
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Ok(length));
    }
    assert_eq!(rx.stats().pooled, 0);
    use_byte_queue(&mut tx, &mut rx, &mut Random(1));
}

/// A dead sender's intent says that it had claimed everything.
#[test]
fn an_intent_that_covers_everything() {
    for position in [0, 1, 2, 3, 1 << 40, (1 << 58) - 2] {
        for state in queue::STATES {
            let sandbox = Sandbox::new();
            let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
            let dead = tx.try_clone().unwrap();
            assert_eq!((tx.try_send_many(&[1, 2, 3]), rx.recv()), (Ok(3), Ok(1)));
            drop(dead.into_fd().unwrap());
            intruder.set(queue::lane(2, queue::INTENT), (position + 1) << 6 | 63);
            if state != queue::READY {
                intruder.set(VALUE_SLOTS + 2 * VALUE_STRIDE, 2 << 2 | state);
            }
            for _ in 0..3 {
                use_value_queue(&mut tx, &mut rx);
            }
            drop(tx);
            let _ = soon(|| rx.recv_timeout(SHORT));
        }
    }
}

/// Who lives and says that it is at every slot keeps the dead's slots from being repaired, and nothing else.
#[test]
fn an_intent_of_the_living_that_covers_everything() {
    let sandbox = Sandbox::new();
    let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
    let (dead, mut other) = (tx.try_clone().unwrap(), rx.sender().unwrap());
    drop(dead.into_fd().unwrap());
    intruder.set(queue::lane(2, queue::INTENT), 1 << 6 | 1);
    intruder.set(queue::lane(3, queue::INTENT), 1 << 6 | 63);
    intruder.set(queue::TAIL, 1); // the dead one's claim
    assert_eq!(soon(|| rx.try_recv()), Err(RecvError::Empty));
    for number in 0..100 {
        tx.send(&number).unwrap();
        assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(1))), Ok(number));
    }
    other.send(&100).unwrap();
    assert_eq!(rx.recv(), Ok(100));
}

#[test]
fn books_that_lie() {
    for lie in [1, 5, 1 << 40, u64::MAX - 1, u64::MAX] {
        let sandbox = Sandbox::new();
        let (mut tx, _rx, intruder) = many(&queue_of_values(&sandbox).report_losses(), &sandbox);
        let mut rx = tx.receiver().unwrap();
        let mut reporting = queue_of_values(&sandbox).report_losses().receiver(NAME).unwrap();
        for index in queue::LOST..queue::SENDERS_ENDED + 2 {
            intruder.set(index, lie);
            use_value_queue(&mut tx, &mut rx);
            use_value_queue(&mut tx, &mut reporting);
        }
        intruder.set(queue::LOST, u64::MAX);
        intruder.set(queue::REPORTED, 0);
        assert_eq!(reporting.try_recv(), Err(RecvError::Lost));
        assert_ne!(reporting.try_recv(), Err(RecvError::Lost), "told once");
    }
}

/// How many came and how they ended, when nobody is there.
#[test]
fn ends_that_lie() {
    for (came, ended, answer) in [
        (0, 2, RecvError::Closed),
        (1, 0, RecvError::Closed),
        (u64::MAX, 77, RecvError::Closed),
        (u64::MAX, 2, RecvError::Closed),
        (1, 3, RecvError::PeerDied),
        (1, 1 << 8 | 3, RecvError::Closed), // in another run
        (0, u64::MAX, RecvError::Closed),
    ] {
        let sandbox = Sandbox::new();
        let (tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
        drop(tx);
        assert_eq!(rx.try_recv(), Err(RecvError::Closed));
        intruder.set(queue::SENDERS_CAME, came);
        intruder.set(queue::SENDERS_ENDED, ended);
        intruder.set(queue::CHANGES, intruder.get(queue::CHANGES) + 1);
        assert_eq!(soon(|| rx.recv_timeout(SHORT)), Err(answer), "{came} came, the last one ended {ended}");
    }
}

/// What lanes say of their runs and of those who had come, and runs in tail that nobody began.
#[test]
fn runs_that_nobody_began() {
    let lies = [0, 1, 77, 255, 256, 257, 511, 1 << 32, u64::MAX - 1, u64::MAX];
    for word in [queue::LANE_RUN, queue::SINCE] {
        for lie in lies {
            let sandbox = Sandbox::new();
            let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
            for lane in 0..queue::LANES {
                intruder.set(queue::FIRST_LANE + lane * queue::LANE + word, lie);
            }
            intruder.set(queue::CHANGES, intruder.get(queue::CHANGES) + 1);
            use_value_queue(&mut tx, &mut rx);
            // Handles that come, clones, and what is picked up believe the words for a while.
            let mut late = soon(|| queue_of_values(&sandbox).sender(NAME)).unwrap();
            use_value_queue(&mut late, &mut rx);
            let _ = soon(|| late.close());
            use_value_queue(&mut tx.try_clone().unwrap(), &mut rx);
            let mut picked: QueueSender<u64> = queue_of_values(&sandbox).from_fd(late.into_fd().unwrap()).unwrap();
            use_value_queue(&mut picked, &mut rx);
            let _ = soon(|| rx.close_now());
        }
    }
    for run in lies {
        let sandbox = Sandbox::new();
        let (mut tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
        tx.send(&1).unwrap();
        intruder.set(queue::TAIL, intruder.get(queue::TAIL) | run << 55);
        use_value_queue(&mut tx, &mut rx);
        let mut late = soon(|| queue_of_values(&sandbox).sender(NAME)).unwrap();
        use_value_queue(&mut late, &mut rx);
        let _ = (soon(|| tx.close()), soon(|| late.close()), soon(|| rx.close()), soon(|| rx.close_now()));
        use_value_queue(&mut late, &mut rx);
    }
}

/// Records of a live process in every lane, whose locks nobody holds: nobody takes them for dead, or waits for them.
#[test]
fn lanes_of_the_living_without_locks() {
    let sandbox = Sandbox::new();
    let (tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
    drop(tx);
    // Lane 0: it has the region mapped, so that it could write.
    let _onlooker = start("look_on", &[sandbox.names().to_str().unwrap()]);
    support::until(|| rx.stats().receivers == 2);
    for lane in [2, 3] {
        (0..queue::LANE).for_each(|word| intruder.set(queue::lane(lane, word), intruder.get(queue::lane(0, word))));
        intruder.set(queue::lane(lane, queue::PART), 1);
    }
    intruder.set(queue::CHANGES, intruder.get(queue::CHANGES) + 1);
    assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(60))), Err(RecvError::LockLost));
    assert_eq!(rx.stats().senders, 2);
    let error = soon(|| rx.sender()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LanesTaken, "{error}");
    // States that do not exist, and those of the dead.
    for state in [u64::MAX, 4, 0] {
        (0..4).for_each(|lane| intruder.set(queue::lane(lane, queue::STATE), state));
        let _ = soon(|| rx.recv_timeout(SHORT));
        let _ = soon(|| rx.sender());
    }
}

/// Has the queue mapped, as a receiver that does nothing.
fn look_on(arguments: &[String]) {
    let _rx = QueueOptions::values::<u64>().directory(&arguments[0]).receiver(NAME).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Records of this process in lanes that it does not hold are from before it was made to run this
/// program.
#[test]
fn lanes_of_this_process_that_it_does_not_hold_are_repaired() {
    let sandbox = Sandbox::new();
    let (tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
    drop(tx);
    for lane in [0, 2, 3] {
        (0..queue::LANE).for_each(|word| intruder.set(queue::lane(lane, word), intruder.get(queue::lane(1, word))));
        intruder.set(queue::lane(lane, queue::PART), 1);
    }
    intruder.set(queue::CHANGES, intruder.get(queue::CHANGES) + 1);
    assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(60))), Err(RecvError::PeerDied));
    let _all: Vec<_> = (0..3).map(|_| soon(|| rx.sender()).unwrap()).collect();
}

/// What a lane says about open tasks, when its owner picks it up again.
#[test]
fn tasks_that_were_never_received() {
    for lie in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let sandbox = Sandbox::new();
        let (mut tx, rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
        tx.try_send_many(&[1, 2, 3]).unwrap();
        let file = rx.into_fd().unwrap();
        intruder.set(queue::lane(1, queue::OPEN), lie);
        let mut rx: QueueReceiver<u64> = queue_of_values(&sandbox).from_fd(file).unwrap();
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Ok(1), Ok(2), Ok(3)]);
        let _ = rx.task_done();
        assert_eq!(soon(|| tx.join_timeout(SHORT)), Err(SendError::TimedOut));
    }
}

#[test]
fn a_verdict_that_no_repairer_writes() {
    for verdict in [1, 4, 5, 1 << 40, u64::MAX] {
        for state in queue::STATES {
            let sandbox = Sandbox::new();
            let (mut tx, mut rx, intruder) = many(&queue_of_bytes(&sandbox), &sandbox);
            let dead = tx.try_clone().unwrap();
            tx.send(&[1; 30]).unwrap();
            drop(dead.into_fd().unwrap());
            intruder.set(queue::VERDICT, verdict);
            intruder.set(BYTE_SLOTS, state);
            use_byte_queue(&mut tx, &mut rx, &mut Random(verdict));
        }
    }
}

// ---- queues: somebody who does not stop ------------------------------------------------------------------------------

/// Writes anything anywhere in a queue, mostly where it matters.
fn scribble_queue(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    let (slots, stride) = if intruder.get(5) == 0 { (BYTE_SLOTS, BYTE_STRIDE) } else { (VALUE_SLOTS, VALUE_STRIDE) };
    let near = |random: &mut Random| {
        let index = if random.below(2) == 0 { queue::HEAD } else { queue::TAIL };
        intruder.get(index).wrapping_add(random.below(9)).wrapping_sub(4)
    };
    loop {
        let at = match random.below(8) {
            0 => random.below((intruder.words() - LIFE) as u64) as usize + LIFE,
            1 => queue::TAIL,
            2 => queue::HEAD,
            3 => queue::LOST + random.below(10) as usize,
            4 => queue::FIRST_LANE + random.below((queue::LANES * queue::LANE) as u64) as usize,
            5 => queue::OWNERS + random.below(2) as usize,
            6 => queue::EVENTS[random.below(4) as usize],
            _ => slots + random.below(4) as usize * stride + random.below(2) as usize,
        };
        let value = match random.below(8) {
            0 => random.next(),
            1 => random.below(64),
            2 => near(&mut random),
            3 | 4 => near(&mut random) << 2 | random.below(4),
            5 => near(&mut random).wrapping_add(1) << 6 | random.below(64),
            6 => random.below(2048) << 1 | 1,
            _ => intruder.get(at).wrapping_add(random.below(8)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Has a message ready wherever the receivers get to, however fast they are, closed or not.
fn feed_queue_without_end(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    loop {
        let head = intruder.get(queue::HEAD);
        let slot = VALUE_SLOTS + (head % 4) as usize * VALUE_STRIDE;
        // Never back: that would be found out.
        intruder.word(slot).fetch_max(head << 2 | queue::READY, Ordering::SeqCst);
        intruder.set(queue::TAIL, u64::MAX);
    }
}

#[test]
fn scribbling_over_a_queue_of_values() {
    under_attack(
        "scribble_queue",
        |sandbox| many(&queue_of_values(sandbox), sandbox),
        |(tx, rx, _), _| use_value_queue(tx, rx),
    );
}

#[test]
fn scribbling_over_a_queue_of_bytes() {
    under_attack(
        "scribble_queue",
        |sandbox| many(&queue_of_bytes(sandbox), sandbox),
        |(tx, rx, _), random| use_byte_queue(tx, rx, random),
    );
}

/// Whoever joins meanwhile is refused or let in, closes or throws away, and can leave again.
#[test]
fn scribbling_while_others_come_and_go_in_a_queue() {
    under_attack(
        "scribble_queue",
        |sandbox| (many(&queue_of_bytes(sandbox), sandbox), queue_of_bytes(sandbox).open_existing()),
        |((_, rx, _), options), random| {
            let _ = soon(|| options.receiver(NAME)).map(|mut rx| {
                let _ = soon(|| rx.recv_timeout(&mut Vec::new(), SHORT));
                drop(soon(|| rx.into_fd()).and_then(|file| options.from_fd::<QueueReceiver>(file)));
            });
            let _ = soon(|| options.sender(NAME)).map(|mut tx| {
                let _ = soon(|| tx.send_timeout(&[1; 50], SHORT));
                // Lost on its way: dead to the others.
                (random.below(2) == 0).then(|| tx.into_fd())
            });
            let _ = soon(|| rx.recv_timeout(&mut Vec::new(), SHORT));
            let _ = (random.below(8) == 0).then(|| soon(|| rx.close_now()));
        },
    );
}

#[test]
fn a_queue_that_is_fed_without_end_can_be_closed() {
    under_attack(
        "feed_queue_without_end",
        |sandbox| many(&queue_of_values(sandbox), sandbox),
        |(_tx, rx, _), _| {
            let before = rx.stats().dropped;
            let _ = soon(|| rx.close_now());
            let dropped = rx.stats().dropped - before;
            assert!(dropped <= 8, "one call that does not wait threw {dropped} messages of a queue of 4 away");
            let _ = (soon(|| rx.recv_timeout(SHORT)), soon(|| rx.try_recv_many(&mut [0; 10])));
        },
    );
}

// ---- namespaces: one lie at a time -----------------------------------------------------------------------------------

/// Positions of words in a namespace with so many [`space::LANES`], as docs/layout.md has them.
mod space {
    pub const LANES: usize = 4;
    pub const FIRST_LANE: usize = 64;
    pub const LANE: usize = 16;
    /// Words of a lane's record.
    pub const PID: usize = 0;
    pub const STARTED: usize = 1;
    pub const NAMESPACE: usize = 2;
    pub const STATE: usize = 3;
    pub const PRESENT: u64 = 1;
    pub const TABLE: usize = FIRST_LANE + LANES * LANE;
    pub const ENTRY: usize = 16;
    /// Of an entry.
    pub const AT: usize = 5;

    /// The objects, in the order of the table, with the words on which processes sleep.
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

    /// Of a mutex and most others; of a value.
    pub const LOCK: usize = 0;
    pub const LOCK_EVENT: usize = 1;
    pub const VALUE_LOCK: usize = 16;
    /// The two words of a cell: of a value, a mutex, the first long element of an array, which has two words.
    pub const VALUE_CELL: usize = 0;
    pub const VALUE_PLEA: usize = 33;
    pub const ARRAY_PLEA: usize = 2;
    pub const MUTEX_CELL: usize = 2;
    pub const ELEMENT_CELL: usize = 16;
    pub const READERS: usize = 32;
    pub const OWNERS: usize = 16;
    pub const MARKS: usize = 16;
    pub const DIED: u64 = 1 << 16;

    /// A lane's word.
    pub fn lane(index: usize, word: usize) -> usize {
        FIRST_LANE + index * LANE + word
    }
}

const PERMITS: u32 = 2;
const BOUND: u32 = 3;
const NARROW: [u16; 11] = [3; 11];
const WIDE: [[u8; 12]; 3] = [[4; 12]; 3];

fn space(sandbox: &Sandbox) -> NamespaceBuilder {
    Namespace::builder()
        .max_participants(space::LANES)
        .directory(sandbox.names())
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

/// This process's handles, and somebody else's on the region.
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
    /// First words, in the order of the table.
    places: [usize; space::OBJECTS.len()],
}

impl Objects {
    /// In lane 0.
    fn new(sandbox: &Sandbox) -> Self {
        let namespace = space(sandbox).open(NAME).unwrap();
        let intruder = Intruder::at(&sandbox.names().join(NAME));
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
        let index = space::OBJECTS.iter().position(|(name, _)| *name == object).unwrap();
        self.places[index] + word
    }

    fn set(&self, object: &str, word: usize, value: u64) {
        self.intruder.set(self.word(object, word), value);
    }

    /// Tries each lock once, for no longer than `patience`. Whoever gets one gives it back at once.
    fn try_locks(&self, patience: Duration) -> [(&'static str, usize, Result<(), SyncError>); 7] {
        let lock = space::LOCK;
        [
            ("short", space::VALUE_LOCK, soon(|| self.short.store_timeout(&1, patience))),
            ("narrow", lock, soon(|| taken(self.narrow.lock_timeout(patience)))),
            ("wide", lock, soon(|| taken(self.wide.lock_timeout(patience)))),
            ("mutex", lock, soon(|| taken(self.mutex.lock_timeout(patience)))),
            ("again", lock, soon(|| taken(self.again.lock_timeout(patience)))),
            ("rw", lock, soon(|| taken(self.rw.write_timeout(patience)))),
            ("rw", lock, soon(|| taken(self.rw.read_timeout(patience)))),
        ]
    }
}

fn places(intruder: &Intruder) -> [usize; space::OBJECTS.len()] {
    std::array::from_fn(|index| intruder.get(space::TABLE + index * space::ENTRY + space::AT) as usize)
}

/// Whether a lock was to be had, whatever became of earlier owners.
fn taken<G>(result: Result<G, LockError<G>>) -> Result<(), SyncError> {
    result.map(drop).or_else(|error| error.recover().map(drop))
}

/// Opens the namespace, and leaves it.
fn visit(arguments: &[String]) {
    Namespace::builder().directory(&arguments[0]).open_existing().open(NAME).unwrap();
}

/// Long enough for a question to the kernel.
const LONG: Duration = Duration::from_millis(60);
/// More than a test may take.
const EVER: Duration = Duration::from_secs(1000);

#[test]
fn locks_of_owners_that_cannot_be() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    start("visit", &[sandbox.names().to_str().unwrap()]).finish(); // lane 1 has been left
    let lanes = space::LANES as u64;
    let [own, left, vacant] = [1, 2, 3];
    for owner in [left, vacant, lanes + 1, 100, 0xFFFE, 0xFFFF] {
        for word in [owner, owner | space::DIED, owner | !0 << 16] {
            for (object, lock, _) in objects.try_locks(SHORT) {
                objects.set(object, lock, word);
            }
            assert!(objects.mutex.is_locked());
            for (object, _, answer) in objects.try_locks(SHORT) {
                // Or the kernel was asked, on a machine that was busy with something else.
                assert!(matches!(answer, Err(SyncError::TimedOut | SyncError::Corrupt)), "{object}: {answer:?}");
            }
            for (object, _, answer) in objects.try_locks(EVER) {
                assert_eq!(answer, Err(SyncError::Corrupt), "{object} of {word:#x}");
            }
            objects.set("first", space::LOCK, word);
            assert_eq!(soon(|| objects.first.call_once(|| panic!("not ours"))), Err(SyncError::Corrupt));
            objects.set("first", space::LOCK, 0);
            for (object, lock, _) in objects.try_locks(Duration::ZERO) {
                objects.set(object, lock, 0);
            }
            assert!(objects.try_locks(SHORT).iter().all(|(_, _, answer)| *answer == Ok(())));
        }
    }
    // This process, though none of its threads took it.
    for (object, lock, _) in objects.try_locks(SHORT) {
        objects.set(object, lock, own);
    }
    assert!(objects.try_locks(LONG).iter().all(|(_, _, answer)| *answer == Err(SyncError::TimedOut)));
    assert_eq!(objects.mutex.unlock(), Err(SyncError::NotOwner));
    // Nobody, with bits that nobody sets.
    for word in [1 << 18, 1 << 63, !0 << 16] {
        for (object, lock, _) in objects.try_locks(Duration::ZERO) {
            objects.set(object, lock, word);
        }
        for (object, _, answer) in objects.try_locks(EVER) {
            assert_eq!(answer, Err(SyncError::Corrupt), "{object}: {word:#x}");
        }
    }
}

/// Nobody poisons an array, so nobody could heal it.
#[test]
fn an_array_is_not_poisoned_by_a_bit() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    objects.set("narrow", space::LOCK, space::DIED << 1);
    assert!(objects.narrow.lock().is_ok());
    assert!(objects.narrow.lock().is_ok());
}

/// A process that has the namespace mapped, and does nothing; and its lane.
fn look_on_in(sandbox: &Sandbox, intruder: &Intruder, lane: usize) -> (Process, usize) {
    let process = start("stay_in", &[sandbox.names().to_str().unwrap()]);
    support::until(|| intruder.get(space::lane(lane, space::STATE)) == space::PRESENT);
    (process, lane)
}

fn stay_in(arguments: &[String]) {
    let _namespace = Namespace::builder().directory(&arguments[0]).open_existing().open(NAME).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A record says that a process is in a lane that nobody holds.
#[test]
fn locks_of_owners_that_only_their_records_know() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    let onlooker = look_on_in(&sandbox, &objects.intruder, 1);
    let identity = [space::PID, space::STARTED, space::NAMESPACE].map(|word| (word, space::lane(onlooker.1, word)));
    for runs in [true, false] {
        for (object, lock, _) in objects.try_locks(Duration::ZERO) {
            objects.set(object, lock, 4);
        }
        for (word, own) in identity {
            objects.intruder.set(space::lane(3, word), if runs { objects.intruder.get(own) } else { u64::MAX - 7 });
        }
        objects.intruder.set(space::lane(3, space::STATE), space::PRESENT);
        for (object, _, answer) in objects.try_locks(EVER) {
            let expected = if runs { Err(SyncError::LockLost) } else { Ok(()) };
            assert_eq!(answer, expected, "{object}: a process that runs without its lock, or has died");
        }
    }
    assert_ne!(objects.intruder.get(space::lane(3, space::STATE)), space::PRESENT, "repaired");
}

/// A lock taken from its owner's hands, while it holds it.
#[test]
fn locks_that_are_taken_away() {
    for word in [0, 2, space::DIED, 0xFFFF, u64::MAX, 1 | !0 << 18] {
        let sandbox = Sandbox::new();
        let objects = Objects::new(&sandbox);
        let mut guard = objects.mutex.lock().unwrap();
        let (outer, inner) = (objects.again.lock().unwrap(), objects.again.lock().unwrap());
        let mut section = objects.wide.lock().unwrap();
        let mut writer = objects.short.try_writer().unwrap();
        let mut written = objects.rw.try_write().unwrap();
        for object in ["mutex", "again", "wide", "rw"] {
            objects.set(object, space::LOCK, word);
        }
        objects.set("short", space::VALUE_LOCK, word);
        (*guard, *written) = (6, [9; 2]);
        let _ = (inner.set(&[1; 9]), outer.get(), section.set(0, [7; 12]), writer.store(&3));
        let _ = (taken(objects.again.lock_timeout(SHORT)), objects.again.unlock(), objects.mutex.unlock());
        drop((guard, inner, outer, section, writer, written));
        let _ = objects.try_locks(SHORT);
    }
}

#[test]
fn cells_that_no_writer_leaves() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    for committed in [0, 1, 7, 1 << 40, u64::MAX] {
        for ahead in [4, 5, 1 << 40, u64::MAX - 1, u64::MAX] {
            let cells = [
                ("short", space::VALUE_CELL),
                ("long", space::VALUE_CELL),
                ("mutex", space::MUTEX_CELL),
                ("again", space::MUTEX_CELL),
                ("rw", space::MUTEX_CELL),
                ("wide", space::ELEMENT_CELL),
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
            // Who stores without looking puts it right.
            objects.short.try_store(&11).unwrap();
            objects.long.try_store(&[12; 9]).unwrap();
            objects.wide.set(0, [13; 12]).unwrap();
            objects.again.try_lock().unwrap().set(&[14; 9]).unwrap();
            assert_eq!((objects.short.load(), objects.long.load()), (Ok(11), Ok([12; 9])));
            assert_eq!((objects.wide.get(0), objects.again.try_lock().unwrap().get()), (Ok([13; 12]), Ok([14; 9])));
        }
    }
}

/// Versions at their end, and whatever the buffers hold.
#[test]
fn cells_of_any_version_are_delivered() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    for (committed, ahead) in [(u64::MAX, 0), (u64::MAX, 1), (u64::MAX, 3), (1 << 63, 2), (5, 0)] {
        objects.set("short", space::VALUE_CELL, committed);
        objects.set("short", space::VALUE_CELL + 1, committed.wrapping_add(ahead));
        let _ = objects.short.load().unwrap();
        assert_eq!(objects.short.version(), committed);
        objects.short.try_store(&9).unwrap();
        assert_eq!((objects.short.load(), objects.short.version()), (Ok(9), committed.wrapping_add(1)));
    }
}

#[test]
fn barriers_that_nobody_came_to() {
    const BY: u64 = 5 << 13;
    const BROKEN: u64 = 1 << 36;
    for generation in [0, 1, (1 << 21) - 1] {
        for word in [0, 1, 2, 3, 0x1FFF, BY, BY | 1, BROKEN, BROKEN | BY | 1, 63 << 37, !0 >> 21, BY | 7 << 37 | 2] {
            let sandbox = Sandbox::new();
            let objects = Objects::new(&sandbox);
            objects.set("gate", 0, generation << 43 | word);
            for mark in 0..space::LANES {
                objects.set("gate", space::MARKS + mark, if mark == 2 { u64::MAX } else { generation + 1 });
            }
            let gate = &objects.gate;
            let _ = (soon(|| gate.wait_timeout(SHORT)), gate.waiting(), gate.is_broken());
            let _ = (soon(|| gate.wait_timeout(LONG)), soon(|| gate.abort()));
            assert!(gate.is_broken());
            soon(|| gate.reset()).unwrap();
            assert!(!gate.is_broken());
            objects.set("gate", 0, generation << 43 | word);
            soon(|| drop(objects)); // who leaves looks whether it had come
        }
    }
}

#[test]
fn permits_of_nobody() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    for lie in [1 << 31, 1 << 32, u64::MAX] {
        objects.set("permits", 0, lie);
        assert_eq!(objects.permits.try_acquire(1), Err(SyncError::Corrupt));
        assert_eq!(soon(|| objects.permits.acquire_timeout(1, EVER)), Err(SyncError::Corrupt));
        assert_eq!(objects.permits.release(1), Err(SyncError::Corrupt));
        assert_eq!(objects.permits.available(), Err(SyncError::Corrupt));
    }
    objects.set("permits", 0, 3);
    assert_eq!(objects.permits.try_acquire(3), Ok(()), "more than there were, and none that could not be");

    objects.owned.try_acquire(2).unwrap();
    for owner in [2, 3, 5, 0xFFFF, u64::MAX, 1 << 16 | 2] {
        for permit in 0..BOUND as usize {
            objects.set("owned", space::OWNERS + permit, owner);
        }
        assert_eq!(objects.owned.available(), 0);
        assert_eq!(objects.owned.try_acquire(1), Err(SyncError::WouldBlock));
        assert_eq!(soon(|| objects.owned.acquire_timeout(1, LONG)), Err(SyncError::TimedOut));
    }
    assert_eq!([1, 2, 3].map(|count| objects.owned.release(count)), [Err(SyncError::NotOwner); 3]);
    // All are this one's, at the end of their generations.
    for permit in 0..BOUND as usize {
        objects.set("owned", space::OWNERS + permit, !0 << 16 | 1);
    }
    assert_eq!([4, 3, 1].map(|count| objects.owned.release(count).is_ok()), [false, true, false]);
    for permit in 0..BOUND as usize {
        objects.set("owned", space::OWNERS + permit, !0 << 16);
    }
    assert_eq!((objects.owned.try_acquire(3), objects.owned.release(3)), (Ok(()), Ok(())));
}

/// Whoever waits for a permit asks about its owners, and there can be many of both.
#[test]
fn many_owners_of_many_permits_are_asked_about_soon() {
    let sandbox = Sandbox::new();
    let (lanes, permits) = (4096, 1 << 16);
    let plan = Namespace::builder().max_participants(lanes).bounded_semaphore("owned", permits);
    let namespace = plan.directory(sandbox.names()).open(NAME).unwrap();
    let intruder = Intruder::at(&sandbox.names().join(NAME));
    let _onlooker = look_on_in(&sandbox, &intruder, 1);
    for lane in 2..lanes {
        // They run, as the kernel would say of that process.
        (0..space::LANE).for_each(|word| intruder.set(space::lane(lane, word), intruder.get(space::lane(1, word))));
    }
    let table = space::FIRST_LANE + lanes * space::LANE;
    let owners = intruder.get(table + space::AT) as usize + space::OWNERS;
    (0..permits as usize).for_each(|permit| intruder.set(owners + permit, 0xFFFF));
    let owned = namespace.bounded_semaphore("owned").unwrap();
    assert_eq!(soon(|| owned.acquire_timeout(1, LONG)), Err(SyncError::TimedOut));
    (0..permits as usize).for_each(|permit| intruder.set(owners + permit, (permit % lanes + 1) as u64));
    assert_eq!(soon(|| owned.acquire_timeout(1, LONG)), Err(SyncError::TimedOut));
    let seen = soon(|| Directory::at(sandbox.names()).inspect(NAME)).unwrap();
    assert_eq!(seen.objects[0].users.len(), permits as usize);
}

#[test]
fn readers_that_are_not_there() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    for (bits, answer) in [
        (1 << 32, SyncError::Corrupt), // a lane that nobody ever held
        (1 << 63, SyncError::Corrupt),
        (u64::MAX, SyncError::Corrupt),
        (1, SyncError::TimedOut), // this process, which does not read
        (0xFFFF, SyncError::TimedOut),
    ] {
        objects.set("rw", space::READERS, bits);
        assert!(matches!(taken(objects.rw.try_write()), Err(SyncError::WouldBlock | SyncError::Corrupt)));
        let patience = if answer == SyncError::TimedOut { LONG } else { EVER };
        assert_eq!(soon(|| taken(objects.rw.write_timeout(patience))), Err(answer), "{bits:#x}");
        let answer = match bits & 0xFFFF {
            0xFFFF => Err(SyncError::TooMany { count: 1 << 15, limit: (1 << 15) - 1 }),
            _ => Ok(()),
        };
        assert_eq!(taken(objects.rw.try_read()), answer, "who failed to write is not in the way");
    }
    // Readers who are made to have left.
    objects.set("rw", space::READERS, 0);
    let reading = objects.rw.try_read().unwrap();
    objects.set("rw", space::READERS, 0);
    assert_eq!(taken(objects.rw.try_write()), Err(SyncError::Relocked), "this thread reads, whatever the bits say");
    let kept = *reading;
    drop(reading);
    assert_eq!(kept, [8; 2]);
    assert_eq!(soon(|| taken(objects.rw.write_timeout(EVER))), Err(SyncError::Corrupt), "one less than none");
}

/// Whether a call gets what is free. It may stand back for others who seem to wait, but not for ever.
fn at_last(mut call: impl FnMut() -> Result<(), SyncError>) -> bool {
    (0..1000).any(|_| {
        thread::sleep(SHORT / 10);
        soon(&mut call).is_ok()
    })
}

/// Words to sleep on can say anything; what is free is to be had.
#[test]
fn events_that_lie() {
    let bits = (0..16).chain([0xFFFF_FFFF, 0x8000_0000, !0, 1 << 32, 0xFFFF_FFF0]);
    for lie in bits {
        let sandbox = Sandbox::new();
        let mut objects = Objects::new(&sandbox);
        for (object, events) in space::OBJECTS {
            events.iter().for_each(|event| objects.set(object, *event, lie));
        }
        assert!(at_last(|| taken(objects.mutex.try_lock())), "{lie:#x}");
        assert!(at_last(|| objects.permits.try_acquire(PERMITS)), "{lie:#x}");
        assert!(at_last(|| objects.owned.try_acquire(BOUND)), "{lie:#x}");
        assert_eq!((objects.permits.release(PERMITS), objects.owned.release(BOUND)), (Ok(()), Ok(())));
        assert!(at_last(|| objects.short.try_store(&4)) && objects.short.load() == Ok(4));
        for (object, events) in space::OBJECTS {
            events.iter().for_each(|event| objects.set(object, *event, lie));
        }
        for patience in [Duration::ZERO, SHORT] {
            for index in 0..objects.try_locks(patience).len() {
                assert!(at_last(|| objects.try_locks(patience)[index].2), "{index} with {lie:#x}, {patience:?}");
            }
            assert!(at_last(|| objects.permits.acquire_timeout(1, patience)), "{lie:#x}, {patience:?}");
            assert!(at_last(|| objects.owned.acquire_timeout(1, patience)), "{lie:#x}, {patience:?}");
        }
        assert_eq!(soon(|| objects.flag.wait_timeout(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.first.wait_timeout(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.short.wait_changed(SHORT)), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.gate.wait_timeout(SHORT)).map(drop), Err(SyncError::TimedOut));
        assert_eq!(soon(|| objects.queue.recv_timeout(SHORT)), Err(RecvError::TimedOut));
        let guard = objects.mutex.lock().unwrap();
        let _ = soon(|| objects.news.wait_timeout(guard, SHORT)).unwrap();
        let _ = (objects.news.notify_all(), objects.flag.set(), objects.queue.try_send(&1));
        assert_eq!((objects.flag.wait_timeout(SHORT), objects.queue.recv()), (Ok(()), Ok(1)));
    }
}

/// A newcomer stands back from what others have barred, whatever it wants of it, though not if it has not come for a slice.
#[test]
fn a_bar_is_heeded() {
    let sandbox = Sandbox::new();
    let objects = Objects::new(&sandbox);
    let barred = |object: &str| objects.set(object, space::LOCK_EVENT, 8);
    let is_refused = |object: &str, attempt: &dyn Fn() -> Result<(), SyncError>| {
        (0..100).any(|_| {
            barred(object);
            let refused = attempt() == Err(SyncError::WouldBlock);
            let barred = objects.intruder.get(objects.word(object, space::LOCK_EVENT)) & 8 != 0;
            assert_eq!(refused, barred, "who gets it lifts the bar");
            refused
        })
    };
    assert!(is_refused("mutex", &|| taken(objects.mutex.try_lock())));
    for count in [1, 2] {
        let attempt = || objects.permits.try_acquire(count).and_then(|()| objects.permits.release(count));
        assert!(is_refused("permits", &attempt), "{count} permits");
        let attempt = || objects.owned.try_acquire(count).and_then(|()| objects.owned.release(count));
        assert!(is_refused("owned", &attempt), "{count} of a fixed number");
    }
    // Where nothing is to be had nothing is left to others: the millisecond begins when something is.
    let polling = objects.mutex.clone().with_wait(Wait::Spin);
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

/// The table was read once; whatever it says from then on, the objects are what they were.
#[test]
fn a_table_that_lies_later() {
    for lie in [0, 1, 1 << 20, 1 << 62, u64::MAX] {
        let sandbox = Sandbox::new();
        let namespace = space(&sandbox).open(NAME).unwrap();
        let intruder = Intruder::at(&sandbox.names().join(NAME));
        let places = places(&intruder);
        let end = space::TABLE + space::OBJECTS.len() * space::ENTRY;
        (space::TABLE..end).for_each(|word| intruder.set(word, lie));
        // The header of a queue was read then, too.
        (0..64).for_each(|word| intruder.set(places[15] + word, lie));
        let mut objects = Objects::of(&namespace, intruder).unwrap();
        assert_eq!(namespace.objects().count(), space::OBJECTS.len());
        assert_eq!((objects.short.load(), objects.long.load()), (Ok(1), Ok([2; 9])));
        assert_eq!((objects.number.load(), objects.real.load()), (7, 0.5));
        assert_eq!((objects.narrow.to_vec().unwrap(), objects.wide.to_vec().unwrap()), (NARROW.into(), WIDE.into()));
        assert_eq!((*objects.mutex.lock().unwrap(), *objects.rw.read().unwrap()), (5, [8; 2]));
        assert_eq!((objects.owned.try_acquire(BOUND), objects.permits.available()), (Ok(()), Ok(PERMITS)));
        assert_eq!((objects.queue.send(&1), objects.queue.recv()), (Ok(()), Ok(1)));
        let error = Directory::at(sandbox.names()).inspect(NAME).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

// ---- namespaces: somebody who does not stop ----------------------------------------------------------------------------

/// Writes anything anywhere in a namespace, mostly where it matters.
fn scribble_space(arguments: &[String]) {
    scribble_from(LIFE, arguments);
}

/// Likewise, but where nobody looks who only opens it.
fn scribble_objects(arguments: &[String]) {
    scribble_from(space::TABLE + space::OBJECTS.len() * space::ENTRY, arguments);
}

fn scribble_from(first: usize, arguments: &[String]) -> ! {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let queue = places[15];
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let object = places[random.below(places.len() as u64) as usize];
        let at = match random.below(12) {
            0 => random.below((intruder.words() - LIFE) as u64) as usize + LIFE,
            1 => space::FIRST_LANE + random.below((space::LANES * space::LANE) as u64) as usize,
            2 => space::TABLE + random.below((space::ENTRY * places.len()) as u64) as usize,
            3..=7 => object + random.below(4) as usize,
            8 | 9 => object + 16 + random.below(4) as usize,
            _ => object + random.below(64) as usize,
        };
        let is_lane = (space::FIRST_LANE..space::TABLE).contains(&at);
        if at < first && !is_lane || first > LIFE && (queue..queue + 64).contains(&at) {
            continue;
        }
        let value = match random.below(8) {
            0 => random.next(),
            1 => 0,
            2 | 3 => random.below(space::LANES as u64 + 3),
            4 => random.below(space::LANES as u64 + 3) | random.below(8) << 16,
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

/// Begins versions of all cells, faster than anybody reads them, and commits none.
fn lap_without_end(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let cells = [0, 1, 5, 6, 7, 8].map(|object| {
        places[object]
            + match object {
                0 | 1 => space::VALUE_CELL,
                5 => space::ELEMENT_CELL,
                _ => space::MUTEX_CELL,
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

/// Changes every word that others change in a loop until they have succeeded.
fn change_without_end(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let places = places(&intruder);
    let mut number = 0_u64;
    loop {
        number += 1;
        places[2..5].iter().chain(&places[6..14]).for_each(|place| intruder.set(*place, number % 4));
        // Elements of an array that share a word; a meeting to which one has come.
        intruder.set(places[4] + 16, number);
        intruder.set(places[13], (number % 64) << 43 | (number & 1));
    }
}

/// Anything that an object can be asked for with an end.
fn use_objects(objects: &mut Objects, random: &mut Random) {
    let patience = [Duration::ZERO, SHORT, SHORT, Duration::from_millis(25)][random.below(4) as usize];
    let index = random.below(13) as usize;
    match random.below(16) {
        0 => drop((soon(|| objects.short.load()), soon(|| objects.long.load()), objects.short.version())),
        1 => drop((soon(|| objects.short.store_timeout(&1, patience)), soon(|| objects.long.try_store(&[1; 9])))),
        2 => {
            let _ = soon(|| objects.long.update_timeout(|value| value[0] ^= 1, patience));
            let _ = objects.short.try_writer().map(|mut writer| (writer.store(&2), writer.update(|value| *value ^= 3)));
        }
        3 => drop((soon(|| objects.short.wait_changed(patience)), soon(|| objects.flag.wait_timeout(patience)))),
        4 => {
            let _ = (objects.number.fetch_add(1), objects.number.fetch_max(7), objects.number.compare_exchange(1, 2));
            let _ = (soon(|| objects.real.fetch_add(0.5)), soon(|| objects.real.fetch_update(|real| Some(real * 2.0))));
        }
        5 => {
            let _ = (objects.narrow.get(index), soon(|| objects.narrow.set(index, 5)), objects.narrow.to_vec());
            let _ = (soon(|| objects.wide.get(index % 4)), soon(|| objects.wide.to_vec()), objects.wide.iter().count());
        }
        6 => {
            let _ = soon(|| objects.wide.lock_timeout(patience)).map(|mut section| {
                let _ = (section.set(index, [1; 12]), section.store_from(index % 4, &[[2; 12]; 2]), section.to_vec());
            });
            let _ = soon(|| objects.narrow.try_lock()).map(|mut section| section.store_from(1, &[9; 9]));
        }
        7 => drop(soon(|| objects.mutex.lock_timeout(patience)).map(|mut value| *value ^= 1)),
        8 => {
            let _ = soon(|| objects.again.lock_timeout(patience)).map(|outer| {
                let inner = soon(|| objects.again.try_lock());
                let _ = (outer.get(), outer.set(&[1; 9]), inner.map(|inner| inner.get()));
            });
        }
        9 => {
            let one = soon(|| objects.rw.read_timeout(patience));
            let another = soon(|| objects.rw.try_read());
            let _ = soon(|| taken(objects.rw.try_write()));
            drop((one, another));
        }
        10 => drop(soon(|| objects.rw.write_timeout(patience)).map(|mut value| value[1] ^= 1)),
        11 => {
            let _ = soon(|| objects.permits.acquire_timeout(index as u32 % 3, patience));
            let _ = (soon(|| objects.permits.try_acquire(1)), soon(|| objects.permits.release(index as u32 % 3)));
            let _ = (soon(|| objects.permits.try_permit().map(drop)), objects.permits.available());
        }
        12 => {
            let _ = soon(|| objects.owned.acquire_timeout(index as u32 % 4, patience));
            let _ = (soon(|| objects.owned.try_acquire(1)), soon(|| objects.owned.release(index as u32 % 4)));
            assert!(objects.owned.available() <= BOUND);
        }
        13 => {
            let _ = (soon(|| objects.gate.wait_timeout(patience)), objects.gate.waiting(), objects.gate.is_broken());
            let _ = (soon(|| objects.gate.abort()), soon(|| objects.gate.reset()));
        }
        14 => {
            let _ = (objects.flag.set(), objects.flag.clear(), objects.news.notify_all(), objects.flag.is_set());
            let _ = (soon(|| objects.first.wait_timeout(patience)), objects.first.is_completed());
        }
        _ => {
            let queue = &mut objects.queue;
            let _ = (soon(|| queue.try_send(&1)), soon(|| queue.send_timeout(&2, patience)));
            let _ = (soon(|| queue.try_recv()), soon(|| queue.recv_timeout(patience)), queue.len());
        }
    }
}

#[test]
fn scribbling_over_a_namespace() {
    under_attack("scribble_space", Objects::new, use_objects);
}

/// Whoever joins meanwhile is refused or let in, and can leave again; so can who looks from outside.
fn come_and_go(names: &Path, random: &mut Random) -> bool {
    let directory = Directory::at(names);
    let _ = (soon(|| directory.inspect(NAME)), soon(|| directory.repair(NAME)));
    let intruder = Intruder::at(&names.join(NAME));
    let namespace = soon(|| Namespace::builder().directory(names).open_existing().open(NAME));
    let objects = namespace.and_then(|namespace| soon(|| Objects::of(&namespace, intruder)));
    objects.is_ok_and(|mut objects| {
        use_objects(&mut objects, random);
        soon(|| drop(objects));
        true
    })
}

#[test]
fn scribbling_while_others_come_and_go_in_a_namespace() {
    for part in ["scribble_space", "scribble_objects"] {
        let came = Cell::new(0);
        under_attack(
            part,
            |sandbox| space(sandbox).persistent().open(NAME).map(|_| sandbox.names()).unwrap(),
            |names, random| came.set(came.get() + u32::from(come_and_go(names, random))),
        );
        assert!(part == "scribble_space" || came.get() > 0, "nobody ever got in");
    }
}

/// Who reads a cell gets a value or `Corrupt`, and does not read for ever.
#[test]
fn readers_of_cells_that_are_written_without_end() {
    let pleas = [("short", space::VALUE_PLEA), ("long", space::VALUE_PLEA), ("wide", space::ARRAY_PLEA)];
    let asked = Cell::new([false; 3]);
    under_attack("lap_without_end", Objects::new, |objects, _| {
        let _ = (soon(|| objects.short.load()), soon(|| objects.long.load()), soon(|| objects.wide.get(0)));
        let _ = soon(|| taken(objects.mutex.lock_timeout(SHORT)));
        let _ = soon(|| taken(objects.rw.read_timeout(SHORT)));
        let _ = soon(|| objects.again.lock_timeout(SHORT)).map(|again| soon(|| again.get()));
        let _ = soon(|| objects.short.wait_changed(SHORT));
        let asks = pleas.map(|(object, word)| objects.intruder.get(objects.word(object, word)) == 1);
        asked.set(std::array::from_fn(|index| asked.get()[index] || asks[index]));
    });
    assert_eq!(asked.get(), [true; 3], "readers who are lapped ask for a pause");
}

#[test]
fn words_that_are_changed_without_end() {
    under_attack("change_without_end", Objects::new, use_objects);
}
