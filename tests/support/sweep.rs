//! The crash sweep: an operation is cut off by SIGKILL after every step that anybody else could notice, which is
//! every change of the region and every system call, one fresh victim for each; then the others must go on.
//!
//! The victim runs under ptrace: whole system calls up to the stretch of interest, single instructions within it.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::File;
use std::io;
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use memmap2::{MmapOptions, MmapRaw};

use super::support::{Alone, Process, Sandbox, alone, fork, say};

/// The region that the operation is about.
pub const NAME: &str = "wreck";

/// The two ends of the operation, for the tracer: an instruction that traps.
fn mark() {
    // SAFETY: SIGTRAP goes to the tracer.
    unsafe { std::arch::asm!("int3") };
}

struct Victim(Process);

/// Why a victim that was let go has stopped.
#[derive(PartialEq)]
enum Stopped {
    Trapped,
    InSystemCall,
}

impl Victim {
    /// Runs `prepare` and stops in front of the operation that it returns.
    fn start<O: FnOnce()>(alone: &Alone, prepare: impl FnOnce() -> O) -> Option<Self> {
        let process = fork(alone, || {
            // SAFETY: no pointers.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(77) };
            }
            let operation = prepare();
            mark();
            operation();
            mark();
        });
        let mut victim = Self(process);
        let status = victim.0.wait_for_stop();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            return None;
        }
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP, "in front: {status:#x}");
        victim.request(libc::PTRACE_SETOPTIONS, 0, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD) as usize);
        Some(victim)
    }

    fn request(&self, request: libc::c_uint, address: usize, data: usize) -> i64 {
        // SAFETY: none of the requests used here writes to this process's memory.
        unsafe { libc::ptrace(request, self.0.pid(), address, data) }
    }

    /// Lets it go until something happens.
    fn go(&mut self, request: libc::c_uint) -> Stopped {
        let mut signal = 0;
        loop {
            assert_eq!(self.request(request, 0, signal), 0, "{}", io::Error::last_os_error());
            let status = self.0.wait_for_stop();
            assert!(libc::WIFSTOPPED(status), "the operation itself failed: {status:#x}");
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => return Stopped::Trapped,
                stop if stop == libc::SIGTRAP | 0x80 => return Stopped::InSystemCall,
                other => signal = other as usize,
            }
        }
    }

    /// The code at the instruction pointer.
    fn code(&self) -> [u8; 8] {
        const RIP: usize = 16 * 8; // in struct user_regs_struct
        let at = self.request(libc::PTRACE_PEEKUSER, RIP, 0);
        // At the end of a mapping there is no whole word left: no system call either.
        self.request(libc::PTRACE_PEEKTEXT, at as usize, 0).to_le_bytes()
    }
}

/// The region as it lies in memory, if it has its name already.
struct Image {
    map: Option<MmapRaw>,
    bytes: Vec<u8>,
}

impl Image {
    fn of(path: &Path) -> Self {
        let map = File::open(path).ok().map(|file| MmapOptions::new().map_raw_read_only(&file).unwrap());
        let mut image = Self { map, bytes: Vec::new() };
        image.has_changed();
        image
    }

    /// Since the last time.
    fn has_changed(&mut self) -> bool {
        let Some(map) = &self.map else { return false };
        // SAFETY: the whole mapping, read only; who could write it is stopped, or is this thread.
        let now = unsafe { &*ptr::slice_from_raw_parts(map.as_ptr(), map.len()) };
        let changed = self.bytes != now;
        if changed {
            self.bytes = now.to_vec();
        }
        changed
    }
}

/// A place to die: so many system calls into the operation, and so many changes of the region after that.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    calls: usize,
    changes: usize,
}

/// What a victim met on its way from one point to the next.
enum Met {
    Point(Point),
    /// The operation was over before.
    End,
    /// Changes of the region: the same way again, with a closer look.
    Changes,
}

impl Point {
    /// Runs the victim there and on to the next point, `closely` by single instructions, else by whole system calls.
    fn next(self, victim: &mut Victim, region: &Path, closely: bool) -> Met {
        for _ in 0..2 * self.calls {
            if victim.go(libc::PTRACE_SYSCALL) == Stopped::Trapped {
                return Met::End;
            }
        }
        let mut image = Image::of(region);
        if !closely {
            let stopped = victim.go(libc::PTRACE_SYSCALL);
            if image.has_changed() {
                return Met::Changes;
            }
            if stopped == Stopped::Trapped {
                return Met::End;
            }
            victim.go(libc::PTRACE_SYSCALL);
            return Met::Point(Self { calls: self.calls + 1, changes: 0 });
        }
        let mut changes = 0;
        loop {
            match victim.code() {
                [0xCC, ..] => return Met::End,
                [0x0F, 0x05, ..] => {
                    victim.go(libc::PTRACE_SINGLESTEP);
                    return Met::Point(Self { calls: self.calls + 1, changes: 0 });
                }
                _ => victim.go(libc::PTRACE_SINGLESTEP),
            };
            if image.has_changed() {
                changes += 1;
                if changes > self.changes {
                    return Met::Point(Self { changes, ..self });
                }
            }
        }
    }
}

/// How many points a sweep has gone through, by kind.
#[derive(Debug, Default)]
pub struct Swept {
    pub calls: usize,
    pub changes: usize,
}

impl Swept {
    /// What the sweep of an operation must have met at least.
    pub fn covers(&self, calls: usize, changes: usize) {
        assert!(self.calls >= calls && self.changes >= changes, "{self:?} of at least {calls} and {changes}");
    }
}

/// Kills a victim after each step of its operation. For each, `before` makes what it finds, `prepare` runs in the victim
/// and returns the operation, `after` looks at what is left, as the survivor and as the next one who comes.
pub fn sweep<S, O: FnOnce()>(
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    after: impl Fn(&Path, S),
) -> Swept {
    let alone = alone();
    let mut swept = Swept::default();
    let mut point = Point::default();
    let mut closely = false;
    loop {
        let sandbox = Sandbox::new();
        let names = sandbox.names();
        let survivor = before(&names);
        let Some(mut victim) = Victim::start(&alone, || prepare(&names)) else {
            say("SKIPPED: ptrace is not permitted here, nothing was swept");
            return Swept { calls: usize::MAX, changes: usize::MAX };
        };
        let met = point.next(&mut victim, &names.join(NAME), closely);
        match met {
            Met::Point(next @ Point { changes: 0, .. }) => {
                (point, closely, swept.calls) = (next, false, swept.calls + 1)
            }
            Met::Point(next) => (point, swept.changes) = (next, swept.changes + 1),
            Met::Changes => {
                closely = true;
                continue;
            }
            Met::End => {}
        }
        victim.0.kill();
        after(&names, survivor);
        assert_eq!(sandbox.litter(), [""; 0], "left behind by a victim killed at {point:?}");
        if let Met::End = met {
            say(&format!("{}: {swept:?}", thread::current().name().unwrap_or_default()));
            return swept;
        }
    }
}

/// Within a sweep: kills another process, after so many changes of the region by its operation. False: it did not make so many,
/// or ptrace is not permitted.
pub fn wreck<O: FnOnce()>(names: &Path, changes: usize, prepare: impl FnOnce() -> O) -> bool {
    static WITHIN: Mutex<()> = Mutex::new(());
    let within = WITHIN.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(mut victim) = Victim::start(&within, prepare) else { return false };
    let met = Point { calls: 0, changes: changes - 1 }.next(&mut victim, &names.join(NAME), true);
    victim.0.kill();
    matches!(met, Met::Point(Point { changes: met, .. }) if met == changes)
}
