//! An event loop on epoll: two pipes from child processes, a socket and a timer in one thread.
//!
//! ```sh
//! cargo run --example epoll_readiness
//! ```

use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use rustix::time::{timerfd_create, timerfd_settime};
use tombolo::pipe::{self, Receiver, Sender};
use tombolo::process::{self, Process};
use tombolo::{Readiness, RecvError};

const NUMBERS: u64 = 1000;

/// What epoll says is ready. Smaller numbers are pipes.
const SOCKET: u64 = 10;
const TIMER: u64 = 11;

/// A child: sends numbers, now and then with a pause.
fn count((mut tx, pipe): (Sender<u64>, u64)) -> Result<(), tombolo::SendError> {
    for number in 0..NUMBERS {
        tx.send(number)?;
        if number % 100 == pipe {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

fn timer(after: Duration) -> Result<OwnedFd, Box<dyn Error>> {
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let time = Itimerspec { it_value: after.try_into()?, it_interval: never };
    timerfd_settime(&timer, TimerfdTimerFlags::empty(), &time)?;
    Ok(timer)
}

/// A pipe in the loop.
struct Counter {
    rx: Receiver<u64>,
    readiness: Readiness,
    received: u64,
}

impl Counter {
    /// Takes everything there is: only a fruitless try makes the descriptor unreadable. Returns
    /// whether the sender has left.
    fn on_readable(&mut self) -> Result<bool, RecvError> {
        loop {
            match self.rx.try_recv() {
                Ok(_) => self.received += 1,
                Err(RecvError::Empty) => return Ok(false),
                Err(RecvError::Closed) => return Ok(true),
                Err(error) => return Err(error), // it was killed, for example
            }
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    process::init();

    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let watch =
        |descriptor: &dyn AsFd, data| epoll::add(&epoll, descriptor.as_fd(), EventData::new_u64(data), EventFlags::IN);
    let (mut children, mut counters) = (Vec::new(), Vec::new());
    for pipe in 0..2 {
        let (tx, mut rx) = pipe::Options::<u64>::new().create()?;
        children.push(Process::spawn(count, (tx, pipe))?);
        let readiness = rx.readiness()?;
        watch(&readiness, pipe)?;
        counters.push(Counter { rx, readiness, received: 0 });
    }
    let (mut theirs, mut socket) = UnixStream::pair()?;
    watch(&socket, SOCKET)?;
    let timer = timer(Duration::from_millis(5))?;
    watch(&timer, TIMER)?;
    theirs.write_all(b"hello")?;
    drop(theirs);

    let mut events = Vec::with_capacity(8);
    let mut watched = 4;
    while watched > 0 {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            match event.data.u64() {
                SOCKET => {
                    let mut text = String::new();
                    socket.read_to_string(&mut text)?;
                    println!("socket: {text}");
                    epoll::delete(&epoll, &socket)?;
                }
                TIMER => {
                    println!("timer: expired");
                    epoll::delete(&epoll, &timer)?;
                }
                pipe => {
                    let counter = &mut counters[pipe as usize];
                    if !counter.on_readable()? {
                        continue;
                    }
                    println!("pipe {pipe}: {} numbers", counter.received);
                    epoll::delete(&epoll, &counter.readiness)?;
                }
            }
            watched -= 1;
        }
    }
    for child in children {
        child.join()?;
    }
    Ok(())
}
