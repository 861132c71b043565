//! A frame from one guest's buffers into another's, and the control queue.

use std::cell::RefCell;
use std::sync::Arc;

use arbitrary::{Result, Unstructured};
use guest_memory::Memory;
use request::{Address, Mac, Rewrite, Span};
use virtio_net::{Config, Link, Nic, OFFERED, Outgoing, Refused};
use virtqueue::{Order, Queue, Setup};

use crate::posted::{posted, seed};

const BUFFERS: u16 = 16;
const BUFFERS_AT: u64 = 0x1000;
const BUFFER_BYTES: u64 = 0x800;
const RECEIVER_BYTES: usize = (BUFFERS_AT + BUFFERS as u64 * BUFFER_BYTES) as usize;

thread_local! {
    static RECEIVER: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
}

fn nic(features: u64) -> Nic {
    let mut nic = Nic::new(Config {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mac_changeable: true,
        mtu: Some(1500),
        pairs_max: 2,
        link: Link::Up,
        speed: u32::MAX,
    });
    nic.negotiate(features);
    nic
}

/// A ring with a writable buffer of some length in each descriptor.
fn receiver(input: &mut Unstructured<'_>) -> Result<(Arc<Memory>, Queue)> {
    let memory = RECEIVER.with_borrow_mut(|memory| {
        Arc::clone(memory.get_or_insert_with(|| Memory::anonymous(RECEIVER_BYTES)))
    });
    memory.zero(Span { offset: 0, len: RECEIVER_BYTES as u32, region: 0 }).expect("the memory's own span");
    let window = |at, len| memory.window(Address(at), len).expect("within the memory");
    let (desc, driver, device) = (window(0, 0x200), window(0x400, 0x100), window(0x800, 0x100));
    let posted = input.int_in_range(0..=BUFFERS)?;
    for index in 0..posted {
        let at = 16 * usize::from(index);
        let len = if input.arbitrary()? { BUFFER_BYTES as u32 } else { input.int_in_range(0..=100)? };
        desc.store_u64(at, BUFFERS_AT + u64::from(index) * BUFFER_BYTES);
        desc.store_u32(at + 8, len);
        desc.store_u16(at + 12, 2);
        driver.store_u16(4 + 2 * usize::from(index), index);
    }
    driver.store_u16(2, posted);
    let setup = Setup {
        size: BUFFERS,
        packed: false,
        event_idx: false,
        indirect: false,
        desc,
        driver,
        device,
        log: None,
        inflight: None,
        order: Order::InOrder,
        base: 0,
        resume: false,
    };
    let queue = Queue::new(setup, &memory).expect("a sound set-up");
    Ok((memory, queue))
}

pub fn virtio_net(data: &[u8]) {
    let _ = run(&mut Unstructured::new(data));
}

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let features = |input: &mut Unstructured<'_>| -> Result<u64> {
        Ok(if input.arbitrary()? { OFFERED } else { OFFERED & input.arbitrary::<u64>()? })
    };
    let mut sender = nic(features(input)?);
    let mut taker = nic(features(input)?);
    let control = input.ratio(1, 4)?;
    let rewrite = *input.choose(&[
        Rewrite::Keep,
        Rewrite::Keep,
        Rewrite::Strip,
        Rewrite::Insert(5),
        Rewrite::Replace(0x1005),
    ])?;
    let (to_memory, mut queue) = receiver(input)?;
    let mut posted = posted(input)?;
    let memory = posted.memory.clone();
    if control {
        let (written, _) = sender.control(&memory, &mut posted.chain);
        assert!(u64::from(written) <= posted.room());
        posted.check_untouched();
        return Ok(());
    }
    let had = request::total(posted.chain.readable());
    let mut outgoing = Outgoing::default();
    if sender.next_frame(&memory, &mut posted.chain, &mut outgoing).is_err() {
        posted.check_untouched();
        return Ok(());
    }
    assert!(u64::from(outgoing.len) < had);
    let frame = outgoing.frame(&memory, &posted.chain);
    assert_eq!(frame.len(), u64::from(outgoing.len), "the frame's parts add up");
    let _ = virtio_net::steer(frame.header);
    let before = queue.base();
    match taker.deliver(&mut queue, &to_memory, &frame, rewrite) {
        Ok(bytes) => {
            assert!(bytes + 8 >= outgoing.len && bytes <= outgoing.len + 4);
            assert_ne!(queue.base(), before);
        }
        Err(refused) => {
            assert_eq!(queue.base(), before, "{} leaves the buffers where they were", refused.name());
            assert!(refused != Refused::Broken, "the receiver did no wrong");
        }
    }
    queue.publish(&to_memory);
    posted.check_untouched();
    Ok(())
}

pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let buffers = [&[16u8][..], &[1; 16]].concat();
    let frame = [&[2u8, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &[0x45, 0, 0, 120], &[0; 200]].concat();
    let mut tcp = [0u8; 12];
    tcp[..10].copy_from_slice(&[1, 1, 54, 0, 100, 0, 34, 0, 16, 0]);
    for header in [[0; 12], tcp] {
        for (start, readable, writable) in [
            (&[1u8, 1, 255, 0][..], &[12u8, 200][..], &[][..]),
            (&[1, 1, 255, 2], &[112], &[]),
            (&[1, 1, 0, 0], &[2, 8], &[1]),
        ] {
            let mut bytes = start.to_vec();
            bytes.extend(&buffers);
            bytes.extend(seed(readable, writable, &[&header[..], &frame].concat()));
            seeds.push(bytes);
        }
    }
    seeds
}
