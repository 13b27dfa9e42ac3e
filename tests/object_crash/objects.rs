//! The objects that are swept, each under the name of its kind, and checks that they work.

use std::thread;

use tombolo::queue::Queue;
use tombolo::sync::{Barrier, BoundedSemaphore, Event, Mutex, RwLock, Semaphore, SyncError, Value};
use tombolo::{Namespace, NamespaceBuilder};

use crate::common::{Pair, number, pair};

pub fn value_of(namespace: &Namespace) -> Value<Pair> {
    namespace.value("value").unwrap()
}

pub fn mutex_of(namespace: &Namespace) -> Mutex<Pair> {
    namespace.mutex("mutex").unwrap()
}

pub fn lock_of(namespace: &Namespace) -> RwLock<Pair> {
    namespace.rw_lock("rw").unwrap()
}

pub fn permits_of(namespace: &Namespace) -> Semaphore {
    namespace.semaphore("permits").unwrap()
}

pub fn slots_of(namespace: &Namespace) -> BoundedSemaphore {
    namespace.bounded_semaphore("slots").unwrap()
}

pub fn event_of(namespace: &Namespace) -> Event {
    namespace.event("event").unwrap()
}

pub fn barrier_of(namespace: &Namespace) -> Barrier {
    namespace.barrier("barrier").unwrap()
}

pub fn queue_of(namespace: &Namespace) -> Queue<Pair> {
    namespace.queue("queue").unwrap()
}

pub fn all_kinds(plan: NamespaceBuilder) -> NamespaceBuilder {
    plan.value("value", pair(0))
        .array("array", &[pair(0); 2])
        .mutex("mutex", pair(0))
        .rw_lock("rw", pair(0))
        .bounded_semaphore("slots", 3)
        .barrier("barrier", 2)
        .once("once")
        .queue::<u64>("queue", 2)
}

/// Uses every object; values count upwards.
pub fn all_work(namespace: &Namespace) {
    let raise = |pair: &mut Pair| *pair = self::pair(number(*pair) + 1);
    value_of(namespace).update(raise).unwrap();
    let array = namespace.array::<Pair>("array").unwrap();
    let mut section = array.lock().unwrap();
    let mut last = section.get(1).unwrap();
    raise(&mut last);
    section.set(1, last).unwrap();
    drop(section);
    raise(&mut mutex_of(namespace).lock().unwrap());
    raise(&mut lock_of(namespace).write().unwrap());
    let slots = slots_of(namespace);
    slots.acquire_many(3).unwrap().forget();
    slots.release(3).unwrap();
    all_wait(namespace, 2);
    namespace.once("once").unwrap().call_once(|| {}).unwrap();
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    for number in 0..2 {
        queue.try_send(number).unwrap();
    }
    assert_eq!((queue.try_recv(), queue.try_recv()), (Ok(0), Ok(1)));
}

/// Resets the barrier, and lets `parties` threads meet there.
pub fn all_wait(namespace: &Namespace, parties: usize) {
    let barrier = barrier_of(namespace);
    barrier.reset().unwrap();
    let mut indices: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|_| scope.spawn(|| barrier.wait().unwrap().index())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..parties));
}

pub fn mutex_works(namespace: &Namespace) {
    let mutex = mutex_of(namespace);
    let before = number(*mutex.lock().unwrap());
    *mutex.try_lock().unwrap() = pair(before + 1);
    assert_eq!(number(*mutex.lock().unwrap()), before + 1);
    assert!(!mutex.is_locked());
}

pub fn rw_lock_works(namespace: &Namespace) {
    let lock = lock_of(namespace);
    *lock.write().unwrap() = pair(7);
    let readers = (lock.read().unwrap(), lock.try_read().unwrap());
    assert_eq!(number(*readers.0), number(*readers.1));
    drop(readers);
    drop(lock.write().unwrap());
}

pub fn slots_work(namespace: &Namespace) {
    let slots = slots_of(namespace);
    slots.acquire_many(3).unwrap().forget();
    assert_eq!(slots.try_acquire().unwrap_err(), SyncError::WouldBlock);
    slots.release(3).unwrap();
    assert_eq!(slots.available(), 3);
}
