//! The locks and semaphores of POSIX, in shared memory.

use std::cell::UnsafeCell;
use std::convert::Infallible;
use std::hint::black_box;
use std::mem;

use anyhow::{Result, ensure};

use super::with_words;
use crate::case::{Area, Case, Section, Work};
use crate::objects::{self, Object, Participant, UncheckedCell, first, load_all, lock_all, store_all};
use crate::sample::Sample;
use crate::shared_memory;
use crate::subject::{Job, Subject};

/// Process-shared mutexes and rwlocks.
pub struct Plain;

/// Mutexes whose next owner learns of the last one's death. Around a copy they make a value.
pub struct Robust;

/// `sem_t`.
pub struct Semaphores;

impl Subject for Plain {
    fn name(&self) -> &'static str {
        "pthread"
    }

    fn supports(&self, case: &Case) -> bool {
        matches!(case.work, Work::Lock(_))
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(Section::Read | Section::Write) => objects::processes::<Shared<RwLock>>(job),
            Work::Lock(Section::Reentrant) => objects::processes::<Shared<Mutex<RECURSIVE, UncheckedCell<u64>>>>(job),
            _ => objects::processes::<Shared<Mutex<PLAIN, UncheckedCell<u64>>>>(job),
        }
    }
}

impl Subject for Robust {
    fn name(&self) -> &'static str {
        "pthread-robust"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.work {
            Work::Lock(section) => matches!(section, Section::Nothing | Section::Add | Section::Compute),
            _ => case.has_value(),
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(_) => objects::processes::<Shared<Mutex<ROBUST, UncheckedCell<u64>>>>(job),
            _ => with_words!(job.case, N => objects::processes::<Shared<Mutex<ROBUST, UncheckedCell<[u64; N]>>>>(job)),
        }
    }
}

impl Subject for Semaphores {
    fn name(&self) -> &'static str {
        "sem_t"
    }

    fn supports(&self, case: &Case) -> bool {
        case.area == Area::Objects && matches!(case.work, Work::Permit | Work::PingPong)
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        objects::processes::<Shared<Pair>>(job)
    }
}

type Shared<T> = shared_memory::Shared<T>;

const PLAIN: u8 = 0;
const RECURSIVE: u8 = 1;
const ROBUST: u8 = 2;

#[repr(C, align(128))]
struct Mutex<const KIND: u8, T> {
    mutex: UnsafeCell<libc::pthread_mutex_t>,
    value: T,
}

// SAFETY: the mutex is made for threads of several processes.
unsafe impl<const KIND: u8, T: Sync> Sync for Mutex<KIND, T> {}
// SAFETY: it is set up before it is shared; values are numbers.
unsafe impl<const KIND: u8, T: Sync> shared_memory::Plain for Mutex<KIND, T> {}

impl<const KIND: u8, T: Sync> Mutex<KIND, T> {
    fn set_up() -> Result<Shared<Self>> {
        let shared = Shared::<Self>::create()?;
        // SAFETY: neither is shared yet.
        let status = unsafe {
            let mut attributes = mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            match KIND {
                RECURSIVE => libc::pthread_mutexattr_settype(&mut attributes, libc::PTHREAD_MUTEX_RECURSIVE),
                ROBUST => libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST),
                _ => 0,
            };
            libc::pthread_mutex_init(shared.mutex.get(), &attributes)
        };
        ensure!(status == 0, "pthread_mutex_init: {status}");
        Ok(shared)
    }

    #[inline(always)]
    fn lock(&self) -> Locked<'_, KIND, T> {
        // SAFETY: it was set up.
        let status = unsafe { libc::pthread_mutex_lock(self.mutex.get()) };
        assert_eq!(status, 0, "pthread_mutex_lock");
        Locked(self)
    }
}

struct Locked<'a, const KIND: u8, T>(&'a Mutex<KIND, T>);

impl<const KIND: u8, T> Drop for Locked<'_, KIND, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: this thread has it.
        unsafe { libc::pthread_mutex_unlock(self.0.mutex.get()) };
    }
}

impl<const KIND: u8> Object for Shared<Mutex<KIND, UncheckedCell<u64>>> {
    fn create(_: &Case) -> Result<Self> {
        Mutex::set_up()
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.lock(), |locked| locked.0.value.store(&(locked.0.value.load() + 1)));
        Ok(())
    }

    fn total(&self) -> u64 {
        self.lock().0.value.load()
    }
}

impl<const KIND: u8, const N: usize> Object for Shared<Mutex<KIND, UncheckedCell<[u64; N]>>> {
    fn create(_: &Case) -> Result<Self> {
        let shared = Mutex::<KIND, UncheckedCell<[u64; N]>>::set_up()?;
        shared.value.store(&first());
        Ok(shared)
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        if case.stores(index) {
            store_all::<N>(participant, |value| self.lock().0.value.store(value));
        } else {
            load_all::<N, _>(participant, || Ok::<_, Infallible>(self.lock().0.value.load()));
        }
        Ok(())
    }
}

#[repr(C, align(128))]
struct RwLock {
    lock: UnsafeCell<libc::pthread_rwlock_t>,
    value: UncheckedCell<u64>,
}

// SAFETY: as a mutex.
unsafe impl Sync for RwLock {}
// SAFETY: as a mutex.
unsafe impl shared_memory::Plain for RwLock {}

struct ReadOrWriteGuard<'a>(&'a RwLock);

impl Drop for ReadOrWriteGuard<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: this thread has it.
        unsafe { libc::pthread_rwlock_unlock(self.0.lock.get()) };
    }
}

impl Object for Shared<RwLock> {
    fn create(_: &Case) -> Result<Self> {
        let shared = Shared::<RwLock>::create()?;
        // SAFETY: neither is shared yet.
        let status = unsafe {
            let mut attributes = mem::zeroed();
            libc::pthread_rwlockattr_init(&mut attributes);
            libc::pthread_rwlockattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_rwlock_init(shared.lock.get(), &attributes)
        };
        ensure!(status == 0, "pthread_rwlock_init: {status}");
        Ok(shared)
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        let enter = |lock: unsafe extern "C" fn(*mut libc::pthread_rwlock_t) -> libc::c_int| {
            // SAFETY: it was set up.
            let status = unsafe { lock(self.lock.get()) };
            assert_eq!(status, 0, "pthread_rwlock_rdlock or wrlock");
            ReadOrWriteGuard(self)
        };
        match case.work {
            Work::Lock(Section::Read) => {
                lock_all(
                    participant,
                    case,
                    || enter(libc::pthread_rwlock_rdlock),
                    |guard| {
                        black_box(guard.0.value.load());
                    },
                );
            }
            _ => lock_all(
                participant,
                case,
                || enter(libc::pthread_rwlock_wrlock),
                |guard| {
                    guard.0.value.store(&(guard.0.value.load() + 1));
                },
            ),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        self.value.load()
    }
}

#[repr(C, align(128))]
struct Semaphore(UnsafeCell<libc::sem_t>);

impl Semaphore {
    #[inline(always)]
    fn wait(&self) {
        // SAFETY: it was set up. A signal is no reason to stop.
        while unsafe { libc::sem_wait(self.0.get()) } != 0 {}
    }

    #[inline(always)]
    fn post(&self) {
        // SAFETY: it was set up.
        unsafe { libc::sem_post(self.0.get()) };
    }
}

#[repr(C)]
struct Pair([Semaphore; 2]);

// SAFETY: semaphores are made for threads of several processes.
unsafe impl Sync for Pair {}
// SAFETY: it is set up before it is shared.
unsafe impl shared_memory::Plain for Pair {}

impl Object for Shared<Pair> {
    fn create(case: &Case) -> Result<Self> {
        let shared = Shared::<Pair>::create()?;
        for semaphore in &shared.0 {
            // SAFETY: it is not shared yet.
            let status = unsafe { libc::sem_init(semaphore.0.get(), 1, u32::from(case.work == Work::Permit)) };
            ensure!(status == 0, "sem_init: {status}");
        }
        Ok(shared)
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        let [there, back] = &self.0;
        match (case.work, index) {
            (Work::Permit, _) => participant.repeat(|| {
                there.wait();
                there.post();
            }),
            (_, 0) => {
                participant.round_trips(|| {
                    there.post();
                    back.wait();
                });
                there.post();
            }
            _ => participant.answer(|| {
                there.wait();
                let goes_on = !participant.is_over();
                back.post();
                goes_on
            }),
        }
        Ok(())
    }
}
