//! A queue: the ring for many, its pool, its repair, as `src/lanes.rs` and `src/parcels.rs` drive them.
//!
//! Each message that was sent is received once, or counted as lost if its receiver was killed. Messages of one sender come in
//! order, and so do any two of which one was sent before the sending of the other began. Nothing is torn, no place of the
//! pool is in two hands. In the end everything is repaired: each slot, each place and each lane serves again. Nobody sleeps
//! while there is a message, or room, for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, prepare, wait};
use crate::raw::mpmc::{self, Ledger, Pop, Push, Repair, Ring};
use crate::raw::pool::{Pool, Token};
use crate::sync::{AtomicU64, Ordering, fence};
use crate::world::{self, Conduct, Newcomer, Random, Scene, is_locked, now, pause, try_lock, unlock};

const LANES: usize = 8;
/// The control word, the message's number, its place, the place's owner, and the number's complement.
const STRIDE: usize = 5;

// Of the kernel's locks those below LANES are the lanes'.
const ADMISSION: usize = LANES;
const REPAIR: usize = LANES + 1;

// What a lane's record says, as in src/liveness.rs.
const PRESENT: u64 = 1;
const LEFT: u64 = 2;
const REPAIRED: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Sender,
    Receiver,
    /// Both, without ever waiting.
    Busy,
}

#[derive(Clone)]
struct Queue {
    tail: Word,
    head: Word,
    slots: Words,
    marks: Words,
    intents: Vec<Word>,
    states: Words,
    parts: Words,
    changes: Word,
    lost: Word,
    verdict: Word,
    count: Word,
    owners: Words,
    /// What the places hold.
    places: Words,
    readable: Futex,
    writable: Futex,
    roomy: Futex,
    capacity: u64,
    judge: Rc<RefCell<Judge>>,
}

#[derive(Clone, Copy, Default)]
struct Sending {
    began: u64,
    /// Once it was sent for certain.
    ended: Option<u64>,
    index: u64,
}

#[derive(Clone, Copy)]
struct Receiving {
    began: u64,
    ended: u64,
}

/// What the participants tell, and the queue does not know.
#[derive(Default)]
struct Judge {
    sendings: BTreeMap<u64, Sending>,
    receivings: BTreeMap<u64, Receiving>,
    /// By message, who has read it, whether or not the receiving came to its end.
    read_by: BTreeMap<u64, usize>,
    empties: Vec<(u64, u64)>,
    /// Senders and receivers that are still to come.
    to_come: [u64; 2],
    /// Who is about to take a lane.
    joining: BTreeMap<usize, Part>,
    /// The lane of each who has one.
    lanes: BTreeMap<usize, usize>,
}

/// The participant's number, and the message's among its own.
fn number(who: usize, index: u64) -> u64 {
    (who as u64 + 1) << 32 | index
}

fn token(payload: &[AtomicU64]) -> Token {
    Token { place: payload[1].load(Ordering::Relaxed), owner: payload[2].load(Ordering::Relaxed) }
}

impl Queue {
    fn new(capacity: u64, places: u64) -> Self {
        let queue = Self {
            tail: Word::new("tail"),
            head: Word::new("head"),
            slots: Words::new("slot word", capacity as usize * STRIDE),
            marks: Words::new("mark", capacity as usize),
            intents: (0..LANES).map(|_| Word::new("intent")).collect(),
            states: Words::new("state", LANES),
            parts: Words::new("part", LANES),
            changes: Word::new("changes"),
            lost: Word::new("lost"),
            verdict: Word::new("verdict"),
            count: Word::new("count"),
            owners: Words::new("owner", places as usize),
            places: Words::new("place", places as usize),
            readable: Futex::new("readable"),
            writable: Futex::new("writable"),
            roomy: Futex::new("roomy"),
            capacity,
            judge: Rc::default(),
        };
        queue.words().format();
        queue
    }

    fn words(&self) -> mpmc::Words<Heap> {
        mpmc::Words {
            tail: self.tail.clone(),
            head: self.head.clone(),
            slots: self.slots.clone(),
            marks: self.marks.clone(),
            capacity: self.capacity,
            stride: STRIDE,
        }
    }

    fn pool(&self) -> Pool<Heap> {
        Pool::new(self.owners.clone())
    }

    fn state(&self, lane: usize) -> u64 {
        self.states[lane].load(Ordering::Acquire)
    }

    /// The record says that somebody is there, and the kernel, that nobody is.
    fn is_dead(&self, lane: usize, own: Option<usize>) -> bool {
        Some(lane) != own && self.state(lane) == PRESENT && !is_locked(lane) && {
            fence(Ordering::SeqCst);
            // Again: the record may be a successor's by now.
            self.state(lane) == PRESENT && !is_locked(lane)
        }
    }

    fn wake_everybody(&self) {
        for event in [&self.readable, &self.writable, &self.roomy] {
            event.event().wake(u32::MAX);
        }
    }

    /// As `Region::tend` of src/lanes.rs, without a budget.
    fn repair(&self, own: Option<usize>) {
        if self.verdict.load(Ordering::Relaxed) == 0 && !(0..LANES).any(|lane| self.is_dead(lane, own)) {
            return;
        }
        if !try_lock(REPAIR) {
            return;
        }
        let (words, pool) = (self.words(), self.pool());
        let ledger = Ledger { lost: self.lost.clone(), verdict: self.verdict.clone(), count: self.count.clone() };
        let repair = Repair {
            words: &words,
            ledger: &ledger,
            intents: &|lane| self.intents.get(lane).cloned(),
            alive: &|lane| Some(Some(lane) == own || is_locked(lane)),
            spend: &|_| true,
        };
        let lose = |payload: &[AtomicU64]| {
            pool.give_back(token(payload));
        };
        repair.resume().expect("no damage");
        let mut serve_again = 0;
        let dead: Vec<usize> = (0..LANES).filter(|&lane| self.is_dead(lane, own)).collect();
        for lane in dead {
            let whole = repair.lanes(&[lane], lose) == [true];
            let take_out = |tokens: &mut Vec<Token>| {
                let mut sent = Vec::new();
                words.for_each_message(|payload| sent.push(token(payload))).expect("no damage");
                tokens.retain(|token| !sent.contains(token));
            };
            pool.reclaim(lane, take_out, |token| _ = pool.give_back(token));
            if whole {
                self.states[lane].store(REPAIRED, Ordering::Release);
                serve_again += 1;
                world::count("repaired");
            } else {
                world::count("put off");
            }
        }
        unlock(REPAIR);
        if serve_again > 0 {
            words.settle(u64::MAX);
            self.wake_everybody();
        }
    }

    /// A lane of its own for a newcomer.
    fn join(&self, part: Part) -> usize {
        self.repair(None);
        while !try_lock(ADMISSION) {
            pause();
        }
        let lane = loop {
            let is_free = |lane: &usize| self.state(*lane) != PRESENT;
            match (0..LANES).find(|lane| is_free(lane) && try_lock(*lane)) {
                Some(lane) => break lane,
                None => self.repair(None),
            }
        };
        self.parts[lane].store(part as u64, Ordering::Relaxed);
        self.states[lane].store(PRESENT, Ordering::Release);
        unlock(ADMISSION);
        assert_eq!(self.intents[lane].load(Ordering::Relaxed), 0, "lane {lane} serves again, and is not repaired");
        lane
    }

    fn leave(&self, lane: usize, part: Part) {
        assert_eq!(self.intents[lane].load(Ordering::Relaxed), 0, "an operation is over, and its intent is not");
        self.repair(Some(lane));
        self.words().settle(u64::MAX);
        self.states[lane].store(LEFT, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
        if !self.is_anybody_there(part) {
            self.wake_everybody();
        }
        unlock(lane);
    }

    /// Whether a lane is held by that part, dead or alive.
    fn is_anybody_there(&self, part: Part) -> bool {
        (0..LANES).any(|lane| self.state(lane) == PRESENT && self.parts[lane].load(Ordering::Relaxed) == part as u64)
    }

    /// Whether it makes no sense to wait for that part any more.
    fn is_over(&self, part: Part) -> bool {
        !self.is_anybody_there(part) && self.judge.borrow().to_come[part as usize] == 0
    }
}

struct Participant {
    who: usize,
    lane: usize,
    part: Part,
    queue: Queue,
    random: Random,
    /// Of the next message.
    next: u64,
    ring: Ring<Heap>,
}

impl Participant {
    fn live(queue: Queue, part: Part, mut random: Random, operations: u64) {
        let lane = queue.join(part);
        queue.judge.borrow_mut().has_come(world::me());
        queue.judge.borrow_mut().lanes.insert(world::me(), lane);
        prepare([&queue.readable, &queue.writable, &queue.roomy]);
        let ring = Ring::new(queue.words(), 0, queue.intents[lane].clone(), random.below(3) as u32);
        let mix = random.among(&[1, 2, 2, 3]);
        let mut participant = Self { who: world::me(), lane, part, queue, random, next: 0, ring };
        for _ in 0..operations {
            if participant.random.one_in(16) {
                participant.queue.repair(Some(lane));
            }
            let goes_on = match part {
                Part::Sender => participant.send(true),
                Part::Receiver => participant.receive(true),
                Part::Busy if participant.random.below(4) < mix => participant.send(false),
                Part::Busy => participant.receive(false),
            };
            if !goes_on {
                break;
            }
        }
        participant.queue.leave(lane, part);
    }

    /// Sleeps on `ear` until an attempt succeeds. None: there is nobody to wait for, or it gave up.
    fn wait<R>(&mut self, ear: Futex, other: Part, mut attempt: impl FnMut(&mut Self) -> Option<R>) -> Option<R> {
        let mut random = Random::new(self.random.below(u64::MAX));
        let has_deadline = self.random.one_in(4);
        let (queue, lane) = (self.queue.clone(), self.lane);
        let ask = || queue.repair(Some(lane));
        let found = wait(&ear.event(), &mut random, has_deadline, ask, || {
            // First this: what was sent before the end is still to be had.
            let is_over = self.queue.is_over(other);
            match attempt(self) {
                None if !is_over => None,
                done => Some(done),
            }
        });
        found.flatten()
    }

    /// Sends some messages; whether to go on.
    fn send(&mut self, waits: bool) -> bool {
        let count = if self.random.one_in(3) { 2 + self.random.below(3) } else { 1 };
        let mut stowed: Vec<(u64, Token)> = Vec::new();
        for _ in 0..count {
            let take = |this: &mut Self| {
                let places = this.queue.owners.len() as u64;
                let hint = this.random.below(places);
                this.queue.pool().take(this.lane, 0, places, hint)
            };
            // Whoever waits for a place holds none that others may wait for.
            let token = match waits && stowed.is_empty() {
                true => self.wait(self.queue.roomy.clone(), Part::Receiver, take),
                false => take(self),
            };
            let Some(token) = token else { break };
            let number = number(self.who, self.next);
            self.next += 1;
            self.queue.places[token.place as usize].store(number, Ordering::Relaxed);
            stowed.push((number, token));
        }
        if stowed.is_empty() {
            return !waits;
        }
        let began = now();
        for ((number, _), index) in stowed.iter().zip(0..) {
            self.queue.judge.borrow_mut().sendings.insert(*number, Sending { began, ended: None, index });
        }
        let push = |this: &mut Self| match this.push(&stowed) {
            Push::Done(sent) => Some(sent as usize),
            Push::Full => {
                world::count("full");
                None
            }
            Push::Closed => panic!("nobody has closed it"),
        };
        let sent = if waits { self.wait(self.queue.writable.clone(), Part::Receiver, push) } else { push(self) };
        let sent = sent.unwrap_or(0);
        if sent > 0 {
            self.queue.readable.event().notify(sent as u32);
        }
        let ended = now();
        world::count_many("sent", sent as u64);
        for (number, _) in &stowed[..sent] {
            self.queue.judge.borrow_mut().sendings.entry(*number).or_default().ended = Some(ended);
        }
        for (number, token) in &stowed[sent..] {
            assert!(self.queue.pool().give_back(*token), "somebody gave back a place that was not sent: {number:#x}");
            self.queue.judge.borrow_mut().sendings.remove(number);
        }
        if sent < stowed.len() {
            self.queue.roomy.event().notify(u32::MAX);
        }
        !waits || sent > 0
    }

    fn push(&mut self, stowed: &[(u64, Token)]) -> Push {
        let fill = |index: u64, payload: &[AtomicU64]| {
            let (number, token) = stowed[index as usize];
            let words = [number, token.place, token.owner, !number];
            words.iter().zip(payload).for_each(|(word, at)| at.store(*word, Ordering::Relaxed));
        };
        if stowed.len() == 1
            && self.random.one_in(2)
            && self.ring.push_at_once(3, |payload| fill(0, payload)).expect("no damage")
        {
            return Push::Done(1);
        }
        self.ring.push_many(stowed.len() as u64, fill).expect("no damage")
    }

    /// Receives some messages; whether to go on.
    fn receive(&mut self, waits: bool) -> bool {
        let count = if self.random.one_in(3) { 2 + self.random.below(3) } else { 1 };
        let pop = |this: &mut Self| match this.pop(count) {
            Pop::Done(received) => Some(received),
            Pop::Empty => None,
            Pop::Drained => panic!("nobody has closed it"),
        };
        let received = if waits { self.wait(self.queue.readable.clone(), Part::Sender, pop) } else { pop(self) };
        let Some(received) = received else { return !waits };
        self.queue.writable.event().notify(received as u32);
        self.queue.roomy.event().notify(u32::MAX);
        world::count_many("received", received);
        true
    }

    fn pop(&mut self, count: u64) -> Pop {
        let began = now();
        let mut numbers = Vec::new();
        let queue = self.queue.clone();
        let mut take = |payload: &[AtomicU64]| {
            let number = payload[0].load(Ordering::Relaxed);
            let token = token(payload);
            let mut judge = queue.judge.borrow_mut();
            assert!(judge.sendings.contains_key(&number), "{number:#x} was not sent");
            assert_eq!(judge.read_by.insert(number, self.who), None, "{number:#x} is received twice");
            drop(judge);
            let place = &queue.places[token.place as usize];
            assert_eq!(place.load(Ordering::Relaxed), number, "the place holds somebody else's message");
            assert_eq!(payload[3].load(Ordering::Relaxed), !number, "torn");
            assert_eq!(payload[0].load(Ordering::Relaxed), number, "overwritten in its reader's hands");
            assert!(queue.pool().give_back(token), "{number:#x}: somebody else gave its place back");
            numbers.push(number);
        };
        let outcome =
            if count == 1 && self.random.one_in(2) && self.ring.pop_at_once(&mut take).expect("no damage").is_some() {
                Pop::Done(1)
            } else {
                self.ring.pop_many(count, |_, payload| take(payload)).expect("no damage")
            };
        let ended = now();
        let mut judge = self.queue.judge.borrow_mut();
        let done = if let Pop::Done(count) = outcome { count } else { 0 };
        assert_eq!(numbers.len() as u64, done);
        if done == 0 {
            judge.empties.push((began, ended));
        }
        judge.receivings.extend(numbers.into_iter().map(|number| (number, Receiving { began, ended })));
        outcome
    }
}

struct QueueScene {
    queue: Queue,
    parts: Vec<Part>,
    fences: Fences,
    number: usize,
    /// Only those are killed who have claimed something, or are about to.
    kills_claimants: bool,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Conduct) {
    let capacity = random.among(&[2, 2, 2, 4, 8]);
    let places = random.among(&[1, capacity, capacity + 1, capacity + 3, 2 * capacity]);
    let queue = Queue::new(capacity, places);
    let at_once = 2 + random.below(4) as usize;
    let others = random.below(4);
    let choices: &[Part] = random.among(&[
        &[Part::Sender, Part::Receiver][..],
        &[Part::Sender, Part::Receiver, Part::Busy],
        &[Part::Busy],
        &[Part::Busy],
    ]);
    let parts: Vec<Part> = (0..at_once as u64 + others).map(|_| random.among(choices)).collect();
    for part in [Part::Sender, Part::Receiver] {
        let count = parts.iter().filter(|other| **other == part).count();
        queue.judge.borrow_mut().to_come[part as usize] = count as u64;
    }
    let kills = random.among(&[0, 0, 1, 2, 3, 4]);
    let fences = Fences::choose(random);
    (
        Box::new(QueueScene { queue, parts, fences, number: 0, kills_claimants: random.one_in(2) }),
        Conduct { at_once, most: LANES, kills, slices: random.one_in(3) },
    )
}

impl Scene for QueueScene {
    fn has_more(&self) -> bool {
        !self.parts.is_empty()
    }

    fn next(&mut self, random: &mut Random) -> Option<Newcomer> {
        let part = self.parts.pop()?;
        self.queue.judge.borrow_mut().joining.insert(self.number, part);
        let (queue, own, operations) = (self.queue.clone(), Random::new(random.below(u64::MAX)), 2 + random.below(10));
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let life = move || Participant::live(queue, part, own, operations);
        Some(Newcomer { membarrier, life: Box::new(life) })
    }

    fn may_kill(&self, who: usize) -> bool {
        let lane = self.queue.judge.borrow().lanes.get(&who).copied();
        !self.kills_claimants || lane.is_some_and(|lane| self.queue.intents[lane].load(Ordering::Relaxed) != 0)
    }

    fn killed(&mut self, who: usize) {
        self.queue.judge.borrow_mut().has_come(who);
    }

    fn finish(&mut self) {
        let queue = &self.queue;
        // Nobody is there whose claims could put a repair off.
        queue.repair(None);
        assert!((0..LANES).all(|lane| queue.state(lane) != PRESENT), "a lane that nobody repairs");
        assert!(queue.intents.iter().all(|intent| intent.load(Ordering::Relaxed) == 0), "a claim that nobody repairs");
        assert_eq!(queue.words().quarantined(), 0, "a slot stays out of service");
        let mut ring: Ring<Heap> = Ring::new(queue.words(), 0, queue.intents[0].clone(), 1);
        let pool = queue.pool();
        loop {
            let began = now();
            let mut found = None;
            let outcome = ring.pop(|payload| found = Some((payload[0].load(Ordering::Relaxed), token(payload))));
            let (Ok(Pop::Done(1)), Some((number, token))) = (outcome, found) else {
                assert_eq!(outcome, Ok(Pop::Empty));
                break;
            };
            let mut judge = queue.judge.borrow_mut();
            assert_eq!(judge.read_by.insert(number, usize::MAX), None, "{number:#x} is received twice");
            assert_eq!(queue.places[token.place as usize].load(Ordering::Relaxed), number);
            assert!(pool.give_back(token), "{number:#x}: its place was given back");
            judge.receivings.insert(number, Receiving { began, ended: now() });
        }
        assert_eq!(pool.taken(), 0, "a place is missing");
        let lost = queue.lost.load(Ordering::Relaxed);
        for _ in 0..queue.capacity {
            assert_eq!(ring.push(|_| ()), Ok(Push::Done(1)), "a slot is missing");
        }
        assert_eq!(ring.push(|_| ()), Ok(Push::Full));
        world::count_many("lost", lost);
        queue.judge.borrow().check(lost);
    }
}

impl Judge {
    /// It has taken its lane, or was killed.
    fn has_come(&mut self, who: usize) {
        if let Some(Part::Sender | Part::Receiver) = self.joining.get(&who) {
            let part = self.joining[&who];
            self.to_come[part as usize] -= 1;
        }
        self.joining.remove(&who);
    }

    fn check(&self, lost: u64) {
        let is_missing = |number: &u64| !self.receivings.contains_key(number);
        let (sent, doubtful): (Vec<_>, Vec<_>) = self.sendings.iter().partition(|(_, sending)| sending.ended.is_some());
        let missing: Vec<u64> = sent.iter().map(|(number, _)| **number).filter(is_missing).collect();
        // Those that a killed participant was about to send may have been sent.
        let doubtful = doubtful.iter().filter(|(number, _)| is_missing(number)).count() as u64;
        let unread = missing.iter().filter(|number| !self.read_by.contains_key(number)).count() as u64;
        assert!(unread <= lost, "{unread} messages vanished, {lost} are counted as lost: {missing:x?}");
        assert!(
            lost <= missing.len() as u64 + doubtful,
            "{lost} are counted as lost: {missing:x?}, {doubtful} in doubt"
        );
        if !world::was_anybody_killed() {
            assert_eq!((missing.len(), lost), (0, 0), "nobody was killed, and messages are missing: {missing:x?}");
        }
        self.check_order();
        // What lies in a store buffer is not there yet, and whoever has no membarrier may find nothing behind a slow sender.
        if !world::has_store_buffers() && world::everybody_has_membarrier() {
            self.check_empties();
        }
    }

    fn received(&self) -> Vec<(u64, Sending, Receiving)> {
        let received = self.receivings.iter();
        received.filter_map(|(number, receiving)| Some((*number, *self.sendings.get(number)?, *receiving))).collect()
    }

    fn check_order(&self) {
        let received = self.received();
        for (first, first_sent, first_received) in &received {
            for (second, second_sent, second_received) in &received {
                let is_same_sender = first >> 32 == second >> 32 && first < second;
                let is_before = first_sent.ended.is_some_and(|ended| ended < second_sent.began);
                if (is_same_sender || is_before) && second_received.ended < first_received.began {
                    panic!("{first:#x} was sent before {second:#x}, and received after it");
                }
            }
        }
    }

    fn check_empties(&self) {
        let received = self.received();
        for (began, ended) in &self.empties {
            for (number, sent, received) in &received {
                let was_there = sent.ended.is_some_and(|sent| sent < *began) && received.began > *ended;
                assert!(!was_there, "Empty, while {number:#x} was there all the time ({began} to {ended})");
            }
        }
    }
}
