//! `standpipe-load net`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::figure;
use crate::driver::emulated::{self, Driver, Model, NicOptions};
use crate::driver::error::{Error, Result};
use crate::driver::net::{GSO_FRAME_BYTES_MAX, Net, NetOptions};
use crate::driver::nic::Nic;
use crate::driver::session::Session;
use crate::load::net::{Direction, NetFigures, NetLoad, run_on};
use crate::load::{daemon, frame};

/// The Ethernet frame check sequence, which no virtio ring carries.
const FCS_BYTES: u32 = 4;
/// Preamble, start delimiter, FCS and the gap between frames: what a frame takes on a wire more.
const WIRE_OVERHEAD_BYTES: u64 = 24;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DirectionArgument {
    Oneway,
    Both,
    Echo,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ModelArgument {
    #[value(name = "virtio-net")]
    VirtioNet,
    E1000,
    E1000e,
    Vlance,
    Vmxnet3,
}

/// A port that is driven.
enum Port {
    Virtio(Box<Net>),
    Emulated(Box<dyn Driver>),
}

impl Port {
    fn nic(&mut self) -> Nic<'_> {
        match self {
            Port::Virtio(net) => Nic::Virtio(net),
            Port::Emulated(driver) => Nic::Emulated(driver.as_mut()),
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example: standpipe-load net --socket a.nic0.sock --socket b.nic0.sock --size 64 --direction both"
)]
pub struct NetArguments {
    /// The two ports' sockets: the first one sends
    #[arg(long = "socket", required = true)]
    sockets: Vec<PathBuf>,
    /// What is behind each socket; one --model is for both
    #[arg(long = "model", value_enum)]
    models: Vec<ModelArgument>,
    /// Drivers of emulated NICs ring for each frame, not for each burst
    #[arg(long)]
    doorbell_each: bool,
    /// Listen on the sockets instead of connecting to them
    #[arg(long)]
    listen: bool,
    #[arg(long, value_enum, default_value_t = DirectionArgument::Oneway)]
    direction: DirectionArgument,
    /// Bytes of a frame, FCS included (with --mss: without)
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// Send TCP frames with segmentation offload to segments of this size
    #[arg(long)]
    mss: Option<u16>,
    #[arg(long, default_value_t = 1)]
    flows: u16,
    /// MAC addresses behind each port, in rotation
    #[arg(long, default_value_t = 1)]
    macs: u16,
    /// Frames a second from each sender (0: as many as go)
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// Frames of a sender that have not arrived yet (0: no bound; echo: 1)
    #[arg(long, default_value_t = 0)]
    in_flight: u64,
    #[arg(long, default_value_t = 32)]
    burst: u16,
    /// Put times into the frames, and print the latency
    #[arg(long)]
    latency: bool,
    /// Check each frame's length, order and bytes
    #[arg(long)]
    verify: bool,
    /// Sleep for interrupts instead of polling
    #[arg(long)]
    event: bool,
    #[arg(long, default_value_t = 3.0)]
    secs: f64,
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Leave the rings alone for so many ns after a turn that moved little
    #[arg(long, default_value_t = 300)]
    relax: u64,
    /// Queue pairs of each port
    #[arg(long, default_value_t = 1)]
    pairs: u16,
    #[arg(long, default_value_t = 256)]
    ring: u16,
    #[arg(long, default_value_t = 2048)]
    rx_buffer: u32,
    #[arg(long, default_value_t = 32768)]
    segment: u32,
    #[arg(long)]
    no_mergeable: bool,
    /// Negotiate the offloads (implied by --mss)
    #[arg(long)]
    offloads: bool,
    #[arg(long)]
    packed: bool,
    #[arg(long)]
    no_indirect: bool,
    #[arg(long)]
    no_event_idx: bool,
    #[arg(long, default_value_t = 1)]
    regions: usize,
    #[arg(long)]
    huge: bool,
    /// Processes of the server, for its CPU time
    #[arg(long = "pid")]
    pids: Vec<u32>,
}

impl NetArguments {
    fn options(&self) -> NetOptions {
        let offloads = self.offloads || self.mss.is_some();
        // Without mergeable buffers a guest with segmentation offload posts whole ones.
        let receive_buffer_bytes =
            if offloads && self.no_mergeable { GSO_FRAME_BYTES_MAX + 12 } else { self.rx_buffer };
        NetOptions {
            pairs: self.pairs,
            ring_size: self.ring,
            frame_bytes_max: self.frame_bytes(),
            receive_buffer_bytes,
            segment_bytes: self.segment,
            mergeable: !self.no_mergeable,
            offloads,
            control: false,
            packed: self.packed,
            indirect: !self.no_indirect,
            event_idx: !self.no_event_idx,
            regions: self.regions,
            huge_pages: self.huge,
            populate: true,
        }
    }

    fn frame_bytes(&self) -> u32 {
        if self.mss.is_some() { self.size } else { self.size.saturating_sub(FCS_BYTES) }
    }

    fn load(&self) -> NetLoad {
        let direction = match self.direction {
            DirectionArgument::Oneway => Direction::OneWay,
            DirectionArgument::Both => Direction::BothWays,
            DirectionArgument::Echo => Direction::Echo,
        };
        let echo = direction == Direction::Echo;
        NetLoad {
            direction,
            frame_bytes: self.frame_bytes(),
            mss: self.mss,
            flows: self.flows,
            macs: self.macs,
            rate: self.rate,
            in_flight_max: if echo { self.in_flight.max(1) } else { self.in_flight },
            burst: self.burst,
            latency: self.latency,
            verify: self.verify,
            event: self.event,
            warmup: Duration::from_secs_f64(self.warmup),
            measured: Duration::from_secs_f64(self.secs),
            relax: Duration::from_nanos(self.relax),
            pids: self.pids.clone(),
        }
    }

    /// True when nothing was wrong with what came back; loss at full speed is no fault.
    pub fn run(&self) -> Result<bool> {
        let [first, second] = &self.sockets[..] else {
            return Err(Error::Unsupported("two --socket are needed".into()));
        };
        if self.frame_bytes() > GSO_FRAME_BYTES_MAX {
            return Err(Error::Unsupported(format!("a frame has at most {GSO_FRAME_BYTES_MAX} bytes")));
        }
        let models = match self.models[..] {
            [] => [ModelArgument::VirtioNet; 2],
            [both] => [both; 2],
            [first, second] => [first, second],
            _ => return Err(Error::Unsupported("two --model at most".into())),
        };
        let mut a = self.open(first, models[0], 1)?;
        let mut b = self.open(second, models[1], 2)?;
        let figures = run_on([a.nic(), b.nic()], &self.load())?;
        for port in [a, b] {
            if let Port::Virtio(mut net) = port {
                net.stop()?;
            }
        }
        self.print(&figures);
        Ok(figures.ports.iter().all(|port| port.wrong_length + port.wrong_bytes + port.reordered == 0))
    }

    fn open(&self, path: &Path, model: ModelArgument, port: u8) -> Result<Port> {
        let model = match model {
            ModelArgument::VirtioNet => {
                let patience = Duration::from_secs(if self.listen { 20 } else { 5 });
                let session = if self.listen {
                    Session::listen(path, patience)
                } else {
                    Session::connect(path, patience)
                };
                let net = Net::over(session?, &self.options())?;
                figure("features", format_args!("{:#x}", net.session.features()));
                return Ok(Port::Virtio(Box::new(net)));
            }
            ModelArgument::E1000 => Model::E1000,
            ModelArgument::E1000e => Model::E1000e,
            ModelArgument::Vlance => Model::Vlance,
            ModelArgument::Vmxnet3 => Model::Vmxnet3,
        };
        if self.listen || self.mss.is_some() || self.offloads || self.pairs > 1 || self.frame_bytes() > 1514 {
            return Err(Error::Unsupported(
                "drivers of emulated NICs connect, have one pair, no offloads, and frames of 1518 bytes at most"
                    .into(),
            ));
        }
        let options = NicOptions {
            mac: frame::mac(port, 0),
            promiscuous: self.macs > 1,
            ring_size: self.ring,
            frame_bytes_max: self.frame_bytes(),
            doorbell_each: self.doorbell_each,
        };
        Ok(Port::Emulated(emulated::open(model, path, &options)?))
    }

    fn print(&self, figures: &NetFigures) {
        let [a, b] = &figures.ports;
        let received = a.received + b.received;
        let bytes = a.received_bytes + b.received_bytes;
        let wire_bits = (bytes + received * WIRE_OVERHEAD_BYTES) as f64 * 8.0;
        figure("sent", a.sent + b.sent);
        figure("received", received);
        figure("rx_mpps", format_args!("{:.4}", received as f64 / figures.seconds / 1e6));
        figure("rx_gbps", format_args!("{:.3}", bytes as f64 * 8.0 / figures.seconds / 1e9));
        figure("rx_gbps_wire", format_args!("{:.3}", wire_bits / figures.seconds / 1e9));
        let loss = figures.lost as f64 * 100.0 / figures.sent_in_all.max(1) as f64;
        figure("lost", figures.lost);
        figure("loss_pct", format_args!("{loss:.4}"));
        let idle = figures.idle_turns as f64 * 100.0 / figures.turns.max(1) as f64;
        figure("load_idle_turns_pct", format_args!("{idle:.1}"));
        if !figures.latencies.is_empty() {
            let latencies = &figures.latencies;
            figure("latency_min_us", format_args!("{:.2}", latencies.min_us()));
            for (name, percent) in [("p50", 50.0), ("p99", 99.0), ("p999", 99.9)] {
                figure(
                    &format!("latency_{name}_us"),
                    format_args!("{:.2}", latencies.percentile_us(percent)),
                );
            }
            figure("latency_max_us", format_args!("{:.1}", latencies.max_us()));
        }
        figure(
            "messages_per_packet",
            format_args!("{:.4}", figures.messages as f64 / received.max(1) as f64),
        );
        if !self.pids.is_empty() {
            let per_packet = figures.server_cpu_ns as f64 / received.max(1) as f64;
            figure(
                "server_cores",
                format_args!("{:.3}", figures.server_cpu_ns as f64 / 1e9 / figures.seconds),
            );
            figure("server_ns_per_packet", format_args!("{per_packet:.1}"));
            if let Some(rate) = daemon::cycles_per_ns() {
                figure("server_cycles_per_packet", format_args!("{:.0}", per_packet * rate));
            }
        }
        if self.verify {
            for (at, port) in figures.ports.iter().enumerate() {
                figure(&format!("port{at}_foreign"), port.foreign);
                figure(&format!("port{at}_wrong_length"), port.wrong_length);
                figure(&format!("port{at}_wrong_bytes"), port.wrong_bytes);
                figure(&format!("port{at}_reordered"), port.reordered);
            }
        }
    }
}
