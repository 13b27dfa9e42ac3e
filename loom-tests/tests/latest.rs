//! Visits all states of the protocol of the latest values of a broadcast's keys: publishers are
//! killed and succeeded at every step, and subscribers take snapshots and read on at any time.
//!
//! Here each access to a shared word is a step, but a key's latest value changes in one step: that
//! it is whole is the business of `src/raw/seqlock.rs`. Weak memory is not modelled here: for it,
//! loom runs the shipping code (`src/models/latest.rs`). Two keys, rings of two slots.
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use std::collections::HashSet;

const CAPACITY: u8 = 2;
const KEYS: usize = 2;
const TRACKS: usize = 2;
const SUBSCRIBERS: usize = 2;
/// The most messages of a track.
const MESSAGES: usize = 5;

/// A message: who has published it, 0 for nobody.
type Value = u8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Message {
    key: u8,
    value: Value,
}

/// The latest value of a key: how often it was written, the position, the value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Latest {
    version: u8,
    position: u8,
    value: Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Publish {
    /// It does not know yet where it goes on.
    #[default]
    Attach,
    Finish {
        key: u8,
    },
    Begin,
    StoreKey(u8),
    StoreValue(u8),
    StoreLatest(u8),
    StoreTail(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Track {
    tail: u8,
    begun: u8,
    slots: [Message; CAPACITY as usize],
    latest: [Latest; KEYS],
    /// The publisher: a number for each life of it, what it does next, and its tail.
    life: u8,
    step: Publish,
    own_tail: u8,
    /// Known to the checker only: what was decided to be published.
    decided: [Message; MESSAGES],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Read {
    #[default]
    Idle,
    /// A snapshot loads the tail of a track,
    LoadTail(u8),
    /// a latest value,
    LoadLatest(u8),
    /// the tail again.
    CheckTail(u8),
    /// A message was copied in part, or whole.
    Copied(u8, u8),
    CopiedAll(u8, Message),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Reader {
    position: u8,
    /// Where the snapshot began that is being taken.
    start: u8,
    /// By key: messages before this position are in the snapshot.
    seen: [u8; KEYS],
    /// Known to the checker only, by key: the next position that it may deliver.
    next: [u8; KEYS],
    /// Known to the checker only: positions that it knows it has missed since the last snapshot.
    missed: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Subscriber {
    joined: bool,
    step: Read,
    tracks: [Reader; TRACKS],
    /// Latest values that the snapshot has loaded.
    loaded: [[Latest; KEYS]; TRACKS],
    snapshots: u8,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    tracks: [Track; TRACKS],
    subscribers: [Subscriber; SUBSCRIBERS],
    kills: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    LatestStoredAfterTail,
    LatestStoredBeforeMessage,
    SuccessorDoesNotFinish,
    SuccessorFinishesWhatWasBegun,
    SuccessorTakesNoVersionForPositionZero,
    TailLoadedAfterLatest,
    NothingIsSkipped,
    LatestItselfIsNotSkipped,
    SkipsWhateverTheKey,
    UnreadMessagesStay,
    NewSnapshotKeepsOldPositions,
    LatestMustBeBelowTail,
    FailedSnapshotMovesTheStream,
}

struct Model {
    tracks: usize,
    subscribers: usize,
    messages: u8,
    /// Snapshots that each subscriber takes at most.
    snapshots: u8,
    kills: u8,
    /// Whether publishers wait for subscribers.
    is_gated: bool,
    mutant: Mutant,
}

impl Model {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == mutant
    }

    /// All states that follow, or what is wrong.
    fn next(&self, state: &State, all: &mut Vec<State>) -> Result<(), String> {
        for index in 0..self.tracks {
            if state.kills < self.kills && state.tracks[index].step != Publish::Attach {
                let mut next = *state;
                next.kills += 1;
                let track = &mut next.tracks[index];
                (track.step, track.life, track.own_tail) = (Publish::Attach, track.life + 1, 0);
                all.push(next);
            }
            self.publish(state, index, all)?;
        }
        for index in 0..self.subscribers {
            self.read(state, index, all)?;
        }
        Ok(())
    }

    fn publish(&self, state: &State, index: usize, all: &mut Vec<State>) -> Result<(), String> {
        let mut next = *state;
        let track = &mut next.tracks[index];
        let position = track.own_tail;
        let slot = usize::from(position % CAPACITY);
        match track.step {
            Publish::Attach => {
                track.own_tail = track.tail;
                let key = track.slots[usize::from(track.tail % CAPACITY)].key;
                let latest = track.latest[usize::from(key)];
                let has_version = latest.version > 0 || self.is(Mutant::SuccessorTakesNoVersionForPositionZero);
                let is_written = has_version && latest.position == track.tail;
                let finishes = match self.mutant {
                    Mutant::SuccessorDoesNotFinish => false,
                    Mutant::SuccessorFinishesWhatWasBegun => track.begun > track.tail,
                    _ => is_written,
                };
                track.step = if finishes { Publish::Finish { key } } else { Publish::Begin };
            }
            Publish::Finish { .. } => return self.store_tail(next, index, all),
            Publish::Begin => {
                let is_free = |subscriber: &Subscriber| {
                    !subscriber.joined || position < subscriber.tracks[index].position + CAPACITY
                };
                if position == self.messages || self.is_gated && !state.subscribers.iter().all(is_free) {
                    return Ok(());
                }
                track.begun = track.begun.max(position + 1);
                for key in 0..KEYS as u8 {
                    let step = match self.mutant {
                        Mutant::LatestStoredBeforeMessage => Publish::StoreLatest(key),
                        _ => Publish::StoreKey(key),
                    };
                    next.tracks[index].step = step;
                    all.push(next);
                }
                return Ok(());
            }
            Publish::StoreKey(key) => (track.slots[slot].key, track.step) = (key, Publish::StoreValue(key)),
            Publish::StoreValue(key) => {
                track.slots[slot].value = track.life + 1;
                track.step = match self.mutant {
                    Mutant::LatestStoredAfterTail | Mutant::LatestStoredBeforeMessage => Publish::StoreTail(key),
                    _ => Publish::StoreLatest(key),
                };
            }
            Publish::StoreLatest(key) => {
                let latest = &mut track.latest[usize::from(key)];
                let value = track.life + 1;
                *latest = Latest { version: latest.version + 1, position, value };
                let decided = &mut track.decided[usize::from(position)];
                if decided.value != 0 && !self.is(Mutant::LatestStoredAfterTail) {
                    return Err(format!("position {position} is decided twice"));
                }
                *decided = Message { key, value };
                match self.mutant {
                    Mutant::LatestStoredBeforeMessage => track.step = Publish::StoreKey(key),
                    Mutant::LatestStoredAfterTail => (track.own_tail, track.step) = (position + 1, Publish::Begin),
                    _ => track.step = Publish::StoreTail(key),
                }
            }
            Publish::StoreTail(key) if self.is(Mutant::LatestStoredAfterTail) => {
                track.decided[usize::from(position)] = Message { key, value: track.life + 1 };
                (track.tail, track.step) = (position + 1, Publish::StoreLatest(key));
            }
            Publish::StoreTail(_) => return self.store_tail(next, index, all),
        }
        all.push(next);
        Ok(())
    }

    fn store_tail(&self, mut next: State, index: usize, all: &mut Vec<State>) -> Result<(), String> {
        let track = &mut next.tracks[index];
        let position = track.own_tail;
        if track.slots[usize::from(position % CAPACITY)] != track.decided[usize::from(position)] {
            return Err(format!("position {position} is published, but not what was decided"));
        }
        track.begun = track.begun.max(position + 1);
        (track.tail, track.own_tail, track.step) = (position + 1, position + 1, Publish::Begin);
        all.push(next);
        Ok(())
    }

    fn read(&self, state: &State, index: usize, all: &mut Vec<State>) -> Result<(), String> {
        let mut next = *state;
        let subscriber = &mut next.subscribers[index];
        let load_tail = |subscriber: &mut Subscriber, at: usize| {
            subscriber.tracks[at].start = state.tracks[at].tail;
        };
        match subscriber.step {
            Read::Idle if !subscriber.joined => {
                // How it joins is the business of src/raw/broadcast/cursor.rs.
                subscriber.joined = true;
                for (reader, track) in subscriber.tracks.iter_mut().zip(&state.tracks) {
                    reader.position = track.tail;
                    // What came before it has joined is no concern of it.
                    for (key, next) in reader.next.iter_mut().enumerate() {
                        *next = last_of(track, key, track.tail);
                    }
                }
            }
            Read::Idle => {
                if subscriber.snapshots < self.snapshots {
                    let mut next = *state;
                    let subscriber = &mut next.subscribers[index];
                    subscriber.snapshots += 1;
                    subscriber.step = match self.mutant {
                        Mutant::TailLoadedAfterLatest => Read::LoadLatest(0),
                        _ => Read::LoadTail(0),
                    };
                    all.push(next);
                }
                for at in 0..self.tracks {
                    let (reader, track) = (&state.subscribers[index].tracks[at], &state.tracks[at]);
                    if reader.position < track.tail {
                        let mut next = *state;
                        let slot = track.slots[usize::from(reader.position % CAPACITY)];
                        next.subscribers[index].step = Read::Copied(at as u8, slot.key);
                        all.push(next);
                    }
                }
                return Ok(());
            }
            Read::LoadTail(at) => {
                load_tail(subscriber, usize::from(at));
                let is_last = usize::from(at) + 1 == self.tracks;
                subscriber.step = if is_last { Read::LoadLatest(0) } else { Read::LoadTail(at + 1) };
            }
            Read::LoadLatest(number) => {
                if number > 0 {
                    // It fails, and the stream goes on as if nothing had happened.
                    let mut next = *state;
                    let subscriber = &mut next.subscribers[index];
                    (subscriber.step, subscriber.loaded) = (Read::Idle, Default::default());
                    subscriber.tracks.iter_mut().for_each(|reader| reader.start = 0);
                    if self.is(Mutant::FailedSnapshotMovesTheStream) {
                        for (reader, before) in subscriber.tracks.iter_mut().zip(&state.subscribers[index].tracks) {
                            reader.position = before.start;
                        }
                    }
                    all.push(next);
                }
                let (at, key) = (usize::from(number) % self.tracks, usize::from(number) / self.tracks);
                subscriber.loaded[at][key] = state.tracks[at].latest[key];
                let is_last = usize::from(number) + 1 == self.tracks * KEYS;
                subscriber.step = if is_last { Read::CheckTail(0) } else { Read::LoadLatest(number + 1) };
            }
            Read::CheckTail(at) => {
                let at_index = usize::from(at);
                let track = &state.tracks[at_index];
                if self.is(Mutant::TailLoadedAfterLatest) {
                    load_tail(subscriber, at_index);
                }
                let loaded = std::mem::take(&mut subscriber.loaded[at_index]);
                let limit = match self.mutant {
                    Mutant::LatestMustBeBelowTail => track.tail,
                    _ => track.tail + 1,
                };
                let reader = &mut subscriber.tracks[at_index];
                let start = std::mem::take(&mut reader.start);
                if !self.is(Mutant::UnreadMessagesStay) {
                    reader.position = start;
                }
                reader.missed = 0;
                if !self.is(Mutant::NewSnapshotKeepsOldPositions) || reader.seen == [0; KEYS] {
                    reader.seen = [0; KEYS];
                    for (seen, latest) in reader.seen.iter_mut().zip(&loaded) {
                        let end = latest.position + u8::from(!self.is(Mutant::LatestItselfIsNotSkipped));
                        if latest.version > 0 && latest.position >= start {
                            *seen = end;
                        }
                    }
                }
                if self.is(Mutant::SkipsWhateverTheKey) {
                    reader.seen = [reader.seen[0].max(reader.seen[1]); KEYS];
                }
                for (key, latest) in loaded.iter().enumerate() {
                    let least = last_of(track, key, reader.position);
                    if latest.version == 0 {
                        if least > 0 {
                            return Err(format!("the snapshot has nothing of key {key}"));
                        }
                        continue;
                    }
                    if latest.position >= limit {
                        return Err("a latest value is taken for invalid".into());
                    }
                    let expected = Message { key: key as u8, value: latest.value };
                    if track.decided[usize::from(latest.position)] != expected {
                        return Err(format!("the snapshot has another value of position {}", latest.position));
                    }
                    if latest.position + 1 < least.max(reader.next[key]) {
                        return Err(format!("the snapshot has an old value of key {key}"));
                    }
                    reader.next[key] = latest.position + 1;
                }
                let is_last = at_index + 1 == self.tracks;
                subscriber.step = if is_last { Read::Idle } else { Read::CheckTail(at + 1) };
            }
            Read::Copied(at, key) => {
                let position = subscriber.tracks[usize::from(at)].position;
                let value = state.tracks[usize::from(at)].slots[usize::from(position % CAPACITY)].value;
                subscriber.step = Read::CopiedAll(at, Message { key, value });
            }
            Read::CopiedAll(at, message) => {
                let (track, reader) = (&state.tracks[usize::from(at)], &mut subscriber.tracks[usize::from(at)]);
                subscriber.step = Read::Idle;
                if track.begun > reader.position + CAPACITY {
                    let oldest = track.begun - CAPACITY;
                    if self.is_gated {
                        return Err("an unread message was overwritten".into());
                    }
                    (reader.position..oldest).for_each(|position| reader.missed |= 1 << position);
                    reader.position = oldest;
                    all.push(next);
                    return Ok(());
                }
                let (position, key) = (reader.position, usize::from(message.key));
                reader.position += 1;
                if message != track.decided[usize::from(position)] {
                    return Err(format!("position {position} has another message"));
                }
                if position >= reader.seen[key] || self.is(Mutant::NothingIsSkipped) {
                    if position < reader.next[key] {
                        return Err(format!("position {position} of key {key} is delivered again"));
                    }
                    reader.next[key] = position + 1;
                }
                // Whether it was delivered or skipped: no message of the key is left out.
                for earlier in 0..=position {
                    let decided = track.decided[usize::from(earlier)];
                    if usize::from(decided.key) == key
                        && earlier >= reader.next[key]
                        && reader.missed & 1 << earlier == 0
                    {
                        return Err(format!("position {earlier} of key {key} is never delivered"));
                    }
                }
                if reader.seen.iter().all(|&seen| seen <= reader.position) {
                    reader.seen = [0; KEYS];
                }
            }
        }
        all.push(next);
        Ok(())
    }

    /// What must hold when nobody does anything any more.
    fn check_end(&self, state: &State) -> Result<(), String> {
        for (track, at) in state.tracks.iter().zip(0..self.tracks) {
            if track.tail != self.messages {
                return Err(format!("only {} messages are published", track.tail));
            }
            for subscriber in &state.subscribers[..self.subscribers] {
                let reader = &subscriber.tracks[at];
                for key in 0..KEYS {
                    let last = last_of(track, key, track.tail);
                    if reader.next[key] != last && reader.missed & 1 << last.saturating_sub(1) == 0 {
                        return Err(format!("the last message of key {key} was not delivered"));
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns the number of states, or what is wrong.
    fn visit(&self) -> Result<usize, String> {
        let mut seen = HashSet::from([State::default()]);
        let mut open = vec![State::default()];
        let mut following = Vec::new();
        while let Some(state) = open.pop() {
            self.next(&state, &mut following).map_err(|error| format!("{error}: after {state:?}"))?;
            if following.is_empty() {
                self.check_end(&state).map_err(|error| format!("{error}: {state:?}"))?;
            }
            for next in following.drain(..) {
                if seen.insert(next) {
                    open.push(next);
                }
            }
        }
        Ok(seen.len())
    }
}

/// The position behind the last message of a key before `end`. 0 if there is none.
fn last_of(track: &Track, key: usize, end: u8) -> u8 {
    let is_of_key = |&position: &u8| {
        let decided = track.decided[usize::from(position)];
        decided.value > 0 && usize::from(decided.key) == key
    };
    (0..end).rev().find(is_of_key).map_or(0, |position| position + 1)
}

const ONE: Model =
    Model { tracks: 1, subscribers: 1, messages: 4, snapshots: 2, kills: 2, is_gated: true, mutant: Mutant::None };

#[test]
fn latest_values_every_order_neither_gap_nor_repetition() {
    let models = [
        ("gated", Model { messages: 5, ..ONE }),
        ("lossy", Model { is_gated: false, ..ONE }),
        ("two subscribers", Model { subscribers: 2, messages: 3, snapshots: 1, kills: 1, ..ONE }),
        ("two tracks", Model { tracks: 2, messages: 2, snapshots: 1, kills: 1, ..ONE }),
    ];
    for (name, model) in models {
        match model.visit() {
            Ok(states) => eprintln!("{name}: {states} states"),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn latest_values_each_mutant_is_found() {
    use Mutant::*;
    for mutant in [
        LatestStoredAfterTail,
        LatestStoredBeforeMessage,
        SuccessorDoesNotFinish,
        SuccessorFinishesWhatWasBegun,
        SuccessorTakesNoVersionForPositionZero,
        TailLoadedAfterLatest,
        NothingIsSkipped,
        LatestItselfIsNotSkipped,
        SkipsWhateverTheKey,
        UnreadMessagesStay,
        NewSnapshotKeepsOldPositions,
        LatestMustBeBelowTail,
        FailedSnapshotMovesTheStream,
    ] {
        match (Model { mutant, ..ONE }).visit() {
            Ok(states) => panic!("{mutant:?} survives {states} states"),
            Err(error) => eprintln!("{mutant:?}: {}", error.split(": ").next().unwrap_or_default()),
        }
    }
}
