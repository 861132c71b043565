//! A device's way from one server to another, as a client that migrates a VM leads it (vfio-user:
//! DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE; `<linux/vfio.h>`): pages that it writes are noted,
//! it is stopped, its state is read, and another server's device goes on with it.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::client::Client;
use crate::driver::error::{Error, Result, doing};
use crate::driver::message::part;

const DEVICE_FEATURE: u16 = 16;
const MIG_DATA_READ: u16 = 17;
const MIG_DATA_WRITE: u16 = 18;

const MIGRATION: u32 = 1;
const MIG_DEVICE_STATE: u32 = 2;
const DMA_LOGGING_START: u32 = 6;
const DMA_LOGGING_STOP: u32 = 7;
const DMA_LOGGING_REPORT: u32 = 8;
const GET: u32 = 1 << 16;
const SET: u32 = 1 << 17;
const STOP_COPY: u64 = 1 << 0;

const PAGE_BYTES: u64 = 4096;
/// Small, so that a state goes in several pieces.
const PIECE_BYTES: u32 = 1000;

/// `enum vfio_device_mig_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Stop = 1,
    Running = 2,
    StopCopy = 3,
    Resuming = 4,
    PreCopy = 6,
}

impl Client {
    /// Whether the device's state can be taken out at all.
    pub fn can_migrate(&mut self) -> Result<bool> {
        let reply = self.feature(GET | MIGRATION, &[], 8)?;
        Ok(u64::from_le_bytes(part(&reply, 8)?) & STOP_COPY != 0)
    }

    pub fn go_to(&mut self, state: State) -> Result<()> {
        let mut data = (state as u32).to_le_bytes().to_vec();
        data.extend(u32::MAX.to_le_bytes());
        self.feature(SET | MIG_DEVICE_STATE, &data, 0).map(drop)
    }

    /// Notes from now on which pages of the guest's memory the device writes.
    pub fn start_log(&mut self) -> Result<()> {
        let maps = self.maps().to_vec();
        let mut data = PAGE_BYTES.to_le_bytes().to_vec();
        data.extend((maps.len() as u32).to_le_bytes());
        data.extend(0u32.to_le_bytes());
        for map in &maps {
            data.extend(map.guest_address.to_le_bytes());
            data.extend(map.bytes.to_le_bytes());
        }
        self.feature(SET | DMA_LOGGING_START, &data, 0).map(drop)
    }

    pub fn stop_log(&mut self) -> Result<()> {
        self.feature(SET | DMA_LOGGING_STOP, &[], 0).map(drop)
    }

    /// The pages, by their addresses, that were written since this was last asked.
    pub fn dirty_pages(&mut self) -> Result<Vec<u64>> {
        let mut pages = Vec::new();
        for map in self.maps().to_vec() {
            let data: Vec<u8> =
                [map.guest_address, map.bytes, PAGE_BYTES].into_iter().flat_map(u64::to_le_bytes).collect();
            let bitmap = map.bytes.div_ceil(PAGE_BYTES).div_ceil(64) * 8;
            let reply = self.feature(GET | DMA_LOGGING_REPORT, &data, bitmap as u32)?;
            for (at, byte) in reply.get(8 + 24..).unwrap_or(&[]).iter().enumerate() {
                let bits = (0..8).filter(|bit| byte >> bit & 1 != 0);
                pages.extend(bits.map(|bit| map.guest_address + (at as u64 * 8 + bit) * PAGE_BYTES));
            }
        }
        Ok(pages)
    }

    /// All of a stopped device's state; `between` is called before each piece.
    pub fn read_state(&mut self, mut between: impl FnMut()) -> Result<Vec<u8>> {
        let mut state = Vec::new();
        loop {
            between();
            let mut ask = (8 + PIECE_BYTES).to_le_bytes().to_vec();
            ask.extend(PIECE_BYTES.to_le_bytes());
            let reply = self.ask(MIG_DATA_READ, &ask, &[])?;
            let bytes = u32::from_le_bytes(part(&reply, 4)?);
            let data = reply.get(8..).unwrap_or(&[]);
            if data.len() != bytes as usize || bytes > PIECE_BYTES {
                return Err(Error::Device(format!("a piece of {bytes} bytes has {}", data.len())));
            }
            state.extend(data);
            if bytes < PIECE_BYTES {
                return Ok(state);
            }
        }
    }

    /// Leaves this server for another, whose device goes on with this state; `between` is called
    /// before each piece. If it does not take the state, this client is of no more use.
    pub fn move_to(&mut self, socket: &Path, state: &[u8], mut between: impl FnMut()) -> Result<()> {
        self.connect_anew(socket)?;
        self.go_to(State::Resuming)?;
        for piece in state.chunks(PIECE_BYTES as usize) {
            between();
            let mut data = (8 + piece.len() as u32).to_le_bytes().to_vec();
            data.extend((piece.len() as u32).to_le_bytes());
            data.extend(piece);
            self.ask(MIG_DATA_WRITE, &data, &[])?;
        }
        between();
        self.go_to(State::Running)
    }

    /// What stands in each page of the guest's memory, by its address, as a number that tells whether it
    /// changed.
    pub fn page_sums(&self) -> Result<BTreeMap<u64, u64>> {
        let mut sums = BTreeMap::new();
        let mut page = [0; PAGE_BYTES as usize];
        let file = File::from(self.file().try_clone().map_err(doing("sharing the guest's memory"))?);
        for map in self.maps() {
            for at in (0..map.bytes).step_by(page.len()) {
                file.read_exact_at(&mut page, map.file_offset + at)
                    .map_err(doing("reading a guest's page"))?;
                let mut hasher = DefaultHasher::new();
                page.hash(&mut hasher);
                sums.insert(map.guest_address + at, hasher.finish());
            }
        }
        Ok(sums)
    }

    fn feature(&mut self, flags: u32, data: &[u8], more: u32) -> Result<Vec<u8>> {
        let mut payload = (8 + data.len() as u32 + more).to_le_bytes().to_vec();
        payload.extend(flags.to_le_bytes());
        payload.extend(data);
        self.ask(DEVICE_FEATURE, &payload, &[])
    }
}
