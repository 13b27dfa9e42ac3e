//! Files that are memory: making, sizing, sealing and naming them, and access to their bytes
//! without a mapping.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags, StatxFlags};
use rustix::io::Errno;

use crate::error::NotInProc;

/// Returns the same description under a number that is none of the standard streams, which a
/// process may have closed.
pub(crate) fn above_streams(file: OwnedFd) -> io::Result<OwnedFd> {
    const FIRST: RawFd = libc::STDERR_FILENO + 1;
    if file.as_raw_fd() >= FIRST { Ok(file) } else { Ok(rustix::io::fcntl_dupfd_cloexec(file, FIRST)?) }
}

/// Gives up what a file has from `length` on.
#[cfg(feature = "process")]
pub(crate) fn truncate(file: impl AsFd, length: u64) -> io::Result<()> {
    Ok(fs::ftruncate(file, length)?)
}

/// Creates an anonymous file. `huge` asks for reserved 2 MiB pages.
pub(crate) fn create_anonymous(huge: bool) -> io::Result<OwnedFd> {
    let huge = if huge { MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB } else { MemfdFlags::empty() };
    Ok(fs::memfd_create("tombolo", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge)?)
}

/// Creates an anonymous file of these bytes, which nobody can make shorter or longer. Lists of
/// descriptors show `name`.
#[cfg(all(feature = "connection", feature = "serde"))]
pub(crate) fn create_sealed(name: &str, bytes: &[u8]) -> io::Result<OwnedFd> {
    let file = fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    write_all_at(&file, bytes, 0)?;
    seal(&file)?;
    Ok(file)
}

/// Creates a file in `directory` that has no name yet.
pub(crate) fn create_unnamed(directory: &Path, mode: u32) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(mode);
    // A file system or a kernel that does not know TMPFILE opens the directory itself.
    let file = fs::open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)
        .map_err(|error| if error == Errno::ISDIR { Errno::OPNOTSUPP } else { error })?;
    fs::fchmod(&file, mode)?; // open(2) applied the umask
    Ok(file)
}

/// Gives a file its name, atomically. Fails with `AlreadyExists` if another file has it.
pub(crate) fn link(file: impl AsFd, path: &Path) -> io::Result<()> {
    // By the descriptor itself, if the kernel permits that (since Linux 6.10, or to root).
    match fs::linkat(&file, "", CWD, path, AtFlags::EMPTY_PATH) {
        Ok(()) => return Ok(()),
        Err(error @ Errno::EXIST) => return Err(error.into()),
        Err(_) => {}
    }
    fs::linkat(CWD, descriptor_path(&file)?, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    // Another file's name is left alone. If ours is gone already, it was there.
    let own = fs::fstat(file)?;
    match fs::lstat(path) {
        Ok(named) if metadata_of(&named).id != metadata_of(&own).id && own.st_nlink == 0 => {
            Err(io::Error::other("another file got the name"))
        }
        _ => Ok(()),
    }
}

/// Opens a file by its name, for reading and writing.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    open_for(path, OFlags::RDWR)
}

/// Opens a file by its name, for reading only.
pub(crate) fn open_read_only(path: &Path) -> io::Result<OwnedFd> {
    open_for(path, OFlags::RDONLY)
}

fn open_for(path: &Path, access: OFlags) -> io::Result<OwnedFd> {
    // NONBLOCK: a FIFO planted under the name must not block us. It has no effect on regular files.
    Ok(fs::open(path, access | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK, Mode::empty())?)
}

/// Holds whatever has this name, without opening it, so that no other file gets its inode number.
pub(crate) fn pin(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

/// Holds the file that a link of /proc leads to, without opening it.
pub(crate) fn pin_target(link: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Attempts to lock the whole file or directory (`flock(2)`), which is independent of locks on
/// bytes. Returns false if another open file description holds the lock.
pub(crate) fn try_lock_whole(file: impl AsFd) -> io::Result<bool> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Releases that lock, even if copies of the descriptor are open.
pub(crate) fn unlock_whole(file: impl AsFd) {
    let _ = fs::flock(file, FlockOperation::Unlock);
}

/// Opens the same file again: another description, with locks and an offset of its own.
pub(crate) fn reopen(file: impl AsFd) -> io::Result<OwnedFd> {
    let opened = open_pinned(&file)?;
    let seals = |file: BorrowedFd<'_>| fs::fcntl_get_seals(file).ok();
    if seals(opened.as_fd()) == seals(file.as_fd()) { Ok(opened) } else { Err(not_shown()) }
}

/// Opens a file that is pinned, or open, for reading and writing.
pub(crate) fn open_pinned(file: impl AsFd) -> io::Result<OwnedFd> {
    // NONBLOCK and NOCTTY: if the path means another file, opening it has no effect.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = fs::open(descriptor_path(&file)?, flags, Mode::empty())?;
    // Check before anything is written to it: the path was only a number.
    if metadata(&opened)?.id == metadata(&file)?.id { Ok(opened) } else { Err(not_shown()) }
}

/// Returns a path by which this thread finds an open file. It names that file now. Check what you
/// open by it.
pub(crate) fn descriptor_path(file: impl AsFd) -> io::Result<PathBuf> {
    let (number, id) = (file.as_fd().as_raw_fd(), metadata(&file)?.id);
    // `self` shows the first thread's descriptors, which most threads share. A thread may have its
    // own.
    let paths = ["thread-self", "self"].map(|thread| PathBuf::from(format!("/proc/{thread}/fd/{number}")));
    let is_it = |path: &PathBuf| fs::stat(path).is_ok_and(|stat| metadata_of(&stat).id == id);
    paths.into_iter().find(is_it).ok_or_else(not_shown)
}

fn not_shown() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, NotInProc)
}

/// Sizes the file and allocates its first `backed` bytes now: a full file system is an error here
/// instead of a SIGBUS later.
pub(crate) fn allocate(file: impl AsFd, length: u64, backed: u64) -> io::Result<()> {
    fs::ftruncate(&file, length)?;
    back(file, backed)
}

/// Allocates the first `backed` bytes of the file, as far as they are not allocated yet.
pub(crate) fn back(file: impl AsFd, backed: u64) -> io::Result<()> {
    // In chunks: a signal makes the kernel undo the whole call, and a timer could do that
    // endlessly.
    const CHUNK: u64 = 64 << 20;
    let mut done = 0;
    while done < backed {
        let chunk = CHUNK.min(backed - done);
        match fs::fallocate(&file, FallocateFlags::empty(), done, chunk) {
            Err(Errno::INTR) => {}
            outcome => {
                outcome?;
                done += chunk;
            }
        }
    }
    Ok(())
}

/// The path of a file, or `None` if it has no name.
pub(crate) fn path(file: impl AsFd) -> io::Result<Option<PathBuf>> {
    if fs::fstat(&file)?.st_nlink == 0 {
        return Ok(None);
    }
    let id = metadata(&file)?.id;
    let is_it = |path: &Path| metadata_at(path).is_ok_and(|metadata| metadata.id == id);
    let opened = std::fs::read_link(descriptor_path(&file)?)?;
    if is_it(&opened) {
        return Ok(Some(opened));
    }
    // Opened before it was named: then the directory is right, and an entry of it is the file.
    let Some(directory) = opened.parent() else { return Ok(None) };
    match std::fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).find(|path| is_it(path))),
        // What is shown of a file that was removed is no path.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Seals the file: nobody, this process included, can shrink or grow it, or undo this.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    Ok(fs::fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?)
}

/// Returns whether the file can no longer be truncated under its users.
pub(crate) fn is_sealed(file: impl AsFd) -> bool {
    fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// Returns whether the file consists of memory in ordinary pages: a memfd, or a file on a tmpfs.
/// Only the kernel is asked, so a file system in user space cannot block this.
pub(crate) fn is_memory(file: impl AsFd) -> bool {
    fs::fcntl_get_seals(&file).is_ok() && !is_huge(file)
}

/// Returns whether the file consists of reserved huge pages.
#[expect(clippy::unnecessary_cast, reason = "the width differs between architectures")]
pub(crate) fn is_huge(file: impl AsFd) -> bool {
    const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
    fs::fstatfs(file).is_ok_and(|system| system.f_type as i64 == HUGETLBFS_MAGIC)
}

/// Identifies a file while anyone has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    pub(crate) fn is_on_same_device(self, other: Self) -> bool {
        self.device == other.device
    }
}

/// Identifies what is at a path, or is open or pinned if the path is empty. Does not ask the file
/// system, which may be served by a process.
#[expect(clippy::useless_conversion, reason = "the width differs between architectures")]
pub(crate) fn cached_id(directory: impl AsFd, path: &Path) -> io::Result<FileId> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let found = fs::statx(directory, path, flags, StatxFlags::INO)?;
    Ok(FileId { device: fs::makedev(found.stx_dev_major, found.stx_dev_minor).into(), inode: found.stx_ino })
}

pub(crate) struct Metadata {
    pub(crate) id: FileId,
    pub(crate) length: u64,
    pub(crate) owner: u32,
    /// Its permissions.
    pub(crate) mode: u32,
    pub(crate) is_regular: bool,
    /// Whether any name leads to it.
    pub(crate) has_name: bool,
    /// Bytes that the file system has allocated for it.
    pub(crate) allocated: u64,
}

pub(crate) fn metadata(file: impl AsFd) -> io::Result<Metadata> {
    Ok(metadata_of(&fs::fstat(file)?))
}

pub(crate) fn metadata_at(path: &Path) -> io::Result<Metadata> {
    Ok(metadata_of(&fs::lstat(path)?))
}

#[expect(clippy::useless_conversion, reason = "the widths differ between architectures")]
fn metadata_of(stat: &fs::Stat) -> Metadata {
    Metadata {
        id: FileId { device: stat.st_dev.into(), inode: stat.st_ino.into() },
        length: u64::try_from(stat.st_size).unwrap_or(0),
        owner: stat.st_uid,
        mode: stat.st_mode & 0o777,
        is_regular: fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile,
        has_name: stat.st_nlink > 0,
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
    }
}

/// The offset of an open file description, which travels with it to other processes.
pub(crate) fn fd_offset(file: impl AsFd) -> io::Result<u64> {
    Ok(fs::tell(file)?)
}

pub(crate) fn set_fd_offset(file: impl AsFd, offset: u64) -> io::Result<()> {
    fs::seek(file, fs::SeekFrom::Start(offset))?;
    Ok(())
}

/// Returns whether files in `directory` consist of memory.
#[expect(clippy::unnecessary_cast, reason = "the width differs between architectures")]
pub(crate) fn is_tmpfs(directory: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    fs::statfs(directory).is_ok_and(|system| system.f_type as i64 == TMPFS_MAGIC)
}

/// The longest file that this process may write without a signal, or `None` if there is no limit.
pub(crate) fn file_size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Writes all of `bytes` into the file at `offset`.
pub(crate) fn write_all_at(file: impl AsFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    if file_size_limit().is_some_and(|limit| offset.saturating_add(bytes.len() as u64) > limit) {
        return Err(Errno::FBIG.into());
    }
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = bytes.get(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes a word into the file, in the byte order of memory.
pub(crate) fn write_word_at(file: impl AsFd, word: u64, offset: u64) -> io::Result<()> {
    write_all_at(file, bytemuck::bytes_of(&word), offset)
}

/// Returns how many bytes of a range of the file have memory, or 0 if that cannot be found out.
pub(crate) fn present(file: impl AsFd, offset: u64, length: u64) -> u64 {
    // The offset of the file's own description has a meaning of its own.
    let Ok(file) = reopen(file) else { return 0 };
    let end = offset.saturating_add(length);
    let (mut at, mut found) = (offset, 0_u64);
    while at < end
        && let Ok(data) = fs::seek(&file, fs::SeekFrom::Data(at))
        && data < end
        && let Ok(hole) = fs::seek(&file, fs::SeekFrom::Hole(data))
        && hole > data
    {
        found += hole.min(end) - data;
        at = hole;
    }
    found
}

/// Returns the memory of a range of the file to the system. The range then reads as zeros.
pub(crate) fn discard(file: impl AsFd, offset: u64, length: u64) -> io::Result<()> {
    loop {
        match fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
            Err(Errno::INTR) => {}
            outcome => return Ok(outcome?),
        }
    }
}

/// Fills `buffer` from the file at `offset`.
pub(crate) fn read_exact_at(file: impl AsFd, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match rustix::io::pread(&file, &mut *buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = buffer.get_mut(count..).unwrap_or_default();
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
