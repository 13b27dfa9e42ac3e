//! Futures and streams of endpoints: under tokio and under an executor of a few lines, cancelled at
//! every point, beside processes that are killed, and in forked children. Nothing is lost.

mod support;

use std::future::Future;
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use futures_core::Stream;
use support::{Random, SharedCounters, TestDir, alone, child_roles, fork, start, until};
use tombolo::{RecvError, SendError, WaitStrategy, broadcast, pipe, queue};

child_roles!(
    echo,
    send_a_stream,
    send_and_be_killed,
    receive_one_of_a_queue,
    drop_a_woken_future,
    notice_a_death,
    receive_when_told
);

const NAME: &str = "name";
const BACK: &str = "back";
const ROUNDS: u64 = 2000;

/// Wakes by unparking a thread, and counts.
struct Unpark {
    thread: Thread,
    count: AtomicU64,
}

impl Unpark {
    fn new() -> Arc<Self> {
        Arc::new(Self { thread: thread::current(), count: AtomicU64::new(0) })
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.thread.unpark();
    }
}

/// From here on no sleep of this process ends by itself, so a wake-up that is missing is a test that
/// hangs.
fn endless() -> TestDir {
    tombolo::test_hooks::disable_liveness_interval();
    TestDir::new()
}

/// The executor.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let waker = Waker::from(Unpark::new());
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    std::future::poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}

fn tokio_block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn directory(test_dir: &TestDir) -> String {
    test_dir.names().to_str().unwrap().to_string()
}

fn values(names: &Path) -> pipe::Options<u64> {
    pipe::Options::new().capacity(4).directory(names)
}

fn jobs(names: &Path) -> queue::Options<u64> {
    queue::Options::new().capacity(4).directory(names)
}

fn echo(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let names = Path::new(&arguments[0]);
    let mut rx = values(names).wait(WaitStrategy::Park).receiver(NAME).unwrap();
    let mut tx = values(names).wait(WaitStrategy::Park).sender(BACK).unwrap();
    for value in rx.iter() {
        tx.send(value.unwrap()).unwrap();
    }
}

fn ping_pong(test_dir: &TestDir, run: impl FnOnce(Pin<Box<dyn Future<Output = ()>>>)) {
    let echo = start("echo", &[&directory(test_dir)]);
    let mut tx = values(&test_dir.names()).sender(NAME).unwrap();
    let mut rx = values(&test_dir.names()).receiver(BACK).unwrap();
    run(Box::pin(async move {
        for value in 0..ROUNDS {
            tx.send_async(value).await.unwrap();
            assert_eq!(rx.recv_async().await, Ok(value));
        }
        drop(tx);
        assert_eq!(rx.recv_async().await, Err(RecvError::Closed));
    }));
    echo.finish();
}

#[test]
fn pipe_ping_pong_of_futures_loses_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    ping_pong(&test_dir, block_on);
}

#[test]
fn pipe_ping_pong_under_tokio_loses_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    ping_pong(&test_dir, tokio_block_on);
}

#[test]
fn full_pipe_and_queue_send_async_waits_for_room() {
    let (_alone, test_dir) = (alone(), endless());
    let (mut tx, mut rx) = values(&test_dir.names()).capacity(2).create().unwrap();
    let (mut jobs_tx, mut jobs_rx) = jobs(&test_dir.names()).create_channel().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            block_on(async {
                for value in 0..ROUNDS {
                    tx.send_async(value).await.unwrap();
                    jobs_tx.send_async(value).await.unwrap();
                }
            });
        });
        tokio_block_on(async {
            for value in 0..ROUNDS {
                assert_eq!(rx.recv_async().await, Ok(value));
                assert_eq!(jobs_rx.recv_async().await, Ok(value));
            }
        });
    });
}

#[test]
fn byte_messages_and_broadcasts_arrive_as_a_stream() {
    let (_alone, test_dir) = (alone(), endless());
    let (mut tx, mut rx) = pipe::Options::bytes().directory(test_dir.names()).create().unwrap();
    let options = broadcast::Options::<u64>::new().capacity(4).directory(test_dir.names());
    let mut subscriber = options.subscriber(NAME).unwrap();
    let mut publisher = options.publisher(NAME).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for value in 0..ROUNDS {
                tx.send(value.to_ne_bytes()).unwrap();
                publisher.publish(value).unwrap();
            }
        });
        block_on(async {
            let (mut stream, mut published) = (rx.stream(), subscriber.stream());
            for value in 0..ROUNDS {
                assert_eq!(next(&mut stream).await, Some(Ok(value.to_ne_bytes().to_vec())));
                assert_eq!(next(&mut published).await, Some(Ok(value)));
            }
            assert_eq!(next(&mut stream).await, None);
            assert_eq!(next(&mut published).await, None);
        });
    });
}

fn send_a_stream(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let mut tx = jobs(Path::new(&arguments[0])).wait(WaitStrategy::Park).sender(NAME).unwrap();
    for value in 0..10 * ROUNDS {
        tx.send(value).unwrap();
    }
}

/// A future is dropped before it was polled, while it waits, after it was woken, or when it has
/// received.
#[test]
fn queue_receive_cancelled_at_every_point_loses_no_message() {
    let (_alone, test_dir) = (alone(), endless());
    let mut rx = jobs(&test_dir.names()).receiver(NAME).unwrap();
    let sender = start("send_a_stream", &[&directory(&test_dir)]);
    let unpark = Unpark::new();
    let waker = Waker::from(Arc::clone(&unpark));
    let mut random = Random(7);
    let mut expected = 0;
    while expected < 10 * ROUNDS {
        let before = unpark.count.load(Ordering::SeqCst);
        let mut future = pin!(rx.recv_async());
        let point = random.below(4);
        if point == 0 {
            continue; // never polled
        }
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(received) => {
                    assert_eq!(received, Ok(expected));
                    expected += 1;
                    break;
                }
                Poll::Pending if point == 1 => break,
                Poll::Pending => until(|| unpark.count.load(Ordering::SeqCst) > before),
            }
            if point == 2 {
                break;
            }
        }
    }
    sender.finish();
}

fn send_and_be_killed(arguments: &[String]) {
    let mut tx = values(Path::new(&arguments[0])).sender(NAME).unwrap();
    tx.send(7).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn pipe_sender_killed_future_reports_peer_died() {
    let (_alone, test_dir) = (alone(), endless());
    start("notice_a_death", &[&directory(&test_dir)]).finish();
}

fn notice_a_death(arguments: &[String]) {
    let mut rx = values(Path::new(&arguments[0])).receiver(NAME).unwrap();
    let sender = start("send_and_be_killed", &[&arguments[0]]);
    assert_eq!(block_on(rx.recv_async()), Ok(7));
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        sender.kill();
    });
    assert_eq!(block_on(rx.recv_async()), Err(RecvError::PeerDied));
    killer.join().unwrap();
}

fn receive_one_of_a_queue(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = jobs(Path::new(&arguments[0])).wait(WaitStrategy::Park).receiver(NAME).unwrap();
    counters.word(0).store(1, Ordering::SeqCst);
    assert_eq!(rx.recv(), Ok(7));
}

#[test]
fn queue_future_woken_and_dropped_wakes_another_receiver() {
    let (_alone, test_dir) = (alone(), endless());
    let file = test_dir.file("counters");
    start("drop_a_woken_future", &[&directory(&test_dir), file.to_str().unwrap()]).finish();
}

/// The wake-up for a message goes to this process, whose task ends without taking it. The other
/// process sleeps without end.
fn drop_a_woken_future(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let names = Path::new(&arguments[0]);
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut tx = jobs(names).sender(NAME).unwrap();
    let mut rx = jobs(names).receiver(NAME).unwrap();
    let unpark = Unpark::new();
    let waker = Waker::from(Arc::clone(&unpark));
    let mut future = Box::pin(rx.recv_async());
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    thread::sleep(Duration::from_millis(5)); // the thread sleeps first, so the kernel wakes it first
    let other = start("receive_one_of_a_queue", &[&arguments[0], &arguments[1]]);
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(50));
    let before = unpark.count.load(Ordering::SeqCst);
    tx.send(7).unwrap();
    until(|| unpark.count.load(Ordering::SeqCst) > before);
    drop(future);
    other.finish();
}

const TIMES: u64 = 20;

fn receive_when_told(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let mut rx = jobs(Path::new(&arguments[0])).wait(WaitStrategy::Park).receiver(NAME).unwrap();
    for time in 1..=TIMES {
        until(|| counters.word(0).load(Ordering::SeqCst) == time);
        counters.word(1).store(time, Ordering::SeqCst);
        assert_eq!(rx.recv(), Ok(time));
    }
}

/// The waiter thread, which is still asleep, gets the wake-up, and nobody waits for it any more.
#[test]
fn queue_future_dropped_just_before_a_message_wakes_another_receiver() {
    let (_alone, test_dir) = (alone(), endless());
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let mut tx = jobs(&test_dir.names()).sender(NAME).unwrap();
    let mut rx = jobs(&test_dir.names()).receiver(NAME).unwrap();
    let other = start("receive_when_told", &[&directory(&test_dir), file.to_str().unwrap()]);
    let waker = Waker::from(Unpark::new());
    for time in 1..=TIMES {
        let mut future = Box::pin(rx.recv_async());
        assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        thread::sleep(Duration::from_millis(2)); // the thread sleeps first, so the kernel wakes it first
        counters.word(0).store(time, Ordering::SeqCst);
        until(|| counters.word(1).load(Ordering::SeqCst) == time);
        thread::sleep(Duration::from_millis(10));
        drop(future);
        tx.send(time).unwrap();
        until(|| tx.is_empty()); // the other one has it
    }
    other.finish();
}

#[test]
fn runtime_that_ends_with_pending_futures_passes_its_wake_ups_on() {
    let (_alone, test_dir) = (alone(), endless());
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let mut tx = jobs(&test_dir.names()).sender(NAME).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    for _ in 0..20 {
        let mut rx = jobs(&test_dir.names()).receiver(NAME).unwrap();
        runtime.spawn(async move {
            // Its task ends with the runtime, whatever it is woken for.
            let received = rx.recv_async().await;
            panic!("{received:?} before the end of the runtime");
        });
    }
    thread::sleep(Duration::from_millis(20));
    let other = start("receive_one_of_a_queue", &[&directory(&test_dir), file.to_str().unwrap()]);
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(50));
    drop(runtime);
    tx.send(7).unwrap();
    other.finish();
}

#[test]
fn forked_child_drops_a_pending_future_of_its_parent() {
    let (alone, test_dir) = (alone(), endless());
    let (mut tx, mut rx) = values(&test_dir.names()).create().unwrap();
    let waker = Waker::from(Unpark::new());
    let mut future = Some(Box::pin(rx.recv_async()));
    assert!(future.as_mut().unwrap().as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let child = fork(&alone, || {
        drop(future.take());
        let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        thread::spawn(move || tx.send(1));
        assert_eq!(block_on(rx.recv_async()), Ok(1));
    });
    child.finish();
    tx.send(2).unwrap();
    assert_eq!(block_on(future.take().unwrap()), Ok(2));
    drop(future);
    drop(rx);
    assert_eq!(block_on(tx.send_async(3)), Err(SendError::Closed));
}
