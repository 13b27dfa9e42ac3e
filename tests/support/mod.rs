//! Second processes, a directory of one's own, and a watchdog: what the tests between processes have in common.
//!
//! A second process is either this test binary started again to play a part (`parts!`, [`start`]) or, where the
//! subject asks for it, a fork ([`fork`]). Neither outlives the thread that made it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

/// How long a test may take; TEST_PATIENCE says it in seconds.
fn patience() -> Duration {
    Duration::from_secs(asked_for("TEST_PATIENCE").unwrap_or(180 * storm_length()))
}

/// A number from the environment, with which `./check proof` asks for more than usual.
fn asked_for(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// How many times as long as usual a storm is to be: TEST_STORM.
pub fn storm_length() -> u64 {
    asked_for("TEST_STORM").unwrap_or(1)
}

/// A storm's numbers: TEST_SEED makes others of them.
pub fn storm_numbers(usual: u64) -> Random {
    Random(asked_for("TEST_SEED").map_or(usual, |seed| usual ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
}

/// A directory that goes away with the test; if the test hangs, everything does.
pub struct Sandbox {
    directory: PathBuf,
    _watchdog: mpsc::Sender<()>,
}

impl Sandbox {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let directory = loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = PathBuf::from(PARENT).join(format!("{}{count}", own_prefix()));
            match fs::create_dir(&path) {
                Ok(()) => break path,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        };
        let (watchdog, alarm) = mpsc::channel();
        let test = thread::current().name().unwrap_or_default().to_string();
        let patience = patience();
        thread::spawn(move || {
            if alarm.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                say(&format!("{test} hangs: giving up after {patience:?}"));
                remove_all();
                // SAFETY: ends the process, and with it every process that it has started.
                unsafe { libc::_exit(99) };
            }
        });
        Self { directory, _watchdog: watchdog }
    }

    /// For named regions.
    pub fn names(&self) -> PathBuf {
        self.directory.join("names")
    }

    /// The files that named regions have left.
    pub fn litter(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.names()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    /// For anything else.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

const PARENT: &str = "/dev/shm";

fn own_prefix() -> String {
    format!("tombolo-test-{}-", std::process::id())
}

/// Removes the directories of all tests of this process.
fn remove_all() {
    for entry in fs::read_dir(PARENT).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&own_prefix()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Says something on standard error even if the test passes.
pub fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Another process, killed when dropped.
pub struct Process {
    pid: libc::pid_t,
    reaped: bool,
}

impl Process {
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: our own child, not reaped yet, so the number means nobody else.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0, "{}", io::Error::last_os_error());
    }

    /// Waits for its end; the status as waitpid(2) has it.
    pub fn wait(&mut self) -> libc::c_int {
        loop {
            let status = self.wait_for_stop();
            if self.reaped {
                return status;
            }
        }
    }

    /// Waits for its end or, if it is traced, its next stop.
    pub fn wait_for_stop(&mut self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: a child of ours and a place for its status.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        assert_eq!(pid, self.pid, "{}", io::Error::last_os_error());
        self.reaped = !libc::WIFSTOPPED(status);
        status
    }

    /// Kills it, and returns when it is gone. It must have lived until then.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let status = self.wait();
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "ended before: {status:#x}");
    }

    /// Waits for its end, which must be a good one.
    pub fn finish(mut self) {
        let status = self.wait();
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0, "the other process: status {status:#x}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(libc::SIGKILL);
            self.wait();
        }
    }
}

impl From<Child> for Process {
    fn from(child: Child) -> Self {
        Self { pid: child.id() as libc::pid_t, reaped: false }
    }
}

const PART: &str = "TEST_PART";
const ARGUMENTS: &str = "TEST_ARGUMENTS";

/// Names the functions that a second process can be started to run; each gets its arguments.
#[allow(unused_macros, reason = "some test binaries only fork")]
macro_rules! parts {
    ($($part:ident),+ $(,)?) => {
        /// Plays a part if this process was started for one; else there is nothing to do.
        #[test]
        fn second_process() {
            $crate::support::play(&[$((stringify!($part), $part as fn(&[String]))),+]);
        }
    };
}

#[allow(unused_imports, reason = "some test binaries only fork")]
pub(crate) use parts;

pub type Part = (&'static str, fn(&[String]));

pub fn play(parts: &[Part]) {
    if let Ok(name) = std::env::var(PART) {
        let arguments: Vec<_> = std::env::var(ARGUMENTS).unwrap().split('\n').map(String::from).collect();
        let (_, part) = parts.iter().find(|(part, _)| *part == name).expect("a part of this test");
        part(&arguments);
    }
}

/// The command that plays `part`.
pub fn command(part: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.env(PART, part).env(ARGUMENTS, arguments.join("\n"));
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            die_with_parent();
            Ok(())
        })
    };
    command
}

/// Starts a process that plays `part`.
pub fn start(part: &str, arguments: &[&str]) -> Process {
    command(part, arguments).spawn().unwrap().into()
}

fn die_with_parent() {
    // SAFETY: only asks for a signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Runs `body` in a forked process. Only under [`alone`]: another thread's locks would stay locked in the child.
pub fn fork(_alone: &Alone, body: impl FnOnce()) -> Process {
    // SAFETY: no other test runs, so what the child calls finds its locks free; it never returns from here.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", io::Error::last_os_error());
    if pid == 0 {
        die_with_parent();
        let outcome = catch_unwind(AssertUnwindSafe(body));
        // SAFETY: ends the child without touching what it shares with the parent.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) };
    }
    Process { pid, reaped: false }
}

pub type Alone = MutexGuard<'static, ()>;

/// Waits until no other test of this binary runs that asks for the same.
pub fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Words that the processes of a test share with each other, besides what they test.
pub struct Board(MmapRaw);

impl Board {
    pub fn at(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(4096).unwrap();
        Self(MmapOptions::new().map_raw(&file).unwrap())
    }

    pub fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < 512);
        // SAFETY: in the page, aligned, and used as an atomic only.
        unsafe { &*self.0.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    /// Returns when it was called `count` times for this word, all over.
    pub fn meet(&self, index: usize, count: u64) {
        let turn = self.word(index).fetch_add(1, Ordering::SeqCst) / count + 1;
        until(|| self.word(index).load(Ordering::SeqCst) >= turn * count);
    }
}

/// Returns when it is so.
pub fn until(mut condition: impl FnMut() -> bool) {
    let mut polls = 0;
    while !condition() {
        polls += 1;
        if polls < 1000 { std::hint::spin_loop() } else { thread::sleep(Duration::from_micros(50)) }
    }
}

/// Numbers without much order (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }
}

/// A message that shows whether it is whole and which one it is.
pub fn message(number: u64, length: usize) -> Vec<u8> {
    let mut random = Random(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let mut bytes = vec![0; length.next_multiple_of(8)];
    for chunk in bytes.chunks_exact_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    if let Some(start) = bytes.first_chunk_mut() {
        *start = number.to_le_bytes();
    }
    bytes.truncate(length);
    bytes
}

/// The number of a [`message`], which must be whole.
pub fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*bytes.first_chunk().expect("at least the number"));
    assert!(bytes == message(number, bytes.len()), "message {number} of {} bytes is torn", bytes.len());
    number
}
