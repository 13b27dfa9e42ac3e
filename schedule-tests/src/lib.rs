//! The algorithms of `src/raw`, run by coroutines under random schedules.
//!
//! `loom-tests` tries all interleavings of a few steps, with fences that are stronger than the ones
//! in use. This crate tries random interleavings of many steps, with the fences in use: a store
//! waits in its writer's store buffer, as on x86, a light fence does nothing, and a heavy fence
//! empties the buffers of the participants that have membarrier(2). A participant can be killed at
//! any access, even in the middle of a repair, and another one takes over its record.
//!
//! One number, the seed, determines a schedule, so a failed one can be run again:
//!
//! ```text
//! cargo run --release -p schedule-tests --example schedules -- queue --seed 4711 --trace
//! ```
//!
//! - `world`: the participants, the scheduler, the store buffers, and the kernel's state (locks,
//!   sleepers).
//! - `primitive`: the stand-in for `src/primitive.rs`.
//! - `models`: what the participants do, and what must hold.

#![allow(dead_code, reason = "no model uses all of the algorithms' interface")]

mod models;
mod primitive;
#[path = "../../src/raw/mod.rs"]
mod raw;
mod world;

pub use models::{MODELS, Model};

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What many schedules counted together.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    pub schedules: u64,
    /// Counts by name.
    pub counts: std::collections::BTreeMap<&'static str, u64>,
}

/// Runs the model once for each seed.
///
/// # Panics
///
/// Panics at the first schedule that fails, after printing its seed.
pub fn run(model: &Model, seeds: impl IntoIterator<Item = u64>, trace: bool) -> Totals {
    let mut totals = Totals::default();
    for seed in seeds {
        match catch_unwind(AssertUnwindSafe(|| world::explore(seed, trace, model.build))) {
            Ok(counts) => {
                totals.schedules += 1;
                counts.into_iter().for_each(|(what, count)| *totals.counts.entry(what).or_default() += count);
            }
            Err(failure) => {
                eprintln!("FAILED: model {}, seed {seed}. To see its schedule:", model.name);
                eprintln!(
                    "  cargo run --release -p schedule-tests --example schedules -- {} --seed {seed} --trace",
                    model.name
                );
                resume_unwind(failure);
            }
        }
    }
    totals
}
