use std::marker::PhantomData;
use std::process::{Child, Command};
use std::sync::Mutex;

use anyhow::{Context, Result};
use tombolo::broadcast::{self, Policy, Publisher, Subscriber};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::spawn::{CommandExt, take};
use tombolo::{RecvError, SendError};

use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Words};
use crate::link::{Link, Role};
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::subject::Job;
use crate::subjects::stage::Stage;

/// The label of the end that a participant is passed.
const LABEL: &str = "broadcast";

const GONE: &str = "the others are there";

pub fn run<W: Words>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Topic<Publisher<W>, Subscriber<W>, W>>(job)
}

pub fn run_pipe<W: Words>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Topic<Sender<W>, Receiver<W>, W>>(job)
}

/// Holds the endpoints in the first process, until it passes them to the participants.
struct Topic<S, R, W> {
    case: Case,
    handles: Option<Mutex<(Vec<S>, Vec<R>)>>,
    words: PhantomData<W>,
}

impl<S, R, W> Topic<S, R, W> {
    fn new(case: &Case, handles: Option<(Vec<S>, Vec<R>)>) -> Self {
        Self { case: *case, handles: handles.map(Mutex::new), words: PhantomData }
    }

    fn next(&self, role: Role) -> Result<(Option<S>, Option<R>)> {
        let handles = self.handles.as_ref().context("only the first process has handles to pass")?;
        let mut handles = handles.lock().expect("a panic aborts");
        Ok(match role {
            Role::Producer => (handles.0.pop(), None),
            Role::Consumer => (None, handles.1.pop()),
        })
    }
}

/// An endpoint, and messages to copy from or to.
struct End<E, W> {
    handle: E,
    blocks: bool,
    stage: Stage<W>,
}

impl<E, W: Words> End<E, W> {
    fn new(handle: E, case: &Case) -> Self {
        Self { handle, blocks: case.blocks(), stage: Stage::new(case.batch()) }
    }
}

macro_rules! link {
    ($Sender:ident, $Receiver:ident, $options:expr, |$created:ident, $case:ident| $all:expr) => {
        impl<W: Words> Link for Topic<$Sender<W>, $Receiver<W>, W> {
            type Tx = End<$Sender<W>, W>;
            type Rx = End<$Receiver<W>, W>;

            fn create($case: &Case) -> Result<Self> {
                let $created = $options($case).create()?;
                Ok(Self::new($case, Some($all)))
            }

            fn address(&self) -> String {
                LABEL.to_owned()
            }

            fn open(case: &Case, _: &str) -> Result<Self> {
                Ok(Self::new(case, None))
            }

            fn tx(&self) -> Result<Self::Tx> {
                Ok(End::new(take(LABEL)?, &self.case))
            }

            fn rx(&self) -> Result<Self::Rx> {
                Ok(End::new(take(LABEL)?, &self.case))
            }

            fn spawn(&self, mut command: Command, role: Role) -> Result<Child> {
                command.arg(self.address());
                Ok(match self.next(role)? {
                    (Some(tx), _) => command.pass(LABEL, tx)?.spawn()?,
                    (_, Some(rx)) => command.pass(LABEL, rx)?.spawn()?,
                    _ => anyhow::bail!("there are no more handles"),
                })
            }
        }
    };
}

fn options<W: Words>(case: &Case) -> broadcast::Options<W> {
    let policy = if case.work == Work::Lossy { Policy::Lossy } else { Policy::Lossless };
    broadcast::Options::new().capacity(case.slots).policy(policy).prefault()
}

link!(Publisher, Subscriber, options::<W>, |created, case| {
    let (publisher, first) = created;
    let mut subscribers = vec![first];
    while subscribers.len() < case.readers {
        subscribers.push(publisher.subscriber()?);
    }
    (vec![publisher], subscribers)
});

fn pipe_options<W: Words>(case: &Case) -> pipe::Options<W> {
    pipe::Options::new().capacity(case.slots).prefault()
}

link!(Sender, Receiver, pipe_options::<W>, |created, _case| (vec![created.0], vec![created.1]));

fn unless_full<T>(outcome: Result<T, SendError>) -> Option<T> {
    match outcome {
        Err(SendError::Full) => None,
        done => Some(done.expect(GONE)),
    }
}

/// A subscriber that lagged reads on at once.
fn unless_empty<T>(mut receive: impl FnMut() -> Result<T, RecvError>) -> Option<T> {
    loop {
        match receive() {
            Err(RecvError::Empty) => return None,
            Err(RecvError::Lagged { .. }) => {}
            done => return Some(done.expect(GONE)),
        }
    }
}

macro_rules! ends {
    ($Sender:ident { $send:ident $try_send:ident $try_send_many:ident } $Receiver:ident) => {
        impl<W: Words> Tx for End<$Sender<W>, W> {
            fn send(&mut self, batch: usize, fill: &mut Fill, backoff: &mut Backoff) {
                match batch {
                    1 if self.blocks => self.handle.$send(&fill.message::<W>()).expect(GONE),
                    1 => {
                        let message = &fill.message::<W>();
                        backoff.retry(|| unless_full(self.handle.$try_send(message)).is_some());
                    }
                    _ => {
                        let mut rest = &*self.stage.fill(batch, fill);
                        backoff.retry(|| {
                            let sent = unless_full(self.handle.$try_send_many(rest)).unwrap_or(0);
                            rest = &rest[sent..];
                            rest.is_empty()
                        });
                    }
                }
            }
        }

        impl<W: Words> Rx for End<$Receiver<W>, W> {
            fn receive(&mut self, batch: usize, reader: &mut Reader) -> usize {
                let blocks = self.blocks;
                match self.stage.messages(batch) {
                    [_] => {
                        let receive = || if blocks { self.handle.recv() } else { self.handle.try_recv() };
                        unless_empty(receive).map_or(0, |message| {
                            reader.read(&message);
                            1
                        })
                    }
                    messages => {
                        let received = unless_empty(|| self.handle.try_recv_many(messages)).unwrap_or(0);
                        self.stage.read(received, reader)
                    }
                }
            }
        }
    };
}

ends!(Publisher { publish try_publish try_publish_many } Subscriber);
ends!(Sender { send try_send try_send_many } Receiver);
