//! The disk peer: qemu-storage-daemon with a vhost-user-blk export.

use std::path::{Path, PathBuf};

use super::machine::{Daemon, Machine};

pub const PROGRAM: &str = "/usr/bin/qemu-storage-daemon";

pub struct Qsd {
    daemon: Daemon,
    pub socket: PathBuf,
}

/// What the export stands on.
pub enum Store<'a> {
    /// A null device that moves no data.
    Null { bytes: u64 },
    /// A file, O_DIRECT, by io_uring.
    File(&'a Path),
}

impl Qsd {
    pub fn start(machine: &Machine, name: &str, store: &Store<'_>) -> Result<Qsd, String> {
        let socket = machine.scratch.join(format!("qsd-{name}.sock"));
        let node = match store {
            Store::Null { bytes } => format!("driver=null-co,node-name=disk,size={bytes},read-zeroes=off"),
            // Our server has the file open too, and nobody writes: locks would only keep us apart.
            Store::File(path) => format!(
                "driver=file,node-name=disk,filename={},cache.direct=on,aio=io_uring,locking=off",
                path.display()
            ),
        };
        let export = format!(
            "type=vhost-user-blk,id=export,node-name=disk,writable=on,num-queues=1,iothread=io,\
             addr.type=unix,addr.path={}",
            socket.display()
        );
        let mut words = machine.in_tree(PROGRAM);
        for word in ["--blockdev", &node, "--object", "iothread,id=io", "--export", &export] {
            words.push(word.to_owned());
        }
        let mut daemon = machine.daemon(&format!("qsd-{name}"), &words)?;
        let path = socket.clone();
        daemon.wait_for("its socket", || path.exists())?;
        Ok(Qsd { daemon, socket })
    }

    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }
}
