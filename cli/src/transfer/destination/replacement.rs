//! A new file that replaces the named one when the transfer is complete.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, fstat, renameat, unlinkat};
use rustix::io::Errno;

use super::path::DirEntry;
use super::{Target, attributes, part_file};
use crate::failure::{Failure, print_message};

pub struct Replacement {
    entry: DirEntry,
    file: File,
    /// Keep the new file even if the transfer does not complete. Messages taken out of a queue are
    /// nowhere else.
    keeps_partial: bool,
    /// The new file's name until `finish`. `None` if it has none.
    name: Option<OsString>,
}

impl Replacement {
    /// Creates the new file, once it is clear that it can replace the old one. `path` is what the
    /// user named.
    pub(super) fn new(entry: DirEntry, path: &Path, target: &Target) -> Result<Self, Failure> {
        let failure = |error: Errno| Failure::io(format_args!("write {}", path.display()), &error.into());
        let refused = |reason: &str| {
            let path = path.display();
            Failure::Error(format!("cannot replace {path}: {reason}; write into it with --in-place"))
        };
        if entry.metadata.is_some() {
            entry.check_access().map_err(failure)?;
        }
        entry.check_replaceable().map_err(|reason| refused(&reason))?;
        // The old file may be private. Until the new one has its mode, nobody else may read it.
        let mode = Mode::from_raw_mode(if entry.metadata.is_some() { 0o600 } else { 0o666 });
        let created = if target.keeps_partial {
            part_file::create_visible(&entry.directory, &entry.base, mode).map(|(file, name)| (file, Some(name)))
        } else {
            part_file::create(&entry.directory, mode)
        };
        let (file, name) = created.map_err(|error| {
            let path = path.display();
            Failure::io(format_args!("make a file beside {path}"), &error.into())
        })?;
        let replacement = Self { entry, file, keeps_partial: target.keeps_partial, name };
        let lost = replacement.copy_attributes().map_err(|reason| refused(&reason))?;
        if !lost.is_empty() && !target.quiet {
            let path = path.display();
            print_message(format_args!("note: {path} loses the extended attributes {}", lost.join(", ")));
        }
        Ok(replacement)
    }

    /// Makes the new file like the old one, if there is one. Returns the names of the attributes
    /// that cannot be copied.
    fn copy_attributes(&self) -> Result<Vec<String>, String> {
        let Some(metadata) = &self.entry.metadata else { return Ok(Vec::new()) };
        attributes::copy(&self.entry.path, metadata, &self.file)
    }

    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Replaces the named file. If that fails, the data is kept under another name, which the error
    /// contains.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Err(reason) = self.replace() else { return Ok(()) };
        let kept = match self.ensure_name() {
            Ok(name) => format!("what came is in {}", self.entry.path.with_file_name(name).display()),
            Err(_) => "what came is lost".to_string(),
        };
        self.name = None; // so that `drop` keeps the file
        Err(Failure::Error(format!("cannot replace {}: {reason}; {kept}", self.entry.path.display())))
    }

    fn replace(&mut self) -> Result<(), String> {
        let base = self.entry.base.clone();
        loop {
            self.entry.refresh().map_err(|error| error.to_string())?;
            match self.entry.file_type() {
                Some(file_type) if file_type != FileType::RegularFile => {
                    return Err("it is no file any more".to_string());
                }
                // Checked and copied before, but it may be another file now, or have changed.
                Some(_) => {
                    self.entry.check_access().map_err(|error| error.to_string())?;
                    self.copy_attributes()?;
                }
                None if self.name.is_none() => match part_file::link(&self.file, &self.entry.directory, &base) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => continue, // created since `refresh`
                    Err(error) => return Err(error.to_string()),
                },
                None => {}
            }
            let name = self.ensure_name().map_err(|error| error.to_string())?;
            let directory = &self.entry.directory;
            renameat(directory, name.as_os_str(), directory, base.as_slice()).map_err(|error| error.to_string())?;
            self.name = None;
            return Ok(());
        }
    }

    /// Returns the new file's name, after giving it one if it has none.
    fn ensure_name(&mut self) -> Result<OsString, Errno> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let name = part_file::link_hidden(&self.file, &self.entry.directory)?;
        self.name = Some(name.clone());
        Ok(name)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            if self.keeps_partial && fstat(&self.file).is_ok_and(|metadata| metadata.st_size > 0) {
                let path = self.entry.path.with_file_name(name);
                print_message(format_args!("what came until then is in {}", path.display()));
                return;
            }
            let _ = unlinkat(&self.entry.directory, name.as_os_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use tempfile::TempDir;

    use super::super::path::{Resolved, resolve};
    use super::*;

    /// What `new` makes on a file system without unnamed files, with some data.
    fn named_replacement(path: &Path) -> Replacement {
        let Ok(Resolved::Entry(entry)) = resolve(path) else { panic!("not a name in a directory") };
        let (mut file, name) = part_file::create_named(&entry.directory, Mode::from_raw_mode(0o600)).unwrap();
        file.write_all(b"new").unwrap();
        assert!(path.with_file_name(&name).exists());
        Replacement { entry, file, keeps_partial: false, name: Some(name) }
    }

    fn count(directory: &TempDir) -> usize {
        fs::read_dir(directory.path()).unwrap().count()
    }

    #[test]
    fn named_replacement_dropped_leaves_nothing() {
        let directory = TempDir::new().unwrap();
        drop(named_replacement(&directory.path().join("copy")));
        assert_eq!(count(&directory), 0);
    }

    #[test]
    fn named_replacement_finished_replaces_file_and_keeps_its_mode() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("copy");
        named_replacement(&path).finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o604)).unwrap();
        named_replacement(&path).finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o604);
        assert_eq!(count(&directory), 1);
    }

    #[test]
    fn queue_replacement_dropped_stays_unless_empty() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("copy");
        let mut replacement = named_replacement(&path);
        replacement.keeps_partial = true;
        drop(replacement);
        assert_eq!(count(&directory), 1);
        let mut replacement = named_replacement(&path);
        replacement.keeps_partial = true;
        replacement.file.set_len(0).unwrap();
        drop(replacement);
        assert_eq!(count(&directory), 1);
    }

    #[test]
    fn named_replacement_that_cannot_replace_keeps_its_data() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("copy");
        let replacement = named_replacement(&path);
        let name = replacement.name.clone().unwrap();
        fs::create_dir(&path).unwrap();
        replacement.finish().unwrap_err();
        assert_eq!(fs::read(path.with_file_name(name)).unwrap(), b"new");
    }
}
