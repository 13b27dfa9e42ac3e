//! The parts that any two-sided benchmark needs; include them with `#[path]`.

pub mod latency;
pub mod payload;
pub mod pin;
pub mod probe;
pub mod rounds;
