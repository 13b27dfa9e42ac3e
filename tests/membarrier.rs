//! membarrier(2) refused to a process that has used it: a sandbox closed in after the first end was
//! made.

mod support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use support::{Process, Sandbox, command, parts, start};
use tombolo::{Handover, Namespace, Pipe, PipeOptions, QueueOptions, QueueReceiver, QueueSender, handed};

parts!(receive_one_in_a_sandbox, pass_on_in_a_sandbox, take_turns_in_a_sandbox);

fn refuse_membarrier() {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_membarrier as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a valid program that outlives the call.
    let closed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(closed, "{}", std::io::Error::last_os_error());
}

fn values(directory: &Path) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(directory)
}

fn receive_one_in_a_sandbox(arguments: &[String]) {
    let mut rx = values(Path::new(&arguments[0])).receiver("name").unwrap();
    refuse_membarrier();
    assert_eq!(rx.recv(), Ok(1));
}

/// The word on which the receiver of a one-way pipe sleeps (docs/layout.md), and two of its bits.
const READABLE: u64 = 8 * (128 + 32);
const WAITERS: u32 = 1;
const FENCES: u32 = 2;

#[test]
fn a_listener_that_is_refused_its_fence_says_so_to_those_who_wake_it() {
    let sandbox = Sandbox::new();
    let mut tx = values(&sandbox.names()).sender("name").unwrap();
    let file = File::open(sandbox.names().join("name")).unwrap();
    let word = || {
        let mut bytes = [0; 4];
        file.read_exact_at(&mut bytes, READABLE).unwrap();
        u32::from_ne_bytes(bytes)
    };
    let child = start("receive_one_in_a_sandbox", &[sandbox.names().to_str().unwrap()]);
    support::until(|| word() & WAITERS != 0);
    // It announces itself, asks for the fence, and then does what it takes: three instructions,
    // however slow the machine.
    let says_so = (0..5000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        word() & FENCES != 0
    });
    assert!(says_so, "nobody learns that a light fence will not do");
    tx.send(&1).unwrap();
    child.finish();
}

const COUNT: u64 = 10_000;

/// Receives from one queue and sends into another, to the end.
fn pass_on_in_a_sandbox(_: &[String]) {
    let mut rx: QueueReceiver<u64> = handed("from").unwrap();
    let mut tx: QueueSender<u64> = handed("to").unwrap();
    tx.send(&rx.recv().unwrap()).unwrap();
    refuse_membarrier();
    for number in rx.iter() {
        tx.send(&number).unwrap();
    }
}

#[test]
fn queues_go_on_when_membarrier_is_refused_later() {
    let _sandbox = Sandbox::new();
    for capacity in [2, 64] {
        let options = QueueOptions::values::<u64>().capacity(capacity);
        let ((mut tx, there), (back, mut rx)) = (options.channel().unwrap(), options.channel().unwrap());
        let handover = Handover::new(command("pass_on_in_a_sandbox", &[]));
        let child = Process::from(handover.give("from", there).unwrap().give("to", back).unwrap().spawn().unwrap());
        let receiving = thread::spawn(move || rx.iter().collect::<Vec<_>>());
        (0..COUNT).for_each(|number| tx.send(&number).unwrap());
        drop(tx);
        assert!(receiving.join().unwrap().into_iter().eq(0..COUNT));
        child.finish();
    }
}

const TURNS: u64 = 300;

fn take_turns_in_a_sandbox(_: &[String]) {
    let namespace = Namespace::handed("namespace").unwrap();
    let mut pipe: Pipe<u64> = PipeOptions::values().handed("pipe").unwrap();
    let (mine, theirs) = (namespace.semaphore("second").unwrap(), namespace.semaphore("first").unwrap());
    let lock = namespace.mutex::<u64>("lock").unwrap();
    refuse_membarrier();
    for turn in 0..TURNS {
        mine.acquire(1).unwrap();
        *lock.lock().unwrap() += 1;
        theirs.release(1).unwrap();
        assert_eq!(pipe.recv(), Ok(turn));
        pipe.send(&turn).unwrap();
    }
}

#[test]
fn pipes_locks_and_permits_go_on_when_membarrier_is_refused_later() {
    let _sandbox = Sandbox::new();
    let plan = Namespace::builder().semaphore("first", 0).semaphore("second", 0).mutex("lock", 0_u64);
    let namespace = plan.anonymous().unwrap();
    let (mut ours, theirs) = PipeOptions::values::<u64>().duplex().unwrap();
    let handover = Handover::new(command("take_turns_in_a_sandbox", &[]));
    let handover = handover.share("namespace", &namespace).unwrap().give("pipe", theirs).unwrap();
    let child = Process::from(handover.spawn().unwrap());
    let (mine, theirs) = (namespace.semaphore("first").unwrap(), namespace.semaphore("second").unwrap());
    let lock = namespace.mutex::<u64>("lock").unwrap();
    for turn in 0..TURNS {
        theirs.release(1).unwrap();
        *lock.lock().unwrap() += 1;
        mine.acquire(1).unwrap();
        ours.send(&turn).unwrap();
        assert_eq!(ours.recv(), Ok(turn));
    }
    child.finish();
    assert_eq!(*lock.lock().unwrap(), 2 * TURNS);
}
