use std::ffi::CString;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};
use std::{io, mem, process, ptr};

use anyhow::{Context, Result, ensure};

use super::{Blocking, Contender, Stage, with_message};
use crate::case::{Case, Way, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::play::{Job, Link, Sample};
use crate::shared;
use crate::side::{Patience, Reader, Rx, Tx};

/// As many messages, up to 1024, as the system lets a queue hold: 10, unless somebody changed that.
pub struct PosixMq;

impl Contender for PosixMq {
    fn name(&self) -> &'static str {
        "posix-mq"
    }

    fn can(&self, case: &Case) -> bool {
        let fits = limit("msgsize_max").is_ok_and(|limit| case.size <= limit);
        fits && case.blocks() && case.way == Way::One && case.work != Work::Alone
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    job.processes::<Queue<M::Words>>()
}

fn limit(name: &str) -> Result<usize> {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(text.trim().parse()?)
}

/// A queue's descriptor; it is a file on Linux.
struct Queue<W>(File, PhantomData<W>);

struct End<W>(File, Stage<W>);

impl<W: Words> Link for Queue<W> {
    type Tx = Blocking<End<W>>;
    type Rx = Blocking<End<W>>;

    fn create(case: &Case) -> Result<Self> {
        let name = CString::new(format!("/tombolo-crowd-{}", process::id()))?;
        // SAFETY: zeros are attributes, the name is a C string, and a fresh descriptor has no other owner.
        let file = unsafe {
            let mut attributes: libc::mq_attr = mem::zeroed();
            attributes.mq_maxmsg = case.slots.min(limit("msg_max")?) as _;
            attributes.mq_msgsize = case.size as _;
            let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
            let queue = libc::mq_open(name.as_ptr(), flags, 0o600, &attributes);
            ensure!(queue >= 0, io::Error::last_os_error());
            libc::mq_unlink(name.as_ptr());
            File::from_raw_fd(queue)
        };
        Ok(Self(shared::inheritable(file)?, PhantomData))
    }

    fn address(&self) -> String {
        shared::address([&self.0])
    }

    fn tx(case: &Case, address: &str) -> Result<Self::Tx> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared::inherited(address) }?;
        Ok(Blocking(End(file, Stage::new(case.lot()))))
    }

    fn rx(case: &Case, address: &str) -> Result<Self::Rx> {
        Self::tx(case, address)
    }
}

impl<W: Words> Tx for Blocking<End<W>> {
    fn send(&mut self, lot: usize, fill: &mut Fill, _: &mut Patience) {
        for message in self.0.1.filled(lot, fill) {
            let bytes = bytemuck::bytes_of(message);
            // SAFETY: so many bytes are there.
            let status = unsafe { libc::mq_send(self.0.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            assert_eq!(status, 0, "mq_send: {}", io::Error::last_os_error());
        }
    }
}

impl<W: Words> Rx for Blocking<End<W>> {
    fn receive(&mut self, _: usize, reader: &mut Reader) -> usize {
        let End(queue, stage) = &mut self.0;
        let bytes = stage.bytes();
        // SAFETY: there is room for so many bytes.
        let received =
            unsafe { libc::mq_receive(queue.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), ptr::null_mut()) };
        assert_eq!(received, bytes.len() as isize, "mq_receive: {}", io::Error::last_os_error());
        stage.read(1, reader)
    }
}
