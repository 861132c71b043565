//! The E1000 family.

use ::e1000::{Config, E1000, HOT_BYTES, Model as Member};
use guest_memory::{Memory, Window};
use pci::Bars;
use request::Mac;

use super::{MAC, Model, NOW, SEND_AT, get32, put, put32, traffic, write_op};

pub struct Family;

const RX: [u64; 2] = [0x1000, 0x2000];
const TX: [u64; 2] = [0x3000, 0x4000];
const BUFFERS: u64 = 0x8000;
const COUNT: u32 = 16;

fn write(nic: &mut E1000, memory: &Memory, offset: u64, value: u32) {
    nic.write(NOW, memory, 0, offset, &value.to_le_bytes());
}

fn read(nic: &mut E1000, offset: u64) -> u32 {
    let mut bytes = [0; 4];
    nic.read(NOW, 0, offset, &mut bytes);
    u32::from_le_bytes(bytes)
}

impl Model for Family {
    type Device = E1000;
    const HOT_BYTES: usize = HOT_BYTES;
    const QUEUES: u16 = 3;
    const REGISTERS: &'static [(u8, u64, usize)] = &[
        (0, 0x0000, 4), // CTRL
        (0, 0x0008, 4),
        (0, 0x0010, 4), // EECD
        (0, 0x0014, 4), // EERD
        (0, 0x0018, 4), // CTRL_EXT
        (0, 0x0020, 4), // MDIC
        (0, 0x0038, 4), // VET
        (0, 0x00c0, 4), // ICR
        (0, 0x00c4, 4), // ITR
        (0, 0x00c8, 4), // ICS
        (0, 0x00d0, 4), // IMS
        (0, 0x00d8, 4), // IMC
        (0, 0x00dc, 4), // EIAC
        (0, 0x00e0, 4), // IAM
        (0, 0x00e4, 4), // IVAR
        (0, 0x00e8, 4), // EITR
        (0, 0x0100, 4), // RCTL
        (0, 0x0400, 4), // TCTL
        (0, 0x1000, 4), // PBA
        (0, 0x102c, 4), // EEWR
        (0, 0x2170, 4), // PSRCTL
        (0, 0x2800, 4), // RDBAL
        (0, 0x2804, 4),
        (0, 0x2808, 4), // RDLEN
        (0, 0x2810, 4), // RDH
        (0, 0x2818, 4), // RDT
        (0, 0x2820, 4), // RDTR
        (0, 0x282c, 4), // RADV
        (0, 0x2900, 4),
        (0, 0x2908, 4),
        (0, 0x2910, 4),
        (0, 0x2918, 4),
        (0, 0x3800, 4), // TDBAL
        (0, 0x3804, 4),
        (0, 0x3808, 4), // TDLEN
        (0, 0x3810, 4), // TDH
        (0, 0x3818, 4), // TDT
        (0, 0x3820, 4), // TIDV
        (0, 0x382c, 4), // TADV
        (0, 0x3900, 4),
        (0, 0x3908, 4),
        (0, 0x3910, 4),
        (0, 0x3918, 4),
        (0, 0x40cc, 4), // TOTH
        (0, 0x5000, 4), // RXCSUM
        (0, 0x5008, 4), // RFCTL
        (0, 0x5200, 4), // MTA
        (0, 0x5400, 4), // RA
        (0, 0x5404, 4),
        (0, 0x5600, 4), // VFTA
        (0, 0x5810, 4), // WUS
        (0, 0x5818, 4), // MRQC
        (0, 0x5b50, 4), // SWSM
        (0, 0x5c00, 4), // RETA
        (2, 0, 4),      // IOADDR
        (2, 4, 4),      // IODATA
    ];
    const PLACES: &'static [u64] = &[RX[0], RX[1], TX[0], TX[1], SEND_AT];
    const LOOPED: &'static str = "looped_back";

    fn new(kind: u8, hot: Window) -> E1000 {
        E1000::new(Config { model: Member::ALL[usize::from(kind % 3)], mac: Mac(MAC) }, hot)
    }

    /// As Linux's e1000; bit 0: split descriptors where there are such, bit 1: tags are stripped and
    /// filtered, bit 2: short buffers, bit 3: 82574's second queue and receive-side scaling.
    fn open(nic: &mut E1000, memory: &Memory, shape: u8) {
        let vlan = shape & 2 != 0;
        write(nic, memory, 0x0000, 1 << 6 | u32::from(vlan) << 30);
        write(nic, memory, 0x5008, u32::from(shape & 1) << 15);
        write(nic, memory, 0x2170, 0x0804_0401);
        for queue in 0..2 {
            let apart = 0x100 * queue as u64;
            write(nic, memory, 0x3800 + apart, TX[queue] as u32);
            write(nic, memory, 0x3804 + apart, 0);
            write(nic, memory, 0x3808 + apart, COUNT * 16);
            write(nic, memory, 0x3810 + apart, 0);
            write(nic, memory, 0x3818 + apart, 0);
            write(nic, memory, 0x2800 + apart, RX[queue] as u32);
            write(nic, memory, 0x2804 + apart, 0);
            write(nic, memory, 0x2808 + apart, COUNT * 16);
            write(nic, memory, 0x2810 + apart, 0);
            for index in 0..u64::from(COUNT) {
                let buffer = BUFFERS + queue as u64 * 0x8000 + index * 2048;
                let at = RX[queue] + index * 16;
                let second = if shape & 1 != 0 { buffer + 1024 } else { 0 };
                put(memory, at, &[buffer.to_le_bytes(), second.to_le_bytes()].concat());
            }
        }
        write(nic, memory, 0x0400, 0x0003_f0fa);
        write(nic, memory, 0x5000, 0x300);
        if shape & 8 != 0 {
            write(nic, memory, 0x5818, 0x0033_0001);
            for at in 0..32 {
                write(nic, memory, 0x5c00 + 4 * at, 0x8000_8000);
            }
        }
        // EN, UPE, MPE, BAM, SECRC; BSIZE 256 if they are short; VFE.
        let short = if shape & 4 != 0 { 3 << 16 } else { 0 };
        let split = if shape & 1 != 0 { 1 << 10 } else { 0 };
        write(nic, memory, 0x0100, 0x0400_801a | short | split | u32::from(vlan) << 18);
        write(nic, memory, 0x2818, COUNT - 2);
        write(nic, memory, 0x2918, COUNT - 2);
        write(nic, memory, 0x00d0, 0x01f0_009d);
    }

    fn send(nic: &mut E1000, memory: &Memory, len: u32) {
        let tail = read(nic, 0x3818) % COUNT;
        let at = TX[0] + 16 * u64::from(tail);
        put(memory, at, &SEND_AT.to_le_bytes());
        // EOP, IFCS, RS.
        put32(memory, at + 8, len | 0x0b << 24);
        put32(memory, at + 12, get32(memory, at + 12) & 0xffff_0000);
        write(nic, memory, 0x3818, (tail + 1) % COUNT);
    }
}

pub fn e1000(data: &[u8]) {
    super::run::<Family>(data);
}

pub fn seeds() -> Vec<Vec<u8>> {
    let write = |offset, value| write_op::<Family>(0, offset, value);
    let mut all = traffic(3, 16);
    for kind in 0..3 {
        // A context and a segmented frame of two pieces.
        let mut tso = vec![kind, 7, 2];
        let context = [14, 24, 33, 0, 34, 50, 0, 0, 0x00, 0x04, 0, 0x27, 0, 54, 100, 0];
        let data = |len: u16, command: u8| {
            let mut bytes = SEND_AT.to_le_bytes().to_vec();
            bytes.extend(len.to_le_bytes());
            bytes.extend([0x10, command, 0, 3, 5, 0]);
            bytes
        };
        tso.extend([6, 2, 0]);
        tso.extend(context);
        tso.extend([6, 2, 2]);
        tso.extend(data(54, 0x26));
        tso.extend([6, 2, 4]);
        tso.extend(data(1024, 0x6f));
        tso.extend(write(0x3818, 3));
        tso.extend([8, 0, 0, 10, 13, 10]);
        all.push(tso);
        // Looped back; the EEPROM, the PHY, moderation, a soft reset.
        let looped =
            [vec![kind, 7, 0], write(0x0100, 0x0400_80da), vec![15, 0, 100, 0, 8, 0, 0, 10]].concat();
        all.push(looped);
        let mut registers = vec![kind, 7, 0, 15, 1, 3];
        for (offset, value) in [
            (0x0014, 1),
            (0x0020, 0x0821_0000),
            (0x0020, 0x0420_9140),
            (0x00c4, 200),
            (0x00e4, 0x800f_ba98),
            (0x2820, 8),
            (0x282c, 16),
            (0x00c8, 0x81),
            (0x0000, 1 << 26),
            (0x0010, 0x43),
        ] {
            registers.extend(write(offset, value));
        }
        registers.extend([11, 1, 3, 7, 10, 11, 3]);
        all.push(registers);
    }
    [all, crate::kept(include_bytes!("../../kept/e1000"))].concat()
}
