//! Visits all states of the protocol of a queue's runs: senders join, send, close and leave, and
//! receivers are told of the end.
//!
//! The protocol spans `src/raw/mpmc`, `src/queue/participant.rs` and `src/wait`. Here each access to
//! a shared word is a step. The ring has two slots, records of participants are used again,
//! participants sleep and wake, and kills come between any two steps. Weak memory and batches are
//! not modelled here: for these, loom runs the shipping code (`src/models/mpmc/runs.rs`). docs/failure.md
//! describes the same steps. Without kills no sleep times out, so a lost wake-up shows as a state
//! from which a participant can never finish.
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Positions that a configuration can use up. States beyond them are not visited.
const POSITIONS: usize = 8;
const CAPACITY: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Position {
    Unused,
    Claimed(u8),
    /// Skipped. The slot waits for the owner of the claim.
    Skipped(u8),
    Ready,
    /// A receiver reads it.
    Taken(u8),
    /// The slot can be used again.
    Free,
}

/// Whether the queue is closed, and the run.
type Phase = (bool, u8);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Tail {
    closed: bool,
    run: u8,
    at: u8,
}

impl Tail {
    fn phase(self) -> Phase {
        (self.closed, self.run)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Record {
    present: bool,
    run: u8,
    owner: u8,
}

/// What a receiver's attempt does if there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum IfEmpty {
    Look,
    /// The last attempt before an end is reported.
    Confirm,
    LookThenSleep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Pc {
    // Senders and receivers.
    Enter,
    Sleep,
    Done,
    // A sender joins,
    Register,
    ChooseRun,
    AnnounceRun,
    CountEarly,
    EnterRun,
    CountLate,
    Joined,
    // sends,
    Send { listening: bool },
    Claim,
    Publish,
    Notify,
    Listen,
    // closes, and leaves.
    Close,
    CloseSwap,
    CloseNotify,
    Leave,
    LeaveRecordEnd,
    LeaveWake,
    // A receiver attaches,
    AttachLoad,
    AttachDrained,
    AttachScan,
    // receives,
    Take(IfEmpty),
    Release,
    NotifyFree,
    // looks for an end,
    Look(IfEmpty),
    LoadJoins(IfEmpty),
    LoadTail(IfEmpty),
    ScanRecords(IfEmpty),
    ReloadJoins(IfEmpty),
    // reports it,
    Drain,
    RecheckJoins,
    RecheckTail,
    // checks for dead senders when it slept and was not woken.
    CheckLiveness,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum End {
    Closed,
    PeerDied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Participant {
    alive: bool,
    pc: Pc,
    step: u8,
    record: u8,
    run: u8,
    /// The tail as it was loaded last.
    tail: Tail,
    join_count: u8,
    index: u8,
    at: u8,
    woken: bool,
    /// For a receiver: the join count when it attached, if the run was over then.
    over_since: Option<u8>,
    phase: Phase,
    last_look: Option<(u8, Phase)>,
    end_found: Option<End>,
    // Known to the checker only.
    joined: bool,
    run_index: u8,
    open_when_announced: bool,
    came_after_end: bool,
    received: u8,
    pending_error: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    tail: Tail,
    head: u8,
    positions: [Position; POSITIONS],
    records: Vec<Record>,
    join_count: u8,
    changes: u8,
    /// The run, and whether the last of its senders that ended was killed.
    last_end: (u8, bool),
    admission_lock: Option<u8>,
    participants: Vec<Participant>,
    kills: u8,
    // Known to the checker only: runs begun, senders that joined, closes, and whether a sender of
    // the present run was killed.
    run_index: u8,
    joins: u8,
    closes: u8,
    death_in_run: bool,
    error: &'static str,
}

impl State {
    /// Whether a participant is alive and not done.
    fn runs(&self, id: usize) -> bool {
        self.participants[id].alive && self.participants[id].pc != Pc::Done
    }
}

/// What is left out of the protocol, or done differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    ClaimComparesThePositionOnly,
    JoinDoesNotRecheck,
    JoinCountedBeforeRunBegins,
    JoinOfOpenRunNotCounted,
    ReceiverTrustsFirstJoinCount,
    EmptyTakenForDrained,
    CloseIgnoresTheRun,
    RunNumbersInUseAreTaken,
    CloseWakesNobody,
    RecordsOfClosedRunsPreventWaking,
    EndsOfEarlierRunsCount,
    NewReceiversGetOldEnds,
    RecordsOfClosedRunsCount,
}

/// A configuration. A sender's program is a list of actions: `s` sends, `c` closes, `h` stays for
/// good, and `l` leaves, as it does after the last action anyway. A receiver's program is `r`, or `x`
/// if it closes first.
struct Model {
    programs: &'static [&'static str],
    /// Senders run one after the other.
    in_turn: bool,
    records: usize,
    run_numbers: u8,
    kills: u8,
    mutant: Mutant,
}

impl Model {
    /// One record, two run numbers, no kills, no mutant.
    const fn new(programs: &'static [&'static str]) -> Self {
        Self { programs, in_turn: false, records: 1, run_numbers: 2, kills: 0, mutant: Mutant::None }
    }
}

enum Outcome {
    Passes { states: usize, most_received: u8 },
    Fails(String),
}

impl Model {
    fn is_sender(&self, id: usize) -> bool {
        !matches!(&self.programs[id][..1], "r" | "x")
    }

    fn next_action(&self, id: usize, step: u8) -> Pc {
        match self.programs[id].as_bytes().get(step as usize) {
            Some(b's') => Pc::Send { listening: false },
            Some(b'c') => Pc::Close,
            Some(b'h') => Pc::Done,
            _ => Pc::Leave,
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    fn start(&self) -> State {
        let participant = |id: usize| Participant {
            alive: true,
            pc: Pc::Enter,
            step: 0,
            record: u8::from(!self.is_sender(id)) * 99,
            run: 0,
            tail: Tail::default(),
            join_count: 0,
            index: 0,
            at: 0,
            woken: false,
            over_since: None,
            phase: (false, 0),
            last_look: None,
            end_found: None,
            joined: false,
            run_index: 0,
            open_when_announced: false,
            came_after_end: false,
            received: 0,
            pending_error: "",
        };
        State {
            tail: Tail::default(),
            head: 0,
            positions: [Position::Unused; POSITIONS],
            records: vec![Record::default(); self.records],
            join_count: 0,
            changes: 0,
            last_end: (0, false),
            admission_lock: None,
            participants: (0..self.programs.len()).map(participant).collect(),
            kills: 0,
            run_index: 0,
            joins: 0,
            closes: 0,
            death_in_run: false,
            error: "",
        }
    }

    fn next(&self, state: &State) -> Vec<State> {
        let mut all = Vec::new();
        for id in 0..self.programs.len() {
            if !state.runs(id) {
                continue;
            }
            if self.in_turn && self.is_sender(id) && (0..id).any(|other| self.is_sender(other) && state.runs(other)) {
                continue;
            }
            if state.kills < self.kills {
                all.push(Self::kill(state, id));
            }
            self.step(state, id, &mut all);
        }
        all
    }

    fn kill(state: &State, id: usize) -> State {
        let mut next = state.clone();
        next.kills += 1;
        next.participants[id].alive = false;
        if next.admission_lock == Some(id as u8) {
            next.admission_lock = None; // the kernel frees the lock
        }
        let participant = &next.participants[id];
        // A sender that is just joining counts, too.
        let record = next.records.iter().find(|record| record.present && record.owner == id as u8);
        next.death_in_run |= participant.joined && participant.run_index == next.run_index
            || record.is_some_and(|record| record.run == next.tail.run);
        next
    }

    fn wake_all(state: &mut State) {
        for participant in &mut state.participants {
            participant.woken = true;
        }
    }

    fn is_open(&self, state: &State, id: usize) -> bool {
        let participant = &state.participants[id];
        !state.tail.closed && participant.joined && participant.run_index == state.run_index
    }

    /// Whether a receiver is alive and not done.
    fn has_receiver(&self, state: &State) -> bool {
        (0..self.programs.len()).any(|id| !self.is_sender(id) && state.runs(id))
    }

    /// Whether there is a live sender of the open run, from when it has joined until it clears its
    /// record.
    fn has_live_sender(&self, state: &State) -> bool {
        (0..self.programs.len()).any(|id| self.is_sender(id) && state.participants[id].alive && self.is_open(state, id))
    }

    /// Frees the claims of the record's dead owner, notes its end, and frees the record.
    fn repair(&self, state: &mut State, record: usize) {
        let Record { owner, run, .. } = state.records[record];
        for position in &mut state.positions {
            if matches!(*position, Position::Claimed(id) | Position::Skipped(id) if id == owner) {
                *position = Position::Free;
            }
        }
        if self.is(Mutant::EndsOfEarlierRunsCount) || !state.tail.closed && run == state.tail.run {
            state.last_end = (state.tail.run, true);
        }
        state.records[record].present = false;
        state.changes += 1;
        Self::wake_all(state);
    }

    fn dead_record(&self, state: &State) -> Option<usize> {
        state.records.iter().position(|record| record.present && !state.participants[record.owner as usize].alive)
    }

    /// Whether a receiver that attached after an end still waits for a sender to join.
    fn waits_for_a_join(participant: &Participant, join_count: u8, now: Tail) -> bool {
        participant.over_since == Some(join_count) && (!now.closed || participant.phase == now.phase())
    }

    fn step(&self, state: &State, id: usize, all: &mut Vec<State>) {
        let me = state.participants[id];
        let mut next = state.clone();
        let closed = |next: &mut State| {
            if self.is_open(state, id) {
                next.error = "a sender of the open run gets Closed";
            }
            next.participants[id].pc = Pc::Leave;
        };
        let then = &mut next.participants[id];
        match me.pc {
            Pc::Enter => {
                if state.admission_lock.is_some() {
                    return;
                }
                if !self.is_sender(id) {
                    then.pc = Pc::AttachLoad;
                    next.admission_lock = Some(id as u8);
                } else if let Some(record) = state.records.iter().position(|record| !record.present) {
                    then.record = record as u8;
                    then.pc = Pc::Register;
                    next.admission_lock = Some(id as u8);
                } else if let Some(record) = self.dead_record(state) {
                    self.repair(&mut next, record);
                } else {
                    return; // until a record is free
                }
            }
            // The record still has the run of its last owner.
            Pc::Register => {
                let record = &mut next.records[me.record as usize];
                (record.present, record.owner) = (true, id as u8);
                then.pc = Pc::ChooseRun;
            }
            Pc::ChooseRun => {
                then.tail = state.tail;
                then.pc = Pc::AnnounceRun;
                then.run = state.tail.run;
                if state.tail.closed {
                    let is_used = |run: u8| {
                        let others =
                            state.records.iter().enumerate().filter(|(record, _)| *record != me.record as usize);
                        others.into_iter().any(|(_, record)| record.present && record.run == run)
                    };
                    let mut ahead = (1..self.run_numbers).map(|ahead| (state.tail.run + ahead) % self.run_numbers);
                    match ahead.find(|&run| self.is(Mutant::RunNumbersInUseAreTaken) || !is_used(run)) {
                        Some(run) => then.run = run,
                        None => {
                            // No run number is unused, so the join fails.
                            next.records[me.record as usize].present = false;
                            next.admission_lock = None;
                            then.pc = Pc::Done;
                        }
                    }
                }
            }
            Pc::AnnounceRun => {
                next.records[me.record as usize].run = me.run;
                then.open_when_announced = state.tail.phase() == (false, me.run);
                let early = !me.tail.closed || self.is(Mutant::JoinCountedBeforeRunBegins);
                then.pc = if early { Pc::CountEarly } else { Pc::EnterRun };
            }
            Pc::CountEarly => {
                next.join_count += u8::from(!self.is(Mutant::JoinOfOpenRunNotCounted));
                next.joins += u8::from(!me.tail.closed);
                then.pc = Pc::EnterRun;
            }
            Pc::EnterRun if me.tail.closed => {
                if state.tail == me.tail {
                    next.tail = Tail { closed: false, run: me.run, ..state.tail };
                    next.run_index += 1;
                    next.death_in_run = false;
                    then.run_index = next.run_index;
                    then.joined = true;
                    next.joins += 1;
                    then.pc = if self.is(Mutant::JoinCountedBeforeRunBegins) { Pc::Joined } else { Pc::CountLate };
                } else {
                    then.pc = Pc::ChooseRun;
                }
            }
            Pc::EnterRun => {
                if state.tail.phase() == me.tail.phase() || self.is(Mutant::JoinDoesNotRecheck) {
                    if !me.open_when_announced && state.tail.phase() != (false, me.run) {
                        next.error = "a sender that joined after the close is bound by it";
                    }
                    then.run_index = state.run_index;
                    then.joined = true;
                    then.pc = Pc::Joined;
                } else {
                    then.pc = Pc::ChooseRun;
                }
            }
            Pc::CountLate => {
                next.join_count += 1;
                then.pc = Pc::Joined;
            }
            Pc::Joined => {
                next.changes += 1;
                next.admission_lock = None;
                then.pc = self.next_action(id, 0);
            }
            Pc::Send { listening } => {
                if state.tail.phase() != (false, me.run) && !self.is(Mutant::ClaimComparesThePositionOnly)
                    || state.tail.closed
                {
                    closed(&mut next);
                } else if state.tail.at as usize == POSITIONS {
                    return;
                } else if state.tail.at >= CAPACITY
                    && state.positions[(state.tail.at - CAPACITY) as usize] != Position::Free
                {
                    then.pc = match listening {
                        _ if !self.has_receiver(state) => Pc::Leave,
                        false => Pc::Listen,
                        true => Pc::Sleep,
                    };
                } else {
                    then.tail = state.tail;
                    then.pc = Pc::Claim;
                }
            }
            Pc::Claim => {
                let is_same = match self.mutant {
                    Mutant::ClaimComparesThePositionOnly => state.tail.at == me.tail.at,
                    _ => state.tail == me.tail,
                };
                if is_same {
                    if !self.is_open(state, id) {
                        next.error = "a message was accepted after the close";
                    }
                    then.at = state.tail.at;
                    then.pc = Pc::Publish;
                    next.positions[state.tail.at as usize] = Position::Claimed(id as u8);
                    next.tail.at += 1;
                } else {
                    then.pc = Pc::Send { listening: false };
                }
            }
            Pc::Publish => {
                if state.positions[me.at as usize] == Position::Claimed(id as u8) {
                    next.positions[me.at as usize] = Position::Ready;
                    then.pc = Pc::Notify;
                } else {
                    next.positions[me.at as usize] = Position::Free; // returned from quarantine
                    then.pc = Pc::Send { listening: false };
                }
            }
            Pc::Notify | Pc::NotifyFree => {
                let is_sender = me.pc == Pc::Notify;
                then.pc = if is_sender { self.next_action(id, me.step + 1) } else { Pc::Take(IfEmpty::Look) };
                then.step += u8::from(is_sender);
                let others = || (0..self.programs.len()).filter(|other| self.is_sender(*other) != is_sender);
                // A waiter that is about to sleep finds a new epoch. One of those that sleep is woken.
                for other in others().filter(|other| state.participants[*other].pc != Pc::Sleep) {
                    next.participants[other].woken = true;
                }
                let asleep =
                    |other: &usize| state.participants[*other].pc == Pc::Sleep && !state.participants[*other].woken;
                for other in others().filter(asleep) {
                    let mut woken = next.clone();
                    woken.participants[other].woken = true;
                    all.push(woken);
                }
                if others().any(|other| asleep(&other)) {
                    return;
                }
            }
            Pc::Listen => {
                then.woken = false;
                then.pc =
                    if self.is_sender(id) { Pc::Send { listening: true } } else { Pc::Take(IfEmpty::LookThenSleep) };
            }
            Pc::Sleep => {
                if !me.woken && self.kills == 0 {
                    let is_alone = self.is_sender(id) && !self.has_receiver(state);
                    if !is_alone {
                        return;
                    }
                }
                then.pc = match self.is_sender(id) {
                    true => Pc::Send { listening: false },
                    false if me.woken => Pc::Take(IfEmpty::Look),
                    false => Pc::CheckLiveness,
                };
            }
            Pc::Close => {
                let is_mine = !self.is_sender(id) || state.tail.run == me.run || self.is(Mutant::CloseIgnoresTheRun);
                if state.tail.closed || !is_mine {
                    if self.is_sender(id) { closed(&mut next) } else { then.pc = Pc::Take(IfEmpty::Look) }
                } else {
                    then.tail = state.tail;
                    then.pc = Pc::CloseSwap;
                }
            }
            Pc::CloseSwap => {
                if state.tail == me.tail {
                    if self.is_sender(id) && !self.is_open(state, id) {
                        next.error = "a sender closed another run than its own";
                    }
                    next.tail.closed = true;
                    next.closes += 1;
                    then.pc = Pc::CloseNotify;
                } else {
                    then.pc = Pc::Close;
                }
            }
            Pc::CloseNotify => {
                next.changes += 1;
                if self.is_sender(id) {
                    then.pc = self.next_action(id, me.step + 1);
                    then.step += 1;
                } else {
                    then.pc = Pc::Take(IfEmpty::Look);
                }
                if !self.is(Mutant::CloseWakesNobody) {
                    Self::wake_all(&mut next);
                }
            }
            Pc::Leave => {
                next.records[me.record as usize].present = false;
                then.joined = false;
                then.pc = Pc::LeaveRecordEnd;
            }
            Pc::LeaveRecordEnd => {
                if self.is(Mutant::EndsOfEarlierRunsCount) || state.tail.phase() == (false, me.run) {
                    next.last_end = (state.tail.run, false);
                }
                next.changes += 1;
                then.pc = Pc::LeaveWake;
            }
            Pc::LeaveWake => {
                let counts = |record: &Record| {
                    record.present
                        && (self.is(Mutant::RecordsOfClosedRunsPreventWaking)
                            || state.tail.phase() == (false, record.run))
                };
                then.pc = Pc::Done;
                if !state.records.iter().any(counts) {
                    Self::wake_all(&mut next);
                }
            }
            Pc::AttachLoad => {
                then.join_count = state.join_count;
                then.tail = state.tail;
                then.phase = state.tail.phase();
                then.pc = Pc::AttachScan;
            }
            Pc::AttachScan => {
                let counts = |record: &Record| record.present && me.tail.phase() == (false, record.run);
                then.index = u8::from(!state.records.iter().any(counts));
                then.pc = Pc::AttachDrained;
            }
            Pc::AttachDrained => {
                let is_skipped = |at: u8| matches!(state.positions[at as usize], Position::Skipped(_) | Position::Free);
                let is_empty = (state.head..state.tail.at).all(is_skipped);
                let is_over = me.index == 1 && is_empty && state.tail == me.tail;
                if is_over && !self.is(Mutant::NewReceiversGetOldEnds) {
                    then.over_since = Some(me.join_count);
                }
                then.came_after_end = is_over;
                (then.run_index, then.at, then.step) = (state.joins, state.closes, 0);
                next.admission_lock = None;
                then.pc = if self.programs[id] == "x" { Pc::Close } else { Pc::Take(IfEmpty::Look) };
            }
            Pc::Take(if_empty) => {
                let head = state.head as usize;
                let skip = |next: &mut State| {
                    if let Position::Claimed(other) = state.positions[head] {
                        next.positions[head] = Position::Skipped(other);
                    }
                    next.head += 1;
                };
                if state.head < state.tail.at {
                    let is_behind = state.positions[head + 1..state.tail.at as usize].contains(&Position::Ready);
                    match state.positions[head] {
                        Position::Ready => {
                            next.positions[head] = Position::Taken(id as u8);
                            next.head += 1;
                            then.index = head as u8;
                            then.received += 1;
                            then.pc = Pc::Release;
                            all.push(next);
                            return;
                        }
                        Position::Claimed(_) if !is_behind && !state.tail.closed => {}
                        _ => {
                            skip(&mut next);
                            all.push(next);
                            return;
                        }
                    }
                }
                then.pc = match if_empty {
                    IfEmpty::Look | IfEmpty::LookThenSleep => Pc::Look(if_empty),
                    IfEmpty::Confirm if me.end_found == Some(End::Closed) && !self.is(Mutant::EmptyTakenForDrained) => {
                        Pc::Drain
                    }
                    IfEmpty::Confirm => Pc::RecheckJoins,
                };
            }
            Pc::Release => {
                next.positions[me.index as usize] = Position::Free;
                then.pc = Pc::NotifyFree;
            }
            Pc::Look(if_empty) => {
                let now = (state.changes, state.tail.phase());
                if me.last_look == Some(now) {
                    Self::answer(then, me.end_found, if_empty);
                } else {
                    then.last_look = Some(now);
                    then.pc = Pc::LoadJoins(if_empty);
                }
            }
            Pc::CheckLiveness => match self.dead_record(state) {
                Some(record) => self.repair(&mut next, record),
                None => then.pc = Pc::LoadJoins(IfEmpty::Look),
            },
            Pc::LoadJoins(if_empty) => {
                then.join_count = state.join_count;
                then.pc = Pc::LoadTail(if_empty);
            }
            Pc::LoadTail(if_empty) => {
                then.tail = state.tail;
                then.index = 0;
                then.end_found = None;
                let is_closed = state.tail.closed;
                if Self::waits_for_a_join(&me, me.join_count, state.tail) {
                    Self::answer(then, None, if_empty);
                    if me.received > 0 {
                        next.error = "a receiver waits for another run than the one it received from";
                    }
                } else if is_closed && !self.is(Mutant::RecordsOfClosedRunsCount) {
                    Self::answer(then, Some(End::Closed), if_empty);
                } else {
                    then.pc = Pc::ScanRecords(if_empty);
                }
            }
            Pc::ScanRecords(if_empty) => {
                let is_last = me.index as usize == self.records;
                let counts = |record: Record| {
                    record.present
                        && (self.is(Mutant::RecordsOfClosedRunsCount) || me.tail.phase() == (false, record.run))
                };
                if is_last {
                    then.pc = Pc::ReloadJoins(if_empty);
                } else if counts(state.records[me.index as usize]) {
                    Self::answer(then, None, if_empty);
                } else {
                    then.index += 1;
                }
            }
            Pc::ReloadJoins(if_empty) => {
                let is_same = state.join_count == me.join_count || self.is(Mutant::ReceiverTrustsFirstJoinCount);
                let end = if state.last_end == (me.tail.run, true) { End::PeerDied } else { End::Closed };
                Self::answer(then, is_same.then_some(end), if_empty);
            }
            Pc::Drain => {
                let head = state.head as usize;
                if state.head >= state.tail.at {
                    then.pc = Pc::RecheckJoins;
                } else if state.positions[head] == Position::Ready {
                    then.last_look = None;
                    then.pc = Pc::Take(IfEmpty::Look);
                } else {
                    if let Position::Claimed(other) = state.positions[head] {
                        next.positions[head] = Position::Skipped(other);
                    }
                    next.head += 1;
                }
            }
            Pc::RecheckJoins => {
                then.pc = if state.join_count == me.join_count || self.is(Mutant::ReceiverTrustsFirstJoinCount) {
                    Pc::RecheckTail
                } else {
                    then.last_look = None;
                    Pc::Take(IfEmpty::Look)
                };
            }
            Pc::RecheckTail => {
                if state.tail == me.tail {
                    then.pc = Pc::Done;
                } else {
                    then.last_look = None;
                    then.pc = Pc::Take(IfEmpty::Look);
                }
            }
            Pc::Done => return,
        }
        match (me.pc, next.participants[id].pc) {
            // The end must be right at this moment. It is reported if the tail is still the same.
            (Pc::RecheckJoins, Pc::RecheckTail) => next.participants[id].pending_error = self.end_error(state, id),
            (Pc::RecheckTail, Pc::Done) => next.error = me.pending_error,
            (Pc::RecheckTail, _) => next.participants[id].pending_error = "",
            _ => {}
        }
        Self::normalise(&mut next.participants[id]);
        all.push(next);
    }

    /// Ends a look with its answer.
    fn answer(participant: &mut Participant, end_found: Option<End>, if_empty: IfEmpty) {
        participant.end_found = end_found;
        participant.index = 0;
        participant.pc = match (end_found, if_empty) {
            (Some(_), _) => Pc::Take(IfEmpty::Confirm),
            (None, IfEmpty::LookThenSleep) => Pc::Sleep,
            (None, _) => Pc::Listen,
        };
    }

    /// Returns what is wrong with the end that a receiver is about to report, or nothing.
    fn end_error(&self, state: &State, id: usize) -> &'static str {
        let me = &state.participants[id];
        let is_sent =
            |position: &Position| matches!(position, Position::Claimed(id) if state.participants[*id as usize].alive);
        if state.positions.contains(&Position::Ready) {
            return "an end while messages are left";
        }
        if me.end_found == Some(End::Closed) && state.positions.iter().any(is_sent) {
            return "an end while a message is being sent";
        }
        if self.has_live_sender(state) {
            return "an end while a sender of the open run is alive";
        }
        if me.came_after_end && state.joins == me.run_index && state.closes == me.at {
            return "an end from before the receiver attached";
        }
        if me.end_found == Some(End::PeerDied) && !state.death_in_run {
            return "a death in another run";
        }
        ""
    }

    /// Resets what no later step reads, so that equal states compare equal.
    fn normalise(participant: &mut Participant) {
        if matches!(participant.pc, Pc::Send { .. } | Pc::Close | Pc::Leave | Pc::Done | Pc::Joined) {
            participant.tail = Tail::default();
        }
        if matches!(participant.pc, Pc::Done) {
            let (received, record) = (participant.received, participant.record);
            let mut rest = *participant;
            (rest.run, rest.step, rest.at, rest.index, rest.join_count) = (0, 0, 0, 0, 0);
            (rest.woken, rest.last_look, rest.end_found, rest.over_since, rest.phase) =
                (false, None, None, None, (false, 0));
            (rest.run_index, rest.came_after_end, rest.open_when_announced, rest.received, rest.record) =
                (0, false, false, received, record);
            *participant = rest;
        }
        if matches!(participant.pc, Pc::Take(IfEmpty::Look) | Pc::Sleep | Pc::Listen) {
            (participant.tail, participant.join_count, participant.index) = (Tail::default(), 0, 0);
        }
    }

    /// Whether no participant has anything left to do, and no message is left for a receiver.
    fn is_finished(&self, state: &State) -> bool {
        let is_done = |id: usize| {
            let participant = &state.participants[id];
            // A receiver that no sender joins goes on waiting.
            let waits = !self.is_sender(id)
                && participant.pc == Pc::Sleep
                && Self::waits_for_a_join(participant, state.join_count, state.tail);
            !state.runs(id) || waits
        };
        let strands = state.positions.contains(&Position::Ready) && self.has_receiver(state);
        state.tail.at as usize == POSITIONS || (0..self.programs.len()).all(is_done) && !strands
    }

    /// Finds the state with that number again.
    fn state(&self, number: usize) -> State {
        let (mut known, mut all) = (HashSet::from([fingerprint(&self.start())]), VecDeque::from([self.start()]));
        let mut passed = 0;
        while let Some(state) = all.pop_front() {
            if passed == number {
                return state;
            }
            passed += 1;
            all.extend(self.next(&state).into_iter().filter(|next| known.insert(fingerprint(next))));
        }
        unreachable!("{number} of {passed} states");
    }

    fn check(&self, limit: usize) -> Outcome {
        let start = self.start();
        let (mut known, mut all) = (HashMap::from([(fingerprint(&start), 0_u32)]), VecDeque::from([(0_u32, start)]));
        let (mut back, mut good, mut most_received) = (Vec::new(), Vec::new(), 0);
        while let Some((number, state)) = all.pop_front() {
            if self.is_finished(&state) {
                good.push(number);
                most_received =
                    most_received.max(state.participants.iter().map(|participant| participant.received).sum());
            }
            for next in self.next(&state) {
                if !next.error.is_empty() {
                    let mut text = next.error.to_string();
                    write!(text, ", after {} states\n{state:?}", known.len()).unwrap();
                    return Outcome::Fails(text);
                }
                let (is_kill, fresh) = (next.kills != state.kills, known.len() as u32);
                let id = *known.entry(fingerprint(&next)).or_insert(fresh);
                if id == fresh {
                    all.push_back((id, next));
                }
                if !is_kill {
                    back.push((id, number));
                }
            }
            assert!(known.len() < limit, "more than {limit} states: {:?}", self.programs);
        }
        // From every state, without further kills, all participants must be able to finish.
        back.sort_unstable();
        let mut can_finish = vec![false; known.len()];
        while let Some(number) = good.pop() {
            if std::mem::replace(&mut can_finish[number as usize], true) {
                continue;
            }
            let from = back.partition_point(|edge| edge.0 < number);
            good.extend(back[from..].iter().take_while(|edge| edge.0 == number).map(|edge| edge.1));
        }
        match can_finish.iter().position(|can| !can) {
            Some(stuck) => Outcome::Fails(format!("some participant can never finish\n{:?}", self.state(stuck))),
            None => Outcome::Passes { states: known.len(), most_received },
        }
    }
}

/// Stands for a state. Among a hundred million states, the probability that two share a fingerprint
/// is 10^-22.
fn fingerprint(state: &State) -> u128 {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, state).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// What fits into the memory of a small machine.
const MAX_STATES: usize = 30_000_000;

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { programs, records, run_numbers, kills, .. } = self;
        write!(f, "{programs:?}, {records} records, {run_numbers} run numbers, {kills} kills")
    }
}

/// Checks a model that must pass. Returns the most messages that were received.
#[track_caller]
fn passes(model: Model) -> u8 {
    match model.check(MAX_STATES) {
        Outcome::Passes { states, most_received } => {
            println!("{model}: {states} states");
            most_received
        }
        Outcome::Fails(how) => panic!("{model}: {how}"),
    }
}

const fn with_kills(kills: u8, programs: &'static [&'static str]) -> Model {
    Model { kills, ..Model::new(programs) }
}

const fn in_turn(kills: u8, programs: &'static [&'static str]) -> Model {
    Model { in_turn: true, ..with_kills(kills, programs) }
}

/// A model with several records and run numbers.
const fn wide(records: usize, run_numbers: u8, programs: &'static [&'static str]) -> Model {
    Model { records, run_numbers, ..Model::new(programs) }
}

#[test]
fn runs_senders_in_turn_are_received_in_turn() {
    assert_eq!(passes(in_turn(0, &["sc", "sc", "r"])), 2);
    passes(in_turn(1, &["c", "c", "r"]));
}

#[test]
fn runs_close_send_and_join_agree() {
    passes(wide(2, 3, &["ch", "s", "r"]));
    passes(with_kills(1, &["sc", "r"]));
}

#[test]
fn runs_receiver_closes_others_agree() {
    passes(with_kills(1, &["s", "x"]));
}

#[test]
fn runs_full_ring_sleeping_sides_go_on() {
    assert_eq!(passes(with_kills(0, &["sss", "r"])), 3);
    passes(with_kills(1, &["sss", "r"]));
}

#[test]
fn runs_numbers_reused_no_run_is_mistaken() {
    passes(wide(2, 2, &["s", "c", "c"]));
    passes(wide(3, 2, &["c", "c", "c"]));
}

#[test]
#[ignore = "minutes: for ./check proof"]
fn runs_larger_models_pass() {
    passes(wide(2, 3, &["sc", "s", "r"]));
    passes(wide(2, 3, &["c", "s", "r"]));
    passes(wide(1, 2, &["s", "x", "r"]));
    passes(wide(2, 2, &["s", "x", "l"]));
    passes(wide(2, 2, &["s", "c", "c", "c"]));
    passes(Model { kills: 1, ..wide(3, 3, &["s", "c", "c"]) });
    for kills in 0..=1 {
        passes(in_turn(kills, &["sc", "sc", "sc", "r"]));
        passes(with_kills(1 + kills, &["sss", "r"]));
    }
    passes(in_turn(2, &["sc", "sc", "r"]));
}

#[test]
fn runs_every_mutant_is_found() {
    use Mutant::*;
    const STUCK: &str = "some participant can never finish";
    let three: &[&str] = &["c", "s", "r"];
    let cases = [
        (ClaimComparesThePositionOnly, wide(2, 3, three), "a message was accepted after the close"),
        (JoinDoesNotRecheck, wide(2, 3, three), "a sender that joined after the close is bound by it"),
        (JoinCountedBeforeRunBegins, wide(2, 3, three), "an end from before the receiver attached"),
        (
            JoinOfOpenRunNotCounted,
            wide(1, 2, &["s", "r"]),
            "a receiver waits for another run than the one it received from",
        ),
        (ReceiverTrustsFirstJoinCount, wide(2, 2, &["s", "s", "r"]), "an end while a sender of the open run is alive"),
        (EmptyTakenForDrained, wide(2, 2, &["s", "x", "l"]), "an end while a message is being sent"),
        (CloseIgnoresTheRun, wide(3, 3, &["c", "c", "s"]), "a sender closed another run than its own"),
        (RunNumbersInUseAreTaken, wide(2, 2, &["s", "c", "c", "c"]), "a message was accepted after the close"),
        (CloseWakesNobody, wide(1, 2, &["x", "r"]), STUCK),
        (RecordsOfClosedRunsPreventWaking, wide(2, 2, &["ch", "s", "r"]), STUCK),
        (EndsOfEarlierRunsCount, Model { kills: 1, ..wide(2, 2, three) }, "a death in another run"),
        (NewReceiversGetOldEnds, wide(1, 2, &["c", "r"]), "an end from before the receiver attached"),
        (RecordsOfClosedRunsCount, wide(2, 2, &["ch", "s", "r"]), STUCK),
    ];
    for (mutant, model, error) in cases {
        let model = Model { mutant, ..model };
        match model.check(MAX_STATES) {
            Outcome::Passes { states, .. } => panic!("{mutant:?} survived {states} states of {model}"),
            Outcome::Fails(how) => assert!(how.contains(error), "{mutant:?}: {how}"),
        }
    }
}
