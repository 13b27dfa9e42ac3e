//! Directories of names: the default one, which any user of the machine can make before its owner
//! does, and the one that the environment names, which a program with more rights than its caller
//! must ignore.

mod support;

use std::env;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::ptr;

use support::{Alone, Process, TestDir, alone, child_roles, command, fork, report};
use tombolo::pipe;
use tombolo::queue;
use tombolo::{DIRECTORY_ENV, Directory, ErrorKind, Namespace};

child_roles!(run_set_user_id, look_at_the_environment, open_by_variable, open_by_default);

/// Users that the machine should not have.
const USER: u32 = 61_234;
const OTHER: u32 = 61_235;
const NAME: &str = "name";

fn default_path() -> PathBuf {
    PathBuf::from(format!("/dev/shm/tombolo-{USER}"))
}

/// Mounts an empty file system that only this process sees.
fn mount_over(place: &str) -> io::Result<()> {
    let c = |text: &str| CString::new(text).unwrap();
    let (place, tmpfs, mode, root) = (c(place), c("tmpfs"), c("mode=1777"), c("/"));
    // SAFETY: strings that end in zero bytes; the mounts are private to this thread and go with it.
    let mounted = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(ptr::null(), root.as_ptr(), ptr::null(), libc::MS_REC | libc::MS_PRIVATE, ptr::null()) == 0
            && libc::mount(tmpfs.as_ptr(), place.as_ptr(), tmpfs.as_ptr(), 0, mode.as_ptr().cast()) == 0
    };
    if mounted { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn become_user(user: u32) {
    // SAFETY: numbers.
    let done = unsafe { libc::setresgid(user, user, user) == 0 && libc::setresuid(user, user, user) == 0 };
    assert!(done, "{}", io::Error::last_os_error());
}

/// Runs `prepare` as root in an empty `/dev/shm`, then `act` as a user without rights. Returns
/// false if it cannot.
fn as_user(alone: &Alone, prepare: impl FnOnce(&Path), act: impl FnOnce()) -> bool {
    const CANNOT: i32 = 77;
    let mut process = fork(alone, || {
        // SAFETY: no other thread runs in this process.
        unsafe { env::remove_var(DIRECTORY_ENV) };
        // SAFETY: has no arguments.
        if unsafe { libc::geteuid() } != 0 || mount_over("/dev/shm").is_err() {
            // SAFETY: ends the child.
            unsafe { libc::_exit(CANNOT) };
        }
        prepare(&default_path());
        become_user(USER);
        act();
    });
    let status = process.wait();
    assert!(libc::WIFEXITED(status) && [0, CANNOT].contains(&libc::WEXITSTATUS(status)), "the child: {status:#x}");
    let could = libc::WEXITSTATUS(status) == 0;
    if !could {
        report("SKIPPED: directories of several users (no permission to mount); run the tests as root for it");
    }
    could
}

fn make(path: &Path, owner: u32, mode: u32) {
    fs::create_dir(path).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn directory_default_is_made_for_its_owner_only() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    as_user(
        &alone,
        |_| {},
        || {
            let _tx = pipe::Options::bytes().sender(NAME).unwrap();
            let facts = fs::metadata(default_path()).unwrap();
            assert_eq!((facts.uid(), facts.mode() & 0o7777), (USER, 0o700));
            assert_eq!(Directory::default().names().unwrap(), [NAME]);
        },
    );
    as_user(
        &alone,
        |path| make(path, USER, 0o700),
        || drop(pipe::Options::bytes().sender(NAME).expect("its own directory, made before")),
    );
}

/// Checks that everything refuses the default directory, with an error that contains `says`.
fn refused(says: &[&str]) {
    let directory = Directory::default();
    assert_eq!(directory.path(), default_path());
    let errors = [
        pipe::Options::bytes().sender(NAME).unwrap_err(),
        pipe::Options::bytes().must_exist().receiver(NAME).unwrap_err(),
        queue::Options::bytes().open(NAME).unwrap_err(),
        Namespace::open(NAME).unwrap_err(),
        Namespace::builder().event("event").open(NAME).unwrap_err(),
        directory.inspect(NAME).unwrap_err(),
        directory.unlink(NAME, true).unwrap_err(),
        directory.unlink_if_stale(NAME).unwrap_err(),
        directory.names().unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        for text in says.iter().chain(&[default_path().to_str().unwrap(), "TOMBOLO_DIR"]) {
            assert!(error.to_string().contains(text), "no {text:?} in: {error}");
        }
    }
    assert_eq!(fs::read_dir("/dev/shm").unwrap().count(), 1, "nothing was made elsewhere in its place");
}

#[test]
fn directory_default_made_by_other_user_is_refused() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    for (owner, mode, says) in [
        (OTHER, 0o700, "found a directory of user 61235 and mode 700, expected one of user 61234 and mode 700"),
        (OTHER, 0o777, "found a directory of user 61235 and mode 777"),
        (OTHER, 0o1777, "found a directory of user 61235 and mode 1777"),
        (0, 0o1777, "found a directory of user 0 and mode 1777"),
    ] {
        let ran = as_user(
            &alone,
            |path| make(path, owner, mode),
            || {
                refused(&[says, "have root or that user remove it"]);
                let there = fs::read_dir(default_path()).map_or(0, Iterator::count);
                assert_eq!(there, 0, "nothing was put there");
            },
        );
        if !ran {
            return;
        }
    }
}

#[test]
fn directory_default_open_to_others_is_refused() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    for (mode, says) in [(0o770, "mode 770"), (0o701, "mode 701"), (0o1777, "mode 1777"), (0o2750, "mode 2750")] {
        if !as_user(&alone, |path| make(path, USER, mode), || refused(&["user 61234", says, "chmod 700"])) {
            return;
        }
    }
}

#[test]
fn directory_default_not_a_directory_is_refused() {
    let (alone, _sandbox) = (alone(), TestDir::new());
    let link = |path: &Path| {
        let target = env::temp_dir();
        symlink(target, path).unwrap();
        std::os::unix::fs::lchown(path, Some(OTHER), Some(OTHER)).unwrap();
    };
    if !as_user(&alone, link, || refused(&["found a symbolic link of user 61235", "as that user or root"])) {
        return;
    }
    let file = |path: &Path| {
        fs::write(path, "").unwrap();
        chown(path, Some(OTHER), Some(OTHER)).unwrap();
    };
    as_user(&alone, file, || refused(&["found something else, of user 61235 and mode 644", "as that user or root"]));
    let own = |path: &Path| symlink("/tmp", path).unwrap();
    as_user(&alone, own, || refused(&["found a symbolic link of user 0"]));
}

#[test]
fn directory_explicit_may_be_shared() {
    let _sandbox = TestDir::new();
    as_user(
        &alone(),
        |path| make(path, 0, 0o1777),
        || {
            let options = pipe::Options::<u64>::new().directory(default_path()).mode(0o666);
            let mut rx = options.receiver(NAME).unwrap();
            options.sender(NAME).unwrap().send(1).unwrap();
            assert_eq!(rx.recv(), Ok(1));
        },
    );
}

#[test]
fn directory_from_environment_in_set_user_id_program_is_ignored() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let place = test_dir.file("programs");
    fs::create_dir(&place).unwrap();
    Process::from(command("run_set_user_id", &[place.to_str().unwrap()]).spawn().unwrap()).finish();
}

fn run_set_user_id(arguments: &[String]) {
    let place = &arguments[0];
    // SAFETY: has no arguments.
    if unsafe { libc::geteuid() } != 0 {
        return report("SKIPPED: a set-user-ID program (only root can make one); run the tests as root for it");
    }
    if let Err(error) = mount_over(place) {
        return report(&format!("SKIPPED: a set-user-ID program (no permission to mount: {error})"));
    }
    let program = Path::new(place).join("program");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    for (mode, secure) in [(0o755, false), (0o4755, true), (0o2755, true)] {
        chown(&program, Some(USER), Some(USER)).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(mode)).unwrap();
        let started = command("look_at_the_environment", &[if secure { "secure" } else { "plain" }]);
        let mut again = std::process::Command::new(&program);
        again.args(started.get_args()).envs(started.get_envs().filter_map(|(name, value)| Some((name, value?))));
        again.env(DIRECTORY_ENV, "/somewhere/else").uid(OTHER).gid(OTHER).current_dir("/");
        match again.spawn() {
            Ok(child) => Process::from(child).finish(),
            Err(error) => return report(&format!("SKIPPED: a set-user-ID program (it cannot be started: {error})")),
        }
    }
}

fn look_at_the_environment(arguments: &[String]) {
    // SAFETY: has no arguments.
    let user = unsafe { libc::geteuid() };
    let expected = match arguments[0].as_str() {
        "secure" => format!("/dev/shm/tombolo-{user}"),
        _ => "/somewhere/else".to_string(),
    };
    assert_eq!(Directory::default().path(), Path::new(&expected));
}

#[test]
fn directory_and_files_are_private_by_default() {
    let test_dir = TestDir::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let options = pipe::Options::<u64>::new().directory(test_dir.names());
    let _private = options.sender("private").unwrap();
    let _shared = options.mode(0o664).sender("shared").unwrap();
    assert_eq!(mode(&test_dir.names()), 0o700);
    assert_eq!(mode(&test_dir.names().join("private")), 0o600);
    assert_eq!(mode(&test_dir.names().join("shared")), 0o664, "whatever the umask");
}

#[test]
fn directory_from_environment_is_used() {
    let (_alone, test_dir) = (alone(), TestDir::new());
    let place = test_dir.file("elsewhere");
    let mut started = command("open_by_variable", &[place.to_str().unwrap()]);
    Process::from(started.env(DIRECTORY_ENV, &place).spawn().unwrap()).finish();
    assert!(place.is_dir());
    let mut started = command("open_by_default", &[]);
    Process::from(started.env_remove(DIRECTORY_ENV).spawn().unwrap()).finish();
    Process::from(started.env(DIRECTORY_ENV, "").spawn().unwrap()).finish();
}

fn open_by_variable(arguments: &[String]) {
    let directory = Directory::default();
    assert_eq!(directory.path(), Path::new(&arguments[0]));
    let _tx = pipe::Options::bytes().sender(NAME).unwrap();
    assert_eq!(directory.names().unwrap(), [NAME]);
}

fn open_by_default(_: &[String]) {
    // SAFETY: it has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    assert_eq!(Directory::default().path(), Path::new(&format!("/dev/shm/tombolo-{user}")));
}
