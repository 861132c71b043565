//! The store under power loss, damage and strangers; and the controller's
//! promise about changes that were cut off.

use crate::engine::FakeEngine;
use standpipe_control::site::{self, Naa, Site};
use standpipe_control::step::Device;
use standpipe_control::store::{Document, FILE_NAME, Store, v1};
use standpipe_control::{Controller, Kind};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn sample() -> Site {
    let text = "[disk.a]\nnull = true\nsize = \"1GiB\"\n[disk.b]\nnull = true\nsize = \"1GiB\"\n[vm.web1.disk0]\nmodel = \"virtio-scsi\"\nvolumes = [\"a\"]\n";
    site::parse("sample.toml", text).unwrap()
}

fn refusal(directory: &Path) -> String {
    let file = directory.join(FILE_NAME);
    let before = fs::read(&file).unwrap();
    let Err(problem) = Store::open(directory) else {
        panic!("it was opened");
    };
    assert!(fs::read(&file).unwrap() == before, "the file was changed");
    assert_eq!(problem.place, Some(file.display().to_string()));
    assert!(problem.hint.is_some());
    problem.what
}

#[test]
fn what_is_saved_is_there_again() {
    let directory = tempfile::tempdir().unwrap();
    let document = Document { site: sample(), pending: Some(Site::default()), config: None };
    let mut store = Store::open(directory.path()).unwrap();
    assert_eq!(store.document(), &Document::default());
    store.save(document.clone()).unwrap();
    drop(store);
    let started = Instant::now();
    let store = Store::open(directory.path()).unwrap();
    assert!(started.elapsed() < Duration::from_secs(1));
    assert_eq!(store.document(), &document);
}

/// What `kill -9` leaves: the file as it is while a daemon has it open.
#[test]
fn a_killed_daemons_store_opens_at_once() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut store = Store::open(directory.path()).unwrap();
    for round in 0..20 {
        let mut document = Document { site: sample(), ..Document::default() };
        document.site.server.lanes = Some(round + 1);
        store.save(document.clone()).unwrap();
        fs::copy(directory.path().join(FILE_NAME), other.path().join(FILE_NAME)).unwrap();
        let started = Instant::now();
        let left = Store::open(other.path()).unwrap();
        assert!(started.elapsed() < Duration::from_secs(1));
        assert_eq!(left.document(), &document);
    }
}

#[test]
fn a_store_is_one_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path()).unwrap();
    let Err(problem) = Store::open(directory.path()) else {
        panic!("two daemons have one store");
    };
    assert_eq!(problem.kind, Kind::Conflict);
    assert_eq!(problem.what, "the store is in use by another daemon");
    drop(first);
    Store::open(directory.path()).unwrap();
}

/// A document as version 1 wrote it, byte for byte. It must be readable for
/// good, whatever happens to the types.
#[test]
fn yesterdays_document_is_read() {
    let text = include_str!("documents/store-v1.json");
    let document: v1::Document = serde_json::from_str(text).unwrap();
    assert_eq!(document.site.disk["web1-root"].size.unwrap().0, 21_474_836_480);
    assert_eq!(document.site.disk["web1-root"].naa.unwrap().to_string(), "6a2f5c0dd1c34e7fb02f94a5e3c8d716");
    assert!(document.pending.is_none());
    let again = serde_json::to_string_pretty(&document).unwrap();
    assert_eq!(again, text.trim_end());
}

/// What the same document looks like today.
#[test]
fn todays_document_is_read() {
    let text = include_str!("documents/store-v2.json");
    let document: Document = serde_json::from_str(text).unwrap();
    assert_eq!(document.site.identity.port["web1.disk0"], 1);
    assert_eq!(document.site.identity.port["backup/a"], 2);
    let again = serde_json::to_string_pretty(&document).unwrap();
    assert_eq!(again, text.trim_end());
}

fn write_v1(file: &Path, text: &[u8]) {
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("standpipe");
    let documents: redb::TableDefinition<'_, &str, &[u8]> = redb::TableDefinition::new("documents");
    let database = redb::Database::create(file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("version", 1).unwrap();
    transaction.open_table(documents).unwrap().insert("site", text).unwrap();
    transaction.commit().unwrap();
}

fn version(file: &Path) -> u64 {
    use redb::ReadableDatabase;
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("standpipe");
    let database = redb::Database::open(file).unwrap();
    let transaction = database.begin_read().unwrap();
    transaction.open_table(meta).unwrap().get("version").unwrap().unwrap().value()
}

/// The store of yesterday's daemon, under today's: its slots get numbers, which
/// are the same ever after, and nothing else changes.
#[test]
fn yesterdays_store_is_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    write_v1(&file, include_bytes!("documents/store-v1.json"));
    let (engine, controller) = start(directory.path());
    assert_eq!(controller.start(None), []);
    let site = controller.site();
    assert_eq!(site.identity.port, BTreeMap::from([("web1.disk0".to_owned(), 1)]));
    let id = "web1.disk0".parse().unwrap();
    let spec = engine.world.lock().unwrap().slots[&id].clone();
    let Device::VirtioScsi { port_id, .. } = spec.device else { panic!("{spec:?}") };
    assert_eq!(port_id, 1);
    // A restart of the daemon with the same file, as it was taken over yesterday: nothing to do.
    assert_eq!(controller.apply(site.clone(), true).unwrap().steps, []);
    drop(controller);
    assert_eq!(version(&file), 2);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.document().site, site);
}

/// The version 1 document kept a default of the block size that version 2
/// leaves out. That is no change of the file.
#[test]
fn an_unchanged_file_of_yesterday_is_not_taken_over_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut text: serde_json::Value = serde_json::from_str(include_str!("documents/store-v1.json")).unwrap();
    text["config"] = text["site"].clone();
    text["config"]["disk"]["web1-root"].as_object_mut().unwrap().remove("naa");
    text["config"]["disk"]["web1-root"].as_object_mut().unwrap().remove("serial");
    // Changed since, by the API.
    text["site"]["disk"]["web1-root"]["size"] = 42_949_672_960_u64.into();
    write_v1(&directory.path().join(FILE_NAME), text.to_string().as_bytes());
    let mut config: Site = serde_json::from_value(text["config"].clone()).unwrap();
    config.disk.get_mut("web1-root").unwrap().block_size = None;
    let (_, controller) = start(directory.path());
    assert_eq!(controller.start(Some(config)), []);
    assert_eq!(controller.site().disk["web1-root"].size.unwrap().0, 42_949_672_960);
}

#[test]
fn strangers_and_ruins_are_left_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);

    fs::write(&file, "a shopping list").unwrap();
    assert_eq!(refusal(directory.path()), "the file is not a Standpipe store; it was left as it is");

    fs::write(&file, "").unwrap();
    assert_eq!(refusal(directory.path()), "the file is not a Standpipe store; it was left as it is");

    fs::remove_file(&file).unwrap();
    let other: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("other");
    let database = redb::Database::create(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(other).unwrap().insert("x", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let Err(problem) = Store::open(directory.path()) else {
        panic!("it was opened");
    };
    assert_eq!(problem.what, "the file is a redb database of another program; it was left as it is");
}

#[test]
fn a_newer_version_is_not_touched() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    drop(Store::open(directory.path()).unwrap());
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("standpipe");
    let database = redb::Database::open(&file).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(meta).unwrap().insert("version", 3).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let Err(problem) = Store::open(directory.path()) else {
        panic!("it was opened");
    };
    assert_eq!(
        problem.what,
        "the store has version 3, and this program knows version 2 at most; it was left as it is"
    );
}

/// Whatever byte is wrong and wherever the file ends: the right document, the
/// one before it, or a refusal. Never a panic, never something made up.
#[test]
fn damage_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(FILE_NAME);
    let mut store = Store::open(directory.path()).unwrap();
    let document = Document { site: sample(), ..Document::default() };
    store.save(document.clone()).unwrap();
    drop(store);
    let whole = fs::read(&file).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|i| whole[*i] != 0).collect();
    let mut refused = 0;
    let mut trial = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        match Store::open(directory.path()) {
            Ok(store) => {
                let found = store.document();
                assert!(*found == document || *found == Document::default());
            }
            Err(problem) => {
                assert!(problem.what.contains("it was left as it is"), "{problem}");
                assert!(fs::read(&file).unwrap() == bytes, "a damaged file was changed");
                refused += 1;
            }
        }
    };
    for index in used.iter().step_by(used.len() / 150 + 1) {
        let mut bytes = whole.clone();
        bytes[*index] ^= 0x10;
        trial(&bytes);
    }
    for part in 1..20 {
        trial(&whole[..whole.len() * part / 20]);
    }
    assert!(refused > 20, "only {refused} of the damages were found");
}

fn start(directory: &Path) -> (Arc<FakeEngine>, Controller) {
    let engine = Arc::new(FakeEngine::default());
    let controller = Controller::new(Store::open(directory).unwrap(), engine.clone());
    (engine, controller)
}

#[test]
fn identities_are_given_once() {
    let directory = tempfile::tempdir().unwrap();
    let (_, controller) = start(directory.path());
    assert_eq!(controller.start(None), []);
    assert_eq!(controller.apply(sample(), false).unwrap().steps.len(), 3);
    let naa = controller.site().disk["a"].naa.unwrap();
    assert_ne!(Some(naa), controller.site().disk["b"].naa);
    assert_eq!(controller.apply(sample(), false).unwrap().steps, []);
    drop(controller);
    let (engine, controller) = start(directory.path());
    assert_eq!(controller.start(None), []);
    assert_eq!(controller.site().disk["a"].naa, Some(naa));
    assert_eq!(engine.world.lock().unwrap().volumes["a"].naa, naa);
    let mut given = sample();
    given.disk.get_mut("a").unwrap().naa = Some(Naa::from_random([9; 16]));
    let problem = controller.apply(given, false).unwrap_err();
    assert_eq!(problem.what, "volume `a` cannot change its naa while it is attached to web1.disk0");
}

/// The engine fails at each step in turn: what was reached is kept, and the
/// same request then does the rest.
#[test]
fn a_change_that_fails_can_be_finished() {
    for fail_after in 0..3 {
        let directory = tempfile::tempdir().unwrap();
        let (engine, controller) = start(directory.path());
        *engine.fail_after.lock().unwrap() = Some(fail_after);
        let problem = controller.apply(sample(), false).unwrap_err();
        assert!(problem.what.ends_with("the disk is on fire"), "{problem}");
        *engine.fail_after.lock().unwrap() = None;
        let rest = controller.apply(sample(), false).unwrap();
        assert_eq!(rest.steps.len(), 3 - fail_after);
        assert_eq!(engine.world.lock().unwrap().slots.len(), 1);
    }
}

/// The worker dies after the note and before the last step: the next one goes
/// where the change was going.
#[test]
fn a_change_that_was_cut_off_is_finished_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    let mut pending = sample();
    for (index, volume) in pending.disk.values_mut().enumerate() {
        volume.naa = Some(Naa::from_random([index as u8; 16]));
    }
    pending.identity.port.insert("web1.disk0".to_owned(), 1);
    let mut store = Store::open(directory.path()).unwrap();
    store.save(Document { site: Site::default(), pending: Some(pending.clone()), config: None }).unwrap();
    drop(store);
    let (engine, controller) = start(directory.path());
    assert_eq!(controller.start(None), []);
    assert_eq!(controller.site(), pending);
    assert_eq!(engine.world.lock().unwrap().volumes.len(), 2);
    drop(controller);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!(store.document().pending, None);
}

/// A restart must not undo what was changed since the file was taken over;
/// a file that is new must be.
#[test]
fn an_unchanged_file_is_not_taken_over_again() {
    let directory = tempfile::tempdir().unwrap();
    let (_, controller) = start(directory.path());
    assert_eq!(controller.start(Some(sample())), []);
    let grown = |site: &mut Site| {
        site.disk.get_mut("b").unwrap().size = Some("2GiB".parse().unwrap());
        Ok(())
    };
    controller.change(false, grown).unwrap();
    drop(controller);
    let (_, controller) = start(directory.path());
    assert_eq!(controller.start(Some(sample())), []);
    assert_eq!(controller.site().disk["b"].size.unwrap().0, 2 << 30);
    drop(controller);
    let mut smaller = sample();
    smaller.disk.remove("b");
    let (_, controller) = start(directory.path());
    assert_eq!(controller.start(Some(smaller)), []);
    assert!(!controller.site().disk.contains_key("b"));
}

/// One broken volume does not take the others away.
#[test]
fn a_start_goes_on_after_a_failure() {
    let directory = tempfile::tempdir().unwrap();
    let (_, controller) = start(directory.path());
    controller.apply(sample(), false).unwrap();
    drop(controller);
    let (engine, controller) = start(directory.path());
    *engine.fail_after.lock().unwrap() = Some(1);
    let problems = controller.start(None);
    assert_eq!(problems.len(), 2);
    assert_eq!(controller.site().disk.len(), 2, "what is declared stays");
}
