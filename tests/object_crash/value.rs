//! `Value`: stores are cut off.

use std::fmt::Debug;

use bytemuck::Pod;
use tombolo::Shareable;
use tombolo::sync::Value;

use crate::common::{LONG, Pair, number, pair};
use crate::objects::value_of;
use crate::sweep::SweepCounts;
use crate::sweeps::{sweep_beside_sleeper, sweep_object};

/// The victim stores each of `versions`, of which the first is there before.
fn sweep_store<T: Pod + Shareable + PartialEq + Debug>(versions: &[T], operation: impl Fn(&Value<T>)) -> SweepCounts {
    sweep_object(
        |plan| plan.value("value", versions[0]),
        |namespace| {
            let value = namespace.value("value").unwrap();
            let operation = &operation;
            move || operation(&value)
        },
        |namespace, _| {
            let value = namespace.value::<T>("value").unwrap();
            assert_eq!(value.load().unwrap(), versions[value.version() as usize], "torn");
            value.store(&versions[0]).unwrap();
            assert_eq!(value.load().unwrap(), versions[0]);
        },
        |namespace| {
            let value = namespace.value::<T>("value").unwrap();
            for version in versions {
                value.store(version).unwrap();
                assert_eq!(value.update(|_| {}), Ok(*version));
            }
            value.writer().unwrap().store(&versions[0]).unwrap();
            assert_eq!(value.load().unwrap(), versions[0]);
        },
    )
}

/// raw/seqlock.rs ns-value-1, -2, raw/robust_lock.rs ns-lock-1, -2.
#[test]
fn value_store_of_64_bytes_killed_is_old_or_new() {
    sweep_store(&[[1_u64; 8], [2; 8]], |value| value.store(&[2; 8]).unwrap()).covers(0, 12);
}

#[test]
fn value_store_of_8_bytes_killed_is_old_or_new() {
    sweep_store(&[1_u64, 2], |value| value.store(&2).unwrap()).covers(0, 5);
}

#[test]
fn value_update_killed_is_old_or_new() {
    sweep_store(&[[1_u64; 8], [2; 8]], |value| assert!(value.update(|value| *value = [2; 8]).is_ok())).covers(0, 12);
}

#[test]
fn value_writer_stores_killed_is_one_of_them() {
    let operation = |value: &Value<Pair>| {
        let mut writer = value.writer().unwrap();
        writer.store(&pair(2)).unwrap();
        writer.store(&pair(3)).unwrap();
    };
    sweep_store(&[pair(1), pair(2), pair(3)], operation).covers(0, 10);
}

/// object/value.rs, raw/event_count.rs: a waiter sees the change even if the writer dies before it
/// notifies.
#[test]
fn value_store_killed_waiter_sees_change() {
    let swept = sweep_beside_sleeper(
        |plan| plan.value("value", pair(0)),
        |namespace| {
            let value = value_of(namespace);
            assert_eq!(number(value.wait_for_change(LONG).unwrap()), 1);
        },
        |namespace| {
            let value = value_of(namespace);
            move || value.store(&pair(1)).unwrap()
        },
        |survivor, _| {
            let value = value_of(survivor);
            if number(value.load().unwrap()) == 0 {
                value.store(&pair(1)).unwrap();
            }
        },
        |namespace| value_of(namespace).store(&pair(1)).unwrap(),
    );
    swept.covers(1, 7);
}
