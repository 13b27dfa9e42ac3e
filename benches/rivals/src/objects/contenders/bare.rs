//! What it costs to share memory without any care.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::*};

use anyhow::Result;

use super::{Bare, Contender, first, load_all, store_all, with_words};
use crate::case::{Case, Work};
use crate::play::{Job, Link, Object, Sample, Stage};
use crate::shared::{self, Plain, Shared};

/// Copies a value in and out; who loads it may find parts of two.
pub struct Copy;

/// One locked instruction.
pub struct Xadd;

impl Contender for Copy {
    fn name(&self) -> &'static str {
        "bare-copy"
    }

    fn can(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_words!(job.case, N => job.processes::<Shared<Buffer<N>>>())
    }
}

#[repr(C, align(128))]
struct Buffer<const N: usize>(Bare<[u64; N]>);

// SAFETY: numbers.
unsafe impl<const N: usize> Plain for Buffer<N> {}

impl<const N: usize> Object for Shared<Buffer<N>> {
    const MAY_TEAR: bool = true;

    fn create(_: &Case) -> Result<Self> {
        let buffer = Self::create()?;
        buffer.0.store(&first());
        Ok(buffer)
    }

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        if case.stores(participant) {
            store_all::<N>(stage, |value| self.0.store(value));
        } else {
            load_all::<N, _>(stage, || Ok::<_, Infallible>(self.0.load()));
        }
        Ok(())
    }
}

impl Contender for Xadd {
    fn name(&self) -> &'static str {
        "xadd"
    }

    fn can(&self, case: &Case) -> bool {
        case.work == Work::Add
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        job.processes::<Shared<Number>>()
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

    fn play(&self, _: &Case, _: usize, stage: &Stage) -> Result<()> {
        stage.run(|| {
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
        shared::address([self.file()])
    }

    fn join(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared::inherited(address) }?;
        Ok(Self::map(file)?)
    }
}
