//! Children whose handle was dropped while they ran. A thread waits for them, so that none becomes
//! a zombie. It runs while there are any.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread;

use rustix::event::epoll;
use rustix::io::Errno;

use crate::process::handle::{Child, Wait};
use crate::sys::fork::{ForkGuardedFd, ForkSafe, Generation};
use crate::sys::signals::without_signals;

/// Needs no more than a few calls.
const STACK_LEN: usize = 128 << 10;

#[derive(Default)]
struct Reaper {
    /// The process whose children these are. A forked child has none of them, and no thread.
    generation: Option<Generation>,
    /// Watches for the end of each. The thread has it, too.
    epoll: Option<Arc<ForkGuardedFd>>,
    children: BTreeMap<u64, Child>,
    /// Those that it does not watch.
    unwatched: Vec<Child>,
    next: u64,
    is_running: bool,
}

static REAPER: ForkSafe<Reaper> = ForkSafe::new();

/// Takes over a child that runs.
pub(super) fn take_over(child: Child) {
    let needs_thread = with(|reaper| {
        let number = reaper.next;
        reaper.next += 1;
        if reaper.watch(number, &child).is_err() {
            reaper.unwatched.push(child);
            return false;
        }
        reaper.children.insert(number, child);
        !std::mem::replace(&mut reaper.is_running, true)
    });
    if needs_thread {
        let builder = thread::Builder::new().name("tombolo-reaper".into()).stack_size(STACK_LEN);
        if without_signals(|| builder.spawn(run)).is_err() {
            with(|reaper| reaper.is_running = false);
        }
    }
}

/// Reaps those that have ended. Otherwise the thread does it; this is for those that it does not
/// know, because there was no descriptor or no thread left.
pub(super) fn sweep() {
    with(|reaper| {
        reaper.unwatched.retain(is_running);
        // What the thread watches is its own: it ends when it has reaped the last.
        if !reaper.is_running {
            reaper.children.retain(|_, child| is_running(child));
        }
    });
}

fn is_running(child: &Child) -> bool {
    child.try_wait() == Wait::Running
}

/// Runs `action` on this process's own reaper.
fn with<R>(action: impl FnOnce(&mut Reaper) -> R) -> R {
    REAPER.with(|reaper| {
        let current = Some(Generation::current());
        if reaper.generation != current {
            *reaper = Reaper { generation: current, ..Reaper::default() };
        }
        action(reaper)
    })
}

impl Reaper {
    fn watch(&mut self, number: u64, child: &Child) -> io::Result<()> {
        if self.epoll.is_none() {
            self.epoll = Some(Arc::new(ForkGuardedFd::new(|| Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?))?));
        }
        let Some(epoll) = &self.epoll else { return Ok(()) };
        // Once: the program may have a copy of the pidfd, which keeps it in the list, and readable.
        let events = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        epoll::add(&**epoll, child.pidfd(), epoll::EventData::new_u64(number), events)?;
        Ok(())
    }
}

/// The thread.
fn run() {
    let Some(epoll) = with(|reaper| reaper.epoll.clone()) else {
        return with(|reaper| reaper.is_running = false);
    };
    loop {
        let mut ended = Vec::with_capacity(64);
        match epoll::wait(&*epoll, rustix::buffer::spare_capacity(&mut ended), None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return with(|reaper| reaper.is_running = false),
        }
        let is_last = with(|reaper| {
            for event in ended {
                reaper.unwatched.extend(reaper.children.remove(&event.data.u64()).filter(is_running));
            }
            if reaper.children.is_empty() {
                (reaper.epoll, reaper.is_running) = (None, false);
            }
            reaper.children.is_empty()
        });
        if is_last {
            return;
        }
    }
}
