//! Elements of several lengths: bytes, text, and values that serde has serialised.

use tombolo::collections::list::Options;
use tombolo::collections::{List, ListError};
use tombolo::{ErrorKind, Namespace};

use crate::support::{Random, TestDir};

fn texts(all: &[&str]) -> Result<Vec<String>, ListError> {
    Ok(all.iter().map(ToString::to_string).collect())
}

#[test]
fn list_of_text_operation_returns_what_was_there() {
    let list = List::new(&Options::<str>::new().max_length(10)).unwrap();
    assert_eq!((list.pop(), list.get(0), list.to_vec()), (Ok(None), Ok(None), Ok(vec![])));
    assert_eq!((list.push("c"), list.extend_from_slice(&["", "e".repeat(248).as_str()])), (Ok(()), Ok(())));
    assert_eq!((list.insert(0, "größer"), list.set(1, "b")), (Ok(()), Ok(())));
    assert_eq!(list.to_vec(), texts(&["größer", "b", "", &"e".repeat(248)]));
    assert_eq!((list.get(0), list.get(2), list.get(4)), (Ok(Some("größer".into())), Ok(Some("".into())), Ok(None)));
    assert_eq!(list.update(1, |text| text + "cd"), Ok(()));
    assert_eq!((list.range(1..3), list.range(..=1), list.range(3..)), {
        (texts(&["bcd", ""]), texts(&["größer", "bcd"]), texts(&[&"e".repeat(248)]))
    });
    assert_eq!((list.range(9..), list.range(4..usize::MAX)), (Ok(vec![]), Ok(vec![])));
    assert_eq!((list.remove(2), list.pop(), list.remove(0)), {
        (Ok("".into()), Ok(Some("e".repeat(248))), Ok("größer".into()))
    });
    assert_eq!((list.truncate(1), list.len()), (Ok(()), Ok(1)));
    assert_eq!(list.extend_from_slice(&texts(&["x", "y"]).unwrap()), Ok(()));
    assert!(list.iter().unwrap().eq(["bcd", "x", "y"]));
    assert_eq!((list.clear(), list.is_empty()), (Ok(()), Ok(true)));
}

#[test]
fn list_of_bytes_element_too_long_is_refused() {
    let list = List::new(&Options::<[u8]>::new().max_element_bytes(13)).unwrap();
    list.push(&[1; 13]).unwrap();
    let refused = Err(ListError::TooLong { length: 14, limit: 13 });
    assert_eq!((list.push(&[2; 14]), list.insert(0, &[2; 14]), list.set(0, &[2; 14])), (refused, refused, refused));
    assert_eq!((list.update(0, |_| vec![2; 14]), list.extend_from_slice(&[&[2][..], &[2; 14]])), (refused, refused));
    let text = list.push(&[2; 14]).unwrap_err().to_string();
    assert!(text.contains("14 bytes") && text.contains("at most 13"), "{text}");
    assert_eq!(list.to_vec(), Ok(vec![vec![1; 13]]));
}

#[test]
fn list_of_bytes_get_into_replaces_what_is_there() {
    let list = List::new(&Options::<[u8]>::new()).unwrap();
    list.extend_from_slice(&[&b"some bytes"[..], b""]).unwrap();
    let mut buffer = vec![7; 100];
    assert_eq!((list.get_into(0, &mut buffer), &buffer[..]), (Ok(true), &b"some bytes"[..]));
    assert_eq!((list.get_into(1, &mut buffer), &buffer[..]), (Ok(true), &b""[..]));
    assert_eq!(list.get_into(2, &mut buffer), Ok(false));
}

/// As a list of std, for several lengths of elements, most of them no whole words.
#[test]
fn list_of_bytes_changed_at_random_is_as_a_vec() {
    for (max_length, max_bytes) in [(1, 1), (2, 7), (17, 8), (100, 9), (300, 61), (40, 5000)] {
        let list = List::new(&Options::<[u8]>::new().max_length(max_length).max_element_bytes(max_bytes)).unwrap();
        let (mut model, mut random) = (Vec::<Vec<u8>>::new(), Random(max_bytes as u64));
        for step in 0..1000 {
            let length = model.len();
            let at = random.below(length as u64 + 1) as usize;
            let value: Vec<u8> = (0..random.below(max_bytes as u64 + 1)).map(|_| random.next() as u8).collect();
            match random.below(7) {
                0 | 1 if length < max_length => {
                    list.insert(at, &value).unwrap();
                    model.insert(at, value);
                }
                2 => {
                    let values = vec![value; random.below((max_length - length) as u64 + 1) as usize];
                    list.extend_from_slice(&values).unwrap();
                    model.extend(values);
                }
                3 => assert_eq!(list.pop().unwrap(), model.pop()),
                4 if at < length => assert_eq!(list.remove(at).unwrap(), model.remove(at)),
                5 if at < length => {
                    list.set(at, &value).unwrap();
                    model[at] = value;
                }
                _ => assert_eq!(list.get(at).unwrap(), model.get(at).cloned()),
            }
            if step % 10 == 0 {
                assert_eq!(list.to_vec().unwrap(), model);
                assert_eq!(list.range(at..).unwrap(), model[at.min(model.len())..]);
            }
        }
    }
}

#[test]
fn list_of_bytes_opened_as_another_type_is_refused() {
    let test_dir = TestDir::new();
    let options = Options::<[u8]>::new().max_element_bytes(8);
    let plan = || Namespace::builder().directory(test_dir.names());
    let namespace = plan().list("bytes", &options).list("numbers", &Options::<u64>::new()).open("name").unwrap();
    let bytes = namespace.list::<[u8]>("bytes").unwrap();
    for error in [
        namespace.list::<u64>("bytes").unwrap_err(),
        namespace.list::<[u8; 8]>("bytes").unwrap_err(),
        namespace.list::<[u8]>("numbers").unwrap_err(),
        namespace.list::<str>("numbers").unwrap_err(),
        namespace.map::<[u8], [u8]>("bytes").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    }
    let error = namespace.list::<u64>("bytes").unwrap_err().to_string();
    assert!(error.contains("a list of elements of bytes") || error.contains("elements of up to 8 bytes"), "{error}");
    // Text is bytes, if it is text.
    let text = namespace.list::<str>("bytes").unwrap();
    text.push("Ada").unwrap();
    bytes.push(b"\xFF").unwrap();
    assert_eq!((bytes.get(0), text.get(1)), (Ok(Some(b"Ada".to_vec())), Err(ListError::InvalidValue)));
    let invalid = ListError::InvalidValue;
    assert_eq!((text.to_vec(), text.pop(), text.remove(1)), (Err(invalid), Err(invalid), Err(invalid)));
    assert_eq!((text.set(1, "Bob"), text.to_vec()), (Ok(()), texts(&["Ada", "Bob"])));
    // One that is to have longer elements.
    let longer = plan().list("bytes", &options.max_element_bytes(9)).list("numbers", &Options::<u64>::new());
    let error = longer.open("name").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
}

#[test]
fn list_limit_of_elements_that_cannot_be_is_refused() {
    for bytes in [0, 1 << 60, usize::MAX] {
        let error = List::new(&Options::<str>::new().max_element_bytes(bytes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
    let error = List::new(&Options::<u64>::new().max_element_bytes(8)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    assert!(error.to_string().contains("leave it out"), "{error}");
}

#[test]
fn list_of_objects_each_operation_is_as_with_bytes() {
    let list = List::new(&Options::<[u8]>::new().max_element_bytes(20)).unwrap();
    let object = |number: u32| (number, vec![Some("x".repeat(number as usize))]);
    assert_eq!((list.push_object(&object(1)), list.extend_objects(&[object(3), object(4)])), (Ok(()), Ok(())));
    assert_eq!((list.insert_object(1, &object(0)), list.set_object(2, &object(2))), (Ok(()), Ok(())));
    assert_eq!(list.update_object(3, |(number, texts): (u32, Vec<Option<String>>)| (number + 5, texts)), Ok(()));
    let all = vec![object(1), object(0), object(2), (9_u32, object(4).1)];
    assert_eq!(
        (list.objects(), list.get_object(1), list.get_object::<u8>(4)),
        (Ok(all), Ok(Some(object(0))), Ok(None))
    );
    assert_eq!((list.remove_object(1), list.pop_object()), (Ok(object(0)), Ok(Some((9_u32, object(4).1)))));
    assert_eq!(list.push_object(&"x".repeat(20)), Err(ListError::TooLong { length: 21, limit: 20 }));
    assert_eq!(list.len(), Ok(2));
}

/// What cannot be read as that type is not lost.
#[test]
fn list_of_objects_another_type_stays() {
    let list = List::new(&Options::<[u8]>::new()).unwrap();
    list.push_object("text").unwrap();
    let refused = ListError::Deserialize;
    assert_eq!((list.pop_object::<bool>(), list.remove_object::<bool>(0)), (Err(refused), Err(refused)));
    assert_eq!((list.get_object::<bool>(0), list.objects::<bool>()), (Err(refused), Err(refused)));
    assert_eq!(list.update_object(0, |found: bool| !found), Err(refused));
    assert_eq!(list.pop_object(), Ok(Some("text".to_string())));
}
