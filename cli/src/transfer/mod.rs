//! `tombolo send` and `tombolo recv`: a stream or a file, through a pipe or a queue.

mod destination;
mod progress;
pub mod recv;
mod rendezvous;
pub mod send;
mod signals;
mod transport;
mod worker;
