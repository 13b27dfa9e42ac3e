//! What a type is called and made of, and the eight bytes that stand for it in a region.

use std::fmt;

/// What a type is called and made of. Its text, by [`Display`](fmt::Display), is the same in every
/// process and every language, and the [tag](Self::tag) follows from it.
///
/// | type | text |
/// |---|---|
/// | numbers, `bool`, `char`, `()` | `u64` |
/// | `[f32; 3]` | `[f32;3]` |
/// | `struct Tick { price: f64, volume: u64 }` | `Tick{price:f64,volume:u64}` |
/// | `struct Pair(u8, u8)` | `Pair{0:u8,1:u8}` |
/// | `#[repr(u8)] enum Side { Buy, Sell = 5 }` | `Side:u8{Buy=0,Sell=5}` |
/// | [`Untagged`](crate::types::Untagged) | `?` |
///
/// ```
/// use tombolo::{Shareable, types::Shape};
///
/// let shape: &Shape = <[f32; 3]>::SHAPE;
/// assert_eq!(shape.to_string(), "[f32;3]");
/// assert_eq!(&shape.tag(), b"[f32;3]\0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// Of any type: the tag is zeros.
    Any,
    /// A type of the language.
    Primitive(&'static str),
    /// Elements one behind another.
    Array {
        /// What each element is.
        element: &'static Shape,
        /// How many there are.
        length: usize,
    },
    /// Fields one behind another, without padding.
    Struct {
        /// The name of the type, without its module.
        name: &'static str,
        /// The name of each field and what it is.
        fields: &'static [(&'static str, &'static Shape)],
    },
    /// One of several numbers.
    Enum {
        /// The name of the type, without its module.
        name: &'static str,
        /// The type of the numbers.
        number: &'static str,
        /// The name and the number of each variant.
        variants: &'static [(&'static str, i128)],
    },
}

impl Shape {
    /// Returns the eight bytes that stand for the type in a region.
    ///
    /// That is the text itself with zeros behind it. For a text of more than eight bytes it is its
    /// 64-bit FNV-1a hash in little-endian order. Zeros match any type.
    pub fn tag(&self) -> [u8; 8] {
        match self {
            Self::Any => [0; 8],
            shape => type_tag(&shape.to_string()),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let comma = |index| if index == 0 { "" } else { "," };
        match self {
            Self::Any => f.write_str("?"),
            Self::Primitive(name) => f.write_str(name),
            Self::Array { element, length } => write!(f, "[{element};{length}]"),
            Self::Struct { name, fields } => {
                write!(f, "{name}{{")?;
                for (index, (field, shape)) in fields.iter().enumerate() {
                    write!(f, "{}{field}:{shape}", comma(index))?;
                }
                f.write_str("}")
            }
            Self::Enum { name, number, variants } => {
                write!(f, "{name}:{number}{{")?;
                for (index, (variant, value)) in variants.iter().enumerate() {
                    write!(f, "{}{variant}={value}", comma(index))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// The eight bytes that stand for a type's name in a region: the name itself with zeros behind it,
/// or, for a name of more than eight bytes, its 64-bit FNV-1a hash in little-endian order.
pub(crate) fn type_tag(name: &str) -> [u8; 8] {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x100_0000_01b3;

    let mut tag = [0; 8];
    match tag.get_mut(..name.len()) {
        Some(start) => start.copy_from_slice(name.as_bytes()),
        None => {
            let hash = name.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
            tag = hash.to_le_bytes();
        }
    }
    tag
}

/// Whether two types with these tags can be the same.
pub(crate) fn tags_match(one: [u8; 8], other: [u8; 8]) -> bool {
    one == other || one == [0; 8] || other == [0; 8]
}

/// What a message adds behind a tag that does not show the name.
pub(crate) fn hashed_name(name: &str) -> String {
    if name.len() > size_of::<u64>() { format!(", which is {name:?}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_tag_short_name_is_padded_long_name_is_hashed() {
        assert_eq!(type_tag(""), [0; 8]);
        assert_eq!(type_tag("tick"), *b"tick\0\0\0\0");
        assert_eq!(type_tag("tick\0\0v1"), *b"tick\0\0v1");
        // A published test vector of FNV-1a.
        assert_eq!(type_tag("chongo was here!\n"), 0x4681_0940_eff5_f915_u64.to_le_bytes());
    }
}
