mod broadcast;
mod mpmc;
mod objects;
mod spsc;

use anyhow::Result;

use super::{with_broadcast_message, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case, Work};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

/// Between processes; values are stored with the writers' lock, unless the case is about readers.
pub struct Tombolo;

/// A pipe, which has one receiver, beside broadcasts.
pub struct Pipe;

/// Queues between threads.
pub struct Threads;

/// Values that are stored by their only writer.
pub struct Writer;

/// Semaphores whose permits belong to the process that took them.
pub struct Bounded;

impl Subject for Tombolo {
    fn name(&self) -> &'static str {
        "tombolo"
    }

    fn supports(&self, case: &Case) -> bool {
        case.work != Work::Alone
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.area {
            Area::Broadcast => with_broadcast_message!(job.case, M => broadcast::run::<M>(job)),
            Area::Spsc => with_spsc_message!(job.case, M => spsc::run::<M>(job)),
            Area::Mpmc => with_mpmc_message!(job.case, M => mpmc::processes::<M>(job)),
            Area::Objects => objects::run(job),
        }
    }
}

impl Subject for Pipe {
    fn name(&self) -> &'static str {
        "tombolo-pipe"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Broadcast && case.readers == 1
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_broadcast_message!(job.case, M => broadcast::run_pipe::<M>(job))
    }
}

impl Subject for Threads {
    fn name(&self) -> &'static str {
        "tombolo-threads"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Mpmc
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_mpmc_message!(job.case, M => mpmc::threads::<M>(job))
    }
}

impl Subject for Writer {
    fn name(&self) -> &'static str {
        "tombolo-writer"
    }

    fn supports(&self, case: &Case) -> bool {
        case.work == Work::Store
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        objects::run_writer(job)
    }
}

impl Subject for Bounded {
    fn name(&self) -> &'static str {
        "tombolo-bounded"
    }

    fn supports(&self, case: &Case) -> bool {
        case.work == Work::Permit
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        objects::run_bounded(job)
    }
}
