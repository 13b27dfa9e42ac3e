//! Compares queues with any number of producers and consumers.

fn main() -> anyhow::Result<()> {
    rivals::main(&rivals::mpmc::Mpmc)
}
