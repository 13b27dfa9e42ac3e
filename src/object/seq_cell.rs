//! A typed seqlock inside of an object, and how its readers retry.

use std::marker::PhantomData;

use crate::error::SyncError;
use crate::object::Handle;
use crate::object::kind::ObjectWords;
use crate::object::spec::{Buffers, ObjectSpec};
use crate::primitive::{AtomicU64, Ordering, WORD, load_bytes, load_value_into, spin_loop, store_value};
use crate::raw::Corrupt;
use crate::raw::seqlock::{SeqLock, SeqLockView};
use crate::region::words::{Word, Words};
use crate::types::{Shareable, Unchecked, bits_of, load_checked};

/// A value of an object.
pub(crate) struct SeqCell<T> {
    seq_lock: SeqLock<Word, Words>,
    value: PhantomData<fn(T) -> T>,
}

impl<T: Shareable> SeqCell<T> {
    /// The object's value, with its control words at `control`.
    pub(crate) fn new(handle: &Handle, control: usize) -> Self {
        let object = handle.object();
        let buffers = object.spec.buffers(object.participants());
        let Buffers { offset, stride, count } = buffers.unwrap_or(Buffers { offset: 0, stride: 0, count: 1 });
        let (control, versions) =
            ([0, 1].map(|word| object.word(control + word)), object.words(offset, stride * count));
        Self { seq_lock: SeqLock::new(control, versions, stride, count as u64), value: PhantomData }
    }

    /// The number of the last version.
    pub(crate) fn version(&self) -> u64 {
        self.seq_lock.version()
    }

    /// Returns the last version and its number. `on_retry` runs after each attempt that a writer
    /// disturbed.
    #[inline(always)]
    pub(crate) fn load(&self, on_retry: impl FnMut(u32)) -> Result<(T, u64), SyncError> {
        if size_of::<T>() == 0 {
            return Ok((Unchecked::zeroed().check::<SyncError>()?, 0));
        }
        let (mut value, version) = self.seq_lock.read(load_unchecked::<T>, on_retry)?;
        Ok((value.check::<SyncError>()?, version))
    }

    /// Like [`load`](Self::load), but into `value`. Returns the number.
    #[inline]
    pub(crate) fn load_into(&self, value: &mut T, on_retry: impl FnMut(u32)) -> Result<u64, SyncError> {
        if size_of::<T>() == 0 {
            return Ok(0);
        }
        load_checked(value, |bits| Ok(self.seq_lock.read(|words| load_value_into(words, bits), on_retry)?.1))
    }

    /// Returns the last version, for the owner of the lock. Only a hostile peer can disturb that.
    #[inline(always)]
    pub(crate) fn load_locked(&self) -> Result<T, SyncError> {
        if size_of::<T>() == 0 {
            return Unchecked::zeroed().check();
        }
        match self.seq_lock.try_read(load_unchecked::<T>) {
            Ok((mut value, _)) => value.check(),
            Err(_) => Err(Corrupt.into()),
        }
    }

    /// Like [`load_locked`](Self::load_locked), but into `value`.
    #[inline]
    pub(crate) fn load_locked_into(&self, value: &mut T) -> Result<(), SyncError> {
        if size_of::<T>() == 0 {
            return Ok(());
        }
        load_checked(value, |bits| {
            let copy = |words: &[AtomicU64]| load_value_into(words, bits);
            self.seq_lock.try_read(copy).map(drop).map_err(|_| Corrupt.into())
        })
    }

    /// Stores the next version, for the owner of the lock. Returns its number.
    #[inline(always)]
    pub(crate) fn store(&self, value: &T) -> u64 {
        self.seq_lock.write(|words| store_value(words, bits_of(value)))
    }
}

/// A value from the first words, or zeros if there are too few.
#[inline(always)]
pub(super) fn load_unchecked<T: Shareable>(words: &[AtomicU64]) -> Unchecked<T> {
    let mut value = Unchecked::zeroed();
    load_value_into(words, value.bits_mut());
    value
}

/// A word by which readers ask a writer at full speed for a pause.
pub(crate) struct BackoffRequest(Word);

/// Retries of a reader before it asks.
const RETRIES_BEFORE_REQUEST: u32 = 8;

/// Stores between two checks of the request.
const CHECK_EVERY: u64 = 16;

impl BackoffRequest {
    pub(crate) fn new(word: Word) -> Self {
        Self(word)
    }

    /// After a reader's attempt that a writer disturbed.
    #[cold]
    pub(crate) fn on_retry(&self, retries: u32) {
        if retries >= RETRIES_BEFORE_REQUEST {
            self.0.store(1, Ordering::Relaxed); // a request, not an order
        }
        spin_loop();
    }

    /// After a writer's store of that version, of `size` bytes.
    #[inline(always)]
    pub(crate) fn pause_if_requested(&self, version: u64, size: usize) {
        if version.is_multiple_of(CHECK_EVERY) && self.0.load(Ordering::Relaxed) != 0 {
            self.pause(size);
        }
    }

    /// Gives a reader on a distant core enough time. It is bounded, so no reader can stop a writer.
    #[cold]
    fn pause(&self, size: usize) {
        self.0.store(0, Ordering::Relaxed);
        for _ in 0..100 + size / WORD {
            spin_loop();
        }
    }
}

/// Bytes of a value that are shown.
const SHOWN_BYTES: usize = 32;

/// Shows the value whose control words are at `control`. None: there is none, or it cannot be read.
pub(super) fn describe(object: &ObjectWords<'_>, control: usize) -> Option<String> {
    let buffers = object.spec.buffers(object.participants())?;
    describe_words(object.spec, &object.all(), control, buffers)
}

/// Like [`describe`], but of a value that lies in these words.
pub(super) fn describe_words(
    spec: &ObjectSpec,
    words: &[AtomicU64],
    control: usize,
    buffers: Buffers,
) -> Option<String> {
    let size = spec.size as usize;
    if size == 0 {
        return None;
    }
    let (control, versions) = (words.get(control..)?, words.get(buffers.offset..)?);
    let copy = |words: &[AtomicU64]| {
        let mut bytes = vec![0; size.min(SHOWN_BYTES)];
        load_bytes(words, &mut bytes);
        bytes
    };
    let seq_lock = SeqLockView::view(control, versions, buffers.stride, buffers.count as u64)?;
    Some(spec.format_value(&seq_lock.read(copy, |_| {}).ok()?.0))
}
