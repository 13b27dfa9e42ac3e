//! Elements: what each operation returns, and what is there then.

use tombolo::collections::{List, ListError, list};
use tombolo::{ErrorKind, Namespace, Shareable, Spec};

use crate::support::{Random, TestDir};

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Record {
    name: [u8; 15],
    is_new: bool,
    score: u32,
}

fn record(number: u32) -> Record {
    Record { name: [number as u8; 15], is_new: number % 2 == 1, score: number }
}

fn list<T: Shareable>(max_length: usize) -> List<T> {
    List::new(&list::Options::new().max_length(max_length)).unwrap()
}

#[test]
fn list_operation_returns_what_was_there() {
    let list = list::<u64>(10);
    assert_eq!((list.pop(), list.get(0), list.is_empty(), list.to_vec()), (Ok(None), Ok(None), Ok(true), Ok(vec![])));
    assert_eq!((list.push(&1), list.extend_from_slice(&[2, 3, 4])), (Ok(()), Ok(())));
    assert_eq!((list.get(0), list.get(3), list.get(4), list.len()), (Ok(Some(1)), Ok(Some(4)), Ok(None), Ok(4)));
    assert_eq!((list.insert(0, &0), list.insert(5, &5), list.set(1, &10)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(list.to_vec(), Ok(vec![0, 10, 2, 3, 4, 5]));
    assert_eq!((list.remove(1), list.pop(), list.update(0, |first| first + 7)), (Ok(10), Ok(Some(5)), Ok(())));
    assert_eq!(list.iter().unwrap().collect::<Vec<_>>(), [7, 2, 3, 4]);
    assert_eq!((list.truncate(9), list.truncate(2), list.len()), (Ok(()), Ok(()), Ok(2)));
    assert_eq!((list.extend_from_slice::<u64>(&[]), list.clear(), list.is_empty()), (Ok(()), Ok(()), Ok(true)));
    assert_eq!((list.max_length(), list.push(&8), list.to_vec()), (10, Ok(()), Ok(vec![8])));
}

#[test]
fn list_index_outside_is_refused() {
    let list = list::<u8>(10);
    list.extend_from_slice(&[1, 2, 3]).unwrap();
    for index in [3, 4, usize::MAX] {
        let refused = ListError::OutOfBounds { index, length: 3 };
        assert_eq!((list.set(index, &0), list.update(index, |_| 0)), (Err(refused), Err(refused)));
        assert_eq!((list.remove(index), list.get(index)), (Err(refused), Ok(None)));
        assert_eq!(list.load_into(index, &mut [0; 2]), Ok(0));
    }
    assert_eq!(list.insert(4, &0), Err(ListError::OutOfBounds { index: 4, length: 3 }));
    let text = list.remove(7).unwrap_err().to_string();
    assert!(text.contains("index 7") && text.contains("3 elements"), "{text}");
    assert_eq!(list.to_vec(), Ok(vec![1, 2, 3]));
}

#[test]
fn list_full_refuses_more_and_changes_what_is_there() {
    let list = list::<Record>(5);
    let all: Vec<_> = (0..5).map(record).collect();
    let full = |length| Err(ListError::Full { length, limit: 5 });
    assert_eq!(list.extend_from_slice(&[record(0); 6]), full(6));
    assert_eq!(list.extend_from_slice(&all), Ok(()));
    assert_eq!((list.push(&record(5)), list.insert(2, &record(5))), (full(6), full(6)));
    assert_eq!(list.extend_from_slice(&all), full(10));
    let text = list.push(&record(5)).unwrap_err().to_string();
    assert!(["6 elements", "at most 5", "remove some"].iter().all(|part| text.contains(part)), "{text}");
    assert_eq!(list.to_vec(), Ok(all));
    assert_eq!((list.set(4, &record(9)), list.remove(0), list.push(&record(7))), (Ok(()), Ok(record(0)), Ok(())));
    let left = [1, 2, 3, 9, 7].map(record);
    assert_eq!(list.to_vec(), Ok(left.to_vec()));
}

#[test]
fn list_load_into_copies_what_is_there() {
    let list = list::<Record>(100);
    let all: Vec<_> = (0..100).map(record).collect();
    list.extend_from_slice(&all).unwrap();
    for (start, count) in [(0, 100), (0, 7), (13, 60), (99, 1), (95, 5), (100, 0)] {
        let mut values = vec![record(200); count + 3];
        let copied = list.load_into(start, &mut values).unwrap();
        assert_eq!(copied, (100 - start).min(count + 3));
        assert_eq!(values[..copied], all[start..start + copied]);
        assert!(values[copied..].iter().all(|value| *value == record(200)));
    }
}

/// As a list of std, with elements of several sizes, and lists of several lengths.
#[test]
fn list_changed_at_random_is_as_a_vec() {
    fn check<T: Shareable + Copy + PartialEq + std::fmt::Debug>(max_length: usize, new: impl Fn(u32) -> T) {
        let (list, mut model, mut random) = (list::<T>(max_length), Vec::new(), Random(max_length as u64));
        for step in 0..2000 {
            let length = model.len();
            let (value, at) = (new(step), random.below(length as u64 + 1) as usize);
            match random.below(8) {
                0 | 1 if length < max_length => {
                    list.insert(at, &value).unwrap();
                    model.insert(at, value);
                }
                2 if length < max_length => {
                    list.push(&value).unwrap();
                    model.push(value);
                }
                3 => {
                    let values = vec![value; random.below((max_length - length) as u64 + 1) as usize];
                    list.extend_from_slice(&values).unwrap();
                    model.extend(values);
                }
                4 => assert_eq!(list.pop().unwrap(), model.pop()),
                5 if at < length => assert_eq!(list.remove(at).unwrap(), model.remove(at)),
                6 if at < length => {
                    list.set(at, &value).unwrap();
                    model[at] = value;
                }
                7 if random.below(10) == 0 => {
                    list.truncate(at).unwrap();
                    model.truncate(at);
                }
                _ => assert_eq!(list.get(at).unwrap(), model.get(at).copied()),
            }
            if step % 10 == 0 {
                assert_eq!(list.to_vec().unwrap(), model);
            }
        }
    }
    for max_length in [1, 2, 3, 17, 100, 1000] {
        check(max_length, |number| number as u8);
        check(max_length, u64::from);
        check(max_length, record);
        check(max_length, |number| [number; 100]);
    }
}

#[test]
fn list_options_that_cannot_be_are_refused() {
    let refused = |max_length| List::new(&list::Options::<u64>::new().max_length(max_length)).unwrap_err();
    for max_length in [0, 1 << 40, usize::MAX] {
        let error = refused(max_length);
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
    let error = List::new(&list::Options::<()>::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    // More than can be mapped.
    let error = List::new(&list::Options::<[u64; 1 << 20]>::new().max_length(1 << 30)).unwrap_err();
    assert!(error.to_string().contains("namespace"), "{error}");
}

#[test]
fn list_of_another_type_is_refused() {
    let test_dir = TestDir::new();
    let options = list::Options::<u64>::new().max_length(7);
    let plan = Namespace::builder().list("list", &options).directory(test_dir.names());
    let namespace = plan.create_new().open("name").unwrap();
    let error = namespace.list::<f64>("list").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    assert!(error.to_string().contains("a list of"), "{error}");
    assert_eq!(namespace.map::<u64, u64>("list").unwrap_err().kind(), ErrorKind::WrongType);
    let list = namespace.list::<u64>("list").unwrap();
    assert_eq!((list.max_length(), list.push(&1)), (7, Ok(())));
    // Created later, with another length.
    let later = namespace.create("later", Spec::list(&list::Options::<u8>::new().max_length(3))).unwrap();
    later.extend_from_slice(&[1, 2, 3]).unwrap();
    assert_eq!(namespace.list::<u8>("later").unwrap().to_vec(), Ok(vec![1, 2, 3]));
}
