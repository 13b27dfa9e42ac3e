//! Calls within one process.

use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use tombolo::rpc::{CallError, Caller, Options, ReplyError, Responder};
use tombolo::{Endpoint, ErrorKind, RecvError, WaitStrategy};

use crate::support::{TestDir, message, number_of};

const MOMENT: Duration = Duration::from_millis(30);
const WAITS: [WaitStrategy; 3] = [WaitStrategy::Spin, WaitStrategy::SpinThenPark, WaitStrategy::Park];

fn squares() -> (Caller<u64, u64>, Responder<u64, u64>) {
    Options::<u64, u64>::new().create().unwrap()
}

#[test]
fn call_of_value_returns_its_reply() {
    for wait in WAITS {
        let (mut caller, mut responder) = Options::<[u64; 3], u64>::new().wait(wait).create().unwrap();
        let responding = thread::spawn(move || responder.serve(|numbers| numbers.iter().sum()));
        for number in 0..2000 {
            assert_eq!(caller.call([number, 1, 2]), Ok(number + 3));
        }
        let numbers: &[u64; 3] = &[1, 2, 3];
        assert_eq!(caller.call(numbers), Ok(6), "a reference will do");
        drop(caller);
        assert_eq!(responding.join().unwrap(), Ok(()));
    }
}

/// An acknowledgement, and a question without arguments.
#[test]
fn call_of_values_without_bytes_returns_its_reply() {
    let (mut caller, mut responder) = Options::<u64, ()>::new().create().unwrap();
    let responding = thread::spawn(move || {
        let mut sum = 0;
        responder.serve(|number| sum += number).map(|()| sum)
    });
    for number in 0..100 {
        assert_eq!(caller.call(number), Ok(()));
    }
    drop(caller);
    assert_eq!(responding.join().unwrap(), Ok(4950));
    let test_dir = TestDir::new();
    let options = Options::<(), u64>::new().directory(test_dir.names());
    let (mut caller, mut responder) = (options.caller("name").unwrap(), options.responder("name").unwrap());
    let responding = thread::spawn(move || responder.serve(|()| 7));
    assert_eq!(caller.call(()), Ok(7));
    let error = Options::bytes().directory(test_dir.names()).caller("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    let error = Options::<(), ()>::new().directory(test_dir.names()).caller("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    drop(caller);
    assert_eq!(responding.join().unwrap(), Ok(()));
}

#[test]
fn call_of_bytes_of_every_length_returns_its_reply() {
    let options = Options::bytes().max_request_bytes(300).max_reply_bytes(200);
    let (mut caller, mut responder) = options.create().unwrap();
    let responding = thread::spawn(move || {
        responder.serve(|request| {
            let length = request.len() as u64;
            message(length, (length % 201) as usize)
        })
    });
    let mut reply = Vec::new();
    for length in 0..=300 {
        let expected = message(length, (length % 201) as usize);
        assert_eq!(caller.call(message(length, length as usize), &mut reply), Ok(expected.len()));
        assert_eq!(reply, expected, "{length}");
    }
    assert_eq!(caller.call([0; 301], &mut reply), Err(CallError::TooLarge { length: 301, limit: 300 }));
    assert_eq!(caller.call([], &mut reply), Ok(0), "the next one is not affected");
    drop(caller);
    assert_eq!(responding.join().unwrap(), Ok(()));
}

#[test]
fn reply_that_is_too_long_is_told_to_both() {
    let (mut caller, mut responder) = Options::bytes().max_reply_bytes(10).create().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let request = responder.recv().unwrap();
            assert_eq!(request.reply([0; 11]), Err(ReplyError::TooLarge { length: 11, limit: 10 }));
            responder.recv().unwrap().reply([7; 10]).unwrap();
        });
        let mut reply = Vec::new();
        assert_eq!(caller.call("a", &mut reply), Err(CallError::ReplyTooLarge));
        assert_eq!((caller.call("b", &mut reply), &reply[..]), (Ok(10), &[7; 10][..]));
    });
}

#[test]
fn call_of_objects_returns_the_reply_or_says_what_does_not_fit() {
    let (mut caller, mut responder) = Options::bytes().create().unwrap();
    let responding = thread::spawn(move || {
        let request = responder.recv().unwrap();
        let (name, count): (String, usize) = request.object().unwrap();
        request.reply_object(&vec![name; count]).unwrap();
        let request = responder.recv().unwrap();
        assert_eq!(request.object::<(String, String)>(), Err(RecvError::Deserialize));
        request.reply_object(&1_u8).unwrap();
    });
    let names: Vec<String> = caller.call_object(&("Ada", 3_usize)).unwrap();
    assert_eq!(names, ["Ada"; 3]);
    assert_eq!(caller.call_object::<_, Vec<String>>(&1_u8), Err(CallError::Deserialize));
    responding.join().unwrap();
}

#[test]
fn request_dropped_without_reply_is_told_to_its_caller() {
    let (mut caller, mut responder) = squares();
    let responding = thread::spawn(move || {
        drop(responder.recv().unwrap());
        // One that is forgotten is dropped by the next call.
        forget(responder.recv().unwrap());
        responder.recv().unwrap().reply(3).unwrap();
        forget(responder.recv().unwrap());
        // Or with the responder.
    });
    assert_eq!(
        [(); 4].map(|()| caller.call(1)),
        [Err(CallError::Dropped), Err(CallError::Dropped), Ok(3), Err(CallError::Dropped),]
    );
    responding.join().unwrap();
    assert_eq!(caller.call(1), Err(CallError::Closed));
}

#[test]
fn responder_that_panics_drops_its_request() {
    let (mut caller, mut responder) = squares();
    let responding = thread::spawn(move || {
        let serve = || responder.serve(|number| if number == 13 { panic!("a bad number") } else { number });
        assert!(catch_unwind(AssertUnwindSafe(serve)).is_err());
        responder.serve(|number| number)
    });
    assert_eq!([12, 13, 14].map(|number| caller.call(number)), [Ok(12), Err(CallError::Dropped), Ok(14)]);
    drop(caller);
    assert_eq!(responding.join().unwrap(), Ok(()));
}

// ---- deadlines -------------------------------------------------------------------------------------------------------

#[test]
fn call_that_nobody_takes_times_out_and_is_never_executed() {
    let (mut caller, mut responder) = squares();
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(caller.call_timeout(1, MOMENT), Err(CallError::TimedOut { taken: false }));
        assert!(started.elapsed() >= MOMENT);
        assert_eq!(caller.call_deadline(2, Some(Instant::now())), Err(CallError::TimedOut { taken: false }));
        assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Empty));
    }
}

#[test]
fn call_that_was_taken_times_out_and_its_late_reply_goes_nowhere() {
    let (mut caller, mut responder) = squares();
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout(1, MOMENT));
        let request = responder.recv().unwrap();
        assert_eq!(calling.join().unwrap(), Err(CallError::TimedOut { taken: true }));
        assert_eq!(request.reply(100), Err(ReplyError::GivenUp));
    });
    thread::scope(|scope| {
        // The next call has its own reply, also if the late one comes in the middle.
        let calling = scope.spawn(|| {
            let first = caller.call_timeout(2, MOMENT);
            (first, caller.call(3))
        });
        let late = responder.recv().unwrap();
        thread::sleep(2 * MOMENT);
        assert_eq!(late.reply(200), Err(ReplyError::GivenUp));
        let request = responder.recv().unwrap();
        assert_eq!(*request, 3);
        request.reply(9).unwrap();
        assert_eq!(calling.join().unwrap(), (Err(CallError::TimedOut { taken: true }), Ok(9)));
    });
}

#[test]
fn responder_without_request_times_out_or_is_empty() {
    let (caller, mut responder) = squares();
    let started = Instant::now();
    assert_eq!(responder.recv_timeout(MOMENT).map(|_| ()), Err(RecvError::TimedOut));
    assert_eq!(responder.recv_deadline(Some(started)).map(|_| ()), Err(RecvError::TimedOut));
    assert!(started.elapsed() >= MOMENT);
    assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Empty));
    assert_eq!((caller.responders(), responder.callers()), (1, 1));
}

// ---- several callers and responders ----------------------------------------------------------------------------------

#[test]
fn call_of_many_to_many_each_gets_its_own_reply() {
    for wait in WAITS {
        let options = Options::<[u64; 2], [u64; 2]>::new().wait(wait);
        let (caller, responder) = options.create().unwrap();
        let calls = if wait == WaitStrategy::Spin { 50 } else { 400 };
        let served: u64 = thread::scope(|scope| {
            let responders: Vec<_> = (0..3)
                .map(|_| {
                    let mut responder = responder.try_clone().unwrap();
                    scope.spawn(move || {
                        let mut served = 0;
                        let end = responder.serve(|[caller, number]| {
                            served += 1;
                            [caller ^ u64::MAX, number + 1]
                        });
                        assert_eq!(end, Ok(()));
                        served
                    })
                })
                .collect();
            for index in 0..6 {
                let mut caller = caller.try_clone().unwrap();
                scope.spawn(move || {
                    for number in 0..calls {
                        assert_eq!(caller.call([index, number]), Ok([index ^ u64::MAX, number + 1]));
                    }
                });
            }
            drop((caller, responder));
            responders.into_iter().map(|responder| responder.join().unwrap()).sum()
        });
        assert_eq!(served, 6 * calls, "each once");
    }
}

/// A responder that could always take the request of the same caller takes turns.
#[test]
fn responder_gives_each_caller_its_turn() {
    let (caller, mut responder) = squares();
    let callers: Vec<_> = (0..4).map(|_| caller.try_clone().unwrap()).collect();
    drop(caller);
    thread::scope(|scope| {
        for (index, mut caller) in (0..).zip(callers) {
            scope.spawn(move || while caller.call(index).is_ok() {});
        }
        let mut served = [0; 4];
        while served.iter().any(|&count| count < 100) {
            let request = responder.recv().unwrap();
            served[*request as usize] += 1;
            request.reply(0).unwrap();
        }
        drop(responder);
    });
}

/// While one responder is busy, another takes what comes.
#[test]
fn responder_that_is_busy_holds_nobody_up() {
    let (mut first, mut busy) = squares();
    let (mut second, mut free) = (first.try_clone().unwrap(), busy.try_clone().unwrap());
    thread::scope(|scope| {
        let waiting = scope.spawn(move || first.call(1));
        let request = busy.recv().unwrap();
        scope.spawn(move || free.serve(|number| number + 10));
        for number in 0..100 {
            assert_eq!(second.call(number), Ok(number + 10));
        }
        request.reply(5).unwrap();
        assert_eq!(waiting.join().unwrap(), Ok(5));
        drop(second);
    });
}

#[test]
fn responder_of_a_responder_calls_while_it_has_a_request() {
    let (mut caller, mut front) = squares();
    let (mut inner, mut back) = squares();
    thread::scope(|scope| {
        scope.spawn(move || back.serve(|number| number * number));
        scope.spawn(move || front.serve(|number| inner.call(number).unwrap() + 1));
        assert_eq!(caller.call(6), Ok(37));
        drop(caller);
    });
}

// ---- how it ends -----------------------------------------------------------------------------------------------------

#[test]
fn call_after_the_last_responder_left_returns_closed() {
    for wait in WAITS {
        let (mut caller, responder) = Options::<u64, u64>::new().wait(wait).create().unwrap();
        let second = responder.try_clone().unwrap();
        drop(responder);
        assert_eq!(caller.call_timeout(1, MOMENT), Err(CallError::TimedOut { taken: false }), "one is left");
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call(2));
            thread::sleep(MOMENT);
            drop(second);
            assert_eq!(calling.join().unwrap(), Err(CallError::Closed));
        });
        assert_eq!(caller.call(3), Err(CallError::Closed));
        // Another one can come.
        let mut third = caller.responder().unwrap();
        let responding = thread::spawn(move || third.serve(|number| number + 1));
        assert_eq!(caller.call(4), Ok(5));
        drop(caller);
        responding.join().unwrap().unwrap();
    }
}

#[test]
fn responder_after_the_last_caller_left_returns_closed() {
    for wait in WAITS {
        let (caller, mut responder) = Options::<u64, u64>::new().wait(wait).create().unwrap();
        thread::scope(|scope| {
            let responding = scope.spawn(|| responder.recv().map(|_| ()));
            thread::sleep(MOMENT);
            drop(caller);
            assert_eq!(responding.join().unwrap(), Err(RecvError::Closed));
        });
        assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Closed));
        let mut caller = responder.caller().unwrap();
        let calling = thread::spawn(move || caller.call(4));
        responder.recv().unwrap().reply(5).unwrap();
        assert_eq!(calling.join().unwrap(), Ok(5));
    }
}

#[test]
fn wait_for_successor_outlives_the_last_peer() {
    let options = Options::<u64, u64>::new().wait_for_successor();
    let (mut caller, responder) = options.create().unwrap();
    drop(responder);
    assert_eq!(caller.call_timeout(1, MOMENT), Err(CallError::TimedOut { taken: false }));
    let mut responder = caller.responder().unwrap();
    thread::scope(|scope| {
        let calling = scope.spawn(move || caller.call(2));
        responder.recv().unwrap().reply(3).unwrap();
        assert_eq!(calling.join().unwrap(), Ok(3));
        assert_eq!(responder.recv_timeout(MOMENT).map(|_| ()), Err(RecvError::TimedOut), "no caller is left");
    });
}

#[test]
fn endpoint_abandoned_counts_as_dead() {
    let (mut caller, responder) = squares();
    let mut second = responder.try_clone().unwrap();
    responder.abandon().unwrap();
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call(1));
        second.recv().unwrap().reply(2).unwrap();
        assert_eq!(calling.join().unwrap(), Ok(2));
    });
    // In the middle of a request it is dropped: the caller learns of that at once.
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call(1));
        forget(second.recv().unwrap());
        assert!(second.abandon().unwrap_err().to_string().contains("request"));
        assert_eq!(calling.join().unwrap(), Err(CallError::Dropped));
    });
    assert_eq!(caller.call(1), Err(CallError::NoResponder), "one of them died");
    let mut third = caller.responder().unwrap();
    caller.abandon().unwrap();
    assert_eq!(third.recv().map(|_| ()), Err(RecvError::PeerDied));
    let mut caller = third.caller().unwrap();
    third.abandon().unwrap();
    assert_eq!(caller.call(1), Err(CallError::NoResponder));
}

/// Every reply has all its bytes, whatever a caller that gives up does.
#[test]
fn call_with_deadlines_of_all_lengths_gets_its_own_reply() {
    let options = Options::bytes().max_request_bytes(2000).max_reply_bytes(2000).max_responders(2);
    let (mut caller, responder) = options.create().unwrap();
    let other = responder.try_clone().unwrap();
    thread::scope(|scope| {
        for mut responder in [responder, other] {
            scope.spawn(move || responder.serve(|request| message(number_of(request) + 1000, 1 + request.len())));
        }
        let (mut reply, mut replied, mut given_up) = (Vec::new(), 0, 0);
        for number in 0..4000 {
            let length = 8 + (number % 1900) as usize;
            match caller.call_timeout(message(number, length), &mut reply, Duration::from_nanos(number % 4000)) {
                Ok(got) => {
                    assert_eq!((number_of(&reply), got), (number + 1000, length + 1));
                    replied += 1;
                }
                Err(CallError::TimedOut { .. }) => given_up += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(given_up > 0, "{replied} replies");
        assert_eq!(caller.call(message(7, 8), &mut reply), Ok(9));
        drop(caller);
    });
}
