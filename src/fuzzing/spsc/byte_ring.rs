//! The ring of length-prefixed records.

use super::{Expected, HeapRing, PROBE};
use crate::fuzzing::heap::Heap;
use crate::fuzzing::input::{Input, payload};
use crate::primitive::WORD;
use crate::raw::Corrupt;
use crate::raw::spsc::record_ring::{MIN_WORDS, Record, RecordReader, RecordWriter, max_inline_bytes};

/// Drives `raw/spsc/record_ring.rs`.
pub fn byte_ring(data: &[u8]) {
    let mut input = Input::new(data);
    let setup = input.byte();
    let ring = HeapRing::new(MIN_WORDS << (setup >> 1 & 3), 1);
    if setup & 1 == 0 {
        let position = input.word();
        correct_records(&ring.empty_at(position), &mut input);
    } else {
        let limit = input.short();
        hostile_records(&ring.filled(&mut input), limit, &mut input);
    }
}

/// The words of a record with `length` bytes of payload.
fn record_words(length: usize) -> u64 {
    1 + length.div_ceil(WORD) as u64
}

/// A record as it was written.
#[derive(Debug, PartialEq)]
enum SentRecord {
    Padding(u64),
    Message(Vec<u8>),
    Begin(u64),
    Fragment(Vec<u8>),
}

impl SentRecord {
    fn words(&self) -> u64 {
        match self {
            Self::Padding(words) => *words,
            Self::Begin(_) => 1,
            Self::Message(bytes) | Self::Fragment(bytes) => record_words(bytes.len()),
        }
    }
}

fn correct_records(ring: &HeapRing, input: &mut Input) {
    const LIMIT: u64 = 1 << 12;
    let capacity = ring.capacity;
    let mut expected = Expected::<SentRecord>::new();
    let mut writer = RecordWriter::new(ring.acquire_producer(), ring.data());
    let mut reader = RecordReader::new(ring.consumer().expect("valid words"), ring.data(), LIMIT);
    let mut rest = Vec::new();
    for number in 0.. {
        let Some(op) = input.next_op() else { break };
        let used: u64 = expected.queue.iter().map(|(_, record)| record.words()).sum();
        let left = capacity - writer.ring.position() % capacity;
        if op & PROBE != 0 {
            expected.check_probe(reader.probe());
        }
        match op % 8 {
            // A message, or several under one publication.
            0 | 1 => {
                let (mut ahead, store_kind) = (0, input.store_kind());
                for extra in 0..=u64::from(op % 8) * 2 {
                    let message = payload(number + extra, input.short() % (max_inline_bytes(capacity) + 1));
                    let words = record_words(message.len());
                    let left = capacity - writer.ring.position().wrapping_add(ahead) % capacity;
                    let padding = if left < words { left } else { 0 };
                    let fits = capacity - used - ahead >= padding + words;
                    let written = writer.write(ahead, &message, store_kind).expect("valid words");
                    assert_eq!(written, fits.then_some(padding + words), "full when full, and only then");
                    if !fits {
                        break;
                    }
                    ahead += padding + words;
                    if padding > 0 {
                        expected.push(SentRecord::Padding(padding));
                    }
                    expected.push(SentRecord::Message(message));
                }
                writer.ring.publish(ahead);
            }
            2 if rest.is_empty() => {
                rest = payload(number, 1 + input.short() % LIMIT);
                if !writer.begin_fragmented(rest.len() as u64).expect("valid words") {
                    assert_eq!(used, capacity);
                    rest.clear();
                } else {
                    expected.push(SentRecord::Begin(rest.len() as u64));
                }
            }
            2 => rest.clear(), // the sender gives up
            3 if rest.is_empty() => {}
            3 => match writer.push_fragment(&rest, input.store_kind()).expect("valid words") {
                None => assert!(capacity - used < writer.fragment_words(rest.len())),
                Some(0) => expected.push(SentRecord::Padding(left)),
                Some(count) => {
                    let fragment = SentRecord::Fragment(rest.drain(..count).collect());
                    assert!(fragment.words() <= left.min(capacity - used));
                    expected.push(fragment);
                }
            },
            4 | 5 => read_expected(&mut reader, &mut expected),
            6 => {
                writer = RecordWriter::new(ring.acquire_producer(), ring.data());
                expected.writing += 1;
                rest.clear();
            }
            _ => {
                reader = RecordReader::new(ring.consumer().expect("valid words"), ring.data(), LIMIT);
                expected.attach_reader();
            }
        }
    }
    while !expected.queue.is_empty() || expected.reading < expected.writing {
        read_expected(&mut reader, &mut expected);
    }
    assert_eq!(reader.next(), Ok(Record::Empty));
}

fn read_expected(reader: &mut RecordReader<Heap>, expected: &mut Expected<SentRecord>) {
    let before = reader.ring.position();
    let next = reader.next().expect("valid words");
    let skipped = reader.ring.position().wrapping_sub(before);
    if skipped > 0 {
        assert_eq!(expected.pop(), SentRecord::Padding(skipped));
    }
    let copy = |start, length| {
        let mut bytes = vec![0; length];
        reader.copy_out(start, &mut bytes).expect("in range");
        bytes
    };
    let (record, length) = match next {
        Record::Empty => return expected.switch_producer(&mut reader.ring),
        Record::Message { start, length } => (SentRecord::Message(copy(start, length)), length),
        Record::Begin { length } => (SentRecord::Begin(length), 0),
        Record::Fragment { start, length } => (SentRecord::Fragment(copy(start, length)), length),
    };
    assert_eq!(record, expected.pop());
    reader.release(length);
}

fn hostile_records(ring: &HeapRing, limit: u64, input: &mut Input) {
    let writer = |ring: &HeapRing| Ok::<_, Corrupt>(RecordWriter::new(ring.producer()?, ring.data()));
    let reader = |ring: &HeapRing| Ok::<_, Corrupt>(RecordReader::new(ring.consumer()?, ring.data(), limit));
    let (Ok(mut tx), Ok(mut rx)) = (writer(ring), reader(ring)) else { return };
    for number in 0.. {
        let Some(op) = input.next_op() else { break };
        if op & PROBE != 0 {
            let _ = (tx.ring.has_advanced(), rx.probe()); // what they cached is checked below
        }
        match op % 10 {
            0 => drop(tx.push(&payload(number, input.short() % (ring.capacity * 8)), input.store_kind())),
            1 => {
                let length = input.short() % (ring.capacity * 8);
                if let Ok(Some(slot)) = tx.reserve(0, length) {
                    assert!(slot.start + (length as usize).div_ceil(WORD) <= ring.data_words(), "{slot:?} of {length}");
                    let words = tx.write_headers(0, slot, length);
                    tx.ring.publish(words);
                }
            }
            2 => drop(tx.begin_fragmented(input.word())),
            3 => {
                let rest = payload(number, 1 + input.short() % 2048);
                if let Ok(Some(count)) = tx.push_fragment(&rest, input.store_kind()) {
                    assert!(count <= rest.len());
                }
            }
            4 | 5 => read_hostile(ring, &mut rx, limit, op & 1 == 0),
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

fn read_hostile(ring: &HeapRing, reader: &mut RecordReader<Heap>, limit: u64, release: bool) {
    let before = reader.ring.position();
    let next = reader.next();
    let skipped = reader.ring.position().wrapping_sub(before);
    assert!(skipped == 0 || skipped == ring.capacity - before % ring.capacity, "skipped {skipped}");
    let length = match next {
        Ok(Record::Empty) | Err(Corrupt) => return,
        Ok(Record::Begin { length }) => {
            assert!(length <= limit);
            0
        }
        Ok(Record::Message { start, length } | Record::Fragment { start, length }) => {
            assert!(length as u64 <= limit && start + length.div_ceil(WORD) <= ring.data_words(), "{next:?}");
            reader.copy_out(start, &mut vec![0; length]).expect("in range");
            length
        }
    };
    let words = record_words(length);
    assert!(reader.ring.readable(words).is_ok_and(|ready| ready >= words), "read past what is published");
    if release {
        reader.release(length);
    }
}
