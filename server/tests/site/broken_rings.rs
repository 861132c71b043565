//! Drivers that write into their rings what no driver may write. The ring stops, with the fault's
//! name as a counter; the device works again when its driver starts it anew.

use std::time::Duration;

use bench::driver::disk::{Disk, DiskOptions, Kind};
use bench::driver::message::feature;
use bench::driver::message::{MemoryRegion, Request, RingAddresses, vring_addresses, vring_state};
use bench::driver::session::{PROTOCOL_ALL, Session, Wishes};
use guest_memory::Window;
use host::event::Event;
use host::map::Mapping;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::daemon::{Daemon, PATIENCE, disk, disk_slot, works};

const SLOT: &str = "web1.disk0";
const USER: u64 = 1 << 40;
const BYTES: usize = 1 << 20;
const SIZE: usize = 8;
const DESCRIPTORS: usize = 0;
const AVAILABLE: usize = 0x1000;
const USED: usize = 0x2000;
const TABLE: usize = 0x3000;
const DATA: u64 = 0x4000;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A split ring of eight that the test writes by hand.
struct Forged {
    session: Session,
    memory: Window,
    kick: Event,
    _file: OwnedFd,
}

impl Forged {
    fn open(daemon: &Daemon, features: u64) -> Forged {
        let file = host::memfd::create_unsealed("forged", BYTES as u64).unwrap();
        let mapping = Arc::new(Mapping::of_file(file.as_fd(), 0, BYTES).unwrap());
        let memory = Window::new(mapping, 0, BYTES).unwrap();
        let mut session = Session::connect(&daemon.socket(SLOT), PATIENCE).unwrap();
        session.negotiate(Wishes { features, protocol: PROTOCOL_ALL }).unwrap();
        let region =
            MemoryRegion { guest_address: 0, bytes: BYTES as u64, user_address: USER, file_offset: 0 };
        session.add_region(region, file.as_fd()).unwrap();
        Forged { session, memory, kick: Event::new().unwrap(), _file: file }
    }

    fn descriptor(&self, at: usize, address: u64, len: u32, flags: u16, next: u16) {
        self.memory.store_u64(at, address);
        self.memory.store_u32(at + 8, len);
        self.memory.store_u16(at + 12, flags);
        self.memory.store_u16(at + 14, next);
    }

    fn slot(&self, index: usize, address: u64, len: u32, flags: u16, next: u16) {
        self.descriptor(DESCRIPTORS + 16 * index, address, len, flags, next);
    }

    /// Offers a head, or several, and says that `ahead` are there.
    fn offer(&self, heads: &[u16], ahead: u16) {
        for (at, head) in heads.iter().enumerate() {
            self.memory.store_u16(AVAILABLE + 4 + 2 * at, *head);
        }
        self.memory.store_u16(AVAILABLE + 2, ahead);
    }

    fn start(&mut self) {
        let at = |offset: usize| USER + offset as u64;
        let addresses =
            RingAddresses { descriptors: at(DESCRIPTORS), driver: at(AVAILABLE), device: at(USED) };
        self.session.tell(Request::SetVringNum, &vring_state(0, SIZE as u32), &[]).unwrap();
        self.session.tell(Request::SetVringBase, &vring_state(0, 0), &[]).unwrap();
        self.session.tell(Request::SetVringAddr, &vring_addresses(0, 0, addresses, 0), &[]).unwrap();
        self.session.tell(Request::SetVringKick, &0u64.to_le_bytes(), &[self.kick.as_fd()]).unwrap();
        self.session.tell(Request::SetVringEnable, &vring_state(0, 1), &[]).unwrap();
        self.kick.signal();
    }
}

#[test]
fn each_way_to_break_a_ring_has_its_name() {
    let daemon =
        Daemon::start(&(disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-blk", "data")));
    let mut neighbour = disk(&daemon, "web2.disk0", Kind::Blk);
    let worker = daemon.worker();
    type Forge = fn(&Forged);
    let ways: [(&str, Forge); 11] = [
        ("ring_bad_head", |ring| ring.offer(&[SIZE as u16], 1)),
        ("ring_avail_runaway", |ring| ring.offer(&[0], 1000)),
        ("ring_loop", |ring| {
            ring.slot(0, DATA, 16, NEXT, 1);
            ring.slot(1, DATA, 16, NEXT, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_bad_next", |ring| {
            ring.slot(0, DATA, 16, NEXT, 77);
            ring.offer(&[0], 1);
        }),
        ("ring_bad_address", |ring| {
            ring.slot(0, BYTES as u64 - 8, 16, 0, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_bad_address", |ring| {
            ring.slot(0, u64::MAX - 7, 16, 0, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_order_violation", |ring| {
            ring.slot(0, DATA, 16, NEXT | WRITE, 1);
            ring.slot(1, DATA, 16, 0, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_indirect_size", |ring| {
            ring.slot(0, TABLE as u64, 17, INDIRECT, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_indirect_nested", |ring| {
            ring.descriptor(TABLE, TABLE as u64, 16, INDIRECT, 0);
            ring.slot(0, TABLE as u64, 16, INDIRECT, 0);
            ring.offer(&[0], 1);
        }),
        ("ring_indirect_next", |ring| {
            ring.slot(0, TABLE as u64, 16, INDIRECT | NEXT, 1);
            ring.offer(&[0], 1);
        }),
        // The second request names the first one's head, which has not come back yet: both are taken in
        // one turn.
        ("ring_head_in_flight", |ring| {
            ring.memory.store_u32(DATA as usize, 1);
            ring.slot(0, DATA, 16, NEXT, 1);
            ring.slot(1, DATA + 4096, 4096, NEXT, 2);
            ring.slot(2, DATA + 16, 1, WRITE, 0);
            ring.offer(&[0, 0], 2);
        }),
    ];
    for (name, forge) in ways {
        let before = daemon.counter(SLOT, name);
        let mut forged = Forged::open(&daemon, feature::INDIRECT_DESC);
        forge(&forged);
        forged.start();
        daemon.wait_counter(SLOT, name, before + 1);
        // It is not looked at any more, however often it is kicked.
        for _ in 0..50 {
            forged.kick.signal();
            std::thread::sleep(Duration::from_micros(200));
        }
        assert_eq!(daemon.counter(SLOT, name), before + 1, "{name}");
        works(&mut neighbour, 1);
        // Taken back, emptied and started again, it works.
        forged.session.stop(0).unwrap();
        drop(forged);
        works(&mut disk(&daemon, SLOT, Kind::Blk), 2);
    }
    // Without the feature, an indirect descriptor is a fault in itself.
    let mut forged = Forged::open(&daemon, 0);
    forged.slot(0, TABLE as u64, 16, INDIRECT, 0);
    forged.offer(&[0], 1);
    forged.start();
    daemon.wait_counter(SLOT, "ring_indirect_refused", 1);
    assert_eq!(daemon.worker(), worker);
    // A guest cannot fill the log: what it breaks is counted there, and nowhere else.
    assert!(!daemon.log().contains("bad_address"), "{}", daemon.log());
}

#[test]
fn rings_full_of_noise_end_nobody_but_their_own() {
    let daemon =
        Daemon::start(&(disk_slot("web1", "virtio-scsi", "root") + &disk_slot("web2", "virtio-blk", "data")));
    let mut neighbour = disk(&daemon, "web2.disk0", Kind::Blk);
    let worker = daemon.worker();
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for round in 0..24 {
        let options =
            DiskOptions { packed: round % 2 == 1, event_idx: round % 3 == 0, ..DiskOptions::new(Kind::Scsi) };
        let mut victim = Disk::open(&daemon.socket(SLOT), &options).unwrap();
        // All of the guest's memory: descriptors, rings, indirect tables and headers.
        let file = victim.ram.file().try_clone_to_owned().unwrap();
        let length = std::fs::File::from(file.try_clone().unwrap()).metadata().unwrap().len() as usize;
        let mapping = Arc::new(Mapping::of_file(file.as_fd(), 0, length).unwrap());
        let memory = Window::new(mapping, 0, length).unwrap();
        for burst in 0..4 {
            for at in (0..length.min(256 << 10)).step_by(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Small numbers are the likelier indexes, lengths and flags.
                let value = if burst % 2 == 0 { state } else { state & 0x0007_0007_0fff };
                memory.store_u64(at, value);
            }
            for queue in &mut victim.queues {
                queue.ring().kick.signal();
            }
            let control = victim.control.as_ref().unwrap();
            control.control.kick.signal();
            control.events.kick.signal();
            std::thread::sleep(Duration::from_millis(2));
        }
        works(&mut neighbour, round);
    }
    works(&mut disk(&daemon, SLOT, Kind::Scsi), 9);
    assert_eq!(daemon.worker(), worker, "{}", daemon.log());
}
