//! Maps of all types that the command knows, by one interface.

use std::borrow::Borrow;
use std::time::Duration;

use serde_json::Value;
use tombolo::collections::map::Watcher;
use tombolo::collections::{Map, MapError};
use tombolo::{ErrorKind, Namespace};

use super::element::Shown;
use crate::failure::Failure;

/// A key or a value, as it is shown.
pub struct Text {
    pub text: String,
    pub json: Value,
}

impl Text {
    fn of<T: Shown + ?Sized>(value: &T::Owned) -> Self {
        Self { text: T::to_text(value), json: T::to_json(value) }
    }
}

/// Which entries are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// As they are at one moment.
    One,
    /// One after the other.
    Any,
}

/// Why something failed.
pub enum Refused {
    Map(MapError),
    /// A text is no key or value of the map. Holds it, and what is expected.
    Text(String, &'static str),
}

impl From<MapError> for Refused {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// A map whose keys and values can be shown.
pub trait AnyMap {
    fn get(&self, key: &str) -> Result<Option<Text>, Refused>;
    fn put(&self, key: &str, value: &str) -> Result<(), Refused>;
    /// Returns whether the key was there.
    fn remove(&self, key: &str) -> Result<bool, Refused>;
    /// All entries, in the order of their keys.
    fn entries(&self, moment: Moment) -> Result<Vec<(String, Text)>, Refused>;
    /// Checks all entries, and then inserts them up to the first that the map refuses.
    fn load(&self, entries: &serde_json::Map<String, Value>) -> Result<(), Refused>;
    fn watch(&self, key: &str) -> Result<Box<dyn AnyWatcher>, Refused>;
}

/// What follows one key of such a map.
pub trait AnyWatcher {
    fn next(&mut self, timeout: Duration) -> Result<Option<Text>, MapError>;
}

fn parse<T: Shown + ?Sized>(text: &str) -> Result<T::Owned, Refused> {
    T::parse(text).ok_or_else(|| Refused::Text(format!("{text:?}"), T::WHAT))
}

impl<K: Shown + ?Sized, V: Shown + ?Sized> AnyMap for Map<K, V> {
    fn get(&self, key: &str) -> Result<Option<Text>, Refused> {
        Ok(self.get(borrow(&parse::<K>(key)?))?.map(|value| Text::of::<V>(&value)))
    }

    fn put(&self, key: &str, value: &str) -> Result<(), Refused> {
        let (key, value) = (parse::<K>(key)?, parse::<V>(value)?);
        self.insert(borrow(&key), borrow(&value))?;
        Ok(())
    }

    fn remove(&self, key: &str) -> Result<bool, Refused> {
        Ok(self.remove(borrow(&parse::<K>(key)?))?.is_some())
    }

    fn entries(&self, moment: Moment) -> Result<Vec<(String, Text)>, Refused> {
        let mut entries = match moment {
            Moment::One => self.snapshot()?,
            Moment::Any => self.iter().collect::<Result<_, _>>()?,
        };
        entries.sort_unstable_by(|(one, _), (other, _)| K::order(one, other));
        Ok(entries.iter().map(|(key, value)| (K::to_text(key), Text::of::<V>(value))).collect())
    }

    fn load(&self, entries: &serde_json::Map<String, Value>) -> Result<(), Refused> {
        let read = |(key, value): (&String, &Value)| {
            let own = V::from_json(value).ok_or_else(|| Refused::Text(format!("{value}, of {key:?},"), V::WHAT))?;
            Ok((parse::<K>(key)?, own))
        };
        let entries: Vec<_> = entries.iter().map(read).collect::<Result<_, Refused>>()?;
        for (key, value) in entries {
            self.insert(borrow(&key), borrow(&value))?;
        }
        Ok(())
    }

    fn watch(&self, key: &str) -> Result<Box<dyn AnyWatcher>, Refused> {
        Ok(Box::new(self.watch(borrow(&parse::<K>(key)?))))
    }
}

impl<K: Shown + ?Sized, V: Shown + ?Sized> AnyWatcher for Watcher<K, V> {
    fn next(&mut self, timeout: Duration) -> Result<Option<Text>, MapError> {
        Ok(self.next_timeout(timeout)?.map(|value| Text::of::<V>(&value)))
    }
}

fn borrow<T: Shown + ?Sized>(owned: &T::Owned) -> &T {
    owned.borrow()
}

/// Opens a map, whatever it is from and to.
pub fn open(namespace: &Namespace, object: &str) -> Result<Box<dyn AnyMap>, Failure> {
    let mut refused = None;
    macro_rules! attempt {
        ($([$Key:ty] to $Values:tt)*) => { $( attempt!(@each $Key, $Values); )* };
        (@each $Key:ty, [$($Value:ty),*]) => { $(
            match namespace.map::<$Key, $Value>(object) {
                Ok(map) => return Ok(Box::new(map)),
                Err(error) if error.kind() == ErrorKind::WrongType => drop(refused.get_or_insert(error)),
                Err(error) => return Err(error.into()),
            }
        )* };
    }
    attempt! {
        [[u8]] to [[u8], (), bool, u32, u64, i32, i64, f64]
        [u32] to [[u8], (), bool, u32, u64, i32, i64, f64]
        [u64] to [[u8], (), bool, u32, u64, i32, i64, f64]
        [i32] to [[u8], (), bool, u32, u64, i32, i64, f64]
        [i64] to [[u8], (), bool, u32, u64, i32, i64, f64]
    }
    let known = "this command reads maps of text, bytes, bool, (), and numbers of 32 and 64 bits";
    Err(Failure::Error(refused.map_or(known.to_string(), |error| format!("{error}; {known}"))))
}
