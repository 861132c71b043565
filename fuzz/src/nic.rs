//! NICs with registers: a guest that writes anything to them and to its memory, frames from the wire,
//! and a worker that dies now and then.
//!
//! What holds whatever it does:
//!
//! - what a call does has an end, and nothing panics;
//! - memory that is not the guest's, or was taken away, or that a reset device knows nothing of, is
//!   not written;
//! - what the guest is said to have sent lies in its memory, and holds nothing that never did;
//! - a frame from the wire lies in the memory once at most;
//! - an access changes control state only if it says so, and a successor has the same state;
//! - after a reset a driver finds a device that works.

mod e1000;
mod lane;
mod pcnet;
mod vmxnet3;

use std::cell::RefCell;
use std::io::BufRead;
use std::sync::Arc;

use frame::{Body, FRAME_MAX, Frame, HEADER_MAX, Nic, Posted, Taken};
use guest_memory::{Memory, Region, Window};
use pci::{Bars, Function, IrqMode, Lasting, STATE_MAX, Signals};
use request::{Address, FrameFacts, Gso, Instant, Rewrite, Span};

pub use e1000::{e1000, seeds as e1000_seeds};
pub use lane::{pci_function, seeds as pci_function_seeds};
pub use pcnet::{pcnet, seeds as pcnet_seeds};
pub use vmxnet3::{seeds as vmxnet3_seeds, vmxnet3};

/// The guest's memory is in two pieces, with bytes of others before, between and behind them.
const LOW: u64 = 0;
const LOW_BYTES: u64 = 0x2_0000;
const HIGH: u64 = 0x4_0000;
const HIGH_BYTES: u64 = 0x8000;
const GAP: u64 = 0x1000;
const MAPPED: u64 = GAP + LOW_BYTES + GAP + HIGH_BYTES + GAP;

/// Never in the guest's memory, but around it, and in whatever a device is to fill.
const FOREIGN: u8 = 0xc7;

/// A frame from the wire has this, and its number behind it four times: a buffer may end within it.
const MARK: &[u8; 8] = b"frame no";
const MARK_BYTES: usize = 16;

/// Where a driver of ours sends from, in `HIGH`.
pub const SEND_AT: u64 = HIGH;

pub const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// What the harness knows of a model, and of its driver.
pub trait Model {
    type Device: Nic;
    const HOT_BYTES: usize;
    /// Transmit queues to look at, one more than there are.
    const QUEUES: u16;
    /// Registers that matter: BAR, offset, bytes.
    const REGISTERS: &'static [(u8, u64, usize)];
    /// Where `open` puts descriptors, and other things that the device reads.
    const PLACES: &'static [u64];
    /// Frames that it looped back to its own driver, by their counter's name.
    const LOOPED: &'static str;
    fn new(kind: u8, hot: Window) -> Self::Device;
    /// As its driver makes it ready to send and to receive, in one of several ways.
    fn open(nic: &mut Self::Device, memory: &Memory, shape: u8);
    /// Posts a frame that lies at `SEND_AT` in the ring that `open` made, and rings.
    fn send(nic: &mut Self::Device, memory: &Memory, len: u32);
    /// Makes equal what a successor sets anyway, and which is not saved for that reason.
    fn equalize(_state: &mut [u8]) {}
}

/// The input, from its front; zeroes behind its end.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        bytes[..head.len()].copy_from_slice(head);
        self.0 = rest;
        bytes
    }

    pub fn byte(&mut self) -> u8 {
        self.take::<1>()[0]
    }

    pub fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    pub fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }
}

/// The guest's own stores; where there is no memory nothing happens.
pub fn put(memory: &Memory, at: u64, bytes: &[u8]) {
    if let Some(span) = memory.locate(Address(at), bytes.len() as u32, &mut 0) {
        let clean: Vec<u8> = bytes.iter().map(|byte| if *byte == FOREIGN { 0 } else { *byte }).collect();
        memory.write(span, &clean).expect("it was found");
    }
}

pub fn put32(memory: &Memory, at: u64, value: u32) {
    put(memory, at, &value.to_le_bytes());
}

pub fn get32(memory: &Memory, at: u64) -> u32 {
    let mut bytes = [0; 4];
    if let Some(span) = memory.locate(Address(at), 4, &mut 0) {
        memory.read(span, &mut bytes).expect("it was found");
    }
    u32::from_le_bytes(bytes)
}

/// At no particular time.
pub const NOW: Instant = Instant::from_nanos(1_000_000);

thread_local! {
    static MAPPING: RefCell<Option<Arc<Memory>>> = const { RefCell::new(None) };
}

/// Memory of a guest, and of others around it.
struct Room {
    /// All of the mapping.
    mapped: Arc<Memory>,
    guest: Arc<Memory>,
    low: Arc<Memory>,
    none: Arc<Memory>,
}

/// Where some bytes stand among others. The standard library looks for the first of them, with code
/// that is not instrumented.
fn places(all: &[u8], bytes: &[u8]) -> Vec<usize> {
    let (mut rest, mut found) = (all, Vec::new());
    while rest.skip_until(bytes[0]).is_ok_and(|count| count > 0) {
        let at = all.len() - rest.len() - 1;
        if all[at..].starts_with(bytes) {
            found.push(at);
        }
    }
    found
}

fn span(offset: u64, len: u64) -> Span {
    Span { offset, len: len as u32, region: 0 }
}

impl Room {
    fn new() -> Room {
        let mapped = MAPPING.with_borrow_mut(|mapping| {
            Arc::clone(mapping.get_or_insert_with(|| Memory::anonymous(MAPPED as usize)))
        });
        let mapping = &mapped.regions()[0].mapping;
        let region =
            |guest, len, offset| Region { guest, len, user: 0, offset, mapping: Arc::clone(mapping) };
        let low = region(LOW, LOW_BYTES, GAP);
        let high = region(HIGH, HIGH_BYTES, GAP + LOW_BYTES + GAP);
        let map = |regions| Memory::new(regions, None).expect("they do not overlap");
        let room =
            Room { guest: map(vec![low.clone(), high]), low: map(vec![low]), none: Memory::empty(), mapped };
        room.mapped.write(span(0, MAPPED), &[FOREIGN; MAPPED as usize]).expect("all of it");
        room.clear();
        room
    }

    fn clear(&self) {
        self.mapped.zero(span(GAP, LOW_BYTES)).expect("it is mapped");
        self.mapped.zero(span(GAP + LOW_BYTES + GAP, HIGH_BYTES)).expect("it is mapped");
    }

    fn bytes(&self, offset: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        self.mapped.read(span(offset, len), &mut bytes).expect("it is mapped");
        bytes
    }

    fn check_around(&self) {
        for gap in [0, GAP + LOW_BYTES, MAPPED - GAP] {
            assert!(self.bytes(gap, GAP) == [FOREIGN; GAP as usize], "not the guest's memory");
        }
    }

    /// Each frame from the wire is in the memory once at most.
    fn check_once(&self) {
        let all = self.bytes(0, MAPPED);
        let mut seen = std::collections::BTreeSet::new();
        for at in places(&all, MARK) {
            let numbers = all.get(at + MARK.len()..at + MARK_BYTES).unwrap_or_default();
            let number = numbers.get(..2).unwrap_or_default();
            let whole = number != [0; 2] && numbers.chunks(2).all(|again| again == number);
            assert!(!whole || seen.insert(number.to_vec()), "a frame came twice");
        }
    }
}

/// Memory that nobody may write for now: its place in the mapping, and what it held.
struct Watch(u64, Vec<u8>);

struct World<M: Model> {
    room: Room,
    kind: u8,
    hot: Window,
    nic: M::Device,
    /// What the guest has given for now.
    memory: Arc<Memory>,
    taken_away: Option<Watch>,
    /// Since a reset, until the guest touches anything.
    quiet: Option<Watch>,
    mode: IrqMode,
    clock: u64,
    number: u16,
    looped: bool,
    posted: Posted,
}

impl<M: Model> World<M> {
    fn new(kind: u8) -> Self {
        let room = Room::new();
        let hot = Window::anonymous(M::HOT_BYTES);
        Self {
            nic: M::new(kind, hot.clone()),
            kind,
            hot,
            memory: room.guest.clone(),
            room,
            taken_away: None,
            quiet: None,
            mode: IrqMode::Off,
            clock: 1_000_000,
            number: 0,
            looped: false,
            posted: Posted::default(),
        }
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock)
    }

    fn check(&self, watch: &Option<Watch>, why: &str) {
        if let Some(Watch(at, before)) = watch {
            assert!(self.room.bytes(*at, before.len() as u64) == *before, "{why}");
        }
    }

    /// The guest does something: the device may have been told of memory.
    fn touch(&mut self) {
        if self.quiet.is_some() {
            self.check(&self.quiet, "a device that was reset wrote to memory");
            self.quiet = None;
        }
    }

    /// Something that changes control state if it says so only.
    fn honestly(&mut self, act: impl FnOnce(&mut Self)) {
        self.nic.take_dirty();
        let mut before = self.nic.state();
        assert!(before.len() <= STATE_MAX);
        act(self);
        if self.nic.take_dirty() {
            return;
        }
        let mut after = self.nic.state();
        M::equalize(&mut before);
        M::equalize(&mut after);
        let at = before.iter().zip(&after).position(|(before, after)| before != after);
        assert!(before == after, "a change that nobody would save, in byte {at:?} of the state");
    }

    fn write(&mut self, bar: u8, offset: u64, bytes: &[u8]) {
        self.touch();
        let now = self.now();
        self.honestly(|world| world.nic.write(now, &world.memory, bar, offset, bytes));
    }

    fn read(&mut self, bar: u8, offset: u64, len: usize) {
        let now = self.now();
        let mut into = [FOREIGN; 80];
        self.honestly(|world| world.nic.read(now, bar, offset, &mut into[..len]));
        assert!(into[len..].iter().all(|byte| *byte == FOREIGN));
        assert!(places(&into[..len], &[FOREIGN; 8]).is_empty(), "all of it is filled");
    }

    fn note_loops(&mut self) {
        self.looped |= self.nic.counters().iter().any(|(name, count)| *name == M::LOOPED && *count > 0);
    }

    fn transmit(&mut self, queue: u16, most: u32) {
        let memory = Arc::clone(&self.memory);
        for done in 0.. {
            if done == most {
                return;
            }
            assert!(done < 70_000, "more frames than a ring holds");
            self.posted.raw.fill(FOREIGN);
            self.posted.header_len = usize::MAX;
            self.posted.len = u32::MAX;
            match self.nic.transmit(&memory, queue, &mut self.posted) {
                Taken::Empty => return,
                Taken::Dropped => {}
                Taken::Frame => check_posted(&memory, &self.posted),
            }
        }
    }

    fn deliver(&mut self, input: &mut Input<'_>) {
        let [kind, undone, cut] = input.take();
        let len = usize::from(input.half()) % if kind & 0x80 == 0 { 2048 } else { FRAME_MAX as usize };
        let mut bytes = vec![0x5a; len.max(18)];
        bytes[..6].copy_from_slice(if kind & 1 == 0 { &[0xff; 6] } else { &MAC });
        bytes[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
        let ip = if kind & 2 == 0 { 14 } else { 18 };
        if kind & 2 != 0 {
            bytes[12..16].copy_from_slice(&[0x81, 0, 0, kind >> 4]);
        }
        // Some header that checksums, segmentation and RSS look into; its bytes are the input's.
        let head: [u8; 60] = if kind & 4 == 0 { input.take() } else { [0x45; 60] };
        let protocol: &[u8] = if kind & 8 == 0 { &[8, 0, 0x45] } else { &[0x86, 0xdd, 0x60] };
        for (to, from) in bytes[ip - 2..].iter_mut().zip(protocol.iter().chain(&head)) {
            *to = *from;
        }
        // Of the input's own making.
        for false_mark in places(&bytes, MARK) {
            bytes[false_mark] = 0;
        }
        let at = bytes.len() - MARK_BYTES;
        if at >= ip + 20 {
            self.number = self.number.wrapping_add(1);
            bytes[at..at + 8].copy_from_slice(MARK);
            bytes[at + 8..].copy_from_slice(&self.number.to_le_bytes().repeat(4));
        }
        let facts = FrameFacts {
            checksum_start: if undone & 1 == 0 { u16::MAX } else { ip as u16 + 20 },
            checksum_offset: if undone & 2 == 0 { 16 } else { 6 },
            checksum_valid: undone & 4 != 0,
            gso: [Gso::None, Gso::None, Gso::TcpV4, Gso::TcpV6, Gso::UdpL4, Gso::Udp, Gso::None, Gso::None]
                [usize::from(undone >> 3 & 7)],
            segment: if undone & 0x80 == 0 { 1448 } else { u16::from(cut) },
            header: ip as u16 + 40,
            ..FrameFacts::default()
        };
        let rewrite = match undone >> 6 {
            0 => Rewrite::Keep,
            1 => Rewrite::Strip,
            2 => Rewrite::Insert(5),
            _ => Rewrite::Replace(7),
        };
        let header = bytes.len().min(if cut & 1 == 0 { HEADER_MAX } else { usize::from(cut).max(18) });
        let (header, body) = bytes.split_at(header);
        let frame = Frame { header, body: Body::Bytes(body), facts };
        let could = self.nic.can_take(&frame);
        if let Ok(count) = self.nic.deliver(&self.memory, &frame, rewrite) {
            assert!(could, "more was left undone than the driver takes");
            assert!(count as usize <= bytes.len() + 4, "bytes that were not there");
        }
    }

    fn successor(&mut self, state: &[u8]) {
        self.note_loops();
        self.nic = M::new(self.kind, self.hot.clone());
        self.nic.set_irq_mode(self.mode);
        self.nic.restore(state);
    }

    fn watch_quiet(&mut self) {
        self.quiet = Some(Watch(GAP, self.room.bytes(GAP, MAPPED - GAP)));
    }

    fn change_memory(&mut self, which: u8) {
        self.check(&self.taken_away, "memory that was taken away was written");
        self.touch();
        let high = (GAP + LOW_BYTES + GAP, HIGH_BYTES);
        let (memory, (at, len)) = match which % 3 {
            0 => (&self.room.guest, (0, 0)),
            1 => (&self.room.low, high),
            _ => (&self.room.none, (GAP, MAPPED - GAP)),
        };
        self.memory = Arc::clone(memory);
        self.taken_away = Some(Watch(at, self.room.bytes(at, len)));
        self.nic.memory_changed(&self.memory);
    }

    fn signals(&mut self) {
        let layout = self.nic.layout();
        let vectors = match self.mode {
            IrqMode::Off | IrqMode::Intx => 0,
            IrqMode::Msi => layout.msi_vectors(),
            IrqMode::MsiX => layout.msix_vectors(),
        };
        let due = self.nic.interrupts();
        assert_eq!(u64::from(due.vectors) >> vectors, 0, "{:?}: a vector that is not there", self.mode);
        assert_eq!(self.nic.interrupts().vectors, 0, "a message is sent once");
    }

    /// The clock comes to what was waited for, and nothing is waited for without an end.
    fn pass(&mut self, nanos: u64) {
        self.clock += nanos;
        let now = self.now();
        for calls in 0.. {
            if self.nic.deadline().is_none_or(|at| at > now) {
                return;
            }
            assert!(calls < 64, "it wants to be called again and again");
            self.nic.expire(now, &self.memory);
        }
    }

    fn misc(&mut self, which: u8, value: u8) {
        let now = self.now();
        match which % 4 {
            0 => {
                self.set_mode(
                    [IrqMode::Off, IrqMode::Intx, IrqMode::Msi, IrqMode::MsiX][usize::from(value % 4)],
                );
            }
            1 => {
                let mbps = [10, 100, 1_000, 10_000, 200_000][usize::from(value >> 1) % 5];
                self.honestly(|world| world.nic.set_link(now, value & 1 == 0, mbps));
            }
            2 => {
                self.touch();
                self.nic.set_doorbells(now, &self.memory, value & 1 == 0);
            }
            _ => self.reset(),
        }
    }

    fn set_mode(&mut self, mode: IrqMode) {
        self.mode = mode;
        self.nic.set_irq_mode(mode);
    }

    fn reset(&mut self) {
        self.touch();
        self.honestly(|world| world.nic.reset());
        self.watch_quiet();
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 | 1 => {
                let (bar, offset, bytes) = M::REGISTERS[usize::from(input.byte()) % M::REGISTERS.len()];
                self.write(bar, offset, &input.take::<8>()[..bytes]);
            }
            2 => {
                let [bar, len] = input.take();
                let offset = u64::from(input.word());
                let offset = if len & 0x80 == 0 { offset & 0x1_ffff } else { u64::MAX - offset };
                let bytes: [u8; 16] = input.take();
                self.write(bar % 8, offset, &bytes[..usize::from(len % 17)]);
            }
            3 => {
                let (bar, offset, bytes) = M::REGISTERS[usize::from(input.byte()) % M::REGISTERS.len()];
                self.read(bar, offset, bytes);
            }
            4 => {
                let [bar, len] = input.take();
                let offset = u64::from(input.word());
                let offset = if len & 0x80 == 0 { offset & 0x1_ffff } else { u64::MAX - offset };
                self.read(bar % 8, offset, usize::from(len % 65));
            }
            5 => {
                self.touch();
                let at = u64::from(input.half()) << 2;
                put(&self.memory, at, &input.take::<8>());
            }
            6 => {
                // A descriptor, or something else that is read.
                self.touch();
                let [place, index] = input.take();
                let at = M::PLACES[usize::from(place) % M::PLACES.len()];
                put(&self.memory, at + u64::from(index) * 8, &input.take::<16>());
            }
            7 => {
                self.touch();
                M::open(&mut self.nic, &self.memory, input.byte());
            }
            8 => {
                let [queue, most] = input.take();
                let most = if most == 0 { u32::MAX } else { most.into() };
                self.transmit(u16::from(queue) % M::QUEUES, most);
            }
            9 => self.deliver(input),
            10 => self.nic.publish(self.now(), &self.memory),
            11 => {
                let nanos =
                    [100, 10_000, 1_000_000, 200_000_000, 4_000_000_000][usize::from(input.byte()) % 5];
                self.pass(nanos);
            }
            12 => self.change_memory(input.byte()),
            13 => {
                self.touch();
                let state = self.nic.state();
                self.successor(&state);
                assert!(self.nic.state() == state, "a successor is what its predecessor was");
                self.nic.resume(&self.memory);
            }
            14 => {
                // Bytes of somebody else, or of a ledger that was hit.
                self.touch();
                let mut state = self.nic.state();
                let at = usize::from(input.half());
                let [value, hot, length] = input.take();
                if length & 1 != 0 {
                    state.truncate(at % state.len());
                } else {
                    let at = at % state.len();
                    state[at] ^= value;
                }
                if hot & 1 != 0 {
                    self.hot.store_u8(usize::from(hot) % M::HOT_BYTES, value);
                }
                self.successor(&state);
                let taken = self.nic.state();
                self.successor(&taken);
                assert!(self.nic.state() == taken, "what was understood once is understood again");
                self.nic.resume(&self.memory);
            }
            _ => match input.byte() % 4 {
                0 => {
                    self.touch();
                    let len = u32::from(input.half());
                    M::send(&mut self.nic, &self.memory, len % 2000);
                }
                which => self.misc(which, input.byte()),
            },
        }
    }

    /// Whatever was done, a reset and a driver that begins anew bring it back.
    fn finish(mut self) {
        self.room.check_around();
        self.check(&self.taken_away, "memory that was taken away was written");
        self.touch();
        self.note_loops();
        if !self.looped {
            self.room.check_once();
        }
        self.taken_away = None;
        self.memory = Arc::clone(&self.room.guest);
        self.nic.memory_changed(&self.memory);
        self.nic.reset();
        let now = self.now();
        self.nic.set_link(now, true, 1_000);
        self.pass(10_000_000_000);
        self.room.clear();
        let memory = Arc::clone(&self.memory);
        M::open(&mut self.nic, &memory, 0);
        self.pass(10_000_000_000);
        let mut frame = [&[0xff; 6][..], &MAC, &[0x88, 0xb5], &[0x33; 86]].concat();
        put(&memory, SEND_AT, &frame);
        M::send(&mut self.nic, &memory, 100);
        assert_eq!(self.nic.transmit(&memory, 0, &mut self.posted), Taken::Frame);
        assert_eq!(whole(&memory, &self.posted), frame);
        frame[20..28].copy_from_slice(MARK);
        let arrived =
            Frame { header: &frame[..64], body: Body::Bytes(&frame[64..]), facts: FrameFacts::default() };
        assert_eq!(self.nic.deliver(&memory, &arrived, Rewrite::Keep), Ok(100));
        self.nic.publish(now, &memory);
        let all = self.room.bytes(0, MAPPED);
        assert_eq!(places(&all, &frame[20..100]).len(), 1);
        self.room.check_around();
    }
}

fn whole(memory: &Memory, posted: &Posted) -> Vec<u8> {
    let mut bytes = posted.header().to_vec();
    let at = bytes.len();
    bytes.resize(at + request::total(&posted.rest) as usize, 0);
    assert_eq!(memory.gather(&posted.rest, &mut bytes[at..]), bytes.len() - at, "it lies in the memory");
    bytes
}

fn check_posted(memory: &Memory, posted: &Posted) {
    assert!(posted.header_len <= HEADER_MAX + 4 && posted.header_len >= 14.min(posted.len as usize));
    assert!(posted.len <= FRAME_MAX + 4, "longer than a frame");
    let bytes = whole(memory, posted);
    assert_eq!(bytes.len(), posted.len as usize, "the frame's parts add up");
    assert!(places(&bytes, &[FOREIGN; 8]).is_empty(), "bytes that the guest never had");
    assert!(posted.facts.gso == Gso::None || posted.facts.segment > 0);
}

pub fn run<M: Model>(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::<M>::new(input.byte());
    while !input.0.is_empty() {
        world.clock += 50_000;
        world.act(&mut input);
        world.signals();
        let _ = (world.nic.waiting(), world.nic.deadline());
    }
    world.finish();
}

/// Op 0 with the place of a register among those that matter.
pub fn write_op<M: Model>(bar: u8, offset: u64, value: u32) -> Vec<u8> {
    let place = M::REGISTERS.iter().position(|register| (register.0, register.1) == (bar, offset));
    let bytes = (u64::from(value)).to_le_bytes();
    let len = M::REGISTERS[place.expect("one that matters")].2;
    [&[0, place.unwrap_or(0) as u8][..], &bytes[..len], &vec![0; 8 - len]].concat()
}

/// Inputs that lead deep into any of them: open in some shape, then send, receive, die.
pub fn traffic(kinds: u8, shapes: u8) -> Vec<Vec<u8>> {
    let deliver = |kind: u8, undone: u8, cut: u8, len: u16| {
        let mut op = vec![9, kind, undone, cut];
        op.extend(len.to_le_bytes());
        if kind & 4 == 0 {
            op.extend([0, 0, 100, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            op.extend([0; 41]);
        }
        op
    };
    let mut all = Vec::new();
    for kind in 0..kinds {
        for shape in 0..shapes {
            let open = [kind, 15, 1, 3, 15, 2, 0, 7, shape];
            let send = [15, 0, 100, 0];
            let take = [8, 0, 3, 10, 11, 1];
            let join = |parts: &[&[u8]]| [&open[..], &parts.concat()].concat();
            all.push(join(&[
                &send,
                &send,
                &take,
                &deliver(0, 0, 0, 100),
                &[10, 13],
                &deliver(2, 0, 0, 1400),
                &[10],
            ]));
            all.push(join(&[
                &deliver(0, 3, 0, 600),
                &deliver(8, 1, 0, 90),
                &[10, 11, 2, 12, 1],
                &send,
                &take,
                &[12, 0],
            ]));
            all.push(join(&[
                &send,
                &[8, 0, 1, 13, 10, 14, 9, 0, 255, 0, 0],
                &send,
                &take,
                &[15, 3, 0],
                &send,
                &take,
            ]));
        }
        all.push(
            [&[kind, 7, 0, 15, 1, 3][..], &deliver(0x80, 0x10, 0, 20_000), &[10, 13], &deliver(4, 0, 0, 60)]
                .concat(),
        );
    }
    all
}
