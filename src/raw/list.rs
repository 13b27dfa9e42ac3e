//! What: a list that any number of processes read and change. Nobody waits for anybody: a reader
//! stores nothing and tries again if the list changed, a writer commits by one CAS. A block that
//! has been linked is never written again until it is free.
//!
//! Bytes: one root word, the blocks of directories and chunks, one owner word for each block
//! (`pool.rs`), whose participant is here the writer, and one record for each writer: a thread that
//! may change the list.
//!
//! ```text
//!  root       63                16 15 14         0
//!            ┌────────────────────┬──┬────────────┐
//!            │ generation         │0 │ directory  │   its block + 1. 0: the list is empty
//!            └────────────────────┴──┴────────────┘
//!
//!             0                         1                  2
//!  directory │ length: 40, chunks: 24  │ end: 40, chunk  │ end: 40, chunk  │ ...
//!             end: elements up to the end of this chunk. chunk: its number
//!
//!  chunk     │ element │ element │ ...   each begins at a word; at least one
//!
//!             0        1        2            3
//!  record    │ intent │ blocks │ references │ block ... │ block, owner word ... │
//!             intent: 0, or the root to commit. Bit 15: it was committed
//!             blocks: that the change allocates. references: to what it replaces
//! ```
//!
//! ```text
//!  root ──► [ 3 6 9 ]──► abc  def  ghi        e is replaced by x: one CAS of the root,
//!  root ──► [ 3 6 9 ]──► abc  dxf  ghi        then the old directory and def are freed
//! ```
//!
//! Invariants
//! - I1: the root never has the same value twice: each commit begins a new generation. They come
//!   again after 2^48 commits.
//! - I2: what the root reaches is allocated, whole and unchanged as long as the root has this
//!   value. A writer changes a block only while it has allocated it and not linked it.
//! - I3: a block that is allocated is linked, or named by one record. Which of the two is known
//!   from two words: the change of a record is committed if its intent is the root, or is marked.
//! - I4: a writer marks the intent of the root that it is about to replace, if the one that has
//!   committed that root still has it in its record.
//! - I5: what a change allocates is in the record before, and what it replaces before its intent.
//!   An intent that was not committed is cleared before any of its blocks is free: until then
//!   nobody else can commit a root with that directory.
//! - I6: a block has a writer's number only if this writer has allocated it. So if a record names a
//!   block that is this writer's, the change has allocated it.
//! - I7: two chunks that are neighbours have more elements than fit into one.
//!
//! Edges
//! - E1: `splice`: blocks, then CAS root, AcqRel · `consistent`: load root, then fence Acquire.
//!   What the root reaches is whole. Other commits continue the release sequence, so that this
//!   holds for chunks that earlier ones have linked, too. A writer sees the intent that it is to
//!   mark.
//! - E2: `splice`: CAS root, free (`pool.rs` E1), allocate, fence Release, block · `consistent`:
//!   block, fence Acquire, load root, as a `splice` that fails does. One that sees anything of a
//!   block's next use sees that the root has changed.
//! - E3: `splice`: CAS root, AcqRel · the next `splice`: CAS root, AcqRel. What a writer has copied
//!   comes before the next use of the blocks that it was copied from.
//! - E4: `announce`: block and number of blocks, fence Release, CAS owner word · `repair`, after
//!   the death of the writer. What it has allocated is in the record. The fence comes after the
//!   last intent was cleared.
//! - E5: `splice`: references and intent, then CAS root, AcqRel; `settle`: what was freed, then
//!   number of blocks 0, then intent 0, Release · `repair`, after the death of the writer. A change
//!   that is committed has both, and its blocks are not in the record any more without the intent.
//! - E6: `mark`, then CAS root, AcqRel · `repair`: load root, fence Acquire, load intent. One
//!   that finds another root sees that the dead writer's was committed.
//!
//! Crash
//! - (L1) writer, before the CAS: nothing has changed. Repair frees the blocks that the record
//!   names and that are this writer's.
//! - (L2) writer, after the CAS: the change is made. Repair frees what the references name.
//! - (L3) repairer: what it has freed is free. The next one comes to the same decision, frees the
//!   rest, and fails where a block is free or used again.
//! - (L4) writer, after it has marked the intent of another one: that one was committed, whatever
//!   becomes of the writer.
//! - reader: nothing.
//! - A stopped writer keeps the blocks that its record names, and nothing else.
//!
//! Source: our own. Trees whose nodes are copied are Driscoll, Sarnak, Sleator and Tarjan's
//! (Making data structures persistent, 1989), the generation beside the reference is IBM's
//! (System/370 Principles of Operation), the second look at the root is a seqlock's (Boehm, MSPC
//! 2012).

use std::ops::Range;

use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::{Corrupt, Memory};

/// The most elements of a list.
pub(crate) const MAX_LENGTH: u64 = (1 << LENGTH_BITS) - 1;
/// The most chunks of a list, with those that no directory names.
pub(crate) const MAX_CHUNKS: u64 = 1 << (u64::BITS - LENGTH_BITS);
/// The most writers.
pub(crate) const MAX_WRITERS: usize = DIRECTORY as usize - 2;

const LENGTH_BITS: u32 = 40;
const DIRECTORY: u64 = (1 << 15) - 1;
const COMMITTED: u64 = 1 << 15;
const GENERATION: u64 = 1 << 16;

/// Words of a record before its lists.
const RECORD_HEADER: usize = 3;
/// Chunks that the change of one element replaces, at most.
const FEW: usize = 3;

/// A reader that is overtaken this often gives up.
const MAX_ATTEMPTS: u32 = 1 << 14;
/// A free block can move past a search for one, if others allocate and free.
const SEARCHES: usize = 4;

/// A root word. It may be invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Root(u64);

impl Root {
    /// The block of its directory. None: the list is empty.
    fn directory(self) -> Option<u64> {
        (self.0 & DIRECTORY).checked_sub(1)
    }

    /// The root of the next generation.
    fn next(self, directory: u64) -> Self {
        Self((self.0 & !(GENERATION - 1)).wrapping_add(GENERATION) | (directory + 1) & DIRECTORY)
    }
}

/// A number of elements, and beside it a chunk or a number of chunks. It may be invalid.
#[derive(Clone, Copy)]
struct Entry(u64);

impl Entry {
    fn new(end: u64, chunk: u64) -> Self {
        Self(end & MAX_LENGTH | chunk << LENGTH_BITS)
    }

    fn load(word: &AtomicU64) -> Self {
        Self(word.load(Ordering::Relaxed)) // E1 before, E2 after
    }

    fn store(self, word: &AtomicU64) {
        word.store(self.0, Ordering::Relaxed); // E1 publishes it
    }

    fn end(self) -> u64 {
        self.0 & MAX_LENGTH
    }

    fn chunk(self) -> u64 {
        self.0 >> LENGTH_BITS
    }
}

/// What a list is like. All processes that use it have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Elements at most.
    pub(crate) capacity: u64,
    /// Words of an element, at least one.
    pub(crate) width: usize,
    /// Elements of a chunk at most.
    pub(crate) per_chunk: u64,
    /// Chunks that one change replaces or makes at most, at least three.
    pub(crate) per_change: usize,
    pub(crate) writers: usize,
}

impl Shape {
    /// The most chunks of a directory (I7).
    pub(crate) fn linked_chunks(&self) -> u64 {
        2 * self.capacity.div_ceil(self.per_chunk) + 1
    }

    fn directories(&self) -> u64 {
        self.writers as u64 + 1
    }

    /// The number of blocks: as many as a full list has, and as each writer needs for a change of
    /// one element.
    pub(crate) fn blocks(&self) -> u64 {
        self.directories() + self.linked_chunks() + (self.writers * FEW) as u64
    }

    fn directory_words(&self) -> usize {
        1 + self.linked_chunks() as usize
    }

    fn chunk_words(&self) -> usize {
        self.per_chunk as usize * self.width
    }

    /// Words of all blocks.
    pub(crate) fn block_words(&self) -> usize {
        let chunks = (self.blocks() - self.directories()) as usize;
        self.directories() as usize * self.directory_words() + chunks * self.chunk_words()
    }

    /// References of a record. The last one is to a directory.
    fn references(&self) -> usize {
        self.per_change + 1
    }

    /// Words of all records.
    pub(crate) fn record_words(&self) -> usize {
        self.writers * self.words_per_record()
    }

    fn words_per_record(&self) -> usize {
        RECORD_HEADER + self.references() * 3
    }

    /// How many chunks these elements need: at least one, in which neighbours are joined.
    fn chunks_for(&self, elements: u64) -> u64 {
        elements.div_ceil(self.per_chunk).max(1)
    }
}

/// The record of a writer.
struct Record<'a> {
    intent: &'a AtomicU64,
    blocks: &'a AtomicU64,
    references: &'a AtomicU64,
    /// Of the blocks.
    allocated: &'a [AtomicU64],
    /// Of the references, two for each.
    replaced: &'a [AtomicU64],
}

/// Why the list was not read, or is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no room for the elements, or no block for them.
    Full,
    /// The change replaces or makes too many chunks.
    TooLarge,
    /// The list changed during each of many attempts.
    Overtaken,
    Corrupt,
}

impl From<Corrupt> for Refused {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// One thread that writes. No other one has its number.
pub(crate) struct Writer {
    pub(crate) number: usize,
    /// A directory and a chunk that were free lately.
    pub(crate) recent: [u64; 2],
}

/// What a writer has seen.
pub(crate) struct Look {
    root: Root,
    /// The one that has committed this root.
    maker: Option<usize>,
}

/// The words of a list, all zero at first.
pub(crate) struct ListWords<M: Memory> {
    pub(crate) root: M::Word,
    pub(crate) owners: M::Words,
    pub(crate) blocks: M::Words,
    pub(crate) records: M::Words,
}

pub(crate) struct List<M: Memory> {
    root: M::Word,
    blocks: M::Words,
    records: M::Words,
    pool: Pool<M>,
    shape: Shape,
}

/// A list under one root. While it is not known whether the root has changed, it may be half of one
/// list and half of another.
pub(crate) struct View<'a, M: Memory> {
    list: &'a List<M>,
    root: Root,
    length: u64,
    chunks: &'a [AtomicU64],
}

/// What takes the place of some chunks.
struct Change {
    /// The chunks.
    replaced: Range<usize>,
    /// The elements of these chunks.
    old: Range<u64>,
    /// How many elements take their place.
    total: u64,
}

impl<'a, M: Memory> View<'a, M> {
    /// The number of elements.
    pub(crate) fn len(&self) -> u64 {
        self.length
    }

    /// Words of an element.
    pub(crate) fn width(&self) -> usize {
        self.list.shape.width
    }

    /// The number of blocks.
    pub(crate) fn blocks(&self) -> u64 {
        self.chunks.len() as u64 + u64::from(self.root.directory().is_some())
    }

    /// The elements before the chunk with this index.
    fn begin(&self, index: usize) -> u64 {
        index.checked_sub(1).and_then(|before| self.chunks.get(before)).map_or(0, |word| Entry::load(word).end())
    }

    /// The first chunk that does not end before this position.
    fn first_at(&self, position: u64) -> usize {
        self.chunks.partition_point(|word| Entry::load(word).end() <= position)
    }

    /// Visits the words of these elements in order, as many at a time as lie together.
    #[inline]
    pub(crate) fn visit(
        &self,
        elements: Range<u64>,
        mut visit: impl FnMut(&'a [AtomicU64]) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        let mut position = elements.start;
        let mut index = self.first_at(position);
        while position < elements.end {
            let entry = Entry::load(self.chunks.get(index).ok_or(Corrupt)?);
            let skipped = position.checked_sub(self.begin(index)).ok_or(Corrupt)?;
            let count =
                entry.end().min(elements.end).checked_sub(position).filter(|&count| count > 0).ok_or(Corrupt)?;
            let words = self.list.chunk(entry.chunk()).ok_or(Corrupt)?;
            let width = self.list.shape.width;
            let first = (skipped as usize).checked_mul(width).ok_or(Corrupt)?;
            let end =
                (count as usize).checked_mul(width).and_then(|length| first.checked_add(length)).ok_or(Corrupt)?;
            visit(words.get(first..end).ok_or(Corrupt)?)?;
            position += count;
            index += 1;
        }
        Ok(())
    }

    /// Decides which chunks a change replaces: those with the elements, and neighbours that fit in
    /// (I7). None: this is no list.
    fn plan(&self, elements: &Range<u64>, count: u64) -> Option<Change> {
        let shape = &self.list.shape;
        let first = self.first_at(elements.start);
        let begins_before = |word: &AtomicU64| Entry::load(word).end() < elements.end;
        let last = self.chunks.partition_point(begins_before) + usize::from(elements.end > self.begin(first));
        let mut replaced = first..last.max(first).min(self.chunks.len());
        let mut old = self.begin(replaced.start)..self.begin(replaced.end);
        let before = elements.start.checked_sub(old.start)?;
        let after = old.end.checked_sub(elements.end)?;
        let mut total = before.checked_add(count)?.checked_add(after)?;
        let fits_in = |total: u64, more: u64| shape.chunks_for(total.saturating_add(more)) == shape.chunks_for(total);
        if replaced.end < self.chunks.len() {
            let end = self.begin(replaced.end + 1);
            let size = end.checked_sub(old.end)?;
            if fits_in(total, size) {
                (replaced.end, old.end, total) = (replaced.end + 1, end, total + size);
            }
        }
        if let Some(left) = replaced.start.checked_sub(1) {
            let start = self.begin(left);
            let size = old.start.checked_sub(start)?;
            if fits_in(total, size) {
                (replaced.start, old.start, total) = (left, start, total + size);
            }
        }
        Some(Change { replaced, old, total })
    }
}

impl<M: Memory> List<M> {
    pub(crate) fn new(words: ListWords<M>, shape: Shape) -> Self {
        debug_assert!(shape.width > 0 && shape.per_chunk > 0 && shape.per_change >= FEW);
        debug_assert!(shape.writers <= MAX_WRITERS && shape.capacity <= MAX_LENGTH);
        debug_assert!(shape.blocks() - shape.directories() <= MAX_CHUNKS);
        Self { root: words.root, blocks: words.blocks, records: words.records, pool: Pool::new(words.owners), shape }
    }

    pub(crate) fn writer(&self, number: usize) -> Writer {
        Writer { number, recent: [0; 2] }
    }

    /// The number of blocks that are not free.
    pub(crate) fn allocated(&self) -> u64 {
        self.pool.allocated()
    }

    fn words(&self, start: usize, length: usize) -> Option<&[AtomicU64]> {
        self.blocks.get(start..start.checked_add(length)?)
    }

    fn directory(&self, number: u64) -> Option<&[AtomicU64]> {
        let length = self.shape.directory_words();
        let number = (number < self.shape.directories()).then_some(number as usize)?;
        self.words(number * length, length)
    }

    #[inline]
    fn chunk(&self, number: u64) -> Option<&[AtomicU64]> {
        let length = self.shape.chunk_words();
        let first = self.shape.directories() as usize * self.shape.directory_words();
        self.words(first.checked_add((number as usize).checked_mul(length)?)?, length)
    }

    /// The block of a chunk.
    fn block(&self, chunk: u64) -> u64 {
        self.shape.directories().saturating_add(chunk)
    }

    /// The list under a root. None: there is no such directory, or it cannot have that.
    #[inline]
    fn view(&self, root: Root) -> Option<View<'_, M>> {
        let Some(directory) = root.directory() else {
            return Some(View { list: self, root, length: 0, chunks: &[] });
        };
        let (header, chunks) = self.directory(directory)?.split_first()?;
        let header = Entry::load(header);
        let chunks = chunks.get(..usize::try_from(header.chunk()).ok()?)?;
        Some(View { list: self, root, length: header.end(), chunks })
    }

    /// Looks at the list until it does not change meanwhile. Calls `on_retry` after each attempt
    /// that a writer spoiled.
    #[inline]
    fn consistent<R>(
        &self,
        mut look: impl FnMut(Root) -> Result<R, Refused>,
        mut on_retry: impl FnMut(u32),
    ) -> Result<(Root, R), Refused> {
        for attempt in 0..MAX_ATTEMPTS {
            let root = Root(self.root.load(Ordering::Relaxed)); // ordered by the fence
            fence(Ordering::Acquire); // E1
            let seen = look(root);
            fence(Ordering::Acquire); // E2
            // Relaxed: after E2.
            if self.root.load(Ordering::Relaxed) == root.0 {
                return seen.map(|seen| (root, seen));
            }
            on_retry(attempt);
        }
        Err(Refused::Overtaken)
    }

    /// Copies what `copy` wants from the list, all as it is at one moment. `copy` is called again
    /// if it was spoiled.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        mut copy: impl FnMut(&View<'_, M>) -> Result<R, Refused>,
        on_retry: impl FnMut(u32),
    ) -> Result<R, Refused> {
        self.consistent(|root| copy(&self.view(root).ok_or(Corrupt)?), on_retry).map(|(_, copied)| copied)
    }

    /// Does the same, to change the list.
    pub(crate) fn look<R>(
        &self,
        mut copy: impl FnMut(&View<'_, M>) -> Result<R, Refused>,
        on_retry: impl FnMut(u32),
    ) -> Result<(Look, R), Refused> {
        let look = |root: Root| {
            let copied = copy(&self.view(root).ok_or(Corrupt)?)?;
            Ok((root.directory().and_then(|directory| self.pool.owner_at(directory)), copied))
        };
        let (root, (maker, copied)) = self.consistent(look, on_retry)?;
        Ok((Look { root, maker }, copied))
    }

    /// Replaces some elements by `count` others, which `store` stores one by one. Returns false,
    /// and changes nothing, if the list has changed since that look.
    pub(crate) fn splice(
        &self,
        writer: &mut Writer,
        look: &Look,
        elements: Range<u64>,
        count: u64,
        store: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<bool, Refused> {
        let record = self.record(writer.number).ok_or(Corrupt)?;
        let committed = self.build(writer, &record, look, elements, count, store).map(|next| {
            record.intent.store(next.0, Ordering::Relaxed); // E1, E5
            self.mark(look);
            // Relaxed on failure: nothing is taken from there.
            self.root.compare_exchange(look.root.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok() // E1, E2, E3, E5, E6
        });
        self.settle(writer, &record, committed == Ok(true));
        if committed.is_err() {
            fence(Ordering::Acquire); // E2
            // Relaxed: after E2.
            if self.root.load(Ordering::Relaxed) != look.root.0 {
                return Ok(false); // it was looking at blocks that were used again
            }
        }
        committed
    }

    /// Notes that the change was committed which the next commit replaces.
    fn mark(&self, look: &Look) {
        if let Some(record) = look.maker.and_then(|maker| self.record(maker)) {
            let root = look.root.0;
            // Relaxed: E1 has shown the intent, and E6 publishes the mark. If it is another one by
            // now, then its writer knows.
            if record.intent.load(Ordering::Relaxed) == root {
                let _ = record.intent.compare_exchange(root, root | COMMITTED, Ordering::Relaxed, Ordering::Relaxed); // as above
            }
        }
    }

    /// Builds a directory and the chunks that are new. Returns the root for them.
    fn build(
        &self,
        writer: &mut Writer,
        record: &Record<'_>,
        look: &Look,
        elements: Range<u64>,
        count: u64,
        mut store: impl FnMut(u64, &[AtomicU64]),
    ) -> Result<Root, Refused> {
        let view = self.view(look.root).ok_or(Corrupt)?;
        if elements.start > elements.end || elements.end > view.length {
            return Err(Refused::Corrupt);
        }
        let Change { replaced, old, total } = view.plan(&elements, count).ok_or(Corrupt)?;
        let length = (view.length - (elements.end - elements.start)).checked_add(count);
        let length = length.filter(|&length| length <= self.shape.capacity).ok_or(Refused::Full)?;
        let made = total.div_ceil(self.shape.per_chunk);
        if made.max(replaced.len() as u64) > self.shape.per_change as u64 {
            return Err(Refused::TooLarge);
        }
        let (front, rest) = view.chunks.split_at_checked(replaced.start).ok_or(Corrupt)?;
        let (middle, back) = rest.split_at_checked(replaced.len()).ok_or(Corrupt)?;

        let number = self.allocate(writer, record, 0, 0..self.shape.directories())?;
        let (header, entries) = self.directory(number).and_then(<[_]>::split_first).ok_or(Corrupt)?;
        let chunks = front.len() as u64 + made + back.len() as u64;
        Entry::new(length, chunks).store(header);
        let (own_front, entries) = entries.split_at_checked(front.len()).ok_or(Corrupt)?;
        copy(front, own_front);
        let (own_middle, own_back) = entries.split_at_checked(made as usize).ok_or(Corrupt)?;
        let own_back = own_back.get(..back.len()).ok_or(Corrupt)?;
        for (from, to) in back.iter().zip(own_back) {
            let entry = Entry::load(from);
            Entry::new(entry.end().wrapping_sub(old.end).wrapping_add(old.start + total), entry.chunk()).store(to);
        }

        let mut entries = own_middle.iter().zip(1..);
        let mut free: &[AtomicU64] = &[];
        // Returns the next words of the new chunks, `length` at most.
        let mut room = |length: usize| {
            if free.is_empty() {
                let (entry, nth) = entries.next().ok_or(Corrupt)?;
                let block = self.allocate(writer, record, nth, self.shape.directories()..self.shape.blocks())?;
                let chunk = block.saturating_sub(self.shape.directories());
                let end = (nth as u64).saturating_mul(self.shape.per_chunk).min(total);
                Entry::new(old.start.wrapping_add(end), chunk).store(entry);
                free = self.chunk(chunk).ok_or(Corrupt)?;
            }
            let (words, rest) = free.split_at(length.min(free.len()));
            free = rest;
            Ok(words)
        };
        view.visit(old.start..elements.start, |words| copy_into(words, &mut room))?;
        for nth in 0..count {
            store(nth, room(self.shape.width)?);
        }
        view.visit(elements.end..old.end, |words| copy_into(words, &mut room))?;

        let chunks = middle.iter().map(|word| self.block(Entry::load(word).chunk()));
        store_replaced(record, chunks.chain(look.root.directory()).map(|block| self.pool.at(block)));
        Ok(look.root.next(number))
    }

    /// Allocates the `nth` block of a change, one of those.
    fn allocate(
        &self,
        writer: &mut Writer,
        record: &Record<'_>,
        nth: usize,
        blocks: Range<u64>,
    ) -> Result<u64, Refused> {
        let recent = writer.recent.get_mut(usize::from(nth > 0)).ok_or(Corrupt)?;
        let start = if blocks.contains(recent) { *recent } else { blocks.start };
        for block in (0..SEARCHES).flat_map(|_| (start..blocks.end).chain(blocks.start..start)) {
            if self.pool.owner_at(block).is_none() {
                announce(record, nth, block);
                if self.pool.allocate_at(writer.number, block).is_some() {
                    fence(Ordering::Release); // E2
                    *recent = block + 1;
                    return Ok(block);
                }
            }
        }
        Err(Refused::Full)
    }

    /// Frees what a change has replaced, if it is committed, or else what it has allocated.
    fn settle(&self, writer: &mut Writer, record: &Record<'_>, is_committed: bool) {
        let mut free = |block_ref: BlockRef| {
            let recent = writer.recent.get_mut(usize::from(block_ref.block >= self.shape.directories()));
            if let Some(recent) = recent.filter(|_| self.pool.free(block_ref)) {
                *recent = block_ref.block;
            }
        };
        if is_committed {
            // Relaxed: the writer's own store, or a dead one's.
            let count = record.references.load(Ordering::Relaxed) as usize;
            for words in record.replaced.chunks_exact(2).take(count) {
                if let [block, owner] = words {
                    // Relaxed: as above.
                    free(BlockRef { block: block.load(Ordering::Relaxed), owner: owner.load(Ordering::Relaxed) });
                }
            }
            record.blocks.store(0, Ordering::Release); // E4: after what was freed
            record.intent.store(0, Ordering::Release); // E5: after these are no more the writer's to free
        } else {
            record.intent.store(0, Ordering::Release); // E5: before anything is free, which pool.rs E1 sees to
            let count = record.blocks.load(Ordering::Relaxed) as usize; // as above
            for block in record.allocated.iter().take(count) {
                // Relaxed: as above.
                if let Some(block_ref) = self.pool.owned_at(writer.number, block.load(Ordering::Relaxed)) {
                    free(block_ref);
                }
            }
            record.blocks.store(0, Ordering::Release); // E4: after what was freed
        }
    }

    /// The writers whose changes are in progress, each at its own moment.
    pub(crate) fn in_progress(&self) -> impl Iterator<Item = usize> {
        // Relaxed: only numbers of writers to ask about.
        let is_used = |record: Record<'_>| record.blocks.load(Ordering::Relaxed) != 0;
        (0..self.shape.writers).filter(move |&writer| self.record(writer).is_some_and(is_used))
    }

    fn record(&self, writer: usize) -> Option<Record<'_>> {
        let start = writer.checked_mul(self.shape.words_per_record())?;
        let words = self.records.get(start..start.checked_add(self.shape.words_per_record())?)?;
        let ([intent, blocks, references], lists) = words.split_first_chunk::<RECORD_HEADER>()?;
        let (allocated, replaced) = lists.split_at_checked(self.shape.references())?;
        Some(Record { intent, blocks, references, allocated, replaced })
    }

    /// Frees what dead writers have left. Nobody repairs them at the same time.
    pub(crate) fn repair(&self, writers: Range<usize>) {
        for number in writers {
            let Some(record) = self.record(number) else { continue };
            let root = self.root.load(Ordering::Relaxed); // ordered by the fence
            fence(Ordering::Acquire); // E6
            // Relaxed: after E6, and the writer is dead.
            let intent = record.intent.load(Ordering::Relaxed);
            let is_committed = intent != 0 && (intent == root || intent & COMMITTED != 0);
            self.settle(&mut self.writer(number), &record, is_committed);
        }
    }
}

/// Says which block is about to be allocated as the `nth` of a change.
fn announce(record: &Record<'_>, nth: usize, block: u64) {
    if let Some(word) = record.allocated.get(nth) {
        word.store(block, Ordering::Relaxed); // ordered by the fence
        record.blocks.store(nth as u64 + 1, Ordering::Relaxed); // the same
        fence(Ordering::Release); // E4
    }
}

fn store_replaced(record: &Record<'_>, block_refs: impl Iterator<Item = BlockRef>) {
    let mut count = 0;
    for (words, block_ref) in record.replaced.chunks_exact(2).zip(block_refs) {
        if let [block, owner] = words {
            // Relaxed: between the two ends of E5.
            block.store(block_ref.block, Ordering::Relaxed);
            owner.store(block_ref.owner, Ordering::Relaxed); // as above
            count += 1;
        }
    }
    record.references.store(count, Ordering::Relaxed); // as above
}

#[inline]
fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    for (from, to) in from.iter().zip(to) {
        // Relaxed: E1 publishes them, and E3 orders the loads.
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Copies words to where `room` gives room for some of them at a time.
fn copy_into<'a>(
    mut from: &[AtomicU64],
    room: &mut impl FnMut(usize) -> Result<&'a [AtomicU64], Refused>,
) -> Result<(), Refused> {
    while !from.is_empty() {
        let to = room(from.len())?;
        copy(from, to);
        from = from.get(to.len()..).unwrap_or_default();
    }
    Ok(())
}
