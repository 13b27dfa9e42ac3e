//! `AtomicValue`: integers and floats.

use std::thread;

use tombolo::sync::AtomicValue;

use crate::support::Random;

macro_rules! check_integers {
    ($($integer:ident)*) => { $({
        let mut random = Random(0xACE + size_of::<$integer>() as u64);
        let number = AtomicValue::<$integer>::new($integer::MAX).unwrap();
        let other = number.clone();
        assert_eq!((number.fetch_add(1), other.load()), ($integer::MAX, $integer::MIN));
        assert_eq!((number.fetch_sub(1), other.load()), ($integer::MIN, $integer::MAX));
        let mut model = $integer::MAX;
        for _ in 0..2000 {
            let operand = match random.below(6) {
                0 => $integer::MAX,
                1 => $integer::MIN,
                2 => model,
                _ => random.next() as $integer,
            };
            let before = model;
            let answer = match random.below(11) {
                0 => { model = model.wrapping_add(operand); number.fetch_add(operand) }
                1 => { model = model.wrapping_sub(operand); number.fetch_sub(operand) }
                2 => { model &= operand; number.fetch_and(operand) }
                3 => { model |= operand; number.fetch_or(operand) }
                4 => { model ^= operand; number.fetch_xor(operand) }
                5 => { model = model.max(operand); number.fetch_max(operand) }
                6 => { model = model.min(operand); number.fetch_min(operand) }
                7 => { model = operand; number.swap(operand) }
                8 => { number.store(operand); model = operand; before }
                9 => {
                    assert_eq!(number.compare_exchange(before.wrapping_add(1), operand), Err(before));
                    assert_eq!(number.fetch_update(|_| None), Err(before));
                    model = operand;
                    number.compare_exchange(before, operand).unwrap()
                }
                _ => {
                    model = model.wrapping_mul(3);
                    number.fetch_update(|value| Some(value.wrapping_mul(3))).unwrap()
                }
            };
            assert_eq!((answer, other.load()), (before, model));
        }
    })* };
}

#[test]
fn atomic_integer_of_every_width_wraps_like_primitive() {
    check_integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
}

macro_rules! check_floats {
    ($($float:ident)*) => { $({
        let number = AtomicValue::<$float>::new(1.5).unwrap();
        assert_eq!((number.fetch_add(0.25), number.fetch_sub(2.0), number.load()), (1.5, 1.75, -0.25));
        assert_eq!((number.fetch_max(3.0), number.fetch_max(2.0), number.load()), (-0.25, 3.0, 3.0));
        assert_eq!((number.fetch_min(-1.0), number.fetch_min(2.0), number.load()), (3.0, -1.0, -1.0));
        assert_eq!((number.fetch_max($float::NAN), number.fetch_min($float::NAN)), (-1.0, -1.0));
        assert_eq!(number.swap($float::INFINITY), -1.0);
        assert_eq!(number.compare_exchange($float::NEG_INFINITY, 0.0), Err($float::INFINITY));
        assert_eq!(number.compare_exchange($float::INFINITY, 0.0), Ok($float::INFINITY));
        assert_eq!(number.compare_exchange(-0.0, 1.0), Err(0.0), "bit by bit");
        number.store($float::NAN);
        assert!(number.load().is_nan());
        let other_nan = $float::from_bits($float::NAN.to_bits() ^ 1);
        assert!(number.compare_exchange(other_nan, 1.0).is_err_and($float::is_nan));
        assert!(number.compare_exchange($float::NAN, 1.0).is_ok_and($float::is_nan));
        assert_eq!(number.fetch_update(|value| Some(value / 4.0)), Ok(1.0));
        assert_eq!(number.fetch_update(|_| None), Err(0.25));
        assert_eq!(number.load(), 0.25);
    })* };
}

#[test]
fn atomic_float_compare_exchange_compares_bits() {
    check_floats!(f32 f64);
}

#[test]
fn atomic_concurrent_fetch_add_is_exact() {
    const EACH: usize = 20_000;
    let (long, short, float) =
        (AtomicValue::new(0_i64).unwrap(), AtomicValue::new(0_u8).unwrap(), AtomicValue::new(0.0_f32).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    long.fetch_sub(2);
                    short.fetch_add(3);
                    float.fetch_add(1.0);
                }
            });
        }
    });
    assert_eq!((long.load(), short.load()), (-6 * EACH as i64, (9 * EACH) as u8));
    assert_eq!(float.load(), 3.0 * EACH as f32);
}
