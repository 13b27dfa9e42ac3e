//! Visits all states of the protocol of the waiter thread (`src/wait/waiter_thread.rs`,
//! `listener.rs`): senders and blocking receivers of two queues, and one process whose tasks and
//! descriptors wait by one thread that sleeps on the words of both. Any process is killed between
//! any two steps, and liveness checks become due at any time.
//!
//! Each access to a shared word, and each section of the registry's lock, is a step. A futex_waitv
//! enlists on one word after the other. Weak memory is not modelled here, nor is the bit that says
//! that nobody waits: for both, loom runs the shipping code (`src/models/event_count.rs`). Endpoints
//! receive one message each.
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use loom_tests::states::visit;

const QUEUES: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Sender(usize),
    /// Blocks, in a process of its own.
    Receiver(usize),
    /// Waits by the thread. It may be dropped at any time, if so chosen.
    Task(usize, Dropped),
    Descriptor(usize, Dropped),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Dropped {
    Never,
    Endpoint,
    /// The endpoint stays, and never tries again.
    Descriptor,
}

use Dropped::{Endpoint, Never};
use Kind::{Descriptor, Receiver, Sender, Task};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    RefusedSleepLooksAtOneWord,
    TakenBackIsForgotten,
    DroppedPassesNothingOn,
    DroppedDescriptorPassesNothingOn,
    FiredInVain,
    NoInterrupt,
    ActsBeforeStatus,
    NoTryAfterListening,
    ResetDoesNotLookAgain,
    TryIsNotNoted,
    StaysWhenItHasFired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Start,
    TryFirst,
    Listen,
    TryAgain,
    Sleep,
    Asleep,
    Reset,
    Register,
    Wait,
    TryRegistered,
    NoteTry,
    ResetAgain,
    LookAtStatus,
    TakeBack,
    PassOn,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Status {
    Pending,
    CheckDue,
    Notified,
}

/// `EventCount::notify(1)`, in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Notify {
    Advance,
    Wake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Party {
    step: Step,
    key: u8,
    /// A sleeper was woken; a task was; a descriptor is readable.
    is_woken: bool,
    has_taken: bool,
    notify: Option<Notify>,
    /// The rest is of those that wait by the thread. The key of the registration.
    entry: Option<u8>,
    status: Status,
    /// A wake-up was spent on the descriptor.
    owed: bool,
    has_descriptor: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ThreadStep {
    /// Whether checks are due.
    Look(bool),
    Act,
    Enlist(u8),
    Asleep,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Thread {
    step: ThreadStep,
    /// What it sleeps on: for whom, and the key.
    words: Vec<(u8, u8)>,
    /// Whose actions to run, and whether a wake-up was spent on them.
    actions: Vec<(u8, bool)>,
    /// Queues to notify.
    unclaimed: Vec<u8>,
    notify: Option<(u8, Notify)>,
    /// Somebody made it look again, since its last look.
    is_interrupted: bool,
    is_woken: bool,
    /// Of a mutant: the only words to compare.
    compared: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    messages: [u8; QUEUES],
    wake_counts: [u8; QUEUES],
    has_waiters: [bool; QUEUES],
    /// Who is enlisted, or for whom the thread is.
    sleepers: [Vec<u8>; QUEUES],
    parties: Vec<Party>,
    thread: Thread,
    kills: u8,
}

struct Model {
    kinds: Vec<Kind>,
    kills: u8,
    checks: bool,
    mutant: Mutant,
}

fn queue_of(kind: Kind) -> usize {
    match kind {
        Sender(queue) | Receiver(queue) | Task(queue, _) | Descriptor(queue, _) => queue,
    }
}

impl Model {
    fn by_thread(&self, index: usize) -> bool {
        matches!(self.kinds[index], Task(..) | Descriptor(..))
    }

    fn is_descriptor(&self, index: usize) -> bool {
        matches!(self.kinds[index], Descriptor(..))
    }

    fn new_state(&self) -> State {
        let party = Party {
            step: Step::Start,
            key: 0,
            is_woken: false,
            has_taken: false,
            notify: None,
            entry: None,
            status: Status::Pending,
            owed: false,
            has_descriptor: true,
        };
        let step = if (0..self.kinds.len()).any(|index| self.by_thread(index)) {
            ThreadStep::Look(false)
        } else {
            ThreadStep::Asleep
        };
        let (words, actions, unclaimed) = (Vec::new(), Vec::new(), Vec::new());
        let (notify, is_interrupted, is_woken, compared) = (None, false, false, None);
        State {
            messages: [0; QUEUES],
            wake_counts: [0; QUEUES],
            has_waiters: [false; QUEUES],
            sleepers: [const { Vec::new() }; QUEUES],
            parties: vec![party; self.kinds.len()],
            thread: Thread { step, words, actions, unclaimed, notify, is_interrupted, is_woken, compared },
            kills: 0,
        }
    }

    /// One step of a notification. `then`: puts down what comes next.
    fn notify(&self, state: &State, queue: usize, at: Notify, then: impl Fn(&mut State, Option<Notify>)) -> Vec<State> {
        let mut next = state.clone();
        match at {
            Notify::Advance if !state.has_waiters[queue] => then(&mut next, None),
            Notify::Advance => {
                next.wake_counts[queue] += 1;
                then(&mut next, Some(Notify::Wake));
            }
            Notify::Wake => {
                // Any of the sleepers: more than the kernel does.
                let wake = |place: usize| {
                    let mut next = state.clone();
                    let woken = usize::from(next.sleepers[queue].remove(place));
                    if self.by_thread(woken) {
                        next.thread.is_woken = true;
                    } else {
                        next.parties[woken].is_woken = true;
                    }
                    then(&mut next, None);
                    next
                };
                let woken: Vec<_> = (0..state.sleepers[queue].len()).map(wake).collect();
                if !woken.is_empty() {
                    return woken;
                }
                then(&mut next, None);
            }
        }
        vec![next]
    }

    /// Makes the thread look again. Its wake-up comes at once: until it does, it is on its way.
    fn interrupt(&self, state: &mut State) {
        if self.mutant != Mutant::NoInterrupt {
            state.thread.is_interrupted = true;
            state.thread.is_woken |= matches!(state.thread.step, ThreadStep::Asleep | ThreadStep::Enlist(1..));
        }
    }

    /// The thread sleeps on nothing any more.
    fn leave(&self, state: &mut State) {
        for sleepers in &mut state.sleepers {
            sleepers.retain(|&sleeper| !self.by_thread(usize::from(sleeper)));
        }
        state.thread.is_woken = false;
    }

    fn step_thread(&self, state: &State) -> Vec<State> {
        let mut next = state.clone();
        if let Some((queue, at)) = state.thread.notify {
            return self.notify(state, usize::from(queue), at, |state, rest| {
                state.thread.notify = rest.map(|rest| (queue, rest));
            });
        }
        match state.thread.step {
            ThreadStep::Look(checks) => self.look(&mut next, checks),
            ThreadStep::Act => {
                if let Some(queue) = next.thread.unclaimed.pop() {
                    next.thread.notify = Some((queue, Notify::Advance));
                } else if let Some((owner, has_fired)) = next.thread.actions.pop() {
                    let (queue, party) =
                        (queue_of(self.kinds[usize::from(owner)]), &mut next.parties[usize::from(owner)]);
                    if self.mutant == Mutant::ActsBeforeStatus && has_fired {
                        party.status = Status::Notified;
                    }
                    if party.has_descriptor {
                        party.is_woken = true;
                        party.owed |= has_fired;
                    } else if has_fired && self.mutant != Mutant::FiredInVain {
                        next.thread.notify = Some((queue as u8, Notify::Advance));
                    }
                } else {
                    next.thread.step = ThreadStep::Enlist(0);
                }
            }
            // The thread's own word.
            ThreadStep::Enlist(0) if state.thread.is_interrupted => next.thread.step = ThreadStep::Look(false),
            ThreadStep::Enlist(0) => next.thread.step = ThreadStep::Enlist(1),
            ThreadStep::Enlist(place) => match state.thread.words.get(usize::from(place) - 1) {
                Some(&(owner, key)) => {
                    let queue = queue_of(self.kinds[usize::from(owner)]);
                    if state.wake_counts[queue] == key {
                        next.sleepers[queue].push(owner);
                        next.sleepers[queue].sort_unstable();
                        next.thread.step = ThreadStep::Enlist(place + 1);
                    } else {
                        self.leave(&mut next);
                        next.thread.compared =
                            (self.mutant == Mutant::RefusedSleepLooksAtOneWord).then_some(queue as u8);
                        next.thread.step = ThreadStep::Look(false);
                    }
                }
                None => next.thread.step = ThreadStep::Asleep,
            },
            ThreadStep::Asleep if state.thread.is_woken => {
                self.leave(&mut next);
                next.thread.step = ThreadStep::Look(false);
            }
            ThreadStep::Asleep if self.checks && !state.thread.words.is_empty() => {
                self.leave(&mut next);
                next.thread.step = ThreadStep::Look(true);
            }
            ThreadStep::Asleep => return Vec::new(),
        }
        vec![next]
    }

    /// A look at the registrations, while they are locked.
    fn look(&self, state: &mut State, checks: bool) {
        let counts = state.wake_counts;
        let compared = state.thread.compared.take();
        let has_changed = |owner: usize, key: u8| {
            let queue = queue_of(self.kinds[owner]);
            compared.is_none_or(|only| usize::from(only) == queue) && counts[queue] != key
        };
        for (owner, key) in std::mem::take(&mut state.thread.words) {
            let (owner, queue) = (usize::from(owner), queue_of(self.kinds[usize::from(owner)]));
            let is_taken_back = state.parties[owner].entry != Some(key);
            if has_changed(owner, key) && is_taken_back && self.mutant != Mutant::TakenBackIsForgotten {
                state.thread.unclaimed.push(queue as u8);
            }
        }
        for owner in 0..self.kinds.len() {
            let party = &mut state.parties[owner];
            let Some(key) = party.entry else { continue };
            let is_in_vain = !party.has_descriptor && self.mutant != Mutant::FiredInVain;
            if has_changed(owner, key) || is_in_vain {
                party.entry = None;
                if self.mutant != Mutant::ActsBeforeStatus {
                    party.status = Status::Notified;
                }
                state.thread.actions.push((owner as u8, true));
                continue;
            }
            if checks && party.status == Status::Pending {
                party.status = Status::CheckDue;
                state.thread.actions.push((owner as u8, false));
            }
            // A mutant may have missed a change. Then the sleep is for what the word is now.
            state
                .thread
                .words
                .push((owner as u8, if compared.is_some() { counts[queue_of(self.kinds[owner])] } else { key }));
        }
        state.thread.is_interrupted = false;
        state.thread.step = ThreadStep::Act;
    }

    fn step(&self, state: &State, index: usize) -> Vec<State> {
        let (kind, party) = (self.kinds[index], state.parties[index]);
        let queue = queue_of(kind);
        if let Some(at) = party.notify {
            return self.notify(state, queue, at, |state, rest| state.parties[index].notify = rest);
        }
        let mut next = state.clone();
        let own = &mut next.parties[index];
        let mut found = Vec::new();
        let is_descriptor = self.is_descriptor(index);
        let attempt = |otherwise: Step| {
            let mut next = state.clone();
            let own = &mut next.parties[index];
            if state.messages[queue] == 0 {
                own.step = otherwise;
            } else {
                own.has_taken = true;
                own.step = if self.by_thread(index) { Step::TakeBack } else { Step::Over };
                next.messages[queue] -= 1;
            }
            vec![next]
        };
        match party.step {
            Step::Start if matches!(kind, Sender(_)) => {
                own.notify = Some(Notify::Advance);
                own.step = Step::Over;
                next.messages[queue] += 1;
            }
            Step::Start => own.step = Step::TryFirst,
            Step::TryFirst => return attempt(Step::Listen),
            Step::Listen => {
                own.key = state.wake_counts[queue];
                own.step = match self.mutant {
                    Mutant::NoTryAfterListening if self.by_thread(index) => Step::Reset,
                    _ => Step::TryAgain,
                };
                next.has_waiters[queue] = true;
            }
            Step::TryAgain => {
                return attempt(if self.by_thread(index) { Step::Reset } else { Step::Sleep });
            }
            Step::Sleep if state.wake_counts[queue] != party.key => own.step = Step::TryFirst,
            Step::Sleep => {
                (own.step, own.is_woken) = (Step::Asleep, false);
                next.sleepers[queue].push(index as u8);
                next.sleepers[queue].sort_unstable();
            }
            Step::Asleep if party.is_woken => own.step = Step::TryFirst,
            Step::Asleep => return Vec::new(),
            Step::Reset => (own.is_woken, own.owed, own.step) = (false, false, Step::Register),
            Step::Register => {
                (own.status, own.entry, own.step) = (Status::Pending, Some(party.key), Step::Wait);
                self.interrupt(&mut next);
            }
            Step::Wait => {
                match kind {
                    Task(_, Endpoint) | Descriptor(_, Endpoint) => {
                        let mut next = state.clone();
                        next.parties[index].step = Step::TakeBack;
                        found.push(next);
                    }
                    Descriptor(_, Dropped::Descriptor) => {
                        let mut next = state.clone();
                        let own = &mut next.parties[index];
                        let passes_on = own.owed && self.mutant != Mutant::DroppedDescriptorPassesNothingOn;
                        (own.step, own.has_descriptor, own.owed) = (Step::Over, false, false);
                        own.notify = passes_on.then_some(Notify::Advance);
                        found.push(next);
                    }
                    _ => {}
                }
                if !party.is_woken {
                    return found;
                }
                own.step = Step::TryRegistered;
                own.is_woken = is_descriptor; // a task's wake-up is over when it runs
            }
            Step::TryRegistered => return attempt(Step::NoteTry),
            Step::NoteTry => {
                if party.status == Status::CheckDue && self.mutant != Mutant::TryIsNotNoted {
                    own.status = Status::Pending;
                }
                own.step = if is_descriptor && party.status != Status::Notified {
                    Step::ResetAgain
                } else {
                    Step::LookAtStatus
                };
            }
            Step::ResetAgain => (own.is_woken, own.owed, own.step) = (false, false, Step::LookAtStatus),
            Step::LookAtStatus => {
                let looks = self.mutant != Mutant::ResetDoesNotLookAgain;
                if is_descriptor && looks && party.status != Status::Pending {
                    own.is_woken = true;
                }
                let listens = party.status == Status::Notified && self.mutant != Mutant::StaysWhenItHasFired;
                own.step = if listens { Step::Listen } else { Step::Wait };
            }
            Step::TakeBack => {
                own.entry = None;
                own.step = Step::PassOn;
                self.interrupt(&mut next);
            }
            Step::PassOn => {
                // A descriptor's owner may have been woken again, for what it has not tried to take.
                let may_owe = is_descriptor || !party.has_taken;
                let passes_on =
                    party.status == Status::Notified && may_owe && self.mutant != Mutant::DroppedPassesNothingOn;
                (own.step, own.owed) = (Step::Over, false);
                own.notify = passes_on.then_some(Notify::Advance);
            }
            Step::Over => return found,
        }
        found.push(next);
        found
    }

    /// Kills the process of a party: that of the thread as a whole.
    fn kill(&self, state: &State, index: usize) -> State {
        let mut next = state.clone();
        next.kills += 1;
        let killed: Vec<usize> = match self.by_thread(index) {
            true => (0..self.kinds.len()).filter(|&index| self.by_thread(index)).collect(),
            false => vec![index],
        };
        for &index in &killed {
            let own = &mut next.parties[index];
            (own.step, own.notify, own.entry) = (Step::Over, None, None);
            for sleepers in &mut next.sleepers {
                sleepers.retain(|&sleeper| usize::from(sleeper) != index);
            }
        }
        if self.by_thread(index) {
            next.thread = Thread { step: ThreadStep::Asleep, ..self.new_state().thread };
        }
        next
    }

    fn is_alive(&self, state: &State, index: usize) -> bool {
        state.parties[index].step != Step::Over || state.parties[index].notify.is_some()
    }

    /// Whether nothing happens any more, unless a check is due or somebody is dropped.
    fn is_quiet(&self, state: &State) -> bool {
        let is_waiting = |party: &Party| match party.step {
            Step::Asleep | Step::Wait => !party.is_woken,
            step => step == Step::Over && party.notify.is_none(),
        };
        state.thread.step == ThreadStep::Asleep && !state.thread.is_woken && state.parties.iter().all(is_waiting)
    }

    fn violation(&self, state: &State) -> Option<&'static str> {
        if !self.is_quiet(state) {
            return None;
        }
        let waits = |party: &&Party| party.step == Step::Wait;
        if state.parties.iter().filter(waits).any(|party| party.entry.is_none()) {
            return Some("one waits without a registration");
        }
        if state.parties.iter().filter(waits).any(|party| party.status != Status::Pending) {
            return Some("one is not woken for any further check");
        }
        let sleeps = |(index, party): (usize, &Party)| {
            state.messages[queue_of(self.kinds[index])] > 0 && matches!(party.step, Step::Asleep | Step::Wait)
        };
        // After a kill a liveness check helps.
        (state.kills == 0 && state.parties.iter().enumerate().any(sleeps)).then_some("one sleeps beside a message")
    }

    fn following(&self, state: &State) -> Vec<State> {
        let mut next = self.step_thread(state);
        for index in (0..self.kinds.len()).filter(|&index| self.is_alive(state, index)) {
            next.extend(self.step(state, index));
            if state.kills < self.kills {
                next.push(self.kill(state, index));
            }
        }
        next
    }

    /// Returns what is wrong, or how many states there are.
    fn check(&self) -> Result<usize, &'static str> {
        visit(self.new_state(), |state| self.following(state), |state, _| self.violation(state))
    }
}

fn check(kinds: &[Kind], kills: u8, checks: bool, mutant: Mutant) -> Result<usize, &'static str> {
    Model { kinds: kinds.to_vec(), kills, checks, mutant }.check()
}

const BESIDE_A_RECEIVER: &[Kind] = &[Sender(0), Receiver(0), Task(0, Endpoint)];
const DESCRIPTOR_DROPPED: &[Kind] = &[Sender(0), Receiver(0), Descriptor(0, Dropped::Descriptor)];
const BOTH_QUEUES: &[Kind] = &[Sender(0), Sender(1), Receiver(0), Task(0, Endpoint), Task(1, Never)];
const TWO_OF_ONE_QUEUE: &[Kind] = &[Sender(0), Receiver(0), Task(0, Endpoint), Descriptor(0, Never)];
const TASK: &[Kind] = &[Sender(0), Task(0, Never)];
const DESCRIPTOR: &[Kind] = &[Sender(0), Descriptor(0, Never)];
const NOBODY_SENDS: [&[Kind]; 2] = [&[Task(0, Never)], &[Descriptor(0, Never)]];

#[test]
fn waiter_thread_nobody_killed_leaves_nobody_asleep_beside_a_message() {
    for kinds in [BESIDE_A_RECEIVER, DESCRIPTOR_DROPPED, BOTH_QUEUES, TWO_OF_ONE_QUEUE, TASK, DESCRIPTOR] {
        let states = check(kinds, 0, false, Mutant::None);
        println!("{kinds:?}: {states:?} states");
        assert!(states.is_ok(), "{kinds:?}: {states:?}");
    }
}

#[test]
fn waiter_thread_killed_anywhere_goes_on_with_checks() {
    for kinds in [BESIDE_A_RECEIVER, DESCRIPTOR_DROPPED, TASK, DESCRIPTOR, NOBODY_SENDS[0], NOBODY_SENDS[1]] {
        for kills in 0..=2 {
            let states = check(kinds, kills, true, Mutant::None);
            println!("{kinds:?}, kills: {kills}, with checks: {states:?} states");
            assert!(states.is_ok(), "{kinds:?}, kills: {kills}: {states:?}");
        }
    }
}

#[test]
fn waiter_thread_mutant_is_found() {
    let (asleep, unchecked) = ("one sleeps beside a message", "one is not woken for any further check");
    let unregistered = "one waits without a registration";
    let found = [
        (Mutant::RefusedSleepLooksAtOneWord, BOTH_QUEUES, false, asleep),
        (Mutant::TakenBackIsForgotten, BESIDE_A_RECEIVER, false, asleep),
        (Mutant::DroppedPassesNothingOn, BESIDE_A_RECEIVER, false, asleep),
        (Mutant::DroppedDescriptorPassesNothingOn, DESCRIPTOR_DROPPED, false, asleep),
        (Mutant::FiredInVain, DESCRIPTOR_DROPPED, false, asleep),
        (Mutant::NoInterrupt, TASK, false, asleep),
        (Mutant::ActsBeforeStatus, BESIDE_A_RECEIVER, false, asleep),
        (Mutant::NoTryAfterListening, TASK, false, asleep),
        (Mutant::ResetDoesNotLookAgain, NOBODY_SENDS[1], true, unchecked),
        (Mutant::TryIsNotNoted, NOBODY_SENDS[0], true, unchecked),
        (Mutant::StaysWhenItHasFired, BESIDE_A_RECEIVER, false, unregistered),
    ];
    for (mutant, kinds, checks, what) in found {
        assert_eq!(check(kinds, 0, checks, mutant), Err(what), "{mutant:?}");
    }
}
