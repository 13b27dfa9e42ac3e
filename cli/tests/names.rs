//! `ls`, `inspect`, `rm`, `doctor`, and the demo.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{World, noise};
use serde_json::{Value, json};

#[test]
fn nothing_to_see() {
    let world = World::new();
    assert_eq!(world.json(&["ls", "--json"]), json!([]));
    assert_eq!(world.json(&["doctor", "--json"]), json!([]));
    assert_eq!(world.run(&["ls"]).text().lines().count(), 1);
    world.run(&["inspect", "x"]).expect(1, "cannot open the region \"x\"");
    world.run(&["rm", "x"]).expect(1, "cannot open the region \"x\"");
}

#[test]
fn a_region_in_use() {
    let world = World::new();
    let mut send = world.start(&["send", "x", "--capacity", "64K"]);
    send.write(b"hello");
    world.await_sent("x", 8);
    let pid = send.pid();

    let region = world.json(&["inspect", "x", "--json"]);
    assert_eq!(region["name"], "x");
    assert_eq!(region["kind"], "pipe");
    assert_eq!(region["element"], "byte messages");
    assert_eq!(region["capacity"], 65536);
    assert_eq!(region["unit"], "bytes");
    assert!(region["size"].as_u64().unwrap() > 65536);
    assert_eq!(region["directions"][0]["from"], "sender");
    assert_eq!(region["directions"][0]["to"], "receiver");
    assert!(region["directions"][0]["queued"].as_u64().unwrap() >= 5);
    assert_eq!(region["abandoned"], false);
    let sender = json!({"part": "sender", "pid": pid, "standing": "alive", "joins": 1});
    let receiver = json!({"part": "receiver", "pid": null, "standing": "vacant", "joins": 0});
    assert_eq!(region["participants"], json!([sender, receiver]));
    assert_eq!(world.json(&["ls", "--json"]), json!([region]));

    let text = world.run(&["inspect", "x"]);
    assert!(text.text().contains(&format!("alive, process {pid}, joined 1 times")), "{}", text.text());
    let text = world.run(&["ls"]);
    assert!(text.text().contains(&format!("sender {pid} alive, receiver vacant")), "{}", text.text());

    world.run(&["rm", "x"]).expect(1, &format!("process {pid} using it"));
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");
    world.run(&["rm", "x", "--force"]).expect(0, "");
    world.assert_no_names();
}

#[test]
fn rm_of_an_abandoned_region() {
    let world = World::new();
    let send = world.start(&["send", "x"]);
    world.await_part("x", "sender");
    send.kill();
    world.run(&["rm", "x"]).expect(0, "");
    world.assert_no_names();
}

#[test]
fn the_doctor() {
    let world = World::new();
    let mut dead = world.start(&["send", "dead"]);
    dead.write(b"unread");
    world.await_sent("dead", 8);
    dead.kill();
    let alive = world.start(&["recv", "alive"]);
    world.await_part("alive", "receiver");
    fs::write(world.name_path("foreign"), "no region").unwrap();
    fs::create_dir(world.name_path("folder")).unwrap();

    let actions = |found: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        found.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["action"]))).collect()
    };
    let expected = |dead: &str| {
        [("alive", "left_alone"), ("dead", dead), ("folder", "left_alone"), ("foreign", "left_alone")]
            .map(|(name, action)| (name.to_string(), action.to_string()))
            .to_vec()
    };

    let text = world.run(&["doctor", "--dry-run"]);
    assert!(text.text().contains("dead: would be removed (abandoned: sender "), "{}", text.text());
    assert!(text.text().contains("were waiting in it"), "{}", text.text());
    assert!(world.name_path("dead").exists());
    assert_eq!(actions(&world.json(&["doctor", "--dry-run", "--json"])), expected("would_remove"));
    assert!(world.name_path("dead").exists());

    let found = world.json(&["doctor", "--json"]);
    assert_eq!(actions(&found), expected("removed"));
    assert_eq!(found[1]["region"]["participants"][0]["standing"], "dead");
    assert!(found[1]["region"]["directions"][0]["queued"].as_u64().unwrap() >= 6);
    assert!(!world.name_path("dead").exists());
    assert!(world.name_path("foreign").exists() && world.name_path("folder").exists());

    let text = world.run(&["doctor"]);
    assert!(text.text().contains("3 names, 0 abandoned"), "{}", text.text());
    assert!(text.text().contains("foreign: left alone (cannot open the region"), "{}", text.text());
    let listed = world.json(&["ls", "--json"]);
    assert!(listed[2]["problem"].as_str().unwrap().contains("expected a region"));
    drop(alive);
}

#[test]
fn a_closed_output_is_no_panic() {
    let world = World::new();
    for command in ["ls", "doctor"] {
        let mut child = world.command(&[command]).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ended = child.wait().unwrap();
        // Either it saw the pipe closed, or it was faster.
        assert!(ended.signal() == Some(13) || ended.success(), "{ended}");
    }
}

#[test]
fn the_demo_verifies() {
    let world = World::new();
    let file = world.file("data", &noise(1_500_001));
    let file = file.to_str().unwrap();
    let few = ["--mib", "4", "--messages", "20000", "--round-trips", "2000"];

    let found = world.json(&[&["demo", file, "--json"][..], &few].concat());
    assert_eq!(found["verified"], true);
    assert_eq!(found["problems"], json!([]));
    assert_eq!(found["file_len"], 1_500_001);
    assert_eq!(found["times"], 3);
    assert_eq!(found["tombolo"]["bytes"], 4_500_003);
    assert_eq!(found["tombolo"]["messages"], 20000);
    assert_eq!(found["tombolo"]["round_trips"], 2000);
    assert_eq!(found["pipe"]["messages"], 2000);
    assert!(found["tombolo"]["latency_ns"]["p50"].as_u64() > Some(0));

    let shown = world.run(&[&["demo", file][..], &few].concat());
    shown.expect(0, "");
    assert!(shown.text().contains("GiB/s") && shown.text().contains("verified:"), "{}", shown.text());

    let empty = world.file("empty", b"");
    let shown = world.run(&[&["demo", empty.to_str().unwrap()][..], &few].concat());
    shown.expect(0, "");
    assert!(shown.text().contains("verified:"), "{}", shown.text());
    world.run(&["demo", "/nonexistent"]).expect(1, "cannot read /nonexistent");
    world.assert_no_names();
}
