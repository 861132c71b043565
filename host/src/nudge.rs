//! A thread that a stranger's descriptor holds is let go.
//!
//! Whether a write waits is a property of the open file, and whoever shares it may change it at any time,
//! between our look and our write. No kernel writes to an eventfd by other rules (pwritev2 with
//! RWF_NOWAIT is refused, as of Linux 6.18). What can be done is to end a wait: a thread says what it is
//! about to do by two stores, and another, which looks every now and then, sends a signal to one that has
//! not come back. A signal with a handler ends the wait, and nothing else.

use std::cell::OnceCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError, Weak};
use std::time::Duration;

/// A call that is not over by the second look is ended.
pub const LOOK: Duration = Duration::from_millis(100);

struct Doing {
    thread: libc::pid_t,
    /// Calls begun and ended. Odd: one is under way.
    steps: AtomicU64,
}

static WATCHED: Mutex<Vec<(Weak<Doing>, u64)>> = Mutex::new(Vec::new());

thread_local! {
    static DOING: OnceCell<Arc<Doing>> = const { OnceCell::new() };
}

/// Makes a system call that is not to wait for long: it fails with EINTR if it does.
pub fn briefly<T>(call: impl FnOnce() -> T) -> T {
    DOING.with(|doing| {
        let doing = doing.get_or_init(watch_this_thread);
        let step = doing.steps.load(Ordering::Relaxed);
        doing.steps.store(step.wrapping_add(1), Ordering::Release);
        let made = call();
        doing.steps.store(step.wrapping_add(2), Ordering::Release);
        made
    })
}

fn watch_this_thread() -> Arc<Doing> {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: an all-zero sigaction is a valid value of this C structure.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = on_nudge as *const () as usize;
        // Without SA_RESTART: the call ends.
        // SAFETY: the handler does nothing.
        unsafe { libc::sigaction(libc::SIGURG, &action, std::ptr::null_mut()) };
        let watch = std::thread::Builder::new().name("nudge".to_owned());
        // A process that cannot start a thread has other cares; its writes are not watched.
        let _ = watch.spawn(|| {
            loop {
                std::thread::sleep(LOOK);
                look();
            }
        });
    });
    // SAFETY: no pointers are passed.
    let doing = Arc::new(Doing { thread: unsafe { libc::gettid() }, steps: AtomicU64::new(0) });
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner).push((Arc::downgrade(&doing), 0));
    doing
}

extern "C" fn on_nudge(_signal: i32) {}

fn look() {
    let mut watched = WATCHED.lock().unwrap_or_else(PoisonError::into_inner);
    watched.retain_mut(|(doing, seen)| {
        let Some(doing) = doing.upgrade() else { return false };
        let steps = doing.steps.load(Ordering::Acquire);
        if steps % 2 == 1 && steps == *seen {
            // It may have come back meanwhile: a signal between two calls does nothing.
            // SAFETY: no pointers are passed. A thread that has ended is not found.
            unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), doing.thread, libc::SIGURG) };
        }
        *seen = steps;
        true
    });
}
