//! Queues within one process and between processes, and the runs of their senders.

#[path = "../support/mod.rs"]
mod support;

mod frames;
mod peers;
mod processes;
mod redelivery;
mod runs;
mod tasks;
mod threads;

use frames::*;
use peers::*;
use processes::*;
use redelivery::*;
use runs::*;
use tasks::*;

support::child_roles!(
    work_on_frames,
    hold_two_frames,
    leave_with_frame,
    stay_with_loan,
    double,
    echo,
    take_wrongly,
    do_nothing,
    send_numbers,
    count_numbers,
    send_three_and_leave,
    send_three_and_stay,
    receive_three_and_stay,
    receive_and_leave,
    store_the_end,
    race_as_receiver,
    send_until_the_end,
    send_large_until_the_end,
    join_send_and_stay,
    join_together,
    stay_as_receiver,
    join_often_and_be_killed,
    work_by_tasks_and_stay,
    stay_as_byte_receiver,
    receive_for_ever,
    fork_with_handles,
    fork_and_end,
    send_close_and_leave,
    send_close_and_stay,
    send_without_end,
    send_and_stay,
    receive_to_the_end,
    receive_one_and_leave,
    sleep_as_sender,
    work_on_one_and_stay,
    take_and_stay,
    take_and_exit,
    take_of_namespace_and_stay,
    work_and_count,
    hold_and_stay,
    hold_and_exit,
    wait_for_one,
    finish_what_was_passed,
    work_until_killed,
);
