//! Callers and responders that are killed and stopped at random, with an exact account: every call
//! was answered once, by its own reply, or says whether its request may have been executed.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::rpc::{CallError, Options, ReplyError};
use tombolo::{Directory, RecvError};

use crate::support::{Process, Random, TestDir, message, number_of, report, start, stress_factor, stress_random};

const NAME: &str = "storm";
const CALLERS: usize = 4;
const RESPONDERS: usize = 3;

/// What the log has of a request.
const EXECUTED: u64 = 0;
const REPLIED: u64 = 1;
const NEVER_EXECUTED: u64 = 2;
const UNKNOWN: u64 = 3;

fn options(names: &Path) -> Options<[u8], [u8]> {
    let options = Options::bytes().max_callers(CALLERS).max_responders(RESPONDERS);
    options.max_request_bytes(3000).max_reply_bytes(3000).wait_for_successor().directory(names)
}

/// A file to which processes append, a record at a time: a killed one leaves all or nothing of it.
struct Log(File);

impl Log {
    fn at(path: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).open(path).unwrap())
    }

    fn append(&mut self, number: u64, what: u64) {
        let record = number << 8 | what;
        assert_eq!(self.0.write(&record.to_le_bytes()).unwrap(), 8);
    }
}

fn reply_to(number: u64) -> Vec<u8> {
    message(number | 1 << 63, 8 + (number.wrapping_mul(0x9E37_79B9) % 2900) as usize)
}

/// Makes requests, with deadlines of all lengths.
pub fn storm_caller(arguments: &[String]) {
    let mut log = Log::at(Path::new(&arguments[1]));
    let mut random = Random(arguments[2].parse::<u64>().unwrap() | 1);
    let pid = u64::from(std::process::id());
    let options = options(Path::new(&arguments[0])).open_timeout(Duration::MAX);
    let retries = arguments[3] == "retry";
    let mut caller = if retries { options.retry() } else { options }.caller(NAME).unwrap();
    let mut reply = Vec::new();
    for count in 0.. {
        let number = pid << 24 | count;
        let request = message(number, 8 + random.below(2900) as usize);
        let called = match random.below(4) {
            0 => caller.call_timeout(&request, &mut reply, Duration::from_nanos(random.below(40_000))),
            // With retry, some see that a responder died, and none is there before the deadline.
            1 => {
                let longest = if retries { 60_000 } else { 5000 };
                caller.call_timeout(&request, &mut reply, Duration::from_micros(random.below(longest)))
            }
            _ => caller.call(&request, &mut reply),
        };
        let what = match called {
            Ok(_) => {
                assert_eq!(reply, reply_to(number), "its own reply, whole");
                REPLIED
            }
            Err(CallError::TimedOut { taken: false }) => NEVER_EXECUTED,
            Err(CallError::TimedOut { taken: true } | CallError::ResponderDied) => UNKNOWN,
            Err(error) => panic!("{error}"),
        };
        log.append(number, what);
    }
}

/// Replies, sometimes late, until the last caller has left.
pub fn storm_responder(arguments: &[String]) {
    let mut log = Log::at(Path::new(&arguments[1]));
    let mut random = Random(arguments[2].parse::<u64>().unwrap() | 1);
    let mut responder = options(Path::new(&arguments[0])).open_timeout(Duration::MAX).responder(NAME).unwrap();
    loop {
        let request = responder.recv().unwrap();
        let number = number_of(&request);
        log.append(number, EXECUTED);
        if random.below(8) == 0 {
            thread::sleep(Duration::from_micros(random.below(300)));
        }
        let replied = request.reply(reply_to(number));
        assert!(matches!(replied, Ok(()) | Err(ReplyError::GivenUp)), "{replied:?}");
    }
}

#[test]
fn calls_in_a_storm_each_have_their_own_reply_or_an_error_that_is_true() {
    storm(false);
}

/// A request may be executed more than once then. If its call says never, it was not.
#[test]
fn calls_with_retry_in_a_storm_each_have_their_own_reply_or_an_error_that_is_true() {
    storm(true);
}

fn storm(retries: bool) {
    let test_dir = TestDir::new();
    let (names, log) = (test_dir.names(), test_dir.file("log"));
    let mut random = stress_random(0x59C);
    let enter = |role: &str, random: &mut Random| {
        let seed = random.next().to_string();
        let retry = if retries { "retry" } else { "no retry" };
        start(role, &[names.to_str().unwrap(), log.to_str().unwrap(), &seed, retry])
    };
    let roles: Vec<&str> = (0..CALLERS + RESPONDERS)
        .map(|index| if index < CALLERS { "storm_caller" } else { "storm_responder" })
        .collect();
    let mut processes: Vec<Process> = roles.iter().map(|role| enter(role, &mut random)).collect();
    let mut stopped: Option<usize> = None;
    for _ in 0..150 * stress_factor() {
        thread::sleep(Duration::from_micros(random.below(8000)));
        let victim = random.below(processes.len() as u64) as usize;
        if let Some(stopped) = stopped.take() {
            processes[stopped].signal(libc::SIGCONT);
        }
        if random.below(3) == 0 {
            processes[victim].signal(libc::SIGSTOP);
            stopped = Some(victim);
        } else {
            let next = enter(roles[victim], &mut random);
            std::mem::replace(&mut processes[victim], next).kill();
        }
    }
    if let Some(stopped) = stopped {
        processes[stopped].signal(libc::SIGCONT);
    }
    let survivor = processes.split_off(CALLERS);
    processes.into_iter().for_each(Process::kill);
    // What dead callers left is executed by those that are there, or withdrawn.
    Directory::at(&names).repair(NAME).unwrap();
    let mut caller = options(&names).caller(NAME).unwrap();
    let mut reply = Vec::new();
    for number in 0..100 {
        caller.call(message(number, 8), &mut reply).unwrap();
        assert_eq!(reply, reply_to(number));
    }
    survivor.into_iter().for_each(Process::kill);
    let mut responder = options(&names).responder(NAME).unwrap();
    assert_eq!(responder.try_recv().map(|_| ()), Err(RecvError::Empty), "nothing is left");
    drop((caller, responder));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    check(&std::fs::read(log).unwrap(), retries);
}

fn check(log: &[u8], retries: bool) {
    let (mut executed, mut ended) = (HashMap::<u64, u64>::new(), HashMap::new());
    for record in log.chunks_exact(8) {
        let record = u64::from_le_bytes(record.try_into().unwrap());
        let (number, what) = (record >> 8, record & 0xff);
        match what {
            EXECUTED => *executed.entry(number).or_default() += 1,
            _ => assert_eq!(ended.insert(number, what), None, "{number:#x} ended twice"),
        }
    }
    assert!(retries || executed.values().all(|&times| times == 1), "executed twice");
    let mut counts = [0; 4];
    for (number, what) in ended {
        counts[what as usize] += 1;
        let times = executed.get(&number).copied().unwrap_or(0);
        match what {
            REPLIED => assert!(times > 0, "{number:#x} has a reply"),
            NEVER_EXECUTED => assert_eq!(times, 0, "{number:#x} was executed"),
            _ => {}
        }
    }
    let [_, replied, never, unknown] = counts;
    report(&format!("{} executed, {replied} replied, {never} never executed, {unknown} unknown", executed.len()));
    assert!(counts[1..].iter().all(|&count| count > 0), "{counts:?}: the storm was none");
}
