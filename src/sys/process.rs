//! Who runs: this process's identity, and whether another's is still true.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::fork::ForkSafe;

/// A process, told apart from a later one with the same number. `pid == 0` is nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u64,
    /// Clock ticks between boot and the start of the process.
    pub(crate) started: u64,
    /// The inode of its PID namespace: a pid means nothing outside.
    pub(crate) namespace: u32,
    /// Where it has the file mapped that this is about, in pages, the lower half: another program
    /// in the same process has it elsewhere.
    pub(crate) page: u32,
}

const PAGE_SHIFT: u32 = 12;

/// Where a process has a file mapped.
#[derive(Clone, Debug)]
pub(crate) enum Mappings {
    /// From these pages on.
    At(Vec<u32>),
    /// It belongs to another user, say, or its list is too long.
    NotShown,
}

impl Identity {
    pub(crate) const NOBODY: Self = Self { pid: 0, started: 0, namespace: 0, page: 0 };

    /// This process, which has the file in question mapped at `address`.
    pub(crate) fn of_self(address: usize) -> Self {
        // Under `self`, not under our number: that may be another process's in the /proc that is
        // mounted here.
        let started = stat("/proc/self").ok().flatten().map_or(0, |stat| stat.started);
        Self { pid: u64::from(std::process::id()), started, namespace: own_namespace(), page: page_of(address) }
    }

    /// Where that very process has the file that this one has mapped at `address`. `None` if it does
    /// not provably run: seen from the same PID namespace, started at the recorded time, and not on
    /// its way out (an exiting process has given up its memory before its locks).
    ///
    /// An `execve` keeps all of that and leaves no mapping. If the new program maps the same file, then
    /// somewhere else (unless addresses are not randomised).
    pub(crate) fn mappings_of(self, address: usize) -> Option<Mappings> {
        if self.pid == 0 || self.namespace == 0 || self.namespace != own_namespace() {
            return None;
        }
        self.look_at_mappings(address).unwrap_or(Some(Mappings::NotShown))
    }

    fn look_at_mappings(self, address: usize) -> Result<Option<Mappings>, NotToldNow> {
        if !shows_own_namespace()? {
            return Ok(None);
        }
        let Some(thread) = self.thread_with_memory()? else { return Ok(None) };
        let mappings = match (file_mapped_at(address), fs::File::open(format!("{thread}/maps"))) {
            (Some(file), Ok(maps)) => pages_of(maps, &file),
            _ => None,
        };
        // Again: only if it still runs was it its mappings that were read.
        let still_runs = self.thread_with_memory()?.is_some();
        Ok(still_runs.then(|| mappings.map_or(Mappings::NotShown, Mappings::At)))
    }

    /// The directory of one of its threads, if it runs. The first thread may have ended before the
    /// others.
    fn thread_with_memory(self) -> Result<Option<String>, NotToldNow> {
        let process = format!("/proc/{}", self.pid);
        let Some(first) = stat(&process)?.filter(|stat| stat.started == self.started) else { return Ok(None) };
        if first.has_memory {
            return Ok(Some(process));
        }
        let Some(threads) = told(fs::read_dir(format!("{process}/task")))? else { return Ok(None) };
        for path in threads.flatten().filter_map(|entry| entry.path().to_str().map(str::to_string)) {
            if stat(&path)?.is_some_and(|stat| stat.has_memory) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// This process has no descriptor or no memory left for the question. That proves nothing of others.
struct NotToldNow;

/// What was asked for; none if it is not there, or not for us.
fn told<T>(answer: io::Result<T>) -> Result<Option<T>, NotToldNow> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => Err(NotToldNow),
            _ => Ok(None),
        },
    }
}

struct Stat {
    started: u64,
    has_memory: bool,
}

/// Fields 22 (starttime) and 23 (vsize) of `stat` in a directory of /proc, see proc(5).
fn stat(directory: &str) -> Result<Option<Stat>, NotToldNow> {
    let parse = |text: String| {
        // The command name, field 2, is in parentheses and may itself hold spaces and parentheses.
        let mut rest = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let started = rest.nth(22 - 3)?.parse().ok()?;
        let has_memory = rest.next()? != "0";
        Some(Stat { started, has_memory })
    };
    Ok(told(fs::read_to_string(format!("{directory}/stat")))?.and_then(parse))
}

/// Not kept: a child that is forked after `unshare(CLONE_NEWPID)` is in another one than its
/// parent.
fn own_namespace() -> u32 {
    // The kernel gives these numbers 32 bits.
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino() as u32)
}

fn page_of(address: usize) -> u32 {
    (address >> PAGE_SHIFT) as u32
}

/// Whether numbers in /proc mean what they mean to us. If another PID namespace's /proc is mounted
/// here, this process is listed with a number for each namespace from that one down to its own.
fn shows_own_namespace() -> Result<bool, NotToldNow> {
    let own = std::process::id().to_string();
    let Some(status) = told(fs::read_to_string("/proc/self/status"))? else { return Ok(false) };
    Ok(match status.lines().find_map(|line| line.strip_prefix("NSpid:")) {
        Some(numbers) => numbers.split_ascii_whitespace().eq([own.as_str()]),
        // A kernel without PID namespaces.
        None => fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() == own.as_str()),
    })
}

/// What the kernel shows of a mapped file: device and inode. The device is not always that of
/// `stat`.
type MappedFile = (String, String);

/// Address range, and file, of a line of `maps`, see proc_pid_maps(5).
fn mapping(line: &[u8]) -> Option<(usize, usize, MappedFile)> {
    // The path, which may be anything, is the last field.
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (device, inode) = (fields.nth(2)?.to_string(), fields.next()?.to_string());
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?, (device, inode)))
}

/// The file that this process has mapped there. (The first thread may have ended, and with it what
/// /proc/self/maps says.)
fn file_mapped_at(address: usize) -> Option<MappedFile> {
    let maps = fs::File::open("/proc/thread-self/maps").or_else(|_| fs::File::open("/proc/self/maps")).ok()?;
    let lines = BufReader::new(maps).split(b'\n').map_while(io::Result::ok);
    let mut mappings = lines.filter_map(|line| mapping(&line));
    mappings.find(|&(start, end, _)| (start..end).contains(&address)).map(|(_, _, file)| file)
}

/// Bytes of another process's list of mappings that are looked at: it can be made as long as that
/// process likes.
const MAPS_READ: u64 = 256 << 10;

/// The pages from which on the file is in a list of mappings; none if the list cannot be read, or
/// not to its end.
fn pages_of(maps: fs::File, file: &MappedFile) -> Option<Vec<u32>> {
    let (mut read, mut pages) = (0, Vec::new());
    for line in BufReader::new(maps.take(MAPS_READ)).split(b'\n') {
        let line = line.ok()?;
        read += line.len() as u64 + 1;
        pages.extend(mapping(&line).filter(|(_, _, mapped)| mapped == file).map(|(start, _, _)| page_of(start)));
    }
    // Empty: it has just given up its memory, or takes on another program.
    (0 < read && read < MAPS_READ).then_some(pages)
}

/// Has a function called when this process comes to its ordinary end: when `main` returns, or
/// something calls `exit`. Its forked children inherit that.
pub(crate) fn at_exit(action: extern "C" fn()) -> bool {
    // SAFETY: only registers it.
    unsafe { libc::atexit(action) == 0 }
}

/// Whether this program runs with more rights than whoever started it, who chose its environment: set-user-ID,
/// set-group-ID or capabilities of its file.
pub(crate) fn has_a_foreign_environment() -> bool {
    // SAFETY: reads a number that the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The cores of the machine, not those that this thread may run on: a peer is elsewhere, however we are pinned.
pub(crate) fn online_cores() -> usize {
    // Relaxed: a cache, asking twice is harmless. In a `OnceLock` a forked child could wait for a
    // thread that it does not have.
    static CORES: AtomicUsize = AtomicUsize::new(0);
    match CORES.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: reads a number.
            let online = unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) };
            let cores = usize::try_from(online).unwrap_or(1).max(1);
            CORES.store(cores, Ordering::Relaxed);
            cores
        }
        cores => cores,
    }
}

/// A number that is given to one thread only, in this process and in those that it was forked from;
/// never 0. A forking thread keeps it in the child. (An address in the thread's memory would do
/// only while the thread lives: the next thread gets it again.)
#[inline]
pub(crate) fn thread() -> u64 {
    thread_local!(static HERE: Cell<u64> = const { Cell::new(0) });

    #[cold]
    fn next() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1 // only to be another each time
    }

    HERE.with(|here| {
        if here.get() == 0 {
            here.set(next());
        }
        here.get()
    })
}

/// Makes a child of `command` keep these descriptors, as long as they are not dropped here. They stay
/// close-on-exec in this process.
pub(crate) fn inherit(command: &mut Command, descriptors: &Arc<[RawFd]>) {
    // Weak: the command may be used again when the descriptors are closed and their numbers mean other
    // files.
    let descriptors = Arc::downgrade(descriptors);
    let keep = move || {
        let Some(descriptors) = descriptors.upgrade() else { return Ok(()) };
        for &descriptor in &*descriptors {
            // SAFETY: fcntl is async-signal-safe; a bad number is an error, not a danger.
            if unsafe { libc::fcntl(descriptor, libc::F_SETFD, 0) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only calls fcntl. It frees nothing, because the child has a copy
    // of the parent's reference, which is never dropped there.
    unsafe { command.pre_exec(keep) };
}

/// How a descriptor is announced to a child: its number, and which file it is.
pub(crate) fn inheritance(file: impl AsFd) -> io::Result<String> {
    let facts = rustix::fs::fstat(&file)?;
    Ok(format!("{}:{}:{}", file.as_fd().as_raw_fd(), facts.st_dev, facts.st_ino))
}

/// Takes ownership of a descriptor that this process inherited as announced; each once.
pub(crate) fn claim_inherited(announced: &str) -> Option<OwnedFd> {
    static CLAIMED: ForkSafe<BTreeSet<RawFd>> = ForkSafe::new();

    let descriptor: RawFd = announced.split(':').next()?.parse().ok()?;
    CLAIMED.with(|claimed| {
        // SAFETY: fcntl on a number; what it does not know it refuses.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        let is_inherited = flags >= 0 && flags & libc::FD_CLOEXEC == 0;
        // What this process opened itself is close-on-exec; what it inherited is not.
        if descriptor <= libc::STDERR_FILENO || !is_inherited || claimed.contains(&descriptor) {
            return None;
        }
        // SAFETY: open, as just seen; borrowed for the question only.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        if inheritance(file).ok()? != announced {
            return None; // the announcement was for our parent, and the number has come to mean something else
        }
        // SAFETY: as for F_GETFD.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        claimed.insert(descriptor);
        // SAFETY: open, inherited for us, and claimed by nobody else here.
        Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
    })
}
