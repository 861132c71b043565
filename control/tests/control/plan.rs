//! Plans against an engine that refuses what is out of order.

use crate::engine::{FakeEngine, World};
use proptest::prelude::*;
use standpipe_control::site::{
    Doorbells, LunAddress, Mac, Model, Naa, Network, PathState, Portal, Site, Size, Slot, SlotId, SlotLuns,
    Store, Target, Uplink, Vm, Volume,
};
use standpipe_control::{Controller, Kind, plan, store};
use std::collections::BTreeMap;
use std::sync::Arc;

const VOLUMES: [&str; 4] = ["a", "b", "c", "d"];
const NETWORKS: [&str; 3] = ["lan", "wan", "san"];
const NICS: [Model; 3] = [Model::VirtioNet, Model::Vmxnet3, Model::E1000e];

/// What one object of a site may be; `None` leaves it out.
#[derive(Debug, Clone)]
struct Draw {
    volumes: Vec<Option<(bool, u64)>>,
    networks: Vec<Option<(u32, Option<u16>)>>,
    /// By volume: the slot that has it, and its LUN.
    places: Vec<(u8, u16)>,
    blk: Option<u8>,
    queues: u16,
    user: Option<u8>,
    nics: Vec<(u8, u16, u8)>,
    lanes: u32,
    exports: Exports,
}

#[derive(Debug, Clone)]
struct Exports {
    /// By volume: whether it is shared, a second slot for it, and its target.
    shared: Vec<DrawnSharing>,
    /// By portal: which address.
    portals: Vec<Option<u16>>,
    /// By target: which name, which portals with which paths, sessions, and who is let in.
    targets: Vec<Option<DrawnTarget>>,
}

type DrawnSharing = (bool, u8, u16, Option<(u8, u16)>);
type DrawnTarget = (u8, Vec<Option<PathState>>, u16, bool);

fn exports() -> impl Strategy<Value = Exports> {
    let path = prop::sample::select(vec![PathState::Active, PathState::NonOptimized, PathState::Standby]);
    let shared = (any::<bool>(), 0..4u8, 0..3u16, prop::option::of((0..3u8, 0..3u16)));
    let target = (0..4u8, prop::collection::vec(prop::option::of(path), 3), 1..3u16, any::<bool>());
    (
        prop::collection::vec(shared, 4),
        prop::collection::vec(prop::option::of(0..4u16), 3),
        prop::collection::vec(prop::option::of(target), 3),
    )
        .prop_map(|(shared, portals, targets)| Exports { shared, portals, targets })
}

fn draw() -> impl Strategy<Value = Draw> {
    (
        prop::collection::vec(prop::option::of((prop::bool::weighted(0.1), 1..4u64)), 4),
        prop::collection::vec(prop::option::of((1400..1403u32, prop::option::of(1..3u16))), 3),
        prop::collection::vec((0..4u8, 0..3u16), 4),
        prop::option::of(0..4u8),
        1..3u16,
        prop::option::of(0..2u8),
        prop::collection::vec((0..4u8, 1..3u16, 0..2u8), 2),
        1..3u32,
        exports(),
    )
        .prop_map(|(volumes, networks, places, blk, queues, user, nics, lanes, exports)| Draw {
            volumes,
            networks,
            places,
            blk,
            queues,
            user,
            nics,
            lanes,
            exports,
        })
}

/// A site that is right by construction. The identity of a volume is a
/// function of its name, as it would be of its record.
fn site(draw: &Draw, more_blocks: u64) -> Site {
    let mut site = Site::default();
    site.server.lanes = Some(draw.lanes);
    let directory = "/volumes".into();
    site.store.insert("local".to_owned(), Store { directory });
    for (index, name) in VOLUMES.iter().enumerate() {
        if let Some((read_only, blocks)) = draw.volumes[index] {
            let volume = Volume {
                store: Some("local".to_owned()),
                size: Some(Size((blocks + more_blocks) * 4096)),
                read_only,
                shared: draw.exports.shared[index].0 && draw.blk != Some(index as u8),
                naa: Some(Naa::from_random([index as u8; 16])),
                ..Volume::default()
            };
            site.disk.insert((*name).to_owned(), volume);
        }
    }
    for (index, name) in NETWORKS.iter().enumerate() {
        if let Some((mtu, tap)) = draw.networks[index] {
            let mut network = Network { mtu, ..Network::default() };
            let taken = |site: &Site, tap: &str| {
                let networks = site.network.values();
                networks.flat_map(|n| n.uplink.values()).any(|u| u.tap == tap)
            };
            // Few names, so that TAP devices wander between networks.
            if let Some(tap) = tap.map(|tap| format!("tap{tap}"))
                && !taken(&site, &tap)
            {
                let uplink = Uplink { tap, queues: 1, vlan: Some(draw.queues), trunk: None, native: None };
                network.uplink.insert("host".to_owned(), uplink);
            }
            site.network.insert((*name).to_owned(), network);
        }
    }
    let mut vms: BTreeMap<String, Vm> = BTreeMap::new();
    let mut vm = |index: u8| -> String {
        let name = format!("vm{index}");
        vms.entry(name.clone())
            .or_insert_with(|| Vm { user: draw.user.map(|user| format!("user{user}")), ..Vm::default() });
        name
    };
    let mut slots: Vec<(String, String, Slot)> = Vec::new();
    let mut scsi: BTreeMap<u8, SlotLuns> = BTreeMap::new();
    // A controller with pvscsi has LUN 0 of each target only.
    let at = |owner: u8, lun: u16| LunAddress::new(if owner == 1 { 0 } else { lun as u8 % 2 }, lun);
    for (index, name) in VOLUMES.iter().enumerate() {
        if !site.disk.contains_key(*name) {
            continue;
        }
        if draw.blk == Some(index as u8) {
            let mut slot = Slot::new(Model::VirtioBlk);
            slot.volume = Some((*name).to_owned());
            slots.push((vm(0), "disk1".to_owned(), slot));
        } else if draw.places[index].0 < 2 {
            let (owner, lun) = draw.places[index];
            let luns = scsi.entry(owner).or_default();
            luns.0.entry(at(owner, lun)).or_insert_with(|| (*name).to_owned());
        }
        let (_, owner, lun, _) = draw.exports.shared[index];
        if site.disk[*name].shared && owner < 3 {
            let luns = scsi.entry(owner).or_default();
            if !luns.0.values().any(|there| there == name) {
                luns.0.entry(at(owner, lun)).or_insert_with(|| (*name).to_owned());
            }
        }
    }
    for (owner, luns) in scsi {
        let mut slot = Slot::new(if owner == 1 { Model::Pvscsi } else { Model::VirtioScsi });
        if slot.model == Model::VirtioScsi {
            slot.queues = draw.queues;
        }
        slot.volumes = Some(luns);
        slots.push((vm(owner), "disk0".to_owned(), slot));
    }
    for (index, (network, vlan, mac)) in draw.nics.iter().enumerate() {
        let name = NETWORKS.get(usize::from(*network)).copied().unwrap_or("none");
        if site.network.contains_key(name) {
            let mut slot = Slot::new(NICS[usize::from(*mac) % NICS.len()]);
            slot.network = Some(name.to_owned());
            slot.vlan = Some(*vlan);
            slot.mac = Some(Mac([2, 0, 0, 0, *mac, index as u8]));
            slots.push((vm(index as u8), "nic0".to_owned(), slot));
        }
    }
    for (vm, name, slot) in slots {
        if let Some(vm) = vms.get_mut(&vm) {
            vm.slots.insert(name, slot);
        }
    }
    site.vm = vms;
    export(&mut site, &draw.exports);
    site
}

fn export(site: &mut Site, draw: &Exports) {
    for (index, port) in draw.portals.iter().enumerate() {
        let Some(port) = port else { continue };
        let listen = format!("192.0.2.1:{}", 3260 + port).parse().unwrap();
        if !site.portal.values().any(|other| other.listen == listen) {
            site.portal.insert(format!("p{index}"), Portal { listen });
        }
    }
    for (index, drawn) in draw.targets.iter().enumerate() {
        let Some((name, paths, sessions_max, open)) = drawn else { continue };
        let iqn = format!("iqn.2026-11.org.example:{name}").parse().unwrap();
        if site.target.values().any(|other| other.iqn == iqn) {
            continue;
        }
        let mut target = Target::new(iqn);
        target.sessions_max = *sessions_max;
        target.open = *open;
        for (portal, path) in paths.iter().enumerate() {
            let portal = format!("p{portal}");
            if let Some(path) = path
                && site.portal.contains_key(&portal)
            {
                target.portals.0.insert(portal, *path);
            }
        }
        site.target.insert(format!("t{index}"), target);
    }
    for (index, name) in VOLUMES.iter().enumerate() {
        let Some(volume) = site.disk.get(*name) else { continue };
        if !volume.shared && !site.users_of(name).is_empty() {
            continue;
        }
        if let Some((target, lun)) = draw.shared[index].3
            && let Some(target) = site.target.get_mut(&format!("t{target}"))
        {
            target.luns.0.entry(lun).or_insert_with(|| (*name).to_owned());
        }
    }
}

/// The drawn volumes have names.
fn no_names() -> Result<Naa, standpipe_control::Problem> {
    panic!("a volume without a name")
}

fn perform(world: &mut World, steps: &[standpipe_control::step::Step]) {
    for step in steps {
        if let Err(problem) = world.perform(step) {
            panic!("{step}: {problem}\nin {steps:#?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// From any site to any other: every step finds what it needs, the end is
    /// that of a fresh start, a second plan is empty, and performing the steps
    /// again from the start of the list is harmless once all are done.
    #[test]
    fn steps_lead_there_and_only_once(from in draw(), to in draw(), more_blocks in prop::sample::select(vec![0, 3, 3, 3])) {
        let (mut from, mut to) = (site(&from, 0), site(&to, more_blocks));
        from.assign_identities(&Site::default(), no_names).unwrap();
        to.assign_identities(&from, no_names).unwrap();
        prop_assert!(from.check().is_empty(), "{:?}", from.check());
        prop_assert!(plan(&to, &to).unwrap().is_empty());
        let mut world = World::default();
        perform(&mut world, &plan(&Site::default(), &from).unwrap());
        match plan(&from, &to) {
            Ok(steps) => {
                perform(&mut world, &steps);
                let mut fresh = World::default();
                perform(&mut fresh, &plan(&Site::default(), &to).unwrap());
                prop_assert_eq!(world.plain(), fresh.plain());
            }
            // The three things that a plan refuses.
            Err(problem) => for problem in problem.each() {
                prop_assert_eq!(problem.kind, Kind::Conflict);
                let shrink = problem.what.contains("cannot shrink");
                let attached = problem.what.contains("while it is attached");
                let taken = problem.what.contains("is to take the address");
                prop_assert!(shrink || attached || taken, "{}", problem);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// The engine fails at any step of a change. What was reached is kept, and
    /// the same request then does the rest, as if nothing had happened.
    #[test]
    fn a_failed_change_can_be_finished(from in draw(), to in draw(), fail_after in 0..8usize) {
        let (from, to) = (site(&from, 0), site(&to, 3));
        let directory = tempfile::tempdir().unwrap();
        let engine = Arc::new(FakeEngine::default());
        let store = store::Store::open(directory.path()).unwrap();
        let controller = Controller::new(store, engine.clone());
        controller.apply(from, false).unwrap();
        let Ok(whole) = controller.apply(to.clone(), true) else {
            return Ok(());
        };
        *engine.fail_after.lock().unwrap() = Some(fail_after);
        let first = controller.apply(to.clone(), false);
        prop_assert_eq!(first.is_ok(), whole.steps.len() <= fail_after);
        *engine.fail_after.lock().unwrap() = None;
        controller.apply(to.clone(), false).unwrap();
        prop_assert_eq!(controller.apply(to.clone(), false).unwrap().steps, vec![]);
        let mut fresh = World::default();
        perform(&mut fresh, &plan(&Site::default(), &controller.site()).unwrap());
        prop_assert_eq!(engine.world.lock().unwrap().plain(), fresh.plain());
    }
}

fn one_volume(size: u64) -> Site {
    let mut site = Site::default();
    let volume = Volume {
        null: true,
        size: Some(Size(size)),
        naa: Some(Naa::from_random([1; 16])),
        ..Volume::default()
    };
    site.disk.insert("a".to_owned(), volume);
    site
}

#[test]
fn growing_is_one_step_and_shrinking_is_refused() {
    let (small, large) = (one_volume(1 << 30), one_volume(2 << 30));
    let steps = plan(&small, &large).unwrap();
    let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["grow volume a to 2GiB"]);
    assert_eq!(
        plan(&large, &small).unwrap_err().to_string(),
        "error: volume `a` cannot shrink from 2GiB to 1GiB
  where: disk.a.size
  hint: shrinking would cut off data: make a smaller volume and copy the data to it from within a guest"
    );
}

#[test]
fn an_attached_volume_keeps_its_place() {
    let mut before = one_volume(1 << 30);
    let mut slot = Slot::new(Model::VirtioScsi);
    slot.volumes = Some(SlotLuns(BTreeMap::from([(0.into(), "a".to_owned())])));
    let vm = Vm { slots: BTreeMap::from([("disk0".to_owned(), slot)]), ..Vm::default() };
    before.vm.insert("web1".to_owned(), vm);
    before.assign_identities(&Site::default(), no_names).unwrap();
    let mut after = before.clone();
    let volume = after.disk.get_mut("a").unwrap();
    volume.block_size = Some(4096);
    volume.read_only = true;
    assert_eq!(
        plan(&before, &after).unwrap_err().to_string(),
        "error: volume `a` cannot change its block_size, read_only while it is attached to web1.disk0
  where: disk.a
  hint: take it out of web1.disk0 and apply, then change it, attach it again and apply"
    );
    after.vm.clear();
    let steps = plan(&before, &after).unwrap();
    let texts: Vec<String> = steps.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["remove slot web1.disk0", "let go of volume a", "create volume a (1GiB, null)"]);
}

#[test]
fn hot_plug_is_a_step_of_its_own() {
    let mut before = one_volume(1 << 30);
    let mut other = before.disk["a"].clone();
    other.naa = Some(Naa::from_random([2; 16]));
    before.disk.insert("b".to_owned(), other);
    let mut slot = Slot::new(Model::VirtioScsi);
    slot.volumes = Some(SlotLuns(BTreeMap::from([(0.into(), "a".to_owned())])));
    let mut vm = Vm::default();
    vm.slots.insert("disk0".to_owned(), slot);
    before.vm.insert("web1".to_owned(), vm);
    before.assign_identities(&Site::default(), no_names).unwrap();
    let mut after = before.clone();
    let slot = after.slot_mut(&"web1.disk0".parse().unwrap()).unwrap();
    slot.volumes = Some(SlotLuns(BTreeMap::from([(2.into(), "b".to_owned())])));
    let texts: Vec<String> = plan(&before, &after).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["detach LUN 0 of web1.disk0", "attach volume b to web1.disk0 as LUN 2"]);

    // The same LUN of another target is another place.
    let mut moved = after.clone();
    let slot = moved.slot_mut(&"web1.disk0".parse().unwrap()).unwrap();
    slot.volumes = Some(SlotLuns(BTreeMap::from([(LunAddress::new(7, 2), "b".to_owned())])));
    let texts: Vec<String> = plan(&after, &moved).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["detach LUN 2 of web1.disk0", "attach volume b to web1.disk0 as LUN 7:2"]);

    // The same with the other SCSI controller; another model is another device.
    for site in [&mut before, &mut after] {
        site.slot_mut(&"web1.disk0".parse().unwrap()).unwrap().model = Model::Pvscsi;
    }
    let texts: Vec<String> = plan(&before, &after).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["detach LUN 0 of web1.disk0", "attach volume b to web1.disk0 as LUN 2"]);
    after.slot_mut(&"web1.disk0".parse().unwrap()).unwrap().model = Model::VirtioScsi;
    let texts: Vec<String> = plan(&before, &after).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["remove slot web1.disk0", "add slot web1.disk0"]);
}

/// The port of an emulated nic changes as that of a virtio-net; what the guest has been told does not.
#[test]
fn an_emulated_nic_moves_while_it_runs() {
    let id: SlotId = "web1.nic0".parse().unwrap();
    let mut before = Site::default();
    for network in ["lan", "wan"] {
        before.network.insert(network.to_owned(), Network::default());
    }
    let mut slot = Slot::new(Model::Vmxnet3);
    slot.network = Some("lan".to_owned());
    before.vm.insert(
        "web1".to_owned(),
        Vm { slots: BTreeMap::from([("nic0".to_owned(), slot)]), ..Vm::default() },
    );
    let steps = |change: &dyn Fn(&mut Slot)| -> Vec<String> {
        let mut after = before.clone();
        change(after.slot_mut(&id).unwrap());
        plan(&before, &after).unwrap().iter().map(ToString::to_string).collect()
    };
    let anew = ["remove slot web1.nic0", "add slot web1.nic0"];
    assert_eq!(steps(&|slot| slot.vlan = Some(7)), ["change slot web1.nic0"]);
    assert_eq!(steps(&|slot| slot.network = Some("wan".to_owned())), ["change slot web1.nic0"]);
    assert_eq!(steps(&|slot| slot.doorbells = Some(Doorbells::Mapped)), ["change slot web1.nic0"]);
    // As it is without being said.
    assert_eq!(steps(&|slot| slot.doorbells = Some(Doorbells::Trapped)), [""; 0]);
    assert_eq!(steps(&|slot| slot.boot_index = Some(1)), [""; 0]);
    assert_eq!(steps(&|slot| slot.mac = Some(Mac([2, 0, 0, 0, 0, 1]))), anew);
    assert_eq!(steps(&|slot| slot.queues = 2), anew);
    assert_eq!(steps(&|slot| slot.rom = Some("/rom".into())), anew);
    assert_eq!(steps(&|slot| slot.msix = Some(false)), anew);
    assert_eq!(steps(&|slot| slot.msix = Some(true)), [""; 0]);
    assert_eq!(steps(&|slot| slot.model = Model::E1000e), anew);
}
