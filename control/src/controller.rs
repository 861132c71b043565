//! The store and the engine as one: every change goes through a plan, is
//! noted before its first step, performed step by step, and noted again.

use crate::engine::Engine;
use crate::identity;
use crate::plan::plan;
use crate::problem::Problem;
use crate::site::Site;
use crate::status::Status;
use crate::step::Step;
use crate::store::{Document, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use utoipa::ToSchema;

/// What a change did, or with `dry_run` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Applied {
    pub dry_run: bool,
    pub steps: Vec<Step>,
}

pub struct Controller {
    engine: Arc<dyn Engine>,
    store: Mutex<Store>,
    /// What of the site the engine has: less than the store says while an object could not be made.
    /// Locked after `store`.
    actual: Mutex<Site>,
    /// Volumes whose bytes are being imported or exported.
    busy: Mutex<BTreeSet<String>>,
}

/// While it lives, no plan touches the volume.
pub(crate) struct Busy<'a> {
    controller: &'a Controller,
    volume: String,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        lock(&self.controller.busy).remove(&self.volume);
    }
}

/// The data under these locks is whole between any two statements that can
/// panic, so a panic elsewhere does not make it wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Controller {
    pub fn new(store: Store, engine: Arc<dyn Engine>) -> Self {
        let actual = Mutex::new(store.document().site.clone());
        Self { engine, store: Mutex::new(store), actual, busy: Mutex::new(BTreeSet::new()) }
    }

    /// What is offered, identities included.
    pub fn site(&self) -> Site {
        lock(&self.store).document().site.clone()
    }

    /// The group whose members may use the API.
    pub fn api_group(&self) -> Option<String> {
        lock(&self.store).document().site.server.api_group.clone()
    }

    pub fn status(&self) -> Status {
        self.engine.status()
    }

    /// Takes reservations and registrations away from a volume.
    pub fn clear_reservations(&self, volume: &str) -> Result<(), Problem> {
        // The store's lock, so that no change takes the volume away meanwhile.
        let store = lock(&self.store);
        if !store.document().site.disk.contains_key(volume) {
            return Err(no_such("volume", volume, "disk list"));
        }
        self.engine.clear_reservations(volume)
    }

    /// Has a target read its secrets again: their files may have others now.
    pub fn reload_secrets(&self, target: &str) -> Result<Applied, Problem> {
        let store = lock(&self.store);
        let spec = store.document().site.target_spec(target);
        let spec = spec.ok_or_else(|| no_such("target", target, "target list"))?;
        let step = Step::ChangeTarget(spec);
        check_secrets(std::slice::from_ref(&step))?;
        self.engine.perform(&step).map_err(|problem| in_step(problem, &step))?;
        Ok(Applied { dry_run: false, steps: vec![step] })
    }

    pub fn upgrade(&self) -> Result<(), Problem> {
        self.engine.upgrade()
    }

    /// Brings an engine that has nothing yet to the stored site; if the last
    /// worker died within a change, to where that change was going. A step
    /// that fails does not keep the others from being tried: one missing file
    /// must not take every VM's disks away. Returns what failed.
    ///
    /// `config` is the site of a configuration file, if there is one. It is
    /// taken over only when it is not the one that was taken over last.
    pub fn start(&self, config: Option<Site>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut store = lock(&self.store);
        store.sweep_secrets();
        let mut document = store.document().clone();
        if let Some(pending) = document.pending.take() {
            document.site = pending;
        }
        let known = document.site.clone();
        document.site.number_ports(&known);
        if let Some(config) = config
            && document.config.as_ref().map(Site::plain) != Some(config.plain())
        {
            match prepared(config.clone(), &document.site) {
                Ok((desired, _)) => {
                    document.site = desired;
                    document.config = Some(config);
                }
                Err(problem) => problems.push(problem),
            }
        }
        let site = &document.site;
        let mut actual = Site { server: site.server.clone(), ..Site::default() };
        match plan(&actual, site) {
            Err(problem) => problems.push(problem),
            Ok(steps) => {
                for step in &steps {
                    match self.engine.perform(step) {
                        Ok(()) => actual.advance(site, step),
                        Err(problem) => problems.push(in_step(problem, step)),
                    }
                }
            }
        }
        *lock(&self.actual) = actual;
        problems.extend(store.save(document).err());
        problems
    }

    /// Makes the host offer `desired` and nothing else. What could not be made before is tried
    /// again, and a failure of that is told too.
    pub fn apply(&self, desired: Site, dry_run: bool) -> Result<Applied, Problem> {
        let (applied, failed) = self.change_and_mend(dry_run, |site| {
            *site = desired;
            Ok(())
        })?;
        Problem::from_list(failed).map_or(Ok(applied), Err)
    }

    /// Changes the site with `edit`. When a step fails, the steps before it
    /// stay done, the site says what was reached, and applying the same again
    /// does the rest.
    pub fn change(
        &self,
        dry_run: bool,
        edit: impl FnOnce(&mut Site) -> Result<(), Problem>,
    ) -> Result<Applied, Problem> {
        // An old trouble elsewhere does not keep this change from being made.
        self.change_and_mend(dry_run, edit).map(|(applied, _)| applied)
    }

    /// The change, and what else of the site still cannot be made.
    fn change_and_mend(
        &self,
        dry_run: bool,
        edit: impl FnOnce(&mut Site) -> Result<(), Problem>,
    ) -> Result<(Applied, Vec<Problem>), Problem> {
        let mut store = lock(&self.store);
        let mut actual = lock(&self.actual);
        let current = store.document().site.clone();
        let mut desired = current.clone();
        edit(&mut desired)?;
        let mut problems = desired.check();
        problems.extend(desired.check_change(&current));
        if let Some(problem) = Problem::from_list(problems) {
            return Err(problem);
        }
        // Swept whatever becomes of the change: what the store then names stays.
        let kept = store.keep_secrets(&mut desired);
        let outcome = kept.and_then(|()| self.bring_about(&mut store, &mut actual, desired, dry_run));
        store.sweep_secrets();
        outcome
    }

    /// The part of a change that has steps.
    fn bring_about(
        &self,
        store: &mut Store,
        actual: &mut Site,
        desired: Site,
        dry_run: bool,
    ) -> Result<(Applied, Vec<Problem>), Problem> {
        let current = store.document().site.clone();
        let (desired, asked) = prepared(desired, &current)?;
        check_secrets(&asked)?;
        // What is gone from the site may be only half there.
        let mending = plan(actual, &desired)?;
        let removals = asked.iter().filter(|step| step.removes() && !mending.contains(step));
        let steps: Vec<Step> = removals.chain(&mending).cloned().collect();
        self.refuse_busy(&steps)?;
        if dry_run {
            return Ok((Applied { dry_run, steps }, Vec::new()));
        }
        let config = store.document().config.clone();
        if !steps.is_empty() {
            store.save(Document {
                site: current.clone(),
                pending: Some(desired.clone()),
                config: config.clone(),
            })?;
        }
        let mut reached = current;
        let mut failure = None;
        let (mut performed, mut failed) = (Vec::new(), Vec::new());
        for step in steps {
            match self.engine.perform(&step) {
                Ok(()) => {
                    reached.advance(&desired, &step);
                    actual.advance(&desired, &step);
                    performed.push(step);
                }
                Err(problem) if asked.contains(&step) => {
                    failure = Some(in_step(problem, &step));
                    break;
                }
                Err(problem) => failed.push(in_step(problem, &step)),
            }
        }
        if failure.is_none() && failed.is_empty() {
            *actual = desired.clone();
        } else if failure.is_none() {
            // What belongs to many steps at once is new when all that were asked for are done.
            actual.server = desired.server.clone();
            for (name, vm) in &mut actual.vm {
                vm.user = desired.vm.get(name).and_then(|new| new.user.clone());
            }
        }
        store.save(Document {
            site: if failure.is_some() { reached } else { desired },
            pending: None,
            config,
        })?;
        match failure {
            Some(problem) => Err(problem),
            None => Ok((Applied { dry_run, steps: performed }, failed)),
        }
    }

    fn refuse_busy(&self, steps: &[Step]) -> Result<(), Problem> {
        let busy = lock(&self.busy);
        for step in steps {
            let volume = match step {
                Step::CreateVolume(spec) => &spec.name,
                Step::GrowVolume { volume, .. } | Step::RemoveVolume { volume } => volume,
                _ => continue,
            };
            if busy.contains(volume) {
                return Err(Problem::conflict(format!("volume `{volume}` is being imported or exported"))
                    .at(format!("disk.{volume}"))
                    .hint("wait until that has ended"));
            }
        }
        Ok(())
    }

    /// Takes a volume for import or export, if nobody else uses its bytes.
    pub(crate) fn occupy(&self, volume: &str) -> Result<Busy<'_>, Problem> {
        // The store's lock, so that no change is between its plan and its steps.
        let store = lock(&self.store);
        if !store.document().site.disk.contains_key(volume) {
            return Err(no_such("volume", volume, "disk list"));
        }
        self.refuse_running(volume, &store.document().site)?;
        if !lock(&self.busy).insert(volume.to_owned()) {
            return Err(Problem::conflict(format!(
                "volume `{volume}` is already being imported or exported"
            ))
            .at(format!("disk.{volume}"))
            .hint("wait until that has ended"));
        }
        Ok(Busy { controller: self, volume: volume.to_owned() })
    }

    /// Fails if a front end is connected to a slot that has the volume, or a session to a target.
    pub(crate) fn refuse_running(&self, volume: &str, site: &Site) -> Result<(), Problem> {
        let status = self.engine.status();
        let problem =
            |what: String, hint: String| Err(Problem::conflict(what).at(format!("disk.{volume}")).hint(hint));
        for (id, _) in site.users_of(volume) {
            if status.slots.get(&id.to_string()).is_some_and(|slot| slot.connected) {
                return problem(
                    format!("volume `{volume}` is attached to {id}, and that VM is running"),
                    format!(
                        "shut the VM down, or detach the volume first: standpipe disk detach {id} {volume}"
                    ),
                );
            }
        }
        for (target, lun) in site.targets_of(volume) {
            let sessions = status.targets.get(target).map_or(&[][..], |target| &target.sessions);
            if let Some(session) = sessions.first() {
                return problem(
                    format!(
                        "volume `{volume}` is attached to target {target}, and {} is logged in",
                        session.initiator
                    ),
                    format!(
                        "log the initiators out, or detach the volume first: standpipe target change {target} --detach {lun}"
                    ),
                );
            }
        }
        Ok(())
    }
}

/// Identities filled in, and the plan.
fn prepared(mut desired: Site, current: &Site) -> Result<(Site, Vec<Step>), Problem> {
    desired.assign_identities(current, identity::fresh)?;
    let steps = plan(current, &desired)?;
    Ok((desired, steps))
}

/// What is wrong with the secrets that the steps name is told before the first of them.
fn check_secrets(steps: &[Step]) -> Result<(), Problem> {
    let access = steps.iter().flat_map(|step| match step {
        Step::AddTarget(spec) | Step::ChangeTarget(spec) => spec.access.as_slice(),
        _ => &[],
    });
    let mut problems: Vec<Problem> = access.filter_map(|access| access.check_secrets().err()).collect();
    // Many entries may name one file.
    problems.dedup();
    Problem::from_list(problems).map_or(Ok(()), Err)
}

fn in_step(mut problem: Problem, step: &Step) -> Problem {
    problem.what = format!("cannot {step}: {}", problem.what);
    problem
}

pub(crate) fn no_such(sort: &str, name: &str, list: &str) -> Problem {
    Problem::not_found(format!("there is no {sort} `{name}`"))
        .at(name)
        .hint(format!("`standpipe {list}` shows those that there are"))
}
