//! `tombolo demo`.

mod common;

use common::{TestEnv, random_bytes};
use serde_json::json;

/// Makes the demo short.
const FEW: [&str; 6] = ["--mib", "4", "--messages", "20000", "--round-trips", "2000"];

#[test]
fn demo_checks_every_byte_and_reports() {
    let env = TestEnv::new();
    let file = env.file("data", &random_bytes(1_500_001));
    let file = file.to_str().unwrap();

    let found = env.json(&[&["demo", file, "--json"][..], &FEW].concat());
    assert_eq!(found["verified"], true);
    assert_eq!(found["problems"], json!([]));
    assert_eq!(found["file_len"], 1_500_001);
    assert_eq!(found["times"], 3);
    assert_eq!(found["tombolo"]["bytes"], 4_500_003);
    assert_eq!(found["tombolo"]["messages"], 20000);
    assert_eq!(found["tombolo"]["round_trips"], 2000);
    assert_eq!(found["pipe"]["messages"], 2000);
    assert!(found["tombolo"]["latency_ns"]["p50"].as_u64() > Some(0));

    let report = env.run(&[&["demo", file][..], &FEW].concat());
    report.assert_exit(0, "");
    report.assert_shows("GiB/s");
    report.assert_shows("verified:");
    env.assert_no_names();
}

#[test]
fn demo_with_empty_file_succeeds() {
    let env = TestEnv::new();
    let empty = env.file("empty", b"");
    let report = env.run(&[&["demo", empty.to_str().unwrap()][..], &FEW].concat());
    report.assert_exit(0, "");
    report.assert_shows("verified:");
    env.assert_no_names();
}

#[test]
fn demo_with_missing_file_exits_1() {
    let env = TestEnv::new();
    env.run(&["demo", "/nonexistent"]).assert_exit(1, "cannot read /nonexistent");
    env.assert_no_names();
}
