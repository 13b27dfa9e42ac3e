//! The crash sweep: an operation is cut off by SIGKILL after every step that anybody else could notice, which is
//! every change of the region and every system call, one fresh victim for each; then the others must go on.
//!
//! The victim runs under ptrace: whole system calls up to the stretch of interest, single instructions within it.

#![cfg(target_arch = "x86_64")]

mod support;

use std::fs::File;
use std::io;
use std::mem::forget;
use std::ops::RangeInclusive;
use std::path::Path;
use std::ptr;
use std::thread;
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use support::{Alone, Process, Sandbox, alone, fork, say};
use tombolo::{Abandoned, Directory, End, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender};

const NAME: &str = "wreck";
type Value = [u64; 3];

const FAREWELL: Value = [99; 3];

fn values(names: &Path) -> PipeOptions<Value> {
    PipeOptions::values().capacity(4).directory(names)
}

/// A ring of 16 words: messages of up to 56 bytes in one piece, longer ones in parts of 16.
fn bytes(names: &Path) -> PipeOptions<[u8]> {
    PipeOptions::bytes().capacity_len(128).max_message_len(4096).directory(names)
}

// ---- the machinery ---------------------------------------------------------------------------------------------------

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
struct Swept {
    calls: usize,
    changes: usize,
}

impl Swept {
    /// What the sweep of an operation must have met at least.
    fn covers(&self, calls: usize, changes: usize) {
        assert!(self.calls >= calls && self.changes >= changes, "{self:?} of at least {calls} and {changes}");
    }
}

/// Kills a victim after each step of its operation. For each, `before` makes what it finds, `prepare` runs in the victim
/// and returns the operation, `after` looks at what is left, as the survivor and as the next one who comes.
fn sweep<S, O: FnOnce()>(before: impl Fn(&Path) -> S, prepare: impl Fn(&Path) -> O, after: impl Fn(&Path, S)) -> Swept {
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

// ---- what survivors and successors do --------------------------------------------------------------------------------

/// The next message, and how many ends of predecessors came before it.
fn hear(rx: &mut Receiver<Value>) -> (Value, usize) {
    let mut ends = 0;
    loop {
        match rx.recv() {
            Ok(value) => return (value, ends),
            Err(RecvError::PeerDied | RecvError::Closed) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A new process of the dead one's kind comes, says something and leaves; the survivor hears that and, unless it has
/// heard of it before, of its predecessor's end.
fn succeed_sender(names: &Path, mut rx: Receiver<Value>, ends_heard: usize) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(&FAREWELL).unwrap();
    drop(tx);
    let (value, ends) = hear(&mut rx);
    assert_eq!(value, FAREWELL);
    assert!(ends + ends_heard <= 1, "one predecessor ended {ends} + {ends_heard} times");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

fn succeed_sender_of_bytes(names: &Path, mut rx: Receiver) {
    let mut tx = bytes(names).sender(NAME).unwrap();
    tx.send(b"successor").unwrap();
    drop(tx);
    let mut message = Vec::new();
    rx.recv(&mut message).unwrap();
    assert_eq!(message, b"successor");
    assert_eq!(rx.recv(&mut message), Err(RecvError::Closed));
}

/// The sender sends numbers from `next` on until it learns that nobody takes them, and how that came; a new receiver gets
/// them all, once, after those of `waiting` that the dead one cannot have had.
fn succeed_receiver(names: &Path, mut tx: Sender<Value>, first: RangeInclusive<u64>, mut next: u64, end: &[SendError]) {
    let error = loop {
        match tx.send_timeout(&[next; 3], Duration::from_millis(50)) {
            Ok(()) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(end.contains(&error), "{error}");
    let mut rx = values(names).receiver(NAME).unwrap();
    drop(tx);
    let received: Vec<_> = rx.iter().collect();
    let begun = received.first().map_or(next, |value| value[0]);
    assert!(first.contains(&begun), "{begun} comes first");
    assert!(received.iter().copied().eq((begun..next).map(|number| [number; 3])), "{received:?} up to {next}");
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// A new receiver gets the message, unless the dead one may have had it, and what is sent from now on.
fn succeed_receiver_of_bytes(names: &Path, mut tx: Sender, message: &[u8]) {
    let mut rx = bytes(names).receiver(NAME).unwrap();
    tx.send(b"more").unwrap();
    drop(tx);
    let received: Vec<_> = rx.iter().collect();
    assert!(received == [message, b"more"] || received == [b"more"], "{received:?}");
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
}

/// Two who know nothing of what happened open the name, and it works. What an earlier sender sent comes first, if at all.
fn start_over(names: &Path, earlier: Option<Value>) {
    let mut rx = values(names).receiver(NAME).unwrap();
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(&FAREWELL).unwrap();
    let (mut value, _) = hear(&mut rx);
    if Some(value) == earlier {
        value = hear(&mut rx).0;
    }
    assert_eq!(value, FAREWELL);
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

/// Leaves behind a region with one message, whose only participant has died.
fn abandon(names: &Path) {
    let mut tx = values(names).sender(NAME).unwrap();
    tx.send(&[1; 3]).unwrap();
    drop(tx.into_fd().unwrap()); // a descriptor that nobody picks up is a death
}

/// Moves both sides of the byte ring to four words before its end.
fn approach_the_end(tx: &mut Sender, rx: &mut Receiver) {
    let mut message = Vec::new();
    for number in 0..3 {
        tx.send(&support::message(number, 24)).unwrap();
        rx.recv(&mut message).unwrap();
    }
}

// ---- the sweeps ------------------------------------------------------------------------------------------------------

/// raw/spsc.rs: before and after the store of tail.
#[test]
fn sending_a_value() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(&[1; 3]).unwrap();
            move || {
                tx.send(&[2; 3]).unwrap();
                forget(tx);
            }
        },
        |names, mut rx| {
            let received: Vec<_> = rx.iter().collect();
            assert!(received == [[1; 3]] || received == [[1; 3], [2; 3]], "{received:?}");
            assert_eq!(rx.recv(), Err(RecvError::PeerDied));
            succeed_sender(names, rx, 1);
        },
    );
    swept.covers(0, 4);
    assert!(swept.calls == 0 || swept.calls == usize::MAX, "a system call, though there was room");
}

/// raw/records.rs I2: a SKIP, a header and a payload are published together.
#[test]
fn sending_bytes_round_the_end_of_the_ring() {
    let sent = support::message(1, 48);
    let swept = sweep(
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            let mut tx = bytes(names).sender(NAME).unwrap();
            approach_the_end(&mut tx, &mut rx);
            drop(tx);
            assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
            rx
        },
        |names| {
            let mut tx = bytes(names).sender(NAME).unwrap();
            let sent = sent.clone();
            move || {
                tx.send(&sent).unwrap();
                forget(tx);
            }
        },
        |names, mut rx| {
            let received: Vec<_> = rx.iter().collect();
            assert!(received.is_empty() || received == [&sent[..]], "{received:?}");
            assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::PeerDied));
            succeed_sender_of_bytes(names, rx);
        },
    );
    swept.covers(0, 9);
}

/// raw/records.rs: a producer dies within a LARGE message.
#[test]
fn sending_a_message_in_parts() {
    let sent = support::message(1, 60);
    let swept = sweep(
        |names| bytes(names).receiver(NAME).unwrap(),
        |names| {
            let mut tx = bytes(names).sender(NAME).unwrap();
            let sent = sent.clone();
            move || {
                tx.send(&sent).unwrap();
                forget(tx);
            }
        },
        |names, mut rx| {
            let received: Vec<_> = rx.iter().collect();
            assert!(received.is_empty() || received == [&sent[..]], "{received:?}");
            assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::PeerDied));
            succeed_sender_of_bytes(names, rx);
        },
    );
    swept.covers(0, 2 + 4 * 3);
}

/// raw/spsc.rs: before and after the store of head.
#[test]
fn receiving_a_value() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            assert_eq!(tx.send_many(&[[1; 3], [2; 3]]), Ok(2));
            tx
        },
        |names| {
            let mut rx = values(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(), Ok([1; 3]));
                forget(rx);
            }
        },
        |names, tx| succeed_receiver(names, tx, 1..=2, 3, &[SendError::PeerDied]),
    );
    swept.covers(0, 1);
}

/// raw/spsc.rs: as above, with the SKIP released on its own.
#[test]
fn receiving_bytes_round_the_end_of_the_ring() {
    let sent = support::message(1, 48);
    let swept = sweep(
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            let mut tx = bytes(names).sender(NAME).unwrap();
            approach_the_end(&mut tx, &mut rx);
            tx.send(&sent).unwrap();
            tx
        },
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(&mut Vec::with_capacity(64)), Ok(48));
                forget(rx);
            }
        },
        |names, tx| succeed_receiver_of_bytes(names, tx, &sent),
    );
    swept.covers(0, 2);
}

/// raw/records.rs: a consumer dies within a LARGE message.
#[test]
fn receiving_a_message_in_parts() {
    let sent = support::message(1, 60);
    let swept = sweep(
        |names| {
            let mut tx = bytes(names).sender(NAME).unwrap();
            tx.send(&sent).unwrap();
            tx
        },
        |names| {
            let mut rx = bytes(names).receiver(NAME).unwrap();
            move || {
                assert_eq!(rx.recv(&mut Vec::new()), Ok(60));
                forget(rx);
            }
        },
        |names, tx| succeed_receiver_of_bytes(names, tx, &sent),
    );
    swept.covers(0, 5);
}

/// liveness.rs J1 to J5, raw/role.rs.
#[test]
fn joining_as_the_sender() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let options = values(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, mut rx| {
            // Before J4 nobody has come, from then on somebody has died.
            let end = rx.recv_timeout(Duration::from_millis(50)).unwrap_err();
            assert!([RecvError::TimedOut, RecvError::PeerDied].contains(&end), "{end}");
            succeed_sender(names, rx, usize::from(end == RecvError::PeerDied));
        },
    );
    swept.covers(8, 6);
}

/// liveness.rs J1 to J5, raw/role.rs, raw/event.rs.
#[test]
fn joining_as_the_receiver() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(&[1; 3]).unwrap();
            tx
        },
        |names| {
            let options = values(names);
            move || forget(options.receiver(NAME).unwrap())
        },
        |names, tx| succeed_receiver(names, tx, 1..=1, 2, &[SendError::TimedOut, SendError::PeerDied]),
    );
    swept.covers(8, 6);
}

/// region.rs: nobody ever sees a half-made region.
#[test]
fn creating_a_name() {
    let swept = sweep(
        |_| (),
        |names| {
            let options = values(names);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, ()| start_over(names, None),
    );
    swept.covers(12, 0);
}

/// pipe.rs: an abandoned region is removed and made anew.
#[test]
fn replacing_an_abandoned_region() {
    let swept = sweep(
        abandon,
        |names| {
            let options = values(names).abandoned(Abandoned::Replace);
            move || forget(options.sender(NAME).unwrap())
        },
        |names, ()| start_over(names, Some([1; 3])),
    );
    swept.covers(20, 1);
}

/// liveness.rs L4, L5.
#[test]
fn removing_an_abandoned_region() {
    let swept = sweep(
        abandon,
        |names| {
            let directory = Directory::at(names);
            move || directory.unlink(NAME, false).unwrap()
        },
        |names, ()| start_over(names, Some([1; 3])),
    );
    swept.covers(8, 1);
}

/// liveness.rs L1 to L3, L6.
#[test]
fn leaving_as_the_sender() {
    let swept = sweep(
        |names| values(names).receiver(NAME).unwrap(),
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(&[1; 3]).unwrap();
            move || drop(tx)
        },
        |names, mut rx| {
            assert_eq!(rx.recv(), Ok([1; 3]));
            let end = rx.recv().unwrap_err();
            assert!([RecvError::Closed, RecvError::PeerDied].contains(&end), "{end}");
            succeed_sender(names, rx, 1);
        },
    );
    swept.covers(5, 3);
}

/// liveness.rs L1 to L3, L6.
#[test]
fn leaving_as_the_receiver() {
    let swept = sweep(
        |names| {
            let mut tx = values(names).sender(NAME).unwrap();
            tx.send(&[1; 3]).unwrap();
            tx
        },
        |names| {
            let rx = values(names).receiver(NAME).unwrap();
            move || drop(rx)
        },
        |names, tx| succeed_receiver(names, tx, 1..=1, 2, &[SendError::Closed, SendError::PeerDied]),
    );
    swept.covers(5, 3);
}

/// liveness.rs L1 to L6.
#[test]
fn leaving_as_the_last() {
    let swept = sweep(
        |_| (),
        |names| {
            let tx = values(names).sender(NAME).unwrap();
            move || drop(tx)
        },
        |names, ()| start_over(names, None),
    );
    swept.covers(8, 3);
}

/// All of it for an end that does both.
#[test]
fn the_whole_life_of_a_duplex_end() {
    let swept = sweep(
        |names| {
            let mut ours: Pipe<Value> = values(names).end(NAME).unwrap();
            ours.send(&[1; 3]).unwrap();
            ours
        },
        |names| {
            let options = values(names);
            move || {
                let mut theirs = options.end(NAME).unwrap();
                theirs.send(&[2; 3]).unwrap();
                assert_eq!(theirs.recv(), Ok([1; 3]));
                drop(theirs);
            }
        },
        |names, mut ours| {
            let mut received = Vec::new();
            let end = loop {
                match ours.recv_timeout(Duration::from_millis(50)) {
                    Ok(value) => received.push(value),
                    Err(end) => break end,
                }
            };
            assert!(received.is_empty() || received == [[2; 3]], "{received:?}");
            assert!([RecvError::TimedOut, RecvError::PeerDied, RecvError::Closed].contains(&end), "{end}");
            let mut successor = values(names).end(NAME).unwrap();
            ours.send(&FAREWELL).unwrap();
            let (first, _) = hear(&mut successor.rx);
            assert!(first == FAREWELL || first == [1; 3] && hear(&mut successor.rx).0 == FAREWELL);
            successor.send(&FAREWELL).unwrap();
            assert_eq!(hear(&mut ours.rx).0, FAREWELL);
        },
    );
    swept.covers(20, 15);
}
