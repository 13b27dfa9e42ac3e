//! The signals that a thread blocks.

#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr;

/// Runs `action` while this thread blocks all signals, so that a thread which it starts gets none
/// that are for the program.
pub(crate) fn without_signals<R>(action: impl FnOnce() -> R) -> R {
    let mut all = MaybeUninit::uninit();
    // SAFETY: fills `all`.
    let all = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        all.assume_init()
    };
    SignalMask(all).during(action)
}

/// The signals that a thread blocks.
#[derive(Clone, Copy)]
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    /// Returns those of this thread.
    pub(crate) fn current() -> Self {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: changes nothing and fills `mask`. It does not fail with such arguments.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            Self(mask.assume_init())
        }
    }

    fn set(&self) {
        // SAFETY: a mask that was filled, for this thread.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.0, ptr::null_mut()) };
    }

    /// Runs `action` while this thread blocks these signals and no others. A thread or process that
    /// it starts inherits that.
    pub(crate) fn during<R>(&self, action: impl FnOnce() -> R) -> R {
        struct Restore(SignalMask);
        impl Drop for Restore {
            fn drop(&mut self) {
                self.0.set();
            }
        }
        let _restore = Restore(Self::current());
        self.set();
        action()
    }
}
