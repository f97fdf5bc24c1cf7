//! What agents, wakers and operator say to each other, and the bounds that both keep.
//!
//! The messages are those of `proto/load.proto`. Each bound is known to both ends, so that neither a slow operator
//! nor a hostile agent makes the other grow.

use std::time::Duration;

pub mod load;

/// The audience that an agent's projected ServiceAccount token carries, so that it is good for nothing else.
pub const TOKEN_AUDIENCE: &str = "miyako.dev";

/// The DNS name that the operator's certificate carries and agents ask for, whatever address they dialled: pods
/// come and go, the name stays.
pub const SERVER_NAME: &str = "operator.wire.miyako.dev";

/// Where the CA certificates are, within the ConfigMap that agents mount.
pub const CA_FILE: &str = "ca.crt";

/// How often an agent samples.
pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Samples that an agent may have on the wire without an answer. Together with the agent's buffer it keeps what
/// arrives after a stall no older than a few seconds.
pub const MAX_IN_FLIGHT: usize = 3;

/// The most VMs in one sample. KubeVirt's own scale tests stay below 200 per node; kubelets stop at 500 pods.
pub const MAX_VMS_PER_SAMPLE: usize = 1_024;

/// The largest message that either end decodes. 1 024 VMs with the longest names that Kubernetes allows
/// (63 + 253 + 36 bytes and the figures) stay below it.
pub const MAX_MESSAGE_BYTES: usize = 512 * 1024;

/// The most samples that an agent tells of the past, and how far back they may lie: five minutes' worth.
pub const MAX_PAST_SAMPLES: usize = 300;

/// See [`MAX_PAST_SAMPLES`].
pub const OLDEST_PAST: Duration = Duration::from_secs(330);

/// Refusals that one answer names.
pub const MAX_REFUSALS_PER_ACK: usize = 8;

/// How often either end pings a connection, and how long it waits for the answer: a dead peer is noticed within
/// the sum, although TCP alone would take minutes.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);

/// See [`KEEPALIVE_INTERVAL`].
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a waker calls while some class measures by its nodes' BMCs.
pub const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// A waker that has not called for so long reads no more, and another is asked to.
pub const READER_LAPSES: Duration = Duration::from_secs(15);

/// The most readings of one call: with the longest names of nodes they stay below [`MAX_MESSAGE_BYTES`].
pub const MAX_READINGS: usize = 1_800;

/// How often a BMC is asked what its node draws.
pub const METER_INTERVAL: Duration = Duration::from_secs(60);

/// A BMC's reading older than this says nothing of now: three rounds, so that two may fail.
pub const METER_STALE_AFTER: Duration = Duration::from_secs(180);
