//! Fuzz targets as plain functions: libFuzzer calls them from `fuzz_targets/`, and `smoke` calls
//! them with mutated seeds on any compiler.
//!
//! Each takes bytes for what a guest, a front end, a network or a package's maker may send, and asserts what must hold
//! whatever they are: no panic, nothing written outside of what was given to write, lengths that add
//! up, blocks that lie within the volume.

#![forbid(unsafe_code)]

mod appliance;
mod commands;
mod iscsi;
mod net;
mod nic;
mod posted;
mod pvscsi;
mod ring;
mod storage;
mod switching;
mod vfio;
mod vhost;

pub use appliance::{package, vmdk};
pub use commands::{scsi_commands, scsi_state};
pub use iscsi::{iscsi_login, iscsi_pdu};
pub use net::virtio_net;
pub use nic::{e1000, pci_function, pcnet, vmxnet3};
pub use pvscsi::pvscsi;
pub use ring::{packed_ring, split_ring};
pub use storage::{virtio_blk, virtio_scsi};
pub use switching::switching;
pub use vfio::vfio_user;
pub use vhost::vhost_user;

/// Inputs that libFuzzer found worth keeping: each has its length (u16, little-endian) before it.
/// `smoke --pack` makes such a file out of a corpus that `-set_cover_merge=1 -use_counters=0` made small.
fn kept(mut packed: &[u8]) -> Vec<Vec<u8>> {
    let mut inputs = Vec::new();
    while let Some((length, rest)) = packed.split_first_chunk::<2>() {
        let (input, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)).min(rest.len()));
        inputs.push(input.to_vec());
        packed = rest;
    }
    inputs
}

/// A target: its name, its body, and inputs that lead deep into it.
pub struct Target {
    pub name: &'static str,
    pub body: fn(&[u8]),
    pub seeds: fn() -> Vec<Vec<u8>>,
}

pub const TARGETS: &[Target] = &[
    Target { name: "vhost_user", body: vhost_user, seeds: vhost::seeds },
    Target { name: "vfio_user", body: vfio_user, seeds: vfio::inputs },
    Target { name: "split_ring", body: split_ring, seeds: ring::split_seeds },
    Target { name: "packed_ring", body: packed_ring, seeds: ring::packed_seeds },
    Target { name: "virtio_blk", body: virtio_blk, seeds: storage::blk_seeds },
    Target { name: "virtio_scsi", body: virtio_scsi, seeds: storage::scsi_seeds },
    Target { name: "pvscsi", body: pvscsi, seeds: pvscsi::seeds },
    Target { name: "virtio_net", body: virtio_net, seeds: net::seeds },
    Target { name: "e1000", body: e1000, seeds: nic::e1000_seeds },
    Target { name: "pcnet", body: pcnet, seeds: nic::pcnet_seeds },
    Target { name: "vmxnet3", body: vmxnet3, seeds: nic::vmxnet3_seeds },
    Target { name: "pci_function", body: pci_function, seeds: nic::pci_function_seeds },
    Target { name: "scsi_commands", body: scsi_commands, seeds: commands::inputs },
    Target { name: "scsi_state", body: scsi_state, seeds: commands::state_inputs },
    Target { name: "iscsi_pdu", body: iscsi_pdu, seeds: iscsi::pdu_inputs },
    Target { name: "iscsi_login", body: iscsi_login, seeds: iscsi::login_inputs },
    Target { name: "vmdk", body: vmdk, seeds: appliance::disk_seeds },
    Target { name: "package", body: package, seeds: appliance::package_seeds },
    Target { name: "switching", body: switching, seeds: switching::seeds },
];
