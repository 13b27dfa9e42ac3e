//! What options and openers refuse, and what they say.

use std::time::Duration;

use tombolo::rpc::{ByteCaller, CallError, Caller, Options, Responder};
use tombolo::{ErrorKind, RecvError};

use crate::support::TestDir;

const NAME: &str = "name";
const MOMENT: Duration = Duration::from_millis(30);

#[test]
fn open_of_another_type_is_refused_with_both_types() {
    let test_dir = TestDir::new();
    let options = Options::<u64, u32>::new().directory(test_dir.names());
    let _caller: Caller<u64, u32> = options.caller(NAME).unwrap();
    let errors = [
        Options::<u32, u32>::new().directory(test_dir.names()).responder(NAME).unwrap_err(),
        Options::<u64, i32>::new().directory(test_dir.names()).responder(NAME).unwrap_err(),
        Options::bytes().directory(test_dir.names()).responder(NAME).unwrap_err(),
        tombolo::queue::Options::<u64>::new().directory(test_dir.names()).receiver(NAME).unwrap_err(),
    ];
    for (error, parts) in
        errors.into_iter().zip([["u64", "u32"], ["replies", "i32"], ["bytes", "8"], ["request", "queue"]])
    {
        assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }
    let tagged = Options::<u64, u32>::new().reply_tag("price").directory(test_dir.names());
    assert_eq!(tagged.responder(NAME).unwrap_err().kind(), ErrorKind::WrongType);
    let _responder: Responder<u64, u32> = options.responder(NAME).unwrap();
}

#[test]
fn open_of_longer_messages_than_wanted_is_refused() {
    let test_dir = TestDir::new();
    let options = Options::bytes().directory(test_dir.names());
    let _caller: ByteCaller = options.clone().max_request_bytes(100).max_reply_bytes(200).caller(NAME).unwrap();
    let error = options.clone().max_reply_bytes(199).responder(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType);
    assert!(error.to_string().contains("max_reply_bytes") && error.to_string().contains("200"), "{error}");
    let error = options.clone().max_request_bytes(99).responder(NAME).unwrap_err();
    assert!(error.to_string().contains("100"), "{error}");
    options.clone().max_request_bytes(100).max_reply_bytes(200).responder(NAME).unwrap();
    options.responder(NAME).unwrap();
}

#[test]
fn options_without_sense_are_refused() {
    let options = Options::<u64, u64>::new();
    for (options, part) in [
        (options.clone().max_callers(0), "number of callers"),
        (options.clone().max_callers(5000), "1 to 4096"),
        (options.clone().max_responders(0), "number of responders"),
        (options.clone().max_responders(257), "1 to 256"),
    ] {
        let error = options.create().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        assert!(error.to_string().contains(part), "{error}");
    }
    let error = Options::bytes().max_reply_bytes(usize::MAX).create().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    options.max_callers(1).max_responders(256).create().unwrap();
}

#[test]
fn join_with_every_place_taken_is_refused_and_says_by_whom() {
    let test_dir = TestDir::new();
    let options = Options::<u64, u64>::new().max_callers(2).max_responders(1).directory(test_dir.names());
    let callers = [(); 2].map(|()| options.caller(NAME).unwrap());
    let responder = options.responder(NAME).unwrap();
    for (error, part) in [
        (options.caller(NAME).unwrap_err(), "max_callers"),
        (responder.caller().unwrap_err(), "max_callers"),
        (options.responder(NAME).unwrap_err(), "max_responders"),
        (callers[0].responder().unwrap_err(), "max_responders"),
    ] {
        assert_eq!(error.kind(), ErrorKind::TooManyParticipants);
        let process = format!("process {}", std::process::id());
        assert!(error.to_string().contains(part) && error.to_string().contains(&process), "{error}");
    }
    assert_eq!((callers[0].responders(), responder.callers()), (1, 2));
}

#[test]
fn numbers_other_than_asked_for_are_warned_of() {
    use tombolo::Endpoint;
    let test_dir = TestDir::new();
    let options = Options::<u64, u64>::new().directory(test_dir.names());
    let caller = options.clone().max_callers(3).caller(NAME).unwrap();
    assert_eq!(caller.warnings(), [""; 0]);
    assert_eq!(options.responder(NAME).unwrap().warnings(), [""; 0]);
    let responder = options.max_callers(7).responder(NAME).unwrap();
    assert!(responder.warnings()[0].contains("callers is 3, not 7"), "{:?}", responder.warnings());
}

#[test]
fn endpoint_that_waits_for_the_first_peer_times_out_or_finds_it() {
    let test_dir = TestDir::new();
    let options = Options::<u64, u64>::new().directory(test_dir.names());
    let mut caller = options.caller(NAME).unwrap();
    assert_eq!(caller.wait_for_responder(MOMENT), Err(CallError::TimedOut { taken: false }));
    assert_eq!(caller.call_timeout(1, MOMENT), Err(CallError::TimedOut { taken: false }), "none was ever there");
    std::thread::scope(|scope| {
        let responding = scope.spawn(|| {
            std::thread::sleep(MOMENT);
            let mut responder = options.responder(NAME).unwrap();
            responder.wait_for_caller(Duration::MAX).unwrap();
            responder.recv().unwrap().reply(8).unwrap();
        });
        assert_eq!(caller.wait_for_responder(Duration::MAX), Ok(()));
        assert_eq!(caller.call(1), Ok(8));
        responding.join().unwrap();
    });
    drop(caller);
    let mut responder = options.responder(NAME).unwrap();
    assert_eq!(responder.wait_for_caller(MOMENT), Err(RecvError::TimedOut));
    assert_eq!(responder.recv_timeout(MOMENT).map(|_| ()), Err(RecvError::TimedOut), "none was ever there");
}
