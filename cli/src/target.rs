//! Where `recv` writes.
//!
//! A file that the user named is replaced when the transfer has come to its end: the data goes into
//! a new file in the same directory, which is renamed then. A device, a FIFO or an open descriptor
//! is written as the data comes.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Gid, Mode, OFlags, PROC_SUPER_MAGIC, RawMode, Stat, StatxAttributes, StatxFlags,
    Uid, XattrFlags, accessat, fchown, fgetxattr, fremovexattr, fsetxattr, fstat, fstatfs, lgetxattr, linkat,
    llistxattr, openat, readlinkat, renameat, statat, statx, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{CapabilitySet, capabilities};

use crate::args::{Recv, Transfer};
use crate::failure::{Failure, say};
use crate::rendezvous::named_file;
use crate::streams;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// The longest value, and the longest list of names, that extended attributes have.
const ATTRIBUTES_MAX: usize = 64 << 10;

const ACL: &str = "system.posix_acl_access";

/// Attributes that belong to a content and not to a file. A write takes them away too.
const OF_CONTENT: [&str; 3] = ["security.capability", "security.evm", "security.ima"];

const NEW: OFlags =
    OFlags::WRONLY.union(OFlags::CLOEXEC).union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW);

const STICKY: RawMode = 0o1000;
const OTHERS_WRITE: RawMode = 0o002;

pub enum Target {
    Direct(File),
    /// To be written directly, and to be made or emptied before that.
    InPlace(Place),
    Replaced(Replacement),
}

impl Target {
    /// Finds out where to write and whether that is possible. Changes nothing that others can see,
    /// except that a temporary file appears where unnamed files do not exist.
    pub fn find(recv: &Recv) -> Result<Self, Failure> {
        let transfer = &recv.transfer;
        let Some(path) = named_file(transfer) else { return streams::output().map(Self::Direct) };
        let failure = |error: &io::Error| Failure::io(format_args!("write {}", path.display()), error);
        let found = resolve(path);
        let found = found.map_err(|error| Failure::io(format_args!("create {}", path.display()), &error.into()))?;
        let place = match found {
            Found::Descriptor(number) => {
                streams::check(number)?;
                let file = own_descriptor(number, path).map_err(|error| failure(&error.into()))?;
                streams::check_writable(file.as_fd(), &path.display().to_string())?;
                return Ok(Self::Direct(file));
            }
            // Another process's, say. Behind what is there, if it is a file.
            Found::Link => {
                let opened = File::options().append(true).open(path);
                return opened.map(Self::Direct).map_err(|error| failure(&error));
            }
            Found::Place(place) => place,
        };
        let target = match place.facts {
            Some(facts) if FileType::from_raw_mode(facts.st_mode) == FileType::Directory => {
                return Err(Failure::Error(format!("cannot write {}: it is a directory", path.display())));
            }
            Some(facts) if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile => {
                place.open().map(Self::Direct).map_err(io::Error::from)
            }
            _ if recv.in_place => place.check_access().map(|()| Self::InPlace(place)).map_err(io::Error::from),
            _ => return Replacement::new(place, path, transfer).map(Self::Replaced),
        };
        target.map_err(|error| failure(&error))
    }

    /// Opens the file, once we have joined: from here on its content may change.
    pub fn open(self) -> Result<Opened, Failure> {
        Ok(match self {
            Self::Direct(file) => Opened { file, replacement: None },
            Self::InPlace(place) => {
                let emptied = place.open().map_err(io::Error::from).and_then(|file| {
                    file.set_len(0)?;
                    Ok(file)
                });
                let file =
                    emptied.map_err(|error| Failure::io(format_args!("write {}", place.path.display()), &error))?;
                Opened { file, replacement: None }
            }
            Self::Replaced(replacement) => {
                let clone = replacement.file.try_clone();
                let file = clone.map_err(|error| Failure::io("write the output", &error))?;
                Opened { file, replacement: Some(replacement) }
            }
        })
    }
}

/// What is written, and the replacement that it belongs to. A replacement that is dropped leaves
/// nothing.
pub struct Opened {
    pub file: File,
    pub replacement: Option<Replacement>,
}

enum Found {
    /// One of ours, as /dev/stdout and /dev/fd/3 are.
    Descriptor(usize),
    /// Another link of /proc, which leads to a file without naming it.
    Link,
    Place(Place),
}

/// A name in a directory, and what has that name.
pub struct Place {
    directory: OwnedFd,
    base: Vec<u8>,
    /// Where all links have been followed.
    path: PathBuf,
    facts: Option<Stat>,
}

/// Follows links as the kernel does, up to a name that is not a link or does not exist.
fn resolve(named: &Path) -> Result<Found, Errno> {
    let mut path = named.to_path_buf();
    for _ in 0..=LINKS_MAX {
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
                return Ok(Found::Place(Place { directory, base, path, facts: None }));
            }
            Err(error) => return Err(error),
        };
        let facts = fstat(&found)?;
        if FileType::from_raw_mode(facts.st_mode) != FileType::Symlink {
            let base = base.to_vec();
            return Ok(Found::Place(Place { directory, base, path, facts: Some(facts) }));
        }
        if fstatfs(&found)?.f_type == PROC_SUPER_MAGIC {
            return Ok(descriptor(parent, base).map_or(Found::Link, Found::Descriptor));
        }
        // As with fs.protected_symlinks, which the kernel cannot apply to a link that we read.
        let around = fstat(&directory)?;
        if is_everybodys(&around) && facts.st_uid != geteuid().as_raw() && facts.st_uid != around.st_uid {
            return Err(Errno::ACCESS);
        }
        let to = readlinkat(&found, "", Vec::new())?;
        path = parent.join(OsStr::from_bytes(to.as_bytes()));
    }
    Err(Errno::LOOP)
}

/// A directory such as /tmp: all may make files there, and none may touch another's.
fn is_everybodys(directory: &Stat) -> bool {
    directory.st_mode & (STICKY | OTHERS_WRITE) == STICKY | OTHERS_WRITE
}

/// The number, if the directory is that of our own descriptors.
fn descriptor(directory: &Path, base: &[u8]) -> Option<usize> {
    let number = std::str::from_utf8(base).ok()?.parse().ok()?;
    let directory = fs::canonicalize(directory).ok()?;
    let ours = |path| fs::canonicalize(path).is_ok_and(|ours| ours == directory);
    (ours("/proc/self/fd") || ours("/proc/thread-self/fd")).then_some(number)
}

/// Standard input, where `send` reads it by a name such as /dev/stdin.
pub fn check_named_input(path: &Path) -> Result<(), Failure> {
    match resolve(path) {
        Ok(Found::Descriptor(number)) => streams::check(number),
        _ => Ok(()), // whatever is wrong with it, opening says so
    }
}

/// A copy of the descriptor. Opening the path instead would write from the start of a file, and a
/// socket cannot be opened.
fn own_descriptor(number: usize, path: &Path) -> Result<File, Errno> {
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
    let copy = pidfd_open(getpid(), PidfdFlags::empty()).and_then(|process| {
        if process.as_raw_fd() == number {
            return Err(Errno::BADF); // it was not open until now
        }
        pidfd_getfd(process, number, PidfdGetfdFlags::empty())
    });
    match copy {
        // An old kernel, or a filter of system calls.
        Err(Errno::NOSYS | Errno::PERM) => {
            openat(CWD, path, OFlags::WRONLY | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .map(File::from)
        }
        copy => copy.map(File::from),
    }
}

impl Place {
    /// What has the name now.
    fn look(&self) -> Result<Option<Stat>, Errno> {
        match statat(&self.directory, self.base.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(facts) => Ok(Some(facts)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens it for writing and makes it if it is missing. `CREATE` also makes the kernel refuse
    /// files and FIFOs of others in a directory such as /tmp (fs.protected_regular,
    /// fs.protected_fifos).
    fn open(&self) -> Result<File, Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NOCTTY | OFlags::CLOEXEC;
        openat(&self.directory, self.base.as_slice(), flags, Mode::from_raw_mode(0o666)).map(File::from)
    }

    /// Makes a new file beside it, with a name that says what it is.
    fn make_part(&self, mode: Mode) -> Result<(File, OsString), Errno> {
        let name = [self.base.as_slice(), format!(".part-{}", process::id()).as_bytes()].concat();
        match openat(&self.directory, name.as_slice(), NEW, mode) {
            Ok(file) => Ok((File::from(file), OsString::from_vec(name))),
            // That of an earlier process of this number, which died; or there is no room for more of a name.
            Err(Errno::EXIST | Errno::NAMETOOLONG) => make_named(&self.directory, mode),
            Err(error) => Err(error),
        }
    }

    /// Whether `open` would succeed.
    fn check_access(&self) -> Result<(), Errno> {
        let Some(facts) = &self.facts else {
            return accessat(&self.directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS);
        };
        let around = fstat(&self.directory)?;
        if is_everybodys(&around) && facts.st_uid != geteuid().as_raw() && facts.st_uid != around.st_uid {
            return Err(Errno::ACCESS); // as with fs.protected_regular
        }
        accessat(&self.directory, self.base.as_slice(), Access::WRITE_OK, AtFlags::EACCESS)
    }

    /// Returns why a rename could not replace this file. Only the rename itself is certain, but it
    /// comes last.
    fn check_replaceable(&self) -> Result<(), String> {
        let Some(facts) = &self.facts else { return Ok(()) };
        let base = self.base.as_slice();
        if let Ok(more) = statx(&self.directory, base, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
            let has = |attribute| more.stx_attributes.contains(attribute);
            if has(StatxAttributes::MOUNT_ROOT) {
                return Err("something is mounted there".to_string());
            }
            if has(StatxAttributes::IMMUTABLE) || has(StatxAttributes::APPEND) {
                return Err("it is immutable, or may only grow".to_string());
            }
        }
        let us = geteuid().as_raw();
        let around = fstat(&self.directory).map_err(|error| error.to_string())?;
        let privileged = || capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::FOWNER));
        if around.st_mode & STICKY != 0 && facts.st_uid != us && around.st_uid != us && !privileged() {
            return Err("it belongs to another user, and its directory is sticky".to_string());
        }
        Ok(())
    }
}

/// A new file that takes the place of the named one in the end.
pub struct Replacement {
    place: Place,
    file: File,
    /// What was taken out of a queue is nowhere else: it stays if the end is not reached.
    keeps: bool,
    /// Its name until the end. None where the file system has unnamed files: then even SIGKILL
    /// leaves nothing.
    name: Option<OsString>,
}

impl Replacement {
    fn new(place: Place, named: &Path, transfer: &Transfer) -> Result<Self, Failure> {
        let failure = |error: Errno| Failure::io(format_args!("write {}", named.display()), &error.into());
        let refused = |why: &str| {
            let path = named.display();
            Failure::Error(format!("cannot replace {path}: {why}; write into it with --in-place"))
        };
        if place.facts.is_some() {
            place.check_access().map_err(failure)?;
        }
        place.check_replaceable().map_err(|why| refused(&why))?;
        // What is not for others to read now is not for others to read meanwhile.
        let mode = Mode::from_raw_mode(if place.facts.is_some() { 0o600 } else { 0o666 });
        let made = if transfer.queue {
            place.make_part(mode).map(|(file, name)| (file, Some(name)))
        } else {
            make(&place.directory, mode)
        };
        let (file, name) = made.map_err(|error| {
            let path = named.display();
            Failure::io(format_args!("make a file beside {path}"), &error.into())
        })?;
        let replacement = Self { place, file, keeps: transfer.queue, name };
        if let Some(facts) = &replacement.place.facts {
            let lost = replacement.become_like(facts).map_err(|why| refused(&why))?;
            if !lost.is_empty() && !transfer.quiet {
                let path = named.display();
                say(format_args!("note: {path} loses the extended attributes {}", lost.join(", ")));
            }
        }
        Ok(replacement)
    }

    /// Copies owner, mode, access control list and extended attributes of the named file. Returns
    /// the attributes that cannot be copied.
    fn become_like(&self, facts: &Stat) -> Result<Vec<String>, String> {
        let own = fstat(&self.file).map_err(|error| error.to_string())?;
        if (own.st_uid, own.st_gid) != (facts.st_uid, facts.st_gid) {
            let (owner, group) = (Uid::from_raw(facts.st_uid), Gid::from_raw(facts.st_gid));
            let owner = (own.st_uid != facts.st_uid).then_some(owner);
            fchown(&self.file, owner, Some(group)).map_err(|error| format!("its owner cannot be kept: {error}"))?;
        }
        let lost =
            self.take_attributes().map_err(|error| format!("its access control list cannot be kept: {error}"))?;
        // Without set-user-ID and set-group-ID, which were given to another content.
        let mode = Permissions::from_mode(facts.st_mode & 0o777);
        self.file.set_permissions(mode).map_err(|error| format!("its mode cannot be kept: {error}"))?;
        Ok(lost)
    }

    fn take_attributes(&self) -> Result<Vec<String>, Errno> {
        let path = &self.place.path;
        let mut names = vec![0; ATTRIBUTES_MAX];
        let length = llistxattr(path, names.as_mut_slice()).unwrap_or(0); // the file system may have none
        names.truncate(length);
        let (mut old, mut new) = (vec![0; ATTRIBUTES_MAX], vec![0; ATTRIBUTES_MAX]);
        let mut lost = Vec::new();
        let mut listed = false;
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            let is_acl = name == ACL.as_bytes();
            listed |= is_acl;
            if OF_CONTENT.iter().any(|skipped| name == skipped.as_bytes()) {
                continue;
            }
            let taken = lgetxattr(path, name, old.as_mut_slice()).and_then(|length| {
                let value = &old[..length];
                match fgetxattr(&self.file, name, new.as_mut_slice()) {
                    Ok(length) if new[..length] == *value => Ok(()),
                    _ => fsetxattr(&self.file, name, value, XattrFlags::empty()),
                }
            });
            match taken {
                Err(error) if is_acl => return Err(error),
                Err(_) => lost.push(String::from_utf8_lossy(name).into_owned()),
                Ok(()) => {}
            }
        }
        if !listed {
            // The new file may have one from its directory.
            match fremovexattr(&self.file, ACL) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(lost)
    }

    /// For a sync before `finish`.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Replaces the named file. If that fails, the data stays under another name, which is part of
    /// the error.
    pub fn finish(mut self) -> Result<(), Failure> {
        let Err(why) = self.take_place() else { return Ok(()) };
        let kept = match self.give_name() {
            Ok(name) => format!("what came is in {}", self.place.path.with_file_name(name).display()),
            Err(_) => "what came is lost".to_string(),
        };
        self.name = None; // so it stays
        Err(Failure::Error(format!("cannot replace {}: {why}; {kept}", self.place.path.display())))
    }

    fn take_place(&mut self) -> Result<(), String> {
        let base = self.place.base.clone();
        loop {
            self.place.facts = self.place.look().map_err(|error| error.to_string())?;
            match self.place.facts {
                Some(facts) if FileType::from_raw_mode(facts.st_mode) != FileType::RegularFile => {
                    return Err("it is no file any more".to_string());
                }
                // Again, for it may be another file, or have changed.
                Some(facts) => {
                    self.place.check_access().map_err(|error| error.to_string())?;
                    self.become_like(&facts)?;
                }
                None if self.name.is_none() => match link(&self.file, &self.place.directory, &base) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => continue, // somebody made it just now
                    Err(error) => return Err(error.to_string()),
                },
                None => {}
            }
            let name = self.give_name().map_err(|error| error.to_string())?;
            let directory = &self.place.directory;
            renameat(directory, name.as_os_str(), directory, base.as_slice()).map_err(|error| error.to_string())?;
            self.name = None;
            return Ok(());
        }
    }

    /// Returns its name until the end; gives it one if it has none.
    fn give_name(&mut self) -> Result<OsString, Errno> {
        if let Some(name) = &self.name {
            return Ok(name.clone());
        }
        let name = with_new_name(|name| link(&self.file, &self.place.directory, name))?.1;
        self.name = Some(name.clone());
        Ok(name)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            if self.keeps && fstat(&self.file).is_ok_and(|facts| facts.st_size > 0) {
                say(format_args!("what came until then is in {}", self.place.path.with_file_name(name).display()));
                return;
            }
            let _ = unlinkat(&self.place.directory, name.as_os_str(), AtFlags::empty());
        }
    }
}

/// Makes a new file in this directory, without a name if that is possible.
fn make(directory: &OwnedFd, mode: Mode) -> Result<(File, Option<OsString>), Errno> {
    match openat(directory, ".", OFlags::WRONLY | OFlags::CLOEXEC | OFlags::TMPFILE, mode) {
        Ok(file) if is_linkable(&file) => Ok((File::from(file), None)),
        // The file system has no unnamed files, or /proc is not there to name one.
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            make_named(directory, mode).map(|(file, name)| (file, Some(name)))
        }
        Err(error) => Err(error),
    }
}

fn make_named(directory: &OwnedFd, mode: Mode) -> Result<(File, OsString), Errno> {
    let (file, name) = with_new_name(|name| openat(directory, name, NEW, mode))?;
    Ok((File::from(file), name))
}

fn with_new_name<T>(take: impl Fn(&[u8]) -> Result<T, Errno>) -> Result<(T, OsString), Errno> {
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        let name = format!(".tombolo-{}-{:x}", process::id(), now);
        match take(name.as_bytes()) {
            Err(Errno::EXIST) => {}
            taken => return taken.map(|taken| (taken, name.into())),
        }
    }
}

/// Whether `link` will find it.
fn is_linkable(file: &OwnedFd) -> bool {
    let same = fstat(file).and_then(|ours| {
        let seen = statat(CWD, self_path(file), AtFlags::empty())?;
        Ok((ours.st_dev, ours.st_ino) == (seen.st_dev, seen.st_ino))
    });
    same.unwrap_or(false)
}

/// Gives a file without a name one. By way of /proc, for the direct way needs a privilege.
fn link(file: &impl AsFd, directory: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    linkat(CWD, self_path(file), directory, name, AtFlags::SYMLINK_FOLLOW)
}

fn self_path(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    use tempfile::TempDir;

    use super::*;

    /// As on a file system without unnamed files.
    fn named_replacement(path: &Path) -> Replacement {
        let Ok(Found::Place(place)) = resolve(path) else { panic!("no place") };
        let (mut file, name) = make_named(&place.directory, Mode::from_raw_mode(0o600)).unwrap();
        file.write_all(b"new").unwrap();
        assert!(path.with_file_name(&name).exists());
        Replacement { place, file, keeps: false, name: Some(name) }
    }

    fn count(directory: &TempDir) -> usize {
        fs::read_dir(directory.path()).unwrap().count()
    }

    #[test]
    fn a_named_replacement_that_is_dropped_leaves_nothing() {
        let directory = TempDir::new().unwrap();
        drop(named_replacement(&directory.path().join("copy")));
        assert_eq!(count(&directory), 0);
    }

    #[test]
    fn a_named_replacement_replaces_and_becomes_like_what_was_there() {
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
    fn a_replacement_of_what_was_taken_out_of_a_queue_stays_unless_it_is_empty() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("copy");
        let mut replacement = named_replacement(&path);
        replacement.keeps = true;
        drop(replacement);
        assert_eq!(count(&directory), 1);
        let mut replacement = named_replacement(&path);
        replacement.keeps = true;
        replacement.file.set_len(0).unwrap();
        drop(replacement);
        assert_eq!(count(&directory), 1);
    }

    #[test]
    fn a_named_replacement_that_cannot_replace_stays() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("copy");
        let replacement = named_replacement(&path);
        let name = replacement.name.clone().unwrap();
        fs::create_dir(&path).unwrap();
        replacement.finish().unwrap_err();
        assert_eq!(fs::read(path.with_file_name(name)).unwrap(), b"new");
    }
}
