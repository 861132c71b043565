//! Drivers of emulated adapters over vfio-user, without a hypervisor between: rings, doorbells and
//! completions as Linux's drivers have them, in the order in which those write and read.
//!
//! ```text
//! client    one connection: memory, registers, interrupts
//! migration the same connection's way to another server
//! slots     what NIC drivers share: buffers with the load's headroom
//! e1000     82540EM, 82545EM (legacy descriptors), 82574L (extended receive descriptors)
//! pcnet     Am79C970A, software style 2
//! vmxnet3   one queue each way, with data rings
//! pvscsi    request and completion rings
//! ```

pub mod client;
mod e1000;
pub mod migration;
mod pcnet;
pub mod pvscsi;
mod slots;
mod vmxnet3;

use std::path::Path;

use self::client::Client;
use super::error::Result;
use super::net::Received;
use super::ram::Area;

/// Which NIC a slot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Model {
    E1000,
    E1000e,
    Vlance,
    Vmxnet3,
}

#[derive(Debug, Clone)]
pub struct NicOptions {
    /// What the driver tells its filter to take.
    pub mac: [u8; 6],
    /// Take everything, whatever address it has.
    pub promiscuous: bool,
    pub ring_size: u16,
    /// The largest frame, without FCS.
    pub frame_bytes_max: u32,
    /// Ring for each frame, as a driver does whose kernel gives it one at a time; otherwise for
    /// each burst.
    pub doorbell_each: bool,
}

/// One NIC's queue pair, driven by polling.
pub trait Driver {
    /// Every transmit slot's memory: room for the load's header, then the frame.
    fn areas(&self) -> &[Area];
    /// A slot that is the caller's until it is sent.
    fn take(&mut self) -> Option<u16>;
    /// Posts a slot's frame. False: there was no room, and the slot is free again.
    fn send(&mut self, slot: u16, bytes: u32) -> Result<bool>;
    /// Rings, if the device wants that.
    fn flush(&mut self) -> Result<()>;
    /// Takes back what was sent; gives how many.
    fn reclaim(&mut self) -> Result<u64>;
    /// Delivers up to `limit` frames, and gives their buffers back to the device.
    fn receive(&mut self, limit: u32, deliver: &mut dyn FnMut(Received<'_>)) -> Result<u32>;
    fn client(&mut self) -> &mut Client;
    /// Messages sent to the server so far.
    fn messages(&self) -> u64;
}

pub fn open(model: Model, socket: &Path, options: &NicOptions) -> Result<Box<dyn Driver>> {
    Ok(match model {
        Model::E1000 => Box::new(e1000::E1000::open(socket, options, e1000::Form::Legacy)?),
        Model::E1000e => Box::new(e1000::E1000::open(socket, options, e1000::Form::Extended)?),
        Model::Vlance => Box::new(pcnet::Pcnet::open(socket, options)?),
        Model::Vmxnet3 => Box::new(vmxnet3::Vmxnet3::open(socket, options)?),
    })
}
