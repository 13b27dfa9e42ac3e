//! The algorithms of `src/raw`, compiled against twins of `crate::sync` and driven by models.
//!
//! `tests/loom.rs` runs every model over all interleavings that loom can reach within a preemption bound; `tests/threads.rs`
//! runs the same bodies on real threads. `tests/runs.rs` is no model of that kind: it looks at all
//! states of a protocol that is in several files. A model gets its threads, atomics and futex from `crate::sync` only.
//!
//! To model a kill, `crash_after` unwinds a thread out of its k-th shared access, for every k.
