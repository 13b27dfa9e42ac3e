//! The algorithms of a namespace's objects by themselves, on the heap, where words change between any two accesses. Only bounds and
//! an end are promised.

use super::*;
use crate::raw::barrier::{Arrival, Barrier};
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::reader_counts::ReaderCounts;
use crate::raw::robust_lock::{History, RobustLock};
use crate::raw::semaphore::Semaphore;
use crate::raw::seqlock::{CONTROL, SeqLock};

const PARTIES: u64 = 3;
const PLACES: u64 = 4;
const MARKS: usize = 6;
const READERS: usize = 2;
const STRIDE: usize = 3;

pub(super) fn drive(input: &mut Input) {
    let setup = input.byte();
    let count = 1 << (setup & 3);
    let lengths = [0, READERS, MARKS, PLACES as usize, CONTROL + count * STRIDE];
    let groups = lengths.map(|length| mpmc::cells(DATA + length));
    let word = |index| Word(Arc::clone(&groups[0]), index);
    let words = |group: usize| Words(Arc::clone(&groups[group]));
    for _ in 0..setup >> 2 {
        let group = usize::from(input.byte()) % groups.len();
        let index = usize::from(input.byte()) % groups[group].words.len();
        groups[group].words[index].store(input.word(), Relaxed);
    }
    let (lock, permits) = (RobustLock::<Heap>::new(word(0)), Semaphore::<Heap>::new(word(1)));
    let barrier = Barrier::<Heap>::new(word(2), words(2), PARTIES);
    let (readers, pool) = (ReaderCounts::<Heap>::new(words(1)), Pool::<Heap>::new(words(3)));
    let cells = words(4);
    let (control, buffers) = cells.split_at(CONTROL);
    let cell = SeqLock::new(control, buffers, STRIDE, count as u64).expect("control words");
    let mut token = None;
    let mut generation = 0;
    while let Some(op) = input.op() {
        let lane = usize::from(op >> 4);
        match op % 16 {
            0 => drop(lock.try_lock(lane)),
            1 => drop(lock.unlock(lane, History { died: op & 0x40 != 0, poisoned: op & 0x80 != 0 })),
            2 => drop((lock.release_dead(lane), lock.owner(), lock.history(), lock.is_pristine())),
            3 => drop(readers.try_enter(lane * 10, &lock)),
            4 => drop((readers.count_out(lane * 10), readers.is_empty())),
            5 => assert!(readers.participants().all(|lane| lane < READERS * 64)),
            6 => drop((permits.try_acquire(input.short()), permits.available())),
            7 => drop(permits.release(input.word())),
            8 => match barrier.arrive(lane) {
                Ok(Arrival::Waiting { generation: came, index }) => {
                    assert!(index < PARTIES - 1, "number {index} of {PARTIES}");
                    generation = came;
                }
                met => assert!(lane < MARKS || !matches!(met, Ok(Arrival::Released)), "without a mark"),
            },
            9 => drop((barrier.outcome(generation), barrier.abort(Some(generation), input.short()))),
            10 => drop((barrier.abort(None, lane as u64), barrier.release_dead(lane, input.short()))),
            11 => {
                barrier.reset();
                assert!(barrier.participants().all(|lane| lane < MARKS));
            }
            12 => token = pool.allocate(lane, 0, PLACES, input.word()).inspect(|token| assert!(token.block < PLACES)),
            13 => {
                token.map(|token| pool.free(token));
                let give_back = |token: BlockRef| {
                    assert!(token.block < PLACES);
                    pool.free(token);
                };
                pool.free_unsent(lane, |_| {}, give_back);
                assert!(pool.allocated() <= PLACES);
            }
            14 => {
                let copy = |words: &[AtomicU64]| {
                    assert_eq!(words.len(), STRIDE);
                    groups[4].accessed();
                };
                match op & 0x10 {
                    0 => drop(cell.read(copy, |_| groups[4].accessed())),
                    _ => drop(cell.write(copy)),
                }
            }
            _ => {
                let group = &groups[lane % groups.len()];
                let index = usize::from(input.byte()) % group.words.len();
                let value = match input.byte() % 4 {
                    0 => u64::from(input.byte()) | u64::from(input.byte()) << 16,
                    1 => input.short() | u64::from(input.byte()) << 35 | u64::from(input.byte()) << 43,
                    _ => input.lie(group.words[index].load(Relaxed)),
                };
                let delay = input.byte() % 8;
                *group.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Planned { delay, index, value });
            }
        }
    }
}
