//! Compares queues with one producer and one consumer.

fn main() -> anyhow::Result<()> {
    rivals::main(&rivals::spsc::Spsc)
}
