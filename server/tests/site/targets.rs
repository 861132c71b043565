//! A controller with several targets, as a driver finds them.

use std::time::{Duration, Instant};

use bench::driver::disk::{Disk, DiskOptions, DiskQueue, Kind};
use bench::driver::scsi::{Answer, ScsiQueue, TaskManagement};
use rustix::process::Signal;

use crate::daemon::{Daemon, disk, open, read, works};

/// virtio 1.2, 5.6.6.1 and 5.6.6.2.
const OK: u8 = 0;
const BAD_TARGET: u8 = 3;
const INCORRECT_LUN: u8 = 12;
/// virtio 1.2, 5.6.6.3: VIRTIO_SCSI_T_TRANSPORT_RESET and its reasons.
const TRANSPORT_RESET: u32 = 1;
const RESCAN: u32 = 1;
const REMOVED: u32 = 2;

const PATIENCE: Duration = Duration::from_secs(30);

const SITE: &str = "[disk.root]
store = \"local\"
size = \"16MiB\"
[disk.one]
store = \"local\"
size = \"16MiB\"
[disk.far]
store = \"local\"
size = \"16MiB\"
[vm.web1.disk0]
model = \"virtio-scsi\"
volumes = { 0 = \"root\", \"1:3\" = \"one\", \"255:16383\" = \"far\" }
";

/// Where the three are.
const PLACES: [(u8, u16); 3] = [(0, 0), (1, 3), (255, 16_383)];

fn queue(disk: &mut Disk) -> &mut ScsiQueue {
    match &mut disk.queues[0] {
        DiskQueue::Scsi(queue) => queue,
        DiskQueue::Blk(_) => panic!("this is no SCSI disk"),
    }
}

fn ask(disk: &mut Disk, (target, lun): (u8, u16), cdb: &[u8], room: u32) -> Answer {
    let queue = queue(disk);
    queue.aim(target, lun);
    queue.command(cdb, &[], room).unwrap()
}

/// TEST UNIT READY until it is: the additional sense codes of the unit attentions before that.
fn attentions(disk: &mut Disk, place: (u8, u16)) -> Vec<u8> {
    let mut told = Vec::new();
    loop {
        let answer = ask(disk, place, &[0; 6], 0);
        assert_eq!(answer.response, OK, "{place:?}");
        if answer.status == 0 {
            return told;
        }
        assert_eq!(answer.sense.key, 6, "{place:?}: {:?}", answer.sense);
        told.push(answer.sense.asc);
        assert!(told.len() < 16);
    }
}

/// REPORT LUNS, asked of any LUN: what is behind the header.
fn reported(answer: &Answer) -> Vec<[u8; 2]> {
    assert_eq!((answer.response, answer.status), (OK, 0), "{:?}", answer.sense);
    let length = u32::from_be_bytes(answer.data[..4].try_into().unwrap()) as usize;
    assert_eq!(answer.data.len(), 8 + length);
    answer.data[8..]
        .chunks_exact(8)
        .map(|entry| {
            assert_eq!(entry[2..], [0; 6]);
            [entry[0], entry[1]]
        })
        .collect()
}

const REPORT_LUNS: [u8; 12] = [0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

fn next_event(daemon: &Daemon, disk: &mut Disk) -> (u32, [u8; 8], u32) {
    let control = disk.control.as_mut().unwrap();
    let event = daemon.eventually("an event comes", || control.next_event().unwrap());
    (event.event, event.lun, event.reason)
}

fn manage(disk: &mut Disk, (target, lun): (u8, u16), function: TaskManagement) -> u8 {
    let control = disk.control.as_mut().unwrap();
    control.aim(target, lun);
    control.task_management(function, 0, PATIENCE).unwrap()
}

fn works_at(disk: &mut Disk, (target, lun): (u8, u16), byte: u8) {
    queue(disk).aim(target, lun);
    works(disk, byte);
}

fn holds(disk: &mut Disk, (target, lun): (u8, u16), byte: u8) {
    queue(disk).aim(target, lun);
    assert_eq!(read(disk, 8), Ok(vec![byte; 4096]));
}

#[test]
fn each_target_has_luns_of_its_own() {
    let daemon = Daemon::start(SITE);
    let mut disk = disk(&daemon, "web1.disk0", Kind::Scsi);
    for (place, byte) in PLACES.into_iter().zip(1..) {
        attentions(&mut disk, place);
        works_at(&mut disk, place, byte);
    }
    for (place, byte) in PLACES.into_iter().zip(1..) {
        holds(&mut disk, place, byte);
    }
    // SAM-5: peripheral device addressing for LUN 0 and 3, flat space addressing for 16,383.
    for (target, number) in [(0, [0x00, 0x00]), (1, [0x00, 0x03]), (255, [0x7f, 0xff])] {
        // Asked of LUN 0, of which only target 0 has a volume, and of the well known LUN.
        assert_eq!(reported(&ask(&mut disk, (target, 0), &REPORT_LUNS, 256)), [number]);
        let queue = queue(&mut disk);
        queue.aim_at([1, target, 0xc1, 0x01, 0, 0, 0, 0]);
        assert_eq!(reported(&queue.command(&REPORT_LUNS, &[], 256).unwrap()), [number]);
    }
    // SPC-4: PERIPHERAL QUALIFIER 011b, and LOGICAL UNIT NOT SUPPORTED. LUN 0 of target 1 has no
    // volume, and what is LUN 3 there is nothing in the others.
    for place in [(1, 0), (0, 3), (255, 3)] {
        let inquiry = ask(&mut disk, place, &[0x12, 0, 0, 0, 36, 0], 36);
        assert_eq!((inquiry.response, inquiry.status, inquiry.data[0]), (OK, 0, 0x7f), "{place:?}");
        let refused = ask(&mut disk, place, &[0; 6], 0);
        assert_eq!((refused.sense.key, refused.sense.asc), (5, 0x25), "{place:?}");
    }
    for target in [2, 7, 254] {
        let refused = ask(&mut disk, (target, 0), &[0x12, 0, 0, 0, 36, 0], 36);
        assert_eq!(refused.response, BAD_TARGET, "target {target}");
        let queue = queue(&mut disk);
        queue.aim_at([1, target, 0xc1, 0x01, 0, 0, 0, 0]);
        assert_eq!(queue.command(&REPORT_LUNS, &[], 256).unwrap().response, BAD_TARGET);
    }
}

#[test]
fn a_reset_ends_at_the_target() {
    let daemon = Daemon::start(SITE);
    let mut disk = disk(&daemon, "web1.disk0", Kind::Scsi);
    for place in PLACES {
        attentions(&mut disk, place);
    }
    // The same LUN of two targets, one of which is told of it.
    daemon.ok(&["disk", "create", "more", "--store", "local", "--size", "8MiB"]);
    daemon.ok(&["disk", "attach", "web1.disk0", "more", "--lun", "2:3"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 2, 0, 3, 0, 0, 0, 0], RESCAN));
    attentions(&mut disk, (2, 3));
    assert_eq!(manage(&mut disk, (1, 3), TaskManagement::LogicalUnitReset), 0);
    // SPC-4: BUS DEVICE RESET FUNCTION OCCURRED and its kin, 29h.
    assert_eq!(attentions(&mut disk, (1, 3)), [0x29]);
    for place in [(0, 0), (2, 3), (255, 16_383)] {
        assert_eq!(attentions(&mut disk, place), [0; 0], "{place:?}");
    }
    assert_eq!(manage(&mut disk, (255, 0), TaskManagement::ITNexusReset), 0);
    assert_eq!(attentions(&mut disk, (255, 16_383)), [0x29]);
    for place in [(0, 0), (1, 3), (2, 3)] {
        assert_eq!(attentions(&mut disk, place), [0; 0], "{place:?}");
    }
    for place in [(1, 0), (0, 3), (9, 3)] {
        assert_eq!(manage(&mut disk, place, TaskManagement::LogicalUnitReset), INCORRECT_LUN, "{place:?}");
    }
}

#[test]
fn targets_come_and_go_with_their_luns() {
    let daemon = Daemon::start(SITE);
    let mut disk = disk(&daemon, "web1.disk0", Kind::Scsi);
    for place in PLACES {
        attentions(&mut disk, place);
    }
    daemon.ok(&["disk", "create", "more", "--store", "local", "--size", "8MiB"]);
    daemon.ok(&["disk", "create", "last", "--store", "local", "--size", "8MiB"]);
    let attached = daemon.ok(&["disk", "attach", "web1.disk0", "more", "--lun", "7:5"]);
    assert!(attached.contains("attach volume more to web1.disk0 as LUN 7:5"), "{attached}");
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 7, 0, 5, 0, 0, 0, 0], RESCAN));
    attentions(&mut disk, (7, 5));
    works_at(&mut disk, (7, 5), 9);
    // The inventories of the other targets are as they were: SPC-4, REPORTED LUNS DATA HAS CHANGED.
    for place in PLACES {
        assert_eq!(attentions(&mut disk, place), [0; 0], "{place:?}");
    }
    daemon.ok(&["disk", "attach", "web1.disk0", "last", "--lun", "7:300"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 7, 0x41, 0x2c, 0, 0, 0, 0], RESCAN));
    assert_eq!(attentions(&mut disk, (7, 5)), [0x3f]);
    assert_eq!(reported(&ask(&mut disk, (7, 0), &REPORT_LUNS, 256)), [[0x00, 0x05], [0x41, 0x2c]]);

    // All of it is there under the next worker.
    attentions(&mut disk, (7, 300));
    daemon.replace_worker(Signal::KILL);
    for place in PLACES.into_iter().chain([(7, 5), (7, 300)]) {
        assert_eq!(attentions(&mut disk, place), [0; 0], "{place:?}");
    }
    holds(&mut disk, (7, 5), 9);
    let show = daemon.ok(&["vm", "show", "web1"]);
    assert!(show.contains("0=root 1:3=one 7:5=more 7:300=last 255:16383=far"), "{show}");

    daemon.ok(&["disk", "detach", "web1.disk0", "more"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 7, 0, 5, 0, 0, 0, 0], REMOVED));
    assert_eq!(ask(&mut disk, (7, 5), &[0; 6], 0).sense.asc, 0x25);
    daemon.ok(&["disk", "detach", "web1.disk0", "last"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 7, 0x41, 0x2c, 0, 0, 0, 0], REMOVED));
    assert_eq!(ask(&mut disk, (7, 5), &[0; 6], 0).response, BAD_TARGET);
    for (place, byte) in PLACES.into_iter().zip(11..) {
        works_at(&mut disk, place, byte);
    }
}

/// Eight LUNs in each of the 256 targets, and 1,000 more in one of them.
#[test]
fn thousands_of_luns_are_found_where_they_are() {
    const CROWDED: u8 = 200;
    let luns = |target: u8| {
        let many = if target == CROWDED { 1000 } else { 0 };
        // A step that leaves none of the crowded target's own out.
        (0..8u16).map(move |lun| 2048 * lun + u16::from(target)).chain(3000..3000 + many)
    };
    let places: Vec<(u8, u16)> =
        (0..=255).flat_map(|target| luns(target).map(move |lun| (target, lun))).collect();
    let mut site = String::new();
    let mut volumes = String::new();
    for (at, (target, lun)) in places.iter().enumerate() {
        // Each has a size of its own, by which it is known.
        site.push_str(&format!("[disk.v{at}]\nnull = true\nsize = {}\n", (at + 1) * 4096));
        volumes.push_str(&format!("\"{target}:{lun}\" = \"v{at}\", "));
    }
    let slot = format!("[vm.web1.disk0]\nmodel = \"virtio-scsi\"\nvolumes = {{ {volumes} }}\n");
    let more = "[disk.more]\nnull = true\nsize = \"1MiB\"\n";
    let start = Instant::now();
    let daemon = Daemon::start(&format!("{site}{more}{slot}"));
    let started = start.elapsed();
    let options = DiskOptions { bytes_max: 16_384, ..DiskOptions::new(Kind::Scsi) };
    let mut disk = open(&daemon, "web1.disk0", &options);

    let size = |disk: &mut Disk, place: (u8, u16)| {
        // READ CAPACITY(16).
        let mut cdb = [0; 16];
        (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
        attentions(disk, place);
        let answer = ask(disk, place, &cdb, 32);
        assert_eq!((answer.response, answer.status), (OK, 0), "{place:?}");
        let last = u64::from_be_bytes(answer.data[..8].try_into().unwrap());
        let block = u32::from_be_bytes(answer.data[8..12].try_into().unwrap());
        (last + 1) * u64::from(block)
    };
    let start = Instant::now();
    for (at, place) in places.iter().enumerate() {
        assert_eq!(size(&mut disk, *place), (at as u64 + 1) * 4096, "{place:?}");
    }
    let asked = start.elapsed();
    let list = |disk: &mut Disk, target: u8| {
        let mut cdb = REPORT_LUNS;
        cdb[6..10].copy_from_slice(&16384u32.to_be_bytes());
        reported(&ask(disk, (target, 0), &cdb, 16384))
    };
    // SAM-5: peripheral device addressing to 255, flat space addressing (01b) above.
    let entry = |lun: u16| match lun {
        0..=255 => [0, lun as u8],
        _ => (0x4000 | lun).to_be_bytes(),
    };
    for target in 0..=255 {
        let mut wanted: Vec<u16> = luns(target).collect();
        wanted.sort_unstable();
        let wanted: Vec<[u8; 2]> = wanted.into_iter().map(entry).collect();
        assert_eq!(list(&mut disk, target), wanted, "target {target}");
    }

    // One more among them, by its event.
    let start = Instant::now();
    daemon.ok(&["disk", "attach", "web1.disk0", "more", "--lun", "200:16383"]);
    assert_eq!(next_event(&daemon, &mut disk), (TRANSPORT_RESET, [1, 200, 0x7f, 0xff, 0, 0, 0, 0], RESCAN));
    let attached = start.elapsed();
    assert_eq!(size(&mut disk, (200, 16_383)), 1 << 20);
    assert_eq!(list(&mut disk, CROWDED).len(), 1009);

    let start = Instant::now();
    daemon.replace_worker(Signal::KILL);
    for place in places.iter().step_by(97) {
        // SPC-4, REPORTED LUNS DATA HAS CHANGED: the news of the crowded target waited for the worker.
        let told: &[u8] = if place.0 == CROWDED { &[0x3f] } else { &[] };
        assert_eq!(attentions(&mut disk, *place), told, "{place:?}");
    }
    println!(
        "{} LUNs: server up in {started:?}, all asked in {asked:?}, one more in {attached:?}, the next worker in {:?}",
        places.len(),
        start.elapsed()
    );
}
