//! New files that get their final name later.
//!
//! A new file has no name where the file system supports that (`O_TMPFILE`): then not even SIGKILL
//! leaves anything behind.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, fstat, linkat, openat, statat};
use rustix::io::Errno;

const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CLOEXEC).union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW);

/// Creates a file in this directory, without a name if that is possible.
pub fn create(directory: &OwnedFd, mode: Mode) -> Result<(File, Option<OsString>), Errno> {
    match openat(directory, ".", OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE, mode) {
        Ok(file) if is_linkable(&file) => Ok((File::from(file), None)),
        // The file system has no unnamed files, or there is no /proc to name them later.
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            create_named(directory, mode).map(|(file, name)| (file, Some(name)))
        }
        Err(error) => Err(error),
    }
}

/// Creates a file beside `base`, with a name that users recognise.
pub fn create_visible(directory: &OwnedFd, base: &[u8], mode: Mode) -> Result<(File, OsString), Errno> {
    let name = [base, format!(".part-{}", process::id()).as_bytes()].concat();
    match openat(directory, name.as_slice(), NEW, mode) {
        Ok(file) => Ok((File::from(file), OsString::from_vec(name))),
        // Left by an earlier process with the same process id, or the name is too long.
        Err(Errno::EXIST | Errno::NAMETOOLONG) => create_named(directory, mode),
        Err(error) => Err(error),
    }
}

/// Creates a file with a new, hidden name.
pub fn create_named(directory: &OwnedFd, mode: Mode) -> Result<(File, OsString), Errno> {
    let (file, name) = with_new_name(|name| openat(directory, name, NEW, mode))?;
    Ok((File::from(file), name))
}

/// Gives an unnamed file a new, hidden name.
pub fn link_hidden(file: &impl AsFd, directory: &OwnedFd) -> Result<OsString, Errno> {
    with_new_name(|name| link(file, directory, name)).map(|((), name)| name)
}

/// Gives an unnamed file this name. Goes through /proc, because the direct way needs a privilege.
pub fn link(file: &impl AsFd, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    linkat(CWD, self_path(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

fn with_new_name<T>(try_name: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, OsString), Errno> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!(".tombolo-{}-{:x}", process::id(), now);
        match try_name(name.as_bytes()) {
            Err(Errno::EXIST) => {}
            result => return result.map(|result| (result, name.into())),
        }
    }
}

/// Whether `link` can find the file.
fn is_linkable(file: &OwnedFd) -> bool {
    let is_same = fstat(file).and_then(|ours| {
        let found = statat(CWD, self_path(file), AtFlags::empty())?;
        Ok((ours.st_dev, ours.st_ino) == (found.st_dev, found.st_ino))
    });
    is_same.unwrap_or(false)
}

fn self_path(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}
