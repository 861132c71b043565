//! Buffers of a NIC's driver. The load writes and looks at frames behind a virtio-net header, whose
//! place is left free here: a frame begins [`HEADER_BYTES`] into its buffer for whoever drives it.

use crate::driver::error::Result;
use crate::driver::net::HEADER_BYTES;
use crate::driver::ram::{Area, Ram, RamOptions};

use super::NicOptions;

/// What each of these drivers gives the device for one received frame.
pub const RECEIVE_BYTES: usize = 2048;

/// Memory for the buffers of both directions and so many bytes of rings.
pub fn ram(options: &NicOptions, rings: usize) -> Result<Ram> {
    let each = transmit_bytes(options) + stride(RECEIVE_BYTES);
    Ram::new(RamOptions::new(options.ring_size as usize * each + rings + (64 << 10)))
}

/// Buffers for frames to send, one for each descriptor.
pub fn transmit(ram: &mut Ram, options: &NicOptions) -> Result<Vec<Area>> {
    (0..options.ring_size).map(|_| ram.allocate(transmit_bytes(options), 64)).collect()
}

/// Buffers for received frames, one for each descriptor.
pub fn receive(ram: &mut Ram, options: &NicOptions) -> Result<Vec<Area>> {
    (0..options.ring_size).map(|_| ram.allocate(stride(RECEIVE_BYTES), 64)).collect()
}

/// Where the device finds or puts the frame.
#[inline]
pub fn frame_address(area: &Area) -> u64 {
    area.address() + HEADER_BYTES as u64
}

fn stride(bytes: usize) -> usize {
    (bytes + HEADER_BYTES).next_multiple_of(64)
}

fn transmit_bytes(options: &NicOptions) -> usize {
    stride(options.frame_bytes_max as usize)
}
