//! One vhost-user connection, from the front end's side: the order of messages is QEMU's.
//!
//! ```text
//! connect -> negotiate -> set_memory -> inflight -> start each queue -> driver_ok -> ... -> stop each queue
//! ```
//!
//! With REPLY_ACK each request is acknowledged before the next one is sent; without it, what the
//! back end refuses shows only as a connection that ends.

use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use host::socket;

use super::error::{Error, Result, doing};
use super::message::{
    BACKEND_CONFIG_CHANGE, BODY_BYTES_MAX, HEADER_BYTES, Header, Inflight, MemoryRegion, NEED_REPLY, REPLY,
    Request, VERSION, VERSION_MASK, feature, part, protocol, vring_addresses, vring_state,
};
use super::queue::Queue;
use super::ram::Ram;

/// A back end that has not answered by then is taken for dead. QEMU waits without end here; five
/// seconds is what it gives a vfio-user server, and a loaded machine wants some more.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// What the front end takes when the back end offers it.
#[derive(Debug, Clone, Copy)]
pub struct Wishes {
    /// Device and ring features. VERSION_1 and PROTOCOL_FEATURES are taken in any case.
    pub features: u64,
    pub protocol: u64,
}

/// Every protocol feature that this front end can use.
pub const PROTOCOL_ALL: u64 = protocol::MQ
    | protocol::LOG_SHMFD
    | protocol::REPLY_ACK
    | protocol::MTU
    | protocol::BACKEND_REQ
    | protocol::CONFIG
    | protocol::INFLIGHT_SHMFD
    | protocol::RESET_DEVICE
    | protocol::CONFIGURE_MEM_SLOTS
    | protocol::STATUS;

/// Something that the back end says of its own accord.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    ConfigChanged,
    Other(u32),
}

pub struct Session {
    socket: UnixStream,
    offered: u64,
    features: u64,
    protocol_offered: u64,
    protocol: u64,
    queues_max: u64,
    backend_channel: Option<UnixStream>,
    /// Kept while the session lives: it is what a front end hands to the back end's successor.
    inflight: Option<(Inflight, OwnedFd)>,
}

impl Session {
    /// Connects to a back end that listens, as QEMU does, trying until `patience` is over.
    pub fn connect(path: &Path, patience: Duration) -> Result<Session> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(socket) => return Ok(Session::over(socket)),
                Err(source) if start.elapsed() >= patience => {
                    return Err(Error::Unsupported(format!(
                        "cannot connect to {}: {source}",
                        path.display()
                    )));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Listens, and takes the first back end that connects.
    pub fn listen(path: &Path, patience: Duration) -> Result<Session> {
        match std::fs::remove_file(path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(Error::System { doing: "removing an old socket", source });
            }
            _ => {}
        }
        let listener = UnixListener::bind(path).map_err(doing("binding a vhost-user socket"))?;
        let wait = host::poll::readable(&[listener.as_fd()], patience);
        if wait.map_err(doing("waiting for a back end"))? == 0 {
            return Err(Error::Stalled(format!("no back end connected to {}", path.display())));
        }
        let (socket, _) = listener.accept().map_err(doing("accepting a back end"))?;
        Ok(Session::over(socket))
    }

    fn over(socket: UnixStream) -> Session {
        Session {
            socket,
            offered: 0,
            features: 0,
            protocol_offered: 0,
            protocol: 0,
            queues_max: 1,
            backend_channel: None,
            inflight: None,
        }
    }

    /// Agrees on features and takes the device over. What was agreed is in `features` and
    /// `protocol` afterwards.
    pub fn negotiate(&mut self, wishes: Wishes) -> Result<()> {
        self.offered = self.ask_u64(Request::GetFeatures)?;
        if self.offered & feature::VERSION_1 == 0 {
            return Err(Error::Unsupported("the back end has no VIRTIO_F_VERSION_1".into()));
        }
        self.features = self.offered & (wishes.features | feature::VERSION_1 | feature::PROTOCOL_FEATURES);
        if self.features & feature::PROTOCOL_FEATURES != 0 {
            self.protocol_offered = self.ask_u64(Request::GetProtocolFeatures)?;
            let agreed = self.protocol_offered & wishes.protocol & PROTOCOL_ALL;
            self.tell(Request::SetProtocolFeatures, &agreed.to_le_bytes(), &[])?;
            self.protocol = agreed;
            if agreed & protocol::MQ != 0 {
                self.queues_max = self.ask_u64(Request::GetQueueNum)?;
            }
            if agreed & protocol::BACKEND_REQ != 0 {
                let (ours, theirs) = UnixStream::pair().map_err(doing("making the back end's channel"))?;
                ours.set_nonblocking(true).map_err(doing("making the back end's channel"))?;
                self.tell(Request::SetBackendReqFd, &[], &[theirs.as_fd()])?;
                self.backend_channel = Some(ours);
            }
        }
        self.tell(Request::SetOwner, &[], &[])?;
        self.set_features(self.features)
    }

    /// Sends SET_FEATURES again, as QEMU does to turn dirty logging on and off.
    pub fn set_features(&mut self, features: u64) -> Result<()> {
        self.features = features;
        self.tell(Request::SetFeatures, &features.to_le_bytes(), &[])
    }

    pub fn offered(&self) -> u64 {
        self.offered
    }
    pub fn features(&self) -> u64 {
        self.features
    }
    pub fn protocol_offered(&self) -> u64 {
        self.protocol_offered
    }
    pub fn has(&self, protocol_bit: u64) -> bool {
        self.protocol & protocol_bit != 0
    }
    /// Queues that the back end has, where it can say (MQ); otherwise 1.
    pub fn queues_max(&self) -> u64 {
        self.queues_max
    }

    /// Gives the guest's memory: region by region where the back end has memory slots, in one
    /// table where it has not.
    pub fn set_memory(&mut self, ram: &Ram) -> Result<()> {
        let regions: Vec<MemoryRegion> = ram.regions().collect();
        if self.has(protocol::CONFIGURE_MEM_SLOTS) {
            let slots = self.ask_u64(Request::GetMaxMemSlots)?;
            if (regions.len() as u64) > slots {
                return Err(Error::Unsupported(format!(
                    "{} regions, but {slots} memory slots",
                    regions.len()
                )));
            }
            for region in regions {
                self.add_region(region, ram.file())?;
            }
            return Ok(());
        }
        // The table has eight entries at most ("Memory regions description").
        if regions.len() > 8 {
            return Err(Error::Unsupported("more than 8 regions need CONFIGURE_MEM_SLOTS".into()));
        }
        self.set_memory_table(&regions, ram.file())
    }

    pub fn set_memory_table(&mut self, regions: &[MemoryRegion], file: BorrowedFd<'_>) -> Result<()> {
        let mut body = Vec::with_capacity(8 + 32 * regions.len());
        body.extend((regions.len() as u32).to_le_bytes());
        body.extend([0; 4]);
        for region in regions {
            body.extend(region.encode());
        }
        self.tell(Request::SetMemTable, &body, &vec![file; regions.len()])
    }

    pub fn add_region(&mut self, region: MemoryRegion, file: BorrowedFd<'_>) -> Result<()> {
        self.tell(Request::AddMemReg, &single_region(region), &[file])
    }

    /// Takes a region away. The fd is sent too: some back ends want it, all must take it.
    pub fn remove_region(&mut self, region: MemoryRegion) -> Result<()> {
        self.tell(Request::RemMemReg, &single_region(region), &[])
    }

    /// Lets the back end make the region for its requests in flight, and gives it back to it, for
    /// `queues` queues of `queue_size`. Without INFLIGHT_SHMFD this does nothing.
    pub fn set_up_inflight(&mut self, queues: u16, queue_size: u16) -> Result<()> {
        if !self.has(protocol::INFLIGHT_SHMFD) {
            return Ok(());
        }
        let wanted = Inflight { bytes: 0, offset: 0, queues, queue_size };
        self.send(Request::GetInflightFd, 0, &wanted.encode(), &[])?;
        let (body, mut fds) = self.receive(Request::GetInflightFd)?;
        let region = Inflight::decode(&body)?;
        let (Some(fd), true) = (fds.pop(), fds.is_empty()) else {
            return Err(Error::Protocol("GET_INFLIGHT_FD came without exactly one fd".into()));
        };
        if region.bytes == 0 {
            return Err(Error::Protocol("GET_INFLIGHT_FD returned an empty region".into()));
        }
        self.inflight = Some((region, fd));
        self.give_inflight()
    }

    /// Sends the region in flight (again), for a back end that has come back.
    fn give_inflight(&mut self) -> Result<()> {
        if let Some((region, fd)) = self.inflight.take() {
            let told = self.tell(Request::SetInflightFd, &region.encode(), &[fd.as_fd()]);
            self.inflight = Some((region, fd));
            told?;
        }
        Ok(())
    }

    /// Connects to a back end that has come back with nothing but the socket's name, and carries
    /// on, as QEMU does with `reconnect-ms`: same features, same memory, same region in flight.
    /// The queues are started again by the caller, from `Queue::base`.
    pub fn reconnect(&mut self, path: &Path, patience: Duration, ram: &Ram) -> Result<()> {
        let mut next = Session::connect(path, patience)?;
        next.negotiate(Wishes { features: self.features, protocol: self.protocol })?;
        if next.features != self.features {
            return Err(Error::Protocol(format!(
                "features changed from {:#x} to {:#x}",
                self.features, next.features
            )));
        }
        next.inflight = self.inflight.take();
        *self = next;
        self.set_memory(ram)?;
        self.give_inflight()
    }

    /// Hands a queue to the device, at `Queue::base`, and enables it.
    pub fn start(&mut self, queue: &Queue) -> Result<()> {
        let index = queue.index;
        self.tell(Request::SetVringNum, &vring_state(index, queue.size as u32), &[])?;
        self.tell(Request::SetVringBase, &vring_state(index, queue.base()), &[])?;
        self.tell(Request::SetVringAddr, &vring_addresses(index, 0, queue.addresses, 0), &[])?;
        self.tell(Request::SetVringCall, &(index as u64).to_le_bytes(), &[queue.call.as_fd()])?;
        self.tell(Request::SetVringKick, &(index as u64).to_le_bytes(), &[queue.kick.as_fd()])?;
        if self.features & feature::PROTOCOL_FEATURES != 0 {
            self.enable(index, true)?;
        }
        Ok(())
    }

    /// Says that the driver is ready, after its queues were started. A back end that offers STATUS
    /// does not look at the rings before.
    pub fn set_driver_ok(&mut self) -> Result<()> {
        const ACKNOWLEDGE: u64 = 1;
        const DRIVER: u64 = 2;
        const DRIVER_OK: u64 = 4;
        const FEATURES_OK: u64 = 8;
        if !self.has(protocol::STATUS) {
            return Ok(());
        }
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK)?;
        let status = self.ask_u64(Request::GetStatus)?;
        if status & FEATURES_OK == 0 {
            return Err(Error::Protocol(format!("the back end did not keep FEATURES_OK ({status:#x})")));
        }
        self.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK)
    }

    pub fn enable(&mut self, index: u32, enabled: bool) -> Result<()> {
        self.tell(Request::SetVringEnable, &vring_state(index, enabled as u32), &[])
    }

    /// Takes a queue back. The value is the back end's position, which a stopped queue starts from.
    pub fn stop(&mut self, index: u32) -> Result<u32> {
        self.send(Request::GetVringBase, 0, &vring_state(index, 0), &[])?;
        let (body, _) = self.receive(Request::GetVringBase)?;
        let answered = u32::from_le_bytes(part(&body, 0)?);
        if answered != index {
            return Err(Error::Protocol(format!("GET_VRING_BASE of queue {index} answered for {answered}")));
        }
        Ok(u32::from_le_bytes(part(&body, 4)?))
    }

    /// Reads `bytes` of the device's configuration space. Needs CONFIG.
    pub fn config(&mut self, bytes: usize) -> Result<Vec<u8>> {
        if !self.has(protocol::CONFIG) {
            return Err(Error::Unsupported("the back end does not offer CONFIG".into()));
        }
        let mut body = vec![0; 12 + bytes];
        body[4..8].copy_from_slice(&(bytes as u32).to_le_bytes());
        self.send(Request::GetConfig, 0, &body, &[])?;
        let (reply, _) = self.receive(Request::GetConfig)?;
        if reply.len() != 12 + bytes {
            return Err(Error::Protocol(format!(
                "GET_CONFIG of {bytes} bytes was answered with {}",
                reply.len()
            )));
        }
        Ok(reply[12..].to_vec())
    }

    pub fn set_config(&mut self, offset: u32, bytes: &[u8]) -> Result<()> {
        let mut body = Vec::with_capacity(12 + bytes.len());
        body.extend(offset.to_le_bytes());
        body.extend((bytes.len() as u32).to_le_bytes());
        body.extend([0; 4]);
        body.extend(bytes);
        self.tell(Request::SetConfig, &body, &[])
    }

    pub fn set_mtu(&mut self, mtu: u64) -> Result<()> {
        self.tell(Request::NetSetMtu, &mtu.to_le_bytes(), &[])
    }

    pub fn set_status(&mut self, status: u64) -> Result<()> {
        self.tell(Request::SetStatus, &status.to_le_bytes(), &[])
    }

    pub fn reset_device(&mut self) -> Result<()> {
        self.tell(Request::ResetDevice, &[], &[])
    }

    /// Gives the dirty-page log: `bytes` of `file` from its start. The back end always answers.
    pub fn set_log(&mut self, bytes: u64, file: BorrowedFd<'_>) -> Result<()> {
        let mut body = [0; 16];
        body[..8].copy_from_slice(&bytes.to_le_bytes());
        self.send(Request::SetLogBase, 0, &body, &[file])?;
        self.receive(Request::SetLogBase).map(drop)
    }

    /// Turns dirty logging of a queue's used ring on or off; needs a log.
    pub fn log_queue(&mut self, queue: &Queue, used_ring_guest_address: Option<u64>) -> Result<()> {
        let flags = used_ring_guest_address.is_some() as u32;
        let log = used_ring_guest_address.unwrap_or(0);
        self.tell(Request::SetVringAddr, &vring_addresses(queue.index, flags, queue.addresses, log), &[])
    }

    /// What the back end has said of its own accord, if anything.
    pub fn notice(&mut self) -> Result<Option<Notice>> {
        let Some(channel) = &mut self.backend_channel else {
            return Ok(None);
        };
        let mut header = [0; HEADER_BYTES];
        match channel.read(&mut header) {
            Ok(HEADER_BYTES) => {}
            Ok(0) => return Ok(None),
            Ok(_) => return Err(Error::Protocol("half a header on the back end's channel".into())),
            Err(source) if source.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(source) => return Err(Error::System { doing: "reading the back end's channel", source }),
        }
        let header = Header::decode(header);
        let mut body = vec![0; (header.size as usize).min(BODY_BYTES_MAX)];
        channel.read_exact(&mut body).map_err(doing("reading the back end's channel"))?;
        if header.flags & NEED_REPLY != 0 {
            let reply = Header { request: header.request, flags: VERSION | REPLY, size: 8 };
            let bytes = [&reply.encode()[..], &[0; 8]].concat();
            socket::send(channel.as_fd(), &bytes, &[]).map_err(doing("answering the back end"))?;
        }
        Ok(Some(match header.request {
            BACKEND_CONFIG_CHANGE => Notice::ConfigChanged,
            other => Notice::Other(other),
        }))
    }

    /// Asks for one 64-bit value.
    pub fn ask_u64(&mut self, request: Request) -> Result<u64> {
        self.send(request, 0, &[], &[])?;
        let (body, _) = self.receive(request)?;
        Ok(u64::from_le_bytes(part(&body, 0)?))
    }

    /// Sends a request that has no answer of its own, and waits for its acknowledgement where one
    /// was agreed.
    pub fn tell(&mut self, request: Request, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        if !self.has(protocol::REPLY_ACK) {
            return self.send(request, 0, body, fds);
        }
        self.send(request, NEED_REPLY, body, fds)?;
        let (reply, _) = self.receive(request)?;
        match u64::from_le_bytes(part(&reply, 0)?) {
            0 => Ok(()),
            code => Err(Error::Protocol(format!("{request:?} was refused with {code}"))),
        }
    }

    /// Sends bytes as they are: for tests that speak wrongly on purpose.
    pub fn send_raw(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        socket::send(self.socket.as_fd(), bytes, fds).map_err(doing("sending to the back end"))
    }

    fn send(&mut self, request: Request, flags: u32, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let header = Header { request: request as u32, flags: VERSION | flags, size: body.len() as u32 };
        self.send_raw(&[&header.encode()[..], body].concat(), fds)
    }

    fn receive(&mut self, request: Request) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        let mut fds = Vec::new();
        let mut header = [0; HEADER_BYTES];
        self.fill(&mut header, &mut fds, request)?;
        let header = Header::decode(header);
        if header.request != request as u32 {
            return Err(Error::Protocol(format!(
                "{request:?} was answered with a message {}",
                header.request
            )));
        }
        if header.flags & VERSION_MASK != VERSION || header.flags & REPLY == 0 {
            return Err(Error::Protocol(format!("the answer to {request:?} has flags {:#x}", header.flags)));
        }
        if header.size as usize > BODY_BYTES_MAX {
            return Err(Error::Protocol(format!("the answer to {request:?} claims {} bytes", header.size)));
        }
        let mut body = vec![0; header.size as usize];
        self.fill(&mut body, &mut fds, request)?;
        Ok((body, fds))
    }

    fn fill(&mut self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, request: Request) -> Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match socket::take(self.socket.as_fd(), &mut bytes[filled..]) {
                Ok(Some(taken)) if taken.len == 0 => {
                    return Err(Error::Protocol(format!("the connection ended at {request:?}")));
                }
                Ok(Some(taken)) => {
                    filled += taken.len;
                    fds.extend(taken.fds);
                }
                Ok(None) => {
                    let wait = host::poll::readable(&[self.socket.as_fd()], REPLY_TIMEOUT);
                    if wait.map_err(doing("waiting for the back end"))? == 0 {
                        return Err(Error::Stalled(format!("no answer to {request:?} in {REPLY_TIMEOUT:?}")));
                    }
                }
                Err(source) => return Err(Error::System { doing: "receiving from the back end", source }),
            }
        }
        Ok(())
    }
}

fn single_region(region: MemoryRegion) -> [u8; 40] {
    let mut body = [0; 40];
    body[8..].copy_from_slice(&region.encode());
    body
}
