//! Ends that nobody drops before the process ends: in statics, in threads that go on, forgotten.

mod support;

use std::fs::File;
use std::mem::forget;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex as Local;
use std::thread;
use std::time::Duration;

use support::{Board, Process, Sandbox, alone, fork, parts, start};
use tombolo::{
    Directory, End, ErrorKind, LockError, Mutex, Namespace, PipeOptions, Queue, QueueOptions, QueueReceiver,
    QueueSender, Receiver, RecvError, SendError, Sender, Standing,
};

parts![
    send_and_return,
    receive_and_return,
    work_and_return,
    hold_and_return,
    enter_and_return,
    keep_everything_and_return,
    linger,
    be_busy_and_exit,
    open_and_exit,
    pass_on_and_exit,
];

const NAME: &str = "name";

fn pipe(directory: impl AsRef<Path>) -> PipeOptions<u64> {
    PipeOptions::values().capacity(4).directory(directory.as_ref())
}

fn jobs(directory: impl AsRef<Path>) -> QueueOptions<u64> {
    QueueOptions::values().capacity(4).max_participants(3).directory(directory.as_ref())
}

fn locks(directory: impl AsRef<Path>) -> Namespace {
    let plan = Namespace::builder().mutex("lock", 0_u64).mutex("free", 0_u64).max_participants(2);
    plan.directory(directory.as_ref()).open(NAME).unwrap()
}

fn names(sandbox: &Sandbox) -> String {
    sandbox.names().to_str().unwrap().to_string()
}

/// Runs a part to its end, which must be a good one.
fn run(part: &str, arguments: &[&str]) {
    start(part, arguments).finish();
}

static SENDER: Local<Option<Sender<u64>>> = Local::new(None);
static RECEIVER: Local<Option<Receiver<u64>>> = Local::new(None);
static WORK: Local<Option<QueueSender<u64>>> = Local::new(None);
static RESULTS: Local<Option<QueueReceiver<u64>>> = Local::new(None);
static BOTH: Local<Option<Queue<u64>>> = Local::new(None);
static LOCK: Local<Option<Mutex<u64>>> = Local::new(None);

fn keep<T>(place: &Local<Option<T>>, value: T) {
    *place.lock().unwrap() = Some(value);
}

// ---- ends in statics
// --------------------------------------------------------------------------------------------------

/// Ends when the test harness of that process returns from `main`, or by one of the other ways.
fn send_and_return(arguments: &[String]) {
    let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    keep(&SENDER, tx);
    match arguments[1].as_str() {
        "returns" => {}
        "exits" => std::process::exit(0),
        "exits in a thread" => {
            thread::spawn(|| std::process::exit(0));
            thread::sleep(Duration::from_secs(600));
        }
        "panics" => {
            let panicked = thread::spawn(|| {
                let _tx = SENDER.lock().unwrap().take();
                panic!("as part of the test");
            });
            assert!(panicked.join().is_err());
            thread::sleep(Duration::from_secs(600));
        }
        // SAFETY: ends the process.
        "_exits" => unsafe { libc::_exit(0) },
        "aborts" => std::process::abort(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_sender_that_is_not_dropped_is_closed_by_an_ordinary_end_and_by_no_other() {
    for (how, end) in [
        ("returns", RecvError::Closed),
        ("exits", RecvError::Closed),
        ("exits in a thread", RecvError::Closed),
        ("panics", RecvError::Closed),
        ("_exits", RecvError::PeerDied),
        ("aborts", RecvError::PeerDied),
    ] {
        let sandbox = Sandbox::new();
        let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
        let _child = start("send_and_return", &[&names(&sandbox), how]);
        assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(end)), "{how}");
        drop(rx);
        if end == RecvError::Closed {
            // It may be about to leave.
            support::until(|| sandbox.litter().is_empty());
        }
    }
}

fn receive_and_return(arguments: &[String]) {
    let mut rx = pipe(&arguments[0]).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    keep(&RECEIVER, rx);
}

#[test]
fn a_receiver_that_is_not_dropped_has_left_when_its_process_ends() {
    let sandbox = Sandbox::new();
    let mut tx = pipe(sandbox.names()).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    run("receive_and_return", &[&names(&sandbox)]);
    assert_eq!(tx.send(&2), Err(SendError::Closed));
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    tx.send(&3).unwrap();
    assert_eq!(rx.recv(), Ok(3));
}

fn work_and_return(arguments: &[String]) {
    let mut tx = jobs(&arguments[0]).sender(NAME).unwrap();
    let mut rx = jobs(&arguments[0]).receiver(NAME).unwrap();
    tx.send(&1).unwrap();
    assert_eq!(rx.recv(), Ok(7));
    keep(&WORK, tx);
    keep(&RESULTS, rx);
}

#[test]
fn lanes_that_are_not_dropped_are_left_when_their_process_ends() {
    let sandbox = Sandbox::new();
    let mut tx = jobs(sandbox.names()).sender(NAME).unwrap();
    tx.send(&7).unwrap();
    run("work_and_return", &[&names(&sandbox)]);
    let error = (0..9).find_map(|_| tx.send_timeout(&2, Duration::from_secs(60)).err());
    assert_eq!(error, Some(SendError::Closed), "when it is full");
    let seen = Directory::at(sandbox.names()).inspect(NAME).unwrap();
    assert!(seen.participants.iter().all(|participant| participant.standing != Standing::Dead), "{seen:?}");
    let mut rx = tx.receiver().unwrap();
    drop(tx);
    assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2, 2, 2]);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    // All of its lanes serve again.
    let all = (rx.sender().unwrap(), rx.sender().unwrap());
    assert_eq!((all.0.stats().senders, all.0.stats().quarantined, all.0.stats().lost), (2, 0, 0));
    drop((rx, all));
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn hold_and_return(arguments: &[String]) {
    let lock = locks(&arguments[0]).mutex::<u64>("lock").unwrap();
    forget(lock.lock().unwrap());
    keep(&LOCK, lock);
}

#[test]
fn a_lock_that_is_held_when_its_process_ends_is_told_of_to_the_next_owner() {
    let sandbox = Sandbox::new();
    let namespace = locks(sandbox.names());
    run("hold_and_return", &[&names(&sandbox)]);
    assert!(matches!(namespace.mutex::<u64>("lock").unwrap().lock(), Err(LockError::OwnerDied(_))));
    assert!(namespace.mutex::<u64>("free").unwrap().lock().is_ok());
    drop(namespace);
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn enter_and_return(arguments: &[String]) {
    keep(&LOCK, locks(&arguments[0]).mutex("lock").unwrap());
}

fn keep_everything_and_return(arguments: &[String]) {
    let [in_pipe, in_queue, in_space] = arguments else { panic!("{arguments:?}") };
    keep(&SENDER, pipe(in_pipe).sender(NAME).unwrap());
    keep(&RECEIVER, pipe(in_pipe).receiver(NAME).unwrap());
    keep(&BOTH, jobs(in_queue).open(NAME).unwrap());
    keep(&LOCK, locks(in_space).mutex("lock").unwrap());
}

#[test]
fn names_go_with_the_last_process_that_comes_to_its_end() {
    let sandbox = Sandbox::new();
    let directories = ["a", "b", "c"].map(|name| sandbox.file(name));
    let arguments: Vec<&str> = directories.iter().map(|directory| directory.to_str().unwrap()).collect();
    run("keep_everything_and_return", &arguments);
    let left: Vec<_> = directories.iter().flat_map(|directory| directory.read_dir().unwrap()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_name_goes_though_all_who_have_it_end_at_once() {
    let sandbox = Sandbox::new();
    for _ in 0..5 {
        let both = [0, 1].map(|_| start("enter_and_return", &[&names(&sandbox)]));
        both.into_iter().for_each(Process::finish);
        assert_eq!(sandbox.litter(), [""; 0]);
    }
}

// ---- what comes after
// -------------------------------------------------------------------------------------------------

static BOARD: Local<Option<Board>> = Local::new(None);

/// Runs after the library has left.
extern "C" fn go_on_after_leaving() {
    let board = BOARD.lock().unwrap().take().unwrap();
    board.meet(0, 2); // it has left
    board.meet(1, 2); // it may be gone
    drop(SENDER.lock().unwrap().take());
    drop(RESULTS.lock().unwrap().take());
}

fn linger(arguments: &[String]) {
    keep(&BOARD, Board::at(Path::new(&arguments[1])));
    // SAFETY: before the library's own, so that it runs after that.
    assert_eq!(unsafe { libc::atexit(go_on_after_leaving) }, 0);
    keep(&SENDER, pipe(&arguments[0]).sender(NAME).unwrap());
    keep(&RESULTS, jobs(&arguments[0]).receiver("queue").unwrap());
}

#[test]
fn nobody_takes_the_place_of_one_who_has_left_and_is_not_gone() {
    let sandbox = Sandbox::new();
    let path = sandbox.file("board");
    let board = Board::at(&path);
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    let mut tx = jobs(sandbox.names()).sender("queue").unwrap();
    let child = start("linger", &[&names(&sandbox), path.to_str().unwrap()]);
    board.meet(0, 2);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
    let error = (0..9).find_map(|_| tx.send_timeout(&1, Duration::from_secs(60)).err());
    assert_eq!(error, Some(SendError::Closed), "when it is full");
    let pid = child.pid() as u64;
    assert_eq!(pipe(sandbox.names()).sender(NAME).unwrap_err().kind(), ErrorKind::SeatTaken { pid });
    let two = (tx.try_clone().unwrap(), tx.try_clone().map(drop).unwrap_err().kind());
    assert_eq!(two.1, ErrorKind::LanesTaken, "the lane is not free");
    board.meet(1, 2);
    child.finish();
    let mut successor = pipe(sandbox.names()).sender(NAME).unwrap();
    successor.send(&2).unwrap();
    assert_eq!(rx.recv(), Ok(2));
    tx.try_clone().unwrap();
}

/// Sends and receives in other threads while it ends.
fn be_busy_and_exit(arguments: &[String]) {
    let mut tx = jobs(&arguments[0]).sender(NAME).unwrap();
    let mut rx = jobs(&arguments[0]).receiver(NAME).unwrap();
    thread::spawn(move || while tx.send(&1).is_ok() {});
    thread::spawn(move || while rx.recv().is_ok() {});
    thread::sleep(Duration::from_millis(arguments[1].parse().unwrap()));
    std::process::exit(0);
}

#[test]
fn nothing_is_lost_of_a_queue_whose_users_end_in_the_middle_of_an_operation() {
    let sandbox = Sandbox::new();
    let mut tx = jobs(sandbox.names()).sender(NAME).unwrap();
    for round in 0..20 {
        run("be_busy_and_exit", &[&names(&sandbox), &(round % 5).to_string()]);
        // Until nobody is left to receive: of those who came nobody has died.
        let error = (0..100).find_map(|_| tx.send_timeout(&2, Duration::from_secs(60)).err());
        assert_eq!(error, Some(SendError::Closed));
        let mut rx = tx.receiver().unwrap();
        while rx.recv_timeout(Duration::from_millis(50)).is_ok() {}
        let third = tx.try_clone().unwrap();
        assert_eq!(tx.stats().quarantined, 0, "round {round}: {:?}", tx.stats());
        assert_eq!((0..5).map_while(|_| tx.try_send(&3).ok()).count(), 4, "it holds as much as before");
        drop(third);
        assert_eq!((0..5).map_while(|_| rx.try_recv().ok()).count(), 4);
    }
}

// ---- forked children
// --------------------------------------------------------------------------------------------------

#[test]
fn a_forked_child_that_exits_leaves_nothing_of_its_parents() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    let mut tx = pipe(sandbox.names()).sender(NAME).unwrap();
    let results = jobs(sandbox.names()).receiver("queue").unwrap();
    // SAFETY: runs the handlers of this process in the child, which is what this is about.
    fork(&alone, || unsafe { libc::exit(0) }).finish();
    tx.send(&1).unwrap();
    assert_eq!((rx.recv(), results.stats().receivers), (Ok(1), 1));
    drop(tx);
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn a_forked_child_that_exits_leaves_what_is_its_own() {
    let (alone, sandbox) = (alone(), Sandbox::new());
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    let parents = pipe(sandbox.names()).receiver("other").unwrap();
    fork(&alone, || {
        let mut tx = pipe(sandbox.names()).sender(NAME).unwrap();
        tx.send(&1).unwrap();
        forget(tx);
        // SAFETY: ends the child.
        unsafe { libc::exit(0) };
    })
    .finish();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
    drop(parents);
}

// ---- breaking off
// -----------------------------------------------------------------------------------------------------

fn open_and_exit(arguments: &[String]) {
    let mut tx = pipe(&arguments[0]).sender(NAME).unwrap();
    tx.send(&1).unwrap();
    tx.abandon().unwrap();
    let work = jobs(&arguments[0]).sender("queue").unwrap();
    work.abandon().unwrap();
}

#[test]
fn an_end_that_is_abandoned_is_a_death_though_its_process_ends_well() {
    let sandbox = Sandbox::new();
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    let mut results = jobs(sandbox.names()).receiver("queue").unwrap();
    run("open_and_exit", &[&names(&sandbox)]);
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::PeerDied)));
    assert_eq!(results.recv(), Err(RecvError::PeerDied));
    // Here, too, while the process goes on.
    let tx = pipe(sandbox.names()).sender(NAME).unwrap();
    tx.abandon().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    let (half, _other) = tombolo::pipe().unwrap().0.split();
    assert_eq!(half.abandon().unwrap_err().kind(), ErrorKind::InvalidOptions);
}

/// An end that is passed on belongs to the process that has it, not to the one that ends.
fn pass_on_and_exit(arguments: &[String]) {
    let tx = pipe(&arguments[0]).sender(NAME).unwrap();
    let descriptor = tx.into_fd().unwrap();
    // A program that inherits it, and ends with its input.
    let mut cat = Command::new("cat");
    cat.stdin(File::open(&arguments[1]).unwrap()).stdout(Stdio::from(descriptor));
    forget(cat.spawn().unwrap());
}

#[test]
fn an_end_that_is_on_its_way_is_not_left_by_the_process_that_sent_it_off() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.file("fifo");
    let path = std::ffi::CString::new(fifo.to_str().unwrap()).unwrap();
    // SAFETY: a path.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let mut rx = pipe(sandbox.names()).receiver(NAME).unwrap();
    let child = start("pass_on_and_exit", &[&names(&sandbox), fifo.to_str().unwrap()]);
    let input = File::options().write(true).open(&fifo).unwrap();
    child.finish();
    assert_eq!(rx.recv_timeout(Duration::from_millis(150)), Err(RecvError::TimedOut));
    drop(input);
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
}
