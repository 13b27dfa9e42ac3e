//! What a path leads to: an open descriptor, or a name in a directory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, RawMode, Stat, StatxAttributes, StatxFlags,
    accessat, fstat, fstatfs, openat, readlinkat, statat, statx,
};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

use crate::failure::Failure;
use crate::streams;

/// The number of symbolic links that the kernel follows in one path.
const MAX_LINKS: usize = 40;

const STICKY: RawMode = 0o1000;
const OTHERS_WRITE: RawMode = 0o002;

pub enum Resolved {
    /// A descriptor of this process, as /dev/stdout and /dev/fd/3 are.
    Descriptor(usize),
    /// Another link in /proc. It leads to an open file, not to a name.
    ProcLink,
    Entry(DirEntry),
}

/// A name in a directory, and the file that has it.
pub struct DirEntry {
    pub(super) directory: OwnedFd,
    pub(super) base: Vec<u8>,
    /// The path after following all links.
    pub(super) path: PathBuf,
    /// `None` if there is no such file.
    pub(super) metadata: Option<Stat>,
}

/// Follows symbolic links as the kernel does, up to a name that is no link or does not exist.
pub fn resolve(path: &Path) -> Result<Resolved, Errno> {
    let mut path = path.to_path_buf();
    for _ in 0..=MAX_LINKS {
        let bytes = path.as_os_str().as_bytes();
        let cut = bytes.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
        let (parent, base) = (&bytes[..cut], &bytes[cut..]);
        match base {
            b"" if parent.is_empty() => return Err(Errno::NOENT),
            b"" | b"." | b".." => return Err(Errno::ISDIR),
            _ => {}
        }
        let parent = Path::new(OsStr::from_bytes(if parent.is_empty() { b"./" } else { parent }));
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let directory = openat(CWD, parent, flags | OFlags::DIRECTORY, Mode::empty())?;
        let found = match openat(&directory, base, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(found) => found,
            Err(Errno::NOENT) => {
                let base = base.to_vec();
                return Ok(Resolved::Entry(DirEntry { directory, base, path, metadata: None }));
            }
            Err(error) => return Err(error),
        };
        let metadata = fstat(&found)?;
        if FileType::from_raw_mode(metadata.st_mode) != FileType::Symlink {
            let base = base.to_vec();
            return Ok(Resolved::Entry(DirEntry { directory, base, path, metadata: Some(metadata) }));
        }
        if fstatfs(&found)?.f_type == PROC_SUPER_MAGIC {
            return Ok(descriptor_number(parent, base).map_or(Resolved::ProcLink, Resolved::Descriptor));
        }
        // The rule of fs.protected_symlinks. The kernel does not apply it to a link that is read.
        if is_protected(&metadata, &fstat(&directory)?) {
            return Err(Errno::ACCESS);
        }
        let link = readlinkat(&found, "", Vec::new())?;
        path = parent.join(OsStr::from_bytes(link.as_bytes()));
    }
    Err(Errno::LOOP)
}

/// Whether it is another user's file in a directory such as /tmp, where everybody can make files
/// and nobody can touch those of others. The owner of the directory may put files there for all.
fn is_protected(file: &Stat, directory: &Stat) -> bool {
    let is_shared = directory.st_mode & (STICKY | OTHERS_WRITE) == STICKY | OTHERS_WRITE;
    is_shared && file.st_uid != geteuid().as_raw() && file.st_uid != directory.st_uid
}

/// Returns the number of a descriptor, if the directory lists those of this process.
fn descriptor_number(directory: &Path, base: &[u8]) -> Option<usize> {
    let number = std::str::from_utf8(base).ok()?.parse().ok()?;
    let directory = fs::canonicalize(directory).ok()?;
    let is_same = |path| fs::canonicalize(path).is_ok_and(|ours| ours == directory);
    (is_same("/proc/self/fd") || is_same("/proc/thread-self/fd")).then_some(number)
}

/// Checks a path that `send` reads: standard input by a name such as /dev/stdin may be closed.
pub fn check_named_input(path: &Path) -> Result<(), Failure> {
    match resolve(path) {
        Ok(Resolved::Descriptor(number)) => streams::check(number),
        _ => Ok(()), // opening it reports any other problem
    }
}

/// Duplicates a descriptor of this process. Opening its path instead would write from the start of
/// a file, and fails for a socket.
pub fn duplicate_descriptor(number: usize, path: &Path) -> Result<File, Errno> {
    let stream = match number {
        0 => Some(rustix::stdio::stdin()),
        1 => Some(rustix::stdio::stdout()),
        2 => Some(rustix::stdio::stderr()),
        _ => None,
    };
    if let Some(stream) = stream {
        return stream.try_clone_to_owned().map(File::from).map_err(|_| Errno::BADF);
    }
    let number = RawFd::try_from(number).map_err(|_| Errno::BADF)?;
    let duplicate = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|process| {
        if process.as_raw_fd() == number {
            return Err(Errno::BADF); // it was not open before this call
        }
        pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    });
    match duplicate {
        // An old kernel, or a system call filter.
        Err(Errno::NOSYS | Errno::PERM) => {
            openat(CWD, path, OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .map(File::from)
        }
        duplicate => duplicate.map(File::from),
    }
}

impl DirEntry {
    pub(super) fn file_type(&self) -> Option<FileType> {
        self.metadata.map(|metadata| FileType::from_raw_mode(metadata.st_mode))
    }

    /// Reads the metadata again, since another file may have the name now.
    pub(super) fn refresh(&mut self) -> Result<(), Errno> {
        self.metadata = match statat(&self.directory, self.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(metadata) => Some(metadata),
            Err(Errno::NOENT) => None,
            Err(error) => return Err(error),
        };
        Ok(())
    }

    /// Opens the file for writing, and creates it if it is missing.
    ///
    /// Because of `CREATE` the kernel applies fs.protected_regular and fs.protected_fifos: it
    /// refuses files and FIFOs of others in a directory such as /tmp.
    pub(super) fn open(&self) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.directory, self.base.as_slice(), flags, Mode::from_raw_mode(0o666)).map(File::from)
    }

    /// Returns the error that `open` would return.
    pub(super) fn check_access(&self) -> Result<(), Errno> {
        let Some(metadata) = &self.metadata else {
            return accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        };
        if is_protected(metadata, &fstat(&self.directory)?) {
            return Err(Errno::ACCESS); // as with fs.protected_regular
        }
        accessat(&self.directory, self.base.as_slice(), Access::WRITE_OK, AtFlags::EACCESS)
    }

    /// Returns the reason if a rename cannot replace this file.
    ///
    /// Only the rename itself gives certainty, but that comes after the whole transfer.
    pub(super) fn check_replaceable(&self) -> Result<(), String> {
        let Some(metadata) = &self.metadata else { return Ok(()) };
        let base = self.base.as_slice();
        if let Ok(extended) = statx(&self.directory, base, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            let has = |attribute| extended.stx_attributes.contains(attribute);
            if has(StatxAttributes::MOUNT_ROOT) {
                return Err("something is mounted there".to_string());
            }
            if has(StatxAttributes::IMMUTABLE) || has(StatxAttributes::APPEND) {
                return Err("it is immutable, or may only grow".to_string());
            }
        }
        let user = geteuid().as_raw();
        let directory = fstat(&self.directory).map_err(|error| error.to_string())?;
        let is_sticky = directory.st_mode & STICKY != 0;
        let is_privileged = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER));
        if is_sticky && metadata.st_uid != user && directory.st_uid != user && !is_privileged() {
            return Err("it belongs to another user, and its directory is sticky".to_string());
        }
        Ok(())
    }
}
