//! What sets and counters have because they are maps.

use crate::error::MapError;
use crate::object::element::Element;
use crate::object::map::{Counter, Map, Set};
use crate::object::{Handle, object, sealed::Sealed};

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

        impl<K: Element + ?Sized> Clone for $Name<K> {
            fn clone(&self) -> Self {
                Self { map: self.map.clone() }
            }
        }

        object!([K: Element + ?Sized] $Name<K>, Map::<K, $Value>::spec(), |this| this.map.handle());
    };
}

map_of_values!(Set, ());
map_of_values!(Counter, i64);
