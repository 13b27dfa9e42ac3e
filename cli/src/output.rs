//! Printing to standard output, whose reader may leave at any time.

use std::fmt::Write as _;
use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::streams;

pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Failure::output(&error))
}

/// Prints the text of `--help` or `--version`, and returns the errors that clap's `exit` ignores.
pub fn print_help(help: &clap::Error) -> Result<(), Failure> {
    streams::check_output()?;
    help.print().and_then(|()| io::stdout().flush()).map_err(|error| Failure::output(&error))
}

pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::Error(error.to_string()))?;
    print(&(text + "\n"))
}

/// Aligns columns. The last one is not padded.
pub fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in rows {
        let line: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
