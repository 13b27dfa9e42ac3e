//! A process that is stopped again and again while it leaves: what it finds out does not depend on
//! how long that takes.

mod support;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use support::{Board, Sandbox, parts, start, until};
use tombolo::{PipeOptions, QueueOptions};

parts!(send_and_stay, leave);

const NAME: &str = "name";
const ROUNDS: u64 = 20;

/// Words of the board.
const IS_THERE: usize = 0;
const MAY_LEAVE: usize = 1;
const HAS_LEFT: usize = 2;

fn send_and_stay(arguments: &[String]) {
    let (names, board) = (Path::new(&arguments[0]), Board::at(Path::new(&arguments[1])));
    let pipe = PipeOptions::values::<u64>().directory(names).sender(NAME).unwrap();
    let queue = QueueOptions::values::<u64>().directory(names).sender("queue").unwrap();
    board.meet(IS_THERE, 3);
    thread::sleep(Duration::from_secs(600));
    drop((pipe, queue));
}

fn leave(arguments: &[String]) {
    let (names, board) = (Path::new(&arguments[0]), Board::at(Path::new(&arguments[1])));
    let pipe = PipeOptions::values::<u64>().directory(names).receiver(NAME).unwrap();
    let queue = QueueOptions::values::<u64>().directory(names).receiver("queue").unwrap();
    board.meet(IS_THERE, 3);
    until(|| board.word(MAY_LEAVE).load(Ordering::SeqCst) == 1);
    drop((pipe, queue));
    board.word(HAS_LEFT).store(1, Ordering::SeqCst);
}

#[test]
fn names_go_with_the_last_one_though_it_pauses_while_it_leaves() {
    for _ in 0..ROUNDS {
        let sandbox = Sandbox::new();
        let (names, board) = (sandbox.names(), sandbox.file("board"));
        let arguments = [names.to_str().unwrap(), board.to_str().unwrap()];
        let board = Board::at(&board);
        let sender = start("send_and_stay", &arguments);
        let receiver = start("leave", &arguments);
        board.meet(IS_THERE, 3);
        sender.kill();
        board.word(MAY_LEAVE).store(1, Ordering::SeqCst);
        while board.word(HAS_LEFT).load(Ordering::SeqCst) == 0 {
            receiver.signal(libc::SIGSTOP);
            thread::sleep(Duration::from_millis(2));
            receiver.signal(libc::SIGCONT);
            thread::sleep(Duration::from_micros(20));
        }
        receiver.finish();
        assert_eq!(sandbox.litter(), [""; 0], "a name has stayed");
    }
}
