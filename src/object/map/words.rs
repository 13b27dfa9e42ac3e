//! The words of a map, and what the table, repair and inspection need to know of it.
//!
//! ```text
//! words
//!      0  seed            of the hashes
//!      1  key size        0: bytes
//!      2  key align
//!      3  key tag
//!      4  value size      0: bytes
//!      5  value align
//!      6  value tag
//!      7  buckets
//!      8  classes         words of a block and number of entries, for each of four; 0, 0: none
//!     16  extents         the longest value in an extent, in bytes, for each class; 0: in blocks
//!     32  heads           one for each bucket
//!    ...  events          16 words each: that of bucket b is number b modulo their number
//!    ...  owners          one for each block; those of a class end with the spare ones
//!    ...  intent records  48 words, for each of 8 threads of each participant
//!    ...  blocks          all of the first class, then of the next
//! ```
//!
//! Each part begins at a multiple of 16 words. Behind the mapping are the extents, whole pages, in
//! the order of their blocks: those of long classes, which come last. What heads, owners, intent
//! records and blocks are is in `raw/map.rs`.

use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, ErrorKind, Result};
use crate::object::kind::{Description, Kind, ObjectWords};
use crate::object::map::extents::MapExtents;
use crate::object::map::statistics::MapInfo;
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::primitive::{AtomicU64, Ordering, WORD};
use crate::raw::map::{BlockSize, HEADER, INTENT, MAX_BLOCKS, MAX_CHAIN, MAX_CLASSES, Map, MapWords};
use crate::region::Region;
use crate::region::layout::PADDING_WORDS;
use crate::region::layout::header::ElementType;
use crate::region::words::Mapped;
use crate::sys::file;
use crate::sys::mapping::PAGE;

const KEY: usize = 1;
const VALUE: usize = 4;
const BUCKETS: usize = 7;
const CLASSES: usize = 8;
const EXTENTS: usize = CLASSES + 2 * MAX_CLASSES;
const HEADS: usize = 32;
const SEED: usize = 0;

/// Events at most.
const MAX_EVENTS: usize = 64;

/// Threads of a process that may write at the same time. More wait for one of these.
pub(super) const WRITERS: usize = 8;

/// The most words of a block.
const MAX_BLOCK_WORDS: u64 = 1 << 28;

/// Buckets for each long entry. What is in front of an entry in its bucket is copied when that one
/// changes: in front of a long one there is seldom anything.
const LONG_BUCKETS: u64 = 8;

/// Entries of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Class {
    /// Of a block. 0: there is no such class.
    pub(crate) words: u64,
    pub(crate) entries: u64,
    /// The longest value in the extent of such a block, in bytes. 0: values are in the blocks.
    pub(crate) extent: u64,
}

impl Class {
    /// A bucket has no use for more.
    fn spare(self) -> u64 {
        self.entries.min(MAX_CHAIN as u64)
    }

    fn blocks(self) -> Option<u64> {
        self.entries.checked_add(self.spare())
    }

    /// From one extent to the next.
    fn extent_stride(self) -> u64 {
        self.extent.next_multiple_of(PAGE)
    }

    /// Bytes of keys, and of values unless those are in extents.
    fn block_bytes(self) -> u64 {
        self.words.saturating_sub(HEADER as u64).saturating_mul(8)
    }
}

/// Bytes of a key or a value in a block, if its type has a size. 0: it can be of any length.
pub(super) fn fixed_bytes(element: ElementType) -> u64 {
    match element {
        ElementType::Value { size, .. } => size.div_ceil(8).saturating_mul(8),
        ElementType::Bytes => 0,
    }
}

/// What a map is like: all that follows from its options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapGeometry {
    pub(crate) key: ElementType,
    pub(crate) value: ElementType,
    classes: [Class; MAX_CLASSES],
}

/// First word and number of words.
type Part = (usize, usize);

struct Parts {
    heads: Part,
    events: Part,
    owners: Part,
    intents: Part,
    blocks: Part,
}

impl Parts {
    fn end(&self) -> Option<usize> {
        self.blocks.0.checked_add(self.blocks.1)
    }
}

impl MapGeometry {
    /// Refuses classes that a map cannot have. They are in the order of their sizes.
    pub(crate) fn new(key: ElementType, value: ElementType, classes: &[Class]) -> Result<Self> {
        let refuse = |what, found: u64, expected: String, remedy| {
            let action = format!("lay out a map with this {what}");
            Err(Error::new(ErrorKind::InvalidOptions, action, found, expected, remedy))
        };
        if !(1..=MAX_CLASSES).contains(&classes.len()) {
            let (found, expected) = (classes.len() as u64, format!("1 to {MAX_CLASSES}"));
            return refuse("number of sizes", found, expected, "let the larger sizes hold what the others would");
        }
        let mut pairs = classes.iter().zip(classes.iter().skip(1));
        if let Some((_, next)) = pairs.find(|(class, next)| (class.extent, class.words) > (next.extent, next.words)) {
            return refuse("order of sizes", next.words, "none below the one before".into(), "sort them");
        }
        let mut all = [Class::default(); MAX_CLASSES];
        all.iter_mut().zip(classes).for_each(|(class, own)| *class = *own);
        let geometry = Self { key, value, classes: all };
        let most = Class { words: MAX_BLOCK_WORDS, ..Class::default() }.block_bytes();
        for class in classes {
            // Of a block, and of an extent.
            let least = match class.extent {
                0 => (fixed_bytes(key).saturating_add(fixed_bytes(value)), 0),
                _ => (fixed_bytes(key), fixed_bytes(value)),
            };
            for (found, least) in [(class.block_bytes(), least.0), (class.extent, least.1)] {
                if !(least..=most).contains(&found) || class.words < HEADER as u64 {
                    return refuse("size of an entry", found, format!("{least} to {most}"), "choose another");
                }
            }
            if class.entries == 0 {
                return refuse("number of entries", 0, "at least 1".into(), "leave that size out, or give it entries");
            }
        }
        if geometry.blocks().is_none_or(|blocks| blocks > MAX_BLOCKS) {
            let expected = format!("at most {}", MAX_BLOCKS - (MAX_CLASSES * MAX_CHAIN) as u64);
            return refuse("number of entries", geometry.entries(), expected, "choose fewer, or use several maps");
        }
        Ok(geometry)
    }

    pub(super) fn classes(&self) -> impl Iterator<Item = Class> {
        self.classes.into_iter().take_while(|class| *class != Class::default())
    }

    /// How many there can be, of all sizes.
    pub(crate) fn entries(&self) -> u64 {
        self.classes().fold(0, |sum, class| sum.saturating_add(class.entries))
    }

    fn blocks(&self) -> Option<u64> {
        self.classes().try_fold(0_u64, |sum, class| sum.checked_add(class.blocks()?))
    }

    fn spare(&self) -> u64 {
        self.classes().map(Class::spare).sum()
    }

    fn buckets(&self) -> u64 {
        let weight = |class: &Class| if class.extent > 0 { LONG_BUCKETS } else { 1 };
        let buckets = self.classes().map(|class| class.entries.saturating_mul(weight(&class)));
        buckets.fold(0, u64::saturating_add).next_power_of_two()
    }

    /// The longest entry with a key of that many bytes, a multiple of eight: the key and its value,
    /// each rounded up to whole words, in bytes. If the key does not fit, it is less than that.
    pub(super) fn max_entry_bytes(&self, key_bytes: usize) -> usize {
        let bytes = |class: Class| match class.block_bytes() as usize {
            bytes if class.extent > 0 && key_bytes <= bytes => {
                key_bytes.saturating_add((class.extent as usize).next_multiple_of(WORD))
            }
            bytes => bytes,
        };
        self.classes().map(bytes).max().unwrap_or(0)
    }

    /// Bytes of all extents. None: too many.
    fn extent_bytes(&self) -> Option<u64> {
        self.classes()
            .try_fold(0_u64, |sum, class| sum.checked_add(class.blocks()?.checked_mul(class.extent_stride())?))
    }

    /// Where the extent of a block begins, from the first one on, and how long it is. None: there
    /// is none.
    pub(super) fn extent(&self, block: u64) -> Option<(u64, u64)> {
        let (mut first, mut start) = (0, 0);
        for class in self.classes() {
            let (blocks, stride) = (class.blocks()?, class.extent_stride());
            if block - first < blocks {
                return (stride > 0).then_some((start + (block - first) * stride, stride));
            }
            (first, start) = (first + blocks, start + blocks * stride);
        }
        None
    }

    pub(crate) fn matches(&self, other: &Self) -> bool {
        self.key.matches(other.key) && self.value.matches(other.value)
    }

    fn block_sizes(&self) -> Vec<BlockSize> {
        let size = |class: Class| BlockSize {
            words: class.words as usize,
            count: class.entries + class.spare(),
            spare: class.spare(),
            extent: class.extent as usize,
        };
        self.classes().map(size).collect()
    }

    /// None: too many words.
    fn parts(&self, participants: usize) -> Option<Parts> {
        let after = |(start, length): Part| start.checked_add(length)?.checked_next_multiple_of(PADDING_WORDS);
        let buckets = self.buckets() as usize;
        let heads = (HEADS, buckets);
        let events = (after(heads)?, buckets.min(MAX_EVENTS) * PADDING_WORDS);
        let owners = (after(events)?, self.blocks()? as usize);
        let intents = (after(owners)?, participants.checked_mul(WRITERS * INTENT)?);
        let words = self.block_sizes().iter().try_fold(0_usize, |sum, size| {
            sum.checked_add(size.words.checked_mul(usize::try_from(size.count).ok()?)?)
        })?;
        Some(Parts { heads, events, owners, intents, blocks: (after(intents)?, words) })
    }

    fn header(&self) -> [u64; HEADS] {
        let mut header = [0; HEADS];
        for (at, element) in [(KEY, self.key), (VALUE, self.value)] {
            if let (ElementType::Value { size, align, tag }, Some([own_size, own_align, own_tag, ..])) =
                (element, header.get_mut(at..))
            {
                (*own_size, *own_align, *own_tag) = (size, align, u64::from_le_bytes(tag));
            }
        }
        if let Some(word) = header.get_mut(BUCKETS) {
            *word = self.buckets();
        }
        let words = self.classes.iter().flat_map(|class| [class.words, class.entries]);
        header.iter_mut().skip(CLASSES).zip(words).for_each(|(word, own)| *word = own);
        let extents = self.classes.iter().map(|class| class.extent);
        header.iter_mut().skip(EXTENTS).zip(extents).for_each(|(word, own)| *word = own);
        header
    }
}

/// Accepts what [`MapGeometry::header`] writes.
fn parse(words: &[u64; HEADS]) -> Option<MapGeometry> {
    let word = |at: usize| words.get(at).copied();
    let element = |at: usize| ElementType::parse(word(at)?, word(at + 1)?, word(at + 2)?);
    let mut classes = [Class::default(); MAX_CLASSES];
    let extents = words.get(EXTENTS..)?;
    for ((class, words), extent) in classes.iter_mut().zip(words.get(CLASSES..)?.chunks_exact(2)).zip(extents) {
        if let [words, entries] = *words {
            *class = Class { words, entries, extent: *extent };
        }
    }
    let count = classes.iter().take_while(|class| **class != Class::default()).count();
    let geometry = MapGeometry::new(element(KEY)?, element(VALUE)?, classes.get(..count)?).ok()?;
    (geometry.header().get(KEY..) == words.get(KEY..)).then_some(geometry)
}

/// For those that write nothing.
fn extents_of<'a>(object: &ObjectWords<'a>, unchecked_bytes: &'a AtomicU64) -> Option<MapExtents<'a>> {
    let ObjectWords { region, spec, extents: start, .. } = *object;
    Some(MapExtents { region, geometry: spec.map.as_ref()?, start, unchecked_bytes })
}

pub(super) fn map_of(object: &ObjectWords<'_>) -> Option<Map<Mapped>> {
    let geometry = object.spec.map?;
    let parts = geometry.parts(object.participants())?;
    let words = |(start, length)| object.words(start, length);
    let words = MapWords {
        heads: words(parts.heads),
        owners: words(parts.owners),
        blocks: words(parts.blocks),
        intents: words(parts.intents),
    };
    Some(Map::new(words, &geometry.block_sizes()))
}

/// Where the events are.
pub(super) fn events_of(object: &ObjectWords<'_>) -> Option<impl Iterator<Item = usize>> {
    let (start, length) = object.spec.map?.parts(object.participants())?.events;
    Some((start..start + length).step_by(PADDING_WORDS))
}

pub(super) fn seed(object: &ObjectWords<'_>) -> u64 {
    object.word(SEED).load(Ordering::Relaxed) // written before anybody else could see it
}

pub(crate) struct MapKind;

impl Kind for MapKind {
    fn name(&self) -> &'static str {
        "map"
    }

    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize> {
        spec.map?.parts(participants)?.end()
    }

    fn extent_bytes(&self, spec: &ObjectSpec) -> Option<u64> {
        spec.map.map_or(Some(0), |geometry| geometry.extent_bytes())
    }

    fn initialise(&self, object: &ObjectWords<'_>, _: &InitialValue) -> Result<()> {
        let header = object.spec.map.map_or([0; HEADS], |geometry| geometry.header());
        for (word, value) in object.words(0, HEADS).iter().zip(header) {
            word.store(value, Ordering::Relaxed); // no other process can see the region yet
        }
        object.word(SEED).store(RandomState::new().hash_one(0), Ordering::Relaxed); // as above
        if let Some(map) = map_of(object) {
            map.fill_spares();
        }
        Ok(())
    }

    fn release_dead(&self, object: &ObjectWords<'_>, participants: &[usize]) {
        let unchecked_bytes = AtomicU64::new(0);
        let Some((map, extents)) = map_of(object).zip(extents_of(object, &unchecked_bytes)) else { return };
        for &participant in participants {
            // What cannot be read stays allocated. Those that read that bucket get the error.
            let _ = map.repair(participant, participant * WRITERS..(participant + 1) * WRITERS, &extents);
        }
    }

    fn repair_cost(&self, spec: &ObjectSpec, participants: usize) -> usize {
        // Of one killed in the middle of a change also the owners of all blocks.
        participants * WRITERS * INTENT + self.steps(spec) as usize
    }

    fn steps(&self, spec: &ObjectSpec) -> u64 {
        spec.map.and_then(|geometry| geometry.blocks()).unwrap_or(0)
    }

    fn describe(&self, object: &ObjectWords<'_>) -> Description {
        let state = map_of(object).zip(object.spec.map).map(|(map, geometry)| {
            let (entries, places) = (map.len(), geometry.entries());
            let free = (places + geometry.spare()).saturating_sub(map.allocated() + map.spare());
            let long = match geometry.extent_bytes() {
                None | Some(0) => String::new(),
                Some(bytes) => {
                    let present = file::present(object.region.file(), object.extents, bytes);
                    format!("; {present} bytes of long values")
                }
            };
            format!("{entries} of {places} entries; {free} blocks free, {} spare{long}", map.spare())
        });
        Description { state: state.unwrap_or_default(), map: MapInfo::of(object), ..Description::default() }
    }

    fn length(&self, spec: &ObjectSpec) -> Option<u64> {
        spec.map.map(|geometry| geometry.entries())
    }

    fn type_name(&self, spec: &ObjectSpec, count: Option<u64>) -> String {
        let Some(geometry) = spec.map else { return self.name_with_article() };
        let name = |element| match element {
            ElementType::Bytes => "bytes".to_string(),
            value => value.to_string(),
        };
        let count = count.map_or(String::new(), |_| format!(" of {}", geometry.entries()));
        format!("a map{count} from {} to {}", name(geometry.key), name(geometry.value))
    }

    fn read_header(&self, spec: &mut ObjectSpec, region: &Region, start: usize, length: usize) -> bool {
        if length < HEADS {
            return false;
        }
        let mut copy = [0; HEADS];
        for (value, word) in copy.iter_mut().zip(region.words(start, HEADS).iter()) {
            *value = word.load(Ordering::Relaxed); // checked as a header is
        }
        spec.map = parse(&copy);
        spec.map.is_some()
    }
}
