//! The child's side: from the first line of `main` to its exit.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::parent_id;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::{env, io, mem, thread};

use crate::error::{Error, ErrorKind, Result};
use crate::process::report::{self, Place, State};
use crate::process::start::{PARENT, PID, Start, read_word};
use crate::sys::fork::{ForkGuardedFd, ForkSafe};
use crate::sys::program::Program;
use crate::sys::{child, process};

/// The environment variable that tells a child which descriptor has what it is to do.
pub(super) const VARIABLE: &str = "TOMBOLO_PROCESS";

/// What a child exits with that cannot run its function: EX_SOFTWARE of sysexits.h.
const REFUSED: i32 = 70;

/// What Rust's `main` exits with after a panic.
const PANICKED: i32 = 101;

/// How this program lets its children in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Entrance {
    is_initialised: bool,
    /// The test that calls `init`, if this is a test binary.
    pub(super) test: Option<&'static str>,
}

static ENTRANCE: ForkSafe<Entrance> = ForkSafe::new();

/// Runs the function if this process was started by [`Process::spawn`](super::Process::spawn).
/// Otherwise returns at once.
///
/// Call it first in `main`: a child of this program runs `main` up to this call, and no further.
/// Until it was called [`Process::spawn`](super::Process::spawn) refuses. So a program that forgets
/// it starts nothing, and neither does a child that does not get here.
///
/// When the function has returned, the process exits with code 0, or with what the function's
/// result says, see [`Termination`](std::process::Termination). After a panic the code is 101.
///
/// It removes an environment variable, so no other thread may use the environment meanwhile, unless
/// by [`std::env`](mod@std::env).
///
/// Do not call it in an async runtime. Under `#[tokio::main]` all of `main` is in one: each child
/// would start the runtime, too, and the function would run in it, where it can neither start one
/// of its own nor block on a future.
///
/// # Examples
/// ```
/// fn main() {
///     tombolo::process::init();
///     // the program
/// }
/// ```
///
/// With tokio:
///
/// ```
/// fn main() -> std::io::Result<()> {
///     tombolo::process::init();
///     tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
///         // the program
///         Ok(())
///     })
/// }
/// ```
#[allow(clippy::needless_doctest_main, reason = "that it is called there is what the example shows")]
pub fn init() {
    match env::var_os(VARIABLE) {
        None => open_entrance(|entrance| entrance.is_initialised = true),
        Some(description) => {
            child::remove_variable(VARIABLE);
            std::process::exit(run(&description));
        }
    }
}

/// For [`init_in_tests`](crate::process::init_in_tests).
#[doc(hidden)]
pub fn register_test(path: &'static str) {
    // Without the name of the crate, as the test harness has it.
    let test = path.split_once("::").map(|(_, path)| path);
    open_entrance(|entrance| *entrance = Entrance { is_initialised: true, test });
}

fn open_entrance(open: impl FnOnce(&mut Entrance)) {
    Program::own();
    ENTRANCE.with(open);
}

/// Returns how children get in.
pub(super) fn entrance() -> Result<Entrance> {
    let entrance = ENTRANCE.with(|entrance| *entrance);
    let refuse = |kind, found, remedy| {
        Err(Error::new(kind, "spawn a process", found, "a program whose children run their functions", remedy))
    };
    if env::var_os(VARIABLE).is_some() {
        return refuse(
            ErrorKind::NotInitialised,
            "a process that was spawned itself and has not called tombolo::process::init()",
            "call it first in main, before anything that spawns",
        );
    }
    if !entrance.is_initialised {
        return refuse(
            ErrorKind::NotInitialised,
            "a main that has not called tombolo::process::init()",
            "call it first in main; in tests write tombolo::process::init_in_tests!() once in the test binary",
        );
    }
    if process::has_untrusted_environment() {
        return refuse(
            ErrorKind::Permission,
            "more rights than those of the user that started this program (set-user-ID, capabilities, or a change of \
             the SELinux or AppArmor domain)",
            "use Command and CommandExt::pass, or give up the rights before the program is executed",
        );
    }
    Ok(entrance)
}

/// Runs the function. Returns the exit code.
fn run(description: &OsStr) -> i32 {
    // child-3: the program is executed, and this is its main
    let Some(file) = take_file(description) else {
        let description = description.display();
        return refuse(format_args!(
            "found {VARIABLE}={description}, and no such file that is for this process; find out what closes \
             descriptors, what killed the process that was spawning it, or which process above it has not called \
             tombolo::process::init()"
        ));
    };
    let file = Arc::new(file);
    let outcome = Start::read(&file).and_then(|start| {
        ENTRANCE.with(|entrance| entrance.is_initialised = true);
        State::Started.write(&file); // child-4
        settle_in(&start);
        report_panics(&file);
        let descriptors = take_descriptors(&start)?;
        let Start { function, arguments, .. } = start;
        Ok(panic::catch_unwind(AssertUnwindSafe(|| function.call(arguments, descriptors))))
    });
    match outcome {
        Ok(Ok(Ok(code))) => {
            let code = number(code);
            State::Returned(code).write(&file); // child-6; child-5 is the function itself
            i32::from(code)
        }
        Ok(Err(payload)) => {
            report::attribute_panic(&file, &*payload);
            // Dropping it runs code of the program, which may panic.
            mem::forget(payload);
            State::Panicked.write(&file);
            PANICKED
        }
        Err(error) | Ok(Ok(Err(error))) => {
            report::refuse(&file, &error.to_string());
            refuse(error)
        }
    }
}

/// The file that the variable describes, if it is for this process.
fn take_file(description: &OsStr) -> Option<ForkGuardedFd> {
    // No other user may choose the function.
    if process::has_untrusted_environment() {
        return None;
    }
    let file = ForkGuardedFd::new(|| {
        process::take_inherited(description.to_str().unwrap_or_default()).ok_or(io::ErrorKind::NotFound.into())
    });
    file.ok().filter(is_for_this_process)
}

/// A process that did not take the file may have passed it on.
fn is_for_this_process(file: &ForkGuardedFd) -> bool {
    let [pid, parent] = [PID, PARENT].map(|place| read_word(file, place).unwrap_or_default());
    // Without a fork our parent writes our pid, and may have come no further than to start us.
    pid == u64::from(std::process::id()) || pid == 0 && parent == u64::from(parent_id())
}

/// Makes this process what its parent wants it to be.
fn settle_in(start: &Start) {
    if let Some(pipe) = start.killed_by.as_deref().and_then(process::take_inherited) {
        // Once more: our parent may have been killed before it has done that.
        if child::is_killed_at_hang_up(pipe.as_raw_fd(), std::process::id()).unwrap_or(false) {
            std::process::exit(1);
        }
        // Open until this process ends.
        mem::forget(pipe);
    }
    if let Some(stdout) = start.stdout {
        child::restore_stdout(stdout);
    }
    // The kernel has named it after /proc/self/exe.
    let program = env::args_os().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default();
    child::set_name(start.name.as_deref().map_or(program.as_bytes(), str::as_bytes));
}

fn take_descriptors(start: &Start) -> Result<Vec<OwnedFd>> {
    let taken: Vec<_> =
        start.descriptors.iter().filter_map(|description| process::take_inherited(description)).collect();
    if taken.len() < start.descriptors.len() {
        return Err(Error::new(
            ErrorKind::NotFound,
            "take the arguments of this process",
            format_args!("{} of their descriptors", taken.len()),
            format_args!("{} that were passed", start.descriptors.len()),
            "find out what closes descriptors before main calls tombolo::process::init()",
        ));
    }
    Ok(taken)
}

/// Has every panic written down before it is printed.
fn report_panics(file: &Arc<ForkGuardedFd>) {
    let (file, own) = (Arc::clone(file), thread::current().id());
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = if thread::current().id() == own { Place::Own } else { Place::Other };
        report::report_panic(&file, place, &report::describe(info));
        print(info);
    }));
}

/// The number in an exit code, which std does not give.
fn number(code: ExitCode) -> u8 {
    (0..=u8::MAX).find(|&number| ExitCode::from(number) == code).unwrap_or(1)
}

/// Says why nothing runs, to those that read standard error. Returns the exit code.
fn refuse(reason: impl Display) -> i32 {
    let _ = writeln!(io::stderr(), "tombolo: this process cannot run its function: {reason}");
    REFUSED
}
