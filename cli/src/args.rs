//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "\
Exit codes:
  0  done; for recv: the sender (of a queue, the last one) came to its end and everything is written
  1  an error, among them a peer that left before the end, and output that cannot be written
  2  wrong usage
  3  the peer (of a queue, the last one) died, or broke off, before the end
  4  the other side kept us waiting longer than --timeout
  129, 130, 143  interrupted (SIGHUP, SIGINT, SIGTERM)
  141 (in a shell)  nobody reads the output any more (SIGPIPE)";

const EXAMPLES: &str = "\
Examples:
  tombolo demo                        what shared memory brings on this machine, beside a Unix pipe
  tombolo send backup < big.tar       in one terminal,
  tombolo recv backup > copy.tar      and in another; either may start first
  tombolo send --queue jobs --lines   lines for any number of
  tombolo recv --queue jobs --lines   workers, each line for one of them
  tombolo ls                          which names are in use, and by whom
  tombolo doctor                      remove what dead processes left behind";

const SEND_HELP: &str = "\
The pipe is made by whoever comes first and goes when both have left. A send that ends well has seen a receiver take \
everything (whether it could write it, only the receiver's exit code says); one that does not (an error, a timeout, Ctrl-C) takes the name away and lets the receiver know that the \
data is incomplete.

With --queue there may be any number of senders and receivers, and each message (a line with --lines, else a piece of the \
input) goes to one of the receivers: whoever is to get a whole file must be the only one. A sender leaves when receivers \
have taken what was in the queue at its end; the name stays as long as messages wait.

Examples:
  tombolo send backup big.tar
  tar c src | tombolo send backup --timeout 30
  find -name '*.wav' | tombolo send --queue jobs --lines
  tail -f log | tombolo send log --lines";

const RECV_HELP: &str = "\
Ends when the sender comes to its end (exit code 0). If the sender dies or breaks off, the exit code is 3: standard \
output has what came before, and FILE is as it was.

FILE is replaced at the end. Until then the data goes into a new file in the same directory, so there must be room for \
both, and a transfer that breaks leaves FILE as it was. FILE keeps its owner, mode (without set-user-ID and set-group-ID), \
access control list and extended attributes, and must be writable. Its other hard links keep the old content. Of a \
symbolic link, the target is replaced. The last of several receivers into one FILE wins.

A FIFO, a device or an open descriptor (/dev/stdout, /dev/fd/3) is written as the data comes, and so is FILE with \
--in-place. Use that, or `>> FILE`, if `tail -f` is to follow.

With --queue there may be any number of senders and receivers, and each message (a line with --lines, else a piece of a \
file) goes to one of the receivers. They end when senders have come, the last one has left, and nothing is left in the \
queue; with 3 if that last one died. A receiver takes messages as fast as its output takes them, and what it has taken and \
not yet written dies with it. Until FILE is replaced, what was taken is in FILE.part-PID. It stays there if the receiver does \
not come to its end, even if it is killed.

Examples:
  tombolo recv backup copy.tar
  tombolo recv backup | tar x
  tombolo recv --queue jobs --lines | xargs -n 1 encode
  tombolo recv log --lines | grep error
  tombolo recv log --lines --in-place today.log";

#[derive(Debug, Parser)]
#[command(name = "tombolo", version, about = "Pass data between processes through shared memory")]
#[command(after_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"), max_term_width = 100)]
pub struct Args {
    /// Where the names live [default: $TOMBOLO_DIR, else /dev/shm/tombolo-UID]
    #[arg(long, global = true, value_name = "PATH")]
    pub dir: Option<PathBuf>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Exchange data between two processes, check every byte, and compare the speed with a Unix pipe
    #[command(after_help = EXIT_CODES)]
    Demo(Demo),

    #[command(hide = true)]
    DemoPeer(DemoPeer),

    /// Send a file, or standard input, to the receiver of that name
    #[command(after_help = format!("{SEND_HELP}\n\n{EXIT_CODES}"))]
    Send(Transfer),

    /// Receive into a file, or standard output, from the sender of that name
    #[command(after_help = format!("{RECV_HELP}\n\n{EXIT_CODES}"))]
    Recv(Recv),

    /// List the names, with what is in them and who uses them
    ///
    /// Of a namespace: how many objects are in it, and who holds them.
    Ls {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },

    /// Show everything about one name
    ///
    /// Of a namespace also its objects: their values, which processes hold or use them and, in brackets, whether such a one
    /// is dead.
    Inspect {
        name: String,

        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },

    /// Remove a name that nobody uses
    ///
    /// A persistent namespace goes in no other way.
    Rm {
        name: String,

        /// Even if it is in use: its users keep the memory, and the name is free for others
        #[arg(long)]
        force: bool,
    },

    /// Remove what dead processes left behind, and say what it was
    ///
    /// In a queue or namespace that is in use, puts right what the dead among its users left behind. Else names in use,
    /// persistent namespaces and files that are no regions are reported and left alone.
    Doctor {
        /// Print one JSON array
        #[arg(long)]
        json: bool,

        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, clap::Args)]
pub struct Transfer {
    pub name: String,

    /// The file; `-` or none for the standard stream
    pub file: Option<PathBuf>,

    /// Through a queue instead of a pipe, for any number of senders and receivers, up to 64 in all: each message goes to one of
    /// the receivers. Use it on all sides
    #[arg(long)]
    pub queue: bool,

    /// One message for each line, for programs that receive messages: send takes the newline off and recv adds it, so use
    /// it on both sides. A last line without a newline gains one
    #[arg(long)]
    pub lines: bool,

    /// How long the other side may keep us waiting: to come, and then each time [default: for ever]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,

    /// Size of the pipe in bytes, if this side makes it: a power of two, with K, M or G if you like [default: 4M]. With --queue:
    /// how many messages may wait in it [default: 1K]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub capacity: Option<usize>,

    /// No progress bar, no notes
    #[arg(long, short)]
    pub quiet: bool,
}

#[derive(Debug, clap::Args)]
pub struct Recv {
    #[command(flatten)]
    pub transfer: Transfer,

    /// Write into FILE as the data comes, instead of replacing it at the end: for a file that others read meanwhile, or
    /// that cannot be replaced. It is emptied once this side has joined, and keeps what came if the transfer breaks
    #[arg(long)]
    pub in_place: bool,
}

#[derive(Debug, clap::Args)]
pub struct Demo {
    /// The file to pass across [default: this program]
    pub file: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Repeat the file until at least so many MiB have passed
    #[arg(long, value_name = "N", default_value_t = 256)]
    pub mib: u64,

    /// How many messages of 64 bytes to stream; a tenth of them through the Unix pipe
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    pub messages: u64,

    /// How many round trips to time; a quarter of them through the Unix pipe
    #[arg(long, value_name = "N", default_value_t = 200_000)]
    pub round_trips: u64,
}

/// The demo's second process.
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
    count.checked_mul(1 << shift).ok_or_else(|| "more than there can be".to_string())
}
