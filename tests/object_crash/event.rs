//! `Event`: waiting and setting are cut off.

use std::thread;

use crate::common::WAIT_CALLS;
use crate::objects::event_of;
use crate::sweeps::{sweep_beside_sleeper, sweep_wait};

#[test]
fn event_wait_killed_set_wakes_others() {
    let swept = sweep_wait(
        |plan| plan.event("event"),
        |survivor| event_of(survivor).clear().unwrap(),
        |namespace, patience| event_of(namespace).wait_timeout(patience).is_ok(),
        |_, ()| {},
        |namespace| {
            let event = event_of(namespace);
            thread::scope(|scope| {
                scope.spawn(|| event.set().unwrap());
                event.wait().unwrap();
            });
            event.clear().unwrap();
        },
    );
    swept.covers(WAIT_CALLS, 1);
}

#[test]
fn event_set_killed_sleeper_is_woken() {
    let swept = sweep_beside_sleeper(
        |plan| plan.event("event"),
        |namespace| event_of(namespace).wait().unwrap(),
        |namespace| {
            let event = event_of(namespace);
            move || event.set().unwrap()
        },
        |survivor, _| {
            let event = event_of(survivor);
            if !event.is_set() {
                event.set().unwrap();
            }
        },
        |namespace| event_of(namespace).wait().unwrap(),
    );
    swept.covers(1, 2);
}
