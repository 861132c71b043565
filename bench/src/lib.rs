//! The other side of the server: a vhost-user front end with virtio drivers and an iSCSI initiator
//! (`driver`), and the loads that the benchmarks put on the server and its peers (`load`).

#![forbid(unsafe_code)]

pub mod driver;
pub mod load;
