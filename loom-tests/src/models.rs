//! The models. Each is a small world of two or three threads, with what must hold asserted along the way.

use std::time::Duration;

use crate::raw::Memory;
use crate::raw::event::Event;
use crate::raw::heels::{Distance, Heels};
use crate::raw::records::{Next, RecordReader, RecordWriter};
use crate::raw::role::Role;
use crate::raw::slots::{SlotReader, SlotWriter, Stores};
use crate::raw::spsc::{Consumer, Indices, Producer};
use crate::sync::{
    Arc, AtomicU32, AtomicU64, BOUNDS_ACCESSES, Ordering, crash_after, heavy_fence, model, model_without_membarrier,
    spin_loop, thread, with_life,
};

/// Shared memory of a model: each word on its own.
struct Heap;

struct Shared<T>(Arc<T>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> std::ops::Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[derive(Clone)]
struct SharedWords(Arc<Vec<AtomicU64>>);

impl std::ops::Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        &self.0
    }
}

impl Memory for Heap {
    type Word = Shared<AtomicU64>;
    type Words = SharedWords;
    type Futex = Shared<AtomicU32>;
}

fn word() -> Shared<AtomicU64> {
    Shared(Arc::new(AtomicU64::new(0)))
}

fn futex() -> Shared<AtomicU32> {
    Shared(Arc::new(AtomicU32::new(0)))
}

/// One ring with everything that its two sides share.
#[derive(Clone)]
struct World {
    tail: Shared<AtomicU64>,
    head: Shared<AtomicU64>,
    role: Shared<AtomicU64>,
    from: [Shared<AtomicU64>; 2],
    data: SharedWords,
    capacity: u64,
    readable: Shared<AtomicU32>,
    writable: Shared<AtomicU32>,
}

impl World {
    /// `capacity` positions of `stride` words.
    fn new(capacity: u64, stride: usize) -> Self {
        let data = (0..capacity as usize * stride).map(|_| AtomicU64::payload(0)).collect();
        Self {
            tail: word(),
            head: word(),
            role: word(),
            from: [word(), word()],
            data: SharedWords(Arc::new(data)),
            capacity,
            readable: futex(),
            writable: futex(),
        }
    }

    fn indices(&self) -> Indices<Heap> {
        Indices { tail: self.tail.clone(), head: self.head.clone() }
    }

    fn role(&self) -> Role<Heap> {
        Role::new(self.role.clone(), self.from.clone())
    }

    fn producer(&self) -> Producer<Heap> {
        Producer::adopt(self.indices(), self.capacity).unwrap()
    }

    fn consumer(&self) -> Consumer<Heap> {
        Consumer::adopt(self.indices(), self.role(), self.capacity).unwrap()
    }

    fn writer<T: bytemuck::Pod>(&self) -> SlotWriter<Heap, T> {
        SlotWriter::new(self.producer(), self.data.clone())
    }

    fn reader<T: bytemuck::Pod>(&self) -> SlotReader<Heap, T> {
        SlotReader::new(self.consumer(), self.data.clone())
    }

    fn readable(&self) -> Event<Heap> {
        Event::new(self.readable.clone())
    }

    fn writable(&self) -> Event<Heap> {
        Event::new(self.writable.clone())
    }

    /// Joins as producer, as the holder of its seat.
    fn take(&self) {
        self.role().take(self.tail.load(Ordering::Acquire));
    }
}

const FOREVER: Duration = Duration::MAX;

/// A message of two words that must stay together.
fn message(number: u64) -> [u64; 2] {
    [number, !number]
}

fn number(message: [u64; 2]) -> u64 {
    assert_eq!(message[1], !message[0], "torn");
    message[0]
}

fn pop<T: bytemuck::Pod>(reader: &mut SlotReader<Heap, T>) -> Option<T> {
    let mut value = T::zeroed();
    reader.pop(&mut value).unwrap().then_some(value)
}

/// Blocks like an endpoint does: try, listen, try again, sleep.
fn blocking<R>(event: &Event<Heap>, mut attempt: impl FnMut() -> Option<R>) -> R {
    loop {
        if let Some(done) = attempt() {
            return done;
        }
        let ticket = event.listen();
        if let Some(done) = attempt() {
            return done;
        }
        event.wait(ticket, FOREVER);
    }
}

/// The pauses that looks with such finds lead to.
fn pauses(finds: impl IntoIterator<Item = u64>) -> usize {
    let mut heels = Heels::keep_off(64);
    finds.into_iter().filter(|&found| heels.found(found) > 0).count()
}

#[test]
fn who_is_at_the_others_heels_pauses_and_nobody_else() {
    let times = |count| 0..count;
    assert_eq!(pauses(times(100_000).flat_map(|_| [1, 0])), 0, "a dialogue");
    assert_eq!(pauses(times(100_000).map(|_| 64)), 0, "a stream with a distance");
    assert_eq!(pauses(times(Heels::SOON - 1).map(|_| 1)), 0, "it takes a while to be sure");
    assert_eq!(pauses(times(Heels::SOON).map(|_| 1)), 1);
    let slow = pauses(times(10 * Heels::LATE).map(|_| 1));
    assert!((2..=10).contains(&slow), "{slow} pauses for a side that is slow");
    let fast = |look| if look % (Heels::SOON + 1) == Heels::SOON { 80 } else { 2 };
    assert_eq!(pauses(times(10 * (Heels::SOON + 1)).map(fast)), 10, "where it is rewarded it is done again");
    for mut never in [Heels::default(), Heels::keep_off(0), Heels::keep_off(1)] {
        assert_eq!(times(100).filter(|_| never.found(1) > 0).count(), 0, "large messages, short rings");
    }
}

#[test]
fn a_side_looks_when_it_has_come_as_far_and_pauses_in_bounds() {
    let mut distance = Distance::keep(1024);
    assert!(distance.is_used_up(0), "never looked");
    distance.came_to(0, 100);
    assert!(!distance.is_used_up(99) && distance.is_used_up(100));
    // A stream at its heels: one more each time.
    let mut distance = Distance::keep(1024);
    let pauses: Vec<u32> = (0..u64::from(Heels::SOON)).map(|n| distance.came_to(n, n + 1)).collect();
    assert_eq!(pauses, [0, 0, 0, 0, 0, 0, 0, 192], "three quarters of a quarter");
    // Whatever is claimed, it is no longer than that, and never twice in a row.
    for capacity in [1 << 6, 1 << 10, 1 << 20] {
        let (mut distance, mut before) = (Distance::keep(capacity), 0);
        for n in 0..10_000 {
            let end = [n + 1, 0, u64::MAX, n + 255][n as usize % 4];
            let pause = distance.came_to(n, if n % 100 < 50 { n + 1 } else { end });
            assert!(pause <= 192 && (before == 0 || pause == 0), "{pause} after {before}");
            before = pause;
        }
    }
    for mut none in [Distance::none(), Distance::keep(1), Distance::keep(32)] {
        assert!(!none.is_used_up(1 << 60));
        assert!((0..100).all(|n| none.came_to(n, n + 1) == 0), "short rings");
    }
}

/// Sends so many messages, and does that whenever the ring is full.
fn sends(world: &World, count: u64, when_full: fn(&Producer<Heap>)) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || {
        let mut writer = world.writer();
        for n in 1..=count {
            while !writer.push(&message(n), Stores::Cached).unwrap() {
                when_full(&writer.ring);
            }
        }
    })
}

#[test]
fn spsc_delivers_in_order_and_untorn_through_a_wrap() {
    model(|| {
        let world = World::new(2, 2);
        let sender = sends(&world, 3, |_| spin_loop());
        let mut reader = world.reader();
        for n in 1..=3 {
            let received = loop {
                match pop(&mut reader) {
                    Some(message) => break message,
                    None => spin_loop(),
                }
            };
            assert_eq!(number(received), n);
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_ring_of_one_works() {
    model(|| {
        let world = World::new(1, 1);
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                let mut writer = world.writer::<u64>();
                for n in 1..=2 {
                    while !writer.push(&n, Stores::Cached).unwrap() {
                        spin_loop();
                    }
                }
            }
        });
        let mut reader = world.reader::<u64>();
        for n in 1..=2 {
            while pop(&mut reader).map(|value| assert_eq!(value, n)).is_none() {
                spin_loop();
            }
        }
        sender.join().unwrap();
    });
}

/// Both sides poll as they do in the first turns of a wait.
#[test]
fn a_glance_finds_what_is_whole() {
    model(|| {
        let world = World::new(1, 2);
        let sender = sends(&world, 2, |ring| {
            while !ring.has_news() {
                spin_loop();
            }
        });
        let mut reader = world.reader();
        for n in 1..=2 {
            while !reader.glance() {
                spin_loop();
            }
            assert_eq!(pop(&mut reader).map(number), Some(n));
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_batch_is_published_at_once() {
    model(|| {
        let world = World::new(2, 2);
        let sender = thread::spawn({
            let world = world.clone();
            move || assert_eq!(world.writer().push_many(&[message(1), message(2)], Stores::Cached).unwrap(), 2)
        });
        let mut reader = world.reader();
        let mut values = [[0; 2]; 2];
        let count = reader.pop_many(&mut values).unwrap();
        assert!(count == 0 || count == 2, "half a batch");
        for (value, n) in values.into_iter().take(count).zip(1..) {
            assert_eq!(number(value), n);
        }
        sender.join().unwrap();
    });
}

#[test]
fn no_wakeup_is_lost_in_either_direction() {
    model(|| {
        let world = World::new(1, 1);
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                let (mut writer, bell, ear) = (world.writer::<u64>(), world.readable(), world.writable());
                for n in 1..=2 {
                    blocking(&ear, || writer.push(&n, Stores::Cached).unwrap().then_some(()));
                    bell.notify(1);
                }
            }
        });
        let (mut reader, bell, ear) = (world.reader::<u64>(), world.writable(), world.readable());
        for n in 1..=2 {
            assert_eq!(blocking(&ear, || pop(&mut reader)), n);
            bell.notify(1);
        }
        sender.join().unwrap();
    });
}

/// The bit that a killed sleeper left behind is cleared while a new one goes to sleep.
#[test]
fn clearing_a_stale_bit_loses_nobody() {
    model(|| {
        let (flag, word) = (word(), futex());
        let event = Event::<Heap>::new(word.clone());
        let _ = event.listen(); // and was killed
        let notifier = thread::spawn({
            let (flag, event) = (flag.clone(), Event::<Heap>::new(word.clone()));
            move || {
                for value in 1..=2 {
                    flag.store(value, Ordering::Release);
                    event.notify(1);
                }
            }
        });
        for value in 1..=2 {
            blocking(&event, || (flag.load(Ordering::Acquire) >= value).then_some(()));
        }
        notifier.join().unwrap();
    });
}

/// Another listener announces itself and dies, just when the bit of the first was cleared: the first must not take the
/// word for unchanged.
#[test]
fn a_dying_listener_hides_no_news() {
    model(|| {
        let (flag, word) = (word(), futex());
        let notifier = thread::spawn({
            let (flag, event) = (flag.clone(), Event::<Heap>::new(word.clone()));
            move || {
                flag.store(1, Ordering::Release);
                event.notify(1);
            }
        });
        let dying = thread::spawn({
            let event = Event::<Heap>::new(word.clone());
            move || {
                let _ = event.listen();
            }
        });
        blocking(&Event::<Heap>::new(word), || (flag.load(Ordering::Acquire) == 1).then_some(()));
        notifier.join().unwrap();
        dying.join().unwrap();
    });
}

/// A sandbox closed in after the process had registered. Once notifiers can know that, they lose no
/// wake-up.
#[test]
fn a_listener_that_is_refused_its_fence_is_woken() {
    model_without_membarrier(|| {
        let (flag, word) = (word(), futex());
        let event = Event::<Heap>::new(word.clone());
        // It has listened before, and nothing is left of that but what it let notifiers know.
        let _ = event.listen();
        event.notify(1);
        assert!(!event.has_waiters());
        let notifier = thread::spawn({
            let (flag, event) = (flag.clone(), Event::<Heap>::new(word));
            move || {
                flag.store(1, Ordering::Release);
                event.notify(1);
            }
        });
        blocking(&event, || (flag.load(Ordering::Acquire) == 1).then_some(()));
        notifier.join().unwrap();
    });
}

/// Two sleepers, two wake-ups of one each: nobody is left behind.
#[test]
fn two_listeners_are_both_woken() {
    model(|| {
        let (flag, word) = (word(), futex());
        let listener = |flag: Shared<AtomicU64>, word: Shared<AtomicU32>| {
            move || {
                let event = Event::<Heap>::new(word);
                blocking(&event, || (flag.load(Ordering::Acquire) == 1).then_some(()));
                event.notify(1); // hand the news on
            }
        };
        let first = thread::spawn(listener(flag.clone(), word.clone()));
        let second = thread::spawn(listener(flag.clone(), word.clone()));
        flag.store(1, Ordering::Release);
        Event::<Heap>::new(word).notify(1);
        first.join().unwrap();
        second.join().unwrap();
    });
}

/// Closing comes after the last message: who sees the one has the other.
#[test]
fn a_closed_ring_is_drained_first() {
    model(|| {
        let world = World::new(2, 2);
        world.take();
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                assert!(world.writer().push(&message(1), Stores::Cached).unwrap());
                // No notification in between: its fence would hide a close that publishes nothing.
                world.role().close();
                world.readable().wake(1);
            }
        });
        let (mut reader, role, ear) = (world.reader(), world.role(), world.readable());
        let mut received = 0;
        loop {
            let news = blocking(&ear, || match pop(&mut reader) {
                Some(message) => Some(Some(number(message))),
                None if role.view().is_closed() => Some(pop(&mut reader).map(number)),
                None => None,
            });
            match news {
                Some(n) => {
                    received += 1;
                    assert_eq!(n, received);
                }
                None => break,
            }
        }
        assert_eq!(received, 1, "the end overtook a message");
        sender.join().unwrap();
    });
}

/// Runs a model for every place at which its victim can die, up to where it does not die any more.
fn for_every_kill(most: usize, body: impl Fn(usize, &std::sync::atomic::AtomicBool) + Send + Sync + Clone + 'static) {
    let mut survived = false;
    for accesses in 0..most {
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
        model({
            let (body, done) = (body.clone(), done.clone());
            move || body(accesses, &done)
        });
        if done.load(std::sync::atomic::Ordering::SeqCst) {
            survived = true;
            break;
        }
    }
    assert!(survived || !BOUNDS_ACCESSES, "the victim has more than {most} accesses: raise the bound");
}

/// A producer dies at any access and another takes its place, while the consumer reads.
fn succession(polls: bool) {
    for_every_kill(40, move |accesses, done| {
        let world = World::new(4, 2);
        world.take();
        let mut reader = world.reader::<[u64; 2]>();
        let producers = thread::spawn({
            let world = world.clone();
            move || {
                let finished = crash_after(accesses, || {
                    let mut writer = world.writer();
                    for n in 1..=2 {
                        assert!(writer.push(&message(n), Stores::Cached).unwrap());
                    }
                });
                // The kernel frees the seat's lock; the next one takes it.
                world.take();
                assert!(world.writer().push(&message(10), Stores::Cached).unwrap());
                finished
            }
        });

        let (mut last, mut succeeded) = (0, false);
        while last != 10 {
            if polls {
                reader.glance();
            }
            if let Some(message) = pop(&mut reader) {
                let n = number(message);
                assert!(n == last + 1 || n == 10, "{n} after {last}");
                assert_eq!(n == 10, succeeded, "a message on the wrong side of the succession");
                last = n;
            } else if let Some(succession) = reader.ring.successor() {
                assert_eq!(succession.view.since(succession.ended), (1, 1), "one came, one died");
                assert!(!succeeded);
                reader.ring.succeed();
                succeeded = true;
            } else {
                spin_loop();
            }
        }
        if !producers.join().unwrap() {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

#[test]
fn a_successor_of_a_killed_producer_is_told_from_it() {
    succession(false);
}

#[test]
fn a_glance_takes_no_successors_messages() {
    succession(true);
}

/// Without it a consumer would read on past where a successor began, and never find that place again.
#[test]
fn a_role_taken_back_does_not_hide_the_successor() {
    model(|| {
        let world = World::new(4, 2);
        world.take();
        let (mut writer, mut reader) = (world.writer(), world.reader());
        writer.push(&message(1), Stores::Cached).unwrap();
        let first = world.role.load(Ordering::Relaxed);
        world.take();
        assert_eq!(reader.ring.ready(1), Ok(1), "up to the boundary");
        // A lie: the first producer was never succeeded, and goes on.
        world.role.store(first, Ordering::Relaxed);
        writer.push(&message(2), Stores::Cached).unwrap();
        assert_eq!(pop(&mut reader).map(number), Some(1));
        assert!(!reader.glance());
        assert!(reader.ring.successor().is_some());
    });
}

/// Nor does a glance believe an index that moved back, or further than a ring's length.
#[test]
fn a_glance_believes_no_impossible_index() {
    model(|| {
        let world = World::new(4, 2);
        world.take();
        let (mut writer, mut reader) = (world.writer(), world.reader::<[u64; 2]>());
        for n in 1..=2 {
            writer.push(&message(n), Stores::Cached).unwrap();
        }
        assert!(reader.glance());
        for lie in [0, 1, 5, u64::MAX] {
            world.tail.store(lie, Ordering::Relaxed);
            assert!(reader.glance());
            assert_eq!(reader.ring.known(), 2);
        }
    });
}

/// A consumer dies at any access and another takes its place, while the producer writes.
#[test]
fn a_successor_of_a_killed_consumer_gets_the_rest_once() {
    for_every_kill(40, |accesses, done| {
        let world = World::new(1, 2);
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                let mut writer = world.writer();
                for n in 1..=2 {
                    while !writer.push(&message(n), Stores::Cached).unwrap() {
                        spin_loop();
                    }
                }
            }
        });
        let mut got = Vec::new();
        let finished = crash_after(accesses, || {
            let mut reader = world.reader::<[u64; 2]>();
            for _ in 0..2 {
                if let Some(message) = pop(&mut reader) {
                    got.push(number(message));
                }
            }
        });
        let by_first = got.len() as u64;
        assert!(got.iter().copied().eq(1..=by_first));
        let mut reader = world.reader::<[u64; 2]>();
        let mut next = None;
        while next != Some(3) {
            match pop(&mut reader) {
                Some(message) => {
                    let n = number(message);
                    match next {
                        None => assert!(n > by_first && n <= by_first + 2, "{n} after the first had {by_first}"),
                        Some(expected) => assert_eq!(n, expected),
                    }
                    next = Some(n + 1);
                }
                // The first may have died with the last one in its hands.
                None if next.is_none() && reader.ring.position() == 2 => break,
                None => spin_loop(),
            }
        }
        sender.join().unwrap();
        if !finished {
            done.store(false, std::sync::atomic::Ordering::SeqCst);
        }
    });
}

#[test]
fn records_pass_a_wrap_and_parts_come_together() {
    model(|| {
        let world = World::new(16, 1);
        // Start near the end, so that a record does not fit before it.
        world.tail.store(13, Ordering::Relaxed);
        world.head.store(13, Ordering::Relaxed);
        let sender = thread::spawn({
            let world = world.clone();
            move || {
                let mut writer = RecordWriter::new(world.producer(), world.data.clone());
                assert!(writer.push(&[1; 20], Stores::Cached).unwrap());
                assert!(writer.begin_large(12).unwrap());
                let first = writer.push_part(&[2; 12], Stores::Cached).unwrap().unwrap();
                assert!(first > 0);
                if first < 12 {
                    assert!(writer.push_part(&[2; 12][first..], Stores::Cached).unwrap().is_some());
                }
            }
        });
        let mut reader = RecordReader::new(world.consumer(), world.data.clone(), 100);
        let (mut seen, mut parts) = (0, 0);
        while parts < 12 {
            match reader.next().unwrap() {
                Next::Empty => spin_loop(),
                Next::Message { start, length } => {
                    let mut bytes = [0; 20];
                    reader.copy_out(start, &mut bytes[..length]).unwrap();
                    assert_eq!((seen, length, bytes), (0, 20, [1; 20]));
                    reader.release(length);
                    seen = 1;
                }
                Next::Large { length } => {
                    assert_eq!((seen, length), (1, 12));
                    reader.release(0);
                    seen = 2;
                }
                Next::Part { start, length } => {
                    let mut bytes = [0; 12];
                    reader.copy_out(start, &mut bytes[..length]).unwrap();
                    assert!(seen == 2 && bytes[..length].iter().all(|&byte| byte == 2));
                    reader.release(length);
                    parts += length;
                }
            }
        }
        sender.join().unwrap();
    });
}

/// The bit alone orders nothing: who sees it goes on to the role word.
#[test]
fn hanging_up_is_seen_with_the_role() {
    model(|| {
        let world = World::new(1, 1);
        let consumer = world.role();
        consumer.take(0);
        let leaver = thread::spawn({
            let world = world.clone();
            move || {
                world.role().close();
                world.readable().hang_up(true);
            }
        });
        let (bell, role) = (world.readable(), world.role());
        if bell.is_hung_up() {
            // The bit alone orders nothing; the role word decides, and may lag.
            let _ = role.view().is_closed();
        }
        leaver.join().unwrap();
        assert!(bell.is_hung_up() && role.view().is_closed());
    });
}

#[path = "mpmc_models.rs"]
mod many;

#[path = "pool_models.rs"]
mod pool;

#[path = "sync_models.rs"]
mod shared;
