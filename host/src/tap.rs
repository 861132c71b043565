//! TAP: a network interface of the host whose other end is a descriptor.
//!
//! Each frame comes and goes with the virtio-net header of 12 bytes (little-endian) that says which
//! checksums and which segmentation were left undone, so that a frame of 64 KiB crosses in one piece.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use request::Span;

use crate::ring::Pin;

/// Bytes of the virtio-net header, with `num_buffers`.
pub const HEADER_BYTES: usize = 12;
/// Pieces that one frame may be in: UIO_MAXIOV less one for the bytes before it.
pub const PIECES_MAX: usize = 1023;

/// Of the kernel's TUN_F_USO4, TUN_F_USO6: Linux 6.2 and newer.
const OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const OFFLOADS_USO: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;
const FLAGS: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// An iovec whose address is a number, so that a queue can go to another thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Piece {
    address: usize,
    len: usize,
}

const _: () = assert!(size_of::<Piece>() == size_of::<libc::iovec>());
const _: () = assert!(align_of::<Piece>() == align_of::<libc::iovec>());

/// One queue of a TAP.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    /// Datagrams may be sent and received unsegmented (USO).
    segments_udp: bool,
    pieces: Vec<Piece>,
}

/// Opens a TAP with as many queues; makes it if there is none of that name. A `%d` in the name is
/// replaced by a free number. The interface lasts as long as one of its queues is open somewhere.
pub fn open(name: &str, queues: u16) -> io::Result<(Vec<Tap>, String)> {
    let mut name = name.to_string();
    let mut taps = Vec::new();
    for _ in 0..queues.max(1) {
        let fd = open_device()?;
        let mut request = interface(&name)?;
        let several = if queues > 1 { libc::IFF_MULTI_QUEUE } else { 0 };
        request.ifr_ifru.ifru_flags = (FLAGS | several) as libc::c_short;
        ioctl(&fd, libc::TUNSETIFF, &mut request)?;
        name = interface_name(&request);
        taps.push(Tap::set_up(fd)?);
    }
    Ok((taps, name))
}

fn open_device() -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: the path is a C string.
    let fd = unsafe { libc::open(c"/dev/net/tun".as_ptr(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was made just now, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What came of sending a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    Whole,
    /// A span is not of the memory that came with it.
    BadSpan,
    /// More than [`PIECES_MAX`] of them.
    TooManyPieces,
    /// The kernel's reason.
    Refused(i32),
}

impl Tap {
    /// A queue that was kept while the worker was away.
    pub fn adopt(fd: OwnedFd) -> io::Result<Self> {
        let mut request = interface("")?;
        ioctl(&fd, libc::TUNGETIFF, &mut request)?;
        // SAFETY: TUNGETIFF has filled in the flags.
        let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
        if flags & FLAGS != FLAGS {
            let message = format!("descriptor is not a TAP with virtio headers (flags {flags:#x})");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Self::set_up(fd)
    }

    fn set_up(fd: OwnedFd) -> io::Result<Self> {
        ioctl(&fd, libc::TUNSETVNETHDRSZ, &mut (HEADER_BYTES as libc::c_int))?;
        ioctl(&fd, libc::TUNSETVNETLE, &mut (1 as libc::c_int))?;
        let segments_udp = match set_offload(&fd, OFFLOADS | OFFLOADS_USO) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                set_offload(&fd, OFFLOADS)?;
                false
            }
            Err(error) => return Err(error),
        };
        Ok(Self { fd, segments_udp, pieces: Vec::new() })
    }

    pub fn segments_udp(&self) -> bool {
        self.segments_udp
    }

    /// The interface's name now: its owner may have changed it.
    pub fn name(&self) -> io::Result<String> {
        let mut request = interface("")?;
        ioctl(&self.fd, libc::TUNGETIFF, &mut request)?;
        Ok(interface_name(&request))
    }

    /// The next frame with its header, and how long they are. `None`: there is none now.
    pub fn receive(&self, into: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            // SAFETY: `into` is ours to be written, for its length.
            let len = unsafe { libc::read(self.fd.as_raw_fd(), into.as_mut_ptr().cast(), into.len()) };
            if let Ok(len) = usize::try_from(len) {
                return Ok(Some(len));
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => return Err(error),
            }
        }
    }

    /// Sends `head` (the header, and the frame's first bytes) and then the spans. Never waits.
    pub fn send<M: Pin>(&mut self, head: &[u8], memory: &M, spans: &[Span]) -> Sent {
        self.pieces.clear();
        self.pieces.push(Piece { address: head.as_ptr().expose_provenance(), len: head.len() });
        for &span in spans {
            if span.len == 0 {
                continue;
            }
            let Some(buffer) = memory.pin(span) else { return Sent::BadSpan };
            if self.pieces.len() > PIECES_MAX {
                return Sent::TooManyPieces;
            }
            self.pieces.push(Piece { address: buffer.ptr.expose_provenance(), len: buffer.len });
        }
        let pieces = self.pieces.as_ptr().cast::<libc::iovec>();
        loop {
            // SAFETY: `Piece` has the layout of an iovec. The first one is `head`; all others are
            // mapped as long as `memory` is borrowed (`Pin`), and the kernel has copied them when the
            // call returns.
            // JUSTIFICATION: the guest may change them meanwhile, which no `IoSlice` may.
            let sent = unsafe { libc::writev(self.fd.as_raw_fd(), pieces, self.pieces.len() as i32) };
            if sent >= 0 {
                return Sent::Whole;
            }
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                errno => return Sent::Refused(errno.unwrap_or(libc::EIO)),
            }
        }
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Brings an interface up, with this MTU.
pub fn bring_up(name: &str, mtu: u32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was made just now, for us alone.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let mut request = interface(name)?;
    request.ifr_ifru.ifru_mtu = libc::c_int::try_from(mtu).map_err(|_| io::ErrorKind::InvalidInput)?;
    ioctl(&socket, libc::SIOCSIFMTU as libc::Ioctl, &mut request)?;
    let mut request = interface(name)?;
    ioctl(&socket, libc::SIOCGIFFLAGS as libc::Ioctl, &mut request)?;
    // SAFETY: SIOCGIFFLAGS has filled in the flags.
    unsafe { request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short };
    ioctl(&socket, libc::SIOCSIFFLAGS as libc::Ioctl, &mut request)
}

fn interface(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zeroes is a valid value of this C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero and ends the name.
    if name.len() >= request.ifr_name.len() || name.bytes().any(|byte| byte == 0 || byte == b'/') {
        let message = format!("{name:?} is no name for a network interface (15 characters at most)");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    Ok(request)
}

fn interface_name(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> =
        request.ifr_name.iter().map(|&byte| byte as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An ioctl of tun(4) or netdevice(7) that takes a pointer.
fn ioctl<T>(fd: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: the requests used in this file read or write an ifreq or an int, and each caller passes
    // the one that its request is defined for.
    match unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// TUNSETOFFLOAD takes its number by value.
fn set_offload(fd: &OwnedFd, offloads: u32) -> io::Result<()> {
    // SAFETY: no pointers are passed.
    match unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_none_are_refused() {
        for name in ["sixteen-letters-", "a/b", "nul\0"] {
            assert!(interface(name).is_err(), "{name:?}");
        }
        assert_eq!(interface_name(&interface("fifteen-letters").unwrap()), "fifteen-letters");
    }

    #[test]
    fn only_taps_are_adopted() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(Tap::adopt(file.into()).is_err());
    }
}
