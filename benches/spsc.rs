//! Tombolo beside what the system has to offer, from one producer to one consumer, message by message.
//!
//! The consumer is this process, on CPU 1. The producer is this program again, in a second process (for
//! `sync_channel`, which knows no processes, in a thread) on CPU 0. Each message is written and read word by word.
//!
//! `cargo bench --bench spsc` measures everything, `-- --quick` does it in less time, `-- tombolo` leaves out the others.

use std::convert::Infallible;
use std::env;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::hint::spin_loop;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::mpsc::{self, SyncSender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair, sockopt};
use rustix::{io::ioctl_fionbio, pipe::fcntl_setpipe_size};
use tombolo::WaitStrategy;
use tombolo::pipe::{self, BytePipe, Pipe, Receiver, Sender};
use tombolo::spawn::Handover;

use harness::payload::{Check, Fill, Message, Words};
use harness::pin::{CONSUMER, PRODUCER, have_both, pin};
use harness::probe::bracketed;

#[path = "rivals/src/harness"]
#[allow(dead_code, unused_imports)]
mod harness {
    pub mod payload;
    pub mod pin;
    pub mod probe;
    pub mod rounds;
}

type Result<T = (), E = Box<dyn Error>> = std::result::Result<T, E>;

const GONE: &str = "the other side is there";

/// Small messages are values, in tombolo and in the channel.
const LARGEST_VALUE: usize = 4096;

/// Larger packets are refused by default.
const LARGEST_PACKET: usize = 64 << 10;

/// Ring of the small messages, in slots.
const SLOTS: usize = 1024;

/// Ring of the large messages, in bytes.
const RING: usize = 8 << 20;

/// What an unprivileged user may ask a pipe to hold.
const PIPE: usize = 1 << 20;

/// In a quick exchange nobody would get as far as sleeping.
const REST: Duration = Duration::from_micros(50);

#[derive(Clone, Copy)]
enum Work {
    Throughput,
    /// Each message is answered by one of the same size.
    PingPong(WaitStrategy),
}

#[derive(Clone, Copy)]
struct Case {
    work: Work,
    size: usize,
}

const CASES: [Case; 9] = [
    Case { work: Work::Throughput, size: 8 },
    Case { work: Work::Throughput, size: 64 },
    Case { work: Work::Throughput, size: 256 },
    Case { work: Work::Throughput, size: 1024 },
    Case { work: Work::Throughput, size: 4096 },
    Case { work: Work::Throughput, size: 64 << 10 },
    Case { work: Work::Throughput, size: 1 << 20 },
    Case { work: Work::PingPong(WaitStrategy::Spin), size: 64 },
    Case { work: Work::PingPong(WaitStrategy::Park), size: 64 },
];

/// Runs with `M` as the message of that many bytes.
macro_rules! with_message {
    ($size:expr, $M:ident => $run:expr) => {
        with_message!($size, $M => $run; 8: [u64; 1], 64: [u64; 8], 256: [u64; 32], 1024: [u64; 128], 4096: [u64; 512],
            0x1_0000: Box<[u64; 8192]>, 0x10_0000: Box<[u64; 131_072]>)
    };
    ($size:expr, $M:ident => $run:expr; $($bytes:literal: $type:ty),*) => {
        match $size {
            $($bytes => {
                type $M = $type;
                $run
            })*
            size => unreachable!("no message of {size} bytes"),
        }
    };
}

impl Case {
    fn slots(self) -> usize {
        if self.size > LARGEST_VALUE { RING / self.size } else { SLOTS }
    }

    fn answers(self) -> bool {
        matches!(self.work, Work::PingPong(_))
    }

    fn wait(self) -> WaitStrategy {
        match self.work {
            Work::Throughput => WaitStrategy::default(),
            Work::PingPong(wait) => wait,
        }
    }

    fn spins(self) -> bool {
        self.wait() == WaitStrategy::Spin
    }

    fn parks(self) -> bool {
        self.wait() == WaitStrategy::Park
    }

    fn values<W: Words>(self) -> pipe::Options<W> {
        pipe::Options::new().capacity(self.slots()).wait(self.wait())
    }

    fn bytes(self) -> pipe::Options<[u8]> {
        pipe::Options::bytes().capacity_bytes(self.slots() * self.size).wait(self.wait())
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.work {
            Work::Throughput => write!(f, "throughput/{}", self.size),
            Work::PingPong(_) if self.spins() => write!(f, "ping-pong-spinning/{}", self.size),
            Work::PingPong(_) => write!(f, "ping-pong-parked/{}", self.size),
        }
    }
}

/// An end of a connection that goes both ways.
trait Port {
    fn send(&mut self, fill: &mut Fill);
    fn receive(&mut self, check: &mut Check);
}

/// Carries messages that lie ready in memory.
trait Carrier<W> {
    fn put(&mut self, message: &W);
    fn take(&mut self, message: &mut W);
}

/// Messages are written to, and read from, a place of our own.
struct Copying<C, W> {
    carrier: C,
    message: Box<W>,
}

impl<C, W: Words> Copying<C, W> {
    fn new(carrier: C) -> Self {
        Self { carrier, message: Box::new(W::zeroed()) }
    }
}

impl<C: Carrier<W>, W: Words> Port for Copying<C, W> {
    fn send(&mut self, fill: &mut Fill) {
        fill.overwrite(&mut *self.message);
        self.carrier.put(&self.message);
    }

    fn receive(&mut self, check: &mut Check) {
        self.carrier.take(&mut self.message);
        check.read(&*self.message);
    }
}

impl<W: Words> Carrier<W> for Pipe<W> {
    fn put(&mut self, message: &W) {
        self.send(message).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.rx.recv_into(message).expect(GONE);
    }
}

impl<W: Words> Carrier<W> for BytePipe {
    fn put(&mut self, message: &W) {
        self.send(bytemuck::bytes_of(message)).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.recv_into(bytemuck::bytes_of_mut(message)).expect(GONE);
    }
}

/// A file that never sleeps if it is non-blocking.
struct Eager(File);

/// To read from and to write to.
struct Files(Eager, Eager);

impl Files {
    fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self(Eager(from.into()), Eager(to.into()))
    }
}

impl<W: Words> Carrier<W> for Files {
    fn put(&mut self, message: &W) {
        self.1.write_all(bytemuck::bytes_of(message)).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.0.read_exact(bytemuck::bytes_of_mut(message)).expect(GONE);
    }
}

impl Read for Eager {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        eagerly(|| self.0.read(bytes))
    }
}

impl Write for Eager {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        eagerly(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn eagerly(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => spin_loop(),
            done => return done,
        }
    }
}

/// Channels between threads. They hold values, so that large messages are boxed.
struct Channels<M> {
    tx: SyncSender<M>,
    rx: mpsc::Receiver<M>,
    spins: bool,
}

impl<M: Message> Channels<M> {
    fn pair(case: Case) -> [Self; 2] {
        let spins = case.spins();
        let [(tx, there), (back, rx)] = [(); 2].map(|()| mpsc::sync_channel(case.slots()));
        [Self { tx, rx, spins }, Self { tx: back, rx: there, spins }]
    }
}

impl<M: Message> Port for Channels<M> {
    fn send(&mut self, fill: &mut Fill) {
        self.tx.send(M::new(fill)).expect(GONE);
    }

    fn receive(&mut self, check: &mut Check) {
        let message = loop {
            match self.rx.try_recv() {
                Ok(message) => break message,
                Err(TryRecvError::Empty) if self.spins => spin_loop(),
                Err(_) => break self.rx.recv().expect(GONE),
            }
        };
        check.read(message.words());
    }
}

/// The producer's part: the counts say how many messages to send. It ends with them.
fn produce(case: Case, mut counts: Receiver<u64>, mut port: impl Port) {
    pin(PRODUCER);
    for count in counts.iter().map_while(Result::ok) {
        let (mut fill, mut check) = (Fill::default(), Check::default());
        for _ in 0..count {
            if case.answers() {
                port.receive(&mut check);
            }
            port.send(&mut fill);
        }
        verify(case, &check);
    }
}

fn verify(case: Case, check: &Check) {
    check.verify(case.size / size_of::<u64>()).expect("the messages arrive as they were sent");
}

/// The consumer's view of the producer.
struct Peer<P> {
    counts: Sender<u64>,
    port: P,
    // Last: it waits for the producer, who leaves when the others are dropped.
    _end: End,
}

/// Waits for a thread or process and says whether all was well.
struct End(Option<Box<dyn FnOnce() -> bool>>);

impl Drop for End {
    fn drop(&mut self) {
        let well = self.0.take().is_some_and(|wait| wait());
        assert!(well || thread::panicking(), "the producer failed");
    }
}

impl<P: Port> Peer<P> {
    fn process(handover: Handover, port: P) -> Result<Self> {
        let (counts, theirs) = counts().create()?;
        let mut child = handover.give("counts", theirs)?.spawn()?;
        let end = End(Some(Box::new(move || child.wait().is_ok_and(|status| status.success()))));
        Ok(Self { counts, port, _end: end })
    }

    fn thread(case: Case, [port, theirs]: [P; 2]) -> Result<Self>
    where
        P: Send + 'static,
    {
        let (counts, their_counts) = counts().create()?;
        let producer = thread::spawn(move || produce(case, their_counts, theirs));
        Ok(Self { counts, port, _end: End(Some(Box::new(|| producer.join().is_ok()))) })
    }

    fn measure(&mut self, case: Case, count: u64) -> Duration {
        // First some that do not count: they wake everybody and bring the ring to the level where it stays.
        let lead = if case.answers() { 100 } else { case.slots() as u64 };
        self.counts.send(&(lead + count)).expect(GONE);
        let (mut fill, mut check) = (Fill::default(), Check::default());
        let mut consume = |count| {
            let start = Instant::now();
            let mut rested = Duration::ZERO;
            for _ in 0..count {
                if case.parks() {
                    rested += rest();
                }
                if case.answers() {
                    self.port.send(&mut fill);
                }
                self.port.receive(&mut check);
            }
            start.elapsed() - rested
        };
        consume(lead);
        let elapsed = consume(count);
        verify(case, &check);
        elapsed
    }
}

/// Gives the producer time to fall asleep; says how long.
fn rest() -> Duration {
    let start = Instant::now();
    loop {
        let rested = start.elapsed();
        if rested >= REST {
            return rested;
        }
        spin_loop();
    }
}

/// Between measurements the producer sleeps.
fn counts() -> pipe::Options<u64> {
    pipe::Options::new().wait(WaitStrategy::Park)
}

/// This program again, as the producer for `CASES[index]`.
fn producer(index: usize, contender: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--produce", contender, &index.to_string()]);
    Ok(command)
}

fn values<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (ours, theirs) = CASES[index].values::<W>().create_duplex()?;
    Peer::process(Handover::new(producer(index, "values")?).give("port", theirs)?, Copying::new(ours))
}

fn bytes<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (ours, theirs) = CASES[index].bytes().create_duplex()?;
    Peer::process(Handover::new(producer(index, "bytes")?).give("port", theirs)?, Copying::<_, W>::new(ours))
}

fn unix_pipes<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (from, their_to) = io::pipe()?;
    let (their_from, to) = io::pipe()?;
    let room = (CASES[index].slots() * CASES[index].size).min(PIPE);
    // A refusal leaves the default.
    let _ = fcntl_setpipe_size(&their_to, room);
    files::<W>(index, [from.into(), to.into()], [their_from.into(), their_to.into()])
}

fn seqpacket<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    // The kernel gives what it allows.
    sockopt::set_socket_send_buffer_size(&theirs, CASES[index].slots() * CASES[index].size)?;
    files::<W>(index, [ours.try_clone()?, ours], [theirs.try_clone()?, theirs])
}

/// The producer gets its files as standard input and output.
fn files<W: Words>(index: usize, ours: [OwnedFd; 2], theirs: [OwnedFd; 2]) -> Result<Peer<impl Port>> {
    for file in ours.iter().chain(&theirs) {
        ioctl_fionbio(file, CASES[index].spins())?;
    }
    let ([from, to], [their_from, their_to]) = (ours, theirs);
    let mut command = producer(index, "files")?;
    command.stdin(their_from).stdout(their_to);
    Peer::process(Handover::new(command), Copying::<_, W>::new(Files::new(from, to)))
}

fn run_producer<W: Words>(case: Case, contender: &str) -> Result {
    let counts = counts().handed("counts")?;
    match contender {
        "values" => produce(case, counts, Copying::new(case.values::<W>().handed::<Pipe<W>>("port")?)),
        "bytes" => produce(case, counts, Copying::<_, W>::new(case.bytes().handed::<BytePipe>("port")?)),
        _ => {
            let [from, to] = [io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?];
            produce(case, counts, Copying::<_, W>::new(Files::new(from, to)));
        }
    }
    Ok(())
}

/// Adds a contender to the group.
fn enter<P: Port>(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    index: usize,
    start: impl Fn(usize) -> Result<Peer<P>>,
) {
    // Started when needed: a filter may leave it out.
    let mut peer = None;
    group.bench_function(name, |bencher| {
        let peer = peer.get_or_insert_with(|| start(index).expect("the producer starts"));
        bencher.iter_custom(|count| peer.measure(CASES[index], count));
    });
}

fn compare<M: Message>(criterion: &mut Criterion, index: usize) {
    let case = CASES[index];
    print_distance(case, "before");
    let mut group = criterion.benchmark_group(case.to_string());
    if !case.answers() {
        group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: case.size as u64 });
    }
    if case.size > LARGEST_VALUE {
        enter(&mut group, "tombolo", index, bytes::<M::Words>);
    } else {
        enter(&mut group, "tombolo", index, values::<M::Words>);
    }
    enter(&mut group, "pipe", index, unix_pipes::<M::Words>);
    if case.size <= LARGEST_PACKET {
        enter(&mut group, "seqpacket", index, seqpacket::<M::Words>);
    }
    enter(&mut group, "sync_channel", index, |index| Peer::thread(CASES[index], Channels::<M>::pair(CASES[index])));
    group.finish();
    print_distance(case, "after");
}

/// How far apart the CPUs are: only numbers from like places can be compared.
fn print_distance(case: Case, when: &str) {
    let Ok(probed) = bracketed(|| Ok::<_, Infallible>(()));
    let [first, second] = probed.probes;
    eprintln!("{when} {case}: the CPUs are {}, {first:.0} and {second:.0} ns there and back", probed.regime);
}

fn main() -> Result {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, contender, index] = &arguments[..]
        && flag == "--produce"
    {
        let case = CASES[index.parse::<usize>()?];
        return with_message!(case.size, M => run_producer::<<M as Message>::Words>(case, contender));
    }
    if !have_both() {
        eprintln!("skipped: this needs CPUs {PRODUCER} and {CONSUMER}");
        return Ok(());
    }
    pin(CONSUMER);
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(30)
        .configure_from_args();
    for (index, case) in CASES.iter().enumerate() {
        with_message!(case.size, M => compare::<M>(&mut criterion, index));
    }
    criterion.final_summary();
    Ok(())
}
