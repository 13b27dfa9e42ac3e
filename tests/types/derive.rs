//! The derive: structs and enums of all kinds, in pipes, queues and objects.

use std::fmt::Debug;

use tombolo::sync::{Array, Mutex, ReentrantMutex, RwLock, Value};
use tombolo::types::Untagged;
use tombolo::{Shareable, pipe, queue};

use crate::support::TestDir;

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(u8)]
enum Side {
    Buy,
    Sell = 5,
}

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(i32)]
enum Level {
    Low = -1,
    High = i32::MAX,
}

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Pair(bool, Side);

mod inner {
    pub(super) use ::tombolo as other;
}

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(transparent)]
#[shareable(crate = "inner::other")]
struct Price(f64);

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Nothing;

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C, align(64))]
struct Everything {
    price: Price,
    r#type: u64,
    letter: char,
    level: Level,
    sides: [[Side; 2]; 2],
    pairs: [Pair; 1],
    flag: bool,
    signed: i8,
    nothing: Nothing,
    small: i16,
    number: Untagged<std::num::Wrapping<u16>>,
    float: f32,
    unit: (),
    text: [u8; 24],
}

const EVERYTHING: Everything = Everything {
    price: Price(101.25),
    r#type: 7,
    letter: 'ß',
    level: Level::Low,
    sides: [[Side::Buy, Side::Sell], [Side::Sell, Side::Sell]],
    pairs: [Pair(true, Side::Buy)],
    flag: true,
    signed: -1,
    nothing: Nothing,
    small: -2,
    number: Untagged(std::num::Wrapping(9)),
    float: 0.5,
    unit: (),
    text: *b"exactly 24 bytes of text",
};

/// Sends, stores and locks two values in all ways.
fn values_come_back<T: Shareable + PartialEq + Debug + Send>(one: T, two: T) {
    let (mut tx, mut rx) = pipe::Options::<T>::new().create().unwrap();
    tx.send(one).unwrap();
    assert_eq!(tx.send_many(&[two, one, two]), Ok(3));
    assert_eq!(rx.recv(), Ok(one));
    let mut received = one;
    rx.recv_into(&mut received).unwrap();
    assert_eq!(received, two);
    let mut many = [two; 4];
    assert_eq!(rx.recv_many(&mut many), Ok(2));
    assert_eq!(many, [one, two, two, two]);

    let (mut tx, mut rx) = queue::Options::<T>::new().create_channel().unwrap();
    tx.send(one).unwrap();
    assert_eq!(tx.send_many(&[two, one, two]), Ok(3));
    assert_eq!(rx.recv(), Ok(one));
    assert_eq!(rx.recv_many(&mut many), Ok(3));
    assert_eq!(many, [two, one, two, two]);

    let value = Value::new(one).unwrap();
    assert_eq!(value.load(), Ok(one));
    value.store(&two).unwrap();
    value.load_into(&mut received).unwrap();
    assert_eq!(received, two);
    assert_eq!(value.update(|value| *value = one), Ok(one));

    let array = Array::new(&[one, two, one, one, two]).unwrap();
    array.set(3, two).unwrap();
    array.store_from(0, &[two, one]).unwrap();
    assert_eq!(array.to_vec(), Ok(vec![two, one, one, two, two]));
    array.load_into(1, &mut many[..3]).unwrap();
    assert_eq!((many, array.get(1)), ([one, one, two, two], Ok(one)));

    let mutex = Mutex::new(one).unwrap();
    assert_eq!(*mutex.lock().unwrap(), one);
    *mutex.lock().unwrap() = two;
    assert_eq!(*mutex.lock().unwrap(), two);
    let reentrant = ReentrantMutex::new(one).unwrap();
    reentrant.lock().unwrap().set(&two).unwrap();
    assert_eq!(reentrant.lock().unwrap().get(), Ok(two));
    let rw_lock = RwLock::new(one).unwrap();
    *rw_lock.write().unwrap() = two;
    assert_eq!(*rw_lock.read().unwrap(), two);
}

#[test]
fn derived_types_come_back_from_pipes_queues_and_objects() {
    let _watchdog = TestDir::new();
    values_come_back(Side::Buy, Side::Sell);
    values_come_back(Level::Low, Level::High);
    values_come_back(Pair(false, Side::Sell), Pair(true, Side::Buy));
    values_come_back(Price(1.5), Price(f64::NEG_INFINITY));
    values_come_back(EVERYTHING, Everything { flag: false, letter: char::MAX, level: Level::High, ..EVERYTHING });
    values_come_back([EVERYTHING; 2], [Everything { signed: 0, ..EVERYTHING }; 2]);
    values_come_back(false, true);
    values_come_back('a', '\u{10ffff}');
    values_come_back([true, false, true], [false; 3]);
}

#[test]
fn derived_shape_has_names_and_types() {
    assert_eq!(
        Everything::SHAPE.to_string(),
        "Everything{price:Price{0:f64},type:u64,letter:char,level:Level:i32{Low=-1,High=2147483647},\
         sides:[[Side:u8{Buy=0,Sell=5};2];2],pairs:[Pair{0:bool,1:Side:u8{Buy=0,Sell=5}};1],flag:bool,signed:i8,\
         nothing:Nothing{},small:i16,number:?,float:f32,unit:(),text:[u8;24]}"
    );
    assert_eq!(size_of::<<Everything as Shareable>::Bits>(), 64);
}

#[test]
fn derived_type_needs_a_check_only_if_a_field_does() {
    let any_bits = [Price::ANY_BITS, Nothing::ANY_BITS, <[u64; 9]>::ANY_BITS, Untagged::<u8>::ANY_BITS];
    assert_eq!(any_bits, [true; 4]);
    let checked = [Side::ANY_BITS, Pair::ANY_BITS, Everything::ANY_BITS, <[bool; 2]>::ANY_BITS, char::ANY_BITS];
    assert_eq!(checked, [false; 5]);
}
