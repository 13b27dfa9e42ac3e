//! `send` and `recv`: what goes in comes out, whoever starts first.

mod common;

use std::fs;

use common::{World, assert_same, noise};

/// Empty, one byte, odd, about the size of a buffer, and larger than the pipe.
const LENGTHS: [usize; 6] = [0, 1, 4_097, 262_143, 262_145, 9_000_001];

#[test]
fn sender_first() {
    for length in LENGTHS {
        let world = World::new();
        let data = noise(length);
        let send = world.start_with(&["send", "x"], &world.file("in", &data));
        world.await_part("x", "sender");
        let recv = world.run(&["recv", "x"]);
        recv.expect(0, "");
        assert_same(&recv.output, &data);
        send.end().expect(0, "");
        world.assert_no_names();
    }
}

#[test]
fn receiver_first() {
    for length in LENGTHS {
        let world = World::new();
        let data = noise(length);
        let recv = world.start(&["recv", "x", "-"]);
        world.await_part("x", "receiver");
        world.run(&["send", "x", world.file("in", &data).to_str().unwrap()]).expect(0, "");
        let recv = recv.end();
        recv.expect(0, "");
        assert_same(&recv.output, &data);
        world.assert_no_names();
    }
}

#[test]
fn both_at_once_into_a_file_through_a_tiny_pipe() {
    let world = World::new();
    let data = noise(100_001);
    let input = world.file("in", &data);
    let output = world.path("out");
    let recv = world.start(&["recv", "x", output.to_str().unwrap(), "--capacity", "128"]);
    let send = world.start(&["send", "x", input.to_str().unwrap(), "--capacity", "128"]);
    send.end().expect(0, "");
    recv.end().expect(0, "");
    assert_same(&fs::read(output).unwrap(), &data);
    world.assert_no_names();
}

#[test]
fn one_transfer_after_the_other_under_one_name() {
    let world = World::new();
    for round in 0..10_u8 {
        let data = vec![round; 1000 * usize::from(round)];
        let recv = world.start(&["recv", "x"]);
        let send = world.start_with(&["send", "x"], &world.file("in", &data));
        send.end().expect(0, "");
        assert_same(&recv.end().output, &data);
    }
    world.assert_no_names();
}

#[test]
fn another_directory() {
    let world = World::new();
    let elsewhere = World::new();
    let directory = elsewhere.name_path("names");
    let directory = directory.to_str().unwrap();
    let send = world.start_with(&["send", "x", "--dir", directory], &world.file("in", b"hello"));
    let recv = world.run(&["--dir", directory, "recv", "x"]);
    assert_eq!(recv.text(), "hello");
    send.end().expect(0, "");
    world.assert_no_names();
}

#[test]
fn what_is_written_slowly_arrives_at_once() {
    let world = World::new();
    let mut send = world.start(&["send", "x"]);
    let recv = world.start(&["recv", "x", "--lines"]);
    send.write(b"one");
    world.await_sent("x", 8);
    send.write(b"two");
    world.await_sent("x", 24);
    send.close_input();
    send.end().expect(0, "");
    assert_eq!(recv.end().text(), "one\ntwo\n", "each write is a message");
}

fn through_lines(input: &[u8]) -> Vec<u8> {
    let world = World::new();
    let send = world.start_with(&["send", "x", "--lines", "--capacity", "64K"], &world.file("in", input));
    let recv = world.run(&["recv", "x", "--lines"]);
    recv.expect(0, "");
    send.end().expect(0, "");
    world.assert_no_names();
    recv.output
}

#[test]
fn lines() {
    assert_same(&through_lines(b""), b"");
    assert_same(&through_lines(b"\n"), b"\n");
    assert_same(&through_lines(b"\n\n\nsome\n\nmore\r\n"), b"\n\n\nsome\n\nmore\r\n");
    assert_same(&through_lines(b"no newline"), b"no newline\n");
    assert_same(&through_lines(b"binary \0\xff\xfe\nrest"), b"binary \0\xff\xfe\nrest\n");
    let many: Vec<u8> = (0..100_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    assert_same(&through_lines(&many), &many);
    // Longer than the pipe, and than what is read at once.
    let mut long = vec![b'x'; 3_000_000];
    long.extend(b"\nshort\n");
    assert_same(&through_lines(&long), &long);
}

#[test]
fn lines_are_messages() {
    let world = World::new();
    let send = world.start_with(&["send", "x", "--lines"], &world.file("in", b"a\nb\n\nc"));
    let recv = world.run(&["recv", "x"]);
    assert_eq!(recv.text(), "abc");
    send.end().expect(0, "");
}
