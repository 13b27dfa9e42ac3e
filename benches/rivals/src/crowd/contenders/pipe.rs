use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};

use anyhow::Result;

use super::{Blocking, Contender, Stage, with_message};
use crate::case::{Case, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::play::{Job, Link, Sample};
use crate::shared;
use crate::side::{Patience, Reader, Rx, Tx};

/// What an unprivileged user may ask for.
const LARGEST: usize = 1 << 20;

pub struct Pipe;

impl Contender for Pipe {
    fn name(&self) -> &'static str {
        "pipe"
    }

    fn can(&self, case: &Case) -> bool {
        case.work == Work::Bytes
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    job.processes::<Ends<M::Words>>()
}

/// To read from and to write to.
struct Ends<W>([File; 2], PhantomData<W>);

struct End<W>(File, Stage<W>);

impl<W: Words> Link for Ends<W> {
    type Tx = Blocking<End<W>>;
    type Rx = Blocking<End<W>>;

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
        Ok(Self(files, PhantomData))
    }

    fn address(&self) -> String {
        shared::address(&self.0)
    }

    fn tx(case: &Case, address: &str) -> Result<Self::Tx> {
        // SAFETY: the first process left these descriptors to us alone.
        let [_, file] = unsafe { shared::inherited(address) }?;
        Ok(Blocking(End(file, Stage::new(case.lot()))))
    }

    fn rx(case: &Case, address: &str) -> Result<Self::Rx> {
        // SAFETY: as for the writer.
        let [file, _] = unsafe { shared::inherited(address) }?;
        Ok(Blocking(End(file, Stage::new(case.lot()))))
    }
}

impl<W: Words> Tx for Blocking<End<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, _: &mut Patience) {
        let messages = self.0.1.filled(lot, fill);
        self.0.0.write_all(bytemuck::cast_slice(messages)).expect("the reader is there");
    }
}

impl<W: Words> Rx for Blocking<End<W>> {
    fn receive(&mut self, _: usize, reader: &mut Reader) -> usize {
        self.0.0.read_exact(self.0.1.bytes()).expect("the writer is there");
        self.0.1.read(1, reader)
    }
}
