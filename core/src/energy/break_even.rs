//! From when on a sleep saves anything.

use crate::model::{Pace, PowerFigures, Span};

/// How long a node must sleep until that has saved more than falling asleep and waking cost; none if it never does.
///
/// Both ways draw at most the full watts (Energy-efficient consolidation, §III-A, measured a suspend at about the
/// energy of ten idle seconds), where the node would have drawn its idle watts:
/// `idle · (transition + t) = full · transition + asleep · t`, so `t = transition · (full − idle) / (idle − asleep)`.
///
/// It is also the shortest while that a node is watched before it sleeps: whoever waits as long as the change costs
/// never spends more than twice what somebody who knew the future would have (ski rental; Karlin et al., 1994).
#[must_use]
pub fn break_even(figures: PowerFigures, pace: Pace) -> Option<Span> {
    let saves = figures.idle.checked_sub(figures.asleep).filter(|watts| *watts > 0)?;
    let costs = figures.full.saturating_sub(figures.idle);
    Some(pace.suspend.saturating_add(pace.resume).saturating_mul(costs) / saves)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_measured_node_pays_after_ten_seconds_and_one_that_sleeps_warm_never() {
        let measured = break_even(PowerFigures::default(), Pace::default());
        assert_eq!(measured.map(|span| span.as_secs()), Some(10));
        assert_eq!(break_even(PowerFigures { idle: 50, full: 100, asleep: 50 }, Pace::default()), None);
        let boots = Pace { suspend: Span::from_secs(60), resume: Span::from_secs(180) };
        assert!(break_even(PowerFigures::default(), boots) > measured);
    }
}
