//! Packages of other hypervisors: disks, descriptions, archives and manifests that a stranger wrote.

use appliance::vmdk::{CAPACITY_MAX_BYTES, Cursor, Disk, Piece};
use appliance::{Fault, Source, archive, manifest, ovf, unpack};
use control::import::draft::{Origin, Place, Wishes, draft};
use control::import::package::Package;
use control::site::{Model, Network, Site, is_vm_name};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A hostile disk of 64 TiB may have holes of a sector each: so many pieces are enough to have been
/// everywhere in a file of 4 KiB.
const PIECES_MAX: usize = 4096;
const BUFFER_BYTES: usize = 3000;

/// A disk. Its first byte says what it finds when it asks for other files; the rest is the file.
pub fn vmdk(input: &[u8]) {
    let Some((choice, file)) = input.split_first() else { return };
    let main: Source = Arc::new(file.to_vec());
    let mut asked = 0;
    let found = Disk::open(&main, &mut |_| {
        asked += 1;
        match (choice % 4, asked) {
            (0, _) => Err(Fault::new("it is not there")),
            // The same file again, which is at once its own extent; and a part of it.
            (1, _) | (2, 1) => Ok(Arc::clone(&main)),
            _ => Ok(Arc::new(file[file.len() / 2..].to_vec())),
        }
    });
    let Ok(disk) = found else { return };
    assert!(disk.capacity() <= CAPACITY_MAX_BYTES && disk.capacity() % 512 == 0);
    let mut cursor = Cursor::default();
    let mut buffer = vec![0xa5; BUFFER_BYTES];
    let mut at = 0;
    for _ in 0..PIECES_MAX {
        match disk.next(&mut cursor, &mut buffer) {
            Ok(Some(Piece::Data(bytes))) => {
                assert!(bytes > 0 && bytes <= BUFFER_BYTES);
                at += bytes as u64;
            }
            Ok(Some(Piece::Hole(bytes))) => {
                assert!(bytes > 0);
                at += bytes;
            }
            Ok(None) => {
                assert_eq!(at, disk.capacity(), "all of it was read");
                return;
            }
            Err(_) => return,
        }
        assert!(at <= disk.capacity());
    }
}

/// A description, an archive, a manifest, a compressed file or all of a package, as the first byte says.
pub fn package(input: &[u8]) {
    let Some((choice, bytes)) = input.split_first() else { return };
    let text = || String::from_utf8_lossy(bytes).into_owned();
    match choice % 5 {
        0 => {
            let Ok(envelope) = ovf::parse(&text(), None) else { return };
            for controller in envelope.machines.iter().flat_map(|machine| &machine.controllers) {
                for drive in &controller.drives {
                    if let ovf::Medium::Disk(id) = &drive.medium {
                        assert!(envelope.disks.contains_key(id), "a disk that is not there was let pass");
                    }
                }
            }
            drafted(&envelope, choice / 5);
        }
        1 => {
            let bytes = bytes.to_vec();
            for entry in archive::index(&bytes).unwrap_or_default() {
                let end = entry.from.checked_add(entry.length);
                assert!(end.is_some_and(|end| end <= bytes.len() as u64), "a file outside of its archive");
            }
        }
        2 => drop(manifest::parse(&text())),
        3 => {
            const BYTES_MAX: u64 = 100_000;
            let mut out = Vec::new();
            let unpacked = unpack(&bytes.to_vec(), BYTES_MAX, &mut out);
            assert!(out.len() as u64 <= BYTES_MAX);
            assert!(unpacked.is_err() || unpacked == Ok(out.len() as u64));
        }
        _ => drop(opened(bytes, choice / 5)),
    }
}

/// What is between the files of a package: no text has it.
const BETWEEN: u8 = 0xff;

/// An archive with a description, a manifest, and then files, each behind its name.
fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut parts = bytes.split(|byte| *byte == BETWEEN);
    let mut files = vec![("v.ovf".into(), parts.next()), ("v.mf".into(), parts.next())];
    while let Some(name) = parts.next() {
        files.push((String::from_utf8_lossy(&name[..name.len().min(30)]), parts.next()));
    }
    let mut whole = Vec::new();
    for (name, bytes) in files.iter().filter_map(|(name, bytes)| Some((name, (*bytes)?))) {
        whole.extend(header(name, b'0', bytes.len()));
        whole.extend(bytes);
        whole.resize(whole.len().next_multiple_of(512), 0);
    }
    whole.resize(whole.len() + 1024, 0);
    whole
}

/// The names of an archive's files that were given out.
fn opened(bytes: &[u8], choice: u8) -> Option<Vec<String>> {
    let bytes = packed(bytes);
    let whole: Source = Arc::new(bytes.clone());
    let package = Package::archive(Path::new("a.ova"), whole).ok()?;
    let _ = package.has_certificate();
    let manifest = package.manifest().ok().flatten().unwrap_or_default();
    let envelope = package.description().ok().and_then(|text| ovf::parse(&text, None).ok())?;
    for file in envelope.files.values() {
        if let Ok(source) = package.open_file(file) {
            assert!(file.size.is_none_or(|size| size == source.length()));
            assert!(source.length() <= bytes.len() as u64, "a file is longer than its package");
        }
    }
    manifest.keys().for_each(|name| drop(package.find(name)));
    drafted(&envelope, choice);
    let names = package.served();
    assert!(names.iter().all(|name| !name.split('/').any(|part| part == "..")), "a name leads out");
    Some(names.into_iter().collect())
}

/// What becomes of the machines is something that can be written to a site. Returns how many there are.
fn drafted(envelope: &ovf::Envelope, choice: u8) -> usize {
    let mut site = Site::default();
    site.network.insert("lan".into(), Network::default());
    let asked = choice % 2 != 0;
    let wishes = Wishes {
        names: Vec::new(),
        networks: vec![(None, "lan".into())],
        macs: Vec::new(),
        disks: asked.then_some(if choice % 4 == 1 { Model::VirtioBlk } else { Model::Pvscsi }),
        nics: asked.then_some(Model::Vmxnet3),
        user: None,
        place: Place::Directory(PathBuf::from("/nowhere")),
    };
    let Ok(draft) = draft(envelope, &wishes, &site, "stem") else { return 0 };
    for machine in &draft.machines {
        assert!(is_vm_name(&machine.name), "{}", machine.name);
        for volume in &machine.volumes {
            assert_eq!(volume.path, Path::new("/nowhere").join(format!("{}.raw", volume.name)));
            if let Origin::Disk(id) = &volume.from {
                assert!(envelope.disks.contains_key(id), "a volume of a disk that is not there");
            }
        }
        let has = |name: &str| machine.volumes.iter().any(|volume| volume.name == name);
        for slot in machine.vm.slots.values() {
            assert!(slot.volume.as_deref().is_none_or(has) && slot.luns().all(|(_, name)| has(name)));
        }
    }
    draft.machines.len()
}

const DESCRIPTOR: &str = "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\nRW 6 SPARSE \"d.vmdk\"\nddb.adapterType = \"lsilogic\"\n";

/// Six sectors in grains of one, in tables of four; the third is compressed or plain.
fn sparse(compressed: bool, at_end: bool) -> Vec<u8> {
    let mut file = vec![0u8; 5 * 512];
    file[..4].copy_from_slice(b"KDMV");
    file[4] = 1;
    file[8..12].copy_from_slice(&(7u32 | if compressed { 3 << 16 } else { 0 }).to_le_bytes());
    for (at, value) in [(12, 6u64), (20, 1), (28, 1), (36, 1), (56, 2)] {
        file[at..at + 8].copy_from_slice(&value.to_le_bytes());
    }
    file[44] = 4;
    file[73..77].copy_from_slice(b"\n \r\n");
    file[77] = u8::from(compressed);
    file[512..512 + DESCRIPTOR.len()].copy_from_slice(DESCRIPTOR.as_bytes());
    file[1024] = 3;
    file[3 * 512..3 * 512 + 12].copy_from_slice(&[0, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0]);
    if compressed {
        // 512 times the same byte (RFC 1951, fixed codes), as zlib packs it.
        let packed = [0x78, 0xda, 0x4b, 0x4c, 0x1c, 0x05, 0x23, 0x19, 0x00, 0x00, 0x6e, 0x5e, 0xc2, 0x01];
        let grain = &mut file[4 * 512..];
        grain[..8].copy_from_slice(&2u64.to_le_bytes());
        grain[8..12].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        grain[12..12 + packed.len()].copy_from_slice(&packed);
    }
    if at_end {
        let footer = file[..512].to_vec();
        file[56..64].fill(0xff);
        file.extend(footer);
        file.extend([0; 512]);
    }
    file
}

pub fn disk_seeds() -> Vec<Vec<u8>> {
    let with = |choice: u8, file: &[u8]| [&[choice][..], file].concat();
    let text = format!("{DESCRIPTOR}RW 3 FLAT \"d-flat.vmdk\" 1\nRW 2 ZERO\nRW 1 VMFS \"e.vmdk\"\n");
    let mut seeds = vec![with(1, text.as_bytes()), with(3, text.as_bytes()), with(0, b"COWD")];
    for compressed in [false, true] {
        for at_end in [false, true] {
            seeds.push(with(0, &sparse(compressed, at_end)));
        }
    }
    seeds
}

const DESCRIPTION: &str = r#"<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1"><References><File ovf:href="a" ovf:id="f" ovf:size="9" ovf:chunkSize="4"/></References><DiskSection><Disk ovf:capacity="8" ovf:capacityAllocationUnits="byte * 2^20" ovf:diskId="d" ovf:fileRef="f"/></DiskSection><VirtualSystem ovf:id="v"><Name>n</Name><VirtualHardwareSection><Item><InstanceID>1</InstanceID><ResourceType>3</ResourceType><VirtualQuantity>2</VirtualQuantity></Item><Item><AllocationUnits>byte * 2^20</AllocationUnits><InstanceID>2</InstanceID><ResourceType>4</ResourceType><VirtualQuantity>64</VirtualQuantity></Item><Item><InstanceID>3</InstanceID><ResourceSubType>lsilogic VirtualSCSI</ResourceSubType><ResourceType>6</ResourceType></Item><Item><AddressOnParent>0</AddressOnParent><HostResource>ovf:/disk/d</HostResource><InstanceID>4</InstanceID><Parent>3</Parent><ResourceType>17</ResourceType></Item><Item><HostResource>ovf:/file/f</HostResource><InstanceID>5</InstanceID><Parent>3</Parent><ResourceType>15</ResourceType></Item><Item><Connection>lan</Connection><InstanceID>6</InstanceID><ResourceSubType>VmxNet3</ResourceSubType><ResourceType>10</ResourceType></Item></VirtualHardwareSection></VirtualSystem></Envelope>"#;

/// A ustar header (POSIX.1-2001) with its sum.
fn header(name: &str, kind: u8, size: usize) -> Vec<u8> {
    let mut block = vec![0u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[148..156].fill(b' ');
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

pub fn package_seeds() -> Vec<Vec<u8>> {
    let with = |choice: u8, bytes: &[u8]| [&[choice][..], bytes].concat();
    let mut archive = header("././@LongLink", b'L', 6);
    archive.extend([&b"./long"[..], &[0; 506]].concat());
    archive.extend(header("short", b'0', 3));
    archive.extend([&b"abc"[..], &[0; 509]].concat());
    archive.extend(header("pax", b'x', 12));
    archive.extend([&b"12 path=abc\n"[..], &[0; 500]].concat());
    archive.extend(header("b", b'0', 0));
    archive.extend([0; 1024]);
    let manifest = "SHA1(a.000000000)= 0000000000000000000000000000000000000000\n";
    let files = ["a.000000000", "1234", "a.000000001", "5678", "a.000000002", "9"];
    let whole = [&[DESCRIPTION, manifest][..], &files].concat();
    let whole: Vec<&[u8]> = whole.into_iter().map(str::as_bytes).collect();
    vec![
        with(5, DESCRIPTION.as_bytes()),
        with(5, DESCRIPTION.replace("envelope/1", "envelope/2").as_bytes()),
        with(1, &archive),
        with(2, b"SHA1(a)= a9993e364706816aba3e25717850c26c9cd0d89d\n"),
        // gzip -9 of "abc" (RFC 1952).
        with(
            3,
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, 0x4b, 0x4c, 0x4a, 6, 0, 0xc2, 0x41, 0x24, 0x35, 3, 0, 0, 0],
        ),
        with(9, &whole.join(&BETWEEN)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed that is refused at its first byte leads nowhere.
    #[test]
    fn seeds_lead_deep() {
        for seed in disk_seeds().iter().filter(|seed| seed[1..5] == *b"KDMV" && seed[0] == 0) {
            let main: Source = Arc::new(seed[1..].to_vec());
            let disk = Disk::open(&main, &mut |_| Err(Fault::new("none"))).unwrap();
            let mut cursor = Cursor::default();
            let mut buffer = [0; 512];
            let mut pieces = Vec::new();
            while let Some(piece) = disk.next(&mut cursor, &mut buffer).unwrap() {
                pieces.push(piece);
            }
            assert_eq!(pieces, [Piece::Hole(1024), Piece::Data(512), Piece::Hole(512), Piece::Hole(1024)]);
        }
        let seeds = package_seeds();
        for description in &seeds[..2] {
            let envelope = ovf::parse(std::str::from_utf8(&description[1..]).unwrap(), None).unwrap();
            assert_eq!(drafted(&envelope, description[0] / 5), 1);
        }
        let names: Vec<String> =
            archive::index(&seeds[2][1..].to_vec()).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["long", "abc"]);
        let mut out = Vec::new();
        assert_eq!(unpack(&seeds[4][1..].to_vec(), 9, &mut out), Ok(3));
        let served = opened(&seeds[5][1..], 1).unwrap();
        assert_eq!(served, ["a.000000000", "a.000000001", "a.000000002", "v.ovf"]);
    }
}
