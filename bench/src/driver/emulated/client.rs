//! A vfio-user client, as far as a driver without a hypervisor needs one (QEMU's
//! `docs/interop/vfio-user.rst`): memory is given in one map, register writes are posted, reads are
//! waited for. It is written apart from `guest/vfio_user`, so that a mistake in one shows against
//! the other.

use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use host::socket;

use crate::driver::error::{Error, Result, doing};
use crate::driver::message::{MemoryRegion, part};
use crate::driver::ram::Ram;

const VERSION: u16 = 1;
const DMA_MAP: u16 = 2;
const SET_IRQS: u16 = 8;
const REGION_READ: u16 = 9;
const REGION_WRITE: u16 = 10;
const DEVICE_RESET: u16 = 13;

const HEADER_BYTES: usize = 16;
const TYPE_REPLY: u32 = 1;
const TYPE_MASK: u32 = 0xf;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

const MAP_READ_WRITE: u32 = 3;
/// Eventfds that are to be signalled (`<linux/vfio.h>`).
const IRQ_SET_EVENTFD_TRIGGER: u32 = 1 << 2 | 1 << 5;
const CONFIG_REGION: u32 = 7;
const COMMAND_REGISTER: u64 = 4;
/// I/O space, memory space, bus master.
const COMMAND_ALL: u16 = 7;

/// Longer answers are none to what is asked here.
const PAYLOAD_MAX: usize = 64 << 10;
/// QEMU gives a server five seconds; a loaded machine wants some more.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

/// Interrupts of a PCI device, by vfio's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Irq {
    Intx = 0,
    MsiX = 2,
}

pub struct Client {
    stream: UnixStream,
    /// The guest's memory and its interrupts, to give them to another server as well.
    file: OwnedFd,
    maps: Vec<MemoryRegion>,
    interrupts: Vec<(Irq, Vec<OwnedFd>)>,
    next_id: u16,
    /// Messages sent: what a guest's exits would be.
    pub messages: u64,
}

impl Client {
    /// Connects, agrees on the version, and gives all of the guest's memory with bus mastering on.
    pub fn open(path: &Path, ram: &Ram, patience: Duration) -> Result<Client> {
        let file = ram.file().try_clone_to_owned().map_err(doing("sharing the guest's memory"))?;
        let mut client = Client {
            stream: connect(path, patience)?,
            file,
            maps: ram.regions().collect(),
            interrupts: Vec::new(),
            next_id: 1,
            messages: 0,
        };
        client.introduce()?;
        client.write(CONFIG_REGION, COMMAND_REGISTER, &COMMAND_ALL.to_le_bytes())?;
        Ok(client)
    }

    /// The version, and all of the guest's memory.
    fn introduce(&mut self) -> Result<()> {
        // QEMU proposes 0.0, too.
        let mut version = vec![0; 4];
        version.extend(b"{\"capabilities\":{\"max_msg_fds\":8,\"max_data_xfer_size\":1048576}}\0");
        self.ask(VERSION, &version, &[])?;
        let file = self.file.try_clone().map_err(doing("sharing the guest's memory"))?;
        for region in self.maps.clone() {
            let mut map = 32u32.to_le_bytes().to_vec();
            map.extend(MAP_READ_WRITE.to_le_bytes());
            map.extend(region.file_offset.to_le_bytes());
            map.extend(region.guest_address.to_le_bytes());
            map.extend(region.bytes.to_le_bytes());
            self.ask(DMA_MAP, &map, &[file.as_fd()])?;
        }
        Ok(())
    }

    /// The same client at another server: memory and interrupts as they are, and a device that knows
    /// nothing yet.
    pub(super) fn connect_anew(&mut self, path: &Path) -> Result<()> {
        self.stream = connect(path, REPLY_TIMEOUT)?;
        self.introduce()?;
        for (irq, events) in std::mem::take(&mut self.interrupts) {
            let events: Vec<_> = events.iter().map(AsFd::as_fd).collect();
            self.set_interrupts(irq, &events)?;
        }
        Ok(())
    }

    pub(super) fn file(&self) -> &OwnedFd {
        &self.file
    }

    pub(super) fn maps(&self) -> &[MemoryRegion] {
        &self.maps
    }

    /// As after power on, and a bus master again.
    pub fn reset(&mut self) -> Result<()> {
        self.ask(DEVICE_RESET, &[], &[])?;
        self.write(CONFIG_REGION, COMMAND_REGISTER, &COMMAND_ALL.to_le_bytes())
    }

    /// These are signalled from now on, from the first vector on.
    pub fn set_interrupts(&mut self, irq: Irq, events: &[BorrowedFd<'_>]) -> Result<()> {
        let words = [20, IRQ_SET_EVENTFD_TRIGGER, irq as u32, 0, events.len() as u32];
        let payload: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).collect();
        self.ask(SET_IRQS, &payload, events)?;
        let kept: std::io::Result<Vec<_>> = events.iter().map(|event| event.try_clone_to_owned()).collect();
        self.interrupts.retain(|(other, _)| *other != irq);
        self.interrupts.push((irq, kept.map_err(doing("sharing interrupts"))?));
        Ok(())
    }

    /// A posted write: nothing comes back.
    #[inline]
    pub fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<()> {
        let mut payload = [0; 16 + 8];
        payload[..16].copy_from_slice(&access(region, offset, data.len()));
        payload[16..16 + data.len()].copy_from_slice(data);
        self.send(REGION_WRITE, NO_REPLY, &payload[..16 + data.len()], &[])
    }

    #[inline]
    pub fn write_u32(&mut self, region: u32, offset: u64, value: u32) -> Result<()> {
        self.write(region, offset, &value.to_le_bytes())
    }

    #[inline]
    pub fn write_u16(&mut self, region: u32, offset: u64, value: u16) -> Result<()> {
        self.write(region, offset, &value.to_le_bytes())
    }

    pub fn read_u32(&mut self, region: u32, offset: u64) -> Result<u32> {
        let reply = self.ask(REGION_READ, &access(region, offset, 4), &[])?;
        Ok(u32::from_le_bytes(part(&reply, 16)?))
    }

    pub fn read_u16(&mut self, region: u32, offset: u64) -> Result<u16> {
        let reply = self.ask(REGION_READ, &access(region, offset, 2), &[])?;
        Ok(u16::from_le_bytes(part(&reply, 16)?))
    }

    fn send(&mut self, command: u16, flags: u32, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut short = [0; HEADER_BYTES + 128];
        let mut long = Vec::new();
        let end = HEADER_BYTES + payload.len();
        let message = if end <= short.len() {
            &mut short[..]
        } else {
            long.resize(end, 0);
            &mut long[..]
        };
        message[..2].copy_from_slice(&self.next_id.to_le_bytes());
        message[2..4].copy_from_slice(&command.to_le_bytes());
        message[4..8].copy_from_slice(&(end as u32).to_le_bytes());
        message[8..12].copy_from_slice(&flags.to_le_bytes());
        message[HEADER_BYTES..end].copy_from_slice(payload);
        self.next_id = self.next_id.wrapping_add(1);
        self.messages += 1;
        socket::send(self.stream.as_fd(), &message[..end], fds).map_err(doing("sending to the server"))
    }

    /// Sends, and waits for the answer. Nothing else may be answered meanwhile.
    pub(super) fn ask(&mut self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>> {
        let id = self.next_id;
        self.send(command, 0, payload, fds)?;
        let mut head = [0; HEADER_BYTES];
        self.fill(&mut head)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (size, flags, error) = (word(4) as usize, word(8), word(12));
        if u16::from_le_bytes([head[0], head[1]]) != id || flags & TYPE_MASK != TYPE_REPLY {
            return Err(Error::Device(format!("the answer to command {command} is to another")));
        }
        if !(HEADER_BYTES..=HEADER_BYTES + PAYLOAD_MAX).contains(&size) {
            return Err(Error::Device(format!("the answer to command {command} claims {size} bytes")));
        }
        let mut reply = vec![0; size - HEADER_BYTES];
        self.fill(&mut reply)?;
        if flags & ERROR != 0 {
            return Err(Error::Device(format!("command {command} failed with errno {error}")));
        }
        Ok(reply)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < bytes.len() {
            match socket::take(self.stream.as_fd(), &mut bytes[filled..]) {
                Ok(Some(taken)) if taken.len == 0 => {
                    return Err(Error::Device("the connection ended".into()));
                }
                Ok(Some(taken)) => {
                    filled += taken.len;
                    let _: Vec<OwnedFd> = taken.fds;
                }
                Ok(None) => {
                    let wait = host::poll::readable(&[self.stream.as_fd()], REPLY_TIMEOUT);
                    if wait.map_err(doing("waiting for the server"))? == 0 {
                        return Err(Error::Stalled(format!("no answer in {REPLY_TIMEOUT:?}")));
                    }
                }
                Err(source) if source.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::System { doing: "receiving from the server", source }),
            }
        }
        Ok(())
    }
}

fn connect(path: &Path, patience: Duration) -> Result<UnixStream> {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(source) if start.elapsed() >= patience => {
                return Err(Error::Unsupported(format!("cannot connect to {}: {source}", path.display())));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

fn access(region: u32, offset: u64, bytes: usize) -> [u8; 16] {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&offset.to_le_bytes());
    payload[8..12].copy_from_slice(&region.to_le_bytes());
    payload[12..].copy_from_slice(&(bytes as u32).to_le_bytes());
    payload
}
