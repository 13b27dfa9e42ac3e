//! Waiting for several things at once.
//!
//! A [`Selector`] blocks until one of several sources is ready, and returns which. Then a `try_`
//! call takes what there is. Sources of all kinds can be mixed:
//!
//! ```
//! use tombolo::select::Selector;
//! use tombolo::{pipe, queue};
//!
//! let (mut prices, mut from_feed) = pipe::Options::<f64>::new().create()?;
//! let (mut jobs, mut worker) = queue::Options::<u32>::new().create_channel()?;
//! let mut selector = Selector::new();
//!
//! jobs.send(7)?;
//! match selector.wait(&mut [&mut from_feed, &mut worker])? {
//!     0 => println!("{:?}", from_feed.try_recv()),
//!     _ => assert_eq!(worker.try_recv(), Ok(7)),
//! }
//! # prices.send(1.5)?;
//! # assert_eq!(selector.wait(&mut [&mut from_feed, &mut worker])?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Sources
//!
//! | source | ready when |
//! |---|---|
//! | receivers, `Pipe` and `Queue` | there is something to receive |
//! | senders of pipes and queues, publishers | there is room |
//! | subscribers | there is a message, or one was missed |
//! | responders | there is a request |
//! | callers | the request that was started has a reply, or gets none; never without a request |
//! | [`Event`](crate::sync::Event) | it is set |
//! | [`Semaphore`](crate::sync::Semaphore), `BoundedSemaphore` | there is a permit |
//! | [`Value`](crate::sync::Value) | it has changed since this handle has loaded it |
//! | [`Timer`] | it has expired |
//! | [`Descriptor`] | it is readable, or writable: of a socket, a child, a signalfd |
//!
//! [`AtomicValue`](crate::sync::AtomicValue) and [`Array`](crate::sync::Array) are no sources, and
//! there is no future of their change either: a change of them is a store, which wakes nobody and
//! costs no more for that. Set an event after it, or use a `Value`. Nobody waits for locks and
//! barriers beside other things: use a timeout, or a task.
//!
//! A source is also ready when its `try_` call would return an error instead of having to wait: its
//! peers have left or died, messages were lost, the region is damaged. So the death of a process is
//! an outcome like a message, and no source makes a wait hang. A source whose peers are gone stays
//! ready: leave it out of the next wait, or call its `wait_for_peer`.
//!
//! That a source is ready is a hint. Another receiver of the same queue can be faster, and then
//! the `try_` call returns [`Empty`](crate::RecvError::Empty): wait again. Senders of byte
//! messages are ready when there is room for a message as long as the last one that a `try_` call
//! refused, and those of queues and broadcasts when a slot is free and, if the last one was
//! refused for the lack of a block or frame, one that it can use. Take what a source was found
//! ready for, at least by an attempt: a receiver that sleeps may have been passed over for it.
//!
//! # Many sources
//!
//! While nothing is ready, a wait sleeps on all sources at once, by `futex_waitv(2)`. On a kernel
//! before Linux 5.16, in a sandbox that refuses that call, and beyond 127 event counts (most
//! sources have one, queue senders two), it sleeps for a millisecond at a time and looks at all
//! sources in between. So it works with thousands of sources, at the price of a little load and
//! latency.
//!
//! With a [`Descriptor`] among the sources a wait sleeps in `poll(2)`, which cannot sleep on the
//! other sources. Beside those it also polls a descriptor of its own, an eventfd, which a thread of
//! this process makes readable when there may be something at one of them: the thread that also
//! serves [`Readiness`](crate::Readiness) and futures. So a message wakes two threads, one after
//! the other. Beyond 127 event counts, and if there can be no more descriptors or threads, it
//! sleeps for a millisecond at a time here, too.
//!
//! The kernel is asked about the peers of 32 sources in each liveness interval, in turn. With
//! fewer sources than that a death is noticed as soon as by a blocking call.

mod descriptor;
mod selector;
mod timer;

pub use self::descriptor::Descriptor;
pub use self::selector::Selector;
pub use self::timer::Timer;
pub use crate::error::SelectError;
pub use crate::wait::source::Source;
