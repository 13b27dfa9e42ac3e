//! The library against arbitrary bytes. The fuzz targets of `fuzz/` call these functions, and
//! `corpus.rs` replays their corpora. Not part of the API.
//!
//! An input is a setup and a script of operations. Most targets drive their subject in two ways:
//!
//! - *Correct*: both sides follow the protocol, and a plain model says what must come out.
//! - *Hostile*: words change between operations, and between any two accesses of one operation.
//!   Only bounds and an end are promised.
//!
//! A function panics if, and only if, a promise is broken.
//!
//! The order in which a function reads its input gives the corpora their meaning: keep it.

mod broadcast_frames;
mod broadcast_latest;
mod broadcast_ring;
#[cfg(test)]
mod corpus;
mod header;
mod heap;
mod input;
mod list;
mod map;
mod mpmc;
mod objects;
mod pipe;
mod queue;
mod raw_objects;
mod spsc;
mod table;

use std::time::Duration;

pub use broadcast_frames::broadcast_frames;
pub use broadcast_latest::broadcast_latest;
pub use broadcast_ring::broadcast_ring;
pub use header::open_header;
pub use list::list;
pub use map::map;
pub use mpmc::mpmc_ring;
pub use objects::objects;
pub use pipe::whole_pipe;
pub use queue::queue_region;
pub use spsc::byte_ring::byte_ring;
pub use spsc::value_ring::value_ring;
pub use table::open_table;

/// CPU time that one input may take. A build with the compiler's checks is several times slower.
const MAX_RUN_TIME: Duration = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 50 });

/// Panics if `run` takes more CPU time than [`MAX_RUN_TIME`]: no invalid value may cost more.
fn assert_in_time(run: impl FnOnce()) {
    let start = crate::sys::clock::run_time();
    run();
    let elapsed = crate::sys::clock::run_time() - start;
    assert!(elapsed <= MAX_RUN_TIME, "an input took {elapsed:?}");
}
