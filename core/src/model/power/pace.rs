//! How fast nodes fall asleep and come back.

use crate::model::{SleepMethod, Span};

/// A node that sleeps is not ready within this time: its lease lapses after 40 s, and the node controller's grace is
/// 50 s (`docs/design/0001-kubevirt-facts.md`, "Kubernetes around a sleeping node"), looked at every 5 s.
const LEASE_LAPSES: Span = Span::from_secs(100);

/// From power to usable, besides the class's resume time: kubelet's first status, virt-handler's heartbeat (at most
/// 132 s apart), the drivers' retries.
const COMES_BACK: Span = Span::from_secs(240);

/// How fast the nodes of a class are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the order to asleep.
    pub suspend: Span,
    /// From the request to usable.
    pub resume: Span,
}

impl Default for Pace {
    /// Energy-efficient consolidation, §III: "approximately 5 seconds" each way.
    fn default() -> Self {
        Self { suspend: Span::from_secs(5), resume: Span::from_secs(5) }
    }
}

impl Pace {
    /// Nodes that are not said to be faster or slower. A shutdown waits for services and file systems; a server's
    /// firmware alone takes one to three minutes before it boots.
    #[must_use]
    pub fn of(method: SleepMethod) -> Self {
        match method {
            SleepMethod::S3 => Self::default(),
            SleepMethod::PowerOff => Self { suspend: Span::from_secs(60), resume: Span::from_secs(240) },
        }
    }

    /// A node that acknowledged its order and is still ready after this time does not sleep.
    #[must_use]
    pub fn sleeps_within(self) -> Span {
        self.suspend.saturating_mul(2).saturating_add(LEASE_LAPSES)
    }

    /// A node that was asked to wake and is not usable after this time failed to.
    #[must_use]
    pub fn wakes_within(self) -> Span {
        self.resume.saturating_mul(2).saturating_add(COMES_BACK)
    }

    /// A node that is being woken is counted on for this time; after that others are looked for.
    #[must_use]
    pub fn counted_on(self) -> Span {
        self.resume.saturating_mul(3).saturating_add(Span::from_secs(15))
    }
}
