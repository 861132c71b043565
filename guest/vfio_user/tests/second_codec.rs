//! The client of the crate `vfio_user`, which others wrote, against this server's side: two codecs
//! that were written apart agree, over a socket with descriptors.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::Duration;

use host::event::{Event, PeerEvent};
use host::{memfd, socket};
use standpipe_vfio_user::{Area, Device, Drain, Effect, Header, Session, State, Write};
use vfio_user_peer::Client;

/// Registers of the test's device, in BAR 0: a write of a vector rings it; a write of an address
/// copies eight bytes from there into the data register.
const RING: u64 = 0x10;
const ADDRESS: u64 = 0x18;
const DATA: u64 = 0x20;

struct Server {
    stream: UnixStream,
    session: Session,
    device: Device,
    space: HashMap<u32, Vec<u8>>,
    descriptors: HashMap<u32, OwnedFd>,
    doorbells: OwnedFd,
}

impl Server {
    fn write(&mut self, write: Write<'_>) {
        let space = self.space.get_mut(&write.region).unwrap();
        space[write.offset as usize..][..write.data.len()].copy_from_slice(write.data);
        match (write.region, write.offset) {
            (0, RING) => {
                let vectors = self.session.signal(2, 1 << write.data[0]);
                for vector in (0..32).filter(|vector| vectors & 1 << vector != 0) {
                    let generation = self.session.trigger(2, vector).unwrap();
                    let event = self.descriptors[&generation].try_clone().unwrap();
                    assert!(PeerEvent::from_fd(event).unwrap().signal());
                }
            }
            (0, ADDRESS) => {
                let address = u64::from_le_bytes(write.data.try_into().unwrap());
                let maps = &self.session.state.maps;
                let map = maps.iter().find(|map| (map.address..map.address + map.size).contains(&address));
                let mut bytes = [0xff; 8];
                if let Some(map) = map {
                    let file = File::from(self.descriptors[&map.fd].try_clone().unwrap());
                    file.read_exact_at(&mut bytes, address - map.address + map.offset).unwrap();
                }
                self.space.get_mut(&0).unwrap()[DATA as usize..][..8].copy_from_slice(&bytes);
            }
            _ => {}
        }
    }

    fn message(&mut self, header: &Header, payload: &[u8], fds: &mut VecDeque<OwnedFd>) {
        let mut reply = Vec::new();
        let mut passed = Vec::new();
        let device = self.device.clone();
        let drain = self.session.drain(header, payload);
        assert!(drain == Drain::Nothing || matches!(header.command, 3 | 13));
        let outcome = self.session.follow(&device, header, payload, fds.len(), &mut reply);
        assert_eq!(outcome.fault, None, "{header:?}");
        let came: Vec<_> = fds.drain(..).collect();
        self.descriptors.extend(outcome.kept.iter().copied().zip(came));
        match outcome.effect {
            Effect::Read { region, offset, into } => {
                let count = into.len();
                reply[into].copy_from_slice(&self.space[&region][offset as usize..][..count]);
            }
            Effect::Write(write) => self.write(write),
            Effect::Reset => self.space.values_mut().for_each(|space| space.fill(0)),
            Effect::RegionDescriptor { region: 0 } => passed.push(self.doorbells.as_fd()),
            Effect::Nothing | Effect::Memory | Effect::Irqs { .. } => {}
            other => panic!("{other:?}"),
        }
        for generation in outcome.dropped {
            assert!(self.descriptors.remove(&generation).is_some());
        }
        // Every message is followed by another worker.
        let state = State::decode(&self.session.state.encode()).unwrap();
        assert_eq!(state, self.session.state);
        self.session = Session::resume(state);
        socket::send(self.stream.as_fd(), &reply, &passed).unwrap();
    }

    fn run(mut self) -> Self {
        let mut bytes = Vec::new();
        let mut fds = VecDeque::new();
        loop {
            let mut piece = [0; 4096];
            match socket::take(self.stream.as_fd(), &mut piece).unwrap() {
                None => thread::sleep(Duration::from_micros(100)),
                Some(taken) if taken.len == 0 => return self,
                Some(taken) => {
                    bytes.extend_from_slice(&piece[..taken.len]);
                    fds.extend(taken.fds);
                }
            }
            while let Some(head) = bytes.first_chunk() {
                let header = Header::parse(head).unwrap();
                if bytes.len() < header.message_len() {
                    break;
                }
                let rest = bytes.split_off(header.message_len());
                self.message(&header, &bytes[16..], &mut fds);
                bytes = rest;
            }
        }
    }
}

#[test]
fn the_crates_client_drives_a_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut device = Device::new([0x4000, 0x40, 0, 0, 0, 0], 0x1_0000, 256, true, 1, 8);
    device.regions[0].areas.push(Area { offset: 0x3000, size: 0x1000 });
    device.regions[0].file_offset = 0x2000;
    let sizes: Vec<_> = device.regions.iter().map(|region| region.size).collect();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let space = (0..).zip(&device.regions).map(|(index, region)| (index, vec![0; region.size as usize]));
        Server {
            stream,
            session: Session::new(),
            space: space.collect(),
            device,
            descriptors: HashMap::new(),
            doorbells: memfd::create("doorbells", 0x3000).unwrap(),
        }
        .run()
    });

    let mut client = Client::new(&path).unwrap();
    for (index, size) in (0..).zip(sizes) {
        assert_eq!(client.region(index).unwrap().size, size);
    }
    let bar = client.region(0).unwrap();
    assert_eq!(bar.flags, 15);
    assert_eq!(
        bar.sparse_areas.iter().map(|area| (area.offset, area.size)).collect::<Vec<_>>(),
        [(0x3000, 0x1000)]
    );
    let file = bar.file_offset.as_ref().unwrap();
    assert_eq!((file.start(), file.file().metadata().unwrap().len()), (0x2000, 0x3000));
    assert_eq!(client.region(6).unwrap().flags, 1);

    let mut bytes = [0xff; 4];
    client.region_read(7, 0x3c, &mut bytes).unwrap();
    assert_eq!(bytes, [0; 4]);
    client.region_write(7, 0x3c, &[11]).unwrap();
    client.region_read(7, 0x3c, &mut bytes).unwrap();
    assert_eq!(bytes, [11, 0, 0, 0]);

    for (index, flags, count) in [(0, 7, 1), (1, 9, 1), (2, 1, 8), (3, 9, 1), (4, 9, 1)] {
        let info = client.get_irq_info(index).unwrap();
        assert_eq!((info.flags, info.count), (flags, count));
    }
    let events = [Event::new().unwrap(), Event::new().unwrap(), Event::new().unwrap()];
    let copies: Vec<_> = events.iter().map(|event| event.try_clone().unwrap().into_fd()).collect();
    let raw: Vec<_> = copies.iter().map(|fd| fd.as_raw_fd()).collect();
    client.set_irqs(2, 0x24, 4, 3, &raw).unwrap();
    client.region_write(0, RING, &[5]).unwrap();
    client.region_write(0, RING, &[0]).unwrap();
    assert_eq!(events.each_ref().map(Event::clear), [false, true, false]);
    // Disabled: nobody is rung.
    client.set_irqs(2, 0x21, 0, 0, &[]).unwrap();
    client.region_write(0, RING, &[5]).unwrap();
    assert_eq!(events.each_ref().map(Event::clear), [false; 3]);

    let memory = File::from(memfd::create("memory", 0x4000).unwrap());
    memory.write_all_at(b"standpip", 0x2008).unwrap();
    client.dma_map(0x1000, 0x8000_0000, 0x3000, memory.as_raw_fd()).unwrap();
    let mut data = [0; 8];
    client.region_write(0, ADDRESS, &0x8000_1008u64.to_le_bytes()).unwrap();
    client.region_read(0, DATA, &mut data).unwrap();
    assert_eq!(&data, b"standpip");
    client.dma_unmap(0x8000_0000, 0x3000).unwrap();
    client.region_write(0, ADDRESS, &0x8000_1008u64.to_le_bytes()).unwrap();
    client.region_read(0, DATA, &mut data).unwrap();
    assert_eq!(data, [0xff; 8]);

    client.reset().unwrap();
    client.region_read(0, DATA, &mut data).unwrap();
    assert_eq!(data, [0; 8]);
    client.shutdown().unwrap();

    let mut server = server.join().unwrap();
    let left = server.session.disconnected();
    assert!(left.is_empty() && server.descriptors.is_empty(), "{left:?}");
}
