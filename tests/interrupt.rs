//! An interrupt ends any wait of its thread, and only that: nothing is taken, sent or locked, and
//! nobody else's wake-up is lost. Here no sleep ends by itself, so an interrupt that a sleep misses
//! is a test that hangs.

mod support;

use std::io::{self, Read};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use support::{SharedCounters, TestDir, alone, child_roles, fork, start, until};
use tombolo::broadcast;
use tombolo::connection::{self, Listener};
use tombolo::pipe;
use tombolo::process::pool::{self, JobError};
use tombolo::process::{Process, ProcessError};
use tombolo::queue::{self, JoinError};
use tombolo::rpc::{self, CallError};
use tombolo::select::{SelectError, Selector, Source};
use tombolo::sync::{
    Barrier, BoundedSemaphore, Condvar, Event, LockError, Mutex, Once, RwLock, Semaphore, SyncError, Value,
};
use tombolo::{ErrorKind, InterruptHandle, RecvError, SendError, WaitStrategy, interrupt_handle};

child_roles!(wait_without_waitv, be_interrupted_by_alarms, sleep_through_signals, end_on_a_signal);
tombolo::process::init_in_tests!();

const LONG: Duration = Duration::from_secs(3600);
const STRATEGIES: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::SpinThenPark, WaitStrategy::Park];

fn test_dir() -> TestDir {
    tombolo::test_hooks::disable_liveness_interval();
    TestDir::new()
}

/// Checks that an interrupt before a wait ends it, and one during the wait, and that nothing is left
/// of it. `wait` returns whether it was interrupted.
fn check(what: &str, mut wait: impl FnMut() -> bool) {
    let handle = interrupt_handle();
    handle.interrupt();
    assert!(wait(), "{what}: an interrupt before it");
    assert!(!handle.is_interrupted(), "{what}: an interrupt that was reported");
    thread::scope(|scope| {
        let handle = handle.clone();
        scope.spawn(move || {
            thread::sleep(Duration::from_millis(20));
            handle.interrupt();
        });
        assert!(wait(), "{what}: an interrupt during it");
    });
    assert!(!handle.is_interrupted(), "{what}");
}

fn check_sync<T>(what: &str, mut wait: impl FnMut() -> Result<T, SyncError>) {
    check(what, || wait().err() == Some(SyncError::Interrupted));
}

fn check_lock<T>(what: &str, mut wait: impl FnMut() -> Result<T, LockError<T>>) {
    check(what, || matches!(wait(), Err(LockError::Failed(SyncError::Interrupted))));
}

// ---- every kind of wait ----------------------------------------------------------------------------------------------

fn check_pipes_and_queues() {
    for wait in STRATEGIES {
        let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(1).wait(wait).create().unwrap();
        check("pipe recv", || rx.recv() == Err(RecvError::Interrupted));
        check("pipe poll", || rx.poll(LONG) == Err(RecvError::Interrupted));
        tx.send(1).unwrap();
        check("pipe send", || tx.send(2) == Err(SendError::Interrupted));
        assert_eq!((rx.recv(), rx.try_recv()), (Ok(1), Err(RecvError::Empty)));

        let (mut tx, mut rx) = queue::Options::<u64>::new().capacity(1).wait(wait).create_channel().unwrap();
        check("queue recv", || rx.recv() == Err(RecvError::Interrupted));
        while tx.try_send(1).is_ok() {}
        check("queue send", || tx.send(2) == Err(SendError::Interrupted));
        check("queue join", || tx.join() == Err(JoinError::Interrupted));
        assert!(rx.try_iter().all(|message| message == Ok(1)));
    }
    // A message that needs several laps of the ring: its beginning is in there.
    let (mut tx, mut rx) = pipe::Options::bytes().capacity_bytes(4096).max_message_bytes(1 << 20).create().unwrap();
    let long = vec![7; 100_000];
    check("pipe send in part", || tx.send(&long) == Err(SendError::Interrupted));
    thread::scope(|scope| {
        scope.spawn(|| tx.send(b"whole").unwrap());
        let mut message = Vec::new();
        assert_eq!(rx.recv(&mut message), Ok(5));
        assert_eq!(message, b"whole");
    });
    let (_tx, rx) = pipe::Options::bytes().create().unwrap();
    let mut stream = pipe::io::Reader::new(rx);
    check("Read", || {
        let error = stream.read_exact(&mut [0]).unwrap_err();
        error.kind() != io::ErrorKind::Interrupted && error.to_string().contains("interrupted")
    });
}

fn check_selectors() {
    for wait in STRATEGIES {
        let (_txs, mut rxs): (Vec<_>, Vec<_>) =
            (0..200).map(|_| pipe::Options::<u64>::new().capacity(1).create().unwrap()).unzip();
        for count in [1, 2, 200] {
            let mut sources: Vec<_> = rxs.iter_mut().take(count).map(|rx| rx as &mut dyn Source).collect();
            let mut selector = Selector::new().wait_strategy(wait);
            check("selector", || selector.wait(&mut sources) == Err(SelectError::Interrupted));
        }
    }
}

fn check_broadcasts_and_requests(test_dir: &TestDir) {
    let options = broadcast::Options::<u64>::new().capacity(2).directory(test_dir.names());
    let mut publisher = options.publisher("news").unwrap();
    let mut subscriber = options.subscriber("news").unwrap();
    let mut observer = options.observer("news").unwrap();
    check("broadcast recv", || subscriber.recv() == Err(RecvError::Interrupted));
    check("broadcast observer", || observer.recv() == Err(RecvError::Interrupted));
    while publisher.try_publish(1).is_ok() {}
    check("broadcast publish", || publisher.publish(2) == Err(SendError::Interrupted));
    check("subscribers", || publisher.wait_for_subscribers(2, LONG) == Err(SendError::Interrupted));
    assert!(subscriber.try_iter().all(|message| message == Ok(1)));

    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    check("responder", || matches!(responder.recv(), Err(RecvError::Interrupted)));
    check("call", || caller.call(1) == Err(CallError::Interrupted { taken: false }));
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)), "it was given up");
    let handle = interrupt_handle();
    thread::scope(|scope| {
        scope.spawn(|| {
            let request = responder.recv().unwrap();
            handle.interrupt();
            until(|| !handle.is_interrupted());
            let _ = request.reply(7); // too late, or not
            responder.recv().unwrap().reply(8).unwrap();
        });
        // Or the reply came before the request was given up.
        let ended = caller.call(1);
        assert!(matches!(ended, Err(CallError::Interrupted { taken: true }) | Ok(7)), "{ended:?}");
        assert_eq!(caller.call(2), Ok(8));
    });
}

/// What another thread holds, until this returns.
fn while_held<T>(hold: impl FnOnce() -> T + Send, body: impl FnOnce()) {
    let (is_held, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let _held = hold();
            is_held.store(true, Ordering::SeqCst);
            until(|| is_over.load(Ordering::SeqCst));
        });
        until(|| is_held.load(Ordering::SeqCst));
        body();
        is_over.store(true, Ordering::SeqCst);
    });
}

fn check_objects() {
    let mutex = Mutex::new(1_u64).unwrap();
    while_held(|| mutex.lock().unwrap(), || check_lock("mutex", || mutex.lock()));
    assert_eq!(*mutex.lock().unwrap(), 1);
    let lock = RwLock::new(1_u64).unwrap();
    while_held(|| lock.read().unwrap(), || check_lock("write", || lock.write()));
    assert!(lock.try_read().is_ok(), "a writer that was interrupted holds readers up");
    while_held(|| lock.write().unwrap(), || check_lock("read", || lock.read()));
    assert!(lock.try_write().is_ok(), "a reader that was interrupted is counted");

    let permits = Semaphore::new(2).unwrap();
    check_sync("semaphore, several", || permits.acquire_many(3));
    assert_eq!(permits.available(), Ok(2));
    permits.acquire_many(2).unwrap().forget();
    check_sync("semaphore", || permits.acquire());
    permits.release(1).unwrap();
    assert!(permits.try_acquire().is_ok(), "newcomers still let somebody go first");
    let bounded = BoundedSemaphore::new(1).unwrap();
    let permit = bounded.acquire().unwrap();
    check_sync("bounded semaphore", || bounded.acquire());
    drop(permit);
    assert!(bounded.try_acquire().is_ok());

    let event = Event::new().unwrap();
    check_sync("event", || event.wait());
    check_sync("once", || Once::new().unwrap().wait());
    let value = Value::new(1_u64).unwrap();
    check_sync("value", || value.wait_for_change(LONG));
    let barrier = Barrier::new(2).unwrap();
    check_sync("barrier", || {
        barrier.reset().unwrap();
        barrier.wait()
    });
    assert!(matches!(barrier.wait(), Err(SyncError::BarrierBroken { .. })));
    let condvar = Condvar::new().unwrap();
    check("condvar", || {
        let ended = condvar.wait(mutex.lock().unwrap());
        matches!(ended, Err(LockError::Failed(SyncError::Interrupted))) && mutex.try_lock().is_ok()
    });
}

fn check_peers(test_dir: &TestDir) {
    let directory = test_dir.names();
    let is_interrupted = |result: tombolo::Result<()>| result.unwrap_err().kind() == ErrorKind::Interrupted;
    let mut tx = pipe::Options::<u64>::new().directory(&directory).sender("pipe").unwrap();
    check("peer of a pipe", || is_interrupted(tx.wait_for_peer(LONG)));
    let taken = pipe::Options::<u64>::new().directory(&directory).open_timeout(LONG);
    check("place of another sender", || taken.sender("pipe").unwrap_err().kind() == ErrorKind::Interrupted);
    let mut tx = queue::Options::<u64>::new().directory(directory).sender("queue").unwrap();
    check("peer of a queue", || is_interrupted(tx.wait_for_peer(LONG)));
    let (caller, responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    drop(responder);
    check("responder", || caller.wait_for_responder(LONG) == Err(CallError::Interrupted { taken: false }));
}

fn check_all_words() {
    let test_dir = test_dir();
    check_pipes_and_queues();
    check_selectors();
    check_broadcasts_and_requests(&test_dir);
    check_objects();
    check_peers(&test_dir);
}

#[test]
fn interrupt_any_wait_on_words_ends_it() {
    check_all_words();
}

fn wait_without_waitv(_: &[String]) {
    tombolo::test_hooks::disable_waitv();
    check_all_words();
}

#[test]
fn interrupt_kernel_without_waitv_any_wait_on_words_ends() {
    let _sandbox = test_dir();
    start("wait_without_waitv", &[]).finish();
}

#[test]
fn interrupt_any_wait_on_a_connection_ends_it() {
    let test_dir = test_dir();
    let options = || connection::Options::new().key("key").timeout(LONG);
    let mut listener = options().listen("127.0.0.1:0").unwrap();
    check("accept", || listener.accept_timeout(LONG).unwrap_err().kind() == ErrorKind::Interrupted);
    let address = listener.address().clone();
    check("connect", || options().connect(&address).unwrap_err().kind() == ErrorKind::Interrupted);
    let nobody = test_dir.file("nobody");
    let waiting = options().wait_for_listener(LONG);
    check("listener", || waiting.connect(&nobody).unwrap_err().kind() == ErrorKind::Interrupted);
    let mut local = Listener::bind(test_dir.file("local")).unwrap();
    check("accept", || local.accept().unwrap_err().kind() == ErrorKind::Interrupted);

    thread::scope(|scope| {
        let client = scope.spawn(|| options().connect(&address).unwrap());
        // Those that gave up are refused meanwhile.
        let mut accepted = listener.accept().unwrap();
        let mut connected = client.join().unwrap();
        let mut message = Vec::new();
        check("recv", || connected.recv(&mut message) == Err(RecvError::Interrupted));
        let long = vec![7; 1 << 20];
        while accepted.send_timeout(&long, Duration::from_millis(50)).is_ok() {}
        check("send", || accepted.send(&long) == Err(SendError::Interrupted));
        connected.recv(&mut message).unwrap();
        assert_eq!(message, long);
    });
}

fn sleep_long(_: ()) {
    thread::sleep(LONG);
}

fn wait_for_file(path: String) -> u64 {
    until(|| std::path::Path::new(&path).exists());
    7
}

#[test]
fn interrupt_join_of_a_process_or_job_ends() {
    let test_dir = test_dir();
    let process = Process::spawn(sleep_long, ()).unwrap();
    check("process", || process.join() == Err(ProcessError::Interrupted));
    process.kill().unwrap();
    assert!(matches!(process.join(), Err(ProcessError::Failed(_))));

    let path = test_dir.file("go");
    let pool = pool::Builder::new().processes(1).build().unwrap();
    let job = pool.submit(wait_for_file, path.to_str().unwrap().to_string());
    check("job", || job.join() == Err(JobError::Interrupted));
    check("pool", || pool.join() == Err(JobError::Interrupted));
    std::fs::write(path, "").unwrap();
    assert_eq!((job.join(), pool.join()), (Ok(7), Ok(())));
}

// ---- which waits, and which not --------------------------------------------------------------------------------------

#[test]
fn interrupt_call_that_does_not_wait_keeps_it() {
    let _sandbox = test_dir();
    let handle = interrupt_handle();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    handle.interrupt();
    handle.interrupt();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    tx.send(1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvError::TimedOut));
    let permits = Semaphore::new(1).unwrap();
    let permit = permits.acquire().unwrap();
    assert_eq!(permits.try_acquire().unwrap_err(), SyncError::WouldBlock);
    drop(permit);
    assert!(handle.is_interrupted());
    assert_eq!(rx.recv(), Err(RecvError::Interrupted), "both at once");
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut));
    handle.interrupt();
    assert!(interrupt_handle().take() && !handle.take(), "a thread has one");
    assert_eq!(rx.recv_timeout(Duration::from_millis(1)), Err(RecvError::TimedOut));
}

#[test]
fn interrupt_ends_waits_of_its_own_thread_only() {
    let _sandbox = test_dir();
    let event = Event::new().unwrap();
    thread::scope(|scope| {
        let (handles, started) = std::sync::mpsc::channel();
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let (event, handles) = (&event, handles.clone());
                scope.spawn(move || {
                    handles.send((thread::current().id(), interrupt_handle())).unwrap();
                    event.wait()
                })
            })
            .collect();
        for _ in &waiters {
            let (id, handle) = started.recv().unwrap();
            if id == waiters[0].thread().id() {
                handle.interrupt();
            }
        }
        let mut waiters = waiters.into_iter();
        assert_eq!(waiters.next().unwrap().join().unwrap(), Err(SyncError::Interrupted));
        event.set().unwrap();
        assert_eq!(waiters.next().unwrap().join().unwrap(), Ok(()));
    });
}

#[test]
fn interrupt_handle_of_a_thread_that_ended_does_nothing() {
    let handle = thread::spawn(interrupt_handle).join().unwrap();
    handle.interrupt();
    assert!(handle.is_interrupted() && handle.take());
}

#[test]
fn interrupt_in_a_forked_child_is_its_own() {
    let alone = alone();
    let test_dir = test_dir();
    let counters = SharedCounters::at(&test_dir.file("counters"));
    let handle = interrupt_handle();
    let mut child = fork(&alone, || {
        let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        handle.interrupt();
        assert_eq!(rx.recv(), Err(RecvError::Interrupted));
        counters.word(0).store(1, Ordering::SeqCst);
        until(|| counters.word(1).load(Ordering::SeqCst) == 1);
        assert!(!handle.is_interrupted(), "the parent's");
    });
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    assert!(!handle.is_interrupted(), "the child's");
    handle.interrupt();
    counters.word(1).store(1, Ordering::SeqCst);
    assert_eq!(child.wait(), 0);
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    assert_eq!(rx.recv(), Err(RecvError::Interrupted));
}

// ---- storms ----------------------------------------------------------------------------------------------------------

const MESSAGES: u64 = 30_000;

/// Each message is received once, although every thread is interrupted all the time, and so is
/// whichever of them got a wake-up.
#[test]
fn interrupt_storm_queue_loses_no_message_and_no_wake_up() {
    let _sandbox = test_dir();
    let options = queue::Options::<u64>::new().capacity(2).wait(WaitStrategy::Park);
    let (mut tx, rx) = options.create_channel().unwrap();
    let (sum, count, interrupted) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (handles, started) = std::sync::mpsc::channel::<InterruptHandle>();
        let receivers = [rx.try_clone().unwrap(), rx.try_clone().unwrap(), rx];
        for (number, mut rx) in receivers.into_iter().enumerate() {
            let (sum, count, interrupted, is_over, handles) = (&sum, &count, &interrupted, &is_over, handles.clone());
            scope.spawn(move || {
                if number > 0 {
                    handles.send(interrupt_handle()).unwrap(); // the first one only sleeps
                }
                drop(handles);
                loop {
                    match rx.recv() {
                        Ok(number) => {
                            sum.fetch_add(number, Ordering::Relaxed);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(RecvError::Interrupted) => {
                            interrupted.fetch_add(1, Ordering::Relaxed);
                            // It takes nothing until another one has.
                            let before = count.load(Ordering::SeqCst);
                            until(|| count.load(Ordering::SeqCst) > before || is_over.load(Ordering::SeqCst));
                        }
                        Err(error) => return assert_eq!(error, RecvError::Closed),
                    }
                }
            });
        }
        scope.spawn(|| {
            handles.send(interrupt_handle()).unwrap();
            drop(handles);
            for number in 0..MESSAGES {
                while let Err(error) = tx.send(number) {
                    assert_eq!(error, SendError::Interrupted);
                    interrupted.fetch_add(1, Ordering::Relaxed);
                }
            }
            drop(tx);
            is_over.store(true, Ordering::SeqCst);
        });
        let handles: Vec<_> = started.iter().collect();
        while !is_over.load(Ordering::SeqCst) {
            handles.iter().for_each(InterruptHandle::interrupt);
            thread::sleep(Duration::from_micros(50));
        }
    });
    assert_eq!((count.into_inner(), sum.into_inner()), (MESSAGES, MESSAGES * (MESSAGES - 1) / 2));
    assert!(interrupted.into_inner() > 10, "nothing was interrupted");
}

/// The first of two waiters is notified, and interrupted before it can lock the mutex again.
#[test]
fn interrupt_of_a_notified_waiter_the_other_one_is_notified() {
    let _sandbox = test_dir();
    let (mutex, condvar) = (Mutex::new(0_u64).unwrap(), Condvar::new().unwrap());
    let pause = || thread::sleep(Duration::from_millis(50)); // until it sleeps
    thread::scope(|scope| {
        let (handles, started) = std::sync::mpsc::channel::<InterruptHandle>();
        let (mutex, condvar) = (&mutex, &condvar);
        let first = scope.spawn(move || {
            handles.send(interrupt_handle()).unwrap();
            condvar.wait(mutex.lock().unwrap()).is_err()
        });
        let handle = started.recv().unwrap();
        pause();
        scope.spawn(|| drop(condvar.wait(mutex.lock().unwrap()).unwrap()));
        pause();
        let guard = mutex.lock().unwrap();
        condvar.notify_one().unwrap();
        pause();
        handle.interrupt();
        assert!(first.join().unwrap());
        drop(guard);
    });
}

/// `notify_one` for each change, and two waiters of which one is interrupted: also while it locks
/// the mutex again.
#[test]
fn interrupt_storm_condvar_passes_notifications_on() {
    let _sandbox = test_dir();
    let (mutex, condvar) = (Mutex::new(0_u64).unwrap(), Condvar::new().unwrap());
    let taken = AtomicU64::new(0);
    const ROUNDS: u64 = 3000;
    let take = || {
        while taken.load(Ordering::SeqCst) < ROUNDS {
            let Ok(mut guard) = mutex.lock() else { continue };
            if *guard == 0 && taken.load(Ordering::SeqCst) < ROUNDS {
                match condvar.wait(guard) {
                    Ok(locked) => guard = locked,
                    Err(error) => {
                        assert!(matches!(error, LockError::Failed(SyncError::Interrupted)));
                        // It takes nothing until the other one has.
                        let before = taken.load(Ordering::SeqCst);
                        until(|| taken.load(Ordering::SeqCst) > before || before >= ROUNDS);
                        continue;
                    }
                }
            }
            if *guard > 0 {
                *guard -= 1;
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }
        condvar.notify_all().unwrap();
    };
    thread::scope(|scope| {
        let (handles, started) = std::sync::mpsc::channel::<InterruptHandle>();
        scope.spawn(take);
        let take = &take;
        scope.spawn(move || {
            handles.send(interrupt_handle()).unwrap();
            take();
        });
        let handle = started.recv().unwrap();
        let taken = &taken;
        scope.spawn(move || {
            while taken.load(Ordering::SeqCst) < ROUNDS {
                handle.interrupt();
                thread::sleep(Duration::from_micros(100));
            }
        });
        for round in 1..=ROUNDS {
            *mutex.lock().unwrap() += 1;
            condvar.notify_one().unwrap();
            until(|| taken.load(Ordering::SeqCst) == round);
        }
    });
}

// ---- signals ---------------------------------------------------------------------------------------------------------

static MAIN: OnceLock<InterruptHandle> = OnceLock::new();
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn interrupt_main(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
    if let Some(main) = MAIN.get() {
        main.interrupt();
    }
}

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::SeqCst);
}

/// Sends this thread a signal every 300 µs, with a handler that counts it and SA_RESTART.
fn send_signals_to_this_thread() {
    // SAFETY: the handler only counts; this thread lives as long as the process.
    let own = unsafe {
        libc::signal(libc::SIGUSR1, count_signal as *const () as libc::sighandler_t);
        libc::pthread_self()
    };
    thread::spawn(move || {
        loop {
            thread::sleep(Duration::from_micros(300));
            // SAFETY: as above.
            unsafe { libc::pthread_kill(own, libc::SIGUSR1) };
        }
    });
}

/// Every 300 µs a signal whose handler is this one, to any thread.
fn set_alarms(handler: extern "C" fn(libc::c_int)) {
    let every = libc::timeval { tv_sec: 0, tv_usec: 300 };
    let timer = libc::itimerval { it_interval: every, it_value: every };
    // SAFETY: the handlers here do only what this is about.
    unsafe {
        libc::signal(libc::SIGALRM, handler as *const () as libc::sighandler_t);
        libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut());
    }
}

fn be_interrupted_by_alarms(_: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let handle = MAIN.get_or_init(interrupt_handle);
    let (mut tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    set_alarms(interrupt_main);
    let mutex = Mutex::new(0_u64).unwrap();
    for round in 0..500 {
        assert_eq!(rx.recv(), Err(RecvError::Interrupted));
        // These do not wait, and are in the middle of it when the next signal comes.
        tx.send(round).unwrap();
        *mutex.lock().unwrap() += 1;
        assert_eq!(rx.recv(), Ok(round));
    }
    assert!(SIGNALS.load(Ordering::SeqCst) >= 500);
    let _ = handle.take();
}

fn sleep_through_signals(_: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let _handle = interrupt_handle();
    let (_tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    send_signals_to_this_thread();
    assert_eq!(rx.recv_timeout(Duration::from_millis(50)), Err(RecvError::TimedOut));
    assert!(SIGNALS.load(Ordering::SeqCst) > 0);
}

fn end_on_a_signal(_: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let handle = interrupt_handle();
    handle.on_signals(true);
    let (_tx, mut rx) = queue::Options::<u64>::new().create_channel().unwrap();
    let mut listener = Listener::bind(&format!("@tombolo-test-{}", std::process::id())).unwrap();
    send_signals_to_this_thread();
    for _ in 0..50 {
        assert_eq!(rx.recv(), Err(RecvError::Interrupted));
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(Event::new().unwrap().wait(), Err(SyncError::Interrupted));
    }
    handle.on_signals(false);
    let _ = handle.take();
    assert_eq!(rx.recv_timeout(Duration::from_millis(20)), Err(RecvError::TimedOut));
}

#[test]
fn interrupt_by_a_signal_handler_ends_wait() {
    let _sandbox = test_dir();
    start("be_interrupted_by_alarms", &[]).finish();
}

#[test]
fn interrupt_signal_ends_no_wait_unless_asked() {
    let _sandbox = test_dir();
    start("sleep_through_signals", &[]).finish();
}

#[test]
fn interrupt_on_signals_a_caught_signal_ends_wait() {
    let _sandbox = test_dir();
    start("end_on_a_signal", &[]).finish();
}
