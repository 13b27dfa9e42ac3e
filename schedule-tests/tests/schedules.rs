//! Runs a fixed number of schedules of each model. `./check proof` runs many more, with new seeds.

use std::ops::Range;

use schedule_tests::{MODELS, run};

fn explore(name: &str, seeds: Range<u64>) {
    let model = MODELS.iter().find(|model| model.name == name).expect("a model of that name");
    let totals = run(model, seeds.clone(), false);
    println!("{name}: {totals:?}");
    assert_eq!(totals.schedules, seeds.end - seeds.start);
}

#[test]
fn broadcast_participants_killed_messages_arrive_whole_or_are_counted_missed() {
    explore("broadcast", 0..50_000);
}

#[test]
fn frames_participants_killed_no_frame_is_filled_while_leased_or_lost() {
    explore("broadcast_frames", 0..30_000);
}

#[test]
fn latest_values_participants_killed_each_key_has_no_gap_and_no_repetition() {
    explore("broadcast_latest", 0..30_000);
}

#[test]
fn event_count_random_schedules_lose_no_wake_up() {
    explore("event", 0..50_000);
}

#[test]
fn pipe_owners_killed_messages_arrive_in_order_and_once() {
    explore("pipe", 0..60_000);
}

#[test]
fn pool_participants_killed_blocks_have_one_owner() {
    explore("pool", 0..20_000);
}

#[test]
fn queue_participants_killed_messages_arrive_once_or_are_counted_lost() {
    explore("queue", 0..100_000);
}

#[test]
fn queue_participants_killed_blocks_read_in_place_come_back() {
    explore("queue_in_place", 0..40_000);
}

/// A schedule that found a mutant. It is cheap, and other seeds rarely lead there.
#[test]
fn queue_live_claim_of_another_lap_puts_repair_off() {
    explore("queue", 224_013..224_014);
}

#[test]
fn objects_participants_killed_deaths_are_reported_and_waiters_go_on() {
    explore("objects", 0..60_000);
}
