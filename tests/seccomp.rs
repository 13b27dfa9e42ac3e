//! Sending and receiving with room and with messages there makes no system call: shown by a process that may make none.

mod support;

use std::time::Duration;

use support::{Sandbox, parts, start};
use tombolo::PipeOptions;

parts!(send_and_receive_values, send_and_receive_bytes, make_a_system_call);

const COUNT: u64 = 10_000;

/// From here on this thread may write and exit, and anything else ends the process by SIGSYS.
fn close_in() {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let allow = |call: libc::c_long| {
        [
            step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1),
            step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0),
        ]
    };
    let load_number = [step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    let kill = [step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_KILL_PROCESS, 0)];
    let mut filter = [&load_number[..], &allow(libc::SYS_exit_group), &allow(libc::SYS_write), &kill].concat();
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
fn a_system_call_would_be_noticed() {
    let _sandbox = Sandbox::new();
    let status = start("make_a_system_call", &[]).wait();
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS, "{status:#x}");
}
