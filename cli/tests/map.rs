//! `map`: what one process inserts, the command shows and changes.

mod common;

use std::io::{BufRead, BufReader};

use common::TestEnv;
use serde_json::json;
use tombolo::Namespace;
use tombolo::collections::{Map, map};

fn open(env: &TestEnv, object: &str) -> (Namespace, Map<str, [u8]>) {
    let options = map::Options::<str, [u8]>::new().max_entries(2);
    let plan = Namespace::builder().map(object, &options).directory(env.names());
    let namespace = plan.open("phones").unwrap();
    let map = namespace.map(object).unwrap();
    (namespace, map)
}

#[test]
fn map_entries_are_shown_and_changed() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "");
    map.insert("Bob", b"2\n3").unwrap();
    assert_eq!(env.run(&["map", "put", "phones", "Ada", "1"]).code(), 0);
    assert_eq!(map.get("Ada").unwrap().unwrap(), b"1");
    assert_eq!(env.run(&["map", "get", "phones", "Ada"]).output, b"1\n");
    assert_eq!(env.run(&["map", "ls", "phones"]).output, b"Ada\t1\nBob\t2\\n3\n");
    assert_eq!(env.json(&["map", "ls", "--json", "phones"]), json!({ "Ada": "1", "Bob": "2\n3" }));
    env.run(&["map", "put", "phones", "Eve", "4"]).assert_exit(1, "no room");
    assert_eq!(env.run(&["map", "rm", "phones", "Bob"]).code(), 0);
    for action in ["get", "rm"] {
        env.run(&["map", action, "phones", "Bob"]).assert_exit(1, "no key \"Bob\"");
    }
    env.run(&["inspect", "phones"]).assert_shows("1 of 2 entries; 1 blocks free, 2 spare");
}

#[test]
fn map_in_namespace_is_named_by_both() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "book");
    map.insert("Ada", b"\xff1").unwrap();
    assert_eq!(env.run(&["map", "get", "phones/book", "Ada"]).output, b"\\xff1\n");
    env.run(&["map", "ls", "phones"]).assert_exit(2, "phones/book");
    env.run(&["map", "ls", "nothing"]).assert_exit(1, "nothing");
}

#[test]
fn map_watched_each_change_is_printed() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "");
    let mut watching = env.command(&["map", "watch", "phones", "Ada"]).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for number in ["1", "2"] {
        map.insert("Ada", number.as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), number);
    }
    map.remove("Ada").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "");
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn map_loaded_from_json_has_the_entries() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "");
    let load = |text: &[u8]| env.spawn_with_input(&["map", "load", "phones"], &env.file("in", text)).wait();
    load(br#"{ "Ada": "1", "Bob": "two\nlines" }"#).assert_exit(0, "");
    assert_eq!(map.get("Bob").unwrap().unwrap(), b"two\nlines");
    for wrong in [&b"[1]"[..], br#"{ "Ada": 1 }"#, b""] {
        load(wrong).assert_exit(1, "no JSON object");
    }
    load(br#"{ "Ada": "3", "Eve": "4" }"#).assert_exit(1, "no room");
    assert_eq!(map.get("Ada").unwrap().unwrap(), b"3");
}
