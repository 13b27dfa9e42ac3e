//! Anonymous files that processes have open, found through /proc.
//!
//! Another process chooses what its descriptors are, and may exchange them at any moment. Opening a
//! FIFO or a device has effects, and a file system in user space may never answer. So nothing is
//! opened, and no file system is asked, before the kernel says that the file is on the device of
//! anonymous files.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::CWD;

use super::file::{self, FileId};
use super::process::is_out_of_resources;

/// What /proc shows of a file that [`file::create_anonymous`] made.
const LINK: &str = "/memfd:tombolo (deleted)";

/// A descriptor of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessFd {
    /// The process, by its number in /proc.
    pub pid: u64,
    /// The number of the descriptor in that process.
    pub fd: RawFd,
}

impl ProcessFd {
    fn path(self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/fd/{}", self.pid, self.fd))
    }
}

/// Returns the files that may have been made by [`file::create_anonymous`], and the descriptors by
/// which processes have them open, as far as this process may see those.
pub(crate) fn find() -> io::Result<BTreeMap<FileId, Vec<ProcessFd>>> {
    let made = |huge| Ok::<_, io::Error>(file::metadata(file::create_anonymous(huge)?)?.id);
    // There may be no huge pages.
    let known: Vec<FileId> = std::iter::once(made(false)?).chain(made(true)).collect();
    let mut found = BTreeMap::<FileId, Vec<ProcessFd>>::new();
    for process in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = number(&process) else { continue };
        let descriptors = match fs::read_dir(process.path().join("fd")) {
            Ok(descriptors) => descriptors,
            Err(error) if is_out_of_resources(&error) => return Err(error),
            Err(_) => continue, // it is gone, or another user's
        };
        for fd in descriptors.flatten().filter_map(|entry| number(&entry)) {
            let fd = ProcessFd { pid, fd };
            if fs::read_link(fd.path()).is_ok_and(|link| link == Path::new(LINK))
                && let Ok(id) = file::cached_id(CWD, &fd.path())
                && known.iter().any(|known| known.is_on_same_device(id))
            {
                found.entry(id).or_default().push(fd);
            }
        }
    }
    found.values_mut().for_each(|descriptors| descriptors.sort());
    Ok(found)
}

/// The number that an entry of /proc has for its name.
fn number<T: std::str::FromStr>(entry: &DirEntry) -> Option<T> {
    entry.file_name().to_str()?.parse().ok()
}

/// Opens a file that [`find`] has found, if the descriptor still means it: another description,
/// with locks and an offset of its own.
pub(crate) fn open(fd: ProcessFd, id: FileId) -> io::Result<OwnedFd> {
    let pinned = file::pin_target(&fd.path())?;
    if file::cached_id(&pinned, Path::new(""))? != id {
        return Err(io::ErrorKind::NotFound.into());
    }
    file::open_pinned(&pinned)
}
