//! virtio-scsi (virtio 1.2, 5.6): request queues, the control queue's task management, and the
//! event queue.

use std::time::{Duration, Instant};

use super::disk::{Completion, Facts, Operation, Outcome, Request, SECTOR_BYTES, SLOT_STATUS_AT, Slots};
use super::error::{Error, Result};
use super::queue::{Buffer, Queue};
use super::ram::{Area, Ram};

pub const F_HOTPLUG: u64 = 1 << 1;
pub const F_CHANGE: u64 = 1 << 2;
pub const FEATURES: u64 = F_HOTPLUG | F_CHANGE;

pub const CONTROL_QUEUE: u32 = 0;
pub const EVENT_QUEUE: u32 = 1;
pub const REQUEST_QUEUE_FIRST: u32 = 2;

const COMMAND_BYTES: u32 = 51;
const CDB_AT: usize = 19;
const CDB_BYTES: usize = 32;
const RESPONSE_BYTES: u32 = 108;
/// The response without its sense data: what a device writes at least.
const RESPONSE_FIXED_BYTES: u32 = 12;
const SENSE_AT: usize = 12;
/// No device answers with this response: a request that ends with it was not answered.
const POISON: u16 = 0xffff;
/// UNMAP's parameter list with one descriptor.
const UNMAP_LIST_BYTES: u32 = 24;

/// SCSI sense, in the three numbers that say what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sense {
    pub key: u8,
    pub asc: u8,
    pub ascq: u8,
}

impl Sense {
    /// Fixed (70h, 71h) and descriptor (72h, 73h) formats (SPC-4 4.5).
    pub fn decode(bytes: &[u8]) -> Sense {
        match (bytes.first().map_or(0, |code| code & 0x7f), bytes) {
            (0x70 | 0x71, [_, _, key, _, _, _, _, _, _, _, _, _, asc, ascq, ..]) => {
                Sense { key: key & 0xf, asc: *asc, ascq: *ascq }
            }
            (0x72 | 0x73, [_, key, asc, ascq, ..]) => Sense { key: key & 0xf, asc: *asc, ascq: *ascq },
            _ => Sense::default(),
        }
    }
}

/// A command's whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub response: u8,
    pub status: u8,
    pub residual: u32,
    pub sense: Sense,
    pub sense_bytes: Vec<u8>,
    /// What the device wrote of the data-in buffer, by residual.
    pub data: Vec<u8>,
}

/// Task management subtypes (5.6.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum TaskManagement {
    AbortTask = 0,
    AbortTaskSet = 1,
    ClearAca = 2,
    ClearTaskSet = 3,
    ITNexusReset = 4,
    LogicalUnitReset = 5,
    QueryTask = 6,
    QueryTaskSet = 7,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    pub event: u32,
    pub lun: [u8; 8],
    pub reason: u32,
    /// VIRTIO_SCSI_T_EVENTS_MISSED.
    pub missed: bool,
}

/// The single-level LUN format of 5.6.6.1: 1, target, then the LUN in flat addressing.
fn address(target: u8, lun: u16) -> [u8; 8] {
    let lun = (lun & 0x3fff) | 0x4000;
    [1, target, (lun >> 8) as u8, lun as u8, 0, 0, 0, 0]
}

pub struct ScsiQueue {
    pub ring: Queue,
    pub(super) slots: Slots,
    pub block_bytes: u32,
    address: [u8; 8],
    next_id: u64,
    ids: Vec<u64>,
}

impl ScsiQueue {
    pub(super) fn new(ring: Queue, slots: Slots, target: u8, lun: u16) -> ScsiQueue {
        // Tags are told apart across queues too, as task management names a command by its tag.
        let next_id = (ring.index as u64) << 48 | 1;
        let ids = vec![0; slots.headers.len()];
        ScsiQueue {
            ring,
            slots,
            block_bytes: SECTOR_BYTES as u32,
            address: address(target, lun),
            next_id,
            ids,
        }
    }

    /// Sends the commands that follow to another LUN.
    pub fn aim(&mut self, target: u8, lun: u16) {
        self.address = address(target, lun);
    }

    /// The same by the eight bytes of a request's `lun` field.
    pub fn aim_at(&mut self, address: [u8; 8]) {
        self.address = address;
    }

    /// The tag of the command in a slot, for ABORT TASK and QUERY TASK.
    pub fn id(&self, slot: u16) -> u64 {
        self.ids[slot as usize]
    }

    #[inline]
    pub fn submit(&mut self, slot: u16, request: Request) -> bool {
        let (cdb, out) = cdb_of(request, self.block_bytes, &self.slots.data[slot as usize]);
        self.slots.requests[slot as usize] = request;
        let data_in = if request.operation == Operation::Read { request.bytes } else { 0 };
        self.submit_cdb(slot, &cdb, out, data_in)
    }

    #[inline]
    fn submit_cdb(&mut self, slot: u16, cdb: &[u8], data_out: u32, data_in: u32) -> bool {
        let header = &self.slots.headers[slot as usize];
        header.store_u64(0, u64::from_le_bytes(self.address));
        header.store_u64(8, self.next_id);
        // Task attribute SIMPLE, priority 0 and CRN 0, then the CDB at byte 19.
        header.store_u32(16, 0);
        let mut padded = [0; CDB_BYTES];
        padded[..cdb.len()].copy_from_slice(cdb);
        header.write_bytes(CDB_AT, &padded);
        header.store_u16(SLOT_STATUS_AT + 10, POISON);
        self.ids[slot as usize] = self.next_id;
        self.next_id += 1;
        let base = header.address();
        self.slots.chain.clear();
        self.slots.chain.push(Buffer::readable(base, COMMAND_BYTES));
        if data_out > 0 {
            self.slots.push_data(slot, data_out, false);
        }
        self.slots.chain.push(Buffer::writable(base + SLOT_STATUS_AT as u64, RESPONSE_BYTES));
        if data_in > 0 {
            self.slots.push_data(slot, data_in, true);
        }
        self.ring.add(slot, &self.slots.chain)
    }

    #[inline]
    pub fn complete(&mut self) -> Result<Option<Completion>> {
        let Some(used) = self.ring.pop()? else {
            return Ok(None);
        };
        let header = &self.slots.headers[used.token as usize];
        let request = self.slots.requests[used.token as usize];
        let last = header.load_u32(SLOT_STATUS_AT + 8);
        let (status, response) = ((last >> 16) as u8, (last >> 24) as u8);
        if status == 0 && response == 0 {
            let residual = header.load_u32(SLOT_STATUS_AT + 4);
            let data = if request.operation == Operation::Read { request.bytes } else { 0 };
            let expected = if data > 0 { RESPONSE_BYTES + data } else { RESPONSE_FIXED_BYTES };
            let wrong_length = used.written < expected || residual != 0;
            return Ok(Some(Completion { slot: used.token, outcome: Outcome::Good, wrong_length }));
        }
        let sense = Sense::decode(&self.sense_bytes(used.token));
        let wrong_length = used.written < RESPONSE_FIXED_BYTES;
        Ok(Some(Completion {
            slot: used.token,
            outcome: Outcome::Scsi { response, status, sense },
            wrong_length,
        }))
    }

    fn sense_bytes(&self, slot: u16) -> Vec<u8> {
        let header = &self.slots.headers[slot as usize];
        let length =
            (header.load_u32(SLOT_STATUS_AT) as usize).min((RESPONSE_BYTES - RESPONSE_FIXED_BYTES) as usize);
        let mut sense = vec![0; length];
        header.read_bytes(SLOT_STATUS_AT + SENSE_AT, &mut sense);
        sense
    }

    /// One command by its CDB, waited for, in slot 0. Nothing else may be in flight on the queue.
    pub fn command(&mut self, cdb: &[u8], data_out: &[u8], data_in: u32) -> Result<Answer> {
        const PATIENCE: Duration = Duration::from_secs(30);
        let room = self.slots.data[0].len();
        if data_out.len() > room || data_in as usize > room || cdb.len() > CDB_BYTES {
            return Err(Error::Unsupported(format!("a command larger than the slot's {room} bytes")));
        }
        self.slots.data[0].write_bytes(0, data_out);
        if !self.submit_cdb(0, cdb, data_out.len() as u32, data_in) {
            return Err(Error::Unsupported("the ring has no room for one command".into()));
        }
        self.ring.publish();
        let start = Instant::now();
        while self.ring.pop()?.is_none() {
            if start.elapsed() > PATIENCE {
                return Err(Error::Stalled(format!("command {:#x} did not end in {PATIENCE:?}", cdb[0])));
            }
            self.ring.wait(Duration::from_millis(50))?;
        }
        let header = &self.slots.headers[0];
        let last = header.load_u32(SLOT_STATUS_AT + 8);
        let residual = header.load_u32(SLOT_STATUS_AT + 4);
        let sense_bytes = self.sense_bytes(0);
        let mut data = vec![0; data_in.saturating_sub(residual) as usize];
        self.slots.data[0].read_bytes(0, &mut data);
        Ok(Answer {
            response: (last >> 24) as u8,
            status: (last >> 16) as u8,
            residual,
            sense: Sense::decode(&sense_bytes),
            sense_bytes,
            data,
        })
    }

    pub(super) fn read_facts(&mut self) -> Result<Facts> {
        facts_by(|cdb, bytes| self.command(cdb, &[], bytes))
    }
}

/// The CDB of a request, and how many bytes of the slot's data go with it to the device. Lists and
/// zeroes that the command needs are laid there.
#[inline]
pub(super) fn cdb_of(request: Request, block_bytes: u32, data: &Area) -> ([u8; 16], u32) {
    let block = request.sector * SECTOR_BYTES / block_bytes as u64;
    let blocks = request.bytes / block_bytes;
    let mut cdb = [0; 16];
    let (code, length, out) = match request.operation {
        Operation::Read => (0x88, blocks, 0),
        Operation::Write => (0x8a, blocks, request.bytes),
        Operation::Flush => (0x91, 0, 0),
        Operation::WriteZeroes => (0x93, blocks, block_bytes),
        Operation::Discard => (0x42, 0, UNMAP_LIST_BYTES),
    };
    cdb[0] = code;
    match request.operation {
        Operation::Discard => {
            cdb[7..9].copy_from_slice(&(UNMAP_LIST_BYTES as u16).to_be_bytes());
            let mut list = [0; UNMAP_LIST_BYTES as usize];
            list[1] = UNMAP_LIST_BYTES as u8 - 2;
            list[3] = UNMAP_LIST_BYTES as u8 - 8;
            list[8..16].copy_from_slice(&block.to_be_bytes());
            list[16..20].copy_from_slice(&blocks.to_be_bytes());
            data.write_bytes(0, &list);
        }
        _ => {
            cdb[2..10].copy_from_slice(&block.to_be_bytes());
            cdb[10..14].copy_from_slice(&length.to_be_bytes());
        }
    }
    if request.operation == Operation::WriteZeroes {
        // WRITE SAME(16) with UNMAP: deallocated blocks must read as the zeroes that we give.
        cdb[1] = 0x08;
        for at in (0..block_bytes as usize).step_by(8) {
            data.store_u64(at, 0);
        }
    }
    (cdb, out)
}

/// READ CAPACITY(16), past the unit attentions that a new nexus is met with. `command` runs a CDB
/// that reads so many bytes.
pub(super) fn facts_by(mut command: impl FnMut(&[u8], u32) -> Result<Answer>) -> Result<Facts> {
    const ATTENTIONS_MAX: usize = 8;
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    for _ in 0..ATTENTIONS_MAX {
        let answer = command(&cdb, 32)?;
        if answer.response != 0 {
            return Err(Error::Unsupported(format!("no disk here: response {}", answer.response)));
        }
        if answer.status == 0 {
            let Some((&last, rest)) = answer.data.split_first_chunk::<8>() else {
                return Err(Error::Protocol("READ CAPACITY(16) returned too little".into()));
            };
            let Some((&block, rest)) = rest.split_first_chunk::<4>() else {
                return Err(Error::Protocol("READ CAPACITY(16) returned too little".into()));
            };
            let block_bytes = u32::from_be_bytes(block);
            if block_bytes < SECTOR_BYTES as u32 || !block_bytes.is_power_of_two() {
                return Err(Error::Protocol(format!("a block of {block_bytes} bytes")));
            }
            let thin = rest.get(2).is_some_and(|byte| byte & 0x80 != 0);
            let bytes = u64::from_be_bytes(last).saturating_add(1).saturating_mul(block_bytes as u64);
            return Ok(Facts {
                bytes,
                block_bytes,
                read_only: false,
                flush: true,
                discard: thin,
                write_zeroes: true,
            });
        }
        if answer.sense.key != 6 {
            return Err(Error::Unsupported(format!("READ CAPACITY(16) failed: {:x?}", answer.sense)));
        }
    }
    Err(Error::Unsupported(format!("more than {ATTENTIONS_MAX} unit attentions in a row")))
}

/// Buffers kept on the event queue; Linux keeps eight too.
const EVENT_BUFFERS: u16 = 8;
const EVENT_BYTES: u32 = 16;

/// The control queue and the event queue.
pub struct ScsiControl {
    pub control: Queue,
    pub events: Queue,
    request: Area,
    event_areas: Vec<Area>,
    target: u8,
    lun: u16,
}

impl ScsiControl {
    pub(super) fn new(ram: &mut Ram, rings: Vec<Queue>, target: u8, lun: u16) -> Result<ScsiControl> {
        let [control, mut events]: [Queue; 2] = rings
            .try_into()
            .map_err(|_| Error::Unsupported("virtio-scsi has a control and an event queue".into()))?;
        let mut event_areas = Vec::new();
        for token in 0..EVENT_BUFFERS.min(events.size) {
            let area = ram.allocate(EVENT_BYTES as usize, 64)?;
            events.add(token, &[Buffer::writable(area.address(), EVENT_BYTES)]);
            event_areas.push(area);
        }
        events.publish();
        let request = ram.allocate(128, 128)?;
        Ok(ScsiControl { control, events, request, event_areas, target, lun })
    }

    /// Sends the functions that follow to another LUN.
    pub fn aim(&mut self, target: u8, lun: u16) {
        (self.target, self.lun) = (target, lun);
    }

    pub(super) fn indices(&self) -> [u32; 2] {
        [self.control.index, self.events.index]
    }

    /// A task management function, waited for; returns virtio-scsi's response code. `tag` is a
    /// command's `ScsiQueue::id`, for the functions that name one.
    pub fn task_management(&mut self, function: TaskManagement, tag: u64, patience: Duration) -> Result<u8> {
        self.request.store_u32(0, 0); // VIRTIO_SCSI_T_TMF
        self.request.store_u32(4, function as u32);
        self.request.write_bytes(8, &address(self.target, self.lun));
        self.request.store_u64(16, tag);
        self.request.store_u16(64, POISON);
        let base = self.request.address();
        if !self.control.add(0, &[Buffer::readable(base, 24), Buffer::writable(base + 64, 1)]) {
            return Err(Error::Unsupported("the control queue has no room".into()));
        }
        self.control.publish();
        let start = Instant::now();
        while self.control.pop()?.is_none() {
            if start.elapsed() > patience {
                return Err(Error::Stalled(format!("{function:?} did not end in {patience:?}")));
            }
            self.control.wait(Duration::from_millis(50))?;
        }
        Ok(self.request.load_u16(64) as u8)
    }

    /// The next event, if there is one; its buffer goes back to the device.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        const MISSED: u32 = 1 << 31;
        let Some(used) = self.events.pop()? else {
            return Ok(None);
        };
        let area = &self.event_areas[used.token as usize];
        let word = area.load_u32(0);
        let mut lun = [0; 8];
        area.read_bytes(4, &mut lun);
        let event =
            Event { event: word & !MISSED, lun, reason: area.load_u32(12), missed: word & MISSED != 0 };
        self.events.add(used.token, &[Buffer::writable(area.address(), EVENT_BYTES)]);
        self.events.publish();
        Ok(Some(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sense_is_read_in_both_formats() {
        let fixed = [0x70, 0, 0x25, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x21, 0x00, 0, 0, 0, 0];
        assert_eq!(Sense::decode(&fixed), Sense { key: 5, asc: 0x21, ascq: 0 });
        assert_eq!(
            Sense::decode(&[0x72, 0x06, 0x29, 0x01, 0, 0, 0, 0]),
            Sense { key: 6, asc: 0x29, ascq: 1 }
        );
        assert_eq!(Sense::decode(&[0x70, 0, 5]), Sense::default());
    }

    #[test]
    fn a_lun_is_in_flat_addressing() {
        assert_eq!(address(3, 0x1ab), [1, 3, 0x41, 0xab, 0, 0, 0, 0]);
    }
}
