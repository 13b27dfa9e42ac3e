use std::ffi::CString;
use std::fs::{self, File};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};
use std::{io, mem, process, ptr};

use anyhow::{Context, Result, ensure};

use super::{Blocking, Stage, with_mpmc_message};
use crate::case::{Area, Case, Transfer, Work};
use crate::harness::payload::{Fill, Message, Words};
use crate::link::Link;
use crate::mpmc::{self, Backoff, Reader, Rx, Tx};
use crate::sample::Sample;
use crate::shared_memory;
use crate::subject::{Job, Subject};

/// Holds as many messages, up to 1024, as the system allows: 10 by default.
pub struct PosixMq;

impl Subject for PosixMq {
    fn name(&self) -> &'static str {
        "posix-mq"
    }

    fn supports(&self, case: &Case) -> bool {
        let fits = limit("msgsize_max").is_ok_and(|limit| case.size <= limit);
        let is_one = case.transfer == Transfer::One && case.work != Work::Alone;
        case.area == Area::Mpmc && case.blocks() && is_one && fits
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_mpmc_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    mpmc::processes::<Queue<M::Words>>(job)
}

fn limit(name: &str) -> Result<usize> {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    let text = fs::read_to_string(&path).context(path)?;
    Ok(text.trim().parse()?)
}

/// A queue's descriptor; it is a file on Linux.
struct Queue<W> {
    file: File,
    batch: usize,
    words: PhantomData<W>,
}

struct End<W>(File, Stage<W>);

impl<W: Words> Link for Queue<W> {
    type Tx = Blocking<End<W>>;
    type Rx = Blocking<End<W>>;

    fn create(case: &Case) -> Result<Self> {
        let name = CString::new(format!("/tombolo-mpmc-{}", process::id()))?;
        // SAFETY: zeros are attributes, the name is a C string, and a new descriptor has no owner.
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
        Ok(Self { file: shared_memory::inheritable(file)?, batch: case.batch(), words: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address([&self.file])
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { file, batch: case.batch(), words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        Ok(Blocking(End(self.file.try_clone()?, Stage::new(self.batch))))
    }

    fn rx(&self) -> Result<Self::Rx> {
        self.tx()
    }
}

impl<W: Words> Tx for Blocking<End<W>> {
    fn send(&mut self, batch: usize, fill: &mut Fill, _: &mut Backoff) {
        for message in self.0.1.fill(batch, fill) {
            let bytes = bytemuck::bytes_of(message);
            // SAFETY: the bytes are valid.
            let status = unsafe { libc::mq_send(self.0.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
            assert_eq!(status, 0, "mq_send: {}", io::Error::last_os_error());
        }
    }
}

impl<W: Words> Rx for Blocking<End<W>> {
    fn receive(&mut self, _: usize, reader: &mut Reader) -> usize {
        let End(queue, stage) = &mut self.0;
        let bytes = stage.bytes(1);
        // SAFETY: there is room for the bytes.
        let received =
            unsafe { libc::mq_receive(queue.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len(), ptr::null_mut()) };
        assert_eq!(received, bytes.len() as isize, "mq_receive: {}", io::Error::last_os_error());
        stage.read(1, reader)
    }
}
