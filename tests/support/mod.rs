//! Child processes, temporary directories and a watchdog for the tests.
//!
//! A child process is this test binary, started again in one of its roles (`child_roles!`, [`start`]), or
//! a fork where the test is about that ([`fork`]). It is killed when its parent thread ends.

#![allow(dead_code, reason = "each test binary uses some of it")]

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

/// How long a test may take. TEST_PATIENCE sets it, in seconds.
fn time_limit() -> Duration {
    Duration::from_secs(number_from_env("TEST_PATIENCE").unwrap_or(180 * stress_factor()))
}

/// A number from the environment, by which `./check proof` makes tests longer.
fn number_from_env(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// By which factor stress tests are longer than usual. TEST_STRESS sets it.
pub fn stress_factor() -> u64 {
    number_from_env("TEST_STRESS").unwrap_or(1)
}

/// The random numbers of a stress test. TEST_SEED changes them.
pub fn stress_random(usual: u64) -> Random {
    Random(number_from_env("TEST_SEED").map_or(usual, |seed| usual ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
}

/// A value that is larger than [`on_small_stack`]'s stack.
pub type Large = [u8; 3 << 20];

pub fn large(byte: u8) -> Box<Large> {
    let mut value: Box<Large> = bytemuck::zeroed_box();
    value.fill(byte);
    value
}

/// Runs `body` in a thread with a stack of 256 KiB. A larger value on it would end the process.
pub fn on_small_stack<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    let builder = thread::Builder::new().stack_size(256 << 10);
    thread::scope(|scope| builder.spawn_scoped(scope, body).unwrap().join().unwrap())
}

/// A directory that is removed at the end of the test. If the test hangs, it ends the process.
pub struct TestDir {
    directory: PathBuf,
    _watchdog: mpsc::Sender<()>,
}

impl TestDir {
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
        let limit = time_limit();
        thread::spawn(move || {
            if alarm.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                report(&format!("{test} hangs: giving up after {limit:?}"));
                remove_all();
                // SAFETY: ends the process, and with it every process that it has started.
                unsafe { libc::_exit(99) };
            }
        });
        Self { directory, _watchdog: watchdog }
    }

    /// The directory of named regions.
    pub fn names(&self) -> PathBuf {
        self.directory.join("names")
    }

    /// The files that are left in the directory of named regions.
    pub fn leftovers(&self) -> Vec<OsString> {
        let entries = fs::read_dir(self.names()).into_iter().flatten();
        entries.map(|entry| entry.unwrap().file_name()).collect()
    }

    /// The path of any other file.
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

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Writes a line to standard error, even if the test passes.
pub fn report(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A child process. Dropping it kills it.
pub struct Process {
    pid: libc::pid_t,
    reaped: bool,
}

impl Process {
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Sends a signal. After SIGSTOP, blocks until the process has stopped: it may run on for a few
    /// microseconds.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: our own child, not reaped yet, so the number means nobody else.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0, "{}", io::Error::last_os_error());
        if signal == libc::SIGSTOP {
            // SAFETY: all zeros are a value of this C struct.
            let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
            let events = libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT;
            // SAFETY: as above, and the struct is there to be filled.
            let done = unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &mut info, events) };
            assert_eq!(done, 0, "{}", io::Error::last_os_error());
        }
    }

    /// Waits until it has ended. Returns the status of waitpid(2).
    pub fn wait(&mut self) -> libc::c_int {
        loop {
            let status = self.wait_for_stop();
            if self.reaped {
                return status;
            }
        }
    }

    /// Waits until it has ended or, if it is traced, stopped.
    pub fn wait_for_stop(&mut self) -> libc::c_int {
        let mut status = 0;
        // SAFETY: a child of ours and a place for its status.
        let pid = unsafe { libc::waitpid(self.pid, &mut status, libc::__WALL) };
        assert_eq!(pid, self.pid, "{}", io::Error::last_os_error());
        self.reaped = !libc::WIFSTOPPED(status);
        status
    }

    /// Kills it and waits until it has ended. Panics if it had ended before.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        let status = self.wait();
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL, "ended before: {status:#x}");
    }

    /// Waits until it has ended. Panics if it failed.
    pub fn finish(mut self) {
        let status = self.wait();
        assert!(
            libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            "the child process failed: status {status:#x}"
        );
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

const ROLE: &str = "TEST_PART";
const ARGUMENTS: &str = "TEST_ARGUMENTS";

/// Lists the functions that a child process can be started to run. Each gets its arguments.
#[allow(unused_macros, reason = "some test binaries only fork")]
macro_rules! child_roles {
    ($($role:ident),+ $(,)?) => {
        /// Runs the role for which this process was started, if any.
        #[test]
        fn second_process() {
            $crate::support::run_role(&[$((stringify!($role), $role as fn(&[String]))),+]);
        }
    };
}

#[allow(unused_imports, reason = "some test binaries only fork")]
pub(crate) use child_roles;

pub type Role = (&'static str, fn(&[String]));

pub fn run_role(roles: &[Role]) {
    if let Ok(name) = std::env::var(ROLE) {
        let arguments: Vec<_> = std::env::var(ARGUMENTS).unwrap().split('\n').map(String::from).collect();
        let (_, run) = roles.iter().find(|(role, _)| *role == name).expect("a role of this binary");
        run(&arguments);
    }
}

/// The command that runs `role`.
pub fn command(role: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "second_process", "--nocapture"]).stdin(Stdio::null()).stdout(Stdio::null());
    command.env(ROLE, role).env(ARGUMENTS, arguments.join("\n"));
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            die_with_parent();
            Ok(())
        })
    };
    command
}

/// Starts a child process in `role`.
pub fn start(role: &str, arguments: &[&str]) -> Process {
    command(role, arguments).spawn().unwrap().into()
}

fn die_with_parent() {
    // SAFETY: only asks for a signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Runs `body` in a forked process. Requires [`alone`]: locks of other threads would stay locked in
/// the child.
pub fn fork(_alone: &Alone, body: impl FnOnce()) -> Process {
    // SAFETY: no other test runs, so what the child calls finds its locks free; it never returns
    // from here.
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

/// Blocks until no other test of this binary holds the same guard.
pub fn alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often this thread has slept so far.
pub fn sleeps() -> u64 {
    // SAFETY: all zeros are a value of this C struct, and it is there to be filled.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
        usage
    };
    usage.ru_nvcsw as u64
}

/// Words in a file that the processes of a test share to coordinate.
pub struct SharedCounters(MmapRaw);

impl SharedCounters {
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

    /// A barrier: returns when `count` callers have called it for this word. It can be used again.
    pub fn meet(&self, index: usize, count: u64) {
        let turn = self.word(index).fetch_add(1, Ordering::SeqCst) / count + 1;
        until(|| self.word(index).load(Ordering::SeqCst) >= turn * count);
    }
}

/// Polls until `condition` is true.
pub fn until(mut condition: impl FnMut() -> bool) {
    let mut polls = 0;
    while !condition() {
        polls += 1;
        if polls < 1000 { std::hint::spin_loop() } else { thread::sleep(Duration::from_micros(50)) }
    }
}

/// Pseudorandom numbers (xorshift).
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

/// A message that contains its number and is derived from it.
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

/// The number of a [`message`]. Panics if the message is torn.
pub fn number_of(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*bytes.first_chunk().expect("at least the number"));
    assert!(bytes == message(number, bytes.len()), "message {number} of {} bytes is torn", bytes.len());
    number
}
