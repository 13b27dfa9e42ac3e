//! Signals that the caller of the command wants ignored, and those that ask it to leave.

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Running, World};

/// With these signals ignored, as `nohup` does.
fn ignoring(world: &World, signals: &str, arguments: &str) -> Running {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' {signals}; exec \"$TOMBOLO\" {arguments}")]);
    command.env("TOMBOLO_DIR", world.names()).env("TOMBOLO", env!("CARGO_BIN_EXE_tombolo"));
    Running::new(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()))
}

#[test]
fn an_ignored_signal_stays_ignored() {
    for signal in ["INT", "TERM", "HUP"] {
        let world = World::new();
        let recv = ignoring(&world, signal, "recv x");
        let mut send = ignoring(&world, signal, "send x");
        send.write(b"before, ");
        world.await_taken("x");
        recv.signal(signal);
        send.signal(signal);
        thread::sleep(Duration::from_millis(200)); // several looks at the signals
        send.write(b"after");
        send.close_input();
        send.end().expect(0, "");
        let recv = recv.end();
        recv.expect(0, "");
        assert_eq!(recv.text(), "before, after");
        world.assert_no_names();
    }
}

#[test]
fn one_that_loses_its_terminal_leaves_properly() {
    let world = World::new();
    let mut send = world.start(&["send", "x"]);
    let recv = world.start(&["recv", "x"]);
    send.write(b"some of it");
    world.await_taken("x");
    send.signal("HUP");
    send.end().expect(129, "");
    recv.end().expect(3, "broke off");
    world.assert_no_names();
}
