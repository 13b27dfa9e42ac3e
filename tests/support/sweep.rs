//! The crash sweep: an operation is cut off by SIGKILL after every step that anybody else could notice, which is
//! every change of the region and every system call, one fresh victim for each; then the others must go on.
//!
//! The victim runs under ptrace: from system call to system call, and within the stretch of interest from change to
//! change, for which it is made to find its region read-only. In between it runs at full speed, and its clocks are right.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs::{self, File};
use std::io;
use std::mem::{forget, zeroed};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::Path;
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::thread;

use memmap2::{MmapOptions, MmapRaw};

use super::support::{Alone, Process, Sandbox, alone, fork, say};

/// The region that the operation is about.
pub const NAME: &str = "wreck";

/// The two ends of the operation, for the tracer: an instruction that traps. Behind it, one to lead the victim to.
pub fn mark() {
    // SAFETY: SIGTRAP goes to the tracer; nobody gets to the system call by himself.
    unsafe { std::arch::asm!("int3", "jmp 2f", "syscall", "2:") };
}

struct Victim {
    process: Process,
    /// Where [`mark`] has its system call.
    call: u64,
    /// It finds its region read-only.
    guarded: bool,
}

/// Why a victim that was let go has stopped.
#[derive(PartialEq)]
enum Stopped {
    Trapped,
    InSystemCall,
    Writing,
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
            // No long way out that would be swept as well.
            panic::set_hook(Box::new(|panic| {
                say(&format!("the victim itself: {panic}"));
                // SAFETY: ends the child.
                unsafe { libc::_exit(101) };
            }));
            let operation = prepare();
            mark();
            operation();
            mark();
        });
        let mut victim = Self { process, call: 0, guarded: false };
        let status = victim.process.wait_for_stop();
        if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 77 {
            return None;
        }
        assert!(libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP, "in front: {status:#x}");
        victim.request(libc::PTRACE_SETOPTIONS, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD) as usize);
        victim.call = victim.registers().rip + 2;
        Some(victim)
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: one of the requests used here writes to this process's memory, where its caller has the place for it.
        let done = unsafe { libc::ptrace(request, self.process.pid(), 0, data) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }

    fn registers(&self) -> libc::user_regs_struct {
        // SAFETY: numbers.
        let mut registers: libc::user_regs_struct = unsafe { zeroed() };
        self.request(libc::PTRACE_GETREGS, &raw mut registers as usize);
        registers
    }

    fn set_registers(&self, registers: &libc::user_regs_struct) {
        self.request(libc::PTRACE_SETREGS, ptr::from_ref(registers) as usize);
    }

    /// Lets it go until something happens.
    fn go(&mut self, request: libc::c_uint) -> Stopped {
        let mut signal = 0;
        loop {
            self.request(request, signal);
            let status = self.process.wait_for_stop();
            assert!(libc::WIFSTOPPED(status), "the operation itself failed: {status:#x}");
            match libc::WSTOPSIG(status) {
                libc::SIGTRAP => return Stopped::Trapped,
                libc::SIGSEGV if self.guarded => return Stopped::Writing,
                stop if stop == libc::SIGTRAP | 0x80 => return Stopped::InSystemCall,
                other => signal = other as usize,
            }
        }
    }

    /// Goes on until it has made so many system calls. False: the operation was over before.
    fn pass_calls(&mut self, calls: usize) -> bool {
        (0..2 * calls).all(|_| self.go(libc::PTRACE_SYSCALL) == Stopped::InSystemCall)
    }

    /// Goes on until it has changed the region so many times. False: it came to a system call, or to the end, before.
    fn pass_changes(&mut self, region: &Path, changes: usize) -> bool {
        let mappings = self.mappings(region);
        let mut image = Image::of(region);
        (0..changes).all(|_| {
            loop {
                self.protect(&mappings, true);
                if self.go(libc::PTRACE_SYSCALL) != Stopped::Writing {
                    return false;
                }
                self.protect(&mappings, false);
                self.go(libc::PTRACE_SINGLESTEP);
                // Not every write is a change.
                if image.has_changed() {
                    return true;
                }
            }
        })
    }

    /// Where it has the region in its memory.
    fn mappings(&self, region: &Path) -> Vec<Range<u64>> {
        let Ok(facts) = fs::metadata(region) else { return Vec::new() };
        // By its number: the name in the list is the one that the file had when it was opened, if any.
        let (device, file) = (facts.dev(), facts.ino().to_string());
        let device = format!("{:02x}:{:02x}", libc::major(device), libc::minor(device));
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.process.pid())).unwrap();
        let mut mappings = Vec::new();
        for fields in maps.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>()) {
            if fields[3..5] == [&device, &file] {
                let (start, end) = fields[0].split_once('-').unwrap();
                mappings.push(u64::from_str_radix(start, 16).unwrap()..u64::from_str_radix(end, 16).unwrap());
            }
        }
        mappings
    }

    /// Has it call mprotect(2).
    fn protect(&mut self, mappings: &[Range<u64>], guarded: bool) {
        self.guarded = false;
        let registers = self.registers();
        let protection = libc::PROT_READ | if guarded { 0 } else { libc::PROT_WRITE };
        for mapping in mappings {
            self.set_registers(&libc::user_regs_struct {
                rip: self.call,
                rax: libc::SYS_mprotect as u64,
                orig_rax: u64::MAX, // it is in no other system call that could be begun anew
                rdi: mapping.start,
                rsi: mapping.end - mapping.start,
                rdx: protection as u64,
                ..registers
            });
            self.go(libc::PTRACE_SINGLESTEP);
            assert_eq!(self.registers().rax, 0, "mprotect");
        }
        self.set_registers(&registers);
        self.guarded = guarded;
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
        // SAFETY: the whole mapping, read only; the victim is stopped. What others write meanwhile counts as a change.
        let now = unsafe { &*ptr::slice_from_raw_parts(map.as_ptr(), map.len()) };
        let changed = self.bytes != now;
        if changed {
            self.bytes = now.to_vec();
        }
        changed
    }
}

/// A place to die: so many system calls into the operation, and so many changes of the region after that.
#[derive(Clone, Copy, Debug)]
struct Point {
    calls: usize,
    changes: usize,
}

/// Says where the victim was with which something went wrong.
struct Failing(Point);

impl Drop for Failing {
    fn drop(&mut self) {
        say(&format!("the victim's end: {:?}", self.0));
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
    sweep_first(usize::MAX, before, prepare, after)
}

/// As [`sweep`], of an operation that does not end: its first so many system calls, and what lies between.
pub fn sweep_first<S, O: FnOnce()>(
    calls: usize,
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    after: impl Fn(&Path, S),
) -> Swept {
    sweep_points(calls, before, prepare, |_, _, _| {}, after)
}

/// As [`sweep`], but at each point the victim is only stopped, while `meanwhile` runs; then it comes to its end.
pub fn sweep_stopping<S, O: FnOnce()>(
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    meanwhile: impl Fn(&Path, &S),
    after: impl Fn(&Path, S),
) -> Swept {
    let stop = |victim: &mut Victim, names: &Path, survivor: &S| {
        meanwhile(names, survivor);
        while victim.go(libc::PTRACE_SYSCALL) != Stopped::Trapped {}
    };
    sweep_points(usize::MAX, before, prepare, stop, after)
}

fn sweep_points<S, O: FnOnce()>(
    calls: usize,
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    there: impl Fn(&mut Victim, &Path, &S),
    after: impl Fn(&Path, S),
) -> Swept {
    let alone = alone();
    // One victim's end; whether it got there. None: it may not be traced.
    let sacrifice = |point: Point| {
        let sandbox = Sandbox::new();
        let names = sandbox.names();
        let survivor = before(&names);
        let mut victim = Victim::start(&alone, || prepare(&names))?;
        let failing = Failing(point);
        let reached = match point {
            Point { calls, changes: 0 } => victim.pass_calls(calls),
            Point { calls, changes } => victim.pass_calls(calls) && victim.pass_changes(&names.join(NAME), changes),
        };
        if reached {
            there(&mut victim, &names, &survivor);
        }
        victim.process.kill();
        after(&names, survivor);
        assert_eq!(sandbox.litter(), [""; 0], "left behind");
        forget(failing);
        Some(reached)
    };
    let mut swept = Swept::default();
    let mut point = Point { calls: 0, changes: 1 };
    while swept.calls < calls {
        let Some(reached) = sacrifice(point) else {
            say("SKIPPED: ptrace is not permitted here, nothing was swept");
            return Swept { calls: usize::MAX, changes: usize::MAX };
        };
        match (reached, point.changes) {
            // The next change; after the last one the next call, and what that leads to.
            (true, 0) => (point.changes, swept.calls) = (1, swept.calls + 1),
            (true, _) => (point.changes, swept.changes) = (point.changes + 1, swept.changes + 1),
            (false, 0) => break,
            (false, _) => point = Point { calls: point.calls + 1, changes: 0 },
        }
    }
    say(&format!("{}: {swept:?}", thread::current().name().unwrap_or_default()));
    swept
}

/// What [`fork`] asks for, within a sweep.
pub fn within() -> Alone {
    static WITHIN: Mutex<()> = Mutex::new(());
    WITHIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Within a sweep: kills another process, after so many changes of the region by its operation. False: it did not make so many,
/// or ptrace is not permitted.
pub fn wreck<O: FnOnce()>(names: &Path, changes: usize, prepare: impl FnOnce() -> O) -> bool {
    let Some(mut victim) = Victim::start(&within(), prepare) else { return false };
    let reached = victim.pass_changes(&names.join(NAME), changes);
    victim.process.kill();
    reached
}
