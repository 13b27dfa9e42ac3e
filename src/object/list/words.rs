//! The words of a list, and what the table, repair and inspection need to know of it.
//!
//! ```text
//! words
//!      0  root
//!      1  event
//!     16  owners           one for each block
//!    ...  intent records   one for each of 2 threads of each participant
//!    ...  blocks           directories, then chunks
//! ```
//!
//! Each part begins at a multiple of 16 words. What they are is in `raw/list.rs`.

use crate::error;
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectWords, STATE};
use crate::object::spec::ObjectSpec;
use crate::object::writers::pause;
use crate::primitive::load_bytes;
use crate::raw::list::{List, ListWords, MAX_CHUNKS, MAX_LENGTH, Shape, View};
use crate::region::layout::PADDING_WORDS;
use crate::region::layout::header::ElementType;
use crate::region::words::Mapped;

pub(super) const ROOT: usize = STATE;
pub(super) const LIST_EVENT: usize = EVENT;
const OWNERS: usize = ELEMENTS_OFFSET;

/// Threads of a process that may write at the same time. More wait for one of these.
pub(super) const WRITERS: usize = 2;

/// Words of a chunk, at least, if an element is shorter.
const MIN_CHUNK_WORDS: u64 = 8;

/// Words of all elements at most: more than can be mapped.
const MAX_WORDS: u64 = 1 << 44;

/// Elements that are shown.
const SHOWN: u64 = 8;

/// What follows from the options and the number of processes. None: too large.
///
/// A change copies the directory and two or three chunks. A chunk has as many words as a directory
/// has chunks.
fn shape(spec: &ObjectSpec, participants: usize) -> Option<Shape> {
    let (capacity, width) = (spec.count, spec.value_words().max(1));
    capacity.checked_mul(width as u64).filter(|&words| words <= MAX_WORDS)?;
    let per_chunk = (capacity / width as u64).isqrt().max(MIN_CHUNK_WORDS / width as u64).max(1);
    let mut shape = Shape { capacity, width, per_chunk, per_change: 0, writers: participants.checked_mul(WRITERS)? };
    // One change can replace all that there is.
    shape.per_change = shape.linked_chunks().max(3) as usize;
    (shape.blocks() <= MAX_CHUNKS).then_some(shape)
}

/// First word and number of words.
type Part = (usize, usize);

struct Parts {
    owners: Part,
    records: Part,
    blocks: Part,
}

impl Parts {
    fn of(shape: &Shape) -> Self {
        let after = |(start, length): Part| (start + length).next_multiple_of(PADDING_WORDS);
        let owners = (OWNERS, shape.blocks() as usize);
        let records = (after(owners), shape.record_words());
        Self { owners, records, blocks: (after(records), shape.block_words()) }
    }
}

pub(super) fn list_of(object: &ObjectWords<'_>) -> Option<List<Mapped>> {
    let shape = shape(object.spec, object.participants())?;
    let parts = Parts::of(&shape);
    let words = |(start, length)| object.words(start, length);
    let words = ListWords {
        root: object.word(ROOT),
        owners: words(parts.owners),
        blocks: words(parts.blocks),
        records: words(parts.records),
    };
    Some(List::new(words, shape))
}

pub(crate) struct ListKind;

impl Kind for ListKind {
    fn name(&self) -> &'static str {
        "list"
    }

    fn check(&self, spec: &ObjectSpec) -> error::Result<()> {
        spec.expect_value()?;
        spec.expect_count("length", MAX_LENGTH, "give it room for an element at least, or use several lists")
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        let (start, length) = Parts::of(&shape(spec, participants)?).blocks;
        start.checked_add(length)
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        let Some(list) = list_of(object) else { return };
        for &participant in participants {
            list.repair(participant * WRITERS..(participant + 1) * WRITERS);
        }
    }

    fn repair_cost(&self, spec: &ObjectSpec, participants: usize) -> usize {
        shape(spec, participants).map_or(participants, |shape| shape.record_words())
    }

    fn steps(&self, spec: &ObjectSpec) -> u64 {
        shape(spec, 1).map_or(0, |shape| shape.blocks())
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let Some((list, shape)) = list_of(object).zip(shape(object.spec, object.participants())) else {
            return Description::default();
        };
        let look = |view: &View<'_, Mapped>| {
            let mut texts = Vec::new();
            let mut bytes = vec![0; object.spec.size as usize];
            view.visit(0..view.len().min(SHOWN), |words| {
                for element in words.chunks_exact(shape.width) {
                    load_bytes(element, &mut bytes);
                    texts.push(object.spec.format_value(&bytes));
                }
                Ok(())
            })?;
            Ok((view.len(), view.blocks(), texts))
        };
        let Ok((length, linked, mut texts)) = list.read(look, pause) else {
            return Description { state: "cannot be read".into(), ..Description::default() };
        };
        if length > SHOWN {
            texts.push("..".into());
        }
        let free = shape.blocks().saturating_sub(list.allocated());
        let state = format!("{length} of {} elements in {linked} blocks; {free} blocks free", shape.capacity);
        Description { value: Some(format!("[{}]", texts.join(", "))), state, ..Description::default() }
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        Some(spec.count)
    }

    fn type_name(&self, spec: &ObjectSpec, count: Option<u64>) -> String {
        let element = ElementType::Value { size: spec.size, align: spec.align, tag: spec.tag };
        match count {
            Some(count) => format!("a list of up to {count} {element}"),
            None => format!("a list of {element}"),
        }
    }
}
