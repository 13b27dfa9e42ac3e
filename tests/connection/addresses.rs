//! Where listeners are: files of sockets, abstract names, ports.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Duration;

use tombolo::ErrorKind;
use tombolo::connection::{Address, Client, Listener, Options};

use crate::support::{TestDir, start};
use crate::{LONG, connect, with_key};

#[test]
fn listener_dropped_removes_its_file() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let listener = Listener::bind(&path).unwrap();
    let metadata = fs::symlink_metadata(&path).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn listener_mode_is_exact_whatever_the_umask() {
    let test_dir = TestDir::new();
    for mode in [0o600, 0o666, 0o620] {
        let path = test_dir.file("socket");
        let _listener = Options::new().mode(mode).listen(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn listener_does_not_remove_the_file_of_another() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let first = Listener::bind(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let _second = Listener::bind(&path).unwrap();
    drop(first);
    assert!(path.exists());
}

#[test]
fn listener_at_address_in_use_is_refused() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let name = format!("@tombolo-test-in-use-{}", std::process::id());
    let mut listeners = [
        with_key().listen(&path).unwrap(),
        with_key().listen(&*name).unwrap(),
        with_key().listen("127.0.0.1:0").unwrap(),
    ];
    for listener in &mut listeners {
        let error = with_key().listen(listener.address()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}");
        let [_, _] = connect(listener, &with_key());
        assert_eq!(listener.refused(), 0, "{:?}", listener.last_refusal());
    }
}

#[test]
fn listener_replaces_file_without_a_listener() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    drop(UnixListener::bind(&path).unwrap()); // leaves its file
    assert!(path.exists());
    assert_eq!(Client::connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let mut listener = with_key().listen(&path).unwrap();
    let [_, _] = connect(&mut listener, &with_key());
}

#[test]
fn listener_leaves_other_files_and_sockets_alone() {
    let test_dir = TestDir::new();
    let (file, link, stream) = (test_dir.file("file"), test_dir.file("link"), test_dir.file("stream"));
    fs::write(&file, "content").unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let _other = UnixListener::bind(&stream).unwrap();
    for (path, kind) in
        [(&file, ErrorKind::AlreadyExists), (&link, ErrorKind::AlreadyExists), (&stream, ErrorKind::AddressInUse)]
    {
        let error = Listener::bind(path).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(fs::symlink_metadata(path).is_ok());
    }
    let error = Client::connect(&stream).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongVersion, "{error}");
}

/// Listens, and holds memory that takes a while to free when it is killed.
pub fn listen_and_wait(arguments: &[String]) {
    let mut listener = with_key().listen(&*arguments[0]).unwrap();
    let memory = vec![1_u8; 64 << 20];
    let mut connection = listener.accept().unwrap();
    let _ = connection.recv(&mut Vec::new());
    drop(memory);
}

/// A listener that is started again at once meets the one before, which is ending.
#[test]
fn listener_killed_successor_waits_until_it_is_gone() {
    let test_dir = TestDir::new();
    let addresses =
        [test_dir.file("socket").to_str().unwrap().to_string(), format!("@tombolo-test-ending-{}", std::process::id())];
    for address in addresses.iter().cycle().take(20) {
        let child = start("listen_and_wait", &[address]);
        let _connection = with_key().wait_for_listener(LONG).connect(&**address).unwrap();
        child.signal(libc::SIGKILL);
        let mut listener = with_key().listen(&**address).unwrap();
        let [_, _] = connect(&mut listener, &with_key());
        drop(listener);
        child.kill();
    }
}

/// Several listeners that begin at once: one of them has the address, and the others are refused.
#[test]
fn listeners_that_begin_at_once_share_nothing() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    for _ in 0..50 {
        drop(UnixListener::bind(&path).unwrap());
        let begun: Vec<_> = thread::scope(|scope| {
            let threads = [(); 4].map(|()| scope.spawn(|| with_key().listen(&path)));
            threads.map(|thread| thread.join().unwrap()).into_iter().collect()
        });
        let mut listening = Vec::new();
        for outcome in begun {
            match outcome {
                Ok(listener) => listening.push(listener),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AddressInUse, "{error}"),
            }
        }
        assert_eq!(listening.len(), 1);
        let [_, _] = connect(&mut listening[0], &with_key());
        drop(listening);
        assert!(!path.exists());
    }
}

#[test]
fn client_without_listener_is_told_so_or_waits() {
    let test_dir = TestDir::new();
    let path = test_dir.file("socket");
    let name = format!("@tombolo-test-none-{}", std::process::id());
    for address in [Address::from(&path), name.parse().unwrap(), "127.0.0.1:1".parse().unwrap()] {
        let error = with_key().connect(&address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        let patient = with_key().wait_for_listener(Duration::from_millis(50));
        assert_eq!(patient.connect(&address).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let client = {
        let path = path.clone();
        thread::spawn(move || with_key().wait_for_listener(LONG).connect(&path))
    };
    thread::sleep(Duration::from_millis(50));
    let mut listener = with_key().listen(&path).unwrap();
    listener.accept_timeout(LONG).unwrap();
    client.join().unwrap().unwrap();
}

#[test]
fn address_that_cannot_be_is_refused() {
    let long = format!("/{}", "x".repeat(120));
    for text in ["", "market", "@", "market:", "market:70000", ":6000", &long, &format!("@{}", "x".repeat(120))] {
        let error = with_key().listen(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{text:?}: {error}");
        assert_eq!(with_key().connect(text).unwrap_err().kind(), ErrorKind::InvalidName, "{text:?}");
    }
    let error = Listener::bind("/nonexistent/directory/socket").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[test]
fn options_that_cannot_work_are_refused() {
    for (options, address) in [
        (Options::new(), "127.0.0.1:0"),
        (Options::new().key(""), "@tombolo-test-empty-key"),
        (Options::new().capacity_bytes(usize::MAX), "@tombolo-test-capacity"),
    ] {
        let error = options.listen(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{address}: {error}");
        assert_eq!(options.connect(address).unwrap_err().kind(), ErrorKind::InvalidOptions, "{address}");
    }
    assert!(!format!("{:?}", with_key()).contains(crate::KEY), "the key is shown");
}
