//! The registers as a table: what a reset leaves, and when a driver may write what.

/// CSR0: controller status.
pub mod csr0 {
    pub const INIT: u16 = 1 << 0;
    pub const STRT: u16 = 1 << 1;
    pub const STOP: u16 = 1 << 2;
    pub const TDMD: u16 = 1 << 3;
    pub const TXON: u16 = 1 << 4;
    pub const RXON: u16 = 1 << 5;
    pub const IENA: u16 = 1 << 6;
    pub const INTR: u16 = 1 << 7;
    pub const IDON: u16 = 1 << 8;
    pub const TINT: u16 = 1 << 9;
    pub const RINT: u16 = 1 << 10;
    pub const MERR: u16 = 1 << 11;
    pub const MISS: u16 = 1 << 12;
    pub const CERR: u16 = 1 << 13;
    pub const BABL: u16 = 1 << 14;
    pub const ERR: u16 = 1 << 15;
    /// Cleared by writing ones.
    pub const CAUSES: u16 = BABL | CERR | MISS | MERR | RINT | TINT | IDON;
    /// Whose mask is at the same place in CSR3. CERR interrupts nobody.
    pub const MASKABLE: u16 = CAUSES & !CERR;
    /// What ERR is the sum of.
    pub const ERRORS: u16 = BABL | CERR | MISS | MERR;
}

/// CSR3: masks of CSR0's causes, in bits 8 to 14, and switches.
pub mod csr3 {
    pub const DXSUFLO: u16 = 1 << 6;
    pub const WRITABLE: u16 = 0x5f7c;
}

/// CSR4: causes with the mask of each one bit below it, and switches.
pub mod csr4 {
    pub const TXSTRT: u16 = 1 << 3;
    pub const RCVCCO: u16 = 1 << 5;
    pub const UINT: u16 = 1 << 6;
    pub const UINTCMD: u16 = 1 << 7;
    pub const MFCO: u16 = 1 << 9;
    pub const JAB: u16 = 1 << 1;
    pub const ASTRP_RCV: u16 = 1 << 10;
    pub const APAD_XMT: u16 = 1 << 11;
    pub const TXDPOLL: u16 = 1 << 12;
    pub const CAUSES: u16 = MFCO | UINT | RCVCCO | TXSTRT | JAB;
    /// JABM, TXSTRTM, RCVCCOM, MFCOM: a one keeps the cause one place above from interrupting.
    pub const MASKS: u16 = 0x0115;
}

/// CSR5: causes with the enable of each one bit below it, and switches.
pub mod csr5 {
    pub const SPND: u16 = 1 << 0;
    pub const LTINTEN: u16 = 1 << 14;
    pub const TOKINTD: u16 = 1 << 15;
    /// SINT, SLPINT, EXDINT, MPINT.
    pub const CAUSES: u16 = 0x0a90;
    pub const WRITABLE: u16 = 0xc56f;
    /// SINTE, SLPINTE, EXDINTE, MPINTE.
    pub const ENABLES: u16 = 0x0548;
}

/// CSR15: mode.
pub mod mode {
    pub const DRX: u16 = 1 << 0;
    pub const DTX: u16 = 1 << 1;
    pub const LOOP: u16 = 1 << 2;
    pub const DXMTFCS: u16 = 1 << 3;
    pub const INTL: u16 = 1 << 6;
    pub const DRCVPA: u16 = 1 << 13;
    pub const DRCVBC: u16 = 1 << 14;
    pub const PROM: u16 = 1 << 15;
}

/// Numbers of registers that have a meaning here.
pub mod csr {
    pub const STATUS: usize = 0;
    pub const IADR_LOW: usize = 1;
    pub const IADR_HIGH: usize = 2;
    pub const MASKS: usize = 3;
    pub const FEATURES: usize = 4;
    pub const EXTENDED: usize = 5;
    pub const TABLE_LENGTHS: usize = 6;
    pub const LADRF: usize = 8;
    pub const PADR: usize = 12;
    pub const MODE: usize = 15;
    pub const BADR: usize = 24;
    pub const BADX: usize = 30;
    pub const SWS: usize = 58;
    pub const RCVRC: usize = 72;
    pub const XMTRC: usize = 74;
    pub const RCVRL: usize = 76;
    pub const XMTRL: usize = 78;
    pub const CHIP_LOW: usize = 88;
    pub const CHIP_HIGH: usize = 89;
    pub const MFC: usize = 112;
    pub const COUNT: usize = 128;
}

/// When a driver may write a CSR, and which bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Ignored,
    /// These bits, at any time.
    Always(u16),
    /// While STOP or SPND is set.
    Halted,
}

/// The write rule of a plain CSR. Those with a life of their own (0, 3, 4, 5, 15, 58) are not here.
pub fn csr_write(number: usize) -> Write {
    match number {
        1 | 2 | 8..=14 | 18..=47 | 60..=67 | 72 | 74 | 76 | 78 | 112 => Write::Halted,
        80 => Write::Always(0xffff),
        82 | 84..=86 | 92 | 100 | 122 => Write::Always(0xffff),
        116 => Write::Always(0x071f),
        124 => Write::Always(0x0c1f),
        125 => Write::Always(0xffff),
        _ => Write::Ignored,
    }
}

/// What H_RESET and S_RESET leave in the CSRs that they touch.
pub const CSR_RESET: &[(usize, u16)] = &[
    (0, 0x0004),
    (3, 0x0000),
    (4, 0x0115),
    (5, 0x0000),
    (6, 0x0000),
    (8, 0x0000),
    (9, 0x0000),
    (10, 0x0000),
    (11, 0x0000),
    (72, 0x0000),
    (74, 0x0000),
    (76, 0x0000),
    (78, 0x0000),
    (80, 0x1410),
    (82, 0x0000),
    (94, 0x0000),
    (100, 0x0200),
    (112, 0x0000),
    (114, 0x0000),
    (116, 0x0000),
    (122, 0x0000),
    (124, 0x0000),
    (125, 0x603c),
];

pub mod bcr {
    pub const MC: usize = 2;
    pub const LED0: usize = 4;
    pub const LED3: usize = 7;
    pub const FDC: usize = 9;
    pub const BSBC: usize = 18;
    pub const EECAS: usize = 19;
    pub const SWS: usize = 20;
    pub const MIICAS: usize = 32;
    pub const MIIADDR: usize = 33;
    pub const MIIMDR: usize = 34;
    pub const COUNT: usize = 64;
    /// BCR2: writes to the address PROM go through.
    pub const APROMWE: u16 = 1 << 8;
    /// BCR9: full duplex.
    pub const FDEN: u16 = 1 << 0;
    /// BCR18: registers lie four bytes apart.
    pub const DWIO: u16 = 1 << 7;
    /// BCR20: 32-bit structures.
    pub const SSIZE32: u16 = 1 << 8;
    pub const CSRPCNET: u16 = 1 << 9;
    pub const APERREN: u16 = 1 << 10;
    /// BCR32.
    pub const MIIPD: u16 = 1 << 14;
    pub const DANAS: u16 = 1 << 7;
    pub const XPHYRST: u16 = 1 << 6;
    pub const XPHYANE: u16 = 1 << 5;
    pub const XPHYFD: u16 = 1 << 4;
    pub const XPHYSP: u16 = 1 << 3;
}

/// BCRs: what H_RESET leaves, and the bits that a driver may write.
pub const BCR: &[(usize, u16, u16)] = &[
    (0, 0x0005, 0x0000),
    (1, 0x0005, 0x0000),
    (2, 0x0002, 0xffff),
    (4, 0x00c0, 0x7fff),
    (5, 0x0084, 0x7fff),
    (6, 0x0088, 0x7fff),
    (7, 0x0090, 0x7fff),
    (9, 0x0000, 0x0007),
    (16, 0x0000, 0xffff),
    (17, 0x0000, 0xffff),
    (18, 0x9001, 0xffff),
    (21, 0x0000, 0xffff),
    (22, 0xff06, 0xffff),
    (23, 0x2000, 0x0000),
    (24, 0x1022, 0x0000),
    (25, 0x0000, 0x00ff),
    (26, 0x0000, 0x00ff),
    (27, 0x0000, 0xffff),
    (28, 0x0000, 0xffff),
    (29, 0x0000, 0xffff),
    (30, 0x0000, 0xffff),
    (31, 0xffff, 0xffff),
    (33, 0x0000, 0x03ff),
    (35, 0x1022, 0x0000),
    (36, 0x0000, 0x0000),
    (37, 0x0000, 0x0000),
    (38, 0x0000, 0x0000),
    (39, 0x0000, 0x0000),
    (40, 0x0000, 0x0000),
    (41, 0x0000, 0x0000),
    (42, 0x0000, 0x0000),
    (43, 0x0000, 0x0000),
    (44, 0x0000, 0x0000),
    (45, 0x0000, 0xffff),
    (46, 0x0000, 0xffff),
    (47, 0x0000, 0xffff),
    (48, 0x0000, 0xffff),
    (49, 0x0000, 0xffff),
    (50, 0x0000, 0xffff),
];
