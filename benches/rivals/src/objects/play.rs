//! Several participants, one object between them, and the clock.

use std::array;
use std::env;
use std::hint::spin_loop;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::case::Case;
use crate::harness::latency::{self, Latency};
use crate::harness::pin::{self, pin};
use crate::quiet::{self, Delay, Part};
use crate::shared::{self, Plain, Shared};

/// An object that participants share.
pub trait Object: Sized {
    /// Whether a load may give parts of two values.
    const MAY_TEAR: bool = false;

    fn create(case: &Case) -> Result<Self>;
    /// Hands what a participant does, again and again, to the stage.
    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()>;
    /// What all of them have counted up in it, in a case where they do.
    fn total(&self) -> u64 {
        0
    }
}

/// An object that other processes can join.
pub trait Link: Object {
    fn address(&self) -> String;
    fn join(case: &Case, address: &str) -> Result<Self>;
}

pub const MOST: usize = 8;

/// A disturbed turn lasts up to so many times as long.
const PATIENCE: u32 = 5;

/// A smaller share of undisturbed time says less than a whole disturbed turn.
const ENOUGH: f64 = 0.05;

/// An operation that is timed with others takes about as long as this with them.
const LOT: u64 = 20_000;

const COMING: u32 = 0;
const WARMING: u32 = 1;
const TIMED: u32 = 2;
const OVER: u32 = 3;

/// Where participants meet, in threads or in processes, and what each has done.
#[repr(C, align(128))]
struct Board {
    /// The process that waits for all others.
    leader: AtomicU32,
    phase: AtomicU32,
    arrived: AtomicU32,
    slots: [Slot; MOST],
}

#[repr(C, align(128))]
struct Slot {
    /// Whose place it is.
    thread: AtomicU64,
    /// How long it had waited for a CPU in the end.
    delay: AtomicU64,
    ops: AtomicU64,
    /// Nanoseconds for an operation, in the median lot, as a float; 0 if there was no lot.
    block: AtomicU64,
    /// The median round trip.
    trip: AtomicU64,
    refused: AtomicU64,
    torn: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Plain for Board {}

impl Board {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        let slot = || Slot {
            thread: zero(),
            delay: zero(),
            ops: zero(),
            block: zero(),
            trip: zero(),
            refused: zero(),
            torn: zero(),
        };
        let word = || AtomicU32::new(0);
        Self { leader: word(), phase: word(), arrived: word(), slots: array::from_fn(|_| slot()) }
    }

    fn ops(&self, participants: usize) -> Vec<u64> {
        self.slots[..participants].iter().map(|slot| slot.ops.load(Relaxed)).collect()
    }

    /// Adds what only the participants could know.
    fn complete(&self, sample: Sample, case: &Case) -> Sample {
        let slots = &self.slots[..case.participants()];
        let sum = |count: fn(&Slot) -> &AtomicU64| slots.iter().map(|slot| count(slot).load(Relaxed)).sum();
        let [first, ..] = slots else { return sample };
        let trip = Some(first.trip.load(Relaxed)).filter(|&trip| trip > 0);
        let block = Some(f64::from_bits(first.block.load(Relaxed))).filter(|&block| block > 0.0 && case.is_alone());
        Sample { block, trip, refused: sum(|slot| &slot.refused), torn: sum(|slot| &slot.torn), ..sample }
    }
}

/// A turn as it was seen.
struct Watched {
    parts: Vec<Part>,
    /// How long each had waited for a CPU at the last look.
    delays: Vec<u64>,
    /// When that was.
    until: Instant,
}

/// One participant's place.
pub struct Stage<'a> {
    board: &'a Board,
    slot: &'a Slot,
    is_alone: bool,
}

impl Stage<'_> {
    fn phase(&self) -> u32 {
        self.board.phase.load(Acquire)
    }

    fn begin(&self) {
        // SAFETY: a plain system call.
        self.slot.thread.store(unsafe { libc::gettid() } as u64, Relaxed);
        self.board.arrived.fetch_add(1, AcqRel);
        let mut looks = 0_u32;
        while self.phase() == COMING {
            looks += 1;
            if looks > 1000 { thread::sleep(Duration::from_micros(50)) } else { spin_loop() }
        }
    }

    fn end(&self) {
        self.slot.delay.store(Delay::of(self.slot.thread.load(Relaxed) as u32).nanos(), Relaxed);
    }

    /// Does it until the time is over.
    #[inline(always)]
    pub fn run(&self, mut op: impl FnMut()) {
        self.begin();
        let mut done = 0;
        let mut lot = 1;
        let mut lots = Vec::with_capacity(1 << 16);
        loop {
            let start = Instant::now();
            for _ in 0..lot {
                op();
            }
            let took = start.elapsed().as_nanos() as u64;
            done += lot;
            self.slot.ops.store(done, Relaxed);
            match self.phase() {
                OVER => break,
                TIMED if self.is_alone && lots.len() < lots.capacity() => lots.push(took as f64 / lot as f64),
                WARMING if took < LOT / 2 => lot *= 2,
                _ => {}
            }
        }
        self.end();
        lots.sort_by(f64::total_cmp);
        let median = lots.get(lots.len() / 2).copied().unwrap_or(0.0);
        self.slot.block.store(median.to_bits(), Relaxed);
    }

    /// Does it until the time is over, and times each.
    pub fn trips(&self, mut op: impl FnMut()) {
        let mut latency = Latency::new();
        self.begin();
        while self.phase() != OVER {
            let start = latency::now();
            op();
            if self.phase() == TIMED {
                latency.record(latency::now() - start);
            }
            self.slot.ops.fetch_add(1, Relaxed);
        }
        self.end();
        self.slot.trip.store(latency.quantile(0.5), Relaxed);
    }

    /// Does it until it says that the other one has finished.
    pub fn answer(&self, mut op: impl FnMut() -> bool) {
        self.begin();
        while op() {
            self.slot.ops.fetch_add(1, Relaxed);
        }
        self.end();
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.phase() == OVER
    }

    /// A load that failed.
    #[cold]
    pub fn refused(&self) {
        self.slot.refused.fetch_add(1, Relaxed);
    }

    /// A load that gave parts of two values.
    #[cold]
    pub fn torn(&self) {
        self.slot.torn.fetch_add(1, Relaxed);
    }
}

/// What the process of one participant is told.
pub struct Peer<'a> {
    pub board: &'a str,
    pub participant: usize,
    pub address: &'a str,
}

/// One run of one contender on one case.
pub struct Job<'a> {
    pub case: Case,
    contender: &'a str,
    nanos: u64,
    cpus: Vec<usize>,
    peer: Option<Peer<'a>>,
}

#[derive(Clone)]
pub struct Sample {
    /// How long it was to be for each participant.
    pub turn: Duration,
    pub elapsed: Duration,
    /// What each participant has done.
    pub ops: Vec<u64>,
    /// Share of the turn that nobody else disturbed, which alone counts; none if it was too small, and all counts.
    pub quiet: Option<f64>,
    /// Of one who was alone: nanoseconds for an operation, in the median of many short lots.
    pub block: Option<f64>,
    /// The median round trip.
    pub trip: Option<u64>,
    pub refused: u64,
    pub torn: u64,
}

impl Sample {
    fn new(participants: usize) -> Self {
        Self {
            turn: Duration::ZERO,
            elapsed: Duration::ZERO,
            ops: vec![0; participants],
            quiet: None,
            block: None,
            trip: None,
            refused: 0,
            torn: 0,
        }
    }
}

impl<'a> Job<'a> {
    /// To be called before this process pins itself.
    pub fn new(case: Case, contender: &'a str, nanos: u64, peer: Option<Peer<'a>>) -> Self {
        Self { case, contender, nanos, cpus: pin::available(), peer }
    }

    fn turn(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// Longer where several share a CPU, so that each has its turns on it.
    fn length(&self) -> Duration {
        self.turn() * self.case.participants().div_ceil(self.cpus.len()) as u32
    }

    /// Whether there are more participants than CPUs.
    pub fn is_crowded(&self) -> bool {
        self.case.participants() > self.cpus.len()
    }

    /// Where several share a CPU they disturb each other all the time; one alone is timed in lots.
    fn waits_for_quiet(&self) -> bool {
        !self.is_crowded() && !self.case.is_alone()
    }

    fn stage(&self, object: &impl Object, board: &Board, participant: usize) -> Result<()> {
        pin(self.cpus[participant % self.cpus.len()]);
        let stage = Stage { board, slot: &board.slots[participant], is_alone: self.case.is_alone() };
        object.play(&self.case, participant, &stage)
    }

    /// Plays all participants in threads of this process.
    pub fn threads<O: Object + Sync>(&self) -> Result<Sample> {
        let object = &O::create(&self.case)?;
        let board = &Board::new();
        let watched = thread::scope(|s| {
            for participant in 0..self.case.participants() {
                s.spawn(move || self.stage(object, board, participant).expect("threads need nothing that can fail"));
            }
            self.conduct(board, || Ok(()))
        })?;
        self.finish(object, board, watched)
    }

    /// Plays each participant in a process of its own.
    pub fn processes<L: Link>(&self) -> Result<Sample> {
        match &self.peer {
            None => self.lead::<L>(),
            Some(peer) => self.follow::<L>(peer),
        }
    }

    /// What is still running when this fails dies with this process.
    fn lead<L: Link>(&self) -> Result<Sample> {
        let board = Shared::<Board>::create()?;
        board.leader.store(process::id(), Relaxed);
        let object = L::create(&self.case)?;
        let mut children = Vec::new();
        for participant in 0..self.case.participants() {
            let mut command = Command::new(env::current_exe()?);
            command
                .args(["--peer", self.contender, &self.case.to_string(), &self.nanos.to_string()])
                .arg(shared::address([board.file()]))
                .args([participant.to_string(), object.address()]);
            children.push(command.spawn()?);
        }
        let check = || {
            let gone = children.iter_mut().find_map(|child| child.try_wait().transpose());
            gone.map_or(Ok(()), |status| bail!("the process of a participant ended early: {status:?}"))
        };
        let watched = self.conduct(&board, check)?;
        for child in &mut children {
            let status = child.wait()?;
            ensure!(status.success(), "the process of a participant ended with {status}");
        }
        self.finish(&object, &board, watched)
    }

    fn follow<L: Link>(&self, peer: &Peer) -> Result<Sample> {
        // SAFETY: the first process left this descriptor to us alone.
        let [board] = unsafe { shared::inherited(peer.board) }?;
        let board = Shared::<Board>::map(board)?;
        // SAFETY: plain system calls.
        let parent = unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::getppid()
        };
        ensure!(parent as u32 == board.leader.load(Relaxed), "the first process has ended");
        self.stage(&L::join(&self.case, peer.address)?, &board, peer.participant)?;
        Ok(Sample::new(0))
    }

    /// Lets everybody work for a turn; `check` says whether all of them still can.
    fn conduct(&self, board: &Board, mut check: impl FnMut() -> Result<()>) -> Result<Watched> {
        while board.arrived.load(Acquire) < self.case.participants() as u32 {
            check()?;
            thread::sleep(Duration::from_micros(100));
        }
        board.phase.store(WARMING, Release);
        thread::sleep(self.length() / 10 + Duration::from_millis(1));
        board.phase.store(TIMED, Release);
        let watched = self.watch(board);
        board.phase.store(OVER, Release);
        Ok(watched)
    }

    /// What happens, part by part.
    fn watch(&self, board: &Board) -> Watched {
        let (participants, length) = (self.case.participants(), self.length());
        let patience = if self.waits_for_quiet() { PATIENCE } else { 1 };
        let threads = board.slots[..participants].iter().map(|slot| slot.thread.load(Relaxed) as u32);
        let delays: Vec<_> = threads.map(Delay::of).collect();
        let look = || {
            let delays: Vec<_> = delays.iter().map(Delay::nanos).collect();
            (board.ops(participants), delays, Instant::now())
        };
        let differences = |after: &[u64], before: &[u64]| after.iter().zip(before).map(|(a, b)| a - b).collect();
        let mut parts = Vec::new();
        let mut before = look();
        let start = before.2;
        let mut quiet = Duration::ZERO;
        // Longer, if it is disturbed, but not for ever.
        while start.elapsed() < length || (quiet < length && start.elapsed() < patience * length) {
            thread::sleep(quiet::PART);
            let after = look();
            if after.1 == before.1 {
                quiet += after.2 - before.2;
            }
            parts.push(Part {
                elapsed: after.2 - before.2,
                ops: differences(&after.0, &before.0),
                delays: differences(&after.1, &before.1),
            });
            before = after;
        }
        Watched { parts, delays: before.1, until: before.2 }
    }

    /// What came of it, when everybody has finished.
    fn conclude(&self, board: &Board, watched: Watched) -> Sample {
        let Watched { mut parts, delays, until } = watched;
        let participants = self.case.participants();
        // A wait that goes on is not known, so those that ended after the last look count with a part of their own.
        let slots = board.slots[..participants].iter();
        let delays = slots.zip(delays).map(|(slot, before)| slot.delay.load(Relaxed).saturating_sub(before)).collect();
        parts.push(Part { elapsed: until.elapsed(), ops: vec![0; participants], delays });
        let are_quiet = quiet::are_quiet(&parts);
        parts.pop();
        let sum = |quiet_only: bool| {
            let mut sample = Sample::new(participants);
            for (part, _) in parts.iter().zip(&are_quiet).filter(|&(_, &is_quiet)| is_quiet || !quiet_only) {
                sample.elapsed += part.elapsed;
                sample.ops.iter_mut().zip(&part.ops).for_each(|(sum, ops)| *sum += ops);
            }
            sample
        };
        let (all, quiet) = (sum(false), sum(true));
        let share = quiet.elapsed.as_secs_f64() / all.elapsed.as_secs_f64();
        let is_enough = self.waits_for_quiet() && share >= ENOUGH;
        if is_enough { Sample { quiet: Some(share), ..quiet } } else { all }
    }

    fn finish<O: Object>(&self, object: &O, board: &Board, watched: Watched) -> Result<Sample> {
        let done: u64 = board.ops(self.case.participants()).iter().sum();
        let total = object.total();
        ensure!(total == done || !self.case.counts(), "{done} were counted up, and {total} were found");
        let sample = self.conclude(board, watched);
        let sample = Sample { turn: self.turn(), ..board.complete(sample, &self.case) };
        ensure!(sample.torn == 0 || O::MAY_TEAR, "{} loads gave parts of two values", sample.torn);
        Ok(sample)
    }
}
