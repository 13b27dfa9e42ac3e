//! A region: one file in memory, described by its header, found by name or passed as a descriptor.
//!
//! A region is complete before anybody else can reach it: a named file gets its name last, an
//! unnamed one is sealed before its descriptor is given away.

pub(crate) mod dependents;
pub(crate) mod directory;
pub(crate) mod extents;
mod file;
pub(crate) mod layout;
pub(crate) mod lifecycle;
mod name_watch;
pub(crate) mod observed;
pub(crate) mod participant;
pub(crate) mod process_exit;
pub(crate) mod repair;
pub(crate) mod settings;
pub(crate) mod trace;
pub(crate) mod unreadable;
pub(crate) mod words;

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use self::directory::Directory;
use self::layout::{Layout, header};
use self::name_watch::NameWatch;
use self::participant::Participants;
use self::settings::{JoinSettings, Settings};
use self::words::{Futex, MappingInner, Word, Words};
use crate::error::{Error, ErrorKind, Result};
use crate::primitive::{Ordering, WORD};
use crate::sys::file::FileId;
use crate::sys::{self, fork::ForkGuardedFd, process};

/// Options that could not be honoured. The region works without them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Warnings(Vec<String>);

impl Warnings {
    pub(crate) fn push(&mut self, warning: impl Into<String>) {
        self.0.push(warning.into());
    }

    fn check(&mut self, option: &str, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.push(format!("{option}: {error}; going on without"));
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
    mapping: Arc<MappingInner>,
    file: ForkGuardedFd,
    layout: Layout,
    path: Option<NamedPath>,
    /// Opened by a process that is in the region already: whether it still has its name is
    /// irrelevant.
    reopened: bool,
    sub_region: SubRegion,
    join: JoinSettings,
    pub(crate) warnings: Warnings,
    name_watch: NameWatch,
}

/// Where in its file a region begins: at zero, or further on if it is nested in another region.
#[derive(Clone, Default)]
struct SubRegion {
    first_word: usize,
    first_lock: u64,
    /// Keeps this process in the outer region.
    _host: Option<Arc<dyn Any + Send + Sync>>,
}

/// Lockable bytes for each nested region. The outer region has the first ones.
const LOCKS: u64 = 1 << 32;

impl Region {
    /// Makes a region that nobody else can reach until it gets a name, or its descriptor is passed
    /// on.
    pub(crate) fn create(layout: Layout, settings: &Settings, named: bool) -> Result<Self> {
        let mut warnings = Warnings::default();
        let (file, layout) = if named {
            (file::create_unnamed(&layout, settings)?, layout)
        } else {
            file::create_anonymous(layout, settings.huge_pages, &mut warnings)?
        };
        let region = Self::map(file, layout, None, settings, warnings)?;
        region.format();
        if !named {
            let remedy = "use a kernel with memfd sealing (3.17 or later)";
            sys::file::seal(&region.file).map_err(|error| Error::io("seal a region", error, remedy))?;
        }
        Ok(region)
    }

    fn map(
        file: ForkGuardedFd,
        layout: Layout,
        path: Option<NamedPath>,
        settings: &Settings,
        mut warnings: Warnings,
    ) -> Result<Self> {
        let mapping = file::map(&file, layout.mapped(), settings, &mut warnings)?;
        Ok(Self {
            mapping,
            file,
            layout,
            path,
            reopened: false,
            sub_region: SubRegion::default(),
            join: settings.join,
            warnings,
            name_watch: NameWatch::default(),
        })
    }

    /// Writes the header.
    pub(crate) fn format(&self) {
        let words = self.words(0, header::USED);
        for (word, value) in words.iter().zip(self.layout.header()) {
            word.store(value, Ordering::Relaxed); // published by the magic number
        }
        // Last, though nobody can see the file yet: a copy of an unfinished one must not pass for a
        // region.
        self.word(header::MAGIC).store(header::MAGIC_NUMBER, Ordering::Release); // edge: magic-number
    }

    /// Opens what has this name now.
    pub(crate) fn open(name: &str, settings: &Settings) -> Result<Self> {
        let (file, path) = file::open(name, settings)?;
        Self::from_file(file, Some(path), settings)
    }

    /// Opens a region whose descriptor came from elsewhere. Keeps its description, with its locks
    /// and its offset.
    ///
    /// The process that passed it chose the file. Truncating it under our mapping would be a
    /// SIGBUS. So it must be sealed, or a file of a user that could end this process anyway, in
    /// memory that the kernel alone serves.
    pub(crate) fn from_descriptor(file: OwnedFd, settings: &Settings) -> Result<Self> {
        let action = "open a region from a descriptor";
        let file =
            ForkGuardedFd::new(|| Ok(file)).map_err(|error| Error::io("keep a descriptor", error, "try again"))?;
        if sys::file::is_sealed(&file) {
            return Self::from_file(file, None, settings);
        }
        let refuse = |found: &dyn fmt::Display, remedy| {
            let expected = format!("a sealed one, or a named one of user {} on tmpfs", process::effective_user());
            Err(Error::new(ErrorKind::Permission, action, found, expected, remedy))
        };
        // Checked first: another kind of file system may be served by a process, which may never
        // answer.
        if !sys::file::is_memory(&file) {
            let remedy = "pass an endpoint of an unnamed region, name regions on tmpfs, or open this one by its name";
            return refuse(&"a file that is not on tmpfs and can be truncated", remedy);
        }
        let owner = sys::file::metadata(&file).map_err(|error| Error::io(action, error, "try again"))?.owner;
        if owner != process::effective_user() && !settings.allow_other_owner {
            let remedy =
                "pass an endpoint of an unnamed region, or allow other owners explicitly if that user is trusted";
            return refuse(&format_args!("a file of user {owner}, who can truncate it"), remedy);
        }
        let path = sys::file::path(&file).map_err(|error| Error::io(action, error, "open the region by its name"))?;
        let path = path.and_then(|path| {
            let name = path.file_name()?.to_str()?.to_string();
            Some(NamedPath { name, path })
        });
        if path.is_none() {
            let remedy = "pass the descriptor that an endpoint was turned into";
            return refuse(&"a file without a name that can be truncated", remedy);
        }
        Self::from_file(file, path, settings)
    }

    fn from_file(file: ForkGuardedFd, path: Option<NamedPath>, settings: &Settings) -> Result<Self> {
        let layout = read_layout(&file, path.as_ref(), settings)?;
        // An inspection of an unnamed file reads few words of it: a hole there becomes a page, and
        // the others stay holes. On a file system that is full a hole would be a SIGBUS.
        let may_have_holes = settings.is_inspection && path.is_none();
        if sys::file::is_memory(&file) && layout.mapped() < layout.size() && !may_have_holes {
            // The memory of extents counts as the file's, so that count may hide holes. They are
            // filled, or are an error, here and not at the first access.
            let action = format!("open {}", describe_file(path.as_ref()));
            file::check_memory(&action, layout.mapped())?;
            sys::file::back(&file, layout.mapped()).map_err(|error| Error::io(&action, error, "try again"))?;
        }
        Self::map(file, layout, path, settings, Warnings::default())
    }

    /// A second handle of the same region, with a file description of its own.
    pub(crate) fn reopen(&self) -> Result<Self> {
        let file = ForkGuardedFd::new(|| sys::file::reopen(&self.file))
            .map_err(|error| Error::io("open a region again", error, "try again"))?;
        let mapping = Arc::clone(&self.mapping);
        Ok(Self {
            mapping,
            file,
            layout: self.layout,
            path: self.path.clone(),
            reopened: true,
            sub_region: self.sub_region.clone(),
            join: self.join,
            warnings: self.warnings.clone(),
            name_watch: NameWatch::default(),
        })
    }

    /// The region number `index` of those nested in this one. It begins at word `first_word`.
    pub(crate) fn sub_region(
        &self,
        first_word: usize,
        index: usize,
        layout: Layout,
        host: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Self> {
        debug_assert!(!self.is_nested());
        let sub_region = SubRegion { first_word, first_lock: (index as u64 + 1) * LOCKS, _host: host };
        Ok(Self { layout, sub_region, ..self.reopen()? })
    }

    pub(crate) fn is_nested(&self) -> bool {
        self.sub_region.first_lock != 0
    }

    /// The byte of the file that stands for one of this region's locks.
    pub(crate) fn lock_byte(&self, byte: u64) -> u64 {
        self.sub_region.first_lock + byte
    }

    /// Tells this file from others while any process has it open.
    pub(crate) fn id(&self) -> FileId {
        self.mapping.id
    }

    /// Where the file is mapped.
    pub(crate) fn address(&self) -> usize {
        self.mapping.address()
    }

    /// Gives the region its name, unless another region has it.
    pub(crate) fn give_name(&mut self, name: &str, directory: &Directory) -> Result<()> {
        let path = directory.resolve(name)?;
        sys::file::link(&self.file, &path).map_err(|error| {
            let action = format!("give a region the name {name:?} ({})", path.display());
            Error::io(action, error, "open the region that has the name, choose another, or `tombolo rm` it")
        })?;
        self.path = Some(NamedPath { name: name.to_string(), path });
        Ok(())
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    pub(crate) fn path(&self) -> Option<&NamedPath> {
        self.path.as_ref()
    }

    /// What error messages call it.
    pub(crate) fn display_name(&self) -> String {
        match &self.path {
            Some(path) => format!("the region {:?}", path.name),
            None => "an unnamed region".to_string(),
        }
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// False in a process that was forked from the one which opened the region.
    pub(crate) fn is_from_this_process(&self) -> bool {
        self.file.is_from_this_process()
    }

    pub(crate) fn is_active(&self) -> bool {
        // edge: region-state
        self.word(header::REGION_STATE).load(Ordering::Acquire) == header::ACTIVE
    }

    /// What tells it from others that have or had its name. 0: it was not needed yet.
    pub(crate) fn identity(&self) -> u64 {
        self.word(header::IDENTITY).load(Ordering::Relaxed)
    }

    /// Sets the identity if it has none.
    pub(crate) fn set_identity(&self) -> Result<()> {
        if self.identity() != 0 {
            return Ok(());
        }
        let random =
            sys::random::bytes().map_err(|error| Error::io("get random bytes", error, "use Linux 3.17 or later"));
        let identity = u64::from_ne_bytes(random?).max(1);
        // Relaxed: nothing is published by it. If it has one, that stays.
        let _ = self.word(header::IDENTITY).compare_exchange(0, identity, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn is_reopened(&self) -> bool {
        self.reopened
    }

    /// Whether the region's name still leads to this region. A nested region never has one.
    pub(crate) fn is_named(&self) -> bool {
        let path = self.path.as_ref().filter(|_| !self.is_nested());
        path.is_some_and(|named| {
            sys::file::metadata_at(&named.path).is_ok_and(|metadata| metadata.id == self.mapping.id)
        })
    }

    /// The processes that take part.
    pub(crate) fn participants(&self) -> Participants<'_> {
        Participants::new(self)
    }

    pub(crate) fn words(&self, start: usize, length: usize) -> Words {
        self.mapping.words(self.sub_region.first_word.saturating_add(start), length)
    }

    /// Makes the kernel map these words now. An attempt: otherwise the first accesses do.
    pub(crate) fn prefault(&self, start: usize, length: usize) {
        let start = self.sub_region.first_word.saturating_add(start);
        let _ = self.mapping.map.prefault_range(start.saturating_mul(WORD), length.saturating_mul(WORD));
    }

    pub(crate) fn word(&self, index: usize) -> Word {
        Word(self.words(index, 1))
    }

    /// The 32-bit half of a word that is never accessed as 64 bits.
    pub(crate) fn futex(&self, index: usize) -> Futex {
        Futex(self.words(index, 1))
    }
}

/// Reads the header of a file, and checks that the file is what the header says.
fn read_layout(file: &ForkGuardedFd, path: Option<&NamedPath>, settings: &Settings) -> Result<Layout> {
    let what = describe_file(path);
    let action = format!("open {what}");
    let failed = |error| Error::io(&action, error, "check that the file is what it should be");
    let metadata = sys::file::metadata(file).map_err(failed)?;
    if !metadata.is_regular || metadata.length < header::BYTES as u64 {
        return Err(Error::new(
            ErrorKind::NotARegion,
            action,
            if metadata.is_regular { format!("{} bytes", metadata.length) } else { "no regular file".into() },
            format_args!("a region of at least {} bytes", header::BYTES),
            "choose another name or move the file away",
        ));
    }
    let layout = Layout::parse(&file::read_header(file).map_err(failed)?, metadata.length, &what)?;
    settings.bounds.check_len(&action, layout.mapped())?;
    settings.bounds.check_steps(&action, layout.steps())?;
    if sys::file::is_huge(file) && !settings.huge_pages {
        return Err(Error::new(
            ErrorKind::Permission,
            action,
            "reserved huge pages, which whoever has the file can take back even if it is sealed",
            "ordinary memory",
            "ask for huge_pages here, too, if those who share the region are trusted with this process's life",
        ));
    }
    if sys::file::is_memory(file) && metadata.allocated < layout.mapped() {
        return Err(Error::new(
            ErrorKind::Corrupt,
            action,
            format_args!("{} bytes of memory", metadata.allocated),
            format_args!("all {} that it promises", layout.mapped()),
            "somebody made or punched holes in it: remove it when nobody uses it",
        ));
    }
    Ok(layout)
}

fn describe_file(path: Option<&NamedPath>) -> String {
    match path {
        Some(NamedPath { name, path }) => format!("the region {name:?} ({})", path.display()),
        None => "the region behind this descriptor".to_string(),
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.as_ref().map(|path| path.name.as_str());
        f.debug_struct("Region").field("name", &name).field("layout", &self.layout).finish_non_exhaustive()
    }
}
