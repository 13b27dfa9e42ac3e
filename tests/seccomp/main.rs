//! What processes do under a seccomp filter, which each of them installs in itself.

#[path = "../support/mod.rs"]
mod support;

mod futex_waitv;
mod membarrier;
mod system_calls;

use futex_waitv::wait_without_futex_waitv;
use membarrier::{
    pass_on_and_lose_membarrier, pass_on_without_membarrier, receive_one_and_lose_membarrier,
    take_turns_and_lose_membarrier, take_turns_without_membarrier,
};
use support::child_roles;
use system_calls::{
    lock_and_unlock, make_a_system_call, send_and_receive_bytes, send_and_receive_in_queues, send_and_receive_values,
    store_and_load, take_permits_and_meet,
};

child_roles!(
    pass_on_and_lose_membarrier,
    pass_on_without_membarrier,
    receive_one_and_lose_membarrier,
    take_turns_and_lose_membarrier,
    take_turns_without_membarrier,
    lock_and_unlock,
    make_a_system_call,
    send_and_receive_bytes,
    send_and_receive_in_queues,
    send_and_receive_values,
    store_and_load,
    take_permits_and_meet,
    wait_without_futex_waitv,
);

const COUNT: u64 = 10_000;

/// From here on the system calls of this thread are filtered: `calls` gives the action for some,
/// `others` for the rest.
fn filter(calls: &[(libc::c_long, u32)], others: u32) {
    let step = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
    let mut filter = vec![step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0)];
    for &(call, action) in calls {
        filter.push(step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32, 1));
        filter.push(step(libc::BPF_RET | libc::BPF_K, action, 0));
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
