//! What: a map from byte keys to byte values that any number of processes read and change. Nobody
//! waits for anybody: a reader stores nothing and tries again if its bucket changed, a writer
//! commits by one CAS. A block that has been linked is never written again until it is free.
//!
//! Bytes: one head word for each bucket, the blocks of all entries, one owner word for each block
//! (`pool.rs`), and one intent record for each thread that may write.
//!
//! ```text
//!  head    63                28 27      24 23         0
//!         ┌────────────────────┬──────────┬────────────┐
//!         │ generation         │ length   │ first      │   length: entries of the bucket, up to 15
//!         └────────────────────┴──────────┴────────────┘   first: the block of the first one
//!
//!          0                    1                    2
//!  block  │ next: 24, key: 40  │ hash: 32, value: 32 │ key ... │ value ... │
//!          key, value: lengths in bytes. Each begins at a word. next is valid but for the last.
//!          Blocks of a long class have an extent each, and the value is there (`Extents`).
//!
//!          0       1       2                    31                32
//!  intent │ count │ block │ owner word │ ...   │ block + 1, or 0 │ ...
//!          up to 15 references to unlink        up to 15 blocks to allocate
//! ```
//!
//! ```text
//!  head ──► a ──► b ──► c ──► d         c is replaced by e: a and b are copied
//!  head ──► e ──► a' ─► b' ───▲         one CAS of the head; then a, b and c are freed
//! ```
//!
//! Invariants
//! - I1: a head never has the same value twice: each commit begins a new generation. They come
//!   again after 2^36 commits to one bucket.
//! - I2: what a head reaches is allocated, whole and unchanged as long as the head has this value.
//!   A writer changes a block only while it has allocated it and not linked it.
//! - I3: a reference (`pool.rs` I1) is linked once at most. Once it is not linked any more it never
//!   will be again. So anybody may free what was linked and is not, and the second one fails.
//! - I4: what a commit unlinks is in the intent record before, and freed before the record is
//!   empty again. All references in a record were linked once.
//! - I5: what an operation allocates is in the intent record before, and the first one stays there
//!   until the operation has ended. The others may stay longer: each is a place to look at and not
//!   a reference.
//! - I6: a class has spare blocks, whose owner is no participant. They stand in for the blocks of
//!   their class that an operation unlinks, and as many of these become spare then. So a key can be
//!   removed, or its value replaced by one of the same class, when no block is free. Spare blocks,
//!   and those that stand in for others, are never fewer than at first. They become more by repair
//!   only, and a spare block becomes free only while enough others are spare.
//!   They are used before free blocks of a larger class, which long entries may need.
//! - I7: a bucket has no key twice: a commit fails if anything in the bucket changed since its
//!   writer looked.
//! - I8: an extent belongs to the participant that has allocated its block: nobody else writes to
//!   it, or gives its memory back. It has no memory when its block is free or spare.
//!
//! Edges
//! - E1: `commit`: blocks, then CAS head, AcqRel · `consistent`: load head, then fence Acquire. The
//!   entries are whole. Other commits to the bucket continue the release sequence, so that this
//!   holds for blocks that earlier ones have linked, too.
//! - E2: `commit`: CAS head, free (`pool.rs` E1), allocate, fence Release, block · `consistent`:
//!   block, fence Acquire, load head. A reader that sees anything of a block's next use sees that
//!   the head has changed. A repairer frees a block after it has seen that head (E1). The same for
//!   extents: `write` and `copy` come after that fence, `give_back` after that of `announce`.
//! - E3: `commit`: CAS head, AcqRel · the next `commit`: CAS head, AcqRel. What a writer has copied
//!   comes before the next use of the blocks that it was copied from.
//! - E4: `commit`: count 0, then fence Release, the references of the next intent, count, Release ·
//!   repair, after the death of the writer. The references belong to the count.
//! - E5: `allocate`: block in the intent record, fence Release, CAS owner word · repair, after the
//!   death of the writer. A block that it has allocated is in the record. And `is_held`: load owner
//!   words, fence Acquire, the record.
//! - E6: `make_spare`: fence Release, CAS owner word · `take_spare`, `free_excess`: CAS owner word,
//!   fence Acquire. As `pool.rs` E1, for blocks that are spare in between. And `free_excess`: load
//!   owner words, fence Acquire, load them again. What it has seen twice was spare at one moment:
//!   if it has counted a block that became spare, it sees that the one which stood in was taken.
//! - E7: `free_excess`: CAS owner word, fence SeqCst, load owner words · the same of another one.
//!   Of two that take a spare block, one sees what the other took.
//! - E8: `clear_intent`, `clear_allocated`: Release · `is_held`: load them, fence Acquire, load the
//!   owner words. What an operation has freed is free for one that sees the end of the operation.
//!
//! Crash
//! - (H1) writer, before the CAS: nothing has changed. Repair makes the blocks spare that it may
//!   have allocated, if they are its own and not linked. If its intent is complete, what it names
//!   is linked still, or free, or about to be freed by somebody else.
//! - (H2) writer, after the CAS: the change is made. Repair makes spare what the intent names, and
//!   keeps the blocks that the dead one has linked.
//! - In H1 and H2 all become spare, because nobody knows how many were. Then repair frees what is
//!   too many, which it takes as if it were the dead one. A writer that had a spare block meanwhile
//!   returns it after that, and so there may be too many still: a writer that finds no block for a
//!   new key frees them.
//! - (H3) repairer: what it has made spare is spare. The next repairer does the rest.
//! - (H4) writer or repairer, before it frees a block of a long class, or makes it spare: the block
//!   is taken over by the participant of the record that is used, and named in the first word for
//!   blocks to allocate (E5). So the block is nobody else's when the memory of its extent is given
//!   back, and repair finds it.
//! - reader: nothing.
//! - A stopped writer keeps its blocks, and nothing else.
//!
//! Source: our own. Persistent lists are Okasaki's, the generation beside the reference is IBM's
//! (System/370 Principles of Operation), the second look at the head is a seqlock's (Boehm, MSPC
//! 2012).

pub(crate) mod snapshot;

use std::ops::Range;

use crate::primitive::{AtomicU64, Ordering, WORD, fence, store_bytes};
use crate::raw::pool::{BlockRef, Pool};
use crate::raw::{Corrupt, Memory};

/// The most entries of a bucket.
pub(crate) const MAX_CHAIN: usize = 15;
/// The most blocks of a map.
pub(crate) const MAX_BLOCKS: u64 = 1 << PLACE_BITS;
/// The longest key in bytes, if a block has room for it.
pub(crate) const MAX_KEY: usize = (1 << (u64::BITS - PLACE_BITS)) - 1;
/// The longest value in bytes, if a block has room for it.
pub(crate) const MAX_VALUE: usize = u32::MAX as usize;
/// Words of a block before the key.
pub(crate) const HEADER: usize = 2;
/// Classes of blocks at most.
pub(crate) const MAX_CLASSES: usize = 4;
/// Words of an intent record. Some at its end are unused.
pub(crate) const INTENT: usize = 48;
/// The first of its words for blocks to allocate.
pub(crate) const ALLOCATED: usize = 32;

/// The owner of the spare blocks.
const SPARE: usize = 0xFFFE;

const PLACE_BITS: u32 = 24;
const PLACE: u64 = MAX_BLOCKS - 1;
const LENGTH_SHIFT: u32 = PLACE_BITS;
const GENERATION_SHIFT: u32 = 28;
const HASH_BITS: u32 = 32;

/// Attempts to look at a bucket that others change.
const MAX_ATTEMPTS: u32 = 1 << 14;
/// The same where it may read long values each time.
const MAX_LONG_ATTEMPTS: u32 = 1 << 9;

/// A head word. It may be invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head(u64);

impl Head {
    fn first(self) -> u64 {
        self.0 & PLACE
    }

    fn length(self) -> usize {
        (self.0 >> LENGTH_SHIFT) as usize & MAX_CHAIN
    }

    /// The head of the next generation.
    fn next(self, first: u64, length: usize) -> Self {
        let generation = (self.0 >> GENERATION_SHIFT).wrapping_add(1) << GENERATION_SHIFT;
        Self(generation | (length as u64) << LENGTH_SHIFT | first & PLACE)
    }
}

/// Blocks of one size, in the order of their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockSize {
    pub(crate) words: usize,
    /// With the spare ones.
    pub(crate) count: u64,
    /// As many as a bucket may have of them, and one more is of no use.
    pub(crate) spare: u64,
    /// The longest value in the extent of such a block, in bytes. 0: values are in the blocks.
    pub(crate) extent: usize,
}

/// Memory besides the words: an extent for each block of a long class. It has the number of that
/// block.
pub(crate) trait Extents {
    /// Writes a value. Returns false if there is no memory for it.
    fn write(&self, extent: u64, value: &[u8]) -> bool;

    /// Writes what another extent begins with. Returns false if there is no memory for it.
    fn copy(&self, from: u64, to: u64, length: usize) -> bool;

    /// Gives the memory back.
    fn give_back(&self, extent: u64);
}

/// For maps without long classes.
impl Extents for () {
    fn write(&self, _: u64, _: &[u8]) -> bool {
        false
    }

    fn copy(&self, _: u64, _: u64, _: usize) -> bool {
        false
    }

    fn give_back(&self, _: u64) {}
}

#[derive(Clone, Copy)]
struct Class {
    /// The number of its first block.
    first: u64,
    count: u64,
    spare: u64,
    /// Words of a block.
    stride: usize,
    /// The first word of its first block.
    start: usize,
    /// As in [`BlockSize`].
    extent: usize,
}

impl Class {
    fn is_long(&self) -> bool {
        self.extent > 0
    }

    /// Whether such a block can have a key of that many words and a value of that many bytes.
    fn fits(&self, key_words: usize, value_length: usize) -> bool {
        let limit = if self.is_long() { self.extent } else { usize::MAX };
        let words = HEADER.saturating_add(key_words).saturating_add(self.value_words(value_length));
        words <= self.stride && value_length <= limit
    }

    /// Words of a value in the block itself.
    #[inline]
    fn value_words(&self, length: usize) -> usize {
        if self.is_long() { 0 } else { length.div_ceil(WORD) }
    }
}

/// A key with its hash, the same for all processes.
#[derive(Clone, Copy)]
pub(crate) struct Key<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) hash: u32,
}

/// An entry as it lies in a block. While it is not known whether its bucket has changed, it may be
/// half of one entry and half of another.
pub(crate) struct Entry<'a> {
    next: u64,
    hash: u32,
    key_length: usize,
    value_length: usize,
    /// Of the key, and then of the value, if it is here.
    words: &'a [AtomicU64],
    /// Where the value is otherwise.
    extent: Option<u64>,
}

impl<'a> Entry<'a> {
    fn key_words(&self) -> usize {
        self.key_length.div_ceil(WORD)
    }

    /// The length of the key in bytes, and its words.
    pub(crate) fn key(&self) -> (usize, &'a [AtomicU64]) {
        (self.key_length, self.words.get(..self.key_words()).unwrap_or_default())
    }

    /// The extent that has the value, instead of words.
    #[inline]
    pub(crate) fn extent(&self) -> Option<u64> {
        self.extent
    }

    /// The length of the value in bytes, and its words.
    pub(crate) fn value(&self) -> (usize, &'a [AtomicU64]) {
        (self.value_length, self.words.get(self.key_words()..).unwrap_or_default())
    }

    #[inline]
    fn has_key(&self, key: Key<'_>) -> bool {
        self.hash == key.hash
            && self.key_length == key.bytes.len()
            && self.words.iter().zip(key.bytes.chunks(WORD)).all(|(word, bytes)| {
                word.load(Ordering::Relaxed) == pack(bytes) // E2 follows
            })
    }
}

/// The word that has these bytes, and zeros.
#[inline]
fn pack(bytes: &[u8]) -> u64 {
    let mut word = [0; WORD];
    for (byte, own) in word.iter_mut().zip(bytes) {
        *byte = *own;
    }
    u64::from_ne_bytes(word)
}

fn link_word(next: u64, key_length: usize) -> u64 {
    next & PLACE | (key_length as u64) << PLACE_BITS
}

fn sizes_word(hash: u32, value_length: usize) -> u64 {
    u64::from(hash) | (value_length as u64) << HASH_BITS
}

/// A few references.
#[derive(Clone, Copy)]
struct BlockRefs {
    refs: [BlockRef; MAX_CHAIN],
    count: usize,
}

impl BlockRefs {
    const EMPTY: Self = Self { refs: [BlockRef { block: 0, owner: 0 }; MAX_CHAIN], count: 0 };

    fn push(&mut self, block_ref: BlockRef) {
        if let Some(next) = self.refs.get_mut(self.count) {
            *next = block_ref;
            self.count += 1;
        }
    }

    fn as_slice(&self) -> &[BlockRef] {
        self.refs.get(..self.count).unwrap_or_default()
    }
}

/// Why a bucket was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It changed during each of many attempts.
    Overtaken,
    Corrupt,
}

impl From<Corrupt> for Unread {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// What a writer has seen of a bucket, and what it leaves out if it commits.
pub(crate) struct Look {
    bucket: usize,
    head: Head,
    /// The blocks that a commit replaces, in order.
    passed: BlockRefs,
    /// How many of them have an entry that stays: it is copied. The others come last.
    kept: usize,
    /// The block that follows.
    rest: u64,
}

impl Look {
    /// At nothing.
    pub(crate) const EMPTY: Self = Self { bucket: 0, head: Head(0), passed: BlockRefs::EMPTY, kept: 0, rest: 0 };

    pub(crate) fn bucket(&self) -> usize {
        self.bucket
    }

    /// Whether the key, or anything of the bucket, is there.
    pub(crate) fn has_found(&self) -> bool {
        self.kept < self.passed.count
    }

    fn rest_length(&self) -> usize {
        self.head.length().saturating_sub(self.passed.count)
    }
}

/// Why a commit was not attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no block for the entry, or no room in its bucket.
    Full,
    /// The same, but others change the map: they may have blocks that will be free.
    LooksFull,
    /// Other writers have blocks at this moment that it could have, or some have just become free.
    Busy,
    /// There is no memory for a long value.
    OutOfMemory,
}

/// One thread that writes: its participant, and an intent record that no other thread uses.
pub(crate) struct Writer<X> {
    pub(crate) extents: X,
    pub(crate) participant: usize,
    pub(crate) intent: usize,
    /// A block of each class that was free lately.
    pub(crate) recent: [u64; MAX_CLASSES],
}

/// The blocks that an operation has allocated.
struct Own {
    refs: BlockRefs,
    /// How many of each class were spare.
    spare: [u64; MAX_CLASSES],
}

/// The words of a map.
pub(crate) struct MapWords<M: Memory> {
    /// One for each bucket, a power of two.
    pub(crate) heads: M::Words,
    pub(crate) owners: M::Words,
    pub(crate) blocks: M::Words,
    pub(crate) intents: M::Words,
}

pub(crate) struct Map<M: Memory> {
    heads: M::Words,
    blocks: M::Words,
    intents: M::Words,
    pool: Pool<M>,
    classes: Vec<Class>,
}

impl<M: Memory> Map<M> {
    pub(crate) fn new(words: MapWords<M>, sizes: &[BlockSize]) -> Self {
        debug_assert!(words.heads.len().is_power_of_two());
        debug_assert!(sizes.is_sorted_by_key(|size| (size.extent, size.words)) && sizes.len() <= MAX_CLASSES);
        let (mut first, mut start) = (0, 0);
        let class = |size: &BlockSize| {
            let BlockSize { words: stride, count, spare, extent } = *size;
            let class = Class { first, count, spare, stride, start, extent };
            first += size.count;
            start += size.words * size.count as usize;
            class
        };
        let classes = sizes.iter().map(class).collect();
        Self {
            heads: words.heads,
            blocks: words.blocks,
            intents: words.intents,
            pool: Pool::new(words.owners),
            classes,
        }
    }

    pub(crate) fn writer<X: Extents>(&self, participant: usize, intent: usize, extents: X) -> Writer<X> {
        Writer { extents, participant, intent, recent: [0; MAX_CLASSES] }
    }

    /// Makes the last blocks of each class spare, of a map that nobody uses yet.
    pub(crate) fn fill_spares(&self) {
        for class in &self.classes {
            let blocks = class.first..class.first + class.count;
            for block in blocks.rev().take(class.spare as usize) {
                let _ = self.pool.allocate_at(SPARE, block); // all are free
            }
        }
    }

    fn spares(&self, class: &Class) -> impl Iterator<Item = BlockRef> {
        let blocks = class.first..class.first + class.count;
        blocks.rev().filter_map(|block| self.pool.owned_at(SPARE, block))
    }

    fn max_attempts(&self) -> u32 {
        if self.classes.iter().any(Class::is_long) { MAX_LONG_ATTEMPTS } else { MAX_ATTEMPTS }
    }

    pub(crate) fn buckets(&self) -> usize {
        self.heads.len()
    }

    #[inline]
    pub(crate) fn bucket_of(&self, hash: u32) -> usize {
        hash as usize & self.heads.len().wrapping_sub(1)
    }

    /// A number that is another one after each change of a bucket.
    #[inline]
    pub(crate) fn version(&self, bucket: usize) -> u64 {
        self.heads.get(bucket).map_or(0, |head| head.load(Ordering::Relaxed)) // a number
    }

    #[inline]
    fn class_of(&self, place: u64) -> Option<(usize, &Class)> {
        self.classes.iter().enumerate().find(|(_, class)| place.wrapping_sub(class.first) < class.count)
    }

    #[inline]
    fn block(&self, place: u64) -> Option<(&Class, &[AtomicU64])> {
        let (_, class) = self.class_of(place)?;
        let start = class.start + (place - class.first) as usize * class.stride;
        Some((class, self.blocks.get(start..start.checked_add(class.stride)?)?))
    }

    /// The entry in a block. `None`: there is no such block, or it cannot have that.
    #[inline]
    fn entry(&self, place: u64) -> Option<Entry<'_>> {
        let (class, words) = self.block(place)?;
        let ([link, sizes], words) = words.split_first_chunk::<HEADER>()?;
        let link = link.load(Ordering::Relaxed); // E1 before, E2 after
        let sizes = sizes.load(Ordering::Relaxed); // the same
        let key_length = usize::try_from(link >> PLACE_BITS).ok()?;
        let value_length = (sizes >> HASH_BITS) as usize;
        let extent = class.is_long().then_some(place);
        if extent.is_some() && value_length > class.extent {
            return None;
        }
        let words = words.get(..key_length.div_ceil(WORD) + class.value_words(value_length))?;
        Some(Entry { next: link & PLACE, hash: sizes as u32, key_length, value_length, words, extent })
    }

    /// Visits the entries that a head reaches, until `visit` returns something.
    #[inline]
    fn walk<'a, R>(
        &'a self,
        head: Head,
        mut visit: impl FnMut(u64, &Entry<'a>) -> Option<R>,
    ) -> Result<Option<R>, Corrupt> {
        let mut place = head.first();
        for _ in 0..head.length() {
            let entry = self.entry(place).ok_or(Corrupt)?;
            let found = visit(place, &entry);
            if found.is_some() {
                return Ok(found);
            }
            place = entry.next;
        }
        Ok(None)
    }

    /// Looks at a bucket until it does not change meanwhile. Calls `on_retry` after each attempt
    /// that a writer spoiled.
    #[inline]
    fn consistent<R>(
        &self,
        bucket: usize,
        mut look: impl FnMut(Head) -> Result<R, Corrupt>,
        mut on_retry: impl FnMut(u32),
    ) -> Result<(Head, R), Unread> {
        let word = self.heads.get(bucket).ok_or(Corrupt)?;
        for attempt in 0..self.max_attempts() {
            let head = word.load(Ordering::Relaxed); // ordered by the fence
            fence(Ordering::Acquire); // E1
            let seen = look(Head(head));
            fence(Ordering::Acquire); // E2
            // Relaxed: after E2.
            if word.load(Ordering::Relaxed) == head {
                return Ok((Head(head), seen?));
            }
            on_retry(attempt);
        }
        Err(Unread::Overtaken)
    }

    /// Copies from the entry of a key, if it is there. `copy` is called again if it was spoiled.
    #[inline]
    pub(crate) fn read<R>(
        &self,
        key: Key<'_>,
        mut copy: impl FnMut(&Entry<'_>) -> R,
        on_retry: impl FnMut(u32),
    ) -> Result<Option<R>, Unread> {
        let find = |head| self.walk(head, |_, entry| entry.has_key(key).then(|| copy(entry)));
        self.consistent(self.bucket_of(key.hash), find, on_retry).map(|(_, found)| found)
    }

    /// Copies from all entries of a bucket, as they are at one moment.
    pub(crate) fn read_bucket<R>(
        &self,
        bucket: usize,
        copy: impl FnMut(&Entry<'_>) -> R,
        on_retry: impl FnMut(u32),
    ) -> Result<Vec<R>, Unread> {
        self.copy_bucket(bucket, copy, on_retry).map(|(_, copied)| copied)
    }

    /// The number of entries of all buckets, each at its own moment.
    pub(crate) fn len(&self) -> usize {
        self.heads.iter().map(|head| Head(head.load(Ordering::Relaxed)).length()).sum() // a number
    }

    /// How many buckets have no entry, one, two, and so on, each at its own moment.
    pub(crate) fn chains(&self) -> [u64; MAX_CHAIN + 1] {
        let mut counts = [0; MAX_CHAIN + 1];
        for head in self.heads.iter() {
            let length = Head(head.load(Ordering::Relaxed)).length(); // a number
            counts.get_mut(length).into_iter().for_each(|count| *count += 1);
        }
        counts
    }

    /// The number of blocks that are neither free nor spare.
    pub(crate) fn allocated(&self) -> u64 {
        self.pool.owners().filter(|&owner| owner != SPARE).count() as u64
    }

    /// The number of blocks of each class that are neither free nor spare.
    pub(crate) fn allocated_by_class(&self) -> [u64; MAX_CLASSES] {
        let mut counts = [0; MAX_CLASSES];
        for (count, class) in counts.iter_mut().zip(&self.classes) {
            let blocks = class.first..class.first + class.count;
            *count = blocks.filter(|&block| !self.pool.is_free(block)).count() as u64;
            *count -= (self.spares(class).count() as u64).min(*count); // at another moment
        }
        counts
    }

    /// The number of spare blocks.
    pub(crate) fn spare(&self) -> u64 {
        self.pool.owned_by(SPARE).count() as u64
    }

    /// Looks for a key, to change it. Returns what `copy` copied from its entry. `look` is filled
    /// in place, since it is too large to be returned.
    pub(crate) fn look<R>(
        &self,
        look: &mut Look,
        key: Key<'_>,
        mut copy: impl FnMut(&Entry<'_>) -> R,
        on_retry: impl FnMut(u32),
    ) -> Result<Option<R>, Unread> {
        let bucket = self.bucket_of(key.hash);
        look.bucket = bucket;
        let passed = &mut look.passed;
        let find = |head| {
            passed.count = 0;
            self.walk(head, |place, entry| {
                passed.push(self.pool.at(place));
                entry.has_key(key).then(|| (copy(entry), entry.next))
            })
        };
        let (head, found) = self.consistent(bucket, find, on_retry)?;
        look.head = head;
        Ok(match found {
            Some((copied, rest)) => {
                look.kept = look.passed.count.saturating_sub(1);
                look.rest = rest;
                Some(copied)
            }
            // All of the bucket stays, and nothing is copied.
            None => {
                look.passed.count = 0;
                (look.kept, look.rest) = (0, head.first());
                None
            }
        })
    }

    /// Looks at all of a bucket, to empty it.
    pub(crate) fn look_at_bucket(&self, bucket: usize, on_retry: impl FnMut(u32)) -> Result<Look, Unread> {
        let find = |head| {
            let mut passed = BlockRefs::EMPTY;
            self.walk(head, |place, _| -> Option<()> {
                passed.push(self.pool.at(place));
                None
            })?;
            Ok(passed)
        };
        let (head, passed) = self.consistent(bucket, find, on_retry)?;
        Ok(Look { bucket, head, passed, kept: 0, rest: 0 })
    }

    /// Gives a key a value, in place of the one that the look has found. Returns false, and changes
    /// nothing, if its bucket has changed since that look.
    pub(crate) fn insert<X: Extents>(
        &self,
        writer: &mut Writer<X>,
        look: &Look,
        key: Key<'_>,
        value: &[u8],
    ) -> Result<bool, Refusal> {
        self.commit(writer, look, Some((key, value)))
    }

    /// Removes what the look has found. Returns false, and changes nothing, if its bucket has
    /// changed since that look.
    ///
    /// Entries that stand before the one that is removed are copied, which needs free blocks, and
    /// memory if they are long.
    pub(crate) fn remove<X: Extents>(&self, writer: &mut Writer<X>, look: &Look) -> Result<bool, Refusal> {
        self.commit(writer, look, None)
    }

    fn commit<X: Extents>(
        &self,
        writer: &mut Writer<X>,
        look: &Look,
        new: Option<(Key<'_>, &[u8])>,
    ) -> Result<bool, Refusal> {
        let head = self.heads.get(look.bucket).ok_or(Refusal::Full)?;
        let length = look.rest_length() + look.kept + usize::from(new.is_some());
        if length > MAX_CHAIN {
            return Err(Refusal::Full);
        }
        let mut own = Own { refs: BlockRefs::EMPTY, spare: [0; MAX_CLASSES] };
        let outcome = self.build(writer, look, new, &mut own).map(|first| {
            let passed = look.passed.as_slice();
            self.store_intent(writer.intent, passed);
            let next = look.head.next(first, length);
            // Relaxed on failure: nothing is taken from there.
            let is_committed = head.compare_exchange(look.head.0, next.0, Ordering::AcqRel, Ordering::Relaxed).is_ok(); // E1, E2, E3
            if is_committed {
                self.free_all(writer, passed, own.spare);
            }
            if !passed.is_empty() {
                self.clear_intent(writer.intent);
            }
            is_committed
        });
        if outcome != Ok(true) {
            self.free_all(writer, own.refs.as_slice(), own.spare);
        }
        self.clear_allocated(writer.intent);
        // Relaxed: to look again is enough. The key may be there now, and have a block to replace.
        let is_spoiled = outcome == Err(Refusal::Full) && head.load(Ordering::Relaxed) != look.head.0;
        if is_spoiled { Ok(false) } else { outcome }
    }

    /// Builds the blocks of a new chain, the last one first. Returns the first one of the chain.
    fn build<X: Extents>(
        &self,
        writer: &mut Writer<X>,
        look: &Look,
        new: Option<(Key<'_>, &[u8])>,
        own: &mut Own,
    ) -> Result<u64, Refusal> {
        let mut first = look.rest;
        let kept = look.passed.as_slice().get(..look.kept).unwrap_or_default();
        for from in kept.iter().rev() {
            // If it is not whole any more, then the bucket has changed, and the CAS will fail.
            let Some(entry) = self.entry(from.block) else { break };
            let fits = |class: &Class| {
                // A short value stays a short one.
                class.is_long() == entry.extent.is_some() && class.fits(entry.key_words(), entry.value_length)
            };
            let (_, words, to) = self.allocate(writer, fits, Some(from), own)?;
            if let Some(([link, sizes], words)) = words.split_first_chunk::<HEADER>() {
                // Relaxed: E1 publishes them, and E3 orders the loads.
                link.store(link_word(first, entry.key_length), Ordering::Relaxed);
                sizes.store(sizes_word(entry.hash, entry.value_length), Ordering::Relaxed); // as above
                for (to, from) in words.iter().zip(entry.words) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed); // as above
                }
            }
            if entry.extent.is_some_and(|from| !writer.extents.copy(from, to, entry.value_length)) {
                return Err(Refusal::OutOfMemory);
            }
            first = to;
        }
        if let Some((key, value)) = new {
            let key_words = key.bytes.len().div_ceil(WORD);
            if key.bytes.len() > MAX_KEY || value.len() > MAX_VALUE {
                return Err(Refusal::Full);
            }
            let fits = |class: &Class| class.fits(key_words, value.len());
            let (class, words, to) = self.allocate(writer, fits, look.passed.as_slice().last(), own)?;
            if let Some(([link, sizes], words)) = words.split_first_chunk::<HEADER>() {
                link.store(link_word(first, key.bytes.len()), Ordering::Relaxed); // E1 publishes it
                sizes.store(sizes_word(key.hash, value.len()), Ordering::Relaxed); // E1
                let (key_part, value_part) = words.split_at_checked(key_words).unwrap_or_default();
                store_bytes(key_part, key.bytes);
                if !class.is_long() {
                    store_bytes(value_part, value);
                }
            }
            if class.is_long() && !writer.extents.write(to, value) {
                return Err(Refusal::OutOfMemory);
            }
            first = to;
        }
        Ok(first)
    }

    /// Allocates a block of the first class that fits. It takes the place of another one, if there
    /// is one.
    fn allocate<X>(
        &self,
        writer: &mut Writer<X>,
        fits: impl Fn(&Class) -> bool,
        replaced: Option<&BlockRef>,
        own: &mut Own,
    ) -> Result<(&Class, &[AtomicU64], u64), Refusal> {
        let replaced = replaced.and_then(|replaced| self.class_of(replaced.block)).map(|(number, _)| number);
        let mut allocated = Err(Refusal::Full);
        for (number, class) in self.classes.iter().enumerate().filter(|(_, class)| fits(class)) {
            allocated = match self.allocate_free(writer, number, class, own) {
                Some(block) => Ok(block),
                // Before it takes a larger one, which would then be missing for a long entry.
                None if replaced == Some(number) => self.take_spare(writer, number, class, own),
                None => allocated,
            };
            // Nor does it take a larger one while others have the spare ones for a moment.
            if !matches!(allocated, Err(Refusal::Full)) {
                break;
            }
        }
        let refuse = |refusal| if refusal == Refusal::Full { self.refuse(writer, own, fits) } else { refusal };
        let block = allocated.map_err(refuse)?;
        fence(Ordering::Release); // E2
        own.refs.push(block);
        self.block(block.block).map(|(class, words)| (class, words, block.block)).ok_or(Refusal::Full)
    }

    /// Allocates a free block of a class.
    #[inline]
    fn allocate_free<X>(&self, writer: &mut Writer<X>, number: usize, class: &Class, own: &Own) -> Option<BlockRef> {
        let recent = writer.recent.get(number)?.wrapping_sub(class.first);
        let start = if recent < class.count { recent } else { 0 };
        let mut blocks = (start..class.count).chain(0..start).map(|step| class.first + step);
        let block = blocks.find_map(|block| {
            let is_free = self.pool.is_free(block);
            is_free
                .then(|| self.announce(writer.intent, own.refs.count, block))
                .and_then(|()| self.pool.allocate_at(writer.participant, block))
        })?;
        *writer.recent.get_mut(number)? = block.block + 1;
        Some(block)
    }

    fn take_spare<X>(
        &self,
        writer: &Writer<X>,
        number: usize,
        class: &Class,
        own: &mut Own,
    ) -> Result<BlockRef, Refusal> {
        let taken = self.spares(class).find_map(|spare| {
            self.announce(writer.intent, own.refs.count, spare.block);
            self.pool.take_over(spare, writer.participant)
        });
        fence(Ordering::Acquire); // E6
        if let Some(spare) = own.spare.get_mut(number).filter(|_| taken.is_some()) {
            *spare += 1;
        }
        taken.ok_or(if class.spare > 0 { Refusal::Busy } else { Refusal::Full })
    }

    /// There is no block, unless some of those that are spare are too many, or others have some.
    #[cold]
    fn refuse<X>(&self, writer: &Writer<X>, own: &Own, fits: impl Fn(&Class) -> bool) -> Refusal {
        let mut fitting = self.classes.iter().filter(|class| fits(class));
        let has_freed = fitting.any(|class| self.free_excess(writer.participant, writer.intent, own.refs.count, class));
        if !has_freed && !self.is_held(writer.intent, fits) {
            Refusal::Full
        } else if self.looks_full() {
            Refusal::LooksFull
        } else {
            Refusal::Busy
        }
    }

    /// Whether others than the writer with the record `own` may have blocks of those classes that
    /// are in no bucket, or have just freed some.
    ///
    /// If not, there was a moment, between two looks that see all owner words the same, in which no
    /// block was free, and none was of an operation that has ended since without linking it.
    fn is_held(&self, own: usize, fits: impl Fn(&Class) -> bool) -> bool {
        let blocks =
            || self.classes.iter().filter(|class| fits(class)).flat_map(|class| class.first..class.first + class.count);
        let generations = || blocks().fold(0_u64, |sum, block| sum.wrapping_add(self.pool.generation_at(block)));
        let before = generations();
        fence(Ordering::Acquire); // E5
        let is_fitting = |block| self.class_of(block).is_some_and(|(_, class)| fits(class));
        let is_named =
            |record| self.announced(record).chain(self.intended(record).map(|named| named.block)).any(is_fitting);
        let is_named = self.in_progress().any(|record| record != own && is_named(record));
        fence(Ordering::Acquire); // E8
        // None is less than before, so the sum is the same only if all are.
        is_named || generations() != before || blocks().any(|block| self.pool.is_free(block))
    }

    /// Whether there seem to be as many entries as there can be: see [`len`](Self::len).
    fn looks_full(&self) -> bool {
        self.len() as u64 >= self.classes.iter().map(|class| class.count - class.spare).sum()
    }

    /// The records of operations in progress, each at its own moment.
    pub(crate) fn in_progress(&self) -> impl Iterator<Item = usize> {
        (0..self.intents.len() / INTENT).filter(|&record| !self.is_clear(record))
    }

    /// Says which block is about to be allocated, after `count` others.
    fn announce(&self, record: usize, count: usize, block: u64) {
        if let Some(word) = self.allocated_by(record).get(count) {
            word.store(block + 1, Ordering::Relaxed); // the fence orders it
            fence(Ordering::Release); // E5, and of extents E2
        }
    }

    /// Frees blocks. Makes as many of them spare instead as were taken from those.
    fn free_all<X: Extents>(&self, writer: &mut Writer<X>, block_refs: &[BlockRef], mut spare: [u64; MAX_CLASSES]) {
        for &block_ref in block_refs {
            let Some((number, class)) = self.class_of(block_ref.block) else { continue };
            let block_ref = self.empty(writer.participant, writer.intent, class, block_ref, &writer.extents);
            match (spare.get_mut(number), writer.recent.get_mut(number)) {
                (Some(spare @ 1..), _) => {
                    *spare -= 1;
                    self.make_spare(block_ref); // if that fails, a repairer has done it
                }
                (_, Some(recent)) if self.pool.free(block_ref) => *recent = block_ref.block,
                _ => {}
            }
        }
    }

    /// Gives back the memory of a block that is about to be free or spare, if it has an extent.
    /// Returns the reference to it from then on, which is invalid if somebody else has freed it.
    ///
    /// The record can be used for that: what its first word names is linked, was freed, or is this
    /// block.
    fn empty(
        &self,
        participant: usize,
        record: usize,
        class: &Class,
        block_ref: BlockRef,
        extents: &impl Extents,
    ) -> BlockRef {
        if !class.is_long() {
            return block_ref;
        }
        self.announce(record, 0, block_ref.block);
        let Some(own) = self.pool.take_over(block_ref, participant) else { return block_ref };
        extents.give_back(own.block);
        own
    }

    fn make_spare(&self, block_ref: BlockRef) {
        fence(Ordering::Release); // E6
        let _ = self.pool.take_over(block_ref, SPARE);
    }

    /// Frees the spare blocks of a class that are too many. Takes them as that participant, after
    /// it has allocated `count` others. Returns whether there were any.
    ///
    /// A block that moves while it looks may look like two. So it takes a block first, and frees it
    /// if what it has counted before is spare still.
    fn free_excess(&self, participant: usize, record: usize, count: usize, class: &Class) -> bool {
        let mut spares = self.spares(class);
        let mut enough = BlockRefs::EMPTY;
        spares.by_ref().take(class.spare as usize).for_each(|spare| enough.push(spare));
        let mut has_freed = false;
        for spare in spares {
            self.announce(record, count, spare.block);
            let Some(taken) = self.pool.take_over(spare, participant) else { continue }; // E7
            fence(Ordering::SeqCst); // E6, E7
            if !enough.as_slice().iter().all(|&spare| self.pool.is_allocated(spare)) {
                self.make_spare(taken);
                break;
            }
            has_freed |= self.pool.free(taken);
        }
        has_freed
    }

    /// The words for the blocks that an operation allocates.
    fn allocated_by(&self, record: usize) -> &[AtomicU64] {
        let start = record.checked_mul(INTENT).and_then(|start| start.checked_add(ALLOCATED));
        start.and_then(|start| self.intents.get(start..start.checked_add(MAX_CHAIN)?)).unwrap_or_default()
    }

    fn intent(&self, record: usize) -> Option<(&AtomicU64, &[AtomicU64])> {
        let start = record.checked_mul(INTENT)?;
        self.intents.get(start..start.checked_add(INTENT)?)?.split_first()
    }

    fn store_intent(&self, record: usize, block_refs: &[BlockRef]) {
        let Some((count, words)) = self.intent(record).filter(|_| !block_refs.is_empty()) else { return };
        fence(Ordering::Release); // E4
        for (words, block_ref) in words.chunks_exact(2).zip(block_refs) {
            if let [block, owner] = words {
                // Relaxed: between the two ends of E4.
                block.store(block_ref.block, Ordering::Relaxed);
                owner.store(block_ref.owner, Ordering::Relaxed); // as above
            }
        }
        count.store(block_refs.len() as u64, Ordering::Release); // E4
    }

    fn clear_intent(&self, record: usize) {
        if let Some((count, _)) = self.intent(record) {
            count.store(0, Ordering::Release); // E4: after what was freed
        }
    }

    /// What was allocated is linked, free or spare.
    fn clear_allocated(&self, record: usize) {
        if let Some(first) = self.allocated_by(record).first() {
            first.store(0, Ordering::Release); // E5: after what was freed
        }
    }

    /// Whether no operation is in progress.
    fn is_clear(&self, record: usize) -> bool {
        let count = self.intent(record).map(|(count, _)| count);
        let mut words = count.into_iter().chain(self.allocated_by(record).first());
        words.all(|word| word.load(Ordering::Relaxed) == 0) // E4, E5, and the writer is dead, or E8
    }

    /// Returns what a dead participant has left: the blocks that its records name and that are not
    /// linked. Nobody repairs that participant at the same time. If a bucket cannot be read, what
    /// may belong to it stays allocated.
    ///
    /// If it was killed in the middle of an operation, that takes a look at all owner words.
    pub(crate) fn repair(
        &self,
        participant: usize,
        records: Range<usize>,
        extents: &impl Extents,
    ) -> Result<(), Unread> {
        let mut outcome = Ok(());
        for record in records.filter(|&record| !self.is_clear(record)) {
            outcome = outcome.and(self.repair_record(participant, record, extents));
        }
        outcome
    }

    fn repair_record(&self, participant: usize, record: usize, extents: &impl Extents) -> Result<(), Unread> {
        let allocated = self.announced(record).filter_map(|block| self.pool.owned_at(participant, block));
        let left = allocated.chain(self.intended(record));
        let mut outcome = Ok(());
        for block_ref in left {
            outcome = outcome.and(self.make_spare_if_unlinked(participant, record, block_ref, extents));
        }
        outcome?;
        for class in &self.classes {
            self.free_excess(participant, record, 0, class);
        }
        self.clear_intent(record);
        self.clear_allocated(record);
        Ok(())
    }

    /// The blocks that an operation may have allocated.
    fn announced(&self, record: usize) -> impl Iterator<Item = u64> {
        // E5, and the writer is dead, or this is only a place to look at.
        self.allocated_by(record).iter().filter_map(|word| word.load(Ordering::Relaxed).checked_sub(1))
    }

    /// What an intent names.
    fn intended(&self, record: usize) -> impl Iterator<Item = BlockRef> {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed); // as in `announced`, by E4
        self.intent(record).into_iter().flat_map(move |(count, words)| {
            let words = words.chunks_exact(2).take((load(count) as usize).min(MAX_CHAIN));
            words.filter_map(move |words| {
                words.first_chunk().map(|[block, owner]| BlockRef { block: load(block), owner: load(owner) })
            })
        })
    }

    /// Makes a block spare that no bucket reaches, and that is not of a writer that may still link
    /// it.
    fn make_spare_if_unlinked(
        &self,
        participant: usize,
        record: usize,
        block_ref: BlockRef,
        extents: &impl Extents,
    ) -> Result<(), Unread> {
        // A block that is linked is whole, so its hash says where. Any other one is in no bucket.
        let Some((class, [_, sizes, ..])) = self.block(block_ref.block) else { return Ok(()) };
        if self.pool.is_allocated(block_ref) {
            let bucket = self.bucket_of(sizes.load(Ordering::Relaxed) as u32); // linked by the dead, or before it looked
            let find = |head| self.walk(head, |place, _| (place == block_ref.block).then_some(()));
            let (_, linked) = self.consistent(bucket, find, |_| {})?;
            if linked.is_none() {
                self.make_spare(self.empty(participant, record, class, block_ref, extents));
            }
        }
        Ok(())
    }
}
