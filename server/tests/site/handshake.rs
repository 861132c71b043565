//! The worker is killed after each message of a handshake, at several distances behind it. Whoever
//! follows it finds the message still there, or its answer noted: each is answered once.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::driver::message::{
    HEADER_BYTES, Header, Inflight, MemoryRegion, NEED_REPLY, REPLY, Request, RingAddresses, VERSION,
    feature, protocol, vring_addresses, vring_state,
};
use guest_memory::Window;
use host::event::Event;
use host::map::Mapping;
use rustix::process::Signal;

use crate::daemon::{Daemon, PATIENCE, disk_slot};

const BYTES: usize = 1 << 20;
const USER: u64 = 1 << 40;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const DATA: usize = 0x4000;
const PROTOCOL: u64 = protocol::MQ
    | protocol::REPLY_ACK
    | protocol::BACKEND_REQ
    | protocol::CONFIG
    | protocol::INFLIGHT_SHMFD
    | protocol::CONFIGURE_MEM_SLOTS;

/// A front end that speaks message by message.
struct Client {
    stream: UnixStream,
    file: OwnedFd,
    memory: Window,
    kick: Event,
    call: Event,
    channel: (UnixStream, UnixStream),
    inflight: Option<(Inflight, OwnedFd)>,
}

/// When the worker dies: so long after this message of the handshake was sent.
struct Death {
    after: usize,
    pause: Duration,
}

/// The connection was lost as it came: there is nobody behind it yet who could keep it.
struct Lost;

impl Client {
    fn connect(daemon: &Daemon) -> Client {
        let stream = UnixStream::connect(daemon.socket("web1.disk0")).unwrap();
        let file = host::memfd::create_unsealed("handshake", BYTES as u64).unwrap();
        let mapping = Arc::new(Mapping::of_file(file.as_fd(), 0, BYTES).unwrap());
        Client {
            stream,
            memory: Window::new(mapping, 0, BYTES).unwrap(),
            file,
            kick: Event::new().unwrap(),
            call: Event::new().unwrap(),
            channel: UnixStream::pair().unwrap(),
            inflight: None,
        }
    }

    fn take(&self, bytes: &mut [u8], fds: &mut Vec<OwnedFd>, first: bool) -> Result<(), Lost> {
        let mut filled = 0;
        while filled < bytes.len() {
            match host::socket::take(self.stream.as_fd(), &mut bytes[filled..]) {
                Ok(Some(taken)) if taken.len > 0 => {
                    filled += taken.len;
                    fds.extend(taken.fds);
                }
                Ok(None) => {
                    let ready = host::poll::readable(&[self.stream.as_fd()], PATIENCE).unwrap();
                    assert!(ready > 0, "no answer, or not all of one: {filled} of {}", bytes.len());
                }
                _ if first => return Err(Lost),
                other => panic!("the connection ended: {other:?}"),
            }
        }
        Ok(())
    }

    /// Sends a request, lets the worker die if it is its time, and gives the answer's body.
    fn ask(
        &mut self,
        daemon: &Daemon,
        death: &Death,
        at: &mut usize,
        request: Request,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Vec<u8>, Vec<OwnedFd>), Lost> {
        let first = *at == 0;
        let header = Header {
            request: request as u32,
            flags: VERSION | if has_answer(request) { 0 } else { NEED_REPLY },
            size: body.len() as u32,
        };
        let sent = host::socket::send(self.stream.as_fd(), &[&header.encode()[..], body].concat(), fds);
        if sent.is_err() && first {
            return Err(Lost);
        }
        sent.unwrap();
        if *at == death.after {
            let start = Instant::now();
            while start.elapsed() < death.pause {
                std::hint::spin_loop();
            }
            daemon
                .eventually("there is a worker to end", || daemon.signal_worker(Signal::KILL).then_some(()));
        }
        *at += 1;
        let (mut bytes, mut fds) = ([0; HEADER_BYTES], Vec::new());
        self.take(&mut bytes, &mut fds, first)?;
        let answer = Header::decode(bytes);
        assert_eq!((answer.request, answer.flags), (request as u32, VERSION | REPLY));
        let mut body = vec![0; answer.size as usize];
        self.take(&mut body, &mut fds, false)?;
        if !has_answer(request) {
            assert_eq!(body, [0; 8], "{request:?} was refused");
        }
        Ok((body, fds))
    }

    /// From the first message to a block that was read. Returns how many messages there were.
    fn shake_hands(&mut self, daemon: &Daemon, death: &Death) -> Result<usize, Lost> {
        let at = &mut 0;
        let addresses = RingAddresses { descriptors: USER, driver: USER + AVAILABLE, device: USER + USED };
        let region =
            MemoryRegion { guest_address: 0, bytes: BYTES as u64, user_address: USER, file_offset: 0 };
        let (file, theirs) = (self.file.try_clone().unwrap(), self.channel.1.try_clone().unwrap());
        let (kick, call) = (self.kick.try_clone().unwrap(), self.call.try_clone().unwrap());
        let region = [&[0; 8][..], &region.encode()].concat();
        let wanted = Inflight { bytes: 0, offset: 0, queues: 1, queue_size: 64 };
        let number = |body: &[u8]| u64::from_le_bytes(body.try_into().unwrap());
        macro_rules! ask {
            ($request:ident, $body:expr) => {
                ask!($request, $body, &[])
            };
            ($request:ident, $body:expr, $fds:expr) => {
                self.ask(daemon, death, at, Request::$request, $body, $fds)?
            };
        }
        let (offered, _) = ask!(GetFeatures, &[]);
        assert_ne!(number(&offered) & feature::VERSION_1, 0);
        // Acknowledgements are given from here on.
        let (offered, _) = ask!(GetProtocolFeatures, &[]);
        assert_eq!(number(&offered) & PROTOCOL, PROTOCOL);
        ask!(SetProtocolFeatures, &PROTOCOL.to_le_bytes());
        let (queues, _) = ask!(GetQueueNum, &[]);
        assert_eq!(number(&queues), 1);
        ask!(SetBackendReqFd, &[], &[theirs.as_fd()]);
        ask!(SetOwner, &[]);
        let features = feature::VERSION_1 | feature::PROTOCOL_FEATURES;
        ask!(SetFeatures, &features.to_le_bytes());
        ask!(GetMaxMemSlots, &[]);
        ask!(AddMemReg, &region, &[file.as_fd()]);
        // The one answer with a descriptor: between taking the request and sending it there is a moment
        // in which it can be lost, so nobody dies just here.
        let (body, mut fds) = {
            let undying = Death { after: usize::MAX, ..*death };
            self.ask(daemon, &undying, at, Request::GetInflightFd, &wanted.encode(), &[])?
        };
        let given = Inflight::decode(&body).unwrap();
        assert!(given.bytes > 0 && fds.len() == 1);
        let inflight = fds.remove(0);
        ask!(SetInflightFd, &given.encode(), &[inflight.as_fd()]);
        self.inflight = Some((given, inflight));
        ask!(SetVringNum, &vring_state(0, 64));
        ask!(SetVringBase, &vring_state(0, 0));
        ask!(SetVringAddr, &vring_addresses(0, 0, addresses, 0));
        ask!(SetVringCall, &0u64.to_le_bytes(), &[call.as_fd()]);
        ask!(SetVringKick, &0u64.to_le_bytes(), &[kick.as_fd()]);
        ask!(SetVringEnable, &vring_state(0, 1));
        let config = [&[0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0][..], &[0; 8]].concat();
        let (config, _) = ask!(GetConfig, &config);
        assert_eq!(number(&config[12..20]), 16 << 11, "sectors of 16 MiB");
        self.read_block();
        let (base, _) = ask!(GetVringBase, &vring_state(0, 0));
        assert_eq!(base, vring_state(0, 1));
        let (again, _) = ask!(GetFeatures, &[]);
        assert_ne!(number(&again), 0);
        // Nothing was answered twice.
        let more = host::poll::readable(&[self.stream.as_fd()], Duration::from_millis(1)).unwrap();
        assert_eq!(more, 0, "there is an answer too many");
        Ok(*at)
    }

    /// A virtio-blk read by hand: header, 512 bytes, status (virtio 1.2, 5.2.6).
    fn read_block(&self) {
        const NEXT: u16 = 1;
        const WRITE: u16 = 2;
        let memory = &self.memory;
        memory.write_bytes(DATA, &[0; 16]);
        memory.write_bytes(DATA + 16, &[0xee; 513]);
        for (at, (address, len, flags)) in
            [(DATA, 16, NEXT), (DATA + 16, 512, NEXT | WRITE), (DATA + 528, 1, WRITE)].into_iter().enumerate()
        {
            memory.store_u64(16 * at, address as u64);
            memory.store_u32(16 * at + 8, len);
            memory.store_u16(16 * at + 12, flags);
            memory.store_u16(16 * at + 14, at as u16 + 1);
        }
        memory.store_u16(AVAILABLE as usize + 4, 0);
        memory.store_release_u16(AVAILABLE as usize + 2, 1);
        self.kick.signal();
        let start = Instant::now();
        while memory.load_acquire_u16(USED as usize + 2) != 1 {
            assert!(start.elapsed() < PATIENCE, "the read does not end");
            std::thread::sleep(Duration::from_micros(200));
        }
        let mut bytes = [1; 513];
        memory.read_bytes(DATA + 16, &mut bytes);
        assert_eq!(bytes, [0; 513]);
    }
}

fn has_answer(request: Request) -> bool {
    matches!(
        request,
        Request::GetFeatures
            | Request::GetProtocolFeatures
            | Request::GetQueueNum
            | Request::GetMaxMemSlots
            | Request::GetInflightFd
            | Request::GetConfig
            | Request::GetVringBase
    )
}

#[test]
fn a_worker_may_die_after_any_message() {
    let daemon = Daemon::start(&disk_slot("web1", "virtio-blk", "root"));
    let unharmed = Death { after: usize::MAX, pause: Duration::ZERO };
    let Ok(messages) = Client::connect(&daemon).shake_hands(&daemon, &unharmed) else {
        panic!("a connection was lost without a death");
    };
    assert_eq!(messages, 20);
    for pause in [0, 20, 60, 150] {
        for after in 0..messages {
            let death = Death { after, pause: Duration::from_micros(pause) };
            // QEMU connects again when the connection is lost as it comes (reconnect-ms).
            if Client::connect(&daemon).shake_hands(&daemon, &death).is_err() {
                let Ok(_) = Client::connect(&daemon).shake_hands(&daemon, &unharmed) else {
                    panic!("the second connection was lost too");
                };
            }
        }
    }
}
