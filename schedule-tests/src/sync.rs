//! The twin of `src/sync.rs` for coroutines. Each access is a point at which another participant may go on, or at which this
//! one may be killed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

pub(crate) use std::sync::atomic::Ordering;

use crate::world;

pub(crate) const WORD: usize = size_of::<u64>();

pub(crate) fn spin_loop() {
    world::pause();
}

pub(crate) fn fence(ordering: Ordering) {
    // The others order what x86 does not reorder.
    if ordering == Ordering::SeqCst {
        world::pause();
        world::flush_own();
        world::tell(|| "fence".into());
    }
}

/// Nothing: that is its point.
pub(crate) fn light_fence() {}

pub(crate) fn heavy_fence() -> bool {
    fence(Ordering::SeqCst);
    if !world::has_membarrier() {
        return false;
    }
    // One processor after the other is interrupted, while the rest go on.
    for who in world::with_membarrier() {
        world::pause();
        world::flush(who);
    }
    world::tell(|| "heavy fence".into());
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

    fn tell(&self, what: &str, value: u64) {
        world::tell(|| format!("{what} {}[{}]: {value:#x}", self.name, self.index));
    }

    pub(crate) fn load(&self, _: Ordering) -> u64 {
        world::pause();
        let value = world::newest_own_store(&self.cell).unwrap_or_else(|| self.cell.get());
        self.tell("load", value);
        value
    }

    pub(crate) fn store(&self, value: u64, ordering: Ordering) {
        world::pause();
        world::store(&self.cell, value);
        if ordering == Ordering::SeqCst {
            world::flush_own();
        }
        self.tell("store", value);
    }

    /// A locked instruction.
    fn change(&self, what: &str, change: impl FnOnce(u64) -> Option<u64>) -> Result<u64, u64> {
        world::pause();
        world::flush_own();
        let before = self.cell.get();
        let after = change(before);
        if let Some(after) = after {
            self.cell.set(after);
        }
        world::tell(|| {
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

/// A word that one can sleep on.
pub(crate) struct AtomicU32(AtomicU64);

impl AtomicU32 {
    pub(crate) fn named(name: &'static str) -> Self {
        Self(AtomicU64::named(name, 0))
    }

    pub(crate) fn load(&self, ordering: Ordering) -> u32 {
        self.0.load(ordering) as u32
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

/// Whether time ends a sleep is the scheduler's decision: see [`world::Sleep`].
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, _: Duration) {
    world::pause();
    world::flush_own();
    if word.0.cell.get() as u32 == expected {
        world::tell(|| format!("sleeps on {}", word.0.name));
        world::sleep(Rc::as_ptr(&word.0.cell));
    }
}

pub(crate) fn futex_wake(word: &AtomicU32, count: u32) -> usize {
    world::pause();
    world::flush_own();
    let woken = world::wake(Rc::as_ptr(&word.0.cell), count as usize);
    world::tell(|| format!("wakes {woken} of {}", word.0.name));
    woken
}

pub(crate) fn store_bytes(target: &[AtomicU64], source: &[u8]) {
    for (word, bytes) in target.iter().zip(source.chunks(WORD)) {
        let mut value = [0; WORD];
        value[..bytes.len()].copy_from_slice(bytes);
        word.store(u64::from_ne_bytes(value), Ordering::Relaxed);
    }
}

pub(crate) fn stream_bytes(target: &[AtomicU64], source: &[u8]) {
    store_bytes(target, source);
}

pub(crate) fn load_bytes(source: &[AtomicU64], target: &mut [u8]) {
    for (bytes, word) in target.chunks_mut(WORD).zip(source) {
        let value = word.load(Ordering::Relaxed).to_ne_bytes();
        bytes.copy_from_slice(&value[..bytes.len()]);
    }
}

pub(crate) fn store_value<T: bytemuck::Pod>(target: &[AtomicU64], value: &T) {
    store_bytes(target, bytemuck::bytes_of(value));
}

pub(crate) fn load_value_into<T: bytemuck::Pod>(source: &[AtomicU64], value: &mut T) {
    load_bytes(source, bytemuck::bytes_of_mut(value));
}

/// A hint, and no access.
pub(crate) fn prefetch_to_read(_: &[AtomicU64], _: usize) {}

pub(crate) fn prefetch_to_write(_: &[AtomicU64], _: usize) {}
