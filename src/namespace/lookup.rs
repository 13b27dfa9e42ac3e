//! How an object is found by its name and opened as what it is.

use std::sync::Arc;

use crate::broadcast::{self, BytePublisher, ByteSubscriber, Publisher, Subscriber};
use crate::error::{Error, Result};
use crate::message::Message;
use crate::namespace::{Namespace, TypeName, broadcast_spec, check_type, not_found, queue_spec, type_mismatch};
use crate::object::member::Membership;
use crate::object::nested;
use crate::object::spec::ObjectSpec;
use crate::object::table::Entry;
use crate::object::{Handle, Object};
use crate::queue::{self, ByteQueue, Queue};
use crate::region::Region;
use crate::types::{Shareable, hashed_name};

/// What [`Namespace::object`] opens: an [`Object`], a [`Queue`], or an endpoint of a
/// [broadcast](crate::broadcast).
pub trait NamespaceObject: sealed::Sealed {}

pub(crate) mod sealed {
    use super::Found;
    use crate::error::Result;
    use crate::namespace::Namespace;
    use crate::object::spec::ObjectSpec;

    pub trait Sealed: Sized {
        /// What such an object is. The count may differ.
        fn spec() -> Result<ObjectSpec>;
        /// Opens one whose type was checked.
        fn attach(namespace: &Namespace, found: Found) -> Result<Self>;
    }
}

/// An object, by its place in a table.
pub struct Found {
    pub(super) member: Arc<Membership>,
    pub(super) index: usize,
}

impl Found {
    pub(super) fn entry(&self) -> Result<&Entry> {
        self.member.table().entries.get(self.index).ok_or_else(|| not_found("", Vec::new()))
    }

    /// The object as a region. It is a queue or a broadcast.
    fn nested_region(&self) -> Result<Region> {
        let entry = self.entry()?;
        let object = entry.object(self.member.region(), self.index);
        let region = nested::open(&object, Some(Arc::clone(&self.member)));
        region.ok_or_else(|| type_mismatch(self.member.region(), entry, entry.spec.type_name()))?
    }
}

impl Namespace {
    pub(super) fn find(&self, name: &str) -> Result<Found> {
        if !self.member.is_from_this_process() {
            return Err(Error::forked(format_args!("open the object {name:?}")));
        }
        match self.member.table().find(name) {
            Some((index, _)) => Ok(Found { member: Arc::clone(&self.member), index }),
            None => self.find_created(name),
        }
    }

    pub(super) fn check_type(&self, found: &Found, expected: ObjectSpec) -> Result<()> {
        let (region, entry) = (found.member.region(), found.entry()?);
        let Some(TypeName { tag, text }) = &self.type_name else {
            return check_type(region, entry, &expected);
        };
        let expected = ObjectSpec { tag: *tag, ..expected };
        if entry.spec.matches(&expected) {
            return Ok(());
        }
        Err(type_mismatch(region, entry, expected.type_name_without_count() + &hashed_name(text)))
    }
}

impl<O: Object> NamespaceObject for O {}

impl<O: Object> sealed::Sealed for O {
    fn spec() -> Result<ObjectSpec> {
        Ok(O::spec())
    }

    fn attach(namespace: &Namespace, found: Found) -> Result<Self> {
        Ok(O::attach(Handle::new(Arc::clone(&found.member), found.index, found.entry()?, namespace.wait)))
    }
}

fn queue_options<M: Message + ?Sized>(namespace: &Namespace) -> queue::Options<M> {
    queue::Options::<M>::default().wait(namespace.wait)
}

fn broadcast_options<M: Message + ?Sized>(namespace: &Namespace) -> broadcast::Options<M> {
    broadcast::Options::<M>::default().wait(namespace.wait)
}

macro_rules! nested_objects {
    ($($name:ident $(<$t:ident>)?, $message:ty, $spec:ident, $options:ident;)*) => { $(
        impl $(<$t: Shareable>)? NamespaceObject for $name $(<$t>)? {}

        impl $(<$t: Shareable>)? sealed::Sealed for $name $(<$t>)? {
            fn spec() -> Result<ObjectSpec> {
                $spec::<$message>(&Default::default())
            }

            fn attach(namespace: &Namespace, found: Found) -> Result<Self> {
                $options::<$message>(namespace).join(found.nested_region()?)
            }
        }
    )* };
}

nested_objects!(
    Queue<T>, T, queue_spec, queue_options;
    ByteQueue, [u8], queue_spec, queue_options;
    Publisher<T>, T, broadcast_spec, broadcast_options;
    BytePublisher, [u8], broadcast_spec, broadcast_options;
    Subscriber<T>, T, broadcast_spec, broadcast_options;
    ByteSubscriber, [u8], broadcast_spec, broadcast_options;
);
