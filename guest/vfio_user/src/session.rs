//! What each message does to a session.

use alloc::vec::Vec;
use core::ops::Range;

use crate::capabilities::{self, Capabilities};
use crate::device::Device;
use crate::fault::Fault;
use crate::migration::{MigrationState, Transition};
use crate::numbers::*;
use crate::state::{ClientState, State};
use crate::wire::{Header, Reader, put_error, put_reply};

/// What has to end before a message may be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    Nothing,
    /// Requests that use memory here.
    Memory {
        address: u64,
        size: u64,
    },
    All,
}

/// A write to a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Write<'a> {
    pub region: u32,
    pub offset: u64,
    pub data: &'a [u8],
}

/// Writes of one message, in their order.
#[derive(Clone, Debug)]
pub struct Writes<'a> {
    device: &'a Device,
    rest: &'a [u8],
}

/// `wrs` of REGION_WRITE_MULTI: offset, region, count, eight bytes of data.
const WRITE_LEN: usize = 24;
/// In one message, each of which may cost a device what a message may cost it.
const WRITES_MAX: u64 = 512;

impl<'a> Writes<'a> {
    fn one(&self, entry: &'a [u8]) -> Option<Write<'a>> {
        let mut from = Reader(entry);
        let (offset, region, count) = (from.u64(), from.u32(), from.u32());
        let data = from.rest().get(..count as usize)?;
        let known = self.device.region(region)?;
        (known.writable && known.holds(offset, u64::from(count))).then_some(Write { region, offset, data })
    }
}

impl<'a> Iterator for Writes<'a> {
    type Item = Write<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (entry, rest) = self.rest.split_at_checked(WRITE_LEN)?;
            self.rest = rest;
            if let Some(write) = self.one(entry) {
                return Some(write);
            }
        }
    }
}

/// What the lane has to do after a message. Ranges are of the buffer that replies are appended to.
#[derive(Clone, Debug)]
pub enum Effect<'a> {
    Nothing,
    /// Read here, into the reply.
    Read {
        region: u32,
        offset: u64,
        into: Range<usize>,
    },
    Write(Write<'a>),
    Writes(Writes<'a>),
    /// The memory map changed: see [`State::maps`].
    Memory,
    /// Interrupts of this kind were set up, masked or unmasked: the descriptors in
    /// [`State::irqs`] may be others. For INTx, call [`Session::intx`] with the pin as it is.
    /// `trigger`: vectors that are to be signalled now.
    Irqs {
        index: u32,
        trigger: u32,
    },
    /// The device goes back to its state after power on.
    Reset,
    /// The reply goes out with this region's descriptor.
    RegionDescriptor {
        region: u32,
    },
    /// The device's migration state changed; `incoming` is the state to load, if the transition
    /// loads one. If it cannot be done: [`Session::migration_failed`].
    Migrate {
        transition: Transition,
        incoming: Vec<u8>,
    },
    /// This part of the device's saved state is wanted in the reply.
    Saved {
        from: usize,
        into: Range<usize>,
    },
    /// Note dirty pages from now on, in the ranges of [`State::log`].
    LogStart,
    LogStop,
    /// Give the pages of this range that were written since the last report, a bit each, lowest
    /// first, into zeroed bytes of the reply; and forget them.
    LogReport {
        address: u64,
        length: u64,
        page_size: u64,
        into: Range<usize>,
    },
}

/// The answer to a message; its reply, if one is due, was appended to the caller's buffer.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    pub effect: Effect<'a>,
    /// Generations for the descriptors that came along, in their order; the rest is closed.
    pub kept: Vec<u32>,
    /// Generations that nobody uses any more: their descriptors are closed and forgotten, once what
    /// the effect asks for is done.
    pub dropped: Vec<u32>,
    pub fault: Option<Fault>,
    /// The state is another: it is to be saved with the message.
    pub changed: bool,
}

impl<'a> Outcome<'a> {
    pub(crate) fn of(effect: Effect<'a>) -> Self {
        Self { effect, kept: Vec::new(), dropped: Vec::new(), fault: None, changed: false }
    }

    pub(crate) fn changing(effect: Effect<'a>) -> Self {
        Self { changed: true, ..Self::of(effect) }
    }
}

/// The server's side of one slot's connection.
#[derive(Clone, Debug)]
pub struct Session {
    pub state: State,
    /// INTx was signalled and not unmasked since. Not kept: a successor signals once more, which
    /// does no harm.
    pub(crate) automasked: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self::new()
    }
}

impl Session {
    pub fn new() -> Self {
        Self::resume(State::default())
    }

    pub fn resume(state: State) -> Self {
        Self { state, automasked: false }
    }

    /// The client left: everything but the generation counter starts anew. Gives the generations
    /// that were in use.
    pub fn disconnected(&mut self) -> Vec<u32> {
        let dropped = self.state.generations().collect();
        let generation = self.state.generation;
        *self = Self::resume(State { generation, ..State::default() });
        dropped
    }

    /// The device is to work: no migration has stopped it.
    pub fn is_running(&self) -> bool {
        self.state.migration.is_running()
    }

    /// So many bytes of a refused message were thrown away.
    pub fn discarded(&mut self, bytes: usize) {
        self.state.discard = self.state.discard.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    pub(crate) fn next_generation(&mut self) -> u32 {
        self.state.generation = self.state.generation.wrapping_add(1).max(1);
        self.state.generation
    }

    /// What must have ended before this message may be followed.
    pub fn drain(&self, header: &Header, payload: &[u8]) -> Drain {
        if header.is_reply() || self.state.client.is_none() {
            return Drain::Nothing;
        }
        let mut from = Reader(payload);
        match header.command {
            DMA_UNMAP if payload.len() >= 24 => {
                let (_, flags, address, size) = (from.u32(), from.u32(), from.u64(), from.u64());
                match flags {
                    UNMAP_ALL => Drain::All,
                    _ => Drain::Memory { address, size },
                }
            }
            DEVICE_RESET => Drain::All,
            DEVICE_FEATURE if payload.len() >= 12 => {
                let (_, flags, state) = (from.u32(), from.u32(), from.u32());
                let to = MigrationState::from_number(state);
                match flags {
                    _ if flags == FEATURE_SET | FEATURE_MIG_DEVICE_STATE => {
                        let transition = to.and_then(|to| Transition::find(self.state.migration, to));
                        if transition.is_some_and(Transition::stops) { Drain::All } else { Drain::Nothing }
                    }
                    // Requests under way would not note what they write.
                    _ if flags == FEATURE_SET | FEATURE_DMA_LOGGING_START => Drain::All,
                    _ => Drain::Nothing,
                }
            }
            _ => Drain::Nothing,
        }
    }

    /// Follows a message that came with `fds` descriptors, and appends the reply, if one is due, to
    /// `reply`. Of an oversize message ([`Header::is_oversize`]) the payload is empty.
    pub fn follow<'a>(
        &mut self,
        device: &'a Device,
        header: &Header,
        payload: &'a [u8],
        fds: usize,
        reply: &mut Vec<u8>,
    ) -> Outcome<'a> {
        let start = reply.len();
        let done = if header.is_reply() {
            // Nothing is ever asked of a client.
            Err(Fault::UnexpectedReply)
        } else if header.is_oversize() {
            Err(Fault::Oversize)
        } else if payload.len() != header.message_len() - HEADER_LEN {
            Err(Fault::Malformed)
        } else {
            self.command(device, header, payload, fds, reply)
        };
        let mut outcome = done.unwrap_or_else(|fault| {
            reply.truncate(start);
            if header.wants_reply() {
                put_error(reply, header, fault.errno());
            }
            Outcome { fault: Some(fault), ..Outcome::of(Effect::Nothing) }
        });
        if header.is_oversize() {
            self.state.discard = header.size - HEADER_LEN as u32;
            outcome.changed = true;
        }
        if !header.wants_reply() {
            reply.truncate(start);
        }
        outcome
    }

    fn command<'a>(
        &mut self,
        device: &'a Device,
        header: &Header,
        payload: &'a [u8],
        fds: usize,
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        if self.state.client.is_none() != (header.command == VERSION) {
            return Err(Fault::OutOfOrder);
        }
        match header.command {
            VERSION => self.version(device, header, payload, reply),
            DMA_MAP => self.map(header, payload, fds, reply),
            DMA_UNMAP => self.unmap(header, payload, reply),
            DEVICE_GET_INFO => {
                let (argsz, ..) = fields(payload, 16)?;
                at_least(argsz, 16)?;
                put_reply(reply, header, 16);
                for field in [16, DEVICE_FLAG_RESET | DEVICE_FLAG_PCI, REGIONS as u32, IRQS as u32] {
                    reply.extend(field.to_le_bytes());
                }
                Ok(Outcome::of(Effect::Nothing))
            }
            DEVICE_GET_REGION_INFO => region_info(device, header, payload, reply),
            DEVICE_GET_REGION_IO_FDS => {
                let (argsz, _, index, _) = fields(payload, 16)?;
                at_least(argsz, 16)?;
                device.region(index).ok_or(Fault::NoSuchRegion)?;
                put_reply(reply, header, 16);
                for field in [16, 0, index, 0] {
                    reply.extend(field.to_le_bytes());
                }
                Ok(Outcome::of(Effect::Nothing))
            }
            DEVICE_GET_IRQ_INFO => irq_info(device, header, payload, reply),
            DEVICE_SET_IRQS => self.set_irqs(device, header, payload, fds, reply),
            REGION_READ => read(device, header, payload, reply),
            REGION_WRITE => write(device, header, payload, reply),
            REGION_WRITE_MULTI => write_multi(device, header, payload, reply),
            DEVICE_RESET => {
                put_reply(reply, header, 0);
                self.reset_interrupts();
                self.reset_migration();
                Ok(Outcome::changing(Effect::Reset))
            }
            DEVICE_FEATURE => self.feature(device, header, payload, reply),
            MIG_DATA_READ => self.read_saved(device, header, payload, reply),
            MIG_DATA_WRITE => self.write_incoming(device, header, payload, reply),
            _ => Err(Fault::UnknownCommand),
        }
    }

    fn version<'a>(
        &mut self,
        device: &Device,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 4)?;
        let (major, minor) = (from.u16(), from.u16());
        if major != VERSION_MAJOR {
            return Err(Fault::BadVersion);
        }
        let proposed = match from.rest() {
            [] => None,
            [data @ .., 0] => Some(Capabilities::parse(data).ok_or(Fault::BadCapabilities)?),
            _ => return Err(Fault::BadCapabilities),
        };
        let minor = minor.min(VERSION_MINOR);
        let given = proposed.as_ref().map(|proposed| capabilities::answer(proposed, device.migration));
        let data_len = given.as_ref().map_or(0, |given| given.len() + 1);
        put_reply(reply, header, 4 + data_len);
        reply.extend(VERSION_MAJOR.to_le_bytes());
        reply.extend(minor.to_le_bytes());
        if let Some(given) = given {
            reply.extend(given.as_bytes());
            reply.push(0);
        }
        let proposed = proposed.unwrap_or_default();
        let bounded = |value: Option<u64>, default: u64| value.unwrap_or(default).min(u32::MAX.into()) as u32;
        self.state.client = Some(ClientState {
            minor,
            max_msg_fds: bounded(proposed.max_msg_fds, 1),
            max_data_xfer_size: bounded(proposed.max_data_xfer_size, 1 << 20),
            write_multiple: proposed.write_multiple.unwrap_or(false),
        });
        Ok(Outcome::changing(Effect::Nothing))
    }
}

/// Whether a message writes to this region, should it be followed.
pub fn writes_to(header: &Header, payload: &[u8], region: u32) -> bool {
    let names = |entry: &[u8]| entry.get(8..12) == Some(&region.to_le_bytes()[..]);
    match header.command {
        REGION_WRITE => names(payload),
        REGION_WRITE_MULTI => payload.get(8..).unwrap_or(&[]).chunks(WRITE_LEN).any(names),
        _ => false,
    }
}

/// Four words at the head of a payload that has so many bytes at least.
pub(crate) fn fields(payload: &[u8], len: usize) -> Result<(u32, u32, u32, u32), Fault> {
    let mut from = Reader::of(payload, len)?;
    Ok((from.u32(), from.u32(), from.u32(), from.u32()))
}

/// `argsz` has room for the fixed part of a reply.
pub(crate) fn at_least(argsz: u32, len: u32) -> Result<(), Fault> {
    if argsz < len { Err(Fault::Malformed) } else { Ok(()) }
}

fn region_info<'a>(
    device: &Device,
    header: &Header,
    payload: &[u8],
    reply: &mut Vec<u8>,
) -> Result<Outcome<'a>, Fault> {
    let (argsz, _, index, _) = fields(payload, 32)?;
    at_least(argsz, 32)?;
    let region = device.region(index).ok_or(Fault::NoSuchRegion)?;
    let areas = &region.areas[..region.areas.len().min(crate::Region::AREAS_MAX)];
    let mut flags = 0;
    if region.size != 0 {
        flags |= REGION_FLAG_READ | if region.writable { REGION_FLAG_WRITE } else { 0 };
    }
    let mut needed = 32;
    if !areas.is_empty() {
        flags |= REGION_FLAG_MMAP;
        needed += 16 + 16 * areas.len() as u32;
    }
    // What does not fit is left out, and `argsz` says how much room it wants: the client asks again.
    let whole = argsz >= needed;
    let with_areas = whole && !areas.is_empty();
    flags |= if with_areas { REGION_FLAG_CAPS } else { 0 };
    put_reply(reply, header, if whole { needed as usize } else { 32 });
    for field in [needed, flags, index, if with_areas { 32 } else { 0 }] {
        reply.extend(field.to_le_bytes());
    }
    reply.extend(region.size.to_le_bytes());
    reply.extend(region.file_offset.to_le_bytes());
    if !with_areas {
        return Ok(Outcome::of(Effect::Nothing));
    }
    reply.extend(REGION_CAP_SPARSE_MMAP.to_le_bytes());
    reply.extend(1u16.to_le_bytes());
    reply.extend(0u32.to_le_bytes());
    reply.extend((areas.len() as u32).to_le_bytes());
    reply.extend(0u32.to_le_bytes());
    for area in areas {
        reply.extend(area.offset.to_le_bytes());
        reply.extend(area.size.to_le_bytes());
    }
    Ok(Outcome::of(Effect::RegionDescriptor { region: index }))
}

fn irq_info<'a>(
    device: &Device,
    header: &Header,
    payload: &[u8],
    reply: &mut Vec<u8>,
) -> Result<Outcome<'a>, Fault> {
    let (argsz, _, index, _) = fields(payload, 16)?;
    at_least(argsz, 16)?;
    let count = *device.irqs.get(index as usize).ok_or(Fault::NoSuchIrq)?;
    let flags = match index {
        IRQ_INTX => IRQ_INFO_EVENTFD | IRQ_INFO_MASKABLE | IRQ_INFO_AUTOMASKED,
        // Vectors of MSI-X can be added one by one: a client need not take down those that are set.
        IRQ_MSIX => IRQ_INFO_EVENTFD,
        _ => IRQ_INFO_EVENTFD | IRQ_INFO_NORESIZE,
    };
    put_reply(reply, header, 16);
    for field in [16, flags, index, count] {
        reply.extend(field.to_le_bytes());
    }
    Ok(Outcome::of(Effect::Nothing))
}

/// The part that REGION_READ, REGION_WRITE and their replies begin with.
fn put_access(reply: &mut Vec<u8>, offset: u64, region: u32, count: u32) {
    reply.extend(offset.to_le_bytes());
    reply.extend(region.to_le_bytes());
    reply.extend(count.to_le_bytes());
}

fn access<'a>(device: &Device, payload: &'a [u8]) -> Result<(u64, u32, u32, &'a [u8], bool), Fault> {
    let mut from = Reader::of(payload, 16)?;
    let (offset, index, count) = (from.u64(), from.u32(), from.u32());
    let region = device.region(index).ok_or(Fault::NoSuchRegion)?;
    if u64::from(count) > offer::MAX_DATA_XFER_SIZE {
        return Err(Fault::TooMuchData);
    }
    if !region.holds(offset, u64::from(count)) {
        return Err(Fault::OutOfRegion);
    }
    Ok((offset, index, count, from.rest(), region.writable))
}

fn read<'a>(
    device: &Device,
    header: &Header,
    payload: &[u8],
    reply: &mut Vec<u8>,
) -> Result<Outcome<'a>, Fault> {
    let (offset, region, count, ..) = access(device, payload)?;
    if !header.wants_reply() {
        return Err(Fault::PostedRead);
    }
    let count = count.min((REPLY_MAX - HEADER_LEN - 16) as u32);
    put_reply(reply, header, 16 + count as usize);
    put_access(reply, offset, region, count);
    let into = reply.len()..reply.len() + count as usize;
    reply.resize(into.end, 0);
    Ok(Outcome::of(Effect::Read { region, offset, into }))
}

fn write<'a>(
    device: &Device,
    header: &Header,
    payload: &'a [u8],
    reply: &mut Vec<u8>,
) -> Result<Outcome<'a>, Fault> {
    let (offset, region, count, data, writable) = access(device, payload)?;
    if data.len() != count as usize {
        return Err(Fault::Malformed);
    }
    if !writable {
        return Err(Fault::OutOfRegion);
    }
    put_reply(reply, header, 16);
    put_access(reply, offset, region, count);
    Ok(Outcome::of(Effect::Write(Write { region, offset, data })))
}

fn write_multi<'a>(
    device: &'a Device,
    header: &Header,
    payload: &'a [u8],
    reply: &mut Vec<u8>,
) -> Result<Outcome<'a>, Fault> {
    let mut from = Reader(payload);
    let count = from.u64();
    let writes = Writes { device, rest: from.rest() };
    let whole = payload.len() >= 8 && u64::try_from(writes.rest.len() / WRITE_LEN) == Ok(count);
    if !whole || !writes.rest.len().is_multiple_of(WRITE_LEN) {
        return Err(Fault::Malformed);
    }
    if count > WRITES_MAX {
        return Err(Fault::TooMuchData);
    }
    // One bad write does not take the others of its batch along.
    let good = writes.clone().count() as u64;
    put_reply(reply, header, 8);
    reply.extend(good.to_le_bytes());
    let fault = (good != count).then_some(Fault::OutOfRegion);
    Ok(Outcome { fault, ..Outcome::of(Effect::Writes(writes)) })
}

#[cfg(test)]
mod tests;
