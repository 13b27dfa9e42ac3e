//! `List`: changes are cut off.

use tombolo::Namespace;
use tombolo::collections::{List, ListError, list};

use crate::common::CrashState;
use crate::sweeps::{sweep_beside_sleeper, sweep_object};

type Numbers = [u64; 3];

const LENGTH: usize = 8;

/// Eight elements, in chunks of two.
fn options() -> list::Options<Numbers> {
    list::Options::new().max_length(LENGTH)
}

fn numbers(number: u64) -> Numbers {
    [number; 3]
}

fn list(namespace: &Namespace) -> List<Numbers> {
    namespace.list("list").unwrap()
}

fn all(numbers_of: impl IntoIterator<Item = u64>) -> Vec<Numbers> {
    numbers_of.into_iter().map(numbers).collect()
}

/// One place is left.
fn filled(namespace: &Namespace) -> List<Numbers> {
    let list = list(namespace);
    list.extend_from_slice(&all(0..7)).unwrap();
    list
}

/// Every place can be used, several times.
fn works(namespace: &Namespace) {
    let list = list(namespace);
    for _ in 0..3 {
        list.clear().unwrap();
        list.extend_from_slice(&all(0..8)).unwrap();
        assert_eq!(list.push(&numbers(9)), Err(ListError::Full { length: 9, limit: LENGTH }));
        (0..8).for_each(|number| assert_eq!(list.remove(0), Ok(numbers(number))));
        (0..8).for_each(|number| list.insert(0, &numbers(number)).unwrap());
    }
}

/// The elements are those before the change or those after it.
fn sweep_change(change: impl Fn(&List<Numbers>) + Clone, after: Vec<u64>, changes: usize) {
    let after = all(after);
    let swept = sweep_object(
        |plan| plan.list("list", &options()),
        |namespace| {
            let (list, change) = (filled(namespace), change.clone());
            move || change(&list)
        },
        |namespace, _: &CrashState| {
            let found = list(namespace).to_vec().unwrap();
            assert!(found == all(0..7) || found == after, "{found:?}");
        },
        works,
    );
    swept.covers(0, changes);
}

/// raw/list.rs ns-list-1, ns-list-2.
#[test]
fn list_insert_killed_list_is_whole() {
    sweep_change(|list| list.insert(3, &numbers(9)).unwrap(), vec![0, 1, 2, 9, 3, 4, 5, 6], 10);
}

#[test]
fn list_remove_killed_list_is_whole() {
    sweep_change(|list| _ = list.remove(2).unwrap(), vec![0, 1, 3, 4, 5, 6], 10);
}

#[test]
fn list_truncate_killed_list_is_whole() {
    sweep_change(|list| list.truncate(3).unwrap(), vec![0, 1, 2], 10);
}

/// A wake-up that died with its process: the sleeper finds the element by itself.
#[test]
fn list_push_killed_sleeper_sees_element() {
    let swept = sweep_beside_sleeper(
        |plan| plan.list("list", &options()),
        |namespace| _ = list(namespace).wait_for(0, crate::common::LONG).unwrap(),
        |namespace| {
            let list = list(namespace);
            move || list.push(&numbers(1)).unwrap()
        },
        |survivor, _| list(survivor).push(&numbers(1)).unwrap(),
        works,
    );
    swept.covers(1, 3);
}
