//! Hostile peers of queues.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tombolo::queue::{self, JoinError, OnDeath, TaskDoneError};
use tombolo::{Endpoint, ErrorKind, RecvError, SendError};

use crate::support::{self, Random, TestDir, start};
use crate::{Intruder, NAME, REGION_STATE, SHORT, soon, under_attack};

// ---- invalid words --------------------------------------------------------------------------------------------------

/// Positions of words in the region of a queue for [`words::PARTICIPANTS`] participants, as
/// docs/layout.md has them.
mod words {
    pub const TAIL: usize = 64;
    pub const HEAD: usize = 80;
    pub const REQUEUED: usize = 81;
    pub const EVENTS: [usize; 4] = [96, 112, 128, 144];
    pub const LOST: usize = 160;
    pub const PENDING_POSITION: usize = 161;
    pub const REPORTED: usize = 163;
    pub const MEMBERSHIP_EPOCH: usize = 165;
    pub const SENDERS_JOINED: usize = 166;
    pub const SENDERS_LAST_EXIT: usize = 168;
    pub const FIRST_RECORD: usize = 176;
    pub const RECORD_WORDS: usize = 16;
    pub const STATE: usize = 3;
    pub const ROLE: usize = 5;
    pub const SENDER_RUN: usize = 6;
    pub const JOINED_COUNT: usize = 7;
    pub const INTENT: usize = 8;
    pub const UNFINISHED_TASKS: usize = 9;
    pub const TASKS_LOST: usize = 10;
    pub const PENDING_TASKS_LOST: usize = 11;
    pub const PARTICIPANTS: usize = 4;
    pub const OWNERS: usize = FIRST_RECORD + PARTICIPANTS * RECORD_WORDS;

    /// The owners of a block and of an extent, and in a queue that redelivers what it knows of each.
    pub const POOL: usize = 2 + 2 * 2;

    /// Words of the skip marks of four slots.
    pub const MARKS: usize = 16;

    /// States of slots; the last two do not exist.
    pub const FREE: u64 = 0;
    pub const READY: u64 = 1;
    pub const STATES: [u64; 4] = [FREE, READY, 2, 3];
    /// States of skip marks: proposed, skipped unread, skipped unsent, settled.
    pub const MARK_STATES: [u64; 4] = [0, 1, 2, 3];
    pub const CLOSED: u64 = 1 << 63;
    pub const RUN: u64 = 1 << 55;

    /// A word of a participant's record.
    pub fn record(index: usize, word: usize) -> usize {
        FIRST_RECORD + index * RECORD_WORDS + word
    }
}

/// Four slots of two words, without a pool: the slots come right behind the records.
fn queue_of_values(test_dir: &TestDir) -> queue::Options<u64> {
    queue::Options::new().capacity(4).max_participants(words::PARTICIPANTS).directory(test_dir.names())
}

const VALUE_MARKS: usize = words::OWNERS;
const VALUE_SLOTS: usize = VALUE_MARKS + words::MARKS;
const VALUE_STRIDE: usize = 2;

/// Four slots of four words (control, payload header, 16 bytes), a block of 64 bytes and an extent.
fn queue_of_bytes(test_dir: &TestDir) -> queue::Options<[u8]> {
    let options = queue::Options::bytes().capacity(4).max_participants(words::PARTICIPANTS).max_message_bytes(1000);
    options.inline_bytes(16).blocks(queue::Blocks { count: 1, bytes: 64 }).extents(1).directory(test_dir.names())
}

const BYTE_SLOTS: usize = words::OWNERS + 16 + words::MARKS;
const BYTE_STRIDE: usize = 4;

/// The same, and it redelivers.
fn queue_that_redelivers(test_dir: &TestDir) -> queue::Options<[u8]> {
    queue_of_bytes(test_dir).on_death(OnDeath::Redeliver { times: 1 })
}

/// Participants 0 and 1.
fn open_values(
    options: &queue::Options<u64>,
    test_dir: &TestDir,
) -> (queue::Sender<u64>, queue::Receiver<u64>, Intruder) {
    (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap(), intruder(test_dir))
}

/// Participants 0 and 1.
fn open_bytes(
    options: &queue::Options<[u8]>,
    test_dir: &TestDir,
) -> (queue::ByteSender, queue::ByteReceiver, Intruder) {
    (options.sender(NAME).unwrap(), options.receiver(NAME).unwrap(), intruder(test_dir))
}

fn intruder(test_dir: &TestDir) -> Intruder {
    Intruder::at(&test_dir.names().join(NAME))
}

/// The calls that queues of values and of byte messages share.
macro_rules! use_any_queue {
    ($tx:ident, $rx:ident) => {
        let _ = (soon(|| $rx.task_done()), soon(|| $tx.join_timeout(SHORT)));
        let stats = soon(|| $tx.stats());
        assert!(stats.queued.max(stats.quarantined) <= stats.capacity && stats.pooled <= 2, "{stats:?}");
        assert!(stats.pooled == stats.used_blocks + stats.used_extents);
        let _ = stats.shortage(17);
        assert!($rx.len() <= $rx.capacity());
        // They may find no room.
        let _ = (soon(|| $tx.try_clone()), soon(|| $rx.try_clone()));
    };
}

/// Every call on a queue of values that does not block for ever.
fn use_value_queue(tx: &mut queue::Sender<u64>, rx: &mut queue::Receiver<u64>) {
    let _ = (soon(|| tx.send_timeout(1, SHORT)), soon(|| tx.try_send(2)), soon(|| tx.try_send_many(&[3; 10])));
    let _ = (soon(|| rx.recv_timeout(SHORT)), soon(|| rx.try_recv()), soon(|| rx.try_recv_many(&mut [0; 10])));
    use_any_queue!(tx, rx);
}

/// Likewise, for a queue of bytes.
fn use_byte_queue(tx: &mut queue::ByteSender, rx: &mut queue::ByteReceiver, random: &mut Random) {
    let sent = vec![0xAB; random.below(1000) as usize];
    let mut received = Vec::new();
    for length in [10, 60, sent.len()] {
        let _ = (soon(|| tx.send_timeout(&sent[..length.min(sent.len())], SHORT)), soon(|| tx.try_send(b"short")));
        let _ = (soon(|| rx.recv_timeout(&mut received, SHORT)), soon(|| rx.try_recv(&mut received)));
        assert!(received.len() <= 1000, "the limit holds");
    }
    use_any_queue!(tx, rx);
}

/// What there is besides in a queue that redelivers.
fn use_redelivery(tx: &mut queue::ByteSender, rx: &mut queue::ByteReceiver, random: &mut Random) {
    use_byte_queue(tx, rx, random);
    let _ = soon(|| rx.recv_task_timeout(SHORT).map(|task| assert!(task.len() <= 1000)));
    let _ = soon(|| rx.try_recv_task().map(|task| task.done()));
    let letters = soon(|| tx.dead_letters().unwrap().collect::<Vec<_>>());
    assert!(letters.len() <= 2, "{letters:?}");
    for letter in letters.into_iter().flatten() {
        assert!(letter.len() <= 1000);
        let _ = soon(|| if random.below(2) == 0 { letter.remove().is_some() } else { letter.redrive() });
    }
}

#[test]
fn queue_indices_invalid_calls_return() {
    for (index, invalid_values) in [
        (
            words::TAIL,
            [
                0,
                1,
                1 << 40,
                words::RUN - 1,
                words::RUN,
                words::CLOSED - 1,
                words::CLOSED,
                words::CLOSED | 1 << 40,
                u64::MAX,
            ],
        ),
        (words::HEAD, [0, 1, 7, 100, 1 << 40, 1 << 62, words::CLOSED - 1, words::CLOSED, u64::MAX]),
    ] {
        for invalid in invalid_values {
            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
            assert_eq!((tx.try_send_many(&[1, 2, 3]), rx.recv(), rx.recv()), (Ok(3), Ok(1), Ok(2)));
            intruder.set(index, invalid);
            for _ in 0..3 {
                use_value_queue(&mut tx, &mut rx);
            }
            let _ = soon(|| rx.close_now());
            use_value_queue(&mut tx, &mut rx);

            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
            for length in [0, 10, 60, 100] {
                tx.try_send(vec![1; length]).unwrap();
            }
            intruder.set(index, invalid);
            for _ in 0..3 {
                use_byte_queue(&mut tx, &mut rx, &mut Random(invalid | 1));
            }
            let _ = soon(|| rx.close_now());
        }
    }
}

#[test]
fn queue_slot_positions_invalid_calls_return() {
    let state_of = |position: u64, state: u64| position << 2 | state;
    for state in words::STATES {
        // Too early, of another slot, too late, absurd.
        for shift in [-4_i64, -1, 1, 4, 400, i64::MAX >> 2] {
            for sent in [0, 2, 4_u64] {
                let test_dir = TestDir::new();
                let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
                let warm_up = [1; 4];
                assert_eq!((tx.try_send_many(&warm_up), rx.recv_many(&mut [0; 4])), (Ok(4), Ok(4)));
                assert_eq!(tx.send_many(&warm_up[..sent as usize]).unwrap_or(0), sent as usize);
                for slot in 0..4 {
                    let invalid = state_of((4 + slot as u64).wrapping_add_signed(shift), state);
                    intruder.set(VALUE_SLOTS + slot * VALUE_STRIDE, invalid);
                }
                use_value_queue(&mut tx, &mut rx);
                let _ = soon(|| rx.close_now());
                use_value_queue(&mut tx, &mut rx);
            }
        }
    }
}

#[test]
fn queue_skip_marks_invalid_calls_return() {
    for state in words::MARK_STATES {
        for key in [0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 18, 19, 1000, 1 << 40, (1 << 62) - 1] {
            for which in 0..5 {
                for sent in [0, 2, 4_u64] {
                    let test_dir = TestDir::new();
                    let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
                    let warm_up = [1; 4];
                    assert_eq!((tx.try_send_many(&warm_up), rx.recv_many(&mut [0; 4])), (Ok(4), Ok(4)));
                    assert_eq!(tx.send_many(&warm_up[..sent as usize]).unwrap_or(0), sent as usize);
                    for slot in (0..4).filter(|slot| which == 4 || which == *slot) {
                        intruder.set(VALUE_MARKS + slot, key << 2 | state);
                    }
                    use_value_queue(&mut tx, &mut rx);
                    let _ = soon(|| rx.close_now());
                    use_value_queue(&mut tx, &mut rx);
                }
            }
        }
    }
}

#[test]
fn receiver_slot_of_earlier_lap_returns_corrupt() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
    assert_eq!((tx.try_send_many(&[1, 2]), rx.recv()), (Ok(2), Ok(1)));
    intruder.set(VALUE_SLOTS + VALUE_STRIDE, words::FREE); // position 0 in the place of 1
    for _ in 0..3 {
        assert_eq!(soon(|| rx.recv_timeout(SHORT)), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.try_recv()), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.try_recv_many(&mut [0; 10])), Err(RecvError::Corrupt));
        assert_eq!(soon(|| rx.close_now()), Err(RecvError::Corrupt));
    }
}

#[test]
fn receiver_payload_header_invalid_returns_corrupt() {
    const POOLED: u64 = 1;
    let header = |length: u64| length << 1;
    for (header, place) in [
        (header(17), 0), // longer than the slot
        (header(1 << 40), 0),
        (u64::MAX - 1, 0),
        (header(65) | POOLED, 0),   // longer than the block
        (header(1001) | POOLED, 1), // longer than the limit
        (header(1 << 62) | POOLED, 1),
        (u64::MAX, 0),
        (header(10) | POOLED, 2), // no such place
        (header(10) | POOLED, 1 << 32),
        (header(10) | POOLED, u64::MAX),
        (header(10) | POOLED, u64::MAX / 8),
    ] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
        tx.send(b"before").unwrap();
        tx.send(b"behind").unwrap();
        intruder.set(BYTE_SLOTS + 1, header);
        intruder.set(BYTE_SLOTS + 2, place);
        intruder.set(BYTE_SLOTS + 3, 1);
        let mut message = Vec::new();
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvError::Corrupt), "{header:x} {place}");
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Ok(6), "what follows is whole");
        assert_eq!(message, b"behind");
        assert_eq!(rx.stats().dropped, 1);
    }
}

/// The peer is trusted with what is in the block, and not with where it is.
#[test]
fn receiver_in_place_payload_header_invalid_returns_corrupt() {
    for (header, place) in [
        (65 << 1 | 1, 0), // longer than the block
        (10 << 1 | 1, 0), // allocated by nobody
        (1001 << 1 | 1, 1),
        (u64::MAX, 0),
        (10 << 1 | 1, 2), // no such place
        (10 << 1 | 1, u64::MAX),
        (17 << 1, 0), // longer than the slot
    ] {
        let test_dir = TestDir::new();
        let (mut tx, rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
        // SAFETY: the intruder changes no block.
        let mut rx = unsafe { rx.into_zero_copy().unwrap() };
        tx.send(b"before").unwrap();
        tx.send([7; 60]).unwrap();
        intruder.set(BYTE_SLOTS + 1, header);
        intruder.set(BYTE_SLOTS + 2, place);
        intruder.set(BYTE_SLOTS + 3, 7); // no owner word
        assert_eq!(rx.recv_frame_timeout(SHORT).err(), Some(RecvError::Corrupt), "{header:x} {place}");
        assert_eq!(*rx.recv_frame_timeout(SHORT).unwrap(), [7; 60], "what follows is whole");
        assert_eq!(rx.get_ref().stats().dropped, 1);
    }
}

/// Room in a slot or a block does not raise the message limit.
#[test]
fn receiver_payload_over_limit_returns_corrupt() {
    for (length, pooled) in [(9, 0), (16, 0), (9, 1), (64, 1)] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) =
            open_bytes(&queue_of_bytes(&test_dir).max_message_bytes(8).extents(0), &test_dir);
        tx.send(b"8 bytes.").unwrap();
        intruder.set(BYTE_SLOTS + 1, length << 1 | pooled);
        intruder.set(BYTE_SLOTS + 2, 0);
        let mut message = Vec::new();
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Err(RecvError::Corrupt), "{length}");
        assert_eq!(message.capacity(), 0, "nothing was taken for it");
    }
}

#[test]
fn sender_pool_owned_by_nobody_returns_full() {
    for owner in [1, 4, 0xFFFF, u64::MAX] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
        intruder.set(words::OWNERS, owner);
        intruder.set(words::OWNERS + 1, owner);
        assert_eq!(tx.try_send([1; 100]), Err(SendError::Full));
        assert_eq!(soon(|| tx.send_timeout([1; 17], SHORT)), Err(SendError::TimedOut));
        assert_eq!(tx.try_send([1; 16]), Ok(()), "short ones need no place");
        assert_eq!(rx.stats().pooled, 2);
        use_byte_queue(&mut tx, &mut rx, &mut Random(1));
    }
}

/// The same block in every slot is freed once. Generations are at their limit.
#[test]
fn receiver_block_named_twice_is_freed_once() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
    intruder.set(words::OWNERS, u64::MAX << 16);
    intruder.set(words::OWNERS + 1, u64::MAX << 16);
    for length in [60, 700, 10, 10] {
        tx.send(vec![0x11; length]).unwrap();
    }
    for word in 1..BYTE_STRIDE {
        for slot in 2..4 {
            intruder.set(
                BYTE_SLOTS + slot * BYTE_STRIDE + word,
                intruder.get(BYTE_SLOTS + (slot - 2) * BYTE_STRIDE + word),
            );
        }
    }
    let mut message = Vec::new();
    for length in [60, 700, 60, 700] {
        assert_eq!(rx.recv_timeout(&mut message, SHORT), Ok(length));
    }
    assert_eq!(rx.stats().pooled, 0);
    use_byte_queue(&mut tx, &mut rx, &mut Random(1));
}

/// The intent of a dead sender covers every slot.
/// Owners: held by a receiver, a sender, nobody and others, requeued, dead letters, with any count.
#[test]
fn redelivery_words_invalid_calls_return() {
    let owners = [1, 2, 0x1_0001, 0x1_0002, 0xFF_0002, 0x1_0FFF, 0xFFFF, 0xFF_FFFF, 0x5_FFFE, 0x100_0000, u64::MAX];
    for (number, owner) in owners.into_iter().enumerate() {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = open_bytes(&queue_that_redelivers(&test_dir), &test_dir);
        let random = &mut Random(number as u64);
        for (length, position, requeued) in
            [(8, 0, 0), (65, 1, 1), (1001, u64::MAX, u64::MAX), (u64::MAX, 1 << 63, u64::MAX - 1)]
        {
            for message in [&[1; 10][..], &[2; 100]] {
                let _ = tx.try_send(message);
            }
            let _ = (random.below(2) == 0).then(|| rx.try_recv(&mut Vec::new()));
            for block in 0..2 {
                intruder.set(words::OWNERS + block, owner);
                intruder.set(words::OWNERS + 2 + 2 * block, position);
                intruder.set(words::OWNERS + 3 + 2 * block, length);
            }
            intruder.set(words::REQUEUED, requeued);
            use_redelivery(&mut tx, &mut rx, random);
        }
        soon(|| drop(rx));
    }
}

/// Requeued, and nobody was told; held by a participant that is none, and by a sender: a receiver
/// gets what can be received, and then the end.
#[test]
fn redelivery_owner_words_invalid_receiver_sees_the_end() {
    for (owner, has_message) in [(0x1_FFFF, true), (0x1_0001, false), (0x1_0004, false), (0x1_0FFF, false)] {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = open_bytes(&queue_that_redelivers(&test_dir), &test_dir);
        tx.send([1; 10]).unwrap();
        assert_eq!((rx.recv(&mut Vec::new()), rx.task_done()), (Ok(10), Ok(())));
        drop(tx);
        intruder.set(words::OWNERS, owner);
        let mut message = Vec::new();
        let received = soon(|| rx.recv(&mut message));
        assert_eq!(received.is_ok(), has_message, "{owner:#x}");
        if has_message {
            assert_eq!(
                (received, rx.task_done(), soon(|| rx.recv(&mut message))),
                (Ok(10), Ok(()), Err(RecvError::Closed))
            );
        } else {
            assert_eq!(received, Err(RecvError::Closed), "{owner:#x}");
        }
    }
}

/// A free block with a count: its next message was not delivered.
#[test]
fn redelivery_count_of_free_block_is_ignored() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = open_bytes(&queue_that_redelivers(&test_dir), &test_dir);
    intruder.set(words::OWNERS, 0x3_0000);
    tx.send([1; 10]).unwrap();
    assert_eq!((rx.try_recv(&mut Vec::new()), rx.deliveries(), rx.task_done()), (Ok(10), 1, Ok(())));
}

/// One that cannot be read is removed: its block can be used again, and the others are read.
#[test]
fn redelivery_dead_letter_unreadable_is_removed() {
    let test_dir = TestDir::new();
    let options = queue_of_bytes(&test_dir).on_death(OnDeath::Redeliver { times: 0 });
    let (mut tx, mut rx, intruder) = open_bytes(&options, &test_dir);
    for message in [&[1; 10][..], &[2; 100]] {
        tx.send(message).unwrap();
        drop(rx.recv_task().unwrap());
    }
    intruder.set(words::OWNERS + 3, 1001); // the length of the first
    let letters: Vec<_> = rx.dead_letters().unwrap().map(|letter| letter.map(|letter| letter.len())).collect();
    assert_eq!(letters, [Err(RecvError::Corrupt), Ok(100)]);
    let stats = tx.stats();
    assert_eq!((stats.dead_letters, stats.used_blocks, stats.dropped), (1, 0, 1));
}

/// A message whose block somebody else has freed is reported and passed over.
#[test]
fn redelivery_block_freed_by_others_returns_corrupt() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = open_bytes(&queue_that_redelivers(&test_dir), &test_dir);
    tx.send([1; 10]).unwrap();
    intruder.set(words::OWNERS, 0);
    assert_eq!(rx.try_recv(&mut Vec::new()), Err(RecvError::Corrupt));
    tx.send([2; 10]).unwrap();
    let mut message = Vec::new();
    assert_eq!(rx.try_recv(&mut message), Ok(10));
    intruder.set(words::OWNERS, 0);
    assert_eq!(rx.task_done(), Err(TaskDoneError::NoTask));
    assert_eq!(rx.try_recv(&mut message), Err(RecvError::Empty));
}

#[test]
fn queue_intent_of_dead_covers_everything_calls_return() {
    for position in [0, 1, 2, 3, 1 << 40, (1 << 58) - 2] {
        for state in words::STATES {
            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
            let dead = tx.try_clone().unwrap();
            assert_eq!((tx.try_send_many(&[1, 2, 3]), rx.recv()), (Ok(3), Ok(1)));
            drop(dead.into_fd().unwrap());
            intruder.set(words::record(2, words::INTENT), (position + 1) << 6 | 63);
            if state != words::READY {
                intruder.set(VALUE_SLOTS + 2 * VALUE_STRIDE, 2 << 2 | state);
            }
            for _ in 0..3 {
                use_value_queue(&mut tx, &mut rx);
            }
            drop(tx);
            let _ = soon(|| rx.recv_timeout(SHORT));
        }
    }
}

/// A live participant whose intent covers every slot prevents the repair of the dead one's slots,
/// and nothing else.
#[test]
fn queue_intent_of_living_covers_everything_others_go_on() {
    let test_dir = TestDir::new();
    let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
    let (dead, mut other) = (tx.try_clone().unwrap(), rx.sender().unwrap());
    drop(dead.into_fd().unwrap());
    intruder.set(words::record(2, words::INTENT), 1 << 6 | 1);
    intruder.set(words::record(3, words::INTENT), 1 << 6 | 63);
    intruder.set(words::TAIL, 1); // the claim of the dead sender
    assert_eq!(soon(|| rx.try_recv()), Err(RecvError::Empty));
    for number in 0..100 {
        tx.send(number).unwrap();
        assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(1))), Ok(number));
    }
    other.send(100).unwrap();
    assert_eq!(rx.recv(), Ok(100));
}

#[test]
fn queue_counters_invalid_calls_return() {
    for invalid in [1, 5, 1 << 40, u64::MAX - 1, u64::MAX] {
        let test_dir = TestDir::new();
        let (mut tx, _rx, intruder) = open_values(&queue_of_values(&test_dir).report_lost_messages(), &test_dir);
        let mut rx = tx.receiver().unwrap();
        let mut reporting = queue_of_values(&test_dir).report_lost_messages().receiver(NAME).unwrap();
        for index in words::LOST..words::SENDERS_LAST_EXIT + 2 {
            intruder.set(index, invalid);
            use_value_queue(&mut tx, &mut rx);
            use_value_queue(&mut tx, &mut reporting);
        }
        intruder.set(words::LOST, u64::MAX);
        intruder.set(words::REPORTED, 0);
        assert_eq!(reporting.try_recv(), Err(RecvError::MessageLost));
        assert_ne!(reporting.try_recv(), Err(RecvError::MessageLost), "reported once");
    }
}

/// How many have joined and how they ended, when nobody is there.
#[test]
fn receiver_end_words_invalid_returns_an_end() {
    for (joined, ended, answer) in [
        (0, 2, RecvError::Closed),
        (1, 0, RecvError::Closed),
        (u64::MAX, 77, RecvError::Closed),
        (u64::MAX, 2, RecvError::Closed),
        (1, 3, RecvError::PeerDied),
        (1, 1 << 8 | 3, RecvError::Closed), // in another run
        (0, u64::MAX, RecvError::Closed),
    ] {
        let test_dir = TestDir::new();
        let (tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
        drop(tx);
        assert_eq!(rx.try_recv(), Err(RecvError::Closed));
        intruder.set(words::SENDERS_JOINED, joined);
        intruder.set(words::SENDERS_LAST_EXIT, ended);
        intruder.set(words::MEMBERSHIP_EPOCH, intruder.get(words::MEMBERSHIP_EPOCH) + 1);
        assert_eq!(soon(|| rx.recv_timeout(SHORT)), Err(answer), "{joined} joined, the last one ended {ended}");
    }
}

/// Run numbers in the records and in tail that no sender has begun.
#[test]
fn queue_run_numbers_invalid_calls_return() {
    let invalid_values = [0, 1, 77, 255, 256, 257, 511, 1 << 32, u64::MAX - 1, u64::MAX];
    for word in [words::SENDER_RUN, words::JOINED_COUNT] {
        for invalid in invalid_values {
            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
            for participant in 0..words::PARTICIPANTS {
                intruder.set(words::FIRST_RECORD + participant * words::RECORD_WORDS + word, invalid);
            }
            intruder.set(words::MEMBERSHIP_EPOCH, intruder.get(words::MEMBERSHIP_EPOCH) + 1);
            use_value_queue(&mut tx, &mut rx);
            // New handles, clones and transferred endpoints use these words for a while.
            let mut late = soon(|| queue_of_values(&test_dir).sender(NAME)).unwrap();
            use_value_queue(&mut late, &mut rx);
            let _ = soon(|| late.close());
            use_value_queue(&mut tx.try_clone().unwrap(), &mut rx);
            let mut picked: queue::Sender<u64> = queue_of_values(&test_dir).from_fd(late.into_fd().unwrap()).unwrap();
            use_value_queue(&mut picked, &mut rx);
            let _ = soon(|| rx.close_now());
        }
    }
    for run in invalid_values {
        let test_dir = TestDir::new();
        let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
        tx.send(1).unwrap();
        intruder.set(words::TAIL, intruder.get(words::TAIL) | run << 55);
        use_value_queue(&mut tx, &mut rx);
        let mut late = soon(|| queue_of_values(&test_dir).sender(NAME)).unwrap();
        use_value_queue(&mut late, &mut rx);
        let _ = (soon(|| tx.close()), soon(|| late.close()), soon(|| rx.close()), soon(|| rx.close_now()));
        use_value_queue(&mut late, &mut rx);
    }
}

/// Every record names a live process, and nobody holds the locks. No process takes them for dead or
/// waits for them.
#[test]
fn queue_live_participants_without_locks_returns_lock_lost() {
    let test_dir = TestDir::new();
    let (tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
    drop(tx);
    // Participant 0: it has the region mapped, so it could write.
    let _onlooker = start("stay_in_queue", &[test_dir.names().to_str().unwrap()]);
    support::until(|| rx.stats().receivers == 2);
    for participant in [2, 3] {
        (0..words::RECORD_WORDS)
            .for_each(|word| intruder.set(words::record(participant, word), intruder.get(words::record(0, word))));
        intruder.set(words::record(participant, words::ROLE), 1);
    }
    intruder.set(words::MEMBERSHIP_EPOCH, intruder.get(words::MEMBERSHIP_EPOCH) + 1);
    assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(60))), Err(RecvError::LockLost));
    assert_eq!(rx.stats().senders, 2);
    let error = soon(|| rx.sender()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooManyParticipants, "{error}");
    // States that do not exist, and those of the dead.
    for state in [u64::MAX, 4, 0] {
        (0..4).for_each(|participant| intruder.set(words::record(participant, words::STATE), state));
        let _ = soon(|| rx.recv_timeout(SHORT));
        let _ = soon(|| rx.sender());
    }
}

/// Has the queue mapped, as a receiver that does nothing.
pub fn stay_in_queue(arguments: &[String]) {
    let _rx = queue::Options::<u64>::new().directory(&arguments[0]).receiver(NAME).unwrap();
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A record that names this process, which does not hold its lock, is from before an `exec`.
#[test]
fn queue_own_records_without_locks_are_repaired() {
    let test_dir = TestDir::new();
    let (tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
    drop(tx);
    for participant in [0, 2, 3] {
        (0..words::RECORD_WORDS)
            .for_each(|word| intruder.set(words::record(participant, word), intruder.get(words::record(1, word))));
        intruder.set(words::record(participant, words::ROLE), 1);
    }
    intruder.set(words::MEMBERSHIP_EPOCH, intruder.get(words::MEMBERSHIP_EPOCH) + 1);
    assert_eq!(soon(|| rx.recv_timeout(Duration::from_secs(60))), Err(RecvError::PeerDied));
    let _all: Vec<_> = (0..3).map(|_| soon(|| rx.sender()).unwrap()).collect();
}

/// The number of unfinished tasks in a record when its endpoint is transferred.
#[test]
fn sender_join_task_count_invalid_times_out() {
    for invalid in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let test_dir = TestDir::new();
        let (mut tx, rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
        tx.try_send_many(&[1, 2, 3]).unwrap();
        let file = rx.into_fd().unwrap();
        intruder.set(words::record(1, words::UNFINISHED_TASKS), invalid);
        let mut rx: queue::Receiver<u64> = queue_of_values(&test_dir).from_fd(file).unwrap();
        assert_eq!([rx.recv(), rx.recv(), rx.recv()], [Ok(1), Ok(2), Ok(3)]);
        let _ = rx.task_done();
        assert_eq!(soon(|| tx.join_timeout(SHORT)), Err(JoinError::TimedOut));
    }
}

#[test]
fn queue_task_losses_invalid_calls_return() {
    for invalid in [1, u64::MAX, 1 << 63] {
        for word in [words::UNFINISHED_TASKS, words::TASKS_LOST, words::PENDING_TASKS_LOST] {
            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_values(&queue_of_values(&test_dir), &test_dir);
            let dead = rx.try_clone().unwrap();
            tx.send(1).unwrap();
            (0..3).for_each(|index| intruder.set(words::record(index, word), invalid));
            drop(dead.into_fd().unwrap());
            use_value_queue(&mut tx, &mut rx);
            intruder.set(words::record(1, word), invalid);
            drop(rx);
            let _ = soon(|| tx.join_timeout(SHORT));
        }
    }
}

#[test]
fn queue_repair_log_invalid_calls_return() {
    for position in [1, 4, 5, 1 << 40, u64::MAX] {
        for state in words::STATES {
            let test_dir = TestDir::new();
            let (mut tx, mut rx, intruder) = open_bytes(&queue_of_bytes(&test_dir), &test_dir);
            let dead = tx.try_clone().unwrap();
            tx.send([1; 30]).unwrap();
            drop(dead.into_fd().unwrap());
            intruder.set(words::PENDING_POSITION, position);
            intruder.set(BYTE_SLOTS, state);
            use_byte_queue(&mut tx, &mut rx, &mut Random(position));
        }
    }
}

// ---- an attacker that does not stop ---------------------------------------------------------------------------------

/// Writes anything anywhere in a queue, mostly where it matters.
pub fn corrupt_queue(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    let (slots, stride) = if intruder.get(5) == 0 { (BYTE_SLOTS, BYTE_STRIDE) } else { (VALUE_SLOTS, VALUE_STRIDE) };
    let near = |random: &mut Random| {
        let index = if random.below(2) == 0 { words::HEAD } else { words::TAIL };
        intruder.get(index).wrapping_add(random.below(9)).wrapping_sub(4)
    };
    loop {
        let at = match random.below(8) {
            0 => random.below((intruder.words() - REGION_STATE) as u64) as usize + REGION_STATE,
            1 => words::TAIL,
            2 if random.below(4) == 0 => words::REQUEUED,
            2 => words::HEAD,
            3 => words::LOST + random.below(10) as usize,
            4 => words::FIRST_RECORD + random.below((words::PARTICIPANTS * words::RECORD_WORDS) as u64) as usize,
            5 => words::OWNERS + random.below(words::POOL as u64) as usize,
            6 => words::EVENTS[random.below(4) as usize],
            _ => slots + random.below(4) as usize * stride + random.below(2) as usize,
        };
        let value = match random.below(8) {
            0 => random.next(),
            1 => random.below(64),
            2 => near(&mut random),
            3 | 4 => near(&mut random) << 2 | random.below(4),
            5 => near(&mut random).wrapping_add(1) << 6 | random.below(64),
            6 => random.below(2048) << 1 | 1,
            _ => intruder.get(at).wrapping_add(random.below(8)),
        };
        intruder.set(at, value);
        if random.below(16) == 0 {
            std::thread::sleep(Duration::from_micros(random.below(200)));
        }
    }
}

/// Has a message ready wherever receivers arrive, however fast they are, even if the queue is
/// closed.
pub fn feed_queue_endlessly(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    loop {
        let head = intruder.get(words::HEAD);
        let slot = VALUE_SLOTS + (head % 4) as usize * VALUE_STRIDE;
        // Never backwards: that would be noticed.
        intruder.word(slot).fetch_max(head << 2 | words::READY, Ordering::SeqCst);
        intruder.set(words::TAIL, u64::MAX);
    }
}

#[test]
fn queue_of_values_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_queue",
        |test_dir| open_values(&queue_of_values(test_dir), test_dir),
        |(tx, rx, _), _| use_value_queue(tx, rx),
    );
}

#[test]
fn queue_of_bytes_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_queue",
        |test_dir| open_bytes(&queue_of_bytes(test_dir), test_dir),
        |(tx, rx, _), random| use_byte_queue(tx, rx, random),
    );
}

#[test]
fn queue_that_redelivers_corrupted_constantly_calls_return() {
    under_attack(
        "corrupt_queue",
        |test_dir| open_bytes(&queue_that_redelivers(test_dir), test_dir),
        |(tx, rx, _), random| use_redelivery(tx, rx, random),
    );
}

/// A process that joins meanwhile is refused or admitted, closes or discards, and can leave again.
#[test]
fn queue_corrupted_while_others_join_and_leave_calls_return() {
    under_attack(
        "corrupt_queue",
        |test_dir| (open_bytes(&queue_of_bytes(test_dir), test_dir), queue_of_bytes(test_dir).must_exist()),
        |((_, rx, _), options), random| {
            let _ = soon(|| options.receiver(NAME)).map(|mut rx| {
                let _ = soon(|| rx.recv_timeout(&mut Vec::new(), SHORT));
                drop(soon(|| rx.into_fd()).and_then(|file| options.from_fd::<queue::ByteReceiver>(file)));
            });
            let _ = soon(|| options.sender(NAME)).map(|mut tx| {
                let _ = soon(|| tx.send_timeout([1; 50], SHORT));
                // Lost in transfer: dead to the others.
                (random.below(2) == 0).then(|| tx.into_fd())
            });
            let _ = soon(|| rx.recv_timeout(&mut Vec::new(), SHORT));
            let _ = (random.below(8) == 0).then(|| soon(|| rx.close_now()));
        },
    );
}

#[test]
fn queue_fed_endlessly_can_be_closed() {
    under_attack(
        "feed_queue_endlessly",
        |test_dir| open_values(&queue_of_values(test_dir), test_dir),
        |(_tx, rx, _), _| {
            let before = rx.stats().dropped;
            let _ = soon(|| rx.close_now());
            let dropped = rx.stats().dropped - before;
            assert!(dropped <= 8, "one call that does not wait threw {dropped} messages of a queue of 4 away");
            let _ = (soon(|| rx.recv_timeout(SHORT)), soon(|| rx.try_recv_many(&mut [0; 10])));
        },
    );
}
