//! A worker is killed with writes in flight; its successor must not be overtaken by them.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::Buffer;
use host::map::Mapping;
use host::ring::{Pin, Ring, WriteFlags, settle};
use request::Span;
use standpipe_host as host;

const CHUNK: u32 = 256 << 10;
const CHUNKS: u64 = 64;
const BYTES: u64 = CHUNKS * CHUNK as u64;

struct Scratch(Mapping);

// SAFETY: the mapping lives as long as the value, and the buffer lies within it.
unsafe impl Pin for Scratch {
    fn pin(&self, span: Span) -> Option<Buffer> {
        let end = span.offset.checked_add(u64::from(span.len))?;
        // SAFETY: checked against the mapping's length in the same breath.
        (end <= self.0.len() as u64)
            .then(|| unsafe { Buffer::new(self.0.as_ptr().add(span.offset as usize), span.len as usize) })
    }
}

/// The worker: keeps writes, syncs and fallocates in flight until it is killed.
fn work(path: &Path, direct: bool, keeper: &UnixStream) -> ! {
    let file = host::file::open(path, false, false).expect("opens");
    if direct {
        let _ = host::file::make_direct(&file, 4096).expect("a regular file");
    }
    assert!(host::file::lock(&file, false, Duration::ZERO).expect("locks work"), "the volume is free");
    let file = Rc::new(file);
    let ring = Ring::new(64).expect("a ring");
    host::socket::send(keeper.as_fd(), b"fence", &[ring.fence()]).expect("the keeper listens");
    let client = ring.register();
    // Each round over the file writes other bytes than the one before.
    const PATTERNS: u32 = 8;
    let pages = Mapping::anonymous((PATTERNS * CHUNK) as usize).expect("memory");
    for pattern in 0..PATTERNS as usize {
        let chunk = CHUNK as usize;
        // SAFETY: within the mapping, which nobody else has.
        unsafe { std::ptr::write_bytes(pages.as_ptr().add(pattern * chunk), pattern as u8 + 1, chunk) };
    }
    let memory = Arc::new(Scratch(pages));
    let mut ready = Vec::new();
    for tag in 0u32.. {
        while ring.pending() >= CHUNKS as usize {
            ring.wait().expect("the ring works");
            ring.reap(&mut ready);
            while ring.take(client).is_some() {}
        }
        let pattern = u64::from(tag) / CHUNKS % u64::from(PATTERNS);
        let span = [Span { offset: pattern * u64::from(CHUNK), len: CHUNK, region: 0 }];
        let offset = u64::from(tag) % CHUNKS * u64::from(CHUNK);
        match tag % 32 {
            30 => ring.sync(client, tag, &file, true),
            31 => ring.allocate(client, tag, &file, host::file::PUNCH_HOLE, offset, u64::from(CHUNK)),
            _ => ring.write(
                client,
                tag,
                &file,
                offset,
                &memory,
                &span,
                WriteFlags { dsync: tag % 8 == 0, atomic: false },
            ),
        }
        ring.submit().expect("the ring works");
    }
    unreachable!("killed long before");
}

/// What is on the disk now, whatever the page cache thinks.
fn snapshot(path: &Path) -> Vec<u8> {
    let file = File::open(path).unwrap();
    host::file::make_direct(&file, 4096).unwrap();
    let pages = Mapping::anonymous(BYTES as usize).unwrap();
    // SAFETY: the mapping has BYTES bytes, page aligned as direct reads want it; nobody else has it.
    let aligned = unsafe { std::slice::from_raw_parts_mut(pages.as_ptr(), BYTES as usize) };
    file.read_exact_at(aligned, 0).unwrap();
    aligned.to_vec()
}

/// How the successor waits.
#[derive(Clone, Copy, Debug)]
enum By {
    Fence,
    Lock,
}

fn kill_and_take_over(path: &Path, direct: bool, by: By, after: Duration) -> Duration {
    let (near, far) = UnixStream::pair().unwrap();
    // SAFETY: the child only runs `work`, which never returns to the test harness, and exits
    // without unwinding into it; glibc makes malloc usable after a fork.
    // JUSTIFICATION: only the death of a process ends its ring the way that is tested here.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let _ = std::panic::catch_unwind(|| work(path, direct, &far));
        // SAFETY: ends the process and runs nothing of the harness.
        unsafe { libc::_exit(1) };
    }
    drop(far);
    assert_eq!(host::poll::readable(&[near.as_fd()], Duration::from_secs(10)).unwrap(), 1);
    let mut word = [0; 8];
    let mut peeked = host::socket::take(near.as_fd(), &mut word).unwrap().expect("the worker spoke");
    let fence: OwnedFd = peeked.fds.pop().expect("with its fence");
    std::thread::sleep(after);
    let mut status = 0;
    // SAFETY: the child is ours, and not reaped yet.
    unsafe {
        assert_eq!(libc::kill(child, libc::SIGKILL), 0);
        assert_eq!(libc::waitpid(child, &mut status, 0), child);
    }
    assert!(libc::WIFSIGNALED(status), "the worker ended by itself");

    let begin = Instant::now();
    let patience = Duration::from_secs(20);
    let file = host::file::open(path, false, false).unwrap();
    match by {
        By::Fence => {
            settle(fence.as_fd(), patience).unwrap();
            // One mechanism checks the other: a request in flight would hold the file and its lock.
            assert!(host::file::lock(&file, false, Duration::ZERO).unwrap());
        }
        By::Lock => assert!(host::file::lock(&file, false, patience).unwrap()),
    }
    let waited = begin.elapsed();

    // From here on nobody writes, so the volume must not change any more.
    let (first, second) = (snapshot(path), {
        std::thread::sleep(Duration::from_millis(60));
        snapshot(path)
    });
    assert!(first == second, "a write of the dead worker landed after its successor had waited by {by:?}");
    waited
}

#[test]
fn nothing_of_a_killed_worker_lands_after_settling() {
    let path = std::env::temp_dir().join(format!("standpipe-settle-{}", std::process::id()));
    host::file::create(&path, BYTES).unwrap();
    let mut lock_waits = 0;
    for round in 0..16u64 {
        let by = if round % 2 == 0 { By::Fence } else { By::Lock };
        let direct = round % 8 < 6;
        let waited = kill_and_take_over(&path, direct, by, Duration::from_millis(5 + 7 * round));
        lock_waits += u32::from(matches!(by, By::Lock) && waited > Duration::from_millis(1));
        println!("direct={direct} by={by:?} waited_us={}", waited.as_micros());
    }
    std::fs::remove_file(&path).unwrap();
    assert!(lock_waits > 0, "no kill found a request in flight, so nothing was shown");
}
