//! The kinds of objects, and what the table, repair and inspection need to know of each.
//!
//! Each kind implements [`Kind`] in its own file, beside a picture of its words and their offsets.
//! [`ObjectKind`] names the kinds, and [`KINDS`] has the implementation of each.

use std::fmt;

use crate::error::Result;
use crate::object::map::MapInfo;
use crate::object::spec::{Buffers, InitialValue, ObjectSpec};
use crate::object::{
    array, atomic, barrier, bounded_semaphore, condvar, event, list, map, mutex, nested, once, rw_lock, semaphore,
    value,
};
use crate::primitive::{Ordering, store_bytes};
use crate::raw::event_count::EventCount;
use crate::raw::robust_lock::RobustLock;
use crate::region::Region;
use crate::region::layout::header::RegionKind;
use crate::region::words::{Mapped, Word, Words};

/// What an object of a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ObjectKind {
    /// [`Value`](crate::sync::Value)
    Value = 1,
    /// [`AtomicValue`](crate::sync::AtomicValue)
    Atomic,
    /// [`Array`](crate::sync::Array)
    Array,
    /// [`Mutex`](crate::sync::Mutex)
    Mutex,
    /// [`ReentrantMutex`](crate::sync::ReentrantMutex)
    ReentrantMutex,
    /// [`RwLock`](crate::sync::RwLock)
    RwLock,
    /// [`Semaphore`](crate::sync::Semaphore)
    Semaphore,
    /// [`BoundedSemaphore`](crate::sync::BoundedSemaphore)
    BoundedSemaphore,
    /// [`Condvar`](crate::sync::Condvar)
    Condvar,
    /// [`Event`](crate::sync::Event)
    Event,
    /// [`Barrier`](crate::sync::Barrier)
    Barrier,
    /// [`Once`](crate::sync::Once)
    Once,
    /// [`Queue`](crate::queue::Queue)
    Queue,
    /// [`Publisher`](crate::broadcast::Publisher) and [`Subscriber`](crate::broadcast::Subscriber)
    Broadcast,
    /// [`Map`](crate::collections::Map)
    Map,
    /// [`List`](crate::collections::List)
    List,
}

/// All kinds, in the order of their codes in the table.
const KINDS: [(ObjectKind, &dyn Kind); 16] = [
    (ObjectKind::Value, &value::ValueKind),
    (ObjectKind::Atomic, &atomic::AtomicKind),
    (ObjectKind::Array, &array::ArrayKind),
    (ObjectKind::Mutex, &mutex::MutexKind { name: "mutex" }),
    (ObjectKind::ReentrantMutex, &mutex::MutexKind { name: "re-entrant mutex" }),
    (ObjectKind::RwLock, &rw_lock::RwLockKind),
    (ObjectKind::Semaphore, &semaphore::SemaphoreKind),
    (ObjectKind::BoundedSemaphore, &bounded_semaphore::BoundedSemaphoreKind),
    (ObjectKind::Condvar, &condvar::CondvarKind),
    (ObjectKind::Event, &event::EventKind),
    (ObjectKind::Barrier, &barrier::BarrierKind),
    (ObjectKind::Once, &once::OnceKind),
    (ObjectKind::Queue, &nested::NestedKind { name: "queue", region: RegionKind::Queue }),
    (ObjectKind::Broadcast, &nested::NestedKind { name: "broadcast", region: RegionKind::Broadcast }),
    (ObjectKind::Map, &map::words::MapKind),
    (ObjectKind::List, &list::words::ListKind),
];

#[expect(clippy::indexing_slicing, reason = "while compiling")]
const _: () = {
    let mut index = 0;
    while index < KINDS.len() {
        assert!(KINDS[index].0 as usize == index + 1, "a kind's place in the list is its code");
        index += 1;
    }
};

impl ObjectKind {
    /// Its code in an entry of the table.
    pub(super) fn code(self) -> u64 {
        self as u64
    }

    pub(super) fn from_code(code: u64) -> Option<Self> {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        KINDS.get(index).map(|(kind, _)| *kind)
    }

    /// The implementation of this kind.
    #[expect(clippy::indexing_slicing, reason = "KINDS has every kind, as just asserted")]
    pub(crate) fn functions(self) -> &'static dyn Kind {
        KINDS[self as usize - 1].1
    }

    /// All kinds there are.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn all() -> impl ExactSizeIterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.functions().name())
    }
}

/// Words that several kinds have in the same place.
pub(crate) const STATE: usize = 0;
pub(crate) const EVENT: usize = 1;
/// First of the many words of an array, a bounded semaphore, a barrier or a list.
pub(crate) const ELEMENTS_OFFSET: usize = 16;

/// A kind of object: its size, its initial words, its repair, and its description. What handles of
/// it do is none of this trait's business.
pub(crate) trait Kind: Sync {
    /// The name of the kind, for people.
    fn name(&self) -> &'static str;

    /// The name with its article.
    fn name_with_article(&self) -> String {
        let article = if self.name().starts_with(['a', 'e']) { "an" } else { "a" };
        format!("{article} {}", self.name())
    }

    /// Refuses what cannot be laid out.
    fn check(&self, spec: &ObjectSpec) -> Result<()> {
        spec.expect_no_value()?;
        spec.expect_no_count()
    }

    /// Words of such an object in a namespace with that many participants. None: too many.
    fn footprint(&self, spec: &ObjectSpec, participants: usize) -> Option<usize>;

    /// Where the versions of its value are, if it holds one.
    fn buffers(&self, _spec: &ObjectSpec, _participants: usize) -> Option<Buffers> {
        None
    }

    /// Writes the initial value. All words of a fresh object are zero.
    fn initialise(&self, object: &ObjectWords<'_>, initial: &InitialValue) -> Result<()> {
        match initial {
            InitialValue::Zero => {}
            // Relaxed: no other process can see the region yet.
            InitialValue::Word(value) => object.word(STATE).store(*value, Ordering::Relaxed),
            InitialValue::Bytes(bytes) => {
                let offset = self.buffers(object.spec, object.participants()).map_or(STATE, |buffers| buffers.offset);
                store_bytes(object.all().get(offset..).unwrap_or_default(), bytes);
            }
        }
        Ok(())
    }

    /// Bytes of extents that such an object has, whole pages. They are not mapped. None: too many.
    fn extent_bytes(&self, _spec: &ObjectSpec) -> Option<u64> {
        Some(0)
    }

    /// Releases what these participants hold, which are dead or about to leave, and wakes those
    /// that wait for it.
    fn release_dead(&self, _object: &ObjectWords<'_>, _participants: &[usize]) {}

    /// Shared words that [`release_dead`](Self::release_dead) reads for that many participants.
    fn repair_cost(&self, _spec: &ObjectSpec, participants: usize) -> usize {
        participants
    }

    /// Slots, blocks or permits that one scan of the object visits, in repair and in statistics:
    /// the part of this object in `Layout::steps`.
    fn steps(&self, _spec: &ObjectSpec) -> u64 {
        0
    }

    /// Its state at this moment, for inspection.
    fn describe(&self, _object: &ObjectWords<'_>) -> Description {
        Description::default()
    }

    /// Elements, permits or parties, if their number is fixed.
    fn length(&self, _spec: &ObjectSpec) -> Option<u64> {
        None
    }

    /// Names a type of this kind in messages. `count` is None if any will do.
    fn type_name(&self, spec: &ObjectSpec, _count: Option<u64>) -> String {
        match spec.element() {
            Some(element) => format!("{} ({element})", self.name_with_article()),
            None => self.name_with_article(),
        }
    }

    /// Reads what describes the object besides its entry in the table, into `spec`. A nested queue,
    /// a nested broadcast and a map have a header. Returns whether it is valid.
    fn read_header(&self, _spec: &mut ObjectSpec, _region: &Region, _start: usize, _length: usize) -> bool {
        true
    }
}

/// An object at one moment. Processes are given as indices of participants, which may be invalid.
#[derive(Default)]
pub(crate) struct Description {
    /// The value, or the first elements.
    pub(crate) value: Option<String>,
    /// The owner of its lock.
    pub(crate) owner: Option<usize>,
    /// Those that read, have permits, or have arrived.
    pub(crate) users: Vec<usize>,
    /// Anything else, in a few words.
    pub(crate) state: String,
    /// What only a map has.
    pub(crate) map: Option<MapInfo>,
}

/// The words of one object, for whatever has no handle: creation, repair and inspection.
pub(crate) struct ObjectWords<'a> {
    pub(crate) region: &'a Region,
    /// Its number in the table.
    pub(crate) index: usize,
    pub(crate) spec: &'a ObjectSpec,
    /// Its first word.
    pub(crate) start: usize,
    pub(crate) length: usize,
    /// Where in the file its extents begin.
    pub(crate) extents: u64,
}

impl ObjectWords<'_> {
    pub(crate) fn participants(&self) -> usize {
        self.region.layout().participants()
    }

    pub(crate) fn word(&self, offset: usize) -> Word {
        self.region.word(self.start + offset)
    }

    pub(crate) fn words(&self, offset: usize, length: usize) -> Words {
        self.region.words(self.start + offset, length)
    }

    pub(crate) fn all(&self) -> Words {
        self.words(0, self.length)
    }

    pub(crate) fn event(&self, offset: usize) -> EventCount<Mapped> {
        EventCount::new(self.region.futex(self.start + offset))
    }

    pub(crate) fn lock(&self, offset: usize) -> RobustLock<Mapped> {
        RobustLock::new(self.word(offset))
    }
}
