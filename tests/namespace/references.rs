//! References: what they lead to, and what a dangling one returns.

use tombolo::sync::{Array, Event, Value};
use tombolo::{ErrorKind, Namespace, Reference, Spec, queue};

use crate::support::TestDir;
use crate::{NAME, alone_with_directory, assert_error, builder, open};

#[test]
fn reference_stored_in_an_object_leads_to_another_one() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let mut orders = namespace.create("orders", Spec::queue::<u64>(4)).unwrap();
    namespace.create("price", Spec::value(1.5_f64)).unwrap();
    let names = ["orders", "price"].map(|name| namespace.reference(name).unwrap());
    let table: Array<Reference> = namespace.create("table", Spec::array(&names)).unwrap();
    namespace.create("root", Spec::value(namespace.reference("table").unwrap())).unwrap();
    orders.send(7).unwrap();
    drop(table);

    let other = open(&test_dir);
    let root: Reference = other.value("root").unwrap().load().unwrap();
    let table: Array<Reference> = root.open(&other).unwrap();
    let mut found: queue::Queue<u64> = table.get(0).unwrap().open(&other).unwrap();
    assert_eq!(found.recv(), Ok(7));
    assert_eq!(table.get(1).unwrap().open::<Value<f64>>(&other).unwrap().load(), Ok(1.5));
    assert_eq!(table.get(1).unwrap().name(), "price");
    assert_error(table.get(1).unwrap().open::<Event>(&other), ErrorKind::WrongType, &["price", "event"]);
}

#[test]
fn reference_to_removed_object_returns_removed() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let held = namespace.create("x", Spec::value(1_u64)).unwrap();
    let reference = namespace.reference("x").unwrap();
    assert_eq!(namespace.reference("x").unwrap(), reference);
    namespace.remove("x").unwrap();
    assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &["\"x\"", "removed"]);

    namespace.create("x", Spec::value(2_u64)).unwrap();
    assert_error(reference.open::<Value<u64>>(&namespace), ErrorKind::Removed, &["\"x\"", "another object"]);
    let next = namespace.reference("x").unwrap();
    assert_ne!(next, reference);
    assert_eq!(next.open::<Value<u64>>(&namespace).unwrap().load(), Ok(2));
    assert_eq!(held.load(), Ok(1));
}

#[test]
fn reference_to_planned_object_leads_to_it() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = builder(&test_dir.names()).value("planned", 1_u64).open(NAME).unwrap();
    let reference = namespace.reference("planned").unwrap();
    assert_eq!(reference.open::<Value<u64>>(&namespace).unwrap().load(), Ok(1));
    assert_error(namespace.reference("x"), ErrorKind::NotFound, &["planned"]);
}

#[test]
fn reference_to_nothing_or_of_other_namespace_is_an_error() {
    let (_alone, test_dir) = alone_with_directory();
    let other_dir = TestDir::new();
    let namespace = open(&test_dir);
    let nothing = Reference::default();
    assert_eq!(nothing.name(), "");
    assert_error(nothing.open::<Event>(&namespace), ErrorKind::NotFound, &[]);

    namespace.create("x", Spec::event()).unwrap();
    let reference = namespace.reference("x").unwrap();
    let other = open(&other_dir);
    assert_error(reference.open::<Event>(&other), ErrorKind::Removed, &["\"x\""]);
    other.create("x", Spec::event()).unwrap();
    assert_error(reference.open::<Event>(&other), ErrorKind::Removed, &["\"x\""]);
    let damaged: Reference = reference_of_bits([u64::MAX; 9]);
    assert_error(damaged.open::<Event>(&namespace), ErrorKind::Removed, &[]);
}

/// A reference whose bits another process wrote.
fn reference_of_bits(bits: [u64; 9]) -> Reference {
    let value = Namespace::builder().value("bits", bits).type_tag("").create().unwrap();
    value.type_tag("").value("bits").unwrap().load().unwrap()
}

#[test]
fn reference_serialised_is_the_same() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    namespace.create("price", Spec::value(1.5_f64)).unwrap();
    let reference = namespace.reference("price").unwrap();
    let mut queue = namespace.create("queue", Spec::queue_bytes(4, 200)).unwrap();
    queue.send_object(&reference).unwrap();
    assert_eq!(queue.recv_object::<Reference>().unwrap(), reference);
}
