//! Publish-subscribe; where the receiver may sleep, with an event beside it.

use std::fmt::Debug;
use std::fs;
use std::process;
use std::sync::atomic::{AtomicU32, Ordering::*};

use anyhow::{Error, Result};
use iceoryx2::port::update_connections::UpdateConnections;
use iceoryx2::port::{listener::Listener, notifier::Notifier, publisher::Publisher, subscriber::Subscriber};
use iceoryx2::prelude::*;
use iceoryx2::service::port_factory::{event, publish_subscribe};

use super::{with_broadcast_message, with_spsc_message};
use crate::case::{Area, Case, Work};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::mpmc::{self, Backoff};
use crate::sample::Sample;
use crate::spsc::{self, Rx, Tx};
use crate::subject::{Job, Subject};

pub struct Iceoryx2;

impl Subject for Iceoryx2 {
    fn name(&self) -> &'static str {
        "iceoryx2"
    }

    fn supports(&self, case: &Case) -> bool {
        matches!(case.area, Area::Spsc | Area::Broadcast)
            && case.batch() == 1
            && !(case.is_by_value() && case.is_large())
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        set_log_level(LogLevel::Error);
        match job.case.area {
            Area::Broadcast => with_broadcast_message!(job.case, M => run_broadcast::<M>(job)),
            _ => with_spsc_message!(job.case, M => run::<M>(job)),
        }
    }

    fn clean_up(&self) {
        sweep();
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample>
where
    M::Words: ZeroCopySend + Debug,
{
    let sample = spsc::processes::<Topic<M::Words>>(job);
    if job.peer.is_none() {
        sweep();
    }
    sample
}

fn run_broadcast<W: Words + ZeroCopySend + Debug>(job: &Job) -> Result<Sample> {
    let sample = mpmc::processes::<Topic<W>>(job);
    if job.peer.is_none() {
        sweep();
    }
    sample
}

struct Topic<W: Words + ZeroCopySend + Debug> {
    name: String,
    data: publish_subscribe::PortFactory<ipc::Service, W, ()>,
    event: Option<event::PortFactory<ipc::Service>>,
    by_value: bool,
    readers: usize,
    is_lossy: bool,
}

/// What all files are named by: the process that owns them comes next.
const PREFIX: &str = "rivals_";

/// Removes the files of this process and of those that are gone.
fn sweep() {
    let is_ours = |pid: u32| pid == process::id() || !fs::exists(format!("/proc/{pid}/exe")).unwrap_or(true);
    for directory in ["/tmp", "/dev/shm"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| {
                let (pid, _) = name.strip_prefix(PREFIX)?.split_once('_')?;
                pid.parse().ok()
            });
            if owner.is_some_and(is_ours) {
                // One is a directory, the others are files; a failure cannot be helped.
                let path = entry.path();
                let _ = fs::remove_dir_all(&path).or_else(|_| fs::remove_file(&path));
            }
        }
    }
}

impl<W: Words + ZeroCopySend + Debug> Topic<W> {
    fn join(case: &Case, name: &str) -> Result<Self> {
        let mut config = Config::default();
        config.global.prefix = FileName::new(name.as_bytes()).map_err(Error::msg)?;
        let root = Path::new(format!("/tmp/{name}").as_bytes()).map_err(Error::msg)?;
        config.global.set_root_path(&root);
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let topic = ServiceName::new("rivals")?;
        let data = node
            .service_builder(&topic)
            .publish_subscribe::<W>()
            .enable_safe_overflow(case.work == Work::Lossy)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(case.readers)
            .max_nodes(case.participants() + 1)
            .subscriber_max_buffer_size(case.slots)
            .open_or_create()?;
        let event = case.blocks().then(|| node.service_builder(&topic).event().open_or_create());
        let is_lossy = case.work == Work::Lossy;
        let (event, by_value, readers) = (event.transpose()?, case.is_by_value(), case.readers);
        Ok(Self { name: name.into(), data, event, by_value, readers, is_lossy })
    }
}

impl<W: Words + ZeroCopySend + Debug> Link for Topic<W> {
    type Tx = Writer<W>;
    type Rx = Reader<W>;

    fn create(case: &Case) -> Result<Self> {
        static TOPICS: AtomicU32 = AtomicU32::new(0);
        let topic = TOPICS.fetch_add(1, Relaxed);
        Self::join(case, &format!("{PREFIX}{}_{topic}_", process::id()))
    }

    fn address(&self) -> String {
        self.name.clone()
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        Self::join(case, address)
    }

    fn tx(&self) -> Result<Writer<W>> {
        Ok(Writer {
            publisher: self
                .data
                .publisher_builder()
                .backpressure_strategy(if self.is_lossy {
                    BackpressureStrategy::DiscardData
                } else {
                    BackpressureStrategy::RetryUntilDelivered
                })
                .create()?,
            event: self.event.as_ref().map(|event| event.notifier_builder().create()).transpose()?,
            by_value: self.by_value,
            readers: self.readers,
            is_lossy: self.is_lossy,
        })
    }

    fn rx(&self) -> Result<Reader<W>> {
        Ok(Reader {
            subscriber: self.data.subscriber_builder().create()?,
            event: self.event.as_ref().map(|event| event.listener_builder().create()).transpose()?,
        })
    }
}

struct Writer<W: Words + ZeroCopySend + Debug> {
    publisher: Publisher<ipc::Service, W, ()>,
    event: Option<Notifier<ipc::Service>>,
    by_value: bool,
    readers: usize,
    is_lossy: bool,
}

struct Reader<W: Words + ZeroCopySend + Debug> {
    subscriber: Subscriber<ipc::Service, W, ()>,
    event: Option<Listener<ipc::Service>>,
}

impl<W: Words + ZeroCopySend + Debug> Tx for Writer<W> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        let sent = if self.by_value {
            self.publisher.send_copy(fill.message())
        } else {
            let mut sample = self.publisher.loan_uninit().expect("a free sample");
            fill.write(sample.payload_mut());
            // SAFETY: every word has just been written.
            unsafe { sample.assume_init() }.send()
        };
        let sent = sent.expect("sent");
        assert!(sent == self.readers || self.is_lossy, "{sent} of {} subscribers are there", self.readers);
        if let Some(event) = &self.event {
            event.notify().expect("notified");
        }
        1
    }
}

impl<W: Words + ZeroCopySend + Debug> mpmc::Tx for Writer<W> {
    fn connect(&mut self) {
        self.publisher.update_connections().expect("connected");
    }

    fn send(&mut self, _: usize, fill: &mut Fill, _: &mut Backoff) {
        Tx::send(self, 1, fill);
    }
}

impl<W: Words + ZeroCopySend + Debug> mpmc::Rx for Reader<W> {
    /// Otherwise a subscriber connects in its first `receive`. If its buffer is full by then, the
    /// publisher drops messages, also if it is to retry until they are delivered.
    fn connect(&mut self) {
        self.subscriber.update_connections().expect("connected");
    }

    fn receive(&mut self, _: usize, reader: &mut mpmc::Reader) -> usize {
        match (self.subscriber.receive().expect("received"), &self.event) {
            (Some(sample), _) => {
                reader.read(sample.payload());
                1
            }
            (None, Some(event)) => {
                event.blocking_wait(|_| ()).expect("waited");
                0
            }
            (None, None) => 0,
        }
    }
}

impl<W: Words + ZeroCopySend + Debug> Rx for Reader<W> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        match (self.subscriber.receive().expect("received"), &self.event) {
            (Some(sample), _) => {
                check.read(sample.payload());
                1
            }
            (None, Some(event)) => {
                event.blocking_wait(|_| ()).expect("waited");
                0
            }
            (None, None) => 0,
        }
    }
}
