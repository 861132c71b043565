use super::*;

use std::os::unix::fs::{PermissionsExt, symlink};

/// A folder of this test's own, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("standpipe-stable-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Self(path)
    }

    fn open(&self) -> Store<Folder> {
        Store::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_last_state_that_was_written_is_found_again() {
    let scratch = Scratch::new("found");
    let store = scratch.open();
    assert_eq!(store.read("a").unwrap(), None);
    store.write("a", b"one").unwrap();
    store.write("b", b"").unwrap();
    store.write("a", b"two").unwrap();
    drop(store);
    let store = scratch.open();
    assert_eq!(store.read("a").unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(store.read("b").unwrap().as_deref(), Some(&b""[..]));
    assert_eq!(store.names().unwrap(), ["a", "b"]);
    store.remove("a").unwrap();
    store.remove("a").unwrap();
    assert_eq!(store.read("a").unwrap(), None);
    assert_eq!(store.names().unwrap(), ["b"]);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&scratch.0), mode(&scratch.0.join("b"))), (0o700, 0o600));
}

#[test]
fn what_a_death_has_left_is_no_state_and_is_removed() {
    let scratch = Scratch::new("left");
    let store = scratch.open();
    store.write("naa.6000", b"old").unwrap();
    for (name, bytes) in [(".naa.6000.new", &b"half of"[..]), (".another.new", b"")] {
        std::fs::write(scratch.0.join(name), bytes).unwrap();
    }
    std::fs::write(scratch.0.join("no state's name!"), b"of somebody else").unwrap();
    assert_eq!(store.names().unwrap(), ["naa.6000"]);
    store.sweep().unwrap();
    let mut left: Vec<_> = std::fs::read_dir(&scratch.0)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    assert_eq!(left, ["naa.6000", "no state's name!"]);
    assert_eq!(store.read("naa.6000").unwrap().as_deref(), Some(&b"old"[..]));
    store.write("naa.6000", b"new").unwrap();
    assert_eq!(store.read("naa.6000").unwrap().as_deref(), Some(&b"new"[..]));
}

/// Typed by hand: eight bytes of magic, length and CRC-32C of the name and the state in little endian.
/// The checksum of "123456789" is the check value that is published for CRC-32C.
#[test]
fn a_file_is_its_envelope_and_the_state() {
    let scratch = Scratch::new("golden");
    let store = scratch.open();
    store.write("1234", b"56789").unwrap();
    let bytes = std::fs::read(scratch.0.join("1234")).unwrap();
    assert_eq!(bytes, b"SPstate\x01\x05\x00\x00\x00\x83\x92\x06\xe356789");
}

#[test]
fn what_is_not_what_was_written_is_told_from_a_state() {
    let scratch = Scratch::new("damaged");
    let store = scratch.open();
    store.write("a", b"a state of some length").unwrap();
    let path = scratch.0.join("a");
    let good = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let error = store.read("a").expect_err(what);
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{what}");
        assert!(error.to_string().starts_with("the state `a` is damaged: "), "{error}");
    };
    for len in 0..good.len() {
        refused(&good[..len], &format!("the first {len} bytes"));
    }
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        refused(&bytes, &format!("bit {bit} turned over"));
    }
    refused(&[&good[..], b"x"].concat(), "a byte more");
    refused(&vec![0; good.len()], "zeroes");
    refused(&vec![0xff; STATE_MAX_BYTES * 2], "a very long file");
    std::fs::write(scratch.0.join("b"), &good).unwrap();
    assert_eq!(store.read("b").unwrap_err().kind(), io::ErrorKind::InvalidData, "another one's state");
    std::fs::write(&path, &good).unwrap();
    assert!(store.read("a").unwrap().is_some());
}

#[test]
fn names_that_could_lead_elsewhere_and_states_that_are_too_long_are_refused() {
    let scratch = Scratch::new("names");
    let store = scratch.open();
    for name in ["", ".", "..", "a/b", "../a", ".a", ".a.new", "a b", "a\0", &"a".repeat(129)] {
        assert_eq!(store.write(name, b"x").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(store.read(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
        assert_eq!(store.remove(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
    assert!(store.write("long", &vec![7; STATE_MAX_BYTES + 1]).is_err());
    store.write("long", &vec![7; STATE_MAX_BYTES]).unwrap();
    assert_eq!(store.read("long").unwrap().map(|state| state.len()), Some(STATE_MAX_BYTES));
    // A link is not followed, to read or to write.
    let elsewhere = Scratch::new("elsewhere");
    std::fs::write(&elsewhere.0, b"precious").unwrap();
    symlink(&elsewhere.0, scratch.0.join("link")).unwrap();
    symlink(&elsewhere.0, scratch.0.join(".other.new")).unwrap();
    assert!(store.read("link").is_err());
    assert!(store.write("other", b"x").is_err());
    assert_eq!(std::fs::read(&elsewhere.0).unwrap(), b"precious");
    std::fs::remove_file(&elsewhere.0).unwrap();
}

#[test]
fn errors_say_where() {
    let scratch = Scratch::new("errors");
    let missing = scratch.0.join("not there");
    let error = Store::open(&missing).err().unwrap().to_string();
    assert!(error.contains("not there") && error.contains("No such file"), "{error}");
    let store = scratch.open();
    std::fs::create_dir(scratch.0.join("a")).unwrap();
    let error = store.write("a", b"x").unwrap_err().to_string();
    assert!(error.contains("errors/a: "), "{error}");
    assert!(!scratch.0.join(".a.new").exists(), "nothing is left of a write that failed");
}
