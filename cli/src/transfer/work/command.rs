//! The command that `work` runs for each message, and one run of it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::{Access, MemfdFlags, access, memfd_create};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::failure::Failure;

const PLACEHOLDER: &[u8] = b"{}";

/// A command whose arguments may contain the placeholder.
pub struct Template {
    arguments: Vec<OsString>,
    has_placeholder: bool,
    /// Ends a message that is the standard input.
    line_end: &'static [u8],
}

/// How a run ended.
pub enum Run {
    /// What the command printed.
    Succeeded(Vec<u8>),
    Failed(String),
    /// It fails each time, for this message.
    Impossible(&'static str),
    /// It did not run, since the process group was stopped.
    Stopped,
}

impl Template {
    /// Fails if there is no such program: the first message would be lost by that.
    pub fn new(arguments: &[OsString], lines: bool) -> Result<Self, Failure> {
        let has_placeholder = |argument: &OsString| find(argument.as_bytes(), PLACEHOLDER).is_some();
        match arguments.first() {
            Some(program) if !has_placeholder(program) && !is_program(program) => {
                return Err(Failure::Usage(format!("cannot run {program:?}: no such program")));
            }
            _ => {}
        }
        Ok(Self {
            has_placeholder: arguments.iter().any(has_placeholder),
            arguments: arguments.to_vec(),
            line_end: if lines { b"\n" } else { b"" },
        })
    }

    /// What is likely to be a mistake in the arguments.
    pub fn warning(&self) -> Option<&'static str> {
        let shell = self.arguments.iter().position(|argument| is_shell(argument))?;
        let (script, name) = script_and_name(self.arguments.get(shell + 1..)?)?;
        let uses_name = [b"$0".as_slice(), b"${0"].iter().any(|word| find(script.as_bytes(), word).is_some());
        let is_lost = find(name.as_bytes(), PLACEHOLDER).is_some() && !uses_name;
        is_lost.then_some("the shell takes the argument behind the script as its name, $0: write `sh -c SCRIPT sh {}`")
    }

    /// Runs the command once, in `group`.
    pub fn run(&self, message: &[u8], group: &Group) -> io::Result<Run> {
        if self.has_placeholder && message.contains(&0) {
            return Ok(Run::Impossible("it has a NUL byte, which no argument can have"));
        }
        let mut arguments = self.arguments.iter().map(|argument| fill(argument, message));
        let mut command = Command::new(arguments.next().unwrap_or_default());
        command.args(arguments).stdin(self.input(message)?).stdout(Stdio::piped()).process_group(0);
        let mut child = match group.start(&mut command) {
            Ok(Some(child)) => child,
            Ok(None) => return Ok(Run::Stopped),
            Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => {
                return Ok(Run::Impossible("it is too long for an argument"));
            }
            Err(error) => return Err(error),
        };
        let mut output = Vec::new();
        let read = child.stdout.take().map_or(Ok(0), |mut stdout| stdout.read_to_end(&mut output));
        let status = group.reap(|| child.wait())?;
        read?;
        Ok(if status.success() { Run::Succeeded(output) } else { Run::Failed(status.to_string()) })
    }

    /// A file in memory: nobody has to feed it, whether the command reads it or not.
    fn input(&self, message: &[u8]) -> io::Result<Stdio> {
        if self.has_placeholder {
            return Ok(Stdio::null());
        }
        let mut file = File::from(memfd_create("message", MemfdFlags::CLOEXEC)?);
        file.write_all(message)?;
        file.write_all(self.line_end)?;
        file.rewind()?;
        Ok(file.into())
    }
}

/// The processes of one run, while there are any.
#[derive(Default)]
pub struct Group {
    state: Mutex<State>,
    stopped: Condvar,
}

#[derive(Default)]
struct State {
    leader: Option<Pid>,
    is_stopped: bool,
}

impl Group {
    /// Starts the leader. Returns `None` if the group was stopped.
    fn start(&self, command: &mut Command) -> io::Result<Option<std::process::Child>> {
        let mut state = self.lock();
        if state.is_stopped {
            return Ok(None);
        }
        let child = command.spawn()?;
        state.leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        Ok(Some(child))
    }

    /// Waits for the leader. `wait` reaps it.
    fn reap<T>(&self, wait: impl FnOnce() -> T) -> T {
        let leader = self.lock().leader;
        if let Some(leader) = leader {
            let _ = rustix::io::retry_on_intr(|| {
                waitid(WaitId::Pid(leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
            });
        }
        // As soon as it is reaped, another process can have its number.
        let mut state = self.lock();
        state.leader = None;
        wait()
    }

    /// Sends a signal to the processes, and lets no others start.
    pub fn stop(&self, signal: Signal) {
        let mut state = self.lock();
        state.is_stopped = true;
        self.stopped.notify_all();
        if let Some(leader) = state.leader {
            let _ = kill_process_group(leader, signal);
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.lock().is_stopped
    }

    /// Waits for that long. Returns true, at once, if the group is stopped.
    pub fn is_stopped_within(&self, delay: Duration) -> bool {
        let waited = self.stopped.wait_timeout_while(self.lock(), delay, |state| !state.is_stopped);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_stopped
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_shell(argument: &OsStr) -> bool {
    let name = Path::new(argument).file_name().and_then(OsStr::to_str);
    name.is_some_and(|name| ["sh", "bash", "dash", "ash", "ksh", "mksh", "zsh"].contains(&name))
}

/// The script of a shell's option `-c`, and the argument behind it.
fn script_and_name(arguments: &[OsString]) -> Option<(&OsStr, &OsStr)> {
    let mut rest = arguments.iter().map(OsString::as_os_str);
    loop {
        match rest.next()?.as_bytes() {
            [b'-', b'-', ..] => {}
            [b'-', flags @ ..] if flags.contains(&b'c') => return rest.next().zip(rest.next()),
            [b'-' | b'+', flags @ ..] if flags.ends_with(b"o") => drop(rest.next()), // the name of an option
            [b'-' | b'+', ..] => {}
            _ => return None,
        }
    }
}

/// Whether the system would find and run this program.
fn is_program(program: &OsStr) -> bool {
    let can_run = |path: &Path| path.is_file() && access(path, Access::EXEC_OK).is_ok();
    if program.as_bytes().contains(&b'/') {
        return can_run(Path::new(program));
    }
    env::var_os("PATH").is_none_or(|path| env::split_paths(&path).any(|directory| can_run(&directory.join(program))))
}

/// Replaces each placeholder.
fn fill(argument: &OsStr, message: &[u8]) -> OsString {
    let mut rest = argument.as_bytes();
    let mut filled = Vec::new();
    while let Some(at) = find(rest, PLACEHOLDER) {
        let (before, from) = rest.split_at(at);
        filled.extend_from_slice(before);
        filled.extend_from_slice(message);
        rest = from.get(PLACEHOLDER.len()..).unwrap_or_default();
    }
    filled.extend_from_slice(rest);
    OsString::from_vec(filled)
}

fn find(argument: &[u8], word: &[u8]) -> Option<usize> {
    argument.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder_anywhere_is_replaced_once() {
        let fill = |argument: &str, message: &str| fill(argument.as_ref(), message.as_bytes());
        assert_eq!(fill("{}", "a b"), "a b");
        assert_eq!(fill("--in={}.wav,{}", "x"), "--in=x.wav,x");
        assert_eq!(fill("{}{", "{}"), "{}{", "what was filled in is not searched");
        assert_eq!(fill("{ }", "x"), "{ }");
    }

    #[test]
    fn shell_that_takes_the_message_as_its_name_is_warned_of() {
        let has_warning = |arguments: &[&str]| {
            let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
            Template::new(&arguments, false).unwrap().warning().is_some()
        };
        for wrong in [
            &["sh", "-c", "gzip \"$1\"", "{}"][..],
            &["/bin/sh", "-ec", "gzip", "--in={}"],
            &["env", "sh", "-eu", "-o", "noglob", "-c", "gzip", "{}", "{}"],
        ] {
            assert!(has_warning(wrong), "{wrong:?}");
        }
        for right in [
            &["sh", "-c", "gzip \"$1\"", "sh", "{}"][..],
            &["sh", "-c", "gzip \"$0\"", "{}"],
            &["sh", "-c", "gzip \"${0%.txt}\"", "{}"],
            &["sh", "-c", "cat"],
            &["sh", "script", "-c", "a", "{}"],
            &["echo", "-c", "a", "{}"],
        ] {
            assert!(!has_warning(right), "{right:?}");
        }
    }

    #[test]
    fn program_that_is_not_there_is_refused() {
        let template = |program: &str| Template::new(&[program.into()], false);
        assert!(template("sh").is_ok() && template("/bin/sh").is_ok() && template("{}").is_ok());
        assert!(template("/bin").is_err() && template("no-such-program").is_err());
    }
}
