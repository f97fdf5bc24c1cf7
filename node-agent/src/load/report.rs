//! What was measured, for people and their programs.

use super::{Measured, dirty_rate::DirtyRate};
use miyako_api::wire::load::Usage;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// Columns of the table.
const HEADINGS: [&str; 9] = ["", "CPU", "WAIT", "MEMORY", "RECEIVED/s", "SENT/s", "READ/s", "WRITTEN/s", "PRESSURE"];

/// A table with the node on its first line and a VM on each other. CPU and waits in cores; pressure is the share of
/// the time in which some task waited for CPU, memory and disks.
#[must_use]
pub fn table(node: &str, measured: &Measured) -> String {
    let mut name = format!("node {node} ({:.2} cores", measured.capacity.cores);
    if let Some(memory) = measured.capacity.memory {
        let _ = write!(name, ", {}", bytes(memory as f64));
    }
    if let Some(watts) = measured.watts {
        let _ = write!(name, ", {watts:.1} W");
    }
    name.push(')');
    let mut rows = vec![HEADINGS.map(str::to_owned), row(name, &measured.usage)];
    for vm in &measured.vms {
        rows.push(row(format!("{}/{}", vm.namespace, vm.name), &vm.usage.unwrap_or_default()));
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if measured.vms.is_empty() {
        text.push_str("no VM runs here\n");
    }
    text
}

fn row(name: String, usage: &Usage) -> [String; HEADINGS.len()] {
    let rate = |value: Option<f64>| value.map_or_else(absent, bytes);
    let cores = |value: Option<f64>| value.map_or_else(absent, |value| format!("{value:.2}"));
    let pressures = [usage.cpu_pressure, usage.memory_pressure, usage.io_pressure];
    let percent = |value: Option<f64>| value.map_or_else(absent, |share| format!("{:.0}%", share * 100.0));
    let pressure = if pressures.iter().all(Option::is_none) { absent() } else { pressures.map(percent).join(" ") };
    [
        name,
        cores(Some(usage.cpu_cores)),
        cores(usage.cpu_wait_cores),
        rate(usage.memory_bytes.map(|bytes| bytes as f64)),
        rate(usage.network_receive_bytes_per_second),
        rate(usage.network_transmit_bytes_per_second),
        rate(usage.disk_read_bytes_per_second),
        rate(usage.disk_write_bytes_per_second),
        pressure,
    ]
}

/// What could not be measured.
fn absent() -> String {
    "-".to_owned()
}

/// Bytes with three digits or so.
fn bytes(value: f64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit == 0 || scaled >= 99.95 {
        format!("{scaled:.0} {}", UNITS[unit])
    } else {
        format!("{scaled:.1} {}", UNITS[unit])
    }
}

/// A line that says how fast a VM dirties its memory.
#[must_use]
pub fn dirty_rate(vm: &str, rate: &DirtyRate) -> String {
    format!(
        "{vm} dirties {}/s (± {}/s) of {}, over {:.1} s",
        bytes(rate.bytes_per_second),
        bytes(rate.standard_error),
        bytes(rate.memory_bytes as f64),
        rate.period.as_secs_f64()
    )
}

/// The same as one line of JSON.
#[must_use]
pub fn dirty_rate_json(vm: &str, rate: &DirtyRate) -> String {
    json!({
        "vm": vm,
        "dirtyBytesPerSecond": rate.bytes_per_second,
        "standardError": rate.standard_error,
        "memoryBytes": rate.memory_bytes,
        "periodSeconds": rate.period.as_secs_f64(),
    })
    .to_string()
}

/// One line of JSON: the node, its capacity and its VMs, with the names of the wire's fields in camel case. What
/// could not be measured is left out.
#[must_use]
pub fn json(node: &str, measured: &Measured) -> String {
    let vms = measured.vms.iter().map(|vm| {
        let mut fields = Map::from_iter([
            ("namespace".to_owned(), json!(vm.namespace)),
            ("name".to_owned(), json!(vm.name)),
            ("uid".to_owned(), json!(vm.uid)),
        ]);
        fields.extend(figures(&vm.usage.unwrap_or_default()));
        Value::Object(fields)
    });
    let mut fields = Map::from_iter([
        ("name".to_owned(), json!(node)),
        ("capacityCores".to_owned(), json!(measured.capacity.cores)),
        ("capacityMemoryBytes".to_owned(), json!(measured.capacity.memory)),
    ]);
    fields.extend(measured.watts.map(|watts| ("watts".to_owned(), json!(watts))));
    fields.extend(figures(&measured.usage));
    json!({"node": fields, "vms": vms.collect::<Vec<_>>()}).to_string()
}

fn figures(usage: &Usage) -> impl Iterator<Item = (String, Value)> {
    let figures = [
        ("cpuCores", Some(json!(usage.cpu_cores))),
        ("cpuWaitCores", usage.cpu_wait_cores.map(|value| json!(value))),
        ("memoryBytes", usage.memory_bytes.map(|value| json!(value))),
        ("networkReceiveBytesPerSecond", usage.network_receive_bytes_per_second.map(|value| json!(value))),
        ("networkTransmitBytesPerSecond", usage.network_transmit_bytes_per_second.map(|value| json!(value))),
        ("diskReadBytesPerSecond", usage.disk_read_bytes_per_second.map(|value| json!(value))),
        ("diskWriteBytesPerSecond", usage.disk_write_bytes_per_second.map(|value| json!(value))),
        ("cpuPressure", usage.cpu_pressure.map(|value| json!(value))),
        ("memoryPressure", usage.memory_pressure.map(|value| json!(value))),
        ("ioPressure", usage.io_pressure.map(|value| json!(value))),
    ];
    figures.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Capacity;
    use miyako_api::wire::load::VmSample;

    fn measured() -> Measured {
        let usage = Usage {
            cpu_cores: 1.5,
            memory_bytes: Some(3 << 30),
            disk_write_bytes_per_second: Some(1_500_000.0),
            cpu_pressure: Some(0.25),
            ..Usage::default()
        };
        let (namespace, name, uid) = ("shop".into(), "db".into(), "u1".into());
        let vm = VmSample { namespace, name, uid, usage: Some(usage), ..VmSample::default() };
        Measured { usage, capacity: Capacity { cores: 4.0, memory: Some(8 << 30) }, watts: Some(61.25), vms: vec![vm] }
    }

    #[test]
    fn a_line_for_the_node_and_one_for_each_vm() {
        let text = table("node-1", &measured());
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!(lines[2], ["shop/db", "1.50", "-", "3.0", "GiB", "-", "-", "-", "1.4", "MiB", "25%", "-", "-"]);
        assert!(text.contains("node node-1 (4.00 cores, 8.0 GiB, 61.2 W)"), "{text}");
    }

    #[test]
    fn json_leaves_out_what_was_not_measured() {
        let value: Value = serde_json::from_str(&json("node-1", &measured())).unwrap();
        assert_eq!(value["node"]["cpuCores"], 1.5);
        assert_eq!(value["vms"][0]["name"], "db");
        assert_eq!(value["vms"][0].get("networkReceiveBytesPerSecond"), None);
    }
}
