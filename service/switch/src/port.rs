use crate::vlan::Vlan;
use core::time::Duration;
use request::{Instant, Mac, Rewrite};

/// A port of one switch. Numbers are not used again soon: a stale one names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

impl PortId {
    pub(crate) fn new(index: u16, generation: u16) -> PortId {
        PortId(u32::from(generation) << 16 | u32::from(index))
    }

    /// A small number, unique among the ports that exist at one time.
    pub fn index(self) -> usize {
        (self.0 & 0xffff) as usize
    }
}

/// Limit of flooded frames (broadcast, multicast, unknown unicast) that a port may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storm {
    pub frames_per_second: u32,
    /// Frames that may come at once.
    pub burst: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    pub vlan: Vlan,
    /// The port's own address, if it is known: an entry that never ages and that no other port
    /// can claim. It stands in the VLAN of the port's untagged frames.
    pub mac: Option<Mac>,
    /// Only `mac` may be a source address here.
    pub spoof_check: bool,
    /// Largest payload behind the Ethernet header (and tag) that may leave through this port.
    pub mtu: u32,
    pub storm: Option<Storm>,
    /// Addresses that may be learned from this port, so that it cannot take the table from others.
    pub entries_max: u32,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a frame, or one egress copy of it, ended without being delivered. Each is a counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The operator's counter.
            pub fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    // On entry.
    /// The sending port is gone.
    UnknownPort = "unknown_port",
    /// Shorter than an Ethernet header, or than its tag.
    Runt = "runt",
    /// Untagged on a trunk without a native VLAN.
    Untagged = "untagged",
    /// Tagged on an access port.
    Tagged = "tagged",
    /// A VLAN that the port does not carry.
    VlanNotAllowed = "vlan_not_allowed",
    /// VID FFFh.
    VlanReserved = "vlan_reserved",
    /// 01-80-C2-00-00-00 to -0F: never forwarded by a bridge (IEEE 802.1Q table 8-1).
    ReservedAddress = "reserved_address",
    /// A group address or zero as source.
    InvalidSource = "invalid_source",
    /// A source address that is not the port's own.
    Spoofed = "spoofed",
    /// The destination is where the frame came from.
    Hairpin = "hairpin",
    /// Flooded too often.
    Storm = "storm",
    /// No other port carries the VLAN.
    NoTarget = "no_target",
    // On exit.
    /// Longer than the egress port's MTU.
    Oversize = "oversize",
    /// The receiver had no buffers.
    NoBuffer = "no_buffer",
    /// The receiver has no running driver.
    Disabled = "disabled",
    /// The receiver's own filter (MAC table, VLAN filter) did not want it.
    Filtered = "filtered",
    /// The sender's claims about checksums or segments do not fit the frame.
    Malformed = "malformed",
    /// Guest memory was gone or too short when the frame was copied.
    BadMemory = "bad_memory",
    /// The lane that serves the receiver had no room.
    Backlog = "backlog",
    /// A policy (shaping, policing) refused it.
    Policed = "policed",
    /// The uplink refused it.
    Uplink = "uplink",
}

impl Reason {
    pub const COUNT: usize = Reason::ALL.len();
}

/// Sizes of one frame as it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the frame as posted, Ethernet header included, FCS not.
    pub bytes: u32,
    /// Frames on the wire that it stands for; 1 without segmentation.
    pub segments: u32,
    /// Bytes of the largest of them; `bytes` without segmentation.
    pub largest: u32,
}

impl Size {
    /// A frame that is one frame on the wire as well.
    pub fn whole(bytes: u32) -> Size {
        Size { bytes, segments: 1, largest: bytes }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames as posted: a segmented one counts once.
    pub frames: u64,
    /// Frames as they would be on a wire.
    pub segments: u64,
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, size: Size) {
        self.frames += 1;
        self.segments += u64::from(size.segments);
        self.bytes += u64::from(size.bytes);
    }
}

/// What happened at a port. For a network as a whole:
/// `received.frames = unicast + flooded + drops on entry`, and over all ports
/// `unicast + copies = sent.frames + drops on exit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// From the port into the network.
    pub received: Traffic,
    /// From the network out of the port.
    pub sent: Traffic,
    /// Received frames that went to one port.
    pub unicast: u64,
    /// Received frames that were flooded.
    pub flooded: u64,
    /// Egress copies that those made.
    pub copies: u64,
    /// Addresses seen and not learned, because a table was full.
    pub not_learned: u64,
    /// Addresses that moved here from another port.
    pub moved_in: u64,
    /// Frames that came with an address that is another port's own.
    pub claims_refused: u64,
    /// Frames received here that ended on entry, by `Reason`.
    pub entry: [u64; Reason::COUNT],
    /// Copies meant for this port that ended on exit, by `Reason`.
    pub exit: [u64; Reason::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            received: Traffic::default(),
            sent: Traffic::default(),
            unicast: 0,
            flooded: 0,
            copies: 0,
            not_learned: 0,
            moved_in: 0,
            claims_refused: 0,
            entry: [0; Reason::COUNT],
            exit: [0; Reason::COUNT],
        }
    }
}

/// A token bucket, kept as the time at which it will be full again (the generic cell rate
/// algorithm): one number, nothing to refill.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    full_at_nanos: u64,
}

impl Bucket {
    pub fn admit(&mut self, now: Instant, storm: Storm, cost: u32) -> bool {
        let Some(each) = 1_000_000_000u64.checked_div(u64::from(storm.frames_per_second)) else {
            return false;
        };
        // Below a burst of one nothing would ever pass.
        let depth = each * (u64::from(storm.burst.max(1)) - 1);
        let full_at = self.full_at_nanos.max(now.nanos());
        if full_at - now.nanos() > depth {
            return false;
        }
        // A frame of many segments may overdraw; what follows waits until that is paid.
        self.full_at_nanos = full_at.saturating_add(each * u64::from(cost.max(1)));
        true
    }
}

/// The verdict on the last frame, good for the next one with the same first bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Recent {
    pub first: [u64; 2],
    pub until_nanos: u64,
    /// `Switch::changes` when it was made.
    pub changes: u64,
    pub largest: u32,
    pub to: Option<PortId>,
    pub rewrite: Rewrite,
}

pub(crate) struct Port {
    pub generation: u16,
    pub present: bool,
    pub recent: Recent,
    pub bucket: Bucket,
    /// Learned entries that name this port.
    pub entries: u32,
    /// `mac` as the table's 48 bits.
    pub own: Option<u64>,
    pub config: PortConfig,
    pub counters: Counters,
}

impl Port {
    pub fn own_bits(config: &PortConfig) -> Option<u64> {
        config.mac.map(|Mac(b)| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], 0, 0]))
    }

    /// The longest frame (as posted on the wire, before the rewrite) that may leave here.
    pub fn fits(&self, largest: u32, tagged: bool) -> bool {
        let header = if tagged { 18 } else { 14 };
        largest <= self.config.mtu.saturating_add(header)
    }
}

/// IEEE 802.1D 7.9.2 recommends 300 s.
pub const AGEING_DEFAULT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_a_burst_and_then_the_rate() {
        let storm = Storm { frames_per_second: 100, burst: 5 };
        let mut bucket = Bucket::default();
        let mut passed = 0;
        // Ten seconds, a frame each millisecond.
        for ms in 0..10_000u64 {
            passed += u32::from(bucket.admit(Instant::from_nanos(ms * 1_000_000), storm, 1));
        }
        assert_eq!(passed, 1004);
        let mut bucket = Bucket::default();
        let at = Instant::from_nanos(1 << 60);
        assert_eq!((0..100).filter(|_| bucket.admit(at, storm, 1)).count(), 5);
        assert!(!Bucket::default().admit(at, Storm { frames_per_second: 0, burst: 9 }, 1));
    }

    #[test]
    fn a_long_frame_is_paid_for_afterwards() {
        let storm = Storm { frames_per_second: 100, burst: 2 };
        let mut bucket = Bucket::default();
        assert!(bucket.admit(Instant::from_nanos(0), storm, 40));
        assert!(!bucket.admit(Instant::from_nanos(380_000_000), storm, 1));
        assert!(bucket.admit(Instant::from_nanos(390_000_000), storm, 1));
    }
}
