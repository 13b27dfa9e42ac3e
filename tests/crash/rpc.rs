//! The crash sweep of requests and replies.

use std::mem::forget;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tombolo::rpc::{CallError, Caller, Options, ReplyError, Responder};
use tombolo::{Directory, WaitStrategy};

use crate::support::{fork, message, number_of, until};
use crate::sweep::{NAME, nested_guard, sweep};

type Value = [u64; 3];
type Ending = Result<Value, CallError>;

const SHORT: Duration = Duration::from_millis(40);

/// One caller and one responder, so that a successor has the place of the victim, and its buffer.
fn values(names: &Path) -> Options<Value, Value> {
    Options::new().max_callers(1).max_responders(1).wait(WaitStrategy::Park).directory(names)
}

fn reply_to(value: Value) -> Value {
    value.map(|word| word + 100)
}

// ---- what survivors and successors do --------------------------------------------------------------------------------

/// A responder and a caller that know nothing of the crash.
fn start_over(options: &Options<Value, Value>) {
    serve_successor(options, options.clone().wait_for_successor().responder(NAME).unwrap());
}

/// The successor of a dead caller gets its own replies. The responder may find the request of the
/// dead one before.
fn serve_successor(options: &Options<Value, Value>, mut responder: Responder<Value, Value>) {
    let options = options.clone();
    let calling = thread::spawn(move || {
        let mut caller = options.caller(NAME).unwrap();
        [7, 8].map(|number| caller.call([number; 3]))
    });
    let mut last = 0;
    while last != 8 {
        let request = responder.recv().unwrap();
        assert_eq!(*request, [request[0]; 3], "torn");
        last = request[0];
        let reply = reply_to(*request);
        let _ = request.reply(reply);
    }
    assert_eq!(calling.join().unwrap(), [7, 8].map(|number| Ok([number + 100; 3])));
}

/// The successor of a dead responder serves the surviving caller.
fn call_successor(options: &Options<Value, Value>, mut caller: Caller<Value, Value>) {
    let options = options.clone();
    let responding = thread::spawn(move || {
        let mut responder = options.responder(NAME).unwrap();
        for _ in 0..2 {
            let request = responder.recv().unwrap();
            let reply = reply_to(*request);
            request.reply(reply).unwrap();
        }
    });
    caller.wait_for_responder(Duration::MAX).unwrap();
    assert_eq!([7, 8].map(|number| caller.call([number; 3])), [7, 8].map(|number| Ok([number + 100; 3])));
    responding.join().unwrap();
}

fn waiting_responder(names: &Path) -> Responder<Value, Value> {
    values(names).wait_for_successor().responder(NAME).unwrap()
}

/// A caller in another thread, whose request is there.
fn calling(options: Options<Value, Value>, names: &Path) -> JoinHandle<(Ending, Caller<Value, Value>)> {
    let mut caller = options.caller(NAME).unwrap();
    let calling = thread::spawn(move || (caller.call([1; 3]), caller));
    until(|| calls(names).len() == 1);
    calling
}

fn calls(names: &Path) -> Vec<(u64, Option<u64>)> {
    let info = Directory::at(names).inspect(NAME).unwrap();
    info.rpc.unwrap().calls.iter().map(|call| (call.caller, call.responder)).collect()
}

/// Leaves the request of a dead caller.
fn call_and_die(options: &Options<Value, Value>, names: &Path) {
    let child = fork(&nested_guard(), || _ = options.caller(NAME).unwrap().call([5; 3]));
    until(|| Directory::at(names).inspect(NAME).is_ok() && calls(names).len() == 1);
    child.kill();
}

/// Leaves the request of a dead caller, which a dead responder has taken. The caller dies first: it
/// would return as soon as it noticed the other death.
fn call_and_die_while_taken(options: &Options<Value, Value>, names: &Path) {
    let caller = fork(&nested_guard(), || _ = options.caller(NAME).unwrap().call([5; 3]));
    until(|| Directory::at(names).inspect(NAME).is_ok());
    let responder = fork(&nested_guard(), || {
        let mut responder = options.responder(NAME).unwrap();
        forget(responder.recv().unwrap());
        loop {
            thread::park();
        }
    });
    until(|| calls(names).iter().any(|call| call.1.is_some()));
    caller.kill();
    responder.kill();
}

// ---- calling ---------------------------------------------------------------------------------------------------------

/// rpc/call_half.rs rpc-call-1 to -3, and giving up a request that nobody took.
#[test]
fn caller_killed_calling_request_is_there_or_not() {
    let swept = sweep(
        waiting_responder,
        |names| {
            let mut caller = values(names).caller(NAME).unwrap();
            move || {
                assert_eq!(caller.call_timeout([1; 3], SHORT), Err(CallError::TimedOut { taken: false }));
                forget(caller);
            }
        },
        |names, mut responder| {
            if let Ok(request) = responder.try_recv() {
                assert_eq!(*request, [1; 3]);
                assert_eq!(request.reply([101; 3]), Ok(()), "nobody has noticed");
            }
            serve_successor(&values(names), responder);
        },
    );
    swept.covers(1, 6);
}

/// raw/rpc.rs, in the same: a successor withdraws the request before it can be taken.
#[test]
fn caller_killed_calling_successor_withdraws_its_request() {
    sweep(
        waiting_responder,
        |names| {
            let mut caller = values(names).caller(NAME).unwrap();
            move || {
                assert_eq!(caller.call_timeout([1; 3], SHORT), Err(CallError::TimedOut { taken: false }));
                forget(caller);
            }
        },
        |names, mut responder| {
            let successor = values(names).caller(NAME).unwrap();
            assert!(responder.try_recv().is_err(), "withdrawn");
            drop(successor);
            serve_successor(&values(names), responder);
        },
    );
}

/// The responder has it when the caller gives up.
#[test]
fn caller_killed_giving_up_what_was_taken_late_reply_goes_nowhere() {
    let swept = sweep(
        |names| {
            let mut responder = waiting_responder(names);
            thread::spawn(move || {
                let _ = responder.recv().map(forget);
                responder
            })
        },
        |names| {
            let mut caller = values(names).caller(NAME).unwrap();
            move || {
                let called = caller.call_timeout([1; 3], SHORT);
                // The responder drops its request when it is told to.
                assert!(matches!(called, Err(CallError::TimedOut { .. } | CallError::Dropped)), "{called:?}");
                forget(caller);
            }
        },
        |names, receiving| {
            // Wherever the victim was killed: somebody has a request.
            if !receiving.is_finished() {
                thread::sleep(SHORT);
            }
            if !receiving.is_finished() {
                let mut caller = values(names).caller(NAME).unwrap();
                let _ = caller.call_timeout([1; 3], 2 * SHORT);
            }
            serve_successor(&values(names), receiving.join().unwrap());
        },
    );
    swept.covers(1, 6);
}

/// The reply of bytes that the caller is reading.
#[test]
fn caller_killed_receiving_the_reply_successor_gets_its_own() {
    let options =
        |names: &Path| Options::bytes().max_callers(1).max_responders(1).wait_for_successor().directory(names);
    let respond = |names: &Path| {
        let mut responder = options(names).responder(NAME).unwrap();
        thread::spawn(move || while responder.recv().unwrap().reply_of_number() != 8 {})
    };
    trait Respond {
        fn reply_of_number(self) -> u64;
    }
    impl Respond for tombolo::rpc::ByteRequest<'_> {
        fn reply_of_number(self) -> u64 {
            let number = number_of(&self);
            let replied = self.reply(message(number + 100, 60));
            assert!(matches!(replied, Ok(()) | Err(ReplyError::GivenUp)));
            number
        }
    }
    sweep(
        respond,
        |names| {
            let mut caller = options(names).caller(NAME).unwrap();
            move || {
                let mut reply = Vec::new();
                caller.call(message(1, 70), &mut reply).unwrap();
                assert_eq!(number_of(&reply), 101);
                forget(caller);
            }
        },
        |names, responding| {
            let (mut caller, mut reply) = (options(names).caller(NAME).unwrap(), Vec::new());
            for number in [7, 8] {
                caller.call(message(number, 90), &mut reply).unwrap();
                assert_eq!(number_of(&reply), number + 100);
            }
            responding.join().unwrap();
        },
    );
}

// ---- responding ------------------------------------------------------------------------------------------------------

/// raw/rpc.rs: take, Replying, the reply, the answer, the wake-up.
#[test]
fn responder_killed_replying_caller_has_the_reply_or_is_told() {
    let swept = sweep(
        |names| calling(values(names), names),
        |names| {
            let mut responder = values(names).responder(NAME).unwrap();
            move || {
                let request = responder.recv().unwrap();
                let reply = reply_to(*request);
                request.reply(reply).unwrap();
                forget(responder);
            }
        },
        |names, calling| {
            let (called, caller) = calling.join().unwrap();
            let is_told = [Err(CallError::ResponderDied), Err(CallError::NoResponder)].contains(&called);
            assert!(called == Ok([101; 3]) || is_told, "{called:?}");
            call_successor(&values(names), caller);
        },
    );
    swept.covers(0, 6);
}

/// With `retry`, the successor executes what the dead one had.
#[test]
fn responder_killed_replying_caller_that_retries_is_served_by_the_next() {
    let options = |names: &Path| values(names).wait_for_successor().retry();
    sweep(
        |names| calling(options(names), names),
        |names| {
            let mut responder = values(names).responder(NAME).unwrap();
            move || {
                let request = responder.recv().unwrap();
                let reply = reply_to(*request);
                request.reply(reply).unwrap();
                forget(responder);
            }
        },
        |names, calling| {
            let mut responder = values(names).responder(NAME).unwrap();
            while !calling.is_finished() {
                if let Ok(request) = responder.recv_timeout(Duration::from_millis(1)) {
                    let reply = reply_to(*request);
                    request.reply(reply).unwrap();
                }
            }
            drop(responder);
            let (called, caller) = calling.join().unwrap();
            assert_eq!(called, Ok([101; 3]));
            call_successor(&values(names), caller);
        },
    );
}

/// The caller gives up while its responder is stopped in the middle of the reply, and dies.
#[test]
fn responder_killed_replying_to_one_that_gives_up_buffer_is_free_again() {
    sweep(
        |names| {
            let mut caller = values(names).caller(NAME).unwrap();
            thread::spawn(move || (caller.call_timeout([1; 3], SHORT / 8), caller))
        },
        |names| {
            let mut responder = values(names).wait_for_successor().responder(NAME).unwrap();
            move || {
                if let Ok(request) = responder.recv_timeout(SHORT) {
                    let reply = reply_to(*request);
                    let replied = request.reply(reply);
                    assert!(matches!(replied, Ok(()) | Err(ReplyError::GivenUp)));
                }
                forget(responder);
            }
        },
        |names, calling| call_successor(&values(names), calling.join().unwrap().1),
    );
}

/// rpc/responder.rs: a request that is dropped is answered, too.
#[test]
fn responder_killed_leaving_with_a_request_caller_is_told() {
    let swept = sweep(
        |names| calling(values(names), names),
        |names| {
            let mut responder = values(names).responder(NAME).unwrap();
            forget(responder.recv().unwrap());
            move || drop(responder)
        },
        |names, calling| {
            let (called, caller) = calling.join().unwrap();
            assert!([Err(CallError::Dropped), Err(CallError::ResponderDied)].contains(&called), "{called:?}");
            call_successor(&values(names), caller);
        },
    );
    swept.covers(1, 4);
}

// ---- joining and taking over -----------------------------------------------------------------------------------------

/// rpc/membership.rs rpc-join-1 to -4d.
#[test]
fn responder_killed_joining_next_one_serves() {
    let swept = sweep(
        |names| values(names).caller(NAME).unwrap(),
        |names| {
            let options = values(names);
            move || forget(options.responder(NAME).unwrap())
        },
        |names, caller| call_successor(&values(names), caller),
    );
    swept.covers(8, 7);
}

/// The victim takes the place of a dead responder that had a request, whose caller is dead, too.
#[test]
fn responder_killed_taking_over_next_one_serves() {
    let two = |names: &Path| values(names).max_callers(2);
    let swept = sweep(
        |names| {
            let responder = two(names).responder(NAME).unwrap();
            drop((two(names).caller(NAME).unwrap(), responder));
            let survivor = two(names).caller(NAME).unwrap();
            call_and_die_while_taken(&two(names), names);
            survivor
        },
        |names| {
            let options = two(names);
            move || forget(options.responder(NAME).unwrap())
        },
        |names, caller| {
            call_successor(&two(names), caller);
        },
    );
    swept.covers(8, 8);
}

/// The victim withdraws the request of a dead caller, which nobody had taken.
#[test]
fn responder_killed_withdrawing_a_request_next_one_does_not_get_it() {
    let two = |names: &Path| values(names).max_callers(2);
    let swept = sweep(
        |names| {
            let survivor = two(names).caller(NAME).unwrap();
            call_and_die(&two(names), names);
            survivor
        },
        |names| {
            let options = two(names);
            move || forget(options.responder(NAME).unwrap())
        },
        |names, caller| call_successor(&two(names), caller),
    );
    swept.covers(8, 8);
}

#[test]
fn caller_killed_joining_next_one_calls() {
    let swept = sweep(
        waiting_responder,
        |names| {
            let options = values(names);
            move || forget(options.caller(NAME).unwrap())
        },
        |names, responder| serve_successor(&values(names), responder),
    );
    swept.covers(8, 7);
}

/// The victim takes the place of a dead caller whose request is there, and makes one.
#[test]
fn caller_killed_taking_over_next_one_calls() {
    let swept = sweep(
        |names| {
            let responder = waiting_responder(names);
            call_and_die(&values(names), names);
            responder
        },
        |names| {
            let options = values(names);
            move || {
                let mut caller = options.caller(NAME).unwrap();
                assert_eq!(caller.call_timeout([1; 3], Duration::ZERO), Err(CallError::TimedOut { taken: false }));
                forget(caller);
            }
        },
        |names, responder| serve_successor(&values(names), responder),
    );
    swept.covers(8, 12);
}

// ---- leaving and repairing -------------------------------------------------------------------------------------------

/// rpc/membership.rs rpc-leave-2 to -4.
#[test]
fn caller_killed_leaving_next_one_calls() {
    let swept = sweep(
        waiting_responder,
        |names| {
            let caller = values(names).caller(NAME).unwrap();
            move || drop(caller)
        },
        |names, responder| serve_successor(&values(names), responder),
    );
    swept.covers(1, 2);
}

/// rpc/membership.rs rpc-leave-1 of a caller: it gives up the request that it has started.
#[test]
fn caller_killed_leaving_with_a_request_it_is_there_or_not() {
    let swept = sweep(
        waiting_responder,
        |names| {
            let mut caller = values(names).caller(NAME).unwrap();
            move || {
                caller.start([1; 3]).unwrap();
                drop(caller);
            }
        },
        |names, mut responder| {
            if let Ok(request) = responder.try_recv() {
                assert_eq!(*request, [1; 3]);
                assert_eq!(request.reply([101; 3]), Ok(()), "nobody has noticed");
            }
            serve_successor(&values(names), responder);
        },
    );
    swept.covers(1, 8);
}

/// `doctor` repairs a region whose caller and responder are both dead.
#[test]
fn repairer_killed_repairing_next_ones_go_on() {
    let swept = sweep(
        |names| call_and_die_while_taken(&values(names), names),
        |names| {
            let directory = Directory::at(names);
            move || assert!((1..=2).contains(&directory.repair(NAME).unwrap()))
        },
        |names, ()| start_over(&values(names)),
    );
    swept.covers(4, 1);
}

#[test]
fn last_one_killed_leaving_name_can_be_opened() {
    let swept = sweep(
        |_| (),
        |names| {
            let (caller, responder) = (values(names).caller(NAME).unwrap(), values(names).responder(NAME).unwrap());
            drop(caller);
            move || drop(responder)
        },
        |names, ()| start_over(&values(names)),
    );
    swept.covers(3, 2);
}
