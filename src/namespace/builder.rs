//! What is to be in a namespace, and how it is created or opened.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::broadcast;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::namespace::{Namespace, broadcast_spec, check_type, find, queue_spec, type_mismatch};
use crate::object::atomic::Number;
use crate::object::kind::ObjectKind;
use crate::object::list;
use crate::object::map::{self, Element};
use crate::object::member::Membership;
use crate::object::nested;
use crate::object::spec::{InitialValue, ObjectSpec};
use crate::object::table::{Entry, Table};
use crate::options::{CommonOptions, OpenMode, common_options, expect_joined, wrong_type};
use crate::queue;
use crate::queue::state::QueueState;
use crate::region::Region;
use crate::region::directory::Directory;
use crate::region::layout::header::RegionKind;
use crate::region::layout::queue::{QueueGeometry, QueueLayout};
use crate::region::layout::{Layout, MAX_PARTICIPANTS};
use crate::region::settings::{Bounds, Settings};
use crate::sys::file;
use crate::types::{Shareable, bits_of, slice_bits_of, type_tag};

/// Processes that can take part unless the builder sets another number.
const DEFAULT_MAX_PARTICIPANTS: usize = 64;

/// What is to be in a [`Namespace`], and how it is created or opened. Made by
/// [`Namespace::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing is created or opened until `create` or `open` is called"]
pub struct NamespaceBuilder {
    common: CommonOptions,
    objects: Vec<(String, ObjectSpec)>,
    initial: Vec<InitialValue>,
    max_participants: usize,
    persistent: bool,
    /// Open it only if it is one such object and nothing else.
    single_object: Option<ObjectSpec>,
    /// It is an object of that namespace.
    owner: Option<Arc<Membership>>,
    /// Why a queue, a broadcast or a map cannot be created, and its name. For the next call that
    /// returns a result.
    deferred_error: Option<(String, String)>,
}

impl Default for NamespaceBuilder {
    fn default() -> Self {
        Self {
            common: CommonOptions::default(),
            objects: Vec::new(),
            initial: Vec::new(),
            max_participants: DEFAULT_MAX_PARTICIPANTS,
            persistent: false,
            single_object: None,
            owner: None,
            deferred_error: None,
        }
    }
}

impl NamespaceBuilder {
    fn add(mut self, name: &str, spec: ObjectSpec, initial: InitialValue) -> Self {
        self.objects.push((name.to_string(), spec));
        self.initial.push(initial);
        self
    }

    fn add_value<T: Shareable>(self, name: &str, kind: ObjectKind, initial: &T) -> Self {
        let bytes = bytemuck::bytes_of(bits_of(initial)).to_vec();
        self.add(name, ObjectSpec::of::<T>(kind, 0), InitialValue::Bytes(bytes))
    }

    /// Gives the type of the object that was added last another name than its own, for instance
    /// `"tick v1"`.
    ///
    /// A process that opens the object has to give the same name, with [`Namespace::type_tag`]. A
    /// name of up to eight bytes is stored as it is, a longer one as a hash. An empty name matches
    /// any type of the same size and alignment.
    pub fn type_tag(mut self, name: &str) -> Self {
        if let Some((_, spec)) = self.objects.last_mut() {
            (spec.tag, spec.shape) = (type_tag(name), None);
        }
        self
    }

    /// Adds a [`Value`](crate::sync::Value).
    pub fn value<T: Shareable>(self, name: &str, initial: T) -> Self {
        self.add_value(name, ObjectKind::Value, &initial)
    }

    /// Adds a [`Value`](crate::sync::Value) with a copy of `initial`, which may be too large for
    /// the stack.
    pub fn value_from<T: Shareable>(self, name: &str, initial: &T) -> Self {
        self.add_value(name, ObjectKind::Value, initial)
    }

    /// Adds an [`AtomicValue`](crate::sync::AtomicValue).
    pub fn atomic<T: Number>(self, name: &str, initial: T) -> Self {
        self.add(name, ObjectSpec::of::<T>(ObjectKind::Atomic, 0), InitialValue::Word(initial.to_bits()))
    }

    /// Adds an [`Array`](crate::sync::Array) of these elements.
    pub fn array<T: Shareable>(self, name: &str, initial: &[T]) -> Self {
        let spec = ObjectSpec::of::<T>(ObjectKind::Array, initial.len() as u64);
        self.add(name, spec, InitialValue::Bytes(bytemuck::cast_slice(slice_bits_of(initial)).to_vec()))
    }

    /// Adds an [`Array`](crate::sync::Array) of `length` zeros. If zeros are no value of the type,
    /// reading an element that was not set returns
    /// [`InvalidValue`](crate::sync::SyncError::InvalidValue).
    pub fn array_zeroed<T: Shareable>(self, name: &str, length: usize) -> Self {
        self.add(name, ObjectSpec::of::<T>(ObjectKind::Array, length as u64), InitialValue::Zero)
    }

    /// Adds a [`Mutex`](crate::sync::Mutex).
    pub fn mutex<T: Shareable>(self, name: &str, initial: T) -> Self {
        self.add_value(name, ObjectKind::Mutex, &initial)
    }

    /// Adds a [`ReentrantMutex`](crate::sync::ReentrantMutex).
    pub fn reentrant_mutex<T: Shareable>(self, name: &str, initial: T) -> Self {
        self.add_value(name, ObjectKind::ReentrantMutex, &initial)
    }

    /// Adds a [`ReentrantMutex`](crate::sync::ReentrantMutex) with a copy of `initial`, which may
    /// be too large for the stack.
    pub fn reentrant_mutex_from<T: Shareable>(self, name: &str, initial: &T) -> Self {
        self.add_value(name, ObjectKind::ReentrantMutex, initial)
    }

    /// Adds an [`RwLock`](crate::sync::RwLock).
    pub fn rw_lock<T: Shareable>(self, name: &str, initial: T) -> Self {
        self.add_value(name, ObjectKind::RwLock, &initial)
    }

    /// Adds a [`Semaphore`](crate::sync::Semaphore) that begins with `permits` permits, at most
    /// 2^31 - 1.
    pub fn semaphore(self, name: &str, permits: u32) -> Self {
        self.add(
            name,
            ObjectSpec::without_value(ObjectKind::Semaphore, permits.into()),
            InitialValue::Word(permits.into()),
        )
    }

    /// Adds a [`BoundedSemaphore`](crate::sync::BoundedSemaphore) of `permits` permits.
    pub fn bounded_semaphore(self, name: &str, permits: u32) -> Self {
        self.add(name, ObjectSpec::without_value(ObjectKind::BoundedSemaphore, permits.into()), InitialValue::Zero)
    }

    /// Adds a [`Condvar`](crate::sync::Condvar).
    pub fn condvar(self, name: &str) -> Self {
        self.add(name, ObjectSpec::without_value(ObjectKind::Condvar, 0), InitialValue::Zero)
    }

    /// Adds an [`Event`](crate::sync::Event) that is not set.
    pub fn event(self, name: &str) -> Self {
        self.add(name, ObjectSpec::without_value(ObjectKind::Event, 0), InitialValue::Zero)
    }

    /// Adds a [`Barrier`](crate::sync::Barrier) for `parties` parties.
    pub fn barrier(self, name: &str, parties: usize) -> Self {
        self.add(name, ObjectSpec::without_value(ObjectKind::Barrier, parties as u64), InitialValue::Zero)
    }

    /// Adds a [`Once`](crate::sync::Once).
    pub fn once(self, name: &str) -> Self {
        self.add(name, ObjectSpec::without_value(ObjectKind::Once, 0), InitialValue::Zero)
    }

    /// Adds a [`Queue`](queue::Queue) for `capacity` values, rounded up to a power of two.
    pub fn queue<T: Shareable>(self, name: &str, capacity: usize) -> Self {
        self.queue_of(name, queue::Options::<T>::default().capacity(capacity))
    }

    /// Adds a [`Queue`](queue::Queue) of byte messages. `capacity` is how many can wait, rounded up
    /// to a power of two. `max_message_bytes` is how long each of them can be.
    ///
    /// All of its memory is allocated from the beginning.
    ///
    /// ```
    /// // 1024 messages of at most 256 bytes.
    /// let plan = tombolo::Namespace::builder().queue_bytes("log", 1024, 256);
    /// # plan.create()?;
    /// # Ok::<(), tombolo::Error>(())
    /// ```
    pub fn queue_bytes(self, name: &str, capacity: usize, max_message_bytes: usize) -> Self {
        let options = queue::Options::bytes().capacity(capacity).max_message_bytes(max_message_bytes).extents(0);
        let blocks = if max_message_bytes > options.inline_limit() { capacity } else { 0 };
        self.queue_of(name, options.blocks(queue::Blocks { count: blocks, bytes: max_message_bytes }))
    }

    /// Adds a [queue](queue), as these options describe it: its type, its capacity, and what
    /// becomes of messages whose receivers die. How many participants it has depends on the
    /// namespace.
    ///
    /// Byte messages need [`blocks`](queue::Options::blocks) that are as long as
    /// [`max_message_bytes`](queue::Options::max_message_bytes): there are no extents in a
    /// namespace.
    ///
    /// ```
    /// use tombolo::{Namespace, queue};
    ///
    /// let jobs = queue::Options::<u64>::new().on_death(queue::OnDeath::Redeliver { times: 3 });
    /// let namespace = Namespace::builder().queue_with("jobs", &jobs).create()?;
    /// let mut queue = namespace.queue::<u64>("jobs")?;
    /// queue.send(7)?;
    /// assert_eq!(queue.recv_task()?.done()?, 7);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn queue_with<M: Message + ?Sized>(self, name: &str, options: &queue::Options<M>) -> Self {
        self.queue_of(name, options.clone().without_extents())
    }

    fn queue_of<M: Message + ?Sized>(self, name: &str, options: queue::Options<M>) -> Self {
        self.add_planned(name, queue_spec(&options))
    }

    /// Adds a [broadcast](broadcast), as these options describe it: its type, capacity, history,
    /// policy, and how many publishers and subscribers there can be.
    ///
    /// ```
    /// use tombolo::{Namespace, broadcast};
    ///
    /// let ticks = broadcast::Options::<f64>::new().history(1);
    /// let market = Namespace::builder().broadcast("ticks", &ticks).create()?;
    /// let mut publisher = market.publisher::<f64>("ticks")?;
    /// let mut subscriber = market.subscriber::<f64>("ticks")?;
    /// publisher.publish(101.25)?;
    /// assert_eq!(subscriber.recv()?, 101.25);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn broadcast<M: Message + ?Sized>(self, name: &str, options: &broadcast::Options<M>) -> Self {
        self.add_planned(name, broadcast_spec(options))
    }

    /// Adds a [`Map`](crate::collections::Map), as these options describe it.
    ///
    /// ```
    /// use tombolo::Namespace;
    /// use tombolo::collections::map;
    ///
    /// let options = map::Options::<str, f64>::new().max_entries(10_000);
    /// let market = Namespace::builder().map("prices", &options).create()?;
    /// let prices = market.map::<str, f64>("prices")?;
    /// prices.insert("TMBL", &101.25)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn map<K: Element + ?Sized, V: Element + ?Sized>(self, name: &str, options: &map::Options<K, V>) -> Self {
        self.add_planned(name, options.spec())
    }

    /// Adds a [`List`](crate::collections::List), as these options describe it.
    ///
    /// ```
    /// use tombolo::Namespace;
    /// use tombolo::collections::list;
    ///
    /// let options = list::Options::<f64>::new().max_length(10_000);
    /// let market = Namespace::builder().list("trades", &options).create()?;
    /// let trades = market.list::<f64>("trades")?;
    /// trades.push(&101.25)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn list<T: Shareable>(self, name: &str, options: &list::Options<T>) -> Self {
        self.add(name, options.spec(), InitialValue::Zero)
    }

    fn add_planned(mut self, name: &str, spec: Result<ObjectSpec>) -> Self {
        match spec {
            Ok(spec) => self.add(name, spec, InitialValue::Zero),
            Err(error) => {
                self.deferred_error.get_or_insert((name.to_string(), error.to_string()));
                self
            }
        }
    }

    /// Sets how many processes can take part at the same time. 64 unless set, 4096 at most.
    ///
    /// A queue in the namespace has room for a sender and a receiver of each process, but for 4096
    /// participants at most. Beyond 2048 processes it may be full before the namespace is.
    pub fn max_participants(mut self, count: usize) -> Self {
        self.max_participants = count;
        self
    }

    /// Keeps the name, and all objects with it, when the last process leaves. Remove it with
    /// [`Directory::unlink`](crate::Directory::unlink).
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    common_options!();

    /// Creates a namespace without a name. Other processes get it with [`Namespace::share`], or
    /// with [`CommandExt::pass`](crate::spawn::CommandExt::pass). It gets no other objects later.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOptions`], [`ErrorKind::NoSpace`].
    pub fn create(&self) -> Result<Namespace> {
        if self.objects.is_empty() && self.deferred_error.is_none() {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                "create a namespace without a name",
                "no objects",
                "at least one, as it gets no other objects later",
                "plan its objects, or open it by a name",
            ));
        }
        Ok(self.with_member(expect_joined(Membership::join(self.create_region(false)?, None)?)?.register()))
    }

    /// Opens the namespace of that name, or creates it. One that exists must contain the objects
    /// that were added here, and may contain others. Without any it begins empty: see
    /// [`Namespace::create`].
    ///
    /// # Blocking
    ///
    /// Up to 5 s if another process was stopped while it joined. If every place is taken, up to a
    /// second while a process in one of them is ending, and as long as
    /// [`open_timeout`](Self::open_timeout) says.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidName`], [`ErrorKind::InvalidOptions`], [`ErrorKind::NoSpace`].
    /// - [`ErrorKind::NotFound`] if an object is missing.
    /// - [`ErrorKind::WrongType`] if an object is of another type, or the region is not a
    ///   namespace.
    /// - [`ErrorKind::TooManyParticipants`] if as many processes take part as can.
    /// - [`ErrorKind::Busy`] if another process was stopped while it joined.
    pub fn open(&self, name: &str) -> Result<Namespace> {
        self.check_objects()?;
        let join = |region: Region| {
            self.check(&region)?;
            Ok(Membership::get_or_join(region, self.owner.clone())?.map(|member| self.with_member(member)))
        };
        let create = || {
            // Join before it has its name: no process ever finds it without members and takes it
            // for stale.
            let mut member = expect_joined(Membership::join(self.create_region(true)?, self.owner.clone())?)?;
            member.give_name(name, &self.common.settings.directory)?;
            Ok(self.with_member(member.register()))
        };
        self.common.named(name, self.bounds(), join, create)
    }

    /// Opens the namespace behind a descriptor that [`Namespace::share`] returned.
    ///
    /// # Blocking
    ///
    /// Like [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open). Refuses a region
    ///
    /// - larger than [`max_region_bytes`](Self::max_region_bytes),
    /// - in reserved huge pages, without [`huge_pages`](Self::huge_pages),
    /// - whose file can be truncated and is not on tmpfs,
    /// - whose file can be truncated and belongs to another user, without
    ///   [`allow_other_owner`](Self::allow_other_owner).
    pub fn from_fd(&self, descriptor: OwnedFd) -> Result<Namespace> {
        self.check_objects()?;
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region)?;
        // Copies of the descriptor may be elsewhere, and a lock belongs to all of them.
        Ok(self.with_member(expect_joined(Membership::get_or_join(region.reopen()?, None)?)?))
    }

    fn with_member(&self, member: Arc<Membership>) -> Namespace {
        Namespace::new(member, self.common.wait, self.common.settings.clone())
    }

    /// Reports objects that cannot be created before a name is looked up.
    fn check_objects(&self) -> Result<()> {
        self.lay_out().map(drop)
    }

    fn bounds(&self) -> Bounds {
        let bounds = self.common.settings.bounds;
        match self.lay_out() {
            Ok((table, layout)) => bounds.with_own(layout.mapped(), table.steps()),
            Err(_) => bounds, // with invalid objects, nothing can be created
        }
    }

    /// Call before joining: a process that joins and finds another type might be the last to leave.
    fn check(&self, region: &Region) -> Result<()> {
        let found = region.layout().kind();
        if found != RegionKind::Namespace {
            return Err(wrong_type(RegionKind::Namespace, found, RegionKind::Namespace));
        }
        let table = Table::parse(region)?;
        self.bounds().check_steps("open this namespace", table.steps())?;
        match (self.single_object, &table.entries[..]) {
            (None, _) => {}
            (Some(spec), [entry]) => check_type(region, entry, &spec)?,
            (Some(_), entries) => {
                return Err(Error::new(
                    ErrorKind::WrongType,
                    "open an object on its own",
                    format_args!("a namespace of {} objects", entries.len()),
                    "one object",
                    "open the namespace, and the object in it by its name",
                ));
            }
        }
        for (name, spec) in &self.objects {
            check_fits(region, find(&table, name)?.1, spec)?;
        }
        Ok(())
    }

    /// Refuses an object that is not as the first one planned here.
    pub(super) fn check_object(&self, region: &Region, found: &Entry) -> Result<()> {
        self.objects.first().map_or(Ok(()), |(_, spec)| check_fits(region, found, spec))
    }

    /// Opens it only if it is one such object and nothing else.
    pub(crate) fn single_object(mut self, spec: ObjectSpec) -> Self {
        self.single_object = Some(spec);
        self
    }

    /// Plans an object of that namespace, with that name. All that is planned here is the object.
    pub(super) fn object_of(
        mut self,
        owner: &Namespace,
        name: &str,
        directory: Directory,
        open_mode: OpenMode,
    ) -> Result<Self> {
        if let Some((object, _)) = &mut self.deferred_error {
            *object = name.to_string();
        }
        let region = owner.member.region();
        let failed = |error| Error::io("create an object", error, "try again");
        let mode = file::metadata(region.file()).map_err(failed)?.mode;
        self.single_object = self.objects.first().map(|(_, spec)| *spec);
        self.max_participants = region.layout().participants();
        self.persistent = true;
        self.common.settings = Settings { directory, mode: Some(mode), ..(*owner.settings).clone() };
        self.common.open_mode = open_mode;
        self.common.wait = owner.wait;
        self.owner = Some(Arc::clone(&owner.member));
        Ok(self)
    }

    fn lay_out(&self) -> Result<(Table, Layout)> {
        if let Some((name, message)) = &self.deferred_error {
            let action = format!("plan the object {name:?}");
            let remedy = "choose options that it can have";
            let expected = "a queue, a broadcast or a map";
            return Err(Error::new(ErrorKind::InvalidOptions, action, message, expected, remedy));
        }
        let mut objects = self.objects.clone();
        for layout in objects.iter_mut().filter_map(|(_, spec)| spec.nested.as_mut()) {
            let Layout::Queue(queue) = layout else { continue };
            let geometry = QueueGeometry {
                participants: (self.max_participants as u64).saturating_mul(2).min(MAX_PARTICIPANTS),
                ..queue.geometry
            };
            *queue = QueueLayout::new(queue.element, queue.capacity, queue.max_message_bytes, geometry)?;
        }
        Table::lay_out(objects, self.max_participants, self.persistent)
            .map(|(table, layout)| (table, Layout::Namespace(layout)))
    }

    fn create_region(&self, named: bool) -> Result<Region> {
        let (table, layout) = self.lay_out()?;
        let region = Region::create(layout, &self.common.settings, named)?;
        table.format(&region, &self.initial)?;
        if self.owner.is_some() {
            region.set_identity()?;
        }
        for nested in table.objects(&region).filter_map(|object| nested::open(&object, None)) {
            let nested = nested?;
            if nested.layout().kind() == RegionKind::Queue {
                QueueState::of(&nested).ring_words().format();
            }
        }
        Ok(region)
    }
}

fn check_fits(region: &Region, found: &Entry, planned: &ObjectSpec) -> Result<()> {
    check_type(region, found, planned)?;
    let element = |spec: &ObjectSpec| spec.nested.map(|layout| layout.element());
    if found.spec.count != planned.count || element(&found.spec) != element(planned) {
        return Err(type_mismatch(region, found, planned.type_name()));
    }
    Ok(())
}
