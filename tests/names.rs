//! Pipes found by name: who may open them, what is taken over from the dead, and what is left behind (nothing).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use support::{Board, Process, Random, Sandbox, command, message, number_of, parts, start};
use tombolo::{
    Abandoned, DIRECTORY_VARIABLE, Directory, End, ErrorKind, Pipe, PipeOptions, RecvError, SendError, Standing,
};

parts!(
    send_three_and_stay,
    receive_one_and_stay,
    stay_as_an_end,
    race_as_receiver,
    open_by_variable,
    open_by_default,
    chatter_as_sender,
    chatter_as_receiver,
);

const NAME: &str = "name";

fn values(sandbox: &Sandbox) -> PipeOptions<u64> {
    PipeOptions::values().directory(sandbox.names())
}

/// Options and board of a part that was started by [`start_in`].
fn surroundings(arguments: &[String]) -> (PipeOptions<u64>, Board) {
    (PipeOptions::values().directory(&arguments[0]), Board::at(Path::new(&arguments[1])))
}

/// Starts `part` and waits until it says that it is there.
fn start_in(sandbox: &Sandbox, part: &str) -> Process {
    let process = start(part, &[sandbox.names().to_str().unwrap(), sandbox.file("board").to_str().unwrap()]);
    board(sandbox).meet(0, 2);
    process
}

fn board(sandbox: &Sandbox) -> Board {
    Board::at(&sandbox.file("board"))
}

fn stay(board: &Board) {
    board.meet(0, 2);
    loop {
        std::thread::park();
    }
}

fn send_three_and_stay(arguments: &[String]) {
    let (options, board) = surroundings(arguments);
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    stay(&board);
}

fn receive_one_and_stay(arguments: &[String]) {
    let (options, board) = surroundings(arguments);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    stay(&board);
}

fn stay_as_an_end(arguments: &[String]) {
    let (options, board) = surroundings(arguments);
    let _end = options.end(NAME).unwrap();
    stay(&board);
}

#[test]
fn a_name_is_made_opened_and_gone_when_both_have_left() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    assert_eq!(options.clone().open_existing().sender(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    let mut tx = options.clone().create_new().sender(NAME).unwrap();
    assert_eq!(options.clone().create_new().receiver(NAME).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let mut rx = options.clone().open_existing().receiver(NAME).unwrap();
    assert_eq!((tx.name(), rx.name()), (Some(NAME), Some(NAME)));
    tx.send(&1).unwrap();
    drop(tx);
    assert_eq!(sandbox.litter(), [NAME], "the receiver is still there");
    assert_eq!(rx.recv(), Ok(1));
    drop(rx);
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn what_waits_for_a_receiver_keeps_the_name() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    options.sender(NAME).unwrap().send(&1).unwrap();
    assert_eq!(sandbox.litter(), [NAME]);
    let mut rx = options.receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(1), Err(RecvError::Closed)));
    drop(rx);
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn a_seat_is_free_again_as_soon_as_its_holder_has_left() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 0..3 {
        let mut tx = options.sender(NAME).unwrap();
        tx.send(&number).unwrap();
        drop(tx);
        assert_eq!((rx.recv(), rx.recv()), (Ok(number), Err(RecvError::Closed)));
    }
    let mut tx = options.sender(NAME).unwrap();
    for number in 0..3 {
        drop(rx);
        assert_eq!(tx.send(&number), Err(SendError::Closed));
        rx = options.receiver(NAME).unwrap();
        tx.send(&number).unwrap();
        assert_eq!(rx.recv(), Ok(number));
    }
}

#[test]
fn two_who_race_for_a_name_meet_in_one_region() {
    let sandbox = Sandbox::new();
    let (options, board) = (values(&sandbox), board(&sandbox));
    let other = start_in(&sandbox, "race_as_receiver");
    for round in 0..RACES {
        board.meet(1, 2);
        let mut tx = options.sender(&format!("race-{round}")).unwrap();
        tx.send(&round).unwrap();
        board.meet(2, 2);
        spin(round % 20);
        drop(tx); // while the receiver does the same
        board.meet(3, 2);
        assert_eq!(sandbox.litter(), [""; 0], "in round {round}");
    }
    other.finish();
}

const RACES: u64 = 1000;

/// Takes a few microseconds, so that the two are now and then at every point of their ways at the same time.
fn spin(microseconds: u64) {
    let started = Instant::now();
    while started.elapsed() < Duration::from_micros(microseconds) {}
}

fn race_as_receiver(arguments: &[String]) {
    let (options, board) = surroundings(arguments);
    board.meet(0, 2);
    for round in 0..RACES {
        board.meet(1, 2);
        let mut rx = options.receiver(&format!("race-{round}")).unwrap();
        assert_eq!(rx.recv(), Ok(round));
        board.meet(2, 2);
        spin(round % 21);
        drop(rx);
        board.meet(3, 2);
    }
}

#[test]
fn names_that_cannot_be() {
    let sandbox = Sandbox::new();
    let long = "x".repeat(201);
    for name in ["", "a/b", "/", "..", ".", ".x", "a\nb", "nul\0", &long] {
        let error = values(&sandbox).sender(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{name:?}");
        assert!(error.to_string().contains("choose another name"), "{error}");
    }
    for name in ["x", &long[1..], "a b", "ümläut", "-", "a..b"] {
        values(&sandbox).create_new().sender(name).unwrap();
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn a_part_that_is_played_is_refused_and_by_whom_is_said() {
    let sandbox = Sandbox::new();
    let other = start_in(&sandbox, "send_three_and_stay");
    let pid = other.pid() as u64;
    let error = values(&sandbox).sender(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SeatTaken { pid });
    assert!(error.to_string().contains(&pid.to_string()), "{error}");
    let error = Directory::at(sandbox.names()).unlink(NAME, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse { pid });
    other.signal(libc::SIGSTOP);
    let error = values(&sandbox).sender(NAME).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SeatTaken { pid }, "who is stopped is not dead");
}

#[test]
fn both_ends_of_a_duplex_name_can_be_taken_once() {
    let sandbox = Sandbox::new();
    let _other = start_in(&sandbox, "stay_as_an_end");
    let ours: Pipe<u64> = values(&sandbox).end(NAME).unwrap();
    let pid = u64::from(std::process::id());
    assert_eq!(values(&sandbox).end(NAME).unwrap_err().kind(), ErrorKind::SeatTaken { pid });
    drop(ours);
}

#[test]
fn a_dead_senders_messages_are_delivered_and_its_part_taken_over() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_three_and_stay").kill();
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    tx.send(&4).unwrap();
    assert_eq!((rx.recv(), rx.recv()), (Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied), "between the messages of the two");
    assert_eq!(rx.recv(), Ok(4));
}

#[test]
fn a_successor_may_come_before_any_receiver() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_three_and_stay").kill();
    let mut tx = values(&sandbox).sender(NAME).unwrap();
    tx.send(&4).unwrap();
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(rx.recv(), Err(RecvError::PeerDied));
    assert_eq!(rx.recv(), Ok(4));
}

#[test]
fn a_dead_receivers_part_is_taken_over_with_what_it_had_not_received() {
    let sandbox = Sandbox::new();
    let mut tx = values(&sandbox).capacity(4).sender(NAME).unwrap();
    assert_eq!(tx.send_many(&[1, 2, 3]), Ok(3));
    start_in(&sandbox, "receive_one_and_stay").kill();
    assert_eq!((tx.send(&4), tx.send(&5)), (Ok(()), Ok(())));
    assert_eq!(tx.send(&6), Err(SendError::PeerDied));
    let mut rx = values(&sandbox).receiver(NAME).unwrap();
    assert_eq!(rx.iter().take(4).collect::<Vec<_>>(), [2, 3, 4, 5]);
    tx.send(&6).unwrap();
    assert_eq!(rx.recv(), Ok(6));
}

#[test]
fn each_sender_that_dies_is_heard_of_even_if_its_coming_was_polled_for() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 1..=3 {
        let mut tx = options.sender(NAME).unwrap();
        assert_eq!(rx.poll(Duration::ZERO), Ok(false), "the end of the one before has been heard of");
        tx.send(&number).unwrap();
        drop(tx.into_fd().unwrap()); // a descriptor that nobody picks up is a death
        let mut successor = options.sender(NAME).unwrap();
        successor.send(&(10 * number)).unwrap();
        assert_eq!(rx.recv(), Ok(number));
        assert_eq!(rx.recv(), Err(RecvError::PeerDied));
        assert_eq!(rx.recv(), Ok(10 * number));
        drop(successor);
        assert_eq!(rx.recv(), Err(RecvError::Closed));
    }
}

#[test]
fn what_many_senders_left_behind_is_received_in_order() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    let mut rx = options.receiver(NAME).unwrap();
    for number in 0..5 {
        let mut tx = options.sender(NAME).unwrap();
        tx.send(&number).unwrap();
        drop(tx.into_fd().unwrap());
    }
    // Of those who came and went unseen between two looks, at least the last is heard of.
    let mut received = Vec::new();
    let mut ends = 0;
    while ends == 0 || received.len() < 5 {
        match rx.recv() {
            Ok(number) => received.push(number),
            Err(RecvError::PeerDied) => ends += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(received, [0, 1, 2, 3, 4]);
}

#[test]
fn an_abandoned_region_is_resumed_or_replaced() {
    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_three_and_stay").kill();
    let inspection = Directory::at(sandbox.names()).inspect(NAME).unwrap();
    assert!(inspection.is_abandoned());
    assert_eq!(inspection.participants[0].standing, Standing::Dead);
    drop(values(&sandbox).abandoned(Abandoned::Resume).sender(NAME).unwrap());
    let mut rx = values(&sandbox).abandoned(Abandoned::Resume).receiver(NAME).unwrap();
    assert_eq!((rx.recv(), rx.recv(), rx.recv()), (Ok(1), Ok(2), Ok(3)));
    drop(rx);

    let sandbox = Sandbox::new();
    start_in(&sandbox, "send_three_and_stay").kill();
    let options = values(&sandbox).abandoned(Abandoned::Replace);
    let mut rx = options.receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap(); // not abandoned: the receiver is here
    tx.send(&9).unwrap();
    assert_eq!(rx.recv(), Ok(9));
}

#[test]
fn a_live_region_is_never_replaced() {
    let sandbox = Sandbox::new();
    let _other = start_in(&sandbox, "send_three_and_stay");
    let mut rx = values(&sandbox).abandoned(Abandoned::Replace).receiver(NAME).unwrap();
    assert_eq!(rx.recv(), Ok(1));
    assert!(!Directory::at(sandbox.names()).unlink_if_abandoned(NAME).unwrap());
}

#[test]
fn removed_by_force_a_name_is_free_and_its_users_go_on() {
    let sandbox = Sandbox::new();
    let options = values(&sandbox);
    let (mut old_tx, mut old_rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    Directory::at(sandbox.names()).unlink(NAME, true).unwrap();
    let (mut tx, mut rx) = (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap());
    old_tx.send(&1).unwrap();
    tx.send(&2).unwrap();
    assert_eq!((old_rx.recv(), rx.recv()), (Ok(1), Ok(2)));
    drop((old_tx, old_rx));
    assert_eq!(sandbox.litter(), [NAME], "the new region has the name now");
}

#[test]
fn files_and_directories_are_private_unless_told_otherwise() {
    let sandbox = Sandbox::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let _private = values(&sandbox).sender("private").unwrap();
    let _shared = values(&sandbox).mode(0o664).sender("shared").unwrap();
    assert_eq!(mode(&sandbox.names()), 0o700);
    assert_eq!(mode(&sandbox.names().join("private")), 0o600);
    assert_eq!(mode(&sandbox.names().join("shared")), 0o664, "whatever the umask");
}

#[test]
fn the_directory_is_taken_from_the_environment() {
    let sandbox = Sandbox::new();
    let place = sandbox.file("elsewhere");
    let mut started = command("open_by_variable", &[place.to_str().unwrap()]);
    Process::from(started.env(DIRECTORY_VARIABLE, &place).spawn().unwrap()).finish();
    assert!(place.is_dir());
    let mut started = command("open_by_default", &[]);
    Process::from(started.env_remove(DIRECTORY_VARIABLE).spawn().unwrap()).finish();
    Process::from(started.env(DIRECTORY_VARIABLE, "").spawn().unwrap()).finish();
}

fn open_by_variable(arguments: &[String]) {
    let directory = Directory::default();
    assert_eq!(directory.path(), Path::new(&arguments[0]));
    let _tx = PipeOptions::bytes().sender(NAME).unwrap();
    assert_eq!(directory.names().unwrap(), [NAME]);
}

fn open_by_default(_: &[String]) {
    // SAFETY: it has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(Directory::default().path(), Path::new(&format!("/dev/shm/tombolo-{user}")));
}

#[test]
fn after_any_number_of_kills_the_next_run_just_works() {
    let sandbox = Sandbox::new();
    let arguments = [&sandbox.names(), &sandbox.file("board")].map(|path| path.to_str().unwrap().to_string());
    let arguments = arguments.each_ref().map(String::as_str);
    let mut random = Random(20);
    for _ in 0..20 {
        let sender = start("chatter_as_sender", &arguments);
        let receiver = start("chatter_as_receiver", &arguments);
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        sender.kill();
        std::thread::sleep(Duration::from_micros(random.below(2_000)));
        receiver.kill();
    }
    let options = PipeOptions::bytes().capacity_len(1024).directory(sandbox.names());
    let mut rx = options.receiver(NAME).unwrap();
    let mut tx = options.sender(NAME).unwrap();
    let mut received = Vec::new();
    // What the last ones left may fill the ring.
    loop {
        match rx.try_recv(&mut received) {
            Err(RecvError::Empty) => break,
            Ok(_) | Err(RecvError::PeerDied | RecvError::Lost) => {}
            Err(error) => panic!("{error}"),
        }
    }
    tx.send(&message(u64::MAX, 500)).unwrap();
    assert_eq!(rx.recv(&mut received), Ok(500));
    assert_eq!(number_of(&received), u64::MAX);
    drop((tx, rx));
    assert_eq!(sandbox.litter(), [""; 0]);
}

fn chatter_as_sender(arguments: &[String]) {
    let options = PipeOptions::bytes().capacity_len(1024).directory(&arguments[0]);
    let mut tx = options.sender(NAME).unwrap();
    for number in 0.. {
        match tx.send(&message(number, 8 + (number * 61 % 1500) as usize)) {
            Ok(()) | Err(SendError::PeerDied) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn chatter_as_receiver(arguments: &[String]) {
    let options = PipeOptions::bytes().capacity_len(1024).directory(&arguments[0]);
    let mut rx = options.receiver(NAME).unwrap();
    let mut received = Vec::new();
    let mut expected = None;
    loop {
        match rx.recv(&mut received) {
            Ok(_) => {
                let number = number_of(&received);
                // The next sender begins anew, and two who died before anybody looked are told apart by that only.
                assert!(
                    expected.is_none_or(|expected| number == expected || number == 0),
                    "{number} is not {expected:?}"
                );
                expected = Some(number + 1);
            }
            // The one before may have been killed in the middle of a message that streams through the ring.
            Err(RecvError::PeerDied | RecvError::Lost) => expected = None,
            Err(error) => panic!("{error}"),
        }
    }
}
