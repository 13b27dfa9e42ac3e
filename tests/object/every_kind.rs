//! What holds for objects of every kind: their types, their fairness, and how they are printed.

use std::fmt::Debug;
use std::time::Duration;

use tombolo::collections::{List, Map};
use tombolo::sync::{
    Array, ArrayGuard, AtomicValue, Barrier, BarrierWaitResult, BoundedPermit, BoundedSemaphore, Condvar, Event,
    LockError, Mutex, MutexGuard, Object, ObjectKind, Once, Permit, ReentrantMutex, ReentrantMutexGuard, RwLock,
    RwLockReadGuard, RwLockWriteGuard, Semaphore, SyncError, Value, ValueWriter,
};
use tombolo::types::Untagged;
use tombolo::{ErrorKind, Namespace, NamespaceBuilder, WaitStrategy};

use crate::common::{MOMENT, TooAligned, all_kinds, in_other_thread, refusal};
use crate::support::TestDir;

#[test]
fn object_of_empty_or_overaligned_type_is_refused() {
    let errors = [
        Value::new(()).map(drop).unwrap_err(),
        Array::new(&[(); 3]).map(drop).unwrap_err(),
        Value::new(Untagged(TooAligned([0; 32]))).map(drop).unwrap_err(),
        Mutex::new(Untagged(TooAligned([0; 32]))).map(drop).unwrap_err(),
        RwLock::new(Untagged(TooAligned([0; 32]))).map(drop).unwrap_err(),
        Array::new(&[Untagged(TooAligned([0; 32]))]).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
}

/// A waiter that has waited long asks newcomers to let it go first, but not once it has given up.
#[test]
fn object_waiter_timed_out_next_try_succeeds() {
    let _watchdog = TestDir::new();
    let mutex = Mutex::new(0_u8).unwrap();
    let guard = mutex.lock().unwrap();
    assert_eq!(in_other_thread(|| refusal(mutex.lock_timeout(MOMENT))), SyncError::TimedOut);
    drop(guard);
    drop(mutex.try_lock().unwrap());

    let semaphore = Semaphore::new(0).unwrap();
    assert_eq!(semaphore.acquire_timeout(MOMENT).unwrap_err(), SyncError::TimedOut);
    assert_eq!((semaphore.release(1), semaphore.try_acquire().map(|permit| permit.forget())), (Ok(()), Ok(())));
    assert_eq!(semaphore.acquire_timeout(MOMENT).unwrap_err(), SyncError::TimedOut);
    assert_eq!(
        (semaphore.release(1), semaphore.acquire_timeout(Duration::ZERO).map(|permit| permit.forget())),
        (Ok(()), Ok(()))
    );

    let bounded = BoundedSemaphore::new(1).unwrap();
    let permit = bounded.acquire().unwrap();
    assert_eq!(bounded.acquire_timeout(MOMENT).unwrap_err(), SyncError::TimedOut);
    drop(permit);
    drop(bounded.try_acquire().unwrap());

    let value = Value::new(0_u8).unwrap();
    let writer = value.writer().unwrap();
    assert_eq!(in_other_thread(|| value.store_timeout(&1, MOMENT)), Err(SyncError::TimedOut));
    drop(writer);
    assert_eq!(value.try_store(&2), Ok(()));
}

macro_rules! assert_impl {
    ($($bound:ident)+: $($type:ty),+ $(,)?) => {
        const _: () = {
            const fn check<T: $($bound +)+ ?Sized>() {}
            $(check::<$type>();)+
        };
    };
}

/// Does not compile if one of the types implements the trait: `check` would be ambiguous then.
macro_rules! assert_not_impl {
    ($bound:ident: $($type:ty),+ $(,)?) => { $(
        const _: () = {
            struct Is;
            trait Ambiguous<A> {
                fn check() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $bound> Ambiguous<Is> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        };
    )+ };
}

assert_impl!(Send Sync Clone Debug: Namespace, NamespaceBuilder, Value<u64>, AtomicValue<u64>, Array<u64>, Mutex<u64>,
    ReentrantMutex<u64>, RwLock<u64>, Semaphore, BoundedSemaphore, Condvar, Event, Barrier, Once, Map<str, u64>,
    List<u64>);
assert_impl!(Object: Value<u64>, AtomicValue<u64>, Array<u64>, Mutex<u64>, ReentrantMutex<u64>, RwLock<u64>, Semaphore,
    BoundedSemaphore, Condvar, Event, Barrier, Once, Map<str, u64>,
    List<u64>);
assert_impl!(Debug: ValueWriter<'static, u64>, ArrayGuard<'static, u64>, MutexGuard<'static, u64>,
    ReentrantMutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, RwLockWriteGuard<'static, u64>,
    Permit<'static>, LockError<MutexGuard<'static, u64>>);
// A permit belongs to the process, not to the thread.
assert_impl!(Send Sync: Permit<'static>, BoundedPermit<'static>, BarrierWaitResult, SyncError);
assert_impl!(Copy Eq: BarrierWaitResult, SyncError, ObjectKind);
assert_not_impl!(Send: ValueWriter<'static, u64>, ArrayGuard<'static, u64>, MutexGuard<'static, u64>,
    ReentrantMutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, RwLockWriteGuard<'static, u64>);
assert_not_impl!(Clone: MutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, BoundedPermit<'static>);

#[test]
fn object_debug_and_error_texts_identify_their_subject() {
    let namespace = all_kinds().create().unwrap();
    assert!(format!("{namespace:?} {:?}", all_kinds()).contains("Namespace"));
    let mutex = namespace.mutex::<f64>("mutex").unwrap();
    assert!(format!("{mutex:?}").contains("\"mutex\""), "{mutex:?}");
    let guard = mutex.lock().unwrap();
    assert!(format!("{guard:?}").contains("2.5"), "{guard:?}");
    let refused = mutex.lock().unwrap_err();
    assert!(format!("{refused:?}").contains("WouldDeadlock") && refused.to_string().contains("this thread"));
    let lock = namespace.rw_lock::<[u64; 9]>("rw lock").unwrap();
    assert!(format!("{:?}", lock.read().unwrap()).contains("4, 4"));
    assert!(format!("{:?}", lock.write().unwrap()).contains("4, 4"));
    let reentrant = namespace.reentrant_mutex::<u8>("re-entrant").unwrap();
    assert!(format!("{:?}", reentrant.lock().unwrap()).contains("re-entrant"));
    let section = namespace.array::<[u32; 3]>("array").unwrap();
    assert!(format!("{:?}", section.lock().unwrap()).contains("length: 5"));
    let value = namespace.value::<[u8; 100]>("value").unwrap();
    assert!(format!("{:?}", value.writer().unwrap()).contains("\"value\""));
    assert_eq!(
        format!("{:?}", namespace.semaphore("semaphore").unwrap().acquire().unwrap()),
        "Permit { count: 1, .. }"
    );

    let mut poisoning = Mutex::new(0_u8).unwrap();
    poisoning.lock().unwrap().poison();
    let text = poisoning.lock().unwrap_err().to_string();
    assert!(text.contains("poisoned"), "{text}");
    poisoning = poisoning.with_wait(WaitStrategy::Park);
    assert_eq!(poisoning.try_lock().unwrap_err().into_guard().map(|guard| *guard), Ok(0));
    assert_eq!(LockError::<()>::from(SyncError::Forked).into_guard(), Err(SyncError::Forked));

    let errors = [
        (SyncError::WouldBlock, std::io::ErrorKind::WouldBlock),
        (SyncError::TimedOut, std::io::ErrorKind::TimedOut),
        (SyncError::WouldDeadlock, std::io::ErrorKind::Deadlock),
        (SyncError::NotOwner, std::io::ErrorKind::PermissionDenied),
        (SyncError::LimitExceeded { count: 9, limit: 5 }, std::io::ErrorKind::InvalidInput),
        (SyncError::OutOfBounds { index: 9, length: 5 }, std::io::ErrorKind::InvalidInput),
        (SyncError::BarrierBroken { pid: 0 }, std::io::ErrorKind::ConnectionReset),
        (SyncError::BarrierBroken { pid: 123 }, std::io::ErrorKind::ConnectionReset),
        (SyncError::Corrupt, std::io::ErrorKind::InvalidData),
        (SyncError::Forked, std::io::ErrorKind::Unsupported),
        (SyncError::LockLost, std::io::ErrorKind::ConnectionReset),
    ];
    let texts: std::collections::BTreeSet<String> = errors.iter().map(|(error, _)| error.to_string()).collect();
    assert_eq!(texts.len(), errors.len(), "each says something of its own");
    for (error, kind) in errors {
        assert_eq!(std::io::Error::from(error).kind(), kind);
    }
    assert!(texts.iter().any(|text| text.contains("123")) && texts.iter().any(|text| text.contains("array of 5")));
}
