//! Golden bytes are typed from the tables of QEMU's docs/interop/vfio-user.rst.

use super::*;
use crate::state::State;

const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const PROBE: u32 = 1 << 18;

struct Client {
    session: Session,
    device: Device,
    reply: Vec<u8>,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Client {
    fn new() -> Self {
        let device = Device { migration: true, ..Device::new([4096, 0, 0, 0, 0, 0], 0, 256, true, 0, 0) };
        let mut client = Self { session: Session::new(), device, reply: Vec::new() };
        client.send(1, &[0; 4]).unwrap();
        client
    }

    /// Gives the transition that was asked for, if one was, and leaves the reply's payload.
    fn send(&mut self, command: u16, payload: &[u8]) -> Result<Option<(Transition, Vec<u8>)>, Fault> {
        let size = 16 + payload.len() as u32;
        let header = Header { id: 5, command, size, flags: 0, error: 0 };
        self.reply.clear();
        let before = self.session.state.clone();
        let outcome = self.session.follow(&self.device, &header, payload, 0, &mut self.reply);
        assert!(outcome.changed || before == self.session.state);
        if let Some(fault) = outcome.fault {
            assert_eq!(
                self.reply,
                [&[5, 0, command as u8, 0, 16, 0, 0, 0, 0x21, 0, 0, 0][..], &fault.errno().to_le_bytes()]
                    .concat()
            );
            return Err(fault);
        }
        assert_eq!(self.reply[4..8], (self.reply.len() as u32).to_le_bytes());
        self.reply.drain(..16);
        match outcome.effect {
            Effect::Migrate { transition, incoming } => Ok(Some((transition, incoming))),
            _ => Ok(None),
        }
    }

    fn set(&mut self, state: u32) -> Result<Option<(Transition, Vec<u8>)>, Fault> {
        let payload = words(&[16, SET | 2, state, !0]);
        let got = self.send(16, &payload)?;
        assert_eq!(self.reply, payload, "the reply to SET is the request");
        Ok(got)
    }

    fn state(&mut self) -> u32 {
        self.send(16, &words(&[16, GET | 2])).unwrap();
        assert_eq!(self.reply[..8], words(&[16, GET | 2]));
        assert_eq!(self.reply[12..], [0xff; 4]);
        u32::from_le_bytes(self.reply[8..12].try_into().unwrap())
    }
}

#[test]
fn features() {
    let mut client = Client::new();
    client.send(16, &words(&[16, GET | 1])).unwrap();
    // Stop-copy and pre-copy.
    assert_eq!(client.reply, words(&[16, GET | 1, 5, 0]));
    // Too little room: how much is wanted.
    client.send(16, &words(&[8, GET | 1])).unwrap();
    assert_eq!(client.reply, words(&[16, GET | 1]));
    for (feature, methods) in [(1, GET), (2, GET | SET), (6, SET), (7, SET), (8, GET), (1, 0)] {
        let payload = words(&[8, PROBE | methods | feature]);
        assert_eq!(client.send(16, &payload), Ok(None));
        assert_eq!(client.reply, payload);
    }
    for (feature, methods) in
        [(1, SET | PROBE), (6, GET | PROBE), (8, SET), (1, SET), (6, GET), (0, GET), (3, PROBE), (5, GET)]
    {
        assert_eq!(client.send(16, &words(&[8, methods | feature])), Err(Fault::NoSuchFeature));
    }
    assert_eq!(client.send(16, &words(&[16, GET | SET | 2, 1, 0])), Err(Fault::Malformed));
    assert_eq!(client.send(16, &words(&[8, 1])), Err(Fault::Malformed));
    assert_eq!(client.send(16, &words(&[8, 1 << 20 | GET | 1])), Err(Fault::Malformed));
    assert_eq!(client.send(16, &words(&[7, GET | 1])), Err(Fault::Malformed));
    assert_eq!(client.send(16, &[0; 7]), Err(Fault::Malformed));
    client.device.migration = false;
    assert_eq!(client.send(16, &words(&[8, PROBE | 1])), Err(Fault::NoSuchFeature));
}

#[test]
fn a_device_is_taken_out() {
    let mut client = Client::new();
    assert_eq!(client.state(), 2);
    let (transition, _) = client.set(6).unwrap().unwrap();
    assert!(!transition.stops() && !transition.saves() && client.session.is_running());
    // Nothing to read while it works.
    client.send(17, &words(&[4096, 4088])).unwrap();
    assert_eq!(client.reply, words(&[8, 0]));
    let (transition, _) = client.set(3).unwrap().unwrap();
    assert!(transition.stops() && transition.saves() && !transition.starts() && !transition.loads());
    assert!(!client.session.is_running());
    client.session.saved(10);
    client.send(17, &words(&[16, 8])).unwrap();
    assert_eq!(client.reply, [words(&[16, 8]), alloc::vec![0; 8]].concat());
    // It outlasts the worker.
    client.session = Session::resume(State::decode(&client.session.state.encode()).unwrap());
    let payload = words(&[16, 8]);
    let header = Header { id: 0, command: 17, size: 24, flags: 0, error: 0 };
    let mut reply = Vec::new();
    let outcome = client.session.follow(&client.device, &header, &payload, 0, &mut reply);
    assert!(matches!(outcome.effect, Effect::Saved { from: 8, ref into } if *into == (24..26)));
    assert_eq!(reply[16..24], words(&[10, 2]));
    assert_eq!(client.set(6), Err(Fault::BadTransition));
    let (transition, _) = client.set(2).unwrap().unwrap();
    assert!(transition.starts() && client.session.is_running());
    assert_eq!(client.send(17, &words(&[16, 8])), Err(Fault::NotMigrating));
}

#[test]
fn a_device_is_put_in() {
    let mut client = Client::new();
    let data = |bytes: &[u8]| [&words(&[8 + bytes.len() as u32, bytes.len() as u32])[..], bytes].concat();
    assert_eq!(client.send(18, &data(b"ab")), Err(Fault::NotMigrating));
    assert!(client.set(4).unwrap().unwrap().0.stops());
    client.send(18, &data(b"ab")).unwrap();
    assert!(client.reply.is_empty());
    client.send(18, &data(b"c")).unwrap();
    assert_eq!(client.send(18, &words(&[12, 4])), Err(Fault::Malformed));
    assert_eq!(client.send(18, &data(&alloc::vec![0; INCOMING_MAX - 2])), Err(Fault::StateTooLong));
    let (transition, incoming) = client.set(2).unwrap().unwrap();
    assert!(transition.loads() && transition.starts() && !transition.stops());
    assert_eq!(incoming, b"abc");
    assert!(client.session.state.incoming.is_empty());
    // What cannot be loaded leaves the device in ERROR, until a reset.
    client.set(4).unwrap();
    client.set(1).unwrap();
    let mut reply = alloc::vec![0xee; 20];
    let header = Header { id: 9, command: 16, size: 32, flags: 0, error: 0 };
    client.session.migration_failed(&header, 3, &mut reply);
    assert_eq!(reply, [&[0xee; 3][..], &[9, 0, 16, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 5, 0, 0, 0]].concat());
    assert_eq!((client.state(), client.session.is_running()), (0, false));
    assert_eq!(client.set(2), Err(Fault::BadTransition));
    client.send(13, &[]).unwrap();
    assert_eq!(client.state(), 2);
}

#[test]
fn ways() {
    let mut client = Client::new();
    for state in [0, 5, 7, 8, !0] {
        assert_eq!(client.set(state), Err(Fault::BadTransition));
    }
    assert_eq!(client.set(2), Ok(None), "where it is");
    // Every state from every other, but for the one way that is not there.
    for from in [1, 2, 3, 4, 6] {
        for to in [1, 2, 3, 4, 6] {
            let mut client = Client::new();
            client.set(from).unwrap();
            let got = client.set(to);
            match (from, to) {
                (3, 6) => assert_eq!(got, Err(Fault::BadTransition)),
                _ if from == to => assert_eq!(got, Ok(None)),
                _ => {
                    let (way, _) = got.unwrap().unwrap();
                    assert_eq!((way.from as u32, way.to as u32), (from, to));
                    let runs = |state| matches!(state, 2 | 6);
                    assert_eq!(
                        (way.stops(), way.starts()),
                        (runs(from) && !runs(to), !runs(from) && runs(to))
                    );
                    assert_eq!((way.loads(), way.saves()), (from == 4, to == 3));
                }
            }
        }
    }
}

#[test]
fn dirty_pages() {
    let mut client = Client::new();
    let report = words(&[4096, GET | 8, 0x10000, 0, 0x41000, 0, 4096, 0]);
    assert_eq!(client.send(16, &report), Err(Fault::BadLog));
    assert_eq!(client.send(16, &words(&[8, SET | 7])), Err(Fault::BadLog));
    // A hint of 64 KiB; two ranges.
    let start = |count: u32| {
        [words(&[64, SET | 6, 0x10000, 0, count, 0]), words(&[0, 0, 0xa0000, 0, 0x10_0000, 0, 1, 0])].concat()
    };
    assert_eq!(client.send(16, &start(1)), Err(Fault::Malformed));
    assert_eq!(client.send(16, &start(65)), Err(Fault::BadLog));
    assert_eq!(client.send(16, &words(&[64, SET | 6, 0, 0, 1, 0, 1, 0, 0, 0])), Err(Fault::BadLog));
    client.send(16, &start(2)).unwrap();
    assert_eq!(client.reply[8..16], 4096u64.to_le_bytes(), "the size that is used");
    assert_eq!(client.reply[16..], start(2)[16..]);
    let log = LogState { page_size: 4096, ranges: alloc::vec![(0, 0xa0000), (0x10_0000, 1)] };
    assert_eq!(client.session.state.log, Some(log));
    assert_eq!(client.send(16, &start(2)), Err(Fault::BadLog));
    // 65 pages: two words of bits.
    client.send(16, &report).unwrap();
    let want = [words(&[48, GET | 8]), report[8..].to_vec(), alloc::vec![0; 16]].concat();
    assert_eq!(client.reply, want);
    let header = Header { id: 0, command: 16, size: 48, flags: 0, error: 0 };
    let mut reply = alloc::vec![0; 5];
    let outcome = client.session.follow(&client.device, &header, &report, 0, &mut reply);
    let Effect::LogReport { address: 0x10000, length: 0x41000, page_size: 4096, into } = outcome.effect
    else {
        panic!("{:?}", outcome.effect)
    };
    assert_eq!((into, reply.len()), (5 + 48..5 + 64, 5 + 64));
    for (length, page) in [(0, 4096), (4096, 512), (4096, 4097), (4096, 0)] {
        let bad = words(&[4096, GET | 8, 0, 0, length, 0, page, 0]);
        assert_eq!(client.send(16, &bad), Err(Fault::BadLog));
    }
    let far = words(&[!0, GET | 8, 0, 0, 0, 1, 4096, 0]);
    assert_eq!(client.send(16, &far), Err(Fault::TooMuchData));
    client.send(16, &words(&[8, SET | 7])).unwrap();
    assert_eq!(client.session.state.log, None);
}
