//! The ring with many producers and consumers, on the heap. A participant is slow when, in the
//! middle of an operation, other participants do the operations that follow in the script.

use std::collections::VecDeque;
use std::sync::Arc;

use super::assert_in_time;
use super::heap::{Cells, DATA, HEAD, Heap, TAIL, Word, Words};
use super::input::Input;
use crate::primitive::{AtomicU64, Ordering::Relaxed};
use crate::raw::Corrupt;
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::raw::mpmc::tail::RUNS;
use crate::raw::mpmc::{MAX_BATCH, Pop, Push, Ring, RingWords};

/// Where the words of the repair log are in [`Cells`].
const LOST: usize = 2;
const PENDING_POSITION: usize = 3;
const PENDING_LOST: usize = 4;
/// Operations within operations: each depth is a participant that is alive.
const DEPTH: usize = 3;
/// Participants that are dead. There are 64 in all.
const DEAD: usize = 64 - DEPTH;
/// Control word, number and its complement.
const STRIDE: usize = 3;

struct HeapRing {
    /// Control words, and the slots from [`DATA`] on.
    cells: Arc<Cells>,
    /// The skip marks, from [`DATA`] on.
    marks: Arc<Cells>,
    intents: Vec<Arc<Cells>>,
    capacity: u64,
}

/// What a ring of correct participants must hold.
#[derive(Default)]
struct Expected {
    /// Numbers sent and not received, by participant.
    pending: [VecDeque<u64>; DEPTH],
    next_number: u64,
    /// Claims of slow and of dead participants that are open now.
    open: u64,
    run: u64,
    closed: bool,
    lost: u64,
    /// Whether any participant was slow or died so far.
    was_slow: bool,
}

impl HeapRing {
    fn new(capacity: u64) -> Self {
        let intents = (0..DEAD + DEPTH).map(|_| Cells::new(1)).collect();
        // Without asymmetric fences no participant skips a slot.
        crate::sys::membarrier::register();
        let (slots, marks) = (DATA + capacity as usize * STRIDE, DATA + capacity as usize);
        let ring = Self { cells: Cells::new(slots), marks: Cells::new(marks), intents, capacity };
        ring.ring_words().format();
        ring
    }

    fn word(&self, index: usize) -> Word {
        Word(Arc::clone(&self.cells), index)
    }

    fn intent(&self, participant: usize) -> Option<Word> {
        self.intents.get(participant).map(|intent| Word(Arc::clone(intent), 0))
    }

    fn ring_words(&self) -> RingWords<Heap> {
        let (slots, marks) = (Words(Arc::clone(&self.cells)), Words(Arc::clone(&self.marks)));
        RingWords {
            tail: self.word(TAIL),
            head: self.word(HEAD),
            slots,
            marks,
            capacity: self.capacity,
            stride: STRIDE,
        }
    }

    fn ring(&self, participant: usize) -> Ring<Heap> {
        Ring::new(
            self.ring_words(),
            self.ring_words().load_tail().run(),
            self.intent(participant).expect("a participant"),
            1,
        )
    }

    /// Repairs for the participants from `DEPTH` on, which are dead, in groups as a queue does.
    /// Returns whether it is complete.
    fn repair(&self) -> Result<bool, Corrupt> {
        let log = RepairLog {
            lost: self.word(LOST),
            pending_position: self.word(PENDING_POSITION),
            pending_lost: self.word(PENDING_LOST),
        };
        let words = self.ring_words();
        let (intents, is_alive) = (|participant| self.intent(participant), |participant| Some(participant < DEPTH));
        let repair = Repair { words: &words, log: &log, intents: &intents, is_alive: &is_alive, spend: &|_| true };
        repair.resume()?;
        let dead: Vec<usize> = (DEPTH..DEPTH + DEAD).collect();
        let (mut rest, mut is_complete) = (dead.as_slice(), true);
        while !rest.is_empty() {
            let (group, later) = rest.split_at(repair.group_len(rest));
            let is_released = repair.release_dead(group, |payload| assert_eq!(payload.len(), STRIDE - 1));
            is_complete &= is_released.into_iter().all(|is_released| is_released);
            rest = later;
        }
        Ok(is_complete)
    }

    /// Claims the position at `index` for a dead participant, if its slot is in `state`.
    fn die_at(&self, index: usize, state: u64) -> bool {
        let position = self.word(index).load(Relaxed);
        let slot = DATA + (position % self.capacity) as usize * STRIDE;
        let mark = self.marks.load(DATA + (position % self.capacity) as usize);
        // A slot in quarantine is not to be claimed, whatever its control word says.
        let is_quarantined = matches!(mark & 3, 1 | 2);
        let without_intent = (DEPTH..DEPTH + DEAD).find(|participant| self.intents[*participant].load(0) == 0);
        let is_claimable = !is_quarantined && self.cells.load(slot) == position << 2 | state;
        let (Some(participant), true) = (without_intent, is_claimable) else {
            return false;
        };
        self.intents[participant].store(0, (position + 1) << 6 | 1);
        self.cells.store(index, position + 1);
        true
    }
}

fn read(payload: &[AtomicU64]) -> u64 {
    assert_eq!(payload.len(), STRIDE - 1);
    let number = payload[0].load(Relaxed);
    assert_eq!(payload[1].load(Relaxed), !number, "torn");
    number
}

impl Expected {
    fn sent(&mut self, number: u64) {
        self.pending[(number % DEPTH as u64) as usize].push_back(number);
    }

    fn received(&mut self, number: u64) {
        let front = self.pending[(number % DEPTH as u64) as usize].pop_front();
        assert_eq!(front, Some(number), "out of order, twice, or never sent");
    }

    fn len(&self) -> u64 {
        self.pending.iter().map(|queue| queue.len() as u64).sum()
    }
}

/// Drives a ring with correct participants that are slow or die in the middle of an operation, or
/// with any words at all.
pub fn mpmc_ring(data: &[u8]) {
    assert_in_time(|| drive(data));
}

fn drive(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let heap = HeapRing::new(2 << (setup >> 1 & 3));
    if setup & 1 == 0 {
        drive_correct(&heap, &mut input);
    } else {
        for index in 0..usize::from(input.byte()).min(heap.cells.words.len()) {
            heap.cells.store(index, input.word());
        }
        while !input.is_empty() {
            hostile_step(&heap, &mut input, 0);
        }
    }
}

fn drive_correct(heap: &HeapRing, input: &mut Input) {
    let mut expected = Expected::default();
    while !input.is_empty() {
        correct_step(heap, &mut expected, input, 0);
    }
    assert_eq!(heap.repair(), Ok(true), "repair is complete");
    assert_eq!(heap.ring_words().quarantined(), 0, "a slot is missing");
    let mut shown = 0;
    heap.ring_words().for_each_message(|_| shown += 1).expect("valid words");
    assert_eq!(shown, expected.len());
    let mut ring = heap.ring(0);
    while expected.len() > 0 {
        assert_eq!(ring.pop(|payload| expected.received(read(payload))), Ok(Pop::Done(1)));
    }
    assert_eq!(ring.pop(|_| ()), Ok(if expected.closed { Pop::Drained } else { Pop::Empty }));
    assert_eq!(heap.word(LOST).load(Relaxed), expected.lost);
    assert_eq!(heap.ring_words().len(), 0);
    for _ in 0..if expected.closed { 0 } else { heap.capacity } {
        assert_eq!(ring.push(|_| ()), Ok(Push::Done(1)), "every slot is usable again");
    }
}

fn correct_step(heap: &HeapRing, expected: &mut Expected, input: &mut Input, depth: usize) {
    let Some(op) = input.next_op() else { return };
    // The number of operations that others do in the middle of this one.
    let nested = if depth + 1 < DEPTH { op >> 6 } else { 0 };
    expected.was_slow |= nested > 0;
    let mut ring = heap.ring(depth);
    let run = expected.run;
    match op % 8 {
        0..=2 => {
            let count = if op % 8 == 2 { u64::from(input.byte()) % 6 + 1 } else { 1 };
            let mut pause = nested;
            let base = expected.next_number;
            expected.next_number += count;
            let outcome = ring.push_many(count, |index, payload| {
                let number = (base + index) * DEPTH as u64 + depth as u64;
                payload[0].store(number, Relaxed);
                payload[1].store(!number, Relaxed);
                expected.open += count.min(MAX_BATCH);
                (0..std::mem::take(&mut pause)).for_each(|_| correct_step(heap, expected, input, depth + 1));
                expected.open -= count.min(MAX_BATCH);
            });
            match outcome.expect("valid words") {
                Push::Done(sent) => {
                    assert!(sent >= 1 && sent <= count && !(expected.closed && nested == 0));
                    (0..sent).for_each(|index| expected.sent((base + index) * DEPTH as u64 + depth as u64));
                }
                // A quarantined slot is free again on a later lap, so this is exact only if there
                // was none.
                Push::Full if expected.was_slow => assert!(expected.len() + expected.open > 0, "full of nothing"),
                Push::Full => {
                    assert_eq!(heap.ring_words().len(), heap.capacity, "full too early");
                }
                Push::Closed => assert!(expected.closed || expected.run != run),
            }
        }
        3..=5 => {
            let count = if op % 8 == 5 { u64::from(input.byte()) % 6 + 1 } else { 1 };
            let mut pause = nested;
            let before = expected.len();
            let mut got = 0;
            let outcome = ring.pop_many(count, |_, payload| {
                let number = read(payload);
                // A batch is claimed as a whole, so what others receive meanwhile is later in each
                // sender's order.
                expected.received(number);
                got += 1;
                if count == 1 {
                    expected.open += 1;
                    (0..std::mem::take(&mut pause)).for_each(|_| correct_step(heap, expected, input, depth + 1));
                    expected.open -= 1;
                    assert_eq!(read(payload), number, "overwritten while it was read");
                }
            });
            match outcome.expect("valid words") {
                Pop::Done(count) => assert_eq!(count, got),
                Pop::Empty => assert_eq!(before, 0, "empty with messages in it"),
                Pop::Drained => assert!(before == 0 && expected.closed),
            }
        }
        6 => match input.byte() % 4 {
            0 if heap.die_at(TAIL, 0) => {
                expected.open += 1;
                expected.was_slow = true;
            }
            1 if expected.len() > 0 && heap.die_at(HEAD, 1) => {
                let position = heap.word(HEAD).load(Relaxed) - 1;
                let slot = DATA + (position % heap.capacity) as usize * STRIDE;
                expected.received(heap.cells.load(slot + 1));
                expected.open += 1;
                expected.lost += 1;
                expected.was_slow = true;
            }
            2 if heap.repair().expect("valid words") && depth == 0 => expected.open = 0,
            _ => assert!(heap.ring_words().probe_ready() <= (expected.len() > 0)),
        },
        _ => match input.byte() {
            7 => {
                assert_eq!(heap.ring_words().close(None).map(|end| end.is_some()), Ok(!expected.closed));
                expected.closed = true;
            }
            8 => {
                let joined = heap
                    .ring_words()
                    .join(|last| Some((last + 1) % RUNS), |_, is_new| assert_eq!(is_new, expected.closed));
                expected.run = (expected.run + u64::from(expected.closed)) % RUNS;
                expected.closed = false;
                assert_eq!(joined, Ok(Some(expected.run)));
            }
            9 => {
                let other = heap.ring_words().close(Some(expected.run + 1));
                assert_eq!(other, Ok(None), "of another run");
            }
            _ => assert_eq!(heap.ring_words().is_closed(), expected.closed),
        },
    }
}

fn hostile_step(heap: &HeapRing, input: &mut Input, depth: usize) {
    let Some(op) = input.next_op() else { return };
    let mut nested = if depth + 1 < DEPTH { op >> 6 } else { 0 };
    let mut ring = heap.ring(depth);
    let count = u64::from(op >> 4 & 3) * 21 + 1;
    let mut act = |input: &mut Input, payload: &[AtomicU64]| {
        assert_eq!(payload.len(), STRIDE - 1, "outside of its slot");
        (0..std::mem::take(&mut nested)).for_each(|_| hostile_step(heap, input, depth + 1));
    };
    match op % 8 {
        0 => drop(ring.push(|payload| act(input, payload))),
        1 => match ring.push_many(count, |_, payload| act(input, payload)) {
            Ok(Push::Done(sent)) => assert!(sent >= 1 && sent <= count),
            _ => drop(heap.ring_words().probe_ready()),
        },
        2 => drop(ring.pop(|payload| act(input, payload))),
        3 => match ring.pop_many(count, |_, payload| act(input, payload)) {
            Ok(Pop::Done(got)) => assert!(got >= 1 && got <= count),
            _ => drop(ring.words().is_closed()),
        },
        4 => {
            let words = heap.ring_words();
            let _ = (heap.repair(), words.close(None), words.drain(), words.join(|last| Some(last + 1), |_, _| {}));
        }
        5 => assert!(heap.ring_words().len() <= heap.capacity && heap.ring_words().quarantined() <= heap.capacity),
        6 => {
            let participant = usize::from(input.byte()) % heap.intents.len();
            let intent = input.word();
            // Of one participant, or of all that are dead.
            let participants = if op & 0x80 == 0 { participant..participant + 1 } else { DEPTH..DEPTH + DEAD };
            participants.for_each(|participant| heap.intents[participant].store(0, intent));
        }
        _ => {
            let index = usize::from(input.byte()) % (heap.cells.words.len() + heap.marks.words.len());
            let (cells, index) = match index.checked_sub(heap.cells.words.len()) {
                Some(index) => (&heap.marks, index),
                None => (&heap.cells, index),
            };
            let value = input.invalid_value(cells.load(index));
            let delay = input.byte() % 16;
            cells.plan_store(delay, index, value);
        }
    }
}
