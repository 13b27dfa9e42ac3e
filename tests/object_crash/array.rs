//! `Array`: stores and sections are cut off.

use std::fmt::Debug;

use bytemuck::Pod;
use tombolo::Shareable;
use tombolo::sync::Array;

use crate::common::{Pair, guard_and_death, pair};
use crate::sweep::SweepCounts;
use crate::sweeps::sweep_object;

/// The victim replaces elements 1 to 6 of eight with `operation`.
fn sweep_replace<T: Pod + Shareable + PartialEq + Debug>(
    old: T,
    new: T,
    operation: impl Fn(&Array<T>, &[T]),
) -> SweepCounts {
    sweep_object(
        |plan| plan.array("array", &[old; 8]),
        |namespace| {
            let array = namespace.array("array").unwrap();
            let operation = &operation;
            move || operation(&array, &[new; 6])
        },
        |namespace, crash| {
            let array = namespace.array::<T>("array").unwrap();
            let held = crash.held("array");
            let found = array.snapshot().unwrap(); // takes the lock itself, and leaves `OwnerDied` to the next section
            let count = found.iter().filter(|&element| *element == new).count();
            let mut expected = vec![old; 8];
            expected[1..=count].fill(new);
            assert_eq!(found, expected, "from the first on, each whole");
            assert!(held || count == 0 || count == 6, "{count} elements without the lock");
            let (section, died) = guard_and_death(array.lock());
            assert_eq!(died, held);
            assert_eq!(section.to_vec().unwrap(), found);
        },
        |namespace| {
            let array = namespace.array::<T>("array").unwrap();
            let mut section = array.lock().unwrap();
            section.set(7, new).unwrap();
            section.store_from(0, &[old; 7]).unwrap();
            drop(section);
            array.set(7, old).unwrap();
            assert_eq!(array.snapshot().unwrap(), [old; 8]);
        },
    )
}

/// Elements narrower than a word: the rest of one word, whole words, part of one.
#[test]
fn array_store_of_narrow_elements_killed_each_is_whole() {
    sweep_replace(1_u32, 2, |array, values| array.store_from(1, values).unwrap()).covers(0, 6);
}

#[test]
fn array_store_of_wide_elements_killed_each_is_whole() {
    sweep_replace(pair(1), pair(2), |array, values| array.store_from(1, values).unwrap()).covers(0, 2 + 6 * 4);
}

#[test]
fn array_section_of_narrow_elements_killed_next_lock_reports_owner_died() {
    let operation = |array: &Array<u64>, values: &[u64]| {
        let mut section = array.lock().unwrap();
        for (index, &value) in (1..).zip(values) {
            section.set(index, value).unwrap();
        }
    };
    sweep_replace(1, 2, operation).covers(0, 8);
}

#[test]
fn array_section_of_wide_elements_killed_next_lock_reports_owner_died() {
    let operation = |array: &Array<Pair>, values: &[Pair]| {
        let mut section = array.lock().unwrap();
        section.store_from(1, &values[..5]).unwrap();
        section.set(6, values[5]).unwrap();
    };
    sweep_replace(pair(1), pair(2), operation).covers(0, 2 + 6 * 4);
}
