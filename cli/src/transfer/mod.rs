//! `tombolo send` and `tombolo recv`: a stream or a file, through a pipe or a queue.
//! `tombolo pub` and `tombolo sub`: the same through a broadcast.
//! `tombolo recv --dead-letters`: what a queue could not deliver.
//! `tombolo work`: a command for each message of a queue.

mod dead_letters;
mod destination;
mod progress;
pub mod recv;
mod rendezvous;
pub mod send;
pub mod signals;
mod transport;
pub mod work;
mod worker;
