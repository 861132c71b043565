//! `standpipe vm import`: a VM with its volumes out of another hypervisor's package.

use super::progress::Progress;
use super::show::{human, table};
use super::{Failure, Outcome, Screen};
use crate::api::NewVm;
use crate::client::{Client, segment};
use crate::controller::Applied;
use crate::import::birth::{self, Unborn};
use crate::import::draft::{self, Draft, NewMachine, NewVolume, Origin, Place, Wishes};
use crate::import::image::{Image, Slice, is_raw_name};
use crate::import::package::{HostFile, Package};
use crate::import::room::{Bounded, Room};
use crate::import::{problem, shown, shown_problem};
use crate::problem::Problem;
use crate::site::{self, Mac, Model, Site, Size, SlotId};
use crate::step::Backing;
use crate::transfer::{Target, Transferred};
use appliance::ovf::{self, Envelope, Firmware};
use appliance::vmdk::CAPACITY_MAX_BYTES;
use appliance::{Fault, Source};
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

#[derive(Debug, Args)]
pub struct VmImport {
    /// An .ova file, an .ovf file with its files beside it, or the folder of one
    #[arg(value_name = "PACKAGE")]
    pub package: PathBuf,
    /// Keep the volumes in this store; can be left out if there is one store
    #[arg(long, conflicts_with = "directory")]
    pub store: Option<String>,
    /// Keep the volumes as files in this directory, outside of any store
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// The VM's name here; of several VMs THEIRS=NAME for each. By default the
    /// one in the package, in small letters
    #[arg(long, value_name = "[THEIRS=]NAME")]
    pub name: Vec<String>,
    /// The network for a network of the package, or for all that are not named;
    /// may be repeated. By default the one of the same name
    #[arg(long, value_name = "[THEIRS=]NETWORK")]
    pub network: Vec<String>,
    /// What disks become whose controller is not served here
    #[arg(long, value_name = "MODEL")]
    pub disks: Option<DiskChoice>,
    /// What NICs become whose model is not served here
    #[arg(long, value_name = "MODEL")]
    pub nics: Option<NicChoice>,
    /// Leave MSI-X out of e1000e, vmxnet3 and pvscsi, so that they can be unplugged
    /// while the guest runs
    #[arg(long)]
    pub no_msix: bool,
    /// The address of a NIC whose address the package does not give; may be repeated.
    /// Of several VMs VM.SLOT=ADDRESS
    #[arg(long, value_name = "SLOT=ADDRESS")]
    pub mac: Vec<String>,
    /// The size of the VM, if the package has several to choose from
    #[arg(long, value_name = "ID")]
    pub configuration: Option<String>,
    /// The user that runs its QEMU and is to own the sockets
    #[arg(long)]
    pub user: Option<String>,
    /// Only say what would be made
    #[arg(long)]
    pub dry_run: bool,
}

/// Models that disks can become.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum DiskChoice {
    Pvscsi,
    VirtioScsi,
    VirtioBlk,
}

impl From<DiskChoice> for Model {
    fn from(choice: DiskChoice) -> Model {
        match choice {
            DiskChoice::Pvscsi => Model::Pvscsi,
            DiskChoice::VirtioScsi => Model::VirtioScsi,
            DiskChoice::VirtioBlk => Model::VirtioBlk,
        }
    }
}

/// Models that NICs can become.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum NicChoice {
    VirtioNet,
    Vmxnet3,
    E1000,
    #[value(name = "e1000-82545em")]
    E1000Em,
    E1000e,
    Vlance,
    Flexible,
    Am79c973,
}

impl From<NicChoice> for Model {
    fn from(choice: NicChoice) -> Model {
        match choice {
            NicChoice::VirtioNet => Model::VirtioNet,
            NicChoice::Vmxnet3 => Model::Vmxnet3,
            NicChoice::E1000 => Model::E1000,
            NicChoice::E1000Em => Model::E1000Em,
            NicChoice::E1000e => Model::E1000e,
            NicChoice::Vlance => Model::Vlance,
            NicChoice::Flexible => Model::Flexible,
            NicChoice::Am79c973 => Model::Am79c973,
        }
    }
}

/// A CD has at most 8.5 GB on two layers of a DVD; those for virtual drives may be longer.
const CD_MAX_BYTES: u64 = 64 << 30;

/// What was made, or would be.
#[derive(Serialize)]
struct Imported {
    dry_run: bool,
    vms: Vec<ImportedVm>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ImportedVm {
    name: String,
    /// The guest's operating system, as the package calls it.
    system: Option<String>,
    firmware: &'static str,
    vm: site::Vm,
    volumes: Vec<ImportedVolume>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ImportedVolume {
    name: String,
    path: PathBuf,
    size: u64,
    /// Those of them that are no holes; absent where nothing was written.
    data: Option<u64>,
}

fn pairs(list: &[String]) -> Vec<(Option<String>, String)> {
    let split = |text: &String| match text.rsplit_once('=') {
        Some((theirs, ours)) => (Some(theirs.to_owned()), ours.to_owned()),
        None => (None, text.clone()),
    };
    list.iter().map(split).collect()
}

fn wishes(args: &VmImport, site: &Site) -> Result<Wishes, Problem> {
    let mac = |text: &String| -> Result<(String, Mac), Problem> {
        let (slot, mac) = text.split_once('=').unwrap_or((text, ""));
        let mac = mac.parse().map_err(|what: String| Problem::invalid(what).at(format!("--mac {text}")));
        Ok((slot.to_owned(), mac?))
    };
    let store = |name: &str| match site.store.get(name) {
        Some(store) => Ok(Place::Store { name: name.to_owned(), directory: store.directory.clone() }),
        None => Err(Problem::not_found(format!("there is no store `{name}`"))
            .hint("a site names its stores: [store.NAME] directory = \"…\"; or give --directory")),
    };
    let mut stores = site.store.keys();
    let place = match (&args.store, &args.directory, stores.next(), stores.next()) {
        (Some(name), _, _, _) => store(name)?,
        (_, Some(directory), _, _) => Place::Directory(super::objects::absolute(directory.clone())?),
        (_, _, Some(only), None) => store(only)?,
        _ => {
            return Err(Problem::invalid("where the volumes are to be is not said")
                .hint("give --store NAME, or --directory DIRECTORY"));
        }
    };
    Ok(Wishes {
        names: pairs(&args.name),
        networks: pairs(&args.network),
        macs: args.mac.iter().map(mac).collect::<Result<_, _>>()?,
        disks: args.disks.map(Model::from),
        nics: args.nics.map(Model::from),
        user: args.user.clone(),
        place,
    })
}

pub(super) fn import(client: &Client, args: &VmImport, screen: &mut Screen<'_>) -> Outcome {
    run(client, args, screen).map_err(|failure| match failure {
        Failure::Problem(problem) => Failure::Problem(shown_problem(problem)),
        other => other,
    })
}

fn run(client: &Client, args: &VmImport, screen: &mut Screen<'_>) -> Outcome {
    let package = Package::open(&args.package)?;
    let envelope = ovf::parse(&package.description()?, args.configuration.as_deref());
    let envelope = envelope.map_err(|fault| problem(fault, package.path()))?;
    let site: Site = client.get("/v1/site")?;
    let wishes = wishes(args, &site)?;
    let mut draft = draft::draft(&envelope, &wishes, &site, package.stem())?;
    if args.no_msix {
        let slots = draft.machines.iter_mut().flat_map(|machine| machine.vm.slots.values_mut());
        slots.filter(|slot| slot.model.has_msix()).for_each(|slot| slot.msix = Some(false));
    }
    sizes_to_choose(&envelope, &mut draft);
    let import = Import { client, package, envelope, wishes };

    let fitting = if args.dry_run { None } else { import.check_manifest(&mut draft)? };
    let mut sized = import.measure(&mut draft, args.dry_run)?;
    for machine in &draft.machines {
        let _: Applied = client.post("/v1/vms?dry_run=true", &import.new_vm(machine, &sized))?;
    }
    if args.dry_run {
        return import.show(draft, sized, true, screen);
    }
    if let Some(fitting) = fitting {
        import.note_unchecked(&fitting, &mut draft);
    }
    let unborn = import.write(&draft, &mut sized)?;
    import.bring_about(&draft, &sized, unborn)?;
    import.show(draft, sized, false, screen)
}

fn sizes_to_choose(envelope: &Envelope, draft: &mut Draft) {
    if let Some(taken) = &envelope.configuration {
        let list: Vec<String> =
            envelope.configurations.iter().map(|(id, label)| format!("{id} ({label})")).collect();
        draft.notes.push(format!(
            "the package has several sizes to choose from with --configuration: {}; this is {taken}",
            list.join(", ")
        ));
    }
}

/// What is known of a volume's bytes.
struct Sized {
    /// Absent: there are none yet, all of it is a hole; or they are compressed and were not looked at.
    image: Option<Image>,
    size: u64,
    moved: Option<Transferred>,
}

/// By the volume's name.
type Sizes = BTreeMap<String, Sized>;

struct Import<'a> {
    client: &'a Client,
    package: Package,
    envelope: Envelope,
    wishes: Wishes,
}

impl Import<'_> {
    /// Opens the disks and finds their sizes.
    fn measure(&self, draft: &mut Draft, dry_run: bool) -> Result<Sizes, Problem> {
        let mut sizes = Sizes::new();
        for machine in &mut draft.machines {
            for volume in &machine.volumes {
                let sized = self.open(volume, &mut machine.notes, dry_run)?;
                sizes.insert(volume.name.clone(), sized);
            }
        }
        Ok(sizes)
    }

    fn open(&self, volume: &NewVolume, notes: &mut Vec<String>, dry_run: bool) -> Result<Sized, Problem> {
        let (declared, file_id, format) = match &volume.from {
            Origin::Disk(id) => match self.envelope.disks.get(id) {
                Some(disk) => (disk.capacity, disk.file.as_deref(), disk.format.as_str()),
                None => {
                    return Err(problem(Fault::new(format!("there is no disk `{id}`")), self.package.path()));
                }
            },
            Origin::File(id) => (None, Some(id.as_str()), ""),
        };
        // What guests see are whole blocks.
        let block = if volume.is_cd { 2048 } else { 512 };
        let whole =
            |bytes: u64| bytes.checked_next_multiple_of(block).filter(|bytes| *bytes <= CAPACITY_MAX_BYTES);
        let too_large = || problem(Fault::new(format!("{} is too large", volume.name)), self.package.path());
        let declared = declared.map(|bytes| whole(bytes).ok_or_else(too_large)).transpose()?;
        let Some(file_id) = file_id else {
            let size = declared.ok_or_else(|| {
                problem(Fault::new("a disk has neither a file nor a capacity"), self.package.path())
            })?;
            return Ok(Sized { image: None, size, moved: None });
        };
        let file = self.envelope.files.get(file_id).ok_or_else(|| {
            problem(
                Fault::new(format!("there is no file `{file_id}` for {}", volume.name)),
                self.package.path(),
            )
        })?;
        let place = self.package.place(&file.href);
        let mut source = self.package.open_file(file).map_err(|fault| problem(fault, &place))?;
        if file.gzip {
            let limit = match (volume.is_cd, declared) {
                (false, Some(bytes)) => bytes + bytes / 8 + (64 << 20),
                _ => CD_MAX_BYTES,
            };
            if dry_run {
                let size = match declared {
                    Some(size) => size,
                    None => self.length_unpacked(&source, limit, volume, &place, notes)?,
                };
                return Ok(Sized { image: None, size: whole(size).ok_or_else(too_large)?, moved: None });
            }
            source = self.unpacked(&source, limit, &place)?;
        }
        let name = if file.gzip { file.href.strip_suffix(".gz").unwrap_or(&file.href) } else { &file.href };
        let raw = volume.is_cd || is_raw_name(name) || format.to_ascii_lowercase().contains("raw");
        let folder = file.href.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut find = |name: &str| match folder {
            "" => self.package.find(name),
            folder => self.package.find(&format!("{folder}/{name}")),
        };
        let image = Image::open(source, raw, &mut find).map_err(|fault| problem(fault, &place))?;
        if image.is_unclean() {
            notes.push(format!(
                "{}: the disk was not closed in order: let its guest check its file systems",
                volume.name
            ));
        }
        let size = whole(image.length()).ok_or_else(too_large)?;
        if let Some(declared) = declared.filter(|declared| *declared != size) {
            notes.push(format!(
                "{}: the description says {}, and the disk has {}: the larger was taken",
                volume.name,
                human(declared),
                human(size)
            ));
        }
        Ok(Sized { size: size.max(declared.unwrap_or(0)), image: Some(image), moved: None })
    }

    /// A compressed file's bytes, in a file without a name.
    fn unpacked(&self, source: &Source, limit: u64, place: &str) -> Result<Source, Problem> {
        let folder = self.wishes.place.directory();
        let mut scratch = birth::scratch(folder)?;
        let mut room = Room::on(folder);
        let mut bounded = Bounded { room: &mut room, into: &mut scratch };
        appliance::unpack(source.as_ref(), limit, &mut bounded).map_err(|fault| problem(fault, place))?;
        let file = HostFile::of(scratch);
        let file = file
            .map_err(|error| problem(Fault::new(format!("cannot read what was unpacked: {error}")), place))?;
        Ok(Arc::new(file))
    }

    /// How much comes out of a compressed file whose size is not said; nothing is written.
    fn length_unpacked(
        &self,
        source: &Source,
        limit: u64,
        volume: &NewVolume,
        place: &str,
        notes: &mut Vec<String>,
    ) -> Result<u64, Problem> {
        let unpacked = appliance::unpack(source.as_ref(), limit, &mut std::io::sink());
        let bytes = unpacked.map_err(|fault| problem(fault, place))?;
        if !volume.is_cd {
            notes.push(format!(
                "{}: its size is not said and known when it is imported; its file has {} unpacked",
                volume.name,
                human(bytes)
            ));
        }
        Ok(bytes)
    }

    fn new_vm(&self, machine: &NewMachine, sizes: &Sizes) -> NewVm {
        let volume = |volume: &NewVolume| {
            let size = sizes.get(&volume.name).map_or(0, |sized| sized.size);
            (volume.name.clone(), self.wishes.place.volume(volume, size))
        };
        NewVm {
            name: machine.name.clone(),
            vm: machine.vm.clone(),
            disks: machine.volumes.iter().map(volume).collect(),
        }
    }

    /// Nothing is written, and nothing unpacked, before every file is what the manifest says. Returns the
    /// names of those that are, if there is a manifest.
    fn check_manifest(&self, draft: &mut Draft) -> Result<Option<BTreeSet<String>>, Problem> {
        let Some(digests) = self.package.manifest()? else {
            draft
                .notes
                .push("the package has no manifest: nothing says whether its files came over whole".into());
            return Ok(None);
        };
        if self.package.has_certificate()? {
            draft
                .notes
                .push("the package is signed; its manifest was checked, and its signature was not".into());
        }
        let mut fitting = BTreeSet::new();
        let mut progress = Progress::new("checking");
        let mut problems = Vec::new();
        for (name, digest) in &digests {
            let place = self.package.place(name);
            let missing = || {
                Fault::new("the manifest names the file, and the package does not have it")
                    .hint("it was left behind when the package was copied")
            };
            let found = self.package.look(name).and_then(|found| found.ok_or_else(missing));
            let checked = found.and_then(|(real, source)| {
                let length = source.length();
                let fits = digest.fits(source.as_ref(), |done| progress.at(done, Some(length)))?;
                fitting.insert(real);
                Ok(fits)
            });
            match checked {
                Ok(true) => {}
                Ok(false) => problems.push(
                    Problem::invalid(format!(
                        "the file is not the one of the manifest: its {} is another",
                        digest.algorithm
                    ))
                    .at(place)
                    .hint("it was damaged or changed on its way: copy or export the package again"),
                ),
                Err(fault) => problems.push(problem(fault, place)),
            }
        }
        Problem::from_list(problems).map_or(Ok(Some(fitting)), Err)
    }

    /// Every file that was opened counts: the description, chunks, and what a disk's descriptor names.
    fn note_unchecked(&self, fitting: &BTreeSet<String>, draft: &mut Draft) {
        let served = self.package.served();
        let unchecked: Vec<&str> = served.difference(fitting).map(String::as_str).collect();
        if !unchecked.is_empty() {
            draft.notes.push(format!("the manifest says nothing of {}", unchecked.join(", ")));
        }
    }

    /// Writes every volume into a file that has no name yet.
    fn write(&self, draft: &Draft, sizes: &mut Sizes) -> Result<Vec<Unborn>, Problem> {
        let total = sizes.values().map(|sized| sized.size).sum();
        let mut progress = Progress::new("importing");
        let mut done = 0;
        let mut unborn = Vec::new();
        let mut room = Room::on(self.wishes.place.directory());
        for volume in draft.machines.iter().flat_map(|machine| &machine.volumes) {
            let Some(sized) = sizes.get_mut(&volume.name) else { continue };
            let file = Unborn::create(&volume.path, sized.size)?;
            let mut target = Target::over(file.file()?, file.path(), sized.size);
            if let Some(image) = &sized.image {
                let place = self.package.path().display().to_string();
                let take = |slice: Slice<'_>| {
                    match slice {
                        Slice::Data(bytes) => {
                            room.take(bytes.len() as u64).map_err(|error| room.problem(&error))?;
                            target.write(bytes)?;
                            done += bytes.len() as u64;
                        }
                        Slice::Hole(bytes) => {
                            target.hole(bytes)?;
                            done += bytes;
                        }
                    }
                    progress.at(done, Some(total));
                    Ok(())
                };
                image.each(take, &format!("{place} ({})", volume.name))?;
            }
            sized.moved = Some(target.finish()?);
            unborn.push(file);
        }
        Ok(unborn)
    }

    /// Names the files and tells the daemon. All of it, or as far as that can be said none of it.
    fn bring_about(&self, draft: &Draft, sizes: &Sizes, unborn: Vec<Unborn>) -> Result<(), Problem> {
        let mut named = Vec::new();
        for file in unborn {
            let path = file.path().to_owned();
            if let Err(problem) = file.publish() {
                remove(&named);
                return Err(problem);
            }
            named.push(path);
        }
        for machine in &draft.machines {
            let made: Result<Applied, Problem> = self.client.post("/v1/vms", &self.new_vm(machine, sizes));
            if let Err(problem) = made {
                return Err(self.take_back(draft, &named, problem));
            }
        }
        Ok(())
    }

    /// What the daemon has of it goes, and then the files, if the daemon says that it uses none of them.
    /// Somebody else may have made a VM or a volume of the same name meanwhile: only what has our files
    /// and our slots is ours.
    fn take_back(&self, draft: &Draft, named: &[PathBuf], mut problem: Problem) -> Problem {
        let site = || -> Result<Site, Problem> { self.client.get("/v1/site") };
        let at = |site: &Site, name: &str| match site.backing(name) {
            Some(Backing::Path { path }) => Some(path),
            _ => None,
        };
        if let Ok(site) = site() {
            for machine in &draft.machines {
                let slots = site.vm.get(&machine.name).map(|vm| &vm.slots);
                let mut slots = slots.into_iter().flatten().peekable();
                if slots.peek().is_some()
                    && slots.all(|(name, slot)| machine.vm.slots.get(name) == Some(slot))
                {
                    self.delete(&format!("/v1/vms/{}", segment(&machine.name)));
                }
                for volume in &machine.volumes {
                    if at(&site, &volume.name).as_ref() == Some(&volume.path) {
                        self.delete(&format!("/v1/disks/{}", segment(&volume.name)));
                    }
                }
            }
        }
        let is_used = |site: &Site| {
            site.disk.keys().filter_map(|name| at(site, name)).any(|path| named.contains(&path))
        };
        if site().is_ok_and(|site| !is_used(&site)) {
            remove(named);
        } else {
            problem.hint = Some(format!(
                "see with `standpipe vm list` and `standpipe disk list` what was made; the volumes are whole, in {}",
                self.wishes.place.directory().display()
            ));
        }
        problem
    }

    /// Whether it went is asked afterwards.
    fn delete(&self, path: &str) {
        let _: Result<Applied, Problem> = self.client.delete(path);
    }

    fn show(&self, draft: Draft, mut sizes: Sizes, dry_run: bool, screen: &mut Screen<'_>) -> Outcome {
        let volume = |volume: NewVolume, sizes: &mut Sizes| {
            let sized = sizes.remove(&volume.name);
            ImportedVolume {
                size: sized.as_ref().map_or(0, |sized| sized.size),
                data: sized.and_then(|sized| sized.moved).map(|moved| moved.data),
                name: volume.name,
                path: volume.path,
            }
        };
        let mut vms = Vec::new();
        for machine in draft.machines {
            vms.push(ImportedVm {
                volumes: machine.volumes.into_iter().map(|one| volume(one, &mut sizes)).collect(),
                name: machine.name,
                system: machine.system.as_deref().map(shown),
                firmware: match machine.firmware {
                    Firmware::Bios => "bios",
                    Firmware::Efi => "efi",
                },
                vm: machine.vm,
                notes: machine.notes.iter().map(|note| shown(note)).collect(),
            });
        }
        let notes = draft.notes.iter().map(|note| shown(note)).collect();
        let imported = Imported { dry_run, vms, notes };
        screen.show(&imported, print)
    }
}

/// The files are ours, and in no site.
fn remove(files: &[PathBuf]) {
    for file in files {
        let _ = std::fs::remove_file(file);
    }
}

fn print(out: &mut dyn Write, imported: &Imported) -> std::io::Result<()> {
    for vm in &imported.vms {
        let mut facts = vec![vm.system.clone().unwrap_or_else(|| "system not said".into())];
        facts.extend(vm.vm.cpus.map(|cpus| if cpus == 1 { "1 CPU".into() } else { format!("{cpus} CPUs") }));
        facts.extend(vm.vm.memory.map(|Size(bytes)| format!("{} of memory", human(bytes))));
        facts.push(if vm.firmware == "efi" { "UEFI".into() } else { "BIOS".into() });
        let verb = if imported.dry_run { "would make" } else { "made" };
        writeln!(out, "{verb} VM {}: {}\n", vm.name, facts.join(", "))?;
        let rows: Vec<Vec<String>> = vm.vm.slots.iter().map(|(name, slot)| row(vm, name, slot)).collect();
        table(out, &["SLOT", "MODEL", "BOOT", "WHAT"], &rows)?;
        let rows: Vec<Vec<String>> = vm
            .volumes
            .iter()
            .map(|volume| {
                let data = volume.data.map_or("-".into(), human);
                vec![volume.name.clone(), human(volume.size), data, volume.path.display().to_string()]
            })
            .collect();
        if !rows.is_empty() {
            writeln!(out)?;
            table(out, &["VOLUME", "SIZE", "DATA", "FILE"], &rows)?;
        }
        writeln!(out)?;
        vm.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    }
    imported.notes.iter().try_for_each(|note| writeln!(out, "note: {note}"))?;
    if !imported.dry_run {
        for vm in &imported.vms {
            writeln!(
                out,
                "next: qemu-system-x86_64 -machine q35 -accel kvm $(standpipe qemu-args {})",
                vm.name
            )?;
        }
    }
    Ok(())
}

fn row(vm: &ImportedVm, name: &str, slot: &site::Slot) -> Vec<String> {
    let what = match &slot.network {
        Some(network) => {
            let mac = vm.vm.mac(&SlotId::new(&vm.name, name));
            format!("{network} {}", mac.map_or(String::new(), |mac| mac.to_string()))
        }
        None => slot.luns().map(|(lun, volume)| format!("{lun}={volume}")).collect::<Vec<_>>().join(" "),
    };
    let boot = slot.boot_index.map_or("-".into(), |index| index.to_string());
    vec![name.to_owned(), slot.model.to_string(), boot, what]
}
