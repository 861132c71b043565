//! Clients that try to hold their lane by the descriptors that they give: an eventfd that is full and
//! waits for room, files of kinds that are asked for nothing.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use bench::driver::disk::{Kind, Operation, Request};
use host::event::Event;
use rustix::fs::{OFlags, fcntl_setfl};

use crate::daemon::{Daemon, ONE_LANE, disk, disk_slot, verify, works};
use crate::emulated::{CONFIG, Client};

const DMA_MAP: u16 = 2;
const SET_IRQS: u16 = 8;
const NO_REPLY: u32 = 1 << 4;
/// Flags of SET_IRQS.
const NO_DATA: u32 = 1 << 0;
const EVENTFD: u32 = 1 << 2;
const TRIGGER: u32 = 1 << 5;

const SITE: &str = "[network.lan]\n[vm.web1.nic0]\nmodel = \"e1000\"\nnetwork = \"lan\"\n[vm.web1.nic1]\nmodel = \"e1000\"\nnetwork = \"lan\"\n";

/// No more fits, and whoever adds to it waits: the flag is of the open file, which the server has as well.
fn fill(event: BorrowedFd<'_>) {
    fcntl_setfl(event, OFlags::RDWR).unwrap();
    File::from(event.try_clone_to_owned().unwrap()).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
}

/// A message that brings descriptors.
pub fn send(client: &mut Client, command: u16, flags: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) {
    client.put(command, flags, payload);
    let bytes = std::mem::take(&mut client.out);
    host::socket::send(client.stream.as_fd(), &bytes, fds).unwrap();
}

/// About the one vector of INTx.
pub fn irqs(flags: u32) -> Vec<u8> {
    [20, flags, 0, 0, 1].map(u32::to_le_bytes).concat()
}

fn is_gone(client: &mut Client) {
    assert_eq!(client.stream.read(&mut [0; 16]).unwrap_or(0), 0, "it is still served");
}

#[test]
fn an_interrupt_that_waits_for_room_costs_its_owner_the_connection() {
    let daemon = Daemon::start(&(SITE.to_owned() + ONE_LANE));
    let mut other = Client::open_slot(&daemon, "web1.nic1");
    let worker = daemon.worker();
    for round in 1..=3 {
        let mut client = Client::open(&daemon);
        let event = Event::new().unwrap().into_fd();
        send(&mut client, SET_IRQS, 0, &irqs(EVENTFD | TRIGGER), &[event.as_fd()]);
        client.answer();
        fill(event.as_fd());
        client.put(SET_IRQS, NO_REPLY, &irqs(NO_DATA | TRIGGER));
        client.flush();
        let since = Instant::now();
        // In the same lane.
        assert_eq!(other.read(CONFIG, 0), 0x100e_8086);
        assert!(since.elapsed() < Duration::from_secs(5), "held for {:?}", since.elapsed());
        is_gone(&mut client);
        let quarantined = || daemon.status()["quarantined"].as_array().unwrap().len();
        if round < 3 {
            assert_eq!(quarantined(), 0);
        } else {
            // Whoever comes next finds a device that does nothing.
            assert_eq!(Client::open(&daemon).read(0, 0), !0);
            assert_eq!(quarantined(), 1);
        }
    }
    assert_eq!(daemon.worker(), worker, "the worker died\n{}", daemon.log());
}

#[test]
fn a_ring_whose_calls_wait_for_room_costs_its_owner_the_connection() {
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-blk", "data");
    let daemon = Daemon::start(&(text + ONE_LANE));
    let mut guest = disk(&daemon, "web1.disk0", Kind::Blk);
    let worker = daemon.worker();
    for round in 1..=3 {
        let mut prey = disk(&daemon, "web2.disk0", Kind::Blk);
        works(&mut prey, round);
        let queue = &mut prey.queues[0];
        fill(queue.ring().call.as_fd());
        queue.ring().set_interrupts(true).unwrap();
        assert!(queue.submit(0, Request { operation: Operation::Read, sector: 8, bytes: 4096 }));
        queue.ring().publish();
        verify(&mut guest, 0.3, round.into(), &Default::default());
        daemon.eventually("the front end is thrown out", || {
            (daemon.status()["slots"]["web2.disk0"]["connected"] == false).then_some(())
        });
    }
    // It connects, and nobody answers.
    let mut late = std::os::unix::net::UnixStream::connect(daemon.socket("web2.disk0")).unwrap();
    late.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    late.write_all(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert!(late.read(&mut [0; 20]).is_err());
    assert_eq!(daemon.status()["quarantined"].as_array().unwrap().len(), 1);
    assert_eq!(daemon.worker(), worker, "the worker died\n{}", daemon.log());
    works(&mut guest, 9);
}

/// A map of a page at this page of the guest.
fn map(page: u64) -> Vec<u8> {
    [
        &[32, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &(page << 12).to_le_bytes(),
        &4096u64.to_le_bytes(),
    ]
    .concat()
}

#[test]
fn descriptors_of_other_kinds_are_left_out_and_no_endless_number_is_taken() {
    let daemon = Daemon::start(SITE);
    let mut client = Client::open(&daemon);
    let (pipe, _writer) = std::io::pipe().unwrap();
    let pipe = OwnedFd::from(pipe);
    let program = File::open("/proc/self/exe").unwrap();
    let wide = host::memfd::create_unsealed("wide", 100 << 40).unwrap();
    let memory = host::memfd::create("memory", 4096).unwrap();
    for (page, fd) in [pipe.as_fd(), program.as_fd(), wide.as_fd(), memory.as_fd()].into_iter().enumerate() {
        send(&mut client, DMA_MAP, 0, &map(page as u64), &[fd]);
        client.answer();
    }
    // Memory, but no eventfd; and neither.
    for fd in [memory.as_fd(), pipe.as_fd()] {
        send(&mut client, SET_IRQS, 0, &irqs(EVENTFD | TRIGGER), &[fd]);
        client.answer();
        client.put(SET_IRQS, 0, &irqs(NO_DATA | TRIGGER));
        client.answers(1);
    }
    assert_eq!(daemon.counter("web1.nic0", "regions_unmapped"), 3);
    assert_eq!(daemon.counter("web1.nic0", "descriptors_refused"), 3);
    let log = daemon.log();
    assert!(log.contains("memory of the guest cannot be mapped"), "{log}");
    assert!(log.contains("memory-backend-memfd"), "{log}");
    for _ in 0..1024 {
        send(&mut client, SET_IRQS, NO_REPLY, &irqs(EVENTFD | TRIGGER), &[pipe.as_fd()]);
    }
    is_gone(&mut client);
    assert_eq!(Client::open(&daemon).read(CONFIG, 0), 0x100e_8086);
}
