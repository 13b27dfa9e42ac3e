//! A region: one file, mapped, described by its header, found by name or passed by descriptor.
//!
//! Made whole and only then shown: a named file gets its name after everything is in it, an anonymous one is
//! sealed before anybody else has its descriptor.
//!
//! Invariants behind the unsafe code here
//! - I1: a mapping lives as long as any handle into it; a handle's range was checked against the mapping's length.
//! - I2: shared bytes are reached through atomics only (or, behind the trusted constructors, as in_place.rs says).
//! - I3: futex words are 32-bit atomics, and never loaded or stored as the 64-bit ones of a `Words` range; everything else is 64-bit.

#![allow(unsafe_code)]

pub(crate) mod directory;
pub(crate) mod held;
pub(crate) mod layout;
pub(crate) mod participant;
pub(crate) mod repair;
pub(crate) mod unreadable;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, WORD};
use crate::raw::Memory;
use crate::region::directory::Directory;
use crate::region::layout::{ACTIVE, HEADER_LEN, Layout, MAGIC, header};
use crate::sys::fork::{ForkGuardedFd, ForkSafe};
use crate::sys::headroom::{Headroom, headroom, overhead};
use crate::sys::memory::{self, FileId, HUGE_PAGE, Mapping};

/// How a region is made and mapped.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) directory: Directory,
    pub(crate) mode: Option<u32>,
    pub(crate) huge_pages: bool,
    pub(crate) prefault: bool,
    pub(crate) lock_memory: bool,
    pub(crate) allow_other_owner: bool,
    pub(crate) bounds: Bounds,
}

/// How large a region may be that others made. The peer chose its numbers; what is done with it takes memory and time
/// in proportion to them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// Bytes of memory, if the user chose.
    pub(crate) len: Option<u64>,
    /// What our own options would make is always accepted.
    own_len: u64,
    own_steps: u64,
}

impl Bounds {
    /// Unless chosen otherwise.
    const LEN: u64 = 16 << 30;
    /// Words that one look at all of them visits, some milliseconds' worth.
    const STEPS: u64 = 1 << 21;

    pub(crate) const NONE: Self = Self { len: Some(u64::MAX), own_len: 0, own_steps: 0 };

    /// Accepts what our own options would make, too: so many bytes, so many words to look through.
    pub(crate) fn with_own(self, len: u64, steps: u64) -> Self {
        Self { own_len: len, own_steps: steps, ..self }
    }

    /// As [`with_own`](Self::with_own), for a layout, if the options make one.
    pub(crate) fn with_own_layout(self, layout: &Result<Layout>) -> Self {
        layout.as_ref().map_or(self, |layout| self.with_own(layout.mapped(), layout.steps()))
    }

    pub(crate) fn check_len(&self, doing: &str, len: u64) -> Result<()> {
        let most = self.len.unwrap_or(Self::LEN.max(self.own_len));
        if len <= most {
            return Ok(());
        }
        Err(Self::too_large(doing, format_args!("{len} bytes of memory"), format_args!("at most {most}")))
    }

    /// Whoever chose the number of bytes has bounded these, too.
    pub(crate) fn check_steps(&self, doing: &str, steps: u64) -> Result<()> {
        let most = Self::STEPS.max(self.own_steps);
        if steps <= most || self.len.is_some() {
            return Ok(());
        }
        let found = format_args!("{steps} slots, places and permits to look through");
        Err(Self::too_large(doing, found, format_args!("at most {most}")))
    }

    fn too_large(doing: &str, found: impl fmt::Display, expected: impl fmt::Display) -> Error {
        let remedy = "ask for the same capacity here, or accept so large a region with max_region_bytes";
        Error::new(ErrorKind::WrongType, doing, found, expected, remedy)
    }
}

const DEFAULT_MODE: u32 = 0o600;

/// What was wished for and could not be had, or was changed; nothing in here keeps the region from working.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    warnings: Vec<String>,
}

impl Report {
    /// One sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }

    fn check(&mut self, wish: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.warn(format!("{wish}: {error}; going on without"));
        }
    }
}

/// Where a named region is found.
#[derive(Clone, Debug)]
pub(crate) struct NamedPath {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
}

/// An open region, with an open file description of its own.
pub struct Region {
    mapping: Arc<Shared>,
    file: ForkGuardedFd,
    layout: Layout,
    place: Option<NamedPath>,
    /// Opened by somebody who is in the region already: it does not matter whether it still has its name.
    kept: bool,
    window: SubRegion,
    pub(crate) report: Report,
}

/// Where in its file a region begins: at zero, or, if it lies in another, further on.
#[derive(Clone, Default)]
struct SubRegion {
    words: usize,
    locks: u64,
    /// Keeps this process in the other one.
    _host: Option<Arc<dyn Any + Send + Sync>>,
}

/// Lockable bytes for each region that lies in another; the outer one has the first so many.
const LOCKS: u64 = 1 << 32;

impl Region {
    /// A fresh region that nobody else can reach yet: give it a name, or give its descriptor away.
    pub(crate) fn create(layout: Layout, settings: &Settings, named: bool) -> Result<Self> {
        let mut report = Report::default();
        let (file, layout) = if named {
            (create_unnamed(&layout, settings)?, layout)
        } else {
            create_anonymous(layout, settings.huge_pages, &mut report)?
        };
        let mapping = map(&file, layout.mapped(), settings, &mut report)?;
        let region = Self { mapping, file, layout, place: None, kept: false, window: SubRegion::default(), report };
        region.format();
        if !named {
            let remedy = "use a kernel with memfd sealing (3.17 or later)";
            memory::seal(&region.file).map_err(|error| Error::io("seal a region", error, remedy))?;
        }
        Ok(region)
    }

    pub(crate) fn format(&self) {
        let header = self.words(0, header::USED);
        for (word, value) in header.iter().zip(self.layout.header()) {
            word.store(value, Ordering::Relaxed);
        }
        // Last, though nobody can see the file yet: a copy of a half-made one must not pass for a whole.
        self.word(header::MAGIC).store(MAGIC, Ordering::Release);
    }

    /// Opens what has this name now.
    pub(crate) fn open(name: &str, settings: &Settings) -> Result<Self> {
        let (file, place) = open_file(name, settings)?;
        Self::from_file(file, Some(place), settings)
    }

    /// Opens a region whose descriptor came from elsewhere; keeps its description, locks and position included.
    ///
    /// Whoever passed it chose the file. One that can be truncated under our mapping would be a SIGBUS, so it must be
    /// sealed, or a file of a user that could end this process anyway, in memory that the kernel alone serves.
    pub(crate) fn from_descriptor(file: OwnedFd, settings: &Settings) -> Result<Self> {
        let doing = "open a region from a descriptor";
        let file =
            ForkGuardedFd::new(|| Ok(file)).map_err(|error| Error::io("keep a descriptor", error, "try again"))?;
        if memory::is_sealed(&file) {
            return Self::from_file(file, None, settings);
        }
        let refuse = |found: &dyn fmt::Display, remedy| {
            let expected = format_args!("a sealed one, or a named one of user {} on tmpfs", memory::user());
            Err(Error::new(ErrorKind::Permission, doing, found, expected, remedy))
        };
        // Before anything else is asked: another kind of file system may be served by a process, and hang us.
        if !memory::is_memory(&file) {
            let remedy = "pass an end of an anonymous region, name regions on tmpfs, or open this one by its name";
            return refuse(&"a file that is not on tmpfs and can be truncated", remedy);
        }
        let owner = memory::facts(&file).map_err(|error| Error::io(doing, error, "try again"))?.owner;
        if owner != memory::user() && !settings.allow_other_owner {
            let remedy = "pass an end of an anonymous region, or allow other owners explicitly if that user is trusted";
            return refuse(&format_args!("a file of user {owner}, who can truncate it"), remedy);
        }
        let place = memory::path(&file).and_then(|path| {
            let name = path.file_name()?.to_str()?.to_string();
            Some(NamedPath { name, path })
        });
        if place.is_none() {
            let remedy = "pass the descriptor that an end was turned into";
            return refuse(&"a file without a name that can be truncated", remedy);
        }
        Self::from_file(file, place, settings)
    }

    fn from_file(file: ForkGuardedFd, place: Option<NamedPath>, settings: &Settings) -> Result<Self> {
        let what = match &place {
            Some(place) => format!("the region {:?} ({})", place.name, place.path.display()),
            None => "the region behind this descriptor".to_string(),
        };
        let doing = format!("open {what}");
        let failed = |error| Error::io(&doing, error, "check that the file is what it should be");
        let facts = memory::facts(&file).map_err(failed)?;
        if !facts.is_regular || facts.length < HEADER_LEN as u64 {
            return Err(Error::new(
                ErrorKind::NotARegion,
                doing,
                if facts.is_regular { format!("{} bytes", facts.length) } else { "no regular file".into() },
                format_args!("a region of at least {HEADER_LEN} bytes"),
                "choose another name or move the file away",
            ));
        }
        let layout = Layout::parse(&read_header(&file).map_err(failed)?, facts.length, &what)?;
        settings.bounds.check_len(&doing, layout.mapped())?;
        settings.bounds.check_steps(&doing, layout.steps())?;
        if memory::is_huge(&file) && !settings.huge_pages {
            return Err(Error::new(
                ErrorKind::Permission,
                doing,
                "reserved huge pages, which whoever has the file can take back even if it is sealed",
                "ordinary memory",
                "ask for huge_pages here, too, if those who share the region are trusted with this process's life",
            ));
        }
        if memory::is_memory(&file) && facts.allocated < layout.mapped() {
            return Err(Error::new(
                ErrorKind::Corrupt,
                doing,
                format_args!("{} bytes of memory", facts.allocated),
                format_args!("all {} that it promises", layout.mapped()),
                "somebody made or punched holes in it: remove it when nobody uses it",
            ));
        }
        if memory::is_memory(&file) && layout.mapped() < layout.size {
            // Memory of extents counts as the file's, so that count may hide holes. They are filled, or
            // are an error, here and not at the first touch.
            check_memory(&doing, layout.mapped())?;
            let full = |error| Error::io(&doing, error, "make room there");
            memory::back(&file, layout.mapped()).map_err(full)?;
        }
        let mut report = Report::default();
        let mapping = map(&file, layout.mapped(), settings, &mut report)?;
        Ok(Self { mapping, file, layout, place, kept: false, window: SubRegion::default(), report })
    }

    /// A second handle of the same region, with a file description of its own.
    pub(crate) fn reopen(&self) -> Result<Self> {
        let file = ForkGuardedFd::new(|| memory::reopen(&self.file))
            .map_err(|error| Error::io("open a region again", error, "mount /proc"))?;
        let mapping = Arc::clone(&self.mapping);
        let (layout, place, report) = (self.layout, self.place.clone(), self.report.clone());
        Ok(Self { mapping, file, layout, place, kept: true, window: self.window.clone(), report })
    }

    /// A region that lies in this one, from word `at` on, as number `index` of such.
    pub(crate) fn within(
        &self,
        at: usize,
        index: usize,
        layout: Layout,
        host: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Self> {
        debug_assert!(!self.is_within());
        let window = SubRegion { words: at, locks: (index as u64 + 1) * LOCKS, _host: host };
        Ok(Self { layout, window, ..self.reopen()? })
    }

    /// Whether it lies in another.
    pub(crate) fn is_within(&self) -> bool {
        self.window.locks != 0
    }

    /// The byte of the file that stands for one of this region's locks.
    pub(crate) fn lock_byte(&self, byte: u64) -> u64 {
        self.window.locks + byte
    }

    /// What tells this file from others while anybody has it open.
    pub(crate) fn id(&self) -> FileId {
        self.mapping.id
    }

    /// Where the file is mapped.
    pub(crate) fn address(&self) -> usize {
        self.mapping.start.addr().get()
    }

    /// Gives the region its name, unless another has it.
    pub(crate) fn publish(&mut self, name: &str, directory: &Directory) -> Result<()> {
        let path = directory.resolve(name)?;
        memory::link(&self.file, &path).map_err(|error| {
            let doing = format!("give a region the name {name:?} ({})", path.display());
            Error::io(doing, error, "open the region that has the name, choose another, or `tombolo rm` it")
        })?;
        self.place = Some(NamedPath { name: name.to_string(), path });
        Ok(())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn place(&self) -> Option<&NamedPath> {
        self.place.as_ref()
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// False in a process that was forked from the one which opened it.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.file.is_ours()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.word(header::LIFE).load(Ordering::Acquire) == ACTIVE
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Whether the region's name still means this region. Of one that lies in another, it never did.
    pub(crate) fn is_named(&self) -> bool {
        self.place
            .as_ref()
            .filter(|_| !self.is_within())
            .is_some_and(|place| memory::facts_at(&place.path).is_ok_and(|facts| facts.id == self.mapping.id))
    }

    pub(crate) fn words(&self, start: usize, length: usize) -> Words {
        let start = self.window.words.saturating_add(start);
        assert!(start <= self.mapping.words() && length <= self.mapping.words() - start, "I1: {start}+{length}");
        // SAFETY: inside the mapping, as just checked.
        Words { start: unsafe { self.mapping.start.add(start) }, length, _mapping: Arc::clone(&self.mapping) }
    }

    pub(crate) fn word(&self, index: usize) -> Word {
        Word(self.words(index, 1))
    }

    /// The 32-bit half of a word that is never touched as 64 bits (I3).
    pub(crate) fn futex(&self, index: usize) -> Futex {
        Futex(self.words(index, 1))
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.place.as_ref().map(|place| place.name.as_str());
        f.debug_struct("Region").field("name", &name).field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// Opens the file that has this name now, whatever is in it.
pub(crate) fn open_file(name: &str, settings: &Settings) -> Result<(ForkGuardedFd, NamedPath)> {
    let path = settings.directory.resolve(name)?;
    let doing = format!("open the region {name:?} ({})", path.display());
    let remedy = "see which names exist with `tombolo ls`, and whose they are";
    let file = ForkGuardedFd::new(|| memory::open(&path)).map_err(|error| Error::io(&doing, error, remedy))?;
    let owner = memory::facts(&file).map_err(|error| Error::io(&doing, error, remedy))?.owner;
    if owner != memory::user() && !settings.allow_other_owner {
        return Err(Error::new(
            ErrorKind::Permission,
            doing,
            format_args!("a file of user {owner}"),
            format_args!("one of user {}", memory::user()),
            "allow other owners explicitly if that user is to be trusted with this process's time",
        ));
    }
    Ok((file, NamedPath { name: name.to_string(), path }))
}

fn create_unnamed(layout: &Layout, settings: &Settings) -> Result<ForkGuardedFd> {
    settings.directory.ensure()?;
    let directory = settings.directory.path();
    let doing = format!("make a region of {} bytes in {}", layout.mapped(), directory.display());
    check_file_size(&doing, layout.size)?;
    if memory::is_tmpfs(directory) {
        check_memory(&doing, layout.mapped())?;
    }
    let make = || {
        let file = ForkGuardedFd::new(|| memory::create_unnamed(directory, settings.mode.unwrap_or(DEFAULT_MODE)))?;
        memory::allocate(&file, layout.size, layout.mapped())?;
        Ok(file)
    };
    make().map_err(|error: io::Error| {
        let remedy = match error.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EISDIR) => {
                "that file system has no unnamed files or no preallocation: name a directory on tmpfs, ext4, xfs or btrfs"
            }
            _ => "make room there, choose a smaller capacity, or name another directory",
        };
        Error::io(&doing, error, remedy)
    })
}

fn create_anonymous(layout: Layout, huge: bool, report: &mut Report) -> Result<(ForkGuardedFd, Layout)> {
    let doing = format!("make an anonymous region of {} bytes", layout.mapped());
    check_file_size(&doing, layout.size)?;
    let make = |huge, size, backed| {
        let file = ForkGuardedFd::new(|| memory::create_anonymous(huge))?;
        memory::allocate(&file, size, backed)?;
        Ok(file)
    };
    if huge && layout.mapped() < layout.size {
        report.warn("reserved huge pages: not for a region with extents, which are read and written as a file");
    } else if huge {
        let size = layout.size.next_multiple_of(HUGE_PAGE);
        match make(true, size, size) {
            Ok(file) => return Ok((file, Layout { size, ..layout })),
            Err(error) => report.check("reserved huge pages", Err::<(), io::Error>(error)),
        }
    }
    check_memory(&doing, layout.mapped())?;
    let file = make(false, layout.size, layout.mapped())
        .map_err(|error: io::Error| Error::io(&doing, error, "choose a smaller capacity"))?;
    Ok((file, layout))
}

/// A tmpfs may be allowed more than there is, or than this process's control groups may have; filling it would end in
/// the out-of-memory killer, not in an error.
fn check_memory(doing: &str, size: u64) -> Result<()> {
    let wanted = size.saturating_add(overhead(size));
    let Some(Headroom { bytes, group }) = headroom(wanted).filter(|found| found.bytes < wanted) else { return Ok(()) };
    let (found, remedy) = match group {
        None => (format!("{bytes} bytes of available memory"), "choose a smaller capacity"),
        Some(group) => (
            format!("{bytes} bytes left to the control group {}", group.display()),
            "choose a smaller capacity, or raise the group's limit (memory.max, memory.limit_in_bytes)",
        ),
    };
    Err(Error::new(ErrorKind::NoSpace, doing, found, format_args!("{wanted}"), remedy))
}

/// To grow a file beyond the process's limit would be a signal, not an error.
fn check_file_size(doing: &str, size: u64) -> Result<()> {
    match memory::file_size_limit() {
        Some(limit) if size > limit => Err(Error::new(
            ErrorKind::NoSpace,
            doing,
            format_args!("files limited to {limit} bytes, of which {size} are needed"),
            "a file that may be so long, if mostly empty",
            "raise the limit (`ulimit -f`), or allow fewer or shorter large messages",
        )),
        _ => Ok(()),
    }
}

/// Read, not mapped: truncation by somebody else is then a short read instead of a SIGBUS.
fn read_header(file: &ForkGuardedFd) -> io::Result<[u64; header::WORDS]> {
    let mut words = [0; header::WORDS];
    memory::read_exact_at(file, bytemuck::bytes_of_mut(&mut words), 0)?;
    Ok(words)
}

/// One mapping for each file, however often it is opened: the optimiser may take two addresses for two memories.
fn map(file: &ForkGuardedFd, length: u64, settings: &Settings, report: &mut Report) -> Result<Arc<Shared>> {
    static MAPPINGS: ForkSafe<HashMap<FileId, Weak<Shared>>> = ForkSafe::new();

    let failed = |error: io::Error| {
        let is_hidden = error.kind() == io::ErrorKind::NotFound; // what is open is found through /proc
        let remedy = if is_hidden { "mount /proc" } else { "choose a smaller capacity" };
        Error::io(format_args!("map {length} bytes"), error, remedy)
    };
    let facts = memory::facts(file).map_err(failed)?;
    let shared = MAPPINGS.with(|mappings| match mappings.get(&facts.id).and_then(Weak::upgrade) {
        Some(shared) if shared.map.len() as u64 == length => Ok(shared),
        _ => {
            let length = usize::try_from(length).map_err(io::Error::other)?;
            let shared = Arc::new(Shared::new(file, length, facts.id)?);
            mappings.retain(|_, other| other.strong_count() > 0);
            mappings.insert(facts.id, Arc::downgrade(&shared));
            Ok(shared)
        }
    });
    let shared = shared.map_err(failed)?;
    if settings.huge_pages {
        report.check("transparent huge pages", shared.map.advise_huge());
    }
    if settings.prefault {
        report.check("prefaulting", shared.map.prefault());
    }
    if settings.lock_memory {
        report.check("locking the region in memory", shared.map.lock());
    }
    Ok(shared)
}

/// A mapping as words.
struct Shared {
    map: Mapping,
    start: NonNull<AtomicU64>,
    id: FileId,
}

// SAFETY: an address and a length; what is behind them is reached through atomics (I2).
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(file: &ForkGuardedFd, length: usize, id: FileId) -> io::Result<Self> {
        // Through a description of its own: a mapping keeps its description open, and any lock taken through it.
        let map = Mapping::new(memory::reopen(file)?, length)?;
        let start = NonNull::new(map.start().cast()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { map, start, id })
    }

    fn words(&self) -> usize {
        self.map.len() / WORD
    }
}

/// A range of shared words, and a hold on their mapping.
#[derive(Clone)]
pub struct Words {
    start: NonNull<AtomicU64>,
    length: usize,
    _mapping: Arc<Shared>,
}

// SAFETY: like `Arc<[AtomicU64]>`, which it stands for.
unsafe impl Send for Words {}
// SAFETY: as above.
unsafe impl Sync for Words {}

impl Words {
    /// The address of the first word, for in_place.rs.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start.cast()
    }
}

impl Deref for Words {
    type Target = [AtomicU64];

    #[inline]
    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: I1, I3; mappings are page-aligned.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

/// One shared word.
#[derive(Clone)]
pub struct Word(Words);

impl Deref for Word {
    type Target = AtomicU64;

    #[inline]
    fn deref(&self) -> &AtomicU64 {
        // SAFETY: I1, a range of one.
        unsafe { self.0.start.as_ref() }
    }
}

/// One shared 32-bit word to sleep on.
#[derive(Clone)]
pub struct Futex(Words);

impl Deref for Futex {
    type Target = AtomicU32;

    #[inline]
    fn deref(&self) -> &AtomicU32 {
        // SAFETY: I1, I3, a range of eight bytes.
        unsafe { self.0.start.cast().as_ref() }
    }
}

/// The algorithms' memory, in a mapping.
pub struct Mapped;

impl Memory for Mapped {
    type Word = Word;
    type Words = Words;
    type Futex = Futex;
}

/// For messages about a file that has a name.
pub(crate) fn shown(place: Option<&NamedPath>) -> String {
    match place {
        Some(place) => format!("the region {:?}", place.name),
        None => "an anonymous region".to_string(),
    }
}

/// How long a removal waits for another one in the same directory. Each takes microseconds.
const REMOVAL_PATIENCE: Duration = Duration::from_millis(500);

/// Removes a name if it still leads to that file. Returns whether it did.
///
/// Linux cannot compare and remove in one call. So removals in a directory take turns, by a lock on the directory:
/// nobody else removes the name between the look and the removal, and a name that is there is never given to another
/// file. The caller keeps the file open, so that its number cannot come to mean another.
pub(crate) fn unlink(path: &Path, id: FileId) -> Result<bool> {
    let doing = format!("remove the name {}", path.display());
    let failed = |error| Error::io(&doing, error, "check the directory's permissions");
    let started = Instant::now();
    let directory = match ForkGuardedFd::new(|| memory::open_directory(path.parent().unwrap_or(Path::new("/")))) {
        // It may be written to and not be read, or there is no descriptor left: then there is nothing
        // to lock.
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied
                || matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) =>
        {
            None
        }
        opened => Some(opened.map_err(failed)?),
    };
    // A file system that has no such locks is no reason to keep the name.
    while let Some(directory) = &directory
        && !memory::try_lock_whole(directory).unwrap_or(true)
    {
        if started.elapsed() >= REMOVAL_PATIENCE {
            return Err(Error::new(
                ErrorKind::Busy,
                doing,
                format_args!("another process in the middle of removing a name there for {REMOVAL_PATIENCE:?}"),
                "microseconds",
                "find and continue, or kill, the stopped one that has the directory open and locked (`lsof`)",
            ));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let is_it = memory::facts_at(path).is_ok_and(|facts| facts.id == id);
    let removed = if is_it { std::fs::remove_file(path).map_err(failed) } else { Ok(()) };
    // Not left to the closing: a child made by a raw `clone` may have a copy of the descriptor.
    if let Some(directory) = &directory {
        memory::unlock_whole(directory);
    }
    removed.map(|()| is_it)
}
