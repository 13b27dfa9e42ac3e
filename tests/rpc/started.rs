//! Requests that are started, and finished or given up later.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use tombolo::rpc::{CallError, Caller, Options, ReplyError, Responder};
use tombolo::select::{SelectError, Selector};
use tombolo::{Endpoint, ErrorKind, RecvError, WaitStrategy, interrupt_handle, pipe};

use crate::processes::{NAME, counters, enter_joined, pid, pid_of, succeed_two_that_are_killed, values};
use crate::support::{TestDir, alone, fork, message};

const MOMENT: Duration = Duration::from_millis(30);

fn numbers() -> (Caller<u64, u64>, Responder<u64, u64>) {
    Options::<u64, u64>::new().create().unwrap()
}

/// Replies to one request with twice its number.
fn respond(responder: &mut Responder<u64, u64>) {
    let request = responder.recv().unwrap();
    let double = 2 * *request;
    request.reply(double).unwrap();
}

/// Waits in a selector until the request is over.
fn select<Q: tombolo::Shareable, A: tombolo::Shareable>(caller: &mut Caller<Q, A>) -> Result<A, CallError> {
    let mut selector = Selector::new().wait_strategy(WaitStrategy::Park);
    loop {
        assert_eq!(selector.wait(&mut [caller]), Ok(0));
        match caller.try_finish() {
            Err(CallError::NotReady) => {}
            reply => return reply,
        }
    }
}

#[test]
fn requests_of_several_callers_are_executed_meanwhile_and_finished_in_any_order() {
    let (caller, mut responder) = numbers();
    let mut callers: Vec<_> = (0..5).map(|_| caller.try_clone().unwrap()).collect();
    for round in 0..100 {
        for (caller, number) in callers.iter_mut().zip(10 * round..) {
            assert_eq!(caller.start(number), Ok(()));
            assert_eq!(caller.try_finish(), Err(CallError::NotReady));
        }
        (0..5).for_each(|_| respond(&mut responder));
        for (index, caller) in callers.iter_mut().enumerate().rev() {
            let reply = match round % 4 {
                0 => caller.finish(),
                1 => caller.try_finish(),
                2 => caller.finish_timeout(Duration::ZERO),
                _ => caller.finish_deadline(Some(Instant::now())),
            };
            assert_eq!(reply, Ok(2 * (10 * round + index as u64)));
        }
    }
}

#[test]
fn bytes_and_objects_are_started_and_finished() {
    let (mut caller, mut responder) = Options::bytes().max_request_bytes(100).create().unwrap();
    let mut reply = b"old".to_vec();
    for number in 0..100 {
        caller.start(message(number, number as usize)).unwrap();
        assert_eq!((caller.try_finish(&mut reply), reply.is_empty()), (Err(CallError::NotReady), false));
        let request = responder.recv().unwrap();
        assert!(*request == message(number, number as usize));
        request.reply(message(number + 1, 50)).unwrap();
        let finished = match number % 3 {
            0 => caller.finish(&mut reply),
            1 => caller.try_finish(&mut reply),
            _ => caller.finish_timeout(&mut reply, MOMENT),
        };
        assert!(finished == Ok(50) && reply == message(number + 1, 50));
    }
    let too_large = CallError::TooLarge { length: 101, limit: 100 };
    assert_eq!((caller.start([0; 101]), caller.try_finish(&mut reply)), (Err(too_large), Err(CallError::NoRequest)));
    for number in 0..4_u64 {
        caller.start_object(&("Ada", number)).unwrap();
        assert_eq!(caller.try_finish_object::<String>(), Err(CallError::NotReady));
        let request = responder.recv().unwrap();
        let (name, number): (String, u64) = request.object().unwrap();
        request.reply_object(&format!("{name} {number}")).unwrap();
        let finished: Result<String, _> = match number {
            0 => caller.finish_object(),
            1 => caller.try_finish_object(),
            2 => caller.finish_object_timeout(MOMENT),
            _ => caller.finish_object_deadline(None),
        };
        assert_eq!(finished.unwrap(), format!("Ada {number}"));
    }
    caller.start_object(&1_u8).unwrap();
    responder.recv().unwrap().reply_object(&1_u8).unwrap();
    assert_eq!(caller.finish_object::<Vec<String>>(), Err(CallError::Deserialize));
    assert_eq!(caller.finish_object::<u8>(), Err(CallError::NoRequest), "it is over");
}

#[test]
fn caller_without_request_has_nothing_to_finish_and_with_one_makes_no_other() {
    let (mut caller, mut responder) = numbers();
    let (nothing, refused) = (CallError::NoRequest, CallError::Unfinished);
    assert_eq!([caller.finish(), caller.try_finish(), caller.finish_timeout(MOMENT)], [Err(nothing); 3]);
    caller.start(1).unwrap();
    assert_eq!((caller.start(2), caller.call(3)), (Err(refused), Err(refused)));
    assert!(!nothing.may_have_been_executed() && !refused.may_have_been_executed());
    respond(&mut responder);
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)), "the others were not made");
    assert_eq!((caller.finish(), caller.finish()), (Ok(2), Err(nothing)));
    let responding = thread::spawn(move || respond(&mut responder));
    assert_eq!(caller.call(3), Ok(6));
    responding.join().unwrap();
}

#[test]
fn request_cancelled_says_whether_it_may_have_been_executed() {
    let (mut caller, mut responder) = numbers();
    for number in 0..3 {
        assert!(!caller.cancel(), "there is none");
        caller.start(number).unwrap();
        assert!(!caller.cancel());
        assert!(matches!(responder.try_recv(), Err(RecvError::Empty)), "it is never executed");
        assert_eq!(caller.try_finish(), Err(CallError::NoRequest));

        caller.start(number + 10).unwrap();
        let request = responder.recv().unwrap();
        assert!(caller.cancel(), "a responder has it");
        caller.start(number + 20).unwrap();
        assert_eq!(request.reply(7), Err(ReplyError::GivenUp));
        respond(&mut responder);
        assert_eq!(caller.finish(), Ok(2 * (number + 20)));

        caller.start(number + 30).unwrap();
        respond(&mut responder);
        assert!(caller.cancel(), "there is a reply");
        assert_eq!(caller.try_finish(), Err(CallError::NoRequest));

        caller.start(number + 40).unwrap();
        drop(responder.recv().unwrap());
        assert_eq!(select(&mut caller), Err(CallError::Dropped));
    }
}

#[test]
fn request_that_is_not_finished_in_time_is_given_up() {
    let (mut caller, mut responder) = numbers();
    caller.start(1).unwrap();
    assert_eq!(caller.finish_timeout(MOMENT), Err(CallError::TimedOut { taken: false }));
    caller.start(2).unwrap();
    let request = responder.recv().unwrap();
    assert_eq!(caller.finish_deadline(Some(Instant::now())), Err(CallError::TimedOut { taken: true }));
    assert_eq!(request.reply(7), Err(ReplyError::GivenUp));
    assert_eq!(caller.finish(), Err(CallError::NoRequest));
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn caller_dropped_gives_its_request_up() {
    let (mut caller, mut responder) = numbers();
    let _other = caller.try_clone().unwrap();
    caller.start(1).unwrap();
    drop(caller);
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn caller_with_request_is_not_passed_on() {
    let (mut caller, mut responder) = numbers();
    let mut other = caller.try_clone().unwrap();
    for (caller, is_abandoned) in [(&mut caller, false), (&mut other, true)] {
        let mut own = caller.try_clone().unwrap();
        own.start(1).unwrap();
        let error = if is_abandoned { own.abandon().unwrap_err() } else { own.into_fd().unwrap_err() };
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains("a request that is not finished"), "{error}");
        assert!(matches!(responder.try_recv(), Err(RecvError::Empty)), "it was dropped");
    }
    caller.start(1).unwrap();
    caller.cancel();
    let mut caller: Caller<u64, u64> = caller.into_fd().unwrap().try_into().unwrap();
    caller.start(2).unwrap();
    respond(&mut responder);
    assert_eq!(caller.finish(), Ok(4));
}

#[test]
fn forked_child_leaves_the_request_of_its_parent_alone() {
    let alone = alone();
    let (mut caller, mut responder) = numbers();
    caller.start(4).unwrap();
    let mut endpoints = Some((caller, responder));
    let child = fork(&alone, || {
        let (mut caller, _responder) = endpoints.take().unwrap();
        assert_eq!((caller.start(1), caller.try_finish()), (Err(CallError::Forked), Err(CallError::Forked)));
        assert_eq!(Selector::new().wait(&mut [&mut caller]), Ok(0), "as its call returns an error");
        assert!(!caller.cancel());
        drop(caller);
    });
    child.finish();
    (caller, responder) = endpoints.unwrap();
    respond(&mut responder);
    assert_eq!(caller.finish(), Ok(8));
}

/// A selector that is interrupted leaves the request. A call that is, gives it up.
#[test]
fn finish_interrupted_gives_the_request_up_and_a_selector_does_not() {
    let _alone = alone();
    let (mut caller, mut responder) = numbers();
    let handle = interrupt_handle();
    caller.start(1).unwrap();
    handle.interrupt();
    assert_eq!(Selector::new().wait(&mut [&mut caller]), Err(SelectError::Interrupted));
    respond(&mut responder);
    assert_eq!(select(&mut caller), Ok(2));
    for taken in [false, true] {
        caller.start(1).unwrap();
        let request = taken.then(|| responder.recv().unwrap());
        handle.interrupt();
        assert_eq!(caller.finish(), Err(CallError::Interrupted { taken }));
        assert_eq!(caller.finish(), Err(CallError::NoRequest));
        drop(request);
    }
}

// ---- responders that leave, are killed and stopped -------------------------------------------------------------------

#[test]
fn responder_leaves_caller_with_request_is_ready_and_says_so() {
    for is_dropped in [false, true] {
        let (mut caller, responder) = numbers();
        caller.start(1).unwrap();
        if is_dropped {
            drop(responder)
        } else {
            responder.abandon().unwrap()
        }
        let expected = if is_dropped { CallError::Closed } else { CallError::NoResponder };
        assert_eq!(select(&mut caller), Err(expected));
        assert_eq!(Selector::new().try_wait(&mut [&mut caller]), Err(SelectError::NotReady), "it has no request");
        assert_eq!(caller.start(2), Ok(()), "somebody may come");
        assert_eq!(select(&mut caller), Err(expected));
    }
}

#[test]
fn responder_killed_with_a_request_that_a_selector_waits_for_is_an_outcome() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).caller(NAME).unwrap();
    let (_tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
    for is_tried in [false, true] {
        let responder = enter_joined(&test_dir, "take_and_stay");
        caller.start([1, pid()]).unwrap();
        counters(&test_dir).meet(2, 2);
        let mut selector = Selector::new();
        let waited = selector.wait_timeout(&mut [&mut rx, &mut caller], MOMENT);
        assert_eq!(waited, Err(SelectError::TimedOut), "it has the request");
        responder.kill();
        let outcome = loop {
            if !is_tried {
                assert_eq!(selector.wait(&mut [&mut rx, &mut caller]), Ok(1));
            }
            match caller.try_finish() {
                Err(CallError::NotReady) => thread::yield_now(),
                outcome => break outcome,
            }
        };
        assert_eq!(outcome, Err(CallError::ResponderDied));
        let next = enter_joined(&test_dir, "respond_endlessly");
        caller.start([3, 0]).unwrap();
        assert_eq!(select(&mut caller), Ok([4, pid_of(&next)]));
        next.kill();
        assert_eq!(counters(&test_dir).word(1).swap(0, Ordering::SeqCst), 1);
    }
}

#[test]
fn caller_with_retry_that_a_selector_waits_for_makes_its_request_again() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).wait_for_successor().retry().caller(NAME).unwrap();
    let first = enter_joined(&test_dir, "take_and_stay");
    caller.start([1, pid()]).unwrap();
    thread::scope(|scope| {
        let selecting = scope.spawn(|| select(&mut caller));
        let third = succeed_two_that_are_killed(&test_dir, first);
        assert_eq!(selecting.join().unwrap(), Ok([2, pid_of(&third)]));
    });
    // One that is given up after that may have been executed before.
    let responder = enter_joined(&test_dir, "take_and_stay");
    caller.start([1, pid()]).unwrap();
    counters(&test_dir).meet(2, 2);
    responder.kill();
    assert_eq!(Selector::new().wait(&mut [&mut caller]), Ok(0));
    assert_eq!(caller.try_finish(), Err(CallError::NotReady), "it is made again");
    assert!(caller.cancel());
}

#[test]
fn responder_stopped_with_a_request_that_is_cancelled_delays_nobody() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).caller(NAME).unwrap();
    let stopped = enter_joined(&test_dir, "take_and_stay");
    caller.start([1, pid()]).unwrap();
    counters(&test_dir).meet(2, 2);
    stopped.signal(libc::SIGSTOP);
    let waited = Selector::new().wait_timeout(&mut [&mut caller], 4 * MOMENT);
    assert_eq!(waited, Err(SelectError::TimedOut), "a stopped one is not dead");
    assert!(caller.cancel());
    let other = enter_joined(&test_dir, "respond_endlessly");
    for number in 0..100 {
        caller.start([number, 0]).unwrap();
        assert_eq!(select(&mut caller), Ok([number + 1, pid_of(&other)]));
    }
    stopped.signal(libc::SIGCONT);
}
