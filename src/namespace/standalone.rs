//! Objects on their own: each in a namespace that has nothing else.

use std::os::fd::OwnedFd;

use bytemuck::Pod;

use crate::error::Result;
use crate::namespace::{Namespace, NamespaceBuilder};
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::event::Event;
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::value::Value;
use crate::object::{Object, sealed::Sealed};
use crate::wait::WaitStrategy;

impl Namespace {
    /// The namespace that an object is in.
    pub fn of(object: &impl Object) -> Self {
        let handle = object.handle();
        Self::new(handle.membership.clone(), handle.wait)
    }
}

macro_rules! standalone {
    ($name:ident $(<$t:ident: $bound:ident>)?, $method:ident, ($($arg:ident: $type:ty),*)) => {
        impl $(<$t: $bound>)? $name $(<$t>)? {
            fn alone(builder: NamespaceBuilder) -> NamespaceBuilder {
                builder.sole(<Self as Sealed>::spec())
            }

            fn only(namespace: &Namespace) -> Result<Self> {
                // Seen to when it was opened.
                let name = namespace.objects().next().map_or(String::new(), |(name, _)| name.to_string());
                namespace.object(&name)
            }

            fn planned($($arg: $type),*) -> NamespaceBuilder {
                Namespace::builder().$method("", $($arg),*)
            }

            /// One on its own, that nobody else can reach unless handed it ([`share`](Self::share)).
            ///
            /// **Blocking**: never. **Errors**: what there cannot be, no memory.
            pub fn new($($arg: $type),*) -> Result<Self> {
                Self::only(&Self::planned($($arg),*).create()?)
            }

            /// One on its own, under a name that nobody else may have. Gone when the last process that uses it has left. For other
            /// directories, permissions and ways of waiting: [`Namespace::builder`].
            ///
            /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: the name is taken, or cannot be one, no
            /// memory.
            pub fn create_new(name: &str, $($arg: $type),*) -> Result<Self> {
                Self::only(&Self::planned($($arg),*).create_new().open(name)?)
            }

            /// The one of that name, made if it is missing. Else like [`create_new`](Self::create_new).
            pub fn open_or_create(name: &str, $($arg: $type),*) -> Result<Self> {
                Self::only(&Self::alone(Self::planned($($arg),*)).open(name)?)
            }

            /// The one of that name. **Errors**: there is none, or it is of another type.
            pub fn open(name: &str) -> Result<Self> {
                Self::only(&Self::alone(Namespace::builder()).must_exist().open(name)?)
            }

            /// A descriptor through which another process can use it, too: with [`from_fd`](Self::from_fd).
            pub fn share(&self) -> Result<OwnedFd> {
                Namespace::of(self).share()
            }

            /// The one behind a descriptor that [`share`](Self::share) made.
            pub fn from_fd(descriptor: OwnedFd) -> Result<Self> {
                Self::only(&Self::alone(Namespace::builder()).from_fd(descriptor)?)
            }

            /// Opens the one that the parent passed under this label
            /// ([`CommandExt::pass`](crate::spawn::CommandExt::pass)), which can be done once.
            pub fn take(label: &str) -> Result<Self> {
                crate::spawn::take(label)
            }

            /// What calls of this handle do while they wait.
            pub fn with_wait(self, wait: WaitStrategy) -> Self {
                let mut handle = self.handle().clone();
                handle.wait = wait;
                Self::from_handle(handle)
            }
        }
    };
}

standalone!(Value<T: Pod>, value, (initial: T));
standalone!(AtomicValue<T: Number>, atomic, (initial: T));
standalone!(Array<T: Pod>, array, (initial: &[T]));
standalone!(Mutex<T: Pod>, mutex, (initial: T));
standalone!(ReentrantMutex<T: Pod>, reentrant_mutex, (initial: T));
standalone!(RwLock<T: Pod>, rw_lock, (initial: T));
standalone!(Semaphore, semaphore, (permits: u32));
standalone!(BoundedSemaphore, bounded_semaphore, (permits: u32));
standalone!(Condvar, condvar, ());
standalone!(Event, event, ());
standalone!(Barrier, barrier, (parties: usize));
standalone!(Once, once, ());
