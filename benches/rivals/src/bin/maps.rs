//! Compares maps: `tombolo::collections::Map`, papaya and dashmap (threads), LMDB and Redis
//! (processes).
//!
//! ```sh
//! cargo run --release --bin maps
//! cargo run --release --bin maps -- --only 64,zipf --rounds 11
//! ```
//!
//! Keys are numbers, values are written in full and read in full. `get`, `update` and
//! `insert+remove` are one participant that does nothing else, with values of 8 B to 64 KiB. `95/5`
//! are 95 reads and 5 updates of 100 operations, `50/50` half of each, on 65,536 keys with values of
//! 64 B, by 1, 2 and 4 participants. With `zipf` some keys are much more frequent than others.
//!
//! A row is what all participants did together, and the time that one needed for one operation: the
//! median of the rounds, with the slowest and the fastest. All subjects run once in each round, in
//! another order each time. `nothing` is a map that does nothing: what the loop itself costs.

use std::cell::RefCell;
use std::env::temp_dir;
use std::fs;
use std::hint::{black_box, spin_loop};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytemuck::{bytes_of, cast_slice};
use clap::Parser;
use dashmap::DashMap;
use lmdb::types::Bytes;
use lmdb::{Database, Env, EnvFlags, EnvOpenOptions};
use papaya::HashMap;
use rivals::harness::pin::{available, pin};
use rivals::harness::stats::Spread;
use rivals::shared_memory::{Plain, Shared};
use tombolo::Namespace;
use tombolo::collections::{Map, map};

/// Operations between two looks at the clock.
const BATCH: usize = 64;
/// Operations of a participant before it begins anew with the same keys.
const DRAWS: usize = 1 << 16;
/// Keys of the mixed cases.
const MANY: usize = 1 << 16;
const FEW: usize = 256;
/// The exponent of the Zipf distribution, as in YCSB.
const SKEW: f64 = 0.99;

#[derive(Parser)]
#[command(about = "Compares maps of threads and of processes")]
struct Args {
    /// Rounds, in which each subject has one turn
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Length of a turn in milliseconds
    #[arg(long, default_value_t = 200)]
    millis: u64,
    /// Parts of the names of cases
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Work {
    Get,
    Update,
    InsertRemove,
    /// So many reads of 100 operations, the rest are updates.
    Mix(usize),
}

struct Case {
    work: Work,
    keys: usize,
    is_skewed: bool,
    participants: usize,
}

impl Case {
    fn name(&self, words: usize) -> String {
        let bytes = words * 8;
        match self.work {
            Work::Get => format!("get/{bytes}"),
            Work::Update => format!("update/{bytes}"),
            Work::InsertRemove => format!("insert+remove/{bytes}"),
            Work::Mix(reads) => {
                let keys = if self.is_skewed { "zipf" } else { "uniform" };
                format!("{reads}/{}/{bytes}-{keys}-{}p", 100 - reads, self.participants)
            }
        }
    }
}

/// How a participant reaches a map whose values have `W` words.
trait Table<const W: usize> {
    /// Adds all words of a value to `sum`. Returns whether the key is there.
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool>;
    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()>;
    fn remove(&mut self, key: u64) -> Result<()>;
}

trait Subject<const W: usize>: Sized + Sync {
    type Table: Table<W>;
    const NAME: &str;
    /// Whether participants are processes. Otherwise they are threads.
    const OF_PROCESSES: bool = false;

    fn create(keys: usize) -> Result<Self>;
    fn join(&self) -> Result<Self::Table>;
}

/// All words of a value are equal.
fn add<'a>(words: impl IntoIterator<Item = &'a u64>, sum: &mut u64) {
    let mut words = words.into_iter();
    let first = words.next().copied().unwrap_or(0);
    let mut torn = 0;
    for word in words {
        torn |= word ^ first;
    }
    assert_eq!(torn, 0, "a value is torn");
    *sum = sum.wrapping_add(first);
}

struct Nothing;

impl<const W: usize> Table<W> for Nothing {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        *sum ^= black_box(key);
        Ok(true)
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        black_box((key, value));
        Ok(())
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        black_box(key);
        Ok(())
    }
}

impl<const W: usize> Subject<W> for Nothing {
    type Table = Self;
    const NAME: &str = "nothing";

    fn create(_keys: usize) -> Result<Self> {
        Ok(Self)
    }

    fn join(&self) -> Result<Self> {
        Ok(Self)
    }
}

/// Between processes, which open it by name.
struct Tombolo {
    name: String,
    _namespace: Namespace,
}

const MAP: &str = "map";

impl<const W: usize> Table<W> for Map<u64, [u64; W]> {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        let found = Map::get(self, &key)?;
        Ok(found.inspect(|value| add(value, sum)).is_some())
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        self.insert(&key, value)?;
        Ok(())
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        Map::remove(self, &key)?;
        Ok(())
    }
}

fn map_options<const W: usize>(keys: usize) -> map::Options<u64, [u64; W]> {
    map::Options::new().max_entries(2 * keys)
}

impl<const W: usize> Subject<W> for Tombolo {
    type Table = Map<u64, [u64; W]>;
    const NAME: &str = "tombolo";
    const OF_PROCESSES: bool = true;

    fn create(keys: usize) -> Result<Self> {
        let name = format!("rivals-maps-{}", process::id());
        let namespace = Namespace::builder().map(MAP, &map_options::<W>(keys)).open(&name)?;
        Ok(Self { name, _namespace: namespace })
    }

    fn join(&self) -> Result<Self::Table> {
        Ok(Namespace::builder().must_exist().open(&self.name)?.map(MAP)?)
    }
}

/// Between threads, each with a clone of one handle.
struct TomboloThreads<const W: usize>(Map<u64, [u64; W]>);

impl<const W: usize> Subject<W> for TomboloThreads<W> {
    type Table = Map<u64, [u64; W]>;
    const NAME: &str = "tombolo-threads";

    fn create(keys: usize) -> Result<Self> {
        Ok(Self(Map::new(&map_options(keys))?))
    }

    fn join(&self) -> Result<Self::Table> {
        Ok(self.0.clone())
    }
}

struct Papaya<const W: usize>(Arc<HashMap<u64, [u64; W]>>);

impl<const W: usize> Table<W> for Arc<HashMap<u64, [u64; W]>> {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        Ok(self.pin().get(&key).inspect(|value| add(*value, sum)).is_some())
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        self.pin().insert(key, *value);
        Ok(())
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        self.pin().remove(&key);
        Ok(())
    }
}

impl<const W: usize> Subject<W> for Papaya<W> {
    type Table = Arc<HashMap<u64, [u64; W]>>;
    const NAME: &str = "papaya";

    fn create(keys: usize) -> Result<Self> {
        Ok(Self(Arc::new(HashMap::with_capacity(2 * keys))))
    }

    fn join(&self) -> Result<Self::Table> {
        Ok(self.0.clone())
    }
}

struct Dash<const W: usize>(Arc<DashMap<u64, [u64; W]>>);

impl<const W: usize> Table<W> for Arc<DashMap<u64, [u64; W]>> {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        Ok(DashMap::get(self, &key).inspect(|value| add(value.value(), sum)).is_some())
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        self.insert(key, *value);
        Ok(())
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        DashMap::remove(self, &key);
        Ok(())
    }
}

impl<const W: usize> Subject<W> for Dash<W> {
    type Table = Arc<DashMap<u64, [u64; W]>>;
    const NAME: &str = "dashmap";

    fn create(keys: usize) -> Result<Self> {
        Ok(Self(Arc::new(DashMap::with_capacity(2 * keys))))
    }

    fn join(&self) -> Result<Self::Table> {
        Ok(self.0.clone())
    }
}

/// A directory in shared memory, removed with this.
struct Place(PathBuf);

impl Place {
    fn new(subject: &str) -> Result<Self> {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.into() } else { temp_dir() };
        let path = parent.join(format!("rivals-maps-{subject}-{}", process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Without synchronisation to a disk: a commit is a write to memory.
struct Lmdb {
    place: Place,
    size: usize,
}

struct LmdbTable {
    env: Env,
    database: Database<Bytes, Bytes>,
}

impl<const W: usize> Table<W> for LmdbTable {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        let transaction = self.env.read_txn()?;
        let Some(value) = self.database.get(&transaction, bytes_of(&key))? else { return Ok(false) };
        // LMDB aligns values by two bytes.
        let words = value.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes));
        let mut first = None;
        let torn = words.fold(0, |torn, word| torn | word ^ *first.get_or_insert(word));
        assert_eq!(torn, 0, "a value is torn");
        *sum = sum.wrapping_add(first.unwrap_or(0));
        Ok(true)
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.database.put(&mut transaction, bytes_of(&key), cast_slice(value))?;
        Ok(transaction.commit()?)
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        let mut transaction = self.env.write_txn()?;
        self.database.delete(&mut transaction, bytes_of(&key))?;
        Ok(transaction.commit()?)
    }
}

impl<const W: usize> Subject<W> for Lmdb {
    type Table = LmdbTable;
    const NAME: &str = "lmdb";
    const OF_PROCESSES: bool = true;

    fn create(keys: usize) -> Result<Self> {
        let size = (keys * (W * 8 + 4096) * 2).next_multiple_of(1 << 20).max(64 << 20);
        Ok(Self { place: Place::new("lmdb")?, size })
    }

    fn join(&self) -> Result<LmdbTable> {
        let mut options = EnvOpenOptions::new();
        // SAFETY: nobody changes the files but LMDB, and losing them with the machine is no harm.
        let env = unsafe {
            options.map_size(self.size).flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::WRITE_MAP);
            options.open(&self.place.0)?
        };
        let mut transaction = env.write_txn()?;
        let database = env.create_database(&mut transaction, None)?;
        transaction.commit()?;
        Ok(LmdbTable { env, database })
    }
}

/// A server without persistence, over a Unix socket.
struct Redis {
    server: Child,
    place: Place,
}

impl Redis {
    fn socket(&self) -> PathBuf {
        self.place.0.join("socket")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

struct RedisTable(RefCell<redis::Connection>);

impl<const W: usize> Table<W> for RedisTable {
    fn get(&mut self, key: u64, sum: &mut u64) -> Result<bool> {
        let value: Option<Vec<u8>> = redis::cmd("GET").arg(bytes_of(&key)).query(&mut self.0.borrow_mut())?;
        let Some(value) = value else { return Ok(false) };
        let words: Vec<u64> = value.as_chunks().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect();
        add(&words, sum);
        Ok(true)
    }

    fn put(&mut self, key: u64, value: &[u64; W]) -> Result<()> {
        let value: &[u8] = cast_slice(value);
        Ok(redis::cmd("SET").arg(bytes_of(&key)).arg(value).exec(&mut self.0.borrow_mut())?)
    }

    fn remove(&mut self, key: u64) -> Result<()> {
        Ok(redis::cmd("DEL").arg(bytes_of(&key)).exec(&mut self.0.borrow_mut())?)
    }
}

impl<const W: usize> Subject<W> for Redis {
    type Table = RedisTable;
    const NAME: &str = "redis";
    const OF_PROCESSES: bool = true;

    fn create(_keys: usize) -> Result<Self> {
        let place = Place::new("redis")?;
        let socket = place.0.join("socket");
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket)
            .current_dir(&place.0)
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Self { server, place };
        let began = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(10), "redis-server does not answer");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(redis)
    }

    fn join(&self) -> Result<RedisTable> {
        let address = format!("unix://{}", self.socket().display());
        Ok(RedisTable(RefCell::new(redis::Client::open(address)?.get_connection()?)))
    }
}

/// What the participants of a turn share.
struct Turn {
    ready: AtomicU64,
    is_over: AtomicU64,
    operations: AtomicU64,
    /// Of all participants together.
    nanos: AtomicU64,
}

// SAFETY: atomics, for which zeros are a value.
unsafe impl Plain for Turn {}

/// Numbers that look random, the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Keys in the order in which a participant uses them, and whether it only reads them.
fn draws(case: &Case, participant: usize) -> Vec<(u64, bool)> {
    let mut random = Random(0x9E37_79B9_7F4A_7C15 ^ (participant as u64 + 1) << 32);
    let weights = (1..=case.keys).map(|rank| (rank as f64).powf(-SKEW));
    let sums: Vec<f64> = weights
        .scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        })
        .collect();
    let total = sums.last().copied().unwrap_or(0.0);
    let mut draw = || {
        let rank = if case.is_skewed {
            let point = random.fraction() * total;
            sums.partition_point(|&sum| sum < point).min(case.keys - 1)
        } else {
            random.next() as usize % case.keys
        };
        // Frequent keys are not neighbours.
        let key = rank.wrapping_mul(0x9E37_79B1) % case.keys;
        let reads = match case.work {
            Work::Get => 100,
            Work::Update | Work::InsertRemove => 0,
            Work::Mix(reads) => reads,
        };
        (key as u64, random.next() as usize % 100 < reads)
    };
    (0..DRAWS).map(|_| draw()).collect()
}

fn take_part<const W: usize, S: Subject<W>>(case: &Case, subject: &S, participant: usize, turn: &Turn) -> Result<()> {
    let cpus = available();
    pin(cpus[participant % cpus.len()]);
    let mut table = subject.join()?;
    let draws = draws(case, participant);
    let mut value = [participant as u64; W];
    let mut sum = 0;
    turn.ready.fetch_add(1, Ordering::AcqRel);
    while turn.ready.load(Ordering::Acquire) < case.participants as u64 {
        if case.participants > cpus.len() {
            thread::yield_now();
        }
        spin_loop();
    }
    let (mut operations, mut began) = (0, Instant::now());
    for (number, batch) in draws.chunks_exact(BATCH).cycle().enumerate() {
        if number == 1 << 6 {
            (operations, began) = (0, Instant::now()); // the rest of the time, with warm caches
        }
        for &(key, only_reads) in batch {
            match case.work {
                Work::InsertRemove => {
                    let key = key + case.keys as u64;
                    table.put(key, &value)?;
                    table.remove(key)?;
                }
                _ if only_reads => ensure!(table.get(key, &mut sum)?, "a key is missing"),
                _ => {
                    value.fill(key.wrapping_add(operations));
                    table.put(key, &value)?;
                }
            }
        }
        operations += BATCH as u64;
        if turn.is_over.load(Ordering::Relaxed) != 0 && number > 1 << 6 {
            break;
        }
    }
    turn.nanos.fetch_add(began.elapsed().as_nanos() as u64, Ordering::AcqRel);
    let each = if case.work == Work::InsertRemove { 2 } else { 1 };
    turn.operations.fetch_add(operations * each, Ordering::AcqRel);
    black_box(sum);
    Ok(())
}

/// Runs a participant in a process of its own.
fn fork(participant: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
    // SAFETY: no other thread exists at this moment, so the child may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(std::io::Error::last_os_error().into()),
        0 => {
            let outcome = participant();
            if let Err(error) = &outcome {
                eprintln!("maps: {error:#}");
            }
            // SAFETY: ends the child without what its parent would do at its end.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        child => Ok(child),
    }
}

/// Returns millions of operations a second of all participants, and the nanoseconds of one.
fn run<const W: usize, S: Subject<W>>(case: &Case, time: Duration) -> Result<[f64; 2]> {
    let subject = S::create(case.keys)?;
    let turn = Shared::<Turn>::create()?;
    let fill = || {
        let mut table = subject.join()?;
        (0..case.keys as u64).try_for_each(|key| table.put(key, &[key; W]))
    };
    let wait = || {
        while turn.ready.load(Ordering::Acquire) < case.participants as u64 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(time);
        turn.is_over.store(1, Ordering::Relaxed);
    };
    let child_of = |child: libc::pid_t| -> Result<()> {
        let mut status = 0;
        // SAFETY: our own child, and a place for its status.
        ensure!(unsafe { libc::waitpid(child, &mut status, 0) } == child && status == 0, "a participant failed");
        Ok(())
    };
    if S::OF_PROCESSES {
        child_of(fork(fill)?)?;
        let participants: Result<Vec<_>> =
            (0..case.participants).map(|number| fork(|| take_part::<W, S>(case, &subject, number, &turn))).collect();
        wait();
        participants?.into_iter().try_for_each(child_of)?;
    } else {
        fill()?;
        thread::scope(|scope| {
            let start = |number| {
                let (subject, turn) = (&subject, &*turn);
                scope.spawn(move || take_part::<W, S>(case, subject, number, turn))
            };
            let participants: Vec<_> = (0..case.participants).map(start).collect();
            wait();
            participants.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })?;
    }
    let operations = turn.operations.load(Ordering::Acquire) as f64;
    let nanos = turn.nanos.load(Ordering::Acquire) as f64 / operations;
    Ok([case.participants as f64 / nanos * 1e3, nanos])
}

type Runner = (&'static str, fn(&Case, Duration) -> Result<[f64; 2]>);

fn subjects<const W: usize>() -> Vec<Runner> {
    fn runner<const W: usize, S: Subject<W>>() -> Runner {
        (S::NAME, run::<W, S>)
    }
    let mut all = vec![
        runner::<W, Tombolo>(),
        runner::<W, TomboloThreads<W>>(),
        runner::<W, Papaya<W>>(),
        runner::<W, Dash<W>>(),
        runner::<W, Lmdb>(),
        runner::<W, Nothing>(),
    ];
    match Command::new("redis-server").arg("--version").stdout(Stdio::null()).status() {
        Ok(status) if status.success() => all.push(runner::<W, Redis>()),
        _ => eprintln!("maps: no redis-server here, so redis takes no part (`apt install redis-server`)"),
    }
    all
}

fn compare<const W: usize>(args: &Args, cases: &[Case]) -> Result<()> {
    let subjects = subjects::<W>();
    for case in cases {
        let name = case.name(W);
        if !args.only.is_empty() && !args.only.iter().any(|part| name.contains(part)) {
            continue;
        }
        let mut results = vec![Vec::new(); subjects.len()];
        for round in 0..args.rounds {
            for step in 0..subjects.len() {
                let number = (round + step) % subjects.len();
                let (subject, run) = subjects[number];
                let result =
                    run(case, Duration::from_millis(args.millis)).with_context(|| format!("{name}, {subject}"))?;
                results[number].push(result);
            }
        }
        for ((subject, _), results_of) in subjects.iter().zip(&results) {
            let spread = |index: usize| Spread::of(results_of.iter().map(|result| result[index]));
            let ratio = results_of.iter().zip(&results[0]).map(|(own, base)| base[1] / own[1]);
            let (rate, nanos, ratio) =
                spread(0).zip(spread(1)).zip(Spread::of(ratio)).map(|((a, b), c)| (a, b, c)).context("no rounds")?;
            println!(
                "| {name:24} | {subject:15} | {:>9.3} | {:>9.1} | {:>9.1} | {:>9.1} | {:>6.2} |",
                rate.median, nanos.median, nanos.min, nanos.max, ratio.median
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let args = Args::parse();
    println!("| case                     | subject         |    M op/s |        ns |       min |       max |  speed |");
    println!("|:--|:--|--:|--:|--:|--:|--:|");
    let single = |work| Case { work, keys: FEW, is_skewed: false, participants: 1 };
    let singles = [Work::Get, Work::Update, Work::InsertRemove].map(single);
    compare::<1>(&args, &singles)?;
    compare::<8>(&args, &singles)?;
    compare::<128>(&args, &singles)?;
    compare::<8192>(&args, &singles)?;
    let mut mixed = Vec::new();
    for reads in [95, 50] {
        for is_skewed in [false, true] {
            for participants in [1, 2, 4] {
                mixed.push(Case { work: Work::Mix(reads), keys: MANY, is_skewed, participants });
            }
        }
    }
    compare::<8>(&args, &mixed)
}
