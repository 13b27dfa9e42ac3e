//! A file under a region's name that this version of the library cannot read: of another layout version, cut or
//! damaged. Whether anybody uses it does not depend on its layout: every version holds locks on bytes of the file
//! while it uses one, and enters the same section to join, leave and remove.

use std::io;
use std::thread;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::primitive::WORD;
use crate::region::layout::{MAGIC, RETIRED, header};
use crate::region::participant::{ADMISSION, PATIENCE};
use crate::region::{NamedPath, Settings, open_file, unlink};
use crate::sys::fork::ForkGuardedFd;
use crate::sys::memory::FileId;
use crate::sys::{file_lock, memory};

/// Whether an error of opening a region is about what is in the file.
pub(crate) fn is_about_content(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::WrongVersion | ErrorKind::NotARegion | ErrorKind::Corrupt)
}

/// Such a file.
pub(crate) struct Unreadable {
    file: ForkGuardedFd,
    place: NamedPath,
}

impl Unreadable {
    /// Opens what has this name now.
    pub(crate) fn open(name: &str, settings: &Settings) -> Result<Self> {
        let (file, place) = open_file(name, settings)?;
        Ok(Self { file, place })
    }

    /// Whether it begins as every region does. What does not is not ours to remove.
    pub(crate) fn is_a_region(&self) -> bool {
        memory::facts(&self.file).is_ok_and(|facts| facts.is_regular) && self.word(header::MAGIC) == Some(MAGIC)
    }

    pub(crate) fn id(&self) -> Option<FileId> {
        Some(memory::facts(&self.file).ok()?.id)
    }

    /// None: the file is shorter.
    fn word(&self, index: usize) -> Option<u64> {
        let mut word = 0_u64;
        memory::read_exact_at(&self.file, bytemuck::bytes_of_mut(&mut word), (index * WORD) as u64).ok()?;
        Some(word)
    }

    fn failed(&self, error: io::Error) -> Error {
        let doing = format_args!("remove the region {:?} ({})", self.place.name, self.place.path.display());
        Error::io(doing, error, "use a file system with open-file-description locks (tmpfs, ext4, xfs, btrfs)")
    }

    /// Removes the name if nobody uses the region and it was not to stay. Returns whether the name means another file,
    /// or none, by now.
    ///
    /// A participant that has lost its lock cannot be told from a dead one here: the record that names it is not read.
    pub(crate) fn remove_if_abandoned(&self) -> Result<bool> {
        if !self.is_a_region() || self.word(header::PERSISTENT).is_some_and(|word| word != 0) {
            return Ok(false);
        }
        let started = Instant::now();
        while !file_lock::try_lock(&self.file, ADMISSION).map_err(|error| self.failed(error))? {
            if started.elapsed() >= PATIENCE {
                return Ok(false); // somebody is in there, if stopped
            }
            thread::sleep(std::time::Duration::from_micros(200));
        }
        // Dropped with the file: nobody joins until the name is gone.
        if file_lock::is_locked_elsewhere_in(&self.file, 0, 0).map_err(|error| self.failed(error))? {
            return Ok(false);
        }
        self.remove()
    }

    /// Removes the name whoever uses the region, if it still means this file.
    pub(crate) fn remove(&self) -> Result<bool> {
        if self.is_a_region() && self.word(header::LIFE).is_some() {
            // One that is about to join has opened the file before: it looks the name up again.
            let at = (header::LIFE * WORD) as u64;
            memory::write_word_at(&self.file, RETIRED, at).map_err(|error| self.failed(error))?;
        }
        let id = memory::facts(&self.file).map_err(|error| self.failed(error))?.id;
        unlink(&self.place.path, id)?;
        Ok(true)
    }
}
