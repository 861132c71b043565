//! A NIC of either kind behind one face, for loads that go from any of them to any other.

use super::emulated::Driver;
use super::error::Result;
use super::net::{Net, Received};
use super::ram::Area;

pub enum Nic<'a> {
    Virtio(&'a mut Net),
    Emulated(&'a mut dyn Driver),
}

impl Nic<'_> {
    /// Queue pairs.
    #[inline]
    pub fn pairs(&self) -> usize {
        match self {
            Nic::Virtio(net) => net.pairs.len(),
            Nic::Emulated(_) => 1,
        }
    }

    /// The memory of every transmit slot of a pair.
    #[inline]
    pub fn areas(&self, pair: usize) -> &[Area] {
        match self {
            Nic::Virtio(net) => net.pairs[pair].transmit.areas(),
            Nic::Emulated(nic) => nic.areas(),
        }
    }

    /// A slot that is the caller's until it is sent.
    #[inline]
    pub fn take(&mut self, pair: usize) -> Option<u16> {
        match self {
            Nic::Virtio(net) => net.pairs[pair].transmit.take(),
            Nic::Emulated(nic) => nic.take(),
        }
    }

    /// Posts a slot's frame. False: there was no room, and the slot is free again.
    #[inline]
    pub fn send(&mut self, pair: usize, slot: u16, bytes: u32) -> Result<bool> {
        match self {
            Nic::Virtio(net) => Ok(net.pairs[pair].transmit.send(slot, bytes)),
            Nic::Emulated(nic) => nic.send(slot, bytes),
        }
    }

    /// Shows the device what was posted, and notifies it if it wants that.
    #[inline]
    pub fn flush(&mut self, pair: usize) -> Result<()> {
        match self {
            Nic::Virtio(net) => {
                net.pairs[pair].transmit.ring.publish();
                Ok(())
            }
            Nic::Emulated(nic) => nic.flush(),
        }
    }

    /// Takes back what was sent; gives how many.
    #[inline]
    pub fn reclaim(&mut self, pair: usize) -> Result<u64> {
        match self {
            Nic::Virtio(net) => net.pairs[pair].transmit.reclaim(),
            Nic::Emulated(nic) => nic.reclaim(),
        }
    }

    /// Delivers up to `limit` frames, and gives their buffers back.
    #[inline]
    pub fn receive(&mut self, pair: usize, limit: u32, mut deliver: impl FnMut(Received<'_>)) -> Result<u32> {
        match self {
            Nic::Virtio(net) => net.pairs[pair].receive.receive(limit, deliver),
            Nic::Emulated(nic) => nic.receive(limit, &mut deliver),
        }
    }

    /// Messages sent over the adapter's socket; virtio's doorbells are none.
    pub fn messages(&self) -> u64 {
        match self {
            Nic::Virtio(_) => 0,
            Nic::Emulated(nic) => nic.messages(),
        }
    }
}
