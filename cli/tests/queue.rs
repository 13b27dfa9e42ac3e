//! `send` and `recv` through queues: every message arrives once, in whatever order who comes and goes, and the ends are told.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{Ended, Running, World, assert_same, noise};
use serde_json::{Value, json};

const SIGPIPE: i32 = 13;

/// More than any queue in here holds.
const LARGE: usize = 12 << 20;

const SEND: [&str; 4] = ["send", "--queue", "q", "--lines"];
const RECV: [&str; 4] = ["recv", "--queue", "q", "--lines"];

fn with<'a>(arguments: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [arguments, more].concat()
}

/// Lines that are told apart by their first words: `sender` and a number. Some do not fit a slot, some no block.
fn lines(sender: usize, numbers: std::ops::Range<usize>) -> String {
    let filler = |number: usize| match number % 100 {
        7 => "-".repeat(1000),
        77 => "=".repeat(10_000),
        _ => String::new(),
    };
    numbers.map(|number| format!("{sender} {number} {}\n", filler(number))).collect()
}

/// The lines' first words, in order.
fn numbers(output: &str) -> Vec<(usize, usize)> {
    let number = |words: &[&str], at: usize| -> usize { words[at].parse().unwrap() };
    let words = output.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|words| (number(&words, 0), number(&words, 1))).collect()
}

/// Every line came to one of the receivers, whole, and no sender's were turned round on the way to any of them.
fn assert_all_once(outputs: &[&str], senders: usize, each: usize) {
    let mut all = BTreeMap::new();
    for output in outputs {
        let mut last = BTreeMap::new();
        for (line, (sender, number)) in output.lines().zip(numbers(output)) {
            assert!(last.insert(sender, number) < Some(number), "{sender}'s {number} came late");
            assert!(all.insert((sender, number), line).is_none(), "{sender}'s {number} came twice");
        }
    }
    let expected: Vec<String> = (0..senders).map(|sender| lines(sender, 0..each)).collect();
    let found: String = all.values().map(|line| format!("{line}\n")).collect();
    assert_same(found.as_bytes(), expected.concat().as_bytes());
}

/// A sender and a receiver in the middle of a transfer that does not end by itself.
fn under_way(world: &World) -> (Running, Running) {
    let mut send = world.start(&SEND);
    let recv = world.start(&RECV);
    world.await_part("q", "sender");
    send.write(b"some of it\n");
    world.await_state("q", |region| count(region, "sent") == 1 && count(region, "queued") == 0);
    (send, recv)
}

fn count(region: &Value, what: &str) -> u64 {
    region["directions"][0][what].as_u64().unwrap()
}

fn assert_transfer_works(world: &World) {
    let data = noise(1_000_003);
    let send = world.start_with(&["send", "--queue", "q"], &world.file("whole", &data));
    let recv = world.run(&["recv", "--queue", "q"]);
    recv.expect(0, "");
    assert_same(&recv.output, &data);
    send.end().expect(0, "");
    world.assert_no_names();
}

#[test]
fn three_senders_and_two_receivers_in_any_order() {
    const EACH: usize = 500;
    for order in ["rrsss", "sssrr", "srsrs", "rsssr"] {
        for capacity in ["2", "1K"] {
            let world = World::new();
            let (mut senders, mut receivers) = (Vec::new(), Vec::new());
            for who in order.chars() {
                if who == 's' {
                    senders.push(world.start(&with(&SEND, &["--capacity", capacity])));
                    world.await_parts("q", "sender", senders.len());
                } else {
                    receivers.push(world.start(&with(&RECV, &["--capacity", capacity])));
                    world.await_parts("q", "receiver", receivers.len());
                }
            }
            for (number, sender) in senders.iter_mut().enumerate() {
                sender.write(lines(number, 0..EACH).as_bytes());
                sender.close_input();
            }
            senders.into_iter().for_each(|sender| sender.end().expect(0, ""));
            let ended: Vec<Ended> = receivers.into_iter().map(Running::end).collect();
            ended.iter().for_each(|receiver| receiver.expect(0, ""));
            assert_all_once(&[ended[0].text(), ended[1].text()], 3, EACH);
            world.assert_no_names();
        }
    }
}

#[test]
fn a_file_through_one_sender_and_one_receiver_stays_whole() {
    for length in [0, 1, 4_095, 4_097, 9_000_001] {
        let world = World::new();
        let data = noise(length);
        let send = world.start_with(&["send", "--queue", "q"], &world.file("in", &data));
        world.await_part("q", "sender");
        let recv = world.run(&["recv", "--queue", "q"]);
        recv.expect(0, "");
        assert_same(&recv.output, &data);
        send.end().expect(0, "");
        world.assert_no_names();

        let (input, output) = (world.path("in"), world.path("out"));
        let recv = world.start(&["recv", "--queue", "q", output.to_str().unwrap()]);
        world.await_part("q", "receiver");
        world.run(&["send", "--queue", "q", input.to_str().unwrap()]).expect(0, "");
        recv.end().expect(0, "");
        assert_same(&fs::read(output).unwrap(), &data);
        world.assert_no_names();
    }
}

#[test]
fn one_transfer_after_the_other_under_one_name() {
    let world = World::new();
    for round in 0..10 {
        let recv = world.start(&RECV);
        let send = world.start_with(&SEND, &world.file("in", lines(0, 0..round).as_bytes()));
        send.end().expect(0, "");
        let next = world.start_with(&SEND, &world.file("next", b"next\n"));
        let recv = recv.end();
        recv.expect(0, "");
        // It may have been on its way out, or have met the next sender.
        if !recv.text().ends_with("next\n") {
            assert_eq!(recv.text(), lines(0, 0..round));
            assert_eq!(world.run(&RECV).text(), "next\n");
        }
        next.end().expect(0, "");
        world.assert_no_names();
    }
}

#[test]
fn a_sender_that_is_done_waits_for_receivers_of_its_own_messages_only() {
    let world = World::new();
    let busy = world.start_with(&["send", "--queue", "q"], Path::new("/dev/zero"));
    world.await_state("q", |region| count(region, "queued") > 0);
    let done = world.start_with(&SEND, &world.file("in", lines(0, 0..10).as_bytes()));
    world.await_parts("q", "sender", 2);
    let recv = world.start(&["recv", "--queue", "q", "/dev/null"]);
    done.end().expect(0, "");
    busy.signal("INT");
    busy.end().expect(130, "");
    recv.end().expect(3, "the last sender of \"q\" died, or broke off");
    world.assert_no_names();
}

/// Its sender leaves while the receiver is about to look whether it came in time. That it came too late, and has to wait
/// for another sender, showed in three of a hundred rounds.
#[test]
fn an_empty_stream_has_an_end_for_the_receiver_that_it_waited_for() {
    let world = World::new();
    for _ in 0..100 {
        let send = world.start_with(&["send", "--queue", "q"], Path::new("/dev/null"));
        world.await_that("the sender has come", || world.name_path("q").exists());
        let recv = world.run(&["recv", "--queue", "q", "--timeout", "20"]);
        recv.expect(0, "");
        assert!(recv.output.is_empty());
        send.end().expect(0, "");
        world.assert_no_names();
    }
}

#[test]
fn one_of_the_receivers_is_killed() {
    const BEFORE: usize = 500;
    const ALL: usize = 1000;
    let world = World::new();
    let outputs = [world.path("victim"), world.path("other")];
    let mut send = world.start(&SEND);
    let receivers =
        outputs.each_ref().map(|output| world.start(&with(&RECV, &["--in-place", output.to_str().unwrap()])));
    world.await_parts("q", "receiver", 2);
    send.write(lines(0, 0..BEFORE).as_bytes());
    let read = || outputs.each_ref().map(|output| fs::read_to_string(output).unwrap());
    world.await_state("q", |_| read().concat().matches('\n').count() == BEFORE); // none is on its way to a file
    let [victim, other] = receivers;
    victim.kill();
    send.write(lines(0, BEFORE..ALL).as_bytes());
    send.close_input();
    send.end().expect(0, "");
    other.end().expect(0, "");
    let [victim, other] = read();
    assert_all_once(&[&victim, &other], 1, ALL);
    world.assert_no_names();
}

/// Of receivers that are killed while they are busy, some die between taking a message and having it.
#[test]
fn what_dies_with_a_receiver_is_counted() {
    let world = World::new();
    let send = world.start_with(&["send", "--queue", "q"], Path::new("/dev/zero"));
    let recv = world.start(&["recv", "--queue", "q", "/dev/null"]);
    world.await_part("q", "receiver");
    let started = Instant::now();
    for kills in 1.. {
        let victim = world.start(&["recv", "--queue", "q", "/dev/null"]);
        world.await_parts("q", "receiver", 2);
        victim.kill();
        world.await_state("q", |region| region["queue"]["lanes_used"] == 2); // those who live put it right
        let lost = world.json(&["inspect", "q", "--json"])["queue"]["lost"].as_u64().unwrap();
        assert!(lost <= kills);
        if lost > 0 {
            let listed = world.run(&["ls"]);
            assert!(listed.text().contains(&format!("{lost} lost")), "{}", listed.text());
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "nothing was lost in {kills} kills");
    }
    send.signal("TERM");
    send.end().expect(143, "");
    recv.end().expect(3, "");
    world.assert_no_names();
}

#[test]
fn the_only_sender_is_killed() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    send.kill();
    let recv = recv.end();
    recv.expect(3, "the last sender of \"q\" died");
    assert_eq!(recv.text(), "some of it\n", "what came is written");
    world.assert_no_names();
    assert_transfer_works(&world);
}

#[test]
fn one_of_the_senders_is_killed_or_breaks_off() {
    for signal in ["KILL", "INT"] {
        let world = World::new();
        let (mut send, recv) = under_way(&world);
        let other = world.start(&SEND);
        world.await_parts("q", "sender", 2);
        other.signal(signal);
        let ended = other.end();
        assert!(ended.code() == 130 || ended.status.signal() == Some(9), "{ended:?}");
        world.await_state("q", |region| region["queue"]["lanes_used"] == 2);
        send.write(b"and the rest\n");
        send.close_input();
        send.end().expect(0, "");
        let recv = recv.end();
        recv.expect(0, "");
        assert_eq!(recv.text(), "some of it\nand the rest\n");
        world.assert_no_names();
    }
}

#[test]
fn the_last_receiver_is_killed() {
    for length in [0, LARGE] {
        let world = World::new();
        let mut send = world.start(&["send", "--queue", "q"]);
        let feeder = world.file("in", &noise(length));
        let full = (length > 0).then(|| world.start_with(&["send", "--queue", "q"], &feeder));
        // Its output is a pipe that nobody reads.
        let mut recv = world.command(&["recv", "--queue", "q"]).spawn().unwrap();
        world.await_parts("q", "receiver", 1);
        send.write(b"some of it");
        world.await_taken("q");
        recv.kill().unwrap();
        recv.wait().unwrap();
        send.end().expect(3, "the last receiver of \"q\" died");
        if let Some(full) = full {
            full.end().expect(3, "the last receiver of \"q\" died");
        }
        world.assert_no_names();
        assert_transfer_works(&world);
    }
}

#[test]
fn everybody_is_killed() {
    let world = World::new();
    let (send, recv) = under_way(&world);
    send.kill();
    recv.kill();
    assert_transfer_works(&world);
}

#[test]
fn nobody_comes() {
    let world = World::new();
    for length in [0, 1, LARGE] {
        let input = world.file("in", &noise(length));
        let send = ["send", "--queue", "q", input.to_str().unwrap(), "--timeout", "0.2"];
        let senders = [world.start(&send), world.start(&send)];
        senders.into_iter().for_each(|sender| sender.end().expect(4, "nobody came to receive"));
        world.assert_no_names();
    }
    let recv = ["recv", "--queue", "q", "--timeout", "0.2"];
    let receivers = [world.start(&recv), world.start(&recv)];
    receivers.into_iter().for_each(|receiver| receiver.end().expect(4, "nobody came to send"));
    world.assert_no_names();
}

#[test]
fn the_other_side_comes_and_does_nothing() {
    let world = World::new();
    let send = world.start(&SEND);
    world.run(&with(&RECV, &["--timeout", "0.2"])).expect(4, "nothing came");
    send.end().expect(1, "the last receiver of \"q\" left before the end");
    world.assert_no_names();

    // Its output is a pipe that nobody reads.
    let mut blocked = world.command(&["recv", "--queue", "q"]).spawn().unwrap();
    let input = world.file("in", &noise(LARGE));
    let send = world.run(&["send", "--queue", "q", input.to_str().unwrap(), "--timeout", "0.2"]);
    send.expect(4, "the receiver took nothing");
    let mut output = Vec::new();
    blocked.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!(blocked.wait().unwrap().code(), Some(3), "a sender that gave up is not the end of the stream");
    assert!(output.len() < LARGE);
    world.assert_no_names();
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
        send.end().expect(1, "the last receiver of \"q\" left before the end");
        world.assert_no_names();

        let lonely = world.start_with(&SEND, &world.file("in", &noise(LARGE)));
        world.await_state("q", |region| count(region, "sent") > 0);
        lonely.signal(signal);
        lonely.end().expect(code, "");
        world.assert_no_names();
    }
}

#[test]
fn the_reader_of_the_output_has_enough() {
    let world = World::new();
    let send = world.start_with(&["send", "--queue", "q"], &world.file("in", &noise(LARGE)));
    let mut recv = world.command(&["recv", "--queue", "q"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 10];
    recv.stdout.take().unwrap().read_exact(&mut first).unwrap(); // and closes it
    assert_eq!(recv.wait().unwrap().signal(), Some(SIGPIPE), "like cat");
    send.end().expect(1, "the last receiver of \"q\" left before the end");
    world.assert_no_names();
}

#[test]
fn the_name_is_taken_away_from_a_waiting_one() {
    let world = World::new();
    for (arguments, part) in [(SEND, "sender"), (RECV, "receiver")] {
        let waiting = world.start(&arguments);
        world.await_part("q", part);
        world.run(&["rm", "q", "--force"]).expect(0, "");
        waiting.end().expect(1, "somebody removed the name \"q\"");
        world.assert_no_names();
    }
}

#[test]
fn looking_at_a_queue_with_a_dead_participant_and_the_doctor() {
    let world = World::new();
    let mut alive = world.start(&SEND); // while it waits for input it does not look after others
    world.await_part("q", "sender");
    alive.write(b"one\ntwo\n");
    let dead = world.start(&SEND);
    world.await_parts("q", "sender", 2);
    let pids = (alive.pid(), dead.pid());
    dead.kill();
    world.await_state("q", |region| count(region, "sent") == 2);

    let region = world.json(&["inspect", "q", "--json"]);
    assert_eq!((&region["kind"], &region["unit"]), (&json!("queue"), &json!("messages")));
    assert_eq!((&region["capacity"], &region["abandoned"]), (&json!(1024), &json!(false)));
    let flow = json!([{"from": "senders", "to": "receivers", "sent": 2, "queued": 2}]);
    assert_eq!(region["directions"], flow);
    let queue = |used: u64| {
        let mut queue = json!({"quarantined": 0, "lost": 0, "dropped": 0, "pooled": 0, "extents_len": 0, "closed": false, "lanes": 64});
        queue["lanes_used"] = json!(used);
        queue
    };
    assert_eq!(region["queue"], queue(2));
    let sender = |pid: u64, standing: &str| json!({"part": "sender", "pid": pid, "standing": standing, "joins": 1});
    assert_eq!(region["participants"], json!([sender(pids.0, "alive"), sender(pids.1, "dead")]));
    assert_eq!(world.json(&["ls", "--json"]), json!([region]));

    let users = format!("2 of 64 lanes: sender {} alive, sender {} dead", pids.0, pids.1);
    let text = world.run(&["ls"]);
    assert!(text.text().contains("2 messages") && text.text().contains(&users), "{}", text.text());
    let text = world.run(&["inspect", "q"]);
    for line in
        ["lanes        2 of 64 used", "quarantined  0 messages", "lost         0 messages", "dropped      0 messages"]
    {
        assert!(text.text().contains(line), "{line}: {}", text.text());
    }

    let text = world.run(&["doctor", "--dry-run"]);
    assert!(text.text().contains("q: would be repaired (1 dead to put right; in use: "), "{}", text.text());
    assert_eq!(world.json(&["doctor", "--dry-run", "--json"])[0]["action"], "would_repair");
    assert_eq!(world.json(&["inspect", "q", "--json"])["queue"], queue(2), "it was only said");
    let text = world.run(&["doctor"]);
    assert!(text.text().contains("q: repaired (1 dead put right; in use: "), "{}", text.text());
    assert!(text.text().contains("1 names, 0 abandoned"), "{}", text.text());
    let region = world.json(&["inspect", "q", "--json"]);
    assert_eq!(region["queue"], queue(1));
    assert_eq!(region["participants"], json!([sender(pids.0, "alive")]), "nobody is in a lane that was repaired");
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");

    alive.kill();
    let text = world.run(&["doctor", "--dry-run"]);
    assert!(text.text().contains("q: left alone (stays until they are received"), "{}", text.text());
    assert_eq!(world.json(&["inspect", "q", "--json"])["abandoned"], true);
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");
    assert!(found[0]["reason"].as_str().unwrap().contains("2 messages were waiting in it"));
    world.run(&["rm", "q"]).expect(0, "");
    world.assert_no_names();
}

#[test]
fn wrong_use() {
    let world = World::new();
    let queue = world.start(&SEND);
    world.await_part("q", "sender");
    world.run(&["recv", "q"]).expect(1, "found a queue");
    world.run(&["send", "q", "/dev/null"]).expect(1, "found a queue");
    let pipe = world.start(&["send", "p"]);
    world.await_part("p", "sender");
    world.run(&["recv", "--queue", "p"]).expect(1, "found a pipe, expected a queue");
    drop((queue, pipe));

    for wrong in [&["send", "--queue"][..], &["recv", "--queue", "x", "--capacity", "many"]] {
        assert_eq!(world.run(wrong).code(), 2);
    }
    world.run(&["send", "--queue", "x", "--capacity", "0"]).expect(2, "expected at least 1");
    world.run(&["send", "--queue", "x", "--capacity", "1000000G"]).expect(2, "choose a smaller capacity");
    world.run(&["recv", "--queue", "a/b"]).expect(2, "cannot use this name");
    for command in ["send", "recv"] {
        let help = world.run(&[command, "--help"]);
        assert!(help.text().contains("goes to one of the receivers"), "{}", help.text());
    }
    let note = world.start(&["recv", "--queue", "x", "--capacity", "1000", "--timeout", "0"]);
    note.end().expect(4, "note: the capacity is 1024, not 1000 as asked");
}
