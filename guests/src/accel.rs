//! Whether KVM truly boots a stock kernel here.
//!
//! `/dev/kvm` may exist, open, and yet hang a guest in its firmware (nested machines do that). So a
//! guest is booted once, and the verdict is kept until the host boots anew.

use crate::guest::{Accel, Guest, GuestSpec};
use crate::place::{Image, Scratch, cache};
use crate::{During, Result};
use std::time::Duration;

/// A guest that KVM boots is up in two seconds; one that is not up by now hangs.
const PROBE_MAX: Duration = Duration::from_secs(15);

/// The fastest way that works on this host, and a sentence that says why.
pub fn probe(image: &Image, mut progress: impl FnMut(&str)) -> Result<(Accel, String)> {
    match std::env::var("STANDPIPE_ACCEL").as_deref() {
        Ok("kvm") => return Ok((Accel::Kvm, "KVM, as STANDPIPE_ACCEL says".into())),
        Ok("tcg") => return Ok((Accel::Tcg, "TCG, as STANDPIPE_ACCEL says".into())),
        _ => {}
    }
    if let Err(error) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        return Ok((Accel::Tcg, format!("TCG (emulation): /dev/kvm does not open: {error}")));
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let subject = boot.trim();
    let file = cache()?.join("kvm-verdict");
    let remembered = std::fs::read_to_string(&file).unwrap_or_default();
    let works = match remembered.strip_prefix(subject).map(str::trim) {
        Some("works") => true,
        Some("hangs") => false,
        _ => {
            progress("trying whether KVM boots a stock kernel here (at most 15 s, once)");
            let scratch = Scratch::new("kvm-probe")?;
            let guest =
                Guest::start(image, GuestSpec::new("probe", Accel::Kvm, &scratch.files, &scratch.sockets));
            let works = guest.is_ok_and(|guest| guest.wait_boots(1, PROBE_MAX).is_ok());
            let verdict = if works { "works" } else { "hangs" };
            std::fs::write(&file, format!("{subject} {verdict}\n"))
                .during(format!("writing {}", file.display()))?;
            works
        }
    };
    Ok(match works {
        true => (Accel::Kvm, "KVM: it boots a stock kernel here".into()),
        false => (
            Accel::Tcg,
            "TCG (emulation): /dev/kvm is there, but a stock kernel did not boot with it within 15 s".into(),
        ),
    })
}
