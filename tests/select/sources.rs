//! When each kind of source is ready.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::broadcast::{self, Frames, Policy};
use tombolo::queue::{self, Blocks, OnDeath};
use tombolo::select::{Descriptor, SelectError, Selector, Source, Timer};
use tombolo::sync::{BoundedSemaphore, Event, Semaphore, Value};
use tombolo::{Pod, RecvError, SendError, Shareable, pipe, rpc};

const MOMENT: Duration = Duration::from_millis(5);

fn is_ready(source: &mut dyn Source) -> bool {
    let found = Selector::new().try_wait(&mut [source]);
    assert!(matches!(found, Ok(0) | Err(SelectError::NotReady)), "{found:?}");
    found.is_ok()
}

#[test]
fn pipe_of_values_is_ready_as_its_try_calls_say() {
    let (mut tx, mut rx) = pipe::Options::<u64>::new().capacity(2).create().unwrap();
    assert!(is_ready(&mut tx) && !is_ready(&mut rx));
    tx.send_many(&[1, 2]).unwrap();
    assert!(!is_ready(&mut tx) && is_ready(&mut rx));
    assert_eq!(rx.try_recv(), Ok(1));
    assert!(is_ready(&mut tx) && is_ready(&mut rx));
    drop(tx);
    assert_eq!(rx.try_recv(), Ok(2));
    assert!(is_ready(&mut rx));
    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
    assert!(is_ready(&mut rx), "the end stays");
}

#[test]
fn pipe_receiver_left_sender_is_ready() {
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    tx.send(1).unwrap();
    assert!(!is_ready(&mut tx));
    drop(rx);
    assert!(is_ready(&mut tx));
    assert_eq!(tx.try_send(2), Err(SendError::Closed));
}

#[test]
fn pipe_of_bytes_is_ready_for_the_message_that_was_refused() {
    let (mut tx, mut rx) = pipe::Options::bytes().capacity_bytes(256).create().unwrap();
    assert!(is_ready(&mut tx) && !is_ready(&mut rx));
    let mut sent = 0;
    while tx.try_send([0; 56]).is_ok() {
        sent += 1;
    }
    assert!(sent > 2 && !is_ready(&mut tx) && is_ready(&mut rx));
    assert_eq!(tx.try_send([0; 120]), Err(SendError::Full));
    let mut message = Vec::new();
    rx.try_recv(&mut message).unwrap();
    assert!(!is_ready(&mut tx), "the room is too small");
    while rx.try_recv(&mut message).is_ok() {}
    assert!(is_ready(&mut tx) && !is_ready(&mut rx));
    tx.try_send([0; 120]).unwrap();
}

#[test]
fn duplex_pipe_is_ready_when_there_is_something_to_receive() {
    let (mut left, mut right) = pipe::Options::<u8>::new().create_duplex().unwrap();
    assert!(!is_ready(&mut left) && !is_ready(&mut right));
    left.send(1).unwrap();
    assert!(!is_ready(&mut left) && is_ready(&mut right));
    assert!(is_ready(&mut left.tx), "each direction is a source, too");
    drop(right);
    assert!(is_ready(&mut left));
}

#[test]
fn queue_is_ready_as_its_try_calls_say() {
    let (mut tx, mut rx) = queue::Options::<u64>::new().capacity(2).create_channel().unwrap();
    let mut other = rx.try_clone().unwrap();
    assert!(is_ready(&mut tx) && !is_ready(&mut rx));
    tx.send_many(&[1, 2]).unwrap();
    assert!(!is_ready(&mut tx) && is_ready(&mut rx) && is_ready(&mut other));
    assert_eq!((rx.try_recv(), other.try_recv()), (Ok(1), Ok(2)));
    assert!(is_ready(&mut tx) && !is_ready(&mut rx));
    tx.close().unwrap();
    assert!(is_ready(&mut tx) && is_ready(&mut rx));
    assert_eq!((tx.try_send(3), rx.try_recv()), (Err(SendError::Closed), Err(RecvError::Closed)));
}

#[test]
fn queue_handle_is_ready_when_there_is_something_to_receive() {
    let mut queue = queue::Options::<u64>::new().create().unwrap();
    assert!(!is_ready(&mut queue));
    queue.send(1).unwrap();
    assert!(is_ready(&mut queue));
}

#[test]
fn queue_of_bytes_out_of_blocks_sender_is_ready_when_one_is_free() {
    let options = queue::Options::bytes()
        .inline_bytes(16)
        .blocks(Blocks { count: 1, bytes: 4096 })
        .max_message_bytes(4096)
        .extents(0);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    tx.send([1; 1000]).unwrap();
    assert!(is_ready(&mut tx), "a short message has room");
    assert_eq!(tx.try_send([2; 1000]), Err(SendError::Full));
    assert!(!is_ready(&mut tx));
    let mut selector = Selector::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(5));
            rx.recv(&mut Vec::new()).unwrap();
        });
        assert_eq!(selector.wait(&mut [&mut tx]), Ok(0));
    });
    tx.try_send([2; 1000]).unwrap();
}

#[test]
fn queue_of_bytes_out_of_extents_or_blocks_sender_is_ready_for_what_fits() {
    let options = queue::Options::bytes()
        .inline_bytes(16)
        .blocks(Blocks { count: 1, bytes: 4096 })
        .max_message_bytes(1 << 20)
        .extents(1);
    let (mut tx, mut rx) = options.create_channel().unwrap();
    let long = [1; 10_000];
    tx.send(long).unwrap();
    assert_eq!(tx.try_send(long), Err(SendError::Full));
    assert!(!is_ready(&mut tx), "a free block is of no use");
    rx.recv(&mut Vec::new()).unwrap();
    assert!(is_ready(&mut tx));
    tx.try_send([2; 1000]).unwrap();
    // SAFETY: both endpoints belong to this process.
    let mut tx = unsafe { tx.into_zero_copy().unwrap() };
    assert!(tx.try_loan(1000).is_err());
    assert!(!is_ready(&mut tx), "a free extent is of no use");
    rx.recv(&mut Vec::new()).unwrap();
    assert!(is_ready(&mut tx));
    tx.try_loan(1000).unwrap().send().unwrap();
}

#[test]
fn broadcast_out_of_frames_publisher_is_ready_when_one_is_free() {
    for policy in [Policy::Lossless, Policy::Lossy] {
        let options = broadcast::Options::bytes().policy(policy).frames(Frames { count: 2, bytes: 1000 });
        let (mut publisher, subscriber) = options.create().unwrap();
        // SAFETY: both endpoints belong to this process.
        let mut subscriber = unsafe { subscriber.into_zero_copy().unwrap() };
        assert!(is_ready(&mut publisher));
        let mut hold_one = || {
            publisher.try_publish([1; 1000]).unwrap();
            subscriber.recv_frame().unwrap()
        };
        let held = [hold_one(), hold_one()];
        assert_eq!(publisher.try_publish([1; 1000]), Err(SendError::Full));
        assert!(!is_ready(&mut publisher));
        drop(held);
        assert!(is_ready(&mut publisher));
        publisher.try_publish([1; 1000]).unwrap();
    }
}

#[test]
fn queue_that_redelivers_is_ready_as_its_try_calls_say() {
    let options = queue::Options::<u64>::new().capacity(2).on_death(OnDeath::Redeliver { times: 3 });
    let (mut tx, mut rx) = options.create_channel().unwrap();
    let mut sent = 0;
    while tx.try_send(sent).is_ok() {
        sent += 1;
    }
    assert!(!is_ready(&mut tx) && is_ready(&mut rx));
    drop(rx.try_recv_task().unwrap());
    assert!(is_ready(&mut rx), "one was given back");
    let task = rx.try_recv_task().unwrap();
    assert!(task.is_redelivered());
    task.done().unwrap();
    assert!(is_ready(&mut rx));
    rx.try_recv_task().unwrap().done().unwrap();
    assert!(is_ready(&mut tx));
    tx.try_send(9).unwrap();
}

#[test]
fn broadcast_is_ready_as_its_try_calls_say() {
    let (mut publisher, mut subscriber) =
        broadcast::Options::<u64>::new().capacity(2).policy(Policy::Lossless).create().unwrap();
    assert!(is_ready(&mut publisher) && !is_ready(&mut subscriber));
    publisher.try_publish(1).unwrap();
    assert!(is_ready(&mut subscriber));
    while publisher.try_publish(2).is_ok() {}
    assert!(!is_ready(&mut publisher));
    subscriber.try_recv().unwrap();
    assert!(is_ready(&mut publisher));
    drop(publisher);
    while subscriber.try_recv().is_ok() {}
    assert!(is_ready(&mut subscriber));
    assert_eq!(subscriber.try_recv(), Err(RecvError::Closed));
}

#[test]
fn broadcast_subscriber_lags_is_ready() {
    let (mut publisher, mut subscriber) =
        broadcast::Options::<u64>::new().capacity(2).policy(Policy::Lossy).create().unwrap();
    (0..9).for_each(|number| publisher.publish(number).unwrap());
    assert!(is_ready(&mut subscriber));
    assert!(matches!(subscriber.try_recv(), Err(RecvError::Lagged { .. })));
}

#[test]
fn caller_is_ready_when_its_request_is_answered_or_cannot_be() {
    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    assert!(!is_ready(&mut caller), "it has no request");
    caller.start(20).unwrap();
    assert!(!is_ready(&mut caller));
    let request = responder.recv().unwrap();
    assert!(!is_ready(&mut caller));
    request.reply(40).unwrap();
    assert!(is_ready(&mut caller) && is_ready(&mut caller));
    assert_eq!(caller.try_finish(), Ok(40));
    assert!(!is_ready(&mut caller), "it has no request");
    caller.start(21).unwrap();
    drop(responder);
    assert!(is_ready(&mut caller));
    assert_eq!(caller.try_finish(), Err(rpc::CallError::Closed));
    assert!(!is_ready(&mut caller), "the request is over");
}

#[test]
fn responder_is_ready_when_there_is_a_request() {
    let (mut caller, mut responder) = rpc::Options::<u64, u64>::new().create().unwrap();
    assert!(!is_ready(&mut responder));
    let calling = thread::spawn(move || (caller.call(20), caller));
    assert_eq!(Selector::new().wait(&mut [&mut responder]), Ok(0));
    let request = responder.try_recv().unwrap();
    let double = 2 * *request;
    request.reply(double).unwrap();
    let (reply, caller) = calling.join().unwrap();
    assert_eq!(reply, Ok(40));
    assert!(!is_ready(&mut responder));
    drop(caller);
    assert!(is_ready(&mut responder));
    assert!(matches!(responder.try_recv(), Err(RecvError::Closed)));
}

#[test]
fn zero_copy_endpoints_are_sources() {
    fn sources<T: Shareable + Pod>(tx: &mut pipe::ZeroCopySender<T>, rx: &mut pipe::ZeroCopyReceiver<T>) -> [bool; 2] {
        [is_ready(tx), is_ready(rx)]
    }
    let (tx, rx) = pipe::Options::<u64>::new().capacity(1).create().unwrap();
    // SAFETY: both endpoints belong to this process.
    let (mut tx, mut rx) = unsafe { (tx.into_zero_copy().unwrap(), rx.into_zero_copy().unwrap()) };
    assert_eq!(sources(&mut tx, &mut rx), [true, false]);
    tx.reserve(1).unwrap().commit(1);
    assert_eq!(sources(&mut tx, &mut rx), [false, true]);
}

/// Waits for a source that another thread makes ready while this one sleeps.
fn wait_for(source: &mut dyn Source, action: impl FnOnce() + Send) {
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(MOMENT);
            action();
        });
        assert_eq!(Selector::new().wait(&mut [&mut rx, source]), Ok(1));
    });
}

#[test]
fn event_is_ready_while_it_is_set() {
    let mut event = Event::new().unwrap();
    assert!(!is_ready(&mut event));
    let other = event.clone();
    wait_for(&mut event, || other.set().unwrap());
    assert!(is_ready(&mut event));
    event.clear().unwrap();
    assert!(!is_ready(&mut event));
}

#[test]
fn semaphores_are_ready_while_there_is_a_permit() {
    let mut semaphore = Semaphore::new(0).unwrap();
    assert!(!is_ready(&mut semaphore));
    let other = semaphore.clone();
    wait_for(&mut semaphore, || other.release(1).unwrap());
    semaphore.try_acquire().unwrap().forget();
    assert!(!is_ready(&mut semaphore));

    let mut bounded = BoundedSemaphore::new(1).unwrap();
    assert!(is_ready(&mut bounded));
    let other = bounded.clone();
    let permit = other.acquire().unwrap();
    assert!(!is_ready(&mut bounded));
    wait_for(&mut bounded, || drop(permit));
    drop(bounded.try_acquire().unwrap());
}

#[test]
fn value_is_ready_when_it_has_changed() {
    let mut value = Value::new(1_u64).unwrap();
    let other = value.clone();
    assert!(!is_ready(&mut value));
    wait_for(&mut value, || other.store(&2).unwrap());
    assert!(is_ready(&mut value));
    assert_eq!(value.load(), Ok(2));
    assert!(!is_ready(&mut value));
}

#[test]
fn timer_is_ready_when_it_has_expired() {
    let _tx_and_rx = pipe::Options::<u64>::new().create().unwrap();
    let begin = Instant::now();
    let mut timer = Timer::after(MOMENT);
    assert_eq!(Selector::new().wait(&mut [&mut timer]), Ok(0));
    assert!(begin.elapsed() >= MOMENT);
    assert_eq!((timer.take(), timer.take()), (1, 0));
    assert!(!is_ready(&mut timer), "it expires once");

    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut periodic = Timer::every(Duration::from_micros(500));
    let mut expired = 0;
    while expired < 10 {
        assert_eq!(Selector::new().wait(&mut [&mut rx, &mut periodic]), Ok(1));
        expired += periodic.take();
    }
    assert!(begin.elapsed() >= MOMENT + 9 * Duration::from_micros(500));

    assert!(is_ready(&mut Timer::at(begin)));
    assert!(!is_ready(&mut Timer::after(Duration::MAX)));
    let mut never = Timer::after(Duration::MAX);
    assert_eq!(Selector::new().wait_timeout(&mut [&mut never], MOMENT), Err(SelectError::TimedOut));
}

#[test]
fn timer_beside_a_busy_source_has_its_turn() {
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    tx.send(1).unwrap();
    let (mut selector, mut timer) = (Selector::new(), Timer::after(MOMENT));
    while selector.wait(&mut [&mut rx, &mut timer]) != Ok(1) {}
    assert_eq!(timer.take(), 1);
}

#[test]
fn option_of_a_source_is_ready_when_the_source_is() {
    let mut none = None::<pipe::Receiver<u64>>;
    assert!(!is_ready(&mut none) && !is_ready(&mut None::<Timer>) && !is_ready(&mut None::<Descriptor<File>>));

    let (mut tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    let mut some = Some(rx);
    assert!(!is_ready(&mut some));
    wait_for(&mut some, || tx.send(1).unwrap());
    assert_eq!(Selector::new().wait(&mut [&mut none, &mut some]), Ok(1));
    assert_eq!(some.as_mut().unwrap().try_recv(), Ok(1));
    assert_eq!(Selector::new().wait(&mut [&mut none, &mut some, &mut Some(Timer::after(MOMENT))]), Ok(2));

    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let mut readable = Some(Descriptor::readable(ours));
    wait_for(&mut readable, || theirs.write_all(b"x").unwrap());
    readable.as_mut().unwrap().get_mut().read_exact(&mut [0]).unwrap();
    assert!(!is_ready(&mut readable));
    wait_for(&mut some, || drop(tx));
}

#[test]
fn descriptor_is_ready_when_its_call_would_not_block() {
    let (mut theirs, ours) = UnixStream::pair().unwrap();
    let mut readable = Descriptor::readable(&ours);
    assert!(!is_ready(&mut readable) && is_ready(&mut Descriptor::writable(&ours)));
    wait_for(&mut readable, || theirs.write_all(b"x").unwrap());
    (&ours).read_exact(&mut [0]).unwrap();
    assert!(!is_ready(&mut readable));
    drop(theirs);
    assert_eq!(Selector::new().wait(&mut [&mut readable]), Ok(0), "the end");
    assert!(is_ready(&mut Descriptor::readable(File::open("/proc/self/exe").unwrap())), "not pollable");
}

/// A message ends the wait, too.
#[test]
fn descriptor_among_the_sources_others_are_found() {
    let (_theirs, ours) = UnixStream::pair().unwrap();
    let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            thread::sleep(MOMENT);
            tx.send(1).unwrap();
            thread::sleep(20 * MOMENT);
        });
        assert_eq!(Selector::new().wait(&mut [&mut Descriptor::readable(&ours), &mut rx]), Ok(1));
        assert_eq!(rx.try_recv(), Ok(1));
    });
}
