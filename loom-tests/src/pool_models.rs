//! Models of the pool: `src/raw/pool.rs`. A word stands for the payload in a place, another for the one message that names it.

use super::*;
use crate::raw::pool::{Pool, Token};

const VICTIM: usize = 0;
const OTHER: usize = 1;

/// A pool of one place, and a slot for one message.
#[derive(Clone)]
struct World {
    owners: SharedWords,
    payload: Shared<AtomicU64>,
    /// 0: no message; else the owner's word of the token that is sent.
    sent: Shared<AtomicU64>,
}

impl World {
    fn new() -> Self {
        Self { owners: SharedWords(Arc::new(vec![AtomicU64::new(0)])), payload: word(), sent: word() }
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.owners.clone())
    }

    fn take(&self, lane: usize) -> Option<Token> {
        self.pool().take(lane, 0, 1, 0)
    }

    /// Takes the place, fills it and sends it off.
    fn send(&self, lane: usize, value: u64) -> bool {
        let Some(token) = self.take(lane) else { return false };
        self.payload.store(value, Ordering::Relaxed);
        self.sent.store(token.owner, Ordering::Release);
        true
    }

    /// Reads the message that is there, and gives its place back; the message goes last, as a slot does.
    fn receive(&self) -> Option<u64> {
        let owner = self.sent.load(Ordering::Acquire);
        if owner == 0 {
            return None;
        }
        let value = self.payload.load(Ordering::Relaxed);
        assert!(self.pool().give_back(Token { place: 0, owner }), "given back by another");
        let _ = self.sent.compare_exchange(owner, 0, Ordering::Release, Ordering::Relaxed);
        Some(value)
    }

    fn reclaim(&self, lane: usize) {
        let take_out = |tokens: &mut Vec<Token>| {
            let sent = self.sent.load(Ordering::Acquire);
            tokens.retain(|token| token.owner != sent);
        };
        let pool = self.pool();
        pool.reclaim(lane, take_out, |token| {
            pool.give_back(token);
        });
    }
}

#[test]
fn a_place_is_taken_by_one() {
    model(|| {
        let world = World::new();
        let other = thread::spawn({
            let world = world.clone();
            move || world.take(OTHER)
        });
        let tokens = [world.take(VICTIM), other.join().unwrap()];
        assert_eq!(tokens.iter().flatten().count(), 1);
        assert_eq!(world.pool().taken(), 1);
    });
}

/// The receiver, and a repairer who counts the message as lost, both give it back; the next owner keeps what it took.
#[test]
fn a_place_is_given_back_once() {
    model(|| {
        let world = World::new();
        let token = world.take(VICTIM).unwrap();
        let again = thread::spawn({
            let world = world.clone();
            move || {
                let first = world.pool().give_back(token);
                // The same lane again: only the generation tells the tokens apart.
                let taken = world.take(VICTIM);
                (first, taken)
            }
        });
        let second = world.pool().give_back(token);
        let (first, taken) = again.join().unwrap();
        assert!(first ^ second, "given back {} times", u32::from(first) + u32::from(second));
        assert!(world.pool().is_out(taken.unwrap()), "the next owner was robbed");
        assert!(!world.pool().is_out(token));
    });
}

#[test]
fn a_place_is_read_before_it_is_written_again() {
    model(|| {
        let world = World::new();
        assert!(world.send(VICTIM, 1));
        let next = thread::spawn({
            let world = world.clone();
            move || world.take(OTHER).is_some_and(|_| world.payload.load(Ordering::Relaxed) == 2)
        });
        // The reader leaves a mark of its own: who takes the place after it must find that.
        assert_eq!(world.payload.load(Ordering::Relaxed), 1);
        world.payload.store(2, Ordering::Relaxed);
        let token = Token { place: 0, owner: world.sent.load(Ordering::Relaxed) };
        assert!(world.pool().give_back(token));
        let seen = next.join().unwrap();
        assert!(seen || world.take(VICTIM).is_some(), "taken, and written before it was read");
    });
}

/// A sender dies at any access while a receiver takes what it finds; after repair the place is free, or in a message.
#[test]
fn what_a_killed_sender_took_is_free_or_sent() {
    for_every_kill(20, |accesses, done| {
        let world = World::new();
        let victim = thread::spawn({
            let world = world.clone();
            move || crash_after(accesses, || assert!(world.send(VICTIM, 7)))
        });
        let receiver = thread::spawn({
            let world = world.clone();
            move || world.receive()
        });
        let finished = victim.join().unwrap();
        // The receiver may still be at it.
        world.reclaim(VICTIM);
        let received = receiver.join().unwrap();
        assert!(received.is_none_or(|value| value == 7));
        if world.sent.load(Ordering::Acquire) != 0 {
            assert_eq!(world.receive(), Some(7), "the place of a message was given away");
        }
        assert!(world.take(OTHER).is_some(), "the place is lost");
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}
