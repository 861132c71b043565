//! PVSCSI as Linux's vmw_pvscsi drives it: rings of eight pages, one buffer for each request, the
//! request call threshold where the device has it, MSI-X. Names are of VMware's header.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use host::event::Event;

use super::client::{Client, Irq};
use crate::driver::disk::{
    Completion, DiskOptions, Facts, Operation, Outcome, Request, Requests, SLOT_HEADER_BYTES, SLOT_STATUS_AT,
    Slots,
};
use crate::driver::error::{Error, Result, doing};
use crate::driver::ram::{Area, Ram, RamOptions};
use crate::driver::scsi::{self, Answer, Sense};

const BAR: u32 = 0;
const COMMAND: u64 = 0x0000;
const COMMAND_DATA: u64 = 0x0004;
const COMMAND_STATUS: u64 = 0x0008;
const INTR_MASK: u64 = 0x2010;
const KICK_NON_RW_IO: u64 = 0x3014;
const KICK_RW_IO: u64 = 0x4018;

const CMD_ADAPTER_RESET: u32 = 1;
const CMD_SETUP_RINGS: u32 = 3;
const CMD_SETUP_REQCALLTHRESHOLD: u32 = 10;
const FAILED: u32 = u32::MAX;
const CMPL_MASK: u32 = 3;

const PAGE_BYTES: usize = 4096;
/// Pages of each ring, as Linux has it with one target queue depth of 64 (PVSCSI_DEFAULT_NUM_PAGES_PER_RING).
const RING_PAGES: usize = 8;
const RING_PAGES_MAX: usize = 32;
const REQUEST_BYTES: usize = 128;
const COMPLETION_BYTES: usize = 32;
const REQUESTS: u32 = (RING_PAGES * PAGE_BYTES / REQUEST_BYTES) as u32;
const COMPLETIONS: u32 = (RING_PAGES * PAGE_BYTES / COMPLETION_BYTES) as u32;

/// The rings state page.
const REQ_PROD: usize = 0;
const REQ_CONS: usize = 4;
const CMP_PROD: usize = 12;
const CMP_CONS: usize = 16;
const REQ_CALL_THRESHOLD: usize = 24;

const FLAG_NONE: u32 = 1 << 2;
const FLAG_TO_HOST: u32 = 1 << 3;
const FLAG_TO_DEVICE: u32 = 1 << 4;
const TAG_SIMPLE: u8 = 0x20;
const SENSE_BYTES: u32 = (SLOT_HEADER_BYTES - SLOT_STATUS_AT) as u32;
const CDB_BYTES: usize = 16;

/// One adapter with the target that it is aimed at.
pub struct PvscsiQueue {
    client: Client,
    slots: Slots,
    state: Area,
    requests: Area,
    completions: Area,
    target: u8,
    lun: u16,
    block_bytes: u32,
    produced: u32,
    consumed: u32,
    /// What was posted since the last `publish`.
    fast: bool,
    slow: bool,
    threshold: bool,
    call: Event,
    kicks: u64,
    sleeps: u64,
}

/// What a completion says.
struct Ended {
    slot: u16,
    bytes: u64,
    sense_bytes: u32,
    host_status: u16,
    scsi_status: u16,
}

impl PvscsiQueue {
    /// Connects, sets the rings up, and asks the disk what it is.
    pub fn open(socket: &Path, options: &DiskOptions) -> Result<(PvscsiQueue, Facts)> {
        if options.queues != 1 || options.segment_bytes != 0 || u32::from(options.depth) > REQUESTS {
            return Err(Error::Unsupported(format!(
                "this driver has one queue, one buffer for each request, and {REQUESTS} requests at most"
            )));
        }
        let slot = (options.bytes_max as usize).next_multiple_of(PAGE_BYTES) + SLOT_HEADER_BYTES;
        let rings = (2 * RING_PAGES + 3) * PAGE_BYTES;
        let mut ram = Ram::new(RamOptions {
            bytes: rings + options.depth as usize * (slot + PAGE_BYTES) + (1 << 20),
            regions: 1,
            huge_pages: options.huge_pages,
            populate: true,
        })?;
        let state = ram.allocate(PAGE_BYTES, PAGE_BYTES)?;
        let requests = ram.allocate(RING_PAGES * PAGE_BYTES, PAGE_BYTES)?;
        let completions = ram.allocate(RING_PAGES * PAGE_BYTES, PAGE_BYTES)?;
        let slots = Slots::new(&mut ram, options)?;
        let client = Client::open(socket, &ram, Duration::from_secs(5))?;
        let mut queue = PvscsiQueue {
            client,
            slots,
            state,
            requests,
            completions,
            target: options.target,
            lun: options.lun,
            block_bytes: 512,
            produced: 0,
            consumed: 0,
            fast: false,
            slow: false,
            threshold: false,
            call: Event::new().map_err(doing("making an eventfd"))?,
            kicks: 0,
            sleeps: 0,
        };
        queue.set_up()?;
        let facts = scsi::facts_by(|cdb, bytes| queue.command(cdb, bytes))?;
        queue.block_bytes = facts.block_bytes;
        Ok((queue, facts))
    }

    fn set_up(&mut self) -> Result<()> {
        self.client.reset()?;
        self.client.write_u32(BAR, COMMAND, CMD_ADAPTER_RESET)?;
        let page = |area: &Area, index: usize| area.address() / PAGE_BYTES as u64 + index as u64;
        let mut words = vec![RING_PAGES as u32, RING_PAGES as u32];
        let mut numbers = vec![page(&self.state, 0)];
        for ring in [&self.requests, &self.completions] {
            numbers.extend((0..RING_PAGES_MAX).map(|at| if at < RING_PAGES { page(ring, at) } else { 0 }));
        }
        words.extend(numbers.into_iter().flat_map(|number| [number as u32, (number >> 32) as u32]));
        self.order(CMD_SETUP_RINGS, &words)?;
        self.client.write_u32(BAR, COMMAND, CMD_SETUP_REQCALLTHRESHOLD)?;
        if self.client.read_u32(BAR, COMMAND_STATUS)? != FAILED {
            self.order(CMD_SETUP_REQCALLTHRESHOLD, &[1])?;
            self.threshold = self.client.read_u32(BAR, COMMAND_STATUS)? != 0;
        }
        self.client.set_interrupts(Irq::MsiX, &[self.call.as_fd()])?;
        self.client.write_u32(BAR, INTR_MASK, 0)
    }

    fn order(&mut self, command: u32, words: &[u32]) -> Result<()> {
        self.client.write_u32(BAR, COMMAND, command)?;
        words.iter().try_for_each(|word| self.client.write_u32(BAR, COMMAND_DATA, *word))
    }

    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Messages sent to the server so far.
    pub fn messages(&self) -> u64 {
        self.client.messages
    }

    #[inline]
    fn post(&mut self, slot: u16, cdb: &[u8], flags: u32, bytes: u32) -> bool {
        if self.produced.wrapping_sub(self.state.load_acquire_u32(CMP_CONS)) >= REQUESTS {
            return false;
        }
        let at = (self.produced % REQUESTS) as usize * REQUEST_BYTES;
        let ring = &self.requests;
        ring.store_u64(at, u64::from(slot) + 1);
        ring.store_u64(at + 8, self.slots.data[slot as usize].address());
        ring.store_u64(at + 16, u64::from(bytes));
        ring.store_u64(at + 24, self.slots.headers[slot as usize].address() + SLOT_STATUS_AT as u64);
        ring.store_u32(at + 32, SENSE_BYTES);
        ring.store_u32(at + 36, flags);
        let mut rest = [0; 32];
        rest[..cdb.len()].copy_from_slice(cdb);
        rest[CDB_BYTES] = cdb.len() as u8;
        // The LUN in the second byte of eight, then tag, bus and target.
        rest[CDB_BYTES + 2] = self.lun as u8;
        rest[25..28].copy_from_slice(&[TAG_SIMPLE, 0, self.target]);
        ring.write_bytes(at + 40, &rest);
        self.produced = self.produced.wrapping_add(1);
        self.state.store_release_u32(REQ_PROD, self.produced);
        true
    }

    #[inline]
    fn ended(&mut self) -> Result<Option<Ended>> {
        if self.state.load_acquire_u32(CMP_PROD) == self.consumed {
            return Ok(None);
        }
        let at = (self.consumed % COMPLETIONS) as usize * COMPLETION_BYTES;
        let ring = &self.completions;
        let context = ring.load_u64(at);
        let slots = self.slots.headers.len() as u64;
        if !(1..=slots).contains(&context) {
            return Err(Error::Device(format!("a completion of request {context:#x}, which was not posted")));
        }
        let ended = Ended {
            slot: (context - 1) as u16,
            bytes: ring.load_u64(at + 8),
            sense_bytes: ring.load_u32(at + 16),
            host_status: ring.load_u16(at + 20),
            scsi_status: ring.load_u16(at + 22),
        };
        self.consumed = self.consumed.wrapping_add(1);
        self.state.store_release_u32(CMP_CONS, self.consumed);
        Ok(Some(ended))
    }

    fn sense_bytes(&self, slot: u16, len: u32) -> Vec<u8> {
        let mut sense = vec![0; len.min(SENSE_BYTES) as usize];
        self.slots.headers[slot as usize].read_bytes(SLOT_STATUS_AT, &mut sense);
        sense
    }

    /// One command that only reads, waited for, in slot 0.
    pub fn command(&mut self, cdb: &[u8], bytes: u32) -> Result<Answer> {
        self.slow = true;
        if !self.post(0, cdb, FLAG_TO_HOST, bytes) {
            return Err(Error::Unsupported("the ring has no room for one command".into()));
        }
        self.publish()?;
        let start = Instant::now();
        let ended = loop {
            match self.ended()? {
                Some(ended) => break ended,
                None if start.elapsed() > Duration::from_secs(30) => {
                    return Err(Error::Stalled(format!("command {:#x} does not end", cdb[0])));
                }
                None => std::hint::spin_loop(),
            }
        };
        let sense_bytes = self.sense_bytes(0, if ended.scsi_status == 0 { 0 } else { ended.sense_bytes });
        let mut data = vec![0; bytes as usize];
        self.slots.data[0].read_bytes(0, &mut data);
        Ok(Answer {
            response: ended.host_status as u8,
            status: ended.scsi_status as u8,
            residual: 0,
            sense: Sense::decode(&sense_bytes),
            sense_bytes,
            data,
        })
    }
}

impl Requests for PvscsiQueue {
    fn data(&self, slot: u16) -> &Area {
        &self.slots.data[slot as usize]
    }

    #[inline]
    fn submit(&mut self, slot: u16, request: Request) -> bool {
        let (cdb, data_out) = scsi::cdb_of(request, self.block_bytes, &self.slots.data[slot as usize]);
        self.slots.requests[slot as usize] = request;
        let (flags, bytes) = match request.operation {
            Operation::Read => (FLAG_TO_HOST, request.bytes),
            _ if data_out > 0 => (FLAG_TO_DEVICE, data_out),
            _ => (FLAG_NONE, 0),
        };
        // Linux kicks reads and writes by one register, and all else by the other.
        match request.operation {
            Operation::Read | Operation::Write => self.fast = true,
            _ => self.slow = true,
        }
        self.post(slot, &cdb, flags, bytes)
    }

    #[inline]
    fn complete(&mut self) -> Result<Option<Completion>> {
        let Some(ended) = self.ended()? else { return Ok(None) };
        let slot = ended.slot;
        let request = self.slots.requests[slot as usize];
        if ended.host_status == 0 && ended.scsi_status == 0 {
            let moves = matches!(request.operation, Operation::Read | Operation::Write);
            let wrong_length = moves && ended.bytes != u64::from(request.bytes);
            return Ok(Some(Completion { slot, outcome: Outcome::Good, wrong_length }));
        }
        let sense = Sense::decode(&self.sense_bytes(slot, ended.sense_bytes));
        let (response, status) = (ended.host_status as u8, ended.scsi_status as u8);
        Ok(Some(Completion { slot, outcome: Outcome::Scsi { response, status, sense }, wrong_length: false }))
    }

    fn publish(&mut self) -> Result<()> {
        let (fast, slow) = (std::mem::take(&mut self.fast), std::mem::take(&mut self.slow));
        if slow {
            self.kicks += 1;
            self.client.write_u32(BAR, KICK_NON_RW_IO, 0)?;
        } else if fast {
            // The index before the question whether the device looks by itself.
            fence(Ordering::SeqCst);
            let waiting = self.produced.wrapping_sub(self.state.load_u32(REQ_CONS));
            if !self.threshold || waiting >= self.state.load_u32(REQ_CALL_THRESHOLD) {
                self.kicks += 1;
                self.client.write_u32(BAR, KICK_RW_IO, 0)?;
            }
        }
        Ok(())
    }

    fn set_interrupts(&mut self, wanted: bool) -> Result<bool> {
        self.client.write_u32(BAR, INTR_MASK, if wanted { CMPL_MASK } else { 0 })?;
        Ok(self.state.load_acquire_u32(CMP_PROD) != self.consumed)
    }

    /// Interrupts stay on from the first wait on, as in a driver that has no polling.
    fn wait(&mut self, timeout: Duration) -> Result<bool> {
        if self.state.load_acquire_u32(CMP_PROD) != self.consumed {
            return Ok(true);
        }
        self.sleeps += 1;
        let woken =
            host::poll::readable(&[self.call.as_fd()], timeout).map_err(doing("waiting for an interrupt"))?;
        self.call.clear();
        Ok(woken > 0)
    }

    fn counts(&self) -> (u64, u64) {
        (self.kicks, self.sleeps)
    }
}
