//! Models of `src/raw/barrier.rs`.

use super::*;
use crate::raw::barrier::{self, Arrival, Barrier};

/// How a generation ended for a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Released,
    Broken(u64),
}

const PID: u64 = 4711;

#[derive(Clone)]
struct BarrierWorld {
    word: Shared<AtomicU64>,
    arrivals: SharedWords,
    /// What each participant did before it arrived, in each generation.
    done: [SharedWords; 2],
    over: Shared<AtomicU32>,
    parties: u64,
}

impl BarrierWorld {
    fn new(parties: u64) -> Self {
        let done = [new_payload(&[0; 3]), new_payload(&[0; 3])];
        Self { word: new_word(), arrivals: new_words(3), done, over: new_futex(), parties }
    }

    fn barrier(&self) -> Barrier<Heap> {
        Barrier::new(self.word.clone(), self.arrivals.clone(), self.parties)
    }

    fn over(&self) -> EventCount<Heap> {
        event(&self.over)
    }

    fn outcome(&self, generation: u64) -> Option<Outcome> {
        match self.barrier().outcome(generation) {
            barrier::Outcome::Open => None,
            barrier::Outcome::Released => Some(Outcome::Released),
            barrier::Outcome::Broken { by } => Some(Outcome::Broken(by)),
        }
    }

    fn arrive(&self, participant: usize) -> Arrival {
        self.barrier().arrive(participant).unwrap()
    }

    /// Arrives, and spins until the generation is over.
    fn wait(&self, participant: usize) -> Outcome {
        match self.arrive(participant) {
            Arrival::Released => Outcome::Released,
            Arrival::Broken { by } => Outcome::Broken(by),
            Arrival::Waiting { generation, .. } => spin_for(|| self.outcome(generation)),
        }
    }

    /// Arrives, and sleeps until the generation is over.
    fn wait_sleeping(&self, participant: usize) -> Outcome {
        match self.arrive(participant) {
            Arrival::Released => {
                self.over().notify(ALL);
                Outcome::Released
            }
            Arrival::Broken { by } => Outcome::Broken(by),
            Arrival::Waiting { generation, .. } => block_on(&self.over(), || self.outcome(generation)),
        }
    }

    fn is_done(&self, generation: usize, participant: usize) -> bool {
        self.done[generation][participant].load(Ordering::Relaxed) == 1
    }

    fn set_done(&self, generation: usize, participant: usize) {
        self.done[generation][participant].store(1, Ordering::Relaxed);
    }
}

#[test]
fn barrier_released_participants_see_earlier_writes() {
    model(|| {
        let world = BarrierWorld::new(2);
        let both = spawn_each(&world, [(VICTIM, OTHER), (OTHER, VICTIM)], |world, (participant, other)| {
            for generation in 0..2 {
                world.set_done(generation, participant);
                assert_eq!(world.wait(participant), Outcome::Released);
                assert!(world.is_done(generation, other));
            }
        });
        join_all(both);
        assert_eq!(world.barrier().participants().count(), 0);
    });
}

/// A waiter learns from the last participant what the second one did.
#[test]
fn barrier_three_participants_waiter_sees_earlier_writes() {
    model(|| {
        let world = BarrierWorld::new(3);
        let others = spawn_each(&world, [VICTIM, OTHER], |world, participant| {
            world.set_done(0, participant);
            world.arrive(participant)
        });
        let waiting = spawn(&world, |world| {
            assert_eq!(world.wait(THIRD), Outcome::Released);
            assert!([VICTIM, OTHER].iter().all(|&participant| world.is_done(0, participant)));
        });
        let arrivals = join_all(others);
        join(waiting);
        assert!(arrivals.iter().filter(|&&arrival| arrival == Arrival::Released).count() <= 1);
    });
}

#[test]
fn barrier_sleeping_waiters_are_released() {
    large_model(|| {
        let world = BarrierWorld::new(3);
        let all = spawn_each(&world, [VICTIM, OTHER, THIRD], |world, participant| world.wait_sleeping(participant));
        assert_eq!(join_all(all), [Outcome::Released; 3]);
    });
}

/// While a waiter sleeps, others complete and reset further generations.
#[test]
fn barrier_waiter_that_wakes_late_gets_its_own_generation() {
    model(|| {
        let world = BarrierWorld::new(2);
        let mut expected = Vec::new();
        for is_released in [true, false, true, true, false, true] {
            let Arrival::Waiting { generation, index: 0 } = world.arrive(VICTIM) else { panic!("not the first") };
            let outcome = if is_released {
                assert_eq!(world.arrive(OTHER), Arrival::Released);
                Outcome::Released
            } else {
                world.barrier().reset();
                Outcome::Broken(0)
            };
            expected.push((generation, outcome));
            for &(generation, outcome) in &expected {
                assert_eq!(world.outcome(generation), Some(outcome), "generation {generation}");
            }
        }
    });
}

/// One thread aborts the generation while the last participant arrives.
#[test]
fn barrier_aborted_all_participants_get_the_same_outcome() {
    model(|| {
        let world = BarrierWorld::new(2);
        let both = spawn_each(&world, [VICTIM, OTHER], |world, participant| world.wait(participant));
        let aborting = spawn(&world, |world| world.barrier().abort(Some(0), PID));
        let outcomes = join_all(both);
        let expected = if join(aborting) { Outcome::Broken(PID) } else { Outcome::Released };
        assert_eq!(outcomes, [expected; 2]);
    });
}

/// A waiter gives up while the last participant arrives.
#[test]
fn barrier_waiter_gives_up_too_late_is_released() {
    model(|| {
        let world = BarrierWorld::new(2);
        let other = spawn(&world, |world| world.wait_sleeping(OTHER));
        let impatient = spawn(&world, |world| {
            let outcome = match world.arrive(VICTIM) {
                Arrival::Released => Outcome::Released,
                Arrival::Broken { by } => Outcome::Broken(by),
                Arrival::Waiting { generation, .. } => {
                    world.barrier().abort(Some(generation), PID);
                    world.outcome(generation).expect("open after giving up")
                }
            };
            world.over().notify(ALL);
            outcome
        });
        assert_eq!(join(impatient), join(other));
    });
}

/// A participant is killed at any access, with or without a deadline. If it is missed, the
/// generation breaks. If it died before it arrived, another one takes its place.
#[test]
fn barrier_participant_killed_generation_breaks() {
    for_every_kill(30, |accesses| {
        let world = BarrierWorld::new(2);
        let victim = spawn(&world, move |world| {
            let outcome = Note::new(None);
            if kill_after(accesses, || outcome.set(Some(world.wait_sleeping(VICTIM)))) {
                assert!(!world.barrier().release_dead(VICTIM, PID), "broken by a participant that was released");
                return outcome.get();
            }
            let before = world.barrier().state();
            let is_broken = world.barrier().release_dead(VICTIM, PID);
            world.over().notify(ALL);
            if is_broken {
                assert_eq!(world.wait_sleeping(VICTIM), Outcome::Broken(PID), "released without it");
            } else if before.arrived < 2 && world.outcome(0).is_none() {
                assert_eq!(world.wait_sleeping(VICTIM), Outcome::Released);
            }
            None
        });
        let other = spawn(&world, |world| world.wait_sleeping(OTHER));
        let of_victim = join(victim);
        let outcome = join(other);
        match of_victim {
            Some(of_victim) => assert_eq!((outcome, of_victim), (Outcome::Released, Outcome::Released)),
            None => assert!(outcome == Outcome::Released || outcome == Outcome::Broken(PID), "{outcome:?}"),
        }
        of_victim.is_some()
    });
}

/// The repairer of a participant that had arrived is killed, too, while others arrive.
#[test]
fn barrier_repairer_killed_next_repairer_breaks_the_generation() {
    for_every_kill(20, |accesses| {
        let world = BarrierWorld::new(3);
        assert!(world.barrier().arrive(VICTIM).is_ok()); // and was killed
        let repairers = spawn(&world, move |world| {
            let repair = || {
                if world.barrier().release_dead(VICTIM, PID) {
                    world.over().notify(ALL);
                }
            };
            let finished = kill_after(accesses, repair);
            repair();
            // Stands for the liveness check of a waiter, in case a wake-up died with the first.
            world.over().notify(ALL);
            finished
        });
        let other = spawn(&world, |world| world.wait_sleeping(OTHER));
        let finished = join(repairers);
        assert_eq!(join(other), Outcome::Broken(PID));
        assert_eq!(world.wait_sleeping(THIRD), Outcome::Broken(PID));
        world.barrier().reset();
        assert!(matches!(world.barrier().arrive(THIRD), Ok(Arrival::Waiting { generation: 1, index: 0 })));
        assert!(!world.barrier().release_dead(VICTIM, PID), "broken again by the same death");
        finished
    });
}

/// The threads of a process share an arrival word. One of them is still arriving when the process
/// dies. It must not hide another that arrived in the next generation.
#[test]
fn barrier_late_thread_killed_hides_no_other_arrival() {
    for_every_kill(20, |accesses| {
        let world = BarrierWorld::new(2);
        let late = spawn(&world, move |world| {
            kill_after(accesses, || {
                world.arrive(VICTIM);
            })
        });
        let punctual = spawn(&world, |world| (0..3).for_each(|_| assert!(world.barrier().arrive(VICTIM).is_ok())));
        join(punctual);
        let finished = join(late);
        let is_missed = world.barrier().state().arrived == 1;
        assert_eq!(world.barrier().release_dead(VICTIM, PID), is_missed, "arrived and died, and nobody is told");
        finished
    });
}

/// A reset finds one participant waiting and another arriving. Either both are released before the
/// reset, or the first one's generation breaks and the second one waits in the next.
#[test]
fn barrier_reset_breaks_the_generation_of_a_waiter() {
    large_model(|| {
        let world = BarrierWorld::new(2);
        let Arrival::Waiting { generation, .. } = world.arrive(VICTIM) else { panic!("alone") };
        let waiting = spawn(&world, move |world| block_on(&world.over(), || world.outcome(generation)));
        let arriving = spawn(&world, |world| {
            let arrival = world.arrive(OTHER);
            world.over().notify(ALL);
            arrival
        });
        let resetting = spawn(&world, |world| {
            world.barrier().reset();
            world.over().notify(ALL);
        });
        join(resetting);
        let expected = match join(arriving) {
            Arrival::Released => Outcome::Released,
            Arrival::Waiting { generation: 1, index: 0 } => Outcome::Broken(0),
            other => panic!("{other:?}"),
        };
        assert_eq!(join(waiting), expected);
    });
}
