use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};

use anyhow::Result;

use super::{Batch, Contender, Stage, with_message};
use crate::case::Case;
use crate::duel::{Job, Link, Rx, Sample, Tx};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::shared;

/// What an unprivileged user may ask for.
const LARGEST: usize = 1 << 20;

pub struct Pipe;

impl Contender for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn can(&self, case: &Case) -> bool {
        case.is_by_value() && (case.is_throughput() || case.blocks())
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    job.processes::<Ends<M::Words>>()
}

struct Ends<W> {
    /// To read from and to write to.
    files: [File; 2],
    case: Case,
    words: PhantomData<W>,
}

impl<W: Words> Link for Ends<W> {
    type Tx = Batch<File, W>;
    type Rx = Batch<File, W>;

    fn create(case: &Case) -> Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: `pipe` fills in two descriptors that have no other owner.
        let files = unsafe {
            match libc::pipe(fds.as_mut_ptr()) {
                0 => fds.map(|fd| File::from_raw_fd(fd)),
                _ => return Err(io::Error::last_os_error().into()),
            }
        };
        let room = (case.slots * case.size).min(LARGEST) as libc::c_int;
        // SAFETY: plain system call; a refusal leaves the default size.
        unsafe { libc::fcntl(files[1].as_raw_fd(), libc::F_SETPIPE_SZ, room) };
        Ok(Self { files, case: *case, words: PhantomData })
    }

    fn address(&self) -> String {
        shared::address(&self.files)
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left these descriptors to us alone.
        let files = unsafe { shared::inherited(address) }?;
        Ok(Self { files, case: *case, words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        Ok(Batch(self.files[1].try_clone()?, Stage::new(&self.case)))
    }

    fn rx(&self) -> Result<Self::Rx> {
        Ok(Batch(self.files[0].try_clone()?, Stage::new(&self.case)))
    }
}

impl<W: Words> Tx for Batch<File, W> {
    fn send(&mut self, lot: usize, fill: &mut Fill) -> usize {
        self.1.fill(lot, fill);
        self.0.write_all(self.1.bytes(lot)).expect("the reader is there");
        lot
    }
}

impl<W: Words> Rx for Batch<File, W> {
    fn receive(&mut self, lot: usize, check: &mut Check) -> usize {
        self.0.read_exact(self.1.bytes(lot)).expect("the writer is there");
        self.1.check(lot, check);
        lot
    }
}
