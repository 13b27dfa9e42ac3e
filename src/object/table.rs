//! The table of a namespace: which objects it has, and where they are.
//!
//! An entry is written once, when the namespace is made. Like a header it is read once, checked
//! against the real size, and kept in private memory. Where an object lies and how large it is
//! follows from what it is.
//!
//! ```text
//! words of an entry
//!      0  kind       its code
//!      1  size       of a value or an element, in bytes
//!      2  align
//!      3  tag
//!      4  count      elements, permits or parties
//!      5  offset     first word of the object
//!      6  words      of the object
//!      7  unused     0
//!      8  name       padded with zeros
//! ```

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind, Result};
use crate::object::kind::{ObjectKind, ObjectWords};
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::primitive::{AtomicU64, Ordering, WORD};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::namespace::{ENTRY_WORDS, NamespaceLayout};

/// The words of an entry.
mod entry {
    pub(super) const KIND: usize = 0;
    pub(super) const SIZE: usize = 1;
    pub(super) const ALIGN: usize = 2;
    pub(super) const TAG: usize = 3;
    pub(super) const COUNT: usize = 4;
    pub(super) const OFFSET: usize = 5;
    pub(super) const WORDS: usize = 6;
    pub(super) const UNUSED: usize = 7;
    pub(super) const NAME: usize = 8;
}

/// Bytes of an object's name.
pub(crate) const NAME_MAX: usize = (ENTRY_WORDS - entry::NAME) * WORD;

/// An object's entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) spec: ObjectSpec,
    /// First word.
    pub(crate) start: usize,
    /// Words.
    pub(crate) length: usize,
    /// Where in the file its extents begin.
    pub(crate) extents: u64,
}

/// All objects of a namespace, as this process found them when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) entries: Vec<Entry>,
}

impl Table {
    /// Places these objects one after another.
    pub(crate) fn lay_out(
        specs: Vec<(String, ObjectSpec)>,
        participants: usize,
        persistent: bool,
    ) -> Result<(Self, NamespaceLayout)> {
        NamespaceLayout::new(1, 1, 0, participants as u64, persistent)?; // refuses an invalid number of participants
        let mut names = BTreeSet::new();
        for (name, spec) in &specs {
            check_name(name)?;
            spec.check()?;
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
        let (mut words, mut extents) = (0_usize, 0_u64);
        let mut entries = Vec::with_capacity(specs.len());
        for (name, spec) in specs {
            let length = spec.footprint(participants).ok_or_else(too_large)?;
            let extent_bytes = spec.extent_bytes().ok_or_else(too_large)?;
            entries.push(Entry { name, spec, start: words, length, extents });
            words = words.checked_add(length).ok_or_else(too_large)?;
            extents = extents.checked_add(extent_bytes).ok_or_else(too_large)?;
        }
        let objects = entries.len() as u64;
        let layout = NamespaceLayout::new(objects, words as u64, extents, participants as u64, persistent)?;
        for entry in &mut entries {
            entry.start += layout.first_object();
            entry.extents += layout.mapped();
        }
        Ok((Self { entries }, layout))
    }

    /// Writes the table and the objects' initial words into a fresh region.
    pub(crate) fn format(&self, region: &Region, initial: &[InitialValue]) -> Result<()> {
        for (object, (entry, initial)) in self.objects(region).zip(self.entries.iter().zip(initial)) {
            let words = region.words(layout_of(region).entry(object.index), ENTRY_WORDS);
            for (word, value) in words.iter().zip(entry.to_words()) {
                word.store(value, Ordering::Relaxed); // no other process can see the region yet
            }
            entry.spec.kind.functions().initialise(&object, initial)?;
        }
        Ok(())
    }

    /// Accepts a table only if this library could have written it into a region of that layout.
    pub(crate) fn parse(region: &Region) -> Result<Self> {
        let layout = layout_of(region);
        let mut start = layout.first_object();
        let end = start + layout.object_words as usize;
        let mut extents = layout.mapped();
        let extents_end = extents + layout.extent_bytes;
        let mut entries: Vec<Entry> = Vec::with_capacity(layout.objects as usize);
        let mut names = BTreeSet::new();
        for index in 0..layout.objects as usize {
            let row = load(&region.words(layout.entry(index), ENTRY_WORDS));
            let entry = Entry::parse(region, &row, start, end);
            let entry = entry.filter(|entry| names.insert(entry.name.clone())).and_then(|entry| {
                let next = extents.checked_add(entry.spec.extent_bytes()?)?;
                let extents = std::mem::replace(&mut extents, next);
                (next <= extents_end).then_some(Entry { extents, ..entry })
            });
            let entry = entry.ok_or_else(|| {
                Error::new(
                    ErrorKind::Corrupt,
                    format_args!("open {}", region.display_name()),
                    format_args!("entry {index} of its table damaged"),
                    "one that tombolo writes",
                    "remove the region when nobody uses it",
                )
            })?;
            start += entry.length;
            entries.push(entry);
        }
        if (start, extents) != (end, extents_end) {
            return Err(Error::new(
                ErrorKind::Corrupt,
                format_args!("open {}", region.display_name()),
                format_args!("a table of objects up to word {start}, and of extents up to byte {extents}"),
                format_args!("up to word {end}, and up to byte {extents_end}"),
                "remove the region when nobody uses it",
            ));
        }
        Ok(Self { entries })
    }

    /// The objects' words in a region that has this table.
    pub(crate) fn objects<'a>(&'a self, region: &'a Region) -> impl Iterator<Item = ObjectWords<'a>> {
        self.entries.iter().enumerate().map(|(index, entry)| entry.object(region, index))
    }

    /// Words that a visit to everything reads, as [`Layout::steps`] counts them.
    pub(crate) fn steps(&self) -> u64 {
        let steps = self.entries.iter().map(|entry| entry.spec.kind.functions().steps(&entry.spec));
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

fn load(words: &[AtomicU64]) -> [u64; ENTRY_WORDS] {
    let mut values = [0; ENTRY_WORDS];
    for (value, word) in values.iter_mut().zip(words) {
        *value = word.load(Ordering::Relaxed); // whatever it is, it is checked
    }
    values
}

impl Entry {
    /// Its object, as number `index` of the table.
    pub(crate) fn object<'a>(&'a self, region: &'a Region, index: usize) -> ObjectWords<'a> {
        let Self { spec, start, length, extents, .. } = self;
        ObjectWords { region, index, spec, start: *start, length: *length, extents: *extents }
    }

    fn to_words(&self) -> [u64; ENTRY_WORDS] {
        let mut row = [0_u64; ENTRY_WORDS];
        let ObjectSpec { kind, size, align, tag, count, .. } = self.spec;
        row[entry::KIND] = kind.code();
        row[entry::SIZE] = size;
        row[entry::ALIGN] = align;
        row[entry::TAG] = u64::from_le_bytes(tag);
        row[entry::COUNT] = count;
        row[entry::OFFSET] = self.start as u64;
        row[entry::WORDS] = self.length as u64;
        for (word, bytes) in row[entry::NAME..].iter_mut().zip(self.name.as_bytes().chunks(WORD)) {
            for (&byte, shift) in bytes.iter().zip((0..).step_by(8)) {
                *word |= u64::from(byte) << shift;
            }
        }
        row
    }

    /// Reads the entry of an object that begins at `start` and ends at `end` at the latest, all but
    /// the place of its extents.
    fn parse(region: &Region, row: &[u64; ENTRY_WORDS], start: usize, end: usize) -> Option<Self> {
        let kind = ObjectKind::from_code(row[entry::KIND])?;
        let (size, align, count) = (row[entry::SIZE], row[entry::ALIGN], row[entry::COUNT]);
        let length = usize::try_from(row[entry::WORDS]).ok()?;
        let is_valid = length <= end.saturating_sub(start)
            && align.is_power_of_two()
            && size.is_multiple_of(align)
            && row[entry::OFFSET] == start as u64
            && row[entry::UNUSED] == 0;
        if !is_valid {
            return None;
        }
        let tag = row[entry::TAG].to_le_bytes();
        let mut spec = ObjectSpec { size, align, tag, ..ObjectSpec::without_value(kind, count) };
        if !kind.functions().read_header(&mut spec, region, start, length) {
            return None;
        }
        spec.check().ok()?;
        if spec.footprint(region.layout().participants())? != length {
            return None;
        }
        let mut name: Vec<u8> = row[entry::NAME..].iter().flat_map(|word| word.to_le_bytes()).collect();
        while name.pop_if(|&mut byte| byte == 0).is_some() {}
        let name = String::from_utf8(name).ok()?;
        check_name(&name).ok()?;
        Some(Self { name, spec, start, length, extents: 0 })
    }
}

/// Accepts any text that can be printed on a line.
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

const _: () = assert!(entry::UNUSED < entry::NAME && entry::NAME < ENTRY_WORDS);
