//! What sets and counters have because they are maps.

use std::fmt;

use crate::error::MapError;
use crate::object::map::element::Element;
use crate::object::map::{Counter, Map, Set};
use crate::object::spec::ObjectSpec;
use crate::object::{Handle, Object, sealed::Sealed};

macro_rules! map_of_values {
    ($Name:ident, $Value:ty) => {
        impl<K: Element + ?Sized> $Name<K> {
            pub(crate) fn from_handle(handle: Handle) -> Self {
                Self { map: Map::from_handle(handle) }
            }

            /// Returns the map that it is.
            pub fn as_map(&self) -> &Map<K, $Value> {
                &self.map
            }

            /// Returns how many there are. See [`Map::len`].
            pub fn len(&self) -> usize {
                self.map.len()
            }

            /// Returns whether there is none. See [`Map::len`].
            pub fn is_empty(&self) -> bool {
                self.map.is_empty()
            }

            /// Returns how many there can be.
            pub fn capacity(&self) -> usize {
                self.map.capacity()
            }

            /// Removes all. Blocks and fails like [`Map::clear`].
            pub fn clear(&self) -> Result<(), MapError> {
                self.map.clear()
            }
        }

        impl<K: Element + ?Sized> From<Map<K, $Value>> for $Name<K> {
            fn from(map: Map<K, $Value>) -> Self {
                Self { map }
            }
        }

        impl<K: Element + ?Sized> Object for $Name<K> {}

        impl<K: Element + ?Sized> Sealed for $Name<K> {
            fn spec() -> ObjectSpec {
                Map::<K, $Value>::spec()
            }

            fn attach(handle: Handle) -> Self {
                Self::from_handle(handle)
            }

            fn handle(&self) -> &Handle {
                self.map.handle()
            }
        }

        impl<K: Element + ?Sized> Clone for $Name<K> {
            fn clone(&self) -> Self {
                Self { map: self.map.clone() }
            }
        }

        impl<K: Element + ?Sized> fmt::Debug for $Name<K> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($Name)).field("handle", self.map.handle()).finish_non_exhaustive()
            }
        }
    };
}

map_of_values!(Set, ());
map_of_values!(Counter, i64);
