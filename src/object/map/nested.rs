//! Changes that the closure of an update makes to the bucket of that same update. Such a change is
//! faster than the update, each time.

use std::cell::RefCell;

/// An update whose closure is running.
struct Running {
    /// The [`LocalState`](crate::object::LocalState) of its map.
    map: u64,
    bucket: usize,
    is_overtaken: bool,
}

thread_local! {
    /// Those of this thread, the innermost last.
    static RUNNING: RefCell<Vec<Running>> = const { RefCell::new(Vec::new()) };
}

/// Ends when dropped, also if the closure panics.
struct Guard;

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = RUNNING.try_with(|running| running.borrow_mut().pop());
    }
}

/// Calls the closure of an update. Returns also whether it has changed the bucket. While the
/// thread-locals of the thread are being destroyed, that is not known.
pub(super) fn run<R>(map: u64, bucket: usize, closure: impl FnOnce() -> R) -> (R, bool) {
    let new = Running { map, bucket, is_overtaken: false };
    let guard = RUNNING.try_with(|running| running.borrow_mut().push(new)).is_ok().then_some(Guard);
    let result = closure();
    let is_overtaken = RUNNING.try_with(|running| running.borrow().last().is_some_and(|last| last.is_overtaken));
    drop(guard);
    (result, is_overtaken.unwrap_or(false))
}

/// Tells those that run that this thread has changed a bucket.
#[inline]
pub(super) fn note_change(map: u64, bucket: usize) {
    let _ = RUNNING.try_with(|running| {
        let mut running = running.borrow_mut();
        running.iter_mut().filter(|one| (one.map, one.bucket) == (map, bucket)).for_each(|one| one.is_overtaken = true);
    });
}
