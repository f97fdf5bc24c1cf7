//! How a migration is done: what KubeVirt and libvirt would set.

use crate::qemu::qmp::Version;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// KubeVirt's number of multifd connections (`parallelMultifdMigrationThreads` in pkg/virt-handler/controller.go).
const MULTIFD_CHANNELS: u8 = 8;

/// KubeVirt starts with QEMU's default (`QEMUDefaultTargetDowntimeMS` in pkg/util/migrations), or less if the policy
/// says so.
const DOWNTIME_LIMIT: Duration = Duration::from_millis(300);

/// What libvirt sets for "unlimited": INT64_MAX in whole MiB/s. QEMU's own default is 128 MiB/s.
const UNLIMITED: u64 = (i64::MAX as u64 >> 20) << 20;

/// What KubeVirt knows when it starts a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// `bandwidthPerMigration` in bytes per second, until the switch to post-copy; none is unlimited, KubeVirt's default.
    pub bandwidth: Option<u64>,
    /// `maxDowntimeMs`, of which more than 300 ms are not used before a migration stalls.
    pub downtime_limit: Duration,
    /// `allowPostCopy`.
    pub post_copy: bool,
    /// `allowAutoConverge`.
    pub auto_converge: bool,
    /// Whether the VM has a CPU limit or dedicated CPUs. KubeVirt then spares it the multifd threads
    /// (`configureParallelMigrationThreads` in pkg/virt-handler/migration-source.go).
    pub limited_cpu: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bandwidth: None,
            downtime_limit: DOWNTIME_LIMIT,
            post_copy: false,
            auto_converge: false,
            limited_cpu: false,
        }
    }
}

impl Settings {
    /// The number of multifd connections, if any, between QEMUs of this version.
    ///
    /// KubeVirt turned them off for post-copy until its QEMU could do both (kubevirt/kubevirt#17106), and so it is here:
    /// upstream that is QEMU 10.1. QEMU 10.0 refuses both together. QEMU 7.2 only seems to do it: it accepts both,
    /// switches, and then its target dies of a failed assertion when everything has arrived.
    #[must_use]
    pub fn multifd_channels(&self, version: Version) -> Option<u8> {
        /// The first that does both.
        const BOTH: (u32, u32) = (10, 1);
        let compatible = !self.post_copy || (version.major, version.minor) >= BOTH;
        (compatible && !self.limited_cpu).then_some(MULTIFD_CHANNELS)
    }

    /// The arguments of `migrate-set-capabilities`, the same for both ends. Everything is said, off too: the target of
    /// one migration may be the source of the next.
    #[must_use]
    pub(crate) fn capabilities(&self, version: Version) -> Value {
        let capabilities = [
            ("events", true),
            ("return-path", true),
            ("postcopy-ram", self.post_copy),
            ("auto-converge", self.auto_converge),
            ("multifd", self.multifd_channels(version).is_some()),
        ];
        let list = capabilities.map(|(name, state)| json!({"capability": name, "state": state}));
        json!({"capabilities": list})
    }

    /// The arguments of `migrate-set-parameters`, the same for both ends.
    #[must_use]
    pub(crate) fn parameters(&self, version: Version) -> Value {
        let mut parameters = Map::new();
        let bandwidth = self.bandwidth.unwrap_or(UNLIMITED);
        parameters.insert("max-bandwidth".to_owned(), json!(bandwidth));
        // KubeVirt limits the first phase only (`generateMigrationParams`); 0 is QEMU's word for unlimited here.
        parameters.insert("max-postcopy-bandwidth".to_owned(), json!(0));
        let downtime = self.downtime_limit.min(DOWNTIME_LIMIT).as_millis();
        parameters.insert("downtime-limit".to_owned(), json!(u64::try_from(downtime).unwrap_or(u64::MAX)));
        if let Some(channels) = self.multifd_channels(version) {
            parameters.insert("multifd-channels".to_owned(), json!(channels));
        }
        Value::Object(parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: Version = Version { major: 10, minor: 0, micro: 2 };
    const KUBEVIRT: Version = Version { major: 10, minor: 1, micro: 0 };

    #[test]
    fn multifd_is_kubevirts_default_and_its_exceptions() {
        let plain = Settings::default();
        assert_eq!(plain.multifd_channels(DEBIAN), Some(8));
        let post_copy = Settings { post_copy: true, ..plain };
        assert_eq!(post_copy.multifd_channels(DEBIAN), None, "this QEMU would refuse");
        assert_eq!(post_copy.multifd_channels(KUBEVIRT), Some(8));
        assert_eq!(Settings { limited_cpu: true, ..plain }.multifd_channels(KUBEVIRT), None);
    }

    #[test]
    fn bandwidth_limits_the_phase_that_kubevirt_limits() {
        let unlimited = Settings::default().parameters(DEBIAN);
        assert_eq!(unlimited["max-bandwidth"], 9_223_372_036_853_727_232_u64);
        let limited = Settings { bandwidth: Some(64 << 20), ..Settings::default() }.parameters(DEBIAN);
        assert_eq!(limited["max-bandwidth"], 64 << 20);
        assert_eq!(limited["max-postcopy-bandwidth"], 0);
    }

    #[test]
    fn kubevirts_longer_downtime_waits_for_a_stall() {
        let patient = Settings { downtime_limit: Duration::from_millis(900), ..Settings::default() };
        assert_eq!(patient.parameters(DEBIAN)["downtime-limit"], 300);
        let strict = Settings { downtime_limit: Duration::from_millis(50), ..Settings::default() };
        assert_eq!(strict.parameters(DEBIAN)["downtime-limit"], 50);
    }
}
