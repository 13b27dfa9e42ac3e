//! Models of `src/raw/rpc.rs`. A request is a message with a number, its reply one with that number
//! and 100.

use super::*;
use crate::primitive::fence;
use crate::raw::rpc::{CallState, CallTable, CallerCell, GivenUp, Outcome, Rotation, Taken, buffer, cell};

const REQUEST_WORDS: usize = 2;
const CELL: usize = cell::REQUEST + REQUEST_WORDS;
const BUFFER: usize = buffer::REPLY + 2;

#[derive(Clone)]
struct CallWorld {
    cells: SharedWords,
    buffers: SharedWords,
    active: SharedWords,
    callers: usize,
    responders: usize,
    /// What responders sleep on.
    requests: Shared<AtomicU32>,
}

impl CallWorld {
    fn new(callers: usize, responders: usize) -> Self {
        Self {
            cells: new_words(callers * CELL),
            buffers: new_words(callers * responders * BUFFER),
            active: new_words(1),
            callers,
            responders,
            requests: new_futex(),
        }
    }

    fn table(&self) -> CallTable<Heap> {
        CallTable {
            cells: self.cells.clone(),
            cell_stride: CELL,
            buffers: self.buffers.clone(),
            buffer_stride: BUFFER,
            active: self.active.clone(),
            callers: self.callers,
            responders: self.responders,
        }
    }

    fn caller(&self, index: usize) -> Caller {
        let table = self.table();
        Caller { cell: CallerCell::attach(&table, index), table, index, world: self.clone() }
    }

    fn responder(&self, index: usize) -> Responder {
        Responder { rotation: Rotation::default(), table: self.table(), index, world: self.clone() }
    }

    fn settle(&self, responder: usize) {
        // After the kernel has freed the lock of the dead.
        fence(Ordering::SeqCst);
        (0..self.callers).for_each(|caller| _ = self.table().settle(caller, responder));
    }
}

struct Caller {
    cell: CallerCell,
    table: CallTable<Heap>,
    index: usize,
    world: CallWorld,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Replied,
    Died,
    Dropped,
}

impl Caller {
    fn begin(&mut self, request: u64) {
        assert!(self.cell.has_buffer() || self.cell.find_buffer(&self.table, |_| false), "no buffer for a reply");
        self.cell.publish(&self.table, |words| store_message(&words[1..], request));
        self.table.set_active(self.index);
        event(&self.world.requests).notify(1);
    }

    fn ended(&self, request: u64) -> Option<Ended> {
        match self.cell.answer(&self.table).unwrap() {
            Some(Outcome::Replied) => {
                let reply = load_message(self.table.reply(self.index, self.cell.buffer()));
                assert_eq!(reply, request + 100, "the reply to another request");
                Some(Ended::Replied)
            }
            Some(_) => Some(Ended::Dropped),
            None => (self.cell.state(&self.table).unwrap() == CallState::Died).then_some(Ended::Died),
        }
    }

    fn call(&mut self, request: u64) -> Ended {
        self.begin(request);
        spin_for(|| self.ended(request))
    }

    /// Gives up. Returns whether the request may have been executed.
    fn give_up(&mut self, request: u64) -> bool {
        match self.cell.give_up(&self.table) {
            GivenUp::NotTaken => false,
            GivenUp::Taken | GivenUp::Died => true,
            GivenUp::Answered => {
                assert_eq!(self.ended(request), Some(Ended::Replied));
                true
            }
        }
    }
}

struct Responder {
    rotation: Rotation,
    table: CallTable<Heap>,
    index: usize,
    world: CallWorld,
}

impl Responder {
    /// Takes a request and copies it.
    fn recv(&mut self) -> Option<(Taken, u64)> {
        let taken = self.rotation.take_any(&self.table, self.index, self.world.callers)?;
        self.read(taken)
    }

    fn read(&self, taken: Taken) -> Option<(Taken, u64)> {
        let copied = copy_message(&self.table.request(taken.caller)[1..]);
        self.table.is_current(&taken).then(|| (taken, number(copied)))
    }

    fn reply(&self, taken: Taken, request: u64) -> bool {
        let began = self.table.begin_reply(&taken);
        if began {
            store_message(self.table.reply(taken.caller, taken.buffer()), request + 100);
            self.table.finish(&taken, Outcome::Replied);
        }
        began
    }

    /// Serves one request, if there is one. Returns its number.
    fn serve(&mut self) -> Option<u64> {
        let (taken, request) = self.recv()?;
        self.reply(taken, request);
        Some(request)
    }

    /// Blocks as an endpoint does.
    fn serve_blocking(&mut self) -> u64 {
        let event = event(&self.world.requests);
        loop {
            if let Some(taken) = self.rotation.take_active(&self.table, self.index) {
                let (taken, request) = self.read(taken).unwrap();
                self.reply(taken, request);
                return request;
            }
            self.table.clear_idle();
            let key = event.listen();
            if let Some(request) = self.serve() {
                return request;
            }
            event.wait(key, Duration::MAX);
        }
    }
}

#[test]
fn rpc_call_gets_its_reply_whole() {
    model(|| {
        let world = CallWorld::new(1, 1);
        let responding = spawn(&world, |world| {
            let mut responder = world.responder(0);
            [(); 2].map(|()| spin_for(|| responder.serve()))
        });
        let mut caller = world.caller(0);
        assert_eq!([1, 2].map(|request| caller.call(request)), [Ended::Replied; 2]);
        assert_eq!(join(responding), [1, 2]);
    });
}

#[test]
fn rpc_two_responders_one_takes_each_request() {
    model(|| {
        let world = CallWorld::new(1, 2);
        let mut caller = world.caller(0);
        caller.begin(1);
        let responding = spawn_each(&world, [0, 1], |world, index| world.responder(index).serve());
        let served = join_all(responding);
        assert_eq!(served.iter().flatten().count(), 1, "{served:?}");
        assert_eq!(caller.ended(1), Some(Ended::Replied));
    });
}

/// The caller gives up at any time and calls again. A responder that has the first request neither
/// answers the second one with its reply, nor writes into it.
#[test]
fn rpc_caller_gives_up_next_call_gets_its_own_reply() {
    model(|| {
        let world = CallWorld::new(1, 2);
        let late = spawn(&world, |world| world.responder(0).serve());
        let mut caller = world.caller(0);
        caller.begin(1);
        let may_be_executed = caller.give_up(1);
        caller.begin(2);
        let mut other = world.responder(1);
        let served = [join(late), other.serve()];
        let count = |request| served.iter().flatten().filter(|&&served| served == request).count();
        assert_eq!(count(2), 1, "{served:?}");
        assert!(count(1) == 0 || may_be_executed, "executed, though it was withdrawn");
        assert_eq!(caller.ended(2), Some(Ended::Replied));
    });
}

/// The same, while the second responder answers the second request.
#[test]
fn rpc_late_reply_does_not_disturb_the_next_one() {
    large_model(|| {
        let world = CallWorld::new(1, 2);
        let mut caller = world.caller(0);
        caller.begin(1);
        let (mut late, mut other) = (world.responder(0), world.responder(1));
        let (taken, request) = late.recv().unwrap();
        let replying = spawn(&world, move |_| late.reply(taken, request));
        let calling = spawn(&world, move |_| {
            let may_be_executed = caller.give_up(1);
            caller.begin(2);
            assert!(may_be_executed);
            caller
        });
        let served = spin_for(|| other.serve());
        let (replied, caller) = (join(replying), join(calling));
        assert_eq!(served, 2);
        assert_eq!(caller.ended(2), Some(Ended::Replied), "late: {replied}");
    });
}

/// With one buffer only, a caller that gave up in the middle of the reply waits until its responder
/// has answered.
#[test]
fn rpc_abandoned_buffer_is_used_again_once_it_is_answered() {
    model(|| {
        let world = CallWorld::new(1, 1);
        let mut caller = world.caller(0);
        caller.begin(1);
        let responding = spawn(&world, |world| {
            let mut responder = world.responder(0);
            responder.serve();
            responder
        });
        caller.give_up(1);
        spin_until(|| caller.cell.has_buffer() || caller.cell.find_buffer(&caller.table, |_| false));
        caller.begin(2);
        let mut responder = join(responding);
        if caller.ended(2).is_none() {
            assert_eq!(responder.serve(), Some(2));
        }
        assert_eq!(caller.ended(2), Some(Ended::Replied));
    });
}

#[test]
fn rpc_sleeping_responder_is_woken_by_each_caller() {
    large_model(|| {
        let world = CallWorld::new(2, 1);
        let responding = spawn(&world, |world| {
            let mut responder = world.responder(0);
            [(); 2].map(|()| responder.serve_blocking())
        });
        let calling = spawn_each(&world, [0, 1], |world, index| {
            let mut caller = world.caller(index);
            caller.begin(index as u64);
            caller
        });
        let callers = join_all(calling);
        let mut served = join(responding);
        served.sort_unstable();
        assert_eq!(served, [0, 1]);
        callers.iter().zip(0..).for_each(|(caller, request)| assert_eq!(caller.ended(request), Some(Ended::Replied)));
    });
}

/// A responder that is busy with one caller, and never sleeps, finds the next by its bit.
#[test]
fn rpc_responder_without_a_bit_finds_the_request_before_it_sleeps() {
    model(|| {
        let world = CallWorld::new(1, 1);
        let responding = spawn(&world, |world| {
            let mut responder = world.responder(0);
            [(); 2].map(|()| responder.serve_blocking())
        });
        let mut caller = world.caller(0);
        assert_eq!([1, 2].map(|request| caller.call(request)), [Ended::Replied; 2]);
        assert_eq!(join(responding), [1, 2]);
    });
}

/// A responder is killed at any access. The caller gets its reply, or learns of the death, and a
/// successor serves it.
#[test]
fn rpc_responder_killed_caller_is_answered_or_told() {
    for_every_kill(40, |accesses| {
        let world = CallWorld::new(1, 1);
        let responding = spawn(&world, move |world| {
            let executed = Note::new(0);
            let finished = kill_after(accesses, || {
                let mut responder = world.responder(0);
                if let Some((taken, request)) = responder.recv() {
                    executed.set(request);
                    responder.reply(taken, request);
                }
            });
            world.settle(0);
            (finished, executed.get(), world.responder(0).serve())
        });
        let mut caller = world.caller(0);
        caller.begin(1);
        let (finished, executed, next) = join(responding);
        let served_late = if next.is_none() { world.responder(0).serve() } else { next };
        let ended = caller.ended(1);
        match ended {
            Some(Ended::Replied) => assert!((executed == 1) != (served_late == Some(1)), "executed twice"),
            Some(Ended::Died) => assert_eq!(served_late, None),
            _ => panic!("{ended:?}: neither answered nor told"),
        }
        // It calls again, in the same buffer.
        caller.begin(2);
        assert_eq!(world.responder(0).serve(), Some(2));
        assert_eq!(caller.ended(2), Some(Ended::Replied));
        finished
    });
}

/// A responder is killed at any access while the caller gives up. No buffer is lost.
#[test]
fn rpc_responder_killed_while_caller_gives_up_buffer_is_free() {
    for_every_kill(40, |accesses| {
        let world = CallWorld::new(1, 1);
        let mut caller = world.caller(0);
        caller.begin(1);
        let responding = spawn(&world, move |world| {
            let finished = kill_after(accesses, || _ = world.responder(0).serve());
            world.settle(0);
            finished
        });
        caller.give_up(1);
        let finished = join(responding);
        caller.begin(2); // asserts that there is a buffer
        assert_eq!(world.responder(0).serve(), Some(2));
        assert_eq!(caller.ended(2), Some(Ended::Replied));
        finished
    });
}

/// A dead responder's half-written reply does not show up in the next one.
#[test]
fn rpc_responder_killed_next_reply_is_whole() {
    for_every_kill(40, |accesses| {
        let world = CallWorld::new(1, 2);
        let mut caller = world.caller(0);
        caller.begin(1);
        let responding = spawn(&world, move |world| {
            let finished = kill_after(accesses, || _ = world.responder(0).serve());
            world.settle(0);
            (finished, world.responder(0).serve())
        });
        let calling = spawn(&world, move |_| {
            let first = spin_for(|| caller.ended(1));
            caller.begin(2);
            (first, caller)
        });
        // What orders the writes of the dead one before those of the other is the caller alone.
        let (first, caller) = join(calling);
        let served = world.responder(1).serve();
        let (finished, next) = join(responding);
        assert!(served == Some(2) || next == Some(2));
        assert!(matches!(first, Ended::Replied | Ended::Died));
        assert_eq!(caller.ended(2), Some(Ended::Replied));
        finished
    });
}

/// A caller is killed at any access. A newcomer in its place gets its own reply.
#[test]
fn rpc_caller_killed_newcomer_gets_its_own_reply() {
    for_every_kill(40, |accesses| {
        let world = CallWorld::new(1, 2);
        let responding = spawn(&world, |world| {
            let mut responder = world.responder(0);
            (responder.serve(), responder)
        });
        let calling = spawn(&world, move |world| {
            let finished = kill_after(accesses, || {
                let mut caller = world.caller(0);
                caller.begin(1);
                caller.give_up(1);
            });
            fence(Ordering::SeqCst);
            world.table().reset(0);
            let mut caller = world.caller(0);
            caller.begin(2);
            (finished, caller)
        });
        let (first, mut responder) = join(responding);
        let (finished, caller) = join(calling);
        if first != Some(2) {
            assert_eq!(responder.serve(), Some(2), "after {first:?}");
        }
        assert_eq!(caller.ended(2), Some(Ended::Replied));
        finished
    });
}
