//! Children that no thread waits for. One thread of its own watches all of them. It reaps those
//! whose handle was dropped while they ran, so that none becomes a zombie, and wakes the tasks that
//! wait for others. It runs while there are any.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::Arc;
#[cfg(feature = "async")]
use std::task::Waker;
use std::thread;

use rustix::event::epoll;
use rustix::io::Errno;

use crate::process::handle::{Child, Wait};
#[cfg(feature = "async")]
use crate::process::wakers::TaskNumber;
use crate::process::wakers::Wakers;
use crate::sys::fork::{ForkGuardedFd, ForkSafe, Generation};
use crate::sys::signals::without_signals;

#[derive(Default)]
struct Reaper {
    /// The process whose children these are. A forked child has none of them, and no thread.
    generation: Option<Generation>,
    /// Watches for the end of each. The thread has it, too.
    epoll: Option<Arc<ForkGuardedFd>>,
    /// By their numbers.
    watched: BTreeMap<u64, Watched>,
    /// Those that it does not watch.
    unwatched: Vec<Child>,
    is_running: bool,
}

#[derive(Default)]
struct Watched {
    /// None: it has a handle, by which it is reaped.
    child: Option<Child>,
    wakers: Wakers,
}

static REAPER: ForkSafe<Reaper> = ForkSafe::new();

/// Takes over a child that runs, or is watched.
pub(super) fn take_over(child: Child) {
    with(|reaper| match reaper.watch(&child) {
        Ok(watched) => {
            watched.child = Some(child);
            let _ = reaper.start_thread(); // `sweep` does without
        }
        // Or it has just ended, and is watched no more.
        Err(_) => reaper.unwatched.extend(Some(child).filter(is_running)),
    });
}

/// Wakes a task when the child has ended, once.
#[cfg(feature = "async")]
pub(super) fn wake_at_end(child: &Child, task: &TaskNumber, waker: Waker) -> io::Result<()> {
    let (before, started) = with(|reaper| {
        let before = reaper.watch(child)?.wakers.insert(task, waker);
        io::Result::Ok((before, reaper.start_thread()))
    })?;
    drop(before);
    started
}

/// The task waits for the child no more.
#[cfg(feature = "async")]
pub(super) fn forget_task(child: &Child, task: &TaskNumber) {
    drop(with(|reaper| reaper.watched.get_mut(&child.number())?.wakers.remove(task)));
}

/// Whether the thread watches the child, or would if there were one.
pub(super) fn watches(child: &Child) -> bool {
    with(|reaper| reaper.watched.contains_key(&child.number()))
}

/// Reaps those that have ended. Otherwise the thread does it; this is for those that it does not
/// know, because there was no descriptor or no thread left.
pub(super) fn sweep() {
    with(|reaper| {
        reaper.unwatched.retain(is_running);
        // What the thread watches is its own: it ends when it has reaped the last.
        if !reaper.is_running {
            reaper.watched.retain(|_, watched| watched.child.as_ref().is_none_or(is_running));
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
    fn watch(&mut self, child: &Child) -> io::Result<&mut Watched> {
        if !self.watched.contains_key(&child.number()) {
            let epoll = match &mut self.epoll {
                Some(epoll) => epoll,
                none => none.insert(Arc::new(ForkGuardedFd::new(|| Ok(epoll::create(epoll::CreateFlags::CLOEXEC)?))?)),
            };
            // Once: the program may have a copy of the pidfd, which keeps it in the list, and
            // readable.
            let events = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
            epoll::add(&**epoll, child.pidfd(), epoll::EventData::new_u64(child.number()), events)?;
        }
        Ok(self.watched.entry(child.number()).or_default())
    }

    /// Starts the thread, unless it runs. In the section, so that nobody relies on a thread that
    /// cannot be started.
    fn start_thread(&mut self) -> io::Result<()> {
        if !self.is_running {
            let builder = thread::Builder::new().name("tombolo-reaper".into());
            without_signals(|| builder.spawn(run))?;
            self.is_running = true;
        }
        Ok(())
    }

    /// No thread watches what there is.
    fn stop(&mut self) {
        (self.epoll, self.is_running) = (None, false);
    }
}

/// The thread.
fn run() {
    let Some(epoll) = with(|reaper| reaper.epoll.clone()) else {
        return with(|reaper| reaper.is_running = false);
    };
    loop {
        let mut ended = Vec::with_capacity(64);
        let can_wait = match epoll::wait(&*epoll, rustix::buffer::spare_capacity(&mut ended), None) {
            Ok(_) | Err(Errno::INTR) => true,
            Err(_) => false,
        };
        let mut woken = Vec::new();
        let is_last = with(|reaper| {
            for event in ended {
                let Some(Watched { child, wakers }) = reaper.watched.remove(&event.data.u64()) else { continue };
                reaper.unwatched.extend(child.filter(is_running));
                woken.push(wakers);
            }
            if !can_wait {
                // The tasks look for themselves.
                woken.extend(reaper.watched.values_mut().map(|watched| mem::take(&mut watched.wakers)));
            }
            let is_last = reaper.watched.is_empty() || !can_wait;
            if is_last {
                reaper.stop();
            }
            is_last
        });
        woken.into_iter().for_each(Wakers::wake);
        if is_last {
            return;
        }
    }
}
