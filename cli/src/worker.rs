//! A thread that reads or writes a stream while we do something else.
//!
//! Reading a terminal or writing to a full pipe can take for ever. The side that talks to the peer must not: it has to
//! notice signals and the peer's death. So it gives buffers to this thread and takes them back done. The number of
//! buffers bounds how far the two get apart.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Bytes in a buffer: enough to make everything that is done once for each buffer not count.
pub const BUFFER_LEN: usize = 256 << 10;

const BUFFERS: usize = 3;

pub struct Worker {
    given: Sender<Vec<u8>>,
    done: Receiver<io::Result<Vec<u8>>>,
    /// Buffers on our side, in the order in which they came back.
    here: VecDeque<Vec<u8>>,
}

impl Worker {
    /// Does `work` to every buffer that is given, until the first error.
    pub fn start(mut work: impl FnMut(&mut Vec<u8>) -> io::Result<()> + Send + 'static) -> Self {
        let (given, inbox) = mpsc::channel::<Vec<u8>>();
        let (outbox, done) = mpsc::channel();
        thread::spawn(move || {
            for mut buffer in inbox {
                let result = work(&mut buffer).map(|()| buffer);
                let failed = result.is_err();
                if outbox.send(result).is_err() || failed {
                    return;
                }
            }
        });
        Self { given, done, here: vec![Vec::new(); BUFFERS].into() }
    }

    /// Never waits. After an error nobody works any more; [`take`](Self::take) says so.
    pub fn give(&self, buffer: Vec<u8>) {
        let _ = self.given.send(buffer);
    }

    /// Gives every buffer on our side: the work can begin.
    pub fn give_all(&mut self) {
        for buffer in mem::take(&mut self.here) {
            self.give(buffer);
        }
    }

    /// Takes a buffer that is not being worked on; none if it takes longer than `patience`.
    pub fn take(&mut self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        self.collect()?;
        if self.here.is_empty() {
            self.await_one(patience)?;
        }
        Ok(self.here.pop_front())
    }

    /// Whether everything that was given is done, within `patience` or so.
    pub fn is_idle(&mut self, patience: Duration) -> io::Result<bool> {
        self.collect()?;
        if self.here.len() < BUFFERS {
            self.await_one(patience)?;
        }
        Ok(self.here.len() == BUFFERS)
    }

    /// Takes in what is done, without waiting: how an error shows while there is nothing to give.
    pub fn collect(&mut self) -> io::Result<()> {
        while let Ok(buffer) = self.done.try_recv() {
            self.here.push_back(buffer?);
        }
        Ok(())
    }

    fn await_one(&mut self, patience: Duration) -> io::Result<()> {
        match self.done.recv_timeout(patience) {
            Ok(buffer) => self.here.push_back(buffer?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("its thread ended")),
        }
        Ok(())
    }
}
