//! Callers and responders in processes that are killed, stopped, passed endpoints, and that exit.

use std::mem::forget;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::inspect::ParticipantStatus;
use tombolo::rpc::{CallError, Caller, Options, ReplyError, Responder};
use tombolo::spawn::{self, CommandExt};
use tombolo::{Directory, Endpoint, ErrorKind, OnStale, RecvError};

use crate::support::{Process, SharedCounters, TestDir, alone, command, fork, start, until};

/// A number, and the process that it is from.
pub type Value = [u64; 2];

pub const NAME: &str = "name";
const MOMENT: Duration = Duration::from_millis(30);
const NOT_TAKEN: Result<Value, CallError> = Err(CallError::TimedOut { taken: false });
const TAKEN: Result<Value, CallError> = Err(CallError::TimedOut { taken: true });

pub fn values(names: impl AsRef<Path>) -> Options<Value, Value> {
    Options::new().max_callers(4).max_responders(2).directory(names.as_ref())
}

pub fn counters(test_dir: &TestDir) -> SharedCounters {
    SharedCounters::at(&test_dir.file("counters"))
}

/// Starts a process in `role`; see [`Role`].
fn enter(test_dir: &TestDir, role: &str) -> Process {
    start(role, &[test_dir.names().to_str().unwrap(), test_dir.file("counters").to_str().unwrap()])
}

/// Starts a process in `role` and waits until it has joined, or what it does then.
pub fn enter_joined(test_dir: &TestDir, role: &str) -> Process {
    let process = enter(test_dir, role);
    counters(test_dir).meet(0, 2);
    process
}

/// What a child process was started with.
struct Role {
    options: Options<Value, Value>,
    counters: SharedCounters,
}

impl Role {
    fn of(arguments: &[String]) -> Self {
        Self { options: values(&arguments[0]), counters: SharedCounters::at(Path::new(&arguments[1])) }
    }

    fn stay(&self) -> ! {
        self.counters.meet(0, 2);
        loop {
            thread::park();
        }
    }
}

pub fn pid() -> u64 {
    u64::from(std::process::id())
}

pub fn pid_of(process: &Process) -> u64 {
    process.pid() as u64
}

/// Replies with the next number. Word 1 counts what it has executed.
pub fn respond_endlessly(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut responder = role.options.wait_for_successor().responder(NAME).unwrap();
    role.counters.meet(0, 2);
    let end = responder.serve(|[number, _]| {
        role.counters.word(1).fetch_add(1, Ordering::SeqCst);
        [number + 1, pid()]
    });
    panic!("{end:?}");
}

/// Takes a request, and replies when it is told to. Word 1: what became of the reply.
pub fn take_and_stay(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut responder = role.options.responder(NAME).unwrap();
    role.counters.meet(0, 2);
    let request = responder.recv().unwrap();
    role.counters.meet(2, 2);
    until(|| role.counters.word(3).load(Ordering::SeqCst) == 1);
    let number = request[0];
    let outcome = match request.reply([number + 1, pid()]) {
        Ok(()) => 1,
        Err(ReplyError::GivenUp) => 2,
        Err(error) => panic!("{error}"),
    };
    role.counters.word(1).store(outcome, Ordering::SeqCst);
    role.stay()
}

pub fn stay_as_responder(arguments: &[String]) {
    let role = Role::of(arguments);
    let _responder = role.options.responder(NAME).unwrap();
    role.stay()
}

pub fn stay_as_caller(arguments: &[String]) {
    let role = Role::of(arguments);
    let _caller = role.options.caller(NAME).unwrap();
    role.stay()
}

/// Leaves `main` with a request that it has taken.
pub fn exit_with_request(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut responder = role.options.responder(NAME).unwrap();
    role.counters.meet(0, 2);
    forget(responder.recv().unwrap());
    forget(responder);
    std::process::exit(0);
}

/// Word 1: the reply, or how it ended.
pub fn call_once_and_stay(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut caller = role.options.caller(NAME).unwrap();
    role.counters.meet(0, 2);
    let [number, _] = caller.call([7, pid()]).unwrap();
    role.counters.word(1).store(number, Ordering::SeqCst);
    role.stay()
}

/// Exits while another of its threads waits for a reply.
pub fn exit_while_calling(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut caller = role.options.caller(NAME).unwrap();
    role.counters.meet(0, 2);
    thread::spawn(move || caller.call([7, pid()]));
    role.counters.meet(2, 2);
    std::process::exit(0);
}

// ---- responders that are killed and stopped --------------------------------------------------------------------------

#[test]
fn responder_killed_with_a_request_its_caller_is_told_and_the_next_one_serves() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).caller(NAME).unwrap();
    for _ in 0..3 {
        let responder = enter_joined(&test_dir, "take_and_stay");
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call([1, pid()]));
            counters(&test_dir).meet(2, 2);
            responder.kill();
            assert_eq!(calling.join().unwrap(), Err(CallError::ResponderDied));
        });
        assert_eq!(caller.call([2, pid()]), Err(CallError::NoResponder), "not executed by the next one");
        let next = enter_joined(&test_dir, "respond_endlessly");
        assert_eq!(caller.call([3, pid()]), Ok([4, pid_of(&next)]));
        next.kill();
        assert_eq!(counters(&test_dir).word(1).swap(0, Ordering::SeqCst), 1);
    }
}

/// It was not taken, so the next one executes it.
#[test]
fn responder_killed_before_it_takes_the_request_successor_executes_it() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let mut caller = options.clone().wait_for_successor().caller(NAME).unwrap();
    let stopped = enter_joined(&test_dir, "stay_as_responder");
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call([1, pid()]));
        thread::sleep(MOMENT);
        stopped.kill();
        let next = enter_joined(&test_dir, "respond_endlessly");
        assert_eq!(calling.join().unwrap(), Ok([2, pid_of(&next)]));
        // Without the option.
        drop(next);
        let stopped = enter_joined(&test_dir, "stay_as_responder");
        let mut caller = options.caller(NAME).unwrap();
        let calling = scope.spawn(move || caller.call([1, pid()]));
        thread::sleep(MOMENT);
        stopped.kill();
        assert_eq!(calling.join().unwrap(), Err(CallError::NoResponder));
    });
}

/// Kills a responder that has taken a request, and its successor, which has taken it again. Returns
/// the next one, which replies.
pub fn succeed_two_that_are_killed(test_dir: &TestDir, first: Process) -> Process {
    counters(test_dir).meet(2, 2);
    first.kill();
    let second = enter_joined(test_dir, "take_and_stay");
    counters(test_dir).meet(2, 2);
    second.kill();
    enter_joined(test_dir, "respond_endlessly")
}

#[test]
fn caller_with_retry_makes_its_request_again() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).wait_for_successor().retry().caller(NAME).unwrap();
    let first = enter_joined(&test_dir, "take_and_stay");
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call([1, pid()]));
        let third = succeed_two_that_are_killed(&test_dir, first);
        assert_eq!(calling.join().unwrap(), Ok([2, pid_of(&third)]));
    });
    // Its deadline holds.
    let responder = enter_joined(&test_dir, "take_and_stay");
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout([1, pid()], 4 * MOMENT));
        counters(&test_dir).meet(2, 2);
        responder.kill();
        assert_eq!(calling.join().unwrap(), TAKEN, "not the second time, but the first");
    });
}

/// Nobody takes it the second time. It may have been executed the first time.
#[test]
fn caller_with_retry_that_finds_no_successor_says_that_it_may_have_been_executed() {
    for waits in [false, true] {
        let test_dir = TestDir::new();
        let options = values(test_dir.names()).retry();
        let options = if waits { options.wait_for_successor() } else { options };
        let mut caller = options.caller(NAME).unwrap();
        let responder = enter_joined(&test_dir, "take_and_stay");
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call_timeout([1, pid()], 10 * MOMENT));
            counters(&test_dir).meet(2, 2);
            responder.kill();
            let error = calling.join().unwrap().unwrap_err();
            let expected = [CallError::TimedOut { taken: true }, CallError::ResponderDied];
            assert!(expected.contains(&error) && error.may_have_been_executed(), "{error:?}");
        });
    }
}

#[test]
fn responder_stopped_with_a_request_others_serve_and_its_late_reply_goes_nowhere() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).caller(NAME).unwrap();
    let mut other_caller = caller.try_clone().unwrap();
    let stopped = enter_joined(&test_dir, "take_and_stay");
    let other = thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call_timeout([1, pid()], 4 * MOMENT));
        counters(&test_dir).meet(2, 2);
        stopped.signal(libc::SIGSTOP);
        let other = enter_joined(&test_dir, "respond_endlessly");
        for number in 0..100 {
            assert_eq!(other_caller.call([number, 0]), Ok([number + 1, pid_of(&other)]));
        }
        assert_eq!(calling.join().unwrap(), TAKEN, "a stopped one is not dead");
        other
    });
    for number in 0..100 {
        assert_eq!(caller.call([number, 0]), Ok([number + 1, pid_of(&other)]));
    }
    stopped.signal(libc::SIGCONT);
    counters(&test_dir).word(1).store(0, Ordering::SeqCst);
    counters(&test_dir).word(3).store(1, Ordering::SeqCst);
    counters(&test_dir).meet(0, 2);
    assert_eq!(counters(&test_dir).word(1).load(Ordering::SeqCst), 2, "given up");
    assert_eq!(caller.call([5, 0]), Ok([6, pid_of(&other)]));
}

#[test]
fn responder_that_exits_with_a_request_its_caller_is_told() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).caller(NAME).unwrap();
    let child = enter_joined(&test_dir, "exit_with_request");
    assert_eq!(caller.call([1, pid()]), Err(CallError::ResponderDied));
    child.finish();
    assert_eq!(caller.call([1, pid()]), Err(CallError::Closed));
    drop(caller);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

// ---- callers that are killed and stopped -----------------------------------------------------------------------------

#[test]
fn caller_killed_while_it_waits_successor_in_its_place_gets_its_own_reply() {
    for is_taken in [false, true] {
        let test_dir = TestDir::new();
        let options = values(test_dir.names()).max_callers(1);
        let mut responder = options.responder(NAME).unwrap();
        let caller = enter_joined(&test_dir, "call_once_and_stay");
        let requested = || Directory::at(test_dir.names()).inspect(NAME).unwrap().rpc.unwrap().calls.len() == 1;
        until(requested);
        if is_taken {
            let request = responder.recv().unwrap();
            assert_eq!(*request, [7, pid_of(&caller)]);
            caller.kill();
            let mut successor = options.caller(NAME).unwrap();
            assert_eq!(request.reply([8, 0]), Err(ReplyError::GivenUp));
            let calling = thread::spawn(move || successor.call([9, 9]));
            let request = responder.recv().unwrap();
            assert_eq!(*request, [9, 9]);
            request.reply([10, 0]).unwrap();
            assert_eq!(calling.join().unwrap(), Ok([10, 0]));
        } else {
            caller.kill();
            let successor = options.caller(NAME).unwrap();
            assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Empty), "withdrawn");
            drop(successor);
        }
        assert_eq!(responder.recv().map(|_| ()), Err(RecvError::Closed));
    }
}

/// Starts a caller whose request nobody takes, and ends it.
fn leave_request(test_dir: &TestDir, is_killed: bool) {
    let caller = enter_joined(test_dir, if is_killed { "call_once_and_stay" } else { "exit_while_calling" });
    until(|| Directory::at(test_dir.names()).inspect(NAME).unwrap().rpc.unwrap().calls.len() == 1);
    if is_killed {
        caller.kill();
    } else {
        counters(test_dir).meet(2, 2);
        caller.finish();
    }
}

/// It may come hours later.
#[test]
fn caller_gone_before_its_request_is_taken_responder_that_joins_later_does_not_get_it() {
    for is_killed in [false, true] {
        let test_dir = TestDir::new();
        let options = values(test_dir.names());
        let keeper = options.caller(NAME).unwrap();
        leave_request(&test_dir, is_killed);
        let mut responder = options.responder(NAME).unwrap();
        assert_eq!(responder.try_recv().map(|request| *request), Err(RecvError::Empty), "killed: {is_killed}");
        drop(keeper);
    }
}

#[test]
fn caller_alive_when_a_responder_joins_its_request_is_executed() {
    let test_dir = TestDir::new();
    let caller = enter_joined(&test_dir, "call_once_and_stay");
    until(|| Directory::at(test_dir.names()).inspect(NAME).unwrap().rpc.unwrap().calls.len() == 1);
    caller.signal(libc::SIGSTOP);
    let mut responder = values(test_dir.names()).responder(NAME).unwrap();
    assert_eq!(responder.try_recv().map(|request| *request), Ok([7, pid_of(&caller)]), "stopped is not dead");
}

#[test]
fn caller_killed_responder_learns_of_it() {
    let test_dir = TestDir::new();
    let mut responder = values(test_dir.names()).responder(NAME).unwrap();
    let caller = enter_joined(&test_dir, "stay_as_caller");
    thread::scope(|scope| {
        let responding = scope.spawn(|| responder.recv().map(|_| ()));
        caller.kill();
        assert_eq!(responding.join().unwrap(), Err(RecvError::PeerDied));
    });
    let mut caller = responder.caller().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| responder.recv().unwrap().reply([1, 1]));
        assert_eq!(caller.call([0, 0]), Ok([1, 1]));
    });
}

#[test]
fn caller_stopped_while_it_waits_holds_nobody_up() {
    let test_dir = TestDir::new();
    let counters = counters(&test_dir);
    let responder = enter_joined(&test_dir, "respond_endlessly");
    let mut other = values(test_dir.names()).caller(NAME).unwrap();
    responder.signal(libc::SIGSTOP);
    let caller = enter_joined(&test_dir, "call_once_and_stay");
    until(|| Directory::at(test_dir.names()).inspect(NAME).unwrap().rings[0].queued == 1);
    caller.signal(libc::SIGSTOP);
    responder.signal(libc::SIGCONT);
    for number in 0..200 {
        assert_eq!(other.call([number, 0]), Ok([number + 1, pid_of(&responder)]));
    }
    caller.signal(libc::SIGCONT);
    counters.meet(0, 2);
    assert_eq!(counters.word(1).load(Ordering::SeqCst), 8, "its reply was kept for it");
}

// ---- repair ----------------------------------------------------------------------------------------------------------

#[test]
fn repair_withdraws_requests_of_the_dead() {
    let test_dir = TestDir::new();
    let directory = Directory::at(test_dir.names());
    let mut responder = values(test_dir.names()).wait_for_successor().responder(NAME).unwrap();
    let caller = enter_joined(&test_dir, "call_once_and_stay");
    let calls = || directory.inspect(NAME).unwrap().rpc.unwrap().calls;
    until(|| calls().len() == 1);
    assert_eq!((calls()[0].caller, calls()[0].responder), (pid_of(&caller), None));
    let request = responder.recv().unwrap();
    assert_eq!(calls()[0].responder, Some(pid()));
    assert_eq!(directory.repair(NAME).unwrap(), 0, "nobody is dead");
    caller.kill();
    assert_eq!(directory.repair(NAME).unwrap(), 1);
    assert_eq!(request.reply([0, 0]), Err(ReplyError::GivenUp));
    assert_eq!(directory.repair(NAME).unwrap(), 0);
    assert!(calls().is_empty());
    let info = directory.inspect(NAME).unwrap();
    let dead = info.participants.iter().filter(|user| user.status == ParticipantStatus::Dead);
    assert_eq!(dead.count(), 1);
}

#[test]
fn repair_withdraws_requests_of_those_that_exited() {
    let test_dir = TestDir::new();
    let directory = Directory::at(test_dir.names());
    let mut responder = values(test_dir.names()).responder(NAME).unwrap();
    leave_request(&test_dir, false);
    assert_eq!(directory.repair(NAME).unwrap(), 1);
    assert_eq!(directory.repair(NAME).unwrap(), 0);
    assert_eq!(responder.try_recv().map(|request| *request).unwrap_err(), RecvError::Closed);
}

// ---- passing, forks and exits ----------------------------------------------------------------------------------------

/// Starts `role` and passes it an endpoint.
fn start_with(test_dir: &TestDir, role: &str, endpoint: impl Endpoint + 'static) -> Process {
    let command = command(role, &[test_dir.file("counters").to_str().unwrap()]);
    command.pass("end", endpoint).unwrap().spawn().unwrap().into()
}

pub fn call_passed(_: &[String]) {
    let mut caller: Caller<Value, Value> = spawn::take("end").unwrap();
    assert_eq!(caller.call([7, pid()]), Ok([8, pid()]));
}

pub fn respond_passed(arguments: &[String]) {
    let counters = SharedCounters::at(Path::new(&arguments[0]));
    let mut responder: Responder<Value, Value> = spawn::take("end").unwrap();
    let request = responder.recv().unwrap();
    let number = request[0];
    request.reply([number + 1, pid()]).unwrap();
    counters.meet(0, 2);
    counters.meet(0, 2);
}

#[test]
fn caller_passed_to_a_child_calls() {
    let test_dir = TestDir::new();
    let (caller, mut responder) = Options::<Value, Value>::new().create().unwrap();
    let child = start_with(&test_dir, "call_passed", caller);
    let request = responder.recv().unwrap();
    assert_eq!(*request, [7, pid_of(&child)]);
    let answer = [8, request[1]];
    request.reply(answer).unwrap();
    child.finish();
    assert_eq!(responder.recv().map(|_| ()), Err(RecvError::Closed));
}

#[test]
fn responder_passed_to_a_child_replies_and_its_death_is_reported() {
    for is_killed in [false, true] {
        let test_dir = TestDir::new();
        let (mut caller, responder) = Options::<Value, Value>::new().create().unwrap();
        let child = start_with(&test_dir, "respond_passed", responder);
        assert_eq!(caller.call([1, 0]), Ok([2, pid_of(&child)]));
        counters(&test_dir).meet(0, 2);
        if is_killed {
            child.kill();
            assert_eq!(caller.call([1, 0]), Err(CallError::NoResponder));
        } else {
            counters(&test_dir).meet(0, 2);
            child.finish();
            assert_eq!(caller.call([1, 0]), Err(CallError::Closed));
        }
    }
}

#[test]
fn endpoint_as_descriptor_goes_on_and_another_type_is_refused() {
    let options = Options::<Value, Value>::new();
    let (caller, responder) = options.create().unwrap();
    let mut caller: Caller<Value, Value> = options.from_fd(caller.into_fd().unwrap()).unwrap();
    let descriptor = responder.into_fd().unwrap();
    let error = Options::<Value, u64>::new().from_fd::<Responder<Value, u64>>(descriptor.try_clone().unwrap());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::WrongType);
    let error = options.from_fd::<Caller<Value, Value>>(descriptor.try_clone().unwrap()).unwrap_err();
    assert!(error.to_string().contains("responder") || error.to_string().contains("participant"), "{error}");
    let mut responder: Responder<Value, Value> = options.from_fd(descriptor).unwrap();
    let responding = thread::spawn(move || responder.recv().unwrap().reply([3, 4]));
    assert_eq!(caller.call([1, 2]), Ok([3, 4]));
    responding.join().unwrap().unwrap();
}

#[test]
fn fork_inherited_rpc_endpoints_are_refused_and_dropped_without_effect() {
    let alone = alone();
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let mut endpoints = Some((options.caller(NAME).unwrap(), options.responder(NAME).unwrap()));
    let child = fork(&alone, || {
        let (mut caller, mut responder) = endpoints.take().unwrap();
        assert_eq!(caller.call([0, 0]), Err(CallError::Forked));
        assert_eq!(caller.wait_for_responder(MOMENT), Err(CallError::Forked));
        assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Forked));
        assert_eq!(responder.serve(|value| value), Err(RecvError::Forked));
        assert_eq!(responder.wait_for_caller(MOMENT), Err(RecvError::Forked));
        assert_eq!(caller.try_clone().unwrap_err().kind(), ErrorKind::Forked);
        assert_eq!(responder.caller().unwrap_err().kind(), ErrorKind::Forked);
        drop((caller, responder));
    });
    child.finish();
    let (mut caller, mut responder) = endpoints.take().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| responder.recv().unwrap().reply([1, 1]).unwrap());
        assert_eq!(caller.call([0, 0]), Ok([1, 1]));
    });
    drop(responder);
    assert_eq!(caller.call([0, 0]), Err(CallError::Closed));
}

/// Leaves `main`, as it were, with handles that were not dropped.
pub fn exit_with_handles(arguments: &[String]) {
    let role = Role::of(arguments);
    forget((role.options.caller(NAME).unwrap(), role.options.responder(NAME).unwrap()));
    std::process::exit(0);
}

#[test]
fn process_that_exits_with_handles_leaves_and_does_not_die() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let mut caller = options.caller(NAME).unwrap();
    enter(&test_dir, "exit_with_handles").finish();
    assert_eq!(caller.call([0, 0]), Err(CallError::Closed));
    drop(caller);
    assert_eq!(test_dir.leftovers(), [""; 0]);
    enter(&test_dir, "exit_with_handles").finish();
    assert_eq!(test_dir.leftovers(), [""; 0], "the last one that exits takes the name along");
}

#[test]
fn name_goes_with_the_last_one_and_stays_if_that_was_killed() {
    let test_dir = TestDir::new();
    let options = values(test_dir.names());
    let (caller, responder) = (options.caller(NAME).unwrap(), options.responder(NAME).unwrap());
    drop(responder);
    assert_eq!(test_dir.leftovers(), [NAME]);
    drop(caller);
    assert_eq!(test_dir.leftovers(), [""; 0]);
    for recreate in [false, true] {
        enter_joined(&test_dir, "stay_as_responder").kill();
        assert_eq!(test_dir.leftovers(), [NAME]);
        let on_stale = if recreate { OnStale::Recreate } else { OnStale::Resume };
        let mut caller = options.clone().on_stale(on_stale).caller(NAME).unwrap();
        assert_eq!(caller.call_timeout([0, 0], MOMENT), NOT_TAKEN, "the dead one was here before");
        let responder = enter_joined(&test_dir, "respond_endlessly");
        assert_eq!(caller.call([1, 0]), Ok([2, pid_of(&responder)]));
        drop((caller, responder));
    }
    assert_eq!(test_dir.leftovers(), [NAME], "killed again");
    drop(options.caller(NAME).unwrap());
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn caller_under_a_removed_name_is_told_so() {
    let test_dir = TestDir::new();
    let mut caller = values(test_dir.names()).wait_for_successor().caller(NAME).unwrap();
    assert_eq!(caller.call_timeout([0, 0], MOMENT), NOT_TAKEN);
    Directory::at(test_dir.names()).unlink(NAME, true).unwrap();
    assert_eq!(caller.call([0, 0]), Err(CallError::NameRemoved));
    // It can make a responder itself.
    let mut responder = caller.responder().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| responder.recv().unwrap().reply([1, 1]).unwrap());
        assert_eq!(caller.call([0, 0]), Ok([1, 1]));
    });
}
