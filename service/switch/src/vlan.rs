use alloc::boxed::Box;
use core::fmt;
use request::Rewrite;

/// A VLAN identifier that may be carried on a port: 1 to 4094 (IEEE 802.1Q table 9-2 reserves
/// 0 for priority tags and FFFh).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vid(u16);

impl Vid {
    pub const FIRST: Vid = Vid(1);
    pub const LAST: Vid = Vid(4094);

    pub const fn new(number: u16) -> Option<Vid> {
        if number >= 1 && number <= 4094 { Some(Vid(number)) } else { None }
    }

    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A set of VLANs.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; 64]>);

impl VlanSet {
    pub fn empty() -> Self {
        Self(Box::new([0; 64]))
    }

    pub fn all() -> Self {
        (1..=4094).filter_map(Vid::new).collect()
    }

    pub fn insert(&mut self, vid: Vid) {
        self.0[usize::from(vid.0 >> 6)] |= 1 << (vid.0 & 63);
    }

    pub fn remove(&mut self, vid: Vid) {
        self.0[usize::from(vid.0 >> 6)] &= !(1 << (vid.0 & 63));
    }

    pub fn contains(&self, vid: Vid) -> bool {
        self.0[usize::from(vid.0 >> 6)] >> (vid.0 & 63) & 1 != 0
    }

    pub fn iter(&self) -> impl Iterator<Item = Vid> {
        (1..=4094).filter_map(Vid::new).filter(|vid| self.contains(*vid))
    }
}

impl FromIterator<Vid> for VlanSet {
    fn from_iter<I: IntoIterator<Item = Vid>>(vids: I) -> Self {
        let mut set = Self::empty();
        vids.into_iter().for_each(|vid| set.insert(vid));
        set
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Vid::number)).finish()
    }
}

/// Which VLANs a port carries, and how its frames say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vlan {
    /// One VLAN; frames are untagged in both directions. A priority tag (VID 0) is accepted,
    /// another tag is not.
    Access(Vid),
    /// The VLANs in `allowed` travel tagged. `native`, if there is one, travels untagged; a frame
    /// tagged with it is accepted too.
    Trunk { allowed: VlanSet, native: Option<Vid> },
}

impl Vlan {
    /// Does the port belong to this VLAN?
    pub fn carries(&self, vid: Vid) -> bool {
        match self {
            Vlan::Access(own) => *own == vid,
            Vlan::Trunk { allowed, native } => *native == Some(vid) || allowed.contains(vid),
        }
    }

    /// The VLAN of untagged frames.
    pub fn untagged(&self) -> Option<Vid> {
        match self {
            Vlan::Access(own) => Some(*own),
            Vlan::Trunk { native, .. } => *native,
        }
    }
}

/// How a frame came, as far as its tag goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Untagged,
    /// A priority tag: VID 0, the rest of the TCI.
    Priority(u16),
    Tagged,
}

impl Form {
    /// The change that turns this form into the one in which `egress` carries `vid`.
    #[inline]
    pub(crate) fn rewrite(self, egress: &Vlan, vid: Vid) -> Rewrite {
        let untagged = egress.untagged() == Some(vid);
        match (self, untagged) {
            (Form::Untagged, true) | (Form::Tagged, false) => Rewrite::Keep,
            (Form::Tagged | Form::Priority(_), true) => Rewrite::Strip,
            (Form::Untagged, false) => Rewrite::Insert(vid.number()),
            (Form::Priority(tci), false) => Rewrite::Replace(tci | vid.number()),
        }
    }
}
