//! Hostile peers of requests and replies.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::rpc::{ByteCaller, ByteResponder, CallError, Caller, Options, Responder};
use tombolo::select::{Descriptor, SelectError, Selector};
use tombolo::{Directory, Endpoint, RecvError, WaitStrategy};

use crate::support::{Random, TestDir, start, until};
use crate::{Intruder, NAME, REGION_STATE, SHORT, attack, soon, under_attack};

/// Positions of words in a region for four callers and two responders, with requests and replies of
/// up to 64 bytes, as docs/layout.md has them.
mod words {
    pub const REQUESTS: usize = 64;
    pub const JOINED: usize = 80;
    pub const COUNTERS: [usize; 4] = [96, 97, 98, 99];
    pub const FIRST_RECORD: usize = 112;
    pub const RECORD_WORDS: usize = 8;
    pub const CALLERS: usize = 4;
    pub const RESPONDERS: usize = 2;
    pub const ACTIVE: usize = FIRST_RECORD + (CALLERS + RESPONDERS) * RECORD_WORDS;
    pub const CELLS: usize = ACTIVE + 16;
    pub const STRIDE: usize = 16;
    pub const CLAIM: usize = 0;
    pub const LENGTH: usize = 1;
    pub const BUFFERS: usize = CELLS + CALLERS * STRIDE;
    pub const ANSWER: usize = 0;
    pub const EVENT: usize = 1;
    pub const REPLY_LENGTH: usize = 2;
    pub const ABANDONED: usize = 3;

    pub fn record(index: usize, word: usize) -> usize {
        FIRST_RECORD + index * RECORD_WORDS + word
    }

    pub fn cell(caller: usize, word: usize) -> usize {
        CELLS + caller * STRIDE + word
    }

    pub fn buffer(caller: usize, buffer: usize, word: usize) -> usize {
        BUFFERS + (caller * RESPONDERS + buffer) * STRIDE + word
    }
}

/// States, responders and buffers that there are or are not, and ids.
const CLAIMS: [u64; 16] = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    1 << 19 | 1,
    1 << 19 | 2,
    1 << 19 | 3,
    1 << 19 | 4,
    1 << 19 | 1 << 11 | 0xff << 3 | 2,
    1 << 19 | 0xff << 11 | 2,
    1 << 19 | 0xff << 11 | 0xff << 3 | 3,
    1 << 63 | 1,
    u64::MAX,
];

fn of_values(test_dir: &TestDir) -> Options<[u64; 8], [u64; 8]> {
    let options = Options::new().max_callers(words::CALLERS).max_responders(words::RESPONDERS);
    options.directory(test_dir.names())
}

fn of_bytes(test_dir: &TestDir) -> Options<[u8], [u8]> {
    let options = Options::bytes().max_callers(words::CALLERS).max_responders(words::RESPONDERS);
    options.max_request_bytes(60).max_reply_bytes(60).directory(test_dir.names())
}

/// A caller, participant 0, and a responder, participant 4. They cannot call each other, since they
/// are used by one thread.
struct Values {
    options: Options<[u64; 8], [u64; 8]>,
    directory: Directory,
    caller: Caller<[u64; 8], [u64; 8]>,
    responder: Responder<[u64; 8], [u64; 8]>,
    intruder: Intruder,
}

impl Values {
    fn new(test_dir: &TestDir) -> Self {
        let options = of_values(test_dir);
        let (caller, responder) = (options.caller(NAME).unwrap(), options.responder(NAME).unwrap());
        let intruder = Intruder::at(&test_dir.names().join(NAME));
        Self { options: options.must_exist(), directory: Directory::at(test_dir.names()), caller, responder, intruder }
    }

    /// Every call that does not block for ever.
    fn use_all(&mut self) {
        let Self { caller, responder, .. } = self;
        let _ = soon(|| caller.call_timeout([1; 8], SHORT));
        let _ = soon(|| caller.start([1; 8]));
        let _ = soon(|| Selector::new().wait_timeout(&mut [&mut *caller], SHORT));
        let _ = soon(|| caller.try_finish());
        caller.cancel();
        for _ in 0..3 {
            if let Ok(request) = soon(|| responder.try_recv()) {
                let _ = soon(|| request.reply([2; 8]));
            }
        }
        if let Ok(request) = soon(|| responder.recv_timeout(SHORT)) {
            drop(request);
        }
        let _ = soon(|| caller.call_timeout([1; 8], Duration::ZERO));
        assert!(caller.responders() <= words::RESPONDERS && responder.callers() <= words::CALLERS);
        let _ = (soon(|| caller.wait_for_responder(SHORT)), soon(|| responder.wait_for_caller(SHORT)));
    }

    /// A caller that waits while another thread responds.
    fn call(&mut self) {
        let Self { caller, responder, .. } = self;
        thread::scope(|scope| {
            let calling = scope.spawn(|| soon(|| caller.call_timeout([1; 8], 4 * SHORT)));
            if let Ok(request) = soon(|| responder.recv_timeout(2 * SHORT)) {
                let _ = soon(|| request.reply([2; 8]));
            }
            let _ = calling.join().unwrap();
        });
    }

    /// Those that join, and look from outside.
    fn join_all(&mut self) {
        for mut caller in [soon(|| self.responder.caller()), soon(|| self.options.caller(NAME))].into_iter().flatten() {
            let _ = soon(|| caller.call_timeout([1; 8], SHORT));
            let passed = soon(|| caller.into_fd())
                .and_then(|descriptor| self.options.from_fd::<Caller<[u64; 8], [u64; 8]>>(descriptor));
            drop(passed.map(|mut caller| soon(|| caller.call_timeout([1; 8], SHORT))));
        }
        for mut responder in
            [soon(|| self.caller.responder()), soon(|| self.options.responder(NAME))].into_iter().flatten()
        {
            let _ = soon(|| responder.recv_timeout(SHORT)).map(|request| request.reply([2; 8]));
        }
        if let Ok(info) = soon(|| self.directory.inspect(NAME)) {
            assert!(info.rpc.unwrap().calls.len() <= words::CALLERS);
        }
        let _ = soon(|| self.directory.repair(NAME));
    }
}

/// The same for byte messages.
struct Bytes {
    caller: ByteCaller,
    responder: ByteResponder,
    intruder: Intruder,
}

impl Bytes {
    fn new(test_dir: &TestDir) -> Self {
        let options = of_bytes(test_dir);
        let (caller, responder) = (options.caller(NAME).unwrap(), options.responder(NAME).unwrap());
        Self { caller, responder, intruder: Intruder::at(&test_dir.names().join(NAME)) }
    }

    fn use_all(&mut self, random: &mut Random) {
        let Self { caller, responder, .. } = self;
        let (request, mut reply) = (vec![0xAB; random.below(61) as usize], Vec::new());
        thread::scope(|scope| {
            let calling = scope.spawn(|| {
                let _ = soon(|| caller.call_timeout(&request, &mut reply, 4 * SHORT));
                assert!(reply.len() <= 60, "the limit holds");
            });
            if let Ok(request) = soon(|| responder.recv_timeout(2 * SHORT)) {
                assert!(request.len() <= 60, "the limit holds");
                let _ = soon(|| request.reply([7; 60]));
            }
            calling.join().unwrap();
        });
    }
}

// ---- invalid words ---------------------------------------------------------------------------------------------------

#[test]
fn rpc_claims_invalid_calls_return() {
    for claim in CLAIMS {
        let test_dir = TestDir::new();
        let mut values = Values::new(&test_dir);
        (0..words::CALLERS).for_each(|caller| values.intruder.set(words::cell(caller, words::CLAIM), claim));
        values.intruder.set(words::ACTIVE, u64::MAX);
        values.use_all();
        values.call();
        (0..words::CALLERS).for_each(|caller| values.intruder.set(words::cell(caller, words::CLAIM), claim));
        values.join_all();
        values.use_all();
    }
}

/// While the caller waits, its claim word changes to anything.
#[test]
fn rpc_claim_changed_during_a_call_returns_an_error_or_its_reply() {
    for claim in CLAIMS {
        let test_dir = TestDir::new();
        let Values { mut caller, responder, intruder, options, .. } = Values::new(&test_dir);
        thread::scope(|scope| {
            let calling = scope.spawn(|| soon(|| caller.call_timeout([1; 8], 60 * SHORT)));
            until(|| intruder.get(words::cell(0, words::CLAIM)) != 0);
            intruder.set(words::cell(0, words::CLAIM), claim);
            drop(responder);
            let called = calling.join().unwrap();
            assert!(called.is_err(), "{claim:#x}: {called:?}");
        });
        // It can still call.
        intruder.set(words::cell(0, words::CLAIM), 0);
        let mut responder = options.responder(NAME).unwrap();
        thread::scope(|scope| {
            let calling = scope.spawn(|| caller.call([1; 8]));
            responder.recv().unwrap().reply([3; 8]).unwrap();
            assert_eq!(calling.join().unwrap(), Ok([3; 8]));
        });
    }
}

#[test]
fn rpc_answers_and_abandoned_buffers_invalid_calls_return() {
    for word in [words::ANSWER, words::ABANDONED] {
        for invalid in CLAIMS.into_iter().chain([1 << 8 | 9, 1 << 8, 2 << 8 | 255, 1 << 8 | 1, 2 << 8 | 1]) {
            let test_dir = TestDir::new();
            let mut values = Values::new(&test_dir);
            let set_all = |intruder: &Intruder| {
                for caller in 0..words::CALLERS {
                    (0..words::RESPONDERS)
                        .for_each(|buffer| intruder.set(words::buffer(caller, buffer, word), invalid));
                }
            };
            set_all(&values.intruder);
            values.call();
            set_all(&values.intruder);
            values.join_all();
            values.use_all();
        }
    }
}

#[test]
fn rpc_answer_of_no_kind_returns_corrupt() {
    let test_dir = TestDir::new();
    let mut values = Values::new(&test_dir);
    values.intruder.set(words::buffer(0, 0, words::ANSWER), 1 << 8 | 200);
    assert_eq!(values.caller.call([1; 8]), Err(CallError::Corrupt));
    values.call();
}

#[test]
fn rpc_lengths_invalid_return_corrupt() {
    for length in [61, 1 << 40, u64::MAX] {
        let test_dir = TestDir::new();
        let Bytes { mut caller, mut responder, intruder } = Bytes::new(&test_dir);
        thread::scope(|scope| {
            let calling = scope.spawn(|| soon(|| caller.call("a", &mut Vec::new())));
            until(|| intruder.get(words::cell(0, words::CLAIM)) != 0);
            intruder.set(words::cell(0, words::LENGTH), length);
            assert_eq!(soon(|| responder.recv()).map(|_| ()), Err(RecvError::Corrupt));
            assert_eq!(calling.join().unwrap(), Err(CallError::Dropped));
        });
        // The next reply is too long.
        intruder.set(words::buffer(0, 0, words::REPLY_LENGTH), length);
        intruder.set(words::buffer(0, 0, words::ANSWER), 2 << 8 | 1);
        assert_eq!(soon(|| caller.call("a", &mut Vec::new())), Err(CallError::Corrupt));
    }
}

/// As if every responder was stopped in the middle of a reply to an earlier request. A request that
/// is made meanwhile waits for a buffer, and can be given up.
#[test]
fn rpc_every_buffer_abandoned_request_waits_for_one() {
    let test_dir = TestDir::new();
    let mut values = Values::new(&test_dir);
    let set_all = |intruder: &Intruder, abandoned: fn(u64) -> u64| {
        (0..words::RESPONDERS)
            .for_each(|buffer| intruder.set(words::buffer(0, buffer, words::ABANDONED), abandoned(buffer as u64)));
    };
    set_all(&values.intruder, |buffer| 9 << 19 | buffer << 11 | 3);
    let Values { caller, responder, intruder, .. } = &mut values;
    assert_eq!(caller.call_timeout([1; 8], SHORT), Err(CallError::TimedOut { taken: false }));
    caller.start([1; 8]).unwrap();
    assert!(!caller.cancel());
    caller.start([2; 8]).unwrap();
    assert_eq!(caller.try_finish(), Err(CallError::NotReady));
    assert_eq!(Selector::new().wait_timeout(&mut [&mut *caller], SHORT), Err(SelectError::TimedOut));
    assert!(matches!(responder.try_recv(), Err(RecvError::Empty)), "none was made");
    thread::scope(|scope| {
        let responding = scope.spawn(|| {
            let request = responder.recv().unwrap();
            assert_eq!(*request, [2; 8]);
            request.reply([3; 8])
        });
        thread::sleep(SHORT);
        set_all(intruder, |_| 0);
        let mut selector = Selector::new();
        let reply = loop {
            assert_eq!(soon(|| selector.wait(&mut [&mut *caller])), Ok(0));
            match caller.try_finish() {
                Err(CallError::NotReady) => {}
                reply => break reply,
            }
        };
        assert_eq!((reply, responding.join().unwrap()), (Ok([3; 8]), Ok(())));
    });
    values.call();
}

/// No sleep ends by itself here, so a wake-up that is missing is a test that hangs.
pub fn await_replies_in_the_second_buffer(arguments: &[String]) {
    tombolo::test_hooks::disable_liveness_interval();
    let options = Options::<u64, u64>::new().max_callers(words::CALLERS).max_responders(words::RESPONDERS);
    let options = options.wait(WaitStrategy::Park).directory(&arguments[0]);
    let (mut caller, mut responder) = (options.caller(NAME).unwrap(), options.responder(NAME).unwrap());
    // Of a request whose responder runs, and has not answered.
    let intruder = Intruder::at(&Path::new(&arguments[0]).join(NAME));
    intruder.set(words::buffer(0, 0, words::ABANDONED), 9 << 19 | 3);
    let readiness = caller.readiness().unwrap();
    assert_eq!(caller.try_finish(), Err(CallError::NoRequest)); // waits for the first buffer
    caller.start(7).unwrap();
    responder.try_recv().unwrap().reply(7).unwrap();
    assert_eq!(Selector::new().wait(&mut [&mut Descriptor::readable(&readiness)]), Ok(0));
    assert_eq!(caller.try_finish(), Ok(7));
    drop(readiness);
    for number in 0..6 {
        thread::scope(|scope| {
            let calling = scope.spawn(|| {
                caller.start(number).unwrap();
                if number % 2 == 0 {
                    Selector::new().wait_strategy(WaitStrategy::Park).wait(&mut [&mut caller]).unwrap();
                }
                caller.finish()
            });
            let request = responder.recv().unwrap();
            thread::sleep(30 * SHORT);
            request.reply(number).unwrap();
            assert_eq!(calling.join().unwrap(), Ok(number));
        });
        assert_eq!(intruder.get(words::buffer(0, 0, words::ANSWER)), 0);
    }
}

#[test]
fn rpc_first_buffer_abandoned_replies_in_the_second_wake_the_caller() {
    let test_dir = TestDir::new();
    start("await_replies_in_the_second_buffer", &[test_dir.names().to_str().unwrap()]).finish();
}

/// One caller does not end the server of the others.
#[test]
fn rpc_lengths_invalid_serve_goes_on() {
    let test_dir = TestDir::new();
    let Bytes { mut caller, mut responder, intruder } = Bytes::new(&test_dir);
    let calling = thread::spawn(move || {
        assert_eq!(soon(|| caller.call("a", &mut Vec::new())), Err(CallError::Dropped));
        caller.call_timeout("bc", &mut Vec::new(), Duration::from_secs(2))
    });
    until(|| intruder.get(words::cell(0, words::CLAIM)) != 0);
    intruder.set(words::cell(0, words::LENGTH), u64::MAX);
    assert_eq!(responder.serve(<[u8]>::to_vec), Ok(()));
    assert_eq!(calling.join().unwrap(), Ok(2));
}

/// A value that is none of its type.
#[test]
fn rpc_values_invalid_are_refused() {
    let test_dir = TestDir::new();
    let options = Options::<bool, bool>::new().max_callers(4).max_responders(2).directory(test_dir.names());
    let (mut caller, mut responder) = (options.caller(NAME).unwrap(), options.responder(NAME).unwrap());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    thread::scope(|scope| {
        let calling = scope.spawn(|| caller.call(true));
        until(|| intruder.get(words::cell(0, words::CLAIM)) != 0);
        intruder.set(words::cell(0, 2), 7);
        assert_eq!(responder.recv().map(|_| ()), Err(RecvError::InvalidValue));
        assert_eq!(calling.join().unwrap(), Err(CallError::Dropped));
    });
    intruder.set(words::buffer(0, 0, 4), 7);
    intruder.set(words::buffer(0, 0, words::ANSWER), 2 << 8 | 1);
    assert_eq!(caller.call(true), Err(CallError::InvalidValue));
}

#[test]
fn rpc_records_and_counters_invalid_calls_return() {
    for invalid in [0, 1, 4, 1 << 40, u64::MAX] {
        for index in words::COUNTERS.into_iter().chain((0..words::RECORD_WORDS).map(|word| words::record(0, word))) {
            let test_dir = TestDir::new();
            let mut values = Values::new(&test_dir);
            values.intruder.set(index, invalid);
            values.intruder.set(index.max(words::FIRST_RECORD) + words::CALLERS * words::RECORD_WORDS, invalid);
            values.use_all();
            values.join_all();
        }
    }
}

// ---- attackers that do not stop --------------------------------------------------------------------------------------

/// Writes anything anywhere in a region for requests, mostly where it matters.
pub fn corrupt_rpc(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let (caller, buffer) = (random.below(4) as usize, random.below(2) as usize);
        let at = match random.below(12) {
            0 => random.below((intruder.words() - REGION_STATE) as u64) as usize + REGION_STATE,
            1 => words::REQUESTS,
            2 => words::JOINED,
            3 => words::COUNTERS[random.below(4) as usize],
            4 => words::record(random.below(6) as usize, random.below(8) as usize),
            5 => words::ACTIVE,
            6 => words::cell(caller, words::CLAIM),
            7 => words::cell(caller, words::LENGTH),
            8 => words::buffer(caller, buffer, words::ANSWER),
            9 => words::buffer(caller, buffer, words::EVENT),
            10 => words::buffer(caller, buffer, words::REPLY_LENGTH),
            _ => words::buffer(caller, buffer, words::ABANDONED),
        };
        let id = intruder.get(words::cell(caller, words::CLAIM)) >> 19;
        let value = match random.below(8) {
            0 => random.next(),
            1 => random.below(64),
            2..5 => {
                id.wrapping_add(random.below(2)) << 19 | random.below(2) << 11 | random.below(2) << 3 | random.below(8)
            }
            5 => id.wrapping_add(random.below(2)) << 8 | random.below(5),
            6 => intruder.get(at) & !7 | random.below(8),
            _ => intruder.get(at).wrapping_add(random.below(8)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

#[test]
fn rpc_of_values_corrupted_constantly_calls_return() {
    under_attack("corrupt_rpc", Values::new, |values, _| values.use_all());
    under_attack("corrupt_rpc", Values::new, |values, _| values.call());
}

#[test]
fn rpc_of_bytes_corrupted_constantly_calls_return() {
    under_attack("corrupt_rpc", Bytes::new, |bytes, random| bytes.use_all(random));
}

#[test]
fn rpc_corrupted_while_others_join_and_leave_calls_return() {
    under_attack("corrupt_rpc", Values::new, |values, _| values.join_all());
}

/// Has a request ready wherever the responder looks, and withdraws it as it is copied.
pub fn request_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    for id in 1.. {
        for caller in 0..words::CALLERS {
            intruder.set(words::cell(caller, words::CLAIM), id << 19 | 1);
            intruder.set(words::ACTIVE, u64::MAX);
        }
    }
}

#[test]
fn responder_fed_with_requests_that_vanish_returns_by_its_deadline() {
    let test_dir = TestDir::new();
    let mut values = Values::new(&test_dir);
    let attacker = attack(&test_dir, "request_endlessly", 1);
    until(|| values.intruder.get(words::cell(3, words::CLAIM)) > 0);
    for _ in 0..200 {
        let _ = soon(|| values.responder.try_recv()).map(|request| soon(|| request.reply([0; 8])));
        let _ = soon(|| values.responder.recv_timeout(SHORT)).map(|request| soon(|| request.reply([0; 8])));
        let _ = soon(|| values.caller.call_timeout([1; 8], SHORT));
    }
    attacker.kill();
}
