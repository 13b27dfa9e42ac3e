//! The stand-in for `src/primitive.rs` in coroutines. At each access another participant may run,
//! or this one may be killed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use std::sync::atomic::Ordering;

use crate::world;

#[path = "../../loom-tests/src/primitive/bytes.rs"]
mod bytes;
pub(crate) use bytes::*;

pub(crate) fn spin_loop() {
    world::pause();
}

pub(crate) fn fence(ordering: Ordering) {
    // Other fences order what x86 does not reorder.
    if ordering == Ordering::SeqCst {
        world::pause();
        world::flush_current();
        world::log(|| "fence".into());
    }
}

/// Does nothing, as in the product.
pub(crate) fn light_fence() {}

pub(crate) fn heavy_fence() -> bool {
    fence(Ordering::SeqCst);
    if !world::has_membarrier() {
        return false;
    }
    // One processor after the other is interrupted, while the others go on.
    for id in world::with_membarrier() {
        world::pause();
        world::flush(id);
    }
    world::log(|| "heavy fence".into());
    true
}

pub(crate) fn has_light_fence() -> bool {
    world::has_membarrier()
}

pub(crate) fn load_in_order(word: &AtomicU64) -> u64 {
    word.load(Ordering::SeqCst)
}

/// A word of shared memory.
pub(crate) struct AtomicU64 {
    cell: Rc<Cell<u64>>,
    name: &'static str,
    index: usize,
}

impl AtomicU64 {
    pub(crate) fn named(name: &'static str, index: usize) -> Self {
        Self { cell: Rc::default(), name, index }
    }

    fn log(&self, what: &str, value: u64) {
        world::log(|| format!("{what} {}[{}]: {value:#x}", self.name, self.index));
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        world::pause();
        let value = world::own_pending_store(&self.cell).unwrap_or_else(|| self.cell.get());
        self.log("load", value);
        value
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        world::pause();
        world::store(&self.cell, value);
        if ordering == Ordering::SeqCst {
            world::flush_current();
        }
        self.log("store", value);
    }

    /// A locked instruction.
    fn change(&self, what: &str, change: impl FnOnce(u64) -> Option<u64>) -> Result<u64, u64> {
        world::pause();
        world::flush_current();
        let before = self.cell.get();
        let after = change(before);
        if let Some(after) = after {
            self.cell.set(after);
        }
        world::log(|| {
            let after = after.map_or("refused".into(), |after| format!("{after:#x}"));
            format!("{what} {}[{}]: {before:#x} -> {after}", self.name, self.index)
        });
        if after.is_some() { Ok(before) } else { Err(before) }
    }

    fn update(&self, what: &str, change: impl FnOnce(u64) -> u64) -> u64 {
        let (Ok(before) | Err(before)) = self.change(what, |before| Some(change(before)));
        before
    }

    pub(crate) fn fetch_add(&self, value: u64, _: Ordering) -> u64 {
        self.update("add", |before| before.wrapping_add(value))
    }

    pub(crate) fn fetch_sub(&self, value: u64, _: Ordering) -> u64 {
        self.update("sub", |before| before.wrapping_sub(value))
    }

    pub(crate) fn fetch_or(&self, value: u64, _: Ordering) -> u64 {
        self.update("or", |before| before | value)
    }

    pub(crate) fn fetch_and(&self, value: u64, _: Ordering) -> u64 {
        self.update("and", |before| before & value)
    }

    pub(crate) fn compare_exchange(&self, old: u64, new: u64, _: Ordering, _: Ordering) -> Result<u64, u64> {
        self.change("swap", |before| (before == old).then_some(new))
    }
}

/// A futex word.
pub(crate) struct AtomicU32(AtomicU64);

impl AtomicU32 {
    pub(crate) fn named(name: &'static str) -> Self {
        Self(AtomicU64::named(name, 0))
    }

    pub(crate) fn new(value: u32) -> Self {
        let word = Self::named("private");
        word.0.cell.set(value.into());
        word
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.0.load(ordering) as u32
    }

    pub(crate) fn store(&self, value: u32, ordering: Ordering) {
        self.0.store(value.into(), ordering);
    }

    pub(crate) fn fetch_add(&self, value: u32, _: Ordering) -> u32 {
        self.0.update("add", |before| (before as u32).wrapping_add(value).into()) as u32
    }

    pub(crate) fn fetch_or(&self, value: u32, ordering: Ordering) -> u32 {
        self.0.fetch_or(value.into(), ordering) as u32
    }

    pub(crate) fn fetch_and(&self, value: u32, ordering: Ordering) -> u32 {
        self.0.fetch_and(value.into(), ordering) as u32
    }

    pub(crate) fn compare_exchange(&self, old: u32, new: u32, yes: Ordering, no: Ordering) -> Result<u32, u32> {
        let seen = |word: u64| word as u32;
        self.0.compare_exchange(old.into(), new.into(), yes, no).map(seen).map_err(seen)
    }
}

/// The scheduler decides whether a sleep times out: see [`world::Sleep`].
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: Duration) {
    world::pause();
    world::flush_current();
    if word.0.cell.get() as u32 == expected {
        world::log(|| format!("sleeps on {}", word.0.name));
        world::sleep(Rc::as_ptr(&word.0.cell));
    }
}

/// No model here interrupts anybody.
pub(crate) fn futex_wait_either([(word, expected), _]: [(&AtomicU32, u32); 2], limit: Duration, _: bool) -> bool {
    futex_wait(word, expected, limit);
    false
}

pub(crate) fn futex_wait_signalled(word: &AtomicU32, expected: u32, limit: Duration) -> bool {
    futex_wait(word, expected, limit);
    false
}

/// No participant sleeps on several words.
pub(crate) fn futex_wait_any<'a>(_: impl Iterator<Item = (&'a AtomicU32, u32)>, _: Duration) -> bool {
    false
}

pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    world::pause();
    world::flush_current();
    let woken = world::wake(Rc::as_ptr(&word.0.cell), count as usize);
    world::log(|| format!("wakes {woken} of {}", word.0.name));
    woken
}
