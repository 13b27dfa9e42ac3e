//! The algorithms of a namespace's objects on the heap, where words change between any two
//! accesses. Only bounds and an end are promised.

use std::sync::Arc;

use super::heap::{Cells, DATA, Heap, Word, Words};
use super::input::Input;
use crate::primitive::AtomicU64;
use crate::raw::barrier::{Arrival, Barrier};
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::reader_counts::ReaderCounts;
use crate::raw::robust_lock::{History, RobustLock};
use crate::raw::semaphore::Semaphore;
use crate::raw::seqlock::{CONTROL, SeqLockView};

const PARTIES: u64 = 3;
const BLOCKS: u64 = 4;
/// Words for the arrivals of participants at the barrier.
const ARRIVALS: usize = 6;
/// Words with counts of readers.
const READER_WORDS: usize = 2;
const STRIDE: usize = 3;

pub(super) fn drive(input: &mut Input) {
    let setup = input.byte();
    let count = 1 << (setup & 3);
    let lengths = [0, READER_WORDS, ARRIVALS, BLOCKS as usize, CONTROL + count * STRIDE];
    let groups = lengths.map(|length| Cells::new(DATA + length));
    let word = |index| Word(Arc::clone(&groups[0]), index);
    let words = |group: usize| Words(Arc::clone(&groups[group]));
    for _ in 0..setup >> 2 {
        let group = usize::from(input.byte()) % groups.len();
        let index = usize::from(input.byte()) % groups[group].words.len();
        groups[group].store(index, input.word());
    }
    let (lock, permits) = (RobustLock::<Heap>::new(word(0)), Semaphore::<Heap>::new(word(1)));
    let barrier = Barrier::<Heap>::new(word(2), words(2), PARTIES);
    let (readers, pool) = (ReaderCounts::<Heap>::new(words(1)), Pool::<Heap>::new(words(3)));
    let seqlock = words(4);
    let (control, buffers) = seqlock.split_at(CONTROL);
    let seqlock = SeqLockView::view(control, buffers, STRIDE, count as u64).expect("control words");
    let mut block = None;
    let mut generation = 0;
    while let Some(op) = input.next_op() {
        let participant = usize::from(op >> 4);
        match op % 16 {
            0 => drop(lock.try_lock(participant)),
            1 => drop(lock.unlock(participant, History { died: op & 0x40 != 0, poisoned: op & 0x80 != 0 })),
            2 => drop((lock.release_dead(participant), lock.owner(), lock.history(), lock.is_pristine())),
            3 => drop(readers.try_enter(participant * 10, &lock)),
            4 => drop((readers.count_out(participant * 10), readers.is_empty())),
            5 => assert!(readers.participants().all(|participant| participant < READER_WORDS * 64)),
            6 => drop((permits.try_acquire(input.short()), permits.available())),
            7 => drop(permits.release(input.word())),
            8 => match barrier.arrive(participant) {
                Ok(Arrival::Waiting { generation: arrived, index }) => {
                    assert!(index < PARTIES - 1, "number {index} of {PARTIES}");
                    generation = arrived;
                }
                outcome => {
                    let is_released = matches!(outcome, Ok(Arrival::Released));
                    assert!(participant < ARRIVALS || !is_released, "it has no arrival word");
                }
            },
            9 => drop((barrier.outcome(generation), barrier.abort(Some(generation), input.short()))),
            10 => drop((barrier.abort(None, participant as u64), barrier.release_dead(participant, input.short()))),
            11 => {
                barrier.reset();
                assert!(barrier.participants().all(|participant| participant < ARRIVALS));
            }
            12 => {
                block = pool.allocate(participant, 0, BLOCKS, input.word());
                assert!(block.is_none_or(|block| block.block < BLOCKS));
            }
            13 => {
                block.map(|block| pool.free(block));
                let free = |block: BlockRef| {
                    assert!(block.block < BLOCKS);
                    pool.free(block);
                };
                pool.free_unsent(participant, |_| {}, free);
                assert!(pool.allocated() <= BLOCKS);
            }
            14 => {
                let copy = |words: &[AtomicU64]| {
                    assert_eq!(words.len(), STRIDE);
                    groups[4].accessed();
                };
                match op & 0x10 {
                    0 => drop(seqlock.read(copy, |_| groups[4].accessed())),
                    _ => drop(seqlock.write(copy)),
                }
            }
            _ => {
                let group = &groups[participant % groups.len()];
                let index = usize::from(input.byte()) % group.words.len();
                let value = match input.byte() % 4 {
                    0 => u64::from(input.byte()) | u64::from(input.byte()) << 16,
                    1 => input.short() | u64::from(input.byte()) << 35 | u64::from(input.byte()) << 43,
                    _ => input.invalid_value(group.load(index)),
                };
                let delay = input.byte() % 8;
                group.plan_store(delay, index, value);
            }
        }
    }
}
