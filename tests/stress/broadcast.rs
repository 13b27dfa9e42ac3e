//! Broadcasts whose processes are killed, stopped and continued at random moments. Every subscriber
//! that lives accounts for every position of every publisher: it received what is there, once and in
//! order, or was told how much it missed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tombolo::broadcast::{self, BytePublisher, ByteSubscriber, Policy, Publisher, Subscriber};
use tombolo::{ErrorKind, RecvError};

use crate::support::{
    Process, Random, SharedCounters, TestDir, message, report, start, stress_factor, stress_random, until,
};

const NAME: &str = "stress";
const SUBSCRIBERS: usize = 5;
/// Slots.
const CAPACITY: usize = 32;
const LAG: usize = 20;

/// Track, position, publisher, and a number derived from them in all other words.
type Value = [u64; 24];

const SLOT_BYTES: usize = 32;
const LONGEST: usize = 200;
const LONGEST_SLOTS: u64 = (LONGEST / SLOT_BYTES) as u64 + 1;

fn check_word(track: u64, position: u64, id: u64) -> u64 {
    Random((track << 60 ^ position.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id << 40) | 1).next()
}

fn value_at(track: u64, position: u64, id: u64) -> Value {
    let mut value = [check_word(track, position, id); 24];
    value[..3].copy_from_slice(&[track, position, id]);
    value
}

/// Of up to seven slots.
fn bytes_at(track: u64, position: u64, id: u64) -> Vec<u8> {
    let seed = check_word(track, position, id);
    let mut bytes = message(seed, 24 + (seed % (LONGEST as u64 - 24)) as usize);
    for (to, from) in bytes.chunks_exact_mut(8).zip([track, position, id]) {
        to.copy_from_slice(&from.to_le_bytes());
    }
    bytes
}

fn slots_of(length: usize) -> u64 {
    length.div_ceil(SLOT_BYTES).max(1) as u64
}

// ---- what a process is told and what it leaves behind ----------------------------------------------------------------

/// Words that survive the process that writes them. Of a publisher: its track plus 1, where it
/// began, the position behind what is published for certain, and the one behind what may be.
struct Log(SharedCounters);

impl Log {
    fn word(&self, index: usize) -> &AtomicU64 {
        self.0.word(index)
    }

    fn get(&self, index: usize) -> u64 {
        self.word(index).load(Ordering::SeqCst)
    }
}

const TRACK: usize = 0;
const BEGIN: usize = 1;
const CERTAIN: usize = 2;
const POSSIBLE: usize = 3;

/// Words of the counters.
const PUBLISHERS_END: usize = 0;
const SUBSCRIBERS_END: usize = 1;
const EVICTIONS: usize = 2;
const LAGS: usize = 3;
const RECEIVED: usize = 4;
/// The number of the process that has joined in each place.
const JOINED: usize = 16;

struct Role {
    directory: PathBuf,
    counters: SharedCounters,
    publishers: usize,
    policy: Policy,
    id: u64,
    place: usize,
}

impl Role {
    fn of(arguments: &[String]) -> Self {
        let number = |index: usize| arguments[index].parse::<usize>().unwrap();
        let directory = PathBuf::from(&arguments[0]);
        let counters = SharedCounters::at(&directory.join("counters"));
        let policy = policy(number(2));
        Self { directory, counters, publishers: number(1), policy, id: number(3) as u64, place: number(4) }
    }

    fn log(&self, id: u64) -> Log {
        Log(SharedCounters::at(&self.directory.join(format!("log-{id}"))))
    }

    fn values(&self) -> broadcast::Options<Value> {
        let options = broadcast::Options::new().capacity(CAPACITY).max_publishers(self.publishers);
        options.max_subscribers(SUBSCRIBERS).policy(self.policy).directory(self.directory.join("names"))
    }

    fn bytes(&self) -> broadcast::Options<[u8]> {
        let options = broadcast::Options::bytes().slot_bytes(SLOT_BYTES).max_message_bytes(LONGEST).capacity(CAPACITY);
        let options = options.max_publishers(self.publishers).max_subscribers(SUBSCRIBERS);
        options.policy(self.policy).directory(self.directory.join("names"))
    }

    /// A stopped process may be in the middle of joining, and a killed one may be ending.
    fn join<E>(&self, join: impl Fn() -> tombolo::Result<E>) -> E {
        loop {
            match join() {
                Ok(endpoint) => break endpoint,
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Busy | ErrorKind::TooManyParticipants),
                    "process {}: {error}",
                    self.id
                ),
            }
        }
    }

    fn has_joined(&self) {
        self.counters.word(JOINED + self.place).store(self.id, Ordering::SeqCst);
    }

    fn is_over(&self, word: usize) -> bool {
        self.counters.word(word).load(Ordering::SeqCst) == 1
    }

    fn count(&self, word: usize) {
        self.counters.word(word).fetch_add(1, Ordering::SeqCst);
    }
}

fn policy(number: usize) -> Policy {
    [Policy::Lossless, Policy::Lossy, Policy::EvictSlow { lag: LAG }][number]
}

/// The words of the region, as docs/layout.md has them.
struct Region {
    file: File,
    publishers: usize,
}

impl Region {
    const RECORDS: usize = 112;
    const RECORD_WORDS: usize = 8;
    const TRACK_WORDS: usize = 32;
    const CURSOR_WORDS: usize = 16;

    fn of(role: &Role) -> Self {
        Self { file: File::open(role.directory.join("names").join(NAME)).unwrap(), publishers: role.publishers }
    }

    fn word(&self, index: usize) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, 8 * index as u64).unwrap();
        u64::from_le_bytes(bytes)
    }

    /// The participant that this process is.
    fn own_index(&self) -> usize {
        let is_own = |&index: &usize| {
            let [pid, state] = [0, 3].map(|word| self.word(Self::RECORDS + index * Self::RECORD_WORDS + word));
            pid == u64::from(std::process::id()) && state == 1
        };
        (0..self.publishers + SUBSCRIBERS).find(is_own).expect("a record of this process")
    }

    fn track(&self, index: usize) -> usize {
        let records = (self.publishers + SUBSCRIBERS) * Self::RECORD_WORDS;
        (Self::RECORDS + records).next_multiple_of(16) + index * Self::TRACK_WORDS
    }

    fn tail(&self, track: usize) -> u64 {
        self.word(self.track(track))
    }

    /// Where this process reads next, in each track.
    fn own_positions(&self) -> Vec<u64> {
        let subscriber = self.own_index() - self.publishers;
        let cursors = self.track(self.publishers);
        let cursor = |track| cursors + (track * SUBSCRIBERS + subscriber) * Self::CURSOR_WORDS;
        (0..self.publishers).map(|track| self.word(cursor(track) + 1)).collect()
    }
}

// ---- publishers ------------------------------------------------------------------------------------------------------

/// `publish` publishes what there is at one or more positions from this one on. It stores before
/// that how far it may get, and returns how far it got.
fn publish_until_the_end(role: &Role, mut publish: impl FnMut(&Log, u64, u64) -> u64) {
    let region = Region::of(role);
    let (log, track) = (role.log(role.id), region.own_index());
    let mut position = region.tail(track);
    for word in [BEGIN, CERTAIN, POSSIBLE] {
        log.word(word).store(position, Ordering::SeqCst);
    }
    log.word(TRACK).store(track as u64 + 1, Ordering::SeqCst);
    role.has_joined();
    let mut random = Random(role.id | 1);
    while !role.is_over(PUBLISHERS_END) {
        position = publish(&log, track as u64, position);
        log.word(CERTAIN).store(position, Ordering::SeqCst);
        // So that those that are not waited for keep up for a while.
        if role.policy != Policy::Lossless && random.below(6) == 0 {
            thread::sleep(Duration::from_micros(random.below(300)));
        }
    }
}

pub fn publish_values(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut publisher: Publisher<Value> = role.join(|| role.values().publisher(NAME));
    publish_until_the_end(&role, |log, track, position| {
        let count = 1 + position % 7 % 4;
        let values: Vec<Value> = (position..position + count).map(|at| value_at(track, at, role.id)).collect();
        log.word(POSSIBLE).store(position + count, Ordering::SeqCst);
        position + publisher.publish_many(&values).unwrap() as u64
    });
}

pub fn publish_bytes(arguments: &[String]) {
    let role = Role::of(arguments);
    let mut publisher: BytePublisher = role.join(|| role.bytes().publisher(NAME));
    publish_until_the_end(&role, |log, track, position| {
        let message = bytes_at(track, position, role.id);
        let end = position + slots_of(message.len());
        log.word(POSSIBLE).store(end, Ordering::SeqCst);
        publisher.publish(&message).unwrap();
        end
    });
}

// ---- subscribers -----------------------------------------------------------------------------------------------------

/// What a subscriber knows of a track.
struct Reading {
    next: u64,
    /// The publisher of the last message.
    id: u64,
}

struct Account<'a> {
    role: &'a Role,
    region: Region,
    tracks: Vec<Reading>,
    /// What was not received, and what `Lagged` has counted of that.
    gaps: u64,
    lagged: u64,
    lags: u64,
    /// Slots behind a lag that may belong to a message whose beginning is gone.
    rest: u64,
}

impl<'a> Account<'a> {
    fn new(role: &'a Role, rest: u64) -> Self {
        let region = Region::of(role);
        let tracks = region.own_positions().into_iter().map(|next| Reading { next, id: 0 }).collect();
        role.has_joined();
        Self { role, region, tracks, gaps: 0, lagged: 0, lags: 0, rest }
    }

    fn pass(&mut self, gap: u64) {
        self.gaps += gap;
        let (least, most) = (self.gaps.saturating_sub(self.lags * self.rest), self.lagged);
        assert!(least <= most, "{} missed, {} counted by {} lags", self.gaps, self.lagged, self.lags);
        // What was counted of another track is received later.
        assert!(self.tracks.len() > 1 || self.lagged <= self.gaps, "{} missed, {} counted", self.gaps, self.lagged);
    }

    fn receive(&mut self, [track, position, id]: [u64; 3], slots: u64) {
        let reading = &mut self.tracks[track as usize];
        assert!(position >= reading.next, "{position} of track {track} comes again, after {}", reading.next - 1);
        let gap = position - reading.next;
        if id != reading.id {
            let log = self.role.log(id);
            let begin = log.get(BEGIN);
            assert!(id > reading.id && log.get(TRACK) == track + 1 && begin <= position, "not published by {id}");
            assert!(gap > 0 || reading.id == 0 || begin == position, "publisher {id} began at {begin}");
            reading.id = id;
        }
        reading.next = position + slots;
        self.pass(gap);
        self.role.count(RECEIVED);
    }

    fn lag(&mut self, missed: u64) {
        assert!(missed > 0 && self.role.policy == Policy::Lossy);
        (self.lags, self.lagged) = (self.lags + 1, self.lagged + missed);
        self.role.count(LAGS);
    }

    fn rejoin(&mut self) {
        assert!(matches!(self.role.policy, Policy::EvictSlow { .. }), "evicted though it lives");
        for (reading, next) in self.tracks.iter_mut().zip(self.region.own_positions()) {
            assert!(next >= reading.next, "{next} after {}", reading.next);
            *reading = Reading { next, id: 0 };
        }
        self.role.count(EVICTIONS);
    }

    /// Everything was received. All that is missing was counted.
    fn close(mut self) {
        let tails: Vec<_> = (0..self.tracks.len()).map(|track| self.region.tail(track)).collect();
        for (track, tail) in tails.into_iter().enumerate() {
            self.pass(tail - self.tracks[track].next);
        }
        assert!(self.lagged <= self.gaps, "{} missed, {} counted", self.gaps, self.lagged);
    }
}

/// `receive` passes what it got to the account, `rejoin` is called after an eviction.
fn receive_until_the_end<S>(
    role: &Role,
    mut subscriber: S,
    rest: u64,
    mut receive: impl FnMut(&mut S, &mut Account) -> Result<(), RecvError>,
    rejoin: impl Fn(&mut S),
) {
    let mut account = Account::new(role, rest);
    let mut random = Random(role.id | 1);
    loop {
        let is_over = role.is_over(SUBSCRIBERS_END);
        match receive(&mut subscriber, &mut account) {
            Ok(()) => {}
            Err(RecvError::Lagged { missed }) => account.lag(missed),
            Err(RecvError::Evicted) => {
                rejoin(&mut subscriber);
                account.rejoin();
            }
            Err(RecvError::PeerDied | RecvError::Closed | RecvError::TimedOut) if is_over => break account.close(),
            Err(RecvError::PeerDied | RecvError::Closed) => thread::sleep(Duration::from_millis(1)),
            Err(RecvError::TimedOut) => {}
            Err(error) => panic!("{error}"),
        }
        if random.below(2000) == 0 {
            thread::sleep(Duration::from_micros(random.below(3000))); // it is slow now and then
        }
    }
}

pub fn subscribe_values(arguments: &[String]) {
    let role = Role::of(arguments);
    let subscriber: Subscriber<Value> = role.join(|| role.values().subscriber(NAME));
    let batch = 1 + role.id as usize % 3 * 4;
    let mut values = vec![[0; 24]; batch];
    let receive = |subscriber: &mut Subscriber<Value>, account: &mut Account| {
        let count = match batch {
            1 => {
                values[0] = subscriber.recv_timeout(Duration::from_millis(50))?;
                1
            }
            _ => match subscriber.poll(Duration::from_millis(50))? {
                true => subscriber.try_recv_many(&mut values).or_else(|error| match error {
                    RecvError::Empty => Ok(0),
                    error => Err(error),
                })?,
                false => return Err(RecvError::TimedOut),
            },
        };
        for value in &values[..count] {
            let [track, position, id, ..] = *value;
            assert_eq!(*value, value_at(track, position, id), "torn");
            account.receive([track, position, id], 1);
        }
        Ok(())
    };
    receive_until_the_end(&role, subscriber, 0, receive, |subscriber| _ = subscriber.rejoin().unwrap());
}

pub fn subscribe_bytes(arguments: &[String]) {
    let role = Role::of(arguments);
    let subscriber: ByteSubscriber = role.join(|| role.bytes().subscriber(NAME));
    let mut message = Vec::new();
    let receive = |subscriber: &mut ByteSubscriber, account: &mut Account| {
        subscriber.recv_timeout(&mut message, Duration::from_millis(50))?;
        let mut words = message.chunks_exact(8).map(|chunk| u64::from_le_bytes(*chunk.first_chunk().unwrap()));
        let [track, position, id] = [(); 3].map(|()| words.next().expect("its place"));
        assert!(message == bytes_at(track, position, id), "torn");
        account.receive([track, position, id], slots_of(message.len()));
        Ok(())
    };
    receive_until_the_end(&role, subscriber, LONGEST_SLOTS - 1, receive, |subscriber| _ = subscriber.rejoin().unwrap());
}

// ---- the storm -------------------------------------------------------------------------------------------------------

struct Storm {
    test_dir: TestDir,
    counters: SharedCounters,
    publishers: usize,
    policy: usize,
    kind: &'static str,
    /// The process in each place, its number, and whether it is stopped. Publishers come first.
    places: Vec<(Option<Process>, u64, bool)>,
    processes: u64,
    publisher_ids: Vec<u64>,
}

impl Storm {
    fn new(kind: &'static str, publishers: usize, policy: usize) -> Self {
        let test_dir = TestDir::new();
        let counters = SharedCounters::at(&test_dir.file("counters"));
        let places = (0..publishers + SUBSCRIBERS).map(|_| (None, 0, false)).collect();
        Self { test_dir, counters, publishers, policy, kind, places, processes: 0, publisher_ids: Vec::new() }
    }

    fn enter(&mut self, place: usize) {
        if self.places[place].0.is_some() {
            return;
        }
        self.processes += 1;
        let (id, is_publisher) = (self.processes, place < self.publishers);
        let role = format!("{}_{}", if is_publisher { "publish" } else { "subscribe" }, self.kind);
        let directory = self.test_dir.file("");
        let numbers = [self.publishers, self.policy, id as usize, place].map(|number| number.to_string());
        let [publishers, policy, number, place_argument] = &numbers;
        let process = start(&role, &[directory.to_str().unwrap(), publishers, policy, number, place_argument]);
        self.places[place] = (Some(process), id, false);
        if is_publisher {
            self.publisher_ids.push(id);
        }
    }

    fn kill(&mut self, place: usize) -> u64 {
        self.places[place].0.take().map_or(0, |process| {
            process.kill();
            1
        })
    }

    fn has_joined(&self, place: usize) -> bool {
        let (process, id, _) = &self.places[place];
        process.is_some() && self.counters.word(JOINED + place).load(Ordering::SeqCst) == *id
    }

    fn toggle(&mut self, place: usize) {
        if let (Some(process), _, is_stopped) = &mut self.places[place] {
            process.signal(if *is_stopped { libc::SIGCONT } else { libc::SIGSTOP });
            *is_stopped = !*is_stopped;
        }
    }

    /// Returns how many were killed, and how many were stopped.
    fn run(&mut self, random: &mut Random, kills: u64) -> (u64, u64) {
        let (mut killed, mut stopped) = (0, 0);
        let count = self.places.len();
        while killed < kills {
            (0..count).for_each(|place| self.enter(place));
            let longest = 4 + random.below(11);
            thread::sleep(Duration::from_micros(random.below(1 << longest)));
            let place = random.below(count as u64) as usize;
            // Mostly those that are at work.
            if !self.has_joined(place) && random.below(4) > 0 {
                continue;
            }
            match random.below(8) {
                0..3 => {
                    self.toggle(place);
                    stopped += u64::from(self.places[place].2);
                }
                3 if random.below(8) == 0 => killed += (0..count).map(|place| self.kill(place)).sum::<u64>(),
                _ => killed += self.kill(place),
            }
            // Nobody stays stopped for long, so that those that wait go on.
            for place in 0..count {
                if self.places[place].2 && random.below(4) == 0 {
                    self.toggle(place);
                }
            }
        }
        (killed, stopped)
    }

    /// Lets the publishers leave, then the subscribers.
    fn calm(&mut self) {
        for place in 0..self.places.len() {
            self.enter(place);
            if self.places[place].2 {
                self.toggle(place);
            }
        }
        until(|| (0..self.places.len()).all(|place| self.has_joined(place)));
        let mut processes: Vec<_> = self.places.iter_mut().map(|(process, ..)| process.take().unwrap()).collect();
        let subscribers = processes.split_off(self.publishers);
        self.counters.word(PUBLISHERS_END).store(1, Ordering::SeqCst);
        processes.into_iter().for_each(Process::finish);
        self.counters.word(SUBSCRIBERS_END).store(1, Ordering::SeqCst);
        subscribers.into_iter().for_each(Process::finish);
    }

    /// In each track every publisher began where its predecessor had stopped. What was published for
    /// certain is there.
    fn check_publishers(&self) -> u64 {
        let mut published = 0;
        for track in 0..self.publishers as u64 {
            let log = |&id: &u64| Log(SharedCounters::at(&self.test_dir.file(&format!("log-{id}"))));
            let logs: Vec<_> = self.publisher_ids.iter().map(log).filter(|log| log.get(TRACK) == track + 1).collect();
            let (mut certain, mut possible) = (0, 0);
            for log in logs {
                let begin = log.get(BEGIN);
                assert!((certain..=possible).contains(&begin), "{begin}, not {certain} to {possible}");
                (certain, possible) = (log.get(CERTAIN), log.get(POSSIBLE));
            }
            published += certain;
        }
        published
    }
}

fn storm(kind: &'static str, publishers: usize, policy: usize, kills: u64) {
    let mut storm = Storm::new(kind, publishers, policy);
    let mut random = stress_random(0x5708 + policy as u64 + 8 * publishers as u64);
    let (killed, stopped) = storm.run(&mut random, kills * stress_factor());
    storm.calm();
    let published = storm.check_publishers();
    assert_eq!(storm.test_dir.leftovers(), [""; 0]);
    let [evictions, lags, received] =
        [EVICTIONS, LAGS, RECEIVED].map(|word| storm.counters.word(word).load(Ordering::SeqCst));
    report(&format!(
        "{kind}, publishers: {publishers}, policy: {policy}: {killed} killed, {stopped} stopped; {published} slots \
         published, {received} messages received, {lags} lags, {evictions} evictions"
    ));
    assert!(received > 0 && (policy != 1 || lags > 0) && (policy != 2 || evictions > 0), "nobody was slow");
}

#[test]
fn broadcast_lossless_processes_killed_and_stopped_nothing_is_missed() {
    storm("values", 2, 0, 30);
    storm("bytes", 2, 0, 30);
}

#[test]
fn broadcast_lossy_processes_killed_and_stopped_every_loss_is_counted() {
    storm("values", 1, 1, 20);
    storm("values", 2, 1, 20);
    storm("bytes", 1, 1, 20);
}

#[test]
fn broadcast_evicting_processes_killed_and_stopped_nothing_is_missed_until_evicted() {
    storm("values", 2, 2, 30);
    storm("bytes", 2, 2, 30);
}
