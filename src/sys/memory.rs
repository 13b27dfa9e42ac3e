//! Files that are memory: making, sizing, sealing, naming and mapping them.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{self, AtFlags, CWD, FallocateFlags, FlockOperation, MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

/// An anonymous file; `huge` asks for reserved 2 MiB pages.
pub(crate) fn create_anonymous(huge: bool) -> io::Result<OwnedFd> {
    let huge = if huge { MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB } else { MemfdFlags::empty() };
    Ok(fs::memfd_create("tombolo", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge)?)
}

/// A file in `directory` that has no name yet.
pub(crate) fn create_unnamed(directory: &Path, mode: u32) -> io::Result<OwnedFd> {
    let mode = Mode::from_raw_mode(mode);
    let file = fs::open(directory, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC, mode)?;
    fs::fchmod(&file, mode)?; // open(2) applied the umask
    Ok(file)
}

/// Gives a file its name, all at once; `AlreadyExists` if another has it.
pub(crate) fn link(file: impl AsFd, path: &Path) -> io::Result<()> {
    // By the descriptor itself, where the kernel permits that (since Linux 6.10, or to root).
    match fs::linkat(&file, "", CWD, path, AtFlags::EMPTY_PATH) {
        Ok(()) => return Ok(()),
        Err(error @ Errno::EXIST) => return Err(error.into()),
        Err(_) => {}
    }
    fs::linkat(CWD, descriptor_path(&file)?, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    // Another file's name is left alone. If ours has been removed already, it was there.
    let own = fs::fstat(file)?;
    match fs::lstat(path) {
        Ok(named) if facts_of(&named).id != facts_of(&own).id && own.st_nlink == 0 => {
            Err(io::Error::other("another file got the name"))
        }
        _ => Ok(()),
    }
}

pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    // NONBLOCK: a FIFO planted under the name must not hang us; it means nothing for regular files.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    Ok(fs::open(path, flags, Mode::empty())?)
}

/// Holds on to whatever has this name, without opening it: its number means no other file meanwhile.
pub(crate) fn pin(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?)
}

pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// Takes the lock of the whole file or directory (`flock(2)`), which is none of those on bytes; false if another
/// description holds it.
pub(crate) fn try_lock_whole(file: impl AsFd) -> io::Result<bool> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives that lock back, whoever has copies of the descriptor.
pub(crate) fn unlock_whole(file: impl AsFd) {
    let _ = fs::flock(file, FlockOperation::Unlock);
}

/// Another open file description of the same file, with locks and a position of its own.
pub(crate) fn reopen(file: impl AsFd) -> io::Result<OwnedFd> {
    // NONBLOCK and NOCTTY: nothing happens to what is not that file, should it come to that.
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = fs::open(descriptor_path(&file)?, flags, Mode::empty())?;
    let seals = |file: BorrowedFd<'_>| fs::fcntl_get_seals(file).ok();
    // Before anything is written to it: that path was only a number.
    let is_it = facts(&opened)?.id == facts(&file)?.id && seals(opened.as_fd()) == seals(file.as_fd());
    if is_it { Ok(opened) } else { Err(not_shown()) }
}

/// A path by which this thread finds what it has open. It means that file now; prove again what is
/// opened by it.
fn descriptor_path(file: impl AsFd) -> io::Result<PathBuf> {
    let (number, id) = (file.as_fd().as_raw_fd(), facts(&file)?.id);
    // `self` shows the first thread's descriptors, which most threads share; but a thread may have
    // its own.
    let paths = ["thread-self", "self"].map(|thread| PathBuf::from(format!("/proc/{thread}/fd/{number}")));
    let is_it = |path: &PathBuf| fs::stat(path).is_ok_and(|stat| facts_of(&stat).id == id);
    paths.into_iter().find(is_it).ok_or_else(not_shown)
}

fn not_shown() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "/proc does not show this thread's descriptors")
}

/// Sizes the file and backs the first `backed` bytes of it now: a full disk is an error here instead of a SIGBUS later.
pub(crate) fn allocate(file: impl AsFd, length: u64, backed: u64) -> io::Result<()> {
    fs::ftruncate(&file, length)?;
    back(file, backed)
}

/// Backs the first `backed` bytes of the file now, where that was not done yet.
pub(crate) fn back(file: impl AsFd, backed: u64) -> io::Result<()> {
    // In pieces: a signal makes the kernel undo the whole call, and a timer could do that for ever.
    const PIECE: u64 = 64 << 20;
    let mut done = 0;
    while done < backed {
        let piece = PIECE.min(backed - done);
        match fs::fallocate(&file, FallocateFlags::empty(), done, piece) {
            Err(Errno::INTR) => {}
            outcome => {
                outcome?;
                done += piece;
            }
        }
    }
    Ok(())
}

/// The path under which a file can be found; none if it has no name.
pub(crate) fn path(file: impl AsFd) -> Option<PathBuf> {
    if fs::fstat(&file).ok()?.st_nlink == 0 {
        return None;
    }
    let id = facts(&file).ok()?.id;
    let is_it = |path: &Path| facts_at(path).is_ok_and(|facts| facts.id == id);
    let opened = std::fs::read_link(descriptor_path(&file).ok()?).ok()?;
    if is_it(&opened) {
        return Some(opened);
    }
    // Opened before it was named: then the directory is right, and one of its entries.
    let entries = std::fs::read_dir(opened.parent()?).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| is_it(path))
}

/// From now on nobody, we included, can shrink or grow the file or take this back.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    Ok(fs::fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?)
}

/// Whether the file can no longer be truncated under its users.
pub(crate) fn is_sealed(file: impl AsFd) -> bool {
    fs::fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK))
}

/// Whether the file is made of memory, a memfd or on a tmpfs, in ordinary pages. Only the kernel is asked, whoever serves
/// the file.
pub(crate) fn is_memory(file: impl AsFd) -> bool {
    fs::fcntl_get_seals(&file).is_ok() && !is_huge(file)
}

/// Whether the file is made of reserved huge pages.
#[expect(clippy::unnecessary_cast, reason = "the width differs between architectures")]
pub(crate) fn is_huge(file: impl AsFd) -> bool {
    const HUGETLBFS_MAGIC: i64 = 0x9584_58f6;
    fs::fstatfs(file).is_ok_and(|facts| facts.f_type as i64 == HUGETLBFS_MAGIC)
}

/// What identifies a file while anyone has it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

pub(crate) struct FileFacts {
    pub(crate) id: FileId,
    pub(crate) length: u64,
    pub(crate) owner: u32,
    pub(crate) is_regular: bool,
    /// Bytes that the file system keeps for it.
    pub(crate) allocated: u64,
}

pub(crate) fn facts(file: impl AsFd) -> io::Result<FileFacts> {
    Ok(facts_of(&fs::fstat(file)?))
}

pub(crate) fn facts_at(path: &Path) -> io::Result<FileFacts> {
    Ok(facts_of(&fs::lstat(path)?))
}

#[expect(clippy::useless_conversion, reason = "the widths differ between architectures")]
fn facts_of(stat: &fs::Stat) -> FileFacts {
    FileFacts {
        id: FileId { device: stat.st_dev.into(), inode: stat.st_ino.into() },
        length: u64::try_from(stat.st_size).unwrap_or(0),
        owner: stat.st_uid,
        is_regular: fs::FileType::from_raw_mode(stat.st_mode) == fs::FileType::RegularFile,
        allocated: u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512),
    }
}

/// The position of an open file description, which travels with it to other processes.
pub(crate) fn fd_offset(file: impl AsFd) -> io::Result<u64> {
    Ok(fs::tell(file)?)
}

pub(crate) fn set_fd_offset(file: impl AsFd, position: u64) -> io::Result<()> {
    fs::seek(file, fs::SeekFrom::Start(position))?;
    Ok(())
}

/// A shared mapping of a whole file. Gives out its address only: no reference to shared bytes may ever exist.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
}

impl Mapping {
    pub(crate) fn new(file: impl AsFd, length: usize) -> io::Result<Self> {
        let map = MmapOptions::new().len(length).map_raw(file.as_fd().as_raw_fd())?;
        // A core would hold everybody's messages, and the locks of the process that crashed are not
        // free before it is written. If a sandbox refuses, that is how it is.
        let _ = map.advise(Advice::DontDump);
        Ok(Self { map })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    pub(crate) fn advise_huge(&self) -> io::Result<()> {
        self.map.advise(Advice::HugePage)
    }

    pub(crate) fn prefault(&self) -> io::Result<()> {
        self.map.advise(Advice::PopulateWrite)
    }

    pub(crate) fn lock(&self) -> io::Result<()> {
        self.map.lock()
    }
}

/// Bytes to round up to. Sizes come from 4 KiB pages even where the hardware's are larger: mmap does the rest.
pub(crate) const PAGE: u64 = 4096;
pub(crate) const HUGE_PAGE: u64 = 2 << 20;

pub(crate) fn user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether files in `directory` are made of memory.
#[expect(clippy::unnecessary_cast, reason = "the width differs between architectures")]
pub(crate) fn is_tmpfs(directory: &Path) -> bool {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    fs::statfs(directory).is_ok_and(|facts| facts.f_type as i64 == TMPFS_MAGIC)
}

/// Bytes that can still be had without swapping, if the system says.
pub(crate) fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The longest file that this process may write without a signal; none if there is no limit.
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
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Writes a word of the file, as it lies in memory.
pub(crate) fn write_word_at(file: impl AsFd, word: u64, offset: u64) -> io::Result<()> {
    write_all_at(file, bytemuck::bytes_of(&word), offset)
}

/// Bytes of a part of the file that were written and have memory; 0 if it cannot be found out.
pub(crate) fn present(file: impl AsFd, offset: u64, length: u64) -> u64 {
    // The position of the file's own description means something.
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

/// Gives the memory of a part of the file back to the system; it reads as zeros from then on.
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
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
