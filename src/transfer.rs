//! Endpoints, namespaces and objects inside of values that serde serialises. Needs the feature
//! `serde`.
//!
//! A value travels as bytes, in the format of postcard, and a list of descriptors. In the bytes,
//! an endpoint is its place in that list. The list is in a variable of the thread while [`encode`]
//! or [`decode`] runs: serde passes nothing of ours through.

#![cfg_attr(
    not(any(feature = "connection", feature = "process")),
    allow(dead_code, reason = "only arguments of processes and what a connection gives are such values")
)]

use std::any::type_name;
use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::LocalKey;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::broadcast;
use crate::endpoint::sealed::Sealed;
use crate::endpoint::{self, Endpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::namespace::Namespace;
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::element::Element;
use crate::object::event::Event;
use crate::object::list::List;
use crate::object::map::{Counter, Map, Set};
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::value::Value;
use crate::pipe;
use crate::queue;
use crate::rpc;
use crate::spawn::Transfer;
use crate::spawn::sealed::{Pass, Take, TakeBack};
use crate::sys::fork::ForkGuardedFd;
use crate::types::Shareable;

thread_local! {
    static OUTGOING: RefCell<Option<Outgoing>> = const { RefCell::new(None) };
    static INCOMING: RefCell<Option<Incoming>> = const { RefCell::new(None) };
}

/// What a value that is being serialised refers to.
#[derive(Default)]
struct Outgoing {
    transfers: Vec<Transfer>,
    /// Why something could not be passed. (serde's error may have lost the text.)
    failure: Option<Error>,
}

/// What a value that is being deserialised refers to.
struct Incoming {
    descriptors: Vec<Option<OwnedFd>>,
    failure: Option<Error>,
}

/// Puts a value in a variable of the thread, until it is dropped.
struct Scope<T: 'static> {
    key: &'static LocalKey<RefCell<Option<T>>>,
    outer: Option<T>,
}

impl<T> Scope<T> {
    fn enter(key: &'static LocalKey<RefCell<Option<T>>>, value: T) -> Self {
        Self { key, outer: key.replace(Some(value)) }
    }

    /// Returns the value as it is now.
    fn leave(self) -> Option<T> {
        self.key.take()
    }
}

impl<T> Drop for Scope<T> {
    fn drop(&mut self) {
        self.key.replace(self.outer.take());
    }
}

/// Serialises a value. What it refers to is in the transfers, in order.
///
/// The endpoints in the value have moved. Drop the transfers before the value: those that were not
/// completed are taken back, and closed with the value.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<(Vec<u8>, Vec<Transfer>)> {
    let scope = Scope::enter(&OUTGOING, Outgoing::default());
    let bytes = postcard::to_stdvec(value);
    let outgoing = scope.leave().unwrap_or_default();
    match (bytes, outgoing.failure) {
        (Ok(bytes), None) => Ok((bytes, outgoing.transfers)),
        (_, Some(failure)) => Err(failure),
        (Err(error), None) => Err(Error::new(
            ErrorKind::NotSerializable,
            format_args!("serialise a {}", type_name::<T>()),
            error,
            "a value that serde can serialise in the format of postcard",
            "a sequence needs a length that is known beforehand; serialise another value",
        )),
    }
}

/// Deserialises what [`encode`] has made. Each descriptor is used once; those that are left over
/// are closed.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8], descriptors: Vec<OwnedFd>) -> Result<T> {
    let descriptors = descriptors.into_iter().map(Some).collect();
    let scope = Scope::enter(&INCOMING, Incoming { descriptors, failure: None });
    let value = postcard::take_from_bytes(bytes);
    let failure = scope.leave().and_then(|incoming| incoming.failure);
    let found = match (value, failure) {
        (_, Some(failure)) => return Err(failure),
        (Ok((value, [])), None) => return Ok(value),
        (Ok((_, rest)), None) => format!("{} more bytes", rest.len()),
        (Err(error), None) => error.to_string(),
    };
    Err(Error::new(
        ErrorKind::NotSerializable,
        format_args!("deserialise a {}", type_name::<T>()),
        found,
        "what its Serialize has written",
        "make Serialize and Deserialize of the type agree; attributes such as `untagged` and \
         `skip_serializing_if` need a format that describes itself, which postcard does not",
    ))
}

/// Passes something in a value that is being serialised.
fn serialize<S: Serializer>(
    serializer: S,
    export: impl FnOnce() -> Result<(Box<dyn TakeBack>, ForkGuardedFd)>,
) -> Result<S::Ok, S::Error> {
    // Not borrowed while something is exported: that runs much other code.
    if OUTGOING.with_borrow(Option::is_none) {
        return Err(S::Error::custom(
            "endpoints, namespaces and objects are serialised only as arguments of a process that is being spawned and \
             by give_object of a connection; elsewhere pass them with CommandExt::pass, or by name",
        ));
    }
    let exported = export();
    let place = OUTGOING.with_borrow_mut(|outgoing| {
        let outgoing = outgoing.get_or_insert_default();
        match exported {
            Ok((sender, file)) => {
                outgoing.transfers.push(Transfer::new(sender, file));
                Ok(outgoing.transfers.len() as u32 - 1)
            }
            Err(error) => {
                let message = error.to_string();
                outgoing.failure.get_or_insert(error);
                Err(S::Error::custom(message))
            }
        }
    })?;
    serializer.serialize_u32(place)
}

/// Takes something out of a value that is being deserialised.
fn deserialize<'de, T: Take, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let place = u32::deserialize(deserializer)? as usize;
    let descriptor = INCOMING.with_borrow_mut(|incoming| {
        let incoming = incoming
            .as_mut()
            .ok_or("no descriptors, as only arguments of a process and what a connection gives have them")?;
        incoming.descriptors.get_mut(place).and_then(Option::take).ok_or("a descriptor that did not arrive")
    });
    let taken = T::from_inherited(descriptor.map_err(D::Error::custom)?);
    taken.map_err(|error| {
        let message = error.to_string();
        INCOMING.with_borrow_mut(|incoming| {
            if let Some(incoming) = incoming {
                incoming.failure.get_or_insert(error);
            }
        });
        D::Error::custom(message)
    })
}

fn export_endpoint<E: Endpoint>(endpoint: &E) -> Result<(Box<dyn TakeBack>, ForkGuardedFd)> {
    let file = endpoint::export_fd(endpoint)?;
    Ok((Box::new(Arc::clone(Sealed::registration(endpoint))), file))
}

/// For endpoints, which move, and for what is passed by reference.
macro_rules! transferable {
    ($export:expr; $($($name:ident)::+ $(<$($t:ident: $bound:ident $(+ ?$relaxed:ident)?),+>)?),* $(,)?) => { $(
        /// Only as an argument of a process that is being spawned, or in a value that a connection
        /// gives: the descriptor travels beside the bytes.
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl $(<$($t: $bound $(+ ?$relaxed)?),+>)? Serialize for $($name)::+ $(<$($t),+>)? {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize(serializer, || $export(self))
            }
        }

        /// With default options. See `Serialize`.
        #[cfg_attr(docsrs, doc(cfg(feature = "serde")))]
        impl<'de $($(, $t: $bound $(+ ?$relaxed)?)+)?> Deserialize<'de> for $($name)::+ $(<$($t),+>)? {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize(deserializer)
            }
        }
    )* };
}

transferable!(
    export_endpoint;
    pipe::Sender<T: Shareable>, pipe::Receiver<T: Shareable>, pipe::Pipe<T: Shareable>,
    pipe::ByteSender, pipe::ByteReceiver, pipe::BytePipe,
    queue::Sender<T: Shareable>, queue::Receiver<T: Shareable>, queue::ByteSender, queue::ByteReceiver,
    broadcast::Publisher<T: Shareable>, broadcast::Subscriber<T: Shareable>,
    broadcast::BytePublisher, broadcast::ByteSubscriber,
    rpc::Caller<Q: Shareable, A: Shareable>, rpc::Responder<Q: Shareable, A: Shareable>,
    rpc::ByteCaller, rpc::ByteResponder,
);
transferable!(
    Pass::export;
    Namespace, Semaphore, BoundedSemaphore, Condvar, Event, Barrier, Once,
    Value<T: Shareable>, AtomicValue<T: Number>, Array<T: Shareable>,
    Mutex<T: Shareable>, ReentrantMutex<T: Shareable>, RwLock<T: Shareable>,
    List<E: Element + ?Sized>, Map<K: Element + ?Sized, V: Element + ?Sized>,
    Set<K: Element + ?Sized>, Counter<K: Element + ?Sized>,
);
