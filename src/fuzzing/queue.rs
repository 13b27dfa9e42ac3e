//! A queue with several handles, any word of whose region may change at any time. Until the first
//! change a plain queue says what must be received. From then on every call must return, and within
//! bounds.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytemuck::Pod;

use super::assert_in_time;
use super::input::{Input, payload, value};
use crate::error::{RecvError, SendError};
use crate::message::Message;
use crate::primitive::{AtomicU64, Ordering::Relaxed, WORD};
use crate::queue::endpoints::sealed::Attach;
use crate::queue::half::Half;
use crate::queue::membership::{self, Origin};
use crate::queue::participant::Role;
use crate::queue::state::QueueState;
use crate::queue::{self, Blocks, ByteReceiver, ByteSender, QueueEndpoint, Receiver, Sender, TaskDoneError};
use crate::region::Region;
use crate::region::layout::Layout;
use crate::region::layout::queue::{QueueLayout, control as words, own};
use crate::types::Shareable;
use crate::wait::{Timeout, WaitStrategy};

/// Handles of either role.
const HANDLES: usize = 2;
/// Many more than there are handles: invalid participants must not cost time.
const PARTICIPANTS: usize = 64;
/// Longer than any block by far.
const LARGE: usize = (1 << 20) + 5000;
/// The longest message of a small queue.
const LIMIT: usize = 1000;

/// A queue, its handles, and what must be received.
struct Harness<S: QueueEndpoint, R> {
    options: queue::Options<S::Message>,
    region: Region,
    senders: [Option<S>; HANDLES],
    receivers: [Option<R>; HANDLES],
    task_done: fn(&mut R) -> Result<(), TaskDoneError>,
    /// What was sent and not received. `None` once a word was changed.
    waiting: Option<VecDeque<Vec<u8>>>,
    sent: u64,
    sleeps_left: u32,
}

/// A queue of one of several geometries, whose words change between operations and in the middle of
/// them.
pub fn queue_region(data: &[u8]) {
    assert_in_time(|| run(data));
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let bytes = |capacity, count, bytes, extents, limit| {
        let options = queue::Options::bytes().inline_bytes(16).capacity(capacity).extents(extents);
        options.blocks(Blocks { count, bytes }).max_message_bytes(limit)
    };
    let done = ByteReceiver::task_done;
    match input.byte() % 7 {
        0 => drive(&mut input, queue::Options::<u64>::new().capacity(2), use_values, Receiver::task_done),
        1 => {
            let options = queue::Options::<[u64; 9]>::new().capacity(8).report_lost_messages();
            drive(&mut input, options, use_values, Receiver::task_done);
        }
        2 => drive(&mut input, bytes(2, 0, 0, 1, LIMIT), use_bytes, done),
        3 => drive(&mut input, bytes(4, 2, 64, 2, 5000), use_bytes, done),
        4 => drive(&mut input, bytes(8, 1, 128, 0, 100), use_bytes, done),
        // Slots with room for more than the longest message.
        5 => drive(&mut input, bytes(2, 1, 8, 0, 5), use_bytes, done),
        _ => drive(&mut input, bytes(4, 1, 64, 2, LARGE), use_bytes, done),
    }
}

fn drive<S: QueueEndpoint, R: QueueEndpoint<Message = S::Message>>(
    input: &mut Input,
    options: queue::Options<S::Message>,
    act: fn(&mut Harness<S, R>, u8, &mut Input, Duration),
    task_done: fn(&mut R) -> Result<(), TaskDoneError>,
) {
    let options = options.max_participants(PARTICIPANTS).open_timeout(Duration::ZERO);
    let region = fresh_region(&options);
    let join = |role| {
        let joined = membership::join(region.reopen().expect("a descriptor"), role, Origin::Opened { sibling: None });
        joined.expect("a fresh region").expect("no name")
    };
    let (tx, rx) = (options.attach(join(Role::Sender)), options.attach(join(Role::Receiver)));
    let (senders, receivers) = ([Some(tx), None], [Some(rx), None]);
    let waiting = Some(VecDeque::new());
    let mut harness = Harness { options, region, senders, receivers, task_done, waiting, sent: 0, sleeps_left: 2 };
    while let Some(op) = input.next_op() {
        // From the top: which handle, whether to wait, two bits for the operation, the operation.
        let timeout = Duration::from_micros(u64::from(op & 0x40 != 0 && harness.sleeps_left > 0));
        harness.sleeps_left -= timeout.as_micros() as u32;
        match op % 16 {
            0..=2 => harness.corrupt(input),
            3 | 4 => harness.corrupt_during_operation(op, input),
            5 => harness.join_or_leave(op),
            6 => harness.transfer(op, input),
            7 => harness.inspect(input),
            14 => harness.tasks(op, input, timeout),
            15 => harness.close(op, input),
            _ => act(&mut harness, op, input, timeout),
        }
    }
}

/// A new region of that geometry. It is kept for the next input, because creating one takes as long
/// as a hundred operations.
fn fresh_region<M: Message + ?Sized>(options: &queue::Options<M>) -> Region {
    thread_local!(static KEPT: RefCell<HashMap<Vec<u64>, Region>> = RefCell::default());
    KEPT.with_borrow_mut(|kept| {
        let shape = Layout::Queue(options.layout().expect("a small queue")).header().to_vec();
        let region =
            kept.entry(shape).or_insert_with(|| options.create_region(false).expect("memory for a small queue"));
        let words = region.words(0, region.layout().mapped() as usize / WORD);
        words.iter().for_each(|word| word.store(0, Relaxed));
        region.format();
        QueueState::of(region).ring_words().format();
        region.reopen().expect("a descriptor")
    })
}

impl<S: QueueEndpoint, R: QueueEndpoint<Message = S::Message>> Harness<S, R> {
    fn sender(&mut self, op: u8) -> Option<&mut S> {
        self.senders[usize::from(op >> 7)].as_mut()
    }

    fn receiver(&mut self, op: u8) -> Option<&mut R> {
        self.receivers[usize::from(op >> 7)].as_mut()
    }

    fn limit(&self) -> usize {
        self.region.layout().max_message_bytes() as usize
    }

    fn corrupt(&mut self, input: &mut Input) {
        self.waiting = None;
        corrupt_word(&self.region, input);
    }

    /// Changes words in the middle of an operation, as a process does that runs at the same time.
    fn corrupt_during_operation(&mut self, op: u8, input: &mut Input) {
        let side = usize::from(op >> 7);
        let participant = match op % 16 {
            3 => self.senders[side].as_ref().map(|sender| &sender.half().participant),
            _ => self.receivers[side].as_ref().map(|receiver| &receiver.half().participant),
        };
        let Some(mut ring) = participant.map(|participant| participant.ring()) else { return };
        let count = u64::from(input.byte() % 8) + 1;
        let act = |_: u64, payload: &[AtomicU64]| {
            assert_eq!(payload.len() + 1, QueueState::of(&self.region).layout.stride(), "outside of its slot");
            corrupt_word(&self.region, input);
        };
        match op % 16 {
            3 => drop(ring.push_many(count, act)),
            _ => drop(ring.pop_many(count, act)),
        }
        self.waiting = None;
    }

    /// Drops a handle, or makes one: a clone of another, or as a process does that opens the queue.
    fn join_or_leave(&mut self, op: u8) {
        let side = usize::from(op >> 7);
        let join = |role| {
            let region = self.region.reopen().expect("a descriptor");
            membership::join(region, role, Origin::Opened { sibling: None }).ok().flatten()
        };
        let (other_sender, other_receiver) = (&self.senders[1 - side], &self.receivers[1 - side]);
        let clone = |other: Option<&Half>, role| other.and_then(|half| half.clone_as(role).ok());
        match (op >> 4 & 1, op >> 5 & 1) {
            (0, _) if self.senders[side].is_some() => self.senders[side] = None,
            (0, how) => {
                let any = other_sender.as_ref().map(S::half).or(self.receivers[0].as_ref().map(R::half));
                let joined = if how == 0 { join(Role::Sender) } else { clone(any, Role::Sender) };
                self.senders[side] = joined.map(|joined| S::attach(joined, WaitStrategy::Park, false));
            }
            (_, _) if self.receivers[side].is_some() => self.receivers[side] = None,
            (_, how) => {
                let any = other_receiver.as_ref().map(R::half).or(self.senders[0].as_ref().map(S::half));
                let joined = if how == 0 { join(Role::Receiver) } else { clone(any, Role::Receiver) };
                self.receivers[side] = joined.map(|joined| R::attach(joined, WaitStrategy::Spin, true));
            }
        }
    }

    /// Turns a handle into a descriptor and back, or loses it on the way. Then it is dead to the
    /// others.
    fn transfer(&mut self, op: u8, input: &mut Input) {
        let arrives = input.byte() & 1 == 0;
        if op >> 4 & 1 == 0 {
            self.senders[usize::from(op >> 7)] =
                pass(&self.options, self.senders[usize::from(op >> 7)].take(), arrives);
        } else {
            self.receivers[usize::from(op >> 7)] =
                pass(&self.options, self.receivers[usize::from(op >> 7)].take(), arrives);
        }
    }

    fn inspect(&mut self, input: &mut Input) {
        let region = &self.region;
        let choice = input.byte();
        let participant = usize::from(choice >> 2) % region.layout().participants();
        match choice % 4 {
            0 => assert!(QueueState::of(region).repair(None) <= PARTICIPANTS),
            1 => drop((
                region.participants().status(participant),
                region.participants().pid(participant),
                region.participants().joins(participant),
                QueueState::of(region).role_name(participant),
            )),
            2 => drop(QueueState::of(region).is_idle(&QueueState::of(region).ring_words())),
            _ => {
                let Some(receiver) = &self.receivers[0] else { return };
                let half = receiver.half();
                let (stats, layout) = (half.stats(), *QueueState::of(region).layout);
                assert!(stats.queued.max(stats.quarantined) <= layout.capacity && stats.pooled <= layout.all_blocks());
                assert!(stats.senders + stats.receivers <= PARTICIPANTS as u64);
                assert!(half.len() <= half.capacity());
                if let Some(waiting) = &self.waiting {
                    assert_eq!((stats.queued, stats.lost, stats.quarantined), (waiting.len() as u64, 0, 0));
                }
            }
        }
    }

    fn tasks(&mut self, op: u8, input: &mut Input, timeout: Duration) {
        match input.byte() & 1 {
            0 => {
                let task_done = self.task_done;
                let _ = self.receiver(op).map(task_done);
            }
            _ => {
                let done = self.sender(op).map(|sender| sender.half_mut().join(&mut None, Timeout::after(timeout)));
                let is_empty = self.waiting.as_ref().is_none_or(|waiting| waiting.is_empty());
                assert!(done != Some(Ok(Some(()))) || is_empty, "joined with messages in it");
            }
        }
    }

    /// Seldom: a closed queue has nothing more to show.
    fn close(&mut self, op: u8, input: &mut Input) {
        let choice = input.byte() % 16;
        let expected = self.waiting.as_ref().map(|waiting| waiting.len() as u64);
        match (choice, self.receiver(op)) {
            (0, Some(receiver)) => drop(receiver.half().close()),
            (1, Some(receiver)) => {
                let dropped = receiver.half_mut().close_now();
                assert!(expected.is_none_or(|waiting| dropped == Ok(waiting)), "{dropped:?} of {expected:?}");
                self.waiting.iter_mut().for_each(VecDeque::clear);
            }
            _ => {}
        }
    }

    fn sent(&mut self, outcome: Result<usize, SendError>, messages: &[Vec<u8>]) {
        let count = outcome.unwrap_or(0);
        assert!(count <= messages.len());
        self.waiting.iter_mut().for_each(|waiting| waiting.extend(messages[..count].iter().cloned()));
    }

    fn received(&mut self, outcome: Result<usize, RecvError>, messages: &[Vec<u8>]) {
        let limit = self.limit();
        match outcome {
            Ok(count) => {
                assert!(messages[..count].iter().all(|message| message.len() <= limit), "beyond the limit");
                let Some(waiting) = &mut self.waiting else { return };
                messages[..count].iter().for_each(|message| assert_eq!(Some(message), waiting.pop_front().as_ref()));
            }
            Err(_) => assert!(self.waiting.as_ref().is_none_or(|waiting| waiting.is_empty()), "{outcome:?} too early"),
        }
    }

    /// Whether the next slot to be sent in is free, so that sending does not block.
    fn has_room(&self) -> bool {
        let words = QueueState::of(&self.region).ring_words();
        let tail = words.load_tail().position();
        let slot = (tail % words.capacity) as usize * words.stride;
        words.is_closed() || words.slots[slot].load(Relaxed) == tail << 2
    }
}

fn pass<E: QueueEndpoint>(options: &queue::Options<E::Message>, end: Option<E>, arrives: bool) -> Option<E> {
    let file = end?.into_fd().ok()?;
    if arrives { options.from_fd(file).ok() } else { None }
}

/// Changes a word, to any value or to one that might be valid there.
fn corrupt_word(region: &Region, input: &mut Input) {
    let layout = QueueState::of(region).layout;
    let how = input.byte();
    let (start, count) = match how % 8 {
        0 => (0, layout.mapped() as usize / WORD),
        1 => (QueueLayout::CONTROL, words::WORDS),
        2 => (QueueLayout::CONTROL + words::LOST, words::WORDS - words::LOST),
        3 => (QueueLayout::participant(0), layout.participants() * own::WORDS),
        4 => (QueueLayout::participant(usize::from(how >> 3) * 2 % layout.participants()) + own::INTENT, 2),
        5 => layout.owners(),
        6 => layout.slots(),
        // The beginning of a slot.
        _ => (layout.slots().0 + usize::from(how >> 4) % layout.capacity as usize * layout.stride(), 4),
    };
    let index = start + input.short() as usize % count.max(1);
    let events = [words::READABLE, words::WRITABLE, words::BLOCKS_FREED, words::TASKS_DONE];
    if events.iter().any(|word| QueueLayout::CONTROL + word == index) {
        let word = region.futex(index);
        word.store(input.invalid_value(word.load(Relaxed).into()) as u32, Relaxed);
        return;
    }
    let word = region.word(index);
    let near = QueueState::of(region).word(if how & 8 == 0 { words::TAIL } else { words::HEAD }).load(Relaxed);
    let near = near.wrapping_add_signed(i64::from(i8::from_le_bytes(input.bytes())) / 8);
    let value = match input.byte() % 4 {
        0 => near << 2 | u64::from(input.byte() % 4),
        1 => near.wrapping_add(1) << 6 | u64::from(input.byte() % 64),
        2 => near,
        _ => input.invalid_value(word.load(Relaxed)),
    };
    word.store(value, Relaxed);
    // The same word of every participant.
    if let (3, Some(within)) = (how % 16, index.checked_sub(QueueLayout::participant(2))) {
        for participant in 2..layout.participants() {
            region.word(QueueLayout::participant(participant) + within % own::WORDS).store(value, Relaxed);
        }
    }
}

fn use_bytes(harness: &mut Harness<ByteSender, ByteReceiver>, op: u8, input: &mut Input, timeout: Duration) {
    let limit = harness.limit();
    let number = harness.sent;
    harness.sent += 1;
    let mut message = Vec::new();
    let mut long = || {
        let length = match input.byte() % 4 {
            0 => usize::from(input.byte()) % 32,
            1 => usize::from(input.byte()),
            2 => input.short() as usize % 8192,
            _ => (limit + 1).saturating_sub(usize::from(input.byte()) % 8),
        };
        let mut message = payload(number, length.min(256) as u64);
        message.resize(length, number as u8);
        message
    };
    match op % 16 {
        8 | 9 => {
            let sent = long();
            let outcome = match (harness.sender(op), op % 16) {
                (None, _) => return,
                (Some(tx), 8) => tx.try_send(&sent),
                (Some(tx), _) => tx.send_timeout(&sent, timeout),
            };
            assert!(sent.len() <= limit || outcome == Err(SendError::TooLarge { length: sent.len(), limit }));
            harness.sent(outcome.map(|()| 1), &[sent]);
        }
        10 => {
            let short = limit.min(16) + 1;
            let messages: [_; 5] =
                std::array::from_fn(|i| payload(number + i as u64, (input.byte() as usize % short) as u64));
            // It would block without end.
            if harness.has_room()
                && let Some(tx) = harness.sender(op)
            {
                let outcome = tx.send_many(&messages);
                assert!(matches!(outcome, Ok(1..) | Err(_)));
                harness.sent(outcome, &messages);
            }
        }
        11 | 12 => {
            let outcome = match (harness.receiver(op), op % 16) {
                (None, _) => return,
                (Some(rx), 11) => rx.try_recv(&mut message),
                (Some(rx), _) => rx.recv_timeout(&mut message, timeout),
            };
            assert!(message.capacity() <= limit.max(8), "more memory than the limit");
            assert!(outcome.is_err() || outcome == Ok(message.len()));
            harness.received(outcome.map(|_| 1), &[message]);
        }
        _ => {
            let mut messages: [Vec<u8>; 4] = Default::default();
            // It would block without end.
            if let Some(rx) = harness.receiver(op)
                && rx.half().participant.state().ring_words().probe_ready()
            {
                let outcome = rx.recv_many(&mut messages);
                harness.received(outcome, &messages);
            }
        }
    }
}

fn use_values<T: Pod + Shareable>(
    harness: &mut Harness<Sender<T>, Receiver<T>>,
    op: u8,
    input: &mut Input,
    timeout: Duration,
) {
    let number = harness.sent;
    harness.sent += 8;
    let values: Vec<T> = (0..u64::from(input.byte() % 8)).map(|i| value(number + i)).collect();
    let shown =
        |values: &[T]| -> Vec<Vec<u8>> { values.iter().map(|value| bytemuck::bytes_of(value).to_vec()).collect() };
    match op % 16 {
        8..=10 => {
            let one = [value::<T>(number)];
            let outcome = match (harness.sender(op), op % 16) {
                (None, _) => return,
                (Some(tx), 8) => tx.try_send(one[0]).map(|()| 1),
                (Some(tx), 9) => tx.send_timeout(one[0], timeout).map(|()| 1),
                (Some(tx), _) => tx.try_send_many(&values),
            };
            harness.sent(outcome, &shown(if op % 16 == 10 { &values } else { &one }));
        }
        11 | 12 => {
            let outcome = match (harness.receiver(op), op % 16) {
                (None, _) => return,
                (Some(rx), 11) => rx.try_recv(),
                (Some(rx), _) => rx.recv_timeout(timeout),
            };
            harness.received(outcome.map(|_| 1), &outcome.map(|value| shown(&[value])).unwrap_or_default());
        }
        _ => {
            let mut values = values;
            let Some(rx) = harness.receiver(op) else { return };
            let outcome = rx.try_recv_many(&mut values);
            harness.received(outcome, &shown(&values));
        }
    }
}
