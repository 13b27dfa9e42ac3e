//! Tombolo beside what the system offers, from one producer to one consumer, message by message.
//!
//! The consumer is this process, on CPU 1. The producer is this program again, in a second process
//! on CPU 0; for `sync_channel`, which connects threads only, it is a thread. Each message is
//! written and read word by word.
//!
//! `cargo bench --bench spsc` measures all cases, `-- --quick` takes less time, and `-- tombolo`
//! leaves out the others.

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
use tombolo::spawn::{CommandExt, Spawner};

use harness::payload::{Check, Fill, Message, Words};
use harness::pin::{CONSUMER, PRODUCER, have_both, pin};
use harness::probe::with_probe;

#[allow(dead_code, unused_imports)] // benches/rivals uses all of it, and runs its tests
mod harness;

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

/// In a quick exchange neither side would get as far as sleeping.
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

/// One end of a two-way connection.
trait Port {
    fn send(&mut self, fill: &mut Fill);
    fn receive(&mut self, check: &mut Check);
}

/// Sends and receives messages that lie in memory.
trait Transport<W> {
    fn put(&mut self, message: &W);
    fn take(&mut self, message: &mut W);
}

/// Messages are copied from and to a buffer of its own.
struct Copying<C, W> {
    transport: C,
    message: Box<W>,
}

impl<C, W: Words> Copying<C, W> {
    fn new(transport: C) -> Self {
        Self { transport, message: Box::new(W::zeroed()) }
    }
}

impl<C: Transport<W>, W: Words> Port for Copying<C, W> {
    fn send(&mut self, fill: &mut Fill) {
        fill.overwrite(&mut *self.message);
        self.transport.put(&self.message);
    }

    fn receive(&mut self, check: &mut Check) {
        self.transport.take(&mut self.message);
        check.read(&*self.message);
    }
}

impl<W: Words> Transport<W> for Pipe<W> {
    fn put(&mut self, message: &W) {
        self.send(message).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.rx.recv_into(message).expect(GONE);
    }
}

impl<W: Words> Transport<W> for BytePipe {
    fn put(&mut self, message: &W) {
        self.send(bytemuck::bytes_of(message)).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.recv_into(bytemuck::bytes_of_mut(message)).expect(GONE);
    }
}

/// A file that spins where it would block.
struct NonBlockingFile(File);

/// To read from and to write to.
struct Files(NonBlockingFile, NonBlockingFile);

impl Files {
    fn new(from: OwnedFd, to: OwnedFd) -> Self {
        Self(NonBlockingFile(from.into()), NonBlockingFile(to.into()))
    }
}

impl<W: Words> Transport<W> for Files {
    fn put(&mut self, message: &W) {
        self.1.write_all(bytemuck::bytes_of(message)).expect(GONE);
    }

    fn take(&mut self, message: &mut W) {
        self.0.read_exact(bytemuck::bytes_of_mut(message)).expect(GONE);
    }
}

impl Read for NonBlockingFile {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        spinning(|| self.0.read(bytes))
    }
}

impl Write for NonBlockingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        spinning(|| self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn spinning(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => spin_loop(),
            done => return done,
        }
    }
}

/// Channels between threads. They hold values, so large messages are in a box.
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

/// The producer: sends as many messages as each count says, and returns when the counts end.
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
    // Last: it waits for the producer, which leaves when the others are dropped.
    _end: Ending,
}

/// Waits for the producer's thread or process; returns whether it succeeded.
struct Ending(Option<Box<dyn FnOnce() -> bool>>);

impl Drop for Ending {
    fn drop(&mut self) {
        let well = self.0.take().is_some_and(|wait| wait());
        assert!(well || thread::panicking(), "the producer failed");
    }
}

impl<P: Port> Peer<P> {
    /// `pass` adds what the producer needs besides the pipe of counts.
    fn process(
        command: Command,
        port: P,
        pass: impl FnOnce(Spawner<Command>) -> tombolo::Result<Spawner<Command>>,
    ) -> Result<Self> {
        let (counts, theirs) = counts().create()?;
        let mut child = pass(command.pass("counts", theirs)?)?.spawn()?;
        let end = Ending(Some(Box::new(move || child.wait().is_ok_and(|status| status.success()))));
        Ok(Self { counts, port, _end: end })
    }

    fn thread(case: Case, [port, theirs]: [P; 2]) -> Result<Self>
    where
        P: Send + 'static,
    {
        let (counts, their_counts) = counts().create()?;
        let producer = thread::spawn(move || produce(case, their_counts, theirs));
        Ok(Self { counts, port, _end: Ending(Some(Box::new(|| producer.join().is_ok()))) })
    }

    fn measure(&mut self, case: Case, count: u64) -> Duration {
        // Some that do not count go first: they wake the producer and fill the ring.
        let lead = if case.answers() { 100 } else { case.slots() as u64 };
        self.counts.send(lead + count).expect(GONE);
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

/// Gives the producer time to fall asleep; returns how long that was.
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
fn producer(index: usize, subject: &str) -> Result<Command> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--produce", subject, &index.to_string()]);
    Ok(command)
}

fn values<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (ours, theirs) = CASES[index].values::<W>().create_duplex()?;
    Peer::process(producer(index, "values")?, Copying::new(ours), |spawner| spawner.pass("port", theirs))
}

fn bytes<W: Words>(index: usize) -> Result<Peer<impl Port>> {
    let (ours, theirs) = CASES[index].bytes().create_duplex()?;
    Peer::process(producer(index, "bytes")?, Copying::<_, W>::new(ours), |spawner| spawner.pass("port", theirs))
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
    Peer::process(command, Copying::<_, W>::new(Files::new(from, to)), Ok)
}

fn run_producer<W: Words>(case: Case, subject: &str) -> Result {
    let counts = counts().take("counts")?;
    match subject {
        "values" => produce(case, counts, Copying::new(case.values::<W>().take::<Pipe<W>>("port")?)),
        "bytes" => produce(case, counts, Copying::<_, W>::new(case.bytes().take::<BytePipe>("port")?)),
        _ => {
            let [from, to] = [io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?];
            produce(case, counts, Copying::<_, W>::new(Files::new(from, to)));
        }
    }
    Ok(())
}

/// Adds a subject to the group.
fn add<P: Port>(
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
    print_regime(case, "before");
    let mut group = criterion.benchmark_group(case.to_string());
    if !case.answers() {
        group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: case.size as u64 });
    }
    if case.size > LARGEST_VALUE {
        add(&mut group, "tombolo", index, bytes::<M::Words>);
    } else {
        add(&mut group, "tombolo", index, values::<M::Words>);
    }
    add(&mut group, "pipe", index, unix_pipes::<M::Words>);
    if case.size <= LARGEST_PACKET {
        add(&mut group, "seqpacket", index, seqpacket::<M::Words>);
    }
    add(&mut group, "sync_channel", index, |index| Peer::thread(CASES[index], Channels::<M>::pair(CASES[index])));
    group.finish();
    print_regime(case, "after");
}

/// Prints how far apart the CPUs are: only numbers of the same regime can be compared.
fn print_regime(case: Case, when: &str) {
    let Ok(probed) = with_probe(|| Ok::<_, Infallible>(()));
    let [first, second] = probed.probes;
    eprintln!("{when} {case}: the CPUs are {}, {first:.0} and {second:.0} ns there and back", probed.regime);
}

fn main() -> Result {
    let arguments: Vec<_> = env::args().collect();
    if let [_, flag, subject, index] = &arguments[..]
        && flag == "--produce"
    {
        let case = CASES[index.parse::<usize>()?];
        return with_message!(case.size, M => run_producer::<<M as Message>::Words>(case, subject));
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
