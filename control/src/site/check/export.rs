//! What can be wrong with kinds of volumes, sharing, portals and targets.

use super::{Checker, Finding, child};
use crate::problem::Problem;
use crate::site::export::{Chap, SESSIONS_MAX, Target};
use crate::site::{Kind, LUN_MAX, Model, Site, SlotId, Volume};
use std::collections::{BTreeMap, HashSet};

/// An iSCSI text value (RFC 7143, 6.1) has 255 bytes at most.
const USER_BYTES_MAX: usize = 255;

impl Checker<'_> {
    pub(super) fn kind(&mut self, name: &str, volume: &Volume) {
        let key = |last: &str| keys!["disk", name, last];
        let cdrom = volume.kind == Kind::Cdrom;
        if cdrom && volume.physical_block_size.is_some() {
            self.add(
                key("physical_block_size"),
                "a CD-ROM has no physical block size",
                "leave `physical_block_size` out",
            );
        } else if let Some(physical) = volume.physical_block_size {
            let logical = volume.block_size();
            if ![512, 4096].contains(&physical) {
                self.add(
                    key("physical_block_size"),
                    format!("{physical} is not a physical block size"),
                    "write 512 or 4096, or leave it out for what the store says",
                );
            } else if physical < logical {
                self.add(
                    key("physical_block_size"),
                    format!(
                        "a physical block of {physical} bytes is smaller than a logical block of {logical}"
                    ),
                    "512 and 512 is 512n, 512 and 4096 is 512e, 4096 and 4096 is 4Kn",
                );
            }
        }
        if cdrom && volume.thin_threshold.is_some() {
            self.add(
                key("thin_threshold"),
                "a CD-ROM is not written, so it has no threshold",
                "leave `thin_threshold` out",
            );
        }
        if cdrom && volume.null {
            self.add(
                key("null"),
                "a CD-ROM needs a medium",
                "give `path` an ISO image, or `store` and `size`",
            );
        }
    }

    /// virtio-blk has no SCSI in it.
    pub(super) fn fits_blk(&mut self, here: Vec<String>, name: &str, id: &SlotId) {
        let site = self.site;
        let Some(volume) = site.disk.get(name) else {
            return;
        };
        let (what, instead) = if volume.kind == Kind::Cdrom {
            ("a CD-ROM", "another volume")
        } else if volume.removable {
            ("removable", "take `removable` away from it")
        } else if volume.shared {
            ("shared", "take `shared` away from it")
        } else {
            return;
        };
        let instead =
            if instead.starts_with("take") { instead.to_owned() } else { format!("give the slot {instead}") };
        self.add(
            here,
            format!("volume `{name}` is {what}, and a virtio-blk slot cannot have it ({id})"),
            format!(
                "use a virtio-scsi slot (`model = \"virtio-scsi\"`, `volumes = [\"{name}\"]`), or {instead}"
            ),
        );
    }

    /// A volume has one user, or is shared.
    pub(super) fn users(&mut self) {
        let site = self.site;
        // By volume: its first user, and whether a slot is among its users.
        let mut users: BTreeMap<&str, (String, bool)> = BTreeMap::new();
        let slots = site.slots().flat_map(|(id, slot)| {
            let key = if slot.model == Model::VirtioBlk { "volume" } else { "volumes" };
            let here = keys!["vm", id.vm, id.slot, key];
            let mut seen = HashSet::new();
            let luns = slot.luns().filter(move |(_, volume)| seen.insert(*volume));
            luns.map(|(_, volume)| (here.clone(), id.to_string(), true, volume)).collect::<Vec<_>>()
        });
        let targets = site.target.iter().flat_map(|(name, target)| {
            let here = keys!["target", name, "luns"];
            let mut seen = HashSet::new();
            let luns = target.luns.0.values().filter(move |volume| seen.insert(volume.as_str()));
            luns.map(|volume| (here.clone(), format!("target {name}"), false, volume.as_str()))
                .collect::<Vec<_>>()
        });
        for (here, user, is_slot, volume) in slots.chain(targets) {
            let Some(declared) = site.disk.get(volume) else { continue };
            if declared.shared {
                continue;
            }
            match users.get(volume) {
                None => {
                    users.insert(volume, (user, is_slot));
                }
                Some((other, true)) if is_slot => self.add(
                    here,
                    format!("volume `{volume}` is used by two slots, {other} and {user}"),
                    "two guests on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume",
                ),
                Some((other, _)) => self.add(
                    here,
                    format!("volume `{volume}` is used by {other} and {user}"),
                    "two hosts on one volume destroy its filesystem: take it out of one of them, make a second volume, or, if they have a cluster's filesystem, write `shared = true` at the volume",
                ),
            }
        }
    }

    pub(super) fn portals(&mut self) {
        let site = self.site;
        for (index, (name, portal)) in site.portal.iter().enumerate() {
            self.name(keys!["portal", name], "portal", name);
            let mut others = site.portal.iter().take(index);
            if let Some((other, _)) = others.find(|(_, other)| other.listen.overlaps(portal.listen)) {
                self.add(
                    keys!["portal", name, "listen"],
                    format!("portals `{other}` and `{name}` cannot both listen at {}", portal.listen),
                    "give one of them another address or port, or put their targets on one portal",
                );
            }
        }
    }

    pub(super) fn targets(&mut self) {
        let site = self.site;
        let mut names = BTreeMap::new();
        for (name, target) in &site.target {
            let here = keys!["target", name];
            self.name(here.clone(), "target", name);
            if let Some(other) = names.insert(&target.iqn, name) {
                self.add(
                    child(&here, "iqn"),
                    format!("targets `{other}` and `{name}` have the same name {}", target.iqn),
                    "initiators would take them for one target: give one of them another name",
                );
            }
            for portal in target.portals.0.keys() {
                if !site.portal.contains_key(portal) {
                    self.unknown(child(&here, "portals"), "portal", portal, "portal", site.portal.keys());
                }
            }
            self.luns(&here, name, target);
            if target.sessions_max == 0 || target.sessions_max > SESSIONS_MAX {
                self.add(
                    child(&here, "sessions_max"),
                    format!("{} sessions are out of range", target.sessions_max),
                    format!("write 1 to {SESSIONS_MAX}"),
                );
            }
            self.access(&here, target);
        }
    }

    fn luns(&mut self, here: &[String], name: &str, target: &Target) {
        let site = self.site;
        let mut seen = HashSet::new();
        for (lun, volume) in &target.luns.0 {
            if !site.disk.contains_key(volume) {
                self.unknown(child(here, "luns"), "volume", volume, "disk", site.disk.keys());
            } else if !seen.insert(volume) {
                self.add(
                    child(here, "luns"),
                    format!("volume `{volume}` is twice in target {name}"),
                    format!("remove one; a second path to it at LUN {lun} is of no use, a second portal is"),
                );
            }
        }
    }

    fn access(&mut self, here: &[String], target: &Target) {
        if let Some(chap) = &target.chap {
            self.chap(&child(here, "chap"), chap);
        }
        if let Some(mutual) = &target.mutual {
            self.chap(&child(here, "mutual"), mutual);
        }
        if target.mutual.is_some() && target.chap.is_none() {
            self.lone_mutual(child(here, "mutual"));
        }
        let mut seen = HashSet::new();
        for (index, entry) in target.allow.iter().enumerate() {
            let here = child(&child(here, "allow"), &index.to_string());
            if !seen.insert(&entry.initiator) {
                self.add(
                    child(&here, "initiator"),
                    format!("initiator `{}` is allowed twice", entry.initiator),
                    "put what it may do into one entry",
                );
            }
            for lun in entry.luns.iter().flatten().filter(|lun| **lun > LUN_MAX) {
                self.add(
                    child(&here, "luns"),
                    format!("{lun} is not a LUN"),
                    format!("write 0 to {LUN_MAX}"),
                );
            }
            if let Some(chap) = &entry.chap {
                self.chap(&child(&here, "chap"), chap);
            }
            if let Some(mutual) = &entry.mutual {
                self.chap(&child(&here, "mutual"), mutual);
                if entry.chap.is_none() && target.chap.is_none() {
                    self.lone_mutual(child(&here, "mutual"));
                }
            }
            // RFC 7143, 9.2.1; secrets that are the same in two files are found when they are read.
            let file = |chap: Option<&Chap>| chap.and_then(|chap| chap.secret_file.clone());
            let chap = file(entry.chap.as_ref().or(target.chap.as_ref()));
            if chap.is_some() && chap == file(entry.mutual.as_ref().or(target.mutual.as_ref())) {
                self.add(
                    child(&here, "initiator"),
                    format!("initiator `{}` and the target have the same secret", entry.initiator),
                    "give `mutual` a secret file of its own",
                );
            }
        }
    }

    /// The target answers a challenge only after the initiator has (RFC 7143, 12.1.3).
    fn lone_mutual(&mut self, keys: Vec<String>) {
        self.add(
            keys,
            "`mutual` is of use only with `chap`",
            "the initiator proves itself first: add `chap = { user = \"NAME\", secret_file = \"/…\" }`",
        );
    }

    fn chap(&mut self, here: &[String], chap: &Chap) {
        let user = &chap.user;
        if user.is_empty() || user.len() > USER_BYTES_MAX || user.chars().any(char::is_control) {
            self.add(
                child(here, "user"),
                "this cannot be the name of a user",
                format!("write 1 to {USER_BYTES_MAX} bytes without control characters"),
            );
        }
        match (&chap.secret_file, &chap.secret) {
            (Some(path), None) => self.absolute(child(here, "secret_file"), path),
            (None, Some(_)) => {}
            (None, None) => self.add(
                here.to_vec(),
                format!("there is no secret for user `{user}`"),
                "add `secret_file = \"/…\"`: a file with one line that others cannot read (chmod 600)",
            ),
            (Some(_), Some(_)) => self.add(
                here.to_vec(),
                format!("the secret of user `{user}` is given in two ways"),
                "give `secret` to set a new one, or `secret_file`",
            ),
        }
    }

    pub(super) fn identity(&mut self) {
        let site = self.site;
        let tables = [("port", &site.identity.port), ("portal_group", &site.identity.portal_group)];
        for (table, numbers) in tables {
            let mut seen = BTreeMap::new();
            for (name, id) in numbers {
                let here = || keys!["identity", table, name];
                if *id == 0 {
                    self.add(
                        here(),
                        "0 is no number of a port",
                        "write 1 to 65535, or leave it out and one is given",
                    );
                } else if let Some(other) = seen.insert(*id, name) {
                    self.add(
                        here(),
                        format!("`{other}` and `{name}` have the same number {id}"),
                        "initiators would take them for one port: leave one of them out and it gets another",
                    );
                }
            }
        }
    }
}

impl Site {
    /// LUN masks that name what is not there, of targets that are not as they are in `known`. A change
    /// that ended early may leave some, which must not keep other changes from being made.
    pub(in crate::site) fn strange_masks(&self, known: &Site) -> Vec<Finding> {
        let mut findings = Vec::new();
        let changed = self.target.iter().filter(|(name, target)| known.target.get(*name) != Some(target));
        for (name, target) in changed {
            for (index, entry) in target.allow.iter().enumerate() {
                let strange = entry.luns.iter().flatten().find(|lun| !target.luns.0.contains_key(lun));
                if let Some(lun) = strange {
                    findings.push(Finding {
                        keys: keys!["target", name, "allow", index, "luns"],
                        what: format!(
                            "`{}` is to see LUN {lun}, which target {name} does not have",
                            entry.initiator
                        ),
                        hint: format!("add it to `luns` of [target.{name}], or take it out here"),
                    });
                }
            }
        }
        findings
    }

    /// Secrets that stand in the site itself: good over the API, and not in a file.
    pub(in crate::site) fn open_secrets(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (name, target) in &self.target {
            let own = [("chap", &target.chap), ("mutual", &target.mutual)];
            let own = own.map(|(key, chap)| (keys!["target", name, key, "secret"], chap));
            let entries = target.allow.iter().enumerate().flat_map(|(index, entry)| {
                [("chap", &entry.chap), ("mutual", &entry.mutual)]
                    .map(|(key, chap)| (keys!["target", name, "allow", index, key, "secret"], chap))
            });
            for (keys, chap) in own.into_iter().chain(entries) {
                if chap.as_ref().is_some_and(|chap| chap.secret.is_some()) {
                    findings.push(Finding {
                        keys,
                        what: "a secret does not belong into the site's file".to_owned(),
                        hint: "put it into a file of its own (chmod 600), write `secret_file = \"/…\"`, and take a new secret if others can have read this one".to_owned(),
                    });
                }
            }
        }
        findings
    }

    /// What is wrong with a change, though not with the site.
    pub(crate) fn check_change(&self, known: &Site) -> Vec<Problem> {
        let findings = self.strange_masks(known).into_iter();
        findings.map(Finding::problem).collect()
    }
}
