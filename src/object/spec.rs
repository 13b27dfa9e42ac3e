//! What two processes must agree on to share an object, and how it begins.

use crate::error::{Error, ErrorKind, Result};
use crate::object::kind::ObjectKind;
use crate::object::map::words::MapGeometry;
use crate::primitive::WORD;
use crate::region::layout::header::{ElementType, tag_name};
use crate::region::layout::{Layout, PADDING_WORDS};
use crate::types::{Shape, Shareable};

/// What an object is: all that both sides must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectSpec {
    pub(crate) kind: ObjectKind,
    /// Bytes of its value, or of each element. 0: it holds none.
    pub(crate) size: u64,
    pub(crate) align: u64,
    pub(crate) tag: [u8; 8],
    /// Elements, permits (of a plain semaphore: initial ones) or parties.
    pub(crate) count: u64,
    /// Of a list of bytes: bytes of an element at most. 0: its elements have a type.
    pub(crate) max_element_bytes: u64,
    /// What a nested queue or broadcast is.
    pub(crate) nested: Option<Layout>,
    /// What a map is like.
    pub(crate) map: Option<MapGeometry>,
    /// What the type is, if this process knows.
    pub(crate) shape: Option<&'static Shape>,
}

/// How an object begins.
#[derive(Clone, Debug)]
pub(crate) enum InitialValue {
    Zero,
    Word(u64),
    /// Of its value, or of all elements.
    Bytes(Vec<u8>),
}

/// Where the versions of a value are, in words from the object's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffers {
    pub(crate) offset: usize,
    pub(crate) stride: usize,
    pub(crate) count: usize,
}

impl Buffers {
    /// Where they end. None: too far.
    pub(crate) fn end(&self) -> Option<usize> {
        self.offset.checked_add(self.stride.checked_mul(self.count)?)
    }
}

impl ObjectSpec {
    pub(crate) fn without_value(kind: ObjectKind, count: u64) -> Self {
        Self { kind, size: 0, align: 1, tag: [0; 8], count, max_element_bytes: 0, nested: None, map: None, shape: None }
    }

    /// An object that holds values of the type.
    pub(crate) fn of<T: Shareable>(kind: ObjectKind, count: u64) -> Self {
        let (size, align) = (size_of::<T>() as u64, align_of::<T>() as u64);
        let spec = Self { size, align, ..Self::without_value(kind, count) };
        spec.with_shape(Some(T::SHAPE))
    }

    /// The same, holding values of that type. None: bytes.
    pub(crate) fn with_shape(self, shape: Option<&'static Shape>) -> Self {
        Self { tag: shape.map_or([0; 8], Shape::tag), shape, ..self }
    }

    /// Whether both can be of the same kind and hold values of the same type.
    pub(crate) fn matches(&self, other: &Self) -> bool {
        let elements_match = match (self.element(), other.element()) {
            (Some(one), Some(other)) => one.matches(other),
            (one, other) => one == other,
        };
        let maps_match = match (self.map, other.map) {
            (Some(one), Some(other)) => one.matches(&other),
            (one, other) => one == other,
        };
        self.kind == other.kind && elements_match && maps_match
    }

    /// Words of a value.
    pub(crate) fn value_words(&self) -> usize {
        self.size.div_ceil(WORD as u64) as usize
    }

    /// Words from one version of a value to the next. Long ones do not share cache lines.
    pub(crate) fn version_stride(&self) -> usize {
        let words = self.value_words();
        if words > 8 { words.next_multiple_of(8) } else { words }
    }

    /// Whether a value is a word or a part of one, so that it is read and written in one step.
    pub(crate) fn is_word_sized(&self) -> bool {
        matches!(self.size, 1 | 2 | 4 | 8)
    }

    /// Words of the whole object, up to the next pair of cache lines. None: too many.
    pub(crate) fn footprint(&self, participants: usize) -> Option<usize> {
        self.kind.functions().footprint(self, participants)?.checked_next_multiple_of(PADDING_WORDS)
    }

    /// Bytes of its extents. None: too many.
    pub(crate) fn extent_bytes(&self) -> Option<u64> {
        self.kind.functions().extent_bytes(self)
    }

    /// Where the versions of its value are, if it holds one.
    pub(crate) fn buffers(&self, participants: usize) -> Option<Buffers> {
        self.kind.functions().buffers(self, participants)
    }

    /// The type of its value, its elements or its messages.
    pub(crate) fn element(&self) -> Option<ElementType> {
        let (size, align) = match self.nested.map(|layout| layout.element()) {
            Some(ElementType::Value { size, align, .. }) => (size, align),
            Some(ElementType::Bytes) => return Some(ElementType::Bytes),
            None if self.max_element_bytes > 0 => return Some(ElementType::Bytes),
            None if self.size == 0 => return None,
            None => (self.size, self.align),
        };
        Some(ElementType::Value { size, align, tag: self.tag })
    }

    /// Names the type in messages.
    pub(crate) fn type_name(&self) -> String {
        self.kind.functions().type_name(self, Some(self.count))
    }

    /// Names the type in messages, whatever its count.
    pub(crate) fn type_name_without_count(&self) -> String {
        self.kind.functions().type_name(self, None)
    }

    /// Refuses what cannot be laid out.
    pub(crate) fn check(&self) -> Result<()> {
        self.kind.functions().check(self)
    }

    /// An error about what cannot be laid out.
    pub(crate) fn refuse(&self, what: &str, found: u64, expected: &str, remedy: &str) -> Result<()> {
        let action = format!("lay out {} with this {what}", self.kind.functions().name_with_article());
        Err(Error::new(ErrorKind::InvalidOptions, action, found, expected, remedy))
    }

    /// Refuses a value that is aligned to more than the object is.
    pub(crate) fn expect_alignment(&self) -> Result<()> {
        if self.align > (PADDING_WORDS * WORD) as u64 {
            return self.refuse("alignment of a value", self.align, "at most 128", "align the type to a cache line");
        }
        Ok(())
    }

    /// Refuses a value of no bytes.
    pub(crate) fn expect_value(&self) -> Result<()> {
        if self.size == 0 {
            return self.refuse("size of a value", 0, "at least 1 byte", "use an event, or a lock of ()");
        }
        self.expect_alignment()
    }

    /// Refuses a value.
    pub(crate) fn expect_no_value(&self) -> Result<()> {
        if self.size > 0 {
            return self.refuse("size", self.size, "0 bytes", "it holds nothing");
        }
        if self.align != 1 {
            return self.refuse("alignment", self.align, "1", "it holds nothing");
        }
        Ok(())
    }

    /// Refuses a count.
    pub(crate) fn expect_no_count(&self) -> Result<()> {
        if self.count > 0 { self.refuse("count", self.count, "0", "it is one") } else { Ok(()) }
    }

    /// Refuses a count that is not from 1 to `max`.
    pub(crate) fn expect_count(&self, what: &str, max: u64, remedy: &str) -> Result<()> {
        if (1..=max).contains(&self.count) {
            return Ok(());
        }
        self.refuse(what, self.count, &format!("1 to {max}"), remedy)
    }

    /// Shows a value of this type, of which `bytes` are the first: numbers as such, others in
    /// hexadecimal.
    pub(crate) fn format_value(&self, bytes: &[u8]) -> String {
        let size = self.size as usize;
        macro_rules! numbers {
            ($($number:ident)*) => {
                match tag_name(&self.tag).to_string().as_str() {
                    $(stringify!($number) if size == size_of::<$number>() && bytes.len() == size => {
                        return bytemuck::pod_read_unaligned::<$number>(bytes).to_string();
                    })*
                    _ => {}
                }
            };
        }
        numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize f32 f64 u128 i128);
        let mut text = String::from("0x");
        for byte in bytes {
            text.push_str(&format!("{byte:02x}"));
        }
        if size > bytes.len() {
            text.push_str("..");
        }
        text
    }
}
