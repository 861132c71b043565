//! Golden bytes are typed from the tables of QEMU's docs/interop/vfio-user.rst, apart from the
//! constants of this crate.

use super::*;
use crate::device::{Area, Region};

/// What QEMU 10.1 proposes: hw/vfio-user/proxy.c names these capabilities.
const PROPOSAL: &str = "{\"capabilities\": {\"pgsizes\": 4096, \"max_msg_fds\": 16, \"max_dma_maps\": 65535, \
     \"max_data_xfer_size\": 1048576, \"migration\": {\"max_bitmap_size\": 268435456, \"pgsize\": 4096}, \
     \"write_multiple\": true}}";

/// An adapter with 128 KiB of registers, 64 ports, an option ROM, INTx, one MSI and five MSI-X
/// vectors.
fn device() -> Device {
    Device::new([0x2_0000, 64, 0, 0, 0, 0], 0x4_0000, 256, true, 1, 5)
}

struct Client {
    session: Session,
    device: Device,
}

/// An outcome without its loans, and the reply.
#[derive(Debug)]
struct Got {
    effect: std::string::String,
    kept: Vec<u32>,
    dropped: Vec<u32>,
    fault: Option<Fault>,
    changed: bool,
    reply: Vec<u8>,
}

impl Client {
    fn new() -> Self {
        let mut client = Self { session: Session::new(), device: device() };
        let got = client.send(1, 0, &[&[0, 0, 0, 0][..], PROPOSAL.as_bytes(), &[0]].concat(), 0);
        assert_eq!(got.fault, None);
        client
    }

    fn raw(&mut self, header: &[u8], payload: &[u8], fds: usize) -> Got {
        let header = Header::parse(header.try_into().unwrap()).unwrap();
        // Something is in the buffer already: replies are gathered.
        let mut reply = alloc::vec![0xee; 3];
        let before = self.session.state.clone();
        let outcome = self.session.follow(&self.device, &header, payload, fds, &mut reply);
        assert!(reply.starts_with(&[0xee; 3]) && reply.len() <= 3 + REPLY_MAX);
        assert!(outcome.changed || before == self.session.state);
        Got {
            effect: std::format!("{:?}", outcome.effect),
            kept: outcome.kept,
            dropped: outcome.dropped,
            fault: outcome.fault,
            changed: outcome.changed,
            reply: reply[3..].to_vec(),
        }
    }

    /// A command with id 1234h.
    fn send(&mut self, command: u8, flags: u8, payload: &[u8], fds: usize) -> Got {
        let size = (16 + payload.len() as u32).to_le_bytes();
        let [a, b, c, d] = size;
        self.raw(&[0x34, 0x12, command, 0, a, b, c, d, flags, 0, 0, 0, 0, 0, 0, 0], payload, fds)
    }

    fn fails(&mut self, command: u8, payload: &[u8], fds: usize, fault: Fault, errno: u8) {
        let before = self.session.state.clone();
        let got = self.send(command, 0, payload, fds);
        assert_eq!((got.fault, got.effect.as_str()), (Some(fault), "Nothing"));
        assert_eq!(got.reply, error(command, errno));
        assert!(got.kept.is_empty() && !got.changed);
        // The same, posted: no reply at all.
        let got = self.send(command, 0x10, payload, fds);
        assert_eq!((got.reply.len(), self.session.state == before), (0, true));
    }
}

/// An error reply: head only, flags reply and error.
fn error(command: u8, errno: u8) -> [u8; 16] {
    [0x34, 0x12, command, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, errno, 0, 0, 0]
}

/// A good reply's head.
fn head(command: u8, size: u8) -> [u8; 16] {
    [0x34, 0x12, command, 0, size, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// DMA_MAP: argsz, flags, offset, address, size.
fn map(flags: u32, offset: u32, address: u32, size: u32) -> Vec<u8> {
    words(&[32, flags, offset, 0, address, 0, size, 0])
}

/// DMA_UNMAP: argsz, flags, address, size.
fn unmap(flags: u32, address: u32, size: u32) -> Vec<u8> {
    words(&[24, flags, address, 0, size, 0])
}

#[test]
fn heads() {
    let parsed = Header::parse(&[1, 2, 9, 0, 0x20, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(parsed, Header { id: 0x201, command: 9, size: 32, flags: 16, error: 0 });
    assert!(!parsed.wants_reply() && !parsed.is_reply());
    assert_eq!(Header::parse(&[0; 16]), Err(crate::WireError::Size));
    assert_eq!(
        Header::parse(&[0, 0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]),
        Err(crate::WireError::Type)
    );
}

#[test]
fn qemus_proposal_is_answered_within_its_length() {
    let mut client = Client { session: Session::new(), device: device() };
    client.fails(4, &words(&[16, 0, 0, 0]), 0, Fault::OutOfOrder, 22);
    let proposal = [&[0, 0, 0, 0][..], PROPOSAL.as_bytes(), &[0]].concat();
    let got = client.send(1, 0, &proposal, 0);
    let text = "{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576,\
         \"max_dma_maps\":512,\"pgsizes\":4096,\"write_multiple\":true}}";
    let want = [&head(1, 20 + 120 + 1)[..], &[0, 0, 0, 0], text.as_bytes(), &[0]].concat();
    assert_eq!(text.len(), 120);
    assert_eq!(got.reply, want);
    let known = client.session.state.client.unwrap();
    assert_eq!((known.max_msg_fds, known.max_data_xfer_size, known.write_multiple), (16, 1 << 20, true));
    assert_eq!(client.send(1, 0, &proposal, 0).fault, Some(Fault::OutOfOrder));
    // With migration there is more to say, and still room.
    let mut client = Client { session: Session::new(), device: Device { migration: true, ..device() } };
    let got = client.send(1, 0, &proposal, 0);
    assert!(got.reply.len() <= 16 + proposal.len());
    let text = "\"migration\":{\"pgsize\":4096,\"max_bitmap_size\":16384}}}\0";
    assert!(got.reply.ends_with(text.as_bytes()));
}

#[test]
fn versions() {
    let mut client = Client { session: Session::new(), device: device() };
    client.fails(1, &[1, 0, 0, 0], 0, Fault::BadVersion, 22);
    client.fails(1, &[0, 0, 0], 0, Fault::Malformed, 22);
    client.fails(1, b"\0\0\0\0{}", 0, Fault::BadCapabilities, 22);
    client.fails(1, b"\0\0\0\0[]\0", 0, Fault::BadCapabilities, 22);
    // No version data: none in the reply; never a later minor version than proposed.
    let got = client.send(1, 0, &[0, 0, 7, 0], 0);
    assert_eq!(got.reply, [&head(1, 20)[..], &[0, 0, 1, 0]].concat());
    assert_eq!(client.session.state.client.unwrap().max_msg_fds, 1);
}

#[test]
fn maps() {
    let mut client = Client::new();
    let got = client.send(2, 0, &map(3, 0, 0, 0xc_0000), 1);
    assert_eq!((got.effect.as_str(), got.kept), ("Memory", alloc::vec![1]));
    assert_eq!(got.reply, head(2, 16));
    // Without a descriptor, and one behind it.
    assert!(client.send(2, 0, &map(1, 0, 0xc_0000, 0x2_0000), 0).kept.is_empty());
    assert_eq!(client.send(2, 0, &map(3, 0x10_0000, 0x10_0000, 0x1ff0_0000), 1).kept, [2]);
    let maps = &client.session.state.maps;
    assert_eq!(
        maps.iter().map(|map| (map.address, map.fd, map.flags)).collect::<Vec<_>>(),
        [(0, 1, 3), (0xc_0000, 0, 1), (0x10_0000, 2, 3)]
    );
    for (address, size) in [(0, 0xc_0000), (0xb_f000, 0x1000), (0xe_0000, 0x2_1000), (0xf_0000, 0x4000_0000)]
    {
        client.fails(2, &map(3, 0, address, size), 1, Fault::MapExists, 17);
    }
    client.fails(2, &map(3, 0, 0xe_0000, 0), 1, Fault::BadMap, 22);
    client.fails(2, &map(0, 0, 0xe_0000, 0x1000), 1, Fault::BadMap, 22);
    client.fails(2, &words(&[32, 3, 0, 0, !0, !0, 2, 0]), 1, Fault::BadMap, 22);
    // Not of whole pages.
    for (offset, address, size) in [(1, 0xe_0000, 0x1000), (0, 0xe_0800, 0x1000), (0, 0xe_0000, 0xfff)] {
        client.fails(2, &map(3, offset, address, size), 1, Fault::BadMap, 22);
    }
    client.fails(2, &words(&[32, 3, !0, !0, 0, 1, 1, 0]), 1, Fault::BadMap, 22);
    client.fails(2, &words(&[31, 3, 0, 0, 0, 1, 1, 0]), 1, Fault::Malformed, 22);
    client.fails(2, &map(3, 0, 0xe_0000, 0x1000), 2, Fault::ExtraDescriptors, 22);
    client.fails(2, &map(3, 0, 0, 0)[..31], 0, Fault::Malformed, 22);
    // Exactly what is there.
    client.fails(3, &unmap(0, 0, 0x1000), 0, Fault::NoSuchMap, 2);
    client.fails(3, &unmap(0, 0x1000, 0xb_f000), 0, Fault::NoSuchMap, 2);
    client.fails(3, &unmap(1, 0, 0xc_0000), 0, Fault::BadUnmap, 22);
    let got = client.send(3, 0, &unmap(0, 0, 0xc_0000), 0);
    assert_eq!((got.effect.as_str(), got.dropped), ("Memory", alloc::vec![1]));
    assert_eq!(got.reply, [&head(3, 40)[..], &unmap(0, 0, 0xc_0000)].concat());
    client.fails(3, &unmap(2, 0, 0x1000), 0, Fault::BadUnmap, 22);
    assert_eq!(client.send(3, 0, &unmap(2, 0, 0), 0).dropped, [2]);
    assert!(client.session.state.maps.is_empty());
}

#[test]
fn maps_are_bounded() {
    let mut client = Client::new();
    for page in 0..512 {
        let fds = usize::from(page < 96);
        assert_eq!(client.send(2, 0, &map(3, 0, page * 0x1000, 0x1000), fds).fault, None);
        if page == 95 {
            client.fails(2, &map(3, 0, 0x800_0000, 0x1000), 1, Fault::TooManyMaps, 28);
        }
    }
    client.fails(2, &map(3, 0, 0x800_0000, 0x1000), 0, Fault::TooManyMaps, 28);
    client.fails(2, &map(3, 0, 0x800_0000, 0x1000), 1, Fault::TooManyMaps, 28);
    assert!(client.session.state.encode().len() <= State::ENCODED_MAX);
}

#[test]
fn what_the_device_is() {
    let mut client = Client::new();
    // Reset and PCI; nine regions, five kinds of interrupt.
    assert_eq!(
        client.send(4, 0, &words(&[16, 0, 0, 0]), 0).reply,
        [&head(4, 32)[..], &words(&[16, 3, 9, 5])].concat()
    );
    client.fails(4, &words(&[15, 0, 0, 0]), 0, Fault::Malformed, 22);
    for (index, flags, size) in
        [(0, 3, 0x2_0000), (1, 3, 64), (2, 0, 0), (6, 1, 0x4_0000), (7, 3, 256), (8, 0, 0)]
    {
        let got = client.send(5, 0, &words(&[32, 0, index, 0, 0, 0, 0, 0]), 0);
        assert_eq!(got.reply, [&head(5, 48)[..], &words(&[32, flags, index, 0, size, 0, 0, 0])].concat());
    }
    client.fails(5, &words(&[32, 0, 9, 0, 0, 0, 0, 0]), 0, Fault::NoSuchRegion, 22);
    // INTx is maskable and masks itself; MSI is set up as a whole.
    for (index, flags, count) in [(0, 7, 1), (1, 9, 1), (2, 1, 5), (3, 9, 1), (4, 9, 1)] {
        let got = client.send(7, 0, &words(&[16, 0, index, 0]), 0);
        assert_eq!(got.reply, [&head(7, 32)[..], &words(&[16, flags, index, count])].concat());
    }
    client.fails(7, &words(&[16, 0, 5, 0]), 0, Fault::NoSuchIrq, 22);
    // No access by other descriptors.
    assert_eq!(
        client.send(6, 0, &words(&[16, 0, 0, 0]), 0).reply,
        [&head(6, 32)[..], &words(&[16, 0, 0, 0])].concat()
    );
}

#[test]
fn a_region_that_can_be_mapped_in_part() {
    let mut client = Client::new();
    client.device.regions[0] = Region {
        areas: alloc::vec![Area { offset: 0x3000, size: 0x1000 }],
        file_offset: 0x8000,
        ..client.device.regions[0].clone()
    };
    // Too little room: only how much is wanted.
    let got = client.send(5, 0, &words(&[32, 0, 0, 0, 0, 0, 0, 0]), 0);
    assert_eq!(got.reply, [&head(5, 48)[..], &words(&[64, 7, 0, 0, 0x2_0000, 0, 0x8000, 0])].concat());
    assert_eq!(got.effect, "Nothing");
    let got = client.send(5, 0, &words(&[64, 0, 0, 0, 0, 0, 0, 0]), 0);
    // Capability 1, version 1, no next; one area.
    let cap = words(&[0x0001_0001, 0, 1, 0, 0x3000, 0, 0x1000, 0]);
    let info = words(&[64, 15, 0, 32, 0x2_0000, 0, 0x8000, 0]);
    assert_eq!(got.reply, [&head(5, 80)[..], &info, &cap].concat());
    assert_eq!(got.effect, "RegionDescriptor { region: 0 }");
}

#[test]
fn accesses() {
    let mut client = Client::new();
    // Offset, region, count.
    let got = client.send(9, 0, &words(&[0xd8, 0, 0, 4]), 0);
    assert_eq!(got.reply, [&head(9, 36)[..], &words(&[0xd8, 0, 0, 4]), &[0; 4]].concat());
    assert_eq!(got.effect, "Read { region: 0, offset: 216, into: 35..39 }");
    assert!(!got.changed);
    let write = words(&[0xd8, 0, 0, 4, 0x1234_5678]);
    let got = client.send(10, 0, &write, 0);
    assert_eq!(got.reply, [&head(10, 32)[..], &words(&[0xd8, 0, 0, 4])].concat());
    assert_eq!(got.effect, "Write(Write { region: 0, offset: 216, data: [120, 86, 52, 18] })");
    let posted = client.send(10, 0x10, &write, 0);
    assert_eq!((posted.reply.len(), posted.effect), (0, got.effect));
    client.fails(9, &words(&[0xfe, 0, 7, 4]), 0, Fault::OutOfRegion, 22);
    client.fails(9, &words(&[!0, !0, 0, 4]), 0, Fault::OutOfRegion, 22);
    client.fails(9, &words(&[0, 0, 9, 4]), 0, Fault::NoSuchRegion, 22);
    client.fails(9, &words(&[0, 0, 0, 0xffff_fff0]), 0, Fault::TooMuchData, 7);
    client.fails(10, &words(&[0, 0, 0, 8, 1]), 0, Fault::Malformed, 22);
    client.fails(10, &words(&[0, 0, 6, 4, 1]), 0, Fault::OutOfRegion, 22);
    // A long read is answered in part: 32,736 bytes, which with two heads make 32 KiB.
    let got = client.send(9, 0, &words(&[0, 0, 6, 0x4_0000]), 0);
    assert_eq!(got.reply[4..8], 32768u32.to_le_bytes());
    assert_eq!(got.reply[16..32], words(&[0, 0, 6, 32736]));
    assert_eq!((got.reply.len(), got.fault), (32768, None));
    let got = client.send(9, 0x10, &words(&[0, 0, 0, 4]), 0);
    assert_eq!((got.fault, got.reply.len()), (Some(Fault::PostedRead), 0));
}

#[test]
fn batches_of_writes() {
    let mut client = Client::new();
    let one = |offset, region, count, data| words(&[offset, 0, region, count, data, 0]);
    let payload = [words(&[3, 0]), one(0x3818, 0, 4, 5), one(63, 1, 4, 6), one(0x10, 1, 1, 7)].concat();
    let header = Header { id: 1, command: 15, size: 16 + 80, flags: 16, error: 0 };
    let mut reply = Vec::new();
    let outcome = client.session.follow(&client.device, &header, &payload, 0, &mut reply);
    assert_eq!((outcome.fault, reply.len()), (Some(Fault::OutOfRegion), 0));
    let Effect::Writes(writes) = outcome.effect else { panic!("{:?}", outcome.effect) };
    assert_eq!(
        writes.collect::<Vec<_>>(),
        [
            Write { region: 0, offset: 0x3818, data: &[5, 0, 0, 0] },
            Write { region: 1, offset: 16, data: &[7] }
        ]
    );
    // With a reply: the number of those that were done.
    let got = client.send(15, 0, &payload, 0);
    assert_eq!(got.reply, [&head(15, 24)[..], &words(&[2, 0])].concat());
    client.fails(15, &payload[..56], 0, Fault::Malformed, 22);
    client.fails(15, &words(&[1]), 0, Fault::Malformed, 22);
    client.fails(15, &words(&[!0, !0]), 0, Fault::Malformed, 22);
    // Of which a message may have 512.
    let many = |count: u32| [words(&[count, 0]), one(0, 0, 4, 1).repeat(count as usize)].concat();
    let header = Header { id: 1, command: 15, size: 16 + 8 + 24 * 513, flags: 16, error: 0 };
    for (count, fault) in [(512, None), (513, Some(Fault::TooMuchData))] {
        let (payload, header) = (many(count), Header { size: 16 + 8 + 24 * count, ..header });
        assert_eq!(client.session.follow(&client.device, &header, &payload, 0, &mut Vec::new()).fault, fault);
    }
    // More than eight bytes do not fit into an entry.
    let got = client.send(15, 0, &[words(&[1, 0]), one(0, 0, 9, 1)].concat(), 0);
    assert_eq!(got.reply, [&head(15, 24)[..], &words(&[0, 0])].concat());
}

/// DEVICE_SET_IRQS: argsz, flags, index, start, count.
fn irqs(flags: u32, index: u32, start: u32, count: u32) -> Vec<u8> {
    words(&[20, flags, index, start, count])
}

#[test]
fn vectors_are_assigned_and_taken_back() {
    let mut client = Client::new();
    let got = client.send(8, 0, &irqs(0x24, 2, 0, 3), 3);
    assert_eq!((got.effect.as_str(), got.kept), ("Irqs { index: 2, trigger: 0 }", alloc::vec![1, 2, 3]));
    assert_eq!(got.reply, head(8, 16));
    assert_eq!((client.session.assigned(2), client.session.trigger(2, 1)), (0b111, Some(2)));
    // One more, beyond those that are there.
    assert_eq!(client.send(8, 0, &irqs(0x24, 2, 4, 1), 1).kept, [4]);
    // Another descriptor for a vector; none for one.
    let got = client.send(8, 0, &irqs(0x24, 2, 1, 1), 1);
    assert_eq!((got.kept, got.dropped), (alloc::vec![5], alloc::vec![2]));
    assert_eq!(client.send(8, 0, &irqs(0x24, 2, 0, 1), 0).dropped, [1]);
    assert_eq!(client.session.assigned(2), 0b1_0110);
    assert_eq!(client.session.signal(2, 0b111), 0b110);
    // Fewer descriptors than vectors: the others are taken back.
    let got = client.send(8, 0, &irqs(0x24, 2, 1, 2), 1);
    assert_eq!((got.kept, got.dropped), (alloc::vec![6], alloc::vec![5, 3]));
    // The client rings itself: unconditionally, and by a list.
    assert_eq!(client.send(8, 0, &irqs(0x21, 2, 0, 5), 0).effect, "Irqs { index: 2, trigger: 18 }");
    let listed = [irqs(0x22, 2, 0, 5), alloc::vec![1, 1, 0, 0, 0]].concat();
    assert_eq!(client.send(8, 0, &listed, 0).effect, "Irqs { index: 2, trigger: 2 }");
    // All of them.
    let got = client.send(8, 0, &irqs(0x21, 2, 0, 0), 0);
    assert_eq!((got.dropped, client.session.assigned(2)), (alloc::vec![6, 4], 0));
    assert_eq!(client.send(8, 0, &irqs(0x24, 3, 0, 1), 1).fault, None);
    assert_eq!(client.session.signal(3, 1), 1);
}

#[test]
fn what_set_irqs_refuses() {
    let mut client = Client::new();
    client.fails(8, &irqs(0x24, 5, 0, 1), 1, Fault::NoSuchIrq, 22);
    client.fails(8, &irqs(0x24, 2, 5, 1), 1, Fault::NoSuchIrq, 22);
    client.fails(8, &irqs(0x24, 2, 1, !0), 1, Fault::NoSuchIrq, 22);
    client.fails(8, &irqs(0x24, 2, !0, 1), 1, Fault::NoSuchIrq, 22);
    for flags in [0, 4, 0x20, 0x27, 0x3c, 0x26, 0x64] {
        client.fails(8, &irqs(flags, 0, 0, 1), 0, Fault::BadIrqSet, 22);
    }
    client.fails(8, &irqs(0x24, 2, 0, 0), 0, Fault::BadIrqSet, 22);
    client.fails(8, &irqs(0x21, 2, 1, 0), 0, Fault::BadIrqSet, 22);
    client.fails(8, &irqs(0x24, 2, 0, 1), 2, Fault::ExtraDescriptors, 22);
    client.fails(8, &irqs(0x21, 2, 0, 1), 1, Fault::ExtraDescriptors, 22);
    client.fails(8, &[irqs(0x22, 2, 0, 5), alloc::vec![1; 4]].concat(), 0, Fault::Malformed, 22);
    client.fails(8, &irqs(0x09, 3, 0, 1), 0, Fault::BadIrqSet, 22);
    client.fails(8, &irqs(0x14, 2, 0, 1), 1, Fault::BadIrqSet, 22);
    client.fails(8, &words(&[20, 0x24, 2, 0]), 1, Fault::Malformed, 22);
}

#[test]
fn intx_masks_itself() {
    let mut client = Client::new();
    assert_eq!(client.session.intx(true), None);
    client.send(8, 0, &irqs(0x24, 0, 0, 1), 1);
    assert_eq!((client.session.intx(false), client.session.intx(true)), (None, Some(1)));
    assert_eq!(client.session.intx(true), None, "once");
    // The client unmasks at the end of the interrupt; the pin is still there.
    let got = client.send(8, 0, &irqs(0x11, 0, 0, 1), 0);
    assert_eq!((got.effect.as_str(), got.changed), ("Irqs { index: 0, trigger: 0 }", false));
    assert_eq!(client.session.intx(true), Some(1));
    // Or the hypervisor does, by a descriptor.
    assert_eq!(client.send(8, 0, &irqs(0x14, 0, 0, 1), 1).kept, [2]);
    assert_eq!(client.session.state.irqs[0].unmask_event, 2);
    assert!(!client.session.intx_unmasked());
    assert_eq!(client.session.intx(true), Some(1));
    // A mask of the client's holds across workers; the one by itself does not.
    let state = State::decode(&client.session.state.encode()).unwrap();
    assert_eq!(Session::resume(state).intx(true), Some(1));
    client.send(8, 0, &irqs(0x09, 0, 0, 1), 0);
    let state = State::decode(&client.session.state.encode()).unwrap();
    assert_eq!(Session::resume(state).intx(true), None);
    let got = client.send(8, 0, &irqs(0x21, 0, 0, 0), 0);
    assert_eq!(got.dropped, [1, 2]);
}

#[test]
fn masked_vectors_wait() {
    let mut client = Client::new();
    client.send(8, 0, &irqs(0x24, 2, 0, 2), 2);
    client.send(8, 0, &[irqs(0x0a, 2, 0, 2), alloc::vec![0, 1]].concat(), 0);
    assert_eq!(client.session.signal(2, 0b11), 0b01);
    assert_eq!(client.session.state.irqs[2].pending, 0b10);
    assert_eq!(client.send(8, 0, &irqs(0x11, 2, 0, 2), 0).effect, "Irqs { index: 2, trigger: 2 }");
    assert_eq!(client.session.signal(2, 0b11), 0b11);
}

#[test]
fn reset_and_what_is_unknown() {
    let mut client = Client::new();
    client.send(2, 0, &map(3, 0, 0, 0x1000), 1);
    let got = client.send(13, 0, &[], 0);
    assert_eq!((got.effect.as_str(), got.reply), ("Reset", head(13, 16).to_vec()));
    assert_eq!(client.session.state.maps.len(), 1);
    for command in [0, 11, 12, 14, 19, 255] {
        client.fails(command, &[1, 2, 3], 0, Fault::UnknownCommand, 95);
    }
    for command in [16, 17, 18] {
        let payload = words(&[64, 1 << 16 | 1, 0, 0]);
        let fault = if command == 16 { Fault::NoSuchFeature } else { Fault::NotMigrating };
        let fault = if command == 18 { Fault::Malformed } else { fault };
        client.fails(command, &payload, 0, fault, if command == 16 { 25 } else { 22 });
    }
    // The head says more than there is.
    let got = client.raw(&[1, 0, 13, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!(got.fault, Some(Fault::Malformed));
    assert_eq!(client.session.disconnected(), [1]);
    assert_eq!(client.session.state, State { generation: 1, ..State::default() });
}

#[test]
fn a_message_that_is_too_long_is_thrown_away() {
    let mut client = Client::new();
    let got = client.raw(&[0x34, 0x12, 10, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!((got.fault, got.reply), (Some(Fault::Oversize), error(10, 7).to_vec()));
    assert_eq!(client.session.state.discard, 65537 - 16);
    client.session.discarded(65000);
    client.session.discarded(521);
    assert_eq!(client.session.state.discard, 0);
    let got = client.raw(&[0x34, 0x12, 10, 0, 0xff, 0xff, 0xff, 0xff, 0x10, 0, 0, 0, 0, 0, 0, 0], &[], 0);
    assert_eq!((got.reply.len(), client.session.state.discard), (0, u32::MAX - 16));
}

#[test]
fn answers_to_nothing_are_counted_and_have_no_effect() {
    let mut client = Client::new();
    for (head, rest) in [
        ([7, 0, 11, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[1, 2][..]),
        ([7, 0, 12, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 19, 0, 0, 0], &[]),
    ] {
        let got = client.raw(&head, rest, 0);
        let fault = Some(Fault::UnexpectedReply);
        assert_eq!((got.effect.as_str(), got.reply.len(), got.fault), ("Nothing", 0, fault));
    }
}

#[test]
fn what_has_to_end_first() {
    let mut client = Client::new();
    client.device.migration = true;
    let drain = |client: &Client, command, payload: &[u8]| {
        let header = Header { id: 0, command, size: 0, flags: 0, error: 0 };
        client.session.drain(&header, payload)
    };
    assert_eq!(drain(&client, 3, &unmap(0, 0x1000, 0x2000)), Drain::Memory { address: 0x1000, size: 0x2000 });
    assert_eq!(drain(&client, 3, &unmap(2, 0, 0)), Drain::All);
    assert_eq!(drain(&client, 3, &[]), Drain::Nothing);
    assert_eq!(drain(&client, 13, &[]), Drain::All);
    assert_eq!(drain(&client, 2, &map(3, 0, 0, 1)), Drain::Nothing);
    // To STOP from RUNNING; to PRE_COPY nothing has to end.
    assert_eq!(drain(&client, 16, &words(&[16, 1 << 17 | 2, 1, 0])), Drain::All);
    assert_eq!(drain(&client, 16, &words(&[16, 1 << 17 | 2, 6, 0])), Drain::Nothing);
    assert_eq!(drain(&client, 16, &words(&[16, 1 << 17 | 6, 0, 0])), Drain::All);
    assert_eq!(drain(&client, 16, &words(&[16, 1 << 18 | 2, 1, 0])), Drain::Nothing);
}
