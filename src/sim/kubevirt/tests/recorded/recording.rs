//! The full recordings, where they lie beside the clone.

use super::trace::Trace;
use serde_json::Value;
use std::{path::Path, process::Command};

/// A recording: what happened in it, and which requests were refused, with their codes.
pub(super) struct Recording {
    pub(super) trace: Trace,
    pub(super) refusals: Vec<(u64, String)>,
}

/// The recording of this name; none where recordings are not at hand.
pub(super) fn read(name: &str) -> Option<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/kubevirt-recordings");
    let plain = std::fs::read_to_string(folder.join(format!("{name}.jsonl"))).ok();
    let packed = || {
        let answer = Command::new("gzip").arg("-dc").arg(folder.join(format!("{name}.jsonl.gz"))).output().ok()?;
        answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
    };
    let text = plain.or_else(packed)?;
    let mut recording = Recording { trace: Trace::of_recording(), refusals: Vec::new() };
    for line in text.lines().skip(1) {
        let line: Value = serde_json::from_str(line).unwrap();
        let text = |pointer: &str| line.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        match (text("/event"), text("/kind")) {
            ("REFUSED", _) => {
                recording.refusals.push((line["code"].as_u64().unwrap_or(0), text("/message").to_owned()));
            }
            (_, "Event") => {
                let about = (text("/object/about/kind"), text("/object/about/name"));
                let count = line["object"]["count"].as_i64().unwrap_or(1);
                recording.trace.tell(about, text("/object/reason"), text("/object/message"), count);
            }
            (event, kind) => {
                let mut object = line["object"].clone();
                object["kind"] = kind.into();
                let by = line["by"].as_array().and_then(|all| all.first()).and_then(Value::as_str);
                let by = by.map(|by| by.trim_end_matches("-standin").to_owned());
                recording.trace.take(event, &object, by);
            }
        }
    }
    Some(recording)
}
