//! Requests and completions.

use std::vec;
use std::vec::Vec;

use guest_memory::{Memory, Region};
use pci::{Function, Signals};
use request::{Instant, Span};

use super::driver::{
    COMPLETIONS, DATA, Driver, GOOD, LISTS, MEMORY, NOW, REQUESTS, Request, SENSE, STATE, adapter, command,
    counter, hot, run, take,
};
use crate::{Adapter, Answer, Attribute, Command, Direction, Place, Taken};

fn started(pages: u32) -> (Driver, Adapter) {
    let mut driver = Driver::new(pages);
    let mut adapter = adapter(&hot());
    driver.start(&mut adapter);
    (driver, adapter)
}

/// The descriptor byte by byte, from the header: context, dataAddr, dataLen, senseAddr, senseLen,
/// flags, cdb, cdbLen, lun, tag, bus, target, vcpuHint.
#[test]
fn a_descriptor_is_read_field_by_field() {
    let (driver, mut adapter) = started(1);
    let mut bytes = vec![];
    bytes.extend([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
    bytes.extend([0x00, 0x00, 0x60, 0, 0, 0, 0, 0]);
    bytes.extend([0x00, 0x02, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0x00, 0x00, 0x40, 0, 0, 0, 0, 0]);
    bytes.extend([18, 0, 0, 0]);
    bytes.extend([0x10, 0, 0, 0]);
    bytes.extend([0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    bytes.extend([10]);
    bytes.extend([0, 5, 0, 0, 0, 0, 0, 0]);
    bytes.extend([0x22, 0, 63, 2]);
    bytes.resize(128, 0xff);
    driver.put(REQUESTS, &bytes);
    driver.set_word(STATE, 1);
    let mut command = Command::default();
    assert_eq!(adapter.next(&driver.memory, &mut command), Taken::Command);
    assert_eq!(command.context, 0x8877_6655_4433_2211);
    assert_eq!(command.place, Some(Place::Unit { target: 63, lun: 5 }));
    assert_eq!(command.attribute, Attribute::Ordered);
    assert_eq!(*command.cdb, [0x2a, 0, 0, 0, 0, 9, 0, 0, 1, 0]);
    assert_eq!(command.direction, Direction::ToDevice);
    assert_eq!(command.data_out(), [Span { offset: 0x60_0000, len: 512, region: 0 }]);
    assert!(command.data_in().is_empty());
    assert_eq!((command.offered, command.vcpu_hint, command.resumed), (512, 2, false));
    assert_eq!(driver.word(STATE + 4), 1, "reqConsIdx");

    // The completion: context, dataLen, senseLen, hostStatus, scsiStatus, pad.
    let sense = [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0, 0xee, 0xee];
    let answer = Answer::Ended { host_status: 0, scsi_status: 2, sense: &sense, residual: 500 };
    assert!(adapter.complete(&driver.memory, command.id, &answer));
    assert_eq!(driver.word(STATE + 12), 0, "visible before it was published");
    adapter.publish(NOW, &driver.memory);
    assert_eq!(driver.word(STATE + 12), 1, "cmpProdIdx");
    let completion: [u8; 32] = driver.get(COMPLETIONS);
    let mut expected = vec![0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 12, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([18, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(completion[..], expected[..]);
    assert_eq!(driver.get::<19>(SENSE)[..18], sense[..18]);
    assert_eq!(driver.get::<19>(SENSE)[18], 0, "more sense data than senseLen");
}

#[test]
fn tags_luns_and_directions() {
    let (driver, mut adapter) = started(1);
    let mut parse = |change: &dyn Fn(&mut Request)| {
        let mut request = Request::read(1);
        change(&mut request);
        driver.post(&request);
        let commands = take(&mut adapter, &driver.memory);
        for command in &commands {
            adapter.complete(&driver.memory, command.id, &GOOD);
        }
        adapter.publish(NOW, &driver.memory);
        (commands.into_iter().next(), driver.consume().unwrap().host_status)
    };
    for (tag, attribute) in [
        (0x20, Attribute::Simple),
        (0x21, Attribute::HeadOfQueue),
        (0x22, Attribute::Ordered),
        (0, Attribute::Simple),
        (0xff, Attribute::Simple),
    ] {
        assert_eq!(parse(&|request| request.tag = tag).0.unwrap().attribute, attribute);
    }
    let unit = |lun| Some(Place::Unit { target: 0, lun });
    for (lun, place) in [
        ([0, 0, 0, 0, 0, 0, 0, 0], unit(0)),
        ([0, 255, 0, 0, 0, 0, 0, 0], unit(255)),
        ([0x41, 0, 0, 0, 0, 0, 0, 0], unit(256)),
        ([0x7f, 0xff, 0, 0, 0, 0, 0, 0], unit(16_383)),
        ([0xc1, 1, 0, 0, 0, 0, 0, 0], Some(Place::ReportLuns { target: 0 })),
    ] {
        assert_eq!(parse(&|request| request.lun = lun).0.unwrap().place, place);
    }
    // Nothing there: BTSTAT_SELTIMEO.
    for lun in [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1], [0xff; 8]] {
        assert_eq!(parse(&|request| request.lun = lun), (None, 0x11));
    }
    assert_eq!(parse(&|request| request.target = 64), (None, 0x11));
    assert_eq!(parse(&|request| request.bus = 1), (None, 0x11));
    // No CDB, or one that is elsewhere: BTSTAT_INVPARAM.
    assert_eq!(parse(&|request| request.cdb_len = 0), (None, 0x1a));
    assert_eq!(parse(&|request| request.cdb_len = 17), (None, 0x1a));
    assert_eq!(parse(&|request| request.flags |= 1 << 1), (None, 0x1a));
    assert_eq!(parse(&|request| request.cdb_len = 16).0.unwrap().cdb.len(), 16);
    for (flags, direction) in [
        (1 << 2, Direction::None),
        (1 << 3, Direction::ToHost),
        (1 << 4, Direction::ToDevice),
        (0, Direction::Unspecified),
        (3 << 3, Direction::Unspecified),
    ] {
        let command = parse(&|request| request.flags = flags).0.unwrap();
        assert_eq!(command.direction, direction);
        assert_eq!(command.data.is_empty(), direction == Direction::None);
        let command = parse(&|request| (request.flags, request.data_len) = (flags, 0)).0.unwrap();
        assert_eq!((command.direction, command.data.len()), (Direction::None, 0));
    }
    // Data that is no memory: BTSTAT_INVPARAM.
    for (data, len) in [(MEMORY as u64, 1), (DATA, 1 << 40), (u64::MAX, 2), (DATA, u64::MAX)] {
        assert_eq!(parse(&|request| (request.data, request.data_len) = (data, len)), (None, 0x1a));
    }
    assert_eq!(counter(&adapter, "refused"), 13);
}

fn element(driver: &Driver, at: u64, address: u64, len: u32, flags: u32) {
    driver.put(at, &address.to_le_bytes());
    driver.set_word(at + 8, len);
    driver.set_word(at + 12, flags);
}

fn listed(len: u64) -> Request {
    Request { data: LISTS, data_len: len, flags: 1 << 3 | 1, ..Request::read(1) }
}

#[test]
fn lists_are_followed_over_links() {
    let (driver, mut adapter) = started(1);
    element(&driver, LISTS, DATA, 512, 0);
    element(&driver, LISTS + 16, DATA + 0x2000, 0, 0);
    element(&driver, LISTS + 32, DATA + 0x1000, 1024, 0);
    // Touches the one before.
    element(&driver, LISTS + 48, DATA + 0x1400, 512, 0);
    element(&driver, LISTS + 64, LISTS + 0x1ff0, 77, 1);
    // The last place of its page, and a link from there is to be the last.
    element(&driver, LISTS + 0x1ff0, LISTS + 0x3000, 0, 1);
    element(&driver, LISTS + 0x3000, DATA + 0x4000, 4096, 0);
    driver.post(&listed(512 + 1536 + 100));
    let commands = take(&mut adapter, &driver.memory);
    let span = |offset, len| Span { offset: DATA + offset, len, region: 0 };
    assert_eq!(commands[0].data_in(), [span(0, 512), span(0x1000, 1536), span(0x4000, 100)]);
    assert_eq!(commands[0].offered, 512 + 1536 + 100);
}

/// Linux's largest: 128 elements in one page.
#[test]
fn a_full_segment() {
    let (driver, mut adapter) = started(1);
    for index in 0..128 {
        element(&driver, LISTS + 16 * index, DATA + 0x2000 * index, 4096, 0);
    }
    driver.post(&listed(128 * 4096));
    let commands = take(&mut adapter, &driver.memory);
    assert_eq!(commands[0].data.len(), 128);
    assert_eq!(commands[0].data[127], Span { offset: DATA + 0x2000 * 127, len: 4096, region: 0 });
}

#[test]
fn lists_that_end_nowhere_end() {
    let (driver, mut adapter) = started(1);
    let mut refuse = |driver: &Driver, request: &Request| {
        driver.post(request);
        let commands = take(&mut adapter, &driver.memory);
        assert!(commands.is_empty());
        adapter.publish(NOW, &driver.memory);
        let completion = driver.consume().unwrap();
        assert_eq!((completion.host_status, completion.data_len), (0x1a, 0));
    };
    // A loop of links, of one and of two.
    element(&driver, LISTS, LISTS, 0, 1);
    refuse(&driver, &listed(512));
    element(&driver, LISTS, LISTS + 0x1000, 0, 1);
    element(&driver, LISTS + 0x1000, LISTS, 0, 1);
    refuse(&driver, &listed(512));
    // A loop that has data, one byte a round; and empty elements to the end of the page.
    element(&driver, LISTS, DATA, 1, 0);
    element(&driver, LISTS + 16, LISTS, 1, 1);
    refuse(&driver, &listed(1 << 30));
    for index in 0..256 {
        element(&driver, LISTS + 16 * index, DATA, 0, 0);
    }
    refuse(&driver, &listed(512));
    // More pieces than can be.
    for page in 0..5 {
        for index in 0..255 {
            element(&driver, LISTS + 0x1000 * page + 16 * index, DATA + 0x100 * (index % 64), 16, 0);
        }
        element(&driver, LISTS + 0x1000 * page + 16 * 255, LISTS + 0x1000 * (page + 1), 0, 1);
    }
    refuse(&driver, &listed(5 * 255 * 16));
    // No memory: the list, its next part, its data.
    refuse(&driver, &Request { data: MEMORY as u64, ..listed(512) });
    refuse(&driver, &Request { data: u64::MAX - 7, ..listed(512) });
    element(&driver, LISTS, u64::MAX - 15, 0, 1);
    refuse(&driver, &listed(512));
    element(&driver, LISTS, MEMORY as u64 - 1, 2, 0);
    refuse(&driver, &listed(2));
    assert_eq!(counter(&adapter, "fault_bad_list") + counter(&adapter, "fault_bad_data"), 9);
}

#[test]
fn data_and_sense_may_lie_across_regions() {
    let driver = Driver::new(1);
    let mut adapter = adapter(&hot());
    // The same bytes, cut in three at places within the data and the sense buffer.
    let whole = driver.memory.regions()[0].clone();
    let cuts = [0, SENSE + 10, DATA + 100, MEMORY as u64];
    let part = |cut: &[u64]| Region { guest: cut[0], len: cut[1] - cut[0], offset: cut[0], ..whole.clone() };
    let memory = Memory::new(cuts.windows(2).map(part).collect(), None).unwrap();
    assert_eq!(command(&mut adapter, &memory, 3, &driver.setup_rings()), 0);
    let driver = Driver { request_log2: 5, completion_log2: 7, ..driver };
    driver.post(&Request::read(1));
    let commands = take(&mut adapter, &memory);
    assert_eq!(request::total(commands[0].data_in()), 4096);
    assert_eq!(commands[0].data.len(), 2);
    let sense = [0x5a; 96];
    let answer = Answer::Ended { host_status: 0, scsi_status: 2, sense: &sense, residual: 0 };
    adapter.complete(&memory, commands[0].id, &answer);
    adapter.publish(NOW, &memory);
    assert_eq!(driver.consume().unwrap().sense_len, 96);
    assert_eq!(driver.get::<96>(SENSE), sense);
}

#[test]
fn a_sense_buffer_that_is_no_memory_gets_nothing() {
    let (driver, mut adapter) = started(1);
    driver.post(&Request { sense: MEMORY as u64 - 4, ..Request::read(1) });
    driver.post(&Request { sense: 0, sense_len: 0, ..Request::read(2) });
    driver.post(&Request { sense_len: u32::MAX, ..Request::read(3) });
    for command in take(&mut adapter, &driver.memory) {
        let answer = Answer::Ended { host_status: 0, scsi_status: 2, sense: &[1; 18], residual: 0 };
        adapter.complete(&driver.memory, command.id, &answer);
    }
    adapter.publish(NOW, &driver.memory);
    let lens: Vec<u32> = driver.consume_all().iter().map(|completion| completion.sense_len).collect();
    assert_eq!(lens, [0, 0, 18]);
    assert_eq!(counter(&adapter, "fault_bad_sense"), 1);
}

#[test]
fn rings_go_round_and_indices_wrap() {
    let (driver, mut adapter) = started(2);
    for round in 0..100_u64 {
        let mut posted = 0;
        while driver.post(&Request::read(round * 64 + posted + 1)) {
            posted += 1;
        }
        assert_eq!(posted, 64);
        run(&mut adapter, &driver.memory);
        let contexts: Vec<u64> = driver.consume_all().iter().map(|completion| completion.context).collect();
        assert_eq!(contexts, (round * 64 + 1..=round * 64 + 64).collect::<Vec<_>>());
    }
    assert_eq!(driver.word(STATE + 4), 6400);
    assert_eq!(counter(&adapter, "taken"), 6400);
    assert_eq!(counter(&adapter, "completed"), 6400);
}

/// A driver that posts more than the completion ring holds, and reads late.
#[test]
fn completions_wait_for_room() {
    let (driver, mut adapter) = started(1);
    let entries = 1 << driver.completion_log2;
    for context in 0..entries + 40 {
        // Not as a sound driver: it does not look at its completions.
        driver.put(REQUESTS + 128 * (context % 32), &Request::read(context).bytes());
        driver.set_word(STATE, context as u32 + 1);
        run(&mut adapter, &driver.memory);
    }
    assert_eq!(driver.word(STATE + 12), entries as u32);
    assert!(counter(&adapter, "held_back") > 0);
    let later = adapter.deadline().unwrap();
    assert!(later > NOW);
    assert_eq!(driver.consume().unwrap().context, 0);
    adapter.expire(NOW, &driver.memory);
    assert_eq!(driver.word(STATE + 12), entries as u32, "not yet");
    adapter.expire(later, &driver.memory);
    assert_eq!(driver.word(STATE + 12), entries as u32 + 1);
    let mut seen = 1;
    let mut now = later;
    while seen < entries + 40 {
        for completion in driver.consume_all() {
            assert_eq!(completion.context, seen);
            seen += 1;
        }
        now = now.after(core::time::Duration::from_secs(1));
        adapter.expire(now, &driver.memory);
    }
    assert_eq!(adapter.deadline(), None);
}

#[test]
fn kicks_can_be_forgone() {
    let (driver, mut adapter) = started(1);
    // As Linux decides whether to kick for a read or a write.
    let kicks =
        |driver: &Driver| driver.word(STATE).wrapping_sub(driver.word(STATE + 4)) >= driver.word(STATE + 24);
    driver.post(&Request::read(1));
    assert!(kicks(&driver));
    adapter.forgo_kicks(&driver.memory);
    driver.post(&Request::read(2));
    assert!(!kicks(&driver));
    run(&mut adapter, &driver.memory);
    adapter.want_kicks(NOW, &driver.memory);
    assert!(!adapter.has_work() && !kicks(&driver));
    let again = adapter.deadline().unwrap();
    assert!(again > NOW && again < NOW.after(core::time::Duration::from_millis(1)));
    driver.post(&Request::read(3));
    assert!(kicks(&driver) && adapter.has_work());
    adapter.expire(again, &driver.memory);
    assert_eq!(adapter.deadline(), None);
    // A driver that did not ask gets no threshold.
    assert_eq!(command(&mut adapter, &driver.memory, 10, &[0]), 0);
    adapter.forgo_kicks(&driver.memory);
    assert_eq!(driver.word(STATE + 24), 0);
}

#[test]
fn without_bus_mastering_nothing_moves_and_nothing_is_lost() {
    let (driver, mut adapter) = started(1);
    driver.post(&Request::read(1));
    let commands = take(&mut adapter, &driver.memory);
    driver.post(&Request::read(2));
    let empty = Memory::empty();
    adapter.memory_changed(&empty);
    assert!(!adapter.has_work());
    assert!(take(&mut adapter, &empty).is_empty());
    adapter.complete(&empty, commands[0].id, &GOOD);
    adapter.publish(NOW, &empty);
    assert_eq!(driver.consume(), None);
    adapter.memory_changed(&driver.memory);
    adapter.publish(Instant::from_nanos(5), &driver.memory);
    assert_eq!(driver.consume().unwrap().context, 1);
    run(&mut adapter, &driver.memory);
    assert_eq!(driver.consume().unwrap().context, 2);
}

#[test]
fn a_command_ends_once() {
    let (driver, mut adapter) = started(1);
    driver.post(&Request::read(1));
    let commands = take(&mut adapter, &driver.memory);
    let id = commands[0].id;
    assert!(!adapter.complete(&driver.memory, id ^ 1, &GOOD));
    assert!(!adapter.complete(&driver.memory, id + (1 << 16), &GOOD));
    assert!(adapter.complete(&driver.memory, id, &GOOD));
    assert!(!adapter.complete(&driver.memory, id, &GOOD));
    adapter.publish(NOW, &driver.memory);
    assert!(!adapter.complete(&driver.memory, id, &GOOD));
    // The slot's next command has another name.
    driver.post(&Request::read(2));
    assert_ne!(take(&mut adapter, &driver.memory)[0].id, id);
    assert_eq!(driver.consume_all().len(), 1);
}

#[test]
fn producers_that_jump_are_waited_out() {
    let (driver, mut adapter) = started(1);
    for producer in [33, 1000, u32::MAX, 0x8000_0000] {
        driver.set_word(STATE, producer);
        assert!(!adapter.has_work());
        for _ in 0..3 {
            assert!(take(&mut adapter, &driver.memory).is_empty());
        }
    }
    assert_eq!(counter(&adapter, "fault_request_index"), 4);
    driver.set_word(STATE, 0);
    driver.post(&Request::read(1));
    run(&mut adapter, &driver.memory);
    assert_eq!(driver.consume().unwrap().context, 1);
}
