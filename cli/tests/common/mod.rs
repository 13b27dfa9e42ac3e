//! Real processes of the built command, each test with names of its own. Nothing here waits for ever, and nothing is left.

#![allow(dead_code)] // each test binary uses its part

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A hung process fails its test, and does not hang it.
const WATCHDOG: Duration = Duration::from_secs(60);

/// A directory of names and one for files.
pub struct World {
    names: TempDir,
    files: TempDir,
}

impl World {
    pub fn new() -> Self {
        let names = if Path::new("/dev/shm").is_dir() { TempDir::new_in("/dev/shm") } else { TempDir::new() };
        Self { names: names.unwrap(), files: TempDir::new().unwrap() }
    }

    pub fn names(&self) -> &Path {
        self.names.path()
    }

    pub fn name_path(&self, name: &str) -> PathBuf {
        self.names.path().join(name)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.files.path().join(file)
    }

    pub fn file(&self, file: &str, content: &[u8]) -> PathBuf {
        let path = self.path(file);
        fs::write(&path, content).unwrap();
        path
    }

    pub fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
        command.args(arguments).env("TOMBOLO_DIR", self.names.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts it; its standard input stays open until it is closed or the process is gone.
    pub fn start<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Running {
        Running::new(self.command(arguments).stdin(Stdio::piped()))
    }

    /// Starts it with this standard input.
    pub fn start_with<S: AsRef<OsStr>>(&self, arguments: &[S], input: &Path) -> Running {
        Running::new(self.command(arguments).stdin(File::open(input).unwrap()))
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Ended {
        Running::new(&mut self.command(arguments)).end()
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.run(arguments);
        assert_eq!(ended.code(), 0, "{ended:?}");
        serde_json::from_slice(&ended.output).unwrap()
    }

    /// Waits until that part of that name is taken.
    pub fn await_part(&self, name: &str, part: &str) {
        self.await_parts(name, part, 1);
    }

    /// Waits until that part of that name is taken by so many.
    pub fn await_parts(&self, name: &str, part: &str, count: usize) {
        self.await_state(name, |region| {
            let users = region["participants"].as_array().unwrap();
            users.iter().filter(|user| user["part"] == part && user["standing"] == "alive").count() == count
        });
    }

    /// Waits until so much has been sent.
    pub fn await_sent(&self, name: &str, bytes: u64) {
        self.await_state(name, |region| region["directions"][0]["sent"].as_u64() >= Some(bytes));
    }

    /// Waits until the receiver has taken something: one that is killed earlier may never have been there.
    pub fn await_taken(&self, name: &str) {
        let count = |region: &Value, what: &str| region["directions"][0][what].as_u64().unwrap();
        self.await_state(name, |region| count(region, "sent") > count(region, "queued"));
    }

    pub fn await_state(&self, name: &str, good: impl Fn(&Value) -> bool) {
        let started = Instant::now();
        loop {
            let ended = self.run(&["inspect", name, "--json"]);
            if ended.status.success() && good(&serde_json::from_slice(&ended.output).unwrap()) {
                return;
            }
            assert!(started.elapsed() < WATCHDOG, "{name} did not get there: {ended:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until something is so that no process reports.
    pub fn await_that(&self, what: &str, good: impl Fn() -> bool) {
        let started = Instant::now();
        while !good() {
            assert!(started.elapsed() < WATCHDOG, "not so: {what}");
            thread::yield_now();
        }
    }

    pub fn assert_no_names(&self) {
        let left: Vec<_> = fs::read_dir(self.names.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// A process, with what it prints being read. It is killed when dropped.
pub struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<thread::JoinHandle<Vec<u8>>>,
    errors: Option<thread::JoinHandle<Vec<u8>>>,
}

impl Running {
    pub fn new(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let output = child.stdout.take().map(read_all);
        let errors = child.stderr.take().map(read_all);
        Self { child, input, output, errors }
    }

    pub fn pid(&self) -> u64 {
        self.child.id().into()
    }

    pub fn write(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// SIGKILL, and it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn end(mut self) -> Ended {
        let started = Instant::now();
        let (status, hung) = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break (status, false);
            }
            if started.elapsed() >= WATCHDOG {
                self.child.kill().unwrap();
                break (self.child.wait().unwrap(), true);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let read = |thread: Option<thread::JoinHandle<Vec<u8>>>| thread.map_or(Vec::new(), |it| it.join().unwrap());
        let (output, errors) = (read(self.output.take()), read(self.errors.take()));
        let ended = Ended { status, output, errors: String::from_utf8(errors).unwrap() };
        assert!(!hung, "it hung: {ended:?}");
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

pub struct Ended {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub errors: String,
}

impl Ended {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// It ended with this code, and said this, in one line of ours, to whoever reads errors.
    pub fn expect(&self, code: i32, said: &str) {
        assert_eq!(self.code(), code, "{self:?}");
        assert!(self.errors.contains(said), "not {said:?}: {self:?}");
        assert!(self.errors.is_empty() || self.errors.starts_with("tombolo: "), "{self:?}");
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} bytes of output, errors: {}", self.status, self.output.len(), self.errors)
    }
}

/// Bytes that repeat only after a long while.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Not with `assert_eq`: a difference of megabytes is not to be printed.
pub fn assert_same(found: &[u8], expected: &[u8]) {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    assert!(found == expected, "{} of {} bytes, {same} the same", found.len(), expected.len());
}
