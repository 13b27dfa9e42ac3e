use std::hint::black_box;

use anyhow::Result;

use super::Isolated;
use crate::case::{Case, Section, Work};
use crate::objects::{self, Object, Participant, lock_all};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct ParkingLot;

impl Subject for ParkingLot {
    fn name(&self) -> &'static str {
        "parking-lot"
    }

    fn supports(&self, case: &Case) -> bool {
        matches!(case.work, Work::Lock(_))
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(Section::Reentrant) => objects::threads::<Isolated<parking_lot::ReentrantMutex<()>>>(job),
            Work::Lock(Section::Read | Section::Write) => objects::threads::<Isolated<parking_lot::RwLock<u64>>>(job),
            _ => objects::threads::<Isolated<parking_lot::Mutex<u64>>>(job),
        }
    }
}

impl Object for Isolated<parking_lot::Mutex<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::Mutex::new(0)))
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.0.lock(), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.lock()
    }
}

impl Object for Isolated<parking_lot::ReentrantMutex<()>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::ReentrantMutex::new(())))
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.0.lock(), |_| {});
        Ok(())
    }
}

impl Object for Isolated<parking_lot::RwLock<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::RwLock::new(0)))
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => lock_all(participant, case, || self.0.read(), |count| _ = black_box(**count)),
            _ => lock_all(participant, case, || self.0.write(), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.read()
    }
}
