//! The demo's results, as a table for people and as JSON for programs.

use std::fmt::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::cpus;
use super::exchange::{Job, Outcome};
use super::{MESSAGE_LEN, RING_LEN};

const GIB: f64 = (1_u64 << 30) as f64;

/// Width of the longest bar in the histogram, in characters.
const BAR_WIDTH: f64 = 24.0;

#[derive(Serialize)]
pub struct Report {
    verified: bool,
    problems: Vec<String>,
    file: String,
    file_len: u64,
    times: u64,
    message_len: usize,
    ring_len: usize,
    pipe_len: usize,
    /// The CPUs that the two processes were pinned to. `None` if there is only one.
    cpus: Option<(usize, usize)>,
    tombolo: Measurements,
    pipe: Measurements,
    /// How many times better than the Unix pipe.
    ratio: Ratio,
}

#[derive(Serialize)]
struct Measurements {
    bytes: u64,
    seconds: f64,
    gib_per_second: f64,
    messages: u64,
    messages_seconds: f64,
    messages_per_second: f64,
    round_trips: u64,
    latency_ns: Latency,
}

#[derive(Serialize)]
struct Latency {
    min: u64,
    p50: u64,
    p99: u64,
    p99_9: u64,
    max: u64,
}

#[derive(Serialize)]
struct Ratio {
    throughput: f64,
    messages: f64,
    latency_p50: f64,
}

impl Measurements {
    fn new(bytes: u64, outcome: &Outcome) -> Self {
        let (seconds, messages_seconds) = (outcome.file_time.as_secs_f64(), outcome.messages_time.as_secs_f64());
        let trips = &outcome.round_trips;
        Self {
            bytes,
            seconds,
            gib_per_second: bytes as f64 / GIB / seconds,
            messages: outcome.messages,
            messages_seconds,
            messages_per_second: outcome.messages as f64 / messages_seconds,
            round_trips: trips.len(),
            latency_ns: Latency {
                min: if trips.is_empty() { 0 } else { trips.min() },
                p50: trips.value_at_quantile(0.5),
                p99: trips.value_at_quantile(0.99),
                p99_9: trips.value_at_quantile(0.999),
                max: trips.max(),
            },
        }
    }
}

impl Report {
    pub fn new(
        path: &Path,
        job: &Job,
        cpus: Option<(usize, usize)>,
        pipe_len: usize,
        tombolo: &Outcome,
        pipe: &Outcome,
    ) -> Self {
        let problems = |through: &str, outcome: &Outcome| -> Vec<String> {
            outcome.problems.iter().map(|problem| format!("through {through}, {problem}")).collect()
        };
        let problems = [problems("tombolo", tombolo), problems("the Unix pipe", pipe)].concat();
        let (tombolo, pipe) = (Measurements::new(job.bytes(), tombolo), Measurements::new(job.bytes(), pipe));
        Self {
            verified: problems.is_empty(),
            problems,
            file: path.display().to_string(),
            file_len: job.file.len() as u64,
            times: job.times,
            message_len: MESSAGE_LEN,
            ring_len: RING_LEN,
            pipe_len,
            cpus,
            ratio: Ratio {
                throughput: tombolo.gib_per_second / pipe.gib_per_second,
                messages: tombolo.messages_per_second / pipe.messages_per_second,
                latency_p50: pipe.latency_ns.p50 as f64 / tombolo.latency_ns.p50 as f64,
            },
            tombolo,
            pipe,
        }
    }

    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    pub fn to_text(&self, tombolo: &Histogram<u64>, pipe: &Histogram<u64>) -> String {
        let mut text = self.introduction();
        let _ = writeln!(text, "\n{:<34}{:>16}{:>16}{:>10}", "", "tombolo", "Unix pipe", "ratio");
        let (ours, theirs) = (&self.tombolo, &self.pipe);
        let mut row = |what: &str, ours: String, theirs: String, ratio: f64| {
            let _ = writeln!(text, "{what:<34}{ours:>16}{theirs:>16}{ratio:>9.1}x");
        };
        let gib = |side: &Measurements| format!("{:.2} GiB/s", side.gib_per_second);
        row("the file, in messages of 1 MiB", gib(ours), gib(theirs), self.ratio.throughput);
        let rate = |side: &Measurements| format!("{:.2} M/s", side.messages_per_second / 1e6);
        row("messages of 64 bytes", rate(ours), rate(theirs), self.ratio.messages);
        let (ours, theirs) = (&ours.latency_ns, &theirs.latency_ns);
        for (what, ours, theirs) in [
            ("round trip of 64 bytes, fastest", ours.min, theirs.min),
            ("                        p50", ours.p50, theirs.p50),
            ("                        p99", ours.p99, theirs.p99),
            ("                        p99.9", ours.p99_9, theirs.p99_9),
            ("                        slowest", ours.max, theirs.max),
        ] {
            row(what, time(ours), time(theirs), theirs as f64 / ours as f64);
        }
        text.push_str(&histogram_text(tombolo, pipe));
        text.push_str(&self.conclusion());
        text
    }

    fn introduction(&self) -> String {
        let processes = match self.cpus {
            Some((local, remote)) if cpus::share_a_core(local, remote) => {
                format!("pinned to CPUs {local} and {remote}, two threads of one core")
            }
            Some((local, remote)) => format!("pinned to CPUs {local} and {remote}"),
            None => "on the only CPU there is".to_string(),
        };
        format!(
            "Two processes, {processes}.\n{} ({}), {} times: {} in all, checksummed on arrival.\n\
             Shared memory holds {}, the Unix pipe {}.\n",
            self.file,
            BinaryBytes(self.file_len),
            self.times,
            BinaryBytes(self.tombolo.bytes),
            BinaryBytes(self.ring_len as u64),
            BinaryBytes(self.pipe_len as u64),
        )
    }

    fn conclusion(&self) -> String {
        if !self.verified {
            return String::new(); // the error tells what is wrong
        }
        let count = |of: fn(&Measurements) -> u64| HumanCount(of(&self.tombolo) + of(&self.pipe));
        format!(
            "\nverified: the checksums of the file, every word of {} messages and of {} answers\n",
            count(|side| side.messages),
            count(|side| side.round_trips),
        )
    }
}

fn time(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.2} µs", nanos as f64 / 1e3),
        _ => format!("{:.2} ms", nanos as f64 / 1e6),
    }
}

/// Returns a histogram of the round trips, by powers of two of their time.
fn histogram_text(tombolo: &Histogram<u64>, pipe: &Histogram<u64>) -> String {
    let mut text = format!("\n{:>22}  {:<33}{}\n", "round trips", "tombolo", "Unix pipe");
    let lowest = tombolo.min().min(pipe.min()).max(1).ilog2();
    let highest = tombolo.max().max(pipe.max()).max(1).ilog2();
    for power in lowest..=highest {
        let (from, to) = (1_u64 << power, 1_u64 << (power + 1));
        let shares = [tombolo, pipe].map(|trips| {
            if trips.is_empty() { 0.0 } else { trips.count_between(from, to - 1) as f64 / trips.len() as f64 }
        });
        if shares == [0.0; 2] {
            continue;
        }
        let [ours, theirs] = shares.map(|share| {
            let bar = "█".repeat((share * BAR_WIDTH).round() as usize);
            let percent = if share == 0.0 { String::new() } else { format!("{:.2} %", share * 100.0) };
            format!("{percent:>8} {bar:<24}")
        });
        let range = format!("{} to {}", time(from), time(to));
        let _ = writeln!(text, "{range:>22} {ours}{}", theirs.trim_end());
    }
    text
}
