//! Control state as plain data.

use alloc::vec::Vec;

use crate::registers::{bcr, csr};
use crate::vmxnet::Vmxnet;
use crate::{Chip, Pcnet};

/// The form of the bytes.
const VERSION: u8 = 1;

/// Bits of the last byte.
const LINK: u8 = 1;
const LINK_LOST: u8 = 1 << 1;

pub fn encode(nic: &Pcnet) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(768);
    bytes.push(VERSION);
    let words = [nic.rap, nic.phy.control, nic.phy.advertisement];
    let all = words.iter().chain(nic.csr.iter()).chain(nic.bcr.iter()).chain(&nic.eeprom.words);
    bytes.extend(all.flat_map(|word| word.to_le_bytes()));
    bytes.extend_from_slice(&nic.aprom);
    bytes.extend_from_slice(&nic.eeprom.encode());
    let mut flags = 0;
    if nic.link {
        flags |= LINK;
    }
    if nic.phy.lost {
        flags |= LINK_LOST;
    }
    bytes.push(flags);
    let vmxnet = &nic.vmxnet;
    bytes.push(u8::from(vmxnet.morphed));
    for word in [u32::from(vmxnet.upper), vmxnet.address, vmxnet.length, vmxnet.answer] {
        bytes.extend(word.to_le_bytes());
    }
    bytes
}

/// `None`: these are not the bytes of this version's state. An address that was configured anew
/// meanwhile is the adapter's from the next power on.
pub fn decode(nic: &mut Pcnet, bytes: &[u8]) -> Option<()> {
    let (version, rest) = bytes.split_first()?;
    let words = 3 + csr::COUNT + bcr::COUNT + nic.eeprom.words.len();
    let (body, rest) = rest.split_at_checked(words * 2)?;
    let (aprom, rest) = rest.split_first_chunk::<16>()?;
    let (eeprom, rest) = rest.split_first_chunk::<6>()?;
    let ([flags, morphed], rest) = rest.split_first_chunk::<2>()?;
    let vmxnet = <[u8; 16]>::try_from(rest).ok()?;
    if *version != VERSION {
        return None;
    }
    nic.hardware_reset();
    let mut all = body.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    nic.rap = all.next()? & 0x7f;
    nic.phy.control = all.next()?;
    nic.phy.advertisement = all.next()?;
    let targets = nic.csr.iter_mut().chain(nic.bcr.iter_mut()).chain(nic.eeprom.words.iter_mut());
    for (target, word) in targets.zip(all) {
        *target = word;
    }
    nic.aprom = *aprom;
    nic.eeprom.decode(*eeprom);
    let [upper, address, length, answer] = [0, 4, 8, 12]
        .map(|at| u32::from_le_bytes([vmxnet[at], vmxnet[at + 1], vmxnet[at + 2], vmxnet[at + 3]]));
    let morphed = *morphed != 0 && nic.config.chip == Chip::Flexible;
    nic.vmxnet = Vmxnet { morphed, upper: upper as u16, address, length, answer };
    nic.link = flags & LINK != 0;
    nic.phy.set_link(nic.link, 0);
    nic.phy.lost = flags & LINK_LOST != 0;
    Some(())
}
