//! The command line against the server, while drivers see what it does.

use std::time::Duration;

use bench::driver::disk::{Disk, DiskOptions, DiskQueue, Kind, Outcome};
use bench::driver::net::{HEADER_BYTES, Net, NetOptions};
use bench::driver::scsi::{ScsiQueue, Sense};
use bench::driver::session::Notice;
use rustix::process::Signal;

use crate::crash::TWO_NICS;
use crate::daemon::{Daemon, MIB, disk, disk_slot, read, works, write};

/// VIRTIO_SCSI_T_TRANSPORT_RESET and VIRTIO_SCSI_T_PARAM_CHANGE (virtio 1.2, 5.6.6.3).
const TRANSPORT_RESET: u32 = 1;
const PARAM_CHANGE: u32 = 3;
const RESCAN: u32 = 1;
const REMOVED: u32 = 2;

fn next_event(daemon: &Daemon, disk: &mut Disk) -> (u32, u16, u32) {
    let control = disk.control.as_mut().unwrap();
    let event = daemon.eventually("an event comes", || control.next_event().unwrap());
    (event.event, u16::from_be_bytes([event.lun[2] & 0x3f, event.lun[3]]), event.reason)
}

fn scsi(disk: &mut Disk) -> &mut ScsiQueue {
    match &mut disk.queues[0] {
        DiskQueue::Scsi(queue) => queue,
        DiskQueue::Blk(_) => panic!("this is no SCSI disk"),
    }
}

/// TEST UNIT READY; the sense, if there is any.
fn sense(disk: &mut Disk, lun: u16) -> Option<Sense> {
    let queue = scsi(disk);
    queue.aim(0, lun);
    let answer = queue.command(&[0; 6], &[], 0).unwrap();
    assert_eq!(answer.response, 0);
    (answer.status != 0).then_some(answer.sense)
}

/// Reads what the unit has to tell, until it is ready.
fn attentions(disk: &mut Disk, lun: u16) -> Vec<(u8, u8)> {
    let mut told = Vec::new();
    while let Some(sense) = sense(disk, lun) {
        assert_eq!(sense.key, 6, "{sense:?}");
        told.push((sense.asc, sense.ascq));
        assert!(told.len() < 16);
    }
    told
}

#[test]
fn luns_come_and_go_under_a_driver() {
    let daemon = Daemon::start(&disk_slot("web1", "virtio-scsi", "root"));
    let mut disk = disk(&daemon, "web1.disk0", Kind::Scsi);
    attentions(&mut disk, 0);
    let made = daemon.ok(&["disk", "create", "more", "--store", "local", "--size", "8MiB"]);
    assert!(made.contains("create volume more"), "{made}");
    let attached = daemon.ok(&["disk", "attach", "web1.disk0", "more", "--lun", "5"]);
    assert!(attached.contains("attach volume more to web1.disk0 as LUN 5"), "{attached}");
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, 5, RESCAN));
    // SPC-4: REPORTED LUNS DATA HAS CHANGED, on those that were there.
    assert!(attentions(&mut disk, 0).contains(&(0x3f, 0x0e)));
    attentions(&mut disk, 5);
    works(&mut disk, 5);
    // The LUN and its attention survive the worker.
    daemon.replace_worker(Signal::KILL);
    works(&mut disk, 6);
    assert_eq!(daemon.status()["volumes"]["more"]["used_by"][0], "web1.disk0");
    daemon.ok(&["disk", "detach", "web1.disk0", "more"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, 5, REMOVED));
    assert_eq!(sense(&mut disk, 5), Some(Sense { key: 5, asc: 0x25, ascq: 0 }));
    assert_eq!(daemon.status()["volumes"]["more"]["used_by"].as_array().unwrap().len(), 0);
    attentions(&mut disk, 0);
    works(&mut disk, 7);
    // Free again, it can be another slot's.
    daemon.ok(&["vm", "add", "web2", "--blk", "more"]);
    let mut other = Disk::open(&daemon.socket("web2.disk0"), &DiskOptions::new(Kind::Blk)).unwrap();
    assert_eq!(read(&mut other, 8), Ok(vec![6; 4096]));
}

#[test]
fn a_resize_is_seen_by_drivers_of_both_kinds() {
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data");
    let daemon = Daemon::start(&text);
    let mut blk = disk(&daemon, "web1.disk0", Kind::Blk);
    let mut scsi = disk(&daemon, "web2.disk0", Kind::Scsi);
    attentions(&mut scsi, 0);
    let far = 20 * MIB / 512;
    for (volume, size) in [("root", "32MiB"), ("data", "32MiB")] {
        let said = daemon.ok(&["disk", "resize", volume, size]);
        assert!(said.contains(&format!("grow volume {volume} to {size}")), "{said}");
    }
    let notice = daemon.eventually("a config change is told", || blk.session.notice().unwrap());
    assert_eq!(notice, Notice::ConfigChanged);
    // SPC-4: CAPACITY DATA HAS CHANGED, as an event and as a unit attention.
    assert_eq!(next_event(&daemon, &mut scsi), (PARAM_CHANGE, 0, 0x092a));
    assert!(attentions(&mut scsi, 0).contains(&(0x2a, 0x09)));
    for disk in [&mut blk, &mut scsi] {
        assert_eq!(disk.read_facts().unwrap().bytes, 32 * MIB);
        assert_eq!(write(disk, far, 3), Outcome::Good);
    }
    daemon.replace_worker(Signal::KILL);
    for disk in [&mut blk, &mut scsi] {
        assert_eq!(disk.read_facts().unwrap().bytes, 32 * MIB);
        assert_eq!(read(disk, far), Ok(vec![3; 4096]));
    }
    assert!(
        daemon.refused(&["disk", "resize", "root", "16MiB"]).contains("cannot shrink from 32MiB to 16MiB")
    );
}

#[test]
fn images_go_in_and_out_but_not_under_a_running_guest() {
    let daemon = Daemon::start(&disk_slot("web1", "virtio-blk", "root"));
    let image = daemon.path().join("image.raw");
    let bytes: Vec<u8> = (0..MIB as u32).map(|at| (at >> 9) as u8).collect();
    std::fs::write(&image, &bytes).unwrap();
    let image = image.display().to_string();
    daemon.ok(&["disk", "import", "root", &image]);
    {
        let mut disk = disk(&daemon, "web1.disk0", Kind::Blk);
        assert_eq!(read(&mut disk, 1600).unwrap(), bytes[1600 * 512..1608 * 512]);
        assert_eq!(write(&mut disk, 0, 0x77), Outcome::Good);
        let refused = daemon.refused(&["disk", "import", "root", &image]);
        assert_eq!(
            refused,
            "error: volume `root` is attached to web1.disk0, and that VM is running\n  where: disk.root\n  hint: shut the VM down, or detach the volume first: standpipe disk detach web1.disk0 root\n"
        );
    }
    daemon.eventually("the guest is gone", || {
        (daemon.status()["slots"]["web1.disk0"]["connected"] == false).then_some(())
    });
    let out = daemon.path().join("out.raw");
    daemon.ok(&["disk", "export", "root", &out.display().to_string()]);
    let exported = std::fs::read(out).unwrap();
    assert_eq!(exported.len() as u64, 16 * MIB);
    assert_eq!(exported[..4096], [0x77; 4096]);
    assert_eq!(exported[4096..bytes.len()], bytes[4096..]);
    assert!(exported[bytes.len()..].iter().all(|byte| *byte == 0));
}

/// Sends a broadcast with a number in it, and says whether the other one gets it.
fn hears(from: &mut Net, to: &mut Net, number: u32) -> bool {
    let transmit = &mut from.pairs[0].transmit;
    transmit.reclaim().unwrap();
    let slot = transmit.take().unwrap();
    let mut frame = [0; HEADER_BYTES + 60];
    frame[HEADER_BYTES..HEADER_BYTES + 6].fill(0xff);
    frame[HEADER_BYTES + 6..HEADER_BYTES + 14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
    frame[HEADER_BYTES + 14..HEADER_BYTES + 18].copy_from_slice(&number.to_be_bytes());
    transmit.area(slot).write_bytes(0, &frame);
    assert!(transmit.send(slot, 60));
    transmit.ring.publish();
    for _ in 0..20 {
        let mut heard = false;
        let receive = &mut to.pairs[0].receive;
        let mut bytes = Vec::new();
        receive
            .receive(64, |received| {
                received.copy_into(&mut bytes);
                heard |= bytes[14..18] == number.to_be_bytes();
            })
            .unwrap();
        if heard {
            return true;
        }
        receive.ring.wait(Duration::from_millis(10)).unwrap();
    }
    false
}

#[test]
fn a_nic_moves_to_a_network_in_another_lane() {
    // Networks are given out over the lanes, so of two in two lanes each has its own.
    let daemon = Daemon::start(&format!("{TWO_NICS}[network.wan]\n"));
    let options = NetOptions::default();
    let mut one = Net::open(&daemon.socket("web1.nic0"), &options).unwrap();
    let mut two = Net::open(&daemon.socket("web2.nic0"), &options).unwrap();
    let mut number = 0;
    let mut reach = |one: &mut Net, two: &mut Net, wanted: bool| {
        // Once is luck; a lane may be slow to wake, so a missing frame is sent again.
        let heard = (0..if wanted { 200 } else { 2 }).any(|_| {
            number += 1;
            hears(one, two, number)
        });
        assert_eq!(heard, wanted);
    };
    reach(&mut one, &mut two, true);
    for _ in 0..3 {
        let said = daemon.ok(&["nic", "set", "web2.nic0", "--network", "wan"]);
        assert!(said.contains("change slot web2.nic0"), "{said}");
        reach(&mut one, &mut two, false);
        reach(&mut two, &mut one, false);
        daemon.ok(&["nic", "set", "web1.nic0", "--network", "wan"]);
        reach(&mut one, &mut two, true);
        reach(&mut two, &mut one, true);
        // In its new lane it survives the worker as well.
        daemon.replace_worker(Signal::KILL);
        reach(&mut one, &mut two, true);
        daemon.ok(&["nic", "set", "web1.nic0", "--network", "lan"]);
        daemon.ok(&["nic", "set", "web2.nic0", "--network", "lan"]);
        reach(&mut two, &mut one, true);
    }
    // Another VLAN of the same network is another broadcast domain.
    daemon.ok(&["nic", "set", "web2.nic0", "--vlan", "20"]);
    reach(&mut one, &mut two, false);
    let status = daemon.status();
    let lanes = status["worker"]["lanes"].as_array().unwrap();
    assert_eq!(lanes.len(), 2);
}

#[test]
fn what_is_removed_is_gone_and_a_second_apply_has_nothing_to_do() {
    let text = disk_slot("web1", "virtio-blk", "root") + &disk_slot("web2", "virtio-scsi", "data") + TWO_NICS;
    let daemon = Daemon::start(&text);
    assert_eq!(daemon.apply(&text).out, "nothing to do\n");
    let mut root = disk(&daemon, "web1.disk0", Kind::Blk);
    works(&mut root, 1);
    let said = daemon.ok(&["vm", "rm", "web1"]);
    assert!(said.contains("remove slot web1.disk0"), "{said}");
    assert!(!daemon.socket("web1.disk0").exists());
    assert!(daemon.socket("web2.disk0").exists());
    // The driver's connection has ended, and its volume's bytes are still there.
    daemon.eventually("the connection ends", || root.session.config(8).is_err().then_some(()));
    daemon.ok(&["vm", "add", "web3", "--blk", "root"]);
    assert_eq!(read(&mut disk(&daemon, "web3.disk0", Kind::Blk), 8), Ok(vec![1; 4096]));
    let said = daemon.apply(&text);
    assert!(said.status.success(), "{}", said.err);
    for step in ["remove slot web3.disk0", "add slot web1.disk0", "add slot web1.nic0"] {
        assert!(said.out.contains(step), "{step} is not in {}", said.out);
    }
    assert_eq!(daemon.apply(&text).out, "nothing to do\n");
    works(&mut disk(&daemon, "web1.disk0", Kind::Blk), 2);
    let mut daemon = daemon;
    assert!(daemon.stop().success());
}
