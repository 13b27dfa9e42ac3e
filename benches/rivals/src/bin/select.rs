//! Compares waits for several things at once: `tombolo::select`, crossbeam's `Select`, and the
//! `WaitSet` of iceoryx2, whose events have no payload here.
//!
//! ```sh
//! cargo run --release --bin select               # or with --features iceoryx2
//! ```
//!
//! `ready`: one thread sends a message into one of N queues and selects over all of them, which is
//! the price of finding it. The first row of each is a `try_recv` alone. `parked`: two threads send
//! each other one message at a time through one of 8 queues, and sleep in between; the price of a
//! bare futex, of one queue and of a wait for 8 of them. A row is the median of the rounds, with the
//! fastest and the slowest; all subjects run once in each round.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use crossbeam_channel::Select;
use rivals::harness::pin::pin;
use rivals::shared_memory::{futex_wait, futex_wake};
use tombolo::WaitStrategy;
use tombolo::queue::{self, Receiver, Sender};
use tombolo::select::{Descriptor, Selector, Source};

const ROUNDS: usize = 21;
const MESSAGES: usize = 20_000;
const TURNS: u32 = 500;
const PARKED_SOURCES: usize = 8;

type Subject = (String, Box<dyn FnMut() -> Result<f64>>);

fn queues(count: usize) -> Result<(Vec<Sender<u64>>, Vec<Receiver<u64>>)> {
    let options = queue::Options::<u64>::new().capacity(64).wait(WaitStrategy::Park);
    Ok((0..count).map(|_| options.create_channel()).collect::<tombolo::Result<Vec<_>>>()?.into_iter().unzip())
}

fn sources(receivers: &mut [Receiver<u64>]) -> Vec<&mut dyn Source> {
    receivers.iter_mut().map(|receiver| receiver as &mut dyn Source).collect()
}

/// Nanoseconds for each message.
fn each(began: Instant) -> f64 {
    began.elapsed().as_nanos() as f64 / MESSAGES as f64
}

/// The source of a message: all of them in some order.
fn source(number: usize, count: usize) -> usize {
    number.wrapping_mul(7919) % count
}

fn try_recv() -> Result<f64> {
    let (mut senders, mut receivers) = queues(1)?;
    let began = Instant::now();
    for number in 0..MESSAGES {
        senders[0].send(number as u64)?;
        black_box(receivers[0].try_recv()?);
    }
    Ok(each(began))
}

fn select(count: usize) -> Result<f64> {
    let (mut senders, mut receivers) = queues(count)?;
    let mut selector = Selector::new();
    let began = Instant::now();
    for number in 0..MESSAGES {
        senders[source(number, count)].send(number as u64)?;
        // As a program does that names its sources: the list is made anew for each wait.
        let found = match &mut receivers[..] {
            [one] => selector.wait(&mut [one])?,
            [one, two] => selector.wait(&mut [one, two])?,
            many => selector.wait(&mut sources(many))?,
        };
        black_box(receivers[found].try_recv()?);
    }
    Ok(each(began))
}

fn crossbeam_try_recv() -> Result<f64> {
    let (sender, receiver) = crossbeam_channel::bounded(64);
    let began = Instant::now();
    for number in 0..MESSAGES {
        sender.send(number)?;
        black_box(receiver.try_recv()?);
    }
    Ok(each(began))
}

fn crossbeam_select(count: usize) -> Result<f64> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| crossbeam_channel::bounded(64)).unzip();
    let mut select = Select::new();
    receivers.iter().for_each(|receiver| _ = select.recv(receiver));
    let began = Instant::now();
    for number in 0..MESSAGES {
        senders[source(number, count)].send(number)?;
        let operation = select.select();
        let receiver = &receivers[operation.index()];
        black_box(operation.recv(receiver)?);
    }
    Ok(each(began))
}

/// Nanoseconds for one of two ways, between this thread and another one. `here` and `there` do one
/// turn each.
fn turns(mut here: impl FnMut(u32), mut there: impl FnMut(u32) + Send) -> f64 {
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            (0..TURNS).for_each(&mut there);
        });
        let began = Instant::now();
        (0..TURNS).for_each(&mut here);
        began.elapsed().as_nanos() as f64 / f64::from(2 * TURNS)
    })
}

fn bare_futex() -> Result<f64> {
    let words = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let send = |word: &AtomicU32, turn: u32| {
        word.store(turn + 1, Ordering::Release);
        futex_wake(word, 1);
    };
    let wait = |word: &AtomicU32, turn: u32| {
        while word.load(Ordering::Acquire) == turn {
            futex_wait(word, turn);
        }
    };
    let [ping, pong] = &*words;
    let here = |turn| {
        send(ping, turn);
        wait(pong, turn);
    };
    let there = |turn| {
        wait(ping, turn);
        send(pong, turn);
    };
    Ok(turns(here, there))
}

fn parked_recv() -> Result<f64> {
    let ((mut ping, mut pinged), (mut pong, mut ponged)) = (queues(1)?, queues(1)?);
    let here = |turn: u32| {
        ping[0].send(u64::from(turn)).unwrap();
        ponged[0].recv().unwrap();
    };
    let there = |turn: u32| {
        pinged[0].recv().unwrap();
        pong[0].send(u64::from(turn)).unwrap();
    };
    Ok(turns(here, there))
}

fn parked_select(with_descriptor: bool) -> Result<f64> {
    let ((mut ping, mut pinged), (mut pong, mut ponged)) = (queues(PARKED_SOURCES)?, queues(PARKED_SOURCES)?);
    let wait = |selector: &mut Selector, receivers: &mut [Receiver<u64>]| {
        let (silent, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut silent = Descriptor::readable(silent);
        let mut all = sources(receivers);
        if with_descriptor {
            all.push(&mut silent);
        }
        let found = selector.wait(&mut all).unwrap();
        receivers[found].try_recv().unwrap();
    };
    let selector = || Selector::new().wait_strategy(WaitStrategy::Park);
    let (mut one, mut other) = (selector(), selector());
    let chosen = |turn: u32| source(turn as usize, PARKED_SOURCES);
    let here = |turn: u32| {
        ping[chosen(turn)].send(u64::from(turn)).unwrap();
        wait(&mut one, &mut ponged);
    };
    let there = |turn: u32| {
        wait(&mut other, &mut pinged);
        pong[chosen(turn)].send(u64::from(turn)).unwrap();
    };
    Ok(turns(here, there))
}

fn crossbeam_parked() -> Result<f64> {
    let channels = || (0..PARKED_SOURCES).map(|_| crossbeam_channel::bounded(64)).unzip();
    let (ping, pinged): (Vec<_>, Vec<_>) = channels();
    let (pong, ponged): (Vec<_>, Vec<_>) = channels();
    let wait = |receivers: &[crossbeam_channel::Receiver<u32>]| {
        let mut select = Select::new();
        receivers.iter().for_each(|receiver| _ = select.recv(receiver));
        let operation = select.select();
        let receiver = &receivers[operation.index()];
        operation.recv(receiver).unwrap();
    };
    let chosen = |turn: u32| source(turn as usize, PARKED_SOURCES);
    let here = |turn: u32| {
        ping[chosen(turn)].send(turn).unwrap();
        wait(&ponged);
    };
    let there = |turn: u32| {
        wait(&pinged);
        pong[chosen(turn)].send(turn).unwrap();
    };
    Ok(turns(here, there))
}

#[cfg(feature = "iceoryx2")]
mod iceoryx {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::Barrier;

    use iceoryx2::port::listener::Listener;
    use iceoryx2::port::notifier::Notifier;
    use iceoryx2::prelude::*;
    use iceoryx2::service::port_factory::event;
    use iceoryx2::waitset::{WaitSet, WaitSetAttachmentId, WaitSetGuard};

    use super::*;

    const SHARED_MEMORY: &str = "/dev/shm";

    type Service = ipc::Service;

    /// A directory and a beginning of names for the files of a node, which are removed with this.
    struct Place {
        root: PathBuf,
        prefix: String,
    }

    impl Place {
        fn new() -> Result<Self> {
            set_log_level(LogLevel::Error);
            let prefix = format!("rivals_select_{}_", std::process::id());
            let root = PathBuf::from(format!("{SHARED_MEMORY}/{prefix}root"));
            fs::create_dir_all(&root)?;
            Ok(Self { root, prefix })
        }

        fn node(&self) -> Result<Node<Service>> {
            let mut config = Config::default();
            let root = self.root.to_str().unwrap_or_default();
            config.global.set_root_path(&Path::new(root.as_bytes()).map_err(anyhow::Error::msg)?);
            config.global.prefix = FileName::new(self.prefix.as_bytes()).map_err(anyhow::Error::msg)?;
            Ok(NodeBuilder::new()
                .config(&config)
                .signal_handling_mode(SignalHandlingMode::Disabled)
                .create::<Service>()?)
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            for entry in fs::read_dir(SHARED_MEMORY).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(&self.prefix) {
                    let path = entry.path();
                    let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
                }
            }
        }
    }

    fn events(node: &Node<Service>, way: &str, count: usize) -> Result<Vec<event::PortFactory<Service>>> {
        let event = |number| {
            Ok(node.service_builder(&format!("{way}{number}").as_str().try_into()?).event().open_or_create()?)
        };
        (0..count).map(event).collect()
    }

    fn listeners(events: &[event::PortFactory<Service>]) -> Result<Vec<Listener<Service>>> {
        events.iter().map(|event| Ok(event.listener_builder().create()?)).collect()
    }

    fn notifiers(events: &[event::PortFactory<Service>]) -> Result<Vec<Notifier<Service>>> {
        events.iter().map(|event| Ok(event.notifier_builder().create()?)).collect()
    }

    type Attached<'a> = Vec<(WaitSetGuard<'a, 'a, Service>, &'a Listener<Service>)>;

    fn attach<'a>(set: &'a WaitSet<Service>, listeners: &'a [Listener<Service>]) -> Result<Attached<'a>> {
        listeners.iter().map(|listener| Ok((set.attach_notification(listener)?, listener))).collect()
    }

    /// Blocks until there is an event, and takes it.
    fn wait(set: &WaitSet<Service>, attached: &Attached<'_>) {
        let mut count = 0;
        while count == 0 {
            let take = |id: WaitSetAttachmentId<Service>| {
                if let Some((_, listener)) = attached.iter().find(|(guard, _)| id.has_event_from(guard)) {
                    listener.try_wait(|_| count += 1).unwrap();
                }
                CallbackProgression::Continue
            };
            set.wait_and_process_once(take).unwrap();
        }
    }

    pub fn ready(count: usize) -> Result<f64> {
        let place = Place::new()?;
        let node = place.node()?;
        let events = events(&node, "ping", count)?;
        let (listeners, notifiers) = (listeners(&events)?, notifiers(&events)?);
        let set = WaitSetBuilder::new().create::<Service>()?;
        let attached = attach(&set, &listeners)?;
        let began = Instant::now();
        for number in 0..MESSAGES {
            notifiers[source(number, count)].notify()?;
            wait(&set, &attached);
        }
        Ok(each(began))
    }

    pub fn parked() -> Result<f64> {
        let place = Place::new()?;
        let node = place.node()?;
        let (ping, pong) = (events(&node, "ping", PARKED_SOURCES)?, events(&node, "pong", PARKED_SOURCES)?);
        let (are_listening, are_notifying) = (Barrier::new(2), Barrier::new(2));
        // The ends of a side are made in its thread, since they cannot be sent to another one.
        let play = |out: &[event::PortFactory<Service>], back: &[event::PortFactory<Service>], is_first: bool| {
            let listeners = listeners(back)?;
            let set = WaitSetBuilder::new().create::<Service>()?;
            let attached = attach(&set, &listeners)?;
            are_listening.wait();
            let notifiers = notifiers(out)?;
            are_notifying.wait();
            let began = Instant::now();
            for turn in 0..TURNS as usize {
                let notifier = &notifiers[source(turn, PARKED_SOURCES)];
                if is_first {
                    notifier.notify()?;
                }
                wait(&set, &attached);
                if !is_first {
                    notifier.notify()?;
                }
            }
            Ok(began.elapsed().as_nanos() as f64 / f64::from(2 * TURNS))
        };
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                pin(1);
                play(&pong, &ping, false)
            });
            let time: Result<f64> = play(&ping, &pong, true);
            other.join().unwrap()?;
            time
        })
    }
}

fn main() -> Result<()> {
    pin(0);
    let mut subjects: Vec<Subject> = vec![
        ("ready: tombolo try_recv".into(), Box::new(try_recv)),
        ("ready: crossbeam try_recv".into(), Box::new(crossbeam_try_recv)),
    ];
    for count in [1, 2, 8, 32] {
        subjects.push((format!("ready: tombolo of {count}"), Box::new(move || select(count))));
        subjects.push((format!("ready: crossbeam of {count}"), Box::new(move || crossbeam_select(count))));
        #[cfg(feature = "iceoryx2")]
        subjects.push((format!("ready: iceoryx2 of {count}"), Box::new(move || iceoryx::ready(count))));
    }
    subjects.push(("parked: bare futex".into(), Box::new(bare_futex)));
    subjects.push(("parked: tombolo recv".into(), Box::new(parked_recv)));
    subjects.push(("parked: tombolo of 8".into(), Box::new(|| parked_select(false))));
    subjects.push(("parked: tombolo of 8 and a descriptor".into(), Box::new(|| parked_select(true))));
    subjects.push(("parked: crossbeam of 8".into(), Box::new(crossbeam_parked)));
    #[cfg(feature = "iceoryx2")]
    subjects.push(("parked: iceoryx2 of 8".into(), Box::new(iceoryx::parked)));

    let mut times = vec![Vec::new(); subjects.len()];
    for _ in 0..ROUNDS {
        for ((_, run), times) in subjects.iter_mut().zip(&mut times) {
            times.push(run()?);
            thread::sleep(Duration::from_millis(1));
        }
    }
    println!("{:40} {:>9} {:>9} {:>9}", "ns, the median of the rounds", "median", "fastest", "slowest");
    for ((name, _), mut times) in subjects.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        println!("{name:40} {median:9.1} {:9.1} {:9.1}", times[0], times[times.len() - 1]);
    }
    Ok(())
}
