//! Keys and values as text and as JSON.
//!
//! Bytes that are UTF-8 are shown as that text, others as `hex:` and two digits for each byte. So
//! is a text that begins with `hex:` itself: what is shown can be given back, and is the same.

use std::cmp::Ordering;
use std::fmt::Write;

use serde_json::{Number, Value};
use tombolo::collections::Element;

const HEX: &str = "hex:";

/// A type of keys or values that the command can show and read.
pub trait Shown: Element + 'static {
    /// What it is, for messages.
    const WHAT: &str;

    fn to_text(of: &Self::Owned) -> String;

    fn parse(text: &str) -> Option<Self::Owned>;

    fn to_json(of: &Self::Owned) -> Value {
        Value::String(Self::to_text(of))
    }

    /// Also a text that `parse` accepts.
    fn from_json(value: &Value) -> Option<Self::Owned> {
        Self::parse(value.as_str()?)
    }

    fn order(one: &Self::Owned, other: &Self::Owned) -> Ordering;
}

impl Shown for [u8] {
    const WHAT: &str = "a text, or hex: and two digits for each byte";

    fn to_text(bytes: &Vec<u8>) -> String {
        match str::from_utf8(bytes) {
            Ok(text) if !text.starts_with(HEX) => text.to_string(),
            _ => bytes.iter().fold(HEX.to_string(), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            }),
        }
    }

    fn parse(text: &str) -> Option<Vec<u8>> {
        let Some(digits) = text.strip_prefix(HEX) else { return Some(text.as_bytes().to_vec()) };
        let byte = |pair: &[u8]| {
            let [high, low] = *pair else { return None };
            let digit = |digit: u8| char::from(digit).to_digit(16);
            u8::try_from(digit(high)? << 4 | digit(low)?).ok()
        };
        digits.as_bytes().chunks(2).map(byte).collect()
    }

    fn order(one: &Vec<u8>, other: &Vec<u8>) -> Ordering {
        one.cmp(other)
    }
}

macro_rules! parsed {
    ($($Type:ty, $what:literal, $to_json:expr;)*) => { $(
        impl Shown for $Type {
            const WHAT: &str = $what;

            fn to_text(of: &Self) -> String {
                of.to_string()
            }

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }

            fn to_json(of: &Self) -> Value {
                $to_json(*of)
            }

            fn from_json(value: &Value) -> Option<Self> {
                match value {
                    Value::String(text) => Self::parse(text),
                    // A number that is too large is refused as a text of its digits.
                    Value::Number(_) | Value::Bool(_) => Self::parse(&value.to_string()),
                    _ => None,
                }
            }

            fn order(one: &Self, other: &Self) -> Ordering {
                one.partial_cmp(other).unwrap_or(Ordering::Equal)
            }
        }
    )* };
}

/// JSON has no infinity, and nothing that is not a number. They are texts.
fn float(of: f64) -> Value {
    Number::from_f64(of).map_or_else(|| Value::String(of.to_string()), Value::Number)
}

parsed! {
    u32, "a number from 0 to 4294967295", Value::from;
    u64, "a number from 0 to 18446744073709551615", Value::from;
    i32, "a number of 32 bits", Value::from;
    i64, "a number of 64 bits", Value::from;
    f64, "a number", float;
    bool, "true or false", Value::from;
}

/// What a set has: a key is there.
impl Shown for () {
    const WHAT: &str = "true";

    fn to_text((): &()) -> String {
        "true".to_string()
    }

    fn parse(text: &str) -> Option<()> {
        (text == "true").then_some(())
    }

    fn to_json((): &()) -> Value {
        Value::Bool(true)
    }

    fn from_json(value: &Value) -> Option<()> {
        (*value == Value::Bool(true)).then_some(())
    }

    fn order((): &(), (): &()) -> Ordering {
        Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn assert_same<T: Shown + ?Sized>(value: T::Owned, text: &str, json: Value)
    where
        T::Owned: PartialEq + std::fmt::Debug,
    {
        assert_eq!((T::to_text(&value).as_str(), T::to_json(&value)), (text, json.clone()));
        assert_eq!(T::from_json(&json), T::parse(text));
        assert_eq!(T::parse(text), Some(value));
    }

    #[test]
    fn shown_value_is_read_as_the_same() {
        assert_same::<[u8]>(b"a\tb".to_vec(), "a\tb", json!("a\tb"));
        assert_same::<[u8]>(vec![], "", json!(""));
        assert_same::<[u8]>(b"\xff\x01".to_vec(), "hex:ff01", json!("hex:ff01"));
        assert_same::<[u8]>(b"hex:".to_vec(), "hex:6865783a", json!("hex:6865783a"));
        assert_same::<u64>(u64::MAX, "18446744073709551615", json!(u64::MAX));
        assert_same::<i64>(i64::MIN, "-9223372036854775808", json!(i64::MIN));
        assert_same::<f64>(0.1, "0.1", json!(0.1));
        assert_same::<f64>(f64::NEG_INFINITY, "-inf", json!("-inf"));
        assert_same::<bool>(false, "false", json!(false));
        assert_same::<()>((), "true", json!(true));
    }

    #[test]
    fn shown_value_of_another_type_is_refused() {
        for text in ["hex:f", "hex:fg", "hex:\u{e4}"] {
            assert_eq!(<[u8]>::parse(text), None, "{text}");
        }
        assert_eq!(<[u8]>::from_json(&json!(1)), None);
        assert_eq!((u32::from_json(&json!(-1)), u32::from_json(&json!(1.5)), u32::parse("")), (None, None, None));
        assert_eq!((<()>::from_json(&json!(false)), bool::from_json(&json!(1)), f64::parse("x")), (None, None, None));
    }
}
