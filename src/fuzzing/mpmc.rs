//! The ring for many (`raw/mpmc.rs`) on the heap. A participant is slow by doing its next operations, as another, in the middle
//! of the one it is at.

use super::*;
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::raw::mpmc::tail::RUNS;
use crate::raw::mpmc::{MAX_BATCH, Pop, Push, Ring, RingWords};

const LOST: usize = 2;
const PENDING_POSITION: usize = 3;
const PENDING_LOST: usize = 4;
/// Of the dead; with those of the living there are 64.
const LANES: usize = 64 - DEPTH;
/// How deep one operation is within another: each depth is a participant.
const DEPTH: usize = 3;
/// Control word, number and check.
const STRIDE: usize = 3;

struct Many {
    cells: Arc<Cells>,
    /// From [`DATA`] on.
    marks: Arc<Cells>,
    intents: Vec<Arc<Cells>>,
    capacity: u64,
}

/// What an honest ring must hold.
#[derive(Default)]
struct Books {
    /// Sent and not received, by participant.
    pending: [VecDeque<u64>; DEPTH],
    next: u64,
    /// Claims that are open right now, by the slow and by the dead.
    open: u64,
    run: u64,
    closed: bool,
    lost: u64,
    /// Whether anybody was slow or died so far.
    was_slow: bool,
}

pub(super) fn cells(words: usize) -> Arc<Cells> {
    let words = (0..words).map(|_| AtomicU64::new(0)).collect();
    Arc::new(Cells { words, planned: Mutex::new(None) })
}

impl Many {
    fn new(capacity: u64) -> Self {
        let intents = (0..LANES + DEPTH).map(|_| cells(1)).collect();
        // Without asymmetric fences nobody passes over anybody.
        crate::sys::membarrier::register();
        let (slots, marks) = (DATA + capacity as usize * STRIDE, DATA + capacity as usize);
        let many = Self { cells: cells(slots), marks: cells(marks), intents, capacity };
        many.shape().format();
        many
    }

    fn word(&self, index: usize) -> Word {
        Word(Arc::clone(&self.cells), index)
    }

    fn intent(&self, lane: usize) -> Option<Word> {
        self.intents.get(lane).map(|intent| Word(Arc::clone(intent), 0))
    }

    fn shape(&self) -> RingWords<Heap> {
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

    fn ring(&self, lane: usize) -> Ring<Heap> {
        Ring::new(self.shape(), self.shape().load_tail().run(), self.intent(lane).expect("a lane"), 1)
    }

    /// The lanes from `DEPTH` on are those of the dead. True: nothing was put off.
    fn repair(&self) -> Result<bool, Corrupt> {
        let log = RepairLog {
            lost: self.word(LOST),
            pending_position: self.word(PENDING_POSITION),
            pending_lost: self.word(PENDING_LOST),
        };
        let shape = self.shape();
        let (intents, is_alive) = (|lane| self.intent(lane), |lane| Some(lane < DEPTH));
        let repair = Repair { words: &shape, log: &log, intents: &intents, is_alive: &is_alive, spend: &|_| true };
        repair.resume()?;
        let dead: Vec<usize> = (DEPTH..DEPTH + LANES).collect();
        let whole = repair.release_dead(&dead, |payload| assert_eq!(payload.len(), STRIDE - 1));
        Ok(whole.into_iter().all(|whole| whole))
    }

    /// Claims the position of an index for a dead lane, if its slot is in `state`.
    fn die_at(&self, index: usize, state: u64) -> bool {
        let position = self.word(index).load(Relaxed);
        let slot = DATA + (position % self.capacity) as usize * STRIDE;
        let mark = self.marks.words[DATA + (position % self.capacity) as usize].load(Relaxed);
        // A slot that is passed over is not to be claimed, whatever it says.
        let is_out = matches!(mark & 3, 1 | 2);
        let free_lane = (DEPTH..DEPTH + LANES).find(|lane| self.intents[*lane].words[0].load(Relaxed) == 0);
        let is_claimable = !is_out && self.cells.words[slot].load(Relaxed) == position << 2 | state;
        let (Some(lane), true) = (free_lane, is_claimable) else {
            return false;
        };
        self.intents[lane].words[0].store((position + 1) << 6 | 1, Relaxed);
        self.cells.words[index].store(position + 1, Relaxed);
        true
    }
}

fn read(payload: &[AtomicU64]) -> u64 {
    assert_eq!(payload.len(), STRIDE - 1);
    let number = payload[0].load(Relaxed);
    assert_eq!(payload[1].load(Relaxed), !number, "torn");
    number
}

impl Books {
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

/// A ring for many: honest participants who are slow or die in the middle, or any words at all.
pub fn mpmc_ring(data: &[u8]) {
    in_time(|| drive(data));
}

fn drive(data: &[u8]) {
    let mut input = Input(data);
    let setup = input.byte();
    let many = Many::new(2 << (setup >> 1 & 3));
    if setup & 1 == 0 {
        honest(&many, &mut input);
    } else {
        for index in 0..usize::from(input.byte()).min(many.cells.words.len()) {
            many.cells.words[index].store(input.word(), Relaxed);
        }
        while !input.0.is_empty() {
            hostile_step(&many, &mut input, 0);
        }
    }
}

fn honest(many: &Many, input: &mut Input) {
    let mut books = Books::default();
    while !input.0.is_empty() {
        honest_step(many, &mut books, input, 0);
    }
    assert_eq!(many.repair(), Ok(true), "nobody is in the way");
    assert_eq!(many.shape().quarantined(), 0, "a slot is missing");
    let mut shown = 0;
    many.shape().for_each_message(|_| shown += 1).expect("honest");
    assert_eq!(shown, books.len());
    let mut ring = many.ring(0);
    while books.len() > 0 {
        assert_eq!(ring.pop(|payload| books.received(read(payload))), Ok(Pop::Done(1)));
    }
    assert_eq!(ring.pop(|_| ()), Ok(if books.closed { Pop::Drained } else { Pop::Empty }));
    assert_eq!(many.word(LOST).load(Relaxed), books.lost);
    assert_eq!(many.shape().len(), 0);
    for _ in 0..if books.closed { 0 } else { many.capacity } {
        assert_eq!(ring.push(|_| ()), Ok(Push::Done(1)), "every slot serves again");
    }
}

fn honest_step(many: &Many, books: &mut Books, input: &mut Input, depth: usize) {
    let Some(op) = input.op() else { return };
    // How many operations others get done meanwhile.
    let meanwhile = if depth + 1 < DEPTH { op >> 6 } else { 0 };
    books.was_slow |= meanwhile > 0;
    let mut ring = many.ring(depth);
    let run = books.run;
    match op % 8 {
        0..=2 => {
            let count = if op % 8 == 2 { u64::from(input.byte()) % 6 + 1 } else { 1 };
            let mut pause = meanwhile;
            let base = books.next;
            books.next += count;
            let outcome = ring.push_many(count, |index, payload| {
                let number = (base + index) * DEPTH as u64 + depth as u64;
                payload[0].store(number, Relaxed);
                payload[1].store(!number, Relaxed);
                books.open += count.min(MAX_BATCH);
                (0..std::mem::take(&mut pause)).for_each(|_| honest_step(many, books, input, depth + 1));
                books.open -= count.min(MAX_BATCH);
            });
            match outcome.expect("honest") {
                Push::Done(sent) => {
                    assert!(sent >= 1 && sent <= count && !(books.closed && meanwhile == 0));
                    (0..sent).for_each(|index| books.sent((base + index) * DEPTH as u64 + depth as u64));
                }
                // A slot that was passed over serves again when its turn comes, so only without such is this exact.
                Push::Full if books.was_slow => assert!(books.len() + books.open > 0, "full of nothing"),
                Push::Full => {
                    assert_eq!(many.shape().len(), many.capacity, "full before its time");
                }
                Push::Closed => assert!(books.closed || books.run != run),
            }
        }
        3..=5 => {
            let count = if op % 8 == 5 { u64::from(input.byte()) % 6 + 1 } else { 1 };
            let mut pause = meanwhile;
            let before = books.len();
            let mut got = 0;
            let outcome = ring.pop_many(count, |_, payload| {
                let number = read(payload);
                // A batch is claimed as a whole: what others receive meanwhile comes after it, of each sender.
                books.received(number);
                got += 1;
                if count == 1 {
                    books.open += 1;
                    (0..std::mem::take(&mut pause)).for_each(|_| honest_step(many, books, input, depth + 1));
                    books.open -= 1;
                    assert_eq!(read(payload), number, "overwritten in a reader's hands");
                }
            });
            match outcome.expect("honest") {
                Pop::Done(count) => assert_eq!(count, got),
                Pop::Empty => assert_eq!(before, 0, "empty with messages in it"),
                Pop::Drained => assert!(before == 0 && books.closed),
            }
        }
        6 => match input.byte() % 4 {
            0 if many.die_at(TAIL, 0) => {
                books.open += 1;
                books.was_slow = true;
            }
            1 if books.len() > 0 && many.die_at(HEAD, 1) => {
                let position = many.word(HEAD).load(Relaxed) - 1;
                let slot = DATA + (position % many.capacity) as usize * STRIDE;
                books.received(many.cells.words[slot + 1].load(Relaxed));
                books.open += 1;
                books.lost += 1;
                books.was_slow = true;
            }
            2 if many.repair().expect("honest") && depth == 0 => books.open = 0,
            _ => assert!(many.shape().probe_ready() <= (books.len() > 0)),
        },
        _ => match input.byte() {
            7 => {
                assert_eq!(many.shape().close(None).map(|end| end.is_some()), Ok(!books.closed));
                books.closed = true;
            }
            8 => {
                let joined =
                    many.shape().join(|last| Some((last + 1) % RUNS), |_, is_new| assert_eq!(is_new, books.closed));
                books.run = (books.run + u64::from(books.closed)) % RUNS;
                books.closed = false;
                assert_eq!(joined, Ok(Some(books.run)));
            }
            9 => {
                let other = many.shape().close(Some(books.run + 1));
                assert_eq!(other, Ok(None), "the run of others");
            }
            _ => assert_eq!(many.shape().is_closed(), books.closed),
        },
    }
}

fn hostile_step(many: &Many, input: &mut Input, depth: usize) {
    let Some(op) = input.op() else { return };
    let mut meanwhile = if depth + 1 < DEPTH { op >> 6 } else { 0 };
    let mut ring = many.ring(depth);
    let count = u64::from(op >> 4 & 3) * 21 + 1;
    let mut act = |input: &mut Input, payload: &[AtomicU64]| {
        assert_eq!(payload.len(), STRIDE - 1, "outside of its slot");
        (0..std::mem::take(&mut meanwhile)).for_each(|_| hostile_step(many, input, depth + 1));
    };
    match op % 8 {
        0 => drop(ring.push(|payload| act(input, payload))),
        1 => match ring.push_many(count, |_, payload| act(input, payload)) {
            Ok(Push::Done(sent)) => assert!(sent >= 1 && sent <= count),
            _ => drop(many.shape().probe_ready()),
        },
        2 => drop(ring.pop(|payload| act(input, payload))),
        3 => match ring.pop_many(count, |_, payload| act(input, payload)) {
            Ok(Pop::Done(got)) => assert!(got >= 1 && got <= count),
            _ => drop(ring.words().is_closed()),
        },
        4 => {
            let shape = many.shape();
            let _ = (many.repair(), shape.close(None), shape.drain(), shape.join(|last| Some(last + 1), |_, _| {}));
        }
        5 => assert!(many.shape().len() <= many.capacity && many.shape().quarantined() <= many.capacity),
        6 => {
            let lane = usize::from(input.byte()) % many.intents.len();
            let intent = input.word();
            // One lane's, or those of all who are dead.
            let lanes = if op & 0x80 == 0 { lane..lane + 1 } else { DEPTH..DEPTH + LANES };
            lanes.for_each(|lane| many.intents[lane].words[0].store(intent, Relaxed));
        }
        _ => {
            let index = usize::from(input.byte()) % (many.cells.words.len() + many.marks.words.len());
            let (cells, index) = match index.checked_sub(many.cells.words.len()) {
                Some(index) => (&many.marks, index),
                None => (&many.cells, index),
            };
            let value = input.lie(cells.words[index].load(Relaxed));
            let delay = input.byte() % 16;
            *cells.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Planned { delay, index, value });
        }
    }
}
