//! What pipes and queues carry: byte messages (`[u8]`) or values of one plain type, and how each moves through a pipe's ring.

use bytemuck::Pod;

use crate::error::{Error, ErrorKind, RecvError, Result};
use crate::pipe::connection::{self, Side};
use crate::primitive::WORD;
use crate::raw::spsc::record_ring::{Next, RecordReader, RecordWriter};
use crate::raw::spsc::value_ring::{SlotReader, SlotWriter};
use crate::raw::spsc::{Consumer, Indices, Producer, ProducerChange};
use crate::raw::{Corrupt, Ready};
use crate::region::Region;
use crate::region::layout::header::ElementType;
use crate::region::words::{Mapped, Words};
use crate::wait::poll_backoff::TYPICAL_RECORD_WORDS;

/// A kind of message: `[u8]`, or a type of which every bit pattern is a value ([`bytemuck::Pod`]).
pub trait Message: sealed::PipeCodec {}

impl Message for [u8] {}
impl<T: Pod> Message for T {}

pub(crate) mod sealed {
    use super::*;

    pub trait PipeCodec: 'static {
        type Writer: Send;
        type Reader: Send + Look;
        fn element(tag: [u8; 8]) -> ElementType;
        fn writer(region: &Region, ring: usize) -> Result<Self::Writer>;
        fn reader(region: &Region, ring: usize) -> Result<Self::Reader>;
    }

    pub trait Look {
        /// Whether there is something to read, by the quickest look. Of successors, ends and damage it takes no notice.
        fn glance(&mut self) -> bool;
        /// What there is to do for a reader, if anything.
        fn look(&mut self) -> Result<Option<Ready>, Corrupt>;
        /// With everything of one producer read: its successor, if there is one.
        fn successor(&self) -> Option<ProducerChange>;
        /// Passes on to the producer's successor.
        fn succeed(&mut self);
        /// Messages read so far, roughly.
        fn position(&self) -> u64;
    }
}

use sealed::{Look, PipeCodec};

impl PipeCodec for [u8] {
    type Writer = RecordWriter<Mapped>;
    type Reader = Reassembler;

    fn element(_: [u8; 8]) -> ElementType {
        ElementType::Bytes
    }

    fn writer(region: &Region, ring: usize) -> Result<Self::Writer> {
        Ok(RecordWriter::new(producer(region, ring, WORD as u64)?, data(region, ring)))
    }

    fn reader(region: &Region, ring: usize) -> Result<Self::Reader> {
        let ring_reader = consumer(region, ring, WORD as u64)?;
        let records = RecordReader::new(ring_reader, data(region, ring), region.layout().max_message_bytes());
        Ok(Reassembler { records, parts: Vec::new(), expected: None, orphans: region.layout().max_message_bytes() })
    }
}

impl<T: Pod> PipeCodec for T {
    type Writer = SlotWriter<Mapped, T>;
    type Reader = SlotReader<Mapped, T>;

    fn element(tag: [u8; 8]) -> ElementType {
        ElementType::Value { size: size_of::<T>() as u64, align: align_of::<T>() as u64, tag }
    }

    fn writer(region: &Region, ring: usize) -> Result<Self::Writer> {
        Ok(SlotWriter::new(producer(region, ring, 1)?, data(region, ring)))
    }

    fn reader(region: &Region, ring: usize) -> Result<Self::Reader> {
        Ok(SlotReader::new(consumer(region, ring, 1)?, data(region, ring)))
    }
}

fn producer(region: &Region, ring: usize, unit: u64) -> Result<Producer<Mapped>> {
    Producer::adopt(indices(region, ring), region.layout().capacity() / unit).map_err(|Corrupt| damaged(region))
}

fn consumer(region: &Region, ring: usize, unit: u64) -> Result<Consumer<Mapped>> {
    let role = Side::Producer.role(region, ring);
    Consumer::adopt(indices(region, ring), role, region.layout().capacity() / unit).map_err(|Corrupt| damaged(region))
}

fn indices(region: &Region, ring: usize) -> Indices<Mapped> {
    Indices { tail: Side::Producer.index(region, ring), head: Side::Consumer.index(region, ring) }
}

fn data(region: &Region, ring: usize) -> Words {
    let (start, length) = connection::layout(region).data(ring);
    region.words(start, length)
}

fn damaged(region: &Region) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        format_args!("join {}", region.display_name()),
        "ring indices that contradict each other",
        "at most one lap between them",
        "a participant scribbled over the region: remove it and start afresh",
    )
}

impl<T: Pod> Look for SlotReader<Mapped, T> {
    #[inline]
    fn glance(&mut self) -> bool {
        Self::glance(self)
    }

    fn look(&mut self) -> Result<Option<Ready>, Corrupt> {
        if self.ring.ready(1)? > 0 {
            return Ok(Some(Ready::Message));
        }
        Ok(self.successor().map(Ready::Successor))
    }

    fn successor(&self) -> Option<ProducerChange> {
        self.ring.successor()
    }

    fn succeed(&mut self) {
        self.ring.succeed();
    }

    fn position(&self) -> u64 {
        self.ring.position()
    }
}

/// Reads records and puts large messages together again.
pub struct Reassembler {
    pub(crate) records: RecordReader<Mapped>,
    parts: Vec<u8>,
    /// The length of the message whose parts we are collecting.
    expected: Option<usize>,
    /// Bytes of parts that we may still meet of a message over which our predecessor died.
    orphans: u64,
}

/// What one step of reading came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Empty,
    /// Something was read, the message is not complete yet.
    More,
    /// A message of so many bytes was delivered.
    Done(usize),
}

/// Where a message goes.
pub(crate) trait RecvBuffer {
    /// The place for a message of so many bytes.
    fn space(&mut self, length: usize) -> Result<&mut [u8], RecvError>;
    /// Whether there could be such a place.
    fn admits(&self, length: usize) -> Result<(), RecvError>;
    /// A message that was put together elsewhere.
    fn accept(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError>;
}

impl RecvBuffer for Vec<u8> {
    #[inline]
    fn space(&mut self, length: usize) -> Result<&mut [u8], RecvError> {
        let missing = length.saturating_sub(self.len());
        self.try_reserve(missing).map_err(|_| RecvError::OutOfMemory)?;
        self.resize(length, 0);
        Ok(self)
    }

    fn admits(&self, _: usize) -> Result<(), RecvError> {
        Ok(())
    }

    fn accept(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        std::mem::swap(self, message);
        Ok(())
    }
}

impl RecvBuffer for &mut [u8] {
    #[inline]
    fn space(&mut self, length: usize) -> Result<&mut [u8], RecvError> {
        self.get_mut(..length).ok_or(RecvError::BufferTooSmall { needed: length })
    }

    fn admits(&self, length: usize) -> Result<(), RecvError> {
        if length <= self.len() { Ok(()) } else { Err(RecvError::BufferTooSmall { needed: length }) }
    }

    fn accept(&mut self, message: &mut Vec<u8>) -> Result<(), RecvError> {
        self.space(message.len())?.copy_from_slice(message);
        Ok(())
    }
}

impl Reassembler {
    /// Reads one record.
    #[inline]
    pub(crate) fn step(&mut self, target: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        match self.records.next()? {
            Next::Empty => Ok(Progress::Empty),
            Next::Message { start, length } => {
                self.records.copy_out(start, target.space(length)?)?;
                (self.expected, self.orphans) = (None, 0); // its sender gave up on a large one, if there was one
                self.records.release(length);
                Ok(Progress::Done(length))
            }
            Next::Large { length } => {
                let length = usize::try_from(length).map_err(|_| RecvError::OutOfMemory)?;
                target.admits(length)?;
                self.parts.clear();
                (self.expected, self.orphans) = (Some(length), 0);
                self.records.release(0);
                Ok(Progress::More)
            }
            Next::Part { start, length } => self.collect(start, length, target),
        }
    }

    /// Passes over a part of a message of which our predecessor had the beginning.
    fn skip_orphan(&mut self, length: usize) -> Result<(), RecvError> {
        let first = self.orphans == self.records.limit();
        self.orphans = self.orphans.checked_sub(length as u64).ok_or(RecvError::Corrupt)?;
        self.records.release(length);
        if first { Err(RecvError::MessageLost) } else { Ok(()) }
    }

    /// The next message in place: its first word and its length. None: nothing there.
    pub(crate) fn peek(&mut self) -> Result<Option<(usize, usize)>, RecvError> {
        loop {
            match (self.records.next()?, self.expected) {
                (Next::Empty, _) => return Ok(None),
                (Next::Message { start, length }, _) => {
                    (self.expected, self.orphans) = (None, 0);
                    return Ok(Some((start, length)));
                }
                (Next::Large { length }, _) => return Err(RecvError::BufferTooSmall { needed: length as usize }),
                (Next::Part { .. }, Some(needed)) => return Err(RecvError::BufferTooSmall { needed }),
                (Next::Part { length, .. }, None) => self.skip_orphan(length)?,
            }
        }
    }

    #[inline(never)]
    fn collect(&mut self, start: usize, length: usize, target: &mut impl RecvBuffer) -> Result<Progress, RecvError> {
        let Some(expected) = self.expected else {
            self.skip_orphan(length)?;
            return Ok(Progress::More);
        };
        target.admits(expected)?;
        let have = self.parts.len();
        if length > expected.saturating_sub(have) {
            return Err(RecvError::Corrupt);
        }
        if self.parts.capacity() - have < length {
            // Growing by doubling, as far as the message can get.
            let wanted = expected.min(2 * (have + length));
            self.parts.try_reserve_exact(wanted - have).map_err(|_| RecvError::OutOfMemory)?;
        }
        self.parts.resize(have + length, 0);
        if let Some(part) = self.parts.get_mut(have..) {
            self.records.copy_out(start, part)?;
        }
        self.records.release(length);
        if have + length < expected {
            return Ok(Progress::More);
        }
        self.expected = None;
        target.accept(&mut self.parts)?;
        Ok(Progress::Done(expected))
    }
}

impl Look for Reassembler {
    #[inline]
    fn glance(&mut self) -> bool {
        self.records.glance()
    }

    fn look(&mut self) -> Result<Option<Ready>, Corrupt> {
        if self.records.next()? != Next::Empty {
            return Ok(Some(Ready::Message));
        }
        Ok(self.successor().map(Ready::Successor))
    }

    fn successor(&self) -> Option<ProducerChange> {
        self.records.ring.successor()
    }

    fn succeed(&mut self) {
        self.records.ring.succeed();
    }

    fn position(&self) -> u64 {
        self.records.ring.position() / TYPICAL_RECORD_WORDS
    }
}
