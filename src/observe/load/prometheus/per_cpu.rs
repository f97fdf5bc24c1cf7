//! node-exporter's counters: one for each CPU and mode, of which a node's use is a sum.

use super::answer::{Labels, Series};
use miyako_core::model::Timestamp;
use std::collections::BTreeMap;

/// The sum by node, made by the server: few series, however many CPUs there are.
pub(super) const SUMMED: &str =
    "sum without (cpu, mode) (node_cpu_seconds_total{mode!~\"idle|iowait|steal|guest|guest_nice\"})";

/// The counters themselves, for servers that make no sums over a range.
pub(super) const EACH: &str = "node_cpu_seconds_total{mode!~\"idle|iowait|steal|guest|guest_nice\"}";

/// Modes that are no use of a CPU, and those that are counted as `user` and `nice` too.
const NOT_USED: [&str; 5] = ["idle", "iowait", "steal", "guest", "guest_nice"];

/// The counters of one node.
#[derive(Default)]
struct Counters {
    /// How many of them count use.
    count: usize,
    /// By moment: how many were there, and what they came to together.
    sums: BTreeMap<Timestamp, (usize, f64)>,
}

/// Sums the counters of each node. What is not there for all of a node's counters at a moment is left out.
pub(super) fn summed(series: Vec<Series>) -> Vec<Series> {
    let mut of: BTreeMap<Labels, Counters> = BTreeMap::new();
    for mut one in series {
        let used = one.labels.get("mode").is_none_or(|mode| !NOT_USED.contains(&mode.as_str()));
        one.labels.retain(|key, _| !matches!(key.as_str(), "cpu" | "mode" | "__name__"));
        let counters = of.entry(one.labels).or_default();
        counters.count += usize::from(used);
        for (at, value) in one.samples {
            let (there, sum) = counters.sums.entry(at).or_default();
            if used {
                (*there, *sum) = (*there + 1, *sum + value);
            }
        }
    }
    let whole = |(labels, Counters { count, sums }): (Labels, Counters)| {
        let samples = sums.into_iter().filter(|(_, (there, _))| *there == count);
        let samples: Vec<_> = samples.map(|(at, (_, sum))| (at, sum)).collect();
        (!samples.is_empty()).then_some(Series { labels, samples })
    };
    of.into_iter().filter_map(whole).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_uses_is_the_sum_of_what_its_cpus_do_not_idle() {
        let series = |instance: &str, cpu: &str, mode: &str, values: &[f64]| Series {
            labels: [("instance", instance), ("cpu", cpu), ("mode", mode), ("__name__", "node_cpu_seconds_total")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
            samples: (0..).zip(values).map(|(at, value)| (Timestamp::from_secs(at * 15), *value)).collect(),
        };
        let summed = summed(vec![
            series("a", "0", "user", &[1.0, 2.0, 3.0]),
            series("a", "1", "system", &[10.0, 20.0]),
            series("a", "0", "idle", &[100.0, 200.0, 300.0]),
            series("a", "0", "guest", &[1.0, 2.0, 3.0]),
            series("b", "0", "user", &[7.0]),
        ]);
        let values: Vec<Vec<f64>> =
            summed.iter().map(|one| one.samples.iter().map(|(_, value)| *value).collect()).collect();
        assert_eq!(values, [vec![11.0, 22.0], vec![7.0]]);
        assert_eq!(summed[0].labels.keys().collect::<Vec<_>>(), ["instance"]);
    }
}
