//! A namespace of two numbers, which another process changes. No server keeps them: both processes
//! have them in memory.
//!
//! ```sh
//! cargo run --example manager_namespace
//! ```

use std::error::Error;
use std::process::id;

use tombolo::process::{self, Process};
use tombolo::{Namespace, Spec};

fn change(namespace: Namespace) {
    namespace.atomic::<i64>("x").unwrap().fetch_add(5);
    *namespace.mutex::<i64>("y").unwrap().lock().unwrap() *= 10;
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    // It begins empty. Objects are created while it is used, by any process that has it open.
    let namespace = Namespace::builder().create_new().open(&format!("manager_namespace-{}", id()))?;
    let x = namespace.create("x", Spec::atomic(1_i64))?;
    let y = namespace.create("y", Spec::mutex(1_i64))?;
    println!("before Namespace(x={}, y={})", x.load(), *y.lock().unwrap());

    Process::spawn(change, namespace.clone())?.join()?;
    println!("after Namespace(x={}, y={})", x.load(), *y.lock().unwrap());
    Ok(())
}
