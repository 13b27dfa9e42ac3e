//! Models of `src/raw/interrupt.rs`: a wait on an event, and an interrupt that ends it.

use super::*;
use crate::raw::interrupt::Interrupt;

/// A flag, what its waiters sleep on, and an interrupt for one of them.
#[derive(Clone)]
struct InterruptWorld {
    flag: Shared<AtomicU64>,
    futex: Shared<AtomicU32>,
    interrupt: Arc<Interrupt>,
    payload: SharedWords,
}

impl InterruptWorld {
    fn new() -> Self {
        let interrupt = Arc::new(Interrupt::new());
        Self { flag: new_word(), futex: new_futex(), interrupt, payload: new_payload(&[0, 0]) }
    }

    fn event(&self) -> EventCount<Heap> {
        event(&self.futex)
    }

    fn is_set(&self) -> bool {
        self.flag.load(Ordering::Acquire) == 1
    }

    fn set(&self) {
        self.flag.store(1, Ordering::Release);
        self.event().notify(1);
    }

    /// Blocks until the flag is set, or until interrupted: false. It gives up as soon as it can, as
    /// a wait does whose attempt fails for a moment although there is something.
    fn wait(&self) -> bool {
        let event = self.event();
        let mut has_slept = false;
        loop {
            if self.interrupt.ends_wait(&event, has_slept) {
                return false;
            }
            if self.is_set() {
                return true;
            }
            let key = event.listen();
            if self.is_set() {
                return true;
            }
            event.wait_unless(key, &self.interrupt, Duration::MAX, false);
            has_slept = true;
        }
    }
}

/// Before the wait, between its look at the interrupt and its sleep, or during the sleep.
#[test]
fn interrupt_at_any_moment_ends_wait_once() {
    model(|| {
        let world = InterruptWorld::new();
        let interrupter = spawn(&world, |world| world.interrupt.set());
        assert!(!world.wait());
        assert!(!world.interrupt.is_set() && !world.interrupt.take());
        join(interrupter);
    });
}

#[test]
fn interrupt_what_was_done_before_is_visible() {
    model(|| {
        let world = InterruptWorld::new();
        let interrupter = spawn(&world, |world| {
            store_message(&world.payload, 7);
            world.interrupt.set();
        });
        spin_until(|| world.interrupt.take());
        assert_eq!(load_message(&world.payload), 7);
        join(interrupter);
    });
}

#[test]
fn interrupt_twice_each_is_taken_or_joins_the_other() {
    model(|| {
        let world = InterruptWorld::new();
        let interrupters = spawn_each(&world, [(), ()], |world, ()| world.interrupt.set());
        let ended = u32::from(!world.wait());
        join_all(interrupters);
        assert!(ended + u32::from(world.interrupt.take()) <= 2);
        assert!(!world.interrupt.take());
    });
}

/// Two sleep, one wake-up comes, and an interrupt for the one that may get it.
#[test]
fn interrupt_with_a_wake_up_the_other_waiter_is_woken() {
    model(|| {
        let world = InterruptWorld::new();
        let waiter = spawn(&world, |world| {
            block_on_flag(&world.event(), &world.flag, 1);
            world.event().notify(1); // pass it on
        });
        let notifier = spawn(&world, |world| {
            world.set();
            world.interrupt.set();
        });
        if world.wait() {
            world.event().notify(1); // pass it on
        }
        join_all([waiter, notifier]);
    });
}
