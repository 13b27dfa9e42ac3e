//! Processes: the identity of this one, whether another one still runs, and what a child inherits.

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

/// Identifies a process, and tells it from a later one with the same pid. `pid == 0` means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) pid: u64,
    /// Clock ticks between boot and the start of the process.
    pub(crate) started: u64,
    /// The inode of its PID namespace: a pid means nothing outside.
    pub(crate) namespace: u32,
    /// Where it has mapped the file in question: the lower half of the page number. Another program
    /// in the same process has the file mapped elsewhere.
    pub(crate) page: u32,
}

const PAGE_SHIFT: u32 = 12;

/// Returns what the system calls a process, if it can be looked up.
pub(crate) fn name_of(pid: u64) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.trim_ascii_end()).into_owned())
}

/// Where a process has a file mapped.
#[derive(Clone, Debug)]
pub(crate) enum Mappings {
    /// At these pages.
    At(Vec<u32>),
    /// Unknown: for example, the process belongs to another user, or its list is too long.
    Unknown,
}

impl Identity {
    pub(crate) const NOBODY: Self = Self { pid: 0, started: 0, namespace: 0, page: 0 };

    /// This process, which has the file in question mapped at `address`.
    pub(crate) fn of_self(address: usize) -> Self {
        // By `self`, not by our pid: in the /proc that is mounted here, that may be another
        // process.
        let started = stat("/proc/self").ok().flatten().map_or(0, |stat| stat.started);
        Self { pid: u64::from(std::process::id()), started, namespace: pid_namespace(), page: page_of(address) }
    }

    /// Returns where that process has mapped the file that this one has mapped at `address`.
    /// Returns `None` unless it provably runs: it is in the same PID namespace, started at the
    /// recorded time, and is not exiting (an exiting process gives up its memory before its locks).
    ///
    /// An `execve` keeps all of that, but no mapping. If the new program maps the same file, it
    /// does so at another address (unless addresses are not randomised).
    pub(crate) fn mappings_of(self, address: usize) -> Option<Mappings> {
        if self.pid == 0 || self.namespace == 0 || self.namespace != pid_namespace() {
            return None;
        }
        self.find_mappings(address).unwrap_or(Some(Mappings::Unknown))
    }

    /// Returns whether that process is gone, or will be soon: it was killed, exits, or writes its
    /// core. False if it cannot be found out, as for a process of another PID namespace.
    pub(crate) fn is_ending(self) -> bool {
        let is_known = self.pid != 0 && self.namespace != 0 && self.namespace == pid_namespace();
        is_known && matches!(self.find_ending(), Ok(true))
    }

    fn find_ending(self) -> Result<bool, OutOfResources> {
        if !shows_own_namespace()? {
            return Ok(false);
        }
        let Some(thread) = self.thread_with_memory()? else { return Ok(true) };
        // In this order: a thread that was killed takes the signal, and then begins to exit. It is
        // about to give up its memory then, and after that its files.
        Ok(accessible(fs::read_to_string(format!("{thread}/status")))?.is_some_and(|status| is_killed(&status))
            || stat(&thread)?.is_none_or(|stat| stat.is_exiting))
    }

    fn find_mappings(self, address: usize) -> Result<Option<Mappings>, OutOfResources> {
        if !shows_own_namespace()? {
            return Ok(None);
        }
        let Some(thread) = self.thread_with_memory()? else { return Ok(None) };
        let mappings = match (file_mapped_at(address), fs::File::open(format!("{thread}/maps"))) {
            (Some(file), Ok(maps)) => pages_of(maps, &file),
            _ => None,
        };
        // Once more: the mappings were its own only if it still runs.
        let still_runs = self.thread_with_memory()?.is_some();
        Ok(still_runs.then(|| mappings.map_or(Mappings::Unknown, Mappings::At)))
    }

    /// Returns the /proc directory of one of its threads, if it runs. The first thread may have
    /// ended before the others.
    fn thread_with_memory(self) -> Result<Option<String>, OutOfResources> {
        let process = format!("/proc/{}", self.pid);
        let Some(first) = stat(&process)?.filter(|stat| stat.started == self.started) else { return Ok(None) };
        if first.has_memory {
            return Ok(Some(process));
        }
        let Some(threads) = accessible(fs::read_dir(format!("{process}/task")))? else { return Ok(None) };
        for path in threads.flatten().filter_map(|entry| entry.path().to_str().map(str::to_string)) {
            if stat(&path)?.is_some_and(|stat| stat.has_memory) {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }
}

/// The same for a process that is known by its number only, which may mean another one by now.
#[cfg(feature = "connection")]
pub(crate) fn is_pid_ending(pid: u32) -> bool {
    let ending = || {
        if !shows_own_namespace()? {
            return Ok(false);
        }
        let Some(Stat { started, .. }) = stat(&format!("/proc/{pid}"))? else { return Ok(true) };
        Identity { pid: pid.into(), started, namespace: pid_namespace(), page: 0 }.find_ending()
    };
    matches!(ending(), Ok::<_, OutOfResources>(true))
}

/// This process has no descriptor or no memory left to find out. That proves nothing about others.
struct OutOfResources;

/// Returns what the system answered, or `None` if it does not exist or is not accessible.
fn accessible<T>(answer: io::Result<T>) -> Result<Option<T>, OutOfResources> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if is_out_of_resources(&error) => Err(OutOfResources),
        Err(_) => Ok(None),
    }
}

/// Returns whether a call failed because of this process, whatever it was about.
pub(crate) fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

struct Stat {
    is_exiting: bool,
    started: u64,
    has_memory: bool,
}

/// PF_EXITING of the kernel's flags of a thread.
const EXITING: u64 = 4;

/// Fields 9 (flags), 22 (starttime) and 23 (vsize) of `stat` in a directory of /proc, see proc(5).
fn stat(directory: &str) -> Result<Option<Stat>, OutOfResources> {
    let parse = |text: String| {
        // The command name, field 2, is in parentheses and may contain spaces and parentheses.
        let mut rest = text.rsplit_once(')')?.1.split_ascii_whitespace();
        let flags: u64 = rest.nth(9 - 3)?.parse().ok()?;
        let started = rest.nth(22 - 10)?.parse().ok()?;
        let has_memory = rest.next()? != "0";
        Some(Stat { is_exiting: flags & EXITING != 0, started, has_memory })
    };
    Ok(accessible(fs::read_to_string(format!("{directory}/stat")))?.and_then(parse))
}

/// Whether a `status` of /proc shows a SIGKILL that is still to be acted on, or a core being
/// written.
fn is_killed(status: &str) -> bool {
    const KILLED: u64 = 1 << (libc::SIGKILL - 1);
    status.lines().filter_map(|line| line.split_once(':')).any(|(field, value)| match field {
        "SigPnd" | "ShdPnd" => u64::from_str_radix(value.trim(), 16).is_ok_and(|pending| pending & KILLED != 0),
        "CoreDumping" => value.trim() == "1",
        _ => false,
    })
}

/// The inode of the PID namespace of this process. Not cached: after `unshare(CLONE_NEWPID)` a
/// forked child is in another one than its parent.
pub(crate) fn pid_namespace() -> u32 {
    // The kernel gives these numbers 32 bits.
    fs::metadata("/proc/self/ns/pid").map_or(0, |meta| meta.ino() as u32)
}

fn page_of(address: usize) -> u32 {
    (address >> PAGE_SHIFT) as u32
}

/// Returns whether the pids in /proc are those of this process's PID namespace. If the /proc of
/// another namespace is mounted here, it lists this process with a pid for each namespace down to
/// its own.
fn shows_own_namespace() -> Result<bool, OutOfResources> {
    let own = std::process::id().to_string();
    let Some(status) = accessible(fs::read_to_string("/proc/self/status"))? else { return Ok(false) };
    Ok(match status.lines().find_map(|line| line.strip_prefix("NSpid:")) {
        Some(numbers) => numbers.split_ascii_whitespace().eq([own.as_str()]),
        // A kernel without PID namespaces.
        None => fs::read_link("/proc/self").is_ok_and(|number| number.as_os_str() == own.as_str()),
    })
}

/// What the kernel shows of a mapped file: device and inode. The device is not always that of
/// `stat`.
type MappedFile = (String, String);

/// The address range and the file of a line of `maps`, see proc_pid_maps(5).
fn mapping(line: &[u8]) -> Option<(usize, usize, MappedFile)> {
    // The path, which may contain anything, is the last field.
    let line = String::from_utf8_lossy(line);
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (device, inode) = (fields.nth(2)?.to_string(), fields.next()?.to_string());
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?, (device, inode)))
}

/// The file that this process has mapped there. Not from /proc/self/maps, which is empty once the
/// first thread has ended.
fn file_mapped_at(address: usize) -> Option<MappedFile> {
    let maps = fs::File::open("/proc/thread-self/maps").or_else(|_| fs::File::open("/proc/self/maps")).ok()?;
    let lines = BufReader::new(maps).split(b'\n').map_while(io::Result::ok);
    let mut mappings = lines.filter_map(|line| mapping(&line));
    mappings.find(|&(start, end, _)| (start..end).contains(&address)).map(|(_, _, file)| file)
}

/// The most bytes to read of another process's list of mappings, which may be of any length.
const MAX_MAPS_BYTES: u64 = 256 << 10;

/// The pages at which a list of mappings has the file, or `None` if the list cannot be read to its
/// end.
fn pages_of(maps: fs::File, file: &MappedFile) -> Option<Vec<u32>> {
    let (mut read, mut pages) = (0, Vec::new());
    for line in BufReader::new(maps.take(MAX_MAPS_BYTES)).split(b'\n') {
        let line = line.ok()?;
        read += line.len() as u64 + 1;
        pages.extend(mapping(&line).filter(|(_, _, mapped)| mapped == file).map(|(start, _, _)| page_of(start)));
    }
    // An empty list: the process has just given up its memory, or begins another program.
    (0 < read && read < MAX_MAPS_BYTES).then_some(pages)
}

/// The user whose rights this process has.
pub(crate) fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Registers a function to be called when this process exits: when `main` returns, or something
/// calls `exit`. Forked children inherit the registration. Returns whether it succeeded.
pub(crate) fn at_exit(action: extern "C" fn()) -> bool {
    // SAFETY: only registers it.
    unsafe { libc::atexit(action) == 0 }
}

/// Returns whether this program has more rights than the user that started it and chose its
/// environment: through set-user-ID, set-group-ID or file capabilities.
pub(crate) fn has_untrusted_environment() -> bool {
    // SAFETY: reads a number that the kernel gave this process.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// The number of cores of the machine. Not of those that this thread may run on: a peer may run on
/// others.
pub(crate) fn online_cores() -> usize {
    // Relaxed: a cache, and asking twice is harmless. With a `OnceLock`, a forked child could wait
    // for a thread that it does not have.
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

/// Returns a number that identifies this thread in this process and in those that it was forked
/// from. Never 0. A forking thread keeps its number in the child. (The address of a thread-local
/// would not do: a later thread may get it again.)
#[inline]
pub(crate) fn thread_token() -> u64 {
    thread_local!(static HERE: Cell<u64> = const { Cell::new(0) });

    #[cold]
    fn next() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Ordering::Relaxed) + 1 // Relaxed: unique is enough
    }

    HERE.with(|here| {
        if here.get() == 0 {
            here.set(next());
        }
        here.get()
    })
}

/// Makes a child of `command` keep these descriptors, as long as they are not dropped here. They
/// stay close-on-exec in this process.
pub(crate) fn inherit(command: &mut Command, descriptors: &Arc<[RawFd]>) {
    // Weak: the command may be used again when the descriptors are closed and their numbers mean
    // other files.
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
    // SAFETY: between fork and exec it only calls fcntl. It frees nothing, because the child has a
    // copy of the parent's reference, which is never dropped there.
    unsafe { command.pre_exec(keep) };
}

/// Describes a descriptor for a child that inherits it: its number, and which file it is.
pub(crate) fn describe_fd(file: impl AsFd) -> io::Result<String> {
    let metadata = rustix::fs::fstat(&file)?;
    Ok(format!("{}:{}:{}", file.as_fd().as_raw_fd(), metadata.st_dev, metadata.st_ino))
}

/// Takes ownership of an inherited descriptor, by its description. Returns it once.
pub(crate) fn take_inherited(description: &str) -> Option<OwnedFd> {
    static TAKEN: ForkSafe<BTreeSet<RawFd>> = ForkSafe::new();

    let descriptor: RawFd = description.split(':').next()?.parse().ok()?;
    TAKEN.with(|taken| {
        // SAFETY: fcntl returns an error for a number that is not open.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        let is_inherited = flags >= 0 && flags & libc::FD_CLOEXEC == 0;
        // What this process opened itself is close-on-exec. What it inherited is not.
        if descriptor <= libc::STDERR_FILENO || !is_inherited || taken.contains(&descriptor) {
            return None;
        }
        // SAFETY: it is open, as just seen, and borrowed for this check only.
        let file = unsafe { BorrowedFd::borrow_raw(descriptor) };
        if describe_fd(file).ok()? != description {
            return None; // the description was for our parent, and the number means another file now
        }
        // SAFETY: see F_GETFD.
        if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
            return None;
        }
        taken.insert(descriptor);
        // SAFETY: it is open, was inherited for us, and nobody else here has taken it.
        Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
    })
}
