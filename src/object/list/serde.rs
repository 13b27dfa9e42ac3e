//! Values that serde can serialise. Needs the feature `serde`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ListError;
use crate::object::list::List;
use crate::serialized;

#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl List<[u8]> {
    /// Serialises a value and appends it. Allocates a buffer for it. Needs the feature `serde`.
    ///
    /// # Blocking
    /// As [`push`](Self::push).
    ///
    /// # Errors
    /// As [`push`](Self::push), and [`Serialize`](ListError::Serialize) if the value cannot be
    /// serialised.
    ///
    /// # Examples
    /// ```
    /// use tombolo::collections::{List, list};
    ///
    /// let results = List::new(&list::Options::<[u8]>::new())?;
    /// results.push_object(&("north", vec![1_u32, 2, 3]))?;
    /// results.update_object(0, |(place, mut sizes): (String, Vec<u32>)| {
    ///     sizes.push(4);
    ///     (place, sizes)
    /// })?;
    /// assert_eq!(results.pop_object()?, Some(("north".to_string(), vec![1_u32, 2, 3, 4])));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn push_object<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), ListError> {
        self.push(&encode(value)?)
    }

    /// Serialises values and appends them, all or none: no other element comes in between. Blocks
    /// and fails like [`push_object`](Self::push_object).
    pub fn extend_objects<T: Serialize>(&self, values: &[T]) -> Result<(), ListError> {
        let elements: Vec<_> = values.iter().map(encode).collect::<Result<_, _>>()?;
        self.extend_from_slice(&elements)
    }

    /// Serialises a value and replaces an element by it. Blocks and fails like
    /// [`push_object`](Self::push_object) and [`set`](Self::set).
    pub fn set_object<T: Serialize + ?Sized>(&self, index: usize, value: &T) -> Result<(), ListError> {
        self.set(index, &encode(value)?)
    }

    /// Serialises a value and inserts it. Those from `index` on follow it. Blocks and fails like
    /// [`push_object`](Self::push_object) and [`insert`](Self::insert).
    pub fn insert_object<T: Serialize + ?Sized>(&self, index: usize, value: &T) -> Result<(), ListError> {
        self.insert(index, &encode(value)?)
    }

    /// Deserialises an element, if there is one with that index.
    ///
    /// Another process chose the bytes. See
    /// [`recv_object`](crate::queue::ByteReceiver::recv_object) about processes that you do not
    /// trust.
    ///
    /// # Blocking
    /// As [`get`](Self::get).
    ///
    /// # Errors
    /// As [`get`](Self::get), and [`Deserialize`](ListError::Deserialize) if it is not a `T`.
    pub fn get_object<T: DeserializeOwned>(&self, index: usize) -> Result<Option<T>, ListError> {
        self.get(index)?.as_deref().map(decode).transpose()
    }

    /// Deserialises all elements, as they are at one moment. Blocks and fails like
    /// [`get_object`](Self::get_object).
    pub fn objects<T: DeserializeOwned>(&self) -> Result<Vec<T>, ListError> {
        self.iter()?.map(|element| decode(&element)).collect()
    }

    /// Removes the last element, and deserialises it. One that is not a `T` stays. Blocks and fails
    /// like [`pop`](Self::pop) and [`get_object`](Self::get_object).
    pub fn pop_object<T: DeserializeOwned>(&self) -> Result<Option<T>, ListError> {
        self.pop_as(|element| decode(&element))
    }

    /// Removes an element, and deserialises it. One that is not a `T` stays. Blocks and fails like
    /// [`remove`](Self::remove) and [`get_object`](Self::get_object).
    pub fn remove_object<T: DeserializeOwned>(&self, index: usize) -> Result<T, ListError> {
        self.remove_as(index, |element| decode(&element))
    }

    /// Changes an element, as one step: no other change comes in between. The closure gets the
    /// value, and returns what takes its place. It is called again if another process was faster.
    /// Blocks and fails like [`set_object`](Self::set_object) and [`get_object`](Self::get_object).
    pub fn update_object<T: Serialize + DeserializeOwned>(
        &self,
        index: usize,
        mut update: impl FnMut(T) -> T,
    ) -> Result<(), ListError> {
        self.update_as(index, |element| encode(&update(decode(&element)?)))
    }
}

fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ListError> {
    serialized::encode(value).map_err(|_| ListError::Serialize)
}

fn decode<T: DeserializeOwned>(element: &[u8]) -> Result<T, ListError> {
    serialized::decode(element).map_err(|_| ListError::Deserialize)
}
