use std::marker::PhantomData;
use std::process::{Child, Command};

use anyhow::Result;
use tombolo::{RecvError, SendError};
use tombolo::queue;
use tombolo::spawn::Handover;

use super::{Contender, Stage, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::play::{Job, Link, Part, Sample};
use crate::side::{Patience, Reader, Rx, Tx};

/// What participants call the end that they are handed.
const LABEL: &str = "crowd";

/// As many messages longer than a block may wait, unless one asks for more.
const EXTENTS: usize = 64;

const GONE: &str = "the others are there";

pub struct Processes;

/// The same handles in one process.
pub struct Threads;

impl Contender for Processes {
    fn name(&self) -> &'static str {
        "tombolo"
    }

    fn can(&self, case: &Case) -> bool {
        case.work != Work::Alone
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => processes::<M>(job))
    }
}

impl Contender for Threads {
    fn name(&self) -> &'static str {
        "tombolo-threads"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => threads::<M>(job))
    }
}

fn processes<M: Message>(job: &Job) -> Result<Sample> {
    match job.case.work {
        Work::Bytes => job.processes::<Queue<Bytes<M::Words>>>(),
        _ if job.case.blocks() => job.processes::<Queue<Blocking<M::Words>>>(),
        _ => job.processes::<Queue<Spinning<M::Words>>>(),
    }
}

fn threads<M: Message>(job: &Job) -> Result<Sample> {
    match job.case.work {
        Work::Bytes => threads_of::<Bytes<M::Words>>(job),
        _ if job.case.blocks() => threads_of::<Blocking<M::Words>>(job),
        _ => threads_of::<Spinning<M::Words>>(job),
    }
}

fn threads_of<K: Kind>(job: &Job) -> Result<Sample>
where
    Sender<K>: Tx + Send,
    Receiver<K>: Rx + Send,
{
    let (tx, rx) = K::options(&job.case).create_channel()?;
    match job.case.work {
        Work::Alone => job.alone(End::new(tx, &job.case), End::new(rx, &job.case)),
        _ => job.threads(|| Ok(End::new(tx.try_clone()?, &job.case)), || Ok(End::new(rx.try_clone()?, &job.case))),
    }
}

/// What a queue carries, and what its users do when they cannot go on.
trait Kind {
    type Words: Words;
    type Message: tombolo::Message + ?Sized;

    fn options(case: &Case) -> queue::Options<Self::Message>;
}

struct Spinning<W>(PhantomData<W>);
struct Blocking<W>(PhantomData<W>);
struct Bytes<W>(PhantomData<W>);

impl<W: Words> Kind for Spinning<W> {
    type Words = W;
    type Message = W;

    fn options(case: &Case) -> queue::Options<W> {
        queue::Options::new().capacity(case.slots).prefault()
    }
}

impl<W: Words> Kind for Blocking<W> {
    type Words = W;
    type Message = W;

    fn options(case: &Case) -> queue::Options<W> {
        Spinning::options(case)
    }
}

impl<W: Words> Kind for Bytes<W> {
    type Words = W;
    type Message = [u8];

    fn options(case: &Case) -> queue::Options<[u8]> {
        queue::Options::bytes().capacity(case.slots).extents(case.slots.min(EXTENTS))
    }
}

type Sender<K> = End<K, queue::Sender<<K as Kind>::Message>>;
type Receiver<K> = End<K, queue::Receiver<<K as Kind>::Message>>;

/// A handle, and messages to copy from or to.
struct End<K: Kind, E> {
    handle: E,
    stage: Stage<K::Words>,
    bytes: Vec<u8>,
}

impl<K: Kind, E> End<K, E> {
    fn new(handle: E, case: &Case) -> Self {
        Self { handle, stage: Stage::new(case.lot()), bytes: Vec::new() }
    }
}

/// Kept by the first process, so that each participant gets handles of its own.
struct Queue<K: Kind>(queue::Sender<K::Message>, queue::Receiver<K::Message>);

impl<K: Kind> Link for Queue<K>
where
    Sender<K>: Tx,
    Receiver<K>: Rx,
{
    type Tx = Sender<K>;
    type Rx = Receiver<K>;

    fn create(case: &Case) -> Result<Self> {
        let (tx, rx) = K::options(case).create_channel()?;
        Ok(Self(tx, rx))
    }

    fn address(&self) -> String {
        LABEL.to_owned()
    }

    fn spawn(&self, mut command: Command, part: Part) -> Result<Child> {
        command.arg(self.address());
        let handover = Handover::new(command);
        let handover = match part {
            Part::Producer => handover.give(LABEL, self.0.try_clone()?)?,
            Part::Consumer => handover.give(LABEL, self.1.try_clone()?)?,
        };
        Ok(handover.spawn()?)
    }

    fn tx(case: &Case, label: &str) -> Result<Self::Tx> {
        Ok(End::new(K::options(case).handed(label)?, case))
    }

    fn rx(case: &Case, label: &str) -> Result<Self::Rx> {
        Ok(End::new(K::options(case).handed(label)?, case))
    }
}

fn unless_full<T>(outcome: Result<T, SendError>) -> Option<T> {
    match outcome {
        Err(SendError::Full) => None,
        done => Some(done.expect(GONE)),
    }
}

fn unless_empty<T>(outcome: Result<T, RecvError>) -> Option<T> {
    match outcome {
        Err(RecvError::Empty) => None,
        done => Some(done.expect(GONE)),
    }
}

impl<W: Words> Tx for Sender<Spinning<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, patience: &mut Patience) {
        match lot {
            1 => {
                let message = fill.message::<W>();
                patience.insist(|| unless_full(self.handle.try_send(&message)).is_some());
            }
            _ => {
                let mut rest = self.stage.filled(lot, fill);
                patience.insist(|| {
                    let sent = unless_full(self.handle.try_send_many(rest)).unwrap_or(0);
                    rest = &rest[sent..];
                    rest.is_empty()
                });
            }
        }
    }
}

impl<W: Words> Rx for Receiver<Spinning<W>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        match self.stage.room(lot) {
            [_] => unless_empty(self.handle.try_recv()).map_or(0, |message| {
                reader.read(&message);
                1
            }),
            messages => {
                let received = unless_empty(self.handle.try_recv_many(messages)).unwrap_or(0);
                self.stage.read(received, reader)
            }
        }
    }
}

impl<W: Words> Tx for Sender<Blocking<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, _: &mut Patience) {
        match lot {
            1 => self.handle.send(&fill.message::<W>()).expect(GONE),
            _ => {
                let mut rest = self.stage.filled(lot, fill);
                while !rest.is_empty() {
                    rest = &rest[self.handle.send_many(rest).expect(GONE)..];
                }
            }
        }
    }
}

impl<W: Words> Rx for Receiver<Blocking<W>> {
    fn receive(&mut self, lot: usize, reader: &mut Reader) -> usize {
        match self.stage.room(lot) {
            [_] => {
                reader.read(&self.handle.recv().expect(GONE));
                1
            }
            messages => {
                let received = self.handle.recv_many(messages).expect(GONE);
                self.stage.read(received, reader)
            }
        }
    }
}

impl<W: Words> Tx for Sender<Bytes<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, _: &mut Patience) {
        for message in self.stage.filled(lot, fill) {
            self.handle.send(bytemuck::bytes_of(message)).expect(GONE);
        }
    }
}

impl<W: Words> Rx for Receiver<Bytes<W>> {
    fn receive(&mut self, _: usize, reader: &mut Reader) -> usize {
        self.handle.recv(&mut self.bytes).expect(GONE);
        reader.read(bytemuck::from_bytes::<W>(&self.bytes));
        1
    }
}
