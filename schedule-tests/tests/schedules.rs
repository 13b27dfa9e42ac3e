//! A fixed number of schedules of each model. `./check proof` runs many more, with new seeds.

use schedule_tests::{MODELS, run};

fn explore(name: &str, seeds: u64) {
    let model = MODELS.iter().find(|model| model.name == name).expect("a model of that name");
    let totals = run(model, 0..seeds, false);
    println!("{name}: {totals:?}");
    assert_eq!(totals.schedules, seeds);
}

#[test]
fn nobody_sleeps_through_a_change_that_an_event_tells_of() {
    explore("event", 50_000);
}

#[test]
fn pipes_deliver_in_order_and_once_over_killed_generations() {
    explore("pipe", 60_000);
}

#[test]
fn places_of_the_pool_belong_to_one_lane_each() {
    explore("pool", 20_000);
}

#[test]
fn queues_deliver_once_or_count_the_loss_and_are_repaired() {
    explore("queue", 100_000);
}

/// Schedules that a mutant was killed by. They cost nothing, and other seeds seldom lead there.
#[test]
fn a_living_claimant_of_another_lap_puts_a_repair_off() {
    let model = MODELS.iter().find(|model| model.name == "queue").expect("a model of that name");
    assert_eq!(run(model, [224_013], false).schedules, 1);
}

#[test]
fn objects_exclude_tell_of_deaths_and_let_nobody_wait_for_ever() {
    explore("objects", 60_000);
}
