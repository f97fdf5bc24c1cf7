//! What QEMU says on a QMP connection: one JSON object a line.

use serde::Deserialize;
use serde_json::Value;

/// A line from QEMU.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The first line.
    Greeting(Version),
    /// A command was carried out.
    Return {
        /// The command's number.
        id: u64,
        /// Its answer.
        value: Value,
    },
    /// A command was refused.
    Refusal {
        /// The command's number, unless QEMU could not even read it.
        id: Option<u64>,
        /// What QEMU says.
        reason: String,
    },
    /// Something happened.
    Event(Happening),
}

/// QEMU's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub struct Version {
    /// As in **7**.2.22.
    pub major: u32,
    /// As in 7.**2**.22.
    pub minor: u32,
    /// As in 7.2.**22**.
    pub micro: u32,
}

/// What an event says, as far as the lab cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The virtual CPUs stand still.
    Stop,
    /// The virtual CPUs run.
    Resume,
    /// The guest switched itself off, or broke.
    Shutdown,
    /// The migration that QEMU is an end of changed.
    Migration(Status),
    /// A round over the memory begins, the first being 1.
    MigrationPass(u64),
    /// Anything else, by its name.
    Other(String),
}

/// What QEMU calls the state of a migration (`MigrationStatus`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There was none yet.
    None,
    /// Connections are made.
    Setup,
    /// Memory is sent, the source runs.
    Active,
    /// The source has stopped, the rest is sent.
    Device,
    /// The target runs and fetches what it lacks.
    PostcopyActive,
    /// The connection broke after the switch: neither side runs on.
    PostcopyPaused,
    /// A cancel is under way.
    Cancelling,
    /// Cancelled; the source runs.
    Cancelled,
    /// Failed; the source runs, if it ran before.
    Failed,
    /// The target has everything.
    Completed,
    /// Another one, by its name.
    Other(String),
}

impl From<&str> for Status {
    fn from(name: &str) -> Self {
        match name {
            "none" => Self::None,
            "setup" => Self::Setup,
            "active" => Self::Active,
            "device" => Self::Device,
            "postcopy-active" => Self::PostcopyActive,
            "postcopy-paused" => Self::PostcopyPaused,
            "cancelling" => Self::Cancelling,
            "cancelled" => Self::Cancelled,
            "failed" => Self::Failed,
            "completed" => Self::Completed,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// How far a migration is (`query-migrate` on the source).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes sent, of memory.
    pub transferred: u64,
    /// Bytes of memory that are still to be sent.
    pub remaining: u64,
    /// The guest's memory, in bytes.
    pub total: u64,
    /// Pages of zeros, of which only the fact is sent.
    pub zero_pages: u64,
    /// Pages sent whole.
    pub normal_pages: u64,
    /// Rounds over the memory.
    pub rounds: u64,
    /// Pages that the guest writes in a second.
    pub dirty_pages_rate: u64,
    /// Pages that the target asked for.
    pub page_requests: u64,
    /// The rate of sending, in bits per second.
    pub bits_per_second: u64,
}

impl Progress {
    /// Reads the answer to `query-migrate`; what is missing counts as nothing done.
    #[must_use]
    pub fn read(answer: &Value) -> Self {
        let number = |name: &str| answer["ram"][name].as_u64().unwrap_or(0);
        Self {
            transferred: number("transferred"),
            remaining: number("remaining"),
            total: number("total"),
            zero_pages: number("duplicate"),
            normal_pages: number("normal"),
            rounds: number("dirty-sync-count"),
            dirty_pages_rate: number("dirty-pages-rate"),
            page_requests: number("postcopy-requests"),
            bits_per_second: mega(&answer["ram"]["mbps"]),
        }
    }
}

/// QEMU gives its rate in floating megabits per second.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
fn mega(number: &Value) -> u64 {
    (number.as_f64().unwrap_or(0.0) * 1e6).clamp(0.0, 1e15) as u64
}

/// A line that is not QMP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("QEMU said what is not QMP: {line:?}")]
pub struct NotQmp {
    /// Its beginning.
    line: String,
}

impl Incoming {
    /// Reads a line.
    ///
    /// # Errors
    /// When it is no QMP.
    pub fn parse(line: &[u8]) -> Result<Self, NotQmp> {
        let nonsense = || NotQmp { line: String::from_utf8_lossy(line).chars().take(200).collect() };
        let object: Value = serde_json::from_slice(line).map_err(|_| nonsense())?;
        if let Some(version) = object.get("QMP").map(|greeting| &greeting["version"]["qemu"]) {
            return Version::deserialize(version).map(Self::Greeting).map_err(|_| nonsense());
        }
        if let Some(event) = object.get("event") {
            return event.as_str().map(|name| Self::Event(happening(name, &object["data"]))).ok_or_else(nonsense);
        }
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(error) = object.get("error") {
            let reason = error["desc"].as_str().unwrap_or("no reason is given").to_owned();
            return Ok(Self::Refusal { id, reason });
        }
        match (id, object.get("return")) {
            (Some(id), Some(value)) => Ok(Self::Return { id, value: value.clone() }),
            _ => Err(nonsense()),
        }
    }
}

fn happening(name: &str, data: &Value) -> Happening {
    match name {
        "STOP" => Happening::Stop,
        "RESUME" => Happening::Resume,
        "SHUTDOWN" => Happening::Shutdown,
        "MIGRATION" => Happening::Migration(Status::from(data["status"].as_str().unwrap_or_default())),
        "MIGRATION_PASS" => Happening::MigrationPass(data["pass"].as_u64().unwrap_or(0)),
        other => Happening::Other(other.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(line: &str) -> Incoming {
        Incoming::parse(line.as_bytes()).unwrap()
    }

    #[test]
    fn the_four_kinds_of_lines() {
        let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;
        assert_eq!(parse(greeting), Incoming::Greeting(Version { major: 7, minor: 2, micro: 22 }));
        assert_eq!(parse(r#"{"return": {}, "id": 3}"#), Incoming::Return { id: 3, value: json!({}) });
        let refusal = r#"{"id": 4, "error": {"class": "GenericError", "desc": "Postcopy is not supported"}}"#;
        assert_eq!(parse(refusal), Incoming::Refusal { id: Some(4), reason: "Postcopy is not supported".to_owned() });
        let event = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "postcopy-active"}}"#;
        assert_eq!(parse(event), Incoming::Event(Happening::Migration(Status::PostcopyActive)));
        assert_eq!(parse(r#"{"event": "STOP"}"#), Incoming::Event(Happening::Stop));
        assert_eq!(
            parse(r#"{"event": "MIGRATION_PASS", "data": {"pass": 2}}"#),
            Incoming::Event(Happening::MigrationPass(2))
        );
    }

    #[test]
    fn progress_takes_what_is_there() {
        let answer = json!({"status": "active", "ram": {"transferred": 5, "remaining": 7, "mbps": 12.5}});
        let expected = Progress { transferred: 5, remaining: 7, bits_per_second: 12_500_000, ..Progress::default() };
        assert_eq!(Progress::read(&answer), expected);
        assert_eq!(Progress::read(&json!({"ram": {"mbps": -1e300}})), Progress::default());
        assert_eq!(Progress::read(&json!([1, 2])), Progress::default());
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,10}".prop_map(Value::from),
        ];
        let key = prop_oneof![
            Just("QMP"),
            Just("version"),
            Just("qemu"),
            Just("event"),
            Just("data"),
            Just("status"),
            Just("return"),
            Just("id"),
            Just("error"),
            Just("desc"),
            Just("ram"),
            Just("mbps"),
            Just("pass"),
            Just("transferred"),
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..6)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_bytes_panic(line: Vec<u8>) {
            let _ = Incoming::parse(&line);
        }

        #[test]
        fn no_json_panics(value in values()) {
            let _ = Incoming::parse(value.to_string().as_bytes());
            let _ = Progress::read(&value);
        }
    }
}
