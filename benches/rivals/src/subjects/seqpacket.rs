use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, FromRawFd};
use std::{array, io, mem, ptr};

use anyhow::Result;

use super::{Stage, with_spsc_message};
use crate::case::{Area, BATCH, Case};
use crate::harness::payload::{Check, Fill, Message, Words};
use crate::link::Link;
use crate::sample::Sample;
use crate::shared_memory;
use crate::spsc::{self, Rx, Tx};
use crate::subject::{Job, Subject};

/// Packets above the default send buffer are refused.
const LARGEST: usize = 64 << 10;

/// Send buffer that is asked for.
const ROOM: usize = 8 << 20;

pub struct SeqPacket;

impl Subject for SeqPacket {
    fn name(&self) -> &'static str {
        "seqpacket"
    }

    fn supports(&self, case: &Case) -> bool {
        let is_sent = case.is_throughput() || case.blocks();
        case.area == Area::Spsc && case.is_by_value() && is_sent && case.size <= LARGEST
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_spsc_message!(job.case, M => run::<M>(job))
    }
}

fn run<M: Message>(job: &Job) -> Result<Sample> {
    spsc::processes::<Pair<M::Words>>(job)
}

struct Socket<W>(File, Stage<W>);

struct Pair<W> {
    /// To read from and to write to.
    sockets: [File; 2],
    case: Case,
    words: PhantomData<W>,
}

impl<W: Words> Link for Pair<W> {
    type Tx = Socket<W>;
    type Rx = Socket<W>;

    fn create(case: &Case) -> Result<Self> {
        let mut fds = [0; 2];
        // SAFETY: fills in two descriptors that have no other owner.
        let sockets = unsafe {
            match libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, fds.as_mut_ptr()) {
                0 => fds.map(|fd| File::from_raw_fd(fd)),
                _ => return Err(io::Error::last_os_error().into()),
            }
        };
        let room = (case.slots * case.size).min(ROOM) as libc::c_int;
        // SAFETY: `room` is an integer, as the option wants; the kernel caps it.
        unsafe {
            libc::setsockopt(
                sockets[1].as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                ptr::from_ref(&room).cast(),
                size_of_val(&room) as libc::socklen_t,
            )
        };
        Ok(Self { sockets, case: *case, words: PhantomData })
    }

    fn address(&self) -> String {
        shared_memory::address(&self.sockets)
    }

    fn open(case: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left these descriptors to us alone.
        let sockets = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { sockets, case: *case, words: PhantomData })
    }

    fn tx(&self) -> Result<Self::Tx> {
        Ok(Socket(self.sockets[1].try_clone()?, Stage::new(self.case.batch())))
    }

    fn rx(&self) -> Result<Self::Rx> {
        Ok(Socket(self.sockets[0].try_clone()?, Stage::new(self.case.batch())))
    }
}

impl<W: Words> Tx for Socket<W> {
    fn send(&mut self, batch: usize, fill: &mut Fill) -> usize {
        let Socket(socket, stage) = self;
        stage.fill(batch, fill);
        let socket = socket.as_raw_fd();
        if batch == 1 {
            let bytes = stage.bytes(1);
            // SAFETY: the buffer is valid for its length.
            let sent = unsafe { libc::send(socket, bytes.as_ptr().cast(), bytes.len(), 0) };
            assert_eq!(sent, bytes.len() as isize, "{}", io::Error::last_os_error());
            return 1;
        }
        packets(stage, batch, |headers, count| {
            // SAFETY: `packets` passes `count` valid headers.
            unsafe { libc::sendmmsg(socket, headers, count, 0) }
        })
    }
}

impl<W: Words> Rx for Socket<W> {
    fn receive(&mut self, batch: usize, check: &mut Check) -> usize {
        let Socket(socket, stage) = self;
        let socket = socket.as_raw_fd();
        let received = if batch == 1 {
            let bytes = stage.bytes(1);
            // SAFETY: the buffer is valid for its length.
            let got = unsafe { libc::recv(socket, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            assert_eq!(got, bytes.len() as isize, "{}", io::Error::last_os_error());
            1
        } else {
            let flags = libc::MSG_WAITFORONE as _;
            packets(stage, batch, |headers, count| {
                // SAFETY: `packets` passes `count` valid headers.
                unsafe { libc::recvmmsg(socket, headers, count, flags, ptr::null_mut()) }
            })
        };
        stage.check(received, check);
        received
    }
}

/// Hands `call` one header per message of the stage.
fn packets<W: Words>(
    stage: &mut Stage<W>,
    batch: usize,
    call: impl FnOnce(*mut libc::mmsghdr, libc::c_uint) -> libc::c_int,
) -> usize {
    let mut messages = stage.messages(batch).iter_mut();
    let mut parts: [libc::iovec; BATCH] = array::from_fn(|_| libc::iovec {
        iov_base: messages.next().map_or(ptr::null_mut(), |message| ptr::from_mut(message).cast()),
        iov_len: size_of::<W>(),
    });
    let mut headers = parts.each_mut().map(|part| {
        // SAFETY: a header without names and options is all zeros.
        let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
        header.msg_hdr.msg_iov = part;
        header.msg_hdr.msg_iovlen = 1;
        header
    });
    let done = call(headers.as_mut_ptr(), batch as libc::c_uint);
    usize::try_from(done).unwrap_or_else(|_| panic!("{}", io::Error::last_os_error()))
}
