mod mpmc;
mod spsc;

use anyhow::Result;

use super::{can_keep_order, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Shaq;

impl Subject for Shaq {
    fn name(&self) -> &'static str {
        "shaq"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => !(case.blocks() || case.is_by_value() && case.is_large()),
            Area::Mpmc => !case.blocks() && can_keep_order(case),
            Area::Broadcast | Area::Objects => false,
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.area {
            Area::Spsc => with_spsc_message!(job.case, M => spsc::run::<M>(job)),
            _ => with_mpmc_message!(job.case, M => mpmc::run::<M>(job)),
        }
    }
}
