//! One slot and a bare futex: the least that waking another process can cost.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::*};

use anyhow::Result;

use super::{Blocking, with_spsc_message};
use crate::case::{Area, Case};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory::{self, Plain, Shared, futex_wait, futex_wake};
use crate::spsc::{self, Rx, Tx};
use crate::subject::{Job, Subject};

pub struct Futex;

impl Subject for Futex {
    fn name(&self) -> &'static str {
        "futex"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Spsc && case.blocks()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_spsc_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    spsc::processes::<Mailbox<M::Words>>(job)
}

#[repr(C)]
struct Slot<W> {
    full: AtomicU32,
    message: UnsafeCell<MaybeUninit<W>>,
}

// SAFETY: `full` says whose turn it is; zeros are an empty slot.
unsafe impl<W: Words> Plain for Slot<W> {}
// SAFETY: as above.
unsafe impl<W: Words> Sync for Slot<W> {}

type Mailbox<W> = Blocking<Arc<Shared<Slot<W>>>>;

impl<W: Words> Link for Mailbox<W> {
    type Tx = Self;
    type Rx = Self;

    fn create(_: &Case) -> Result<Self> {
        Ok(Blocking(Arc::new(Shared::create()?)))
    }

    fn address(&self) -> String {
        shared_memory::address([self.0.file()])
    }

    fn open(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Blocking(Arc::new(Shared::map(file)?)))
    }

    fn tx(&self) -> Result<Self> {
        Ok(Blocking(self.0.clone()))
    }

    fn rx(&self) -> Result<Self> {
        Ok(Blocking(self.0.clone()))
    }
}

impl<W: Words> Tx for Mailbox<W> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        let slot = &**self.0;
        if slot.full.load(Acquire) == 1 {
            return 0;
        }
        // SAFETY: while the slot is empty, it is the sender's.
        fill.write(unsafe { &mut *slot.message.get() });
        slot.full.store(1, Release);
        futex_wake(&slot.full, 1);
        1
    }
}

impl<W: Words> Rx for Mailbox<W> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        let slot = &**self.0;
        while slot.full.load(Acquire) == 0 {
            futex_wait(&slot.full, 0);
        }
        // SAFETY: while the slot is full, it is written and the receiver's.
        check.read(unsafe { (*slot.message.get()).assume_init_ref() });
        slot.full.store(0, Release);
        1
    }
}
