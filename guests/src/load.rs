//! Verified load in a guest: fio's own checksums for disks, a known stream for NICs.

use crate::guest::{COMMAND_MAX, Guest, Job};
use crate::world::eventually;
use crate::{During, Failure, Result};
use serde_json::Value;
use std::time::Duration;

/// fio starts, in an emulated guest on a busy host.
const START_MAX: Duration = Duration::from_secs(180);

/// What a verified load came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Requests that ended, or bytes that arrived.
    pub done: u64,
    pub io_errors: u64,
    pub wrong_bytes: u64,
}

impl Verdict {
    pub fn clean(&self) -> bool {
        self.done > 0 && self.io_errors == 0 && self.wrong_bytes == 0
    }
}

/// fio writes a region at random in one pass and then reads it all back, again and again. Every
/// block carries a checksum, its own offset, and the number of its write: so lost, torn, misplaced,
/// repeated and stale writes are all told from good ones.
#[derive(Debug, Clone)]
pub struct VerifiedWrites {
    pub device: String,
    pub region_mib: u64,
    pub depth: u32,
    /// Passes over the region; a load that is stopped earlier gives it many.
    pub passes: u32,
}

impl VerifiedWrites {
    fn report(&self) -> String {
        format!("/tmp/verify-{}.json", self.device.replace('/', "-"))
    }

    pub fn command(&self) -> String {
        format!(
            "fio --name=verify --filename={} --rw=randwrite --bs=4k --size={}m --iodepth={} --ioengine=libaio --direct=1 \
             --verify=crc32c --verify_write_sequence=1 --do_verify=1 --verify_fatal=0 --continue_on_error=all --loops={} \
             --output-format=json --output={}",
            self.device,
            self.region_mib,
            self.depth,
            self.passes,
            self.report()
        )
    }

    /// The same from each of the guest's first processors at once, each with a region of its own: so
    /// that every queue of a device that has one for each processor gets requests.
    pub fn command_on_each(&self, processors: u32) -> String {
        format!(
            "{} --numjobs={processors} --offset_increment={}m --cpus_allowed=0-{} --cpus_allowed_policy=split",
            self.command(),
            self.region_mib,
            processors - 1
        )
    }

    /// Reads what fio said after it ended with this output.
    pub fn verdict(&self, guest: &Guest, output: &str) -> Result<Verdict> {
        let report = guest.check(&format!("cat {}", self.report()))?;
        read_verdict(&report, output)
    }

    /// Starts the load, and comes back when it writes.
    pub fn start(&self, guest: &Guest) -> Result<Job> {
        let disk = self.device.trim_start_matches("/dev/");
        let written = |guest: &Guest| -> Result<u64> {
            let text = guest.check(&format!("awk '{{ print $5 }}' /sys/block/{disk}/stat"))?;
            text.trim().parse().during(format!("the statistics of {disk} say {text}"))
        };
        let before = written(guest)?;
        let job = guest.spawn(&self.command())?;
        eventually("the load writes", START_MAX, || {
            if job.finished() {
                return Err(Failure::new("the load ended before it wrote anything"));
            }
            Ok(written(guest)? > before)
        })?;
        Ok(job)
    }

    /// Runs all passes to their end.
    pub fn run(&self, guest: &Guest, timeout: Duration) -> Result<Verdict> {
        let output = guest.run(&self.command(), timeout)?;
        self.verdict(guest, &output.stdout)
    }

    /// Lets a load that was started with `spawn` end where it is.
    pub fn stop(&self, guest: &Guest, job: Job) -> Result<Verdict> {
        guest.check(&format!("pkill -INT -f 'name=verify --filename={}'", self.device))?;
        let output = job.wait(COMMAND_MAX)?;
        self.verdict(guest, &output.stdout)
    }
}

/// fio's JSON counts every kind of error together. A failed verification also says so in words, with
/// the length of the block; the difference are I/O errors.
fn read_verdict(report: &str, output: &str) -> Result<Verdict> {
    let json = report.find('{').map_or("", |at| &report[at..]);
    let report: Value = serde_json::from_str(json).during(format!("reading fio's report {output}"))?;
    let jobs = report["jobs"].as_array().filter(|jobs| !jobs.is_empty()).during("fio's report has no job")?;
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let done =
        jobs.iter().map(|job| count(&job["write"]["total_ios"]) + count(&job["read"]["total_ios"])).sum();
    let mut wrong_blocks = 0;
    let mut wrong_bytes = 0;
    for line in output.lines().filter(|line| line.contains("verify: ") && line.contains("length ")) {
        let length =
            line.split("length ").nth(1).and_then(|rest| rest.split([' ', ',']).next()?.parse::<u64>().ok());
        wrong_bytes += length.unwrap_or(4096);
        wrong_blocks += 1;
    }
    let failed = |job: &Value| count(&job["total_err"]).max(u64::from(count(&job["error"]) != 0));
    let errors: u64 = jobs.iter().map(failed).sum();
    let io_errors = errors.saturating_sub(wrong_blocks);
    if errors > 0 && wrong_blocks == 0 {
        return Ok(Verdict { done, io_errors: errors, wrong_bytes: 0 });
    }
    Ok(Verdict { done, io_errors, wrong_bytes })
}

/// A stream of known bytes from one guest to another, compared byte by byte where it arrives.
#[derive(Debug, Clone)]
pub struct Stream {
    pub mib: u32,
    pub port: u16,
}

/// The bytes of every stream: made from a seed by both ends, without a network.
fn reference(mib: u32) -> String {
    // Encrypted counters would be nicer; busybox has none. Numbers in decimal differ in every line.
    format!("seq 1000000 9999999 | head -c {}", u64::from(mib) * 1024 * 1024)
}

impl Stream {
    /// Sends once; gives the time it took at the receiver, or what was wrong.
    pub fn send(&self, from: &Guest, to: &Guest, address: &str, timeout: Duration) -> Result<Verdict> {
        let bytes = u64::from(self.mib) << 20;
        // IPv6 addresses come in brackets.
        let family = if address.starts_with('[') { 6 } else { 4 };
        let receiver = to.spawn(&format!(
            "socat -u TCP{family}-LISTEN:{},reuseaddr OPEN:/tmp/stream.{1},creat,trunc; wc -c </tmp/stream.{1}; {2} | cmp -l - /tmp/stream.{1} 2>/dev/null | wc -l; rm -f /tmp/stream.{1}",
            self.port,
            self.port,
            reference(self.mib)
        ))?;
        let listening = format!(
            "for i in $(seq 100); do ss -ltn | grep -q ':{} ' && exit 0; usleep 50000; done; exit 1",
            self.port
        );
        to.check(&listening)?;
        let sender = from.run(
            &format!("{} | socat -u - TCP{family}:{address}:{}", reference(self.mib), self.port),
            timeout,
        )?;
        if sender.status != 0 {
            // The receiver may wait for a connection that never comes.
            return Err(Failure::new(format!(
                "the sender of a stream to {address} ended with status {}: {}",
                sender.status,
                sender.stdout.trim()
            )));
        }
        let received = receiver.wait(timeout)?.stdout;
        let figures: Vec<u64> = received.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let [arrived, wrong] = figures[..] else {
            return Err(Failure::new(format!("the receiver of the stream said: {received}")));
        };
        Ok(Verdict { done: arrived, io_errors: 0, wrong_bytes: wrong + bytes.abs_diff(arrived) })
    }
}

/// One run of iperf3 from a client to a server that is listening already; gives Mbit/s at the receiver.
pub fn iperf3(client: &Guest, address: &str, options: &str, seconds: u32) -> Result<f64> {
    let command = format!("iperf3 -c {address} -t {seconds} -J {options}");
    let output = client.run(&command, COMMAND_MAX + Duration::from_secs(u64::from(seconds)))?;
    let report: Value =
        serde_json::from_str(&output.stdout).during(format!("reading iperf3's report: {}", output.stdout))?;
    if let Some(error) = report.get("error") {
        return Err(Failure::new(format!("iperf3: {error}")));
    }
    let bits = report["end"]["sum_received"]["bits_per_second"].as_f64().during("iperf3 reports no rate")?;
    Ok(bits / 1e6)
}

/// Starts an iperf3 server in a guest, which serves until the guest ends.
pub fn iperf3_server(guest: &Guest) -> Result<()> {
    guest.check("iperf3 -s -D && for i in $(seq 100); do ss -ltn | grep -q ':5201 ' && exit 0; usleep 50000; done; exit 1").map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_wrong_blocks_from_io_errors() {
        let report = r#"note: before the JSON
            {"jobs": [{"error": 84, "total_err": 3, "write": {"total_ios": 100}, "read": {"total_ios": 50}}]}"#;
        let output = "verify: bad header rand_seed 1, wanted 2 at file /dev/sda offset 4096, length 4096 (requested block: offset=4096, length=4096)\n\
                      fio: io_u error on file /dev/sda: Input/output error: read offset=8192, buflen=4096\n\
                      crc32c: verify: failed at file /dev/sda offset 0, length 512 (requested block)\n";
        let verdict = read_verdict(report, output).unwrap();
        assert_eq!(verdict, Verdict { done: 150, io_errors: 1, wrong_bytes: 4608 });
        assert!(!verdict.clean());
        let clean = read_verdict(r#"{"jobs": [{"error": 0, "total_err": 0, "write": {"total_ios": 1}, "read": {"total_ios": 1}}]}"#, "").unwrap();
        assert!(clean.clean());
        // The errors of the second of two jobs count.
        let job = r#"{"error": 0, "write": {"total_ios": 3}, "read": {"total_ios": 1}}"#;
        let failed = r#"{"error": 5, "total_err": 2, "write": {"total_ios": 1}, "read": {"total_ios": 0}}"#;
        let both = read_verdict(&format!("{{\"jobs\": [{job}, {failed}]}}"), "").unwrap();
        assert_eq!(both, Verdict { done: 5, io_errors: 2, wrong_bytes: 0 });
    }
}
