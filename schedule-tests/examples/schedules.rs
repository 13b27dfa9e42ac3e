//! Runs many schedules, or a single one:
//! `schedules MODEL|all [--seed N] [--count N] [--seconds N] [--trace]`.

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use schedule_tests::{MODELS, Model, Totals, run};

const USAGE: &str = "usage: schedules MODEL|all [--seed N] [--count N] [--seconds N] [--trace]

  --seed N      the first seed; without it a new one is made from the clock
  --count N     so many schedules of each model (with --seed: 1 by default)
  --seconds N   as many schedules as can be run in so many seconds, for all models together
  --trace       print each access
";

/// Schedules between two reads of the clock.
const BATCH: u64 = 200;

struct Options {
    models: Vec<&'static Model>,
    first: u64,
    count: u64,
    limit: Option<Duration>,
    trace: bool,
}

fn parse() -> Option<Options> {
    let mut arguments = env::args().skip(1);
    let name = arguments.next()?;
    let models: Vec<_> = MODELS.iter().filter(|model| name == "all" || name == model.name).collect();
    let (mut seed, mut count, mut limit, mut trace) = (None, None, None, false);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next()?.parse::<u64>().ok();
        match argument.as_str() {
            "--seed" => seed = Some(number()?),
            "--count" => count = Some(number()?),
            "--seconds" => limit = Some(Duration::from_secs(number()?)),
            "--trace" => trace = true,
            _ => return None,
        }
    }
    let count = count.unwrap_or(match (seed, limit) {
        (_, Some(_)) => u64::MAX,
        (Some(_), None) => 1,
        (None, None) => 10_000,
    });
    let first = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Short enough to type, and two runs do not share seeds.
        now.as_secs() % 1_000_000_000 * 1_000_000
    });
    (!models.is_empty()).then_some(Options { models, first, count, limit, trace })
}

fn main() -> ExitCode {
    let Some(options) = parse() else {
        eprint!("{USAGE}models:");
        MODELS.iter().for_each(|model| eprint!(" {}", model.name));
        eprintln!();
        return ExitCode::from(2);
    };
    let share = options.limit.map(|limit| limit / options.models.len() as u32);
    for model in options.models {
        let began = Instant::now();
        let mut totals = Totals::default();
        let mut next = options.first;
        while totals.schedules < options.count && share.is_none_or(|share| began.elapsed() < share) {
            let batch = BATCH.min(options.count - totals.schedules);
            let done = run(model, next..next.saturating_add(batch), options.trace);
            totals.schedules += done.schedules;
            done.counts.into_iter().for_each(|(what, count)| *totals.counts.entry(what).or_default() += count);
            next = next.saturating_add(batch);
        }
        let (first, seconds) = (options.first, began.elapsed().as_secs_f64());
        println!(
            "{}: {} schedules from seed {first}, {seconds:.1} s: {:?}",
            model.name, totals.schedules, totals.counts
        );
    }
    ExitCode::SUCCESS
}
