use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};

use anyhow::Result;

use super::{Batch, Stage, with_mpmc_message, with_spsc_message};
use crate::case::{Area, Case, Work};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::mpmc::{self, Backoff, Reader};
use crate::sample::Sample;
use crate::shared_memory;
use crate::spsc;
use crate::subject::{Job, Subject};

/// What an unprivileged user may ask for.
const LARGEST: usize = 1 << 20;

pub struct Pipe;

impl Subject for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => case.is_by_value() && (case.is_throughput() || case.blocks()),
            Area::Mpmc => case.work == Work::Bytes,
            Area::Broadcast | Area::Objects => false,
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.area {
            Area::Spsc => with_spsc_message!(job.case, M => run_spsc::<M>(job)),
            _ => with_mpmc_message!(job.case, M => run_mpmc::<M>(job)),
        }
    }
}

fn run_spsc<M: Message>(job: &Job) -> Result<Sample> {
    spsc::processes::<Ends<M::Words>>(job)
}

fn run_mpmc<M: Message>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Ends<M::Words>>(job)
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
        shared_memory::address(&self.files)
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left these descriptors to us alone.
        let files = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { files, case: *case, words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        Ok(Batch(self.files[1].try_clone()?, Stage::new(self.case.batch())))
    }

    fn rx(&self) -> Result<Self::Rx> {
        Ok(Batch(self.files[0].try_clone()?, Stage::new(self.case.batch())))
    }
}

impl<W: Words> spsc::Tx for Batch<File, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        self.1.fill(batch, fill);
        self.0.write_all(self.1.bytes(batch)).expect("the reader is there");
        batch
    }
}

impl<W: Words> spsc::Rx for Batch<File, W> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        self.0.read_exact(self.1.bytes(batch)).expect("the writer is there");
        self.1.check(batch, check);
        batch
    }
}

impl<W: Words> mpmc::Tx for Batch<File, W> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        self.1.fill(batch, fill);
        self.0.write_all(self.1.bytes(batch)).expect("the reader is there");
    }
}

impl<W: Words> mpmc::Rx for Batch<File, W> {
    fn receive(&mut self, _: usize, reader: &mut Reader) -> usize {
        self.0.read_exact(self.1.bytes(1)).expect("the writer is there");
        self.1.read(1, reader)
    }
}
