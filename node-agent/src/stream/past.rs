//! The CPU of the last minutes, for replicas that are new: their windows are full with the first sample.

use miyako_api::wire::{
    MAX_MESSAGE_BYTES, MAX_PAST_SAMPLES, OLDEST_PAST,
    load::{NodeSample, VmSample},
};
use prost::Message as _;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tokio::time::Instant;

/// What a message must have left over for the lengths and tags of its parts.
const SLACK: usize = 16 * 1024;

/// Bytes of a float, and of an age as a varint.
const FIGURE: usize = 4;
const AGE: usize = 3;

/// CPU of the node and its VMs in the samples up to now.
#[derive(Debug, Default)]
pub struct Past {
    samples: VecDeque<PastSample>,
    /// Of each VM its CPU in the last samples, without a gap: the ends of both queues are of one sample.
    vms: BTreeMap<VmId, VecDeque<f32>>,
}

#[derive(Debug, Clone, Copy)]
struct PastSample {
    at: Instant,
    sequence: u64,
    cpu_cores: f32,
}

/// Namespace, name and uid.
type VmId = (String, String, String);

fn id(vm: &VmSample) -> VmId {
    (vm.namespace.clone(), vm.name.clone(), vm.uid.clone())
}

#[allow(clippy::cast_possible_truncation)] // seven digits of a core are far beyond what is measured
fn figure(cores: f64) -> f32 {
    cores as f32
}

impl Past {
    /// Notes a sample that was taken at `at`. A VM that is not in it begins anew when it comes back.
    pub fn note(&mut self, sample: &NodeSample, at: Instant) {
        let Some(usage) = &sample.usage else { return };
        self.samples.push_back(PastSample { at, sequence: sample.sequence, cpu_cores: figure(usage.cpu_cores) });
        let mut vms = BTreeMap::new();
        for vm in &sample.vms {
            let Some(usage) = &vm.usage else { continue };
            let mut figures = self.vms.remove(&id(vm)).unwrap_or_default();
            figures.push_back(figure(usage.cpu_cores));
            vms.insert(id(vm), figures);
        }
        self.vms = vms;
        let too_old = |sample: &PastSample| at.duration_since(sample.at) > OLDEST_PAST - Duration::from_secs(1);
        // One more than is told: the newest is the present of whoever asks.
        while self.samples.len() > MAX_PAST_SAMPLES + 1 || self.samples.front().is_some_and(too_old) {
            self.samples.pop_front();
        }
        for figures in self.vms.values_mut() {
            while figures.len() > self.samples.len() {
                figures.pop_front();
            }
        }
    }

    /// Adds to `sample`, which was noted here, what was noted before it, as much as a message holds.
    pub fn add_to(&self, sample: &mut NodeSample) {
        let Some(present) = self.samples.iter().rposition(|past| past.sequence == sample.sequence) else { return };
        let after = self.samples.len() - present;
        let room = MAX_MESSAGE_BYTES.saturating_sub(SLACK).saturating_sub(sample.encoded_len());
        let told = present.min(MAX_PAST_SAMPLES).min(room / (AGE + FIGURE * (1 + sample.vms.len())));
        let now = self.samples[present].at;
        let age = |past: &PastSample| u32::try_from(now.duration_since(past.at).as_millis()).unwrap_or(u32::MAX);
        let mut before: Vec<_> =
            self.samples.range(present - told..present).map(|past| (age(past), past.cpu_cores)).collect();
        // Two samples within a millisecond are not told apart.
        before.dedup_by_key(|(age, _)| *age);
        if before.len() != told || before.last().is_some_and(|(age, _)| *age == 0) {
            return;
        }
        (sample.past_age_ms, sample.past_cpu_cores) = before.into_iter().unzip();
        for vm in &mut sample.vms {
            if let Some(figures) = self.vms.get(&id(vm)) {
                let present = figures.len().saturating_sub(after);
                vm.past_cpu_cores = figures.range(present.saturating_sub(told)..present).copied().collect();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use miyako_api::wire::load::Usage;

    fn usage(cpu_cores: f64) -> Option<Usage> {
        Some(Usage { cpu_cores, ..Usage::default() })
    }

    fn sample(sequence: u32, vms: &[&str]) -> NodeSample {
        let vm = |name: &&str| VmSample {
            namespace: "shop".into(),
            name: (*name).into(),
            uid: format!("uid-{name}"),
            usage: usage(f64::from(sequence) / 10.0),
            ..VmSample::default()
        };
        NodeSample {
            sequence: sequence.into(),
            usage: usage(sequence.into()),
            vms: vms.iter().map(vm).collect(),
            ..NodeSample::default()
        }
    }

    /// Notes samples 1, 2, … a second apart, each with these VMs, and says what the last one tells of the past.
    fn told(samples: &[&[&str]]) -> NodeSample {
        let mut past = Past::default();
        let begun = Instant::now();
        let mut last = NodeSample::default();
        for (number, vms) in (1..).zip(samples) {
            last = sample(number, vms);
            past.note(&last, begun + Duration::from_secs(number.into()));
        }
        past.add_to(&mut last);
        last
    }

    #[test]
    fn the_first_sample_tells_what_was_before_it() {
        let last = told(&[&["db"], &["db"], &["db"]]);
        assert_eq!((last.past_age_ms, last.past_cpu_cores), (vec![2000, 1000], vec![1.0, 2.0]));
        assert_eq!(last.vms[0].past_cpu_cores, [0.1, 0.2]);
    }

    #[test]
    fn a_vm_that_was_away_begins_anew() {
        let last = told(&[&["db", "web"], &["web"], &["db", "web"], &["db", "web"]]);
        assert_eq!(last.vms[0].past_cpu_cores, [0.3], "db");
        assert_eq!(last.vms[1].past_cpu_cores.len(), 3, "web");
    }

    #[test]
    fn a_sample_that_waited_is_not_told_its_future() {
        let mut past = Past::default();
        let begun = Instant::now();
        for number in 1..=4 {
            past.note(&sample(number, &["db"]), begun + Duration::from_secs(number.into()));
        }
        let mut third = sample(3, &["db"]);
        past.add_to(&mut third);
        assert_eq!((third.past_cpu_cores, third.vms[0].past_cpu_cores.clone()), (vec![1.0, 2.0], vec![0.1, 0.2]));
        let mut unknown = sample(9, &["db"]);
        past.add_to(&mut unknown);
        assert!(unknown.past_age_ms.is_empty());
    }

    #[test]
    fn it_is_bounded_by_number_age_and_the_size_of_a_message() {
        let mut past = Past::default();
        let begun = Instant::now();
        let long = "n".repeat(200);
        let names: Vec<String> = (0..1000).map(|number| format!("{long}{number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut last = NodeSample::default();
        for number in 1..=400_u32 {
            last = sample(number, if number > 200 { &names } else { &[] });
            past.note(&last, begun + Duration::from_secs(number.into()));
        }
        past.add_to(&mut last);
        assert!(last.encoded_len() <= MAX_MESSAGE_BYTES, "{}", last.encoded_len());
        assert!(!last.past_age_ms.is_empty() && last.past_age_ms.len() <= MAX_PAST_SAMPLES);
        assert!(past.samples.len() <= MAX_PAST_SAMPLES + 1);
        let mut small = sample(400, &["other"]);
        past.add_to(&mut small);
        assert_eq!(small.past_age_ms.len(), MAX_PAST_SAMPLES);
        past.note(&sample(401, &[]), begun + Duration::from_secs(10_000));
        assert_eq!((past.samples.len(), past.vms.len()), (1, 0));
    }
}
