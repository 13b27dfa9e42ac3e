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
//! | callers | the request has a reply, or cannot get one. Without a request: never |
//! | [`Event`](crate::sync::Event) | it is set |
//! | [`Semaphore`](crate::sync::Semaphore), `BoundedSemaphore` | there is a permit |
//! | [`Value`](crate::sync::Value) | it has changed since this handle has loaded it |
//! | [`Watcher`](crate::collections::map::Watcher) of a map | its key has another value |
//! | [`Timer`] | it has expired |
//! | [`Descriptor`] | it is readable, or writable: of a socket, a child, a signalfd |
//! | an `Option` of a source | the source in it is. `None`: never |
//!
//! [`AtomicValue`](crate::sync::AtomicValue) and [`Array`](crate::sync::Array) are no sources, and
//! there is no future of their change either: a change of them is a store, which wakes nobody and
//! costs no more for that. Set an event after it, or use a `Value`. Nobody waits for locks and
//! barriers beside other things: use a timeout, or a task.
//!
//! A source is also ready when its `try_` call would return an error instead of having to wait: its
//! peers have left or died, messages were lost, or the region is damaged. So the death of a peer
//! ends a wait, as a message does. A source whose peers are gone stays ready: leave it out of the
//! next wait, or call its `wait_for_peer`. An `Event`, a `Semaphore` and a `Value` have no peers.
//! Wait also for the process that shall set, release or store, by its [`Descriptor`].
//!
//! That a source is ready is a hint. Another receiver of the same queue can be faster, and then the
//! `try_` call returns [`Empty`](crate::RecvError::Empty): wait again. Call `try_` for the source
//! that a wait returned: it may have got the wake-up that another receiver needs.
//!
//! The length of a message decides whether there is room for it. A sender of byte messages is ready
//! when there is room for one as long as the last that a `try_` call refused. In a queue or a
//! broadcast that means a free slot, and a block or frame if the last one was refused for lack of
//! it.
//!
//! Locks are no sources. Their calls have timeouts, and an
//! [`InterruptHandle`](crate::InterruptHandle) ends them.
//!
//! # Sources that come and go
//!
//! A wait returns an index into its list. To keep the indices while a source is left out, give the
//! wait an `Option` of it:
//!
//! ```
//! use tombolo::select::Selector;
//! use tombolo::{RecvError, pipe, queue};
//!
//! let (mut orders, mut order_rx) = queue::Options::<u64>::new().create_channel()?;
//! let (news, news_rx) = pipe::Options::<u64>::new().create()?;
//! orders.send(7)?;
//! drop(news);
//!
//! let mut news_rx = Some(news_rx);
//! let mut selector = Selector::new();
//! loop {
//!     match selector.wait(&mut [&mut news_rx, &mut order_rx])? {
//!         0 => match news_rx.as_mut().map(|rx| rx.try_recv()) {
//!             Some(Err(RecvError::Closed)) => news_rx = None, // it would stay ready
//!             news => println!("{news:?}"),
//!         },
//!         _ => break assert_eq!(order_rx.try_recv(), Ok(7)),
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Many sources
//!
//! While nothing is ready, a wait sleeps on the event counts of all its sources at once, by
//! `futex_waitv(2)`. Most sources have one event count; senders of queues have two. With more than
//! 127 of them, on a kernel before Linux 5.16, and in a sandbox that refuses that call, the wait
//! sleeps for a millisecond at a time and checks all sources in between. So thousands of sources
//! work, at the price of some load and latency.
//!
//! With a [`Descriptor`] among the sources a wait sleeps in `poll(2)`, which cannot sleep on the
//! other sources. For those the selector has an eventfd, which it polls, too. A thread of this
//! process makes that readable when one of them may be ready: the thread that also serves
//! [`Readiness`](crate::Readiness) and futures. So a message wakes two threads, one after the
//! other. Beyond 127 event counts, and if there can be no more descriptors or threads, the wait
//! sleeps for a millisecond at a time here, too.
//!
//! In each liveness interval the kernel is asked about the peers of 32 sources, in turn. With at
//! most 32 sources a death is noticed as soon as by a blocking call.

mod descriptor;
mod selector;
mod timer;

pub use self::descriptor::Descriptor;
pub use self::selector::Selector;
pub use self::timer::Timer;
pub use crate::error::SelectError;
pub use crate::wait::source::Source;
