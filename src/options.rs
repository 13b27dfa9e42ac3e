//! What the options of pipes and queues have in common, and how a name is opened or made.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Message;
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::lifecycle::Registration;
use crate::region::settings::{Bounds, Settings};
use crate::region::unreadable::{Unreadable, is_about_content};
use crate::types::{Shape, hashed_name, type_tag};
use crate::wait::WaitStrategy;

/// What to do with a name whose participants are all gone. Such a name stayed because the last
/// participant was killed, or because messages wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStale {
    /// Continue with it: messages that wait there are still delivered. The default: nothing is
    /// lost.
    #[default]
    Resume,
    /// Start afresh, without the messages that wait. Use it where half a stream is of no use.
    ///
    /// It also replaces a region of another kind or layout version and a damaged one, if no process
    /// uses it. It never replaces a persistent namespace, or a file that is not a region.
    Recreate,
}

/// Whether a call that opens a region may, must or must not create it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OpenMode {
    #[default]
    OpenOrCreate,
    CreateNew,
    Open,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct CommonOptions {
    pub(crate) settings: Settings,
    /// What the type is called, instead of its own name.
    pub(crate) type_name: Option<String>,
    pub(crate) wait: WaitStrategy,
    pub(crate) on_stale: OnStale,
    pub(crate) open_mode: OpenMode,
}

/// How often a name may vanish between looking it up and joining.
const MAX_ATTEMPTS: u32 = 1000;

impl CommonOptions {
    /// Opens a name, or creates it. `own` are the bounds of what these options would create. `join`
    /// gets an open region, `create` creates one under that name.
    pub(crate) fn named<E>(
        &self,
        name: &str,
        own: Bounds,
        join: impl Fn(Region) -> Result<Option<E>>,
        create: impl Fn() -> Result<E>,
    ) -> Result<E> {
        let mut settings = Settings { bounds: own, ..self.settings.clone() };
        settings.join.recreate_stale = self.on_stale == OnStale::Recreate;
        for _ in 0..MAX_ATTEMPTS {
            if self.open_mode != OpenMode::CreateNew {
                match Region::open(name, &settings) {
                    Ok(region) => match self.join(region, &join)? {
                        Some(endpoint) => return Ok(endpoint),
                        None => continue, // it lost its name meanwhile
                    },
                    Err(error) if error.kind() == ErrorKind::NotFound && self.open_mode != OpenMode::Open => {}
                    Err(error) if self.on_stale == OnStale::Recreate && is_about_content(&error) => {
                        // Not removed, and readable by now: another region has taken its place.
                        if self.remove_unreadable(name)? || Region::open(name, &settings).is_ok() {
                            continue;
                        }
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match create() {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.open_mode != OpenMode::CreateNew => {}
                done => return done,
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            format_args!("open {name:?}"),
            format_args!("it made and removed {MAX_ATTEMPTS} times meanwhile"),
            "one that stays",
            "find out who does that (`tombolo inspect`), or use another name",
        ))
    }

    fn join<E>(&self, region: Region, join: impl Fn(Region) -> Result<Option<E>>) -> Result<Option<E>> {
        if self.on_stale == OnStale::Recreate && region.remove_if_stale()? {
            return Ok(None);
        }
        join(region)
    }

    /// Removes what has the name, if it is a stale region that cannot be read. Returns whether to
    /// look it up again.
    fn remove_unreadable(&self, name: &str) -> Result<bool> {
        match Unreadable::open(name, &self.settings) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            file => file?.remove_if_stale(),
        }
    }

    /// Gives a region its name after this process has joined it. So no other process ever finds it
    /// without participants and takes it for stale.
    pub(crate) fn give_name(&self, mut registration: Registration, name: &str) -> Result<Registration> {
        registration.region_mut().give_name(name, &self.settings.directory)?;
        Ok(registration)
    }

    /// How a region's header describes these messages.
    pub(crate) fn element<M: Message + ?Sized>(&self) -> ElementType {
        M::element(match &self.type_name {
            Some(name) => type_tag(name),
            None => M::SHAPE.map_or([0; 8], Shape::tag),
        })
    }

    /// Refuses a region of another kind, of other elements, or with longer messages than the caller
    /// allows.
    pub(crate) fn check<M: Message + ?Sized>(&self, layout: &Layout, kind: RegionKind, limit: u64) -> Result<()> {
        let element = self.element::<M>();
        if layout.kind() != kind {
            return Err(wrong_type(kind, layout.kind(), kind));
        }
        if !layout.element().matches(element) {
            let name = self.type_name.clone().or(M::SHAPE.map(Shape::to_string));
            let name = hashed_name(&name.unwrap_or_default());
            return Err(wrong_type(kind, layout.element(), format_args!("{element}{name}")));
        }
        if element == ElementType::Bytes && layout.max_message_bytes() > limit {
            let found = format!("messages of up to {} bytes", layout.max_message_bytes());
            return Err(wrong_type(kind, found, format_args!("of up to {limit}: see max_message_bytes")));
        }
        Ok(())
    }
}

/// What joining a region returned that no other process can see yet. It cannot have lost its name.
pub(crate) fn expect_joined<S>(joined: Option<S>) -> Result<S> {
    joined.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "join a fresh region",
            "it retired",
            "it active",
            "find out who writes into memory that nobody was given",
        )
    })
}

/// The error for a region of another type than the caller opens.
pub(crate) fn wrong_type(kind: RegionKind, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
    let (action, remedy) = match kind {
        RegionKind::Pipe => ("open this pipe", "use the same options on both sides, or another name"),
        RegionKind::Queue => ("open this queue", "use the same options on all sides, or another name"),
        RegionKind::Namespace => ("open this namespace", "open it as what it is, or use another name"),
        RegionKind::Broadcast => ("open this broadcast", "use the same options on all sides, or another name"),
        RegionKind::Rpc => ("open these requests", "use the same options on all sides, or another name"),
    };
    Error::new(ErrorKind::WrongType, action, found, expected, remedy)
}

/// Adds a warning if a region has another capacity than one that was asked for.
pub(crate) fn report_capacity(region: &mut Region, asked: u64, default: u64) {
    let capacity = region.layout().capacity();
    if capacity != asked && asked != default {
        region.warnings.push(format!("the capacity is {capacity}, not {asked} as asked"));
    }
}

/// The builder's methods that pipes, queues and namespaces share, for a type with a field `common`.
macro_rules! common_options {
    () => {
        /// What blocking calls of this endpoint do while they wait.
        pub fn wait(mut self, wait: $crate::wait::WaitStrategy) -> Self {
            self.common.wait = wait;
            self
        }

        /// The directory of the name, instead of `$TOMBOLO_DIR` or `/dev/shm/tombolo-UID`.
        pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.common.settings.directory = $crate::region::directory::Directory::at(path);
            self
        }

        /// The permissions of a named file. 0o600 unless set.
        pub fn mode(mut self, mode: u32) -> Self {
            self.common.settings.mode = Some(mode);
            self
        }

        /// Accepts a name, or a descriptor of a named region, even if its file belongs to another
        /// user.
        ///
        /// That user can then end this process, by truncating the file.
        pub fn allow_other_owner(mut self) -> Self {
            self.common.settings.allow_other_owner = true;
            self
        }

        /// Asks for 2 MiB pages. If there are none, the [warnings](crate::Endpoint::warnings) say
        /// so.
        ///
        /// It also accepts regions of reserved huge pages from others. They can then end this
        /// process: sealing protects the length of such a region, but not its pages.
        pub fn huge_pages(mut self) -> Self {
            self.common.settings.huge_pages = true;
            self
        }

        /// Maps every page now instead of on first touch.
        pub fn prefault(mut self) -> Self {
            self.common.settings.prefault = true;
            self
        }

        /// Keeps the region out of swap. If the system refuses, the
        /// [warnings](crate::Endpoint::warnings) say so.
        pub fn lock_memory(mut self) -> Self {
            self.common.settings.lock_memory = true;
            self
        }

        /// The largest region, in bytes of memory, that is accepted if another process made it.
        /// Extents of a queue do not count.
        ///
        /// Unless set, it is 16 GiB, with at most 2,097,152 slots, blocks of a queue's pool and
        /// permits of bounded semaphores altogether, because repair and statistics visit all of
        /// those. If these options would make a larger region themselves, the limits are those of
        /// that region.
        pub fn max_region_bytes(mut self, bytes: usize) -> Self {
            self.common.settings.bounds.len = Some(bytes as u64);
            self
        }

        /// What to do with a name whose participants are all gone.
        pub fn on_stale(mut self, on_stale: $crate::options::OnStale) -> Self {
            self.common.on_stale = on_stale;
            self
        }

        /// How long opening a name waits if every place is taken.
        ///
        /// Unless set, it waits for up to a second, and only if the process in one of the places is
        /// ending: it leaves, was killed or exits. So a program that is restarted at once gets the
        /// place of the one before. Cloning a handle of a queue waits as long.
        pub fn open_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.common.settings.join.timeout = Some(timeout);
            self
        }

        /// Refuses a name that exists.
        pub fn create_new(mut self) -> Self {
            self.common.open_mode = $crate::options::OpenMode::CreateNew;
            self
        }

        /// Refuses a name that does not exist.
        pub fn must_exist(mut self) -> Self {
            self.common.open_mode = $crate::options::OpenMode::Open;
            self
        }
    };
}

pub(crate) use common_options;
