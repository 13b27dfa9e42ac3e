//! Another process writes bytes that are no value of the receiver's type.

use std::path::Path;

use tombolo::sync::{LockError, SyncError};
use tombolo::{Namespace, RecvError, Shareable, pipe, queue};

use crate::support::{TestDir, start};

const NAME: &str = "name";

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(u8)]
enum Side {
    Buy = 1,
    Sell = 2,
}

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Order {
    letter: char,
    flags: [bool; 3],
    side: Side,
}

const ORDER: Order = Order { letter: 'x', flags: [true, false, true], side: Side::Sell };

/// The bits of an order.
fn bits(letter: u32, flags: [u8; 3], side: u8) -> [u32; 2] {
    [letter, u32::from_ne_bytes([flags[0], flags[1], flags[2], side])]
}

fn valid() -> [u32; 2] {
    bits('x'.into(), [1, 0, 1], 2)
}

/// No values: a surrogate, a number beyond Unicode, bytes that are no `bool`, numbers that are no
/// variant.
fn invalid() -> [[u32; 2]; 6] {
    [
        bits(0xd800, [1, 0, 1], 2),
        bits(0x11_0000, [1, 0, 1], 2),
        bits('x'.into(), [1, 2, 1], 2),
        bits('x'.into(), [1, 0, 255], 2),
        bits('x'.into(), [1, 0, 1], 0),
        bits('x'.into(), [1, 0, 1], 3),
    ]
}

/// Sends each invalid order with a valid one behind it, as a process that ignores tags.
pub fn write_pipe(arguments: &[String]) {
    let options = pipe::Options::<[u32; 2]>::new().type_tag("").directory(&arguments[0]).must_exist();
    let mut tx = options.sender(NAME).unwrap();
    for order in invalid() {
        tx.send_many(&[order, valid()]).unwrap();
    }
}

pub fn write_queue(arguments: &[String]) {
    let options = queue::Options::<[u32; 2]>::new().type_tag("").directory(&arguments[0]).must_exist();
    let mut tx = options.sender(NAME).unwrap();
    for order in invalid() {
        tx.send_many(&[order, valid()]).unwrap();
    }
}

fn run(test_dir: &TestDir, role: &str, more: &[&str]) {
    let directory = test_dir.names();
    let mut arguments = vec![directory.to_str().unwrap()];
    arguments.extend(more);
    start(role, &arguments).finish();
}

#[test]
fn pipe_receiver_of_invalid_value_returns_invalid_value_and_goes_on() {
    let test_dir = TestDir::new();
    let mut rx = pipe::Options::<Order>::new().directory(test_dir.names()).receiver(NAME).unwrap();
    run(&test_dir, "write_pipe", &[]);
    for _ in 0..2 {
        assert_eq!(rx.recv(), Err(RecvError::InvalidValue));
        assert_eq!(rx.recv(), Ok(ORDER));
    }
    let mut order = Order { letter: 'y', ..ORDER };
    assert_eq!(rx.recv_into(&mut order), Err(RecvError::InvalidValue));
    assert_eq!(order.letter, 'y');
    assert_eq!(rx.try_recv(), Ok(ORDER));
    // A batch ends before an invalid value, which the next call reports.
    let mut orders = [order; 8];
    assert_eq!(rx.recv_many(&mut orders), Err(RecvError::InvalidValue));
    assert_eq!(rx.recv_many(&mut orders), Ok(1));
    assert_eq!(rx.recv_many(&mut orders), Err(RecvError::InvalidValue));
    assert_eq!((rx.recv_many(&mut orders), orders[0], orders[1].letter), (Ok(1), ORDER, 'y'));
    let mut rest = rx.iter();
    assert_eq!(rest.next(), Some(Err(RecvError::InvalidValue)));
    assert_eq!(rx.recv(), Ok(ORDER));
    assert_eq!(rx.recv(), Err(RecvError::Closed));
}

#[test]
fn queue_receiver_of_invalid_value_returns_invalid_value_and_goes_on() {
    let test_dir = TestDir::new();
    let mut queue = queue::Options::<Order>::new().directory(test_dir.names()).open(NAME).unwrap();
    run(&test_dir, "write_queue", &[]);
    for _ in 0..2 {
        assert_eq!(queue.recv(), Err(RecvError::InvalidValue));
        assert_eq!(queue.try_recv(), Ok(ORDER));
    }
    let mut orders = [ORDER; 1];
    assert_eq!(queue.recv_many(&mut orders), Err(RecvError::InvalidValue));
    let mut orders = [Order { letter: 'y', ..ORDER }; 4];
    assert_eq!(queue.recv_many(&mut orders), Ok(2));
    assert_eq!((orders[..2].to_vec(), orders[2].letter), (vec![ORDER; 2], 'y'));
    assert_eq!(queue.stats().dropped, 5);
    // Invalid values are no tasks.
    for _ in 0..4 {
        queue.task_done().unwrap();
    }
    assert!(queue.task_done().is_err());
}

/// Overwrites the objects with the invalid order of that number, or the valid one.
pub fn store_bytes(arguments: &[String]) {
    let namespace = Namespace::builder().directory(&arguments[0]).must_exist().open(NAME).unwrap().type_tag("");
    let order = arguments[1].parse().map_or(valid(), |index: usize| invalid()[index]);
    namespace.value("value").unwrap().store(&order).unwrap();
    namespace.array("array").unwrap().set(1, order).unwrap();
    *namespace.mutex("mutex").unwrap().lock().unwrap() = order;
    namespace.reentrant_mutex("reentrant").unwrap().lock().unwrap().set(&order).unwrap();
    *namespace.rw_lock("rw lock").unwrap().write().unwrap() = order;
}

fn objects(directory: &Path) -> Namespace {
    let plan = Namespace::builder().value("value", ORDER).array("array", &[ORDER; 3]).mutex("mutex", ORDER);
    plan.reentrant_mutex("reentrant", ORDER).rw_lock("rw lock", ORDER).directory(directory).open(NAME).unwrap()
}

#[test]
fn object_with_invalid_value_returns_invalid_value_until_it_is_replaced() {
    let test_dir = TestDir::new();
    let namespace = objects(&test_dir.names());
    let (value, array) = (namespace.value::<Order>("value").unwrap(), namespace.array::<Order>("array").unwrap());
    let (mutex, rw_lock) = (namespace.mutex::<Order>("mutex").unwrap(), namespace.rw_lock::<Order>("rw lock").unwrap());
    let reentrant = namespace.reentrant_mutex::<Order>("reentrant").unwrap();
    let invalid_value = SyncError::InvalidValue;
    for index in 0..invalid().len() {
        run(&test_dir, "store_bytes", &[&index.to_string()]);
        let mut order = ORDER;
        assert_eq!(value.load(), Err(invalid_value));
        assert_eq!(value.load_into(&mut order), Err(invalid_value));
        assert_eq!(value.update(|order| order.side = Side::Buy), Err(invalid_value));
        assert_eq!((array.get(0), array.get(1)), (Ok(ORDER), Err(invalid_value)));
        assert_eq!(array.to_vec(), Err(invalid_value));
        assert_eq!(array.load_into(0, &mut [ORDER; 3]), Err(invalid_value));
        assert_eq!(array.iter().count(), 1);
        assert!(matches!(mutex.lock(), Err(LockError::Failed(SyncError::InvalidValue))));
        assert!(!mutex.is_locked());
        assert!(matches!(rw_lock.read(), Err(LockError::Failed(SyncError::InvalidValue))));
        assert!(matches!(rw_lock.write(), Err(LockError::Failed(SyncError::InvalidValue))));
        assert_eq!(reentrant.lock().unwrap().get(), Err(invalid_value));
        value.store(&ORDER).unwrap();
        array.set(1, ORDER).unwrap();
        assert_eq!((value.load(), array.to_vec()), (Ok(ORDER), Ok(vec![ORDER; 3])));
    }
    run(&test_dir, "store_bytes", &["valid"]);
    assert_eq!((*mutex.lock().unwrap(), *rw_lock.read().unwrap()), (ORDER, ORDER));
    assert_eq!(reentrant.lock().unwrap().get(), Ok(ORDER));
}

#[test]
fn array_of_zeros_that_are_no_value_returns_invalid_value_until_set() {
    let _watchdog = TestDir::new();
    let namespace = Namespace::builder().array_zeroed::<Side>("sides", 9).create().unwrap();
    let sides = namespace.array::<Side>("sides").unwrap();
    assert_eq!(sides.get(8), Err(SyncError::InvalidValue));
    sides.store_from(0, &[Side::Buy; 9]).unwrap();
    sides.set(8, Side::Sell).unwrap();
    assert_eq!((sides.get(7), sides.get(8)), (Ok(Side::Buy), Ok(Side::Sell)));
}
