//! Compares broadcasts: one publisher, several subscribers.

fn main() -> anyhow::Result<()> {
    rivals::main(&rivals::broadcast::Broadcast)
}
