//! The crash sweep: an operation is cut off by SIGKILL after every step that another process could
//! notice, which is every change of the region and every system call. Each step kills a new victim;
//! then the other processes must continue.
//!
//! The victim runs under ptrace, from system call to system call. Where its changes matter, its
//! region is mapped read-only, and it runs from change to change. In between it runs at full speed.

#![allow(dead_code, reason = "each test binary uses some of it")]

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

use super::support::{Alone, Process, TestDir, alone, fork, report};

/// The region of the operation.
pub const NAME: &str = "crash";

/// Marks the beginning and the end of the operation for the tracer with an instruction that traps.
/// A system call follows, to which the tracer can lead the victim.
pub fn mark() {
    // SAFETY: SIGTRAP goes to the tracer; the system call is jumped over.
    unsafe { std::arch::asm!("int3", "jmp 2f", "syscall", "2:") };
}

struct Victim {
    process: Process,
    /// Where [`mark`] has its system call.
    call: u64,
    /// Its region is mapped read-only.
    guarded: bool,
}

/// Why a running victim has stopped.
#[derive(PartialEq)]
enum Stopped {
    Trapped,
    InSystemCall,
    Writing,
}

impl Victim {
    /// Runs `prepare` and stops before the operation that it returns.
    fn start<O: FnOnce()>(alone: &Alone, prepare: impl FnOnce() -> O) -> Option<Self> {
        let process = fork(alone, || {
            // SAFETY: no pointers.
            if unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) } != 0 {
                // SAFETY: ends the child.
                unsafe { libc::_exit(77) };
            }
            // Unwinding would be swept as well.
            panic::set_hook(Box::new(|panic| {
                report(&format!("the victim panicked: {panic}"));
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
        assert!(
            libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP,
            "before the operation: {status:#x}"
        );
        victim.request(libc::PTRACE_SETOPTIONS, (libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD) as usize);
        victim.call = victim.registers().rip + 2;
        Some(victim)
    }

    fn request(&self, request: libc::c_uint, data: usize) {
        // SAFETY: PTRACE_GETREGS writes to this process's memory, where its caller has room for it.
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

    /// Resumes it until it stops.
    fn resume(&mut self, request: libc::c_uint) -> Stopped {
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

    /// Resumes it until it has made `calls` system calls. Returns false if it ended before.
    fn pass_calls(&mut self, calls: usize) -> bool {
        (0..2 * calls).all(|_| self.resume(libc::PTRACE_SYSCALL) == Stopped::InSystemCall)
    }

    /// Resumes it until it has changed the region `changes` times. Returns false if it made a
    /// system call or ended before.
    fn pass_changes(&mut self, region: &Path, changes: usize) -> bool {
        let mappings = self.mappings(region);
        let mut image = Image::of(region);
        (0..changes).all(|_| {
            loop {
                self.protect(&mappings, true);
                if self.resume(libc::PTRACE_SYSCALL) != Stopped::Writing {
                    return false;
                }
                self.protect(&mappings, false);
                self.resume(libc::PTRACE_SINGLESTEP);
                // Not every write is a change.
                if image.has_changed() {
                    return true;
                }
            }
        })
    }

    /// The addresses at which it has mapped the region.
    fn mappings(&self, region: &Path) -> Vec<Range<u64>> {
        let Ok(facts) = fs::metadata(region) else { return Vec::new() };
        // By inode: the list has the name of the file at the time when it was opened, if any.
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

    /// Makes it call mprotect(2).
    fn protect(&mut self, mappings: &[Range<u64>], guarded: bool) {
        self.guarded = false;
        let registers = self.registers();
        let protection = libc::PROT_READ | if guarded { 0 } else { libc::PROT_WRITE };
        for mapping in mappings {
            self.set_registers(&libc::user_regs_struct {
                rip: self.call,
                rax: libc::SYS_mprotect as u64,
                orig_rax: u64::MAX, // no system call to restart
                rdi: mapping.start,
                rsi: mapping.end - mapping.start,
                rdx: protection as u64,
                ..registers
            });
            self.resume(libc::PTRACE_SINGLESTEP);
            assert_eq!(self.registers().rax, 0, "mprotect");
        }
        self.set_registers(&registers);
        self.guarded = guarded;
    }
}

/// The bytes of the region, if it has its name already.
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

    /// Whether they have changed since the last call.
    fn has_changed(&mut self) -> bool {
        let Some(map) = &self.map else { return false };
        // SAFETY: the whole mapping, read only; the victim is stopped. Writes of others count as
        // changes.
        let now = unsafe { &*ptr::slice_from_raw_parts(map.as_ptr(), map.len()) };
        let changed = self.bytes != now;
        if changed {
            self.bytes = now.to_vec();
        }
        changed
    }
}

/// Where the victim is killed: after `calls` system calls of the operation and `changes` changes of
/// the region after that.
#[derive(Clone, Copy, Debug)]
struct CrashPoint {
    calls: usize,
    changes: usize,
}

/// Reports the crash point at which a test failed.
struct ReportOnDrop(CrashPoint);

impl Drop for ReportOnDrop {
    fn drop(&mut self) {
        report(&format!("the victim was killed at {:?}", self.0));
    }
}

/// How many points a sweep has reached, by kind.
#[derive(Debug, Default)]
pub struct SweepCounts {
    pub calls: usize,
    pub changes: usize,
}

impl SweepCounts {
    /// Asserts that the sweep has reached at least this many points.
    pub fn covers(&self, calls: usize, changes: usize) {
        assert!(self.calls >= calls && self.changes >= changes, "{self:?} of at least {calls} and {changes}");
    }
}

/// Kills a victim after each step of its operation. For each step, `before` creates what the victim
/// finds, `prepare` runs in the victim and returns the operation, and `after` checks what is left,
/// as the survivor and as a successor.
pub fn sweep<S, O: FnOnce()>(
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    after: impl Fn(&Path, S),
) -> SweepCounts {
    sweep_first(usize::MAX, before, prepare, after)
}

/// Like [`sweep`], for an operation that does not end: covers its first `calls` system calls.
pub fn sweep_first<S, O: FnOnce()>(
    calls: usize,
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    after: impl Fn(&Path, S),
) -> SweepCounts {
    sweep_points(calls, before, prepare, |_, _, _| {}, after)
}

/// Like [`sweep`], but the victim is only stopped at each point while `meanwhile` runs. It is
/// killed at the end of its operation.
pub fn sweep_stopping<S, O: FnOnce()>(
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    meanwhile: impl Fn(&Path, &S),
    after: impl Fn(&Path, S),
) -> SweepCounts {
    let stop = |victim: &mut Victim, names: &Path, survivor: &S| {
        meanwhile(names, survivor);
        while victim.resume(libc::PTRACE_SYSCALL) != Stopped::Trapped {}
    };
    sweep_points(usize::MAX, before, prepare, stop, after)
}

fn sweep_points<S, O: FnOnce()>(
    calls: usize,
    before: impl Fn(&Path) -> S,
    prepare: impl Fn(&Path) -> O,
    there: impl Fn(&mut Victim, &Path, &S),
    after: impl Fn(&Path, S),
) -> SweepCounts {
    let alone = alone();
    // Returns whether the victim reached the point, or None if it cannot be traced.
    let kill_at = |point: CrashPoint| {
        let test_dir = TestDir::new();
        let names = test_dir.names();
        let survivor = before(&names);
        let mut victim = Victim::start(&alone, || prepare(&names))?;
        let on_failure = ReportOnDrop(point);
        let reached = match point {
            CrashPoint { calls, changes: 0 } => victim.pass_calls(calls),
            CrashPoint { calls, changes } => {
                victim.pass_calls(calls) && victim.pass_changes(&names.join(NAME), changes)
            }
        };
        if reached {
            there(&mut victim, &names, &survivor);
        }
        victim.process.kill();
        after(&names, survivor);
        assert_eq!(test_dir.leftovers(), [""; 0], "left behind");
        forget(on_failure);
        Some(reached)
    };
    let mut swept = SweepCounts::default();
    let mut point = CrashPoint { calls: 0, changes: 1 };
    while swept.calls < calls {
        let Some(reached) = kill_at(point) else {
            report("SKIPPED: ptrace is not permitted here, nothing was swept");
            return SweepCounts { calls: usize::MAX, changes: usize::MAX };
        };
        match (reached, point.changes) {
            // The next change; after the last one the next call and its changes.
            (true, 0) => (point.changes, swept.calls) = (1, swept.calls + 1),
            (true, _) => (point.changes, swept.changes) = (point.changes + 1, swept.changes + 1),
            (false, 0) => break,
            (false, _) => point = CrashPoint { calls: point.calls + 1, changes: 0 },
        }
    }
    report(&format!("{}: {swept:?}", thread::current().name().unwrap_or_default()));
    swept
}

/// The guard that [`fork`] requires, within a sweep.
pub fn nested_guard() -> Alone {
    static WITHIN: Mutex<()> = Mutex::new(());
    WITHIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Within a sweep: kills another process after its operation has changed the region `changes`
/// times. Returns false if it made fewer changes, or if ptrace is not permitted.
pub fn kill_after_changes<O: FnOnce()>(names: &Path, changes: usize, prepare: impl FnOnce() -> O) -> bool {
    let Some(mut victim) = Victim::start(&nested_guard(), prepare) else { return false };
    let reached = victim.pass_changes(&names.join(NAME), changes);
    victim.process.kill();
    reached
}
