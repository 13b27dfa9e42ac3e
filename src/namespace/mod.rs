//! Several objects in one mapping, each with a name.

pub(crate) mod standalone;

use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::object::Object;
use crate::object::array::Array;
use crate::object::atomic::{AtomicValue, Number};
use crate::object::barrier::Barrier;
use crate::object::condvar::Condvar;
use crate::object::event::Event;
use crate::object::lock::Handle;
use crate::object::member::Membership;
use crate::object::mutex::{Mutex, ReentrantMutex};
use crate::object::once::Once;
use crate::object::rw_lock::RwLock;
use crate::object::semaphore::{BoundedSemaphore, Semaphore};
use crate::object::table::{Entry, InitialValue, ObjectKind, ObjectSpec, Table, tag_of};
use crate::object::value::Value;
use crate::options::{CommonOptions, common_options, expect_joined, wrong_type};
use crate::queue::state::QueueState;
use crate::queue::{self, Queue};
use crate::region::Region;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::layout::queue::QueueGeometry;
use crate::region::layout::queue::QueueLayout;
use crate::region::layout::{Layout, MAX_PARTICIPANTS};
use crate::region::settings::{Bounds, Settings};
use crate::sys::file;
use crate::wait::WaitStrategy;

/// Values, arrays, locks, queues and other objects in one mapping, opened by name and type in any number of processes.
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
/// let market = plan.open("market")?; // made if it is missing
/// market.value("price")?.store(&101.25)?;
///
/// // In any other process; with or without the plan:
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
/// A process takes part once in a namespace, with one lock in the kernel and one descriptor, however many handles it has. The name goes when
/// the last process has left cleanly, unless it is [`persistent`](NamespaceBuilder::persistent); if the last one was killed, the next one finds
/// everything as it was.
#[derive(Clone)]
pub struct Namespace {
    member: Arc<Membership>,
    wait: WaitStrategy,
    tag: Option<[u8; 8]>,
}

/// Processes that can take part unless told otherwise.
const DEFAULT_LANES: usize = 64;

impl Namespace {
    /// What is to be in it, and how it is made.
    pub fn builder() -> NamespaceBuilder {
        NamespaceBuilder::default()
    }

    /// Opens the namespace of that name, whatever is in it.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: no such name, a region of another
    /// kind, a damaged one, no free lane ([`ErrorKind::TooManyParticipants`]).
    pub fn open(name: &str) -> Result<Self> {
        Self::builder().must_exist().open(name)
    }

    /// Opens the namespace behind a descriptor that [`share`](Self::share) made.
    ///
    /// **Blocking** and **Errors**: as [`open`](Self::open).
    pub fn from_fd(descriptor: OwnedFd) -> Result<Self> {
        Self::builder().from_fd(descriptor)
    }

    pub(crate) fn new(member: Arc<Membership>, wait: WaitStrategy) -> Self {
        Self { member, wait, tag: None }
    }

    /// A descriptor through which another process can come in, too; any number may, with copies of it. That of a named
    /// namespace is accepted on tmpfs only: elsewhere, pass the name.
    ///
    /// **Blocking**: never. **Errors**: no descriptors, a forked child.
    pub fn share(&self) -> Result<OwnedFd> {
        if !self.member.is_from_this_process() {
            return Err(Error::forked("share a namespace"));
        }
        file::reopen(self.member.region().file())
            .map_err(|error| Error::io("open a region again", error, "mount /proc"))
    }

    /// The name under which it was opened; none if it is anonymous.
    pub fn name(&self) -> Option<&str> {
        self.member.region().path().map(|place| place.name.as_str())
    }

    /// What was wished for and could not be had when it was made or opened.
    pub fn warnings(&self) -> &[String] {
        self.member.region().warnings.as_slice()
    }

    /// The names and kinds of its objects.
    pub fn objects(&self) -> impl Iterator<Item = (&str, ObjectKind)> {
        self.member.table().entries.iter().map(|entry| (entry.name.as_str(), entry.plan.kind))
    }

    /// The same namespace, for objects whose types were given this tag ([`NamespaceBuilder::tag`]).
    pub fn tagged(&self, tag: [u8; 8]) -> Self {
        Self { tag: Some(tag), ..self.clone() }
    }

    fn find(&self, name: &str, expected: ObjectSpec) -> Result<(usize, &Entry)> {
        if !self.member.is_from_this_process() {
            return Err(Error::forked(format_args!("open the object {name:?}")));
        }
        find(self.member.table(), name, ObjectSpec { tag: self.tag.unwrap_or(expected.tag), ..expected })
    }

    /// The object of that name.
    ///
    /// **Blocking**: never. **Errors**: no such name ([`ErrorKind::NotFound`]), an object of another kind or type
    /// ([`ErrorKind::WrongType`]).
    pub fn object<O: Object>(&self, name: &str) -> Result<O> {
        let (index, entry) = self.find(name, O::plan())?;
        Ok(O::attach(Handle::new(Arc::clone(&self.member), index, entry, self.wait)))
    }

    /// The value of that name. See [`object`](Self::object), as for all that follow.
    pub fn value<T: Pod>(&self, name: &str) -> Result<Value<T>> {
        self.object(name)
    }

    /// The number of that name.
    pub fn atomic<T: Number>(&self, name: &str) -> Result<AtomicValue<T>> {
        self.object(name)
    }

    /// The array of that name.
    pub fn array<T: Pod>(&self, name: &str) -> Result<Array<T>> {
        self.object(name)
    }

    /// The mutex of that name.
    pub fn mutex<T: Pod>(&self, name: &str) -> Result<Mutex<T>> {
        self.object(name)
    }

    /// The re-entrant mutex of that name.
    pub fn reentrant_mutex<T: Pod>(&self, name: &str) -> Result<ReentrantMutex<T>> {
        self.object(name)
    }

    /// The read-write lock of that name.
    pub fn rw_lock<T: Pod>(&self, name: &str) -> Result<RwLock<T>> {
        self.object(name)
    }

    /// The semaphore of that name.
    pub fn semaphore(&self, name: &str) -> Result<Semaphore> {
        self.object(name)
    }

    /// The bounded semaphore of that name.
    pub fn bounded_semaphore(&self, name: &str) -> Result<BoundedSemaphore> {
        self.object(name)
    }

    /// The condition variable of that name.
    pub fn condvar(&self, name: &str) -> Result<Condvar> {
        self.object(name)
    }

    /// The event of that name.
    pub fn event(&self, name: &str) -> Result<Event> {
        self.object(name)
    }

    /// The barrier of that name.
    pub fn barrier(&self, name: &str) -> Result<Barrier> {
        self.object(name)
    }

    /// The once of that name.
    pub fn once(&self, name: &str) -> Result<Once> {
        self.object(name)
    }

    /// The queue of that name, to send and to receive; [`split`](Queue::split) it for one of the two. `M` is `[u8]` for byte messages.
    ///
    /// **Blocking** and **Errors**: as [`object`](Self::object), and as [`queue::Options::open`](crate::queue::Options::open).
    pub fn queue<M: Message + ?Sized>(&self, name: &str) -> Result<Queue<M>> {
        let (index, entry) =
            self.find(name, ObjectSpec { tag: tag_of::<M>(), ..ObjectSpec::bare(ObjectKind::Queue, 0) })?;
        let layout = entry.plan.queue.ok_or_else(|| other_type(name, &entry.plan, &entry.plan))?;
        let host = Arc::clone(&self.member);
        let region = self.member.region().sub_region(entry.at, index, Layout::Queue(layout), Some(host))?;
        queue::Options::<M>::default().wait(self.wait).join(region)
    }
}

fn find<'a>(table: &'a Table, name: &str, expected: ObjectSpec) -> Result<(usize, &'a Entry)> {
    let (index, entry) = table.find(name).ok_or_else(|| {
        let names: Vec<&str> = table.entries.iter().map(|entry| entry.name.as_str()).collect();
        Error::new(
            ErrorKind::NotFound,
            format_args!("open the object {name:?}"),
            format_args!("the objects {}", names.join(", ")),
            "one of that name",
            "use one of these names, or make the namespace with it",
        )
    })?;
    let plan = &entry.plan;
    let is_same =
        (plan.kind, plan.size, plan.align, plan.tag) == (expected.kind, expected.size, expected.align, expected.tag);
    if is_same { Ok((index, entry)) } else { Err(other_type(name, plan, &expected)) }
}

fn other_type(name: &str, found: &ObjectSpec, expected: &ObjectSpec) -> Error {
    let expected = match expected.kind {
        // Of these the count was not asked for.
        ObjectKind::Array => {
            format!(
                "an array of {}",
                ElementType::Value { size: expected.size, align: expected.align, tag: expected.tag }
            )
        }
        ObjectKind::Semaphore | ObjectKind::BoundedSemaphore | ObjectKind::Barrier | ObjectKind::Queue => {
            format!("a {}", expected.kind)
        }
        _ => expected.content_text(),
    };
    differs(name, found, expected)
}

fn differs(name: &str, found: &ObjectSpec, expected: String) -> Error {
    Error::new(
        ErrorKind::WrongType,
        format_args!("open the object {name:?}"),
        found.content_text(),
        expected,
        "open it as what it is, or use another name",
    )
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name()).field("member", &self.member).finish()
    }
}

/// What is to be in a [`Namespace`], and how it is made or opened.
#[derive(Clone, Debug)]
pub struct NamespaceBuilder {
    common: CommonOptions,
    plans: Vec<(String, ObjectSpec)>,
    initial: Vec<InitialValue>,
    lanes: usize,
    persistent: bool,
    /// It is to be one such object on its own.
    sole: Option<ObjectSpec>,
    /// Why it cannot be made, from a step that could not say so.
    refused: Option<(String, String)>,
}

impl Default for NamespaceBuilder {
    fn default() -> Self {
        let (plans, initial) = (Vec::new(), Vec::new());
        Self {
            common: CommonOptions::default(),
            plans,
            initial,
            lanes: DEFAULT_LANES,
            persistent: false,
            sole: None,
            refused: None,
        }
    }
}

impl NamespaceBuilder {
    fn add(mut self, name: &str, plan: ObjectSpec, initial: InitialValue) -> Self {
        self.plans.push((name.to_string(), plan));
        self.initial.push(initial);
        self
    }

    fn holding<T: Pod>(self, name: &str, kind: ObjectKind, initial: T) -> Self {
        self.add(name, ObjectSpec::of::<T>(kind, 0), InitialValue::Content(bytemuck::bytes_of(&initial).to_vec()))
    }

    /// Eight bytes that name the type of the object that was added last; opening it takes the same ([`Namespace::tagged`]). Without, only
    /// the numbers of the language are told from others of the same size and alignment.
    pub fn tag(mut self, tag: [u8; 8]) -> Self {
        if let Some((_, plan)) = self.plans.last_mut() {
            plan.tag = tag;
        }
        self
    }

    /// A [`Value`].
    pub fn value<T: Pod>(self, name: &str, initial: T) -> Self {
        self.holding(name, ObjectKind::Value, initial)
    }

    /// An [`AtomicValue`].
    pub fn atomic<T: Number>(self, name: &str, initial: T) -> Self {
        self.add(name, ObjectSpec::of::<T>(ObjectKind::Atomic, 0), InitialValue::Word(initial.to_bits()))
    }

    /// An [`Array`] of these elements.
    pub fn array<T: Pod>(self, name: &str, initial: &[T]) -> Self {
        let plan = ObjectSpec::of::<T>(ObjectKind::Array, initial.len() as u64);
        self.add(name, plan, InitialValue::Elements(bytemuck::cast_slice(initial).to_vec()))
    }

    /// An [`Array`] of so many zeros.
    pub fn array_zeroed<T: Pod>(self, name: &str, length: usize) -> Self {
        self.add(name, ObjectSpec::of::<T>(ObjectKind::Array, length as u64), InitialValue::Zero)
    }

    /// A [`Mutex`].
    pub fn mutex<T: Pod>(self, name: &str, initial: T) -> Self {
        self.holding(name, ObjectKind::Mutex, initial)
    }

    /// A [`ReentrantMutex`].
    pub fn reentrant_mutex<T: Pod>(self, name: &str, initial: T) -> Self {
        self.holding(name, ObjectKind::ReentrantMutex, initial)
    }

    /// An [`RwLock`].
    pub fn rw_lock<T: Pod>(self, name: &str, initial: T) -> Self {
        self.holding(name, ObjectKind::RwLock, initial)
    }

    /// A [`Semaphore`] with so many permits to begin with, at most 2^31 - 1.
    pub fn semaphore(self, name: &str, permits: u32) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::Semaphore, permits.into()), InitialValue::Word(permits.into()))
    }

    /// A [`BoundedSemaphore`] with so many permits.
    pub fn bounded_semaphore(self, name: &str, permits: u32) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::BoundedSemaphore, permits.into()), InitialValue::Zero)
    }

    /// A [`Condvar`].
    pub fn condvar(self, name: &str) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::Condvar, 0), InitialValue::Zero)
    }

    /// An [`Event`], not set.
    pub fn event(self, name: &str) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::Event, 0), InitialValue::Zero)
    }

    /// A [`Barrier`] for so many parties.
    pub fn barrier(self, name: &str, parties: usize) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::Barrier, parties as u64), InitialValue::Zero)
    }

    /// A [`Once`].
    pub fn once(self, name: &str) -> Self {
        self.add(name, ObjectSpec::bare(ObjectKind::Once, 0), InitialValue::Zero)
    }

    /// A [`Queue`] for values, of so many; rounded up to a power of two.
    pub fn queue<T: Pod>(self, name: &str, capacity: usize) -> Self {
        self.queue_of(name, queue::Options::<T>::default().capacity(capacity))
    }

    /// A [`Queue`] for so many byte messages, of at most so many bytes each. All of its memory is there from the beginning.
    pub fn queue_bytes(self, name: &str, capacity: usize, max_message_bytes: usize) -> Self {
        let options = queue::Options::bytes().capacity(capacity).max_message_bytes(max_message_bytes).extents(0);
        let blocks = if max_message_bytes > options.inline_limit() { capacity } else { 0 };
        self.queue_of(name, options.blocks(blocks, max_message_bytes))
    }

    fn queue_of<M: Message + ?Sized>(mut self, name: &str, options: queue::Options<M>) -> Self {
        match options.layout() {
            Ok(layout) => {
                let plan =
                    ObjectSpec { queue: Some(layout), tag: tag_of::<M>(), ..ObjectSpec::bare(ObjectKind::Queue, 0) };
                self.add(name, plan, InitialValue::Zero)
            }
            Err(error) => {
                self.refused.get_or_insert((name.to_string(), error.to_string()));
                self
            }
        }
    }

    /// How many processes may take part at a time, 64 unless set, 4096 at most. Each can have one handle of each queue, or two
    /// halves; of more than 2048 processes not each.
    pub fn max_participants(mut self, count: usize) -> Self {
        self.lanes = count;
        self
    }

    /// Keeps the name, and everything in it, when the last process has left; until it is removed ([`Directory::unlink`](crate::Directory::unlink)).
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    common_options!();

    /// A namespace that nobody else can reach unless handed it.
    ///
    /// **Blocking**: never. **Errors**: invalid options, no memory.
    pub fn create(&self) -> Result<Namespace> {
        Ok(self.seated(expect_joined(Membership::join(self.create_region(false)?)?)?.register()))
    }

    /// Opens, or makes, the namespace of that name. What is in one that exists must include what was planned.
    ///
    /// **Blocking**: up to 5 s, if another process was stopped while joining. **Errors**: an invalid name, a region of another
    /// kind, an object that is missing ([`ErrorKind::NotFound`]) or of another type ([`ErrorKind::WrongType`]), no free lane
    /// ([`ErrorKind::TooManyParticipants`]), no memory.
    pub fn open(&self, name: &str) -> Result<Namespace> {
        self.check_plans()?;
        let join = |region: Region| {
            self.check(&region)?;
            Ok(Membership::of(region)?.map(|member| self.seated(member)))
        };
        let create = || {
            // Joined before it has its name: nobody ever finds it empty and takes it for abandoned.
            let mut member = expect_joined(Membership::join(self.create_region(true)?)?)?;
            member.publish(name, &self.common.settings.directory)?;
            Ok(self.seated(member.register()))
        };
        self.common.named(name, self.bounds(), join, create)
    }

    /// Opens the namespace behind a descriptor that [`Namespace::share`] made.
    ///
    /// **Blocking** and **Errors**: as [`open`](Self::open); more than [`max_region_bytes`](Self::max_region_bytes); reserved
    /// huge pages without [`huge_pages`](Self::huge_pages); a file that can be truncated, unless it is on tmpfs and
    /// belongs to this user, or [`allow_other_owner`](Self::allow_other_owner).
    pub fn from_fd(&self, descriptor: OwnedFd) -> Result<Namespace> {
        self.check_plans()?;
        let settings = Settings { bounds: self.bounds(), ..self.common.settings.clone() };
        let region = Region::from_descriptor(descriptor, &settings)?;
        self.check(&region)?;
        // Copies of the descriptor may be elsewhere, and a lock belongs to all of them.
        Ok(self.seated(expect_joined(Membership::of(region.reopen()?)?)?))
    }

    fn seated(&self, member: Arc<Membership>) -> Namespace {
        Namespace::new(member, self.common.wait)
    }

    /// What cannot be is refused before anything is looked up.
    fn check_plans(&self) -> Result<()> {
        if self.plans.is_empty() && self.refused.is_none() { Ok(()) } else { self.lay_out().map(drop) }
    }

    fn bounds(&self) -> Bounds {
        let bounds = self.common.settings.bounds;
        match self.lay_out() {
            Ok((table, layout)) => bounds.with_own(layout.mapped(), table.steps()),
            Err(_) => bounds, // no plan, which is none to make one by
        }
    }

    /// Before joining: who joins and is refused might be the last to leave.
    fn check(&self, region: &Region) -> Result<()> {
        let found = region.layout().kind();
        if found != RegionKind::Namespace {
            return Err(wrong_type(RegionKind::Namespace, found, RegionKind::Namespace));
        }
        let table = Table::parse(region)?;
        self.bounds().check_steps("open this namespace", table.steps())?;
        for (name, plan) in &self.plans {
            let (_, entry) = find(&table, name, *plan)?;
            if entry.plan.count != plan.count || entry.plan.queue.map(|q| q.element) != plan.queue.map(|q| q.element) {
                return Err(differs(name, &entry.plan, plan.content_text()));
            }
        }
        match (self.sole, &table.entries[..]) {
            (None, _) => Ok(()),
            (Some(plan), [entry]) => find(&table, &entry.name, plan).map(drop),
            (Some(_), entries) => Err(Error::new(
                ErrorKind::WrongType,
                "open an object on its own",
                format_args!("a namespace of {}", entries.len()),
                "one object",
                "open the namespace, and the object in it by its name",
            )),
        }
    }

    /// To open it only if it is one such object and nothing else.
    pub(crate) fn sole(mut self, plan: ObjectSpec) -> Self {
        self.sole = Some(plan);
        self
    }

    fn lay_out(&self) -> Result<(Table, Layout)> {
        if let Some((name, story)) = &self.refused {
            let doing = format!("plan the queue {name:?}");
            let remedy = "choose options that a queue can have";
            return Err(Error::new(ErrorKind::InvalidOptions, doing, story, "a queue", remedy));
        }
        let mut plans = self.plans.clone();
        for queue in plans.iter_mut().filter_map(|(_, plan)| plan.queue.as_mut()) {
            let shape = QueueGeometry {
                participants: (self.lanes as u64).saturating_mul(2).min(MAX_PARTICIPANTS),
                ..queue.geometry
            };
            *queue = QueueLayout::new(queue.element, queue.capacity, queue.max_message_bytes, shape)?;
        }
        Table::lay_out(plans, self.lanes, self.persistent).map(|(table, layout)| (table, Layout::Namespace(layout)))
    }

    fn create_region(&self, named: bool) -> Result<Region> {
        let (table, layout) = self.lay_out()?;
        let region = Region::create(layout, &self.common.settings, named)?;
        table.format(&region, &self.initial)?;
        for (index, entry) in table.entries.iter().enumerate() {
            if let Some(layout) = entry.plan.queue {
                QueueState::of(&region.sub_region(entry.at, index, Layout::Queue(layout), None)?).ring_words().format();
            }
        }
        Ok(region)
    }
}
