//! Transfers that succeed: what goes in comes out, whichever side starts first.

mod common;

use std::fs;

use common::{PIPE, QUEUE, TestEnv, assert_bytes_eq, count, random_bytes};

/// Empty, one byte, around the size of a queue's block and of a buffer, and more than the pipe
/// holds.
const LENGTHS: [usize; 7] = [0, 1, 4_095, 4_097, 262_143, 262_145, 9_000_001];

#[test]
fn sender_first_receiver_gets_all_bytes() {
    for transport in [PIPE, QUEUE] {
        for length in LENGTHS {
            let env = TestEnv::new();
            let data = random_bytes(length);
            let send = env.spawn_with_input(&transport.send(&[]), &env.file("in", &data));
            env.wait_for_role("x", "sender");
            let recv = env.run(&transport.recv(&[]));
            recv.assert_exit(0, "");
            assert_bytes_eq(&recv.output, &data);
            send.wait().assert_exit(0, "");
            env.assert_no_names();
        }
    }
}

#[test]
fn receiver_first_receiver_gets_all_bytes() {
    for transport in [PIPE, QUEUE] {
        for length in LENGTHS {
            let env = TestEnv::new();
            let data = random_bytes(length);
            let recv = env.spawn(&transport.recv(&["-"]));
            env.wait_for_role("x", "receiver");
            let input = env.file("in", &data);
            env.run(&transport.send(&[input.to_str().unwrap()])).assert_exit(0, "");
            let recv = recv.wait();
            recv.assert_exit(0, "");
            assert_bytes_eq(&recv.output, &data);
            env.assert_no_names();
        }
    }
}

#[test]
fn pipe_of_128_bytes_both_start_at_once_transfers_all_bytes() {
    let env = TestEnv::new();
    let data = random_bytes(100_001);
    let input = env.file("in", &data);
    let output = env.path("out");
    let recv = env.spawn(&["recv", "x", output.to_str().unwrap(), "--capacity", "128"]);
    let send = env.spawn(&["send", "x", input.to_str().unwrap(), "--capacity", "128"]);
    send.wait().assert_exit(0, "");
    recv.wait().assert_exit(0, "");
    assert_bytes_eq(&fs::read(output).unwrap(), &data);
    env.assert_no_names();
}

#[test]
fn pipe_name_used_again_transfers_stay_separate() {
    let env = TestEnv::new();
    for round in 0..10_u8 {
        let data = vec![round; 1000 * usize::from(round)];
        let recv = env.spawn(&["recv", "x"]);
        let send = env.spawn_with_input(&["send", "x"], &env.file("in", &data));
        send.wait().assert_exit(0, "");
        assert_bytes_eq(&recv.wait().output, &data);
    }
    env.assert_no_names();
}

#[test]
fn directory_option_both_sides_meet_there() {
    let env = TestEnv::new();
    let other_env = TestEnv::new();
    let directory = other_env.name_path("names");
    let directory = directory.to_str().unwrap();
    let send = env.spawn_with_input(&["send", "x", "--dir", directory], &env.file("in", b"hello"));
    let recv = env.run(&["--dir", directory, "recv", "x"]);
    assert_eq!(recv.text(), "hello");
    send.wait().assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn pipe_slow_input_each_write_arrives_as_a_message() {
    let env = TestEnv::new();
    let mut send = env.spawn(&["send", "x"]);
    let recv = env.spawn(&["recv", "x", "--lines"]);
    for (write, sent) in [(b"one", 8), (b"two", 24)] {
        send.write(write);
        env.wait_for_state("x", |region| count(region, "sent") >= sent);
    }
    send.finish();
    assert_eq!(recv.wait().text(), "one\ntwo\n");
}

#[test]
fn lines_option_on_both_sides_keeps_all_bytes() {
    let through_lines = |input: &[u8]| {
        let env = TestEnv::new();
        let send = env.spawn_with_input(&["send", "x", "--lines", "--capacity", "64K"], &env.file("in", input));
        let recv = env.run(&["recv", "x", "--lines"]);
        recv.assert_exit(0, "");
        send.wait().assert_exit(0, "");
        env.assert_no_names();
        recv.output
    };
    let many: Vec<u8> = (0..100_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
    // Longer than the pipe, and than one read.
    let long = [&vec![b'x'; 3_000_000][..], b"\nshort\n"].concat();
    for input in [b"", &b"\n"[..], b"\n\n\nsome\n\nmore\r\n", b"binary \0\xff\xfe\nrest\n", &many, &long] {
        assert_bytes_eq(&through_lines(input), input);
    }
    assert_bytes_eq(&through_lines(b"no newline"), b"no newline\n");
    assert_bytes_eq(&through_lines(b"binary \0\xff\xfe\nrest"), b"binary \0\xff\xfe\nrest\n");
}

#[test]
fn lines_option_sends_each_line_as_a_message_without_newline() {
    let env = TestEnv::new();
    let send = env.spawn_with_input(&["send", "x", "--lines"], &env.file("in", b"a\nb\n\nc"));
    let recv = env.run(&["recv", "x"]);
    assert_eq!(recv.text(), "abc");
    send.wait().assert_exit(0, "");
}
