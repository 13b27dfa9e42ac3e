//! One direction of a pipe as one of its two sides lives it: waiting for the other, ringing for it, learning that it left
//! or died, leaving oneself. What moves through the ring is not this file's business.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{RecvError, SendError};
use crate::layout::ring;
use crate::liveness::{Seat, Standing};
use crate::raw::Corrupt;
use crate::raw::event::Event;
use crate::raw::role::{Role, View};
use crate::region::{Mapped, Region};
use crate::sync::{Ordering, spin_loop};
use crate::sys::process::online_cores;
use crate::sys::{Deadline, barrier};

/// What a blocking call does while there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Polls without end: the lowest latency, at the price of a core.
    Spin,
    /// Polls for about 2 µs, offers the core to others until about 50 µs, then sleeps. On a machine with one core it
    /// does not poll.
    #[default]
    SpinThenPark,
    /// Sleeps at once: the lowest load, at the price of a wake-up for each wait.
    Park,
}

const SPIN: Duration = Duration::from_micros(2);
const YIELD: Duration = Duration::from_micros(50);

/// Nobody sleeps longer without looking around: it bounds the harm of a wake-up that died with its waker.
const SLICE: Duration = Duration::from_millis(20);

/// Polls between two looks at the clock.
const POLLS: u32 = 16;

/// Fruitless `try_` calls between two questions to the kernel.
const TRIES: u32 = 32;

/// Why a wait ended without what it waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Closed,
    PeerDied,
    LockLost,
    TimedOut,
}

impl From<Stop> for SendError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Self::Closed,
            Stop::PeerDied => Self::PeerDied,
            Stop::LockLost => Self::LockLost,
            Stop::TimedOut => Self::TimedOut,
        }
    }
}

impl From<Stop> for RecvError {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Self::Closed,
            Stop::PeerDied => Self::PeerDied,
            Stop::LockLost => Self::LockLost,
            Stop::TimedOut => Self::TimedOut,
        }
    }
}

impl From<Corrupt> for SendError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl From<Corrupt> for RecvError {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

/// The two sides of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Producer,
    Consumer,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Producer => Self::Consumer,
            Self::Consumer => Self::Producer,
        }
    }

    /// The side that a seat plays in a ring: ring 0 leads from seat 0 to seat 1, ring 1 back.
    pub(crate) fn of(seat: usize, ring: usize) -> Self {
        if seat == ring { Self::Producer } else { Self::Consumer }
    }

    pub(crate) fn role(self, region: &Region, ring: usize) -> Role<Mapped> {
        let at = region.layout().ring(ring);
        let (word, from) = match self {
            Self::Producer => (ring::PRODUCER_ROLE, ring::PRODUCER_FROM),
            Self::Consumer => (ring::CONSUMER_ROLE, ring::CONSUMER_FROM),
        };
        Role::new(region.word(at + word), region.word(at + from))
    }

    /// The event that this side sleeps on.
    fn event(self, region: &Region, ring: usize) -> Event<Mapped> {
        let word = match self {
            Self::Producer => ring::WRITABLE,
            Self::Consumer => ring::READABLE,
        };
        Event::new(region.futex(region.layout().ring(ring) + word))
    }

    /// Becomes this side of the ring, where the last one stopped. The caller holds the seat and the admission.
    pub(crate) fn take(self, region: &Region, ring: usize) {
        let index = match self {
            Self::Producer => ring::TAIL,
            Self::Consumer => ring::HEAD,
        };
        let from = region.word(region.layout().ring(ring) + index).load(Ordering::Acquire);
        self.role(region, ring).take(from);
        if self == Self::Consumer {
            self.event(region, ring).hang_up(false);
        }
        // Whoever waits for a peer to come need not wait for its slice to end.
        self.other().event(region, ring).wake();
    }
}

pub(crate) struct Link {
    seat: Arc<Seat>,
    side: Side,
    own: Role<Mapped>,
    peer: Role<Mapped>,
    /// What we sleep on.
    ear: Event<Mapped>,
    /// What the peer sleeps on.
    bell: Event<Mapped>,
    wait: Wait,
    /// The peer that we are dealing with.
    epoch: u64,
    /// The last peer whose end was reported.
    mourned: u64,
    tries: u32,
    patience: Patience,
}

/// How long to leave the other side alone before looking again.
///
/// A side that works through a stream faster than the other fills it would ask for the other's line after every message, and the
/// two would hand that line, and the message's, back and forth. Left alone for a moment the other gets ahead, and the
/// next look brings a run of messages. In a dialogue there is nothing to gain, and it must not wait: so the
/// pause grows only while it is rewarded, and begins only when a message was there without any wait.
#[derive(Debug, Default)]
struct Patience {
    pause: u32,
    position: u64,
    had_to_wait: bool,
}

impl Patience {
    const FIRST: u32 = 4;
    const MOST: u32 = 16;
    /// Fewer messages than this are no reward.
    const REWARD: u64 = 4;

    fn pause(&mut self, position: u64) {
        let passed = position.wrapping_sub(self.position);
        self.position = position;
        self.pause = match self.pause {
            0 if self.had_to_wait => 0,
            0 => Self::FIRST,
            pause if passed >= Self::REWARD => (2 * pause).min(Self::MOST),
            _ => 0,
        };
        for _ in 0..self.pause {
            spin_loop();
        }
    }
}

impl Link {
    pub(crate) fn new(seat: Arc<Seat>, ring: usize, wait: Wait) -> Self {
        let region = seat.region();
        let side = Side::of(seat.index(), ring);
        let (ear, bell) = (side.event(region, ring), side.other().event(region, ring));
        if !barrier::register() {
            ear.require_fences();
            bell.require_fences();
        }
        let (own, peer) = (side.role(region, ring), side.other().role(region, ring));
        let epoch = peer.view().epoch();
        Self { side, own, peer, ear, bell, wait, epoch, mourned: 0, tries: 0, patience: Patience::default(), seat }
    }

    pub(crate) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// False in a process that was forked from the handle's own.
    #[inline]
    pub(crate) fn is_ours(&self) -> bool {
        self.seat.region().is_ours()
    }

    /// Whether the peer has left, by a word that is in this side's cache anyway.
    #[inline]
    pub(crate) fn peer_has_left(&self) -> bool {
        self.bell.is_hung_up() && self.peer.view().is_closed()
    }

    /// Call after publishing or releasing.
    #[inline]
    pub(crate) fn ring(&self) {
        self.bell.notify();
    }

    /// After a fruitless attempt that was not to wait: why it will stay fruitless, if so.
    #[cold]
    pub(crate) fn stop(&mut self) -> Option<Stop> {
        let closed = self.look();
        if closed.is_some() {
            return closed;
        }
        self.tries = self.tries.wrapping_add(1);
        if self.tries.is_multiple_of(TRIES) { self.ask() } else { None }
    }

    /// Tries until it works, the deadline passes, or the peer is gone and a last try was fruitless too. `position` is how
    /// many messages this side has dealt with so far.
    #[cold]
    pub(crate) fn wait<T, E: From<Stop>>(
        &mut self,
        position: u64,
        deadline: Deadline,
        mut attempt: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<T, E> {
        let mut started = None;
        let mut asked = None;
        let mut polls = 0_u32;
        let mut polling = self.wait != Wait::Park && can_poll();
        if polling {
            self.patience.pause(position);
            for poll in 0..POLLS {
                if let Some(done) = attempt()? {
                    self.patience.had_to_wait = poll > 0;
                    return Ok(done);
                }
                spin_loop();
            }
            self.patience.had_to_wait = true;
        }
        loop {
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            if let Some(stop) = self.look() {
                return attempt()?.ok_or_else(|| stop.into());
            }
            polls = polls.wrapping_add(1);
            if polling && !polls.is_multiple_of(POLLS) {
                spin_loop();
                continue;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Err(Stop::TimedOut.into());
            }
            if now.duration_since(*asked.get_or_insert(now)) >= SLICE {
                asked = Some(now);
                if let Some(stop) = self.ask() {
                    return attempt()?.ok_or_else(|| stop.into());
                }
            }
            let waited = now.duration_since(*started.get_or_insert(now));
            match self.wait {
                Wait::Spin if polling => spin_loop(),
                Wait::Spin => thread::yield_now(),
                Wait::SpinThenPark if polling && waited < SPIN => spin_loop(),
                Wait::SpinThenPark if waited < YIELD => {
                    polling = false;
                    thread::yield_now();
                }
                Wait::SpinThenPark | Wait::Park => {
                    polling = false;
                    let ticket = self.ear.listen();
                    if let Some(done) = attempt()? {
                        return Ok(done);
                    }
                    if self.look().is_none() {
                        let rest = deadline.map_or(SLICE, |deadline| deadline.duration_since(now));
                        self.ear.wait(ticket, rest.min(SLICE));
                    }
                }
            }
        }
    }

    /// What the peer has written about itself. It comes before the kernel's word: who closed is not dead.
    fn look(&mut self) -> Option<Stop> {
        let view = self.peer.view();
        if view.is_closed() {
            self.mourned = view.epoch();
            return Some(Stop::Closed);
        }
        if view.epoch() != 0 && view.epoch() == self.mourned {
            return Some(Stop::PeerDied); // and nobody has come since
        }
        if self.side == Side::Producer && view.epoch() != self.epoch {
            return self.succeeded(view); // a consumer learns of it from its ring, behind the last message
        }
        None
    }

    /// Passes on to the peer's successor; says how the last one ended, unless that is known.
    pub(crate) fn succeeded(&mut self, view: View) -> Option<Stop> {
        let owed = self.owes_an_end(view);
        self.epoch = view.epoch();
        let end = if view.came_after_death() { Stop::PeerDied } else { Stop::Closed };
        owed.then_some(end)
    }

    /// Whether the end of the peer that we are dealing with is still to be reported, now that it has a successor.
    pub(crate) fn owes_an_end(&self, successor: View) -> bool {
        let first = self.epoch == 0;
        let known = self.mourned == self.epoch;
        // When one reader leaves and another comes, the writer just goes on.
        let matters = successor.came_after_death() || self.side == Side::Consumer;
        !first && !known && matters
    }

    /// What the kernel says about the peer.
    fn ask(&mut self) -> Option<Stop> {
        let peer = 1 - self.seat.index().min(1);
        match self.seat.region().standing(peer) {
            Standing::Dead => {
                let view = self.peer.view();
                if view.is_open() {
                    self.mourned = view.epoch();
                    return Some(Stop::PeerDied);
                }
                self.look()
            }
            Standing::LockLost => Some(Stop::LockLost),
            Standing::Alive | Standing::Left | Standing::Vacant => None,
        }
    }

    fn close(&self) {
        self.own.close();
        if self.side == Side::Consumer {
            self.ear.hang_up(true); // for the producer to see in passing
        }
        self.bell.wake();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.is_ours() && !self.seat.is_passed_on() {
            self.close();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("side", &self.side).field("wait", &self.wait).field("seat", &self.seat).finish()
    }
}

/// On one core the peer cannot do anything while we poll.
fn can_poll() -> bool {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(online_cores) > 1
}
