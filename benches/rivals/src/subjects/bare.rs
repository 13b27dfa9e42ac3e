//! What it costs to share memory without synchronisation.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::*};

use anyhow::Result;

use super::with_words;
use crate::case::{Case, Work};
use crate::objects::{self, Link, Object, Participant, UncheckedCell, first, load_all, store_all};
use crate::sample::Sample;
use crate::shared_memory::{self, Plain, Shared};
use crate::subject::{Job, Subject};

/// Copies a value in and out; a load may return parts of two values.
pub struct Copy;

/// One locked instruction.
pub struct Xadd;

impl Subject for Copy {
    fn name(&self) -> &'static str {
        "bare-copy"
    }

    fn supports(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_words!(job.case, N => objects::processes::<Shared<Buffer<N>>>(job))
    }
}

#[repr(C, align(128))]
struct Buffer<const N: usize>(UncheckedCell<[u64; N]>);

// SAFETY: numbers.
unsafe impl<const N: usize> Plain for Buffer<N> {}

impl<const N: usize> Object for Shared<Buffer<N>> {
    const MAY_TEAR: bool = true;

    fn create(_: &Case) -> Result<Self> {
        let buffer = Self::create()?;
        buffer.0.store(&first());
        Ok(buffer)
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        if case.stores(index) {
            store_all::<N>(participant, |value| self.0.store(value));
        } else {
            load_all::<N, _>(participant, || Ok::<_, Infallible>(self.0.load()));
        }
        Ok(())
    }
}

impl Subject for Xadd {
    fn name(&self) -> &'static str {
        "xadd"
    }

    fn supports(&self, case: &Case) -> bool {
        case.work == Work::Add
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        objects::processes::<Shared<Number>>(job)
    }
}

#[repr(C, align(128))]
struct Number(AtomicU64);

// SAFETY: an atomic.
unsafe impl Plain for Number {}

impl Object for Shared<Number> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self::create()?)
    }

    fn run(&self, _: &Case, _: usize, participant: &Participant) -> Result<()> {
        participant.repeat(|| {
            black_box(self.0.fetch_add(1, SeqCst));
        });
        Ok(())
    }

    fn total(&self) -> u64 {
        self.0.load(SeqCst)
    }
}

impl<T: Plain> Link for Shared<T>
where
    Self: Object,
{
    fn address(&self) -> String {
        shared_memory::address([self.file()])
    }

    fn join(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self::map(file)?)
    }
}
