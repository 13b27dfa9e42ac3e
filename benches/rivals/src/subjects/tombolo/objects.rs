use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use anyhow::Result;
use tombolo::Namespace;
use tombolo::sync::{AtomicValue, BoundedSemaphore, Mutex, ReentrantMutex, RwLock, Semaphore, Value};

use crate::case::{Case, Section, Work};
use crate::objects::{self, Link, Object, Participant, check_value, first, load_all, lock_all, store_all};
use crate::sample::Sample;
use crate::shared_memory;
use crate::subject::Job;
use crate::subjects::with_words;

pub fn run(job: &Job) -> Result<Sample> {
    match job.case.work {
        Work::Load | Work::LoadBusy => run_writer(job),
        Work::Store => with_words!(job.case, N => objects::processes::<Passed<Value<[u64; N]>>>(job)),
        Work::Add => objects::processes::<Passed<AtomicValue<u64>>>(job),
        Work::Lock(Section::Add) => objects::processes::<Passed<Mutex<u64>>>(job),
        Work::Lock(Section::Nothing | Section::Compute) => objects::processes::<Passed<Mutex<()>>>(job),
        Work::Lock(Section::Reentrant) => objects::processes::<Passed<ReentrantMutex<()>>>(job),
        Work::Lock(Section::Read | Section::Write) => objects::processes::<Passed<RwLock<u64>>>(job),
        Work::Permit => objects::processes::<Passed<Semaphore>>(job),
        _ => objects::processes::<Passed<Pair>>(job),
    }
}

/// Values are stored by their only writer.
pub fn run_writer(job: &Job) -> Result<Sample> {
    with_words!(job.case, N => objects::processes::<Passed<OneWriter<Value<[u64; N]>>>>(job))
}

pub fn run_bounded(job: &Job) -> Result<Sample> {
    objects::processes::<Passed<BoundedSemaphore>>(job)
}

/// An object, and the descriptor that is passed to others.
struct Passed<T> {
    object: T,
    file: Option<File>,
}

trait Run: Sized {
    fn create() -> Result<Self>;
    fn share(&self) -> Result<OwnedFd>;
    fn open(descriptor: OwnedFd) -> Result<Self>;
    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()>;
    fn total(&self) -> u64 {
        0
    }
}

impl<T: Run> Object for Passed<T> {
    fn create(_: &Case) -> Result<Self> {
        let object = T::create()?;
        let file = shared_memory::inheritable(object.share()?.into())?;
        Ok(Self { object, file: Some(file) })
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        self.object.run(case, index, participant)
    }

    fn total(&self) -> u64 {
        self.object.total()
    }
}

impl<T: Run> Link for Passed<T> {
    fn address(&self) -> String {
        shared_memory::address(&self.file)
    }

    fn join(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared_memory::inherited(address) }?;
        Ok(Self { object: T::open(file.into())?, file: None })
    }
}

/// For an object in a region of its own.
macro_rules! single {
    ($new:expr) => {
        fn create() -> Result<Self> {
            Ok($new?)
        }

        fn share(&self) -> Result<OwnedFd> {
            Ok(self.share()?)
        }

        fn open(descriptor: OwnedFd) -> Result<Self> {
            Ok(Self::from_fd(descriptor)?)
        }
    };
}

impl<const N: usize> Run for Value<[u64; N]> {
    single!(Self::new(first()));

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        if case.stores(index) {
            store_all::<N>(participant, |value| self.store(value).expect("it can be stored"));
        } else if size_of::<[u64; N]>() > LONG {
            let mut copy = first();
            participant.repeat(|| match self.load_into(&mut copy) {
                Ok(()) => check_value(participant, black_box(&copy)),
                Err(_) => participant.count_failed(),
            });
        } else {
            load_all::<N, _>(participant, || self.load());
        }
        Ok(())
    }
}

/// Above this many bytes, `load_into` is faster than `load`.
const LONG: usize = 128;

/// A value that has only one writer.
struct OneWriter<T>(T);

impl<const N: usize> Run for OneWriter<Value<[u64; N]>> {
    fn create() -> Result<Self> {
        Ok(Self(Run::create()?))
    }

    fn share(&self) -> Result<OwnedFd> {
        Run::share(&self.0)
    }

    fn open(descriptor: OwnedFd) -> Result<Self> {
        Ok(Self(Run::open(descriptor)?))
    }

    fn run(&self, case: &Case, index: usize, participant: &Participant) -> Result<()> {
        if case.stores(index) {
            let mut writer = self.0.writer()?;
            store_all::<N>(participant, |value| writer.store(value).expect("it can be stored"));
            return Ok(());
        }
        self.0.run(case, index, participant)
    }
}

impl Run for AtomicValue<u64> {
    single!(Self::new(0));

    fn run(&self, _: &Case, _: usize, participant: &Participant) -> Result<()> {
        participant.repeat(|| {
            black_box(self.fetch_add(1));
        });
        Ok(())
    }

    fn total(&self) -> u64 {
        self.load()
    }
}

const INTACT: &str = "no owner dies";

impl Run for Mutex<()> {
    single!(Self::new(()));

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.lock().expect(INTACT), |_| {});
        Ok(())
    }
}

impl Run for Mutex<u64> {
    single!(Self::new(0));

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.lock().expect(INTACT), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.lock().expect(INTACT)
    }
}

impl Run for ReentrantMutex<()> {
    single!(Self::new(()));

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.lock().expect(INTACT), |_| {});
        Ok(())
    }
}

impl Run for RwLock<u64> {
    single!(Self::new(0));

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => {
                lock_all(participant, case, || self.read().expect(INTACT), |count| _ = black_box(**count));
            }
            _ => lock_all(participant, case, || self.write().expect(INTACT), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.read().expect(INTACT)
    }
}

impl Run for Semaphore {
    single!(Self::new(1));

    fn run(&self, _: &Case, _: usize, participant: &Participant) -> Result<()> {
        participant.repeat(|| {
            drop(self.acquire().expect("there is one"));
        });
        Ok(())
    }
}

impl Run for BoundedSemaphore {
    single!(Self::new(1));

    fn run(&self, _: &Case, _: usize, participant: &Participant) -> Result<()> {
        participant.repeat(|| {
            drop(self.acquire().expect("there is one"));
        });
        Ok(())
    }
}

struct Pair([Semaphore; 2], Namespace);

impl Pair {
    fn of(namespace: Namespace) -> Result<Self> {
        Ok(Self([namespace.semaphore("there")?, namespace.semaphore("back")?], namespace))
    }
}

impl Run for Pair {
    fn create() -> Result<Self> {
        Self::of(Namespace::builder().semaphore("there", 0).semaphore("back", 0).create()?)
    }

    fn share(&self) -> Result<OwnedFd> {
        Ok(self.1.share()?)
    }

    fn open(descriptor: OwnedFd) -> Result<Self> {
        Self::of(Namespace::from_fd(descriptor)?)
    }

    fn run(&self, _: &Case, index: usize, participant: &Participant) -> Result<()> {
        let [there, back] = &self.0;
        let give = |semaphore: &Semaphore| semaphore.release(1).expect("there is room");
        let take = |semaphore: &Semaphore| semaphore.acquire().expect("one will come").forget();
        if index == 0 {
            participant.round_trips(|| {
                give(there);
                take(back);
            });
            give(there);
        } else {
            participant.answer(|| {
                take(there);
                let goes_on = !participant.is_over();
                give(back);
                goes_on
            });
        }
        Ok(())
    }
}
