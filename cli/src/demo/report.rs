//! What the demo found, as a table for people and as an object for programs.

use std::fmt::Write;
use std::path::Path;

use hdrhistogram::Histogram;
use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;

use super::cpus;
use super::exchange::{Job, Outcome};
use super::{MESSAGE_LEN, RING_LEN};

const GIB: f64 = (1_u64 << 30) as f64;

/// Characters of the longest bar in the histogram.
const BAR: f64 = 24.0;

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
    /// Those that the two processes were pinned to; none if there is only one.
    cpus: Option<(usize, usize)>,
    tombolo: Figures,
    pipe: Figures,
    /// How many times better than the pipe.
    ratio: Ratio,
}

#[derive(Serialize)]
struct Figures {
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

impl Figures {
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
            outcome.wrong.iter().map(|wrong| format!("through {through}, {wrong}")).collect()
        };
        let problems = [problems("tombolo", tombolo), problems("the Unix pipe", pipe)].concat();
        let (tombolo, pipe) = (Figures::new(job.bytes(), tombolo), Figures::new(job.bytes(), pipe));
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
        let gib = |figures: &Figures| format!("{:.2} GiB/s", figures.gib_per_second);
        row("the file, in messages of 1 MiB", gib(ours), gib(theirs), self.ratio.throughput);
        let rate = |figures: &Figures| format!("{:.2} M/s", figures.messages_per_second / 1e6);
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
        text.push_str(&bars(tombolo, pipe));
        text.push_str(&self.conclusion());
        text
    }

    fn introduction(&self) -> String {
        let processes = match self.cpus {
            Some((near, far)) if cpus::share_a_core(near, far) => {
                format!("pinned to CPUs {near} and {far}, two threads of one core")
            }
            Some((near, far)) => format!("pinned to CPUs {near} and {far}"),
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
            return String::new(); // the error says it all
        }
        let count = |of: fn(&Figures) -> u64| HumanCount(of(&self.tombolo) + of(&self.pipe));
        format!(
            "\nverified: the checksums of the file, every word of {} messages and of {} answers\n",
            count(|figures| figures.messages),
            count(|figures| figures.round_trips),
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

/// How the round trips spread over powers of two of their time, side by side.
fn bars(tombolo: &Histogram<u64>, pipe: &Histogram<u64>) -> String {
    let mut text = format!("\n{:>22}  {:<33}{}\n", "round trips", "tombolo", "Unix pipe");
    let least = tombolo.min().min(pipe.min()).max(1).ilog2();
    let most = tombolo.max().max(pipe.max()).max(1).ilog2();
    for power in least..=most {
        let (from, to) = (1_u64 << power, 1_u64 << (power + 1));
        let shares = [tombolo, pipe].map(|trips| {
            if trips.is_empty() { 0.0 } else { trips.count_between(from, to - 1) as f64 / trips.len() as f64 }
        });
        if shares == [0.0; 2] {
            continue;
        }
        let [ours, theirs] = shares.map(|share| {
            let bar = "█".repeat((share * BAR).round() as usize);
            let percent = if share == 0.0 { String::new() } else { format!("{:.2} %", share * 100.0) };
            format!("{percent:>8} {bar:<24}")
        });
        let range = format!("{} to {}", time(from), time(to));
        let _ = writeln!(text, "{range:>22} {ours}{}", theirs.trim_end());
    }
    text
}
