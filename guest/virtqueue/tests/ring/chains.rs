//! What drivers may post, and what they may not.

use std::sync::Arc;

use crate::driver::{BUFFERS, Buffer, Driver, Kind, Layout};
use guest_memory::{Log, Memory, Region, Window};
use host::map::Mapping;
use request::Address;
use standpipe_virtqueue::{Chain, Fault, Order, Pop, Queue, SPANS_MAX, Setup, SetupError};

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

fn kind(packed: bool) -> Kind {
    Kind { packed, event_idx: false, order: Order::Any, size: 8 }
}

fn inflight(kind: Kind) -> Window {
    Window::anonymous(Queue::inflight_bytes(kind.size, kind.packed))
}

/// A driver that writes what it likes: descriptors as (address, length, flags, next).
struct Liar {
    driver: Driver,
    queue: Queue,
}

impl Liar {
    fn new(packed: bool) -> Self {
        Self::with(packed, |_| {})
    }

    fn with(packed: bool, change: impl FnOnce(&mut Setup)) -> Self {
        let driver = Driver::new(kind(packed));
        let mut setup = driver.setup(&inflight(driver.kind), false);
        change(&mut setup);
        let queue = Queue::new(setup, &driver.memory).expect("a sound set-up");
        Self { driver, queue }
    }

    fn table(&self, at: &Window, descriptors: &[(u64, u32, u16, u16)], in_ring: bool) {
        for (index, (address, len, flags, next)) in descriptors.iter().enumerate() {
            at.store_u64(16 * index, *address);
            at.store_u32(16 * index + 8, *len);
            let (third, fourth) = match (self.driver.kind.packed, in_ring) {
                (true, true) => (7, flags | 0x80),
                (true, false) => (7, *flags),
                (false, _) => (*flags, *next),
            };
            at.store_u16(16 * index + 12, third);
            at.store_u16(16 * index + 14, fourth);
        }
    }

    fn indirect(&self, address: u64, descriptors: &[(u64, u32, u16, u16)]) {
        let len = 16 * descriptors.len() as u32;
        self.table(&self.driver.memory.window(Address(address), len).unwrap(), descriptors, false);
    }

    fn pop(&mut self, descriptors: &[(u64, u32, u16, u16)]) -> Result<Chain, Fault> {
        self.table(&self.driver.desc, descriptors, true);
        if !self.driver.kind.packed {
            self.driver.driver.store_u16(4, 0);
            self.driver.driver.store_u16(2, 1);
        }
        let mut chain = Chain::new();
        match self.queue.pop(&self.driver.memory, &mut chain) {
            Pop::Chain => Ok(chain),
            Pop::Empty => panic!("nothing was seen"),
            Pop::Broken(fault) => {
                assert_eq!(self.queue.fault(), Some(fault));
                assert_eq!(self.queue.pop(&self.driver.memory, &mut chain), Pop::Broken(fault));
                assert!(!self.queue.has_work() && !self.queue.enable_kicks(), "a broken queue rests");
                Err(fault)
            }
        }
    }
}

fn refused(packed: bool, descriptors: &[(u64, u32, u16, u16)]) -> Fault {
    Liar::new(packed).pop(descriptors).expect_err("it must be refused")
}

const B: u64 = BUFFERS;

#[test]
fn faults_of_both_rings_have_their_names() {
    for packed in [false, true] {
        assert_eq!(refused(packed, &[(1 << 40, 16, 0, 0)]), Fault::BadAddress);
        assert_eq!(refused(packed, &[(u64::MAX - 3, 16, 0, 0)]), Fault::BadAddress);
        assert_eq!(refused(packed, &[(B, u32::MAX, 0, 0)]), Fault::BadAddress);
        assert_eq!(refused(packed, &[(B, 16, WRITE | NEXT, 1), (B, 16, 0, 0)]), Fault::OrderViolation);
        assert_eq!(refused(packed, &[(B, 16, WRITE | NEXT, 1), (B, 0, 0, 0)]), Fault::OrderViolation);
        let around: Vec<_> = (0..8).map(|index| (B, 1, NEXT, (index + 1) % 8)).collect();
        assert_eq!(refused(packed, &around), Fault::Loop);
        for len in [0, 8, 17, 16 * 32769] {
            assert_eq!(refused(packed, &[(B, len, INDIRECT, 0)]), Fault::IndirectSize);
        }
        assert_eq!(refused(packed, &[(1 << 40, 16, INDIRECT, 0)]), Fault::BadAddress);
        assert_eq!(refused(packed, &[(B, 16, INDIRECT | NEXT, 1), (B, 16, 0, 0)]), Fault::IndirectNext);
        let mut plain = Liar::with(packed, |setup| setup.indirect = false);
        assert_eq!(plain.pop(&[(B, 16, INDIRECT, 0)]), Err(Fault::IndirectRefused));
    }
}

#[test]
fn faults_of_split_rings_have_their_names() {
    assert_eq!(refused(false, &[(B, 1, NEXT, 8)]), Fault::BadNext);
    assert_eq!(refused(false, &[(B, 1, NEXT, 0)]), Fault::Loop);
    let nested = |flags, next| {
        let mut liar = Liar::new(false);
        liar.indirect(B, &[(B, 16, flags, next)]);
        liar.pop(&[(B, 16, INDIRECT, 0)]).expect_err("it must be refused")
    };
    assert_eq!(nested(INDIRECT, 0), Fault::IndirectNested);
    assert_eq!(nested(NEXT, 0), Fault::Loop);
    assert_eq!(nested(NEXT, 1), Fault::BadNext);

    let mut liar = Liar::new(false);
    liar.driver.driver.store_u16(2, 9);
    assert_eq!(liar.queue.pop(&liar.driver.memory, &mut Chain::new()), Pop::Broken(Fault::AvailRunaway));
    let mut liar = Liar::new(false);
    liar.driver.driver.store_u16(4, 8);
    liar.driver.driver.store_u16(2, 1);
    assert_eq!(liar.queue.pop(&liar.driver.memory, &mut Chain::new()), Pop::Broken(Fault::BadHead));

    let mut liar = Liar::new(false);
    liar.pop(&[(B, 16, 0, 0)]).unwrap();
    liar.driver.driver.store_u16(6, 0);
    liar.driver.driver.store_u16(2, 2);
    assert_eq!(liar.queue.pop(&liar.driver.memory, &mut Chain::new()), Pop::Broken(Fault::HeadInFlight));
}

#[test]
fn a_packed_ring_is_not_overrun() {
    let mut liar = Liar::new(true);
    let all: Vec<_> = (0..8).map(|_| (B, 16, 0, 0)).collect();
    liar.table(&liar.driver.desc.clone(), &all, true);
    let mut chain = Chain::new();
    for _ in 0..8 {
        assert_eq!(liar.queue.pop(&liar.driver.memory, &mut chain), Pop::Chain);
    }
    // The same slots again, available for the next lap while all of them are in flight.
    for slot in 0..8 {
        liar.driver.desc.store_u16(16 * slot + 14, 0x8000);
    }
    assert_eq!(liar.queue.pop(&liar.driver.memory, &mut chain), Pop::Broken(Fault::AvailRunaway));
}

#[test]
fn a_split_ring_is_not_overrun_in_order_either() {
    let mut liar = Liar::with(false, |setup| setup.order = Order::InOrder);
    let mut chain = Chain::new();
    liar.driver.driver.store_u16(2, 8);
    for _ in 0..8 {
        assert_eq!(liar.queue.pop(&liar.driver.memory, &mut chain), Pop::Chain);
    }
    assert_eq!(liar.queue.in_flight(), 8);
    liar.queue.push(&liar.driver.memory, chain.head, 0);
    // One has ended, and the guest cannot see it yet.
    liar.driver.driver.store_u16(2, 9);
    assert_eq!(liar.queue.pop(&liar.driver.memory, &mut chain), Pop::Broken(Fault::AvailRunaway));
}

#[test]
fn too_long_a_table_is_refused_and_the_longest_is_taken() {
    for packed in [false, true] {
        for (count, longest) in [(SPANS_MAX, true), (SPANS_MAX + 1, false)] {
            let mut liar = Liar::new(packed);
            let table: Vec<_> = (0..count)
                .map(|index| {
                    let next = if index + 1 < count && !packed { NEXT } else { 0 };
                    (B, 1, next, index as u16 + 1)
                })
                .collect();
            liar.indirect(B, &table);
            let got = liar.pop(&[(B, 16 * count as u32, INDIRECT, 0)]);
            if longest {
                assert_eq!(got.unwrap().spans.len(), SPANS_MAX);
            } else {
                assert_eq!(got, Err(Fault::TooLong));
            }
        }
    }
}

#[test]
fn empty_descriptors_and_unspecified_flags_do_no_harm() {
    for packed in [false, true] {
        let mut liar = Liar::new(packed);
        let chain = liar
            .pop(&[
                (u64::MAX, 0, NEXT, 1),
                (B, 16, NEXT, 2),
                (0, 0, NEXT | WRITE, 3),
                (B + 16, 8, WRITE | 1 << 5, 0),
            ])
            .unwrap();
        assert_eq!((chain.spans.len(), chain.writable_from), (2, 1));
        assert_eq!((chain.readable()[0].len, chain.writable()[0].len), (16, 8));
        assert_eq!(chain.count, if packed { 4 } else { 1 });
        // The indirect descriptor's own WRITE flag says nothing (2.7.5.3.2).
        let mut liar = Liar::new(packed);
        liar.indirect(B, &[(B, 16, 0, 0)]);
        let chain = liar.pop(&[(B, 16, INDIRECT | WRITE, 0)]).unwrap();
        assert_eq!(chain.writable_from, 1);
    }
}

#[test]
fn a_buffer_over_the_border_of_two_regions_becomes_two_spans() {
    let mapping = Arc::new(Mapping::anonymous(0x20000).unwrap());
    let region =
        |guest, offset| Region { guest, len: 0x10000, user: 0, offset, mapping: Arc::clone(&mapping) };
    let memory = Memory::new(vec![region(0, 0x10000), region(0x10000, 0)], None).unwrap();
    let window = |address, len| memory.window(Address(address), len).unwrap();
    let (desc, avail) = (window(0, 128), window(0x1000, 20));
    let setup = Setup {
        size: 8,
        packed: false,
        event_idx: false,
        indirect: true,
        desc: desc.clone(),
        driver: avail.clone(),
        device: window(0x2000, 68),
        log: None,
        inflight: None,
        order: Order::Any,
        base: 0,
        resume: false,
    };
    let mut queue = Queue::new(setup, &memory).unwrap();
    // A table of two over the border, whose second entry is a buffer over the border.
    window(0xfff0, 16).store_u64(0, 0x3000);
    window(0xfff0, 16).store_u64(8, 1 << 48 | u64::from(NEXT) << 32 | 4);
    window(0x10000, 16).store_u64(0, 0xfffc);
    window(0x10000, 16).store_u64(8, u64::from(WRITE) << 32 | 16);
    desc.store_u64(0, 0xfff0);
    desc.store_u64(8, u64::from(INDIRECT) << 32 | 32);
    avail.store_u16(2, 1);
    let mut chain = Chain::new();
    assert_eq!(queue.pop(&memory, &mut chain), Pop::Chain);
    let got: Vec<_> = chain.spans.iter().map(|span| (span.region, span.offset, span.len)).collect();
    assert_eq!(got, [(0, 0x3000, 4), (0, 0xfffc, 4), (1, 0, 12)]);
    assert_eq!(chain.writable_from, 1);
    // Without shared memory for those in flight, a request ends all the same.
    queue.push(&memory, chain.head, 12);
    assert!(queue.publish(&memory));
    assert_eq!(queue.in_flight(), 0);
}

#[test]
fn unsound_set_ups_are_refused() {
    let refuse = |packed, change: &dyn Fn(&mut Setup)| {
        let driver = Driver::new(kind(packed));
        let mut setup = driver.setup(&inflight(driver.kind), false);
        change(&mut setup);
        Queue::new(setup, &driver.memory).expect_err("it must be refused")
    };
    assert_eq!(refuse(false, &|setup| setup.size = 0), SetupError::Size);
    assert_eq!(refuse(false, &|setup| setup.size = 7), SetupError::Size);
    assert_eq!(refuse(true, &|setup| setup.size = 32769), SetupError::Size);
    assert_eq!(refuse(true, &|setup| setup.base = 8), SetupError::Base);
    let short = |window: &mut Window| *window = window.sub(0, window.len() - 8).unwrap();
    for packed in [false, true] {
        assert_eq!(refuse(packed, &|setup| short(&mut setup.desc)), SetupError::DescriptorArea);
        let odd = |window: &mut Window| *window = window.sub(1, window.len() - 1).unwrap();
        assert_eq!(refuse(packed, &|setup| odd(&mut setup.driver)), SetupError::DriverArea);
        assert_eq!(refuse(packed, &|setup| odd(&mut setup.device)), SetupError::DeviceArea);
        let tiny = |setup: &mut Setup| setup.inflight = Some(Window::anonymous(64));
        assert_eq!(refuse(packed, &tiny), SetupError::InflightRegion);
    }
}

#[test]
fn the_region_for_requests_in_flight_is_as_large_as_other_back_ends_make_it() {
    // QueueRegionSplit: 16 + 16 * size; QueueRegionPacked: 32 + 32 * size; aligned to 64.
    assert_eq!(Queue::inflight_bytes(128, false), 2112);
    assert_eq!(Queue::inflight_bytes(256, true), 8256);
}

#[test]
fn the_base_tells_where_a_ring_stands_and_where_to_go_on() {
    for packed in [false, true] {
        let mut driver = Driver::new(kind(packed));
        let region = inflight(driver.kind);
        let mut queue = Queue::new(driver.setup(&region, false), &driver.memory).unwrap();
        let mut chain = Chain::new();
        for token in 0..19 {
            let buffers = [Buffer { address: B, len: 16, write: true }];
            driver.post(token, &buffers, Layout::Direct);
            assert_eq!(queue.pop(&driver.memory, &mut chain), Pop::Chain);
            queue.push(&driver.memory, chain.head, 1);
            queue.publish(&driver.memory);
            assert_eq!(driver.take_used(), [(token, 1)]);
        }
        assert_eq!(queue.base(), if packed { 0x8003_8003 } else { 19 });
        // Another process, which knows nothing but the base.
        let mut setup = driver.setup(&inflight(driver.kind), false);
        setup.base = queue.base();
        let mut queue = Queue::new(setup, &driver.memory).unwrap();
        assert!(!queue.has_work());
        driver.post(19, &[Buffer { address: B, len: 16, write: false }], Layout::Direct);
        assert_eq!((queue.has_work(), queue.pending()), (true, 1));
        assert_eq!(queue.pop(&driver.memory, &mut chain), Pop::Chain);
        assert_eq!((queue.in_flight(), queue.pending()), (1, 0));
        queue.push(&driver.memory, chain.head, 0);
        queue.publish(&driver.memory);
        assert_eq!(driver.take_used(), [(19, 0)]);
        assert_eq!(queue.counters().popped, 1);
    }
}

#[test]
fn what_the_device_writes_into_a_ring_is_in_the_dirty_log() {
    for packed in [false, true] {
        let mut driver = Driver::new(kind(packed));
        let bits = Arc::new(Mapping::anonymous(4096).unwrap());
        let memory = driver.memory.with_log(Log::new(Arc::clone(&bits), 0, 4096));
        let seen = Window::new(bits, 0, 4096).unwrap();
        let mut setup = driver.setup(&inflight(driver.kind), false);
        // Pages 9 and 10 meet between the used ring's second and third element.
        setup.log = Some(Address(0xa000 - if packed { 32 } else { 20 }));
        let mut queue = Queue::new(setup, &memory).unwrap();
        let mut chain = Chain::new();
        for token in 0..3 {
            driver.post(token, &[Buffer { address: B, len: 16, write: true }], Layout::Direct);
            assert_eq!(queue.pop(&memory, &mut chain), Pop::Chain);
            assert_eq!(seen.load_u8(1), if token == 0 { 0 } else { 0b10 });
            queue.push(&memory, chain.head, 0);
            queue.publish(&memory);
        }
        assert_eq!(seen.load_u8(1), 0b110);
    }
}
