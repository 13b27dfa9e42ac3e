use std::fs::File;
use std::hint::black_box;
use std::os::fd::OwnedFd;

use anyhow::Result;
use tombolo::Namespace;
use tombolo::sync::{AtomicValue, BoundedSemaphore, Mutex, ReentrantMutex, RwLock, Semaphore, Value};

use super::{Contender, first, load_all, lock_all, look_at, store_all, with_words};
use crate::case::{Case, Section, Work};
use crate::play::{Job, Link, Object, Sample, Stage};
use crate::shared;

/// Values are stored by anybody, except where the case is about readers.
pub struct Tombolo;

/// Values are stored by the only writer.
pub struct Writer;

/// Permits belong to who takes them.
pub struct Bounded;

impl Contender for Tombolo {
    fn name(&self) -> &'static str {
        "tombolo"
    }

    fn can(&self, _: &Case) -> bool {
        true
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Load | Work::LoadBusy => {
                with_words!(job.case, N => job.processes::<Handed<Alone<Value<[u64; N]>>>>())
            }
            Work::Store => with_words!(job.case, N => job.processes::<Handed<Value<[u64; N]>>>()),
            Work::Add => job.processes::<Handed<AtomicValue<u64>>>(),
            Work::Lock(Section::Add) => job.processes::<Handed<Mutex<u64>>>(),
            Work::Lock(Section::Nothing | Section::Compute) => job.processes::<Handed<Mutex<()>>>(),
            Work::Lock(Section::Reentrant) => job.processes::<Handed<ReentrantMutex<()>>>(),
            Work::Lock(Section::Read | Section::Write) => job.processes::<Handed<RwLock<u64>>>(),
            Work::Permit => job.processes::<Handed<Semaphore>>(),
            Work::PingPong => job.processes::<Handed<Pair>>(),
        }
    }
}

impl Contender for Writer {
    fn name(&self) -> &'static str {
        "tombolo-writer"
    }

    fn can(&self, case: &Case) -> bool {
        case.work == Work::Store
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        with_words!(job.case, N => job.processes::<Handed<Alone<Value<[u64; N]>>>>())
    }
}

impl Contender for Bounded {
    fn name(&self) -> &'static str {
        "tombolo-bounded"
    }

    fn can(&self, case: &Case) -> bool {
        case.work == Work::Permit
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        job.processes::<Handed<BoundedSemaphore>>()
    }
}

/// An object, and the descriptor by which others get it.
struct Handed<T> {
    object: T,
    file: Option<File>,
}

trait Play: Sized {
    fn create() -> Result<Self>;
    fn share(&self) -> Result<OwnedFd>;
    fn open(descriptor: OwnedFd) -> Result<Self>;
    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()>;
    fn total(&self) -> u64 {
        0
    }
}

impl<T: Play> Object for Handed<T> {
    fn create(_: &Case) -> Result<Self> {
        let object = T::create()?;
        let file = shared::inheritable(object.share()?.into())?;
        Ok(Self { object, file: Some(file) })
    }

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        self.object.play(case, participant, stage)
    }

    fn total(&self) -> u64 {
        self.object.total()
    }
}

impl<T: Play> Link for Handed<T> {
    fn address(&self) -> String {
        shared::address(&self.file)
    }

    fn join(_: &Case, address: &str) -> Result<Self> {
        // SAFETY: the first process left this descriptor to us alone.
        let [file] = unsafe { shared::inherited(address) }?;
        Ok(Self { object: T::open(file.into())?, file: None })
    }
}

/// One that can be on its own.
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

impl<const N: usize> Play for Value<[u64; N]> {
    single!(Self::new(first()));

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        if case.stores(participant) {
            store_all::<N>(stage, |value| self.store(value).expect("it can be stored"));
        } else if size_of::<[u64; N]>() > LONG {
            let mut copy = first();
            stage.run(|| match self.load_into(&mut copy) {
                Ok(()) => look_at(stage, black_box(&copy)),
                Err(_) => stage.refused(),
            });
        } else {
            load_all::<N, _>(stage, || self.load());
        }
        Ok(())
    }
}

/// Bytes from which on a value is better loaded in place.
const LONG: usize = 128;

/// A value that has only one writer.
struct Alone<T>(T);

impl<const N: usize> Play for Alone<Value<[u64; N]>> {
    fn create() -> Result<Self> {
        Ok(Self(Play::create()?))
    }

    fn share(&self) -> Result<OwnedFd> {
        Play::share(&self.0)
    }

    fn open(descriptor: OwnedFd) -> Result<Self> {
        Ok(Self(Play::open(descriptor)?))
    }

    fn play(&self, case: &Case, participant: usize, stage: &Stage) -> Result<()> {
        if case.stores(participant) {
            let mut writer = self.0.writer()?;
            store_all::<N>(stage, |value| writer.store(value).expect("it can be stored"));
            return Ok(());
        }
        self.0.play(case, participant, stage)
    }
}

impl Play for AtomicValue<u64> {
    single!(Self::new(0));

    fn play(&self, _: &Case, _: usize, stage: &Stage) -> Result<()> {
        stage.run(|| {
            black_box(self.fetch_add(1));
        });
        Ok(())
    }

    fn total(&self) -> u64 {
        self.load()
    }
}

const INTACT: &str = "nobody dies with the lock";

impl Play for Mutex<()> {
    single!(Self::new(()));

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.lock().expect(INTACT), |_| {});
        Ok(())
    }
}

impl Play for Mutex<u64> {
    single!(Self::new(0));

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.lock().expect(INTACT), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.lock().expect(INTACT)
    }
}

impl Play for ReentrantMutex<()> {
    single!(Self::new(()));

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        lock_all(stage, case, || self.lock().expect(INTACT), |_| {});
        Ok(())
    }
}

impl Play for RwLock<u64> {
    single!(Self::new(0));

    fn play(&self, case: &Case, _: usize, stage: &Stage) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => {
                lock_all(stage, case, || self.read().expect(INTACT), |count| _ = black_box(**count));
            }
            _ => lock_all(stage, case, || self.write().expect(INTACT), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.read().expect(INTACT)
    }
}

impl Play for Semaphore {
    single!(Self::new(1));

    fn play(&self, _: &Case, _: usize, stage: &Stage) -> Result<()> {
        stage.run(|| {
            self.acquire(1).expect("there is one");
            self.release(1).expect("it was taken");
        });
        Ok(())
    }
}

impl Play for BoundedSemaphore {
    single!(Self::new(1));

    fn play(&self, _: &Case, _: usize, stage: &Stage) -> Result<()> {
        stage.run(|| {
            self.acquire(1).expect("there is one");
            self.release(1).expect("it was taken");
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

impl Play for Pair {
    fn create() -> Result<Self> {
        Self::of(Namespace::builder().semaphore("there", 0).semaphore("back", 0).create()?)
    }

    fn share(&self) -> Result<OwnedFd> {
        Ok(self.1.share()?)
    }

    fn open(descriptor: OwnedFd) -> Result<Self> {
        Self::of(Namespace::from_fd(descriptor)?)
    }

    fn play(&self, _: &Case, participant: usize, stage: &Stage) -> Result<()> {
        let [there, back] = &self.0;
        let give = |semaphore: &Semaphore| semaphore.release(1).expect("there is room");
        let take = |semaphore: &Semaphore| semaphore.acquire(1).expect("one will come");
        if participant == 0 {
            stage.trips(|| {
                give(there);
                take(back);
            });
            give(there);
        } else {
            stage.answer(|| {
                take(there);
                let goes_on = !stage.is_over();
                give(back);
                goes_on
            });
        }
        Ok(())
    }
}
