//! Standard output, whose reader may leave at any time.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;

pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Error(error.to_string()))?;
    print(&(text + "\n"))
}
