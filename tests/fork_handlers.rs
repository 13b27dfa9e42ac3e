//! Programs whose own fork handlers use the library: `fork` returns, and both processes can go on.

mod support;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{TestDir, child_roles, command, start};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::{RecvError, SendError};

child_roles!(
    use_the_library_in_a_handler,
    fork_beside_a_thread_that_opens_under_a_lock,
    fork_beside_threads_that_open_and_drop,
    fork_without_handlers
);

const ALARM: u32 = 170;
const PATIENCE: Duration = Duration::from_secs(120);

/// The endpoint that the handlers drop, and those that they have opened.
static KEPT: Mutex<Option<Sender<u64>>> = Mutex::new(None);
static OPENED: Mutex<Vec<(Sender<u64>, Receiver<u64>)>> = Mutex::new(Vec::new());

/// What the handlers do: nothing until a part sets it.
static ACTION: AtomicUsize = AtomicUsize::new(NOTHING);
/// Which of the three handlers does it.
static WHERE: AtomicUsize = AtomicUsize::new(NOTHING);
/// When the handlers that do it were registered.
static WHOSE: AtomicUsize = AtomicUsize::new(NOTHING);

const NOTHING: usize = usize::MAX;
const ACTIONS: [&str; 2] = ["open", "drop"];
const PLACES: [&str; 3] = ["prepare", "parent", "child"];
/// Before the library is initialised, before its first use, after its first use.
const ORDERS: [&str; 3] = ["at load", "before", "after"];

fn handle(order: usize, place: usize) {
    if WHOSE.load(Ordering::SeqCst) != order || WHERE.load(Ordering::SeqCst) != place {
        return;
    }
    match ACTION.load(Ordering::SeqCst) {
        0 => OPENED.lock().unwrap().push(pipe()),
        1 => drop(KEPT.lock().unwrap().take()),
        _ => {}
    }
}

/// Makes a function that registers three handlers for that order.
macro_rules! handlers {
    ($register:ident, $order:expr) => {
        extern "C" fn $register() {
            extern "C" fn prepare() {
                handle($order, 0);
            }
            extern "C" fn parent() {
                handle($order, 1);
            }
            extern "C" fn child() {
                handle($order, 2);
            }
            // SAFETY: functions of this program.
            unsafe { libc::pthread_atfork(Some(prepare), Some(parent), Some(child)) };
        }
    };
}

handlers!(register_at_load, 0);
handlers!(register_before, 1);
handlers!(register_after, 2);

/// Runs before any other initialisation of the program, so that its handlers are the first of all.
#[used]
// SAFETY: a function of the type that is called from there.
#[unsafe(link_section = ".init_array.00001")]
static AT_LOAD: extern "C" fn() = register_at_load;

fn pipe() -> (Sender<u64>, Receiver<u64>) {
    pipe::Options::<u64>::new().capacity(4).create().unwrap()
}

fn works((tx, rx): &mut (Sender<u64>, Receiver<u64>)) {
    for number in 0..9 {
        tx.send(number).unwrap();
        assert_eq!(rx.recv_timeout(PATIENCE), Ok(number));
    }
}

/// Ends this process by a signal if it hangs.
fn set_alarm() {
    // SAFETY: only asks for a signal.
    unsafe { libc::alarm(ALARM) };
}

/// Returns the status of a child; kills the child if it hangs.
fn end_of(child: libc::pid_t) -> libc::c_int {
    let started = Instant::now();
    let mut status = 0;
    // SAFETY: a child of ours, and a place for its status.
    while unsafe { libc::waitpid(child, &mut status, libc::WNOHANG) } == 0 {
        if started.elapsed() > PATIENCE {
            // SAFETY: not reaped yet, so the number means nobody else.
            unsafe { libc::kill(child, libc::SIGKILL) };
        }
        thread::sleep(Duration::from_millis(1));
    }
    status
}

/// Forks by `how`; the child does `body` and exits.
fn forked(how: impl FnOnce() -> libc::c_long, body: impl FnOnce()) -> libc::pid_t {
    let child = how() as libc::pid_t;
    assert!(child >= 0);
    if child == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
        // SAFETY: ends the child without touching what it shares with its parent.
        unsafe { libc::_exit(if outcome.is_ok() { 0 } else { 101 }) };
    }
    child
}

fn fork() -> libc::c_long {
    // SAFETY: what the child calls is what this is about.
    unsafe { libc::fork() }.into()
}

fn place_of(name: &str, names: &[&str]) -> usize {
    names.iter().position(|other| *other == name).unwrap()
}

fn use_the_library_in_a_handler(arguments: &[String]) {
    set_alarm();
    let (order, place) = (place_of(&arguments[0], &ORDERS), place_of(&arguments[1], &PLACES));
    let action = place_of(&arguments[2], &ACTIONS);
    let first_use_in_the_handler = arguments[3] == "first use";
    register_before();
    let mut rx = None;
    if !first_use_in_the_handler {
        let mut dropped = pipe();
        works(&mut dropped);
        *KEPT.lock().unwrap() = Some(dropped.0);
        rx = Some(dropped.1);
    }
    let mut beside = (!first_use_in_the_handler).then(pipe);
    register_after();
    WHERE.store(place, Ordering::SeqCst);
    WHOSE.store(order, Ordering::SeqCst);
    ACTION.store(action, Ordering::SeqCst);
    let child = forked(fork, || {
        WHERE.store(NOTHING, Ordering::SeqCst);
        // What was opened before the fork belongs to the parent, the rest to the child.
        for pair in &mut *OPENED.lock().unwrap() {
            match PLACES[place] {
                "child" => works(pair),
                _ => assert_eq!(pair.0.send(1), Err(SendError::Forked)),
            }
        }
        if let Some((tx, rx)) = &mut beside {
            assert_eq!((tx.send(1), rx.try_recv()), (Err(SendError::Forked), Err(RecvError::Forked)));
        }
        works(&mut pipe());
        drop(KEPT.lock().unwrap().take());
        OPENED.lock().unwrap().clear();
        drop(beside.take());
        // And the next generation.
        let child = forked(fork, || works(&mut pipe()));
        assert_eq!(end_of(child), 0, "the child's child");
    });
    WHERE.store(NOTHING, Ordering::SeqCst);
    assert_eq!(end_of(child), 0, "the child");
    let opened = OPENED.lock().unwrap().len();
    assert_eq!(opened, usize::from(ACTIONS[action] == "open" && PLACES[place] != "child"));
    OPENED.lock().unwrap().iter_mut().for_each(works);
    beside.iter_mut().for_each(works);
    if let Some(mut rx) = rx {
        let mut kept = KEPT.lock().unwrap().take();
        let was_dropped = ACTIONS[action] == "drop" && PLACES[place] != "child";
        assert_eq!(kept.is_none(), was_dropped);
        if let Some(tx) = &mut kept {
            tx.send(1).unwrap();
            assert_eq!(rx.recv_timeout(PATIENCE), Ok(1), "the child has left in its parent's name");
        }
        drop(kept);
        assert_eq!(rx.recv_timeout(PATIENCE), Err(RecvError::Closed));
    }
    works(&mut pipe());
}

/// Tests each of the three handlers in a process of its own.
fn in_every_handler(order: &str, action: &str, use_before: &str) {
    let _sandbox = TestDir::new();
    let processes =
        PLACES.map(|place| (place, start("use_the_library_in_a_handler", &[order, place, action, use_before])));
    for (place, mut process) in processes {
        assert_eq!(process.wait(), 0, "{place} handler, registered {order}, to {action}");
    }
}

#[test]
fn fork_handler_registered_at_load_opens_endpoints_and_returns() {
    in_every_handler("at load", "open", "used");
}

#[test]
fn fork_handler_registered_at_load_drops_endpoint_and_returns() {
    in_every_handler("at load", "drop", "used");
}

#[test]
fn fork_handler_registered_before_first_use_opens_endpoints_and_returns() {
    in_every_handler("before", "open", "used");
}

#[test]
fn fork_handler_registered_before_first_use_drops_endpoint_and_returns() {
    in_every_handler("before", "drop", "used");
}

#[test]
fn fork_handler_registered_after_first_use_opens_endpoints_and_returns() {
    in_every_handler("after", "open", "used");
}

#[test]
fn fork_handler_registered_after_first_use_drops_endpoint_and_returns() {
    in_every_handler("after", "drop", "used");
}

#[test]
fn fork_handler_as_first_use_returns() {
    in_every_handler("at load", "open", "first use");
    in_every_handler("before", "open", "first use");
}

/// As on a kernel that cannot wipe pages on a fork: the library's handlers have to.
#[test]
fn fork_handler_without_wipe_on_fork_returns() {
    let _sandbox = TestDir::new();
    for order in ["before", "after"] {
        for place in PLACES {
            let mut command = command("use_the_library_in_a_handler", &[order, place, "open", "used"]);
            refuse_madvise(&mut command);
            let mut process = support::Process::from(command.spawn().unwrap());
            assert_eq!(process.wait(), 0, "{place} handler, registered {order}");
        }
    }
}

/// Makes madvise(2) fail in that program, from its start.
fn refuse_madvise(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_madvise as u32, 1),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32, 0),
        step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
    ];
    // SAFETY: system calls only; the program is part of the closure.
    unsafe {
        command.pre_exec(move || {
            let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
            let done = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0;
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        })
    };
}

/// A lock of the program, like that of `malloc`: its prepare handler locks it, the other two unlock
/// it.
static OUTER: AtomicUsize = AtomicUsize::new(0);

fn lock_outer() {
    while OUTER.compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed).is_err() {
        thread::sleep(Duration::from_micros(10));
    }
}

extern "C" fn unlock_outer() {
    OUTER.store(0, Ordering::Release);
}

/// The program takes its own lock before it calls the library. A fork must take the locks in the
/// same order.
fn fork_beside_a_thread_that_opens_under_a_lock(_: &[String]) {
    extern "C" fn prepare() {
        lock_outer();
    }
    set_alarm();
    // SAFETY: functions of this program. Registered before the library's first use.
    unsafe { libc::pthread_atfork(Some(prepare), Some(unlock_outer), Some(unlock_outer)) };
    let (forks, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            while forks.load(Ordering::SeqCst) < 50 {
                lock_outer();
                drop(pipe());
                unlock_outer();
                opened.fetch_add(1, Ordering::SeqCst);
            }
        });
        while forks.load(Ordering::SeqCst) < 50 {
            let before = opened.load(Ordering::SeqCst);
            let child = forked(fork, || works(&mut pipe()));
            assert_eq!(end_of(child), 0);
            forks.fetch_add(1, Ordering::SeqCst);
            while opened.load(Ordering::SeqCst) == before && forks.load(Ordering::SeqCst) < 50 {
                thread::yield_now();
            }
        }
    });
}

#[test]
fn fork_handler_lock_of_program_is_taken_before_lock_of_library() {
    let _sandbox = TestDir::new();
    start("fork_beside_a_thread_that_opens_under_a_lock", &[]).finish();
}

/// Counts the descriptors of this process that hold a lock on an unnamed region.
fn descriptors_of_regions() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries.filter(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.starts_with("/memfd:tombolo"))).count()
}

fn fork_beside_threads_that_open_and_drop(_: &[String]) {
    set_alarm();
    let forks = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while forks.load(Ordering::SeqCst) < 100 {
                    let mut pair = pipe();
                    works(&mut pair);
                    drop(tombolo::sync::Mutex::new(1_u64).unwrap());
                }
            });
        }
        while forks.load(Ordering::SeqCst) < 100 {
            let child = forked(fork, || {
                assert_eq!(descriptors_of_regions(), 0, "the child keeps its parent's locks");
                works(&mut pipe());
                drop(tombolo::sync::Mutex::new(1_u64).unwrap());
                assert_eq!(descriptors_of_regions(), 0);
            });
            assert_eq!(end_of(child), 0);
            forks.fetch_add(1, Ordering::SeqCst);
        }
    });
}

#[test]
fn fork_beside_opening_threads_child_keeps_no_descriptor() {
    let _sandbox = TestDir::new();
    start("fork_beside_threads_that_open_and_drop", &[]).finish();
}

/// Forks by the system call itself, which runs no handlers.
fn fork_without_handlers(_: &[String]) {
    set_alarm();
    let mut pair = pipe();
    works(&mut pair);
    // SAFETY: as fork, but the C library does not notice; the child does little.
    let clone = || unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
    let mut kept = Some(pair);
    let child = forked(clone, || {
        let (mut tx, mut rx) = kept.take().unwrap();
        assert_eq!((tx.send(1), rx.try_recv()), (Err(SendError::Forked), Err(RecvError::Forked)));
        drop((tx, rx));
        works(&mut pipe());
    });
    assert_eq!(end_of(child), 0);
    works(&mut kept.unwrap());
}

#[test]
fn fork_by_raw_clone_inherited_endpoints_are_refused() {
    let _sandbox = TestDir::new();
    start("fork_without_handlers", &[]).finish();
}
