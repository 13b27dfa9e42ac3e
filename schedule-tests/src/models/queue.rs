//! A queue: the MPMC ring, its pool and its repair, as `src/queue/` drives them.
//!
//! Each message that was sent is received once, or counted as lost if its receiver was killed.
//! Messages of one sender arrive in order. So do two messages if the send of the second began after
//! the send of the first had ended. No message is torn and no block has two owners. In the end
//! everything is repaired: each slot, block and record can be used again. Nobody sleeps while there
//! is a message, or space, for it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::{Fences, Futex, Heap, Word, Words, announce_missing_membarrier, wait};
use crate::primitive::{AtomicU64, Ordering, fence};
use crate::raw::mpmc::repair::{Repair, RepairLog};
use crate::raw::mpmc::{self, Pop, Push, Ring};
use crate::raw::pool::{BlockRef, Pool};
use crate::world::{self, NewParticipant, Random, Scene, Settings, is_locked, now, pause, try_lock, unlock};

const RECORDS: usize = 8;
/// The control word, the message's number, its block, the block's owner word, and the number's
/// complement.
const STRIDE: usize = 5;

// File locks below RECORDS are those of the records.
const MEMBERSHIP_LOCK: usize = RECORDS;
const REPAIR: usize = RECORDS + 1;

// The states of a record, as in src/region/participant.rs.
const PRESENT: u64 = 1;
const LEFT: u64 = 2;
const REPAIRED: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Sender,
    Receiver,
    /// Both, without blocking.
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
    roles: Words,
    changes: Word,
    lost: Word,
    verdict: Word,
    count: Word,
    owners: Words,
    /// The contents of the blocks.
    blocks: Words,
    readable: Futex,
    writable: Futex,
    blocks_freed: Futex,
    capacity: u64,
    /// Receivers take blocks over, and read them in place for a while.
    in_place: bool,
    expected: Rc<RefCell<Expected>>,
}

#[derive(Clone, Copy, Default)]
struct Sending {
    began: u64,
    /// Set once it was certainly sent.
    ended: Option<u64>,
    index: u64,
}

#[derive(Clone, Copy)]
struct Receiving {
    began: u64,
    ended: u64,
}

/// What the checker knows and the queue does not.
#[derive(Default)]
struct Expected {
    sendings: BTreeMap<u64, Sending>,
    receivings: BTreeMap<u64, Receiving>,
    /// The participant that has read each message, even if it did not finish receiving it.
    read_by: BTreeMap<u64, usize>,
    empties: Vec<(u64, u64)>,
    /// Senders and receivers that are still to join.
    pending: [u64; 2],
    /// Participants that have started and not joined yet.
    joining: BTreeMap<usize, Role>,
    /// The record of each participant that has joined.
    records: BTreeMap<usize, usize>,
}

/// A message's number: its sender's, and its own among that sender's messages.
fn number(id: usize, index: u64) -> u64 {
    (id as u64 + 1) << 32 | index
}

fn block_ref(payload: &[AtomicU64]) -> BlockRef {
    BlockRef { block: payload[1].load(Ordering::Relaxed), owner: payload[2].load(Ordering::Relaxed) }
}

impl Queue {
    fn new(capacity: u64, blocks: u64, in_place: bool) -> Self {
        let queue = Self {
            tail: Word::new("tail"),
            head: Word::new("head"),
            slots: Words::new("slot word", capacity as usize * STRIDE),
            marks: Words::new("mark", capacity as usize),
            intents: (0..RECORDS).map(|_| Word::new("intent")).collect(),
            states: Words::new("state", RECORDS),
            roles: Words::new("part", RECORDS),
            changes: Word::new("changes"),
            lost: Word::new("lost"),
            verdict: Word::new("verdict"),
            count: Word::new("count"),
            owners: Words::new("owner", blocks as usize),
            blocks: Words::new("block", blocks as usize),
            readable: Futex::new("readable"),
            writable: Futex::new("writable"),
            blocks_freed: Futex::new("roomy"),
            capacity,
            in_place,
            expected: Rc::default(),
        };
        queue.words().format();
        queue
    }

    fn words(&self) -> mpmc::RingWords<Heap> {
        mpmc::RingWords {
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

    fn state(&self, record: usize) -> u64 {
        self.states[record].load(Ordering::Acquire)
    }

    /// Whether a record is present although its lock is free.
    fn is_dead(&self, record: usize, own: Option<usize>) -> bool {
        Some(record) != own && self.state(record) == PRESENT && !is_locked(record) && {
            fence(Ordering::SeqCst);
            // Check again: the record may have a new owner by now.
            self.state(record) == PRESENT && !is_locked(record)
        }
    }

    fn wake_all(&self) {
        for event in [&self.readable, &self.writable, &self.blocks_freed] {
            event.event().wake(u32::MAX);
        }
    }

    /// Repairs as src/queue/repair.rs does, without a budget.
    fn repair(&self, own: Option<usize>) {
        if self.verdict.load(Ordering::Relaxed) == 0 && !(0..RECORDS).any(|record| self.is_dead(record, own)) {
            return;
        }
        if !try_lock(REPAIR) {
            return;
        }
        let (words, pool) = (self.words(), self.pool());
        let log = RepairLog {
            lost: self.lost.clone(),
            pending_position: self.verdict.clone(),
            pending_lost: self.count.clone(),
        };
        let repair = Repair {
            words: &words,
            log: &log,
            intents: &|record| self.intents.get(record).cloned(),
            is_alive: &|record| Some(Some(record) == own || is_locked(record)),
            spend: &|_| true,
        };
        let discard = |payload: &[AtomicU64]| {
            pool.free(block_ref(payload));
        };
        repair.resume().expect("valid words");
        let mut repaired = 0;
        let dead: Vec<usize> = (0..RECORDS).filter(|&record| self.is_dead(record, own)).collect();
        for record in dead {
            let is_whole = repair.release_dead(&[record], discard) == [true];
            let remove_sent = |block_refs: &mut Vec<BlockRef>| {
                let mut sent = Vec::new();
                words.for_each_message(|payload| sent.push(block_ref(payload))).expect("valid words");
                block_refs.retain(|block_ref| !sent.contains(block_ref));
            };
            pool.free_unsent(record, remove_sent, |block_ref| _ = pool.free(block_ref));
            if is_whole {
                self.states[record].store(REPAIRED, Ordering::Release);
                repaired += 1;
                world::count("repaired");
            } else {
                world::count("put off");
            }
        }
        unlock(REPAIR);
        if repaired > 0 {
            words.advance_over_skipped(u64::MAX);
            self.wake_all();
        }
    }

    /// Returns a record for a newcomer.
    fn join(&self, role: Role) -> usize {
        self.repair(None);
        while !try_lock(MEMBERSHIP_LOCK) {
            pause();
        }
        let record = loop {
            let is_free = |record: &usize| self.state(*record) != PRESENT;
            match (0..RECORDS).find(|record| is_free(record) && try_lock(*record)) {
                Some(record) => break record,
                None => self.repair(None),
            }
        };
        self.roles[record].store(role as u64, Ordering::Relaxed);
        self.states[record].store(PRESENT, Ordering::Release);
        unlock(MEMBERSHIP_LOCK);
        assert_eq!(self.intents[record].load(Ordering::Relaxed), 0, "record {record} is free, and is not repaired");
        record
    }

    fn leave(&self, record: usize, role: Role) {
        assert_eq!(self.intents[record].load(Ordering::Relaxed), 0, "an operation is over, and its intent is not");
        self.repair(Some(record));
        self.words().advance_over_skipped(u64::MAX);
        self.states[record].store(LEFT, Ordering::Release);
        self.changes.fetch_add(1, Ordering::AcqRel);
        if !self.is_present(role) {
            self.wake_all();
        }
        unlock(record);
    }

    /// Whether a participant of that role is there, dead or alive.
    fn is_present(&self, role: Role) -> bool {
        (0..RECORDS)
            .any(|record| self.state(record) == PRESENT && self.roles[record].load(Ordering::Relaxed) == role as u64)
    }

    /// Whether there is no participant of that role left to wait for.
    fn is_over(&self, role: Role) -> bool {
        !self.is_present(role) && self.expected.borrow().pending[role as usize] == 0
    }
}

struct Participant {
    id: usize,
    record: usize,
    role: Role,
    queue: Queue,
    random: Random,
    /// The number of the next message.
    next: u64,
    ring: Ring<Heap>,
    /// Messages that are read in place.
    held: Vec<(u64, BlockRef)>,
}

impl Participant {
    fn run(queue: Queue, role: Role, mut random: Random, operations: u64) {
        let record = queue.join(role);
        queue.expected.borrow_mut().joined(world::me());
        queue.expected.borrow_mut().records.insert(world::me(), record);
        announce_missing_membarrier([&queue.readable, &queue.writable, &queue.blocks_freed]);
        let ring = Ring::new(queue.words(), 0, queue.intents[record].clone(), random.below(3) as u32);
        let mix = random.among(&[1, 2, 2, 3]);
        let mut participant = Self { id: world::me(), record, role, queue, random, next: 0, ring, held: Vec::new() };
        for _ in 0..operations {
            if participant.random.one_in(16) {
                participant.queue.repair(Some(record));
            }
            let goes_on = match role {
                Role::Sender => participant.send(true),
                Role::Receiver => participant.receive(true),
                Role::Busy if participant.random.below(4) < mix => participant.send(false),
                Role::Busy => participant.receive(false),
            };
            if !goes_on {
                break;
            }
        }
        participant.drop_held();
        participant.queue.leave(record, role);
    }

    /// Sleeps on `wait_event` until an attempt succeeds. Returns None if there is nobody to wait
    /// for, or if it gave up.
    fn wait<R>(
        &mut self,
        wait_event: Futex,
        other: Role,
        mut attempt: impl FnMut(&mut Self) -> Option<R>,
    ) -> Option<R> {
        let mut random = Random::new(self.random.below(u64::MAX));
        let has_deadline = self.random.one_in(4);
        let (queue, record) = (self.queue.clone(), self.record);
        let check_liveness = || queue.repair(Some(record));
        let found = wait(&wait_event.event(), &mut random, has_deadline, check_liveness, || {
            // Before the attempt: messages sent before the end must still be received.
            let is_over = self.queue.is_over(other);
            match attempt(self) {
                None if !is_over => None,
                done => Some(done),
            }
        });
        found.flatten()
    }

    /// Sends some messages and returns whether to go on.
    fn send(&mut self, blocks_until_done: bool) -> bool {
        let count = if self.random.one_in(3) { 2 + self.random.below(3) } else { 1 };
        let mut written: Vec<(u64, BlockRef)> = Vec::new();
        for _ in 0..count {
            let take = |this: &mut Self| {
                let blocks = this.queue.owners.len() as u64;
                let hint = this.random.below(blocks);
                this.queue.pool().allocate(this.record, 0, blocks, hint)
            };
            // A sender that waits for a block holds none that others may wait for.
            let block_ref = match blocks_until_done && written.is_empty() {
                true => self.wait(self.queue.blocks_freed.clone(), Role::Receiver, take),
                false => take(self),
            };
            let Some(block_ref) = block_ref else { break };
            let number = number(self.id, self.next);
            self.next += 1;
            self.queue.blocks[block_ref.block as usize].store(number, Ordering::Relaxed);
            written.push((number, block_ref));
        }
        if written.is_empty() {
            return !blocks_until_done;
        }
        let began = now();
        for ((number, _), index) in written.iter().zip(0..) {
            self.queue.expected.borrow_mut().sendings.insert(*number, Sending { began, ended: None, index });
        }
        let push = |this: &mut Self| match this.push(&written) {
            Push::Done(sent) => Some(sent as usize),
            Push::Full => {
                world::count("full");
                None
            }
            Push::Closed => panic!("nobody has closed it"),
        };
        let sent =
            if blocks_until_done { self.wait(self.queue.writable.clone(), Role::Receiver, push) } else { push(self) };
        let sent = sent.unwrap_or(0);
        if sent > 0 {
            self.queue.readable.event().notify(sent as u32);
        }
        let ended = now();
        world::count_by("sent", sent as u64);
        for (number, _) in &written[..sent] {
            self.queue.expected.borrow_mut().sendings.entry(*number).or_default().ended = Some(ended);
        }
        for (number, block_ref) in &written[sent..] {
            assert!(self.queue.pool().free(*block_ref), "somebody freed a block that was not sent: {number:#x}");
            self.queue.expected.borrow_mut().sendings.remove(number);
        }
        if sent < written.len() {
            self.queue.blocks_freed.event().notify(u32::MAX);
        }
        !blocks_until_done || sent > 0
    }

    fn push(&mut self, written: &[(u64, BlockRef)]) -> Push {
        let fill = |index: u64, payload: &[AtomicU64]| {
            let (number, block_ref) = written[index as usize];
            let words = [number, block_ref.block, block_ref.owner, !number];
            words.iter().zip(payload).for_each(|(word, at)| at.store(*word, Ordering::Relaxed));
        };
        if written.len() == 1
            && self.random.one_in(2)
            && self.ring.try_push_uncontended(3, |payload| fill(0, payload)).expect("valid words")
        {
            return Push::Done(1);
        }
        self.ring.push_many(written.len() as u64, fill).expect("valid words")
    }

    /// Frees what is read in place.
    fn drop_held(&mut self) {
        let has_any = !self.held.is_empty();
        for (number, block_ref) in self.held.drain(..) {
            let content = self.queue.blocks[block_ref.block as usize].load(Ordering::Relaxed);
            assert_eq!(content, number, "the block was written while it was read");
            assert!(self.queue.pool().free(block_ref), "{number:#x}: somebody else freed its block");
            world::count("read in place");
        }
        if has_any {
            self.queue.blocks_freed.event().notify(u32::MAX);
        }
    }

    /// Receives some messages and returns whether to go on.
    fn receive(&mut self, blocks_until_done: bool) -> bool {
        let count = if self.random.one_in(3) { 2 + self.random.below(3) } else { 1 };
        // A receiver that holds blocks while it waits may wait for a sender that waits for one.
        self.drop_held();
        let pop = |this: &mut Self| match this.pop(count) {
            Pop::Done(received) => Some(received),
            Pop::Empty => None,
            Pop::Drained => panic!("nobody has closed it"),
        };
        let received =
            if blocks_until_done { self.wait(self.queue.readable.clone(), Role::Sender, pop) } else { pop(self) };
        let Some(received) = received else { return !blocks_until_done };
        self.queue.writable.event().notify(received as u32);
        self.queue.blocks_freed.event().notify(u32::MAX);
        world::count_by("received", received);
        true
    }

    fn pop(&mut self, count: u64) -> Pop {
        let began = now();
        let (mut numbers, mut held) = (Vec::new(), Vec::new());
        let queue = self.queue.clone();
        let mut take = |payload: &[AtomicU64]| {
            let number = payload[0].load(Ordering::Relaxed);
            let block_ref = block_ref(payload);
            let mut expected = queue.expected.borrow_mut();
            assert!(expected.sendings.contains_key(&number), "{number:#x} was not sent");
            assert_eq!(expected.read_by.insert(number, self.id), None, "{number:#x} is received twice");
            drop(expected);
            let content = &queue.blocks[block_ref.block as usize];
            assert_eq!(content.load(Ordering::Relaxed), number, "the block holds somebody else's message");
            assert_eq!(payload[3].load(Ordering::Relaxed), !number, "torn");
            assert_eq!(payload[0].load(Ordering::Relaxed), number, "overwritten while it was read");
            if queue.in_place {
                let own = queue.pool().take_over(block_ref, self.record);
                held.push((number, own.expect("somebody else freed its block")));
            } else {
                assert!(queue.pool().free(block_ref), "{number:#x}: somebody else freed its block");
            }
            numbers.push(number);
        };
        let outcome = if count == 1
            && self.random.one_in(2)
            && self.ring.try_pop_uncontended(&mut take).expect("valid words").is_some()
        {
            Pop::Done(1)
        } else {
            self.ring.pop_many(count, |_, payload| take(payload)).expect("valid words")
        };
        self.held.extend(held);
        let ended = now();
        let mut expected = self.queue.expected.borrow_mut();
        let done = if let Pop::Done(count) = outcome { count } else { 0 };
        assert_eq!(numbers.len() as u64, done);
        if done == 0 {
            expected.empties.push((began, ended));
        }
        expected.receivings.extend(numbers.into_iter().map(|number| (number, Receiving { began, ended })));
        outcome
    }
}

struct QueueScene {
    queue: Queue,
    roles: Vec<Role>,
    fences: Fences,
    number: usize,
    /// Only participants with a claim, or about to claim, are killed.
    kills_claimants: bool,
}

pub(crate) fn build(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    build_queue(random, false)
}

pub(crate) fn build_in_place(random: &mut Random) -> (Box<dyn Scene>, Settings) {
    build_queue(random, true)
}

fn build_queue(random: &mut Random, in_place: bool) -> (Box<dyn Scene>, Settings) {
    let capacity = random.among(&[2, 2, 2, 4, 8]);
    let blocks = random.among(&[1, capacity, capacity + 1, capacity + 3, 2 * capacity]);
    let queue = Queue::new(capacity, blocks, in_place);
    let concurrent = 2 + random.below(4) as usize;
    let others = random.below(4);
    let choices: &[Role] = random.among(&[
        &[Role::Sender, Role::Receiver][..],
        &[Role::Sender, Role::Receiver, Role::Busy],
        &[Role::Busy],
        &[Role::Busy],
    ]);
    let roles: Vec<Role> = (0..concurrent as u64 + others).map(|_| random.among(choices)).collect();
    for role in [Role::Sender, Role::Receiver] {
        let count = roles.iter().filter(|other| **other == role).count();
        queue.expected.borrow_mut().pending[role as usize] = count as u64;
    }
    let kills = random.among(&[0, 0, 1, 2, 3, 4]);
    let fences = Fences::choose(random);
    (
        Box::new(QueueScene { queue, roles, fences, number: 0, kills_claimants: random.one_in(2) }),
        Settings { concurrent, max: RECORDS, kills, timeouts: random.one_in(3) },
    )
}

impl Scene for QueueScene {
    fn has_next(&self) -> bool {
        !self.roles.is_empty()
    }

    fn next(&mut self, random: &mut Random) -> Option<NewParticipant> {
        let role = self.roles.pop()?;
        self.queue.expected.borrow_mut().joining.insert(self.number, role);
        let (queue, own, operations) = (self.queue.clone(), Random::new(random.below(u64::MAX)), 2 + random.below(10));
        let membarrier = self.fences.has_membarrier(self.number);
        self.number += 1;
        let body = move || Participant::run(queue, role, own, operations);
        Some(NewParticipant { membarrier, body: Box::new(body) })
    }

    fn may_kill(&self, id: usize) -> bool {
        let record = self.queue.expected.borrow().records.get(&id).copied();
        !self.kills_claimants || record.is_some_and(|record| self.queue.intents[record].load(Ordering::Relaxed) != 0)
    }

    fn killed(&mut self, id: usize) {
        self.queue.expected.borrow_mut().joined(id);
    }

    fn finish(&mut self) {
        let queue = &self.queue;
        // No live claim is left that could put a repair off.
        queue.repair(None);
        assert!((0..RECORDS).all(|record| queue.state(record) != PRESENT), "a record was not repaired");
        assert!(queue.intents.iter().all(|intent| intent.load(Ordering::Relaxed) == 0), "a claim was not repaired");
        assert_eq!(queue.words().quarantined(), 0, "a slot stays in quarantine");
        let mut ring: Ring<Heap> = Ring::new(queue.words(), 0, queue.intents[0].clone(), 1);
        let pool = queue.pool();
        loop {
            let began = now();
            let mut found = None;
            let outcome = ring.pop(|payload| found = Some((payload[0].load(Ordering::Relaxed), block_ref(payload))));
            let (Ok(Pop::Done(1)), Some((number, block_ref))) = (outcome, found) else {
                assert_eq!(outcome, Ok(Pop::Empty));
                break;
            };
            let mut expected = queue.expected.borrow_mut();
            assert_eq!(expected.read_by.insert(number, usize::MAX), None, "{number:#x} is received twice");
            assert_eq!(queue.blocks[block_ref.block as usize].load(Ordering::Relaxed), number);
            assert!(pool.free(block_ref), "{number:#x}: its block was freed");
            expected.receivings.insert(number, Receiving { began, ended: now() });
        }
        assert_eq!(pool.allocated(), 0, "a block is missing");
        let lost = queue.lost.load(Ordering::Relaxed);
        for _ in 0..queue.capacity {
            assert_eq!(ring.push(|_| ()), Ok(Push::Done(1)), "a slot is missing");
        }
        assert_eq!(ring.push(|_| ()), Ok(Push::Full));
        world::count_by("lost", lost);
        queue.expected.borrow().check(lost);
    }
}

impl Expected {
    /// Notes that a participant has joined, or was killed before.
    fn joined(&mut self, id: usize) {
        if let Some(Role::Sender | Role::Receiver) = self.joining.get(&id) {
            let role = self.joining[&id];
            self.pending[role as usize] -= 1;
        }
        self.joining.remove(&id);
    }

    fn check(&self, lost: u64) {
        let is_missing = |number: &u64| !self.receivings.contains_key(number);
        let (sent, doubtful): (Vec<_>, Vec<_>) = self.sendings.iter().partition(|(_, sending)| sending.ended.is_some());
        let missing: Vec<u64> = sent.iter().map(|(number, _)| **number).filter(is_missing).collect();
        // What a killed participant was about to send may have been sent.
        let doubtful = doubtful.iter().filter(|(number, _)| is_missing(number)).count() as u64;
        let unread = missing.iter().filter(|number| !self.read_by.contains_key(number)).count() as u64;
        assert!(unread <= lost, "{unread} messages vanished, {lost} are counted as lost: {missing:x?}");
        assert!(
            lost <= missing.len() as u64 + doubtful,
            "{lost} are counted as lost: {missing:x?}, {doubtful} in doubt"
        );
        if !world::has_killed() {
            assert_eq!((missing.len(), lost), (0, 0), "nobody was killed, and messages are missing: {missing:x?}");
        }
        self.check_order();
        // A message in a store buffer is not visible yet, and a participant without membarrier does
        // not look behind a slow sender.
        if !world::has_store_buffers() && world::all_have_membarrier() {
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
