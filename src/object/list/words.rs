//! The words of a list, and what the table, repair and inspection need to know of it.
//!
//! ```text
//! words
//!      0  root
//!      1  event
//!      2  longest          bytes of an element at most. 0: elements have a type
//!     16  owners           one for each block
//!    ...  intent records   one for each of 2 threads of each participant
//!    ...  blocks           directories, then chunks
//! ```
//!
//! Each part begins at a multiple of 16 words. What they are is in `raw/list.rs`. An element
//! without a type is its length in bytes, and then its bytes.

use crate::error;
use crate::object::kind::{Description, ELEMENTS_OFFSET, EVENT, Kind, ObjectWords, STATE};
use crate::object::list::element::{View, content};
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::object::writers::pause;
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes};
use crate::raw::list::{List, ListWords, MAX_CHUNKS, MAX_LENGTH, Shape};
use crate::region::Region;
use crate::region::layout::PADDING_WORDS;
use crate::region::layout::header::ElementType;
use crate::region::words::Mapped;

pub(super) const ROOT: usize = STATE;
pub(super) const LIST_EVENT: usize = EVENT;
const LONGEST: usize = 2;
const OWNERS: usize = ELEMENTS_OFFSET;

/// Threads of a process that may write at the same time. More wait for one of these: they would
/// only compete for the root, and each has memory for a change of its own. On two CPUs four and
/// eight threads change a list as fast as two (`benches/list.rs`).
pub(super) const WRITERS: usize = 2;

/// Words of a chunk, at least, if an element is shorter.
const MIN_CHUNK_WORDS: u64 = 8;

/// Words of all elements at most: more than can be mapped.
const MAX_WORDS: u64 = 1 << 44;

/// Elements that are shown, and bytes of each.
const SHOWN: u64 = 8;
const SHOWN_BYTES: usize = 32;

/// Words of an element.
fn width(spec: &ObjectSpec) -> usize {
    match spec.max_element_bytes {
        0 => spec.value_words().max(1),
        longest => 1 + longest.div_ceil(WORD as u64) as usize,
    }
}

/// What follows from the options and the number of processes. None: too large.
///
/// A change copies the directory and two or three chunks. A chunk has as many words as a directory
/// has chunks.
fn shape(spec: &ObjectSpec, participants: usize) -> Option<Shape> {
    let (capacity, width) = (spec.count, width(spec));
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
        match (spec.size, spec.max_element_bytes) {
            (0, 0) => spec.refuse("size of an element", 0, "at least 1 byte", "choose another type or limit")?,
            (0, _) => spec.expect_no_value()?,
            (_, 0) => spec.expect_alignment()?,
            (size, longest) => {
                let expected = format!("none: each has {size} bytes");
                spec.refuse("limit of the bytes of an element", longest, &expected, "leave it out")?;
            }
        }
        spec.expect_count("length", MAX_LENGTH, "give it room for an element at least, or use several lists")
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        let (start, length) = Parts::of(&shape(spec, participants)?).blocks;
        start.checked_add(length)
    }

    fn initialise(&self, object: &ObjectWords<'_>, _: &InitialValue) -> error::Result<()> {
        // Relaxed: no other process can see the region yet.
        object.word(LONGEST).store(object.spec.max_element_bytes, Ordering::Relaxed);
        Ok(())
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
        let look = |view: &View<'_>| {
            let mut texts = Vec::new();
            view.visit(0..view.len().min(SHOWN), |words| {
                texts.extend(words.chunks_exact(shape.width).map(|words| show(object.spec, words)));
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
        let element = match (spec.max_element_bytes, count) {
            (0, _) => ElementType::Value { size: spec.size, align: spec.align, tag: spec.tag }.to_string(),
            (_, None) => "elements of bytes".to_string(),
            (longest, Some(_)) => format!("elements of up to {longest} bytes"),
        };
        match count {
            Some(count) => format!("a list of up to {count} {element}"),
            None => format!("a list of {element}"),
        }
    }

    fn read_header(&self, spec: &mut ObjectSpec, region: &Region, start: usize, length: usize) -> bool {
        if length <= LONGEST {
            return false;
        }
        spec.max_element_bytes = region.word(start + LONGEST).load(Ordering::Relaxed); // checked with the rest
        true
    }
}

/// Shows an element, or its beginning.
fn show(spec: &ObjectSpec, words: &[AtomicU64]) -> String {
    let has_type = spec.max_element_bytes == 0;
    let size = has_type.then_some(spec.size as usize);
    let Some((length, words)) = content(size, words) else { return "invalid".into() };
    let mut bytes = vec![0; if has_type { length } else { length.min(SHOWN_BYTES) }];
    load_bytes(words, &mut bytes);
    if has_type {
        return spec.format_value(&bytes);
    }
    let rest = if length > bytes.len() { ".." } else { "" };
    format!("\"{}{rest}\"", bytes.escape_ascii())
}
