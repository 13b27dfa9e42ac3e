//! The checker itself: it accepts what is linearizable, and refuses what is not.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::journal::{Journal, now};
use crate::linearizable::{Call, Model, check};
use crate::list::{Change, Elements, Seen};
use crate::map::{Found, Operation, Value};
use crate::support::{Random, TestDir};

/// A call that begins and ends at these times.
fn call<O, R>(began: u64, ended: u64, operation: O, outcome: R) -> Call<O, R> {
    Call { operation, outcome: Some(outcome), began, ended }
}

/// A call of a process that is dead at the second time.
fn killed<O, R>(began: u64, death: u64, operation: O) -> Call<O, R> {
    Call { operation, outcome: None, began, ended: death }
}

type MapCall = Call<Operation, Found>;

fn get(began: u64, ended: u64, value: Option<u64>) -> MapCall {
    call(began, ended, Operation::Get, Found::Value(value))
}

fn insert(began: u64, ended: u64, value: u64, is_new: bool) -> MapCall {
    call(began, ended, Operation::Insert(value), Found::IsNew(is_new))
}

/// The number of the call that cannot be explained.
fn contradiction<M: Model>(initial: M, calls: &[Call<M::Operation, M::Outcome>]) -> Option<usize> {
    check(initial, calls).err().map(|contradiction| contradiction.call)
}

fn of_map(calls: &[MapCall]) -> Option<usize> {
    contradiction(Value(None), calls)
}

#[test]
fn history_in_any_order_that_explains_it_is_accepted() {
    // One after the other.
    assert_eq!(of_map(&[insert(0, 1, 7, true), get(2, 3, Some(7)), insert(4, 5, 8, false), get(6, 7, Some(8))]), None);
    // During an insertion both values may be found, but not the old one after the new one.
    assert_eq!(of_map(&[insert(0, 9, 7, true), get(1, 2, None), get(3, 4, Some(7))]), None);
    assert_eq!(of_map(&[insert(0, 9, 7, true), get(1, 2, Some(7)), get(3, 4, None)]), Some(2));
    // The last one to begin is the first one to happen.
    assert_eq!(of_map(&[insert(0, 9, 1, false), insert(1, 8, 2, false), insert(2, 7, 3, true)]), None);
    // At the same time: either may have been first.
    assert_eq!(of_map(&[insert(0, 5, 7, true), get(5, 6, None)]), None);
}

#[test]
fn history_with_stale_read_is_refused() {
    assert_eq!(of_map(&[insert(0, 1, 7, true), insert(2, 3, 8, false), get(4, 5, Some(7))]), Some(2));
    assert_eq!(of_map(&[insert(0, 1, 7, true), get(2, 3, None)]), Some(1));
    assert_eq!(of_map(&[get(0, 1, Some(7)), insert(2, 3, 7, true)]), Some(0), "before it was there");
}

#[test]
fn history_with_lost_update_is_refused() {
    let add = |began, ended, found, new| call(began, ended, Operation::Add(1), Found::Updated(found, Some(new)));
    assert_eq!(of_map(&[add(0, 5, None, 1), add(1, 6, Some(1), 2), get(7, 8, Some(2))]), None);
    assert_eq!(of_map(&[add(0, 5, None, 1), add(1, 6, None, 1), get(7, 8, Some(1))]), Some(1));
    let exchange = |began, ended, new, found| call(began, ended, Operation::Exchange(None, Some(new)), found);
    let (won, lost) = (Found::Exchanged(Ok(())), |value| Found::Exchanged(Err(value)));
    assert_eq!(of_map(&[exchange(0, 5, 1, won), exchange(1, 6, 2, lost(Some(1)))]), None);
    assert_eq!(of_map(&[exchange(0, 5, 1, won), exchange(1, 6, 2, won)]), Some(1), "two that won");
    assert_eq!(of_map(&[exchange(0, 5, 1, lost(None))]), Some(0), "nobody was faster");
}

#[test]
fn history_with_doubled_append_is_refused() {
    let push = |began, ended, value| call(began, ended, Change::Push(value), Seen::Done);
    let all = |began, ended, found: &[u64]| call(began, ended, Change::ToVec, Seen::All(Elements::of(found)));
    let of_list = |calls: &[_]| contradiction(Elements::default(), calls);
    assert_eq!(of_list(&[push(0, 5, 1), push(1, 6, 2), all(7, 8, &[2, 1]), all(9, 10, &[2, 1])]), None);
    assert_eq!(of_list(&[push(0, 5, 1), push(1, 6, 2), all(7, 8, &[2, 1]), all(9, 10, &[1, 2])]), Some(3));
    assert_eq!(of_list(&[push(0, 1, 1), all(2, 3, &[1, 1])]), Some(1));
    assert_eq!(of_list(&[push(0, 1, 1), push(2, 3, 2), all(4, 5, &[2])]), Some(2), "one is lost");
    let killed_push = || killed(0, 5, Change::Push(1));
    assert_eq!(of_list(&[killed_push(), all(7, 8, &[1])]), None);
    assert_eq!(of_list(&[killed_push(), all(7, 8, &[])]), None);
    assert_eq!(of_list(&[killed_push(), all(7, 8, &[1, 1])]), Some(1));
}

#[test]
fn history_with_value_of_killed_process_that_comes_and_goes_is_refused() {
    let killed = || killed(0, 5, Operation::Insert(7));
    assert_eq!(of_map(&[killed(), get(6, 7, Some(7)), get(8, 9, Some(7))]), None);
    assert_eq!(of_map(&[killed(), get(6, 7, None), get(8, 9, None)]), None);
    assert_eq!(of_map(&[killed(), get(1, 2, None), get(3, 4, Some(7))]), None);
    assert_eq!(of_map(&[killed(), get(6, 7, Some(7)), get(8, 9, None)]), Some(2));
    assert_eq!(of_map(&[killed(), get(6, 7, None), get(8, 9, Some(7))]), Some(2), "after the death");
    assert_eq!(of_map(&[get(0, 1, Some(7)), Call { began: 2, ..killed() }]), Some(0), "before the call");
}

/// Histories that are made by executing the model at a moment within each call.
#[test]
fn history_made_by_the_model_is_accepted_and_with_one_other_outcome_refused() {
    let mut random = Random(5);
    for round in 0..50 {
        let (mut state, mut calls, mut last_change) = (Value(None), Vec::new(), None);
        for number in 1..100 {
            let moment = 100 * number;
            let (began, ended) = (moment - random.below(400).min(moment), moment + random.below(400));
            let operation = Operation::random(&mut random, number, state.0);
            let (after, outcome) = state.apply(&operation);
            if after != state {
                last_change = Some(calls.len());
            }
            state = after;
            calls.push(if number % 10 == 0 {
                killed(began, ended, operation)
            } else {
                call(began, ended, operation, outcome)
            });
        }
        calls.push(get(100_000, 100_001, state.0));
        assert_eq!(of_map(&calls), None, "round {round}");
        assert!(last_change.is_some());
        calls.push(get(100_002, 100_003, Some(u64::MAX)));
        assert_eq!(of_map(&calls), Some(100));
    }
}

/// A value whose updates read and write it in two steps.
#[test]
fn history_recorded_of_object_that_loses_updates_is_refused() {
    let test_dir = TestDir::new();
    let (value, barrier) = (AtomicU64::new(0), Barrier::new(2));
    let add = |journal: &mut Journal<Operation, Found>, is_wrong: bool| {
        journal.record(Operation::Add(3), || {
            barrier.wait();
            let found = if is_wrong {
                let found = value.load(Ordering::SeqCst);
                barrier.wait();
                value.store(found + 3, Ordering::SeqCst);
                found
            } else {
                value.fetch_add(3, Ordering::SeqCst)
            };
            barrier.wait();
            Found::Updated(Some(found), Some(found + 3))
        })
    };
    for (round, is_wrong) in [false, true].into_iter().enumerate() {
        value.store(1, Ordering::SeqCst);
        let mut journals = [0, 1].map(|thread| Journal::at(&test_dir.file(&format!("journal {round} {thread}")), 100));
        thread::scope(|scope| {
            for journal in &mut journals {
                scope.spawn(|| while add(journal, is_wrong) {});
            }
        });
        let calls: Vec<MapCall> = journals.iter().flat_map(|journal| journal.calls(now())).collect();
        assert_eq!(calls.len(), 200);
        assert_eq!(contradiction(Value(Some(1)), &calls).is_some(), is_wrong);
    }
}
