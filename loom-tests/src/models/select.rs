//! Models of waits for several events at once, of `src/raw/event_count.rs`.
//!
//! A source is a number of messages and an event count. A selector listens to several sources and
//! takes one message of any of them. Each model has as many messages as takers can take, so whoever
//! is left asleep beside a message is a deadlock, which loom reports.

use super::*;
use crate::raw::event_count::Key;

#[derive(Clone)]
struct Source {
    messages: Shared<AtomicU64>,
    futex: Shared<AtomicU32>,
}

impl Source {
    fn new() -> Self {
        Self { messages: new_word(), futex: new_futex() }
    }

    fn event(&self) -> EventCount<Heap> {
        event(&self.futex)
    }

    fn send(&self) {
        self.messages.fetch_add(1, Ordering::Release);
        self.event().notify(1);
    }

    fn try_take(&self) -> Option<()> {
        let mut seen = self.messages.load(Ordering::Acquire);
        while seen > 0 {
            match self.messages.compare_exchange(seen, seen - 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(()),
                Err(now) => seen = now,
            }
        }
        None
    }

    fn take(&self) {
        block_on(&self.event(), || self.try_take());
    }
}

#[derive(Clone)]
struct World<const N: usize>([Source; N]);

impl<const N: usize> World<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Source::new()))
    }

    /// Takes one message, of the first of these sources that has one. Returns of which.
    fn select(&self, sources: &[usize]) -> usize {
        let events: Vec<_> = sources.iter().map(|&source| self.0[source].event()).collect();
        let mut keys: Vec<Key> = Vec::new();
        let mut has_waited = false;
        let find = || sources.iter().copied().find(|&source| self.0[source].try_take().is_some());
        loop {
            if let Some(found) = find() {
                if has_waited {
                    for ((&source, event), key) in sources.iter().zip(&events).zip(&keys) {
                        if source != found {
                            event.pass_on(*key);
                        }
                    }
                }
                return found;
            }
            EventCount::listen_to_all(events.iter(), &mut keys);
            if let Some(found) = find() {
                return found;
            }
            assert!(EventCount::wait_any(events.iter().zip(keys.iter().copied()), None, Duration::MAX));
            has_waited = true;
        }
    }
}

/// The wake-up for the receiver of one source is spent on a selector, which takes from the other.
#[test]
fn selector_takes_from_another_source_receiver_is_woken() {
    large_model(|| {
        let world = World::<2>::new();
        let selector = spawn(&world, |world| {
            if world.select(&[1, 0]) == 0 {
                world.0[0].send(); // it is the receiver's
            }
        });
        let receiver = spawn(&world, |world| world.0[0].take());
        world.0[0].send();
        world.0[1].send();
        join_all([selector, receiver]);
    });
}

/// Both wake-ups are spent on one selector.
#[test]
fn selector_gets_two_wake_ups_other_selector_is_woken() {
    large_model(|| {
        let world = World::<2>::new();
        let selectors = spawn_each(&world, [[0, 1], [1, 0]], |world, sources| {
            world.select(&sources);
        });
        let sender = spawn(&world, |world| world.0[0].send());
        world.0[1].send();
        join_all(selectors);
        join(sender);
    });
}

/// Three sources, two senders, and two selectors that have some of them in common.
#[test]
fn selectors_share_some_of_three_sources_both_are_woken() {
    large_model(|| {
        let world = World::<3>::new();
        let all = spawn(&world, |world| world.select(&[0, 1, 2]));
        let some = spawn(&world, |world| world.select(&[2, 0]));
        let sender = spawn(&world, |world| world.0[2].send());
        world.0[0].send();
        join_all([all, some]);
        join(sender);
    });
}

/// The bit of one of the sources is cleared while a selector goes to sleep.
#[test]
fn selector_sleeps_during_stale_bit_clear_is_woken() {
    model(|| {
        let world = World::<3>::new();
        let _ = world.0[1].event().listen(); // and was killed
        let sender = spawn(&world, |world| {
            world.0[1].event().notify(1); // of something else
            world.0[1].send();
        });
        world.select(&[0, 1, 2]);
        join(sender);
    });
}

/// A sandbox refuses membarrier(2) after the process has registered for it.
#[test]
fn selector_heavy_fence_refused_is_woken() {
    model_without_membarrier(|| {
        let world = World::<2>::new();
        let events = world.0.each_ref().map(Source::event);
        // An earlier listen left nothing but the bits that tell notifiers to use full fences.
        EventCount::listen_to_all(events.iter(), &mut Vec::new());
        for event in events {
            event.notify(1);
            assert!(!event.has_waiters());
        }
        let sender = spawn(&world, |world| world.0[1].send());
        world.select(&[0, 1]);
        join(sender);
    });
}

/// Two handles of one source.
#[test]
fn selector_has_one_source_twice_receiver_is_woken() {
    large_model(|| {
        let world = World::<1>::new();
        let selector = spawn(&world, |world| {
            let (event, mut keys) = (world.0[0].event(), Vec::new());
            let both = || [&event, &event].into_iter();
            loop {
                EventCount::listen_to_all(both(), &mut keys);
                if world.0[0].try_take().is_some() {
                    break;
                }
                EventCount::wait_any(both().zip(keys.iter().copied()), None, Duration::MAX);
                if world.0[0].try_take().is_some() {
                    event.pass_on(keys[1]);
                    break;
                }
            }
        });
        let receiver = spawn(&world, |world| world.0[0].take());
        (0..2).for_each(|_| world.0[0].send());
        join_all([selector, receiver]);
    });
}
