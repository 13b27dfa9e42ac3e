//! Several objects in one mapping, each with a name.

mod builder;
mod growth;
mod lookup;
mod reference;
mod spec;
mod standalone;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broadcast::{self, BytePublisher, ByteSubscriber, Publisher, Subscriber};
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::bounded_semaphore::BoundedSemaphore;
use crate::object::condvar::Condvar;
use crate::object::element::Element;
use crate::object::event::Event;
use crate::object::kind::ObjectKind;
use crate::object::list::List;
use crate::object::map::{Counter, Map, Set};
use crate::object::member::Membership;
use crate::object::mutex::Mutex;
use crate::object::nested;
use crate::object::once::Once;
use crate::object::reentrant_mutex::ReentrantMutex;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::Semaphore;
use crate::object::spec::ObjectSpec;
use crate::object::table::{Entry, Table};
use crate::object::value::Value;
use crate::queue::{self, ByteQueue, Queue};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::settings::Settings;
use crate::sys::file;
use crate::types::{Shape, Shareable, hashed_name, type_tag};
use crate::wait::WaitStrategy;

pub use self::builder::NamespaceBuilder;
pub use self::lookup::NamespaceObject;
pub use self::reference::Reference;
pub use self::spec::Spec;

/// Values, arrays, locks, queues and other objects in one mapping. Any number of processes can open
/// them by name and type.
///
/// ```
/// use tombolo::Namespace;
///
/// # let scratch = std::env::temp_dir().join(format!("tombolo-doc-{}", std::process::id()));
/// let plan = Namespace::builder()
///     .value("price", 0.0_f64)
///     .array("levels", &[0_u64; 10])
///     .mutex("book", [0_i64; 4])
///     .bounded_semaphore("slots", 4)
///     .queue::<u64>("orders", 1024);
/// # let plan = plan.directory(&scratch);
/// let market = plan.open("market")?; // creates it if it is missing
/// market.value("price")?.store(&101.25)?;
///
/// // In any other process, with or without the plan:
/// let market = Namespace::builder().must_exist();
/// # let market = market.directory(&scratch);
/// let market = market.open("market")?;
/// assert_eq!(market.value::<f64>("price")?.load()?, 101.25);
/// market.queue::<u64>("orders")?.send(&7)?;
/// # drop(market);
/// # std::fs::remove_dir(scratch).ok();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A process takes part once in a namespace, however many handles it has. That takes one
/// descriptor.
///
/// A namespace with a name gets and loses objects while it is used: see
/// [`create`](Self::create) and [`remove`](Self::remove). Each of those is a mapping of its own.
///
/// The name is removed when the last process leaves, unless the namespace is
/// [`persistent`](NamespaceBuilder::persistent). If the last process was killed, the next one finds
/// everything as it was.
#[derive(Clone)]
pub struct Namespace {
    member: Arc<Membership>,
    wait: WaitStrategy,
    settings: Arc<Settings>,
    /// What types are called, instead of the names that numbers have.
    type_name: Option<TypeName>,
}

#[derive(Clone)]
struct TypeName {
    tag: [u8; 8],
    text: Arc<str>,
}

impl Namespace {
    /// Returns a builder, to say what is to be in it and how it is created or opened.
    pub fn builder() -> NamespaceBuilder {
        NamespaceBuilder::default()
    }

    /// Opens the namespace of that name, whatever is in it.
    ///
    /// # Blocking
    ///
    /// Up to 5 s if another process was stopped while it joined.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no such name.
    /// - [`ErrorKind::WrongType`] if the region is not a namespace.
    /// - [`ErrorKind::TooManyParticipants`] if as many processes take part as can.
    /// - [`ErrorKind::NotARegion`], [`ErrorKind::WrongVersion`] or [`ErrorKind::Corrupt`] if this
    ///   version cannot read the file.
    /// - [`ErrorKind::Busy`] if another process was stopped while it joined.
    pub fn open(name: &str) -> Result<Self> {
        Self::builder().must_exist().open(name)
    }

    /// Opens the namespace behind a descriptor that [`share`](Self::share) returned.
    ///
    /// # Blocking
    ///
    /// Like [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Those of [`NamespaceBuilder::from_fd`].
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self> {
        Self::builder().from_fd(descriptor)
    }

    pub(crate) fn new(member: Arc<Membership>, wait: WaitStrategy, settings: Settings) -> Self {
        Self { member, wait, settings: Arc::new(settings), type_name: None }
    }

    /// Returns a descriptor with which other processes can open the namespace, with
    /// [`from_fd`](Self::from_fd). Any number of them can, with copies of it.
    ///
    /// A descriptor of a named namespace is accepted on tmpfs only. Elsewhere pass the name.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forked`] in a forked child, [`ErrorKind::Io`] if there are no descriptors left.
    pub fn share(&self) -> Result<OwnedFd> {
        share(&self.member)
    }

    /// Returns the name with which it was opened. `None` if it has no name.
    pub fn name(&self) -> Option<&str> {
        self.member.region().path().map(|place| place.name.as_str())
    }

    /// Returns which options could not be honoured when it was created or opened, each in a
    /// sentence. It works without them.
    pub fn warnings(&self) -> &[String] {
        self.member.region().warnings()
    }

    /// Returns the names and kinds of the objects that it began with. [`entries`](Self::entries)
    /// has those that were created later, too.
    pub fn objects(&self) -> impl Iterator<Item = (&str, ObjectKind)> {
        self.member.table().entries.iter().map(|entry| (entry.name.as_str(), entry.spec.kind))
    }

    /// Returns a handle of this namespace for objects whose type was given this name instead of
    /// its own ([`NamespaceBuilder::type_tag`]).
    pub fn type_tag(&self, name: &str) -> Self {
        Self { type_name: Some(TypeName { tag: type_tag(name), text: name.into() }), ..self.clone() }
    }

    /// Returns a handle of this namespace for objects with this tag.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn with_tag(&self, tag: [u8; 8]) -> Self {
        Self { type_name: Some(TypeName { tag, text: "".into() }), ..self.clone() }
    }

    /// Opens the object of that name: a value, a lock or another object, a [`Queue`], or an
    /// endpoint of a broadcast.
    ///
    /// # Blocking
    ///
    /// Never if the namespace began with it. Otherwise like [`Namespace::open`].
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::NotFound`] if there is no object of that name.
    /// - [`ErrorKind::WrongType`] if it is of another kind, or holds values of another type.
    /// - [`ErrorKind::TooManyParticipants`] if as many processes use it as can.
    /// - [`ErrorKind::Forked`] in a forked child.
    pub fn object<O: NamespaceObject>(&self, name: &str) -> Result<O> {
        let found = self.find(name)?;
        self.check_type(&found, O::spec()?)?;
        O::attach(self, found)
    }

    /// Opens the value of that name. Blocks and fails like [`object`](Self::object).
    pub fn value<T: Shareable>(&self, name: &str) -> Result<Value<T>> {
        self.object(name)
    }

    /// Opens the number of that name. Blocks and fails like [`object`](Self::object).
    pub fn atomic<T: Number>(&self, name: &str) -> Result<AtomicValue<T>> {
        self.object(name)
    }

    /// Opens the array of that name. Blocks and fails like [`object`](Self::object).
    pub fn array<T: Shareable>(&self, name: &str) -> Result<Array<T>> {
        self.object(name)
    }

    /// Opens the mutex of that name. Blocks and fails like [`object`](Self::object).
    pub fn mutex<T: Shareable>(&self, name: &str) -> Result<Mutex<T>> {
        self.object(name)
    }

    /// Opens the re-entrant mutex of that name. Blocks and fails like [`object`](Self::object).
    pub fn reentrant_mutex<T: Shareable>(&self, name: &str) -> Result<ReentrantMutex<T>> {
        self.object(name)
    }

    /// Opens the read-write lock of that name. Blocks and fails like [`object`](Self::object).
    pub fn rw_lock<T: Shareable>(&self, name: &str) -> Result<RwLock<T>> {
        self.object(name)
    }

    /// Opens the map of that name. Blocks and fails like [`object`](Self::object).
    pub fn map<K: Element + ?Sized, V: Element + ?Sized>(&self, name: &str) -> Result<Map<K, V>> {
        self.object(name)
    }

    /// Opens the map of that name as a set: its values are `()`. Blocks and fails like
    /// [`object`](Self::object).
    ///
    /// ```
    /// use tombolo::Namespace;
    /// use tombolo::collections::set;
    ///
    /// let crawl = Namespace::builder().map("seen", &set::Options::<str>::new()).create()?;
    /// crawl.set::<str>("seen")?.insert("http://example.org/")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn set<K: Element + ?Sized>(&self, name: &str) -> Result<Set<K>> {
        self.object(name)
    }

    /// Opens the map of that name as a counter: its values are `i64`. Blocks and fails like
    /// [`object`](Self::object).
    pub fn counter<K: Element + ?Sized>(&self, name: &str) -> Result<Counter<K>> {
        self.object(name)
    }

    /// Opens the list of that name. Blocks and fails like [`object`](Self::object).
    pub fn list<E: Element + ?Sized>(&self, name: &str) -> Result<List<E>> {
        self.object(name)
    }

    /// Opens the semaphore of that name. Blocks and fails like [`object`](Self::object).
    pub fn semaphore(&self, name: &str) -> Result<Semaphore> {
        self.object(name)
    }

    /// Opens the bounded semaphore of that name. Blocks and fails like [`object`](Self::object).
    pub fn bounded_semaphore(&self, name: &str) -> Result<BoundedSemaphore> {
        self.object(name)
    }

    /// Opens the condition variable of that name. Blocks and fails like [`object`](Self::object).
    pub fn condvar(&self, name: &str) -> Result<Condvar> {
        self.object(name)
    }

    /// Opens the event of that name. Blocks and fails like [`object`](Self::object).
    pub fn event(&self, name: &str) -> Result<Event> {
        self.object(name)
    }

    /// Opens the barrier of that name. Blocks and fails like [`object`](Self::object).
    pub fn barrier(&self, name: &str) -> Result<Barrier> {
        self.object(name)
    }

    /// Opens the once of that name. Blocks and fails like [`object`](Self::object).
    pub fn once(&self, name: &str) -> Result<Once> {
        self.object(name)
    }

    /// Opens the queue of values of that name, to send and to receive. [`split`](Queue::split) it
    /// if you need one of the two.
    ///
    /// # Blocking
    ///
    /// Like [`queue::Options::open`].
    ///
    /// # Errors
    ///
    /// Those of [`object`](Self::object), and [`ErrorKind::TooManyParticipants`].
    pub fn queue<T: Shareable>(&self, name: &str) -> Result<Queue<T>> {
        self.object(name)
    }

    /// Opens the queue of byte messages of that name. Blocks and fails like [`queue`](Self::queue).
    pub fn queue_bytes(&self, name: &str) -> Result<ByteQueue> {
        self.object(name)
    }

    /// Opens the broadcast of values of that name, and becomes one of its publishers.
    ///
    /// # Blocking
    ///
    /// Like [`broadcast::Options::publisher`].
    ///
    /// # Errors
    ///
    /// Those of [`object`](Self::object), and [`ErrorKind::TooManyParticipants`].
    pub fn publisher<T: Shareable>(&self, name: &str) -> Result<Publisher<T>> {
        self.object(name)
    }

    /// Opens the broadcast of values of that name, and becomes one of its subscribers. It gets the
    /// history, if the broadcast keeps one. Blocks and fails like [`publisher`](Self::publisher).
    pub fn subscriber<T: Shareable>(&self, name: &str) -> Result<Subscriber<T>> {
        self.object(name)
    }

    /// Opens the broadcast of byte messages of that name, and becomes one of its publishers. Blocks
    /// and fails like [`publisher`](Self::publisher).
    pub fn byte_publisher(&self, name: &str) -> Result<BytePublisher> {
        self.object(name)
    }

    /// Opens the broadcast of byte messages of that name, and becomes one of its subscribers.
    /// Blocks and fails like [`publisher`](Self::publisher).
    pub fn byte_subscriber(&self, name: &str) -> Result<ByteSubscriber> {
        self.object(name)
    }
}

/// Returns a descriptor of a namespace.
fn share(member: &Membership) -> Result<OwnedFd> {
    if !member.is_from_this_process() {
        return Err(Error::forked("share a namespace"));
    }
    file::reopen(member.region().file()).map_err(|error| Error::io("open a region again", error, "try again"))
}

/// The planned object of that name, of whatever type.
fn find<'a>(table: &'a Table, name: &str) -> Result<(usize, &'a Entry)> {
    table.find(name).ok_or_else(|| not_found(name, table.entries.iter().map(|entry| entry.name.clone()).collect()))
}

/// The error for a name that is none of `names`.
fn not_found(name: &str, names: Vec<String>) -> Error {
    let action = format!("open the object {name:?}");
    let found = if names.is_empty() { "no objects".to_string() } else { format!("the objects {}", names.join(", ")) };
    Error::new(ErrorKind::NotFound, action, found, "one of that name", "use one of these names, or create it")
}

fn check_type(region: &Region, found: &Entry, expected: &ObjectSpec) -> Result<()> {
    if found.spec.matches(expected) {
        return Ok(());
    }
    let name = hashed_name(&expected.shape.map(Shape::to_string).unwrap_or_default());
    Err(type_mismatch(region, found, expected.type_name_without_count() + &name))
}

fn type_mismatch(region: &Region, found: &Entry, expected: String) -> Error {
    // An object on its own has the name of its region, or none.
    let action = match (found.name.as_str(), region.path()) {
        ("", Some(path)) => format!("open {:?}", path.name),
        ("", None) => "open this object".to_string(),
        (name, _) => format!("open the object {name:?}"),
    };
    let remedy = "open it as what it is, or use another name";
    Error::new(ErrorKind::WrongType, action, found.spec.type_name(), expected, remedy)
}

/// What a queue with these options is.
fn queue_spec<M: Message + ?Sized>(options: &queue::Options<M>) -> Result<ObjectSpec> {
    // The tag is in the entry only.
    let mut queue = options.layout()?;
    queue.element = M::element([0; 8]);
    let nested = Some(Layout::Queue(queue));
    Ok(ObjectSpec { nested, ..ObjectSpec::without_value(ObjectKind::Queue, 0) }.with_shape(M::SHAPE))
}

/// What a broadcast with these options is.
fn broadcast_spec<M: Message + ?Sized>(options: &broadcast::Options<M>) -> Result<ObjectSpec> {
    let mut broadcast = options.layout()?;
    broadcast.element = M::element([0; 8]);
    let layout = Layout::Broadcast(broadcast);
    if !nested::can_nest(&layout) {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            "lay out this broadcast in a namespace",
            "one with frames",
            "one without",
            "give the broadcast a name of its own",
        ));
    }
    Ok(ObjectSpec { nested: Some(layout), ..ObjectSpec::without_value(ObjectKind::Broadcast, 0) }.with_shape(M::SHAPE))
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name()).field("member", &self.member).finish()
    }
}
