//! Requests and replies, as `ls`, `inspect` and `doctor` show and handle them.

mod common;

use std::thread;

use common::{TestEnv, count};
use serde_json::json;
use tombolo::Endpoint;
use tombolo::rpc::Options;

#[test]
fn requests_are_shown_with_those_that_are_executed() {
    let env = TestEnv::new();
    let options = Options::<u64, [u8; 3]>::new().max_callers(5).directory(env.names());
    let (mut first, mut second) = (options.caller("squares").unwrap(), options.caller("squares").unwrap());
    let responder = thread::scope(|scope| {
        // Here, so that the callers learn of it if the test fails.
        let mut responder = options.responder("squares").unwrap();
        let calling = [scope.spawn(|| first.call(1)), scope.spawn(|| second.call(2))];
        let request = responder.recv().unwrap();
        env.wait_for_state("squares", |region| count(region, "queued") == 1);

        let region = env.json(&["inspect", "squares", "--json"]);
        assert_eq!((&region["kind"], &region["unit"]), (&json!("rpc"), &json!("requests")));
        assert_eq!((&region["capacity"], &region["abandoned"]), (&json!(5), &json!(false)));
        assert_eq!(region["directions"], json!([{"from": "callers", "to": "responders", "sent": 2, "queued": 1}]));
        let pid = std::process::id();
        let mut calls = region["rpc"]["calls"].as_array().unwrap().clone();
        calls.sort_by_key(|call| call["responder"].is_null());
        assert_eq!(calls, [json!({"caller": pid, "responder": pid}), json!({"caller": pid, "responder": null})]);
        assert_eq!(region["rpc"]["max_responders"], 4);
        let roles: Vec<_> = region["participants"].as_array().unwrap().iter().map(|user| &user["part"]).collect();
        assert_eq!(roles, ["caller", "caller", "responder"]);

        env.run(&["ls"]).assert_shows("1 request waiting, 1 being executed");
        let details = env.run(&["inspect", "squares"]);
        for line in [
            "callers      up to 5\n",
            "responders   up to 4\n",
            "executed now 1 request\n",
            "callers      to responders: 2 requests sent, 1 request queued\n",
            &format!("responder    alive, process {pid}, joined once\n"),
        ] {
            details.assert_shows(line);
        }
        env.run(&["doctor"]).assert_shows("squares: left alone");

        request.reply([0; 3]).unwrap();
        responder.recv().unwrap().reply([0; 3]).unwrap();
        for call in calling {
            assert_eq!(call.join().unwrap(), Ok([0; 3]));
        }
        responder
    });
    env.run(&["ls"]).assert_shows("0 requests waiting");
    // The last process dies: nobody waits for anything there.
    drop((first, second));
    responder.abandon().unwrap();
    env.run(&["doctor"]).assert_shows("squares: removed");
    env.assert_no_names();
}

#[test]
fn requests_under_a_name_are_no_queue() {
    let env = TestEnv::new();
    let _caller = Options::<u64, u64>::new().directory(env.names()).caller("name").unwrap();
    for arguments in [&["send", "name"][..], &["recv", "name"], &["pub", "name"], &["recv", "--queue", "name"]] {
        env.run(arguments).assert_exit(1, "place for requests");
    }
}
