//! The switch: one network, an IEEE 802.1Q bridge of virtual ports.
//!
//! A frame's first bytes go in, a [`Verdict`] comes out; the frame itself stays in its sender's
//! memory. In order: is the header whole, which VLAN is meant and does the port carry it, is the
//! source address acceptable, is the destination one that bridges forward; then the source is
//! learned and the destination looked up. A destination that is known goes to one port, any other
//! is flooded within its VLAN under the sender's storm limit.
//!
//! What makes it quick: a port remembers the verdict on its last frame together with that frame's
//! first 14 or 16 bytes. A frame that begins the same gets the same verdict, as long as nothing
//! changed in the switch ([`Switch`] counts changes) and for at most a second, so that the
//! addresses of a burst are refreshed once and looked up once.
//!
//! What keeps it fair: a guest invents as many addresses as it likes, so that the table is bounded
//! for each port as well as for all, hashed with a seed that guests do not know, and never takes an
//! entry from somebody else to make room. What is not learned is flooded, and counted.
//!
//! Every frame ends under a name. `forward` counts entry; whoever carries a copy out says how that
//! went with [`Switch::delivered`] or [`Switch::not_delivered`]. [`Counters`] states the sums.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod port;
mod switch;
mod table;
mod vlan;

pub use port::{AGEING_DEFAULT, Counters, PortConfig, PortId, Reason, Size, Storm, Traffic};
pub use request::Rewrite;
pub use switch::{Config, Flood, Known, Refused, Switch, Verdict};
pub use vlan::{Vid, Vlan, VlanSet};
