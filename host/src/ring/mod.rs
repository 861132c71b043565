//! io_uring, as the disks of one lane share it.
//!
//! ```text
//!   disk --read/write/..--> backlog --submit()--> SQ --kernel--> CQ --reap()--> client's queue --take()--> disk
//!                              ^                                   |
//!                              +------ rest of a short transfer ---+
//! ```
//!
//! Who owns what: an [`Entry`] in the slab owns everything that the kernel may touch for a request,
//! from the moment it is accepted until its CQE has been read: the open file, the `Arc` of the
//! memory, the iovec array, the statx buffer. An entry's index is the CQE's `user_data`. The slab may
//! move entries when it grows, and does not move what they own on the heap.
//!
//! Requests outlive their worker: the kernel goes on with what a killed process had started, and a
//! write that is still on its way must not land on top of what the successor does. See [`settle`]
//! for how a successor waits. Two choices follow from it: at most as many requests are in flight as
//! the CQ has places, so that it never overflows; and the ring is made without SINGLE_ISSUER,
//! DEFER_TASKRUN and SQPOLL, whose completions want a task that may be dead.

mod entry;
mod settle;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use io_uring::IoUring;
use request::Span;

use crate::Buffer;
pub(crate) use entry::BLOCK_URING_CMD_DISCARD;
pub use entry::WriteFlags;
use entry::{Action, Entry, Next};
pub use settle::settle;

/// Memory that the kernel may be sent to.
///
/// # Safety
/// A [`Buffer`] that `pin` returns stays mapped, shared and writable as long as the value lives.
pub unsafe trait Pin: Send + Sync + 'static {
    /// The bytes of a span; `None` if it is not of this memory.
    fn pin(&self, span: Span) -> Option<Buffer>;
}

/// A user of the ring: results come back by client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client {
    index: u32,
    generation: u32,
}

/// Why a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Errno(i32),
    /// The file ends before the transfer does.
    EndOfFile,
    /// A span is not of the memory that came with it.
    BadSpan,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Errno(errno) => io::Error::from_raw_os_error(errno),
            Failure::EndOfFile => io::Error::new(io::ErrorKind::UnexpectedEof, "the file is too short"),
            Failure::BadSpan => io::Error::new(io::ErrorKind::InvalidInput, "not in guest memory"),
        }
    }
}

/// Bytes transferred, or the size asked for.
pub type Outcome = Result<u64, Failure>;

/// One lane's io_uring.
pub struct Ring {
    inner: RefCell<Inner>,
    fence: OwnedFd,
}

struct Inner {
    uring: IoUring,
    entries: Vec<Entry>,
    free: Vec<u32>,
    /// Accepted, and not in the SQ yet.
    backlog: VecDeque<u32>,
    /// In the SQ or in the kernel, or in the CQ and not read yet.
    in_flight: u32,
    in_flight_max: u32,
    clients: Vec<Outbox>,
    /// Clients whose outbox was empty and is not any more.
    ready: Vec<u32>,
}

#[derive(Default)]
struct Outbox {
    generation: u32,
    closed: bool,
    /// Accepted and not delivered.
    outstanding: u32,
    done: VecDeque<(u32, Outcome)>,
}

impl Ring {
    /// `entries`: places in the SQ. The CQ has twice as many, and that many requests are in flight
    /// at most; the rest wait inside.
    pub fn new(entries: u32) -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_clamp()
            // One faulty SQE must not hold back those behind it.
            .setup_submit_all()
            // Completions wait for our next system call instead of interrupting the polling loop;
            // the flag tells `reap` that there are some.
            .setup_coop_taskrun()
            .setup_taskrun_flag()
            .build(entries)?;
        let fence = settle::fence(&uring)?;
        let in_flight_max = uring.params().cq_entries();
        let inner = Inner {
            uring,
            entries: Vec::new(),
            free: Vec::new(),
            backlog: VecDeque::new(),
            in_flight: 0,
            in_flight_max,
            clients: Vec::new(),
            ready: Vec::new(),
        };
        Ok(Self { inner: RefCell::new(inner), fence })
    }

    pub fn register(&self) -> Client {
        let mut inner = self.inner.borrow_mut();
        let vacant = inner.clients.iter().position(|outbox| outbox.closed && outbox.outstanding == 0);
        let index = vacant.unwrap_or_else(|| {
            inner.clients.push(Outbox::default());
            inner.clients.len() - 1
        });
        let outbox = &mut inner.clients[index];
        outbox.generation = outbox.generation.wrapping_add(1);
        outbox.closed = false;
        Client { index: index as u32, generation: outbox.generation }
    }

    /// Results of the client that are still to come will be thrown away.
    pub fn unregister(&self, client: Client) {
        let mut inner = self.inner.borrow_mut();
        if let Some(outbox) = inner.outbox(client) {
            outbox.closed = true;
            outbox.outstanding -= outbox.done.len() as u32;
            outbox.done.clear();
        }
    }

    /// Reads all bytes of the spans, from `offset` on, or fails. `memory` is held until then.
    pub fn read<M: Pin>(
        &self,
        client: Client,
        tag: u32,
        file: &Rc<File>,
        offset: u64,
        memory: &Arc<M>,
        spans: &[Span],
    ) {
        self.transfer(client, tag, Action::Read, file, offset, memory, spans);
    }

    /// Writes all bytes of the spans, from `offset` on, or fails. `memory` is held until then.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a different thing, and a struct would be built once a request"
    )]
    pub fn write<M: Pin>(
        &self,
        client: Client,
        tag: u32,
        file: &Rc<File>,
        offset: u64,
        memory: &Arc<M>,
        spans: &[Span],
        flags: WriteFlags,
    ) {
        self.transfer(client, tag, Action::Write(flags), file, offset, memory, spans);
    }

    #[expect(clippy::too_many_arguments, reason = "the union of `read` and `write`")]
    fn transfer<M: Pin>(
        &self,
        client: Client,
        tag: u32,
        action: Action,
        file: &Rc<File>,
        offset: u64,
        memory: &Arc<M>,
        spans: &[Span],
    ) {
        let mut inner = self.inner.borrow_mut();
        let index = inner.accept(client, tag, action, file, offset);
        let entry = &mut inner.entries[index as usize];
        for &span in spans {
            let Some(buffer) = memory.pin(span) else {
                return inner.finish(index, Err(Failure::BadSpan));
            };
            entry.add(buffer);
        }
        entry.keep = Some(Arc::clone(memory) as Arc<_>);
        if entry.left == 0 {
            return inner.finish(index, Ok(0));
        }
        inner.backlog.push_back(index);
    }

    /// What was written is on stable storage when it ends. `data_only`: without the timestamps.
    pub fn sync(&self, client: Client, tag: u32, file: &Rc<File>, data_only: bool) {
        self.inner.borrow_mut().enqueue(client, tag, Action::Sync { data_only }, file, 0);
    }

    /// fallocate(2), with its `mode`.
    pub fn allocate(&self, client: Client, tag: u32, file: &Rc<File>, mode: i32, offset: u64, len: u64) {
        self.inner.borrow_mut().enqueue(client, tag, Action::Allocate { mode, len }, file, offset);
    }

    /// Discards on a block device, where [`crate::file::discards_by_ring`] said that the kernel can.
    pub fn discard(&self, client: Client, tag: u32, file: &Rc<File>, offset: u64, len: u64) {
        self.inner.borrow_mut().enqueue(client, tag, Action::Discard { len }, file, offset);
    }

    /// The file's size, as the outcome.
    pub fn size(&self, client: Client, tag: u32, file: &Rc<File>) {
        self.inner.borrow_mut().enqueue(client, tag, Action::Size, file, 0);
    }

    /// Gives the client a result that needed no kernel; `reap` names the client.
    pub fn post(&self, client: Client, tag: u32, outcome: Outcome) {
        let mut inner = self.inner.borrow_mut();
        if let Some(outbox) = inner.outbox(client) {
            outbox.outstanding += 1;
            inner.deliver(client.index, tag, outcome);
        }
    }

    /// Tells the kernel about everything accepted since the last time: one system call a turn,
    /// none if there is nothing. To be called after `reap` too, which may have found short transfers
    /// to continue. False: the kernel is short of memory, and wants to be asked again soon.
    pub fn submit(&self) -> io::Result<bool> {
        self.inner.borrow_mut().submit()
    }

    /// Moves results from the CQ to their clients, and names the clients that have some: each
    /// must then be emptied with `take`. No system call unless the kernel flags completions that
    /// wait for one.
    pub fn reap(&self, ready: &mut Vec<Client>) {
        let mut inner = self.inner.borrow_mut();
        inner.reap();
        let Inner { ready: named, clients, .. } = &mut *inner;
        ready.extend(
            named.drain(..).map(|index| Client { index, generation: clients[index as usize].generation }),
        );
    }

    pub fn take(&self, client: Client) -> Option<(u32, Outcome)> {
        let mut inner = self.inner.borrow_mut();
        let outbox = inner.outbox(client)?;
        let result = outbox.done.pop_front()?;
        outbox.outstanding -= 1;
        Some(result)
    }

    /// Requests that were accepted and whose results have not reached their clients' queues.
    pub fn pending(&self) -> usize {
        let inner = self.inner.borrow();
        inner.backlog.len() + inner.in_flight as usize
    }

    /// Submits, and sleeps until at least one result has come or nothing is pending. For those who
    /// have nothing else to wait for: lanes sleep on the descriptor.
    pub fn wait(&self) -> io::Result<()> {
        let mut inner = self.inner.borrow_mut();
        inner.submit()?;
        if inner.in_flight > 0 {
            match inner.uring.submit_and_wait(1) {
                Err(error) if !is_transient(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Hangs up when the ring is gone and the last of its requests has ended: for the keeper, before
    /// the first request; see [`settle`].
    pub fn fence(&self) -> BorrowedFd<'_> {
        self.fence.as_fd()
    }

    /// Readable when there are results: for epoll.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        let raw = self.inner.borrow().uring.as_raw_fd();
        // SAFETY: the ring owns the descriptor, never closes or replaces it, and is borrowed.
        unsafe { BorrowedFd::borrow_raw(raw) }
    }
}

impl Inner {
    fn outbox(&mut self, client: Client) -> Option<&mut Outbox> {
        let outbox = self.clients.get_mut(client.index as usize)?;
        (outbox.generation == client.generation && !outbox.closed).then_some(outbox)
    }

    fn accept(&mut self, client: Client, tag: u32, action: Action, file: &Rc<File>, offset: u64) -> u32 {
        let outbox = self.outbox(client).expect("a request comes from a registered client");
        outbox.outstanding += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::default());
            (self.entries.len() - 1) as u32
        });
        self.entries[index as usize].start(client.index, tag, action, Rc::clone(file), offset);
        index
    }

    fn enqueue(&mut self, client: Client, tag: u32, action: Action, file: &Rc<File>, offset: u64) {
        let index = self.accept(client, tag, action, file, offset);
        self.backlog.push_back(index);
    }

    fn submit(&mut self) -> io::Result<bool> {
        loop {
            self.fill();
            if self.uring.submission().is_empty() {
                return Ok(true);
            }
            match self.uring.submit() {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if is_transient(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// From the backlog into the SQ, as much as fits.
    fn fill(&mut self) {
        let Self { uring, backlog, entries, in_flight, in_flight_max, .. } = self;
        let mut queue = uring.submission();
        while *in_flight < *in_flight_max && !queue.is_full() {
            let Some(index) = backlog.pop_front() else { return };
            let sqe = entries[index as usize].sqe().user_data(u64::from(index));
            // SAFETY: everything the SQE points to is owned by the entry, on the heap, and stays
            // there until `reap` has read the CQE: only `finish` empties an entry, and only `Drop`
            // ends the slab, after the last CQE.
            // JUSTIFICATION: the borrow lasts as long as a kernel's work, which no lifetime names.
            let pushed = unsafe { queue.push(&sqe) };
            pushed.expect("the SQ was not full");
            *in_flight += 1;
        }
    }

    fn reap(&mut self) {
        if self.uring.submission().taskrun() {
            const GETEVENTS: u32 = 1; // IORING_ENTER_GETEVENTS
            // An error (EINTR, or EBUSY) leaves the flag set, and the next turn tries again.
            // SAFETY: no argument is passed, so the kernel reads none.
            let _ = unsafe { self.uring.submitter().enter::<()>(0, 0, GETEVENTS, None) };
        }
        loop {
            // One at a time: `complete` needs all of `self`. A CQE is 16 bytes in shared memory.
            let Some(cqe) = self.uring.completion().next() else { return };
            self.in_flight -= 1;
            self.complete(cqe.user_data() as u32, cqe.result());
        }
    }

    fn complete(&mut self, index: u32, result: i32) {
        match self.entries[index as usize].advance(result) {
            Next::Again => self.backlog.push_front(index),
            Next::Done(outcome) => self.finish(index, outcome),
        }
    }

    fn finish(&mut self, index: u32, outcome: Outcome) {
        let entry = &mut self.entries[index as usize];
        let (client, tag) = entry.end();
        self.free.push(index);
        self.deliver(client, tag, outcome);
    }

    fn deliver(&mut self, client: u32, tag: u32, outcome: Outcome) {
        let outbox = &mut self.clients[client as usize];
        if outbox.closed {
            outbox.outstanding -= 1;
            return;
        }
        if outbox.done.is_empty() {
            self.ready.push(client);
        }
        outbox.done.push_back((tag, outcome));
    }
}

/// The kernel could not take requests just now, and lost none.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

impl Drop for Inner {
    /// Waits for what the kernel still does: it reads and writes memory that the entries hold.
    fn drop(&mut self) {
        // What the kernel has not seen will not be done.
        self.backlog.clear();
        while self.in_flight > 0 {
            match self.uring.submit_and_wait(1) {
                Err(error) if !is_transient(&error) => {
                    // Nobody can say when the kernel is done: leave it all of it for good.
                    std::mem::forget(std::mem::take(&mut self.entries));
                    return;
                }
                _ => {}
            }
            while self.uring.completion().next().is_some() {
                self.in_flight -= 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
