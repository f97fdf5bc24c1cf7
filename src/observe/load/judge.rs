//! What is believed of a sample. Everything here is a plain function; nothing panics whatever an agent sends.

use miyako_api::wire::{MAX_VMS_PER_SAMPLE, load as wire};
use miyako_core::model::{Bytes, Cores, NodeName, Span, Timestamp, VmKey, Watts};

/// How long an agent may hold a sample back, and how long one may be under way, before it is refused: older ones are no
/// basis for anything (`SPECIFICATION.md`, rule 8). Of an older agent also how far its node's clock may be off.
pub const TOLERANCE: Span = Span::from_secs(3);

/// A figure above this many times the node's CPU is no measurement. Not 1: a sample covers about a second, and
/// what a stalled agent did not count in one it counts in the next.
const MOST_TIMES_CAPACITY: f64 = 4.0;

/// No machine has a million cores.
const MOST_CORES: f64 = 1e6;

/// A pebibyte of memory in one machine is a mistake.
const MOST_MEMORY: u64 = 1 << 50;

/// Ten terabytes per second through one machine's disks or network are a mistake.
const MOST_BYTES_PER_SECOND: f64 = 1e13;

/// A hundred kilowatts in one machine are a mistake. It is what a class's figures may say at most, too.
const MOST_WATTS: f64 = 1e5;

/// The longest namespace, name and uid that Kubernetes hands out.
const LONGEST: (usize, usize, usize) = (63, 253, 64);

/// What a node or VM uses, believed.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// CPU in use.
    pub cpu: Cores,
    /// Memory in use, where the source tells.
    pub memory: Option<Bytes>,
    /// Network, in bytes per second: received and sent together, where the source tells.
    pub network_bytes_per_second: Option<f64>,
    /// Disks, in bytes per second: read and written together, where the source tells.
    pub disk_bytes_per_second: Option<f64>,
    /// CPU that was wanted and not given, where the source tells.
    pub cpu_wait: Option<Cores>,
}

/// Why a sample, or one VM's part of it, is not believed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// An agent may speak only for the node that its pod runs on.
    #[error(
        "this agent runs on node {speaker:?} and may not report for node {claimed:?}; send samples of its own node"
    )]
    WrongNode {
        /// The node of the agent's token.
        speaker: NodeName,
        /// The node of its sample.
        claimed: NodeName,
    },
    /// There is no such node, or the watch has not seen it yet.
    #[error("the API server shows no node {0:?}")]
    UnknownNode(NodeName),
    /// Another, newer stream of the same node took over.
    #[error("a newer stream of this node took over")]
    Superseded,
    /// The node's clock is ahead of ours, or ours is behind.
    #[error("sent {by_millis} ms in the future: set the clocks of this node and the operator's (NTP)")]
    FromTheFuture {
        /// By how much.
        by_millis: u64,
    },
    /// The node's clock is behind ours, or the sample was under way for long.
    #[error(
        "sent {by_millis} ms in the past: set the clocks of this node and the operator's (NTP), or mend the network"
    )]
    FromThePast {
        /// By how much.
        by_millis: u64,
    },
    /// The times within the sample contradict each other.
    #[error("it says that it was sampled {by_millis} ms after it was sent")]
    SampledAfterSent {
        /// By how much.
        by_millis: u64,
    },
    /// The agent held the sample back for too long.
    #[error("held back for {for_millis} ms before it was sent")]
    HeldBack {
        /// For how long.
        for_millis: u64,
    },
    /// The network held the sample back for too long.
    #[error("under way for {for_millis} ms longer than other samples of its stream: mend the network")]
    UnderWay {
        /// For how long.
        for_millis: u64,
    },
    /// The sequence number was seen already.
    #[error("sequence {0} came before")]
    Duplicate(u64),
    /// The sequence number is below one that was seen.
    #[error("sequence {got} came after {newest}")]
    OutOfOrder {
        /// What came.
        got: u64,
        /// What had come.
        newest: u64,
    },
    /// There is a name and no figures.
    #[error("usage is missing")]
    NoFigures,
    /// NaN or infinite.
    #[error("{field} is not a finite number")]
    NotFinite {
        /// Which figure.
        field: &'static str,
    },
    /// Below zero.
    #[error("{field} is negative ({value})")]
    Negative {
        /// Which figure.
        field: &'static str,
        /// What it said.
        value: f64,
    },
    /// A counter that does not count.
    #[error("it says the same at several steps: is its target still scraped?")]
    StandsStill,
    /// More than any machine has, or far more than this one.
    #[error("{field} is {value}, more than the {most} that can be")]
    Absurd {
        /// Which figure.
        field: &'static str,
        /// What it said.
        value: f64,
        /// What would have been believed.
        most: f64,
    },
    /// What an agent tells of the time before its stream makes no sense. What it tells of now may.
    #[error("the past can't be taken in: {what}")]
    BadPast {
        /// What is wrong.
        what: &'static str,
    },
    /// More VMs than a node can run.
    #[error("{0} VMs in one sample; at most {MAX_VMS_PER_SAMPLE} are believed")]
    TooManyVms(usize),
    /// A namespace, name or uid that Kubernetes would not have given.
    #[error("a VM's namespace, name or uid is empty or too long")]
    BadName,
    /// There is no such VM, or the watch has not seen it yet.
    #[error("the API server shows no VM {0}")]
    UnknownVm(VmKey),
    /// The name belongs to another VM now.
    #[error("VM {0} has another uid: it was deleted and created again")]
    OtherUid(VmKey),
    /// The VM runs on another node; this one holds what is left of it or the target of its migration.
    #[error("VM {0} runs on another node")]
    Elsewhere(VmKey),
    /// One VM twice in a sample.
    #[error("VM {0} is in the sample twice")]
    Twice(VmKey),
}

impl Refusal {
    /// The name for metrics and conditions. It never contains what an agent sent.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::WrongNode { .. } => "WrongNode",
            Self::UnknownNode(_) => "UnknownNode",
            Self::Superseded => "Superseded",
            Self::FromTheFuture { .. } | Self::FromThePast { .. } => "ClockSkew",
            Self::SampledAfterSent { .. } => "SampledAfterSent",
            Self::HeldBack { .. } => "HeldBack",
            Self::UnderWay { .. } => "UnderWay",
            Self::Duplicate(_) => "Duplicate",
            Self::OutOfOrder { .. } => "OutOfOrder",
            Self::NoFigures => "NoFigures",
            Self::NotFinite { .. } => "NotFinite",
            Self::Negative { .. } => "Negative",
            Self::StandsStill => "StandsStill",
            Self::Absurd { .. } => "Absurd",
            Self::BadPast { .. } => "BadPast",
            Self::TooManyVms(_) => "TooManyVms",
            Self::BadName => "BadName",
            Self::UnknownVm(_) => "UnknownVm",
            Self::OtherUid(_) => "OtherUid",
            Self::Elsewhere(_) => "Elsewhere",
            Self::Twice(_) => "Twice",
        }
    }

    /// Whether it belongs to the day's business (a VM just moved, came or went) rather than to something broken.
    #[must_use]
    pub const fn is_ordinary(&self) -> bool {
        matches!(self, Self::Elsewhere(_) | Self::UnknownVm(_) | Self::OtherUid(_) | Self::Superseded)
    }

    /// Whether the stream it came on must end: whoever claims another node will not tell the truth next time.
    #[must_use]
    pub const fn ends_stream(&self) -> bool {
        matches!(self, Self::WrongNode { .. } | Self::Superseded)
    }
}

/// When the sample was taken, by our clock: the moment it arrived less the time that it was `under_way` and the time that
/// the agent held it back, by a clock of the agent's that nobody sets. What its node's wall clock shows is nobody's
/// business then. Of an older agent, which tells no such clock, the wall clock serves for the difference.
///
/// # Errors
/// Refuses samples that were held back or under way for longer than [`TOLERANCE`]; and of an older agent those whose clock
/// is further away from ours than that.
pub fn moment(sample: &wire::NodeSample, arrived: Timestamp, under_way: Span) -> Result<Timestamp, Refusal> {
    let Some((sampled, sent)) = sample.sampled_boot_ms.zip(sample.sent_boot_ms) else {
        return moment_by_wall_clocks(sample, arrived);
    };
    let Some(held_back) = sent.checked_sub(sampled).map(Span::from_millis) else {
        return Err(Refusal::SampledAfterSent { by_millis: sampled.saturating_sub(sent) });
    };
    if held_back > TOLERANCE {
        return Err(Refusal::HeldBack { for_millis: millis(held_back) });
    }
    if under_way > TOLERANCE {
        return Err(Refusal::UnderWay { for_millis: millis(under_way) });
    }
    Ok(arrived - held_back - under_way)
}

fn moment_by_wall_clocks(sample: &wire::NodeSample, arrived: Timestamp) -> Result<Timestamp, Refusal> {
    let sent = Timestamp::from_millis(sample.sent_unix_ms);
    let sampled = Timestamp::from_millis(sample.sampled_unix_ms);
    if sent.since(arrived) > TOLERANCE {
        return Err(Refusal::FromTheFuture { by_millis: millis(sent.since(arrived)) });
    }
    if arrived.since(sent) > TOLERANCE {
        return Err(Refusal::FromThePast { by_millis: millis(arrived.since(sent)) });
    }
    if sampled > sent {
        return Err(Refusal::SampledAfterSent { by_millis: millis(sampled.since(sent)) });
    }
    let held_back = sent.since(sampled);
    if held_back > TOLERANCE {
        return Err(Refusal::HeldBack { for_millis: millis(held_back) });
    }
    Ok(arrived - held_back)
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The figures of a node, or of a VM on it, when they can be true on a node with `capacity`.
///
/// # Errors
/// Names the figure that cannot be.
pub fn figures(usage: Option<&wire::Usage>, capacity: Option<Cores>) -> Result<Figures, Refusal> {
    let usage = usage.ok_or(Refusal::NoFigures)?;
    let rate = |field, value: Option<f64>| value.map(|value| bounded(field, value, MOST_BYTES_PER_SECOND)).transpose();
    if let Some(memory) = usage.memory_bytes.filter(|&memory| memory > MOST_MEMORY) {
        let (value, most) = (memory as f64, MOST_MEMORY as f64);
        return Err(Refusal::Absurd { field: "memory_bytes", value, most });
    }
    Ok(Figures {
        cpu: cpu("cpu_cores", usage.cpu_cores, capacity)?,
        memory: usage.memory_bytes.map(Bytes),
        network_bytes_per_second: together(
            rate("network_receive_bytes_per_second", usage.network_receive_bytes_per_second)?,
            rate("network_transmit_bytes_per_second", usage.network_transmit_bytes_per_second)?,
        ),
        disk_bytes_per_second: together(
            rate("disk_read_bytes_per_second", usage.disk_read_bytes_per_second)?,
            rate("disk_write_bytes_per_second", usage.disk_write_bytes_per_second)?,
        ),
        cpu_wait: usage
            .cpu_wait_cores
            .map(|value| bounded("cpu_wait_cores", value, MOST_CORES).and_then(|value| cores("cpu_wait_cores", value)))
            .transpose()?,
    })
}

/// Both directions, if both were measured.
fn together(inward: Option<f64>, outward: Option<f64>) -> Option<f64> {
    Some(inward? + outward?)
}

/// CPU in use that can be true on a node with `capacity`.
///
/// # Errors
/// Names the figure that cannot be.
pub fn cpu(field: &'static str, value: f64, capacity: Option<Cores>) -> Result<Cores, Refusal> {
    let most = match capacity {
        Some(capacity) if capacity > Cores::ZERO => MOST_CORES.min(MOST_TIMES_CAPACITY * capacity.value()),
        _ => MOST_CORES,
    };
    cores(field, bounded(field, value, most)?)
}

/// Watts that a machine can draw.
///
/// # Errors
/// Names the figure, if it can't be.
pub fn watts(field: &'static str, value: f64) -> Result<Watts, Refusal> {
    Watts::new(bounded(field, value, MOST_WATTS)?).map_err(|_| Refusal::NotFinite { field })
}

fn cores(field: &'static str, value: f64) -> Result<Cores, Refusal> {
    Cores::new(value).map_err(|_| Refusal::NotFinite { field })
}

fn bounded(field: &'static str, value: f64, most: f64) -> Result<f64, Refusal> {
    if !value.is_finite() {
        Err(Refusal::NotFinite { field })
    } else if value < 0.0 {
        Err(Refusal::Negative { field, value })
    } else if value > most {
        Err(Refusal::Absurd { field, value, most })
    } else {
        Ok(value)
    }
}

/// The VM that a part of a sample names.
///
/// # Errors
/// Refuses names that Kubernetes would not have given.
pub fn vm_key(vm: &wire::VmSample) -> Result<VmKey, Refusal> {
    let fits = |text: &str, longest: usize| !text.is_empty() && text.len() <= longest;
    if fits(&vm.namespace, LONGEST.0) && fits(&vm.name, LONGEST.1) && fits(&vm.uid, LONGEST.2) {
        Ok(VmKey::new(&vm.namespace, &vm.name))
    } else {
        Err(Refusal::BadName)
    }
}
