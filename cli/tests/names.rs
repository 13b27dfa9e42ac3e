//! `ls`, `inspect`, `rm` and `doctor`, with pipes.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;

use common::{SIGPIPE, TestEnv};
use serde_json::{Value, json};

#[test]
fn directory_without_names_shows_nothing() {
    let env = TestEnv::new();
    assert_eq!(env.names_json(), json!([]));
    assert_eq!(env.json(&["doctor", "--json"]), json!([]));
    let listed = env.run(&["ls"]);
    assert_eq!(listed.text().lines().filter(|line| !line.starts_with("memfd:")).count(), 1);
    env.run(&["inspect", "x"]).assert_exit(1, "cannot open the region \"x\"");
    env.run(&["rm", "x"]).assert_exit(1, "cannot open the region \"x\"");
}

#[test]
fn pipe_in_use_is_shown_and_left_alone() {
    let env = TestEnv::new();
    let mut send = env.spawn(&["send", "x", "--capacity", "64K"]);
    send.write(b"hello");
    env.wait_until_sent("x");
    let pid = send.pid();

    let region = env.json(&["inspect", "x", "--json"]);
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
    assert_eq!(env.names_json(), json!([region]));

    env.run(&["inspect", "x"]).assert_shows(&format!("alive, process {pid}, joined once"));
    env.run(&["ls"]).assert_shows(&format!("sender {pid} alive, receiver vacant"));

    env.run(&["rm", "x"]).assert_exit(1, &format!("process {pid} using it"));
    assert_eq!(env.json(&["doctor", "--json"])[0]["action"], "left_alone");
    env.run(&["rm", "x", "--force"]).assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn rm_pipe_of_killed_process_removes_it() {
    let env = TestEnv::new();
    let send = env.spawn(&["send", "x"]);
    env.wait_for_role("x", "sender");
    send.kill();
    env.run(&["rm", "x"]).assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn doctor_removes_only_abandoned_names() {
    let env = TestEnv::new();
    let mut dead = env.spawn(&["send", "dead"]);
    dead.write(b"unread");
    env.wait_until_sent("dead");
    dead.kill();
    let _alive = env.spawn(&["recv", "alive"]);
    env.wait_for_role("alive", "receiver");
    fs::write(env.name_path("foreign"), "no region").unwrap();
    fs::create_dir(env.name_path("folder")).unwrap();

    let actions = |found: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_string();
        found.as_array().unwrap().iter().map(|one| (text(&one["name"]), text(&one["action"]))).collect()
    };
    let expected = |dead: &str| {
        [("alive", "left_alone"), ("dead", dead), ("folder", "left_alone"), ("foreign", "left_alone")]
            .map(|(name, action)| (name.to_string(), action.to_string()))
            .to_vec()
    };

    let report = env.run(&["doctor", "--dry-run"]);
    report.assert_shows("dead: would be removed (abandoned: sender ");
    report.assert_shows("were waiting in it");
    assert!(env.name_path("dead").exists());
    assert_eq!(actions(&env.json(&["doctor", "--dry-run", "--json"])), expected("would_remove"));
    assert!(env.name_path("dead").exists());

    let found = env.json(&["doctor", "--json"]);
    assert_eq!(actions(&found), expected("removed"));
    assert_eq!(found[1]["region"]["participants"][0]["standing"], "dead");
    assert!(found[1]["region"]["directions"][0]["queued"].as_u64().unwrap() >= 6);
    assert!(!env.name_path("dead").exists());
    assert!(env.name_path("foreign").exists() && env.name_path("folder").exists());

    let report = env.run(&["doctor"]);
    report.assert_shows("3 names, 0 abandoned");
    report.assert_shows("foreign: left alone (cannot open the region");
    let listed = env.names_json();
    assert!(listed[2]["problem"].as_str().unwrap().contains("expected a region"));
}

#[test]
fn output_closed_command_dies_of_sigpipe() {
    let env = TestEnv::new();
    for command in ["ls", "doctor"] {
        let mut child = env.command(&[command]).stdout(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let exited = child.wait().unwrap();
        // It succeeds if it prints before the pipe is closed.
        assert!(exited.signal() == Some(SIGPIPE) || exited.success(), "{exited}");
    }
}
