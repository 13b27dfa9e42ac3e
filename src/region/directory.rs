//! Names of regions: where they live and what they may look like.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::sys::file::{self, FileId};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::process;

/// Overrides the directory of named regions, but not in a set-user-ID or set-group-ID program: its
/// caller chose the environment.
pub const DIRECTORY_ENV: &str = "TOMBOLO_DIR";

const NAME_MAX: usize = 200;

/// A directory of named regions.
///
/// By default it is `/dev/shm/tombolo-UID`, which is made on first use, for its owner alone. You
/// can choose another with the environment variable `TOMBOLO_DIR` or an explicit path, for example
/// one that a group shares.
///
/// Any user of the machine can make another user's default directory first. Then every call here
/// refuses it. No other directory is used in its place, because programs that ought to meet would
/// not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: PathBuf,
    origin: Origin,
}

/// Why a directory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Nobody chose one. It is under a directory where everybody can write: it must be ours alone.
    Default,
    /// The user or the environment chose it.
    Chosen,
    /// It belongs to a region, with which it was made and goes.
    Dependents,
}

impl Default for Directory {
    fn default() -> Self {
        let chosen = std::env::var_os(DIRECTORY_ENV).filter(|value| !value.is_empty());
        match chosen.filter(|_| !process::has_untrusted_environment()) {
            Some(path) => Self::at(PathBuf::from(path)),
            None => Self {
                path: PathBuf::from(format!("/dev/shm/tombolo-{}", process::effective_user())),
                origin: Origin::Default,
            },
        }
    }
}

impl Directory {
    /// Uses `path`. Its permissions say which users may enter. If it is missing, it is made for
    /// this user alone.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), origin: Origin::Chosen }
    }

    /// The directory of the regions that depend on another one. It is never made by using it.
    pub(super) fn of_dependents(path: PathBuf) -> Self {
        Self { path, origin: Origin::Dependents }
    }

    /// Returns the path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the names of the files there, sorted. They need not be regions. If the directory
    /// does not exist, there are none.
    ///
    /// # Blocking
    ///
    /// Never.
    ///
    /// # Errors
    ///
    /// The directory cannot be read, or is a default one that another user made.
    pub fn names(&self) -> Result<Vec<String>> {
        match self.check() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            checked => checked?,
        }
        let reading =
            |error| Error::io(format_args!("list {}", self.path.display()), error, "check the directory's permissions");
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(reading)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(reading)?.file_name().into_string().ok().filter(|name| is_valid_name(name)));
        }
        names.sort();
        Ok(names)
    }

    /// The file of a name, in a directory that is there and safe to use.
    pub(crate) fn resolve(&self, name: &str) -> Result<PathBuf> {
        if !is_valid_name(name) {
            return Err(Error::new(
                ErrorKind::InvalidName,
                "use this name for a region",
                format_args!("{name:?} ({} bytes)", name.len()),
                format_args!("1 to {NAME_MAX} bytes without '/', control characters or a leading '.'"),
                "choose another name",
            ));
        }
        self.create_if_missing()?;
        Ok(self.path.join(name))
    }

    pub(crate) fn create_if_missing(&self) -> Result<()> {
        if self.origin == Origin::Dependents {
            return self.check();
        }
        let shown = self.path.display();
        let made = DirBuilder::new().mode(0o700).create(&self.path);
        if let Err(error) = made
            && error.kind() != io::ErrorKind::AlreadyExists
        {
            // That there is no such directory is said of the one above.
            let remedy = match self.is_default() {
                true => format!("mount a tmpfs on /dev/shm, or {}", self.elsewhere()),
                false => "make the directory above it, or name another directory".to_string(),
            };
            return Err(Error::io(format_args!("make the directory {shown}"), error, remedy));
        }
        self.check()
    }

    /// Refuses what is no directory, and a default one that is not ours alone.
    fn check(&self) -> Result<()> {
        let action = format!("use the directory {}", self.path.display());
        let elsewhere = self.elsewhere();
        let metadata =
            if self.origin != Origin::Chosen { fs::symlink_metadata(&self.path) } else { fs::metadata(&self.path) };
        let metadata =
            metadata.map_err(|error| Error::io(&action, error, format_args!("remove it, or {elsewhere}")))?;
        let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        let is_ours = owner == process::effective_user();
        if !metadata.is_dir() {
            let found = match (self.is_default(), metadata.is_symlink()) {
                (false, _) => "something else".to_string(),
                (true, true) => format!("a symbolic link of user {owner}"),
                (true, false) => format!("something else, of user {owner} and mode {mode:o}"),
            };
            let remedy = format!("remove it{}, or {elsewhere}", if is_ours { "" } else { " (as that user or root)" });
            return Err(Error::new(ErrorKind::Permission, action, found, "a directory", remedy));
        }
        if self.is_default() && (!is_ours || mode & 0o077 != 0) {
            let found = format!("a directory of user {owner} and mode {mode:o}");
            let expected = format!("one of user {} and mode 700", process::effective_user());
            let remedy = match is_ours {
                true => format!("check which other users entered it, then `chmod 700` or remove it; or {elsewhere}"),
                false => format!("have root or that user remove it, or {elsewhere}"),
            };
            return Err(Error::new(ErrorKind::Permission, action, found, expected, remedy));
        }
        Ok(())
    }

    fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }

    /// How to use another directory.
    fn elsewhere(&self) -> String {
        match process::has_untrusted_environment() {
            true => "have the program name another directory".to_string(),
            false if self.is_default() => {
                format!("name a directory of your own in {DIRECTORY_ENV}, for all programs that are to meet")
            }
            false => "name another directory".to_string(),
        }
    }
}

/// Whether a region can have this name.
pub(crate) fn is_valid_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX
        && !name.starts_with('.')
        && !name.chars().any(|c| c == '/' || c.is_control())
}

/// How long a removal waits for another one in the same directory. Each takes microseconds.
const REMOVAL_TIMEOUT: Duration = Duration::from_millis(500);

/// A lock on a directory, until dropped. Linux cannot compare and remove in one call. So removals
/// in a directory take turns: a name is not removed by another process between the check and the
/// removal, and a name that exists is never given to another file.
pub(crate) struct DirectoryLock(Option<ForkGuardedFd>);

impl DirectoryLock {
    /// Locks the directory of a name.
    pub(crate) fn acquire(path: &Path, action: &str) -> Result<Self> {
        let failed = |error| Error::io(action, error, "check the directory's permissions");
        let started = Instant::now();
        let directory = match ForkGuardedFd::new(|| file::open_directory(path.parent().unwrap_or(Path::new("/")))) {
            // A directory that can be written but not read, or no descriptor left: there is nothing
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
            && !file::try_lock_whole(directory).unwrap_or(true)
        {
            if started.elapsed() >= REMOVAL_TIMEOUT {
                return Err(Error::new(
                    ErrorKind::Busy,
                    action,
                    format_args!(
                        "another process in the middle of making or removing a name there for {REMOVAL_TIMEOUT:?}"
                    ),
                    "microseconds",
                    "find and continue, or kill, the stopped one that has the directory open and locked (`lsof`)",
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(Self(directory))
    }
}

impl Drop for DirectoryLock {
    /// Not left to the closing: a child made by a raw `clone` may have a copy of the descriptor.
    fn drop(&mut self) {
        if let Some(directory) = &self.0 {
            file::unlock_whole(directory);
        }
    }
}

/// Removes a name if it still leads to that file. Returns whether it did.
///
/// The caller keeps the file open, so that its number cannot come to mean another.
pub(crate) fn unlink(path: &Path, id: FileId) -> Result<bool> {
    let action = format!("remove the name {}", path.display());
    let failed = |error| Error::io(&action, error, "check the directory's permissions");
    let _lock = DirectoryLock::acquire(path, &action)?;
    let is_it = file::metadata_at(path).is_ok_and(|metadata| metadata.id == id);
    let removed = if is_it { std::fs::remove_file(path).map_err(failed) } else { Ok(()) };
    removed.map(|()| is_it)
}
