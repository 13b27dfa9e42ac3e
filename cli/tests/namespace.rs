//! `inspect`, `ls`, `doctor` and `rm` with namespaces, whose members hold objects, die and leave.

mod common;

use std::fs;
use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::thread;

use common::{Process, TestEnv};
use serde_json::{Value, json};
use tombolo::collections::list;
use tombolo::sync::Mutex;
use tombolo::{Endpoint, Namespace, NamespaceBuilder, Spec, pipe, queue};

/// The environment variable that starts this program as a member, with what it takes.
const ROLE: &str = "TEST_ROLE";

/// One object of each kind.
fn builder() -> NamespaceBuilder {
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
        .type_tag("frame\0v2")
        .value("image", [6_u8; 2])
        .type_tag("an image of the camera")
        .list("trades", &list::Options::<u64>::new().max_length(100))
}

/// Not a test: what a child process does. Takes the objects that its role lists, and holds them
/// until its input ends.
#[test]
fn child_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let takes = |what: &str| role.split(' ').filter(|&word| word == what).count() as u32;
    if takes("standalone") > 0 {
        let mutex = Mutex::create_new("lone", 5_u64).unwrap();
        let guard = mutex.lock().unwrap();
        wait_for_end_of_input();
        return drop(guard);
    }
    let builder = if takes("persistent") > 0 { builder().persistent() } else { builder() };
    let market = builder.open("market").unwrap();
    let (book, depth, routes) =
        (market.mutex::<[u16; 3]>("book"), market.reentrant_mutex::<i64>("depth"), market.rw_lock::<u8>("routes"));
    let (book, depth, routes) = (book.unwrap(), depth.unwrap(), routes.unwrap());
    let levels = market.array::<u32>("levels").unwrap();
    let slots = market.bounded_semaphore("slots").unwrap();
    let book = (takes("book") > 0).then(|| book.lock().or_else(|error| error.into_guard()).unwrap());
    let depth = (takes("depth") > 0).then(|| depth.lock().unwrap());
    let reading = (takes("read") > 0).then(|| routes.read().unwrap());
    let writing = (takes("write") > 0).then(|| routes.write().unwrap());
    let levels = (takes("levels") > 0).then(|| levels.lock().unwrap());
    slots.acquire_many(takes("slot")).unwrap().forget();
    if takes("start") > 0 {
        let start = market.barrier("start").unwrap();
        thread::spawn(move || start.wait());
    }
    if takes("go") > 0 {
        market.event("go").unwrap().set().unwrap();
        market.once("set up").unwrap().call_once(|| ()).unwrap();
        market.queue::<u64>("orders").unwrap().send(1).unwrap();
    }
    market.atomic::<u64>("ready").unwrap().fetch_add(1);
    wait_for_end_of_input();
    drop((book, depth, reading, writing, levels));
    slots.release(takes("slot")).unwrap();
}

fn wait_for_end_of_input() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

/// Starts a child process with this role.
fn spawn_child(env: &TestEnv, role: &str) -> Process {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process", "--nocapture"]);
    command.env(ROLE, role).env("TOMBOLO_DIR", env.names());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Process::new(&mut command)
}

/// Starts a member of "market", the `number`th one, and waits until it has taken its objects.
fn spawn_member(env: &TestEnv, role: &str, number: u64) -> Process {
    let process = spawn_child(env, role);
    let number = json!(number.to_string());
    env.wait_for_state("market", |region| object(region, "ready")["value"] == number);
    process
}

fn object<'a>(region: &'a Value, name: &str) -> &'a Value {
    region["namespace"]["objects"].as_array().unwrap().iter().find(|object| object["name"] == name).unwrap()
}

fn market(env: &TestEnv) -> Value {
    env.json(&["inspect", "market", "--json"])
}

fn holder(pid: u64, standing: &str) -> Value {
    json!({"pid": pid, "standing": standing})
}

fn users(pid: u64, standing: &str, count: u64) -> Value {
    json!({"pid": pid, "standing": standing, "count": count})
}

/// The cells of an object's line in a table. None of them contains two blanks in a row.
fn cells<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.starts_with(&format!("{name}  "))).unwrap_or_else(|| panic!("{text}"));
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[test]
fn namespace_inspect_shows_every_kind_of_object() {
    let env = TestEnv::new();
    let idle = spawn_member(&env, "", 1);
    let region = market(&env);
    assert_eq!((&region["name"], &region["kind"]), (&json!("market"), &json!("namespace")));
    assert_eq!((&region["capacity"], &region["unit"]), (&json!(16), &json!("objects")));
    assert_eq!((&region["element"], &region["max_message_bytes"]), (&Value::Null, &Value::Null));
    assert_eq!((&region["abandoned"], &region["namespace"]["persistent"]), (&json!(false), &json!(false)));
    assert_eq!(region["directions"], json!([]));
    let member = json!({"part": "member", "pid": idle.pid(), "standing": "alive", "joins": 1});
    assert_eq!(region["participants"], json!([member]));
    let size = region["size"].as_u64().unwrap();
    assert_eq!(size, fs::metadata(env.name_path("market")).unwrap().len());

    let tagged = |size: u64, align: u64, tag: &str| {
        json!(format!("values of {size} bytes aligned to {align} tagged \"{}\"", tag.as_bytes().escape_ascii()))
    };
    let none = Value::Null;
    for (name, kind, element, length, value, state) in [
        ("price", "value", tagged(8, 8, "f64"), none.clone(), json!("101.25"), "free"),
        ("ready", "atomic", tagged(8, 8, "u64"), none.clone(), json!("1"), ""),
        ("levels", "array", tagged(4, 4, "u32"), json!(3), json!("[1, 2, 3]"), "free"),
        ("book", "mutex", tagged(6, 2, "[u16;3]"), none.clone(), json!("0x070007000700"), "free"),
        ("depth", "re-entrant mutex", tagged(8, 8, "i64"), none.clone(), json!("-1"), "free"),
        ("routes", "read-write lock", tagged(1, 1, "u8"), none.clone(), json!("7"), "free"),
        ("tickets", "semaphore", none.clone(), none.clone(), none.clone(), "3 permits left"),
        (
            "trades",
            "list",
            tagged(8, 8, "u64"),
            json!(100),
            json!("[]"),
            "0 of 100 elements in 0 blocks; 534 blocks free",
        ),
        ("slots", "bounded semaphore", none.clone(), json!(4), none.clone(), "4 of 4 permits left"),
        ("changed", "condition variable", none.clone(), none.clone(), none.clone(), ""),
        ("go", "event", none.clone(), none.clone(), none.clone(), "clear"),
        ("start", "barrier", none.clone(), json!(2), none.clone(), "0 of 2 have arrived"),
        ("set up", "once", none.clone(), none.clone(), none.clone(), "not done"),
        (
            "image",
            "value",
            json!("values of 2 bytes aligned to 1 tagged 0xfde3d802a0e48cf2"),
            none.clone(),
            json!("0x0606"),
            "free",
        ),
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
    assert_eq!(env.names_json(), json!([region]));

    let text = env.run(&["inspect", "market"]);
    let text = text.text();
    for line in ["name         market", "kind         namespace", "objects      16", "persistent   no"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let member = format!("member       alive, process {}, joined once", idle.pid());
    assert!(text.contains(&member) && !text.contains("unknown"), "{text}");
    assert_eq!(cells(text, "OBJECT"), ["OBJECT", "KIND", "OF", "HOLDER", "USERS", "STATE", "VALUE"]);
    assert_eq!(cells(text, "price"), ["price", "value", "f64", "-", "-", "free", "101.25"]);
    assert_eq!(cells(text, "levels"), ["levels", "array", "3 x u32", "-", "-", "free", "[1, 2, 3]"]);
    assert_eq!(cells(text, "book"), ["book", "mutex", "[u16;3]", "-", "-", "free", "0x070007000700"]);
    let slots = ["slots", "bounded semaphore", "4 permits", "-", "-", "4 of 4 permits left", "-"];
    assert_eq!(cells(text, "slots"), slots);
    assert_eq!(cells(text, "start")[2], "2 parties");
    assert_eq!(cells(text, "set up")[1..], ["once", "-", "-", "-", "not done", "-"]);
    assert!(cells(text, "orders")[2].starts_with("16 x "), "{text}");
    assert_eq!(cells(text, "frame")[2], "24 bytes tagged \"frame\\x00v2\"");
    assert_eq!(cells(text, "image")[2], "2 bytes tagged 0xfde3d802a0e48cf2");
    let text = env.run(&["ls"]);
    let users = format!("member {} alive", idle.pid());
    for part in ["namespace", "16 objects", "nothing held", &users] {
        text.assert_shows(part);
    }

    idle.finish();
    env.assert_no_names();
}

#[test]
fn namespace_objects_held_inspect_and_ls_show_by_whom() {
    let env = TestEnv::new();
    let one = spawn_member(&env, "book depth levels slot slot go", 1);
    let other = spawn_member(&env, "read slot start", 2);
    env.wait_for_state("market", |region| object(region, "start")["users"] != json!([]));
    let (first, second) = (one.pid(), other.pid());
    let region = market(&env);
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
    assert_eq!(object(&region, "start")["state"], "1 of 2 have arrived");
    for (name, state) in [("go", "set"), ("set up", "done"), ("orders", "1 queued")] {
        assert_eq!(object(&region, name)["state"], state);
    }

    let text = env.run(&["inspect", "market"]);
    assert_eq!(cells(text.text(), "book")[3..6], [&first.to_string(), "-", "held"]);
    assert!(cells(text.text(), "slots")[4].contains(&format!("{first} x2")), "{}", text.text());
    assert_eq!(cells(text.text(), "routes")[3..6], ["-", &second.to_string(), "read by 1"]);
    // The first three in the order of the table.
    env.run(&["ls"]).assert_shows(&format!("levels: {first}; book: {first}; depth: {first}; 3 more"));

    env.run(&["rm", "market"]).assert_exit(1, "using it, expected no participant alive");
    assert_eq!(env.json(&["doctor", "--json"])[0]["action"], "left_alone");

    other.kill(); // its thread waits at the barrier
    one.finish();
    env.assert_no_names();
}

#[test]
fn namespace_with_many_users_table_is_shortened_and_json_is_not() {
    let env = TestEnv::new();
    let crowd: Vec<Process> = (1..=10).map(|number| spawn_member(&env, "read", number)).collect();
    let region = market(&env);
    assert_eq!(object(&region, "routes")["users"].as_array().unwrap().len(), 10);
    assert_eq!(object(&region, "routes")["state"], "read by 10");
    let text = env.run(&["inspect", "market"]);
    assert!(cells(text.text(), "routes")[4].ends_with(", 2 more"), "{}", text.text());
    crowd.into_iter().for_each(|member| drop(member.finish()));
    env.assert_no_names();
}

#[test]
fn namespace_member_killed_doctor_releases_what_it_held() {
    let env = TestEnv::new();
    let alive = spawn_member(&env, "slot", 1);
    let dead = spawn_member(&env, "book slot slot read start", 2);
    env.wait_for_state("market", |region| object(region, "start")["users"] != json!([]));
    let (living, gone) = (alive.pid(), dead.pid());
    assert_eq!(object(&market(&env), "book")["holder"], holder(gone, "alive"));
    dead.kill();

    let region = market(&env);
    let member = |pid: u64, standing: &str| json!({"part": "member", "pid": pid, "standing": standing, "joins": 1});
    assert_eq!(region["participants"], json!([member(living, "alive"), member(gone, "dead")]));
    assert_eq!(region["abandoned"], false);
    assert_eq!(object(&region, "book")["holder"], holder(gone, "dead"));
    assert_eq!(object(&region, "routes")["users"], json!([users(gone, "dead", 1)]));
    assert_eq!(object(&region, "start")["users"], json!([users(gone, "dead", 1)]));
    assert!(object(&region, "slots")["users"].as_array().unwrap().contains(&users(gone, "dead", 2)));
    let text = env.run(&["inspect", "market"]);
    assert_eq!(cells(text.text(), "book")[3], format!("{gone} (dead)"));
    assert!(cells(text.text(), "slots")[4].contains(&format!("{gone} (dead) x2")), "{}", text.text());
    let text = env.run(&["ls"]);
    text.assert_shows(&format!("book: {gone} (dead); "));
    text.assert_shows(&format!("member {living} alive, member {gone} dead"));

    let text = env.run(&["doctor", "--dry-run"]);
    text.assert_shows("market: would be repaired (1 dead to repair; in use: ");
    assert_eq!(env.json(&["doctor", "--dry-run", "--json"])[0]["action"], "would_repair");
    assert_eq!(object(&market(&env), "book")["holder"], holder(gone, "dead"), "a dry run changes nothing");
    let text = env.run(&["doctor"]);
    text.assert_shows("market: repaired (1 dead repaired; in use: ");
    text.assert_shows("1 name, 0 abandoned");

    let region = market(&env);
    assert_eq!(region["participants"], json!([member(living, "alive")]));
    let state = |name: &str| {
        let found = object(&region, name);
        (found["holder"].clone(), found["users"].clone(), found["state"].as_str().unwrap().to_string())
    };
    let unused = |state: &str| (Value::Null, json!([]), state.to_string());
    assert_eq!(state("book"), unused("an owner died"));
    assert_eq!(state("routes"), unused("free"));
    assert_eq!(state("slots"), (Value::Null, json!([users(living, "alive", 1)]), "3 of 4 permits left".to_string()));
    assert_eq!(state("start").2, format!("broken by process {gone}"));
    assert_eq!(env.json(&["doctor", "--json"])[0]["action"], "left_alone", "nothing is left to do");

    spawn_member(&env, "book", 3).finish(); // gets `OwnerDied` and recovers the guard
    assert_eq!(object(&market(&env), "book")["state"], "free");
    alive.finish();
    env.assert_no_names();
}

#[test]
fn namespace_all_members_killed_doctor_removes_it() {
    let env = TestEnv::new();
    let processes = [spawn_member(&env, "write", 1), spawn_member(&env, "slot", 2)];
    let pid = processes[0].pid();
    processes.into_iter().for_each(Process::kill);
    let region = market(&env);
    assert_eq!(region["abandoned"], true);
    assert_eq!(object(&region, "routes")["holder"], holder(pid, "dead"));

    let text = env.run(&["doctor", "--dry-run"]);
    text.assert_shows(&format!("market: would be removed (abandoned: member {pid} dead, member "));
    let found = env.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "removed");
    assert!(found[0]["reason"].as_str().unwrap().ends_with("it had 16 objects"), "{found}");
    assert_eq!(object(&found[0]["region"], "routes")["holder"], holder(pid, "dead"));
    env.assert_no_names();
}

#[test]
fn persistent_namespace_stays_until_rm() {
    let env = TestEnv::new();
    spawn_member(&env, "persistent go", 1).finish();
    let region = market(&env);
    assert_eq!((&region["namespace"]["persistent"], &region["abandoned"]), (&json!(true), &json!(false)));
    assert_eq!(region["participants"][0]["standing"], "left");
    assert_eq!(object(&region, "go")["state"], "set", "the objects keep their state");
    env.run(&["inspect", "market"]).assert_shows("persistent   yes\n");
    let list = env.run(&["ls"]);
    let mut lines = list.text().lines();
    assert!(lines.any(|line| line.starts_with("market") && line.ends_with("  nobody")), "{}", list.text());
    let text = env.run(&["doctor"]);
    text.assert_shows("market: left alone (persistent, stays until `tombolo rm` removes it: nobody)");
    text.assert_shows("1 name, 0 abandoned");

    let dead = spawn_member(&env, "book", 2);
    let pid = dead.pid();
    dead.kill();
    let found = env.json(&["doctor", "--json"]);
    assert_eq!(found[0]["action"], "left_alone");
    assert!(found[0]["reason"].as_str().unwrap().contains(&format!("member {pid} dead")), "{found}");
    assert_eq!(object(&market(&env), "book")["holder"], holder(pid, "dead"), "the next member repairs it");

    let alive = spawn_member(&env, "", 3);
    let dead = spawn_member(&env, "depth", 4);
    dead.kill();
    assert_eq!(env.json(&["doctor", "--json"])[0]["action"], "repaired", "in use, it is repaired like any other");
    alive.finish();
    assert_eq!(object(&market(&env), "depth")["state"], "an owner died");
    env.run(&["rm", "market"]).assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn standalone_object_is_shown_without_a_name() {
    let env = TestEnv::new();
    let process = spawn_child(&env, "standalone");
    env.wait_for_state("lone", |region| !object(region, "")["holder"].is_null());
    let pid = process.pid().to_string();
    let text = env.run(&["inspect", "lone"]);
    assert_eq!(cells(text.text(), "-"), ["-", "mutex", "u64", &pid, "-", "held", "5"]);
    assert_eq!(cells(env.run(&["ls"]).text(), "lone")[3..5], ["1 object", &pid]);
    process.finish();
    env.assert_no_names();
}

#[test]
fn object_held_in_another_pid_namespace_is_shown_with_it() {
    let env = TestEnv::new();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "child_process", "--nocapture"]);
    command.env(ROLE, "standalone").env("TOMBOLO_DIR", env.names());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if !Command::new("unshare").args(["--pid", "--fork", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: another PID namespace (no permission); run the tests as root for it");
        return;
    }
    let process = Process::new(&mut command);
    env.wait_for_state("lone", |region| !object(region, "")["holder"].is_null());
    let region = env.json(&["inspect", "lone", "--json"]);
    let namespace = region["participants"][0]["pid_namespace"].as_u64().expect("not the test's own");
    let holder = json!({"pid": 1, "pid_namespace": namespace, "standing": "alive"});
    assert_eq!(object(&region, "")["holder"], holder);
    let shown = format!("1 of PID namespace {namespace}");
    assert_eq!(cells(env.run(&["ls"]).text(), "lone")[3..5], ["1 object", &shown]);
    env.run(&["inspect", "lone"]).assert_shows(&format!("alive, process {shown}, joined once"));
    process.finish();
    env.assert_no_names();
}

#[test]
fn transfer_under_name_of_values_that_wait_is_refused() {
    let env = TestEnv::new();
    let (mut pipe, mut queue) = (
        pipe::Options::<[u64; 3]>::new().directory(env.names()).sender("pipe").unwrap(),
        queue::Options::<u64>::new().directory(env.names()).sender("queue").unwrap(),
    );
    pipe.send([1, 2, 3]).unwrap();
    queue.send(7).unwrap();
    pipe.abandon().unwrap();
    queue.abandon().unwrap();
    for command in ["send", "recv"] {
        env.run(&[command, "pipe", "/dev/null"]).assert_exit(1, "aligned to 8");
        env.run(&[command, "queue", "/dev/null", "--queue"]).assert_exit(1, "in which 1 wait");
        env.run(&[command, "queue", "/dev/null"]).assert_exit(1, "`tombolo rm`");
    }
    env.run(&["doctor"]).assert_exit(0, "");
    let mut pipe = pipe::Options::<[u64; 3]>::new().directory(env.names()).receiver("pipe").unwrap();
    let mut queue = queue::Options::<u64>::new().directory(env.names()).receiver("queue").unwrap();
    assert_eq!((pipe.recv(), queue.recv()), (Ok([1, 2, 3]), Ok(7)));
}

#[test]
fn transfer_under_name_of_namespace_is_refused() {
    let env = TestEnv::new();
    let output = env.file("output", b"precious");
    let output = output.to_str().unwrap();
    let process = spawn_member(&env, "", 1);
    let assert_refused = || {
        for (expected, more) in [("a pipe", &[][..]), ("a queue", &["--queue"])] {
            for command in [["send", "market", "/dev/null"], ["recv", "market", output]] {
                let message =
                    format!("found a namespace, expected {expected}; see what is in it with `tombolo inspect`");
                env.run(&[&command[..], more].concat()).assert_exit(1, &message);
            }
        }
        assert_eq!(fs::read(output).unwrap(), b"precious");
    };
    assert_refused();
    process.kill();
    assert_refused();
    assert_eq!(object(&market(&env), "ready")["value"], "1", "the namespace is unchanged");
    env.run(&["rm", "market"]).assert_exit(0, "");
    env.assert_no_names();
}

#[test]
fn namespace_rm_force_frees_name_and_members_keep_memory() {
    let env = TestEnv::new();
    let process = spawn_member(&env, "book", 1);
    env.run(&["rm", "market"]).assert_exit(1, &format!("found process {} using it", process.pid()));
    env.run(&["rm", "market", "--force"]).assert_exit(0, "");
    env.assert_no_names();
    let next = spawn_member(&env, "book", 1); // of a new namespace, whose book is free
    process.finish();
    assert_eq!(object(&market(&env), "book")["holder"], holder(next.pid(), "alive"));
    next.finish();
    env.assert_no_names();
}

#[test]
fn namespace_created_objects_are_shown_removed_and_cleaned_up() {
    let env = TestEnv::new();
    let plan = Namespace::builder().directory(env.names());
    let market = plan.open("market").unwrap();
    let orders = market.create("orders", Spec::queue::<u64>(16)).unwrap();
    market.create("price", Spec::value(101.25_f64)).unwrap();
    let region = env.json(&["inspect", "market", "--json"]);
    assert_eq!(region["capacity"], json!(2));
    assert_eq!(object(&region, "price")["value"], json!("101.25"));
    env.run(&["inspect", "market"]).assert_shows("orders");
    assert_eq!(env.names_json().as_array().unwrap().len(), 1);

    env.run(&["rm", "market/orders"]).assert_exit(1, "using it");
    env.run(&["rm", "market/nothing"]).assert_exit(1, "nothing");
    env.run(&["rm", "market/orders", "--force"]).assert_exit(0, "");
    env.run(&["rm", "market/price"]).assert_exit(0, "");
    assert!(market.names().unwrap().is_empty());
    drop((orders, market));
    env.assert_no_names();

    let market = plan.open("market").unwrap();
    market.create("price", Spec::value(101.25_f64)).unwrap();
    fs::remove_file(env.name_path("market")).unwrap();
    drop(market);
    env.run(&["doctor", "--dry-run"]).assert_exit(0, "");
    assert_eq!(fs::read_dir(env.names()).unwrap().count(), 1);
    env.run(&["doctor"]).assert_shows("objects of 1 namespace that is gone: removed");
    assert_eq!(fs::read_dir(env.names()).unwrap().count(), 0);
}
