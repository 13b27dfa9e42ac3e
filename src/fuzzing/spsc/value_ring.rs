//! The ring of slots of one type.

use std::fmt::Debug;

use bytemuck::Pod;

use super::{Expected, HeapRing, PROBE};
use crate::fuzzing::heap::Heap;
use crate::fuzzing::input::{Input, value};
use crate::raw::Corrupt;
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter, stride};

/// Drives `raw/spsc/value_ring.rs`.
pub fn value_ring(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => slots::<u64>(&mut input),
        1 => slots::<[u8; 3]>(&mut input),
        _ => slots::<[u64; 9]>(&mut input),
    }
}

fn slots<T: Pod + PartialEq + Debug>(input: &mut Input) {
    let setup = input.byte();
    let ring = HeapRing::new(1 << (setup >> 1 & 3), stride::<T>());
    if setup & 1 == 0 {
        let position = input.word();
        correct_slots::<T>(&ring.empty_at(position), input);
    } else {
        hostile_slots::<T>(&ring.filled(input), input);
    }
}

fn correct_slots<T: Pod + PartialEq + Debug>(ring: &HeapRing, input: &mut Input) {
    let mut expected = Expected::<T>::new();
    let mut writer = SlotWriter::<_, T>::new(ring.acquire_producer(), ring.data());
    let mut reader = SlotReader::<_, T>::new(ring.consumer().expect("valid words"), ring.data());
    let mut number = 0;
    while let Some(op) = input.next_op() {
        number += 16;
        let room = ring.capacity as usize - expected.queue.len();
        if op & PROBE != 0 {
            expected.check_probe(reader.probe());
        }
        match op % 6 {
            0 => {
                let pushed = writer.push(&value(number), input.store_kind()).expect("valid words");
                assert_eq!(pushed, room > 0, "full when full, and only then");
                if pushed {
                    expected.push(value::<T>(number));
                }
            }
            1 => {
                let values: Vec<T> = (0..u64::from(input.byte() % 12)).map(|i| value(number + i)).collect();
                let pushed = writer.push_many(&values, input.store_kind()).expect("valid words");
                assert_eq!(pushed, room.min(values.len()));
                values.into_iter().take(pushed).for_each(|value| expected.push(value));
            }
            2 | 3 => read_slots(&mut reader, &mut expected, usize::from(op % 6 - 2) * usize::from(input.byte() % 12)),
            4 => {
                writer = SlotWriter::new(ring.acquire_producer(), ring.data());
                expected.writing += 1;
            }
            _ => {
                reader = SlotReader::new(ring.consumer().expect("valid words"), ring.data());
                expected.attach_reader();
            }
        }
    }
    while !expected.queue.is_empty() || expected.reading < expected.writing {
        read_slots(&mut reader, &mut expected, 0);
    }
    assert_eq!(reader.pop(&mut T::zeroed()), Ok(false));
}

/// Reads one value, or up to `count` of them.
fn read_slots<T: Pod + PartialEq + Debug>(reader: &mut SlotReader<Heap, T>, expected: &mut Expected<T>, count: usize) {
    let mut values: Vec<T> = vec![T::zeroed(); count];
    if count > 0 {
        let read = reader.pop_many(&mut values).expect("valid words");
        values.truncate(read);
    } else {
        let mut value = T::zeroed();
        values.extend(reader.pop(&mut value).expect("valid words").then_some(value));
    }
    if values.is_empty() {
        expected.switch_producer(&mut reader.ring);
    }
    values.into_iter().for_each(|value| assert_eq!(value, expected.pop()));
}

fn hostile_slots<T: Pod + PartialEq + Debug>(ring: &HeapRing, input: &mut Input) {
    let writer = |ring: &HeapRing| Ok::<_, Corrupt>(SlotWriter::<_, T>::new(ring.producer()?, ring.data()));
    let reader = |ring: &HeapRing| Ok::<_, Corrupt>(SlotReader::<_, T>::new(ring.consumer()?, ring.data()));
    let (Ok(mut tx), Ok(mut rx)) = (writer(ring), reader(ring)) else { return };
    let in_range = |(start, count): (usize, u64)| start + count as usize * stride::<T>() <= ring.data_words();
    while let Some(op) = input.next_op() {
        if op & PROBE != 0 {
            let _ = (tx.ring.has_advanced(), rx.probe()); // what they cached is checked below
        }
        match op % 10 {
            0 => drop(tx.push(&value(7), input.store_kind())),
            1 => {
                let values = vec![value::<T>(8); (input.byte() % 24).into()];
                assert!(tx.push_many(&values, input.store_kind()).unwrap_or(0) <= values.len());
            }
            2 => assert!(tx.reserve(input.word()).map_or(true, in_range)),
            3 => drop(rx.pop(&mut T::zeroed())),
            4 => {
                let mut values = vec![value::<T>(9); (input.byte() % 24).into()];
                assert!(rx.pop_many(&mut values).unwrap_or(0) <= values.len().min(ring.capacity as usize));
            }
            5 => assert!(rx.peek(input.word()).map_or(true, in_range)),
            6 => rx.ring.switch_producer(),
            7 => match input.byte() & 1 {
                0 => tx = writer(ring).unwrap_or(tx),
                _ => rx = reader(ring).unwrap_or(rx),
            },
            8 => ring.corrupt_word(0, input),
            _ => ring.corrupt_word(1 + input.byte() % 8, input),
        }
        ring.check_bounds(&mut tx.ring, &mut rx.ring, input.word());
    }
}
