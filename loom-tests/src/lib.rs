//! Models of the algorithms of `src/raw`, compiled against stand-ins for `crate::primitive`.
//!
//! - `models`: one file per file of `src/raw`.
//! - `primitive`: the stand-ins for the facade, for loom and for real threads. A model takes its
//!   threads, atomics and futexes from there.
//! - `tests/loom.rs` runs every model over all interleavings that loom reaches within a preemption
//!   bound. `tests/threads.rs` runs the same bodies on real threads.
//! - `tests/runs.rs` and those beside it are a different kind of model: they visit all states of a
//!   protocol. `states` is what several of them share.
//!
//! To model a kill, `kill_after` unwinds a thread before its k-th shared access, for every k.

pub mod states;
