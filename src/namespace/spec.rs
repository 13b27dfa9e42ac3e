//! What an object is that is created in a namespace.

use std::fmt;
use std::marker::PhantomData;

use crate::broadcast::{self, BytePublisher, Publisher};
use crate::namespace::{Namespace, NamespaceBuilder};
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::element::Element;
use crate::object::event::Event;
use crate::object::list::{self, List};
use crate::object::map::{self, Map};
use crate::object::mutex::Mutex;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::value::Value;
use crate::queue::{self, ByteQueue, Queue};
use crate::types::Shareable;

/// What an object is and how it begins, for [`Namespace::create`] and
/// [`Namespace::open_or_create`], which return an `O`.
///
/// ```
/// use tombolo::{Namespace, Spec};
///
/// # let scratch = std::env::temp_dir().join(format!("tombolo-spec-{}", std::process::id()));
/// let builder = Namespace::builder();
/// # let builder = builder.directory(&scratch);
/// let namespace = builder.open("example")?;
/// let x = namespace.create("x", Spec::atomic(1))?;
/// let lock = namespace.create("lock", Spec::mutex([0_u64; 4]))?;
/// x.fetch_add(5);
/// assert_eq!(namespace.atomic::<i32>("x")?.load(), 6);
/// # drop((x, lock, namespace));
/// # std::fs::remove_dir(scratch).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "it is not created yet"]
pub struct Spec<O> {
    /// Plans this object and no other.
    builder: NamespaceBuilder,
    object: PhantomData<fn() -> O>,
}

impl<O> Spec<O> {
    fn new(builder: NamespaceBuilder) -> Self {
        Self { builder, object: PhantomData }
    }

    /// Gives its type another name than its own. See [`NamespaceBuilder::type_tag`].
    pub fn type_tag(self, name: &str) -> Self {
        Self::new(self.builder.type_tag(name))
    }

    pub(super) fn into_builder(self) -> NamespaceBuilder {
        self.builder
    }
}

macro_rules! specs {
    ($($(#[$doc:meta])* $name:ident $(<$t:ident: $bound:ident>)? ($($arg:ident: $type:ty),*) -> $object:ty;)*) => { $(
        $(#[$doc])*
        pub fn $name $(<$t: $bound>)? ($($arg: $type),*) -> Spec<$object> {
            Spec::new(Namespace::builder().$name $(::<$t>)? ("", $($arg),*))
        }
    )* };
}

impl Spec<()> {
    specs! {
        /// A [`Value`].
        value<T: Shareable>(initial: T) -> Value<T>;
        /// A [`Value`] with a copy of `initial`, which may be too large for the stack.
        value_from<T: Shareable>(initial: &T) -> Value<T>;
        /// An [`AtomicValue`].
        atomic<T: Number>(initial: T) -> AtomicValue<T>;
        /// An [`Array`] of these elements.
        array<T: Shareable>(initial: &[T]) -> Array<T>;
        /// An [`Array`] of `length` zeros. See [`NamespaceBuilder::array_zeroed`].
        array_zeroed<T: Shareable>(length: usize) -> Array<T>;
        /// A [`Mutex`].
        mutex<T: Shareable>(initial: T) -> Mutex<T>;
        /// A [`ReentrantMutex`].
        reentrant_mutex<T: Shareable>(initial: T) -> ReentrantMutex<T>;
        /// A [`ReentrantMutex`] with a copy of `initial`, which may be too large for the stack.
        reentrant_mutex_from<T: Shareable>(initial: &T) -> ReentrantMutex<T>;
        /// An [`RwLock`].
        rw_lock<T: Shareable>(initial: T) -> RwLock<T>;
        /// A [`Semaphore`] that begins with `permits` permits, at most 2^31 - 1.
        semaphore(permits: u32) -> Semaphore;
        /// A [`BoundedSemaphore`] of `permits` permits.
        bounded_semaphore(permits: u32) -> BoundedSemaphore;
        /// A [`Condvar`].
        condvar() -> Condvar;
        /// An [`Event`] that is not set.
        event() -> Event;
        /// A [`Barrier`] for `parties` parties.
        barrier(parties: usize) -> Barrier;
        /// A [`Once`].
        once() -> Once;
        /// A [`Queue`] for `capacity` values, rounded up to a power of two.
        queue<T: Shareable>(capacity: usize) -> Queue<T>;
        /// A [`Queue`] of byte messages. See [`NamespaceBuilder::queue_bytes`].
        queue_bytes(capacity: usize, max_message_bytes: usize) -> ByteQueue;
    }

    /// A [`Queue`], as these options describe it. See [`NamespaceBuilder::queue_with`].
    pub fn queue_with<T: Shareable>(options: &queue::Options<T>) -> Spec<Queue<T>> {
        Spec::new(Namespace::builder().queue_with("", options))
    }

    /// A [`Queue`] of byte messages, as these options describe it. See
    /// [`NamespaceBuilder::queue_with`].
    pub fn queue_bytes_with(options: &queue::Options<[u8]>) -> Spec<ByteQueue> {
        Spec::new(Namespace::builder().queue_with("", options))
    }

    /// A [`Map`], as these options describe it. See [`NamespaceBuilder::map`].
    pub fn map<K: Element + ?Sized, V: Element + ?Sized>(options: &map::Options<K, V>) -> Spec<Map<K, V>> {
        Spec::new(Namespace::builder().map("", options))
    }

    /// A [`List`], as these options describe it. See [`NamespaceBuilder::list`].
    pub fn list<E: Element + ?Sized>(options: &list::Options<E>) -> Spec<List<E>> {
        Spec::new(Namespace::builder().list("", options))
    }

    /// A [broadcast], as these options describe it. Its creator is one of its publishers.
    pub fn broadcast<T: Shareable>(options: &broadcast::Options<T>) -> Spec<Publisher<T>> {
        Spec::new(Namespace::builder().broadcast("", options))
    }

    /// A [broadcast] of byte messages, as these options describe it. Its creator is one of its
    /// publishers.
    pub fn broadcast_bytes(options: &broadcast::Options<[u8]>) -> Spec<BytePublisher> {
        Spec::new(Namespace::builder().broadcast("", options))
    }
}

impl<O> fmt::Debug for Spec<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spec").field("plan", &self.builder).finish()
    }
}
