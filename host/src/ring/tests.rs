use super::*;

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::FromRawFd;
use std::time::Duration;

use crate::map::Mapping;

const PLAIN: WriteFlags = WriteFlags { dsync: false, atomic: false };
const STABLE: WriteFlags = WriteFlags { dsync: true, atomic: false };

/// Memory for the tests: one region.
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

impl Scratch {
    fn new(len: usize) -> Arc<Self> {
        Arc::new(Self(Mapping::anonymous(len).unwrap()))
    }

    fn bytes(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.0.len());
        // SAFETY: within the mapping, and no request is in flight where the tests call this.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(offset), len) }.to_vec()
    }

    fn fill(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.0.len());
        // SAFETY: within the mapping, and no request is in flight where the tests call this.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(offset), bytes.len()) };
    }
}

fn span(offset: u64, len: u32) -> Span {
    Span { offset, len, region: 0 }
}

fn temporary() -> Rc<File> {
    // SAFETY: the name is a C string; the descriptor is made just now, for us alone.
    let file = unsafe {
        let fd = libc::memfd_create(c"ring-test".as_ptr(), libc::MFD_CLOEXEC);
        assert!(fd >= 0);
        File::from_raw_fd(fd)
    };
    Rc::new(file)
}

fn run(ring: &Ring, client: Client) -> Vec<(u32, Outcome)> {
    let mut results = Vec::new();
    let mut ready = Vec::new();
    while ring.pending() > 0 {
        ring.wait().unwrap();
        ring.reap(&mut ready);
    }
    ring.reap(&mut ready);
    while let Some(result) = ring.take(client) {
        results.push(result);
    }
    results
}

#[test]
fn what_is_written_in_pieces_is_read_back_in_other_pieces() {
    let ring = Ring::new(8).unwrap();
    let client = ring.register();
    let file = temporary();
    let memory = Scratch::new(1 << 16);
    let pattern: Vec<u8> = (0..3000u32).map(|i| (i % 251) as u8).collect();
    memory.fill(100, &pattern[..1000]);
    memory.fill(5000, &pattern[1000..]);
    ring.write(client, 1, &file, 7, &memory, &[span(100, 1000), span(5000, 2000)], STABLE);
    assert_eq!(run(&ring, client), [(1, Ok(3000))]);
    ring.read(client, 2, &file, 7, &memory, &[span(20_000, 1), span(30_000, 2999), span(0, 0)]);
    assert_eq!(run(&ring, client), [(2, Ok(3000))]);
    assert_eq!(memory.bytes(20_000, 1), pattern[..1]);
    assert_eq!(memory.bytes(30_000, 2999), pattern[1..]);
    assert_eq!(Arc::strong_count(&memory), 1, "an ended request holds nothing");
    assert_eq!(Rc::strong_count(&file), 1);
}

#[test]
fn more_requests_than_places_all_end_once() {
    let ring = Ring::new(4).unwrap();
    let client = ring.register();
    let file = temporary();
    let memory = Scratch::new(1 << 16);
    for tag in 0..1000u32 {
        memory.fill(tag as usize * 4, &tag.to_le_bytes());
        let span = [span(u64::from(tag) * 4, 4)];
        ring.write(client, tag, &file, u64::from(tag) * 4, &memory, &span, PLAIN);
    }
    let mut tags: Vec<u32> = run(&ring, client)
        .into_iter()
        .inspect(|(_, outcome)| assert_eq!(*outcome, Ok(4)))
        .map(|(tag, _)| tag)
        .collect();
    tags.sort_unstable();
    assert_eq!(tags, (0..1000).collect::<Vec<_>>());
    let mut content = Vec::new();
    let mut reader = &*file;
    reader.seek(SeekFrom::Start(0)).unwrap();
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content, memory.bytes(0, 4000));
}

#[test]
fn a_transfer_of_more_pieces_than_the_kernel_takes_is_continued() {
    let ring = Ring::new(4).unwrap();
    let client = ring.register();
    let file = temporary();
    let memory = Scratch::new(1 << 20);
    let pattern: Vec<u8> = (0..6000u32).map(|i| (i % 241) as u8).collect();
    (&*file).write_all(&pattern).unwrap();
    // Every other byte, so that no two pieces touch and are joined.
    let spans: Vec<Span> = (0..6000).map(|i| span(i * 2, 1)).collect();
    ring.read(client, 9, &file, 0, &memory, &spans);
    assert_eq!(run(&ring, client), [(9, Ok(6000))]);
    let got: Vec<u8> = memory.bytes(0, 12_000).into_iter().step_by(2).collect();
    assert_eq!(got, pattern);
}

#[test]
fn failures_are_told_apart() {
    let ring = Ring::new(4).unwrap();
    let client = ring.register();
    let file = temporary();
    let memory = Scratch::new(1 << 16);
    file.set_len(100).unwrap();
    ring.read(client, 1, &file, 50, &memory, &[span(0, 51)]);
    assert_eq!(run(&ring, client), [(1, Err(Failure::EndOfFile))]);
    ring.read(client, 2, &file, 0, &memory, &[span(1 << 16, 1)]);
    assert_eq!(run(&ring, client), [(2, Err(Failure::BadSpan))]);
    let read_only = Rc::new(File::open("/proc/self/exe").unwrap());
    ring.write(client, 3, &read_only, 0, &memory, &[span(0, 1)], PLAIN);
    assert_eq!(run(&ring, client), [(3, Err(Failure::Errno(libc::EBADF)))]);
    let full = Rc::new(File::options().write(true).open("/dev/full").unwrap());
    ring.write(client, 4, &full, 0, &memory, &[span(0, 1)], PLAIN);
    assert_eq!(run(&ring, client), [(4, Err(Failure::Errno(libc::ENOSPC)))]);
    // Memory has no atomic writes: the kernel was asked for one.
    let flags = WriteFlags { dsync: false, atomic: true };
    ring.write(client, 5, &file, 0, &memory, &[span(0, 4096)], flags);
    assert_eq!(run(&ring, client), [(5, Err(Failure::Errno(libc::EOPNOTSUPP)))]);
}

#[test]
fn sync_allocate_size_and_posted_results_end_too() {
    let ring = Ring::new(4).unwrap();
    let client = ring.register();
    let file = temporary();
    file.set_len(12_345).unwrap();
    ring.size(client, 1, &file);
    assert_eq!(run(&ring, client), [(1, Ok(12_345))]);
    ring.allocate(client, 2, &file, crate::file::PUNCH_HOLE, 0, 4096);
    assert_eq!(run(&ring, client), [(2, Ok(0))]);
    ring.sync(client, 3, &file, true);
    assert_eq!(run(&ring, client), [(3, Ok(0))]);
    ring.post(client, 4, Err(Failure::EndOfFile));
    let mut ready = Vec::new();
    ring.reap(&mut ready);
    assert_eq!(ready, [client]);
    assert_eq!(ring.take(client), Some((4, Err(Failure::EndOfFile))));
    assert_eq!(ring.take(client), None);
}

#[test]
fn clients_get_their_own_results_and_none_of_a_predecessor() {
    let ring = Ring::new(4).unwrap();
    let (one, two) = (ring.register(), ring.register());
    let file = temporary();
    ring.size(one, 1, &file);
    ring.size(two, 2, &file);
    while ring.pending() > 0 {
        ring.wait().unwrap();
        ring.reap(&mut Vec::new());
    }
    assert_eq!(ring.take(two), Some((2, Ok(0))));
    ring.size(two, 3, &file);
    ring.unregister(two);
    assert_eq!(ring.take(two), None);
    assert_eq!(run(&ring, one), [(1, Ok(0))]);
    let successor = ring.register();
    assert_eq!(successor.index, two.index, "the place is free again");
    assert_eq!(ring.take(successor), None);
    assert_eq!(ring.take(two), None);
}

#[test]
fn a_dropped_ring_has_waited_for_the_kernel() {
    let memory = Scratch::new(1 << 22);
    let file = temporary();
    file.set_len(1 << 22).unwrap();
    {
        let ring = Ring::new(4).unwrap();
        let client = ring.register();
        for tag in 0..8 {
            ring.read(client, tag, &file, 0, &memory, &[span(u64::from(tag) << 19, 1 << 19)]);
        }
        ring.submit().unwrap();
    }
    assert_eq!(Arc::strong_count(&memory), 1);
    assert_eq!(Rc::strong_count(&file), 1);
}

#[test]
fn the_fence_hangs_up_when_the_ring_is_gone() {
    let ring = Ring::new(4).unwrap();
    let fence = ring.fence().try_clone_to_owned().unwrap();
    let error = settle(fence.as_fd(), Duration::from_millis(5)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    drop(ring);
    settle(fence.as_fd(), Duration::from_secs(20)).unwrap();
}
