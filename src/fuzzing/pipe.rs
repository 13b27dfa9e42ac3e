//! A real pipe. Any word of its region can change between operations.

use std::time::Duration;

use bytemuck::Pod;

use super::input::{Input, payload, value};
use crate::error::RecvError;
use crate::pipe::connection;
use crate::pipe::{self, BytePipe, Pipe, PipeEndpoint};
use crate::primitive::{Ordering::Relaxed, WORD};
use crate::region::Region;
use crate::region::layout::pipe::{PipeLayout, ring};
use crate::types::Shareable;

const SMALL_PIPE: &str = "memory for a small pipe";
const LIMIT: usize = 1000;

/// Drives a duplex pipe of one of three geometries.
pub fn whole_pipe(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 3 {
        0 => {
            let options = pipe::Options::bytes().capacity_bytes(256).max_message_bytes(LIMIT);
            drive(&mut input, &options, options.create_duplex().expect(SMALL_PIPE), use_bytes);
        }
        1 => {
            let options = pipe::Options::<u64>::new().capacity(4);
            drive(&mut input, &options, options.create_duplex().expect(SMALL_PIPE), use_values);
        }
        _ => {
            let options = pipe::Options::<[u64; 9]>::new().capacity(2);
            drive(&mut input, &options, options.create_duplex().expect(SMALL_PIPE), use_values);
        }
    }
}

fn drive<E: PipeEndpoint>(
    input: &mut Input,
    options: &pipe::Options<E::Message>,
    (one, other): (E, E),
    act: fn(&mut E, u8, &mut Input, Duration),
) {
    let region = one.registration().region().reopen().expect("a descriptor");
    let mut endpoints = [Some(one), Some(other)];
    let mut sleeps_left = 4;
    while let Some(op) = input.next_op() {
        let side = usize::from(op >> 7);
        match op % 16 {
            0..=4 => corrupt_word(&region, input),
            5 => endpoints[side] = None,
            // To a descriptor and back. An endpoint that cannot be made again is dead to its peer.
            6 => {
                let file = endpoints[side].take().and_then(|endpoint| endpoint.into_fd().ok());
                endpoints[side] = file.and_then(|file| options.from_fd(file).ok());
            }
            7 => drop((
                region.participants().status(side),
                region.participants().pid(side),
                region.participants().joins(side),
                connection::queued_for(&region, side),
            )),
            op => {
                let Some(endpoint) = &mut endpoints[side] else { continue };
                let timeout = Duration::from_millis(u64::from(op >= 12 && sleeps_left > 0));
                sleeps_left -= timeout.as_millis() as u32;
                act(endpoint, op, input, timeout);
            }
        }
    }
}

/// Changes a word of the region.
fn corrupt_word(region: &Region, input: &mut Input) {
    let layout = region.layout();
    let index = input.short() as usize % (layout.size() as usize / WORD);
    let is_futex = (0..connection::layout(region).directions as usize)
        .any(|i| [ring::READABLE, ring::WRITABLE].iter().any(|word| PipeLayout::ring(i) + word == index));
    if is_futex {
        let word = region.futex(index);
        word.store(input.invalid_value(word.load(Relaxed).into()) as u32, Relaxed);
    } else {
        let word = region.word(index);
        word.store(input.invalid_value(word.load(Relaxed)), Relaxed);
    }
}

fn use_bytes(endpoint: &mut BytePipe, op: u8, input: &mut Input, timeout: Duration) {
    let mut message = Vec::new();
    let mut buffer = [0; 64];
    match op {
        8 => drop(endpoint.tx.try_send(payload(1, input.short() % 130))),
        9 => {
            let messages: [_; 3] = std::array::from_fn(|i| payload(i as u64, (input.byte() % 120).into()));
            // It would wait without end for room for the first message: nothing else makes room.
            if endpoint.tx.half.writer.reserve(0, 120).is_ok_and(|slot| slot.is_some()) {
                assert_ne!(endpoint.tx.send_many(&messages), Ok(0));
            }
        }
        10 => check_received(endpoint.rx.try_recv(&mut message), &message),
        11 => match endpoint.rx.try_recv_into(&mut buffer) {
            Err(RecvError::BufferTooSmall { needed }) => assert!(needed > buffer.len() && needed <= LIMIT),
            done => assert!(done.unwrap_or(0) <= buffer.len()),
        },
        12 => drop(endpoint.poll(timeout)),
        13 => drop(endpoint.send_timeout(payload(2, input.short() % (LIMIT as u64 + 2)), timeout)),
        _ => check_received(endpoint.recv_timeout(&mut message, timeout), &message),
    }
}

fn check_received(received: Result<usize, RecvError>, message: &[u8]) {
    assert!(received.is_err() || received == Ok(message.len()) && message.len() <= LIMIT);
}

fn use_values<T: Pod + Shareable>(endpoint: &mut Pipe<T>, op: u8, input: &mut Input, timeout: Duration) {
    let mut values: Vec<T> = (0..u64::from(input.byte() % 8)).map(value).collect();
    match op {
        8 => drop(endpoint.tx.try_send(value::<T>(1))),
        9 => assert!(endpoint.tx.try_send_many(&values).unwrap_or(0) <= values.len()),
        10 => drop(endpoint.rx.try_recv()),
        11 => assert!(endpoint.rx.try_recv_many(&mut values).unwrap_or(0) <= values.len()),
        12 => drop(endpoint.poll(timeout)),
        13 => drop(endpoint.send_timeout(value::<T>(2), timeout)),
        _ => drop(endpoint.recv_timeout(timeout)),
    }
}
