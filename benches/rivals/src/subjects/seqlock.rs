use std::convert::Infallible;

use anyhow::Result;

use super::{Isolated, with_words};
use crate::case::Case;
use crate::objects::{self, Object, Participant, first, load_all, store_all};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct SeqLock;

impl Subject for SeqLock {
    fn name(&self) -> &'static str {
        "seqlock"
    }

    fn supports(&self, case: &Case) -> bool {
        case.has_value()
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_words!(job.case, N => objects::threads::<Isolated<seqlock::SeqLock<[u64; N]>>>(job))
    }
}

impl<const N: usize> Object for Isolated<seqlock::SeqLock<[u64; N]>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(seqlock::SeqLock::new(first())))
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        if case.stores(index) {
            store_all::<N>(participant, |value| *self.0.lock_write() = *value);
        } else {
            load_all::<N, _>(participant, || Ok::<_, Infallible>(self.0.read()));
        }
        Ok(())
    }
}
