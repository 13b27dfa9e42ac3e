//! A progress bar, for transfers that last and people who watch.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// What is over sooner needs no bar.
const AFTER: Duration = Duration::from_secs(1);

pub struct Progress {
    started: Instant,
    total: Option<u64>,
    passed: u64,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(total: Option<u64>, quiet: bool) -> Self {
        Self { started: Instant::now(), total, passed: 0, wanted: !quiet && stderr().is_terminal(), bar: None }
    }

    pub fn add(&mut self, bytes: usize) {
        self.passed += bytes as u64;
        if self.wanted && self.started.elapsed() >= AFTER {
            self.bar.get_or_insert_with(|| bar(self.total)).set_position(self.passed);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
