//! Compares values, atomics, locks and semaphores.

fn main() -> anyhow::Result<()> {
    rivals::main(&rivals::objects::Objects)
}
