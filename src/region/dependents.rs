//! Regions that depend on another one, the owner: the objects that a namespace got after it was
//! made.
//!
//! They are in a directory beside the owner's name, `.NAME.IDENTITY`, so that `Directory::names`
//! does not list it. The identity is random. If the owner's name is removed, no region of that name
//! ever finds the directory again.
//!
//! Edges: the kernel's. It serialises link(2) and the reading of a directory. So a creator that
//! links after the directory was read sees the owner retired, which was before that. All states:
//! loom-tests/tests/namespace.rs.
//!
//! Crash, by step
//! - make: (dependents-make-1) the owner's identity, (dependents-make-2) the directory,
//!   (dependents-make-3) its permissions. Each is done again by the next process that makes one.
//! - create: (dependents-create-1) a complete region gets its name there, by link(2),
//!   (dependents-create-2) the owner is checked: if it is retired, everything is removed. Death
//!   before the first leaves nothing new. Death before the second leaves a dependent of an owner
//!   that is there. If the owner is removed by force meanwhile, death after dependents-make-2 and
//!   before the second leaves an orphan: a directory whose owner is gone. The next namespace of
//!   that name and `tombolo doctor` remove orphans.
//! - remove: after leave-4 of lifecycle.rs, (dependents-remove-1) each name, (dependents-remove-2)
//!   the directory, then leave-5. The owner's name is the last that goes, and the next process that
//!   opens it goes on with the removal.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::region::directory::Directory;
use crate::region::layout::header;
use crate::region::settings::Settings;
use crate::region::unreadable::Unreadable;
use crate::region::{NamedPath, Region, file};
use crate::sys;
use crate::sys::fork::ForkGuardedFd;
use crate::sys::process;

impl Region {
    /// The directory of its dependents. None: it has no name, or never had dependents.
    pub(crate) fn dependents(&self) -> Option<Directory> {
        let identity = self.identity();
        let NamedPath { name, path } = self.path().filter(|_| identity != 0 && !self.is_nested())?;
        Some(Directory::of_dependents(path.with_file_name(directory_name(name, identity))))
    }

    /// Makes that directory if it is missing. All users that can open the region can use it.
    pub(crate) fn make_dependents(&self) -> Result<Directory> {
        let action = format!("make a directory for what belongs to {}", self.display_name());
        let failed = |error| Error::io(&action, error, "check the directory's permissions");
        let Some(NamedPath { name, path: owner }) = self.path() else {
            let remedy = "give it a name, or plan everything that is to be in it";
            return Err(Error::new(ErrorKind::InvalidOptions, action, "no name", "a name", remedy));
        };
        if !self.is_active() {
            return Err(Error::name_removed(action));
        }
        self.set_identity()?; // dependents-make-1
        let path = owner.with_file_name(directory_name(name, self.identity()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => drop(remove_orphans(owner.parent().unwrap_or(Path::new("/")), Some(name))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(error)), // dependents-make-2
        }
        let owner = sys::file::metadata(self.file()).map_err(failed)?;
        let found = fs::symlink_metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
        let wanted = owner.mode | 0o700 | (owner.mode & 0o444) >> 2;
        if found != wanted && owner.owner == process::effective_user() {
            fs::set_permissions(&path, Permissions::from_mode(wanted)).map_err(failed)?; // dependents-make-3
        }
        Ok(Directory::of_dependents(path))
    }

    /// Removes what depends on a region that is retired. An attempt: what stays is an orphan when
    /// the region has lost its name.
    pub(crate) fn remove_dependents(&self) {
        if let Some(directory) = self.dependents() {
            remove_all(directory.path(), MAX_NESTING);
        }
    }
}

/// Removes what is left of owners that are gone, in a directory of names: of all, or of those of
/// one name. Returns how many of them have nothing left now.
pub(crate) fn remove_orphans(directory: &Path, name: Option<&str>) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let Some((owner, identity)) = entry.to_str().and_then(parse_directory_name) else { continue };
        // An owner had its name before it had the directory. So if that name leads to it no more,
        // it never will again.
        let is_orphan = || identity_of(&directory.join(owner)).is_some_and(|found| found != identity);
        if name.is_none_or(|name| name == owner) && is_orphan() {
            removed += usize::from(remove_all(&directory.join(&entry), MAX_NESTING));
        }
    }
    Ok(removed)
}

/// The identity of the region of that name. 0: there is none. None: that cannot be told.
fn identity_of(path: &Path) -> Option<u64> {
    let file = match ForkGuardedFd::new(|| sys::file::open_read_only(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some(0),
        opened => opened.ok()?,
    };
    let words = file::read_header(&file).ok()?;
    let is_known = words[header::MAGIC] == header::MAGIC_NUMBER && words[header::VERSION] == header::LAYOUT_VERSION;
    is_known.then_some(words[header::IDENTITY])
}

/// How deep directories of dependents of dependents are removed. There are seldom any. Each level
/// takes a descriptor and stack while it is removed.
const MAX_NESTING: u32 = 8;

/// Returns whether nothing is left. What stays is in a directory that another program made there,
/// or deeper than `nesting` directories of dependents of dependents.
fn remove_all(path: &Path, nesting: u32) -> bool {
    // Held, and not looked up again: in a directory that several users share, another one could put
    // a link to a directory of this user in its place.
    let Ok(held) = ForkGuardedFd::new(|| sys::file::pin(path)) else { return false };
    let Ok(directory) = sys::file::descriptor_path(&held) else { return false };
    let settings = Settings { directory: Directory::at(directory), allow_other_owner: true, ..Settings::default() };
    // Files of any name: others can have put them there.
    for entry in fs::read_dir(settings.directory.path()).into_iter().flatten().flatten() {
        let (file, name) = (entry.path(), entry.file_name());
        let name = name.to_str().unwrap_or_default();
        // dependents-remove-1. A process that is about to join must see that it is removed.
        if Unreadable::open(name, &settings).and_then(|region| region.remove()).is_ok() {
            continue;
        }
        // Of an object that was opened as a namespace, and got objects.
        if nesting > 0 && parse_directory_name(name).is_some() {
            remove_all(&file, nesting - 1);
        }
        let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir(&file));
    }
    fs::remove_dir(path).is_ok() // dependents-remove-2
}

fn directory_name(owner: &str, identity: u64) -> PathBuf {
    PathBuf::from(format!(".{owner}.{identity:016x}"))
}

fn parse_directory_name(name: &str) -> Option<(&str, u64)> {
    let (owner, identity) = name.strip_prefix('.')?.rsplit_once('.')?;
    let identity = Some(identity).filter(|identity| identity.len() == 16)?;
    Some((owner, u64::from_str_radix(identity, 16).ok()?))
}
