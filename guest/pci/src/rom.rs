//! Option ROMs: PCI Local Bus 3.0, 6.3.

use alloc::vec::Vec;

use crate::Layout;

/// Images are counted in units of 512 bytes.
const UNIT: usize = 512;

/// One image of a ROM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    pub offset: usize,
    pub bytes: usize,
    pub vendor: u16,
    pub device: u16,
    /// 0: for a PC's BIOS; 3: for EFI.
    pub code: u8,
}

/// Why bytes are not an option ROM that a function can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RomError {
    /// No 55h AAh where an image is to begin.
    Signature { offset: usize },
    /// No "PCIR" where the image says.
    DataStructure { offset: usize },
    /// An image that says that it is empty, or goes on beyond the end of the file.
    Length { offset: usize },
    /// For another function: firmware would not start it.
    Function { vendor: u16, device: u16 },
}

fn word(rom: &[u8], at: usize) -> Option<u16> {
    let bytes = rom.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes([bytes[0], bytes[1]]))
}

fn image(rom: &[u8], offset: usize) -> Result<(Image, bool), RomError> {
    if rom.get(offset..offset + 2) != Some(&[0x55, 0xaa]) {
        return Err(RomError::Signature { offset });
    }
    let missing = RomError::DataStructure { offset };
    let at = offset + usize::from(word(rom, offset + 0x18).ok_or(missing)?);
    let data = rom.get(at..at + 0x18).filter(|data| data.starts_with(b"PCIR")).ok_or(missing)?;
    let field = |at: usize| u16::from_le_bytes([data[at], data[at + 1]]);
    let bytes = usize::from(field(0x10)) * UNIT;
    if bytes == 0 || bytes > rom.len() - offset {
        return Err(RomError::Length { offset });
    }
    let image = Image { offset, bytes, vendor: field(4), device: field(6), code: data[0x14] };
    Ok((image, data[0x15] & 0x80 != 0))
}

/// The images of a ROM, up to the one that says that it is the last.
pub fn rom_images(rom: &[u8]) -> Result<Vec<Image>, RomError> {
    let mut images = Vec::new();
    let mut offset = 0;
    loop {
        let (image, last) = image(rom, offset)?;
        images.push(image);
        if last {
            return Ok(images);
        }
        offset += image.bytes;
    }
}

/// Whether firmware would start every image of a ROM for this function.
pub fn check_rom(rom: &[u8], layout: &Layout) -> Result<(), RomError> {
    let images = rom_images(rom)?;
    match images.iter().find(|image| (image.vendor, image.device) != (layout.vendor, layout.device)) {
        Some(other) => Err(RomError::Function { vendor: other.vendor, device: other.device }),
        None => Ok(()),
    }
}

/// A read of the ROM's BAR, which is longer than the ROM: beyond it nothing drives the bus.
pub fn read_rom(rom: &[u8], offset: u64, into: &mut [u8]) {
    into.fill(0xff);
    let from = usize::try_from(offset).ok().and_then(|offset| rom.get(offset..)).unwrap_or(&[]);
    let len = from.len().min(into.len());
    into[..len].copy_from_slice(&from[..len]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An image of 512 bytes, typed from 6.3.1.1 and 6.3.1.2.
    fn image(vendor: u16, device: u16, code: u8, last: bool) -> Vec<u8> {
        let mut bytes = alloc::vec![0; 512];
        bytes[..2].copy_from_slice(&[0x55, 0xaa]);
        bytes[0x18] = 0x1c;
        bytes[0x1c..0x20].copy_from_slice(b"PCIR");
        bytes[0x20..0x22].copy_from_slice(&vendor.to_le_bytes());
        bytes[0x22..0x24].copy_from_slice(&device.to_le_bytes());
        bytes[0x26] = 0x18;
        bytes[0x2c] = 1;
        bytes[0x30] = code;
        bytes[0x31] = if last { 0x80 } else { 0 };
        bytes
    }

    const LAYOUT: Layout = Layout {
        vendor: 0x8086,
        device: 0x100e,
        revision: 0,
        class: [2, 0, 0],
        subsystem_vendor: 0,
        subsystem: 0,
        interrupt_pin: 1,
        min_grant: 0,
        max_latency: 0,
        bars: [crate::Bar::None; 6],
        caps: &[],
    };

    #[test]
    fn images_follow_each_other() {
        let rom = [image(0x8086, 0x100e, 0, false), image(0x8086, 0x100e, 3, true)].concat();
        let images = rom_images(&rom).unwrap();
        assert_eq!((images.len(), images[1].offset, images[1].code), (2, 512, 3));
        assert_eq!(check_rom(&rom, &LAYOUT), Ok(()));
        let other = [image(0x8086, 0x100e, 0, false), image(0x8086, 0x10d3, 3, true)].concat();
        let fault = RomError::Function { vendor: 0x8086, device: 0x10d3 };
        assert_eq!(check_rom(&other, &LAYOUT), Err(fault));
    }

    #[test]
    fn what_is_no_rom() {
        let rom = image(0x8086, 0x100e, 0, false);
        assert_eq!(rom_images(&rom), Err(RomError::Signature { offset: 512 }));
        assert_eq!(rom_images(&rom[..511]), Err(RomError::Length { offset: 0 }));
        assert_eq!(rom_images(&rom[..0x30]), Err(RomError::DataStructure { offset: 0 }));
        assert_eq!(rom_images(b"MZ"), Err(RomError::Signature { offset: 0 }));
    }

    #[test]
    fn the_space_behind_a_rom_reads_as_ones() {
        let mut into = [0; 4];
        read_rom(&[1, 2, 3], 1, &mut into);
        assert_eq!(into, [2, 3, 0xff, 0xff]);
        read_rom(&[1, 2, 3], u64::MAX, &mut into);
        assert_eq!(into, [0xff; 4]);
    }

    proptest! {
        #[test]
        fn any_bytes_may_come(mut rom in prop::collection::vec(any::<u8>(), 0..1200), real in any::<bool>()) {
            if real && rom.len() > 0x40 {
                let head = image(1, 2, 0, false);
                rom[..0x30].copy_from_slice(&head[..0x30]);
            }
            let _ = rom_images(&rom);
        }
    }
}
