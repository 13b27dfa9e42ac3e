//! The elements of a list in their words. Those of bytes and text have their length before them.

use crate::object::element::{Element, Stored, Unreadable};
use crate::primitive::{AtomicU64, Ordering, WORD, store_short};
use crate::raw::list::{Refused, View as RawView};
use crate::region::words::Mapped;

pub(super) type View<'a> = RawView<'a, Mapped>;

/// What a look at an element has come to. If others change the list, it may be half of one element
/// and half of another: then it is dropped.
pub(super) type Loaded<R> = Result<R, Unreadable>;

/// The length of an element in bytes, and its words. `size`: of each element. None: an element
/// cannot be that long.
#[inline]
pub(super) fn content(size: Option<usize>, words: &[AtomicU64]) -> Option<(usize, &[AtomicU64])> {
    let (length, words) = match size {
        Some(size) => (size, words),
        None => {
            let (length, words) = words.split_first()?;
            (usize::try_from(length.load(Ordering::Relaxed)).ok()?, words) // as an element's words
        }
    };
    Some((length, words.get(..length.div_ceil(WORD))?))
}

#[inline]
pub(super) fn store<E: Element + ?Sized>(element: &E, mut words: &[AtomicU64]) {
    let bytes = element.bytes();
    if let (None, Some((length, rest))) = (E::SIZE, words.split_first()) {
        length.store(bytes.len() as u64, Ordering::Relaxed); // as an element's words
        words = rest;
    }
    store_short(words, bytes);
}

/// Copies an element, if there is one.
#[inline]
pub(super) fn load<E: Element + ?Sized>(view: &View<'_>, index: u64) -> Result<Option<Loaded<E::Owned>>, Refused> {
    load_by::<E, _>(view, index, E::load)
}

/// The same, as `copy` copies it.
#[inline]
pub(super) fn load_by<E: Element + ?Sized, R>(
    view: &View<'_>,
    index: u64,
    mut copy: impl FnMut(&Stored<'_>) -> Loaded<R>,
) -> Result<Option<Loaded<R>>, Refused> {
    if index >= view.len() {
        return Ok(None);
    }
    let mut loaded = Err(Unreadable::Corrupt);
    view.visit(index..index + 1, |words| {
        if let Some((length, words)) = content(E::SIZE, words) {
            loaded = copy(&Stored::Words { length, words });
        }
        Ok(())
    })?;
    Ok(Some(loaded))
}

/// Gives copies of these elements to `take`, those that can be read.
pub(super) fn load_all<E: Element + ?Sized>(
    view: &View<'_>,
    elements: std::ops::Range<u64>,
    mut take: impl FnMut(E::Owned),
) -> Result<Loaded<()>, Refused> {
    let mut all = Ok(());
    view.visit(elements, |words| {
        for words in words.chunks_exact(view.width()) {
            let content = content(E::SIZE, words).ok_or(Unreadable::Corrupt);
            match content.and_then(|(length, words)| E::load(&Stored::Words { length, words })) {
                Ok(element) => take(element),
                Err(unreadable) => all = Err(unreadable),
            }
        }
        Ok(())
    })?;
    Ok(all)
}
