//! Requests: the descriptor of 128 bytes, and the data that it points to.

use alloc::vec::Vec;

use guest_memory::Memory;
use request::{Address, Span};

use crate::bits::{flag, host_status, size, tag};
use crate::bytes::{le32, le64};
use crate::fault::Fault;
use crate::place::Place;

/// Bytes of a descriptor that mean something (69), and a few more for the alignment of what follows
/// in the in-flight table.
pub(crate) const KEPT: usize = 72;

/// Pieces of a command's data, once pieces that touch are joined. The kernel takes as many in one
/// call.
pub const SPANS_MAX: usize = 1024;

/// Elements of a list that are looked at, empty ones and links included: no loop lasts.
pub const ELEMENTS_MAX: usize = 4096;

/// A command's data, in bytes: what a residual can say.
const DATA_MAX: u64 = 0xffff_ffff;

/// Elements that are copied out at a time.
const CHUNK: usize = 16;

/// A CDB of 1 to 16 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cdb {
    bytes: [u8; size::CDB],
    len: u8,
}

impl core::ops::Deref for Cdb {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

/// Task attributes. A tag that is none of the queue tag messages counts as SIMPLE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Attribute {
    #[default]
    Simple,
    Ordered,
    HeadOfQueue,
}

/// Which way the data goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    #[default]
    None,
    ToHost,
    ToDevice,
    /// The driver set no flag, or both: the CDB decides (QUIRKS.md).
    Unspecified,
}

/// A SCSI command that was taken from the request ring. Its owner recycles it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Our name for it; [`crate::Adapter::complete`] wants it back.
    pub id: u64,
    /// The driver's name for it.
    pub context: u64,
    /// `None` only before the first use.
    pub place: Option<Place>,
    pub attribute: Attribute,
    pub cdb: Cdb,
    pub direction: Direction,
    /// The data buffer, as spans of the memory that was passed in.
    pub data: Vec<Span>,
    /// Bytes of it, as the driver offered them.
    pub offered: u64,
    /// A worker that died may have run it.
    pub resumed: bool,
    /// The processor of the guest that waits for it.
    pub vcpu_hint: u8,
}

impl Command {
    /// What the device may read.
    pub fn data_out(&self) -> &[Span] {
        match self.direction {
            Direction::ToDevice | Direction::Unspecified => &self.data,
            Direction::None | Direction::ToHost => &[],
        }
    }

    /// What the device may write.
    pub fn data_in(&self) -> &[Span] {
        match self.direction {
            Direction::ToHost | Direction::Unspecified => &self.data,
            Direction::None | Direction::ToDevice => &[],
        }
    }
}

/// The end of a command, as the adapter says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Ended {
        /// One of [`crate::bits::host_status`].
        host_status: u16,
        scsi_status: u8,
        /// Cut to the driver's buffer.
        sense: &'a [u8],
        /// Bytes of the data buffer that were not used.
        residual: u64,
    },
    /// By a task management function or a reset. The adapter knows which it was, and says
    /// BTSTAT_ABORTQUEUE or BTSTAT_BUSRESET.
    Aborted,
}

impl Answer<'_> {
    /// An end without a SCSI status: one of [`crate::bits::host_status`]; no data was moved.
    pub const fn failure(host_status: u16) -> Answer<'static> {
        Answer::Ended { host_status, scsi_status: 0, sense: &[], residual: u64::MAX }
    }
}

/// The descriptor, decoded from the one copy that is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub context: u64,
    pub data: Address,
    pub data_len: u64,
    pub sense: Address,
    pub sense_len: u32,
    pub flags: u32,
    pub cdb: [u8; size::CDB],
    pub cdb_len: u8,
    pub lun: [u8; 8],
    pub tag: u8,
    pub bus: u8,
    pub target: u8,
    pub vcpu_hint: u8,
}

impl Descriptor {
    pub fn decode(bytes: &[u8; KEPT]) -> Descriptor {
        let mut cdb = [0; size::CDB];
        for (into, from) in cdb.iter_mut().zip(bytes.iter().skip(40)) {
            *into = *from;
        }
        let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
        Descriptor {
            context: le64(bytes, 0),
            data: Address(le64(bytes, 8)),
            data_len: le64(bytes, 16),
            sense: Address(le64(bytes, 24)),
            sense_len: le32(bytes, 32),
            flags: le32(bytes, 36),
            cdb,
            cdb_len: byte(56),
            lun: le64(bytes, 57).to_le_bytes(),
            tag: byte(65),
            bus: byte(66),
            target: byte(67),
            vcpu_hint: byte(68),
        }
    }

    /// Fills a command from it, or says how the request ends at once. `id` and `resumed` are the
    /// caller's.
    pub fn parse(&self, memory: &Memory, hint: &mut u32, into: &mut Command) -> Result<(), (Fault, u16)> {
        into.data.clear();
        into.context = self.context;
        into.offered = self.data_len;
        into.vcpu_hint = self.vcpu_hint;
        into.attribute = match self.tag {
            tag::HEAD_OF_QUEUE => Attribute::HeadOfQueue,
            tag::ORDERED => Attribute::Ordered,
            _ => Attribute::Simple,
        };
        into.direction = match self.flags & (flag::DIR_NONE | flag::DIR_TOHOST | flag::DIR_TODEVICE) {
            _ if self.data_len == 0 => Direction::None,
            flag::DIR_NONE => Direction::None,
            flag::DIR_TOHOST => Direction::ToHost,
            flag::DIR_TODEVICE => Direction::ToDevice,
            _ => Direction::Unspecified,
        };
        into.place = match self.bus {
            0 => Place::decode(self.target, self.lun),
            _ => None,
        };
        if into.place.is_none() {
            return Err((Fault::BadPlace, host_status::SELTIMEO));
        }
        if self.flags & flag::OUT_OF_BAND_CDB != 0
            || self.cdb_len == 0
            || usize::from(self.cdb_len) > size::CDB
        {
            return Err((Fault::BadCdb, host_status::INVPARAM));
        }
        into.cdb = Cdb { bytes: self.cdb, len: self.cdb_len };
        if into.direction == Direction::None {
            into.offered = 0;
            return Ok(());
        }
        if self.data_len > DATA_MAX {
            return Err((Fault::BadData, host_status::INVPARAM));
        }
        let mut list = Pieces { memory, hint, spans: &mut into.data };
        let done = match self.flags & flag::WITH_SG_LIST {
            0 => list.add(self.data, self.data_len),
            _ => list.follow(self.data, self.data_len),
        };
        done.map_err(|fault| (fault, host_status::INVPARAM))
    }
}

/// A list of spans in the making.
pub(crate) struct Pieces<'a> {
    pub memory: &'a Memory,
    pub hint: &'a mut u32,
    pub spans: &'a mut Vec<Span>,
}

impl Pieces<'_> {
    /// `len` bytes at an address, in as many spans as the memory map makes of them.
    #[inline]
    pub fn add(&mut self, address: Address, len: u64) -> Result<(), Fault> {
        let (mut at, mut left) = (address.0, len);
        while left > 0 {
            let whole = u32::try_from(left).unwrap_or(u32::MAX);
            if let Some(span) = self.memory.locate(Address(at), whole, self.hint) {
                self.push(span)?;
            } else {
                let part = self.memory.contiguous(Address(at)).min(u64::from(whole));
                // At most `whole`.
                let span = self.memory.locate(Address(at), part as u32, self.hint);
                self.push(span.filter(|span| span.len > 0).ok_or(Fault::BadData)?)?;
                left = left.saturating_sub(part);
                at = at.checked_add(part).ok_or(Fault::BadData)?;
                continue;
            }
            left = left.saturating_sub(u64::from(whole));
            at = at.checked_add(u64::from(whole)).ok_or(Fault::BadData)?;
        }
        Ok(())
    }

    /// A piece that begins where the last one ends makes it longer.
    #[inline]
    fn push(&mut self, span: Span) -> Result<(), Fault> {
        if let Some(last) = self.spans.last_mut()
            && last.region == span.region
            && last.offset.checked_add(u64::from(last.len)) == Some(span.offset)
            && let Some(len) = last.len.checked_add(span.len)
        {
            last.len = len;
            return Ok(());
        }
        if self.spans.len() >= SPANS_MAX {
            return Err(Fault::BadList);
        }
        self.spans.push(span);
        Ok(())
    }

    /// A scatter-gather list: runs of elements, each run within one page, linked by elements with
    /// the chain flag. It is followed until it covers `len` bytes.
    fn follow(&mut self, first: Address, len: u64) -> Result<(), Fault> {
        let mut segment = first.0;
        let mut left = len;
        let mut looked_at = 0_usize;
        loop {
            let within = (segment & (size::PAGE as u64).saturating_sub(1)) as usize;
            let mut here = size::PAGE.saturating_sub(within) / size::SG_ELEMENT;
            let mut linked = None;
            'segment: while here > 0 {
                let mut bytes = [0; CHUNK * size::SG_ELEMENT];
                let count = here.min(CHUNK);
                let bytes = bytes.get_mut(..count.saturating_mul(size::SG_ELEMENT)).unwrap_or_default();
                self.read(segment, bytes)?;
                for element in bytes.chunks_exact(size::SG_ELEMENT) {
                    looked_at = looked_at.saturating_add(1);
                    if looked_at > ELEMENTS_MAX {
                        return Err(Fault::BadList);
                    }
                    let address = le64(element, 0);
                    if le32(element, 12) & flag::SGE_CHAIN != 0 {
                        linked = Some(address);
                        break 'segment;
                    }
                    let part = u64::from(le32(element, 8)).min(left);
                    self.add(Address(address), part)?;
                    left = left.saturating_sub(part);
                    if left == 0 {
                        return Ok(());
                    }
                }
                here = here.saturating_sub(count);
                segment = segment.saturating_add(bytes.len() as u64);
            }
            segment = linked.ok_or(Fault::BadList)?;
        }
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Fault> {
        // At most 256 bytes.
        let len = into.len() as u32;
        let span = self.memory.locate(Address(at), len, self.hint).ok_or(Fault::BadList)?;
        self.memory.read(span, into).ok_or(Fault::BadList)
    }
}
