//! The track of one publisher, as subscribers and observers read it: its messages, and its latest
//! values if the broadcast has keys.

use crate::error::RecvError;
use crate::primitive::AtomicU64;
use crate::raw::Corrupt;
use crate::raw::broadcast::consumer::{Consumer, Published, Read};
use crate::raw::broadcast::latest::{Latest, Seen};
use crate::region::words::Mapped;

pub(super) struct TrackReader {
    pub(super) consumer: Consumer<Mapped>,
    /// `None` if the broadcast has no keys.
    latest: Option<Latest<Mapped>>,
    /// What the last snapshot has of the messages that are to be read.
    seen: Option<Seen>,
}

impl TrackReader {
    pub(super) fn new(consumer: Consumer<Mapped>, latest: Option<Latest<Mapped>>) -> Self {
        Self { consumer, latest, seen: None }
    }

    /// How many keys the broadcast has. `None`: it has none.
    #[inline]
    pub(super) fn keys(&self) -> Option<u64> {
        self.latest.as_ref().map(Latest::keys)
    }

    /// Whether the last snapshot has messages that are to be read.
    pub(super) fn is_behind_snapshot(&self) -> bool {
        self.seen.is_some()
    }

    /// Reads messages, if possible `want` slots. Passes over those that the last snapshot has, and
    /// calls `on_pass` when their slots are free.
    #[inline(always)]
    pub(super) fn read<R>(
        &mut self,
        want: u64,
        mut copy: impl FnMut(Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
        on_pass: impl Fn(),
    ) -> Result<Read<R>, Corrupt> {
        match self.seen {
            None => self.consumer.read_many(want, &mut copy),
            Some(_) => self.read_unseen(&mut copy, on_pass),
        }
    }

    /// Reads one message that the snapshot does not have.
    #[cold]
    fn read_unseen<R>(
        &mut self,
        mut copy: impl FnMut(Published<'_, Mapped>) -> Result<(u64, R), Corrupt>,
        on_pass: impl Fn(),
    ) -> Result<Read<R>, Corrupt> {
        while let Some(seen) = &mut self.seen {
            let read = seen.read(&mut self.consumer, &mut copy)?;
            if seen.is_over(&self.consumer) {
                self.seen = None;
            }
            match read {
                Read::Message(Some(read)) => return Ok(Read::Message(read)),
                Read::Message(None) => on_pass(),
                Read::Empty => return Ok(Read::Empty),
                Read::Lagged(missed) => return Ok(Read::Lagged(missed)),
                Read::Evicted => return Ok(Read::Evicted),
            }
        }
        self.consumer.read(copy)
    }
}

/// Takes a snapshot of the latest values of all tracks. `copy` gets their words, and `add` what it
/// returned, with the key, the publisher and the position, in the order of the keys. Returns for
/// each publisher the position at which the snapshot began, and from which its messages are read
/// now. After an error they are read from where they were.
pub(super) fn snapshot<R>(
    tracks: &mut [&mut TrackReader],
    mut copy: impl FnMut(&[AtomicU64]) -> R,
    mut add: impl FnMut(u64, usize, u64, R) -> Result<(), RecvError>,
) -> Result<Vec<u64>, RecvError> {
    let keys = tracks.first().and_then(|track| track.keys()).ok_or(RecvError::NoKeys)?;
    let snapshots: Option<Vec<Seen>> = tracks.iter().map(|_| Seen::with_keys(keys)).collect();
    let mut snapshots = snapshots.ok_or(RecvError::OutOfMemory)?;
    for (track, snapshot) in tracks.iter_mut().zip(&mut snapshots) {
        if !snapshot.begin(&mut track.consumer)? {
            return Err(RecvError::Evicted);
        }
    }
    for key in 0..keys {
        for (publisher, (track, snapshot)) in tracks.iter().zip(&mut snapshots).enumerate() {
            let Some(latest) = &track.latest else { continue };
            if let Some((position, value)) = snapshot.load(latest, key, |words| Ok(copy(words)))? {
                add(key, publisher, position, value)?;
            }
        }
    }
    for (track, snapshot) in tracks.iter_mut().zip(&snapshots) {
        snapshot.end(&mut track.consumer)?;
    }
    let started = snapshots.iter().map(Seen::start).collect();
    for (track, snapshot) in tracks.iter_mut().zip(snapshots) {
        track.seen = snapshot.go_on(&mut track.consumer);
    }
    Ok(started)
}
