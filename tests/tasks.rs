//! Futures and streams of endpoints: under tokio, smol and an executor of a few lines, cancelled
//! at every point, beside processes that are killed, and in forked children. Nothing is lost.

#[path = "support/executor.rs"]
mod executor;
mod support;

use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use executor::{Canceller, Unpark, block_on, endless, poll, smol_block_on, tokio_block_on};
use futures_core::Stream;
use futures_sink::Sink;
use support::{Random, SharedCounters, TestDir, alone, child_roles, fork, start, until};
use tombolo::rpc::{self, CallError, ReplyError};
use tombolo::sync::{BoundedSemaphore, Event, Semaphore, SyncError, Value};
use tombolo::{Endpoint, Namespace, RecvError, SendError, WaitStrategy, broadcast, pipe, queue};

child_roles!(
    echo,
    send_a_stream,
    send_and_be_killed,
    receive_one_of_a_queue,
    drop_a_woken_future,
    notice_a_death,
    echo_by_objects,
    acquire_one,
    wait_for_a_place,
    hold_places,
    subscribe,
    wait_for_a_dead_subscriber,
    call,
    respond,
    take_a_request,
    notice_the_death_of_a_responder,
    send_objects,
    receive_when_told,
    outlive_a_waker,
);

const NAME: &str = "name";
const BACK: &str = "back";
const ROUNDS: u64 = 2000;

async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
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
fn pipe_ping_pong_under_smol_loses_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    ping_pong(&test_dir, smol_block_on);
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

#[test]
fn queue_receive_cancelled_at_every_point_loses_no_message() {
    let (_alone, test_dir) = (alone(), endless());
    let mut rx = jobs(&test_dir.names()).receiver(NAME).unwrap();
    let sender = start("send_a_stream", &[&directory(&test_dir)]);
    let mut canceller = Canceller::new();
    let mut expected = 0;
    while expected < 10 * ROUNDS {
        if let Some(received) = canceller.run(rx.recv_async()) {
            assert_eq!(received, Ok(expected));
            expected += 1;
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

/// Panics when it wakes, with something that panics when it is dropped. Takes a lot of stack.
#[derive(Default)]
struct Panicking(AtomicU64);

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        struct PanicsWhenDropped;

        impl Drop for PanicsWhenDropped {
            fn drop(&mut self) {
                panic!("dropped");
            }
        }

        std::hint::black_box([0_u8; 512 << 10]);
        self.0.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new(PanicsWhenDropped));
    }
}

fn outlive_a_waker(_: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let panicking = Arc::new(Panicking::default());
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let (mut other_tx, mut other_rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut future = pin!(rx.recv_async());
    let waker = Waker::from(Arc::clone(&panicking));
    assert!(future.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let unpark = Unpark::new();
    let mut other = pin!(other_rx.recv_async());
    assert!(poll(other.as_mut(), &unpark).is_pending());
    tx.send(1).unwrap();
    until(|| panicking.0.load(Ordering::SeqCst) == 1);
    let before = unpark.count.load(Ordering::SeqCst);
    other_tx.send(2).unwrap();
    until(|| unpark.count.load(Ordering::SeqCst) > before);
    assert!(matches!(poll(other.as_mut(), &unpark), Poll::Ready(Ok(2))));
    assert!(matches!(future.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(1))));
}

#[test]
fn waker_that_panics_other_tasks_are_woken() {
    let (_alone, _test_dir) = (alone(), TestDir::new());
    start("outlive_a_waker", &[]).finish();
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

fn objects(names: &Path) -> Namespace {
    let builder = Namespace::builder().event("question").semaphore("answers", 0).value("number", 0_u64);
    builder.bounded_semaphore("places", 2).wait(WaitStrategy::Park).directory(names).open(NAME).unwrap()
}

fn echo_by_objects(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let objects = objects(Path::new(&arguments[0]));
    let (question, answers) = (objects.event("question").unwrap(), objects.semaphore("answers").unwrap());
    let number = objects.value::<u64>("number").unwrap();
    for round in 1..=ROUNDS {
        question.wait().unwrap();
        question.clear().unwrap();
        number.store(&round).unwrap();
        answers.release(2).unwrap();
    }
}

#[test]
fn semaphore_and_value_ping_pong_of_futures_loses_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    let objects = objects(&test_dir.names());
    let (question, answers) = (objects.event("question").unwrap(), objects.semaphore("answers").unwrap());
    let number = objects.value::<u64>("number").unwrap();
    let echo = start("echo_by_objects", &[&directory(&test_dir)]);
    block_on(async {
        for round in 1..=ROUNDS {
            question.set().unwrap();
            assert_eq!(number.wait_for_change_async().await, Ok(round));
            answers.acquire_many_async(2).await.unwrap().forget();
        }
    });
    echo.finish();
    let limit = answers.acquire_many_async(u32::MAX);
    assert!(matches!(block_on(limit), Err(SyncError::LimitExceeded { .. })));
}

#[test]
fn event_set_many_futures_of_one_handle_are_woken() {
    let (_alone, _test_dir) = (alone(), endless());
    let (event, runtime) = (Event::new().unwrap(), tokio::runtime::Builder::new_multi_thread().build().unwrap());
    for _ in 0..50 {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let event = event.clone();
                runtime.spawn(async move { event.wait_async().await })
            })
            .collect();
        event.set().unwrap();
        for task in tasks {
            assert_eq!(runtime.block_on(task).unwrap(), Ok(()));
        }
        event.clear().unwrap();
    }
}

#[test]
fn value_future_dropped_has_seen_nothing() {
    let (_alone, _test_dir) = (alone(), endless());
    let (value, unpark) = (Value::new(1).unwrap(), Unpark::new());
    let reader = value.clone();
    let mut future = Box::pin(reader.wait_for_change_async());
    assert!(poll(future.as_mut(), &unpark).is_pending());
    value.store(&2).unwrap();
    until(|| unpark.count.load(Ordering::SeqCst) == 1);
    drop(future);
    assert_eq!(block_on(reader.wait_for_change_async()), Ok(2));
}

fn acquire_one(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let answers = objects(Path::new(&arguments[0])).semaphore("answers").unwrap();
    counters.word(0).store(1, Ordering::SeqCst);
    answers.acquire().unwrap().forget();
}

/// The wake-up for a permit goes to this process, whose task ends without taking it. The other
/// process sleeps without end.
#[test]
fn semaphore_future_woken_and_dropped_wakes_another_process() {
    let (_alone, test_dir) = (alone(), endless());
    let file = test_dir.file("counters");
    let counters = SharedCounters::at(&file);
    let answers = objects(&test_dir.names()).semaphore("answers").unwrap();
    let unpark = Unpark::new();
    let mut future = Box::pin(answers.acquire_async());
    assert!(poll(future.as_mut(), &unpark).is_pending());
    thread::sleep(Duration::from_millis(5)); // the thread sleeps first, so the kernel wakes it first
    let other = start("acquire_one", &[&directory(&test_dir), file.to_str().unwrap()]);
    until(|| counters.word(0).load(Ordering::SeqCst) == 1);
    thread::sleep(Duration::from_millis(50));
    answers.release(1).unwrap();
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    drop(future);
    other.finish();
    assert_eq!(answers.available(), Ok(0));
}

#[test]
fn semaphore_acquire_cancelled_at_every_point_loses_no_permit() {
    let (_alone, _test_dir) = (alone(), endless());
    let (semaphore, bounded) = (Semaphore::new(0).unwrap(), BoundedSemaphore::new(1).unwrap());
    let mut canceller = Canceller::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..ROUNDS {
                semaphore.release(1).unwrap();
                drop(bounded.acquire().unwrap());
            }
        });
        let mut acquired = 0;
        while acquired < ROUNDS {
            canceller.run(async {
                semaphore.acquire_async().await.unwrap().forget();
                acquired += 1;
                drop(bounded.acquire_async().await.unwrap());
            });
        }
    });
    assert_eq!((semaphore.available(), bounded.available()), (Ok(0), 1));
}

#[test]
fn semaphore_task_and_threads_in_a_loop_all_get_their_turn() {
    let (_alone, _test_dir) = (alone(), endless());
    let semaphore = BoundedSemaphore::new(1).unwrap();
    let turns: [AtomicU64; 3] = Default::default();
    let is_done = || turns.iter().all(|count| count.load(Ordering::SeqCst) >= 100);
    thread::scope(|scope| {
        for count in &turns[1..] {
            scope.spawn(|| {
                while !is_done() {
                    let _permit = semaphore.acquire().unwrap();
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        block_on(async {
            while !is_done() {
                let _permit = semaphore.acquire_async().await.unwrap();
                turns[0].fetch_add(1, Ordering::SeqCst);
            }
        });
    });
}

#[test]
fn semaphore_future_dropped_after_long_wait_newcomer_takes_permit() {
    let (_alone, _test_dir) = (alone(), endless());
    let (semaphore, unpark) = (Semaphore::new(1).unwrap(), Unpark::new());
    let permit = semaphore.acquire().unwrap();
    let mut future = Box::pin(semaphore.acquire_async());
    assert!(poll(future.as_mut(), &unpark).is_pending());
    thread::sleep(Duration::from_millis(5));
    assert!(poll(future.as_mut(), &unpark).is_pending()); // it has waited for so long that it goes first
    // The call that tries although others go first, which there is once in LIVENESS_INTERVAL.
    assert_eq!(semaphore.try_acquire().unwrap_err(), SyncError::WouldBlock);
    drop(permit);
    drop(future);
    drop(semaphore.try_acquire().unwrap());
}

fn wait_for_a_place(arguments: &[String]) {
    let places = objects(Path::new(&arguments[0])).bounded_semaphore("places").unwrap();
    let holder = start("hold_places", &[&arguments[0]]);
    until(|| places.available() == 0);
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        holder.kill();
    });
    block_on(places.acquire_many_async(2)).unwrap().forget();
    killer.join().unwrap();
}

fn hold_places(arguments: &[String]) {
    let places = objects(Path::new(&arguments[0])).bounded_semaphore("places").unwrap();
    let _permits = places.acquire_many(2).unwrap();
    thread::sleep(Duration::from_secs(3600));
}

#[test]
fn bounded_semaphore_owner_killed_future_gets_its_permits() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    start("wait_for_a_place", &[&directory(&test_dir)]).finish();
}

#[test]
fn forked_child_polls_a_future_of_an_object_of_its_parent() {
    let (alone, _test_dir) = (alone(), endless());
    let (event, unpark) = (Event::new().unwrap(), Unpark::new());
    let mut future = Some(Box::pin(event.wait_async()));
    assert!(poll(future.as_mut().unwrap().as_mut(), &unpark).is_pending());
    let child = fork(&alone, || {
        let mut future = future.take().unwrap();
        assert_eq!(poll(future.as_mut(), &unpark), Poll::Ready(Err(SyncError::Forked)));
    });
    child.finish();
    event.set().unwrap();
    assert_eq!(block_on(future.take().unwrap()), Ok(()));
}

fn lossless(names: &Path) -> broadcast::Options<u64> {
    broadcast::Options::new().capacity(2).policy(broadcast::Policy::Lossless).directory(names)
}

fn subscribe(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let names = Path::new(&arguments[0]);
    let mut subscriber = lossless(names).wait(WaitStrategy::Park).subscriber(NAME).unwrap();
    let sleeps = arguments.len() > 1;
    for value in 0..ROUNDS {
        assert_eq!(subscriber.recv(), Ok(value));
        if sleeps {
            thread::sleep(Duration::from_secs(3600));
        }
    }
}

#[test]
fn publisher_cancelled_at_every_point_publishes_each_value_once() {
    let (_alone, test_dir) = (alone(), endless());
    let mut publisher = lossless(&test_dir.names()).publisher(NAME).unwrap();
    let subscriber = start("subscribe", &[&directory(&test_dir)]);
    publisher.wait_for_subscribers(1, Duration::from_secs(60)).unwrap();
    let mut canceller = Canceller::new();
    let mut value = 0;
    while value < ROUNDS {
        if let Some(published) = canceller.run(publisher.publish_async(value)) {
            published.unwrap();
            value += 1;
        }
    }
    subscriber.finish();
}

fn wait_for_a_dead_subscriber(arguments: &[String]) {
    let mut publisher = lossless(Path::new(&arguments[0])).publisher(NAME).unwrap();
    let subscriber = start("subscribe", &[&arguments[0], "and sleep"]);
    publisher.wait_for_subscribers(1, Duration::from_secs(60)).unwrap();
    let killer = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        subscriber.kill();
    });
    block_on(async {
        for value in 0..10 {
            publisher.publish_async(value).await.unwrap();
        }
    });
    assert_eq!(publisher.subscribers(), 0);
    killer.join().unwrap();
}

#[test]
fn publisher_future_does_not_wait_for_a_subscriber_that_was_killed() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    start("wait_for_a_dead_subscriber", &[&directory(&test_dir)]).finish();
}

fn call(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let options = rpc::Options::<u64, u64>::new().wait(WaitStrategy::Park).directory(&arguments[0]);
    let mut caller = options.caller(NAME).unwrap();
    for value in 0..ROUNDS {
        assert_eq!(caller.call(value), Ok(value + 1));
    }
    assert_eq!(caller.call(ROUNDS), Err(CallError::Dropped));
}

#[test]
fn responder_cancelled_at_every_point_loses_no_request() {
    let (_alone, test_dir) = (alone(), endless());
    let options = rpc::Options::<u64, u64>::new().directory(test_dir.names());
    let mut responder = options.responder(NAME).unwrap();
    let caller = start("call", &[&directory(&test_dir)]);
    let mut canceller = Canceller::new();
    let mut expected = 0;
    while expected < ROUNDS {
        if let Some(request) = canceller.run(responder.recv_async()) {
            let request = request.unwrap();
            assert_eq!(*request, expected);
            request.reply(expected + 1).unwrap();
            expected += 1;
        }
    }
    drop(block_on(responder.recv_async()).unwrap());
    assert!(matches!(block_on(responder.recv_async()), Err(RecvError::Closed)));
    caller.finish();
}

// ---- requests ---------------------------------------------------------------------------------------------------------

fn requests(names: &Path) -> rpc::Options<u64, u64> {
    rpc::Options::new().wait(WaitStrategy::Park).directory(names)
}

/// Replies with the next number, but drops each request for a multiple of 100.
fn respond(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let mut responder = requests(Path::new(&arguments[0])).responder(NAME).unwrap();
    loop {
        match responder.recv() {
            Ok(request) if request.is_multiple_of(100) => drop(request),
            Ok(request) => {
                let next = *request + 1;
                let _ = request.reply(next); // or it is given up
            }
            Err(end) => break assert_eq!(end, RecvError::Closed),
        }
    }
}

fn call_rounds(test_dir: &TestDir, run: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>)) {
    let mut caller = requests(&test_dir.names()).caller(NAME).unwrap();
    let responder = start("respond", &[&directory(test_dir)]);
    run(Box::pin(async move {
        for number in 0..ROUNDS {
            let expected = if number % 100 == 0 { Err(CallError::Dropped) } else { Ok(number + 1) };
            assert_eq!(caller.call_async(number).await, expected);
            caller.start(number).unwrap();
            assert_eq!(caller.call_async(number).await, Err(CallError::Unfinished), "it gives nothing up");
            assert_eq!(caller.finish_async().await, expected);
            assert_eq!(caller.finish_async().await, Err(CallError::NoRequest));
        }
    }));
    responder.finish();
}

#[test]
fn caller_calls_of_futures_lose_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    call_rounds(&test_dir, block_on);
}

#[test]
fn caller_calls_under_tokio_lose_no_wake_up() {
    let (_alone, test_dir) = (alone(), endless());
    call_rounds(&test_dir, tokio_block_on);
}

#[test]
fn caller_cancelled_at_every_point_gets_only_its_own_replies() {
    let (_alone, test_dir) = (alone(), endless());
    let mut caller = requests(&test_dir.names()).caller(NAME).unwrap();
    let responder = start("respond", &[&directory(&test_dir)]);
    let mut canceller = Canceller::new();
    let mut replies = 0;
    for number in (1..).filter(|number| number % 100 != 0) {
        if let Some(reply) = canceller.run(caller.call_async(number)) {
            assert_eq!(reply, Ok(number + 1));
            replies += 1;
        }
        assert_eq!(caller.try_finish(), Err(CallError::NoRequest), "it is over, or given up");
        if replies == ROUNDS {
            break;
        }
    }
    drop(caller);
    responder.finish();
}

#[test]
fn caller_finish_cancelled_at_every_point_loses_no_reply() {
    let (_alone, test_dir) = (alone(), endless());
    let mut caller = requests(&test_dir.names()).caller(NAME).unwrap();
    let responder = start("respond", &[&directory(&test_dir)]);
    let mut canceller = Canceller::new();
    for number in (1..ROUNDS).filter(|number| number % 100 != 0) {
        caller.start(number).unwrap();
        let reply = loop {
            if let Some(reply) = canceller.run(caller.finish_async()) {
                break reply;
            }
        };
        assert_eq!(reply, Ok(number + 1));
    }
    drop(caller);
    responder.finish();
}

/// Nobody responds. Each request is withdrawn with its future.
#[test]
fn caller_future_dropped_by_a_timeout_withdraws_its_request() {
    let (_alone, test_dir) = (alone(), endless());
    let mut caller = requests(&test_dir.names()).caller(NAME).unwrap();
    let mut responder = requests(&test_dir.names()).responder(NAME).unwrap();
    let mut reply = Vec::new();
    let (mut byte_caller, mut byte_responder) = rpc::Options::bytes().create().unwrap();
    tokio_block_on(async {
        let moment = Duration::from_millis(1);
        for number in 0..20 {
            assert!(tokio::time::timeout(moment, caller.call_async(number)).await.is_err());
            assert!(tokio::time::timeout(moment, byte_caller.call_async("a", &mut reply)).await.is_err());
            let object = byte_caller.call_object_async::<_, u64>(&number);
            assert!(tokio::time::timeout(moment, object).await.is_err());
        }
    });
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(byte_responder.try_recv(), Err(RecvError::Empty)));
    // One that was taken goes on, and its reply goes nowhere.
    let unpark = Unpark::new();
    let mut call = Box::pin(caller.call_async(1));
    assert!(poll(call.as_mut(), &unpark).is_pending());
    let request = responder.try_recv().unwrap();
    drop(call);
    assert_eq!(request.reply(7), Err(ReplyError::GivenUp));
    // One that was never polled was never made.
    drop(caller.call_async(2));
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)));
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(responder.recv().unwrap().reply(8), Ok(())));
        assert_eq!(block_on(caller.call_async(3)), Ok(8));
    });
}

#[test]
fn byte_caller_futures_of_bytes_and_objects_return_their_replies() {
    let (_alone, _test_dir) = (alone(), endless());
    let (mut caller, mut responder) = rpc::Options::bytes().max_request_bytes(100).create().unwrap();
    let responding = thread::spawn(move || {
        responder.serve(<[u8]>::to_vec).unwrap();
    });
    let mut reply = Vec::new();
    block_on(async {
        let too_large = CallError::TooLarge { length: 101, limit: 100 };
        for length in 0..=100 {
            assert_eq!(caller.call_async(vec![length; length.into()], &mut reply).await, Ok(length.into()));
            assert_eq!(reply, vec![length; length.into()]);
            assert_eq!(caller.call_async([0; 101], &mut reply).await, Err(too_large));
            caller.start([length]).unwrap();
            assert_eq!((caller.finish_async(&mut reply).await, &reply[..]), (Ok(1), &[length][..]));
            assert_eq!(caller.call_object_async(&("Ada", length)).await, Ok(("Ada".to_string(), length)));
            caller.start_object(&length).unwrap();
            assert_eq!(caller.finish_object_async().await, Ok(length));
            assert_eq!(caller.call_object_async::<_, String>(&length).await.is_ok(), length == 0);
        }
    });
    drop(caller);
    responding.join().unwrap();
}

/// Takes a request, and is killed with it.
fn take_a_request(arguments: &[String]) {
    let mut responder = requests(Path::new(&arguments[0])).responder(NAME).unwrap();
    let _request = responder.recv().unwrap();
    SharedCounters::at(Path::new(&arguments[1])).word(0).store(1, Ordering::SeqCst);
    thread::sleep(Duration::from_secs(3600));
}

fn notice_the_death_of_a_responder(arguments: &[String]) {
    let (names, taken) = (Path::new(&arguments[0]).to_owned(), SharedCounters::at(Path::new(&arguments[1])));
    for (retries, expected) in [(false, Err(CallError::ResponderDied)), (true, Ok(8))] {
        let options = requests(&names).wait_for_successor();
        let mut caller = if retries { options.retry() } else { options }.caller(NAME).unwrap();
        let responder = start("take_a_request", &[&arguments[0], &arguments[1]]);
        thread::scope(|scope| {
            scope.spawn(|| {
                until(|| taken.word(0).swap(0, Ordering::SeqCst) == 1);
                // While the task waits, so that only a liveness check can tell.
                thread::sleep(Duration::from_millis(50));
                responder.kill();
                if retries {
                    let mut successor = requests(&names).responder(NAME).unwrap();
                    let request = successor.recv().unwrap();
                    let next = *request + 1;
                    request.reply(next).unwrap();
                }
            });
            assert_eq!(tokio_block_on(caller.call_async(7)), expected);
        });
    }
}

#[test]
fn caller_responder_killed_future_reports_its_death() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let file = test_dir.file("counters");
    let _taken = SharedCounters::at(&file);
    start("notice_the_death_of_a_responder", &[&directory(&test_dir), file.to_str().unwrap()]).finish();
}

fn byte_messages(names: &Path) -> queue::Options<[u8]> {
    queue::Options::bytes().capacity(4).directory(names)
}

fn send_objects(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let names = Path::new(&arguments[0]);
    let mut tx = byte_messages(names).wait(WaitStrategy::Park).sender(NAME).unwrap();
    for number in 0..ROUNDS {
        tx.send_object(&(number, number.to_string())).unwrap();
    }
}

#[test]
fn queue_object_futures_cancelled_at_every_point_lose_none() {
    let (_alone, test_dir) = (alone(), endless());
    let mut rx = byte_messages(&test_dir.names()).receiver(NAME).unwrap();
    let (mut back_tx, mut back_rx) = byte_messages(&test_dir.names()).create_channel().unwrap();
    let sender = start("send_objects", &[&directory(&test_dir)]);
    let echo = thread::spawn(move || {
        for number in 0..ROUNDS {
            assert_eq!(back_rx.recv_object::<String>(), Ok(number.to_string()));
        }
    });
    let mut canceller = Canceller::new();
    for number in 0..ROUNDS {
        let (received, text): (u64, String) = loop {
            if let Some(object) = canceller.run(rx.recv_object_async()) {
                break object.unwrap();
            }
        };
        assert_eq!((received, &text), (number, &number.to_string()));
        while canceller.run(back_tx.send_object_async(&text)).is_none() {}
    }
    sender.finish();
    echo.join().unwrap();
}

#[test]
fn queue_task_of_a_dropped_future_is_given_back() {
    let (_alone, test_dir) = (alone(), endless());
    let options = jobs(&test_dir.names()).on_death(queue::OnDeath::Redeliver { times: 200 });
    let (mut tx, mut rx) = options.create_channel().unwrap();
    let sender = thread::spawn(move || {
        for number in 0..ROUNDS {
            tx.send(number).unwrap();
        }
        tx.join()
    });
    let mut canceller = Canceller::new();
    let mut random = Random(8);
    let mut expected = 0;
    while expected < ROUNDS {
        let Some(task) = canceller.run(rx.recv_task_async()) else { continue };
        let task = task.unwrap();
        assert_eq!(*task, expected);
        if random.below(2) == 0 {
            task.done().unwrap();
            expected += 1;
        }
    }
    assert_eq!(sender.join().unwrap(), Ok(()));
}

#[test]
fn sinks_of_a_pipe_and_a_queue_send_each_message_once() {
    let (_alone, test_dir) = (alone(), endless());
    let (tx, mut rx) = values(&test_dir.names()).capacity(2).create().unwrap();
    let (mut bytes_tx, mut bytes_rx) = byte_messages(&test_dir.names()).create_channel().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (mut sink, mut bytes) = (tx.into_sink(), bytes_tx.sink());
            let mut canceller = Canceller::new();
            for value in 0..ROUNDS {
                while canceller.run(poll_fn(|context| Pin::new(&mut sink).poll_ready(context))).is_none() {}
                Pin::new(&mut sink).start_send(value).unwrap();
                block_on(poll_fn(|context| Pin::new(&mut bytes).poll_ready(context))).unwrap();
                Pin::new(&mut bytes).start_send(value.to_string()).unwrap();
            }
            block_on(poll_fn(|context| Pin::new(&mut bytes).poll_flush(context))).unwrap();
            while canceller.run(poll_fn(|context| Pin::new(&mut sink).poll_close(context))).is_none() {}
        });
        for value in 0..ROUNDS {
            assert_eq!(rx.recv(), Ok(value));
            let mut message = Vec::new();
            bytes_rx.recv(&mut message).unwrap();
            assert_eq!(message, value.to_string().into_bytes());
        }
        assert_eq!(rx.recv(), Err(RecvError::Closed));
    });
}

#[test]
fn sink_of_a_full_pipe_keeps_one_message_until_its_flush() {
    let (_alone, test_dir) = (alone(), endless());
    let (mut tx, mut rx) = values(&test_dir.names()).capacity(2).create().unwrap();
    let unpark = Unpark::new();
    let capacity = tx.capacity() as u64;
    let mut sink = pin!(tx.sink());
    for value in 0..=capacity {
        sink.as_mut().start_send(value).unwrap();
    }
    assert_eq!(sink.as_mut().start_send(capacity + 1), Err(SendError::Full));
    assert!(poll(pin!(poll_fn(|context| sink.as_mut().poll_ready(context))), &unpark).is_pending());
    assert_eq!(rx.recv(), Ok(0));
    until(|| unpark.count.load(Ordering::SeqCst) > 0);
    assert_eq!(block_on(poll_fn(|context| sink.as_mut().poll_ready(context))), Ok(()));
    drop(rx);
    sink.as_mut().start_send(7).unwrap_err();
}
