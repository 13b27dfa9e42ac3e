//! How messages move through a pipe's ring: a value in a slot, a byte message as one record or in
//! fragments that the reader puts together again.

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, RecvError, Result};
use crate::pipe::connection::{self, Side};
use crate::primitive::WORD;
use crate::raw::Corrupt;
use crate::raw::spsc::record_ring::{Record, RecordReader, RecordWriter};
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter};
use crate::raw::spsc::{Consumer, Positions, Producer, ProducerChange};
use crate::region::Region;
use crate::region::words::{Mapped, Words};
use crate::wait::poll_backoff::TYPICAL_RECORD_WORDS;

/// The producer's side of a ring.
pub(crate) trait RingWriter: Sized {
    /// Continues where the last producer stopped.
    fn attach(region: &Region, ring: usize) -> Result<Self>;

    /// Whether the consumer has released anything since the writer last asked.
    fn has_advanced(&self) -> bool;

    /// Messages written so far, roughly.
    fn position(&self) -> u64;
}

/// The consumer's side of a ring.
pub(crate) trait RingReader: Sized {
    /// Continues where the last consumer stopped.
    fn attach(region: &Region, ring: usize) -> Result<Self>;

    /// Whether there is something to read: a cheap check, which ignores a new producer, the end and
    /// corruption.
    fn probe(&mut self) -> bool;

    /// What there is for a reader to do, if anything.
    fn find(&mut self) -> Result<Option<Found>, Corrupt>;

    /// Once everything of one producer is read: the next producer, if there is one.
    fn next_producer(&self) -> Option<ProducerChange>;

    /// Goes on with the messages of the next producer.
    fn switch_producer(&mut self);

    /// Messages read so far, roughly.
    fn position(&self) -> u64;
}

/// What a reader finds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    Message,
    NextProducer(ProducerChange),
}

impl<T: Pod> RingWriter for SlotWriter<Mapped, T> {
    fn attach(region: &Region, ring: usize) -> Result<Self> {
        Ok(Self::new(producer(region, ring, 1)?, data(region, ring)))
    }

    #[inline]
    fn has_advanced(&self) -> bool {
        self.ring.has_advanced()
    }

    fn position(&self) -> u64 {
        self.ring.position()
    }
}

impl RingWriter for RecordWriter<Mapped> {
    fn attach(region: &Region, ring: usize) -> Result<Self> {
        Ok(Self::new(producer(region, ring, WORD as u64)?, data(region, ring)))
    }

    #[inline]
    fn has_advanced(&self) -> bool {
        self.ring.has_advanced()
    }

    fn position(&self) -> u64 {
        self.ring.position() / TYPICAL_RECORD_WORDS
    }
}

impl<T: Pod> RingReader for SlotReader<Mapped, T> {
    fn attach(region: &Region, ring: usize) -> Result<Self> {
        Ok(Self::new(consumer(region, ring, 1)?, data(region, ring)))
    }

    #[inline]
    fn probe(&mut self) -> bool {
        self.probe()
    }

    fn find(&mut self) -> Result<Option<Found>, Corrupt> {
        if self.ring.readable(1)? > 0 {
            return Ok(Some(Found::Message));
        }
        Ok(self.next_producer().map(Found::NextProducer))
    }

    fn next_producer(&self) -> Option<ProducerChange> {
        self.ring.next_producer()
    }

    fn switch_producer(&mut self) {
        self.ring.switch_producer();
    }

    fn position(&self) -> u64 {
        self.ring.position()
    }
}

/// Reads records, and puts the fragments of large messages together.
pub(crate) struct Reassembler {
    pub(crate) records: RecordReader<Mapped>,
    fragments: Vec<u8>,
    /// The length of the message whose fragments are being collected.
    expected: Option<usize>,
    /// Bytes that may still come of a message whose beginning a dead predecessor had read.
    orphan_budget: u64,
}

/// What one step of reading resulted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Empty,
    /// Something was read, the message is not complete yet.
    More,
    /// A message of this many bytes was delivered.
    Done(usize),
}

/// Where a receiver puts a message.
pub(crate) trait RecvBuffer {
    /// Returns the bytes for a message of this length.
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], RecvError>;

    /// Checks that a message of this length would fit.
    fn check_len(&self, length: usize) -> Result<(), RecvError>;

    /// Takes a message that was put together elsewhere.
    fn fill(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError>;
}

impl RecvBuffer for Vec<u8> {
    #[inline]
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], RecvError> {
        let missing = length.saturating_sub(self.len());
        self.try_reserve(missing).map_err(|_| RecvError::OutOfMemory)?;
        self.resize(length, 0);
        Ok(self)
    }

    fn check_len(&self, _: usize) -> Result<(), RecvError> {
        Ok(())
    }

    fn fill(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        std::mem::swap(self, message);
        Ok(())
    }
}

impl RecvBuffer for &mut [u8] {
    #[inline]
    fn reserve(&mut self, length: usize) -> Result<&mut [u8], RecvError> {
        self.get_mut(..length).ok_or(RecvError::BufferTooSmall { needed: length })
    }

    fn check_len(&self, length: usize) -> Result<(), RecvError> {
        if length <= self.len() { Ok(()) } else { Err(RecvError::BufferTooSmall { needed: length }) }
    }

    fn fill(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.reserve(message.len())?.copy_from_slice(message);
        Ok(())
    }
}

impl Reassembler {
    /// Reads one record.
    #[inline]
    pub(crate) fn step(&mut self, buffer: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        match self.records.next()? {
            Record::Empty => Ok(Progress::Empty),
            Record::Message { start, length } => {
                self.records.copy_out(start, buffer.reserve(length)?)?;
                (self.expected, self.orphan_budget) = (None, 0); // the sender gave up an unfinished one, if any
                self.records.release(length);
                Ok(Progress::Done(length))
            }
            Record::Begin { length } => {
                let length = usize::try_from(length).map_err(|_| RecvError::OutOfMemory)?;
                buffer.check_len(length)?;
                self.fragments.clear();
                (self.expected, self.orphan_budget) = (Some(length), 0);
                self.records.release(0);
                Ok(Progress::More)
            }
            Record::Fragment { start, length } => self.collect(start, length, buffer),
        }
    }

    /// Skips a fragment of a message whose beginning a predecessor had read.
    fn skip_orphan(&mut self, length: usize) -> Result<(), RecvError> {
        let is_first = self.orphan_budget == self.records.limit();
        self.orphan_budget = self.orphan_budget.checked_sub(length as u64).ok_or(Corrupt)?;
        self.records.release(length);
        if is_first { Err(RecvError::MessageLost) } else { Ok(()) }
    }

    /// Returns the first word and the length of the next message, which stays in the ring. None:
    /// nothing is there.
    pub(crate) fn peek(&mut self) -> Result<Option<(usize, usize)>, RecvError> {
        loop {
            match (self.records.next()?, self.expected) {
                (Record::Empty, _) => return Ok(None),
                (Record::Message { start, length }, _) => {
                    (self.expected, self.orphan_budget) = (None, 0);
                    return Ok(Some((start, length)));
                }
                (Record::Begin { length }, _) => return Err(RecvError::BufferTooSmall { needed: length as usize }),
                (Record::Fragment { .. }, Some(needed)) => return Err(RecvError::BufferTooSmall { needed }),
                (Record::Fragment { length, .. }, None) => self.skip_orphan(length)?,
            }
        }
    }

    #[inline(never)]
    fn collect(&mut self, start: usize, length: usize, buffer: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        let Some(expected) = self.expected else {
            self.skip_orphan(length)?;
            return Ok(Progress::More);
        };
        buffer.check_len(expected)?;
        let have = self.fragments.len();
        if length > expected.saturating_sub(have) {
            return Err(Corrupt.into());
        }
        if self.fragments.capacity() - have < length {
            // Grows by doubling, up to the length of the message.
            let wanted = expected.min(2 * (have + length));
            self.fragments.try_reserve_exact(wanted - have).map_err(|_| RecvError::OutOfMemory)?;
        }
        self.fragments.resize(have + length, 0);
        if let Some(fragment) = self.fragments.get_mut(have..) {
            self.records.copy_out(start, fragment)?;
        }
        self.records.release(length);
        if have + length < expected {
            return Ok(Progress::More);
        }
        self.expected = None;
        buffer.fill(&mut self.fragments)?;
        Ok(Progress::Done(expected))
    }
}

impl RingReader for Reassembler {
    fn attach(region: &Region, ring: usize) -> Result<Self> {
        let limit = region.layout().max_message_bytes();
        let records = RecordReader::new(consumer(region, ring, WORD as u64)?, data(region, ring), limit);
        Ok(Self { records, fragments: Vec::new(), expected: None, orphan_budget: limit })
    }

    #[inline]
    fn probe(&mut self) -> bool {
        self.records.probe()
    }

    fn find(&mut self) -> Result<Option<Found>, Corrupt> {
        if self.records.next()? != Record::Empty {
            return Ok(Some(Found::Message));
        }
        Ok(self.next_producer().map(Found::NextProducer))
    }

    fn next_producer(&self) -> Option<ProducerChange> {
        self.records.ring.next_producer()
    }

    fn switch_producer(&mut self) {
        self.records.ring.switch_producer();
    }

    fn position(&self) -> u64 {
        self.records.ring.position() / TYPICAL_RECORD_WORDS
    }
}

/// `unit`: how many of the layout's units of capacity a position of the ring is.
fn producer(region: &Region, ring: usize, unit: u64) -> Result<Producer<Mapped>> {
    Producer::attach(positions(region, ring), region.layout().capacity() / unit)
        .map_err(|Corrupt| corrupt_positions_error(region))
}

fn consumer(region: &Region, ring: usize, unit: u64) -> Result<Consumer<Mapped>> {
    let owner = Side::Producer.owner(region, ring);
    Consumer::attach(positions(region, ring), owner, region.layout().capacity() / unit)
        .map_err(|Corrupt| corrupt_positions_error(region))
}

fn positions(region: &Region, ring: usize) -> Positions<Mapped> {
    Positions { tail: Side::Producer.position(region, ring), head: Side::Consumer.position(region, ring) }
}

fn data(region: &Region, ring: usize) -> Words {
    let (start, length) = connection::layout(region).data(ring);
    region.words(start, length)
}

fn corrupt_positions_error(region: &Region) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format_args!("join {}", region.display_name()),
        "ring positions that contradict each other",
        "at most one lap between them",
        "a participant wrote invalid data into the region: remove it and start again",
    )
}
