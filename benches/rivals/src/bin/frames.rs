//! Compares how large frames get from one process to several: in place, copied, through sockets.
//!
//! ```sh
//! cargo run --release --bin frames               # or with --features iceoryx2
//! ```
//!
//! The publisher copies a picture into each frame. Each subscriber, a process of its own, looks at
//! the frame's first and last word. Nobody drops a frame. A row says how long one frame took, from
//! the first to the last that all subscribers had, as the median of the rounds with the fastest and
//! the slowest; all subjects run once in each round.
//!
//! The second table has no copy: the publisher hands over frames as they are, while every subscriber
//! polls. So it shows what a subscriber costs the publisher. A processor that is shared by several
//! processes is part of that.

use std::env;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tombolo::WaitStrategy;
use tombolo::broadcast::{Frames, Options};

const SIZES: [usize; 2] = [3 << 20, 10 << 20];
const SUBSCRIBERS: [usize; 3] = [1, 3, 8];
const ROUNDS: usize = 5;
const FRAMES: usize = 12;
const SLOTS: usize = 8;
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    InPlace,
    Copied,
    Socket,
    #[cfg(feature = "iceoryx2")]
    Iceoryx2,
}

impl Subject {
    fn all() -> Vec<Self> {
        vec![
            Self::InPlace,
            Self::Copied,
            Self::Socket,
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx2,
        ]
    }

    fn name(self) -> &'static str {
        match self {
            Self::InPlace => "tombolo, in place",
            Self::Copied => "tombolo, copied",
            Self::Socket => "Unix sockets",
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx2 => "iceoryx2, loans",
        }
    }
}

/// One run: what each process of it must know.
#[derive(Clone)]
struct Run {
    subject: Subject,
    size: usize,
    subscribers: usize,
    frames: usize,
    copies: bool,
    directory: PathBuf,
}

impl Run {
    fn options(&self) -> Options<[u8]> {
        let frames = Frames { count: FRAMES, bytes: self.size };
        Options::bytes().frames(frames).capacity(SLOTS).directory(&self.directory).wait(WaitStrategy::SpinThenPark)
    }

    fn start_subscribers(&self) -> Result<Vec<Child>> {
        let index = Subject::all().iter().position(|&subject| subject == self.subject).context("a subject")?;
        let start = || {
            let mut command = Command::new(env::current_exe()?);
            command.arg("subscribe").arg(index.to_string()).arg(self.size.to_string());
            command.arg(self.subscribers.to_string()).arg(self.frames.to_string()).arg(&self.directory);
            Ok(command.spawn()?)
        };
        (0..self.subscribers).map(|_| start()).collect()
    }

    /// Publishes all frames. Returns how long each took, and how long the publisher alone had for
    /// it.
    fn publish(&self) -> Result<[Duration; 2]> {
        let picture = vec![7_u8; self.size];
        match self.subject {
            Subject::InPlace => {
                let publisher = self.options().publisher("frames")?;
                // SAFETY: the directory is this run's, and its processes use it by tombolo only.
                let mut publisher = unsafe { publisher.into_zero_copy()? };
                let children = self.start_subscribers()?;
                while publisher.get_ref().subscribers() < self.subscribers {
                    std::thread::sleep(Duration::from_millis(1));
                }
                self.time(children, |number| {
                    let mut frame = publisher.loan(self.size)?;
                    if self.copies {
                        frame.copy_from_slice(&picture);
                    }
                    mark(&mut frame, number);
                    frame.publish()?;
                    Ok(())
                })
            }
            Subject::Copied => {
                let mut publisher = self.options().publisher("frames")?;
                let children = self.start_subscribers()?;
                publisher.wait_for_subscribers(self.subscribers, PATIENCE)?;
                let mut picture = picture;
                self.time(children, |number| {
                    mark(&mut picture, number);
                    publisher.publish(&picture)?;
                    Ok(())
                })
            }
            Subject::Socket => {
                let listener = UnixListener::bind(self.directory.join("socket"))?;
                let children = self.start_subscribers()?;
                let mut sockets = Vec::new();
                for _ in 0..self.subscribers {
                    sockets.push(listener.accept()?.0);
                }
                let mut picture = picture;
                self.time(children, |number| {
                    mark(&mut picture, number);
                    sockets.iter_mut().try_for_each(|socket| socket.write_all(&picture))?;
                    Ok(())
                })
            }
            #[cfg(feature = "iceoryx2")]
            Subject::Iceoryx2 => iceoryx::publish(self, &picture),
        }
    }

    fn time(&self, children: Vec<Child>, mut publish: impl FnMut(usize) -> Result<()>) -> Result<[Duration; 2]> {
        let warm_up = FRAMES + SLOTS;
        (0..warm_up).try_for_each(&mut publish)?;
        let start = Instant::now();
        let mut each: Vec<Duration> = Vec::with_capacity(self.frames);
        for number in warm_up..warm_up + self.frames {
            let before = Instant::now();
            publish(number)?;
            each.push(before.elapsed());
        }
        for mut child in children {
            ensure!(child.wait()?.success(), "a subscriber failed");
        }
        each.sort_unstable();
        Ok([start.elapsed() / self.frames as u32, each.get(each.len() / 2).copied().unwrap_or_default()])
    }

    fn subscribe(&self) -> Result<()> {
        let all = FRAMES + SLOTS + self.frames;
        match self.subject {
            Subject::InPlace => {
                // SAFETY: as in `publish`.
                let mut subscriber = unsafe { self.options().subscriber("frames")?.into_zero_copy()? };
                (0..all).try_for_each(|number| check(&subscriber.recv_frame()?, number))
            }
            Subject::Copied => {
                let mut subscriber = self.options().subscriber("frames")?;
                let mut frame = Vec::new();
                (0..all).try_for_each(|number| {
                    subscriber.recv(&mut frame)?;
                    check(&frame, number)
                })
            }
            Subject::Socket => {
                let mut socket = UnixStream::connect(self.directory.join("socket"))?;
                let mut frame = vec![0; self.size];
                (0..all).try_for_each(|number| {
                    socket.read_exact(&mut frame)?;
                    check(&frame, number)
                })
            }
            #[cfg(feature = "iceoryx2")]
            Subject::Iceoryx2 => iceoryx::subscribe(self, all),
        }
    }

    fn run(&self) -> Result<[Duration; 2]> {
        std::fs::create_dir_all(&self.directory)?;
        let measured = self.publish();
        std::fs::remove_dir_all(&self.directory)?;
        self.sweep();
        measured
    }

    /// Removes what iceoryx2 leaves behind.
    fn sweep(&self) {
        for directory in ["/dev/shm", "/tmp"] {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let is_ours = |name: &std::ffi::OsString| name.to_string_lossy().starts_with(&prefix_of(&self.directory));
            for entry in entries.filter(|entry| is_ours(&entry.file_name())) {
                let _ = std::fs::remove_file(entry.path()); // a failure cannot be helped
            }
        }
    }
}

/// What the names of all files of a run begin with.
fn prefix_of(directory: &std::path::Path) -> String {
    format!("frames_{}_", directory.file_name().unwrap_or_default().to_string_lossy())
}

/// Writes the number of a frame into its first and last word.
fn mark(frame: &mut [u8], number: usize) {
    if let Some(first) = frame.first_chunk_mut() {
        *first = number.to_ne_bytes();
    }
    if let Some(last) = frame.last_chunk_mut() {
        *last = number.to_ne_bytes();
    }
}

fn check(frame: &[u8], number: usize) -> Result<()> {
    let word = |bytes: Option<&[u8; 8]>| bytes.map(|bytes| usize::from_ne_bytes(*bytes));
    let found = [word(frame.first_chunk()), word(frame.last_chunk())];
    ensure!(found == [Some(number); 2], "frame {number} has the numbers {found:?}");
    Ok(())
}

#[cfg(feature = "iceoryx2")]
mod iceoryx {
    use iceoryx2::port::update_connections::UpdateConnections;
    use iceoryx2::prelude::*;
    use iceoryx2::service::port_factory::PortFactory as _;
    use iceoryx2::service::port_factory::publish_subscribe::PortFactory;

    use super::*;

    fn topic(run: &Run) -> Result<PortFactory<ipc::Service, [u8], ()>> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let root = run.directory.to_str().context("a path")?;
        config.global.set_root_path(&Path::new(root.as_bytes()).map_err(anyhow::Error::msg)?);
        config.global.prefix = FileName::new(prefix_of(&run.directory).as_bytes()).map_err(anyhow::Error::msg)?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let topic = node
            .service_builder(&ServiceName::new("frames")?)
            .publish_subscribe::<[u8]>()
            .enable_safe_overflow(false)
            .history_size(0)
            .max_publishers(1)
            .max_subscribers(run.subscribers)
            .max_nodes(run.subscribers + 2)
            .subscriber_max_buffer_size(SLOTS)
            .open_or_create()?;
        Ok(topic)
    }

    pub fn publish(run: &Run, picture: &[u8]) -> Result<[Duration; 2]> {
        let topic = topic(run)?;
        let publisher = topic
            .publisher_builder()
            .initial_max_slice_len(run.size)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let children = run.start_subscribers()?;
        while topic.dynamic_config().number_of_subscribers() < run.subscribers {
            std::thread::sleep(Duration::from_millis(1));
        }
        publisher.update_connections()?;
        run.time(children, |number| {
            let sample = publisher.loan_slice_uninit(run.size)?;
            // SAFETY: bytes may have any value, and these are not read before they are written.
            let mut sample = unsafe { sample.assume_init() };
            if run.copies {
                sample.payload_mut().copy_from_slice(picture);
            }
            mark(sample.payload_mut(), number);
            sample.send()?;
            Ok(())
        })
    }

    pub fn subscribe(run: &Run, all: usize) -> Result<()> {
        let subscriber = topic(run)?.subscriber_builder().create()?;
        (0..all).try_for_each(|number| {
            let sample = loop {
                match subscriber.receive()? {
                    Some(sample) => break sample,
                    None => std::thread::yield_now(),
                }
            };
            check(sample.payload(), number)
        })
    }
}

fn table(copies: bool) -> Result<()> {
    let subjects = Subject::all();
    for (size, subscribers) in SIZES.iter().flat_map(|&size| SUBSCRIBERS.map(|subscribers| (size, subscribers))) {
        let mut found = vec![Vec::new(); subjects.len()];
        for round in 0..ROUNDS {
            for (index, &subject) in subjects.iter().enumerate() {
                if !copies && matches!(subject, Subject::Copied | Subject::Socket) {
                    continue; // they always copy
                }
                let directory = PathBuf::from(format!("/dev/shm/rivals-frames-{}-{index}-{round}", std::process::id()));
                let frames = if copies { (600 << 20) / size } else { 300 };
                let run = Run { subject, size, subscribers, frames, copies, directory };
                found[index].push(run.run().with_context(|| subject.name())?);
            }
        }
        for (subject, mut samples) in subjects.iter().zip(found).filter(|(_, samples)| !samples.is_empty()) {
            let which = usize::from(!copies);
            samples.sort_unstable_by_key(|sample| sample[which]);
            let micros = |at: usize| samples[at][which].as_secs_f64() * 1e6;
            println!(
                "| {} MiB | {subscribers} | {} | {:.1} | {:.1} to {:.1} |",
                size >> 20,
                subject.name(),
                micros(samples.len() / 2),
                micros(0),
                micros(samples.len() - 1)
            );
        }
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            println!("{} cores\n", std::thread::available_parallelism()?);
            println!("| frame | subscribers | subject | µs a frame | fastest to slowest |\n|---|---:|---|---:|---|");
            table(true)?;
            println!("\nThe publisher's time for a frame that it does not fill:\n");
            println!("| frame | subscribers | subject | µs a frame | fastest to slowest |\n|---|---:|---|---:|---|");
            table(false)
        }
        ["subscribe", subject, size, subscribers, frames, directory] => {
            let subject = *Subject::all().get(subject.parse::<usize>()?).context("no such subject")?;
            let (size, subscribers, frames) = (size.parse()?, subscribers.parse()?, frames.parse()?);
            Run { subject, size, subscribers, frames, copies: true, directory: directory.into() }.subscribe()
        }
        _ => bail!("takes no arguments"),
    }
}
