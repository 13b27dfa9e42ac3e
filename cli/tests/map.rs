//! `map`: what one process inserts, the command shows and changes.

mod common;

use std::io::{BufRead, BufReader};

use common::TestEnv;
use serde_json::json;
use tombolo::Namespace;
use tombolo::collections::{Counter, Map, Set, counter, map, set};

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
    for action in [&["ls", "--json"][..], &["dump"]] {
        assert_eq!(env.json(&[&["map"], action, &["phones"]].concat()), json!({ "Ada": "1", "Bob": "2\n3" }));
    }
    assert_eq!(env.run(&["map", "get", "--json", "phones", "Bob"]).output, b"\"2\\n3\"\n");
    env.run(&["map", "put", "phones", "Eve", "4"]).assert_exit(1, "no room");
    assert_eq!(env.run(&["map", "rm", "phones", "Bob"]).code(), 0);
    for action in ["get", "rm"] {
        env.run(&["map", action, "phones", "Bob"]).assert_exit(6, "no key \"Bob\"");
    }
    let shown = env.run(&["inspect", "phones"]);
    shown.assert_shows("1 of 2 entries; 1 blocks free, 2 spare");
    shown.assert_shows(
        "entries      1 of 2 up to 240 bytes\nload         0.50 entries per bucket\nbuckets      1 of 1, 1 of 0\n",
    );
    let map = &env.json(&["inspect", "--json", "phones"])["namespace"]["objects"][0]["map"];
    let expected = json!({ "sizes": [{ "bytes": 240, "used": 1, "capacity": 2 }], "load": 0.5, "chains": [1, 1] });
    assert_eq!(*map, expected);
}

#[test]
fn map_in_namespace_is_named_by_both() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "book");
    map.insert("Ada", b"\xff1").unwrap();
    assert_eq!(env.run(&["map", "get", "phones/book", "Ada"]).output, b"hex:ff31\n");
    env.run(&["map", "ls", "phones"]).assert_exit(2, "phones/book");
    env.run(&["map", "ls", "nothing"]).assert_exit(1, "nothing");
}

#[test]
fn map_watched_each_change_is_printed() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "");
    let options: [(&[&str], _); 2] =
        [(&[], ["", "1", "2\\n", ""]), (&["--json"], ["null", "\"1\"", "\"2\\n\"", "null"])];
    for (option, shown) in options {
        let arguments = [&["map", "watch", "phones", "Ada"], option].concat();
        let mut watching = env.command(&arguments).spawn().unwrap();
        let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), shown[0]);
        for (value, shown) in [b"1", &b"2\n"[..]].into_iter().zip(&shown[1..]) {
            map.insert("Ada", value).unwrap();
            assert_eq!(lines.next().unwrap().unwrap(), *shown);
        }
        map.remove("Ada").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), shown[3]);
        watching.kill().unwrap();
        watching.wait().unwrap();
    }
}

#[test]
fn map_loaded_from_json_has_the_entries() {
    let env = TestEnv::new();
    let (_namespace, map) = open(&env, "");
    let load = |text: &[u8]| env.spawn_with_input(&["map", "load", "phones"], &env.file("in", text)).wait();
    load(br#"{ "Ada": "1", "Bob": "two\nlines" }"#).assert_exit(0, "");
    assert_eq!(map.get("Bob").unwrap().unwrap(), b"two\nlines");
    for wrong in [&b"[1]"[..], b""] {
        load(wrong).assert_exit(1, "no JSON object");
    }
    load(br#"{ "Ada": "2", "Bob": 1 }"#).assert_exit(1, "1, of \"Bob\", is not a text");
    assert_eq!(map.get("Ada").unwrap().unwrap(), b"1");
    load(br#"{ "Ada": "3", "Eve": "4" }"#).assert_exit(1, "no room");
    assert_eq!(map.get("Ada").unwrap().unwrap(), b"3");
}

/// Maps of several types, each with what is hard to write down.
#[test]
fn map_dumped_and_loaded_is_the_same() {
    let env = TestEnv::new();
    let plan = Namespace::builder()
        .map("bytes", &map::Options::<[u8], [u8]>::new())
        .map("prices", &map::Options::<str, f64>::new())
        .map("hits", &counter::Options::<u64>::new())
        .map("flags", &map::Options::<i32, bool>::new())
        .map("tags", &set::Options::<str>::new());
    let all = plan.directory(env.names()).open("all").unwrap();
    let bytes: Map<[u8], [u8]> = all.map("bytes").unwrap();
    for (key, value) in [("", &b""[..]), ("text", b"a\"\t\n\xc3\xa4"), ("hex:", b"hex:"), ("bytes", b"\xff\0")] {
        bytes.insert(key.as_bytes(), value).unwrap();
    }
    bytes.insert(b"\xff\xfe", b"key").unwrap();
    let prices: Map<str, f64> = all.map("prices").unwrap();
    let floats = [0.1, 1e300, -0.0, 5e-324, 0.1 + 0.2, f64::MAX, f64::INFINITY, 2_f64.powi(60) + 256.0];
    (0..).zip(floats).for_each(|(key, price): (u32, _)| _ = prices.insert(&key.to_string(), &price).unwrap());
    let (hits, flags): (Counter<u64>, Map<i32, bool>) = (all.counter("hits").unwrap(), all.map("flags").unwrap());
    hits.add(&u64::MAX, i64::MIN).unwrap();
    hits.add(&0, i64::MAX).unwrap();
    flags.insert(&-1, &true).unwrap();
    let tags: Set<str> = all.set("tags").unwrap();
    tags.insert("red").unwrap();

    fn sorted<K: Ord, V>(mut entries: Vec<(K, V)>, bits: impl Fn(V) -> Vec<u8>) -> Vec<(K, Vec<u8>)> {
        entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        entries.into_iter().map(|(key, value)| (key, bits(value))).collect()
    }
    let all_bytes = || sorted(bytes.snapshot().unwrap(), |value| value);
    let all_prices = || sorted(prices.snapshot().unwrap(), |price| price.to_ne_bytes().to_vec());
    let before = (all_bytes(), all_prices(), sorted(hits.snapshot().unwrap(), |count| count.to_ne_bytes().to_vec()));
    for object in ["bytes", "prices", "hits", "flags", "tags"] {
        let name = format!("all/{object}");
        let dumped = env.run(&["map", "dump", &name]);
        assert_eq!(dumped.code(), 0, "{dumped:?}");
        match object {
            "bytes" => bytes.clear().unwrap(),
            "prices" => prices.clear().unwrap(),
            "hits" => hits.clear().unwrap(),
            "flags" => flags.clear().unwrap(),
            _ => tags.clear().unwrap(),
        }
        let loading = env.spawn_with_input(&["map", "load", &name], &env.file("dump", &dumped.output));
        loading.wait().assert_exit(0, "");
        assert_eq!(env.run(&["map", "dump", &name]).output, dumped.output, "{object}");
    }
    let after = (all_bytes(), all_prices(), sorted(hits.snapshot().unwrap(), |count| count.to_ne_bytes().to_vec()));
    assert_eq!(before, after);
    assert_eq!((flags.snapshot().unwrap(), tags.snapshot().unwrap()), (vec![(-1, true)], vec!["red".to_string()]));
    assert_eq!(env.json(&["map", "dump", "all/bytes"])["hex:fffe"], "key");
    assert_eq!(env.json(&["map", "dump", "all/hits"]), json!({ "0": i64::MAX, "18446744073709551615": i64::MIN }));
}

#[test]
fn map_of_other_types_is_refused() {
    let env = TestEnv::new();
    let plan = Namespace::builder().map("points", &map::Options::<str, [f64; 2]>::new());
    let plan = plan.map("hits", &counter::Options::<str>::new()).directory(env.names());
    let _namespace = plan.open("all").unwrap();
    env.run(&["map", "ls", "all/points"]).assert_exit(1, "numbers of 32 and 64 bits");
    env.run(&["map", "put", "all/hits", "Ada", "many"]).assert_exit(1, "\"many\" is not a number of 64 bits");
    env.run(&["map", "put", "all/hits", "hex:0", "1"]).assert_exit(1, "\"hex:0\" is not a text");
    assert_eq!(env.run(&["map", "put", "all/hits", "Ada", "-1"]).code(), 0);
    assert_eq!(env.run(&["map", "get", "all/hits", "Ada"]).output, b"-1\n");
}

#[test]
fn map_in_a_shell_script_counts_and_moves_entries() {
    let env = TestEnv::new();
    let plan = Namespace::builder().map("words", &counter::Options::<str>::new());
    let plan = plan.map("copy", &map::Options::<str, i64>::new()).directory(env.names());
    let namespace = plan.open("all").unwrap();
    let script = r#"
        set -eu
        for word in to be or not to be; do
            if count=$("$TOMBOLO" map get all/words "$word" 2> error); then
                "$TOMBOLO" map put all/words "$word" $((count + 1))
            else
                test $? = 6
                "$TOMBOLO" map put all/words "$word" 1
            fi
        done
        "$TOMBOLO" map dump all/words | "$TOMBOLO" map load all/copy
        "$TOMBOLO" map rm all/copy or
        "$TOMBOLO" map rm all/copy or 2> error || echo "rm $?"
        "$TOMBOLO" map get all/none x 2> error || echo "none $?"
        "$TOMBOLO" map ls all/copy | while read -r word count; do echo "$word=$count"; done
    "#;
    let output = env.shell(script).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "rm 6\nnone 1\nbe=2\nnot=1\nto=2\n");
    assert!(output.status.success(), "{:?}", String::from_utf8(output.stderr));
    assert_eq!(namespace.counter::<str>("words").unwrap().get("or"), Ok(1));
}
