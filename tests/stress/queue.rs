//! Queues whose processes are stopped and killed at random moments: the others continue, and in the
//! end every message is accounted for.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Process, Random, SharedCounters, TestDir, message, report, start, stress_factor, stress_random, until,
};
use memmap2::{MmapOptions, MmapRaw};
use tombolo::queue;
use tombolo::{RecvError, SendError};

const NAME: &str = "stress";

/// A number that no other pair has.
fn mix(a: u64, b: u64) -> u64 {
    Random(a.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (b + 1).wrapping_mul(0xD1B5_4A32_D192_ED03) | 1).next()
}

/// Stops a process and returns when it has stopped.
fn stop(process: &Process) {
    process.signal(libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: a child of ours and a place for its status.
    let pid = unsafe { libc::waitpid(process.pid(), &mut status, libc::WUNTRACED) };
    assert!(pid == process.pid() && libc::WIFSTOPPED(status), "ended instead of stopping: {status:#x}");
}

// ---- stopped ones ----------------------------------------------------------------------------------------------------

/// The sender, the number, and a checksum in all other words. Large enough that a process that is
/// stopped or killed is likely to be copying.
type Large = [u64; 4096];

const SENDERS: usize = 5;
const ACTORS: usize = 2 * SENDERS;
/// The one of the five senders, and of the five receivers, that is stopped.
const VICTIM: usize = SENDERS - 1;
const BATCH: usize = 12;

/// The sender of messages that make receivers pause.
const PAUSE: u64 = u64::MAX;

fn large_for_all(names: &str) -> queue::Options<Large> {
    queue::Options::new().capacity(32).directory(names)
}

fn nth_large(sender: u64, number: u64) -> Large {
    let mut value = [mix(sender, number); 4096];
    (value[0], value[1]) = (sender, number);
    value
}

/// The words that the processes of the test with stopped processes share. Senders are actors 0 to
/// 4, receivers 5 to 9.
struct Game(SharedCounters);

impl Game {
    fn at(path: &str) -> Self {
        Self(SharedCounters::at(Path::new(path)))
    }

    fn is_over(&self) -> bool {
        self.0.word(0).load(Ordering::SeqCst) == 1
    }

    /// Odd: all actors are to pause.
    fn turn(&self) -> &AtomicU64 {
        self.0.word(1)
    }

    /// The turn for which an actor pauses.
    fn paused(&self, actor: usize) -> &AtomicU64 {
        self.0.word(2 + actor)
    }

    /// Messages that an actor has sent or received.
    fn done(&self, actor: usize) -> &AtomicU64 {
        self.0.word(2 + ACTORS + actor)
    }

    /// How many messages a receiver got from a sender, and the sum of their checksums.
    fn count(&self, receiver: usize, sender: usize) -> [&AtomicU64; 2] {
        let at = 2 + 2 * ACTORS + 2 * (receiver * SENDERS + sender);
        [self.0.word(at), self.0.word(at + 1)]
    }

    /// 1: senders, 2: receivers leave the work to the victim among them, so that it is busy when it
    /// is stopped.
    fn idle(&self) -> &AtomicU64 {
        self.0.word(2 + 2 * ACTORS + 2 * SENDERS * SENDERS)
    }

    fn dawdle(&self, actor: usize) {
        if actor % SENDERS != VICTIM && self.idle().load(Ordering::SeqCst) == 1 + (actor / SENDERS) as u64 {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Outside any operation.
    fn pause(&self, actor: usize) {
        let turn = self.turn().load(Ordering::SeqCst);
        self.paused(actor).store(turn, Ordering::SeqCst);
        until(|| self.turn().load(Ordering::SeqCst) != turn);
    }
}

pub fn go_on_sending(arguments: &[String]) {
    let (game, sender) = (Game::at(&arguments[1]), arguments[2].parse().unwrap());
    let mut tx = large_for_all(&arguments[0]).sender(NAME).unwrap();
    let mut number = 0;
    while !game.is_over() {
        if game.turn().load(Ordering::SeqCst) % 2 == 1 {
            game.pause(sender);
        }
        if sender == VICTIM {
            let values: Vec<_> = (0..BATCH as u64).map(|index| nth_large(sender as u64, number + index)).collect();
            number += tx.send_many(&values).unwrap() as u64;
        } else {
            tx.send(nth_large(sender as u64, number)).unwrap();
            number += 1;
        }
        game.done(sender).store(number, Ordering::SeqCst);
        game.dawdle(sender);
    }
}

pub fn go_on_receiving(arguments: &[String]) {
    let (game, receiver): (_, usize) = (Game::at(&arguments[1]), arguments[2].parse().unwrap());
    let mut rx = large_for_all(&arguments[0]).receiver(NAME).unwrap();
    let mut next = [0; SENDERS];
    let mut values = vec![[0; 4096]; BATCH];
    let most = if receiver == VICTIM { BATCH } else { 1 };
    loop {
        let received = match rx.recv_many(&mut values[..most]) {
            Ok(received) => received,
            Err(error) => break assert_eq!(error, RecvError::Closed),
        };
        for value in &values[..received] {
            let [sender, number, ..] = *value;
            if sender == PAUSE {
                game.pause(SENDERS + receiver);
                continue;
            }
            // The victim spends its time receiving.
            let sum = mix(sender, number);
            assert!(value[2] == sum && value[4095] == sum, "torn");
            assert!(receiver == VICTIM || *value == nth_large(sender, number), "torn");
            let sender = sender as usize;
            assert!(number >= next[sender], "{number} of {sender} comes after {}", next[sender] - 1);
            next[sender] = number + 1;
            let [count, sum] = game.count(receiver, sender);
            count.fetch_add(1, Ordering::SeqCst);
            sum.fetch_add(value[2], Ordering::SeqCst);
            game.done(SENDERS + receiver).fetch_add(1, Ordering::SeqCst);
            game.dawdle(SENDERS + receiver);
        }
    }
}

#[test]
fn queue_participants_stopped_midway_others_go_on() {
    let test_dir = TestDir::new();
    let (names, counters) = (test_dir.names(), test_dir.file("counters"));
    let (names, counters) = (names.to_str().unwrap(), counters.to_str().unwrap());
    let game = Game::at(counters);
    let mut tx = large_for_all(names).sender(NAME).unwrap();
    let mut rx = large_for_all(names).receiver(NAME).unwrap();
    let actors: Vec<_> = (0..ACTORS)
        .map(|actor| {
            let role = if actor < SENDERS { "go_on_sending" } else { "go_on_receiving" };
            start(role, &[names, counters, &(actor % SENDERS).to_string()])
        })
        .collect();
    let mut random = stress_random(0x570B);
    let (mut stops, mut hits, mut most) = (0_u64, [0_u64; 3], 0);
    let mut tokens = 0;
    let reached = |actors: &[usize], goals: &[u64]| {
        actors.iter().zip(goals).all(|(&actor, &goal)| game.done(actor).load(Ordering::SeqCst) >= goal)
    };
    // Senders, receivers, and both at once, until each was stopped within an operation.
    while stops < 60 * stress_factor() || hits.contains(&0) {
        let case = (stops % 3) as usize;
        let is_victim = |actor: usize| match case {
            0 => actor == VICTIM,
            1 => actor == SENDERS + VICTIM,
            _ => actor % SENDERS == VICTIM,
        };
        let (victims, others): (Vec<_>, Vec<_>) = (0..ACTORS).partition(|&actor| is_victim(actor));
        game.idle().store(1 + if case < 2 { case as u64 } else { random.below(2) }, Ordering::SeqCst);
        // Not before the victims have resumed their work.
        let goals: Vec<_> = victims.iter().map(|&actor| game.done(actor).load(Ordering::SeqCst) + 1).collect();
        until(|| reached(&victims, &goals));
        thread::sleep(Duration::from_micros(random.below(1 << (stops % 12))));
        victims.iter().for_each(|&victim| stop(&actors[victim]));
        game.idle().store(0, Ordering::SeqCst);
        stops += 1;
        // All others continue, several times round the ring.
        let goals: Vec<_> = others.iter().map(|&actor| game.done(actor).load(Ordering::SeqCst) + 20).collect();
        until(|| reached(&others, &goals));
        // No other process is within an operation: what is quarantined now belongs to the stopped
        // ones.
        let turn = game.turn().fetch_add(1, Ordering::SeqCst) + 1;
        let pauses = |actor: &&usize| game.paused(**actor).load(Ordering::SeqCst) == turn;
        until(|| others.iter().filter(|&&actor| actor < SENDERS).all(|actor| pauses(&actor)));
        let receiving = || others.iter().filter(|&&actor| actor >= SENDERS);
        for asked in 0..receiving().count() {
            tx.send(nth_large(PAUSE, tokens)).unwrap();
            tokens += 1;
            until(|| receiving().filter(pauses).count() > asked);
        }
        let quarantined = tx.stats().quarantined;
        hits[case] += u64::from(quarantined > 0);
        most = most.max(quarantined);
        victims.iter().for_each(|&victim| actors[victim].signal(libc::SIGCONT));
        game.turn().fetch_add(1, Ordering::SeqCst);
    }
    game.0.word(0).store(1, Ordering::SeqCst);
    let mut actors = actors.into_iter();
    actors.by_ref().take(SENDERS).for_each(Process::finish);
    drop(tx);
    actors.for_each(Process::finish);
    let mut total = 0;
    for sender in 0..SENDERS {
        let sent = game.done(sender).load(Ordering::SeqCst);
        let sum = (0..sent).fold(0, |sum: u64, number| sum.wrapping_add(mix(sender as u64, number)));
        let received =
            (0..SENDERS).map(|receiver| game.count(receiver, sender).map(|word| word.load(Ordering::SeqCst)));
        let received = received.fold([0_u64; 2], |[count, sum], [more, of]| [count + more, sum.wrapping_add(of)]);
        assert_eq!(received, [sent, sum], "from sender {sender}");
        total += sent;
    }
    assert_eq!(rx.try_recv(), Err(RecvError::Closed));
    let mut tx = rx.sender().unwrap();
    serves_whole(&mut tx, &mut rx, |number| nth_large(0, number));
    assert_eq!((tx.stats().lost, tx.stats().dropped), (0, 0));
    drop((tx, rx));
    assert_eq!(test_dir.leftovers(), [""; 0]);
    report(&format!(
        "stopped {stops} times; in the middle: {} of a send, {} of a receive, {} of either or both; up to {most} slots out \
         of service; {total} messages",
        hits[0], hits[1], hits[2]
    ));
}

/// The queue takes as many messages as its capacity says.
fn serves_whole<T: bytemuck::Pod + tombolo::Shareable + PartialEq + std::fmt::Debug>(
    tx: &mut queue::Sender<T>,
    rx: &mut queue::Receiver<T>,
    nth: impl Fn(u64) -> T,
) {
    let stats = tx.stats();
    assert_eq!((stats.queued, stats.quarantined, stats.pooled), (0, 0, 0), "{stats:?}");
    for _ in 0..3 {
        for number in 0..stats.capacity {
            tx.try_send(nth(number)).unwrap_or_else(|error| panic!("{error}: {:?}", tx.stats()));
        }
        assert_eq!(tx.try_send(nth(0)), Err(SendError::Full));
        for number in 0..stats.capacity {
            assert_eq!(rx.try_recv(), Ok(nth(number)));
        }
        assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    }
}

// ---- killed ones -----------------------------------------------------------------------------------------------------

type Value = [u64; 4];

fn values(names: &str) -> queue::Options<Value> {
    queue::Options::new().capacity(64).directory(names)
}

fn bytes(names: &str) -> queue::Options<[u8]> {
    queue::Options::bytes()
        .capacity(64)
        .blocks(queue::Blocks { count: BLOCKS, bytes: 4096 })
        .extents(EXTENTS)
        .max_message_bytes(LONGEST)
        .directory(names)
}

const BLOCKS: usize = 16;
const EXTENTS: usize = 8;
const LONGEST: usize = 200 << 10;

fn large(names: &str) -> queue::Options<Large> {
    queue::Options::new().capacity(8).max_participants(128).directory(names)
}

/// How many messages a receiver takes at once.
const LARGE_BATCH: usize = 5;

/// The sender (not 0) and the number of a message.
fn label(sender: u64, number: u64) -> u64 {
    sender << 40 | number
}

fn nth_value(label: u64) -> Value {
    [label, mix(label, 1), mix(label, 2), !label]
}

/// From nothing to 200 KiB: in the slot, in a block, in an extent.
fn length(label: u64) -> usize {
    let some = mix(label, 0);
    let (shortest, longest) = match some % 16 {
        0..9 => (0, 240),
        9..14 => (241, 4096),
        _ => (4097, LONGEST),
    };
    shortest + (some >> 8) as usize % (longest - shortest + 1)
}

/// Too short to hold the number.
fn is_anonymous(label: u64) -> bool {
    length(label) < 8
}

/// Stands for all short messages.
const ANONYMOUS: u64 = u64::MAX;

fn nth_bytes(label: u64) -> Vec<u8> {
    match length(label) {
        short @ 0..8 => vec![short as u8; short],
        long => message(label, long),
    }
}

/// A log that survives its process. A word for each entry, none of them 0; pages without entries
/// take no memory.
struct Log {
    map: MmapRaw,
    length: usize,
}

impl Log {
    const WORDS: usize = 1 << 22;
    /// 1 once the process has joined.
    const JOINED: usize = Self::WORDS - 1;

    fn at(path: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(8 * Self::WORDS as u64).unwrap();
        Self { map: MmapOptions::new().map_raw(&file).unwrap(), length: 0 }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        assert!(index < Self::WORDS);
        // SAFETY: in the mapping, aligned, and used as an atomic only.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn write(&mut self, entry: u64) {
        self.word(self.length).store(entry, Ordering::SeqCst);
        self.length += 1;
    }

    fn read(&self) -> impl Iterator<Item = u64> {
        (0..).map(|index| self.word(index).load(Ordering::SeqCst)).take_while(|&entry| entry != 0)
    }
}

/// The arguments of a process: the names, the counters, its log, and its number.
struct Role {
    names: String,
    counters: SharedCounters,
    log: Log,
    id: u64,
}

impl Role {
    fn from(arguments: &[String]) -> Self {
        let [names, counters, log, id] = arguments else { panic!("{arguments:?}") };
        let (counters, log) = (SharedCounters::at(Path::new(counters)), Log::at(Path::new(log)));
        Self { names: names.clone(), counters, log, id: id.parse().unwrap() }
    }

    fn is_over(&self) -> bool {
        self.counters.word(0).load(Ordering::SeqCst) == 1
    }

    fn has_joined(&self) {
        self.log.word(Log::JOINED).store(1, Ordering::SeqCst);
    }

    /// The log of a sender has one entry: how many messages it has sent for certain.
    fn send(self, mut send: impl FnMut(u64) -> Result<(), SendError>) {
        self.has_joined();
        let mut number = 0;
        while !self.is_over() {
            match send(label(self.id, number)) {
                Ok(()) => {
                    number += 1;
                    self.log.word(0).store(number, Ordering::SeqCst);
                }
                // Successors of the others will come.
                Err(SendError::PeerDied | SendError::Closed) => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The log of a receiver holds what it has received. `receive` logs each message first and
    /// checks it then.
    fn receive(mut self, mut receive: impl FnMut(&mut Log) -> Result<(), RecvError>) {
        self.has_joined();
        loop {
            match receive(&mut self.log) {
                Ok(()) => {}
                Err(RecvError::PeerDied | RecvError::Closed) if self.is_over() => break,
                Err(RecvError::PeerDied | RecvError::Closed) => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub fn send_values(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut tx = values(&role.names).sender(NAME).unwrap();
    role.send(|label| tx.send(nth_value(label)));
}

pub fn send_bytes(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut tx = bytes(&role.names).sender(NAME).unwrap();
    role.send(|label| tx.send(nth_bytes(label)));
}

pub fn send_large(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut tx = large(&role.names).sender(NAME).unwrap();
    role.send(|label| tx.send([label; 4096]));
}

pub fn receive_values(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut rx = values(&role.names).receiver(NAME).unwrap();
    role.receive(|log| {
        let value = rx.recv()?;
        log.write(value[0]);
        assert_eq!(value, nth_value(value[0]), "torn");
        Ok(())
    });
}

pub fn receive_bytes(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut rx = bytes(&role.names).receiver(NAME).unwrap();
    let mut message = Vec::new();
    role.receive(|log| {
        let length = rx.recv(&mut message)?;
        let label = message.first_chunk().map(|&start| u64::from_le_bytes(start));
        log.write(label.unwrap_or(ANONYMOUS));
        let whole = label.map_or(vec![length as u8; length], nth_bytes);
        assert!(message == whole, "{length} bytes of {label:x?} are torn");
        Ok(())
    });
}

pub fn receive_large(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut rx = large(&role.names).receiver(NAME).unwrap();
    let _more: Vec<_> = (0..8).map(|_| rx.try_clone().unwrap()).collect(); // so that there is more to repair
    let mut values = [[0; 4096]; LARGE_BATCH];
    role.receive(|log| {
        let received = rx.recv_many(&mut values)?;
        values[..received].iter().for_each(|value| log.write(value[0]));
        assert!(values[..received].iter().all(|value| *value == [value[0]; 4096]), "torn");
        Ok(())
    });
}

/// Joining repairs first.
pub fn join_and_leave(arguments: &[String]) {
    let role = Role::from(arguments);
    while !role.is_over() {
        drop(large(&role.names).receiver(NAME).unwrap());
    }
}

/// A blocked process repairs now and then.
pub fn wait_for_the_rest(arguments: &[String]) {
    let role = Role::from(arguments);
    let mut tx = large(&role.names).sender(NAME).unwrap();
    while !role.is_over() {
        let _ = tx.join_timeout(Duration::from_millis(50));
    }
}

/// The processes of a run, living and killed.
struct Stress {
    test_dir: TestDir,
    counters: SharedCounters,
    places: Vec<(&'static str, u64, Option<Process>)>,
    /// Role and number of each process that ever ran, and whether it was killed.
    everybody: Vec<(&'static str, u64, bool)>,
}

/// How a run ended.
#[derive(Debug, Default)]
struct Balance {
    /// For certain; each killed sender may have sent one more.
    sent: u64,
    received: u64,
    /// Sent for certain and received by nobody, as far as messages can be told apart.
    missing: u64,
    killed_senders: u64,
    killed_receivers: u64,
    killed_others: u64,
}

impl Stress {
    fn new(roles: &[&'static str]) -> Self {
        let test_dir = TestDir::new();
        let counters = SharedCounters::at(&test_dir.file("counters"));
        let places = roles.iter().map(|&role| (role, 0, None)).collect();
        let mut stress = Self { test_dir, counters, places, everybody: Vec::new() };
        (0..roles.len()).for_each(|place| stress.enter(place));
        stress
    }

    fn names(&self) -> String {
        self.test_dir.names().to_str().unwrap().to_string()
    }

    fn log(&self, id: u64) -> std::path::PathBuf {
        self.test_dir.file(&format!("log-{id}"))
    }

    /// Starts a process for a vacant place.
    fn enter(&mut self, place: usize) {
        let id = self.everybody.len() as u64 + 1;
        let (names, counters, log) = (self.test_dir.names(), self.test_dir.file("counters"), self.log(id));
        let (role, holder, process) = &mut self.places[place];
        if process.is_none() {
            let [names, counters, log] = [&names, &counters, &log].map(|path| path.to_str().unwrap());
            *process = Some(start(role, &[names, counters, log, &id.to_string()]));
            *holder = id;
            self.everybody.push((role, id, false));
        }
    }

    fn kill(&mut self, place: usize) {
        let (_, id, process) = &mut self.places[place];
        if let Some(process) = process.take() {
            process.kill();
            self.everybody[*id as usize - 1].2 = true;
        }
    }

    fn process(&self, place: usize) -> &Process {
        self.places[place].2.as_ref().unwrap()
    }

    /// Kills at random and starts others in their place.
    fn run_for(&mut self, random: &mut Random, duration: Duration) {
        let started = Instant::now();
        let mut kills = 0;
        while started.elapsed() < duration {
            thread::sleep(Duration::from_micros(random.below(1 << (4 + kills % 11))));
            let place = random.below(self.places.len() as u64) as usize;
            self.kill(place);
            kills += 1;
            if kills % 64 == 0 {
                (0..self.places.len()).for_each(|place| self.kill(place));
            }
            // Now and then a place stays vacant for a while.
            if random.below(4) > 0 {
                (0..self.places.len()).for_each(|place| self.enter(place));
            }
        }
        (0..self.places.len()).for_each(|place| self.enter(place));
    }

    /// Blocks until all processes have joined. A receiver that joined after the last sender had left
    /// would wait for the first of its successors.
    fn wait_until_joined(&self) {
        let has_joined = |id: u64| Log::at(&self.log(id)).word(Log::JOINED).load(Ordering::SeqCst) == 1;
        until(|| self.places.iter().all(|(_, id, process)| process.is_none() || has_joined(*id)));
    }

    /// Lets all processes leave: first all others, then the receivers.
    fn calm(&mut self) {
        self.counters.word(0).store(1, Ordering::SeqCst);
        let mut processes: Vec<_> = self.places.iter_mut().map(|(role, _, process)| (*role, process.take())).collect();
        processes.sort_by_key(|(role, _)| role.starts_with("receive"));
        processes.into_iter().filter_map(|(_, process)| process).for_each(Process::finish);
    }

    /// Checks the logs: everything in order, nothing twice, nothing that was not sent.
    fn balance(&self) -> Balance {
        let mut balance = Balance::default();
        let of_role = |prefix: &'static str| self.everybody.iter().filter(move |(role, ..)| role.starts_with(prefix));
        let killed = |prefix| of_role(prefix).filter(|(.., killed)| *killed).count() as u64;
        // Of each sender's messages, those that were received. A killed sender may have sent one
        // more than it logged.
        let mut received: Vec<Vec<bool>> = vec![Vec::new()];
        for (role, id, killed) in &self.everybody {
            let sent =
                if role.starts_with("send") { Log::at(&self.log(*id)).word(0).load(Ordering::SeqCst) } else { 0 };
            balance.sent += sent;
            received.push(vec![false; sent as usize + usize::from(*killed)]);
        }
        for (_, id, _) in of_role("receive") {
            let mut next = BTreeMap::new();
            for entry in Log::at(&self.log(*id)).read() {
                balance.received += 1;
                if entry != ANONYMOUS {
                    let (sender, number) = (entry >> 40, entry & ((1 << 40) - 1));
                    let was_received = &mut received[sender as usize][number as usize];
                    assert!(!*was_received, "message {number} of {sender} was received twice");
                    *was_received = true;
                    let expected = next.insert(sender, number + 1);
                    assert!(expected <= Some(number), "message {number} of {sender} is late: {expected:?} was next");
                }
            }
        }
        let is_bytes = of_role("send_bytes").next().is_some();
        for (_, id, killed) in of_role("send") {
            let received = &received[*id as usize];
            let sure = &received[..received.len() - usize::from(*killed)];
            let missing =
                |(number, was_received): (u64, &bool)| !(*was_received || is_bytes && is_anonymous(label(*id, number)));
            balance.missing += (0..).zip(sure).filter(|&pair| missing(pair)).count() as u64;
        }
        (balance.killed_senders, balance.killed_receivers) = (killed("send"), killed("receive"));
        balance.killed_others = killed("") - balance.killed_senders - balance.killed_receivers;
        balance
    }
}

/// Each killed receiver took at most one batch, which was counted as lost unless it was received
/// and not yet logged. Each killed sender sent at most one message that it did not log.
fn check(balance: &Balance, lost: u64, batch: usize) {
    let said = format!("{balance:?}, lost: {lost}");
    let taken = balance.killed_receivers * batch as u64;
    assert!(balance.missing <= taken && lost <= taken, "{said}");
    assert!(balance.received + lost <= balance.sent + balance.killed_senders, "{said}");
    assert!(balance.received + lost + taken >= balance.sent, "{said}");
    report(&said);
}

#[test]
fn queue_of_values_participants_killed_accounts_for_every_message() {
    let roles = ["send_values", "send_values", "send_values", "receive_values", "receive_values", "receive_values"];
    let mut stress = Stress::new(&roles);
    stress.run_for(&mut stress_random(0xBAD5EED), Duration::from_secs(4 * stress_factor()));
    let options = values(&stress.names());
    let mut rx = options.receiver(NAME).unwrap();
    stress.wait_until_joined();
    stress.calm();
    let mut tx = options.sender(NAME).unwrap(); // joining repairs
    let rest = rx.try_recv().map(|value| value[0]);
    assert_eq!(rest, Err(RecvError::Empty), "the receivers have received everything");
    let lost = tx.stats().lost;
    serves_whole(&mut tx, &mut rx, nth_value);
    drop((tx, rx));
    assert_eq!(stress.test_dir.leftovers(), [""; 0]);
    check(&stress.balance(), lost, 1);
}

#[test]
fn queue_of_bytes_participants_killed_accounts_for_every_message() {
    let roles = ["send_bytes", "send_bytes", "send_bytes", "receive_bytes", "receive_bytes", "receive_bytes"];
    let mut stress = Stress::new(&roles);
    stress.run_for(&mut stress_random(0xBADF00D), Duration::from_secs(4 * stress_factor()));
    let options = bytes(&stress.names());
    let mut rx = options.receiver(NAME).unwrap();
    stress.wait_until_joined();
    stress.calm();
    let mut tx = options.sender(NAME).unwrap();
    let mut message = Vec::new();
    assert_eq!(rx.try_recv(&mut message), Err(RecvError::Empty), "the receivers have received everything");
    let stats = tx.stats();
    assert_eq!((stats.queued, stats.quarantined, stats.pooled, stats.dropped), (0, 0, 0, 0), "{stats:?}");
    for length in [1, 4096, LONGEST] {
        // Slots, blocks and extents, then extents alone: all of them are usable.
        let room = match length {
            1 => stats.capacity as usize,
            4096 => BLOCKS + EXTENTS,
            _ => EXTENTS,
        };
        let sent = vec![length as u8; length];
        for _ in 0..3 {
            (0..room).for_each(|_| tx.try_send(&sent).unwrap());
            assert_eq!(tx.try_send(&sent), Err(SendError::Full));
            (0..room).for_each(|_| assert!(rx.try_recv(&mut message).is_ok() && message == sent));
        }
    }
    drop((tx, rx));
    assert_eq!(stress.test_dir.leftovers(), [""; 0]);
    check(&stress.balance(), stats.lost, 1);
}

/// Whether a process repairs: it holds a lock on this byte of the region's file.
fn is_repairing(region: &File) -> bool {
    // SAFETY: all zeros is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as _, (1 << 30) + 1, 1);
    // SAFETY: a live descriptor and a valid flock that outlives the call.
    let outcome = unsafe { libc::fcntl(region.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
    lock.l_type != libc::F_UNLCK as libc::c_short
}

/// Kills receivers within large values, and then the processes that repair after them within the
/// repair.
#[test]
fn queue_repairers_killed_accounts_for_every_message() {
    let roles = [
        "join_and_leave",
        "join_and_leave",
        "join_and_leave",
        "wait_for_the_rest",
        "wait_for_the_rest",
        "receive_large",
        "receive_large",
        "send_large",
        "send_large",
    ];
    let (leavers, receivers, senders, mortals) = (0..3, 5..7, 7..9, 0..7);
    let mut stress = Stress::new(&roles);
    let mut random = stress_random(0x4E9A14);
    let path = stress.test_dir.names().join(NAME);
    until(|| path.exists());
    let region = File::options().read(true).write(true).open(path).unwrap();
    let sent = |stress: &Stress| -> u64 {
        let ids = stress.places[senders.clone()].iter().map(|&(_, id, _)| id);
        ids.map(|id| Log::at(&stress.log(id)).word(0).load(Ordering::SeqCst)).sum()
    };
    let (mut rounds, mut caught) = (0, BTreeMap::new());
    let enough = |caught: &BTreeMap<&str, u64>| {
        let leaver = caught.get(roles[leavers.start]).copied().unwrap_or_default();
        leaver >= 5 && caught.values().sum::<u64>() >= leaver + 5
    };
    while rounds < 60 * stress_factor() || !enough(&caught) {
        let goal = sent(&stress) + 10;
        until(|| sent(&stress) >= goal); // they go on
        thread::sleep(Duration::from_micros(random.below(1 << (rounds % 11))));
        leavers.clone().for_each(|place| stop(stress.process(place)));
        stress.kill(receivers.start + random.below(receivers.len() as u64) as usize);
        senders.clone().for_each(|place| stop(stress.process(place)));
        // In even rounds a newcomer notices; in odd ones nobody joins, so one of the blocked
        // processes does.
        if rounds % 2 == 0 {
            leavers.clone().for_each(|place| stress.process(place).signal(libc::SIGCONT));
        }
        let latest = Instant::now() + Duration::from_millis(50);
        while !is_repairing(&region) && Instant::now() < latest {}
        let running = if rounds % 2 == 0 { mortals.clone() } else { leavers.end..mortals.end };
        let running: Vec<_> = running.filter_map(|place| stress.places[place].2.as_ref()).collect();
        running.iter().for_each(|process| process.signal(libc::SIGSTOP));
        running.iter().for_each(|process| stop(process));
        // Nothing moves now. The process whose death frees the lock had it.
        for place in mortals.clone() {
            if is_repairing(&region) {
                stress.kill(place);
                if !is_repairing(&region) {
                    *caught.entry(roles[place]).or_default() += 1;
                }
            }
        }
        let left = stress.places.iter().filter_map(|(.., process)| process.as_ref());
        left.for_each(|process| process.signal(libc::SIGCONT));
        (0..roles.len()).for_each(|place| stress.enter(place));
        rounds += 1;
    }
    let options = large(&stress.names());
    let mut rx = options.receiver(NAME).unwrap();
    stress.calm();
    let mut tx = options.sender(NAME).unwrap();
    assert_eq!(rx.try_recv().err(), Some(RecvError::Empty), "the receivers have received everything");
    let lost = tx.stats().lost;
    serves_whole(&mut tx, &mut rx, |number| [number; 4096]);
    drop((tx, rx));
    assert_eq!(stress.test_dir.leftovers(), [""; 0]);
    let balance = stress.balance();
    // No sender was killed, so the number of lost messages is known, up to those received and not
    // yet logged.
    assert_eq!(balance.received + balance.missing, balance.sent);
    assert!(lost <= balance.missing, "{balance:?}, lost: {lost}: some were counted twice");
    check(&balance, lost, LARGE_BATCH);
    report(&format!("{rounds} rounds; killed while repairing: {caught:?}"));
}
