use alloc::string::String;

/// The address of a logical block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

/// A number of logical blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Blocks(pub u64);

/// Blocks that are known to lie within a volume: only [`Facts::extent`] makes one, so that a
/// backend has no range to check and no sum to overflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    first: Lba,
    count: Blocks,
    shift: u8,
}

impl Extent {
    pub fn first(self) -> Lba {
        self.first
    }

    pub fn count(self) -> Blocks {
        self.count
    }

    /// Byte offset of the first block.
    pub fn offset_bytes(self) -> u64 {
        self.first.0 << self.shift
    }

    pub fn len_bytes(self) -> u64 {
        self.count.0 << self.shift
    }

    pub fn is_empty(self) -> bool {
        self.count.0 == 0
    }

    /// Some of these blocks: `count` from the one that is `skip` behind the first. `None`: not all of
    /// them are of this extent.
    pub fn part(self, skip: Blocks, count: Blocks) -> Option<Extent> {
        let end = skip.0.checked_add(count.0)?;
        // The sum is at most the address behind the extent, which is one of the volume.
        (end <= self.count.0).then(|| Extent { first: Lba(self.first.0 + skip.0), count, shift: self.shift })
    }
}

/// What discarding costs and gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discard {
    /// The unit in which space is given back, in logical blocks.
    pub granularity: Blocks,
    /// Discarded blocks read as zeroes.
    pub zeroes: bool,
}

/// Writes that a power cut finds either done or not begun, whatever their length: those whose first
/// block is a multiple of `alignment`, and whose length is one of `granularity` and at most `max`.
///
/// That a write is never seen half done by somebody else is no affair of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomic {
    pub max: Blocks,
    pub alignment: Blocks,
    pub granularity: Blocks,
}

impl Atomic {
    /// Whether the promise is given for a write of these blocks.
    pub fn covers(&self, extent: Extent) -> bool {
        extent.first.0.is_multiple_of(self.alignment.0.max(1))
            && extent.count.0.is_multiple_of(self.granularity.0.max(1))
            && extent.count <= self.max
    }
}

/// Whether blocks have a place in the store (SBC-4 4.7.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provisioning {
    /// They have a place, or nobody can say.
    Mapped,
    /// They have none, and read as zeroes; a write may find the store full.
    Deallocated,
    /// A place is kept for them, and they read as zeroes.
    Anchored,
}

/// Blocks one behind the other that are alike. What follows may be like them too: a store says
/// no more at a time than it finds out quickly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// At least one.
    pub blocks: Blocks,
    pub state: Provisioning,
}

/// How a volume is named to guests; stable over restarts and hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// NAA designator: type 6h (IEEE registered extended) or 3h (locally assigned, 8 bytes used,
    /// the rest zero), SPC-5 7.7.6.6.
    pub naa: [u8; 16],
    /// Unit serial number, printable ASCII, at most 36 characters.
    pub serial: String,
    /// The volume's own name, as its owner calls it.
    pub name: String,
}

/// What is true of a volume. Data, not methods: a new fact breaks every place that builds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Logical block size in bytes: 512, 2048 or 4096.
    pub block_size: u32,
    /// Capacity in logical blocks.
    pub blocks: Blocks,
    /// Physical block size as a power of two of logical blocks (SBC-4 5.20.2).
    pub physical_exponent: u8,
    /// Optimal transfer size in blocks, 0 if unknown.
    pub optimal: Blocks,
    pub read_only: bool,
    pub rotational: bool,
    /// Writes may lie in a volatile cache until a flush or FUA.
    pub write_cache: bool,
    /// `None`: the backend cannot give space back.
    pub discard: Option<Discard>,
    /// `None`: of a write of more than one physical block a power cut may leave a part.
    pub atomic: Option<Atomic>,
    pub identity: Identity,
}

impl Facts {
    /// log2 of the block size.
    pub fn shift(&self) -> u8 {
        // A power of two between 512 and 4096 has at most 12 trailing zeroes.
        self.block_size.trailing_zeros() as u8
    }

    pub fn capacity_bytes(&self) -> u64 {
        self.blocks.0 << self.shift()
    }

    /// The blocks, if all of them lie within the volume. Zero blocks at the very end are within.
    pub fn extent(&self, first: Lba, count: Blocks) -> Option<Extent> {
        let end = first.0.checked_add(count.0)?;
        (end <= self.blocks.0).then_some(Extent { first, count, shift: self.shift() })
    }

    /// The whole volume.
    pub fn whole(&self) -> Extent {
        Extent { first: Lba(0), count: self.blocks, shift: self.shift() }
    }
}

/// Work for a backend. Data travels beside it as spans whose total is the extent's bytes
/// (`Read`, `Write`, `WriteAtomic`), one logical block (`WriteSame`), or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read(Extent),
    /// `fua`: on stable storage before it ends.
    Write {
        extent: Extent,
        fua: bool,
    },
    /// All of it or nothing is there after a power cut, and `Facts::atomic` covers it.
    WriteAtomic {
        extent: Extent,
        fua: bool,
    },
    /// All writes that ended before this began are on stable storage when it ends.
    Flush,
    /// Gives space back; the blocks read as zeroes afterwards if `Discard::zeroes`.
    Discard(Extent),
    /// The blocks read as zeroes afterwards; `unmap`: space may be given back.
    WriteZeroes {
        extent: Extent,
        unmap: bool,
        fua: bool,
    },
    /// One block's data, written to every block of the extent.
    WriteSame {
        extent: Extent,
        fua: bool,
    },
}

/// How a backend's work ended. Each front end maps it to its protocol's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Good,
    /// Data could not be read back (EIO on a read and its kin).
    MediumRead,
    /// Data could not be written.
    MediumWrite,
    /// The store is full; the guest may go on after space is made.
    NoSpace,
    /// The volume may not be written.
    WriteProtected,
    /// The backing store is away (file truncated, device unplugged).
    NotReady,
    /// The backend cannot do this operation.
    Unsupported,
    /// Ended on request before it was done.
    Aborted,
}

impl Status {
    pub const ALL: [Status; 8] = [
        Status::Good,
        Status::MediumRead,
        Status::MediumWrite,
        Status::NoSpace,
        Status::WriteProtected,
        Status::NotReady,
        Status::Unsupported,
        Status::Aborted,
    ];

    /// The operator's counter for this end.
    pub fn name(self) -> &'static str {
        match self {
            Status::Good => "good",
            Status::MediumRead => "medium_read_error",
            Status::MediumWrite => "medium_write_error",
            Status::NoSpace => "no_space",
            Status::WriteProtected => "write_protected",
            Status::NotReady => "not_ready",
            Status::Unsupported => "unsupported",
            Status::Aborted => "aborted",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            block_size: 4096,
            blocks: Blocks(100),
            physical_exponent: 0,
            optimal: Blocks(0),
            read_only: false,
            rotational: false,
            write_cache: true,
            discard: None,
            atomic: None,
            identity: Identity { naa: [0; 16], serial: String::new(), name: String::new() },
        }
    }

    #[test]
    fn an_extent_ends_within_the_volume() {
        let facts = facts();
        assert_eq!(facts.extent(Lba(99), Blocks(1)).unwrap().offset_bytes(), 405_504);
        assert!(facts.extent(Lba(100), Blocks(0)).is_some());
        assert!(facts.extent(Lba(99), Blocks(2)).is_none());
        assert!(facts.extent(Lba(u64::MAX), Blocks(2)).is_none());
    }
    #[test]
    fn a_part_is_within_its_extent() {
        let whole = facts().extent(Lba(90), Blocks(10)).unwrap();
        let part = whole.part(Blocks(9), Blocks(1)).unwrap();
        assert_eq!((part.first(), part.count(), part.offset_bytes()), (Lba(99), Blocks(1), 405_504));
        assert!(whole.part(Blocks(10), Blocks(0)).is_some());
        assert!(whole.part(Blocks(9), Blocks(2)).is_none());
        assert!(whole.part(Blocks(1), Blocks(u64::MAX)).is_none());
    }

    #[test]
    fn an_atomic_write_has_the_alignment_the_granularity_and_the_length() {
        let atomic = Atomic { max: Blocks(8), alignment: Blocks(4), granularity: Blocks(2) };
        let covers = |first, count| atomic.covers(facts().extent(Lba(first), Blocks(count)).unwrap());
        assert!(covers(4, 2) && covers(8, 8) && covers(0, 6));
        assert!(!covers(2, 2) && !covers(4, 3) && !covers(4, 10));
    }
}
