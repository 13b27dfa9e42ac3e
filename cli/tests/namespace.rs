//! Namespaces from outside: `inspect`, `ls`, `doctor` and `rm` while processes hold what is in them, die, and leave.

mod common;

use std::env;
use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;

use common::{Running, World};
use serde_json::{Value, json};
use tombolo::{Mutex, Namespace, NamespaceBuilder};

const PART: &str = "TEST_PART";

/// One object of each kind.
fn plan() -> NamespaceBuilder {
    Namespace::builder()
        .value("price", 101.25_f64)
        .atomic("ready", 0_u64)
        .array("levels", &[1_u32, 2, 3])
        .mutex("book", [7_u16; 3])
        .reentrant_mutex("depth", -1_i64)
        .rw_lock("routes", 7_u8)
        .semaphore("tickets", 3)
        .bounded_semaphore("slots", 4)
        .condvar("changed")
        .event("go")
        .barrier("start", 2)
        .once("set up")
        .queue::<u64>("orders", 16)
        .value("frame", [5_u8; 24])
        .tag(*b"frame\0v2")
}

/// Plays a part if this process was started for one: takes what the part says, and holds it until its input ends.
#[test]
fn second_process() {
    let Ok(part) = env::var(PART) else { return };
    let takes = |what: &str| part.split(' ').filter(|&word| word == what).count() as u32;
    if takes("lone") > 0 {
        let lone = Mutex::create("lone", 5_u64).unwrap();
        let held = lone.lock().unwrap();
        await_end_of_input();
        return drop(held);
    }
    let plan = if takes("persistent") > 0 { plan().persistent() } else { plan() };
    let market = plan.open("market").unwrap();
    let (book, depth, routes) =
        (market.mutex::<[u16; 3]>("book"), market.reentrant_mutex::<i64>("depth"), market.rw_lock::<u8>("routes"));
    let (book, depth, routes) = (book.unwrap(), depth.unwrap(), routes.unwrap());
    let levels = market.array::<u32>("levels").unwrap();
    let slots = market.bounded_semaphore("slots").unwrap();
    let book = (takes("book") > 0).then(|| book.lock().or_else(|error| error.recover()).unwrap());
    let depth = (takes("depth") > 0).then(|| depth.lock().unwrap());
    let reading = (takes("read") > 0).then(|| routes.read().unwrap());
    let writing = (takes("write") > 0).then(|| routes.write().unwrap());
    let levels = (takes("levels") > 0).then(|| levels.lock().unwrap());
    slots.acquire(takes("slot")).unwrap();
    if takes("start") > 0 {
        let start = market.barrier("start").unwrap();
        thread::spawn(move || start.wait());
    }
    if takes("go") > 0 {
        market.event("go").unwrap().set().unwrap();
        market.once("set up").unwrap().call_once(|| ()).unwrap();
        market.queue::<u64>("orders").unwrap().send(&1).unwrap();
    }
    market.atomic::<u64>("ready").unwrap().fetch_add(1);
    await_end_of_input();
    drop((book, depth, reading, writing, levels));
    slots.release(takes("slot")).unwrap();
}

fn await_end_of_input() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// A process that plays such a part.
fn play(world: &World, part: &str) -> Running {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "second_process", "--nocapture"]);
    command.env(PART, part).env("TOMBOLO_DIR", world.names());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::new(&mut command)
}

/// The same, and it has what it is to take. It is number `number` to come.
fn member(world: &World, part: &str, number: u64) -> Running {
    let process = play(world, part);
    let number = json!(number.to_string());
    world.await_state("market", |region| object(region, "ready")["value"] == number);
    process
}

fn leave(mut process: Running) {
    process.close_input();
    let ended = process.end();
    assert_eq!(ended.code(), 0, "{ended:?}");
}

fn object<'a>(region: &'a Value, name: &str) -> &'a Value {
    region["namespace"]["objects"].as_array().unwrap().iter().find(|object| object["name"] == name).unwrap()
}

fn market(world: &World) -> Value {
    world.json(&["inspect", "market", "--json"])
}

fn holder(pid: u64, standing: &str) -> Value {
    json!({"pid": pid, "standing": standing})
}

fn users(pid: u64, standing: &str, count: u64) -> Value {
    json!({"pid": pid, "standing": standing, "count": count})
}

/// The cells of an object's line, of which none of these has two blanks in a row.
fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}  "))).unwrap_or_else(|| panic!("{text}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn every_kind_of_object_is_shown() {
    let world = World::new();
    let idle = member(&world, "", 1);
    let region = market(&world);
    assert_eq!((&region["name"], &region["kind"]), (&json!("market"), &json!("namespace")));
    assert_eq!((&region["capacity"], &region["unit"]), (&json!(14), &json!("objects")));
    assert_eq!((&region["element"], &region["max_message_len"]), (&Value::Null, &Value::Null));
    assert_eq!((&region["abandoned"], &region["namespace"]["persistent"]), (&json!(false), &json!(false)));
    assert_eq!(region["directions"], json!([]));
    let member = json!({"part": "member", "pid": idle.pid(), "standing": "alive", "joins": 1});
    assert_eq!(region["participants"], json!([member]));
    let size = region["size"].as_u64().unwrap();
    assert_eq!(size, fs::metadata(world.name_path("market")).unwrap().len());

    let tagged = |size: u64, align: u64, tag: &str| {
        let tag = tag.bytes().chain([0; 8]).take(8).collect::<Vec<u8>>();
        json!(format!("values of {size} bytes aligned to {align} tagged \"{}\"", tag.escape_ascii()))
    };
    let none = Value::Null;
    for (name, kind, element, length, value, state) in [
        ("price", "value", tagged(8, 8, "f64"), none.clone(), json!("101.25"), "free"),
        ("ready", "atomic", tagged(8, 8, "u64"), none.clone(), json!("1"), ""),
        ("levels", "array", tagged(4, 4, "u32"), json!(3), json!("[1, 2, 3]"), "free"),
        ("book", "mutex", json!("values of 6 bytes aligned to 2"), none.clone(), json!("0x070007000700"), "free"),
        ("depth", "re-entrant mutex", tagged(8, 8, "i64"), none.clone(), json!("-1"), "free"),
        ("routes", "read-write lock", tagged(1, 1, "u8"), none.clone(), json!("7"), "free"),
        ("tickets", "semaphore", none.clone(), none.clone(), none.clone(), "3 permits left"),
        ("slots", "bounded semaphore", none.clone(), json!(4), none.clone(), "4 of 4 permits left"),
        ("changed", "condition variable", none.clone(), none.clone(), none.clone(), ""),
        ("go", "event", none.clone(), none.clone(), none.clone(), "clear"),
        ("start", "barrier", none.clone(), json!(2), none.clone(), "0 of 2 have come"),
        ("set up", "once", none.clone(), none.clone(), none.clone(), "not done"),
        ("frame", "value", tagged(24, 1, "frame\0v2"), none.clone(), json!(format!("0x{}", "05".repeat(24))), "free"),
    ] {
        let expected = json!({"name": name, "kind": kind, "element": element, "length": length, "value": value,
            "holder": null, "users": [], "state": state});
        assert_eq!(object(&region, name), &expected);
    }
    let orders = object(&region, "orders");
    assert_eq!((&orders["kind"], &orders["length"]), (&json!("queue"), &json!(16)));
    assert!(orders["element"].as_str().unwrap().starts_with("values of 8 bytes aligned to 8"), "{orders}");
    assert_eq!(orders["state"], "0 queued");
    assert_eq!(world.json(&["ls", "--json"]), json!([region]));

    let text = world.run(&["inspect", "market"]);
    let text = text.text();
    for line in ["name         market", "kind         namespace", "objects      14", "persistent   no"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let member = format!("member       alive, process {}, joined 1 times", idle.pid());
    assert!(text.contains(&member) && !text.contains("unknown"), "{text}");
    assert_eq!(cells(text, "OBJECT"), ["OBJECT", "KIND", "OF", "HOLDER", "USERS", "STATE", "VALUE"]);
    assert_eq!(cells(text, "price"), ["price", "value", "f64", "-", "-", "free", "101.25"]);
    assert_eq!(cells(text, "levels"), ["levels", "array", "3 x u32", "-", "-", "free", "[1, 2, 3]"]);
    assert_eq!(cells(text, "book"), ["book", "mutex", "6 bytes", "-", "-", "free", "0x070007000700"]);
    let slots = ["slots", "bounded semaphore", "4 permits", "-", "-", "4 of 4 permits left", "-"];
    assert_eq!(cells(text, "slots"), slots);
    assert_eq!(cells(text, "start")[2], "2 parties");
    assert_eq!(cells(text, "set up")[1..], ["once", "-", "-", "-", "not done", "-"]);
    assert!(cells(text, "orders")[2].starts_with("16 x "), "{text}");
    assert_eq!(cells(text, "frame")[2], "24 bytes tagged \"frame\\x00v2\"");
    let text = world.run(&["ls"]);
    let users = format!("member {} alive", idle.pid());
    for part in ["namespace", "14 objects", "nothing held", &users] {
        assert!(text.text().contains(part), "{part}: {}", text.text());
    }

    leave(idle);
    world.assert_no_names();
}

#[test]
fn who_holds_what_is_shown() {
    let world = World::new();
    let one = member(&world, "book depth levels slot slot go", 1);
    let other = member(&world, "read slot start", 2);
    world.await_state("market", |region| object(region, "start")["users"] != json!([]));
    let (first, second) = (one.pid(), other.pid());
    let region = market(&world);
    for name in ["book", "depth", "levels"] {
        let found = object(&region, name);
        assert_eq!((&found["holder"], &found["state"]), (&holder(first, "alive"), &json!("held")), "{name}");
    }
    let mut permits = vec![users(first, "alive", 2), users(second, "alive", 1)];
    permits.sort_by_key(|users| users["pid"].as_u64());
    assert_eq!(object(&region, "slots")["users"], json!(permits));
    assert_eq!(object(&region, "slots")["state"], "1 of 4 permits left");
    let reading = [users(second, "alive", 1)];
    assert_eq!(object(&region, "routes")["users"], json!(reading));
    assert_eq!(object(&region, "routes")["state"], "read by 1");
    assert_eq!(object(&region, "start")["users"], json!(reading));
    assert_eq!(object(&region, "start")["state"], "1 of 2 have come");
    for (name, state) in [("go", "set"), ("set up", "done"), ("orders", "1 queued")] {
        assert_eq!(object(&region, name)["state"], state);
    }

    let text = world.run(&["inspect", "market"]);
    assert_eq!(cells(text.text(), "book")[3..6], [&first.to_string(), "-", "held"]);
    assert!(cells(text.text(), "slots")[4].contains(&format!("{first} x2")), "{}", text.text());
    assert_eq!(cells(text.text(), "routes")[3..6], ["-", &second.to_string(), "read by 1"]);
    let text = world.run(&["ls"]);
    // In the table's order, and no more than a few.
    let held = format!("levels: {first}; book: {first}; depth: {first}; 3 more");
    assert!(text.text().contains(&held), "{}", text.text());

    world.run(&["rm", "market"]).expect(1, "using it, expected no participant alive");
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");

    other.kill(); // with a thread at the barrier
    leave(one);
    world.assert_no_names();
}

#[test]
fn a_crowd_is_cut_short_for_people_only() {
    let world = World::new();
    let crowd: Vec<Running> = (1..=10).map(|number| member(&world, "read", number)).collect();
    let region = market(&world);
    assert_eq!(object(&region, "routes")["users"].as_array().unwrap().len(), 10);
    assert_eq!(object(&region, "routes")["state"], "read by 10");
    let text = world.run(&["inspect", "market"]);
    assert!(cells(text.text(), "routes")[4].ends_with(", 2 more"), "{}", text.text());
    crowd.into_iter().for_each(leave);
    world.assert_no_names();
}

#[test]
fn the_doctor_takes_from_the_dead_what_they_hold() {
    let world = World::new();
    let alive = member(&world, "slot", 1);
    let dead = member(&world, "book slot slot read start", 2);
    world.await_state("market", |region| object(region, "start")["users"] != json!([]));
    let (living, gone) = (alive.pid(), dead.pid());
    assert_eq!(object(&market(&world), "book")["holder"], holder(gone, "alive"));
    dead.kill();

    let region = market(&world);
    let member = |pid: u64, standing: &str| json!({"part": "member", "pid": pid, "standing": standing, "joins": 1});
    assert_eq!(region["participants"], json!([member(living, "alive"), member(gone, "dead")]));
    assert_eq!(region["abandoned"], false);
    assert_eq!(object(&region, "book")["holder"], holder(gone, "dead"));
    assert_eq!(object(&region, "routes")["users"], json!([users(gone, "dead", 1)]));
    assert_eq!(object(&region, "start")["users"], json!([users(gone, "dead", 1)]));
    assert!(object(&region, "slots")["users"].as_array().unwrap().contains(&users(gone, "dead", 2)));
    let text = world.run(&["inspect", "market"]);
    assert_eq!(cells(text.text(), "book")[3], format!("{gone} (dead)"));
    assert!(cells(text.text(), "slots")[4].contains(&format!("{gone} (dead) x2")), "{}", text.text());
    let text = world.run(&["ls"]);
    for part in [format!("book: {gone} (dead); "), format!("member {living} alive, member {gone} dead")] {
        assert!(text.text().contains(&part), "{part}: {}", text.text());
    }

    let text = world.run(&["doctor", "--dry-run"]);
    let said = "market: would be repaired (1 dead to put right; in use: ";
    assert!(text.text().contains(said), "{}", text.text());
    assert_eq!(world.json(&["doctor", "--dry-run", "--json"])[0]["action"], "would_repair");
    assert_eq!(object(&market(&world), "book")["holder"], holder(gone, "dead"), "it was only said");
    let text = world.run(&["doctor"]);
    assert!(text.text().contains("market: repaired (1 dead put right; in use: "), "{}", text.text());
    assert!(text.text().contains("1 names, 0 abandoned"), "{}", text.text());

    let region = market(&world);
    assert_eq!(region["participants"], json!([member(living, "alive")]));
    let state = |name: &str| {
        let found = object(&region, name);
        (found["holder"].clone(), found["users"].clone(), found["state"].as_str().unwrap().to_string())
    };
    let nobody = |state: &str| (Value::Null, json!([]), state.to_string());
    assert_eq!(state("book"), nobody("an owner died"));
    assert_eq!(state("routes"), nobody("free"));
    assert_eq!(state("slots"), (Value::Null, json!([users(living, "alive", 1)]), "3 of 4 permits left".to_string()));
    assert_eq!(state("start").2, format!("broken by process {gone}"));
    assert_eq!(world.json(&["doctor", "--json"])[0]["action"], "left_alone", "nothing is left to do");

    leave(self::member(&world, "book", 3)); // who is told, and mends
    assert_eq!(object(&market(&world), "book")["state"], "free");
    leave(alive);
    world.assert_no_names();
}

#[test]
fn the_doctor_removes_a_namespace_whose_members_are_all_dead() {
    let world = World::new();
    let processes = [member(&world, "write", 1), member(&world, "slot", 2)];
    let pid = processes[0].pid();
    processes.into_iter().for_each(Running::kill);
    let region = market(&world);
    assert_eq!(region["abandoned"], true);
    assert_eq!(object(&region, "routes")["holder"], holder(pid, "dead"));

    let text = world.run(&["doctor", "--dry-run"]);
    let said = format!("market: would be removed (abandoned: member {pid} dead, member ");
    assert!(text.text().contains(&said), "{}", text.text());
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "removed");
    assert!(found[0]["reason"].as_str().unwrap().ends_with("14 objects were in it"), "{found}");
    assert_eq!(object(&found[0]["region"], "routes")["holder"], holder(pid, "dead"));
    world.assert_no_names();
}

#[test]
fn a_persistent_namespace_stays_until_somebody_removes_it() {
    let world = World::new();
    leave(member(&world, "persistent go", 1));
    let region = market(&world);
    assert_eq!((&region["namespace"]["persistent"], &region["abandoned"]), (&json!(true), &json!(false)));
    assert_eq!(region["participants"][0]["standing"], "left");
    assert_eq!(object(&region, "go")["state"], "set", "everything stays as it was");
    let text = world.run(&["inspect", "market"]);
    assert!(text.text().contains("persistent   yes\n"), "{}", text.text());
    let text = world.run(&["ls"]);
    assert!(
        text.text().lines().any(|line| line.starts_with("market") && line.ends_with("  nobody")),
        "{}",
        text.text()
    );
    let text = world.run(&["doctor"]);
    let said = "market: left alone (persistent, stays until `tombolo rm` removes it: nobody)";
    assert!(text.text().contains(said), "{}", text.text());
    assert!(text.text().contains("1 names, 0 abandoned"), "{}", text.text());

    let dead = member(&world, "book", 2);
    let pid = dead.pid();
    dead.kill();
    let found = world.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");
    assert!(found[0]["reason"].as_str().unwrap().contains(&format!("member {pid} dead")), "{found}");
    assert_eq!(object(&market(&world), "book")["holder"], holder(pid, "dead"), "its next member puts it right");

    let alive = member(&world, "", 3);
    let dead = member(&world, "depth", 4);
    dead.kill();
    assert_eq!(world.json(&["doctor", "--json"])[0]["action"], "repaired", "in use it is like any other");
    leave(alive);
    assert_eq!(object(&market(&world), "depth")["state"], "an owner died");
    world.run(&["rm", "market"]).expect(0, "");
    world.assert_no_names();
}

#[test]
fn an_object_on_its_own() {
    let world = World::new();
    let process = play(&world, "lone");
    world.await_state("lone", |region| !object(region, "")["holder"].is_null());
    let pid = process.pid().to_string();
    let text = world.run(&["inspect", "lone"]);
    assert_eq!(cells(text.text(), "-"), ["-", "mutex", "u64", &pid, "-", "held", "5"]);
    let text = world.run(&["ls"]);
    assert!(text.text().contains(&format!("1 objects  {pid}  ")), "{}", text.text());
    leave(process);
    world.assert_no_names();
}

#[test]
fn transfers_refuse_the_name_of_a_namespace() {
    let world = World::new();
    let output = world.file("output", b"precious");
    let output = output.to_str().unwrap();
    let process = member(&world, "", 1);
    let refused = || {
        for (expected, more) in [("a pipe", &[][..]), ("a queue", &["--queue"])] {
            for command in [["send", "market", "/dev/null"], ["recv", "market", output]] {
                let said = format!("found a namespace, expected {expected}; see what is in it with `tombolo inspect`");
                world.run(&[&command[..], more].concat()).expect(1, &said);
            }
        }
        assert_eq!(fs::read(output).unwrap(), b"precious");
    };
    refused();
    process.kill();
    refused();
    assert_eq!(object(&market(&world), "ready")["value"], "1", "the next member finds everything as it was");
    world.run(&["rm", "market"]).expect(0, "");
    world.assert_no_names();
}

#[test]
fn a_namespace_loses_its_name_by_force_and_its_members_keep_it() {
    let world = World::new();
    let process = member(&world, "book", 1);
    world.run(&["rm", "market"]).expect(1, &format!("found process {} using it", process.pid()));
    world.run(&["rm", "market", "--force"]).expect(0, "");
    world.assert_no_names();
    let next = member(&world, "book", 1); // another one, whose book is free
    leave(process);
    assert_eq!(object(&market(&world), "book")["holder"], holder(next.pid(), "alive"));
    leave(next);
    world.assert_no_names();
}

#[test]
fn the_help_tells_of_namespaces() {
    let world = World::new();
    for command in ["ls", "inspect", "rm", "doctor"] {
        let help = world.run(&[command, "--help"]);
        assert!(help.text().contains("namespace"), "{}", help.text());
    }
}
