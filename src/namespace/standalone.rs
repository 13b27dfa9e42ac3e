//! Objects on their own. Each is in a namespace that has no other object.

use std::os::fd::OwnedFd;

use crate::error::Result;
use crate::namespace::{Namespace, NamespaceBuilder, share};
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::element::Element;
use crate::object::event::Event;
use crate::object::list::{self, List};
use crate::object::map::{self, Counter, Map, Set};
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::value::Value;
use crate::object::{Object, sealed::Sealed};
use crate::region::settings::Settings;
use crate::types::Shareable;
use crate::wait::WaitStrategy;

impl Namespace {
    /// Returns the namespace that an object is in, with default options.
    pub fn of(object: &impl Object) -> Self {
        let handle = object.handle();
        let member = handle.membership.owner().unwrap_or(&handle.membership);
        Self::new(member.clone(), handle.wait, Settings::default())
    }
}

macro_rules! standalone {
    ([$($generics:tt)*] $Type:ty, $method:ident, ($($arg:ident: $type:ty),*)) => {
        impl<$($generics)*> $Type {
            /// A builder that opens only such an object.
            fn single(builder: NamespaceBuilder) -> NamespaceBuilder {
                builder.single_object(<Self as Sealed>::spec())
            }

            /// The object of a namespace that was checked to have only this one.
            fn first_object(namespace: &Namespace) -> Result<Self> {
                let name = namespace.objects().next().map_or(String::new(), |(name, _)| name.to_string());
                namespace.object(&name)
            }

            fn builder_for($($arg: $type),*) -> NamespaceBuilder {
                Namespace::builder().$method("", $($arg),*)
            }

            /// Creates one without a name. Other processes get it with [`share`](Self::share), or
            /// with [`CommandExt::pass`](crate::spawn::CommandExt::pass).
            ///
            /// # Blocking
            ///
            /// Never.
            ///
            /// # Errors
            ///
            /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions),
            /// [`NoSpace`](crate::ErrorKind::NoSpace).
            pub fn new($($arg: $type),*) -> Result<Self> {
                Self::first_object(&Self::builder_for($($arg),*).create()?)
            }

            /// Creates one under a name that nothing else has. The name is removed when the last
            /// process that uses it leaves.
            ///
            /// For other directories, permissions and ways of waiting use [`Namespace::builder`].
            ///
            /// # Blocking
            ///
            /// Up to 5 s if another process was stopped while it joined.
            ///
            /// # Errors
            ///
            /// [`AlreadyExists`](crate::ErrorKind::AlreadyExists),
            /// [`InvalidName`](crate::ErrorKind::InvalidName),
            /// [`InvalidOptions`](crate::ErrorKind::InvalidOptions),
            /// [`NoSpace`](crate::ErrorKind::NoSpace).
            pub fn create_new(name: &str, $($arg: $type),*) -> Result<Self> {
                Self::first_object(&Self::builder_for($($arg),*).create_new().open(name)?)
            }

            /// Opens the one of that name, or creates it. The arguments must fit one that exists;
            /// its value is kept.
            ///
            /// # Blocking
            ///
            /// Like [`create_new`](Self::create_new).
            ///
            /// # Errors
            ///
            /// Those of [`NamespaceBuilder::open`].
            pub fn open_or_create(name: &str, $($arg: $type),*) -> Result<Self> {
                Self::first_object(&Self::single(Self::builder_for($($arg),*)).open(name)?)
            }

            /// Opens the one of that name.
            ///
            /// # Blocking
            ///
            /// Like [`create_new`](Self::create_new).
            ///
            /// # Errors
            ///
            /// Those of [`Namespace::open`], and [`WrongType`](crate::ErrorKind::WrongType) if it
            /// is of another type, or a namespace of several objects.
            pub fn open(name: &str) -> Result<Self> {
                Self::first_object(&Self::single(Namespace::builder()).must_exist().open(name)?)
            }

            /// Returns a descriptor with which another process can open it, with
            /// [`from_fd`](Self::from_fd). Blocks and fails like [`Namespace::share`].
            pub fn share(&self) -> Result<OwnedFd> {
                share(&self.handle().membership)
            }

            /// Opens the one behind a descriptor that [`share`](Self::share) returned. Blocks and
            /// fails like [`NamespaceBuilder::from_fd`].
            pub fn from_fd(descriptor: OwnedFd) -> Result<Self> {
                Self::first_object(&Self::single(Namespace::builder()).from_fd(descriptor)?)
            }

            /// Returns a handle whose calls wait in another way.
            pub fn with_wait(self, wait: WaitStrategy) -> Self {
                let mut handle = self.handle().clone();
                handle.wait = wait;
                Self::from_handle(handle)
            }
        }
    };
}

/// Creates an object with a copy of a value that may be too large for the stack.
macro_rules! from_reference {
    ($name:ident, $method:ident) => {
        impl<T: Shareable> $name<T> {
            /// Like [`new`](Self::new), but takes the initial value by reference.
            ///
            /// # Errors
            ///
            /// Those of [`new`](Self::new).
            pub fn new_from(initial: &T) -> Result<Self> {
                Self::first_object(&Namespace::builder().$method("", initial).create()?)
            }

            /// Like [`create_new`](Self::create_new), but takes the initial value by reference.
            ///
            /// # Errors
            ///
            /// Those of [`create_new`](Self::create_new).
            pub fn create_new_from(name: &str, initial: &T) -> Result<Self> {
                Self::first_object(&Namespace::builder().$method("", initial).create_new().open(name)?)
            }

            /// Like [`open_or_create`](Self::open_or_create), but takes the initial value by
            /// reference.
            ///
            /// # Errors
            ///
            /// Those of [`open_or_create`](Self::open_or_create).
            pub fn open_or_create_from(name: &str, initial: &T) -> Result<Self> {
                Self::first_object(&Self::single(Namespace::builder().$method("", initial)).open(name)?)
            }
        }
    };
}

from_reference!(Value, value_from);
from_reference!(ReentrantMutex, reentrant_mutex_from);

standalone!([T: Shareable] Value<T>, value, (initial: T));
standalone!([T: Number] AtomicValue<T>, atomic, (initial: T));
standalone!([T: Shareable] Array<T>, array, (initial: &[T]));
standalone!([T: Shareable] Mutex<T>, mutex, (initial: T));
standalone!([T: Shareable] ReentrantMutex<T>, reentrant_mutex, (initial: T));
standalone!([T: Shareable] RwLock<T>, rw_lock, (initial: T));
standalone!([] Semaphore, semaphore, (permits: u32));
standalone!([] BoundedSemaphore, bounded_semaphore, (permits: u32));
standalone!([] Condvar, condvar, ());
standalone!([] Event, event, ());
standalone!([] Barrier, barrier, (parties: usize));
standalone!([] Once, once, ());
standalone!([E: Element + ?Sized] List<E>, list, (options: &list::Options<E>));
standalone!([K: Element + ?Sized, V: Element + ?Sized] Map<K, V>, map, (options: &map::Options<K, V>));
standalone!([K: Element + ?Sized] Set<K>, map, (options: &map::Options<K, ()>));
standalone!([K: Element + ?Sized] Counter<K>, map, (options: &map::Options<K, i64>));
