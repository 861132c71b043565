//! Disks in all forms that are read: one that QEMU has made, and ones that are written here after the
//! specification, whole and damaged.

use standpipe_appliance::vmdk::{Cursor, Disk, Piece, is_vmdk};
use standpipe_appliance::{Fault, Source};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

/// `qemu-img convert -f raw -O vmdk -o subformat=streamOptimized` (QEMU 10.0.2) of [`pattern`].
const STREAM: &[u8] = include_bytes!("disks/stream.vmdk");
const GRAIN: usize = 65536;

/// Data at the beginning, in two places further on and in the last sector, which is in no whole grain.
fn pattern() -> Vec<u8> {
    let mut bytes = vec![0u8; (1 << 20) + 3 * 512];
    for i in 0..300usize {
        bytes[i * 7] = (i * 37 + 11) as u8;
    }
    for at in [200 << 10, bytes.len() - 512, (300 << 10) + 17] {
        for k in 0..64 {
            bytes[at + k] = (at / 512 + k) as u8;
        }
    }
    bytes
}

fn no_others(name: &str) -> Result<Source, Fault> {
    Err(Fault::new(format!("there is no `{name}`")))
}

fn open(bytes: &[u8]) -> Result<Disk, Fault> {
    let source: Source = Arc::new(bytes.to_vec());
    assert!(is_vmdk(source.as_ref()) || bytes.len() < 21);
    Disk::open(&source, &mut no_others)
}

/// All bytes, and how many of them came as data.
fn read(disk: &Disk, buffer: usize) -> Result<(Vec<u8>, u64), Fault> {
    let (mut all, mut data) = (Vec::new(), 0);
    let mut cursor = Cursor::default();
    let mut buffer = vec![0; buffer];
    while let Some(piece) = disk.next(&mut cursor, &mut buffer)? {
        match piece {
            Piece::Data(bytes) => {
                assert!(bytes > 0);
                data += bytes as u64;
                all.extend_from_slice(&buffer[..bytes]);
            }
            Piece::Hole(bytes) => {
                assert!(bytes > 0);
                all.resize(all.len() + bytes as usize, 0);
            }
        }
    }
    assert_eq!(all.len() as u64, disk.capacity());
    Ok((all, data))
}

#[test]
fn a_stream_of_qemus() {
    let disk = open(STREAM).unwrap();
    assert_eq!(disk.capacity(), (1 << 20) + 1536);
    assert!(!disk.is_unclean());
    for buffer in [1 << 20, GRAIN, 1000, 1] {
        let (all, data) = read(&disk, buffer).unwrap();
        assert!(all == pattern());
        assert_eq!(data, 3 * GRAIN as u64 + 1536, "grains that are not there are holes");
    }
}

/// How a sparse disk is written.
#[derive(Clone, Copy)]
struct Form {
    compressed: bool,
    /// Grains of zeros are entries of 1.
    zeroed: bool,
    entries: usize,
    descriptor: Option<&'static str>,
}

const PLAIN: Form = Form {
    compressed: false,
    zeroed: false,
    entries: 512,
    descriptor: Some(
        "# Disk DescriptorFile\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 2051 SPARSE \"x.vmdk\"\n",
    ),
};

/// A sparse extent: header, descriptor, directory, tables, grains.
fn sparse(image: &[u8], form: Form) -> Vec<u8> {
    let grains: Vec<&[u8]> = image.chunks(GRAIN).collect();
    let tables = grains.len().div_ceil(form.entries);
    let table_sectors = (4 * form.entries).div_ceil(512);
    let directory_at = 3;
    let first_table = directory_at + (4 * tables).div_ceil(512);
    let mut file = vec![0u8; 512 * (first_table + tables * table_sectors)];
    let flags = 3 | u32::from(form.zeroed) << 2 | if form.compressed { 3 << 16 } else { 0 };
    file[..4].copy_from_slice(b"KDMV");
    file[4..8].copy_from_slice(&(if form.compressed { 3u32 } else { 1 }).to_le_bytes());
    file[8..12].copy_from_slice(&flags.to_le_bytes());
    let words: [(usize, u64); 4] =
        [(12, image.len() as u64 / 512), (20, GRAIN as u64 / 512), (56, directory_at as u64), (64, 8)];
    for (at, value) in words {
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    if let Some(text) = form.descriptor {
        file[28..36].copy_from_slice(&1u64.to_le_bytes());
        file[36..44].copy_from_slice(&2u64.to_le_bytes());
        file[512..512 + text.len()].copy_from_slice(text.as_bytes());
    }
    file[44..48].copy_from_slice(&(form.entries as u32).to_le_bytes());
    file[73..77].copy_from_slice(b"\n \r\n");
    file[77] = u8::from(form.compressed);
    for table in 0..tables {
        let sector = (first_table + table * table_sectors) as u32;
        let at = 512 * directory_at + 4 * table;
        file[at..at + 4].copy_from_slice(&sector.to_le_bytes());
    }
    for (index, grain) in grains.iter().enumerate() {
        let at = 512 * (first_table + index / form.entries * table_sectors) + 4 * (index % form.entries);
        let entry = if grain.iter().any(|byte| *byte != 0) {
            let sector = file.len() / 512;
            if form.compressed {
                let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                packed.write_all(grain).unwrap();
                let packed = packed.finish().unwrap();
                file.extend((index as u64 * GRAIN as u64 / 512).to_le_bytes());
                file.extend((packed.len() as u32).to_le_bytes());
                file.extend(packed);
            } else {
                file.extend_from_slice(grain);
            }
            file.resize(file.len().next_multiple_of(512), 0);
            sector as u32
        } else {
            u32::from(form.zeroed)
        };
        file[at..at + 4].copy_from_slice(&entry.to_le_bytes());
    }
    file
}

#[test]
fn sparse_disks_in_one_file() {
    for compressed in [false, true] {
        for zeroed in [false, true] {
            // With tables of four entries one of them has holes only, and the directory several.
            for entries in [512, 4, 1] {
                let form = Form { compressed, zeroed, entries, ..PLAIN };
                let file = sparse(&pattern(), form);
                let disk = open(&file).unwrap();
                for buffer in [1 << 20, 777] {
                    let (all, data) = read(&disk, buffer).unwrap();
                    assert!(all == pattern());
                    assert_eq!(data, 3 * GRAIN as u64 + 1536);
                }
            }
        }
    }
    // A table that is not there at all.
    let mut file = sparse(&pattern(), Form { entries: 4, ..PLAIN });
    file[3 * 512..3 * 512 + 4].fill(0);
    let (all, _) = read(&open(&file).unwrap(), 1 << 16).unwrap();
    assert!(all[..4 * GRAIN].iter().all(|byte| *byte == 0) && all[4 * GRAIN..] == pattern()[4 * GRAIN..]);
}

/// What ovftool writes into a pipe: the directory is known at the end only.
#[test]
fn a_stream_with_a_footer() {
    let mut file = sparse(&pattern(), Form { compressed: true, ..PLAIN });
    let footer = file[..512].to_vec();
    file[56..64].fill(0xff);
    // The marker of a footer (type 3), the footer, and the marker of the end.
    let mut marker = vec![0u8; 512];
    (marker[0], marker[12]) = (1, 3);
    file.extend([&marker[..], &footer, &[0; 512]].concat());
    let (all, data) = read(&open(&file).unwrap(), GRAIN).unwrap();
    assert!(all == pattern());
    assert_eq!(data, 3 * GRAIN as u64 + 1536);
    for cut in [1, 512, 1024] {
        let fault = open(&file[..file.len() - cut]).err().unwrap();
        assert!(fault.what.contains("the footer of the disk is not there"), "{cut}: {fault}");
    }
}

#[test]
fn disks_in_several_files() {
    let image = pattern();
    let bare = Form { descriptor: None, ..PLAIN };
    let (first, second) = image.split_at(6 * GRAIN);
    let mut flat = b"xxxx".repeat(128);
    flat.extend_from_slice(second);
    let files = BTreeMap::from([("d-s001.vmdk", sparse(first, bare)), ("d-f002.vmdk", flat)]);
    let text = format!(
        "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"custom\"\n\
         RW {} SPARSE \"d-s001.vmdk\"\nRW 0 ZERO\nRW {} FLAT \"d-f002.vmdk\" 1\nRW 5 ZERO\n",
        first.len() / 512,
        second.len() / 512
    );
    let open = |text: &str| {
        let source: Source = Arc::new(text.as_bytes().to_vec());
        Disk::open(&source, &mut |name| match files.get(name) {
            Some(bytes) => Ok(Arc::new(bytes.clone()) as Source),
            None => no_others(name),
        })
    };
    let disk = open(&text).unwrap();
    let (all, _) = read(&disk, 5000).unwrap();
    assert!(all[..image.len()] == image);
    assert_eq!(all[image.len()..], [0; 5 * 512]);

    let fault = |from: &str, to: &str| open(&text.replace(from, to)).err().unwrap().to_string();
    assert!(fault("d-f002.vmdk\" 1", "d-f002.vmdk\" 2").contains("is shorter than the descriptor says"));
    assert!(fault("RW 768 SPARSE", "RW 769 SPARSE").contains("and the descriptor says 393728"));
    assert_eq!(fault("d-s001", "d-s009"), "there is no `d-s009.vmdk`");
    assert!(fault("RW 5 ZERO", "RW 18446744073709551615 ZERO").contains("more than 64 TiB"));
    assert!(fault("RW 5 ZERO", "RW 137438953473 ZERO").contains("more than 64 TiB"));
}

#[test]
fn what_is_no_whole_disk_is_refused() {
    let refused = |bytes: &[u8]| open(bytes).err().unwrap().to_string();
    assert!(refused(b"COWD").contains("vmfsSparse"));
    assert!(refused(&[0xbe, 0xba, 0xfe, 0xca]).contains("seSparse"));
    assert!(refused(b"hello").contains("no VMDK"));
    let snapshot = "# Disk DescriptorFile\nparentCID=12345678\n";
    assert!(
        refused(&sparse(&pattern(), Form { descriptor: Some(snapshot), ..PLAIN }))
            .contains("a snapshot of another")
    );
    let extent = sparse(&pattern(), Form { descriptor: None, ..PLAIN });
    assert!(refused(&extent).contains("without its descriptor"));
}

/// Every part that can be wrong, and one word of what is said.
#[test]
fn damaged_disks_are_refused() {
    let plain = sparse(&pattern(), PLAIN);
    let packed = sparse(&pattern(), Form { compressed: true, ..PLAIN });
    let with = |file: &[u8], at: usize, bytes: &[u8]| {
        let mut file = file.to_vec();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        open(&file)
            .and_then(|disk| read(&disk, 1 << 16))
            .err()
            .map(|fault| fault.to_string())
            .unwrap_or_default()
    };
    let said = |text: String, word: &str| assert!(text.contains(word), "{word}: {text}");
    said(with(&plain, 4, &[9]), "has version 9");
    said(with(&plain, 12, &u64::MAX.to_le_bytes()), "more than 64 TiB");
    said(with(&plain, 12, &(1u64 << 37).to_le_bytes()), "ends within the disk's grain directory");
    for sectors in [0u64, 3, 1 << 20, u64::MAX] {
        said(with(&plain, 20, &sectors.to_le_bytes()), "has grains of");
    }
    for entries in [0u32, 513, u32::MAX] {
        said(with(&plain, 44, &entries.to_le_bytes()), "has grain tables of");
    }
    said(with(&plain, 36, &u64::MAX.to_le_bytes()), "the descriptor has 18446744073709551615 sectors");
    said(with(&plain, 28, &u64::MAX.to_le_bytes()), "ends within the descriptor");
    said(with(&plain, 56, &(u64::MAX - 1).to_le_bytes()), "ends within the disk's grain directory");
    said(with(&plain, 56, &u64::MAX.to_le_bytes()), "the footer of the disk is not there");
    said(with(&plain, 74, b"\n"), "transferred as text");
    said(with(&plain, 3 * 512, &u32::MAX.to_le_bytes()), "ends within a grain table");
    said(with(&plain, 4 * 512, &u32::MAX.to_le_bytes()), "ends within a grain of");
    said(with(&packed, 77, &[2]), "compressed in a way that is not known");
    let grain = 512 * (4 + 4);
    said(with(&packed, grain, &[1]), "its marker says that it is another's");
    said(with(&packed, grain + 8, &0u32.to_le_bytes()), "is compressed to 0 bytes");
    said(with(&packed, grain + 8, &u32::MAX.to_le_bytes()), "is compressed to 4294967295 bytes");
    said(with(&packed, grain + 8, &9u32.to_le_bytes()), "it ends early");
    said(with(&packed, grain + 12 + 40, &[0xff; 8]), "is damaged");
    // QEMU's own: its last grain begins at byte 67584, its directory at 13312, its descriptor at 512.
    for cut in [67_600, 67_000, 13_400, 600, 100] {
        assert!(open(&STREAM[..cut]).and_then(|disk| read(&disk, GRAIN)).is_err(), "{cut}");
    }
}

/// A small file that says that it is a large disk full of data.
#[test]
fn data_that_is_used_twice_is_refused() {
    let mut file = sparse(&pattern(), PLAIN);
    let first: [u8; 4] = file[4 * 512..4 * 512 + 4].try_into().unwrap();
    for grain in 0..16 {
        file[4 * 512 + 4 * grain..4 * 512 + 4 * grain + 4].copy_from_slice(&first);
    }
    let fault = read(&open(&file).unwrap(), GRAIN).unwrap_err();
    assert!(fault.what.contains("overlap"), "{fault}");

    let flat: Source = Arc::new(b"xxxx".repeat(256));
    let packed: Source = Arc::new(sparse(&pattern(), Form { compressed: true, ..PLAIN }));
    let open = |lines: &str| {
        let text = format!("# Disk DescriptorFile\nparentCID=ffffffff\n{lines}");
        let source: Source = Arc::new(text.into_bytes());
        Disk::open(&source, &mut |name| Ok(Arc::clone(if name == "packed" { &packed } else { &flat })))
    };
    let whole = open("RW 1 FLAT \"a\" 0\nRW 1 FLAT \"./a\" 1\n").unwrap();
    assert!(read(&whole, GRAIN).is_ok(), "two halves of one file");
    let fault = read(&open("RW 2 FLAT \"a\" 0\nRW 1 FLAT \"./a\" 1\n").unwrap(), GRAIN).unwrap_err();
    assert!(fault.what.contains("overlap"), "{fault}");
    let line = "RW 2051 SPARSE \"packed\"\n";
    assert!(read(&open(line).unwrap(), GRAIN).is_ok());
    let fault = open(&line.repeat(2)).err().unwrap();
    assert!(fault.what.contains("names the extent `packed` twice"), "{fault}");
}

#[test]
fn a_disk_without_bytes_is_refused() {
    for lines in ["", "RW 0 ZERO\n"] {
        let text = format!("# Disk DescriptorFile\nparentCID=ffffffff\n{lines}");
        let fault = open(text.as_bytes()).err().unwrap();
        assert!(fault.what.contains("the disk has no bytes"), "{fault}");
    }
    let mut file = sparse(&pattern(), PLAIN);
    file[12..20].fill(0);
    assert!(open(&file).err().unwrap().what.contains("the disk has no bytes"));
}

/// Deflate can make a thousand times as much out of a grain as a grain has.
#[test]
fn a_grain_that_is_a_bomb_is_refused() {
    let mut file = sparse(&pattern(), Form { compressed: true, ..PLAIN });
    let mut bomb = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 2 * GRAIN);
    let sector = (file.len() / 512) as u32;
    file.extend(0u64.to_le_bytes());
    file.extend((bomb.len() as u32).to_le_bytes());
    file.extend(bomb);
    file[4 * 512..4 * 512 + 4].copy_from_slice(&sector.to_le_bytes());
    let fault = read(&open(&file).unwrap(), 1 << 16).unwrap_err();
    assert!(fault.what.contains("longer than a grain"), "{fault}");
}
