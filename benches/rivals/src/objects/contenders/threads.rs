//! Those that connect threads only.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync;

use anyhow::Result;

use super::{Contender, first, load_all, lock_all, store_all, with_words};
use crate::case::{Case, Section, Work};
use crate::play::{Job, Object, Sample, Stage};

pub struct SeqLock;
pub struct ParkingLot;
pub struct Std;

impl Contender for SeqLock {
    fn name(&self) -> &'static str {
        "seqlock"
    }

    fn can(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_words!(job.case, N => job.threads::<Apart<seqlock::SeqLock<[u64; N]>>>())
    }
}

impl Contender for ParkingLot {
    fn name(&self) -> &'static str {
        "parking-lot"
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case.work, Work::Lock(_))
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(Section::Reentrant) => job.threads::<Apart<parking_lot::ReentrantMutex<()>>>(),
            Work::Lock(Section::Read | Section::Write) => job.threads::<Apart<parking_lot::RwLock<u64>>>(),
            _ => job.threads::<Apart<parking_lot::Mutex<u64>>>(),
        }
    }
}

impl Contender for Std {
    fn name(&self) -> &'static str {
        "std"
    }

    fn can(&self, case: &Case) -> bool {
        matches!(case.work, Work::Lock(section) if section != Section::Reentrant)
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(Section::Read | Section::Write) => job.threads::<Apart<sync::RwLock<u64>>>(),
            _ => job.threads::<Apart<sync::Mutex<u64>>>(),
        }
    }
}

/// Alone on its cache lines.
#[repr(align(128))]
struct Apart<T>(T);

impl<const N: usize> Object for Apart<seqlock::SeqLock<[u64; N]>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(seqlock::SeqLock::new(first())))
    }

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        if case.stores(participant) {
            store_all::<N>(stage, |value| *self.0.lock_write() = *value);
        } else {
            load_all::<N, _>(stage, || Ok::<_, Infallible>(self.0.read()));
        }
        Ok(())
    }
}

impl Object for Apart<parking_lot::Mutex<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::Mutex::new(0)))
    }

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.0.lock(), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.lock()
    }
}

impl Object for Apart<sync::Mutex<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(sync::Mutex::new(0)))
    }

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.0.lock().expect("nobody panics"), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.lock().expect("nobody panics")
    }
}

impl Object for Apart<parking_lot::ReentrantMutex<()>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::ReentrantMutex::new(())))
    }

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.0.lock(), |_| {});
        Ok(())
    }
}

impl Object for Apart<parking_lot::RwLock<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(parking_lot::RwLock::new(0)))
    }

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => lock_all(stage, case, || self.0.read(), |count| _ = black_box(**count)),
            _ => lock_all(stage, case, || self.0.write(), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.read()
    }
}

impl Object for Apart<sync::RwLock<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(sync::RwLock::new(0)))
    }

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => {
                lock_all(stage, case, || self.0.read().expect("nobody panics"), |count| _ = black_box(**count));
            }
            _ => lock_all(stage, case, || self.0.write().expect("nobody panics"), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.read().expect("nobody panics")
    }
}
