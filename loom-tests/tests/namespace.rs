//! Visits all states of the protocol by which a namespace gets and loses objects
//! (`src/namespace/growth.rs`, `src/region/dependents.rs`): three processes create, open and remove
//! objects of one name, or the namespace itself. They are killed between any two steps, and stopped
//! for so long that others no longer wait for them.
//!
//! The shared state is the kernel's: a directory, files, and locks that end with their process.
//! Each system call on them is a step, and so is each access to a region's state. What a process
//! does before others can find its file is one step.
//!
//! Each mutant leaves out or changes one thing of the protocol, and the checker must find it.

use std::collections::{HashSet, VecDeque};

const PROCESSES: usize = 3;
const INODES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operation {
    Create,
    OpenOrCreate,
    Open,
    /// By a reference to the object that has the name at first.
    OpenReference,
    Remove,
    /// By force, though others use it.
    RemoveNamespace,
    RemoveOrphans,
}

use Operation::{Create, Open, OpenOrCreate, OpenReference, Remove, RemoveNamespace, RemoveOrphans};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    RenamedInsteadOfLinked,
    LinkedBeforeFilled,
    FoundBeforeLinked,
    NotComparedBeforeUnlink,
    UnlinkedWithoutDirectoryLock,
    DirectoryLockOutlivesProcess,
    RetiredIsJoined,
    RetiredStaysForOpener,
    InodeIsIdentity,
    IdentityNotCompared,
    IdentityComparedBeforeOpened,
    CreatorDoesNotLookAgain,
    CreatorLooksBeforeLink,
    NamespaceRetiredLast,
    NamespaceUnlinkedFirst,
    NamespaceKeepsObjects,
    OwnerOfOrphansNotLookedUp,
}

/// A file of a region. Its number is its place, and comes again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct File {
    identity: u8,
    /// Which object it is, for the checks.
    serial: u8,
    is_filled: bool,
    is_retired: bool,
    had_name: bool,
    /// The process that has locked membership.
    membership: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Start,
    MakeDirectory,
    OpenName,
    LockMembership,
    LoadState,
    MakeFile,
    Fill,
    Link,
    LookAgain,
    Retire,
    LockDirectory,
    Compare,
    Unlink,
    Unlock,
    RetireNamespace,
    ListObjects,
    OpenListed,
    UnlinkListed,
    RemoveDirectory,
    UnlinkNamespace,
    LookUpOwner,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Process {
    is_alive: bool,
    /// Which operation of its program it is at.
    at: u8,
    step: Step,
    /// The file that the operation has open.
    open: Option<u8>,
    /// The object that it is a member of.
    held: Option<u8>,
    /// Whether the object that the reference means was gone when the operation began.
    began_without: bool,
    /// Only a mutant uses it.
    has_compared: bool,
    /// It removes all objects.
    removes_all: bool,
}

impl Process {
    fn next(self) -> Self {
        Self { at: self.at + 1, held: self.held, ..Self::default() }
    }
}

impl Default for Process {
    fn default() -> Self {
        Self {
            is_alive: true,
            at: 0,
            step: Step::Start,
            open: None,
            held: None,
            began_without: false,
            has_compared: false,
            removes_all: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    files: [Option<File>; INODES],
    /// Which file has the object's name.
    entry: Option<u8>,
    has_directory: bool,
    directory_lock: Option<u8>,
    is_retired: bool,
    is_named: bool,
    processes: [Process; PROCESSES],
    created: u8,
    kills: u8,
    /// A process was killed that might have looked again whether the namespace is retired.
    may_leave_orphans: bool,
    violation: Option<&'static str>,
}

impl State {
    /// A namespace with an object, whose creator is gone.
    fn new() -> Self {
        let mut state = Self {
            files: Default::default(),
            entry: Some(0),
            has_directory: true,
            directory_lock: None,
            is_retired: false,
            is_named: true,
            processes: Default::default(),
            created: 0,
            kills: 0,
            may_leave_orphans: false,
            violation: None,
        };
        state.make_file();
        *state.file(0) = File { is_filled: true, had_name: true, identity: 1, ..state.file(0).clone() };
        state
    }

    fn file(&mut self, inode: u8) -> &mut File {
        self.files[usize::from(inode)].as_mut().expect("an open file")
    }

    /// Makes a file without a name, under the first number that is free.
    fn make_file(&mut self) -> u8 {
        let inode = self.files.iter().position(Option::is_none).expect("enough numbers");
        self.created += 1;
        self.files[inode] = Some(File {
            identity: 0,
            serial: self.created,
            is_filled: false,
            is_retired: false,
            had_name: false,
            membership: None,
        });
        inode as u8
    }

    /// What the kernel does when a process ends or closes a file: it frees locks, and files that
    /// have no name and that nobody has open.
    fn close(&mut self) {
        for inode in 0..INODES as u8 {
            let has = |process: &Process| process.is_alive && [process.open, process.held].contains(&Some(inode));
            if self.entry != Some(inode) && !self.processes.iter().any(has) {
                self.files[usize::from(inode)] = None;
            }
        }
    }

    fn unlock_membership(&mut self, index: usize) {
        for file in self.files.iter_mut().flatten().filter(|file| file.membership == Some(index as u8)) {
            file.membership = None;
        }
    }

    fn kill(&mut self, index: usize, mutant: Mutant) {
        let process = &mut self.processes[index];
        process.is_alive = false;
        self.kills += 1;
        self.unlock_membership(index);
        if self.directory_lock == Some(index as u8) && mutant != Mutant::DirectoryLockOutlivesProcess {
            self.directory_lock = None;
        }
        self.close();
    }

    fn reject(&mut self, violation: &'static str) {
        self.violation.get_or_insert(violation);
    }

    fn violation(&self, is_final: bool) -> Option<&'static str> {
        let is_lost = |(inode, file): (usize, &Option<File>)| {
            let Some(file) = file else { return false };
            file.had_name && !file.is_retired && self.entry != Some(inode as u8)
        };
        if self.violation.is_some() {
            return self.violation;
        }
        if !self.is_retired && self.files.iter().enumerate().any(is_lost) {
            return Some("an object lost its name, and nobody removed it");
        }
        let has_orphans = !self.is_named && (self.has_directory || self.entry.is_some());
        (is_final && has_orphans && !self.may_leave_orphans).then_some("an orphan, and nobody was killed")
    }
}

struct Model {
    programs: [Vec<Operation>; PROCESSES],
    kills: u8,
    /// Processes are stopped for so long that others go on without waiting for them.
    stops: bool,
    mutant: Mutant,
}

impl Model {
    fn successors(&self, state: &State) -> Vec<State> {
        let mut found = Vec::new();
        for index in 0..PROCESSES {
            let process = &state.processes[index];
            let Some(&operation) = self.programs[index].get(usize::from(process.at)).filter(|_| process.is_alive)
            else {
                continue;
            };
            if state.kills < self.kills {
                let mut next = state.clone();
                next.kill(index, self.mutant);
                // From its directory on, until it has looked again.
                next.may_leave_orphans |= matches!(operation, Create | OpenOrCreate)
                    && !matches!(process.step, Step::Start | Step::MakeDirectory);
                found.push(next);
            }
            let is_free = |lock: Option<u8>| lock.is_none_or(|holder| usize::from(holder) == index);
            let membership = || process.open.and_then(|inode| state.files[usize::from(inode)].as_ref()?.membership);
            let is_blocked = match process.step {
                Step::LockMembership => !is_free(membership()),
                Step::LockDirectory => !is_free(state.directory_lock),
                _ => false,
            };
            if !is_blocked || self.stops {
                let mut next = state.clone();
                self.advance(&mut next, index, operation, is_blocked);
                next.close();
                found.push(next);
            }
        }
        found
    }

    /// One step of an operation. `gives_up`: it has waited for a lock for too long.
    fn advance(&self, state: &mut State, index: usize, operation: Operation, gives_up: bool) {
        let mut own = state.processes[index].clone();
        let mutant = self.mutant;
        let creates = matches!(operation, Create | OpenOrCreate);
        match own.step {
            Step::Start => {
                own.began_without = state.entry != Some(0) || state.file(0).serial != 1;
                own.step = match operation {
                    Create | OpenOrCreate if state.is_retired => Step::LookAgain,
                    Create | OpenOrCreate => Step::MakeDirectory,
                    RemoveNamespace => match mutant {
                        Mutant::NamespaceRetiredLast => Step::ListObjects,
                        Mutant::NamespaceUnlinkedFirst => Step::UnlinkNamespace,
                        _ => Step::RetireNamespace,
                    },
                    RemoveOrphans if !state.has_directory => return state.processes[index] = own.next(),
                    RemoveOrphans => Step::LookUpOwner,
                    _ => Step::OpenName,
                };
            }
            Step::MakeDirectory => {
                state.has_directory = true;
                own.step = if operation == OpenOrCreate { Step::OpenName } else { Step::MakeFile };
            }
            // Opening, with all that reads the file.
            Step::OpenName => {
                own.open = state.entry;
                if let Some(inode) = own.open {
                    if !state.file(inode).is_filled {
                        state.reject("half an object was found");
                    }
                    own.step = Step::LockMembership;
                    let is_member = own.held == Some(inode) && operation != Remove;
                    if is_member || (mutant == Mutant::IdentityComparedBeforeOpened && own.has_compared) {
                        self.found(state, &mut own, operation);
                    } else if mutant == Mutant::IdentityComparedBeforeOpened && operation == OpenReference {
                        own.has_compared = state.file(inode).identity == 1;
                        if !own.has_compared {
                            own = own.next();
                        } else {
                            (own.open, own.step) = (None, Step::OpenName);
                        }
                    }
                } else if operation == OpenOrCreate {
                    own.step = Step::MakeFile;
                } else {
                    self.missing(state, &own, operation);
                    own = own.next();
                }
            }
            Step::LockMembership => {
                if !gives_up {
                    let inode = own.open.expect("an open file");
                    state.file(inode).membership = Some(index as u8);
                }
                own.step = match operation {
                    Remove => Step::Retire, // by force, if it has given up
                    _ if gives_up && creates => Step::LookAgain,
                    _ if gives_up => return state.processes[index] = own.next(),
                    _ => Step::LoadState,
                };
            }
            Step::LoadState => {
                let inode = own.open.expect("an open file");
                let is_retired = state.file(inode).is_retired;
                if is_retired && mutant == Mutant::RetiredStaysForOpener {
                    state.unlock_membership(index);
                    self.missing(state, &own, operation);
                    own = own.next();
                } else if is_retired && mutant != Mutant::RetiredIsJoined {
                    own.step = Step::LockDirectory;
                } else {
                    if is_retired {
                        state.reject("a removed object was opened");
                    }
                    state.unlock_membership(index);
                    self.found(state, &mut own, operation);
                }
            }
            Step::MakeFile => {
                own.step = Step::LookAgain;
                if state.has_directory {
                    own.open = Some(state.make_file());
                    own.step = if mutant == Mutant::LinkedBeforeFilled { Step::Link } else { Step::Fill };
                    if mutant == Mutant::CreatorLooksBeforeLink && state.is_retired {
                        own.step = Step::LookAgain;
                    }
                }
            }
            // Its contents and its identity. The creator joins it, too.
            Step::Fill => {
                let inode = own.open.expect("an open file");
                let identity = if mutant == Mutant::InodeIsIdentity { inode + 1 } else { state.file(inode).serial };
                let file = state.file(inode);
                (file.is_filled, file.identity) = (true, identity);
                own.step = if mutant == Mutant::LinkedBeforeFilled { Step::LookAgain } else { Step::Link };
                if mutant == Mutant::FoundBeforeLinked && state.entry.is_none() {
                    // Looks whether the name is free, and then replaces whatever has it.
                    own.has_compared = true;
                }
            }
            Step::Link => {
                let inode = own.open.expect("an open file");
                let replaces = mutant == Mutant::RenamedInsteadOfLinked || own.has_compared;
                let is_taken = state.entry.is_some() && !replaces;
                own.step = match operation {
                    _ if !state.has_directory => Step::LookAgain,
                    OpenOrCreate if is_taken => Step::OpenName,
                    _ if is_taken => Step::LookAgain,
                    _ => {
                        state.entry = Some(inode);
                        state.file(inode).had_name = true;
                        own.held = Some(inode);
                        if mutant == Mutant::LinkedBeforeFilled { Step::Fill } else { Step::LookAgain }
                    }
                };
                if own.step == Step::OpenName {
                    own.open = None;
                }
            }
            Step::LookAgain => {
                own.open = None;
                let looks = !matches!(mutant, Mutant::CreatorDoesNotLookAgain | Mutant::CreatorLooksBeforeLink);
                if state.is_retired && looks {
                    (own.step, own.removes_all) = (Step::ListObjects, true);
                } else {
                    own = own.next();
                }
            }
            Step::Retire => {
                let inode = own.open.expect("an open file");
                state.file(inode).is_retired = true;
                own.step = Step::LockDirectory;
            }
            Step::LockDirectory => {
                if mutant == Mutant::UnlinkedWithoutDirectoryLock {
                    own.step = Step::Compare;
                } else if !gives_up {
                    state.directory_lock = Some(index as u8);
                    own.step = Step::Compare;
                } else if own.removes_all {
                    own.step = Step::UnlinkListed;
                } else {
                    state.unlock_membership(index);
                    own = own.next(); // Busy
                }
            }
            Step::Compare => {
                let is_it = state.entry == own.open || mutant == Mutant::NotComparedBeforeUnlink;
                own.step = if is_it { Step::Unlink } else { Step::Unlock };
            }
            Step::Unlink => {
                state.entry = None;
                own.step = Step::Unlock;
            }
            Step::Unlock => {
                if state.directory_lock == Some(index as u8) {
                    state.directory_lock = None;
                }
                state.unlock_membership(index);
                own.open = None;
                own.step = Step::OpenName;
                if own.removes_all {
                    own.step = Step::RemoveDirectory;
                } else if operation == Remove {
                    own = own.next();
                }
            }
            Step::RetireNamespace => {
                state.is_retired = true;
                own.step = match mutant {
                    Mutant::NamespaceRetiredLast | Mutant::NamespaceKeepsObjects => Step::UnlinkNamespace,
                    _ => Step::ListObjects,
                };
            }
            Step::ListObjects => {
                own.removes_all = true;
                own.step = if state.entry.is_some() { Step::OpenListed } else { Step::RemoveDirectory };
            }
            // Retired in the same step: others notice that later or not at all.
            Step::OpenListed => {
                own.open = state.entry;
                own.step = Step::RemoveDirectory;
                if let Some(inode) = own.open {
                    state.file(inode).is_retired = !self.takes_all_for_orphans();
                    own.step = Step::LockDirectory;
                }
            }
            Step::UnlinkListed => {
                (state.entry, own.open) = (None, None);
                own.step = Step::RemoveDirectory;
            }
            Step::RemoveDirectory => {
                own.removes_all = false;
                state.has_directory = state.entry.is_some();
                own = match operation {
                    RemoveNamespace if mutant == Mutant::NamespaceUnlinkedFirst => own.next(),
                    RemoveNamespace if mutant == Mutant::NamespaceRetiredLast => {
                        Process { step: Step::RetireNamespace, ..own }
                    }
                    RemoveNamespace => Process { step: Step::UnlinkNamespace, ..own },
                    _ => own.next(),
                };
            }
            Step::UnlinkNamespace => {
                state.is_named = false;
                own = match mutant {
                    Mutant::NamespaceUnlinkedFirst => {
                        state.is_retired = true;
                        Process { step: Step::ListObjects, ..own }
                    }
                    _ => own.next(),
                };
            }
            Step::LookUpOwner => {
                if state.is_named && !self.takes_all_for_orphans() {
                    own = own.next();
                } else {
                    own.step = Step::ListObjects;
                }
            }
        }
        state.processes[index] = own;
    }

    fn takes_all_for_orphans(&self) -> bool {
        self.mutant == Mutant::OwnerOfOrphansNotLookedUp
    }

    /// The operation has joined the file that it has open, or had done so before.
    fn found(&self, state: &mut State, own: &mut Process, operation: Operation) {
        let inode = own.open.take().expect("an open file");
        let (serial, identity) = (state.file(inode).serial, state.file(inode).identity);
        own.held = Some(inode);
        if operation == OpenReference {
            let is_it = identity == 1 || matches!(self.mutant, Mutant::IdentityNotCompared) || own.has_compared;
            match (is_it, serial == 1) {
                (true, false) => state.reject("a reference led to another object"),
                (true, true) if own.began_without => state.reject("a reference led to a removed object"),
                (false, true) => state.reject("an object that is there is Removed"),
                _ => {}
            }
        }
        if matches!(operation, Create | OpenOrCreate) {
            own.step = Step::LookAgain;
        } else {
            *own = own.clone().next();
        }
    }

    /// The operation returns that there is no such object.
    fn missing(&self, state: &mut State, own: &Process, operation: Operation) {
        let is_there = state.entry == Some(0) && state.files[0].as_ref().is_some_and(|file| file.serial == 1);
        if operation == OpenReference && !own.began_without && is_there && !state.file(0).is_retired {
            state.reject("an object that is there is Removed");
        }
    }

    /// What is left is removed by others: by the next process that opens the namespace, by the next
    /// one that opens the object, and by `tombolo doctor`.
    fn violation_after_all(&self, state: &State) -> Option<&'static str> {
        let mut state = state.clone();
        let next = PROCESSES - 1;
        for operation in
            [Some(RemoveNamespace).filter(|_| state.is_retired && state.is_named), Some(Open), Some(RemoveOrphans)]
        {
            let Some(operation) = operation else { continue };
            state.processes[next] = Process::default();
            let mut steps = 0;
            while state.processes[next].at == 0 {
                steps += 1;
                let is_stuck = state.processes[next].step == Step::LockDirectory
                    && state.directory_lock.is_some_and(|holder| usize::from(holder) != next);
                if is_stuck || steps > 100 {
                    return Some("others wait without end");
                }
                self.advance(&mut state, next, operation, false);
                state.processes[next].held = None;
                state.close();
            }
        }
        if state.entry.is_some_and(|inode| state.file(inode).is_retired) {
            return Some("a removed object stays");
        }
        (!state.is_named && (state.has_directory || state.entry.is_some())).then_some("an orphan stays")
    }

    /// Returns what is wrong, or how many states there are.
    fn check(&self) -> Result<usize, &'static str> {
        let first = State::new();
        let mut seen = HashSet::from([first.clone()]);
        let mut queue = VecDeque::from([first]);
        while let Some(state) = queue.pop_front() {
            let next = self.successors(&state);
            let is_final = next.iter().all(|next| next.kills > state.kills);
            let is_waiting = |index: usize| {
                let process = &state.processes[index];
                process.is_alive && usize::from(process.at) < self.programs[index].len()
            };
            if is_final && (0..PROCESSES).any(is_waiting) {
                return Err("a process waits without end");
            }
            let after_all = || self.violation_after_all(&state).filter(|_| is_final);
            if let Some(violation) = state.violation(is_final).or_else(after_all) {
                return Err(violation);
            }
            queue.extend(next.into_iter().filter(|next| seen.insert(next.clone())));
        }
        Ok(seen.len())
    }
}

type Programs = [&'static [Operation]; PROCESSES];

fn check(programs: Programs, kills: u8, stops: bool, mutant: Mutant) -> Result<usize, &'static str> {
    Model { programs: programs.map(<[Operation]>::to_vec), kills, stops, mutant }.check()
}

const CREATORS: Programs = [&[Remove, Create], &[OpenOrCreate], &[Create, Open]];
const REMOVERS: Programs = [&[Remove, Create], &[Remove], &[OpenOrCreate]];
const REFERENCE: Programs = [&[Remove, Create], &[OpenReference, OpenReference], &[OpenOrCreate]];
const HELD: Programs = [&[Open, OpenReference], &[Remove], &[Remove, Create]];
const NAMESPACE: Programs = [&[RemoveNamespace], &[Create], &[OpenOrCreate]];
const ORPHANS: Programs = [&[RemoveNamespace], &[Remove, Create], &[RemoveOrphans]];

#[test]
fn namespace_protocol_killed_anywhere_keeps_its_promises() {
    for programs in [CREATORS, REMOVERS, REFERENCE, HELD, NAMESPACE, ORPHANS] {
        let states = check(programs, 2, false, Mutant::None);
        println!("{programs:?}: {states:?} states");
        assert!(states.is_ok(), "{programs:?}: {states:?}");
    }
}

#[test]
fn namespace_protocol_stopped_anywhere_keeps_its_promises() {
    for programs in [CREATORS, REMOVERS, REFERENCE, HELD, NAMESPACE, ORPHANS] {
        let states = check(programs, 1, true, Mutant::None);
        println!("{programs:?}: {states:?} states");
        assert!(states.is_ok(), "{programs:?}: {states:?}");
    }
}

#[test]
fn namespace_protocol_mutant_is_found() {
    let lost = "an object lost its name, and nobody removed it";
    let found = [
        (Mutant::RenamedInsteadOfLinked, CREATORS, 0, false, lost),
        (Mutant::FoundBeforeLinked, CREATORS, 0, false, lost),
        (Mutant::LinkedBeforeFilled, CREATORS, 0, false, "half an object was found"),
        (Mutant::NotComparedBeforeUnlink, REMOVERS, 0, false, lost),
        // The lock on the object is enough, unless a process has given up waiting for it.
        (Mutant::UnlinkedWithoutDirectoryLock, REMOVERS, 0, true, lost),
        (Mutant::DirectoryLockOutlivesProcess, REMOVERS, 1, false, "a process waits without end"),
        (Mutant::RetiredIsJoined, REMOVERS, 1, false, "a removed object was opened"),
        (Mutant::RetiredStaysForOpener, HELD, 1, false, "a removed object stays"),
        (Mutant::InodeIsIdentity, REFERENCE, 0, false, "a reference led to another object"),
        (Mutant::IdentityNotCompared, REFERENCE, 0, false, "a reference led to another object"),
        (Mutant::IdentityComparedBeforeOpened, REFERENCE, 0, false, "a reference led to another object"),
        (Mutant::CreatorDoesNotLookAgain, NAMESPACE, 0, false, "an orphan, and nobody was killed"),
        (Mutant::CreatorLooksBeforeLink, NAMESPACE, 0, false, "an orphan, and nobody was killed"),
        (Mutant::NamespaceRetiredLast, NAMESPACE, 0, false, "an orphan, and nobody was killed"),
        (Mutant::NamespaceUnlinkedFirst, NAMESPACE, 1, false, "an orphan, and nobody was killed"),
        (Mutant::NamespaceKeepsObjects, NAMESPACE, 0, false, "an orphan, and nobody was killed"),
        (Mutant::OwnerOfOrphansNotLookedUp, ORPHANS, 0, false, lost),
    ];
    for (mutant, programs, kills, stops, what) in found {
        assert_eq!(check(programs, kills, stops, mutant), Err(what), "{mutant:?}");
    }
}
