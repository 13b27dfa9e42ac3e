//! A peer that writes what it likes, when it likes: every call still ends by its deadline with some answer, nothing panics,
//! and other regions of the process do not notice.

mod support;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use memmap2::{MmapOptions, MmapRaw};
use support::{Process, Random, Sandbox, parts, start};
use tombolo::{End, ErrorKind, Message, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender};
use tombolo::{QueueOptions, QueueReceiver, QueueSender};

parts!(scribble, feed_without_end, succeed_without_end, scribble_queue, feed_queue_without_end);

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
        (queue::TAIL, [0, 1, 7, 1 << 40, 1 << 62, queue::CLOSED - 1, queue::CLOSED, queue::CLOSED | 1 << 40, u64::MAX]),
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
        (0, 2, RecvError::TimedOut),
        (1, 0, RecvError::Closed),
        (u64::MAX, 77, RecvError::Closed),
        (u64::MAX, 2, RecvError::Closed),
        (1, 3, RecvError::PeerDied),
        (0, u64::MAX, RecvError::TimedOut),
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

/// Records of a live process in every lane, whose locks nobody holds: nobody takes them for dead, or waits for them.
#[test]
fn lanes_of_the_living_without_locks() {
    let sandbox = Sandbox::new();
    let (tx, mut rx, intruder) = many(&queue_of_values(&sandbox), &sandbox);
    drop(tx);
    for lane in [0, 2, 3] {
        (0..queue::LANE).for_each(|word| intruder.set(queue::lane(lane, word), intruder.get(queue::lane(1, word))));
        intruder.set(queue::lane(lane, queue::PART), 1);
    }
    intruder.set(queue::CHANGES, intruder.get(queue::CHANGES) + 1);
    assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(60))), Err(RecvError::LockLost));
    assert_eq!(rx.stats().senders, 3);
    let error = soon(|| rx.sender()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LanesTaken, "{error}");
    // States that do not exist, and those of the dead.
    for state in [u64::MAX, 4, 0] {
        (0..4).for_each(|lane| intruder.set(queue::lane(lane, queue::STATE), state));
        let _ = soon(|| rx.recv_timeout(SHORT));
        let _ = soon(|| rx.sender());
    }
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
