//! The description of a package: the envelope of OVF 1.x and 2.x (DMTF DSP0243), as VMware's and
//! VirtualBox's exports write it.
//!
//! Elements and attributes are known by their local names. The namespaces differ between versions,
//! and what is inside of each section does not.

mod hardware;
mod xml;

use crate::Fault;
use roxmltree::{Document, Node, ParsingOptions};
use std::collections::BTreeMap;
use xml::{attribute, child, children, text_of};

/// VMware's is some 10 KiB; with EULAs in many languages a few hundred.
pub const DESCRIPTION_MAX_BYTES: u64 = 1 << 20;
/// VMware's has seven. The parser's time grows with the square of those in scope at each element.
const NAMESPACES_MAX: usize = 256;
/// Items have two or three. The parser compares each attribute of an element with each other.
const ATTRIBUTES_MAX: usize = 256;
const NODES_MAX: u32 = 400_000;
const NAMESPACES: [&str; 2] =
    ["http://schemas.dmtf.org/ovf/envelope/1", "http://schemas.dmtf.org/ovf/envelope/2"];

/// All that a package says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// By `ovf:id`.
    pub files: BTreeMap<String, File>,
    /// By `ovf:diskId`.
    pub disks: BTreeMap<String, Disk>,
    pub machines: Vec<Machine>,
    /// Sizes of the machine to choose from, by id, with their labels.
    pub configurations: Vec<(String, String)>,
    /// The one that was taken.
    pub configuration: Option<String>,
    /// What is in the description and has no effect here.
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// A name in the package.
    pub href: String,
    pub size: Option<u64>,
    pub gzip: bool,
    /// The file is in pieces of this size, `href.000000000` and so on.
    pub chunk: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    pub id: String,
    /// In bytes; `None` if it is a property that is set when the package is deployed.
    pub capacity: Option<u64>,
    /// The id of its file; without one it is empty.
    pub file: Option<String>,
    pub format: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Machine {
    /// `ovf:id`.
    pub id: String,
    pub name: Option<String>,
    /// The guest's operating system.
    pub system: Option<String>,
    /// `vmx-19`, `virtualbox-2.2`.
    pub hypervisor: Option<String>,
    pub cpus: Option<u32>,
    pub memory: Option<u64>,
    pub firmware: Firmware,
    pub secure_boot: bool,
    pub controllers: Vec<Controller>,
    pub nics: Vec<Nic>,
    /// Instances of devices, in the order in which they are to be tried.
    pub boot: Vec<String>,
    /// What it has and is not made here, in words.
    pub left_out: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    #[default]
    Bios,
    Efi,
}

/// A controller with what is at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    pub instance: String,
    pub name: String,
    pub bus: Bus,
    /// In the order of their addresses.
    pub drives: Vec<Drive>,
}

/// What a guest's driver drives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    Pvscsi,
    VirtioScsi,
    VirtioBlk,
    LsiLogic,
    LsiLogicSas,
    BusLogic,
    /// SCSI of a kind that is not known, as it is written.
    Scsi(String),
    Sata,
    Ide,
    Nvme,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    pub instance: String,
    pub name: String,
    /// `AddressOnParent`.
    pub address: Option<u32>,
    pub medium: Medium,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// The id of a disk.
    Disk(String),
    /// A CD drive, with the id of a file that is in it.
    Cd(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nic {
    pub instance: String,
    pub name: String,
    /// `ResourceSubType`, split at blanks: any of these.
    pub adapters: Vec<String>,
    pub network: Option<String>,
    pub mac: Option<String>,
}

/// Reads a description. `configuration` chooses one of its sizes; else it is the default of the package.
pub fn parse(text: &str, configuration: Option<&str>) -> Result<Envelope, Fault> {
    refuse_crowds(text)?;
    let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES_MAX, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options)
        .map_err(|error| Fault::new(format!("the description is not XML that can be read: {error}")))?;
    let root = document.root_element();
    let namespace = root.tag_name().namespace().unwrap_or_default();
    if root.tag_name().name() != "Envelope" || !NAMESPACES.contains(&namespace) {
        return Err(Fault::new(format!(
            "the description is no OVF 1 or 2: its root is `{}` of `{namespace}`",
            root.tag_name().name()
        ))
        .hint("export the VM again with a current tool"));
    }
    let mut envelope = Envelope::default();
    for file in child(root, "References").into_iter().flat_map(|node| children(node, "File")) {
        let id = required(file, "id")?;
        if envelope.files.insert(id.to_owned(), read_file(file)?).is_some() {
            return Err(Fault::new(format!("two files have the id `{id}`")));
        }
    }
    for disk in child(root, "DiskSection").into_iter().flat_map(|node| children(node, "Disk")) {
        let disk = read_disk(disk)?;
        if let Some(twice) = envelope.disks.insert(disk.id.clone(), disk) {
            return Err(Fault::new(format!("two disks have the id `{}`", twice.id)));
        }
    }
    choose(root, configuration, &mut envelope)?;
    if child(root, "SharedDiskSection").is_some() {
        envelope
            .notes
            .push("the disks that the package shares between machines are made for one each".into());
    }
    for node in root.descendants().filter(|node| node.has_tag_name_local("VirtualSystem")) {
        let machine = hardware::machine(node, &mut envelope)?;
        envelope.machines.push(machine);
    }
    if envelope.machines.is_empty() {
        return Err(Fault::new("the description has no virtual machine (VirtualSystem)"));
    }
    Ok(envelope)
}

/// Refuses what the parser would take minutes for, before it begins.
fn refuse_crowds(text: &str) -> Result<(), Fault> {
    let refused = |what: &str| Err(Fault::new(what).hint("do not trust this package"));
    if text.matches("xmlns").nth(NAMESPACES_MAX).is_some() {
        return refused("the description declares more namespaces than any has");
    }
    // Values begin with a quote, and may hold `>` (XML 1.0, 3.1); comments and the like have quotes
    // that are none.
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let end = [("<!--", "-->"), ("<![CDATA[", "]]>"), ("<?", "?>")]
            .into_iter()
            .find(|(start, _)| rest.starts_with(start))
            .map(|(_, end)| end);
        if let Some(end) = end {
            let Some(at) = rest.find(end) else { return Ok(()) };
            rest = &rest[at + end.len()..];
            continue;
        }
        let mut attributes = 0;
        loop {
            // One that does not end is the parser's to refuse, which stops at it as well.
            let Some(at) = rest.find(['"', '\'', '>']) else { return Ok(()) };
            let quote = &rest[at..=at];
            rest = &rest[at + 1..];
            if quote == ">" {
                break;
            }
            attributes += 1;
            if attributes > ATTRIBUTES_MAX {
                return refused("the description has an element with more attributes than any has");
            }
            let Some(at) = rest.find(quote) else { return Ok(()) };
            rest = &rest[at + 1..];
        }
    }
    Ok(())
}

trait LocalName {
    fn has_tag_name_local(&self, name: &str) -> bool;
}

impl LocalName for Node<'_, '_> {
    fn has_tag_name_local(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}

fn required<'a>(node: Node<'a, '_>, name: &str) -> Result<&'a str, Fault> {
    attribute(node, name).ok_or_else(|| {
        let line = node.document().text_pos_at(node.range().start).row;
        Fault::new(format!("line {line}: a {} without `{name}`", node.tag_name().name()))
    })
}

fn read_file(node: Node<'_, '_>) -> Result<File, Fault> {
    let href = required(node, "href")?.to_owned();
    let number = |name| -> Result<Option<u64>, Fault> {
        let Some(text) = attribute(node, name) else { return Ok(None) };
        let parsed = text.trim().parse();
        parsed.map(Some).map_err(|_| Fault::new(format!("file `{href}` has the {name} `{text}`")))
    };
    let gzip = match attribute(node, "compression").unwrap_or_default() {
        "" | "identity" => false,
        "gzip" => true,
        other => {
            return Err(Fault::new(format!("file `{href}` is compressed by `{other}`, which is not known")));
        }
    };
    let chunk = number("chunkSize")?.filter(|bytes| *bytes > 0);
    Ok(File { size: number("size")?, gzip, chunk, href })
}

fn read_disk(node: Node<'_, '_>) -> Result<Disk, Fault> {
    let id = required(node, "diskId")?.to_owned();
    if attribute(node, "parentRef").is_some() {
        return Err(Fault::new(format!("disk `{id}` is a difference to another (parentRef)"))
            .hint("delete the VM's snapshots and export it again"));
    }
    let unit = attribute(node, "capacityAllocationUnits").unwrap_or("byte");
    let text = required(node, "capacity")?.trim();
    let capacity = if text.starts_with("${") {
        None
    } else {
        let bytes = text.parse::<u64>().ok().and_then(|number| number.checked_mul(xml::unit(unit)?));
        Some(bytes.ok_or_else(|| Fault::new(format!("disk `{id}` has a capacity of `{text}` `{unit}`")))?)
    };
    Ok(Disk {
        capacity,
        file: attribute(node, "fileRef").map(str::to_owned),
        format: attribute(node, "format").unwrap_or_default().to_owned(),
        id,
    })
}

/// DSP0243, 9.8: machines in several sizes.
fn choose(root: Node<'_, '_>, wanted: Option<&str>, envelope: &mut Envelope) -> Result<(), Fault> {
    let mut default = None;
    for section in root.descendants().filter(|node| node.has_tag_name_local("DeploymentOptionSection")) {
        for option in children(section, "Configuration") {
            let id = required(option, "id")?.to_owned();
            let label = child(option, "Label").and_then(text_of).unwrap_or_default();
            if attribute(option, "default").is_some_and(|text| ["true", "1"].contains(&text.trim())) {
                default = Some(id.clone());
            }
            envelope.configurations.push((id, label.to_owned()));
        }
    }
    let known = |id: &str| envelope.configurations.iter().any(|(known, _)| known == id);
    if let Some(wanted) = wanted.filter(|wanted| !known(wanted)) {
        let ids: Vec<&str> = envelope.configurations.iter().map(|(id, _)| id.as_str()).collect();
        return Err(Fault::new(format!("the package has no configuration `{wanted}`")).hint(
            if ids.is_empty() {
                "it has one size: leave it out".to_owned()
            } else {
                format!("it has {}", ids.join(", "))
            },
        ));
    }
    let first = || envelope.configurations.first().map(|(id, _)| id.clone());
    envelope.configuration = wanted.map(str::to_owned).or(default).or_else(first);
    Ok(())
}
