//! Where `recv` writes.
//!
//! A file that the user named is replaced when the transfer is complete: the data goes into a new
//! file in the same directory, which is then renamed. A device, a FIFO or an open descriptor is
//! written as the data comes.

mod attributes;
mod part_file;
pub mod path;
pub mod replacement;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::fs::FileType;

use crate::failure::Failure;
use crate::streams;
use path::{DirEntry, Resolved, duplicate_descriptor, resolve};
use replacement::Replacement;

/// What the user wants to be written, and how.
pub struct Target {
    /// `None` is standard output.
    pub file: Option<PathBuf>,
    pub in_place: bool,
    /// There is no end at which the file could be replaced.
    pub has_no_end: bool,
    /// Keep the new file even if the transfer does not complete.
    pub keeps_partial: bool,
    pub quiet: bool,
}

pub enum Destination {
    /// Write to this file as the data comes.
    Direct(File),
    /// The same, after creating or emptying the file.
    InPlace(DirEntry),
    Replaced(Replacement),
}

impl Destination {
    /// Finds out where to write and whether that is possible.
    ///
    /// Changes nothing that others can see. On a file system without unnamed files, a temporary
    /// file appears.
    pub fn find(target: &Target) -> Result<Self, Failure> {
        let Some(path) = target.file.as_deref() else { return streams::output().map(Self::Direct) };
        let failure = |error: &io::Error| Failure::io(format_args!("write {}", path.display()), error);
        let resolved =
            resolve(path).map_err(|error| Failure::io(format_args!("create {}", path.display()), &error.into()))?;
        let entry = match resolved {
            Resolved::Descriptor(number) => {
                streams::check(number)?;
                let file = duplicate_descriptor(number, path).map_err(|error| failure(&error.into()))?;
                streams::check_writable(file.as_fd(), &path.display().to_string())?;
                return Ok(Self::Direct(file));
            }
            // Append: if it leads to a regular file, that file belongs to somebody else.
            Resolved::ProcLink => {
                let opened = File::options().append(true).open(path);
                return opened.map(Self::Direct).map_err(|error| failure(&error));
            }
            Resolved::Entry(entry) => entry,
        };
        let destination = match entry.file_type() {
            Some(FileType::Directory) => {
                return Err(Failure::Error(format!("cannot write {}: it is a directory", path.display())));
            }
            Some(file_type) if file_type != FileType::RegularFile => entry.open().map(Self::Direct),
            _ if target.in_place => entry.check_access().map(|()| Self::InPlace(entry)),
            _ if target.has_no_end => {
                let path = path.display();
                return Err(Failure::Usage(format!(
                    "cannot replace {path} at the end: with --follow there is none; write into it with --in-place"
                )));
            }
            _ => return Replacement::new(entry, path, target).map(Self::Replaced),
        };
        destination.map_err(|error| failure(&error.into()))
    }

    /// Opens the file. After this its content may change, so call it only after joining.
    pub fn open(self) -> Result<Output, Failure> {
        Ok(match self {
            Self::Direct(file) => Output { file, replacement: None },
            Self::InPlace(entry) => {
                let emptied = entry.open().map_err(io::Error::from).and_then(|file| {
                    file.set_len(0)?;
                    Ok(file)
                });
                let file =
                    emptied.map_err(|error| Failure::io(format_args!("write {}", entry.path.display()), &error))?;
                Output { file, replacement: None }
            }
            Self::Replaced(replacement) => {
                let file = replacement.file().map_err(|error| Failure::io("write the output", &error))?;
                Output { file, replacement: Some(replacement) }
            }
        })
    }
}

/// The file to write, and what has to be finished after that. Dropping an unfinished replacement
/// removes it.
pub struct Output {
    pub file: File,
    pub replacement: Option<Replacement>,
}
