//! The objects of a namespace: their table, and the words of each kind.
//!
//! An entry of the table is written once, when the namespace is made. Like a header it is read once, checked against the
//! real size, and kept in private memory; where an object lies and how large it is follows from what it is.
//!
//! The words of an object, from its own beginning; each begins on a pair of cache lines:
//!
//! ```text
//!                     0          1        2          3        4 ..            16 ..               32 ..       48 ..
//! value               committed  writing  buffers, if of one word each        lock: state, event  news, plea  buffers
//! mutex (re-entrant)  state      event    committed  writing  buffers, if they fit, or here
//! rw lock             state      event    committed  writing                  drained             readers, then buffers
//! array               state      event                                        elements
//! semaphore           available  event    event
//! bounded semaphore              event    event                               an owner for each permit
//! condvar                        event
//! event               flag       event
//! barrier             state      event                                        a mark for each lane
//! once                state      event    done       event
//! atomic              value
//! ```

use std::any::TypeId;
use std::collections::BTreeSet;
use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::{AtomicU64, Ordering, WORD};
use crate::raw::{barrier, reader_counts::ReaderCounts, semaphore, seqlock};
use crate::region::Region;
use crate::region::layout::header::ElementType;
use crate::region::layout::namespace::ENTRY_WORDS;
use crate::region::layout::namespace::NamespaceLayout;
use crate::region::layout::queue::QueueLayout;
use crate::region::layout::{Layout, PADDING_WORDS, header};
use crate::region::words::Mapped;

/// What an object of a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ObjectKind {
    /// [`Value`](crate::sync::Value)
    Value,
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
}

/// All of them, by their codes in the table, from 1 on.
const KINDS: [(ObjectKind, &str); 13] = [
    (ObjectKind::Value, "value"),
    (ObjectKind::Atomic, "atomic"),
    (ObjectKind::Array, "array"),
    (ObjectKind::Mutex, "mutex"),
    (ObjectKind::ReentrantMutex, "re-entrant mutex"),
    (ObjectKind::RwLock, "read-write lock"),
    (ObjectKind::Semaphore, "semaphore"),
    (ObjectKind::BoundedSemaphore, "bounded semaphore"),
    (ObjectKind::Condvar, "condition variable"),
    (ObjectKind::Event, "event"),
    (ObjectKind::Barrier, "barrier"),
    (ObjectKind::Once, "once"),
    (ObjectKind::Queue, "queue"),
];

impl ObjectKind {
    fn code(self) -> u64 {
        KINDS.iter().zip(1..).find_map(|((kind, _), code)| (*kind == self).then_some(code)).unwrap_or(0)
    }

    fn from_code(code: u64) -> Option<Self> {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        KINDS.get(index).map(|(kind, _)| *kind)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KINDS.iter().find(|(kind, _)| kind == self).map_or("object", |(_, name)| name))
    }
}

/// The words of an entry.
mod entry {
    pub(super) const KIND: usize = 0;
    pub(super) const SIZE: usize = 1;
    pub(super) const ALIGN: usize = 2;
    pub(super) const TAG: usize = 3;
    pub(super) const COUNT: usize = 4;
    pub(super) const AT: usize = 5;
    pub(super) const WORDS: usize = 6;
    pub(super) const UNUSED: usize = 7;
    pub(super) const NAME: usize = 8;
}

/// Bytes of an object's name.
pub(crate) const NAME_MAX: usize = (ENTRY_WORDS - entry::NAME) * WORD;

/// Words that several kinds have in the same place.
pub(crate) const STATE: usize = 0;
pub(crate) const EVENT: usize = 1;

pub(crate) mod value {
    pub(crate) const LOCK: usize = 16;
    pub(crate) const NEWS: usize = 32;
    pub(crate) const PLEA: usize = 33;
    pub(super) const FIXED: usize = 48;
    /// Of one word each, on the control words' own line.
    pub(super) const SHORT: usize = super::seqlock::CONTROL;
    pub(crate) const BUFFERS: usize = 4;
}

pub(crate) mod mutex {
    pub(crate) const CELL: usize = 2;
    pub(super) const SHORT: usize = 4;
    pub(super) const FIXED: usize = 16;
    pub(crate) const BUFFERS: usize = 2;
}

pub(crate) mod array {
    pub(crate) const PLEA: usize = 2;
}

pub(crate) mod rw_lock {
    pub(crate) const DRAINED: usize = 16;
    pub(crate) const READERS: usize = 32;
}

pub(crate) mod permits {
    /// For those who want more than one.
    pub(crate) const SEVERAL: usize = 2;
}

pub(crate) mod once {
    pub(crate) const DONE: usize = 2;
    pub(crate) const FINISHED: usize = 3;
}

/// Where the many words of an array, a bounded semaphore or a barrier begin.
pub(crate) const MANY: usize = 16;

/// What an object is: all that both sides must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectSpec {
    pub(crate) kind: ObjectKind,
    /// What it holds; size 0 for one that holds nothing.
    pub(crate) size: u64,
    pub(crate) align: u64,
    pub(crate) tag: [u8; 8],
    /// Elements, permits (of a plain semaphore: to begin with) or parties.
    pub(crate) count: u64,
    /// What a queue is.
    pub(crate) queue: Option<QueueLayout>,
}

/// Where the buffers of a cell are, in words from the object's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) at: usize,
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl ObjectSpec {
    pub(crate) fn bare(kind: ObjectKind, count: u64) -> Self {
        Self { kind, size: 0, align: 1, tag: [0; 8], count, queue: None }
    }

    /// An object that holds values of the type.
    pub(crate) fn of<T: 'static>(kind: ObjectKind, count: u64) -> Self {
        let (size, align) = (size_of::<T>() as u64, align_of::<T>() as u64);
        Self { size, align, tag: tag_of::<T>(), ..Self::bare(kind, count) }
    }

    /// Words of what it holds.
    pub(crate) fn content(&self) -> usize {
        self.size.div_ceil(WORD as u64) as usize
    }

    /// The longer ones do not share cache lines.
    fn stride(&self) -> usize {
        let words = self.content();
        if words > 8 { words.next_multiple_of(8) } else { words }
    }

    pub(crate) fn buffers(&self, lanes: usize) -> Buffers {
        let (stride, words) = (self.stride(), self.content());
        let (at, count) = match self.kind {
            ObjectKind::Value if words <= 1 => (value::SHORT, value::BUFFERS),
            ObjectKind::Value => (value::FIXED, value::BUFFERS),
            ObjectKind::RwLock => {
                let readers = ReaderCounts::<Mapped>::words(lanes).next_multiple_of(PADDING_WORDS);
                (rw_lock::READERS + readers, mutex::BUFFERS)
            }
            _ if mutex::SHORT + mutex::BUFFERS * words <= mutex::FIXED => (mutex::SHORT, mutex::BUFFERS),
            _ => (mutex::FIXED, mutex::BUFFERS),
        };
        Buffers { at, stride, count }
    }

    /// Whether an array's elements are parts of words, or words; else each is a cell of its own.
    pub(crate) fn is_narrow(&self) -> bool {
        matches!(self.size, 1 | 2 | 4 | 8)
    }

    /// Words of an array's elements.
    pub(crate) fn elements(&self) -> Option<usize> {
        let words = if self.is_narrow() {
            self.count.checked_mul(self.size)?.div_ceil(WORD as u64)
        } else {
            self.count.checked_mul((seqlock::CONTROL + mutex::BUFFERS * self.content()) as u64)?
        };
        words.try_into().ok()
    }

    /// Words of the whole object.
    pub(crate) fn words(&self, lanes: usize) -> Option<usize> {
        let with_buffers = |least: usize| {
            let buffers = self.buffers(lanes);
            Some(least.max(buffers.at.checked_add(buffers.stride.checked_mul(buffers.count)?)?))
        };
        let words = match self.kind {
            ObjectKind::Value => with_buffers(value::FIXED)?,
            ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::RwLock => with_buffers(mutex::FIXED)?,
            ObjectKind::Array => MANY.checked_add(self.elements()?)?,
            ObjectKind::BoundedSemaphore => MANY.checked_add(self.count.try_into().ok()?)?,
            ObjectKind::Barrier => MANY.checked_add(lanes)?,
            ObjectKind::Queue => Layout::Queue(self.queue?).size() as usize / WORD,
            ObjectKind::Atomic | ObjectKind::Semaphore | ObjectKind::Condvar | ObjectKind::Event | ObjectKind::Once => {
                PADDING_WORDS
            }
        };
        words.checked_next_multiple_of(PADDING_WORDS)
    }

    /// Refuses what cannot be.
    fn check(&self) -> Result<()> {
        let refuse = |what: &str, found: u64, expected: String, remedy: &str| {
            let doing = format!("lay out a {} with this {what}", self.kind);
            Err(Error::new(ErrorKind::InvalidOptions, doing, found, expected, remedy))
        };
        let is_value = !matches!(
            self.kind,
            ObjectKind::Mutex
                | ObjectKind::ReentrantMutex
                | ObjectKind::RwLock
                | ObjectKind::Semaphore
                | ObjectKind::BoundedSemaphore
                | ObjectKind::Condvar
                | ObjectKind::Event
                | ObjectKind::Barrier
                | ObjectKind::Once
                | ObjectKind::Queue
        );
        if is_value && self.size == 0 {
            return refuse("size of a value", 0, "at least 1 byte".into(), "use an event, or a lock of ()");
        }
        if self.kind == ObjectKind::Atomic && !self.is_narrow() {
            return refuse("size of a number", self.size, "1, 2, 4 or 8 bytes".into(), "use a value");
        }
        let is_bare =
            !is_value && !matches!(self.kind, ObjectKind::Mutex | ObjectKind::ReentrantMutex | ObjectKind::RwLock);
        if is_bare && self.size > 0 {
            return refuse("size", self.size, "0 bytes".into(), "it holds nothing");
        }
        if is_bare && self.align != 1 {
            return refuse("alignment", self.align, "1".into(), "it holds nothing");
        }
        if self.align > (PADDING_WORDS * WORD) as u64 {
            return refuse("alignment of a value", self.align, "at most 128".into(), "align the type to a cache line");
        }
        let (what, most, remedy) = match self.kind {
            ObjectKind::Array => ("length", u64::MAX >> 20, "give it an element at least"),
            ObjectKind::BoundedSemaphore => ("number of permits", 1 << 16, "give it a permit at least, or use a mutex"),
            ObjectKind::Semaphore if self.count > semaphore::MAX_PERMITS => {
                ("number of permits", semaphore::MAX_PERMITS, "begin with fewer")
            }
            ObjectKind::Barrier => ("number of parties", barrier::MAX_PARTIES, "count the processes that are to meet"),
            ObjectKind::Semaphore => return Ok(()),
            _ if self.count > 0 => return refuse("count", self.count, "0".into(), "it is one"),
            _ => return Ok(()),
        };
        if !(1..=most).contains(&self.count) {
            return refuse(what, self.count, format!("1 to {most}"), remedy);
        }
        Ok(())
    }

    /// What it holds, for messages.
    pub(crate) fn content_text(&self) -> String {
        let element = ElementType::Value { size: self.size, align: self.align, tag: self.tag };
        match (self.kind, self.queue) {
            (ObjectKind::Queue, Some(layout)) => format!("a queue of {} {}", layout.capacity, layout.element),
            (ObjectKind::Array, _) => format!("an array of {} {element}", self.count),
            (ObjectKind::Semaphore, _) => format!("a semaphore that began with {} permits", self.count),
            (ObjectKind::BoundedSemaphore, _) => format!("a bounded semaphore of {} permits", self.count),
            (ObjectKind::Barrier, _) => format!("a barrier for {} parties", self.count),
            (kind, _) if self.size > 0 => format!("a {kind} ({element})"),
            (kind, _) => format!("a {kind}"),
        }
    }
}

/// The tag of a type that everybody knows by name; zeros for others.
pub(crate) fn tag_of<T: ?Sized + 'static>() -> [u8; 8] {
    macro_rules! known {
        ($($name:ident)*) => { [$((TypeId::of::<$name>(), stringify!($name))),*] };
    }
    let known = known!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 u128 i128);
    let mut tag = [0; 8];
    if let Some((_, name)) = known.iter().find(|(id, _)| *id == TypeId::of::<T>()) {
        tag[..name.len()].copy_from_slice(name.as_bytes());
    }
    tag
}

/// How an object begins.
#[derive(Clone, Debug)]
pub(crate) enum InitialValue {
    Zero,
    Word(u64),
    Content(Vec<u8>),
    Elements(Vec<u8>),
}

/// An object's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) plan: ObjectSpec,
    /// First word.
    pub(crate) at: usize,
    pub(crate) words: usize,
}

/// All objects of a namespace, as this process found them when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    /// Where objects of these plans go.
    pub(crate) fn lay_out(
        plans: Vec<(String, ObjectSpec)>,
        lanes: usize,
        persistent: bool,
    ) -> Result<(Self, NamespaceLayout)> {
        NamespaceLayout::new(1, 1, lanes as u64, persistent)?; // a number of participants that can be
        let mut names = BTreeSet::new();
        for (name, plan) in &plans {
            check_name(name)?;
            plan.check()?;
            if !names.insert(name) {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    "lay out a namespace",
                    format_args!("two objects of the name {name:?}"),
                    "a name for each",
                    "rename one",
                ));
            }
        }
        let too_large = || {
            Error::new(
                ErrorKind::InvalidOptions,
                "lay out a namespace",
                "objects of more bytes than can be counted",
                "a region below 64 TiB",
                "choose smaller ones",
            )
        };
        let mut words = 0_usize;
        let mut entries = Vec::with_capacity(plans.len());
        for (name, plan) in plans {
            let length = plan.words(lanes).ok_or_else(too_large)?;
            entries.push(Entry { name, plan, at: words, words: length });
            words = words.checked_add(length).ok_or_else(too_large)?;
        }
        let layout = NamespaceLayout::new(entries.len() as u64, words as u64, lanes as u64, persistent)?;
        for entry in &mut entries {
            entry.at += layout.first_object();
        }
        Ok((Self { entries }, layout))
    }

    /// Writes the table and the objects' beginnings into a fresh region.
    pub(crate) fn format(&self, region: &Region, initial: &[InitialValue]) -> Result<()> {
        for (index, (entry, initial)) in self.entries.iter().zip(initial).enumerate() {
            let mut row = [0_u64; ENTRY_WORDS];
            let ObjectSpec { kind, size, align, tag, count, .. } = entry.plan;
            row[entry::KIND] = kind.code();
            row[entry::SIZE] = size;
            row[entry::ALIGN] = align;
            row[entry::TAG] = u64::from_le_bytes(tag);
            row[entry::COUNT] = count;
            row[entry::AT] = entry.at as u64;
            row[entry::WORDS] = entry.words as u64;
            for (word, bytes) in row[entry::NAME..].iter_mut().zip(entry.name.as_bytes().chunks(WORD)) {
                let mut padded = [0; WORD];
                padded[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(padded);
            }
            let words = region.words(layout_of(region).entry(index), ENTRY_WORDS);
            store(&words, row);
            entry.begin(region, index, initial)?;
        }
        Ok(())
    }

    /// Believes a table only if this library could have written it into a region of that layout.
    pub(crate) fn parse(region: &Region) -> Result<Self> {
        let layout = layout_of(region);
        let mut at = layout.first_object();
        let end = at + layout.object_words as usize;
        let mut entries: Vec<Entry> = Vec::with_capacity(layout.objects as usize);
        let mut names = BTreeSet::new();
        for index in 0..layout.objects as usize {
            let row = load(&region.words(layout.entry(index), ENTRY_WORDS));
            let entry = Entry::parse(region, &row, at, end);
            let entry = entry.filter(|entry| names.insert(entry.name.clone()));
            let entry = entry.ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    format_args!("open {}", region.display_name()),
                    format_args!("entry {index} of its table damaged"),
                    "one that tombolo writes",
                    "remove the region when nobody uses it",
                )
            })?;
            at += entry.words;
            entries.push(entry);
        }
        if at != end {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format_args!("open {}", region.display_name()),
                format_args!("a table of objects up to word {at}"),
                format_args!("up to word {end}"),
                "remove the region when nobody uses it",
            ));
        }
        Ok(Self { entries })
    }

    /// Words that a look at everything visits, as [`Layout::steps`].
    pub(crate) fn steps(&self) -> u64 {
        let steps = self.entries.iter().map(|entry| match (entry.plan.kind, &entry.plan.queue) {
            (_, Some(queue)) => queue.steps(),
            (ObjectKind::BoundedSemaphore, _) => entry.plan.count,
            _ => 0,
        });
        steps.fold(0, u64::saturating_add)
    }

    pub(crate) fn find(&self, name: &str) -> Option<(usize, &Entry)> {
        self.entries.iter().enumerate().find(|(_, entry)| entry.name == name)
    }
}

/// A namespace's layout. Whatever opens a region as a namespace checks that it is one.
pub(crate) fn layout_of(region: &Region) -> &NamespaceLayout {
    match region.layout() {
        Layout::Namespace(layout) => layout,
        other => unreachable!("{} opened as a namespace", other.kind()),
    }
}

fn store(words: &[AtomicU64], values: impl IntoIterator<Item = u64>) {
    for (word, value) in words.iter().zip(values) {
        word.store(value, Ordering::Relaxed); // nobody else sees the region yet
    }
}

fn load(words: &[AtomicU64]) -> [u64; ENTRY_WORDS] {
    let mut values = [0; ENTRY_WORDS];
    for (value, word) in values.iter_mut().zip(words) {
        *value = word.load(Ordering::Relaxed); // whatever it is, it is checked
    }
    values
}

impl Entry {
    fn parse(region: &Region, row: &[u64; ENTRY_WORDS], at: usize, end: usize) -> Option<Self> {
        let kind = ObjectKind::from_code(row[entry::KIND])?;
        let (size, align, words) = (row[entry::SIZE], row[entry::ALIGN], row[entry::WORDS]);
        let words = usize::try_from(words).ok().filter(|&words| words <= end.saturating_sub(at))?;
        let is_sound = align.is_power_of_two()
            && size.is_multiple_of(align)
            && row[entry::AT] == at as u64
            && row[entry::UNUSED] == 0;
        if !is_sound {
            return None;
        }
        let queue = match kind {
            ObjectKind::Queue => Some(queue_layout(region, at, words)?),
            _ => None,
        };
        let plan =
            ObjectSpec { kind, size, align, tag: row[entry::TAG].to_le_bytes(), count: row[entry::COUNT], queue };
        plan.check().ok()?;
        if plan.words(region.layout().participants())? != words {
            return None;
        }
        let mut name: Vec<u8> = row[entry::NAME..].iter().flat_map(|word| word.to_le_bytes()).collect();
        while name.pop_if(|&mut byte| byte == 0).is_some() {}
        let name = String::from_utf8(name).ok()?;
        check_name(&name).ok()?;
        Some(Self { name, plan, at, words })
    }

    fn begin(&self, region: &Region, index: usize, initial: &InitialValue) -> Result<()> {
        let words = region.words(self.at, self.words);
        match initial {
            InitialValue::Zero => {}
            InitialValue::Word(value) => store(&words, [*value]),
            InitialValue::Content(bytes) => {
                let at = self.plan.buffers(region.layout().participants()).at;
                crate::primitive::store_bytes(words.get(at..).unwrap_or_default(), bytes);
            }
            InitialValue::Elements(bytes) if self.plan.is_narrow() => {
                crate::primitive::store_bytes(words.get(MANY..).unwrap_or_default(), bytes);
            }
            InitialValue::Elements(bytes) => {
                let stride = seqlock::CONTROL + mutex::BUFFERS * self.plan.content();
                let cells = words.get(MANY..).unwrap_or_default().chunks(stride);
                for (cell, element) in cells.zip(bytes.chunks(self.plan.size as usize)) {
                    crate::primitive::store_bytes(cell.get(seqlock::CONTROL..).unwrap_or_default(), element);
                }
            }
        }
        if let Some(layout) = self.plan.queue {
            region.sub_region(self.at, index, Layout::Queue(layout), None)?.format();
        }
        Ok(())
    }
}

/// The layout of a queue within a region, if it is one that can lie there.
fn queue_layout(region: &Region, at: usize, words: usize) -> Option<QueueLayout> {
    let mut copy = [0; header::WORDS];
    if words < header::BYTES / WORD {
        return None;
    }
    for (value, word) in copy.iter_mut().zip(region.words(at, header::WORDS).iter()) {
        *value = word.load(Ordering::Relaxed); // checked as a file's is
    }
    match Layout::parse(&copy, (words * WORD) as u64, "a queue").ok()? {
        Layout::Queue(layout) if layout.geometry.extents == 0 => Some(layout),
        _ => None,
    }
}

/// Names of objects: any text that can be printed on a line.
fn check_name(name: &str) -> Result<()> {
    if name.len() <= NAME_MAX && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::InvalidName,
        "lay out a namespace",
        format_args!("an object of the name {name:?}"),
        format_args!("at most {NAME_MAX} bytes without control characters"),
        "choose another name",
    ))
}

const _: () = assert!(value::PLEA < value::FIXED && entry::WORDS < entry::NAME);
