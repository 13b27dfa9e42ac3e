//! Models of the ring for many: `src/raw/mpmc.rs`.

use super::*;
use crate::raw::mpmc::{Drain, Ledger, Pop, Push, RUNS, Repair, Ring, Words};

const LANES: usize = 3;

/// A ring with two payload words in a slot, and its lanes.
#[derive(Clone)]
struct Many {
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    slots: SharedWords,
    marks: SharedWords,
    intents: [Shared<AtomicU64>; LANES],
    /// The producer's run in each lane, plus 1; 0 if nobody is there.
    runs: [Shared<AtomicU64>; LANES],
    lost: Shared<AtomicU64>,
    verdict: Shared<AtomicU64>,
    count: Shared<AtomicU64>,
    capacity: u64,
    patience: u32,
}

impl Many {
    fn new(patience: u32) -> Self {
        Self::with_capacity(2, patience)
    }

    fn with_capacity(capacity: u64, patience: u32) -> Self {
        let slot = |_| [AtomicU64::new(0), AtomicU64::payload(0), AtomicU64::payload(0)];
        let many = Self {
            tail: word(),
            head: word(),
            slots: SharedWords(Arc::new((0..capacity).flat_map(slot).collect())),
            marks: SharedWords(Arc::new((0..capacity).map(|_| AtomicU64::new(0)).collect())),
            intents: std::array::from_fn(|_| word()),
            runs: std::array::from_fn(|_| word()),
            lost: word(),
            verdict: word(),
            count: word(),
            capacity,
            patience,
        };
        many.words().format();
        many
    }

    fn words(&self) -> Words<Heap> {
        let (tail, head) = (self.tail.clone(), self.head.clone());
        let (slots, marks) = (self.slots.clone(), self.marks.clone());
        Words { tail, head, slots, marks, capacity: self.capacity, stride: 3 }
    }

    fn ring(&self, lane: usize) -> Ring<Heap> {
        self.ring_in(0, lane)
    }

    fn ring_in(&self, run: u64, lane: usize) -> Ring<Heap> {
        Ring::new(self.words(), run, self.intents[lane].clone(), self.patience)
    }

    /// A producer comes, in a lane where it is announced; says its run.
    fn come(&self, lane: usize) -> u64 {
        let announce = |run, _| self.runs[lane].store(run + 1, Ordering::Release);
        self.words().join(|last| Some((last + 1) % RUNS), announce).unwrap().unwrap()
    }

    fn leave(&self, lane: usize) {
        self.runs[lane].store(0, Ordering::Release);
    }

    /// Whether a producer of the run that is open is there.
    fn is_awaited(&self) -> bool {
        let now = self.words().now();
        !now.is_closed() && self.runs.iter().any(|run| run.load(Ordering::Acquire) == now.run() + 1)
    }

    /// Repairs all lanes but those of the living; says whether nothing was put off.
    fn repair(&self, alive: &[usize]) -> bool {
        let words = self.words();
        let ledger = Ledger { lost: self.lost.clone(), verdict: self.verdict.clone(), count: self.count.clone() };
        let repair = Repair {
            words: &words,
            ledger: &ledger,
            intents: &|lane| self.intents.get(lane).cloned(),
            alive: &|lane| Some(alive.contains(&lane)),
            spend: &|_| true,
        };
        repair.resume().unwrap();
        let dead: Vec<usize> = (0..LANES).filter(|lane| !alive.contains(lane)).collect();
        repair.lanes(&dead, |_| {}).into_iter().all(|whole| whole)
    }

    fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    /// All is quiet: nobody is thought to be at anything, what is in the ring comes out, and every slot serves again.
    fn drain_whole(&self) -> Vec<u64> {
        for intent in &self.intents {
            assert_eq!(intent.load(Ordering::Acquire), 0, "an intent outlived its claim");
        }
        let mut ring = self.ring(0);
        let mut left = Vec::new();
        while let Some(n) = take(&mut ring) {
            left.push(n);
        }
        for _ in 0..self.capacity {
            assert_eq!(put(&mut ring, 77), Push::Done(1), "a slot is missing");
        }
        assert_eq!(put(&mut ring, 77), Push::Full);
        left
    }
}

fn put(ring: &mut Ring<Heap>, n: u64) -> Push {
    ring.push(|payload| write(payload, n)).unwrap()
}

fn write(payload: &[AtomicU64], n: u64) {
    for (word, value) in payload.iter().zip(message(n)) {
        word.store(value, Ordering::Relaxed);
    }
}

fn read(payload: &[AtomicU64]) -> u64 {
    number(std::array::from_fn(|i| payload[i].load(Ordering::Relaxed)))
}

/// None: nothing there, for now or for good.
fn take(ring: &mut Ring<Heap>) -> Option<u64> {
    let mut taken = None;
    match ring.pop(|payload| taken = Some(read(payload))).unwrap() {
        Pop::Done(1) => taken,
        _ => None,
    }
}

/// Sends 1 to `last`, in as few batches as it gets away with.
fn put_batch(ring: &mut Ring<Heap>, last: u64, refused: impl Fn(Push)) {
    let mut sent = 0;
    while sent < last {
        match ring.push_many(last - sent, |i, payload| write(payload, sent + 1 + i)).unwrap() {
            Push::Done(count) => sent += count,
            other => refused(other),
        }
    }
}

fn put_waiting(ring: &mut Ring<Heap>, n: u64) {
    while put(ring, n) != Push::Done(1) {
        spin_loop();
    }
}

/// Where the models begin: one lap is almost over, so that two messages wrap around.
fn near_the_wrap(patience: u32) -> Many {
    let many = Many::new(patience);
    let mut ring = many.ring(0);
    assert_eq!(put(&mut ring, 9), Push::Done(1));
    assert_eq!(take(&mut ring), Some(9));
    many
}

/// One producer sends two messages, two consumers take what they find.
fn one_to_two(patience: u32) {
    model(move || {
        let many = near_the_wrap(patience);
        let consumer = |lane: usize| {
            let mut ring = many.ring(lane);
            move || take(&mut ring)
        };
        let first = thread::spawn(consumer(1));
        let second = thread::spawn(consumer(2));
        let mut ring = many.ring(0);
        // Full is an answer: a slot can be in the hands of a slow consumer.
        let sent = (1..=2).take_while(|n| put(&mut ring, *n) == Push::Done(1)).count() as u64;
        let mut all: Vec<u64> = [first.join().unwrap(), second.join().unwrap()].into_iter().flatten().collect();
        let rest = many.drain_whole();
        assert!(rest.is_sorted(), "out of order");
        all.extend(rest);
        all.sort();
        assert!(all.iter().copied().eq(1..=sent), "{sent} sent, {all:?} received");
    });
}

#[test]
fn one_producer_two_consumers_impatient() {
    one_to_two(0);
}

#[test]
fn one_producer_two_consumers_patient() {
    one_to_two(1);
}

/// Two producers, one consumer, over the wrap.
fn two_to_one(patience: u32) {
    model(move || {
        let many = near_the_wrap(patience);
        let producer = |lane: usize, n: u64| {
            let mut ring = many.ring(lane);
            move || put(&mut ring, n)
        };
        let first = thread::spawn(producer(1, 1));
        let second = thread::spawn(producer(2, 2));
        let mut ring = many.ring(0);
        let mut all: Vec<u64> = (0..2).filter_map(|_| take(&mut ring)).collect();
        assert_eq!(first.join().unwrap(), Push::Done(1), "full with one message");
        assert_eq!(second.join().unwrap(), Push::Done(1), "full with one message");
        all.extend(many.drain_whole());
        all.sort();
        assert_eq!(all, [1, 2]);
    });
}

#[test]
fn two_producers_one_consumer_impatient() {
    two_to_one(0);
}

#[test]
fn two_producers_one_consumer_patient() {
    two_to_one(1);
}

/// Two of each, with what each gets left to chance.
#[test]
fn two_producers_two_consumers() {
    model(|| {
        let many = Many::new(0);
        let producer = thread::spawn({
            let mut ring = many.ring(1);
            move || put(&mut ring, 1)
        });
        let consumer = thread::spawn({
            let mut ring = many.ring(2);
            move || take(&mut ring)
        });
        let mut ring = many.ring(0);
        assert_eq!(put(&mut ring, 2), Push::Done(1));
        let mut all: Vec<u64> = take(&mut ring).into_iter().collect();
        assert_eq!(producer.join().unwrap(), Push::Done(1), "full with one message and one slot");
        all.extend(consumer.join().unwrap());
        all.extend(many.drain_whole());
        all.sort();
        assert_eq!(all, [1, 2]);
    });
}

/// Empty is never the answer while a completed message is in the ring, even behind an unfinished one.
#[test]
fn empty_is_exact() {
    model(|| {
        let many = Many::new(0);
        let slow = thread::spawn({
            let mut ring = many.ring(1);
            move || put(&mut ring, 1)
        });
        let mut ring = many.ring(0);
        assert_eq!(put(&mut ring, 2), Push::Done(1));
        assert!(take(&mut ring).is_some(), "empty with a message in it");
        assert_eq!(slow.join().unwrap(), Push::Done(1));
    });
}

/// A batch stays in order and whole messages, though its slots are taken away in the middle of it.
#[test]
fn batches_keep_their_order() {
    model(|| {
        let many = Many::new(0);
        let producer = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                put_batch(&mut ring, 3, |_| spin_loop());
            }
        });
        let mut ring = many.ring(0);
        let mut all = Vec::new();
        while all.len() < 3 {
            if !matches!(ring.pop_many(2, |_, payload| all.push(read(payload))).unwrap(), Pop::Done(_)) {
                spin_loop();
            }
        }
        producer.join().unwrap();
        assert_eq!(all, [1, 2, 3]);
    });
}

/// What was sent before the closing comes out, nothing is sent after it, nothing is left behind.
#[test]
fn closing_strands_nothing() {
    model(|| {
        let many = Many::new(0);
        let sender = thread::spawn({
            let mut ring = many.ring(1);
            move || put(&mut ring, 1)
        });
        let closer = thread::spawn({
            let words = many.words();
            move || assert!(words.close(Some(0)).unwrap().is_some())
        });
        let mut ring = many.ring(0);
        let mut got = 0;
        loop {
            match ring.pop(|payload| assert_eq!(read(payload), 1)).unwrap() {
                Pop::Done(_) => got += 1,
                Pop::Drained => break,
                Pop::Empty => spin_loop(),
            }
        }
        closer.join().unwrap();
        match sender.join().unwrap() {
            Push::Done(1) => assert_eq!(got, 1, "sent, and never received"),
            other => assert_eq!((other, got), (Push::Closed, 0)),
        }
        assert_eq!(many.words().close(None), Ok(None), "closed twice");
    });
}

/// Two close the same run while a third comes. One that came after the closing can send: nobody
/// closes a run that is not its own.
#[test]
fn nobody_closes_the_run_of_others() {
    model(|| {
        let many = Many::new(0);
        let closer = || {
            let words = many.words();
            move || words.close(Some(0)).unwrap().is_some()
        };
        let first = thread::spawn(closer());
        let second = thread::spawn(closer());
        let run = many.come(0);
        let outcome = put(&mut many.ring_in(run, 0), 1);
        assert!(outcome == Push::Done(1) || run == 0 && outcome == Push::Closed, "{outcome:?} in run {run}");
        assert_ne!(first.join().unwrap(), second.join().unwrap(), "one of them has closed it");
        assert_eq!(many.words().is_closed(), run == 0);
    });
}

/// A producer of a closed run sends nothing into the next one, and what it had sent comes before
/// that.
#[test]
fn a_run_begins_behind_the_one_before() {
    model(|| {
        let many = Many::new(0);
        let old = thread::spawn({
            let mut ring = many.ring(1);
            move || put(&mut ring, 1)
        });
        assert_eq!(many.words().close(None).map(|end| end.is_some()), Ok(true));
        assert_eq!(many.come(0), 1);
        let mut ring = many.ring_in(1, 0);
        assert_eq!(put(&mut ring, 2), Push::Done(1));
        let mut all: Vec<u64> = take(&mut ring).into_iter().collect();
        let expected: &[u64] = match old.join().unwrap() {
            Push::Done(1) => &[1, 2],
            refused => {
                assert_eq!(refused, Push::Closed);
                &[2]
            }
        };
        all.extend(take(&mut ring));
        assert_eq!(all, expected);
    });
}

/// To see that a run has begun is to see the producer that began it: a consumer waits for that one.
#[test]
fn a_run_is_not_begun_by_nobody() {
    model(|| {
        let many = Many::new(0);
        many.words().close(None).unwrap();
        let sender = thread::spawn({
            let many = many.clone();
            move || assert_eq!(many.come(1), 1)
        });
        let now = many.words().now();
        assert!(now.is_closed() || many.is_awaited(), "a run with nobody in it");
        sender.join().unwrap();
        assert!(many.is_awaited());
    });
}

/// A producer of a closed run is in the middle of sending when the last one of the next run leaves:
/// the consumer that is told so has that message, or passes over it for good.
#[test]
fn the_last_to_leave_leaves_nothing_behind() {
    model(|| {
        let many = Many::new(0);
        let old = thread::spawn({
            let mut ring = many.ring(1);
            move || put(&mut ring, 1)
        });
        many.words().close(None).unwrap();
        many.come(0);
        many.leave(0);
        let mut ring = many.ring(2);
        let mut received = Vec::new();
        loop {
            match take(&mut ring) {
                Some(n) => received.push(n),
                None if many.is_awaited() => spin_loop(),
                None if many.words().drain() == Ok(Drain::Done) => break,
                None => spin_loop(),
            }
        }
        let sent: &[u64] = if old.join().unwrap() == Push::Done(1) { &[1] } else { &[] };
        assert_eq!(received, sent);
        assert_eq!(many.words().len(), 0);
    });
}

/// A producer leaves after its last message: who sees nobody any more sees the message.
#[test]
fn a_leaver_is_not_overlooked() {
    model(|| {
        let many = Many::new(0);
        many.come(1);
        let sender = thread::spawn({
            let many = many.clone();
            move || {
                assert_eq!(put(&mut many.ring(1), 1), Push::Done(1));
                many.leave(1);
            }
        });
        let mut ring = many.ring(0);
        let mut received = Vec::new();
        loop {
            // As lanes.rs does: first who is there, then what.
            let is_awaited = many.is_awaited();
            match take(&mut ring) {
                Some(n) => received.push(n),
                None if !is_awaited && many.words().drain() == Ok(Drain::Done) => break,
                None => spin_loop(),
            }
        }
        assert_eq!(received, [1]);
        sender.join().unwrap();
    });
}

/// One who comes is killed at any access, between two runs; the next one comes into an open run,
/// and sends.
#[test]
fn survive_a_killed_newcomer() {
    for_every_kill(40, |accesses, done| {
        let many = Many::new(0);
        many.words().close(None).unwrap();
        let victim = thread::spawn({
            let many = many.clone();
            move || {
                crash_after(accesses, || {
                    let run = many.come(1);
                    assert_eq!(put(&mut many.ring_in(run, 1), 1), Push::Done(1));
                })
            }
        });
        let mut ring = many.ring(0);
        let first = take(&mut ring);
        let finished = victim.join().unwrap();
        assert!(many.repair(&[0]), "nobody was in the way");
        many.leave(1);
        assert_eq!(many.come(0), 1, "begun, or to be begun");
        let mut ring = many.ring_in(1, 0);
        assert_eq!(put(&mut ring, 2), Push::Done(1));
        let rest: Vec<u64> = std::iter::from_fn(|| take(&mut ring)).collect();
        let all: Vec<u64> = first.into_iter().chain(rest).collect();
        assert!(all == [2] && !finished || all == [1, 2], "{all:?}");
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// A producer dies at any access while another sends and a consumer receives; repair makes the ring whole and loses nothing.
#[test]
fn survive_a_killed_producer() {
    for_every_kill(60, |accesses, done| {
        let many = Many::new(0);
        let victim = thread::spawn({
            let many = many.clone();
            move || {
                let mut ring = many.ring(1);
                let mut sent = 0;
                let finished = crash_after(accesses, || {
                    for n in 1..=2 {
                        assert_eq!(put(&mut ring, n), Push::Done(1));
                        sent = n;
                    }
                });
                (finished, sent)
            }
        });
        let mut ring = many.ring(0);
        let mut all: Vec<u64> = (0..2).filter_map(|_| take(&mut ring)).collect();
        let (finished, sent) = victim.join().unwrap();
        assert!(many.repair(&[0]), "nobody was in the way");
        all.extend(many.drain_whole());
        let seen = all.len() as u64;
        assert!(all.iter().copied().eq(1..=seen), "{all:?}");
        assert!(seen == sent || seen == sent + 1, "{sent} sent, {seen} seen");
        assert_eq!(many.lost(), 0, "a message that was never sent is not lost");
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// A consumer dies at any access while another receives and a producer laps them; each message is received once or counted as
/// lost.
#[test]
fn survive_a_killed_consumer() {
    for_every_kill(60, |accesses, done| {
        let many = Many::new(0);
        let mut ring = many.ring(0);
        for n in 1..=2 {
            assert_eq!(put(&mut ring, n), Push::Done(1));
        }
        let victim = thread::spawn({
            let many = many.clone();
            move || {
                let mut ring = many.ring(1);
                let mut received = Vec::new();
                let finished = crash_after(accesses, || {
                    for _ in 0..2 {
                        received.extend(take(&mut ring));
                    }
                });
                (finished, received)
            }
        });
        let mut all: Vec<u64> = take(&mut ring).into_iter().collect();
        let third = put(&mut ring, 3);
        let (finished, received) = victim.join().unwrap();
        assert!(many.repair(&[0]), "nobody was in the way");
        all.extend(received.iter());
        all.extend(many.drain_whole());
        all.sort();
        all.dedup();
        let sent = if third == Push::Done(1) { 3 } else { 2 };
        let missing = sent - all.len() as u64;
        // What the victim released and had not yet returned is with the dead.
        assert!(many.lost() <= missing && missing <= many.lost() + 1, "{missing} missing, {} lost", many.lost());
        assert!(!finished || missing == 0);
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// Dies in a lane between the claim of a slot and the payload.
fn die_sending(many: &Many, lane: usize) {
    let mut ring = many.ring(lane);
    let outlived = crash_after(usize::MAX, || {
        let _ = ring.push(|_| with_life(|life| life.set(0)));
    });
    assert!(!outlived);
}

/// Dies in a lane with a message in its hands.
fn die_receiving(many: &Many, lane: usize) {
    let mut ring = many.ring(lane);
    let outlived = crash_after(usize::MAX, || {
        let _ = ring.pop(|_| with_life(|life| life.set(0)));
    });
    assert!(!outlived);
}

/// The repairer dies at any access, the next one goes on, while a live participant laps them.
fn killed_repairer(die: fn(&Many, usize), lost: u64) {
    for_every_kill(90, move |accesses, done| {
        let many = Many::new(0);
        put(&mut many.ring(0), 1);
        die(&many, 2);
        let mut ring = many.ring(0);
        assert_eq!(put(&mut ring, 2), if lost == 1 { Push::Done(1) } else { Push::Full });
        let taken = take(&mut ring);
        // In the way of this one is the slot of the dead.
        let alive = thread::spawn(move || put(&mut ring, 3));
        let finished = crash_after(accesses, || {
            many.repair(&[0]);
        });
        let sent = alive.join().unwrap();
        assert!(many.repair(&[0]));
        assert_eq!((taken, many.lost()), (Some(if lost == 1 { 2 } else { 1 }), lost), "one loss is counted once");
        let expected: &[u64] = if sent == Push::Done(1) { &[3] } else { &[] };
        assert_eq!(many.drain_whole(), expected);
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

#[test]
fn survive_a_killed_repairer_of_a_receiver() {
    killed_repairer(die_receiving, 1);
}

#[test]
fn survive_a_killed_repairer_of_a_sender() {
    killed_repairer(die_sending, 0);
}

/// Repair of the dead does not touch what the living hold: a slow consumer keeps its message, a slow producer its slot.
#[test]
fn repair_spares_the_living() {
    model(|| {
        let many = Many::new(0);
        let mut ring = many.ring(0);
        put(&mut ring, 1);
        // A contender that is dead: it had the same message in mind.
        many.intents[2].store(1 << 6 | 1, Ordering::Relaxed);
        let alive = thread::spawn({
            let many = many.clone();
            move || take(&mut many.ring(1))
        });
        let other = thread::spawn({
            let many = many.clone();
            move || {
                let mut ring = many.ring(0);
                (put(&mut ring, 2), put(&mut ring, 3))
            }
        });
        many.repair(&[0, 1]);
        assert_eq!(alive.join().unwrap(), Some(1));
        let sent = other.join().unwrap();
        assert!(many.repair(&[0, 1]), "nobody is in the way any more");
        assert_eq!(many.lost(), 0, "counted as lost, and received");
        let expected = 1 + u64::from(sent.1 == Push::Done(1));
        assert_eq!(sent.0, Push::Done(1));
        assert_eq!(many.drain_whole().len() as u64, expected);
    });
}

/// A batch keeps from being repaired what it has not finished, up to the last position.
#[test]
fn repair_spares_a_batch() {
    model(|| {
        let many = Many::new(0);
        let mut ring = many.ring(0);
        put_batch(&mut ring, 2, |refused| panic!("{refused:?}"));
        // A contender that is dead: it had the same messages in mind.
        many.intents[2].store(1 << 6 | 2, Ordering::Relaxed);
        let alive = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                let mut taken = Vec::new();
                assert_eq!(ring.pop_many(2, |_, payload| taken.push(read(payload))), Ok(Pop::Done(2)));
                taken
            }
        });
        many.repair(&[0, 1]);
        assert_eq!(alive.join().unwrap(), [1, 2]);
        assert!(many.repair(&[0, 1]), "nobody is in the way any more");
        assert_eq!(many.lost(), 0, "counted as lost, and received");
        assert_eq!(many.drain_whole(), []);
    });
}

/// One stands in the middle of a batch; another dies at the slot of the batch's first message, which is in service again.
#[test]
fn a_batch_keeps_nothing_that_is_finished() {
    model(|| {
        let many = Many::new(0);
        let (mut ring, mut slow) = (many.ring(0), many.ring(1));
        let outcome = slow.push_many(2, |index, payload| {
            if index == 1 {
                assert_eq!(take(&mut ring), Some(1));
                die_sending(&many, 2);
                assert!(many.repair(&[0, 1]), "put off for one who is done with that slot");
            }
            write(payload, 1 + index);
        });
        assert_eq!(outcome, Ok(Push::Done(2)));
        assert_eq!(take(&mut ring), Some(2));
        put(&mut ring, 3);
        put(&mut ring, 4);
        let outcome = slow.pop_many(2, |index, payload| {
            assert_eq!(read(payload), 3 + index);
            if index == 1 {
                put(&mut ring, 5);
                die_receiving(&many, 2);
                assert!(many.repair(&[0, 1]), "put off for one who is done with that slot");
            }
        });
        assert_eq!(outcome, Ok(Pop::Done(2)));
        assert_eq!(many.lost(), 1);
        assert_eq!(many.drain_whole(), []);
    });
}

/// A producer of batches dies at any access, with a consumer beside it: what was published comes out in order, and no slot is missing.
#[test]
fn survive_a_killed_batch() {
    for_every_kill(60, |accesses, done| {
        let many = Many::new(0);
        let victim = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                crash_after(accesses, || {
                    let _ = ring.push_many(2, |i, payload| write(payload, 1 + i));
                })
            }
        });
        let mut ring = many.ring(0);
        let mut all: Vec<u64> = (0..2).filter_map(|_| take(&mut ring)).collect();
        let finished = victim.join().unwrap();
        assert!(many.repair(&[0]), "nobody was in the way");
        all.extend(many.drain_whole());
        let seen = all.len() as u64;
        assert!(all.iter().copied().eq(1..=seen), "{all:?}");
        assert_eq!(many.lost(), 0, "a message that was never sent is not lost");
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// A receiver of batches dies at any access, with a producer beside it: each message is received or lost, and no slot is missing.
#[test]
fn survive_a_killed_batch_of_a_receiver() {
    for_every_kill(60, |accesses, done| {
        let many = Many::new(0);
        let mut ring = many.ring(0);
        put_batch(&mut ring, 2, |refused| panic!("{refused:?}"));
        let victim = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                let mut received = 0;
                let finished = crash_after(accesses, || {
                    let _ = ring.pop_many(2, |_, _| received += 1);
                });
                (finished, received)
            }
        });
        put(&mut ring, 3);
        let (finished, received) = victim.join().unwrap();
        assert!(many.repair(&[0]), "nobody was in the way");
        assert!(many.lost() <= 2 && many.lost() + received >= 2 - many.drain_whole().len().min(2) as u64);
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// A repairer dies while the one whom it takes for dead gets done: what it had begun to write down must not be counted later,
/// when the slot is in quarantine for another reason.
#[test]
fn a_verdict_is_not_given_in_doubt() {
    for_every_kill(120, |accesses, done| {
        let many = Many::new(0);
        let mut ring = many.ring(0);
        put(&mut ring, 1);
        many.intents[2].store(1 << 6 | 1, Ordering::Relaxed); // dead, and not the one who has the message
        let alive = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                assert_eq!(take(&mut ring), Some(1));
                // Its next intent stands where the cleared one stood.
                assert_eq!(put(&mut ring, 2), Push::Done(1));
            }
        });
        let finished = crash_after(accesses, || {
            many.repair(&[0, 1]);
        });
        alive.join().unwrap();
        assert_eq!(take(&mut ring), Some(2));
        die_sending(&many, 1); // in the slot of the first message
        put(&mut ring, 3);
        assert_eq!(take(&mut ring), Some(3), "the slot of the dead is passed over");
        assert!(many.repair(&[0]));
        assert_eq!(many.lost(), 0, "counted as lost, and received");
        assert_eq!(many.drain_whole(), []);
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

/// Two who are dead had the same message in mind: it is lost once.
#[test]
fn two_dead_at_one_slot_lose_one_message() {
    model(|| {
        let many = Many::new(0);
        put(&mut many.ring(0), 1);
        die_receiving(&many, 2);
        many.intents[1].store(1 << 6 | 1, Ordering::Relaxed);
        assert!(many.repair(&[0]));
        assert_eq!(many.lost(), 1);
        assert_eq!(many.drain_whole(), []);
    });
}

/// One message wakes one sleeper, two wake two.
#[test]
fn sleepers_are_each_woken() {
    model(|| {
        let (many, event) = (Many::new(0), futex());
        let sleeper = |lane: usize| {
            let (many, event) = (many.clone(), event.clone());
            move || {
                let mut ring = many.ring(lane);
                blocking(&Event::<Heap>::new(event), || take(&mut ring))
            }
        };
        let first = thread::spawn(sleeper(1));
        let second = thread::spawn(sleeper(2));
        let mut ring = many.ring(0);
        for n in 1..=2 {
            put_waiting(&mut ring, n);
            Event::<Heap>::new(event.clone()).notify(1);
        }
        assert_eq!(first.join().unwrap() + second.join().unwrap(), 3);
    });
}

/// One batch consumer is away with everything; a producer that keeps trying is told Full and moves nothing.
#[test]
fn a_full_ring_stands_still() {
    model(|| {
        let many = Many::new(0);
        let (mut ring, mut away) = (many.ring(0), many.ring(1));
        put(&mut ring, 1);
        put(&mut ring, 2);
        let outcome = away.pop_many(2, |index, payload| {
            assert_eq!(read(payload), 1 + index);
            for _ in 0..4 {
                assert_eq!(put(&mut ring, 3), if index == 0 { Push::Full } else { Push::Done(1) });
                if index == 1 {
                    break;
                }
            }
        });
        assert_eq!(outcome.unwrap(), Pop::Done(2));
        assert!(many.words().len() <= 2, "tail ran away");
        assert_eq!(take(&mut ring), Some(3));
        assert_eq!(many.drain_whole(), []);
    });
}

/// A consumer that polls takes no slot from a slow producer for nothing.
#[test]
fn polling_disturbs_nobody() {
    model(|| {
        let many = Many::new(0);
        let (mut slow, mut polling) = (many.ring(0), many.ring(1));
        let mut fills = 0;
        let outcome = slow.push(|payload| {
            fills += 1;
            assert_eq!(take(&mut polling), None);
            write(payload, 1);
        });
        assert_eq!((outcome.unwrap(), fills), (Push::Done(1), 1));
        assert_eq!(take(&mut polling), Some(1));
    });
}

/// A consumer is slow, and passed over: its message stays whole, its slot serves again.
#[test]
fn a_slow_consumer_gives_its_slot_back() {
    model(|| {
        let many = Many::new(0);
        let (mut ring, mut slow) = (many.ring(0), many.ring(1));
        put(&mut ring, 1);
        put(&mut ring, 2);
        let outcome = slow.pop(|payload| {
            assert_eq!(take(&mut ring), Some(2));
            assert_eq!(put(&mut ring, 3), Push::Done(1), "a free slot is beyond the slow one");
            assert_eq!(many.words().quarantined(), 1);
            assert_eq!(put(&mut ring, 4), Push::Full);
            assert_eq!(take(&mut ring), Some(3));
            assert_eq!(put(&mut ring, 5), Push::Done(1), "and on the next lap");
            assert_eq!(read(payload), 1);
        });
        assert_eq!(outcome.unwrap(), Pop::Done(1));
        assert_eq!(many.drain_whole(), [5]);
    });
}

/// Half of a batch is passed over by a consumer that goes for what is behind it; the other half must not come first.
#[test]
fn half_a_batch_overtakes_nothing() {
    model(|| {
        let many = Many::with_capacity(4, 0);
        let batch = thread::spawn({
            let mut ring = many.ring(1);
            move || {
                put_batch(&mut ring, 2, |refused| panic!("{refused:?} with three messages and four slots"));
            }
        });
        let consumer = thread::spawn({
            let mut ring = many.ring(2);
            move || {
                put(&mut ring, 9);
                take(&mut ring)
            }
        });
        batch.join().unwrap();
        let mut all: Vec<u64> = consumer.join().unwrap().into_iter().collect();
        all.extend(many.drain_whole());
        let batch: Vec<u64> = all.iter().copied().filter(|n| *n != 9).collect();
        assert_eq!(batch, [1, 2]);
        assert_eq!(all.len(), 3);
    });
}

/// A producer publishes while a consumer, played by hand, is passing over it and gets no further; another consumer may
/// take the message only if it was not passed over.
fn passed_by_hand(pass: fn(&Many), has_begun: bool) {
    model(move || {
        let many = Many::new(0);
        let mut slow = many.ring(0);
        let mut others = Vec::new();
        let outcome = slow.push(|payload| {
            if others.is_empty() {
                assert_eq!(put(&mut many.ring(1), 2), Push::Done(1));
                if has_begun {
                    many.marks[0].store(PASSING, Ordering::Relaxed);
                }
                let mut ring = many.ring(2);
                others.push(thread::spawn(move || take(&mut ring)));
                let many = many.clone();
                others.push(thread::spawn(move || {
                    pass(&many);
                    None
                }));
            }
            write(payload, 1);
        });
        assert_eq!(outcome.unwrap(), Push::Done(1));
        let mut all: Vec<u64> = others.into_iter().filter_map(|other| other.join().unwrap()).collect();
        all.extend(many.drain_whole());
        all.sort();
        assert_eq!(all, [1, 2]);
    });
}

/// The mark of slot 0 while position 0 waits for its producer.
const PASSING: u64 = 3 << 2;
const UNSENT: u64 = 3 << 2 | 2;

fn change_mark(many: &Many, old: u64, new: u64) -> bool {
    many.marks[0].compare_exchange(old, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
}

/// The passer has announced itself and looked, and makes its decision.
#[test]
fn a_disputed_message_is_received_once() {
    let decide = |many: &Many| {
        change_mark(many, PASSING, UNSENT);
    };
    passed_by_hand(decide, true);
}

/// All of it: announcement, fence, look, decision.
#[test]
fn a_message_that_was_passed_over_is_not_received() {
    let pass = |many: &Many| {
        if change_mark(many, 0, PASSING) && heavy_fence() && many.slots[0].load(Ordering::Acquire) == 0 {
            change_mark(many, PASSING, UNSENT);
        }
    };
    passed_by_hand(pass, false);
}

/// A slow consumer's position was passed over by producers and not yet by consumers; its slot comes back while they do that.
#[test]
fn a_slot_comes_back_while_others_pass_over_it() {
    model(|| {
        let many = Many::new(0);
        let (mut ring, mut slow) = (many.ring(0), many.ring(1));
        put(&mut ring, 1);
        put(&mut ring, 2);
        let mut other = None;
        let outcome = slow.pop(|payload| {
            assert_eq!(take(&mut ring), Some(2));
            assert_eq!(put(&mut ring, 3), Push::Done(1));
            other = Some(thread::spawn({
                let mut ring = many.ring(2);
                move || (take(&mut ring), put(&mut ring, 4), take(&mut ring))
            }));
            assert_eq!(read(payload), 1);
        });
        assert_eq!(outcome, Ok(Pop::Done(1)));
        let (first, sent, second) = other.unwrap().join().unwrap();
        assert_eq!((first, sent), (Some(3), Push::Done(1)));
        let rest = many.drain_whole();
        assert!(second == Some(4) && rest.is_empty(), "{second:?}, {rest:?}");
    });
}

/// A claimer, about to finish, dies at any access from there on, while one who is passing over it sleeps, and repair runs:
/// whatever the passer decides then, no slot is lost.
fn killed_in_dispute(claim: fn(&Many, &mut dyn FnMut()), pass: fn(&Many)) {
    for_every_kill(30, move |accesses, done| {
        let many = Many::new(0);
        let victim = thread::spawn({
            let many = many.clone();
            move || {
                let mut calls = 0;
                let finished = crash_after(usize::MAX, || {
                    claim(&many, &mut || {
                        calls += 1;
                        // Passed over, it would begin anew: that is another model's business.
                        with_life(|life| life.set(if calls == 1 { accesses } else { 0 }));
                    });
                });
                finished || calls > 1
            }
        });
        let passer = thread::spawn({
            let many = many.clone();
            move || pass(&many)
        });
        let finished = victim.join().unwrap();
        let whole = many.repair(&[0, 1]);
        passer.join().unwrap();
        assert!(whole || many.repair(&[0, 1]));
        many.drain_whole();
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

#[test]
fn a_receiver_killed_in_dispute_leaves_its_slot() {
    let claim = |many: &Many, claimed: &mut dyn FnMut()| {
        let (mut ring, mut other) = (many.ring(2), many.ring(0));
        assert_eq!((put(&mut other, 1), put(&mut other, 2)), (Push::Done(1), Push::Done(1)));
        let _ = ring.pop(|_| {
            assert_eq!(take(&mut other), Some(2));
            claimed();
        });
    };
    let pass = |many: &Many| {
        let mut ring = many.ring(1);
        if many.head.load(Ordering::Acquire) == 2 {
            put(&mut ring, 3);
        }
    };
    killed_in_dispute(claim, pass);
}

#[test]
fn a_sender_killed_in_dispute_leaves_its_slot() {
    let claim = |many: &Many, claimed: &mut dyn FnMut()| {
        let mut first = true;
        let _ = many.ring(2).push(|payload| {
            write(payload, 1);
            if std::mem::replace(&mut first, false) {
                put(&mut many.ring(0), 2);
            }
            claimed();
        });
    };
    let pass = |many: &Many| {
        take(&mut many.ring(1));
    };
    killed_in_dispute(claim, pass);
}

/// Full is not the answer while a slot is free, whichever that is meanwhile.
#[test]
fn full_is_exact() {
    model(|| {
        let many = Many::new(0);
        let (mut ring, mut slow) = (many.ring(0), many.ring(1));
        put(&mut ring, 1);
        put(&mut ring, 2);
        let mut other = None;
        let outcome = slow.pop(|_| {
            assert_eq!(take(&mut ring), Some(2));
            let mut ring = many.ring(2);
            other = Some(thread::spawn(move || put(&mut ring, 3)));
        });
        assert_eq!(outcome, Ok(Pop::Done(1)));
        put(&mut ring, 4);
        assert_eq!(other.unwrap().join().unwrap(), Push::Done(1), "full with a free slot all the time");
    });
}
