//! The channel and the locks of the standard library.

use std::hint::black_box;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, RwLock};

use anyhow::Result;

use super::{Blocking, Isolated, One, take, with_spsc_message};
use crate::case::{Area, Case, Section, Transfer, Wait, Work};
use crate::harness::payload::{Check, Fill, Message};
use crate::objects::{self, Object, Participant, lock_all};
use crate::sample::Sample;
use crate::spsc::{self, Rx, Tx};
use crate::subject::{Job, Subject};

pub struct Std;

impl Subject for Std {
    fn name(&self) -> &'static str {
        "std"
    }

    fn supports(&self, case: &Case) -> bool {
        match case.area {
            Area::Spsc => case.transfer == Transfer::One,
            Area::Mpmc | Area::Broadcast => false,
            Area::Objects => matches!(case.work, Work::Lock(section) if section != Section::Reentrant),
        }
    }

    fn run(&self, job: &Job) -> Result<Sample> {
        match job.case.work {
            Work::Lock(Section::Read | Section::Write) => objects::threads::<Isolated<RwLock<u64>>>(job),
            Work::Lock(_) => objects::threads::<Isolated<Mutex<u64>>>(job),
            _ => with_spsc_message!(job.case, M => run_spsc::<M>(job)),
        }
    }
}

fn run_spsc<M: Message>(job: &Job) -> Result<Sample> {
    let make = || sync_channel::<M>(job.case.slots);
    if job.case.work == Work::PingPong && job.case.wait == Wait::Spin {
        spsc::threads(job, || {
            let (tx, rx) = make();
            (Blocking(tx), One(rx))
        })
    } else {
        spsc::threads(job, || {
            let (tx, rx) = make();
            (Blocking(tx), Blocking(rx))
        })
    }
}

impl<M: Message> Tx for Blocking<SyncSender<M>> {
    fn send(&mut self, _: usize, fill: &mut Fill) -> usize {
        self.0.send(M::new(fill)).expect("the receiver is there");
        1
    }
}

impl<M: Message> Rx for One<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.try_recv(), check)
    }
}

impl<M: Message> Rx for Blocking<Receiver<M>> {
    fn receive(&mut self, _: usize, check: &mut Check) -> usize {
        take(self.0.recv(), check)
    }
}

impl Object for Isolated<Mutex<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(Mutex::new(0)))
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        lock_all(participant, case, || self.0.lock().expect("no owner panics"), |count| **count += 1);
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.lock().expect("no owner panics")
    }
}

impl Object for Isolated<RwLock<u64>> {
    fn create(_: &Case) -> Result<Self> {
        Ok(Self(RwLock::new(0)))
    }

    fn run(&self, case: &Case, _: usize, participant: &Participant) -> Result<()> {
        match case.work {
            Work::Lock(Section::Read) => {
                lock_all(participant, case, || self.0.read().expect("no owner panics"), |count| _ = black_box(**count));
            }
            _ => lock_all(participant, case, || self.0.write().expect("no owner panics"), |count| **count += 1),
        }
        Ok(())
    }

    fn total(&self) -> u64 {
        *self.0.read().expect("no owner panics")
    }
}
