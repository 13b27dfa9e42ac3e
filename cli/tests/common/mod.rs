//! Runs the built command in directories that belong to one test.
//!
//! Every wait ends after `TIMEOUT`, and every process is killed when its handle is dropped.

#![allow(dead_code)] // each test binary uses only some of it

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// A wait that takes longer fails the test.
const TIMEOUT: Duration = Duration::from_secs(60);

pub const SIGPIPE: i32 = 13;

/// More bytes than the default pipe or queue holds.
pub const LARGE: usize = 12 << 20;

/// A pipe or a queue: what `send` and `recv` go through.
pub struct Transport {
    options: &'static [&'static str],
    /// How many senders, and how many receivers, can wait under one name.
    pub places: usize,
    /// The sender whose end matters to a receiver, as messages name it.
    pub sender: &'static str,
    pub receiver: &'static str,
}

pub const PIPE: Transport = Transport { options: &[], places: 1, sender: "the sender", receiver: "the receiver" };

pub const QUEUE: Transport =
    Transport { options: &["--queue"], places: 2, sender: "the last sender", receiver: "the last receiver" };

impl Transport {
    /// Arguments of `send x`.
    pub fn send<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        [&["send", "x"], self.options, more].concat()
    }

    /// Arguments of `recv x`.
    pub fn recv<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        [&["recv", "x"], self.options, more].concat()
    }
}

/// A directory for names and one for files.
pub struct TestEnv {
    names: TempDir,
    files: TempDir,
}

impl TestEnv {
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

    /// A shell in the directory of files, for redirections, traps and limits. `$TOMBOLO` is the
    /// command, `$FILES` the directory.
    pub fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.files.path());
        command.env("TOMBOLO_DIR", self.names.path()).env("TOMBOLO", env!("CARGO_BIN_EXE_tombolo"));
        command.env("FILES", self.files.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts the command with a standard input that stays open until `close_input`.
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Process {
        Process::new(self.command(arguments).stdin(Stdio::piped()))
    }

    /// Starts the command with a file as its standard input.
    pub fn spawn_with_input<S: AsRef<OsStr>>(&self, arguments: &[S], input: &Path) -> Process {
        Process::new(self.command(arguments).stdin(File::open(input).unwrap()))
    }

    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Exited {
        Process::new(&mut self.command(arguments)).wait()
    }

    /// Runs a command that prints JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let exited = self.run(arguments);
        assert_eq!(exited.code(), 0, "{exited:?}");
        serde_json::from_slice(&exited.output).unwrap()
    }

    /// What `ls` prints, without the unnamed regions, which any process of the machine can have.
    pub fn names_json(&self) -> Value {
        let Value::Array(mut regions) = self.json(&["ls", "--json"]) else { panic!("not a list") };
        regions.retain(|region| !region["name"].as_str().unwrap().starts_with("memfd:"));
        Value::Array(regions)
    }

    /// Waits until a process has this role under this name.
    pub fn wait_for_role(&self, name: &str, role: &str) {
        self.wait_for_roles(name, role, 1);
    }

    /// Waits until exactly `count` processes have this role under this name.
    pub fn wait_for_roles(&self, name: &str, role: &str, count: usize) {
        self.wait_for_state(name, |region| {
            let users = region["participants"].as_array().unwrap();
            users.iter().filter(|user| user["part"] == role && user["standing"] == "alive").count() == count
        });
    }

    /// Waits until something has been sent.
    pub fn wait_until_sent(&self, name: &str) {
        self.wait_for_state(name, |region| count(region, "sent") > 0);
    }

    /// Waits until something has been sent and received.
    pub fn wait_until_received(&self, name: &str) {
        self.wait_for_state(name, |region| count(region, "sent") > count(region, "queued"));
    }

    /// Waits until `inspect` shows the name in this state.
    pub fn wait_for_state(&self, name: &str, is_reached: impl Fn(&Value) -> bool) {
        let started = Instant::now();
        loop {
            let exited = self.run(&["inspect", name, "--json"]);
            if exited.status.success() && is_reached(&serde_json::from_slice(&exited.output).unwrap()) {
                return;
            }
            assert!(started.elapsed() < TIMEOUT, "{name} did not get there: {exited:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for something that `inspect` does not show.
    pub fn wait_until(&self, condition: &str, is_met: impl Fn() -> bool) {
        let started = Instant::now();
        while !is_met() {
            assert!(started.elapsed() < TIMEOUT, "not met: {condition}");
            thread::yield_now();
        }
    }

    /// Starts a transfer under "x" and returns in the middle of it: the receiver has got "some of
    /// it".
    pub fn start_transfer(&self, transport: &Transport) -> (Process, Process) {
        let mut send = self.spawn(&transport.send(&[]));
        let recv = self.spawn(&transport.recv(&[]));
        send.write(b"some of it");
        self.wait_until_received("x");
        (send, recv)
    }

    pub fn assert_transfer_works(&self, transport: &Transport) {
        let data = random_bytes(2_000_003);
        let send = self.spawn_with_input(&transport.send(&[]), &self.file("whole", &data));
        let recv = self.run(&transport.recv(&[]));
        recv.assert_exit(0, "");
        assert_bytes_eq(&recv.output, &data);
        send.wait().assert_exit(0, "");
        self.assert_no_names();
    }

    pub fn assert_no_names(&self) {
        let left: Vec<_> = fs::read_dir(self.names.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
    }
}

/// `sent` or `queued` of a region with one direction.
pub fn count(region: &Value, key: &str) -> u64 {
    region["directions"][0][key].as_u64().unwrap()
}

/// A running process. Its output is read all the time. It is killed when dropped.
pub struct Process {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<JoinHandle<Vec<u8>>>,
    errors: Option<JoinHandle<Vec<u8>>>,
}

impl Process {
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

    /// Sends SIGKILL and waits until the process is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args(["-s", signal, &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    pub fn wait(mut self) -> Exited {
        let started = Instant::now();
        let (status, timed_out) = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break (status, false);
            }
            if started.elapsed() >= TIMEOUT {
                self.child.kill().unwrap();
                break (self.child.wait().unwrap(), true);
            }
            thread::sleep(Duration::from_millis(2));
        };
        let join = |reader: Option<JoinHandle<Vec<u8>>>| reader.map_or(Vec::new(), |reader| reader.join().unwrap());
        let (output, errors) = (join(self.output.take()), join(self.errors.take()));
        let exited = Exited { status, output, errors: String::from_utf8(errors).unwrap() };
        assert!(!timed_out, "it hung: {exited:?}");
        exited
    }

    /// Closes the input and waits for success.
    pub fn finish(mut self) -> Exited {
        self.close_input();
        let exited = self.wait();
        exited.assert_exit(0, "");
        exited
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A process that has ended.
pub struct Exited {
    pub status: ExitStatus,
    pub output: Vec<u8>,
    pub errors: String,
}

impl Exited {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    /// Checks the exit code, and that standard error contains `message` and nothing but our
    /// messages.
    pub fn assert_exit(&self, code: i32, message: &str) {
        assert_eq!(self.code(), code, "{self:?}");
        assert!(self.errors.contains(message), "not {message:?}: {self:?}");
        assert!(self.errors.is_empty() || self.errors.starts_with("tombolo: "), "{self:?}");
    }

    /// Checks that the output contains `text`.
    pub fn assert_shows(&self, text: &str) {
        assert!(self.text().contains(text), "not {text:?}: {}", self.text());
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.output).unwrap()
    }
}

impl std::fmt::Debug for Exited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {} bytes of output, errors: {}", self.status, self.output.len(), self.errors)
    }
}

/// Bytes that look random and are the same in each run.
pub fn random_bytes(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Like `assert_eq`, but does not print megabytes.
pub fn assert_bytes_eq(found: &[u8], expected: &[u8]) {
    let same = found.iter().zip(expected).take_while(|(found, expected)| found == expected).count();
    assert!(found == expected, "{} of {} bytes, {same} the same", found.len(), expected.len());
}
