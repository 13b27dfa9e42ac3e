//! Sending and receiving with room and with messages there makes no system call: shown by a process that may make none. And
//! queues do without membarrier(2), for one of the participants or all.

mod support;

use std::time::Duration;

use support::{Process, Sandbox, command, parts, start};
use tombolo::{Handover, PipeOptions, QueueOptions, QueueReceiver, QueueSender, handed};

parts!(
    send_and_receive_values,
    send_and_receive_bytes,
    send_and_receive_in_queues,
    pass_on_without_membarrier,
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

/// Receives from one queue and sends into another, to the end.
fn pass_on_without_membarrier(_: &[String]) {
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    filter(&[(libc::SYS_membarrier, refusal)], libc::SECCOMP_RET_ALLOW);
    let mut rx: QueueReceiver<u64> = handed("from").unwrap();
    let mut tx: QueueSender<u64> = handed("to").unwrap();
    for number in rx.iter() {
        tx.send(&number).unwrap();
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

#[test]
fn a_system_call_would_be_noticed() {
    let _sandbox = Sandbox::new();
    let status = start("make_a_system_call", &[]).wait();
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
}
