//! Connections that are cut at each step of the handshake, by something between the two sides.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    Shutdown, accept, recvmsg, sendmsg, shutdown,
};
use tombolo::connection::{Address, Connection, Listener};
use tombolo::sync::Event;
use tombolo::{ErrorKind, RecvError};

use crate::refusals::{raw_client, raw_listener};
use crate::support::{TestDir, report, start};
use crate::{LONG, connect, descriptors, listeners, with_key};

/// Takes one step if there are steps left.
fn may_pass(steps: &AtomicUsize) -> bool {
    steps.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Forwards a packet, with its descriptors, if steps are left. Returns whether it did.
fn forward_packet(from: &OwnedFd, to: &OwnedFd, steps: &AtomicUsize) -> bool {
    let mut bytes = [0; 300];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = received.map_or(0, |received| received.bytes);
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(arrived) = message {
            descriptors.extend(arrived);
        }
    }
    if length == 0 || !may_pass(steps) {
        return false;
    }
    let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(borrowed.is_empty() || control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    sendmsg(to, &[IoSlice::new(&bytes[..length])], &mut control, SendFlags::NOSIGNAL).is_ok()
}

/// Forwards packets until no steps are left or one side ends.
fn forward_packets(from: &OwnedFd, to: &OwnedFd, steps: &AtomicUsize) {
    while forward_packet(from, to, steps) {}
    for socket in [from, to] {
        let _ = shutdown(socket, Shutdown::Both);
    }
}

/// The same for bytes, one by one.
fn forward_bytes(mut from: &TcpStream, mut to: &TcpStream, steps: &AtomicUsize) {
    let mut byte = [0];
    while matches!(from.read(&mut byte), Ok(1)) && may_pass(steps) && to.write_all(&byte).is_ok() {}
    for stream in [from, to] {
        let _ = stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Connects through something that cuts the connection after a number of steps. Returns what
/// became of the client and of the listener, or none if both are connected.
fn connect_and_cut(
    listener: &mut Listener,
    test_dir: &TestDir,
    steps: usize,
) -> Option<(tombolo::Result<Connection>, tombolo::Result<Connection>)> {
    let target = listener.address().clone();
    let path = test_dir.file(&format!("cutter-{steps}"));
    let steps = AtomicUsize::new(steps);
    thread::scope(|scope| {
        let through: Address = match &target {
            Address::Path(target) => {
                let cutter = raw_listener(&path);
                let (target, steps) = (target.clone(), &steps);
                scope.spawn(move || {
                    let client = accept(&cutter).unwrap();
                    let server = raw_client(&target);
                    thread::scope(|scope| {
                        scope.spawn(|| forward_packets(&client, &server, steps));
                        forward_packets(&server, &client, steps);
                    });
                });
                (&path).into()
            }
            target => {
                let cutter = TcpListener::bind("127.0.0.1:0").unwrap();
                let (address, target, steps) = (cutter.local_addr().unwrap(), target.to_string(), &steps);
                scope.spawn(move || {
                    let client = cutter.accept().unwrap().0;
                    let server = TcpStream::connect(target).unwrap();
                    thread::scope(|scope| {
                        scope.spawn(|| forward_bytes(&client, &server, steps));
                        forward_bytes(&server, &client, steps);
                    });
                });
                address.into()
            }
        };
        let client = scope.spawn(move || with_key().timeout(LONG).connect(through));
        let mut accepted = listener.accept_timeout(Duration::from_millis(20));
        while !client.is_finished() && accepted.is_err() {
            accepted = listener.accept_timeout(Duration::from_millis(20));
        }
        let connected = match client.join().unwrap() {
            // The last message of the client may not have come yet.
            Ok(connected) if accepted.is_err() => {
                accepted = listener.accept_timeout(Duration::from_millis(200));
                Ok(connected)
            }
            outcome => outcome,
        };
        // The cutter ends when both sides have.
        let is_complete = connected.is_ok() && accepted.is_ok();
        (!is_complete).then_some((connected, accepted))
    })
}

/// Connects a client through something that then sends packets of its own. Returns both sides, and
/// the socket by which the client's side is reached.
pub fn connect_and_intrude(listener: &mut Listener, test_dir: &TestDir) -> (Connection, Connection, OwnedFd) {
    let (Address::Path(target), path) = (listener.address().clone(), test_dir.file("intruder")) else {
        panic!("not a path")
    };
    let intruder = raw_listener(&path);
    thread::scope(|scope| {
        let forwarding = scope.spawn(move || {
            let client = accept(&intruder).unwrap();
            let server = raw_client(&target);
            // The handshake with a key, one packet after the other.
            for is_from_client in [true, false, true, false, false, true] {
                let (from, to) = if is_from_client { (&client, &server) } else { (&server, &client) };
                assert!(forward_packet(from, to, &AtomicUsize::new(1)));
            }
            client
        });
        let client = scope.spawn(|| with_key().timeout(LONG).connect(&path));
        let accepted = listener.accept_timeout(LONG).unwrap();
        (accepted, client.join().unwrap().unwrap(), forwarding.join().unwrap())
    })
}

pub fn send_packet(to: &OwnedFd, bytes: &[u8], files: &[File]) {
    let borrowed: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(32))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(borrowed.is_empty() || control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
}

/// Runs alone, so that it can count its descriptors.
pub fn send_packets_that_give_nothing(_: &[String]) {
    let test_dir = TestDir::new();
    let [mut listener, _] = listeners(&test_dir);
    let (mut accepted, mut client, socket) = connect_and_intrude(&mut listener, &test_dir);
    let files = |count: usize| (0..count).map(|_| File::open("/dev/null").unwrap()).collect::<Vec<_>>();
    let event = Event::new().unwrap();
    let before = descriptors();
    let whole: &[u8] = &[6];
    for (bytes, count) in
        [(&[][..], 0), (&[], 1), (whole, 0), (whole, 2), (whole, 16), (whole, 30), (&[9], 1), (&[6; 5000], 1)]
    {
        send_packet(&socket, bytes, &files(count));
        let error = client.take_timeout::<Event>(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{count} descriptors: {error}");
        assert_eq!(descriptors(), before, "{count} descriptors");
        // What comes behind it can be taken.
        let shared = event.share().unwrap();
        send_packet(&socket, whole, &[File::from(shared)]);
        client.take_timeout::<Event>(LONG).unwrap();
    }
    // In memory all goes on.
    accepted.send("whole").unwrap();
    assert_eq!(client.recv(&mut Vec::new()), Ok(5));
    drop((accepted, client, socket));
}

#[test]
fn take_of_packets_that_give_nothing_is_corrupt_and_leaves_nothing() {
    start("send_packets_that_give_nothing", &[]).finish();
}

/// Runs alone, so that it can count its descriptors.
pub fn cut_each_handshake(_: &[String]) {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        let [_, _] = connect(&mut listener, &with_key());
        let before = descriptors();
        let mut cuts = 0;
        while let Some((client, accepted)) = connect_and_cut(&mut listener, &test_dir, cuts) {
            match (client, accepted) {
                (Err(error), Err(_)) => {
                    assert_eq!(error.kind(), ErrorKind::Disconnected, "after {cuts} steps: {error}");
                }
                // Its last message was cut off: it learns that from the connection.
                (Ok(mut client), Err(_)) => {
                    let end = client.recv_timeout(&mut Vec::new(), LONG);
                    assert!(matches!(end, Err(RecvError::Closed | RecvError::PeerDied)), "{end:?}");
                }
                (Err(error), Ok(_)) => panic!("accepted a client that failed, after {cuts} steps: {error}"),
                (Ok(_), Ok(_)) => unreachable!(),
            }
            cuts += 1;
            let [mut one, mut other] = connect(&mut listener, &with_key());
            one.send("whole").unwrap();
            assert_eq!(other.recv(&mut Vec::new()), Ok(5));
        }
        report(&format!("{}: cut after each of {cuts} steps", listener.address()));
        assert!(cuts >= 6);
        let _ = listener.accept_timeout(Duration::from_millis(50));
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn handshake_cut_at_each_step_is_an_error_on_both_sides() {
    start("cut_each_handshake", &[]).finish();
}
