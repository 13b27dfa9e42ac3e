//! Values that serde can serialise. Needs the feature `serde`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::MapError;
use crate::object::element::Element;
use crate::object::map::Map;
use crate::serialized::{decode, encode};

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<K: Element + ?Sized> Map<K, [u8]> {
    /// Serialises a value and gives it to a key. Allocates a buffer for it. Needs the feature
    /// `serde`.
    ///
    /// The bytes are in the format of [postcard](https://docs.rs/postcard). Methods without
    /// `object` in their names return them as they are: [`snapshot`](Self::snapshot),
    /// [`watch`](Self::watch), [`remove`](Self::remove). `postcard::from_bytes` deserialises them.
    ///
    /// # Blocking
    /// As [`insert`](Self::insert).
    ///
    /// # Errors
    /// As [`insert`](Self::insert), and [`Serialize`](MapError::Serialize) if the value cannot be
    /// serialised.
    ///
    /// # Examples
    /// ```
    /// use tombolo::collections::{Map, map};
    ///
    /// let settings = Map::new(&map::Options::<str, [u8]>::new())?;
    /// settings.insert_object("sizes", &vec![1_u32, 2, 3])?;
    /// assert_eq!(settings.get_object::<Vec<u32>>("sizes")?, Some(vec![1, 2, 3]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_object<T: Serialize + ?Sized>(&self, key: &K, value: &T) -> Result<bool, MapError> {
        self.insert(key, &encode(value).map_err(|_| MapError::Serialize)?)
    }

    /// Deserialises the value of a key. Needs the feature `serde`.
    ///
    /// Another process chose the bytes. See
    /// [`recv_object`](crate::queue::ByteReceiver::recv_object) about processes that you do not
    /// trust.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Deserialize`](MapError::Deserialize) if it is not a `T`.
    pub fn get_object<T: DeserializeOwned>(&self, key: &K) -> Result<Option<T>, MapError> {
        let bytes = self.get(key)?;
        bytes.map(|bytes| decode(&bytes).map_err(|_| MapError::Deserialize)).transpose()
    }
}
