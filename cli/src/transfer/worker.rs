//! A thread that reads or writes a stream.
//!
//! Reading a terminal or writing to a full pipe can block forever. The main thread must not: it has
//! to notice signals and the death of the peer. So it submits buffers to this thread and collects
//! them when they are done. The number of buffers bounds how far one thread runs ahead of the
//! other.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

/// Bytes in a buffer. Large enough that the cost of each buffer does not show.
pub const BUFFER_LEN: usize = 256 << 10;

const BUFFERS: usize = 3;

pub struct Worker {
    inbox: Sender<Vec<u8>>,
    done: Receiver<io::Result<Vec<u8>>>,
    /// Buffers that are not submitted, in the order in which they came back.
    idle: VecDeque<Vec<u8>>,
}

impl Worker {
    /// Starts a thread that applies `work` to each submitted buffer, until the first error.
    pub fn start(mut work: impl FnMut(&mut Vec<u8>) -> io::Result<()> + Send + 'static) -> Self {
        let (inbox, jobs) = mpsc::channel::<Vec<u8>>();
        let (results, done) = mpsc::channel();
        thread::spawn(move || {
            for mut buffer in jobs {
                let result = work(&mut buffer).map(|()| buffer);
                let failed = result.is_err();
                if results.send(result).is_err() || failed {
                    return;
                }
            }
        });
        Self { inbox, done, idle: vec![Vec::new(); BUFFERS].into() }
    }

    /// Submits a buffer without blocking. If the thread has ended, [`collect`](Self::collect)
    /// returns its error.
    pub fn submit(&self, buffer: Vec<u8>) {
        let _ = self.inbox.send(buffer);
    }

    /// Submits all idle buffers.
    pub fn submit_all(&mut self) {
        for buffer in mem::take(&mut self.idle) {
            self.submit(buffer);
        }
    }

    /// Returns an idle buffer, or `None` if there is none within `timeout`.
    pub fn collect(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        self.poll()?;
        if self.idle.is_empty() {
            self.wait_for_one(timeout)?;
        }
        Ok(self.idle.pop_front())
    }

    /// Returns whether all submitted buffers are done. Waits for about `timeout`.
    pub fn is_idle(&mut self, timeout: Duration) -> io::Result<bool> {
        self.poll()?;
        if self.idle.len() < BUFFERS {
            self.wait_for_one(timeout)?;
        }
        Ok(self.idle.len() == BUFFERS)
    }

    /// Takes back the buffers that are done, without blocking. Returns the thread's error if it
    /// failed.
    pub fn poll(&mut self) -> io::Result<()> {
        while let Ok(buffer) = self.done.try_recv() {
            self.idle.push_back(buffer?);
        }
        Ok(())
    }

    fn wait_for_one(&mut self, timeout: Duration) -> io::Result<()> {
        match self.done.recv_timeout(timeout) {
            Ok(buffer) => self.idle.push_back(buffer?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("its thread ended")),
        }
        Ok(())
    }
}
