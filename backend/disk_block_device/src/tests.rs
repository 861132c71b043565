use super::*;

use std::process::Command;

use conformance::{Subject, check, check_read_only};

/// A loop device over a file of this test's own.
struct Loop {
    backing: PathBuf,
    device: PathBuf,
}

impl Loop {
    /// `None`, with the reason on the terminal, where loop devices cannot be made.
    fn new(name: &str, block_size: u32) -> Option<Self> {
        let backing = std::env::temp_dir().join(format!("standpipe-block-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&backing);
        file::create(&backing, 16 << 20).unwrap();
        let made = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on", "--sector-size", &block_size.to_string()])
            .arg(&backing)
            .output();
        let reason = match made {
            Ok(output) if output.status.success() => {
                let device = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
                return Some(Self { backing, device });
            }
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        let _ = std::fs::remove_file(&backing);
        println!("skipped: no loop device can be made here: {}", reason.trim());
        None
    }

    fn options(&self) -> Options {
        Options {
            path: self.device.clone(),
            read_only: false,
            block_size: None,
            physical_block_size: None,
            identity: conformance::identity(),
            patience: Duration::from_secs(1),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
        let _ = std::fs::remove_file(&self.backing);
    }
}

fn ring() -> Rc<Ring> {
    Rc::new(Ring::new(32).unwrap())
}

/// Lets the kernel work.
fn turn(ring: &Ring) -> Instant {
    ring.reap(&mut Vec::new());
    ring.wait().unwrap();
    ring.reap(&mut Vec::new());
    Instant::default()
}

fn conforms(device: &Loop, options: Options) -> DiskBlockDevice {
    let ring = ring();
    let mut disk = DiskBlockDevice::open(Rc::clone(&ring), options).unwrap();
    assert_eq!(disk.facts().capacity_bytes(), 16 << 20);
    println!("{:?} {:?}", disk.0.backing(), disk.facts());
    check(Subject {
        disk: &mut disk,
        pump: &mut || turn(&ring),
        keeps_data: true,
        allocated: Some(&|| file::allocated(&std::fs::File::open(&device.backing).unwrap()).unwrap()),
        tells_holes: false,
        grow: Some(&|bytes| {
            std::fs::OpenOptions::new().write(true).open(&device.backing).unwrap().set_len(bytes).unwrap();
            let status = Command::new("losetup").arg("--set-capacity").arg(&device.device).status();
            assert!(status.unwrap().success());
        }),
    });
    disk
}

#[test]
fn conforms_on_a_loop_device() {
    for block_size in [512, 4096] {
        let Some(device) = Loop::new(&format!("conforms-{block_size}"), block_size) else { return };
        let disk = conforms(&device, device.options());
        assert_eq!(disk.facts().block_size, block_size);
        assert!(disk.0.backing().direct.is_some());
    }
}

#[test]
fn conforms_with_blocks_that_are_not_the_device_s() {
    for (of_device, block_size) in [(512, 4096), (512, 2048), (4096, 512)] {
        let name = format!("conforms-{of_device}-{block_size}");
        let Some(device) = Loop::new(&name, of_device) else { return };
        let disk = conforms(&device, Options { block_size: Some(block_size), ..device.options() });
        assert_eq!(disk.facts().block_size, block_size);
        // What the device would have to do to a part of its block goes by the page cache.
        let larger = of_device > block_size;
        assert_eq!(disk.0.backing().direct.is_none(), larger);
        if larger {
            assert_eq!((disk.facts().physical_exponent, disk.facts().discard), (3, None));
            assert!(disk.facts().write_cache);
        }
    }
}

#[test]
fn guests_are_told_the_physical_block_that_was_asked_for() {
    let Some(device) = Loop::new("physical", 512) else { return };
    let open = |block_size, physical_block_size| {
        let options = Options { block_size, physical_block_size, ..device.options() };
        DiskBlockDevice::open(ring(), options)
            .map(|disk| disk.facts().physical_exponent)
            .map_err(|error| error.to_string())
    };
    assert_eq!(open(None, Some(512)), Ok(0));
    assert_eq!(open(Some(512), Some(4096)), Ok(3));
    assert_eq!(open(Some(4096), None), Ok(0));
    assert!(
        open(Some(4096), Some(512)).unwrap_err().contains("physical block size 512 is not a power of two")
    );
    assert!(open(Some(1024), None).unwrap_err().ends_with("only 512, 2048 and 4096 are supported"));
}

#[test]
fn a_device_has_one_writer_and_readers_refuse_writes() {
    let Some(device) = Loop::new("in-use", 512) else { return };
    let patience = Duration::ZERO;
    let writer = DiskBlockDevice::open(ring(), device.options()).unwrap();
    let second = DiskBlockDevice::open(ring(), Options { patience, ..device.options() });
    let error = second.err().unwrap();
    assert!(error.to_string().contains(": in use, as a mounted file system"), "{error}");
    drop(writer);

    let ring = ring();
    let options = Options { read_only: true, ..device.options() };
    let mut disk = DiskBlockDevice::open(Rc::clone(&ring), options).unwrap();
    check_read_only(&mut disk, &mut || turn(&ring));

    let options = Options { path: device.backing.clone(), ..device.options() };
    let error = DiskBlockDevice::open(Rc::clone(&ring), options).err().unwrap();
    assert!(error.to_string().ends_with("not a block device"), "{error}");
}
