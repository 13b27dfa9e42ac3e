//! What is left behind, and who removes it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tombolo::{Directory, ErrorKind, Spec};

use crate::support::{Random, TestDir, fork, stress_factor};
use crate::{NAME, alone_with_directory, builder, object_directories, object_files, open};

#[test]
fn namespace_creators_killed_at_random_leave_whole_objects_only() {
    let (alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let mut random = Random(7);
    for _ in 0..500 * stress_factor() {
        let creator = fork(&alone, || {
            let own = open(&test_dir);
            for number in 0_u64.. {
                let name = (number % 5).to_string();
                let _ = own.create(&name, Spec::array(&[number; 1000]));
                if number % 3 == 0 {
                    let _ = own.remove(&((number + 2) % 5).to_string());
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_micros(random.below(4000)));
        creator.kill();
        for name in namespace.names().unwrap() {
            let array = match namespace.array::<u64>(&name) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue, // removed half-way
                array => array.unwrap(),
            };
            let numbers = array.to_vec().unwrap();
            assert!(numbers.len() == 1000 && numbers.iter().all(|&number| number == numbers[0]), "{name}");
        }
        assert_eq!(namespace.names().unwrap().len(), object_files(&test_dir.names()).len());
    }
    for name in namespace.names().unwrap() {
        namespace.remove(&name).unwrap();
    }
    assert_eq!(object_files(&test_dir.names()), [""; 0]);
    // All that is left is the namespace itself.
    let size = fs::metadata(test_dir.names().join(NAME)).unwrap().size();
    assert_eq!(Directory::at(test_dir.names()).inspect(NAME).unwrap().size, size);
    drop(namespace);
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// Removes the namespace's file behind the library's back.
pub fn orphan(test_dir: &TestDir) {
    let namespace = open(test_dir);
    namespace.create("x", Spec::event()).unwrap();
    fs::remove_file(test_dir.names().join(NAME)).unwrap();
    drop(namespace);
    assert_eq!(object_files(&test_dir.names()).len(), 1);
}

#[test]
fn namespace_orphans_are_removed_by_the_next_of_that_name() {
    let (_alone, test_dir) = alone_with_directory();
    orphan(&test_dir);
    let other = builder(&test_dir.names()).open("other").unwrap();
    other.create("y", Spec::event()).unwrap();
    assert_eq!(object_directories(&test_dir.names()).len(), 2);
    let namespace = open(&test_dir);
    assert_eq!(namespace.names().unwrap(), [""; 0]);
    namespace.create("y", Spec::event()).unwrap();
    assert_eq!(object_files(&test_dir.names()), ["y", "y"]);
    assert!(other.event("y").is_ok());
    drop((namespace, other));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

#[test]
fn directory_orphans_are_removed_and_others_stay() {
    let (_alone, test_dir) = alone_with_directory();
    let directory = Directory::at(test_dir.names());
    assert_eq!(directory.remove_orphans().unwrap(), 0);
    orphan(&test_dir);
    let namespace = open(&test_dir);
    assert_eq!(directory.remove_orphans().unwrap(), 1);
    namespace.create("x", Spec::event()).unwrap();
    fs::create_dir(test_dir.names().join(".unknown")).unwrap();
    fs::create_dir(test_dir.names().join(".name.short")).unwrap();
    assert_eq!(directory.remove_orphans().unwrap(), 0);
    assert!(namespace.event("x").is_ok());
    assert_eq!(object_directories(&test_dir.names()).len(), 3);
}
