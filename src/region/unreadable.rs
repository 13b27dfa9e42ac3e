//! A file under a region's name that this version of the library cannot read: it has another layout
//! version, or is cut or damaged. Whether a process uses it does not depend on its layout. Every
//! version holds locks on bytes of a file that it uses, and locks the same byte to join, leave and
//! remove.

use std::io;
use std::thread;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::WORD;
use crate::region::directory::unlink;
use crate::region::layout::header;
use crate::region::participant::{MEMBERSHIP_LOCK, MEMBERSHIP_TIMEOUT};
use crate::region::settings::Settings;
use crate::region::{NamedPath, file};
use crate::sys::file::FileId;
use crate::sys::fork::ForkGuardedFd;
use crate::sys::{self, file_lock};

/// Whether an error of opening a region is about what is in the file.
pub(crate) fn is_about_content(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WrongVersion | ErrorKind::NotARegion | ErrorKind::Corrupt)
}

/// Such a file.
pub(crate) struct Unreadable {
    file: ForkGuardedFd,
    path: NamedPath,
}

impl Unreadable {
    /// Opens what has this name now.
    pub(crate) fn open(name: &str, settings: &Settings) -> Result<Self> {
        let (file, path) = file::open(name, settings)?;
        Ok(Self { file, path })
    }

    /// Whether it begins as every region does. Other files are not ours to remove.
    pub(crate) fn is_a_region(&self) -> bool {
        sys::file::metadata(&self.file).is_ok_and(|metadata| metadata.is_regular)
            && self.word(header::MAGIC) == Some(header::MAGIC_NUMBER)
    }

    pub(crate) fn id(&self) -> Option<FileId> {
        Some(sys::file::metadata(&self.file).ok()?.id)
    }

    /// None: the file is shorter.
    fn word(&self, index: usize) -> Option<u64> {
        let mut word = 0_u64;
        sys::file::read_exact_at(&self.file, bytemuck::bytes_of_mut(&mut word), (index * WORD) as u64).ok()?;
        Some(word)
    }

    fn failed(&self, error: io::Error) -> Error {
        let action = format!("remove the region {:?} ({})", self.path.name, self.path.path.display());
        Error::io(action, error, "use a file system with open-file-description locks (tmpfs, ext4, xfs, btrfs)")
    }

    /// Removes the name if no process uses the region and it was not to stay. Returns whether the
    /// name leads to another file, or to none, by now.
    ///
    /// A participant that has lost its lock cannot be distinguished from a dead one here: the
    /// record that names it cannot be read.
    pub(crate) fn remove_if_stale(&self) -> Result<bool> {
        if !self.is_a_region() || self.word(header::PERSISTENT).is_some_and(|word| word != 0) {
            return Ok(false);
        }
        let started = Instant::now();
        while !file_lock::try_lock(&self.file, MEMBERSHIP_LOCK).map_err(|error| self.failed(error))? {
            if started.elapsed() >= MEMBERSHIP_TIMEOUT {
                return Ok(false); // in use, by a stopped process
            }
            thread::sleep(std::time::Duration::from_micros(200));
        }
        // Dropped with the file: nobody joins until the name is gone.
        if file_lock::is_locked_elsewhere_in(&self.file, 0, 0).map_err(|error| self.failed(error))? {
            return Ok(false);
        }
        self.remove()
    }

    /// Removes the name even if the region is in use, if it still leads to this file.
    pub(crate) fn remove(&self) -> Result<bool> {
        if self.is_a_region() && self.word(header::REGION_STATE).is_some() {
            // A process that is about to join has opened the file already: it looks the name up
            // again.
            let at = (header::REGION_STATE * WORD) as u64;
            sys::file::write_word_at(&self.file, header::RETIRED, at).map_err(|error| self.failed(error))?;
        }
        let id = sys::file::metadata(&self.file).map_err(|error| self.failed(error))?.id;
        unlink(&self.path.path, id)?;
        Ok(true)
    }
}
