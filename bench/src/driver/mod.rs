//! A vhost-user front end as QEMU plays it, and virtio drivers that are as strict as a real
//! guest's: a descriptor is used again only after the device has given it back, and what the
//! device reports is checked.
//!
//! ```text
//! session   one connection: features, memory, rings, configuration, in-flight region
//! queue     a virtqueue (split or packed) in guest memory, with its two eventfds
//! disk      virtio-blk and virtio-scsi behind one face;  net   virtio-net
//! ram       the guest's memory: one memfd, one or more regions
//! emulated  not vhost-user: a vfio-user client, and drivers of emulated NICs and of PVSCSI
//! nic       virtio-net or an emulated NIC behind one face
//! iscsi     not vhost-user: an initiator, for the target that serves volumes over TCP
//! ```

pub mod blk;
pub mod disk;
pub mod emulated;
pub mod error;
pub mod iscsi;
pub mod message;
pub mod net;
pub mod nic;
mod packed;
pub mod queue;
pub mod ram;
pub mod scsi;
pub mod session;
mod split;
