//! The registers as a table (8254x SDM, 13.4; 82574 datasheet, 10.2).
//!
//! A register's place in [`Registers`] is its index; the table gives its offset in the BAR, the
//! bits that software may set, and its value after power on. What a register *does* stands where it
//! is done.

use alloc::boxed::Box;

use crate::Model;

/// Which adapters have a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    All,
    /// 8254x only.
    Old,
    /// 82574 only.
    New,
}

impl On {
    fn has(self, model: Model) -> bool {
        match self {
            On::All => true,
            On::Old => !model.is_82574(),
            On::New => model.is_82574(),
        }
    }
}

/// A register, or an array of them.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    pub name: &'static str,
    /// Byte offset in the BAR.
    pub offset: u32,
    /// How many there are, one behind the other.
    pub count: usize,
    pub on: On,
    /// Bits that a write changes.
    pub mask: u32,
    /// After power on.
    pub reset: u32,
    /// Index of the first.
    pub index: usize,
    /// A read clears it.
    pub clears: bool,
}

macro_rules! registers {
    (@kind rw) => { false };
    (@kind rc) => { true };
    ($($name:ident[$count:expr] at $offset:literal, $on:ident, $kind:ident, mask $mask:expr, reset $reset:expr;)*) => {
        /// Each register by its name, before it has an index.
        #[allow(dead_code, non_camel_case_types, clippy::upper_case_acronyms)]
        enum Order { $($name,)* }

        const BARE: &[Register] = &[$(Register {
            name: stringify!($name),
            offset: $offset,
            count: $count,
            on: On::$on,
            mask: $mask,
            reset: $reset,
            index: 0,
            clears: registers!(@kind $kind),
        },)*];

        // Many are only kept, and named nowhere else.
        $(#[allow(dead_code)]
        pub const $name: usize = TABLE[Order::$name as usize].index;)*
    };
}

const ALL: u32 = 0xffff_ffff;

registers! {
    // General (13.4.1 to 13.4.16; 82574: 10.2.2).
    CTRL[1] at 0x0000, All, rw, mask 0xfbff_ffff, reset 0;
    STATUS[1] at 0x0008, All, rw, mask 0, reset 0;
    EECD[1] at 0x0010, All, rw, mask 0, reset 0;
    EERD[1] at 0x0014, All, rw, mask 0, reset 0;
    CTRL_EXT[1] at 0x0018, All, rw, mask 0xdfff_dfff, reset 0;
    FLA[1] at 0x001c, All, rw, mask 0x3f, reset 0;
    MDIC[1] at 0x0020, All, rw, mask 0, reset 0x1000_0000;
    SCTL[1] at 0x0024, New, rw, mask 0xffff, reset 0;
    FCAL[1] at 0x0028, All, rw, mask ALL, reset 0;
    FCAH[1] at 0x002c, All, rw, mask 0xffff, reset 0;
    FCT[1] at 0x0030, All, rw, mask 0xffff, reset 0;
    VET[1] at 0x0038, All, rw, mask 0xffff, reset 0x8100;
    ICR[1] at 0x00c0, All, rw, mask 0, reset 0;
    ITR[1] at 0x00c4, All, rw, mask 0xffff, reset 0;
    ICS[1] at 0x00c8, All, rw, mask 0, reset 0;
    IMS[1] at 0x00d0, All, rw, mask 0, reset 0;
    IMC[1] at 0x00d8, All, rw, mask 0, reset 0;
    EIAC[1] at 0x00dc, New, rw, mask 0x01f0_0000, reset 0;
    IAM[1] at 0x00e0, All, rw, mask ALL, reset 0;
    IVAR[1] at 0x00e4, New, rw, mask 0x800f_ffff, reset 0;
    EITR[5] at 0x00e8, New, rw, mask 0xffff, reset 0;
    FCTTV[1] at 0x0170, All, rw, mask 0xffff, reset 0;
    TXCW[1] at 0x0178, All, rw, mask 0xc000_ffff, reset 0;
    RXCW[1] at 0x0180, All, rw, mask 0, reset 0;
    LEDCTL[1] at 0x0e00, All, rw, mask ALL, reset 0x0706_8302;
    EXTCNF_CTRL[1] at 0x0f00, New, rw, mask 0x0fff_ffff, reset 8;
    EXTCNF_SIZE[1] at 0x0f08, New, rw, mask 0xff_ffff, reset 0;
    PHY_CTRL[1] at 0x0f10, New, rw, mask 0x7f, reset 0;
    PCIEANACFG[1] at 0x0f18, New, rw, mask 0x3f, reset 0;
    // What a driver gives of the packet memory to reception and to transmission, in KiB.
    PBA[1] at 0x1000, All, rw, mask 0xffff_ffff, reset 0x0010_0030;
    EEMNGCTL[1] at 0x1010, All, rw, mask 0, reset 0x8004_0000;
    EEARBC[1] at 0x1024, New, rw, mask 0xffff, reset 0;
    FLASHT[1] at 0x1028, New, rw, mask 0xff, reset 2;
    EEWR[1] at 0x102c, New, rw, mask 0, reset 2;
    FLSWCTL[1] at 0x1030, New, rw, mask 0, reset 0xc000_0000;
    FLSWDATA[1] at 0x1034, New, rw, mask ALL, reset 0;
    FLSWCNT[1] at 0x1038, New, rw, mask ALL, reset 0;
    FLOP[1] at 0x103c, New, rw, mask ALL, reset 0;
    GCR2[1] at 0x5b64, New, rw, mask ALL, reset 0;
    PBS[1] at 0x1008, All, rw, mask 0x3f, reset 0x24;
    // Flow control.
    FCRTL[1] at 0x2160, All, rw, mask 0x8000_fff8, reset 0;
    FCRTH[1] at 0x2168, All, rw, mask 0xfff8, reset 0;
    FCRTV[1] at 0x5f40, New, rw, mask 0xffff, reset 0;
    // Receive (13.4.22 to 13.4.32).
    RCTL[1] at 0x0100, All, rw, mask 0x7fff_fffe, reset 0;
    PSRCTL[1] at 0x2170, New, rw, mask 0x3f3f_3f7f, reset 0x0404_0402;
    RDBAL0[1] at 0x2800, All, rw, mask 0xffff_fff0, reset 0;
    RDBAH0[1] at 0x2804, All, rw, mask ALL, reset 0;
    RDLEN0[1] at 0x2808, All, rw, mask 0x000f_ff80, reset 0;
    RDH0[1] at 0x2810, All, rw, mask 0, reset 0;
    RDT0[1] at 0x2818, All, rw, mask 0, reset 0;
    RDTR[1] at 0x2820, All, rw, mask 0xffff, reset 0;
    RXDCTL0[1] at 0x2828, All, rw, mask 0x013f_3f3f, reset 0x0001_0000;
    RADV[1] at 0x282c, All, rw, mask 0xffff, reset 0;
    RDBAL1[1] at 0x2900, New, rw, mask 0xffff_fff0, reset 0;
    RDBAH1[1] at 0x2904, New, rw, mask ALL, reset 0;
    RDLEN1[1] at 0x2908, New, rw, mask 0x000f_ff80, reset 0;
    RDH1[1] at 0x2910, New, rw, mask 0, reset 0;
    RDT1[1] at 0x2918, New, rw, mask 0, reset 0;
    RXDCTL1[1] at 0x2928, New, rw, mask 0x013f_3f3f, reset 0x0001_0000;
    RSRPD[1] at 0x2c00, All, rw, mask 0xfff, reset 0;
    RAID[1] at 0x2c08, New, rw, mask 0xffff, reset 0;
    // Transmit (13.4.33 to 13.4.45).
    TCTL[1] at 0x0400, All, rw, mask 0x1fff_fffa, reset 0;
    TCTL_EXT[1] at 0x0404, New, rw, mask 0xffff_ffff, reset 0;
    TIPG[1] at 0x0410, All, rw, mask 0x3fff_ffff, reset 0x0060_200a;
    TBT[1] at 0x0448, All, rw, mask ALL, reset 0;
    AIT[1] at 0x0458, All, rw, mask 0xffff, reset 0;
    TXDMAC[1] at 0x3000, Old, rw, mask 1, reset 0;
    TDBAL0[1] at 0x3800, All, rw, mask 0xffff_fff0, reset 0;
    TDBAH0[1] at 0x3804, All, rw, mask ALL, reset 0;
    TDLEN0[1] at 0x3808, All, rw, mask 0x000f_ff80, reset 0;
    TDH0[1] at 0x3810, All, rw, mask 0, reset 0;
    TDT0[1] at 0x3818, All, rw, mask 0, reset 0;
    TIDV[1] at 0x3820, All, rw, mask 0xffff, reset 0;
    TXDCTL0[1] at 0x3828, All, rw, mask 0xff7f_3f3f, reset 0;
    TADV[1] at 0x382c, All, rw, mask 0xffff, reset 0;
    TSPMT[1] at 0x3830, All, rw, mask ALL, reset 0x0100_0400;
    TARC0[1] at 0x3840, All, rw, mask ALL, reset 0x0000_0403;
    TDBAL1[1] at 0x3900, New, rw, mask 0xffff_fff0, reset 0;
    TDBAH1[1] at 0x3904, New, rw, mask ALL, reset 0;
    TDLEN1[1] at 0x3908, New, rw, mask 0x000f_ff80, reset 0;
    TDH1[1] at 0x3910, New, rw, mask 0, reset 0;
    TDT1[1] at 0x3918, New, rw, mask 0, reset 0;
    TXDCTL1[1] at 0x3928, New, rw, mask 0xff7f_3f3f, reset 0;
    TARC1[1] at 0x3940, New, rw, mask ALL, reset 0x0000_0403;
    // Diagnostics of the packet memory.
    RDFH[1] at 0x2410, All, rw, mask 0x1fff, reset 0;
    RDFT[1] at 0x2418, All, rw, mask 0x1fff, reset 0;
    RDFHS[1] at 0x2420, All, rw, mask 0x1fff, reset 0;
    RDFTS[1] at 0x2428, All, rw, mask 0x1fff, reset 0;
    RDFPC[1] at 0x2430, All, rw, mask 0x1fff, reset 0;
    TDFH[1] at 0x3410, All, rw, mask 0x1fff, reset 0x600;
    TDFT[1] at 0x3418, All, rw, mask 0x1fff, reset 0x600;
    TDFHS[1] at 0x3420, All, rw, mask 0x1fff, reset 0x600;
    TDFTS[1] at 0x3428, All, rw, mask 0x1fff, reset 0x600;
    TDFPC[1] at 0x3430, All, rw, mask 0x1fff, reset 0;
    // Statistics (13.7): a read clears. Pairs L, H are of 64 bits.
    CRCERRS[1] at 0x4000, All, rc, mask 0, reset 0;
    ALGNERRC[1] at 0x4004, All, rc, mask 0, reset 0;
    SYMERRS[1] at 0x4008, All, rc, mask 0, reset 0;
    RXERRC[1] at 0x400c, All, rc, mask 0, reset 0;
    MPC[1] at 0x4010, All, rc, mask 0, reset 0;
    SCC[1] at 0x4014, All, rc, mask 0, reset 0;
    ECOL[1] at 0x4018, All, rc, mask 0, reset 0;
    MCC[1] at 0x401c, All, rc, mask 0, reset 0;
    LATECOL[1] at 0x4020, All, rc, mask 0, reset 0;
    COLC[1] at 0x4028, All, rc, mask 0, reset 0;
    DC[1] at 0x4030, All, rc, mask 0, reset 0;
    TNCRS[1] at 0x4034, All, rc, mask 0, reset 0;
    SEC[1] at 0x4038, All, rc, mask 0, reset 0;
    CEXTERR[1] at 0x403c, All, rc, mask 0, reset 0;
    RLEC[1] at 0x4040, All, rc, mask 0, reset 0;
    XONRXC[1] at 0x4048, All, rc, mask 0, reset 0;
    XONTXC[1] at 0x404c, All, rc, mask 0, reset 0;
    XOFFRXC[1] at 0x4050, All, rc, mask 0, reset 0;
    XOFFTXC[1] at 0x4054, All, rc, mask 0, reset 0;
    FCRUC[1] at 0x4058, All, rc, mask 0, reset 0;
    PRC64[1] at 0x405c, All, rc, mask 0, reset 0;
    PRC127[1] at 0x4060, All, rc, mask 0, reset 0;
    PRC255[1] at 0x4064, All, rc, mask 0, reset 0;
    PRC511[1] at 0x4068, All, rc, mask 0, reset 0;
    PRC1023[1] at 0x406c, All, rc, mask 0, reset 0;
    PRC1522[1] at 0x4070, All, rc, mask 0, reset 0;
    GPRC[1] at 0x4074, All, rc, mask 0, reset 0;
    BPRC[1] at 0x4078, All, rc, mask 0, reset 0;
    MPRC[1] at 0x407c, All, rc, mask 0, reset 0;
    GPTC[1] at 0x4080, All, rc, mask 0, reset 0;
    GORCL[1] at 0x4088, All, rw, mask 0, reset 0;
    GORCH[1] at 0x408c, All, rc, mask 0, reset 0;
    GOTCL[1] at 0x4090, All, rw, mask 0, reset 0;
    GOTCH[1] at 0x4094, All, rc, mask 0, reset 0;
    RNBC[1] at 0x40a0, All, rc, mask 0, reset 0;
    RUC[1] at 0x40a4, All, rc, mask 0, reset 0;
    RFC[1] at 0x40a8, All, rc, mask 0, reset 0;
    ROC[1] at 0x40ac, All, rc, mask 0, reset 0;
    RJC[1] at 0x40b0, All, rc, mask 0, reset 0;
    MGTPRC[1] at 0x40b4, All, rc, mask 0, reset 0;
    MGTPDC[1] at 0x40b8, All, rc, mask 0, reset 0;
    MGTPTC[1] at 0x40bc, All, rc, mask 0, reset 0;
    TORL[1] at 0x40c0, All, rw, mask 0, reset 0;
    TORH[1] at 0x40c4, All, rc, mask 0, reset 0;
    TOTL[1] at 0x40c8, All, rw, mask 0, reset 0;
    TOTH[1] at 0x40cc, All, rc, mask 0, reset 0;
    TPR[1] at 0x40d0, All, rc, mask 0, reset 0;
    TPT[1] at 0x40d4, All, rc, mask 0, reset 0;
    PTC64[1] at 0x40d8, All, rc, mask 0, reset 0;
    PTC127[1] at 0x40dc, All, rc, mask 0, reset 0;
    PTC255[1] at 0x40e0, All, rc, mask 0, reset 0;
    PTC511[1] at 0x40e4, All, rc, mask 0, reset 0;
    PTC1023[1] at 0x40e8, All, rc, mask 0, reset 0;
    PTC1522[1] at 0x40ec, All, rc, mask 0, reset 0;
    MPTC[1] at 0x40f0, All, rc, mask 0, reset 0;
    BPTC[1] at 0x40f4, All, rc, mask 0, reset 0;
    TSCTC[1] at 0x40f8, All, rc, mask 0, reset 0;
    TSCTFC[1] at 0x40fc, All, rc, mask 0, reset 0;
    IAC[1] at 0x4100, New, rc, mask 0, reset 0;
    // ICRXPTC, ICRXATC, ICTXPTC, ICTXATC, a gap, ICTXQEC, ICTXQMTC, ICRXDMTC, ICRXOC.
    INTERRUPT_CAUSES[9] at 0x4104, New, rc, mask 0, reset 0;
    // Receive filters (13.4.31, 13.5).
    RXCSUM[1] at 0x5000, All, rw, mask 0x3fff, reset 0;
    RFCTL[1] at 0x5008, All, rw, mask 0x0003_ffff, reset 0;
    MTA[128] at 0x5200, All, rw, mask ALL, reset 0;
    RA[32] at 0x5400, All, rw, mask ALL, reset 0;
    VFTA[128] at 0x5600, All, rw, mask ALL, reset 0;
    MRQC[1] at 0x5818, New, rw, mask 0xffff_0003, reset 0;
    RETA[32] at 0x5c00, New, rw, mask ALL, reset 0;
    RSSRK[10] at 0x5c80, New, rw, mask ALL, reset 0;
    RSSIM[1] at 0x5864, New, rw, mask ALL, reset 0;
    RSSIR[1] at 0x5868, New, rw, mask ALL, reset 0;
    // Wake-up and management: kept, and nothing wakes.
    WUC[1] at 0x5800, All, rw, mask 0x3f, reset 0;
    WUFC[1] at 0x5808, All, rw, mask 0x000f_80ff, reset 0;
    WUS[1] at 0x5810, All, rw, mask 0, reset 0;
    MANC[1] at 0x5820, All, rw, mask 0xffff_ffff, reset 0;
    IPAV[1] at 0x5838, All, rw, mask 0x000f_ffff, reset 0;
    IP4AT[8] at 0x5840, All, rw, mask ALL, reset 0;
    MANC2H[1] at 0x5860, New, rw, mask ALL, reset 0;
    MDEF[8] at 0x5890, New, rw, mask ALL, reset 0;
    IP6AT[4] at 0x5880, All, rw, mask ALL, reset 0;
    WUPL[1] at 0x5900, All, rw, mask 0, reset 0;
    WUPM[32] at 0x5a00, All, rw, mask 0, reset 0;
    FFLT[8] at 0x5f00, All, rw, mask 0x7ff, reset 0;
    FFMT[256] at 0x9000, All, rw, mask 0xf, reset 0;
    FFVT[256] at 0x9800, All, rw, mask 0xff, reset 0;
    GCR[1] at 0x5b00, New, rw, mask ALL, reset 0;
    FUNCTAG[1] at 0x5b08, New, rw, mask ALL, reset 0;
    GSCL_1[1] at 0x5b10, New, rw, mask ALL, reset 0;
    GSCL_2[1] at 0x5b14, New, rw, mask ALL, reset 0;
    GSCL_3[1] at 0x5b18, New, rw, mask ALL, reset 0;
    GSCL_4[1] at 0x5b1c, New, rw, mask ALL, reset 0;
    FACTPS[1] at 0x5b30, New, rw, mask 0, reset 0x2000_0004;
    GIOANACTL[4] at 0x5b34, New, rw, mask ALL, reset 0;
    SWSM[1] at 0x5b50, All, rw, mask 0x0f, reset 0;
    FWSM[1] at 0x5b54, All, rw, mask 0, reset 0;
    SWSM2[1] at 0x5b58, New, rw, mask 0x2, reset 0;
    SW_FW_SYNC[1] at 0x5b5c, New, rw, mask ALL, reset 0;
    CCMCTL[1] at 0x5b48, New, rw, mask ALL, reset 0;
    // Precision time: the clock stands, as with its enable bits off.
    TSYNCRXCTL[1] at 0xb620, New, rw, mask 0x1e, reset 0;
    RXSTMP[4] at 0xb624, New, rw, mask 0, reset 0;
    RXCFGL[1] at 0xb634, New, rw, mask ALL, reset 0x88f7;
    RXUDP[1] at 0xb638, New, rw, mask 0xffff, reset 0x319;
    TSYNCTXCTL[1] at 0xb614, New, rw, mask 0x10, reset 0;
    TXSTMP[2] at 0xb618, New, rw, mask 0, reset 0;
    SYSTIM[2] at 0xb600, New, rw, mask ALL, reset 0;
    TIMINCA[1] at 0xb608, New, rw, mask ALL, reset 0;
    TIMADJ[2] at 0xb60c, New, rw, mask ALL, reset 0;
    // The MSI-X pending bits, for drivers that clear them.
    PBACL[1] at 0x5b68, New, rw, mask 0x1f, reset 0;
}

/// The places of the 82542, which later members kept (8254x SDM, 13.3): from, to, bytes.
const ALIASES: &[(u32, u32, u32)] = &[
    (0x0004, 0x0000, 4), // CTRL, its copy
    (0x0040, 0x5400, 128),
    (0x0108, 0x2820, 4),
    (0x0110, 0x2800, 12),
    (0x0120, 0x2810, 4),
    (0x0128, 0x2818, 4),
    (0x0160, 0x2168, 4),
    (0x0168, 0x2160, 4),
    (0x0200, 0x5200, 512),
    (0x0420, 0x3800, 12),
    (0x0430, 0x3810, 4),
    (0x0438, 0x3818, 4),
    (0x0440, 0x3820, 4),
    (0x0600, 0x5600, 512),
    (0x8000, 0x2410, 4),
    (0x8008, 0x2418, 4),
    (0x8010, 0x3410, 4),
    (0x8018, 0x3418, 4),
];

const ROWS: usize = BARE.len();

/// The registers, each with its index.
pub const TABLE: [Register; ROWS] = {
    let mut table = [BARE[0]; ROWS];
    let (mut row, mut index) = (0, 0);
    while row < ROWS {
        table[row] = Register { index, ..BARE[row] };
        index += BARE[row].count;
        row += 1;
    }
    table
};

/// How many registers there are, each of an array counted.
pub const COUNT: usize = TABLE[ROWS - 1].index + TABLE[ROWS - 1].count;

/// Behind the last register.
const LIMIT: usize = 0xb640;

const NOWHERE: u16 = u16::MAX;

/// Which register is at an offset.
static PLACES: [u16; LIMIT / 4] = {
    let mut places = [NOWHERE; LIMIT / 4];
    let mut row = 0;
    while row < ROWS {
        let mut nth = 0;
        while nth < TABLE[row].count {
            let place = TABLE[row].offset as usize / 4 + nth;
            assert!(places[place] == NOWHERE, "two registers in one place");
            places[place] = (TABLE[row].index + nth) as u16;
            nth += 1;
        }
        row += 1;
    }
    let mut nth = 0;
    while nth < ALIASES.len() {
        let (from, to, bytes) = ALIASES[nth];
        let mut at = 0;
        while at < bytes {
            let (from, to) = ((from + at) as usize / 4, (to + at) as usize / 4);
            assert!(places[from] == NOWHERE && places[to] != NOWHERE, "an alias of nothing");
            places[from] = places[to];
            at += 4;
        }
        nth += 1;
    }
    places
};

/// The row of each index.
static OWNERS: [u16; COUNT] = {
    let mut owners = [0; COUNT];
    let mut row = 0;
    while row < ROWS {
        let mut nth = 0;
        while nth < TABLE[row].count {
            owners[TABLE[row].index + nth] = row as u16;
            nth += 1;
        }
        row += 1;
    }
    owners
};

static ROW: [Register; ROWS] = TABLE;

/// The register that a model has at an offset, as an index.
#[inline]
pub fn find(model: Model, offset: u64) -> Option<usize> {
    let place = *PLACES.get(usize::try_from(offset / 4).ok()?)?;
    let index = usize::from(place);
    (place != NOWHERE && row(index)?.on.has(model)).then_some(index)
}

/// What the register at an offset of the first BAR is called, for whoever traces accesses.
pub fn register_name(model: Model, offset: u64) -> Option<&'static str> {
    Some(row(find(model, offset)?)?.name)
}

/// What the table says of an index.
#[inline]
pub fn row(index: usize) -> Option<&'static Register> {
    ROW.get(usize::from(*OWNERS.get(index)?))
}

/// Offset in the BAR of an index.
pub fn offset_of(index: usize) -> Option<u32> {
    let row = row(index)?;
    Some(row.offset + 4 * (index - row.index) as u32)
}

/// The values.
#[derive(Clone, Debug)]
pub struct Registers(Box<[u32; COUNT]>);

impl Registers {
    pub fn new() -> Registers {
        let mut values = Box::new([0; COUNT]);
        for row in &ROW {
            for value in values.iter_mut().skip(row.index).take(row.count) {
                *value = row.reset;
            }
        }
        Registers(values)
    }

    /// Those that software or the device changed, with their offsets.
    pub fn changed(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.0
            .iter()
            .enumerate()
            .filter_map(|(index, value)| (*value != row(index)?.reset).then_some((offset_of(index)?, *value)))
    }

    /// Sets bits that software may set; gives what is stored now.
    pub fn store(&mut self, index: usize, value: u32) -> u32 {
        let mask = row(index).map_or(0, |row| row.mask);
        self[index] = (self[index] & !mask) | (value & mask);
        self[index]
    }
}

impl core::ops::Index<usize> for Registers {
    type Output = u32;

    #[inline(always)]
    fn index(&self, index: usize) -> &u32 {
        &self.0[index]
    }
}

impl core::ops::IndexMut<usize> for Registers {
    #[inline(always)]
    fn index_mut(&mut self, index: usize) -> &mut u32 {
        &mut self.0[index]
    }
}
