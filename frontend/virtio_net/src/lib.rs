//! virtio-net (virtio 1.2, 5.1): the NIC that a guest sees.
//!
//! ```text
//!   transmitq ── Nic::next_frame ──> Outgoing: headers copied out, payload left in place
//!                                        │  (a lane asks the switch, or the uplink sends it)
//!   receiveq  <── Nic::deliver ──── Frame: headers, payload in the sender's memory, facts
//! ```
//!
//! A frame's first bytes are copied out once when it is taken ([`Outgoing::header`]). The switch
//! judges that copy, and that copy is what the receiver gets: a guest that changes its memory
//! meanwhile changes nobody's mind. The payload behind them goes from ring to ring in one copy.
//!
//! A receiver takes only what its driver negotiated. [`Nic::deliver`] refuses a frame whose
//! checksum or segmentation is beyond that with [`Refused::Offload`], and whoever called asks
//! `service/offload` for frames that fit. The front end does not: it cannot name a service, and
//! a lane may know better (an uplink's hardware may do it).
//!
//! Requests end in the order in which they came and are copied before anything else happens, so
//! that nothing is in flight while the worker is elsewhere: a successor goes on at the rings' own
//! used index. What a driver set over the control queue is [`v1::State`], plain data to be kept in
//! the ledger.
//!
//! QEMU and Cloud Hypervisor keep the control queue to themselves and show a vhost-user back end
//! pairs of rings only: there the filters stay open, ring pairs go by SET_VRING_ENABLE
//! ([`Nic::set_pairs`]), and announcements come as VHOST_USER_SEND_RARP ([`frame::rarp`]). They offer the
//! guest CTRL_* features only if the back end has them, so these are offered always. Not so
//! CTRL_GUEST_OFFLOADS: QEMU would carry it out without telling us.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod config;
mod control;
mod features;
mod filter;
mod header;
mod nic;
mod receive;
mod steer;
mod transmit;
pub mod v1;

pub use config::{CONFIG_BYTES, Config, Link};
pub use control::Effect;
pub use features::{OFFERED, bit};
pub use frame::{Body, Drop, FRAME_MAX, Frame, HEADER_MAX, Refused};
pub use nic::{Counters, Nic};
pub use steer::steer;
pub use transmit::Outgoing;
