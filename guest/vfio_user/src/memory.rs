//! The memory map: DMA_MAP and DMA_UNMAP.

use alloc::vec::Vec;

use crate::fault::Fault;
use crate::numbers::*;
use crate::session::{Effect, Outcome, Session, at_least};
use crate::state::MapState;
use crate::wire::{Header, Reader, put_reply};

/// Memory of a guest comes and goes by pages. Smaller pieces would only make buffers of many spans.
const PAGE: u64 = 4096;
/// Of maps that bring one. Each is kept for the worker's successor under a name, and the names of all
/// slots have to fit what a process may be started with. Firmware makes 17.
const DESCRIPTORS_MAX: usize = 96;

impl Session {
    pub(crate) fn map<'a>(
        &mut self,
        header: &Header,
        payload: &[u8],
        fds: usize,
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 32)?;
        if fds > 1 {
            return Err(Fault::ExtraDescriptors);
        }
        let (argsz, flags) = (from.u32(), from.u32());
        let (offset, address, size) = (from.u64(), from.u64(), from.u64());
        at_least(argsz, 32)?;
        let end = address.checked_add(size).ok_or(Fault::BadMap)?;
        // Bits that a later client may set say how it would like the memory to be reached; which of
        // reading and writing it allows is said by these two.
        let flags = flags & (MAP_READ | MAP_WRITE);
        let whole_pages = [offset, address, size].iter().all(|value| value.is_multiple_of(PAGE));
        if size == 0 || flags == 0 || offset.checked_add(size).is_none() || !whole_pages {
            return Err(Fault::BadMap);
        }
        let at = self.state.maps.partition_point(|map| map.address < address);
        let before = at.checked_sub(1).map(|at| &self.state.maps[at]);
        if before.is_some_and(|map| map.address + map.size > address)
            || self.state.maps.get(at).is_some_and(|map| map.address < end)
        {
            return Err(Fault::MapExists);
        }
        let kept = self.state.maps.iter().filter(|map| map.fd != 0).count();
        if self.state.maps.len() as u64 >= offer::MAX_DMA_MAPS || fds > 0 && kept >= DESCRIPTORS_MAX {
            return Err(Fault::TooManyMaps);
        }
        let mut outcome = Outcome::changing(Effect::Memory);
        let fd = if fds == 0 { 0 } else { self.next_generation() };
        if fd != 0 {
            outcome.kept.push(fd);
        }
        self.state.maps.insert(at, MapState { address, size, offset, fd, flags });
        put_reply(reply, header, 0);
        Ok(outcome)
    }

    /// Exactly what was mapped, or, with the flag for it and no range, everything.
    pub(crate) fn unmap<'a>(
        &mut self,
        header: &Header,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<Outcome<'a>, Fault> {
        let mut from = Reader::of(payload, 24)?;
        let (argsz, flags, address, size) = (from.u32(), from.u32(), from.u64(), from.u64());
        at_least(argsz, 24)?;
        let mut outcome = Outcome::changing(Effect::Memory);
        match flags {
            0 => {
                let at = self.state.maps.binary_search_by_key(&address, |map| map.address);
                let at = at.map_err(|_| Fault::NoSuchMap)?;
                if self.state.maps[at].size != size {
                    return Err(Fault::NoSuchMap);
                }
                let map = self.state.maps.remove(at);
                outcome.dropped.extend((map.fd != 0).then_some(map.fd));
            }
            UNMAP_ALL if address == 0 && size == 0 => {
                let fds = self.state.maps.drain(..).map(|map| map.fd);
                outcome.dropped.extend(fds.filter(|&fd| fd != 0));
            }
            _ => return Err(Fault::BadUnmap),
        }
        put_reply(reply, header, 24);
        reply.extend(&payload[..24]);
        Ok(outcome)
    }
}
