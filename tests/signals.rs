//! A signal handler may make some of the library's calls, whatever the thread was doing.

mod support;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use support::{TestDir, child_roles, start, until};
use tombolo::Namespace;
use tombolo::pipe;
use tombolo::queue;
use tombolo::sync::{AtomicValue, Event, Semaphore};

child_roles!(be_interrupted_everywhere);

struct Objects {
    count: AtomicValue<u64>,
    event: Event,
    permits: Semaphore,
}

static OBJECTS: OnceLock<Objects> = OnceLock::new();
static SIGNALS: AtomicU64 = AtomicU64::new(0);

extern "C" fn on_alarm(_: libc::c_int) {
    if let Some(objects) = OBJECTS.get() {
        objects.count.fetch_add(1);
        let _ = objects.event.set();
        let _ = objects.permits.release(1);
        SIGNALS.fetch_add(1, Ordering::SeqCst);
    }
}

const ENOUGH: u64 = 500;

fn be_interrupted_everywhere(_: &[String]) {
    let plan = Namespace::builder().atomic("count", 0_u64).event("event").semaphore("permits", 0).mutex("lock", 0_u64);
    let namespace = plan.create().unwrap();
    let objects = Objects {
        count: namespace.atomic("count").unwrap(),
        event: namespace.event("event").unwrap(),
        permits: namespace.semaphore("permits").unwrap(),
    };
    let objects = OBJECTS.get_or_init(|| objects);
    let lock = namespace.mutex::<u64>("lock").unwrap();
    let every = libc::timeval { tv_sec: 0, tv_usec: 100 };
    // SAFETY: a handler that does what this is about, and nothing of its own.
    unsafe {
        libc::signal(libc::SIGALRM, on_alarm as *const () as libc::sighandler_t);
        libc::setitimer(
            libc::ITIMER_REAL,
            &libc::itimerval { it_interval: every, it_value: every },
            std::ptr::null_mut(),
        );
    }
    let mut taken = 0;
    while SIGNALS.load(Ordering::SeqCst) < ENOUGH {
        // Opens and closes descriptors, allocates, locks, sleeps, and waits for what only the
        // handler does.
        let (mut tx, mut rx) = pipe::Options::<u64>::new().create().unwrap();
        tx.send(1).unwrap();
        assert_eq!(rx.recv(), Ok(1));
        drop(queue::Options::bytes().create().unwrap());
        *lock.lock().unwrap() += 1;
        objects.event.clear().unwrap();
        objects.event.wait().unwrap();
        objects.permits.acquire().unwrap().forget();
        taken += 1;
    }
    // SAFETY: stops the timer.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &std::mem::zeroed(), std::ptr::null_mut()) };
    // Another thread may still be in the handler.
    until(|| objects.count.load() == SIGNALS.load(Ordering::SeqCst));
    let signals = SIGNALS.load(Ordering::SeqCst);
    assert_eq!(objects.permits.available().map(u64::from), Ok(signals - taken));
}

#[test]
fn signal_handler_calls_do_not_disturb_what_they_interrupt() {
    let _sandbox = TestDir::new();
    start("be_interrupted_everywhere", &[]).finish();
}
