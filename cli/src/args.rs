//! The command line: commands, options and their help texts.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::location::MAX_SUBSCRIBERS;

const EXIT_CODES: &str = "\
Exit codes:
  0    success; for recv: everything that the sender (of a queue, the last sender) sent is written;
       for work: CMD has succeeded for every message
  1    an error, such as a receiver that left before the end, or output that cannot be written;
       for work: CMD failed for good for some message
  2    wrong usage
  3    the other side (of a queue, its last process) was killed before the end;
       for recv, sub and work also: the sender stopped before the end
  4    the other side did not come, or did nothing, for longer than --timeout
  5    sub has received everything to the end, but for messages that it missed
  6    map: the key is not there
  129, 130, 143  interrupted by SIGHUP, SIGINT, SIGTERM
  141  in a shell: the reader of the output closed it (SIGPIPE)";

const EXAMPLES: &str = "\
Examples:
  tombolo demo                        compare shared memory with a Unix pipe on this machine
  tombolo send backup < big.tar       send a file in one terminal ...
  tombolo recv backup > copy.tar      ... and receive it in another; either may start first
  tombolo recv backup --timeout 30    fail if no sender comes, or nothing is sent, for 30 seconds
  tombolo send --queue jobs --lines   send lines to any number of workers
  tombolo work jobs -j 3 -- gzip {}   be three workers: run a command for each line
  tombolo pub news --lines            publish lines: every subscriber gets each of them
  tombolo sub news --lines            subscribe; any number of subscribers may come and go
  tombolo ls                          list the names in use, and which processes use them
  tombolo doctor                      remove what dead processes left behind";

const SEND_HELP: &str = "\
The two sides meet under NAME. The first one to start creates a pipe with that name; the name is removed when both have \
left.

send ends successfully when a receiver has taken everything. Whether the receiver could also write it, only the \
receiver's exit code tells. If send ends early (an error, a timeout, Ctrl-C), the receiver ends with exit code 3, so \
that incomplete data is never taken for complete. If there is no receiver, the name goes with what was sent.

With --queue there can be any number of senders and receivers, and each message goes to one of the receivers. A message \
is a line with --lines, else a piece of the input: to get a whole file, a receiver must be the only one. A sender ends \
when the receivers have taken everything that was in the queue when its input ended; with --no-wait, as soon as \
everything is in the queue, whether receivers come or go. Then the name stays as long as messages are waiting, and \
`tombolo rm NAME` removes it with them. Without --no-wait, send fails when the last receiver ends early, and what waits \
is discarded.

A sender that starts when the earlier ones have left finds the receivers that are still there. They stay for it if \
they were started with --follow or --senders, or if there is still something to receive. Otherwise its messages wait \
for the next receiver. One place in the queue is kept for a receiver: as long as there is none, the last sender waits.

Examples:
  tombolo send backup big.tar
  tar c src | tombolo send backup --timeout 30
  find -name '*.wav' | tombolo send --queue jobs --lines
  tombolo send --queue jobs --lines --no-wait list
  tail -f log | tombolo send log --lines";

const RECV_HELP: &str = "\
recv ends successfully (exit code 0) when the sender has sent everything. If the sender is killed or stops early, the \
exit code is 3. Then standard output has the data received so far, and FILE is unchanged.

The data goes into a new file in the directory of FILE, which replaces FILE at the end. So the disk must have room for \
both, and a failed transfer leaves FILE unchanged. The new file gets the owner, mode (without set-user-ID and \
set-group-ID), access control list and extended attributes of FILE. You need write permission for FILE. Other hard links \
to FILE keep the old content. If FILE is a symbolic link, its target is replaced. If several receivers write to the same \
FILE, the last one to end wins.

A FIFO, a device or an open descriptor (/dev/stdout, /dev/fd/3) is written as the data comes. So is FILE with \
--in-place: use that, or `>> FILE`, to follow it with `tail -f`.

With --queue there can be any number of senders and receivers, and each message goes to one of the receivers. A message \
is a line with --lines, else a piece of a file. Receivers end when the last sender has left and the queue is empty; they \
end with exit code 3 if that last sender was killed. A receiver that starts when the senders have left gets what is \
left and ends. A receiver takes messages as fast as it can write them; messages that it has taken and not yet written \
are lost if it is killed. To run a command for each message, use `tombolo work`: it takes one at a time. Until FILE is \
replaced, the messages are in FILE.part-PID. That file is kept if the receiver ends early, even if it is killed.

Examples:
  tombolo recv backup copy.tar
  tombolo recv backup --timeout 30 | tar x
  tombolo recv --queue jobs --lines --senders 3 > all
  tombolo recv log --lines --follow | grep error
  tombolo recv log --lines --in-place today.log
  tombolo recv jobs --lines --dead-letters > failed";

const WORK_HELP: &str = "\
Takes messages out of the queue NAME, one at a time, and runs CMD for each. In the arguments of CMD, {} is replaced by \
the message. Whatever the message contains, the argument stays one argument. Without {} the message is the standard \
input of CMD. No shell is involved. If you need one, pass it the message as \"$1\" as below: in the script itself, {} \
would become a part of the script.

A message is done when CMD succeeds. If CMD fails or is killed, it is run again, up to --retries times, each time with a \
note on standard error (\"tombolo: trying again (...): MESSAGE\"). After that the message is printed to standard error (\"tombolo: failed (...): MESSAGE\"), and the exit code will be 1. A message that \
has a NUL byte, or is too long, cannot be an argument and fails at once.

What CMD prints to standard output is collected, and written as a whole when CMD has succeeded: to standard output, or \
as one message into the queue RESULTS. There it waits for receivers: work does not.

work ends when the last sender has left and everything that it took is done. If it starts when the senders have left, \
it takes what is left and ends. If nothing is left and no process uses the queue any more, that is the same as a new \
name: it waits for a sender.

SIGINT, SIGTERM and SIGHUP end it early: each CMD and the processes that it started get SIGTERM, and SIGKILL after 5 \
seconds. Each message whose CMD has not succeeded is printed to standard error (\"tombolo: unfinished: MESSAGE\"). If \
work itself is killed by SIGKILL, the messages that it was working on (as many as --jobs) are lost, and the \
queue counts them (`tombolo inspect`).

If the queue was created with --redeliver N, by send or by work, messages that are not done are not lost: when work \
ends or is killed, others get them, those printed as unfinished too, and so they do when CMD fails for good. After N more deliveries a message is a dead \
letter: `tombolo recv NAME --dead-letters` writes and removes those. A message can then be worked on more than once, \
even after its CMD has succeeded.

Examples:
  tombolo work jobs -j 3 -- gzip {}
  tombolo work urls -j 8 --timeout 60 --retries 5 -- curl -fsSO {}
  tombolo work names --lines --into results -- tr a-z A-Z
  tombolo work jobs --redeliver 3 -- ./encode {}
  tombolo work jobs -- sh -c 'encode \"$1\" && rm \"$1\"' sh {}";

const PUB_HELP: &str = "\
Every subscriber gets every message: a line with --lines, else a piece of the input. The first one to start, pub or sub, \
makes the broadcast NAME by its options; the name is removed when all have left.

pub does not wait for subscribers unless --subscribers says so, and ends as soon as everything is published: \
subscribers that are there read what is left. If nobody has subscribed, it says so. Unless the broadcast is made with \
--lossy or --evict-slow, pub waits for the slowest subscriber when the ring is full. After a second it says which one \
that is (\"waiting for subscriber ...\"). A subscriber that is killed delays nobody; one that is stopped does.

If pub ends early (an error, a timeout, Ctrl-C) and no other publisher is there, subscribers end with exit code 3.

SIZE, LAG and the N of --history count messages of up to 4 KiB, or with --lines of up to 248 bytes. A longer line counts \
as several, and one of more than 1 MiB is refused. There can be 64 subscribers at a time.

Examples:
  tombolo pub news --lines < list
  tombolo pub image disk.img --subscribers 3
  sensor | tombolo pub readings --lines --lossy --history 10
  tail -f log | tombolo pub log --lines --publishers 8 --evict-slow 10K";

const SUB_HELP: &str = "\
Writes what is published from the moment when sub starts, after the history if there is one, and ends successfully (exit \
code 0) when the last publisher has published everything. FILE is written as by recv: it is replaced at the end, unless \
--in-place is given. If the last publisher is killed or stops early, the exit code is 3.

A subscriber that is too slow for a broadcast made with --lossy misses messages. sub says how many \
(\"missed ...\"), goes on, and ends with exit code 5. With --evict-slow it is evicted: with --lines sub says how many it \
missed, rejoins with the next message, and ends with exit code 5, else it fails with exit code 1. Without --lines messages are pieces of one stream, so something is missing also if sub started after the beginning: use \
`pub --subscribers` to prevent that. Then FILE is left as it was.

Unless the options of a broadcast (--lossy, --evict-slow, --publishers, --capacity) are given, sub takes whatever \
broadcast it finds. If sub starts first it makes it: give both sides the same options.

Examples:
  tombolo sub news --lines
  tombolo sub image copy.img --timeout 30
  tombolo sub readings --lines --lossy --history 1 --follow | plot
  tombolo sub log --lines --publishers 8 --evict-slow 10K --in-place today.log";

const DEMO_HELP: &str = "\
Examples:
  tombolo demo
  tombolo demo big.tar --json";

const LS_HELP: &str = "\
Examples:
  tombolo ls
  tombolo ls --json | jq -r '.[].name'";

const INSPECT_HELP: &str = "\
Examples:
  tombolo inspect jobs
  tombolo inspect jobs --json | jq .directions";

const MAP_HELP: &str = "\
A program makes the map: no command does. It is there while a process uses it, or as long as its namespace is \
persistent. Its keys are text, bytes, or integers of 32 or 64 bits; its \
values are these, true and false, numbers with a point, or nothing, as in a set, which is shown as true. Bytes that are \
no text are shown and given as hex: and two digits for each. As JSON, keys and texts are strings, numbers are numbers.

A key that is not there ends get and rm with exit code 6. A map without room, a text that is no key or value of the map, \
and a map that others change too often for one dump, are errors (exit code 1).

Examples:
  tombolo map ls phones                      all keys and values, separated by tabs
  tombolo map put phones Ada 4711
  tombolo map get market/phones Ada          in the namespace \"market\"
  tombolo map watch phones Ada               each new value, until Ctrl-C
  tombolo map dump phones > phones.json      all entries, as they are at one moment
  tombolo map load phones < phones.json
  tombolo map get phones Eve || test $? = 6 && tombolo map put phones Eve 0";

const RM_HELP: &str = "\
Examples:
  tombolo rm jobs
  tombolo rm market/orders";

const DOCTOR_HELP: &str = "\
Examples:
  tombolo doctor --dry-run
  tombolo doctor";

#[derive(Debug, Parser)]
#[command(name = "tombolo", version, about = "Pass data between processes through shared memory")]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 100)]
pub struct Args {
    /// Directory of the names [default: $TOMBOLO_DIR, else /dev/shm/tombolo-UID]
    #[arg(long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure the speed between two processes, beside a Unix pipe, and check every byte
    #[command(after_help = format!("{DEMO_HELP}\n\n{EXIT_CODES}"))]
    Demo(Demo),

    #[command(hide = true)]
    DemoPeer(DemoPeer),

    /// Send a file, or standard input, to a receiver
    #[command(after_help = format!("{SEND_HELP}\n\n{EXIT_CODES}"))]
    Send(SendArgs),

    /// Receive from a sender into a file, or to standard output
    #[command(after_help = format!("{RECV_HELP}\n\n{EXIT_CODES}"))]
    Recv(Recv),

    /// Publish a file, or standard input, to any number of subscribers
    #[command(after_help = format!("{PUB_HELP}\n\n{EXIT_CODES}"))]
    Pub(Pub),

    /// Subscribe to what is published, into a file or to standard output
    #[command(after_help = format!("{SUB_HELP}\n\n{EXIT_CODES}"))]
    Sub(Sub),

    /// Run a command for each message of a queue, one at a time
    #[command(after_help = format!("{WORK_HELP}\n\n{EXIT_CODES}"))]
    Work(Work),

    /// List all names and unnamed regions, what they contain and which processes use them
    ///
    /// Unnamed regions, such as those of endpoints that were passed to child processes, are listed
    /// as memfd:PID/FD, after a process that has them open. Those of other users' processes are
    /// listed for root only.
    ///
    /// For a namespace (a set of shared objects such as values and mutexes), shows the number of
    /// objects and which processes hold them. For a broadcast, shows its policy and how far each
    /// subscriber is behind.
    #[command(after_help = LS_HELP)]
    Ls {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },

    /// Show everything about one name
    ///
    /// For a namespace (a set of shared objects such as values and mutexes), also lists the
    /// objects, their values, and the processes that hold or use them. A dead process is marked
    /// "(dead)". For a broadcast, also shows its policy, its history, and how far each subscriber
    /// is behind.
    #[command(after_help = INSPECT_HELP)]
    Inspect {
        /// The name of a pipe, queue, broadcast or namespace, or memfd:PID/FD for one without a
        /// name
        name: String,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },

    /// Remove a name that nobody uses
    ///
    /// This is the only way to remove a persistent namespace.
    #[command(after_help = RM_HELP)]
    Rm {
        /// The name of a pipe, queue, broadcast or namespace; NAMESPACE/OBJECT for an object that
        /// was created in a namespace
        name: String,

        /// Remove the name even if it is in use: its users keep the memory, others can use the name
        #[arg(long)]
        force: bool,
    },

    /// Read and change a map
    #[command(after_help = MAP_HELP)]
    Map(MapArgs),

    /// Remove what dead processes left behind, and report it
    ///
    /// Removes a name if nobody alive uses it, unless it is a queue with waiting messages or a
    /// persistent namespace. Repairs a queue or namespace that is still in use if some of its users
    /// are dead, and evicts dead subscribers of a broadcast. Leaves everything else alone.
    #[command(after_help = DOCTOR_HELP)]
    Doctor {
        /// Print one JSON array
        #[arg(long)]
        json: bool,

        /// Only report what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub struct MapArgs {
    #[command(subcommand)]
    pub action: MapAction,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum MapAction {
    /// List all keys and values, in the order of the keys
    Ls {
        /// The name of a map, or NAMESPACE/MAP
        name: String,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },

    /// Print one JSON object of all entries, as they are at one moment
    Dump {
        /// The name of a map, or NAMESPACE/MAP
        name: String,
    },

    /// Give keys the values that a JSON object on standard input has, as `dump` prints them
    ///
    /// Other keys stay as they are. Nothing is changed if there is something that the map cannot
    /// have. If the map becomes full, the keys up to then have their values.
    Load {
        /// The name of a map, or NAMESPACE/MAP
        name: String,
    },

    /// Print the value of a key
    Get {
        /// The name of a map, or NAMESPACE/MAP
        name: String,

        /// The key
        #[arg(allow_negative_numbers = true)]
        key: String,

        /// Print it as JSON, in one line
        #[arg(long)]
        json: bool,
    },

    /// Give a key a value
    Put {
        /// The name of a map, or NAMESPACE/MAP
        name: String,

        /// The key
        #[arg(allow_negative_numbers = true)]
        key: String,

        /// The value
        #[arg(allow_hyphen_values = true)]
        value: String,
    },

    /// Remove a key
    Rm {
        /// The name of a map, or NAMESPACE/MAP
        name: String,

        /// The key
        #[arg(allow_negative_numbers = true)]
        key: String,
    },

    /// Print the value of a key, and each other one from then on
    ///
    /// An empty line, or null as JSON, stands for a key that is not there.
    Watch {
        /// The name of a map, or NAMESPACE/MAP
        name: String,

        /// The key
        #[arg(allow_negative_numbers = true)]
        key: String,

        /// Print each as JSON, in one line
        #[arg(long)]
        json: bool,
    },
}

impl MapAction {
    pub fn name(&self) -> &str {
        match self {
            Self::Ls { name, .. } | Self::Dump { name } | Self::Load { name } | Self::Get { name, .. } => name,
            Self::Put { name, .. } | Self::Rm { name, .. } | Self::Watch { name, .. } => name,
        }
    }
}

/// A stream of bytes or lines, as all commands that carry one name it.
#[derive(Clone, Debug, clap::Args)]
pub struct Stream {
    /// The name under which the two sides meet
    pub name: String,

    /// The file; `-`, or no file, for the standard stream
    pub file: Option<PathBuf>,

    /// Make each line a message, for programs that receive messages. The sending side removes the
    /// newlines and the receiving side adds them, so use it on both sides. A last line without a
    /// newline gets one
    #[arg(long)]
    pub lines: bool,

    /// How long to wait for the other side, to start and then for each step [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Show no progress bar and no notes
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Transfer {
    #[command(flatten)]
    pub stream: Stream,

    /// Use a queue instead of a pipe, for up to 1024 senders and receivers together: each message
    /// goes to one of the receivers. All sides must use this option
    #[arg(long)]
    pub queue: bool,

    /// Capacity in bytes, used by the side that creates the pipe: a power of two, optionally with
    /// K, M or G [default: 4M]. With --queue: the number of messages [default: 1K]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub capacity: Option<usize>,

    /// With --queue: if a receiver is killed before it has finished a message, give the message to
    /// another one, up to N times; then it is a dead letter. `work` finishes a message when CMD has
    /// succeeded; `recv` when it has received it, before it has written it. The side that creates
    /// the queue decides [default: such a message is lost]
    #[arg(long, value_name = "N", requires = "queue", value_parser = clap::value_parser!(u8).range(..=254))]
    pub redeliver: Option<u8>,
}

#[derive(Debug, clap::Args)]
pub struct SendArgs {
    #[command(flatten)]
    pub transfer: Transfer,

    /// Do not wait for a receiver: leave the messages in the queue. Only while the queue is full,
    /// wait for room: --capacity makes it larger
    #[arg(long)]
    pub no_wait: bool,
}

/// When a receiver ends.
#[derive(Clone, Debug, clap::Args)]
pub struct Stay {
    /// Stay for later senders when the last one has left: end by a signal, or by --timeout only
    #[arg(long)]
    pub follow: bool,

    /// End only after N senders have come and the last one has left. Senders whose messages waited
    /// already count
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    pub senders: Option<u64>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Recv {
    #[command(flatten)]
    pub transfer: Transfer,

    #[command(flatten)]
    pub stay: Stay,

    #[command(flatten)]
    pub writing: Writing,

    /// Write the dead letters of the queue NAME, remove them from it, and end. FILE is emptied at
    /// the start. Each is written before it is removed. Meanwhile it counts as a receiver: a sender
    /// that waits for the first one ends
    #[arg(long, conflicts_with_all = ["redeliver", "capacity", "follow", "senders", "timeout"])]
    pub dead_letters: bool,
}

/// How the file of a receiver is written.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Writing {
    /// Write into FILE as the data comes instead of replacing it at the end, for a file that others
    /// read meanwhile or that cannot be replaced. FILE is emptied at the start and keeps what came
    /// if the transfer fails
    #[arg(long)]
    pub in_place: bool,
}

/// How a broadcast is made. Without effect if it exists already.
#[derive(Clone, Debug, clap::Args)]
pub struct Broadcast {
    /// Never wait for slow subscribers: they miss messages, and say how many
    #[arg(long, conflicts_with = "evict_slow")]
    pub lossy: bool,

    /// Never wait for slow subscribers: evict those that are LAG messages or more behind
    #[arg(long, value_name = "LAG", value_parser = size)]
    pub evict_slow: Option<usize>,

    /// How many publishers there can be at a time; each has a ring of its own [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4096))]
    pub publishers: Option<u64>,

    /// Messages that the ring of each publisher holds, optionally with K, M or G [default: 1K, or
    /// 16K with --lines]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub capacity: Option<usize>,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Pub {
    #[command(flatten)]
    pub stream: Stream,

    /// Begin when N subscribers are there. Without this option pub waits for nobody, and what it
    /// publishes before a subscriber comes is gone, but for the history
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=MAX_SUBSCRIBERS))]
    pub subscribers: u64,

    /// Keep the last N messages for subscribers that come later, as long as somebody uses the name
    /// [default: none]
    #[arg(long, value_name = "N", value_parser = size)]
    pub history: Option<usize>,

    #[command(flatten)]
    pub broadcast: Broadcast,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Sub {
    #[command(flatten)]
    pub stream: Stream,

    /// Stay for later publishers when the last one has left: end by a signal, or by --timeout only
    #[arg(long)]
    pub follow: bool,

    /// Get at most the last N of the messages that were published before [default: all that the
    /// publishers keep]. If sub makes the broadcast, it keeps as many
    #[arg(long, value_name = "N", value_parser = size)]
    pub history: Option<usize>,

    #[command(flatten)]
    pub broadcast: Broadcast,

    #[command(flatten)]
    pub writing: Writing,
}

#[derive(Debug, clap::Args)]
pub struct Work {
    /// The queue
    pub name: String,

    /// Send what CMD prints into this queue, as one message for each run of CMD
    #[arg(long, value_name = "RESULTS")]
    pub into: Option<String>,

    /// How many messages to work on at a time
    #[arg(long, short, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub jobs: u64,

    /// How often to run CMD again for a message for which it failed
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub retries: u64,

    /// How long to wait before that. The message counts as one that is worked on
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub retry_delay: Duration,

    /// If work is killed, give the messages that it was working on to others, up to N times each;
    /// then they are dead letters. The side that creates the queue decides [default: they are lost]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=254))]
    pub redeliver: Option<u8>,

    /// Add the newline that `send --lines` removed when the message is the standard input of CMD
    #[arg(long)]
    pub lines: bool,

    #[command(flatten)]
    pub stay: Stay,

    /// How long to wait for a sender, and then for each message while nothing runs; with --into,
    /// also for room in RESULTS [default: no limit]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Show no notes
    #[arg(long, short)]
    pub quiet: bool,

    /// The command to run, with its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The file to send [default: this program]
    pub file: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Send the file again until at least N MiB have been sent
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub mib: u64,

    /// Number of 64-byte messages to stream; the Unix pipe gets a tenth
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub messages: u64,

    /// Number of round trips to time; the Unix pipe gets a quarter
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub round_trips: u64,
}

/// Starts the demo's second process.
#[derive(Debug, clap::Args)]
pub struct DemoPeer {
    #[arg(value_enum)]
    pub transport: Transport,

    #[arg(long)]
    pub cpu: Option<usize>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Transport {
    Tombolo,
    Pipe,
}

impl Stream {
    /// Returns the file that the user named, unless that means a standard stream.
    pub fn named_file(&self) -> Option<&Path> {
        self.file.as_deref().filter(|path| path.as_os_str() != "-")
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(['K', 'M', 'G', 'k', 'm', 'g']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        _ => return Err("more than one unit".to_string()),
    };
    let count: usize = digits.parse().map_err(|_| "not a number".to_string())?;
    count.checked_mul(1 << shift).ok_or_else(|| "too large".to_string())
}
