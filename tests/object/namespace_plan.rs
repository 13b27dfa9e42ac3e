//! What a `NamespaceBuilder` plans, compared with what exists.

use tombolo::sync::Object;
use tombolo::{ErrorKind, Namespace, NamespaceBuilder};

use crate::common::{KINDS, NAME, all_kinds, assert_error};
use crate::support::TestDir;

#[test]
fn namespace_object_missing_or_of_other_type_error_names_both() {
    let _watchdog = TestDir::new();
    let namespace = all_kinds().value("tagged", 1_u64).type_tag("metres").create().unwrap();
    let wrong = ErrorKind::WrongType;
    assert_error(
        namespace.value::<u8>("nothing"),
        ErrorKind::NotFound,
        &["nothing", "atomic", "re-entrant", "bounded"],
    );
    assert_error(namespace.queue::<u8>("nothing"), ErrorKind::NotFound, &["nothing", "queue"]);
    for (name, _, kind) in KINDS {
        let expected = if kind == "value" { "mutex" } else { "value" };
        let result = match expected {
            "mutex" => namespace.mutex::<[u8; 100]>(name).map(|_| ()),
            _ => namespace.value::<[u8; 100]>(name).map(|_| ()),
        };
        assert_error(result, wrong, &[name, kind, expected]);
    }
    assert_error(namespace.event("condvar"), wrong, &["condition variable", "event"]);
    assert_error(namespace.semaphore("bounded"), wrong, &["bounded semaphore of 6", "a semaphore"]);
    assert_error(namespace.barrier("once"), wrong, &["once", "barrier"]);
    assert_error(namespace.queue::<u64>("value"), wrong, &["value", "queue"]);

    assert_error(namespace.value::<[u8; 99]>("value"), wrong, &["100 bytes", "99 bytes"]);
    assert_error(namespace.value::<[u32; 25]>("value"), wrong, &["aligned to 1", "aligned to 4"]);
    assert_error(namespace.atomic::<u16>("atomic"), wrong, &["i16", "u16"]);
    assert_error(namespace.atomic::<i32>("atomic"), wrong, &["i16", "i32"]);
    assert_error(namespace.array::<[u32; 4]>("array"), wrong, &["array of 5", "12 bytes", "16 bytes"]);
    assert_error(namespace.array::<[u8; 12]>("array"), wrong, &["aligned to 4", "aligned to 1"]);
    assert_error(namespace.mutex::<u64>("mutex"), wrong, &["f64", "u64"]);
    assert_error(namespace.queue::<[u16; 2]>("queue"), wrong, &["6 bytes"]);
    assert_error(namespace.queue_bytes("queue"), wrong, &["6 bytes", "queue"]);
    assert_error(namespace.queue::<u64>("bytes"), wrong, &["byte messages", "queue"]);

    let metres = namespace.type_tag("metres");
    assert_eq!(metres.value::<u64>("tagged").unwrap().load(), Ok(1));
    assert_error(namespace.value::<u64>("tagged"), wrong, &["metres", "u64"]);
    assert_error(namespace.type_tag("feet").value::<u64>("tagged"), wrong, &["metres", "feet"]);
    assert_error(metres.value::<[u8; 100]>("value"), wrong, &["metres"]);
    let long = namespace.type_tag("kilometres per hour");
    assert_error(long.value::<u64>("tagged"), wrong, &["metres", ", which is \"kilometres per hour\""]);
}

#[test]
fn namespace_plan_unlike_existing_error_names_both() {
    let test_dir = TestDir::new();
    let _namespace = all_kinds().directory(test_dir.names()).open(NAME).unwrap();
    let open = |plan: NamespaceBuilder| plan.directory(test_dir.names()).open(NAME);
    let plan = Namespace::builder;
    let cases: [(NamespaceBuilder, &[&str]); 10] = [
        (plan().event("once"), &["once", "event"]),
        (plan().value("value", [1_u8; 101]), &["100 bytes", "101 bytes"]),
        (plan().value("value", [1_u8; 100]).type_tag("12345678"), &["12345678"]),
        (plan().array("array", &[[0_u32; 3]; 6]), &["array of 5", "array of 6"]),
        (plan().array_zeroed::<[u32; 3]>("array", 4), &["array of 5"]),
        (plan().bounded_semaphore("bounded", 5), &["6 permits"]),
        (plan().bounded_semaphore("bounded", 9), &["6 permits", "9 permits"]),
        (plan().barrier("barrier", 8), &["7 parties", "8 parties"]),
        (plan().queue::<[u16; 4]>("queue", 8), &["6 bytes", "8 bytes"]),
        (plan().queue_bytes("queue", 8, 100), &["6 bytes"]),
    ];
    for (plan, words) in cases {
        assert_error(open(plan), ErrorKind::WrongType, words);
    }
    assert!(open(Namespace::builder().barrier("barrier", 7).mutex("mutex", 9.0_f64)).is_ok());
    assert!(open(all_kinds()).is_ok());
}

#[test]
fn namespace_planned_object_missing_is_named() {
    let test_dir = TestDir::new();
    let _namespace = all_kinds().directory(test_dir.names()).open(NAME).unwrap();
    let plan = Namespace::builder().event("event").event("another").directory(test_dir.names());
    assert_error(plan.open(NAME), ErrorKind::NotFound, &["another"]);
    assert_error(plan.clone().must_exist().open(NAME), ErrorKind::NotFound, &["another"]);
    assert_error(plan.create_new().open(NAME), ErrorKind::AlreadyExists, &[NAME]);
}

#[test]
fn namespace_plan_invalid_is_refused() {
    let test_dir = TestDir::new();
    let invalid = ErrorKind::InvalidOptions;
    let two = Namespace::builder().event("same").once("same");
    assert_error(two.create(), ErrorKind::AlreadyExists, &["same"]);
    let long = "x".repeat(65);
    for name in [long.as_str(), "a\nb", "nul\0"] {
        assert_error(Namespace::builder().event(name).create(), ErrorKind::InvalidName, &["choose another name"]);
    }
    for name in [&long[1..], "a/b", ".", "ümläut"] {
        let namespace = Namespace::builder().event(name).once("once").create().unwrap();
        assert_eq!(namespace.event(name).unwrap().object_name(), name);
    }
    assert_error(Namespace::builder().barrier("barrier", 0).create(), invalid, &["barrier", "parties"]);
    assert_error(Namespace::builder().bounded_semaphore("b", 0).create(), invalid, &["permit"]);
    assert_error(Namespace::builder().queue::<u64>("q", usize::MAX).create(), invalid, &["\"q\"", "capacity"]);
    assert_error(Namespace::builder().queue::<()>("q", 4).create(), invalid, &["\"q\""]);
    assert_error(Namespace::builder().create(), invalid, &["objects"]);
    for count in [0, 4097] {
        let plan = Namespace::builder().event("e").max_participants(count);
        assert_error(plan.create(), invalid, &["participants"]);
    }
    for count in [1, 4096] {
        let plan = Namespace::builder().rw_lock("lock", 1_u8).barrier("b", 2).max_participants(count);
        assert_eq!(*plan.create().unwrap().rw_lock::<u8>("lock").unwrap().read().unwrap(), 1);
    }
    let plan = Namespace::builder().event("e").directory(test_dir.names());
    for name in ["", "a/b", ".x", &"x".repeat(201)] {
        assert_eq!(plan.open(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name:?}");
    }
    assert_eq!(test_dir.leftovers(), [""; 0]);
}
