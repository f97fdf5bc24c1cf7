//! Loads over time, as in Reactive Cloud's Fig. 6.

use miyako_guest::channel::Permille;
use std::time::Duration;

/// Loads and when each begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Script {
    steps: Vec<(Duration, Permille)>,
}

/// A script that goes back in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the load at {:.1} s follows that at {:.1} s: put the steps in order of time", later.as_secs_f64(), earlier.as_secs_f64())]
pub struct BadScript {
    later: Duration,
    earlier: Duration,
}

impl Script {
    /// Loads in the order of their beginnings.
    ///
    /// # Errors
    /// When they are not in order.
    pub fn new(steps: Vec<(Duration, Permille)>) -> Result<Self, BadScript> {
        match steps.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            Some(pair) => Err(BadScript { later: pair[1].0, earlier: pair[0].0 }),
            None => Ok(Self { steps }),
        }
    }

    /// The loads and their beginnings, in order.
    #[must_use]
    pub fn steps(&self) -> &[(Duration, Permille)] {
        &self.steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_goes_forward() {
        let at = |seconds| (Duration::from_secs(seconds), Permille::FULL);
        assert!(Script::new(vec![at(0), at(1), at(5)]).is_ok());
        let error = Script::new(vec![at(0), at(5), at(5)]).unwrap_err();
        assert_eq!(error.to_string(), "the load at 5.0 s follows that at 5.0 s: put the steps in order of time");
    }
}
