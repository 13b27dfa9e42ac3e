//! `ls` and `inspect`, with regions that have no name.

mod common;

use common::TestEnv;
use serde_json::{Value, json};
use tombolo::pipe;

#[test]
fn unnamed_region_is_listed_and_inspected() {
    let env = TestEnv::new();
    let (mut tx, rx) = pipe::Options::<u64>::new().capacity(1 << 11).create().unwrap();
    tx.send(7).unwrap();
    let pid = std::process::id();
    let found = |list: Value| -> Vec<Value> {
        let is_it = |region: &&Value| region["open_in"] == json!([pid]) && region["capacity"] == 1 << 11;
        list.as_array().unwrap().iter().filter(is_it).cloned().collect()
    };
    let listed = found(env.json(&["ls", "--json"]));
    assert_eq!(listed.len(), 1, "{listed:?}");
    let region = &listed[0];
    let name = region["name"].as_str().unwrap();
    assert!(name.starts_with(&format!("memfd:{pid}/")), "{name}");
    assert_eq!((&region["kind"], &region["directions"][0]["queued"]), (&json!("pipe"), &json!(1)));
    assert_eq!(region["participants"][1], json!({"part": "receiver", "pid": pid, "standing": "alive", "joins": 1}));
    assert_eq!(&env.json(&["inspect", name, "--json"]), region);

    let users = format!("sender {pid} alive, receiver {pid} alive; open in {pid}");
    let text = env.run(&["ls"]);
    let line = text.text().lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line.contains("1 message ") && line.ends_with(&users), "{line}");
    env.run(&["inspect", name]).assert_shows(&format!("name         {name}\nopen in {pid}\nkind         pipe\n"));
    env.run(&["rm", name]).assert_exit(2, "removed when the last process closes it");

    let name = name.to_string();
    drop((tx, rx));
    assert!(found(env.json(&["ls", "--json"])).is_empty());
    env.run(&["inspect", &name]).assert_exit(1, &format!("cannot inspect {name}: found no region there"));
    env.assert_no_names();
}
