//! What a process writes down of its calls, in memory that survives its death.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

use crate::linearizable::Call;

/// Nanoseconds of a clock that all processes share.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for the time.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[repr(C)]
struct Entry<O, R> {
    /// 0: there is no such call.
    began: AtomicU64,
    /// 0: it has not returned.
    ended: AtomicU64,
    operation: O,
    outcome: R,
}

/// The calls of one thread, in order. Another process of the same binary can read them.
pub struct Journal<O, R> {
    map: MmapRaw,
    next: usize,
    types: PhantomData<(O, R)>,
}

impl<O: Copy, R: Copy> Journal<O, R> {
    /// A journal with room for that many calls, empty if there is no such file.
    pub fn at(path: &Path, calls: usize) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len((calls * size_of::<Entry<O, R>>()) as u64).unwrap();
        Self { map: MmapOptions::new().map_raw(&file).unwrap(), next: 0, types: PhantomData }
    }

    fn entry(&self, number: usize) -> Option<*mut Entry<O, R>> {
        let count = self.map.len() / size_of::<Entry<O, R>>();
        (number < count).then(|| self.map.as_mut_ptr().cast::<Entry<O, R>>().wrapping_add(number))
    }

    /// How many calls this thread has made.
    pub fn len(&self) -> usize {
        self.next
    }

    /// Makes a call and writes it down. Returns false, and makes no call, if the journal is full.
    pub fn record(&mut self, operation: O, call: impl FnOnce() -> R) -> bool {
        let Some(entry) = self.entry(self.next) else { return false };
        // SAFETY: in the mapping, which begins at a page. Nobody else uses it while this process
        // lives. The words are atomics from here on.
        let (began, ended) = unsafe {
            ptr::write(&raw mut (*entry).operation, operation);
            (&(*entry).began, &(*entry).ended)
        };
        began.store(now(), Ordering::Release);
        fence(Ordering::SeqCst); // the call begins after that
        let outcome = call();
        fence(Ordering::SeqCst);
        let time = now();
        // SAFETY: as above.
        unsafe { ptr::write(&raw mut (*entry).outcome, outcome) };
        ended.store(time, Ordering::Release);
        self.next += 1;
        true
    }

    /// The calls of a thread that has ended, or was dead at that time.
    pub fn calls(&self, death: u64) -> Vec<Call<O, R>> {
        let mut calls = Vec::new();
        while let Some(entry) = self.entry(calls.len()) {
            // SAFETY: in the mapping. Nobody writes any more. Until an end is there, the outcome is
            // not read.
            let (began, ended) =
                unsafe { ((*entry).began.load(Ordering::Acquire), (*entry).ended.load(Ordering::Acquire)) };
            if began == 0 {
                break;
            }
            // SAFETY: written before the begin and the end.
            let (operation, outcome) = unsafe { ((*entry).operation, (ended != 0).then(|| (*entry).outcome)) };
            calls.push(Call { operation, outcome, began, ended: if ended == 0 { death } else { ended } });
        }
        calls
    }
}
