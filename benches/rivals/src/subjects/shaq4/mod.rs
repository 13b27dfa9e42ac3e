//! The later shaq, which can sleep; measured where the earlier one cannot take part.

mod broadcast;
mod mpmc;
mod spsc;

use anyhow::Result;

use super::{can_keep_order, with_broadcast_message, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case, Work};
use crate::sample::Sample;
use crate::subject::{Job, Subject};

pub struct Shaq4;

impl Subject for Shaq4 {
    fn name(&self) -> &'static str {
        "shaq4"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => case.blocks(),
            Area::Mpmc => case.blocks() && case.is_throughput() && can_keep_order(case),
            Area::Broadcast => case.work != Work::Lossy && !case.blocks(),
            Area::Objects => false,
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.area {
            Area::Broadcast => with_broadcast_message!(job.case, M => broadcast::run::<M>(job)),
            Area::Spsc => with_spsc_message!(job.case, M => spsc::run::<M>(job)),
            _ => with_mpmc_message!(job.case, M => mpmc::run::<M>(job)),
        }
    }
}
