//! How machines behave: what agents, wakes and BMCs of simulated nodes make of what is asked of them.

use jiff::Timestamp;

/// How an agent behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AgentFate {
    /// As it should.
    #[default]
    Works,
    /// It says nothing at all.
    Silent,
    /// Its pre-flight refuses every order to suspend.
    Refuses,
    /// It acknowledges, and the machine does not fall asleep.
    StaysAwake,
    /// A shutdown ends everything but itself: the machine stays on and does nothing any more.
    HangsShuttingDown,
}

/// What a machine's BMC says of its power.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BmcTalk {
    /// The truth.
    #[default]
    Honest,
    /// That it is on.
    AlwaysOn,
    /// That it is off.
    AlwaysOff,
}

/// What becomes of a wake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeFate {
    /// The machine runs so many seconds after it was asked.
    After(i64),
    /// It boots instead of resuming.
    Boots(i64),
    /// It never comes, and no waker says a word.
    Fails,
    /// It never comes, and a waker says at once that every driver failed.
    Refused,
    /// It never comes, and the waker was told that it runs.
    Lies,
    /// It runs so many seconds after it was asked, and its kubelet never says anything: somebody must press the button.
    Hangs(i64),
}

impl WakeFate {
    /// The wake leads to nothing until somebody repairs the machine.
    #[must_use]
    pub fn is_vain(self) -> bool {
        matches!(self, Self::Fails | Self::Refused | Self::Lies | Self::Hangs(_))
    }

    /// When a machine that is asked now runs, and how.
    pub(super) fn comes(self, now: Timestamp) -> Option<(Timestamp, Self)> {
        match self {
            Self::After(after) | Self::Boots(after) | Self::Hangs(after) => {
                Some((now.checked_add(jiff::SignedDuration::from_secs(after)).ok()?, self))
            }
            Self::Fails | Self::Refused | Self::Lies => None,
        }
    }

    /// What a waker makes of it, and its words.
    pub(super) fn outcome(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::After(_) | Self::Boots(_) | Self::Hangs(_) => Some(("Sent", "wol: three packets sent")),
            Self::Lies => Some(("Awake", "redfish bmc.example.org:443 (1 try): the machine is on")),
            Self::Refused => {
                Some(("Failed", "redfish bmc.example.org:443 (1 try): the password was refused – check the Secret"))
            }
            Self::Fails => None,
        }
    }
}

/// How one machine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Its agent.
    pub agent: AgentFate,
    /// Its wakes.
    pub wake: WakeFate,
    /// Its own clock wakes it after so many seconds of sleep.
    pub alarm: Option<i64>,
}

impl Default for Fate {
    fn default() -> Self {
        Self { agent: AgentFate::Works, wake: WakeFate::After(5), alarm: None }
    }
}
