//! Clients and listeners that are refused, and those that do not answer.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, accept, bind, connect as connect_raw, listen, recv, send, sendmsg, socket_with,
};
use tombolo::connection::{Address, Listener, Options};
use tombolo::{ErrorKind, pipe};

use crate::support::{Random, TestDir, report, start};
use crate::{LONG, SHORT, connect, connect_refused, listeners, with_key};

pub fn raw_socket() -> OwnedFd {
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
}

pub fn raw_client(path: &Path) -> OwnedFd {
    let socket = raw_socket();
    connect_raw(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    socket
}

pub fn raw_listener(path: &Path) -> OwnedFd {
    let socket = raw_socket();
    bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&socket, 8).unwrap();
    socket
}

/// What a client without a key sends first.
pub fn raw_hello(test_dir: &TestDir) -> Vec<u8> {
    let path = test_dir.file("fake");
    let fake = raw_listener(&path);
    let client = thread::spawn(move || Options::new().connect(path));
    let accepted = accept(&fake).unwrap();
    let mut bytes = [0; 300];
    let (length, _) = recv(&accepted, &mut bytes[..], RecvFlags::empty()).unwrap();
    drop(accepted);
    assert!(client.join().unwrap().is_err());
    bytes[..length].to_vec()
}

/// What it sends last.
pub const READY: &[u8] = &[4];

#[test]
fn client_with_another_key_is_refused_and_others_are_accepted() {
    let test_dir = TestDir::new();
    for mut listener in listeners(&test_dir) {
        for count in 1..4 {
            let address = listener.address().clone();
            let error = connect_refused(&mut listener, address, &Options::new().key("another"));
            assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
            assert_eq!(listener.refused(), count);
            assert_eq!(listener.last_refusal().unwrap().kind(), ErrorKind::Refused);
        }
        let [_, _] = connect(&mut listener, &with_key());
    }
}

#[test]
fn key_on_one_side_only_is_refused() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    for (listening, connecting) in [(with_key(), Options::new()), (Options::new(), with_key())] {
        let mut listener = listening.listen(&path).unwrap();
        let error = connect_refused(&mut listener, &path, &connecting);
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert_eq!(listener.last_refusal().unwrap().kind(), ErrorKind::Refused);
        let [_, _] = connect(&mut listener, &listening);
    }
}

/// A listener without the key sends the client everything back that it sends: its nonce and its
/// proof.
#[test]
fn listener_that_sends_the_proof_back_is_refused() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let fake = raw_listener(&path);
    let fake_tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [Address::from(&path), fake_tcp.local_addr().unwrap().into()] {
        let is_unix = matches!(address, Address::Path(_));
        let client = thread::spawn(move || with_key().timeout(LONG).connect(address));
        let mut echoed = 0;
        let mut bytes = [0; 300];
        if is_unix {
            let socket = accept(&fake).unwrap();
            while let Ok((length @ 1.., _)) = recv(&socket, &mut bytes[..], RecvFlags::empty()) {
                echoed += 1;
                let _ = send(&socket, &bytes[..length], SendFlags::NOSIGNAL);
            }
        } else {
            let (mut stream, _) = fake_tcp.accept().unwrap();
            while let Ok(length @ 1..) = stream.read(&mut bytes) {
                echoed += 1;
                let _ = stream.write_all(&bytes[..length]);
            }
        }
        let error = client.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        assert!(echoed >= 2, "{echoed}: it has sent no proof");
    }
}

/// A client without the key opens two connections to a listener, and has each prove what the other
/// one asks for.
#[test]
fn client_that_forwards_proofs_between_two_connections_is_refused() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let mut listener = with_key().listen(&path).unwrap();
    // A hello that is right, of a client that has the key.
    let fake = raw_listener(&test_dir.file("fake"));
    let client = thread::spawn({
        let path = test_dir.file("fake");
        move || with_key().timeout(LONG).connect(path)
    });
    let victim = accept(&fake).unwrap();
    let mut hello = [0; 300];
    let (length, _) = recv(&victim, &mut hello[..], RecvFlags::empty()).unwrap();
    let hello = &hello[..length];
    let sockets = [raw_client(&path), raw_client(&path)];
    for socket in &sockets {
        send(socket, hello, SendFlags::NOSIGNAL).unwrap();
    }
    let _ = listener.accept_timeout(SHORT);
    let mut replies = [[0; 300]; 2];
    let mut lengths = [0; 2];
    for ((socket, reply), length) in sockets.iter().zip(&mut replies).zip(&mut lengths) {
        *length = recv(socket, &mut reply[..], RecvFlags::empty()).unwrap().0;
    }
    // The client's proof is for the first connection.
    send(&victim, &replies[0][..lengths[0]], SendFlags::NOSIGNAL).unwrap();
    let mut proof = [0; 300];
    let (length, _) = recv(&victim, &mut proof[..], RecvFlags::empty()).unwrap();
    send(&sockets[1], &proof[..length], SendFlags::NOSIGNAL).unwrap();
    while listener.refused() < 1 {
        assert!(listener.accept_timeout(SHORT).is_err(), "accepted a proof for another connection");
    }
    assert_eq!(listener.last_refusal().unwrap().kind(), ErrorKind::Refused);
    drop((victim, sockets));
    assert!(client.join().unwrap().is_err());
}

/// Connects as the user nobody to a listener that allows only its own user, and then to one that
/// allows this one, and takes what that one gives.
pub fn connect_as_nobody(arguments: &[String]) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::setgid(65534) | libc::setuid(65534) }, 0);
    let error = with_key().connect(&*arguments[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "a listener of another user: {error}");
    let options = with_key().allowed_users([0]);
    let error = options.connect(&*arguments[0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "a listener that does not allow this user: {error}");
    let mut connection = options.connect(&*arguments[1]).unwrap();
    assert_eq!(connection.peer().uid(), Some(0));
    let mut rx: pipe::Receiver<u64> = connection.take().unwrap();
    let number = rx.recv().unwrap();
    connection.send(number.to_le_bytes()).unwrap();
}

#[test]
fn client_of_another_user_is_refused_unless_allowed() {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return report("SKIPPED: only root can become another user");
    }
    let test_dir = TestDir::new();
    let names = ["own", "all"].map(|part| format!("@tombolo-test-{part}-{}", std::process::id()));
    let mut own = with_key().listen(&*names[0]).unwrap();
    let mut all = with_key().allowed_users([0, 65534]).listen(&*names[1]).unwrap();
    let mut child = start("connect_as_nobody", &[&names[0], &names[1]]);
    // It looks for a listener of its own user first, which this one is not.
    while own.refused() < 1 {
        assert!(own.accept_timeout(SHORT).is_err(), "accepted another user");
    }
    let refusal = own.last_refusal().unwrap();
    assert!(refusal.kind() == ErrorKind::Refused && refusal.to_string().contains("user 65534"), "{refusal}");
    while own.refused() < 2 {
        assert!(own.accept_timeout(SHORT).is_err(), "accepted another user");
    }
    let mut connection = all.accept_timeout(LONG).unwrap();
    assert_eq!((connection.peer().uid(), connection.peer().gid()), (Some(65534), Some(65534)));
    let (mut tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    connection.give(rx).unwrap();
    tx.send(7).unwrap();
    let mut answer = Vec::new();
    connection.recv(&mut answer).unwrap();
    assert_eq!(answer, 7_u64.to_le_bytes());
    assert_eq!(child.wait(), 0);
    drop(test_dir);
}

/// A socket file that others can connect to, for a listener that allows them.
#[test]
fn client_of_another_user_reaches_socket_file() {
    // SAFETY: no pointers.
    if unsafe { libc::geteuid() } != 0 {
        return report("SKIPPED: only root can become another user");
    }
    use std::os::unix::fs::PermissionsExt;
    let test_dir = TestDir::new();
    let directory = test_dir.file("open");
    std::fs::create_dir(&directory).unwrap();
    for path in [directory.parent().unwrap(), &directory] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    let paths = ["own", "all"].map(|name| directory.join(name));
    let mut own = with_key().mode(0o666).listen(&paths[0]).unwrap();
    let mut all = with_key().allowed_users([0, 65534]).listen(&paths[1]).unwrap();
    let child = start("connect_as_nobody", &[paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]);
    while own.refused() < 2 {
        assert!(own.accept_timeout(SHORT).is_err(), "accepted another user");
    }
    let mut connection = all.accept_timeout(LONG).unwrap();
    let (mut tx, rx) = pipe::Options::<u64>::new().create().unwrap();
    connection.give(rx).unwrap();
    tx.send(7).unwrap();
    connection.recv(&mut Vec::new()).unwrap();
    child.finish();
}

#[test]
fn client_that_does_not_answer_delays_nobody() {
    let test_dir = TestDir::new();
    let [unix, tcp] = listeners(&test_dir);
    drop((unix, tcp));
    let path = test_dir.file("silent");
    let options = with_key().handshake_timeout(Duration::from_millis(300));
    let mut listener = options.listen(&path).unwrap();
    let silent: Vec<OwnedFd> = (0..5).map(|_| raw_client(&path)).collect();
    let [_, _] = connect(&mut listener, &with_key());
    assert_eq!(listener.refused(), 0, "they still have time");
    while listener.refused() < 5 {
        assert_eq!(listener.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    assert_eq!(listener.last_refusal().unwrap().kind(), ErrorKind::TimedOut);
    drop(silent);
    let mut tcp = options.listen("127.0.0.1:0").unwrap();
    let silent: Vec<TcpStream> = (0..5).map(|_| TcpStream::connect(tcp.address().to_string()).unwrap()).collect();
    let [_, _] = connect(&mut tcp, &with_key());
    while tcp.refused() < 5 {
        assert_eq!(tcp.accept_timeout(SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    }
    drop(silent);
}

/// A server that does something else between two clients.
#[test]
fn clients_that_answered_while_nobody_listened_are_accepted() {
    let test_dir = TestDir::new();
    let timeout = Duration::from_millis(1000);
    let options = with_key().handshake_timeout(timeout);
    for mut listener in [options.listen(test_dir.file("socket")).unwrap(), options.listen("127.0.0.1:0").unwrap()] {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let address = listener.address().clone();
                thread::spawn(move || with_key().timeout(LONG).connect(address))
            })
            .collect();
        thread::sleep(SHORT); // they have connected
        let mut accepted = Vec::new();
        for _ in &clients {
            accepted.push(listener.accept_timeout(LONG).unwrap());
            thread::sleep(timeout + SHORT);
        }
        for client in clients {
            client.join().unwrap().unwrap();
        }
        assert_eq!(listener.refused(), 0, "{:?}", listener.last_refusal());
    }
}

/// More clients than handshakes at once, each of which needs a moment to answer.
#[test]
fn clients_in_a_crowd_are_all_accepted() {
    const COUNT: usize = 120;
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let hello = raw_hello(&test_dir);
    let options = Options::new().capacity_bytes(4096).backlog(1000).handshake_timeout(LONG);
    let mut listener = options.listen(&path).unwrap();
    let clients: Vec<OwnedFd> = (0..COUNT).map(|_| raw_client(&path)).collect();
    for client in &clients {
        send(client, &hello, SendFlags::NOSIGNAL).unwrap();
    }
    let answering = thread::spawn(move || {
        // The listener has as many handshakes as it can when the first one answers.
        let (first, others) = clients.split_at(64);
        for part in [first, others] {
            for client in part {
                for _ in ["hello", "welcome"] {
                    recv(client, &mut [0; 300][..], RecvFlags::empty()).unwrap();
                }
            }
            thread::sleep(Duration::from_millis(50));
            for client in part {
                let _ = send(client, READY, SendFlags::NOSIGNAL);
            }
        }
        clients
    });
    let accepted: Vec<_> = (0..COUNT).map_while(|_| listener.accept_timeout(Duration::from_secs(3)).ok()).collect();
    assert_eq!((accepted.len(), listener.refused()), (COUNT, 0), "{:?}", listener.last_refusal());
    drop(answering.join().unwrap());
}

/// Closing a descriptor can block as long as the one who sent it likes. A client that is not
/// accepted yet can send none.
#[test]
fn client_before_its_welcome_can_send_no_descriptors() {
    const SO_PASSRIGHTS: i32 = 83;
    let none = 0_i32;
    // SAFETY: an integer of that length, which is read.
    if unsafe {
        libc::setsockopt(raw_socket().as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const none).cast(), 4)
    } != 0
    {
        return report("SKIPPED: SO_PASSRIGHTS needs Linux 6.16");
    }
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let mut listener = with_key().listen(&path).unwrap();
    let client = raw_client(&path);
    let file = std::fs::File::open("/dev/null").unwrap();
    let hello = [1];
    let attach = || {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = [file.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        sendmsg(&client, &[IoSlice::new(&hello)], &mut control, SendFlags::NOSIGNAL)
    };
    assert_eq!(attach(), Err(rustix::io::Errno::PERM), "it waits");
    let _ = listener.accept_timeout(SHORT);
    assert_eq!(attach(), Err(rustix::io::Errno::PERM), "its handshake has begun");
    // Those that are accepted can.
    let [mut server, mut client] = connect(&mut listener, &with_key());
    client.tx.give_fd(&file).unwrap();
    server.rx.take_fd().unwrap();
}

#[test]
fn clients_that_do_not_answer_keep_no_other_out() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let mut listener = with_key().backlog(1000).listen(&path).unwrap();
    let silent: Vec<OwnedFd> = (0..100).map(|_| raw_client(&path)).collect();
    let [_, _] = connect(&mut listener, &with_key());
    assert!(listener.refused() >= 36, "{}", listener.refused());
    assert_eq!(listener.last_refusal().unwrap().kind(), ErrorKind::Busy);
    drop(silent);
}

/// The messages of a hello and some that are none.
fn garbage(random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1 + random.below(300)).map(|_| random.next() as u8).collect();
    if random.below(2) == 0 {
        bytes[0] = random.below(8) as u8;
        let magic = b"tombolo\n\x01\0\0\0";
        let count = magic.len().min(bytes.len() - 1);
        bytes[1..=count].copy_from_slice(&magic[..count]);
    }
    bytes
}

#[test]
fn listener_that_gets_other_bytes_refuses_them() {
    let test_dir = TestDir::new();
    let mut random = Random(3);
    for mut listener in listeners(&test_dir) {
        for _ in 0..200 {
            let address = listener.address().clone();
            let bytes = garbage(&mut random);
            let sender = thread::spawn(move || match address {
                Address::Path(path) => {
                    let socket = raw_client(&path);
                    let _ = send(&socket, &bytes, SendFlags::NOSIGNAL);
                }
                address => {
                    let mut stream = TcpStream::connect(address.to_string()).unwrap();
                    let _ = stream.write_all(&bytes);
                }
            });
            while !sender.is_finished() {
                assert!(listener.accept_timeout(Duration::from_millis(1)).is_err());
            }
            sender.join().unwrap();
        }
        let [_, _] = connect(&mut listener, &with_key());
    }
}

#[test]
fn client_that_gets_other_bytes_refuses_them() {
    let test_dir = TestDir::new();
    let mut random = Random(4);
    let path = test_dir.file("fake");
    let fake = raw_listener(&path);
    let fake_tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    for _ in 0..100 {
        for address in [Address::from(&path), fake_tcp.local_addr().unwrap().into()] {
            let client = thread::spawn({
                let address = address.clone();
                move || with_key().timeout(LONG).connect(address)
            });
            let bytes = garbage(&mut random);
            if matches!(address, Address::Path(_)) {
                let socket = accept(&fake).unwrap();
                let _ = recv(&socket, &mut [0; 300][..], RecvFlags::empty());
                let _ = send(&socket, &bytes, SendFlags::NOSIGNAL);
            } else {
                let (mut stream, _) = fake_tcp.accept().unwrap();
                let _ = stream.read(&mut [0; 300]);
                let _ = stream.write_all(&bytes);
            }
            assert!(client.join().unwrap().is_err());
        }
    }
}

#[test]
fn listener_that_does_not_accept_times_the_client_out() {
    let test_dir = TestDir::new();
    for listener in listeners(&test_dir) {
        let error = with_key().timeout(SHORT).connect(listener.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    }
    let path = test_dir.file("full");
    let _listener: Listener = with_key().backlog(0).listen(&path).unwrap();
    let _waiting: Vec<_> = (0..1).map(|_| raw_client(&path)).collect();
    let error = with_key().connect(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
}
