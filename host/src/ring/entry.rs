//! One request: what the kernel needs, and how far it has come.

use std::any::Any;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;

use io_uring::{opcode, squeue, types};

use super::{Failure, Outcome};
use crate::Buffer;

/// The kernel takes no more pieces in one transfer (UIO_MAXIOV).
const PIECES_MAX: usize = 1024;

/// `BLOCK_URING_CMD_DISCARD`, `_IO(0x12, 0)` in linux/blkdev.h's uapi, since Linux 6.12.
pub(crate) const BLOCK_URING_CMD_DISCARD: u32 = 0x12 << 8;

/// What a write is asked for besides writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteFlags {
    /// On stable storage when it ends.
    pub dsync: bool,
    /// All or nothing after a power cut: for one piece of memory, without page cache, of a length and
    /// at an offset that [`crate::file::atomic_units`] allows.
    pub atomic: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Action {
    #[default]
    Read,
    Write(WriteFlags),
    Sync {
        data_only: bool,
    },
    Allocate {
        mode: i32,
        len: u64,
    },
    Discard {
        len: u64,
    },
    Size,
}

pub(super) enum Next {
    Again,
    Done(Outcome),
}

#[derive(Default)]
pub(super) struct Entry {
    client: u32,
    tag: u32,
    action: Action,
    file: Option<Rc<File>>,
    pub(super) keep: Option<Arc<dyn Any + Send + Sync>>,
    /// Of the next byte to transfer.
    offset: u64,
    done: u64,
    pub(super) left: u64,
    pieces: Vec<libc::iovec>,
    /// The first piece that is not done.
    first: usize,
    statx: Option<Box<libc::statx>>,
}

impl Entry {
    pub(super) fn start(&mut self, client: u32, tag: u32, action: Action, file: Rc<File>, offset: u64) {
        self.client = client;
        self.tag = tag;
        self.action = action;
        self.file = Some(file);
        self.offset = offset;
        if matches!(action, Action::Size) && self.statx.is_none() {
            // SAFETY: all zeroes is a valid value of this C structure of integers.
            self.statx = Some(Box::new(unsafe { std::mem::zeroed() }));
        }
    }

    /// One more piece of memory; joined with the last one where they touch.
    pub(super) fn add(&mut self, buffer: Buffer) {
        if buffer.len == 0 {
            return;
        }
        self.left += buffer.len as u64;
        if let Some(last) = self.pieces.last_mut()
            && last.iov_base as usize + last.iov_len == buffer.address()
            && last.iov_len + buffer.len <= u32::MAX as usize
        {
            last.iov_len += buffer.len;
            return;
        }
        self.pieces.push(libc::iovec { iov_base: buffer.ptr.cast(), iov_len: buffer.len });
    }

    pub(super) fn sqe(&mut self) -> squeue::Entry {
        let file = self.file.as_ref().expect("a started entry has its file");
        let fd = types::Fd(file.as_raw_fd());
        let pieces = &self.pieces[self.first..];
        match self.action {
            Action::Read => match pieces {
                [one] => {
                    opcode::Read::new(fd, one.iov_base.cast(), one.iov_len as u32).offset(self.offset).build()
                }
                many => opcode::Readv::new(fd, many.as_ptr(), many.len().min(PIECES_MAX) as u32)
                    .offset(self.offset)
                    .build(),
            },
            Action::Write(WriteFlags { dsync, atomic }) => {
                let flags =
                    if dsync { libc::RWF_DSYNC } else { 0 } | if atomic { libc::RWF_ATOMIC } else { 0 };
                match pieces {
                    [one] => opcode::Write::new(fd, one.iov_base.cast(), one.iov_len as u32)
                        .offset(self.offset)
                        .rw_flags(flags)
                        .build(),
                    many => opcode::Writev::new(fd, many.as_ptr(), many.len().min(PIECES_MAX) as u32)
                        .offset(self.offset)
                        .rw_flags(flags)
                        .build(),
                }
            }
            Action::Sync { data_only } => {
                let flags = if data_only { types::FsyncFlags::DATASYNC } else { types::FsyncFlags::empty() };
                opcode::Fsync::new(fd).flags(flags).build()
            }
            Action::Allocate { mode, len } => {
                opcode::Fallocate::new(fd, len).offset(self.offset).mode(mode).build()
            }
            Action::Discard { len } => {
                // The range travels in `addr` and in `addr3`, whose place `cmd` begins at.
                let mut command = [0; 16];
                command[..8].copy_from_slice(&len.to_ne_bytes());
                opcode::UringCmd16::new(fd, BLOCK_URING_CMD_DISCARD)
                    .addr(Some(self.offset))
                    .cmd(command)
                    .build()
            }
            Action::Size => {
                let buffer = self.statx.as_mut().expect("made in `start`");
                let buffer: *mut libc::statx = &mut **buffer;
                opcode::Statx::new(fd, c"".as_ptr(), buffer.cast())
                    .flags(libc::AT_EMPTY_PATH)
                    .mask(libc::STATX_SIZE)
                    .build()
            }
        }
    }

    /// The kernel's answer to the last SQE.
    pub(super) fn advance(&mut self, result: i32) -> Next {
        if result < 0 {
            return match -result {
                libc::EINTR | libc::EAGAIN => Next::Again,
                errno => Next::Done(Err(Failure::Errno(errno))),
            };
        }
        match self.action {
            Action::Read | Action::Write(_) => self.transferred(result as u64),
            Action::Sync { .. } | Action::Allocate { .. } | Action::Discard { .. } => Next::Done(Ok(0)),
            Action::Size => Next::Done(Ok(self.statx.as_ref().map_or(0, |statx| statx.stx_size))),
        }
    }

    fn transferred(&mut self, count: u64) -> Next {
        if count == 0 {
            return Next::Done(Err(match self.action {
                Action::Read => Failure::EndOfFile,
                _ => Failure::Errno(libc::EIO),
            }));
        }
        // The kernel never reports more than it was asked for.
        self.left = self.left.saturating_sub(count);
        self.done += count;
        self.offset += count;
        if self.left == 0 {
            return Next::Done(Ok(self.done));
        }
        if matches!(self.action, Action::Write(WriteFlags { atomic: true, .. })) {
            // The kernel does all of it or refuses; going on would make two writes of one.
            return Next::Done(Err(Failure::Errno(libc::EIO)));
        }
        let mut count = count as usize;
        while let Some(piece) = self.pieces.get_mut(self.first) {
            if count < piece.iov_len {
                piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(count).cast();
                piece.iov_len -= count;
                break;
            }
            count -= piece.iov_len;
            self.first += 1;
        }
        Next::Again
    }

    /// Lets go of everything; says whose it was.
    pub(super) fn end(&mut self) -> (u32, u32) {
        self.file = None;
        self.keep = None;
        self.pieces.clear();
        self.first = 0;
        self.left = 0;
        self.done = 0;
        (self.client, self.tag)
    }
}
