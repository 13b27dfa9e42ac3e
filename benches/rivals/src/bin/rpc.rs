//! Compares a request and its reply between two processes: a pair of pipes, `tombolo::rpc`, a Unix
//! socket, iceoryx2's request-response.
//!
//! ```sh
//! cargo run --release --bin rpc                 # or with --features iceoryx2
//! ```
//!
//! The caller makes one request after the other, of 32 bytes, and the reply is the request with its
//! first word increased. Both processes are pinned, each to a core of its own, and poll as the
//! subject's users would; the socket blocks in the kernel. A row is the median of the rounds with
//! the fastest and the slowest; all subjects run once in each round, and each round begins with
//! another one. A ratio is the median of the ratios within the rounds.

use std::env;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rivals::harness::pin::pin;
use tombolo::{pipe, rpc};

type Message = [u64; 4];

const BYTES: usize = size_of::<Message>();
const ROUNDS: usize = 15;
const WARM_UP: u64 = 10_000;
const CALLS: u64 = 100_000;
/// As many as a subject that sleeps in the kernel makes in about the same time.
const SLOW_CALLS: u64 = 10_000;
const PATIENCE: Duration = Duration::from_secs(30);
const NAME: &str = "rpc";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Subject {
    Pipe,
    Rpc,
    Socket,
    #[cfg(feature = "iceoryx2")]
    Iceoryx2,
}

impl Subject {
    fn all() -> Vec<Self> {
        vec![
            Self::Pipe,
            Self::Rpc,
            Self::Socket,
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx2,
        ]
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pipe => "tombolo, a pipe each way",
            Self::Rpc => "tombolo, rpc",
            Self::Socket => "Unix socket",
            #[cfg(feature = "iceoryx2")]
            Self::Iceoryx2 => "iceoryx2, request-response",
        }
    }
}

/// One run: what both processes must know.
struct Run {
    subject: Subject,
    calls: u64,
    directory: PathBuf,
    cores: [usize; 2],
}

impl Run {
    fn pipes(&self) -> pipe::Options<Message> {
        pipe::Options::new().capacity(64).directory(&self.directory)
    }

    fn rpc(&self) -> rpc::Options<Message, Message> {
        rpc::Options::new().directory(&self.directory)
    }

    fn start_responder(&self) -> Result<Child> {
        let index = Subject::all().iter().position(|&subject| subject == self.subject).context("a subject")?;
        let mut command = Command::new(env::current_exe()?);
        command.arg("respond").arg(index.to_string()).arg(self.calls.to_string()).arg(&self.directory);
        Ok(command.arg(self.cores[1].to_string()).spawn()?)
    }

    /// Makes all calls. Returns how long one took.
    fn call(&self) -> Result<Duration> {
        pin(self.cores[0]);
        match self.subject {
            Subject::Pipe => {
                let child = self.start_responder()?;
                let mut end = self.pipes().open_timeout(PATIENCE).server(NAME)?;
                self.time(child, |request| {
                    end.send(request)?;
                    Ok(end.recv()?)
                })
            }
            Subject::Rpc => {
                let mut caller = self.rpc().caller(NAME)?;
                let child = self.start_responder()?;
                caller.wait_for_responder(PATIENCE)?;
                self.time(child, |request| Ok(caller.call(request)?))
            }
            Subject::Socket => {
                let listener = UnixListener::bind(self.directory.join("socket"))?;
                let child = self.start_responder()?;
                let mut socket = listener.accept()?.0;
                self.time(child, |request| {
                    let mut reply = [0; BYTES];
                    socket.write_all(&bytes_of(request))?;
                    socket.read_exact(&mut reply)?;
                    Ok(message_of(reply))
                })
            }
            #[cfg(feature = "iceoryx2")]
            Subject::Iceoryx2 => iceoryx::call(self),
        }
    }

    fn time(&self, mut child: Child, mut call: impl FnMut(Message) -> Result<Message>) -> Result<Duration> {
        let mut start = Instant::now();
        for number in 0..WARM_UP + self.calls {
            if number == WARM_UP {
                start = Instant::now();
            }
            let reply = call([number, 1, 2, 3])?;
            ensure!(reply == [number + 1, 1, 2, 3], "the reply to {number} is {reply:?}");
        }
        let taken = start.elapsed() / self.calls as u32;
        ensure!(child.wait()?.success(), "the responder failed");
        Ok(taken)
    }

    fn respond(&self) -> Result<()> {
        pin(self.cores[1]);
        let all = WARM_UP + self.calls;
        match self.subject {
            Subject::Pipe => {
                let mut end = self.pipes().open_timeout(PATIENCE).client(NAME)?;
                for _ in 0..all {
                    let request = end.recv()?;
                    end.send(reply_to(request))?;
                }
            }
            Subject::Rpc => {
                let mut responder = self.rpc().responder(NAME)?;
                for _ in 0..all {
                    let request = responder.recv()?;
                    let reply = reply_to(*request);
                    request.reply(reply)?;
                }
            }
            Subject::Socket => {
                let mut socket = UnixStream::connect(self.directory.join("socket"))?;
                for _ in 0..all {
                    let mut request = [0; BYTES];
                    socket.read_exact(&mut request)?;
                    socket.write_all(&bytes_of(reply_to(message_of(request))))?;
                }
            }
            #[cfg(feature = "iceoryx2")]
            Subject::Iceoryx2 => iceoryx::respond(self, all)?,
        }
        Ok(())
    }

    fn run(&self) -> Result<Duration> {
        std::fs::create_dir_all(&self.directory)?;
        let measured = self.call();
        std::fs::remove_dir_all(&self.directory)?;
        self.sweep();
        measured
    }

    /// Removes what iceoryx2 leaves behind.
    fn sweep(&self) {
        for directory in ["/dev/shm", "/tmp"] {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            let is_ours = |name: &OsString| name.to_string_lossy().starts_with(&prefix_of(&self.directory));
            for entry in entries.filter(|entry| is_ours(&entry.file_name())) {
                let _ = std::fs::remove_file(entry.path()); // a failure cannot be helped
            }
        }
    }
}

fn reply_to(request: Message) -> Message {
    let [number, rest @ ..] = request;
    let [a, b, c] = rest;
    [number + 1, a, b, c]
}

fn bytes_of(message: Message) -> [u8; BYTES] {
    bytemuck::cast(message)
}

fn message_of(bytes: [u8; BYTES]) -> Message {
    bytemuck::cast(bytes)
}

/// What the names of all files of a run begin with.
fn prefix_of(directory: &Path) -> String {
    format!("rpc_{}_", directory.file_name().unwrap_or_default().to_string_lossy())
}

#[cfg(feature = "iceoryx2")]
mod iceoryx {
    use iceoryx2::prelude::*;
    use iceoryx2::service::port_factory::PortFactory as _;
    use iceoryx2::service::port_factory::request_response::PortFactory;

    use super::*;

    type Service = PortFactory<ipc::Service, Message, (), Message, ()>;

    fn service(run: &Run) -> Result<Service> {
        set_log_level(LogLevel::Error);
        let mut config = Config::default();
        let root = run.directory.to_str().context("a path")?;
        config.global.set_root_path(&iceoryx2::prelude::Path::new(root.as_bytes()).map_err(anyhow::Error::msg)?);
        config.global.prefix = FileName::new(prefix_of(&run.directory).as_bytes()).map_err(anyhow::Error::msg)?;
        let node = NodeBuilder::new()
            .config(&config)
            .signal_handling_mode(SignalHandlingMode::Disabled)
            .create::<ipc::Service>()?;
        let service = node.service_builder(&ServiceName::new(NAME)?).request_response::<Message, Message>();
        Ok(service.max_clients(2).max_servers(2).open_or_create()?)
    }

    pub fn call(run: &Run) -> Result<Duration> {
        let service = service(run)?;
        let client = service.client_builder().create()?;
        let child = run.start_responder()?;
        while service.dynamic_config().number_of_servers() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        run.time(child, |request| {
            let pending = client.loan_uninit()?.write_payload(request).send()?;
            loop {
                if let Some(reply) = pending.receive()? {
                    return Ok(*reply);
                }
                std::hint::spin_loop();
            }
        })
    }

    pub fn respond(run: &Run, all: u64) -> Result<()> {
        let server = service(run)?.server_builder().create()?;
        for _ in 0..all {
            let request = loop {
                match server.receive()? {
                    Some(request) => break request,
                    None => std::hint::spin_loop(),
                }
            };
            let reply = reply_to(*request);
            request.loan_uninit()?.write_payload(reply).send()?;
        }
        Ok(())
    }
}

fn table() -> Result<()> {
    let subjects = Subject::all();
    let mut found: Vec<Vec<f64>> = vec![Vec::new(); subjects.len()];
    for round in 0..ROUNDS {
        for turn in 0..subjects.len() {
            let index = (turn + round) % subjects.len();
            let subject = subjects[index];
            let directory = PathBuf::from(format!("/dev/shm/rivals-rpc-{}-{index}-{round}", std::process::id()));
            let calls = if subject == Subject::Socket { SLOW_CALLS } else { CALLS };
            let run = Run { subject, calls, directory, cores: [0, 1] };
            found[index].push(run.run().with_context(|| subject.name())?.as_secs_f64() * 1e9);
        }
    }
    let median = |mut samples: Vec<f64>| {
        samples.sort_unstable_by(f64::total_cmp);
        [samples[samples.len() / 2], samples[0], samples[samples.len() - 1]]
    };
    for (subject, samples) in subjects.iter().zip(&found) {
        let ratios = samples.iter().zip(&found[1]).map(|(other, own)| other / own).collect();
        let ([middle, fastest, slowest], [ratio, ..]) = (median(samples.clone()), median(ratios));
        println!("| {} | {middle:.0} | {fastest:.0} to {slowest:.0} | {ratio:.2} |", subject.name());
    }
    Ok(())
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            println!("{} cores\n", std::thread::available_parallelism()?);
            println!("| subject | ns a call | fastest to slowest | times rpc |\n|---|---:|---|---:|");
            table()
        }
        ["respond", subject, calls, directory, core] => {
            let subject = *Subject::all().get(subject.parse::<usize>()?).context("no such subject")?;
            let core: usize = core.parse()?;
            Run { subject, calls: calls.parse()?, directory: directory.into(), cores: [core; 2] }.respond()
        }
        _ => bail!("takes no arguments"),
    }
}
