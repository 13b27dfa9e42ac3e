//! Objects outside any namespace, with and without a name.

use tombolo::sync::{
    Array, AtomicValue, Barrier, BoundedSemaphore, Condvar, Event, Mutex, Object, Once, ReentrantMutex, RwLock,
    Semaphore, Value,
};
use tombolo::{DIRECTORY_ENV, Directory, ErrorKind, Namespace, WaitStrategy};

use crate::common::{NAME, assert_error};
use crate::support::{Process, TestDir, command};

/// Runs in a process of its own, whose default directory is a temporary one.
pub fn use_standalone_names(_: &[String]) {
    macro_rules! check {
        ($object:ty, $other:ty, $($argument:expr)?) => {{
            let name = stringify!($object);
            assert_error(<$object>::open(name), ErrorKind::NotFound, &[name]);
            let first = <$object>::create_new(name $(, $argument)?).unwrap();
            assert_error(<$object>::create_new(name $(, $argument)?), ErrorKind::AlreadyExists, &[name]);
            let others = [
                <$object>::open(name).unwrap(),
                <$object>::open_or_create(name $(, $argument)?).unwrap(),
                <$object>::from_fd(first.share().unwrap()).unwrap(),
                first.clone().with_wait(WaitStrategy::Park),
            ];
            for other in &others {
                assert_eq!((other.object_name(), other.namespace_name()), ("", Some(name)));
                assert_eq!((other.kind(), other.warnings()), (first.kind(), first.warnings()));
                assert!(format!("{other:?}").contains(&format!("name: Some({name:?})")), "{other:?}");
            }
            assert_error(<$other>::open(name), ErrorKind::WrongType, &[&format!("cannot open {name:?}: found a")]);
            assert_eq!(Directory::default().names().unwrap(), [name]);
            drop((first, others));
            assert_eq!(Directory::default().names().unwrap(), [""; 0]);
            drop(<$object>::open_or_create(name $(, $argument)?).unwrap());
            assert_error(<$object>::open(name), ErrorKind::NotFound, &[name]);
            let alone = <$object>::new($($argument)?).unwrap();
            assert_eq!((alone.object_name(), alone.namespace_name()), ("", None));
            assert!(format!("{alone:?}").contains(name.split('<').next().unwrap()), "{alone:?}");
            drop(<$object>::from_fd(alone.share().unwrap()).unwrap());
        }};
    }
    check!(Value<u64>, Value<i64>, 1);
    check!(AtomicValue<u32>, AtomicValue<f32>, 1);
    check!(Array<u8>, Array<u16>, &[1; 10]);
    check!(Mutex<[u8; 3]>, Mutex<[u8; 4]>, [1; 3]);
    check!(ReentrantMutex<u64>, Mutex<u64>, 1);
    check!(RwLock<()>, Mutex<()>, ());
    check!(Semaphore, BoundedSemaphore, 1);
    check!(BoundedSemaphore, Semaphore, 1);
    check!(Condvar, Event,);
    check!(Event, Once,);
    check!(Barrier, Event, 2);
    check!(Once, Condvar,);

    let array = Array::create_new(NAME, &[1_u8; 10]).unwrap();
    assert_error(Array::open_or_create(NAME, &[1_u8; 11]), ErrorKind::WrongType, &["cannot open", NAME, "array of 10"]);
    assert_eq!(Array::<u8>::open(NAME).unwrap().len(), 10, "whatever its length");
    let namespace = Namespace::open(NAME).unwrap();
    assert_eq!(namespace.array::<u8>("").unwrap().len(), 10, "it has no name of its own");
    drop((array, namespace));
    let pair = Namespace::builder().event("first").event("second").open(NAME).unwrap();
    assert_error(Event::open(NAME), ErrorKind::WrongType, &["2", "one object"]);
    drop(pair);
    assert_error(Value::create_new("a/b", 1_u8), ErrorKind::InvalidName, &[]);
    assert_eq!(Directory::default().names().unwrap(), [""; 0]);
}

#[test]
fn object_standalone_has_a_name_of_its_own() {
    let test_dir = TestDir::new();
    let mut command = command("use_standalone_names", &[]);
    Process::from(command.env(DIRECTORY_ENV, test_dir.names()).spawn().unwrap()).finish();
}
