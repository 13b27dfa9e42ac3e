//! A progress bar on the terminal.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A transfer that takes less time shows no bar.
const SHOW_AFTER: Duration = Duration::from_secs(1);

pub struct Progress {
    started: Instant,
    total: Option<u64>,
    transferred: u64,
    enabled: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub fn new(total: Option<u64>, quiet: bool) -> Self {
        let enabled = !quiet && stderr().is_terminal();
        Self { started: Instant::now(), total, transferred: 0, enabled, bar: None }
    }

    pub fn add(&mut self, bytes: usize) {
        self.transferred += bytes as u64;
        if self.enabled && self.started.elapsed() >= SHOW_AFTER {
            self.bar.get_or_insert_with(|| new_bar(self.total)).set_position(self.transferred);
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

fn new_bar(total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} to go"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}, {bytes_per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
