//! Register maps typed from the documents and from what real drivers hold, apart from the crate's own
//! table.
//!
//! - Offsets: Intel's own headers for these adapters (`e1000_regs.h` of the drivers that Intel wrote for
//!   FreeBSD and DPDK, `e1000_hw.h` and `e1000e/regs.h` of Linux), which name them as 8254x SDM 13.4
//!   and 82574 datasheet 10.2 do.
//! - Values after power on: for the 82574 those of QEMU's `e1000e_core.c` (`e1000e_mac_reg_init`,
//!   `e1000e_phy_reg_init`), which has them from the datasheet; for 8254x those of the SDM (13.4).
//! - Identifiers of PHYs, and words of the EEPROM: `e1000_defines.h` of Intel's drivers.

mod driver;

use driver::*;
use pci::{Bar, Bars, Cap};
use standpipe_e1000::{Model, register_name};

/// In all of them.
const EVERYWHERE: &[(u64, &str)] = &[
    (0x0000, "CTRL"),
    (0x0008, "STATUS"),
    (0x0010, "EECD"),
    (0x0014, "EERD"),
    (0x0018, "CTRL_EXT"),
    (0x001c, "FLA"),
    (0x0020, "MDIC"),
    (0x0028, "FCAL"),
    (0x002c, "FCAH"),
    (0x0030, "FCT"),
    (0x0038, "VET"),
    (0x00c0, "ICR"),
    (0x00c4, "ITR"),
    (0x00c8, "ICS"),
    (0x00d0, "IMS"),
    (0x00d8, "IMC"),
    (0x00e0, "IAM"),
    (0x0100, "RCTL"),
    (0x0170, "FCTTV"),
    (0x0178, "TXCW"),
    (0x0180, "RXCW"),
    (0x0400, "TCTL"),
    (0x0410, "TIPG"),
    (0x0448, "TBT"),
    (0x0458, "AIT"),
    (0x0e00, "LEDCTL"),
    (0x1000, "PBA"),
    (0x1008, "PBS"),
    (0x1010, "EEMNGCTL"),
    (0x2160, "FCRTL"),
    (0x2168, "FCRTH"),
    (0x2410, "RDFH"),
    (0x2418, "RDFT"),
    (0x2420, "RDFHS"),
    (0x2428, "RDFTS"),
    (0x2430, "RDFPC"),
    (0x2820, "RDTR"),
    (0x282c, "RADV"),
    (0x2c00, "RSRPD"),
    (0x3410, "TDFH"),
    (0x3418, "TDFT"),
    (0x3420, "TDFHS"),
    (0x3428, "TDFTS"),
    (0x3430, "TDFPC"),
    (0x3820, "TIDV"),
    (0x382c, "TADV"),
    (0x3830, "TSPMT"),
    (0x5000, "RXCSUM"),
    (0x5008, "RFCTL"),
    (0x5200, "MTA"),
    (0x5400, "RA"),
    (0x5600, "VFTA"),
    (0x5800, "WUC"),
    (0x5808, "WUFC"),
    (0x5810, "WUS"),
    (0x5820, "MANC"),
    (0x5838, "IPAV"),
    (0x5840, "IP4AT"),
    (0x5880, "IP6AT"),
    (0x5900, "WUPL"),
    (0x5a00, "WUPM"),
    (0x5b50, "SWSM"),
    (0x5b54, "FWSM"),
    (0x5f00, "FFLT"),
];

/// 8254x only.
const OLD: &[(u64, &str)] = &[(0x3000, "TXDMAC")];

/// 82574 only.
const NEW: &[(u64, &str)] = &[
    (0x0024, "SCTL"),
    (0x00dc, "EIAC"),
    (0x00e4, "IVAR"),
    (0x00e8, "EITR"),
    (0x0404, "TCTL_EXT"),
    (0x0f00, "EXTCNF_CTRL"),
    (0x0f08, "EXTCNF_SIZE"),
    (0x0f10, "PHY_CTRL"),
    (0x0f18, "PCIEANACFG"),
    (0x1024, "EEARBC"),
    (0x1028, "FLASHT"),
    (0x102c, "EEWR"),
    (0x1030, "FLSWCTL"),
    (0x1034, "FLSWDATA"),
    (0x1038, "FLSWCNT"),
    (0x103c, "FLOP"),
    (0x2170, "PSRCTL"),
    (0x2c08, "RAID"),
    (0x4100, "IAC"),
    (0x5818, "MRQC"),
    (0x5860, "MANC2H"),
    (0x5864, "RSSIM"),
    (0x5b00, "GCR"),
    (0x5b10, "GSCL_1"),
    (0x5b14, "GSCL_2"),
    (0x5b18, "GSCL_3"),
    (0x5b1c, "GSCL_4"),
    (0x5b30, "FACTPS"),
    (0x5b48, "CCMCTL"),
    (0x5b58, "SWSM2"),
    (0x5b5c, "SW_FW_SYNC"),
    (0x5b64, "GCR2"),
    (0x5b68, "PBACL"),
    (0x5f40, "FCRTV"),
    (0xb608, "TIMINCA"),
    (0xb614, "TSYNCTXCTL"),
    (0xb620, "TSYNCRXCTL"),
];

/// Statistics, which all of them have. A read clears them.
const STATISTICS: &[(u64, &str)] = &[
    (0x4000, "CRCERRS"),
    (0x4004, "ALGNERRC"),
    (0x4008, "SYMERRS"),
    (0x400c, "RXERRC"),
    (0x4010, "MPC"),
    (0x4014, "SCC"),
    (0x4018, "ECOL"),
    (0x401c, "MCC"),
    (0x4020, "LATECOL"),
    (0x4028, "COLC"),
    (0x4030, "DC"),
    (0x4034, "TNCRS"),
    (0x4038, "SEC"),
    (0x403c, "CEXTERR"),
    (0x4040, "RLEC"),
    (0x4048, "XONRXC"),
    (0x404c, "XONTXC"),
    (0x4050, "XOFFRXC"),
    (0x4054, "XOFFTXC"),
    (0x4058, "FCRUC"),
    (0x405c, "PRC64"),
    (0x4060, "PRC127"),
    (0x4064, "PRC255"),
    (0x4068, "PRC511"),
    (0x406c, "PRC1023"),
    (0x4070, "PRC1522"),
    (0x4074, "GPRC"),
    (0x4078, "BPRC"),
    (0x407c, "MPRC"),
    (0x4080, "GPTC"),
    (0x4088, "GORCL"),
    (0x408c, "GORCH"),
    (0x4090, "GOTCL"),
    (0x4094, "GOTCH"),
    (0x40a0, "RNBC"),
    (0x40a4, "RUC"),
    (0x40a8, "RFC"),
    (0x40ac, "ROC"),
    (0x40b0, "RJC"),
    (0x40b4, "MGTPRC"),
    (0x40b8, "MGTPDC"),
    (0x40bc, "MGTPTC"),
    (0x40c0, "TORL"),
    (0x40c4, "TORH"),
    (0x40c8, "TOTL"),
    (0x40cc, "TOTH"),
    (0x40d0, "TPR"),
    (0x40d4, "TPT"),
    (0x40d8, "PTC64"),
    (0x40dc, "PTC127"),
    (0x40e0, "PTC255"),
    (0x40e4, "PTC511"),
    (0x40e8, "PTC1023"),
    (0x40ec, "PTC1522"),
    (0x40f0, "MPTC"),
    (0x40f4, "BPTC"),
    (0x40f8, "TSCTC"),
    (0x40fc, "TSCTFC"),
];

/// Queues, 100h apart; the second is the 82574's.
const QUEUES: &[(u64, &str)] = &[
    (0x2800, "RDBAL"),
    (0x2804, "RDBAH"),
    (0x2808, "RDLEN"),
    (0x2810, "RDH"),
    (0x2818, "RDT"),
    (0x2828, "RXDCTL"),
    (0x3800, "TDBAL"),
    (0x3804, "TDBAH"),
    (0x3808, "TDLEN"),
    (0x3810, "TDH"),
    (0x3818, "TDT"),
    (0x3828, "TXDCTL"),
    (0x3840, "TARC"),
];

/// Arrays: the first, what it is called, how many.
const ARRAYS: &[(u64, &str, u64)] =
    &[(0x5200, "MTA", 128), (0x5400, "RA", 32), (0x5600, "VFTA", 128), (0x5a00, "WUPM", 32)];

#[test]
fn registers_are_where_drivers_look_for_them() {
    let [old, new] = [Model::I82540em, Model::I82574l];
    for (offset, name) in EVERYWHERE.iter().chain(STATISTICS) {
        for model in Model::ALL {
            assert_eq!(register_name(model, *offset), Some(*name), "{offset:#x}");
        }
    }
    for (offset, name) in OLD {
        assert_eq!((register_name(old, *offset), register_name(new, *offset)), (Some(*name), None));
    }
    for (offset, name) in NEW {
        assert_eq!((register_name(old, *offset), register_name(new, *offset)), (None, Some(*name)));
    }
    for (offset, name) in QUEUES {
        let name = |queue: &str| Some(format!("{name}{queue}"));
        assert_eq!(register_name(old, *offset).map(str::to_owned), name("0"));
        assert_eq!(register_name(new, *offset).map(str::to_owned), name("0"));
        assert_eq!(register_name(old, *offset + 0x100), None);
        assert_eq!(register_name(new, *offset + 0x100).map(str::to_owned), name("1"));
    }
    for (offset, name, count) in ARRAYS {
        assert_eq!(register_name(old, offset + 4 * (count - 1)), Some(*name));
        assert_ne!(register_name(old, offset + 4 * count), Some(*name));
    }
    for (first, name, last) in [(0x5c00, "RETA", 0x5c7c), (0x5c80, "RSSRK", 0x5ca4)] {
        assert_eq!((register_name(new, first), register_name(new, last)), (Some(name), Some(name)));
        assert_eq!(register_name(old, first), None);
    }
}

#[test]
fn statistics_cannot_be_written() {
    for model in Model::ALL {
        let mut bench = Bench::new(model);
        for (offset, name) in STATISTICS {
            bench.write(*offset, 0xffff_ffff);
            assert_eq!(bench.read(*offset), 0, "{name}");
        }
    }
}

/// Offset, and the values after power on of an 82540EM and of an 82574L; `None`: not there, or by
/// its EEPROM.
type Reset = (u64, Option<u32>, Option<u32>);

const RESETS: &[Reset] = &[
    (0x0000, Some(0x0000_0209), Some(0x0010_0209)), // CTRL
    (0x0010, None, Some(0x0001_8300)),              // EECD: present, read, a flash
    (0x0014, Some(0), Some(2)),                     // EERD: 82574 is ready
    (0x0018, Some(0), Some(0)),                     // CTRL_EXT
    (0x0020, Some(0x1000_0000), Some(0x1000_0000)), // MDIC: ready
    (0x0028, Some(0), Some(0)),                     // FCAL
    (0x0038, Some(0x8100), Some(0x8100)),           // VET
    (0x00c0, Some(0), Some(0)),                     // ICR
    (0x00d0, Some(0), Some(0)),                     // IMS
    (0x0100, Some(0), Some(0)),                     // RCTL
    (0x0400, Some(0), Some(0)),                     // TCTL
    (0x0410, None, Some(0x0060_2008)),              // TIPG
    (0x0e00, Some(0x0706_8302), Some(0x0006_8302)), // LEDCTL: four LEDs, and three
    (0x0f00, None, Some(0x0000_0008)),              // EXTCNF_CTRL
    (0x1000, Some(0x0010_0030), Some(0x0014_0014)), // PBA
    (0x1008, None, Some(0x0000_0028)),              // PBS
    (0x1010, None, Some(0x8004_0000)),              // EEMNGCTL: done
    (0x1028, None, Some(2)),                        // FLASHT
    (0x102c, None, Some(2)),                        // EEWR: ready
    (0x1030, None, Some(0xc000_0000)),              // FLSWCTL: ready
    (0x2170, None, Some(0x0404_0402)),              // PSRCTL
    (0x2828, None, Some(0x0001_0000)),              // RXDCTL0
    (0x2928, None, Some(0x0001_0000)),              // RXDCTL1
    (0x3410, None, Some(0x600)),                    // TDFH
    (0x3830, Some(0x0100_0400), Some(0x0100_0400)), // TSPMT
    (0x3840, None, Some(0x403)),                    // TARC0
    (0x3940, None, Some(0x403)),                    // TARC1
    (0x5000, Some(0), Some(0x300)),                 // RXCSUM: on in the 82574
    (0x5008, None, Some(0)),                        // RFCTL
    (0x5800, Some(0), Some(0)),                     // WUC
    (0x5818, None, Some(0)),                        // MRQC
    (0x5b30, None, Some(0x2000_0004)),              // FACTPS: LAN 0 is on
    (0xb634, None, Some(0x88f7)),                   // RXCFGL
    (0xb638, None, Some(0x319)),                    // RXUDP
];

#[test]
fn values_after_power_on() {
    for model in Model::ALL {
        let mut bench = Bench::new(model);
        for (offset, old, new) in RESETS {
            let golden = if model == Model::I82574l { new } else { old };
            if let Some(golden) = golden {
                assert_eq!(bench.read(*offset), *golden, "{offset:#x} of {model:?}");
            }
        }
        // And after CTRL.RST again.
        bench.open();
        bench.write(0x5000, 0x1fff);
        bench.write(CTRL, 1 << 26);
        for (offset, old, new) in RESETS {
            let golden = if model == Model::I82574l { new } else { old };
            if let Some(golden) = golden.filter(|_| *offset != 0x20) {
                assert_eq!(bench.read(*offset), golden, "{offset:#x} of {model:?}, reset");
            }
        }
    }
}

/// M88E1011_I_PHY_ID (01410C20h) and BME1000_E_PHY_ID_R2 (01410CB1h), with the registers of each.
#[test]
fn the_phy_after_power_on() {
    for (register, old, new) in [
        (0, 0x1140, 0x1140),
        (1, 0x796d, 0x796d),
        (2, 0x0141, 0x0141),
        (3, 0x0c20, 0x0cb1),
        (4, 0x0de1, 0x0de1),
        (9, 0x0e00, 0x0f00),
        (10, 0x3c00, 0x3c00),
        (15, 0x3000, 0x3000),
        (20, 0x0d60, 0x0d60),
    ] {
        let seen = |model| Bench::new(model).phy_read(register);
        assert_eq!((seen(Model::I82540em), seen(Model::I82545em)), (old, old), "{register}");
        assert_eq!(seen(Model::I82574l), new, "{register}");
    }
    assert_eq!(Bench::new(Model::I82574l).phy_read(16), 0x3360);
}

/// The words that drivers look at, and NVM_SUM.
#[test]
fn words_of_the_eeprom() {
    for (model, subsystem, vendor, device) in [
        (Model::I82540em, 0x001e, 0x8086, 0x100e),
        (Model::I82545em, 0x0750, 0x15ad, 0x100f),
        (Model::I82574l, 0x07d0, 0x15ad, 0x10d3),
    ] {
        let mut bench = Bench::new(model);
        let mut words = [0u16; 64];
        for (address, word) in (0u32..).zip(&mut words) {
            let shift = if model == Model::I82574l { 2 } else { 8 };
            bench.write(0x14, address << shift | 1);
            *word = (bench.read(0x14) >> 16) as u16;
        }
        assert_eq!(words[..3], [0x5452, 0x1200, 0x5634], "the address");
        assert_eq!(words[0x0b..0x0f], [subsystem, vendor, device, 0x8086]);
        assert_eq!(words[0x0a] >> 14, 0b01, "a valid signature");
        assert_eq!(words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word)), 0xbaba);
    }
}

/// `lspci` of the real ones: Intel's PRO/1000 MT Desktop, and those of VMware's machines.
#[test]
fn identity_and_capabilities() {
    let golden = [
        (Model::I82540em, 0x100e, 2, (0x8086, 0x001e), &[(0xdc, 1)][..]),
        (Model::I82545em, 0x100f, 1, (0x15ad, 0x0750), &[(0xdc, 1)]),
        (Model::I82574l, 0x10d3, 0, (0x15ad, 0x07d0), &[(0xc8, 1), (0xd0, 5), (0xe0, 0x10), (0xa0, 0x11)]),
    ];
    for (model, device, revision, subsystem, capabilities) in golden {
        let bench = Bench::new(model);
        let layout = bench.nic.layout();
        assert_eq!((layout.vendor, layout.device, layout.revision), (0x8086, device, revision));
        assert_eq!((layout.subsystem_vendor, layout.subsystem), subsystem);
        assert_eq!((layout.class, layout.interrupt_pin), ([0x02, 0x00, 0x00], 1));
        assert!(matches!(layout.bars[0], Bar::Memory32 { bytes: 0x2_0000, prefetchable: false }));
        let mut bytes = [0; 256];
        pci::Config::new(layout, 0).read(0, &mut bytes);
        let (mut at, mut seen) = (bytes[0x34], Vec::new());
        while at != 0 {
            seen.push((at, bytes[usize::from(at)]));
            at = bytes[usize::from(at) + 1];
        }
        assert_eq!(seen, capabilities);
        let vectors = layout.caps.iter().find_map(|(_, cap)| match cap {
            Cap::MsiX { vectors, table_bar, .. } => Some((*vectors, *table_bar)),
            _ => None,
        });
        assert_eq!(vectors, (model == Model::I82574l).then_some((5, 3)));
    }
}
