//! Pipes between processes: every kind and length of message, waiting, ending, and the ways in which an end travels.

mod support;

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use support::{Process, Random, Sandbox, command, message, parts, start};
use tombolo::{
    ByteReader, ByteWriter, End, ErrorKind, Handover, Pipe, PipeOptions, Receiver, RecvError, SendError, Sender, handed,
};

parts!(
    echo,
    echo_by_name,
    echo_u8x3,
    echo_u64,
    echo_u64x512,
    echo_stream,
    send_odd_lengths,
    send_small_and_large,
    send_and_end,
    receive_one_and_end,
    receive_slowly,
    exchange_large,
    send_in_place,
    receive_in_place,
    pick_up_twice,
    receive_from_socket,
    do_nothing,
);

/// Starts a process that plays `part` with this end of a pipe.
fn start_with<E: End + 'static>(end: E, part: &str, arguments: &[&str]) -> Process {
    Handover::new(command(part, arguments)).give("peer", end).unwrap().spawn().unwrap().into()
}

/// A duplex pipe to a process that plays `part`.
fn pipe_to(options: &PipeOptions<[u8]>, part: &str, arguments: &[&str]) -> (Pipe, Process) {
    let (ours, theirs) = options.duplex().unwrap();
    (ours, start_with(theirs, part, arguments))
}

// ---- messages --------------------------------------------------------------------------------------------------------

const CAPACITY: usize = 4096;

fn small() -> PipeOptions<[u8]> {
    PipeOptions::bytes().capacity_len(CAPACITY)
}

fn send_back(mut pipe: Pipe) {
    let mut received = Vec::new();
    while pipe.recv(&mut received).is_ok() {
        pipe.send(&received).unwrap();
    }
}

fn echo(_: &[String]) {
    send_back(handed("peer").unwrap());
}

fn echo_by_name(arguments: &[String]) {
    send_back(small().directory(&arguments[0]).end("echo").unwrap());
}

fn comes_back(pipe: &mut Pipe, length: usize) {
    let sent = message(length as u64, length);
    let mut received = vec![0xEE; 3];
    pipe.send(&sent).unwrap();
    assert_eq!(pipe.recv(&mut received), Ok(length));
    assert!(received == sent, "{length} bytes came back changed");
}

#[test]
fn every_length_comes_back_whole() {
    let sandbox = Sandbox::new();
    let names = sandbox.names();
    let (handed_over, child) = pipe_to(&small(), "echo", &[]);
    let by_name = small().directory(&names).end("echo").unwrap();
    let second_child = start("echo_by_name", &[names.to_str().unwrap()]);
    for (mut pipe, child) in [(handed_over, child), (by_name, second_child)] {
        let inline = pipe.tx.inline_max_len();
        let around = |length: usize| [length - 1, length, length + 1];
        for length in
            [0, 1, 7, 8, 9].into_iter().chain(around(inline)).chain(around(CAPACITY / 2)).chain(around(CAPACITY))
        {
            comes_back(&mut pipe, length);
        }
        comes_back(&mut pipe, 10 * CAPACITY);
        drop(pipe);
        child.finish();
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn sixty_four_mebibytes_come_back_whole() {
    let _sandbox = Sandbox::new();
    let (mut pipe, child) = pipe_to(&PipeOptions::bytes(), "echo", &[]);
    comes_back(&mut pipe, 64 << 20);
    drop(pipe);
    child.finish();
}

#[test]
fn a_message_over_the_limit_is_refused_and_the_next_is_not() {
    let (mut tx, mut rx) = small().max_message_len(100).one_way().unwrap();
    assert_eq!(tx.send(&[0; 101]), Err(SendError::TooLarge { length: 101, limit: 100 }));
    tx.send(&[1; 100]).unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(100));
    let (mut tx, _rx) = small().one_way().unwrap();
    let limit = tx.inline_max_len();
    assert_eq!(tx.try_send(&vec![0; limit + 1]), Err(SendError::TooLarge { length: limit + 1, limit }));
    tx.try_send(&vec![0; limit]).unwrap();
}

const LAPS: u64 = 20_000;

fn odd_length(number: u64) -> usize {
    (number * 37 % 301) as usize
}

fn send_odd_lengths(_: &[String]) {
    let mut tx: Sender = handed("peer").unwrap();
    for number in 0..LAPS {
        tx.send(&message(number, odd_length(number))).unwrap();
    }
}

#[test]
fn boundaries_are_kept_over_many_laps() {
    let _sandbox = Sandbox::new();
    let (tx, mut rx) = PipeOptions::bytes().capacity_len(1024).one_way().unwrap();
    let child = start_with(tx, "send_odd_lengths", &[]);
    for (received, number) in rx.iter().zip(0..LAPS) {
        assert!(received == message(number, odd_length(number)), "message {number}");
    }
    assert_eq!(rx.recv(&mut Vec::new()), Err(RecvError::Closed));
    child.finish();
}

fn send_values_back<T: Pod>() {
    let mut pipe: Pipe<T> = handed("peer").unwrap();
    while let Ok(value) = pipe.recv() {
        pipe.send(&value).unwrap();
    }
}

fn echo_u8x3(_: &[String]) {
    send_values_back::<[u8; 3]>();
}

fn echo_u64(_: &[String]) {
    send_values_back::<u64>();
}

fn echo_u64x512(_: &[String]) {
    send_values_back::<[u64; 512]>();
}

fn values_come_back<T: Pod + Debug + PartialEq>(part: &str) {
    for capacity in [1, 2, 64] {
        let (ours, theirs) = PipeOptions::values::<T>().capacity(capacity).duplex().unwrap();
        assert_eq!(ours.capacity(), capacity);
        let child = start_with(theirs, part, &[]);
        let (mut tx, mut rx) = ours.split();
        thread::scope(|scope| {
            scope.spawn(|| (0..500).for_each(|number| tx.send(&value(number)).unwrap()));
            (0..500).for_each(|number| assert_eq!(rx.recv(), Ok(value(number))));
        });
        drop((tx, rx));
        child.finish();
    }
}

fn value<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&message(number, size_of::<T>()))
}

#[test]
fn values_of_odd_and_large_sizes_come_back_even_with_room_for_one() {
    let _sandbox = Sandbox::new();
    values_come_back::<[u8; 3]>("echo_u8x3");
    values_come_back::<u64>("echo_u64");
    values_come_back::<[u64; 512]>("echo_u64x512");
}

#[test]
fn many_at_once_are_as_many_as_fit() {
    let (mut tx, mut rx) = PipeOptions::values::<[u8; 3]>().capacity(4).one_way().unwrap();
    let all: Vec<[u8; 3]> = (0..7).map(|number| [number; 3]).collect();
    let mut received = [[0; 3]; 3];
    assert_eq!(tx.send_many(&[]), Ok(0));
    assert_eq!(rx.recv_many(&mut []), Ok(0));
    assert_eq!(rx.try_recv_many(&mut received), Err(RecvError::Empty));
    assert_eq!(tx.send_many(&all), Ok(4));
    assert_eq!(tx.try_send_many(&all[4..]), Err(SendError::Full));
    assert_eq!(rx.recv_many(&mut received), Ok(3));
    assert_eq!(received, all[..3]);
    assert_eq!(tx.send_many(&all[4..]), Ok(3), "round the end of the ring");
    assert_eq!((rx.recv_many(&mut received), rx.try_recv()), (Ok(3), Ok(all[6])));
    assert_eq!(received, all[3..6]);

    let (mut tx, mut rx) = PipeOptions::bytes().capacity_len(128).one_way().unwrap();
    let all: Vec<_> = (0..5).map(|number| message(number, 24)).collect();
    let mut received = vec![Vec::new(); 3];
    assert_eq!(tx.send_many(&all), Ok(4));
    assert_eq!(rx.recv_many(&mut received), Ok(3));
    assert_eq!(received, all[..3]);
    assert_eq!(tx.send_many(&all[4..]), Ok(1));
    assert_eq!(rx.recv_many(&mut received), Ok(2));
    assert_eq!(received[..2], all[3..]);
}

fn send_small_and_large(_: &[String]) {
    let mut tx: Sender = handed("peer").unwrap();
    tx.send(&message(1, 100)).unwrap();
    tx.send(&message(2, 5 * CAPACITY)).unwrap();
    tx.send(&message(3, 10)).unwrap();
}

#[test]
fn a_buffer_that_is_too_small_leaves_the_message_where_it_is() {
    let _sandbox = Sandbox::new();
    let (tx, mut rx) = small().one_way().unwrap();
    let child = start_with(tx, "send_small_and_large", &[]);
    for (number, length) in [(1, 100), (2, 5 * CAPACITY), (3, 10)] {
        let mut buffer = vec![0; length];
        for short in [0, 1, length - 1] {
            assert_eq!(rx.recv_into(&mut buffer[..short]), Err(RecvError::TooSmall { needed: length }));
        }
        assert_eq!(rx.recv_into(&mut buffer), Ok(length));
        assert!(buffer == message(number, length));
    }
    assert_eq!(rx.recv_into(&mut []), Err(RecvError::Closed));
    child.finish();
}

// ---- waiting ---------------------------------------------------------------------------------------------------------

const NONE: Duration = Duration::ZERO;
const SHORT: Duration = Duration::from_millis(1);

fn receive_slowly(_: &[String]) {
    let mut rx: Receiver<u64> = handed("peer").unwrap();
    for number in 0..3 {
        thread::sleep(Duration::from_millis(50));
        assert_eq!(rx.recv(), Ok(number));
    }
}

#[test]
fn sending_waits_as_long_as_it_is_told() {
    let _sandbox = Sandbox::new();
    let (mut tx, rx) = PipeOptions::values::<u64>().capacity(1).one_way().unwrap();
    tx.send(&0).unwrap();
    assert_eq!(tx.try_send(&9), Err(SendError::Full));
    assert_eq!(tx.send_timeout(&9, NONE), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout(&9, SHORT), Err(SendError::TimedOut));
    let child = start_with(rx, "receive_slowly", &[]);
    assert_eq!(tx.send_timeout(&1, Duration::MAX), Ok(()));
    assert_eq!(tx.send(&2), Ok(()));
    child.finish();

    let (mut tx, mut rx) = small().one_way().unwrap();
    let large = message(1, 2 * CAPACITY);
    assert_eq!(tx.send_timeout(&large, NONE), Err(SendError::TimedOut));
    assert_eq!(tx.send_timeout(&large, SHORT), Err(SendError::TimedOut));
    assert_eq!(rx.try_recv(&mut Vec::new()), Err(RecvError::Empty), "what was sent of it is dropped");
    tx.send(b"next").unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(4));
}

#[test]
fn receiving_waits_as_long_as_it_is_told() {
    let _sandbox = Sandbox::new();
    let (mut tx, mut rx) = PipeOptions::values::<u64>().one_way().unwrap();
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
    assert_eq!(rx.recv_timeout(NONE), Err(RecvError::TimedOut));
    assert_eq!(rx.recv_timeout(SHORT), Err(RecvError::TimedOut));
    assert_eq!((rx.poll(NONE), rx.poll(SHORT)), (Ok(false), Ok(false)));
    tx.send(&1).unwrap();
    assert_eq!((rx.poll(NONE), rx.poll(Duration::MAX)), (Ok(true), Ok(true)));
    assert_eq!(rx.recv_timeout(NONE), Ok(1), "what is there needs no waiting");
    tx.send(&2).unwrap();
    assert_eq!(rx.recv_timeout(Duration::MAX), Ok(2));

    let (mut pipe, child) = pipe_to(&small(), "echo", &[]);
    let mut received = Vec::new();
    assert_eq!(pipe.recv_timeout(&mut received, SHORT), Err(RecvError::TimedOut));
    pipe.send(b"late").unwrap();
    assert_eq!(pipe.recv_timeout(&mut received, Duration::MAX), Ok(4));
    drop(pipe);
    child.finish();
}

// ---- ending ----------------------------------------------------------------------------------------------------------

/// Leaves, or dies.
fn end(how: &str) {
    if how == "dying" {
        // SAFETY: we mean it.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
}

fn send_and_end(arguments: &[String]) {
    let mut tx: Sender<u64> = handed("peer").unwrap();
    tx.send(&1).unwrap();
    tx.send(&2).unwrap();
    end(&arguments[0]);
}

fn receive_one_and_end(arguments: &[String]) {
    let mut rx: Receiver<u64> = handed("peer").unwrap();
    assert_eq!(rx.recv(), Ok(1));
    end(&arguments[0]);
}

#[test]
fn after_what_was_sent_comes_how_the_sender_ended() {
    let _sandbox = Sandbox::new();
    for (how, expected) in [("leaving", RecvError::Closed), ("dying", RecvError::PeerDied)] {
        let (tx, mut rx) = PipeOptions::values::<u64>().one_way().unwrap();
        start_with(tx, "send_and_end", &[how]).wait();
        assert_eq!(rx.poll(Duration::MAX), Ok(true));
        assert_eq!((rx.recv(), rx.try_recv()), (Ok(1), Ok(2)));
        assert_eq!(rx.poll(Duration::MAX), Ok(true), "an end is something, too");
        assert_eq!((rx.recv(), rx.recv(), rx.try_recv()), (Err(expected), Err(expected), Err(expected)));
        assert_eq!(rx.recv_timeout(NONE), Err(expected));
    }
}

#[test]
fn sending_says_how_the_receiver_ended() {
    let _sandbox = Sandbox::new();
    for (how, expected) in [("leaving", SendError::Closed), ("dying", SendError::PeerDied)] {
        let (mut tx, rx) = PipeOptions::values::<u64>().capacity(2).one_way().unwrap();
        tx.send(&1).unwrap();
        start_with(rx, "receive_one_and_end", &[how]).wait();
        let error = (0..=2).find_map(|number| tx.send(&number).err()).unwrap();
        assert_eq!((error, tx.send(&3)), (expected, Err(expected)));
    }
}

#[test]
fn a_death_is_noticed_whichever_end_was_given_away() {
    let _sandbox = Sandbox::new();
    let (ours, theirs) = tombolo::pipe().unwrap();
    for (given, mut kept) in [(ours, theirs), tombolo::pipe().map(|(ours, theirs)| (theirs, ours)).unwrap()] {
        let child = start_with(given, "echo", &[]);
        comes_back(&mut kept, 10);
        child.kill();
        assert_eq!(kept.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    }
}

#[test]
fn an_end_that_does_not_arrive_is_not_waited_for() {
    let _sandbox = Sandbox::new();
    // Its command cannot be started: closed.
    let (mut ours, theirs) = tombolo::pipe().unwrap();
    let handover = Handover::new(Command::new("/nonexistent")).give("peer", theirs).unwrap();
    assert_eq!(handover.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::Closed));
    // The child never picks it up: dead with the child.
    let (mut ours, theirs) = tombolo::pipe().unwrap();
    start_with(theirs, "do_nothing", &[]).finish();
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    // The descriptor is closed: dead at once.
    let (mut ours, theirs) = tombolo::pipe().unwrap();
    drop(theirs.into_fd().unwrap());
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
    let (ours, mut theirs) = tombolo::pipe().unwrap();
    drop(ours.into_fd().unwrap());
    assert_eq!(theirs.recv(&mut Vec::new()), Err(RecvError::PeerDied));
}

fn do_nothing(_: &[String]) {}

// ---- both ways, streams, in place ------------------------------------------------------------------------------------

fn exchange(pipe: Pipe) {
    let (mut tx, mut rx) = pipe.split();
    thread::scope(|scope| {
        scope.spawn(|| (0..20).for_each(|number| tx.send(&message(number, 200_000)).unwrap()));
        let mut received = Vec::new();
        for number in 0..20 {
            assert_eq!(rx.recv(&mut received), Ok(200_000));
            assert!(received == message(number, 200_000), "message {number}");
        }
    });
}

fn exchange_large(_: &[String]) {
    exchange(handed("peer").unwrap());
}

#[test]
fn both_directions_work_at_the_same_time() {
    let _sandbox = Sandbox::new();
    let (pipe, child) = pipe_to(&small(), "exchange_large", &[]);
    exchange(pipe);
    child.finish();
}

#[test]
fn half_a_pipe_leaves_on_its_own() {
    let _sandbox = Sandbox::new();
    let (ours, mut theirs) = tombolo::pipe().unwrap();
    let (tx, mut rx) = ours.split();
    drop(tx);
    assert_eq!(theirs.recv(&mut Vec::new()), Err(RecvError::Closed));
    theirs.send(b"still").unwrap();
    assert_eq!(rx.recv(&mut Vec::new()), Ok(5));
    assert_eq!(rx.into_fd().unwrap_err().kind(), ErrorKind::InvalidOptions, "half an end cannot travel");
    assert_eq!(theirs.send(b"gone"), Err(SendError::Closed));
}

fn echo_stream(_: &[String]) {
    let (tx, rx) = handed::<Pipe>("peer").unwrap().split();
    io::copy(&mut ByteReader::new(rx), &mut ByteWriter::new(tx)).unwrap();
}

#[test]
fn streams_carry_bytes_until_the_writer_leaves() {
    let _sandbox = Sandbox::new();
    let (pipe, child) = pipe_to(&small(), "echo_stream", &[]);
    let (tx, rx) = pipe.split();
    let sent = message(1, 1_000_003);
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut writer = ByteWriter::new(tx);
            let mut random = Random(1);
            let mut rest = &sent[..];
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(random.below(9000) as usize));
                writer.write_all(piece).unwrap();
                rest = after;
            }
            writer.flush().unwrap();
        });
        ByteReader::new(rx).read_to_end(&mut received).unwrap();
    });
    assert!(received == sent);
    child.finish();
}

#[test]
fn a_stream_cut_off_by_death_is_an_error() {
    let _sandbox = Sandbox::new();
    let (mut pipe, child) = pipe_to(&small(), "echo", &[]);
    comes_back(&mut pipe, 10);
    child.kill();
    let (_tx, rx) = pipe.split();
    let error = ByteReader::new(rx).read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

type Block = [u64; 4];

fn send_in_place(_: &[String]) {
    // SAFETY: both processes are ours and use the region through the library.
    let mut tx = unsafe { handed::<Sender<Block>>("values").unwrap().trust().unwrap() };
    tx.reserve(3).unwrap()[0] = [99; 4]; // not committed: sends nothing
    let mut next = 0;
    while next < 1000 {
        let mut blocks = tx.reserve(3).unwrap();
        for (block, number) in blocks.iter_mut().zip(next..) {
            *block = [number; 4];
        }
        let count = blocks.len().min(2);
        blocks.commit(count);
        next += count as u64;
    }
    drop(tx);
    // SAFETY: as above.
    let mut tx = unsafe { handed::<Sender>("bytes").unwrap().trust() };
    for number in 0..1000 {
        tx.reserve(50).unwrap()[0] = 99; // not committed: sends nothing
        let sent = message(number, odd_length(number) / 2);
        let mut room = tx.reserve(sent.len() + 8).unwrap();
        room[..sent.len()].copy_from_slice(&sent);
        room.commit(sent.len());
    }
}

fn receive_in_place(_: &[String]) {
    // SAFETY: as in the sender.
    let mut rx = unsafe { handed::<Receiver<Block>>("values").unwrap().trust().unwrap() };
    let mut expected = 0;
    while let Ok(blocks) = rx.peek(3) {
        let count = blocks.len().min(2);
        assert!(blocks.iter().zip(expected..).all(|(block, number)| *block == [number; 4]));
        if expected % 3 == 0 {
            // Not released: they stay.
            assert_eq!(rx.peek(1).unwrap()[0][0], expected);
            rx.peek(1).unwrap().release();
            expected += 1;
        } else {
            blocks.release_first(count);
            expected += count as u64;
        }
    }
    assert!(expected >= 1000);
    // SAFETY: as above.
    let mut rx = unsafe { handed::<Receiver>("bytes").unwrap().trust() };
    for number in 0..1000 {
        let expected = message(number, odd_length(number) / 2);
        assert!(*rx.peek().unwrap() == expected[..]);
        let received = rx.peek().unwrap();
        assert!(*received == expected[..], "a peek takes nothing");
        received.release();
    }
    assert_eq!(rx.peek().err(), Some(RecvError::Closed));
}

#[test]
fn messages_are_made_and_read_in_place() {
    let _sandbox = Sandbox::new();
    let (tx, rx) = PipeOptions::values::<Block>().capacity(8).one_way().unwrap();
    let (byte_tx, byte_rx) = PipeOptions::bytes().capacity_len(1024).one_way().unwrap();
    let give = |part: &str| Handover::new(command(part, &[]));
    let sender = give("send_in_place").give("values", tx).unwrap().give("bytes", byte_tx).unwrap().spawn().unwrap();
    let sender = Process::from(sender);
    let receiver =
        give("receive_in_place").give("values", rx).unwrap().give("bytes", byte_rx).unwrap().spawn().unwrap();
    Process::from(receiver).finish();
    sender.finish();
}

#[test]
fn values_with_gaps_between_them_are_not_for_in_place_use() {
    let (tx, _rx) = PipeOptions::values::<[u8; 3]>().one_way().unwrap();
    // SAFETY: both ends are ours.
    let error = unsafe { tx.trust() }.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("multiple of 8"), "{error}");
}

// ---- travelling ------------------------------------------------------------------------------------------------------

fn pick_up_twice(_: &[String]) {
    assert_eq!(handed::<Pipe>("nobody").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(handed::<Pipe>("in valid").unwrap_err().kind(), ErrorKind::InvalidName);
    let pipe: Pipe = handed("peer").unwrap();
    assert_eq!(handed::<Pipe>("peer").unwrap_err().kind(), ErrorKind::NotFound);
    send_back(pipe);
}

#[test]
fn an_end_is_picked_up_once() {
    let _sandbox = Sandbox::new();
    let (mut pipe, child) = pipe_to(&small(), "pick_up_twice", &[]);
    comes_back(&mut pipe, 10);
    drop(pipe);
    child.finish();
}

#[test]
fn an_end_is_picked_up_as_what_it_is() {
    let options = PipeOptions::values::<u64>();
    let (tx, mut rx) = options.one_way().unwrap();
    let copy = |descriptor: &OwnedFd| descriptor.try_clone().unwrap();
    let descriptor = tx.into_fd().unwrap();
    assert_eq!(options.from_fd::<Receiver<u64>>(copy(&descriptor)).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(options.from_fd::<Pipe<u64>>(copy(&descriptor)).unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(PipeOptions::bytes().from_fd::<Sender>(copy(&descriptor)).unwrap_err().kind(), ErrorKind::WrongType);
    let mut tx: Sender<u64> = options.from_fd(descriptor).unwrap();
    tx.send(&1).unwrap();
    assert_eq!(rx.recv(), Ok(1));
}

/// The control message that carries one descriptor.
#[repr(C)]
struct Rights {
    header: libc::cmsghdr,
    descriptor: RawFd,
}

/// Sends one byte with, or receives one byte and, a descriptor.
fn with_rights(rights: &mut Rights, transfer: impl FnOnce(&mut libc::msghdr) -> isize) {
    let mut byte = [b'x'];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: all zeros is a valid msghdr.
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = &mut part;
    header.msg_iovlen = 1;
    header.msg_control = std::ptr::from_mut(rights).cast();
    header.msg_controllen = size_of::<Rights>();
    assert_eq!(transfer(&mut header), 1, "{}", io::Error::last_os_error());
}

fn rights(descriptor: RawFd) -> Rights {
    let header = libc::cmsghdr {
        // SAFETY: arithmetic only.
        cmsg_len: unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as usize,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    Rights { header, descriptor }
}

fn receive_from_socket(arguments: &[String]) {
    let socket = UnixStream::connect(&arguments[0]).unwrap();
    let mut received = rights(-1);
    // SAFETY: a valid header that outlives the call.
    with_rights(&mut received, |header| unsafe { libc::recvmsg(socket.as_raw_fd(), header, libc::MSG_CMSG_CLOEXEC) });
    // SAFETY: the kernel has just made it for us.
    let descriptor = unsafe { OwnedFd::from_raw_fd(received.descriptor) };
    send_back(PipeOptions::bytes().from_fd(descriptor).unwrap());
}

#[test]
fn an_end_travels_over_a_socket() {
    let sandbox = Sandbox::new();
    let path = sandbox.file("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let child = start("receive_from_socket", &[path.to_str().unwrap()]);
    let (socket, _) = listener.accept().unwrap();
    let (mut ours, theirs) = small().duplex().unwrap();
    let descriptor = theirs.into_fd().unwrap();
    // SAFETY: a valid header that outlives the call.
    with_rights(&mut rights(descriptor.as_raw_fd()), |header| unsafe { libc::sendmsg(socket.as_raw_fd(), header, 0) });
    drop(descriptor);
    comes_back(&mut ours, 10);
    child.kill();
    assert_eq!(ours.recv(&mut Vec::new()), Err(RecvError::PeerDied));
}
