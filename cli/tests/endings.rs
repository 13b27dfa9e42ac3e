//! `send` and `recv` that do not come to a good end: what the other side is told, and that nothing is left behind.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{Running, World, assert_same, noise};

const SIGPIPE: i32 = 13;

/// More than any pipe in here holds.
const LARGE: usize = 12 << 20;

/// A sender and a receiver in the middle of a transfer that does not end by itself.
fn under_way(world: &World) -> (Running, Running) {
    let mut send = world.start(&["send", "x"]);
    let recv = world.start(&["recv", "x"]);
    send.write(b"some of it");
    world.await_taken("x");
    (send, recv)
}

fn assert_transfer_works(world: &World) {
    let data = noise(2_000_003);
    let send = world.start_with(&["send", "x"], &world.file("whole", &data));
    let recv = world.run(&["recv", "x"]);
    recv.expect(0, "");
    assert_same(&recv.output, &data);
    send.end().expect(0, "");
    world.assert_no_names();
}

#[test]
fn nobody_comes() {
    let world = World::new();
    for length in [0, 1, LARGE] {
        let input = world.file("in", &noise(length));
        world.run(&["send", "x", input.to_str().unwrap(), "--timeout", "0.2"]).expect(4, "nobody came to receive");
        world.assert_no_names();
    }
    let send = world.start(&["send", "x", "--timeout", "0.2"]); // nothing to send yet, either
    send.end().expect(4, "nobody came to receive");
    world.assert_no_names();
    world.run(&["recv", "x", "--timeout", "0.2"]).expect(4, "nobody came to send");
    world.assert_no_names();
}

#[test]
fn the_other_side_comes_and_does_nothing() {
    let world = World::new();
    let send = world.start(&["send", "x"]);
    world.run(&["recv", "x", "--timeout", "0.2"]).expect(4, "nothing came");
    send.end().expect(1, "the receiver of \"x\" left before the end");
    world.assert_no_names();

    // Its output is a pipe that nobody reads.
    let mut blocked = world.command(&["recv", "x"]).spawn().unwrap();
    let input = world.file("in", &noise(LARGE));
    let send = world.run(&["send", "x", input.to_str().unwrap(), "--timeout", "0.2"]);
    send.expect(4, "the receiver took nothing");
    let mut output = Vec::new();
    blocked.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!(blocked.wait().unwrap().code(), Some(3), "a sender that gave up is not the end of the stream");
    assert!(output.len() < LARGE);
    world.assert_no_names();
}

#[test]
fn the_sender_is_killed() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    send.kill();
    let recv = recv.end();
    recv.expect(3, "the sender of \"x\" died");
    assert_eq!(recv.text(), "some of it", "what came is written");
    world.assert_no_names();
    assert_transfer_works(&world);
}

#[test]
fn the_receiver_is_killed_while_the_sender_waits_for_input() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    recv.kill();
    send.end().expect(3, "the receiver of \"x\" died");
    world.assert_no_names();
    assert_transfer_works(&world);
}

#[test]
fn the_receiver_is_killed_while_the_sender_waits_for_room_or_for_the_end() {
    for length in [LARGE, 1 << 20] {
        let world = World::new();
        let send = world.start_with(&["send", "x"], &world.file("in", &noise(length)));
        world.await_part("x", "sender");
        // Its output is a pipe that nobody reads.
        let mut recv = world.command(&["recv", "x"]).spawn().unwrap();
        world.await_taken("x");
        recv.kill().unwrap();
        recv.wait().unwrap();
        send.end().expect(3, "the receiver of \"x\" died");
        world.assert_no_names();
        assert_transfer_works(&world);
    }
}

#[test]
fn both_are_killed() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    send.kill();
    recv.kill();
    assert_transfer_works(&world);
}

#[test]
fn a_lonely_sender_is_killed() {
    let world = World::new();
    let send = world.start_with(&["send", "x"], &world.file("in", b"stale"));
    world.await_sent("x", 8);
    send.kill();
    assert_transfer_works(&world);
}

#[test]
fn the_next_transfer_may_start_before_the_last_one_noticed_its_death() {
    for _ in 0..10 {
        let world = World::new();
        let (send, recv) = under_way(&world);
        recv.kill();
        // While the old sender is still there, or just gone.
        let recv = world.start(&["recv", "x"]);
        send.end().expect(3, "died");
        let send = world.start_with(&["send", "x"], &world.file("in", b"fresh"));
        assert_eq!(recv.end().text(), "fresh");
        send.end().expect(0, "");
        world.assert_no_names();
    }
}

#[test]
fn interrupted() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let world = World::new();
        let (send, recv) = under_way(&world);
        send.signal(signal);
        send.end().expect(code, "");
        recv.end().expect(3, "broke off");
        world.assert_no_names();

        let (send, recv) = under_way(&world);
        recv.signal(signal);
        recv.end().expect(code, "");
        send.end().expect(1, "left before the end");
        world.assert_no_names();

        let (send, recv) = under_way(&world);
        recv.signal(signal);
        send.signal(signal);
        recv.end();
        send.end();
        world.assert_no_names();

        let lonely = world.start_with(&["send", "x"], &world.file("in", &noise(LARGE)));
        world.await_sent("x", 8);
        lonely.signal(signal);
        lonely.end().expect(code, "");
        world.assert_no_names();

        let lonely = world.start(&["recv", "x"]);
        world.await_part("x", "receiver");
        lonely.signal(signal);
        lonely.end().expect(code, "");
        world.assert_no_names();
    }
}

#[test]
fn interrupted_at_full_speed() {
    let world = World::new();
    for who in ["send", "recv"] {
        let send = world.start(&["send", "x", "/dev/zero"]);
        let recv = world.start(&["recv", "x", "/dev/null"]);
        world.await_taken("x");
        let (first, other) = if who == "send" { (send, recv) } else { (recv, send) };
        first.signal("INT");
        first.end().expect(130, "");
        other.end().expect(if who == "send" { 3 } else { 1 }, "before the end");
        world.assert_no_names();
    }
}

#[test]
fn the_reader_of_the_output_has_enough() {
    let world = World::new();
    let send = world.start_with(&["send", "x"], &world.file("in", &noise(LARGE)));
    let mut recv = world.command(&["recv", "x"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    recv.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
    assert_eq!(recv.wait().unwrap().signal(), Some(SIGPIPE), "like cat");
    send.end().expect(1, "left before the end");
    world.assert_no_names();
}

#[test]
fn a_second_one_is_refused() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    let second = world.run(&["send", "x", "--timeout", "5"]);
    second.expect(1, &format!("process {}", send.pid()));
    let second = world.run(&["recv", "x", "--timeout", "5"]);
    second.expect(1, &format!("process {}", recv.pid()));
    let mut send = send;
    send.close_input();
    send.end().expect(0, "");
    assert_eq!(recv.end().text(), "some of it", "the first ones are not disturbed");
    world.assert_no_names();
}

#[test]
fn the_name_is_taken_away_from_a_waiting_one() {
    let world = World::new();
    for command in ["send", "recv"] {
        let waiting = world.start(&[command, "x"]);
        world.await_part("x", if command == "send" { "sender" } else { "receiver" });
        world.run(&["rm", "x", "--force"]).expect(0, "");
        waiting.end().expect(1, "somebody removed the name \"x\"");
        world.assert_no_names();
    }
}

#[test]
fn wrong_use() {
    let world = World::new();
    let long = "n".repeat(300);
    for name in ["a/b", "", ".hidden", "new\nline", &long] {
        world.run(&["send", name]).expect(2, "cannot use this name");
        world.run(&["recv", name]).expect(2, "cannot use this name");
        world.run(&["inspect", name]).expect(2, "cannot use this name");
    }
    world.run(&["send", "x", "--capacity", "1000G"]).expect(1, "cannot make a region");
    for wrong in [&["send"][..], &["sned", "x"], &["send", "x", "--timeout", "-1"], &["send", "x", "--capacity", "9X"]]
    {
        assert_eq!(world.run(wrong).code(), 2);
    }
    world.run(&["send", "x", "/nonexistent"]).expect(1, "cannot open /nonexistent");
    world.run(&["send", "x", "/"]).expect(1, "it is a directory");
    world.run(&["recv", "x", "/nonexistent/file"]).expect(1, "cannot create /nonexistent/file");
    world.assert_no_names();
    fs::write(world.name_path("x"), "no region").unwrap();
    world.run(&["send", "x"]).expect(1, "expected a region");
    world.run(&["recv", "x"]).expect(1, "expected a region");
}

#[test]
fn help_tells_the_exit_codes() {
    let world = World::new();
    for arguments in [&["--help"][..], &["send", "--help"], &["recv", "--help"]] {
        let help = world.run(arguments);
        help.expect(0, "");
        assert!(help.text().contains("Exit codes:") && help.text().contains("Examples:"));
    }
}
