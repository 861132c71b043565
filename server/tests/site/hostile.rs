//! Clients that do not speak vhost-user, or speak it with ill intent. Each has a slot of its own
//! beside a guest that works all the while; the worker must neither end nor be slowed down, and the
//! next client of the same slot must be served.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bench::driver::disk::{Disk, DiskOptions, Kind};
use bench::driver::message::Request;
use bench::driver::message::{
    Header, MemoryRegion, NEED_REPLY, RingAddresses, VERSION, feature, vring_addresses, vring_state,
};
use bench::driver::session::{PROTOCOL_ALL, Session, Wishes};
use host::event::Event;

use crate::daemon::{Daemon, MIB, ONE_LANE, PATIENCE, disk, disk_slot, verify, works};

const VICTIM: &str = "web1.disk0";
const PREY: &str = "web2.disk0";

/// Runs an attack on one slot while a guest verifies its disk on another, in the same lane.
fn beside_a_guest(attack: impl FnOnce(&Daemon)) {
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start(&(text + ONE_LANE));
    let mut guest = disk(&daemon, VICTIM, Kind::Blk);
    let worker = daemon.worker();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (over, guest) = (&over, &mut guest);
        let guest = scope.spawn(move || {
            let mut seed = 0;
            while !over.load(Ordering::Relaxed) || seed == 0 {
                verify(guest, 0.2, seed, &AtomicU64::new(0));
                seed += 1;
            }
        });
        // The guest ends even if the attack's own checks fail.
        struct End<'a>(&'a AtomicBool);
        impl Drop for End<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let end = End(over);
        attack(&daemon);
        drop(end);
        guest.join().unwrap();
    });
    works(&mut guest, 3);
    works(&mut disk(&daemon, PREY, Kind::Scsi), 4);
    assert_eq!(daemon.worker(), worker, "the worker died\n{}", daemon.log());
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket(PREY)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn header(request: u32, flags: u32, size: u32) -> Vec<u8> {
    Header { request, flags, size }.encode().to_vec()
}

/// The server has hung up; it may have answered something first.
fn is_dropped(stream: &mut UnixStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server holds on to a client that speaks garbage: {error}"),
    }
}

#[test]
fn garbage_ends_its_connection_and_nothing_else() {
    beside_a_guest(|daemon| {
        let get_features = Request::GetFeatures as u32;
        let mut noise = Vec::new();
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..8192 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.extend(state.to_le_bytes());
        }
        for bytes in [
            vec![0; 64],
            vec![0xff; 64],
            noise,
            header(get_features, 2, 0),
            header(get_features, 0, 0),
            header(get_features, VERSION | 4, 0),
            header(get_features, VERSION, u32::MAX),
            header(get_features, VERSION, 1 << 16),
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ] {
            let mut stream = connect(daemon);
            // It may hang up before everything is written.
            let _ = stream.write_all(&bytes);
            is_dropped(&mut stream);
        }
    });
}

#[test]
fn half_a_message_is_waited_for_without_work_and_forgotten_with_its_sender() {
    beside_a_guest(|daemon| {
        let whole = [header(Request::SetVringNum as u32, VERSION, 8), vring_state(2, 64).to_vec()].concat();
        for length in [1, 11, 12, 13, 19] {
            let mut stream = connect(daemon);
            stream.write_all(&whole[..length]).unwrap();
            drop(stream);
            // The slot is free again.
            works(&mut disk(daemon, PREY, Kind::Scsi), length as u8);
        }
        let mut stream = connect(daemon);
        for byte in header(Request::GetFeatures as u32, VERSION, 0) {
            stream.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut reply = [0; 20];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..4], [1, 0, 0, 0]);
    });
    // A lane with half a message in a socket sleeps: it turns no oftener than one without.
    let daemon = Daemon::start(&disk_slot("web2", "virtio-scsi", "data"));
    let mut stream = connect(&daemon);
    stream.write_all(&header(Request::GetFeatures as u32, VERSION, 0)[..5]).unwrap();
    let turns = |daemon: &Daemon| -> u64 {
        let status = daemon.status();
        let lanes = status["worker"]["lanes"].as_array().unwrap().iter();
        lanes.map(|lane| lane["counters"]["turns"].as_u64().unwrap()).sum()
    };
    let before = turns(&daemon);
    std::thread::sleep(Duration::from_millis(300));
    let after = turns(&daemon);
    assert!(after - before < 1000, "{} turns while nothing was to do", after - before);
}

#[test]
fn a_thousand_connections_come_and_go() {
    beside_a_guest(|daemon| {
        for round in 0..1000 {
            let mut stream = connect(daemon);
            match round % 4 {
                0 => {}
                1 => stream.write_all(&header(Request::GetFeatures as u32, VERSION, 0)).unwrap(),
                2 => stream.write_all(&header(Request::GetFeatures as u32, VERSION, 0)[..7]).unwrap(),
                _ => stream.write_all(&[0xff; 12]).unwrap(),
            }
        }
        // They are gone again, here and at the keeper.
        daemon.eventually("the slot has no client", || {
            (daemon.status()["slots"][PREY]["connected"] == false).then_some(())
        });
    });
}

fn negotiated(daemon: &Daemon) -> Session {
    let mut session = Session::connect(&daemon.socket(PREY), PATIENCE).unwrap();
    session.negotiate(Wishes { features: feature::EVENT_IDX, protocol: PROTOCOL_ALL }).unwrap();
    session
}

/// The request is refused, and the connection goes on.
fn refused(session: &mut Session, request: Request, body: &[u8], fds: &[&OwnedFd]) {
    let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
    match session.tell(request, body, &fds) {
        Err(error) => assert!(error.to_string().contains("was refused with 1"), "{error}"),
        Ok(()) => panic!("{request:?} was followed"),
    }
}

fn memory(bytes: u64) -> OwnedFd {
    host::memfd::create_unsealed("hostile", bytes).unwrap()
}

fn region(bytes: u64) -> MemoryRegion {
    MemoryRegion { guest_address: 0, bytes, user_address: 1 << 40, file_offset: 0 }
}

fn one_region(region: MemoryRegion) -> Vec<u8> {
    [&[0; 8][..], &region.encode()].concat()
}

#[test]
fn wrong_descriptors_and_wrong_numbers_are_refused_and_counted() {
    beside_a_guest(|daemon| {
        let mut session = negotiated(daemon);
        let event = Event::new().unwrap().into_fd();
        let (pipe, _other) = UnixStream::pair().unwrap();
        let (pipe, file) = (OwnedFd::from(pipe), memory(1 << 20));
        // Missing, too many, and of another kind.
        refused(&mut session, Request::AddMemReg, &one_region(region(1 << 20)), &[]);
        refused(&mut session, Request::AddMemReg, &one_region(region(1 << 20)), &[&event]);
        refused(&mut session, Request::AddMemReg, &one_region(region(1 << 20)), &[&pipe]);
        refused(&mut session, Request::SetVringKick, &2u64.to_le_bytes(), &[]);
        refused(&mut session, Request::SetVringCall, &2u64.to_le_bytes(), &[]);
        refused(&mut session, Request::SetVringKick, &(2u64 | 1 << 8).to_le_bytes(), &[]);
        refused(&mut session, Request::SetInflightFd, &[0; 24], &[&file]);
        session.tell(Request::SetOwner, &[], &[file.as_fd(), event.as_fd(), pipe.as_fd()]).unwrap();
        session.tell(Request::SetVringKick, &2u64.to_le_bytes(), &[file.as_fd()]).unwrap();
        session.tell(Request::SetVringCall, &2u64.to_le_bytes(), &[pipe.as_fd()]).unwrap();
        // Rings that cannot be.
        for size in [0, 3, 65535, 65536, u32::MAX] {
            refused(&mut session, Request::SetVringNum, &vring_state(2, size), &[]);
        }
        for queue in [3, 255, u32::MAX] {
            refused(&mut session, Request::SetVringNum, &vring_state(queue, 64), &[]);
            refused(&mut session, Request::SetVringEnable, &vring_state(queue, 1), &[]);
        }
        // Regions: empty, beyond the end of the address space, over one another.
        let wraps = MemoryRegion { guest_address: u64::MAX - 4095, ..region(8192) };
        for bad in [region(0), wraps] {
            refused(&mut session, Request::AddMemReg, &one_region(bad), &[&file]);
        }
        session.tell(Request::AddMemReg, &one_region(region(1 << 20)), &[file.as_fd()]).unwrap();
        let over = MemoryRegion { guest_address: 4096, ..region(1 << 20) };
        refused(&mut session, Request::AddMemReg, &one_region(over), &[&file]);
        refused(&mut session, Request::RemMemReg, &one_region(over), &[]);
        refused(&mut session, Request::SetVringNum, &[2, 0, 0, 0], &[]);
        // Two at once: the answers come in their order, each as it was.
        session.send_raw(&header(99, VERSION | NEED_REPLY, 0), &[]).unwrap();
        let answer = session.ask_u64(Request::GetFeatures).unwrap_err().to_string();
        assert!(answer.contains("GetFeatures was answered with a message 99"), "{answer}");
        for (name, at_least) in [
            ("vhost_user_missing_descriptor", 3),
            ("vhost_user_kick_without_descriptor", 1),
            ("vhost_user_bad_inflight", 1),
            ("vhost_user_bad_ring_size", 5),
            ("vhost_user_bad_queue", 6),
            ("vhost_user_bad_regions", 3),
            ("vhost_user_no_such_region", 1),
            ("vhost_user_malformed", 1),
            ("vhost_user_unknown_request", 1),
            ("regions_unmapped", 2),
        ] {
            assert!(daemon.counter(PREY, name) >= at_least, "{name}: {}", daemon.counter(PREY, name));
        }
    });
}

#[test]
fn a_region_that_is_shorter_than_it_is_said_to_be_is_refused() {
    beside_a_guest(|daemon| {
        let mut session = negotiated(daemon);
        let file = memory(1 << 20);
        refused(&mut session, Request::AddMemReg, &one_region(region(2 << 20)), &[&file]);
        let behind = MemoryRegion { file_offset: 1 << 20, ..region(4096) };
        refused(&mut session, Request::AddMemReg, &one_region(behind), &[&file]);
        let wraps = MemoryRegion { file_offset: u64::MAX - 4095, ..region(8192) };
        refused(&mut session, Request::AddMemReg, &one_region(wraps), &[&file]);
        assert_eq!(daemon.counter(PREY, "regions_unmapped"), 3);
        // Rings that lie in no memory are not served.
        let nowhere = RingAddresses { descriptors: 1 << 40, driver: 1 << 41, device: u64::MAX - 3 };
        let kick = Event::new().unwrap();
        session.tell(Request::SetVringNum, &vring_state(2, 64), &[]).unwrap();
        session.tell(Request::SetVringAddr, &vring_addresses(2, 0, nowhere, 0), &[]).unwrap();
        session.tell(Request::SetVringKick, &2u64.to_le_bytes(), &[kick.as_fd()]).unwrap();
        session.tell(Request::SetVringEnable, &vring_state(2, 1), &[]).unwrap();
        assert!(daemon.counter(PREY, "rings_refused") >= 1);
    });
}

#[test]
fn memory_that_is_taken_away_hurts_only_its_owner() {
    beside_a_guest(|daemon| {
        let options = DiskOptions { packed: false, ..DiskOptions::new(Kind::Scsi) };
        let mut prey = Disk::open(&daemon.socket(PREY), &options).unwrap();
        works(&mut prey, 1);
        let file = std::fs::File::from(prey.ram.file().try_clone_to_owned().unwrap());
        let length = file.metadata().unwrap().len();
        // The rings' own pages go, and the server looks at them because it is told to.
        file.set_len(0).unwrap();
        for queue in &mut prey.queues {
            for _ in 0..100 {
                queue.ring().kick.signal();
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        assert!(length > MIB);
        // Nobody may touch the lost pages on this side either.
        prey.session.send_raw(&[0xff; 12], &[]).unwrap();
        daemon.eventually("the slot has no client", || {
            (daemon.status()["slots"][PREY]["connected"] == false).then_some(())
        });
    });
}
