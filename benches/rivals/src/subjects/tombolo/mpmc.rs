use std::marker::PhantomData;
use std::process::{Child, Command};

use anyhow::{Context, Result};
use tombolo::queue::{self, ByteReceiver, ByteSender, QueueEndpoint};
use tombolo::spawn::CommandExt;
use tombolo::{Endpoint, RecvError, SendError};

use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::link::{Link, Role};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::Job;
use crate::subjects::stage::Stage;

/// The label of the end that a participant is passed.
const LABEL: &str = "mpmc";

/// How many messages longer than a block may wait by default.
const EXTENTS: usize = 64;

const GONE: &str = "the others are there";

pub fn processes<M: Message>(job: &Job) -> Result<Sample> {
    match job.case.work {
        Work::Bytes => mpmc::processes::<Queue<Bytes<M::Words>>>(job),
        _ if job.case.blocks() => mpmc::processes::<Queue<Blocking<M::Words>>>(job),
        _ => mpmc::processes::<Queue<Spinning<M::Words>>>(job),
    }
}

pub fn threads<M: Message>(job: &Job) -> Result<Sample> {
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
    let (tx, rx) = K::create(&job.case)?;
    match job.case.work {
        Work::Alone => mpmc::alone(job, End::new(tx, &job.case), End::new(rx, &job.case)),
        _ => {
            mpmc::threads(job, || Ok(End::new(tx.try_clone()?, &job.case)), || Ok(End::new(rx.try_clone()?, &job.case)))
        }
    }
}

/// What a queue carries, and what its users do when it is full or empty.
trait Kind {
    type Words: Words;
    type Sender: QueueEndpoint + TryClone;
    type Receiver: QueueEndpoint<Message = <Self::Sender as Endpoint>::Message> + TryClone;

    fn options(case: &Case) -> queue::Options<<Self::Sender as Endpoint>::Message>;
    fn create(case: &Case) -> tombolo::Result<(Self::Sender, Self::Receiver)>;
}

struct Spinning<W>(PhantomData<W>);
struct Blocking<W>(PhantomData<W>);
struct Bytes<W>(PhantomData<W>);

impl<W: Words> Kind for Spinning<W> {
    type Words = W;
    type Sender = queue::Sender<W>;
    type Receiver = queue::Receiver<W>;

    fn options(case: &Case) -> queue::Options<W> {
        queue::Options::new().capacity(case.slots).prefault()
    }

    fn create(case: &Case) -> tombolo::Result<(Self::Sender, Self::Receiver)> {
        Self::options(case).create_channel()
    }
}

impl<W: Words> Kind for Blocking<W> {
    type Words = W;
    type Sender = queue::Sender<W>;
    type Receiver = queue::Receiver<W>;

    fn options(case: &Case) -> queue::Options<W> {
        Spinning::options(case)
    }

    fn create(case: &Case) -> tombolo::Result<(Self::Sender, Self::Receiver)> {
        Spinning::create(case)
    }
}

impl<W: Words> Kind for Bytes<W> {
    type Words = W;
    type Sender = ByteSender;
    type Receiver = ByteReceiver;

    fn options(case: &Case) -> queue::Options<[u8]> {
        queue::Options::bytes().capacity(case.slots).extents(case.slots.min(EXTENTS))
    }

    fn create(case: &Case) -> tombolo::Result<(Self::Sender, Self::Receiver)> {
        Self::options(case).create_channel()
    }
}

trait TryClone: Sized + 'static {
    fn try_clone(&self) -> tombolo::Result<Self>;
}

macro_rules! try_clone {
    ($([$($T:ident)?] $endpoint:ty;)*) => {
        $(impl$(<$T: Words>)? TryClone for $endpoint {
            fn try_clone(&self) -> tombolo::Result<Self> {
                <$endpoint>::try_clone(self)
            }
        })*
    };
}

try_clone! {
    [W] queue::Sender<W>;
    [W] queue::Receiver<W>;
    [] ByteSender;
    [] ByteReceiver;
}

type Sender<K> = End<K, <K as Kind>::Sender>;
type Receiver<K> = End<K, <K as Kind>::Receiver>;

/// A handle, and messages to copy from or to.
struct End<K: Kind, E> {
    handle: E,
    stage: Stage<K::Words>,
    bytes: Vec<u8>,
}

impl<K: Kind, E> End<K, E> {
    fn new(handle: E, case: &Case) -> Self {
        Self { handle, stage: Stage::new(case.batch()), bytes: Vec::new() }
    }
}

/// Holds the handles in the first process, which passes a clone to each participant.
struct Queue<K: Kind> {
    case: Case,
    handles: Option<Handles<K>>,
}

type Handles<K> = (<K as Kind>::Sender, <K as Kind>::Receiver);

impl<K: Kind> Link for Queue<K>
where
    Sender<K>: Tx,
    Receiver<K>: Rx,
{
    type Tx = Sender<K>;
    type Rx = Receiver<K>;

    fn create(case: &Case) -> Result<Self> {
        Ok(Self { case: *case, handles: Some(K::create(case)?) })
    }

    fn address(&self) -> String {
        LABEL.to_owned()
    }

    fn open(case: &Case, _: &str) -> Result<Self> {
        Ok(Self { case: *case, handles: None })
    }

    fn tx(&self) -> Result<Self::Tx> {
        Ok(End::new(K::options(&self.case).take(LABEL)?, &self.case))
    }

    fn rx(&self) -> Result<Self::Rx> {
        Ok(End::new(K::options(&self.case).take(LABEL)?, &self.case))
    }

    fn spawn(&self, mut command: Command, role: Role) -> Result<Child> {
        command.arg(self.address());
        let (tx, rx) = self.handles.as_ref().context("only the first process has handles to pass")?;
        let spawner = match role {
            Role::Producer => command.pass(LABEL, tx.try_clone()?)?,
            Role::Consumer => command.pass(LABEL, rx.try_clone()?)?,
        };
        Ok(spawner.spawn()?)
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
    fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
        match batch {
            1 => {
                let message = &fill.message::<W>();
                backoff.retry(|| unless_full(self.handle.try_send(message)).is_some());
            }
            _ => {
                let mut rest = &*self.stage.fill(batch, fill);
                backoff.retry(|| {
                    let sent = unless_full(self.handle.try_send_many(rest)).unwrap_or(0);
                    rest = &rest[sent..];
                    rest.is_empty()
                });
            }
        }
    }
}

impl<W: Words> Rx for Receiver<Spinning<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        match self.stage.messages(batch) {
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
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        match batch {
            1 => self.handle.send(fill.message::<W>()).expect(GONE),
            _ => {
                let mut rest = &*self.stage.fill(batch, fill);
                while !rest.is_empty() {
                    rest = &rest[self.handle.send_many(rest).expect(GONE)..];
                }
            }
        }
    }
}

impl<W: Words> Rx for Receiver<Blocking<W>> {
    fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
        match self.stage.messages(batch) {
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
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        for message in self.stage.fill(batch, fill) {
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
