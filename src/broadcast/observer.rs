//! Observers: they read a broadcast without taking part in it.

use std::fmt;
use std::marker::PhantomData;
use std::thread;
use std::time::{Duration, Instant};

use crate::broadcast::slots::{Buffer, Front, SLOTS_PER_CLOCK_CHECK, load_front, timed_out};
use crate::broadcast::snapshot::Snapshot;
use crate::broadcast::track_reader::TrackReader;
use crate::error::{RecvError, Result};
use crate::interrupt::Interrupts;
use crate::message::{Messages, sealed::Receive};
use crate::options::wrong_type;
use crate::primitive::{Ordering, fence, load_bytes, load_value_into, spin_loop};
use crate::raw::Corrupt;
use crate::raw::broadcast::Track;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::latest::{Latest, split_slot};
use crate::region::layout::broadcast::{BroadcastLayout, control, track};
use crate::region::layout::header::RegionKind;
use crate::region::layout::{Layout, participant};
use crate::region::observed::ObservedRegion;
use crate::region::participant::{JOINED, LEAVING};
use crate::region::words::Mapped;
use crate::types::{Shareable, Unchecked};
use crate::wait::Timeout;

/// How an observer waits: it polls for this long, then yields for this long, then sleeps.
const SPIN_TIME: Duration = Duration::from_micros(2);
const YIELD_TIME: Duration = Duration::from_micros(50);

/// The first sleep. Each one is twice as long as the one before, up to the last.
const FIRST_SLEEP: Duration = Duration::from_micros(50);
const LAST_SLEEP: Duration = Duration::from_millis(1);

/// Reads the values of a broadcast without taking part in it: for dashboards, and to listen in.
///
/// An observer opens the file for reading and maps it for reading. It has no place among the
/// subscribers, no lock and no record, so no publisher waits for it, whatever the
/// [`Policy`](crate::broadcast::Policy), and nothing that it does or suffers can disturb others. It
/// needs nothing but the permission to read the file: see
/// [`mode`](crate::broadcast::Options::mode). (A hostile process with that permission can lock the
/// file, so that nobody can join any more.) If it is too slow, it gets
/// [`Lagged`](RecvError::Lagged).
///
/// Nobody knows that it waits, so nobody wakes it. A blocking call polls, and after about 50 µs it
/// sleeps between two polls, for at most 1 ms. So a value is received up to 1 ms late, if the
/// broadcast was idle.
///
/// It cannot ask the kernel whether a publisher was killed. It gets [`Closed`](RecvError::Closed)
/// if all publishers have left; if one was killed, it waits.
pub struct Observer<T: Shareable> {
    inner: Observation,
    message: PhantomData<fn() -> T>,
}

/// Reads the byte messages of a broadcast without taking part in it. See [`Observer`].
#[derive(Debug)]
pub struct ByteObserver {
    inner: Observation,
}

/// What observers of values and of byte messages have in common.
struct Observation {
    region: ObservedRegion,
    layout: BroadcastLayout,
    tracks: Vec<TrackReader>,
    /// The track to read next.
    current: usize,
}

impl Observation {
    fn new(region: ObservedRegion, replay: u64) -> Result<Self> {
        let Layout::Broadcast(layout) = *region.layout() else {
            return Err(wrong_type(RegionKind::Broadcast, region.layout().kind(), RegionKind::Broadcast));
        };
        let replay = replay.min(layout.geometry.history);
        let track = |index| {
            let (at, (start, length)) = (layout.track(index), layout.data(index));
            let track = Track {
                tail: region.word(at + track::TAIL),
                begun: region.word(at + track::BEGUN),
                slots: region.words(start, length),
                capacity: layout.capacity,
                stride: layout.stride(),
            };
            let (keys, (start, length)) = (layout.geometry.keys, layout.latest(index));
            let latest = (keys > 0).then(|| Latest::new(region.words(start, length), keys, layout.value_words()));
            TrackReader::new(Consumer::observer(track, replay), latest)
        };
        let tracks = (0..layout.publishers()).map(track).collect();
        Ok(Self { region, layout, tracks, current: 0 })
    }

    #[inline]
    fn try_read<R>(
        &mut self,
        mut copy: impl FnMut(usize, Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
    ) -> Result<Option<R>, RecvError> {
        for _ in 0..self.tracks.len() {
            let Some(track) = self.tracks.get_mut(self.current) else { break };
            match track.read(1, |published| copy(self.current, published), || {})? {
                Read::Message(read) => {
                    self.end_turn();
                    return Ok(Some(read));
                }
                Read::Lagged(missed) => {
                    self.end_turn();
                    return Err(RecvError::Lagged { missed });
                }
                Read::Empty | Read::Evicted => self.end_turn(),
            }
        }
        Ok(None)
    }

    /// However fast one publisher is, the others are not kept waiting.
    fn end_turn(&mut self) {
        self.current = if self.current + 1 < self.tracks.len() { self.current + 1 } else { 0 };
    }

    fn read<R>(
        &mut self,
        timeout: Timeout,
        mut copy: impl FnMut(usize, Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
    ) -> Result<R, RecvError> {
        let (mut started, mut sleep) = (None, FIRST_SLEEP);
        let interrupts = Interrupts::of_this_thread();
        loop {
            if let Some(read) = self.try_read(&mut copy)? {
                return Ok(read);
            }
            if self.has_ended() {
                // What was published before the end is visible now.
                return self.try_read(&mut copy)?.ok_or(RecvError::Closed);
            }
            let Timeout::At(deadline) = timeout else { return Err(RecvError::Empty) };
            if timeout.is_past() {
                return Err(RecvError::TimedOut);
            }
            if interrupts.take() {
                return Err(RecvError::Interrupted);
            }
            let now = Instant::now();
            match now.duration_since(*started.get_or_insert(now)) {
                waited if waited < SPIN_TIME => spin_loop(),
                waited if waited < YIELD_TIME => thread::yield_now(),
                _ => {
                    let rest = deadline.map_or(sleep, |deadline| sleep.min(deadline.duration_since(now)));
                    interrupts.sleep(rest);
                    sleep = LAST_SLEEP.min(2 * sleep);
                }
            }
        }
    }

    /// Whether there were publishers, and all have left.
    fn has_ended(&self) -> bool {
        // Relaxed, and a fence: an acquiring load needs memory that can be written.
        let load = |at| self.region.word(at).load(Ordering::Relaxed);
        let joined = load(BroadcastLayout::CONTROL + control::PUBLISHERS_JOINED);
        let is_there = |index| {
            let state = load(self.region.layout().participant(index) + participant::STATE);
            matches!(state, JOINED | LEAVING)
        };
        let has_ended = joined > 0 && !(0..self.layout.publishers()).any(is_there);
        fence(Ordering::Acquire); // edge: participant-record
        has_ended
    }
}

/// The methods that observers of values and of byte messages share.
macro_rules! observer_methods {
    () => {
        /// Returns how many messages were published and not received yet, at most the capacity for
        /// each publisher. Of byte messages: how many slots they take up.
        pub fn len(&self) -> usize {
            self.inner.tracks.iter().map(|track| track.consumer.len()).sum::<u64>() as usize
        }

        /// Returns whether there is nothing to receive.
        pub fn is_empty(&self) -> bool {
            self.len() == 0
        }

        /// Returns an iterator that blocks for each message, until the stream ends.
        pub fn iter(&mut self) -> Messages<&mut Self> {
            Messages::blocking(self)
        }

        /// Returns an iterator over the messages that are there, which does not block.
        pub fn try_iter(&mut self) -> Messages<&mut Self> {
            Messages::non_blocking(self)
        }
    };
}

impl<T: Shareable> Observer<T> {
    pub(super) fn new(region: ObservedRegion, replay: u64) -> Result<Self> {
        Ok(Self { inner: Observation::new(region, replay)?, message: PhantomData })
    }

    /// Receives one value.
    ///
    /// # Blocking
    /// Blocks until there is one. See [`Observer`].
    ///
    /// # Errors
    /// [`Lagged`](RecvError::Lagged), [`Closed`](RecvError::Closed),
    /// [`InvalidValue`](RecvError::InvalidValue) or [`Corrupt`](RecvError::Corrupt).
    pub fn recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self) -> Result<T, RecvError> {
        self.recv_within(Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_within(Timeout::after(timeout))
    }

    /// Receives one value with its key, in a broadcast with
    /// [`keys`](crate::broadcast::Options::keys).
    ///
    /// # Blocking
    /// As [`recv`](Self::recv).
    ///
    /// # Errors
    /// As for [`recv`](Self::recv), and [`NoKeys`](RecvError::NoKeys).
    pub fn recv_key(&mut self) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::UNLIMITED)
    }

    /// Like [`recv_key`](Self::recv_key), but returns [`Empty`](RecvError::Empty) instead of
    /// blocking.
    pub fn try_recv_key(&mut self) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::NonBlocking)
    }

    /// Like [`recv_key`](Self::recv_key), but returns [`TimedOut`](RecvError::TimedOut) after
    /// `timeout`.
    pub fn recv_key_timeout(&mut self, timeout: Duration) -> Result<(usize, T), RecvError> {
        self.recv_key_within(Timeout::after(timeout))
    }

    /// Returns the latest value of each key, in a broadcast with
    /// [`keys`](crate::broadcast::Options::keys). Calls that receive go on behind it, as after
    /// [`Subscriber::snapshot`](crate::broadcast::Subscriber::snapshot).
    ///
    /// # Blocking
    /// Never. It copies all keys of all publishers, and makes no system call.
    ///
    /// # Errors
    /// [`NoKeys`](RecvError::NoKeys), [`OutOfMemory`](RecvError::OutOfMemory),
    /// [`InvalidValue`](RecvError::InvalidValue) or [`Corrupt`](RecvError::Corrupt). Then nothing
    /// has changed: receive as before, or try again.
    pub fn snapshot(&mut self) -> Result<Snapshot<T>, RecvError> {
        Snapshot::take(self.inner.tracks.iter_mut())
    }

    observer_methods!();

    fn recv_key_within(&mut self, timeout: Timeout) -> Result<(usize, T), RecvError> {
        let keys = self.inner.tracks.first().and_then(TrackReader::keys).ok_or(RecvError::NoKeys)?;
        let mut value = Unchecked::<T>::zeroed();
        let key = self.inner.read(timeout, |_, published| {
            let (key, words) = split_slot(published.slot(0).ok_or(Corrupt)?)?;
            load_value_into(words, value.bits_mut());
            Ok((1, key))
        })?;
        if key >= keys {
            return Err(Corrupt.into());
        }
        Ok((key as usize, value.check::<RecvError>()?))
    }

    fn recv_within(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        let mut value = Unchecked::<T>::zeroed();
        let bits = value.bits_mut();
        let key_words = self.inner.layout.key_words();
        self.inner.read(timeout, |_, published| {
            let slot = published.slot(0).and_then(|slot| slot.get(key_words..));
            load_value_into(slot.ok_or(Corrupt)?, bits);
            Ok((1, ()))
        })?;
        value.check()
    }
}

impl ByteObserver {
    pub(super) fn new(region: ObservedRegion, replay: u64) -> Result<Self> {
        Ok(Self { inner: Observation::new(region, replay)? })
    }

    /// Receives one message into `message`, whose old content it replaces. Returns its length in
    /// bytes.
    ///
    /// # Blocking
    /// As [`Observer::recv`].
    ///
    /// # Errors
    /// Those of [`Observer::recv`], and [`OutOfMemory`](RecvError::OutOfMemory). After an error the
    /// content of `message` is unspecified.
    pub fn recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::UNLIMITED)
    }

    /// Like [`recv`](Self::recv), but returns [`Empty`](RecvError::Empty) instead of blocking.
    pub fn try_recv(&mut self, message: &mut Vec<u8>) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::NonBlocking)
    }

    /// Like [`recv`](Self::recv), but returns [`TimedOut`](RecvError::TimedOut) after `timeout`.
    pub fn recv_timeout(&mut self, message: &mut Vec<u8>, timeout: Duration) -> Result<usize, RecvError> {
        self.recv_within(message, Timeout::after(timeout))
    }

    observer_methods!();

    fn recv_within(&mut self, message: &mut Vec<u8>, timeout: Timeout) -> Result<usize, RecvError> {
        let (max_length, mut rest) = (self.inner.layout.max_message_bytes, self.inner.layout.max_rest());
        let (region, layout) = (self.inner.region.clone(), self.inner.layout);
        let frame_of = |frame: u64, track| {
            let (start, length) = layout.frame(track, frame)?;
            Some(region.words(start, length))
        };
        loop {
            let read = self.inner.read(timeout, |track, published| {
                let front = load_front(&published, max_length, message)?;
                let (_, Front::Frame { frame, length }) = front else { return Ok(front) };
                // Without a lease: like a slot, it is overwritten only after begun was stored.
                let words = frame_of(frame, track).ok_or(Corrupt)?;
                let Ok(target) = Buffer::reserve(message, length) else { return Ok((1, Front::OutOfMemory)) };
                load_bytes(&words, target);
                Ok((1, Front::Message(length)))
            })?;
            return match read {
                Front::Message(length) => Ok(length),
                Front::Rest if rest == 0 => Err(Corrupt.into()),
                Front::Rest => {
                    rest -= 1;
                    if rest.is_multiple_of(SLOTS_PER_CLOCK_CHECK) && timeout.is_past() {
                        return Err(timed_out(timeout));
                    }
                    continue;
                }
                Front::OutOfMemory | Front::BufferTooSmall { .. } => Err(RecvError::OutOfMemory),
                Front::Frame { .. } => Err(Corrupt.into()),
            };
        }
    }
}

impl<T: Shareable> Receive for Observer<T> {
    type Message = T;

    fn receive(&mut self, timeout: Timeout) -> Result<T, RecvError> {
        self.recv_within(timeout)
    }
}

impl Receive for ByteObserver {
    type Message = Vec<u8>;

    fn receive(&mut self, timeout: Timeout) -> Result<Vec<u8>, RecvError> {
        let mut message = Vec::new();
        self.recv_within(&mut message, timeout)?;
        Ok(message)
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observation").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<T: Shareable> fmt::Debug for Observer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("inner", &self.inner).finish()
    }
}
