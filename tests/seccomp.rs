//! Sending and receiving with room and with messages there makes no system call, nor does what nobody contends for: shown by a process
//! that may make none. And queues, locks and permits do without membarrier(2), for one of the participants or all.

mod support;

use std::time::Duration;

use support::{Process, Sandbox, command, parts, start};
use tombolo::{Handover, Namespace, PipeOptions, QueueOptions, QueueReceiver, QueueSender, handed};

parts!(
    send_and_receive_values,
    send_and_receive_bytes,
    send_and_receive_in_queues,
    lock_and_unlock,
    store_and_load,
    take_permits_and_meet,
    pass_on_without_membarrier,
    take_turns_without_membarrier,
    make_a_system_call
);

const COUNT: u64 = 10_000;

/// From here on this thread may write and exit, and anything else ends the process by SIGSYS.
fn close_in() {
    let allowed = [(libc::SYS_exit_group, libc::SECCOMP_RET_ALLOW), (libc::SYS_write, libc::SECCOMP_RET_ALLOW)];
    filter(&allowed, libc::SECCOMP_RET_KILL_PROCESS);
}

/// From here on these system calls of this thread have those ends, and all others that one.
fn filter(calls: &[(libc::c_long, u32)], others: u32) {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for &(call, end) in calls {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1));
        filter.push(step(libc::BPF_RET | libc::BPF_K, end, 0));
    }
    filter.push(step(libc::BPF_RET | libc::BPF_K, others, 0));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a valid program that outlives the call.
    let closed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    assert!(closed, "{}", std::io::Error::last_os_error());
}

/// Ends the process without a further call.
fn exit(code: i32) -> ! {
    // SAFETY: does not return.
    unsafe { libc::_exit(code) }
}

fn send_and_receive_values(_: &[String]) {
    let (mut tx, mut rx) = PipeOptions::values::<[u64; 3]>().capacity(8).one_way().unwrap();
    let mut received = [[0; 3]; 4];
    close_in();
    for number in 0..COUNT {
        let good = tx.send(&[number; 3]) == Ok(())
            && tx.send_timeout(&[number; 3], Duration::MAX) == Ok(())
            && rx.recv() == Ok([number; 3])
            && rx.recv_timeout(Duration::MAX) == Ok([number; 3])
            && tx.send_many(&[[number; 3]; 4]) == Ok(4)
            && rx.recv_many(&mut received) == Ok(4);
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn send_and_receive_bytes(_: &[String]) {
    let (mut tx, mut rx) = PipeOptions::bytes().capacity_len(4096).one_way().unwrap();
    let sent = support::message(1, 1000);
    let mut received = Vec::with_capacity(4096);
    let mut buffer = [0; 1000];
    close_in();
    for number in 0..COUNT {
        let sent = &sent[..number as usize % 1000];
        let good = tx.send(sent) == Ok(())
            && rx.recv(&mut received) == Ok(sent.len())
            && received == sent
            && tx.try_send(sent) == Ok(())
            && rx.recv_into(&mut buffer) == Ok(sent.len());
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn send_and_receive_in_queues(_: &[String]) {
    let (mut tx, mut rx) = QueueOptions::values::<[u64; 3]>().capacity(8).channel().unwrap();
    let mut bytes = QueueOptions::bytes().capacity(4).queue().unwrap();
    let sent = support::message(1, 4096);
    let mut received = Vec::with_capacity(4096);
    let mut many = [[0; 3]; 4];
    close_in();
    for number in 0..COUNT {
        let sent = &sent[..number as usize % 4096];
        let good = tx.send(&[number; 3]) == Ok(())
            && rx.recv() == Ok([number; 3])
            && tx.send_many(&[[number; 3]; 4]) == Ok(4)
            && rx.recv_many(&mut many) == Ok(4)
            && rx.task_done() == Ok(())
            && bytes.send(sent) == Ok(())
            && bytes.recv(&mut received) == Ok(sent.len())
            && received == sent;
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn lock_and_unlock(_: &[String]) {
    let plan = Namespace::builder().mutex("mutex", [0_u64; 9]).reentrant_mutex("re-entrant", 0_u64);
    let namespace = plan.rw_lock("lock", [0_u64; 2]).array("array", &[[0_u32; 3]; 4]).anonymous().unwrap();
    let (mutex, reentrant) = (namespace.mutex::<[u64; 9]>("mutex").unwrap(), namespace.reentrant_mutex("re-entrant"));
    let (reentrant, lock) = (reentrant.unwrap(), namespace.rw_lock::<[u64; 2]>("lock").unwrap());
    let array = namespace.array::<[u32; 3]>("array").unwrap();
    close_in();
    for number in 0..COUNT {
        let good = mutex.lock().is_ok_and(|mut guard| {
            guard[8] += 1;
            guard[8] == 2 * number + 1
        }) && mutex.try_lock().is_ok_and(|mut guard| {
            guard[8] += 1;
            mutex.lock().is_err()
        }) && mutex.lock_timeout(Duration::MAX).is_ok_and(|guard| guard[8] == 2 * number + 2)
            && reentrant.lock().is_ok_and(|outer| {
                reentrant.lock().is_ok_and(|inner| inner.set(&number).is_ok()) && outer.get() == Ok(number)
            })
            && lock.write().is_ok_and(|mut guard| {
                guard.fill(number);
                true
            })
            && lock.read().is_ok_and(|outer| lock.read().is_ok_and(|inner| *inner == *outer))
            && lock.try_write().is_ok_and(|guard| *guard == [number; 2])
            && array.lock().is_ok_and(|mut section| section.set(3, [number as u32; 3]).is_ok());
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn store_and_load(_: &[String]) {
    let plan = Namespace::builder().value("value", [0_u64; 40]).atomic("atomic", 0_i32).once("once").event("event");
    let plan = plan.array("words", &[0_u64; 5]).array("bytes", &[0_u8; 13]).array("wide", &[[0_u64; 3]; 5]);
    let namespace = plan.anonymous().unwrap();
    let (value, atomic) = (namespace.value::<[u64; 40]>("value").unwrap(), namespace.atomic::<i32>("atomic").unwrap());
    let (words, bytes) = (namespace.array::<u64>("words").unwrap(), namespace.array::<u8>("bytes").unwrap());
    let (wide, event) = (namespace.array::<[u64; 3]>("wide").unwrap(), namespace.event("event").unwrap());
    let once = namespace.once("once").unwrap();
    let mut some = [0; 7];
    close_in();
    for number in 0..COUNT {
        let good = value.store(&[number; 40]) == Ok(())
            && value.load() == Ok([number; 40])
            && value.update(|value| value[7] += 1).is_ok_and(|value| value[7] == number + 1)
            && value.writer().is_ok_and(|mut writer| writer.store(&[number; 40]) == Ok(()))
            && value.version() == 3 * number + 3
            && atomic.fetch_add(1) == number as i32
            && words.set(4, number) == Ok(())
            && words.get(4) == Ok(number)
            && bytes.store_from(3, &[number as u8; 7]) == Ok(())
            && bytes.load_into(3, &mut some) == Ok(())
            && some == [number as u8; 7]
            && wide.set(4, [number; 3]) == Ok(())
            && wide.get(4) == Ok([number; 3])
            && !event.is_set()
            && event.set() == Ok(())
            && event.wait() == Ok(())
            && event.wait_timeout(Duration::MAX) == Ok(())
            && event.clear() == Ok(())
            && once.call_once(|| ()) == Ok(())
            && once.is_completed();
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn take_permits_and_meet(_: &[String]) {
    let plan = Namespace::builder().semaphore("semaphore", 3).bounded_semaphore("bounded", 3).condvar("condition");
    let namespace = plan.barrier("meeting", 1).queue::<u64>("queue", 4).anonymous().unwrap();
    let (semaphore, bounded) =
        (namespace.semaphore("semaphore").unwrap(), namespace.bounded_semaphore("bounded").unwrap());
    let (condition, meeting) = (namespace.condvar("condition").unwrap(), namespace.barrier("meeting").unwrap());
    let mut queue = namespace.queue::<u64>("queue").unwrap();
    close_in();
    for number in 0..COUNT {
        let good = semaphore.acquire(1) == Ok(())
            && semaphore.try_acquire(2) == Ok(())
            && semaphore.release(3) == Ok(())
            && semaphore.permit().is_ok_and(|_permit| semaphore.available() == Ok(2))
            && bounded.acquire(1) == Ok(())
            && bounded.acquire_timeout(2, Duration::MAX) == Ok(())
            && bounded.release(3) == Ok(())
            && bounded.permit().is_ok_and(|_permit| bounded.available() == 2)
            && condition.notify_one() == Ok(())
            && condition.notify_all() == Ok(())
            && meeting.wait().is_ok_and(|met| met.is_leader())
            && queue.send(&number) == Ok(())
            && queue.recv() == Ok(number);
        if !good {
            exit(1);
        }
    }
    exit(0);
}

fn refuse_membarrier() {
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    filter(&[(libc::SYS_membarrier, refusal)], libc::SECCOMP_RET_ALLOW);
}

/// Receives from one queue and sends into another, to the end.
fn pass_on_without_membarrier(_: &[String]) {
    refuse_membarrier();
    let mut rx: QueueReceiver<u64> = handed("from").unwrap();
    let mut tx: QueueSender<u64> = handed("to").unwrap();
    for number in rx.iter() {
        tx.send(&number).unwrap();
    }
}

fn take_turns_without_membarrier(arguments: &[String]) {
    refuse_membarrier();
    take_turns(&Namespace::handed("namespace").unwrap(), arguments[0].parse().unwrap());
}

const TURNS: u64 = 300;

/// One of two, 0 or 1, who wait for each other in several ways.
fn take_turns(namespace: &Namespace, own: u64) {
    let [mine, theirs] = if own == 0 { ["first", "second"] } else { ["second", "first"] };
    let [mine, theirs] = [mine, theirs].map(|name| namespace.semaphore(name).unwrap());
    let (turn, changed) = (namespace.mutex::<u64>("turn").unwrap(), namespace.condvar("changed").unwrap());
    let (lock, meeting) = (namespace.rw_lock::<u64>("lock").unwrap(), namespace.barrier("meeting").unwrap());
    for _ in 0..TURNS {
        mine.acquire(1).unwrap();
        theirs.release(1).unwrap();
        let mut guard = changed.wait_while(turn.lock().unwrap(), |turn| *turn % 2 != own).unwrap();
        *guard += 1;
        drop(guard);
        changed.notify_one().unwrap();
        *lock.write().unwrap() += 1;
        assert!(*lock.read().unwrap() > 0);
        meeting.wait().unwrap();
    }
}

fn make_a_system_call(_: &[String]) {
    close_in();
    // SAFETY: no arguments; it will not return.
    unsafe { libc::getppid() };
    exit(0);
}

#[test]
fn values_move_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("send_and_receive_values", &[]).finish();
}

#[test]
fn bytes_move_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("send_and_receive_bytes", &[]).finish();
}

#[test]
fn messages_in_queues_move_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("send_and_receive_in_queues", &[]).finish();
}

#[test]
fn locks_are_taken_and_given_back_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("lock_and_unlock", &[]).finish();
}

#[test]
fn values_are_stored_and_loaded_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("store_and_load", &[]).finish();
}

#[test]
fn permits_and_meetings_go_without_a_system_call() {
    let _sandbox = Sandbox::new();
    start("take_permits_and_meet", &[]).finish();
}

/// There and back: between two that are refused it, and between one of them and us.
#[test]
fn queues_do_without_membarrier() {
    let _sandbox = Sandbox::new();
    for capacity in [2, 64] {
        let options = QueueOptions::values::<u64>().capacity(capacity);
        let ((mut tx, there), (forth, between), (back, mut rx)) =
            (options.channel().unwrap(), options.channel().unwrap(), options.channel().unwrap());
        let pass = |from: QueueReceiver<u64>, to: QueueSender<u64>| {
            let handover = Handover::new(command("pass_on_without_membarrier", &[]));
            Process::from(handover.give("from", from).unwrap().give("to", to).unwrap().spawn().unwrap())
        };
        let children = [pass(there, forth), pass(between, back)];
        let receiving = std::thread::spawn(move || rx.iter().collect::<Vec<_>>());
        (0..COUNT).for_each(|number| tx.send(&number).unwrap());
        drop(tx);
        assert!(receiving.join().unwrap().into_iter().eq(0..COUNT));
        children.into_iter().for_each(|child| child.finish());
    }
}

/// One who is refused it with one who is not, and two who are.
#[test]
fn locks_and_permits_do_without_membarrier() {
    let _sandbox = Sandbox::new();
    for refused in [&["1"][..], &["0", "1"]] {
        let plan = Namespace::builder().semaphore("first", 1).semaphore("second", 0).barrier("meeting", 2);
        let plan = plan.mutex("turn", 0_u64).condvar("changed").rw_lock("lock", 0_u64);
        let namespace = plan.anonymous().unwrap();
        let start = |own: &&str| {
            let handover = Handover::new(command("take_turns_without_membarrier", &[own]));
            Process::from(handover.share("namespace", &namespace).unwrap().spawn().unwrap())
        };
        let children: Vec<_> = refused.iter().map(start).collect();
        if refused.len() == 1 {
            take_turns(&namespace, 0);
        }
        children.into_iter().for_each(Process::finish);
        assert_eq!(*namespace.rw_lock::<u64>("lock").unwrap().read().unwrap(), 2 * TURNS);
    }
}

#[test]
fn a_system_call_would_be_noticed() {
    let _sandbox = Sandbox::new();
    let status = start("make_a_system_call", &[]).wait();
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
}
