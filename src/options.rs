//! What the options of pipes and queues have in common, and how a name is opened or made.

use std::fmt;

use crate::error::{Error, ErrorKind, Result};
use crate::region::Region;
use crate::region::layout::header::{ElementType, RegionKind};
use crate::region::lifecycle::Registration;
use crate::region::settings::{Bounds, Settings};
use crate::region::unreadable::{Unreadable, is_about_content};
use crate::wait::WaitStrategy;

/// What becomes of a name whose participants are all gone, and which stayed: because the last one
/// was killed, or because something waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum OnStale {
    /// Go on with it: messages that wait there are still delivered. The default, and lossless.
    #[default]
    Resume,
    /// Start afresh, without what waits: a stream cut off in the middle is of no use to anybody. Replaces a region of
    /// another kind, of another layout version, and a damaged one too, once nobody uses it; never a persistent one,
    /// or a file that is no region.
    Recreate,
}

/// Whether an end may, must or must not make the region that it opens.
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
    pub(crate) tag: [u8; 8],
    pub(crate) wait: WaitStrategy,
    pub(crate) on_stale: OnStale,
    pub(crate) creation: OpenMode,
}

/// Times that a name may vanish between looking it up and joining.
const ATTEMPTS: u32 = 1000;

impl CommonOptions {
    /// Opens a name, or makes it. `own` is what these options would make; `join` is given an open region, `create` is to make
    /// one of that kind that has the name.
    pub(crate) fn named<E>(
        &self,
        name: &str,
        own: Bounds,
        join: impl Fn(Region) -> Result<Option<E>>,
        create: impl Fn() -> Result<E>,
    ) -> Result<E> {
        let settings = Settings { bounds: own, ..self.settings.clone() };
        for _ in 0..ATTEMPTS {
            if self.creation != OpenMode::CreateNew {
                match Region::open(name, &settings) {
                    Ok(region) => match self.join(region, &join)? {
                        Some(end) => return Ok(end),
                        None => continue, // it lost its name while we came
                    },
                    Err(error) if error.kind() == ErrorKind::NotFound && self.creation != OpenMode::Open => {}
                    Err(error) if self.on_stale == OnStale::Recreate && is_about_content(&error) => {
                        // Not removed, and readable by now: another has taken its place meanwhile.
                        if self.remove_unreadable(name)? || Region::open(name, &settings).is_ok() {
                            continue;
                        }
                        return Err(error);
                    }
                    Err(error) => return Err(error),
                }
            }
            match create() {
                Err(error) if error.kind() == ErrorKind::AlreadyExists && self.creation != OpenMode::CreateNew => {}
                done => return done,
            }
        }
        Err(Error::new(
            ErrorKind::Busy,
            format_args!("open {name:?}"),
            format_args!("it made and removed {ATTEMPTS} times meanwhile"),
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

    /// Removes what has the name if it is an abandoned region that cannot be read. Returns whether to look again.
    fn remove_unreadable(&self, name: &str) -> Result<bool> {
        match Unreadable::open(name, &self.settings) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            file => file?.remove_if_stale(),
        }
    }

    /// Gives a seated region its name. Seated before: nobody ever finds it empty and takes it for abandoned.
    pub(crate) fn publish(&self, mut seat: Registration, name: &str) -> Result<Registration> {
        seat.region_mut().publish(name, &self.settings.directory)?;
        Ok(seat)
    }
}

/// The place in a region that nobody else can see yet.
pub(crate) fn fresh<S>(seat: Option<S>) -> Result<S> {
    seat.ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "join a fresh region",
            "it retired",
            "it active",
            "find out who writes into memory that nobody was given",
        )
    })
}

/// A region that is not what somebody wants to open.
pub(crate) fn wrong_type(kind: RegionKind, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
    let (doing, remedy) = match kind {
        RegionKind::Pipe => ("open this pipe", "use the same options on both sides, or another name"),
        RegionKind::Queue => ("open this queue", "use the same options on all sides, or another name"),
        RegionKind::Namespace => ("open this namespace", "open it as what it is, or use another name"),
    };
    Error::new(ErrorKind::WrongType, doing, found, expected, remedy)
}

/// Refuses a region of another kind than wanted, of other elements, or with longer messages.
pub(crate) fn check(region: &Region, kind: RegionKind, element: ElementType, limit: u64) -> Result<()> {
    let layout = region.layout();
    if layout.kind() != kind {
        return Err(wrong_type(kind, layout.kind(), kind));
    }
    if layout.element() != element {
        return Err(wrong_type(kind, layout.element(), element));
    }
    if element == ElementType::Bytes && layout.max_message_bytes() > limit {
        let found = format!("messages of up to {} bytes", layout.max_message_bytes());
        return Err(wrong_type(kind, found, format_args!("of up to {limit}: see max_message_bytes")));
    }
    Ok(())
}

/// Says so if a region has another capacity than one that was asked for.
pub(crate) fn report_capacity(region: &mut Region, asked: u64, default: u64) {
    let capacity = region.layout().capacity();
    if capacity != asked && asked != default {
        region.warnings.push(format!("the capacity is {capacity}, not {asked} as asked"));
    }
}

/// The builder's methods that pipes and queues share, for a type with a field `common`.
macro_rules! common_options {
    () => {
        /// What blocking calls of this end do while they wait.
        pub fn wait(mut self, wait: $crate::wait::WaitStrategy) -> Self {
            self.common.wait = wait;
            self
        }

        /// The directory of the name, instead of `$TOMBOLO_DIR` or `/dev/shm/tombolo-UID`.
        pub fn directory(mut self, path: impl Into<std::path::PathBuf>) -> Self {
            self.common.settings.directory = $crate::region::directory::Directory::at(path);
            self
        }

        /// The permissions of a named file, 0o600 unless set.
        pub fn mode(mut self, mode: u32) -> Self {
            self.common.settings.mode = Some(mode);
            self
        }

        /// Opens a name, or takes a descriptor of a named region, even if its file belongs to another user. That user can
        /// then end this process, by truncating the file.
        pub fn allow_other_owner(mut self) -> Self {
            self.common.settings.allow_other_owner = true;
            self
        }

        /// Asks for 2 MiB pages; the [warnings](crate::Endpoint::warnings) say if there are none. Accepts regions of reserved huge
        /// pages from others, too, who can then end this process: sealing keeps the length, and not the pages.
        pub fn huge_pages(mut self) -> Self {
            self.common.settings.huge_pages = true;
            self
        }

        /// Maps every page now instead of on first touch.
        pub fn prefault(mut self) -> Self {
            self.common.settings.prefault = true;
            self
        }

        /// Keeps the region out of swap; the [warnings](crate::Endpoint::warnings) say if the system refuses.
        pub fn lock_memory(mut self) -> Self {
            self.common.settings.lock_memory = true;
            self
        }

        /// The largest region, in bytes of memory, that is accepted if others made it; extents of a queue do not count.
        ///
        /// Unless set, 16 GiB, and at most 2,097,152 slots, places of a queue's pool and permits of bounded semaphores
        /// altogether, because repair and statistics look through all of those; or whatever these options would
        /// make themselves, if that is more.
        pub fn max_region_bytes(mut self, bytes: usize) -> Self {
            self.common.settings.bounds.len = Some(bytes as u64);
            self
        }

        /// What to do about a name whose participants are all gone. How long a name lives is in a
        /// table of docs/failure.md.
        pub fn on_stale(mut self, on_stale: $crate::options::OnStale) -> Self {
            self.common.on_stale = on_stale;
            self
        }

        /// Refuses a name that exists.
        pub fn create_new(mut self) -> Self {
            self.common.creation = $crate::options::OpenMode::CreateNew;
            self
        }

        /// Refuses a name that does not exist.
        pub fn must_exist(mut self) -> Self {
            self.common.creation = $crate::options::OpenMode::Open;
            self
        }
    };
}

pub(crate) use common_options;
