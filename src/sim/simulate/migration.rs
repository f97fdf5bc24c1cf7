//! `miyako simulate migration`: what one migration would cost, by the models of `core::cost`.

use crate::observe::convert::quantity;
use clap::builder::TypedValueParser;
use clap::{Args, ValueEnum};
use miyako_core::cost::{
    Auto, Cost, CostError, Course, Guest, Hybrid, HybridCourse, PUBLISHED_PREPARATION, PostCopy, PostCopyCourse,
    PreCopy, Rate, Situation, WiredEnergy, auto, foretell_reuse, foretell_teleport,
};
use miyako_core::model::{Bytes, BytesPerSecond, Joules, Seconds};
use serde::Serialize;
use std::fmt::Write as _;

/// What tracking its writes takes of a guest's CPU: a few per cent with a page modification log. Ours, not measured.
const TRACKING: f64 = 0.03;
/// Xen's threshold (50 pages) and rounds, which Liu's algorithm takes as given.
const XEN: (Bytes, u32) = (Bytes(50 * 4096), 29);

/// Flags of `miyako simulate migration`.
#[derive(Debug, Clone, Args)]
pub struct MigrationArgs {
    /// The VM's memory: a quantity, such as 8Gi.
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub memory: Bytes,
    /// How much memory it dirties a second, such as 50M.
    #[arg(long, value_name = "BYTES_PER_SECOND", value_parser = per_second, allow_hyphen_values = true)]
    pub dirty_rate: BytesPerSecond,
    /// What it writes to at all. Without it: all of its memory, which is the worst case.
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub working_set: Option<Bytes>,
    /// What it reads or writes within seconds; post-copy waits for that. Without it: the working set.
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub touched: Option<Bytes>,
    /// What the migration network carries, in bits a second: 1G, 10G, 800M.
    #[arg(long, value_name = "BITS_PER_SECOND", value_parser = bits, allow_hyphen_values = true)]
    pub link: BytesPerSecond,
    /// Only this. Without it: pre-copy, post-copy and hybrid, and what else its flags are given for.
    #[arg(long, value_enum)]
    pub mode: Option<Mode>,
    /// KubeVirt's maxDowntimeMs: pre-copy stops the VM when the rest can be sent in that time.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 900)]
    pub max_downtime_ms: u32,
    /// KubeVirt's completionTimeoutPerGiB: pre-copy is given up after so many seconds for each GiB of memory.
    #[arg(long, value_name = "SECONDS", default_value_t = 150, value_parser = seconds_per_gib())]
    pub completion_timeout_per_gib: u32,
    /// Mode hybrid: switched to post-copy after so many seconds for each GiB. 1 is the earliest that KubeVirt knows.
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = seconds_per_gib())]
    pub switch_per_gib: u32,
    /// Mode reuse: so much of the memory is unchanged at the destination.
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub reused: Option<Bytes>,
    /// Mode teleport: so much of the memory is read from shared storage.
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_hyphen_values = true)]
    pub teleported: Option<Bytes>,
    /// Mode teleport: what the storage network carries, in bits a second. Without it storage holds nothing up.
    #[arg(long, value_name = "BITS_PER_SECOND", value_parser = bits, allow_hyphen_values = true)]
    pub storage: Option<BytesPerSecond>,
    /// The share of its CPU, in percent, that the VM lacks at its source: 0 on a node that is not overloaded.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, allow_hyphen_values = true)]
    pub starved: f64,
    /// α of your own energy model, with --joules-per-migration. Without them: as published, for two servers of 2011.
    #[arg(long, value_name = "JOULES", requires = "joules_per_migration")]
    pub joules_per_megabyte: Option<f64>,
    /// β of your own energy model.
    #[arg(long, value_name = "JOULES", requires = "joules_per_megabyte")]
    pub joules_per_migration: Option<f64>,
    /// How to print it.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// How a VM is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// QEMU's pre-copy.
    PreCopy,
    /// Post-copy from the start.
    PostCopy,
    /// Pre-copy that is switched to post-copy: what KubeVirt calls post-copy.
    Hybrid,
    /// Pre-copy of what changed since the VM was last at the destination.
    Reuse,
    /// Pre-copy whose first round is partly read from shared storage.
    Teleport,
    /// Xen's pre-copy as Liu's paper models it: 800 MB to 1 GiB at 400 to 800 Mb/s only.
    Xen,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Why nothing can be foretold.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The model refuses a figure.
    #[error("{flag}: the model refuses it")]
    Refused {
        /// The flag it came from.
        flag: &'static str,
        /// What it says.
        #[source]
        source: CostError,
    },
    /// A mode without its figure.
    #[error("{0} is missing: this mode needs it")]
    Missing(&'static str),
}

impl From<CostError> for MigrationError {
    fn from(source: CostError) -> Self {
        let flag = match source.field {
            "memory" => "--memory",
            "writable working set" => "--working-set",
            "touched working set" => "--touched",
            "transmission rate" => "--link",
            "teleported share" => "--teleported",
            "storage rate" => "--storage",
            "starved share" => "--starved",
            "joules per megabyte" => "--joules-per-megabyte",
            "joules per migration" => "--joules-per-migration",
            _ => "a figure",
        };
        Self::Refused { flag, source }
    }
}

fn bytes(text: &str) -> Result<Bytes, String> {
    quantity::bytes(text).map_err(|error| error.to_string())
}

fn per_second(text: &str) -> Result<BytesPerSecond, String> {
    bytes(text).and_then(|bytes| BytesPerSecond::new(bytes.0 as f64).map_err(|error| error.to_string()))
}

fn bits(text: &str) -> Result<BytesPerSecond, String> {
    bytes(text).and_then(|bits| BytesPerSecond::new(bits.0 as f64 / 8.0).map_err(|error| error.to_string()))
}

/// At least one: to KubeVirt, 0 means that it never gives up or switches.
fn seconds_per_gib() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..)
}

/// One line of the answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// How it is moved.
    pub mode: &'static str,
    /// The model and its equation.
    pub model: &'static str,
    /// It ends by itself.
    pub converges: bool,
    /// What it costs.
    #[serde(flatten)]
    pub cost: Cost,
    /// Of the degraded time, how long the VM waits for its pages.
    #[serde(rename = "waitingSeconds")]
    pub waiting: Seconds,
    /// What went over the storage network.
    #[serde(rename = "readBytes")]
    pub read: Bytes,
    /// What both ends draw for it.
    #[serde(rename = "energyJoules")]
    pub energy: Joules,
}

/// The whole answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Mode by mode.
    pub modes: Vec<Row>,
    /// What mode `Auto` would take of pre-copy and KubeVirt's post-copy; nothing if one mode was asked for.
    pub auto: Option<Auto>,
    /// The energy model is the published one.
    pub published_energy: bool,
}

/// Foretells it.
///
/// # Errors
/// Figures that can't be, or that a mode lacks.
pub fn foretell(args: &MigrationArgs) -> Result<Answer, MigrationError> {
    let working_set = args.working_set.unwrap_or(args.memory);
    let guest = Guest::new(args.memory, args.dirty_rate, working_set)?.touching(args.touched.unwrap_or(working_set))?;
    let rate = Rate::fixed(args.link)?;
    let gib = args.memory.0 as f64 / Bytes::gib(1).0 as f64;
    let seconds = |value: f64| Seconds::new(value).unwrap_or(Seconds::ZERO);
    let limit = seconds(f64::from(args.completion_timeout_per_gib) * gib);
    let pre_copy = PreCopy::qemu(seconds(f64::from(args.max_downtime_ms) / 1000.0), Some(limit));
    let switch_after = seconds(f64::from(args.switch_per_gib) * gib);
    let hybrid = Hybrid { pre_copy, post_copy: PostCopy::default(), switch_after };
    let published = WiredEnergy::PUBLISHED;
    let energy = WiredEnergy::new(
        args.joules_per_megabyte.unwrap_or(published.per_megabyte),
        args.joules_per_migration.unwrap_or(published.per_migration),
    )?;
    let situation = Situation::new(args.starved / 100.0, TRACKING)?;
    let mut all = vec![Mode::PreCopy, Mode::PostCopy, Mode::Hybrid];
    all.extend(args.reused.map(|_| Mode::Reuse));
    all.extend(args.teleported.map(|_| Mode::Teleport));
    let asked = args.mode.map_or(all, |mode| vec![mode]);
    let mut modes = Vec::new();
    for mode in asked {
        modes.push(match mode {
            Mode::PreCopy => {
                of_rounds("pre-copy", "QEMU: Liu, algorithm 1 with γ = 0", &pre_copy.foretell(&guest, &rate)?, &energy)
            }
            Mode::PostCopy => of_switch("post-copy", &PostCopy::default().foretell(&guest, &rate)?, &energy),
            Mode::Hybrid => match hybrid.foretell(&guest, &rate)? {
                HybridCourse::PreCopy(course) => {
                    of_rounds("hybrid", "over before its switch: Liu, algorithm 1 with γ = 0", &course, &energy)
                }
                HybridCourse::Switched(course) => of_switch("hybrid", &course, &energy),
            },
            Mode::Reuse => {
                let reused = args.reused.ok_or(MigrationError::Missing("--reused"))?;
                let preparation = seconds(PUBLISHED_PREPARATION);
                let course = foretell_reuse(&pre_copy, &guest, &rate, reused, preparation)?;
                of_rounds("reuse", "Akiyama, section 5.3.4", &course, &energy)
            }
            Mode::Teleport => {
                let teleported = args.teleported.ok_or(MigrationError::Missing("--teleported"))?;
                let share = teleported.0 as f64 / args.memory.0 as f64;
                let there = foretell_teleport(&pre_copy, &guest, &rate, share, args.storage)?;
                let row = of_rounds("teleport", "Akiyama, section 5.3.5", &there.course, &energy);
                Row { read: there.read, energy: there.energy(&energy), ..row }
            }
            Mode::Xen => {
                let course = PreCopy::published(XEN.0, XEN.1).foretell(&guest, &rate)?;
                of_rounds("xen", "Liu, algorithm 1 with eq. 10", &course, &energy)
            }
        });
    }
    let auto = match args.mode {
        Some(_) => None,
        None => {
            let post = hybrid.foretell(&guest, &rate)?;
            Some(auto(&pre_copy.foretell(&guest, &rate)?, Some(&post), &situation))
        }
    };
    Ok(Answer { modes, auto, published_energy: args.joules_per_megabyte.is_none() })
}

fn of_rounds(mode: &'static str, model: &'static str, course: &Course, energy: &WiredEnergy) -> Row {
    let cost = course.cost;
    // Xen's rules end every migration; only QEMU's may go on for ever.
    let converges = course.ended != miyako_core::cost::Ended::Never;
    let energy = energy.of(cost.traffic);
    Row { mode, model, converges, cost, waiting: Seconds::ZERO, read: Bytes(0), energy }
}

fn of_switch(mode: &'static str, course: &PostCopyCourse, energy: &WiredEnergy) -> Row {
    let (cost, waiting) = (course.cost, course.waiting);
    let energy = energy.of(cost.traffic);
    Row { mode, model: "ours: P1 to P3 of cost::postcopy", converges: true, cost, waiting, read: Bytes(0), energy }
}

/// For people.
pub(super) fn table(answer: &Answer) -> String {
    let mut text = format!(
        "{:<10} {:>10} {:>10} {:>10} {:>10} {:>11} {:>10}  {}\n",
        "MODE", "TIME", "DOWNTIME", "DEGRADED", "WAITING", "TRAFFIC", "ENERGY", "MODEL"
    );
    for row in &answer.modes {
        let seconds = |value: Seconds| format!("{:.2} s", value.value());
        let down = if row.converges { seconds(row.cost.downtime) } else { "never".to_owned() };
        let _ = writeln!(
            text,
            "{:<10} {:>10} {:>10} {:>10} {:>10} {:>11} {:>10}  {}",
            row.mode,
            seconds(row.cost.time),
            down,
            seconds(row.cost.degraded),
            seconds(row.waiting),
            format!("{:.0} MB", row.cost.traffic.0 as f64 / 1e6),
            format!("{:.0} J", row.energy.value()),
            row.model
        );
    }
    for row in answer.modes.iter().filter(|row| !row.converges) {
        let _ = writeln!(
            text,
            "\n{} does not converge: the VM writes what is sent, again and again, and KubeVirt gives up after {:.0} s.",
            row.mode,
            row.cost.time.value()
        );
    }
    let loses = |loss: Option<&Seconds>, mode: &str| {
        loss.map_or(String::new(), |loss| format!("; by {mode} it would lose {:.2} s", loss.value()))
    };
    match &answer.auto {
        Some(Auto::PreCopy { loss, other }) => {
            let other = loses(other.as_ref(), "post-copy");
            let _ = writeln!(text, "\nauto: pre-copy. The VM loses {:.2} s of work{other}.", loss.value());
        }
        Some(Auto::PostCopy { loss, other }) => {
            let other = loses(other.as_ref(), "pre-copy");
            let _ = writeln!(text, "\nauto: post-copy (hybrid). The VM loses {:.2} s of work{other}.", loss.value());
        }
        Some(Auto::Neither) => text.push_str("\nauto: neither; no mode would end.\n"),
        None => {}
    }
    if answer.published_energy {
        text.push_str("\nEnergy by the published coefficients (Liu, eq. 17), which are of two servers of 2011.\n");
    }
    text
}
