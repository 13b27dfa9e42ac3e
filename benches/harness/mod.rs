//! What benchmarks of two sides need: two CPUs, a payload, and a probe of the link between them.
//!
//! Shared by benches/spsc.rs and benches/rivals; uses std, libc, bytemuck and tombolo.

pub mod payload;
pub mod pin;
pub mod probe;
pub mod stats;
