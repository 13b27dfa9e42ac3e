//! References: names of objects that can be stored in objects.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::namespace::Namespace;
use crate::namespace::lookup::NamespaceObject;
use crate::object::table::NAME_MAX;

/// Which object of a namespace, as a value that other objects of it can hold.
///
/// It leads to the object that had the name when the reference was made, and to no other that gets
/// the name later, or has it in another namespace.
///
/// ```
/// use tombolo::{ErrorKind, Namespace, Reference, Spec, sync::Value};
///
/// # let scratch = std::env::temp_dir().join(format!("tombolo-reference-{}", std::process::id()));
/// let builder = Namespace::builder();
/// # let builder = builder.directory(&scratch);
/// let market = builder.open("market")?;
/// market.create("gold", Spec::value(101.25_f64))?;
/// let best = market.create("best", Spec::value(market.reference("gold")?))?;
///
/// // In any process that has the namespace open:
/// let reference: Reference = best.load()?;
/// let price: Value<f64> = reference.open(&market)?;
/// assert_eq!((reference.name(), price.load()?), ("gold", 101.25));
///
/// market.remove("gold")?;
/// assert_eq!(reference.open::<Value<f64>>(&market).unwrap_err().kind(), ErrorKind::Removed);
/// # drop((best, price, market));
/// # std::fs::remove_dir(scratch).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// All bits are valid. Zeros, and the default, refer to no object.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, tombolo_derive::Shareable)]
#[shareable(crate = "crate")]
#[repr(C)]
pub struct Reference {
    /// Of the region that has the object: its own, or the namespace's, which began with it. 0: it
    /// refers to no object.
    identity: u64,
    /// Padded with zeros.
    name: [u64; NAME_MAX / 8],
}

impl Namespace {
    /// Returns a reference to the object of that name, of whatever type it is.
    ///
    /// # Blocking
    ///
    /// Like [`object`](Self::object).
    ///
    /// # Errors
    ///
    /// Those of [`object`](Self::object), without [`ErrorKind::WrongType`].
    pub fn reference(&self, name: &str) -> Result<Reference> {
        let found = self.find(name)?;
        let region = found.member.region();
        region.set_identity()?;
        let mut reference = Reference { identity: region.identity(), ..Reference::default() };
        for (byte, from) in bytemuck::cast_slice_mut(&mut reference.name).iter_mut().zip(name.bytes()) {
            *byte = from;
        }
        Ok(reference)
    }
}

impl Reference {
    /// Returns the name of the object. Empty if it refers to none.
    pub fn name(&self) -> &str {
        let bytes: &[u8] = bytemuck::cast_slice(&self.name);
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        bytes.get(..end).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// Opens the object in the namespace that the reference was made for.
    ///
    /// # Blocking
    ///
    /// Like [`Namespace::object`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Removed`] if the object was removed, or is in another namespace, even if
    ///   another has its name.
    /// - [`ErrorKind::NotFound`] if the reference refers to no object.
    /// - The other errors of [`Namespace::object`].
    pub fn open<O: NamespaceObject>(&self, namespace: &Namespace) -> Result<O> {
        let name = self.name();
        let refuse = |kind, found| {
            let (action, expected) = (format!("open the object {name:?} by a reference"), "the object that it means");
            Error::new(kind, action, found, expected, "get another reference, or open it by its name")
        };
        if self.identity == 0 {
            return Err(refuse(ErrorKind::NotFound, "a reference to no object"));
        }
        let found = namespace.find(name).map_err(|error| match error.kind() {
            ErrorKind::NotFound => refuse(ErrorKind::Removed, "that it was removed"),
            _ => error,
        })?;
        if found.member.region().identity() != self.identity {
            return Err(refuse(ErrorKind::Removed, "another object of that name"));
        }
        namespace.check_type(&found, O::spec()?)?;
        O::attach(namespace, found)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reference")
            .field("name", &self.name())
            .field("identity", &format_args!("{:016x}", self.identity))
            .finish()
    }
}

#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl serde::Serialize for Reference {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.identity, self.name).serialize(serializer)
    }
}

#[cfg(feature = "serde")]
#[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
impl<'de> serde::Deserialize<'de> for Reference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (identity, name) = <(u64, [u64; NAME_MAX / 8])>::deserialize(deserializer)?;
        Ok(Self { identity, name })
    }
}
