//! A spawn that is cut off by SIGKILL: of the parent at each of its steps, and of the child at any
//! time.

use std::io::{self, Read, Write};
use std::mem::{forget, zeroed};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use tombolo::RecvError;
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::{Builder, Process, ProcessError};

use crate::support::{TestDir, alone, report, stress_factor, stress_random, until};

#[cfg(target_arch = "x86_64")]
use crate::sweep::{NAME, sweep};

#[cfg(not(target_arch = "x86_64"))]
const NAME: &str = "crash";

fn values(names: &Path) -> pipe::Options<u64> {
    pipe::Options::<u64>::new().capacity(4).directory(names)
}

fn send_one(mut tx: Sender<u64>) {
    tx.send(1).unwrap();
}

fn stay(mut tx: Sender<u64>) {
    tx.send(1).unwrap();
    loop {
        sleep(Duration::from_secs(1));
    }
}

/// What a receiver gets until the sender has ended.
fn received(rx: &mut Receiver<u64>) -> (u64, RecvError) {
    let mut count = 0;
    loop {
        match rx.recv() {
            Ok(number) => {
                assert_eq!(number, 1);
                count += 1;
            }
            Err(end) => return (count, end),
        }
    }
}

/// Another sender takes the place of the one that ended.
fn succeed(names: &Path, mut rx: Receiver<u64>) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(1).unwrap();
    drop(tx);
    assert_eq!(received(&mut rx), (1, RecvError::Closed));
    drop(rx);
    // The child may be about to leave.
    until(|| !names.join(NAME).exists());
}

/// The child sends and ends, if it was started, and the peer learns of a death otherwise.
#[cfg(target_arch = "x86_64")]
#[test]
fn spawn_killed_at_each_step_child_runs_or_peer_reports_death() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || forget(Process::spawn(send_one, tx).unwrap())
        },
        |names, mut rx| {
            let end = received(&mut rx);
            assert!(matches!(end, (1, RecvError::Closed) | (0, RecvError::PeerDied)), "{end:?}");
            succeed(names, rx);
        },
    );
    swept.covers(20, 3);
}

/// Whatever step its parent has got to, a daemon does not stay.
#[cfg(target_arch = "x86_64")]
#[test]
fn spawn_of_daemon_killed_at_each_step_daemon_dies() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || forget(Builder::new().daemon(true).spawn(stay, tx).unwrap())
        },
        |names, mut rx| {
            let end = received(&mut rx);
            assert!(matches!(end, (0 | 1, RecvError::PeerDied)), "{end:?}");
            succeed(names, rx);
        },
    );
    swept.covers(20, 3);
}

/// The endpoints are taken back and closed.
#[cfg(target_arch = "x86_64")]
#[test]
fn failing_spawn_killed_at_each_step_endpoint_is_free() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            // The child of a parent that is gone has nobody to tell, and std prints that.
            let builder = Builder::new().current_dir("/nowhere").stderr(Stdio::null());
            move || drop(builder.spawn(send_one, tx).unwrap_err())
        },
        |names, mut rx| {
            let end = received(&mut rx);
            assert!(matches!(end, (0, RecvError::PeerDied | RecvError::Closed)), "{end:?}");
            succeed(names, rx);
        },
    );
    swept.covers(20, 3);
}

/// A process that this thread traces, with all threads that it starts.
struct Traced(libc::pid_t);

impl Traced {
    /// Whether a thread of it could be asked for something.
    fn request(thread: libc::pid_t, request: libc::c_uint, data: libc::c_int) -> bool {
        // SAFETY: the requests used here read and write no memory of this process.
        unsafe { libc::ptrace(request, thread, 0, data as usize) == 0 }
    }

    /// Blocks until a thread of it has stopped, and returns that. `None`: it has ended.
    fn wait(&self) -> Option<libc::pid_t> {
        loop {
            let wait = |of, id: libc::pid_t, what| {
                // SAFETY: numbers.
                let mut state: libc::siginfo_t = unsafe { zeroed() };
                // SAFETY: fills `state`.
                assert_eq!(unsafe { libc::waitid(of, id as libc::id_t, &raw mut state, what | libc::__WALL) }, 0);
                // SAFETY: of a thread that has changed.
                (state.si_code, unsafe { state.si_pid() })
            };
            // Its exit status is left to its handle.
            let (code, thread) = wait(libc::P_PGID, self.0, libc::WSTOPPED | libc::WEXITED | libc::WNOWAIT);
            if !matches!(code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED) {
                return Some(thread);
            }
            if thread == self.0 {
                return None;
            }
            wait(libc::P_PID, thread, libc::WEXITED);
        }
    }

    /// Kills it at the given stop, of which each system call has two. `begin` lets it run. Returns
    /// whether it got there, or `None` if it cannot be traced.
    fn kill_at(&self, stop: usize, begin: impl FnOnce()) -> Option<bool> {
        if !Self::request(self.0, libc::PTRACE_SEIZE, libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACECLONE) {
            begin();
            return None;
        }
        assert!(Self::request(self.0, libc::PTRACE_INTERRUPT, 0));
        let mut stopped = self.wait();
        begin();
        for _ in 0..stop {
            Self::request(stopped?, libc::PTRACE_SYSCALL, 0);
            stopped = self.wait();
            if stopped.is_none() {
                return Some(false);
            }
        }
        // SAFETY: nobody has waited for it.
        assert_eq!(unsafe { libc::kill(self.0, libc::SIGKILL) }, 0);
        while self.wait().is_some() {}
        Some(true)
    }
}

/// Spawns a daemon that is killed at the given stop. What it does before it executes the program is
/// among them.
fn spawn_and_kill(stop: usize, tx: Sender<u64>) -> (Process, Option<bool>) {
    let ((mut pids, pid), (gate, mut open)) = (io::pipe().unwrap(), io::pipe().unwrap());
    let mut builder = Builder::new().daemon(true);
    // SAFETY: writes and reads.
    unsafe {
        builder.command().process_group(0).pre_exec(move || {
            (&pid).write_all(&std::process::id().to_ne_bytes())?;
            (&gate).read_exact(&mut [0])
        });
    }
    thread::scope(|scope| {
        let spawned = scope.spawn(|| builder.spawn(send_one, tx).unwrap());
        let mut pid = [0; 4];
        pids.read_exact(&mut pid).unwrap();
        let was_killed = Traced(i32::from_ne_bytes(pid)).kill_at(stop, || open.write_all(&[0]).unwrap());
        (spawned.join().unwrap(), was_killed)
    })
}

#[test]
fn child_killed_at_each_step_its_end_is_reported_to_all() {
    let _alone = alone();
    let (mut sent, mut unsent) = (0, 0);
    for stop in 0.. {
        let test_dir = TestDir::new();
        let names = test_dir.names();
        let mut rx = values(&names).receiver(NAME).unwrap();
        let (worker, was_killed) = spawn_and_kill(stop, values(&names).sender(NAME).unwrap());
        let (joined, end) = (worker.join(), received(&mut rx));
        match was_killed {
            None => return report("SKIPPED: ptrace is not permitted here, no child was killed at each step"),
            Some(true) => {
                let is_killed = |status: ExitStatus| status.signal() == Some(libc::SIGKILL);
                assert!(matches!(joined, Err(ProcessError::Failed(status)) if is_killed(status)), "{stop}: {joined:?}");
                match end {
                    (1, _) => sent += 1,
                    (_, RecvError::PeerDied) => unsent += 1,
                    (_, end) => panic!("{stop}: {end:?}"),
                }
            }
            Some(false) => assert_eq!((&joined, end), (&Ok(()), (1, RecvError::Closed)), "{stop}"),
        }
        succeed(&names, rx);
        assert_eq!(test_dir.leftovers(), [""; 0], "{stop}: left behind");
        if joined.is_ok() {
            break;
        }
    }
    report(&format!("child_killed_at_each_step: SweepCounts {{ calls: {}, changes: 0 }}", (sent + unsent) / 2));
    assert!(sent > 10 && unsent > 100, "{sent} and {unsent}");
}

#[test]
fn child_killed_at_any_time_its_end_is_reported_to_all() {
    let _alone = alone();
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let start = |daemon| {
        let rx = values(&names).receiver(NAME).unwrap();
        let tx = values(&names).sender(NAME).unwrap();
        (Builder::new().daemon(daemon).spawn(send_one, tx).unwrap(), rx)
    };
    // How long a child takes depends on the machine.
    let began = Instant::now();
    for _ in 0..4 {
        let (worker, mut rx) = start(false);
        assert_eq!((worker.join(), received(&mut rx)), (Ok(()), (1, RecvError::Closed)));
    }
    let usual = (began.elapsed() / 4).as_micros() as u64;
    let mut random = stress_random(21);
    let (mut ended, mut died) = (0, 0);
    for round in 0..100 * stress_factor() {
        let (worker, mut rx) = start(round % 2 == 0);
        sleep(Duration::from_micros(random.below(2 * usual)));
        worker.kill().unwrap();
        let joined = worker.join();
        match received(&mut rx) {
            (1, RecvError::Closed) => ended += 1,
            (0 | 1, RecvError::PeerDied) => {
                died += 1;
                assert!(matches!(joined, Err(ProcessError::Failed(_))), "{joined:?}");
            }
            other => panic!("{other:?}"),
        }
        succeed(&names, rx);
    }
    assert!(ended > 0 && died > 0, "{ended} and {died}");
}
